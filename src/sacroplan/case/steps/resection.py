"""Osteotomies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.case.config import CaseConfig, CutTable
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.errors import CaseError, Doubt
from sacroplan.geometry.frames import Plane
from sacroplan.metrics import Metric
from sacroplan.resection.execution import Execution
from sacroplan.resection.plan import OwnCut, ResectionPlan, plan_resection
from sacroplan.resection.presets import PRESETS, Choice
from sacroplan.resection.site import Site
from sacroplan.resection.tumour import Tumour, tumour_from_mask


@dataclass(frozen=True, eq=False)
class Resection:
    """The tumour, where one is known, the plan that removes it, and what execution makes of it.

    ``executions`` holds one simulation a technique, none without a tumour; ``steps`` the order of work.
    """

    tumour: Tumour | None
    plan: ResectionPlan
    executions: tuple[Execution, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()


MOVED_MM = 0.01
MOVED_DEG = 0.01
"""A plane of the user's file nearer than both to the automatic one was not moved."""


def choice_of(config: CaseConfig) -> Choice:
    """What case.toml asks for; a named preset brings its own settings."""
    table = config.resection
    if table.type in PRESETS and table.type.startswith("kaiser"):
        choice = PRESETS[table.type]
    else:
        choice = Choice(
            table.type,  # type: ignore[arg-type]
            table.side, table.l5, table.joint, table.line, int(table.lowest[1]),
        )  # fmt: skip
    return replace(
        choice,
        kerf_mm=table.kerf_mm or 0.0,
        margin_mm=table.margin_mm or 0.0,
        margins_mm=dict(table.margins_mm),
    )


def own_of(name: str, table: CutTable, frame: str) -> OwnCut:
    """One cut of case.toml as the resection room wants it."""
    at = table.point_mm if table.point_mm is not None else (table.points_mm or ())[0]
    return OwnCut(
        Plane(np.asarray(at), np.asarray(table.normal), frame),
        table.bone,
        None if table.points_mm is None else np.asarray(table.points_mm, dtype=np.float64),
        None if table.saw is None else np.asarray(table.saw, dtype=np.float64),
        table.depth_mm,
        table.width_mm,
        table.open_ends,
    )


def site_of(context: Context) -> Site:
    """Bones, landmarks, tumour and vessels of the case."""
    from sacroplan.formats.labels import read_mask

    bones: BoneModel = context.result("bones")
    landmarks = context.result("landmarks")
    geometry = bones.labels.geometry
    vessels = {}
    for name, file in sorted(context.config.resection.vessels.items()):
        path = context.input_path(file)
        mask = read_mask(path, geometry)
        vessels[name] = tumour_from_mask(geometry, mask, f"vessel mask {path.name}").surface
    return Site(
        bones.surfaces, landmarks.frames, landmarks.points, context.result("tumour"), vessels
    )


def planes_of(plan: ResectionPlan) -> list[tuple[str, Plane, float]]:
    """Every facet under the name it has in 3D Slicer: the cut's, or ``NAME.1``, ``NAME.2`` ..."""
    out = []
    for cut in plan.cuts:
        facets = cut.facets
        for n, facet in enumerate(facets):
            name = cut.name if len(facets) == 1 else f"{cut.name}.{n + 1}"
            out.append((name, facet.plane, 80.0))
    return out


