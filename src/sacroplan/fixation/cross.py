"""Cross-connectors between the two rods [ROD-5]: where they grip, how far they arch over bone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.bone import walls_of
from sacroplan.geometry.frames import FloatArray, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric, Metrics

if TYPE_CHECKING:
    from sacroplan.fixation.rods import RodPlan

STEP_MM = 2.0
"""Grips are looked for this far apart along the rods."""

LIFT_STEP_MM = 1.0

BARRED_MM = 1000.0
"""A place where bone bars every arch counts as so much lift."""


@dataclass(frozen=True, eq=False)
class CrossConnector:
    """One cross-connector, LPS mm.

    Attributes
    ----------
    left_at_mm, right_at_mm : grips from the cranial ends of the two rods. polyline : (4, 3) from rod to
        rod: up, across, down. lift_mm : how far it arches behind the rods. bone_mm : clearance.
    """

    name: str
    left_at_mm: float
    right_at_mm: float
    polyline: FloatArray
    lift_mm: float
    diameter_mm: float
    bone_mm: float | None

    @property
    def span_mm(self) -> float:
        """Distance of the two grips."""
        return float(np.linalg.norm(self.polyline[-1] - self.polyline[0]))

    def metrics(self) -> Metrics:
        """Figures under ``fixation.<name>``."""
        base, what = f"fixation.{self.name}", self.name.replace("_", " ")
        out: Metrics = {
            f"{base}.span_mm": Metric(self.span_mm, "mm", f"{what}: from rod to rod", ("ROD-5",)),
            f"{base}.lift_mm": Metric(
                self.lift_mm, "mm", f"{what}: arches behind the rods", ("SP-FIX-12",), None,
                evidence.value("SP-FIX-12", "lift"),
            ),
        }  # fmt: skip
        if self.bone_mm is not None:
            out[f"{base}.bone_mm"] = Metric(
                self.bone_mm, "mm", f"{what}: clearance to bone", ("SP-FIX-06",),
                evidence.value("SP-FIX-06", "bone"),
            )  # fmt: skip
        return out


def grips(plan: RodPlan) -> tuple[FloatArray, FloatArray]:
    """Places (n,) along a rod and points (n, 3) between its first and last head that lie far enough
    from every head [SP-FIX-12]; the short ends beyond carry no clamp."""
    from sacroplan.fixation.rods import arc_lengths

    arc = arc_lengths(plan.polyline)
    ends = [
        float(arc[int(np.argmin(np.linalg.norm(plan.polyline - plan.rod.anchors[k], axis=1)))])
        for k in (0, -1)
    ]
    s = np.arange(ends[0], ends[1] + 1e-9, STEP_MM)
    p = np.stack([np.interp(s, arc, plan.polyline[:, k]) for k in range(3)], axis=1)
    off = np.linalg.norm(p[:, None] - plan.rod.anchors[None], axis=2).min(axis=1)
    free = off >= evidence.value("SP-FIX-12", "from_head")
    return s[free], p[free]


def plan_cross(
    left: RodPlan,
    right: RodPlan,
    count: int,
    up: FloatArray,
    back: FloatArray,
    bones: Sequence[Surface] = (),
) -> tuple[tuple[CrossConnector, ...], tuple[Doubt, ...]]:
    """``count`` connectors between two rods, spread along them, each as flat as bone lets it be.

    ``up``, ``back`` : (3,) cranial and posterior. ``bones`` : closed surfaces and the implant to arch
    over. Where fewer have room a doubt says so. Raises :class:`PlanError` on a count below one.
    """
    if count < 1:
        raise PlanError(f"{count} cross-connectors are asked for; one or more can be planned.")
    same_frame(left.rod, right.rod, *bones)
    up, back = unit(up), unit(back)
    s, p = grips(left)
    t, q = grips(right)
    if not len(s) or not len(t):
        return (), (_no_room(count, 0),)
    # A connector lies level: its other grip is the one at the same height.
    other = np.argmin(np.abs((p @ up)[:, None] - (q @ up)[None]), axis=1)
    level = np.abs((p - q[other]) @ up) <= STEP_MM
    s, p, t, q = s[level], p[level], t[other[level]], q[other[level]]
    if not len(s):
        return (), (_no_room(count, 0),)
    lifts, gaps = _lifts(p, q, back, bones)
    # Where no arch clears the bone is the last place to grip.
    barred = np.where(gaps < evidence.value("SP-FIX-06", "bone"), BARRED_MM, 0.0)
    height = p @ up
    high, low = float(height.max()), float(height.min())
    apart = evidence.value("SP-FIX-12", "apart")
    weight = evidence.value("SP-FIX-12", "spread")
    free = np.ones(len(s), dtype=bool)
    chosen: list[int] = []
    for n in range(count):
        if not free.any():
            break
        wish = high - (n + 0.5) / count * (high - low)
        cost = np.where(free, lifts + barred + weight * np.abs(height - wish), np.inf)
        k = int(np.argmin(np.round(cost, 9)))
        chosen.append(k)
        free &= np.abs(height - height[k]) >= apart
    chosen.sort(key=lambda k: -height[k])
    out = tuple(
        CrossConnector(
            f"cross_{n + 1}", float(s[k]), float(t[k]),
            np.stack([p[k], p[k] + lifts[k] * back, q[k] + lifts[k] * back, q[k]]), float(lifts[k]),
            evidence.value("SP-FIX-12", "diameter"), float(gaps[k]) if bones else None,
        )
        for n, k in enumerate(chosen)
    )  # fmt: skip
    doubts = [] if len(out) == count else [_no_room(count, len(out))]
    clear, most = evidence.value("SP-FIX-06", "bone"), evidence.value("SP-FIX-12", "lift")
    doubts += [
        Doubt(
            "fixation", "fixation.cross_meets_bone",
            f"{c.name.replace('_', '-')} comes within {c.bone_mm:.1f} mm of bone even when it arches "
            f"{most:g} mm behind the rods: trim the spinous process there.", ("ROD-5", "SP-FIX-06"),
        )
        for c in out if c.bone_mm is not None and c.bone_mm < clear
    ]  # fmt: skip
    return out, tuple(doubts)


def _no_room(wanted: int, found: int) -> Doubt:
    return Doubt(
        "fixation", "fixation.no_room_for_cross",
        f"{wanted} cross-connectors are wanted and {found} have room between the heads.", ("ROD-5",),
    )  # fmt: skip


def _lifts(
    p: FloatArray, q: FloatArray, back: FloatArray, bones: Sequence[Surface]
) -> tuple[FloatArray, FloatArray]:
    """Least lift (n,) at which a bar from p to q (n, 3) clears bone, and its clearance there; the highest
    lift where none is enough. The legs, which begin at the rods, must only meet no bone."""
    most = evidence.value("SP-FIX-12", "lift")
    clear = evidence.value("SP-FIX-06", "bone")
    radius = 0.5 * evidence.value("SP-FIX-12", "diameter")
    lifts = np.arange(0.0, most + 1e-9, LIFT_STEP_MM)
    if not bones:
        return np.zeros(len(p)), np.full(len(p), np.inf)
    a = (p[:, None] + lifts[None, :, None] * back).reshape(-1, 3)
    b = (q[:, None] + lifts[None, :, None] * back).reshape(-1, 3)
    solids = [walls_of(bone) for bone in bones]
    gap = np.min([walls.gaps(a, b)[0] for walls in solids], axis=0).reshape(len(p), -1)
    gap -= radius
    legs = np.min(
        [
            walls.gaps(foot.reshape(-1, 3), top)[0]
            for walls in solids
            for foot, top in (
                (np.repeat(p, len(lifts), axis=0), a),
                (np.repeat(q, len(lifts), axis=0), b),
            )
        ],
        axis=0,
    ).reshape(gap.shape)
    # Clear from this lift on: a bar that clears bone underneath it would lie within it.
    enough = np.flip(
        np.logical_and.accumulate(np.flip((gap >= clear) & (legs >= radius), axis=1), axis=1),
        axis=1,
    )
    k = np.where(enough.any(axis=1), np.argmax(enough, axis=1), len(lifts) - 1)
    return lifts[k], gap[np.arange(len(p)), k]


def solid(connector: CrossConnector, frame: str) -> Surface:
    """Closed round solid of the connector."""
    from sacroplan.geometry.primitives import tube

    arched = connector.lift_mm > connector.diameter_mm
    line = connector.polyline if arched else connector.polyline[1:3]
    return tube(line, 0.5 * connector.diameter_mm, frame=frame)
