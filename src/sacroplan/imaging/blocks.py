"""Coarser copies of an image: means over whole blocks of voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import IntArray
from sacroplan.geometry.volume import VolumeGeometry


def block_steps(geometry: VolumeGeometry, size_mm: float) -> IntArray:
    """(3,) voxels per block, so that a block is at most ``size_mm`` long, at least one voxel."""
    steps = np.floor(size_mm / geometry.spacing_mm + 1e-6).astype(np.int32)
    return np.asarray(np.clip(steps, 1, geometry.shape), dtype=np.int32)


def block_geometry(geometry: VolumeGeometry, steps: IntArray) -> VolumeGeometry:
    """The grid of the block centres; voxels that fill no whole block are left out."""
    n = np.array(geometry.shape) // steps
    return VolumeGeometry(
        (int(n[0]), int(n[1]), int(n[2])),
        geometry.spacing_mm * steps,
        geometry.to_world(0.5 * (steps - 1.0)),
        geometry.direction,
        geometry.frame,
    )


def _blocks(data: npt.NDArray[Any], steps: IntArray) -> npt.NDArray[Any]:
    n = np.array(data.shape) // steps
    kept = data[tuple(slice(0, int(a * s)) for a, s in zip(n, steps, strict=True))]
    return kept.reshape(n[0], steps[0], n[1], steps[1], n[2], steps[2])


def block_mean(data: npt.NDArray[Any], steps: IntArray) -> npt.NDArray[np.float32]:
    """Mean of every block."""
    return np.asarray(_blocks(data, steps).mean(axis=(1, 3, 5), dtype=np.float32))


def block_any(mask: npt.NDArray[np.bool_], steps: IntArray) -> npt.NDArray[np.bool_]:
    """Whether any voxel of the block is marked."""
    return np.asarray(_blocks(mask, steps).any(axis=(1, 3, 5)))
