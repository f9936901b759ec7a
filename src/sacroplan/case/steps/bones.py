"""Bones as labels and as surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import AnatomyError, CaseError, Doubt
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
    bones = segment(volume, part(context.progress, 0.0, 0.7))
    return bones.labels, AUTOMATIC, bones.doubts


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
    }


def _inputs(context: Context) -> list[Path]:
    labels = context.config.input.labels
    return [] if labels is None else [context.input_path(labels)]


STAGE = Stage(
    "bones", "Bones from the CT", ("intake",), ("anatomy", "formats"), _parameters, _inputs, run,
    60.0,
)  # fmt: skip
