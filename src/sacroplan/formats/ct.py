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
from sacroplan.formats.archive import Gathered, opened
from sacroplan.formats.dicom_in import Series
from sacroplan.formats.dicom_source import DicomSource, source_of
from sacroplan.formats.dicom_words import kernel_class
from sacroplan.formats.images import (
    RawImage,
    kind_of,
    metaimage_fields,
    nrrd_data_file,
    read_image,
)
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
    kernel_class : ``"sharp"`` or ``"smooth"`` by the kernel's name, empty if unknown.
    why : in words, why this series was taken.
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
    kernel_class: str = ""
    why: str = ""
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
    """Read a CT from DICOM (folder, slice, DICOMDIR), NIfTI, NRRD, MetaImage, or a zip of these.

    Parameters
    ----------
    path : folder or file. One DICOM slice stands for its whole series.
    series : DICOM series instance UID, number or description as :func:`list_series` tells them;
        without it the best one is taken and a doubt names the others.
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
    with opened(file) as found:
        image = _lone_image(file, found)
        if image is not None:
            progress(0.1, "reading the image")
            return _from_image(read_image(image), image, modality)
        return _from_dicom(file, found, series, progress, modality)


def list_series(
    path: str | os.PathLike[str], series: str | None = None, modality: str = "CT"
) -> Series:
    """Every DICOM series behind a path, the chosen one first, with the reason for or against it.

    Raises
    ------
    FormatError, ImagingError : as :func:`read_ct`, and for an image file that holds no series.
    """
    file = Path(path)
    with opened(file) as found:
        image = _lone_image(file, found)
        if image is not None:
            raise FormatError(f"{file} is one image, there are no series to choose from.")
        return dicom_in.list_series(file, found, series, modality)


def _lone_image(path: Path, found: Gathered) -> Path | None:
    """The NIfTI, NRRD or MetaImage file that a path stands for, None where it is DICOM.

    A folder or zip stands for its only image where it holds no DICOM at all.
    """
    images = [f for f in found.files if kind_of(f) is not None]
    if found.files == (path,):
        return path if images else None
    if len(images) != 1 or any(dicom_in.is_dicom(f) for f in found.files):
        return None
    return images[0]


def inputs_of(path: Path) -> list[Path]:
    """The files and folders that are read for a CT: for one slice, its folder; for a header, its data.

    What changes in none of these cannot change what :func:`read_ct` returns.
    """
    if path.is_dir() or not path.is_file():
        return [path]
    kind = kind_of(path)
    if kind is None:
        return [path.parent] if dicom_in.is_dicom(path) else [path]
    data = None
    if kind == "metaimage":
        data = metaimage_fields(path).get("elementdatafile")
    elif kind == "nrrd":
        data = nrrd_data_file(path)
    beside = path.parent / data if data and data.upper() != "LOCAL" else None
    return [path, beside] if beside is not None and beside.is_file() else [path]


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


def _from_dicom(
    path: Path, found: Gathered, series: str | None, progress: Progress, modality: str
) -> CtImage:
    loaded = dicom_in.load(path, found, series, modality, progress)
    data, stack = loaded.data, loaded.stack
    shape = (data.shape[0], data.shape[1], data.shape[2])
    try:
        geometry = VolumeGeometry(
            shape, loaded.spacing_mm, loaded.origin, stack.direction, loaded.frame
        )
    except GeometryError as error:
        raise ImagingError(f"{path}: {error}") from error
    volume, axes = _canonical(geometry, data)
    del data
    first = stack.slices[0]
    info = CtInfo(
        modality=first.modality,
        source_format="dicom",
        spacing_mm=_spacing(volume),
        slice_axis=axes.index(2),
        slice_thickness_mm=first.thickness_mm,
        gantry_tilt_deg=stack.tilt_deg if stack.slides else 0.0,
        kvp=first.kvp,
        kernel=first.kernel,
        kernel_class=kernel_class(first.kernel),
        why=loaded.why,
        model=first.model,
        contrast=first.contrast,
        series_uid=first.series_uid,
        frame_uid=first.frame_uid,
        series_description=first.description,
        series_number=first.series_number,
        patient_position=first.patient_position,
        acquired=first.acquired,
        set_aside=loaded.set_aside,
        source=source_of(stack.slices),
    )
    return CtImage(volume, info, loaded.doubts)


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
