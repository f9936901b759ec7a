"""Unit cells of porous layers as implicit fields, and the level that gives a wanted density.

A cell is a function of position with the period of one cell edge; the solid lies where it is below a
level. The level rises with the relative density (solid share of the volume), so a table of one gives
the other. Density is relative, 0 to 1; lengths are in cell edges unless named otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray

Kind = Literal["network", "sheet", "strut"]

SAMPLES = 96
"""Samples along a cell edge for its density: the midpoint rule is then good to 0.0005."""

PARTS = 12
"""Parts of a cell edge for which the nearest struts are listed."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A unit cell with cubic symmetry.

    Attributes
    ----------
    name, title : key, and what a reader calls it.
    kind : network and sheet follow a triply periodic minimal surface; struts are round bars.
    code : of the compiled field.
    densities : relative densities between which both phases hang together and properties are known.
    """

    name: str
    title: str
    kind: Kind
    code: int
    densities: tuple[float, float]


CELLS: Mapping[str, Cell] = {
    c.name: c
    for c in (
        Cell("gyroid_network", "skeletal gyroid", "network", 0, (0.10, 0.60)),
        Cell("gyroid_sheet", "sheet gyroid", "sheet", 1, (0.15, 0.60)),
        Cell("diamond_network", "skeletal diamond", "network", 2, (0.10, 0.60)),
        Cell("diamond_strut", "diamond of round struts", "strut", 3, (0.10, 0.50)),
        Cell(
            "dodecahedron_strut", "rhombic dodecahedron of round struts", "strut", 3, (0.10, 0.50)
        ),
    )
}
"""All cells by name."""

# Face-centred corners of a cubic cell, in cell edges.
_FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_TETRAHEDRON = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))


def cell_of(name: str) -> Cell:
    """The cell called ``name``; raises :class:`PlanError` for an unknown one."""
    if name not in CELLS:
        raise PlanError(f"Lattice cell {name!r} is not known; known are {sorted(CELLS)}.")
    return CELLS[name]


def struts_of(name: str) -> FloatArray:
    """(n, 6) centre lines (start, end) that belong to one cell; empty for cells without struts.

    Diamond: from each face-centred point to four of its eight tetrahedral neighbours. Rhombic
    dodecahedron: to all eight; these are the edges of the dodecahedra that fill space.
    """
    cell = cell_of(name)
    if cell.kind != "strut":
        return np.zeros((0, 6))
    ways = np.array(_TETRAHEDRON, dtype=np.float64)
    if name == "dodecahedron_strut":
        ways = np.concatenate([ways, -ways])
    centres = np.array(_FCC)
    start = np.repeat(centres, len(ways), axis=0)
    end = start + 0.25 * np.tile(ways, (len(centres), 1))
    return np.concatenate([start, end], axis=1)


@dataclass(frozen=True, eq=False)
class Tables:
    """What the compiled field of a cell needs: centre lines (n, 6) and which are near where."""

    segments: FloatArray
    start: npt.NDArray[np.int64]
    listed: npt.NDArray[np.int64]


@lru_cache(maxsize=16)
def tables(name: str) -> Tables:
    """Centre lines round the cell ``name`` and, for each part of it, those that can be nearest."""
    own = struts_of(name)
    if not len(own):
        return Tables(
            np.zeros((1, 6)), np.zeros((1, 1, 1, 2), dtype=np.int64), np.zeros(1, np.int64)
        )
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    around = (own[None] + np.tile(shifts, 2)[:, None]).reshape(-1, 6)
    middle = 0.5 * (around[:, :3] + around[:, 3:])
    around = around[(np.abs(middle - 0.5) < 1.0).all(axis=1)]
    grid = (np.arange(PARTS) + 0.5) / PARTS
    centres = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = _to_segments(centres, around)
    # From a part's centre to its corner: no other line can be nearest anywhere in the part.
    half = 0.5 * 3.0**0.5 / PARTS
    near = distance <= distance.min(axis=1, keepdims=True) + 2.0 * half + 1e-9
    count = near.sum(axis=1)
    stop = np.cumsum(count)
    start = np.stack([stop - count, stop], axis=1).reshape(PARTS, PARTS, PARTS, 2)
    return Tables(np.ascontiguousarray(around), start, np.nonzero(near)[1])


def _to_segments(points: FloatArray, segments: FloatArray) -> FloatArray:
    """(n, m) distances of points (n, 3) to segments (m, 6)."""
    a, d = segments[:, :3], segments[:, 3:] - segments[:, :3]
    t = ((points[:, None] - a) * d).sum(axis=2) / (d * d).sum(axis=1)
    nearest = a + np.clip(t, 0.0, 1.0)[..., None] * d
    return np.asarray(np.linalg.norm(points[:, None] - nearest, axis=2))


def values(name: str, points: npt.ArrayLike) -> FloatArray:
    """Field of cell ``name`` at ``points`` (n, 3) in cell edges; solid where it is below the level."""
    from sacroplan.lattice import _kernels
    from sacroplan.parallel import ALL_CORES

    cell, t = cell_of(name), tables(name)
    p = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
    with ALL_CORES:
        out = _kernels.cell_values(cell.code, p, t.segments, t.start, t.listed)
    return np.asarray(out)


def samples(name: str, n: int) -> FloatArray:
    """(n, n, n) field of one cell at the middles of n^3 voxels."""
    grid = (np.arange(n) + 0.5) / n
    points = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1)
    return values(name, points).reshape(n, n, n)


@lru_cache(maxsize=16)
def _levels(name: str) -> FloatArray:
    """(257,) level at densities 0, 1/256 ... 1, rising."""
    # Off the cell's symmetry planes, on which thousands of points share one value.
    grid = [(np.arange(SAMPLES) + shift) / SAMPLES for shift in (0.137, 0.419, 0.773)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)
    found = np.sort(values(name, points))
    count = len(found)
    # The k-th smallest value is reached when k - 1/2 of all samples lie below.
    table = np.interp(np.arange(257) / 256.0, (np.arange(count) + 0.5) / count, found)
    table.setflags(write=False)
    return np.asarray(table)


def level_table(name: str) -> FloatArray:
    """(257,) levels of cell ``name`` at equally spaced densities 0 to 1, never falling."""
    return _levels(cell_of(name).name)


def level_of(name: str, density: float) -> float:
    """Level at which cell ``name`` has relative ``density``.

    Raises :class:`PlanError` outside the densities at which solid and pore both hang together.
    """
    cell = cell_of(name)
    low, high = cell.densities
    if not low - 1e-9 <= density <= high + 1e-9:
        raise PlanError(
            f"A porosity of {100 * (1 - density):.3g} % was asked of the {cell.title}; it hangs together "
            f"and its properties are known from {100 * (1 - high):.3g} to {100 * (1 - low):.3g} %."
        )
    return float(np.interp(density, np.arange(257) / 256.0, _levels(name)))


def density_of(name: str, level: float) -> float:
    """Relative density of cell ``name`` at ``level``; the inverse of :func:`level_of`."""
    return float(np.interp(level, _levels(cell_of(name).name), np.arange(257) / 256.0))


def slope(name: str) -> float:
    """Typical gradient of the field per cell edge: turns a field value into a rough distance."""
    # Root mean square of both minimal surfaces' gradients, by the mean squares of their terms.
    return 1.0 if cell_of(name).kind == "strut" else float(2.0 * np.pi * np.sqrt(1.5))
