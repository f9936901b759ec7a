"""The dossier of screws and rods alone: corridors in line with each screw, rods, robot and accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sacroplan.case.stage import Context
from sacroplan.case.steps.construct_rods import ConstructRods
from sacroplan.case.steps.navigation import Navigation
from sacroplan.errors import Doubt
from sacroplan.fixation.construct import Construct
from sacroplan.fixation.screw_plan import ScrewPlan
from sacroplan.geometry.frames import Axis
from sacroplan.geometry.volume import Volume
from sacroplan.metrics import Metrics
from sacroplan.report import accuracy
from sacroplan.report import options as choices
from sacroplan.report.assemble import (
    BONE,
    ROD,
    SCREW,
    doubts_of,
    figures_of,
    title_of,
)
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
from sacroplan.report.slices import along_axis

SHOWN = ("L3", "L4", "L5", "sacrum", "hip_left", "hip_right")

ACROSS_MM = 30.0
"""Half width of a picture across a screw."""


def screw_title(plan: ScrewPlan) -> str:
    """What a reader calls a screw."""
    words = {
        "pedicle": "Pedicle screw", "s2ai": "S2AI screw", "iliac": "Iliac screw",
        "iliolumbar": "Iliolumbar screw", "trans_sacral": "Trans-sacral screw", "wing": "Wing screw",
    }  # fmt: skip
    s = plan.screw
    level = f" {s.level}" if s.kind in ("pedicle", "trans_sacral") else ""
    return f"{words[s.kind]}{level} {s.side}"


def narrowest_mm(plan: ScrewPlan) -> float:
    """Where along a screw it has least bone round it, beyond its entry zone."""
    inside = plan.profile[plan.profile[:, 0] >= plan.start_mm - 1e-9]
    return float(inside[int(np.argmin(inside[:, 1])), 0])


def in_line(
    volume: Volume, plan: ScrewPlan, overlays: tuple[Overlay, ...], group: str
) -> tuple[SliceRequest, ...]:
    """Pictures as a robot's station shows them: two along the screw, across it at its middle and where it
    has least bone."""
    from sacroplan.fixation.screws import solid

    s = plan.screw
    own = (
        *overlays,
        Overlay("screw", "#ffd23f", surface=solid(s)),
        Overlay("axis", "#ff7f2a", polyline=np.stack([s.entry, s.tip]), dashed=True),
    )
    views = along_axis(volume, Axis(s.entry, s.direction, volume.frame), s.length_mm, group, own)
    across = views[-1]
    place = narrowest_mm(plan)
    tight = replace(
        across,
        title=f"across at {place:.0f} mm, least bone ({plan.clearance_mm:.1f} mm)",
        centre=s.entry + place * s.direction,
        half_width_mm=ACROSS_MM,
    )
    return (*views, tight)


def screw_table(construct: Construct) -> Table:
    """Size, grade and clearance of every screw."""
    rows = []
    for p in construct.plans:
        worst = min(p.rules, key=lambda r: r.margin / max(abs(r.limit), 1.0))
        hu = "-" if p.mean_hu is None else f"{p.mean_hu:.0f}"
        rows.append(
            (
                screw_title(p), f"{p.screw.diameter_mm:g} x {p.screw.length_mm:g}", p.grade,
                f"{p.clearance_mm:.1f}", f"{p.convergence_deg:.0f}", f"{p.sagittal_deg:+.0f}", hu,
                f"{worst.name.replace('_', ' ')} {worst.margin:+.1f} {worst.unit}", str(len(p.runners)),
            )
        )  # fmt: skip
    return Table(
        "Screws",
        ("Screw", "Size (mm)", "Grade", "Least bone (mm)", "Medial or lateral (deg)",
         "Cranial (deg)", "HU", "Tightest rule, margin", "Runner-ups"),
        tuple(rows),
    )  # fmt: skip


def points_table(construct: Construct) -> Table:
    """Entry and tip in the CT's coordinates."""

    def words(p: np.ndarray) -> str:
        return ", ".join(f"{v:.1f}" for v in p)

    return Table(
        "Entry and tip, LPS mm in the frame of the CT",
        ("Screw", "Entry", "Tip"),
        tuple((screw_title(p), words(p.screw.entry), words(p.screw.tip)) for p in construct.plans),
    )


def rule_table(plan: ScrewPlan) -> Table:
    """Every rule a screw is held to, with its margin."""
    return Table(
        f"{screw_title(plan)}: rules",
        ("Rule", "Value", "Limit", "Margin", "Source"),
        tuple(
            (
                r.name.replace("_", " "), f"{r.value:.1f} {r.unit}",
                f"{'at least' if r.at_least else 'at most'} {r.limit:g}", f"{r.margin:+.1f}",
                ", ".join(r.rows),
            )
            for r in plan.rules
        ),
    )  # fmt: skip


def rods_table(rods: ConstructRods) -> Table:
    """Cutting and bending for theatre."""
    rows = []
    for p in rods.rods.plans:
        steps = "; ".join(
            f"{b.at_mm:.0f} mm: {b.angle_deg:.0f} deg, turned {b.roll_deg:+.0f} deg ({b.near})"
            for b in rods.bends[p.name]
        )
        links = "; ".join(f"{c.name} {c.reach_mm:.0f} mm" for c in rods.connectors[p.name])
        rows.append(
            (p.name.replace("_", " "), f"{p.diameter_mm:g}", f"{p.rod.length_mm:.0f}", steps or "straight",
             links or "none")
        )  # fmt: skip
    rows += [
        (c.name.replace("_", "-"), f"{c.diameter_mm:g}", f"{c.span_mm:.0f}",
         f"arches {c.lift_mm:.0f} mm behind the rods",
         f"left rod at {c.left_at_mm:.0f} mm, right rod at {c.right_at_mm:.0f} mm")
        for c in rods.rods.cross
    ]  # fmt: skip
    return Table(
        "Cutting and bending, from the cranial end",
        ("Rod", "Diameter (mm)", "Cut to (mm)", "Bends", "Connectors"),
        tuple(rows),
    )


