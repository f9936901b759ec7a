"""Trilinear sampling of images and fields at points."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import VolumeGeometry


def sample(
    geometry: VolumeGeometry, data: npt.NDArray[Any], points: npt.ArrayLike, outside: float
) -> FloatArray:
    """Values of ``data`` (shape i, j, k) at LPS ``points`` (n, 3); ``outside`` off the grid."""
    from sacroplan.geometry import _kernels

    index = geometry.to_index(np.asarray(points, dtype=np.float64).reshape(-1, 3))
    # Rounding of an oblique grid must not push a border point out of the image.
    top = np.array(geometry.shape) - 1.0
    near = (index > -1e-6) & (index < top + 1e-6)
    index = np.where(near, np.clip(index, 0.0, top), index)
    return np.asarray(_kernels.trilinear(data, index, float(outside)))
