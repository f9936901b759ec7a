"""Seats of a strut: flats on L5's endplate, on a sawn ilium, above the socket; how well an end touches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import to_manifold
from sacroplan.geometry.frames import FloatArray, Plane, unit
from sacroplan.geometry.slicing import CrossSection, polygon_area, section
from sacroplan.geometry.surface import Surface

GRID_MM = 4.0
"""Spacing of candidate points on a seat: a fibula is some 14 mm thick."""

HAIR_MM = 0.02
"""The host is cut so far below a flat: in the flat of a sawn face itself it has no section."""

FACE_MM = 0.5
"""Spacing of the points of an end face at which its contact is measured."""


@dataclass(frozen=True, eq=False)
class Seat:
    """A flat on a host bone on which a strut ends.

    Attributes
    ----------
    name : what a reader calls it. host : closed surface of the bone.
    plane : the flat; its normal points out of the host.
    region : where on the flat the end's middle may lie, loops in the plane.
    milled : whether the flat is made by milling (an endplate) rather than by the saw (a cut face).
    """

    name: str
    host: Surface
    plane: Plane
    region: CrossSection
    milled: bool
    _solid: list[Any] = field(default_factory=list, init=False, repr=False)
    _flat: list[CrossSection] = field(default_factory=list, init=False, repr=False)

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.host.frame

    @property
    def flat(self) -> CrossSection:
        """The host's section a hair below the flat: what a strut can stand on. Found once."""
        if not self._flat:
            if not self._solid:
                self._solid.append(to_manifold(self.host, self.name))
            below = self.plane.shifted(-HAIR_MM)
            self._flat.append(section(self.host, below, solid=self._solid[0]))
        return self._flat[0]

    def lowered(self, depth_mm: float) -> Seat:
        """The same seat milled deeper."""
        if depth_mm == 0.0:
            return self
        deeper = Seat(self.name, self.host, self.plane.shifted(-depth_mm), self.region, self.milled)
        if not self._solid:
            self._solid.append(to_manifold(self.host, self.name))
        deeper._solid.append(self._solid[0])
        return deeper


@dataclass(frozen=True)
class Contact:
    """How an end face meets its host: share within the gap, area touching, widest gap."""

    share_percent: float
    area_mm2: float
    widest_gap_mm: float


def inset(cross: CrossSection, by_mm: float) -> CrossSection:
    """The section without its rim of ``by_mm``; loops may vanish."""
    import manifold3d

    shape = manifold3d.CrossSection(
        [np.asarray(p) for p in cross.loops], manifold3d.FillRule.Positive
    )
    inner = shape.offset(-by_mm, manifold3d.JoinType.Round)
    loops = tuple(np.asarray(p, dtype=np.float64) for p in inner.to_polygons())
    return CrossSection(cross.origin, cross.axes, loops, cross.frame)


