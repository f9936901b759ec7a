"""Compiled loops of the segmentation: enclosure, eigenvalues, watershed, region graph, merging.

Every loop is serial or writes each voxel once, so the result does not depend on scheduling. Callers
of the parallel ones hold :data:`sacroplan.parallel.ALL_CORES`.
"""

from __future__ import annotations

import heapq
import math

import numba as nb
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

DIRECTIONS = 24
"""Rays per voxel of the enclosure test, every 15 degrees: a pedicle spans two or more."""


@nb.njit(cache=True, nogil=True)
def enclosure(
    hu: F32,
    bone_hu: float,
    soft_hu: float,
    air_hu: float,
    reach: float,
    clearance: float,
    low: int,
    high: int,
) -> F32:
    """Share of in-plane rays that meet bone within ``reach`` voxels, for soft voxels.

    ``hu`` (ni, nj, nk); only columns ``low <= i < high`` are asked, the others stay 0, as do voxels
    with bone nearer than ``clearance`` voxels.
    """
    ni, nj, nk = hu.shape
    out = np.zeros((ni, nj, nk), np.float32)
    cos = np.empty(DIRECTIONS)
    sin = np.empty(DIRECTIONS)
    for t in range(DIRECTIONS):
        cos[t] = math.cos(2.0 * math.pi * t / DIRECTIONS)
        sin[t] = math.sin(2.0 * math.pi * t / DIRECTIONS)
    for i in range(low, high):
        for j in range(nj):
            for k in range(nk):
                if hu[i, j, k] > soft_hu or hu[i, j, k] < air_hu:
                    continue
                hits = 0
                nearest = reach
                for t in range(DIRECTIONS):
                    r = 1.0
                    while r < reach:
                        x = round(i + cos[t] * r)
                        y = round(j + sin[t] * r)
                        if x < 0 or y < 0 or x >= ni or y >= nj:
                            break
                        if hu[x, y, k] > bone_hu:
                            hits += 1
                            nearest = min(nearest, r)
                            break
                        r += 0.7
                if nearest >= clearance:
                    out[i, j, k] = hits / DIRECTIONS
    return out


@nb.njit(cache=True, nogil=True)
def best_descending_path(
    score: F32, threshold: float, bend_cost: float, forward: int, backward: int
) -> I32:
    """Highest-scoring run of one voxel per slice, downwards: (n, 3) indices, top first.

    Each slice adds ``score - threshold - bend_cost * (|di| + |dj|)``; per slice downwards the path
    moves at most one voxel in i and between ``-forward`` and ``backward`` voxels in j. The run
    starts and ends where that pays most. It never enters a voxel whose score is minus infinity, nor
    slips between two of them.
    """
    ni, nj, nk = score.shape
    best = np.zeros((ni, nj, nk), np.float32)
    came = np.full((ni, nj, nk), -1, np.int32)
    top_value = 0.0
    top = (-1, -1, -1)
    for k in range(nk - 1, -1, -1):
        for i in range(ni):
            for j in range(nj):
                if score[i, j, k] == -np.inf:
                    continue
                gain = score[i, j, k] - threshold
                value = 0.0
                origin = -1
                if k + 1 < nk:
                    for di in range(-1, 2):
                        a = i - di
                        if a < 0 or a >= ni:
                            continue
                        for dj in range(-forward, backward + 1):
                            b = j - dj
                            if b < 0 or b >= nj:
                                continue
                            # Down and then aside, or aside and then down.
                            below, above = True, True
                            for c in range(min(b, j), max(b, j) + 1):
                                below = below and score[i, c, k] != -np.inf
                                above = above and score[a, c, k + 1] != -np.inf
                            if not (below or above):
                                continue
                            v = best[a, b, k + 1] - bend_cost * (abs(di) + abs(dj))
                            if v > value:
                                value = v
                                origin = a * nj + b
                total = value + gain
                if total > 0.0:
                    best[i, j, k] = total
                    came[i, j, k] = origin
                    if total > top_value:
                        top_value = total
                        top = (i, j, k)
    path = np.empty((nk, 3), np.int32)
    n = 0
    i, j, k = top
    while k >= 0 and i >= 0:
        path[n, 0] = i
        path[n, 1] = j
        path[n, 2] = k
        n += 1
        origin = came[i, j, k]
        if origin < 0:
            break
        i = origin // nj
        j = origin % nj
        k += 1
    return path[:n][::-1].copy()


