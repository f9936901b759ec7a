"""L4 and L5 pedicle screws by corridor search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import Doubt, PlanError
from sacroplan.metrics import Metrics
from sacroplan.progress import part
from sacroplan.resection.plan import SIDES

if TYPE_CHECKING:
    from sacroplan.fixation.corridor import ScrewPlan

LEVELS = ("L4", "L5")


@dataclass(frozen=True, eq=False)
class Screws:
    """Pedicle screws, cranial first, left before right."""

    plans: tuple[ScrewPlan, ...]

    def on_side(self, side: str) -> list[ScrewPlan]:
        """The screws of one side, cranial first."""
        return [p for p in self.plans if p.screw.side == side]


def run(context: Context) -> StageOutput:
    """Plan both screws of both levels."""
    from sacroplan.fixation.corridor import plan_pedicle_screw

    bones: BoneModel = context.result("bones")
    intake: Intake = context.result("intake")
    landmarks = context.result("landmarks")
    plans: list[ScrewPlan] = []
    doubts: list[Doubt] = []
    wanted = [(level, side) for level in LEVELS for side in SIDES]
    for n, (level, side) in enumerate(wanted):
        told = part(context.progress, n / len(wanted), (n + 1) / len(wanted))
        try:
            plan = plan_pedicle_screw(
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
            doubts.append(
                Doubt("fixation", f"fixation.no_screw.{level}_{side}", str(error), ("PED-R1",))
            )
            continue
        plans.append(plan)
        doubts += plan.doubts
    for side in SIDES:
        if not any(p.screw.side == side for p in plans):
            raise PlanError(
                f"No pedicle screw fits on the {side}: "
                + " ".join(d.message for d in doubts if d.code.endswith(side))
            )
    metrics: Metrics = {}
    for plan in plans:
        metrics |= plan.metrics()
    return StageOutput(Screws(tuple(plans)), metrics, tuple(doubts))


def _parameters(_config: CaseConfig) -> Any:
    return {}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "screws", "Pedicle screws", ("intake", "bones", "landmarks"), ("fixation",), _parameters,
    _inputs, run, 10.0,
)  # fmt: skip
