"""MRI fusion against simulated MRIs in known poses; masks carried over; transforms of others."""

import io

import numpy as np
import pytest
from mri_maker import make_mri, random_pose
from PIL import Image
from scipy.spatial.transform import Rotation

from sacroplan.errors import FormatError, ImagingError
from sacroplan.formats.transforms import read_rigid, write_rigid
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.imaging import _fusion_kernels
from sacroplan.imaging.fusion import fuse
from sacroplan.imaging.fusion_mask import carry_mask, mask_doubts
from sacroplan.imaging.fusion_picture import overlay_png
from sacroplan.imaging.fusion_search import _left_jacobian, turned
from sacroplan.imaging.phantom.build import build
from sacroplan.imaging.phantom.parameters import PhantomParameters

COARSE = (2.5, 2.5, 2.5)


@pytest.fixture(scope="module")
def patient():
    return build(PhantomParameters(), spacing_mm=COARSE)


@pytest.fixture(scope="module")
def other():
    return build(PhantomParameters(sex="male", seed=5), spacing_mm=COARSE)


def error_at_sacrum(patient, fusion, pose):
    """Largest error over the sacrum in mm, and the angle between the poses in degrees."""
    g = patient.volume.geometry
    points = g.to_world(np.argwhere(patient.labels.mask("sacrum"))[::20])
    off = np.linalg.norm(fusion.ct_to_mri.points(points) - pose.points(points), axis=1)
    turn = Rotation.from_matrix(fusion.ct_to_mri.rotation @ pose.rotation.T).magnitude()
    return float(off.max()), float(np.degrees(turn))


@pytest.mark.parametrize(
    ("seed", "contrast"), [(1, "T1"), (2, "T2"), (3, "T1"), (4, "T2"), (5, "T1")]
)
def test_a_simulated_mri_is_laid_on_the_ct(patient, seed, contrast):
    pose = random_pose(seed, patient.landmarks["S1EP"])
    fusion = fuse(patient.volume, patient.labels, make_mri(patient, pose, contrast, seed))
    error, turn = error_at_sacrum(patient, fusion, pose)
    assert error < 1.0
    assert turn < 1.0
    assert fusion.predicted_error_mm > error
    assert fusion.predicted_error_mm < 2.0
    assert not fusion.concerns
    assert not fusion.doubts
    assert all(m.within is not False for m in fusion.metrics().values())
    if seed == 1:
        # One fusion has one result.
        again = fuse(patient.volume, patient.labels, make_mri(patient, pose, contrast, seed))
        np.testing.assert_array_equal(again.ct_to_mri.rotation, fusion.ct_to_mri.rotation)
        np.testing.assert_array_equal(again.ct_to_mri.translation, fusion.ct_to_mri.translation)
        assert again.predicted_error_mm == fusion.predicted_error_mm


