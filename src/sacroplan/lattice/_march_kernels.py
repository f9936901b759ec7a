"""Compiled marching cubes and squares over fields that arrive plane by plane."""

from __future__ import annotations

import numpy as np
from numba import njit

NEAREST = 0.02
"""Vertices keep this share of a grid edge from its ends: float32 files then never merge two of them."""


@njit(cache=True, nogil=True, inline="always")
def _share(a, b):  # type: ignore[no-untyped-def]
    return min(max(a / (a - b), NEAREST), 1.0 - NEAREST)


@njit(cache=True, nogil=True)
def _plane_edges(plane, level, first, xid, yid, vertices, n):  # type: ignore[no-untyped-def]
    """Number the crossed edges within one plane and write their vertices; next free number."""
    nj, ni = plane.shape
    for j in range(nj):
        for i in range(ni):
            a = plane[j, i]
            if i + 1 < ni and (a < 0.0) != (plane[j, i + 1] < 0.0):
                vertices[n, 0] = i + _share(a, plane[j, i + 1])
                vertices[n, 1] = j
                vertices[n, 2] = level
                xid[j, i] = first + n
                n += 1
            if j + 1 < nj and (a < 0.0) != (plane[j + 1, i] < 0.0):
                vertices[n, 0] = i
                vertices[n, 1] = j + _share(a, plane[j + 1, i])
                vertices[n, 2] = level
                yid[j, i] = first + n
                n += 1
    return n


@njit(cache=True, nogil=True)
def count(phi, with_first, sizes):  # type: ignore[no-untyped-def]
    """Vertices and triangles that :func:`march` will make of ``phi`` (nk, nj, ni).

    ``sizes`` (256,) triangles a case.
    """
    nk, nj, ni = phi.shape
    v = 0
    t = 0
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                inside = phi[k, j, i] < 0.0
                if k > 0 or with_first:
                    if i + 1 < ni and inside != (phi[k, j, i + 1] < 0.0):
                        v += 1
                    if j + 1 < nj and inside != (phi[k, j + 1, i] < 0.0):
                        v += 1
                if k + 1 < nk:
                    if inside != (phi[k + 1, j, i] < 0.0):
                        v += 1
                    if i + 1 < ni and j + 1 < nj:
                        t += sizes[_case(phi, k, j, i)]
    return v, t


@njit(cache=True, nogil=True, inline="always")
def _case(phi, k, j, i):  # type: ignore[no-untyped-def]
    case = 0
    if phi[k, j, i] < 0.0:
        case |= 1
    if phi[k + 1, j, i] < 0.0:
        case |= 2
    if phi[k, j + 1, i] < 0.0:
        case |= 4
    if phi[k + 1, j + 1, i] < 0.0:
        case |= 8
    if phi[k, j, i + 1] < 0.0:
        case |= 16
    if phi[k + 1, j, i + 1] < 0.0:
        case |= 32
    if phi[k, j + 1, i + 1] < 0.0:
        case |= 64
    if phi[k + 1, j + 1, i + 1] < 0.0:
        case |= 128
    return case


@njit(cache=True, nogil=True)
def march(phi, k0, first, xid, yid, start, listed, edges, vertices, faces):  # type: ignore[no-untyped-def]
    """Surface of ``phi < 0`` between the planes of ``phi`` (nk, nj, ni), plane 0 at height ``k0``.

    ``xid`` and ``yid`` (2, nj, ni) hold in [0] the numbers of the crossed edges in plane 0, which the
    call before made (or, with ``k0`` 0, are made here), and afterwards those in the last plane.
    ``start`` (257,) and ``listed`` give each case's triangles as edge numbers; ``edges`` (12, 4) the axis
    and the corner of each edge. ``vertices`` and ``faces`` are filled; vertices in grid coordinates i, j, k.
    """
    nk, nj, ni = phi.shape
    n = 0
    t = 0
    zid = np.empty((nj, ni), dtype=np.int64)
    if k0 == 0:
        n = _plane_edges(phi[0], 0, first, xid[0], yid[0], vertices, n)
    for k in range(nk - 1):
        low, high = k % 2, (k + 1) % 2
        n = _plane_edges(phi[k + 1], k0 + k + 1, first, xid[high], yid[high], vertices, n)
        for j in range(nj):
            for i in range(ni):
                a, b = phi[k, j, i], phi[k + 1, j, i]
                if (a < 0.0) != (b < 0.0):
                    vertices[n, 0] = i
                    vertices[n, 1] = j
                    vertices[n, 2] = k0 + k + _share(a, b)
                    zid[j, i] = first + n
                    n += 1
        for j in range(nj - 1):
            for i in range(ni - 1):
                case = _case(phi, k, j, i)
                for m in range(start[case], start[case + 1]):
                    for corner in range(3):
                        e = edges[listed[m, corner]]
                        if e[0] == 0:
                            number = xid[high if e[3] else low, j + e[2], i]
                        elif e[0] == 1:
                            number = yid[high if e[3] else low, j, i + e[1]]
                        else:
                            number = zid[j + e[2], i + e[1]]
                        faces[t, corner] = number
                    t += 1
    if (nk - 1) % 2 == 1:
        xid[0], yid[0] = xid[1].copy(), yid[1].copy()
    return n, t


