"""Hollowing down to a mass limit: a shell of even wall, solid round bores and seats, open for the powder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.booleans import simplify_uncrossed
from sacroplan.geometry.distance import signed_distance
from sacroplan.geometry.fields import contour
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.primitives import lathe
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.implant.body import Surroundings, smooth
from sacroplan.implant.measure import mass_g
from sacroplan.implant.model import ImplantParameters, RodPost, SutureHole, WingScrew
from sacroplan.implant.posts import post_top
from sacroplan.implant.seats import Seats
from sacroplan.implant.shape import Field, coordinates

WALL_STEP_MM = 0.05
"""Step between the walls that are tried."""

WAYS = 24
"""Directions tried for an opening, in the sagittal and the transverse plane."""

SAMPLES = 400
"""Places in a cavity from which openings are tried."""

LONGEST_OPENING_MM = 14.0
"""A longer duct holds powder of its own."""

ROUNDING_MM = 1.0
"""Radius of an opening's outer mouth."""


@dataclass(frozen=True, eq=False)
class Opening:
    """A duct for the powder: from inside the cavity (3,) outwards (3,), its way to the surface in mm."""

    start: FloatArray
    axis: FloatArray
    length_mm: float
    diameter_mm: float


@dataclass(frozen=True, eq=False)
class Hollow:
    """Result: the cavities as one surface (None: solid), openings, the wall that was kept (mm), doubts."""

    cavities: Surface | None
    openings: tuple[Opening, ...]
    wall_mm: float
    cavity_mm3: float
    doubts: tuple[Doubt, ...] = ()


