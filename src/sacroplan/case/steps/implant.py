"""The two-wing implant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.resection import Resection, without_two_wings
from sacroplan.case.steps.screws import Screws
from sacroplan.resection.plan import SIDES


def run(context: Context) -> StageOutput:
    """Design the implant on the cut faces and under L5."""
    from sacroplan.fixation.screws import at
    from sacroplan.fixation.wings import assess_wing_screw
    from sacroplan.implant.model import ImplantInput, ImplantParameters, WingSeat
    from sacroplan.implant.two_wing import design

    intake: Intake = context.result("intake")

    bones: BoneModel = context.result("bones")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    plan = resection.plan
    screws: Screws = context.result("screws")
    left, right = (
        WingSeat(side, plan.cut(f"iliac_{side}").remnant_face, plan.remnants[f"hip_{side}"])
        for side in SIDES
    )
    # With a corridor missing on one side the implant room proposes both, so that they match.
    planned = tuple(
        (w.screw.name, w.screw.entry, w.screw.tip, w.screw.diameter_mm) for w in screws.wings
    )
    if {w.screw.side for w in screws.wings} != set(SIDES):
        planned = ()
    inp = ImplantInput(
        landmarks.frames["pelvis"],
        bones.surfaces["L5"],
        landmarks.frames["L5IEP"],
        (left, right),
        plan.specimen_surface,
        (bones.surfaces["L4"],),
        planned,
        # The rod reaches the implant from the lowest screw of its side.
        {side: screws.on_side(side)[-1].screw.head for side in SIDES},
    )
    implant = design(inp, parameters(context.config, ImplantParameters()), context.progress)
    metrics, doubts = implant.metrics(), list(implant.doubts)
    corridors = {w.screw.name: w for w in screws.wings}
    for screw in implant.wing_screws:
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
    own = {
        "porous_mm": table.porous_thickness_mm,
        "porosity_percent": table.porosity_percent,
        "cell_mm": table.cell_mm,
        "rod_diameter_mm": config.fixation.rod_diameter_mm,
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
    "implant", "Two-wing implant", ("intake", "bones", "landmarks", "resection", "screws"),
    ("implant", "fixation"),
    _parameters, _inputs, run, 25.0,
    without_two_wings("An implant is"),
)  # fmt: skip
