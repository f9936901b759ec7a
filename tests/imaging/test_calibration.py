"""HU to density: distorted scanners, missing tissues, phantoms, contrast and metal."""

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.errors import ImagingError
from sacroplan.formats.ct import read_ct
from sacroplan.formats.labels import read_labels, read_mask
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.imaging import calibration
from sacroplan.imaging.calibration import Insert
from sacroplan.imaging.phantom.build import build
from sacroplan.imaging.phantom.parameters import PhantomParameters
from sacroplan.mechanics import laws


@pytest.fixture(scope="module")
def patient():
    return build(PhantomParameters(), spacing_mm=(2.5, 2.5, 2.5))


def distorted(volume, gain, shift, noise=0.0, floor=-1024):
    rng = np.random.default_rng(3)
    hu = volume.data * gain + shift + rng.normal(size=volume.data.shape) * noise
    return Volume(volume.geometry, np.clip(np.rint(hu), floor, 3071).astype(np.int16))


def truth(patient):
    """The line through the HU that the synthetic patient was painted with."""
    hu = [evidence.value("SP-PHANTOM-05", n) for n in ("air", "fat", "muscle")]
    rho = [evidence.value("CAL-01", n) for n in ("air", "adipose", "muscle")]
    return np.polyfit(hu, rho, 1)


@pytest.mark.parametrize(
    ("gain", "shift", "noise"),
    [(1, 0, 0), (0.93, 10, 0), (0.9, -15, 0), (1.02, 30, 0), (0.88, 0, 0), (1.0, 15, 25)],
)
def test_a_distorted_scanner_is_calibrated_back(patient, gain, shift, noise):
    c = calibration.from_tissues(distorted(patient.volume, gain, shift, noise))
    slope, offset = truth(patient)
    assert c.method == "air-fat-muscle"
    assert not c.doubts
    assert c.slope == pytest.approx(slope / gain, rel=0.02)
    assert c.offset == pytest.approx(offset - slope * shift / gain, abs=5.0)
    # 100 mg/cm3 more is 100 mg/cm3 more, whatever the scanner: the unit of slope and offset.
    hu = np.array([gain * 175.0 + shift])
    assert 1000.0 * c.qct(hu)[0] == pytest.approx(slope * 175.0 + offset, abs=8.0)
    assert c.residual_mg_cm3 == pytest.approx(max(abs(r.residual_mg_cm3) for r in c.references))


def test_strong_noise_does_not_move_the_line_far():
    fine = build(PhantomParameters(seed=2), spacing_mm=(1.5, 1.5, 1.5)).volume
    clean = calibration.from_tissues(fine)
    noisy = calibration.from_tissues(distorted(fine, 1.0, 0.0, noise=50.0))
    assert noisy.slope == pytest.approx(clean.slope, rel=0.02)
    assert noisy.offset == pytest.approx(clean.offset, abs=5.0)


@pytest.mark.parametrize(("gain", "shift"), [(1.25, 0), (1.0, 70), (0.7, 0), (1.0, -90)])
def test_a_scale_that_is_no_hu_is_assumed_aloud(patient, gain, shift):
    c = calibration.calibrate(distorted(patient.volume, gain, shift, floor=-2000))
    assert c.method == "assumed"
    (doubt,) = c.doubts
    assert doubt.code == "mechanics.calibration_assumed"
    assert "NOT CALIBRATED" in doubt.message
    assert {"CAL-01", "CAL-03"} <= set(doubt.rows)
    with pytest.raises(ImagingError, match="cannot be calibrated"):
        calibration.from_tissues(distorted(patient.volume, gain, shift, floor=-2000))


@pytest.mark.parametrize("fill", [-2000, -1024, 0, -1000])
def test_fill_around_a_round_field_of_view_is_no_tissue(patient, fill):
    n = patient.volume.geometry.shape
    x, y = np.meshgrid(np.linspace(-1, 1, n[0]), np.linspace(-1, 1, n[1]), indexing="ij")
    data = patient.volume.data.copy()
    data[x**2 + y**2 > 1.0] = fill
    padded = calibration.from_tissues(Volume(patient.volume.geometry, data))
    plain = calibration.from_tissues(patient.volume)
    assert padded.slope == pytest.approx(plain.slope, rel=0.005)
    assert padded.offset == pytest.approx(plain.offset, abs=2.0)


def test_a_removed_background_is_no_measured_air(patient):
    data = patient.volume.data.copy()
    data[data < -500] = -1000
    c = calibration.calibrate(Volume(patient.volume.geometry, data))
    assert c.method == "assumed"
    assert "no air" in c.doubts[0].message


def test_air_that_the_scanner_clipped_is_not_used(patient):
    # At 1.05 HU per HU air lies at -1050, where nearly all of it reads -1024.
    c = calibration.calibrate(distorted(patient.volume, 1.05, 0.0))
    assert c.method == "assumed"
    assert "air" in c.doubts[0].message


