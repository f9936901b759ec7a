"""A DICOM folder in, the one CT series that can be planned on out.

The steps are: find every DICOM file, read the few header entries that matter, set aside what is no
CT slice (scouts, reports, dose sheets, segmentations), group the rest into series, choose one,
prove that its slices form a regular stack, and only then read pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, FormatError, ImagingError
from sacroplan.formats.dicom_pixels import LOSSY, stored_values
from sacroplan.formats.images import kind_of
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray
from sacroplan.progress import Progress, part, silent

MIN_SLICES = 3
"""Fewer slices do not show whether their spacing is uniform."""

ORIENTATION_TOLERANCE = 1e-3
"""Slices whose axes differ less are parallel: 0.06 degrees, 0.25 mm over half a 500 mm image.
Header strings with six decimals stay below 1e-5; scanners that round to three stay below this."""

POSITION_TOLERANCE_MM = 0.01
"""Two slices nearer than this lie at the same place."""

TILT_TOLERANCE_DEG = 0.1
"""A stack whose slices slide sideways by less than this is not tilted; the shift over 300 mm is
0.5 mm, and header rounding of table positions stays below."""

AIR_HU = -1024
"""What scanners store outside the reconstructed circle; lower padding values are raised to it."""

HEADER_ERRORS = (
    ValueError, KeyError, AttributeError, TypeError, NotImplementedError, EOFError, OSError,
    IndexError, struct.error, RecursionError, MemoryError,
)  # fmt: skip
"""What pydicom raises on damaged headers."""

_CT = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
_LEGACY_CT = "1.2.840.10008.5.1.4.1.1.2.2"
_NO_VOLUME = {"LOCALIZER", "SCOUT", "PROJECTION IMAGE", "PERFUSION", "DOSE_INFO", "SCREEN SAVE"}

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "Rows", "Columns", "PixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "ImageOrientationPatient", "ImagePositionPatient",
    "GantryDetectorTilt", "KVP", "ConvolutionKernel", "Manufacturer", "ManufacturerModelName",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "StudyInstanceUID", "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription", "FrameOfReferenceUID", "AcquisitionNumber", "AcquisitionDate",
    "SeriesDate", "StudyDate", "AcquisitionDateTime", "InstanceNumber", "NumberOfFrames",
    "PatientPosition", "ContrastBolusAgent", "PixelPaddingValue", "SamplesPerPixel",
    "LossyImageCompression", "PixelRepresentation", "BitsAllocated", "TemporalPositionIdentifier",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "BurnedInAnnotation",
]  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """Header of one CT slice: a file, or one frame of a multi-frame file. Lengths mm, LPS."""

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

    @property
    def normal(self) -> FloatArray:
        """(3,) unit normal of the slice plane."""
        o = np.array(self.orientation)
        return np.asarray(np.cross(o[:3], o[3:]))

    @property
    def is_axial(self) -> bool:
        """Whether the slice looks along the table: the normal is nearest to LPS z."""
        return int(np.argmax(np.abs(self.normal))) == 2


@dataclass(frozen=True)
class Stack:
    """A regular stack of slices, sorted along its direction.

    Attributes
    ----------
    slices : in order.
    spacing_mm : (3,) along columns (x of the slice), rows (y) and slices.
    direction : (3, 3) unit vectors of those axes; the third may be sheared (gantry tilt).
    shear_mm : (2,) sideways step of the slice origin per slice, along x and y of the slice.
    set_aside : what was in the folder and not used, in words.
    doubts : reservations.
    """

    slices: tuple[Slice, ...]
    spacing_mm: FloatArray
    direction: FloatArray
    shear_mm: FloatArray
    set_aside: tuple[str, ...]
    doubts: tuple[Doubt, ...]


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
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        if pixels:
            return pydicom.dcmread(path, force=True)
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
    except (InvalidDicomError, BytesLengthException, *HEADER_ERRORS) as error:
        raise FormatError(f"{path} is not a readable DICOM file.") from error


def _number(value: Any) -> float | None:
    if value is None or str(value).strip() == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _text(value: Any) -> str:
    """One clean line; multi-valued entries joined by a slash (kernel ['Br38f', '3'])."""
    if value is None:
        return ""
    parts = [value] if isinstance(value, (str, bytes, int, float)) else list(value)
    return re.sub(r"\s+", " ", "/".join(str(p) for p in parts)).strip()


def _floats(value: Any, n: int) -> tuple[float, ...] | None:
    if value is None or isinstance(value, str):
        return None
    try:
        numbers = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == n and bool(np.all(np.isfinite(numbers))) else None


def _month(ds: Any) -> str:
    """``YYYY-MM`` of the acquisition; the day is not kept (privacy)."""
    for keyword in ("AcquisitionDate", "AcquisitionDateTime", "SeriesDate", "StudyDate"):
        text = _text(ds.get(keyword)).replace(".", "")
        if re.match(r"^(19|20)\d\d(0[1-9]|1[0-2])", text):
            return f"{text[:4]}-{text[4:6]}"
    return ""


def _groups(ds: Any, index: int) -> list[Any]:
    """Functional groups of one frame, the frame's own before the shared ones."""
    out = []
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    if per_frame is not None and index < len(per_frame):
        out.append(per_frame[index])
    shared = ds.get("SharedFunctionalGroupsSequence")
    if shared is not None and len(shared):
        out.append(shared[0])
    return out


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
    }

    def __init__(self, ds: Any, index: int) -> None:
        self._ds = ds
        self._groups = _groups(ds, index)

    def get(self, keyword: str) -> Any:
        home = self._HOME.get(keyword)
        for group in self._groups if home else []:
            sequence = group.get(home)
            if sequence is not None and len(sequence) and keyword in sequence[0]:
                return sequence[0].get(keyword)
        return self._ds.get(keyword)


