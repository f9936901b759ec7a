"""The table of awkward series: each is read so that known points land, or refused by its sentence."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_maker import CT, recode, write_dicomdir, write_enhanced, write_slice, write_stack
from pydicom.sequence import Sequence

from sacroplan.errors import FormatError, ImagingError, SacroplanError
from sacroplan.formats import archive
from sacroplan.formats.ct import CtImage, inputs_of, list_series, read_ct

ORIGIN = np.array([-20.0, 13.0, 700.0])
SPACING = np.array([0.8, 0.9, 1.25])


def ramp(n: int = 8) -> np.ndarray:
    """Every voxel has its own value, so that each is a known point."""
    i, j, k = np.indices((12, 10, n))
    return (i * 100 + j * 10 + k - 600).astype(np.int16)


def lands(ct: CtImage, n: int = 8, atol: float = 0.01) -> None:
    """Every voxel of the ramp lies where the headers put it."""
    data = ramp(n)
    assert ct.volume.data.shape == data.shape
    index = np.argwhere(np.ones(data.shape, bool))
    world = ORIGIN + index * SPACING
    at = np.rint(ct.volume.geometry.to_index(world)).astype(int)
    np.testing.assert_array_equal(ct.volume.data[tuple(at.T)], data[tuple(index.T)])
    np.testing.assert_allclose(ct.volume.geometry.to_world(at), world, atol=atol)


def plain(folder: Path, n: int = 8, **entries: object) -> None:
    write_stack(folder, ramp(n), origin=ORIGIN, spacing=SPACING, **entries)


def codes(ct: CtImage) -> set[str]:
    return {d.code.removeprefix("imaging.") for d in ct.doubts}


# --- containers ----------------------------------------------------------------------------------


def as_folder(folder: Path) -> Path:
    return folder


def as_slice(folder: Path) -> Path:
    return folder / "s003.dcm"


def as_zip(folder: Path) -> Path:
    target = folder.parent / "disc.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as z:
        for file in sorted(folder.iterdir()):
            z.write(file, f"EXPORT/{file.name}")
        z.writestr("EXPORT/viewer.txt", "viewer")
    return target


def as_dicomdir(folder: Path) -> Path:
    images = folder / "IMAGES"
    images.mkdir()
    names = []
    for n, file in enumerate(sorted(folder.glob("*.dcm"))):
        # Written in lower case, as some systems mount a disc.
        file.rename(images / f"im{n:04d}")
        names.append(["IMAGES", f"IM{n:04d}"])
    write_dicomdir(folder / "DICOMDIR", names)
    return folder / "DICOMDIR"


def as_dicomdir_folder(folder: Path) -> Path:
    return as_dicomdir(folder).parent


def without_preamble(folder: Path) -> Path:
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[132:])
    return folder


def among_others(folder: Path) -> Path:
    (folder / "notes.txt").write_text("not an image")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / ".hidden").mkdir()
    write_stack(folder / ".hidden", ramp() + 1)
    write_stack(folder / "scout", ramp(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
                SeriesInstanceUID="1.2.3.8")  # fmt: skip
    write_stack(folder / "mr", ramp(), Modality="MR", SeriesInstanceUID="1.2.3.9")
    write_stack(folder / "dose", ramp(3), SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
                SeriesInstanceUID="1.2.3.10")  # fmt: skip
    return folder


@pytest.mark.parametrize(
    "wrap",
    [as_folder, as_slice, as_zip, as_dicomdir, as_dicomdir_folder, without_preamble, among_others],
)
def test_containers(tmp_path: Path, wrap: Callable[[Path], Path]) -> None:
    plain(tmp_path / "a")
    ct = read_ct(wrap(tmp_path / "a"))
    lands(ct)
    assert codes(ct) <= {"several_studies"}
    if wrap is among_others:
        assert {"8 x localizer", "8 x modality MR", "3 x screen capture or report"} <= set(
            ct.info.set_aside
        )


def test_a_zip_leaves_nothing_behind_and_is_named_in_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    plain(tmp_path / "a")
    lands(read_ct(as_zip(tmp_path / "a")))
    (tmp_path / "a" / "s003.dcm").write_bytes((tmp_path / "a" / "s003.dcm").read_bytes()[:-30])
    with pytest.raises(FormatError, match=r"disc\.zip/EXPORT/s003\.dcm: its pixel data"):
        read_ct(as_zip(tmp_path / "a"))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_zip_or_folder_with_one_image_file_stands_for_it(tmp_path: Path) -> None:
    from sacroplan.formats.labels import write_volume_nifti
    from sacroplan.geometry.volume import Volume, VolumeGeometry

    folder = tmp_path / "a"
    folder.mkdir()
    grid = VolumeGeometry((12, 10, 8), SPACING, ORIGIN)
    write_volume_nifti(Volume(grid, ramp()), folder / "ct.nii.gz")
    (folder / "readme.txt").write_text("x")
    lands(read_ct(folder))
    lands(read_ct(as_zip(folder)))


# --- transfer syntaxes ---------------------------------------------------------------------------

SYNTAXES = {
    "implicit little endian": "1.2.840.10008.1.2",
    "explicit little endian": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "RLE": "1.2.840.10008.1.2.5",
    "lossless JPEG": "1.2.840.10008.1.2.4.57",
    "lossless JPEG, first order": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
    "HTJ2K, RPCL": "1.2.840.10008.1.2.4.202",
}


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES.keys())
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    """Every slice is the same plane; its number comes from the rescale intercept."""
    folder = tmp_path / "a"
    folder.mkdir()
    for k in range(8):
        file = folder / f"s{k:03d}.dcm"
        write_slice(
            file, ramp(1)[:, :, 0].T, ORIGIN + [0, 0, k * SPACING[2]],
            spacing=(SPACING[1], SPACING[0]), RescaleIntercept=str(k),
        )  # fmt: skip
        recode(file, syntax)
        assert str(pydicom.dcmread(file).file_meta.TransferSyntaxUID) == syntax
    ct = read_ct(folder)
    lands(ct)
    assert ct.volume.data.dtype == np.int16
    assert not ct.doubts


def test_big_endian(tmp_path: Path) -> None:
    plain(tmp_path / "a", big_endian=True)
    lands(read_ct(tmp_path / "a"))


def test_an_unknown_compression_is_refused_by_name(tmp_path: Path) -> None:
    plain(tmp_path / "a")
    for file in (tmp_path / "a").iterdir():
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.100")
        ds["PixelData"].is_undefined_length = True
        ds.PixelData = pydicom.encaps.encapsulate([b"12345678"])
        ds["PixelData"].VR = "OB"
        ds.save_as(file)
    with pytest.raises(FormatError, match=r"s000\.dcm: its pixel data are damaged.*MPEG2"):
        read_ct(tmp_path / "a")


def test_lossy_compression_is_a_doubt(tmp_path: Path) -> None:
    plain(tmp_path / "a", LossyImageCompression="01")
    assert codes(read_ct(tmp_path / "a")) == {"lossy_compression"}


# --- values --------------------------------------------------------------------------------------


def test_values_below_air_beyond_16_bits_and_in_32(tmp_path: Path) -> None:
    wide = ramp().astype(np.int32) * 40
    folder = tmp_path / "a"
    folder.mkdir()
    for k in range(8):
        file = folder / f"{k}.dcm"
        write_slice(file, ramp()[:, :, k].T, ORIGIN + [0, 0, k * SPACING[2]],
                    spacing=(SPACING[1], SPACING[0]))  # fmt: skip
        ds = pydicom.dcmread(file)
        ds.BitsAllocated = ds.BitsStored = 32
        ds.HighBit = 31
        ds.PixelData = np.ascontiguousarray(wide[:, :, k].T).astype("<i4").tobytes()
        ds.save_as(file)
    ct = read_ct(folder)
    np.testing.assert_array_equal(ct.volume.data, wide)
    assert ct.volume.data.min() == -24000
    far = tmp_path / "b"
    plain(far, RescaleSlope="100")
    ct = read_ct(far)
    assert ct.volume.data.dtype == np.float32
    np.testing.assert_array_equal(ct.volume.data, ramp().astype(np.float32) * 100)


def test_overlay_bits_above_the_stored_ones_are_not_values(tmp_path: Path) -> None:
    data = ramp()
    folder = tmp_path / "a"
    plain(folder)
    for k, file in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(file)
        ds.BitsStored, ds.HighBit = 12, 11
        words = data[:, :, k].T.astype(np.int16).view(np.uint16) & 0x0FFF
        words = words | 0x5000
        ds.PixelData = words.astype("<u2").tobytes()
        ds.save_as(file)
    np.testing.assert_array_equal(read_ct(folder).volume.data, data)


def test_missing_rescale_is_a_doubt_and_zero_slope_no_slice(tmp_path: Path) -> None:
    plain(tmp_path / "a", RescaleSlope=None)
    assert codes(read_ct(tmp_path / "a")) == {"rescale_missing"}
    plain(tmp_path / "b", RescaleSlope="0")
    with pytest.raises(ImagingError, match=r"no CT slices .*8 x rescale slope of zero"):
        read_ct(tmp_path / "b")


# --- orientation and tilt ------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [-25.0, -12.5, -2.0, -0.05, 0.0, 0.05, 2.0, 12.5, 25.0])
@pytest.mark.parametrize("about", ["x", "y"])
def test_tilt(tmp_path: Path, degrees: float, about: str) -> None:
    """A bright ball lands within half a voxel after resampling, within 0.01 mm when straight."""
    a = np.radians(degrees)
    if about == "x":
        x, y = np.array([1.0, 0, 0]), np.array([0.0, np.cos(a), np.sin(a)])
    else:
        x, y = np.array([np.cos(a), 0.0, -np.sin(a)]), np.array([0.0, 1.0, 0.0])
    n = (48, 44, 40)
    ball = np.array([3.0, -2.0, 21.0])
    positions = np.column_stack([np.full(40, -17.0), np.full(40, -20.0), 1.0 * np.arange(40)])
    i, j = np.indices(n[:2])
    data = np.empty(n, np.int16)
    for k in range(40):
        p = positions[k] + i[..., None] * 0.8 * x + j[..., None] * 0.9 * y
        data[:, :, k] = np.rint(2000 * np.exp(-((p - ball) ** 2).sum(-1) / (2 * 2.5**2)) - 1000)
    write_stack(
        tmp_path / "a", data, direction=np.column_stack([x, y, np.cross(x, y)]),
        spacing=(0.8, 0.9, 1.0), positions=positions, GantryDetectorTilt=f"{degrees:g}",
    )  # fmt: skip
    ct = read_ct(tmp_path / "a")
    g = ct.volume.geometry
    weight = np.clip(ct.volume.data.astype(float) + 990, 0, None)
    index = np.argwhere(weight > 0)
    w = weight[tuple(index.T)]
    centre = (g.to_world(index) * w[:, None]).sum(0) / w.sum()
    # Resampling is linear, so that the centre of mass survives it nearly exactly.
    np.testing.assert_allclose(centre, ball, atol=0.05)
    resampled = "gantry_tilt_resampled" in codes(ct)
    assert resampled == (abs(degrees) > 0.1)
    assert ct.info.gantry_tilt_deg == pytest.approx(abs(degrees), abs=0.01)
    peak = g.to_world(np.array(np.unravel_index(ct.volume.data.argmax(), g.shape)))
    assert np.all(np.abs(peak - ball) <= 0.5 * np.array([1, 1, 1]) + 0.51)


def test_a_small_unseen_slide_is_not_ignored(tmp_path: Path) -> None:
    """0.09 degrees are below what is called a tilt, but move the last slice by half a pixel."""
    slide = np.tan(np.radians(0.09))
    z = 2.0 * np.arange(200)
    positions = np.column_stack([z * slide, np.zeros(200), z])
    data = np.zeros((16, 8, 200), np.int16)
    data[8, 4, :] = 1000
    write_stack(tmp_path / "a", data, positions=positions, spacing=(1.0, 1.0, 2.0))
    ct = read_ct(tmp_path / "a")
    g = ct.volume.geometry
    for k in (0, 100, 199):
        plane = np.clip(ct.volume.data[:, :, k].astype(float), 0, None)
        i = (plane.sum(axis=1) * np.arange(g.shape[0])).sum() / plane.sum()
        assert g.to_world([i, 4, k])[0] == pytest.approx(8 + positions[k, 0], abs=0.01)


@pytest.mark.parametrize("position", ["HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL"])
def test_patient_positions_follow_the_orientation(tmp_path: Path, position: str) -> None:
    """Slices as scanners write them for every position: only the orientation counts."""
    facing = {"S": (1, 0, 0, 0, 1, 0), "P": (-1, 0, 0, 0, -1, 0), "DR": (0, 1, 0, -1, 0, 0),
              "DL": (0, -1, 0, 1, 0, 0)}[position[2:]]  # fmt: skip
    o = np.array(facing, float)
    x, y = o[:3], o[3:]
    if position.startswith("FF"):
        x = -x
    data = ramp()
    d = np.column_stack([x, y, np.cross(x, y)])
    write_stack(tmp_path / "a", data, origin=ORIGIN, spacing=SPACING, direction=d,
                PatientPosition=position)  # fmt: skip
    ct = read_ct(tmp_path / "a")
    assert ct.info.patient_position == position
    for index in [(0, 0, 0), (11, 0, 3), (5, 9, 7)]:
        world = ORIGIN + d @ (SPACING * index)
        at = ct.volume.geometry.to_index(world)
        np.testing.assert_allclose(at, np.rint(at), atol=1e-6)
        assert ct.volume.data[tuple(np.rint(at).astype(int))] == data[index]


# --- gaps, repeats, unevenness -------------------------------------------------------------------


def at(z: list[float]) -> np.ndarray:
    return np.column_stack([np.zeros(len(z)), np.zeros(len(z)), z])


@pytest.mark.parametrize(
    ("z", "words"),
    [
        ([0, 1, 2, 4, 5, 6, 7, 8], r"about 1 slice is missing, above z = 2\.0 mm"),
        ([0, 1, 2, 4, 5, 6, 9, 10], r"about 3 slices are missing, above z = 2\.0, 6\.0 mm"),
        ([0, 1, 2, 3, 4.3, 5.6, 6.9, 8.2], r"uneven, 1\.00 to 1\.30 mm.*worst above z = 0\.0 mm"),
        ([0, 1, 2, 3, 4, 5, 6, 7.35], r"uneven, 1\.00 to 1\.35 mm.*worst above z = 6\.0 mm"),
    ],
)
def test_gaps_are_named_by_place(tmp_path: Path, z: list[float], words: str) -> None:
    write_stack(tmp_path / "a", ramp(), positions=at(z))
    with pytest.raises(ImagingError, match=words + r".*CT-06"):
        read_ct(tmp_path / "a")


def test_gaps_of_sagittal_slices_are_named_along_x(tmp_path: Path) -> None:
    d = np.column_stack([[0.0, 1, 0], [0.0, 0, -1], [-1.0, 0, 0]])
    x = np.array([0, -1, -2, -4, -5, -6, -7, -8.0])
    positions = np.column_stack([x, np.zeros(8), np.zeros(8)])
    write_stack(tmp_path / "a", ramp(), positions=positions, direction=d)
    with pytest.raises(ImagingError, match=r"missing, above x = -2\.0 mm"):
        read_ct(tmp_path / "a")


@pytest.mark.parametrize(
    ("z", "doubt"),
    [
        ([0, 1, 2, 3, 4.1, 5.2, 6.3, 7.4], True),
        ([0, 0.6, 1.3, 1.9, 2.5, 3.1, 3.8, 4.4], True),
        (list(np.cumsum([0] + [1.0] * 20 + [1.008] * 20)), False),
    ],
)
def test_mild_unevenness_is_resampled_where_it_lies(
    tmp_path: Path, z: list[float], doubt: bool
) -> None:
    """A field linear along z comes out exactly, so every point lies where its slice says."""
    n = len(z)
    data = np.broadcast_to(np.rint(np.array(z) * 500), (6, 5, n)).astype(np.int16)
    write_stack(tmp_path / "a", data, positions=at(z), RescaleSlope="0.1")
    ct = read_ct(tmp_path / "a")
    g = ct.volume.geometry
    assert g.shape == (6, 5, n)
    heights = g.to_world(np.column_stack([np.zeros(n), np.zeros(n), np.arange(n)]))[:, 2]
    np.testing.assert_allclose(ct.volume.data[0, 0] / 50.0, heights, atol=0.001)
    assert heights[-1] == pytest.approx(z[-1], abs=1e-6)
    assert ("uneven_spacing_resampled" in codes(ct)) == doubt


def test_repeats_are_compared_as_images_not_as_bytes(tmp_path: Path) -> None:
    plain(tmp_path / "a")
    plain(tmp_path / "a", prefix="copy")
    for file in sorted((tmp_path / "a").glob("copy*")):
        recode(file, "1.2.840.10008.1.2.5")
    ct = read_ct(tmp_path / "a")
    lands(ct)
    assert any("8 x repeated slice (z = 700.0, 701.2" in s for s in ct.info.set_aside)


def test_files_that_share_one_identifier_are_not_lost(tmp_path: Path) -> None:
    """Anonymisers write the same instance UID into every slice."""
    plain(tmp_path / "a", SOPInstanceUID="1.2.3.4.5")
    lands(read_ct(tmp_path / "a"))


def test_a_damaged_slice_is_a_doubt(tmp_path: Path) -> None:
    plain(tmp_path / "a", 9)
    file = tmp_path / "a" / "s008.dcm"
    raw = file.read_bytes()
    at_ = raw.index(b"\x20\x00\x32\x00DS")
    file.write_bytes(raw[: at_ + 8] + b"x" * 12 + raw[at_ + 20 :])
    ct = read_ct(tmp_path / "a")
    lands(ct)
    assert any("position" in s or "header" in s for s in ct.info.set_aside)


# --- series --------------------------------------------------------------------------------------


def test_the_list_tells_the_reasons(tmp_path: Path) -> None:
    def series(name: str, number: int, n: int, **entries: object) -> None:
        spacing = SPACING.copy()
        spacing[2] = float(entries.pop("step", 1.0))  # type: ignore[arg-type]
        write_stack(tmp_path / name, ramp(n), origin=ORIGIN, spacing=spacing,
                    SeriesInstanceUID=f"1.2.{number}", SeriesNumber=number,
                    SliceThickness=str(spacing[2]), StudyInstanceUID="1.9", **entries)  # fmt: skip

    series("soft", 2, 12, ConvolutionKernel="Br36f")
    series("bone", 3, 12, ConvolutionKernel="Br64f")
    series("contrast", 4, 12, ConvolutionKernel="Br64f", ContrastBolusAgent="Ultravist 370")
    series("thick", 5, 5, step=3.0, ConvolutionKernel="Br64f")
    series("short", 6, 4, ConvolutionKernel="Br64f")
    series("mpr", 7, 12, ConvolutionKernel="Br64f", ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    series("holed", 8, 12, ConvolutionKernel="Br64f")
    (tmp_path / "holed" / "s005.dcm").unlink()
    found = list_series(tmp_path)
    rows = {r["series"]: r for r in (c.row() for c in found.candidates)}
    assert [r["series"] for r in rows.values() if r["chosen"]] == ["3"]
    assert next(iter(rows)) == "3"
    expected = {
        "2": "softer or unknown kernel",
        "4": "contrast agent",
        "5": "thicker slices of 3 mm",
        "6": "covers only 3 mm of 12 mm",
        "7": "reformatted",
        "8": "1 slice is missing, above z = 704.0 mm",
    }
    for number, words in expected.items():
        assert words in rows[number]["reason"], rows[number]
    assert "sharp kernel" in rows["3"]["reason"]
    ct = read_ct(tmp_path)
    assert ct.info.series_number == "3"
    assert ct.info.kernel_class == "sharp"
    [doubt] = ct.doubts
    assert doubt.code == "imaging.several_series"
    assert "softer or unknown kernel" in doubt.message
    assert read_ct(tmp_path, "2").doubts == ()
    assert read_ct(tmp_path, "2").info.kernel_class == "smooth"
    with pytest.raises(ImagingError, match=r"series 8.*missing.*Another series can be named"):
        read_ct(tmp_path, "8")


def test_the_long_series_is_not_left_for_a_whole_short_one(tmp_path: Path) -> None:
    write_stack(tmp_path / "long", ramp(20), SeriesInstanceUID="1.1", SeriesNumber=1)
    (tmp_path / "long" / "s005.dcm").unlink()
    write_stack(tmp_path / "short", ramp(5), SeriesInstanceUID="1.2", SeriesNumber=2)
    with pytest.raises(ImagingError, match=r"series 1, 19 slices\): about 1 slice is missing"):
        read_ct(tmp_path)


def test_series_are_named_by_their_description(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp(), SeriesInstanceUID="1.1", SeriesDescription="Pelvis bone")
    write_stack(tmp_path / "b", ramp(), SeriesInstanceUID="1.2", SeriesDescription="Pelvis soft",
                AcquisitionNumber=2)  # fmt: skip
    assert read_ct(tmp_path, "Pelvis soft").info.series_uid == "1.2"


def test_two_studies_are_a_doubt(tmp_path: Path) -> None:
    plain(tmp_path / "a", SeriesInstanceUID="1.1", StudyInstanceUID="1.7")
    plain(tmp_path / "b", SeriesInstanceUID="1.2", StudyInstanceUID="1.8")
    assert codes(read_ct(tmp_path)) == {"several_series", "several_studies"}


def test_phases_without_acquisition_numbers_contradict(tmp_path: Path) -> None:
    plain(tmp_path / "a")
    write_stack(tmp_path / "a", ramp() + 1, origin=ORIGIN, spacing=SPACING, prefix="t")
    with pytest.raises(ImagingError, match=r"different images of the same place \(z = 700\.0 mm\)"):
        read_ct(tmp_path / "a")


# --- multi-frame ---------------------------------------------------------------------------------


def test_multi_frame_without_positions_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.dcm"
    write_enhanced(file, ramp(), ORIGIN, np.eye(3), SPACING)
    lands(read_ct(file))
    ds = pydicom.dcmread(file)
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:4]
    ds.save_as(file)
    with pytest.raises(ImagingError, match="frames without positions"):
        read_ct(file)


def test_multi_frame_with_a_tilt_is_resampled(tmp_path: Path) -> None:
    a = np.radians(15)
    d = np.column_stack([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, 0, 1.0]])
    file = tmp_path / "a.dcm"
    write_enhanced(file, ramp(), ORIGIN, d, SPACING)
    ct = read_ct(file)
    assert codes(ct) == {"gantry_tilt_resampled"}
    assert ct.info.gantry_tilt_deg == pytest.approx(15.0, abs=0.01)


def test_scout_frames_of_a_multi_frame_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.dcm"
    write_enhanced(file, ramp(9), ORIGIN, np.eye(3), SPACING)
    ds = pydicom.dcmread(file)
    item = pydicom.Dataset()
    item.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    # Frames stand in reverse order: the first is the topmost slice.
    ds.PerFrameFunctionalGroupsSequence[0].CTImageFrameTypeSequence = Sequence([item])
    ds.save_as(file)
    ct = read_ct(file)
    assert ct.volume.geometry.shape == (12, 10, 8)
    np.testing.assert_array_equal(ct.volume.data, ramp(9)[:, :, :8])


# --- wrong tags ----------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no spacing": ({"PixelSpacing": None}, "8 x pixel spacing missing"),
    "spacing of zero": ({"PixelSpacing": ["0", "1"]}, "8 x impossible pixel spacing"),
    "negative spacing": ({"PixelSpacing": ["-1", "1"]}, "8 x impossible pixel spacing"),
    "spacing in metres": ({"PixelSpacing": ["0.0008", "0.0008"]}, "8 x impossible pixel spacing"),
    "no orientation": ({"ImageOrientationPatient": None}, "8 x position or orientation missing"),
    "five cosines": (
        {"ImageOrientationPatient": ["1", "0", "0", "0", "1"]},
        "8 x position or orientation missing",
    ),
    "parallel axes": (
        {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]},
        "8 x image axes not at right angles",
    ),
    "long axes": (
        {"ImageOrientationPatient": ["2", "0", "0", "0", "2", "0"]},
        "8 x image axes not at right angles",
    ),
    "no position": ({"ImagePositionPatient": None}, "8 x position or orientation missing"),
    "one position for all": (
        {"ImagePositionPatient": ["0", "0", "0"]},
        "only 1 different slice positions",
    ),
    "far away": ({"ImagePositionPatient": ["1e9", "0", "0"]}, "8 x impossible position"),
    "no rows": ({"Rows": 0}, "8 x impossible image size"),
    "too many rows": ({"Rows": 60000}, "8 x impossible image size"),
    "more rows than pixels": ({"Rows": 300}, "pixel data are damaged or cut short"),
    "colour": ({"SamplesPerPixel": 3}, "8 x colour image"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "8 x colour image"),
    "a million frames": ({"NumberOfFrames": 1_000_000}, "8 x impossible number of frames"),
    "another modality": ({"Modality": "XX"}, "8 x modality unknown"),
    "not HU": ({"RescaleType": "mgml"}, "8 x values not in HU"),
}


@pytest.mark.parametrize(("entries", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_tags_are_refused_by_their_sentence(
    tmp_path: Path, entries: dict[str, object], words: str
) -> None:
    plain(tmp_path / "a", **entries)
    with pytest.raises((ImagingError, FormatError), match=words) as caught:
        read_ct(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_rounded_axes_are_a_doubt(tmp_path: Path) -> None:
    a = np.radians(10.0)
    d = np.column_stack([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    folder = tmp_path / "a"
    folder.mkdir()
    for k in range(8):
        write_slice(folder / f"{k}.dcm", ramp()[:, :, k].T, ORIGIN + d[:, 2] * k,
                    [round(v, 3) for v in (*d[:, 0], *d[:, 1])])  # fmt: skip
    assert "rounded_orientation" in codes(read_ct(folder))


@pytest.mark.parametrize("cut", [1, 50, 200, 239])
def test_truncated_pixels_are_refused(tmp_path: Path, cut: int) -> None:
    plain(tmp_path / "a")
    file = tmp_path / "a" / "s004.dcm"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(FormatError, match=r"s004\.dcm"):
        read_ct(tmp_path / "a")


# --- links and bombs -----------------------------------------------------------------------------


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    plain(tmp_path / "outside")
    folder = tmp_path / "a"
    folder.mkdir()
    for file in (tmp_path / "outside").iterdir():
        (folder / file.name).symlink_to(file)
    with pytest.raises(FormatError, match=r"empty folder.*8 links lead out of it"):
        read_ct(folder)
    plain(folder / "own")
    (folder / "up").symlink_to(tmp_path / "outside", target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "broken").symlink_to(folder / "nothing")
    (folder / "twice.dcm").symlink_to(folder / "own" / "s001.dcm")
    os.mkfifo(folder / "pipe")
    ct = read_ct(folder)
    lands(ct)
    assert "9 x link out of the folder, not followed" in ct.info.set_aside
    assert "1 x broken link" in ct.info.set_aside
    assert "1 x no regular file" in ct.info.set_aside
    assert codes(ct) == {"links_not_followed"}


def test_a_pipe_or_device_is_no_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(FormatError, match="neither a file nor a folder"):
            read_ct(path)


def test_a_dicomdir_does_not_lead_out(tmp_path: Path) -> None:
    plain(tmp_path / "outside")
    disc = tmp_path / "disc"
    plain(disc)
    write_dicomdir(
        disc / "DICOMDIR",
        [["..", "outside", "s000.dcm"], ["S099.DCM"], *([f"S{k:03d}.DCM"] for k in range(8))],
    )
    ct = read_ct(disc / "DICOMDIR")
    lands(ct)
    assert codes(ct) == {"unreadable_files", "links_not_followed"}
    write_dicomdir(disc / "DICOMDIR", [["GONE", "IM1"]])
    with pytest.raises(FormatError, match="names no file that is there"):
        read_ct(disc / "DICOMDIR")


def evil_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path, "w") as z:
        for file in sorted(folder.iterdir()):
            z.write(file, f"ct/{file.name}")
        for name in ("../escaped", "/absolute", "a/../../escaped", "C:\\windows\\escaped",
                     "..\\escaped"):  # fmt: skip
            z.writestr(name, b"x")
        link = zipfile.ZipInfo("ct/link.dcm")
        link.external_attr = 0o120777 << 16
        z.writestr(link, "/etc/passwd")
        z.write(path.with_name("inner.zip"), "inner.zip")


def test_an_evil_zip_writes_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t" / "mp"))
    (tmp_path / "t" / "mp").mkdir(parents=True)
    plain(tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as z:
        z.writestr("x", b"y")
    evil_zip(tmp_path / "evil.zip", tmp_path / "a")
    ct = read_ct(tmp_path / "evil.zip")
    lands(ct)
    assert "5 x archive member that leads out of its folder, not unpacked" in ct.info.set_aside
    assert "1 x link in the archive, not followed" in ct.info.set_aside
    assert "1 x archive inside the archive, not unpacked" in ct.info.set_aside
    assert codes(ct) == {"links_not_followed"}
    assert not list(tmp_path.rglob("*escaped*"))
    assert list((tmp_path / "t" / "mp").iterdir()) == []


def test_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a.dcm", b"\0" * (80 * 2**20))
    with pytest.raises(FormatError, match=r"to \d+ times its size.*may be a zip bomb"):
        read_ct(bomb)
    monkeypatch.setattr(archive, "MAX_BYTES", 2**20)
    with pytest.raises(FormatError, match=r"unpacks to 0\.1 GiB, at most"):
        read_ct(bomb)
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with zipfile.ZipFile(bomb, "w") as z:
        for n in range(5):
            z.writestr(str(n), b"")
    with pytest.raises(FormatError, match="holds 5 files, at most 3"):
        read_ct(bomb)
    plain(tmp_path / "many")
    with pytest.raises(FormatError, match="more than 3 files"):
        read_ct(tmp_path / "many")


def test_a_zip_that_lies_about_its_size_is_stopped(tmp_path: Path) -> None:
    lying = tmp_path / "lying.zip"
    with zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a.dcm", b"\0" * 5_000_000)
    raw = lying.read_bytes()
    size = (5_000_000).to_bytes(4, "little")
    assert raw.count(size) == 2
    lying.write_bytes(raw.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(FormatError, match=r"damaged zip|more than it says"):
        read_ct(lying)


def test_damaged_protected_and_other_archives(tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04" + b"x" * 100)
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + b"x" * 100)
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07" + b"x" * 100)
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as z:
        z.writestr("a", b"secret")
    raw = bytearray((tmp_path / "locked.zip").read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(raw))
    cases = {"cut.zip": "damaged zip", "a.7z": "7z archive; unpack", "a.rar": "rar archive",
             "locked.zip": "protected by a password"}  # fmt: skip
    for name, words in cases.items():
        with pytest.raises(FormatError, match=words):
            read_ct(tmp_path / name)


def test_a_deflated_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sacroplan.formats import dicom_headers

    plain(tmp_path / "a")
    for file in (tmp_path / "a").iterdir():
        recode(file, "1.2.840.10008.1.2.1.99")
    lands(read_ct(tmp_path / "a"))
    monkeypatch.setattr(dicom_headers, "MAX_INFLATED_BYTES", 500)
    with pytest.raises(SacroplanError, match="8 x unreadable header"):
        read_ct(tmp_path / "a")


# --- what belongs to an input --------------------------------------------------------------------


def test_inputs_are_all_that_is_read(tmp_path: Path) -> None:
    plain(tmp_path / "a")
    assert inputs_of(tmp_path / "a") == [tmp_path / "a"]
    assert inputs_of(tmp_path / "a" / "s001.dcm") == [tmp_path / "a"]
    (tmp_path / "x.raw").write_bytes(b"")
    (tmp_path / "x.nhdr").write_text("NRRD0004\ntype: short\ndata file: x.raw\n\n")
    (tmp_path / "x.mhd").write_text("DimSize = 1 1 1\nElementDataFile = x.raw\n")
    (tmp_path / "x.mha").write_text("DimSize = 1 1 1\nElementDataFile = LOCAL\n")
    for name in ("x.nhdr", "x.mhd"):
        assert inputs_of(tmp_path / name) == [tmp_path / name, tmp_path / "x.raw"]
    assert inputs_of(tmp_path / "x.mha") == [tmp_path / "x.mha"]


# --- the real ones -------------------------------------------------------------------------------

AWKWARD = {
    "ge_variable_tilt_and_spacing": r"28 slices\): the slice spacing is uneven, 1\.08 to",
    "philips_mixed_series": None,
    "philips_mixed_series/S1000": "no CT slices .*localizer",
    "philips_mixed_series/S2010": None,
    "philips_mixed_series/S4010": "no CT slices .*screen capture or report",
    "trunk_no_pelvis": None,
    "pydicom/693_J2KR.dcm": "largest series has 1 slice, at least 3",
    "pydicom/JPEG-LL.dcm": "no CT slice: modality NM",
    "pydicom/bad_sequence.dcm": "largest series has 1 slice",
    "pydicom/eCT_Supplemental.dcm": "no CT slices .*perfusion",
    "pydicom/liver.dcm": "no CT slices .*modality SEG",
}


@pytest.mark.shared
@pytest.mark.parametrize(("name", "words"), AWKWARD.items(), ids=AWKWARD.keys())
def test_awkward_folder(shared: Path, name: str, words: str | None) -> None:
    path = shared / "data" / "dicom_awkward" / name
    if words is not None:
        with pytest.raises(ImagingError, match=words):
            read_ct(path)
        return
    ct = read_ct(path)
    g = ct.volume.geometry
    # Every slice's corner pixel lies where its own header says.
    files = [f for f in sorted(path.rglob("*")) if f.is_file()]
    seen = 0
    for file in files:
        ds = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        kinds = list(ds.get("ImageType", []))
        capture = str(ds.get("SOPClassUID", "")) not in ("", CT)
        if ds.get("Modality") != "CT" or capture or "LOCALIZER" in kinds:
            continue
        index = g.to_index(np.array([float(v) for v in ds.ImagePositionPatient]))
        np.testing.assert_allclose(index * g.spacing_mm, np.rint(index) * g.spacing_mm, atol=0.01)
        seen += 1
    assert seen == g.shape[2]
