"""Screws, rod posts and suture holes: where they go and what they cut. Design frame throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.fields import DistanceField, distance_field
from sacroplan.geometry.frames import AxisFrame, FloatArray, unit
from sacroplan.geometry.primitives import box, cylinder, lathe
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry, grid_around
from sacroplan.implant.model import (
    ImplantParameters,
    PlannedScrew,
    RodPost,
    Side,
    SutureHole,
    WingScrew,
    WingSeat,
)
from sacroplan.implant.shape import Field, Wing

TOOL_PATH_MM = 120.0
"""Straight way that a driver needs behind a screw's head; the depth of a posterior wound."""

HEAD_BEFORE_BONE_MM = (5.0, 25.0)
"""A planned entry within this before the bone says where the head sits, else only where the bone begins."""

THICKEST_WING_MM = 18.0
"""A head deeper in the wing than this would sit in a pit."""

SEARCH_GRID_MM = 1.5
"""Sampling of the remnant for the screw search; the screw room re-checks the winners on the mesh."""


SLOT_STEP_MM = 0.02
"""A slot's walls stand this much inside its round floor: tangent cutters leave faces without width."""

RASTER_STEP_MM = 1.0
"""Step between the middles of suture holes that are tried."""

SUTURE_WAYS = 12
"""Directions tried for a suture hole in its section, 15 degrees apart."""

BORDER_MM = 14.0
"""A hole is sought so far from the lowest or highest point of a section: the depth of a wing."""

BORDER_COST = 0.3
"""A hole may be so much longer (mm) for each mm that it lies nearer to the border."""

MOUTH_MM = 5.0
"""Free way before both mouths for a needle's tip."""


def sign_of(side: Side) -> float:
    """+1 on the right, where z of the pelvic frame is positive, -1 on the left."""
    return 1.0 if side == "right" else -1.0


def _to_plane(point: FloatArray, direction: FloatArray, wing: Wing) -> FloatArray:
    slope = float(direction @ wing.plane.normal)
    return np.asarray(point - direction * float(wing.plane.distance(point)) / slope)


def landing_mm(direction: FloatArray, wing: Wing, p: ImplantParameters) -> FloatArray:
    """Way along a screw from its head's landing to the bone that leaves a full wall under the landing.

    The landing is as wide as the driver; a slanting one comes nearer to the cut face on one side. There,
    too, the hole's wall (AM-12) must lie between it and the porous layer. ``direction`` (..., 3).
    """
    slope = np.asarray(-(direction @ wing.plane.normal))
    sine = np.sqrt(np.clip(1.0 - slope * slope, 0.0, 1.0))
    return np.asarray(
        (p.porous_mm + p.hole_wall_mm + 0.5 * p.tool_diameter_mm * sine) / np.maximum(slope, 1e-3)
    )


def _before_bone(entry: npt.ArrayLike, tip: npt.ArrayLike, wing: Wing) -> float:
    """Way along a planned screw from its entry to the cut face, mm."""
    a, b = np.asarray(entry, dtype=float), np.asarray(tip, dtype=float)
    d = unit(b - a)
    return float((_to_plane(a, d, wing) - a) @ d)


def _has_head(before_mm: float) -> bool:
    return HEAD_BEFORE_BONE_MM[0] <= before_mm <= HEAD_BEFORE_BONE_MM[1]


def without_head(planned: tuple[PlannedScrew, ...], wings: Mapping[Side, Wing]) -> set[str]:
    """Names of planned screws whose entry does not say where the head sits."""
    return {
        name
        for name, entry, tip, _ in planned
        if not _has_head(_before_bone(entry, tip, wings[_side(tip)]))
    }


def _side(tip: npt.ArrayLike) -> Side:
    return "right" if np.asarray(tip, dtype=float)[2] > 0 else "left"


