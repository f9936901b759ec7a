"""How a guide sits: gap to the bone, contact patches, what moves it, whether it comes off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.booleans import to_manifold
from sacroplan.geometry.fields import distance_field
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.guides.seat import GuideFrame

PATCH_MM = 12.0
"""Edge of the cells into which the contact is divided for the count of patches."""

PATCH_MIN_MM2 = 20.0
"""Smaller pieces of contact do not carry."""

MOTION_SAMPLES = 4000
"""Contact samples that are moved for the stability: about one per 0.6 mm2."""

COPLANAR_DEG = 5.0
COPLANAR_MM = 0.5
"""Two patches nearer than both are one plane: 0.5 mm is what a saw cannot tell."""


@dataclass(frozen=True, eq=False)
class Contact:
    """Sampled bone-facing surface of a guide.

    Attributes
    ----------
    points, normals : (n, 3) LPS, on the guide; normals point from the bone into the guide.
    area_mm2 : (n,) area each sample stands for. gap_mm : (n,) distance to the bone.
    """

    points: FloatArray
    normals: FloatArray
    area_mm2: FloatArray
    gap_mm: FloatArray

    def percentile(self, percent: float) -> float:
        """Area-weighted percentile of the gap, mm."""
        return weighted_percentile(self.gap_mm, self.area_mm2, percent)


@dataclass(frozen=True)
class Stability:
    """Effect of the motions of GDE-07 on the contact.

    ``patches`` that carry, ``planes`` of them that differ, ``patches_off`` the fewest patches that
    lose contact over all motions, ``worst`` the motion that does so.
    """

    patches: int
    planes: int
    patches_off: int
    worst: str


def weighted_percentile(values: FloatArray, weights: FloatArray, percent: float) -> float:
    """Value below which ``percent`` of the weight lies."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    n = int(np.searchsorted(total, percent / 100.0 * total[-1]))
    return float(values[order][min(n, len(values) - 1)])


def contact(guide: Surface, hip: Surface, frame: GuideFrame, reach_mm: float) -> Contact:
    """Contact of ``guide`` with ``hip``: faces that look down at bone nearer than ``reach_mm``.

    Faces count when they look against the removal axis and against the bone's own normal there;
    the walls of a relieved undercut do not.
    """
    import igl

    removal = frame.axes[:, 2]
    down = guide.face_normals @ removal < -0.2
    chosen = np.nonzero(down)[0]
    corners = guide.triangles[chosen]
    normals = guide.face_normals[chosen]
    area = np.linalg.norm(guide.area_vectors[chosen], axis=1)
    # Centroid and three inner points: large faces of a simplified mesh are sampled more than once.
    weights = np.array(
        [[1 / 3, 1 / 3, 1 / 3], [0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]]
    )
    points = np.einsum("kc,ncx->nkx", weights, corners).reshape(-1, 3)
    squared, face, _ = igl.point_mesh_squared_distance(points, hip.vertices, hip.faces)[:3]
    gap = np.sqrt(np.asarray(squared))
    bone = hip.face_normals[np.asarray(face)]
    towards = -np.repeat(normals, 4, axis=0)
    seen = (gap < reach_mm) & (np.einsum("ij,ij->i", bone, towards) > 0.7)
    share = np.repeat(area / 4.0, 4)
    return Contact(points[seen], towards[seen], share[seen], gap[seen])


def _patches(touch: Contact, frame: GuideFrame) -> npt.NDArray[np.int_]:
    """(n,) patch number of every sample, -1 where the patch is too small."""
    local = frame.to_local(touch.points)[:, :2]
    cell = np.floor(local / PATCH_MM + 0.5).astype(int)
    _, number = np.unique(cell, axis=0, return_inverse=True)
    number = number.reshape(-1)
    area = np.bincount(number, weights=touch.area_mm2)
    renumber = np.where(area >= PATCH_MIN_MM2, np.cumsum(area >= PATCH_MIN_MM2) - 1, -1)
    return np.asarray(renumber[number])


