"""The donor fibula: its centreline from the ankle to the knee, and what of it may be harvested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import from_manifold, to_manifold
from sacroplan.geometry.frames import FloatArray, Plane, unit
from sacroplan.geometry.primitives import tube
from sacroplan.geometry.slicing import CrossSection, section
from sacroplan.geometry.surface import Surface
from sacroplan.grafts.strut import nearest_loops

STEP_MM = 4.0
"""Distance of the sections that make the centreline; a fibula bends over centimetres."""

SMOOTH = 3
"""Sections over which the centreline is averaged: the triangular section turns along the shaft."""

ENDS_MM = 6.0
"""No section nearer to the ends of the bone, where it tapers to a point."""


@dataclass(frozen=True, eq=False)
class Donor:
    """A fibula with stations along it.

    Attributes
    ----------
    surface : closed outer surface. station_mm : (n,) distance from the distal tip along the axis.
    centres : (n, 3) middles of the sections at these stations.
    axis : (3,) unit vector from ankle to knee. origin : (3,) the distal tip's projection on the axis.
    length_mm : from tip to tip along the axis.
    """

    surface: Surface
    station_mm: FloatArray
    centres: FloatArray
    axis: FloatArray
    origin: FloatArray
    length_mm: float
    _solid: list[Any] = field(default_factory=list, init=False, repr=False)

    @property
    def solid(self) -> Any:
        """The surface as a manifold3d solid, built once."""
        if not self._solid:
            self._solid.append(to_manifold(self.surface, "the donor fibula"))
        return self._solid[0]

    def section(self, plane: Plane) -> CrossSection:
        """Section of the bone by a plane, of the loop nearest to the plane's point."""
        return nearest_loops(section(self.surface, plane, solid=self.solid))

    def piece(self, cuts: Sequence[Plane]) -> Surface:
        """What lies behind every cut (normals out of the piece); raises where nothing does."""
        solid = self.solid
        for cut in cuts:
            n = -cut.normal
            solid = solid.trim_by_plane(tuple(n), float(n @ cut.point))
        if solid.is_empty():
            raise PlanError("A strut has no length between its seats.")
        return from_manifold(solid, self.frame)

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.surface.frame

    @property
    def window_mm(self) -> tuple[float, float]:
        """Stations between which bone may be taken [FIB-02]."""
        low = evidence.value("FIB-02", "distal")
        return low, self.length_mm - evidence.value("FIB-02", "proximal")

    @property
    def radius_mm(self) -> float:
        """Half the largest width of the shaft in its window."""
        low, high = self.window_mm
        widths = []
        for s in np.linspace(low, high, 5):
            loop = self.section(Plane(self.centre(s), self.axis, self.frame)).loops[0]
            widths.append(float(np.linalg.norm(loop[:, None] - loop[None], axis=2).max()))
        return 0.5 * max(widths)

    def centre(self, station_mm: float | FloatArray) -> FloatArray:
        """Point(s) of the centreline at a station: (3,) or (n, 3)."""
        s = np.asarray(station_mm, dtype=np.float64)
        out = [np.interp(s, self.station_mm, self.centres[:, k]) for k in range(3)]
        return np.stack(out, axis=-1)

    def stations_of(self, points: FloatArray) -> FloatArray:
        """Stations (n,) of points (n, 3)."""
        return np.asarray((np.asarray(points) - self.origin) @ self.axis)

    def chord_end(self, start_mm: float, chord_mm: float) -> float:
        """Station whose middle lies ``chord_mm`` from the middle at ``start_mm``, further proximal."""
        s = np.arange(start_mm, self.station_mm[-1] + 0.25, 0.25)
        reach = np.linalg.norm(self.centre(s) - self.centre(start_mm), axis=1)
        beyond = np.flatnonzero(reach >= chord_mm)
        if not len(beyond):
            raise PlanError(
                f"From {start_mm:.0f} mm above the ankle the fibula does not hold a segment of "
                f"{chord_mm:.0f} mm; it is {self.length_mm:.0f} mm long. Use fewer or shorter segments."
            )
        n = int(beyond[0])
        if n == 0:
            return float(s[0])
        a, b = reach[n - 1], reach[n]
        return float(s[n - 1] + 0.25 * (chord_mm - a) / (b - a))


def synthetic_fibula(frame: str) -> Surface:
    """A plain bowed shaft of the size of SP-GRAFT-10, ankle at the origin, knee along z: for examples.

    It is no patient's; measure the donor on a CT of both legs.
    """
    length, bow = evidence.value("SP-GRAFT-10", "length"), evidence.value("SP-GRAFT-10", "bow")
    t = np.linspace(0.0, 1.0, 73)
    path = np.stack([bow * np.sin(np.pi * t), 0.0 * t, length * t], axis=1)
    return tube(path, 0.5 * evidence.value("SP-GRAFT-10", "diameter"), 64, frame)


def donor_of(surface: Surface, proximal: FloatArray) -> Donor:
    """A donor from its closed outer surface; ``proximal`` (3,) points from the ankle to the knee.

    The direction need not be exact: it only tells the two ends apart. Raises :class:`PlanError` where
    the surface is no long bone.
    """
    surface.require_closed("the donor fibula")
    v = surface.vertices
    middle = v.mean(axis=0)
    _, spread, rows = np.linalg.svd(v - middle, full_matrices=False)
    axis = rows[0]
    if spread[0] < 4.0 * spread[1]:
        raise PlanError(
            "The donor's surface is not a long bone: it is less than four times as long as wide. "
            "Give the surface of one fibula."
        )
    lean = float(axis @ unit(proximal))
    if abs(lean) < 0.3:
        raise PlanError(
            "The direction from ankle to knee lies across the donor bone, so its ends cannot be told "
            "apart; give the direction in which the bone runs."
        )
    axis = axis if lean > 0 else -axis
    along = (v - middle) @ axis
    low, high = float(along.min()), float(along.max())
    origin = middle + low * axis
    length = high - low
    if not 200.0 <= length <= 500.0:
        raise PlanError(
            f"The donor bone is {length:.0f} mm long; an adult fibula has 300 to 420 mm. Check that the "
            "surface is in millimetres and whole."
        )
    solid = to_manifold(surface, "the donor fibula")
    stations = np.arange(ENDS_MM, length - ENDS_MM, STEP_MM)
    centres = []
    for s in stations:
        plane = Plane(origin + s * axis, axis, surface.frame)
        centres.append(nearest_loops(section(surface, plane, solid=solid)).centroid)
    kernel = np.ones(SMOOTH) / SMOOTH
    pad = SMOOTH // 2
    smooth = np.stack(
        [
            np.convolve(np.pad(c, pad, mode="reflect", reflect_type="odd"), kernel, mode="valid")
            for c in np.asarray(centres).T
        ],
        axis=1,
    )
    return Donor(surface, stations, smooth, axis, origin, length)
