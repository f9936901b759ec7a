"""Landmarks, frames and spinopelvic angles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.tumour import voxels_of
from sacroplan.errors import AnatomyError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric
from sacroplan.progress import Progress, part
from sacroplan.resection.tumour import Tumour

MOVED_MM = 0.01
"""A point of the user's file this near to the automatic one was not moved: a file from an earlier run
may be handed back whole, and only what was changed in it counts."""


def run(context: Context) -> StageOutput:
    """Find landmarks; the user's own, from case.toml or a Slicer file, replace the automatic ones."""
    from sacroplan.anatomy.landmarks import check_names, find
    from sacroplan.anatomy.spinopelvic import spinopelvic
    from sacroplan.anatomy.truncated import superior_end
    from sacroplan.formats.jsonio import write_json
    from sacroplan.formats.markups import read_points, write_points

    bones: BoneModel = context.result("bones")
    geometry = bones.labels.geometry
    table, confirmed = context.config.input, context.config.patient.levels_confirmed
    own = {k: np.asarray(v) for k, v in sorted(context.config.landmarks.items())}
    source = dict.fromkeys(own, "case.toml")
    surfaces, whole = surfaces_of(context, part(context.progress, 0.0, 0.2))
    span = (0.2, 1.0)
    if table.landmarks is not None:
        path = context.input_path(table.landmarks)
        given = read_points(path)
        check_names(given)
        automatic = find(
            surfaces, geometry.direction, part(context.progress, 0.2, 0.6), geometry=geometry
        )
        span = (0.6, 1.0)
        for name, point in sorted(moved(given, automatic.points).items()):
            if name not in own:
                own[name], source[name] = point, f"file {path.name}"
    landmarks = find(
        surfaces,
        geometry.direction,
        part(context.progress, *span),
        own,
        geometry,
        confirmed,
    )
    landmarks = replace(landmarks, how={n: source.get(n, h) for n, h in landmarks.how.items()})
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
    angles = spinopelvic(landmarks)
    metrics = {**landmarks.metrics(), **angles.metrics()}
    metrics["anatomy.landmarks.source"] = Metric(
        sources(landmarks.how), "text", "Where the landmarks come from"
    )
    metrics["anatomy.landmarks.sacrum"] = Metric(
        "with the tumour filled in" if whole else "as it is", "text",
        "Sacrum on which landmarks were looked for", ("SP-LMK-13",),
    )  # fmt: skip
    known = landmarks
    listing = {
        name: {
            "position_mm": point.tolist(),
            "uncertainty_mm": known.uncertainty_mm.get(name),
            "from": known.how[name],
        }
        for name, point in known.points.items()
    }
    return StageOutput(
        landmarks,
        metrics,
        (*landmarks.doubts, *angles.doubts),
        {
            "landmarks.mrk.json": lambda path: write_points(known.points, path),
            "landmarks.json": lambda path: write_json(
                {"frame": "LPS", "levels": levels(known), "points": listing}, path
            ),
        },
    )


def surfaces_of(context: Context, progress: Progress) -> tuple[dict[str, Surface], bool]:
    """The bones to look on, and whether a hole that the tumour ate into the sacrum was filled."""
    from sacroplan.anatomy.lesion import filled
    from sacroplan.anatomy.surfaces import bone_surface

    bones: BoneModel = context.result("bones")
    tumour: Tumour | None = context.result("tumour")
    surfaces = dict(bones.surfaces)
    if tumour is None:
        return surfaces, False
    progress(0.0, "filling the sacrum where the tumour is")
    whole = filled(bones.labels, voxels_of(tumour.surface, bones.labels.geometry))
    if whole is None:
        return surfaces, False
    intake: Intake = context.result("intake")
    surfaces["sacrum"] = bone_surface(intake.volume, whole, "sacrum")
    return surfaces, True


def moved(
    given: Mapping[str, FloatArray], automatic: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Points of the user's file that are new or lie elsewhere than the automatic ones."""
    return {
        n: p
        for n, p in given.items()
        if n not in automatic or float(np.linalg.norm(p - automatic[n])) > MOVED_MM
    }


def sources(how: Mapping[str, str]) -> str:
    """How many landmarks come from where."""
    own = sorted(set(how.values()) - {"automatic"})
    if not own:
        return "automatic"
    parts = [f"{', '.join(n for n in how if how[n] == s)} from {s}" for s in own]
    return f"{'; '.join(parts)}; all others automatic"


def levels(landmarks: Any) -> str:
    """What the vertebral levels rest on, in a sentence."""
    return "" if landmarks.levels is None else str(landmarks.levels.sentence())


def _parameters(config: CaseConfig) -> Any:
    return {
        "points": {k: list(v) for k, v in sorted(config.landmarks.items())},
        "file": config.input.landmarks is not None,
        "levels_confirmed": config.patient.levels_confirmed,
    }


def _inputs(context: Context) -> list[Path]:
    file = context.config.input.landmarks
    return [] if file is None else [context.input_path(file)]


STAGE = Stage(
    "landmarks", "Landmarks and frames", ("intake", "bones", "tumour"), ("anatomy", "formats"),
    _parameters, _inputs, run, 8.0,
)  # fmt: skip
