"""Compiled loops of the landmark search. Serial: the same input gives the same bytes."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def silhouette(u, v, faces, mask):  # type: ignore[no-untyped-def]
    """Set ``mask[i, j]`` where grid point (i, j) lies under a projected triangle.

    ``u``, ``v`` (n,) are vertex positions in grid steps.
    """
    ni, nj = mask.shape
    for f in range(faces.shape[0]):
        ax, ay = u[faces[f, 0]], v[faces[f, 0]]
        bx, by = u[faces[f, 1]], v[faces[f, 1]]
        cx, cy = u[faces[f, 2]], v[faces[f, 2]]
        i0 = max(0, int(np.ceil(min(ax, bx, cx))))
        i1 = min(ni - 1, int(np.floor(max(ax, bx, cx))))
        j0 = max(0, int(np.ceil(min(ay, by, cy))))
        j1 = min(nj - 1, int(np.floor(max(ay, by, cy))))
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                wa = (cx - bx) * (j - by) - (cy - by) * (i - bx)
                wb = (ax - cx) * (j - cy) - (ay - cy) * (i - cx)
                wc = (bx - ax) * (j - ay) - (by - ay) * (i - ax)
                if (wa >= 0.0 and wb >= 0.0 and wc >= 0.0) or (
                    wa <= 0.0 and wb <= 0.0 and wc <= 0.0
                ):
                    mask[i, j] = True


@njit(cache=True)
def _trilinear(data, x, y, z):  # type: ignore[no-untyped-def]
    """Value at index position (x, y, z); 0 off the grid."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    if i < 0 or j < 0 or k < 0:
        return 0.0
    if i >= data.shape[0] - 1 or j >= data.shape[1] - 1 or k >= data.shape[2] - 1:
        return 0.0
    a, b, c = x - i, y - j, z - k
    low = (data[i, j, k] * (1 - a) + data[i + 1, j, k] * a) * (1 - b)
    low += (data[i, j + 1, k] * (1 - a) + data[i + 1, j + 1, k] * a) * b
    high = (data[i, j, k + 1] * (1 - a) + data[i + 1, j, k + 1] * a) * (1 - b)
    high += (data[i, j + 1, k + 1] * (1 - a) + data[i + 1, j + 1, k + 1] * a) * b
    return low * (1 - c) + high * c


@njit(cache=True)
def first_bone(data, start, along, step, count, level, out):  # type: ignore[no-untyped-def]
    """Steps from ``start`` (nu, ns, 3) along ``along`` (ns, 3), index units, to the first bone.

    Bone is where ``data`` exceeds ``level`` (nu, ns). ``out`` (nu, ns) is in units of ``step``
    (fractions by linear interpolation), ``count`` where the ray meets none.
    """
    for a in range(start.shape[0]):
        for b in range(start.shape[1]):
            x, y, z = start[a, b]
            dx, dy, dz = along[b, 0] * step, along[b, 1] * step, along[b, 2] * step
            before = 0.0
            out[a, b] = count
            for n in range(count):
                value = _trilinear(data, x + n * dx, y + n * dy, z + n * dz)
                if value > level[a, b]:
                    share = 0.0
                    if n > 0:
                        share = (value - level[a, b]) / max(value - before, 1e-9)
                    out[a, b] = n - share
                    break
                before = value


@njit(cache=True)
def flooded(height):  # type: ignore[no-untyped-def]
    """``height`` (n, m) with every pit filled to the level at which it would overflow.

    Sweeps until nothing changes; water leaves over the border of the picture.
    """
    n, m = height.shape
    water = np.full((n, m), np.inf)
    for i in range(n):
        water[i, 0], water[i, m - 1] = height[i, 0], height[i, m - 1]
    for j in range(m):
        water[0, j], water[n - 1, j] = height[0, j], height[n - 1, j]
    changed = True
    forward = True
    while changed:
        changed = False
        for p in range(1, n - 1):
            i = p if forward else n - 1 - p
            for q in range(1, m - 1):
                j = q if forward else m - 1 - q
                if water[i, j] <= height[i, j]:
                    continue
                least = water[i, j]
                for di in range(-1, 2):
                    for dj in range(-1, 2):
                        least = min(least, water[i + di, j + dj])
                least = max(least, height[i, j])
                if least < water[i, j]:
                    water[i, j] = least
                    changed = True
        forward = not forward
    return water
