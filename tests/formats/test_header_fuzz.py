"""Mutated headers: refused in one sentence, or read so that every voxel lies where its header says.

A few hundred mutations run in the suite, five thousand under the marker ``slow``.
"""

from __future__ import annotations

import math
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_maker import write_enhanced, write_stack
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from sacroplan.errors import SacroplanError
from sacroplan.formats.ct import CtImage, read_ct

HANG_SECONDS = 60
"""A read of six tiny slices that takes so long never ends."""

SHAPE = (7, 5, 6)
SPACING = np.array([0.7, 0.9, 1.5])
ORIGIN = np.array([-12.0, 34.0, -56.0])
STEPS = np.array([900.0, 1300.0, 1500.0])
"""HU per voxel along i, j, k: a linear field, so that any shift shows in any value."""

A = math.radians(17.0)
TURNED = np.array([[1, 0, 0], [0, math.cos(A), -math.sin(A)], [0, math.sin(A), math.cos(A)]], float)

VALUE_TAGS = (
    "RescaleSlope", "RescaleIntercept", "BitsAllocated", "BitsStored", "HighBit", "PixelData",
    "PixelRepresentation", "PixelPaddingValue", "Rows", "Columns", "NumberOfFrames",
)  # fmt: skip
TAGS = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "GantryDetectorTilt", "Modality", "ImageType", "SOPClassUID", "SOPInstanceUID",
    "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "AcquisitionNumber",
    "InstanceNumber", "SamplesPerPixel", "PhotometricInterpretation", "KVP", "ConvolutionKernel",
    "StudyDate", "SpecificCharacterSet", "RescaleType", "StudyInstanceUID", *VALUE_TAGS[:-2],
    "Rows", "Columns", "NumberOfFrames",
)  # fmt: skip
# Geometry is where harm is done: it gets most of the mutations.
WEIGHTED = TAGS + ("ImagePositionPatient",) * 8 + ("ImageOrientationPatient", "PixelSpacing") * 5

EDGES = (
    "", " ", "0", "-0", "1", "-1", "2", "0.5", "1e308", "1e-30", "nan", "inf", "-inf", "99999999",
    "1.5.3", "Doe^Jane", "\\", "\\\\\\", "1\\0\\0", "0\\1\\0", "1\\0\\0\\0\\1\\0", "0\\1\\0\\1\\0\\0",
    "-1\\0\\0\\0\\-1\\0", "1\\0\\0\\1\\0\\0", "0\\0\\0\\0\\0\\0", "1\\0", "0.7\\0.9", "0.9\\0.7",
    "-12\\34\\-56", "-12\\34\\-54.5", "-12\\34\\1000000", "1.2.840.10008.5.1.4.1.1.2", "MR", "CT",
)  # fmt: skip


def field() -> np.ndarray:
    return np.rint((np.stack(np.indices(SHAPE), axis=-1) * STEPS).sum(-1)).astype(np.int16)


@dataclass
class Base:
    """A good series in memory: file name to bytes."""

    files: dict[str, bytes]
    direction: np.ndarray


def series(direction: np.ndarray, slide: float = 0.0) -> Base:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        k = np.arange(SHAPE[2])[:, None]
        positions = ORIGIN + k * (direction[:, 2] * SPACING[2] + direction[:, 1] * slide)
        write_stack(folder, field(), direction=direction, spacing=SPACING, positions=positions)
        return Base({f.name: f.read_bytes() for f in sorted(folder.iterdir())}, direction)


def multi_frame() -> Base:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "a.dcm"
        write_enhanced(file, field(), ORIGIN, TURNED, SPACING)
        return Base({"a.dcm": file.read_bytes()}, TURNED)