def test_bowel_gas_at_the_border_is_not_air():
    rng = np.random.default_rng(1)
    hu = np.full((60, 50, 40), 52.0)
    hu[:, 30:] = -98.0
    hu[20:40, :12] = -960.0
    noisy = np.rint(hu + rng.normal(size=hu.shape) * 12.0).astype(np.int16)
    g = VolumeGeometry(hu.shape, np.full(3, 3.0), np.zeros(3))
    assert "no air around" in calibration.calibrate(Volume(g, noisy)).doubts[0].message


@pytest.mark.parametrize("gone", ["fat", "muscle"])
def test_a_missing_tissue_is_named(gone):
    rng = np.random.default_rng(1)
    hu = np.full((60, 50, 40), -1000.0)
    hu[10:50, 10:40] = 52.0 if gone == "fat" else -98.0
    noisy = np.rint(hu + rng.normal(size=hu.shape) * 9.0).astype(np.int16)
    g = VolumeGeometry(hu.shape, np.full(3, 3.0), np.zeros(3))
    assert f"no {gone} peak" in calibration.calibrate(Volume(g, noisy)).doubts[0].message


RODS = ((0.0, -2.0), (50.0, 48.0), (100.0, 107.0), (200.0, 221.0))
"""Density and HU of four rods of 9 mm under the patient."""


def with_rods(rods=RODS, move=0.0):
    rng = np.random.default_rng(7)
    g = VolumeGeometry((90, 50, 40), np.array([1.0, 1.0, 2.0]), np.array([-45.0, 60.0, 10.0]))
    points = g.to_world(np.indices(g.shape).reshape(3, -1).T)
    hu = np.full(len(points), 25.0)
    inserts = []
    for n, (density, level) in enumerate(rods):
        x, y = -30.0 + 20.0 * n, 85.0
        hu[np.hypot(points[:, 0] - x, points[:, 1] - y) < 9.0] = level
        inserts.append(Insert((x + move, y, 20.0), (x + move, y, 80.0), 9.0, density))
    noisy = np.rint(hu + rng.normal(size=len(hu)) * 15.0).astype(np.int16)
    return Volume(g, noisy.reshape(g.shape)), tuple(inserts)


def test_rods_of_a_phantom_give_the_line_and_its_residuals():
    volume, inserts = with_rods()
    slope, offset = np.polyfit([hu for _, hu in RODS], [d for d, _ in RODS], 1)
    c = calibration.from_phantom(volume, inserts, "K2HPO4")
    assert c.method == "phantom"
    assert not c.doubts
    assert c.slope == pytest.approx(slope, rel=0.02)
    assert c.offset == pytest.approx(offset, abs=2.0)
    assert len(c.references) == 4
    assert 0.0 < c.residual_mg_cm3 < 6.0
    for r, (density, hu) in zip(c.references, RODS, strict=True):
        assert r.density_mg_cm3 == density
        assert r.hu == pytest.approx(hu, abs=1.5)
    names = c.metrics()
    assert names["imaging.calibration.slope"].within
    assert names["imaging.calibration.reference.insert_4_hu"].unit == "HU"


def test_hydroxyapatite_reaches_the_same_ash_density_by_its_own_law():
    volume, inserts = with_rods()
    c = calibration.from_phantom(volume, inserts, "CaHA")
    plain = calibration.from_phantom(volume, inserts, "K2HPO4")
    hu = np.array([100.0, 300.0, 800.0])
    caha = plain.qct(hu)
    a, b = evidence.value("CAL-08", "slope"), evidence.value("CAL-08", "offset")
    np.testing.assert_allclose(laws.ash_density(c.qct(hu)), a * caha + b, rtol=1e-9)


def test_balls_serve_as_inserts():
    volume, inserts = with_rods()
    balls = tuple(
        Insert(
            (i.start[0], i.start[1], 50.0), (i.start[0], i.start[1], 50.0), 8.0, i.density_mg_cm3
        )
        for i in inserts
    )
    rods = calibration.from_phantom(volume, inserts, "K2HPO4")
    assert calibration.from_phantom(volume, balls, "K2HPO4").slope == pytest.approx(
        rods.slope, rel=0.02
    )


def test_a_misplaced_phantom_is_refused():
    volume, inserts = with_rods(move=100.0)
    with pytest.raises(ImagingError, match=r"insert 1 .* lies outside the CT"):
        calibration.from_phantom(volume, inserts, "K2HPO4")
    volume, inserts = with_rods()
    wrong = (*inserts[:3], Insert((30.0, 72.0, 20.0), (30.0, 72.0, 80.0), 2.6, 200.0))
    with pytest.raises(ImagingError, match=r"insert \d .* off the line"):
        calibration.from_phantom(volume, wrong, "K2HPO4")
    with pytest.raises(ImagingError, match="at least 3 inserts"):
        calibration.from_phantom(volume, inserts[:2], "K2HPO4")
    tiny = tuple(Insert(i.start, i.start, 1.5, i.density_mg_cm3) for i in inserts)
    with pytest.raises(ImagingError, match="voxels clear of its edge"):
        calibration.from_phantom(volume, tiny, "K2HPO4")


