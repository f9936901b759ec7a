"""The solid of all bones together: bright bone and the marrow it surrounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from sacroplan import evidence
from sacroplan.anatomy.segmentation import _kernels
from sacroplan.anatomy.segmentation.grid import Working, largest_piece
from sacroplan.anatomy.segmentation.spine import Canal, Disc
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.frames import FloatArray
from sacroplan.parallel import ALL_CORES

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_CROSS = ndimage.generate_binary_structure(3, 1)


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


def bright_bone(fine: Working, source_mm: FloatArray) -> Mask:
    """Voxels above the level of spongy bone, noise slightly smoothed.

    In voxels (``source_mm``, (3,)) thicker than cortex the level is lower: there the plates that
    enclose the marrow are mixed with it.
    """
    smooth = ndimage.gaussian_filter(fine.hu, 0.5 / float(fine.spacing_mm[0]))
    if float(np.max(source_mm)) > evidence.value("SP-SEG-06", "thick"):
        return np.asarray(smooth > evidence.value("SP-SEG-08", "thick_bright"))
    return np.asarray(smooth > evidence.value("HU-02", "spongy_lower"))


@dataclass(frozen=True, eq=False)
class Hull:
    """``solid``: bright bone and what it surrounds; ``open``: canal and foramina, which are no bone;
    ``marrow``: dark voxels near the canal that the marrow's water reached."""

    solid: Mask
    open: Mask
    marrow: Mask


def solid_bone(
    fine: Working, bright: Mask, canal: Canal, discs: Sequence[Disc], marrow: FloatArray
) -> Hull:
    """Bright voxels with marrow (fine grid), without spinal canal, discs and foramina.

    Osteoporotic and fatty marrow is darker than muscle and its cortex leaks, so neither a threshold
    nor hole filling finds it; being surrounded does. ``marrow`` (n, 3) are points certain to lie in
    vertebral bodies, grid mm: from there the marrow near the canal is told from the foramina.
    """
    h = float(fine.spacing_mm[0])
    closed = ndimage.binary_closing(bright, _CROSS)
    misses = int(evidence.value("SP-SEG-08", "misses"))
    inner = surrounded(bright, ~closed, h, misses)
    outside, filled = waters(fine, inner, bright, canal, marrow)
    empty = outside | disc_space(bright, fine, canal, discs)
    closed = (closed & ~empty) | bright
    solid = closed | ndimage.binary_opening(inner & ~empty, _CROSS)
    solid = np.asarray(ndimage.binary_closing(solid, _CROSS) & ~empty | bright)
    return Hull(solid, outside, filled)


def waters(
    fine: Working, inner: Mask, bright: Mask, canal: Canal, marrow: FloatArray
) -> tuple[Mask, Mask]:
    """Soft voxels near the canal: those of the outside (canal, foramina, recesses), and marrow.

    Two waters rise over the grey levels: one from outside and from the canal's axis, the other from
    the vertebral bodies and the bone beyond the foramina. They meet on the walls between, or, where
    osteoporosis opened a wall, in its gap, so that a leak empties no bone. The outer water passes
    nothing narrower than a vessel.
    """
    row = "SP-SEG-11"
    h = float(fine.spacing_mm[0])
    zone = evidence.value(row, "zone")
    line = np.rint((canal.points - fine.start_mm) / fine.spacing_mm).astype(int)
    low = np.maximum(line.min(axis=0) - int((zone + 6.0) / h), 0)
    high = np.minimum(line.max(axis=0) + int((zone + 6.0) / h) + 1, fine.hu.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    shape = inner[box].shape

    def marked(points: FloatArray) -> Mask:
        out = np.zeros(shape, dtype=bool)
        index = np.rint((points - fine.start_mm) / fine.spacing_mm).astype(int) - low
        index = index[np.all((index >= 0) & (index < shape), axis=1)]
        out[tuple(index.T)] = True
        return out

    axis = marked(canal.points)
    away = distance_to(axis, h, zone + 2.0)
    smooth = ndimage.gaussian_filter(fine.hu[box], evidence.value(row, "blur") / h)
    lowest, highest = evidence.span(row, "level")
    level = np.clip((smooth - lowest) * (255.0 / (highest - lowest)), 0.0, 255.0).astype(np.uint8)
    soft = (smooth < evidence.value(row, "wall")) & ~bright[box]
    narrow = evidence.value(row, "passage") / h
    wide = distance_to(~soft, 1.0, narrow + 1.0) > narrow
    # Unsurrounded specks inside the bone are no outside: only the one large space around it is.
    around = largest_piece(distance_to(inner[box] | bright[box], h, 4.0) > 3.0)
    outside = around | ((away <= evidence.value(row, "core")) & soft)
    # Bodies lie well in front of the canal and pedicles beside it; between them are the recesses.
    ahead = _ahead(canal, marrow)
    clear = evidence.value(row, "clear")
    bodies = marked(marrow[ahead > clear])
    bodies |= marked(marrow[ahead < evidence.value(row, "beside")]) & (away > clear)
    deep = (away > zone) & (distance_to(around, h, 7.0) > 6.0)
    # Bright marrow needs no water, and on a wall it would spill into the foramen beside it.
    bone = (bodies | deep) & soft & inner[box] & ~outside
    marker = np.where(outside, 2, np.where(bone, 1, 0)).astype(np.uint8)
    allowed = (soft * 1 + wide * 2).astype(np.uint8)
    water = _kernels.flood(level, allowed, marker)
    reached = water == 2
    rim = distance_to(reached, 1.0, narrow + 1.0) <= narrow
    free, filled = np.zeros_like(inner), np.zeros_like(inner)
    free[box] = (reached | (rim & (water != 1))) & soft & (away <= zone)
    filled[box] = (water == 1) & soft & (away <= zone)
    return free, surrounded(bright, filled, h, int(evidence.value(row, "misses")))


def sacral_marrow(marrow: Mask, fine: Working, canal: Canal, disc: Disc) -> Mask:
    """Voxels of ``marrow`` below the lumbosacral disc and in front of the canal.

    There is no other bone; behind the canal the arch of L5 hangs down beside the sacrum's.
    """
    index = np.argwhere(marrow)
    points = index * fine.spacing_mm + fine.start_mm
    below = (points - disc.centre) @ disc.up
    ok = (_ahead(canal, points) > 0.0) & (below < -evidence.value("SP-SEG-11", "plate"))
    out = np.zeros_like(marrow)
    out[tuple(index[ok].T)] = True
    return out


def _ahead(canal: Canal, points: FloatArray) -> FloatArray:
    """How far points (n, 3) lie in front of the canal's axis, mm."""
    station = cKDTree(canal.points).query(points, workers=-1)[1]
    ahead = np.einsum("na,na->n", points - canal.points[station], canal.front[station])
    return np.asarray(ahead)


def surrounded(wall: Mask, asked: Mask, spacing_mm: float, misses: int) -> Mask:
    """Voxels of ``asked`` from which at most ``misses`` of 26 rays fail to meet ``wall``."""
    reach = round(evidence.value("SP-SEG-08", "reach") / spacing_mm)
    with ALL_CORES:
        out = _kernels.surrounded(wall.view(np.uint8), asked.view(np.uint8), reach, misses)
    return np.asarray(out.view(np.bool_))