def _why_not(ds: Any, modality: str) -> str | None:
    """Why a file holds no slice of the wanted modality; None when it may."""
    sop = _text(ds.get("SOPClassUID"))
    found = _text(ds.get("Modality"))
    if found != modality:
        return f"modality {found or 'missing'}"
    if modality == "CT" and sop not in ("", _CT, _ENHANCED_CT, _LEGACY_CT):
        return "screen capture or report"
    kinds = {str(v).upper() for v in (ds.get("ImageType") or [])}
    if kinds & _NO_VOLUME:
        return sorted(kinds & _NO_VOLUME)[0].lower()
    if int(ds.get("SamplesPerPixel", 1) or 1) != 1:
        return "colour image"
    if _text(ds.get("RescaleType")) not in ("", "HU", "HU_MOD", "US"):
        return f"values in {_text(ds.get('RescaleType'))}, not HU"
    return None


def _slices_of(path: Path, ds: Any) -> list[Slice] | str:
    """Slices in one file, or in words what is missing."""
    padding = ds.get("PixelPaddingValue")
    try:
        padding = None if padding is None or padding == "" else int(padding)
    except (TypeError, ValueError):
        padding = None
    out = []
    for index in range(int(ds.get("NumberOfFrames", 1) or 1)):
        view = _FrameView(ds, index)
        spacing = _floats(view.get("PixelSpacing"), 2)
        orientation = _floats(view.get("ImageOrientationPatient"), 6)
        position = _floats(view.get("ImagePositionPatient"), 3)
        if spacing is None or min(spacing) <= 0:
            return "pixel spacing missing"
        if orientation is None or position is None:
            return "position or orientation missing"
        x, y = np.array(orientation[:3]), np.array(orientation[3:])
        if abs(x @ x - 1) > 1e-2 or abs(y @ y - 1) > 1e-2 or abs(x @ y) > 1e-2:
            return "image axes not at right angles"
        slope = _number(view.get("RescaleSlope"))
        kernel = _text(view.get("ConvolutionKernel"))
        model = f"{_text(ds.get('Manufacturer'))} {_text(ds.get('ManufacturerModelName'))}".strip()
        syntax = str(getattr(ds, "file_meta", {}).get("TransferSyntaxUID", ""))
        lossy_flag = _text(ds.get("LossyImageCompression"))
        out.append(
            Slice(
                path=path,
                frame_index=index,
                sop_uid=_text(ds.get("SOPInstanceUID")),
                series_uid=_text(ds.get("SeriesInstanceUID")),
                frame_uid=_text(ds.get("FrameOfReferenceUID")),
                rows=int(ds.get("Rows", 0) or 0),
                columns=int(ds.get("Columns", 0) or 0),
                spacing=(spacing[0], spacing[1]),
                orientation=orientation,
                position=position,
                slope=1.0 if slope is None or slope == 0 else slope,
                intercept=_number(view.get("RescaleIntercept")) or 0.0,
                thickness_mm=_number(view.get("SliceThickness")) or None,
                kvp=_number(view.get("KVP")) or None,
                kernel=kernel,
                model=model,
                description=_text(ds.get("SeriesDescription")),
                series_number=_text(ds.get("SeriesNumber")),
                acquisition=_text(ds.get("AcquisitionNumber")),
                acquired=_month(ds),
                contrast=_text(ds.get("ContrastBolusAgent")),
                patient_position=_text(ds.get("PatientPosition")),
                image_type=tuple(str(v).upper() for v in (ds.get("ImageType") or [])),
                padding=padding,
                tilt_deg=_number(ds.get("GantryDetectorTilt")) or 0.0,
                lossy=lossy_flag == "01"
                or (syntax in LOSSY and lossy_flag != "00" and not syntax.endswith("91")),
                modality=_text(ds.get("Modality")),
                study_uid=_text(ds.get("StudyInstanceUID")),
                sop_class_uid=_text(ds.get("SOPClassUID")),
            )
        )
    return out


