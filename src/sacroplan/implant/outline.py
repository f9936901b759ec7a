"""Flat outlines: the cut face of a bone, the rim of an endplate, and their distance on a raster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane
from sacroplan.geometry.slicing import plane_axes, polygon_area, section
from sacroplan.geometry.surface import Surface

COPLANAR_MM = 0.02
"""A vertex this near to the cut plane lies on it: float32 files are good to 0.00002 mm, saws are not."""

SMALLEST_FACE_MM2 = 100.0
"""A flat patch smaller than a fingernail is no seat."""

RASTER_MM = 0.5
"""Raster of planar distances; bilinear sampling of a 4 mm corner is then within 0.01 mm."""


@dataclass(frozen=True, eq=False)
class Outline:
    """A flat region: ``loops`` (n, 2) in the plane through ``origin`` with ``axes`` columns u, v, n."""

    origin: FloatArray
    axes: FloatArray
    loops: tuple[FloatArray, ...]

    @property
    def area_mm2(self) -> float:
        """Area, holes taken out."""
        return float(sum(polygon_area(loop) for loop in self.loops))

    @property
    def centroid_uv(self) -> FloatArray:
        """(2,) centroid of the area in u, v."""
        total, moment = 0.0, np.zeros(2)
        for loop in self.loops:
            following = np.roll(loop, -1, axis=0)
            cross = loop[:, 0] * following[:, 1] - following[:, 0] * loop[:, 1]
            total += 0.5 * float(cross.sum())
            moment += ((loop + following) * cross[:, None]).sum(axis=0) / 6.0
        return np.asarray(moment / total)

    def to_world(self, uv: npt.ArrayLike) -> FloatArray:
        """Plane coordinates (n, 2) or (2,) to space."""
        return np.asarray(self.origin + np.asarray(uv) @ self.axes[:, :2].T)

    def to_plane(self, points: npt.ArrayLike) -> FloatArray:
        """Points (n, 3) or (3,) to plane coordinates."""
        return np.asarray((np.asarray(points) - self.origin) @ self.axes[:, :2])

    @property
    def rim(self) -> FloatArray:
        """(n, 3) all corners in space."""
        return self.to_world(np.concatenate(self.loops))

    def cross_section(self) -> Any:
        """The region as a manifold3d CrossSection."""
        import manifold3d

        return manifold3d.CrossSection([np.ascontiguousarray(p) for p in self.loops])

    def replaced(self, region: Any) -> Outline:
        """The same plane with another region (manifold3d CrossSection)."""
        loops = tuple(np.asarray(p, dtype=np.float64) for p in region.to_polygons() if len(p) > 2)
        return Outline(self.origin, self.axes, loops)

    def eroded(self, inset_mm: float, corner_mm: float) -> Outline:
        """The region moved inwards by ``inset_mm`` and its corners rounded to ``corner_mm``."""
        inner = self.cross_section().offset(-(inset_mm + corner_mm), circular_segments=64)
        return self.replaced(inner.offset(corner_mm, circular_segments=64).simplify(0.01))

    def below(self, limit_v: float) -> Outline:
        """The part with v < ``limit_v``."""
        import manifold3d

        corners = np.concatenate(self.loops)
        low, high = corners.min(axis=0) - 1.0, corners.max(axis=0) + 1.0
        high[1] = max(min(limit_v, high[1]), low[1] + 1e-3)
        box = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
        return self.replaced(self.cross_section() ^ manifold3d.CrossSection([box]))

    def above(self, limit_v: float) -> Outline:
        """The part with v > ``limit_v``."""
        import manifold3d

        corners = np.concatenate(self.loops)
        low, high = corners.min(axis=0) - 1.0, corners.max(axis=0) + 1.0
        low[1] = min(max(limit_v, low[1]), high[1] - 1e-3)
        box = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
        return self.replaced(self.cross_section() ^ manifold3d.CrossSection([box]))

    def beyond(self, plane: Plane) -> Outline:
        """The part on the positive side of ``plane``, which must not be parallel to the outline's own."""
        import manifold3d

        n = self.axes[:, :2].T @ plane.normal
        length = float(np.linalg.norm(n))
        if length < 1e-6:
            raise PlanError("An outline cannot be cut by a plane parallel to its own.")
        n = n / length
        foot = n * float((plane.point - self.origin) @ plane.normal) / length
        t = np.array([-n[1], n[0]])
        far = 500.0
        # Counter-clockwise: along -t, out along n, back along t.
        half = np.array(
            [foot + far * t, foot - far * t, foot - far * t + far * n, foot + far * t + far * n]
        )
        if polygon_area(half) < 0:
            half = half[::-1]
        return self.replaced(self.cross_section() ^ manifold3d.CrossSection([half]))

    def largest(self) -> Outline:
        """The largest connected piece; itself where nothing is left."""
        pieces = self.pieces() if self.loops else []
        return pieces[0] if pieces else self

    def pieces(self) -> list[Outline]:
        """Connected pieces, largest first."""
        parts = [self.replaced(p) for p in self.cross_section().decompose()]
        return sorted((p for p in parts if p.loops), key=lambda p: -p.area_mm2)


