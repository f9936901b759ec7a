"""Every axis order and sign, and an oblique grid, through every image format: nothing moves."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_maker import write_enhanced, write_stack

from sacroplan.formats.ct import read_ct
from sacroplan.formats.labels import read_labels, read_mask, write_labels_nifti
from sacroplan.formats.segnrrd import read_segnrrd, write_segnrrd
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry

SHAPE = (7, 9, 8)
SPACING = np.array([1.3, 0.9, 1.7])
ORIGIN = np.array([-31.5, 12.25, 840.0])


def signed_permutations() -> list[np.ndarray]:
    out = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            m = np.zeros((3, 3))
            for column, row in enumerate(order):
                m[row, column] = signs[column]
            out.append(m)
    return out


ALL_48 = signed_permutations()
PROPER_24 = [m for m in ALL_48 if np.linalg.det(m) > 0]


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    a, b, c = np.radians(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rx @ ry @ rz


OBLIQUE = rotation((17.0, -11.0, 23.0))


def image(seed: int = 0) -> np.ndarray:
    """Air with a handful of bright voxels nowhere symmetric."""
    rng = np.random.default_rng(seed)
    data = np.full(SHAPE, -1000, dtype=np.int16)
    for _ in range(6):
        i, j, k = (rng.integers(0, n) for n in SHAPE)
        data[i, j, k] = rng.integers(300, 1500)
    return data


def world_points(data: np.ndarray, direction: np.ndarray) -> dict[int, np.ndarray]:
    """LPS position of every bright voxel by its value: the truth, by the definition of a grid."""
    return {
        int(data[tuple(ijk)]): ORIGIN + direction @ (SPACING * ijk) for ijk in np.argwhere(data > 0)
    }


def check(volume: Volume, expected: dict[int, np.ndarray], atol: float = 2e-4) -> None:
    found = {
        int(volume.data[tuple(ijk)]): volume.geometry.to_world(ijk)
        for ijk in np.argwhere(volume.data > 0)
    }
    assert found.keys() == expected.keys()
    for value, point in expected.items():
        np.testing.assert_allclose(found[value], point, atol=atol)
    d = volume.geometry.direction
    assert np.all(np.diag(d) > 0.5), "not canonical"
    assert volume.data.flags["C_CONTIGUOUS"]


def lps_affine(direction: np.ndarray) -> np.ndarray:
    a = np.eye(4)
    a[:3, :3] = direction * SPACING
    a[:3, 3] = ORIGIN
    return a


@pytest.mark.parametrize("tilt", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("code", ["sform", "qform"])
def test_nifti_all_48(tmp_path: Path, tilt: np.ndarray, code: str) -> None:
    ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    for n, m in enumerate(ALL_48):
        direction = tilt @ m
        data = image(n)
        nifti = nibabel.Nifti1Image(data, ras @ lps_affine(direction))
        nifti.header.set_sform(ras @ lps_affine(direction), int(code == "sform"))
        nifti.header.set_qform(ras @ lps_affine(direction), int(code == "qform"))
        nibabel.save(nifti, tmp_path / "a.nii")
        check(read_ct(tmp_path / "a.nii").volume, world_points(data, direction))


@pytest.mark.parametrize("tilt", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nrrd_and_metaimage_all_48(tmp_path: Path, tilt: np.ndarray, suffix: str) -> None:
    for n, m in enumerate(ALL_48):
        direction = tilt @ m
        data = image(n)
        picture = sitk.GetImageFromArray(data.transpose(2, 1, 0))
        picture.SetSpacing(SPACING.tolist())
        picture.SetOrigin(ORIGIN.tolist())
        picture.SetDirection(direction.ravel().tolist())
        file = tmp_path / f"a{suffix}"
        sitk.WriteImage(picture, str(file))
        check(read_ct(file).volume, world_points(data, direction))


@pytest.mark.parametrize("tilt", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
def test_dicom_all_48(tmp_path: Path, tilt: np.ndarray) -> None:
    """24 orientations, each with slices numbered along and against the slice normal."""
    for n, m in enumerate(ALL_48):
        direction = tilt @ m
        data = image(n)
        folder = tmp_path / str(n)
        write_stack(folder, data, origin=ORIGIN, direction=direction, spacing=SPACING)
        ct = read_ct(folder)
        check(ct.volume, world_points(data, direction))
        assert ct.volume.frame == "1.2.3.99"
        assert ct.info.slice_axis == int(np.argmax(np.abs(m[:, 2])))


@pytest.mark.parametrize("tilt", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
def test_enhanced_dicom(tmp_path: Path, tilt: np.ndarray) -> None:
    for n, m in enumerate(PROPER_24):
        data = image(n)
        file = tmp_path / f"{n}.dcm"
        write_enhanced(file, data, ORIGIN, tilt @ m, SPACING)
        check(read_ct(file).volume, world_points(data, tilt @ m))


def test_dicom_agrees_with_simpleitk(tmp_path: Path) -> None:
    """ITK's own series reader puts every voxel where this one does (feet first, prone, oblique)."""
    for n, m in enumerate(PROPER_24):
        direction = OBLIQUE @ m
        folder = tmp_path / str(n)
        write_stack(folder, image(n), origin=ORIGIN, direction=direction, spacing=SPACING)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        itk = reader.Execute()
        array = sitk.GetArrayFromImage(itk)
        expected = {
            int(array[tuple(kji)]): np.array(
                itk.TransformContinuousIndexToPhysicalPoint([float(v) for v in kji[::-1]])
            )
            for kji in np.argwhere(array > 0)
        }
        check(read_ct(folder).volume, expected)