def _files(path: Path) -> Iterator[Path]:
    for file in sorted(path.rglob("*")):
        if file.is_file() and not file.name.startswith(".") and file.name != "DICOMDIR":
            yield file


def _hint(files: Sequence[Path]) -> str:
    """Where a folder holds other image files, the advice to name one."""
    images = [f.name for f in files if kind_of(f) is not None]
    return f"; give one of its image files by name ({', '.join(images[:3])})" if images else ""


def scan(
    path: Path, modality: str = "CT", progress: Progress = silent
) -> tuple[list[Slice], list[str]]:
    """All slices of ``modality`` under a folder (or in one file), and what was set aside.

    Raises
    ------
    FormatError : nothing under the path is DICOM.
    """
    files = [path] if path.is_file() else list(_files(path))
    if not files:
        raise FormatError(f"{path} is an empty folder; expected a DICOM series.")
    slices: list[Slice] = []
    aside: dict[str, int] = {}
    readable = 0
    for n, file in enumerate(files):
        progress(n / len(files), "reading headers")
        if not is_dicom(file):
            continue
        try:
            ds = read_header(file)
            if not len(ds):
                continue
            readable += 1
            reason = "DICOM directory" if "SOPClassUID" not in ds and "Rows" not in ds else None
            reason = reason or _why_not(ds, modality)
            found = reason or _slices_of(file, ds)
        except FormatError:
            found = "unreadable header"
        except HEADER_ERRORS:
            # pydicom decodes entries when they are asked for, so damage may show only here.
            found = "damaged header"
        if isinstance(found, str):
            aside[found] = aside.get(found, 0) + 1
        else:
            slices.extend(found)
    if not readable:
        raise FormatError(
            f"{path} is not DICOM."
            if path.is_file()
            else f"{path} holds {len(files)} files, none of them DICOM{_hint(files)}."
        )
    return slices, [f"{count} x {reason}" for reason, count in sorted(aside.items())]


