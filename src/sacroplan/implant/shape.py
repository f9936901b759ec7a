"""The organic body as distance-like fields on a grid in the design frame.

Design frame: the pelvic axes with their origin, x anterior, y cranial, z right. Fields are float32,
negative inside, in mm near their surface. Lofts are blends of planar distances, so their value is a
distance only in the plane of the section; blends and fillets need no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray, Plane
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.implant.outline import Outline, PlanarField

Field = npt.NDArray[np.float32]

FLARE_START = 0.25
"""Share of a wing's way, midline to seat, before it begins to open towards the seat."""


RIM_END = 0.75
"""The suture rim ends here: further out the L5 root passes below the wing to the sciatic notch."""

FLARE_POWER = 2.0
"""Above 1 the flare keeps to the seat's end and the wing stays slim before it."""


BEYOND_MM = 12.0
"""A joint's face is hollow by less than this about the plane that fits it."""

MEDIAL_BLEND_MM = 8.0
"""Over this height the border of a hemisacral implant turns from one sagittal cut to the next."""


def smoothstep(t: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """0 below 0, 1 above 1, without a kink between."""
    s = np.clip(t, 0.0, 1.0)
    return np.asarray(s * s * (3.0 - 2.0 * s))


def blend(a: Field, b: Field, radius_mm: float) -> Field:
    """Union of two fields with a fillet, in float32 and in bounded memory."""
    h = np.float32(radius_mm) - np.abs(a - b)
    np.maximum(h, np.float32(0.0), out=h)
    h *= h
    h *= np.float32(0.25 / radius_mm)
    return np.asarray(np.minimum(a, b) - h, dtype=np.float32)


def trim(a: Field, b: Field, radius_mm: float) -> Field:
    """Intersection of two fields with a rounded edge."""
    return np.asarray(-blend(-a, -b, radius_mm), dtype=np.float32)


def edge_break(height: npt.NDArray[Any], radius_mm: float) -> npt.NDArray[Any]:
    """Inset of a quarter-round edge at ``height`` above the face it ends in."""
    if radius_mm <= 0.0:
        return np.zeros_like(height)
    h = np.clip(radius_mm - height, 0.0, radius_mm)
    return np.asarray(radius_mm - np.sqrt(radius_mm * radius_mm - h * h))


def coordinates(geometry: VolumeGeometry) -> tuple[Field, Field, Field]:
    """x, y, z of the grid as broadcastable float32 arrays (axes-parallel grids only)."""
    axis = [
        (geometry.origin[i] + geometry.spacing_mm[i] * np.arange(geometry.shape[i])).astype(
            np.float32
        )
        for i in range(3)
    ]
    return axis[0][:, None, None], axis[1][None, :, None], axis[2][None, None, :]


def box2(u: Field, v: Field, half_u: float, half_v: float | Field, radius: float) -> Field:
    """Planar distance of a rounded rectangle; its half height may differ from point to point."""
    qu = np.abs(u) - np.float32(half_u - radius)
    qv = np.abs(v) - np.asarray(half_v - radius, dtype=np.float32)
    outside = np.sqrt(np.maximum(qu, 0.0) ** 2 + np.maximum(qv, 0.0) ** 2)
    return np.asarray(
        outside + np.minimum(np.maximum(qu, qv), 0.0) - np.float32(radius), dtype=np.float32
    )


def planar_distance(outline: Outline, field: PlanarField, x: Field, y: Field, z: Field) -> Field:
    """Distance to a flat outline as seen along its normal, negative inside."""
    o, axes = outline.origin, outline.axes
    dx, dy, dz = x - o[0], y - o[1], z - o[2]
    return field.at(
        dx * axes[0, 0] + dy * axes[1, 0] + dz * axes[2, 0],
        dx * axes[0, 1] + dy * axes[1, 1] + dz * axes[2, 1],
    )


@dataclass(frozen=True, eq=False)
class Wing:
    """One wing's loft: from the body's middle (3,) to the seat region on ``plane``.

    ``sign`` is +1 on the right (z > 0) and -1 on the left. ``follows``: the seat is no cut but the bone's
    own face about the plane, so the loft goes on beyond it. ``bow_mm``: how far the wing bows backwards
    half-way, to stay behind the former pelvic face and the nerves on it.
    """

    sign: float
    middle: FloatArray
    plane: Plane
    seat: Outline
    field: PlanarField
    half_depth: float
    half_height: float
    edge_mm: float
    follows: bool = False
    bow_mm: float = 0.0

    @property
    def target(self) -> FloatArray:
        """(3,) centroid of the seat region."""
        return self.seat.to_world(self.seat.centroid_uv)

    def centre(self, t: npt.NDArray[Any]) -> tuple[Any, Any, Any]:
        """x, y, z of the centreline at t in [0, 1], midline to seat."""
        s = smoothstep(t)
        c = np.clip(t, 0.0, 1.0)
        x = self.middle[0] + s * (self.target[0] - self.middle[0])
        x = x - self.bow_mm * 16.0 * c * c * (1.0 - c) * (1.0 - c)
        y = self.middle[1] + s * (self.target[1] - self.middle[1])
        n, p = self.plane.normal, self.plane.point
        # z where the pencil plane a (1 - t) = b t meets the line at x, y.
        known = t * (n[0] * (x - p[0]) + n[1] * (y - p[1]) - n[2] * p[2])
        z = (known + self.sign * self.middle[2] * (1.0 - t)) / (self.sign * (1.0 - t) - t * n[2])
        return x, y, z

    def parameter(self, z_mm: float) -> float:
        """t of the centreline point at height z."""
        t = np.linspace(0.0, 1.0, 401)
        z = self.sign * self.centre(t)[2]
        return float(np.interp(self.sign * z_mm, z, t))

    def rim_set(self, rim: Rim) -> float:
        """How far behind the centreline the rim leaves the wing, mm."""
        return self.half_depth - 0.5 * rim.thickness_mm - 1.0

    def planar(self, x: Field, y: Field, z: Field) -> Field:
        """Distance to the seat's outline as seen along the plane's normal, negative inside."""
        return planar_distance(self.seat, self.field, x, y, z)

    def evaluate(self, x: Field, y: Field, z: Field, rim: Rim | None = None) -> Field:
        """Field of the wing, with a suture rim below it where one is given."""
        n, p = self.plane.normal, self.plane.point
        a = np.maximum(self.sign * (z - self.middle[2]), 0.0).astype(np.float32)
        b = (n[0] * (x - p[0]) + n[1] * (y - p[1]) + n[2] * (z - p[2])).astype(np.float32)
        t = np.where(b > 0.0, a / np.maximum(a + b, 1e-6), 1.0).astype(np.float32)
        cx, cy, cz = (c.astype(np.float32) for c in self.centre(t))
        dx, dy, dz = x - cx, y - cy, z - cz
        section = box2(dx, dy, self.half_depth, self.half_height, 0.8 * self.half_depth)
        axes = self.seat.axes
        centre = self.seat.centroid_uv
        seat = self.field.at(
            dx * axes[0, 0] + dy * axes[1, 0] + dz * axes[2, 0] + centre[0],
            dx * axes[0, 1] + dy * axes[1, 1] + dz * axes[2, 1] + centre[1],
        )
        w = (smoothstep((t - FLARE_START) / (1.0 - FLARE_START)) ** FLARE_POWER).astype(np.float32)
        out = (1.0 - w) * section + w * seat
        out += edge_break(b, self.edge_mm).astype(np.float32)
        if rim is not None:
            width = rim.width_mm * smoothstep((RIM_END - t) / 0.3)
            low = (self.half_height + width).astype(np.float32)
            below = np.maximum(-dy - np.float32(0.6 * self.half_height), 0.0)
            flange = box2(
                (dx + np.float32(self.rim_set(rim)) + np.float32(rim.slant) * below)
                * np.float32(1.0 / np.hypot(1.0, rim.slant)),
                dy + 0.5 * low,
                0.5 * rim.thickness_mm,
                0.5 * low,
                0.45 * rim.thickness_mm,
            )
            out = blend(out.astype(np.float32), flange, 5.0)
        if self.follows:
            out = np.maximum(out, -b - np.float32(BEYOND_MM))
        return np.asarray(out, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Pad:
    """A flat seat's own body: the seat's outline drawn ``depth_mm`` into the defect."""

    plane: Plane
    seat: Outline
    field: PlanarField
    depth_mm: float
    edge_mm: float

    def planar(self, x: Field, y: Field, z: Field) -> Field:
        """Distance to the seat's outline as seen along the plane's normal, negative inside."""
        return planar_distance(self.seat, self.field, x, y, z)

    def evaluate(self, x: Field, y: Field, z: Field) -> Field:
        """Field of the pad; it goes on behind its plane, where it is cut off afterwards."""
        n, q = self.plane.normal, self.plane.point
        b = n[0] * (x - q[0]) + n[1] * (y - q[1]) + n[2] * (z - q[2])
        out = self.planar(x, y, z) + edge_break(b, self.edge_mm).astype(np.float32)
        return trim(out.astype(np.float32), (b - self.depth_mm).astype(np.float32), 6.0)


@dataclass(frozen=True, eq=False)
class Medial:
    """Sagittal border of a hemisacral implant: one cut plane below the hub, another above it.

    The implant lies on the positive side of both; ``standoff_mm`` behind the border.
    """

    lower: Plane
    upper: Plane
    hub: FloatArray
    cranial: FloatArray
    standoff_mm: float

    def evaluate(self, x: Field, y: Field, z: Field) -> Field:
        """Signed distance to the border, negative on the implant's side of it."""
        c, h = self.cranial, self.hub
        rise = c[0] * (x - h[0]) + c[1] * (y - h[1]) + c[2] * (z - h[2])
        w = smoothstep(rise / MEDIAL_BLEND_MM + 0.5).astype(np.float32)
        out = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), dtype=np.float32)
        for plane, share in ((self.lower, 1.0 - w), (self.upper, w)):
            n, q = plane.normal, plane.point
            d = n[0] * (x - q[0]) + n[1] * (y - q[1]) + n[2] * (z - q[2])
            out += (share * d).astype(np.float32)
        return np.asarray(np.float32(self.standoff_mm) - out, dtype=np.float32)


