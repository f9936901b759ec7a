"""Seeds: voxels whose bone is certain from where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan import evidence
from sacroplan.anatomy.segmentation.grid import Working, fill_sealed
from sacroplan.anatomy.segmentation.hips import SIDES, Head, femoral_head, lateral_bone
from sacroplan.anatomy.segmentation.spine import Canal, Disc, find_canal, find_discs, midline_mm
from sacroplan.errors import AnatomyError
from sacroplan.geometry.frames import FloatArray

Mask = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]

SACRUM, HIP_RIGHT, HIP_LEFT, FEMUR_RIGHT, FEMUR_LEFT = 1, 2, 3, 9, 10
HIPS = (HIP_RIGHT, HIP_LEFT)
UNIT = 100
"""Seeds of the spine's unit n (between disc n-1 and disc n, counted from above) are UNIT + n."""

DISC_CLEARANCE_MM = 6.0
"""Half a disc and its end plate: nearer to a disc's plane than this nothing is certain."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What the coarse image shows, in grid millimetres.

    ``near`` is the bone connected with the pelvis and ``wings`` the lateral bone (right, left), on
    the coarse grid; ``heads`` are None where the image shows none.
    """

    middle_mm: float
    canal: Canal
    discs: tuple[Disc, ...]
    near: Mask
    wings: tuple[Mask, Mask]
    heads: tuple[Head | None, Head | None]


def survey(coarse: Working) -> Anatomy:
    """Midline, canal, discs, iliac wings and femoral heads on the coarse image (about 2 mm).

    Raises :class:`AnatomyError` where there is no spine with a bone on either side of it that could
    be a pelvis.
    """
    hu, spacing = coarse.hu, coarse.spacing_mm
    bone = hu > evidence.value("HU-02", "spongy_lower")
    if not bone.any():
        raise AnatomyError(
            "The image shows no bone: nothing is above the level of spongy bone. "
            "Check that the grey levels are Hounsfield units, and that this is a pelvic CT."
        )
    solid = fill_sealed(ndimage.binary_closing(bone), votes=2)
    middle = midline_mm(solid, spacing)
    canal = find_canal(ndimage.gaussian_filter(hu, 0.3), spacing, middle)
    shortest = evidence.value("SP-SEG-02", "shortest")
    if canal is None or len(canal.points) < shortest:
        found = "none" if canal is None else f"{len(canal.points)} mm"
        raise AnatomyError(
            f"No sacrum found: the image shows {found} of a spinal canal near its midline, "
            f"at least {shortest:.0f} mm were expected. "
            "Give a CT that covers the lower lumbar spine and the whole sacrum."
        )
    discs = find_discs(hu, spacing, canal)
    joined = ndimage.binary_dilation(bone, ndimage.generate_binary_structure(3, 1))
    pieces, _ = ndimage.label(joined)
    column = np.rint((canal.points + 10.0 * canal.front) / spacing).astype(int)
    column = column[np.all((column >= 0) & (column < bone.shape), axis=1)]
    ids = pieces[tuple(column.T)]
    counts = np.bincount(ids[ids > 0], minlength=2)
    near = np.asarray(pieces == counts.argmax()) if counts.any() else np.zeros_like(bone)
    ceiling = canal.points[0, 2] - 40.0
    right, left = (lateral_bone(bone, near, spacing, middle, sign) for _, sign in SIDES)
    least = evidence.value("SP-SEG-04", "least_volume")
    for (side, _), wing in zip(SIDES, (right, left), strict=True):
        volume = float(np.count_nonzero(wing)) * float(np.prod(spacing)) / 1000.0
        if volume < least:
            raise AnatomyError(
                f"No pelvis found: beside the spine on the {side} there are {volume:.0f} cm3 of "
                f"connected bone, an iliac wing has at least {least:.0f} cm3. "
                "Give a CT that shows the sacrum and both iliac wings."
            )
    share = evidence.value("SP-SEG-05", "joint_share")
    heads = []
    for _, sign in SIDES:
        head = femoral_head(hu, spacing, middle, sign, ceiling)
        heads.append(head if head is not None and head.joint_share >= share else None)
    return Anatomy(middle, canal, tuple(discs), near, (right, left), (heads[0], heads[1]))


