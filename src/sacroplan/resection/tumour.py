"""The tumour as a closed surface, from voxels or from shapes typed into the case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.fields import contour
from sacroplan.geometry.frames import FloatArray, readonly
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry, grid_around


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """Axis-aligned (LPS) ellipsoid: ``centre`` (3,) and ``radii_mm`` (3,)."""

    centre: FloatArray
    radii_mm: FloatArray

    def __post_init__(self) -> None:
        r = np.array(self.radii_mm, dtype=np.float64).reshape(3)
        if np.any(r <= 0):
            raise PlanError(f"Tumour radii must be positive, not {r.tolist()} mm.")
        object.__setattr__(self, "radii_mm", readonly(r))
        centre = np.array(self.centre, dtype=np.float64).reshape(3)
        object.__setattr__(self, "centre", readonly(centre))


@dataclass(frozen=True, eq=False)
class Tumour:
    """``surface`` of all tumour tissue (closed, LPS mm) and where it came from.

    ``error_mm`` is how far its edge may lie elsewhere (95 %): the predicted error of the fusion that
    carried it over from an MRI (SP-FUS-02); 0 where it was drawn on the CT itself.
    """

    surface: Surface
    source: str
    error_mm: float = 0.0

    @property
    def volume_mm3(self) -> float:
        """Enclosed volume."""
        return self.surface.volume_mm3


def tumour_from_mask(
    geometry: VolumeGeometry, mask: npt.NDArray[Any], source: str, smoothing_mm: float = 0.7
) -> Tumour:
    """Smooth closed surface around a voxel mask (shape i, j, k).

    The surface is the half level of the mask blurred by ``smoothing_mm`` (Gaussian sigma), which
    keeps volume to within a few per cent for anything larger than a few voxels. Raises
    :class:`PlanError` on an empty mask.
    """
    from scipy.ndimage import gaussian_filter

    if not mask.any():
        raise PlanError(f"The tumour mask from {source} is empty: no voxel is marked.")
    where = np.argwhere(mask)
    pad = np.ceil(4.0 * smoothing_mm / geometry.spacing_mm).astype(int) + 1
    low = np.maximum(where.min(axis=0) - pad, 0)
    high = np.minimum(where.max(axis=0) + 1 + pad, geometry.shape)
    block = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]].astype(np.float32)
    block = gaussian_filter(block, smoothing_mm / geometry.spacing_mm, mode="constant")
    return Tumour(contour(geometry.cropped(low, high), 0.5 - block), source)


def tumour_from_shapes(shapes: tuple[Ellipsoid, ...], frame: str, source: str) -> Tumour:
    """Union of ellipsoids as one closed surface, on a 1 mm grid; raises on no shape."""
    if not shapes:
        raise PlanError("No tumour shape is given.")
    corners = np.concatenate([[s.centre - s.radii_mm, s.centre + s.radii_mm] for s in shapes])
    grid = grid_around(corners, 1.0, 3.0, frame)
    points = grid.to_world(np.argwhere(np.ones(grid.shape, dtype=bool)))
    values = np.full(len(points), np.inf)
    for shape in shapes:
        # First-order distance of an ellipsoid: (k - 1) k / |grad|, exact on the surface.
        x = (points - shape.centre) / shape.radii_mm
        k = np.linalg.norm(x, axis=1)
        g = np.linalg.norm(x / shape.radii_mm, axis=1)
        values = np.minimum(
            values, np.where(g > 0, k * (k - 1.0) / np.maximum(g, 1e-12), -shape.radii_mm.min())
        )
    return Tumour(contour(grid, values.reshape(grid.shape)), source)
