"""Screws of a construct without a resection, by corridor search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacroplan import evidence
from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import CaseError
from sacroplan.metrics import Metric, Metrics

if TYPE_CHECKING:
    from sacroplan.fixation.rules import Obstacles
    from sacroplan.fixation.screws import Screw


def run(context: Context) -> StageOutput:
    """Plan every screw that case.toml names."""
    from sacroplan.fixation.catalogue import generic, read_catalogue
    from sacroplan.fixation.construct import plan_construct
    from sacroplan.formats.markups import write_lines

    table = context.config.fixation
    if table.construct_name is None:
        raise CaseError(
            'case.toml names no construct; write [fixation] construct = "L4-L5-S2AI" to plan screws alone.'
        )
    bones: BoneModel = context.result("bones")
    intake: Intake = context.result("intake")
    landmarks = context.result("landmarks")
    catalogue = (
        generic()
        if table.catalogue is None
        else read_catalogue(context.input_path(table.catalogue))
    )
    plan = plan_construct(
        table.construct_name, bones.surfaces, landmarks.frames, landmarks.points,
        landmarks.hip_radius_mm, {}, obstacles_of(context), catalogue, table.aim, intake.volume,
        context.progress, own_screws(context),
    )  # fmt: skip
    metrics: Metrics = {
        "fixation.construct": Metric(plan.name, "text", "Construct"),
        "fixation.class": Metric(
            " + ".join(plan.classes) or "none", "text", "Class of the construct (Bederman 2014)"
        ),
        "fixation.catalogue": Metric(catalogue.name, "text", "Screw catalogue"),
    }
    for p in plan.plans:
        metrics |= p.metrics()
    lines = {p.screw.name: (p.screw.entry, p.screw.tip) for p in plan.plans}
    runners = {
        f"{s.name}-runner-up-{n + 1}": (s.entry, s.tip)
        for p in plan.plans
        for n, s in enumerate(p.runners)
    }
    return StageOutput(
        plan,
        metrics,
        plan.doubts,
        {
            "dossier/slicer/screws.mrk.json": lambda path: write_lines(lines, path),
            "dossier/slicer/runner_ups.mrk.json": lambda path: write_lines(runners, path),
        },
    )


def obstacles_of(context: Context) -> Obstacles:
    """Guide wires and vessels of case.toml that screws keep clear of."""
    from sacroplan.fixation.rules import Metal, Obstacles
    from sacroplan.formats.labels import read_mask
    from sacroplan.resection.tumour import tumour_from_mask

    table = context.config.fixation
    bones: BoneModel = context.result("bones")
    wanted = evidence.value("IL-03", "bone_between")
    wires = tuple(
        Metal(n, np.array(w.start_mm), np.array(w.end_mm), 0.5 * w.diameter_mm, wanted)
        for n, w in sorted(table.wires.items())
    )
    vessels = {}
    for name, file in sorted(table.vessels.items()):
        path, geometry = context.input_path(file), bones.labels.geometry
        mask = read_mask(path, geometry)
        vessels[name] = tumour_from_mask(geometry, mask, f"vessel mask {path.name}").surface
    return Obstacles((), wires, vessels or None)


def own_screws(context: Context) -> tuple[Screw, ...]:
    """Screws that case.toml places itself."""
    from sacroplan.fixation.screws import at

    frame = context.result("bones").labels.frame
    out = []
    for name, s in sorted(context.config.fixation.own.items()):
        entry, tip = np.array(s.entry_mm), np.array(s.tip_mm)
        length = float(np.linalg.norm(tip - entry))
        out.append(
            at(name, s.level, s.side, s.kind, entry, tip - entry, s.diameter_mm, length, frame)
        )
    return tuple(out)


def _parameters(config: CaseConfig) -> Any:
    table = config.fixation
    return {
        "construct": table.construct_name, "aim": table.aim, "own": table.catalogue is not None,
        "screws": {n: s.model_dump(mode="json") for n, s in sorted(table.own.items())},
        "wires": {n: w.model_dump(mode="json") for n, w in sorted(table.wires.items())},
        "vessels": sorted(table.vessels),
    }  # fmt: skip


def _inputs(context: Context) -> list[Path]:
    table = context.config.fixation
    own = [] if table.catalogue is None else [table.catalogue]
    return [context.input_path(f) for f in (*own, *table.vessels.values())]


STAGE = Stage(
    "construct", "Screws of the construct", ("intake", "bones", "landmarks"),
    ("fixation", "formats", "resection"), _parameters, _inputs, run, 15.0,
)  # fmt: skip
