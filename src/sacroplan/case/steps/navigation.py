"""Robot plan of a case's screws, and what the accuracy of robot and hand does to its screws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.reconstruction import without_implant
from sacroplan.case.steps.resection import Resection
from sacroplan.case.steps.screws import Screws
from sacroplan.fixation.construct import Construct
from sacroplan.fixation.screw_plan import ScrewPlan
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric, Metrics
from sacroplan.navigation.accuracy import Accuracy, Target, published, simulate
from sacroplan.navigation.robot_plan import RobotPlan
from sacroplan.progress import part

SACRAL = ("S1", "sacrum")
"""What a screw in S1 calls its level: alone, and beside a resection."""


@dataclass(frozen=True, eq=False)
class Navigation:
    """The plan as a station gets it, and both simulations."""

    plan: RobotPlan
    robot: Accuracy
    freehand: Accuracy


def run(context: Context) -> StageOutput:
    """Robot plan and accuracy of a construct without a resection."""
    construct: Construct = context.result("construct")
    bones: BoneModel = context.result("bones")
    return planned(context, construct.plans, bones.surfaces, {})


def run_resection(context: Context) -> StageOutput:
    """Robot plan and accuracy of the screws beside an implant, in the bone that stays."""
    bones: BoneModel = context.result("bones")
    screws: Screws = context.result("screws")
    resection: Resection = context.result("resection")
    kept = {**bones.surfaces, **resection.plan.remnants}
    return planned(context, (*screws.plans, *screws.wings), kept, resection.plan.specimen)


def planned(
    context: Context,
    plans: tuple[ScrewPlan, ...],
    bones: Mapping[str, Surface],
    removed: Mapping[str, Surface],
) -> StageOutput:
    """Simulate robot and hand, predict target errors, write the plan in all its forms."""
    from sacroplan.formats.dicom_out import ct_source
    from sacroplan.formats.markups import write_lines
    from sacroplan.navigation.robot_plan import robot_plan, write_plan

    intake: Intake = context.result("intake")
    table, case = context.config.navigation, context.config.case.id
    targets = targets_of(plans, bones, context.result("landmarks").frames)
    told = context.progress
    robot = simulate(
        targets, published(table.robot), table.draws, 1, progress=part(told, 0.0, 0.45)
    )
    hand = published("SP-NAV-01")
    hand = replace(
        hand,
        tail_mm=table.freehand_tail_mm or hand.tail_mm,
        tip_mm=table.freehand_tip_mm or hand.tip_mm,
    )
    freehand = simulate(targets, hand, table.draws, 1, progress=part(told, 0.45, 0.9))
    source = intake.info.source or ct_source(intake.volume, case)
    markers = {n: np.asarray(p) for n, p in sorted(table.markers.items())}
    fle = evidence.value("SP-NAV-02", "fle") if table.fle_mm is None else table.fle_mm
    screws = tuple(p.screw for p in plans)
    plan = robot_plan(case, source.frame_uid, screws, markers, removed, fle)
    metrics: Metrics = {**robot.metrics(), **freehand.metrics()}
    for name, value in plan.tre_mm.items():
        metrics[f"navigation.tre.{name}_mm"] = Metric(
            value,
            "mm",
            f"{name.replace('_', ' ')}: predicted target error at the tip",
            ("SP-NAV-05", "SP-NAV-04"),
        )
    lines = {s.name: (s.entry, s.tip) for s in screws}
    files = {
        "dossier/robot/plan.json": partial(write_plan, plan),
        "dossier/robot/screws.mrk.json": partial(write_lines, lines),
        "dossier/dicom/screws.dcm": partial(_dicom, lines=lines, source=source, case=case),
    }
    return StageOutput(Navigation(plan, robot, freehand), metrics, plan.doubts, files)


def _dicom(path: Path, lines: Any, source: Any, case: str) -> None:
    from sacroplan.formats.spatial_fiducials import write_spatial_fiducials

    write_spatial_fiducials(lines, path, source=source, case_id=case)


def targets_of(
    plans: tuple[ScrewPlan, ...], bones: Mapping[str, Surface], frames: Mapping[str, AxisFrame]
) -> list[Target]:
    """Screws with the bone each lies in and the frame in which directions are named."""
    from sacroplan.fixation.bone import joined, one_bone
    from sacroplan.fixation.corridor import level_frame

    out = []
    made: dict[tuple[str, ...], Any] = {}
    for p in plans:
        s = p.screw
        own, other = f"hip_{s.side}", "hip_right" if s.side == "left" else "hip_left"
        names = {
            "pedicle": ("sacrum",) if s.level in SACRAL else (s.level,),
            "s2ai": ("sacrum", own), "trans_sacral": (own, "sacrum", other),
        }.get(s.kind, (own,))  # fmt: skip
        if names not in made:
            solids = [bones[n] for n in names]
            made[names] = one_bone(solids[0]) if len(solids) == 1 else joined(solids)
        if s.kind == "pedicle":
            low = f"{s.level}IEP" if s.level not in SACRAL else "S1EP"
            high = f"{s.level}SEP" if s.level not in SACRAL else "S1EP"
            axes = level_frame(s.level, frames[high], frames[low])
        else:
            axes = frames["pelvis"]
        out.append(Target(s, made[names], p.start_mm, axes))
    return out


def _parameters(config: CaseConfig) -> Any:
    return {"case": config.case.id, **config.navigation.model_dump(mode="json")}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "navigation", "Robot plan and accuracy", ("intake", "bones", "landmarks", "construct"),
    ("fixation", "navigation", "formats"), _parameters, _inputs, run, 8.0,
)  # fmt: skip

RESECTION_STAGE = Stage(
    "navigation", "Robot plan and accuracy",
    ("intake", "bones", "landmarks", "resection", "screws"),
    ("fixation", "navigation", "formats"), _parameters, _inputs, run_resection, 8.0,
    without_implant("A robot plan is"),
)  # fmt: skip
"""The same beside an implant: the screws that stay in bone, markers held against the specimen."""
