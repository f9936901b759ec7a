"""Rods through the heads of a construct, with the table for theatre."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.fixation.construct import Construct
from sacroplan.fixation.rod_table import Bend, Connector, bends, connectors, table_text
from sacroplan.fixation.rods import RodPlan, Rods
from sacroplan.metrics import Metrics


@dataclass(frozen=True, eq=False)
class ConstructRods:
    """Rods, their bends and connectors by rod name."""

    rods: Rods
    bends: dict[str, tuple[Bend, ...]]
    connectors: dict[str, tuple[Connector, ...]]


def run(context: Context) -> StageOutput:
    """One rod a side through two heads or more."""
    from sacroplan.fixation.rods import Anchor, plan_rods
    from sacroplan.formats.atomic import write_text

    bones: BoneModel = context.result("bones")
    construct: Construct = context.result("construct")
    heads: dict[str, list[Anchor]] = {}
    names: dict[str, list[str]] = {}
    for side in ("left", "right"):
        used = [p.screw for p in construct.on_side(side) if p.screw.kind != "trans_sacral"]
        if len(used) > 1:
            heads[side] = [(s.head, s.direction) for s in used]
            names[side] = [s.name for s in used]
    plans: tuple[RodPlan, ...] = ()
    if heads:
        solids = [bones.surfaces[n] for n in ("L3", "L4", "L5", "sacrum", "hip_left", "hip_right")
                  if n in bones.surfaces]  # fmt: skip
        plans = plan_rods(
            heads, None, context.config.fixation.rod_diameter_mm, solids, None, bones.labels.frame,
            names,
        ).plans  # fmt: skip
    rods = Rods(plans)
    by_bends = {p.name: bends(p, names[p.side]) for p in plans}
    by_connectors = {p.name: connectors(p, names[p.side]) for p in plans}
    metrics: Metrics = rods.metrics()
    text = table_text(plans, by_bends, by_connectors)
    context.progress(1.0, "rods bent")
    return StageOutput(
        ConstructRods(rods, by_bends, by_connectors),
        metrics,
        rods.doubts,
        {"dossier/rods.txt": lambda path: write_text(path, text)},
    )


def _parameters(config: CaseConfig) -> Any:
    return {"diameter": config.fixation.rod_diameter_mm}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "construct_rods", "Rods", ("bones", "construct"), ("fixation", "formats"), _parameters, _inputs,
    run, 5.0,
)  # fmt: skip