BASES = {"straight": series(np.eye(3)), "oblique": series(TURNED), "tilted": series(TURNED, 0.3)}
FRAMES = multi_frame()


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(_signal: int, _frame: Any) -> None:
        raise TimeoutError("the reader hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def folder_of(files: dict[str, bytes]) -> Iterator[Path]:
    name = tempfile.mkdtemp(prefix="fuzz-")
    try:
        for file, data in files.items():
            (Path(name) / file).write_bytes(data)
        yield Path(name)
    finally:
        shutil.rmtree(name)


def outcome(path: Path) -> CtImage | None:
    """The image, or None when it was refused as it should be."""
    with no_hang():
        try:
            return read_ct(path)
        except SacroplanError as error:
            said = str(error)
    assert "\n" not in said
    assert said.endswith(".")
    return None


# --- the independent reading ---------------------------------------------------------------------


@dataclass
class Plane:
    corner: np.ndarray
    x: np.ndarray
    y: np.ndarray
    k: int
    values_untouched: bool


def _numbers(value: Any, n: int) -> np.ndarray | None:
    try:
        out = np.array([float(v) for v in value])
    except (TypeError, ValueError):
        return None
    return out if out.shape == (n,) and np.all(np.isfinite(out)) else None


def planes_of(folder: Path, base: Base) -> list[Plane]:
    """Where each file says its pixels are, read with pydicom and nothing of ours."""
    out = []
    for number, (name, clean) in enumerate(base.files.items()):
        try:
            ds = pydicom.dcmread(folder / name, force=True)
            before = pydicom.dcmread(pydicom.filebase.DicomBytesIO(clean), force=True)
            corner = _numbers(ds.get("ImagePositionPatient"), 3)
            axes = _numbers(ds.get("ImageOrientationPatient"), 6)
            spacing = _numbers(ds.get("PixelSpacing"), 2)
            same = all(
                str(ds.get(t)) == str(before.get(t)) for t in VALUE_TAGS if t != "PixelData"
            ) and ds.get("PixelData") == before.get("PixelData")
        except Exception:  # noqa: BLE001
            continue
        if corner is None or axes is None or spacing is None:
            continue
        x, y = axes[:3], axes[3:]
        if abs(np.linalg.norm(x) - 1) > 0.01 or abs(np.linalg.norm(y) - 1) > 0.01:
            continue
        x, y = x / np.linalg.norm(x) * spacing[1], y / np.linalg.norm(y) * spacing[0]
        out.append(Plane(corner, x, y, number, bool(same)))
    return out


@np.errstate(divide="ignore", invalid="ignore")
def agrees(ct: CtImage, planes: list[Plane]) -> bool:
    """Whether the voxels of an image hold what the planes say lies at their places."""
    if len(planes) < 3:
        return False
    g = ct.volume.geometry
    index = np.stack(np.indices(g.shape), axis=-1).reshape(-1, 3)
    world = g.to_world(index)
    normal = np.cross(planes[0].x, planes[0].y)
    normal /= np.linalg.norm(normal)
    planes = sorted(planes, key=lambda p: float(p.corner @ normal))
    heights = np.array([p.corner @ normal for p in planes])
    z = world @ normal
    if z.min() < heights[0] - 0.011 or z.max() > heights[-1] + 0.011:
        return False
    below = np.clip(np.searchsorted(heights, z - 0.011, side="right") - 1, 0, len(planes) - 2)
    gap = heights[below + 1] - heights[below]
    t = np.clip(np.where(gap > 0.02, (z - heights[below]) / gap, 0.0), 0.0, 1.0)
    values, inside = np.zeros((2, len(z))), np.ones(len(z), bool)
    for n, p in enumerate(planes):
        off = world - p.corner
        uv = np.stack([off @ p.x / (p.x @ p.x), off @ p.y / (p.y @ p.y)], axis=1)
        expected = uv @ STEPS[:2] + STEPS[2] * p.k
        fits = np.all((uv > -5e-4) & (uv < np.array(SHAPE[:2]) - 0.9995), axis=1)
        for upper in (0, 1):
            here = below + upper == n
            values[upper, here] = expected[here]
            matters = here & (np.abs(t - upper) < 0.9999)
            inside &= ~matters | fits
    expected = (1 - t) * values[0] + t * values[1]
    found = ct.volume.data[tuple(index.T)].astype(float)
    # What lies outside a shifted slice is air, and its rim is mixed with air.
    # A rounded value and a hundredth of a millimetre of position are allowed.
    good = np.abs(found - expected) <= 1.1 + 0.0101 * np.linalg.norm(STEPS / SPACING)
    return bool(np.all(good[inside])) and np.count_nonzero(inside) >= 0.3 * g.shape[2] * 35


def corners_fit(ct: CtImage, planes: list[Plane]) -> bool:
    """For headers that change values: the corners of slices lie on voxels, unless resampled."""
    if any("resampled" in d.code for d in ct.doubts):
        return True
    g = ct.volume.geometry
    index = g.to_index(np.array([p.corner for p in planes]))
    near = np.abs(index - np.rint(index)) * g.spacing_mm < 0.02
    return int(np.count_nonzero(np.all(near, axis=1))) >= g.shape[2]


def judge(folder: Path, base: Base, touched: str | None) -> bool:
    """Read a mutated series and prove what was accepted; whether it was."""
    ct = outcome(folder)
    if ct is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        planes = planes_of(folder, base)
    mutated = None if touched is None else list(base.files).index(touched)
    # The mutated slice is in the image, or it was set aside as a whole.
    without = [p for p in planes if p.k != mutated]
    for chosen in (planes, without):
        if all(p.values_untouched for p in chosen):
            if agrees(ct, chosen):
                return True
        elif corners_fit(ct, chosen):
            return True
    raise AssertionError(f"wrong geometry accepted: {ct.volume.geometry.describe()}, {ct.doubts}")


# --- mutations -----------------------------------------------------------------------------------

small = st.floats(-3.0, 3.0).map(lambda v: f"{v:.6g}")
tiny = st.sampled_from([1e-6, 1e-4, 0.003, 0.009, 0.011, 0.02, 0.05, 0.1, 0.2, 0.4, 0.75, 1.5, 3.0])


@st.composite
def mutation(draw: st.DrawFn) -> tuple[str, str, bytes | None]:
    """A tag, how it is changed, and the new bytes (None takes the tag away)."""
    tag = draw(st.sampled_from(WEIGHTED))
    kind = draw(st.sampled_from(["edge", "numbers", "nudge", "nudge", "nudge", "bytes", "gone"]))
    if kind == "gone":
        return tag, kind, None
    if kind == "edge":
        return tag, kind, draw(st.sampled_from(EDGES)).encode("latin-1")
    if kind == "numbers":
        return tag, kind, "\\".join(draw(st.lists(small, min_size=1, max_size=7))).encode()
    if kind == "nudge":
        at, by, sign = draw(st.integers(0, 5)), draw(tiny), draw(st.sampled_from([-1, 1]))
        return tag, kind, f"{at} {by * sign!r}".encode()
    return tag, kind, draw(st.binary(max_size=24))


def mutate(data: bytes, tag: str, kind: str, value: bytes | None, folder: Path) -> bytes:
    """One file with one tag changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
        number = Tag(tag)
        vr = pydicom.datadict.dictionary_VR(number).split(" or ")[0]
        if value is None:
            if number in ds:
                del ds[number]
        else:
            if kind == "nudge":
                at, by = value.decode().split()
                old = ds.get(tag)
                parts = [old] if isinstance(old, (str, int, float)) or old is None else list(old)
                place = int(at) % len(parts)
                try:
                    parts[place] = f"{float(parts[place]) + float(by):.9g}"
                except (TypeError, ValueError):
                    parts[place] = f"{parts[place]}{by}"
                if vr in ("US", "SS"):
                    whole = 0 if old is None else int(float(parts[0]))
                    value = (whole & 0xFFFF).to_bytes(2, "little")
                else:
                    value = "\\".join(str(p) for p in parts).encode("latin-1", "replace")
            value = value + b" " * (len(value) % 2)
            ds[number] = RawDataElement(number, vr, len(value), value, 0, False, True)
        target = folder / "mutated"
        ds.save_as(target)
        out = target.read_bytes()
        target.unlink()
        return out


def check_tags(
    name: str, change: tuple[str, str, bytes | None], which: int, everyone: bool
) -> bool:
    base = BASES[name]
    names = list(base.files)
    touched = None if everyone else names[which % len(names)]
    with tempfile.TemporaryDirectory() as scratch:
        files = {
            n: mutate(d, *change, Path(scratch)) if touched in (None, n) else d
            for n, d in base.files.items()
        }
    with folder_of(files) as folder:
        return judge(folder, base, touched)


def check_bytes(base: Base, which: int, edits: list[tuple[int, int]], cut: int) -> bool:
    names = list(base.files)
    touched = names[which % len(names)]
    data = bytearray(base.files[touched])
    # The last 70 bytes are pixels, the first 128 the preamble that nobody reads.
    for at, value in edits:
        data[128 + at % (len(data) - 128 - 70)] = value
    files = {**base.files, touched: bytes(data[: len(data) - cut] if cut else data)}
    with folder_of(files) as folder:
        if len(base.files) > 1:
            return judge(folder, base, touched)
        return outcome(folder / touched) is not None


tag_changes = {
    "name": st.sampled_from(sorted(BASES)),
    "change": mutation(),
    "which": st.integers(0, 5),
    "everyone": st.booleans(),
}
byte_changes = {
    "name": st.sampled_from([*sorted(BASES), "frames"]),
    "which": st.integers(0, 5),
    "edits": st.lists(
        st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), min_size=1, max_size=6
    ),
    "cut": st.sampled_from([0, 0, 0, 1, 80, 400]),
}
nifti_changes = {
    "edits": st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4),
    "cut": st.sampled_from([0, 0, 0, 1, 100]),
}


def common(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


def base_of(name: str) -> Base:
    return FRAMES if name == "frames" else BASES[name]


def nifti_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        affine = np.eye(4)
        affine[:3, :3] = np.diag([-1, -1, 1]) @ TURNED * SPACING
        affine[:3, 3] = np.array([-1, -1, 1]) * ORIGIN
        image = nibabel.Nifti1Image(field(), affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        nibabel.save(image, Path(name) / "a.nii")
        return (Path(name) / "a.nii").read_bytes()


NIFTI = nifti_bytes()


def check_nifti(edits: list[tuple[int, int]], cut: int) -> bool:
    """Whatever is accepted lies where nibabel puts it."""
    data = bytearray(NIFTI)
    for at, value in edits:
        data[at] = value
    with folder_of({"a.nii": bytes(data[: len(data) - cut] if cut else data)}) as folder:
        ct = outcome(folder / "a.nii")
        if ct is None:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = nibabel.load(folder / "a.nii")
        # ITK and nibabel take length units as millimetres; ours follows the header's unit.
        unit = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}[int(theirs.header["xyzt_units"]) & 7]
        affine = theirs.affine * unit
        values = np.asarray(theirs.dataobj)
        values = values.reshape(values.shape[:3])
        for index in ((0, 0, 0), (1, 2, 3), tuple(n - 1 for n in values.shape)):
            world = (affine @ [*index, unit])[:3] if unit == 1.0 else (affine[:3] @ [*index, 1.0])
            world = world * np.array([-1, -1, 1])
            at = ct.volume.geometry.to_index(world)
            size = np.abs(world).max() + 1.0
            assert np.all(np.abs(at - np.rint(at)) < 1e-4 * size), (index, at)
            found = ct.volume.data[tuple(np.rint(at).astype(int))]
            np.testing.assert_allclose(float(found), float(values[index]), rtol=1e-5, atol=1e-4)
        return True


class Count:
    """How many were accepted: a fuzz that only ever refuses proves nothing."""

    def __init__(self) -> None:
        self.accepted = self.refused = 0

    def add(self, accepted: bool) -> None:
        self.accepted += accepted
        self.refused += not accepted

    def check(self) -> None:
        assert min(self.accepted, self.refused) >= 0.1 * (self.accepted + self.refused), vars(self)


def run(examples: tuple[int, int, int]) -> Count:
    count = Count()

    @common(examples[0])
    @given(**tag_changes)
    def tags(name: str, change: Any, which: int, everyone: bool) -> None:
        count.add(check_tags(name, change, which, everyone))

    @common(examples[1])
    @given(**byte_changes)
    def flips(name: str, which: int, edits: Any, cut: int) -> None:
        count.add(check_bytes(base_of(name), which, edits, cut))

    @common(examples[2])
    @given(**nifti_changes)
    def nifti(edits: Any, cut: int) -> None:
        count.add(check_nifti(edits, cut))

    tags()
    flips()
    nifti()
    count.check()
    return count


def test_the_bases_are_read_and_the_judge_is_awake() -> None:
    """Unmutated series agree; a grid moved by a tenth of a millimetre does not."""
    from dataclasses import replace

    from sacroplan.geometry.volume import Volume

    for base in BASES.values():
        with folder_of(base.files) as folder:
            ct = read_ct(folder)
            planes = planes_of(folder, base)
        assert agrees(ct, planes)
        assert corners_fit(ct, planes)
        for axis in range(3):
            moved = np.zeros(3)
            moved[axis] = 0.1
            geometry = replace(ct.volume.geometry, origin=ct.volume.geometry.origin + moved)
            other = replace(ct, volume=Volume(geometry, ct.volume.data))
            assert not agrees(other, planes)
    with folder_of(FRAMES.files) as folder:
        np.testing.assert_array_equal(read_ct(folder).volume.data, field())


def test_three_hundred_mutated_headers() -> None:
    assert run((180, 80, 40)).accepted > 30


@pytest.mark.slow
def test_five_thousand_mutated_headers() -> None:
    count = run((3200, 1200, 700))
    assert count.accepted + count.refused >= 5000
