"""Label maps and masks that others made: whose ids they are, and whether they fit the CT."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER_SHORT
from sacroplan.errors import Doubt, FormatError, ImagingError
from sacroplan.formats import dicom_seg
from sacroplan.formats.atomic import write_bytes
from sacroplan.formats.dicom_headers import is_dicom
from sacroplan.formats.images import RawImage, gzipped, kind_of, nifti_bytes, read_image
from sacroplan.formats.lattice import Placement, placement
from sacroplan.formats.names import (
    canonical_name,
    is_sixth_lumbar,
    own_ids,
    own_names,
    tables,
)
from sacroplan.formats.paint import Painter
from sacroplan.formats.segnrrd import is_segmentation, layers, segment_mask, segments
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry

Scheme = Literal["auto", "own", "totalsegmentator", "totalsegmentator_v1", "totalsegmentator_v3"]

_VERSIONS: Mapping[str, str] = {
    "totalsegmentator": "v2", "totalsegmentator_v1": "v1", "totalsegmentator_v3": "v3",
}  # fmt: skip

_TELLING_ID = 26
"""The id that is S1 in version 2 of TotalSegmentator and L6 in version 3."""


@dataclass(frozen=True, eq=False)
class LabelReading:
    """Labels on the CT's grid with the program's own ids.

    Attributes
    ----------
    labels : ``names`` holds the structures present.
    source : whose labels they are and how that was told, in words for the dossier.
    doubts : what had to be assumed or resolved.
    """

    labels: LabelMap
    source: str
    doubts: tuple[Doubt, ...]


def total_names(version: str = "v2") -> dict[int, str]:
    """The bones of interest in a multilabel file of TotalSegmentator's task ``total``."""
    ids = tables()["totalsegmentator"][version]["ids"]
    return {int(key): name for key, name in ids.items()}


def _title(version: str) -> str:
    return f"TotalSegmentator {version}, task {tables()['totalsegmentator'][version]['task']}"


def _place(geometry: VolumeGeometry, reference: VolumeGeometry, path: Path) -> Placement:
    """Where a file's grid lies in the CT's; refuses another grid, naming both."""
    found = placement(geometry, reference)
    if found is None:
        g = Volume(geometry, np.broadcast_to(np.uint8(0), geometry.shape)).canonical().geometry
        raise ImagingError(
            f"{path} does not lie on the CT's grid: it has {g.describe()}, the CT has "
            f"{reference.describe()}; export the labels in the geometry of the CT."
        )
    return found


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


def _versions_of(names: Mapping[int, str]) -> list[str]:
    """Versions of TotalSegmentator whose class maps agree with a file's names of bones."""
    out = []
    for version in tables()["totalsegmentator"]:
        known = total_names(version)
        bones = {i: name for i, name in names.items() if name in known.values()}
        rivals = {i: name for i, name in names.items() if i in known}
        if bones and bones == rivals and bones.items() <= known.items():
            out.append(version)
    return out


def _by_names(ids: set[int], names: Mapping[int, str]) -> tuple[dict[int, str], str]:
    """For every id the file's name of it, and in words whose names they are."""
    versions = _versions_of(names)
    if len(versions) == 1:
        told = f"{_title(versions[0])}, by the names in its header"
    elif versions:
        told = f"TotalSegmentator {' or '.join(versions)}, whose names in the header agree"
    else:
        told = "the names in its header"
    return {i: names[i] for i in ids if i in names}, told


def _whose(
    ids: set[int], file_names: Mapping[int, str], scheme: Scheme, path: Path
) -> tuple[dict[int, str], str]:
    """For every id of interest the name that its maker gave it, and in words who that was."""
    own, total = own_names(), total_names()
    if scheme == "own":
        return {i: own[i] for i in ids if i in own}, "this program's ids, as stated"
    if scheme in _VERSIONS:
        stated = total_names(_VERSIONS[scheme])
        return (
            {i: stated[i] for i in ids if i in stated},
            f"{_title(_VERSIONS[scheme])}, as stated",
        )
    if file_names:
        return _by_names(ids, file_names)
    if ids <= set(own) and ids != {own_ids()["tumour"]}:
        return {i: own[i] for i in ids}, "this program's ids"
    bones = ids & set(total)
    # Ids 32 and up exist only there; 25 to 31 alone could be any vertebra numbering.
    if max(ids) <= 117 and 25 in bones and len(bones) >= 3:
        return {i: total[i] for i in bones}, f"{_title('v2')}, by its set of ids"
    raise ImagingError(
        f"{path} holds label ids {_short(ids)} without names, which fit neither this program's "
        f"({_short(set(own))}) nor TotalSegmentator's (25 sacrum, 27 L5, 77 and 78 hips); state "
        'them as scheme = "own" or "totalsegmentator", or give a .seg.nrrd with segment names.'
    )


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