@dataclass(frozen=True, eq=False)
class PlanarField:
    """Signed distance (mm, negative inside) of an outline on a raster ``values`` (u, v)."""

    low: FloatArray
    values: npt.NDArray[np.float32]

    def at(self, u: npt.NDArray[Any], v: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Distance at plane coordinates of any common shape; clamped at the raster's border."""
        from scipy.ndimage import map_coordinates

        index = np.stack(
            [
                ((np.asarray(u) - self.low[0]) / RASTER_MM).astype(np.float32).ravel(),
                ((np.asarray(v) - self.low[1]) / RASTER_MM).astype(np.float32).ravel(),
            ]
        )
        out = map_coordinates(self.values, index, order=1, mode="nearest", output=np.float32)
        return np.asarray(out.reshape(np.shape(u)))


def raster(outline: Outline, margin_mm: float, smooth_mm: float = 0.0) -> PlanarField:
    """Planar signed distance of an outline, ``margin_mm`` beyond it on every side.

    ``smooth_mm`` is the sigma of a Gaussian that takes the facets of the bone mesh out of the outline.
    """
    from scipy.ndimage import gaussian_filter

    corners = np.concatenate(outline.loops)
    # The raster hangs on the centroid, so that a mirrored outline gets the mirrored raster.
    centre = outline.centroid_uv
    reach = np.abs(corners - centre).max(axis=0) + margin_mm
    n = np.ceil(reach / RASTER_MM).astype(int)
    low = centre - n * RASTER_MM
    u = low[0] + RASTER_MM * np.arange(2 * n[0] + 1)[:, None]
    v = low[1] + RASTER_MM * np.arange(2 * n[1] + 1)[None, :]
    squared = np.full((u.size, v.size), np.inf)
    inside = np.zeros(squared.shape, dtype=bool)
    for loop in outline.loops:
        for a, b in zip(loop, np.roll(loop, -1, axis=0), strict=True):
            d = b - a
            length = float(d @ d)
            if length < 1e-18:
                continue
            s = np.clip(((u - a[0]) * d[0] + (v - a[1]) * d[1]) / length, 0.0, 1.0)
            np.minimum(
                squared, (u - a[0] - s * d[0]) ** 2 + (v - a[1] - s * d[1]) ** 2, out=squared
            )
            if d[1] != 0.0:
                crosses = ((a[1] <= v) != (b[1] <= v)) & (u < a[0] + (v - a[1]) * d[0] / d[1])
                inside ^= crosses
    distance = np.where(inside, -1.0, 1.0) * np.sqrt(squared)
    if smooth_mm > 0.0:
        distance = gaussian_filter(distance, smooth_mm / RASTER_MM)
    return PlanarField(low, distance.astype(np.float32))


def cut_face(hip: Surface, plane: Plane, up: FloatArray, near: FloatArray, name: str) -> Outline:
    """The flat face that an osteotomy left on a remnant: faces on ``plane`` that look along its normal.

    Of several patches of at least 100 mm2 the one nearest to the point ``near`` (3,) is meant. u runs
    across, v follows ``up``; coordinates are those of the design frame. Raises :class:`PlanError` when
    the remnant has no face on the plane.
    """
    import manifold3d

    axes = plane_axes(plane, up)
    on_plane = np.abs(plane.distance(hip.vertices)) < COPLANAR_MM
    flat = on_plane[hip.faces].all(axis=1) & (hip.face_normals @ plane.normal > 0.99)
    local = (hip.vertices - plane.point) @ axes[:, :2]
    triangles = local[hip.faces[flat]]
    if not len(triangles):
        nearest = float(np.abs(plane.distance(hip.vertices)).min()) if len(hip.vertices) else np.inf
        raise PlanError(
            f"The remnant {name} has no face on its cut plane (nearest vertex {nearest:.2f} mm away); "
            "give the plane of the remnant's cut face with the normal away from the remnant."
        )
    region = manifold3d.CrossSection(list(triangles), manifold3d.FillRule.NonZero)
    # Neighbouring triangles may part by rounding: close cracks of a micrometre.
    region = region.offset(1e-3, manifold3d.JoinType.Miter).offset(-1e-3, manifold3d.JoinType.Miter)
    whole = Outline(np.array(plane.point), axes, ()).replaced(region.simplify(1e-3))
    pieces = [p for p in whole.pieces() if p.area_mm2 >= SMALLEST_FACE_MM2]
    if not pieces:
        raise PlanError(
            f"The cut face of remnant {name} measures {whole.area_mm2:.0f} mm2; a wing needs at least "
            f"{SMALLEST_FACE_MM2:.0f} mm2. Move the osteotomy."
        )
    return min(pieces, key=lambda p: float(np.linalg.norm(p.to_world(p.centroid_uv) - near)))


def endplate_outline(
    vertebra: Surface, endplate: AxisFrame, depth_mm: float, name: str = "L5"
) -> Outline:
    """Outline of the vertebral body ``depth_mm`` above its inferior endplate, laid into the endplate.

    u points to anterior, v to the patient's left of the endplate frame (x anterior, y cranial, z right).
    """
    cranial = endplate.axes[:, 1]
    plane = Plane(endplate.origin + depth_mm * cranial, cranial, vertebra.frame)
    axes = np.stack([endplate.axes[:, 0], -endplate.axes[:, 2], cranial], axis=1)
    cut = section(vertebra, plane)
    to_uv = axes[:, :2].T @ cut.axes[:, :2]
    shift = (cut.origin - endplate.origin) @ axes[:, :2]
    # A concave endplate leaves a hole in the section; only the outer border counts.
    loops = [loop @ to_uv.T + shift for loop in cut.loops if polygon_area(loop) > 0]
    if not loops:
        raise PlanError(
            f"{name} has no section {depth_mm:g} mm above its inferior endplate; check the endplate frame."
        )
    distance = [float(np.linalg.norm(loop, axis=1).min()) for loop in loops]
    centred = [i for i, loop in enumerate(loops) if _winding(loop)]
    best = centred[0] if centred else int(np.argmin(distance))
    return Outline(np.array(endplate.origin), axes, (loops[best],))


def _winding(loop: FloatArray) -> bool:
    """Whether the polygon contains its 2-D origin."""
    angle = np.arctan2(loop[:, 1], loop[:, 0])
    step = np.diff(np.append(angle, angle[0]))
    step = (step + np.pi) % (2.0 * np.pi) - np.pi
    return bool(abs(step.sum()) > np.pi)
