"""Image files that are not DICOM: NIfTI, NRRD, MetaImage, as plain arrays on an LPS grid.

A :class:`RawImage` is what the file says and nothing more; :mod:`.ct` and :mod:`.labels` decide
what it means. All arrays are ``[i, j, k]`` in file order (not yet canonical), native byte order.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import Doubt, FormatError, GeometryError, ImagingError
from sacroplan.formats.archive import inside
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import VolumeGeometry

AFFINE_AGREEMENT_MM = 0.1
"""qform and sform of one NIfTI file may differ by this at the image corners: float32 rounding of a
rotated 500 mm image stays far below, a real conflict (a re-registered sform) lies far above."""

SHEAR_TOLERANCE = 1e-4
"""Dot product of two unit image axes; VolumeGeometry refuses more."""

MAX_VOXELS = 2**31
"""Largest image that is read: 1024 x 1024 x 2048 voxels, 4 GiB of 16-bit values."""

MIN_VOXEL_MM, MAX_VOXEL_MM = 0.01, 50.0
"""Voxels outside are not of a patient's image: a wrong length unit or a damaged header."""

MAX_ORIGIN_MM = 100_000.0
"""Origins farther away are damaged headers; research atlases stay within metres."""

TAIL_BYTES = 1 << 16
"""What may follow the image in a compressed file without being taken for a bomb."""


@dataclass(frozen=True, eq=False)
class RawImage:
    """One image file.

    Attributes
    ----------
    geometry : grid in file axis order, LPS mm.
    data : (i, j, k) or, for layered segmentations, (layer, i, j, k).
    kind : ``"nifti"``, ``"nrrd"`` or ``"metaimage"``.
    header : key/value texts (NRRD fields; NIfTI description).
    label_names : id to name where the file carries a label table.
    slice_axis : file axis along which slices were acquired, where the file says so.
    doubts : reservations about the geometry.
    """

    geometry: VolumeGeometry
    data: npt.NDArray[Any]
    kind: str
    header: Mapping[str, str] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)
    slice_axis: int | None = None
    doubts: tuple[Doubt, ...] = ()


def kind_of(path: Path) -> str | None:
    """``"nifti"``, ``"nrrd"``, ``"metaimage"`` by file name, None for anything else."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return "nifti"
    if name.endswith((".nrrd", ".nhdr")):
        return "nrrd"
    if name.endswith((".mha", ".mhd")):
        return "metaimage"
    return None


def read_image(path: str | os.PathLike[str]) -> RawImage:
    """Read a NIfTI, NRRD or MetaImage file; raises FormatError or ImagingError, one sentence."""
    file = Path(path)
    kind = kind_of(file)
    if kind == "nifti":
        return read_nifti(file)
    if kind == "nrrd":
        return read_nrrd(file)
    if kind == "metaimage":
        return read_metaimage(file)
    raise FormatError(
        f"{file} is not an image file this program reads; expected .nii, .nii.gz, .nrrd, .nhdr, "
        ".seg.nrrd, .mha or .mhd."
    )


def read_file(path: Path) -> bytes:
    """All bytes of a file; raises :class:`FormatError` in one sentence."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} could not be read: {error.strerror or error}.") from error


def gunzip(data: bytes, path: Path, most: int | None = None) -> bytes:
    """Decompress gzip data, at most ``most`` bytes of it.

    A header says how much is needed; more is never unpacked, so that a bomb stays small. Raises
    :class:`FormatError` when the stream is damaged or cut short before ``most``.
    """
    limit = MAX_VOXELS * 8 if most is None else most
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return stream.read(limit)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"{path} is damaged: its gzip stream cannot be unpacked.") from error


def check_count(shape: Sequence[int], path: Path) -> int:
    """Number of voxels; raises :class:`ImagingError` beyond :data:`MAX_VOXELS`."""
    count = math.prod(int(n) for n in shape)
    if not 0 < count <= MAX_VOXELS:
        raise ImagingError(
            f"{path} claims {count:.3g} voxels, at most {MAX_VOXELS:.3g} are read; "
            "its header is damaged, or it must be cropped first."
        )
    return count


