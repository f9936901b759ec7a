"""The DICOM slices a CT came from: what every object derived from it has to name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sacroplan.errors import FormatError
from sacroplan.geometry.frames import FloatArray, readonly

if TYPE_CHECKING:
    from sacroplan.formats.dicom_in import Slice

_UID = re.compile(r"^[0-2](\.(0|[1-9]\d*))+$")


def is_uid(text: str) -> bool:
    """Whether ``text`` is a valid DICOM unique identifier."""
    return len(text) <= 64 and _UID.match(text) is not None


@dataclass(frozen=True, eq=False)
class DicomSource:
    """One CT series: identifiers and the plane of every slice. No name, number or date of a person.

    Attributes
    ----------
    study_uid, series_uid, frame_uid, sop_class_uid : identifiers of the series.
    sop_uids : one a slice, in slice order; a multi-frame file is named once for each frame.
    frame_numbers : one a slice, from 1; 0 for files of one slice.
    positions : (n, 3) LPS centre of every slice's first voxel, mm.
    orientation : (6,) unit vectors along a row and along a column.
    spacing_mm : between rows, between columns.
    rows, columns : size of a slice.
    """

    study_uid: str
    series_uid: str
    frame_uid: str
    sop_class_uid: str
    sop_uids: tuple[str, ...]
    frame_numbers: tuple[int, ...]
    positions: FloatArray
    orientation: FloatArray
    spacing_mm: tuple[float, float]
    rows: int
    columns: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", readonly(np.array(self.positions, dtype=np.float64)))
        object.__setattr__(
            self, "orientation", readonly(np.array(self.orientation, dtype=np.float64).reshape(6))
        )

    @property
    def multi_frame(self) -> bool:
        """Whether the slices are frames of multi-frame files."""
        return any(self.frame_numbers)

    def to_json(self) -> Mapping[str, Any]:
        """Identifiers only, for provenance."""
        return {
            "study_uid": self.study_uid,
            "series_uid": self.series_uid,
            "frame_uid": self.frame_uid,
            "slices": len(self.sop_uids),
        }


def source_of(slices: Sequence[Slice]) -> DicomSource | None:
    """What a stack of slices is called.

    None where a file lacks a valid UID, or where the slices are some frames of multi-frame files
    and not all frames of one: what is derived from such a CT could not name its slices.
    """
    first = slices[0]
    named = [first.study_uid, first.series_uid, first.frame_uid, first.sop_class_uid]
    if not all(is_uid(uid) for uid in (*named, *(s.sop_uid for s in slices))):
        return None
    several = any(s.frame_index > 0 for s in slices)
    numbers = tuple(s.frame_index + 1 if several else 0 for s in slices)
    if several and sorted(numbers) != list(range(1, len(slices) + 1)):
        return None
    return DicomSource(
        first.study_uid,
        first.series_uid,
        first.frame_uid,
        first.sop_class_uid,
        tuple(s.sop_uid for s in slices),
        numbers,
        np.array([s.position for s in slices]),
        np.array(first.orientation),
        first.spacing,
        first.rows,
        first.columns,
    )


def check_frame(frame: str, source: DicomSource, what: str) -> None:
    """Raise :class:`FormatError` for a shape in another frame of reference than the CT's."""
    if is_uid(frame) and frame != source.frame_uid:
        raise FormatError(
            f"{what} lies in the frame of reference {frame}, the CT in {source.frame_uid}; "
            "a DICOM file of the one cannot name the other."
        )
