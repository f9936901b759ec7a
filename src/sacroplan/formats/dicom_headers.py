"""Headers of DICOM files, as far as a volume needs them. Never a name, an identifier, a birth date."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sacroplan.errors import FormatError
from sacroplan.formats import dicom_words as words
from sacroplan.formats.dicom_pixels import LOSSY
from sacroplan.geometry.frames import FloatArray

SKEW_TOLERANCE = 2e-3
"""Image axes whose length or right angle is off by more are damaged, not rounded: three decimals
of a direction cosine leave at most half of this."""

ROUNDED_AXES = 4e-5
"""Image axes off by more move a point 250 mm away by more than 0.01 mm: worth a doubt."""

MAX_MATRIX = 4096
"""Rows or columns of a slice; CT and MRI reconstruct at most 2048."""

MAX_FRAMES = 20_000
"""Frames of one file."""

MIN_PIXEL_MM, MAX_PIXEL_MM = 0.02, 25.0
"""Pixels outside are not of a patient: micro-CT below, a damaged header above."""

MAX_POSITION_MM = 20_000.0
"""Scanner tables are two metres long; positions farther away are damaged."""

MAX_INFLATED_BYTES = 4 * 2**30
"""A deflated data set that grows beyond this is refused before it fills the memory."""

HEADER_ERRORS = (
    ValueError, KeyError, AttributeError, TypeError, NotImplementedError, EOFError, OSError,
    IndexError, struct.error, RecursionError, MemoryError, OverflowError, ArithmeticError,
    zlib.error, AssertionError, LookupError,
)  # fmt: skip
"""What pydicom raises on damaged headers."""

DEFLATED = "1.2.840.10008.1.2.1.99"

_CT = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
_LEGACY_CT = "1.2.840.10008.5.1.4.1.1.2.2"
_NO_VOLUME = {"LOCALIZER", "SCOUT", "PROJECTION IMAGE", "PERFUSION", "DOSE_INFO", "SCREEN SAVE"}
_KINDS = {
    "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "REFORMATTED", "MPR", "MIP", "MINIP",
    "MAX_IP", "MIN_IP", "AVERAGE", "VOLUME", *_NO_VOLUME,
}  # fmt: skip

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "Rows", "Columns", "PixelSpacing",
    "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient", "GantryDetectorTilt",
    "KVP", "ConvolutionKernel", "Manufacturer", "ManufacturerModelName", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "StudyInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "FrameOfReferenceUID",
    "AcquisitionNumber", "AcquisitionDate", "SeriesDate", "StudyDate", "AcquisitionDateTime",
    "NumberOfFrames", "PatientPosition", "ContrastBolusAgent", "PixelPaddingValue",
    "SamplesPerPixel", "PhotometricInterpretation", "LossyImageCompression",
    "TemporalPositionIdentifier", "BurnedInAnnotation", "DirectoryRecordSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """Header of one CT slice: a file, or one frame of a multi-frame file. Lengths mm, LPS.

    Texts have passed the gate of :mod:`.dicom_words`; ``series_key`` and ``study_key`` tell series
    and studies apart even where their identifiers were blanked or replaced by other texts.
    """

    path: Path
    frame_index: int
    sop_uid: str
    series_uid: str
    frame_uid: str
    rows: int
    columns: int
    spacing: tuple[float, float]  # between rows, between columns
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    slope: float
    intercept: float
    thickness_mm: float | None
    kvp: float | None
    kernel: str
    model: str
    description: str
    series_number: str
    acquisition: str
    acquired: str
    contrast: str
    patient_position: str
    image_type: tuple[str, ...]
    padding: int | None
    tilt_deg: float
    lossy: bool
    modality: str
    study_uid: str = ""
    sop_class_uid: str = ""
    series_key: str = ""
    study_key: str = ""
    rescaled: bool = True
    burned_in: bool = False

    @property
    def normal(self) -> FloatArray:
        """(3,) unit normal of the slice plane."""
        o = np.array(self.orientation)
        n = np.cross(o[:3], o[3:])
        return np.asarray(n / np.linalg.norm(n))

    @property
    def axis(self) -> int:
        """LPS axis nearest to the normal."""
        return int(np.argmax(np.abs(self.normal)))

    @property
    def is_axial(self) -> bool:
        """Whether the slice looks along the table: the normal is nearest to LPS z."""
        return self.axis == 2

    @property
    def place(self) -> str:
        """Where the slice lies, in words: ``z = 12.0``."""
        return f"{'xyz'[self.axis]} = {self.position[self.axis]:.1f}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from telling header values to the console, the log or an error of its own.

    Its errors become a ValueError, which :data:`HEADER_ERRORS` and PIXEL_ERRORS know.
    """
    from pydicom.config import disable_value_validation
    from pydicom.errors import BytesLengthException, InvalidDicomError

    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        # Anonymisers write UIDs that are none; that harms nothing here.
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except (BytesLengthException, InvalidDicomError) as error:
        raise ValueError("a damaged DICOM header") from error
    finally:
        log.setLevel(level)


