"""DICOM segmentations (SEG): out with coded names on the CT's own slices, in from any program."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sacroplan import __version__
from sacroplan.banner import BANNER, BANNER_SHORT
from sacroplan.errors import FormatError, ImagingError
from sacroplan.formats.atomic import write_bytes
from sacroplan.formats.dicom_headers import quiet, read_header
from sacroplan.formats.dicom_out import (
    LONG_STRING,
    check_case_id,
    decimal_string,
    derived_uid,
    new_data_set,
)
from sacroplan.formats.dicom_pixels import PIXEL_ERRORS, stored_values
from sacroplan.formats.dicom_source import DicomSource, check_frame, is_uid
from sacroplan.formats.lattice import Placement, alignment, placement, turned_view
from sacroplan.formats.names import Code, canonical_name, name_of_code, snomed
from sacroplan.formats.paint import Painter
from sacroplan.formats.segnrrd import COLOURS
from sacroplan.geometry.volume import LabelMap, VolumeGeometry

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"

SERIES_NUMBER = 901
"""Above what scanners number, below the 1000s that some viewers hide."""

_CONTENT_DATE, _CONTENT_TIME = "19700101", "000000"
"""DICOM demands a date of a segmentation. A true one would differ in every run, so this stands for
"not told", and LongitudinalTemporalInformationModified says that dates are not real."""

_CONTENT_LABEL = "SACROPLAN"


# --- Out -----------------------------------------------------------------------------------------


def _slice_data_sets(source: DicomSource, positions: npt.NDArray[np.float64]) -> list[Dataset]:
    """The CT's slices as highdicom wants them: identifiers and planes, no pixels, no person."""
    if source.multi_frame:
        return [_multi_frame_data_set(source, positions)]
    return [
        _source_header(source, uid, n + 1, position)
        for n, (uid, position) in enumerate(zip(source.sop_uids, positions, strict=True))
    ]


def _source_header(
    source: DicomSource, sop_uid: str, number: int, position: npt.NDArray[np.float64] | None
) -> Any:
    ds = new_data_set(
        source.sop_class_uid, sop_uid, case_id="x^", study_uid=source.study_uid,
        series_uid=source.series_uid, frame_uid=source.frame_uid, modality="CT",
        series_number=1, instance_number=number, description="",
    )  # fmt: skip
    ds.Rows, ds.Columns = source.rows, source.columns
    if position is not None:
        # highdicom asks for it and takes the labels' own.
        ds.SliceThickness = "1"
        ds.ImagePositionPatient = [decimal_string(v) for v in position]
        ds.ImageOrientationPatient = [decimal_string(v) for v in source.orientation]
        ds.PixelSpacing = [decimal_string(v) for v in source.spacing_mm]
    return ds


def _item(keyword: str, **entries: Any) -> Any:
    """A data set that holds the sequence ``keyword`` with one item of ``entries``."""
    import pydicom

    inner, outer = pydicom.Dataset(), pydicom.Dataset()
    for key, value in entries.items():
        setattr(inner, key, value)
    setattr(outer, keyword, pydicom.Sequence([inner]))
    return outer


def _multi_frame_data_set(source: DicomSource, positions: npt.NDArray[np.float64]) -> Any:
    import pydicom

    ds = _source_header(source, source.sop_uids[0], 1, None)
    shared = _item(
        "PlaneOrientationSequence",
        ImageOrientationPatient=[decimal_string(v) for v in source.orientation],
    )
    shared.update(
        _item(
            "PixelMeasuresSequence",
            PixelSpacing=[decimal_string(v) for v in source.spacing_mm],
            SliceThickness="1",
        )
    )
    frames = [
        _item("PlanePositionSequence", ImagePositionPatient=[decimal_string(v) for v in p])
        for _, p in sorted(zip(source.frame_numbers, positions, strict=True), key=lambda x: x[0])
    ]
    ds.NumberOfFrames = len(frames)
    ds.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    return ds


def _planes(
    labels: LabelMap, source: DicomSource
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], VolumeGeometry]:
    """Labels (slices, rows, columns) in the CT's planes, their affine, and their grid."""
    g = labels.geometry
    x, y = source.orientation[:3], source.orientation[3:]
    found = alignment(np.column_stack([np.cross(x, y), y, x]), g.direction)
    if found is None:
        raise FormatError(
            "The labels do not lie in the planes of the CT's slices; write them on the CT's grid."
        )
    axes, backwards = found
    shape = np.array(g.shape)[list(axes)]
    first = np.zeros(3)
    first[list(axes)] = np.where(backwards, shape - 1, 0)
    grid = VolumeGeometry(
        (int(shape[0]), int(shape[1]), int(shape[2])),
        g.spacing_mm[list(axes)],
        g.to_world(first),
        g.direction[:, list(axes)] * np.where(backwards, -1.0, 1.0),
        g.frame,
    )
    return turned_view(labels.data, axes, backwards), grid.affine, grid


