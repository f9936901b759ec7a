"""What fills a porous layer: a record that the print room turns into geometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError

CELL_SAMPLES = 48
"""Samples per unit cell for measuring struts and pores: 1/48 of 1 mm is 21 micrometres."""

TYPES = ("gyroid_network",)
"""Cells that can be defined. A sheet gyroid of the same density has walls too thin to print."""


@dataclass(frozen=True, slots=True)
class LatticeDefinition:
    """One porous layer's lattice.

    Attributes
    ----------
    cell_type : one of :data:`TYPES`; ``gyroid_network`` is solid where
        ``sin x cos y + sin y cos z + sin z cos x > level`` with x = 2 pi X / cell_mm, axes of the pelvis.
    cell_mm : edge of the cubic unit cell. level : of the inequality above.
    porosity : void share in [0, 1]. pore_um : largest sphere that passes through the network's throats.
    strut_um : largest sphere that passes through the solid. thickness_mm : of the layer.
    rows : evidence behind the numbers.
    """

    cell_type: str
    cell_mm: float
    level: float
    porosity: float
    pore_um: float
    strut_um: float
    thickness_mm: float
    rows: tuple[str, ...] = ("POR-1", "POR-3", "POR-4", "SP-IMP-09")

    @property
    def cells_through(self) -> float:
        """Unit cells through the layer's thickness."""
        return self.thickness_mm / self.cell_mm


def define(
    cell_mm: float, porosity: float, thickness_mm: float, cell_type: str = "gyroid_network"
) -> LatticeDefinition:
    """A lattice of given cell (mm) and porosity (0-1), with its pore and strut measured."""
    if cell_type not in TYPES:
        raise PlanError(f"Lattice cell {cell_type!r} is not known; known are {list(TYPES)}.")
    if not 0.4 <= porosity <= 0.9:
        raise PlanError(
            f"A porosity of {porosity:g} was asked; the gyroid network hangs together from 0.4 to 0.9."
        )
    level, pore, strut = _network_gyroid(round(porosity, 6))
    scale = 1000.0 * cell_mm
    return LatticeDefinition(
        cell_type, cell_mm, level, porosity, pore * scale, strut * scale, thickness_mm
    )


@lru_cache(maxsize=8)
def _network_gyroid(porosity: float) -> tuple[float, float, float]:
    """Level, throat and strut diameter of a unit cell, in cell edges."""
    from scipy.ndimage import distance_transform_edt

    n = CELL_SAMPLES
    x = 2.0 * np.pi * (np.arange(n) + 0.5) / n
    a, b, c = np.meshgrid(x, x, x, indexing="ij")
    g = np.sin(a) * np.cos(b) + np.sin(b) * np.cos(c) + np.sin(c) * np.cos(a)
    level = float(np.quantile(g, porosity))
    solid = np.tile(g > level, (3, 3, 3))
    m = slice(n // 2, n // 2 + 2 * n)  # two cells, away from the block's border
    diameters = []
    for phase in (~solid, solid):
        # A voxel centre's distance to the nearest centre across the wall is half a voxel too long.
        radius = distance_transform_edt(phase)[m, m, m] - 0.5
        diameters.append(2.0 * _percolation_radius(radius) / n)
    return level, diameters[0], diameters[1]


def _percolation_radius(radius: npt.NDArray[np.float64]) -> float:
    """Largest r for which ``radius >= r`` connects the two faces of the first axis."""
    from scipy.ndimage import label

    levels = np.unique(np.round(radius[radius > 0], 3))
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high + 1) // 2
        pieces, _ = label(radius >= levels[middle])
        crossing = np.intersect1d(pieces[0][pieces[0] > 0], pieces[-1][pieces[-1] > 0])
        low, high = (middle, high) if len(crossing) else (low, middle - 1)
    return float(levels[low])
