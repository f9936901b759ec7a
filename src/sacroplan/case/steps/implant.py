"""The two-wing implant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.resection import Resection
from sacroplan.case.steps.screws import Screws
from sacroplan.resection.plan import SIDES


def run(context: Context) -> StageOutput:
    """Design the implant on the cut faces and under L5."""
    from sacroplan.implant.model import ImplantInput, ImplantParameters, WingSeat
    from sacroplan.implant.two_wing import design

    bones: BoneModel = context.result("bones")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    plan = resection.plan
    screws: Screws = context.result("screws")
    left, right = (
        WingSeat(side, plan.cut(f"iliac_{side}").remnant_face, plan.remnants[f"hip_{side}"])
        for side in SIDES
    )
    inp = ImplantInput(
        landmarks.frames["pelvis"],
        bones.surfaces["L5"],
        landmarks.frames["L5IEP"],
        (left, right),
        plan.specimen_surface,
        (bones.surfaces["L4"],),
        (),
        # The rod reaches the implant from the lowest screw of its side.
        {side: screws.on_side(side)[-1].screw.head for side in SIDES},
    )
    implant = design(inp, parameters(context.config, ImplantParameters()), context.progress)
    return StageOutput(implant, implant.metrics(), implant.doubts)


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
    "implant", "Two-wing implant", ("bones", "landmarks", "resection", "screws"), ("implant",),
    _parameters, _inputs, run, 25.0,
)  # fmt: skip
