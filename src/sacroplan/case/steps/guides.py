"""One cutting guide per osteotomy, and what the guides' seating makes of the margin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.resection import Resection, site_of
from sacroplan.errors import Doubt, GeometryError, PlanError
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metrics
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, part, silent

if TYPE_CHECKING:
    from sacroplan.guides.guide import Guide
    from sacroplan.guides.request import GuideInput, GuideParameters
    from sacroplan.resection.execution import ErrorModel, Execution
    from sacroplan.resection.plan import ResectionPlan
    from sacroplan.resection.site import Site


@dataclass(frozen=True, eq=False)
class Guides:
    """The guides in the order of the cuts; ``execution`` is the margin they give, if one is known."""

    guides: tuple[Guide, ...]
    execution: Execution | None = None


def run(context: Context) -> StageOutput:
    """Design a guide for every facet of every osteotomy; one that cannot be built is told of."""
    from sacroplan.guides.request import GuideParameters
    from sacroplan.guides.sites import facet_name, guide_input, parameters_for

    resection: Resection = context.result("resection")
    plan = resection.plan
    site = site_of(context)
    table = context.config.guides
    base = replace(GuideParameters(), walls=table.walls, blade_length_mm=table.blade_length_mm)
    if table.blade_mm is not None:
        base = replace(base, blade_mm=table.blade_mm)
    screws = planned_screws(context)
    jobs = [
        (cut, n) for cut in plan.cuts if cut.kind == "osteotomy" for n in range(len(cut.facets))
    ]
    if not jobs:
        why = "This resection saws no bone, so no cutting guide is made."
        return StageOutput(Guides(()), {}, (Doubt("guide", "guide.none", why, ()),))

    def guide_of(job: Any, progress: Progress) -> tuple[Guide | None, tuple[Doubt, ...]]:
        cut, n = job
        name = facet_name(cut, n)
        inp = guide_input(site, plan, cut, n, context.config.case.id, table.version, screws)
        return built(name, inp, parameters_for(name, base), progress)

    made = side_by_side(guide_of, jobs, part(context.progress, 0.0, 0.9))
    guides = [g for g, _ in made if g is not None]
    doubts = [d for _, told in made for d in told]
    metrics: Metrics = {}
    for guide in guides:
        metrics |= guide.metrics()
        doubts += guide.doubts
    context.progress(0.9, "margins with these guides")
    execution = executed(plan, site, guides)
    if execution is not None:
        metrics |= execution.metrics()
    return StageOutput(Guides(tuple(guides), execution), metrics, tuple(doubts))


def built(
    name: str, inp: GuideInput, parameters: GuideParameters, progress: Progress = silent
) -> tuple[Guide | None, tuple[Doubt, ...]]:
    """The guide of one cut, or why there is none; planned screws are let go before the guide is."""
    from sacroplan.guides.design import design

    try:
        return design(inp, parameters, progress), ()
    except (PlanError, GeometryError) as error:
        first = str(error)
    if inp.screws:
        try:
            guide = design(replace(inp, screws=()), parameters, progress)
        except (PlanError, GeometryError):
            guide = None
        if guide is not None:
            told = Doubt(
                "guide", f"guide.wires_cross_screws.{name}",
                f"The K-wires of the guide {name} cannot avoid the planned screws; take the wires out "
                "before the screws are set.", ("SP-GDE-05",),
            )  # fmt: skip
            return guide, (told,)
    words = f"No guide is made for the cut {name}: {first}"
    return None, (Doubt("guide", f"guide.not_built.{name}", words, ("GDE-07",)),)


def planned_screws(context: Context) -> tuple[Surface, ...]:
    """Screws that the plan puts into the pelvis, as solids."""
    from sacroplan.geometry.primitives import cylinder

    implant = context.result("implant")
    if implant is None:
        return ()
    return tuple(
        cylinder(s.head, s.tip, 0.5 * s.diameter_mm, frame=implant.core.frame)
        for s in implant.wing_screws
    )


def executed(plan: ResectionPlan, site: Site, guides: list[Guide]) -> Execution | None:
    """The margin's Monte Carlo with each guide's own seating; cuts without a guide as published."""
    from sacroplan.resection import execution as room

    if site.tumour is None or not guides:
        return None
    published = room.error_model("PSI-04", "guide")
    models = {}
    for cut in plan.cuts:
        own = [g for g in guides if g.key in (cut.name, cut.name.removeprefix("iliac_"))
               or g.key.startswith(f"{cut.name}_")]  # fmt: skip
        if own:
            models[cut.name] = guide_errors(own, published)
    base = replace(published, name="these_guides", words="with the guides of this plan")
    return room.simulate(plan, site.tumour.surface, base, models=models)


def guide_errors(guides: list[Guide], published: ErrorModel) -> ErrorModel:
    """Errors of a cut through its guides: seating and the blade's play, the worst of its facets."""
    from math import hypot

    from sacroplan import evidence
    from sacroplan.resection.execution import ErrorModel

    surface = evidence.value("SP-GDE-07", "surface")
    point, angle = 0.0, 0.0
    for guide in guides:
        assert guide.seating is not None
        play = guide.seating.saw_sd_deg(guide.parameters.slot_clearance_mm, guide.slot.height_mm)
        angle = max(angle, hypot(guide.seating.seating_deg, play))
        point = max(
            point, hypot(guide.seating.seating_mm, surface, play / 57.3 * guide.reach_mm[1] / 2)
        )
    return ErrorModel(
        "these_guides", "with the guides of this plan", point, angle,
        edge_sd_mm=published.edge_sd_mm, rows=("SP-GDE-07", "SP-RES-09"),
    )  # fmt: skip


def _parameters(config: CaseConfig) -> Any:
    return {
        "guides": config.guides.model_dump(mode="json"),
        "case": config.case.id,
        "vessels": sorted(config.resection.vessels),
    }


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "guides", "Cutting guides", ("bones", "landmarks", "fusion", "resection", "implant"),
    ("guides", "resection"), _parameters, _inputs, run, 25.0,
)  # fmt: skip
