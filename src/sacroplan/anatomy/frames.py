"""Anatomical frames from landmarks (HANDBOOK FRM-1 to FRM-4); x anterior, y cranial, z right."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan.errors import AnatomyError
from sacroplan.geometry.frames import DEFAULT_FRAME, AxisFrame, FloatArray, unit


def _across(direction: FloatArray, normal: FloatArray, what: str) -> FloatArray:
    """Unit part of ``direction`` at right angles to ``normal``; raises when nothing is left."""
    left = direction - (direction @ normal) * normal
    if float(np.linalg.norm(left)) <= 1e-3 * float(np.linalg.norm(direction)):
        raise AnatomyError(f"{what} are in line; a frame needs points that span a plane.")
    return unit(left)


def pelvis_frame(
    asis_left: npt.ArrayLike,
    asis_right: npt.ArrayLike,
    psis_left: npt.ArrayLike,
    psis_right: npt.ArrayLike,
    origin: npt.ArrayLike,
    frame: str = DEFAULT_FRAME,
) -> AxisFrame:
    """ISB pelvic frame FRM-1 about ``origin`` (the midpoint of the hip centres).

    z from left to right ASIS, x in the plane of both ASIS and the middle of the PSIS, pointing
    anterior. Points (3,) LPS mm. Raises :class:`AnatomyError` when they are in line.
    """
    left, right = np.asarray(asis_left, dtype=float), np.asarray(asis_right, dtype=float)
    back = 0.5 * (np.asarray(psis_left, dtype=float) + np.asarray(psis_right, dtype=float))
    if float(np.linalg.norm(right - left)) < 1.0:
        raise AnatomyError("Left and right ASIS are the same point; name them for their sides.")
    z = unit(right - left)
    x = _across(0.5 * (left + right) - back, z, "The ASIS and the middle of the PSIS")
    return AxisFrame("pelvis", origin, np.stack([x, np.cross(z, x), z], axis=1), frame)  # type: ignore[arg-type]


def anterior_pelvic_plane_axes(
    asis_left: npt.ArrayLike, asis_right: npt.ArrayLike, pubis: npt.ArrayLike
) -> FloatArray:
    """(3, 3) columns x (normal of the anterior pelvic plane, anterior), y, z right (FRM-2).

    ``pubis`` (3,) is the midpoint of the pubic tubercles.
    """
    left, right = np.asarray(asis_left, dtype=float), np.asarray(asis_right, dtype=float)
    z = unit(right - left)
    y = _across(0.5 * (left + right) - np.asarray(pubis, dtype=float), z, "ASIS and pubis")
    return np.stack([np.cross(y, z), y, z], axis=1)


def endplate_frame(
    name: str,
    centre: npt.ArrayLike,
    normal: npt.ArrayLike,
    ahead: npt.ArrayLike,
    frame: str = DEFAULT_FRAME,
) -> AxisFrame:
    """Endplate frame FRM-3 / FRM-4: origin the centre, y the cranial normal, x towards ``ahead``."""
    y = unit(normal)
    x = _across(np.asarray(ahead, dtype=float), y, f"Normal and anterior direction of {name}")
    return AxisFrame(name, centre, np.stack([x, y, np.cross(x, y)], axis=1), frame)  # type: ignore[arg-type]
