"""Which reconstructions apply: facts, rules, struts, dead space and flaps, function, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.options_facts import measured_facts, merged
from sacroplan.case.steps.options_grafts import (
    SYNTHETIC,
    clashes_of,
    plan_iliac_screws,
    plan_leg,
    plan_saw_guide,
    plan_struts,
)
from sacroplan.case.steps.resection import Resection, site_of
from sacroplan.errors import Doubt, SacroplanError
from sacroplan.fixation.construct import Construct
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.grafts.femur import FemurPlan
from sacroplan.grafts.fibula import FibulaPlan
from sacroplan.grafts.sawguide import SawGuide
from sacroplan.metrics import Metric, Metrics
from sacroplan.options.compare import Row, rows_of
from sacroplan.options.forecast import Forecast, forecast, lowest_roots
from sacroplan.options.weigh import Weighed, weigh
from sacroplan.progress import part
from sacroplan.resection.plan import ResectionPlan
from sacroplan.softtissue.cover import Cover
from sacroplan.softtissue.deadspace import DeadSpace
from sacroplan.softtissue.flaps import FlapView

FAR_MM = 80.0
"""Bone further from the specimen than this bounds no dead space."""


@dataclass(frozen=True, eq=False)
class Options:
    """All that speaks for and against each road.

    Attributes
    ----------
    weighed : the rules' outcome. source : fact to where it comes from. forecast : function by roots.
    rows : roads side by side. fibula, saw_guide, femur : planned grafts, None with the reason in ``why``.
    spaces : road to the dead space it leaves; ``bare`` with nothing put back.
    cover : metal part to the tissue over it. flaps : each flap against the wound.
    """

    weighed: Weighed
    source: Mapping[str, str]
    forecast: Mapping[str, Forecast]
    rows: tuple[Row, ...]
    fibula: FibulaPlan | None
    saw_guide: SawGuide | None
    femur: FemurPlan | None
    why: Mapping[str, str]
    spaces: Mapping[str, DeadSpace]
    cover: Mapping[str, Cover]
    flaps: tuple[FlapView, ...]


def forecast_of(plan: ResectionPlan) -> dict[str, Forecast]:
    """Function with roots at risk counted as lost at one end and as kept at the other."""
    if plan.kind == "total":
        return forecast(0, 0)
    ends = lowest_roots(plan.losses.roots)
    low = forecast(ends["left"][0], ends["right"][0])
    high = forecast(ends["left"][1], ends["right"][1])
    out = {}
    for name, a in low.items():
        b = high[name]
        span = None if a.percent is None or b.percent is None else (a.percent[0], b.percent[1])
        out[name] = Forecast(name, span, a.words if span else "not verified", a.rows,
                             a.raised or b.raised)  # fmt: skip
    return out


def _attempt(job: Any, why: dict[str, str], name: str) -> Any:
    """A graft that this patient does not allow is told in the dossier and stops nothing."""
    try:
        return job()
    except SacroplanError as error:
        why[name] = str(error)
        return None


def implant_solids(implant: Any) -> list[Surface]:
    """Closed bodies of a printed implant, none where there is none."""
    return [] if implant is None else [implant.core, *implant.porous.values()]


def spaces_of(
    plan: ResectionPlan, bones: BoneModel, fills: Mapping[str, list[Surface]], back: FloatArray,
    tumour: Surface | None, margin_mm: float, body: Surface | None,
) -> dict[str, DeadSpace]:  # fmt: skip
    """Dead space with nothing put back, and with each road's own filling."""
    from sacroplan.softtissue.deadspace import dead_spaces

    specimen = list(plan.specimen.values())
    middle = np.concatenate([s.vertices for s in specimen])
    low, high = middle.min(axis=0) - FAR_MM, middle.max(axis=0) + FAR_MM
    uncut = {
        n: s for n, s in bones.surfaces.items()
        if n not in plan.remnants and n not in plan.specimen and n not in plan.amputated
    }  # fmt: skip
    stays = [
        s for s in (*plan.remnants.values(), *uncut.values())
        if bool(np.all(s.vertices.max(axis=0) > low) and np.all(s.vertices.min(axis=0) < high))
    ]  # fmt: skip
    named = {"bare": [], **fills}
    return dead_spaces(specimen, named, back, tumour, margin_mm, stays, body)


