"""From stage results to a dossier: what is shown, in which colours, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sacroplan.case.stage import Context, StageRecord, metric_from_json
from sacroplan.errors import Doubt
from sacroplan.geometry.frames import Axis
from sacroplan.geometry.primitives import prism
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.metrics import Metrics
from sacroplan.report import accuracy
from sacroplan.report import compare as stability
from sacroplan.report import options as choices
from sacroplan.report.model import (
    Dossier,
    InputFile,
    Overlay,
    ScenePart,
    Section,
    SliceRequest,
    StageRow,
    Table,
    View,
    view_frame,
)
from sacroplan.report.resection import (
    execution_table,
    function_table,
    loss_table,
    margin_pictures,
    steps_of,
    vessel_table,
)
from sacroplan.report.slices import across_plane, along_axis, standard

BONE = "#e3d7bf"
SPECIMEN = "#c98f86"
TUMOUR = "#b3274a"
TITANIUM = "#8d99a6"
POROUS = "#c9973f"
SCREW = "#4f7fb5"
ROD = "#6d7f93"
GUIDE = "#58a089"
PLANE = "#d8443c"
DISC = "#7aa6c2"

TITLES = {
    "sacrum": "Sacrum",
    "hip_left": "Left hip bone",
    "hip_right": "Right hip bone",
    "femur_left": "Left femur",
    "femur_right": "Right femur",
    "ilium_left": "Left ilium, resected part",
    "ilium_right": "Right ilium, resected part",
    "l5_s1": "L5-S1 disc",
    "iliac_left": "Left iliac osteotomy",
    "iliac_right": "Right iliac osteotomy",
    "wing_left": "left wing",
    "wing_right": "right wing",
    "sacral": "Sacral osteotomy",
    "l5": "L5 osteotomy",
    "L5_side": "seat on L5's side",
}

DESIGNS = {
    "total": "two-wing implant",
    "hemi_left": "left hemisacral implant",
    "hemi_right": "right hemisacral implant",
    "self_stabilising": "self-stabilising implant",
}

DESIGN_WORDS = {
    "total": "The central body meets the vertebra's inferior endplate; each wing is seated on its iliac "
    "osteotomy; rods join it to the pedicle screws.",
    "hemi_left": "The body stands under the vertebra's left half, on the sacral remnant's cut face and, by "
    "its wing, on the left ilium.",
    "hemi_right": "The body stands under the vertebra's right half, on the sacral remnant's cut face and, "
    "by its wing, on the right ilium.",
    "self_stabilising": "The central body meets the vertebra's inferior endplate and holds it by screws of "
    "its own; each wing is seated on its iliac osteotomy; no rod supplements it.",
}


def title_of(name: str) -> str:
    """A reader's name of a part."""
    return TITLES.get(name, name.replace("_", " "))


def figures_of(record: StageRecord, prefixes: Iterable[str] = ("",)) -> Metrics:
    """Figures of a stage whose names start with one of ``prefixes``."""
    wanted = tuple(prefixes)
    return {k: metric_from_json(v) for k, v in record.metrics.items() if k.startswith(wanted)}


def doubts_of(record: StageRecord) -> tuple[Doubt, ...]:
    """Doubts of a stage."""
    return tuple(
        Doubt(d["trade"], d["code"], d["message"], tuple(d["rows"])) for d in record.doubts
    )


def plane_plate(cut: Any) -> Surface:
    """The cut as a thin plate over each facet's box, for the scene."""
    half = max(0.5 * cut.kerf_mm, 0.25)
    edge = 8.0 if len(cut.facets) == 1 else 0.0
    plates = []
    for facet in cut.facets:
        loops = np.concatenate(facet.outline.loops)
        low, high = loops.min(axis=0) - edge, loops.max(axis=0) + edge
        corners = np.array(
            [[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]]
        )
        at = facet.outline
        plates.append(prism([corners], at.origin, at.axes, -half, half, cut.frame))
    return concatenate(plates)


class Results:
    """All stage results that the dossier shows, by name, read once."""

    def __init__(self, context: Context) -> None:
        self.intake = context.result("intake")
        self.bones = context.result("bones")
        self.landmarks = context.result("landmarks")
        self.resection = context.result("resection")
        self.screws = context.result("screws")
        self.implant = context.result("implant")
        self.rods = context.result("rods")
        self.options = context.result("options")
        self.guides = context.result("guides")
        self.mechanics = context.result("mechanics")
        self.compare = context.result("compare")
        self.prints = context.result("print")
        self.navigation = context.result("navigation")
        self.records: Mapping[str, StageRecord] = context.records
        self.case_id = context.config.case.id
        self.config = context.config


