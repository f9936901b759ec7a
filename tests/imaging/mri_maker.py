"""MRI of the synthetic patient: other contrast, coil shading, thick slices, another pose."""

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.volume import Volume, VolumeGeometry

GREY = {
    "T1": {
        "air": 2, "fat": 230, "muscle": 95, "cortex": 8, "marrow": 170, "fluid": 45, "tumour": 80,
    },
    "T2": {
        "air": 2, "fat": 60, "muscle": 50, "cortex": 6, "marrow": 45, "fluid": 240, "tumour": 210,
    },
}  # fmt: skip
"""T1: bright fat and marrow. T2 with fat suppressed: bright fluid and tumour, dark marrow."""


def _painted(patient, grey):
    hu = patient.volume.data.astype(np.float32)
    a, f, m, w, c = (grey[n] for n in ("air", "fat", "muscle", "fluid", "cortex"))
    soft = np.interp(
        hu,
        [-1000, -600, -250, -110, -60, -10, 25, 40, 100, 200, 450, 1400],
        [a, a, 0.6 * f, f, f, w, w, m, m, 0.8 * m, 3 * c, c],
    )
    marrow = grey["marrow"]
    bone = np.interp(hu, [100, 350, 600, 1400], [marrow, marrow, 2 * c, c])
    out = np.where(patient.labels.data > 0, bone, soft)
    if "tumour" in patient.labels.names.values():
        out[patient.labels.mask("tumour")] = grey["tumour"]
    return gaussian_filter(out.astype(np.float32), 0.36 / patient.volume.geometry.spacing_mm)


def random_pose(seed, about, turn_deg=15.0, shift_mm=30.0):
    """A rotation about a random axis through ``about`` and a random shift: CT to MRI."""
    rng = np.random.default_rng([seed, 77])
    axis, way = rng.normal(size=(2, 3))
    turn = rng.uniform(0.0, np.deg2rad(turn_deg)) * axis / np.linalg.norm(axis)
    r = Rotation.from_rotvec(turn).as_matrix()
    shift = rng.uniform(0.0, shift_mm) * way / np.linalg.norm(way)
    return Rigid(r, about + shift - r @ about)


def make_mri(
    patient, pose, contrast="T1", seed=1, spacing=(0.9, 0.9, 4.0), size=(250.0, 210.0, 150.0)
):
    """An MRI of ``patient`` whose bones lie where ``pose`` takes those of the CT."""
    rng = np.random.default_rng([seed, 78])
    n = np.round(np.array(size) / spacing).astype(int)
    middle = patient.landmarks["S1EP"] + [0.0, 0.0, -30.0] + rng.uniform(-12.0, 12.0, 3)
    geometry = VolumeGeometry(
        tuple(n), np.array(spacing), middle - 0.5 * (n - 1) * spacing, np.eye(3), "MRI"
    )
    painted = _painted(patient, GREY[contrast])
    index = np.indices(geometry.shape).reshape(3, -1).T
    # A thick slice is the mean of what lies in it.
    depth = (-0.25, 0.25)
    there = pose.inverse()
    values = sum(
        sample(
            patient.volume.geometry,
            painted,
            there.points(geometry.to_world(index + [0.0, 0.0, d])),
            GREY[contrast]["air"],
        )
        for d in depth
    ) / len(depth)
    x = index / np.array(geometry.shape) - 0.5
    shade = np.column_stack([x, x**2]) @ rng.normal(size=6)
    values = values * (1.0 + 0.3 * shade / np.abs(shade).max())
    real, imaginary = 6.0 * rng.normal(size=(2, len(values)))
    grey = np.rint(np.hypot(values + real, imaginary)).astype(np.int16)
    return Volume(geometry, grey.reshape(geometry.shape))
