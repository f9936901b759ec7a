"""Compiled loops of the mesher. Serial on purpose: the same input gives the same bytes."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _slot(keys, key):  # type: ignore[no-untyped-def]
    mask = keys.shape[0] - 1
    h = key * 0x9E3779B97F4A7C1
    s = (h ^ (h >> 29)) & mask
    while keys[s] != -1 and keys[s] != key:
        s = (s + 1) & mask
    return s


@njit(cache=True, nogil=True)
def _edge_key(a, b):  # type: ignore[no-untyped-def]
    if a < b:
        return np.int64(a) * np.int64(1 << 31) + np.int64(b)
    return np.int64(b) * np.int64(1 << 31) + np.int64(a)


@njit(cache=True, nogil=True)
def _bisect(t, tets, tag, level, counts, points, keys, mids):  # type: ignore[no-untyped-def]
    """Split tetrahedron ``t`` at its refinement edge (Maubach 1995); child two is appended."""
    d = tag[t]
    a, b = tets[t, 0], tets[t, d]
    key = _edge_key(a, b)
    s = _slot(keys, key)
    if keys[s] == -1:
        m = counts[1]
        counts[1] += 1
        keys[s] = key
        mids[s] = m
        for c in range(3):
            points[m, c] = 0.5 * (points[a, c] + points[b, c])
    m = mids[s]
    n = counts[0]
    counts[0] += 1
    for c in range(d):
        tets[n, c] = tets[t, c + 1]
    for c in range(d + 1, 4):
        tets[n, c] = tets[t, c]
    tets[n, d] = m
    tets[t, d] = m
    tag[t] = d - 1 if d > 1 else 3
    tag[n] = tag[t]
    level[t] += 1
    level[n] = level[t]


@njit(cache=True, nogil=True)
def refine(marked, tets, tag, level, counts, points, keys, mids):  # type: ignore[no-untyped-def]
    """Bisect the marked tetrahedra, then every one that has a split edge, until conforming.

    Returns False when the arrays are too small for the result (nothing useful is left then).
    """
    room_t, room_p, room_k = tets.shape[0], points.shape[0], keys.shape[0] // 2
    start = counts[0]
    for t in range(start):
        if marked[t]:
            if counts[0] >= room_t or counts[1] >= min(room_p, room_k):
                return False
            _bisect(t, tets, tag, level, counts, points, keys, mids)
    changed = True
    while changed:
        changed = False
        t = 0
        while t < counts[0]:
            hanging = False
            for i in range(3):
                for j in range(i + 1, 4):
                    if not hanging:
                        s = _slot(keys, _edge_key(tets[t, i], tets[t, j]))
                        hanging = keys[s] != -1
            if hanging:
                if counts[0] >= room_t or counts[1] >= min(room_p, room_k):
                    return False
                _bisect(t, tets, tag, level, counts, points, keys, mids)
                changed = True
            else:
                t += 1
    return True


@njit(cache=True, nogil=True)
def mean_ratio(p0, p1, p2, p3):  # type: ignore[no-untyped-def]
    """Mean-ratio quality: 1 regular, 0 flat, negative inverted."""
    ax, ay, az = p1[0] - p0[0], p1[1] - p0[1], p1[2] - p0[2]
    bx, by, bz = p2[0] - p0[0], p2[1] - p0[1], p2[2] - p0[2]
    cx, cy, cz = p3[0] - p0[0], p3[1] - p0[1], p3[2] - p0[2]
    v6 = ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)
    l2 = ax * ax + ay * ay + az * az + bx * bx + by * by + bz * bz + cx * cx + cy * cy + cz * cz
    l2 += (bx - ax) ** 2 + (by - ay) ** 2 + (bz - az) ** 2
    l2 += (cx - ax) ** 2 + (cy - ay) ** 2 + (cz - az) ** 2
    l2 += (cx - bx) ** 2 + (cy - by) ** 2 + (cz - bz) ** 2
    if l2 <= 0.0:
        return 0.0
    if v6 <= 0.0:
        return v6 / l2**1.5
    return 12.0 * (0.5 * v6) ** (2.0 / 3.0) / l2


@njit(cache=True, nogil=True)
def qualities(points, tets):  # type: ignore[no-untyped-def]
    """(m,) mean-ratio quality of every tetrahedron."""
    out = np.empty(tets.shape[0])
    for t in range(tets.shape[0]):
        out[t] = mean_ratio(
            points[tets[t, 0]], points[tets[t, 1]], points[tets[t, 2]], points[tets[t, 3]]
        )
    return out


@njit(cache=True, nogil=True)
def incidence(tets, n):  # type: ignore[no-untyped-def]
    """CSR lists of the tetrahedra around every vertex."""
    start = np.zeros(n + 1, dtype=np.int64)
    for t in range(tets.shape[0]):
        for c in range(4):
            start[tets[t, c] + 1] += 1
    for v in range(n):
        start[v + 1] += start[v]
    fill = start[:-1].copy()
    items = np.empty(start[n], dtype=np.int32)
    for t in range(tets.shape[0]):
        for c in range(4):
            v = tets[t, c]
            items[fill[v]] = t
            fill[v] += 1
    return start, items


@njit(cache=True, nogil=True)
def _worst(v, points, tets, start, items):  # type: ignore[no-untyped-def]
    worst = 2.0
    for n in range(start[v], start[v + 1]):
        t = items[n]
        q = mean_ratio(
            points[tets[t, 0]], points[tets[t, 1]], points[tets[t, 2]], points[tets[t, 3]]
        )
        if q < worst:
            worst = q
    return worst


@njit(cache=True, nogil=True)
def snap(order, target, label, length, points, tets, start, items, guard):  # type: ignore[no-untyped-def]
    """Move vertices of ``order`` onto their interface where the tetrahedra around stay good.

    A vertex moves only while some edge still crosses an interface and it is that edge's nearer
    end (``length``: distance to the interface). Returns the mask of vertices that moved.
    """
    moved = np.zeros(points.shape[0], dtype=np.bool_)
    old = np.empty(3)
    for n in range(order.shape[0]):
        v = order[n]
        needed = False
        for k in range(start[v], start[v + 1]):
            t = items[k]
            for c in range(4):
                w = tets[t, c]
                if w != v and label[w] != label[v] and not moved[w]:
                    needed = True
        if not needed:
            continue
        old[:] = points[v]
        points[v] = target[v]
        if _worst(v, points, tets, start, items) >= guard:
            moved[v] = True
        else:
            points[v] = old
    return moved


@njit(cache=True, nogil=True)
def project(order, target, points, tets, start, items, guard):  # type: ignore[no-untyped-def]
    """Move vertices towards ``target`` (n, 3) as far as quality ``guard`` allows; count full moves."""
    full = 0
    old = np.empty(3)
    for n in range(order.shape[0]):
        v = order[n]
        old[:] = points[v]
        before = _worst(v, points, tets, start, items)
        step = 1.0
        for _ in range(4):
            for c in range(3):
                points[v, c] = old[c] + step * (target[v, c] - old[c])
            after = _worst(v, points, tets, start, items)
            if after >= guard or after > before:
                break
            step *= 0.5
        else:
            points[v] = old
            step = 0.0
        if step == 1.0:
            full += 1
    return full


@njit(cache=True, nogil=True)
def relax(order, points, tets, start, items, ceiling):  # type: ignore[no-untyped-def]
    """Move interior vertices to the mean of their neighbours where the worst tetrahedron gains."""
    old = np.empty(3)
    mean = np.empty(3)
    for n in range(order.shape[0]):
        v = order[n]
        before = _worst(v, points, tets, start, items)
        if before >= ceiling:
            continue
        mean[:] = 0.0
        count = 0
        for k in range(start[v], start[v + 1]):
            t = items[k]
            for c in range(4):
                w = tets[t, c]
                if w != v:
                    for d in range(3):
                        mean[d] += points[w, d]
                    count += 1
        old[:] = points[v]
        step = 1.0
        done = False
        for _ in range(3):
            for d in range(3):
                points[v, d] = old[d] + step * (mean[d] / count - old[d])
            if _worst(v, points, tets, start, items) > before:
                done = True
                break
            step *= 0.5
        if not done:
            points[v] = old


@njit(cache=True, nogil=True)
def improve(order, normal, size, points, tets, start, items, ceiling, sweeps):  # type: ignore[no-untyped-def]
    """Pattern search of each vertex for a better worst tetrahedron.

    ``normal`` (n, 3): a non-zero row confines the vertex to the plane across it.
    """
    old = np.empty(3)
    best = np.empty(3)
    move = np.empty(3)
    for _ in range(sweeps):
        for n in range(order.shape[0]):
            v = order[n]
            top = _worst(v, points, tets, start, items)
            if top >= ceiling:
                continue
            step = 0.3 * size[v]
            for _level in range(4):
                old[:] = points[v]
                best[:] = old
                for i in range(-1, 2):
                    for j in range(-1, 2):
                        for k in range(-1, 2):
                            if i == 0 and j == 0 and k == 0:
                                continue
                            move[0], move[1], move[2] = i, j, k
                            dot = (
                                move[0] * normal[v, 0]
                                + move[1] * normal[v, 1]
                                + move[2] * normal[v, 2]
                            )
                            for c in range(3):
                                points[v, c] = old[c] + step * (move[c] - dot * normal[v, c])
                            q = _worst(v, points, tets, start, items)
                            if q > top:
                                top = q
                                best[:] = points[v]
                points[v] = best
                step *= 0.4


@njit(cache=True, nogil=True)
def face_neighbours(tets):  # type: ignore[no-untyped-def]
    """(m, 4) tetrahedron across the face opposite to each corner, -1 where there is none."""
    m = tets.shape[0]
    keys = np.empty(4 * m, dtype=np.int64)
    third = np.empty(4 * m, dtype=np.int64)
    tri = np.empty(3, dtype=np.int64)
    n = np.int64(tets.max()) + 1
    for t in range(m):
        for c in range(4):
            k = 0
            for d in range(4):
                if d != c:
                    tri[k] = tets[t, d]
                    k += 1
            tri.sort()
            keys[4 * t + c] = tri[0] * n + tri[1]
            third[4 * t + c] = tri[2]
    order = np.argsort(keys, kind="mergesort")
    out = np.full((m, 4), -1, dtype=np.int32)
    i = 0
    while i < 4 * m:
        j = i
        while j < 4 * m and keys[order[j]] == keys[order[i]]:
            j += 1
        for a in range(i, j):
            for b in range(a + 1, j):
                if third[order[a]] == third[order[b]]:
                    fa, fb = order[a], order[b]
                    out[fa // 4, fa % 4] = fb // 4
                    out[fb // 4, fb % 4] = fa // 4
        i = j
    return out


@njit(cache=True, nogil=True)
def components(neighbours):  # type: ignore[no-untyped-def]
    """(m,) number of the face-connected piece of every tetrahedron."""
    m = neighbours.shape[0]
    out = np.full(m, -1, dtype=np.int32)
    stack = np.empty(m, dtype=np.int32)
    count = 0
    for seed in range(m):
        if out[seed] >= 0:
            continue
        out[seed] = count
        stack[0] = seed
        top = 1
        while top > 0:
            top -= 1
            t = stack[top]
            for c in range(4):
                w = neighbours[t, c]
                if w >= 0 and out[w] < 0:
                    out[w] = count
                    stack[top] = w
                    top += 1
        count += 1
    return out


@njit(cache=True, nogil=True)
def vertex_parts(tets, part, boundary, n):  # type: ignore[no-untyped-def]
    """(n, 4) distinct part numbers around every vertex, ascending, -1 padded.

    ``boundary`` (n,) adds the outside (number 32767) to a vertex' set.
    """
    out = np.full((n, 4), -1, dtype=np.int32)
    for v in range(n):
        if boundary[v]:
            out[v, 0] = 32767
    for t in range(tets.shape[0]):
        p = part[t]
        for c in range(4):
            v = tets[t, c]
            for k in range(4):
                if out[v, k] == p:
                    break
                if out[v, k] == -1:
                    out[v, k] = p
                    break
                if p < out[v, k]:
                    for s in range(3, k, -1):
                        out[v, s] = out[v, s - 1]
                    out[v, k] = p
                    break
    return out


@njit(cache=True, nogil=True)
def locate(queries, candidates, points, tets, tolerance):  # type: ignore[no-untyped-def]
    """Tetrahedron and barycentric coordinates of each query among its candidates; -1 if in none."""
    n = queries.shape[0]
    found = np.full(n, -1, dtype=np.int32)
    bary = np.zeros((n, 4))
    b = np.empty(4)
    for i in range(n):
        best = -tolerance
        for k in range(candidates.shape[1]):
            t = candidates[i, k]
            p0 = points[tets[t, 0]]
            e1 = points[tets[t, 1]] - p0
            e2 = points[tets[t, 2]] - p0
            e3 = points[tets[t, 3]] - p0
            r = queries[i] - p0
            det = (
                e1[0] * (e2[1] * e3[2] - e2[2] * e3[1])
                - e1[1] * (e2[0] * e3[2] - e2[2] * e3[0])
                + e1[2] * (e2[0] * e3[1] - e2[1] * e3[0])
            )
            b[1] = (
                r[0] * (e2[1] * e3[2] - e2[2] * e3[1])
                - r[1] * (e2[0] * e3[2] - e2[2] * e3[0])
                + r[2] * (e2[0] * e3[1] - e2[1] * e3[0])
            ) / det
            b[2] = (
                e1[0] * (r[1] * e3[2] - r[2] * e3[1])
                - e1[1] * (r[0] * e3[2] - r[2] * e3[0])
                + e1[2] * (r[0] * e3[1] - r[1] * e3[0])
            ) / det
            b[3] = (
                e1[0] * (e2[1] * r[2] - e2[2] * r[1])
                - e1[1] * (e2[0] * r[2] - e2[2] * r[0])
                + e1[2] * (e2[0] * r[1] - e2[1] * r[0])
            ) / det
            b[0] = 1.0 - b[1] - b[2] - b[3]
            low = min(b[0], b[1], b[2], b[3])
            if low > best:
                best = low
                found[i] = t
                bary[i] = b
                if low >= 0.0:
                    break
    return found, bary


@njit(cache=True, nogil=True)
def field_at(values, origin, spacing, points):  # type: ignore[no-untyped-def]
    """Trilinear distance at points (n, 3) on an axis-aligned grid; off it, plus the way to it."""
    ni, nj, nk = values.shape
    top = np.array([ni - 1.0, nj - 1.0, nk - 1.0])
    out = np.empty(points.shape[0])
    q = np.empty(3)
    for n in range(points.shape[0]):
        off = 0.0
        for c in range(3):
            x = (points[n, c] - origin[c]) / spacing
            inside = min(max(x, 0.0), top[c])
            off += (x - inside) ** 2
            q[c] = inside
        i, j, k = min(int(q[0]), ni - 2), min(int(q[1]), nj - 2), min(int(q[2]), nk - 2)
        u, v, w = q[0] - i, q[1] - j, q[2] - k
        low = (1 - u) * ((1 - v) * values[i, j, k] + v * values[i, j + 1, k]) + u * (
            (1 - v) * values[i + 1, j, k] + v * values[i + 1, j + 1, k]
        )
        high = (1 - u) * ((1 - v) * values[i, j, k + 1] + v * values[i, j + 1, k + 1]) + u * (
            (1 - v) * values[i + 1, j, k + 1] + v * values[i + 1, j + 1, k + 1]
        )
        out[n] = (1 - w) * low + w * high + spacing * np.sqrt(off)
    return out
