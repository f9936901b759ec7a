from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_maker import write_slice, write_stack
from pydicom.uid import RLELossless

from sacroplan.errors import FormatError, ImagingError
from sacroplan.formats.ct import read_ct


def ramp(shape: tuple[int, int, int] = (12, 10, 8)) -> np.ndarray:
    i, j, k = np.indices(shape)
    return (i * 100 + j * 10 + k).astype(np.int16)


def test_missing_slice_is_named(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp())
    (tmp_path / "a" / "s004.dcm").unlink()
    with pytest.raises(ImagingError, match=r"1 slice is missing, above z = 3\.0 mm.*CT-06"):
        read_ct(tmp_path / "a")


def test_one_missing_slice_of_many_is_found(tmp_path: Path) -> None:
    """A single hole in 150 slices varies the spacing by 8 %, two holes must be counted."""
    write_stack(tmp_path / "a", np.zeros((4, 4, 150), np.int16) + ramp((4, 4, 150)))
    (tmp_path / "a" / "s040.dcm").unlink()
    (tmp_path / "a" / "s101.dcm").unlink()
    with pytest.raises(ImagingError, match="2 slices are missing"):
        read_ct(tmp_path / "a")


def test_uneven_spacing_is_refused(tmp_path: Path) -> None:
    z = np.array([0, 1, 2, 3, 4.3, 5.6, 6.9, 8.2])
    positions = np.column_stack([np.zeros(8), np.zeros(8), z])
    write_stack(tmp_path / "a", ramp(), positions=positions)
    with pytest.raises(ImagingError, match=r"uneven, 1\.00 to 1\.30 mm"):
        read_ct(tmp_path / "a")


def test_header_rounding_of_positions_is_tolerated(tmp_path: Path) -> None:
    z = np.round(np.arange(8) * 1.33333, 2)
    positions = np.column_stack([np.zeros(8), np.zeros(8), z])
    write_stack(tmp_path / "a", ramp(), positions=positions)
    spacing = read_ct(tmp_path / "a").volume.geometry.spacing_mm
    assert spacing[2] == pytest.approx(1.33333, abs=2e-3)


def test_varying_tilt_is_refused(tmp_path: Path) -> None:
    data = ramp()
    (tmp_path / "a").mkdir()
    for k in range(8):
        angle = np.radians(2.0 * k)
        write_slice(
            tmp_path / "a" / f"{k}.dcm",
            data[:, :, k].T,
            (0, 0, 2.0 * k),
            (1, 0, 0, 0, np.cos(angle), np.sin(angle)),
        )
    with pytest.raises(ImagingError, match=r"not parallel, their tilt varies by up to 14\.0 deg"):
        read_ct(tmp_path / "a")


def test_header_tilt_is_compared_with_the_slices(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp(), GantryDetectorTilt="12.5")
    assert [d.code for d in read_ct(tmp_path / "a").doubts] == ["imaging.gantry_tilt_unseen"]
    write_slice(tmp_path / "a" / "s003.dcm", ramp()[:, :, 3].T, (0, 0, 3), GantryDetectorTilt="3")
    with pytest.raises(ImagingError, match=r"gantry tilt varies from 3 to 12\.5 degrees"):
        read_ct(tmp_path / "a")


@pytest.mark.parametrize("degrees", [15.0, -20.0])
def test_constant_gantry_tilt_is_resampled_exactly(tmp_path: Path, degrees: float) -> None:
    """A field linear in space survives: linear interpolation inside the slices is exact for it."""
    a = np.radians(degrees)
    x, y = np.array([1.0, 0, 0]), np.array([0.0, np.cos(a), np.sin(a)])
    gradient = np.array([7.0, -11.0, 5.0])
    n = (30, 40, 12)
    positions = np.column_stack([np.full(12, -10.0), np.full(12, 4.0), 3.0 * np.arange(12)])
    i, j = np.indices(n[:2])
    data = np.empty(n)
    for k in range(12):
        points = positions[k] + i[..., None] * 0.8 * x + j[..., None] * 0.9 * y
        data[:, :, k] = points @ gradient
    write_stack(
        tmp_path / "a",
        np.rint(data * 10).astype(np.int16),
        direction=np.column_stack([x, y, np.cross(x, y)]),
        spacing=(0.8, 0.9, 3.0),
        positions=positions,
        RescaleSlope="0.1",
        GantryDetectorTilt=str(degrees),
    )
    ct = read_ct(tmp_path / "a")
    assert "imaging.gantry_tilt_resampled" in {d.code for d in ct.doubts}
    assert ct.info.gantry_tilt_deg == pytest.approx(abs(degrees), abs=1e-3)
    g = ct.volume.geometry
    assert g.spacing_mm[2] == pytest.approx(3.0 * np.cos(a), abs=1e-6)
    inside = ct.volume.data > -1000
    index = np.argwhere(inside)
    error = ct.volume.data[inside] - g.to_world(index) @ gradient
    # The rim of each slice mixes with air; everything else is exact but for the 0.1 HU rounding.
    good = np.abs(error) < 0.11
    assert good.sum() >= 30 * 38 * 12
    edge = index[~good]
    assert len(edge) <= 2 * 30 * 12
    assert inside.sum() >= 30 * 39 * 12


