"""A CT simulated from bone surfaces, with its truth, and ways to make an image worse.

Real bone shapes with a known outline are what an automatic segmentation must be measured on: the
surfaces are voxelised with partial volume, given a cortex and trabeculae, wrapped in soft tissue,
blurred, darkened by a light beam hardening and covered with noise. Surfaces of whole pelves often
overlap at the joints; a gap is carved there first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import ImagingError
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

NEAR_MM = 45.0
"""Distances to bones are kept up to here: the thickness of the muscles painted around them."""


EXACT_MM = 6.0
"""Distances to bones are exact to here: cortex, joint gaps and discs are painted by them."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated CT (int16 HU) and the labels it was painted from, on one grid."""

    volume: Volume
    labels: LabelMap


def simulate(
    bones: Mapping[str, Surface],
    ids: Mapping[str, int],
    geometry: VolumeGeometry,
    gap_mm: tuple[float, float] = (0.5, 2.0),
    seed: int = 1,
) -> Simulated:
    """A CT of ``bones`` (closed surfaces by name, LPS mm) on ``geometry``.

    Parameters
    ----------
    ids : label id of every bone.
    gap_mm : narrowest and widest joint gap carved where two bones come nearer than that.
    seed : texture, gap widths and noise.

    Raises
    ------
    ImagingError
        When a bone has no id, or none lies in the image.

    Source: HU and blur of the synthetic patient (SP-PHANTOM-04 to -06), SP-SIM-01.
    """
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    from sacroplan.imaging.phantom import _tissue_kernels as paint

    unknown = sorted(set(bones) - set(ids))
    if unknown:
        raise ImagingError(f"The bones {', '.join(unknown)} have no label id.")
    rng = np.random.default_rng([seed, 77])
    coarse = paint.periodic_noise(rng, 128, 3.0)
    fine = paint.periodic_noise(rng, 128, 1.1)
    found = {name: _box(surface, geometry) for name, surface in bones.items()}
    boxes = {name: box for name, box in found.items() if box is not None}
    if not boxes:
        raise ImagingError("None of the bones lies inside the image to be simulated.")
    fields = {name: _distance(bones[name], geometry, boxes[name]) for name in sorted(boxes)}
    _carve(fields, boxes, geometry, gap_mm, rng)

    near = np.full(geometry.shape, np.float32(NEAR_MM))
    second = np.full(geometry.shape, np.float32(NEAR_MM))
    for name, field in fields.items():
        part, other = near[boxes[name]], second[boxes[name]]
        if name == "sacrum" or name.startswith("L"):
            other[...] = np.minimum(other, np.maximum(part, field))
        part[...] = np.minimum(part, field)
    hu = _soft_tissue(geometry, near, second, coarse)
    label = np.zeros(geometry.shape, dtype=np.uint8)
    for name, field in fields.items():
        kind = name.split("_")[0] if name.startswith(("hip", "femur")) else name
        kind = "vertebra" if kind.startswith("L") else kind
        shell = evidence.value("SP-PHANTOM-04", "femur_head" if kind == "femur" else kind)
        box = boxes[name]
        start = geometry.to_world(np.array([s.start for s in box], dtype=np.float64))
        paint.paint_bone(
            hu[box], label[box], field, start, geometry.spacing_mm, ids[name], shell, np.zeros(3),
            evidence.value("SP-PHANTOM-05", "cortical"),
            evidence.value("SP-PHANTOM-05", f"cancellous_{kind}"), fine, coarse, 0.6, 1.6,
            evidence.value("SP-PHANTOM-05", "texture"),
        )  # fmt: skip
    # Beam hardening: rays that cross much bone read low in between.
    bone = np.maximum(hu - 200.0, 0.0)
    sigma = evidence.value("SP-SIM-01", "hardening_reach") / geometry.spacing_mm
    for axis in range(2):
        bone = gaussian_filter1d(bone, sigma[axis], axis=axis)
    hu -= np.float32(evidence.value("SP-SIM-01", "hardening")) * bone
    hu = gaussian_filter(hu, evidence.value("SP-PHANTOM-06", "blur_sigma") / geometry.spacing_mm)
    image = _noisy(hu, evidence.value("SP-PHANTOM-05", "noise"), rng)
    names = {ids[name]: name for name in fields}
    return Simulated(Volume(geometry, image), LabelMap(geometry, label, names))


def with_noise(volume: Volume, sigma_hu: float, seed: int) -> Volume:
    """``volume`` with further noise of ``sigma_hu``, correlated in the slice as reconstructions do."""
    rng = np.random.default_rng([seed, 78])
    return Volume(volume.geometry, _noisy(volume.data.astype(np.float32), sigma_hu, rng))


