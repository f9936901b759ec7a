"""The working grids: isotropic, cropped, and the way back to the image's own voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import Volume

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Working:
    """An isotropic image aligned with the axes of the source grid.

    ``hu`` float32 (ni, nj, nk); ``spacing_mm`` (3,) equal entries; ``start_mm`` (3,) position of
    voxel (0, 0, 0) along the source axes, measured from the source's first voxel.
    """

    hu: Float32
    spacing_mm: FloatArray
    start_mm: FloatArray


def resample(
    volume: Volume, spacing_mm: float, start_mm: FloatArray, stop_mm: FloatArray
) -> Working:
    """Isotropic samples of ``volume`` between two corners (mm along the grid axes).

    Coarser than the source: averaged first, so that nothing aliases. Finer: cubic, because linear
    interpolation of thick slices turns oblique plates into stairs.
    """
    source = volume.geometry.spacing_mm
    pad = 4
    low = np.maximum(np.floor(start_mm / source).astype(int) - pad, 0)
    high = np.minimum(np.ceil(stop_mm / source).astype(int) + pad + 1, volume.geometry.shape)
    data = volume.data[low[0] : high[0], low[1] : high[1], low[2] : high[2]].astype(np.float32)
    count = np.floor((stop_mm - start_mm) / spacing_mm + 1e-6).astype(int) + 1
    shape = (int(count[0]), int(count[1]), int(count[2]))
    grid = np.full(3, spacing_mm)
    ratio = spacing_mm / source
    offset = (start_mm - low * source) / source
    if np.allclose(ratio, 1.0, atol=0.01) and np.allclose(offset, np.rint(offset), atol=0.01):
        o = np.rint(offset).astype(int)
        cut = data[o[0] : o[0] + shape[0], o[1] : o[1] + shape[1], o[2] : o[2] + shape[2]]
        if cut.shape == shape:
            return Working(np.ascontiguousarray(cut), grid, start_mm)
    # A Gaussian of 0.4 output voxels passes what the coarser grid can carry.
    sigma = np.where(ratio > 1.2, 0.4 * ratio, 0.0)
    if sigma.any():
        data = ndimage.gaussian_filter(data, sigma)
    order = 3 if np.any(ratio < 0.7) else 1
    hu = ndimage.affine_transform(
        data, ratio, offset, output_shape=shape, order=order, mode="nearest", output=np.float32
    )
    return Working(hu, grid, start_mm)


def to_source(values: Float32, work: Working, volume: Volume) -> Float32:
    """Values on a working grid, linearly interpolated on the source's voxels (0 outside)."""
    source = volume.geometry.spacing_mm
    ratio = source / work.spacing_mm
    offset = -work.start_mm / work.spacing_mm
    return np.asarray(
        ndimage.affine_transform(
            values, ratio, offset, output_shape=volume.geometry.shape, order=1, mode="constant"
        )
    )


def fill_sealed(mask: Mask, votes: int = 2) -> Mask:
    """Fill what is enclosed in at least ``votes`` of axial, sagittal and coronal slices.

    Marrow is enclosed in all three; the spinal canal and the pelvic cavity in one at most. The
    image's first and last slice count as walls, so that cut bones fill too.
    """
    padded = np.pad(mask, ((0, 0), (0, 0), (1, 1)), constant_values=True)
    count = np.zeros(padded.shape, dtype=np.uint8)
    cross = ndimage.generate_binary_structure(2, 1)
    for axis in range(3):
        structure = np.expand_dims(cross, axis)
        if axis == 2:
            count += ndimage.binary_fill_holes(padded, structure)
        else:
            count += ndimage.binary_fill_holes(padded, structure)
    return np.asarray((count >= votes)[:, :, 1:-1] | mask)


def largest_piece(mask: Mask) -> Mask:
    """The largest 6-connected piece."""
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())
