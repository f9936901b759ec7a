"""Where the hip bones and the femoral heads are, in grid millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan import evidence
from sacroplan.anatomy.segmentation import _kernels
from sacroplan.geometry.frames import FloatArray

Mask = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

SIDES = (("right", -1.0), ("left", 1.0))
"""Side names and the sign of i, which runs towards the patient's left."""


@dataclass(frozen=True, eq=False)
class Head:
    """A femoral head: ``centre`` (3,) grid mm, ``radius_mm``, and the share of its upper half that
    shows a joint space (bone, gap, bone) along the radius.
    """

    centre: FloatArray
    radius_mm: float
    joint_share: float


def lateral_bone(
    bone: Mask, near: Mask, spacing: FloatArray, middle_mm: float, side: float
) -> Mask:
    """The largest piece of bone beyond the reach of the sacrum on one side.

    ``near`` limits the search to what bone connects with the sacrum: hands and forearms beside
    the pelvis are as lateral and as large, but skin and fat part them from it.
    """
    i = np.arange(bone.shape[0]) * spacing[0]
    lateral = side * (i - middle_mm) > evidence.value("SP-SEG-04", "half_width")
    pieces, count = ndimage.label(
        bone & near & lateral[:, None, None], ndimage.generate_binary_structure(3, 3)
    )
    if not count:
        return np.zeros_like(bone)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def femoral_head(
    hu: Float32, spacing: FloatArray, middle_mm: float, side: float, ceiling_mm: float
) -> Head | None:
    """The femoral head of one side below ``ceiling_mm``; None where the image shows none.

    Bone surfaces vote along their grey-level gradient for the centre of a sphere; the socket votes
    for the same centre. The image is continued downwards, so that a cut head is found too.
    """
    row = "SP-SEG-05"
    h = float(spacing[0])
    below = round(evidence.value(row, "continuation") / h)
    top = min(hu.shape[2], int(ceiling_mm / h))
    if top < 4:
        return None
    part = ndimage.gaussian_filter(hu[:, :, :top], 1.0)
    gradient = np.stack(np.gradient(part), axis=-1)
    size = np.linalg.norm(gradient, axis=-1)
    chosen = (size * 2.0 / h > evidence.value(row, "edge")) & (
        part > evidence.value(row, "surface")
    )
    away = side * (np.arange(hu.shape[0]) * h - middle_mm)
    near, far = evidence.span(row, "lateral")
    chosen[(away < near) | (away > far)] = False
    points = np.argwhere(chosen).astype(np.float32)
    if len(points) < 200:
        return None
    inward = (gradient[chosen] / size[chosen][:, None]).astype(np.float32)
    low, high = evidence.span(row, "radius")
    radii = np.arange(low, high + 0.5, 1.0, dtype=np.float32) / np.float32(h)
    points[:, 2] += below
    shape = (hu.shape[0], hu.shape[1], top + below)
    votes = ndimage.gaussian_filter(_kernels.sphere_votes(points, inward, radii, shape), 1.0)
    centre = np.array(np.unravel_index(int(votes.argmax()), votes.shape), dtype=np.float64)
    centre[2] -= below
    share, radius = _joint_share(hu, centre, h, low, high)
    return Head(centre * h, radius, share)


def _joint_share(
    hu: Float32, centre: FloatArray, h: float, low: float, high: float
) -> tuple[float, float]:
    """Share of directions upwards with a joint space, and the radius of the head's surface."""
    golden = np.pi * (3.0 - np.sqrt(5.0))
    n = 400
    z = 0.1 + 0.9 * (np.arange(n) + 0.5) / n
    angle = golden * np.arange(n)
    ring = np.sqrt(1.0 - z**2)
    direction = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
    r = np.arange(low - 6.0, high + 10.0, 0.5)
    points = centre[:, None, None] + direction.T[:, :, None] * r / h
    profile = ndimage.map_coordinates(hu, points.reshape(3, -1), order=1, cval=np.nan)
    profile = profile.reshape(n, len(r))
    seen = np.isfinite(profile).all(axis=1)
    if seen.sum() < n // 4:
        return 0.0, 0.5 * (low + high)
    profile = profile[seen]
    best, radius = 0.0, 0.5 * (low + high)
    depth = evidence.value("SP-SEG-05", "joint_depth")
    for s in range(10, len(r) - 18):
        inside = profile[:, s - 6 : s].max(axis=1)
        gap = profile[:, s : s + 8].min(axis=1)
        outside = profile[:, s + 4 : s + 18].max(axis=1)
        share = float(np.mean((inside - gap > depth) & (outside - gap > depth)))
        if share > best + 1e-9:
            best, radius = share, float(r[s])
    return best, radius