def with_osteoporosis(volume: Volume, labels: LabelMap, depth_mm: float, level_hu: float) -> Volume:
    """``volume`` with the marrow deeper than ``depth_mm`` under each bone's surface made fatty.

    Half of the contrast of the trabeculae stays, about a mean of ``level_hu``.
    """
    hu = volume.data.astype(np.float32)
    for name in labels.names.values():
        mask = labels.mask(name) if name != "tumour" else None
        if mask is None or not mask.any():
            continue
        box = _bounds(mask)
        inner = distance_to(~mask[box], volume.geometry.spacing_mm, depth_mm + 2.0) > depth_mm
        view = hu[box]
        mean = float(view[inner].mean()) if inner.any() else 0.0
        view[inner] = level_hu + 0.5 * (view[inner] - mean)
    return Volume(volume.geometry, np.rint(hu).astype(np.int16))


def with_bridge(
    volume: Volume, labels: LabelMap, a: str, b: str, share: float, reach_mm: float = 4.0
) -> Volume:
    """``volume`` with a bony bridge over the upper ``share`` of the joint between two bones."""
    from scipy.ndimage import gaussian_filter

    spacing = volume.geometry.spacing_mm
    first, second = labels.mask(a), labels.mask(b)
    box = _bounds(first | second)
    near = (distance_to(first[box], spacing, reach_mm + 1.0) <= reach_mm) & (
        distance_to(second[box], spacing, reach_mm + 1.0) <= reach_mm
    )
    gap = near & ~first[box] & ~second[box]
    if not gap.any():
        raise ImagingError(f"{a} and {b} do not meet; there is no joint to bridge.")
    heights = np.sort(np.argwhere(gap)[:, 2])
    floor = heights[int((1.0 - share) * (len(heights) - 1))]
    gap[:, :, :floor] = False
    hu = volume.data.astype(np.float32)
    view = hu[box]
    weight = np.clip(gaussian_filter(gap.astype(np.float32), 0.6), 0.0, 1.0)
    view += weight * np.maximum(np.float32(evidence.value("SP-SIM-01", "bridge")) - view, 0.0)
    return Volume(volume.geometry, np.rint(hu).astype(np.int16))


def in_slices_of(volume: Volume, labels: LabelMap, thickness_mm: float) -> Simulated:
    """The same patient in contiguous slices of ``thickness_mm``: averaged along k, labels by majority."""
    old = volume.geometry
    ratio = thickness_mm / float(old.spacing_mm[2])
    count = int(np.floor((old.shape[2] - 1) / ratio))
    edges = np.arange(count + 1) * ratio
    # The running integral gives exact averages over slabs of any thickness.
    total = np.concatenate(
        [
            np.zeros((*old.shape[:2], 1), np.float32),
            np.cumsum(volume.data, axis=2, dtype=np.float32),
        ],
        axis=2,
    )

    def at(x: npt.NDArray[Any]) -> Float32:
        whole = np.floor(x).astype(int)
        part = (x - whole).astype(np.float32)
        upper = np.minimum(whole + 1, old.shape[2])
        return np.asarray(total[:, :, whole] * (1.0 - part) + total[:, :, upper] * part)

    mean = np.subtract(at(edges[1:]), at(edges[:-1])) / np.float32(ratio)
    middle = 0.5 * (edges[1:] + edges[:-1]) - 0.5
    label = labels.data[:, :, np.clip(np.rint(middle).astype(int), 0, old.shape[2] - 1)]
    spacing = old.spacing_mm.copy()
    spacing[2] = thickness_mm
    geometry = replace(
        old,
        shape=(old.shape[0], old.shape[1], count),
        spacing_mm=spacing,
        origin=old.to_world(np.array([0.0, 0.0, middle[0]])),
    )
    image = Volume(geometry, np.rint(mean).astype(np.int16))
    return Simulated(image, LabelMap(geometry, np.ascontiguousarray(label), dict(labels.names)))


def _box(
    surface: Surface, geometry: VolumeGeometry, reach_mm: float = NEAR_MM
) -> tuple[slice, slice, slice] | None:
    """Voxels within ``reach_mm`` of a surface; None where the image shows nothing of the bone."""
    index = geometry.to_index(surface.vertices)
    shape = np.array(geometry.shape)
    if np.any(index.max(axis=0) < 0.0) or np.any(index.min(axis=0) > shape - 1.0):
        return None
    reach = reach_mm / geometry.spacing_mm
    low = np.clip(np.floor(index.min(axis=0) - reach), 0, shape - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + reach) + 1, 1, shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _bounds(mask: Mask, margin: int = 6) -> tuple[slice, slice, slice]:
    from scipy.ndimage import find_objects

    found = find_objects(mask.astype(np.uint8))[0]
    i, j, k = (
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n in zip(found, mask.shape, strict=True)
    )
    return i, j, k


def _distance(
    surface: Surface, geometry: VolumeGeometry, box: tuple[slice, slice, slice]
) -> Float32:
    """Signed distance (mm) to a surface on the voxels of a box, up to :data:`NEAR_MM`.

    Exact near the surface, to a voxel beyond :data:`EXACT_MM`, where only muscles are painted by it.
    """
    from scipy.ndimage import affine_transform

    from sacroplan.geometry.fields import distance_field

    tight = _box(surface, geometry, EXACT_MM)
    assert tight is not None  # the wider box was found
    part = geometry.cropped(np.array([s.start for s in tight]), np.array([s.stop for s in tight]))
    h = float(part.spacing_mm.min())
    count = np.ceil(part.extent_mm / h).astype(int) + 1
    shape = (int(count[0]), int(count[1]), int(count[2]))
    fine = replace(part, shape=shape, spacing_mm=np.full(3, h))
    values = distance_field(surface, fine).values
    exact = affine_transform(
        values, part.spacing_mm / h, output_shape=part.shape, order=1, mode="nearest"
    )
    inside = np.zeros(tuple(s.stop - s.start for s in box), dtype=bool)
    where = _relative(list(tight), box)
    inside[where] = exact < 0.0
    out = distance_to(inside, geometry.spacing_mm, NEAR_MM)
    out[where] = exact
    return out


