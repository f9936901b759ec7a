"""Landmarks, frames and spinopelvic angles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.errors import AnatomyError


def run(context: Context) -> StageOutput:
    """Find landmarks; those in case.toml replace the automatic ones."""
    from sacroplan.anatomy.landmarks import find
    from sacroplan.anatomy.spinopelvic import spinopelvic
    from sacroplan.anatomy.truncated import superior_end
    from sacroplan.formats.markups import write_points

    bones: BoneModel = context.result("bones")
    own = {k: np.asarray(v) for k, v in sorted(context.config.landmarks.items())}
    landmarks = find(
        bones.surfaces,
        bones.labels.geometry.direction,
        overrides=own,
        geometry=bones.labels.geometry,
        progress=context.progress,
    )
    # A CT may end inside L4: the plan then goes on with a stand-in and says so.
    for level in ("L4", "L5"):
        if f"{level}SEP" not in landmarks.frames and f"{level}IEP" in landmarks.frames:
            inferior = landmarks.frames[f"{level}IEP"]
            frame, doubt = superior_end(bones.surfaces[level], level, inferior)
            landmarks = replace(
                landmarks,
                frames={**landmarks.frames, f"{level}SEP": frame},
                doubts=(*landmarks.doubts, doubt),
            )
    missing = [n for n in ("pelvis", "S1EP", "L5IEP", "L4IEP") if n not in landmarks.frames]
    if missing:
        raise AnatomyError(
            f"The frames {', '.join(missing)} could not be found on the bones; a sacrectomy cannot be "
            "planned without them. Check the bone labels, or give landmarks in case.toml."
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
