"""The dossier stage, and the full list of stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig, read_config
from sacroplan.case.pipeline import FIXATION_STAGES, PLAN_STAGES
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.report.model import Dossier


def run(context: Context) -> StageOutput:
    """Draw the dossier of a resection and reconstruction."""
    from sacroplan.report.assemble import dossier

    return _drawn(dossier(context), context)


def run_fixation(context: Context) -> StageOutput:
    """Draw the dossier of screws and rods alone."""
    from sacroplan.report.fixation import dossier

    return _drawn(dossier(context), context)


def _drawn(dossier: Dossier, context: Context) -> StageOutput:
    from sacroplan.report.dossier import drawn

    files = drawn(dossier, context.progress)

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

FIXATION_DOSSIER = Stage(
    "dossier", "Dossier", tuple(s.name for s in FIXATION_STAGES),
    ("report", *sorted({room for s in FIXATION_STAGES for room in s.rooms})),
    _parameters, _inputs, run_fixation, 30.0,
)  # fmt: skip


def stages_of(folder: Path) -> tuple[Stage, ...]:
    """The stages of a case: with ``[fixation] construct`` screws and rods alone, else the whole plan."""
    if read_config(folder).fixation.construct_name is not None:
        return (*FIXATION_STAGES, FIXATION_DOSSIER)
    return STAGES