def scene(r: Results) -> tuple[ScenePart, ...]:
    """Every body of the 3D scene."""
    from sacroplan.fixation.cross import solid as cross_solid
    from sacroplan.fixation.rods import solid as rod_solid
    from sacroplan.fixation.screws import solid as screw_solid
    from sacroplan.resection.rehearsal import apart

    plan = r.resection.plan
    parts: list[ScenePart] = []

    def add(name: str, title: str, group: str, surface: Surface, colour: str, **more: Any) -> None:
        parts.append(ScenePart(name, title, group, surface, colour, **more))

    def carried(surface: Surface) -> Surface:
        return surface if r.implant is None else r.implant.carried(surface)

    for name in ("L3", "L4", "L5"):
        if name in r.bones.surfaces and name not in plan.specimen:
            add(name, name, "bones that stay", carried(r.bones.surfaces[name]), BONE)
    for name, surface in plan.remnants.items():
        add(name, title_of(name), "bones that stay", surface, BONE)
    for name in ("femur_left", "femur_right"):
        if name in r.bones.surfaces:
            add(name, title_of(name), "femora", r.bones.surfaces[name], BONE, visible=False)
    for name, surface in plan.specimen.items():
        add(
            f"specimen_{name}", title_of(name), "specimen", surface, SPECIMEN, visible=False,
            opacity=0.6,
        )  # fmt: skip
    if r.resection.tumour is not None:
        add("tumour", "Tumour", "tumour", r.resection.tumour.surface, TUMOUR, visible=False)
    for cut in plan.cuts:
        add(
            f"plane_{cut.name}", title_of(cut.name), "osteotomy planes", plane_plate(cut), PLANE,
            opacity=0.35, visible=False,
        )  # fmt: skip
    for name, surface in apart(plan, r.landmarks.frames["pelvis"]).items():
        add(
            f"apart_{name}", f"{title_of(name)}, drawn apart", "specimen drawn apart", surface,
            SPECIMEN, visible=False,
        )  # fmt: skip
    for guide in r.guides.guides:
        add(
            guide.name, f"Cutting guide {title_of(guide.key).lower()}", "guides", guide.surface,
            GUIDE, visible=False, figures=guide.metrics(),
        )  # fmt: skip
    parts += choices.parts_of(r.options)
    implant = r.implant
    if implant is None:
        return tuple(parts)
    add(
        "implant_core", "Implant, solid core", "implant", implant.core, TITANIUM, finish="metal",
        figures=figures_of(r.records["implant"], ("implant.mass", "implant.core")),
    )  # fmt: skip
    for name, surface in implant.porous.items():
        add(
            f"porous_{name}", f"Porous layer, {title_of(name)}", "porous layers", surface, POROUS,
            note=lattice_words(implant.lattice[name]),
        )  # fmt: skip
    for plan_ in r.screws.plans:
        s = plan_.screw
        add(
            f"screw_{s.name}", f"Pedicle screw {s.level} {s.side}", "screws",
            carried(screw_solid(s)), SCREW, finish="metal", figures=plan_.metrics(),
        )  # fmt: skip
    for screw in implant.wing_screws:
        add(
            f"screw_{screw.name}", title_of(screw.name).capitalize(), "screws",
            wing_screw_solid(screw, implant.core.frame), SCREW, finish="metal",
        )  # fmt: skip
    for rod in r.rods.rods:
        add(
            f"rod_{rod.side}", f"Rod {rod.side}", "rods", rod_solid(rod), ROD, finish="metal",
        )  # fmt: skip
    for c in r.rods.cross:
        add(
            c.name, title_of(c.name).capitalize(), "rods",
            cross_solid(c, r.bones.labels.frame), ROD, finish="metal",
        )  # fmt: skip
    return tuple(parts)


def design_words(implant: Any) -> str:
    """What a reader calls the implant."""
    return DESIGNS.get(implant.design, "implant")


def envelope_table(r: Results) -> Table:
    """Every parameter of the implant against the specified design envelope (IMDRF N49)."""
    columns = ("Parameter", "This design", "Allowed", "Evidence", "Verdict")
    return Table("Design envelope", columns, tuple(r.implant.envelope))


def wing_screw_solid(screw: Any, frame: str) -> Surface:
    """Shaft and head of an iliac screw through a wing."""
    from sacroplan.geometry.primitives import lathe

    length = float(np.linalg.norm(screw.tip - screw.head))
    r = 0.5 * screw.diameter_mm
    profile = [[0.0, 1.5 * r], [1.2 * r, 1.5 * r], [1.8 * r, r], [length - r, r], [length, 0.3 * r]]
    return lathe(screw.head, screw.tip - screw.head, profile, frame=frame)