def run(context: Context) -> StageOutput:
    """Weigh every road of a resection."""
    from sacroplan import evidence
    from sacroplan.softtissue.cover import back_of, cover, cover_doubts, skin
    from sacroplan.softtissue.flaps import flap_table

    intake: Intake = context.result("intake")
    bones: BoneModel = context.result("bones")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    plan, implant = resection.plan, context.result("implant")
    rods = context.result("rods")
    axes = landmarks.frames["pelvis"].axes
    back = -axes[:, 0]
    why: dict[str, str] = {}
    told = context.progress
    context.progress = part(told, 0.0, 0.3)
    fibula = _attempt(lambda: plan_struts(context, plan, bones, landmarks), why, "fibula")
    context.progress = told
    context.progress = part(told, 0.15, 0.3)
    iliac = _attempt(lambda: plan_iliac_screws(context, plan, bones, landmarks), why, "iliac")
    context.progress = told
    told(0.25, "saw guide")
    guide = None
    if fibula is not None:
        guide = _attempt(lambda: plan_saw_guide(context, fibula), why, "saw_guide")
    told(0.3, "femur")
    femur = _attempt(lambda: plan_leg(context, plan, bones, landmarks), why, "femur")
    told(0.4, "skin and dead space")
    body = _attempt(lambda: skin(intake.volume), why, "skin")
    fills: dict[str, list[Surface]] = {}
    if implant is not None:
        fills["implant_supplemented"] = fills["implant_alone"] = implant_solids(implant)
    if fibula is not None:
        fills[_fibula_road(plan)] = [s.surface for s in fibula.segments]
        if plan.kind == "total":
            fills["spf_ascf"] = fills["fibula"]
    if femur is not None:
        fills["femur_pedicled"] = [femur.surface]
    tumour = None if resection.tumour is None else resection.tumour.surface
    margin = evidence.value("MAR-3", "soft_tissue") if tumour is not None else 0.0
    spaces = spaces_of(plan, bones, fills, back, tumour, margin, body)
    planned_road = "implant_supplemented" if implant is not None else "bare"
    space = spaces[planned_road]
    told(0.8, "cover and flaps")
    covers: dict[str, Cover] = {}
    metal: list[tuple[str, Surface]] = []
    if implant is not None:
        metal.append(("implant", implant.core))
    if rods is not None:
        from sacroplan.fixation.rods import solid

        metal += [(f"rod_{r.side}", solid(r)) for r in rods.rods]
    outside = None
    if body is not None:
        outside = _attempt(lambda: back_of(body, intake.volume), why, "back")
    for name, surface in metal if outside is not None else []:
        found = _attempt(lambda s=surface, o=outside: cover(s, o, back), why, f"cover_{name}")
        if found is not None:
            covers[name] = found
    vessels = site_of(context).vessels if context.config.resection.vessels else {}
    measured = measured_facts(plan, resection.tumour, vessels, space.volume_mm3 / 1000.0)
    facts, source, doubts = merged(measured, context.config.facts)
    told(0.9, "rules")
    weighed = weigh(facts)
    flaps = flap_table(space, landmarks.points, facts.amputation_planned)
    planned = planned_words(plan, implant, fibula, femur, iliac, context.result("screws"), why)
    options = Options(
        weighed, source, forecast_of(plan),
        rows_of(
            weighed, planned,
            {"none" if r == "bare" else r: s.volume_mm3 / 1000.0 for r, s in spaces.items()},
        ),
        fibula, guide, femur, why, spaces, covers, flaps,
    )  # fmt: skip
    grafts = [g for g in (fibula, femur) if g is not None]
    all_doubts = (*doubts, *(d for g in grafts for d in g.doubts), *cover_doubts(covers))
    if femur is not None:
        all_doubts += clashes_of(femur, plan)
    told(1.0, "options weighed")
    return StageOutput(
        options, metrics_of(options), all_doubts + synthetic_doubts(context.config, options),
        files_of(options, context.config.case.id),
    )  # fmt: skip


