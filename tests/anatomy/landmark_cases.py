"""Bones with known landmarks: synthetic patients, and the Visible Human Male's checked points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sacroplan.geometry.fields import contour
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.imaging.phantom import fields, landmarks
from sacroplan.imaging.phantom.build import grid
from sacroplan.imaging.phantom.parameters import PhantomParameters
from sacroplan.imaging.phantom.pose import solve

SPACING_MM = 1.2

PATIENTS = tuple(
    PhantomParameters(sex, size, incidence, asymmetry, None)
    for sex, size, incidence, asymmetry in (
        ("female", 0.92, 38.0, -1.5),
        ("male", 1.08, 70.0, 0.0),
        ("female", 1.0, 52.0, 1.0),
        ("male", 1.0, 52.0, 1.0),
        ("female", 1.08, 60.0, 2.0),
        ("male", 0.92, 44.0, -2.0),
        ("female", 0.96, 72.0, 0.5),
        ("male", 1.04, 34.0, 1.5),
    )
)
"""Both sexes, small and large, flat and steep, straight and lopsided. The first two are quick tests'."""


@dataclass(frozen=True, eq=False)
class Patient:
    """Surfaces from the truth labels, truth landmarks, and the grid they were drawn on."""

    parameters: PhantomParameters
    bones: dict[str, Surface]
    truth: dict[str, np.ndarray]
    geometry: VolumeGeometry


def patient(parameters: PhantomParameters) -> Patient:
    """A synthetic patient without its CT: voxel labels, slightly blurred, contoured at one half."""
    from scipy.ndimage import gaussian_filter

    pose = solve(parameters)
    geometry = grid(pose, (SPACING_MM,) * 3)
    bones = fields.bones(geometry, pose)
    surfaces = {}
    for name, bone in bones.items():
        solid = gaussian_filter(np.pad(bone.field < 0, 3).astype(np.float32), 0.8)
        start = np.array(bone.start)
        box = replace(geometry.cropped(start, start + bone.field.shape), shape=solid.shape)
        box = replace(box, origin=geometry.to_world(start[None] - 3.0)[0])
        surfaces[name] = contour(box, 0.5 - solid).bodies()[0]
    return Patient(parameters, surfaces, landmarks.find(geometry, bones, pose), geometry)
