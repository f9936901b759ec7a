"""What a placed screw does to a bone: clearance, breach, purchase, grade, HU along the thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sacroplan import evidence
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.frames import FloatArray, perpendicular, same_frame
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume

STEP_MM = 0.5
"""Samples along the axis; the bone bends less than 0.05 mm between them."""

RING = 24
"""Points round the thread; a breach between two is underread by less than 0.03 mm at 8 mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Clearance:
    """Exact distances between a screw and a bone surface (mm).

    Attributes
    ----------
    profile : (n, 2) distance from the entry along the axis, thread surface to bone surface (negative
        where the thread is outside).
    least_mm : least of the profile from ``start_mm`` on.
    breach_mm : furthest that any thread point beyond ``start_mm`` stands out of the bone.
    breach_at : (3,) that point, LPS; None without a breach.
    purchase_mm : length of the axis inside the bone.
    start_mm : where along the screw the thread counts.
    """

    profile: FloatArray
    least_mm: float
    breach_mm: float
    breach_at: FloatArray | None
    purchase_mm: float
    start_mm: float


def signed_distance(surface: Surface, points: FloatArray) -> FloatArray:
    """Exact signed distance (n,) of points (n, 3) to a closed surface, negative inside."""
    import igl

    squared = igl.point_mesh_squared_distance(points, surface.vertices, surface.faces)[0]
    inside = igl.fast_winding_number(surface.vertices, surface.faces, points) > 0.5
    return np.asarray(np.where(inside, -1.0, 1.0) * np.sqrt(squared))


def clearance(screw: Screw, bone: Surface, start_mm: float = 0.0) -> Clearance:
    """Measure ``screw`` against ``bone``; the thread counts from ``start_mm`` behind the entry on."""
    same_frame(screw, bone)
    r = 0.5 * screw.diameter_mm
    d = screw.direction
    s = np.linspace(0.0, screw.length_mm, int(np.ceil(screw.length_mm / STEP_MM)) + 1)
    axis = screw.entry + s[:, None] * d
    u = perpendicular(d)
    v = np.cross(d, u)
    angle = 2.0 * np.pi * np.arange(RING) / RING
    ring = r * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v)
    rings = (axis[:, None] + ring).reshape(-1, 3)
    value = signed_distance(bone, np.concatenate([axis, rings]))
    own = value[: len(s)]
    around = value[len(s) :].reshape(len(s), RING).max(axis=1)
    counts = s >= start_mm - 1e-9
    worst = int(np.argmax(np.where(counts, around, -np.inf)))
    breach = max(0.0, float(around[worst]), float(own[-1]))
    at = None
    if breach > 0.0:
        k = int(np.argmax(value[len(s) :].reshape(len(s), RING)[worst]))
        at = rings.reshape(len(s), RING, 3)[worst, k]
    profile = np.stack([s, -own - r], axis=1)
    return Clearance(
        profile,
        float(profile[counts, 1].min()),
        breach,
        at,
        float(np.count_nonzero(own[:-1] < 0.0)) * float(s[1] - s[0]),
        start_mm,
    )


def axis_depths(bone: Surface, probes: Sequence[Screw], starts_mm: Sequence[float]) -> list[float]:
    """Least exact distance (mm) of every screw's axis to ``bone`` from its start to the tip.

    One query for all; the axes are taken to lie inside, as the search left them.
    """
    import igl

    lines = []
    for s, start in zip(probes, starts_mm, strict=True):
        t = np.linspace(start, s.length_mm, int(np.ceil((s.length_mm - start) / STEP_MM)) + 1)
        lines.append(s.entry + t[:, None] * s.direction)
    points = np.concatenate(lines)
    squared = np.asarray(igl.point_mesh_squared_distance(points, bone.vertices, bone.faces)[0])
    ends = np.cumsum([0] + [len(line) for line in lines])
    return [float(np.sqrt(squared[a:b].min())) for a, b in pairwise(ends)]


def gertzbein(breach_mm: float) -> str:
    """Gertzbein-Robbins grade A to E of a pedicle breach (GR-01)."""
    if breach_mm <= 0.0:
        return "A"
    for grade, name in (("B", "b"), ("C", "c"), ("D", "d")):
        if breach_mm < evidence.value("GR-01", name):
            return grade
    return "E"


def iliac_grade(breach_mm: float) -> str:
    """Iliac screw breach grade 0 to III (GR-02)."""
    if breach_mm <= 0.0:
        return "0"
    if breach_mm <= evidence.value("GR-02", "one"):
        return "I"
    return "II" if breach_mm <= evidence.value("GR-02", "two") else "III"


def mean_hu(screw: Screw, volume: Volume) -> float | None:
    """Mean HU in the screw's cylinder; None where it leaves the image."""
    from sacroplan.geometry.sampling import sample

    same_frame(screw, volume)
    d = screw.direction
    u = perpendicular(d)
    v = np.cross(d, u)
    s = np.arange(0.5, screw.length_mm, 1.0)
    angle = 2.0 * np.pi * np.arange(12) / 12
    disc = [np.zeros((1, 3))]
    # Radii of equal-area rings, so that every sample stands for the same volume.
    for share in (1.0 / 3.0, 2.0 / 3.0, 1.0):
        radius = 0.5 * screw.diameter_mm * float(np.sqrt(share - 1.0 / 6.0))
        disc.append(radius * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v))
    points = (screw.entry + s[:, None, None] * d + np.concatenate(disc)).reshape(-1, 3)
    value = sample(volume.geometry, volume.data, points, np.nan)
    return None if np.isnan(value).any() else float(value.mean())
