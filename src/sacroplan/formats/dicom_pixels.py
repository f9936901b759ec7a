"""Stored pixel values of a DICOM image, whatever its compression.

Uncompressed and RLE data are decoded by pydicom. JPEG, lossless JPEG, JPEG-LS and JPEG 2000 go
through GDCM, which comes inside SimpleITK: the compressed stream is wrapped in a minimal file of
our own, so that a defective header cannot mislead the decoder, and no rescaling takes place.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import FormatError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LOSSY = frozenset(
    {
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.91",
    }
)
"""Transfer syntaxes that may have changed the grey values: JPEG baseline and extended,
near-lossless JPEG-LS, JPEG 2000. The last can also hold lossless data; its header tells."""

_NEEDS_GDCM = "1.2.840.10008.1.2.4."
"""Prefix of all JPEG family transfer syntaxes."""

PIXEL_ERRORS = (
    ValueError, KeyError, AttributeError, TypeError, NotImplementedError, RuntimeError,
    EOFError, OSError, IndexError,
)  # fmt: skip
"""What pydicom and GDCM raise on damaged pixel data."""


def stored_values(ds: Dataset, path: Path) -> npt.NDArray[Any]:
    """(frames, rows, columns) stored values, before rescaling.

    Raises
    ------
    FormatError : the pixel data are missing, cut short, coloured, or cannot be decoded.
    """
    if int(ds.get("SamplesPerPixel", 1) or 1) != 1:
        raise FormatError(f"{path} is a colour image, not a CT slice.")
    if "PixelData" not in ds:
        raise FormatError(f"{path} holds no pixel data.")
    rows, columns = int(ds.Rows), int(ds.Columns)
    frames = int(ds.get("NumberOfFrames", 1) or 1)
    try:
        if str(ds.file_meta.get("TransferSyntaxUID", "")).startswith(_NEEDS_GDCM):
            values = _by_gdcm(ds, frames)
        else:
            values = np.asarray(ds.pixel_array)
        return values.reshape(frames, rows, columns)
    except PIXEL_ERRORS as error:
        raise FormatError(
            f"{path}: its pixel data are damaged, cut short or in an unknown compression "
            f"({ds.file_meta.get('TransferSyntaxUID', 'no transfer syntax')})."
        ) from error


def _by_gdcm(ds: Dataset, frames: int) -> npt.NDArray[Any]:
    import pydicom
    import SimpleITK as sitk
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import generate_uid

    small = pydicom.Dataset()
    for keyword in (
        "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation",
    ):  # fmt: skip
        small[keyword] = ds[keyword]
    # Multi-frame secondary capture carries any number of frames and no rescale.
    small.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    small.SOPInstanceUID = generate_uid(entropy_srcs=["decode"])
    small.Modality = "OT"
    small.NumberOfFrames = frames
    small["PixelData"] = ds["PixelData"]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = small.SOPClassUID
    meta.MediaStorageSOPInstanceUID = small.SOPInstanceUID
    small.file_meta = meta
    with tempfile.TemporaryDirectory(prefix="sacroplan-") as folder:
        file = Path(folder) / "slice.dcm"
        small.save_as(file, enforce_file_format=True)
        image: Any = sitk.ReadImage(str(file), imageIO="GDCMImageIO")
        return np.asarray(sitk.GetArrayFromImage(image))
