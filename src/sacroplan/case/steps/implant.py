"""The implant: two wings, one wing and a sacral seat, or self-stabilising, as the resection asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.reconstruction import chosen, without_implant
from sacroplan.case.steps.resection import Resection
from sacroplan.case.steps.screws import Screws
from sacroplan.errors import CaseError

if TYPE_CHECKING:
    from sacroplan.anatomy.landmarks import Landmarks
    from sacroplan.geometry.surface import Surface
    from sacroplan.implant.choice import Reconstruction
    from sacroplan.implant.model import ImplantInput, Side
    from sacroplan.resection.plan import ResectionPlan


def implant_input(context: Context) -> ImplantInput:
    """The defect of this case as the implant room wants it, without any screw."""
    resection: Resection = context.result("resection")
    bones: BoneModel = context.result("bones")
    return defect(resection.plan, bones.surfaces, context.result("landmarks"), chosen(context))


def defect(
    plan: ResectionPlan, bones: Mapping[str, Surface], landmarks: Landmarks, what: Reconstruction
) -> ImplantInput:
    """The defect that ``plan`` leaves, for the reconstruction ``what``; without any screw."""
    from sacroplan.implant.model import FlatSeat, ImplantInput, WingSeat
    from sacroplan.implant.nerves import nerve_solids

    points, frames = landmarks.points, landmarks.frames
    letter = {side: side[0].upper() for side in what.sides}
    seats = []
    for side in what.sides:
        hip = plan.remnants[f"hip_{side}"]
        if what.joint:
            # The joint's cut looks to the midline, and so does its patch on the ilium.
            patch = plan.joints[side].points
            patch = patch[plan.cut("sacral").side(patch) > 0.0]
            face = plan.cut(f"si_joint_{side}").plane
        else:
            patch, face = None, plan.cut(f"iliac_{side}").remnant_face
        seats.append(WingSeat(cast("Side", side), face, hip, patch))
    of = {"sacrum": ("sacral", "sacrum"), "L5_side": ("l5", "L5")}
    flats = tuple(
        FlatSeat(n, plan.cut(of[n][0]).remnant_face, plan.remnants[of[n][1]]) for n in what.flats
    )
    above = {"L5": "L4", "L4": "L3"}[what.level]
    kept = {n for n, fate in plan.losses.roots.items() if fate in ("kept", "at risk")}
    return ImplantInput(
        frames["pelvis"],
        bones[what.level],
        frames[f"{what.level}IEP"],
        tuple(seats),
        plan.specimen_surface,
        (bones[above],) if above in bones else (),
        design=what.design,
        level=what.level,
        flats=flats,
        # After a sagittal cut the sac stays, down the canal of the half that is left.
        nerves=nerve_solids(points, frames, bones["sacrum"], kept, 3 if what.flats else 0),
        notches={
            cast("Side", s): points[f"GSN_{k}"] for s, k in letter.items() if f"GSN_{k}" in points
        },
        sockets={
            cast("Side", s): (points[f"HJC_{k}"], landmarks.hip_radius_mm[s])
            for s, k in letter.items()
            if f"HJC_{k}" in points and s in landmarks.hip_radius_mm
        },
        hub=None if what.level == "L5" else frames.get("L5IEP"),
        s1_endplate=frames.get("S1EP"),
        upper_endplate=frames.get(f"{what.level}SEP"),
    )


def run(context: Context) -> StageOutput:
    """Design the implant on the cut faces and under the vertebra that it carries."""
    from sacroplan.fixation.screws import at
    from sacroplan.fixation.wings import assess_wing_screw
    from sacroplan.implant.model import ImplantParameters
    from sacroplan.implant.two_wing import design

    intake: Intake = context.result("intake")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    plan, what = resection.plan, chosen(context)
    screws: Screws = context.result("screws")
    # With a corridor missing on one side the implant room proposes both, so that they match.
    planned = tuple(
        (w.screw.name, w.screw.entry, w.screw.tip, w.screw.diameter_mm) for w in screws.wings
    )
    if {w.screw.side for w in screws.wings} != set(what.sides):
        planned = ()
    inp = replace(
        implant_input(context),
        wing_screws=planned,
        # The rod reaches the implant from the lowest screw of its side.
        rod_targets={
            cast("Side", s): screws.on_side(s)[-1].screw.head
            for s in what.rods
            if screws.on_side(s)
        },
    )
    implant = design(inp, parameters(context.config, ImplantParameters()), context.progress)
    metrics, doubts = implant.metrics(), list(implant.doubts)
    corridors = {w.screw.name: w for w in screws.wings}
    for screw in implant.wing_screws:
        if screw.level != "ilium":
            continue
        # A screw of the fixation room keeps its measured corridor; the implant's own is measured now.
        checked = corridors.get(screw.name) if not screw.proposed else None
        if checked is None:
            placed = at(
                screw.name,
                "ilium",
                screw.side,
                "wing",
                screw.bone_entry,
                screw.direction,
                screw.diameter_mm,
                float(np.linalg.norm(screw.tip - screw.bone_entry)),
                implant.core.frame,
            )
            checked = assess_wing_screw(
                placed,
                plan.remnants[f"hip_{screw.side}"],
                landmarks.frames["pelvis"],
                landmarks.points,
                landmarks.hip_radius_mm.get(screw.side),
                intake.volume,
            )
        metrics |= checked.metrics()
        doubts += checked.doubts
    return StageOutput(implant, metrics, tuple(doubts))


def parameters(config: CaseConfig, defaults: Any) -> Any:
    """Implant parameters of the case: the defaults where case.toml is silent."""
    table = config.implant
    # What has a key of its own in [implant] is no number of the envelope.
    known = {f.name for f in fields(defaults)} - {"cell_type", "printer_minimum_mm"}
    for name in table.parameters:
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise CaseError(
                f"case.toml, [implant.parameters]: {name!r} is no parameter of the implant"
                + (f"; did you mean {close[0]!r}?" if close else f"; there are {sorted(known)}.")
            )
    own: dict[str, Any] = {
        "porous_mm": table.porous_thickness_mm,
        "porosity_percent": table.porosity_percent,
        "core_porosity_percent": table.core_porosity_percent,
        "cell_type": table.cell_type,
        "cell_mm": table.cell_mm,
        "printer_minimum_mm": table.printer_minimum_mm,
        "rod_diameter_mm": config.fixation.rod_diameter_mm,
    }
    own |= {
        n: round(v) if isinstance(getattr(defaults, n), int) else v
        for n, v in table.parameters.items()
    }
    return replace(defaults, **{k: v for k, v in own.items() if v is not None})


def _parameters(config: CaseConfig) -> Any:
    return {
        "implant": config.implant.model_dump(mode="json"),
        "rod": config.fixation.rod_diameter_mm,
    }


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "implant", "Implant", ("intake", "bones", "landmarks", "resection", "screws"),
    ("implant", "fixation"),
    _parameters, _inputs, run, 25.0,
    without_implant("An implant is"),
)  # fmt: skip
