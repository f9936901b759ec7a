"""Two rods from the pedicle screws to the implant's posts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.resection import Resection, without_two_wings
from sacroplan.case.steps.screws import LEVELS, Screws
from sacroplan.resection.plan import SIDES


def run(context: Context) -> StageOutput:
    """Bend one rod per side."""
    from sacroplan.fixation.rods import Anchor, plan_rods

    bones: BoneModel = context.result("bones")
    resection: Resection = context.result("resection")
    screws: Screws = context.result("screws")
    implant = context.result("implant")
    heads: dict[str, list[Anchor]] = {}
    posts: dict[str, list[Anchor]] = {}
    for side in SIDES:
        used = [plan.screw for plan in screws.on_side(side)]
        heads[side] = [(s.head, s.direction) for s in used]
        # A post is open towards its tulip's mouth; its axis runs the other way, as a screw's does.
        posts[side] = [(p.centre, -p.opening) for p in implant.posts if p.side == side]
    rods = plan_rods(
        heads,
        posts,
        implant.posts[0].diameter,
        [*(bones.surfaces[n] for n in LEVELS), *resection.plan.remnants.values()],
        implant.core,
        bones.labels.frame,
    )
    context.progress(1.0, "rods bent")
    return StageOutput(rods, rods.metrics(), rods.doubts)


def _parameters(_config: CaseConfig) -> Any:
    return {}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "rods", "Rods", ("bones", "resection", "screws", "implant"), ("fixation",), _parameters,
    _inputs, run, 8.0,
    without_two_wings("Rods are"),
)  # fmt: skip
