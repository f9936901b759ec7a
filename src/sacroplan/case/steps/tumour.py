"""The tumour: from a mask on the CT or the MRI, from shapes in case.toml, or from a label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.fusion import mri_tumour
from sacroplan.errors import CaseError
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.metrics import Metric
from sacroplan.resection.tumour import Ellipsoid, Tumour, tumour_from_mask, tumour_from_shapes


def find_tumour(context: Context) -> Tumour | None:
    """Tumour from a mask file on the CT or the MRI, shapes in case.toml, or a label ``tumour``."""
    from sacroplan.formats.labels import read_mask

    bones: BoneModel = context.result("bones")
    table = context.config.tumour
    geometry = bones.labels.geometry
    given = [n for n in ("mask", "mri_mask", "ellipsoids") if getattr(table, n)]
    if len(given) > 1:
        raise CaseError(f"case.toml gives the tumour twice, as {' and '.join(given)}; keep one.")
    from_mri = mri_tumour(context)
    if from_mri is not None:
        mask, source, error_mm = from_mri
        return replace(tumour_from_mask(geometry, mask, source), error_mm=error_mm)
    if table.mask is not None:
        path = context.input_path(table.mask)
        return tumour_from_mask(geometry, read_mask(path, geometry), f"mask file {path.name}")
    if table.ellipsoids:
        shapes = tuple(
            Ellipsoid(np.asarray(e.centre_mm), np.asarray(e.radii_mm)) for e in table.ellipsoids
        )
        return tumour_from_shapes(shapes, geometry.frame, "shapes in case.toml")
    if bones.labels.has("tumour"):
        return tumour_from_mask(geometry, bones.labels.mask("tumour"), "label 'tumour'")
    return None


def voxels_of(surface: Surface, geometry: VolumeGeometry) -> npt.NDArray[np.bool_]:
    """Grid points of ``geometry`` inside a closed surface; empty where it lies off the grid."""
    from sacroplan.geometry.fields import inside_mask

    mask = np.zeros(geometry.shape, dtype=bool)
    index = geometry.to_index(surface.vertices)
    low = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, geometry.shape)
    if np.all(low < high):
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        mask[box] = inside_mask(surface, geometry.cropped(low, high))
    return mask


def run(context: Context) -> StageOutput:
    """Take the tumour from where case.toml says it is."""
    tumour = find_tumour(context)
    metrics = {
        "resection.tumour.volume_cm3": Metric(
            None if tumour is None else tumour.volume_mm3 / 1000.0, "cm3", "Tumour volume"
        ),
        "resection.tumour.source": Metric(
            "none given" if tumour is None else tumour.source, "text", "Where the tumour comes from"
        ),
    }
    return StageOutput(tumour, metrics)


def _parameters(config: CaseConfig) -> Any:
    return {
        "ellipsoids": [e.model_dump(mode="json") for e in config.tumour.ellipsoids],
        "mask": config.tumour.mask is not None,
        "mri_accepted": config.mri.accepted,
    }


def _inputs(context: Context) -> list[Path]:
    mask = context.config.tumour.mask
    return [] if mask is None else [context.input_path(mask)]


STAGE = Stage(
    "tumour",
    "Tumour",
    ("bones", "fusion"),
    ("resection", "formats"),
    _parameters,
    _inputs,
    run,
    2.0,
)