def _series(slices: Sequence[Slice]) -> list[tuple[Slice, ...]]:
    """Group slices that can belong to one volume; split repeats (phases) of the same positions."""
    groups: dict[tuple[Any, ...], list[Slice]] = {}
    for s in slices:
        axis = int(np.argmax(np.abs(s.normal)))
        # Anonymisers blank the series UID; then the folder is the series.
        series = s.series_uid or str(s.path.parent)
        key = (series, s.frame_uid, s.rows, s.columns, s.spacing, s.kernel, axis)
        groups.setdefault(key, []).append(s)
    out: list[tuple[Slice, ...]] = []
    for members in groups.values():
        unique: dict[tuple[str, int], Slice] = {}
        for s in members:
            unique.setdefault((s.sop_uid or str(s.path), s.frame_index), s)
        members = list(unique.values())
        places = {tuple(np.round(s.position, 2)) for s in members}
        acquisitions = {s.acquisition for s in members}
        if len(places) < len(members) and len(acquisitions) > 1:
            for number in sorted(acquisitions):
                out.append(tuple(s for s in members if s.acquisition == number))
        else:
            out.append(tuple(members))
    return out


def _name(group: Sequence[Slice]) -> str:
    s = group[0]
    words = [f"series {s.series_number or '?'}"]
    if s.description:
        words.append(f"{s.description!r}")
    if s.kernel:
        words.append(f"kernel {s.kernel}")
    return f"{', '.join(words)}, {len(group)} slices"


def _rank(group: Sequence[Slice]) -> tuple[Any, ...]:
    """Axial first, then acquired rather than reformatted, then most slices, then thinnest."""
    s = group[0]
    return (
        not s.is_axial,
        "SECONDARY" in s.image_type,
        -len(group),
        s.thickness_mm if s.thickness_mm is not None else np.inf,
        int(s.series_number) if s.series_number.isdigit() else 0,
        s.series_uid,
        s.kernel,
        s.acquisition,
    )


def choose(
    slices: Sequence[Slice], wanted: str | None, path: Path, aside: Sequence[str], modality: str
) -> tuple[tuple[Slice, ...], list[tuple[Slice, ...]]]:
    """The series to plan on and its rivals; ``wanted`` is a series UID, number or description.

    Raises
    ------
    ImagingError : no series, no such series, or fewer than :data:`MIN_SLICES` slices.
    """
    note = f" (found: {', '.join(aside)})" if aside else ""
    groups = sorted(_series(slices), key=_rank)
    if not groups:
        raise ImagingError(f"{path} holds no {modality} slices{note}.")
    if wanted is not None:
        chosen = [
            g for g in groups if wanted in (g[0].series_uid, g[0].series_number, g[0].description)
        ]
        if not chosen:
            names = "; ".join(_name(g) for g in groups)
            raise ImagingError(f"{path} holds no series {wanted!r}; there are: {names}.")
        groups = chosen
    best = groups[0]
    if len(best) < MIN_SLICES:
        raise ImagingError(
            f"{path} holds no {modality} volume: its largest series has {len(best)} slice"
            f"{'s' if len(best) > 1 else ''}, at least {MIN_SLICES} are needed{note}."
        )
    return best, groups[1:]


