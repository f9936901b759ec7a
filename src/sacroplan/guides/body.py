"""The guide's body as one distance field: shell on the bone, slot tower, wire sleeves, fillets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError, PlanError
from sacroplan.geometry.fields import smooth_union
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.guides.cutline import CutLine
from sacroplan.guides.seat import SEAT_GRID_MM, Seat
from sacroplan.guides.wires import KWire

BODY_GRID_MM = 0.5
"""Grid of the outer body; only its looks depend on it, fit and slot are cut exactly."""

SHELL_GRID_MM = 1.0
"""Grid of the shell's field, which is smooth 4 mm away from the bone; refined by cubic splines."""

STEEP = 2.5
"""Slope (tangent, 68 degrees from the removal axis) beyond which bone no longer carries the guide."""

EDGE_RADIUS_MM = 1.5
"""Rounding of outer edges: gloves and soft tissue pass over them."""

PATCH_COLUMNS = 3
"""Every third column (1.05 mm) carries the shell."""

OUTLINE_MM = 1.5
"""Smoothing of the guide's outline."""

RIM_SMOOTHING_MM = 1.0
"""The patch ends in steps where the bone turns too steep; smoothing rounds the rim they leave."""


@dataclass(frozen=True, eq=False)
class Tower:
    """Block around the slot in cut line coordinates (mm): along, saw, across.

    ``top_mm`` is the height of the platform at ``a_mm``.
    """

    line: CutLine
    low_mm: float
    high_mm: float
    specimen_mm: float
    remnant_mm: float
    a_mm: FloatArray
    top_mm: FloatArray
    foot_mm: FloatArray

    def top(self, a_mm: FloatArray) -> FloatArray:
        """Height ``s`` of the platform at ``a_mm``."""
        return np.asarray(np.interp(a_mm, self.a_mm, self.top_mm))

    def corners(self, grown_mm: float = 0.0) -> FloatArray:
        """(8, 3) LPS corners of a box round the tower, grown along and across the cut."""
        g = grown_mm
        spans = (
            (self.low_mm - g, self.high_mm + g),
            (float(self.foot_mm.min()), float(self.top_mm.max())),
            (-self.specimen_mm - g, self.remnant_mm + g),
        )
        return self.line.to_world(np.stack(np.meshgrid(*spans), axis=-1).reshape(-1, 3))


@dataclass(frozen=True, eq=False)
class Stop:
    """A platform on which the blade's shoulder lands when its teeth are through the bone.

    Attributes
    ----------
    far_mm : (n,) height ``s`` of the bone's far side at the cut line's ``a_mm``. length_mm : of the
        blade, shoulder to teeth. overrun_mm : how far the teeth go beyond the bone. width_mm : of the
        blade. rise_mm : most that the platform is raised.
    """

    far_mm: FloatArray
    length_mm: float
    overrun_mm: float
    width_mm: float
    rise_mm: float

    def raised(self, line: CutLine, a_mm: FloatArray, top_mm: FloatArray) -> FloatArray:
        """The platform (m,) at ``a_mm`` (even steps), from the lowest ``top_mm`` that it may have.

        Raises :class:`PlanError` where the blade is too short for the cut.
        """
        from scipy.ndimage import gaussian_filter1d, minimum_filter1d

        step = float(a_mm[1] - a_mm[0])
        inside = np.clip(a_mm, line.low_mm, line.high_mm)
        wanted = np.interp(inside, line.a_mm, self.far_mm) + self.length_mm - self.overrun_mm
        # The shoulder rests on the highest place under the blade: none may be higher than any of
        # the bone within the blade's width allows.
        least = minimum_filter1d(wanted, round(self.width_mm / step) | 1, mode="nearest")
        short = float((top_mm - least)[a_mm == inside].max())
        if short > 0.0:
            raise PlanError(
                f"The saw blade is {self.length_mm:g} mm long, shoulder to teeth, and would not come "
                f"through the bone: {np.ceil(self.length_mm + short):.0f} mm are needed. Give a longer "
                "blade under [guides] in case.toml, or leave blade_length_mm out for a guide without "
                "depth stop."
            )
        smooth = np.minimum(least, gaussian_filter1d(least, 2.0 / step, mode="nearest"))
        return np.asarray(np.clip(smooth, top_mm, top_mm + self.rise_mm))

    def overruns(
        self, a_mm: FloatArray, top_mm: FloatArray, far_mm: FloatArray
    ) -> tuple[float, float]:
        """How far the teeth pass the bone when the blade has been everywhere: least, and most, mm.

        ``top_mm`` (k,) is the platform as built and ``far_mm`` (k,) the bone's far side at ``a_mm``
        (even steps). Below 0 bone is left standing.
        """
        from scipy.ndimage import maximum_filter1d, minimum_filter1d

        n = max(1, round(self.width_mm / float(a_mm[1] - a_mm[0]))) | 1
        tip = maximum_filter1d(top_mm, n, mode="nearest") - self.length_mm
        deepest = minimum_filter1d(tip, n, mode="nearest")
        return float((far_mm - deepest).min()), float((far_mm - deepest).max())


