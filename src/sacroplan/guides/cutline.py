"""Where the saw enters the bone: the visible edge of the cut, seen along the blade."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, same_frame, unit
from sacroplan.geometry.slicing import CrossSection, polygon_area, section
from sacroplan.geometry.surface import Surface

STEP_MM = 0.25
"""Sampling of the cut line; finer than any feature a saw can follow."""

SAW_TILT_DEG = 35.0
"""The blade leaves straight posterior by no more than this within its plane: the wound's edge."""

MIN_POSTERIOR = 0.3
"""Share of the posterior direction that must lie in the cut plane to be sawn from behind (72 deg)."""


@dataclass(frozen=True, eq=False)
class Crowd:
    """Other bones that the block round the slot must not meet.

    ``points`` (n, 3) LPS on them; half the block's width, its height above the bone and its bridges'
    length, each with the room to be kept.
    """

    points: FloatArray
    half_mm: float
    height_mm: float
    ends_mm: float

    def bars(self, a_mm: FloatArray, s_mm: FloatArray, local: FloatArray) -> npt.NDArray[np.bool_]:
        """(n,) where along the line no slot may be; ``local`` (k, 3): points along, saw, across."""
        beside = np.abs(local[:, 2]) < self.half_mm
        a, s = local[beside, 0], local[beside, 1]
        above = s - np.interp(a, a_mm, s_mm)
        tall = a[(above > 0.0) & (above < self.height_mm)]
        first = np.searchsorted(a_mm, tall - self.ends_mm)
        last = np.searchsorted(a_mm, tall + self.ends_mm)
        step = np.zeros(len(a_mm) + 1, dtype=int)
        np.add.at(step, first, 1)
        np.add.at(step, last, -1)
        return np.asarray(np.cumsum(step)[:-1] > 0)


@dataclass(frozen=True, eq=False)
class CutLine:
    """The bone's edge in the cut plane, as the blade sees it.

    Attributes
    ----------
    origin : (3,) LPS point on the cut line, middle of the guided stretch.
    along, saw, across : (3,) unit vectors: cranial along the cut; out of the bone along the blade;
        out of the specimen towards the bone that stays (minus the cut normal).
    a_mm, s_mm : (n,) coordinates along ``along`` and ``saw`` of the visible edge, a ascending.
    low_mm, high_mm : ends of the guided stretch in ``a``.
    crest : whether the stretch reaches the cranial edge of the bone.
    """

    origin: FloatArray
    along: FloatArray
    saw: FloatArray
    across: FloatArray
    a_mm: FloatArray
    s_mm: FloatArray
    low_mm: float
    high_mm: float
    crest: bool

    @property
    def length_mm(self) -> float:
        """Extent of the whole visible cut line along the cut."""
        return float(self.a_mm[-1] - self.a_mm[0])

    @property
    def guided_mm(self) -> float:
        """Extent of the stretch that the slot guides."""
        return self.high_mm - self.low_mm

    def to_local(self, points: FloatArray) -> FloatArray:
        """LPS (n, 3) to coordinates along, saw, across (mm); across is 0 on the kerf's centre."""
        basis = np.stack([self.along, self.saw, self.across], axis=1)
        return np.asarray((np.asarray(points) - self.origin) @ basis)

    def to_world(self, local: FloatArray) -> FloatArray:
        """Coordinates along, saw, across (n, 3) to LPS."""
        basis = np.stack([self.along, self.saw, self.across], axis=1)
        return np.asarray(np.asarray(local) @ basis.T + self.origin)

    def edge(self, a_mm: FloatArray) -> FloatArray:
        """Height ``s`` of the bone's edge at ``a_mm``; the end values go on beyond the bone."""
        return np.asarray(np.interp(a_mm, self.a_mm, self.s_mm))


