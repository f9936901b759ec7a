from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from test_orientations import ALL_48, OBLIQUE

from sacroplan.banner import BANNER
from sacroplan.errors import FormatError
from sacroplan.formats.ct import read_ct
from sacroplan.formats.dicom_out import ct_source, write_ct_series
from sacroplan.geometry.volume import Volume, VolumeGeometry


def volume(direction: np.ndarray | None = None, frame: str = "LPS") -> Volume:
    rng = np.random.default_rng(3)
    d = np.eye(3) if direction is None else direction
    g = VolumeGeometry((9, 7, 5), [0.7, 0.8, 1.1], [-120.123456, 33.3, -700.5], d, frame)
    return Volume(g, rng.integers(-1024, 3071, (9, 7, 5)).astype(np.int16))


@pytest.mark.parametrize("direction", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
def test_round_trip(tmp_path: Path, direction: np.ndarray) -> None:
    v = volume(direction, "1.2.840.5")
    write_ct_series(v, tmp_path / "ct", case_id="P-01", kernel="B70s", kvp=120)
    ct = read_ct(tmp_path / "ct")
    np.testing.assert_array_equal(ct.volume.data, v.data)
    assert ct.volume.geometry.matches(v.geometry)
    assert (ct.info.kernel, ct.info.kvp) == ("B70s", 120.0)
    assert not ct.doubts


def test_simpleitk_reads_it(tmp_path: Path) -> None:
    v = volume(OBLIQUE)
    write_ct_series(v, tmp_path / "ct", case_id="P-01")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), v.data)
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint([8, 0, 4]), v.geometry.to_world([8, 0, 4]), atol=1e-4
    )


def test_bytes_repeat_and_follow_the_seed(tmp_path: Path) -> None:
    v = volume()
    for name, seed in (("a", ""), ("b", ""), ("c", "other")):
        write_ct_series(v, tmp_path / name, case_id="P-01", seed=seed)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 5
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    a = pydicom.dcmread(tmp_path / "a" / files[0])
    c = pydicom.dcmread(tmp_path / "c" / files[0])
    for key in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert a[key].value != c[key].value
        assert pydicom.uid.UID(a[key].value).is_valid


def test_identity_is_the_case_id_only(tmp_path: Path) -> None:
    write_ct_series(volume(), tmp_path / "ct", case_id="P-01")
    for file in (tmp_path / "ct").iterdir():
        ds = pydicom.dcmread(file)
        assert str(ds.PatientName) == ds.PatientID == "P-01"
        assert ds.PatientIdentityRemoved == "YES"
        assert ds.ImageComments == BANNER
        assert not ds.PatientBirthDate
        assert not [e for e in ds if e.VR in ("DA", "TM", "DT") and e.value]


def test_faults(tmp_path: Path) -> None:
    v = volume()
    loud = Volume(v.geometry, v.data.astype(np.float32) * 100)
    with pytest.raises(FormatError, match="16 bits"):
        write_ct_series(loud, tmp_path / "ct", case_id="P-01")
    for bad in ("", "a^b", "x" * 61, "a\\b"):
        with pytest.raises(FormatError, match="case id"):
            write_ct_series(v, tmp_path / "ct", case_id=bad)
    assert not (tmp_path / "ct").exists()


@pytest.mark.parametrize("turn", ALL_48)
def test_any_grid_is_held_left_handed_ones_too(tmp_path: Path, turn: np.ndarray) -> None:
    """A slice says itself where it lies, so a stack may run against the normal of its slices."""
    v = volume(turn @ OBLIQUE, "1.2.840.5")
    source = write_ct_series(v, tmp_path / "ct", case_id="P-01")
    ct = read_ct(tmp_path / "ct")
    truth = v.canonical()
    assert ct.volume.geometry.matches(truth.geometry)
    np.testing.assert_array_equal(ct.volume.data, truth.data)
    read = ct.info.source
    assert read is not None
    assert set(read.sop_uids) == set(source.sop_uids) == set(ct_source(v, "P-01").sop_uids)
    for uid, position in zip(read.sop_uids, read.positions, strict=True):
        mine = source.positions[source.sop_uids.index(uid)]
        np.testing.assert_allclose(position, mine, atol=1e-6)