def overlays(r: Results) -> tuple[Overlay, ...]:
    """Contours drawn over every CT slice."""
    out = [
        Overlay(title_of(n), "#f2e6c9", surface=s)
        for n, s in r.bones.surfaces.items()
        if n in ("L4", "L5", "sacrum", "hip_left", "hip_right")
    ]
    if r.resection.tumour is not None:
        out.append(Overlay("tumour", "#ff4d7a", surface=r.resection.tumour.surface, fill=0.25))
    if r.implant is not None:
        out.append(Overlay("implant", "#6fc3ff", surface=r.implant.core, fill=0.15))
    return tuple(out)


def screw_slices(r: Results) -> tuple[SliceRequest, ...]:
    """Three directions through, along and across every screw."""
    from sacroplan.fixation.screws import solid as screw_solid

    volume = r.intake.volume
    base = overlays(r)
    out: list[SliceRequest] = []
    items = [
        (p.screw.name, f"Pedicle screw {p.screw.level} {p.screw.side}", p.screw.entry, p.screw.tip,
         screw_solid(p.screw))
        for p in r.screws.plans
    ] + [
        (s.name, title_of(s.name).capitalize(), s.head, s.tip,
         wing_screw_solid(s, r.implant.core.frame))
        for s in r.implant.wing_screws
    ]  # fmt: skip
    for name, title, start, tip, solid in items:
        length = float(np.linalg.norm(tip - start))
        own = (*base, Overlay("screw", "#ffd23f", surface=solid))
        group = f"screw {name}"
        out += standard(volume, 0.5 * (start + tip), 45.0, group, own, title)
        axis = Axis(start, tip - start, volume.frame)
        out += along_axis(volume, axis, length, group, own, title)
    return tuple(out)


def cut_slices(r: Results) -> tuple[SliceRequest, ...]:
    """Three directions through every cut, and the cut face itself."""
    base = overlays(r)
    out: list[SliceRequest] = []
    for cut in r.resection.plan.cuts:
        for n, facet in enumerate(cut.facets):
            title = title_of(cut.name) + (f", face {n + 1}" if len(cut.facets) > 1 else "")
            out += across_plane(
                r.intake.volume,
                facet.plane,
                facet.outline.centroid,
                70.0,
                f"cut {title}",
                base,
                title,
            )
    return tuple(out)


