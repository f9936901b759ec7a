"""Tissue over metal: from every point of the back of an implant or rod to the skin [SOFT-5]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.fields import contour
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.tree import face_tree
from sacroplan.geometry.volume import Volume, VolumeGeometry

SKIN_STEP_MM = 3.0
"""The skin is taken from a CT thinned to this spacing: it is smooth, and cover is told in whole mm."""

FACING = 0.35
"""A face counts as one of the back where it faces it within 70 degrees."""

MOST_POINTS = 1500


@dataclass(frozen=True, eq=False)
class Cover:
    """Depth of tissue behind one part.

    Attributes
    ----------
    least_mm, fifth_mm : the least, and what 95 % of the points have. thin_percent : share of the part's
        back with less than SOFT-5. at : (3,) where it is least.
    """

    least_mm: float
    fifth_mm: float
    thin_percent: float
    at: FloatArray


def skin(volume: Volume) -> Surface:
    """Closed surface of the body in a CT: the largest thing denser than SP-SOFT-03, holes filled."""
    from scipy.ndimage import binary_fill_holes, label

    level = evidence.value("SP-SOFT-03", "skin")
    step = np.maximum(np.round(SKIN_STEP_MM / volume.geometry.spacing_mm), 1).astype(int)
    data = np.asarray(volume.data)[:: step[0], :: step[1], :: step[2]]
    body, count = label(data > level)
    if not count:
        raise PlanError(f"The CT holds nothing denser than {level:g} HU, so it shows no skin.")
    sizes = np.bincount(body.ravel())
    sizes[0] = 0
    mask = body == int(np.argmax(sizes))
    # Slice by slice, so that bowel and lungs that leave the image are inside as well.
    for k in range(mask.shape[2]):
        mask[:, :, k] = binary_fill_holes(mask[:, :, k])
    g = volume.geometry
    grid = VolumeGeometry(mask.shape, g.spacing_mm * step, g.origin, g.direction, g.frame)
    density = np.where(mask, np.float32(-1.0), np.float32(1.0))
    # The grey value tells where between two voxels the skin lies.
    near = np.clip((np.float32(level) - data.astype(np.float32)) / 500.0, -1.0, 1.0)
    density = np.where(
        mask, np.minimum(near, np.float32(-1e-3)), np.maximum(near, np.float32(1e-3))
    )
    return contour(grid, density.astype(np.float32)).bodies()[0]


def back_of(body: Surface, volume: Volume) -> Surface:
    """The skin alone: without the flat faces where the image cuts the body off."""
    g = volume.geometry
    reach = SKIN_STEP_MM / g.spacing_mm + 1.0
    index = g.to_index(body.triangles.mean(axis=1))
    border = np.any((index < reach) | (index > np.array(g.shape) - 1.0 - reach), axis=1)
    if border.all():
        raise PlanError("The CT shows no skin: the body is cut off on all sides.")
    return body.subset(~border)


def cover(part: Surface, body: Surface, posterior: FloatArray) -> Cover:
    """Distance from the back of ``part`` to the skin along ``posterior`` (3,).

    ``body`` may be open (:func:`back_of`); points behind which no skin is seen are left out.
    Raises :class:`PlanError` where no skin lies behind the part.
    """
    back = unit(posterior)
    corners = part.triangles
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(normal, axis=1)
    facing = (normal @ back) > FACING * np.maximum(size, 1e-12)
    points = corners[facing].mean(axis=1)
    weight = size[facing]
    if not len(points):
        raise PlanError("The part has no face towards the back, so no cover can be told.")
    if len(points) > MOST_POINTS:
        # Every n-th of the faces sorted by size keeps the large ones.
        order = np.argsort(-weight, kind="stable")[:: len(points) // MOST_POINTS + 1]
        points, weight = points[order], weight[order]
    tree = face_tree(body)
    distance, _ = tree.first_hits(points, np.broadcast_to(back, points.shape).copy(), 0.0)
    seen = np.isfinite(distance)
    if not seen.any():
        raise PlanError("Behind the part no skin is found; check that the CT shows the whole back.")
    distance, points, weight = distance[seen], points[seen], weight[seen]
    order = np.argsort(distance)
    cumulative = np.cumsum(weight[order]) / weight.sum()
    fifth = float(distance[order][int(np.searchsorted(cumulative, 0.05))])
    wanted = evidence.value("SOFT-5", "cover")
    thin = 100.0 * float(weight[distance < wanted].sum() / weight.sum())
    k = int(np.argmin(distance))
    return Cover(float(distance[k]), fifth, thin, points[k])


def cover_doubts(found: Mapping[str, Cover]) -> tuple[Doubt, ...]:
    """One doubt per part that is thinly covered."""
    wanted = evidence.value("SOFT-5", "cover")
    return tuple(
        Doubt(
            "plan", f"softtissue.cover.{name}",
            f"Over {name.replace('_', ' ')} lie {c.least_mm:.0f} mm of tissue at the thinnest place; "
            f"{wanted:g} mm are wanted. A flap is to bring them.", ("SOFT-5",),
        )
        for name, c in found.items()
        if c.least_mm < wanted
    )  # fmt: skip
