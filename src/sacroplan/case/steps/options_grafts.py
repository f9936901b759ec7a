"""Living bone for this patient: which struts, which femur, which iliac screws a resection allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.case.stage import Context
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.construct import Construct
from sacroplan.geometry.frames import Plane
from sacroplan.grafts.donor import Donor
from sacroplan.grafts.femur import FemurPlan
from sacroplan.grafts.fibula import FibulaPlan, Way
from sacroplan.grafts.sawguide import SawGuide
from sacroplan.resection.cuts import Cut
from sacroplan.resection.plan import SIDES, ResectionPlan

SYNTHETIC = "synthetic"

ENDPLATE_DEPTH_MM = 1.5
"""The seat's region is L5's section so deep under its endplate, inside its rim."""

LEAST_LETTER_MM = 2.0
"""Smaller letters cannot be read on a printed guide."""

FROM_MM = 60.0
"""Letters are dropped on the guide from so far outside."""

CLASH_MM3 = 50.0
"""A shared volume below a cube of some 4 mm is within what a surface of a CT tells."""


def donor_from(context: Context, bones: BoneModel) -> Donor:
    """The donor bone of case.toml; raises :class:`PlanError` where none is given."""
    from sacroplan.formats.stl import read_stl
    from sacroplan.grafts.donor import donor_of, synthetic_fibula

    table = context.config.grafts
    if table.fibula is None:
        raise PlanError(
            'No donor bone was given; write [grafts] fibula = "fibula.stl" in case.toml, or '
            '"synthetic" for a worked example.'
        )
    if table.fibula == SYNTHETIC:
        return donor_of(synthetic_fibula(bones.labels.frame), np.array([0.0, 0.0, 1.0]))
    up = np.asarray(bones.labels.geometry.direction[:, 2])
    given = table.fibula_proximal
    path = context.input_path(table.fibula)
    return donor_of(read_stl(path), up if given is None else np.asarray(given))


def plan_struts(
    context: Context, plan: ResectionPlan, bones: BoneModel, landmarks: Any
) -> FibulaPlan:
    """Struts of fibula over the gap of this resection; raises :class:`PlanError` where none go.

    From L5's endplate to each sawn ilium, or, where half a sacrum stays, a double barrel from its cut
    face to the sawn ilium.
    """
    from sacroplan.grafts.fibula import plan_fibula

    donor = donor_from(context, bones)
    axes = landmarks.frames["pelvis"].axes
    cuts: dict[str, Cut] = {s: c for s in SIDES for c in plan.cuts if c.name == f"iliac_{s}"}
    if plan.kind == "hemi" and len(cuts) == 1:
        ways = _double_barrel(plan, *cuts.popitem(), donor.radius_mm + 0.5)
    elif cuts and "sacrum" not in plan.remnants and "L5" not in plan.specimen:
        ways = _cathedral(context, plan, bones, landmarks, cuts, donor.radius_mm + 0.5)
    else:
        raise PlanError(
            "Struts are planned from a whole L5 to a sawn ilium, or from half a sacrum to it; this "
            "resection leaves no such pair."
        )
    # The gluteal arteries, or their stumps, leave by the greater sciatic notches.
    stumps = [np.asarray(landmarks.points[n]) for n in ("GSN_L", "GSN_R") if n in landmarks.points]
    return plan_fibula(
        donor, ways, -axes[:, 1], plan.choice.kerf_mm or None,
        np.asarray(stumps) if stumps else None, context.progress,
    )  # fmt: skip


def _cathedral(
    context: Context, plan: ResectionPlan, bones: BoneModel, landmarks: Any,
    cuts: Mapping[str, Cut], radius_mm: float,
) -> list[Way]:  # fmt: skip
    from sacroplan.grafts.fibula import ways_between
    from sacroplan.grafts.seats import endplate_seat, sawn_seat

    axes = landmarks.frames["pelvis"].axes
    endplate = landmarks.frames["L5IEP"]
    # Its frame's y axis runs cranial, into the bone.
    plate = Plane(endplate.origin, -endplate.axes[:, 1], bones.labels.frame)
    ways: list[Way] = []
    for side, cut in sorted(cuts.items()):
        top = endplate_seat(
            f"L5_{side}", bones.surfaces["L5"], plate, axes[:, 2], side, ENDPLATE_DEPTH_MM
        )
        foot = sawn_seat(
            f"ilium_{side}", plan.remnants[f"hip_{side}"], cut.remnant_face, cut.outline
        )
        count = context.config.grafts.struts_per_side
        ways += ways_between(top, foot, -axes[:, 1], radius_mm, count, side)
    return ways


def _double_barrel(plan: ResectionPlan, side: str, iliac: Cut, radius_mm: float) -> list[Way]:
    """Two struts side by side from the sacrum's cut face straight to the ilium's."""
    from sacroplan.grafts.fibula import ways_between
    from sacroplan.grafts.seats import sawn_seat

    sacral = plan.cut("sacral")
    facet = max(sacral.facets, key=lambda f: f.outline.area_mm2)
    face = facet.plane.shifted(-0.5 * sacral.kerf_mm)
    top = sawn_seat("sacrum", plan.remnants["sacrum"], face, facet.outline)
    foot = sawn_seat(
        f"ilium_{side}", plan.remnants[f"hip_{side}"], iliac.remnant_face, iliac.outline
    )
    run = foot.region.centroid - top.region.centroid
    return ways_between(top, foot, run, radius_mm, 2, "barrel")


def plan_saw_guide(context: Context, fibula: FibulaPlan) -> SawGuide:
    """The donor's saw guide; raises :class:`PlanError` where its outer side is not known."""
    from sacroplan.grafts.sawguide import saw_guide

    table = context.config.grafts
    if table.fibula == SYNTHETIC:
        lateral = np.array([0.0, 1.0, 0.0])
    elif table.fibula_lateral is None:
        raise PlanError(
            "No saw guide was made for the fibula: write [grafts] fibula_lateral = [x, y, z], out of the "
            "leg on the fibula's side, in case.toml."
        )
    else:
        lateral = np.asarray(table.fibula_lateral)
    guide = saw_guide(fibula, lateral, context.config.resection.kerf_mm)
    return engraved(guide, fibula, context.config.case.id)