@dataclass(frozen=True)
class Rim:
    """Suture rim: a plate below the wings."""

    thickness_mm: float
    width_mm: float
    slant: float


def block(
    x: Field,
    y: Field,
    z: Field,
    outline: Outline,
    field: PlanarField,
    length_mm: float,
    taper_mm: float,
    roof: PlanarField,
    lean: FloatArray,
) -> Field:
    """The central block: the endplate's outline drawn down along the endplate's normal.

    ``outline`` lies in the endplate with u to anterior; ``roof`` is the height above the endplate's
    plane at which the block ends, by u and v; ``lean`` (2,) is how far (u, v) the foot is shifted.
    """
    o, axes = outline.origin, outline.axes
    dx, dy, dz = x - o[0], y - o[1], z - o[2]
    u0 = dx * axes[0, 0] + dy * axes[1, 0] + dz * axes[2, 0]
    v0 = dx * axes[0, 1] + dy * axes[1, 1] + dz * axes[2, 1]
    depth = -(dx * axes[0, 2] + dy * axes[1, 2] + dz * axes[2, 2])
    u, v = u0, v0
    if np.any(lean != 0.0):
        way = smoothstep(depth / length_mm).astype(np.float32)
        u, v = u0 - np.float32(lean[0]) * way, v0 - np.float32(lean[1]) * way
    walls = field.at(u, v) + np.float32(taper_mm) * smoothstep(depth / length_mm).astype(np.float32)
    out = trim(walls, (depth - np.float32(length_mm)).astype(np.float32), 16.0)
    return np.asarray(np.maximum(out, -depth - roof.at(u0, v0)), dtype=np.float32)