def _planes(touch: Contact, patch: npt.NDArray[np.int_]) -> int:
    """Patches no two of which lie in one plane."""
    kept: list[tuple[FloatArray, FloatArray]] = []
    for n in range(patch.max() + 1):
        mine = patch == n
        w = touch.area_mm2[mine][:, None]
        centre = (touch.points[mine] * w).sum(axis=0) / w.sum()
        normal = (touch.normals[mine] * w).sum(axis=0)
        normal /= np.linalg.norm(normal)
        same = any(
            np.degrees(np.arccos(np.clip(normal @ other, -1, 1))) < COPLANAR_DEG
            and abs((centre - point) @ other) < COPLANAR_MM
            for point, other in kept
        )
        if not same:
            kept.append((centre, normal))
    return len(kept)


def stability(
    touch: Contact,
    hip: Surface,
    frame: GuideFrame,
    shift_mm: float,
    turn_deg: float,
    loose_mm: float,
) -> Stability:
    """Move the contact by ``shift_mm`` and ``turn_deg`` each way and let it settle on the bone again.

    After each motion the guide is lifted along its removal axis until no more than 1 % of its
    contact would lie in bone; a patch whose smallest gap then exceeds its seated gap by
    ``loose_mm`` has lost contact. A unique fit loses at least three.
    """
    patch = _patches(touch, frame)
    if patch.max() < 0:
        return Stability(0, 0, 0, "none")
    planes = _planes(touch, patch)
    every = max(1, len(patch) // MOTION_SAMPLES)
    patch = patch[::every]
    touch = Contact(
        touch.points[::every],
        touch.normals[::every],
        touch.area_mm2[::every],
        touch.gap_mm[::every],
    )
    local = frame.to_local(touch.points)
    margin = 4.0
    grid = frame.grid(local.min(axis=0) - margin, local.max(axis=0) + margin, 0.5, hip.frame)
    field = distance_field(hip, grid)
    centre = np.average(local, axis=0, weights=touch.area_mm2)
    rest = field.at(touch.points)
    count = int(patch.max()) + 1
    worst, fewest = "none", count
    for name, motion in _motions(shift_mm, turn_deg):
        moved = motion(local - centre) + centre
        low, high = -1.0, 4.0
        for _ in range(16):
            middle = 0.5 * (low + high)
            gap = field.at(frame.to_world(moved + [0.0, 0.0, middle])) - rest
            if weighted_percentile(gap, touch.area_mm2, 1.0) < 0.0:
                low = middle
            else:
                high = middle
        gap = field.at(frame.to_world(moved + [0.0, 0.0, high])) - rest
        off = sum(
            1
            for n in range(count)
            if weighted_percentile(gap[patch == n], touch.area_mm2[patch == n], 5.0) > loose_mm
        )
        if off < fewest:
            worst, fewest = name, off
    return Stability(count, planes, fewest, worst)


def _motions(
    shift_mm: float, turn_deg: float
) -> Iterator[tuple[str, Callable[[FloatArray], FloatArray]]]:
    """Each motion of GDE-07 by name: shifts within the seat, turns about its three axes."""
    for axis, name in ((0, "along"), (1, "across")):
        for sign in (1.0, -1.0):
            step = np.zeros(3)
            step[axis] = sign * shift_mm
            yield f"shift {name} {sign * shift_mm:+g} mm", partial(_shifted, step)
    for axis, name in ((0, "along"), (1, "across"), (2, "removal")):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        for sign in (1.0, -1.0):
            angle = np.deg2rad(sign * turn_deg)
            r = np.eye(3)
            r[i, i] = r[j, j] = np.cos(angle)
            r[i, j], r[j, i] = -np.sin(angle), np.sin(angle)
            yield f"turn about {name} {sign * turn_deg:+g} deg", partial(_turned, r)


def _shifted(step: FloatArray, points: FloatArray) -> FloatArray:
    return np.asarray(points + step)


def _turned(rotation: FloatArray, points: FloatArray) -> FloatArray:
    return np.asarray(points @ rotation.T)


def removal_overlap_mm3(
    guide: Surface, hip: Surface, removal: FloatArray, steps_mm: tuple[float, ...]
) -> float:
    """Largest common volume of guide and bone while the guide is lifted by ``steps_mm``."""
    body, bone = to_manifold(guide, "the guide"), to_manifold(hip, "the hip bone")
    return max(float((body.translate(tuple(step * removal)) ^ bone).volume()) for step in steps_mm)