@njit(cache=True, nogil=True)
def squares(plane, points, after):  # type: ignore[no-untyped-def]
    """Outline of ``plane < 0`` (nj, ni): ``points`` (n, 2) in grid coordinates i, j, and for each the next.

    The solid lies to the left. Corners that touch diagonally are kept apart, as in :func:`march`.
    Returns the number of points; the plane's border must be outside.
    """
    nj, ni = plane.shape
    xid = np.full((nj, ni), -1, dtype=np.int64)
    yid = np.full((nj, ni), -1, dtype=np.int64)
    n = 0
    for j in range(nj):
        for i in range(ni):
            a = plane[j, i]
            if i + 1 < ni and (a < 0.0) != (plane[j, i + 1] < 0.0):
                points[n, 0] = i + _share(a, plane[j, i + 1])
                points[n, 1] = j
                xid[j, i] = n
                n += 1
            if j + 1 < nj and (a < 0.0) != (plane[j + 1, i] < 0.0):
                points[n, 0] = i
                points[n, 1] = j + _share(a, plane[j + 1, i])
                yid[j, i] = n
                n += 1
    inside = np.empty(4, dtype=np.bool_)
    edge = np.empty(4, dtype=np.int64)
    for j in range(nj - 1):
        for i in range(ni - 1):
            inside[0], inside[1] = plane[j, i] < 0.0, plane[j, i + 1] < 0.0
            inside[2], inside[3] = plane[j + 1, i + 1] < 0.0, plane[j + 1, i] < 0.0
            if inside[0] == inside[1] and inside[1] == inside[2] and inside[2] == inside[3]:
                continue
            edge[0], edge[1], edge[2], edge[3] = xid[j, i], yid[j, i + 1], xid[j + 1, i], yid[j, i]
            # Corners run counter-clockwise; round a run of inside corners the outline goes from where
            # it is left to where it is entered, so that the solid stays on the left.
            for m in range(4):
                if not inside[m] and inside[(m + 1) % 4]:
                    out = (m + 1) % 4
                    while inside[(out + 1) % 4]:
                        out = (out + 1) % 4
                    after[edge[out]] = edge[m]
    return n


@njit(cache=True, nogil=True)
def loops(after, order, start):  # type: ignore[no-untyped-def]
    """Write closed outlines one after the other into ``order`` (n,); ``start`` gets each one's begin."""
    n = after.shape[0]
    seen = np.zeros(n, dtype=np.bool_)
    at = 0
    found = 0
    for first in range(n):
        if seen[first]:
            continue
        start[found] = at
        found += 1
        m = first
        while not seen[m]:
            seen[m] = True
            order[at] = m
            at += 1
            m = after[m]
    start[found] = at
    return found


@njit(cache=True, nogil=True)
def edge_ledger(faces, ledger):  # type: ignore[no-untyped-def]
    """Add every directed edge of ``faces`` to a sum that is zero for a closed, oriented surface.

    ``ledger`` (1,) uint64: each edge adds a scrambled number in one direction and takes it away in the
    other, so that what remains when some edge lacks its opposite is zero only by a chance of 2^-64.
    """
    total = ledger[0]
    for f in range(faces.shape[0]):
        for c in range(3):
            a, b = faces[f, c], faces[f, (c + 1) % 3]
            x = np.uint64(min(a, b)) * np.uint64(0x9E3779B97F4A7C15)
            x ^= np.uint64(max(a, b)) * np.uint64(0xC2B2AE3D27D4EB4F)
            x ^= x >> np.uint64(31)
            x *= np.uint64(0xBF58476D1CE4E5B9)
            x ^= x >> np.uint64(29)
            if a < b:
                total += x
            else:
                total -= x
    ledger[0] = total


@njit(cache=True, nogil=True)
def volume_and_area(vertices, faces, centre):  # type: ignore[no-untyped-def]
    """Six times the volume that ``faces`` enclose with ``centre`` (3,), and twice their area."""
    volume = 0.0
    area = 0.0
    for f in range(faces.shape[0]):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        volume += (a[0] - centre[0]) * nx + (a[1] - centre[1]) * ny + (a[2] - centre[2]) * nz
        area += np.sqrt(nx * nx + ny * ny + nz * nz)
    return volume, area


@njit(cache=True, nogil=True)
def place(points, step, origin):  # type: ignore[no-untyped-def]
    """Grid coordinates (n, 3) to LPS in place: ``origin`` (3,) plus ``step`` (3, 3) times each."""
    for n in range(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        for d in range(3):
            points[n, d] = step[d, 0] * x + step[d, 1] * y + step[d, 2] * z + origin[d]
