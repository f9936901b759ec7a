"""Pores and struts, measured by the spheres that fit.

Definitions (diameters):

- *throat*: the largest sphere that travels through the pore from one side to the other;
- *pore*: the largest sphere that fits anywhere into the pore space;
- *bar*: the largest sphere that travels through the solid from one side to the other. The thinnest place
  of the thickest way: for round struts and networks the strut's diameter at its waist;
- *wall*: 5th percentile, by volume, of the local thickness of the solid, which at a point is the
  diameter of the largest inscribed sphere that covers it.

A *strut* in the sense of a printer's limit is the bar of a network and the wall of a sheet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import FloatArray
from sacroplan.lattice.cells import cell_of, level_of, samples

RESOLUTION = 64
"""Grid points along a cell edge."""

WALL_PERCENTILE = 5.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Diameters in the unit of the grid's spacing: throat, pore, bar, wall (see the module)."""

    throat: float
    pore: float
    bar: float
    wall: float

    def strut(self, kind: str) -> float:
        """What a printer must be able to build: the wall of a sheet, the bar of anything else."""
        return self.wall if kind == "sheet" else self.bar

    def scaled(self, factor: float) -> Sizes:
        """All diameters times ``factor``."""
        return Sizes(*(factor * v for v in (self.throat, self.pore, self.bar, self.wall)))


def measure(distance: FloatArray, spacing: float, periodic: bool) -> Sizes:
    """Sizes of a signed distance (ni, nj, nk) on a grid, negative in the solid.

    Ways are sought along the first axis; ``periodic`` closes the grid on itself along all axes for
    spheres and along the other two for ways. Raises :class:`GeometryError` where a phase is missing.
    """
    pore = _widest(np.ascontiguousarray(distance, dtype=np.float64), periodic)
    solid = np.ascontiguousarray(-distance, dtype=np.float64)
    bar = _widest(solid, periodic)
    return Sizes(pore, 2.0 * float(distance.max()), bar, _wall(solid, spacing, periodic))


def _order(radius: FloatArray) -> npt.NDArray[np.int64]:
    """Numbers of the grid points inside a phase, by falling radius."""
    flat = radius.ravel()
    inside = np.flatnonzero(flat > 0.0)
    if not len(inside):
        raise GeometryError("A lattice without pore or without solid has no sizes to measure.")
    return np.asarray(inside[np.argsort(-flat[inside], kind="stable")])


def _widest(radius: FloatArray, periodic: bool) -> float:
    """Diameter of the largest sphere that travels through a phase along the first axis."""
    from sacroplan.lattice import _kernels

    way = _kernels.bottleneck(_order(radius), radius.ravel(), radius.shape, periodic)
    return 2.0 * float(way)


def _wall(radius: FloatArray, spacing: float, periodic: bool) -> float:
    """Local thickness that :data:`WALL_PERCENTILE` percent of a phase's volume fall short of."""
    from sacroplan.lattice import _kernels

    cover = np.zeros_like(radius)
    _kernels.local_thickness(_order(radius), radius, spacing, periodic, cover)
    if not periodic:
        # Near the border the spheres from beyond it are missing.
        rim = int(np.ceil(radius.max() / spacing))
        n = np.array(radius.shape)
        cut = [slice(rim, m - rim) if m > 3 * rim else slice(None) for m in n]
        cover, radius = cover[tuple(cut)], radius[tuple(cut)]
    return 2.0 * float(np.percentile(cover[radius > 0.0], WALL_PERCENTILE))


def crossings(field: FloatArray, level: float, spacing: float, periodic: bool) -> FloatArray:
    """(n, 3) points where the grid's edges cross the level of ``field`` (ni, nj, nk)."""
    out = []
    for axis in range(3):
        if periodic:
            a, b = field, np.roll(field, -1, axis=axis)
        else:
            a = np.take(field, range(field.shape[axis] - 1), axis=axis)
            b = np.take(field, range(1, field.shape[axis]), axis=axis)
        cut = (a < level) != (b < level)
        index = np.argwhere(cut).astype(np.float64)
        index[:, axis] += (level - a[cut]) / (b[cut] - a[cut])
        out.append(index)
    return np.asarray(np.concatenate(out) * spacing)


@lru_cache(maxsize=64)
def unit_sizes(name: str, density: float, resolution: int = RESOLUTION) -> Sizes:
    """Sizes of cell ``name`` at ``density``, in cell edges, on its own exact field."""
    from scipy.spatial import cKDTree

    level = level_of(name, density)
    field = samples(cell_of(name).name, resolution)
    h = 1.0 / resolution
    # Exact distances to the points where grid lines pierce the surface: a hair too long between them.
    tree = cKDTree(np.mod(crossings(field, level, h, True), 1.0), boxsize=1.0)
    grid = np.arange(resolution) * h
    nodes = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
    d = tree.query(nodes)[0].reshape(field.shape)
    return measure(np.where(field < level, -d, d), h, True)


def sizes_in_window(
    centres: FloatArray,
    normals: FloatArray,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    spacing: float,
) -> tuple[Sizes, float]:
    """Sizes and relative density inside a box of a generated surface.

    Only its triangles are used, ``centres`` (n, 3) with outward unit ``normals`` (n, 3), not the field that
    made them; those beyond the box by the size of a pore should be given too. The box holds whole cells,
    so that its density is the lattice's. Ways are sought along the first axis.
    """
    from scipy.spatial import cKDTree

    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    count = np.maximum(np.rint((high - low) / spacing).astype(int), 2)
    axes = [
        a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in zip(low, high, count, strict=True)
    ]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    d, nearest = cKDTree(centres).query(nodes.reshape(-1, 3))
    outward = np.einsum("ij,ij->i", nodes.reshape(-1, 3) - centres[nearest], normals[nearest])
    signed = np.where(outward < 0.0, -d, d).reshape(nodes.shape[:3])
    return measure(signed, spacing, False), float((signed < 0.0).mean())
