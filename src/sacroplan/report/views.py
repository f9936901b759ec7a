"""Where the viewer stands, and which letters belong at the edges of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.report.model import Preset

LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
"""Letter of the positive and of the negative end of the left, posterior and superior axes."""

SECOND_LETTER_COSINE = 0.35
"""An axis is named beside the leading one when the direction runs along it by more than this
cosine (20 degrees off): "AS" says that an edge is anterior and somewhat superior."""

# Directions (right, up) of the picture in left-posterior-superior terms.
_BASES: dict[Preset, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "front": ((1, 0, 0), (0, 0, 1)),
    "back": ((-1, 0, 0), (0, 0, 1)),
    "left": ((0, 1, 0), (0, 0, 1)),
    "right": ((0, -1, 0), (0, 0, 1)),
    "top": ((-1, 0, 0), (0, -1, 0)),
    "bottom": ((1, 0, 0), (0, -1, 0)),
    # Before, above and to the left of the patient: shows endplates and both wings at once.
    "oblique": ((0.819, 0.574, 0.0), (-0.235, 0.336, 0.912)),
}


@dataclass(frozen=True, eq=False)
class Basis:
    """Orthonormal picture directions in LPS: ``right``, ``up``, ``away`` from the viewer (3,)."""

    right: FloatArray
    up: FloatArray
    away: FloatArray


def basis(axes: FloatArray, preset: Preset) -> Basis:
    """Picture directions of ``preset`` for view axes (3, 3) = left, posterior, superior columns."""
    right_local, up_local = _BASES[preset]
    right = unit(right_local)
    up = np.asarray(up_local, dtype=np.float64)
    up = unit(up - (up @ right) * right)
    return Basis(axes @ right, axes @ up, axes @ np.cross(up, right))


def letters(axes: FloatArray, direction: FloatArray) -> str:
    """Patient letters of an LPS ``direction`` (3,), leading axis first: ``"L"``, ``"AS"`` ..."""
    local = axes.T @ unit(direction)
    order = np.argsort(-np.abs(local), kind="stable")
    named = [
        LETTERS[int(a)][0 if local[a] > 0 else 1]
        for n, a in enumerate(order)
        if n == 0 or abs(local[a]) > SECOND_LETTER_COSINE
    ]
    return "".join(named)