# --- Reading -------------------------------------------------------------------------------------


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if not file.exists():
        raise FormatError(f"{file} does not exist.")
    return file


def _stem(file: Path) -> str:
    """The name of a mask file without its endings: ``hip_left`` of ``hip_left.nii.gz``."""
    return file.name.split(".", 1)[0]


def _masks_in(folder: Path) -> list[tuple[str, Path]]:
    """The mask files of a folder that are named like a structure of interest, in order of ids."""
    ids = own_ids()
    named = [(canonical_name(_stem(f)), f) for f in sorted(folder.iterdir()) if kind_of(f)]
    found = [(name, f) for name, f in named if name is not None]
    return sorted(found, key=lambda pair: (ids[pair[0]], pair[1].name))


def _only_seg_in(folder: Path) -> Path:
    """The one DICOM segmentation of a folder without mask files."""
    found = [f for f in sorted(folder.iterdir()) if f.is_file() and is_dicom(f)]
    found = [f for f in found if dicom_seg.is_dicom_seg(f)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f.name for f in found[:5])
        raise FormatError(f"{folder} holds {len(found)} DICOM segmentations; name one: {names}.")
    raise FormatError(
        f"{folder} holds no mask named like a bone (sacrum.nii.gz, vertebrae_L5.nii.gz, "
        "hip_left.nii.gz ...) and no DICOM segmentation."
    )


def _read_masks(
    masks: Iterable[tuple[str, Path]], reference: VolumeGeometry, painter: Painter
) -> str:
    ids = own_ids()
    stems = set()
    for name, file in masks:
        raw = read_image(file)
        if is_segmentation(raw):
            raise FormatError(
                f"{file} holds named segments; give it alone, not as one mask of many."
            )
        mask = _whole(raw, file) > 0
        stems.add(_stem(file))
        window = _place(raw.geometry, reference, file).window(painter.image)
        painter.paint(np.where(mask, np.uint8(ids[name]), np.uint8(0)), window)
    told = ""
    if "vertebrae_S1" in stems:
        told = f", named as by {_title('v2')}"
    elif any(s.startswith("vertebrae_") for s in stems):
        told = ", named as by TotalSegmentator"
    return f"folder of {len(stems)} masks{told}"


def _read_dicom(
    file: Path, reference: VolumeGeometry, painter: Painter
) -> tuple[str, tuple[Doubt, ...]]:
    seg = dicom_seg.read_dicom_seg(file)
    ids = {s.number: own_ids()[s.name] for s in seg.segments if s.name is not None}
    dicom_seg.paint(seg, reference, ids, painter)
    told = "DICOM segmentation, by its segments' labels and codes"
    return told, _sixth_lumbar(file, (s.label for s in seg.segments))


def _read_file(
    file: Path, reference: VolumeGeometry, scheme: Scheme, painter: Painter
) -> tuple[str, tuple[Doubt, ...]]:
    raw = read_image(file)
    ids_of = own_ids()
    if is_segmentation(raw):
        found = segments(raw, file)
        known = {s.name: canonical_name(s.name) for s in found}
        named = {name: ids_of[own] for name, own in known.items() if own is not None}
        window = _place(raw.geometry, reference, file).window(painter.image)
        for layer in layers(raw, found, named):
            painter.paint(layer, window)
        return "segmentation with named segments", _sixth_lumbar(file, known)
    stored = _whole(raw, file)
    ids = {int(i) for i in np.unique(stored)} - {0}
    if not ids:
        raise ImagingError(f"{file} is empty: no voxel is labelled.")
    names, told = _whose(ids, raw.label_names, scheme, file)
    table = np.zeros(int(stored.max()) + 1, dtype=np.uint8)
    for i, name in names.items():
        own = canonical_name(name)
        table[i] = 0 if own is None else ids_of[own]
    painter.paint(table[stored], _place(raw.geometry, reference, file).window(painter.image))
    return told, (*raw.doubts, *_assumed(file, ids, names, told))


def _assumed(file: Path, ids: set[int], names: Mapping[int, str], told: str) -> Iterable[Doubt]:
    """What a label file leaves open about the lumbosacral border."""
    if told.endswith("by its set of ids") and _TELLING_ID in ids:
        yield Doubt(
            "anatomy",
            "anatomy.labels.version_assumed",
            f"{file.name} does not name its labels; its ids were read as {_title('v2')}, where id "
            f"{_TELLING_ID} is S1 and part of the sacrum. In {_title('v3')} it is L6: if these are "
            'of that version, state labels_scheme = "totalsegmentator_v3".',
        )
    yield from _sixth_lumbar(file, names.values())


