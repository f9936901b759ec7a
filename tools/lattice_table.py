"""Write src/sacroplan/lattice/properties.toml: stiffness and sizes of every cell over its densities.

Ten minutes on two idle cores. Run it when a cell is added or its field changes::

    .venv/bin/python tools/lattice_table.py [voxels an edge] [points an edge for sizes]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from sacroplan.lattice.cells import CELLS, level_of, samples, slope
from sacroplan.lattice.homogenise import cubic
from sacroplan.lattice.marching import march
from sacroplan.lattice.sizes import unit_sizes

GRID = 48
"""Voxels an edge; tests/validation/test_lattice_study.py compares 60 and 96 with it."""

RATIO_GRID = 24
"""Voxels an edge for what the solid's Poisson ratio changes: that ratio hardly knows the grid."""

RATIO_FROM = 0.2
"""Density below which a coarse grid does not show the cell; the ratio stays as it is there."""

POISSON = (0.28, 0.36)
SIZE_GRID = 32
DENSITIES = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.50, 0.60)
TARGET = Path(__file__).parent.parent / "src" / "sacroplan" / "lattice" / "properties.toml"


def area_per_volume(name: str, density: float, n: int = 64) -> float:
    """Surface per volume of a periodic cell, 1 / cell edge, from its facets."""
    level = level_of(name, density)
    field = samples(name, n)
    around = np.pad(field, (0, 1), mode="wrap")
    phi = ((around - level) / slope(name)).astype(np.float32)
    phi[phi == 0.0] = np.float32(1e-7)
    total = 0.0
    for block in march([phi], phi.shape):
        t = block.vertices[block.faces]
        total += 0.5 * float(
            np.linalg.norm(np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]), axis=1).sum()
        )
    return total / n**2


def _moduli(c: np.ndarray) -> np.ndarray:
    """(n, 3) bulk, shear and c44 of (n, 3) c11, c12, c44."""
    return np.column_stack([(c[:, 0] + 2 * c[:, 1]) / 3, (c[:, 0] - c[:, 1]) / 2, c[:, 2]])


def _scaled(fine: np.ndarray, wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """``fine`` (n, 3) times what a coarse grid says of ``wanted`` over ``known``."""
    bulk, shear, c44 = (_moduli(fine) * _moduli(wanted) / _moduli(known)).T
    return np.column_stack([bulk + 4 * shear / 3, bulk - 2 * shear / 3, c44])


def main(grid: int = GRID, size_grid: int = SIZE_GRID) -> None:
    """Write the table; smaller grids give a rough one in a minute."""
    lines = [
        "# Written by tools/lattice_table.py: do not edit. Stiffness per unit of the solid's modulus on",
        f"# {grid}^3 voxels (c11, c12, c44 at each Poisson ratio), diameters and surface per cell edge.",
        "",
        f"grid = {grid}",
        f"poisson = [{', '.join(f'{p:g}' for p in POISSON)}]",
    ]

    def put(key: str, row: list[float]) -> None:
        lines.append(f"{key} = [{', '.join(f'{v:.6g}' for v in row)}]")

    for name, cell in CELLS.items():
        x = [d for d in DENSITIES if cell.densities[0] <= d <= cell.densities[1]]
        lines += ["", f"[cells.{name}]"]
        put("density", x)
        sizes = [unit_sizes(name, d, size_grid) for d in x]
        for key in ("throat", "pore", "bar", "wall"):
            put(key, [getattr(s, key) for s in sizes])
        put("area", [area_per_volume(name, d) for d in x])
        start = time.perf_counter()
        fine = np.array([cubic(name, d, POISSON[1], grid) for d in x])
        coarse = [
            np.array([cubic(name, max(d, RATIO_FROM), nu, min(grid, RATIO_GRID)) for d in x])
            for nu in POISSON
        ]
        # Bulk, shear and c44 are carried over, each by its own ratio: c12 may be small.
        for n, stiffness in enumerate((_scaled(fine, coarse[0], coarse[1]), fine)):
            for m, key in enumerate(("c11", "c12", "c44")):
                put(f"{key}_{n}", stiffness[:, m].tolist())
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    TARGET.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:3]))
