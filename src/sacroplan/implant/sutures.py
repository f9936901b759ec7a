"""Rounded holes for the soft tissue along the borders of body and wings. Design frame throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.fields import DistanceField
from sacroplan.geometry.frames import Plane
from sacroplan.geometry.primitives import lathe
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.implant.bores import TOOL_PATH_MM
from sacroplan.implant.model import SIDES, ImplantParameters, RodPost, Side, SutureHole, WingScrew
from sacroplan.implant.shape import Field, Wing, to_segment

RASTER_STEP_MM = 1.0
"""Step between the middles of suture holes that are tried."""

SUTURE_WAYS = 12
"""Directions tried for a suture hole in its section, 15 degrees apart."""

BORDER_MM = 14.0
"""A hole is sought so far from the lowest or highest point of a section: the depth of a wing."""

BORDER_COST = 0.3
"""A hole may be so much longer (mm) for each mm that it lies nearer to the border."""

MOUTH_MM = 5.0
"""Free way before both mouths for a needle's tip."""


@dataclass(frozen=True, eq=False)
class SeatFaces:
    """Where porous layers lie: along flat seats' planes, and along bones that are followed."""

    planes: tuple[Plane, ...]
    fields: tuple[DistanceField, ...]


def plan_suture_holes(
    wings: Mapping[Side, Wing],
    faces: SeatFaces,
    body: Field,
    geometry: VolumeGeometry,
    screws: tuple[WingScrew, ...],
    posts: tuple[RodPost, ...],
    p: ImplantParameters,
) -> tuple[SutureHole, ...]:
    """Holes along the borders of body and wings, where a needle finds a short way through.

    One is sought in every section across the wings at the pitch of the row: on the suture rim where the
    pelvic face left one, else through the lower border's edge, else through the upper one's. Every hole
    keeps a wall to the surface, and away from bores, drivers' ways, rods and porous layers.
    """
    pitch = evidence.value("SP-IMP-07", "pitch")
    out = []
    for wing in (wings[side] for side in SIDES if side in wings):
        span = abs(float(wing.target[2] - wing.middle[2]))
        for z in np.arange(0.5 * pitch, span, pitch):
            # A post or a screw in the way of one section leaves room a little aside.
            for up, aside in product((1.0, -1.0), (0.0, -0.25 * pitch, 0.25 * pitch)):
                at = float(wing.middle[2] + wing.sign * (z + aside))
                hole = _border_hole(at, up, faces, body, geometry, screws, posts, p)
                if hole is not None:
                    out.append(hole)
                    break
    return tuple(out)


def _border_hole(
    z: float,
    up: float,
    faces: SeatFaces,
    body: Field,
    geometry: VolumeGeometry,
    screws: tuple[WingScrew, ...],
    posts: tuple[RodPost, ...],
    p: ImplantParameters,
) -> SutureHole | None:
    """The best hole in the section at height z, None where there is no room.

    ``up`` is 1 at the lower border, -1 at the upper one.
    """
    radius = 0.5 * p.suture_diameter_mm
    wall = evidence.value("AM-02", "structural_wall")
    thickest = evidence.value("SP-IMP-07", "thickest")
    shortest = evidence.value("SP-IMP-07", "shortest")
    x, y = (
        np.arange(geometry.origin[i], geometry.origin[i] + geometry.extent_mm[i], RASTER_STEP_MM)
        for i in (0, 1)
    )
    plane = np.stack(
        [*(g.ravel() for g in np.meshgrid(x, y, indexing="ij")), np.full(len(x) * len(y), z)],
        axis=1,
    )
    depth = -sample(geometry, body, plane, np.inf)
    if not (depth > 0.0).any():
        return None
    above = up * plane[:, 1] - float((up * plane[depth > 0.0, 1]).min())
    # Deep in the body no way is short.
    some = (depth > 0.5 * radius) & (depth < thickest) & (above < BORDER_MM)
    centres, above = plane[some], above[some]
    turn = np.pi * np.arange(SUTURE_WAYS) / SUTURE_WAYS
    ways = np.stack([np.cos(turn), np.sin(turn), np.zeros(SUTURE_WAYS)], axis=1)
    step = 0.35
    reach = np.arange(-thickest - MOUTH_MM, thickest + MOUTH_MM + 0.1, step)
    line = centres[:, None, None] + reach[None, None, :, None] * ways[None, :, None, :]
    inside = sample(geometry, body, line.reshape(-1, 3), np.inf).reshape(line.shape[:3])
    middle = len(reach) // 2
    ahead, behind = inside[:, :, middle:] > 0.0, inside[:, :, middle::-1] > 0.0
    through = ahead.any(axis=2) & behind.any(axis=2)
    last, first = np.argmax(ahead, axis=2), np.argmax(behind, axis=2)
    long = step * (first + last)
    # Only ways whose middle is the sample itself: each hole once.
    fits = through & (np.abs(first - last) <= 2) & (long >= shortest) & (long <= thickest)
    i, j = np.nonzero(fits)
    cost = long[i, j] + BORDER_COST * above[i]
    for n in np.argsort(cost, kind="stable"):
        centre = (
            centres[i[n]] + 0.5 * step * float(last[i[n], j[n]] - first[i[n], j[n]]) * ways[j[n]]
        )
        hole = SutureHole(centre, ways[j[n]], p.suture_diameter_mm, float(long[i[n], j[n]]))
        if _has_wall(hole, wall, body, geometry) and _is_free(hole, wall, faces, screws, posts, p):
            return hole
    return None


