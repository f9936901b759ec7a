"""From slices as they were acquired to a rectangular, uniform grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.formats.dicom_stack import Stack
from sacroplan.geometry.frames import FloatArray

AIR_HU = -1024
"""What scanners store outside the reconstructed circle; lower padding values are raised to it."""


def rectangular(
    stack: Stack, data: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], FloatArray, FloatArray]:
    """Data (columns, rows, slices) of a stack on a rectangular grid, its (3,) origin and spacing.

    A straight uniform stack is returned as it is. A stack that slides (gantry tilt) is shifted
    slice by slice inside the slices' own planes; only then are uneven slices interpolated along
    the normal.
    """
    base = stack.base_mm.copy()
    spacing = stack.spacing_mm.copy()
    if stack.slides:
        data, low = _shifted(data, stack.offsets_mm[:, :2] / spacing[:2])
        base[:2] = low * spacing[:2]
    if stack.uneven:
        data = _evened(data, stack.offsets_mm[:, 2])
        base[2] = 0.0
        spacing[2] = stack.offsets_mm[-1, 2] / (len(stack.slices) - 1)
    origin = np.array(stack.slices[0].position, dtype=np.float64) + stack.direction @ base
    return data, origin, spacing


def _shifted(
    data: npt.NDArray[Any], shift: FloatArray
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Move slice k by ``shift[k]`` (2,) pixels in its plane, linearly; air fills what is left.

    Returns the data, larger by the total shift, and the (2,) index of its corner.
    """
    n = data.shape[2]
    low = np.floor(shift.min(axis=0)).astype(int)
    high = np.ceil(shift.max(axis=0)).astype(int)
    nx, ny = data.shape[0] + high[0] - low[0], data.shape[1] + high[1] - low[1]
    out = np.full((nx, ny, n), AIR_HU, dtype=data.dtype)
    for k in range(n):
        plane = data[:, :, k].astype(np.float64)
        whole = np.floor(shift[k]).astype(int)
        fraction = shift[k] - whole
        for axis in (0, 1):
            margin = [(1, 1) if a == axis else (0, 0) for a in (0, 1)]
            padded = np.pad(plane, margin, constant_values=AIR_HU)
            before = np.take(padded, np.arange(padded.shape[axis] - 1), axis=axis)
            after = np.take(padded, np.arange(1, padded.shape[axis]), axis=axis)
            # Value at index m of the output is the input at m - fraction.
            plane = fraction[axis] * before + (1 - fraction[axis]) * after
        # One voxel longer than before; the last one exists only for a fractional shift.
        i, j = whole - low
        ni, nj = min(plane.shape[0], nx - i), min(plane.shape[1], ny - j)
        values = np.rint(plane) if out.dtype == np.int16 else plane
        out[i : i + ni, j : j + nj, k] = values[:ni, :nj]
    return out, low


def _evened(data: npt.NDArray[Any], along: FloatArray) -> npt.NDArray[Any]:
    """Slices at ``along`` (n,) mm interpolated linearly onto as many at uniform distances."""
    n = data.shape[2]
    wanted = np.linspace(0.0, along[-1], n)
    below = np.clip(np.searchsorted(along, wanted, side="right") - 1, 0, n - 2)
    weight = (wanted - along[below]) / (along[below + 1] - along[below])
    out = np.empty_like(data)
    for k in range(n):
        lower, upper = data[:, :, below[k]], data[:, :, below[k] + 1]
        values = (1.0 - weight[k]) * lower + weight[k] * upper
        out[:, :, k] = np.rint(values) if out.dtype == np.int16 else values
    return out
