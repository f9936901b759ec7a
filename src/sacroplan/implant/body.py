"""The organic body: block, wings, pads and pillars as one field on a grid in the pelvic axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.booleans import from_manifold, to_manifold
from sacroplan.geometry.fields import DistanceField, distance_field
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.implant import measure
from sacroplan.implant.localise import Local
from sacroplan.implant.model import SIDES, ImplantParameters, Side
from sacroplan.implant.outline import RASTER_MM, Outline, PlanarField, raster
from sacroplan.implant.seats import SMOOTH_OUTLINE_MM, Seats
from sacroplan.implant.shape import (
    Field,
    Rim,
    blend,
    block,
    coordinates,
    planar_distance,
    smoothstep,
    trim,
    window,
)

BODY_ABOVE_MM = 0.7
"""The block reaches this far into the vertebra before the vertebra, offset, is cut out of it."""

STEEPEST_ROOF = 0.7
"""Where the bone rises steeper than this (35 degrees) at the rim the block stays behind: no thin lips."""

HIGHEST_ROOF_MM = 8.0
"""No endplate is concave deeper than this; a column without bone below it ends with its neighbours."""

SMOOTH_MM = 0.55
"""Sigma of the last smoothing of the field: takes creases out, moves 4 mm edges by under 0.1 mm."""

PAD_BORDER_MM = 1.0
"""A pad may stand so much beyond its outline."""

BESIDE_SEAT_MM = 5.0
"""Over this way from a seat that follows the bone the body gains its full clearance."""

FRONT_ROUNDING_MM = 4.0
"""Rounding where the former pelvic face ends the body: the rectum lies on it."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Distance fields of what the body meets: the carried vertebra, conforming joints, obstacles, nerves.

    ``hips`` : side to the field of an ilium whose joint face is followed. ``front`` (j, k): x of the former
    pelvic face per column of the grid, None where the specimen is unknown.
    """

    geometry: VolumeGeometry
    l5: DistanceField
    hips: dict[Side, DistanceField]
    others: tuple[DistanceField, ...]
    nerves: tuple[DistanceField, ...]
    front: Field | None


def survey(local: Local, seats: Seats, p: ImplantParameters) -> Surroundings:
    """Grid and fields."""
    geometry = grid_of(local, seats, p)
    band = p.endplate_gap_mm + p.porous_mm + p.grid_mm
    hips = {
        side: distance_field(local.seats[side].hip, geometry, band)
        for side, wing in seats.wings.items()
        if wing.follows
    }
    near = obstacles(local, geometry, p.bone_clearance_mm)
    reach = evidence.value("SP-IMP-11", "clearance")
    nerves = [s for s in local.nerves.values() if _meets(s, geometry, reach)]
    return Surroundings(
        geometry,
        distance_field(local.l5, geometry, band),
        hips,
        tuple(distance_field(s, geometry) for s in near),
        tuple(distance_field(s, geometry) for s in nerves),
        _front(local, geometry),
    )


def _front(local: Local, geometry: VolumeGeometry) -> Field | None:
    if local.specimen is None:
        return None
    bones = [local.l5, *(seat.hip for seat in local.seats.values())]
    bones += [flat.bone for flat in local.flats]
    return measure.pelvic_front(geometry, [local.specimen, *bones])


def bowed(seats: Seats, around: Surroundings, p: ImplantParameters) -> Seats:
    """The wings bowed backwards as far as the former pelvic face asks for, by SP-IMP-03's limit.

    A wing that the pelvic face, or a root that runs on it, would cut into has a neck there.
    """
    if around.front is None:
        return seats
    g = around.geometry
    most = evidence.quantity("SP-IMP-03", "bow").upper or 0.0
    free = evidence.value("SP-IMP-11", "clearance") if around.nerves else 0.0
    t = np.linspace(0.2, 0.8, 25)
    wings = {}
    for side, wing in seats.wings.items():
        x, y, z = (np.asarray(v) for v in wing.centre(t))
        j, k = (
            np.rint((v - g.origin[n]) / g.spacing_mm[n]).astype(int) for n, v in ((1, y), (2, z))
        )
        inside = (j >= 0) & (j < g.shape[1]) & (k >= 0) & (k < g.shape[2])
        limit = around.front[np.clip(j, 0, g.shape[1] - 1), np.clip(k, 0, g.shape[2] - 1)]
        lack = x + wing.half_depth + free - limit
        share = 16.0 * t * t * (1.0 - t) * (1.0 - t)
        bow = float(np.clip((lack / share)[inside].max(initial=0.0), 0.0, most))
        wings[side] = replace(wing, bow_mm=bow)
    if len(wings) == 2:
        # Two wings of one implant bow alike.
        both = max(w.bow_mm for w in wings.values())
        wings = {side: replace(w, bow_mm=both) for side, w in wings.items()}
    return replace(seats, wings=wings)


def lofts(
    local: Local, seats: Seats, around: Surroundings, p: ImplantParameters
) -> tuple[Field, Field]:
    """Body before posts and screws, and the block alone (which may come close to the vertebra)."""
    geometry = around.geometry
    x, y, z = coordinates(geometry)
    rim = Rim(*(evidence.value("SP-IMP-07", name) for name in ("thickness", "width", "slant")))
    span = _span(geometry, x, y, z, seats, rim)
    foot = _foot(local, seats, p)
    axes = seats.whole.axes
    length = float((seats.whole.origin - foot) @ axes[:, 2])
    lean = (foot - seats.whole.origin) @ axes[:, :2] if local.hub is not local.endplate else None
    column = block(
        x, y, z, seats.whole, raster(seats.whole, 40.0, SMOOTH_OUTLINE_MM), length,
        p.body_taper_mm, roof_of(around.l5, seats.whole, p.endplate_gap_mm),
        np.zeros(2) if lean is None else lean,
    )  # fmt: skip
    if seats.medial is not None:
        border = seats.medial.evaluate(x, y, z)
        column, span = trim(column, border, 3.0), trim(span, border, 3.0)
    body = blend(span, column, p.fillet_mm)
    for pad in seats.pads.values():
        body = blend(body, pad.evaluate(x, y, z), p.fillet_mm)
    if seats.medial is not None:
        # The fillets round the pads must not fill the canal or the disc's place.
        near = np.min([pad.planar(x, y, z) for pad in seats.pads.values()], axis=0)
        body = np.maximum(body, np.minimum(border, near - np.float32(PAD_BORDER_MM)))
    if seats.medial is None and p.window_width_mm > 0.0 and p.window_height_mm > 0.0:
        hole = window(x, y, z, seats.plate, p.window_width_mm, p.window_height_mm, p.window_roof_mm)
        body, column = trim(body, -hole, 5.0), trim(column, -hole, 5.0)
    return body, column


def _foot(local: Local, seats: Seats, p: ImplantParameters) -> FloatArray:
    """Where the block ends: below the wings' middle, on the hub's normal."""
    drop = p.wing_drop_mm + 0.5 * p.wing_height_mm
    if local.hub is local.endplate:
        return np.asarray(seats.whole.origin - drop * local.hub.axes[:, 1])
    return np.asarray(local.hub.origin - drop * local.hub.axes[:, 1])


def cleared(
    body: Field, column: Field, local: Local, seats: Seats, around: Surroundings,
    p: ImplantParameters,
) -> Field:  # fmt: skip
    """The body kept behind the pelvic face, off bone that is no seat, and off nerves."""
    geometry = around.geometry
    x, y, z = coordinates(geometry)
    if around.front is not None:
        body = _behind(body, around.front, x, y, z, seats)
        column = _behind(column, around.front, x, y, z, seats)
    free = np.float32(p.bone_clearance_mm)
    body = blend(trim(body, free - around.l5.values, 3.0), column, 2.0)
    for other in around.others:
        body = trim(body, free - other.values, 3.0)
    for side, hip in around.hips.items():
        # Beside a seat that follows the bone the body keeps its distance like everywhere.
        beside = smoothstep(seats.wings[side].planar(x, y, z) / BESIDE_SEAT_MM).astype(np.float32)
        body = trim(body, free * beside - hip.values, 2.0)
    keep = np.float32(evidence.value("SP-IMP-11", "clearance"))
    for nerve in around.nerves:
        body = trim(body, keep - nerve.values, 4.0)
    return smooth(body, p.grid_mm)


def roof_of(l5: DistanceField, plate: Outline, gap_mm: float) -> PlanarField:
    """Height of the vertebra's underside over the endplate's plane, its steep rim cut back."""
    corners = np.concatenate(plate.loops)
    centre = plate.centroid_uv
    n = np.ceil((np.abs(corners - centre).max(axis=0) + 6.0) / RASTER_MM).astype(int)
    low = centre - n * RASTER_MM
    u = low[0] + RASTER_MM * np.arange(2 * n[0] + 1)
    v = low[1] + RASTER_MM * np.arange(2 * n[1] + 1)
    uv = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1)
    heights = np.arange(-HIGHEST_ROOF_MM, HIGHEST_ROOF_MM + 0.01, 0.4)
    base = plate.to_world(uv.reshape(-1, 2))
    points = base[:, None] + heights[:, None] * plate.axes[:, 2]
    d = l5.at(points.reshape(-1, 3)).reshape(*uv.shape[:2], len(heights)) - gap_mm
    bone = d < 0.0
    hit = np.argmax(bone, axis=2)
    after = np.take_along_axis(d, hit[..., None], axis=2)[..., 0]
    before = np.take_along_axis(d, np.maximum(hit - 1, 0)[..., None], axis=2)[..., 0]
    part = np.where(hit > 0, np.clip(before / np.maximum(before - after, 1e-9), 0.0, 1.0), 1.0)
    roof = np.where(bone.any(axis=2), heights[np.maximum(hit - 1, 0)] + 0.4 * part, HIGHEST_ROOF_MM)
    # Lower every point to what a slope of STEEPEST_ROOF from its neighbours reaches.
    for _ in range(int(sum(roof.shape))):
        lowered = roof
        for axis in (0, 1):
            for shift in (-1, 1):
                moved = np.roll(lowered, shift, axis=axis) + STEEPEST_ROOF * RASTER_MM
                edge: list[Any] = [slice(None), slice(None)]
                edge[axis] = 0 if shift == 1 else -1
                moved[tuple(edge)] = np.inf
                lowered = np.minimum(lowered, moved)
        if np.array_equal(lowered, roof):
            break
        roof = lowered
    return PlanarField(low, (roof + BODY_ABOVE_MM).astype(np.float32))


def grid_of(local: Local, seats: Seats, p: ImplantParameters) -> VolumeGeometry:
    """Grid around everything the implant may reach, mirror-symmetric about the middle plane z = 0."""
    drop = p.wing_drop_mm + 0.5 * p.wing_height_mm
    low_end = seats.plate.rim - drop * local.endplate.axes[:, 1]
    foot = _foot(local, seats, p)
    post = evidence.value("SP-IMP-06", "reach") + 14.0
    back = seats.middle - [0.5 * p.wing_depth_mm + post, 0.0, 0.0]
    points = np.concatenate([seats.rims, low_end, back[None], foot[None]])
    margin = np.array([8.0, 14.0, 5.0])
    if any(w.follows for w in seats.wings.values()):
        margin[2] += 12.0
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    h = p.grid_mm
    half = float(np.abs([low[2], high[2]]).max())
    if local.hemi_side is None:
        low[2], high[2] = -h * np.ceil(half / h), h * np.ceil(half / h)
    else:
        # One side only; the grid still hangs on z = 0, so that a mirrored case gets the mirrored grid.
        reach = [h * np.ceil(v / h) for v in (max(-low[2], 0.0), max(high[2], 0.0))]
        low[2], high[2] = -reach[0], reach[1]
    low[:2] = h * np.floor(low[:2] / h)
    n = np.ceil((high - low) / h - 1e-9).astype(int) + 1
    return VolumeGeometry((int(n[0]), int(n[1]), int(n[2])), np.full(3, h), low)


def _meets(surface: Surface, geometry: VolumeGeometry, clearance_mm: float) -> bool:
    low = geometry.origin - clearance_mm
    high = geometry.origin + geometry.extent_mm + clearance_mm
    b = surface.bounds
    return bool(np.all(b[1] >= low) and np.all(b[0] <= high))


def obstacles(local: Local, geometry: VolumeGeometry, clearance_mm: float) -> list[Surface]:
    """Solids near the grid: those to keep clear of, and remnants in front of their own cut plane."""
    ahead = []
    for seat in local.seats.values():
        if seat.patch is not None:
            continue
        # What of a remnant stands more than a hair before its own cut face is an obstacle.
        offset = float(seat.plane.point @ seat.plane.normal) + 0.05
        piece, _ = to_manifold(seat.hip).split_by_plane(tuple(seat.plane.normal), offset)
        if not piece.is_empty() and piece.volume() > 1.0:
            ahead.append(from_manifold(piece, seat.hip.frame))
    for flat in local.flats:
        offset = float(flat.plane.point @ flat.plane.normal) + 0.05
        piece, _ = to_manifold(flat.bone).split_by_plane(tuple(flat.plane.normal), offset)
        if not piece.is_empty() and piece.volume() > 1.0:
            ahead.append(from_manifold(piece, flat.bone.frame))
    return [s for s in (*local.keep_clear, *ahead) if _meets(s, geometry, clearance_mm)]


def _span(
    geometry: VolumeGeometry, x: Field, y: Field, z: Field, seats: Seats, rim: Rim
) -> Field:  # fmt: skip
    out = np.full(geometry.shape, 1e3, dtype=np.float32)
    for side in SIDES:
        if side not in seats.wings:
            continue
        wing = seats.wings[side]
        half = wing.sign * (z[0, 0] - seats.middle[2]) >= -0.5 * float(geometry.spacing_mm[2])
        out[:, :, half] = np.minimum(out[:, :, half], wing.evaluate(x, y, z[:, :, half], rim))
    return out


def _behind(body: Field, front: Field, x: Field, y: Field, z: Field, seats: Seats) -> Field:
    """Keep the body behind the former pelvic face (``front``: x per column), with relief at the seats."""
    relief = evidence.value("SP-IMP-08", "seat_relief")
    near = np.full(body.shape, np.float32(relief))
    for wing in seats.wings.values():
        n, q = wing.plane.normal, wing.plane.point
        b = n[0] * (x - q[0]) + n[1] * (y - q[1]) + n[2] * (z - q[2])
        np.minimum(near, np.maximum(b, 0.0), out=near)
    # The endplate is a seat as well, but only under the vertebra.
    n, q = seats.whole.axes[:, 2], seats.whole.origin
    below = -(n[0] * (x - q[0]) + n[1] * (y - q[1]) + n[2] * (z - q[2]))
    aside = planar_distance(seats.whole, raster(seats.whole, 40.0, SMOOTH_OUTLINE_MM), x, y, z)
    np.minimum(near, np.maximum(below, 0.0) + 2.0 * np.maximum(aside, 0.0), out=near)
    limit = front[None] + np.float32(relief) - near
    return trim(body, (0.8 * (x - limit)).astype(np.float32), FRONT_ROUNDING_MM)


def smooth(field: Field, grid_mm: float) -> Field:
    """The field without its creases."""
    from scipy.ndimage import gaussian_filter

    # A loft's value far away is no distance; clipped, it cannot reach into the smoothing.
    return np.asarray(
        gaussian_filter(np.clip(field, -6.0, 6.0), SMOOTH_MM / grid_mm, mode="nearest"),
        dtype=np.float32,
    )
