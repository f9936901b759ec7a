"""Compiled painting of CT numbers: soft tissue first, then the bones."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from sacroplan.geometry.frames import FloatArray
from sacroplan.imaging.phantom._kernels import FAR, Grid, cone, smoothstep


@njit(cache=True)
def _table(z: float, table: FloatArray, column: int) -> float:
    n = len(table)
    if z <= table[0, 0]:
        return float(table[0, column])
    if z >= table[n - 1, 0]:
        return float(table[n - 1, column])
    k = 0
    while z > table[k + 1, 0]:
        k += 1
    t = (z - table[k, 0]) / (table[k + 1, 0] - table[k, 0])
    t = t * t * (3.0 - 2.0 * t)
    return float(table[k, column] + t * (table[k + 1, column] - table[k, column]))


@njit(cache=True)
def _ellipsoid(x: float, y: float, z: float, e: FloatArray, o: int) -> float:
    q = (x - e[o]) / e[o + 3], (y - e[o + 1]) / e[o + 4], (z - e[o + 2]) / e[o + 5]
    r = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    return float((r - 1.0) * min(e[o + 3], min(e[o + 4], e[o + 5])))


@njit(cache=True)
def _mix(inside: float, outside: float, distance: float, width: float) -> float:
    """``inside`` where distance < 0, ``outside`` beyond; linear over ``width`` (partial volume)."""
    t = min(1.0, max(0.0, 0.5 + distance / width))
    return inside + t * (outside - inside)


@njit(cache=True)
def noise_at(noise: Grid, i: int, j: int, k: int) -> float:
    """Periodic noise block (n, n, n), n a power of two."""
    n = noise.shape[0] - 1
    return float(noise[i & n, j & n, k & n])


@njit(cache=True, parallel=True)
def paint_soft(
    hu: Grid,
    near: Grid,
    origin: FloatArray,
    spacing: FloatArray,
    outline: FloatArray,
    cavities: FloatArray,
    organs: FloatArray,
    psoas: FloatArray,
    back: FloatArray,
    coarse: Grid,
    coarse_mm: float,
    table_y: float,
    seat_y: float,
    gut_z: float,
    level: FloatArray,
) -> None:
    """Soft tissue, air and table on the whole grid.

    ``near`` is the distance to any bone (capped), ``outline`` rows of z, half-width, front y, back y,
    fat at the side, in front, behind; ``cavities`` (n, 6) ellipsoids of the belly, ``organs`` (n, 7)
    ellipsoids with their HU, ``psoas`` (n, 8) cones, ``back`` (n, 8) cones of the erector spinae,
    ``coarse`` a periodic noise block of ``coarse_mm``; the table lies behind ``table_y``, gluteal muscles
    behind ``seat_y``, bowel above ``gut_z``; ``level`` HU of air, fat, muscle, skin, bowel,
    table.
    """
    air, fat, muscle, skin, bowel, bench = level
    width = spacing[0]
    for i in prange(hu.shape[0]):
        x = origin[0] + i * spacing[0]
        fc, fo, fp, fb = cavities.ravel(), organs.ravel(), psoas.ravel(), back.ravel()
        for k in range(hu.shape[2]):
            z = origin[2] + k * spacing[2]
            half = _table(z, outline, 1)
            front = _table(z, outline, 2)
            rear = _table(z, outline, 3)
            fat_side = _table(z, outline, 4)
            fat_front = _table(z, outline, 5)
            fat_rear = _table(z, outline, 6)
            cy = 0.5 * (front + rear)
            hy = 0.5 * (rear - front)
            deep = smoothstep((outline[2, 0] - z) / 60.0)
            for j in range(hu.shape[1]):
                y = origin[1] + j * spacing[1]
                q, s = abs(x) / half, abs(y - cy) / hy
                value = air
                body = FAR
                if q < 1.1 and s < 1.1:
                    # Superellipse of exponent 2.5.
                    gx, gy = q * math.sqrt(q), s * math.sqrt(s)
                    r = (q * gx + s * gy) ** 0.4
                    gx, gy = gx / half, gy / hy
                    grad = math.sqrt(gx * gx + gy * gy) / (max(r, 1e-3) * math.sqrt(max(r, 1e-3)))
                    body = (r - 1.0) / max(grad, 1e-4)
                # The cleft between the buttocks.
                if deep > 0.0 and abs(x) < 30.0 and y > cy + 0.55 * hy:
                    body += 28.0 * deep * ((y - cy) / hy - 0.55) * math.exp(-((x / 9.0) ** 2))
                if body < 2.0:
                    grain = noise_at(
                        coarse,
                        int((x + 512.0) / coarse_mm),
                        int((y + 512.0) / coarse_mm),
                        int((z + 1024.0) / coarse_mm),
                    )
                    # Fat thickness from the direction on the outline.
                    c2 = q * q / max(q * q + s * s, 1e-6)
                    ring = c2 * fat_side + (1.0 - c2) * (fat_rear if y > cy else fat_front)
                    inner = body + ring + 0.8 * grain
                    # Fibrous septa make fat and muscle look alive.
                    strand = fat + 9.0 * grain
                    belly = FAR
                    for e in range(len(cavities)):
                        belly = min(belly, _ellipsoid(x, y, z, fc, 6 * e))
                    flesh = muscle + 5.0 * grain
                    if abs(grain - 0.55) < 0.07 and near[i, j, k] > 3.0:
                        flesh = 0.5 * (flesh + fat)
                    value = _mix(flesh, strand, inner, 2.0)
                    if belly < 3.0:
                        keep = 11.0 - near[i, j, k]
                        for e in range(len(psoas)):
                            keep = max(keep, 1.5 - cone(x, y, z, fp, 8 * e))
                        inside = max(max(belly, keep), inner + 9.0)
                        gut = strand
                        if z > gut_z and grain > 0.15:
                            gut = bowel + 12.0 * grain
                            if grain > 1.45:
                                gut = -850.0
                        for e in range(len(organs)):
                            gut = _mix(fo[7 * e + 6], gut, _ellipsoid(x, y, z, fo, 7 * e), 2.0)
                        value = _mix(gut, value, inside, 2.0)
                    # Fat planes around the muscles of the back and around the psoas.
                    if inner < 0.0 and near[i, j, k] > 1.5:
                        d = FAR
                        for e in range(len(back)):
                            d = min(d, cone(x, y, z, fb, 8 * e))
                        d = abs(d + 0.5 * grain)
                        if belly > 2.0 and y > seat_y:
                            # Between the gluteal muscles, which lie on the hip bone in layers.
                            d = min(d, abs(near[i, j, k] + 1.2 * grain - 15.0))
                        value += (0.8 * (fat - value)) * (1.0 - smoothstep((d - 0.5) / 0.9))
                    value = _mix(value, skin, body + 1.5, 1.0)
                    value = _mix(value, air, body, width)
                elif y > table_y and y < table_y + 45.0:
                    # A curved carbon shell on foam.
                    sag = 0.0016 * x * x
                    d = y - (table_y + 36.0) + sag
                    if abs(x) < 178.0 and d < 0.0 and y > table_y + 6.0 - 0.2 * sag:
                        value = -930.0
                        if d > -2.5 or y < table_y + 8.5 - 0.2 * sag:
                            value = bench
                hu[i, j, k] = value


@njit(cache=True, parallel=True)
def keep_nearest(near: Grid, field: Grid) -> None:
    """Minimum of two fields, in place."""
    for i in prange(near.shape[0]):
        for j in range(near.shape[1]):
            for k in range(near.shape[2]):
                near[i, j, k] = min(near[i, j, k], field[i, j, k])


@njit(cache=True, parallel=True)
def paint_disc(
    hu: Grid, origin: FloatArray, spacing: FloatArray, seat: FloatArray, level: float
) -> None:
    """Intervertebral disc: an elliptic plate before the bones are painted over it.

    ``seat`` = centre (3,), axis (3,), half-width, half-depth, half-height; HU ``level``.
    """
    for i in prange(hu.shape[0]):
        for j in range(hu.shape[1]):
            for k in range(hu.shape[2]):
                dx = origin[0] + i * spacing[0] - seat[0]
                dy = origin[1] + j * spacing[1] - seat[1]
                dz = origin[2] + k * spacing[2] - seat[2]
                h = dy * seat[4] + dz * seat[5]
                v = dy * seat[5] - dz * seat[4]
                q, s = abs(dx) / seat[6], abs(v) / seat[7]
                r = (q**2.4 + s**2.4) ** (1.0 / 2.4)
                d = max((r - 1.0) * seat[7], abs(h) - seat[8])
                if d < 1.0:
                    # The ring is denser than the nucleus.
                    hu[i, j, k] = _mix(level + 25.0 * r * r, hu[i, j, k], d, 1.5)


@njit(cache=True, parallel=True)
def paint_bone(
    hu: Grid,
    label: Grid,
    field: Grid,
    origin: FloatArray,
    spacing: FloatArray,
    number: int,
    shell: float,
    ends: FloatArray,
    cortical: float,
    marrow: float,
    fine: Grid,
    coarse: Grid,
    fine_mm: float,
    coarse_mm: float,
    texture: float,
) -> None:
    """One bone into the image and the labels, on its box.

    ``shell`` cortex thickness, or with ``ends`` = z, z, thickness a thickness that grows downwards;
    ``fine`` and ``coarse`` periodic noise blocks.
    """
    width = 0.5 * (spacing[0] + spacing[2])
    for i in prange(hu.shape[0]):
        x = origin[0] + i * spacing[0]
        for j in range(hu.shape[1]):
            y = origin[1] + j * spacing[1]
            for k in range(hu.shape[2]):
                f = field[i, j, k]
                if f < width:
                    z = origin[2] + k * spacing[2]
                    c = noise_at(
                        coarse,
                        int((x + 512.0) / coarse_mm),
                        int((y + 512.0) / coarse_mm),
                        int((z + 1024.0) / coarse_mm),
                    )
                    g = noise_at(
                        fine,
                        int((x + 512.0) / fine_mm),
                        int((y + 512.0) / fine_mm),
                        int((z + 1024.0) / fine_mm),
                    )
                    t = shell
                    if ends[2] > 0.0:
                        t += (ends[2] - shell) * smoothstep((ends[0] - z) / (ends[0] - ends[1]))
                    t *= 1.0 + 0.15 * c
                    spongy = marrow + texture * g + 0.5 * texture * c
                    # Trabeculae thicken towards the shell.
                    spongy += 120.0 * math.exp((f + t) / 2.5)
                    value = _mix(spongy, cortical + 60.0 * g, f + t, 1.0)
                    hu[i, j, k] = _mix(value, hu[i, j, k], f, width)
                    if f < 0.0:
                        label[i, j, k] = number


@njit(cache=True, parallel=True)
def paint_tumour(
    hu: Grid,
    label: Grid,
    origin: FloatArray,
    spacing: FloatArray,
    balls: FloatArray,
    coarse: Grid,
    coarse_mm: float,
    level: float,
    host: int,
    number: int,
) -> None:
    """Lytic tumour with a soft part in front: ``balls`` (n, 4) spheres blended and made uneven."""
    width = spacing[0]
    for i in prange(hu.shape[0]):
        x = origin[0] + i * spacing[0]
        for j in range(hu.shape[1]):
            y = origin[1] + j * spacing[1]
            for k in range(hu.shape[2]):
                z = origin[2] + k * spacing[2]
                d = 1e3
                for e in range(len(balls)):
                    r = math.sqrt(
                        (x - balls[e, 0]) ** 2 + (y - balls[e, 1]) ** 2 + (z - balls[e, 2]) ** 2
                    )
                    g = r - balls[e, 3]
                    h = max(8.0 - abs(d - g), 0.0) / 8.0
                    d = min(d, g) - h * h * 2.0
                if d > 6.0:
                    continue
                d += 1.6 * (
                    math.sin(0.21 * x + 1.0) * math.sin(0.26 * y + 2.0)
                    + math.sin(0.24 * z + 0.12 * x)
                )
                own = label[i, j, k]
                if own != 0 and own != host:
                    continue
                if d < width:
                    c = noise_at(
                        coarse,
                        int((x + 512.0) / coarse_mm),
                        int((y + 512.0) / coarse_mm),
                        int((z + 1024.0) / coarse_mm),
                    )
                    value = level + 9.0 * c
                    # A few remnants of bone in the destroyed part.
                    if own == host and c > 1.5:
                        value += 140.0
                    hu[i, j, k] = _mix(value, hu[i, j, k], d, width)
                    if d < 0.0:
                        label[i, j, k] = number


@njit(cache=True, parallel=True)
def add_noise(hu: Grid, noise: Grid, amplitude: float) -> None:
    """Add scaled noise in place."""
    for i in prange(hu.shape[0]):
        for j in range(hu.shape[1]):
            for k in range(hu.shape[2]):
                hu[i, j, k] += amplitude * noise[i, j, k]


def periodic_noise(rng: np.random.Generator, n: int, sigma: float) -> npt.NDArray[np.float32]:
    """Smooth periodic noise block (n, n, n) of unit variance; ``sigma`` in voxels."""
    white = rng.standard_normal((n, n, n))
    frequency = np.fft.fftfreq(n)
    decay = np.exp(-2.0 * (np.pi * sigma * frequency) ** 2)
    spectrum = np.fft.fftn(white) * decay[:, None, None] * decay[None, :, None] * decay
    block = np.fft.ifftn(spectrum).real
    return np.asarray((block / block.std()).astype(np.float32))