def given_screws(
    planned: tuple[PlannedScrew, ...],
    wings: Mapping[Side, Wing],
    p: ImplantParameters,
) -> tuple[tuple[WingScrew, ...], tuple[Doubt, ...]]:
    """Planned iliac screws with their under-head point on the implant.

    The head sits at the planned entry where that lies 5 to 25 mm before the bone; else it is laid as near
    to the bone as a full wall under its landing allows, and :func:`seat_head` may still move it out.
    Raises :class:`PlanError` for a screw that runs along the cut face or away.
    """
    out, doubts = [], []
    for name, entry, tip, diameter in planned:
        a, b = np.asarray(entry, dtype=float), np.asarray(tip, dtype=float)
        side = _side(b)
        wing = wings[side]
        d = unit(b - a)
        if -float(d @ wing.plane.normal) < 0.17:
            raise PlanError(
                f"Screw {name!r} meets the {side} cut face at less than 10 degrees; "
                "aim it into the ilium or leave it out."
            )
        bone = _to_plane(a, d, wing)
        stated = _has_head(_before_bone(a, b, wing))
        head = (
            a if stated else bone - min(float(landing_mm(d, wing, p)), HEAD_BEFORE_BONE_MM[1]) * d
        )
        hole = diameter + p.hole_clearance_mm
        uv = wing.seat.to_plane(bone)
        margin = -float(wing.field.at(uv[:1], uv[1:])[0])
        if margin < 0.5 * hole + p.hole_wall_mm:
            doubts.append(
                Doubt(
                    "implant",
                    "implant.screw_off_seat",
                    f"Screw {name} enters the bone {margin:.1f} mm inside the {side} seat's edge; "
                    f"its hole needs {0.5 * hole + p.hole_wall_mm:.1f} mm.",
                    ("AM-12",),
                )
            )
        spare = float(np.linalg.norm(bone - head)) - float(landing_mm(d, wing, p))
        spare *= -float(d @ wing.plane.normal)
        structural = evidence.value("AM-02", "structural_wall")
        if spare < structural - p.hole_wall_mm:
            doubts.append(
                Doubt(
                    "implant",
                    "implant.thin_landing",
                    f"Under the head of screw {name} the solid thins to "
                    f"{max(spare + p.hole_wall_mm, 0.0):.1f} mm; {structural:g} mm are wanted. "
                    "Begin the screw further from the cut face or turn it towards the face.",
                    ("AM-02", "AM-12"),
                )
            )
        out.append(WingScrew(name, side, head, bone, b, float(diameter), hole, False))
    return tuple(out), tuple(doubts)


