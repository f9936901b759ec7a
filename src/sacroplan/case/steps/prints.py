"""Checks of what is to be printed, clashes of what is to be implanted, print files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.guides import Guides
from sacroplan.case.steps.resection import Resection
from sacroplan.case.steps.screws import Screws
from sacroplan.errors import Doubt
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric, Metrics

if TYPE_CHECKING:
    from sacroplan.fixation.rods import Rods
    from sacroplan.geometry.frames import FloatArray
    from sacroplan.implant.model import Implant
    from sacroplan.lattice.layer import Solid
    from sacroplan.manufacture.checks import PartCheck
    from sacroplan.manufacture.clash import Clashes
    from sacroplan.manufacture.findings import Hole
    from sacroplan.manufacture.layers import LayerCheck
    from sacroplan.progress import Progress

Files = dict[str, Callable[[Path], None]]
"""Path in the case folder to what writes it."""

IMPLANT_PROCESS = "LPBF"
GUIDE_PROCESS = "SLS"
IMPLANT_MATERIAL = "Ti-6Al-4V ELI"
GUIDE_MATERIAL = "PA12"


@dataclass(frozen=True, eq=False)
class Prints:
    """Checks per printed part and per porous layer, clashes per pair, names of the print files."""

    checks: tuple[PartCheck, ...]
    clashes: Clashes | None
    files: tuple[str, ...]
    layers: tuple[LayerCheck, ...] = ()


def implant_parts(context: Context) -> dict[str, Surface]:
    """The implant's bodies: solid core and one per porous layer."""
    implant = context.result("implant")
    if implant is None:
        return {}
    return {"implant_core": implant.core} | {
        f"implant_porous_{n}": s for n, s in sorted(implant.porous.items())
    }


def implant_holes(context: Context) -> tuple[Hole, ...]:
    """The implant's round holes as planned."""
    from sacroplan.manufacture.findings import Hole

    implant = context.result("implant")
    if implant is None:
        return ()
    screws = tuple(
        Hole(
            s.name,
            0.5 * (s.head + s.bone_entry),
            s.direction,
            s.hole_diameter_mm,
            0.5 * float(((s.bone_entry - s.head) ** 2).sum() ** 0.5),
        )
        for s in implant.wing_screws
    )
    sutures = tuple(
        Hole(f"suture_{n + 1}", h.centre, h.axis, h.diameter_mm)
        for n, h in enumerate(implant.suture_holes)
    )
    return screws + sutures


def implant_layer(implant: Implant, name: str, axes: FloatArray) -> Solid:
    """One porous layer of the implant, filled with its lattice, on the grid of its triangles.

    ``axes`` (3, 3) are the pelvic frame's.
    """
    from sacroplan import evidence
    from sacroplan.lattice.grading import by_depth
    from sacroplan.lattice.layer import FloatField, fill, solidify

    body, wanted = implant.porous[name], implant.lattice[name]
    density: float | FloatField = wanted.density
    if wanted.core_porosity is not None:
        near, far = wanted.ends
        density = by_depth(body, implant.core, near, far, wanted.thickness_mm)
    layer = fill(body, implant.core, wanted.cell_type, wanted.cell_mm, density, axes=axes)
    return solidify(layer, evidence.value("SP-LAT-01", "grid"))


def model_parts(context: Context) -> dict[str, Surface]:
    """Bones for the rehearsal: what stays and what is taken out."""
    bones: BoneModel = context.result("bones")
    resection: Resection = context.result("resection")
    plan = resection.plan
    gone = set(plan.specimen)
    out = {f"model_{n}": bones.surfaces[n] for n in ("L4", "L5") if n not in gone}
    out |= {f"model_{n}": s for n, s in plan.remnants.items()}
    out |= {f"model_specimen_{n}": s for n, s in plan.specimen.items()}
    return out


TRIAL_MM = 0.5
"""Grid of the trial implant: a plastic printer's nozzle is as wide."""