def spine_points(anatomy: Anatomy, unit: int) -> FloatArray:
    """Points (n, 3) certain to lie in one unit of the spine, grid mm.

    They fill the vertebral body between its two discs; below the last disc only the first sacral
    body's length, and a thinner strand along the sacral canal.
    """
    canal, discs = anatomy.canal, anatomy.discs
    upper = discs[unit - 1] if unit > 0 else None
    lower = discs[unit] if unit < len(discs) else None
    u = np.arange(-14.0, 14.5, 1.0)
    v = np.arange(8.0, 24.5, 1.0)
    p = _canal_block(canal, u, v)
    ok = np.ones(p.shape[:3], dtype=bool)
    if upper is not None:
        ok &= (p - upper.centre) @ upper.up < -DISC_CLEARANCE_MM
        ok[: max(0, upper.station - 10)] = False
    if lower is not None:
        ok &= (p - lower.centre) @ lower.up > DISC_CLEARANCE_MM
        ok[lower.station + 10 :] = False
    elif upper is not None:
        tail = upper.station + 25
        ok[tail:, :, v > 12.0] = False
        ok[tail:, np.abs(u) > 6.0] = False
    points = [p[ok]]
    if lower is not None:
        points.append(_pars_points(canal, lower, upper))
    return np.concatenate(points)


def _pars_points(canal: Canal, lower: Disc, upper: Disc | None) -> FloatArray:
    """Points (n, 3) beside the canal at half height: pedicles and pars of one vertebra.

    There the processes from above and from below do not reach.
    """
    row = "SP-SEG-09"
    distance = evidence.value(row, "pars_distance")
    if upper is not None:
        distance = float(np.linalg.norm(upper.centre - lower.centre))
    block = _canal_block(canal, np.arange(-22.0, 22.5, 1.0), np.arange(-12.0, 6.5, 1.0))
    w = (block - lower.centre) @ lower.up / distance
    low, high = evidence.span(row, "pars_height")
    ok = (w > low) & (w < high)
    # Between its own discs only: a steep disc's plane runs under the arches far above it.
    ok[lower.station :] = False
    if upper is not None:
        ok[: upper.station] = False
        # The slab of a wedged vertebra rises backwards, up to the facets of the vertebra above.
        ok &= (upper.centre - block) @ upper.up > evidence.value(row, "pars_below")
    return np.asarray(block[ok])


def sacral_points(anatomy: Anatomy, disc: int) -> FloatArray:
    """Further points (n, 3) in the sacrum, once the lumbosacral disc is known, grid mm.

    The roots of the alae beside the first sacral body, and the median crest behind the canal.
    """
    canal, upper = anatomy.canal, anatomy.discs[disc]
    height = evidence.value("SP-SEG-09", "ala_below")
    depth = evidence.value("SP-SEG-09", "ala_depth")
    half = evidence.value("SP-SEG-09", "ala_half_width")
    u = np.arange(-half, half + 0.5, 1.0)
    v = np.arange(4.0, 19.0, 1.0)
    ala = _canal_block(canal, u, v)
    w = (ala - upper.centre) @ upper.up
    ok = (w < -height) & (w > -height - depth)
    # The joint runs backwards and inwards: beside the canal the ala ends earlier.
    ok &= np.abs(u)[:, None] <= half - np.maximum(10.0 - v, 0.0)
    ok[: max(0, upper.station - 10)] = False
    ok[upper.station + 40 :] = False
    crest = _canal_block(canal, np.arange(-12.0, 12.5, 1.0), np.arange(-22.0, -5.5, 1.0))
    behind = np.ones(crest.shape[:3], dtype=bool)
    # Along the canal, not below the disc's plane: that plane runs under the arch of L5.
    behind[: upper.station + round(evidence.value("SP-SEG-09", "crest_below"))] = False
    return np.concatenate([ala[ok], crest[behind]])


def _canal_block(canal: Canal, u: FloatArray, v: FloatArray) -> FloatArray:
    """Points (n, len(u), len(v), 3): u to the left of the canal, v in front of it."""
    return np.asarray(
        canal.points[:, None, None]
        + u[None, :, None, None] * canal.left[:, None, None]
        + v[None, None, :, None] * canal.front[:, None, None]
    )


