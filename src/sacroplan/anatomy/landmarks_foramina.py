"""Sacral foramina: pits of the ventral and of the dorsal surface that no water would leave.

The sacrum is unrolled along its own curve: u to the right of its mirror plane, s down the ventral
midline from the promontory, t from that line towards the back. Seen so from the front (or from
behind), a foramen is a pit with a closed rim; its lid lies where water in it would overflow. Levels
come from the places of the pits below the promontory, never from their number alone [DIM-19].

Everything here works in local axes x anterior, y cranial, z right (mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.anatomy import landmarks_kernels as kernels
from sacroplan.anatomy.landmarks_repeats import Disturbance
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.volume import VolumeGeometry

LEVELS = ("S1", "S2", "S3", "S4")

NAMES = tuple(f"{level}{kind}F_{side}" for level in LEVELS for kind in "AP" for side in "LR")

OCCUPANCY_PER_MM = 0.45
"""Slope of the smoothed occupancy at the bone's surface: moves the surface by moving the level."""

STEP_MM = 0.75
"""Pixel of the unrolled pictures and step along their rays: half of a small dorsal foramen's rim."""

HALF_WIDTH_MM, LENGTH_MM = 45.0, 135.0
"""Extent of the unrolled pictures: the foramina lie within 40 mm of the midline and above S5."""

FRONT_MM, BACK_MM = 30.0, 70.0
"""Rays start this far in front of the ventral midline, or behind it; no sacrum is thicker."""

PROFILE_MM = (3.0, 95.0)
"""Part of the ventral midline, below the promontory, that its curve is fitted to."""

PROFILE_TUKEY_MM = 6.0
"""Points further than this off the curve (a tumour, a spur) have no say in it."""

PIT_MM = 1.5
"""A pit counts from this depth: the roughness of a surface from a 1 mm CT stays below it."""

DEEP_MM = {"A": 8.0, "P": 4.0}
"""Depth from which a pixel counts in full for the pit's centre: the shallow groove in which a nerve
leaves sideways pulls less than the hole itself."""

WEIGHT_POWER = {"A": 2, "P": 1}
"""Ventral openings flare sideways into such a groove, dorsal ones do not: the depth counts more."""

LEAST_AREA_MM2 = {"A": 15.0, "P": 5.0}
"""A pit smaller than this is a vessel's hole (ventral foramina 100 mm2 and more, dorsal 15 to 60)."""

NEAREST_MM, FARTHEST_MM = 6.0, 40.0
"""Distance of a foramen's centre from the mirror plane; nearer is a gap of the canal's roof."""

