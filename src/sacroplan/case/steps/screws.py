"""Pedicle screws beside the implant, and iliac screws through its wings' faces, by corridor search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.reconstruction import chosen, without_implant
from sacroplan.case.steps.resection import Resection
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.screw_plan import ScrewPlan
from sacroplan.geometry.frames import FloatArray
from sacroplan.metrics import Metrics
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, part
from sacroplan.resection.plan import SIDES


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


def levels_of(construct: str) -> tuple[str, ...]:
    """Lumbar levels of a construct, cranial first."""
    return tuple(w for w in construct.split("-") if w.startswith("L"))


def run(context: Context) -> StageOutput:
    """Plan both screws of every lumbar level, S1's on a side that stays, and the wings' screws."""
    from sacroplan.fixation.corridor import plan_pedicle_screw
    from sacroplan.fixation.wings import plan_wing_screws

    bones: BoneModel = context.result("bones")
    intake: Intake = context.result("intake")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    plan_ = chosen(context)
    wanted = [(level, side) for level in levels_of(plan_.construct) for side in SIDES]
    kept = {**bones.surfaces, **resection.plan.remnants}

    def pedicle(place: tuple[str, str], told: Progress) -> ScrewPlan | Doubt:
        level, side = place
        lacking = [n for n in (f"{level}SEP", f"{level}IEP") if n not in landmarks.frames]
        if lacking or level not in kept:
            why = f"No screw is planned in {level}: the CT or its labels lack {', '.join(lacking) or level}."
            return Doubt("fixation", f"fixation.no_screw.{level}_{side}", why, ("PED-R1",))
        try:
            return plan_pedicle_screw(
                kept[level],
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
                seat_margin=seat_of(context, side),
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
    for side in SIDES if wanted else ():
        if not any(p.screw.side == side for p in plans):
            raise PlanError(
                f"No pedicle screw fits on the {side}: "
                + " ".join(d.message for d in doubts if d.code.endswith(side))
            )
    first_sacral = [w for w in plan_.construct.split("-") if w.startswith("S1")]
    for word in first_sacral:
        found_s1, said = sacral(context, word)
        plans += found_s1
        doubts += said
    wings: list[ScrewPlan] = []
    # A joint that was taken apart has no cut face to start from: there the implant proposes.
    faces = () if plan_.joint else plan_.sides
    for pair in side_by_side(wing, faces, part(context.progress, 0.6, 1.0)):
        if isinstance(pair, Doubt):
            doubts.append(pair)
        else:
            wings += pair
    metrics: Metrics = {}
    for plan in plans:
        metrics |= plan.metrics()
    return StageOutput(Screws(tuple(plans), tuple(wings)), metrics, tuple(doubts))


def sacral(context: Context, word: str) -> tuple[tuple[ScrewPlan, ...], tuple[Doubt, ...]]:
    """The S1 screw of a construct in the sacral remnant, or the doubt that says why there is none."""
    from sacroplan.fixation.construct import plan_construct

    bones: BoneModel = context.result("bones")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    try:
        found = plan_construct(
            word, {**bones.surfaces, **resection.plan.remnants}, landmarks.frames, landmarks.points,
            landmarks.hip_radius_mm, volume=context.result("intake").volume,
        )  # fmt: skip
    except PlanError as error:
        code = f"fixation.no_screw.{word.replace('.', '_')}"
        return (), (Doubt("fixation", code, str(error), ("PED-S1",)),)
    # Later stages know the bone by its own name.
    plans = tuple(replace(p, screw=replace(p.screw, level="sacrum")) for p in found.plans)
    return plans, found.doubts


def seat_of(context: Context, side: str) -> Callable[[FloatArray], FloatArray]:
    """How far points of a cut face lie inside the implant's seat, less what a screw hole needs, mm."""
    from sacroplan.case.steps.implant import implant_input, parameters
    from sacroplan.implant.model import ImplantParameters
    from sacroplan.implant.seats import seat_margin

    p = parameters(context.config, ImplantParameters())
    inp = implant_input(context)

    def margin(points: FloatArray) -> FloatArray:
        return seat_margin(inp, points, side, p)  # type: ignore[arg-type]

    return margin


def _parameters(config: CaseConfig) -> Any:
    return {"implant": config.implant.model_dump(mode="json")}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "screws", "Pedicle and wing screws", ("intake", "bones", "landmarks", "resection"),
    ("fixation", "implant"), _parameters, _inputs, run, 15.0,
    without_implant("Screws are"),
)  # fmt: skip