def window(
    x: Field,
    y: Field,
    z: Field,
    outline: Outline,
    width_mm: float,
    height_mm: float,
    roof_mm: float,
) -> Field:
    """A tunnel from front to back under the endplate, centred on the outline."""
    o, axes = outline.origin, outline.axes
    dx, dy, dz = x - o[0], y - o[1], z - o[2]
    v = dx * axes[0, 1] + dy * axes[1, 1] + dz * axes[2, 1] - outline.centroid_uv[1]
    depth = -(dx * axes[0, 2] + dy * axes[1, 2] + dz * axes[2, 2])
    return box2(
        v.astype(np.float32),
        (depth - roof_mm - 0.5 * height_mm).astype(np.float32),
        0.5 * width_mm,
        0.5 * height_mm,
        0.45 * min(width_mm, height_mm),
    )


def pillar(
    x: Field,
    y: Field,
    z: Field,
    foot: FloatArray,
    top: FloatArray,
    radius: float,
    spread: float = 0.0,
) -> Field:
    """Cylinder from ``foot`` to ``top`` with a flat, slightly rounded top and a round foot.

    ``spread`` widens it towards the foot by that much per mm, beginning 12 mm below the top.
    """
    axis = top - foot
    length = float(np.linalg.norm(axis))
    e = axis / length
    dx, dy, dz = x - foot[0], y - foot[1], z - foot[2]
    s = dx * e[0] + dy * e[1] + dz * e[2]
    radial = np.sqrt(np.maximum(dx * dx + dy * dy + dz * dz - s * s, 0.0) + np.minimum(s, 0.0) ** 2)
    wide = radius + spread * np.maximum(length - 12.0 - np.maximum(s, 0.0), 0.0)
    return trim(
        (radial - wide).astype(np.float32),
        (s - np.float32(length)).astype(np.float32),
        1.5,
    )


def to_segment(points: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """(n,) distances of points (n, 3) from the segment ab."""
    d = b - a
    t = np.clip((points - a) @ d / float(d @ d), 0.0, 1.0)
    return np.asarray(np.linalg.norm(points - a - t[:, None] * d, axis=1))
