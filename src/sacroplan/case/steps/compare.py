"""The roads of a total sacrectomy side by side under the same load, where case.toml asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacroplan import evidence
from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.mechanics import study_input
from sacroplan.case.steps.options import Options
from sacroplan.case.steps.resection import Resection, beyond_models
from sacroplan.case.steps.screws import Screws
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.screws import Screw
from sacroplan.resection.plan import SIDES

if TYPE_CHECKING:
    from sacroplan.geometry.surface import Surface
    from sacroplan.mechanics.compare import Graft, Road
    from sacroplan.mechanics.inputs import MechanicsInput
    from sacroplan.mechanics.model import RodSolid, ScrewSolid

THROUGH_ILIUM = "through the ilium"
THROUGH_FACE = "through the sawn face of the ilium, as the implant's own"


def bones_left(context: Context) -> dict[str, Surface]:
    """What stays in the patient, by name."""
    bones: BoneModel = context.result("bones")
    plan = context.result("resection").plan
    every = {**bones.surfaces, **plan.remnants}
    return {n: s for n, s in every.items() if n not in plan.specimen}


def iliac_screws(context: Context, count: int) -> tuple[dict[str, list[Screw]], str]:
    """Iliac screws by side, cranial first, and how they go in.

    Where the saw leaves no corridor from behind, the wings' screws stand for them: they hold in the
    same bone. Raises :class:`PlanError` where a side has neither.
    """
    behind = _from_behind(context, count)
    if behind is not None:
        return behind, THROUGH_ILIUM
    screws: Screws = context.result("screws")
    up = context.result("landmarks").frames["pelvis"].axes[:, 1]
    out: dict[str, list[Screw]] = {}
    for side in SIDES:
        own = [p.screw for p in screws.wings if p.screw.side == side]
        if len(own) < count:
            raise PlanError(
                f"{'No screw holds' if count == 1 else 'No two screws hold'} in the {side} ilium "
                "after this resection, neither from behind nor through the sawn face."
            )
        out[side] = sorted(own, key=lambda x: -float(x.head @ up))[:count]
    return out, THROUGH_FACE


def _from_behind(context: Context, count: int) -> dict[str, list[Screw]] | None:
    """``count`` iliac screws a side by corridor search; None where the saw left too little bone."""
    from sacroplan.fixation.construct import plan_construct

    landmarks = context.result("landmarks")
    try:
        found = plan_construct(
            "iliac" if count == 1 else "iliac2", bones_left(context), landmarks.frames,
            landmarks.points, landmarks.hip_radius_mm, context.result("resection").plan.specimen,
            None, None, "clearance", context.result("intake").volume,
        )  # fmt: skip
    except PlanError:
        return None
    own: dict[str, list[Screw]] = {s: [p.screw for p in found.on_side(s)] for s in SIDES}
    return own if all(len(v) == count for v in own.values()) else None


def rod_through(
    context: Context, name: str, screws: Mapping[str, Sequence[Screw]]
) -> tuple[RodSolid, ...]:
    """A rod a side through the heads of ``screws``, cranial first."""
    from sacroplan.fixation.rods import plan_rods
    from sacroplan.mechanics.model import RodSolid

    rods = plan_rods(
        {s: [(x.head, x.direction) for x in own] for s, own in screws.items()},
        bones=list(bones_left(context).values()),
    )
    return tuple(RodSolid(f"{name}_{r.side}", r.polyline, r.diameter_mm) for r in rods.rods)


def on_rods(
    screws: Mapping[str, Sequence[Screw]], rods: Sequence[RodSolid]
) -> tuple[ScrewSolid, ...]:
    """Screws that begin in the nearest rod of their side: the tulip holds both."""
    from sacroplan.mechanics.model import ScrewSolid

    out = []
    for side, own in screws.items():
        line = np.concatenate([np.asarray(r.polyline) for r in rods if r.name.endswith(side)])
        for s in own:
            near = line[np.argmin(np.linalg.norm(line - s.head, axis=1))]
            out.append(ScrewSolid(s.name, near, s.tip, s.diameter_mm))
    return tuple(out)


def struts(options: Options) -> dict[str, Graft]:
    """The planned struts as solids whose full section is as stiff as the cortex in it."""
    from sacroplan.mechanics.compare import Graft

    if options.fibula is None:
        raise PlanError(
            "No strut is planned for this patient: "
            + options.why.get("fibula", "give the donor under [grafts] in case.toml")
        )
    modulus = 1000.0 * evidence.value("SP-GRAFT-02", "modulus")
    medulla = 0.25 * np.pi * evidence.value("FIB-05", "medulla") ** 2
    return {
        s.way.name: Graft(
            s.surface, float(modulus * s.section.area_mm2 / (s.section.area_mm2 + medulla))
        )
        for s in options.fibula.segments
    }


def roads_of(context: Context, inp: MechanicsInput) -> tuple[tuple[Road, ...], dict[str, str]]:
    """The roads that can be built, and why others cannot, by name."""
    from sacroplan.mechanics.compare import ALONE, COLUMN, DUAL, FOUR, PRINTED, SINGLE, Road

    screws: Screws = context.result("screws")
    pedicles: dict[str, list[Screw]] = {s: [p.screw for p in screws.on_side(s)] for s in SIDES}
    roads: list[Road] = []
    why: dict[str, str] = {}
    four: Road | None = None
    for name, count in ((SINGLE, 1), (DUAL, 2)):
        try:
            iliac, how = iliac_screws(context, count)
            own: dict[str, list[Screw]] = {s: [*pedicles[s], *iliac[s]] for s in SIDES}
            rods = rod_through(context, "rod", own)
            words = "one iliac screw" if count == 1 else "two iliac screws"
            title = f"Spinopelvic fixation, {words} a side {how}"
            roads.append(Road(name, title, on_rods(own, rods), rods))
            if count == 2:
                inner: dict[str, list[Screw]] = {s: [*pedicles[s], iliac[s][0]] for s in SIDES}
                outer: dict[str, list[Screw]] = {s: [pedicles[s][-1], iliac[s][1]] for s in SIDES}
                rods = (
                    *rod_through(context, "medial", inner),
                    *rod_through(context, "lateral", outer),
                )
                title = f"Spinopelvic fixation, four rods, iliac screws {how}"
                four = Road(FOUR, title, on_rods(own, rods), rods)
                roads.append(four)
        except PlanError as error:
            why[name] = str(error)
            if count == 2:
                why[FOUR] = str(error)
    try:
        grafts = struts(context.result("options"))
        if four is None:
            raise PlanError(why[FOUR])
        title = four.title.replace("four rods,", "four rods and struts of fibula,")
        roads.append(replace(four, name=COLUMN, title=title, grafts=grafts))
    except PlanError as error:
        why[COLUMN] = str(error)
    implant = context.result("implant")
    wings = {s.name for s in implant.wing_screws}
    printed = Road(
        PRINTED, "Printed implant with lumbar screws and rods", inp.screws, inp.rods,
        inp.implant_core, inp.porous, inp.porous_material,
    )  # fmt: skip
    roads.append(printed)
    alone = tuple(s for s in inp.screws if s.name in wings)
    roads.append(replace(printed, name=ALONE, title="Printed implant alone", screws=alone, rods=()))
    return tuple(roads), why


def run(context: Context) -> StageOutput:
    """Plan, mesh and load every road; nothing where case.toml does not ask for it."""
    from sacroplan.mechanics.compare import Stability, compare, published_orders

    if not context.config.mechanics.compare:
        return StageOutput(None)
    resection: Resection = context.result("resection")
    inp = study_input(context)
    told = context.progress
    told(0.0, "screws and rods of the other roads")
    roads, why = roads_of(context, inp)
    found = compare(inp, roads, lambda f, m: told(0.1 + 0.9 * f, m))
    left_out = tuple(Stability(n, n.replace("_", " "), why_not=w) for n, w in why.items())
    none = Stability(
        "none", f"{resection.plan.title}, nothing put back",
        why_not="L5 hangs on soft tissue alone, of which the model has none.",
    )  # fmt: skip
    rows = (*found.rows, *left_out, none)
    found = replace(found, rows=rows, orders=published_orders(rows))
    doubts = [
        Doubt(
            "mechanics", f"mechanics.compare.{o.row}.{o.what.replace(' ', '_')}",
            f"Published order of {o.what} [{o.row}] is not kept here: {' > '.join(o.asked)} there, "
            f"{' > '.join(o.found)} here. {DIFFERENCES}", (o.row,),
        )
        for o in found.orders if o.verdict == "not kept"
    ]  # fmt: skip
    return StageOutput(found, found.metrics(), tuple(doubts))


DIFFERENCES = (
    "Screws, struts and implant are bonded here, as after healing; the published bones, screws and "
    "interfaces were others."
)
"""Why an order may differ."""


def _parameters(config: CaseConfig) -> Any:
    table = config.mechanics.model_dump(mode="json")
    return {"mechanics": table if config.mechanics.compare else False}


def _inputs(_context: Context) -> list[Path]:
    return []


def unfit(context: Context) -> str | None:
    """Why the comparison that case.toml asks for is not made, if so."""
    if not context.config.mechanics.compare:
        return None
    choice = context.result("resection").plan.choice
    if choice.kind != "total" or choice.l5 != "none":
        return (
            "Reconstructions are not compared: only those of a total sacrectomy that leaves L5 are "
            "modelled side by side."
        )
    return beyond_models("A comparison of reconstructions is")(context)


STAGE = Stage(
    "compare", "Reconstructions compared",
    ("intake", "bones", "calibration", "landmarks", "resection", "screws", "implant", "rods",
     "options"),
    ("mechanics", "fixation", "grafts", "lattice"), _parameters, _inputs, run, 1.0,
    unfit,
)  # fmt: skip
