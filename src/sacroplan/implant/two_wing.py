"""The patient-fitted two-wing sacral implant after total sacrectomy (RES-TOT).

A block under the L5 inferior endplate, drawn down along the endplate's normal as the first sacral body
was, runs through two wings into the iliac osteotomy faces (Lv 2023, section 2.2). The organic body is a
blend of lofts on a grid in the pelvic axes; everything that must be exact (planar seats, bores, saddles)
is cut afterwards by solids, so a seat lies on its cut plane to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.booleans import bodies, from_manifold, simplify, to_manifold
from sacroplan.geometry.fields import DistanceField, contour, distance_field
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.implant import connections, measure
from sacroplan.implant.lattice import LatticeDefinition, define
from sacroplan.implant.model import (
    Implant,
    ImplantInput,
    ImplantParameters,
    RodPost,
    Side,
    SutureHole,
    WingScrew,
    WingSeat,
)
from sacroplan.implant.outline import (
    RASTER_MM,
    Outline,
    PlanarField,
    cut_face,
    endplate_outline,
    raster,
)
from sacroplan.implant.shape import (
    Field,
    Rim,
    Wing,
    blend,
    block,
    coordinates,
    pillar,
    trim,
    window,
)
from sacroplan.progress import Progress, silent

__all__ = [
    "Implant",
    "ImplantInput",
    "ImplantParameters",
    "LatticeDefinition",
    "RodPost",
    "SutureHole",
    "WingScrew",
    "WingSeat",
    "design",
]

SIDES: tuple[Side, Side] = ("left", "right")

OUTLINE_DEPTH_MM = 3.0
"""The endplate's outline is read this far inside the vertebra, above the rim's rounding."""

SMOOTH_OUTLINE_MM = 1.5
"""Takes the 2-4 mm facets of a bone mesh out of an outline; rounder than any corner of the seat."""

BODY_ABOVE_MM = 0.7
"""The block reaches this far into the vertebra before the vertebra, offset, is cut out of it."""

STEEPEST_ROOF = 0.7
"""Where the bone rises steeper than this (35 degrees) at the rim the block stays behind: no thin lips."""

HIGHEST_ROOF_MM = 8.0
"""No endplate is concave deeper than this; a column without bone below it ends with its neighbours."""

SMOOTH_MM = 0.55
"""Sigma of the last smoothing of the field: takes creases out, moves 4 mm edges by under 0.1 mm."""

CRUMB_SHARE = 0.01
"""Loose pieces up to this share of the volume are offcuts; more means that the body fell apart."""


@dataclass(frozen=True, eq=False)
class _Local:
    """The input in the design frame (pelvic axes as coordinates)."""

    l5: Surface
    endplate: AxisFrame
    seats: dict[Side, WingSeat]
    specimen: Surface | None
    keep_clear: tuple[Surface, ...]
    wing_screws: tuple[Any, ...]
    rod_targets: dict[Side, FloatArray]


def design(
    inp: ImplantInput, parameters: ImplantParameters | None = None, progress: Progress = silent
) -> Implant:
    """Design the implant. Raises :class:`PlanError` where no implant can be built from the input.

    Overlap with bone stays under 1 mm3, the seats lie on the cut faces, L5 is met at ``endplate_gap_mm``;
    what falls short of an expectation is a doubt in the result.
    """
    p = parameters or ImplantParameters()
    local = _localise(inp)
    progress(0.0, "Outlines of the bone faces")
    faces, wings, plate = _outlines(local, p)

    middle = next(iter(wings.values())).middle
    geometry = _grid(local, wings, plate, middle, p)
    x, y, z = coordinates(geometry)
    progress(0.08, "Distance to bone")
    l5 = distance_field(local.l5, geometry, p.endplate_gap_mm + p.porous_mm + p.grid_mm)
    others = [distance_field(s, geometry) for s in _obstacles(local, geometry, p.bone_clearance_mm)]

    progress(0.25, "Block and wings")
    rim = Rim(*(evidence.value("SP-IMP-07", name) for name in ("thickness", "width", "slant")))
    span = _lofts(geometry, x, y, z, wings, rim, middle)
    column = block(
        x,
        y,
        z,
        plate,
        raster(plate, 40.0, SMOOTH_OUTLINE_MM),
        p.wing_drop_mm + 0.5 * p.wing_height_mm,
        p.body_taper_mm,
        _roof(l5, plate, p.endplate_gap_mm),
    )
    body = blend(span, column, p.fillet_mm)
    if p.window_width_mm > 0.0 and p.window_height_mm > 0.0:
        hole = window(x, y, z, plate, p.window_width_mm, p.window_height_mm, p.window_roof_mm)
        body, column = trim(body, -hole, 5.0), trim(column, -hole, 5.0)

    progress(0.4, "Posts and screws")
    doubts: list[Doubt] = []
    posts: list[RodPost] = []
    for side in SIDES:
        post, foot, said = connections.plan_post(
            side, local.rod_targets.get(side), wings[side], body, geometry, p
        )
        posts.append(post)
        doubts += said
        radius = 0.5 * evidence.value("SP-IMP-06", "outer_diameter")
        body = blend(body, pillar(x, y, z, foot, connections.post_top(post), radius, 0.1), 6.0)
    so_far = DistanceField(geometry, np.clip(body, -20.0, 40.0))
    screws, said_screws = _screws(local, wings, tuple(posts), l5, others, so_far, p)
    doubts += said_screws
    unseated = {s.name for s in screws if s.proposed} | connections.without_head(
        local.wing_screws, wings
    )
    screws = tuple(
        connections.seat_head(s, wings[s.side], body, geometry, p) if s.name in unseated else s
        for s in screws
    )
    for screw in screws:
        d = screw.direction
        foot, top = screw.bone_entry + 4.0 * d, screw.head - 0.3 * d
        radius = 0.5 * p.tool_diameter_mm + 1.0
        radius = max(0.5 * screw.hole_diameter_mm + p.hole_wall_mm, radius)
        body = blend(body, pillar(x, y, z, foot, top, radius), 4.0)

    progress(0.55, "Clearance to bone")
    bones = [local.l5, *(seat.hip for seat in local.seats.values())]
    if local.specimen is not None:
        front = measure.pelvic_front(geometry, [local.specimen, *bones])
        body = _behind(body, front, x, y, z, wings)
    free = np.float32(p.bone_clearance_mm)
    body = blend(trim(body, free - l5.values, 3.0), column, 2.0)
    for other in others:
        body = trim(body, free - other.values, 3.0)
    body = _smooth(body, p.grid_mm)
    holes = connections.plan_suture_holes(wings, body, geometry, l5, screws, tuple(posts), p)

    progress(0.65, "Surface")
    raw = simplify(_largest(contour(geometry, body), "implant body"), p.simplify_mm)
    progress(0.75, "Seats, bores, saddles")
    cutters: list[Surface] = []
    for screw in screws:
        cutters += connections.screw_cutters(screw, p, raw.frame)
    for post in posts:
        cutters += connections.post_cutters(post, local.rod_targets.get(post.side), raw.frame)
    cutters += [connections.suture_cutter(hole, raw.frame) for hole in holes]
    core, porous = _cut(raw, cutters, local, l5, plate, wings, p)
    progress(0.88, "Figures")
    lattice = {name: define(p.cell_mm, p.porosity_percent / 100.0, p.porous_mm) for name in porous}
    result = Implant(core, porous, lattice, screws, tuple(posts), holes, tuple(doubts), {})
    figures, said_figures = measure.figures(
        result,
        local.l5,
        local.endplate,
        local.seats,
        local.specimen,
        local.keep_clear,
        faces,
        plate,
        geometry,
    )
    result = replace(result, figures=figures, doubts=(*doubts, *said_figures))
    progress(1.0, "Implant done")
    return _to_world(result, inp.axes)


def _localise(inp: ImplantInput) -> _Local:
    surfaces = [inp.l5, *(s.hip for s in inp.seats), *inp.keep_clear]
    surfaces += [inp.specimen] if inp.specimen is not None else []
    same_frame(inp.axes, inp.l5_endplate, *(s.plane for s in inp.seats), *surfaces)
    a = inp.axes

    def move(s: Surface, what: str) -> Surface:
        return Surface(a.to_local(s.vertices), s.faces).require_closed(what)

    endplate = AxisFrame(
        inp.l5_endplate.name, a.to_local(inp.l5_endplate.origin), a.axes.T @ inp.l5_endplate.axes
    )
    if endplate.axes[1, 1] < 0.3:
        raise PlanError(
            "The L5 inferior endplate looks more than 70 degrees away from cranial; "
            "its frame needs y along the cranial normal."
        )
    seats = {}
    for seat in inp.seats:
        plane = Plane(a.to_local(seat.plane.point), a.axes.T @ seat.plane.normal)
        s = connections.sign_of(seat.side)
        if -s * plane.normal[2] < 0.3:
            raise PlanError(
                f"The normal of the {seat.side} cut face must point from the remnant towards the defect "
                f"(medially); it points {'laterally' if s * plane.normal[2] > 0 else 'along the face'}."
            )
        seats[seat.side] = WingSeat(seat.side, plane, move(seat.hip, f"remnant {seat.side}"))
    return _Local(
        move(inp.l5, "L5"),
        endplate,
        seats,
        None if inp.specimen is None else move(inp.specimen, "the specimen"),
        tuple(move(s, f"keep-clear solid {n + 1}") for n, s in enumerate(inp.keep_clear)),
        tuple(
            (n, a.to_local(np.asarray(e)), a.to_local(np.asarray(t)), d)
            for n, e, t, d in inp.wing_screws
        ),
        {side: a.to_local(np.asarray(v)) for side, v in inp.rod_targets.items()},
    )


def _outlines(
    local: _Local, p: ImplantParameters
) -> tuple[dict[Side, Outline], dict[Side, Wing], Outline]:
    up = np.array([0.0, 1.0, 0.0])
    plate = endplate_outline(local.l5, local.endplate, OUTLINE_DEPTH_MM)
    plate = plate.eroded(p.inset_mm, p.corner_radius_mm)
    if not plate.loops:
        raise PlanError("The L5 inferior endplate is too small for the implant's block.")
    centre = plate.to_world(plate.centroid_uv)
    middle = (
        centre
        - p.wing_drop_mm * local.endplate.axes[:, 1]
        - p.wing_setback_mm * local.endplate.axes[:, 0]
    )
    faces: dict[Side, Outline] = {}
    wings: dict[Side, Wing] = {}
    for side in SIDES:
        seat = local.seats[side]
        face = cut_face(seat.hip, seat.plane, up, middle, side)
        limit = (centre[1] + p.reach_above_l5_mm - seat.plane.point[1]) / face.axes[1, 1]
        whole = face.eroded(p.inset_mm, 0.0)
        region = whole.below(limit) if whole.loops else whole
        pieces = region.eroded(0.0, p.corner_radius_mm).pieces() if region.loops else []
        if not pieces:
            raise PlanError(
                f"The {side} cut face has no room for a seat below {p.reach_above_l5_mm:g} mm above the "
                "L5 endplate; move the osteotomy or raise reach_above_l5_mm."
            )
        faces[side] = face
        wings[side] = Wing(
            connections.sign_of(side),
            middle,
            seat.plane,
            pieces[0],
            raster(pieces[0], 40.0, SMOOTH_OUTLINE_MM),
            0.5 * p.wing_depth_mm,
            0.5 * p.wing_height_mm,
            p.edge_break_mm,
        )
    return faces, wings, plate


def _roof(l5: DistanceField, plate: Outline, gap_mm: float) -> PlanarField:
    """Height of the vertebra's underside over the endplate's plane, its steep rim cut back."""
    corners = np.concatenate(plate.loops)
    centre = plate.centroid_uv
    n = np.ceil((np.abs(corners - centre).max(axis=0) + 6.0) / RASTER_MM).astype(int)
    low = centre - n * RASTER_MM
    u = low[0] + RASTER_MM * np.arange(2 * n[0] + 1)
    v = low[1] + RASTER_MM * np.arange(2 * n[1] + 1)
    uv = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1)
    heights = np.arange(-HIGHEST_ROOF_MM, HIGHEST_ROOF_MM + 0.01, 0.4)
    base = plate.to_world(uv.reshape(-1, 2))
    points = base[:, None] + heights[:, None] * plate.axes[:, 2]
    d = l5.at(points.reshape(-1, 3)).reshape(*uv.shape[:2], len(heights)) - gap_mm
    bone = d < 0.0
    hit = np.argmax(bone, axis=2)
    after = np.take_along_axis(d, hit[..., None], axis=2)[..., 0]
    before = np.take_along_axis(d, np.maximum(hit - 1, 0)[..., None], axis=2)[..., 0]
    part = np.where(hit > 0, np.clip(before / np.maximum(before - after, 1e-9), 0.0, 1.0), 1.0)
    roof = np.where(bone.any(axis=2), heights[np.maximum(hit - 1, 0)] + 0.4 * part, HIGHEST_ROOF_MM)
    # Lower every point to what a slope of STEEPEST_ROOF from its neighbours reaches.
    for _ in range(int(sum(roof.shape))):
        lowered = roof
        for axis in (0, 1):
            for shift in (-1, 1):
                moved = np.roll(lowered, shift, axis=axis) + STEEPEST_ROOF * RASTER_MM
                edge: list[Any] = [slice(None), slice(None)]
                edge[axis] = 0 if shift == 1 else -1
                moved[tuple(edge)] = np.inf
                lowered = np.minimum(lowered, moved)
        if np.array_equal(lowered, roof):
            break
        roof = lowered
    return PlanarField(low, (roof + BODY_ABOVE_MM).astype(np.float32))


def _grid(
    local: _Local, wings: dict[Side, Wing], plate: Outline, middle: FloatArray, p: ImplantParameters
) -> VolumeGeometry:
    """Grid around everything the implant may reach, mirror-symmetric about the middle plane z = 0."""
    low_end = plate.rim - (p.wing_drop_mm + 0.5 * p.wing_height_mm) * local.endplate.axes[:, 1]
    post = evidence.value("SP-IMP-06", "reach") + 14.0
    back = middle - [0.5 * p.wing_depth_mm + post, 0.0, 0.0]
    points = np.concatenate([plate.rim, low_end, back[None], *(w.seat.rim for w in wings.values())])
    margin = np.array([8.0, 14.0, 5.0])
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    h = p.grid_mm
    half = float(np.abs([low[2], high[2]]).max())
    low[2], high[2] = -h * np.ceil(half / h), h * np.ceil(half / h)
    low[:2] = h * np.floor(low[:2] / h)
    n = np.ceil((high - low) / h - 1e-9).astype(int) + 1
    return VolumeGeometry((int(n[0]), int(n[1]), int(n[2])), np.full(3, h), low)


def _obstacles(local: _Local, geometry: VolumeGeometry, clearance_mm: float) -> list[Surface]:
    """Solids near the grid: those to keep clear of, and remnants in front of their own cut plane."""
    near = []
    low = geometry.origin - clearance_mm
    high = geometry.origin + geometry.extent_mm + clearance_mm
    ahead = []
    for seat in local.seats.values():
        # What of a remnant stands more than a hair before its own cut face is an obstacle.
        offset = float(seat.plane.point @ seat.plane.normal) + 0.05
        piece, _ = to_manifold(seat.hip).split_by_plane(tuple(seat.plane.normal), offset)
        if not piece.is_empty() and piece.volume() > 1.0:
            ahead.append(from_manifold(piece, seat.hip.frame))
    for surface in (*local.keep_clear, *ahead):
        b = surface.bounds
        if np.all(b[1] >= low) and np.all(b[0] <= high):
            near.append(surface)
    return near


def _lofts(
    geometry: VolumeGeometry,
    x: Field,
    y: Field,
    z: Field,
    wings: dict[Side, Wing],
    rim: Rim,
    middle: FloatArray,
) -> Field:
    out = np.full(geometry.shape, 1e3, dtype=np.float32)
    for side in SIDES:
        wing = wings[side]
        half = wing.sign * (z[0, 0] - middle[2]) >= -0.5 * float(geometry.spacing_mm[2])
        out[:, :, half] = np.minimum(out[:, :, half], wing.evaluate(x, y, z[:, :, half], rim))
    return out


def _behind(
    body: Field, front: Field, x: Field, y: Field, z: Field, wings: dict[Side, Wing]
) -> Field:
    """Keep the body behind the former pelvic face (``front``: x per column), with relief at the seats."""
    relief = evidence.value("SP-IMP-08", "seat_relief")
    near = np.full(body.shape, np.float32(relief))
    for wing in wings.values():
        n, q = wing.plane.normal, wing.plane.point
        b = n[0] * (x - q[0]) + n[1] * (y - q[1]) + n[2] * (z - q[2])
        np.minimum(near, np.maximum(b, 0.0), out=near)
    limit = front[None] + np.float32(relief) - near
    return trim(body, (0.8 * (x - limit)).astype(np.float32), 4.0)


def _smooth(field: Field, grid_mm: float) -> Field:
    from scipy.ndimage import gaussian_filter

    # A loft's value far away is no distance; clipped, it cannot reach into the smoothing.
    return np.asarray(
        gaussian_filter(np.clip(field, -6.0, 6.0), SMOOTH_MM / grid_mm, mode="nearest"),
        dtype=np.float32,
    )


def _screws(
    local: _Local,
    wings: dict[Side, Wing],
    posts: tuple[RodPost, ...],
    l5: DistanceField,
    others: list[DistanceField],
    body: DistanceField,
    p: ImplantParameters,
) -> tuple[tuple[WingScrew, ...], list[Doubt]]:
    if local.wing_screws:
        given, said = connections.given_screws(local.wing_screws, wings, p)
        return given, list(said)
    screws: list[WingScrew] = []
    doubts: list[Doubt] = []
    for side in SIDES:
        found, said = connections.propose_screws(
            side, wings[side], local.seats[side], posts, [l5, *others], body, p
        )
        screws += found
        doubts += said
    return tuple(screws), doubts


def _largest(surface: Surface, what: str) -> Surface:
    """The main piece; raises when more than offcuts would be lost."""
    pieces = bodies(surface)
    lost = sum(piece.volume_mm3 for piece in pieces[1:])
    if lost > CRUMB_SHARE * pieces[0].volume_mm3:
        raise PlanError(
            f"The {what} fell into {len(pieces)} pieces (second one "
            f"{pieces[1].volume_mm3:.0f} mm3); bones or screws to keep clear of cut it through."
        )
    return pieces[0]


def _cut(
    raw: Surface,
    cutters: list[Surface],
    local: _Local,
    l5: DistanceField,
    plate: Outline,
    wings: dict[Side, Wing],
    p: ImplantParameters,
) -> tuple[Surface, dict[str, Surface]]:
    """Trim the body to its seats, bore it, and part core and porous layers along shared faces."""
    import manifold3d

    solid = to_manifold(raw, "the implant body")
    for wing in wings.values():
        n = wing.plane.normal
        solid = solid.trim_by_plane(tuple(n), float(wing.plane.point @ n))
    crop = _crop(l5, plate.rim, p.porous_mm + 4.0)
    near = _offset(crop, p.endplate_gap_mm)
    tools = [to_manifold(c, "a cutter of the implant") for c in cutters]
    solid = manifold3d.Manifold.batch_boolean([solid, near, *tools], manifold3d.OpType.Subtract)
    layers: dict[str, Any] = {}
    inner = _offset(crop, p.endplate_gap_mm + p.porous_mm)
    layers["L5"], solid = solid ^ inner, solid - inner
    for side in SIDES:
        n = wings[side].plane.normal
        d = float(wings[side].plane.point @ n) + p.porous_mm
        solid, layers[f"wing_{side}"] = solid.split_by_plane(tuple(n), d)
    core = _largest(from_manifold(solid, raw.frame), "implant core")
    porous = {}
    for name, layer in layers.items():
        if layer.is_empty() or layer.volume() < 1.0:
            raise PlanError(
                f"The implant does not reach its {name} seat; bones or screws to keep clear of leave no "
                "room there."
            )
        porous[name] = _largest(from_manifold(layer, raw.frame), f"porous layer {name}")
    return core, porous


def _crop(field: DistanceField, points: FloatArray, margin_mm: float) -> DistanceField:
    index = field.geometry.to_index(points)
    pad = margin_mm / float(field.geometry.spacing_mm[0])
    top = np.array(field.geometry.shape)
    a = np.clip(np.floor(index.min(axis=0) - pad - [0, 20, 0]).astype(int), 0, top)
    b = np.clip(np.ceil(index.max(axis=0) + pad + [0, 20, 0]).astype(int) + 1, 0, top)
    part = np.ascontiguousarray(field.values[a[0] : b[0], a[1] : b[1], a[2] : b[2]])
    return DistanceField(field.geometry.cropped(a, b), part)


def _offset(field: DistanceField, offset_mm: float) -> Any:
    """Everything nearer to the bone than ``offset_mm``, as a manifold."""
    return to_manifold(contour(field.geometry, field.values, offset_mm), "the offset of L5")


def _to_world(implant: Implant, axes: AxisFrame) -> Implant:
    def points(v: FloatArray) -> FloatArray:
        return axes.to_world(v)

    def turn(v: FloatArray) -> FloatArray:
        return unit(axes.axes @ v)

    def move(s: Surface) -> Surface:
        return Surface(points(s.vertices), s.faces, axes.frame)

    return replace(
        implant,
        core=move(implant.core),
        porous={name: move(s) for name, s in implant.porous.items()},
        wing_screws=tuple(
            replace(s, head=points(s.head), bone_entry=points(s.bone_entry), tip=points(s.tip))
            for s in implant.wing_screws
        ),
        posts=tuple(
            replace(q, centre=points(q.centre), axis=turn(q.axis), opening=turn(q.opening))
            for q in implant.posts
        ),
        suture_holes=tuple(
            replace(h, centre=points(h.centre), axis=turn(h.axis)) for h in implant.suture_holes
        ),
    )