def test_slope_and_intercept_of_each_slice(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for k in range(4):
        write_slice(
            folder / f"{k}.dcm",
            np.full((5, 6), 100, np.int16),
            (0, 0, k),
            RescaleSlope=str(k + 1),
            RescaleIntercept=str(-10 * k),
        )
    volume = read_ct(folder).volume
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data[0, 0], [100, 190, 280, 370])


def test_fractional_slope_gives_float32(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp(), RescaleSlope="0.5", RescaleIntercept="-0.25")
    volume = read_ct(tmp_path / "a").volume
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, ramp() * 0.5 - 0.25)


def test_padding_becomes_air_but_only_below_air(tmp_path: Path) -> None:
    data = ramp()
    data[0, 0, :] = -2000
    write_stack(tmp_path / "a", data, PixelPaddingValue=-2000)
    volume = read_ct(tmp_path / "a").volume
    assert np.all(volume.data[0, 0] == -1024)
    assert volume.data[1, 1, 1] == 111
    write_stack(tmp_path / "b", ramp() * 0 + ramp(), PixelPaddingValue=111)
    assert read_ct(tmp_path / "b").volume.data[1, 1, 1] == 111


def test_no_identity_is_kept(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp())
    ct = read_ct(tmp_path / "a")
    text = repr(ct.info) + repr(ct.doubts)
    for secret in ("Doe", "Jane", "4711", "1955", "20240317", "-17"):
        assert secret not in text
    assert ct.info.acquired == "2024-03"