@pytest.mark.slow
def test_twenty_poses_and_the_error_foretold():
    people = [
        build(PhantomParameters(), spacing_mm=COARSE),
        build(
            PhantomParameters(
                sex="male", size=1.03, asymmetry=-0.7, pelvic_incidence_deg=45, tumour_level="S3",
                seed=4,
            ),
            spacing_mm=COARSE,
        ),
        build(
            PhantomParameters(
                size=0.95, asymmetry=0.3, pelvic_incidence_deg=60, tumour_level=None, seed=7
            ),
            spacing_mm=COARSE,
        ),
    ]  # fmt: skip
    errors, turns, foretold = [], [], []
    for n in range(24):
        person = people[n % 3]
        pose = random_pose(100 + n, person.landmarks["S1EP"])
        size = ((300.0, 260.0, 200.0), (220.0, 220.0, 150.0))[n // 3 % 2]
        mri = make_mri(person, pose, ("T1", "T2")[n // 6 % 2], n, size=size)
        fusion = fuse(person.volume, person.labels, mri)
        error, turn = error_at_sacrum(person, fusion, pose)
        errors.append(error)
        turns.append(turn)
        foretold.append(fusion.predicted_error_mm)
        assert not fusion.concerns
    assert max(errors) < 1.0
    assert max(turns) < 1.0
    covered = float(np.mean(np.array(foretold) > np.array(errors)))
    assert covered >= 0.9, f"{covered:.0%} of the errors {errors} within {foretold}"


def test_another_patients_mri_is_not_used(patient, other):
    mri = make_mri(other, random_pose(8, other.landmarks["S1EP"], 8.0, 15.0))
    fusion = fuse(patient.volume, patient.labels, mri)
    assert fusion.residual_mm > 1.0
    assert any("parts of the pelvis disagree" in c for c in fusion.concerns)
    assert "imaging.fusion_failed" in [d.code for d in fusion.doubts]
    assert fusion.metrics()["imaging.fusion.passed"].value is False


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        pytest.param((0,), "mirrored MRI fits", id="mirrored"),
        pytest.param((0, 1), "turned about the long axis", id="prone"),
        pytest.param(
            (1, 2), "turned about the left-right axis", id="upside down", marks=pytest.mark.slow
        ),
    ],
)
def test_a_wrong_header_is_found_out(patient, axes, words):
    mri = make_mri(patient, random_pose(9, patient.landmarks["S1EP"], 8.0, 15.0))
    wrong = Volume(mri.geometry, np.ascontiguousarray(np.flip(mri.data, axes)))
    fusion = fuse(patient.volume, patient.labels, wrong)
    assert any(words in c for c in fusion.concerns)
    assert not fusion.metrics()["imaging.fusion.passed"].value


def test_an_own_transform_is_kept_and_judged(patient):
    pose = random_pose(10, patient.landmarks["S1EP"])
    mri = make_mri(patient, pose)
    right = fuse(patient.volume, patient.labels, mri, own=pose)
    assert right.source == "own transform"
    np.testing.assert_array_equal(right.ct_to_mri.rotation, pose.rotation)
    assert not right.concerns
    assert right.predicted_error_mm < 2.0
    off = Rigid(pose.rotation, pose.translation + np.array([0.0, 3.0, 0.0]))
    wrong = fuse(patient.volume, patient.labels, mri, own=off)
    assert wrong.predicted_error_mm > 3.0
    assert "imaging.fusion_own_transform" in [d.code for d in wrong.doubts]
    gone = Rigid(np.eye(3), np.array([900.0, 0.0, 0.0]))
    with pytest.raises(ImagingError, match="out of the MRI"):
        fuse(patient.volume, patient.labels, mri, own=gone)


def test_the_derivative_is_that_of_the_information():
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(*[np.arange(30.0)] * 3, indexing="ij"))
    image = (
        0.5 + 0.25 * np.sin(grid[0] / 3) * np.cos(grid[1] / 4) + 0.2 * np.sin(grid[2] / 5)
    ).astype(np.float32)
    points = rng.uniform(9.0, 20.0, size=(4000, 3))
    bins = rng.integers(0, 32, 4000)
    bins = np.where(points[:, 0] > 14, bins // 2, bins).astype(np.int64)
    centre = points.mean(axis=0)
    to_index = np.diag([1.0, 1.0, 1.0])

    def information(x):
        arms = (points - centre) @ turned(x[:3]).T
        out = np.empty(6)
        value, count = _fusion_kernels.mutual_information(
            image,
            to_index,
            arms + centre + x[3:],
            arms,
            _left_jacobian(x[:3]),
            bins,
            (32, 32),
            True,
            out,
        )
        assert count == 4000
        return value, out

    at = np.array([0.2, -0.1, 0.15, 0.4, -0.3, 0.2])
    slope = information(at)[1]
    steps = 1e-4 * np.eye(6)
    numeric = [(information(at + s)[0] - information(at - s)[0]) / 2e-4 for s in steps]
    # Linear interpolation has kinks between voxels, which a finite step straddles.
    np.testing.assert_allclose(slope, numeric, rtol=0.02, atol=0.02 * np.abs(slope).max())


def ball_mask(geometry, centre, radii):
    points = geometry.to_world(np.indices(geometry.shape).reshape(3, -1).T)
    return (np.sum(((points - centre) / radii) ** 2, axis=1) < 1.0).reshape(geometry.shape)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_mask_keeps_volume_place_and_shape(seed):
    mri = VolumeGeometry((120, 110, 30), np.array([0.9, 0.9, 4.0]), np.array([-50.0, -40.0, -60.0]))
    ct = VolumeGeometry((150, 140, 130), np.array([0.8, 0.8, 1.0]), np.array([-60.0, -50.0, -70.0]))
    pose = random_pose(seed, np.zeros(3))
    middle, radii = np.array([4.0, 6.0, -3.0]), np.array([24.0, 18.0, 27.0])
    mask = ball_mask(mri, middle, radii)
    carried = carry_mask(mask, mri, ct, pose)
    assert carried.volume_ct_mm3 == pytest.approx(carried.volume_mri_mm3, rel=0.02)
    assert carried.volume_ct_mm3 == pytest.approx(4.0 / 3.0 * np.pi * np.prod(radii), rel=0.03)
    assert carried.lost == 0.0
    assert not mask_doubts(carried)
    true_centre = pose.inverse().points(middle)
    found = ct.to_world(np.argwhere(carried.mask).mean(axis=0))
    np.testing.assert_allclose(found, true_centre, atol=0.4)
    # The true shape on the CT's grid: 4 mm slices must not show as steps.
    points = pose.points(ct.to_world(np.indices(ct.shape).reshape(3, -1).T))
    truth = (np.sum(((points - middle) / radii) ** 2, axis=1) < 1.0).reshape(ct.shape)
    dice = 2.0 * np.count_nonzero(truth & carried.mask) / (truth.sum() + carried.mask.sum())
    assert dice > 0.97


def test_a_tumour_beyond_the_ct_is_told_or_refused():
    mri = VolumeGeometry((60, 60, 20), np.array([1.0, 1.0, 4.0]), np.zeros(3))
    ct = VolumeGeometry((60, 60, 80), np.ones(3), np.array([0.0, 0.0, 40.0]))
    mask = ball_mask(mri, np.array([30.0, 30.0, 40.0]), np.full(3, 12.0))
    still = Rigid(np.eye(3), np.zeros(3))
    half = carry_mask(mask, mri, ct, still)
    assert half.lost == pytest.approx(0.5, abs=0.1)
    assert [d.code for d in mask_doubts(half)] == ["imaging.fusion_tumour_cut"]
    with pytest.raises(ImagingError, match="outside the CT"):
        carry_mask(mask, mri, ct, Rigid(np.eye(3), np.array([0.0, 0.0, -500.0])))
    with pytest.raises(ImagingError, match="empty"):
        carry_mask(np.zeros(mri.shape, dtype=bool), mri, ct, still)


def test_the_picture_shows_the_mri_where_the_fusion_puts_it(patient):
    pose = random_pose(11, patient.landmarks["S1EP"])
    mri = make_mri(patient, pose)
    tumour = patient.labels.mask("tumour")
    png = overlay_png(patient.volume, patient.labels, mri, pose, tumour)
    assert png == overlay_png(patient.volume, patient.labels, mri, pose, tumour)
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    assert sheet.shape[0] == sheet.shape[1] > 1000
    still = overlay_png(patient.volume, patient.labels, mri, Rigid(np.eye(3), np.zeros(3)))
    assert np.mean(sheet != np.asarray(Image.open(io.BytesIO(still)))) > 0.1
    # Red of the tumour's outline stands in all nine pictures.
    red = (sheet[..., 0] == 255) & (sheet[..., 1] == 64) & (sheet[..., 2] == 64)
    n = sheet.shape[0] // 3
    assert all(
        red[a * n : a * n + n, b * n : b * n + n].sum() > 20 for a in range(3) for b in range(3)
    )


def test_transforms_of_itk_and_slicer_are_read(tmp_path):
    import SimpleITK as sitk

    pose = random_pose(12, np.array([10.0, -20.0, 30.0]))
    write_rigid(pose, tmp_path / "own.tfm")
    again = read_rigid(tmp_path / "own.tfm")
    np.testing.assert_allclose(again.rotation, pose.rotation, atol=1e-11)
    np.testing.assert_allclose(again.translation, pose.translation, atol=1e-11)
    itk = sitk.ReadTransform(str(tmp_path / "own.tfm"))
    p = np.array([12.0, 34.0, -56.0])
    np.testing.assert_allclose(itk.TransformPoint(p.tolist()), pose.points(p), atol=1e-9)

    euler = sitk.Euler3DTransform((5.0, 6.0, 7.0), 0.1, -0.2, 0.3, (1.0, 2.0, 3.0))
    for suffix in ("tfm", "h5"):
        sitk.WriteTransform(euler, str(tmp_path / f"euler.{suffix}"))
        r = read_rigid(tmp_path / f"euler.{suffix}")
        np.testing.assert_allclose(r.points(p), euler.TransformPoint(p.tolist()), atol=1e-6)


def test_transforms_that_are_not_rigid_are_refused(tmp_path):
    import SimpleITK as sitk

    for name, matrix, words in (
        ("scaled", np.diag([1.02, 1.02, 1.02]), "not rigid"),
        ("sheared", np.array([[1.0, 0.05, 0], [0, 1, 0], [0, 0, 1]]), "not rigid"),
        ("mirrored", np.diag([-1.0, 1.0, 1.0]), "mirrors"),
    ):
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(matrix.ravel().tolist())
        path = tmp_path / f"{name}.tfm"
        sitk.WriteTransform(affine, str(path))
        with pytest.raises(FormatError, match=words):
            read_rigid(path)
    warp = sitk.BSplineTransform(3)
    sitk.WriteTransform(warp, str(tmp_path / "warp.tfm"))
    with pytest.raises(FormatError, match="not linear"):
        read_rigid(tmp_path / "warp.tfm")
    (tmp_path / "text.tfm").write_text("hello")
    with pytest.raises(FormatError, match="not an ITK transform"):
        read_rigid(tmp_path / "text.tfm")
    with pytest.raises(FormatError, match="does not exist"):
        read_rigid(tmp_path / "none.tfm")
