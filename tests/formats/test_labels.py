from __future__ import annotations

import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from sacroplan.errors import FormatError, GeometryError, ImagingError
from sacroplan.formats.images import nifti_bytes, nrrd_bytes, read_image
from sacroplan.formats.labels import (
    canonical_name,
    own_names,
    read_labels,
    read_mask,
    total_names,
    write_labels_nifti,
)
from sacroplan.formats.segnrrd import read_segnrrd, write_segnrrd
from sacroplan.geometry.volume import LabelMap, VolumeGeometry

GRID = VolumeGeometry((20, 12, 10), np.array([2.0, 2.0, 2.5]), np.array([-20.0, 5.0, 100.0]))


def blocks(ids: list[int]) -> np.ndarray:
    """One 1-voxel column per id along i; later ids lie further to the patient's left."""
    data = np.zeros(GRID.shape, dtype=np.uint8)
    for n, label in enumerate(ids):
        data[n, 3, 2:5] = label
    return data


def save(path: Path, data: np.ndarray, grid: VolumeGeometry = GRID) -> Path:
    path.write_bytes(nifti_bytes(grid, data))
    return path


def test_own_ids(tmp_path: Path) -> None:
    ids = [2, 9, 1, 4, 3, 10, 20]
    labels = read_labels(save(tmp_path / "a.nii", blocks(ids)), GRID)
    assert labels.names == {i: own_names()[i] for i in sorted(ids)}
    np.testing.assert_array_equal(labels.data, blocks(ids))
    assert labels.geometry is GRID


def test_totalsegmentator_by_ids_merges_s1(tmp_path: Path) -> None:
    ids = [78, 76, 25, 26, 27, 31, 20, 117, 77, 75]
    labels = read_labels(save(tmp_path / "a.nii", blocks(ids)), GRID)
    expected = [2, 9, 1, 1, 4, 8, 0, 0, 3, 10]
    np.testing.assert_array_equal(labels.data, blocks(expected))


def test_totalsegmentator_by_header_names(tmp_path: Path) -> None:
    """Names in the file win over ids: a v1 file numbers its sacrum 92."""
    names = {92: "sacrum", 90: "hip_left", 91: "hip_right", 18: "vertebrae_L5", 25: "vertebrae_T10"}
    table = "".join(
        f'<Label Key="{i}" Red="1" Green="0" Blue="0" Alpha="1"><![CDATA[{n}]]></Label>\n'
        for i, n in names.items()
    )
    xml = f"<CaretExtension><VolumeInformation><LabelTable>{table}</LabelTable></VolumeInformation>"
    image = nibabel.Nifti1Image(
        blocks([91, 92, 18, 25, 90]), np.diag([-1.0, -1, 1, 1]) @ GRID.affine
    )
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, xml.encode()))
    nibabel.save(image, tmp_path / "a.nii.gz")
    labels = read_labels(tmp_path / "a.nii.gz", GRID)
    np.testing.assert_array_equal(labels.data, blocks([2, 1, 4, 0, 3]))


@pytest.mark.parametrize("ids", [[21, 22, 23], [25, 26], [1, 2, 30], [20], [25, 27, 200]])
def test_ambiguous_ids_say_how_to_state_them(tmp_path: Path, ids: list[int]) -> None:
    file = save(tmp_path / "a.nii", blocks(ids))
    with pytest.raises(ImagingError, match='scheme = "own" or "totalsegmentator"'):
        read_labels(file, GRID)


def test_stated_scheme(tmp_path: Path) -> None:
    file = save(tmp_path / "a.nii", blocks([25, 26, 5]))
    np.testing.assert_array_equal(
        read_labels(file, GRID, scheme="totalsegmentator").data, blocks([1, 1, 0])
    )
    np.testing.assert_array_equal(read_labels(file, GRID, scheme="own").data, blocks([0, 0, 5]))
    with pytest.raises(ImagingError, match="none of the structures"):
        read_labels(save(tmp_path / "b.nii", blocks([77])), GRID, scheme="own")