def beside(path: Path, name: str) -> Path:
    """The file that a header names for its data; it must lie in the header's own folder."""
    found = inside(path.parent, name)
    if found is None or Path(name).is_absolute():
        raise FormatError(f"{path} names a data file outside its own folder; it is not followed.")
    return found


def grid(
    shape: tuple[int, int, int], columns: FloatArray, origin: FloatArray, path: Path
) -> VolumeGeometry:
    """Grid from index-to-LPS columns (3, 3); refuses sheared or degenerate axes by name."""
    if not np.all(np.isfinite(columns)) or np.abs(columns).max() > 1e6:
        raise ImagingError(f"{path} has no usable voxel size: its axes are {columns.T.tolist()}.")
    spacing = np.linalg.norm(columns, axis=0)
    if spacing.min() < MIN_VOXEL_MM or spacing.max() > MAX_VOXEL_MM:
        raise ImagingError(
            f"{path} has no usable voxel size: {' x '.join(f'{v:.3g}' for v in spacing)} mm, "
            f"{MIN_VOXEL_MM:g} to {MAX_VOXEL_MM:g} mm are expected; check its length unit."
        )
    if not np.all(np.isfinite(origin)) or np.abs(origin).max() > MAX_ORIGIN_MM:
        raise ImagingError(f"{path} has no usable position: its origin is {origin.tolist()}.")
    direction = columns / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > SHEAR_TOLERANCE:
        raise ImagingError(
            f"{path} is sheared: its image axes are not at right angles (gantry tilt?); "
            "resample it to a rectangular grid first."
        )
    # Headers carry float32 or decimal strings; the nearest exact rotation is what they mean.
    u, _, vt = np.linalg.svd(direction)
    try:
        return VolumeGeometry(shape, spacing, origin, u @ vt)
    except GeometryError as error:
        raise ImagingError(f"{path}: {error}") from error


# --- NIfTI ---------------------------------------------------------------------------------------

_NIFTI_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
    1024: "i8", 1280: "u8",
}  # fmt: skip
_NIFTI_HEAD = 1024
"""Bytes that hold the header of either version."""
_NIFTI_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_QUATERNION_NOISE = 1.3e-7
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class _NiftiHeader:
    order: str
    dim: tuple[int, ...]
    datatype: int
    pixdim: tuple[float, ...]
    vox_offset: int
    slope: float
    inter: float
    units: int
    dim_info: int
    qform_code: int
    sform_code: int
    quatern: tuple[float, ...]
    sform: FloatArray
    size: int


def _nifti_header(raw: bytes, path: Path) -> _NiftiHeader:
    if len(raw) < 352:
        raise FormatError(f"{path} is not a NIfTI file: it holds only {len(raw)} bytes.")
    for order in "<>":
        size = struct.unpack_from(order + "i", raw)[0]
        if size == 348 and raw[344:348] in (b"n+1\0", b"ni1\0"):
            break
        if size == 540 and raw[4:7] in (b"n+2", b"ni2"):
            break
    else:
        raise FormatError(f"{path} is not a NIfTI file: its header is neither NIfTI-1 nor NIfTI-2.")
    detached = raw[344:347] == b"ni1" if size == 348 else raw[4:7] == b"ni2"
    if detached:
        raise FormatError(f"{path} is a NIfTI header without its image (.hdr/.img pair); use .nii.")

    def get(fmt: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + fmt, raw, offset)

    if size == 348:
        return _NiftiHeader(
            order, get("8h", 40), get("h", 70)[0], get("8f", 76), int(get("f", 108)[0]),
            get("f", 112)[0], get("f", 116)[0], raw[123], raw[39], get("h", 252)[0],
            get("h", 254)[0], get("6f", 256), np.array(get("12f", 280)).reshape(3, 4), 348,
        )  # fmt: skip
    return _NiftiHeader(
        order, get("8q", 16), get("h", 12)[0], get("8d", 104), get("q", 168)[0],
        get("d", 176)[0], get("d", 184)[0], get("i", 500)[0], raw[524], get("i", 344)[0],
        get("i", 348)[0], get("6d", 352), np.array(get("12d", 400)).reshape(3, 4), 540,
    )  # fmt: skip


