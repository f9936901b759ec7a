"""Facets cut corners: the level at which a faceted lattice has the density that its field was asked for.

Chords of a 0.34 mm strut on a 0.07 mm grid lie inside it, and some 3 % of the solid would be missing. The
loss is measured on a few cells on the same grid, and the level is raised until it is made good.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray
from sacroplan.lattice.cells import cell_of, level_table, slope, values
from sacroplan.lattice.marching import march, outlines

CELLS_ALONG = 3
"""Edge of the block that is measured, in cells."""

LEVELS = 13
"""Levels between which the density is interpolated."""

FEWEST = 5.0
"""Points along a cell's edge below which facets are no picture of it."""


def faceted_levels(name: str, points: float, flat: bool = False) -> FloatArray:
    """(257,) levels of cell ``name`` at equally spaced densities 0 to 1 as facets on a grid give them.

    ``points`` of the grid along a cell's edge; ``flat`` for outlines in the grid's planes instead of
    facets. Raises :class:`PlanError` for a grid too coarse to show the cell.
    """
    if points < FEWEST:
        raise PlanError(
            f"A grid of {points:.1f} points along a cell was asked; at least {FEWEST:g} are needed."
        )
    return _faceted_levels(cell_of(name).name, round(points, 2), flat)


@lru_cache(maxsize=32)
def _faceted_levels(name: str, points: float, flat: bool) -> FloatArray:
    exact = level_table(name)
    h = 1.0 / points
    n = int(np.ceil(CELLS_ALONG * points)) + 4
    # Off the cell's own symmetry planes, as a layer's grid is.
    axis = h * (np.arange(n) - 1.5) + 0.137 * h
    k, j, i = np.meshgrid(axis, axis, axis, indexing="ij")
    field = values(name, np.stack([i, j, k], axis=-1)).reshape(n, n, n)
    high = float(CELLS_ALONG)
    outside = np.maximum.reduce([np.abs(c - 0.5 * high) for c in (i, j, k)]) - 0.5 * high
    low, top = (round(256 * d) for d in cell_of(name).densities)
    chosen = np.linspace(low, top, LEVELS)
    levels = np.interp(chosen, np.arange(257), exact)
    found = []
    for level in levels:
        phi = np.maximum((field - level) / slope(name), outside).astype(np.float32)
        found.append(_area(phi) if flat else _volume(phi))
    share = h**2 / high**2 / _planes(outside) if flat else h**3 / high**3
    density = share * np.array(found)
    # What the facets lose is a smooth function of the density; outside the cell's range it stays.
    loss = np.interp(np.arange(257), chosen, chosen / 256.0 - density)
    wanted = np.clip(np.arange(257) / 256.0 + loss, 0.0, 1.0)
    table = np.interp(wanted, np.arange(257) / 256.0, exact)
    table.setflags(write=False)
    return np.asarray(table)


def _planes(outside: FloatArray) -> int:
    """Planes of a grid that meet the block."""
    return int((outside.min(axis=(1, 2)) < 0.0).sum())


def _volume(phi: FloatArray) -> float:
    """Volume inside facets, in grid units."""
    total = 0.0
    for block in march([phi], phi.shape):  # type: ignore[list-item]
        t = block.vertices[block.faces]
        total += float(np.einsum("ij,ij->i", t[:, 0], np.cross(t[:, 1], t[:, 2])).sum()) / 6.0
    return total


def _area(phi: FloatArray) -> float:
    """Area inside the outlines of all planes, in grid units."""
    total = 0.0
    for plane in phi:
        for ring in outlines(plane):
            x, y = ring[:, 0], ring[:, 1]
            total += 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    return total
