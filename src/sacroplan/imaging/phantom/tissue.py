"""CT numbers of the synthetic patient: soft tissue, discs, bones, tumour, blur and noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.imaging.phantom import _kernels, _tissue_kernels, reference
from sacroplan.imaging.phantom.fields import NAMES, Bone
from sacroplan.imaging.phantom.parameters import PhantomParameters
from sacroplan.imaging.phantom.pose import BoneMap, Pose, endplate
from sacroplan.imaging.phantom.shapes import sheets
from sacroplan.progress import Progress

COARSE_MM, FINE_MM = 1.6, 0.6
"""Voxel size of the periodic noise blocks: organs' grain and trabeculae."""

NOISE_CELLS = 128
"""Cells per axis of a noise block; a power of two so that it repeats by masking."""

CT_FLOOR_HU = -1024
"""Scanners write nothing below this."""

# z from the S1 endplate, half-width, front and back skin, fat at the side, in front and behind; mm,
# relative to the S1 endplate's centre, average woman.
_OUTLINE = np.array(
    [
        [-190.0, 168.0, -98.0, 102.0, 22.0, 15.0, 26.0],
        [-150.0, 174.0, -104.0, 114.0, 24.0, 17.0, 30.0],
        [-100.0, 178.0, -112.0, 126.0, 27.0, 20.0, 32.0],
        [-45.0, 172.0, -122.0, 124.0, 26.0, 24.0, 27.0],
        [5.0, 163.0, -128.0, 104.0, 23.0, 24.0, 22.0],
        [50.0, 158.0, -128.0, 90.0, 22.0, 22.0, 18.0],
        [110.0, 152.0, -124.0, 84.0, 20.0, 20.0, 16.0],
    ]
)
_CAVITIES = np.array([[0.0, -46.0, 45.0, 112.0, 66.0, 130.0], [0.0, 10.0, -78.0, 52.0, 52.0, 62.0]])
_ORGANS = np.array(
    [[0.0, -45.0, -92.0, 36.0, 26.0, 25.0, 8.0], [3.0, 42.0, -88.0, 14.0, 14.0, 46.0, 32.0]]
)
_UTERUS = np.array([[-4.0, -5.0, -72.0, 24.0, 27.0, 21.0, 62.0]])
_PSOAS = np.array(
    [
        [34.0, 0.0, 115.0, 46.0, -14.0, 20.0, 15.0, 19.0],
        [46.0, -14.0, 20.0, 66.0, -42.0, -50.0, 19.0, 18.0],
        [66.0, -42.0, -50.0, 82.0, -44.0, -100.0, 18.0, 14.0],
    ]
)
_BACK = np.array(
    [
        [30.0, 58.0, 120.0, 27.0, 62.0, 20.0, 22.0, 21.0],
        [27.0, 62.0, 20.0, 18.0, 78.0, -50.0, 21.0, 9.0],
    ]
)


def skin_front_mm(pose: Pose) -> float:
    """Most anterior y of the skin (LPS mm)."""
    return float(
        endplate(pose.sacrum)["S1EP"][1] + _OUTLINE[:, 2].min() * pose.sacrum.mean_scale / 0.93
    )


def _level(name: str) -> float:
    return evidence.value("SP-PHANTOM-05", name)


def _both_sides(rows: FloatArray, columns: tuple[int, ...]) -> FloatArray:
    mirrored = rows.copy()
    mirrored[:, columns] *= -1.0
    return np.concatenate([rows, mirrored])


