"""Compiled fields of the synthetic patient.

Every field is an approximate signed distance in mm, negative inside, first-order exact at the
surface. Points arrive in world LPS; a *map* vector brings them to the reference pose:

    0-8 rotation (row major), 9-11 translation, 12-14 scale x, y, z,
    15-17 extra x scale: amount, z where it starts, z where it is complete (reference mm),
    18 side (+1 or -1 mirrors x), 19 mean scale,
    20-23 bend about x: radians, z start, z end, and pivot y (reference mm),
    24 relative difference of the halves of a midline bone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from sacroplan.geometry.frames import FloatArray

Grid = npt.NDArray[Any]
"""An image or a field on a grid, of any number type."""

FAR = 20.0
"""Fields are capped here: nothing farther from a bone is of interest."""


@njit(cache=True)
def smoothstep(t: float) -> float:
    """Cubic ramp from 0 to 1 over t in [0, 1]."""
    t = min(1.0, max(0.0, t))
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True)
def smooth_min(a: float, b: float, k: float) -> float:
    """Polynomial smooth minimum; the blend is ``k`` mm wide."""
    h = max(k - abs(a - b), 0.0) / k
    return min(a, b) - h * h * k * 0.25


@njit(cache=True)
def smooth_max(a: float, b: float, k: float) -> float:
    """Polynomial smooth maximum; the blend is ``k`` mm wide."""
    return -smooth_min(-a, -b, k)


@njit(cache=True)
def to_reference(m: FloatArray, px: float, py: float, pz: float) -> tuple[float, float, float]:
    """World to reference pose."""
    x = m[0] * px + m[1] * py + m[2] * pz + m[9]
    y = m[3] * px + m[4] * py + m[5] * pz + m[10]
    z = m[6] * px + m[7] * py + m[8] * pz + m[11]
    y /= m[13]
    z /= m[14]
    if m[20] != 0.0:
        a = m[20] * smoothstep((m[21] - z) / (m[21] - m[22]))
        c, s = math.cos(a), math.sin(a)
        dy, dz = y - m[23], z - m[21]
        y = m[23] + c * dy - s * dz
        z = m[21] + s * dy + c * dz
    sx = m[12]
    if m[15] != 0.0:
        sx += m[15] * smoothstep((z - m[16]) / (m[17] - m[16]))
    x = m[18] * x / sx
    return x * (1.0 - m[24] * math.tanh(x / 20.0)), y, z


@njit(cache=True)
def _basis(t: float, w: FloatArray, d: FloatArray) -> None:
    s = 1.0 - t
    w[0] = s * s * s / 6.0
    w[1] = (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0
    w[2] = (-3.0 * t * t * t + 3.0 * t * t + 3.0 * t + 1.0) / 6.0
    w[3] = t * t * t / 6.0
    d[0] = -0.5 * s * s
    d[1] = 1.5 * t * t - 2.0 * t
    d[2] = -1.5 * t * t + t + 0.5
    d[3] = 0.5 * t * t


@njit(cache=True)
def sheet(
    x: float,
    y: float,
    z: float,
    axes: FloatArray,
    start: FloatArray,
    step: float,
    centre: FloatArray,
    square: FloatArray,
    mirror: bool,
    w4: FloatArray,
    d4: FloatArray,
    v4: FloatArray,
    e4: FloatArray,
) -> float:
    """Distance to the solid between two spline surfaces; w4, d4, v4, e4 are scratch (4,)."""
    u = axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z
    v = axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z
    w = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z
    if mirror:
        u = abs(u)
    a = (u - start[0]) / step - 1.0
    b = (v - start[1]) / step - 1.0
    i = math.floor(a)
    j = math.floor(b)
    nu, nv = centre.shape
    if i < 0 or j < 0 or i > nu - 4 or j > nv - 4:
        return FAR
    _basis(a - i, w4, d4)
    _basis(b - j, v4, e4)
    c = 0.0
    cu = 0.0
    cv = 0.0
    t = 0.0
    tu = 0.0
    tv = 0.0
    for p in range(4):
        sc = 0.0
        scv = 0.0
        st = 0.0
        stv = 0.0
        for q in range(4):
            kc = centre[i + p, j + q]
            kt = square[i + p, j + q]
            sc += v4[q] * kc
            scv += e4[q] * kc
            st += v4[q] * kt
            stv += e4[q] * kt
        c += w4[p] * sc
        cu += d4[p] * sc
        cv += w4[p] * scv
        t += w4[p] * st
        tu += d4[p] * st
        tv += w4[p] * stv
    cu /= step
    cv /= step
    tu /= step
    tv /= step
    e = w - c
    value = e * e - t
    gu = 2.0 * e * cu + tu
    gv = 2.0 * e * cv + tv
    if value < 0.0:
        # Inside, the gradient vanishes on the mid-surface: take its w part at the nearer face.
        h = math.sqrt(t)
        slope = math.sqrt(4.0 * t + gu * gu + gv * gv)
        return float(-2.0 * h * (h - abs(e)) / max(slope, 1e-6))
    slope = math.sqrt(4.0 * e * e + gu * gu + gv * gv)
    f = value / max(slope, 1e-6)
    if t > 0.0:
        # Far above a face e*e grows faster than the distance: the linear form is the better one.
        h = math.sqrt(t)
        s = h if e >= 0.0 else -h
        gu = 2.0 * s * cu + tu
        gv = 2.0 * s * cv + tv
        f = max(f, 2.0 * h * (abs(e) - h) / max(math.sqrt(4.0 * t + gu * gu + gv * gv), 1e-6))
    return float(min(f, FAR))


@njit(cache=True)
def body(x: float, y: float, z: float, b: FloatArray) -> float:
    """Vertebral body from four sagittal corners.

    ``b``: 0-7 y, z of the corners anterior-top, posterior-top, anterior-bottom, posterior-bottom;
    8 half-width at the endplates, 9 waist (fraction), 10 anterior and 11 posterior exponent of the
    outline, 12 depth of the upper and 13 of the lower endplate's hollow, 14 half-width of the upper
    relative to the lower endplate, minus one.
    """
    # Signed distances to the two endplate lines, positive inside the body.
    ty, tz = b[2] - b[0], b[3] - b[1]
    tl = math.sqrt(ty * ty + tz * tz)
    top = -(-tz * (y - b[0]) + ty * (z - b[1])) / tl
    by, bz = b[6] - b[4], b[7] - b[5]
    bl = math.sqrt(by * by + bz * bz)
    bottom = (-bz * (y - b[4]) + by * (z - b[5])) / bl
    total = max(top + bottom, 1.0)
    zeta = min(1.25, max(-1.25, (bottom - top) / total))
    up = 0.5 * (1.0 + zeta)
    dy, dz = ty / tl + by / bl, tz / tl + bz / bl
    n = math.sqrt(dy * dy + dz * dz)
    dy /= n
    dz /= n
    p = dy * y + dz * z
    front = up * (dy * b[0] + dz * b[1]) + (1.0 - up) * (dy * b[4] + dz * b[5])
    back = up * (dy * b[2] + dz * b[3]) + (1.0 - up) * (dy * b[6] + dz * b[7])
    narrow = 1.0 - b[9] * max(0.0, 1.0 - zeta * zeta)
    half_depth = 0.5 * (back - front) * (1.0 - 0.6 * (1.0 - narrow))
    half_width = b[8] * narrow * (1.0 + b[14] * zeta)
    s = (p - 0.5 * (front + back)) / half_depth
    q = x / half_width
    e = b[10] if s < 0.0 else b[11]
    aq, as_ = abs(q), abs(s)
    r = (aq**e + as_**e) ** (1.0 / e)
    if r < 1e-3:
        side = -min(half_width, half_depth)
    else:
        gq = (aq / r) ** (e - 1.0) / half_width
        gs = (as_ / r) ** (e - 1.0) / half_depth
        side = (r - 1.0) / math.sqrt(gq * gq + gs * gs)
    hollow = max(0.0, 1.0 - (r / 0.88) ** 2)
    ends = smooth_max(-top + b[12] * hollow, -bottom + b[13] * hollow, 1.0)
    return smooth_max(side, ends, 2.5)


@njit(cache=True)
def cone(x: float, y: float, z: float, c: FloatArray, o: int) -> float:
    """Round cone: ``c[o:o+8]`` = end points a, b and their radii."""
    ax, ay, az = c[o], c[o + 1], c[o + 2]
    dx, dy, dz = c[o + 3] - ax, c[o + 4] - ay, c[o + 5] - az
    px, py, pz = x - ax, y - ay, z - az
    t = (px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz)
    t = min(1.0, max(0.0, t))
    qx, qy, qz = px - t * dx, py - t * dy, pz - t * dz
    return float(math.sqrt(qx * qx + qy * qy + qz * qz) - (c[o + 6] + t * (c[o + 7] - c[o + 6])))


@njit(cache=True)
def canal(x: float, v: float, w: float, table: FloatArray) -> float:
    """Elliptic canal along v: rows of ``table`` are v, centre w, half-width, half-depth."""
    n = len(table)
    if v > table[0, 0]:
        k, t = 0, 0.0
    elif v < table[n - 1, 0]:
        return FAR
    else:
        k = 0
        while k < n - 2 and v < table[k + 1, 0]:
            k += 1
        t = (v - table[k, 0]) / (table[k + 1, 0] - table[k, 0])
    centre = table[k, 1] + t * (table[k + 1, 1] - table[k, 1])
    a = table[k, 2] + t * (table[k + 1, 2] - table[k, 2])
    b = table[k, 3] + t * (table[k + 1, 3] - table[k, 3])
    q, s = x / a, (w - centre) / b
    r = math.sqrt(q * q + s * s)
    if r < 1e-3:
        return float(-b)
    return (r - 1.0) * r / math.sqrt(q * q / (a * a) + s * s / (b * b))


@njit(cache=True, parallel=True)
def hip_field(
    out: Grid,
    origin: FloatArray,
    spacing: FloatArray,
    m: FloatArray,
    axes: FloatArray,
    start: FloatArray,
    step: float,
    centre: FloatArray,
    square: FloatArray,
    cup: FloatArray,
) -> None:
    """Hip bone on a box; ``cup`` = reference centre (3,) and radius of the acetabular cavity."""
    for i in prange(out.shape[0]):
        w4, d4, v4, e4 = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = to_reference(
                    m,
                    origin[0] + i * spacing[0],
                    origin[1] + j * spacing[1],
                    origin[2] + k * spacing[2],
                )
                f = sheet(x, y, z, axes, start, step, centre, square, False, w4, d4, v4, e4)
                if f < FAR:
                    d = math.sqrt((x - cup[0]) ** 2 + (y - cup[1]) ** 2 + (z - cup[2]) ** 2)
                    f = smooth_max(f, cup[3] - d, 2.0)
                out[i, j, k] = f * m[19]


@njit(cache=True, parallel=True)
def sacrum_field(
    out: Grid,
    origin: FloatArray,
    spacing: FloatArray,
    m: FloatArray,
    axes: FloatArray,
    start: FloatArray,
    step: float,
    centre: FloatArray,
    square: FloatArray,
    first: FloatArray,
    table: FloatArray,
    canals: FloatArray,
    plate: FloatArray,
) -> None:
    """Sacrum on a box.

    ``first`` is the S1 body, ``table`` the sacral canal, ``canals`` (n, 8) cones of the foramina with
    x >= 0 (cut on both sides), ``plate`` = y, z of a point on the S1 endplate, its unit normal (y, z),
    half-width and half-depth: above the plate and within that outline there is no bone.
    """
    for i in prange(out.shape[0]):
        w4, d4, v4, e4 = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
        flat = canals.ravel()
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = to_reference(
                    m,
                    origin[0] + i * spacing[0],
                    origin[1] + j * spacing[1],
                    origin[2] + k * spacing[2],
                )
                f = sheet(x, y, z, axes, start, step, centre, square, True, w4, d4, v4, e4)
                if f < FAR:
                    height = plate[2] * (y - plate[0]) + plate[3] * (z - plate[1])
                    along = plate[3] * (y - plate[0]) - plate[2] * (z - plate[1])
                    # How deep inside the column above the endplate this point lies.
                    r = ((abs(x) / plate[4]) ** 2.5 + (abs(along) / plate[5]) ** 2.5) ** 0.4
                    inside = (1.0 - r) * plate[5]
                    floor = height + 3.0 * smoothstep((0.93 - r) / 0.12)
                    f = smooth_max(f, min(floor, 0.8 * inside), 2.0)
                    f = smooth_min(f, body(x, y, z, first), 2.0)
                    v = axes[1, 1] * y + axes[1, 2] * z
                    w = axes[2, 1] * y + axes[2, 2] * z
                    f = smooth_max(f, -canal(x, v, w, table), 1.0)
                    for q in range(len(canals)):
                        f = smooth_max(f, -cone(abs(x), y, z, flat, 8 * q), 1.5)
                out[i, j, k] = f * m[19]


@njit(cache=True, parallel=True)
def vertebra_field(
    out: Grid,
    origin: FloatArray,
    spacing: FloatArray,
    m: FloatArray,
    shape: FloatArray,
    axes1: FloatArray,
    start1: FloatArray,
    step1: float,
    centre1: FloatArray,
    square1: FloatArray,
    axes2: FloatArray,
    start2: FloatArray,
    step2: float,
    centre2: FloatArray,
    square2: FloatArray,
) -> None:
    """Lumbar vertebra on a box: body ``shape``, pedicles with transverse processes (1), arch (2)."""
    for i in prange(out.shape[0]):
        w4, d4, v4, e4 = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = to_reference(
                    m,
                    origin[0] + i * spacing[0],
                    origin[1] + j * spacing[1],
                    origin[2] + k * spacing[2],
                )
                f = body(x, y, z, shape)
                g = sheet(x, y, z, axes1, start1, step1, centre1, square1, True, w4, d4, v4, e4)
                h = sheet(x, y, z, axes2, start2, step2, centre2, square2, True, w4, d4, v4, e4)
                f = smooth_min(f, smooth_min(g, h, 4.0), 3.5)
                out[i, j, k] = min(f, FAR) * m[19]


@njit(cache=True, parallel=True)
def femur_field(
    out: Grid,
    origin: FloatArray,
    spacing: FloatArray,
    m: FloatArray,
    head: FloatArray,
    cones: FloatArray,
    widths: FloatArray,
) -> None:
    """Proximal femur on a box: ``head`` sphere (4,), ``cones`` (n, 8) blended by ``widths`` (n,)."""
    for i in prange(out.shape[0]):
        flat = cones.ravel()
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = to_reference(
                    m,
                    origin[0] + i * spacing[0],
                    origin[1] + j * spacing[1],
                    origin[2] + k * spacing[2],
                )
                f = cone(x, y, z, flat, 0)
                for q in range(1, len(cones)):
                    f = smooth_min(f, cone(x, y, z, flat, 8 * q), widths[q])
                d = math.sqrt((x - head[0]) ** 2 + (y - head[1]) ** 2 + (z - head[2]) ** 2)
                f = smooth_min(f, d - head[3], 3.0)
                out[i, j, k] = min(f, FAR) * m[19]


@njit(cache=True, parallel=True)
def part_company(
    a: Grid,
    b: Grid,
    middle: Grid,
    origin: FloatArray,
    spacing: FloatArray,
    gap: float,
    rim: float,
    wedge: FloatArray,
) -> None:
    """Carve a gap between two fields in place, half from each, along their mid-surface.

    ``middle`` is half the difference of the fields as they come in. The gap is ``gap`` mm wide and
    opens along ``wedge`` = point (3,), direction (3,), distance over which it opens, extra width.
    The new edges are rounded over ``rim`` mm: a feather edge is neither anatomy nor a closed mesh.
    """
    ni, nj, nk = a.shape
    for i in prange(ni):
        i0, i1 = max(i - 1, 0), min(i + 1, ni - 1)
        for j in range(nj):
            j0, j1 = max(j - 1, 0), min(j + 1, nj - 1)
            for k in range(nk):
                p, q = a[i, j, k], b[i, j, k]
                if p < 0.8 * FAR and q < 0.8 * FAR:
                    k0, k1 = max(k - 1, 0), min(k + 1, nk - 1)
                    # Where the fields run steeper than distance the gap would come out too narrow.
                    gi = (middle[i1, j, k] - middle[i0, j, k]) / max((i1 - i0) * spacing[0], 0.1)
                    gj = (middle[i, j1, k] - middle[i, j0, k]) / max((j1 - j0) * spacing[1], 0.1)
                    gk = (middle[i, j, k1] - middle[i, j, k0]) / max((k1 - k0) * spacing[2], 0.1)
                    slope = math.sqrt(gi * gi + gj * gj + gk * gk)
                    # Only near the mid-surface: farther away the fields' slopes mean nothing.
                    m = middle[i, j, k]
                    trust = 1.0 - smoothstep((abs(m) - 1.5) / 2.0)
                    m /= 1.0 + trust * (min(2.5, max(0.7, slope)) - 1.0)
                    half = 0.5 * gap
                    if wedge[7] > 0.0:
                        d = wedge[3] * (origin[0] + i * spacing[0] - wedge[0])
                        d += wedge[4] * (origin[1] + j * spacing[1] - wedge[1])
                        d += wedge[5] * (origin[2] + k * spacing[2] - wedge[2])
                        half += 0.5 * wedge[7] * smoothstep(d / wedge[6])
                    a[i, j, k] = smooth_max(p, m + half, rim)
                    b[i, j, k] = smooth_max(q, half - m, rim)


@njit(cache=True, parallel=True)
def close_joint(
    a: Grid, b: Grid, origin: FloatArray, spacing: FloatArray, centre: FloatArray, radius: float
) -> None:
    """Swell two facing fields in place until they just meet, near ``centre`` only."""
    for i in prange(a.shape[0]):
        dx = origin[0] + i * spacing[0] - centre[0]
        for j in range(a.shape[1]):
            dy = origin[1] + j * spacing[1] - centre[1]
            for k in range(a.shape[2]):
                dz = origin[2] + k * spacing[2] - centre[2]
                near = 1.0 - smoothstep(
                    (math.sqrt(dx * dx + dy * dy + dz * dz) / radius - 0.7) / 0.3
                )
                total = a[i, j, k] + b[i, j, k]
                if near > 0.0 and -2.4 < total < 7.0:
                    grow = near * (0.5 * total + 1.2) * (1.0 - smoothstep((total - 1.0) / 3.5))
                    a[i, j, k] -= grow
                    b[i, j, k] -= grow
