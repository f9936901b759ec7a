"""Cutting guide for one osteotomy: of the ilium from behind, or of another bone and side.

The guide is a shell on the outer table and the crest beside the cut, with a captured saw slot, three
K-wire sleeves in the bone that stays, and engraved marks. Fit and slot are exact: the bone-facing side
is cut by the bone's own offset (and its shadow along the removal axis), slot and holes by planes and
cylinders. HANDBOOK section 7.2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.booleans import refined
from sacroplan.geometry.frames import FloatArray, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.guides.body import Tower
from sacroplan.guides.cutline import Crowd, CutLine, cut_line
from sacroplan.guides.guide import OVERLAP_MM3, Guide, doubts_of
from sacroplan.guides.request import GuideInput, GuideParameters, check
from sacroplan.guides.rocking import constraint
from sacroplan.guides.seat import GuideFrame, Seat, seat
from sacroplan.guides.slot import blade_reach, face_corners, overruns, slot_of, tower_of
from sacroplan.guides.solid import solid_of
from sacroplan.guides.wires import KWire
from sacroplan.progress import Progress, silent

PROBE_MM = 6.0
"""Faces with longer edges are divided where the bone is looked at by its corners."""

LIFTS_MM = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Heights at which the guide is tried against the bone on its way off."""


def design(
    inp: GuideInput, parameters: GuideParameters | None = None, progress: Progress = silent
) -> Guide:
    """Design the guide of one side.

    Raises :class:`PlanError` where the cut misses the posterior ilium, cannot be sawn from behind,
    no K-wire finds bone, or the result is not one closed body free of the bone. Anything that only
    project defaults speak against is a doubt.
    """
    p = parameters or GuideParameters()
    hip, cut = inp.hip, inp.cut
    same_frame(hip, cut, inp.axes, *inp.avoid)
    hip.require_closed(f"the bone under {inp.guide_name}")
    check(inp, p)
    line = cut_line(
        hip,
        cut,
        inp.axes,
        np.asarray(inp.psis, dtype=np.float64),
        p.slot_length_mm,
        p.notch_mm,
        p.reach_mm,
        p.slot_minimum_mm,
        inp.notch,
        inp.outline,
        inp.up,
        inp.back,
        inp.centred,
        _crowd(inp, p),
        inp.cut_words,
    )
    # Large flat faces have no corner under the guide; they are looked at in pieces.
    probe = refined(hip, PROBE_MM)
    frame, approach = _frame(inp, probe, line, p)
    progress(0.05, "guide: seat on the bone")
    shape = tower_of(inp, line, p)
    low, high = _box(probe, line, frame, shape, p)
    rest = seat(hip, frame, low, high, p.clearance_mm, p.gaps)
    progress(0.4, "guide: K-wires")
    wires = _wires(inp, line, frame, rest, p)
    progress(0.5, "guide: body")
    surface, marks, doubts = solid_of(inp, line, frame, rest, shape, wires, p)
    progress(0.8, "guide: measuring the fit")
    return _measured(inp, p, line, frame, shape, wires, surface, marks, approach, doubts)


def _crowd(inp: GuideInput, p: GuideParameters) -> Crowd | None:
    """Other bones near the cut, which the block round the slot keeps off."""
    if not inp.avoid:
        return None
    return Crowd(
        np.concatenate([s.vertices for s in inp.avoid]),
        0.5 * p.platform_mm + p.avoid_mm,
        p.slot_height_mm + p.avoid_mm,
        p.bridge_mm + p.avoid_mm,
    )


def _frame(
    inp: GuideInput, hip: Surface, line: CutLine, p: GuideParameters
) -> tuple[GuideFrame, float]:
    """Local frame whose removal axis is the mean normal of the bone under the guide."""
    centre = line.to_local(hip.triangles.mean(axis=1))
    a, s, x = centre.T
    area = hip.area_vectors
    # Bone further than its own width below the edge is another part of the bone.
    near = (a > line.low_mm - 5.0) & (a < line.high_mm + 10.0)
    near &= (x > -p.specimen_mm) & (x < p.remnant_mm)
    near &= np.abs(s - line.edge(a)) < 1.5 * p.remnant_mm
    near &= hip.face_normals @ line.saw > 0.1
    if not near.any():
        raise PlanError(
            f"No bone along the {inp.cut_words} faces the saw, so a guide has nothing to stand on. Turn "
            "the cut, or saw it from another side."
        )
    removal = unit(area[near].sum(axis=0))
    along = unit(line.along - (line.along @ removal) * removal)
    across = np.cross(removal, along)
    across = across if across @ line.across > 0 else -across
    frame = GuideFrame(line.origin, np.stack([along, across, removal], axis=1))
    posterior = inp.approach
    return frame, float(np.degrees(np.arccos(np.clip(removal @ posterior, -1.0, 1.0))))


