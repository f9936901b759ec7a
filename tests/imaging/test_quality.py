from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.errors import ImagingError
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.imaging.quality import FACES, QualityReport, check_ct

GOOD = {"slice_thickness_mm": 1.0, "gantry_tilt_deg": 0.0, "kvp": 120.0, "kernel": "B70s"}


def image(
    shape: tuple[int, int, int] = (60, 50, 260),
    spacing: tuple[float, float, float] = (0.8, 0.8, 1.0),
) -> Volume:
    """Air around a block of soft tissue with a bone inside that touches no border."""
    data = np.full(shape, -1000, dtype=np.int16)
    data[5:-5, 5:-5] = 40
    data[20:30, 20:30, 20:-20] = 700
    return Volume(VolumeGeometry(shape, np.array(spacing), np.array([-20.0, 30, -400])), data)


def changed(volume: Volume, where: tuple[slice, slice, slice], hu: int) -> Volume:
    data = volume.data.copy()
    data[where] = hu
    return Volume(volume.geometry, data)


def codes(report: QualityReport) -> set[str]:
    return {d.code.removeprefix("imaging.") for d in report.doubts}


ALL = slice(None)


def test_a_good_ct_raises_no_doubt() -> None:
    report = check_ct(image(), **GOOD, acquired="2024-05", surgery="2024-06-01")
    assert codes(report) == set()
    assert report.metal == ()
    assert report.cut_faces == ()
    assert report.findings["imaging.extent.superior_inferior_mm"].value == 260.0
    assert report.metrics() is report.findings
    limited = [m for m in report.findings.values() if m.within is not None]
    assert len(limited) >= 5
    assert all(m.within for m in limited)


def test_thick_slices_warn_by_name() -> None:
    thick = image(spacing=(3.0, 3.0, 3.0))
    report = check_ct(thick)
    assert {"thick_slices", "coarse_pixels"} <= codes(report)
    [doubt] = [d for d in report.doubts if d.code == "imaging.thick_slices"]
    assert "3 mm" in doubt.message
    assert "CT-01" in doubt.rows
    # 2 mm apart but 3 mm thick is judged by the thickness.
    overlapping = check_ct(image(spacing=(0.8, 0.8, 0.9)), **{**GOOD, "slice_thickness_mm": 3.0})
    assert codes(overlapping) >= {"thick_slices"}
    assert "slice_gaps" not in codes(overlapping)


def test_gaps_between_slices() -> None:
    report = check_ct(image(spacing=(0.8, 0.8, 1.0)), **{**GOOD, "slice_thickness_mm": 0.6})
    assert codes(report) == {"slice_gaps"}


def test_the_slice_axis_is_followed() -> None:
    """A CT cut sagittally: 2 mm along i is slice spacing, not pixel size."""
    volume = image((60, 50, 320), (2.0, 0.8, 0.8))
    for axis in (0, None):
        report = check_ct(volume, **{**GOOD, "slice_thickness_mm": 2.0}, slice_axis=axis)
        assert codes(report) == {"thick_slices"}
        assert report.findings["imaging.slice_spacing_mm"].value == 2.0
        assert report.findings["imaging.in_plane_spacing_mm"].value == 0.8


@pytest.mark.parametrize(
    ("entry", "value", "code"),
    [
        ("patient_position", "HFP", "position"),
        ("patient_position", "FFDR", "position"),
        ("kvp", 80.0, "kvp"),
        ("kernel", "", "kernel_unknown"),
        ("contrast", "APPLIED", "contrast"),
    ],
)
def test_acquisition(entry: str, value: float | str, code: str) -> None:
    assert codes(check_ct(image(), **{**GOOD, entry: value})) == {code}


@pytest.mark.parametrize(
    ("acquired", "surgery", "code", "weeks"),
    [
        ("2024-05-01", "2024-05-29", None, 4),
        ("2024-05", "2024-07-30", "old_scan", 11),
        ("2024-05", "2024-01-30", "scan_after_surgery", -15),
        ("2024-05", "2024-05-02", None, -2),
    ],
)
def test_age_of_the_scan(acquired: str, surgery: str, code: str | None, weeks: float) -> None:
    report = check_ct(image(), **GOOD, acquired=acquired, surgery=surgery)
    assert codes(report) == ({code} if code else set())
    age = report.findings["imaging.scan_age_weeks"].value
    assert age == pytest.approx(weeks, abs=0.6)


def test_unknown_age_is_unknown_and_a_wrong_date_an_error() -> None:
    assert check_ct(image(), **GOOD).findings["imaging.scan_age_weeks"].value is None
    assert codes(check_ct(image(), **GOOD, surgery="2024-05")) == {"scan_age_unknown"}
    with pytest.raises(ImagingError, match=r"surgery date '12.5.2024'"):
        check_ct(image(), acquired="2024-05", surgery="12.5.2024")


@pytest.mark.parametrize("face", range(6))
def test_bone_on_each_face_is_named(face: int) -> None:
    axis, end = divmod(face, 2)
    where = [slice(20, 35)] * 3
    where[axis] = slice(0, 3) if end == 0 else slice(-3, None)
    report = check_ct(changed(image(), tuple(where), 600), **GOOD)  # type: ignore[arg-type]
    assert report.cut_faces == (FACES[face],)
    assert codes(report) == {"bone_cut_by_border"}
    value = report.findings[f"imaging.border.{FACES[face]}_bone_cm2"].value
    spacing = np.delete([0.8, 0.8, 1.0], axis)
    assert value == pytest.approx(225 * spacing[0] * spacing[1] / 100)