def test_the_series_with_most_axial_slices_is_taken(tmp_path: Path) -> None:
    coronal = np.column_stack([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    write_stack(tmp_path / "a", ramp((9, 9, 8)), SeriesInstanceUID="1.1", SeriesNumber=5)
    write_stack(tmp_path / "b", ramp((9, 9, 4)) * 2, SeriesInstanceUID="1.2", SeriesNumber=6)
    write_stack(
        tmp_path / "c", ramp((9, 9, 20)), direction=coronal, SeriesInstanceUID="1.3",
        SeriesNumber=7,
    )  # fmt: skip
    write_stack(
        tmp_path / "d", ramp((9, 9, 30)), SeriesInstanceUID="1.4", SeriesNumber=8,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )  # fmt: skip
    write_stack(tmp_path / "e", ramp((9, 9, 40)), Modality="MR")
    ct = read_ct(tmp_path)
    assert ct.info.series_number == "5"
    [doubt] = [d for d in ct.doubts if d.code == "imaging.several_series"]
    assert "series 6" in doubt.message
    assert "series 7" in doubt.message
    assert "30 x localizer" in ct.info.set_aside
    assert "40 x modality MR" in ct.info.set_aside
    for wanted in ("6", "1.2"):
        chosen = read_ct(tmp_path, series=wanted)
        assert chosen.info.series_number == "6"
        assert not chosen.doubts
    with pytest.raises(ImagingError, match="no series '9'; there are: series 5"):
        read_ct(tmp_path, series="9")
    assert read_ct(tmp_path / "b" / "s002.dcm").info.series_number == "6"


def test_exact_repeats_are_dropped_and_contradictions_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp())
    write_stack(tmp_path / "a", ramp(), prefix="copy")
    ct = read_ct(tmp_path / "a")
    np.testing.assert_array_equal(ct.volume.data, ramp())
    repeated = "8 x repeated slice (z = 0.0, 1.0, 2.0, 3.0, 4.0 ... mm)"
    assert repeated in ct.info.set_aside
    write_stack(tmp_path / "a", ramp() + 1, prefix="copy")
    with pytest.raises(ImagingError, match=r"different images of the same place \(z = 0\.0 mm\)"):
        read_ct(tmp_path / "a")


def test_two_phases_in_one_series_are_told_apart(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp(), AcquisitionNumber=1)
    write_stack(tmp_path / "a", ramp() + 50, prefix="late", AcquisitionNumber=2)
    ct = read_ct(tmp_path / "a")
    np.testing.assert_array_equal(ct.volume.data, ramp())
    assert "imaging.several_series" in {d.code for d in ct.doubts}


def test_rle_slices(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp())
    for file in (tmp_path / "a").iterdir():
        ds = pydicom.dcmread(file)
        ds.compress(RLELossless)
        ds.save_as(file)
    np.testing.assert_array_equal(read_ct(tmp_path / "a").volume.data, ramp())


def test_blank_series_uid_and_no_preamble(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp(), SeriesInstanceUID="", SOPClassUID="")
    np.testing.assert_array_equal(read_ct(tmp_path / "a").volume.data, ramp())
    write_stack(tmp_path / "b", ramp())
    for file in (tmp_path / "b").iterdir():
        file.write_bytes(file.read_bytes()[132:])
    np.testing.assert_array_equal(read_ct(tmp_path / "b").volume.data, ramp())


def test_big_endian_dicom(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp(), big_endian=True)
    np.testing.assert_array_equal(read_ct(tmp_path / "a").volume.data, ramp())


def test_refusals_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.dcm").write_text("This is not an image.")
    (tmp_path / "lone.dcm").write_text("This is not an image.")
    (tmp_path / "lone.txt").write_text("This is not an image.")
    (tmp_path / "zero.dcm").write_bytes(b"")
    (tmp_path / "nifti").mkdir()
    (tmp_path / "nifti" / "ct.nii.gz").write_bytes(b"x")
    (tmp_path / "two_images").mkdir()
    (tmp_path / "two_images" / "ct.nii.gz").write_bytes(b"x")
    (tmp_path / "two_images" / "other.nrrd").write_bytes(b"x")
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    write_stack(tmp_path / "cut", ramp())
    whole = (tmp_path / "cut" / "s003.dcm").read_bytes()
    (tmp_path / "cut" / "s003.dcm").write_bytes(whole[:-50])
    cases = {
        "nowhere": "does not exist",
        "empty": "empty folder",
        "text": "1 files, none of them DICOM",
        "lone.dcm": "not DICOM",
        "lone.txt": "not DICOM",
        "zero.dcm": "not DICOM",
        "nifti": r"ct\.nii\.gz is not a NIfTI file",
        "two_images": r"give one of its image files by name \(ct\.nii\.gz, other\.nrrd\)",
        "stub": "none of them DICOM",
        "cut": "s003.dcm: its pixel data are damaged",
    }
    for name, words in cases.items():
        with pytest.raises(FormatError, match=words) as caught:
            read_ct(tmp_path / name)
        assert "\n" not in str(caught.value)
    write_stack(tmp_path / "mr", ramp(), Modality="MR")
    with pytest.raises(ImagingError, match=r"no CT slices.*8 x modality MR"):
        read_ct(tmp_path / "mr")
    assert read_ct(tmp_path / "mr", modality="MR").info.modality == "MR"
    write_stack(tmp_path / "two", ramp((5, 5, 2)))
    with pytest.raises(ImagingError, match="at least 3 are needed"):
        read_ct(tmp_path / "two")


def test_a_single_damaged_header_never_crashes_the_reader(tmp_path: Path) -> None:
    """Random bytes in a header are refused or survived, never another exception."""
    rng = np.random.default_rng(5)
    write_stack(tmp_path / "a", ramp((4, 4, 4)))
    file = tmp_path / "a" / "s001.dcm"
    whole = bytearray(file.read_bytes())
    messages = []
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(132, len(whole) - 40, size=4):
            damaged[at] = rng.integers(0, 256)
        file.write_bytes(bytes(damaged))
        try:
            read_ct(tmp_path / "a")
        except (FormatError, ImagingError) as error:
            messages.append(str(error))
    assert messages, "no damage was noticed at all"
    assert not [m for m in messages if "\n" in m]
