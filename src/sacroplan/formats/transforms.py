"""Rigid transforms in ITK's files (.tfm, .txt, .h5), as 3D Slicer reads and writes them.

An ITK transform that resamples an MRI onto a CT takes a CT point to the MRI, in LPS. 3D Slicer's
transform under which an MRI fits the CT is saved in the same way.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.errors import FormatError
from sacroplan.formats.atomic import write_text
from sacroplan.geometry.frames import Rigid

RIGID_TOLERANCE = 1e-3
"""Deviation from a rotation that files with few digits show; 0.1 mm over 100 mm."""


def read_rigid(path: str | os.PathLike[str]) -> Rigid:
    """CT-to-MRI transform (LPS mm) of an ITK transform file.

    Raises
    ------
    FormatError : missing or unreadable file, not linear, scaled, sheared or mirrored.
    """
    import SimpleITK

    # Only a part of the library's functions carries types.
    sitk: Any = SimpleITK
    file = Path(path)
    if not file.is_file():
        raise FormatError(f"{file} does not exist.")
    try:
        transform = sitk.ReadTransform(str(file))
    except RuntimeError as error:
        raise FormatError(
            f"{file} is not an ITK transform file (.tfm, .txt, .h5): save the transform from "
            "3D Slicer as .tfm or .h5."
        ) from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise FormatError(
            f"{file} holds a transform that is not linear; only a rigid fusion keeps the tumour's "
            "shape. Save a rigid transform."
        )
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    # Long arms, so that the file's own rounding is what is seen.
    arm = 1000.0
    columns = [np.array(transform.TransformPoint((arm * e).tolist())) for e in np.eye(3)]
    matrix = (np.column_stack(columns) - origin[:, None]) / arm
    error_of = float(np.abs(matrix.T @ matrix - np.eye(3)).max())
    if error_of > RIGID_TOLERANCE:
        sizes = ", ".join(f"{s:.4g}" for s in np.linalg.norm(matrix, axis=0))
        raise FormatError(
            f"{file} is not rigid: it scales the axes by {sizes} or shears them; a fusion of one "
            "patient's MRI and CT turns and shifts only. Save a rigid transform."
        )
    if np.linalg.det(matrix) < 0:
        raise FormatError(f"{file} mirrors the patient; left and right would be exchanged.")
    u, _, v = np.linalg.svd(matrix)
    return Rigid(u @ v, origin)


def write_rigid(rigid: Rigid, path: str | os.PathLike[str]) -> None:
    """Write a transform as ITK text (.tfm), which 3D Slicer opens; same transform, same bytes."""
    numbers = [*rigid.rotation.ravel().tolist(), *rigid.translation.tolist()]
    # Rounding hides the last bits of a rotation, and a minus before a zero.
    text = " ".join(f"{v + 0.0:.12f}" for v in np.round(numbers, 12))
    write_text(
        path,
        "#Insight Transform File V1.0\n#Transform 0\n"
        "Transform: AffineTransform_double_3_3\n"
        f"Parameters: {text}\nFixedParameters: 0 0 0\n",
    )
