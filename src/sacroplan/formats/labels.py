"""Label maps and masks that others made: whose ids they are, and whether they fit the CT."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER_SHORT
from sacroplan.errors import FormatError, ImagingError
from sacroplan.formats.atomic import write_bytes
from sacroplan.formats.images import RawImage, gzipped, nifti_bytes, read_image
from sacroplan.formats.segnrrd import flattened, is_segmentation, segment_mask, segments
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry

Scheme = Literal["auto", "own", "totalsegmentator"]

GRID_TOLERANCE_VOXEL = 0.1
"""A label map whose corners lie within this part of a voxel of the CT's is on the CT's grid:
float32 headers and decimal strings stay a hundred times below, a half-voxel shift lies above."""


@lru_cache(maxsize=1)
def _tables() -> Mapping[str, Any]:
    file = resources.files("sacroplan.formats") / "data" / "labels.toml"
    return tomllib.loads(file.read_text("utf-8"))


def own_names() -> dict[int, str]:
    """The program's own label ids and names."""
    return {int(key): name for key, name in _tables()["own"].items()}


def total_names() -> dict[int, str]:
    """The bones of interest in a TotalSegmentator v2 ``total`` multilabel file."""
    return {int(key): name for key, name in _tables()["totalsegmentator_v2_total"].items()}


def canonical_name(name: str) -> str | None:
    """The program's name of a structure that a file calls ``name``; None if it is none of ours."""
    key = re.sub(r"[\s\-.]+", "_", name.strip().lower())
    for own, others in _tables()["names"].items():
        if key == own.lower() or key in others:
            return str(own)
    return None


def _fit(
    geometry: VolumeGeometry, data: npt.NDArray[Any], reference: VolumeGeometry, path: Path
) -> npt.NDArray[Any]:
    """Data on the reference's canonical grid; refuses another grid, naming both."""
    volume = Volume(geometry, data).canonical()
    g = volume.geometry
    n = np.array(reference.shape) - 1
    corners = np.array(np.meshgrid([0, n[0]], [0, n[1]], [0, n[2]])).reshape(3, -1).T
    same = g.shape == reference.shape
    if same:
        apart = np.linalg.norm(g.to_world(corners) - reference.to_world(corners), axis=1).max()
        same = bool(apart <= GRID_TOLERANCE_VOXEL * reference.spacing_mm.min())
    if not same:
        raise ImagingError(
            f"{path} does not lie on the CT's grid: it has {g.describe()}, the CT has "
            f"{reference.describe()}; export the labels in the geometry of the CT."
        )
    return np.ascontiguousarray(volume.data)


def _whole(raw: RawImage, path: Path) -> npt.NDArray[Any]:
    if raw.data.ndim != 3:
        raise FormatError(f"{path} has layers but names no segments.")
    data = raw.data
    if data.dtype.kind == "f":
        if not np.all(np.isfinite(data)) or not bool(np.all(data == np.rint(data))):
            raise FormatError(f"{path} is not a label map: its voxels are not whole numbers.")
        data = data.astype(np.int32)
    if data.min() < 0:
        raise FormatError(f"{path} is not a label map: it holds negative values; is it an image?")
    return data


def _ids_to_own(
    ids: set[int], file_names: Mapping[int, str], scheme: Scheme, path: Path
) -> dict[int, str]:
    """For every id of interest the program's name of it."""
    own, total = own_names(), total_names()
    if scheme == "own":
        return {i: own[i] for i in ids if i in own}
    if scheme == "totalsegmentator":
        return _named({i: total[i] for i in ids if i in total})
    if file_names:
        return _named({i: file_names[i] for i in ids if i in file_names})
    if ids <= set(own) and ids != {20}:
        return {i: own[i] for i in ids}
    bones = ids & set(total)
    # Ids 32 and up exist only there; 25 to 31 alone could be any vertebra numbering.
    if max(ids) <= 117 and 25 in bones and len(bones) >= 3:
        return _named({i: total[i] for i in bones})
    raise ImagingError(
        f"{path} holds label ids {_short(ids)} without names, which fit neither this program's "
        f"({_short(set(own))}) nor TotalSegmentator's (25 sacrum, 27 L5, 77 and 78 hips); state "
        'them as scheme = "own" or "totalsegmentator", or give a .seg.nrrd with segment names.'
    )


def _named(names: Mapping[int, str]) -> dict[int, str]:
    found = {i: canonical_name(name) for i, name in names.items()}
    return {i: name for i, name in found.items() if name is not None}


def _short(ids: set[int]) -> str:
    listed = sorted(ids)
    return ", ".join(map(str, listed[:12])) + (", ..." if len(listed) > 12 else "")


