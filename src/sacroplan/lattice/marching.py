"""Marching cubes whose table is derived, not copied, and whose surface arrives in blocks.

On a face with two inside corners across a diagonal the inside corners are kept apart, whichever cell
looks at it, so neighbouring cells agree and the surface closes. Two solids are then connected exactly
where grid points are neighbours along an axis, which :mod:`sacroplan.lattice.layer` uses to find loose
pieces before any triangle is made. No triangle has a side across a cell's face, so no side is shared by
more than two triangles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import FloatArray

# Corner n of a cell lies at i = n >> 2, j = n >> 1 & 1, k = n & 1.
_CORNERS = [((n >> 2) & 1, (n >> 1) & 1, n & 1) for n in range(8)]


@dataclass(frozen=True, eq=False)
class Block:
    """A piece of a surface: new ``vertices`` (n, 3), the number ``first`` of the first of them, and

    ``faces`` (m, 3) that name vertices of this block and of the last ones before it.
    """

    vertices: FloatArray
    first: int
    faces: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CaseTable:
    """Triangles of the 256 cases: ``listed[start[c]:start[c + 1]]`` (m, 3) edge numbers.

    ``edges`` (12, 4): axis and lower corner (i, j, k) of each edge.
    """

    start: npt.NDArray[np.int64]
    listed: npt.NDArray[np.int64]
    edges: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(256,) triangles a case."""
        return np.diff(self.start)


def _edges() -> list[tuple[int, int]]:
    """The 12 edges as pairs of corners, lower corner first."""
    return [
        (a, b)
        for a in range(8)
        for b in range(a + 1, 8)
        if sum(p != q for p, q in zip(_CORNERS[a], _CORNERS[b], strict=True)) == 1
    ]


def _faces() -> list[list[int]]:
    """The six faces, corners counter-clockwise as seen from outside."""
    out = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for side in (0, 1):
            ring = [(0, 0), (1, 0), (1, 1), (0, 1)]
            if side == 0:
                ring = ring[::-1]
            face = []
            for a, b in ring:
                point = [0, 0, 0]
                point[axis], point[u], point[v] = side, a, b
                face.append(_CORNERS.index((point[0], point[1], point[2])))
            out.append(face)
    return out


def _loops(case: int, edges: list[tuple[int, int]], faces: list[list[int]]) -> list[list[int]]:
    """Closed outlines of the surface in one cell, as edge numbers, inside to the back."""
    number = {frozenset(e): n for n, e in enumerate(edges)}
    after: dict[int, int] = {}
    for face in faces:
        inside = [bool(case >> c & 1) for c in face]
        for m in range(4):
            if not inside[m] and inside[(m + 1) % 4]:
                out = (m + 1) % 4
                while inside[(out + 1) % 4]:
                    out = (out + 1) % 4
                entry = number[frozenset((face[m], face[(m + 1) % 4]))]
                leave = number[frozenset((face[out], face[(out + 1) % 4]))]
                after[entry] = leave
    found = []
    while after:
        first = min(after)
        loop, at = [first], after.pop(first)
        while at != first:
            loop.append(at)
            at = after.pop(at)
        found.append(loop)
    return found


def _triangulations(loop: tuple[int, ...]) -> Iterator[list[tuple[int, int, int]]]:
    """All ways to cut a polygon into triangles."""
    if len(loop) < 3:
        yield []
        return
    a, b = loop[0], loop[-1]
    for m in range(1, len(loop) - 1):
        for left in _triangulations(loop[: m + 1]):
            for right in _triangulations(loop[m:]):
                yield [(a, loop[m], b), *left, *right]


def _flat_sides(
    triangles: list[tuple[int, int, int]],
    loop: list[int],
    edges: list[tuple[int, int]],
    faces: list[list[int]],
) -> tuple[int, float]:
    """Sides within a cell's face that are no part of the outline, and the length of all inner sides."""
    outline = {frozenset((a, b)) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)}
    middle = [
        [0.5 * (p + q) for p, q in zip(_CORNERS[a], _CORNERS[b], strict=True)] for a, b in edges
    ]
    flat, length = 0, 0.0
    for t in triangles:
        for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0])):
            if frozenset((a, b)) in outline:
                continue
            length += sum((p - q) ** 2 for p, q in zip(middle[a], middle[b], strict=True)) ** 0.5
            corners = {*edges[a], *edges[b]}
            flat += any(corners <= set(face) for face in faces)
    return flat, length


@lru_cache(maxsize=1)
def case_table() -> CaseTable:
    """Triangles of every case, turned outwards."""
    edges, faces = _edges(), _faces()
    start, listed = [0], []
    for case in range(256):
        for loop in _loops(case, edges, faces):
            ways = list(_triangulations(tuple(loop)))
            cost = [_flat_sides(w, loop, edges, faces) for w in ways]
            best = min(range(len(ways)), key=lambda n: (cost[n][0], round(cost[n][1], 9), n))
            if cost[best][0]:
                raise GeometryError(f"Marching cubes: case {case} has a side in a cell's face.")
            listed += ways[best]
        start.append(len(listed))
    axes = []
    for a, b in edges:
        axis = next(n for n in range(3) if _CORNERS[a][n] != _CORNERS[b][n])
        axes.append((axis, *_CORNERS[a]))
    table = np.array(listed, dtype=np.int64).reshape(-1, 3)
    return CaseTable(np.array(start), table, np.array(axes))


def march(slabs: Iterable[npt.NDArray[np.float32]], shape: tuple[int, int, int]) -> Iterator[Block]:
    """Surface of a field below 0, slab by slab, in grid coordinates i, j, k.

    ``slabs`` are consecutive planes (n, nj, ni) of a field of ``shape`` (nk, nj, ni) whose border is
    above 0. Only one slab's vertices and triangles are ever in memory.
    """
    from sacroplan.lattice import _march_kernels as kernels

    table = case_table()
    _, nj, ni = shape
    xid = np.zeros((2, nj, ni), dtype=np.int64)
    yid = np.zeros((2, nj, ni), dtype=np.int64)
    last: npt.NDArray[np.float32] | None = None
    k0, first = 0, 0
    for slab in slabs:
        phi = slab if last is None else np.concatenate([last, slab])
        vertices, triangles = kernels.count(phi, k0 == 0, table.sizes)
        points = np.empty((vertices, 3))
        faces = np.empty((triangles, 3), dtype=np.int64)
        kernels.march(
            phi, k0, first, xid, yid, table.start, table.listed, table.edges, points, faces
        )
        yield Block(points, first, faces)
        first += vertices
        k0 += len(phi) - 1
        last = phi[-1:].copy()


def outlines(plane: npt.NDArray[np.float32]) -> list[FloatArray]:
    """Closed outlines (n, 2), grid coordinates i, j, of ``plane < 0`` (nj, ni); solid on the left."""
    from sacroplan.lattice import _march_kernels as kernels

    inside = plane < 0.0
    most = int((inside[1:] != inside[:-1]).sum() + (inside[:, 1:] != inside[:, :-1]).sum())
    points, after = np.empty((most, 2)), np.empty(most, dtype=np.int64)
    kernels.squares(plane, points, after)
    order, start = np.empty(most, dtype=np.int64), np.empty(most + 1, dtype=np.int64)
    found = int(kernels.loops(after, order, start))
    ring = points[order]
    return [ring[start[n] : start[n + 1]] for n in range(found)]
