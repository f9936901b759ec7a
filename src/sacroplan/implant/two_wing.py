"""The patient-fitted sacral implant: two wings after total sacrectomy, one after hemisacrectomy.

A block under the carried vertebra's endplate, drawn down as the first sacral body was, runs through
wings into the iliac osteotomy faces (Lv 2023, section 2.2). A hemisacral implant has one wing and, in the
place of the other, a seat on the sacral remnant's cut face (Kaiser 2025, case 2); a self-stabilising one has
screws into the vertebra instead of rods (Gong 2024). The organic body is a blend of lofts on a grid in
the pelvic axes; everything that must be exact (planar seats, bores, saddles) is cut afterwards by
solids, so a seat lies on its cut plane to rounding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.booleans import simplify_uncrossed
from sacroplan.geometry.fields import DistanceField, contour
from sacroplan.geometry.frames import AxisFrame, FloatArray, unit
from sacroplan.geometry.surface import Surface
from sacroplan.implant import bores, figures, hollow, sutures
from sacroplan.implant import posts as rods
from sacroplan.implant.body import Surroundings, bowed, cleared, lofts, survey
from sacroplan.implant.correction import corrected, pose_of
from sacroplan.implant.envelope import envelope_of
from sacroplan.implant.finish import cut, largest
from sacroplan.implant.lattice import LatticeDefinition, define
from sacroplan.implant.localise import Local, localise
from sacroplan.implant.model import (
    SIDES,
    Design,
    FlatSeat,
    Implant,
    ImplantInput,
    ImplantParameters,
    RodPost,
    SutureHole,
    WingScrew,
    WingSeat,
)
from sacroplan.implant.seats import Seats, find_seats
from sacroplan.implant.shape import Field, blend, coordinates, pillar
from sacroplan.progress import Progress, silent

__all__ = [
    "Design",
    "FlatSeat",
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


def design(
    inp: ImplantInput, parameters: ImplantParameters | None = None, progress: Progress = silent
) -> Implant:
    """Design the implant.

    Raises :class:`PlanError` where no implant can be built from the input or its parameters leave the
    design envelope, :class:`GeometryError` where an operand is no proper solid. Overlap with bone stays
    under 1 mm3, the seats lie on the cut faces, the vertebra is met at ``endplate_gap_mm``; what falls
    short of an expectation is a doubt in the result.
    """
    p = parameters or ImplantParameters()
    envelope = envelope_of(p, inp.design).require()
    filling = _filling(p)
    pose = pose_of(inp, p)
    local = localise(corrected(inp, pose))
    progress(0.0, "Outlines of the bone faces")
    seats = find_seats(local, p, inp.axes)
    progress(0.08, "Distance to bone")
    around = survey(local, seats, p)
    seats = bowed(seats, around, p)
    geometry = around.geometry
    x, y, z = coordinates(geometry)
    progress(0.25, "Block and wings")
    body, column = lofts(local, seats, around, p)

    progress(0.4, "Posts and screws")
    doubts: list[Doubt] = list(envelope.doubts)
    posts: list[RodPost] = []
    for side in SIDES if inp.design != "self_stabilising" else ():
        if side not in seats.wings:
            continue
        post, foot, said = rods.plan_post(
            side, local.rod_targets.get(side), seats.wings[side], body, geometry, p, inp.axes
        )
        posts.append(post)
        doubts += said
        radius = 0.5 * evidence.value("SP-IMP-06", "outer_diameter")
        body = blend(body, pillar(x, y, z, foot, rods.post_top(post), radius, 0.1), 6.0)
    screws, said_screws = _screws(local, seats, tuple(posts), around, body, p)
    doubts += said_screws
    for screw in screws:
        d = screw.direction
        foot, top = screw.bone_entry + 4.0 * d, screw.head - 0.3 * d
        radius = 0.5 * p.tool_diameter_mm + 1.0
        radius = max(0.5 * screw.hole_diameter_mm + p.hole_wall_mm, radius)
        if screw.level != "ilium":
            foot = screw.bone_entry - 2.0 * d
        body = blend(body, pillar(x, y, z, foot, top, radius), 4.0)

    progress(0.55, "Clearance to bone")
    body = cleared(body, column, local, seats, around, p)
    faces = sutures.SeatFaces(seats.planes, (around.l5, *around.hips.values()))
    holes = sutures.plan_suture_holes(seats.wings, faces, body, geometry, screws, tuple(posts), p)
    limit = hollow.limit_g(local.specimen, p)
    shell = hollow.hollowed(
        body, around, seats, screws, tuple(posts), holes, limit, p, 1.0 - filling.density
    )
    doubts += shell.doubts

    progress(0.65, "Surface")
    raw = largest(contour(geometry, body), "implant body", inp.axes)
    raw = simplify_uncrossed(raw, p.simplify_mm)
    progress(0.75, "Seats, bores, saddles")
    cutters: list[Surface] = []
    for screw in screws:
        cutters += bores.screw_cutters(screw, p, raw.frame)
    for post in posts:
        cutters += rods.post_cutters(post, local.rod_targets.get(post.side), raw.frame)
    cutters += [sutures.suture_cutter(hole, raw.frame) for hole in holes]
    if shell.cavities is not None:
        cutters += [shell.cavities, *(hollow.opening_cutter(o, raw.frame) for o in shell.openings)]
    core, porous = cut(raw, cutters, seats, around, local.level, p, inp.axes)
    progress(0.88, "Figures")
    lattice = dict.fromkeys(porous, filling)
    result = Implant(
        core, porous, lattice, screws, tuple(posts), holes, tuple(doubts), {}, inp.design,
        envelope.table(), pose=pose,
    )  # fmt: skip
    measured, said_figures, virtual = figures.figures(result, local, seats, p, shell)
    result = replace(
        result, figures=measured | envelope.metrics(), doubts=(*doubts, *said_figures),
        virtual_s1=virtual,
    )  # fmt: skip
    progress(1.0, "Implant done")
    return _to_world(result, inp.axes)


def _filling(p: ImplantParameters) -> LatticeDefinition:
    """What fills every porous layer; refused before anything is built."""
    core = None if p.core_porosity_percent is None else p.core_porosity_percent / 100.0
    return define(
        p.cell_mm, p.porosity_percent / 100.0, p.porous_mm, p.cell_type, p.printer_minimum_mm, core
    )


def _screws(
    local: Local,
    seats: Seats,
    posts: tuple[RodPost, ...],
    around: Surroundings,
    body: Field,
    p: ImplantParameters,
) -> tuple[tuple[WingScrew, ...], list[Doubt]]:
    """Planned or proposed iliac screws, their heads seated, and the block's own screws."""
    geometry = around.geometry
    so_far = DistanceField(geometry, np.clip(body, -20.0, 40.0))
    wings = seats.wings
    doubts: list[Doubt] = []
    screws: list[WingScrew] = []
    if local.wing_screws:
        given, said = bores.given_screws(local.wing_screws, wings, p)
        screws, doubts = list(given), list(said)
    else:
        for side in SIDES:
            if side not in wings:
                continue
            found, said = bores.propose_screws(
                side, wings[side], local.seats[side], posts, [around.l5, *around.others], so_far, p
            )
            screws += found
            doubts += said
    unseated = {s.name for s in screws if s.proposed} | bores.without_head(local.wing_screws, wings)
    screws = [
        bores.seat_head(s, wings[s.side], body, geometry, p) if s.name in unseated else s
        for s in screws
    ]
    if local.design == "self_stabilising":
        own, said = bores.vertebra_screws(
            seats.plate, around.l5, so_far, list(around.others), local.level, p
        )
        screws += own
        doubts += said
    return tuple(screws), doubts


def _to_world(implant: Implant, axes: AxisFrame) -> Implant:
    def points(v: FloatArray) -> FloatArray:
        return axes.to_world(v)

    def turn(v: FloatArray) -> FloatArray:
        return unit(axes.axes @ v)

    def move(s: Surface) -> Surface:
        return Surface(points(s.vertices), s.faces, axes.frame)

    s1 = implant.virtual_s1
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
        virtual_s1=None
        if s1 is None
        else AxisFrame(s1.name, points(s1.origin), axes.axes @ s1.axes, axes.frame),
    )