def sections(r: Results) -> tuple[Section, ...]:
    """The chapters in the order in which they are read."""
    records = r.records

    def chapter(title: str, anchor: str, *stages: str, **more: Any) -> Section:
        figures: Metrics = {}
        doubts: list[Doubt] = []
        for name in stages:
            figures |= figures_of(records[name])
            doubts += doubts_of(records[name])
        return Section(title, anchor, figures=figures, doubts=tuple(doubts), **more)

    bones = ("bones that stay", "specimen")
    whole = bones if r.resection.tumour is None else (*bones, "tumour")
    metal = ("implant", "porous layers", "screws", "rods")
    if r.implant is None:
        left_out = ("screws", "implant", "rods", "navigation", "mechanics", "calibration")
        reconstruction: tuple[Section, ...] = (
            chapter("Reconstruction", "reconstruction", *left_out),
        )
        after: tuple[Section, ...] = ()
    else:
        reconstruction = (
            chapter(
                "Implant", "implant", "implant",
                text=(
                    DESIGN_WORDS.get(r.implant.design, "")
                    + " Porous layers are solids here that carry a lattice definition.",
                ),
                views=(
                    View("implant-front", "Implant from the front", "front", metal[:2]),
                    View("implant-back", "Implant from behind", "back", metal[:2]),
                    View("implant-place", "In place, from behind", "back", ("bones that stay", *metal)),
                    View("implant-place-front", "In place, from the front", "front",
                         ("bones that stay", *metal)),
                ),
                tables=(lattice_table(r), envelope_table(r)),
            ),
            chapter(
                "Screws and rods", "fixation", "screws", "rods",
                views=(
                    View("fixation-back", "From behind", "back", ("bones that stay", *metal),
                         (("bones that stay", 0.35),)),
                    View("fixation-left", "From the left", "left", ("bones that stay", *metal),
                         (("bones that stay", 0.35),)),
                ),
                slices=screw_slices(r),
            ),
        )  # fmt: skip
        tables = mechanics_tables(r) if r.mechanics is not None else ()
        after = (
            chapter(
                "Robot, navigation and accuracy", "navigation", "navigation", text=accuracy.WORDS,
                tables=accuracy.tables_of(r.navigation),
            ),
            chapter("Mechanics", "mechanics", "calibration", "mechanics", tables=tables),
        )  # fmt: skip
    chapters = (
        chapter("The CT", "ct", "intake"),
        chapter(
            "Bones, landmarks and frames", "bones", "bones", "landmarks",
            views=(
                View("bones-front", "Bones from the front", "front", whole,
                     (("specimen", 1.0),)),
                View("bones-back", "Bones from behind", "back", whole,
                     (("specimen", 1.0),)),
            ),
        ),
        chapter(
            "Resection", "resection", "fusion", "mri_check", "resection",
            text=resection_words(r),
            views=(
                View("resection-back", "Specimen and osteotomies from behind", "back",
                     (*whole, "osteotomy planes"), (("specimen", 0.75),)),
                View("resection-top", "From the head", "top",
                     (*whole, "osteotomy planes"), (("specimen", 0.75),)),
                View("resection-apart", "Specimen drawn apart, from the left", "left",
                     ("bones that stay", "specimen drawn apart")),
                View("resection-apart-top", "Specimen drawn apart, from the head", "top",
                     ("bones that stay", "specimen drawn apart")),
            ),
            tables=(margin_table(r), loss_table(r.resection.plan), *vessel_table(r.resection.plan),
                    function_table(r.resection.plan), *execution_table(r),
                    steps_of(r.resection)),
            pictures=margin_pictures(r.resection.plan),
            slices=cut_slices(r),
        ),
        *reconstruction,
        chapter(
            "Cutting guides", "guides", "guides",
            views=(
                View("guides-back", "On the bone, from behind", "back",
                     (*bones, "guides"), (("specimen", 1.0),)),
                View("guides-oblique", "Oblique", "oblique", (*bones, "guides"),
                     (("specimen", 1.0),)),
            ),
        ),
        *after,
        choices.without_words(
            chapter(
                "Options of reconstruction", "options", "options", "compare",
                text=(*choices.text_of(r.options), *stability.text_of(r.compare)),
                tables=(
                    *choices.tables_of(r.options, stiffness_of(r)), *stability.tables_of(r.compare)
                ),
                pictures=stability.pictures_of(r.compare),
                views=choices.views_of(
                    r.options, ("bones that stay",), metal if r.implant is not None else ()
                ),
            )
        ),
        chapter("Print files", "print", "print", **printing(r)),
    )  # fmt: skip
    return chapters


def stiffness_of(r: Results) -> dict[str, str]:
    """Stiffness of the roads that were analysed, against the intact pelvis."""
    if r.compare is not None:
        return stability.stiffness_words(r.compare)
    figures = figures_of(r.records["mechanics"]) if "mechanics" in r.records else {}
    known = {
        name: figures.get(f"mechanics.{name}.lc01.stiffness_n_per_mm")
        for name in ("reconstructed", "intact")
    }
    own, intact = known["reconstructed"], known["intact"]
    if own is None or own.value is None:
        return {}
    words = f"{float(own.value):.0f} N/mm"
    if intact is not None and intact.value:
        words += f" ({100.0 * float(own.value) / float(intact.value):.0f} % of intact)"
    return {"implant_supplemented": words}


def printing(r: Results) -> dict[str, Any]:
    """Tables and pictures of the print checks."""
    from sacroplan.report.printing import print_pictures, print_tables

    surfaces = {g.name: g.surface for g in r.guides.guides}
    if r.implant is not None:
        surfaces |= {"implant_core": r.implant.core}
    view = view_frame(r.landmarks.frames["pelvis"])
    return {
        "tables": print_tables(r.prints),
        "pictures": print_pictures(r.prints, surfaces, view),
    }


def resection_words(r: Results) -> tuple[str, ...]:
    """What is resected, in the controlled vocabulary and in two published ones."""
    from sacroplan.resection.presets import published

    plan = r.resection.plan
    mayo, region = published(plan.choice)
    return (
        f"{plan.title}. Published classes: Mayo {mayo}; region type {region}.",
        "The blade's kerf is bone that is lost; specimen and remaining bone lie half a kerf to either "
        "side of the plane.",
    )