SCALES = np.arange(0.70, 1.36, 0.02)
"""Sizes of the sacrum against the usual pattern that are tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Foramen:
    """One opening. ``centre`` (3,) in its lid; inner and outer border and height of the pit, mm."""

    centre: FloatArray
    down_mm: float
    aside_mm: float
    inner_mm: float
    width_mm: float
    height_mm: float
    depth_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Unrolled:
    """The sacrum's own curved axes.

    ``bone`` is the smoothed occupancy on ``grid``. ``right`` (3,) u axis, ``down`` (ns, 3) points of the
    ventral midline curve, ``back`` (ns, 3) its normals; ``aside`` (nu,) and ``length`` (ns,) are u and s.
    """

    grid: VolumeGeometry
    bone: npt.NDArray[np.float32]
    right: FloatArray
    down: FloatArray
    back: FloatArray
    aside: FloatArray
    length: FloatArray


def unroll(
    grid: VolumeGeometry,
    inside: npt.NDArray[np.bool_],
    promontory: FloatArray,
    point: FloatArray,
    right: FloatArray,
    normal: FloatArray,
) -> Unrolled | None:
    """Curved axes of the sacrum ``inside`` (on ``grid``), None where its front does not show.

    ``point``, ``right`` (3,): the mirror plane. ``normal`` (3,): cranial normal of the S1 endplate.
    """
    from scipy import ndimage

    bone = ndimage.gaussian_filter(inside.astype(np.float32), 0.6)
    origin = promontory - ((promontory - point) @ right) * right
    low, high = PROFILE_MM
    # First the long axis of what lies near the midline below the promontory, then its front.
    index = np.argwhere(inside)
    p = grid.to_world(index.astype(np.float64)) - origin
    flat = p - (p @ right)[:, None] * right
    near = (np.abs(p @ right) < 6.0) & (np.linalg.norm(flat, axis=1) < high + 10.0)
    near &= flat @ normal < 0.0
    if np.count_nonzero(near) < 500:
        return None
    q = flat[near] - flat[near].mean(axis=0)
    up = np.linalg.eigh(q.T @ q)[1][:, 2]
    up = unit(up - (up @ right) * right)
    up = up if up @ normal > 0 else -up
    back = np.cross(up, right) * -1.0
    v = -np.arange(low, high, 1.0)
    aside = np.arange(-4.0, 4.1, 2.0)
    start = origin + aside[:, None, None] * right + v[:, None] * up - FRONT_MM * back
    rays = np.repeat(back[None], len(v), axis=0)
    first = _march(grid, bone, start, rays, FRONT_MM + BACK_MM, None) - FRONT_MM
    front = np.where(first < 0.6 * BACK_MM, first, np.nan)
    shown = np.isfinite(front).sum(axis=0) >= 3
    if np.count_nonzero(shown) < 30:
        return None
    w = np.nanmedian(front[:, shown], axis=0)
    at = v[shown]
    weight = np.ones(len(w))
    for _ in range(12):
        curve = np.polynomial.Polynomial.fit(at, w, 3, w=weight)
        off = w - curve(at)
        weight = np.clip(1.0 - (off / PROFILE_TUKEY_MM) ** 2, 1e-3, None)
    fine = -np.arange(0.0, 1.5 * LENGTH_MM, 0.1)
    inner = np.clip(fine, at.min(), at.max())
    # Beyond the part that is seen the curve goes on straight.
    height = curve(inner) + curve.deriv()(inner) * (fine - inner)
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(fine), np.diff(height)))])
    length = np.arange(0.0, LENGTH_MM + 1e-9, STEP_MM)
    vs, ws = np.interp(length, arc, fine), np.interp(length, arc, height)
    dv, dw = np.gradient(vs, length), np.gradient(ws, length)
    line = origin + vs[:, None] * up + ws[:, None] * back
    normals = dw[:, None] * up - dv[:, None] * back
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    side = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + 1e-9, STEP_MM)
    return Unrolled(grid, bone, right, line, normals, side, length)


def ventral_profile(view: Unrolled) -> FloatArray:
    """(ns,) how far the midline's front lies behind the fitted curve (mm), nan without bone."""
    near = np.abs(view.aside) <= 4.0
    start = view.down[None] + view.aside[near][:, None, None] * view.right - FRONT_MM * view.back
    first = _march(view.grid, view.bone, start, view.back, FRONT_MM + BACK_MM, None) - FRONT_MM
    return np.asarray(np.median(np.where(first < 0.6 * BACK_MM, first, np.nan), axis=0))


def _march(
    grid: VolumeGeometry,
    bone: npt.NDArray[np.float32],
    start: FloatArray,
    along: FloatArray,
    reach_mm: float,
    level: FloatArray | None,
) -> FloatArray:
    """Distance (mm) from ``start`` (nu, ns, 3) along ``along`` (ns, 3) to the first bone."""
    if level is None:
        level = np.full(start.shape[:2], 0.5)
    out = np.empty(start.shape[:2])
    index = grid.to_index(start.reshape(-1, 3)).reshape(start.shape)
    turned = (along @ grid.direction) / grid.spacing_mm
    count = round(reach_mm / STEP_MM)
    kernels.first_bone(bone, index, np.ascontiguousarray(turned), STEP_MM, count, level, out)
    return out * STEP_MM


def _pits(view: Unrolled, kind: str, level: FloatArray | None, depth_mm: float) -> list[Foramen]:
    """All pits of the ventral ("A") or dorsal ("P") surface."""
    from scipy import ndimage

    sign = 1.0 if kind == "A" else -1.0
    first = FRONT_MM if kind == "A" else BACK_MM
    base = view.down[None] + view.aside[:, None, None] * view.right
    start = base - sign * first * view.back[None]
    far = _march(view.grid, view.bone, start, sign * view.back, FRONT_MM + BACK_MM, level)
    height = -far
    water = kernels.flooded(height)
    depth = water - height
    number, _ = ndimage.label(depth > depth_mm)
    found = []
    for n, box in enumerate(ndimage.find_objects(number), start=1):
        mask = number[box] == n
        area = np.count_nonzero(mask) * STEP_MM**2
        if area < LEAST_AREA_MM2[kind]:
            continue
        i, j = np.nonzero(mask)
        i, j = i + box[0].start, j + box[1].start
        weight = np.minimum(depth[i, j], DEEP_MM[kind]) ** WEIGHT_POWER[kind]
        u = float(weight @ view.aside[i] / weight.sum())
        s = float(weight @ view.length[j] / weight.sum())
        if not NEAREST_MM <= abs(u) <= FARTHEST_MM:
            continue
        lid = -float(water[i, j].mean())
        t = sign * (lid - first)
        k = round(s / STEP_MM)
        share = s / STEP_MM - k
        m = min(max(k + (1 if share > 0 else -1), 0), len(view.length) - 1)
        at = view.down[k] + abs(share) * (view.down[m] - view.down[k])
        out = unit(view.back[k] + abs(share) * (view.back[m] - view.back[k]))
        centre = at + u * view.right + t * out
        across = np.abs(view.aside[i])
        found.append(
            Foramen(
                centre,
                s,
                u,
                float(across.min()),
                float(np.ptp(across)) + STEP_MM,
                float(np.ptp(view.length[j])) + STEP_MM,
                float(depth[i, j].max()),
            )
        )
    return found


