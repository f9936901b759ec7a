"""STL surfaces: binary out, binary and ASCII in, always LPS millimetres."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER_SHORT
from sacroplan.errors import FormatError
from sacroplan.formats.atomic import replaced_file, write_bytes
from sacroplan.formats.images import read_file
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray
from sacroplan.geometry.surface import Surface

_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER_BYTES = 80
_HASH = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
"""Large odd factors, one a coordinate."""


class SurfaceBlock(Protocol):
    """A piece of a surface that arrives bit by bit.

    ``vertices`` (n, 3) LPS mm are new, numbered from ``first``; ``faces`` (m, 3) name vertices of this
    block or of the one before it.
    """

    @property
    def vertices(self) -> FloatArray:
        """(n, 3) new vertices."""

    @property
    def first(self) -> int:
        """Number of the first of them."""

    @property
    def faces(self) -> npt.NDArray[np.int64]:
        """(m, 3) vertex numbers."""


def _header(name: str) -> bytes:
    text = f"SPACE=LPS UNIT=mm {BANNER_SHORT} {name}"
    # Non-ASCII names would make the header longer than its characters.
    return text.encode("ascii", "replace")[:_HEADER_BYTES].ljust(_HEADER_BYTES, b" ")


def stl_bytes(surface: Surface, name: str) -> bytes:
    """The bytes :func:`write_stl` writes."""
    records = np.zeros(len(surface.faces), dtype=_RECORD)
    records["normal"] = surface.face_normals
    records["corners"] = surface.triangles
    return _header(name) + len(records).to_bytes(4, "little") + records.tobytes()


def write_stl_blocks(
    blocks: Iterable[SurfaceBlock], path: str | os.PathLike[str], name: str
) -> int:
    """Write a surface that arrives in blocks as binary STL; number of triangles.

    Two blocks are in memory at a time, however large the surface. Same blocks, same bytes. Raises
    :class:`FormatError` for no triangle at all, for more than STL can count, or a failed write.
    """
    count = 0
    with replaced_file(path) as stream:
        stream.write(_header(name) + bytes(4))
        before, base = np.zeros((0, 3)), 0
        for block in blocks:
            known = np.concatenate([before, block.vertices])
            records = _records(known, block.faces - base)
            stream.write(records.tobytes())
            count += len(records)
            before, base = block.vertices, block.first
        if not 0 < count < 2**32:
            raise FormatError(
                f"{path}: the surface of {name!r} has {count} triangles; an STL file holds 1 to 2^32 - 1."
            )
        stream.seek(_HEADER_BYTES)
        stream.write(count.to_bytes(4, "little"))
    return count


def _records(vertices: FloatArray, faces: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """(m, 25) words of the triangles' records, the bytes of which :func:`stl_bytes` writes."""
    from sacroplan.formats._digits import stl_records

    out = np.empty((len(faces), _RECORD.itemsize // 2), dtype=np.uint16)
    stl_records(vertices, faces, out)
    return out.astype("<u2", copy=False)


def write_stl(surface: Surface, path: str | os.PathLike[str], name: str) -> None:
    """Write ``surface`` as binary STL (float32, LPS mm) with ``name`` in the header.

    Same surface, same bytes. Raises :class:`FormatError` for an empty surface or a failed write.
    """
    if not len(surface.faces):
        raise FormatError(f"{path}: the surface of {name!r} has no triangle to write.")
    write_bytes(path, stl_bytes(surface, name))


def read_stl(path: str | os.PathLike[str], frame: str = DEFAULT_FRAME) -> Surface:
    """Read binary or ASCII STL; equal corners are merged, collapsed triangles dropped.

    A header with ``SPACE=RAS`` (3D Slicer) is turned into LPS; without a header entry the file is
    taken as LPS millimetres.
    """
    file = Path(path)
    raw = read_file(file)
    header = raw[:_HEADER_BYTES]
    count = int.from_bytes(raw[80:84], "little") if len(raw) >= 84 else -1
    corners: npt.NDArray[np.float32]
    if count >= 0 and len(raw) == 84 + 50 * count:
        corners = np.frombuffer(raw, _RECORD, count, 84)["corners"].reshape(-1, 3)
    elif raw.lstrip()[:5].lower() == b"solid" and b"facet" in raw[:100_000].lower():
        corners = _ascii_corners(raw, file)
        header = raw.lstrip().split(b"\n", 1)[0]
    elif count > 0 and len(raw) < 84 + 50 * count:
        raise FormatError(f"{file} is cut short: {len(raw)} bytes, {84 + 50 * count} are needed.")
    else:
        raise FormatError(f"{file} is not an STL file.")
    if not len(corners):
        raise FormatError(f"{file} holds no triangle.")
    if not np.all(np.isfinite(corners)):
        raise FormatError(f"{file} holds coordinates that are not finite numbers.")
    points = np.ascontiguousarray(corners + np.float32(0.0))  # -0.0 and 0.0 are one vertex
    if b"SPACE=RAS" in header.upper():
        points = points * np.array([-1, -1, 1], dtype=np.float32) + np.float32(0.0)
    first, inverse = _merge(points)
    # Vertices keep the order in which the file first names them.
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    faces = rank[inverse].reshape(-1, 3)
    proper = (
        (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    )
    return Surface(points[first[order]].astype(np.float64), faces[proper], frame)


def _merge(
    points: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First occurrence of every different point, and for each point which one it is."""
    bits = points.view(np.uint32).astype(np.uint64)
    # Sorting one 64-bit hash is five times faster than sorting triples; a clash is checked for.
    hashed = (bits * _HASH).sum(axis=1, dtype=np.uint64)
    _, first, inverse = np.unique(hashed, return_index=True, return_inverse=True)
    if not np.array_equal(points[first[inverse]], points):
        keys = points.view([("", points.dtype)] * 3).ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first, inverse


def _ascii_corners(raw: bytes, path: Path) -> npt.NDArray[np.float32]:
    values = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", raw, re.IGNORECASE)
    try:
        corners = np.array(values, dtype="S32").astype(np.float64).astype(np.float32)
    except ValueError as error:
        raise FormatError(f"{path} holds a vertex that is not a number.") from error
    last_line = raw.rstrip().lower().split(b"\n")[-1].strip()
    if len(corners) % 3 or not last_line.startswith(b"endsolid"):
        raise FormatError(f"{path} is cut short: {len(corners)} corners, no endsolid.")
    return corners.reshape(-1, 3)
