"""The dossier stage, and the full list of stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.pipeline import PLAN_STAGES
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.progress import part


def run(context: Context) -> StageOutput:
    """Draw the dossier."""
    from sacroplan.report.assemble import dossier
    from sacroplan.report.content import build
    from sacroplan.report.html import render_html
    from sacroplan.report.pdf import render_pdf
    from sacroplan.report.scene import display_meshes

    told = context.progress
    told(0.0, "gathering")
    shown = dossier(context)
    meshes = display_meshes(shown.scene, part(told, 0.05, 0.3))
    content = build(shown, meshes, part(told, 0.3, 0.8))
    told(0.85, "report.html")
    html = render_html(shown, content, meshes).encode("utf-8")
    told(0.9, "report.pdf")
    pdf = render_pdf(content)

    def writer(data: bytes) -> Any:
        return lambda path: Path(path).write_bytes(data)

    files = {"dossier/report.html": writer(html), "dossier/report.pdf": writer(pdf)}
    files |= {f"dossier/pictures/{n}": writer(png) for n, png in content.pictures.items()}
    return StageOutput({"pictures": tuple(content.pictures)}, {}, (), files)


def _parameters(config: CaseConfig) -> Any:
    return {"case": config.case.id}


def _inputs(_context: Context) -> list[Path]:
    return []


DOSSIER = Stage(
    "dossier", "Dossier", tuple(s.name for s in PLAN_STAGES),
    ("report", *sorted({room for s in PLAN_STAGES for room in s.rooms})),
    _parameters, _inputs, run, 40.0,
)  # fmt: skip

STAGES: tuple[Stage, ...] = (*PLAN_STAGES, DOSSIER)
"""Every stage of a case, in order."""