@nb.njit(cache=True, parallel=True, nogil=True)
def surrounded(wall: U8, asked: U8, reach: int, misses_allowed: int) -> U8:
    """Voxels of ``asked`` from which almost all of 26 rays meet ``wall``.

    Rays run along the 26 neighbour directions for ``reach`` voxels (counted along the longest
    axis). Leaving the image through its first or last slice counts as a hit: a bone cut there is
    closed there.
    """
    ni, nj, nk = wall.shape
    step = np.empty((26, 3), np.int64)
    n = 0
    for a in range(-1, 2):
        for b in range(-1, 2):
            for c in range(-1, 2):
                if a != 0 or b != 0 or c != 0:
                    step[n, 0] = a
                    step[n, 1] = b
                    step[n, 2] = c
                    n += 1
    out = np.zeros((ni, nj, nk), np.uint8)
    for i in nb.prange(ni):
        for j in range(nj):
            for k in range(nk):
                if asked[i, j, k] == 0:
                    continue
                misses = 0
                for t in range(26):
                    # prange counts unsigned; mixed with signed steps it would become a float.
                    x, y, z = np.int64(i), np.int64(j), np.int64(k)
                    hit = False
                    for _ in range(reach):
                        x += step[t, 0]
                        y += step[t, 1]
                        z += step[t, 2]
                        if z < 0 or z >= nk:
                            hit = True
                            break
                        if x < 0 or y < 0 or x >= ni or y >= nj:
                            break
                        if wall[x, y, z] != 0:
                            hit = True
                            break
                    if not hit:
                        misses += 1
                        if misses > misses_allowed:
                            break
                if misses <= misses_allowed:
                    out[i, j, k] = 1
    return out


@nb.njit(cache=True, nogil=True)
def flood(level: U8, allowed: U8, marker: U8) -> U8:
    """Two waters rising from their markers (1 and 2): which of them reaches a voxel first.

    ``level`` is the height of the ground; ``allowed`` bit 1 and bit 2 say who may enter a voxel. Within
    a level the shorter way wins, and among equals the lower voxel number.
    """
    ni, nj, nk = level.shape
    size = ni * nj * nk
    out = marker.copy()
    head = np.full(256, -1, np.int32)
    tail = np.full(256, -1, np.int32)
    following = np.full(size, -1, np.int32)
    ground, may, water = level.ravel(), allowed.ravel(), out.ravel()
    for p in range(size):
        if water[p] != 0:
            if head[0] < 0:
                head[0] = p
            else:
                following[tail[0]] = p
            tail[0] = p
    height = 0
    while height < 256:
        p = head[height]
        if p < 0:
            height += 1
            continue
        head[height] = following[p]
        i, rest = p // (nj * nk), p % (nj * nk)
        j, k = rest // nk, rest % nk
        for t in range(6):
            a, b, c = i, j, k
            if t == 0:
                a -= 1
            elif t == 1:
                a += 1
            elif t == 2:
                b -= 1
            elif t == 3:
                b += 1
            elif t == 4:
                c -= 1
            else:
                c += 1
            if a < 0 or b < 0 or c < 0 or a >= ni or b >= nj or c >= nk:
                continue
            q = (a * nj + b) * nk + c
            if water[q] != 0 or may[q] & water[p] == 0:
                continue
            water[q] = water[p]
            at = max(height, int(ground[q]))
            following[q] = -1
            if head[at] < 0:
                head[at] = q
            else:
                following[tail[at]] = q
            tail[at] = q
    return out


@nb.njit(cache=True, nogil=True)
def sphere_votes(points: F32, inward: F32, radii: F32, shape: tuple[int, int, int]) -> F32:
    """Votes for sphere centres: each point votes at every radius along ``inward`` (voxels)."""
    out = np.zeros(shape, np.float32)
    for p in range(points.shape[0]):
        for r in radii:
            for sign in (-1.0, 1.0):
                x = round(points[p, 0] + sign * r * inward[p, 0])
                y = round(points[p, 1] + sign * r * inward[p, 1])
                z = round(points[p, 2] + sign * r * inward[p, 2])
                inside = 0 <= x < shape[0] and 0 <= y < shape[1] and 0 <= z < shape[2]
                if inside and (sign > 0.0):
                    out[x, y, z] += 1.0
                elif inside:
                    out[x, y, z] += 0.5
    return out