def segment_field(points: tuple[Field, Field, Field], a: FloatArray, b: FloatArray) -> Field:
    """Distance field of the segment ab on broadcastable coordinates."""
    x, y, z = points
    d = b - a
    t = ((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) / float(d @ d)
    t = np.clip(t, 0.0, 1.0)
    gap = (x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2 + (z - a[2] - t * d[2]) ** 2
    return np.asarray(np.sqrt(gap), dtype=np.float32)


def behind_layers(around: Surroundings, seats: Seats, p: ImplantParameters) -> Field:
    """Depth (mm) behind the nearest porous layer; negative in a layer and beyond its seat."""
    at = coordinates(around.geometry)
    out = around.l5.values - np.float32(p.endplate_gap_mm + p.porous_mm)
    for hip in around.hips.values():
        np.minimum(out, hip.values - np.float32(p.endplate_gap_mm + p.porous_mm), out=out)
    for plane in seats.planes:
        n, q = plane.normal, plane.point
        b = n[0] * (at[0] - q[0]) + n[1] * (at[1] - q[1]) + n[2] * (at[2] - q[2])
        np.minimum(out, (b - np.float32(p.porous_mm)).astype(np.float32), out=out)
    return np.asarray(out, dtype=np.float32)


def solid_zone(
    geometry: VolumeGeometry, screws: tuple[WingScrew, ...], posts: tuple[RodPost, ...],
    holes: tuple[SutureHole, ...], p: ImplantParameters,
) -> Field:  # fmt: skip
    """Distance (mm) to every bore and post, less the solid that it needs; cavities lie above 0."""
    at = coordinates(geometry)
    wall = p.hole_wall_mm
    out = np.full(geometry.shape, np.float32(1e3))

    def keep(a: FloatArray, b: FloatArray, radius: float) -> None:
        np.minimum(out, segment_field(at, a, b) - np.float32(radius), out=out)

    for screw in screws:
        d = screw.direction
        keep(screw.head - 1.0 * d, screw.bone_entry, 0.5 * screw.hole_diameter_mm + wall)
        # The driver's way is cut out of the body; the landing and its rim stay.
        keep(screw.head - 40.0 * d, screw.head, 0.5 * p.tool_diameter_mm + wall)
    outer = 0.5 * evidence.value("SP-IMP-06", "outer_diameter")
    for post in posts:
        keep(post.centre - 8.0 * post.opening, post_top(post), outer)
    for hole in holes:
        half = 0.5 * hole.depth_mm + 2.0
        keep(hole.centre - half * hole.axis, hole.centre + half * hole.axis,
             0.5 * hole.diameter_mm + evidence.value("SP-IMP-07", "rim_radius") + 1.0)  # fmt: skip
    return np.asarray(out, dtype=np.float32)


def hollowed(
    body: Field, around: Surroundings, seats: Seats, screws: tuple[WingScrew, ...],
    posts: tuple[RodPost, ...], holes: tuple[SutureHole, ...], limit_g: float | None,
    p: ImplantParameters, porosity: float,
) -> Hollow:  # fmt: skip
    """Cavities for ``body``, where it weighs more than ``limit_g`` without; the thickest wall that does.

    ``porosity`` is the porous layers' mean, 0 to 1.

    A cavity without two openings (AM-05) stays solid. What cannot be brought below the limit with
    ``hollow_wall_mm`` is a doubt of the figures, not of this function.
    """
    geometry = around.geometry
    cell = float(np.prod(geometry.spacing_mm))
    depth = signed_distance(body < 0.0, geometry.spacing_mm, 30.0)
    metal = _metal(body, around, seats, screws, p)
    layers = metal & _layers(around, seats, p)
    porous = float(layers.sum()) * cell
    solid = float(metal.sum()) * cell - porous
    if limit_g is None or mass_g(solid, porous, porosity) <= limit_g:
        return Hollow(None, (), float("inf"), 0.0)
    bores = solid_zone(geometry, screws, posts, holes, p)
    behind = behind_layers(around, seats, p)
    thickest = max(evidence.value("SP-IMP-13", "thickest"), p.hollow_wall_mm)

    def cavity_of(wall: float) -> tuple[Field, Field, float]:
        # A seat is backed by as much as stands round a hole, or by the wall where that is thinner.
        zone = np.minimum(bores, behind - np.float32(min(wall, p.hole_wall_mm)))
        # Negative inside the cavity; smoothed, as the depth is only known from voxel to voxel.
        cavity = smooth(np.maximum(depth + np.float32(wall), -zone), p.grid_mm)
        cavity, size = _large(cavity, geometry)
        return cavity, zone, mass_g(solid - size, porous, porosity)

    walls = np.arange(thickest, p.hollow_wall_mm - 1e-9, -WALL_STEP_MM)
    # The mass falls with the wall: the first wall that keeps the limit lies between these two.
    low, high = 0, len(walls) - 1
    while low < high:
        middle = (low + high) // 2
        if cavity_of(float(walls[middle]))[2] <= limit_g:
            high = middle
        else:
            low = middle + 1
    wall = float(walls[high])
    cavity, zone, _ = cavity_of(wall)
    cavity, openings, doubts = _opened(cavity, body, geometry, zone, seats, p)
    size = float((cavity < 0.0).sum()) * cell
    if not openings:
        return Hollow(None, (), float("inf"), 0.0, doubts)
    surface = simplify_uncrossed(contour(geometry, cavity), p.simplify_mm)
    return Hollow(surface, openings, wall, size, doubts)


def _metal(
    body: Field, around: Surroundings, seats: Seats, screws: tuple[WingScrew, ...],
    p: ImplantParameters,
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Voxels of the implant as it will be cut: within its seats, without bores and drivers' ways."""
    at = coordinates(around.geometry)
    out = (body < 0.0) & (around.l5.values > p.endplate_gap_mm)
    for hip in around.hips.values():
        out &= hip.values > p.endplate_gap_mm
    for plane in seats.planes:
        n, q = plane.normal, plane.point
        out &= n[0] * (at[0] - q[0]) + n[1] * (at[1] - q[1]) + n[2] * (at[2] - q[2]) > 0.0
    for screw in screws:
        d = screw.direction
        out &= segment_field(at, screw.head, screw.bone_entry) > 0.5 * screw.hole_diameter_mm
        out &= segment_field(at, screw.head - 60.0 * d, screw.head) > 0.5 * p.tool_diameter_mm
    return np.asarray(out)


def _layers(around: Surroundings, seats: Seats, p: ImplantParameters) -> npt.NDArray[np.bool_]:
    """Voxels within a porous layer's thickness of a seat."""
    x, y, z = coordinates(around.geometry)
    out = around.l5.values < p.endplate_gap_mm + p.porous_mm
    for hip in around.hips.values():
        out |= hip.values < p.endplate_gap_mm + p.porous_mm
    for plane in seats.planes:
        n, q = plane.normal, plane.point
        b = n[0] * (x - q[0]) + n[1] * (y - q[1]) + n[2] * (z - q[2])
        out |= b < p.porous_mm
    return np.asarray(out)


def _large(cavity: Field, geometry: VolumeGeometry) -> tuple[Field, float]:
    """The field with its small cavities filled, and the volume of the others in mm3."""
    from scipy.ndimage import label

    pieces, count = label(cavity < 0.0)
    if not count:
        return cavity, 0.0
    size = np.bincount(pieces.ravel(), minlength=count + 1) * float(np.prod(geometry.spacing_mm))
    size[0] = np.inf
    small = size < 1000.0 * evidence.value("SP-IMP-13", "least_cavity")
    out = np.where(small[pieces], np.abs(cavity) + np.float32(0.1), cavity).astype(np.float32)
    return out, float(size[1:][~small[1:]].sum())


def _opened(
    cavity: Field, body: Field, geometry: VolumeGeometry, zone: Field, seats: Seats,
    p: ImplantParameters,
) -> tuple[Field, tuple[Opening, ...], tuple[Doubt, ...]]:  # fmt: skip
    """Two openings a cavity, far apart; a cavity that finds none is filled again."""
    from scipy.ndimage import label

    from sacroplan.geometry.sampling import sample

    diameter = evidence.value("SP-IMP-13", "opening")
    wanted = int(evidence.value("AM-05", "openings_per_cavity"))
    pieces, count = label(cavity < -0.5)
    out, openings, filled = cavity, [], 0
    angle = 2.0 * np.pi * np.arange(WAYS) / WAYS
    # Backwards and downwards, away from the rectum and the vertebra.
    back = np.stack(
        [-np.abs(np.cos(angle)), np.minimum(np.sin(angle), 0.3), np.zeros(WAYS)], axis=1
    )
    aside = np.stack([-np.abs(np.cos(angle)), np.zeros(WAYS), np.sin(angle)], axis=1)
    ways = np.unique(np.round(np.concatenate([back, aside]), 6), axis=0)
    ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    ways = ways[(ways[:, 0] < -0.3) | (ways[:, 1] < -0.5)]
    reach = np.arange(0.0, LONGEST_OPENING_MM + 16.0, 0.5)
    for n in range(1, count + 1):
        where = np.argwhere(pieces == n)
        if len(where) * float(np.prod(geometry.spacing_mm)) < 300.0:
            continue
        where = where[:: max(1, len(where) // SAMPLES)]
        start = geometry.to_world(where.astype(np.float64))
        line = start[:, None, None] + reach[None, None, :, None] * ways[None, :, None, :]
        flat = line.reshape(-1, 3)
        shape = line.shape[:3]
        metal = sample(geometry, body, flat, np.inf).reshape(shape) < 0.0
        hollow = sample(geometry, out, flat, np.inf).reshape(shape) < 0.0
        free = (
            sample(geometry, zone, flat, -np.inf).reshape(shape) > 0.5 * diameter - p.hole_wall_mm
        )
        leaves = np.where((~metal).any(axis=2), np.argmax(~metal, axis=2), len(reach) - 1)
        index = np.arange(len(reach))
        before = index[None, None] <= leaves[..., None]
        after = index[None, None] > leaves[..., None]
        wall = (metal & ~hollow & before).sum(axis=2) * 0.5
        good = (~metal).any(axis=2) & (free | ~before).all(axis=2) & ~(metal & after).any(axis=2)
        good &= (wall >= 1.0) & (wall <= LONGEST_OPENING_MM)
        if not good.any():
            out = np.where(pieces == n, np.abs(out) + np.float32(0.1), out).astype(np.float32)
            filled += 1
            continue
        cost = np.where(good, wall, np.inf)
        way = np.argmin(cost, axis=1)
        least = cost[np.arange(len(start)), way]
        usable = np.flatnonzero(np.isfinite(least))
        # The far ends of the cavity: powder is blown through from one opening to the other.
        side = start[usable] @ np.array([0.0, 0.3, 1.0])
        score = least[usable] / 4.0
        chosen = [
            usable[int(np.argmin(score + sign * side / 2.0))] for sign in np.linspace(-1, 1, wanted)
        ]
        for k in dict.fromkeys(chosen):
            length = float(0.5 * leaves[k, way[k]])
            openings.append(Opening(start[k], ways[way[k]], length, diameter))
        # Only a cavity with all its openings may stay.
        if len(set(chosen)) < wanted:
            out = np.where(pieces == n, np.abs(out) + np.float32(0.1), out).astype(np.float32)
            openings = openings[: -len(set(chosen))]
            filled += 1
    doubts: tuple[Doubt, ...] = ()
    if filled:
        doubts = (
            Doubt(
                "implant", "implant.cavity_filled",
                f"{filled} {'cavity' if filled == 1 else 'cavities'} would have no two openings for the "
                "powder and stay solid.", ("AM-05", "SP-IMP-13"),
            ),
        )  # fmt: skip
    return out, tuple(openings), doubts


def opening_cutter(opening: Opening, frame: str) -> Surface:
    """The duct, its outer mouth rounded."""
    r, rim = 0.5 * opening.diameter_mm, ROUNDING_MM
    angle = np.linspace(0.0, 0.5 * np.pi, 6)
    end = opening.length_mm
    profile = [[0.0, r], [max(end - rim, 0.1), r]]
    profile += [[end - rim + rim * np.sin(t), r + rim * (1.0 - np.cos(t))] for t in angle[1:]]
    profile += [[end + 3.0, r + rim]]
    return lathe(opening.start, opening.axis, profile, frame=frame)


def limit_g(specimen: Surface | None, p: ImplantParameters) -> float | None:
    """Most that the implant may weigh; None where nothing limits it."""
    if specimen is None or p.mass_ratio <= 0.0:
        return None
    return p.mass_ratio * specimen.volume_mm3 / 1e3 * evidence.value("SP-IMP-02", "density")