def _qform(h: _NiftiHeader) -> FloatArray:
    """(3, 4) index to RAS by the quaternion method (NIfTI-1 standard, method 2)."""
    b, c, d = h.quatern[:3]
    # Below twice the float32 rounding of b, c, d the rest is noise: a half turn.
    rest = 1.0 - b * b - c * c - d * d
    a = np.sqrt(rest) if rest > _QUATERNION_NOISE else 0.0
    norm = np.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = a / norm, b / norm, c / norm, d / norm
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    qfac = -1.0 if h.pixdim[0] < 0 else 1.0
    zooms = np.array(h.pixdim[1:4]) * [1.0, 1.0, qfac]
    return np.column_stack([rotation * zooms, np.array(h.quatern[3:6])])


def _nifti_names(raw: bytes, h: _NiftiHeader) -> dict[int, str]:
    """Label table of a CaretExtension (written by TotalSegmentator), empty without one."""
    position, stop = h.size, max(h.vox_offset, h.size)
    names: dict[int, str] = {}
    if stop < position + 4 or raw[position] == 0:
        return names
    position += 4
    while position + 8 <= stop:
        size, _ = struct.unpack_from(h.order + "2i", raw, position)
        if size < 16 or position + size > stop:
            break
        text = raw[position + 8 : position + size].decode("utf-8", "replace")
        for key, name in re.findall(
            r"<Label\s[^>]*?Key=[\"'](\d+)[\"'][^>]*>\s*(?:<!\[CDATA\[)?([^\]<]+)", text
        ):
            names[int(key)] = name.strip()
        position += size
    return names