@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
def test_labels_written_on_any_grid_come_back(tmp_path: Path, suffix: str) -> None:
    """Labels on every grid, straight and oblique, land on the canonical CT of the same grid."""
    for tilt in (np.eye(3), OBLIQUE):
        for n, m in enumerate(ALL_48):
            rng = np.random.default_rng(n)
            geometry = VolumeGeometry(SHAPE, SPACING, ORIGIN, tilt @ m)
            data = np.zeros(SHAPE, dtype=np.uint8)
            for label in (1, 4, 20):
                data[tuple(rng.integers(0, s) for s in SHAPE)] = label
            names = {1: "sacrum", 4: "L5", 20: "tumour"}
            labels = LabelMap(geometry, data, names)
            file = tmp_path / f"a{suffix}"
            (write_segnrrd if suffix == ".seg.nrrd" else write_labels_nifti)(labels, file)
            truth = labels.canonical()
            back = read_labels(file, truth.geometry)
            assert back.geometry is truth.geometry
            np.testing.assert_array_equal(back.data, truth.data)
            np.testing.assert_array_equal(read_mask(file, truth.geometry), truth.data > 0)
            if suffix == ".seg.nrrd":
                assert read_segnrrd(file).geometry.matches(truth.geometry)


def test_our_nifti_is_read_alike_by_nibabel_and_itk(tmp_path: Path) -> None:
    for m in ALL_48:
        geometry = VolumeGeometry(SHAPE, SPACING, ORIGIN, OBLIQUE @ m)
        data = np.zeros(SHAPE, dtype=np.uint8)
        data[5, 2, 6] = 1
        write_labels_nifti(LabelMap(geometry, data, {1: "sacrum"}), tmp_path / "a.nii.gz")
        truth = geometry.to_world([5, 2, 6])
        nifti = nibabel.load(tmp_path / "a.nii.gz")
        for affine in (nifti.header.get_sform(), nifti.header.get_qform()):
            np.testing.assert_allclose((affine @ [5, 2, 6, 1])[:3] * [-1, -1, 1], truth, atol=2e-4)
        np.testing.assert_array_equal(np.asarray(nifti.dataobj), data)
        itk = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
        np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint([5, 2, 6]), truth, atol=2e-4)


def test_our_segmentation_is_read_alike_by_itk(tmp_path: Path) -> None:
    geometry = VolumeGeometry(SHAPE, SPACING, ORIGIN, OBLIQUE)
    data = np.zeros(SHAPE, dtype=np.uint8)
    data[5, 2, 6] = 4
    write_segnrrd(LabelMap(geometry, data, {4: "L5"}), tmp_path / "a.seg.nrrd")
    itk = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert itk.GetPixel(5, 2, 6) == 4
    np.testing.assert_allclose(
        itk.TransformIndexToPhysicalPoint([5, 2, 6]), geometry.to_world([5, 2, 6]), atol=1e-9
    )
