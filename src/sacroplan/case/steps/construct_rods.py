"""Rods through the heads of a construct, with the table for theatre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacroplan import evidence
from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.construct import SIDES, Construct
from sacroplan.fixation.cross import CrossConnector
from sacroplan.fixation.rod_table import (
    Bend,
    Connector,
    bends,
    connectors,
    four_rods,
    side_grip,
    table_text,
)
from sacroplan.fixation.rods import RodPlan, Rods
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume
from sacroplan.metrics import Metric, Metrics

if TYPE_CHECKING:
    from sacroplan.fixation.rods import Anchor

BONES = ("L3", "L4", "L5", "sacrum", "hip_left", "hip_right")
"""What rods and cross-connectors keep clear of."""


@dataclass(frozen=True, eq=False)
class ConstructRods:
    """Rods, and their bends and connectors by rod name."""

    rods: Rods
    bends: dict[str, tuple[Bend, ...]]
    connectors: dict[str, tuple[Connector, ...]]


def run(context: Context) -> StageOutput:
    """One rod a side through two heads or more, or two where four rods are wanted."""
    from sacroplan.formats.atomic import write_text

    bones: BoneModel = context.result("bones")
    intake: Intake = context.result("intake")
    construct: Construct = context.result("construct")
    table = context.config.fixation
    solids = [bones.surfaces[n] for n in BONES if n in bones.surfaces]
    pelvis = context.result("landmarks").frames["pelvis"].axes
    rods, names = bent(
        construct, table.rod_diameter_mm, solids, pelvis[:, 2], table.rods == "four",
        bones.labels.frame,
    )  # fmt: skip
    doubts = list(rods.doubts)
    if table.cross_connectors:
        cross, said = crossed(rods, table.cross_connectors, pelvis, solids)
        rods = replace(rods, cross=cross)
        doubts += said
    metrics: Metrics = rods.metrics()
    context.progress(0.6, "rods bent")
    if rods.plans:
        found, said = under_skin(rods, intake.volume)
        metrics |= found
        doubts += said
    by_bends = {p.name: bends(p, names[p.name]) for p in rods.plans}
    by_connectors = {p.name: connectors(p, names[p.name]) for p in rods.plans}
    text = table_text(rods.plans, by_bends, by_connectors, rods.cross)
    context.progress(1.0, "rods measured")
    return StageOutput(
        ConstructRods(rods, by_bends, by_connectors),
        metrics,
        tuple(doubts),
        {"dossier/rods.txt": lambda path: write_text(path, text)},
    )


def bent(
    construct: Construct,
    diameter_mm: float | None,
    solids: list[Surface],
    right: FloatArray,
    four: bool,
    frame: str,
) -> tuple[Rods, dict[str, list[str]]]:
    """All rods, and the names of each one's anchors. ``right`` : (3,) to the patient's right."""
    from sacroplan.fixation.rods import plan_rods

    plans: list[RodPlan] = []
    names: dict[str, list[str]] = {}

    def add(side: str, anchors: list[Anchor], called: list[str], suffix: str) -> RodPlan:
        plan = plan_rods(
            {side: anchors}, None, diameter_mm, solids, None, frame, {side: called}, suffix
        ).plans[0]  # fmt: skip
        plans.append(plan)
        names[plan.name] = called
        return plan

    for side in SIDES:
        used = {
            p.screw.name: p.screw for p in construct.on_side(side)
            if p.screw.kind != "trans_sacral"
        }  # fmt: skip
        if len(used) < 2:
            continue
        medial, lateral = four_rods(list(used)) if four else (list(used), [])
        heads: list[Anchor] = [(used[n].head, used[n].direction) for n in medial]
        first = add(side, heads, medial, "")
        if lateral:
            away = right if side == "right" else -right
            grip: list[Anchor] = [(side_grip(first, away), None)]
            grip += [(used[n].head, used[n].direction) for n in lateral]
            add(side, grip, [f"connector to {first.name}", *lateral], "_lateral")
    return Rods(tuple(plans)), names


def crossed(
    rods: Rods, count: int, pelvis: FloatArray, solids: Sequence[Surface]
) -> tuple[tuple[CrossConnector, ...], tuple[Doubt, ...]]:
    """Cross-connectors between the medial rods of both sides; ``pelvis`` (3, 3) axes of FRM-1."""
    from sacroplan.fixation.cross import plan_cross

    of = {p.name: p for p in rods.plans}
    if "rod_left" not in of or "rod_right" not in of:
        why = "Cross-connectors are wanted, but there is no rod on both sides to join."
        return (), (Doubt("fixation", "fixation.no_room_for_cross", why, ("ROD-5",)),)
    return plan_cross(of["rod_left"], of["rod_right"], count, pelvis[:, 1], -pelvis[:, 0], solids)


def under_skin(rods: Rods, volume: Volume) -> tuple[Metrics, tuple[Doubt, ...]]:
    """Least tissue (mm) between each rod and the skin of the CT, in any direction [SOFT-5]."""
    from sacroplan.fixation.bone import walls_of
    from sacroplan.softtissue.cover import back_of, skin

    try:
        back = walls_of(back_of(skin(volume), volume))
    except PlanError as error:
        why = f"How far the rods lie under the skin is not known: {error}"
        return {}, (Doubt("fixation", "fixation.no_skin", why, ("SOFT-5",)),)
    wanted = evidence.value("SOFT-5", "cover")
    metrics: Metrics = {}
    doubts = []
    for p in rods.plans:
        gap, _ = back.gaps(p.polyline[:-1], p.polyline[1:])
        least = float(gap.min()) - 0.5 * p.diameter_mm
        place = p.name.removeprefix("rod_")
        what = f"{place.replace('_', ' ')} rod"
        metrics[f"fixation.rod.{place}.skin_mm"] = Metric(
            least, "mm", f"{what}: least tissue to the skin", ("SOFT-5",), wanted
        )
        if least < wanted:
            doubts.append(
                Doubt(
                    "fixation", f"fixation.rod_under_skin.{place}",
                    f"The {what} lies {least:.0f} mm under the skin at the thinnest place; {wanted:g} mm are "
                    "wanted. Take a lower head, or plan cover.", ("SOFT-5",),
                )
            )  # fmt: skip
    return metrics, tuple(doubts)


def _parameters(config: CaseConfig) -> Any:
    table = config.fixation
    return {
        "diameter": table.rod_diameter_mm, "rods": table.rods, "cross": table.cross_connectors,
    }  # fmt: skip


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "construct_rods", "Rods", ("intake", "bones", "landmarks", "construct"),
    ("fixation", "softtissue", "formats"), _parameters, _inputs, run, 8.0,
)  # fmt: skip
