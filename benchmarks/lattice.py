"""Porous layers: speed and memory of the triangles, and microgen from PyPI on the same layer.

Usage::

    .venv/bin/python benchmarks/lattice.py [python of an environment with microgen]

Each measurement runs in a process of its own, so that its peak memory is its own. Writes the section
"Porous layers" of docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CELL_MM, DENSITY, GRID_MM = 1.03, 0.30, 0.07
LAYER, LARGE = (40.0, 30.0, 3.0), (78.1, 78.1, 2.0)
PEER_CELLS = (39, 29, 3)
"""Whole cells in 40 x 30 x 3 mm; microgen holds the layer as an unstructured grid of 5 GB."""
MARK = "## Porous layers"

OURS = """
import json, resource, sys, time
import numpy as np
size, cell, density, grid, way, path = json.loads(sys.argv[1])
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.lattice.layer import fill, solidify
from sacroplan.formats.stl import write_stl_blocks
from sacroplan.formats.threemf_lattice import write_3mf_blocks, write_3mf_slices
from sacroplan.lattice.slices import build_axes, sliced, slices
from sacroplan.manufacture.layers import check_layer
at = AxisFrame("layer", np.zeros(3), np.eye(3))
body = box(at, np.zeros(3), np.array(size))
def work(body, path):
    layer = fill(body, None, "gyroid_network", cell, density, rim_mm=0.0, normal=[0, 0, 1])
    if way == "slices":
        stack = sliced(layer, grid, 0.05, build_axes([0, 0, 1]))
        return write_3mf_slices("layer", body, slices(stack), path, "layer"), stack
    solid = solidify(layer, grid)
    if way == "stl":
        return write_stl_blocks(solid.blocks(), path, "layer"), solid
    if way == "3mf":
        return write_3mf_blocks("layer", solid.blocks(), path, "layer"), solid
    check = check_layer("layer", solid, "triangles")
    assert check.closed
    return check.triangles, solid
work(box(at, np.zeros(3), np.array([4.0, 4.0, 3.0])), path)  # compiles, or reads what was compiled
start, began = time.perf_counter(), time.process_time()
count, solid = work(body, path)
seconds, cpu = time.perf_counter() - start, time.process_time() - began
volume = float(np.prod(size))
gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"seconds": seconds, "cpu": cpu, "count": count,
                  "density": solid.surface().volume_mm3 / volume if way == "stl" and volume < 5e3 else None,
                  "gb": gb}))
"""

THEIRS = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (18 * 2**30, 18 * 2**30))
cells, cell, density, points, path = json.loads(sys.argv[1])
import microgen
start, began = time.perf_counter(), time.process_time()
shape = microgen.Tpms(
    surface_function=microgen.surface_functions.gyroid, density=density, cell_size=cell,
    repeat_cell=cells, resolution=points,
)
part = shape.generate_vtk("upper skeletal", algo_resolution=points)
part.triangulate().save(path)
volume = cells[0] * cells[1] * cells[2] * cell**3
seconds, cpu = time.perf_counter() - start, time.process_time() - began
print(json.dumps({"seconds": seconds, "cpu": cpu, "count": part.n_cells,
                  "density": abs(part.triangulate().volume) / volume,
                  "closed": bool(part.is_manifold),
                  "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
"""


def run(code: str, argument: object, python: str = sys.executable) -> dict[str, float]:
    env = dict(os.environ, PYTHONPATH=str(ROOT / "src"))
    out = subprocess.run(
        [python, "-c", code, json.dumps(argument)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    if out.returncode:
        raise SystemExit(out.stderr[-2000:])
    found: dict[str, float] = json.loads(out.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    rows = []

    def put(what: str, found: dict[str, float], seconds: float, unit: str = "triangles") -> None:
        rows.append(
            f"| {what} | {found['count'] / 1e6:.2f} M {unit} | {found['cpu']:.1f} s | "
            f"{found['seconds']:.1f} s | {seconds:g} s | {found['cpu'] / seconds:.2f} | "
            f"{found['gb']:.2f} GB |"
        )

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "layer")

        def ours(size: tuple[float, ...], cell: float, way: str) -> dict[str, float]:
            return run(OURS, [size, cell, DENSITY, GRID_MM, way, path])

        put("40 x 30 x 3 mm, watertight, measured", ours(LAYER, CELL_MM, "check"), 20.0)
        put("40 x 30 x 3 mm, binary STL", ours(LAYER, CELL_MM, "stl"), 20.0)
        put("40 x 30 x 3 mm, 3MF", ours(LAYER, CELL_MM, "3mf"), 60.0)
        found = ours(LAYER, CELL_MM, "slices")
        rows.append(
            f"| 40 x 30 x 3 mm, 3MF slices of 0.05 mm | {found['count']} slices | {found['cpu']:.1f} s | "
            f"{found['seconds']:.1f} s | 30 s | {found['cpu'] / 30.0:.2f} | {found['gb']:.2f} GB |"
        )
        put("61 cm2 x 2 mm, binary STL", ours(LARGE, 1.0, "stl"), 60.0)
        lines = [
            MARK,
            "",
            f"`benchmarks/lattice.py`, {platform.machine()}, two cores: skeletal gyroid, cell {CELL_MM} mm "
            f"(1 mm for 61 cm2), density {DENSITY}, grid {GRID_MM} mm. Processor time is the sum over both "
            "cores, an upper bound of the clock on an idle machine. Peak memory of the process; 3 GB is "
            "the limit.",
            "",
            "| what | size | processor | clock | limit | processor / limit | memory |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
        if len(sys.argv) > 1:
            points = round(CELL_MM / GRID_MM)
            size = tuple(n * CELL_MM for n in PEER_CELLS)
            theirs = run(THEIRS, [PEER_CELLS, CELL_MM, DENSITY, points, path + ".stl"], sys.argv[1])
            mine = ours(size, CELL_MM, "stl")
            lines += [
                "",
                "Side by side with microgen (PyPI, its own environment) on "
                f"{' x '.join(str(n) for n in PEER_CELLS)} cells, {points} points a cell, from nothing to "
                "the STL file:",
                "",
                "| program | triangles | processor | clock | memory | density of the surface (0.30 wanted) |",
                "|---|---|---|---|---|---|",
            ]
            for name, one in (("sacroplan", mine), ("microgen", theirs)):
                lines.append(
                    f"| {name} | {one['count'] / 1e6:.2f} M | {one['cpu']:.2f} s | {one['seconds']:.2f} s | "
                    f"{one['gb']:.2f} GB | "
                    f"{one['density']:.3f} |"
                )
            lines.append("")
            lines.append(
                f"microgen takes {theirs['cpu'] / mine['cpu']:.0f} times the processor time."
            )
    page = ROOT / "docs" / "benchmarks.md"
    before = page.read_text("utf-8")
    start = before.find(MARK)
    rest = "" if start < 0 else before[start + len(MARK) :]
    after = rest[rest.find("\n## ") :] if "\n## " in rest else ""
    text = (
        (before if start < 0 else before[:start]).rstrip()
        + "\n\n"
        + "\n".join(lines)
        + "\n"
        + after
    )
    page.write_text(text, "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