def engraved(guide: SawGuide, fibula: FibulaPlan, case_id: str) -> SawGuide:
    """The saw guide with the case on its back and each segment's name, read from the ankle to the knee.

    A line begins beside its segment's first K-wire and stops before the second.
    """
    from sacroplan.geometry.booleans import difference
    from sacroplan.geometry.tree import face_tree
    from sacroplan.guides.lettering import ADVANCE, engravable, glyph, width_mm

    height = evidence.value("SP-GRAFT-07", "letters")
    stroke, depth = (evidence.value("SP-GDE-06", n) for n in ("mark_stroke", "mark_depth"))
    donor, z = fibula.donor, guide.lift
    axes = np.stack([donor.axis, np.cross(z, donor.axis), z], axis=1)
    tree = face_tree(guide.surface)
    cutters = []
    for n, segment in enumerate(fibula.segments):
        name = segment.way.name.replace("_", "")
        text = engravable(f"{case_id} {name}" if n == 0 else name)
        first, second = guide.wires[2 * n].mean(axis=0), guide.wires[2 * n + 1].mean(axis=0)
        room = float((second - first) @ donor.axis) - 8.0
        # Letters shrink to the bone that is there; below 2 mm they could not be read.
        size = min(height, height * room / max(width_mm(text, height), 1e-6))
        if size < LEAST_LETTER_MM:
            text = engravable(name[:1])
            size = min(height, room)
        start = first + 4.0 * donor.axis - 0.5 * size * axes[:, 1]
        for k, character in enumerate(text):
            at = start + k * ADVANCE * size * donor.axis
            middle = at + 0.3 * size * donor.axis + 0.5 * size * axes[:, 1]
            hit, _ = tree.first_hits((middle + FROM_MM * z)[None], -z[None], 0.0)
            if not np.isfinite(hit[0]):
                continue
            corner = at + float((middle + (FROM_MM - float(hit[0])) * z - at) @ z) * z
            solid = glyph(character, size, stroke, corner, axes, -depth, 5.0, donor.frame)
            if solid is not None:
                cutters.append(solid)
    return replace(guide, surface=difference(guide.surface, *cutters))