@nb.njit(cache=True, nogil=True, error_model="numpy")
def eigenvalue(a: float, b: float, c: float, d: float, e: float, f: float) -> float:
    """Largest eigenvalue of the symmetric matrix [[a, d, e], [d, b, f], [e, f, c]]."""
    p1 = d * d + e * e + f * f
    q = (a + b + c) / 3.0
    p2 = (a - q) ** 2 + (b - q) ** 2 + (c - q) ** 2 + 2.0 * p1
    if p2 < 1e-12:
        return q
    p = math.sqrt(p2 / 6.0)
    a, b, c, d, e, f = (a - q) / p, (b - q) / p, (c - q) / p, d / p, e / p, f / p
    half = 0.5 * (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e))
    half = min(1.0, max(-1.0, half))
    return q + 2.0 * p * math.cos(math.acos(half) / 3.0)


@nb.njit(cache=True, parallel=True, nogil=True)
def largest_eigenvalue(xx: F32, yy: F32, zz: F32, xy: F32, xz: F32, yz: F32, out: F32) -> None:
    """Largest eigenvalue of symmetric 3x3 matrices given as six flat arrays (n,)."""
    for n in nb.prange(xx.size):
        out[n] = eigenvalue(
            float(xx[n]), float(yy[n]), float(zz[n]), float(xy[n]), float(xz[n]), float(yz[n])
        )


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _axis_of_largest(
    a: float, b: float, c: float, d: float, e: float, f: float, value: float
) -> tuple[float, float, float]:
    """Unit eigenvector of the symmetric matrix [[a, d, e], [d, b, f], [e, f, c]] to ``value``."""
    a, b, c = a - value, b - value, c - value
    best = 0.0
    x, y, z = 1.0, 0.0, 0.0
    # Two rows of A - value I span the plane across the eigenvector; the best pair is taken.
    for n in range(3):
        if n == 0:
            u, v, w = d * f - e * b, e * d - a * f, a * b - d * d
        elif n == 1:
            u, v, w = d * c - e * f, e * e - a * c, a * f - d * e
        else:
            u, v, w = b * c - f * f, f * e - d * c, d * f - b * e
        size = u * u + v * v + w * w
        if size > best:
            best = size
            s = 1.0 / math.sqrt(size)
            x, y, z = u * s, v * s, w * s
    return x, y, z


@nb.njit(cache=True, nogil=True)
def _linear(hu: F32, x: float, y: float, z: float) -> float:
    """Trilinear value; the border is continued."""
    ni, nj, nk = hu.shape
    x, y, z = (
        min(max(x, 0.0), ni - 1.001),
        min(max(y, 0.0), nj - 1.001),
        min(max(z, 0.0), nk - 1.001),
    )
    i, j, k = int(x), int(y), int(z)
    u, v, w = x - i, y - j, z - k
    low = (1 - v) * ((1 - u) * hu[i, j, k] + u * hu[i + 1, j, k]) + v * (
        (1 - u) * hu[i, j + 1, k] + u * hu[i + 1, j + 1, k]
    )
    high = (1 - v) * ((1 - u) * hu[i, j, k + 1] + u * hu[i + 1, j, k + 1]) + v * (
        (1 - u) * hu[i, j + 1, k + 1] + u * hu[i + 1, j + 1, k + 1]
    )
    return float((1 - w) * low + w * high)


@nb.njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def valley_depth(
    hu: F32,
    mask: U8,
    xx: F32,
    yy: F32,
    zz: F32,
    xy: F32,
    xz: F32,
    yz: F32,
    largest: F32,
    reach: float,
    depth: F32,
) -> None:
    """Depth (HU) of the valley a voxel lies in, where the ``largest`` eigenvalue is positive.

    A joint gap is darker than what lies on either side of it; the inner edge of a cortex is bent
    upwards as much, but is no darker than the marrow beside it. The depth is what the lower of the
    two sides' highest levels within ``reach`` voxels stands above the voxel; only voxels of ``mask``.
    """
    ni, nj, nk = hu.shape
    for i in nb.prange(ni):
        for j in range(nj):
            for k in range(nk):
                if mask[i, j, k] == 0 or largest[i, j, k] <= 0.0:
                    continue
                n = (np.int64(i) * nj + j) * nk + k
                a, b, c, d, e, f = xx[n], yy[n], zz[n], xy[n], xz[n], yz[n]
                x, y, z = _axis_of_largest(a, b, c, d, e, f, largest[i, j, k])
                here = hu[i, j, k]
                before, after = here, here
                r = 0.5
                while r <= reach:
                    before = max(before, _linear(hu, i - r * x, j - r * y, k - r * z))
                    after = max(after, _linear(hu, i + r * x, j + r * y, k + r * z))
                    r += 0.5
                depth[i, j, k] = min(before, after) - here


