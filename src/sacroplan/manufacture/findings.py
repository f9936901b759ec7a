"""Where on a part: supports, powder that cannot leave, holes, and the points behind every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.fields import inside_mask, near_faces
from sacroplan.geometry.frames import FloatArray, perpendicular, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.tree import FaceTree
from sacroplan.geometry.volume import grid_around

MOST_POINTS = 2000
"""Places kept of one finding: enough for a picture."""

MOST_VOXELS = 1_500_000
"""Grid of the search for trapped powder: seconds, and a tenth of a gigabyte."""

OPENING_VOXELS = 2.5
"""Voxels across the narrowest way out that the grid can judge."""

STATIONS = 15
"""Places along a hole at which it is measured."""

RAYS = 32
"""Directions in which a hole is measured."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where a finding is: ``points`` (n, 3) LPS mm and a figure ``values`` (n,) in ``unit`` at each."""

    name: str
    unit: str
    points: FloatArray
    values: FloatArray


def places(name: str, unit_: str, points: FloatArray, values: FloatArray) -> Places:
    """Places of a finding, evenly thinned to :data:`MOST_POINTS`."""
    step = max(1, -(-len(points) // MOST_POINTS))
    return Places(name, unit_, np.ascontiguousarray(points[::step]), np.asarray(values[::step]))


@dataclass(frozen=True, eq=False)
class Supports:
    """What hangs: ``faces`` (k,) that need support, ``height_mm`` (k,) from each down to the part or the

    plate, and the ``volume_mm3`` of straight supports below them.
    """

    faces: npt.NDArray[np.int64]
    height_mm: FloatArray
    volume_mm3: float


def supports(
    surface: Surface, tree: FaceTree, up: FloatArray, angle_deg: float | None, plate_mm: float
) -> Supports:
    """Faces flatter than ``angle_deg`` that look down, unless they stand on the plate, and what lies below.

    ``angle_deg`` None: powder carries everything.
    """
    if angle_deg is None:
        return Supports(np.zeros(0, dtype=np.int64), np.zeros(0), 0.0)
    up = unit(up)
    vectors = surface.area_vectors
    area = np.linalg.norm(vectors, axis=1)
    along = vectors @ up
    down = np.nonzero(along < (-np.cos(np.deg2rad(angle_deg)) - 1e-9) * area)[0]
    height = surface.vertices @ up
    low = float(height.min())
    down = down[~(height[surface.faces[down]] < low + plate_mm).all(axis=1)]
    centres = surface.triangles[down].mean(axis=1)
    ways = np.broadcast_to(-up, centres.shape)
    below, _ = tree.first_hits(centres, np.ascontiguousarray(ways), 1e-6)
    reach = np.minimum(below, centres @ up - low)
    return Supports(down, np.asarray(reach), float((-along[down] * reach).sum()))


@dataclass(frozen=True, eq=False)
class Pockets:
    """Room from which powder has no way out as wide as ``opening_mm``: enclosed voids and bottle necks.

    ``points`` (n, 3) the middle of each, ``room_mm3`` (n,) where a grain of that size can be.
    """

    opening_mm: float
    points: FloatArray
    room_mm3: FloatArray


def pockets(surface: Surface, opening_mm: float) -> Pockets:
    """Search a closed part for trapped powder, on a grid as fine as the part's size allows.

    A ball as wide as the opening is rolled in from outside; room it fits into but cannot reach is a
    pocket. On a large part the grid sees only openings of :data:`OPENING_VOXELS` voxels, which the
    result names.
    """
    from scipy.ndimage import distance_transform_edt, label

    extent = np.ptp(surface.vertices, axis=0) + 4.0 * opening_mm
    h = max(opening_mm / OPENING_VOXELS, float((np.prod(extent) / MOST_VOXELS) ** (1.0 / 3.0)))
    opening = max(opening_mm, OPENING_VOXELS * h)
    grid = grid_around(surface.vertices, h, opening + 2.0 * h, surface.frame)
    pieces, count = label(~inside_mask(surface, grid) & ~near_faces(surface, grid, 0.5 * opening))
    outside = int(pieces[0, 0, 0])
    size = np.bincount(pieces.ravel(), minlength=count + 1)
    trapped = [n for n in range(1, count + 1) if n != outside and size[n] >= 8]
    points = np.empty((len(trapped), 3))
    for row, n in enumerate(trapped):
        depth = distance_transform_edt(np.pad(pieces == n, 1))[1:-1, 1:-1, 1:-1]
        points[row] = grid.to_world(np.array(np.unravel_index(int(np.argmax(depth)), depth.shape)))
    room = size[trapped].astype(np.float64) * grid.voxel_volume_mm3
    return Pockets(opening, points, room)


@dataclass(frozen=True, slots=True, eq=False)
class Hole:
    """A hole as planned: a point (3,) inside it, its axis (3,), its diameter (mm), and how far to either

    side of the point it is looked at.
    """

    name: str
    point: FloatArray
    axis: FloatArray
    diameter_mm: float
    reach_mm: float = 0.0


@dataclass(frozen=True, slots=True)
class HoleCheck:
    """A hole as it is: ``measured_mm`` across at the narrowest, None where there is no wall all round.

    ``lying_deg`` is the angle between its axis and the build direction, 0 to 90.
    """

    name: str
    planned_mm: float
    measured_mm: float | None
    lying_deg: float


def measure_holes(tree: FaceTree, holes: Sequence[Hole], up: FloatArray) -> tuple[HoleCheck, ...]:
    """Measure planned holes on the part by rays across their axis."""
    out = []
    turn = np.pi * np.arange(RAYS) / RAYS
    for hole in holes:
        axis = unit(hole.axis)
        u = perpendicular(axis)
        v = np.cross(axis, u)
        ways = np.cos(turn)[:, None] * u + np.sin(turn)[:, None] * v
        along = np.linspace(-hole.reach_mm, hole.reach_mm, STATIONS if hole.reach_mm else 1)
        starts = np.repeat(hole.point + along[:, None] * axis, RAYS, axis=0)
        ways = np.tile(ways, (len(along), 1))
        there, _ = tree.first_hits(starts, ways, 0.0)
        back, _ = tree.first_hits(starts, -ways, 0.0)
        across = (there + back).reshape(-1, RAYS)
        # Only where there is wall all round: beyond the hole's ends rays leave, or meet something else.
        walled = (across < 1.5 * hole.diameter_mm).all(axis=1)
        measured = float(across[walled].min()) if walled.any() else None
        lying = float(np.degrees(np.arccos(min(1.0, abs(float(axis @ unit(up)))))))
        out.append(HoleCheck(hole.name, hole.diameter_mm, measured, lying))
    return tuple(out)