def stack(group: Sequence[Slice], path: Path) -> tuple[Stack, int]:
    """Sort slices along their normal and prove that they form one regular stack (CT-06).

    Returns the stack and the number of exact repeats dropped.

    Raises
    ------
    ImagingError : the tilt varies, slices are missing, or their spacing is uneven; the message
        names how many, where, and what was expected.
    """
    label = f"{path} ({_name(group)})"
    orientation = np.array([s.orientation for s in group])
    apart = np.abs(orientation - orientation[0]).max(axis=0).max()
    if apart > ORIENTATION_TOLERANCE:
        normals = np.array([s.normal for s in group])
        angle = np.degrees(np.arccos(np.clip(normals @ normals[0], -1, 1))).max()
        raise ImagingError(
            f"{label}: the slices are not parallel, their tilt varies by up to {angle:.1f} "
            "degrees; a planning CT needs one fixed gantry angle (CT-06)."
        )
    tilts = [s.tilt_deg for s in group]
    if max(tilts) - min(tilts) > TILT_TOLERANCE_DEG:
        raise ImagingError(
            f"{label}: the gantry tilt varies from {min(tilts):g} to {max(tilts):g} degrees; "
            "a planning CT needs one fixed gantry angle (CT-06)."
        )
    mean = orientation.mean(axis=0)
    x = mean[:3] / np.linalg.norm(mean[:3])
    y = mean[3:] - (mean[3:] @ x) * x
    y /= np.linalg.norm(y)
    normal = np.cross(x, y)
    positions = np.array([s.position for s in group])
    along = positions @ normal
    order = np.lexsort((np.arange(len(group)), along))
    kept = [int(order[0])]
    repeats = 0
    for n in order[1:]:
        if np.linalg.norm(positions[n] - positions[kept[-1]]) < POSITION_TOLERANCE_MM:
            if _pixels(group[int(n)]) != _pixels(group[kept[-1]]):
                raise ImagingError(
                    f"{label}: {group[kept[-1]].path.name} and {group[int(n)].path.name} show "
                    "different images of the same place; export one phase or reconstruction only."
                )
            repeats += 1
            continue
        kept.append(int(n))
    if len(kept) < MIN_SLICES:
        raise ImagingError(
            f"{label}: only {len(kept)} different slice positions, "
            f"at least {MIN_SLICES} are needed."
        )
    gaps = np.diff(along[kept])
    typical = float(np.median(gaps))
    _check_gaps(label, group, kept, gaps, typical)
    steps = np.diff(positions[kept], axis=0)
    sideways = steps @ np.stack([x, y], axis=1)
    if np.abs(sideways - sideways.mean(axis=0)).max() > max(0.05 * typical, POSITION_TOLERANCE_MM):
        raise ImagingError(
            f"{label}: the slices are not stacked straight, they slide sideways by "
            f"{sideways.min():.2f} to {sideways.max():.2f} mm from one to the next (CT-06)."
        )
    total = positions[kept[-1]] - positions[kept[0]]
    n = len(kept) - 1
    spacing = float(total @ normal) / n
    shear = np.array([total @ x, total @ y]) / n
    tilt = np.degrees(np.arctan2(np.linalg.norm(shear), spacing))
    if tilt <= TILT_TOLERANCE_DEG:
        shear = np.zeros(2)
    between_rows, between_columns = group[0].spacing
    return (
        Stack(
            tuple(group[n] for n in kept),
            np.array([between_columns, between_rows, spacing]),
            np.column_stack([x, y, normal]),
            shear,
            (),
            (),
        ),
        repeats,
    )


def _pixels(s: Slice) -> tuple[int, bytes]:
    """What makes two slices at one place the same image."""
    return s.frame_index, bytes(read_header(s.path, pixels=True).get("PixelData", b""))


def _check_gaps(
    label: str, group: Sequence[Slice], kept: list[int], gaps: FloatArray, typical: float
) -> None:
    """Refuse missing slices and uneven spacing by name; limit: coefficient of variation, CT-06."""
    limit = evidence.value("CT-06", "spacing_cv") / 100.0
    cv = float(gaps.std() / gaps.mean())
    # The variation over the whole stack hides one wrong gap in a long series: each is tested too.
    worst = float(np.abs(gaps - typical).max()) / typical
    if cv < limit and worst < 10 * limit:
        return
    holes = np.flatnonzero(gaps > 1.5 * typical)
    others = np.abs(np.delete(gaps, holes) - typical)
    multiples = np.round(gaps[holes] / typical)
    if len(holes) and (not len(others) or others.max() < 10 * limit * typical):
        missing = int((multiples - 1).sum())
        at = ", ".join(f"{group[kept[int(h)]].position[2]:.1f}" for h in holes[:3])
        raise ImagingError(
            f"{label}: about {missing} slice{'s are' if missing > 1 else ' is'} missing, above "
            f"z = {at} mm (gaps up to {gaps.max():.2f} mm where {typical:.2f} mm is usual); "
            "export the complete series again (CT-06)."
        )
    raise ImagingError(
        f"{label}: the slice spacing is uneven, {gaps.min():.2f} to {gaps.max():.2f} mm "
        f"(variation {100 * cv:.1f} %, allowed {100 * limit:.0f} %); "
        "one series of uniform spacing is needed (CT-06)."
    )


