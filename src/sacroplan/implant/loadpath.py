"""Sections of the core along the way that load takes from the vertebra to each seat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.booleans import to_manifold
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, unit
from sacroplan.geometry.slicing import CrossSection, section
from sacroplan.geometry.surface import Surface
from sacroplan.implant.seats import Seats

STEP_MM = 3.0
"""Distance between sections."""

BLOCK_MM = 30.0
"""An L5 endplate is some 56 mm wide [DIM-13]: further out it is the wings that are cut."""

NEAR_SEAT_MM = 2.0
"""The porous layer and the edge radius end the core here; sections begin behind them."""


@dataclass(frozen=True, eq=False)
class Path:
    """Sections of one path.

    Attributes
    ----------
    name : ``block`` or the seat it leads to. at_mm : (n,) way along the path.
    area_mm2 : (n,) section of the piece that carries the path. modulus_mm3 : (n,) least section modulus
        against bending up and down (block: forwards and backwards). points : (n, 3).
    """

    name: str
    at_mm: FloatArray
    area_mm2: FloatArray
    modulus_mm3: FloatArray
    points: FloatArray

    @property
    def thinnest(self) -> int:
        """Number of the least section."""
        return int(np.argmin(self.area_mm2))

    @property
    def neck(self) -> float:
        """Least of: a section over the smaller of the largest ones within a reach before and behind it.

        1 where the path nowhere narrows between two wider places; a flare towards a seat is no neck.
        """
        reach = evidence.value("SP-IMP-10", "reach")
        away = self.at_mm[None, :] - self.at_mm[:, None]
        sides = [
            np.where((s * away > 0.0) & (s * away <= reach), self.area_mm2[None, :], 0.0).max(
                axis=1
            )
            for s in (-1.0, 1.0)
        ]
        wide = np.minimum(*sides)
        inner = wide > 0.0
        return float(min(1.0, (self.area_mm2[inner] / wide[inner]).min())) if inner.any() else 1.0


def paths(core: Surface, seats: Seats, hub: AxisFrame, porous_mm: float) -> tuple[Path, ...]:
    """Block, one path a wing. Design frame throughout."""
    solid = to_manifold(core, "the implant core")
    out = []
    for side, wing in seats.wings.items():
        t = np.linspace(0.0, 1.0, 201)
        line = np.stack(wing.centre(t), axis=1)
        out.append(_path(f"wing_{side}", line, core, solid, porous_mm, np.array([0.0, 1.0, 0.0])))
    top = seats.plate.to_world(seats.plate.centroid_uv)
    # From the endplate down to the wings' upper side.
    line = top + np.linspace(0.0, 1.0, 101)[:, None] * (seats.middle - top)
    out.append(_path("block", line, core, solid, porous_mm, np.array([1.0, 0.0, 0.0]), top=True))
    return tuple(out)


def _path(
    name: str, line: FloatArray, core: Surface, solid: Any, porous_mm: float, across: FloatArray,
    top: bool = False,
) -> Path:  # fmt: skip
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    skip = porous_mm + NEAR_SEAT_MM
    first, last = (skip + 1.0, way[-1]) if top else (0.0, way[-1] - skip)
    at = np.linspace(first, last, max(4, int(np.ceil((last - first) / STEP_MM)) + 1))
    points = np.stack([np.interp(at, way, line[:, k]) for k in range(3)], axis=1)
    tangent = np.stack([np.interp(at, way, np.gradient(line[:, k], way)) for k in range(3)], axis=1)
    area, modulus = np.empty(len(at)), np.empty(len(at))
    for n in range(len(at)):
        plane = Plane(points[n], unit(tangent[n]), core.frame)
        area[n], modulus[n] = _section(section(core, plane, across, solid), points[n], across, top)
    return Path(name, at, area, modulus, points)


def _section(
    cut: CrossSection, point: FloatArray, across: FloatArray, top: bool
) -> tuple[float, float]:
    """Area, and section modulus about the axis through the centroid square to ``across``.

    Of the block (``top``) every piece within :data:`BLOCK_MM` counts, as a window parts it in two; of a
    wing the piece that the path runs through.
    """
    import manifold3d

    if not cut.loops:
        return 0.0, 0.0
    region = manifold3d.CrossSection(list(cut.loops), manifold3d.FillRule.Positive)
    here = cut.to_plane(point[None])[0]
    if top:
        turn = 2.0 * np.pi * np.arange(48) / 48
        disc = here + BLOCK_MM * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        region = region ^ manifold3d.CrossSection([disc])
        if region.is_empty():
            return 0.0, 0.0
    best: tuple[float, list[FloatArray]] | None = None
    for piece in [region] if top else region.decompose():
        loops = [np.asarray(q, dtype=np.float64) for q in piece.to_polygons()]
        gap = min(float(np.linalg.norm(q - here, axis=1).min()) for q in loops)
        # A path may run through a cavity or a window: the piece round it is the one that carries.
        outer = loops[int(np.argmax([abs(_area(q)) for q in loops]))]
        gap = 0.0 if _holds(outer, here) else gap
        if best is None or gap < best[0]:
            best = (gap, loops)
    assert best is not None
    loops = best[1]
    area = sum(_area(q) for q in loops)
    if area < 1e-6:
        return 0.0, 0.0
    v = cut.axes[:, :2].T @ across
    v = v / max(float(np.linalg.norm(v)), 1e-9)
    first, second = 0.0, 0.0
    for q in loops:
        a, b = q @ v, np.roll(q, -1, axis=0) @ v
        cross = q[:, 0] * np.roll(q[:, 1], -1) - np.roll(q[:, 0], -1) * q[:, 1]
        first += float(((a + b) * cross).sum()) / 6.0
        second += float(((a * a + a * b + b * b) * cross).sum()) / 12.0
    middle = first / area
    heights = np.concatenate([q @ v for q in loops])
    reach = max(float(heights.max()) - middle, middle - float(heights.min()))
    return float(area), float((second - area * middle * middle) / max(reach, 1e-9))


def _area(loop: FloatArray) -> float:
    x, y = loop[:, 0], loop[:, 1]
    return float(0.5 * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _holds(loop: FloatArray, point: FloatArray) -> bool:
    a, b = loop, np.roll(loop, -1, axis=0)
    crosses = (a[:, 1] <= point[1]) != (b[:, 1] <= point[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        x = a[:, 0] + (point[1] - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
    return bool(np.count_nonzero(crosses & (point[0] < x)) % 2)
