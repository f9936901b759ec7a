"""Parts of the model as implicit functions: negative inside, mm, in the mesher's local frame.

Bones and printed parts come from triangle surfaces through a distance field on a grid; screws and
rods are exact. Everything is expressed in the pelvic frame before it is meshed, so that a rigid
motion of the whole case does not change the mesh.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sacroplan.errors import MechanicsError
from sacroplan.geometry.fields import DistanceField, distance_field
from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry

Implicit = Callable[[FloatArray], FloatArray]
"""Points (n, 3) local mm to signed distance (n,) mm."""

Kind = Literal["rod", "screw", "core", "porous", "graft", "bone", "joint"]

METAL: tuple[Kind, ...] = ("rod", "screw", "core", "porous")
"""Kinds of printed or machined metal, highest priority first; grafts and bone yield to it."""

MARGIN_MM = 12.0
"""A bone's distance grid reaches this far beyond it; only joints ask further, and they need not
know distances beyond their widest gap."""


@dataclass(frozen=True, slots=True)
class Solid:
    """A part: its name, kind and implicit function in the local frame."""

    name: str
    kind: Kind
    distance: Implicit


def local_surface(surface: Surface, axes: AxisFrame) -> Surface:
    """The surface in the local coordinates of ``axes``."""
    return Surface(axes.to_local(surface.vertices), surface.faces, surface.frame)


def remembered(function: Implicit) -> Implicit:
    """``function`` that answers at once when asked again about the very same array.

    Composite parts ask each bone several times about one array of points. The array must not be
    changed in between; callers here always pass fresh arrays. Each thread has its own memory.
    """
    last = threading.local()

    def distance(points: FloatArray) -> FloatArray:
        if getattr(last, "points", None) is not points:
            last.points, last.answer = points, function(points)
        return np.asarray(last.answer)

    return distance


def surface_distance(surface: Surface, spacing_mm: float, margin_mm: float = MARGIN_MM) -> Implicit:
    """Signed distance to a closed surface in local coordinates, from a grid along local axes.

    The grid is anchored at the surface's own corner; nothing depends on the world's origin.
    """
    from sacroplan.mechanics import _mesh_kernels

    field = _field_of(surface, spacing_mm, margin_mm)
    values, origin = field.values, field.geometry.origin

    def distance(points: FloatArray) -> FloatArray:
        return np.asarray(_mesh_kernels.field_at(values, origin, spacing_mm, points))

    return remembered(distance)


def _field_of(surface: Surface, spacing_mm: float, margin_mm: float) -> DistanceField:
    low = surface.vertices.min(axis=0) - margin_mm
    high = surface.vertices.max(axis=0) + margin_mm
    n = np.ceil((high - low) / spacing_mm).astype(int) + 1
    shape = (int(n[0]), int(n[1]), int(n[2]))
    grid = VolumeGeometry(shape, np.full(3, spacing_mm), low, np.eye(3), surface.frame)
    return distance_field(surface, grid)


def cylinder(start: FloatArray, stop: FloatArray, radius_mm: float) -> Implicit:
    """Flat-ended cylinder from ``start`` to ``stop`` (3,)."""
    axis = np.asarray(stop, dtype=np.float64) - start
    length = float(np.linalg.norm(axis))
    if length < 1e-6 or radius_mm <= 0:
        raise MechanicsError(
            f"A screw of length {length:.3g} mm and radius {radius_mm:.3g} mm cannot be meshed."
        )
    axis = axis / length
    middle = 0.5 * (np.asarray(start) + stop)

    def distance(points: FloatArray) -> FloatArray:
        r = points - middle
        along = r @ axis
        across = np.sqrt(np.maximum(np.einsum("ij,ij->i", r, r) - along**2, 0.0)) - radius_mm
        beyond = np.abs(along) - 0.5 * length
        outside = np.hypot(np.maximum(across, 0.0), np.maximum(beyond, 0.0))
        return np.asarray(np.minimum(np.maximum(across, beyond), 0.0) + outside)

    return distance


def tube(polyline: FloatArray, radius_mm: float) -> Implicit:
    """Round bar along a polyline (n, 3), with round ends and elbows."""
    line = np.asarray(polyline, dtype=np.float64).reshape(-1, 3)
    if len(line) < 2 or radius_mm <= 0:
        raise MechanicsError(
            f"A rod needs at least two points and a positive diameter, not {len(line)} points and "
            f"{2 * radius_mm:.3g} mm."
        )

    from sacroplan.mechanics import _mesh_kernels

    def distance(points: FloatArray) -> FloatArray:
        return np.asarray(_mesh_kernels.to_polyline(points, line) - radius_mm)

    return distance


def carved(own: Implicit, others: tuple[Implicit, ...], gap_mm: float) -> Implicit:
    """``own`` cut back so that ``gap_mm`` stays free around its mid-surface with each other bone.

    Segmented neighbours touch or overlap at thin joints; the mid-surface is where both are equally
    deep, and it belongs to the joint.
    """
    if not others:
        return own

    def distance(points: FloatArray) -> FloatArray:
        d = own(points)
        out = d
        for other in others:
            out = np.maximum(out, 0.5 * (d - other(points) + gap_mm))
        return out

    return distance


def between(a: Implicit, b: Implicit, gap_mm: float, region: Implicit | None = None) -> Implicit:
    """Joint tissue: points that two bones bridge within ``gap_mm``, inside ``region`` if given."""

    def distance(points: FloatArray) -> FloatArray:
        d = 0.5 * (a(points) + b(points) - gap_mm)
        return d if region is None else np.maximum(d, region(points))

    return distance


def gradient(function: Implicit, points: FloatArray, step_mm: float) -> FloatArray:
    """(n, 3) unit gradient of an implicit function by central differences."""
    n = len(points)
    offsets = np.concatenate([np.eye(3), -np.eye(3)]) * step_mm
    values = function((points[None] + offsets[:, None]).reshape(-1, 3)).reshape(6, n)
    g = (values[:3] - values[3:]).T
    length = np.linalg.norm(g, axis=1, keepdims=True)
    return np.asarray(np.divide(g, length, out=np.zeros_like(g), where=length > 1e-9))
