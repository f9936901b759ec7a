"""Compiled loops of the execution simulation."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True, parallel=True)
def least_values(field, low, step, centre, arms, shifts, turns, out):  # type: ignore[no-untyped-def]
    """Least sample of ``field`` over moved points, per draw.

    ``field`` (i, j, k) on a grid from ``low`` (3,) with spacing ``step``; points are ``centre`` (3,)
    plus ``arms`` (n, 3), turned by ``turns`` (d, 3, 3) and moved by ``shifts`` (d, 3). Off the grid
    the border's value plus the distance to the border counts.
    """
    ni, nj, nk = field.shape
    for d in prange(shifts.shape[0]):
        best = np.inf
        for n in range(arms.shape[0]):
            off = 0.0
            x = np.empty(3)
            for a in range(3):
                v = (
                    centre[a] + shifts[d, a] + turns[d, a, 0] * arms[n, 0]
                    + turns[d, a, 1] * arms[n, 1] + turns[d, a, 2] * arms[n, 2] - low[a]
                ) / step  # fmt: skip
                top = field.shape[a] - 1.0
                c = min(max(v, 0.0), top)
                off += ((v - c) * step) ** 2
                x[a] = c
            i = min(int(x[0]), ni - 2)
            j = min(int(x[1]), nj - 2)
            k = min(int(x[2]), nk - 2)
            u, v, w = x[0] - i, x[1] - j, x[2] - k
            value = (
                (1 - u) * (1 - v) * (1 - w) * field[i, j, k]
                + u * (1 - v) * (1 - w) * field[i + 1, j, k]
                + (1 - u) * v * (1 - w) * field[i, j + 1, k]
                + (1 - u) * (1 - v) * w * field[i, j, k + 1]
                + u * v * (1 - w) * field[i + 1, j + 1, k]
                + u * (1 - v) * w * field[i + 1, j, k + 1]
                + (1 - u) * v * w * field[i, j + 1, k + 1]
                + u * v * w * field[i + 1, j + 1, k + 1]
            ) + np.sqrt(off)
            best = min(best, value)
        out[d] = best
