"""Stored pixel values of a DICOM image, whatever its compression.

Uncompressed, deflated and RLE data are decoded by pydicom. JPEG, lossless JPEG, JPEG-LS and JPEG
2000 go through GDCM, which comes inside SimpleITK: the compressed stream is wrapped in a minimal
file of our own, so that a defective header cannot mislead the decoder, and no rescaling takes
place. High-throughput JPEG 2000, which GDCM does not know, goes through pydicom's OpenJPEG plugin.
"""

from __future__ import annotations

import struct
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
        "1.2.840.10008.1.2.4.203",
    }
)
"""Transfer syntaxes that may have changed the grey values: JPEG baseline and extended,
near-lossless JPEG-LS, JPEG 2000, HTJ2K. JPEG 2000 can also hold lossless data; its header tells."""

NATIVE = frozenset(
    {
        "",
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.98",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
    }
)
"""Transfer syntaxes without compression of the pixels."""

_HTJ2K = frozenset(
    {"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"}
)

_JPEG_FAMILY = "1.2.840.10008.1.2.4."
"""Prefix of all JPEG family transfer syntaxes."""

PIXEL_ERRORS = (
    ValueError, KeyError, AttributeError, TypeError, NotImplementedError, RuntimeError,
    EOFError, OSError, IndexError, MemoryError, OverflowError, ArithmeticError, AssertionError,
    struct.error,
)  # fmt: skip
"""What pydicom and GDCM raise on damaged pixel data."""


def stored_values(ds: Dataset, path: Path) -> npt.NDArray[Any]:
    """(frames, rows, columns) stored values, before rescaling.

    Raises
    ------
    FormatError : the pixel data are missing, cut short, coloured, or cannot be decoded.
    """
    from pydicom.uid import UID

    try:
        if int(ds.get("SamplesPerPixel", 1) or 1) != 1:
            raise FormatError(f"{path} is a colour image, not a CT slice.")
        if "PixelData" not in ds:
            raise FormatError(f"{path} holds no pixel data.")
        rows, columns = int(ds.Rows), int(ds.Columns)
        frames = int(ds.get("NumberOfFrames", 1) or 1)
        syntax = str(ds.file_meta.get("TransferSyntaxUID", "") or "")
        if not syntax:
            # A bare data set: it was read with the encoding that its first entries show.
            implicit, little = ds.original_encoding
            explicit = "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
            ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2" if implicit else explicit)
        if syntax in NATIVE:
            _enough(ds, rows * columns * frames, path)
            values = _used_bits(np.asarray(ds.pixel_array), ds)
        elif syntax.startswith(_JPEG_FAMILY) and syntax not in _HTJ2K:
            values = _by_gdcm(ds, frames)
        else:
            values = np.asarray(ds.pixel_array)
        return values.reshape(frames, rows, columns)
    except PIXEL_ERRORS as error:
        named = syntax_name(ds)
        raise FormatError(
            f"{path}: its pixel data are damaged, cut short or in an unknown compression ({named})."
        ) from error


def syntax_name(ds: Any) -> str:
    """The transfer syntax of a data set where it is a registered one."""
    from pydicom.uid import UID

    text = str(getattr(ds, "file_meta", {}).get("TransferSyntaxUID", "") or "")
    known = UID(text) if text else None
    if known is None:
        return "no transfer syntax"
    return str(known.name) if known.name != text else "unregistered transfer syntax"


def _enough(ds: Any, count: int, path: Path) -> None:
    """Refuse a header that promises more pixels than the file holds, before room is made for them."""
    need = count * int(ds.BitsAllocated) // 8
    there = len(ds.PixelData)
    if there < need:
        raise FormatError(
            f"{path}: its pixel data are damaged or cut short: {there} bytes, {need} are needed."
        )


def _used_bits(values: npt.NDArray[Any], ds: Any) -> npt.NDArray[Any]:
    """Values without what older files keep in the unused high bits, sign extended."""
    allocated, stored = int(ds.BitsAllocated), int(ds.BitsStored)
    if values.dtype.kind not in "iu" or not 0 < stored < allocated:
        return values
    high = int(ds.get("HighBit", stored - 1))
    left = allocated - 1 - high
    if not 0 <= left <= allocated - stored:
        return values
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return np.asarray((native << left) >> (allocated - stored))


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
