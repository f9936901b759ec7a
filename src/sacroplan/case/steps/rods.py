"""Rods from the pedicle screws to the implant's posts, or to S1 on a side that stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.construct_rods import crossed
from sacroplan.case.steps.reconstruction import chosen, without_implant
from sacroplan.case.steps.resection import Resection
from sacroplan.case.steps.screws import Screws, levels_of
from sacroplan.errors import Doubt
from sacroplan.resection.plan import SIDES


def run(context: Context) -> StageOutput:
    """Bend one rod per side; none where the implant holds the vertebra itself."""
    from sacroplan.fixation.rods import Anchor, Rods, plan_rods

    bones: BoneModel = context.result("bones")
    resection: Resection = context.result("resection")
    screws: Screws = context.result("screws")
    implant = context.result("implant")
    plan = chosen(context)
    if not plan.construct:
        return StageOutput(Rods(()), {}, ())
    heads: dict[str, list[Anchor]] = {}
    posts: dict[str, list[Anchor]] = {}
    doubts: list[Doubt] = []
    for side in SIDES:
        used = [p.screw for p in screws.on_side(side)]
        if len(used) + sum(p.side == side for p in implant.posts) < 2:
            why = (
                f"No rod is planned on the {side}: it has one anchor only. Plan another screw there in "
                "the fixation room."
            )
            doubts.append(Doubt("fixation", f"fixation.no_rod.{side}", why, ("ROD-2",)))
            continue
        if implant.pose is not None:
            used = [s.transformed(implant.pose) for s in used]
        heads[side] = [(s.head, s.direction) for s in used]
        # A post is open towards its tulip's mouth; its axis runs the other way, as a screw's does.
        posts[side] = [(p.centre, -p.opening) for p in implant.posts if p.side == side]
    solids = [
        *(
            implant.carried(bones.surfaces[n])
            for n in levels_of(plan.construct)
            if n in bones.surfaces
            and n not in resection.plan.remnants
            and n not in resection.plan.specimen
        ),
        *resection.plan.remnants.values(),
    ]
    rods = plan_rods(
        heads, posts, implant.posts[0].diameter, solids, implant.core, bones.labels.frame
    )
    count = context.config.fixation.cross_connectors
    if count:
        axes = context.result("landmarks").frames["pelvis"].axes
        cross, said = crossed(rods, count, axes, [*solids, implant.core])
        rods = replace(rods, cross=cross)
        doubts += said
    context.progress(1.0, "rods bent")
    return StageOutput(rods, rods.metrics(), (*rods.doubts, *doubts))


def _parameters(config: CaseConfig) -> Any:
    return {"cross": config.fixation.cross_connectors}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "rods", "Rods", ("bones", "landmarks", "resection", "screws", "implant"), ("fixation",), _parameters,
    _inputs, run, 8.0,
    without_implant("Rods are"),
)  # fmt: skip
