"""Two rods from the pedicle screws to the implant's posts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.resection import Resection
from sacroplan.case.steps.screws import LEVELS, Screws
from sacroplan.metrics import Metrics
from sacroplan.resection.plan import SIDES

if TYPE_CHECKING:
    from sacroplan.fixation.rods import Rod


@dataclass(frozen=True, eq=False)
class Rods:
    """The rods, left first."""

    rods: tuple[Rod, ...]


def run(context: Context) -> StageOutput:
    """Bend one rod per side."""
    from sacroplan.fixation.rods import plan_rod

    bones: BoneModel = context.result("bones")
    resection: Resection = context.result("resection")
    screws: Screws = context.result("screws")
    implant = context.result("implant")
    around = [bones.surfaces[n] for n in LEVELS] + list(resection.plan.remnants.values())
    rods = []
    for n, side in enumerate(SIDES):
        context.progress(n / 2, f"{side} rod")
        posts = [p for p in implant.posts if p.side == side]
        rods.append(
            plan_rod(
                side,
                [screws.pedicle(f"{level}_{side}").screw for level in LEVELS],
                [(p.centre, p.axis) for p in posts],
                posts[0].diameter,
                bones=around,
                implant=implant.core,
            )
        )
    metrics: Metrics = {}
    for rod in rods:
        metrics |= rod.metrics()
    return StageOutput(Rods(tuple(rods)), metrics, tuple(d for rod in rods for d in rod.doubts))


def _parameters(_config: CaseConfig) -> Any:
    return {}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "rods", "Rods", ("bones", "resection", "screws", "implant"), ("fixation",), _parameters,
    _inputs, run, 8.0,
)  # fmt: skip
