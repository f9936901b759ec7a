"""Distance from tumour to every cut, as a map on the cut face and as its minimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.resection.cuts import Cut

MAP_SPACING_MM = 1.0
"""Spacing of the margin map's points on a cut face."""


@dataclass(frozen=True, eq=False)
class CutMargin:
    """Margin at one cut.

    Attributes
    ----------
    cut : name of the cut.
    minimum_mm : least distance from tumour to the specimen's face; negative where the tumour
        crosses the plane within the cut bone.
    points : (n, 3) points of the specimen's cut face. distance_mm : (n,) signed distance of each to
        the tumour (negative inside it).
    nearest : (3,) tumour point that is nearest to the plane.
    """

    cut: str
    minimum_mm: float
    points: FloatArray
    distance_mm: FloatArray
    nearest: FloatArray


def face_points(cut: Cut) -> FloatArray:
    """(n, 3) regular points on the specimen's side of the cut face, inside its outline."""
    from matplotlib.path import Path

    loops = cut.outline.loops
    if not loops:
        return np.zeros((0, 3))
    everything = np.concatenate(loops)
    low, high = everything.min(axis=0), everything.max(axis=0)
    u = np.arange(low[0] + 0.5 * MAP_SPACING_MM, high[0], MAP_SPACING_MM)
    v = np.arange(low[1] + 0.5 * MAP_SPACING_MM, high[1], MAP_SPACING_MM)
    uv = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1).reshape(-1, 2)
    crossings = np.zeros(len(uv), dtype=int)
    for loop in loops:
        crossings += Path(loop).contains_points(uv)
    uv = np.concatenate([uv[crossings % 2 == 1], everything])
    return np.asarray(cut.outline.to_world(uv) + 0.5 * cut.kerf_mm * cut.plane.normal)


def cut_margin(cut: Cut, tumour: Surface) -> CutMargin:
    """Margin map and minimum at one cut."""
    import igl

    points = face_points(cut)
    # libigl's fast-winding-number mode returns distances that err by 0.03 mm; this one is exact.
    signed = np.asarray(
        igl.signed_distance(
            points, tumour.vertices, tumour.faces, igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
        )[0]
    ).reshape(-1)
    to_plane = cut.specimen_face.distance(tumour.vertices)
    nearest = tumour.vertices[int(np.argmin(to_plane))]
    return CutMargin(cut.name, float(signed.min()), points, signed, nearest)
