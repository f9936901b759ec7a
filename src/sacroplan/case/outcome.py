"""Work beside the pipeline: options before a resection is chosen, the audit after it was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.case.runner import Listener, context_of
from sacroplan.case.stage import Stage
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.resection import Resection, choice_of, site_of
from sacroplan.errors import CaseError
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.progress import Progress, part, silent
from sacroplan.resection.audit import Audit
from sacroplan.resection.plan import ResectionPlan

LOCATION = {
    "location_iso_mm": "largest distance of the achieved face from the planned plane",
    "location_gouin_mm": "least distance between achieved and planned face",
}
"""Both are called location accuracy in print (PSI-01, PSI-02)."""


def propose_case(
    folder: Path, margin_mm: float | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Compare the types of resection; write the table and the picture into the dossier."""
    from sacroplan.formats.atomic import write_bytes
    from sacroplan.formats.jsonio import write_json
    from sacroplan.resection.propose import picture, propose

    context = context_of(folder)
    site = site_of(context)
    choice = choice_of(context.config)
    wanted = margin_mm or choice.margin_mm or evidence.value("MAR-3", "bone")
    found = propose(site, wanted, choice.kerf_mm, progress)
    table = {
        "case": context.config.case.id,
        "wanted_margin_mm": wanted,
        "advised": None if found.advised is None else found.advised + 1,
        "options": [
            {
                "title": o.title, "type": o.choice.kind, "side": o.choice.side, "l5": o.choice.l5,
                "placed_for_mm": o.choice.margin_mm, "margin_mm": round(o.margin_mm, 3),
                "roots_kept": o.roots, "roots_lost": o.lost,
                "si_joint_percent": round(o.joint_percent, 2), "bone_cm3": round(o.bone_cm3, 2),
                "best": o.best,
            }
            for o in found.options
        ],
        "failed": [{"type": t, "why": why} for t, why in found.failed],
    }  # fmt: skip
    home = folder / "dossier" / "resection"
    home.mkdir(parents=True, exist_ok=True)
    write_json(table, home / "options.json")
    write_bytes(home / "options.png", picture(found))
    return table


def options_table(
    folder: Path, stages: tuple[Stage, ...], listener: Listener | None = None
) -> dict[str, Any]:
    """Bring the case up to date as far as the options, and return their table."""
    from sacroplan.case.runner import run
    from sacroplan.case.steps.options_table import table_of

    run(folder, stages, "options", listener)
    context = context_of(folder)
    return table_of(context.result("options"), context.config.case.id)


def read_outcome(path: Path) -> Surface:
    """The bones after surgery: an STL, a label map, or a CT above the level of SP-RES-12."""
    from sacroplan.formats.stl import read_stl

    if not path.exists():
        raise CaseError(f"{path} does not exist; --postop names an STL, a label map or a CT.")
    if path.suffix.lower() == ".stl":
        return read_stl(path)
    from sacroplan.formats.ct import read_ct
    from sacroplan.geometry.fields import contour

    image = read_ct(path)
    data = np.asarray(image.volume.data, dtype=np.float32)
    # A label map has few whole values, none of them air.
    if data.min() >= 0 and data.max() < 1000 and np.array_equal(data, np.round(data)):
        return contour(image.volume.geometry, np.where(data > 0, -0.5, 0.5).astype(np.float32))
    surface = contour(image.volume.geometry, evidence.value("SP-RES-12", "bone") - data)
    return concatenate(surface.bodies()[:4])


@dataclass(frozen=True, eq=False)
class Audited:
    """A case's audit and all that its dossier shows.

    ``table`` is what goes to audit.json; ``laid`` the outcome in the plan's coordinates; ``tumour`` None
    where none is known.
    """

    table: dict[str, Any]
    audit: Audit
    plan: ResectionPlan
    laid: Surface
    tumour: Surface | None
    pelvis: AxisFrame
    case_id: str
    postop: str


def audit_case(folder: Path, postop: Path, progress: Progress = silent) -> Audited:
    """Measure every cut as it was made; write the table into the dossier."""
    from sacroplan.formats.jsonio import write_json
    from sacroplan.resection.audit import audit

    context = context_of(folder)
    bones: BoneModel = context.result("bones")
    resection: Resection = context.result("resection")
    progress(0.05, "reading the outcome")
    surface = read_outcome(postop)
    surface = replace(surface, frame=bones.labels.frame)
    part(progress, 0.2, 1.0)(0.0, "registration")
    tumour = None if resection.tumour is None else resection.tumour.surface
    found = audit(resection.plan, bones.surfaces, surface, tumour)
    table = {
        "case": context.config.case.id,
        "postop": postop.name,
        "registration_mm": found.registration_mm,
        "missing": list(found.missing),
        "la_definitions": LOCATION,
        "cuts": [
            {
                "cut": c.cut, "facet": c.facet + 1, "location_iso_mm": c.location_iso_mm,
                "location_gouin_mm": c.location_gouin_mm, "mean_mm": c.mean_mm, "rms_mm": c.rms_mm,
                "angle_deg": c.angle_deg, "margin_mm": c.margin_mm,
                "planned_margin_mm": c.planned_margin_mm, "area_mm2": c.area_mm2,
            }
            for c in found.cuts
        ],
        "metrics": {k: m.to_json() for k, m in sorted(found.metrics().items())},
    }  # fmt: skip
    home = folder / "dossier" / "audit"
    home.mkdir(parents=True, exist_ok=True)
    write_json(table, home / "audit.json")
    progress(1.0, "audited")
    frame = context.result("landmarks").frames["pelvis"]
    laid = surface.transformed(found.to_plan, bones.labels.frame)
    return Audited(
        table, found, resection.plan, laid, tumour, frame, context.config.case.id, postop.name
    )
