"""Compiled loops of the geometry room. Serial on purpose: the same input gives the same bytes."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def point_triangle_squared(p, a, b, c):  # type: ignore[no-untyped-def]
    """Squared distance of point ``p`` to triangle ``abc`` (Ericson's region tests)."""
    # Plain numbers: an array for every difference would cost more than the arithmetic.
    abx, aby, abz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    acx, acy, acz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    apx, apy, apz = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    d1 = abx * apx + aby * apy + abz * apz
    d2 = acx * apx + acy * apy + acz * apz
    if d1 <= 0.0 and d2 <= 0.0:
        return apx**2 + apy**2 + apz**2
    bpx, bpy, bpz = p[0] - b[0], p[1] - b[1], p[2] - b[2]
    d3 = abx * bpx + aby * bpy + abz * bpz
    d4 = acx * bpx + acy * bpy + acz * bpz
    if d3 >= 0.0 and d4 <= d3:
        return bpx**2 + bpy**2 + bpz**2
    vc = d1 * d4 - d3 * d2
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        v = d1 / (d1 - d3) if d1 != d3 else 0.0
        return (apx - v * abx) ** 2 + (apy - v * aby) ** 2 + (apz - v * abz) ** 2
    cpx, cpy, cpz = p[0] - c[0], p[1] - c[1], p[2] - c[2]
    d5 = abx * cpx + aby * cpy + abz * cpz
    d6 = acx * cpx + acy * cpy + acz * cpz
    if d6 >= 0.0 and d5 <= d6:
        return cpx**2 + cpy**2 + cpz**2
    vb = d5 * d2 - d1 * d6
    if vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        w = d2 / (d2 - d6) if d2 != d6 else 0.0
        return (apx - w * acx) ** 2 + (apy - w * acy) ** 2 + (apz - w * acz) ** 2
    va = d3 * d6 - d5 * d4
    if va <= 0.0 and (d4 - d3) >= 0.0 and (d5 - d6) >= 0.0:
        total = (d4 - d3) + (d5 - d6)
        w = (d4 - d3) / total if total != 0.0 else 0.0
        return (
            (bpx - w * (c[0] - b[0])) ** 2
            + (bpy - w * (c[1] - b[1])) ** 2
            + (bpz - w * (c[2] - b[2])) ** 2
        )
    total = va + vb + vc
    if total == 0.0:
        return apx**2 + apy**2 + apz**2
    s, t = vb / total, vc / total
    return (
        (apx - s * abx - t * acx) ** 2
        + (apy - s * aby - t * acy) ** 2
        + (apz - s * abz - t * acz) ** 2
    )


@njit(cache=True, nogil=True)
def splat_triangles(vertices, faces, shape, band, squared, nearest):  # type: ignore[no-untyped-def]
    """Exact squared distance (voxels) and nearest face for grid points within ``band`` of a face."""
    low = np.empty(3, dtype=np.int64)
    high = np.empty(3, dtype=np.int64)
    face = np.empty((3, 3))
    p = np.empty(3)
    for f in range(faces.shape[0]):
        for c in range(3):
            for n in range(3):
                face[n, c] = vertices[faces[f, n], c]
            first = min(face[0, c], face[1, c], face[2, c]) - band
            last = max(face[0, c], face[1, c], face[2, c]) + band
            low[c] = max(0, int(np.ceil(first)))
            high[c] = min(shape[c] - 1, int(np.floor(last)))
        ux, uy, uz = face[1, 0] - face[0, 0], face[1, 1] - face[0, 1], face[1, 2] - face[0, 2]
        vx, vy, vz = face[2, 0] - face[0, 0], face[2, 1] - face[0, 1], face[2, 2] - face[0, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        if length > 0.0:
            nx, ny, nz = nx / length, ny / length, nz / length
        offset = nx * face[0, 0] + ny * face[0, 1] + nz * face[0, 2]
        for i in range(low[0], high[0] + 1):
            for j in range(low[1], high[1] + 1):
                level = nx * i + ny * j - offset
                for k in range(low[2], high[2] + 1):
                    # No point of the face is nearer than its plane.
                    plane = level + nz * k
                    if plane * plane >= squared[i, j, k]:
                        continue
                    p[0], p[1], p[2] = i, j, k
                    d = point_triangle_squared(p, face[0], face[1], face[2])
                    if d < squared[i, j, k]:
                        squared[i, j, k] = d
                        nearest[i, j, k] = f


@njit(cache=True, nogil=True)
def count_crossings(vertices, faces, crossings):  # type: ignore[no-untyped-def]
    """Add +-1 at the first grid point above every crossing of a +k ray with a face.

    Rays run through (i, j); the cumulative sum along k is then the winding number. Points exactly
    on an edge are given to one of the two faces by a half-open rule, so closed surfaces stay closed.
    """
    ni, nj, nk = crossings.shape
    for f in range(faces.shape[0]):
        ax, ay, az = vertices[faces[f, 0]]
        bx, by, bz = vertices[faces[f, 1]]
        cx, cy, cz = vertices[faces[f, 2]]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        sign = 1
        if area < 0.0:
            bx, cx = cx, bx
            by, cy = cy, by
            bz, cz = cz, bz
            area = -area
            sign = -1
        i0 = max(0, int(np.ceil(min(ax, bx, cx))))
        i1 = min(ni - 1, int(np.floor(max(ax, bx, cx))))
        j0 = max(0, int(np.ceil(min(ay, by, cy))))
        j1 = min(nj - 1, int(np.floor(max(ay, by, cy))))
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                wa = _edge(bx, by, cx, cy, i, j)
                wb = _edge(cx, cy, ax, ay, i, j)
                wc = _edge(ax, ay, bx, by, i, j)
                if not (
                    _owns(wa, bx, by, cx, cy)
                    and _owns(wb, cx, cy, ax, ay)
                    and _owns(wc, ax, ay, bx, by)
                ):
                    continue
                z = (wa * az + wb * bz + wc * cz) / (wa + wb + wc)
                k = int(np.ceil(z))
                if k < 0:
                    k = 0
                if k < nk:
                    # An upward-facing triangle is left behind by the ray: outside above it.
                    crossings[i, j, k] -= sign


@njit(cache=True, nogil=True)
def _edge(ax, ay, bx, by, px, py):  # type: ignore[no-untyped-def]
    # The same edge seen from its two faces must give exactly opposite values.
    if ax < bx or (ax == bx and ay < by):
        return (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    return -((ax - bx) * (py - by) - (ay - by) * (px - bx))


@njit(cache=True, nogil=True)
def _owns(w, ax, ay, bx, by):  # type: ignore[no-untyped-def]
    if w > 0.0:
        return True
    if w < 0.0:
        return False
    return (by < ay) or (by == ay and bx < ax)


@njit(cache=True, nogil=True)
def refine_far(vertices, faces, squared, nearest, far, index):  # type: ignore[no-untyped-def]
    """Distance of far points to the face that is nearest to their nearest band point."""
    p = np.empty(3)
    for n in range(far.shape[0]):
        i, j, k = far[n, 0], far[n, 1], far[n, 2]
        p[0], p[1], p[2] = i, j, k
        f = nearest[index[0, n], index[1, n], index[2, n]]
        squared[i, j, k] = point_triangle_squared(
            p, vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        )


@njit(cache=True, nogil=True)
def trilinear(data, index, outside):  # type: ignore[no-untyped-def]
    """Trilinear samples of ``data`` at continuous indices (n, 3); ``outside`` beyond the grid."""
    ni, nj, nk = data.shape
    out = np.empty(index.shape[0], dtype=np.float64)
    for n in range(index.shape[0]):
        x, y, z = index[n, 0], index[n, 1], index[n, 2]
        if not (0.0 <= x <= ni - 1 and 0.0 <= y <= nj - 1 and 0.0 <= z <= nk - 1):
            out[n] = outside
            continue
        i = min(int(x), ni - 2) if ni > 1 else 0
        j = min(int(y), nj - 2) if nj > 1 else 0
        k = min(int(z), nk - 2) if nk > 1 else 0
        i1, j1, k1 = min(i + 1, ni - 1), min(j + 1, nj - 1), min(k + 1, nk - 1)
        u, v, w = x - i, y - j, z - k
        out[n] = (
            (1 - u) * (1 - v) * (1 - w) * data[i, j, k]
            + u * (1 - v) * (1 - w) * data[i1, j, k]
            + (1 - u) * v * (1 - w) * data[i, j1, k]
            + (1 - u) * (1 - v) * w * data[i, j, k1]
            + u * v * (1 - w) * data[i1, j1, k]
            + u * (1 - v) * w * data[i1, j, k1]
            + (1 - u) * v * w * data[i, j1, k1]
            + u * v * w * data[i1, j1, k1]
        )
    return out
