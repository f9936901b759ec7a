"""Tumour and osteotomies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.fusion import mri_tumour
from sacroplan.errors import CaseError
from sacroplan.geometry.frames import Plane
from sacroplan.metrics import Metric
from sacroplan.resection.plan import (
    ResectionParameters,
    ResectionPlan,
    plan_total_sacrectomy,
)
from sacroplan.resection.tumour import Ellipsoid, Tumour, tumour_from_mask, tumour_from_shapes


@dataclass(frozen=True, eq=False)
class Resection:
    """The tumour, where one is known, and the plan that removes it."""

    tumour: Tumour | None
    plan: ResectionPlan


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
        return tumour_from_mask(geometry, *from_mri)
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


def run(context: Context) -> StageOutput:
    """Plan the resection."""
    from sacroplan.formats.markups import write_planes

    bones: BoneModel = context.result("bones")
    landmarks = context.result("landmarks")
    table = context.config.resection
    context.progress(0.0, "tumour")
    tumour = find_tumour(context)
    frame = bones.labels.frame
    own: dict[str, Plane] = {
        name: Plane(np.asarray(c.point_mm), np.asarray(c.normal), frame)
        for name, c in sorted(table.cuts.items())
    }
    plan = plan_total_sacrectomy(
        bones.surfaces,
        landmarks.frames,
        landmarks.points,
        tumour,
        ResectionParameters(table.kerf_mm, table.margin_mm),
        own,
        context.progress,
    )
    metrics = plan.metrics()
    metrics["resection.tumour.volume_cm3"] = Metric(
        None if tumour is None else tumour.volume_mm3 / 1000.0, "cm3", "Tumour volume"
    )
    metrics["resection.tumour.source"] = Metric(
        "none given" if tumour is None else tumour.source, "text", "Where the tumour comes from"
    )
    planes = [(c.name, c.plane, 80.0) for c in plan.cuts]
    return StageOutput(
        Resection(tumour, plan),
        metrics,
        plan.doubts,
        {"planes.mrk.json": lambda path: write_planes(planes, path)},
    )


def _parameters(config: CaseConfig) -> Any:
    return {
        "resection": config.resection.model_dump(mode="json"),
        "ellipsoids": [e.model_dump(mode="json") for e in config.tumour.ellipsoids],
        "mask": config.tumour.mask is not None,
        "mri_accepted": config.mri.accepted,
    }


def _inputs(context: Context) -> list[Path]:
    mask = context.config.tumour.mask
    return [] if mask is None else [context.input_path(mask)]


STAGE = Stage(
    "resection", "Tumour and osteotomies", ("bones", "landmarks", "fusion"),
    ("anatomy", "resection", "formats"),
    _parameters, _inputs, run, 8.0,
)  # fmt: skip