def test_exchanged_sides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImagingError, match="left and right exchanged: its hip_left"):
        read_labels(save(tmp_path / "a.nii", blocks([3, 1, 2])), GRID)


@pytest.mark.parametrize(
    "grid",
    [
        VolumeGeometry((20, 12, 10), GRID.spacing_mm, GRID.origin + np.array([0, 0, 1.25])),
        VolumeGeometry((20, 12, 10), np.array([2.0, 2.0, 2.6]), GRID.origin),
        VolumeGeometry((21, 12, 10), GRID.spacing_mm, GRID.origin),
    ],
)
def test_another_grid_names_both(tmp_path: Path, grid: VolumeGeometry) -> None:
    data = np.zeros(grid.shape, dtype=np.uint8)
    data[3:6, 3:6, 3:6] = 1
    file = save(tmp_path / "a.nii", data, grid)
    for read in (read_labels, read_mask):
        with pytest.raises(ImagingError) as caught:
            read(file, GRID)
        assert grid.describe() in str(caught.value)
        assert GRID.describe() in str(caught.value)


def test_labels_take_the_frame_of_the_ct(tmp_path: Path) -> None:
    reference = VolumeGeometry(GRID.shape, GRID.spacing_mm, GRID.origin, frame="1.2.3")
    assert read_labels(save(tmp_path / "a.nii", blocks([1])), reference).frame == "1.2.3"


def test_float_and_big_endian_labels(tmp_path: Path) -> None:
    data = blocks([2, 1, 3])
    affine = np.diag([-1.0, -1, 1, 1]) @ GRID.affine
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float64), affine), tmp_path / "f.nii")
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(data.astype(">i4"), affine, header), tmp_path / "big.nii")
    nibabel.save(nibabel.Nifti2Image(data.astype(np.int32), affine), tmp_path / "two.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    for name in ("f.nii", "big.nii", "two.nii"):
        np.testing.assert_array_equal(read_labels(tmp_path / name, GRID).data, data)
    nibabel.save(nibabel.Nifti1Image(data * 0.5, affine), tmp_path / "half.nii")
    with pytest.raises(FormatError, match="not whole numbers"):
        read_labels(tmp_path / "half.nii", GRID)
    nibabel.save(nibabel.Nifti1Image(data.astype(np.int16) - 5, affine), tmp_path / "ct.nii")
    with pytest.raises(FormatError, match="negative"):
        read_labels(tmp_path / "ct.nii", GRID)


def test_scaled_nifti_matches_nibabel(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image = nibabel.Nifti1Image(rng.normal(0, 400, GRID.shape), np.eye(4))
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    raw = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(raw.data, nibabel.load(tmp_path / "a.nii.gz").get_fdata(), atol=1e-3)


def test_nrrd_flavours(tmp_path: Path) -> None:
    """Raw, ascii and bzip2 data, big endian, RAS space and detached headers give one image."""
    import bz2

    data = np.arange(np.prod(GRID.shape), dtype=np.int16).reshape(GRID.shape)
    plain = nrrd_bytes(GRID, data)
    (tmp_path / "lps.nrrd").write_bytes(plain)
    head = plain[: plain.index(b"\n\n")].decode()
    swapped = data.astype(">i2").tobytes(order="F")

    def variant(name: str, *changes: tuple[str, str], body: bytes) -> Path:
        text = head
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_bytes(text.encode() + b"\n\n" + body)
        return tmp_path / name

    little = data.astype("<i2").tobytes(order="F")
    files = [
        tmp_path / "lps.nrrd",
        variant("raw.nrrd", ("gzip", "raw"), body=little),
        variant("big.nrrd", ("gzip", "raw"), ("little", "big"), body=swapped),
        variant("bz.nrrd", ("gzip", "bzip2"), body=bz2.compress(little)),
        variant(
            "ascii.nrrd",
            ("gzip", "ascii"),
            body=" ".join(str(v) for v in data.ravel(order="F")).encode(),
        ),
        variant("det.nhdr", ("gzip", "raw\ndata file: det.raw"), body=b""),
        variant(
            "ras.nrrd",
            ("left-posterior-superior", "right-anterior-superior"),
            ("(2,0,0) (0,2,0)", "(-2,0,0) (0,-2,0)"),
            ("(-20,5,100)", "(20,-5,100)"),
            body=plain[plain.index(b"\n\n") + 2 :],
        ),
    ]
    (tmp_path / "det.raw").write_bytes(little)
    for file in files:
        raw = read_image(file)
        np.testing.assert_array_equal(raw.data, data, err_msg=file.name)
        assert raw.geometry.matches(GRID), file.name
    for name, change, words in [
        ("space.nrrd", ("left-posterior-superior", "scanner-xyz"), "where left is"),
        ("type.nrrd", ("type: short", "type: block"), "NRRD type"),
        ("size.nrrd", ("sizes: 20 12 10", "sizes: 20 12 11"), "cut short"),
        ("dim.nrrd", ("dimension: 3", "dimension: 4"), "impossible NRRD sizes"),
        ("line.nrrd", ("kinds: domain domain domain", "nonsense"), "line 7"),
    ]:
        file = variant(name, change, body=plain[plain.index(b"\n\n") + 2 :])
        with pytest.raises((FormatError, ImagingError), match=words):
            read_image(file)


def test_damaged_and_unusable_nifti(tmp_path: Path) -> None:
    good = nifti_bytes(GRID, blocks([1]))
    (tmp_path / "cut.nii").write_bytes(good[:-9])
    (tmp_path / "short.nii").write_bytes(good[:100])
    (tmp_path / "text.nii").write_bytes(b"x" * 1000)
    (tmp_path / "gz.nii.gz").write_bytes(b"\x1f\x8b" + b"x" * 100)
    for name, words in [("cut.nii", "cut short"), ("short.nii", "only 100 bytes"),
                        ("text.nii", "not a NIfTI"), ("gz.nii.gz", "damaged")]:  # fmt: skip
        with pytest.raises(FormatError, match=words):
            read_image(tmp_path / name)
    blind = bytearray(good)
    blind[252:256] = b"\0\0\0\0"
    (tmp_path / "blind.nii").write_bytes(bytes(blind))
    with pytest.raises(ImagingError, match="left and right cannot be told"):
        read_image(tmp_path / "blind.nii")
    sheared = np.diag([-1.0, -1, 1, 1]) @ GRID.affine
    sheared[1, 2] = 0.8
    nibabel.save(nibabel.Nifti1Image(blocks([1]), sheared), tmp_path / "shear.nii")
    with pytest.raises(ImagingError, match="sheared"):
        read_image(tmp_path / "shear.nii")
    four = nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4))
    nibabel.save(four, tmp_path / "four.nii")
    with pytest.raises(ImagingError, match="one three-dimensional image"):
        read_image(tmp_path / "four.nii")