def inside(loops: tuple[FloatArray, ...], uv: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether points (n, 2) lie in the area of polygons with holes, by even and odd crossings."""
    odd = np.zeros(len(uv), dtype=bool)
    for loop in loops:
        a, b = loop, np.roll(loop, -1, axis=0)
        y, x = uv[:, 1, None], uv[:, 0, None]
        spans = (a[None, :, 1] > y) != (b[None, :, 1] > y)
        rise = np.where(b[:, 1] == a[:, 1], 1.0, b[:, 1] - a[:, 1])
        at = a[None, :, 0] + (y - a[None, :, 1]) * ((b[:, 0] - a[:, 0]) / rise)[None]
        odd ^= (np.count_nonzero(spans & (x < at), axis=1) % 2).astype(bool)
    return np.asarray(odd)


def grid_in(cross: CrossSection, spacing_mm: float) -> FloatArray:
    """LPS points (n, 3) of a square grid inside a section, about its own origin."""
    if not cross.loops:
        return np.zeros((0, 3))
    every = np.concatenate(cross.loops)
    low = np.ceil(every.min(axis=0) / spacing_mm) * spacing_mm
    ticks = [
        np.arange(a, b + 1e-9, spacing_mm) for a, b in zip(low, every.max(axis=0), strict=True)
    ]
    u, v = np.meshgrid(*ticks, indexing="ij")
    uv = np.stack([u.ravel(), v.ravel()], axis=1)
    return cross.to_world(uv[inside(cross.loops, uv)])


def endplate_seat(
    name: str,
    host: Surface,
    plane: Plane,
    right: FloatArray,
    side: str | None,
    depth_mm: float = 1.0,
) -> Seat:
    """A milled seat under an endplate; ``plane`` lies on it, its normal out of the bone.

    The region is the bone's section ``depth_mm`` inside, on ``side`` of the plane's point where one is
    given (``right`` (3,) points to the patient's right).
    """
    cross = section(host, plane.shifted(-depth_mm), right)
    # A hollow endplate gives a ring: its middle is milled down to the flat as well.
    outer = [p for p in cross.loops if polygon_area(p) > 0]
    if not outer:
        raise PlanError(f"The seat {name} lies outside its bone; check the endplate's frame.")
    cross = replace(cross, loops=(max(outer, key=polygon_area),))
    if side is not None:
        cross = half(cross, plane.point, unit(right) * (1.0 if side == "right" else -1.0))
    on_plane = cross.origin - float(plane.distance(cross.origin)) * plane.normal
    return Seat(name, host, plane, replace(cross, origin=on_plane), True)


def half(cross: CrossSection, point: FloatArray, towards: FloatArray) -> CrossSection:
    """The part of a section on the side of ``point`` to which ``towards`` (3,) points."""
    import manifold3d

    n = np.asarray(towards) @ cross.axes[:, :2]
    n = n / np.linalg.norm(n)
    at = cross.to_plane(np.asarray(point)[None])[0]
    t = np.array([-n[1], n[0]])
    far = 500.0
    square = np.array([at - far * t, at + far * t, at + far * t + far * n, at - far * t + far * n])
    common = manifold3d.CrossSection(
        [np.asarray(p) for p in cross.loops], manifold3d.FillRule.Positive
    ) ^ manifold3d.CrossSection([square], manifold3d.FillRule.NonZero)
    loops = tuple(np.asarray(p, dtype=np.float64) for p in common.to_polygons())
    return CrossSection(cross.origin, cross.axes, loops, cross.frame)


def sawn_seat(name: str, host: Surface, face: Plane, outline: CrossSection) -> Seat:
    """A seat on a cut face of the bone that stays: ``face`` is that face, normal out of the bone."""
    moved = outline.to_world(np.concatenate(outline.loops)) if outline.loops else np.zeros((0, 3))
    if not len(moved):
        raise PlanError(f"The seat {name} has no cut face.")
    axes = np.stack([outline.axes[:, 0], np.cross(face.normal, outline.axes[:, 0]), face.normal], 1)
    turned = float(
        np.linalg.det(np.stack([outline.axes[:, 0], outline.axes[:, 1], face.normal], 1))
    )
    loops = tuple((p if turned > 0 else (p * [1.0, -1.0])[::-1]) for p in outline.loops)
    origin = outline.origin - float(face.distance(outline.origin)) * face.normal
    return Seat(name, host, face, CrossSection(origin, axes, loops, outline.frame), False)


def touching(seat: Seat, end: CrossSection, gap_mm: float) -> Contact:
    """Contact of an end face (its section in the seat's plane) with the host.

    Points of the face over the host's own section touch the flat that was milled or sawn there; others
    are as far from it as from the outline of that section, which is no nearer than the bone itself.
    """
    points = grid_in(end, FACE_MM)
    if not len(points):
        return Contact(0.0, 0.0, np.inf)
    flat = seat.flat
    uv = flat.to_plane(points)
    gap = np.zeros(len(uv))
    off = ~inside(flat.loops, uv) if flat.loops else np.ones(len(uv), dtype=bool)
    if off.any():
        gap[off] = _to_outline(flat.loops, uv[off])
    near = gap <= gap_mm
    return Contact(100.0 * float(near.mean()), float(near.mean()) * end.area_mm2, float(gap.max()))


def _to_outline(loops: tuple[FloatArray, ...], uv: FloatArray) -> FloatArray:
    """Distance (n,) of points (n, 2) to the nearest edge of polygons; inf without any."""
    best = np.full(len(uv), np.inf)
    for loop in loops:
        a, edge = loop, np.roll(loop, -1, axis=0) - loop
        size = np.maximum((edge * edge).sum(axis=1), 1e-12)
        to = uv[:, None] - a[None]
        t = np.clip((to * edge[None]).sum(axis=2) / size[None], 0.0, 1.0)
        d = np.linalg.norm(to - t[..., None] * edge[None], axis=2)
        best = np.minimum(best, d.min(axis=1))
    return best
