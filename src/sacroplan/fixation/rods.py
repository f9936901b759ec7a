"""Rods: smooth curves through the screw heads and the implant's posts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.bone import Walls, walls_of
from sacroplan.fixation.cross import CrossConnector
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray, readonly, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric, Metrics

Anchor = tuple[npt.ArrayLike, npt.ArrayLike | None]
"""Rod centre (3,) in a head or post, and that anchor's axis (3,): the screw's direction, or None."""

STEP_MM = 1.0
"""Spacing of the rod's polyline."""

SMOOTHING = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Largest moves of an anchor (mm) tried to keep the bend radius: heads are set at depth in theatre."""


@dataclass(frozen=True, slots=True, eq=False)
class Rod:
    """One rod, LPS mm, cranial end first.

    Attributes
    ----------
    polyline : (n, 3) centre line, about 1 mm apart. anchors : (m, 3) places of heads and posts on it.
    """

    name: str
    side: str
    polyline: FloatArray
    diameter_mm: float
    anchors: FloatArray
    frame: str = DEFAULT_FRAME

    @property
    def length_mm(self) -> float:
        """Length of the centre line, mm."""
        return float(np.linalg.norm(np.diff(self.polyline, axis=0), axis=1).sum())


@dataclass(frozen=True, eq=False)
class RodPlan:
    """A rod with what speaks for and against it.

    Attributes
    ----------
    bend_radius_mm : least radius of the centre line (inf: straight). bend_deg : sum of its bends.
    overhang_mm : rod beyond the last anchor at the cranial and the caudal end.
    bone_mm, implant_mm : least distance of the rod's surface to bone and implant (negative: they
        meet); None where none was given. Near an anchor the implant is not measured: it holds the rod.
    head_deg : per anchor, how far its axis departs from square to the rod; nan without an axis.
    moved_mm : per anchor, distance of the rod's centre from the anchor's own.
    """

    rod: Rod
    bend_radius_mm: float
    bend_deg: float
    overhang_mm: tuple[float, float]
    bone_mm: float | None
    implant_mm: float | None
    head_deg: tuple[float, ...]
    moved_mm: tuple[float, ...]
    doubts: tuple[Doubt, ...] = ()

    @property
    def name(self) -> str:
        """The rod's name."""
        return self.rod.name

    @property
    def side(self) -> str:
        """The rod's side."""
        return self.rod.side

    @property
    def polyline(self) -> FloatArray:
        """(n, 3) the rod's centre line."""
        return self.rod.polyline

    @property
    def diameter_mm(self) -> float:
        """The rod's diameter."""
        return self.rod.diameter_mm

    def metrics(self) -> Metrics:
        """Figures under ``fixation.rod.<side>``, or ``<side>_lateral`` of a second rod there."""
        place = self.rod.name.removeprefix("rod_")
        base, what = f"fixation.rod.{place}", f"{place.replace('_', ' ')} rod"
        least = evidence.value("ROD-2", "bend") * self.rod.diameter_mm
        over = evidence.value("ROD-2", "overhang")
        # A straight rod has no bend; unknown would say something else, so it is a word.
        radius = (
            Metric(self.bend_radius_mm, "mm", f"{what}: least bend radius", ("ROD-2",), least)
            if np.isfinite(self.bend_radius_mm)
            else Metric("straight", "text", f"{what}: least bend radius", ("ROD-2",), least)
        )
        out: Metrics = {
            f"{base}.diameter_mm": Metric(
                self.rod.diameter_mm, "mm", f"{what}: diameter", ("ROD-1",)
            ),
            f"{base}.length_mm": Metric(self.rod.length_mm, "mm", f"{what}: length"),
            f"{base}.bend_radius_mm": radius,
            f"{base}.bend_deg": Metric(self.bend_deg, "deg", f"{what}: sum of bends"),
            f"{base}.overhang_mm": Metric(
                min(self.overhang_mm), "mm", f"{what}: least overhang", ("ROD-2",), over - 1e-6
            ),
            f"{base}.moved_mm": Metric(
                max(self.moved_mm), "mm", f"{what}: largest distance from a planned head"
            ),
        }
        angles = [a for a in self.head_deg if np.isfinite(a)]
        if angles:
            out[f"{base}.head_deg"] = Metric(
                max(angles), "deg", f"{what}: largest swing of a head", ("SP-FIX-06",), None,
                evidence.value("SP-FIX-06", "swing"),
            )  # fmt: skip
        if self.bone_mm is not None:
            out[f"{base}.bone_mm"] = Metric(
                self.bone_mm, "mm", f"{what}: clearance to bone", ("SP-FIX-06",),
                evidence.value("SP-FIX-06", "bone"),
            )  # fmt: skip
        if self.implant_mm is not None:
            out[f"{base}.implant_mm"] = Metric(
                self.implant_mm, "mm", f"{what}: clearance to the implant away from its posts",
                ("SP-FIX-06",), 0.0,
            )  # fmt: skip
        return out