def test_conflicting_affines_are_a_doubt_or_refused(tmp_path: Path) -> None:
    raw = bytearray(nifti_bytes(GRID, blocks([1])))
    raw[292:296] = struct.pack("<f", 25.0)  # sform lies 5 mm beside qform
    (tmp_path / "a.nii").write_bytes(bytes(raw))
    [doubt] = read_image(tmp_path / "a.nii").doubts
    assert doubt.code == "imaging.nifti_affines_disagree"
    raw[280:284] = struct.pack("<f", 2.0)  # sform says right to left, qform left to right
    (tmp_path / "a.nii").write_bytes(bytes(raw))
    with pytest.raises(ImagingError, match="left and right cannot be told"):
        read_image(tmp_path / "a.nii")


def test_names_of_other_programs() -> None:
    for name, own in [("L5 vertebra", "L5"), ("Left Hip", "hip_left"), ("vertebrae_S1", "sacrum"),
                      ("Tumor", "tumour"), ("hip-right", "hip_right")]:  # fmt: skip
        assert canonical_name(name) == own
    assert canonical_name("liver") is None
    assert {canonical_name(n) for n in total_names().values()} == set(own_names().values()) - {
        "tumour"
    }


def test_segmentation_round_trip_and_bytes(tmp_path: Path) -> None:
    data = blocks([2, 1, 4, 3, 20])
    labels = LabelMap(GRID, data, {i: own_names()[i] for i in (1, 2, 3, 4, 20)})
    file = tmp_path / "bones.seg.nrrd"
    write_segnrrd(labels, file, {"tumour": (1.0, 0.0, 0.0)})
    first = file.read_bytes()
    write_segnrrd(labels, file, {"tumour": (1.0, 0.0, 0.0)})
    assert file.read_bytes() == first
    back = read_segnrrd(file)
    assert back.names == labels.names
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_array_equal(read_labels(file, GRID).data, data)
    np.testing.assert_array_equal(read_mask(file, GRID, "tumour"), data == 20)
    image = sitk.ReadImage(str(file))
    meta = {k: image.GetMetaData(k) for k in image.GetMetaDataKeys()}
    assert meta["Segment4_Name"] == "tumour"
    assert meta["Segment4_Color"] == "1 0 0"
    assert meta["Segment4_LabelValue"] == "20"
    assert meta["Segment4_Extent"] == "4 4 3 3 2 4"
    assert meta["Segment0_Layer"] == "0"
    with pytest.raises(ImagingError, match="no segment 'liver'"):
        read_mask(file, GRID, "liver")


