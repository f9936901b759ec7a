"""Control nets of the bones: smooth sheets given by a mid-surface and a squared half-thickness."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from sacroplan.geometry.frames import FloatArray, readonly

STORED_UNIT_MM = 0.1
"""Heights and roots of the thickness are stored as whole tenths of a millimetre."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A solid ``{|w - c(u, v)| < sqrt T(u, v)}`` in the reference pose, mm.

    Attributes
    ----------
    axes : (3, 3) rows are the directions of u, v, w.
    start_mm : (2,) position of the first coefficient.
    step_mm : distance of the coefficients.
    centre : (nu, nv) cubic B-spline coefficients of c, mm.
    square : (nu, nv) coefficients of T, mm2; negative where there is no bone.
    mirror : the solid is symmetric in u; the nets begin at ``u = -step_mm``.
    """

    axes: FloatArray
    start_mm: FloatArray
    step_mm: float
    centre: FloatArray
    square: FloatArray
    mirror: bool


@lru_cache(maxsize=1)
def sheets() -> dict[str, Sheet]:
    """All sheets by name: hip (left), sacrum, L5_front, L5_arch, L4_front, L4_arch."""
    text = (resources.files(__package__) / "shapes.toml").read_text("utf-8")
    out: dict[str, Sheet] = {}
    for name, entry in tomllib.loads(text).items():
        centre = STORED_UNIT_MM * np.array(entry["c"], dtype=np.float64)
        root = STORED_UNIT_MM * np.array(entry["t"], dtype=np.float64)
        arrays = (
            np.array(entry["axes"], dtype=np.float64),
            np.array(entry["start_mm"], dtype=np.float64),
            centre,
            np.sign(root) * root**2,
        )
        for array in arrays:
            readonly(array)
        axes, start, c, t = arrays
        out[name] = Sheet(axes, start, float(entry["step_mm"]), c, t, bool(entry["mirror"]))
    return out