@dataclass(frozen=True, eq=False)
class Rods:
    """All rods of a construct, left before right, and the cross-connectors that join them."""

    plans: tuple[RodPlan, ...]
    cross: tuple[CrossConnector, ...] = ()

    @property
    def rods(self) -> tuple[Rod, ...]:
        """The rods themselves."""
        return tuple(p.rod for p in self.plans)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Doubts of all rods."""
        return tuple(d for p in self.plans for d in p.doubts)

    def metrics(self) -> Metrics:
        """Figures of all rods."""
        out: Metrics = {}
        for p in self.plans:
            out |= p.metrics()
        for c in self.cross:
            out |= c.metrics()
        return out


def plan_rods(
    heads: Mapping[str, Sequence[Anchor]],
    posts: Mapping[str, Sequence[Anchor]] | None = None,
    diameter_mm: float | None = None,
    bones: Sequence[Surface] = (),
    implant: Surface | None = None,
    frame: str = DEFAULT_FRAME,
    names: Mapping[str, Sequence[str]] | None = None,
    suffix: str = "",
) -> Rods:
    """One rod per side through its screw heads (cranial first), then through the implant's posts.

    Parameters
    ----------
    heads, posts : ``left`` and ``right`` to anchors in order from cranial to caudal, LPS mm. A post
        gives its place only (axis None).
    diameter_mm : ROD-1 without it. bones, implant : closed surfaces to be kept clear of.
    names : ``left`` and ``right`` to the anchors' names, for doubts that say between which two.
    suffix : behind the rods' names, such as ``_lateral``.

    The curve bends no tighter than ROD-2 and reaches ROD-2's overhang beyond its ends. Where bone is in
    the way it is pulled out along the screws; where the bend is too tight the curve leaves the heads
    by up to 4 mm and says so. Raises :class:`PlanError` for fewer than two anchors on a side.
    """
    diameter = evidence.value("ROD-1") if diameter_mm is None else diameter_mm
    if bones or implant is not None:
        frame = same_frame(*bones, *([] if implant is None else [implant]))
    walls = [walls_of(b) for b in bones]
    hull = None if implant is None else walls_of(implant)
    plans = []
    for side in ("left", "right"):
        anchors = [*heads.get(side, ()), *(posts or {}).get(side, ())]
        if not anchors:
            continue
        if len(anchors) < 2:
            raise PlanError(f"The {side} rod needs two or more screw heads or posts, not one.")
        held = len(heads.get(side, ()))
        called = list((names or {}).get(side, ())) or [f"head {n + 1}" for n in range(len(anchors))]
        plans.append(_plan(side, anchors, held, diameter, walls, hull, frame, called, suffix))
    if not plans:
        raise PlanError(
            "No side has screw heads or posts, so there is nothing to connect by a rod."
        )
    return Rods(tuple(plans))


PULLS = 14
"""Rounds of pulling a rod out of bone."""

LIFT_MM = 4.0
"""A head may stand this much higher to let the rod clear bone; more is a longer screw shank."""


def plan_rod(
    side: str,
    screws: Sequence[Screw],
    posts: Sequence[Anchor] = (),
    diameter_mm: float | None = None,
    bones: Sequence[Surface] = (),
    implant: Surface | None = None,
    frame: str = DEFAULT_FRAME,
) -> RodPlan:
    """One rod of :func:`plan_rods` from ``screws`` (cranial first) and the implant's ``posts``.

    A post's axis is the rod's own direction there, so it counts for the way only, not as a head.
    """
    heads = [(s.head, s.direction) for s in screws]
    held = [(centre, None) for centre, _ in posts]
    return plan_rods({side: heads}, {side: held}, diameter_mm, bones, implant, frame).plans[0]


def _spline(points: FloatArray, overhang_mm: float) -> tuple[FloatArray, FloatArray]:
    """Polyline (n, 3) of a natural cubic spline through ``points`` with straight ends, and the
    arc length (m,) of the points on it."""
    from scipy.interpolate import CubicSpline

    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    if np.any(np.diff(chord) < 1.0):
        raise PlanError("Two rod anchors lie less than 1 mm apart; name each head once, in order.")
    curve = CubicSpline(chord, points, bc_type="natural")
    fine = np.linspace(0.0, chord[-1], int(np.ceil(chord[-1] / (0.05 * STEP_MM))) + 1)
    # The anchors themselves belong to the fine samples, so that the rod passes through them.
    fine = np.unique(np.concatenate([fine, chord]))
    p = curve(fine)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))])
    at = np.interp(chord, fine, arc)
    s = np.linspace(0.0, arc[-1], int(np.ceil(arc[-1] / STEP_MM)) + 1)
    body = np.stack([np.interp(s, arc, p[:, k]) for k in range(3)], axis=1)
    first, last = -unit(curve(0.0, 1)), unit(curve(chord[-1], 1))
    out = np.linspace(0.0, overhang_mm, int(np.ceil(overhang_mm / STEP_MM)) + 1)[1:]
    line = np.concatenate([body[0] + out[::-1, None] * first, body, body[-1] + out[:, None] * last])
    return line, at + overhang_mm


def bend_radii(line: FloatArray) -> FloatArray:
    """(n - 2,) radius of the circle through every three neighbours of a polyline; inf where straight."""
    a, b, c = line[:-2], line[1:-1], line[2:]
    area2 = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    sides = (
        np.linalg.norm(b - a, axis=1)
        * np.linalg.norm(c - b, axis=1)
        * np.linalg.norm(c - a, axis=1)
    )
    out = np.full(len(area2), np.inf)
    bent = area2 > 1e-9 * np.maximum(sides, 1e-30)
    out[bent] = sides[bent] / (2.0 * area2[bent])
    return out


def _relaxed(points: FloatArray, limit_mm: float) -> FloatArray:
    """Anchors pulled towards the line of their neighbours, none by more than ``limit_mm``."""
    out = points.copy()
    for _ in range(200):
        move = 0.25 * (out[:-2] + out[2:]) - 0.5 * out[1:-1]
        out[1:-1] += move
        away = out - points
        length = np.linalg.norm(away, axis=1, keepdims=True)
        shrink = np.minimum(1.0, limit_mm / np.maximum(length, 1e-12))
        out = points + away * shrink
    return out


def _gap(line: FloatArray, walls: Walls, radius: float) -> tuple[float, int]:
    """Least distance of the rod's surface to a body (negative inside) and where on the line."""
    from sacroplan.fixation.clearance import signed_distance

    value = walls.gaps(line, line)[0]
    # A rod begins outside; where it crosses no face it stays there.
    if float(walls.gaps(line[:-1], line[1:], 0.0, 1.0)[0].min()) <= 0.0:
        value = signed_distance(walls.surface, line)
    k = int(np.argmin(value))
    return float(value[k]) - radius, k


