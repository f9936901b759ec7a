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
    from sacroplan.manufacture.checks import PartCheck
    from sacroplan.manufacture.clash import Clashes

IMPLANT_PROCESS = "LPBF"
GUIDE_PROCESS = "SLS"


@dataclass(frozen=True, eq=False)
class Prints:
    """Checks per printed part, clashes per pair, names of the print files."""

    checks: tuple[PartCheck, ...]
    clashes: Clashes | None
    files: tuple[str, ...]


def implant_parts(context: Context) -> dict[str, Surface]:
    """The implant's bodies: solid core and one per porous layer."""
    implant = context.result("implant")
    if implant is None:
        return {}
    return {"implant_core": implant.core} | {
        f"implant_porous_{n}": s for n, s in sorted(implant.porous.items())
    }


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
    parts = {n: bones.surfaces[n] for n in ("L4", "L5")}
    parts |= dict(resection.plan.remnants)
    parts |= implant_parts(context)
    allowed: list[tuple[str, str]] = []
    for plan in screws.plans:
        name = f"screw_{plan.screw.name}"
        parts[name] = screw_solid(plan.screw)
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

    guides: Guides = context.result("guides")
    implant = implant_parts(context)
    guide_parts = {g.name: g.surface for g in guides.guides}
    checks = []
    printed = [(n, s, IMPLANT_PROCESS) for n, s in implant.items()]
    printed += [(n, s, GUIDE_PROCESS) for n, s in guide_parts.items()]
    metrics: Metrics = {}
    doubts: list[Doubt] = []
    for n, (name, surface, process) in enumerate(printed):
        context.progress(0.4 * n / len(printed), f"checking {name}")
        check = check_part(surface, name, process)  # type: ignore[arg-type]
        checks.append(check)
        metrics |= check.metrics()
        doubts += check.doubts
    context.progress(0.4, "clashes")
    parts, allowed = implanted_parts(context)
    found = clashes(parts, allowed) if parts else None
    if found is not None:
        metrics |= found.metrics()
        doubts += found.doubts
    context.progress(0.7, "print files")
    files = print_files(context, implant, guide_parts)
    metrics["print.files"] = Metric(len(files), "count", "Print files")
    return StageOutput(
        Prints(tuple(checks), found, tuple(sorted(files))), metrics, tuple(doubts), files
    )


def print_files(
    context: Context, implant: Mapping[str, Surface], guides: Mapping[str, Surface]
) -> dict[str, Callable[[Path], None]]:
    """STL per part, and 3MF of the implant, each guide and the rehearsal models."""
    from sacroplan.formats.stl import write_stl
    from sacroplan.formats.threemf import write_3mf

    case = context.config.case.id
    models = model_parts(context)
    files: dict[str, Callable[[Path], None]] = {}

    def stl(name: str, surface: Surface) -> None:
        files[f"dossier/print/{case}_{name}.stl"] = lambda path: write_stl(
            surface, path, f"{case} {name}"
        )

    def threemf(name: str, parts: Mapping[str, Surface]) -> None:
        bodies = [(f"{case}_{n}", s) for n, s in parts.items()]
        files[f"dossier/print/{case}_{name}.3mf"] = lambda path: write_3mf(
            bodies, path, f"{case} {name}", {"CaseId": case}
        )

    for name, surface in {**implant, **guides, **models, **rehearsal_parts(context)}.items():
        stl(name, surface)
    if implant:
        threemf("implant", implant)
    for name, surface in guides.items():
        threemf(name, {name: surface})
    return files


def _parameters(config: CaseConfig) -> Any:
    return {"case": config.case.id}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "print", "Print checks and files",
    ("bones", "landmarks", "resection", "screws", "implant", "rods", "guides"),
    ("manufacture", "formats", "fixation"), _parameters, _inputs, run, 25.0,
)  # fmt: skip
