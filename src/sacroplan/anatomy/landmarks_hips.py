"""Landmarks of one hip bone from extreme points and from its outline seen from the side.

Everything here works in *side axes* (a, s, l): anterior, cranial, lateral (mm), so that the left and
the right bone go through the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.anatomy.landmarks_shapes import extreme, on_surface
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

LIP_MM = 20.0
"""The lip between that bay and the notch lies within this distance behind the notch proper."""

SUMMIT_MM = 0.6
"""Outline this near to its extreme is the summit; its middle stands for the landmark."""

SPINE_MM = 0.3
"""The ischial spine stands out at least this far from the border above and below it."""

BUMP_MM = 0.15
"""A bump of the anterior border lower than this is the noise of the surface."""


@dataclass(frozen=True, slots=True, eq=False)
class HipShape:
    """A hip bone in side axes with what every rule needs."""

    surface: Surface
    areas: FloatArray
    """(n,) area of every vertex, mm2."""
    hip_centre: FloatArray | None
    """(3,) centre of the hip joint in side axes, where known."""

    @property
    def points(self) -> FloatArray:
        """(n, 3) vertices in side axes."""
        return self.surface.vertices


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
    hip: HipShape,
    part: npt.NDArray[np.bool_],
    levels: FloatArray,
    direction: tuple[float, float],
) -> FloatArray | None:
    """Furthest reach along ``direction`` (a, l) in the section at every level of s (1 mm apart).

    Over the edges between the vertices ``part`` (n,), so that coarse triangles leave no steps;
    smoothed over 5 mm.
    """
    f = hip.surface.faces
    i, j = np.concatenate([f[:, 0], f[:, 1], f[:, 2]]), np.concatenate([f[:, 1], f[:, 2], f[:, 0]])
    # Every edge stands in two faces, in opposite directions.
    used = (i < j) & part[i] & part[j]
    i, j = i[used], j[used]
    swap = hip.points[i, 1] > hip.points[j, 1]
    i, j = np.where(swap, j, i), np.where(swap, i, j)
    low, high = hip.points[i, 1], hip.points[j, 1]
    first = np.maximum(np.ceil(low - levels[0]), 0.0).astype(int)
    last = np.minimum(np.floor(high - levels[0]), len(levels) - 1.0).astype(int)
    count = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(i)), count)
    slot = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    share = (levels[slot] - low[edge]) / np.maximum(high[edge] - low[edge], 1e-9)
    reach = hip.points[:, [0, 2]] @ np.array(direction)
    value = reach[i[edge]] * (1.0 - share) + reach[j[edge]] * share
    out = np.full(len(levels), -np.inf)
    np.maximum.at(out, slot, value)
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
    back = _profile(hip, p[:, 0] < c[0] - 10.0, levels, (-0.87, -0.5))
    if back is None:
        return None
    peaks = [
        k
        for k in range(3, len(levels) - 3)
        if low <= levels[k] <= high
        and back[k] >= back[k - 2 : k + 3].max()
        and back[k] - max(back[max(0, k - 15) : k].min(), back[k : k + 15].min()) > SPINE_MM
    ]
    if not peaks:
        return None
    # The tuberosity below bulges as well, and further: the spine is the first bump under the notch.
    best = peaks[-1]
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


def outline(hip: HipShape, window: FloatArray | None = None) -> Outline:
    """Silhouette of the bone in the (a, s) plane, or of the part in ``window`` (2, 2) (low, high)."""
    from sacroplan.anatomy.landmarks_kernels import silhouette

    p = hip.points[:, :2]
    faces = hip.surface.faces
    if window is None:
        low, high = p.min(axis=0) - 2.0, p.max(axis=0) + 2.0
    else:
        low, high = window
        inside = np.all((p > low) & (p < high), axis=1)
        faces = faces[inside[faces].any(axis=1)]
    size = np.ceil((high - low) / RASTER_MM).astype(int) + 1
    mask = np.zeros((int(size[0]), int(size[1])), dtype=np.bool_)
    g = (p - low) / RASTER_MM
    silhouette(np.ascontiguousarray(g[:, 0]), np.ascontiguousarray(g[:, 1]), faces, mask)
    return Outline(mask, low)


def notch_window(hip: HipShape, view: Outline) -> FloatArray | None:
    """(2, 2) low and high corner (a, s) around the roof of the greater sciatic notch.

    The notch is the deepest pocket of the posterior outline. Pockets are what the outline lacks to
    its convex hull, so the rule needs no exact pose and works on a bone cut off below the notch.
    """
    from scipy.ndimage import distance_transform_edt, label
    from scipy.spatial import ConvexHull

    from sacroplan.anatomy.landmarks_kernels import silhouette

    index = np.argwhere(view.mask).astype(np.float64)
    corners = index[ConvexHull(index).vertices]
    fan = np.stack(
        [np.zeros(len(corners) - 2), np.arange(1, len(corners) - 1), np.arange(2, len(corners))],
        axis=1,
    ).astype(np.int32)
    hull = np.zeros_like(view.mask)
    silhouette(np.ascontiguousarray(corners[:, 0]), np.ascontiguousarray(corners[:, 1]), fan, hull)
    depth = distance_transform_edt(np.pad(hull, 1))[1:-1, 1:-1] * RASTER_MM
    pocket, count = label(hull & ~view.mask)
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
    core = view.at(
        np.argwhere((pocket == best) & (depth >= NOTCH_CORE * best_depth)).astype(np.float64)
    )
    roof = core[:, 1].max()
    behind, front = core[:, 0].min(), core[:, 0].max()
    return np.array([[behind - LIP_MM, roof - 25.0], [front + 4.0, roof + 25.0]])


def sciatic_notch(hip: HipShape, window: FloatArray | None) -> FloatArray | None:
    """Apex of the greater sciatic notch (LMK-GSN): most cranial point of its roof in the side view.

    ``window`` is that of :func:`notch_window`. The roof is searched in front of the lip (PIIS).
    """
    if window is None:
        return None
    from scipy.ndimage import label

    view = outline(hip, window)
    # The notch opens downwards: it is the largest free region along the lower border.
    free, _ = label(~view.mask)
    below = free[:, 0][free[:, 0] > 0]
    if not len(below):
        return None
    pocket = free == np.bincount(below).argmax()
    above = np.flip(np.flip(view.mask, axis=1).cumsum(axis=1), axis=1) > 0
    level = np.arange(view.mask.shape[1])
    roof = np.where(pocket & above, level, -1).max(axis=1)
    column = np.arange(len(roof))
    # Behind the notch proper the lip hangs down; the bay between PIIS and PSIS lies behind it.
    edge = round(LIP_MM / RASTER_MM)
    behind = np.flatnonzero((roof >= 0) & (column <= edge))
    lip = int(behind[len(behind) - 1 - np.argmin(roof[behind][::-1])]) if len(behind) else 0
    ahead = np.where(column >= lip, roof, -1)
    if ahead.max() < 0:
        return None
    summit = np.flatnonzero(ahead >= ahead.max() - SUMMIT_MM / RASTER_MM)
    apex = view.at(np.array([float(summit.mean()), float(ahead.max()) + 0.5]))
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
    """Local anterior extremum between ASIS and acetabular rim (LMK-AIIS); None where none shows.

    Where the anterior border has no extremum in this pose, its knee stands for it: what is proudest
    of the straight line from the ASIS to the acetabular rim.
    """
    if hip.hip_centre is None or spine is None:
        return None
    p, c = hip.points, hip.hip_centre
    low, high = c[1] + 8.0, spine[1] - 8.0
    if high - low < 24.0:
        return None
    # The pubic ramus lies in front of the bump, further medial.
    body = (p[:, 2] > c[2] - 22.0) & (p[:, 0] > c[0])
    levels = np.arange(low, high, 1.0)
    front = _profile(hip, body, levels, (1.0, 0.0))
    if front is None:
        return None
    # How far a level stands out above the deepest place on the way to the ASIS, and to the rim.
    to_spine = front - np.minimum.accumulate(front[::-1])[::-1]
    to_rim = front - np.minimum.accumulate(front)
    proud, least = np.minimum(to_spine, to_rim), BUMP_MM
    if proud.max() < least:
        # The border slopes back on its way down: compare with the straight line to the rim.
        line = np.interp(levels, [c[1], spine[1]], [c[0] + 20.0, spine[0]])
        proud = front - line
        inner = np.arange(len(levels))
        peak = (proud >= np.roll(proud, 1)) & (proud >= np.roll(proud, -1))
        peak &= (inner > 1) & (inner < len(levels) - 2) & (levels < high - 4.0)
        peak &= proud - np.minimum.accumulate(proud[::-1])[::-1] >= -1e-9
        if not peak.any():
            return None
        proud = np.where(peak, proud - proud.min() + 1.0, 0.0)
    top = int(np.argmax(proud))
    first = last = top
    # The summit of a low bump must not run over the dip beside it.
    below = min(SUMMIT_MM, 0.5 * float(proud[top]))
    while first > 0 and front[first - 1] >= front[top] - below:
        first -= 1
    while last < len(levels) - 1 and front[last + 1] >= front[top] - below:
        last += 1
    middle = 0.5 * (levels[first] + levels[last])
    around = body & (np.abs(p[:, 1] - middle) < 2.5)
    return _pick(hip, around, [1.0, 0.0, 0.0])


def all_points(
    hip: HipShape, window: FloatArray | None, own: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Every landmark that shows, in side axes; ``own`` points of the user guide the rules that follow.

    ``window`` is that of :func:`notch_window`.
    """
    out: dict[str, FloatArray] = {}

    def keep(name: str, point: FloatArray | None) -> FloatArray | None:
        if point is not None:
            out[name] = point
        return own.get(name, point)

    spine, upper = keep("ASIS", asis(hip)), keep("PSIS", psis(hip))
    keep("PT", pubic_tubercle(hip))
    notch = keep("GSN", sciatic_notch(hip, window))
    keep("PIIS", piis(hip, notch, upper))
    keep("AIIS", aiis(hip, spine))
    keep("ISP", ischial_spine(hip, notch))
    return out