def _clear_of_bone(
    points: FloatArray,
    axes: Sequence[FloatArray | None],
    over_mm: float,
    radius: float,
    least_bend: float,
    clear_mm: float,
    bones: Sequence[Walls],
) -> tuple[FloatArray, FloatArray, float]:
    """Curve pulled out of the bone: line, arc lengths of the anchors, clearance.

    Via points are set where bone is nearest and moved outwards (against the screws), heads by at most
    :data:`LIFT_MM`; the best curve that keeps the bend radius wins.
    """
    known = [a for a in axes if a is not None]
    if not known:
        line, at = _spline(points, over_mm)
        return line, at, min(_gap(line, b, radius)[0] for b in bones)
    out = -unit(np.sum(known, axis=0))
    offset = dict.fromkeys(range(len(points)), 0.0)
    vias: dict[float, FloatArray] = {}
    best: tuple[float, FloatArray, FloatArray, float] | None = None
    for _ in range(PULLS):
        places = [(float(k), points[k] + offset[k] * out) for k in range(len(points))]
        places += sorted(vias.items())
        places.sort(key=lambda item: item[0])
        line, arc = _spline(np.array([p for _, p in places]), over_mm)
        at = np.array([s for (k, _), s in zip(places, arc, strict=True) if k.is_integer()])
        gap, index = min((_gap(line, b, radius) for b in bones), key=lambda g: g[0])
        tight = max(0.0, least_bend - float(bend_radii(line).min()))
        # A millimetre of bone weighs as much as a millimetre of bend radius.
        cost = max(0.0, clear_mm - gap) + tight
        if best is None or cost < best[0] - 1e-9:
            best = (cost, line, at, gap)
        if gap >= clear_mm:
            break
        where = float(np.interp(arc_lengths(line)[index], arc, [k for k, _ in places]))
        push = min(2.0, clear_mm - gap + 0.25)
        nearest = round(where)
        if abs(where - nearest) < 0.25:
            if nearest >= len(axes) or offset[nearest] >= LIFT_MM:
                break
            offset[nearest] = min(LIFT_MM, offset[nearest] + push)
            continue
        # One via point in the middle third of a gap is enough; more would make waves.
        key = next((k for k in vias if int(k) == int(where)), None)
        if key is None:
            vias[where] = line[index] + push * out
        else:
            vias[key] = vias[key] + push * out
    assert best is not None
    return best[1], best[2], best[3]


