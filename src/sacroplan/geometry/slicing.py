"""Plane sections of solids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import FloatArray, Plane, perpendicular, same_frame, unit
from sacroplan.geometry.surface import Surface


def plane_axes(plane: Plane, up: FloatArray | None = None) -> FloatArray:
    """(3, 3) columns u, v, n of an in-plane basis, right-handed.

    v follows ``up`` (LPS direction) where it is given and not parallel to the normal.
    """
    if up is None or abs(float(unit(up) @ plane.normal)) > 0.999:
        u = perpendicular(plane.normal)
    else:
        u = unit(np.cross(up, plane.normal))
    return np.stack([u, np.cross(plane.normal, u), plane.normal], axis=1)


@dataclass(frozen=True, eq=False)
class CrossSection:
    """Outlines of a solid in a plane.

    Attributes
    ----------
    origin : (3,) LPS point of the 2-D origin. axes : (3, 3) columns u, v, n.
    loops : closed polygons (n, 2) in u, v mm; outer ones counter-clockwise, holes clockwise.
    """

    origin: FloatArray
    axes: FloatArray
    loops: tuple[FloatArray, ...]
    frame: str

    @property
    def area_mm2(self) -> float:
        """Area with holes taken out."""
        return float(sum(polygon_area(loop) for loop in self.loops))

    @property
    def centroid(self) -> FloatArray:
        """(3,) LPS centroid of the area; raises on an empty section."""
        total, moment = 0.0, np.zeros(2)
        for loop in self.loops:
            x, y = loop[:, 0], loop[:, 1]
            cross = x * np.roll(y, -1) - np.roll(x, -1) * y
            total += 0.5 * float(cross.sum())
            moment += (
                np.array(
                    [((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()]
                )
                / 6.0
            )
        if abs(total) < 1e-9:
            raise GeometryError("The plane does not cut the solid: there is no section.")
        return np.asarray(self.to_world((moment / total)[None])[0])

    def to_world(self, uv: FloatArray) -> FloatArray:
        """Plane coordinates (n, 2) to LPS (n, 3)."""
        return np.asarray(self.origin + np.asarray(uv) @ self.axes[:, :2].T)

    def to_plane(self, points: FloatArray) -> FloatArray:
        """LPS points (n, 3) to plane coordinates (n, 2), dropping the out-of-plane part."""
        return np.asarray((np.asarray(points) - self.origin) @ self.axes[:, :2])


def polygon_area(loop: FloatArray) -> float:
    """Signed area of a closed polygon (n, 2); counter-clockwise is positive."""
    x, y = loop[:, 0], loop[:, 1]
    return float(0.5 * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def section(
    surface: Surface, plane: Plane, up: FloatArray | None = None, solid: Any = None
) -> CrossSection:
    """Section of a closed surface by a plane; ``loops`` is empty where they do not meet.

    ``solid`` is the surface's manifold3d solid where it is at hand: it need not be built again.
    """
    from sacroplan.geometry.booleans import to_manifold

    same_frame(surface, plane)
    axes = plane_axes(plane, up)
    if solid is None:
        local = Surface((surface.vertices - plane.point) @ axes, surface.faces, surface.frame)
        placed = to_manifold(local, "the solid to be sectioned")
    else:
        placed = solid.transform(np.column_stack([axes.T, -axes.T @ plane.point]))
    polygons = placed.slice(0.0).to_polygons()
    loops = tuple(np.asarray(p, dtype=np.float64) for p in polygons if len(p) >= 3)
    return CrossSection(plane.point, axes, loops, surface.frame)
