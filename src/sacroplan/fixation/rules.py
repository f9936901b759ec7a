"""What a screw must not run through, and the rules it is held to, each with its margin.

Running through a cut, a socket, a notch, a vessel or other metal is refused: that is collision, no
number. Coming nearer than a wanted distance is a doubt, because those distances are conventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.fixation.bone import Bone, walls_of
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.frames import AxisFrame, FloatArray, perpendicular, same_frame
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric, Metrics

STEP_MM = 0.5
"""Samples along a thread; between them a hole in bone cannot be missed by more than 0.1 mm."""

RING = 24
"""Samples round a thread."""


@dataclass(frozen=True)
class Rule:
    """A figure held against a limit; ``at_least`` says on which side the limit lies."""

    name: str
    value: float
    limit: float
    at_least: bool
    unit: str
    rows: tuple[str, ...]

    @property
    def margin(self) -> float:
        """How much room is left; negative where the rule is broken."""
        return self.value - self.limit if self.at_least else self.limit - self.value

    def metric(self, what: str) -> Metric:
        """For the dossier."""
        low, high = (self.limit, None) if self.at_least else (None, self.limit)
        label = f"{what}: {self.name.replace('_', ' ')}"
        return Metric(self.value, self.unit, label, self.rows, low, high)


def broken(name: str, rules: tuple[Rule, ...]) -> tuple[Doubt, ...]:
    """One doubt for every rule that the screw ``name`` breaks."""
    return tuple(
        Doubt(
            "fixation", f"fixation.rule.{r.name}",
            f"{name}: {r.name.replace('_', ' ')} {r.value:.1f} {r.unit}, wanted "
            f"{'at least' if r.at_least else 'at most'} {r.limit:g}.", r.rows,
        )
        for r in rules if r.margin < -1e-6
    )  # fmt: skip


def rule_metrics(base: str, what: str, rules: tuple[Rule, ...]) -> Metrics:
    """Rules as figures ``<base>.<name>``."""
    return {f"{base}.{r.name}_{_suffix(r.unit)}": r.metric(what) for r in rules}


def _suffix(unit: str) -> str:
    return {"%": "percent", "mm": "mm", "deg": "deg", "HU": "hu"}.get(unit, "1")


@dataclass(frozen=True, eq=False)
class Metal:
    """A straight piece of metal: another screw or a guide wire, LPS mm.

    ``wanted_mm`` : bone wanted between it and a screw.
    """

    name: str
    start: FloatArray
    end: FloatArray
    radius_mm: float
    wanted_mm: float

    @staticmethod
    def of(screw: Screw, wanted_mm: float) -> Metal:
        """The thread of a screw."""
        return Metal(screw.name, screw.entry, screw.tip, 0.5 * screw.diameter_mm, wanted_mm)


@dataclass(frozen=True, eq=False)
class Obstacles:
    """Planned cuts (closed plates), metal, and vessels (closed surfaces), LPS mm."""

    cuts: tuple[Surface, ...] = ()
    metal: tuple[Metal, ...] = ()
    vessels: Mapping[str, Surface] | None = None


def surface_gap(surface: Surface, start: FloatArray, end: FloatArray) -> float:
    """Exact distance (mm) of a segment to a surface's faces; 0 where it crosses one."""
    return float(walls_of(surface).gaps(start, end)[0][0])