def read_stack(stack_: Stack, progress: Progress = silent) -> npt.NDArray[Any]:
    """(columns, rows, slices) HU: int16 where every value is whole and in range, else float32."""
    first = stack_.slices[0]
    out = np.empty((len(stack_.slices), first.rows, first.columns), np.float32)
    as_float = any(
        s.slope != round(s.slope) or s.intercept != round(s.intercept) for s in stack_.slices
    )
    cache: tuple[Path, npt.NDArray[Any]] | None = None
    for k, s in enumerate(stack_.slices):
        progress(k / len(stack_.slices), "reading slices")
        if cache is None or cache[0] != s.path:
            ds = read_header(s.path, pixels=True)
            cache = (s.path, stored_values(ds, s.path))
        plane = cache[1][s.frame_index]
        if plane.shape != (s.rows, s.columns):
            raise FormatError(f"{s.path}: {plane.shape} pixels where {s.rows, s.columns} belong.")
        hu = plane.astype(np.float64) * s.slope + s.intercept
        if s.padding is not None:
            # The header may give the padding word with the wrong sign (US for SS).
            padded = plane == np.array(s.padding).astype(plane.dtype)
            hu[padded & (hu < AIR_HU)] = AIR_HU
        out[k] = hu
    whole = not as_float and out.min() >= -32768 and out.max() <= 32767
    return np.ascontiguousarray(out.astype(np.int16 if whole else np.float32).transpose(2, 1, 0))


def untilted(stack_: Stack, data: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], FloatArray]:
    """Resample a stack of constant gantry tilt onto a rectangular grid.

    Each slice is shifted inside its own plane by linear interpolation until the slice origins lie
    on the slice normal; nothing is interpolated across slices. Air fills what the shift leaves.

    Returns the data (columns, rows, slices; larger by the total shift) and the (3,) origin.
    """
    n = len(stack_.slices)
    step = stack_.shear_mm / stack_.spacing_mm[:2]
    shift = np.arange(n)[:, None] * step  # (n, 2) voxels by which slice k lies further along x, y
    low = np.floor(shift.min(axis=0)).astype(int)
    high = np.ceil(shift.max(axis=0)).astype(int)
    nx, ny = data.shape[0] + high[0] - low[0], data.shape[1] + high[1] - low[1]
    out = np.full((nx, ny, n), AIR_HU, dtype=data.dtype)
    for k in range(n):
        plane = data[:, :, k].astype(np.float64)
        whole = np.floor(shift[k]).astype(int)
        fraction = shift[k] - whole
        for axis in (0, 1):
            margin = [(1, 1) if a == axis else (0, 0) for a in (0, 1)]
            padded = np.pad(plane, margin, constant_values=AIR_HU)
            before = np.take(padded, np.arange(padded.shape[axis] - 1), axis=axis)
            after = np.take(padded, np.arange(1, padded.shape[axis]), axis=axis)
            # Value at index m of the output is the input at m - fraction.
            plane = fraction[axis] * before + (1 - fraction[axis]) * after
        # One voxel longer than before; the last one exists only for a fractional shift.
        i, j = whole - low
        ni, nj = min(plane.shape[0], nx - i), min(plane.shape[1], ny - j)
        values = np.rint(plane) if out.dtype == np.int16 else plane
        out[i : i + ni, j : j + nj, k] = values[:ni, :nj]
    origin = np.array(stack_.slices[0].position) + stack_.direction[:, :2] @ (
        low * stack_.spacing_mm[:2]
    )
    return out, origin