def edited(plan: ResectionPlan, given: Mapping[str, Plane], source: str) -> dict[str, Plane]:
    """Planes of a user's file that differ from the plan's; unknown names are an error.

    Slicer shows a plane's normal either way round; a plane that was only flipped was not moved.
    """
    known = {name: plane for name, plane, _ in planes_of(plan)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise CaseError(
            f"{source} holds a plane {unknown[0]!r} that this resection does not have; its planes are "
            f"{', '.join(known)}. Rename it in Slicer, or give it under [resection.cuts] with its bone."
        )
    out = {}
    for name, plane in sorted(given.items()):
        here = known[name]
        cosine = float(plane.normal @ here.normal)
        turned = np.degrees(np.arccos(min(1.0, abs(cosine))))
        if abs(float(here.distance(plane.point))) > MOVED_MM or turned > MOVED_DEG:
            out[name] = plane if cosine >= 0 else plane.flipped()
    return out


def run(context: Context) -> StageOutput:
    """Plan the resection; the user's cuts and planes edited in Slicer replace the automatic ones."""
    from sacroplan.formats.markups import read_planes, write_planes
    from sacroplan.resection.plan import moved
    from sacroplan.resection.rehearsal import steps_table

    table = context.config.resection
    context.progress(0.0, "bones, landmarks and tumour")
    site = site_of(context)
    own = {n: own_of(n, c, site.frame) for n, c in sorted(table.cuts.items())}
    plan = plan_resection(site, choice_of(context.config), own, context.progress)
    told: list[str] = sorted(own)
    if table.planes is not None:
        path = context.input_path(table.planes)
        given = edited(plan, read_planes(path, site.frame), path.name)
        if given:
            plan = replace_cover(moved(plan, site, given), site)
            told += [f"{n} ({path.name})" for n in given]
    metrics = plan.metrics()
    metrics["resection.planes.source"] = Metric(
        f"user: {', '.join(told)}; others automatic" if told else "automatic", "text",
        "Where the planes come from",
    )  # fmt: skip
    executions, doubts = executed(plan, site)
    for execution in executions:
        metrics |= execution.metrics()
    planes = planes_of(plan)
    return StageOutput(
        Resection(site.tumour, plan, tuple(executions), steps_table(plan)),
        metrics,
        (*plan.doubts, *doubts),
        {"planes.mrk.json": lambda path: write_planes(planes, path)},
    )


def replace_cover(plan: ResectionPlan, site: Site) -> ResectionPlan:
    """The plan with the map on the specimen's surface, which dragging leaves out."""
    from sacroplan.resection.margin import cover

    if site.tumour is None:
        return plan
    return replace(plan, cover_mm=cover(plan.specimen, site.tumour.surface))


def executed(plan: ResectionPlan, site: Site) -> tuple[list[Execution], list[Doubt]]:
    """Margins as guides, navigation and free hand would make them [PSI-04]."""
    from sacroplan.resection import execution as room

    if site.tumour is None:
        return [], []
    surface = site.tumour.surface
    field = room.tumour_field(surface)
    found = [
        room.simulate(plan, surface, room.error_model("PSI-04", technique), field=field)
        for technique in room.TECHNIQUES
    ]
    return found, room.worst_case_doubts(found)


def beyond_models(what: str) -> Callable[[Context], str | None]:
    """Why a stage leaves this resection out, if the finite-element model does not cover it."""

    def unfit(context: Context) -> str | None:
        resection: Resection = context.result("resection")
        choice = resection.plan.choice
        own = context.config.implant.parameters
        if any(own.get(name, 0.0) for name in ("lordosis_change_deg", "height_change_mm")):
            return (
                f"{what} not planned: the model holds the spine where the CT has it, and case.toml asks "
                "for a change of lordosis or height; set both to 0 to have the implant itself judged."
            )
        if choice.kind in ("total", "hemi") and choice.l5 == "none":
            return None
        return (
            f"{what} not planned: only total and hemisacrectomies that leave L5 are modelled so far, "
            f"and this is a {resection.plan.title[0].lower()}{resection.plan.title[1:]}; judge "
            "its reconstruction by other means."
        )

    return unfit


def _parameters(config: CaseConfig) -> Any:
    return {
        "resection": config.resection.model_dump(mode="json"),
    }


def _inputs(context: Context) -> list[Path]:
    config = context.config
    files = [config.resection.planes, *config.resection.vessels.values()]
    return [context.input_path(f) for f in files if f is not None]


STAGE = Stage(
    "resection", "Osteotomies", ("bones", "landmarks", "tumour"),
    ("anatomy", "resection", "formats"),
    _parameters, _inputs, run, 10.0,
)  # fmt: skip
