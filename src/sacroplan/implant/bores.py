"""Screws through the implant: given, proposed, their heads, and what they cut. Design frame throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.fields import DistanceField, distance_field
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.primitives import lathe
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry, grid_around
from sacroplan.implant.model import (
    SIDES,
    ImplantParameters,
    PlannedScrew,
    RodPost,
    Side,
    WingScrew,
    WingSeat,
    sign_of,
)
from sacroplan.implant.outline import Outline
from sacroplan.implant.shape import Field, Wing

TOOL_PATH_MM = 120.0
"""Straight way that a driver needs behind a screw's head; the depth of a posterior wound."""

HEAD_BEFORE_BONE_MM = (5.0, 25.0)
"""A planned entry within this before the bone says where the head sits, else only where the bone begins."""

THICKEST_WING_MM = 18.0
"""A head deeper in the wing than this would sit in a pit."""

SEARCH_GRID_MM = 1.5
"""Sampling of the remnant for the screw search; the screw room re-checks the winners on the mesh."""

FACE_OFF_PLANE_MM = 6.0
"""A joint's face leaves the plane that fits it by up to this."""

VERTEBRA_STEP_DEG = 5.0
"""Step of the directions tried for a screw from the block into the vertebra."""


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


def _wing_of(name: str, tip: npt.ArrayLike, wings: Mapping[Side, Wing]) -> Wing:
    side = _side(tip)
    if side not in wings:
        raise PlanError(
            f"Screw {name!r} ends on the {side}, where the implant has no wing; leave it out or mirror it."
        )
    return wings[side]


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
        if not _has_head(_before_bone(entry, tip, _wing_of(name, tip, wings)))
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
        wing = _wing_of(name, b, wings)
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
    off_plane = FACE_OFF_PLANE_MM if wing.follows else 0.5
    safe = (depth >= radius + cortex) | (depth >= behind - off_plane)
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


def vertebra_screws(
    plate: Outline,
    l5: DistanceField,
    body: DistanceField,
    obstacles: list[DistanceField],
    level: str,
    p: ImplantParameters,
) -> tuple[tuple[WingScrew, ...], tuple[Doubt, ...]]:
    """Two screws from the back of the block through its roof into the vertebra, one a side [SP-IMP-14].

    They hold the vertebra where no rod supplements the implant: long in the body, clear of its walls,
    and reachable from behind. Design frame; a mirrored vertebra gets the mirrored screws.
    """
    q = {
        n: evidence.value("SP-IMP-14", n)
        for n in ("diameter", "length", "apart", "steepness", "cortex")
    }
    low, high = evidence.span("SP-IMP-14", "steepness")
    least = evidence.quantity("SP-IMP-14", "length").lower or 0.0
    cranial, anterior = plate.axes[:, 2], plate.axes[:, 0]
    right = np.cross(anterior, cranial)
    radius, hole = 0.5 * q["diameter"], q["diameter"] + p.hole_clearance_mm
    steep = np.radians(np.arange(low, high + 1e-9, VERTEBRA_STEP_DEG))
    turn = np.radians(np.arange(-20.0, 20.1, VERTEBRA_STEP_DEG))
    grid_s, grid_t = (g.ravel() for g in np.meshgrid(steep, turn, indexing="ij"))
    ways = (
        np.cos(grid_s)[:, None]
        * (np.cos(grid_t)[:, None] * anterior + np.sin(grid_t)[:, None] * right)
        + np.sin(grid_s)[:, None] * cranial
    )
    centre = plate.centroid_uv
    along = np.arange(0.0, q["length"] + 0.1, 1.0)
    back = np.arange(0.0, 60.0, 0.5)
    out: list[WingScrew] = []
    for side in SIDES:
        # v of the outline points to the left.
        v = centre[1] - sign_of(side) * np.arange(
            0.5 * q["apart"] - 4.0, 0.5 * q["apart"] + 4.1, 2.0
        )
        u = centre[0] + np.arange(-10.0, 6.1, 2.0)
        uv = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1).reshape(-1, 2)
        entries = plate.to_world(uv)
        line = entries[:, None, None] + along[None, None, :, None] * ways[None, :, None, :]
        depth = -l5.at(line.reshape(-1, 3)).reshape(line.shape[:3])
        # Near the endplate the screw passes the cortex by intent.
        rise = (along[None, :] * (ways @ cranial)[:, None])[None]
        safe = (depth >= radius + q["cortex"]) | (rise < radius + q["cortex"] + 3.0)
        length = np.cumprod(safe, axis=2).sum(axis=2) - 1.0
        behind = entries[:, None, None] - back[None, None, :, None] * ways[None, :, None, :]
        inside = body.at(behind.reshape(-1, 3)).reshape(behind.shape[:3]) < 0.0
        # The head sits where the axis leaves the block for good.
        last = inside.shape[2] - 1 - np.argmax(inside[:, :, ::-1], axis=2)
        thick = np.where(inside.any(axis=2), back[np.minimum(last + 1, len(back) - 1)], 0.0)
        tool = 0.5 * p.tool_diameter_mm
        path = (
            entries[:, None, None]
            - (thick[..., None] + tool + np.arange(0.0, TOOL_PATH_MM, 6.0))[..., None]
            * ways[None, :, None, :]
        )
        clear = np.full(path.shape[:3], np.inf)
        for field in [l5, *obstacles]:
            np.minimum(clear, field.at(path.reshape(-1, 3)).reshape(clear.shape), out=clear)
        fits = (length >= least) & (thick >= p.hole_wall_mm + 4.0) & (clear.min(axis=2) >= tool)
        if not fits.any():
            continue
        cost = np.abs(grid_t)[None] * 10.0 + np.abs(np.degrees(grid_s) - q["steepness"])[None] * 0.2
        cost = (
            cost
            - length
            + 0.3 * thick
            + 0.5 * np.abs(np.abs(uv[:, 1] - centre[1]) - 0.5 * q["apart"])[:, None]
        )
        i, j = np.unravel_index(int(np.argmin(np.where(fits, cost, np.inf))), cost.shape)
        entry, d = entries[i], ways[j]
        out.append(
            WingScrew(
                f"{level}_{side}", side, entry - (thick[i, j] - 1.5) * d, entry,
                entry + length[i, j] * d, q["diameter"], hole, True, level,
            )
        )  # fmt: skip
    if len(out) == len(SIDES):
        return tuple(out), ()
    return tuple(out), (
        Doubt(
            "implant",
            "implant.few_vertebra_screws",
            f"Only {len(out)} of 2 screws from the block into {level} found a way of at least {least:.0f} mm "
            "that a driver reaches from behind; without rods the vertebra is not held: supplement it.",
            ("SP-IMP-14", "AM-12"),
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


def screw_cutters(screw: WingScrew, p: ImplantParameters, frame: str) -> list[Surface]:
    """The bore with its countersink, and the driver's way from the head's landing outwards."""
    d = screw.direction
    hole = 0.5 * screw.hole_diameter_mm
    sink = max(0.5 * evidence.value("SP-IMP-05", "head_diameter"), 1.3 * hole)
    sink = min(sink, 0.5 * p.tool_diameter_mm - 0.2)
    # One turned solid: parts that only touch would leave slivers.
    beyond = float(np.linalg.norm(screw.bone_entry - screw.head)) + 15.0
    profile = [[-60.0, 0.5 * p.tool_diameter_mm], [0.0, 0.5 * p.tool_diameter_mm], [0.0, sink]]
    profile += [[sink - hole, hole], [beyond, hole]]
    return [lathe(screw.head, d, profile, frame=frame)]
