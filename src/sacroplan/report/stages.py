"""The dossier stage, and the full list of stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.pipeline import PLAN_STAGES
from sacroplan.case.stage import Context, Stage, StageOutput


def run(context: Context) -> StageOutput:
    """Draw the dossier."""
    from sacroplan.report.assemble import dossier
    from sacroplan.report.dossier import drawn

    files = drawn(dossier(context), context.progress)

    def writer(data: bytes) -> Any:
        return lambda path: Path(path).write_bytes(data)

    pictures = tuple(Path(n).name for n in files if n.startswith("pictures/"))
    writers = {f"dossier/{name}": writer(data) for name, data in files.items()}
    return StageOutput({"pictures": pictures}, {}, (), writers)


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