def is_dicom(path: Path) -> bool:
    """Whether the file begins like DICOM, with or without its 128-byte preamble."""
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError:
        return False
    return head[128:132] == b"DICM" or head[:4] in (b"\x08\x00\x05\x00", b"\x08\x00\x08\x00",
                                                    b"\x08\x00\x16\x00", b"\x08\x00\x00\x00",
                                                    b"\x02\x00\x00\x00")  # fmt: skip


def read_header(path: Path, pixels: bool = False) -> Any:
    """The pydicom data set of a file; raises :class:`FormatError` when it is not readable DICOM."""
    import pydicom

    try:
        with quiet():
            _refuse_deflate_bomb(path)
            if pixels:
                return pydicom.dcmread(path, force=True)
            return pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True
            )
    except HEADER_ERRORS as error:
        raise FormatError(f"{path} is not a readable DICOM file.") from error


def _refuse_deflate_bomb(path: Path) -> None:
    """pydicom inflates a deflated data set without a limit: look how far it would go."""
    with path.open("rb") as stream:
        head = stream.read(4096)
        at = head.find(DEFLATED.encode())
        group = head.find(b"\x02\x00\x00\x00UL\x04\x00", 128, 200)
        if at < 0 or group < 0:
            return
        stream.seek(group + 12 + struct.unpack_from("<I", head, group + 8)[0])
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        size = 0
        while chunk := inflate.unconsumed_tail or stream.read(1 << 16):
            size += len(inflate.decompress(chunk, 1 << 22))
            if size > MAX_INFLATED_BYTES:
                raise FormatError(f"{path} unpacks to more than any CT holds; it may be a bomb.")
            if inflate.eof:
                return


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if value is None or str(value).strip() == "":
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def _floats(value: Any, n: int) -> tuple[float, ...] | None:
    if value is None or isinstance(value, str):
        return None
    try:
        numbers = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == n and bool(np.all(np.isfinite(numbers))) else None


def _whole(value: Any) -> int | None:
    try:
        return None if value is None or value == "" else int(value)
    except (TypeError, ValueError):
        return None


def frames_of(ds: Any) -> int:
    """Number of frames a header states, 1 where it states none."""
    return _whole(ds.get("NumberOfFrames")) or 1


class _FrameView:
    """Reads an entry from a frame's functional groups, else from the data set itself."""

    _HOME: ClassVar[dict[str, str]] = {
        "PixelSpacing": "PixelMeasuresSequence",
        "SliceThickness": "PixelMeasuresSequence",
        "ImageOrientationPatient": "PlaneOrientationSequence",
        "ImagePositionPatient": "PlanePositionSequence",
        "RescaleSlope": "PixelValueTransformationSequence",
        "RescaleIntercept": "PixelValueTransformationSequence",
        "RescaleType": "PixelValueTransformationSequence",
        "ConvolutionKernel": "CTReconstructionSequence",
        "KVP": "CTXRayDetailsSequence",
        "FrameType": "CTImageFrameTypeSequence",
        "TemporalPositionIndex": "FrameContentSequence",
    }

    def __init__(self, ds: Any, index: int) -> None:
        self._ds = ds
        self._groups = []
        per_frame = ds.get("PerFrameFunctionalGroupsSequence")
        if per_frame is not None and index < len(per_frame):
            self._groups.append(per_frame[index])
        shared = ds.get("SharedFunctionalGroupsSequence")
        if shared is not None and len(shared):
            self._groups.append(shared[0])

    def get(self, keyword: str) -> Any:
        home = self._HOME.get(keyword)
        for group in self._groups if home else []:
            sequence = group.get(home)
            if sequence is not None and len(sequence) and keyword in sequence[0]:
                return sequence[0].get(keyword)
        return self._ds.get(keyword)


def why_not(ds: Any, modality: str) -> str | None:
    """Why a file holds no slice of the wanted modality; None when it may."""
    sop = words.line(ds.get("SOPClassUID"))
    if "DirectoryRecordSequence" in ds or ("SOPClassUID" not in ds and "Rows" not in ds):
        return "DICOM directory"
    found = words.modality(ds.get("Modality"))
    if found != modality:
        return f"modality {found}"
    if modality == "CT" and sop not in ("", _CT, _ENHANCED_CT, _LEGACY_CT):
        return "screen capture or report"
    kinds = {str(v).upper() for v in (ds.get("ImageType") or [])}
    if kinds & _NO_VOLUME:
        return sorted(kinds & _NO_VOLUME)[0].lower()
    if (_whole(ds.get("SamplesPerPixel")) or 1) != 1:
        return "colour image"
    if words.line(ds.get("PhotometricInterpretation")) not in ("", "MONOCHROME1", "MONOCHROME2"):
        return "colour image"
    if words.line(ds.get("RescaleType")) not in ("", "HU", "HU_MOD", "US"):
        return "values not in HU"
    if "ModalityLUTSequence" in ds:
        return "values behind a lookup table"
    return None


