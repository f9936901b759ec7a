"""Compiled corridor search in a field of depths: the same input gives the same bytes."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sacroplan.fixation._depth_kernels import OFF_GRID, depth_at


@njit(cache=True, nogil=True)
def _axes_through(  # type: ignore[no-untyped-def]
    depth, origin, h, point, directions, tilt_cost, wall_x, back_x, share, skip, lengths, floor,
    free_way, step, lows, out,
):  # fmt: skip
    """Best clearance of every axis through one point of the gate; ``out`` (m, 4), ``lows`` scratch.

    Three places between ``back_x`` and the wall throw most axes out. Between two samples depth can
    lose no more than the way between them, so deep bone and open space are crossed in long steps.
    """
    px, py, pz = point
    gx, gy, gz = (px - origin[0]) / h, (py - origin[1]) / h, (pz - origin[2]) / h
    at_gate = depth_at(depth, gx, gy, gz)
    for d in range(directions.shape[0]):
        out[d, 0] = -np.inf
        if at_gate < floor:
            continue
        dx = directions[d, 0]
        sx, sy, sz = dx / h, directions[d, 1] / h, directions[d, 2] / h
        back, wall = (back_x - px) / dx, (wall_x - px) / dx
        near, half = 0.999 * wall, 0.5 * back
        if (
            depth_at(depth, gx + back * sx, gy + back * sy, gz + back * sz) < floor
            or depth_at(depth, gx + near * sx, gy + near * sy, gz + near * sz) < floor
            or depth_at(depth, gx + half * sx, gy + half * sy, gz + half * sz) < floor
        ):
            continue
        # Backwards to the entry.
        last, t, entry = at_gate, 0.0, -1.0
        while t < 60.0:
            ahead = max(step, last)
            t += ahead
            value = depth_at(depth, gx - t * sx, gy - t * sy, gz - t * sz)
            if value <= 0.0:
                entry = t - ahead * value / (value - last) if value > OFF_GRID else t
                break
            last = value
        if entry < 0.0:
            continue
        t = min(skip - entry, back)
        begin = t + entry
        if begin < 0.0:
            continue
        # Forwards to the far cortex.
        low, last, ahead, exit_, limit = np.inf, 1.0, 0.0, -1.0, t + 190.0
        count = 0
        while t < limit:
            value = depth_at(depth, gx + t * sx, gy + t * sy, gz + t * sz)
            if value <= 0.0:
                exit_ = t - ahead * value / (value - last) if ahead > 0.0 else t
                break
            low = min(low, value)
            # Behind the wall the whole screw must pass, and beyond it the shortest one.
            if low < floor and (px + t * dx < wall_x or t + entry < lengths[0]):
                break
            while count < lengths.shape[0] and lengths[count] <= t + entry + 1e-9:
                lows[count] = low
                count += 1
            last = value
            ahead = max(step, value if low < floor else value - low)
            if count < lengths.shape[0]:
                to_next = lengths[count] - entry - t
                if to_next < ahead:
                    ahead = to_next
            t += ahead
        if exit_ <= wall:
            continue
        # The driver's way must be free of the same bone.
        blocked = False
        t = 2.0
        while t <= free_way:
            u = entry + t
            value = depth_at(depth, gx - u * sx, gy - u * sy, gz - u * sz)
            if value > -0.5:
                blocked = True
                break
            if value <= OFF_GRID:
                break
            t += max(2.0, -value - 0.5)
        if blocked:
            continue
        deepest = wall + share * (exit_ - wall) + entry
        # Shorten until the tip, too, keeps the clearance of the rest; a longer screw is worth some
        # clearance: 0.02 mm per mm.
        for k in range(count - 1, -1, -1):
            if lengths[k] > deepest + 1e-9 or lengths[k] <= begin or lows[k] < floor:
                continue
            score = lows[k] + 0.02 * lengths[k] - tilt_cost[d]
            if score > out[d, 0]:
                out[d, 0], out[d, 1], out[d, 2], out[d, 3] = score, lows[k], entry, lengths[k]


@njit(cache=True, nogil=True)
def pedicle_axes(  # type: ignore[no-untyped-def]
    depth, origin, h, points, directions, tilt_cost, wall_x, back_x, share, skip, lengths, floor,
    free_way, step, out,
):  # fmt: skip
    """Best clearance of every (point, direction) axis through a pedicle.

    Level axes x anterior, y cranial, z lateral; ``depth`` under the surface in mm. ``out`` (n, m, 4):
    score, clearance, entry distance behind the point, length; score -inf where the axis is no corridor.
    ``floor`` is the least clearance of interest: axes below it are left early. Clearance counts from
    ``skip`` behind the entry, but at the latest from the coronal plane ``back_x`` on, where the
    pedicle begins. Serial: a climb asks for some eighty axes at a time.
    """
    lows = np.empty(lengths.shape[0])
    for p in range(points.shape[0]):
        _axes_through(
            depth, origin, h, points[p], directions, tilt_cost, wall_x, back_x, share, skip, lengths,
            floor, free_way, step, lows, out[p],
        )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True)
def pedicle_sweep(  # type: ignore[no-untyped-def]
    depth, origin, h, points, directions, tilt_cost, wall_x, back_x, share, skip, lengths, floor,
    free_way, step, out,
):  # fmt: skip
    """:func:`pedicle_axes` on all cores; every point is searched on its own, so threads cannot show."""
    for p in prange(points.shape[0]):
        lows = np.empty(lengths.shape[0])
        _axes_through(
            depth, origin, h, points[p], directions, tilt_cost, wall_x, back_x, share, skip, lengths,
            floor, free_way, step, lows, out[p],
        )  # fmt: skip


@njit(cache=True, nogil=True)
def face_axes(  # type: ignore[no-untyped-def]
    depth, origin, h, entries, directions, radius_need, start, keep_points, keep_mm, lengths,
    step, out,
):  # fmt: skip
    """Longest safe screw of every (entry, direction) pair from a cut face into bone.

    ``depth`` under the surface in mm. The face itself is surface, so depth counts from ``start[d]`` along
    the axis on. ``keep_points`` (q, 3) are passed at ``keep_mm`` (q,) or more. ``out`` (n, m, 2): length
    (0: none), least depth.
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
                value = depth_at(depth, gx + t * sx, gy + t * sy, gz + t * sz)
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
