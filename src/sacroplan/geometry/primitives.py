"""Closed primitive solids: cylinders, cones, boxes, spheres, tubes, prisms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import (
    DEFAULT_FRAME,
    AxisFrame,
    FloatArray,
    perpendicular,
    unit,
)
from sacroplan.geometry.surface import Surface

SEGMENTS = 48
"""Sides of a round solid: the chord of a 6.5 mm screw is off by 0.007 mm."""


def lathe(
    start: npt.ArrayLike,
    direction: npt.ArrayLike,
    profile: npt.ArrayLike,
    segments: int = SEGMENTS,
    frame: str = DEFAULT_FRAME,
) -> Surface:
    """Solid of revolution about the axis from ``start`` along ``direction``.

    ``profile`` (n, 2) lists (distance along the axis, radius > 0), distances not decreasing.
    """
    rings = np.asarray(profile, dtype=np.float64).reshape(-1, 2)
    if len(rings) < 2 or np.any(rings[:, 1] <= 0) or np.any(np.diff(rings[:, 0]) < 0):
        raise GeometryError("A turned solid needs two or more rings of positive radius, in order.")
    d = unit(direction)
    u = perpendicular(d)
    v = np.cross(d, u)
    origin = np.asarray(start, dtype=np.float64).reshape(3)
    angle = 2.0 * np.pi * np.arange(segments) / segments
    circle = np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v
    points = [origin + z * d + r * circle for z, r in rings]
    points += [(origin + rings[0, 0] * d)[None], (origin + rings[-1, 0] * d)[None]]
    i = np.arange(segments)
    j = (i + 1) % segments
    faces = []
    for ring in range(len(rings) - 1):
        a, b = ring * segments, (ring + 1) * segments
        faces += [np.stack([a + i, a + j, b + j], 1), np.stack([a + i, b + j, b + i], 1)]
    low, high = len(rings) * segments, len(rings) * segments + 1
    last = (len(rings) - 1) * segments
    faces += [np.stack([np.full_like(i, low), j, i], 1)]
    faces += [np.stack([np.full_like(i, high), last + i, last + j], 1)]
    return Surface(np.concatenate(points), np.concatenate(faces).astype(np.int32), frame)


def cylinder(
    start: npt.ArrayLike,
    end: npt.ArrayLike,
    radius_mm: float,
    segments: int = SEGMENTS,
    frame: str = DEFAULT_FRAME,
) -> Surface:
    """Solid cylinder from ``start`` to ``end`` (3,)."""
    return cone(start, end, radius_mm, radius_mm, segments, frame)


def cone(
    start: npt.ArrayLike,
    end: npt.ArrayLike,
    radius_start_mm: float,
    radius_end_mm: float,
    segments: int = SEGMENTS,
    frame: str = DEFAULT_FRAME,
) -> Surface:
    """Truncated cone from ``start`` to ``end`` (3,); both radii positive."""
    a, b = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    length = float(np.linalg.norm(b - a))
    return lathe(a, b - a, [[0.0, radius_start_mm], [length, radius_end_mm]], segments, frame)


def box(at: AxisFrame, low: npt.ArrayLike, high: npt.ArrayLike) -> Surface:
    """Box with corners ``low`` and ``high`` (3,) in the axes of ``at``."""
    a, b = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if np.any(b <= a):
        raise GeometryError(f"A box needs low < high, not {a.tolist()} and {b.tolist()}.")
    corner = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [[q[0], q[1], q[2]] for q in quads] + [[q[0], q[2], q[3]] for q in quads]
    return Surface(at.to_world(a + corner * (b - a)), np.array(faces, dtype=np.int32), at.frame)


def sphere(
    centre: npt.ArrayLike, radius_mm: float, rings: int = 24, frame: str = DEFAULT_FRAME
) -> Surface:
    """Sphere with ``rings`` circles of latitude."""
    polar = np.pi * (np.arange(rings) + 0.5) / rings
    profile = np.stack([-radius_mm * np.cos(polar), radius_mm * np.sin(polar)], axis=1)
    body = lathe(centre, [0.0, 0.0, 1.0], profile, 2 * rings, frame)
    # The two cap centres move out to the poles.
    v = body.vertices.copy()
    v[-2:] = np.asarray(centre, dtype=np.float64) + [[0, 0, -radius_mm], [0, 0, radius_mm]]
    return Surface(v, body.faces, frame)


def tube(
    path: npt.ArrayLike, radius_mm: float, segments: int = 32, frame: str = DEFAULT_FRAME
) -> Surface:
    """Round rod along a smooth polyline (n, 3), rotation-minimising so that it does not twist."""
    p = np.asarray(path, dtype=np.float64).reshape(-1, 3)
    if len(p) < 2:
        raise GeometryError("A rod needs at least two points.")
    tangent = np.gradient(p, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    u = perpendicular(tangent[0])
    angle = 2.0 * np.pi * np.arange(segments) / segments
    rings = []
    for point, t in zip(p, tangent, strict=True):
        u = unit(u - (u @ t) * t)
        v = np.cross(t, u)
        rings.append(point + radius_mm * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v))
    n = len(p)
    i = np.arange(segments)
    j = (i + 1) % segments
    faces = []
    for ring in range(n - 1):
        a, b = ring * segments, (ring + 1) * segments
        faces += [np.stack([a + i, a + j, b + j], 1), np.stack([a + i, b + j, b + i], 1)]
    low, high, last = n * segments, n * segments + 1, (n - 1) * segments
    faces += [np.stack([np.full_like(i, low), j, i], 1)]
    faces += [np.stack([np.full_like(i, high), last + i, last + j], 1)]
    vertices: FloatArray = np.concatenate([*rings, p[:1], p[-1:]])
    return Surface(vertices, np.concatenate(faces).astype(np.int32), frame)


def prism(
    loops: list[FloatArray],
    origin: npt.ArrayLike,
    axes: npt.ArrayLike,
    low_mm: float,
    high_mm: float,
    frame: str = DEFAULT_FRAME,
) -> Surface:
    """Extrusion of polygons (n, 2) in the plane u, v from ``low_mm`` to ``high_mm`` along n.

    ``axes`` (3, 3) holds columns u, v, n; holes are loops of opposite orientation.
    """
    import manifold3d

    from sacroplan.geometry.booleans import from_manifold

    section = manifold3d.CrossSection([np.asarray(p, dtype=np.float64) for p in loops])
    local = from_manifold(manifold3d.Manifold.extrude(section, high_mm - low_mm), frame)
    if not len(local.faces):
        raise GeometryError("The polygon to be extruded has no area.")
    v = local.vertices + [0.0, 0.0, low_mm]
    a = np.asarray(axes, dtype=np.float64)
    return Surface(v @ a.T + np.asarray(origin, dtype=np.float64), local.faces, frame)
