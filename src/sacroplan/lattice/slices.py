"""A layer as slices in the build direction: outlines, far lighter than triangles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sacroplan.geometry.frames import FloatArray, perpendicular, unit
from sacroplan.lattice.layer import PorousLayer, Solid, solidify
from sacroplan.lattice.marching import outlines


@dataclass(frozen=True, eq=False)
class Slice:
    """Closed outlines (n, 2), mm in the build frame, at the middle of a printed layer.

    ``bottom_mm`` and ``top_mm`` along the build direction. The solid lies on the outlines' left: outer
    ones run counter-clockwise, holes clockwise.
    """

    bottom_mm: float
    top_mm: float
    outlines: tuple[FloatArray, ...]

    @property
    def area_mm2(self) -> float:
        """Solid area."""
        return float(sum(_signed(ring) for ring in self.outlines))


def _signed(ring: FloatArray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def build_axes(up: FloatArray) -> FloatArray:
    """(3, 3) columns of a build frame whose z is ``up``: LPS = axes @ build coordinates."""
    z = unit(up)
    x = perpendicular(z)
    return np.column_stack([x, np.cross(z, x), z])


def sliced(layer: PorousLayer, spacing_mm: float, layer_mm: float, axes: FloatArray) -> Solid:
    """The layer on a grid whose planes are the middles of printed layers; ``axes`` of the build frame."""
    return solidify(layer, [spacing_mm, spacing_mm, layer_mm], axes, flat=True)


def slices(solid: Solid) -> Iterator[Slice]:
    """Slices from below, in the frame of the grid's own axes (build coordinates, mm)."""
    grid = solid.grid
    low = grid.direction.T @ grid.origin
    step = grid.spacing_mm
    k = 0
    for slab in solid.slabs():
        for plane in slab:
            middle = low[2] + k * step[2]
            rings = tuple(low[:2] + ring * step[:2] for ring in outlines(plane))
            if rings:
                yield Slice(float(middle - 0.5 * step[2]), float(middle + 0.5 * step[2]), rings)
            k += 1