def _sixth_lumbar(file: Path, names: Iterable[str]) -> tuple[Doubt, ...]:
    """A doubt where a file names a structure that the program has no place for."""
    if not any(is_sixth_lumbar(name) for name in names):
        return ()
    return (
        Doubt(
            "anatomy",
            "anatomy.labels.sixth_lumbar",
            f"{file.name} labels a sixth lumbar vertebra. It was left out: the plan takes L5 for "
            "the vertebra on the sacrum. Renumber the labels from the sacrum upwards, or expect "
            "the cut above the sacrum in the wrong place.",
        ),
    )


def _contested(file: Path, painter: Painter, voxel_mm3: float) -> tuple[Doubt, ...]:
    pairs = painter.contested()
    if not pairs:
        return ()
    names = own_names()
    total = sum(pairs.values())
    worst = sorted(pairs.items(), key=lambda p: (-p[1], p[0]))[:3]
    listed = ", ".join(f"{names[a]} and {names[b]} {n}" for (a, b), n in worst)
    return (
        Doubt(
            "anatomy",
            "anatomy.labels.overlap",
            f"{file.name} marks {total} voxels ({total * voxel_mm3 / 1000.0:.2g} cm3) as two "
            f"structures ({listed}); a tumour kept its voxels, of two bones the later one.",
        ),
    )


def read_label_file(
    path: str | os.PathLike[str], reference: VolumeGeometry, scheme: Scheme = "auto"
) -> LabelReading:
    """Read bone labels on the grid of the CT.

    Understood are this program's ids, TotalSegmentator's multilabel files (by the names in their
    header, else by the set of ids) and folders of masks, .seg.nrrd with layers, and DICOM SEG. The
    voxels must be the CT's; they may be stored in another axis order, mirrored, or only in part
    (a segmentation that 3D Slicer cropped to what is labelled).

    Parameters
    ----------
    path : NIfTI, NRRD, .seg.nrrd, MetaImage or DICOM SEG file, or a folder of masks.
    reference : geometry of the canonical CT; the result carries exactly this geometry.
    scheme : whose ids they are, for files that do not tell.

    Returns
    -------
    LabelReading : uint8 labels with the program's own ids, and whose labels they were.

    Raises
    ------
    FormatError : not a label file.
    ImagingError : another grid or frame of reference than the CT's, unknown ids, no bone of
        interest, sides exchanged.
    """
    file = _existing(path)
    painter = Painter(reference.shape, keeps=own_ids()["tumour"])
    doubts: tuple[Doubt, ...] = ()
    masks = _masks_in(file) if file.is_dir() else []
    if masks:
        source = _read_masks(masks, reference, painter)
        doubts = _sixth_lumbar(file, (_stem(f) for f in file.iterdir() if kind_of(f)))
    elif file.is_dir():
        source, doubts = _read_dicom(_only_seg_in(file), reference, painter)
    elif kind_of(file) is None and is_dicom(file):
        source, doubts = _read_dicom(file, reference, painter)
    else:
        source, doubts = _read_file(file, reference, scheme, painter)
    names = {i: name for i, name in own_names().items() if np.any(painter.image == i)}
    if not names:
        raise ImagingError(f"{file} labels none of the structures {sorted(own_ids())}.")
    labels = LabelMap(reference, painter.image, names)
    _check_sides(labels, file)
    doubts = (*doubts, *_contested(file, painter, reference.voxel_volume_mm3))
    return LabelReading(labels, source, doubts)


def read_labels(
    path: str | os.PathLike[str], reference: VolumeGeometry, scheme: Scheme = "auto"
) -> LabelMap:
    """The labels of :func:`read_label_file` alone."""
    return read_label_file(path, reference, scheme).labels


def read_mask(
    path: str | os.PathLike[str], reference: VolumeGeometry, label: str | int | None = None
) -> npt.NDArray[np.bool_]:
    """Read a mask (a tumour, say) on the grid of the CT: boolean (i, j, k).

    ``label`` picks one id or one segment name; without it everything labelled belongs to the mask.
    Raises FormatError or ImagingError (another grid, empty mask, no such label).
    """
    file = _existing(path)
    if file.is_dir():
        file = _only_seg_in(file)
    if kind_of(file) is None and is_dicom(file):
        return _dicom_mask(file, reference, label)
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
    out = np.zeros(reference.shape, dtype=np.bool_)
    _place(raw.geometry, reference, file).window(out)[...] = mask
    return out


def _dicom_mask(
    file: Path, reference: VolumeGeometry, label: str | int | None
) -> npt.NDArray[np.bool_]:
    seg = dicom_seg.read_dicom_seg(file)
    chosen = dicom_seg.chosen(seg, label)
    if not chosen:
        names = sorted(s.label for s in seg.segments)
        raise ImagingError(f"{file} has no segment {label!r}; there are {names}.")
    painter = Painter(reference.shape)
    dicom_seg.paint(seg, reference, {s.number: 1 for s in chosen}, painter)
    if not painter.image.any():
        raise ImagingError(f"{file} is empty: no voxel is marked.")
    return painter.image > 0


# --- Writing -------------------------------------------------------------------------------------


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