def rehearsal_parts(context: Context) -> dict[str, Surface]:
    """What is printed only to practise: the bones before the cuts, and the implant as one trial body."""
    from sacroplan.geometry.fields import fused

    bones: BoneModel = context.result("bones")
    resection: Resection = context.result("resection")
    cut = sorted({c.bone for c in resection.plan.cuts if c.bone} | {"sacrum"})
    out = {f"model_uncut_{n}": bones.surfaces[n] for n in cut}
    implant = implant_parts(context)
    if implant:
        axes = context.result("landmarks").frames["pelvis"].axes
        out["trial_implant"] = fused(list(implant.values()), TRIAL_MM, axes)
    return out


def implanted_parts(context: Context) -> tuple[dict[str, Surface], list[tuple[str, str]]]:
    """Everything that is in the patient afterwards, and the pairs that are meant to share volume."""
    from sacroplan.fixation.rods import solid as rod_solid
    from sacroplan.fixation.screws import solid as screw_solid

    bones: BoneModel = context.result("bones")
    resection: Resection = context.result("resection")
    screws: Screws = context.result("screws")
    rods: Rods | None = context.result("rods")
    if rods is None:
        return {}, []
    # A vertebra that goes along is no part of the patient any more; half of one is a remnant.
    gone = resection.plan.specimen
    implant = context.result("implant")
    parts = {n: implant.carried(bones.surfaces[n]) for n in ("L4", "L5") if n not in gone}
    parts |= dict(resection.plan.remnants)
    parts |= implant_parts(context)
    allowed: list[tuple[str, str]] = []
    for plan in screws.plans:
        name = f"screw_{plan.screw.name}"
        parts[name] = implant.carried(screw_solid(plan.screw))
        allowed.append((name, plan.screw.level))
        allowed.append((name, f"rod_{plan.screw.side}"))
    for rod in rods.rods:
        parts[f"rod_{rod.side}"] = rod_solid(rod)
        # The rod lies in the implant's saddle, as in the heads of the screws.
        allowed.append((f"rod_{rod.side}", "implant_core"))
    return parts, allowed


def run(context: Context) -> StageOutput:
    """Check and export."""
    from sacroplan.manufacture.checks import check_part
    from sacroplan.manufacture.clash import clashes
    from sacroplan.manufacture.layers import check_layer, form_of
    from sacroplan.parallel import side_by_side
    from sacroplan.progress import part

    guides: Guides = context.result("guides")
    implant = implant_parts(context)
    guide_parts = {g.name: g.surface for g in guides.guides}
    printed = [(n, s, IMPLANT_PROCESS) for n, s in implant.items()]
    printed += [(n, s, GUIDE_PROCESS) for n, s in guide_parts.items()]
    metrics: Metrics = {}
    doubts: list[Doubt] = []
    bores = implant_holes(context)

    def checked(item: tuple[str, Surface, str], told: Progress) -> PartCheck:
        name, surface, process = item
        told(0.0, f"checking {name}")
        holes = bores if name == "implant_core" else ()
        return check_part(surface, name, process, holes=holes)  # type: ignore[arg-type]

    checks = side_by_side(checked, printed, part(context.progress, 0.0, 0.4))
    for check in checks:
        metrics |= check.metrics()
        doubts += check.doubts
    context.progress(0.4, "clashes")
    parts, allowed = implanted_parts(context)
    found = clashes(parts, allowed) if parts else None
    if found is not None:
        metrics |= found.metrics()
        doubts += found.doubts
    up = next((c.build_direction for c in checks if c.name == "implant_core"), None)
    whole = context.result("implant")
    axes = context.result("landmarks").frames["pelvis"].axes
    printer_mm = context.config.implant.printer_minimum_mm

    def layered(name: str, told: Progress) -> tuple[LayerCheck, Files]:
        told(0.0, f"porous layer {name}")
        solid = implant_layer(whole, name, axes)
        told(0.4, f"checking porous layer {name}")
        form = form_of(solid.layer.cell, solid.triangles)
        layer = check_layer(name, solid, form, printer_mm=printer_mm)
        told(0.7, f"porous layer {name} as {form}")
        return layer, lattice_files(context, layer, solid, up)

    names = [] if whole is None else sorted(whole.porous)
    layers = []
    files = print_files(context, implant, guide_parts)
    for layer, own in side_by_side(layered, names, part(context.progress, 0.6, 1.0)):
        files |= own
        layers.append(layer)
        metrics |= layer.metrics()
        doubts += layer.doubts
    metrics["print.files"] = Metric(len(files), "count", "Print files")
    return StageOutput(
        Prints(tuple(checks), found, tuple(sorted(files)), tuple(layers)),
        metrics,
        tuple(doubts),
        files,
    )