def _has_wall(hole: SutureHole, wall: float, body: Field, geometry: VolumeGeometry) -> bool:
    """Whether solid surrounds the hole, and both mouths open into free space."""
    turn = 2.0 * np.pi * np.arange(16) / 16
    up = np.array([0.0, 0.0, 1.0])
    across = np.cross(hole.axis, up)
    ring = np.cos(turn)[:, None] * across + np.sin(turn)[:, None] * up
    # Towards the mouths the border itself rounds off.
    along = 0.2 * hole.depth_mm * np.array([-1.0, 0.0, 1.0])
    around = (
        hole.centre
        + along[:, None, None] * hole.axis
        + (0.5 * hole.diameter_mm + wall) * ring[None]
    )
    if sample(geometry, body, around.reshape(-1, 3), np.inf).max() >= 0.0:
        return False
    beyond = 0.5 * hole.depth_mm + np.arange(2.0, MOUTH_MM + 0.01, 0.5)
    way = hole.centre + np.concatenate([-beyond, beyond])[:, None] * hole.axis
    return float(sample(geometry, body, way, np.inf).min()) >= 0.5 * hole.diameter_mm


def _is_free(
    hole: SutureHole,
    wall: float,
    faces: SeatFaces,
    screws: tuple[WingScrew, ...],
    posts: tuple[RodPost, ...],
    p: ImplantParameters,
) -> bool:
    """Whether the hole keeps its wall to bores, drivers, rods and porous layers."""
    radius = 0.5 * hole.diameter_mm
    half = 0.5 * hole.depth_mm + 1.0
    points = hole.centre + np.linspace(-half, half, 9)[:, None] * hole.axis
    for screw in screws:
        d = screw.direction
        way = to_segment(points, screw.head - TOOL_PATH_MM * d, screw.head)
        bore = to_segment(points, screw.head, screw.bone_entry)
        if way.min() < 0.5 * p.tool_diameter_mm + radius + wall:
            return False
        if bore.min() < 0.5 * screw.hole_diameter_mm + radius + p.hole_wall_mm:
            return False
    outer = 0.5 * evidence.value("SP-IMP-06", "outer_diameter")
    for post in posts:
        # The saddle and the set screw's way; the solid pillar below them may carry a hole.
        saddle = to_segment(points, post.centre, post.centre + TOOL_PATH_MM * post.opening)
        rod = to_segment(
            points, post.centre - 2.0 * outer * post.axis, post.centre + 60.0 * post.axis
        )
        if saddle.min() < outer + radius or rod.min() < 0.5 * post.diameter + radius + wall:
            return False
    layer = p.porous_mm + radius + wall
    if any(float(f.at(points).min()) < p.endplate_gap_mm + layer for f in faces.fields):
        return False
    return all(float(q.distance(points).min()) >= layer for q in faces.planes)


def suture_cutter(hole: SutureHole, frame: str) -> Surface:
    """A hole whose two mouths are rounded like a trumpet, so that no edge cuts the thread."""
    r = 0.5 * hole.diameter_mm
    rim = min(evidence.value("SP-IMP-07", "rim_radius"), 0.3 * hole.depth_mm)
    angle = np.linspace(0.0, 0.5 * np.pi, 7)
    s = rim * (1.0 - np.cos(angle))
    flare = r + rim * (1.0 - np.sin(angle))
    half = 0.5 * hole.depth_mm
    # Beyond the mouths only the bore goes on, so that a concave neighbour is not dished out.
    profile = [[-half - 4.0, r], [-half - 0.5, r], [-half - 0.5, r + rim]]
    profile += [[-half + a, b] for a, b in zip(s, flare, strict=True)]
    profile += [[half - a, b] for a, b in zip(s[::-1], flare[::-1], strict=True)]
    profile += [[half + 0.5, r + rim], [half + 0.5, r], [half + 4.0, r]]
    return lathe(hole.centre, hole.axis, profile, frame=frame)