def thread(screw: Screw, start_mm: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Depths (n,) along the screw and points (n, RING, 3) on its thread from ``start_mm`` on."""
    span = screw.length_mm - start_mm
    s = np.linspace(start_mm, screw.length_mm, int(np.ceil(span / STEP_MM)) + 1)
    u = perpendicular(screw.direction)
    v = np.cross(screw.direction, u)
    turn = 2.0 * np.pi * np.arange(RING) / RING
    ring = 0.5 * screw.diameter_mm * (np.cos(turn)[:, None] * u + np.sin(turn)[:, None] * v)
    return s, (screw.entry + s[:, None] * screw.direction)[:, None] + ring


def point_gap(screw: Screw, point: FloatArray) -> float:
    """Distance (mm) of a point to the screw's axis between entry and tip."""
    w = np.asarray(point, dtype=np.float64) - screw.entry
    t = float(np.clip(w @ screw.direction, 0.0, screw.length_mm))
    return float(np.linalg.norm(w - t * screw.direction))


def metal_gap(screw: Screw, metal: Metal) -> float:
    """Bone (mm) between a screw's thread and other metal; negative where they meet."""
    from sacroplan.fixation._exact_kernels import segments_apart

    gap = segments_apart(
        np.array(screw.entry), np.array(screw.tip), np.array(metal.start, dtype=np.float64),
        np.array(metal.end, dtype=np.float64),
    )  # fmt: skip
    return float(gap) - 0.5 * screw.diameter_mm - metal.radius_mm


def axis_room(starts: FloatArray, ends: FloatArray, obstacles: Obstacles) -> FloatArray:
    """Distance (n,) in mm of axes from ``starts`` to ``ends`` (n, 3) to cuts, vessels and the surface of
    other metal; inf without any. A screw of a smaller radius touches nothing."""
    from sacroplan.fixation._exact_kernels import segment_gaps

    a = np.ascontiguousarray(starts, dtype=np.float64).reshape(-1, 3)
    b = np.ascontiguousarray(ends, dtype=np.float64).reshape(-1, 3)
    room = np.full(len(a), np.inf)
    for surface in (*obstacles.cuts, *(obstacles.vessels or {}).values()):
        room = np.minimum(room, walls_of(surface).gaps(a, b)[0])
    if obstacles.metal:
        metal = obstacles.metal
        gaps = np.empty(len(a))
        segment_gaps(
            a, b, np.array([m.start for m in metal], dtype=np.float64),
            np.array([m.end for m in metal], dtype=np.float64),
            np.array([m.radius_mm for m in metal], dtype=np.float64), gaps,
        )  # fmt: skip
        room = np.minimum(room, gaps)
    return room


def conflicts(
    screw: Screw,
    obstacles: Obstacles,
    points: Mapping[str, FloatArray],
    hip_radius_mm: Mapping[str, float],
    bone: Bone | None = None,
    start_mm: float = 0.0,
    pelvis: AxisFrame | None = None,
) -> list[str]:
    """Why a screw cannot be: one sentence for every thing that it runs through.

    ``bone`` with ``pelvis`` (FRM-1): the thread beyond ``start_mm`` must not leave it at the notch.
    """
    radius = 0.5 * screw.diameter_mm
    letter = "R" if screw.side == "right" else "L"
    out = []
    for n, cut in enumerate(obstacles.cuts):
        same_frame(screw, cut)
        if surface_gap(cut, screw.entry, screw.tip) < radius:
            out.append(
                f"{screw.name} runs through planned cut {n + 1}; the saw would meet it. Move the screw "
                "or the osteotomy."
            )
    for metal in obstacles.metal:
        gap = metal_gap(screw, metal)
        if gap < 0.0:
            out.append(f"{screw.name} runs {-gap:.1f} mm into {metal.name}. Move one of them.")
    for name, vessel in sorted((obstacles.vessels or {}).items()):
        if surface_gap(vessel, screw.entry, screw.tip) < radius:
            out.append(f"{screw.name} runs into the vessel {name}. Shorten or move it.")
    socket = points.get(f"HJC_{letter}")
    ball = hip_radius_mm.get(screw.side)
    if screw.kind != "pedicle" and socket is not None and ball is not None:
        gap = point_gap(screw, socket) - radius - ball
        if gap < 0.0:
            out.append(
                f"{screw.name} runs {-gap:.1f} mm into the {screw.side} acetabulum. Shorten it or "
                "aim higher."
            )
    notch = points.get(f"GSN_{letter}")
    if screw.kind != "pedicle" and notch is not None:
        depth = radius - point_gap(screw, notch)
        if depth > 0.0 or (
            bone is not None
            and pelvis is not None
            and _leaves_at(screw, bone, pelvis, notch, start_mm)
        ):
            out.append(
                f"{screw.name} runs through the {screw.side} greater sciatic notch, where the superior "
                "gluteal vessels and the sciatic nerve leave the pelvis. Aim higher."
            )
    return out


def _leaves_at(
    screw: Screw, bone: Bone, pelvis: AxisFrame, notch: FloatArray, start_mm: float
) -> bool:
    """Whether the thread lies outside the bone below and near the notch's apex."""
    _, ring = thread(screw, start_mm)
    p = ring.reshape(-1, 3)
    away = pelvis.axes.T @ (p - notch).T
    near = (np.linalg.norm(p - notch, axis=1) < evidence.value("SP-FIX-11", "reach")) & (
        away[1] < 0.0
    )
    # A thread that crosses no wall beyond its start stays where it began, inside.
    gap = bone.walls.gaps(screw.entry + start_mm * screw.direction, screw.tip)[0][0]
    return (
        float(gap) < 0.5 * screw.diameter_mm
        and bool(near.any())
        and bool((bone.outside_mm(p[near]) > 0.0).any())
    )


def pelvic_rules(
    screw: Screw,
    kind: str,
    axis_gap_mm: float,
    obstacles: Obstacles,
    points: Mapping[str, FloatArray],
    hip_radius_mm: Mapping[str, float],
) -> tuple[tuple[Rule, ...], tuple[Doubt, ...]]:
    """IL-03, IL-05, S2-06 and the distances to other things, with doubts for what is broken."""
    radius = 0.5 * screw.diameter_mm
    letter = "R" if screw.side == "right" else "L"
    row = {"s2ai": "S2-06", "trans_sacral": "SP-FIX-10"}.get(kind, "IL-03")
    (d0, d1), (l0, l1) = evidence.span(row, "diameter"), evidence.span(row, "length")
    rules = [
        Rule("cortex", axis_gap_mm - radius, evidence.value("IL-05", "cortex"), True, "mm", ("IL-05",)),
        Rule("least_diameter", screw.diameter_mm, d0, True, "mm", (row,)),
        Rule("most_diameter", screw.diameter_mm, d1, False, "mm", (row,)),
        Rule("least_length", screw.length_mm, l0, True, "mm", (row,)),
        Rule("most_length", screw.length_mm, l1, False, "mm", (row,)),
    ]  # fmt: skip
    if f"GSN_{letter}" in points:
        rules.append(
            Rule(
                "notch", point_gap(screw, points[f"GSN_{letter}"]) - radius,
                evidence.value("IL-05", "above_notch"), True, "mm", ("IL-05",),
            )
        )  # fmt: skip
    if f"HJC_{letter}" in points:
        ball = hip_radius_mm.get(screw.side, evidence.span("SP-LMK-03", "radius")[1])
        rules.append(
            Rule(
                "acetabulum", point_gap(screw, points[f"HJC_{letter}"]) - radius - ball,
                evidence.value("IL-05", "acetabulum"), True, "mm", ("IL-05",),
            )
        )  # fmt: skip
    for metal in obstacles.metal:
        if not metal.name.endswith(" head"):
            rules.append(
                Rule(
                    f"to_{metal.name}", metal_gap(screw, metal), metal.wanted_mm, True, "mm", ("IL-03",)
                )
            )  # fmt: skip
    for name, vessel in sorted((obstacles.vessels or {}).items()):
        gap = surface_gap(vessel, screw.entry, screw.tip) - radius
        rules.append(Rule(f"to_{name}", gap, 0.0, True, "mm", ("GR-03",)))
    doubts = broken(screw.name, tuple(rules))
    missing = [n for n in ("GSN", "HJC") if f"{n}_{letter}" not in points]
    if missing:
        doubts += (
            Doubt(
                "fixation", "fixation.pelvic_landmarks",
                f"{screw.name}: without {' and '.join(f'{n}_{letter}' for n in missing)} its distance to "
                "notch or socket is unknown.", ("IL-05",),
            ),
        )  # fmt: skip
    return tuple(rules), doubts
