"""Compiled loops of the segmentation: enclosure, eigenvalues, watershed, region graph, merging.

Every loop is serial or writes each voxel once, so the result does not depend on scheduling.
"""

from __future__ import annotations

import heapq
import math

import numba as nb
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

DIRECTIONS = 24
"""Rays per voxel of the enclosure test, every 15 degrees: a pedicle spans two or more."""


@nb.njit(cache=True)
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


@nb.njit(cache=True)
def best_descending_path(
    score: F32, threshold: float, bend_cost: float, forward: int, backward: int
) -> I32:
    """Highest-scoring run of one voxel per slice, downwards: (n, 3) indices, top first.

    Each slice adds ``score - threshold - bend_cost * (|di| + |dj|)``; per slice downwards the path
    moves at most one voxel in i and between ``-forward`` and ``backward`` voxels in j. The run
    starts and ends where that pays most.
    """
    ni, nj, nk = score.shape
    best = np.zeros((ni, nj, nk), np.float32)
    came = np.full((ni, nj, nk), -1, np.int32)
    top_value = 0.0
    top = (-1, -1, -1)
    for k in range(nk - 1, -1, -1):
        for i in range(ni):
            for j in range(nj):
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


@nb.njit(cache=True)
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
    for i in range(ni):
        for j in range(nj):
            for k in range(nk):
                if asked[i, j, k] == 0:
                    continue
                misses = 0
                for t in range(26):
                    x, y, z = i, j, k
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


@nb.njit(cache=True)
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


@nb.njit(cache=True, error_model="numpy")
def largest_eigenvalue(xx: F32, yy: F32, zz: F32, xy: F32, xz: F32, yz: F32, out: F32) -> None:
    """Largest eigenvalue of symmetric 3x3 matrices given as six flat arrays (n,)."""
    for n in range(xx.size):
        a, b, c = float(xx[n]), float(yy[n]), float(zz[n])
        d, e, f = float(xy[n]), float(xz[n]), float(yz[n])
        p1 = d * d + e * e + f * f
        q = (a + b + c) / 3.0
        p2 = (a - q) ** 2 + (b - q) ** 2 + (c - q) ** 2 + 2.0 * p1
        if p2 < 1e-12:
            out[n] = q
            continue
        p = math.sqrt(p2 / 6.0)
        a, b, c, d, e, f = (a - q) / p, (b - q) / p, (c - q) / p, d / p, e / p, f / p
        half = 0.5 * (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e))
        half = min(1.0, max(-1.0, half))
        out[n] = q + 2.0 * p * math.cos(math.acos(half) / 3.0)


@nb.njit(cache=True)
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


@nb.njit(cache=True)
def boundary_pairs(basin: I32, value: F32) -> tuple[I64, F32]:
    """Face-neighbour voxel pairs in different basins: (pair keys, boundary value)."""
    ni, nj, nk = basin.shape
    total = 0
    for fill in range(2):
        if fill == 1:
            keys = np.empty(total, np.int64)
            strength = np.empty(total, np.float32)
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
                        total += 1
    return keys, strength


@nb.njit(cache=True)
def _find(parent: I32, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@nb.njit(cache=True)
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
