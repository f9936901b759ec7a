"""Compiled loops: triangle rasteriser, shading, trilinear reslicing, smooth lines. All serial, so
that the same input gives the same picture on every machine with the same libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

SUBPIXEL = 256
"""Screen positions are whole multiples of 1/256 pixel: edge tests are exact integers, so a pixel on
a shared edge belongs to exactly one of two triangles."""


@njit(cache=True)
def rasterise(
    xy: Any, z: Any, faces: Any, behind: Any, before: Any, depth: Any, face_of: Any
) -> int:
    """Nearest face per pixel, strictly deeper than ``behind`` and nearer than ``before``.

    ``xy`` (n, 2) int64 in sub-pixels (x right, y down), ``z`` (n,) float64 grows away from the
    viewer, ``faces`` (m, 3). ``depth`` (h, w) starts at infinity, ``face_of`` (h, w) at -1; both
    are filled. Returns the number of pixels written.
    """
    h, w = depth.shape
    s = SUBPIXEL
    half = s // 2
    written = 0
    for f in range(faces.shape[0]):
        a = faces[f, 0]
        b = faces[f, 1]
        c = faces[f, 2]
        ax, ay = xy[a, 0], xy[a, 1]
        bx, by = xy[b, 0], xy[b, 1]
        cx, cy = xy[c, 0], xy[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        za, zb, zc = z[a], z[b], z[c]
        if area < 0:
            bx, cx = cx, bx
            by, cy = cy, by
            zb, zc = zc, zb
            area = -area
        x0 = max(0, (min(ax, bx, cx) - half + s - 1) // s)
        x1 = min(w - 1, (max(ax, bx, cx) - half) // s)
        y0 = max(0, (min(ay, by, cy) - half + s - 1) // s)
        y1 = min(h - 1, (max(ay, by, cy) - half) // s)
        if x0 > x1 or y0 > y1:
            continue
        # Edge functions grow to the inside; a tie counts for left and top edges only.
        bias_a = 0 if (by > cy) or (by == cy and bx < cx) else -1
        bias_b = 0 if (cy > ay) or (cy == ay and cx < ax) else -1
        bias_c = 0 if (ay > by) or (ay == by and ax < bx) else -1
        inv = 1.0 / area
        for y in range(y0, y1 + 1):
            py = y * s + half
            px = x0 * s + half
            ea = (cx - bx) * (py - by) - (cy - by) * (px - bx)
            eb = (ax - cx) * (py - cy) - (ay - cy) * (px - cx)
            ec = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
            for x in range(x0, x1 + 1):
                if ea + bias_a >= 0 and eb + bias_b >= 0 and ec + bias_c >= 0:
                    d = (ea * za + eb * zb + ec * zc) * inv
                    if d > behind[y, x] and d < before[y, x] and d < depth[y, x]:
                        if face_of[y, x] < 0:
                            written += 1
                        depth[y, x] = d
                        face_of[y, x] = f
                ea -= (cy - by) * s
                eb -= (ay - cy) * s
                ec -= (by - ay) * s
    return written


@njit(cache=True)
def project(points: Any, right: Any, up: Any, toward: Any, scale: float, xy: Any, z: Any) -> None:
    """Parallel projection of ``points`` (n, 3): ``xy`` (n, 2) in sub-pixels, depth ``z`` (n,)."""
    for i in range(points.shape[0]):
        p0, p1, p2 = points[i, 0], points[i, 1], points[i, 2]
        xy[i, 0] = round((p0 * right[0] + p1 * right[1] + p2 * right[2]) * scale)
        xy[i, 1] = round(-(p0 * up[0] + p1 * up[1] + p2 * up[2]) * scale)
        z[i] = -(p0 * toward[0] + p1 * toward[1] + p2 * toward[2])


@njit(cache=True)
def visible_vertices(xy: Any, z: Any, depth: Any, tolerance: float, seen: Any, weight: Any) -> None:
    """Add ``weight`` (n,) to ``seen`` (n,) for vertices no deeper than the depth image allows."""
    h, w = depth.shape
    for i in range(xy.shape[0]):
        if weight[i] <= 0.0:
            continue
        x = min(max(xy[i, 0] // SUBPIXEL, 0), w - 1)
        y = min(max(xy[i, 1] // SUBPIXEL, 0), h - 1)
        if z[i] <= depth[y, x] + tolerance:
            seen[i] += weight[i]


@njit(cache=True)
def shade(
    face_of: Any, xy: Any, faces: Any, part_of: Any, normal: Any, ambient: Any, colour: Any,
    opacity: Any, metal: Any, lights: Any, rgba: Any,
) -> None:  # fmt: skip
    """Colour every pixel that shows a face: linear light (r, g, b) and alpha into ``rgba``.

    ``normal`` (n, 3) unit vectors in picture axes (right, up, towards the viewer), ``ambient`` (n,)
    share of open sky, ``part_of`` (m,) part of a face, ``colour`` (p, 3) linear, ``opacity`` (p,),
    ``metal`` (p,), ``lights`` (q, 4) unit direction and strength.
    """
    h, w = face_of.shape
    s = SUBPIXEL
    half = s // 2
    for y in range(h):
        for x in range(w):
            f = face_of[y, x]
            if f < 0:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            px, py = x * s + half, y * s + half
            ax, ay = xy[a, 0], xy[a, 1]
            bx, by = xy[b, 0], xy[b, 1]
            cx, cy = xy[c, 0], xy[c, 1]
            inv = 1.0 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
            wa = ((cx - bx) * (py - by) - (cy - by) * (px - bx)) * inv
            wb = ((ax - cx) * (py - cy) - (ay - cy) * (px - cx)) * inv
            wc = 1.0 - wa - wb
            nx = wa * normal[a, 0] + wb * normal[b, 0] + wc * normal[c, 0]
            ny = wa * normal[a, 1] + wb * normal[b, 1] + wc * normal[c, 1]
            nz = wa * normal[a, 2] + wb * normal[b, 2] + wc * normal[c, 2]
            length = np.sqrt(nx * nx + ny * ny + nz * nz)
            if length < 1e-9:
                nx, ny, nz, length = 0.0, 0.0, 1.0, 1.0
            if nz < 0.0:
                length = -length
            nx /= length
            ny /= length
            nz /= length
            sky = wa * ambient[a] + wb * ambient[b] + wc * ambient[c]
            p = part_of[f]
            gloss = 0.10 + 0.35 * metal[p]
            power = 24.0 + 24.0 * metal[p]
            diffuse = 0.0
            shine = 0.0
            for q in range(lights.shape[0]):
                lx, ly, lz, strength = lights[q, 0], lights[q, 1], lights[q, 2], lights[q, 3]
                d = nx * lx + ny * ly + nz * lz
                if d > 0.0:
                    diffuse += strength * d
                    hz = lz + 1.0
                    hn = (nx * lx + ny * ly + nz * hz) / np.sqrt(lx * lx + ly * ly + hz * hz)
                    if hn > 0.0:
                        shine += strength * gloss * hn**power
            open_sky = sky * sky
            light = diffuse * (0.35 + 0.65 * sky) + (0.20 + 0.10 * ny) * open_sky
            shine *= open_sky
            for k in range(3):
                rgba[y, x, k] = colour[p, k] * light + shine
            alpha = opacity[p]
            if alpha < 1.0:
                # A slab seen at a slant is thicker: glass-like rims without any extra setting.
                alpha = 1.0 - (1.0 - alpha) ** (1.0 / max(nz, 0.2))
            rgba[y, x, 3] = alpha


@njit(cache=True)
def outline(part_image: Any, depth: Any, jump_mm: float, ink: Any) -> None:
    """Mark pixels where the part changes or the depth jumps; the nearer side carries the line.

    ``part_image`` (h, w) part number, -1 for nothing; ``ink`` (h, w) gets 1 on lines.
    """
    h, w = part_image.shape
    for y in range(1, h - 1):
        for x in range(1, w - 1):
            p = part_image[y, x]
            if p < 0:
                continue
            d = depth[y, x]
            for k in range(4):
                yy = y + (k == 0) - (k == 1)
                xx = x + (k == 2) - (k == 3)
                q = part_image[yy, xx]
                if q < 0 or (depth[yy, xx] > d and (q != p or depth[yy, xx] - d > jump_mm)):
                    ink[y, x] = 1.0


@njit(cache=True)
def lay_under(rgba: Any, ink: Any, line: float, front: Any, clear: Any) -> None:
    """Put a layer ``rgba`` (h, w, 4) under what is drawn, outlines ``ink`` darkened by ``line``.

    ``front`` (h, w, 3) collects light, ``clear`` (h, w) is the share that still shines through.
    """
    h, w = clear.shape
    for y in range(h):
        for x in range(w):
            alpha = rgba[y, x, 3]
            if alpha <= 0.0:
                continue
            mark = line * ink[y, x]
            alpha = max(alpha, mark)
            share = clear[y, x] * alpha * (1.0 - mark)
            for k in range(3):
                front[y, x, k] += share * rgba[y, x, k]
            clear[y, x] *= 1.0 - alpha


@njit(cache=True)
def shrink(image: Any, factor: int, out: Any) -> None:
    """Mean over blocks of ``factor`` x ``factor`` pixels of ``image`` into ``out`` (h, w, 3)."""
    share = 1.0 / (factor * factor)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for k in range(3):
                total = 0.0
                for dy in range(factor):
                    for dx in range(factor):
                        total += image[y * factor + dy, x * factor + dx, k]
                out[y, x, k] = total * share


@njit(cache=True)
def reslice(data: Any, origin: Any, du: Any, dv: Any, outside: float, out: Any) -> None:
    """Trilinear samples of ``data`` at index ``origin + x*du + y*dv`` into ``out`` (h, w)."""
    ni, nj, nk = data.shape
    h, w = out.shape
    for y in range(h):
        for x in range(w):
            i = origin[0] + x * du[0] + y * dv[0]
            j = origin[1] + x * du[1] + y * dv[1]
            k = origin[2] + x * du[2] + y * dv[2]
            if i < 0 or j < 0 or k < 0 or i > ni - 1 or j > nj - 1 or k > nk - 1:
                out[y, x] = outside
                continue
            i0 = min(int(i), max(ni - 2, 0))
            j0 = min(int(j), max(nj - 2, 0))
            k0 = min(int(k), max(nk - 2, 0))
            i1, j1, k1 = min(i0 + 1, ni - 1), min(j0 + 1, nj - 1), min(k0 + 1, nk - 1)
            fi, fj, fk = i - i0, j - j0, k - k0
            c00 = data[i0, j0, k0] * (1 - fi) + data[i1, j0, k0] * fi
            c10 = data[i0, j1, k0] * (1 - fi) + data[i1, j1, k0] * fi
            c01 = data[i0, j0, k1] * (1 - fi) + data[i1, j0, k1] * fi
            c11 = data[i0, j1, k1] * (1 - fi) + data[i1, j1, k1] * fi
            c0 = c00 * (1 - fj) + c10 * fj
            c1 = c01 * (1 - fj) + c11 * fj
            out[y, x] = c0 * (1 - fk) + c1 * fk


@njit(cache=True)
def crossing_segments(distance: Any, points: Any, faces: Any, out: Any) -> int:
    """Where faces cross the zero level of ``distance`` (n,): segments into ``out`` (m, 4).

    ``points`` (n, 2) picture coordinates. A vertex on the plane counts as above it, so contours of
    closed surfaces are closed. Returns the number of segments.
    """
    n = 0
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        sa, sb, sc = distance[a] >= 0.0, distance[b] >= 0.0, distance[c] >= 0.0
        if sa == sb and sb == sc:
            continue
        # Rotate so that `a` is alone on its side.
        if sb != sa and sb != sc:
            a, b, c = b, c, a
        elif sc != sa and sc != sb:
            a, b, c = c, a, b
        tb = distance[a] / (distance[a] - distance[b])
        tc = distance[a] / (distance[a] - distance[c])
        for k in range(2):
            out[n, k] = points[a, k] + tb * (points[b, k] - points[a, k])
            out[n, 2 + k] = points[a, k] + tc * (points[c, k] - points[a, k])
        n += 1
    return n


@njit(cache=True)
def stroke(segments: Any, width_px: float, cover: Any) -> None:
    """Coverage (0 to 1) of round-ended lines (n, 4) = x0, y0, x1, y1 in pixels, maximum wins."""
    h, w = cover.shape
    r = 0.5 * width_px
    reach = r + 1.0
    for n in range(segments.shape[0]):
        x0, y0, x1, y1 = segments[n, 0], segments[n, 1], segments[n, 2], segments[n, 3]
        left = max(0, int(np.floor(min(x0, x1) - reach)))
        right = min(w - 1, int(np.ceil(max(x0, x1) + reach)))
        top = max(0, int(np.floor(min(y0, y1) - reach)))
        bottom = min(h - 1, int(np.ceil(max(y0, y1) + reach)))
        dx, dy = x1 - x0, y1 - y0
        ll = dx * dx + dy * dy
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                t = 0.0
                if ll > 0.0:
                    t = min(1.0, max(0.0, ((x - x0) * dx + (y - y0) * dy) / ll))
                ex, ey = x - x0 - t * dx, y - y0 - t * dy
                c = min(1.0, max(0.0, r + 0.5 - np.sqrt(ex * ex + ey * ey)))
                if c > cover[y, x]:
                    cover[y, x] = c


@njit(cache=True)
def inside(segments: Any, filled: Any) -> None:
    """Even-odd fill of closed contours (n, 4) in pixels; rows of an open contour stay empty."""
    h, w = filled.shape
    crossings = np.zeros(h, dtype=np.int64)
    for n in range(segments.shape[0]):
        x0, y0, x1, y1 = segments[n, 0], segments[n, 1], segments[n, 2], segments[n, 3]
        if y0 == y1:
            continue
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        first = max(0, int(np.ceil(y0)))
        last = min(h - 1, int(np.ceil(y1)) - 1)
        for y in range(first, last + 1):
            x = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            crossings[y] += 1
            column = max(0, int(np.ceil(x)))
            if column < w:
                filled[y, column] ^= 1
    for y in range(h):
        state = 0
        for x in range(w):
            state ^= filled[y, x]
            filled[y, x] = state if crossings[y] % 2 == 0 else 0
