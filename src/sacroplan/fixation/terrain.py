"""What a search for corridors runs on: the bone and its doors, the entry field, what to keep clear of.

Everything is in *local* axes (x anterior, y cranial, z lateral of the side planned).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.fixation.bone import Bone
from sacroplan.geometry import frames
from sacroplan.geometry.frames import FloatArray, perpendicular
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.geometry.tree import FaceTree, face_tree
from sacroplan.geometry.volume import VolumeGeometry, grid_around

FIELD_MM = 1.25
"""Grid of the sweep's field; exact refinement follows, so it must only lead to the right hill."""

FREE_WAY_START_MM = 3.0
"""Behind the entry the driver's way is looked at from here on; nearer, the entry's own cortex is met."""

RIM_MM = 8.0
"""An oblique entry's higher side meets the rim of the driver up to so far behind the axis's start."""


@dataclass(frozen=True, eq=False)
class Keep:
    """Segments (n, 3) to (n, 3) that an axis must keep ``mm`` (n,) away from: screws, wires, the
    femoral head (a segment of no length), the notch's apex."""

    starts: FloatArray
    ends: FloatArray
    mm: FloatArray

    @staticmethod
    def of(rows: Sequence[tuple[FloatArray, FloatArray, float]]) -> Keep:
        """From (start, end, distance of the axis) rows."""
        a = np.array([r[0] for r in rows], dtype=np.float64).reshape(-1, 3)
        b = np.array([r[1] for r in rows], dtype=np.float64).reshape(-1, 3)
        return Keep(a, b, np.array([r[2] for r in rows], dtype=np.float64))

    def clear(
        self, starts: FloatArray, ends: FloatArray, slack_mm: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """(n,) whether axes from ``starts`` to ``ends`` (n, 3) keep all distances."""
        from sacroplan.fixation._exact_kernels import clear_of

        out = np.empty(len(starts), dtype=np.bool_)
        clear_of(
            np.ascontiguousarray(starts), np.ascontiguousarray(ends), self.starts, self.ends,
            np.maximum(self.mm - slack_mm, 0.0), out,
        )  # fmt: skip
        return out


@dataclass(frozen=True, eq=False)
class Window:
    """Where entries may lie and axes may point, local axes.

    Attributes
    ----------
    centre : (3,) of the entry field; low, high : (3,) its box about it, in the columns of ``axes``.
    aim : (3,) usual direction; within ``free_deg`` of it directions cost nothing, beyond ``penalty``
        mm per degree, beyond ``cone_deg`` none is looked at.
    skip_mm : clearance counts from here behind the entry.
    """

    centre: FloatArray
    axes: FloatArray
    low: FloatArray
    high: FloatArray
    aim: FloatArray
    cone_deg: float
    free_deg: float
    penalty: float
    skip_mm: float

    def has(self, points: FloatArray) -> npt.NDArray[np.bool_]:
        """(n,) whether points (n, 3) lie in the entry field."""
        p = (points - self.centre) @ self.axes
        return np.asarray(np.all((p >= self.low) & (p <= self.high), axis=1))

    def cost(self, directions: FloatArray) -> FloatArray:
        """(m,) cost of directions (m, 3); inf beyond the cone."""
        off = np.degrees(np.arccos(np.clip(directions @ self.aim, -1.0, 1.0)))
        cost = self.penalty * np.maximum(0.0, off - self.free_deg)
        return np.where(off > self.cone_deg + 1e-9, np.inf, cost)


@dataclass(frozen=True)
class Driver:
    """A straight driver: its shaft's radius, and how far behind the entry its way must be free, mm."""

    radius_mm: float
    way_mm: float


@dataclass(frozen=True, eq=False)
class Ground:
    """What a search runs on: the bone, where its outside may be entered, obstacles to the driver.

    ``doors`` is a tree over the surface that entries lie on; ``scenery`` over all bone near by, which
    must leave the ``driver`` its way; without one only the bone counts.
    """

    bone: Bone
    doors: FaceTree
    scenery: FaceTree
    driver: Driver | None = None


def ground(
    bone: Bone,
    doors: Sequence[Surface],
    scenery: Sequence[Surface],
    driver: Driver | None = None,
) -> Ground:
    """Prepare trees for entries and for the driver's way."""
    return Ground(
        bone, face_tree(concatenate(list(doors))), face_tree(concatenate(list(scenery))), driver
    )


def cone(aim: FloatArray, half_deg: float, step_deg: float) -> FloatArray:
    """Directions (m, 3) within ``half_deg`` of ``aim``, about ``step_deg`` apart."""
    u = perpendicular(aim)
    return frames.cone(aim, u, np.cross(aim, u), half_deg, step_deg)


def entries(field: Ground, window: Window, step_mm: float) -> FloatArray:
    """Points (n, 3) of the outer surface in the entry field, about ``step_mm`` apart, as met by
    lines along the usual direction."""
    u = perpendicular(window.aim)
    v = np.cross(window.aim, u)
    corners = np.array(
        [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64
    )
    box = (window.low + corners * (window.high - window.low)) @ window.axes.T
    reach_u, reach_v = np.abs(box @ u).max(), np.abs(box @ v).max()
    a = np.arange(-reach_u, reach_u + step_mm, step_mm)
    b = np.arange(-reach_v, reach_v + step_mm, step_mm)
    a, b = (m.ravel() for m in np.meshgrid(a, b, indexing="ij"))
    back = float(np.abs(box @ window.aim).max()) + 30.0
    origin = window.centre + a[:, None] * u + b[:, None] * v - back * window.aim
    return first_met(field, origin, np.broadcast_to(window.aim, origin.shape), window)[0]


def first_met(
    field: Ground, origins: FloatArray, directions: FloatArray, window: Window
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Entry points where lines first meet the doors inside the window's field; which lines do."""
    distance, _ = field.doors.first_hits(origins, directions, 0.0)
    met = np.isfinite(distance)
    points = origins + np.where(met, distance, 0.0)[:, None] * directions
    met &= window.has(points)
    return np.ascontiguousarray(points[met]), met


def sweep_field(
    field: Ground, window: Window, longest_mm: float
) -> tuple[VolumeGeometry, npt.NDArray[np.float32]]:
    """Grid over everything an axis of the window can reach, and its depth (float32)."""
    corners = np.array(
        [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64
    )
    box = window.centre + (window.low + corners * (window.high - window.low)) @ window.axes.T
    rim = cone(window.aim, window.cone_deg, window.cone_deg / 2.0)
    far = (box[:, None] + longest_mm * rim).reshape(-1, 3)
    reach = np.concatenate([box, far])
    # Axes are straight and stay between their ends; outside the bone there is nothing to find.
    low = np.min([s.bounds[0] for s in field.bone.solids], axis=0) - 2.0
    high = np.max([s.bounds[1] for s in field.bone.solids], axis=0) + 2.0
    grid = grid_around(np.clip(reach, low, high), FIELD_MM, 2.0, field.bone.frame)
    return grid, field.bone.depth(grid)


def open_ways(field: Ground, entry: FloatArray, direction: FloatArray) -> npt.NDArray[np.bool_]:
    """(n,) whether the ground's driver can come from behind to entries (n, 3): no bone in its way.

    Looked at along the axis and eight lines of the shaft. All true without a driver.
    """
    p = np.asarray(entry, dtype=np.float64).reshape(-1, 3)
    d = np.asarray(direction, dtype=np.float64).reshape(-1, 3)
    out = np.ones(len(p), dtype=np.bool_)
    if field.driver is None or not len(p):
        return out
    u = np.cross(d, np.eye(3)[np.argmin(np.abs(d), axis=1)])
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(d, u)
    turn = 2.0 * np.pi * np.arange(8) / 8
    ring = np.cos(turn)[:, None] * u[:, None] + np.sin(turn)[:, None] * v[:, None]
    lines = np.concatenate([np.zeros((len(p), 1, 3)), field.driver.radius_mm * ring], axis=1)
    origins = (p[:, None] + lines).reshape(-1, 3)
    back = np.repeat(-d, 9, axis=0)
    distance, _ = field.scenery.first_hits(origins, back, FREE_WAY_START_MM, field.driver.way_mm)
    # The rim of the driver starts at the height of an oblique entry's higher side.
    start = FREE_WAY_START_MM + np.where(np.arange(9) == 0, 0.0, RIM_MM)
    distance = distance.reshape(-1, 9)
    return np.asarray(~np.any(np.isfinite(distance) & (distance > start), axis=1))