def _check_sides(labels: LabelMap, path: Path) -> None:
    """The left bone of a pair must lie further left: a mirrored label map is refused."""
    for bone in ("hip", "femur"):
        centres = {}
        for side in ("left", "right"):
            name = f"{bone}_{side}"
            if name in labels.names.values():
                index = np.argwhere(labels.mask(name)).mean(axis=0)
                centres[side] = float(labels.geometry.to_world(index)[0])
        if len(centres) == 2 and centres["left"] <= centres["right"]:
            raise ImagingError(
                f"{path} has left and right exchanged: its {bone}_left lies at x = "
                f"{centres['left']:.0f} mm, {bone}_right at {centres['right']:.0f} mm "
                "(x grows to the patient's left)."
            )


def read_labels(
    path: str | os.PathLike[str], reference: VolumeGeometry, scheme: Scheme = "auto"
) -> LabelMap:
    """Read bone labels on the grid of the CT.

    Understood are this program's ids, a TotalSegmentator v2 ``total`` file (by the names in its
    header, else by its set of ids), and the segment names of a .seg.nrrd.

    Parameters
    ----------
    path : NIfTI, NRRD, .seg.nrrd or MetaImage file.
    reference : geometry of the canonical CT; the result carries exactly this geometry.
    scheme : whose ids they are, for files that do not tell.

    Returns
    -------
    LabelMap : uint8 with the program's own ids; ``names`` holds the structures present.

    Raises
    ------
    FormatError : not a label file.
    ImagingError : another grid than the CT, unknown ids, no bone of interest, sides exchanged.
    """
    file = Path(path)
    if not file.exists():
        raise FormatError(f"{file} does not exist.")
    raw = read_image(file)
    by_name = {name: i for i, name in own_names().items()}
    if is_segmentation(raw):
        found = segments(raw, file)
        known = {s.name: canonical_name(s.name) for s in found}
        ids_of = {name: by_name[own] for name, own in known.items() if own is not None}
        data = flattened(raw, found, ids_of).astype(np.uint8)
    else:
        stored = _whole(raw, file)
        ids = {int(i) for i in np.unique(stored)} - {0}
        if not ids:
            raise ImagingError(f"{file} is empty: no voxel is labelled.")
        mapping = _ids_to_own(ids, raw.label_names, scheme, file)
        table = np.zeros(int(stored.max()) + 1, dtype=np.uint8)
        for i, name in mapping.items():
            table[i] = by_name[name]
        data = table[stored]
    present = {int(i) for i in np.unique(data)} - {0}
    if not present:
        raise ImagingError(f"{file} labels none of the structures {sorted(by_name)}.")
    fitted = _fit(raw.geometry, data, reference, file)
    names = {i: name for i, name in own_names().items() if i in present}
    labels = LabelMap(reference, fitted, names)
    _check_sides(labels, file)
    return labels


def read_mask(
    path: str | os.PathLike[str], reference: VolumeGeometry, label: str | int | None = None
) -> npt.NDArray[np.bool_]:
    """Read a mask (a tumour, say) on the grid of the CT: boolean (i, j, k).

    ``label`` picks one id or one segment name; without it everything labelled belongs to the mask.
    Raises FormatError or ImagingError (another grid, empty mask, no such label).
    """
    file = Path(path)
    if not file.exists():
        raise FormatError(f"{file} does not exist.")
    raw = read_image(file)
    if is_segmentation(raw):
        found = segments(raw, file)
        chosen = [s for s in found if label is None or s.name == label]
        if not chosen:
            names = sorted(s.name for s in found)
            raise ImagingError(f"{file} has no segment {label!r}; there are {names}.")
        mask = segment_mask(raw, chosen[0])
        for s in chosen[1:]:
            mask = mask | segment_mask(raw, s)
    else:
        stored = _whole(raw, file)
        if isinstance(label, str):
            raise ImagingError(f"{file} has no segment names; give the id of {label!r}.")
        mask = stored > 0 if label is None else stored == label
    if not mask.any():
        raise ImagingError(f"{file} is empty: no voxel is marked.")
    return np.asarray(_fit(raw.geometry, mask, reference, file), dtype=np.bool_)


def write_labels_nifti(labels: LabelMap, path: str | os.PathLike[str]) -> None:
    """Write a label map as gzipped NIfTI (RAS affine, own ids); same labels, same bytes."""
    top = int(labels.data.max())
    dtype = np.uint8 if top < 256 else np.int16
    data = nifti_bytes(labels.geometry, labels.data.astype(dtype), BANNER_SHORT)
    write_bytes(path, gzipped(data) if str(path).endswith(".gz") else data)


def write_volume_nifti(volume: Volume, path: str | os.PathLike[str]) -> None:
    """Write an image as (gzipped) NIfTI: int16 or float32; same image, same bytes."""
    data = volume.data
    if data.dtype.kind == "f":
        data = data.astype(np.float32)
    body = nifti_bytes(volume.geometry, data, BANNER_SHORT)
    write_bytes(path, gzipped(body, 4) if str(path).endswith(".gz") else body)
