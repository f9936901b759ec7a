"""The solid of all bones together: bright bone and the marrow it surrounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan import evidence
from sacroplan.anatomy.segmentation import _kernels
from sacroplan.anatomy.segmentation.grid import Working
from sacroplan.anatomy.segmentation.spine import Canal, Disc
from sacroplan.geometry.distance import distance_to

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_CROSS = ndimage.generate_binary_structure(3, 1)


def canal_tube(bright: Mask, fine: Working, canal: Canal) -> Mask:
    """Soft voxels reached from the canal's axis within a canal's radius, walls respected.

    The canal is surrounded like marrow and must not be filled with it. Only passages wider than a
    vessel are followed, because the wall between the sacral canal and osteoporotic marrow leaks.
    """
    h = float(fine.spacing_mm[0])
    index = np.rint((canal.points - fine.start_mm) / fine.spacing_mm).astype(int)
    index = index[np.all((index >= 0) & (index < bright.shape), axis=1)]
    radius = round(evidence.value("SP-SEG-08", "canal") / h)
    low = np.maximum(index.min(axis=0) - radius - 4, 0)
    high = index.max(axis=0) + radius + 5
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    content = evidence.value("SP-SEG-02", "content")
    wall = ndimage.gaussian_filter(fine.hu[box], 0.7 / h) > content
    soft = ~ndimage.binary_closing(bright[box] | wall, _CROSS)
    half = evidence.value("SP-SEG-08", "passage") / h
    wide = distance_to(~soft, 1.0, half + 1.0) > half
    start = np.zeros_like(soft)
    start[tuple((index - low).T)] = True
    # The smoothed axis may run along the wall where the canal bends.
    near = distance_to(start, 1.0, half + 2.0 / h) <= half + 1.0 / h
    core = ndimage.binary_dilation(near & wide, _CROSS, iterations=radius, mask=wide)
    tube = (distance_to(core, 1.0, half + 1.0) <= half) & soft if core.any() else core
    out = np.zeros_like(bright)
    out[box] = tube | (start & soft)
    return out


def disc_space(bright: Mask, fine: Working, canal: Canal, discs: Sequence[Disc]) -> Mask:
    """Soft voxels of the discs, grown a disc's half-height from their planes, end plates respected.

    A disc lies between two bright plates as marrow does and must not be filled with it.
    """
    h = float(fine.spacing_mm[0])
    height = round(evidence.value("SP-SEG-08", "disc") / h)
    out = np.zeros_like(bright)
    u, v, w = np.meshgrid(
        np.arange(-20.0, 20.5, 0.5 * h),
        np.arange(-14.0, 14.5, 0.5 * h),
        np.arange(-1.5, 2.0, 0.5 * h),
        indexing="ij",
    )
    for disc in discs:
        left = canal.left[disc.station]
        left = left - (left @ disc.up) * disc.up
        left /= np.linalg.norm(left)
        forward = np.cross(disc.up, left)
        points = (
            disc.centre + u[..., None] * left + v[..., None] * forward + w[..., None] * disc.up
        ).reshape(-1, 3)
        index = np.rint((points - fine.start_mm) / fine.spacing_mm).astype(int)
        index = index[np.all((index >= 0) & (index < bright.shape), axis=1)]
        if not len(index):
            continue
        low = np.maximum(index.min(axis=0) - height - 1, 0)
        high = index.max(axis=0) + height + 2
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        soft = ~ndimage.binary_closing(bright[box], _CROSS)
        start = np.zeros_like(soft)
        start[tuple((index - low).T)] = True
        out[box] |= ndimage.binary_dilation(start & soft, _CROSS, iterations=height, mask=soft)
    return out


def bright_bone(fine: Working) -> Mask:
    """Voxels above the level of spongy bone, noise slightly smoothed."""
    smooth = ndimage.gaussian_filter(fine.hu, 0.5 / float(fine.spacing_mm[0]))
    return np.asarray(smooth > evidence.value("HU-02", "spongy_lower"))


def empty_spaces(fine: Working, canal: Canal, discs: Sequence[Disc]) -> Mask:
    """What bone surrounds without being bone: the spinal canal and the discs."""
    bright = bright_bone(fine)
    return canal_tube(bright, fine, canal) | disc_space(bright, fine, canal, discs)


def solid_bone(fine: Working, canal: Canal, discs: Sequence[Disc]) -> Mask:
    """Bright voxels with marrow (fine grid), without the spinal canal and the discs.

    Osteoporotic and fatty marrow is darker than muscle and its cortex leaks, so neither a threshold
    nor hole filling finds it; being surrounded does.
    """
    h = float(fine.spacing_mm[0])
    bright = bright_bone(fine)
    empty = empty_spaces(fine, canal, discs)
    closed = ndimage.binary_closing(bright, _CROSS)
    misses = int(evidence.value("SP-SEG-08", "misses"))
    inner = surrounded(bright, ~closed & ~empty, h, misses)
    solid = (closed & ~empty) | bright | ndimage.binary_opening(inner, _CROSS)
    return np.asarray(ndimage.binary_closing(solid, _CROSS) & ~empty | bright)


def surrounded(wall: Mask, asked: Mask, spacing_mm: float, misses: int) -> Mask:
    """Voxels of ``asked`` from which at most ``misses`` of 26 rays fail to meet ``wall``."""
    reach = round(evidence.value("SP-SEG-08", "reach") / spacing_mm)
    out = _kernels.surrounded(wall.view(np.uint8), asked.view(np.uint8), reach, misses)
    return np.asarray(out.view(np.bool_))