def plan_iliac_screws(
    context: Context, plan: ResectionPlan, bones: BoneModel, landmarks: Any
) -> Construct:
    """Two iliac screws a side in what stays of the ilia, for fixation without an implant [VAL-20]."""
    from sacroplan.fixation.construct import plan_construct

    if plan.kind != "total":
        raise PlanError("Iliac screws without an implant are planned for a total sacrectomy only.")
    stay = {n: s for n, s in {**bones.surfaces, **plan.remnants}.items() if n not in plan.specimen}
    intake: Intake = context.result("intake")
    return plan_construct(
        "iliac2", stay, landmarks.frames, landmarks.points, landmarks.hip_radius_mm, plan.specimen,
        None, None, "clearance", intake.volume, context.progress,
    )  # fmt: skip


def plan_leg(context: Context, plan: ResectionPlan, bones: BoneModel, landmarks: Any) -> FemurPlan:
    """The femur of the amputated leg from L5 to the pubis; raises :class:`PlanError` where it cannot."""
    from sacroplan.grafts.femur import plan_femur, synthetic_femur
    from sacroplan.grafts.seats import endplate_seat, sawn_seat

    if plan.kind != "hemipelvectomy" or plan.choice.side is None:
        raise PlanError("A femur is turned into the pelvis only where its leg goes.")
    if context.config.grafts.femur is None:
        raise PlanError(
            'No femur was given; write [grafts] femur = "synthetic" in case.toml for a worked example.'
        )
    side = plan.choice.side
    letter = side[0].upper()
    frame = bones.labels.frame
    axes = landmarks.frames["pelvis"].axes
    missing = [n for n in (f"HJC_{letter}", f"ASIS_{letter}") if n not in landmarks.points]
    if missing:
        raise PlanError(f"The landmark {missing[0]} was not found; give it under [landmarks].")
    outward = axes[:, 2] if side == "right" else -axes[:, 2]
    femur = synthetic_femur(landmarks.points[f"HJC_{letter}"], -axes[:, 1], outward, side)
    l5 = plan.remnants.get("L5", bones.surfaces["L5"])
    endplate = landmarks.frames["L5IEP"]
    # Case 3 leaves the other half of L5; the femur stands under what is there.
    seat = endplate_seat(
        "L5", l5, Plane(endplate.origin, -endplate.axes[:, 1], frame), axes[:, 2], None,
        ENDPLATE_DEPTH_MM,
    )  # fmt: skip
    cut = plan.cut(f"pubis_{side}")
    foot = sawn_seat("pubis", plan.remnants[f"hip_{side}"], cut.remnant_face, cut.outline)
    tubercle = landmarks.points.get(f"PT_{letter}", foot.region.centroid)
    vessels = 0.5 * (np.asarray(landmarks.points[f"ASIS_{letter}"]) + np.asarray(tubercle))
    return plan_femur(femur, seat, foot, vessels, -outward)


def clashes_of(femur: FemurPlan, plan: ResectionPlan) -> tuple[Doubt, ...]:
    """Bone that the turned femur would have to pass through, besides its own seats."""
    from sacroplan.geometry.booleans import overlap_mm3

    own = {"L5", f"hip_{plan.choice.side}"}
    out = []
    for name, bone in plan.remnants.items():
        shared = 0.0 if name in own else overlap_mm3(femur.surface, bone)
        if shared > CLASH_MM3:
            out.append(
                Doubt(
                    "plan", f"options.femur_clash.{name}",
                    f"The turned femur and {name.replace('_', ' ')} share {shared / 1000.0:.1f} cm3: trim "
                    "bone there, or lean the graft otherwise.", ("SP-GRAFT-06",),
                )
            )  # fmt: skip
    return tuple(out)
