"""Bones as labels and as surfaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import AnatomyError, CaseError, Doubt
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import LabelMap, Volume
from sacroplan.metrics import Metric, Metrics
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, part

REQUIRED = ("sacrum", "hip_left", "hip_right", "L5", "L4")
OPTIONAL = ("L3", "femur_left", "femur_right")
AUTOMATIC = "automatic segmentation"
"""What the bones' source is called where the program found them by itself."""


@dataclass(frozen=True, eq=False)
class BoneModel:
    """Labels on the CT's grid and a closed surface per bone."""

    labels: LabelMap
    surfaces: Mapping[str, Surface]
    source: str


def bone_labels(context: Context, volume: Volume) -> tuple[LabelMap, str, tuple[Doubt, ...]]:
    """Labels from the file or by the segmenter that case.toml names; where from; doubts."""
    from sacroplan.anatomy.bones import segment
    from sacroplan.case import totalsegmentator
    from sacroplan.formats.labels import read_label_file

    table = context.config.input
    if table.labels is not None:
        if table.segmenter != "built-in":
            raise CaseError(
                f'case.toml gives the bones twice, as labels and by segmenter = "{table.segmenter}"; '
                "keep one."
            )
        path = context.input_path(table.labels)
        read = read_label_file(path, volume.geometry, table.labels_scheme)
        context.progress(0.7, "labels read")
        return read.labels, f"label file {path.name} ({read.source})", read.doubts
    if table.segmenter == "totalsegmentator":
        read = totalsegmentator.segment(volume, part(context.progress, 0.0, 0.7))
        return read.labels, read.source, read.doubts
    clicks = clicked(context)
    bones = segment(volume, part(context.progress, 0.0, 0.7), clicks)
    count = sum(len(points) for points in clicks.values())
    source = f"{AUTOMATIC}, {count} points given" if count else AUTOMATIC
    return bones.labels, source, bones.doubts


def clicked(context: Context) -> dict[str, FloatArray]:
    """Points (n, 3) by bone, of the file named in case.toml and of its [seeds] table.

    A point of a Slicer file is called after its bone; a number may follow (``L5-2``).
    """
    from sacroplan.formats.markups import read_points
    from sacroplan.formats.names import canonical_name

    found: dict[str, list[npt.ArrayLike]] = {}
    if context.config.input.seeds is not None:
        path = context.input_path(context.config.input.seeds)
        for label, point in read_points(path).items():
            plain = re.sub(r"[-_ ]+\d+$", "", label)
            found.setdefault(canonical_name(plain) or plain, []).append(point)
    for label, points in context.config.seeds.items():
        found.setdefault(canonical_name(label) or label, []).extend(points)
    return {name: np.asarray(points, dtype=np.float64) for name, points in found.items()}


def run(context: Context) -> StageOutput:
    """Labels from a file where one is named, automatically otherwise; then surfaces."""
    from sacroplan.anatomy.coverage import coverage
    from sacroplan.anatomy.surfaces import bone_surface
    from sacroplan.formats.segnrrd import write_segnrrd

    intake: Intake = context.result("intake")
    labels, source, doubts = bone_labels(context, intake.volume)
    missing = [name for name in REQUIRED if not labels.has(name)]
    if missing:
        raise AnatomyError(
            f"The {source} has no {', '.join(missing)}; planning a sacrectomy needs "
            f"{', '.join(REQUIRED)}. Give a label map that holds them with [input] labels."
        )
    covered = coverage(labels)
    doubts = (*doubts, *covered.doubts)
    names = [n for n in (*REQUIRED, *OPTIONAL) if labels.has(n)]

    def surface_of(name: str, progress: Progress) -> Surface:
        progress(0.0, f"surface of {name}")
        return bone_surface(intake.volume, labels, name)

    made = side_by_side(surface_of, names, part(context.progress, 0.7, 1.0))
    surfaces = dict(zip(names, made, strict=True))
    metrics: Metrics = {
        "anatomy.bones.source": Metric(source, "text", "Where the bone labels come from"),
        **covered.metrics(),
    }
    for name, surface in surfaces.items():
        metrics[f"anatomy.bones.{name}.volume_cm3"] = Metric(
            surface.volume_mm3 / 1000.0, "cm3", f"Volume of {name.replace('_', ' ')}"
        )
    return StageOutput(
        BoneModel(labels, surfaces, source),
        metrics,
        doubts,
        {"bones.seg.nrrd": lambda path: write_segnrrd(labels, path)},
    )


def _parameters(config: CaseConfig) -> Any:
    return {
        "labels": config.input.labels is not None,
        "scheme": config.input.labels_scheme,
        "segmenter": config.input.segmenter,
        "seeds": {name: list(points) for name, points in sorted(config.seeds.items())},
    }


def _inputs(context: Context) -> list[Path]:
    named = (context.config.input.labels, context.config.input.seeds)
    return [context.input_path(path) for path in named if path is not None]


STAGE = Stage(
    "bones", "Bones from the CT", ("intake",), ("anatomy", "formats"), _parameters, _inputs, run,
    60.0,
)  # fmt: skip
