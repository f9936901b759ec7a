"""A true DICOM CT series out: for viewers, PACS tests and planning stations."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from sacroplan import __version__
from sacroplan.banner import BANNER
from sacroplan.errors import FormatError
from sacroplan.formats.atomic import replaced_folder
from sacroplan.geometry.volume import Volume

_CT_STORAGE = UID("1.2.840.10008.5.1.4.1.1.2")
_EXPLICIT_LITTLE = UID("1.2.840.10008.1.2.1")
_UID = re.compile(r"^[0-2](\.(0|[1-9]\d*))+$")


def derived_uid(*words: object) -> UID:
    """A valid UID that depends on nothing but ``words`` (UUID root 2.25, 128 bits of SHA-256)."""
    digest = hashlib.sha256("\x1f".join(str(w) for w in words).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _ds(value: float) -> str:
    """Decimal string of at most 16 characters, as exact as they allow."""
    for digits in range(15, 4, -1):
        text = f"{float(value) + 0.0:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{float(value):.9f}"[:16]


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
) -> Path:
    """Write ``volume`` (canonical, HU) as a DICOM CT series, one file a slice along k.

    The only identity in the files is ``case_id``; there are no dates, and UIDs follow from
    ``case_id``, ``seed``, the grid and the voxels, so that the same input gives the same bytes.
    A frame that is a UID is kept as FrameOfReferenceUID. Floats are rounded to whole HU.

    Raises
    ------
    FormatError : HU beyond int16, an unusable case id, a left-handed grid, or a failed write.
    """
    g = volume.geometry
    if not case_id.strip() or len(case_id) > 60 or re.search(r"[\\^=\x00-\x1f]", case_id):
        raise FormatError(f"{case_id!r} cannot be a DICOM case id: 1 to 60 plain characters.")
    if float(np.linalg.det(g.direction)) < 0:
        raise FormatError("The image grid is left-handed; DICOM needs i x j = k.")
    hu = np.rint(volume.data) if volume.data.dtype.kind == "f" else volume.data
    if not np.all(np.isfinite(hu)) or hu.min() < -32768 or hu.max() > 32767:
        raise FormatError(
            "The image has values outside -32768 to 32767 HU; DICOM CT holds 16 bits."
        )
    stored = np.ascontiguousarray(hu.astype("<i2").transpose(2, 1, 0))
    content = hashlib.sha256(stored.tobytes()).hexdigest()
    root = (case_id, seed, g.describe(), g.affine.tobytes().hex(), content)
    study = derived_uid("study", case_id, seed)
    series = derived_uid("series", *root)
    valid = len(g.frame) <= 64 and _UID.match(g.frame)
    frame = g.frame if valid else derived_uid("frame", case_id, seed, g.frame)
    x, y = g.direction[:, 0], g.direction[:, 1]
    with replaced_folder(folder) as target:
        for k in range(g.shape[2]):
            ds: Any = pydicom.Dataset()
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = _CT_STORAGE
            meta.MediaStorageSOPInstanceUID = derived_uid("slice", k, *root)
            meta.TransferSyntaxUID = _EXPLICIT_LITTLE
            meta.ImplementationClassUID = derived_uid("sacroplan")
            ds.file_meta = meta
            ds.SpecificCharacterSet = "ISO_IR 192"
            ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
            ds.SOPClassUID = _CT_STORAGE
            ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
            for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
                            "PatientBirthDate", "PatientSex", "PositionReferenceIndicator",
                            "AcquisitionNumber"):  # fmt: skip
                setattr(ds, keyword, None if keyword == "AcquisitionNumber" else "")
            ds.Modality = "CT"
            ds.Manufacturer = "sacroplan"
            ds.SoftwareVersions = __version__
            ds.StudyDescription = "RESEARCH ONLY, NOT A MEDICAL DEVICE"
            ds.SeriesDescription = description[:64]
            ds.PatientName = case_id
            ds.PatientID = case_id
            ds.PatientIdentityRemoved = "YES"
            ds.DeidentificationMethod = "No identity was known when this file was written"
            ds.KVP = "" if kvp is None else _ds(kvp)
            ds.SliceThickness = _ds(g.spacing_mm[2] if slice_thickness_mm is None
                                    else slice_thickness_mm)  # fmt: skip
            ds.SpacingBetweenSlices = _ds(g.spacing_mm[2])
            if kernel:
                ds.ConvolutionKernel = kernel
            ds.PatientPosition = patient_position
            ds.StudyInstanceUID = study
            ds.SeriesInstanceUID = series
            ds.StudyID = "1"
            ds.SeriesNumber = 1
            ds.InstanceNumber = k + 1
            ds.ImagePositionPatient = [_ds(v) for v in g.to_world([0, 0, k])]
            ds.ImageOrientationPatient = [_ds(v) for v in (*x, *y)]
            ds.FrameOfReferenceUID = frame
            ds.ImageComments = BANNER
            ds.SamplesPerPixel = 1
            ds.PhotometricInterpretation = "MONOCHROME2"
            ds.Rows, ds.Columns = g.shape[1], g.shape[0]
            ds.PixelSpacing = [_ds(g.spacing_mm[1]), _ds(g.spacing_mm[0])]
            ds.BitsAllocated = ds.BitsStored = 16
            ds.HighBit = 15
            ds.PixelRepresentation = 1
            ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
            ds.WindowCenter, ds.WindowWidth = "300", "1500"
            ds.PixelData = stored[k].tobytes()
            ds["PixelData"].VR = "OW"
            ds.save_as(target / f"CT{k + 1:05d}.dcm", enforce_file_format=True)
    return Path(folder)
