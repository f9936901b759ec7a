"""3MF files of porous layers: triangles that arrive in blocks, beams, or slices.

Beams follow the Beam Lattice Extension, slices the Slice Extension of the 3MF consortium. What a reader
must know is named in the file, so a program that does not know it refuses the file and cannot print a
part without its lattice.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Protocol

import numpy as np
import numpy.typing as npt

from sacroplan.errors import FormatError
from sacroplan.formats._digits import rows, rows_and_ends
from sacroplan.formats.stl import SurfaceBlock
from sacroplan.formats.threemf import MATERIAL_ID, head, mesh_of, opened, tail, write_package
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface

_BEAMS = "http://schemas.microsoft.com/3dmanufacturing/beamlattice/2017/02"
_SLICES = "http://schemas.microsoft.com/3dmanufacturing/slice/2015/07"

_VERTEX = ('<vertex x="', '" y="', '" z="', '"/>\n')
_TRIANGLE = ('<triangle v1="', '" v2="', '" v3="', '"/>\n')
_DECIMALS = 6
"""A nanometre."""

_CHUNK = 200_000
"""Triangles read back at a time."""


class BeamSet(Protocol):
    """Beams in LPS mm, cut off at ``hull``; ``rim`` is solid or None."""

    @property
    def nodes(self) -> FloatArray:
        """(n, 3) ends."""

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """(m, 2) numbers of the ends."""

    @property
    def radii_mm(self) -> FloatArray:
        """(m, 2) radius at each end."""

    @property
    def hull(self) -> Surface:
        """Closed solid beyond which beams end."""

    @property
    def rim(self) -> Surface | None:
        """Closed solid part."""


class PlaneSlice(Protocol):
    """Closed outlines (n, 2) of one printed layer, solid on the left, in build coordinates, mm."""

    @property
    def bottom_mm(self) -> float:
        """Lower face of the layer."""

    @property
    def top_mm(self) -> float:
        """Upper face."""

    @property
    def outlines(self) -> tuple[FloatArray, ...]:
        """Outer outlines counter-clockwise, holes clockwise."""


def write_3mf_blocks(
    name: str,
    blocks: Iterable[SurfaceBlock],
    path: str | os.PathLike[str],
    title: str,
    metadata: Mapping[str, str] | None = None,
    material: str | None = None,
) -> int:
    """Write one object (LPS mm) whose surface arrives in blocks; number of triangles.

    A model lists all vertices before the first triangle: triangles wait in an unnamed temporary file, so
    memory holds one block. Same blocks, same bytes. Raises :class:`FormatError` for no triangle.
    """
    count = 0

    def model() -> Iterator[bytes]:
        nonlocal count
        yield head(title, metadata or {}, material)
        yield opened(MATERIAL_ID + 1, name, material) + b"<mesh><vertices>\n"
        with tempfile.TemporaryFile() as waiting:
            for block in blocks:
                yield rows(block.vertices, _VERTEX, _DECIMALS)
                waiting.write(np.ascontiguousarray(block.faces, dtype="<i8").tobytes())
                count += len(block.faces)
            yield b"</vertices><triangles>\n"
            waiting.seek(0)
            for faces in _read_back(waiting):
                yield rows(faces, _TRIANGLE)
        if not count:
            raise FormatError(f"{path}: the surface of {name!r} has no triangle to write.")
        yield b"</triangles></mesh></object>\n"
        yield tail([MATERIAL_ID + 1])

    write_package(path, model())
    return count


def _read_back(stream: IO[bytes]) -> Iterator[npt.NDArray[np.int64]]:
    while raw := stream.read(24 * _CHUNK):
        yield np.frombuffer(raw, dtype="<i8").reshape(-1, 3)


def write_3mf_beams(
    name: str,
    beams: BeamSet,
    path: str | os.PathLike[str],
    title: str,
    metadata: Mapping[str, str] | None = None,
    material: str | None = None,
) -> None:
    """Write a lattice of beams (LPS mm), cut off at its hull, and its solid rim as a second object.

    Raises :class:`FormatError` for no beam, :class:`GeometryError` for an open hull or rim.
    """
    if not len(beams.ends):
        raise FormatError(f"{path}: the lattice {name!r} has no beam to write.")
    beams.hull.require_closed(f"{name} hull")
    hull, lattice, rim = MATERIAL_ID + 1, MATERIAL_ID + 2, MATERIAL_ID + 3
    built = [lattice]

    def model() -> Iterator[bytes]:
        yield head(title, metadata or {}, material, {"b": _BEAMS})
        yield opened(hull, f"{name} hull", material)
        yield from mesh_of(beams.hull)
        yield b"</object>\n" + opened(lattice, name, material) + b"<mesh><vertices>\n"
        yield rows(beams.nodes, _VERTEX, _DECIMALS)
        radius = float(np.median(beams.radii_mm))
        yield (
            f'</vertices><triangles/><b:beamlattice minlength="0.0001" radius="{radius:.6f}" cap="sphere" '
            f'clippingmode="inside" clippingmesh="{hull}"><b:beams>\n'
        ).encode()
        number = np.concatenate(
            [beams.ends, np.rint(beams.radii_mm * 1e6).astype(np.int64)], axis=1
        )
        yield _beam_rows(number)
        yield b"</b:beams></b:beamlattice></mesh></object>\n"
        if beams.rim is not None:
            beams.rim.require_closed(f"{name} rim")
            yield opened(rim, f"{name} rim", material)
            yield from mesh_of(beams.rim)
            yield b"</object>\n"
            built.append(rim)
        yield tail(built)

    write_package(path, model())


def _beam_rows(number: npt.NDArray[np.int64]) -> bytes:
    """Beams: two node numbers and two radii in nanometres."""
    template = '<b:beam v1="%d" v2="%d" r1="%d.%06d" r2="%d.%06d"/>\n'
    split = np.column_stack(
        [number[:, :2], number[:, 2] // 10**6, number[:, 2] % 10**6,
         number[:, 3] // 10**6, number[:, 3] % 10**6]
    )  # fmt: skip
    return ((template * len(split)) % tuple(split.ravel().tolist())).encode("ascii")


def write_3mf_slices(
    name: str,
    body: Surface,
    slices: Iterable[PlaneSlice],
    path: str | os.PathLike[str],
    title: str,
    metadata: Mapping[str, str] | None = None,
    material: str | None = None,
) -> int:
    """Write a part as a stack of slices in its build direction; number of slices.

    ``body`` is its coarse solid and everything is in build coordinates (mm, z up): slices must lie in the
    planes of the file. Say in ``metadata`` how to come back to LPS. Raises :class:`FormatError` for no
    slice, or slices that do not rise.
    """
    body.require_closed(name)
    stack, part = MATERIAL_ID + 1, MATERIAL_ID + 2
    count = 0

    def model() -> Iterator[bytes]:
        nonlocal count
        yield head(title, metadata or {}, material, {"s": _SLICES})
        top = -np.inf
        for one in slices:
            if not count:
                yield f'<s:slicestack id="{stack}" zbottom="{one.bottom_mm:.6f}">\n'.encode()
            if one.top_mm <= top:
                raise FormatError(
                    f"{path}: slice {count + 1} of {name!r} at {one.top_mm:g} mm does not lie above the "
                    f"one before it at {top:g} mm."
                )
            top = one.top_mm
            yield _slice(one)
            count += 1
        if not count:
            raise FormatError(f"{path}: the part {name!r} has no slice to write.")
        yield b"</s:slicestack>\n"
        more = f' s:slicestackid="{stack}" s:meshresolution="lowres"'
        yield opened(part, name, material, more)
        yield from mesh_of(body)
        yield b"</object>\n" + tail([part])

    write_package(path, model())
    return count


def _slice(one: PlaneSlice) -> bytes:
    points = np.concatenate(one.outlines)
    pieces = [
        f'<s:slice ztop="{one.top_mm:.6f}"><s:vertices>\n'.encode(),
        rows(points, ('<s:vertex x="', '" y="', '"/>\n'), _DECIMALS),
        b"</s:vertices>\n",
    ]
    # Each point's segment leads to the next one; an outline's last leads back to its first.
    length = np.array([len(ring) for ring in one.outlines])
    stop = np.cumsum(length)
    after = np.arange(1, len(points) + 1)
    after[stop - 1] = stop - length
    text, ends = rows_and_ends(after[:, None], ('<s:segment v2="', '"/>'))
    begin = 0
    for first, last in zip((stop - length).tolist(), ends[stop - 1].tolist(), strict=True):
        pieces.append(f'<s:polygon startv="{first}">'.encode())
        pieces.append(text[begin:last])
        pieces.append(b"</s:polygon>\n")
        begin = last
    pieces.append(b"</s:slice>\n")
    return b"".join(pieces)
