"""Screw axes as DICOM Spatial Fiducials: lines in the CT's frame of reference.

Every station that reads the CT can lay them over it, because coordinates and frame are the CT's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER_SHORT
from sacroplan.errors import FormatError
from sacroplan.formats.atomic import write_bytes
from sacroplan.formats.dicom_out import (
    LONG_STRING,
    check_case_id,
    decimal_string,
    derived_uid,
    new_data_set,
)
from sacroplan.formats.dicom_source import DicomSource
from sacroplan.formats.encapsulated import instance_items

SPATIAL_FIDUCIALS = "1.2.840.10008.5.1.4.1.1.66.2"
"""SOP class of Spatial Fiducials Storage."""

SERIES_NUMBER = 903
"""After the surfaces' series."""

IDENTIFIER = 16
"""Characters of a fiducial's identifier (SH)."""


def write_spatial_fiducials(
    lines: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    path: str | os.PathLike[str],
    *,
    source: DicomSource,
    case_id: str,
) -> None:
    """Write named lines (entry, tip), each (3,) LPS mm in the CT's frame; same input, same bytes.

    Raises :class:`FormatError` without a line, or for points that are not finite.
    """
    import pydicom
    from pydicom.sequence import Sequence as Items

    check_case_id(case_id)
    if not lines:
        raise FormatError("There is no screw axis to write into a Spatial Fiducials file.")
    fiducials = []
    content: list[str] = []
    for name, ends in lines.items():
        points = np.array([np.asarray(e, dtype=np.float64) for e in ends])
        if points.shape != (2, 3) or not np.all(np.isfinite(points)):
            raise FormatError(f"The axis {name!r} needs two points of three finite numbers.")
        data = [decimal_string(v) for v in points.ravel()]
        content += [name, *data]
        item: Any = pydicom.Dataset()
        item.FiducialIdentifier = name[:IDENTIFIER]
        item.FiducialDescription = f"{name}: entry, tip"[:64]
        item.ShapeType = "LINE"
        item.FiducialUID = derived_uid("fiducial", case_id, source.series_uid, name, *data)
        item.NumberOfContourPoints = 2
        item.ContourData = data
        fiducials.append(item)
    ds = new_data_set(
        SPATIAL_FIDUCIALS,
        derived_uid("spatial fiducials", case_id, source.series_uid, *content),
        case_id=case_id,
        study_uid=source.study_uid,
        series_uid=derived_uid("spatial fiducials series", case_id, source.series_uid),
        frame_uid=source.frame_uid,
        modality="FID",
        series_number=SERIES_NUMBER,
        instance_number=1,
        description=f"{BANNER_SHORT}: screws",
    )
    ds.ContentDate, ds.ContentTime = "19700101", "000000"
    ds.ContentLabel = "SCREWS"
    ds.ContentDescription = f"Planned screw axes: {BANNER_SHORT}"[:LONG_STRING]
    ds.ContentCreatorName = "sacroplan"
    group: Any = pydicom.Dataset()
    group.FrameOfReferenceUID = source.frame_uid
    group.FiducialSequence = Items(fiducials)
    group.ReferencedImageSequence = Items(instance_items(source))
    ds.FiducialSetSequence = Items([group])
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    write_bytes(path, stream.getvalue())


def read_spatial_fiducials(
    path: str | os.PathLike[str],
) -> tuple[str, dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]]:
    """Frame of reference and named lines (entry, tip) of a Spatial Fiducials file.

    Raises :class:`FormatError` for another kind of file.
    """
    import pydicom

    try:
        ds: Any = pydicom.dcmread(path)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise FormatError(f"{path} is not a DICOM file: {error}.") from error
    if ds.get("SOPClassUID") != SPATIAL_FIDUCIALS:
        raise FormatError(f"{path} holds no Spatial Fiducials but {ds.get('SOPClassUID')}.")
    group = ds.FiducialSetSequence[0]
    lines = {}
    for item in group.FiducialSequence:
        if item.ShapeType == "LINE":
            points = np.array([float(v) for v in item.ContourData]).reshape(-1, 3)
            name = str(item.FiducialDescription).removesuffix(": entry, tip")
            lines[name] = (points[0], points[1])
    return str(group.FrameOfReferenceUID), lines
