"""Landmarks of one hip bone from extreme points and from its outline seen from the side.

Everything here works in *side axes* (a, s, l): anterior, cranial, lateral (mm), so that the left and
the right bone go through the same code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.anatomy.landmarks_shapes import extreme, on_surface, vertex_areas
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface

RASTER_MM = 0.5
"""Pixel of the outline; the notch apex is then put back on the mesh."""

WING_ABOVE_HIP_MM = 30.0
"""The iliac wing begins this far above the hip centre, above the acetabular roof (head radius 20-30)."""

WING_HEIGHT_MM = 110.0
"""Without a hip centre: this much below the crest is wing (crest to hip centre is about 140 mm)."""

NOTCH_DEPTH_MM = 12.0
"""A pocket of the outline shallower than this is not the greater sciatic notch (usually 25-45 mm)."""

NOTCH_CORE = 0.5
"""Share of the notch's depth that belongs to the notch proper; the shallow bay between PSIS and PIIS
may be part of the same pocket and lies above it."""


@dataclass(frozen=True, slots=True, eq=False)
class HipShape:
    """A hip bone in side axes with what every rule needs."""

    surface: Surface
    areas: FloatArray
    hip_centre: FloatArray | None
    """(3,) centre of the hip joint in side axes, where known."""

    @property
    def points(self) -> FloatArray:
        """(n, 3) vertices in side axes."""
        return self.surface.vertices


def shape(surface: Surface, hip_centre: FloatArray | None) -> HipShape:
    """Bundle a hip bone given in side axes."""
    return HipShape(surface, vertex_areas(surface), hip_centre)


def _pick(hip: HipShape, mask: npt.NDArray[np.bool_], direction: list[float]) -> FloatArray | None:
    if np.count_nonzero(mask) < 10:
        return None
    return extreme(hip.points[mask], hip.areas[mask], np.array(direction))


def wing(hip: HipShape) -> npt.NDArray[np.bool_]:
    """Vertices of the iliac wing."""
    s = hip.points[:, 1]
    if hip.hip_centre is None:
        return np.asarray(s > s.max() - WING_HEIGHT_MM)
    return np.asarray(s > hip.hip_centre[1] + WING_ABOVE_HIP_MM)


def asis(hip: HipShape) -> FloatArray | None:
    """Most anterior point of the wing (LMK-ASIS)."""
    return _pick(hip, wing(hip), [1.0, 0.0, 0.0])


def psis(hip: HipShape) -> FloatArray | None:
    """Most posterior point of the wing (LMK-PSIS)."""
    return _pick(hip, wing(hip), [-1.0, 0.0, 0.0])


def pubic_tubercle(hip: HipShape) -> FloatArray | None:
    """Most anterior point of the pubis (LMK-PT); lateral is measured from the pelvic middle."""
    if hip.hip_centre is None:
        return None
    p, c = hip.points, hip.hip_centre
    mask = (p[:, 2] < 0.55 * c[2]) & (p[:, 1] < c[1] + 20.0) & (p[:, 0] > c[0])
    return _pick(hip, mask, [1.0, 0.0, 0.0])


def _profile(
    points: FloatArray, levels: FloatArray, direction: tuple[float, float]
) -> FloatArray | None:
    """Furthest reach along ``direction`` (a, l) at every level of s (1 mm apart), smoothed over 5 mm."""
    out = np.full(len(levels), -np.inf)
    near = (points[:, 1] > levels[0] - 0.5) & (points[:, 1] < levels[-1] + 0.5)
    slot = np.clip(np.rint(points[near, 1] - levels[0]).astype(int), 0, len(levels) - 1)
    np.maximum.at(out, slot, points[near][:, [0, 2]] @ np.array(direction))
    filled = np.isfinite(out)
    if np.count_nonzero(filled) < 10:
        return None
    out = np.interp(levels, levels[filled], out[filled])
    return np.convolve(np.pad(out, 2, mode="edge"), np.full(5, 0.2), mode="valid")


def ischial_spine(hip: HipShape, notch: FloatArray | None) -> FloatArray | None:
    """Ischial spine (LMK-ISP): the bump of the posterior border, back and inwards, between the
    greater notch above and the lesser below."""
    if hip.hip_centre is None or notch is None:
        return None
    p, c = hip.points, hip.hip_centre
    low, high = c[1] - 30.0, min(c[1] + 25.0, notch[1] - 15.0)
    levels = np.arange(low - 12.0, high + 12.0, 1.0)
    levels = levels[levels > p[:, 1].min() + 1.0]
    if len(levels) < 25:
        return None
    back = _profile(p[p[:, 0] < c[0] - 10.0], levels, (-0.87, -0.5))
    if back is None:
        return None
    best, proud = -1, 0.3
    for k in range(3, len(levels) - 3):
        if not low <= levels[k] <= high or back[k] < back[k - 2 : k + 3].max():
            continue
        rise = back[k] - max(back[max(0, k - 15) : k].min(), back[k : k + 15].min())
        if rise > proud:
            best, proud = k, rise
    if best < 0:
        return None
    reach = p[:, [0, 2]] @ np.array([-0.87, -0.5])
    near = (np.abs(p[:, 1] - levels[best]) < 4.0) & (reach > back[best] - 6.0)
    return _pick(hip, near, [-0.87, 0.0, -0.5])


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Side view of the bone: ``mask[i, j]`` at a = low[0] + i * step, s = low[1] + j * step."""

    mask: npt.NDArray[np.bool_]
    low: FloatArray

    def at(self, index: FloatArray) -> FloatArray:
        """Pixel indices (n, 2) to (a, s)."""
        return np.asarray(self.low + RASTER_MM * index)


