"""Real files: read right or refused in one clear sentence."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from sacroplan.errors import ImagingError
from sacroplan.formats.ct import read_ct
from sacroplan.formats.dicom_pixels import stored_values
from sacroplan.formats.labels import read_labels, read_mask
from sacroplan.geometry.frames import unit

pytestmark = pytest.mark.shared


def test_pelvis_dicom(shared: Path) -> None:
    ct = read_ct(shared / "data" / "vhf_pelvis_ct_1mm")
    g = ct.volume.geometry
    assert g.shape == (512, 512, 150)
    np.testing.assert_allclose(g.spacing_mm, 1.0)
    np.testing.assert_array_equal(g.origin, [0, 0, 900])
    assert ct.volume.data.dtype == np.int16
    assert g.frame.startswith("1.2.826.0.1.3680043.2.1125.")
    assert not ct.doubts
    for z in (900, 975, 1049):
        itk = sitk.ReadImage(str(shared / f"data/vhf_pelvis_ct_1mm/vhf.{z + 1}.dcm"))
        assert itk.GetOrigin()[2] == z
        plane = sitk.GetArrayFromImage(itk)[0]
        np.testing.assert_array_equal(ct.volume.data[:, :, z - 900].T, plane)


def test_one_slice_stands_for_its_series(shared: Path) -> None:
    ct = read_ct(shared / "data" / "vhf_pelvis_ct_1mm" / "vhf.1000.dcm")
    assert ct.volume.geometry.shape == (512, 512, 150)


def test_thick_nifti_and_its_labels(shared: Path) -> None:
    folder = shared / "data" / "real_ct_3mm"
    ct = read_ct(folder / "ct.nii.gz")
    nifti = nibabel.as_closest_canonical(nibabel.load(folder / "ct.nii.gz"))
    np.testing.assert_array_equal(ct.volume.data, np.asarray(nifti.dataobj)[::-1, ::-1])
    assert ct.volume.data.min() == -1207
    g = ct.volume.geometry
    own = read_labels(folder / "bones.nii.gz", g)
    total = read_labels(folder / "totalseg_multilabel.nii.gz", g)
    assert own.names == total.names
    assert len(own.names) == 10
    for name in own.names.values():
        a, b = own.mask(name), total.mask(name)
        # Only one of the two labellings follows the left femur along its metal.
        limit = 0.65 if name == "femur_left" else 0.85
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > limit, name
        assert (a & b).sum() / min(a.sum(), b.sum()) > 0.9, name
    left = g.to_world(np.argwhere(own.mask("hip_left")).mean(axis=0))
    right = g.to_world(np.argwhere(own.mask("hip_right")).mean(axis=0))
    assert left[0] > right[0] + 80
    spine = [np.argwhere(own.mask(n)).mean(axis=0)[2] for n in ("sacrum", "L5", "L4", "L3")]
    assert np.all(np.diff(spine) > 0)
    # Bone labels lie on bright voxels: no flip in any axis between image and labels.
    assert ct.volume.data[own.data > 0].mean() > ct.volume.data[own.data == 0].mean() + 300
    mask = read_mask(folder / "soft_tissue.nii.gz", g, 8)
    assert 20e3 < mask.sum() * g.voxel_volume_mm3 < 600e3


def test_foreign_axis_order(shared: Path) -> None:
    folder = shared / "data" / "tptbox_lumbar_1p5mm"
    ct = read_ct(folder / "sub-ct_label-22_ct.nii.gz")
    assert ct.volume.geometry.shape == (73, 73, 47)
    ras = nibabel.as_closest_canonical(nibabel.load(folder / "sub-ct_label-22_ct.nii.gz"))
    np.testing.assert_array_equal(ct.volume.data, np.asarray(ras.dataobj)[::-1, ::-1])
    vertebrae = folder / "sub-ct_seg-vert_label-22_msk.nii.gz"
    with pytest.raises(ImagingError, match=r"ids 21, 22, 23 without names"):
        read_labels(vertebrae, ct.volume.geometry)
    mask = read_mask(vertebrae, ct.volume.geometry, 22)
    assert ct.volume.data[mask].mean() > 100
    other = read_ct(shared / "data" / "real_ct_3mm" / "ct.nii.gz").volume.geometry
    with pytest.raises(ImagingError, match=r"73 x 73 x 47 voxels .* 122 x 101 x 112 voxels"):
        read_mask(vertebrae, other)


def test_philips_mixed_folder(shared: Path) -> None:
    folder = shared / "data" / "dicom_awkward" / "philips_mixed_series"
    ct = read_ct(folder)
    assert ct.volume.geometry.shape == (512, 512, 28)
    np.testing.assert_allclose(ct.volume.geometry.spacing_mm, [0.451171875, 0.451171875, 5.0])
    assert ct.info.series_number == "201"
    assert set(ct.info.set_aside) == {
        "1 x localizer", "3 x DICOM directory", "6 x screen capture or report",
    }  # fmt: skip
    assert not ct.doubts
    for part, words in (("S1000", "localizer"), ("S4010", "screen capture or report")):
        with pytest.raises(ImagingError, match=f"no CT slices.*{words}"):
            read_ct(folder / part)


def test_trunk_with_blank_uids_and_jpeg_2000(shared: Path) -> None:
    folder = shared / "data" / "dicom_awkward" / "trunk_no_pelvis"
    ct = read_ct(folder)
    assert ct.volume.geometry.shape == (512, 512, 20)
    assert ct.volume.geometry.spacing_mm[2] == pytest.approx(2.0)
    assert ct.info.slice_thickness_mm == 3.0
    assert (ct.info.kernel, ct.info.contrast, ct.info.acquired) == ("Br38f/3", "APPLIED", "2022-12")
    assert ct.volume.data.min() == -1024


def test_ge_variable_spacing_is_refused(shared: Path) -> None:
    with pytest.raises(ImagingError, match=r"28 slices\): the slice spacing is uneven, 1\.08 to"):
        read_ct(shared / "data" / "dicom_awkward" / "ge_variable_tilt_and_spacing")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("693_J2KR.dcm", "largest series has 1 slice, at least 3"),
        ("JPEG-LL.dcm", "no CT slice: modality NM"),
        ("bad_sequence.dcm", "largest series has 1 slice"),
        ("eCT_Supplemental.dcm", "no CT slices .*perfusion"),
        ("liver.dcm", "no CT slices .*modality SEG"),
        ("", "largest series has 1 slice"),
    ],
)
def test_sample_files_are_refused(shared: Path, name: str, words: str) -> None:
    with pytest.raises(ImagingError, match=words) as caught:
        read_ct(shared / "data" / "dicom_awkward" / "pydicom" / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["693_J2KR.dcm", "bad_sequence.dcm", "JPEG-LL.dcm"])
def test_compressed_pixels_agree_with_itk(shared: Path, name: str) -> None:
    file = shared / "data" / "dicom_awkward" / "pydicom" / name
    ds = pydicom.dcmread(file)
    values = stored_values(ds, file).astype(np.float64)
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(file))).reshape(values.shape)
    np.testing.assert_allclose(values * slope + intercept, itk)
    assert values.std() > 0


def test_surface_of_the_same_patient_lies_in_its_ct(shared: Path) -> None:
    """The fitted sacrum surface lands on bone: STL and DICOM share one LPS."""
    from sacroplan.formats.stl import read_stl

    surface = read_stl(shared / "data" / "vh_surfaces" / "vhf_sacrum_in_ct.stl")
    ct = read_ct(shared / "data" / "vhf_pelvis_ct_1mm")
    centre = surface.vertices.mean(axis=0)
    inward = surface.vertices - 3.0 * surface.vertex_normals
    index = np.rint(ct.volume.geometry.to_index(inward)).astype(int)
    inside = np.all((index >= 0) & (index < ct.volume.geometry.shape), axis=1)
    assert inside.mean() > 0.7
    hu = ct.volume.data[tuple(index[inside].T)]
    mirrored = surface.vertices * [-1, 1, 1] + [2 * centre[0] + 60, 0, 0] - 3.0 * unit([1, 0, 0])
    at = np.rint(ct.volume.geometry.to_index(mirrored)).astype(int)
    ok = np.all((at >= 0) & (at < ct.volume.geometry.shape), axis=1)
    assert np.median(hu) > np.median(ct.volume.data[tuple(at[ok].T)])