def read_nifti(path: Path) -> RawImage:
    """NIfTI-1 or -2, plain or gzipped, either byte order; RAS is turned into LPS.

    sform is preferred over qform as in nibabel and ITK; a conflict between them is a doubt. A file
    without either has no left and right and is refused.
    """
    raw = read_file(path)
    packed = raw if raw[:2] == b"\x1f\x8b" else None
    if packed is not None:
        raw = gunzip(packed, path, _NIFTI_HEAD)
    h = _nifti_header(raw, path)
    if not 1 <= h.dim[0] <= 7 or any(n < 1 for n in h.dim[1 : h.dim[0] + 1]):
        raise FormatError(f"{path} has impossible image dimensions {h.dim}.")
    full = tuple(h.dim[1 : h.dim[0] + 1])
    if len([n for n in full if n > 1]) > 3 or any(n > 1 for n in full[3:]) or len(full) < 3:
        raise ImagingError(f"{path} has {full} voxels; expected one three-dimensional image.")
    shape = (full[0], full[1], full[2])
    if h.datatype not in _NIFTI_TYPES:
        raise FormatError(f"{path} stores NIfTI data type {h.datatype}; expected plain numbers.")
    dtype = np.dtype(h.order + _NIFTI_TYPES[h.datatype])
    count = check_count(shape, path)
    if not h.size <= h.vox_offset <= MAX_VOXELS:
        raise FormatError(f"{path} puts its image at byte {h.vox_offset}, inside its header.")
    if packed is not None:
        raw = gunzip(packed, path, h.vox_offset + count * dtype.itemsize)
    if len(raw) < h.vox_offset + count * dtype.itemsize:
        raise FormatError(
            f"{path} is cut short: {len(raw)} bytes, {h.vox_offset + count * dtype.itemsize} "
            "are needed for its image."
        )
    stored = np.frombuffer(raw, dtype, count, h.vox_offset).reshape(shape, order="F")
    data = stored.astype(dtype.newbyteorder("="), copy=False)
    slope, inter = h.slope, h.inter
    if np.isfinite(slope) and slope != 0 and np.isfinite(inter) and (slope, inter) != (1.0, 0.0):
        data = data * float(slope) + float(inter)
    affines = []
    if h.sform_code > 0:
        affines.append(h.sform)
    if h.qform_code > 0:
        affines.append(_qform(h))
    if not affines:
        raise ImagingError(
            f"{path} has neither sform nor qform: left and right cannot be told; export it again "
            "with its orientation."
        )
    doubts: tuple[Doubt, ...] = ()
    if len(affines) == 2 and np.all(np.isfinite(affines[1])):
        if np.linalg.det(affines[0][:, :3]) * np.linalg.det(affines[1][:, :3]) < 0:
            raise ImagingError(
                f"{path} is mirrored in its qform but not in its sform: left and right cannot be "
                "told; export it again with one orientation."
            )
        corners = np.array(
            [[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]
        )
        apart = float(np.linalg.norm(corners @ (affines[0] - affines[1]).T, axis=1).max())
        if apart > AFFINE_AGREEMENT_MM:
            doubts = (
                Doubt(
                    "imaging",
                    "imaging.nifti_affines_disagree",
                    f"sform and qform of the image place it up to {apart:.1f} mm apart; sform was "
                    "used. Check its position and orientation: a guide turned against the patient "
                    "does not fit.",
                ),
            )
    unit_code = h.units & 7
    if unit_code not in _NIFTI_UNIT_MM:
        raise FormatError(f"{path} has an unknown length unit (code {unit_code}).")
    # Signs and not a product of matrices: infinite entries must stay infinite and be refused.
    affine = affines[0] * np.diag(_RAS_TO_LPS)[:, None] * _NIFTI_UNIT_MM[unit_code]
    slice_dim = (h.dim_info >> 4) & 3
    return RawImage(
        grid(shape, affine[:, :3], affine[:, 3], path),
        data,
        "nifti",
        {},
        _nifti_names(raw, h),
        slice_dim - 1 if slice_dim else None,
        doubts,
    )


def nifti_bytes(geometry: VolumeGeometry, data: npt.NDArray[Any], description: str = "") -> bytes:
    """An uncompressed NIfTI-1 file (little endian, sform and qform) of ``data`` (i, j, k)."""
    types = {v: k for k, v in _NIFTI_TYPES.items()}
    code = data.dtype.str[1:]
    if code not in types:
        raise FormatError(f"NIfTI cannot hold {data.dtype}.")
    affine = _RAS_TO_LPS @ geometry.affine[:3]
    rotation = affine[:, :3] / geometry.spacing_mm
    qfac = 1.0
    if np.linalg.det(rotation) < 0:
        qfac, rotation = -1.0, rotation * [1.0, 1.0, -1.0]
    b, c, d = _quaternion(rotation)
    header = bytearray(352)
    pack = struct.pack_into
    pack("<i", header, 0, 348)
    pack("<8h", header, 40, 3, *geometry.shape, 1, 1, 1, 1)
    pack("<2h", header, 70, types[code], data.dtype.itemsize * 8)
    pack("<8f", header, 76, qfac, *geometry.spacing_mm, 0, 0, 0, 0)
    pack("<3f", header, 108, 352.0, 1.0, 0.0)
    header[123] = 2
    text = description.encode("ascii", "replace")[:79]
    header[148 : 148 + len(text)] = text
    pack("<2h", header, 252, 1, 1)
    pack("<6f", header, 256, b, c, d, *affine[:, 3])
    pack("<12f", header, 280, *affine.ravel())
    header[344:348] = b"n+1\0"
    little = np.asarray(data).astype(data.dtype.newbyteorder("<"), copy=False)
    return bytes(header) + little.tobytes(order="F")


def _quaternion(rotation: FloatArray) -> tuple[float, float, float]:
    """(b, c, d) of a rotation with non-negative a, well conditioned for every rotation."""
    r = rotation
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], 0, 0, 0],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], 0, 0],
            [r[0, 2] - r[2, 0], r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0],
            [r[1, 0] - r[0, 1], r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    _, vectors = np.linalg.eigh(k, UPLO="L")
    q = vectors[:, -1]
    if q[0] < 0:
        q = -q
    return float(q[1]), float(q[2]), float(q[3])


def gzipped(data: bytes, level: int = 6) -> bytes:
    """gzip without name or time, so that the same content gives the same bytes."""
    return gzip.compress(data, compresslevel=level, mtime=0)


# --- NRRD ----------------------------------------------------------------------------------------

_NRRD_TYPES = {
    "signed char": "i1", "int8": "i1", "int8_t": "i1",
    "uchar": "u1", "unsigned char": "u1", "uint8": "u1", "uint8_t": "u1",
    "short": "i2", "short int": "i2", "signed short": "i2", "signed short int": "i2",
    "int16": "i2", "int16_t": "i2",
    "ushort": "u2", "unsigned short": "u2", "unsigned short int": "u2",
    "uint16": "u2", "uint16_t": "u2",
    "int": "i4", "signed int": "i4", "int32": "i4", "int32_t": "i4",
    "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4",
    "longlong": "i8", "long long": "i8", "long long int": "i8", "signed long long": "i8",
    "signed long long int": "i8", "int64": "i8", "int64_t": "i8",
    "ulonglong": "u8", "unsigned long long": "u8", "unsigned long long int": "u8",
    "uint64": "u8", "uint64_t": "u8",
    "float": "f4", "double": "f8",
}  # fmt: skip

_NRRD_SPACES = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}


