"""Encapsulated STL: a surface as a DICOM file in the frame of reference of its CT."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from sacroplan.banner import BANNER, BANNER_SHORT
from sacroplan.errors import FormatError
from sacroplan.formats.atomic import write_bytes
from sacroplan.formats.dicom_out import LONG_STRING, check_case_id, derived_uid, new_data_set
from sacroplan.formats.dicom_source import DicomSource, check_frame
from sacroplan.formats.stl import stl_bytes
from sacroplan.geometry.surface import Surface

ENCAPSULATED_STL = "1.2.840.10008.5.1.4.1.1.104.3"
"""SOP class of Encapsulated STL Storage."""

SERIES_NUMBER = 902
"""Above what scanners number, below the 1000s that some viewers hide."""


def code_item(value: str, scheme: str, meaning: str) -> Any:
    """One item of a DICOM code sequence."""
    import pydicom

    item: Any = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def instance_items(source: DicomSource) -> list[Any]:
    """One reference a file of the CT, in slice order."""
    import pydicom

    items = []
    for uid in dict.fromkeys(source.sop_uids):
        item: Any = pydicom.Dataset()
        item.ReferencedSOPClassUID = source.sop_class_uid
        item.ReferencedSOPInstanceUID = uid
        items.append(item)
    return items


def write_encapsulated_stl(
    surface: Surface,
    path: str | os.PathLike[str],
    name: str,
    *,
    source: DicomSource,
    case_id: str,
    modified: bool = False,
    instance_number: int = 1,
    colour: Sequence[float] | None = None,
) -> None:
    """Write ``surface`` as Encapsulated STL (binary STL inside, LPS mm); same input, same bytes.

    Parameters
    ----------
    source : the CT it was made from; the file joins its study and names its slices.
    modified : whether the shape differs from the patient's anatomy (a cut bone, an implant).
    colour : red, green, blue in 0..1 in which viewers should show it.

    Raises
    ------
    FormatError : empty surface, another frame of reference than the CT's, or a failed write.
    """
    import pydicom
    from pydicom.sequence import Sequence as Items

    check_case_id(case_id)
    check_frame(surface.frame, source, f"The surface of {name!r}")
    if not len(surface.faces):
        raise FormatError(f"The surface of {name!r} has no triangle to write.")
    body = stl_bytes(surface, name)
    root = (case_id, source.series_uid, name, hashlib.sha256(body).hexdigest())
    ds = new_data_set(
        ENCAPSULATED_STL,
        derived_uid("stl", *root),
        case_id=case_id,
        study_uid=source.study_uid,
        series_uid=derived_uid("stl series", case_id, source.series_uid),
        frame_uid=source.frame_uid,
        modality="M3D",
        series_number=SERIES_NUMBER,
        instance_number=instance_number,
        description=f"{BANNER_SHORT}: surfaces",
    )
    for keyword in ("ContentDate", "ContentTime", "AcquisitionDateTime"):
        setattr(ds, keyword, "")
    ds.BurnedInAnnotation = "NO"
    ds.RecognizableVisualFeatures = "NO"
    ds.SourceInstanceSequence = Items(instance_items(source))
    ds.DocumentTitle = f"{name.replace('_', ' ')}. {BANNER}"
    ds.ConceptNameCodeSequence = Items([code_item("85040-4", "LN", "CT 3D CAM model")])
    ds.MIMETypeOfEncapsulatedDocument = "model/stl"
    ds.EncapsulatedDocumentLength = len(body)
    ds.EncapsulatedDocument = body + b"\0" * (len(body) % 2)
    ds["EncapsulatedDocument"].VR = "OB"
    ds.MeasurementUnitsCodeSequence = Items([code_item("mm", "UCUM", "mm")])
    ds.ModelModification = "YES" if modified else "NO"
    ds.ModelMirroring = "NO"
    # Never "implant fabrication": no output of this program is a design release.
    ds.ModelUsageCodeSequence = Items([code_item("129013", "DCM", "Planning Intent")])
    ds.ContentDescription = f"{name}: {BANNER_SHORT}"[:LONG_STRING]
    ds.ModelGroupUID = derived_uid("models", case_id, source.series_uid)
    if colour is not None:
        from highdicom.color import CIELabColor

        lab = CIELabColor.from_rgb(*(round(255 * c) for c in colour))
        ds.RecommendedDisplayCIELabValue = list(lab.value)
    series: Any = pydicom.Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = Items(instance_items(source))
    ds.ReferencedSeriesSequence = Items([series])
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    write_bytes(path, stream.getvalue())