def _assign(pits: list[Foramen], places: FloatArray, reach_mm: float) -> dict[int, Foramen]:
    """The deepest-and-nearest pit of one side for every place, each within ``reach_mm``."""
    out: dict[int, Foramen] = {}
    for n, place in enumerate(places):
        near = [p for p in pits if abs(p.down_mm - place) <= reach_mm]
        # A pit belongs to the place it is nearest to.
        near = [p for p in near if int(np.argmin(np.abs(places - p.down_mm))) == n]
        if near:
            out[n] = max(near, key=lambda p: p.width_mm * p.height_mm)
    return out


def disturbed_level(view: Unrolled, disturbance: Disturbance) -> FloatArray:
    """(nu, ns) level of occupancy that stands for a displaced surface."""
    u, s = np.meshgrid(view.aside, view.length, indexing="ij")
    flat = np.stack([u, s, np.zeros_like(u)], axis=-1).reshape(-1, 3)
    return 0.5 - OCCUPANCY_PER_MM * disturbance.height(flat).reshape(u.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Foramina:
    """Openings by landmark name (``S1AF_L`` ...), the size found against the usual pattern, and the
    number of ventral pits on each side (left, right), which may differ from four."""

    openings: dict[str, Foramen]
    size: float
    pits: tuple[int, int]


def find_foramina(
    view: Unrolled, level: FloatArray | None = None, depth_mm: float = PIT_MM
) -> Foramina | None:
    """Foramina S1 to S4 of both sides; those that do not show are absent. None where too few ventral
    ones show to tell their levels (SP-LMK-13).

    ``level`` (nu, ns): what counts as bone, for repeats on a disturbed surface.
    """
    row = "SP-LMK-09"
    front = np.array([evidence.value(row, f"{n}A") for n in LEVELS])
    behind = np.array([evidence.value(row, f"{n}P") for n in LEVELS])
    reach = evidence.value(row, "reach")
    ventral, dorsal = _pits(view, "A", level, depth_mm), _pits(view, "P", level, depth_mm)
    # The right side has u > 0.
    sides = {"L": -1.0, "R": 1.0}
    left_right = {k: [p for p in ventral if p.aside_mm * s > 0] for k, s in sides.items()}
    best, size, count = -np.inf, 1.0, 0
    for scale in SCALES:
        score, fitted = 0.0, 0
        for pits in left_right.values():
            for n, p in _assign(pits, scale * front, reach).items():
                score += 1.0 - ((p.down_mm - scale * front[n]) / reach) ** 2
                fitted += 1
        if score > best + 1e-9:
            best, size, count = score, float(scale), fitted
    # One or two pits fit the pattern at some size or other, wherever they lie.
    if count < evidence.value("SP-LMK-13", "least_pits"):
        return None
    openings: dict[str, Foramen] = {}
    for side, s in sides.items():
        for n, p in _assign(left_right[side], size * front, reach).items():
            openings[f"{LEVELS[n]}AF_{side}"] = p
        own = [p for p in dorsal if p.aside_mm * s > 0]
        for n, p in _assign(own, size * behind, reach).items():
            openings[f"{LEVELS[n]}PF_{side}"] = p
    return Foramina(openings, size, (len(left_right["L"]), len(left_right["R"])))


def nearest(found: Foramina, name: str, opening: Foramen) -> Foramen | None:
    """The same ``opening`` among those of a repeat, whatever level they were given there."""
    reach = evidence.value("SP-LMK-09", "reach")
    same = [o for n, o in found.openings.items() if n[2:] == name[2:]]
    apart = [float(np.linalg.norm(o.centre - opening.centre)) for o in same]
    return same[int(np.argmin(apart))] if apart and min(apart) <= reach else None