def load(
    path: Path, wanted: str | None, modality: str, progress: Progress
) -> tuple[npt.NDArray[Any], Stack, FloatArray, str]:
    """Data (columns, rows, slices), the stack it came from, its origin and frame name."""
    from pydicom.config import disable_value_validation

    # Anonymisers write UIDs that are none; that harms nothing here and would fill the console.
    with disable_value_validation():
        return _load(path, wanted, modality, progress)


def _load(
    path: Path, wanted: str | None, modality: str, progress: Progress
) -> tuple[npt.NDArray[Any], Stack, FloatArray, str]:
    folder = path
    if path.is_file():
        if not is_dicom(path):
            raise FormatError(f"{path} is not DICOM.")
        head = read_header(path)
        if int(head.get("NumberOfFrames", 1) or 1) == 1:
            # One slice stands for its series, which lies beside it.
            folder = path.parent
            own = _text(head.get("SeriesInstanceUID"))
            reason = _why_not(head, modality)
            if reason is not None:
                raise ImagingError(f"{path} is no {modality} slice: {reason}.")
            wanted = wanted or own or None
    slices, aside = scan(folder, modality, part(progress, 0.0, 0.3))
    best, rivals = choose(slices, wanted, path, aside, modality)
    regular, repeats = stack(best, path)
    if repeats:
        aside = [*aside, f"{repeats} x repeated slice"]
    doubts: list[Doubt] = []
    rivals = [g for g in rivals if len(g) >= MIN_SLICES]
    if rivals:
        rest = "; ".join(_name(g) for g in rivals[:5])
        doubts.append(
            Doubt(
                "imaging",
                "imaging.several_series",
                f"The folder holds several series; {_name(best)} was taken, not {rest}.",
                ("CT-06",),
            )
        )
    if any(s.lossy for s in regular.slices):
        doubts.append(
            Doubt(
                "imaging",
                "imaging.lossy_compression",
                "The CT was compressed with loss; grey values and density are not reliable.",
                ("CT-04",),
            )
        )
    upright = np.degrees(np.arccos(np.clip(np.abs(regular.slices[0].normal).max(), 0.0, 1.0)))
    said = abs(regular.slices[0].tilt_deg)
    if said > TILT_TOLERANCE_DEG and not regular.shear_mm.any() and upright < TILT_TOLERANCE_DEG:
        doubts.append(
            Doubt(
                "imaging",
                "imaging.gantry_tilt_unseen",
                f"The header states a gantry tilt of {said:g} degrees but the slices lie straight: "
                "they were resampled before, or their positions are wrong.",
                ("CT-06",),
            )
        )
    kvps = {s.kvp for s in regular.slices}
    if len(kvps) > 1:
        doubts.append(
            Doubt(
                "imaging",
                "imaging.kvp_varies",
                f"The tube voltage changes within the series ({sorted(map(str, kvps))} kV).",
                ("CT-03",),
            )
        )
    data = read_stack(regular, part(progress, 0.3, 1.0))
    origin = np.array(regular.slices[0].position)
    if np.any(regular.shear_mm != 0):
        tilt = np.degrees(np.arctan2(np.linalg.norm(regular.shear_mm), regular.spacing_mm[2]))
        data, origin = untilted(regular, data)
        doubts.append(
            Doubt(
                "imaging",
                "imaging.gantry_tilt_resampled",
                f"The CT was acquired with a gantry tilt of {tilt:.1f} degrees and was resampled "
                "to a rectangular grid; an untilted CT is expected.",
                ("CT-06",),
            )
        )
    regular = replace(
        regular, set_aside=(*aside, *(_name(g) for g in rivals)), doubts=tuple(doubts)
    )
    return data, regular, origin, regular.slices[0].frame_uid or DEFAULT_FRAME