def _nrrd_vectors(text: str) -> list[FloatArray | None]:
    out: list[FloatArray | None] = []
    for token in re.findall(r"none|\([^)]*\)", text):
        if token == "none":
            out.append(None)
        else:
            out.append(np.array([float(v) for v in token[1:-1].split(",")]))
    return out


def read_nrrd(path: Path) -> RawImage:
    """NRRD, data attached or detached, raw, gzip, bzip2 or ascii; three space axes, perhaps layers.

    Spaces LPS, RAS and LAS are understood; any other (or none) is refused because left and right
    cannot be told.
    """
    raw = read_file(path)
    if not raw.startswith(b"NRRD000"):
        raise FormatError(f"{path} is not an NRRD file: it does not begin with NRRD000x.")
    ends = [m.end() for m in (re.search(rb"\r?\n\r?\n", raw),) if m]
    head = raw[: ends[0]] if ends else raw
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    lines = head.decode("utf-8", "replace").splitlines()[1:]
    for number, line in enumerate(lines):
        if not line.strip() or line.startswith("#"):
            continue
        # A key/value pair is told from a field by ":=" before any ": ".
        field_at, key_at = line.find(": "), line.find(":=")
        if key_at >= 0 and (field_at < 0 or key_at < field_at):
            keys[line[:key_at]] = line[key_at + 2 :].replace("\\n", "\n")
        elif field_at >= 0:
            fields[line[:field_at].strip().lower()] = line[field_at + 2 :].strip()
            if line.lower().startswith(("data file:", "datafile:")) and "LIST" in line:
                raise FormatError(f"{path} spreads its data over a list of files; use one file.")
        else:
            raise FormatError(f"{path} has a faulty NRRD header: line {number + 2}.")
    try:
        return _nrrd_image(path, raw[ends[0] :] if ends else b"", fields, keys)
    except (KeyError, ValueError, OverflowError, IndexError) as error:
        raise FormatError(
            f"{path} has a faulty NRRD header: a number is missing or damaged."
        ) from error


def nrrd_data_file(path: Path) -> str | None:
    """Name of the file that holds the data of a detached NRRD header, None where it is attached."""
    try:
        with path.open("rb") as stream:
            head = stream.read(1 << 16)
    except OSError as error:
        raise FormatError(f"{path} could not be read: {error.strerror or error}.") from error
    head = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    match = re.search(rb"^data ?file: *(.+?) *\r?$", head, re.M | re.I)
    return None if match is None else match.group(1).decode("utf-8", "replace")


