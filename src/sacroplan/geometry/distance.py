"""Distances on voxel grids: exact Euclidean transforms, anisotropic, on all cores.

SciPy's transform walks the whole grid with three index arrays; bones need distances only in a band,
and there this one is some ten times faster (``benchmarks/``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray
from sacroplan.parallel import ALL_CORES

Mask = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]


def distance_to(mask: Mask, spacing_mm: npt.ArrayLike = 1.0, limit_mm: float = np.inf) -> Float32:
    """Distance (mm) of every voxel centre to the nearest ``True`` voxel centre, 0 inside ``mask``.

    Parameters
    ----------
    mask : (ni, nj, nk).
    spacing_mm : one number or (3,); with 1 the distances are in voxels.
    limit_mm : distances beyond it (or with an empty mask) are returned as ``limit_mm``.
    """
    from sacroplan.geometry import _distance_kernels as kernels

    steps: FloatArray = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,)).copy()
    out = np.empty(mask.shape, dtype=np.float32)
    marked = np.ascontiguousarray(mask).view(np.uint8)
    with ALL_CORES:
        kernels.squared_distance(marked, steps, float(limit_mm), out)
        kernels.root(out, np.float32(limit_mm))
    return out


def signed_distance(mask: Mask, spacing_mm: FloatArray, limit_mm: float = np.inf) -> Float32:
    """Signed distance (mm) to the voxel boundary of ``mask``, negative inside, never zero.

    Half a voxel lies between a voxel's centre and the boundary. Beyond ``limit_mm`` the distance is
    that limit; with an empty mask it is everywhere.
    """
    half = 0.5 * float(np.mean(spacing_mm))
    outside = np.maximum(distance_to(mask, spacing_mm, limit_mm) - half, 0.0) + 1e-3
    if not mask.any():
        return np.asarray(outside, dtype=np.float32)
    inside = np.maximum(distance_to(~mask, spacing_mm, limit_mm) - half, 1e-3)
    return np.asarray(np.where(mask, -inside, outside), dtype=np.float32)


def closed(mask: Mask, radius: float) -> Mask:
    """Morphological closing with a ball of ``radius`` voxels.

    The mask is continued beyond the grid's border, which therefore neither grows nor erodes it.
    """
    n = int(np.ceil(radius)) + 1
    padded = np.pad(mask, n, mode="edge")
    grown = distance_to(padded, 1.0, radius + 1.0) <= radius
    back = distance_to(~grown, 1.0, radius + 1.0) > radius
    return np.asarray(back[n:-n, n:-n, n:-n] | mask)