def propose_screws(
    side: Side,
    wing: Wing,
    seat: WingSeat,
    posts: tuple[RodPost, ...],
    obstacles: list[DistanceField],
    body: DistanceField,
    p: ImplantParameters,
) -> tuple[tuple[WingScrew, ...], tuple[Doubt, ...]]:
    """Simple iliac screw axes for one wing: long in bone, spread over the seat, open to the back.

    Candidates start on a 3 mm raster of the seat; directions sweep from lateral to anterior. A candidate
    counts as far as it keeps ``cortex`` bone around it and its driver clears bones and posts.
    """
    cortex = evidence.value("SP-IMP-05", "cortex")
    spacing = evidence.value("SP-IMP-05", "spacing")
    reach = np.cos(np.radians(evidence.value("SP-IMP-05", "reach")))
    least = evidence.quantity("SP-IMP-05", "length").lower or 0.0
    s = sign_of(side)
    radius = 0.5 * p.screw_diameter_mm
    hole = p.screw_diameter_mm + p.hole_clearance_mm

    corners = np.concatenate(wing.seat.loops)
    low, high = corners.min(axis=0), corners.max(axis=0)
    centre = wing.seat.centroid_uv
    steps = [
        3.0 * np.arange(-np.ceil((high[i] - low[i]) / 3), np.ceil((high[i] - low[i]) / 3) + 1)
        for i in range(2)
    ]
    uv = np.stack(np.meshgrid(centre[0] + steps[0], centre[1] + steps[1], indexing="ij"), -1)
    uv = uv.reshape(-1, 2)
    margin = 0.5 * hole + p.hole_wall_mm
    uv = uv[wing.field.at(uv[:, 0], uv[:, 1]) < -margin]
    entries = wing.seat.to_world(uv)
    # The back half of the seat: there a screw leaves the wing where the surgeon stands, not in the pelvis.
    back_half = entries[:, 0] <= wing.target[0] + 1.0
    uv, entries = uv[back_half], entries[back_half]

    azimuth = np.radians(np.arange(20.0, 76.0, 5.0))
    tilt = np.radians(np.arange(-35.0, 21.0, 5.0))
    az, el = (g.ravel() for g in np.meshgrid(azimuth, tilt, indexing="ij"))
    d = np.stack([np.cos(az) * np.cos(el), np.sin(el), s * np.sin(az) * np.cos(el)], axis=1)
    d = d[(d[:, 0] >= reach) & (-(d @ wing.plane.normal) > 0.0)]
    d = d[landing_mm(d, wing, p) <= THICKEST_WING_MM]

    grid = grid_around(
        np.concatenate([entries, entries + p.screw_length_mm * np.array([0.8, -0.4, 0.8 * s])])
        if len(entries)
        else wing.seat.rim,
        SEARCH_GRID_MM,
        25.0,
    )
    bone = distance_field(Surface(seat.hip.vertices, seat.hip.faces), grid)
    along = np.arange(2.0, p.screw_length_mm + 1.0, 2.0)
    points = entries[:, None, None] + along[None, None, :, None] * d[None, :, None, :]
    shape = points.shape[:3]
    flat = points.reshape(-1, 3)
    depth = -sample(grid, bone.values, flat, np.inf).reshape(shape)
    # Near the entry the cut face is the nearest surface; the screw passes it by intent.
    behind = -wing.plane.distance(flat).reshape(shape)
    safe = (depth >= radius + cortex) | (depth >= behind - 0.5)
    length = 2.0 * np.cumprod(safe, axis=2).sum(axis=2).astype(np.float64)

    tool = 0.5 * p.tool_diameter_mm
    # The driver ends flat at the head: its first radius of way need not clear the cut face as a ball.
    first = p.wing_thickness_mm + tool
    back = np.arange(first, first + TOOL_PATH_MM, 5.0)
    path = entries[:, None, None] - back[None, None, :, None] * d[None, :, None, :]
    clear = np.full(path.shape[:3], np.inf)
    for field in [bone, *obstacles]:
        np.minimum(clear, field.at(path.reshape(-1, 3)).reshape(clear.shape), out=clear)
    for post in posts:
        foot = path - post.centre
        h = np.clip(foot @ post.opening, -12.0, 10.0)
        away = np.linalg.norm(foot - h[..., None] * post.opening, axis=-1)
        np.minimum(clear, away - 0.5 * evidence.value("SP-IMP-06", "outer_diameter"), out=clear)
    length[clear.min(axis=2) < tool] = 0.0
    # Past the thickest wing the driver's axis must be out of the implant; what it notches costs.
    far = path[:, :, back > THICKEST_WING_MM]
    notch = body.at(far.reshape(-1, 3)).reshape(far.shape[:3]).min(axis=2)
    length[notch < 0.0] = 0.0
    notched = np.maximum(tool - notch, 0.0)

    # One screw for each level of the seat: near its place, long, and as nearly parallel to the usual
    # iliac direction as bone and wound allow. A smooth cost keeps left and right alike.
    usual = unit(np.array([np.cos(np.radians(45.0)), -0.25, s * np.sin(np.radians(45.0))]))
    off = np.degrees(np.arccos(np.clip(d @ usual, -1.0, 1.0)))
    span = np.ptp(uv, axis=0) if len(uv) else np.zeros(2)
    chosen: list[tuple[FloatArray, FloatArray, float]] = []
    length[length < least] = 0.0
    for level in range(p.screws_per_side):
        if not length.any():
            break
        aim = (
            centre[1]
            if p.screws_per_side == 1
            else (uv[:, 1].min() + span[1] * level / (p.screws_per_side - 1))
        )
        # The second term keeps equal candidates from being chosen by their order in the raster.
        middle = 0.45 * entries[:, 0].min() + 0.55 * entries[:, 0].max()
        place = np.abs(uv[:, 1] - aim) + 0.4 * np.abs(entries[:, 0] - middle)
        cost = place[:, None] + 0.5 * (p.screw_length_mm - length) + 0.3 * off + 4.0 * notched
        cost[length == 0.0] = np.inf
        i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
        chosen.append((entries[i], d[j], float(length[i, j])))
        for k in range(len(entries)):
            if np.linalg.norm(entries[k] - entries[i]) < spacing:
                length[k] = 0.0
                continue
            for at in (-p.wing_thickness_mm, 0.5 * p.screw_length_mm, p.screw_length_mm):
                room = p.tool_diameter_mm + 2.0 if at < 0 else p.screw_diameter_mm + 4.0
                gap = entries[k] + at * d - entries[i] - at * d[j]
                length[k, np.linalg.norm(gap, axis=1) < room] = 0.0
    chosen.sort(key=lambda c: -float(c[0][1]))
    screws = tuple(
        WingScrew(
            f"iliac_{side}_{n + 1}",
            side,
            entry - p.wing_thickness_mm * direction,
            entry,
            entry + size * direction,
            p.screw_diameter_mm,
            hole,
            True,
        )
        for n, (entry, direction, size) in enumerate(chosen)
    )
    if len(screws) == p.screws_per_side:
        return screws, ()
    return screws, (
        Doubt(
            "implant",
            "implant.few_screws",
            f"Only {len(screws)} of {p.screws_per_side} iliac screws of at least {least:.0f} mm found a "
            f"way through the {side} wing; plan them in the fixation room.",
            ("SP-IMP-05", "AM-12"),
        ),
    )