def _nrrd_image(
    path: Path, attached: bytes, fields: dict[str, str], keys: dict[str, str]
) -> RawImage:
    for key in ("type", "dimension", "sizes", "encoding"):
        if key not in fields:
            raise FormatError(f"{path} has a faulty NRRD header: {key!r} is missing.")
    if fields["type"].lower() not in _NRRD_TYPES:
        raise FormatError(f"{path} stores an unknown NRRD type; expected plain numbers.")
    sizes = [int(v) for v in fields["sizes"].split()]
    if len(sizes) != int(fields["dimension"]) or min(sizes) < 1:
        raise FormatError(f"{path} has impossible NRRD sizes {sizes}.")
    space = fields.get("space", "").lower()
    if space not in _NRRD_SPACES or "space directions" not in fields:
        raise ImagingError(
            f"{path} does not say where left is (its space or space directions are missing); "
            "expected left-posterior-superior or right-anterior-superior with space directions."
        )
    vectors = _nrrd_vectors(fields["space directions"])
    spatial = [n for n, v in enumerate(vectors) if v is not None]
    if len(vectors) != len(sizes) or len(spatial) != 3 or len(sizes) not in (3, 4):
        raise ImagingError(
            f"{path} has {len(spatial)} spatial axes among {len(sizes)}; expected one "
            "three-dimensional image, or a segmentation with layers."
        )
    sign = np.array(_NRRD_SPACES[space])
    columns = np.column_stack([v for v in vectors if v is not None]) * sign[:, None]
    origin = np.asarray(_nrrd_vectors(fields.get("space origin", "(0,0,0)"))[0]) * sign
    if origin.shape != (3,):
        raise FormatError(f"{path} has a faulty NRRD header: its space origin is no point.")
    dtype = np.dtype(_NRRD_TYPES[fields["type"].lower()])
    if dtype.itemsize > 1 and fields["encoding"].lower() not in ("ascii", "text", "txt"):
        endian = fields.get("endian", "").lower()
        if endian not in ("little", "big"):
            raise FormatError(f"{path} has a faulty NRRD header: 'endian' is missing.")
        dtype = dtype.newbyteorder("<" if endian == "little" else ">")
    flat = _nrrd_data(path, attached, fields, dtype, check_count(sizes, path))
    data = flat.reshape(sizes, order="F")
    if len(sizes) == 4:
        layer_axis = next(n for n in range(4) if n not in spatial)
        data = np.moveaxis(data, layer_axis, 0)
    shape = tuple(sizes[n] for n in spatial)
    return RawImage(grid((shape[0], shape[1], shape[2]), columns, origin, path), data, "nrrd", keys)


def _nrrd_data(
    path: Path, attached: bytes, fields: dict[str, str], dtype: np.dtype[Any], count: int
) -> npt.NDArray[Any]:
    payload = attached
    detached = fields.get("data file", fields.get("datafile"))
    if detached is not None:
        payload = read_file(beside(path, detached))
    elif path.suffix.lower() == ".nhdr":
        raise FormatError(f"{path} does not name its data file.")
    if int(fields.get("line skip", fields.get("lineskip", "0"))) != 0:
        raise FormatError(f"{path} uses 'line skip', which is not supported.")
    encoding = fields["encoding"].lower()
    if encoding in ("ascii", "text", "txt"):
        values = np.array(payload.split(), dtype=dtype)
        if len(values) < count:
            raise FormatError(f"{path} is cut short: {len(values)} of {count} voxels.")
        return values[:count]
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    need = count * dtype.itemsize
    if not -1 <= skip <= MAX_VOXELS:
        raise FormatError(f"{path} has an impossible byte skip of {skip}.")
    most = need + (TAIL_BYTES if skip == -1 else skip)
    if encoding in ("gzip", "gz"):
        payload = gunzip(payload, path, most)
    elif encoding in ("bzip2", "bz2"):
        import bz2

        try:
            payload = bz2.BZ2Decompressor().decompress(payload, most)
        except (OSError, ValueError, EOFError) as error:
            raise FormatError(f"{path} is damaged: its bzip2 stream cannot be unpacked.") from error
    elif encoding != "raw":
        raise FormatError(f"{path} uses an NRRD encoding that is not read; expected raw or gzip.")
    start = len(payload) - need if skip == -1 else skip
    if start < 0 or len(payload) < start + need:
        raise FormatError(f"{path} is cut short: {len(payload)} bytes, {need} are needed.")
    values = np.frombuffer(payload, dtype, count, start)
    return values.astype(dtype.newbyteorder("="), copy=False)


