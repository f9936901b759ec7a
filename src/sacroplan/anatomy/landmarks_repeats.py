"""How far a landmark may be off: its rule is repeated on slightly wrong bones in a slightly wrong pose.

A surface from a CT is wrong by a few tenths of a millimetre, in patches; the pelvis' pose by a
degree or so. Each repeat moves the surface along its normals by a smooth random wave of that size and
turns the pose. The root mean square distance of the repeats from the landmark tells sharp landmarks from
blunt ones; in squares with the rule's own error, measured where the truth is known, it is the landmark's
uncertainty. It does not know a wrong bone label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry

WAVE_MM = 18.0
"""Length of the surface waves: a segmentation errs in patches, neither by vertex nor by whole bone."""

# Corners of a tetrahedron: every axis turns by the whole angle in every repeat, independently.
_TURNS = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])

COUNT = len(_TURNS)


def _waves() -> tuple[FloatArray, FloatArray]:
    """Wave vectors (COUNT, 3, 3), 1/mm, and phases (COUNT, 3); the same in every run."""
    rng = np.random.default_rng(20)
    k = rng.standard_normal((COUNT, 3, 3))
    k *= 2.0 * np.pi / WAVE_MM / np.linalg.norm(k, axis=2, keepdims=True)
    return k, rng.uniform(0.0, 2.0 * np.pi, (COUNT, 3))


@dataclass(frozen=True, slots=True, eq=False)
class Disturbance:
    """One repeat: rms height of the surface waves (mm), turn of the pose about each axis (rad)."""

    number: int
    surface_mm: float
    turn_rad: FloatArray

    def height(self, points: FloatArray) -> FloatArray:
        """Outward displacement (n,) mm at points (n, 3), in the axes the rule works in."""
        k, phase = _waves()
        p = np.asarray(points, dtype=np.float64)
        sum_ = np.cos(p @ k[self.number].T + phase[self.number]).sum(axis=1)
        return np.asarray(self.surface_mm * np.sqrt(2.0 / k.shape[1]) * sum_)

    def surface(self, surface: Surface, normals: FloatArray) -> Surface:
        """``surface`` displaced along ``normals`` (n, 3)."""
        v = surface.vertices
        return Surface(v + self.height(v)[:, None] * normals, surface.faces, surface.frame)

    def rotation(self) -> FloatArray:
        """(3, 3) turn of the pose."""
        from scipy.spatial.transform import Rotation

        return np.asarray(Rotation.from_rotvec(self.turn_rad).as_matrix())


def disturbances(
    geometry: VolumeGeometry | None, pitch_row: str = "pose"
) -> tuple[Disturbance, ...]:
    """The repeats for bones from an image on ``geometry`` (SP-LMK-08).

    ``pitch_row`` names the pose error about the left-right axis, z: it is larger where the pubis is
    not in the image.
    """
    row = "SP-LMK-08"
    surface = evidence.value(row, "surface")
    if geometry is not None:
        share = evidence.value(row, "voxel_share")
        surface = max(surface, share * float(geometry.spacing_mm.max()))
    pose = evidence.value(row, "pose")
    angles = np.radians([pose, pose, evidence.value(row, pitch_row)])
    return tuple(Disturbance(n, surface, turn * angles) for n, turn in enumerate(_TURNS))


def scatter(point: FloatArray, repeats: Sequence[FloatArray | None]) -> tuple[float, int]:
    """Root mean square distance (mm) of the repeats from ``point``, nan without; how many there are."""
    found = [r for r in repeats if r is not None]
    if not found:
        return float("nan"), 0
    off = np.array(found) - point
    return float(np.sqrt(np.mean(np.einsum("ij,ij->i", off, off)))), len(found)


def rule_error_mm(name: str) -> float:
    """How far the rule of landmark ``name`` lies from its definition [SP-LMK-12]."""
    side = name.endswith(("_L", "_R"))
    stem = name[:-2] if side else name
    if "EP" in stem:
        key = "endplate_side" if side else "endplate"
    elif stem.endswith(("AF", "PF")):
        key = "ventral_foramen" if stem.endswith("AF") else "dorsal_foramen"
    else:
        key = "pedicle" if stem.endswith("PED") else stem.split("_")[0]
    return evidence.value("SP-LMK-12", key)


def uncertainty(
    name: str, point: FloatArray, repeats: Sequence[FloatArray | None]
) -> tuple[float, int]:
    """Uncertainty (mm) of landmark ``name`` at ``point``, nan without repeats; how many there are."""
    off, count = scatter(point, repeats)
    return float(np.hypot(off, rule_error_mm(name))), count
