"""Draw docs/images/lattice-*.png and print the table of docs/lattices.md::

.venv/bin/python tools/lattice_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box, cylinder
from sacroplan.lattice.cells import CELLS
from sacroplan.lattice.layer import fill, solidify
from sacroplan.lattice.properties import effective, sizes
from sacroplan.report.model import ScenePart
from sacroplan.report.render import render
from sacroplan.report.scene import DisplayMesh, open_sky, with_creases

IMAGES = Path(__file__).parent.parent / "docs" / "images"
AT = AxisFrame("left posterior superior", np.zeros(3), np.eye(3))
MODULUS, NU = 114_000.0, 0.34
ROWS = {
    "gyroid_network": ("LAT-01", "LAT-02"),
    "gyroid_sheet": ("LAT-03",),
    "diamond_network": (),
    "diamond_strut": ("LAT-04",),
    "dodecahedron_strut": ("LAT-05",),
}


def draw(name: str, parts: list[ScenePart], size: tuple[int, int] = (700, 560)) -> None:
    # Drawn as they are: a dossier's simplification of 0.1 mm would be a third of a strut.
    meshes = {}
    for part in parts:
        vertices, faces, normals = with_creases(part.surface)
        sky = open_sky(vertices, faces, normals)
        meshes[part.name] = DisplayMesh(vertices, faces, normals, sky, 0.0, True)
    (IMAGES / f"{name}.png").write_bytes(render(parts, AT, size, "oblique", meshes))


def cells() -> None:
    """Two cells an edge of each, at density 0.3."""
    for name in CELLS:
        body = box(AT, np.zeros(3), np.full(3, 2.0))
        layer = fill(body, None, name, 1.0, 0.3, rim_mm=0.0, normal=[0, 0, 1])
        s = solidify(layer, 0.04).surface()
        draw(
            f"lattice-{name.replace('_', '-')}",
            [ScenePart("cell", name, "cell", s, "#8d99a6", finish="metal")],
        )


def layers() -> None:
    """A layer with a bore on its core, whole and cut, and a graded one."""
    from sacroplan.geometry.booleans import difference

    bore = cylinder([8.0, 5.0, -9.0], [8.0, 5.0, 9.0], 2.0, 64)
    body = difference(box(AT, np.zeros(3), np.array([14.0, 10.0, 2.0])), bore)
    core = difference(box(AT, np.array([0.0, 0.0, -4.0]), np.array([14.0, 10.0, 0.0])), bore)
    layer = solidify(fill(body, core, "gyroid_network", 1.0, 0.3), 0.06).surface()
    parts = [
        ScenePart("layer", "layer", "layer", layer, "#c9973f"),
        ScenePart("core", "core", "core", core, "#8d99a6", finish="metal"),
    ]
    draw("lattice-layer", parts, (900, 640))
    body = box(AT, np.zeros(3), np.array([16.0, 4.0, 4.0]))
    graded = fill(
        body, None, "diamond_strut", 1.3, lambda p: np.interp(p[:, 0], [0.0, 16.0], [0.1, 0.45]),
        rim_mm=0.0, normal=[0, 0, 1],
    )  # fmt: skip
    s = solidify(graded, 0.06).surface()
    draw("lattice-graded", [ScenePart("layer", "layer", "layer", s, "#c9973f")], (900, 420))


def curves() -> None:
    """Modulus over density of each cell, with the handbook's laws where they are valid."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 5, figsize=(15, 3.4), sharey=True)
    for axis, (name, cell) in zip(axes, CELLS.items(), strict=True):
        x = np.linspace(*cell.densities, 60)
        p = [effective(name, float(d), MODULUS, NU) for d in x]
        axis.loglog(x, [q.e_mpa[0] / MODULUS for q in p], color="#1f4e79", label="along the cell")
        axis.loglog(x, [q.young_along([1, 1, 1]) / MODULUS for q in p], "--", color="#1f4e79",
                    label="along its diagonal")  # fmt: skip
        for row in ROWS[name]:
            c = evidence.quantity(row, "c")
            n = evidence.quantity(row, "n_exponent")
            if c.value is not None and n.value is not None:
                low, high = evidence.span(row, "relative_density")
                v = np.linspace(low, high, 30)
                axis.loglog(v, c.value * v**n.value, lw=3, alpha=0.5, label=row)
            else:
                v = np.linspace(0.1, 0.36, 30)
                a = (c.lower or 0) * v ** (n.upper or 0)
                b = (c.upper or 0) * v ** (n.lower or 0)
                axis.fill_between(v, a, b, alpha=0.25, label=row)
        axis.loglog(x, x, ":", color="#888888", label="Voigt")
        axis.set_title(cell.title, fontsize=9)
        axis.set_xlabel("relative density")
        axis.set_xticks([0.1, 0.2, 0.3, 0.6], ["0.1", "0.2", "0.3", "0.6"])
        axis.minorticks_off()
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("modulus / solid modulus")
    figure.tight_layout()
    figure.savefig(IMAGES / "lattice-modulus.png", dpi=110, metadata={"Software": None})


def table() -> None:
    print(
        "| cell | density | E / Es | G / Es | nu | Zener | E along diagonal / along cell | handbook |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, cell in CELLS.items():
        for density in (0.2, 0.3, 0.4):
            p = effective(name, density, MODULUS, NU)
            e = p.e_mpa[0] / MODULUS
            said = []
            for row in ROWS[name]:
                c, n = evidence.quantity(row, "c"), evidence.quantity(row, "n_exponent")
                if c.value is not None and n.value is not None:
                    law = c.value * density**n.value
                    said.append(f"{row} {law:.4f} ({100 * (e / law - 1):+.0f} %)")
                else:
                    a, b = (
                        (c.lower or 0) * density ** (n.upper or 0),
                        (c.upper or 0) * density ** (n.lower or 0),
                    )
                    said.append(f"{row} {a:.3f}-{b:.3f}")
            print(
                f"| {cell.title} | {density:.2f} | {e:.4f} | {p.g_mpa[0] / MODULUS:.4f} | {p.nu:.3f} | "
                f"{p.zener:.2f} | {p.young_along([1, 1, 1]) / p.e_mpa[0]:.2f} | {'; '.join(said) or '-'} |"
            )
    print()
    print("| cell | density | throat | largest pore | bar | wall (5 %) | of one cell edge |")
    print("|---|---|---|---|---|---|---|")
    for name, cell in CELLS.items():
        s = sizes(name, 0.3)
        print(
            f"| {cell.title} | 0.30 | {s.throat:.3f} | {s.pore:.3f} | {s.bar:.3f} | {s.wall:.3f} | |"
        )
    print()
    print(
        "| cell | c | n | in E / Es = c rho^n, least squares in the logarithms over 0.15 to 0.45 |"
    )
    print("|---|---|---|---|")
    for name, cell in CELLS.items():
        x = np.linspace(0.15, 0.45, 31)
        y = [effective(name, float(d), MODULUS, NU).e_mpa[0] / MODULUS for d in x]
        n, c = np.polyfit(np.log(x), np.log(y), 1)
        print(f"| {cell.title} | {np.exp(c):.2f} | {n:.2f} | |")


if __name__ == "__main__":
    table()
    curves()
    cells()
    layers()
