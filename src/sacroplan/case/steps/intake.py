"""CT in, with its quality report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.intake import read_and_check
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.errors import Doubt
from sacroplan.formats.ct import CtInfo
from sacroplan.geometry.volume import Volume
from sacroplan.imaging.quality import QualityReport


@dataclass(frozen=True, eq=False)
class Intake:
    """The CT as it is planned on."""

    volume: Volume
    info: CtInfo
    quality: QualityReport
    doubts: tuple[Doubt, ...]


def run(context: Context) -> StageOutput:
    """Read the CT named in case.toml."""
    table = context.config.input
    image, quality = read_and_check(context.input_path(table.ct), table.series, context.progress)
    doubts = (*image.doubts, *quality.doubts)
    return StageOutput(Intake(image.volume, image.info, quality, doubts), quality.metrics(), doubts)


def _parameters(config: CaseConfig) -> Any:
    return {"series": config.input.series}


def _inputs(context: Context) -> list[Path]:
    return [context.input_path(context.config.input.ct)]


STAGE = Stage(
    "intake", "Read and check the CT", (), ("formats", "imaging"), _parameters, _inputs, run, 5.0
)