def print_files(
    context: Context, implant: Mapping[str, Surface], guides: Mapping[str, Surface]
) -> Files:
    """STL per part, and 3MF of the implant, each guide and the rehearsal models."""
    from sacroplan.formats.stl import write_stl
    from sacroplan.formats.threemf import write_3mf

    case = context.config.case.id
    models = model_parts(context)
    files: Files = {}

    def stl(name: str, surface: Surface) -> None:
        files[f"dossier/print/{case}_{name}.stl"] = lambda path: write_stl(
            surface, path, f"{case} {name}"
        )

    def threemf(name: str, parts: Mapping[str, Surface], material: str) -> None:
        bodies = [(f"{case}_{n}", s) for n, s in parts.items()]
        files[f"dossier/print/{case}_{name}.3mf"] = lambda path: write_3mf(
            bodies, path, f"{case} {name}", {"CaseId": case}, material
        )

    for name, surface in {**implant, **guides, **models, **rehearsal_parts(context)}.items():
        stl(name, surface)
    if implant:
        threemf("implant", implant, IMPLANT_MATERIAL)
    for name, surface in guides.items():
        threemf(name, {name: surface}, GUIDE_MATERIAL)
    return files


def lattice_files(
    context: Context, check: LayerCheck, solid: Solid, up: FloatArray | None
) -> Files:
    """A porous layer as 3MF in the form that its size allows; slices, across ``up``, also as CLI.

    Beams and slices are made here, so that the layer's fine grid need not be kept for the writing.
    """
    import numpy as np

    from sacroplan import evidence
    from sacroplan.formats.cli_layers import write_cli
    from sacroplan.formats.threemf_lattice import (
        write_3mf_beams,
        write_3mf_blocks,
        write_3mf_slices,
    )
    from sacroplan.lattice.beams import beams
    from sacroplan.lattice.slices import build_axes, sliced, slices

    case = context.config.case.id
    name = f"lattice_{check.name}"
    file = f"dossier/print/{case}_{name}"
    title, part = f"{case} {name}", f"{case}_{name}"
    words = {"CaseId": case, "Cell": check.cell, "Form": check.form}
    if check.form == "triangles":

        def triangles(path: Path) -> None:
            write_3mf_blocks(part, solid.blocks(), path, title, words, IMPLANT_MATERIAL)

        return {f"{file}.3mf": triangles}
    if check.form == "beams":
        bars = beams(solid.layer)

        def struts(path: Path) -> None:
            write_3mf_beams(part, bars, path, title, words, IMPLANT_MATERIAL)

        return {f"{file}.3mf": struts}
    axes = build_axes(np.array([0.0, 0.0, 1.0]) if up is None else up)
    # Everything in this file lies in the build frame; the matrix leads back to the patient.
    words["BuildToLPS"] = " ".join(f"{v:.9f}" for v in axes.ravel())
    grid_mm = float(solid.grid.spacing_mm[0])
    layer_mm = evidence.value("AM-06", "layer") / 1000.0

    stack = tuple(slices(sliced(solid.layer, grid_mm, layer_mm, axes)))
    body = solid.layer.body
    turned = Surface(body.vertices @ axes, body.faces, body.frame)

    def threemf(path: Path) -> None:
        write_3mf_slices(part, turned, stack, path, title, words, IMPLANT_MATERIAL)

    def cli(path: Path) -> None:
        note = f"case {case}, {check.cell}, LPS = M x build, M by rows {words['BuildToLPS']}"
        write_cli(part, stack, path, note)

    return {f"{file}.3mf": threemf, f"{file}.cli": cli}


def _parameters(config: CaseConfig) -> Any:
    return {"case": config.case.id, "printer": config.implant.printer_minimum_mm}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "print", "Print checks and files",
    ("bones", "landmarks", "resection", "screws", "implant", "rods", "guides"),
    ("manufacture", "lattice", "formats", "fixation"), _parameters, _inputs, run, 30.0,
)  # fmt: skip
