"""Coordinate frames.

Inside sacroplan every coordinate is patient LPS in millimetres. Two sets of LPS coordinates still
need not share an origin (two CT series, a planning CT and an intra-operative one), so each object
carries the *name of its frame*, normally the DICOM FrameOfReferenceUID.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

DEFAULT_FRAME = "LPS"


class HasFrame(Protocol):
    """Anything that lives in a named coordinate frame."""

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""


def same_frame(*things: HasFrame) -> str:
    """Return the frame shared by ``things`` or raise: frames are never guessed."""
    frames = {thing.frame for thing in things}
    if len(frames) != 1:
        raise GeometryError(
            f"Objects from different coordinate frames were combined: {sorted(frames)}. "
            "Register one to the other first."
        )
    return frames.pop()


def readonly(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return ``array`` itself, locked against writing."""
    array.setflags(write=False)
    return array


def unit(vector: npt.ArrayLike) -> FloatArray:
    """Unit vector of ``vector`` (3,); raises on zero length."""
    v = np.asarray(vector, dtype=np.float64).reshape(3)
    length = float(np.linalg.norm(v))
    if not np.isfinite(length) or length < 1e-12:
        raise GeometryError(f"A direction of length {length:g} was given; it must not be zero.")
    return v / length


def perpendicular(direction: npt.ArrayLike) -> FloatArray:
    """A unit vector at right angles to ``direction``; deterministic."""
    d = unit(direction)
    helper = np.zeros(3)
    helper[int(np.argmin(np.abs(d)))] = 1.0
    return unit(np.cross(d, helper))


def cone(
    axis: FloatArray, u: FloatArray, v: FloatArray, half_deg: float, step_deg: float
) -> FloatArray:
    """Unit directions (m, 3) within ``half_deg`` of ``axis``, about ``step_deg`` apart.

    ``u`` and ``v`` (3,) span the plane across the axis and give the directions their order.
    """
    n = int(np.floor(half_deg / step_deg))
    ticks = np.radians(step_deg * np.arange(-n, n + 1))
    a, b = (m.ravel() for m in np.meshgrid(ticks, ticks, indexing="ij"))
    angle = np.hypot(a, b)
    keep = angle <= np.radians(half_deg) + 1e-9
    a, b, angle = a[keep], b[keep], angle[keep]
    scale = np.divide(np.sin(angle), angle, out=np.ones_like(angle), where=angle > 0)
    return np.ascontiguousarray(
        np.cos(angle)[:, None] * axis + (scale * a)[:, None] * u + (scale * b)[:, None] * v
    )


@dataclass(frozen=True, eq=False)
class Rigid:
    """Rigid transform ``y = rotation @ x + translation`` (mm) between frames or within one."""

    rotation: FloatArray
    translation: FloatArray

    def __post_init__(self) -> None:
        r = np.array(self.rotation, dtype=np.float64).reshape(3, 3)
        t = np.array(self.translation, dtype=np.float64).reshape(3)
        if not np.allclose(r @ r.T, np.eye(3), atol=1e-9) or np.linalg.det(r) < 0:
            raise GeometryError("A rigid transform needs a proper rotation (orthonormal, det +1).")
        object.__setattr__(self, "rotation", readonly(r))
        object.__setattr__(self, "translation", readonly(t))

    def points(self, x: FloatArray) -> FloatArray:
        """Transform points (n, 3) or (3,)."""
        return np.asarray(x) @ self.rotation.T + self.translation

    def directions(self, x: FloatArray) -> FloatArray:
        """Rotate directions (n, 3) or (3,)."""
        return np.asarray(x) @ self.rotation.T

    def inverse(self) -> Rigid:
        """The transform back."""
        return Rigid(self.rotation.T.copy(), -self.rotation.T @ self.translation)


@dataclass(frozen=True, eq=False)
class AxisFrame:
    """A right-handed anatomical frame: origin (3,) and orthonormal columns ``axes`` (3, 3), LPS mm.

    Columns are the frame's x, y, z axes expressed in LPS. See HANDBOOK FRM-1 to FRM-4.
    """

    name: str
    origin: FloatArray
    axes: FloatArray
    frame: str = DEFAULT_FRAME

    def __post_init__(self) -> None:
        o = np.array(self.origin, dtype=np.float64).reshape(3)
        a = np.array(self.axes, dtype=np.float64).reshape(3, 3)
        if not np.allclose(a.T @ a, np.eye(3), atol=1e-9) or np.linalg.det(a) < 0:
            raise GeometryError(f"Axes of frame {self.name!r} are not right-handed orthonormal.")
        object.__setattr__(self, "origin", readonly(o))
        object.__setattr__(self, "axes", readonly(a))

    def to_local(self, points: FloatArray) -> FloatArray:
        """LPS points (n, 3) or (3,) in this frame's coordinates (mm)."""
        return (np.asarray(points) - self.origin) @ self.axes

    def to_world(self, points: FloatArray) -> FloatArray:
        """Local points (n, 3) or (3,) back to LPS (mm)."""
        return np.asarray(points) @ self.axes.T + self.origin


@dataclass(frozen=True, eq=False)
class Plane:
    """Oriented plane: a point (3,) on it and its unit normal (3,), LPS mm."""

    point: FloatArray
    normal: FloatArray
    frame: str = DEFAULT_FRAME

    def __post_init__(self) -> None:
        p = np.array(self.point, dtype=np.float64).reshape(3)
        object.__setattr__(self, "point", readonly(p))
        object.__setattr__(self, "normal", readonly(unit(self.normal)))

    def distance(self, points: FloatArray) -> FloatArray:
        """Signed distance (mm) of points (n, 3) or (3,); positive on the normal's side."""
        return (np.asarray(points) - self.point) @ self.normal

    def shifted(self, offset_mm: float) -> Plane:
        """The parallel plane moved along the normal by ``offset_mm``."""
        return Plane(self.point + offset_mm * self.normal, self.normal, self.frame)

    def flipped(self) -> Plane:
        """The same plane with its normal reversed."""
        return Plane(self.point, -self.normal, self.frame)

    def transformed(self, rigid: Rigid) -> Plane:
        """The plane moved by ``rigid``."""
        return Plane(rigid.points(self.point), rigid.directions(self.normal), self.frame)


@dataclass(frozen=True, eq=False)
class Axis:
    """Directed line: a point (3,) and a unit direction (3,), LPS mm."""

    point: FloatArray
    direction: FloatArray
    frame: str = DEFAULT_FRAME

    def __post_init__(self) -> None:
        p = np.array(self.point, dtype=np.float64).reshape(3)
        object.__setattr__(self, "point", readonly(p))
        object.__setattr__(self, "direction", readonly(unit(self.direction)))

    def at(self, s_mm: float | FloatArray) -> FloatArray:
        """Point(s) at arc length ``s_mm`` from ``point``: (3,) or (n, 3)."""
        return self.point + np.multiply.outer(s_mm, self.direction)

    def transformed(self, rigid: Rigid) -> Axis:
        """The axis moved by ``rigid``."""
        return Axis(rigid.points(self.point), rigid.directions(self.direction), self.frame)
