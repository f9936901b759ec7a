"""NIfTI, NRRD and MetaImage as other programs write them, and as they break."""

from __future__ import annotations

import gzip
import itertools
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from sacroplan.errors import FormatError, ImagingError
from sacroplan.formats.ct import CtImage, read_ct

SHAPE = (7, 9, 8)
SPACING = np.array([1.3, 0.9, 1.7])
ORIGIN = np.array([-31.5, 12.25, 840.0])


def ramp(dtype: str = "i2") -> np.ndarray:
    i, j, k = np.indices(SHAPE)
    return (i * 100 + j * 10 + k - 900).astype(dtype)


def lands(ct: CtImage, scale: float = 1.0, offset: float = 0.0) -> None:
    """Every voxel lies where the LPS grid of the ramp puts it."""
    index = np.argwhere(np.ones(SHAPE, bool))
    at = ct.volume.geometry.to_index(ORIGIN + index * SPACING)
    np.testing.assert_allclose(at, np.rint(at), atol=1e-4)
    found = ct.volume.data[tuple(np.rint(at).astype(int).T)]
    np.testing.assert_allclose(found, ramp()[tuple(index.T)] * scale + offset, rtol=1e-6)


def ras() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(np.array([-1.0, -1, 1]) * SPACING)
    affine[:3, 3] = ORIGIN * [-1, -1, 1]
    return affine


def save(path: Path, data: np.ndarray, sform: np.ndarray | None, qform: np.ndarray | None) -> None:
    image = nibabel.Nifti1Image(data, None)
    image.header.set_sform(sform, 0 if sform is None else 1)
    image.header.set_qform(np.eye(4) if qform is None else qform, 0 if qform is None else 1)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


@pytest.mark.parametrize("dtype", ["i2", "i4", "u2", "f4", "f8", ">i2", ">f4", ">i4"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_types_and_byte_orders(tmp_path: Path, dtype: str, suffix: str) -> None:
    offset = 900 if dtype == "u2" else 0
    data = (ramp("i4") + offset).astype(dtype)
    order = ">" if dtype.startswith(">") else "<"
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype))
    nibabel.Nifti1Image(data, ras(), header).to_filename(tmp_path / f"a{suffix}")
    lands(read_ct(tmp_path / f"a{suffix}"), offset=offset)


def test_nifti_slope_and_intercept(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ramp(), ras())
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2f", raw, 112, 0.5, -3.0)
    (tmp_path / "a.nii").write_bytes(bytes(raw))
    np.testing.assert_allclose(
        nibabel.load(tmp_path / "a.nii").get_fdata(), ramp() * 0.5 - 3, atol=1e-6
    )
    lands(read_ct(tmp_path / "a.nii"), 0.5, -3.0)


def test_nifti_in_metres_and_microns(tmp_path: Path) -> None:
    for unit, factor in (("meter", 1e-3), ("micron", 1e3)):
        affine = ras() * factor
        affine[3, 3] = 1.0
        image = nibabel.Nifti1Image(ramp(), affine)
        image.header.set_xyzt_units(unit)
        image.to_filename(tmp_path / "a.nii")
        lands(read_ct(tmp_path / "a.nii"))


def test_sform_and_qform(tmp_path: Path) -> None:
    file = tmp_path / "a.nii"
    other = ras()
    other[:3, 3] += [0, 7, 0]
    for sform, qform, doubts in ((ras(), None, 0), (None, ras(), 0), (ras(), other, 1)):
        save(file, ramp(), sform, qform)
        ct = read_ct(file)
        lands(ct)
        assert len(ct.doubts) == doubts
    assert "7.0 mm apart" in ct.doubts[0].message
    mirrored = ras()
    mirrored[0] *= -1
    save(file, ramp(), ras(), mirrored)
    with pytest.raises(ImagingError, match="left and right cannot be told"):
        read_ct(file)
    save(file, ramp(), None, None)
    with pytest.raises(ImagingError, match="neither sform nor qform"):
        read_ct(file)


def nrrd(path: Path, order: tuple[int, ...], signs: tuple[int, ...], **fields: str) -> None:
    """A detached or attached NRRD whose axes are a signed permutation of LPS."""
    data = np.transpose(ramp(), order)
    data = data[tuple(slice(None, None, s) for s in signs)]
    origin = ORIGIN.copy()
    directions = []
    for axis, sign in zip(order, signs, strict=True):
        step = np.zeros(3)
        step[axis] = SPACING[axis] * sign
        directions.append("(" + ",".join(f"{v:.9g}" for v in step) + ")")
        if sign < 0:
            origin[axis] += SPACING[axis] * (SHAPE[axis] - 1)
    lines = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(str(n) for n in data.shape),
        "space directions": " ".join(directions),
        "endian": "little",
        "encoding": "raw",
        "space origin": "(" + ",".join(f"{v:.9g}" for v in origin) + ")",
        **fields,
    }
    body = data.astype(">i2" if lines["endian"] == "big" else "<i2").tobytes(order="F")
    if lines["encoding"] == "gzip":
        body = gzip.compress(body)
    head = "NRRD0004\n# written by hand\n" + "".join(f"{k}: {v}\n" for k, v in lines.items())
    if "data file" in lines:
        path.write_text(head)
        (path.parent / lines["data file"]).write_bytes(body)
    else:
        path.write_bytes(head.encode() + b"\n" + body)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_nrrd_permuted_and_flipped(tmp_path: Path, order: tuple[int, ...]) -> None:
    for signs in itertools.product((1, -1), repeat=3):
        nrrd(tmp_path / "a.nrrd", order, signs)
        lands(read_ct(tmp_path / "a.nrrd"))