def files_of(options: Options, case_id: str) -> dict[str, Callable[[Path], None]]:
    """The table as JSON; planned grafts as STL, in the patient and (with their cuts) in the donor."""
    from sacroplan.case.steps.options_table import table_of
    from sacroplan.formats.jsonio import write_json
    from sacroplan.formats.markups import write_planes
    from sacroplan.formats.stl import write_stl

    table = table_of(options, case_id)
    out: dict[str, Callable[[Path], None]] = {
        "dossier/options/options.json": lambda path: write_json(table, path)
    }

    def solid(surface: Surface, name: str) -> Callable[[Path], None]:
        return lambda path: write_stl(surface, path, name)

    if options.fibula is not None:
        cuts = []
        for s in options.fibula.segments:
            out[f"dossier/options/strut_{s.way.name}.stl"] = solid(s.surface, f"strut {s.way.name}")
            ends = zip(("distal", "proximal"), s.cuts, strict=True)
            cuts += [(f"{s.way.name}_{end}", plane, 40.0) for end, plane in ends]
        out["dossier/options/fibula_donor.stl"] = solid(options.fibula.donor.surface, "donor")
        out["dossier/options/fibula_cuts.mrk.json"] = lambda path: write_planes(cuts, path)
    if options.saw_guide is not None:
        out["dossier/options/fibula_saw_guide.stl"] = solid(options.saw_guide.surface, "saw guide")
    if options.femur is not None:
        out["dossier/options/femur.stl"] = solid(options.femur.surface, "femur")
    return out


def _fibula_road(plan: ResectionPlan) -> str:
    """Which road the struts of this resection belong to."""
    return "fibula_double" if plan.kind == "hemi" else "fibula"


def planned_words(
    plan: ResectionPlan, implant: Any, fibula: FibulaPlan | None, femur: FemurPlan | None,
    iliac: Construct | None, screws: Any, why: Mapping[str, str],
) -> dict[str, str]:  # fmt: skip
    """What was built for each road, in a sentence."""
    out = {"none": f"{plan.title}, nothing is put in"}
    if implant is not None:
        mass = implant.metrics().get("implant.mass_g")
        words = "implant, screws and rods of this plan"
        if mass is not None and mass.value is not None:
            words += f"; {float(mass.value):.0f} g"
        if screws is not None:
            placed = (*screws.plans, *screws.wings)
            words += f"; least bone round a screw {min(p.clearance_mm for p in placed):.1f} mm"
        out["implant_supplemented"] = words
        out["implant_alone"] = "the same implant without lumbar screws; not analysed by itself"
    if iliac is not None:
        least = min(p.clearance_mm for p in iliac.plans)
        sizes = ", ".join(f"{p.screw.diameter_mm:g} x {p.screw.length_mm:.0f}" for p in iliac.plans)
        out["spf"] = (
            f"{len(iliac.plans)} iliac screws ({sizes} mm), least bone round them {least:.1f} mm; lumbar "
            "screws as with the implant"
        )
    elif "iliac" in why and plan.kind == "total":
        out["spf"] = why["iliac"]
    if fibula is not None:
        lengths = " and ".join(f"{s.length_mm:.0f}" for s in fibula.segments)
        steep = max(s.angle_deg for s in fibula.segments)
        out[_fibula_road(plan)] = (
            f"{len(fibula.segments)} struts of {lengths} mm; {fibula.needed_mm:.0f} of "
            f"{fibula.available_mm:.0f} mm of fibula; up to {steep:.0f} degrees off the load line"
        )
        if plan.kind == "total":
            out["spf_ascf"] = (
                "the fixation of SPF with these struts as anterior support: " + out["fibula"]
            )
    elif "fibula" in why:
        out[_fibula_road(plan)] = why["fibula"]
    if femur is not None:
        out["femur_pedicled"] = (
            f"{femur.length_mm:.0f} mm from L5 to the pubis; vessels {femur.reach.spare_mm:+.0f} mm spare"
        )
    elif plan.kind == "hemipelvectomy":
        out["femur_pedicled"] = why["femur"]
    return out


def synthetic_doubts(config: CaseConfig, options: Options) -> tuple[Doubt, ...]:
    """A bone that is no patient's must not pass for one."""
    named = [
        ("fibula", config.grafts.fibula == SYNTHETIC and options.fibula is not None),
        ("femur", config.grafts.femur == SYNTHETIC and options.femur is not None),
    ]
    return tuple(
        Doubt(
            "plan", f"options.synthetic_{name}",
            f"The {name} of this plan is a plain shape of ordinary size, not this patient's bone; lengths "
            "and contacts are a worked example.", ("SP-GRAFT-10" if name == "fibula" else "SP-GRAFT-09",),
        )
        for name, used in named
        if used
    )  # fmt: skip


