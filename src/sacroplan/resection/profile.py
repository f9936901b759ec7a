"""The line of a saw cut with corners, seen along the blade: polyplanes, steps, Z and oblique cuts.

A polyplane is a chain of straight lines in a plane across the blade, drawn out along the blade. Its
two faces are the same chain moved half a kerf to either side with mitred corners, so that every facet
lies exactly half a kerf from its centre plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray, Plane, perpendicular, unit
from sacroplan.geometry.primitives import prism
from sacroplan.geometry.surface import Surface

FAR_MM = 400.0
"""An open end goes on this far: beyond any bone."""

SHORTEST_MM = 3.0
"""A facet shorter than this cannot be sawn with an oscillating blade."""

SHARPEST_DEG = 150.0
"""Turning by more at a corner would fold the cut back on itself."""


@dataclass(frozen=True, eq=False)
class Profile:
    """A chain of corners across the blade.

    Attributes
    ----------
    points : (k, 3) LPS, k >= 2; the specimen lies to the left when walking along them and looking
        against ``saw``. saw : (3,) unit vector out of the bone along the blade.
    open : whether the first and last facet go on beyond their ends.
    depth_mm : how far the blade goes in from the points, None for through and through.
    """

    points: FloatArray
    saw: FloatArray
    open: bool
    depth_mm: float | None
    frame: str

    @property
    def basis(self) -> FloatArray:
        """(3, 3) columns: two directions across the blade, and the blade; right-handed."""
        u = perpendicular(self.saw)
        return np.stack([u, np.cross(self.saw, u), self.saw], axis=1)

    @property
    def flat(self) -> FloatArray:
        """(k, 2) corners across the blade, relative to the first point."""
        return np.asarray((self.points - self.points[0]) @ self.basis[:, :2])

    def drawn_out(self) -> FloatArray:
        """(k, 2) corners with open ends moved far out."""
        p = self.flat.copy()
        if self.open:
            p[0] += FAR_MM * _direction(p[1], p[0])
            p[-1] += FAR_MM * _direction(p[-2], p[-1])
        return p

    def planes(self) -> list[Plane]:
        """Centre plane of every facet, normal to the specimen, through the facet's middle."""
        out = []
        for a, b in pairwise(self.points):
            d = b - a
            d = unit(d - (d @ self.saw) * self.saw)
            out.append(Plane(0.5 * (a + b), np.cross(self.saw, d), self.frame))
        return out

    def side(self, points: FloatArray) -> FloatArray:
        """(n,) signed distance across the blade, positive on the specimen's side."""
        q = (np.asarray(points, dtype=np.float64).reshape(-1, 3) - self.points[0]) @ self.basis[
            :, :2
        ]
        p = self.flat.copy()
        p[0] += FAR_MM * _direction(p[1], p[0])
        p[-1] += FAR_MM * _direction(p[-2], p[-1])
        a, b = p[:-1], p[1:]
        d = b - a
        t = np.einsum("nkx,kx->nk", q[:, None] - a, d) / np.einsum("kx,kx->k", d, d)
        foot = a + np.clip(t, 0.0, 1.0)[..., None] * d
        gap = np.linalg.norm(q[:, None] - foot, axis=2)
        near = gap.argmin(axis=1)
        rows = np.arange(len(q))
        left = np.stack([-d[:, 1], d[:, 0]], axis=1)
        sign = np.einsum("nx,nx->n", q - a[near], left[near])
        # At a corner the two facets may disagree; the one that is met more squarely decides.
        tie = np.abs(gap - gap.min(axis=1, keepdims=True)) < 1e-9
        square = np.einsum(
            "nkx,kx->nk", q[:, None] - foot, left / np.linalg.norm(left, axis=1)[:, None]
        )
        best = np.where(tie, np.abs(square), -1.0).argmax(axis=1)
        sign = np.where(tie.sum(axis=1) > 1, square[rows, best], sign)
        return np.asarray(np.where(sign >= 0, 1.0, -1.0) * gap[rows, near])

    def slab(self, half_mm: float) -> Surface:
        """Closed solid of everything within ``half_mm`` of the chain, mitred, as deep as the blade."""
        p = self.drawn_out()
        outline = np.concatenate([_offset(p, half_mm), _offset(p, -half_mm)[::-1]])
        if _area(outline) < 0:
            outline = outline[::-1]
        low = -FAR_MM if self.depth_mm is None else -self.depth_mm
        return prism([outline], self.points[0], self.basis, low, FAR_MM, self.frame)


def _direction(a: FloatArray, b: FloatArray) -> FloatArray:
    d = b - a
    return np.asarray(d / np.linalg.norm(d))


def _area(p: FloatArray) -> float:
    x, y = p.T
    return float(0.5 * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _offset(p: FloatArray, left_mm: float) -> FloatArray:
    """The chain moved to its left, corners mitred."""
    d = np.diff(p, axis=0)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    n = np.stack([-d[:, 1], d[:, 0]], axis=1)
    out = p.copy()
    out[0] += left_mm * n[0]
    out[-1] += left_mm * n[-1]
    for k in range(1, len(p) - 1):
        both = n[k - 1] + n[k]
        out[k] += left_mm * both * 2.0 / float(both @ both)
    return out


def profile(
    points: FloatArray,
    saw: FloatArray,
    towards: FloatArray,
    frame: str,
    *,
    open_ends: bool = True,
    depth_mm: float | None = None,
    name: str = "cut",
) -> Profile:
    """A checked chain whose specimen side is where ``towards`` (3,) points from its first facet.

    Points are brought to one level along the blade, the outermost. Raises :class:`PlanError` on a
    chain with facets too short to saw, or folded back on itself.
    """
    p = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    e = unit(saw)
    if len(p) < 2:
        raise PlanError(f"The cut {name} needs two or more points; {len(p)} given.")
    height = (p @ e).max()
    p = p + (height - p @ e)[:, None] * e
    length = np.linalg.norm(np.diff(p, axis=0), axis=1)
    if length.min() < SHORTEST_MM:
        raise PlanError(
            f"The cut {name} has a facet of {length.min():.1f} mm across the blade; at least "
            f"{SHORTEST_MM:g} mm can be sawn. Move its corners apart or turn its saw direction."
        )
    d = np.diff(p, axis=0) / length[:, None]
    turn = np.rad2deg(np.arccos(np.clip(np.einsum("ij,ij->i", d[1:], d[:-1]), -1.0, 1.0)))
    if len(turn) and turn.max() > SHARPEST_DEG:
        raise PlanError(
            f"The cut {name} turns by {turn.max():.0f} degrees at a corner; at most "
            f"{SHARPEST_DEG:g} can be sawn. Check the order of its points."
        )
    lean = float(np.cross(e, d[0]) @ np.asarray(towards, dtype=np.float64))
    if abs(lean) < 1e-9:
        raise PlanError(
            f"The specimen's side of the cut {name} cannot be told: its normal lies in the cut."
        )
    return Profile(p if lean > 0 else p[::-1].copy(), e, open_ends, depth_mm, frame)
