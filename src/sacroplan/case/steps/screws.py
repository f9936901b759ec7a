"""L4 and L5 pedicle screws, and iliac screws through the wings' faces, by corridor search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.resection import Resection, without_two_wings
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.corridor import ScrewPlan
from sacroplan.metrics import Metrics
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, part
from sacroplan.resection.plan import SIDES

LEVELS = ("L4", "L5")


@dataclass(frozen=True, eq=False)
class Screws:
    """Pedicle screws, cranial first, left before right; iliac screws for the implant's wings.

    ``wings`` lacks a side where no safe corridor was found: the implant then proposes its own.
    """

    plans: tuple[ScrewPlan, ...]
    wings: tuple[ScrewPlan, ...]

    def on_side(self, side: str) -> list[ScrewPlan]:
        """The screws of one side, cranial first."""
        return [p for p in self.plans if p.screw.side == side]


def run(context: Context) -> StageOutput:
    """Plan both screws of both levels."""
    from sacroplan.fixation.corridor import plan_pedicle_screw
    from sacroplan.fixation.wings import plan_wing_screws

    bones: BoneModel = context.result("bones")
    intake: Intake = context.result("intake")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    wanted = [(level, side) for level in LEVELS for side in SIDES]

    def pedicle(place: tuple[str, str], told: Progress) -> ScrewPlan | Doubt:
        level, side = place
        try:
            return plan_pedicle_screw(
                bones.surfaces[level],
                level,
                side,
                landmarks.frames[f"{level}SEP"],
                landmarks.frames[f"{level}IEP"],
                intake.volume,
                progress=told,
            )
        except PlanError as error:
            # One pedicle may be too thin or cut off; the construct then stands on the others.
            return Doubt("fixation", f"fixation.no_screw.{level}_{side}", str(error), ("PED-R1",))

    def wing(side: str, told: Progress) -> tuple[ScrewPlan, ...] | Doubt:
        try:
            return plan_wing_screws(
                resection.plan.remnants[f"hip_{side}"],
                resection.plan.cut(f"iliac_{side}").remnant_face,
                side,
                landmarks.frames["pelvis"],
                landmarks.points,
                landmarks.hip_radius_mm.get(side),
                intake.volume,
                progress=told,
            )
        except PlanError as error:
            return Doubt("fixation", f"fixation.no_wing_corridor.{side}", str(error), ("IL-05",))

    plans: list[ScrewPlan] = []
    doubts: list[Doubt] = []
    for found in side_by_side(pedicle, wanted, part(context.progress, 0.0, 0.6)):
        if isinstance(found, Doubt):
            doubts.append(found)
        else:
            plans.append(found)
            doubts += found.doubts
    for side in SIDES:
        if not any(p.screw.side == side for p in plans):
            raise PlanError(
                f"No pedicle screw fits on the {side}: "
                + " ".join(d.message for d in doubts if d.code.endswith(side))
            )
    wings: list[ScrewPlan] = []
    for pair in side_by_side(wing, SIDES, part(context.progress, 0.6, 1.0)):
        if isinstance(pair, Doubt):
            doubts.append(pair)
        else:
            wings += pair
    metrics: Metrics = {}
    for plan in plans:
        metrics |= plan.metrics()
    return StageOutput(Screws(tuple(plans), tuple(wings)), metrics, tuple(doubts))


def _parameters(_config: CaseConfig) -> Any:
    return {}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "screws", "Pedicle and wing screws", ("intake", "bones", "landmarks", "resection"),
    ("fixation",), _parameters, _inputs, run, 15.0,
    without_two_wings("Screws are"),
)  # fmt: skip
