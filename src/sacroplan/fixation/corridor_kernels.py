"""Compiled corridor search. Serial: the same input gives the same bytes."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, inline="always")
def _depth(data, x, y, z):  # type: ignore[no-untyped-def]
    """Depth under the bone surface (mm, positive inside) at a continuous index; -99 off the grid."""
    ni, nj, nk = data.shape
    if not (0.0 <= x < ni - 1 and 0.0 <= y < nj - 1 and 0.0 <= z < nk - 1):
        return -99.0
    i, j, k = int(x), int(y), int(z)
    u, v, w = x - i, y - j, z - k
    a = data[i, j, k] * (1 - w) + data[i, j, k + 1] * w
    b = data[i, j + 1, k] * (1 - w) + data[i, j + 1, k + 1] * w
    c = data[i + 1, j, k] * (1 - w) + data[i + 1, j, k + 1] * w
    d = data[i + 1, j + 1, k] * (1 - w) + data[i + 1, j + 1, k + 1] * w
    return -((a * (1 - v) + b * v) * (1 - u) + (c * (1 - v) + d * v) * u)


@njit(cache=True, nogil=True)
def pedicle_axes(  # type: ignore[no-untyped-def]
    data, origin, h, points, directions, tilt_cost, wall_x, back_x, share, skip, lengths, floor,
    free_way, step, out,
):  # fmt: skip
    """Best clearance of every (point, direction) axis through a pedicle.

    Level axes x anterior, y cranial, z lateral. ``out`` (n, m, 4): score, clearance, entry distance
    behind the point, length; score -inf where the axis is no corridor. ``floor`` is the least
    clearance of interest: axes below it are left early. Clearance counts from ``skip`` behind the
    entry, but at the latest from the coronal plane ``back_x`` on, where the pedicle begins.
    """
    cap = 256
    profile = np.empty(cap)
    for p in range(points.shape[0]):
        px, py, pz = points[p]
        for d in range(directions.shape[0]):
            dx, dy, dz = directions[d]
            out[p, d, 0] = -np.inf
            gx = (px - origin[0]) / h
            gy = (py - origin[1]) / h
            gz = (pz - origin[2]) / h
            sx, sy, sz = dx / h, dy / h, dz / h
            # Backwards to the entry.
            last = _depth(data, gx, gy, gz)
            if last < floor:
                continue
            back = 0.0
            entry = -1.0
            while back < 60.0:
                back += step
                value = _depth(data, gx - back * sx, gy - back * sy, gz - back * sz)
                if value <= 0.0:
                    entry = back - step * value / (value - last) if value > -90.0 else back
                    break
                last = value
            if entry < 0.0:
                continue
            # The driver's way must be free of the same bone.
            blocked = False
            way = 2.0
            while way <= free_way:
                t = entry + way
                if _depth(data, gx - t * sx, gy - t * sy, gz - t * sz) > -0.5:
                    blocked = True
                    break
                way += 2.0
            if blocked:
                continue
            # Forwards to the far cortex.
            count = 0
            exit_ = -1.0
            t = min(skip - entry, (back_x - px) / dx)
            begin = t + entry
            if begin < 0.0:
                continue
            last = 1.0
            lost = False
            while count < cap:
                value = _depth(data, gx + t * sx, gy + t * sy, gz + t * sz)
                if value <= 0.0:
                    exit_ = t - step * value / (value - last) if count > 0 else t
                    break
                profile[count] = value
                count += 1
                # Behind the wall the whole screw must pass, so a narrow spot ends it.
                if value < floor and px + t * dx < wall_x:
                    lost = True
                    break
                last = value
                t += step
            if lost or exit_ < 0.0 or count < 3:
                continue
            wall = (wall_x - px) / dx
            if exit_ <= wall:
                continue
            deepest = wall + share * (exit_ - wall) + entry
            length = 0.0
            for k in range(lengths.shape[0]):
                if lengths[k] <= deepest + 1e-9:
                    length = lengths[k]
            # Shorten until the tip, too, keeps the clearance of the rest.
            best = -np.inf
            for k in range(lengths.shape[0] - 1, -1, -1):
                if lengths[k] > length:
                    continue
                m = int((lengths[k] - begin) / step) + 1
                if m < 2 or m > count:
                    continue
                least = profile[0]
                for q in range(1, m):
                    if profile[q] < least:
                        least = profile[q]
                if least < floor:
                    continue
                # A longer screw is worth some clearance: 0.02 mm per mm.
                score = least + 0.02 * lengths[k] - tilt_cost[d]
                if score > best:
                    best = score
                    out[p, d, 0] = score
                    out[p, d, 1] = least
                    out[p, d, 2] = entry
                    out[p, d, 3] = lengths[k]


@njit(cache=True, nogil=True)
def face_axes(  # type: ignore[no-untyped-def]
    data, origin, h, entries, directions, radius_need, start, keep_points, keep_mm, lengths,
    step, out,
):  # fmt: skip
    """Longest safe screw of every (entry, direction) pair from a cut face into bone.

    The face itself is surface, so depth counts from ``start[d]`` along the axis on. ``keep_points``
    (q, 3) are passed at ``keep_mm`` (q,) or more. ``out`` (n, m, 2): length (0: none), least depth.
    """
    for p in range(entries.shape[0]):
        gx = (entries[p, 0] - origin[0]) / h
        gy = (entries[p, 1] - origin[1]) / h
        gz = (entries[p, 2] - origin[2]) / h
        for d in range(directions.shape[0]):
            sx, sy, sz = directions[d, 0] / h, directions[d, 1] / h, directions[d, 2] / h
            out[p, d, 0] = 0.0
            out[p, d, 1] = 0.0
            reach = lengths[-1]
            for q in range(keep_points.shape[0]):
                # Where the axis first comes within reach of a point to be kept clear of.
                wx = keep_points[q, 0] - entries[p, 0]
                wy = keep_points[q, 1] - entries[p, 1]
                wz = keep_points[q, 2] - entries[p, 2]
                along = wx * directions[d, 0] + wy * directions[d, 1] + wz * directions[d, 2]
                square = wx * wx + wy * wy + wz * wz
                off = square - along * along
                if along > 0.0 and off < keep_mm[q] ** 2:
                    reach = min(reach, along - np.sqrt(keep_mm[q] ** 2 - off))
            if reach < lengths[0]:
                continue
            t = start[d]
            least = 1e9
            chosen = 0.0
            chosen_least = 0.0
            nxt = 0
            while nxt < lengths.shape[0] and lengths[nxt] <= reach:
                value = _depth(data, gx + t * sx, gy + t * sy, gz + t * sz)
                if value < radius_need:
                    break
                if value < least:
                    least = value
                while nxt < lengths.shape[0] and lengths[nxt] <= min(t, reach):
                    chosen = lengths[nxt]
                    chosen_least = least
                    nxt += 1
                t += step
            out[p, d, 0] = chosen
            out[p, d, 1] = chosen_least


@njit(cache=True, nogil=True)
def segment_gap(a0, a1, b0, b1):  # type: ignore[no-untyped-def]
    """Least distance of two segments (Ericson, Real-Time Collision Detection 5.1.9)."""
    d1 = a1 - a0
    d2 = b1 - b0
    r = a0 - b0
    a = (d1 * d1).sum()
    e = (d2 * d2).sum()
    f = (d2 * r).sum()
    c = (d1 * r).sum()
    b = (d1 * d2).sum()
    denom = a * e - b * b
    s = 0.0
    if denom > 1e-12:
        s = min(max((b * f - c * e) / denom, 0.0), 1.0)
    t = (b * s + f) / e
    if t < 0.0:
        t = 0.0
        s = min(max(-c / a, 0.0), 1.0)
    elif t > 1.0:
        t = 1.0
        s = min(max((b - c) / a, 0.0), 1.0)
    gap = r + s * d1 - t * d2
    return np.sqrt((gap * gap).sum())


@njit(cache=True, nogil=True)
def best_pair(starts, ends, scores, apart, heads_apart):  # type: ignore[no-untyped-def]
    """Indices of the two screws with the best summed score that stay ``apart`` from each other
    and ``heads_apart`` at their entries."""
    first, second, best = -1, -1, -np.inf
    n = starts.shape[0]
    for i in range(n):
        if scores[i] + scores[i] <= best:
            break
        for j in range(i + 1, n):
            if scores[i] + scores[j] <= best:
                break
            between = starts[i] - starts[j]
            if (between * between).sum() < heads_apart * heads_apart:
                continue
            if segment_gap(starts[i], ends[i], starts[j], ends[j]) >= apart:
                first, second, best = i, j, scores[i] + scores[j]
                break
    return first, second
