"""Compiled exact distances between screw axes (segments) and faces, over a box tree."""

from __future__ import annotations

import numpy as np
from numba import njit

from sacroplan.geometry._tree_kernels import LEAF


@njit(cache=True, nogil=True)
def _segments(a0, a1, b0, b1):  # type: ignore[no-untyped-def]
    """Squared distance of two segments and the place on the first (clamped least squares)."""
    ux, uy, uz = a1[0] - a0[0], a1[1] - a0[1], a1[2] - a0[2]
    vx, vy, vz = b1[0] - b0[0], b1[1] - b0[1], b1[2] - b0[2]
    rx, ry, rz = a0[0] - b0[0], a0[1] - b0[1], a0[2] - b0[2]
    a = ux * ux + uy * uy + uz * uz
    e = vx * vx + vy * vy + vz * vz
    f = vx * rx + vy * ry + vz * rz
    c = ux * rx + uy * ry + uz * rz
    s = 0.0
    if e <= 1e-24:
        s = min(max(-c / a, 0.0), 1.0) if a > 0.0 else 0.0
        t = 0.0
    else:
        b = ux * vx + uy * vy + uz * vz
        denom = a * e - b * b
        if denom > 1e-12 * a * e:
            s = min(max((b * f - c * e) / denom, 0.0), 1.0)
        t = (b * s + f) / e
        if t < 0.0:
            t = 0.0
            s = min(max(-c / a, 0.0), 1.0) if a > 0.0 else 0.0
        elif t > 1.0:
            t = 1.0
            s = min(max((b - c) / a, 0.0), 1.0) if a > 0.0 else 0.0
    x = rx + s * ux - t * vx
    y = ry + s * uy - t * vy
    z = rz + s * uz - t * vz
    return x * x + y * y + z * z, s


@njit(cache=True, nogil=True, inline="always")
def _over_face(px, py, pz, c):  # type: ignore[no-untyped-def]
    """Squared distance of a point to the plane of a face (3, 3) where its foot lies inside, else inf."""
    ux, uy, uz = c[1, 0] - c[0, 0], c[1, 1] - c[0, 1], c[1, 2] - c[0, 2]
    vx, vy, vz = c[2, 0] - c[0, 0], c[2, 1] - c[0, 1], c[2, 2] - c[0, 2]
    wx, wy, wz = px - c[0, 0], py - c[0, 1], pz - c[0, 2]
    uu = ux * ux + uy * uy + uz * uz
    vv = vx * vx + vy * vy + vz * vz
    uv = ux * vx + uy * vy + uz * vz
    det = uu * vv - uv * uv
    if det <= 1e-18 * uu * vv:
        return np.inf
    wu = wx * ux + wy * uy + wz * uz
    wv = wx * vx + wy * vy + wz * vz
    s = (vv * wu - uv * wv) / det
    t = (uu * wv - uv * wu) / det
    if s < 0.0 or t < 0.0 or s + t > 1.0:
        return np.inf
    x, y, z = wx - s * ux - t * vx, wy - s * uy - t * vy, wz - s * uz - t * vz
    return x * x + y * y + z * z


