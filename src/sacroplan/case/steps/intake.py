"""CT in, with its quality report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.intake import read_and_check
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.errors import Doubt
from sacroplan.formats.ct import CtInfo, inputs_of
from sacroplan.geometry.volume import Volume
from sacroplan.imaging.quality import QualityReport
from sacroplan.metrics import Metric


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
    image, quality = read_and_check(
        context.input_path(table.ct),
        table.series,
        context.progress,
        context.config.patient.surgery or "",
    )
    doubts = (*image.doubts, *quality.doubts)
    metrics = quality.metrics()
    if image.info.why:
        metrics["imaging.series_choice"] = Metric(
            image.info.why, "text", "Why this series was taken", ("CT-04", "CT-06")
        )
    for n, text in enumerate(image.info.set_aside):
        metrics[f"imaging.set_aside.{n + 1:02d}"] = Metric(text, "text", "Set aside")
    return StageOutput(Intake(image.volume, image.info, quality, doubts), metrics, doubts)


def _parameters(config: CaseConfig) -> Any:
    return {"series": config.input.series, "surgery": config.patient.surgery}


def _inputs(context: Context) -> list[Path]:
    return inputs_of(context.input_path(context.config.input.ct))


STAGE = Stage(
    "intake", "Read and check the CT", (), ("formats", "imaging"), _parameters, _inputs, run, 5.0
)