def seat_head(
    screw: WingScrew, wing: Wing, body: Field, geometry: VolumeGeometry, p: ImplantParameters
) -> WingScrew:
    """The screw with its head just under the wing's back, but with a full wall under its landing."""
    d = screw.direction
    back = np.arange(2.0, THICKEST_WING_MM + 0.01, 0.25)
    field = sample(geometry, body, screw.bone_entry - back[:, None] * d, np.inf)
    outside = field > 0.0
    thick = float(back[int(np.argmax(outside))]) if outside.any() else float(back[-1])
    least = float(landing_mm(d, wing, p))
    return replace(
        screw, head=screw.bone_entry - float(np.clip(thick - 1.0, least, THICKEST_WING_MM)) * d
    )


def plan_post(
    side: Side,
    target: FloatArray | None,
    wing: Wing,
    body: Field,
    geometry: VolumeGeometry,
    p: ImplantParameters,
) -> tuple[RodPost, FloatArray, tuple[Doubt, ...]]:
    """The saddle under one L5 pedicle screw, the foot of its pillar inside the body, and doubts."""
    s = sign_of(side)
    doubts: tuple[Doubt, ...] = ()
    gap = evidence.value("SP-IMP-06", "gap_to_screw")
    if target is None:
        z = wing.middle[2] + s * evidence.value("SP-IMP-06", "half_distance")
        head = np.array([wing.middle[0] - 40.0, wing.middle[1] + 1.5 * gap, z])
        doubts = (
            Doubt(
                "implant",
                "implant.rod_target_unknown",
                f"The head of the L5 pedicle screw on the {side} is not known; "
                "the rod post stands at the default place.",
                ("SP-IMP-06",),
            ),
        )
    else:
        head = np.asarray(target, dtype=float)
    t = wing.parameter(float(head[2]))
    core = np.array([float(c) for c in wing.centre(np.array(t))])
    # Half-way between wing and screw head in z, but never so far out that the saddle leaves the wing.
    y = min(core[1] + 0.15 * p.wing_height_mm, float(head[1]) - gap)
    y = max(y, core[1] - 0.35 * p.wing_height_mm)
    march = np.array([core[0], y, core[2]]) - np.arange(0.0, 60.0, 0.25)[:, None] * [1.0, 0.0, 0.0]
    outside = sample(geometry, body, march, np.inf) > 0.0
    if outside[0] or not outside.any():
        raise PlanError(
            f"The implant has no posterior surface for the rod post on the {side} "
            f"(z = {head[2]:.0f} mm in the pelvic frame); check the L5 screw's head."
        )
    surface_x = float(march[int(np.argmax(outside)), 0])
    nearest = surface_x - (0.5 * p.rod_diameter_mm + 2.0)
    furthest = surface_x - evidence.value("SP-IMP-06", "reach")
    x = float(np.clip(head[0], furthest, nearest))
    centre = np.array([x, y, core[2]])
    axis = unit(head - centre)
    opening = unit(np.array([-1.0, 0.0, 0.0]) + axis[0] * axis)
    if head[1] - y < gap - 1e-6:
        doubts += (
            Doubt(
                "implant",
                "implant.post_near_screw",
                f"The {side} rod post is only {head[1] - y:.0f} mm below the L5 screw's head; "
                f"{gap:.0f} mm leave room for two set screws.",
                ("SP-IMP-06",),
            ),
        )
    foot = centre - opening * ((surface_x - x) + 7.0)
    return RodPost(f"rod_post_{side}", side, centre, axis, opening, p.rod_diameter_mm), foot, doubts