@pytest.mark.parametrize(
    "fields",
    [
        {"encoding": "gzip"},
        {"endian": "big"},
        {"data file": "a.raw"},
        {"data file": "a.raw.gz", "encoding": "gzip", "endian": "big"},
    ],
)
def test_nrrd_encodings(tmp_path: Path, fields: dict[str, str]) -> None:
    name = "a.nhdr" if "data file" in fields else "a.nrrd"
    nrrd(tmp_path / name, (2, 0, 1), (1, -1, 1), **fields)
    lands(read_ct(tmp_path / name))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("pixel", [sitk.sitkInt16, sitk.sitkInt32, sitk.sitkFloat32])
def test_metaimage(tmp_path: Path, compressed: bool, suffix: str, pixel: int) -> None:
    image = sitk.Cast(sitk.GetImageFromArray(ramp().transpose(2, 1, 0)), pixel)
    image.SetSpacing(SPACING.tolist())
    image.SetOrigin(ORIGIN.tolist())
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), compressed)
    lands(read_ct(tmp_path / f"a{suffix}"))


def test_data_outside_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    nrrd(tmp_path / "x.nhdr", (0, 1, 2), (1, 1, 1), **{"data file": "x.raw"})
    head = (tmp_path / "x.nhdr").read_text()
    for name in ("../x.raw", str(tmp_path / "x.raw")):
        (folder / "x.nhdr").write_text(head.replace("data file: x.raw", f"data file: {name}"))
        (folder / "x.mhd").write_text(
            f"NDims = 3\nDimSize = 2 2 2\nElementType = MET_SHORT\nElementDataFile = {name}\n"
        )
        for file in ("x.nhdr", "x.mhd"):
            with pytest.raises(FormatError, match="outside its own folder"):
                read_ct(folder / file)
    (folder / "x.raw").symlink_to(tmp_path / "x.raw")
    (folder / "x.nhdr").write_text(head)
    with pytest.raises(FormatError, match="outside its own folder"):
        read_ct(folder / "x.nhdr")


def test_bombs_and_boasts_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", ramp(), ras(), None)
    good = (tmp_path / "a.nii").read_bytes()
    # Ten million zeros behind the image are never unpacked.
    (tmp_path / "tail.nii.gz").write_bytes(gzip.compress(good + bytes(10_000_000)))
    lands(read_ct(tmp_path / "tail.nii.gz"))
    huge = bytearray(good)
    struct.pack_into("<8h", huge, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    (tmp_path / "huge.nii").write_bytes(bytes(huge))
    with pytest.raises(ImagingError, match=r"claims 2\.7e\+13 voxels"):
        read_ct(tmp_path / "huge.nii")
    short = bytearray(good)
    struct.pack_into("<8h", short, 40, 3, 1000, 1000, 1000, 1, 1, 1, 1)
    (tmp_path / "short.nii").write_bytes(bytes(short))
    with pytest.raises(FormatError, match="cut short"):
        read_ct(tmp_path / "short.nii")
    (tmp_path / "huge.mha").write_text(
        "NDims = 3\nDimSize = 30000 30000 30000\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    with pytest.raises(ImagingError, match=r"claims 2\.7e\+13 voxels"):
        read_ct(tmp_path / "huge.mha")
    (tmp_path / "short.mha").write_text(
        "NDims = 3\nDimSize = 900 900 900\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    with pytest.raises(FormatError, match="cut short"):
        read_ct(tmp_path / "short.mha")
    nrrd(tmp_path / "huge.nrrd", (0, 1, 2), (1, 1, 1), sizes="30000 30000 30000")
    with pytest.raises(ImagingError, match=r"claims 2\.7e\+13 voxels"):
        read_ct(tmp_path / "huge.nrrd")


@pytest.mark.parametrize("scale", [1e-3, 1e4, np.nan, np.inf])
def test_impossible_voxels_and_origins(tmp_path: Path, scale: float) -> None:
    affine = ras()
    np.fill_diagonal(affine[:3, :3], np.array([-1.0, -1, 1]) * scale)
    save(tmp_path / "a.nii", ramp(), affine, None)
    with pytest.raises(ImagingError, match="no usable voxel size"):
        read_ct(tmp_path / "a.nii")
    affine = ras()
    affine[0, 3] = 1e9 * scale
    save(tmp_path / "b.nii", ramp(), affine, None)
    with pytest.raises(ImagingError, match="no usable position"):
        read_ct(tmp_path / "b.nii")


def test_sheared_axes_are_refused(tmp_path: Path) -> None:
    affine = ras()
    affine[1, 2] = 0.2
    save(tmp_path / "a.nii", ramp(), affine, None)
    with pytest.raises(ImagingError, match="sheared"):
        read_ct(tmp_path / "a.nii")