def _plan(
    side: str,
    anchors: Sequence[Anchor],
    held: int,
    diameter: float,
    bones: Sequence[Walls],
    implant: Walls | None,
    frame: str,
    names: Sequence[str],
    suffix: str,
) -> RodPlan:
    wanted = np.array([np.asarray(a[0], dtype=np.float64) for a in anchors]).reshape(-1, 3)
    axes = [None if a[1] is None else unit(a[1]) for a in anchors]
    over = evidence.value("ROD-2", "overhang") + 0.5 * evidence.value("SP-FIX-02", "diameter")
    least = evidence.value("ROD-2", "bend") * diameter
    clear = evidence.value("SP-FIX-06", "bone")
    radius = 0.5 * diameter
    called = f"{side}{suffix}".replace("_", " ")
    doubts: list[Doubt] = []
    points = wanted
    for limit in SMOOTHING:
        points = wanted if limit == 0.0 else _relaxed(wanted, limit)
        line, at = _spline(points, over)
        if float(bend_radii(line).min()) >= least:
            break
    bone_gap = None
    if bones:
        line, at, bone_gap = _clear_of_bone(points, axes[:held], over, radius, least, clear, bones)
    radii = bend_radii(line)
    tightest = float(radii.min())
    if tightest < least:
        doubts.append(
            Doubt(
                "fixation", "fixation.tight_bend",
                f"The {called} rod bends to a radius of {tightest:.0f} mm (wanted {least:.0f} mm) between "
                f"{_pair(names, at, float(arc_lengths(line)[int(np.argmin(radii)) + 1]))}: bring its "
                "heads into line or take a connector.", ("ROD-2",),
            )
        )  # fmt: skip
    if bone_gap is not None and bone_gap < clear:
        doubts.append(
            Doubt(
                "fixation", "fixation.rod_near_bone",
                f"The {called} rod comes within {bone_gap:.1f} mm of bone (wanted {clear:g} mm) between "
                f"{_pair(names, at, _nearest_arc(line, bones, radius))}: trim the "
                "bone there or take higher heads.", ("SP-FIX-06",),
            )
        )  # fmt: skip
    place = np.stack([np.interp(at, arc_lengths(line), line[:, k]) for k in range(3)], axis=1)
    tangent = np.gradient(line, axis=0)
    swing = []
    for k, axis in enumerate(axes):
        if axis is None:
            swing.append(float("nan"))
            continue
        t = unit([np.interp(at[k], arc_lengths(line), tangent[:, j]) for j in range(3)])
        swing.append(abs(90.0 - float(np.degrees(np.arccos(np.clip(t @ axis, -1.0, 1.0))))))
    most = evidence.value("SP-FIX-06", "swing")
    wide = [a for a in swing[:held] if a > most]
    if wide:
        doubts.append(
            Doubt(
                "fixation", "fixation.head_swing",
                f"A head on the {called} rod must swing {max(wide):.0f} degrees (polyaxial heads reach "
                f"{most:g}).", ("SP-FIX-06",),
            )
        )  # fmt: skip
    moved = np.linalg.norm(place - wanted, axis=1)
    if moved.max() > 0.5:
        doubts.append(
            Doubt(
                "fixation", "fixation.rod_off_head",
                f"The {called} rod runs {moved.max():.1f} mm beside a planned head, for its bend radius or "
                "to clear bone: seat that screw higher or bend in theatre.", ("ROD-2", "SP-FIX-06"),
            )
        )  # fmt: skip
    implant_gap = None
    if implant is not None:
        # The posts hold the rod: 12 mm round them is contact by design.
        free = np.ones(len(line), dtype=bool)
        for k in range(held, len(anchors)):
            free &= np.linalg.norm(line - place[k], axis=1) > 12.0
        implant_gap = _gap(line[free], implant, radius)[0] if free.any() else None
        if implant_gap is not None and implant_gap < 0.0:
            doubts.append(
                Doubt(
                    "fixation", "fixation.rod_meets_implant",
                    f"The {called} rod runs {-implant_gap:.1f} mm into the implant away from its posts.",
                    ("SP-FIX-06",),
                )
            )  # fmt: skip
    direction = np.diff(line, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    turns = np.arccos(np.clip((direction[:-1] * direction[1:]).sum(axis=1), -1.0, 1.0))
    total = arc_lengths(line)[-1]
    rod = Rod(f"rod_{side}{suffix}", side, readonly(line), diameter, readonly(place), frame)  # type: ignore[arg-type]
    return RodPlan(
        rod, tightest, float(np.degrees(turns.sum())), (float(at[0]), float(total - at[-1])), bone_gap,
        implant_gap, tuple(swing), tuple(float(m) for m in moved), tuple(doubts),
    )  # fmt: skip


def arc_lengths(line: FloatArray) -> FloatArray:
    """(n,) arc length along a polyline."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])


def _pair(names: Sequence[str], at: FloatArray, arc: float) -> str:
    """The two anchors between which a place on the rod lies."""
    k = int(np.clip(np.searchsorted(at, arc) - 1, 0, len(at) - 2))
    return f"{names[k]} and {names[k + 1]}"


def _nearest_arc(line: FloatArray, bones: Sequence[Walls], radius: float) -> float:
    """Where on the rod bone is nearest."""
    index = min((_gap(line, b, radius) for b in bones), key=lambda g: g[0])[1]
    return float(arc_lengths(line)[index])


def solid(rod: Rod | RodPlan) -> Surface:
    """Closed round solid of the rod."""
    from sacroplan.geometry.primitives import tube

    if isinstance(rod, RodPlan):
        rod = rod.rod
    return tube(rod.polyline, 0.5 * rod.diameter_mm, frame=rod.frame)