def cut_line(
    hip: Surface,
    cut: Plane,
    axes: AxisFrame,
    psis: FloatArray,
    length_mm: float,
    notch_mm: float,
    reach_mm: float,
    minimum_mm: float,
    notch: FloatArray | None = None,
    outline: CrossSection | None = None,
    up: FloatArray | None = None,
    back: FloatArray | None = None,
    centred: bool = False,
    crowd: Crowd | None = None,
    what: str = "iliac cut",
) -> CutLine:
    """The cut line of one bone and the stretch of it that a guide of ``length_mm`` covers.

    The stretch begins at the crest (or where ``reach_mm`` from ``psis`` (3,) ends) and keeps
    ``notch_mm`` from the caudal end, which is the bone's or, where the plane passes lateral to it,
    the level of ``notch`` (3,), the apex of the greater sciatic notch. Raises :class:`PlanError`
    where the plane misses the ilium, cannot be sawn from behind, or leaves less than
    ``minimum_mm``.

    ``outline`` limits the line to a facet of a cut, ``up`` is the way along it (cranial without),
    ``back`` the surgeon's side (posterior without); ``centred`` puts the stretch round ``psis``.
    ``crowd`` is what the block round the slot must keep off; ``what`` the cut's name in errors.
    """
    same_frame(hip, cut, axes)
    up = axes.axes[:, 1] if up is None else unit(up)
    posterior = -axes.axes[:, 0] if back is None else unit(back)
    loop = _nearest_loop(
        section(hip, cut, up) if outline is None else outline, psis, reach_mm, what
    )
    if notch is not None:
        loop = loop[(loop - notch) @ up >= 0.0]
        if not len(loop):
            raise PlanError(
                f"The {what} plane passes below the greater sciatic notch; check the plane."
            )
    flat = posterior - (posterior @ cut.normal) * cut.normal
    if float(np.linalg.norm(flat)) < MIN_POSTERIOR:
        raise PlanError(
            f"The {what} plane faces along the surgeon's view "
            f"({float(np.linalg.norm(flat)):.2f} of that direction lies in it, at least "
            f"{MIN_POSTERIOR} expected); it cannot be sawn from there. Turn the plane."
        )
    saw = back = unit(flat)
    # The blade stands square on the bone's edge; its direction and the visible edge depend on each
    # other, and the third round no longer moves.
    for _ in range(3):
        along = np.cross(cut.normal, saw)
        along = along if along @ up > 0 else -along
        a, s = _envelope(loop, cut.point, along, saw)
        barred = np.zeros(len(a), dtype=bool)
        if crowd is not None:
            basis = np.stack([along, saw, -cut.normal], axis=1)
            barred = crowd.bars(a, s, (crowd.points - cut.point) @ basis)
        low, high, crest = _stretch(
            a,
            cut.point + np.outer(a, along) + np.outer(s, saw),
            barred,
            psis,
            length_mm,
            notch_mm,
            reach_mm,
            centred,
        )
        if high - low < minimum_mm:
            raise PlanError(
                f"Only {max(high - low, 0.0):.0f} mm of the {what} line can be guided "
                f"(visible {a[-1] - a[0]:.0f} mm, {notch_mm:.0f} mm kept from its end, "
                f"{reach_mm:.0f} mm reach, {barred.sum() * STEP_MM:.0f} mm beside other bones); at "
                f"least {minimum_mm:.0f} mm expected. Move the cut plane."
            )
        inside = (a >= low) & (a <= high)
        slope = np.polyfit(a[inside], s[inside], 1)[0]
        normal = unit(saw - slope * along)
        angle = np.arctan2(normal @ np.cross(cut.normal, back), normal @ back)
        angle = np.clip(angle, -np.deg2rad(SAW_TILT_DEG), np.deg2rad(SAW_TILT_DEG))
        saw = unit(np.cos(angle) * back + np.sin(angle) * np.cross(cut.normal, back))
    along = np.cross(cut.normal, saw)
    along = along if along @ up > 0 else -along
    a, s = _envelope(loop, cut.point, along, saw)
    middle = 0.5 * (low + high)
    height = float(np.interp(middle, a, s))
    origin = cut.point + middle * along + height * saw
    return CutLine(
        origin, along, saw, -cut.normal, a - middle, s - height, low - middle, high - middle, crest
    )


def _nearest_loop(cross: CrossSection, psis: FloatArray, reach_mm: float, what: str) -> FloatArray:
    """(n, 3) outline of the cut nearest to where the surgeon sees it, closed, densely sampled."""
    loops = [cross.to_world(_dense(p)) for p in cross.loops if polygon_area(p) > 1.0]
    if not loops:
        raise PlanError(
            f"The {what} plane misses the bone: their section is empty. "
            "Check the plane's point and the side."
        )
    near = [float(np.linalg.norm(p - psis, axis=1).min()) for p in loops]
    best = int(np.argmin(near))
    if near[best] > reach_mm:
        raise PlanError(
            f"The {what} plane misses the exposed bone: it passes {near[best]:.0f} mm from where the "
            f"surgeon sees it, at most {reach_mm:.0f} mm expected. Check the plane and the side."
        )
    return loops[best]


def _dense(loop: FloatArray) -> FloatArray:
    closed = np.vstack([loop, loop[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    t = np.linspace(0.0, arc[-1], max(16, int(arc[-1] / (0.4 * STEP_MM))))
    return np.stack([np.interp(t, arc, closed[:, i]) for i in range(2)], axis=1)


def _envelope(
    loop: FloatArray, point: FloatArray, along: FloatArray, saw: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Highest ``s`` over each step of ``a``: what is seen along the blade."""
    a, s = (loop - point) @ along, (loop - point) @ saw
    index = np.floor((a - a.min()) / STEP_MM).astype(int)
    top = np.full(index.max() + 1, -np.inf)
    np.maximum.at(top, index, s)
    centre = a.min() + (np.arange(len(top)) + 0.5) * STEP_MM
    seen = np.isfinite(top)
    return centre[seen], top[seen]


def _stretch(
    a: FloatArray,
    points: FloatArray,
    barred: npt.NDArray[np.bool_],
    psis: FloatArray,
    length_mm: float,
    notch_mm: float,
    reach_mm: float,
    centred: bool,
) -> tuple[float, float, bool]:
    exposed = _longest_run((np.linalg.norm(points - psis, axis=1) <= reach_mm) & ~barred)
    if not exposed.any():
        return 0.0, 0.0, False
    if centred:
        middle = float(a[int(np.argmin(np.linalg.norm(points - psis, axis=1)))])
        first, last = float(a[exposed].min()) + notch_mm, float(a[exposed].max()) - notch_mm
        low = max(first, min(middle - 0.5 * length_mm, last - length_mm))
        return low, min(last, low + length_mm), False
    high = float(a[exposed].max())
    crest = bool(exposed[-1])
    low = max(high - length_mm, float(a[0]) + notch_mm, float(a[exposed].min()))
    return low, high, crest


def _longest_run(good: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The longest unbroken stretch of ``good`` (n,), the first of equals."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    out = np.zeros(len(good), dtype=bool)
    if len(ends):
        best = int(np.argmax(ends[1::2] - ends[::2]))
        out[ends[2 * best] : ends[2 * best + 1]] = True
    return out