def paint(
    geometry: VolumeGeometry,
    bones: dict[str, Bone],
    pose: Pose,
    parameters: PhantomParameters,
    progress: Progress,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """CT numbers (int16) and truth labels (uint8) on ``geometry``."""
    from scipy.ndimage import gaussian_filter1d

    rng = np.random.default_rng([parameters.seed, 20])
    coarse = _tissue_kernels.periodic_noise(rng, NOISE_CELLS, 3.0)
    fine = _tissue_kernels.periodic_noise(rng, NOISE_CELLS, 1.1)
    spacing = geometry.spacing_mm

    near = np.full(geometry.shape, _kernels.FAR, dtype=np.float32)
    for bone in bones.values():
        _tissue_kernels.keep_nearest(near[bone.slices], bone.field)
    hu = np.empty(geometry.shape, dtype=np.float32)
    _soft(hu, near, geometry, pose, parameters, coarse)
    del near
    progress(0.6, "soft tissue")

    _discs(hu, geometry, pose)
    label = np.zeros(geometry.shape, dtype=np.uint8)
    for number, name in ((k, v) for k, v in NAMES.items() if v in bones):
        bone = bones[name]
        kind = name.split("_")[0] if "_" in name else ("sacrum" if name == "sacrum" else "vertebra")
        shell = evidence.value("SP-PHANTOM-04", "femur_head" if kind == "femur" else kind)
        ends = np.zeros(3)
        if kind == "femur":
            centre = (pose.hip_left if name.endswith("left") else pose.hip_right).to_world(
                reference.array("hip", "HJC")
            )
            shaft = evidence.value("SP-PHANTOM-04", "femur_shaft")
            ends = np.array([centre[2] - 25.0, centre[2] - 85.0, shaft])
        _tissue_kernels.paint_bone(
            hu[bone.slices], label[bone.slices], bone.field, geometry.to_world(bone.start), spacing,
            number, shell, ends, _level("cortical"), _level(f"cancellous_{kind}"), fine, coarse,
            FINE_MM, COARSE_MM, _level("texture"),
        )  # fmt: skip
    progress(0.7, "bones painted")
    if parameters.tumour_level is not None:
        _tumour(hu, label, geometry, pose, parameters, coarse)
    sigma = evidence.value("SP-PHANTOM-06", "blur_sigma")
    for axis in range(3):
        gaussian_filter1d(hu, sigma / spacing[axis], axis=axis, output=hu, mode="nearest")
    progress(0.85, "blur")
    noise = rng.standard_normal(geometry.shape, dtype=np.float32)
    for axis in range(2):
        gaussian_filter1d(noise, 0.6, axis=axis, output=noise, mode="wrap")
    # The correlated noise of a reconstruction: its variance is restored after the filter.
    _tissue_kernels.add_noise(hu, noise, _level("noise") / float(noise[::4, ::4, ::4].std()))
    np.rint(hu, out=hu)
    np.clip(hu, CT_FLOOR_HU, 3071, out=hu)
    return hu.astype(np.int16), label


def _soft(
    hu: npt.NDArray[np.float32],
    near: npt.NDArray[np.float32],
    geometry: VolumeGeometry,
    pose: Pose,
    parameters: PhantomParameters,
    coarse: npt.NDArray[np.float32],
) -> None:
    at = endplate(pose.sacrum)["S1EP"]
    # The tables are drawn for the average woman, whose mean scale is this.
    g = pose.sacrum.mean_scale / 0.926
    outline = g * _OUTLINE
    outline[:, 0] += at[2]
    outline[:, 2:4] += at[1]
    centre = np.array([0.0, at[1], at[2]])

    def placed(rows: FloatArray, points: int, ends: int) -> FloatArray:
        out = g * rows
        for p in range(points):
            out[:, 3 * p : 3 * p + 3] += centre
        if ends:
            out[:, -ends:] = rows[:, -ends:]
        return out

    organs = np.concatenate([_ORGANS, _UTERUS]) if parameters.sex == "female" else _ORGANS
    level = np.array([_level(n) for n in ("air", "fat", "muscle", "skin", "bowel", "table")])
    _tissue_kernels.paint_soft(
        hu, near, geometry.origin, geometry.spacing_mm, outline, placed(_CAVITIES, 1, 0),
        placed(organs, 1, 1), placed(_both_sides(_PSOAS, (0, 3)), 2, 0),
        placed(_both_sides(_BACK, (0, 3)), 2, 0), coarse, COARSE_MM,
        float(outline[:, 3].max()) + 4.0, at[1] - 25.0 * g, at[2] - 50.0 * g, level,
    )  # fmt: skip


def _discs(hu: npt.NDArray[np.float32], geometry: VolumeGeometry, pose: Pose) -> None:
    """The discs L3-L4 (lower half), L4-L5 and L5-S1."""
    s1, l5, l4 = (
        reference.array("sacrum", "S1_corners"),
        reference.array("L5", "corners"),
        reference.array("L4", "corners"),
    )

    def line(map_: BoneMap, c: FloatArray) -> FloatArray:
        return map_.to_world(np.array([[0.0, c[0], c[1]], [0.0, c[2], c[3]]]))

    plates = [
        (line(pose.l5, l5[4:]), line(pose.sacrum, s1[:4]), "L5"),
        (line(pose.l4, l4[4:]), line(pose.l5, l5[:4]), "L4"),
        (line(pose.l4, l4[:4]) + [0.0, 0.0, 11.0], line(pose.l4, l4[:4]), "L4"),
    ]
    for upper, lower, name in plates:
        mid = 0.5 * (upper + lower)
        forward = mid[0] - mid[1]
        depth = float(np.linalg.norm(forward))
        axis = np.array([0.0, forward[2], -forward[1]]) / depth
        half = 0.5 * float(np.abs((upper - lower) @ axis).max()) + 3.0
        width = reference.array(name, "body")[0] * pose.l5.scale[0]
        seat = np.array([*mid.mean(axis=0), *axis, width, 0.5 * depth, half])
        reach = np.array([width, 0.5 * depth + half, 0.5 * depth + half]) + 4.0
        low = np.maximum(np.floor(geometry.to_index(seat[:3] - reach)), 0).astype(int)
        high = np.minimum(np.ceil(geometry.to_index(seat[:3] + reach)), geometry.shape).astype(int)
        part = hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        _tissue_kernels.paint_disc(
            part, geometry.to_world(low), geometry.spacing_mm, seat, _level("disc")
        )


def _tumour(
    hu: npt.NDArray[np.float32],
    label: npt.NDArray[np.uint8],
    geometry: VolumeGeometry,
    pose: Pose,
    parameters: PhantomParameters,
    coarse: npt.NDArray[np.float32],
) -> None:
    """A lytic mass in the body of the chosen level, with a soft part in front of the sacrum."""
    axes = sheets()["sacrum"].axes
    centre = reference.array("sacrum", str(parameters.tumour_level))
    d = parameters.tumour_diameter_mm
    # A little off the midline: chordomas are seldom symmetric, and mirrored code is found out.
    aside = 0.06 * d * np.sign(parameters.asymmetry)
    scale = pose.sacrum.mean_scale
    places = np.array([[aside, 0.0, 0.0], [1.6 * aside, -0.08 * d, -0.52 * d]]) / scale + centre
    world = pose.sacrum.to_world(places @ axes)
    balls = np.column_stack([world, [0.5 * d, 0.40 * d]])
    reach = 0.6 * d + 8.0
    low = np.maximum(np.floor(geometry.to_index(world.min(0) - reach)), 0).astype(int)
    high = np.minimum(np.ceil(geometry.to_index(world.max(0) + reach)), geometry.shape).astype(int)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    numbers = {v: k for k, v in NAMES.items()}
    _tissue_kernels.paint_tumour(
        hu[part], label[part], geometry.to_world(low), geometry.spacing_mm, balls, coarse, COARSE_MM,
        _level("tumour"), numbers["sacrum"], numbers["tumour"],
    )  # fmt: skip