def place(anatomy: Anatomy, coarse: Working, fine: Working, mask: Mask) -> Int32:
    """Seed labels on the fine grid, inside ``mask``.

    Hip bones: lateral bone above the femoral heads, and bone medial to the heads below their
    centre (ischium, pubis). Femora: a ball in the head, and bone lateral to it.
    """
    seeds = np.zeros(fine.hu.shape, dtype=np.int32)
    near = _to_fine(anatomy.near, coarse, fine)
    axes = [
        (np.arange(n) * fine.spacing_mm[a] + fine.start_mm[a]).astype(np.float32)
        for a, n in enumerate(fine.hu.shape)
    ]
    i, j, k = np.ix_(*axes)
    femora = (FEMUR_RIGHT, FEMUR_LEFT)
    for n, (_, sign) in enumerate(SIDES):
        wing = _to_fine(anatomy.wings[n], coarse, fine)
        head = anatomy.heads[n]
        lateral = sign * (i - anatomy.middle_mm)
        if head is None:
            seeds[wing] = HIPS[n]
            continue
        reach = head.radius_mm + 8.0
        away = sign * (head.centre[0] - anatomy.middle_mm)
        r2 = sum((x - c) ** 2 for x, c in zip((i, j, k), head.centre, strict=True))
        seeds[wing & (k > head.centre[2] + head.radius_mm) & (r2 > reach**2)] = HIPS[n]
        below = near & (k < head.centre[2])
        ischium = (lateral < away + 5.0) & (j > head.centre[1] + reach)
        seeds[below & (lateral > 18.0) & ((lateral < away - reach) | ischium)] = HIPS[n]
        # The roof of the socket; the femoral neck leaves the head sidewards and down.
        roof = (r2 > reach**2) & (r2 < (reach + 10.0) ** 2)
        seeds[near & roof & (k - head.centre[2] > 0.4 * reach)] = HIPS[n]
        seeds[near & (k < head.centre[2] + 0.5 * head.radius_mm) & (lateral > away + reach)] = (
            femora[n]
        )
        seeds[r2 < (0.7 * head.radius_mm) ** 2] = femora[n]
    for unit in range(len(anatomy.discs) + 1):
        seeds[_indices(spine_points(anatomy, unit), fine)] = UNIT + unit
    seeds[~mask] = 0
    return seeds


def _to_fine(mask: Mask, coarse: Working, fine: Working) -> Mask:
    """A coarse mask on the fine grid, nearest neighbour."""
    index = [
        np.clip(
            np.rint(
                (np.arange(n) * fine.spacing_mm[a] + fine.start_mm[a] - coarse.start_mm[a])
                / coarse.spacing_mm[a]
            ).astype(int),
            0,
            mask.shape[a] - 1,
        )
        for a, n in enumerate(fine.hu.shape)
    ]
    return np.asarray(mask[np.ix_(*index)])


def name_units(
    seeds: Int32, anatomy: Anatomy, fine: Working, mask: Mask, sacral: int, lumbar: Sequence[int]
) -> Int32:
    """Seeds under final ids: units from ``sacral`` on are 1, those above are ``lumbar`` upwards."""
    table = np.arange(UNIT + len(anatomy.discs) + 1, dtype=np.int32)
    for unit in range(len(anatomy.discs) + 1):
        above = sacral - unit
        if above <= 0:
            table[UNIT + unit] = SACRUM
        elif above <= len(lumbar):
            table[UNIT + unit] = lumbar[above - 1]
    named = table[seeds]
    if sacral > 0:
        index = _indices(sacral_points(anatomy, sacral - 1), fine)
        free = (named[index] == 0) & mask[index]
        named[tuple(a[free] for a in index)] = SACRUM
    return np.asarray(named)


def _indices(points: FloatArray, fine: Working) -> tuple[npt.NDArray[np.int64], ...]:
    """Voxels of the fine grid that hold ``points`` (n, 3), those outside left out."""
    index = np.rint((points - fine.start_mm) / fine.spacing_mm).astype(np.int64)
    index = index[np.all((index >= 0) & (index < fine.hu.shape), axis=1)]
    return tuple(index.T)