def post_top(post: RodPost) -> FloatArray:
    """(3,) middle of the saddle's rim."""
    rise = 0.5 * post.diameter + evidence.value("SP-IMP-06", "wall_above_rod")
    return np.asarray(post.centre + rise * post.opening)


def post_cutters(post: RodPost, target: FloatArray | None, frame: str) -> list[Surface]:
    """Rod slot open to the back, and the core of the set screw's thread."""
    width = post.diameter + evidence.value("SP-IMP-06", "slot_clearance")
    outer = evidence.value("SP-IMP-06", "outer_diameter")
    core = evidence.value("SP-IMP-06", "set_screw_core")
    rise = 0.5 * post.diameter + evidence.value("SP-IMP-06", "wall_above_rod") + 3.0
    # Up to the screw head nothing may stand in the rod's way; below, the rod ends 5 mm past the saddle.
    up = outer if target is None else float(np.linalg.norm(target - post.centre))
    down = 0.5 * outer + 5.0
    across = np.cross(post.axis, post.opening)
    at = AxisFrame(
        post.name,
        post.centre,
        np.stack([across, post.opening, np.cross(across, post.opening)], 1),
        frame,
    )
    along = at.axes[:, 2] @ post.axis
    low, high = (-down, up) if along > 0 else (-up, down)
    return [
        box(at, [SLOT_STEP_MM - 0.5 * width, 0.0, low], [0.5 * width - SLOT_STEP_MM, rise, high]),
        cylinder(
            post.centre - down * post.axis, post.centre + up * post.axis, 0.5 * width, frame=frame
        ),
        cylinder(post.centre, post.centre + rise * post.opening, 0.5 * core, frame=frame),
    ]


def screw_cutters(screw: WingScrew, p: ImplantParameters, frame: str) -> list[Surface]:
    """The bore, and the driver's way from the head's landing outwards."""
    d = screw.direction
    return [
        cylinder(
            screw.head - d, screw.bone_entry + 15.0 * d, 0.5 * screw.hole_diameter_mm, frame=frame
        ),
        cylinder(screw.head - 60.0 * d, screw.head, 0.5 * p.tool_diameter_mm, frame=frame),
    ]


def plan_suture_holes(
    wings: Mapping[Side, Wing],
    body: Field,
    geometry: VolumeGeometry,
    l5: DistanceField,
    screws: tuple[WingScrew, ...],
    posts: tuple[RodPost, ...],
    p: ImplantParameters,
) -> tuple[SutureHole, ...]:
    """Holes along the borders of body and wings, where a needle finds a short way through.

    One is sought in every section across the wings at the pitch of the row: on the suture rim where the
    pelvic face left one, else through the lower border's edge, else through the upper one's. Every hole
    keeps a wall to the surface, and away from bores, drivers' ways, rods and porous layers.
    """
    pitch = evidence.value("SP-IMP-07", "pitch")
    out = []
    for side in ("left", "right"):
        wing = wings[side]
        span = abs(float(wing.target[2] - wing.middle[2]))
        for z in np.arange(0.5 * pitch, span, pitch):
            # A post or a screw in the way of one section leaves room a little aside.
            for up, aside in product((1.0, -1.0), (0.0, -0.25 * pitch, 0.25 * pitch)):
                at = float(wing.middle[2] + wing.sign * (z + aside))
                hole = _border_hole(at, up, wings, body, geometry, l5, screws, posts, p)
                if hole is not None:
                    out.append(hole)
                    break
    return tuple(out)