@nb.njit(cache=True, nogil=True)
def _covered(index: int, ratio: float, offset: float, count: int) -> tuple[int, int]:
    """First and last source voxel in the cell of a fine voxel; the nearest one where none lies in it."""
    first = int(np.ceil((index - 0.5 - offset) / ratio))
    last = int(np.ceil((index + 0.5 - offset) / ratio)) - 1
    if last < first:
        first = last = int(np.rint((index - offset) / ratio))
    return max(first, 0), min(last, count - 1)


@nb.njit(cache=True, parallel=True, nogil=True)
def pool_valleys(
    hu: I16, sides: I16, least: float, noise: float, ratio: F64, offset: F64, out: F32
) -> None:
    """Largest depth of source voxels in every voxel of ``out``.

    ``ratio`` (3,) source spacing and ``offset`` (3,) place of the first source voxel, in voxels of
    ``out``. The depth is ``sides - hu - noise`` where ``sides`` is at least ``least``.
    """
    ni, nj, nk = out.shape
    for i in nb.prange(ni):
        i0, i1 = _covered(i, ratio[0], offset[0], hu.shape[0])
        for j in range(nj):
            j0, j1 = _covered(j, ratio[1], offset[1], hu.shape[1])
            for k in range(nk):
                k0, k1 = _covered(k, ratio[2], offset[2], hu.shape[2])
                best = 0.0
                for a in range(i0, i1 + 1):
                    for b in range(j0, j1 + 1):
                        for c in range(k0, k1 + 1):
                            if sides[a, b, c] >= least:
                                depth = float(sides[a, b, c]) - float(hu[a, b, c]) - noise
                                best = max(best, depth)
                out[i, j, k] = best


@nb.njit(cache=True, nogil=True)
def watershed(value: F32, mask: U8) -> tuple[I32, int]:
    """Catchment basins of ``value`` inside ``mask``: (basin numbers from 1, count).

    Every voxel points to its lowest 26-neighbour (ties by index); pointers end in local minima.
    """
    ni, nj, nk = value.shape
    flat = value.ravel()
    inside = mask.ravel()
    target = np.empty(flat.size, np.int32)
    for i in range(ni):
        for j in range(nj):
            for k in range(nk):
                p = (i * nj + j) * nk + k
                if inside[p] == 0:
                    target[p] = -1
                    continue
                low = flat[p]
                best = p
                for a in range(max(0, i - 1), min(ni, i + 2)):
                    for b in range(max(0, j - 1), min(nj, j + 2)):
                        for c in range(max(0, k - 1), min(nk, k + 2)):
                            q = (a * nj + b) * nk + c
                            if inside[q] == 0:
                                continue
                            if flat[q] < low or (flat[q] == low and q < best):
                                low = flat[q]
                                best = q
                target[p] = best
    basin = np.zeros(flat.size, np.int32)
    count = 0
    for p in range(flat.size):
        if target[p] == p:
            count += 1
            basin[p] = count
    for p in range(flat.size):
        if target[p] < 0 or basin[p] != 0:
            continue
        q = p
        while basin[q] == 0:
            q = int(target[q])
        number = basin[q]
        q = p
        while basin[q] == 0:
            basin[q] = number
            q = target[q]
    return basin.reshape(value.shape), count


@nb.njit(cache=True, nogil=True)
def boundary_pairs(basin: I32, value: F32, other: F32) -> tuple[I64, F32, F32]:
    """Face-neighbour voxel pairs in different basins: pair keys, and both images' larger values."""
    ni, nj, nk = basin.shape
    total = 0
    for fill in range(2):
        if fill == 1:
            keys = np.empty(total, np.int64)
            strength = np.empty(total, np.float32)
            second = np.empty(total, np.float32)
            total = 0
        for i in range(ni):
            for j in range(nj):
                for k in range(nk):
                    here = basin[i, j, k]
                    if here == 0:
                        continue
                    for axis in range(3):
                        a = i + (axis == 0)
                        b = j + (axis == 1)
                        c = k + (axis == 2)
                        if a >= ni or b >= nj or c >= nk:
                            continue
                        there = basin[a, b, c]
                        if there == 0 or there == here:
                            continue
                        if fill == 1:
                            low, high = min(here, there), max(here, there)
                            keys[total] = np.int64(low) << 32 | np.int64(high)
                            strength[total] = max(value[i, j, k], value[a, b, c])
                            second[total] = max(other[i, j, k], other[a, b, c])
                        total += 1
    return keys, strength, second


