"""Landmarks, frames and spinopelvic angles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel


def run(context: Context) -> StageOutput:
    """Find landmarks; those in case.toml replace the automatic ones."""
    from sacroplan.anatomy.landmarks import find
    from sacroplan.anatomy.spinopelvic import spinopelvic
    from sacroplan.formats.markups import write_points

    bones: BoneModel = context.result("bones")
    own = {k: np.asarray(v) for k, v in sorted(context.config.landmarks.items())}
    landmarks = find(
        bones.surfaces, bones.labels.geometry.direction, overrides=own, progress=context.progress
    )
    metrics = {**landmarks.metrics(), **spinopelvic(landmarks).metrics()}
    return StageOutput(
        landmarks,
        metrics,
        landmarks.doubts,
        {"landmarks.mrk.json": lambda path: write_points(landmarks.points, path)},
    )


def _parameters(config: CaseConfig) -> Any:
    return {k: list(v) for k, v in sorted(config.landmarks.items())}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "landmarks", "Landmarks and frames", ("bones",), ("anatomy", "formats"), _parameters, _inputs,
    run, 10.0,
)  # fmt: skip
