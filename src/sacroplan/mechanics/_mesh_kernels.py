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
def _mean_ratio(points, tet):  # type: ignore[no-untyped-def]
    """Mean-ratio quality: 1 regular, 0 flat, negative inverted."""
    o = tet[0]
    ox, oy, oz = points[o, 0], points[o, 1], points[o, 2]
    ax, ay, az = points[tet[1], 0] - ox, points[tet[1], 1] - oy, points[tet[1], 2] - oz
    bx, by, bz = points[tet[2], 0] - ox, points[tet[2], 1] - oy, points[tet[2], 2] - oz
    cx, cy, cz = points[tet[3], 0] - ox, points[tet[3], 1] - oy, points[tet[3], 2] - oz
    v6 = ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)
    l2 = ax * ax + ay * ay + az * az + bx * bx + by * by + bz * bz + cx * cx + cy * cy + cz * cz
    l2 += (bx - ax) ** 2 + (by - ay) ** 2 + (bz - az) ** 2
    l2 += (cx - ax) ** 2 + (cy - ay) ** 2 + (cz - az) ** 2
    l2 += (cx - bx) ** 2 + (cy - by) ** 2 + (cz - bz) ** 2
    if l2 <= 0.0:
        return 0.0
    if v6 <= 0.0:
        return v6 / l2**1.5
    return 12.0 * np.cbrt(0.25 * v6 * v6) / l2


@njit(cache=True, nogil=True)
def qualities(points, tets):  # type: ignore[no-untyped-def]
    """(m,) mean-ratio quality of every tetrahedron."""
    out = np.empty(tets.shape[0])
    for t in range(tets.shape[0]):
        out[t] = _mean_ratio(points, tets[t])
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
def _worst(v, points, tets, start, items, enough):  # type: ignore[no-untyped-def]
    """Quality of the worst tetrahedron around a vertex; stops at the first one below ``enough``."""
    worst = 2.0
    for n in range(start[v], start[v + 1]):
        q = _mean_ratio(points, tets[items[n]])
        if q < worst:
            worst = q
            if worst < enough:
                break
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
        if _worst(v, points, tets, start, items, guard) >= guard:
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
        before = _worst(v, points, tets, start, items, -np.inf)
        step = 1.0
        for _ in range(4):
            for c in range(3):
                points[v, c] = old[c] + step * (target[v, c] - old[c])
            after = _worst(v, points, tets, start, items, min(guard, before))
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
        before = _worst(v, points, tets, start, items, -np.inf)
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
            if _worst(v, points, tets, start, items, before) > before:
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
            top = _worst(v, points, tets, start, items, -np.inf)
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
                            q = _worst(v, points, tets, start, items, top)
                            if q > top:
                                top = q
                                best[:] = points[v]
                points[v] = best
                step *= 0.4


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
    e = np.empty((3, 3))
    for i in range(n):
        best = -tolerance
        for k in range(candidates.shape[1]):
            t = candidates[i, k]
            o = tets[t, 0]
            ox, oy, oz = points[o, 0], points[o, 1], points[o, 2]
            for c in range(3):
                corner = tets[t, c + 1]
                e[c, 0] = points[corner, 0] - ox
                e[c, 1] = points[corner, 1] - oy
                e[c, 2] = points[corner, 2] - oz
            rx, ry, rz = queries[i, 0] - ox, queries[i, 1] - oy, queries[i, 2] - oz
            total = 0.0
            for c in range(3):
                u, w = (c + 1) % 3, (c + 2) % 3
                # The normal of the face opposite to corner c + 1, towards it.
                nx = e[u, 1] * e[w, 2] - e[u, 2] * e[w, 1]
                ny = e[u, 2] * e[w, 0] - e[u, 0] * e[w, 2]
                nz = e[u, 0] * e[w, 1] - e[u, 1] * e[w, 0]
                b[c + 1] = (rx * nx + ry * ny + rz * nz) / (
                    e[c, 0] * nx + e[c, 1] * ny + e[c, 2] * nz
                )
                total += b[c + 1]
            b[0] = 1.0 - total
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


@njit(cache=True, nogil=True)
def to_polyline(points, line):  # type: ignore[no-untyped-def]
    """(n,) distances of points (n, 3) to the polyline (m, 3)."""
    out = np.empty(points.shape[0])
    for n in range(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        best = np.inf
        for s in range(line.shape[0] - 1):
            ax, ay, az = line[s, 0], line[s, 1], line[s, 2]
            bx, by, bz = line[s + 1, 0] - ax, line[s + 1, 1] - ay, line[s + 1, 2] - az
            rx, ry, rz = x - ax, y - ay, z - az
            length = max(bx * bx + by * by + bz * bz, 1e-12)
            t = min(max((rx * bx + ry * by + rz * bz) / length, 0.0), 1.0)
            rx, ry, rz = rx - t * bx, ry - t * by, rz - t * bz
            best = min(best, rx * rx + ry * ry + rz * rz)
        out[n] = np.sqrt(best)
    return out