def test_layered_segmentation(tmp_path: Path) -> None:
    """Slicer stores overlapping segments as layers of a 4D file."""
    a, b = blocks([2, 1]) == 1, blocks([2, 1]) == 2
    stack = np.stack([a, b]).astype(np.uint8)  # (layer, i, j, k)
    lines = [
        "NRRD0004", "type: unsigned char", "dimension: 4", "space: left-posterior-superior",
        "sizes: 2 20 12 10", "space directions: none (2,0,0) (0,2,0) (0,0,2.5)",
        "kinds: list domain domain domain", "encoding: raw", "space origin: (-20,5,100)",
        "Segment0_ID:=Segment_1", "Segment0_Name:=Sacrum", "Segment0_LabelValue:=1",
        "Segment0_Layer:=0", "Segment1_ID:=Segment_2", "Segment1_Name:=right hip",
        "Segment1_LabelValue:=1", "Segment1_Layer:=1", "", "",
    ]  # fmt: skip
    file = tmp_path / "a.seg.nrrd"
    file.write_bytes("\n".join(lines).encode() + stack.tobytes(order="F"))
    np.testing.assert_array_equal(read_labels(file, GRID).data, blocks([2, 1]))
    back = read_segnrrd(file)
    assert back.names == {1: "Sacrum", 2: "right hip"}


def test_segmentation_needs_names(tmp_path: Path) -> None:
    labels = LabelMap(GRID, blocks([1, 2]), {1: "sacrum"})
    with pytest.raises(FormatError, match=r"\[2\] have no name"):
        write_segnrrd(labels, tmp_path / "a.seg.nrrd")
    assert not list(tmp_path.iterdir())
    with pytest.raises(GeometryError):
        LabelMap(GRID, blocks([1, 2]), {1: "sacrum", 2: "sacrum"})


def test_nifti_labels_have_repeating_bytes(tmp_path: Path) -> None:
    labels = LabelMap(GRID, blocks([1]), {1: "sacrum"})
    write_labels_nifti(labels, tmp_path / "a.nii.gz")
    write_labels_nifti(labels, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_masks(tmp_path: Path) -> None:
    file = save(tmp_path / "a.nii", blocks([5, 7]))
    assert read_mask(file, GRID).sum() == 6
    assert read_mask(file, GRID, 7).sum() == 3
    with pytest.raises(ImagingError, match="empty"):
        read_mask(file, GRID, 9)
    with pytest.raises(ImagingError, match="no segment names"):
        read_mask(file, GRID, "tumour")
    with pytest.raises(ImagingError, match="empty"):
        read_labels(save(tmp_path / "b.nii", blocks([])), GRID)
    with pytest.raises(FormatError, match="does not exist"):
        read_labels(tmp_path / "none.nii", GRID)
    with pytest.raises(FormatError, match="not an image file"):
        read_labels(Path(__file__), GRID)
