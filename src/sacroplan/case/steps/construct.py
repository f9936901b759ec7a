"""Screws of a construct without a resection, by corridor search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import CaseError
from sacroplan.metrics import Metric, Metrics


def run(context: Context) -> StageOutput:
    """Plan every screw that case.toml names."""
    from sacroplan.fixation.catalogue import generic, read_catalogue
    from sacroplan.fixation.construct import plan_construct
    from sacroplan.formats.markups import write_lines

    table = context.config.fixation
    if table.construct_name is None:
        raise CaseError(
            'case.toml names no construct; write [fixation] construct = "L4-L5-S2AI" to plan screws alone.'
        )
    bones: BoneModel = context.result("bones")
    intake: Intake = context.result("intake")
    landmarks = context.result("landmarks")
    catalogue = (
        generic()
        if table.catalogue is None
        else read_catalogue(context.input_path(table.catalogue))
    )
    plan = plan_construct(
        table.construct_name, bones.surfaces, landmarks.frames, landmarks.points,
        landmarks.hip_radius_mm, {}, None, catalogue, table.aim, intake.volume, context.progress,
    )  # fmt: skip
    metrics: Metrics = {
        "fixation.construct": Metric(plan.name, "text", "Construct"),
        "fixation.class": Metric(
            " + ".join(plan.classes) or "none", "text", "Class of the construct (Bederman 2014)"
        ),
        "fixation.catalogue": Metric(catalogue.name, "text", "Screw catalogue"),
    }
    for p in plan.plans:
        metrics |= p.metrics()
    lines = {p.screw.name: (p.screw.entry, p.screw.tip) for p in plan.plans}
    runners = {
        f"{s.name}-runner-up-{n + 1}": (s.entry, s.tip)
        for p in plan.plans
        for n, s in enumerate(p.runners)
    }
    return StageOutput(
        plan,
        metrics,
        plan.doubts,
        {
            "dossier/slicer/screws.mrk.json": lambda path: write_lines(lines, path),
            "dossier/slicer/runner_ups.mrk.json": lambda path: write_lines(runners, path),
        },
    )


def _parameters(config: CaseConfig) -> Any:
    table = config.fixation
    return {"construct": table.construct_name, "aim": table.aim, "own": table.catalogue is not None}


def _inputs(context: Context) -> list[Path]:
    own = context.config.fixation.catalogue
    return [] if own is None else [context.input_path(own)]


STAGE = Stage(
    "construct", "Screws of the construct", ("intake", "bones", "landmarks"), ("fixation", "formats"),
    _parameters, _inputs, run, 15.0,
)  # fmt: skip