def nrrd_bytes(
    geometry: VolumeGeometry,
    data: npt.NDArray[Any],
    keys: Mapping[str, str] | None = None,
    comment: str = "",
) -> bytes:
    """A gzip NRRD file in LPS of ``data`` (i, j, k); key/value pairs in the order given."""
    names = {"u1": "unsigned char", "i1": "signed char", "i2": "short", "u2": "unsigned short",
             "i4": "int", "u4": "unsigned int", "f4": "float", "f8": "double"}  # fmt: skip
    code = data.dtype.str[1:]
    if code not in names:
        raise FormatError(f"NRRD files of {data.dtype} are not written; use int16 or float32.")

    def vector(v: FloatArray) -> str:
        return "(" + ",".join(f"{x + 0.0:.17g}" for x in v) + ")"

    columns = geometry.direction * geometry.spacing_mm
    lines = ["NRRD0005"]
    lines += [f"# {line}" for line in comment.splitlines()]
    lines += [
        f"type: {names[code]}",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(n) for n in geometry.shape),
        "space directions: " + " ".join(vector(columns[:, n]) for n in range(3)),
        "kinds: domain domain domain",
    ]
    if data.dtype.itemsize > 1:
        lines.append("endian: little")
    lines += ["encoding: gzip", "space origin: " + vector(geometry.origin)]
    lines += [f"{key}:={value}" for key, value in (keys or {}).items()]
    little = data.astype(data.dtype.newbyteorder("<"), copy=False)
    return ("\n".join(lines) + "\n\n").encode("utf-8") + gzipped(little.tobytes(order="F"))


# --- MetaImage -----------------------------------------------------------------------------------


_META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}  # fmt: skip


def read_metaimage(path: Path) -> RawImage:
    """MetaImage (.mha, .mhd) through SimpleITK; its axes are LPS."""
    import SimpleITK as sitk

    _check_metaimage(path)
    try:
        image: Any = sitk.ReadImage(str(path), imageIO="MetaImageIO")
    except RuntimeError as error:
        raise FormatError(f"{path} is not a readable MetaImage file.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImagingError(f"{path} has {image.GetSize()} voxels; expected one 3D scalar image.")
    direction = np.array(image.GetDirection()).reshape(3, 3)
    nx, ny, nz = image.GetSize()
    return RawImage(
        grid((nx, ny, nz), direction * image.GetSpacing(), np.array(image.GetOrigin()), path),
        sitk.GetArrayFromImage(image).transpose(2, 1, 0),
        "metaimage",
    )


def metaimage_fields(path: Path) -> dict[str, str]:
    """Header fields of a MetaImage file, keys in lower case, up to the name of its data."""
    try:
        with path.open("rb") as stream:
            head = stream.read(1 << 16)
    except OSError as error:
        raise FormatError(f"{path} could not be read: {error.strerror or error}.") from error
    fields: dict[str, str] = {}
    for line in head.split(b"\n"):
        name, equals, value = line.decode("latin-1").partition("=")
        if not equals:
            break
        fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "elementdatafile":
            break
    return fields


def _check_metaimage(path: Path) -> None:
    """What ITK would only find out after making room for it, or after leaving the folder."""
    fields = metaimage_fields(path)
    data = fields.get("elementdatafile", "")
    try:
        sizes = [int(v) for v in fields["dimsize"].split()]
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path} is not a readable MetaImage file.") from error
    count = check_count(sizes, path)
    if not data or data.upper().startswith("LIST") or "%" in data:
        raise FormatError(f"{path} spreads its data over several files; use one file.")
    local = data.upper() == "LOCAL"
    body = path if local else beside(path, data)
    if not body.is_file():
        raise FormatError(f"{path} names a data file that is not there.")
    packed = fields.get("compresseddata", "false").lower() in ("true", "1")
    need = count * _META_BYTES.get(fields.get("elementtype", "").upper(), 1)
    if not packed and body.stat().st_size < need:
        raise FormatError(
            f"{path} is cut short: {body.stat().st_size} bytes, {need} are needed for its image."
        )