def _border_hole(
    z: float,
    up: float,
    wings: Mapping[Side, Wing],
    body: Field,
    geometry: VolumeGeometry,
    l5: DistanceField,
    screws: tuple[WingScrew, ...],
    posts: tuple[RodPost, ...],
    p: ImplantParameters,
) -> SutureHole | None:
    """The best hole in the section at height z, None where there is no room.

    ``up`` is 1 at the lower border, -1 at the upper one.
    """
    radius = 0.5 * p.suture_diameter_mm
    wall = evidence.value("AM-02", "structural_wall")
    thickest = evidence.value("SP-IMP-07", "thickest")
    shortest = evidence.value("SP-IMP-07", "shortest")
    x, y = (
        np.arange(geometry.origin[i], geometry.origin[i] + geometry.extent_mm[i], RASTER_STEP_MM)
        for i in (0, 1)
    )
    plane = (
        np.stack([g.ravel() for g in (*np.meshgrid(x, y, indexing="ij"), np.array(z))], axis=-1)
        if False
        else np.stack(
            [*(g.ravel() for g in np.meshgrid(x, y, indexing="ij")), np.full(len(x) * len(y), z)],
            axis=1,
        )
    )
    depth = -sample(geometry, body, plane, np.inf)
    if not (depth > 0.0).any():
        return None
    above = up * plane[:, 1] - float((up * plane[depth > 0.0, 1]).min())
    # Deep in the body no way is short.
    some = (depth > 0.5 * radius) & (depth < thickest) & (above < BORDER_MM)
    centres, above = plane[some], above[some]
    turn = np.pi * np.arange(SUTURE_WAYS) / SUTURE_WAYS
    ways = np.stack([np.cos(turn), np.sin(turn), np.zeros(SUTURE_WAYS)], axis=1)
    step = 0.35
    reach = np.arange(-thickest - MOUTH_MM, thickest + MOUTH_MM + 0.1, step)
    line = centres[:, None, None] + reach[None, None, :, None] * ways[None, :, None, :]
    inside = sample(geometry, body, line.reshape(-1, 3), np.inf).reshape(line.shape[:3])
    middle = len(reach) // 2
    ahead, behind = inside[:, :, middle:] > 0.0, inside[:, :, middle::-1] > 0.0
    through = ahead.any(axis=2) & behind.any(axis=2)
    last, first = np.argmax(ahead, axis=2), np.argmax(behind, axis=2)
    long = step * (first + last)
    # Only ways whose middle is the sample itself: each hole once.
    fits = through & (np.abs(first - last) <= 2) & (long >= shortest) & (long <= thickest)
    i, j = np.nonzero(fits)
    cost = long[i, j] + BORDER_COST * above[i]
    for n in np.argsort(cost, kind="stable"):
        centre = (
            centres[i[n]] + 0.5 * step * float(last[i[n], j[n]] - first[i[n], j[n]]) * ways[j[n]]
        )
        hole = SutureHole(centre, ways[j[n]], p.suture_diameter_mm, float(long[i[n], j[n]]))
        if _has_wall(hole, wall, body, geometry) and _is_free(
            hole, wall, wings, l5, screws, posts, p
        ):
            return hole
    return None