def outline(hip: HipShape) -> Outline:
    """Silhouette of the bone in the (a, s) plane."""
    from sacroplan.anatomy.landmarks_kernels import silhouette

    p = hip.points[:, :2]
    low = p.min(axis=0) - 2.0
    size = np.ceil((p.max(axis=0) + 2.0 - low) / RASTER_MM).astype(int) + 1
    mask = np.zeros((int(size[0]), int(size[1])), dtype=np.bool_)
    g = (p - low) / RASTER_MM
    silhouette(
        np.ascontiguousarray(g[:, 0]), np.ascontiguousarray(g[:, 1]), hip.surface.faces, mask
    )
    return Outline(mask, low)


def sciatic_notch(hip: HipShape, view: Outline) -> FloatArray | None:
    """Apex of the greater sciatic notch (LMK-GSN): most cranial point of the deep posterior pocket.

    Pockets are what the outline lacks to its convex hull, so the rule needs no exact pose and
    works on a bone cut off below the notch.
    """
    from scipy.ndimage import label
    from scipy.spatial import ConvexHull

    index = np.argwhere(view.mask).astype(np.float64)
    hull = ConvexHull(index)
    grid = np.argwhere(np.ones_like(view.mask)).astype(np.float64)
    depth = np.full(len(grid), np.inf)
    for equation in hull.equations:
        depth = np.minimum(depth, -(grid @ equation[:2] + equation[2]))
    depth = depth.reshape(view.mask.shape) * RASTER_MM
    pocket, count = label((depth > 0.0) & ~view.mask)
    ilium = hip.hip_centre[0] if hip.hip_centre is not None else float(hip.points[:, 0].mean())
    top = hip.points[wing(hip), 1].max()
    best, best_depth = 0, NOTCH_DEPTH_MM
    for number in range(1, count + 1):
        inside = pocket == number
        # A hole (obturator foramen, thin wing) does not reach the hull.
        if depth[inside].min() > 2.0 * RASTER_MM:
            continue
        deepest = float(depth[inside].max())
        where = view.at(np.argwhere(inside & (depth == deepest))[0].astype(np.float64))
        if where[0] < ilium and where[1] < top - 40.0 and deepest > best_depth:
            best, best_depth = number, deepest
    if best == 0:
        return None
    core = np.argwhere((pocket == best) & (depth >= NOTCH_CORE * best_depth))
    roof = core[:, 1].max()
    apex = view.at(core[core[:, 1] >= roof - 1].astype(np.float64).mean(axis=0))
    apex[1] = view.at(np.array([0.0, float(roof)]))[1] + RASTER_MM
    near = np.linalg.norm(hip.points[:, :2] - apex, axis=1)
    rim = near <= max(3.0, float(near.min()) + 1.0)
    lateral = float((hip.points[rim, 2] * hip.areas[rim]).sum() / hip.areas[rim].sum())
    return on_surface(hip.surface, np.array([apex[0], apex[1], lateral]))


def piis(hip: HipShape, notch: FloatArray | None, upper: FloatArray | None) -> FloatArray | None:
    """Upper lip of the notch (LMK-PIIS): furthest down and back between PSIS and the notch."""
    if notch is None or upper is None:
        return None
    p = hip.points
    mask = (p[:, 0] < notch[0] - 5.0) & (p[:, 1] > notch[1] - 20.0) & (p[:, 1] < upper[1] - 8.0)
    return _pick(hip, mask, [-0.8, -0.6, 0.0])


def aiis(hip: HipShape, spine: FloatArray | None) -> FloatArray | None:
    """Anterior bump between ASIS and the acetabular rim (LMK-AIIS); None where it does not show."""
    if hip.hip_centre is None or spine is None:
        return None
    p, c = hip.points, hip.hip_centre
    low, high = c[1] + 8.0, spine[1] - 12.0
    if high - low < 20.0:
        return None
    # The pubic ramus lies in front of the bump, further medial.
    body = (p[:, 2] > c[2] - 22.0) & (p[:, 0] > c[0])
    levels = np.arange(low, high, 1.0)
    front = _profile(p[body], levels, (1.0, 0.0))
    if front is None:
        return None
    # The border slopes back on its way down: compare with the straight line to the hip centre.
    line = np.interp(levels, [c[1], spine[1]], [c[0] + 20.0, spine[0]])
    proud = front - line
    peaks = [
        k
        for k in range(2, len(levels) - 2)
        if proud[k] >= proud[k - 2 : k + 3].max() and proud[k] - proud[k:].min() > 1.0
    ]
    if not peaks:
        return None
    top = max(peaks, key=lambda k: proud[k])
    around = body & (np.abs(p[:, 1] - levels[top]) < 2.5)
    return _pick(hip, around, [1.0, 0.0, 0.0])
