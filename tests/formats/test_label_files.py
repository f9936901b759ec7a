"""Label maps as TotalSegmentator, 3D Slicer and others leave them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import slicerio
from test_labels import GRID, blocks, save
from test_orientations import ALL_48, OBLIQUE

from sacroplan.errors import Doubt, FormatError, ImagingError
from sacroplan.formats.ct import read_ct
from sacroplan.formats.images import nifti_bytes, nrrd_bytes
from sacroplan.formats.labels import (
    LabelReading,
    own_names,
    read_label_file,
    read_labels,
    read_mask,
    total_names,
)
from sacroplan.formats.names import snomed
from sacroplan.formats.segnrrd import segnrrd_bytes, write_segnrrd
from sacroplan.geometry.volume import LabelMap, VolumeGeometry

TURNED = VolumeGeometry(GRID.shape, GRID.spacing_mm, GRID.origin, OBLIQUE, "1.2.3")


def with_names(file: Path, data: np.ndarray, names: Mapping[int, str]) -> Path:
    """A NIfTI file with the label table in its header, as TotalSegmentator writes it."""
    table = "".join(
        f'<Label Key="{i}" Red="1.0" Green="0.0" Blue="0.0" Alpha="1"><![CDATA[{n}]]></Label>\n'
        for i, n in names.items()
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <VolumeInformation Index="0">'
        f"<LabelTable>\n{table}</LabelTable></VolumeInformation></CaretExtension>"
    )
    image = nibabel.Nifti1Image(data, np.diag([-1.0, -1, 1, 1]) @ GRID.affine)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, xml.encode()))
    nibabel.save(image, file)
    return file


def codes(doubts: tuple[Doubt, ...]) -> list[str]:
    return [d.code for d in doubts]


@pytest.mark.parametrize(
    ("version", "ids", "own", "doubts"),
    [
        ("v1", [91, 92, 18, 25, 90], [2, 1, 4, 0, 3], []),
        ("v2", [78, 25, 26, 27, 5, 77], [2, 1, 1, 4, 0, 3], []),
        ("v3", [78, 25, 26, 27, 5, 77], [2, 1, 0, 4, 0, 3], ["anatomy.labels.sixth_lumbar"]),
    ],
)
def test_the_version_is_told_by_the_names(
    tmp_path: Path, version: str, ids: list[int], own: list[int], doubts: list[str]
) -> None:
    """The same id 26 is S1, a part of the sacrum, in v2 and a sixth lumbar vertebra in v3."""
    names = {i: f"rib_{i}" for i in range(1, 105)} | total_names(version)
    file = with_names(tmp_path / "a.nii.gz", blocks(ids), names)
    reading = read_label_file(file, GRID)
    np.testing.assert_array_equal(reading.labels.data, blocks(own))
    assert f"TotalSegmentator {version}, task total" in reading.source
    assert "by the names in its header" in reading.source
    assert codes(reading.doubts) == doubts


def test_a_subset_that_both_versions_share_is_called_so(tmp_path: Path) -> None:
    names = {25: "sacrum", 77: "hip_left", 78: "hip_right"}
    reading = read_label_file(with_names(tmp_path / "a.nii.gz", blocks([78, 25, 77]), names), GRID)
    assert "TotalSegmentator v2 or v3" in reading.source
    other = {1: "sacrum", 2: "liver"}
    reading = read_label_file(with_names(tmp_path / "b.nii.gz", blocks([1, 2]), other), GRID)
    assert reading.source == "the names in its header"
    np.testing.assert_array_equal(reading.labels.data, blocks([1, 0]))


def test_bare_ids_say_what_was_assumed(tmp_path: Path) -> None:
    file = save(tmp_path / "a.nii", blocks([78, 25, 26, 27, 77]))
    reading = read_label_file(file, GRID)
    assert reading.source == "TotalSegmentator v2, task total, by its set of ids"
    [doubt] = reading.doubts
    assert doubt.code == "anatomy.labels.version_assumed"
    assert "id 26 is S1" in doubt.message
    assert 'labels_scheme = "totalsegmentator_v3"' in doubt.message
    without = read_label_file(save(tmp_path / "b.nii", blocks([78, 25, 27, 77])), GRID)
    assert not without.doubts
    for scheme, own in [
        ("totalsegmentator", [2, 1, 1, 4, 3]),
        ("totalsegmentator_v3", [2, 1, 0, 4, 3]),
    ]:
        stated = read_label_file(file, GRID, scheme)  # type: ignore[arg-type]
        np.testing.assert_array_equal(stated.labels.data, blocks(own))
        assert stated.source.endswith("as stated")
        assert codes(stated.doubts) == (["anatomy.labels.sixth_lumbar"] if "v3" in scheme else [])
    v1 = read_label_file(
        save(tmp_path / "c.nii", blocks([91, 92, 90])), GRID, "totalsegmentator_v1"
    )
    np.testing.assert_array_equal(v1.labels.data, blocks([2, 1, 3]))
    assert (
        read_label_file(save(tmp_path / "d.nii", blocks([1])), GRID).source == "this program's ids"
    )


# --- A folder of masks -----------------------------------------------------------------------------


def masks(folder: Path, **columns: Any) -> Path:
    """One mask a name; each marks the columns given."""
    folder.mkdir()
    for name, marked in columns.items():
        data = np.zeros(GRID.shape, dtype=np.uint8)
        for i in marked:
            data[i, 3, 2:5] = 1
        (folder / f"{name}.nii.gz").write_bytes(nifti_bytes(GRID, data))
    return folder


def columns(**marked: Any) -> np.ndarray:
    ids = {name: i for i, name in own_names().items()}
    data = np.zeros(GRID.shape, dtype=np.uint8)
    for name, at in marked.items():
        for i in at:
            data[i, 3, 2:5] = ids[name]
    return data


def test_a_folder_of_masks(tmp_path: Path) -> None:
    folder = masks(
        tmp_path / "seg", sacrum=[5], vertebrae_S1=[6], vertebrae_L5=[7], hip_right=[1],
        hip_left=[12], liver=[2], femur_left=[], tumour=[9],
    )  # fmt: skip
    (folder / "statistics.json").write_text("{}")
    reading = read_label_file(folder, GRID)
    np.testing.assert_array_equal(
        reading.labels.data,
        columns(sacrum=[5, 6], L5=[7], hip_right=[1], hip_left=[12], tumour=[9]),
    )
    assert set(reading.labels.names.values()) == {"sacrum", "L5", "hip_right", "hip_left", "tumour"}
    assert "folder of 7 masks" in reading.source
    assert "TotalSegmentator v2" in reading.source
    assert not reading.doubts


def test_masks_that_overlap_are_resolved_aloud(tmp_path: Path) -> None:
    folder = masks(tmp_path / "seg", tumour=[5, 6], sacrum=[4, 5, 6, 7], vertebrae_L5=[7, 8])
    reading = read_label_file(folder, GRID)
    np.testing.assert_array_equal(
        reading.labels.data, columns(sacrum=[4], tumour=[5, 6], L5=[7, 8])
    )
    [doubt] = reading.doubts
    assert doubt.code == "anatomy.labels.overlap"
    assert "marks 9 voxels" in doubt.message  # 2 columns and 1 column of 3
    assert "sacrum and tumour 6, sacrum and L5 3" in doubt.message


def test_a_folder_with_a_sixth_lumbar_vertebra_or_with_nothing(tmp_path: Path) -> None:
    reading = read_label_file(masks(tmp_path / "a", sacrum=[5], vertebrae_L6=[6]), GRID)
    assert codes(reading.doubts) == ["anatomy.labels.sixth_lumbar"]
    np.testing.assert_array_equal(reading.labels.data, columns(sacrum=[5]))
    with pytest.raises(FormatError, match="no mask named like a bone"):
        read_labels(masks(tmp_path / "b", liver=[1]), GRID)
    with pytest.raises(ImagingError, match="labels none of the structures"):
        read_labels(masks(tmp_path / "c", sacrum=[]), GRID)
    with pytest.raises(FormatError, match="no DICOM segmentation"):
        read_mask(tmp_path / "b", GRID)
    folder = masks(tmp_path / "d", sacrum=[1])
    off = VolumeGeometry(GRID.shape, GRID.spacing_mm, GRID.origin + [0, 0, 1.25])
    (folder / "hip_left.nii").write_bytes(nifti_bytes(off, columns(hip_left=[3])))
    with pytest.raises(ImagingError, match=r"hip_left\.nii does not lie on the CT's grid"):
        read_labels(folder, GRID)


# --- Turned and cropped grids ------------------------------------------------------------------------


@pytest.mark.parametrize("turn", ALL_48)
def test_turned_and_cropped_labels_are_put_back(tmp_path: Path, turn: np.ndarray) -> None:
    """Any axis order and sense, and only the box around what is labelled."""
    truth = blocks([2, 1, 4, 3, 20])
    low, high = np.array([0, 2, 1]), np.array([7, 6, 9])
    part = TURNED.cropped(low, high)
    axes, signs = np.abs(turn).argmax(axis=0), turn.sum(axis=0)
    first = np.zeros(3)
    first[axes] = np.where(signs < 0, np.array(part.shape)[axes] - 1, 0)
    stored = VolumeGeometry(
        tuple(part.shape[a] for a in axes), part.spacing_mm[axes], part.to_world(first),
        part.direction[:, axes] * signs,
    )  # fmt: skip
    flip = tuple(slice(None, None, -1) if s < 0 else slice(None) for s in signs)
    data = np.ascontiguousarray(np.transpose(truth[0:7, 2:6, 1:9], axes)[flip])
    (tmp_path / "a.nii").write_bytes(nifti_bytes(stored, data))
    (tmp_path / "a.seg.nrrd").write_bytes(
        segnrrd_bytes(LabelMap(stored, data, {i: own_names()[i] for i in (1, 2, 3, 4, 20)}))
    )
    (tmp_path / "a.nrrd").write_bytes(nrrd_bytes(stored, data))
    for name in ("a.nii", "a.seg.nrrd", "a.nrrd"):
        back = read_labels(tmp_path / name, TURNED)
        assert back.geometry is TURNED
        np.testing.assert_array_equal(back.data, truth, err_msg=name)
        np.testing.assert_array_equal(read_mask(tmp_path / name, TURNED), truth > 0)


def test_a_part_must_lie_on_the_lattice_and_inside(tmp_path: Path) -> None:
    part = GRID.cropped([1, 1, 1], [8, 8, 8])
    data = np.ones(part.shape, dtype=np.uint8)
    for shift in ([0.5, 0, 0], [0, 0, -2], [14, 0, 0]):
        moved = VolumeGeometry(part.shape, part.spacing_mm, part.to_world(shift))
        file = save(tmp_path / "a.nii", data, moved)
        with pytest.raises(ImagingError, match="does not lie on the CT's grid"):
            read_labels(file, GRID)
    assert read_labels(save(tmp_path / "b.nii", data, part), GRID).mask("sacrum").sum() == 7**3


def test_a_sixth_lumbar_vertebra_is_never_overlooked(tmp_path: Path) -> None:
    names = {1: "sacrum", 2: "L6 vertebra"}
    write_segnrrd(LabelMap(GRID, blocks([1, 2]), names), tmp_path / "a.seg.nrrd")
    reading = read_label_file(tmp_path / "a.seg.nrrd", GRID)
    assert codes(reading.doubts) == ["anatomy.labels.sixth_lumbar"]
    np.testing.assert_array_equal(reading.labels.data, blocks([1, 0]))


def test_layers_keep_the_tumour(tmp_path: Path) -> None:
    """3D Slicer puts overlapping segments into layers; the tumour keeps its voxels in any order."""
    bone, tumour = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint8)
    bone[4:9, 3, 2:5], tumour[6:8, 3, 3] = 1, 1
    for names in (("Tumor", "Sacrum"), ("Sacrum", "Tumor")):
        planes = {"Tumor": tumour, "Sacrum": bone}
        stack = np.stack([planes[n] for n in names])
        lines = [
            "NRRD0004", "type: unsigned char", "dimension: 4", "space: left-posterior-superior",
            "sizes: 2 20 12 10", "space directions: none (2,0,0) (0,2,0) (0,0,2.5)",
            "kinds: list domain domain domain", "encoding: raw", "space origin: (-20,5,100)",
        ]  # fmt: skip
        for n, name in enumerate(names):
            lines += [f"Segment{n}_ID:=Segment_{n}", f"Segment{n}_Name:={name}",
                      f"Segment{n}_LabelValue:=1", f"Segment{n}_Layer:={n}"]  # fmt: skip
        file = tmp_path / "a.seg.nrrd"
        file.write_bytes("\n".join([*lines, "", ""]).encode() + stack.tobytes(order="F"))
        reading = read_label_file(file, GRID)
        np.testing.assert_array_equal(reading.labels.mask("tumour"), tumour == 1)
        np.testing.assert_array_equal(reading.labels.mask("sacrum"), (bone == 1) & (tumour == 0))
        assert codes(reading.doubts) == ["anatomy.labels.overlap"]


# --- slicerio, an independent reader and writer of .seg.nrrd -------------------------------------------


def test_slicerio_opens_what_is_written(tmp_path: Path) -> None:
    ids = [2, 1, 4, 5, 3, 20]
    data = np.zeros(TURNED.shape, np.uint8)
    for n, label in enumerate(ids):
        data[2 * n : 2 * n + 2, 3, 2:5] = label
        data[2 * n, 3:6, 2] = label
    labels = LabelMap(TURNED, data, {i: own_names()[i] for i in ids})
    write_segnrrd(labels, tmp_path / "bones.seg.nrrd")
    found = slicerio.read_segmentation(str(tmp_path / "bones.seg.nrrd"))
    segments = {s["name"]: s for s in found["segments"]}
    assert segments.keys() == set(labels.names.values())
    lps = found["ijkToLPS"]
    for i, name in labels.names.items():
        assert segments[name]["labelValue"] == i
        assert segments[name]["id"] == f"Segment_{i}"
        known, told = snomed(name), segments[name]["terminology"]
        assert known is not None
        for words, code in (("category", known.category), ("type", known.kind)):
            assert told[words] == [code.scheme, code.value, code.meaning]
        assert ("typeModifier" in told) == (known.side is not None)
        if known.side is not None:
            assert told["typeModifier"][2].lower() == name.rsplit("_", 1)[1]
        index = np.argwhere(found["voxels"] == i).mean(axis=0)
        centre = labels.geometry.to_world(np.argwhere(labels.mask(name)).mean(axis=0))
        np.testing.assert_allclose(lps[:3, :3] @ index + lps[:3, 3], centre, atol=0.01)


def test_what_slicerio_writes_is_read(tmp_path: Path) -> None:
    data = blocks([2, 1, 4, 3])
    box = data[0:6, 2:5, 1:8]
    geometry = TURNED.cropped([0, 2, 1], [6, 5, 8])
    slicerio.write_segmentation(
        str(tmp_path / "a.seg.nrrd"),
        {
            "voxels": box,
            "ijkToLPS": geometry.affine,
            "containedRepresentationNames": ["Binary labelmap"],
            "segments": [
                {"id": f"S{i}", "name": name, "labelValue": i, "color": [1, 0, 0]}
                for i, name in (
                    (1, "Sacrum"),
                    (2, "right hip"),
                    (3, "left hip"),
                    (4, "L5 vertebra"),
                )
            ],
        },
    )
    reading: LabelReading = read_label_file(tmp_path / "a.seg.nrrd", TURNED)
    np.testing.assert_array_equal(reading.labels.data, data)
    assert not reading.doubts


@pytest.mark.shared
def test_a_real_totalsegmentator_file_and_its_folder_of_masks(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "real_ct_3mm"
    ct = read_ct(folder / "ct.nii.gz")
    g = ct.volume.geometry
    reading = read_label_file(folder / "totalseg_multilabel.nii.gz", g)
    assert "TotalSegmentator v2, task total" in reading.source
    file = nibabel.load(folder / "totalseg_multilabel.nii.gz")
    stored = np.asarray(file.dataobj)
    for i, name in total_names().items():
        mask = nibabel.Nifti1Image((stored == i).astype(np.uint8), file.affine)
        nibabel.save(mask, tmp_path / f"{name}.nii.gz")
    masks_read = read_label_file(tmp_path, g)
    np.testing.assert_array_equal(masks_read.labels.data, reading.labels.data)
    assert "TotalSegmentator v2" in masks_read.source
    assert not masks_read.doubts
    # Slicer saves no more than the box around what is labelled.
    where = np.argwhere(reading.labels.data)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = LabelMap(g.cropped(low, high), reading.labels.data[box], reading.labels.names)
    write_segnrrd(part, tmp_path / "edited.seg.nrrd")
    back = read_labels(tmp_path / "edited.seg.nrrd", g)
    np.testing.assert_array_equal(back.data, reading.labels.data)
