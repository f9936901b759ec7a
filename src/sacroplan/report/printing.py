"""The print chapter: what was checked on each part, and pictures of where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.report.model import Picture, ScenePart, Table
from sacroplan.report.render import render

SIZE = (1000, 750)

COLOURS = {
    "overhangs": ("#d98a2b", "orange"),
    "thin walls": ("#c62f3c", "red"),
    "trapped powder": ("#7b3fa0", "violet"),
    "crossing faces": ("#1f6fb5", "blue"),
    "open edges": ("#0b0b0b", "black"),
    "enclosed voids": ("#d13f9a", "pink"),
    "loose bodies": ("#2e8b57", "green"),
    "narrow holes": ("#00a3b4", "turquoise"),
}
"""Colour of each finding's marks and its name."""

MARK_MM = 0.7
"""Half the size of a mark."""


def marks(points: FloatArray, size_mm: float, frame: str) -> Surface:
    """A small octahedron at each point (n, 3)."""
    corners = np.array(
        [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64
    )
    faces = np.array(
        [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    )
    vertices = (points[:, None] + size_mm * corners).reshape(-1, 3)
    all_faces = (faces + 6 * np.arange(len(points))[:, None, None]).reshape(-1, 3)
    return Surface(vertices, all_faces.astype(np.int32), frame)


def print_pictures(
    prints: Any, surfaces: Mapping[str, Surface], view: AxisFrame
) -> tuple[Picture, ...]:
    """One picture a part on which something was found, its places marked; drawn from before and behind."""
    out = []
    for check in prints.checks:
        if not check.where or check.name not in surfaces:
            continue
        surface = surfaces[check.name]
        parts = [ScenePart("part", check.name, "part", surface, "#c9ced3")]
        words = []
        for n, place in enumerate(check.where):
            colour, word = COLOURS.get(place.name, ("#444444", "grey"))
            mark = marks(place.points, MARK_MM, surface.frame)
            parts.append(ScenePart(f"mark{n}", place.name, "marks", mark, colour))
            words.append(f"{place.name} {word} ({_range(place)})")
        title = check.name.replace("_", " ").capitalize()
        for preset, way in (("front", "from the front"), ("back", "from behind")):
            png = render(parts, view, SIZE, preset)  # type: ignore[arg-type]
            name = f"print-{check.name.replace('_', '-')}-{preset}"
            out.append(
                Picture(name, f"{title}: what was found, {way}", png, "; ".join(words) + ".")
            )
    return tuple(out)


def _range(place: Any) -> str:
    low, high = float(np.min(place.values)), float(np.max(place.values))
    if place.name == "overhangs":
        return f"up to {high:.0f} mm above what carries the supports"
    if place.name == "crossing faces":
        return f"{len(place.points)} marked"
    return f"{low:.2g} to {high:.2g} {place.unit}"


def print_tables(prints: Any) -> tuple[Table, ...]:
    """Parts, porous layers, and holes as they are."""
    tables = [_parts(prints)]
    if prints.layers:
        tables.append(_layers(prints))
    holes = [(c.name, h) for c in prints.checks for h in c.holes]
    if holes:
        rows = tuple(
            (
                h.name.replace("_", " "),
                f"{h.planned_mm:.2f} mm",
                _mm(h.measured_mm),
                f"{h.lying_deg:.0f} deg",
            )
            for _, h in holes
        )
        columns = ("Hole", "Planned", "Measured", "To the build direction")
        tables.append(Table("Holes", columns, rows))
    return tuple(tables)


def _mm(value: float | None) -> str:
    return "open" if value is None else f"{value:.2f} mm"


def _parts(prints: Any) -> Table:
    rows = []
    for c in prints.checks:
        walls = "-" if c.wall_share_mm is None else " / ".join(f"{w:.2f}" for w in c.wall_share_mm)
        rows.append(
            (c.name.replace("_", " "), c.process, "yes" if c.sound else "no",
             "-" if c.volume_mm3 is None else f"{c.volume_mm3 / 1000:.1f} cm3",
             "-" if c.mass_g is None else f"{c.mass_g:.0f} g", f"{c.area_mm2 / 100:.0f} cm2", walls,
             f"{c.overhang_percent:.0f} %", f"{c.support_mm3 / 1000:.1f} cm3",
             "-" if c.pockets is None else str(len(c.pockets.points)),
             " ".join(f"{v:.2f}" for v in c.build_direction))
        )  # fmt: skip
    columns = ("Part", "Process", "Sound", "Volume", "Mass", "Surface", "Walls p1 / p5 / p50, mm",
               "Overhang", "Supports", "Trapped powder", "Build direction, LPS")  # fmt: skip
    return Table(
        "Printed parts", columns, tuple(rows),
        "Sound: closed, one body, no crossing faces, no void. Porous bone faces stay as built; the set "
        "screws' threads are printed under size and tapped [AM-09].",
    )  # fmt: skip


def _layers(prints: Any) -> Table:
    rows = []
    for c in prints.layers:
        found = c.found
        rows.append(
            (c.name.replace("_", " "), c.cell.replace("_", " "),
             f"{c.wanted:.3f} / " + ("-" if c.measured is None else f"{c.measured:.3f}"),
             f"{1e3 * c.predicted.throat:.0f} / " + ("-" if found is None else f"{1e3 * found.throat:.0f}"),
             f"{1e3 * c.predicted_strut:.0f} / " + ("-" if found is None else f"{1e3 * c.strut_mm:.0f}"),
             f"{c.triangles / 1e6:.2f} M", c.form, f"{c.loose} / {c.closed_pores}")
        )  # fmt: skip
    columns = ("Layer", "Cell", "Density wanted / measured", "Throat cell / measured, um",
               "Strut cell / measured, um", "Triangles", "Written as", "Loose / closed")  # fmt: skip
    return Table(
        "Porous layers as generated", columns, tuple(rows),
        "Loose pieces are left out and pores without a way out filled, before the layer is written.",
    )  # fmt: skip