def tower(
    line: CutLine,
    higher_edge: FloatArray,
    slot_height_mm: float,
    bridge_mm: float,
    beyond_mm: float,
    specimen_mm: float,
    remnant_mm: float,
    foot_mm: float,
    stop: Stop | None = None,
) -> Tower:
    """Slot tower whose platform stays ``slot_height_mm`` above the bone on both slot walls.

    ``higher_edge`` (n,) is the bone's edge at ``line.a_mm`` on the slot wall where it is higher. With
    ``stop`` the platform is as much higher as the blade is longer than needed.
    """
    from scipy.ndimage import gaussian_filter1d, maximum_filter1d

    low, high = line.low_mm - bridge_mm, line.high_mm + beyond_mm + bridge_mm
    a = np.arange(low, high + 0.25, 0.25)
    # A straightedge laid over the bone: hollows are bridged, so that the saw rests without rocking.
    edge = _taut(a, np.interp(a, line.a_mm, higher_edge))
    # Highest edge within 5 mm, then smoothed over less than that: never below the bone's own edge.
    top = gaussian_filter1d(maximum_filter1d(edge, 41, mode="nearest"), 8.0, mode="nearest")
    top += slot_height_mm
    if stop is not None:
        top = stop.raised(line, a, top)
    foot = np.interp(a, line.a_mm, line.s_mm) - foot_mm
    return Tower(line, low, high, specimen_mm, remnant_mm, a, top, foot)


def _taut(x: FloatArray, y: FloatArray) -> FloatArray:
    """Upper convex hull of the curve (x ascending), sampled at ``x``."""
    hull: list[int] = []
    for n in range(len(x)):
        while len(hull) > 1:
            i, j = hull[-2], hull[-1]
            if (y[j] - y[i]) * (x[n] - x[i]) > (y[n] - y[i]) * (x[j] - x[i]):
                break
            hull.pop()
        hull.append(n)
    return np.asarray(np.interp(x, x[hull], y[hull]))


def smooth_intersection(a: FloatArray, b: FloatArray, radius_mm: float) -> FloatArray:
    """Common part of two distance fields with rounded edges."""
    return np.asarray(-smooth_union(-a, -b, radius_mm))


def tower_field(shape: Tower, points: FloatArray) -> FloatArray:
    """Distance (n,) of LPS ``points`` (n, 3) to the tower."""
    local = shape.line.to_local(points)
    a, s, x = local.T
    flat = np.maximum(x - shape.remnant_mm, -shape.specimen_mm - x)
    ends = np.maximum(a - shape.high_mm, shape.low_mm - a)
    sides = smooth_intersection(flat, ends, EDGE_RADIUS_MM)
    upper = smooth_intersection(sides, s - shape.top(a), EDGE_RADIUS_MM)
    foot = np.interp(a, shape.a_mm, shape.foot_mm) - s
    return smooth_intersection(upper, foot, EDGE_RADIUS_MM)


