"""Compiled loops of the lattice room: cell fields, layer fields, thickness maps."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

GYROID_NETWORK, GYROID_SHEET, DIAMOND_NETWORK, STRUT = 0, 1, 2, 3
"""Codes of the cell fields."""

TAU = 2.0 * np.pi


@njit(cache=True, nogil=True, inline="always")
def segment_distance(px, py, pz, s):  # type: ignore[no-untyped-def]
    """Distance of a point to segment ``s`` (start x, y, z, end x, y, z)."""
    dx, dy, dz = s[3] - s[0], s[4] - s[1], s[5] - s[2]
    qx, qy, qz = px - s[0], py - s[1], pz - s[2]
    t = (qx * dx + qy * dy + qz * dz) / (dx * dx + dy * dy + dz * dz)
    t = min(max(t, 0.0), 1.0)
    qx, qy, qz = qx - t * dx, qy - t * dy, qz - t * dz
    return np.sqrt(qx * qx + qy * qy + qz * qz)


@njit(cache=True, nogil=True, inline="always")
def _sine(turns):  # type: ignore[no-untyped-def]
    """Sine of an angle in turns, to 6e-8: its series to the eleventh power, folded into a quarter turn."""
    t = turns - np.floor(turns + 0.5)
    t = min(max(t, -0.5 - t), 0.5 - t) if abs(t) > 0.25 else t
    x = TAU * t
    q = x * x
    return x * (
        1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0 * (1.0 - q / 110.0))))
    )


@njit(cache=True, nogil=True)
def cell_value(kind, x, y, z, segments, start, listed):  # type: ignore[no-untyped-def]
    """Value of a cell's field at (x, y, z) in cell edges; the solid lies where it is below the level.

    For struts it is the distance to the nearest centre line, in cell edges. ``start`` (n, n, n, 2) and
    ``listed`` name the centre lines that can be nearest in each of n^3 parts of the cell.
    """
    if kind == STRUT:
        x -= np.floor(x)
        y -= np.floor(y)
        z -= np.floor(z)
        n = start.shape[0]
        i, j, k = min(int(x * n), n - 1), min(int(y * n), n - 1), min(int(z * n), n - 1)
        best = 1e9
        for m in range(start[i, j, k, 0], start[i, j, k, 1]):
            best = min(best, segment_distance(x, y, z, segments[listed[m]]))
        return best
    sx, cx = _sine(x), _sine(x + 0.25)
    sy, cy = _sine(y), _sine(y + 0.25)
    sz, cz = _sine(z), _sine(z + 0.25)
    if kind == DIAMOND_NETWORK:
        return -(sx * sy * sz + sx * cy * cz + cx * sy * cz + cx * cy * sz)
    g = sx * cy + sy * cz + sz * cx
    return -g if kind == GYROID_NETWORK else abs(g)


@njit(cache=True, nogil=True, parallel=True)
def cell_values(kind, points, segments, start, listed):  # type: ignore[no-untyped-def]
    """(n,) field values at ``points`` (n, 3) in cell edges."""
    out = np.empty(points.shape[0])
    for n in prange(points.shape[0]):
        out[n] = cell_value(kind, points[n, 0], points[n, 1], points[n, 2], segments, start, listed)
    return out


@njit(cache=True, nogil=True)
def bottleneck(order, shape, wrap):  # type: ignore[no-untyped-def]
    """Narrowest place on the widest way through a grid from its first to its last plane along axis 0.

    Grid points (numbered C-wise, ``shape``) are joined in ``order`` of falling radius to all 26 neighbours
    until the two planes are connected; the point that does it is returned, -1 where none does. ``wrap``
    closes the grid along axes 1 and 2.
    """
    ni, nj, nk = shape
    total = ni * nj * nk
    parent = np.full(total + 2, -1, dtype=np.int64)
    parent[total], parent[total + 1] = total, total + 1
    for n in order:
        parent[n] = n
        i, j, k = n // (nj * nk), (n // nk) % nj, n % nk
        if i == 0:
            _join(parent, n, total)
        if i == ni - 1:
            _join(parent, n, total + 1)
        for a in range(max(i - 1, 0), min(i + 2, ni)):
            for b0 in range(j - 1, j + 2):
                b = b0 % nj if wrap else b0
                if b < 0 or b >= nj:
                    continue
                for c0 in range(k - 1, k + 2):
                    c = c0 % nk if wrap else c0
                    if c < 0 or c >= nk:
                        continue
                    m = (a * nj + b) * nk + c
                    if parent[m] >= 0:
                        _join(parent, n, m)
        if _root(parent, total) == _root(parent, total + 1):
            return n
    return -1


@njit(cache=True, nogil=True)
def _root(parent, n):  # type: ignore[no-untyped-def]
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


@njit(cache=True, nogil=True)
def _join(parent, a, b):  # type: ignore[no-untyped-def]
    a, b = _root(parent, a), _root(parent, b)
    if a != b:
        parent[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True, parallel=True)
def layer_values(  # type: ignore[no-untyped-def]
    code, segments, start, listed, levels, scale, cells, to_coarse, own, core, bond, touch, depth, rim,
    density, graded, k0, forced, out,
):  # fmt: skip
    """Field of a layer, negative in its solid, on planes ``k0 ...`` of a fine grid: ``out`` (nk, nj, ni).

    Parameters
    ----------
    code, segments, start, listed : of the cell. levels (257,) of densities 0 to 1.
    scale : mm a unit of the cell's field. cells (5,): cell edges per coarse step along u and v, cell
        edges per mm of depth, and the phases of u and v.
    to_coarse : (3, 4) fine grid coordinates i, j, k, 1 to coarse ones.
    own, core : coarse grids, distances (mm, negative inside) to the layer and to the core that it goes on
        into for ``bond`` mm; ``touch`` closes the slit on their shared face. No core where ``bond`` is 0.
    depth, rim : coarse grids, mm below the seat, and within the rim below 0.
    density : coarse grid of relative densities, one number where ``graded`` is false.
    forced : (nk, nj, ni) 0 as computed, 1 void, 2 solid; or of size 0.
    """
    nk, nj, ni = out.shape
    ci, cj, ck = own.shape
    for row in prange(nk * nj):
        k, j = row // nj, row % nj
        for i in range(ni):
            x = (
                to_coarse[0, 0] * i
                + to_coarse[0, 1] * j
                + to_coarse[0, 2] * (k0 + k)
                + to_coarse[0, 3]
            )
            y = (
                to_coarse[1, 0] * i
                + to_coarse[1, 1] * j
                + to_coarse[1, 2] * (k0 + k)
                + to_coarse[1, 3]
            )
            z = (
                to_coarse[2, 0] * i
                + to_coarse[2, 1] * j
                + to_coarse[2, 2] * (k0 + k)
                + to_coarse[2, 3]
            )
            value = 1.0
            if 0.0 <= x < ci - 1 and 0.0 <= y < cj - 1 and 0.0 <= z < ck - 1:
                a, b, c = int(x), int(y), int(z)
                u, v, w = x - a, y - b, z - c
                # Combined here and not on the coarse grid, where the shared face would be blurred.
                value = _linear(own, a, b, c, u, v, w)
                if bond > 0.0 and value > -bond:
                    within = _linear(core, a, b, c, u, v, w) - touch
                    value = min(value, max(value - bond, within))
                if value < 0.0:
                    solid = _linear(rim, a, b, c, u, v, w)
                    if solid >= 0.0:
                        p = _linear(density, a, b, c, u, v, w) if graded else density[0, 0, 0]
                        p = min(max(p, 0.0), 1.0) * 256.0
                        n = min(int(p), 255)
                        level = levels[n] + (p - n) * (levels[n + 1] - levels[n])
                        f = cell_value(
                            code, cells[0] * x + cells[3], cells[1] * y + cells[4],
                            cells[2] * _linear(depth, a, b, c, u, v, w), segments, start, listed,
                        )  # fmt: skip
                        solid = min(solid, scale * (f - level))
                    value = max(value, solid)
            if forced.size > 0:
                if forced[k, j, i] == 1:
                    value = max(value, 1e-3)
                elif forced[k, j, i] == 2:
                    value = min(value, -1e-3)
            out[k, j, i] = value


@njit(cache=True, nogil=True, inline="always")
def _linear(data, i, j, k, u, v, w):  # type: ignore[no-untyped-def]
    return (1 - w) * (
        (1 - v) * ((1 - u) * data[i, j, k] + u * data[i + 1, j, k])
        + v * ((1 - u) * data[i, j + 1, k] + u * data[i + 1, j + 1, k])
    ) + w * (
        (1 - v) * ((1 - u) * data[i, j, k + 1] + u * data[i + 1, j, k + 1])
        + v * ((1 - u) * data[i, j + 1, k + 1] + u * data[i + 1, j + 1, k + 1])
    )


@njit(cache=True, nogil=True)
def count_edges(inside):  # type: ignore[no-untyped-def]
    """Grid edges of a mask (nk, nj, ni) that join inside and outside: the vertices of its surface."""
    nk, nj, ni = inside.shape
    total = 0
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                a = inside[k, j, i]
                if i + 1 < ni and a != inside[k, j, i + 1]:
                    total += 1
                if j + 1 < nj and a != inside[k, j + 1, i]:
                    total += 1
                if k + 1 < nk and a != inside[k + 1, j, i]:
                    total += 1
    return total


@njit(cache=True, nogil=True)
def reaching(rows, low, high, piece, nj, step, start, depth, thickness, kept):  # type: ignore[no-untyped-def]
    """Mark the pieces with a point deeper than the layer, where the lattice has entered the core.

    Points (k, j, i) of the runs stand at ``start`` + ``step`` @ (i, j, k) of the coarse grid of ``depth``.
    """
    for n in range(len(piece)):
        if kept[piece[n]]:
            continue
        k, j = rows[n] // nj, rows[n] % nj
        for i in range(low[n], high[n]):
            a = int(np.rint(start[0] + step[0, 0] * i + step[0, 1] * j + step[0, 2] * k))
            b = int(np.rint(start[1] + step[1, 0] * i + step[1, 1] * j + step[1, 2] * k))
            c = int(np.rint(start[2] + step[2, 0] * i + step[2, 1] * j + step[2, 2] * k))
            if depth[a, b, c] > thickness:
                kept[piece[n]] = True
                break
