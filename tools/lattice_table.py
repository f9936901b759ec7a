"""Write src/sacroplan/lattice/properties.toml: stiffness and sizes of every cell over its densities.

Half an hour on two cores. Run it when a cell is added or its field changes::

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

GRID = 60
POISSON = (0.28, 0.36)
SIZE_GRID = 96
DENSITIES = (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.50, 0.60)
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
        for n, nu in enumerate(POISSON):
            start = time.perf_counter()
            rows = [cubic(name, d, nu, grid) for d in x]
            for m, key in enumerate(("c11", "c12", "c44")):
                put(f"{key}_{n}", [row[m] for row in rows])
            print(
                f"{name} nu {nu:g}: {time.perf_counter() - start:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    TARGET.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:3]))
