"""Compiled reading of a field of depths, for every search and simulation along screws."""

from __future__ import annotations

from numba import njit

OFF_GRID = -99.0
"""Depth off the grid (mm): far outside every bone."""


@njit(cache=True, nogil=True, inline="always")
def depth_at(data, x, y, z):  # type: ignore[no-untyped-def]
    """Trilinear value of ``data`` at a continuous index; ``OFF_GRID`` off the grid."""
    ni, nj, nk = data.shape
    if not (0.0 <= x < ni - 1 and 0.0 <= y < nj - 1 and 0.0 <= z < nk - 1):
        return OFF_GRID
    i, j, k = int(x), int(y), int(z)
    u, v, w = x - i, y - j, z - k
    a = data[i, j, k] * (1 - w) + data[i, j, k + 1] * w
    b = data[i, j + 1, k] * (1 - w) + data[i, j + 1, k + 1] * w
    c = data[i + 1, j, k] * (1 - w) + data[i + 1, j, k + 1] * w
    d = data[i + 1, j + 1, k] * (1 - w) + data[i + 1, j + 1, k + 1] * w
    return (a * (1 - v) + b * v) * (1 - u) + (c * (1 - v) + d * v) * u
