"""L4 and L5 pedicle screws by corridor search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import PlanError
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

    def pedicle(self, name: str) -> ScrewPlan:
        """The plan called ``name``, e.g. ``L5_left``."""
        for plan in self.plans:
            if f"{plan.screw.level}_{plan.screw.side}" == name:
                return plan
        raise PlanError(f"There is no pedicle screw {name!r}.")


def run(context: Context) -> StageOutput:
    """Plan both screws of both levels."""
    from sacroplan.fixation.corridor import plan_pedicle_screw

    bones: BoneModel = context.result("bones")
    intake: Intake = context.result("intake")
    landmarks = context.result("landmarks")
    plans = []
    wanted = [(level, side) for level in LEVELS for side in SIDES]
    for n, (level, side) in enumerate(wanted):
        plans.append(
            plan_pedicle_screw(
                bones.surfaces[level],
                level,
                side,
                landmarks.frames[f"{level}SEP"],
                landmarks.frames[f"{level}IEP"],
                intake.volume,
                progress=part(context.progress, n / len(wanted), (n + 1) / len(wanted)),
            )
        )
    metrics: Metrics = {}
    for plan in plans:
        metrics |= plan.metrics()
    return StageOutput(Screws(tuple(plans)), metrics, tuple(d for p in plans for d in p.doubts))


def _parameters(_config: CaseConfig) -> Any:
    return {}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "screws", "Pedicle screws", ("intake", "bones", "landmarks"), ("fixation",), _parameters,
    _inputs, run, 10.0,
)  # fmt: skip
