"""Hand-made DICOM slices for the reader's tests; independent of the program's own writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"


def data_set(sop_class: str, name: str) -> Any:
    ds = pydicom.Dataset()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    return ds


def write_slice(
    file: Path,
    pixels: np.ndarray,
    position: Any,
    orientation: Any = (1, 0, 0, 0, 1, 0),
    spacing: tuple[float, float] = (1.0, 1.0),
    big_endian: bool = False,
    **entries: Any,
) -> None:
    """One slice; ``pixels`` (rows, columns) stored values, ``spacing`` between rows, columns."""
    ds = data_set(CT, str(file))
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "SECRET-4711"
    ds.PatientBirthDate = "19550301"
    ds.StudyDate = "20240317"
    ds.SeriesInstanceUID = "1.2.3.4"
    ds.SeriesNumber = 2
    ds.FrameOfReferenceUID = "1.2.3.99"
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelSpacing = [f"{v:.12g}"[:16] for v in spacing]
    ds.ImagePositionPatient = [f"{v:.10g}" for v in position]
    ds.ImageOrientationPatient = [f"{v:.12g}"[:16] for v in orientation]
    ds.SliceThickness = "1"
    ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
    ds.PixelData = pixels.astype(">i2" if big_endian else "<i2").tobytes()
    ds["PixelData"].VR = "OW"
    if big_endian:
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    for key, value in entries.items():
        setattr(ds, key, value)
    ds.save_as(file, enforce_file_format=True)


def write_stack(
    folder: Path,
    data: np.ndarray,
    *,
    origin: Any = (0.0, 0.0, 0.0),
    direction: np.ndarray | None = None,
    spacing: Any = (1.0, 1.0, 1.0),
    positions: np.ndarray | None = None,
    prefix: str = "s",
    **entries: Any,
) -> None:
    """``data`` (columns, rows, slices) as one file a slice; slice k at ``positions[k]``."""
    folder.mkdir(parents=True, exist_ok=True)
    d = np.eye(3) if direction is None else direction
    for k in range(data.shape[2]):
        place = np.array(origin) + d[:, 2] * spacing[2] * k if positions is None else positions[k]
        write_slice(
            folder / f"{prefix}{k:03d}.dcm",
            data[:, :, k].T,
            place,
            (*d[:, 0], *d[:, 1]),
            (spacing[1], spacing[0]),
            InstanceNumber=k + 1,
            **entries,
        )


def write_enhanced(file: Path, data: np.ndarray, origin: Any, direction: np.ndarray,
                   spacing: Any) -> None:  # fmt: skip
    """``data`` (columns, rows, slices) as one Enhanced CT file, frames in reverse order."""
    ds = data_set("1.2.840.10008.5.1.4.1.1.2.1", str(file))
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.SeriesInstanceUID = "1.2.3.5"
    ds.FrameOfReferenceUID = "1.2.3.98"
    ds.Columns, ds.Rows, ds.NumberOfFrames = data.shape

    def item(**entries: Any) -> pydicom.Dataset:
        one = pydicom.Dataset()
        for key, value in entries.items():
            setattr(one, key, value)
        return one

    ds.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PlaneOrientationSequence=Sequence(
                    [
                        item(
                            ImageOrientationPatient=[
                                f"{v:.10g}" for v in (*direction[:, 0], *direction[:, 1])
                            ]
                        )
                    ]
                ),
                PixelMeasuresSequence=Sequence(
                    [item(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=spacing[2])]
                ),
                PixelValueTransformationSequence=Sequence(
                    [item(RescaleSlope="1", RescaleIntercept="-1000", RescaleType="HU")]
                ),
            )
        ]
    )
    order = range(data.shape[2] - 1, -1, -1)
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [
            item(
                PlanePositionSequence=Sequence(
                    [
                        item(
                            ImagePositionPatient=[
                                f"{v:.10g}"
                                for v in np.array(origin) + direction[:, 2] * spacing[2] * k
                            ]
                        )
                    ]
                )
            )
            for k in order
        ]
    )
    ds.PixelData = b"".join((data[:, :, k].T + 1000).astype("<i2").tobytes() for k in order)
    ds.save_as(file, enforce_file_format=True)


HTJ2K = (
    "|4;u>04YEK0000C0000A00000000000000C0000A000000000000EBy0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9"
    "?kdTm&kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000Y5)QMlfVEa9|4DS006)M6F>kGfUf=mhja"
    "j>0S9ydzyK3K01<%q{QwJe0083vzyK9600dybfq{XK;fr<v6cYfz04pE>6<|iA(P;eKLOO8*cK}jKDdqGG-^sqW0RPz"
)
"""One slice of 12 columns and 10 rows, 100 i + 10 j - 600, as base85 of an HTJ2K stream by OpenJPH."""


def recode(file: Path, syntax: str) -> None:
    """Write a slice again in another transfer syntax; pixels stay what they are."""
    import base64

    import SimpleITK as sitk
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    ds = pydicom.dcmread(file)
    shape = (ds.Rows, ds.Columns)
    by_itk = {
        "1.2.840.10008.1.2.4.57": "JPEG",
        "1.2.840.10008.1.2.4.70": "JPEG",
        "1.2.840.10008.1.2.4.90": "JPEG2000",
    }
    if syntax in by_itk:
        plane = np.frombuffer(ds.PixelData, "<i2").reshape(1, *shape)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor(by_itk[syntax])
        other = file.with_suffix(".jpg.dcm")
        writer.SetFileName(str(other))
        writer.Execute(sitk.GetImageFromArray(plane))
        coded = pydicom.dcmread(other)
        assert coded.file_meta.TransferSyntaxUID in (syntax, "1.2.840.10008.1.2.4.70")
        other.unlink()
        ds.PixelData = coded.PixelData
    elif syntax.startswith("1.2.840.10008.1.2.4.20"):
        ds.PixelData = encapsulate([base64.b85decode(HTJ2K)])
    elif syntax.startswith("1.2.840.10008.1.2.4") or syntax == "1.2.840.10008.1.2.5":
        ds.compress(UID(syntax))
        ds.save_as(file)
        return
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax.startswith("1.2.840.10008.1.2.4"):
        ds["PixelData"].is_undefined_length = True
        ds["PixelData"].VR = "OB"
        ds.save_as(file, enforce_file_format=True)
        return
    ds.save_as(file, enforce_file_format=True)


def write_dicomdir(file: Path, names: list[list[str]]) -> None:
    """A directory file that refers to ``names`` (lists of path components)."""
    ds = pydicom.Dataset()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    meta.MediaStorageSOPInstanceUID = "1.2.3.77"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    ds.FileSetID = "SECRETDISC"
    records = [pydicom.Dataset()]
    records[0].DirectoryRecordType = "PATIENT"
    records[0].PatientName = "Doe^Jane"
    for name in names:
        record = pydicom.Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = name
        records.append(record)
    ds.DirectoryRecordSequence = Sequence(records)
    ds.save_as(file, enforce_file_format=True)