def test_specks_on_a_face_do_not_count() -> None:
    data = image().data.copy()
    data[::4, ::4, 0] = 500
    report = check_ct(Volume(image().geometry, data), **GOOD)
    assert report.cut_faces == ()


def test_metal_is_measured_and_placed() -> None:
    volume = changed(image(), (slice(10, 14), slice(20, 25), slice(30, 50)), 3000)
    volume = changed(volume, (slice(40, 43), slice(20, 25), slice(200, 210)), 2900)
    volume = changed(volume, (slice(50, 51), slice(20, 21), slice(60, 61)), 3071)
    report = check_ct(volume, **GOOD)
    assert codes(report) == {"metal"}
    big, small = report.metal
    assert big.volume_mm3 == pytest.approx(4 * 5 * 20 * 0.64)
    assert small.volume_mm3 == pytest.approx(3 * 5 * 10 * 0.64)
    np.testing.assert_allclose(big.centroid, volume.geometry.to_world([11.5, 22, 39.5]))
    assert big.highest_hu == 3000
    [doubt] = report.doubts
    assert "low right" in doubt.message
    total = report.findings["imaging.metal.volume_cm3"].value
    assert total == pytest.approx((400 + 150) * 0.64 / 1000)


def test_metal_changes_side_in_the_mirror() -> None:
    volume = changed(image(), (slice(10, 14), slice(20, 25), slice(30, 50)), 3000)
    mirrored = Volume(volume.geometry, np.ascontiguousarray(volume.data[::-1]))
    a, b = check_ct(volume, **GOOD), check_ct(mirrored, **GOOD)
    assert "right" in a.doubts[0].message
    assert "left" in b.doubts[0].message
    centre = volume.geometry.to_world((np.array(volume.geometry.shape) - 1) / 2)[0]
    assert a.metal[0].centroid[0] + b.metal[0].centroid[0] == pytest.approx(2 * centre)


def test_a_moved_patient_gives_the_same_findings() -> None:
    """Rigid motion of the whole case changes positions, nothing else (but the obliquity)."""
    volume = changed(image(), (slice(10, 14), slice(20, 25), slice(30, 50)), 3000)
    a = np.radians(20)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    rigid = Rigid(turn, np.array([5.0, -7, 11]))
    moved = Volume(volume.geometry.transformed(rigid), volume.data)
    first, second = check_ct(volume, **GOOD), check_ct(moved, **GOOD)
    for name, metric in first.findings.items():
        if name != "imaging.grid_obliquity_deg":
            assert metric == second.findings[name], name
    assert second.findings["imaging.grid_obliquity_deg"].value == pytest.approx(20.0)
    np.testing.assert_allclose(second.metal[0].centroid, rigid.points(first.metal[0].centroid))


def test_range_of_values() -> None:
    low = changed(image(), (slice(0, 2), slice(0, 2), slice(0, 1)), -1200)
    report = check_ct(low, **GOOD)
    assert codes(report) == {"hu_below_air"}
    assert report.findings["imaging.hu_min"].within is False
    assert "4 voxels" in report.doubts[0].message
    grey = Volume(image().geometry, (image().data // 16 + 100).astype(np.int16))
    assert "not_hu" in codes(check_ct(grey, **GOOD))


def test_every_row_named_in_a_doubt_exists() -> None:
    volume = changed(image((60, 50, 20), (3, 3, 5)), (ALL, ALL, slice(0, 4)), 2600)
    volume = changed(volume, (slice(0, 1), ALL, ALL), -1300)
    report = check_ct(
        volume, slice_thickness_mm=2.0, gantry_tilt_deg=5, kvp=80, contrast="X",
        acquired="2020-01", surgery="2024-01",
    )  # fmt: skip
    assert len(report.doubts) >= 10
    for doubt in report.doubts:
        assert doubt.trade == "imaging"
        assert doubt.message.endswith(".")
        for row in doubt.rows:
            assert evidence.get(row).id == row
    for metric in report.findings.values():
        assert metric.unit in evidence.UNITS
        for row in metric.rows:
            assert evidence.get(row).id == row


@pytest.mark.shared
def test_real_cts(shared: Path) -> None:
    from sacroplan.formats.ct import read_ct

    thick = read_ct(shared / "data" / "real_ct_3mm" / "ct.nii.gz").volume
    report = check_ct(thick)
    assert {"thick_slices", "coarse_pixels", "metal", "hu_below_air"} <= codes(report)
    assert report.cut_faces == ("inferior", "superior")
    [metal] = report.metal
    # The implant sits in the left proximal femur.
    femur = thick.geometry.to_index(metal.centroid) / np.array(thick.geometry.shape)
    assert femur[0] > 0.6
    assert femur[2] < 0.2
    assert 5e3 < metal.volume_mm3 < 20e3
    pelvis = read_ct(shared / "data" / "vhf_pelvis_ct_1mm")
    info = pelvis.info
    report = check_ct(
        pelvis.volume,
        slice_thickness_mm=info.slice_thickness_mm,
        slice_axis=info.slice_axis,
        gantry_tilt_deg=info.gantry_tilt_deg,
        kvp=info.kvp,
        kernel=info.kernel,
    )
    assert codes(report) == {
        "coarse_pixels", "short_coverage", "kernel_unknown", "bone_cut_by_border",
    }  # fmt: skip
    assert report.cut_faces == ("inferior", "superior")
