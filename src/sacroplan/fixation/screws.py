"""The screw: what it is, which sizes exist, what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray, Rigid, readonly, unit
from sacroplan.geometry.surface import Surface

Kind = Literal["pedicle", "iliac", "wing", "s2ai", "trans_sacral", "iliolumbar"]

KINDS: tuple[Kind, ...] = get_args(Kind)

TIP_MM = 4.0
"""Length of the drawn conical tip."""


@dataclass(frozen=True, slots=True, eq=False)
class Screw:
    """One screw, LPS mm.

    Attributes
    ----------
    name : unique in the plan, e.g. ``L5_left``. level : ``L5``, ``ilium``. side : ``left`` or ``right``.
    head : (3,) centre of the rod in the head. entry : (3,) where the axis enters bone. tip : (3,).
    diameter_mm : outer thread. length_mm : thread from ``entry`` to ``tip``.
    """

    name: str
    level: str
    side: str
    head: FloatArray
    entry: FloatArray
    tip: FloatArray
    diameter_mm: float
    length_mm: float
    kind: Kind
    frame: str = DEFAULT_FRAME

    def __post_init__(self) -> None:
        for field_name in ("head", "entry", "tip"):
            p = np.array(getattr(self, field_name), dtype=np.float64).reshape(3)
            object.__setattr__(self, field_name, readonly(p))
        if abs(float(np.linalg.norm(self.tip - self.entry)) - self.length_mm) > 1e-6:
            raise PlanError(
                f"Screw {self.name}: entry and tip are {np.linalg.norm(self.tip - self.entry):.3f} mm "
                f"apart but its length is given as {self.length_mm:.3f} mm."
            )
        if not self.diameter_mm > 0.0:
            raise PlanError(f"Screw {self.name}: diameter {self.diameter_mm} mm must be positive.")

    @property
    def direction(self) -> FloatArray:
        """(3,) unit vector from entry to tip."""
        return unit(self.tip - self.entry)

    def transformed(self, rigid: Rigid) -> Screw:
        """The screw moved by ``rigid``."""
        return Screw(
            self.name, self.level, self.side, rigid.points(self.head), rigid.points(self.entry),
            rigid.points(self.tip), self.diameter_mm, self.length_mm, self.kind, self.frame,
        )  # fmt: skip


def at(
    name: str,
    level: str,
    side: str,
    kind: Kind,
    entry: npt.ArrayLike,
    direction: npt.ArrayLike,
    diameter_mm: float,
    length_mm: float,
    frame: str = DEFAULT_FRAME,
    seat_mm: float | None = None,
) -> Screw:
    """A screw from its bone ``entry`` (3,) along ``direction`` (3,).

    The head's rod centre stands ``seat_mm`` (SP-FIX-02 without it) outside the entry.
    """
    p, d = np.asarray(entry, dtype=np.float64).reshape(3), unit(direction)
    seat = evidence.value("SP-FIX-02", "seat") if seat_mm is None else seat_mm
    return Screw(
        name, level, side, p - seat * d, p, p + length_mm * d, diameter_mm, length_mm, kind, frame
    )


def diameters(kind: Kind) -> FloatArray:
    """Generic diameters (mm), ascending."""
    from sacroplan.fixation.catalogue import generic

    return generic().diameters(kind)


def lengths(kind: Kind) -> FloatArray:
    """Generic lengths (mm), ascending."""
    from sacroplan.fixation.catalogue import generic

    return generic().lengths(kind)


def solid(screw: Screw) -> Surface:
    """Closed surface of the screw: cone tip, shaft, neck and a round head about the rod's centre."""
    from sacroplan.geometry.primitives import lathe

    r = 0.5 * screw.diameter_mm
    seat = float(np.linalg.norm(screw.entry - screw.head))
    head_r = 0.5 * evidence.value("SP-FIX-02", "diameter")
    above = evidence.value("SP-FIX-02", "above")
    neck_r = 0.5 * evidence.value("SP-FIX-02", "neck")
    tip = min(TIP_MM, 0.5 * screw.length_mm)
    bottom = screw.length_mm + max(seat - 0.5 * head_r, 0.3 * seat)
    profile = [
        [0.0, 0.25 * r],
        [tip, r],
        [screw.length_mm, r],
        [screw.length_mm + 0.5, min(neck_r, r)],
        [bottom - 0.5, min(neck_r, r)],
        [bottom, head_r],
        [screw.length_mm + seat + above, head_r],
    ]
    profile = [row for k, row in enumerate(profile) if k == 0 or row[0] >= profile[k - 1][0]]
    return lathe(screw.tip, -screw.direction, profile, frame=screw.frame)