@nb.njit(cache=True, nogil=True)
def _find(parent: I32, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@nb.njit(cache=True, nogil=True)
def merge_regions(
    node_count: int, ends: I32, strength: F64, area: F64, seed: I32, stop: float
) -> I32:
    """Average-linkage merging with cannot-link seeds: seed label (0 = none) of every region.

    Parameters
    ----------
    ends : (m, 2) regions joined by each edge.
    strength, area : (m,) summed boundary strength and boundary area.
    seed : (node_count,) label or 0; regions with two different labels never merge.
    stop : mean boundary strength at which merging ends.
    """
    m = ends.shape[0]
    parent = np.arange(node_count).astype(np.int32)
    label = seed.copy()
    total = strength.copy()
    size = area.copy()
    a = ends[:, 0].copy()
    b = ends[:, 1].copy()
    alive = np.ones(m, np.uint8)
    # Adjacency as linked lists of edge slots (2 per edge), so that two lists join in O(1).
    head = np.full(node_count, -1, np.int32)
    tail = np.full(node_count, -1, np.int32)
    nxt = np.full(2 * m, -1, np.int32)
    length = np.zeros(node_count, np.int32)
    for e in range(m):
        for side in range(2):
            node = ends[e, side]
            slot = 2 * e + side
            if head[node] < 0:
                head[node] = slot
            else:
                nxt[tail[node]] = slot
            tail[node] = slot
            length[node] += 1
    heap = [(total[e] / size[e], np.int64(e)) for e in range(m)]
    heapq.heapify(heap)
    seen = np.full(node_count, -1, np.int32)
    while len(heap) > 0:
        mean, edge = heapq.heappop(heap)
        if alive[edge] == 0:
            continue
        now = total[edge] / size[edge]
        if now != mean:
            continue
        if mean > stop:
            break
        u = _find(parent, a[edge])
        v = _find(parent, b[edge])
        alive[edge] = 0
        if u == v or (label[u] != 0 and label[v] != 0 and label[u] != label[v]):
            continue
        if length[u] < length[v] or (length[u] == length[v] and v < u):
            u, v = v, u
        parent[v] = u
        if label[u] == 0:
            label[u] = label[v]
        # Edges of u and v to the same third region become one.
        touched = head[v]
        slot = head[u]
        while slot >= 0:
            f = slot // 2
            if alive[f] == 1:
                w = _find(parent, a[f])
                if w == u:
                    w = _find(parent, b[f])
                if w == u:
                    alive[f] = 0
                else:
                    seen[w] = f
            slot = nxt[slot]
        slot = touched
        while slot >= 0:
            f = slot // 2
            if alive[f] == 1:
                w = _find(parent, a[f])
                if w == u:
                    w = _find(parent, b[f])
                if w == u:
                    alive[f] = 0
                elif seen[w] >= 0 and alive[seen[w]] == 1 and seen[w] != f:
                    g = seen[w]
                    total[g] += total[f]
                    size[g] += size[f]
                    alive[f] = 0
                    heapq.heappush(heap, (total[g] / size[g], np.int64(g)))
                else:
                    seen[w] = f
            slot = nxt[slot]
        # Join and compact the lists, and forget the marks.
        if head[u] < 0:
            head[u] = head[v]
            tail[u] = tail[v]
        elif head[v] >= 0:
            nxt[tail[u]] = head[v]
            tail[u] = tail[v]
        slot = head[u]
        first = -1
        last = -1
        n = 0
        while slot >= 0:
            f = slot // 2
            following = nxt[slot]
            if alive[f] == 1:
                w = _find(parent, a[f])
                if w == u:
                    w = _find(parent, b[f])
                seen[w] = -1
                if first < 0:
                    first = slot
                else:
                    nxt[last] = slot
                nxt[slot] = -1
                last = slot
                n += 1
            slot = following
        head[u] = first
        tail[u] = last
        length[u] = n
    out = np.empty(node_count, np.int32)
    for node in range(node_count):
        out[node] = label[_find(parent, node)]
    return out