def sleeve_field(wire: KWire, radius_mm: float, points: FloatArray) -> FloatArray:
    """Distance (n,) to a wire's sleeve; it begins 2 mm inside the bone, so that it meets the seat."""
    d = wire.direction
    rel = points - wire.start
    axial = rel @ d
    radial = np.linalg.norm(rel - np.outer(axial, d), axis=1) - radius_mm
    depth = float((wire.entry - wire.start) @ d) + 2.0
    return np.maximum(smooth_intersection(radial, -axial, EDGE_RADIUS_MM), axial - depth)


def footprint(
    seat: Seat,
    line: CutLine,
    shape: Tower,
    waist_mm: float,
    specimen_mm: float,
    wires: Sequence[KWire],
    lobe_mm: float,
    foot_mm: float,
    blend_mm: float,
) -> FloatArray:
    """(i, j) signed distance of each seat column to the outline of the guide, negative inside."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    points = seat.points()
    unknown = ~np.isfinite(points[..., 2])
    index = distance_transform_edt(unknown, return_distances=False, return_indices=True)
    points[..., 2] = points[..., 2][tuple(index)]
    local = line.to_local(seat.frame.to_world(points.reshape(-1, 3)))
    # Widths are measured along the bone, which an oblique cut leaves at a flat angle.
    tilt = seat.normals(8.0).reshape(-1, 3) @ (seat.frame.axes.T @ line.across)
    a, x = local[:, 0], local[:, 2] / np.sqrt(np.clip(1.0 - tilt**2, 0.25, 1.0))
    corner = 5.0
    dx = np.maximum(x - waist_mm, -specimen_mm - x) + corner
    da = np.maximum(a - shape.high_mm, shape.low_mm - a) + corner
    strip = np.hypot(np.maximum(dx, 0), np.maximum(da, 0)) + np.minimum(np.maximum(dx, da), 0)
    out = strip - corner
    flat = points.reshape(-1, 3)[:, :2]
    if line.crest:
        # A foot on the crest, across the cut from the wires, keeps the guide from turning.
        foot = np.hypot(a - (line.high_mm - lobe_mm), x + specimen_mm + foot_mm)
        out = smooth_union(out, foot - lobe_mm, blend_mm)
    for wire in wires:
        # An arm from the cut to the wire, however far an oblique cut puts it from the strip.
        at = float(line.to_local(wire.entry[None])[0, 0])
        root = line.to_world(np.array([[at, float(line.edge(np.array(at))), 0.0]]))[0]
        ends = seat.frame.to_local(np.stack([root, wire.entry]))[:, :2]
        out = smooth_union(out, _segment(flat, ends[0], ends[1]) - lobe_mm, blend_mm)
    # A rough bone must not fray the outline.
    return np.asarray(gaussian_filter(out.reshape(unknown.shape), OUTLINE_MM / SEAT_GRID_MM))


def _segment(points: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """Distance (n,) of ``points`` (n, 2) to the segment from ``a`` to ``b``."""
    d = b - a
    t = np.clip((points - a) @ d / max(float(d @ d), 1e-12), 0.0, 1.0)
    return np.asarray(np.linalg.norm(points - a - t[:, None] * d, axis=1))


def bearing(seat: Seat, outline: FloatArray, margin_mm: float) -> npt.NDArray[np.bool_]:
    """(i, j) columns that carry the guide: near the outline, not steep, in one piece."""
    from scipy.ndimage import label

    # The smoothed slope gives the shell an even rim where the bone turns away.
    steepness = 1.0 / np.sqrt(1.0 + STEEP**2)
    good = np.isfinite(seat.height_mm) & (seat.normals(2.0)[..., 2] > steepness)
    good &= outline < margin_mm
    pieces, count = label(good)
    if not count:
        raise GeometryError("No bone lies under the outline of the guide.")
    size = np.bincount(pieces.ravel())[1:]
    return np.asarray(pieces == 1 + int(np.argmax(size)))


def shell_field(
    seat: Seat,
    carries: npt.NDArray[np.bool_],
    outline: FloatArray,
    thickness_mm: float,
    geometry: VolumeGeometry,
) -> FloatArray:
    """Distance field (shape of ``geometry``) of the shell on the bearing columns."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    from sacroplan.geometry import _kernels

    step = PATCH_COLUMNS
    points = seat.points()[::step, ::step]
    good = carries[::step, ::step]
    ni, nj = good.shape
    number = np.arange(ni * nj).reshape(ni, nj)
    quad = good[:-1, :-1] & good[1:, :-1] & good[:-1, 1:] & good[1:, 1:]
    a, b = number[:-1, :-1][quad], number[1:, :-1][quad]
    c, d = number[1:, 1:][quad], number[:-1, 1:][quad]
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    patch = points.reshape(-1, 3)
    band_mm = thickness_mm + 3.0
    band = band_mm / SHELL_GRID_MM
    shape = tuple(int(n * BODY_GRID_MM / SHELL_GRID_MM) + 2 for n in geometry.shape)
    coarse = VolumeGeometry(
        (shape[0], shape[1], shape[2]),
        np.full(3, SHELL_GRID_MM),
        geometry.origin,
        geometry.direction,
        geometry.frame,
    )
    squared = np.full(shape, band**2, dtype=np.float32)
    nearest = np.full(shape, -1, dtype=np.int32)
    index = coarse.to_index(seat.frame.to_world(np.nan_to_num(patch)))
    _kernels.splat_triangles(index, faces, np.array(shape), band, squared, nearest)
    ratio = BODY_GRID_MM / SHELL_GRID_MM
    away = np.minimum(np.sqrt(squared), band) * SHELL_GRID_MM
    away = gaussian_filter(away, RIM_SMOOTHING_MM / SHELL_GRID_MM)
    fine = zoom_to(away, geometry.shape, ratio)
    distance = fine - thickness_mm
    corner = seat.frame.to_local(geometry.origin[None])[0]
    i = (corner[0] - seat.low[0] + BODY_GRID_MM * np.arange(geometry.shape[0])) / SEAT_GRID_MM
    j = (corner[1] - seat.low[1] + BODY_GRID_MM * np.arange(geometry.shape[1])) / SEAT_GRID_MM
    where = np.stack(np.meshgrid(i, j, indexing="ij"))
    edge = map_coordinates(outline, where, order=1, mode="nearest")
    return smooth_intersection(distance, edge[..., None], 2.0 * EDGE_RADIUS_MM)


def zoom_to(values: FloatArray, shape: tuple[int, int, int], ratio: float) -> FloatArray:
    """``values`` on a grid ``ratio`` times as fine with the same first point, by cubic splines."""
    from scipy.ndimage import affine_transform

    return np.asarray(
        affine_transform(
            values.astype(np.float32),
            np.full(3, ratio),
            output_shape=shape,
            order=3,
            mode="nearest",
        )
    )


def block(line: CutLine, low: FloatArray, high: FloatArray, frame: str) -> Surface:
    """Box with corners ``low`` and ``high`` (3,) in cut line coordinates; exact planes."""
    corner = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array([[q[0], q[1], q[2]] for q in quads] + [[q[0], q[2], q[3]] for q in quads])
    vertices = line.to_world(np.asarray(low) + corner * (np.asarray(high) - np.asarray(low)))
    out = Surface(vertices, faces, frame)
    return out if out.volume_mm3 > 0 else Surface(vertices, faces[:, ::-1], frame)