def _carve(
    fields: dict[str, Float32],
    boxes: Mapping[str, tuple[slice, slice, slice]],
    geometry: VolumeGeometry,
    gap_mm: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    """Open every joint to a gap between the two widths, in place; wide ones stay as they are."""
    from scipy.ndimage import zoom

    low, high = gap_mm
    for a, b in combinations(sorted(fields), 2):
        common = [
            slice(max(p.start, q.start), min(p.stop, q.stop))
            for p, q in zip(boxes[a], boxes[b], strict=True)
        ]
        if any(s.stop - s.start < 2 for s in common):
            continue
        one = fields[a][_relative(common, boxes[a])]
        two = fields[b][_relative(common, boxes[b])]
        if float((one + two).min()) > high:
            continue
        coarse = rng.random((5, 5, 5))
        width = zoom(coarse, np.array(one.shape) / 5.0, order=1, grid_mode=True, mode="nearest")
        width = (low + (high - low) * width).astype(np.float32)
        # Each bone ends half a gap before the surface that is as far from one as from the other.
        middle = 0.5 * (one - two)
        first = np.maximum(one, middle + 0.5 * width)
        two[...] = np.maximum(two, -middle + 0.5 * width)
        one[...] = first


def _relative(common: list[slice], box: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
    i, j, k = (slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, box, strict=True))
    return i, j, k


def _soft_tissue(
    geometry: VolumeGeometry, near: Float32, second: Float32, coarse: Float32
) -> Float32:
    """Skin, fat, muscle in layers, discs, a table, air (HU): an ellipse around the bones."""
    level = {n: evidence.value("SP-PHANTOM-05", n)
             for n in ("air", "fat", "muscle", "skin", "disc", "table")}  # fmt: skip
    where = np.argwhere(near < 0.0)
    low, high = where.min(axis=0), where.max(axis=0)
    centre = 0.5 * (low + high)
    room = np.array([evidence.value("SP-SIM-01", n) for n in ("side", "front_back")])
    radius = 0.5 * (high - low)[:2] + room / geometry.spacing_mm[:2]
    i, j, k = np.ogrid[tuple(slice(0, n) for n in geometry.shape)]
    r = (np.abs((i - centre[0]) / radius[0]) ** 2.5
         + np.abs((j - centre[1]) / radius[1]) ** 2.5) ** 0.4  # fmt: skip
    depth = ((1.0 - r) * radius.min() * geometry.spacing_mm[0]).astype(np.float32)
    n = coarse.shape[0] - 1
    step = (geometry.spacing_mm / 1.6).astype(np.float32)
    grain = coarse[
        (i * step[0]).astype(int) & n, (j * step[1]).astype(int) & n, (k * step[2]).astype(int) & n
    ]
    flesh = np.float32(level["muscle"]) + 5.0 * grain
    fat = np.float32(level["fat"]) + 9.0 * grain
    # Muscles within reach of the bones, with fat planes between their layers; fat elsewhere.
    muscle = (near + 2.5 * grain < 30.0) & (np.abs(near + 1.5 * grain - 16.0) > 1.0)
    hu = np.where(muscle & (depth > 18.0), flesh, fat)
    hu = np.where((near > 0.0) & (second < evidence.value("SP-SIM-01", "disc_reach")),
                  np.float32(level["disc"]) + 5.0 * grain, hu)  # fmt: skip
    hu = np.where(depth < 2.0, np.float32(level["skin"]), hu)
    hu = np.where(depth < 0.0, np.float32(level["air"]), hu)
    below = (j - centre[1] - radius[1]) * geometry.spacing_mm[1]
    shell = ((below > 6.0) & (below < 8.5)) | ((below > 38.0) & (below < 40.5))
    wide = np.abs(i - centre[0]) * geometry.spacing_mm[0] < 190.0
    hu = np.where(shell & wide, np.float32(level["table"]), hu)
    return np.ascontiguousarray(hu, dtype=np.float32)


def _noisy(hu: Float32, sigma_hu: float, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Rounded HU with noise of ``sigma_hu``, correlated within the slice."""
    from scipy.ndimage import gaussian_filter1d

    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    for axis in range(2):
        gaussian_filter1d(noise, 0.6, axis=axis, output=noise, mode="wrap")
    noise *= np.float32(sigma_hu / float(noise[::4, ::4, ::4].std()))
    return np.asarray(np.clip(np.rint(hu + noise), -1024, 3071), dtype=np.int16)