def margin_table(r: Results) -> Table:
    """Tumour margin at every cut."""
    found = {m.cut: m for m in r.resection.plan.margins}
    rows = []
    for cut in r.resection.plan.cuts:
        m = found.get(cut.name)
        mean = "unknown" if m is None else f"{float(np.mean(m.distance_mm)):.1f} mm"
        least = "unknown" if m is None else f"{m.minimum_mm:.1f} mm"
        rows.append((title_of(cut.name), f"{cut.area_mm2 / 100:.1f} cm2", least, mean))
    return Table(
        "Distance from the tumour to each cut face",
        ("Cut", "Area", "Least distance", "Mean over the face"),
        tuple(rows),
    )


def lattice_words(lattice: Any) -> str:
    """One sentence on a lattice definition."""
    return (
        f"{lattice.cell_type.replace('_', ' ')}, cell {lattice.cell_mm:g} mm, "
        f"{porosity_words(lattice)} porosity, pores {lattice.pore_um:.0f} um, "
        f"struts {lattice.strut_um:.0f} um, layer {lattice.thickness_mm:g} mm"
    )


def porosity_words(lattice: Any) -> str:
    """Porosity of an even layer, or at the bone and at the core of a graded one."""
    if lattice.core_porosity is None:
        return f"{100 * lattice.porosity:.0f} %"
    return f"{100 * lattice.porosity:.0f} % at the bone to {100 * lattice.core_porosity:.0f} % at the core"


def lattice_table(r: Results) -> Table:
    """Lattice definition per porous layer."""
    rows = []
    for name in sorted(r.implant.porous):
        x = r.implant.lattice[name]
        rows.append(
            (title_of(name), x.cell_type.replace("_", " "), f"{x.cell_mm:g} mm",
             porosity_words(x), f"{x.pore_um:.0f} um", f"{x.strut_um:.0f} um",
             f"{x.thickness_mm:g} mm")
        )  # fmt: skip
    columns = ("Layer", "Cell", "Edge", "Porosity", "Pore", "Strut", "Thickness")
    return Table("Porous layers", columns, tuple(rows))


def mechanics_tables(r: Results) -> tuple[Table, ...]:
    """Stress and safety per metal part, section forces of screws and rods, stages of healing."""
    found = (
        ("Metal parts under load", r.mechanics.table),
        ("Forces in screws and rods", r.mechanics.bars),
        ("Stages of healing", r.mechanics.healing),
    )
    return tuple(_rows_table(title, rows) for title, rows in found if rows)


def _rows_table(title: str, rows: tuple[Mapping[str, str | float], ...]) -> Table:
    cells = tuple(
        tuple(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()) for row in rows
    )
    return Table(title, tuple(rows[0]), cells)


def summary(r: Results) -> tuple[str, ...]:
    """What a reader should know before anything else."""
    plan = r.resection.plan
    doubts = sum(len(record.doubts) for record in r.records.values())
    margins = [m.minimum_mm for m in plan.margins]
    margin = (
        "No tumour was given, so no margin can be stated."
        if not margins
        else f"The tumour's least distance to a cut is {min(margins):.1f} mm "
        f"({plan.wanted_margin_mm:g} mm wanted)."
    )
    what = plan.title + (f" with a {design_words(r.implant)}" if r.implant is not None else "")
    return (
        f"{what}, planned from {r.intake.info.source_format} and {r.bones.source}. {margin}",
        f"{doubts} doubts stand in this dossier, each beside what it concerns.",
    )


def dossier(context: Context) -> Dossier:
    """The whole dossier of a case whose stages are done."""
    r = Results(context)
    origins = {
        "intake": "input",
        "bones": "input" if r.config.input.labels else "automatic",
        "landmarks": ("user" if r.config.landmarks or r.config.input.landmarks else "automatic"),
        "resection": (
            "user" if r.config.resection.cuts or r.config.resection.planes else "automatic"
        ),
    }
    rows = tuple(
        StageRow(n, origins.get(n, "automatic"), record.key[:12], tuple(record.inputs))  # type: ignore[arg-type]
        for n, record in r.records.items()
    )
    inputs = tuple(
        InputFile(path, digest)
        for record in r.records.values()
        for path, digest in record.inputs.items()
    )
    versions = tuple(sorted(next(iter(r.records.values())).versions.items()))
    return Dossier(
        r.case_id,
        r.resection.plan.title
        + (f" and {design_words(r.implant)}" if r.implant is not None else ""),
        summary(r),
        sections(r),
        scene(r),
        view_frame(r.landmarks.frames["pelvis"]),
        r.intake.volume,
        (),
        tuple(d for record in r.records.values() for d in doubts_of(record)),
        rows,
        inputs,
        versions,
    )
