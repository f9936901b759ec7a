"""A DICOM folder in, the one CT series that can be planned on out.

The steps are: read the few header entries that matter (:mod:`.dicom_headers`), set aside what is
no CT slice (scouts, reports, dose sheets, segmentations), group the rest into series and choose one
(:mod:`.dicom_series`), prove that its slices form a stack (:mod:`.dicom_stack`), read pixels, and
lay them on a rectangular grid (:mod:`.dicom_resample`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, FormatError, ImagingError
from sacroplan.formats.archive import Gathered, gather, inside
from sacroplan.formats.dicom_headers import (
    HEADER_ERRORS,
    ROUNDED_AXES,
    Slice,
    frames_of,
    is_dicom,
    quiet,
    read_header,
    skew,
    slices_of,
    why_not,
)
from sacroplan.formats.dicom_pixels import stored_values
from sacroplan.formats.dicom_resample import AIR_HU, rectangular
from sacroplan.formats.dicom_series import Candidate, choose
from sacroplan.formats.dicom_stack import MIN_SLICES, TILT_TOLERANCE_DEG, Stack
from sacroplan.formats.images import MAX_VOXELS, kind_of
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray
from sacroplan.progress import Progress, part, silent

__all__ = ["Loaded", "Series", "Slice", "is_dicom", "list_series", "load", "read_header"]

UNREADABLE = (
    "unreadable header", "damaged header", "pixel spacing missing", "impossible pixel spacing",
    "position or orientation missing", "impossible position", "image axes not at right angles",
    "rescale slope of zero", "impossible image size", "impossible number of frames",
    "frames without positions",
)  # fmt: skip
"""Reasons that may hide a slice of the very series that is read."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """One series as voxels.

    Attributes
    ----------
    data : (columns, rows, slices) HU on a rectangular, uniform grid.
    stack : how the slices were acquired.
    origin : (3,) LPS of the centre of voxel (0, 0, 0).
    spacing_mm : (3,) voxel size along columns, rows, slices.
    frame : name of the frame of reference.
    why : in words, why this series was taken.
    set_aside : what else was found and not used, in words.
    doubts : reservations.
    """

    data: npt.NDArray[Any]
    stack: Stack
    origin: FloatArray
    spacing_mm: FloatArray
    frame: str
    why: str
    set_aside: tuple[str, ...]
    doubts: tuple[Doubt, ...]


@dataclass(frozen=True)
class Series:
    """Every series behind a path, the chosen one first, and what is none."""

    candidates: tuple[Candidate, ...]
    set_aside: tuple[str, ...]


def _hint(files: Sequence[Path]) -> str:
    """Where a folder holds other image files, the advice to name one."""
    images = [f.name for f in files if kind_of(f) is not None]
    return f"; give one of its image files by name ({', '.join(images[:3])})" if images else ""


def scan(
    path: Path, found: Gathered, modality: str, progress: Progress = silent
) -> tuple[list[Slice], dict[str, int]]:
    """All slices of ``modality`` among files, and what was set aside (reason to count).

    Raises
    ------
    FormatError : nothing is DICOM.
    """
    aside = dict(found.aside)
    links = sum(n for reason, n in aside.items() if "not followed" in reason)
    beyond = f"; {links} links lead out of it and were not followed" if links else ""
    if not found.files:
        raise FormatError(f"{path} is an empty folder; expected a DICOM series{beyond}.")
    slices: list[Slice] = []
    readable = 0
    for n, file in enumerate(found.files):
        progress(n / len(found.files), "reading headers")
        if not is_dicom(file):
            continue
        reason: str | None = None
        try:
            ds = read_header(file)
            if not len(ds):
                continue
            readable += 1
            with quiet():
                reason = why_not(ds, modality)
                ours = reason or slices_of(file, ds)
            if isinstance(ours, str):
                reason = ours
            else:
                slices.extend(ours)
        except FormatError:
            readable += 1
            reason = UNREADABLE[0]
        except HEADER_ERRORS:
            # pydicom decodes entries when they are asked for, so damage may show only here.
            reason = UNREADABLE[1]
        if reason is not None:
            aside[reason] = aside.get(reason, 0) + 1
    if not readable:
        raise FormatError(
            f"{path} is not DICOM."
            if len(found.files) == 1 and found.files[0] == path
            else f"{path} holds {len(found.files)} files, none of them DICOM"
            f"{_hint(found.files)}{beyond}."
        )
    return slices, aside


def _told(aside: Mapping[str, int]) -> list[str]:
    return [f"{count} x {reason}" for reason, count in sorted(aside.items())]


def _around(
    path: Path, found: Gathered, modality: str
) -> tuple[Gathered, str | None, dict[str, int]]:
    """The files to look through, the series of a single given slice, and what a DICOMDIR misses."""
    if found.files != (path,):
        return found, None, {}
    if not is_dicom(path):
        raise FormatError(f"{path} is not DICOM.")
    head = read_header(path)
    try:
        with quiet():
            if "DirectoryRecordSequence" in head:
                listed, missing = _listed(path, head)
                return listed, None, missing
            if frames_of(head) != 1:
                return found, None, {}
            reason = why_not(head, modality)
            ours = None if reason else slices_of(path, head)
    except HEADER_ERRORS as error:
        raise FormatError(f"{path} has a damaged DICOM header.") from error
    if reason is not None or not isinstance(ours, list):
        raise ImagingError(f"{path} is no {modality} slice: {reason or ours}.")
    # One slice stands for its series, which lies beside it.
    return gather(path.parent), ours[0].series_key, {}


def _listed(path: Path, head: Any) -> tuple[Gathered, dict[str, int]]:
    """The files a DICOMDIR refers to, as far as they are there and lie in its folder."""
    folder = path.parent
    everything = gather(folder)
    by_name = {
        f.relative_to(folder).as_posix().upper().split(";")[0].removesuffix("."): f
        for f in everything.files
    }
    files: list[Path] = []
    aside = dict(everything.aside)
    missing = 0
    for record in head.DirectoryRecordSequence:
        entry = record.get("ReferencedFileID")
        if entry is None or entry == "":
            continue
        name = "/".join([entry] if isinstance(entry, str) else [str(p) for p in entry])
        if inside(folder, name) is None or name.startswith("/"):
            reason = "DICOMDIR entry that leads out of its folder, not followed"
            aside[reason] = aside.get(reason, 0) + 1
            continue
        file = by_name.get(name.upper())
        if file is None:
            missing += 1
        else:
            files.append(file)
    if missing:
        aside["file named by the DICOMDIR, not there"] = missing
    if not files:
        raise FormatError(
            f"{path} names no file that is there ({missing} are missing); "
            "name the folder of the images instead."
        )
    return Gathered(tuple(sorted(set(files))), aside), {"missing": missing}


def list_series(
    path: Path, found: Gathered, wanted: str | None = None, modality: str = "CT"
) -> Series:
    """All series behind a path with the reason for or against each; reads no pixels."""
    files, key, _ = _around(path, found, modality)
    slices, aside = scan(path, files, modality)
    told = _told(aside)
    return Series(tuple(choose(slices, wanted, path, told, modality, key)), tuple(told))


def load(
    path: Path, found: Gathered, wanted: str | None, modality: str, progress: Progress = silent
) -> Loaded:
    """Choose a series and read it.

    Raises
    ------
    FormatError : no DICOM, damaged pixel data.
    ImagingError : no such series, or one that forms no stack (CT-06).
    """
    files, key, missing = _around(path, found, modality)
    slices, aside = scan(path, files, modality, part(progress, 0.0, 0.3))
    told = _told(aside)
    candidates = choose(slices, wanted, path, told, modality, key)
    best = candidates[0]
    if len(best.slices) < MIN_SLICES:
        note = f" (found: {', '.join(told)})" if told else ""
        raise ImagingError(
            f"{path} holds no {modality} volume: its largest series has {len(best.slices)} slice"
            f"{'s' if len(best.slices) > 1 else ''}, at least {MIN_SLICES} are needed{note}."
        )
    if best.stack is None:
        others = [c for c in candidates[1:] if c.stack is not None]
        way = "" if not others else f" Another series can be named: {others[0].name}."
        raise ImagingError(f"{path} ({best.name}): {best.problem}{way}")
    regular = best.stack
    voxels = regular.slices[0].rows * regular.slices[0].columns * len(regular.slices)
    if voxels > MAX_VOXELS:
        raise ImagingError(
            f"{path} ({best.name}) has {voxels / 1e9:.1f} thousand million voxels, at most "
            f"{MAX_VOXELS / 1e9:.1f} are read; export a smaller field of view."
        )
    doubts = _doubts(regular, candidates, aside, missing, wanted is not None or key is not None)
    data = read_stack(regular, part(progress, 0.3, 0.95))
    if regular.repeats:
        where = sorted({k for k, _ in regular.repeats})
        told.append(
            f"{len(regular.repeats)} x repeated slice "
            f"({_places([regular.slices[k] for k in where])})"
        )
    told += [f"{c.name}: {c.reason}" for c in candidates[1:]]
    data, origin, spacing = rectangular(regular, data)
    frame = regular.slices[0].frame_uid or DEFAULT_FRAME
    progress(1.0, "slices read")
    return Loaded(data, regular, origin, spacing, frame, best.reason, tuple(told), tuple(doubts))


def _places(slices: Sequence[Slice]) -> str:
    axis = slices[0].axis
    at = ", ".join(f"{s.position[axis]:.1f}" for s in slices[:5])
    return f"{'xyz'[axis]} = {at}{' ...' if len(slices) > 5 else ''} mm"


def _doubt(code: str, message: str, *rows: str) -> Doubt:
    return Doubt("imaging", f"imaging.{code}", message, rows)


def _doubts(
    regular: Stack,
    candidates: Sequence[Candidate],
    aside: Mapping[str, int],
    missing: Mapping[str, int],
    asked: bool,
) -> list[Doubt]:
    """Everything about the choice, the stack and its headers that a planner must know."""
    best = candidates[0]
    slices = regular.slices
    first = slices[0]
    doubts: list[Doubt] = []
    rivals = [c for c in candidates[1:] if len(c.slices) >= MIN_SLICES]
    if asked:
        rivals = [c for c in rivals if c.reason != "not the one asked for"]
    if rivals:
        rest = "; ".join(f"{c.name} ({c.reason})" for c in rivals[:5])
        doubts.append(
            _doubt(
                "several_series",
                f"The folder holds several series; {best.name} was taken ({best.reason}), not "
                f"{rest}. A guide or implant fits only the patient and day of the right one.",
                "CT-04", "CT-06",
            )
        )  # fmt: skip
    if not asked and len({c.slices[0].study_key for c in candidates}) > 1:
        doubts.append(
            _doubt(
                "several_studies",
                "The folder holds more than one study, perhaps of other days or other patients: "
                "make sure that the right one was taken before anything is made from it.",
                "CT-07",
            )
        )
    unread = sum(aside.get(reason, 0) for reason in UNREADABLE)
    if unread or missing.get("missing"):
        count = unread + missing.get("missing", 0)
        doubts.append(
            _doubt(
                "unreadable_files",
                f"{count} DICOM file{'s are' if count > 1 else ' is'} damaged, incomplete or missing: "
                "slices at the ends of the series may be lost, and bone there would be cut off.",
                "CT-05",
            )
        )
    links = sum(n for reason, n in aside.items() if "not followed" in reason)
    if links:
        doubts.append(
            _doubt(
                "links_not_followed",
                f"{links} link{'s lead' if links > 1 else ' leads'} out of what was named and "
                "was not followed: what lies there is not in this image.",
            )
        )
    if any(s.lossy for s in slices):
        doubts.append(
            _doubt(
                "lossy_compression",
                "The CT was compressed with loss; grey values and density are not reliable, and "
                "edges from which guides are shaped may ring.",
                "CT-04",
            )
        )
    if not all(s.rescaled for s in slices):
        count = sum(not s.rescaled for s in slices)
        doubts.append(
            _doubt(
                "rescale_missing",
                f"{count} of {len(slices)} slices do not say how their values become HU; they were "
                "taken as HU. Thresholds and bone density may be wrong.",
                "HU-03",
            )
        )
    if any(s.burned_in for s in slices):
        doubts.append(
            _doubt(
                "burned_in",
                "The header says that text is burned into the image: it may name the patient, and "
                "it may look like bone.",
            )
        )
    rounded = max(skew(s.orientation) for s in slices)
    if rounded > ROUNDED_AXES:
        reach = 0.5 * max(first.rows * first.spacing[0], first.columns * first.spacing[1])
        doubts.append(
            _doubt(
                "rounded_orientation",
                f"The image axes in the header are rounded: positions are uncertain by up to "
                f"{rounded * reach:.2f} mm at the image's edge.",
                "CT-06",
            )
        )
    doubts += _position_doubts(regular)
    kvps = {s.kvp for s in slices}
    if len(kvps) > 1:
        doubts.append(
            _doubt(
                "kvp_varies",
                f"The tube voltage changes within the series ({sorted(map(str, kvps))} kV): HU and "
                "bone density do not compare between slices.",
                "CT-03",
            )
        )
    return doubts


def _position_doubts(regular: Stack) -> list[Doubt]:
    """Tilt and uneven spacing, which were resampled; a tilt in the header that is not there."""
    doubts: list[Doubt] = []
    first = regular.slices[0]
    tilt = regular.tilt_deg
    if regular.slides and tilt > TILT_TOLERANCE_DEG:
        doubts.append(
            _doubt(
                "gantry_tilt_resampled",
                f"The CT was acquired with a gantry tilt of {tilt:.1f} degrees and was resampled "
                "to a rectangular grid, each point to within half a voxel; edges are softer, so "
                "guides seat less exactly. An untilted CT is expected.",
                "CT-06",
            )
        )
    if regular.uneven and 100.0 * regular.spacing_cv >= evidence.value("CT-06", "spacing_cv"):
        gaps = np.diff(regular.offsets_mm[:, 2])
        doubts.append(
            _doubt(
                "uneven_spacing_resampled",
                f"The slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart (variation "
                f"{100 * regular.spacing_cv:.1f} %) and were resampled to "
                f"{regular.spacing_mm[2]:.2f} mm; edges across slices are softer, so guides seat "
                "less exactly. Uniform spacing is expected.",
                "CT-06", "SP-IMG-06",
            )
        )  # fmt: skip
    upright = np.degrees(np.arccos(np.clip(np.abs(first.normal).max(), 0.0, 1.0)))
    said = abs(first.tilt_deg)
    if said > TILT_TOLERANCE_DEG and not regular.slides and upright < TILT_TOLERANCE_DEG:
        doubts.append(
            _doubt(
                "gantry_tilt_unseen",
                f"The header states a gantry tilt of {said:g} degrees but the slices lie straight: "
                "they were resampled before, or their positions are wrong; then every angle of "
                "the plan is wrong.",
                "CT-06",
            )
        )
    return doubts


class _Planes:
    """HU planes of slices; keeps the decoded file of the last one, which may hold them all."""

    def __init__(self) -> None:
        self._last: tuple[Path, npt.NDArray[Any]] | None = None

    def stored(self, s: Slice) -> npt.NDArray[Any]:
        """(rows, columns) stored values."""
        if self._last is None or self._last[0] != s.path:
            ds = read_header(s.path, pixels=True)
            try:
                with quiet():
                    self._last = (s.path, stored_values(ds, s.path))
            except HEADER_ERRORS as error:
                raise FormatError(f"{s.path} has a damaged DICOM header.") from error
        frames = self._last[1]
        if s.frame_index >= len(frames) or frames[s.frame_index].shape != (s.rows, s.columns):
            raise FormatError(
                f"{s.path} holds {frames.shape[0]} images of {frames.shape[1]} x {frames.shape[2]} "
                f"pixels where {s.rows} x {s.columns} belong."
            )
        return np.asarray(frames[s.frame_index])

    def hu(self, s: Slice) -> npt.NDArray[np.float64]:
        """(rows, columns) HU; padding below air becomes air."""
        plane = self.stored(s)
        hu = plane.astype(np.float64) * s.slope + s.intercept
        if s.padding is not None:
            # The header may give the padding word with the wrong sign (US for SS).
            bits = 8 * plane.dtype.itemsize
            wrapped = np.array(s.padding & ((1 << bits) - 1), np.uint64)
            padded = plane == wrapped.astype(f"u{plane.dtype.itemsize}").view(plane.dtype)
            hu[padded & (hu < AIR_HU)] = AIR_HU
        return np.asarray(hu)


def read_stack(stack_: Stack, progress: Progress = silent) -> npt.NDArray[Any]:
    """(columns, rows, slices) HU: int16 where every value is whole and in range, else float32.

    Raises
    ------
    FormatError : pixel data that are missing, damaged, or of another size than the header says.
    ImagingError : two slices show different images of the same place.
    """
    slices = stack_.slices
    planes = _Planes()
    whole = all(float(s.slope).is_integer() and float(s.intercept).is_integer() for s in slices)
    repeats: dict[int, list[Slice]] = {}
    for k, other in stack_.repeats:
        repeats.setdefault(k, []).append(other)
    out: npt.NDArray[Any] | None = None
    for k, s in enumerate(slices):
        progress(k / len(slices), "reading slices")
        hu = planes.hu(s)
        if out is None:
            # Only now is the image size known to be true.
            shape = (len(slices), s.rows, s.columns)
            out = np.empty(shape, np.int16 if whole else np.float32)
        if out.dtype == np.int16 and (hu.min() < -32768 or hu.max() > 32767):
            out = out.astype(np.float32)
        out[k] = hu
        for other in repeats.get(k, []):
            if not np.array_equal(hu, planes.hu(other)):
                raise ImagingError(
                    f"{s.path.parent}: {s.path.name} and {other.path.name} show different images "
                    f"of the same place ({s.place} mm); export one phase or reconstruction only."
                )
    assert out is not None, "a stack has slices"
    return np.ascontiguousarray(out.transpose(2, 1, 0))
