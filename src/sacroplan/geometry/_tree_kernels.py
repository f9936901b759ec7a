"""Compiled loops over the faces of a surface: a tree of boxes, face pairs that cross, rays.

The tree is complete and implicit: faces are sorted so that every node's halves lie on two sides of a
plane across its widest axis, leaf ``n`` holds the sorted faces ``n * LEAF`` and on, node ``k`` has the
children ``2 k + 1`` and ``2 k + 2``. Serial on purpose: the same input gives the same bytes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LEAF = 4


@njit(cache=True, nogil=True)
def _part(values, order, low, high, middle):  # type: ignore[no-untyped-def]
    """Put the ``middle``-th of ``order[low:high]`` by value in its place, the smaller before it
    (Hoare's selection)."""
    left, right = low, high - 1
    while left < right:
        a, b, c = values[order[left]], values[order[(left + right) // 2]], values[order[right]]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = left, right
        while i <= j:
            while values[order[i]] < pivot:
                i += 1
            while values[order[j]] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            right = j
        elif middle >= i:
            left = i
        else:
            break


@njit(cache=True, nogil=True)
def halve(centres, leaves, order):  # type: ignore[no-untyped-def]
    """Sort ``order`` (n,) for a tree of ``leaves`` over the faces' ``centres`` (3, n)."""
    n = order.shape[0]
    stack = np.empty((64, 2), dtype=np.int64)
    top = 0
    stack[0, 0], stack[0, 1] = 0, leaves
    while top >= 0:
        leaf, count = stack[top, 0], stack[top, 1]
        top -= 1
        low, high = leaf * LEAF, min((leaf + count) * LEAF, n)
        if high - low <= LEAF:
            continue
        half = count // 2
        middle = low + half * LEAF
        if middle < high:
            axis, widest = 0, -1.0
            for k in range(3):
                least, most = np.inf, -np.inf
                for f in range(low, high):
                    least = min(least, centres[k, order[f]])
                    most = max(most, centres[k, order[f]])
                if most - least > widest:
                    axis, widest = k, most - least
            _part(centres[axis], order, low, high, middle)
            top += 1
            stack[top, 0], stack[top, 1] = leaf + half, half
        top += 1
        stack[top, 0], stack[top, 1] = leaf, half


@njit(cache=True, nogil=True)
def fill_tree(low, high, first_leaf, node_low, node_high):  # type: ignore[no-untyped-def]
    """Boxes of all nodes from the boxes (n, 3) of the sorted faces; empty nodes stay inverted."""
    for f in range(low.shape[0]):
        node = first_leaf + f // LEAF
        for axis in range(3):
            node_low[node, axis] = min(node_low[node, axis], low[f, axis])
            node_high[node, axis] = max(node_high[node, axis], high[f, axis])
    for node in range(first_leaf - 1, -1, -1):
        for axis in range(3):
            a, b = 2 * node + 1, 2 * node + 2
            node_low[node, axis] = min(node_low[a, axis], node_low[b, axis])
            node_high[node, axis] = max(node_high[a, axis], node_high[b, axis])


@njit(cache=True, nogil=True)
def _orient(a, b, c, p):  # type: ignore[no-untyped-def]
    """Six times the signed volume of the tetrahedron a, b, c, p."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    wx, wy, wz = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    return (uy * vz - uz * vy) * wx + (uz * vx - ux * vz) * wy + (ux * vy - uy * vx) * wz


@njit(cache=True, nogil=True)
def _area2(a, b, c):  # type: ignore[no-untyped-def]
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    return np.sqrt(x * x + y * y + z * z)


@njit(cache=True, nogil=True)
def _pierces(p, q, a, b, c, depth):  # type: ignore[no-untyped-def]
    """Whether the segment pq passes through the triangle by more than ``depth`` on either side."""
    area = _area2(a, b, c)
    if area < 1e-14:
        return False
    sp = _orient(a, b, c, p) / area
    sq = _orient(a, b, c, q) / area
    if not ((sp > depth and sq < -depth) or (sp < -depth and sq > depth)):
        return False
    x = _orient(p, q, a, b)
    y = _orient(p, q, b, c)
    z = _orient(p, q, c, a)
    return (x > 0.0 and y > 0.0 and z > 0.0) or (x < 0.0 and y < 0.0 and z < 0.0)


@njit(cache=True, nogil=True)
def _cross(v, s, t, depth):  # type: ignore[no-untyped-def]
    """Whether two faces cross; edges that end in a common vertex are left out."""
    for i in range(3):
        p, q = s[i], s[(i + 1) % 3]
        common = p == t[0] or p == t[1] or p == t[2] or q == t[0] or q == t[1] or q == t[2]
        if not common and _pierces(v[p], v[q], v[t[0]], v[t[1]], v[t[2]], depth):
            return True
    for i in range(3):
        p, q = t[i], t[(i + 1) % 3]
        common = p == s[0] or p == s[1] or p == s[2] or q == s[0] or q == s[1] or q == s[2]
        if not common and _pierces(v[p], v[q], v[s[0]], v[s[1]], v[s[2]], depth):
            return True
    return False


@njit(cache=True, nogil=True)
def crossing_pairs(v, faces, low, high, first_leaf, node_low, node_high, depth, most, pairs):  # type: ignore[no-untyped-def]
    """Number of face pairs that cross; the first ``len(pairs)`` of them (sorted numbers) in ``pairs``.

    Stops at ``most``.
    """
    found = 0
    stack = np.empty(128, dtype=np.int64)
    n = faces.shape[0]
    for f in range(n):
        top = 0
        stack[0] = 0
        while top >= 0:
            node = stack[top]
            top -= 1
            apart = False
            for axis in range(3):
                if node_low[node, axis] > high[f, axis] or node_high[node, axis] < low[f, axis]:
                    apart = True
            if apart:
                continue
            if node < first_leaf:
                top += 1
                stack[top] = 2 * node + 1
                top += 1
                stack[top] = 2 * node + 2
                continue
            start = (node - first_leaf) * LEAF
            for g in range(max(start, f + 1), min(start + LEAF, n)):
                apart = False
                for axis in range(3):
                    if low[g, axis] > high[f, axis] or high[g, axis] < low[f, axis]:
                        apart = True
                if not apart and _cross(v, faces[f], faces[g], depth):
                    if found < pairs.shape[0]:
                        pairs[found, 0] = f
                        pairs[found, 1] = g
                    found += 1
                    if found >= most:
                        return found
    return found


@njit(cache=True, nogil=True, inline="always")
def _enters(low, high, o, inverse, start, far):  # type: ignore[no-untyped-def]
    """Distance at which a ray enters a box between ``start`` and ``far``; inf where it misses.

    An empty node's box is inside out and without bounds: every ray would seem to enter it.
    """
    near = start
    if low[0] > high[0]:
        return np.inf
    for axis in range(3):
        a = (low[axis] - o[axis]) * inverse[axis]
        b = (high[axis] - o[axis]) * inverse[axis]
        near = max(near, min(a, b))
        far = min(far, max(a, b))
    return near if near <= far + 1e-9 else np.inf


@njit(cache=True, nogil=True)
def first_hits(  # type: ignore[no-untyped-def]
    v, faces, first_leaf, node_low, node_high, origins, directions, start, reach, distance, face
):
    """Nearest face met by each ray beyond ``start`` and before ``reach``; ``distance`` inf and ``face``
    -1 where none. The nearer box is opened first, so that the first face met hides the rest."""
    stack = np.empty(128, dtype=np.int64)
    bound = np.empty(128)
    inverse = np.empty(3)
    n = faces.shape[0]
    for r in range(origins.shape[0]):
        o = origins[r]
        d = directions[r]
        for axis in range(3):
            # Along a box's side: far off on one side of it or the other, or within.
            inverse[axis] = 1.0 / d[axis] if abs(d[axis]) > 1e-15 else 1e15
        best = reach
        hit = -1
        top = 0
        stack[0] = 0
        bound[0] = start
        while top >= 0:
            node = stack[top]
            near = bound[top]
            top -= 1
            if near > best + 1e-9:
                continue
            if node < first_leaf:
                one, two = 2 * node + 1, 2 * node + 2
                c1 = _enters(node_low[one], node_high[one], o, inverse, start, best)
                c2 = _enters(node_low[two], node_high[two], o, inverse, start, best)
                if c1 < c2:
                    one, two = two, one
                    c1, c2 = c2, c1
                if c1 < np.inf:
                    top += 1
                    stack[top] = one
                    bound[top] = c1
                if c2 < np.inf:
                    top += 1
                    stack[top] = two
                    bound[top] = c2
                continue
            first = (node - first_leaf) * LEAF
            for g in range(first, min(first + LEAF, n)):
                t = _hit(v[faces[g, 0]], v[faces[g, 1]], v[faces[g, 2]], o, d)
                if t > start and t < best:
                    best = t
                    hit = g
        distance[r] = best if hit >= 0 else np.inf
        face[r] = hit


@njit(cache=True, nogil=True)
def _hit(a, b, c, o, d):  # type: ignore[no-untyped-def]
    """Distance along the ray to the triangle (Moeller-Trumbore), inf where it misses."""
    e1x, e1y, e1z = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    e2x, e2y, e2z = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    px, py, pz = d[1] * e2z - d[2] * e2y, d[2] * e2x - d[0] * e2z, d[0] * e2y - d[1] * e2x
    det = e1x * px + e1y * py + e1z * pz
    if det == 0.0:
        return np.inf
    sx, sy, sz = o[0] - a[0], o[1] - a[1], o[2] - a[2]
    u = (sx * px + sy * py + sz * pz) / det
    # The rim is widened a little, so that no ray slips through between two faces.
    if u < -1e-9 or u > 1.0 + 1e-9:
        return np.inf
    qx, qy, qz = sy * e1z - sz * e1y, sz * e1x - sx * e1z, sx * e1y - sy * e1x
    w = (d[0] * qx + d[1] * qy + d[2] * qz) / det
    if w < -1e-9 or u + w > 1.0 + 1e-9:
        return np.inf
    return (e2x * qx + e2y * qy + e2z * qz) / det