@njit(cache=True, nogil=True)
def segment_face(p, q, c):  # type: ignore[no-untyped-def]
    """Squared distance of the segment pq to a face (3, 3), and the place (0 to 1) on the segment."""
    ux, uy, uz = c[1, 0] - c[0, 0], c[1, 1] - c[0, 1], c[1, 2] - c[0, 2]
    vx, vy, vz = c[2, 0] - c[0, 0], c[2, 1] - c[0, 1], c[2, 2] - c[0, 2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    hp = (p[0] - c[0, 0]) * nx + (p[1] - c[0, 1]) * ny + (p[2] - c[0, 2]) * nz
    hq = (q[0] - c[0, 0]) * nx + (q[1] - c[0, 1]) * ny + (q[2] - c[0, 2]) * nz
    if hp * hq <= 0.0 and hp != hq:
        t = hp / (hp - hq)
        x = p[0] + t * (q[0] - p[0])
        y = p[1] + t * (q[1] - p[1])
        z = p[2] + t * (q[2] - p[2])
        if np.isfinite(_over_face(x, y, z, c)):
            return 0.0, t
    best = _over_face(p[0], p[1], p[2], c)
    at = 0.0
    d = _over_face(q[0], q[1], q[2], c)
    if d < best:
        best, at = d, 1.0
    for k in range(3):
        d, s = _segments(p, q, c[k], c[(k + 1) % 3])
        if d < best:
            best, at = d, s
    return best, at


@njit(cache=True, nogil=True, inline="always")
def _ball_gap(ball, px, py, pz, dx, dy, dz, e):  # type: ignore[no-untyped-def]
    """Distance of a ball (x, y, z, radius) from the segment that starts at p and runs along d."""
    wx, wy, wz = ball[0] - px, ball[1] - py, ball[2] - pz
    t = (wx * dx + wy * dy + wz * dz) / e if e > 0.0 else 0.0
    t = min(max(t, 0.0), 1.0)
    x, y, z = wx - t * dx, wy - t * dy, wz - t * dz
    return np.sqrt(x * x + y * y + z * z) - ball[3]


@njit(cache=True, nogil=True)
def balls_of(corners, low, high, face_ball, node_ball):  # type: ignore[no-untyped-def]
    """Balls round faces (m, 4) and round the boxes of all nodes (k, 4); empty nodes lie at infinity."""
    for f in range(corners.shape[0]):
        for k in range(3):
            face_ball[f, k] = (corners[f, 0, k] + corners[f, 1, k] + corners[f, 2, k]) / 3.0
        r = 0.0
        for n in range(3):
            d = 0.0
            for k in range(3):
                d += (corners[f, n, k] - face_ball[f, k]) ** 2
            r = max(r, d)
        face_ball[f, 3] = np.sqrt(r)
    for n in range(low.shape[0]):
        if low[n, 0] > high[n, 0]:
            node_ball[n, 0] = 1e30
            node_ball[n, 3] = 0.0
            continue
        d = 0.0
        for k in range(3):
            node_ball[n, k] = 0.5 * (low[n, k] + high[n, k])
            d += (0.5 * (high[n, k] - low[n, k])) ** 2
        node_ball[n, 3] = np.sqrt(d)


@njit(cache=True, nogil=True)
def axis_gaps(corners, face_ball, node_ball, first_leaf, starts, ends, stop, reach, gap, place):  # type: ignore[no-untyped-def]
    """Exact distance of every segment to the nearest face, and where on the segment (0 to 1).

    A segment whose distance falls below its ``stop`` (n,) is of no further interest and left early;
    one that has no face within ``reach`` gets ``reach``.
    Serial: a climb asks for some eighty axes at a time, too few to share out.
    """
    stack = np.empty(96, dtype=np.int64)
    bound = np.empty(96)
    for n in range(starts.shape[0]):
        p, q = starts[n], ends[n]
        px, py, pz = p[0], p[1], p[2]
        dx, dy, dz = q[0] - px, q[1] - py, q[2] - pz
        e = dx * dx + dy * dy + dz * dz
        best = reach
        at = 0.0
        top = 0
        stack[0] = 0
        bound[0] = -1.0
        while top >= 0:
            node = stack[top]
            near = bound[top]
            top -= 1
            if near >= best:
                continue
            if node < first_leaf:
                # The nearer child last, so that it is taken first.
                one, two = 2 * node + 1, 2 * node + 2
                c1 = _ball_gap(node_ball[one], px, py, pz, dx, dy, dz, e)
                c2 = _ball_gap(node_ball[two], px, py, pz, dx, dy, dz, e)
                if c1 < c2:
                    one, two = two, one
                    c1, c2 = c2, c1
                if c1 < best:
                    top += 1
                    stack[top] = one
                    bound[top] = c1
                if c2 < best:
                    top += 1
                    stack[top] = two
                    bound[top] = c2
                continue
            first = (node - first_leaf) * LEAF
            for g in range(first, min(first + LEAF, corners.shape[0])):
                if _ball_gap(face_ball[g], px, py, pz, dx, dy, dz, e) >= best:
                    continue
                d2, s = segment_face(p, q, corners[g])
                if d2 < best * best:
                    best, at = np.sqrt(d2), s
            if best < stop[n]:
                break
        gap[n] = best
        place[n] = at


@njit(cache=True, nogil=True)
def clear_of(starts, ends, keep_a, keep_b, keep_mm, clear):  # type: ignore[no-untyped-def]
    """Whether every segment keeps its distance from all others (which may have no length)."""
    for n in range(starts.shape[0]):
        clear[n] = True
        for q in range(keep_a.shape[0]):
            d2, _ = _segments(starts[n], ends[n], keep_a[q], keep_b[q])
            if d2 < keep_mm[q] * keep_mm[q]:
                clear[n] = False
                break


@njit(cache=True, nogil=True)
def segment_gaps(starts, ends, other_a, other_b, radius, gap):  # type: ignore[no-untyped-def]
    """Distance of every segment to the nearest of other segments, less that one's radius."""
    for n in range(starts.shape[0]):
        gap[n] = np.inf
        for q in range(other_a.shape[0]):
            d2, _ = _segments(starts[n], ends[n], other_a[q], other_b[q])
            gap[n] = min(gap[n], np.sqrt(d2) - radius[q])


@njit(cache=True, nogil=True)
def segments_apart(a0, a1, b0, b1):  # type: ignore[no-untyped-def]
    """Distance of two segments, either of which may be a point."""
    d2, _ = _segments(a0, a1, b0, b1)
    return np.sqrt(d2)