def metrics_of(options: Options) -> Metrics:
    """Figures under ``options.*``, ``grafts.*`` and ``softtissue.*``."""
    weighed = options.weighed
    out: Metrics = {
        "options.rules.fired": Metric(", ".join(weighed.fired) or "none", "text", "Rules that hold"),
        "options.rules.unsettled": Metric(
            ", ".join(weighed.unsettled) or "none", "text", "Rules that hang on unknown facts"
        ),
    }  # fmt: skip
    for view in weighed.roads:
        if view.family != "notice":
            out[f"options.road.{view.road}"] = Metric(view.standing, "text", view.title)
    for name, f in options.forecast.items():
        for n, end in enumerate(("low", "high")):
            out[f"options.function.{name}_{end}_percent"] = Metric(
                None if f.percent is None else f.percent[n], "%",
                f"Patients with normal {name}, {'least' if n == 0 else 'most'} of the sources "
                f"({f.words})", f.rows,
            )  # fmt: skip
    for graft in (options.fibula, options.saw_guide, options.femur):
        if graft is not None:
            out |= graft.metrics()
    for road, space in options.spaces.items():
        out[f"softtissue.dead_space.{road}_cm3"] = Metric(
            space.volume_mm3 / 1000.0, "cm3",
            "Dead space with nothing put back" if road == "bare"
            else f"Dead space left with {road.replace('_', ' ')}",
            ("SOFT-1", "SOFT-5"),
        )  # fmt: skip
    if "bare" in options.spaces:
        out["softtissue.outline_cm2"] = Metric(
            options.spaces["bare"].area_mm2 / 100.0, "cm2", "Outline of the dead space from behind",
            ("SOFT-2",),
        )  # fmt: skip
    for name, c in options.cover.items():
        out[f"softtissue.cover.{name}.least_mm"] = Metric(
            c.least_mm, "mm", f"Least tissue over {name.replace('_', ' ')}", ("SOFT-5",)
        )
        out[f"softtissue.cover.{name}.thin_percent"] = Metric(
            c.thin_percent,
            "%",
            f"Back of {name.replace('_', ' ')} with too little tissue",
            ("SOFT-5",),
        )
    for flap in options.flaps:
        out[f"softtissue.flap.{flap.flap}.reaches"] = Metric(
            flap.reaches, "text", f"{flap.title} reaches the dead space", (flap.row,)
        )
    return out


def run_construct(context: Context) -> StageOutput:
    """Weigh the roads of a patient in whom nothing is resected."""
    construct = context.result("construct")
    wanted = [p for p in construct.plans if p.screw.kind == "s2ai"]
    lost = [n for n in construct.missing if n.lower().startswith("s2ai")]
    # Nothing is cut: ligaments, joints, roots and arteries stay, and no space is left.
    measured: dict[str, Any] = {
        "resection": "none", "amputation_planned": False, "iliolumbar": "full", "l5_resected": "none",
        "sij_left_percent": 0.0, "sij_right_percent": 0.0, "cut_above_s1_foramina": False,
        "lowest_root_left": 5, "lowest_root_right": 5, "internal_iliac_left_sacrificed": False,
        "internal_iliac_right_sacrificed": False, "defect_volume_cm3": 0.0,
        "ring_gap_supraacetabular": False,
    }  # fmt: skip
    if wanted or lost:
        measured["s2ai_feasible"] = not lost
    facts, source, doubts = merged(measured, context.config.facts)
    weighed = weigh(facts)
    screws = f"{len(construct.plans)} screws of {construct.name}"
    road = "percutaneous_s2ai" if wanted else "percutaneous_iliac"
    options = Options(
        weighed, source, {}, rows_of(weighed, {road: screws}, {}), None, None, None, {}, {}, {}, ()
    )
    return StageOutput(
        options, metrics_of(options), doubts, files_of(options, context.config.case.id)
    )


def _parameters(config: CaseConfig) -> Any:
    return {
        "facts": dict(sorted(config.facts.items())),
        "grafts": config.grafts.model_dump(mode="json"),
        "vessels": sorted(config.resection.vessels),
    }


def _inputs(context: Context) -> list[Path]:
    table = context.config.grafts
    if table.fibula in (None, SYNTHETIC):
        return []
    return [context.input_path(str(table.fibula))]


STAGE = Stage(
    "options", "Options of reconstruction",
    ("intake", "bones", "landmarks", "fusion", "resection", "screws", "implant", "rods"),
    ("options", "grafts", "softtissue", "resection", "fixation", "formats"),
    _parameters, _inputs, run, 12.0,
)  # fmt: skip

CONSTRUCT_STAGE = Stage(
    "options", "Options of reconstruction", ("construct",), ("options",),
    _parameters, lambda _context: [], run_construct, 1.0,
)  # fmt: skip