def _has_wall(hole: SutureHole, wall: float, body: Field, geometry: VolumeGeometry) -> bool:
    """Whether solid surrounds the hole, and both mouths open into free space."""
    turn = 2.0 * np.pi * np.arange(16) / 16
    up = np.array([0.0, 0.0, 1.0])
    across = np.cross(hole.axis, up)
    ring = np.cos(turn)[:, None] * across + np.sin(turn)[:, None] * up
    # Towards the mouths the border itself rounds off.
    along = 0.2 * hole.depth_mm * np.array([-1.0, 0.0, 1.0])
    around = (
        hole.centre
        + along[:, None, None] * hole.axis
        + (0.5 * hole.diameter_mm + wall) * ring[None]
    )
    if sample(geometry, body, around.reshape(-1, 3), np.inf).max() >= 0.0:
        return False
    beyond = 0.5 * hole.depth_mm + np.arange(2.0, MOUTH_MM + 0.01, 0.5)
    way = hole.centre + np.concatenate([-beyond, beyond])[:, None] * hole.axis
    return float(sample(geometry, body, way, np.inf).min()) >= 0.5 * hole.diameter_mm


def _is_free(
    hole: SutureHole,
    wall: float,
    wings: Mapping[Side, Wing],
    l5: DistanceField,
    screws: tuple[WingScrew, ...],
    posts: tuple[RodPost, ...],
    p: ImplantParameters,
) -> bool:
    """Whether the hole keeps its wall to bores, drivers, rods and porous layers."""
    radius = 0.5 * hole.diameter_mm
    half = 0.5 * hole.depth_mm + 1.0
    points = hole.centre + np.linspace(-half, half, 9)[:, None] * hole.axis
    for screw in screws:
        d = screw.direction
        way = _to_segment(points, screw.head - TOOL_PATH_MM * d, screw.head)
        bore = _to_segment(points, screw.head, screw.bone_entry)
        if way.min() < 0.5 * p.tool_diameter_mm + radius + wall:
            return False
        if bore.min() < 0.5 * screw.hole_diameter_mm + radius + p.hole_wall_mm:
            return False
    outer = 0.5 * evidence.value("SP-IMP-06", "outer_diameter")
    for post in posts:
        # The saddle and the set screw's way; the solid pillar below them may carry a hole.
        saddle = _to_segment(points, post.centre, post.centre + TOOL_PATH_MM * post.opening)
        rod = _to_segment(
            points, post.centre - 2.0 * outer * post.axis, post.centre + 60.0 * post.axis
        )
        if saddle.min() < outer + radius or rod.min() < 0.5 * post.diameter + radius + wall:
            return False
    layer = p.porous_mm + radius + wall
    if float(l5.at(points).min()) < p.endplate_gap_mm + layer:
        return False
    return all(float(wing.plane.distance(points).min()) >= layer for wing in wings.values())


def _to_segment(points: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """(n,) distances of points (n, 3) from the segment ab."""
    d = b - a
    t = np.clip((points - a) @ d / float(d @ d), 0.0, 1.0)
    return np.asarray(np.linalg.norm(points - a - t[:, None] * d, axis=1))


def suture_cutter(hole: SutureHole, frame: str) -> Surface:
    """A hole whose two mouths are rounded like a trumpet, so that no edge cuts the thread."""
    r = 0.5 * hole.diameter_mm
    rim = min(evidence.value("SP-IMP-07", "rim_radius"), 0.3 * hole.depth_mm)
    angle = np.linspace(0.0, 0.5 * np.pi, 7)
    s = rim * (1.0 - np.cos(angle))
    flare = r + rim * (1.0 - np.sin(angle))
    half = 0.5 * hole.depth_mm
    # Beyond the mouths only the bore goes on, so that a concave neighbour is not dished out.
    profile = [[-half - 4.0, r], [-half - 0.5, r], [-half - 0.5, r + rim]]
    profile += [[-half + a, b] for a, b in zip(s, flare, strict=True)]
    profile += [[half - a, b] for a, b in zip(s[::-1], flare[::-1], strict=True)]
    profile += [[half + 0.5, r + rim], [half + 0.5, r], [half + 4.0, r]]
    return lathe(hole.centre, hole.axis, profile, frame=frame)