def _box(
    hip: Surface, line: CutLine, frame: GuideFrame, shape: Tower, p: GuideParameters
) -> tuple[FloatArray, FloatArray]:
    """Local box that holds the guide and the bone below it."""
    local = line.to_local(hip.vertices)
    a, s, x = local.T
    near = (a > shape.low_mm - 4.0) & (a < shape.high_mm + 4.0)
    # How far from the cut's edge the footprint reaches on either side, measured along the bone.
    reach = np.where(x > 0, p.remnant_mm, p.specimen_mm + p.foot_mm + p.lobe_mm) + 3.0
    near &= np.hypot(x, s - line.edge(a)) < reach
    near &= hip.vertex_normals @ line.saw > 0.0
    ends = np.array(
        [
            [aa, float(shape.top(np.array(aa))) + dz, xx]
            for aa in np.linspace(shape.low_mm, shape.high_mm, 9)
            for xx in (-shape.specimen_mm, shape.remnant_mm)
            for dz in (0.0, -p.slot_height_mm - p.thickness_mm - 2.0)
        ]
    )
    points = frame.to_local(np.concatenate([hip.vertices[near], line.to_world(ends)]))
    margin = p.thickness_mm + 4.0
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    high[2] = max(
        high[2], frame.to_local(hip.vertices[near])[:, 2].max() + p.sleeve_height_mm + 3.0
    )
    return low, high


def _wires(
    inp: GuideInput, line: CutLine, frame: GuideFrame, rest: Seat, p: GuideParameters
) -> tuple[KWire, ...]:
    from sacroplan.guides.wires import WireRules, Zone, choose

    rules = WireRules(
        p.wire_mm,
        p.sleeve_height_mm,
        p.purchase_mm,
        p.cortices_mm,
        p.wire_depth_mm,
        p.protrusion_mm,
        p.wire_angle_deg,
        p.wire_tilt_deg,
        p.kerf_distance_mm,
        p.enclosed_mm,
        p.wires_apart_mm,
    )
    step = 6
    points = frame.to_world(rest.points()[::step, ::step].reshape(-1, 3))
    normals = rest.normals(2.0)[::step, ::step].reshape(-1, 3) @ frame.axes.T
    flat = (rest.slope[::step, ::step].reshape(-1) < 1.5) & np.isfinite(points[:, 2])
    flat &= ~rest.gaps[::step, ::step].reshape(-1)
    points, normals = points[flat], normals[flat]
    a, _, x = line.to_local(points).T
    outer = 0.5 * p.wire_mm + p.wire_clearance_mm + p.sleeve_wall_mm
    far = p.remnant_mm - p.lobe_mm
    inset = outer + 2.0
    # A sleeve must not touch the slot's walls, or the saw's nose meets the wire.
    nearest = 0.5 * p.platform_mm + outer + 1.0
    sites = (
        ("cranial", line.high_mm - inset, 0.9 * far, line.along),
        ("lateral", 0.0, far, line.across),
        ("caudal", line.low_mm + inset, 0.9 * far, -line.along),
    )
    zones = []
    for name, at, out, toward in sites:
        distance = np.hypot(a - at, x - out)
        mine = (distance < 12.0) & (x >= nearest) & (x <= far + 2.0)
        if not mine.any():
            raise PlanError(
                f"The guide has no bone at its {name} K-wire site, {out:.0f} mm beside the cut; "
                "move the cut or narrow the guide."
            )
        zones.append(Zone(name, points[mine], normals[mine], 0.05 * distance[mine], toward))
    avoid = (*inp.avoid, *inp.screws)
    return choose(zones, inp.hip, inp.cut, inp.kerf_mm, avoid, frame, rules)


def _measured(
    inp: GuideInput,
    p: GuideParameters,
    line: CutLine,
    frame: GuideFrame,
    shape: Tower,
    wires: tuple[KWire, ...],
    surface: Surface,
    marks: tuple[str, ...],
    approach: float,
    doubts: list[Doubt],
) -> Guide:
    from sacroplan.guides.fit import contact, removal_overlap_mm3, stability

    name = inp.guide_name
    surface.require_closed(name)
    removal = frame.axes[:, 2]
    overlap = removal_overlap_mm3(surface, inp.hip, removal, (0.0,))
    lifted = removal_overlap_mm3(surface, inp.hip, removal, LIFTS_MM)
    if overlap > OVERLAP_MM3:
        raise PlanError(
            f"{name} shares {overlap:.1f} mm3 with the bone, at most {OVERLAP_MM3:g} expected."
        )
    touch = contact(surface, inp.hip, frame, p.clearance_mm + 0.3)
    firm = stability(
        touch,
        inp.hip,
        frame,
        evidence.value("GDE-07", "translation"),
        evidence.value("GDE-07", "rotation"),
        0.15,
    )
    firm_figure = constraint(
        touch.points, touch.normals, touch.area_mm2, face_corners(inp, line), inp.cut.normal,
        p.clearance_mm,
    )  # fmt: skip
    slot = slot_of(inp, line, surface, p)
    local = frame.to_local(surface.vertices)
    guide = Guide(
        name,
        inp.side,
        surface,
        slot,
        wires,
        removal,
        p,
        line,
        frame,
        touch,
        firm,
        overlap,
        lifted,
        approach,
        marks,
        np.ptp(local, axis=0),
        (),
        firm_figure,
        blade_reach(inp, line, shape),
        len(inp.screws),
        overruns(inp, line, surface, p),
    )
    found = (*doubts, *doubts_of(guide))
    return replace(guide, doubts=found)
