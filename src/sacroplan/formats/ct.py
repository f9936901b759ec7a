"""The planning CT: one entry for every file format, canonical, in HU, never with a name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import Doubt, FormatError, GeometryError, ImagingError
from sacroplan.formats import dicom_in
from sacroplan.formats.dicom_source import DicomSource, source_of
from sacroplan.formats.images import RawImage, kind_of, read_image
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class CtInfo:
    """What is known about a CT besides its voxels. Never a name, an identifier or a birth date.

    Attributes
    ----------
    modality : ``"CT"`` (or ``"MR"`` for an MRI read by the same way).
    source_format : ``"dicom"``, ``"nifti"``, ``"nrrd"`` or ``"metaimage"``.
    spacing_mm : voxel size along i, j, k of the canonical volume.
    slice_axis : canonical axis (0, 1, 2) along which slices were acquired; None if unknown.
    slice_thickness_mm : nominal thickness of a slice, None if unknown.
    gantry_tilt_deg : tilt found in the slice positions (0 when straight), None if unknown.
    acquired : ``"YYYY-MM"`` at most, empty if unknown.
    set_aside : what the folder also held and was not used.
    source : identifiers of the slices, for DICOM with complete ones; None for any other CT.
    """

    modality: str
    source_format: str
    spacing_mm: tuple[float, float, float]
    slice_axis: int | None = None
    slice_thickness_mm: float | None = None
    gantry_tilt_deg: float | None = None
    kvp: float | None = None
    kernel: str = ""
    model: str = ""
    contrast: str = ""
    series_uid: str = ""
    frame_uid: str = ""
    series_description: str = ""
    series_number: str = ""
    patient_position: str = ""
    acquired: str = ""
    set_aside: tuple[str, ...] = ()
    source: DicomSource | None = None

    def to_json(self) -> Mapping[str, Any]:
        """Plain dictionary for provenance."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class CtImage:
    """A CT ready for planning: canonical ``volume`` (HU), ``info`` and ``doubts``."""

    volume: Volume
    info: CtInfo
    doubts: tuple[Doubt, ...] = ()


def read_ct(
    path: str | os.PathLike[str],
    series: str | None = None,
    progress: Progress = silent,
    modality: str = "CT",
) -> CtImage:
    """Read a CT from a DICOM folder or file, NIfTI, NRRD or MetaImage.

    Parameters
    ----------
    path : folder or file. One DICOM slice stands for its whole series.
    series : DICOM series instance UID, number or description; without it the series with most axial
        slices is taken and a doubt names the others.
    modality : ``"CT"``; ``"MR"`` reads an MRI from DICOM by the same rules.

    Returns
    -------
    CtImage : canonical, int16 where all values are whole, else float32. The frame is the DICOM
        FrameOfReferenceUID, or ``"LPS"``.

    Raises
    ------
    FormatError : missing path, not an image, damaged or cut-short file.
    ImagingError : no CT volume, missing slices, uneven spacing, varying tilt, unknown orientation
        (HANDBOOK CT-06).
    """
    file = Path(path)
    if not file.exists():
        raise FormatError(f"{file} does not exist.")
    if file.is_dir():
        return _from_dicom(file, series, progress, modality)
    if kind_of(file) is not None:
        return _from_image(read_image(file), file, modality)
    return _from_dicom(file, series, progress, modality)


def _canonical(geometry: VolumeGeometry, data: npt.NDArray[Any]) -> tuple[Volume, list[int]]:
    """Canonical volume, and for every canonical axis the file axis it came from."""
    volume = Volume(geometry, data).canonical()
    # File order is often Fortran order; everything downstream scans arrays in C order.
    volume = Volume(volume.geometry, np.ascontiguousarray(volume.data))
    cosines = np.abs(volume.geometry.direction.T @ geometry.direction)
    return volume, [int(np.argmax(row)) for row in cosines]


def _spacing(volume: Volume) -> tuple[float, float, float]:
    s = volume.geometry.spacing_mm
    return float(s[0]), float(s[1]), float(s[2])


def _from_dicom(path: Path, series: str | None, progress: Progress, modality: str) -> CtImage:
    data, stack, origin, frame = dicom_in.load(path, series, modality, progress)
    shape = (data.shape[0], data.shape[1], data.shape[2])
    try:
        geometry = VolumeGeometry(shape, stack.spacing_mm, origin, stack.direction, frame)
    except GeometryError as error:
        raise ImagingError(f"{path}: {error}") from error
    volume, axes = _canonical(geometry, data)
    first = stack.slices[0]
    tilt = np.degrees(np.arctan2(np.linalg.norm(stack.shear_mm), stack.spacing_mm[2]))
    info = CtInfo(
        modality=first.modality,
        source_format="dicom",
        spacing_mm=_spacing(volume),
        slice_axis=axes.index(2),
        slice_thickness_mm=first.thickness_mm,
        gantry_tilt_deg=float(tilt),
        kvp=first.kvp,
        kernel=first.kernel,
        model=first.model,
        contrast=first.contrast,
        series_uid=first.series_uid,
        frame_uid=first.frame_uid,
        series_description=first.description,
        series_number=first.series_number,
        patient_position=first.patient_position,
        acquired=first.acquired,
        set_aside=stack.set_aside,
        source=source_of(stack.slices),
    )
    return CtImage(volume, info, stack.doubts)


def _hounsfield(raw: RawImage, path: Path) -> npt.NDArray[Any]:
    data = raw.data
    if data.ndim != 3:
        raise ImagingError(f"{path} holds layers of a segmentation, not a CT.")
    if not np.all(np.isfinite(data)):
        raise ImagingError(f"{path} holds voxels that are not finite numbers.")
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise ImagingError(f"{path} is empty: every voxel is {low:g}.")
    fits = low >= -32768 and high <= 32767
    if fits and (data.dtype.kind in "iu" or bool(np.all(data == np.rint(data)))):
        return data.astype(np.int16)
    return data.astype(np.float32)


def _from_image(raw: RawImage, path: Path, modality: str) -> CtImage:
    volume, axes = _canonical(raw.geometry, _hounsfield(raw, path))
    slice_axis = None if raw.slice_axis is None else axes.index(raw.slice_axis)
    info = CtInfo(
        modality=modality,
        source_format=raw.kind,
        spacing_mm=_spacing(volume),
        slice_axis=slice_axis,
    )
    return CtImage(volume, info, raw.doubts)