def _positions(source: DicomSource, grid: VolumeGeometry) -> npt.NDArray[np.float64]:
    """Where the slices lie: on the labels' own planes where both coincide, so that their names can

    be given frame by frame; as in the files where the CT was resampled.
    """
    index = grid.to_index(source.positions)
    whole = np.rint(index)
    same = grid.shape[1:] == (source.rows, source.columns)
    if same and np.abs(index - whole).max() < 0.01 and not np.any(whole[:, 1:]):
        return grid.to_world(whole)
    return np.asarray(source.positions)


def _description(number: int, name: str, how: str, automatic: bool, tracked: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    known = snomed(name)
    if known is None:
        raise FormatError(
            f"No SNOMED code is known for the label {name!r}; rename it to one of this program's."
        )
    colour = COLOURS.get(name)
    described = SegmentDescription(
        number,
        name,
        _coded(known.category),
        _coded(known.kind),
        "AUTOMATIC" if automatic else "SEMIAUTOMATIC",
        AlgorithmIdentificationSequence(
            re.sub(r"[\\\x00-\x1f]", " ", how)[:LONG_STRING],
            codes.cid7162.MorphologicalOperations,
            __version__,
        ),
        tracking_id=name,
        tracking_uid=tracked,
        display_color=(
            None if colour is None else CIELabColor.from_rgb(*(round(255 * c) for c in colour))
        ),
    )
    if known.side is not None:
        import pydicom

        item: Any = pydicom.Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = known.side
        described.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence = pydicom.Sequence([item])
    return described


def _coded(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(*code)


def dicom_seg_bytes(
    labels: LabelMap,
    *,
    source: DicomSource,
    case_id: str,
    how: str = "sacroplan",
    automatic: bool = False,
) -> bytes:
    """The bytes :func:`write_dicom_seg` writes."""
    from highdicom import Volume
    from highdicom.seg import Segmentation

    check_case_id(case_id)
    check_frame(labels.frame, source, "The label map")
    ids = [i for i in sorted(labels.names) if np.any(labels.data == i)]
    if not ids:
        raise FormatError("The label map is empty; a DICOM segmentation needs a segment.")
    table = np.zeros(max(int(labels.data.max()), *ids) + 1, dtype=np.uint8)
    table[ids] = np.arange(1, len(ids) + 1)
    planes, affine, grid = _planes(labels, source)
    numbered = np.ascontiguousarray(table[planes])
    root = (
        case_id, source.series_uid, how, [labels.names[i] for i in ids], affine.tobytes().hex(),
        hashlib.sha256(numbered.tobytes()).hexdigest(),
    )  # fmt: skip
    with quiet():
        seg: Any = Segmentation(
            _slice_data_sets(source, _positions(source, grid)),
            Volume(numbered, affine, "PATIENT", source.frame_uid),
            "BINARY",
            [
                _description(
                    n,
                    labels.names[i],
                    how,
                    automatic,
                    derived_uid("segment", case_id, source.series_uid, labels.names[i]),
                )
                for n, i in enumerate(ids, start=1)
            ],
            series_instance_uid=derived_uid("seg series", case_id, source.series_uid),
            series_number=SERIES_NUMBER,
            sop_instance_uid=derived_uid("seg", *root),
            instance_number=1,
            manufacturer="sacroplan",
            manufacturer_model_name="sacroplan",
            software_versions=__version__,
            device_serial_number="none",
            content_label=_CONTENT_LABEL,
            content_description=BANNER_SHORT,
            series_description=f"{BANNER_SHORT}: bones",
            content_date=_CONTENT_DATE,
            content_time=_CONTENT_TIME,
        )
        _settled(seg, case_id, derived_uid("dimensions", *root))
        stream = BytesIO()
        seg.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _settled(seg: Any, case_id: str, dimensions: str) -> None:
    """Replace what highdicom takes from the clock and from chance, and say who and what this is."""
    seg.PatientName = seg.PatientID = case_id
    seg.PatientIdentityRemoved = "YES"
    seg.DeidentificationMethod = "No identity was known when this file was written"
    seg.LongitudinalTemporalInformationModified = "MODIFIED"
    seg.ImageComments = BANNER
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in seg:
            delattr(seg, keyword)
    for item in seg.get("ContributingEquipmentSequence") or []:
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions


def write_dicom_seg(
    labels: LabelMap,
    path: str | os.PathLike[str],
    *,
    source: DicomSource,
    case_id: str,
    how: str = "sacroplan",
    automatic: bool = False,
) -> None:
    """Write labels as a binary DICOM segmentation in the planes of the CT's slices.

    Every structure is a segment with its SNOMED code and side. The file joins the CT's study and
    frame of reference and names its slices, frame by frame where the grids coincide. Same input,
    same bytes: UIDs follow from the content, and there is no date of today.

    Parameters
    ----------
    source : the CT's slices. case_id : the only identity in the file.
    how : where the labels come from, kept as the algorithm's name. automatic : whether by program.

    Raises
    ------
    FormatError : empty labels, a name without a code, another frame, or a failed write.
    """
    data = dicom_seg_bytes(labels, source=source, case_id=case_id, how=how, automatic=automatic)
    write_bytes(path, data)


# --- In ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DicomSegment:
    """One segment of a file: its number, its label, and the program's name of it (None: unknown)."""

    number: int
    label: str
    name: str | None


@dataclass(frozen=True, eq=False)
class DicomSegmentation:
    """A DICOM SEG file: ``segments`` and the data set whose frames :func:`paint` places."""

    path: Path
    segments: tuple[DicomSegment, ...]
    data_set: Any


@contextmanager
def _undamaged(file: Path) -> Iterator[None]:
    """Any damage that pydicom finds, at reading or when a value is asked for, as one sentence."""
    try:
        with quiet():
            yield
    except PIXEL_ERRORS as error:
        raise FormatError(f"{file} is a DICOM segmentation with a damaged header.") from error


def is_dicom_seg(path: Path) -> bool:
    """Whether a DICOM file is a segmentation, by its SOP class."""
    with quiet():
        kind = str(read_header(path).get("SOPClassUID", ""))
    return kind in (SEGMENTATION, LABEL_MAP_SEGMENTATION)


def _code(item: Any, keyword: str) -> Code | None:
    sequence = item.get(keyword)
    if sequence is None or not len(sequence):
        return None
    first = sequence[0]
    return Code(
        str(first.get("CodeValue", "")),
        str(first.get("CodingSchemeDesignator", "")),
        str(first.get("CodeMeaning", "")),
    )


def _name(item: Any) -> str | None:
    """The program's name of a segment: by its label where that is a known one, else by its code."""
    label = str(item.get("SegmentLabel", ""))
    known = canonical_name(label)
    kind = _code(item, "SegmentedPropertyTypeCodeSequence")
    if known is not None or kind is None:
        return known
    side = _code(
        item.SegmentedPropertyTypeCodeSequence[0], "SegmentedPropertyTypeModifierCodeSequence"
    ) or _code(item, "AnatomicRegionModifierSequence")
    return name_of_code(kind, side)


def read_dicom_seg(path: str | os.PathLike[str]) -> DicomSegmentation:
    """Read a DICOM segmentation (binary, fractional or label map).

    Raises
    ------
    FormatError : not a segmentation, or its header is damaged.
    """
    file = Path(path)
    with _undamaged(file):
        ds = read_header(file, pixels=True)
        if str(ds.get("SOPClassUID", "")) not in (SEGMENTATION, LABEL_MAP_SEGMENTATION):
            raise FormatError(
                f"{file} is DICOM but no segmentation (modality {ds.get('Modality', 'missing')}); "
                "expected a DICOM SEG, a .seg.nrrd or NIfTI labels."
            )
        found = tuple(
            DicomSegment(int(i.SegmentNumber), str(i.get("SegmentLabel", "")).strip(), _name(i))
            for i in ds.get("SegmentSequence") or []
            if int(i.SegmentNumber) > 0
        )
    if not found:
        raise FormatError(f"{file} is a DICOM segmentation without segments.")
    return DicomSegmentation(file, found, ds)


def _check_reference(seg: DicomSegmentation, reference: VolumeGeometry) -> None:
    frame = str(seg.data_set.get("FrameOfReferenceUID", "") or "")
    if is_uid(reference.frame) and frame != reference.frame:
        raise ImagingError(
            f"{seg.path} lies in another frame of reference ({frame or 'none named'}) than the CT "
            f"({reference.frame}); segment this CT, or register the two first."
        )


class _Frames:
    """Where each frame of a segmentation lies and what it shows."""

    def __init__(self, seg: DicomSegmentation) -> None:
        self.seg = seg
        ds = seg.data_set
        self.shared = (ds.get("SharedFunctionalGroupsSequence") or [None])[0]
        self.each = list(ds.get("PerFrameFunctionalGroupsSequence") or [])

    def _entry(self, frame: int, sequence: str, keyword: str) -> Any:
        for group in (self.each[frame], self.shared):
            found = None if group is None else group.get(sequence)
            if found is not None and len(found) and keyword in found[0]:
                return found[0].get(keyword)
        raise FormatError(
            f"{self.seg.path} does not say where its frame {frame + 1} lies ({keyword} is missing)."
        )

    def _floats(self, frame: int, sequence: str, keyword: str) -> npt.NDArray[np.float64]:
        return np.array([float(v) for v in self._entry(frame, sequence, keyword)])

    def geometry(self, frame: int, rows: int, columns: int) -> VolumeGeometry:
        """One frame as a grid of (columns, rows, 1) voxels."""
        position = self._floats(frame, "PlanePositionSequence", "ImagePositionPatient")
        o = self._floats(frame, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = self._floats(frame, "PixelMeasuresSequence", "PixelSpacing")
        x = o[:3] / np.linalg.norm(o[:3])
        y = o[3:] - (o[3:] @ x) * x
        y /= np.linalg.norm(y)
        # One frame is one voxel thick, whatever the distance to the next.
        return VolumeGeometry(
            (columns, rows, 1), np.array([spacing[1], spacing[0], 1.0]), position,
            np.column_stack([x, y, np.cross(x, y)]),
        )  # fmt: skip

    def segment(self, frame: int) -> int:
        """Number of the segment a frame shows."""
        return int(self._entry(frame, "SegmentIdentificationSequence", "ReferencedSegmentNumber"))


def paint(
    seg: DicomSegmentation, reference: VolumeGeometry, ids: Mapping[int, int], painter: Painter
) -> None:
    """Paint segments onto the CT's grid: ``ids`` maps segment numbers to what is painted.

    Frames may come in any order, plane and sense; where one is missing nothing is painted. A
    fractional segment counts from half its maximum.

    Raises
    ------
    FormatError : damaged pixels or a frame without a place.
    ImagingError : another frame of reference, or frames off the CT's voxels.
    """
    with _undamaged(seg.path):
        _check_reference(seg, reference)
        values = stored_values(seg.data_set, seg.path)
        frames = _Frames(seg)
        label_map = str(seg.data_set.get("SegmentationType", "")) == "LABELMAP"
        half = float(seg.data_set.get("MaximumFractionalValue", 1) or 1) / 2.0
        if len(frames.each) != len(values):
            raise FormatError(
                f"{seg.path} describes {len(frames.each)} frames and holds {len(values)}."
            )
        table = np.zeros(max(*ids, int(values.max()) if label_map else 0, 1) + 1, dtype=np.uint8)
        for number, painted in ids.items():
            table[number] = painted
        _, rows, columns = values.shape
        places: set[tuple[int, Placement]] = set()
        for frame, plane in enumerate(values):
            if not plane.any():
                continue
            number = 0 if label_map else frames.segment(frame)
            if label_map:
                shown = table[plane]
            else:
                shown = np.where(plane >= half, np.uint8(ids.get(number, 0)), np.uint8(0))
            if not shown.any():
                continue
            place = _place(frames.geometry(frame, rows, columns), reference, seg)
            if (number, place) in places:
                raise FormatError(
                    f"{seg.path} shows one segment twice at the place of frame {frame + 1}."
                )
            places.add((number, place))
            _paint_plane(shown, place, painter)


def _place(
    geometry: VolumeGeometry, reference: VolumeGeometry, seg: DicomSegmentation
) -> Placement:
    """Where a frame lies on the CT's grid; refuses another one, naming both."""
    found = placement(geometry, reference)
    if found is None:
        raise ImagingError(
            f"{seg.path} does not lie on the CT's grid: a frame has {geometry.describe()}, the CT "
            f"has {reference.describe()}; export the segmentation in the geometry of the CT."
        )
    return found


def _paint_plane(shown: npt.NDArray[np.uint8], place: Placement, painter: Painter) -> None:
    # Neighbours of a plane lie far apart in memory: only the part that shows something is touched.
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    r, c = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    painter.paint(shown[r, c].T[:, :, None], place.window(painter.image)[c, r])


def chosen(seg: DicomSegmentation, label: str | int | None) -> list[DicomSegment]:
    """The segments that ``label`` names: a label or program name, a number, or all of them."""
    if label is None:
        return list(seg.segments)
    wanted = re.sub(r"\s+", " ", str(label)).strip().lower()
    return [
        s
        for s in seg.segments
        if s.number == label or s.label.lower() == wanted or s.name == wanted
    ]
