"""DICOM out: a true CT series, and what every other DICOM file of this program shares with it.

No file carries a name, a number or a date of a person: the only identity is the case id. UIDs
follow from the content, so that the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from sacroplan import __version__
from sacroplan.banner import BANNER, BANNER_SHORT
from sacroplan.errors import FormatError
from sacroplan.formats.atomic import replaced_folder
from sacroplan.formats.dicom_source import DicomSource, is_uid
from sacroplan.geometry.volume import Volume

_CT_STORAGE = UID("1.2.840.10008.5.1.4.1.1.2")
_EXPLICIT_LITTLE = UID("1.2.840.10008.1.2.1")

LONG_STRING = 64
"""Characters in a DICOM long string (LO), of which descriptions are made."""


def derived_uid(*words: object) -> UID:
    """A valid UID that depends on nothing but ``words`` (UUID root 2.25, 128 bits of SHA-256)."""
    digest = hashlib.sha256("\x1f".join(str(w) for w in words).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def decimal_string(value: float) -> str:
    """Decimal string of at most 16 characters, as exact as they allow."""
    for digits in range(15, 4, -1):
        text = f"{float(value) + 0.0:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{float(value):.9f}"[:16]


def check_case_id(case_id: str) -> None:
    """Raise :class:`FormatError` for a case id that no DICOM entry can hold."""
    if not case_id.strip() or len(case_id) > 60 or re.search(r"[\\^=\x00-\x1f]", case_id):
        raise FormatError(f"{case_id!r} cannot be a DICOM case id: 1 to 60 plain characters.")


def new_data_set(
    sop_class: str,
    sop_uid: str,
    *,
    case_id: str,
    study_uid: str,
    series_uid: str,
    frame_uid: str,
    modality: str,
    series_number: int,
    instance_number: int,
    description: str,
) -> Any:
    """A pydicom data set with what every file needs: patient, study, series, equipment, frame."""
    ds: Any = pydicom.Dataset()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    meta.TransferSyntaxUID = _EXPLICIT_LITTLE
    meta.ImplementationClassUID = derived_uid("sacroplan")
    ds.file_meta = meta
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
                    "PatientBirthDate", "PatientSex", "PositionReferenceIndicator"):  # fmt: skip
        setattr(ds, keyword, "")
    ds.Modality = modality
    ds.Manufacturer = "sacroplan"
    ds.ManufacturerModelName = "sacroplan"
    ds.DeviceSerialNumber = "none"
    ds.SoftwareVersions = __version__
    ds.SeriesDescription = description[:LONG_STRING]
    ds.PatientName = case_id
    ds.PatientID = case_id
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "No identity was known when this file was written"
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = series_uid
    ds.StudyID = "1"
    ds.SeriesNumber = series_number
    ds.InstanceNumber = instance_number
    ds.FrameOfReferenceUID = frame_uid
    return ds


def _stored(volume: Volume) -> npt.NDArray[np.int16]:
    """(slices, rows, columns) little-endian HU; raises where they do not fit."""
    hu = np.rint(volume.data) if volume.data.dtype.kind == "f" else volume.data
    if not np.all(np.isfinite(hu)) or hu.min() < -32768 or hu.max() > 32767:
        raise FormatError(
            "The image has values outside -32768 to 32767 HU; DICOM CT holds 16 bits."
        )
    return np.ascontiguousarray(hu.astype("<i2").transpose(2, 1, 0))


def ct_source(volume: Volume, case_id: str, seed: str = "") -> DicomSource:
    """What the slices of :func:`write_ct_series` are called; raises as that does."""
    return _source(volume, _stored(volume), case_id, seed)


def _source(volume: Volume, stored: npt.NDArray[np.int16], case_id: str, seed: str) -> DicomSource:
    check_case_id(case_id)
    g = volume.geometry
    content = hashlib.sha256(stored.tobytes()).hexdigest()
    root = (case_id, seed, g.describe(), g.affine.tobytes().hex(), content)
    n = g.shape[2]
    return DicomSource(
        derived_uid("study", case_id, seed),
        derived_uid("series", *root),
        g.frame if is_uid(g.frame) else derived_uid("frame", case_id, seed, g.frame),
        _CT_STORAGE,
        tuple(derived_uid("slice", k, *root) for k in range(n)),
        (0,) * n,
        g.to_world(np.column_stack([np.zeros((n, 2)), np.arange(n)])),
        g.direction[:, :2].T.reshape(6),
        (float(g.spacing_mm[1]), float(g.spacing_mm[0])),
        g.shape[1],
        g.shape[0],
    )


def write_ct_series(
    volume: Volume,
    folder: str | os.PathLike[str],
    *,
    case_id: str,
    seed: str = "",
    description: str = "sacroplan CT",
    slice_thickness_mm: float | None = None,
    kvp: float | None = None,
    kernel: str = "",
    patient_position: str = "HFS",
) -> DicomSource:
    """Write ``volume`` (HU) as a DICOM CT series, one file a slice along k; returns its names.

    The only identity in the files is ``case_id``; there are no dates, and UIDs follow from
    ``case_id``, ``seed``, the grid and the voxels, so that the same input gives the same bytes.
    A frame that is a UID is kept as FrameOfReferenceUID. Floats are rounded to whole HU.

    Raises
    ------
    FormatError : HU beyond int16, an unusable case id, or a failed write.
    """
    g = volume.geometry
    stored = _stored(volume)
    source = _source(volume, stored, case_id, seed)
    with replaced_folder(folder) as target:
        for k, sop_uid in enumerate(source.sop_uids):
            ds = new_data_set(
                _CT_STORAGE, sop_uid, case_id=case_id, study_uid=source.study_uid,
                series_uid=source.series_uid, frame_uid=source.frame_uid, modality="CT",
                series_number=1, instance_number=k + 1, description=description,
            )  # fmt: skip
            ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
            ds.AcquisitionNumber = None
            ds.StudyDescription = BANNER_SHORT
            ds.KVP = "" if kvp is None else decimal_string(kvp)
            ds.SliceThickness = decimal_string(
                g.spacing_mm[2] if slice_thickness_mm is None else slice_thickness_mm
            )
            ds.SpacingBetweenSlices = decimal_string(g.spacing_mm[2])
            if kernel:
                ds.ConvolutionKernel = kernel
            ds.PatientPosition = patient_position
            ds.ImagePositionPatient = [decimal_string(v) for v in source.positions[k]]
            ds.ImageOrientationPatient = [decimal_string(v) for v in source.orientation]
            ds.ImageComments = BANNER
            ds.SamplesPerPixel = 1
            ds.PhotometricInterpretation = "MONOCHROME2"
            ds.Rows, ds.Columns = source.rows, source.columns
            ds.PixelSpacing = [decimal_string(v) for v in source.spacing_mm]
            ds.BitsAllocated = ds.BitsStored = 16
            ds.HighBit = 15
            ds.PixelRepresentation = 1
            ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
            ds.WindowCenter, ds.WindowWidth = "300", "1500"
            ds.PixelData = stored[k].tobytes()
            ds["PixelData"].VR = "OW"
            ds.save_as(target / f"CT{k + 1:05d}.dcm", enforce_file_format=True)
    return source