def slices_of(path: Path, ds: Any) -> list[Slice] | str:
    """Slices in one file, or in words why it holds none."""
    frames = frames_of(ds)
    rows, columns = _whole(ds.get("Rows")) or 0, _whole(ds.get("Columns")) or 0
    if not (0 < rows <= MAX_MATRIX and 0 < columns <= MAX_MATRIX):
        return "impossible image size"
    if not 0 < frames <= MAX_FRAMES:
        return "impossible number of frames"
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    if frames > 1 and (per_frame is None or len(per_frame) != frames):
        return "frames without positions"
    out = []
    for index in range(frames):
        found = _slice(path, ds, index, rows, columns)
        if isinstance(found, str):
            return found
        if not set(found.image_type) & _NO_VOLUME:
            out.append(found)
    return out or "localizer"


def _slice(path: Path, ds: Any, index: int, rows: int, columns: int) -> Slice | str:
    view = _FrameView(ds, index)
    spacing = _floats(view.get("PixelSpacing"), 2)
    orientation = _floats(view.get("ImageOrientationPatient"), 6)
    position = _floats(view.get("ImagePositionPatient"), 3)
    if spacing is None:
        return "pixel spacing missing"
    if not MIN_PIXEL_MM <= min(spacing) <= max(spacing) <= MAX_PIXEL_MM:
        return "impossible pixel spacing"
    if orientation is None or position is None:
        return "position or orientation missing"
    if max(abs(v) for v in position) > MAX_POSITION_MM:
        return "impossible position"
    if skew(orientation) > SKEW_TOLERANCE:
        return "image axes not at right angles"
    slope, intercept = number(view.get("RescaleSlope")), number(view.get("RescaleIntercept"))
    if slope == 0:
        return "rescale slope of zero"
    syntax = str(getattr(ds, "file_meta", {}).get("TransferSyntaxUID", ""))
    lossy = words.line(ds.get("LossyImageCompression"))
    kinds = [str(v).upper() for v in (view.get("FrameType") or ds.get("ImageType") or [])]
    raw_series = words.line(ds.get("SeriesInstanceUID")) or str(path.parent)
    raw_frame = words.line(ds.get("FrameOfReferenceUID"))
    phase = (
        words.line(ds.get("AcquisitionNumber")),
        words.line(view.get("TemporalPositionIndex") or ds.get("TemporalPositionIdentifier")),
    )
    return Slice(
        path=path,
        frame_index=index,
        sop_uid=words.uid(ds.get("SOPInstanceUID")),
        series_uid=words.uid(ds.get("SeriesInstanceUID")),
        frame_uid=words.uid(raw_frame),
        rows=rows,
        columns=columns,
        spacing=(spacing[0], spacing[1]),
        orientation=orientation,
        position=position,
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
        thickness_mm=number(view.get("SliceThickness")) or None,
        kvp=number(view.get("KVP")) or None,
        kernel=words.kernel(view.get("ConvolutionKernel")),
        model=words.model(ds.get("Manufacturer"), ds.get("ManufacturerModelName")),
        description=words.description(ds.get("SeriesDescription")),
        series_number=words.short_number(ds.get("SeriesNumber")),
        acquisition=_sortable(phase),
        acquired=words.month(
            *(
                ds.get(k)
                for k in ("AcquisitionDate", "AcquisitionDateTime", "SeriesDate", "StudyDate")
            )
        ),
        contrast=words.contrast(ds.get("ContrastBolusAgent")),
        patient_position=words.position(ds.get("PatientPosition")),
        image_type=tuple(k for k in kinds if k in _KINDS),
        padding=_whole(ds.get("PixelPaddingValue")),
        tilt_deg=number(ds.get("GantryDetectorTilt")) or 0.0,
        lossy=lossy == "01" or (syntax in LOSSY and lossy != "00" and not syntax.endswith("91")),
        modality=words.modality(ds.get("Modality")),
        study_uid=words.uid(ds.get("StudyInstanceUID")),
        sop_class_uid=words.uid(ds.get("SOPClassUID")),
        series_key=words.key(raw_series, raw_frame),
        study_key=words.key(ds.get("StudyInstanceUID")),
        rescaled=slope is not None and intercept is not None,
        burned_in=words.line(ds.get("BurnedInAnnotation")).upper() == "YES",
    )


def _sortable(phase: tuple[str, str]) -> str:
    """Acquisition and phase as one key whose order is that of the numbers; no text of the header."""
    return "/".join(p.zfill(6) if p.isdigit() and len(p) <= 6 else words.key(p) if p else ""
                    for p in phase)  # fmt: skip


def skew(orientation: tuple[float, ...]) -> float:
    """How far two image axes are from unit length and a right angle."""
    x, y = np.array(orientation[:3]), np.array(orientation[3:])
    return float(max(abs(np.linalg.norm(x) - 1), abs(np.linalg.norm(y) - 1), abs(x @ y)))