def test_a_fixed_line_is_never_silent():
    same = calibration.fixed(0.8, 3.0, 120.0, 120.0)
    assert [d.code for d in same.doubts] == ["mechanics.calibration_fixed"]
    assert same.doubts[0].rows == ("CAL-03",)
    other = calibration.fixed(0.8, 3.0, 120.0, 100.0)
    assert "mechanics.calibration_kvp" in [d.code for d in other.doubts]
    unknown = calibration.fixed(0.8, 3.0, 120.0, None)
    assert "mechanics.calibration_kvp_unknown" in [d.code for d in unknown.doubts]
    odd = calibration.fixed(1.4, 3.0, 120.0, 120.0)
    assert "mechanics.calibration_implausible" in [d.code for d in odd.doubts]
    assert same.method == "fixed"
    assert 1000.0 * same.qct(np.array([100.0]))[0] == pytest.approx(83.0)


def painted(volume, mask, hu):
    rng = np.random.default_rng(5)
    data = volume.data.copy()
    data[mask] = np.rint(hu + rng.normal(size=int(mask.sum())) * 12.0)
    return Volume(volume.geometry, data)


def test_bright_vessels_are_contrast_and_plain_ones_are_not(patient):
    g = patient.volume.geometry
    p = g.to_world(np.indices(g.shape).reshape(3, -1).T).reshape(*g.shape, 3)
    s1 = patient.landmarks["S1EP"]
    vessel = np.zeros(g.shape, dtype=bool)
    for x in (-32.0, 32.0):
        vessel |= (np.hypot(p[..., 0] - s1[0] - x, p[..., 1] - s1[1] + 38.0) < 7.0) & (
            p[..., 2] > s1[2] - 20.0
        )
    vessel &= patient.labels.data == 0

    def codes(volume, header=""):
        return [d.code for d in calibration.density_doubts(volume, patient.labels, header)]

    assert codes(patient.volume) == []
    assert codes(painted(patient.volume, vessel, 45.0)) == []
    assert codes(painted(patient.volume, vessel, 220.0)) == ["mechanics.calibration_contrast"]
    assert codes(patient.volume, "Iohexol") == ["mechanics.calibration_contrast"]
    assert codes(patient.volume, "NONE") == []


def test_metal_counts_where_it_is_near_bone(patient):
    g = patient.volume.geometry
    hip = g.to_index(patient.landmarks["HJC_L"]).round().astype(int)
    near = np.zeros(g.shape, dtype=bool)
    near[tuple(slice(a - 2, a + 3) for a in hip)] = True
    (doubt,) = calibration.density_doubts(painted(patient.volume, near, 3000.0), patient.labels)
    assert doubt.code == "mechanics.calibration_metal"
    assert "hip left" in doubt.message
    assert "hip right" not in doubt.message
    far = np.zeros(g.shape, dtype=bool)
    far[2:6, 2:6, 2:6] = True
    assert not calibration.density_doubts(painted(patient.volume, far, 3000.0), patient.labels)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["vhf_pelvis_ct_1mm", "real_ct_3mm/ct.nii.gz"])
def test_real_cts_are_calibrated_on_their_own_tissue(shared, name):
    c = calibration.calibrate(read_ct(shared / "data" / name).volume)
    assert c.method == "air-fat-muscle"
    assert not c.doubts
    assert -1010 < c.peaks_hu[0] < -990
    assert -115 < c.peaks_hu[1] < -95
    assert 15 < c.peaks_hu[2] < 60
    assert 0.79 < c.slope < 0.82
    assert -10 < c.offset < 15


@pytest.mark.shared
def test_metal_and_vessels_of_the_real_ct(shared):
    folder = shared / "data" / "real_ct_3mm"
    volume = read_ct(folder / "ct.nii.gz").volume
    labels = read_labels(folder / "bones.nii.gz", volume.geometry)
    (doubt,) = calibration.density_doubts(volume, labels)
    assert doubt.code == "mechanics.calibration_metal"
    assert "femur left" in doubt.message
    assert "femur right" not in doubt.message
    blood = np.zeros(volume.geometry.shape, dtype=bool)
    for vessel in range(1, 7):
        blood |= read_mask(folder / "soft_tissue.nii.gz", volume.geometry, vessel)
    bright = calibration.density_doubts(painted(volume, blood, 200.0), labels)
    assert "mechanics.calibration_contrast" in [d.code for d in bright]