def dossier(context: Context) -> Dossier:
    """The dossier of a case that plans screws and rods alone."""
    from sacroplan.fixation.cross import solid as cross_solid
    from sacroplan.fixation.rods import solid as rod_solid
    from sacroplan.fixation.screws import solid as screw_solid

    intake, bones = context.result("intake"), context.result("bones")
    landmarks = context.result("landmarks")
    construct: Construct = context.result("construct")
    rods: ConstructRods = context.result("construct_rods")
    navigation: Navigation = context.result("navigation")
    records = context.records
    scene: list[ScenePart] = [
        ScenePart(n, title_of(n), "bones", bones.surfaces[n], BONE)
        for n in SHOWN if n in bones.surfaces
    ]  # fmt: skip
    for p in construct.plans:
        name = f"screw_{p.screw.name}"
        scene.append(
            ScenePart(
                name, screw_title(p), "screws", screw_solid(p.screw), SCREW, finish="metal",
                figures=p.metrics(),
            )
        )  # fmt: skip
    for rod in rods.rods.rods:
        scene.append(
            ScenePart(
                rod.name, title_of(rod.name).capitalize(), "rods", rod_solid(rod), ROD, finish="metal"
            )
        )  # fmt: skip
    for c in rods.rods.cross:
        scene.append(
            ScenePart(
                c.name, title_of(c.name).capitalize(), "rods", cross_solid(c, bones.labels.frame), ROD,
                finish="metal",
            )
        )  # fmt: skip
    base = tuple(
        Overlay(title_of(n), "#f2e6c9", surface=bones.surfaces[n])
        for n in SHOWN if n in bones.surfaces
    )  # fmt: skip
    pictures: list[SliceRequest] = []
    for p in construct.plans:
        pictures += in_line(intake.volume, p, base, f"screw {p.screw.name}")

    def chapter(title: str, anchor: str, *stages: str, **more: object) -> Section:
        figures: Metrics = {}
        doubts: list[Doubt] = []
        for name in stages:
            figures |= figures_of(records[name])
            doubts += doubts_of(records[name])
        return Section(title, anchor, figures=figures, doubts=tuple(doubts), **more)  # type: ignore[arg-type]

    options = context.result("options")
    glass = (("bones", 0.3),)
    sections = (
        chapter("The CT", "ct", "intake"),
        chapter("Bones, landmarks and frames", "bones", "bones", "landmarks"),
        chapter(
            "Screws", "screws", "construct",
            text=(
                "Least bone is the exact distance from the thread to the bone's surface beyond the entry. "
                "Every rule is shown with its margin; conventions that no study fixes may warn, not reject.",
            ),
            views=(
                View("screws-back", "From behind", "back", ("bones", "screws", "rods"), glass),
                View("screws-left", "From the left", "left", ("bones", "screws", "rods"), glass),
                View("screws-top", "From the head", "top", ("bones", "screws", "rods"), glass),
                View("screws-front", "From the front", "front", ("bones", "screws", "rods"), glass),
            ),
            tables=(
                screw_table(construct), points_table(construct),
                *(rule_table(p) for p in construct.plans),
            ),
            slices=tuple(pictures),
        ),
        chapter("Rods", "rods", "construct_rods", tables=(rods_table(rods),)),
        choices.without_words(
            chapter(
                "Options of reconstruction", "options", "options", text=choices.text_of(options),
                tables=choices.tables_of(options, {}),
            )
        ),
        chapter(
            "Robot, navigation and accuracy", "navigation", "navigation",
            text=accuracy.WORDS, tables=accuracy.tables_of(navigation),
        ),
    )  # fmt: skip
    return _whole(context, construct, scene, sections, landmarks.frames, intake.volume)


def _whole(
    context: Context,
    construct: Construct,
    scene: list[ScenePart],
    sections: tuple[Section, ...],
    frames: Mapping[str, object],
    volume: Volume,
) -> Dossier:
    records = context.records
    doubts = tuple(d for record in records.values() for d in doubts_of(record))
    origins = {"intake": "input", "bones": "input" if context.config.input.labels else "automatic"}
    classes = " + ".join(construct.classes) or "none of SPF, PPRF, ASCF"
    return Dossier(
        context.config.case.id,
        f"Screws and rods: {construct.name}",
        (
            f"Fixation without a resection: {construct.name}, {len(construct.plans)} screws, class "
            f"{classes}.",
            f"{len(doubts)} doubts stand in this dossier, each beside what it concerns.",
        ),
        sections,
        tuple(scene),
        view_frame(frames["pelvis"]),  # type: ignore[arg-type]
        volume,
        (),
        doubts,
        tuple(
            StageRow(n, origins.get(n, "automatic"), r.key[:12], tuple(r.inputs))  # type: ignore[arg-type]
            for n, r in records.items()
        ),
        tuple(InputFile(p, d) for r in records.values() for p, d in r.inputs.items()),
        tuple(sorted(next(iter(records.values())).versions.items())),
    )
