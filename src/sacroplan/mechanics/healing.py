"""The stages of healing: friction while in bed, friction while standing, ingrown while walking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, MechanicsError
from sacroplan.geometry.frames import FloatArray
from sacroplan.mechanics import criteria
from sacroplan.mechanics.contact import ContactState, solve_contact
from sacroplan.mechanics.figures import (
    Solved,
    Strengths,
    bone_figures,
    fatigue_figures,
    metal_figures,
    motion_figures,
)
from sacroplan.mechanics.interfaces import Contact, Parted, part_interface, require_held
from sacroplan.mechanics.problem import Problem
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, part, silent


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of healing: which load case, and whether the seats have grown in."""

    name: str
    title: str
    case: str
    bonded: bool
    rows: tuple[str, ...]


STAGES: tuple[Stage, ...] = (
    Stage("early", "In bed, before ingrowth", "lc08", False, ("LC-08", "SP-MECH-11")),
    Stage("six_weeks", "Standing from six weeks", "lc02", False, ("LC-02", "SP-MECH-11")),
    Stage("ingrown", "Walking, grown in", "lc03", True, ("LC-03", "SP-MECH-07")),
)
"""Patients of Lv 2023 do not stand before six weeks; seats are taken as grown in for walking."""

BANDS = (("MIC-1", "ingrowth"), ("MIC-3", "tolerated"), ("MIC-1", "fibrous"))
"""Upper ends of the three bands of relative motion (HANDBOOK 3.5); never a single pass or fail."""


@dataclass(frozen=True, eq=False)
class HealingResult:
    """Contact solutions of the frictional stages and the table of all stages.

    Attributes
    ----------
    parted : the parted mesh and its contact pairs, local frame.
    model : both frictional cases solved on it.
    states : one per frictional case.
    table : one row per stage.
    figures : metrics without prefix.
    """

    parted: Parted
    model: Solved
    states: tuple[ContactState, ...]
    table: tuple[Mapping[str, str | float], ...]
    figures: Metrics
    doubts: tuple[Doubt, ...]


def carried_over(problem: Problem, parted: Parted, cases: tuple[int, ...]) -> Problem:
    """The bonded problem on the parted mesh, with some of its load cases."""
    loads = np.zeros((len(parted.mesh.nodes), 3, len(cases)))
    loads[parted.kept] = problem.loads[:, :, list(cases)]
    return replace(
        problem, mesh=parted.mesh, fixed=problem.fixed[parted.origin], loads=loads,
        prescribed=None,
    )  # fmt: skip


def seat_figures(contact: Contact, state: ContactState, seat: int | None) -> Metrics:
    """Motion bands, pressure and opening of one seat, or of all for None."""
    at = np.ones(len(contact.seat), dtype=bool) if seat is None else contact.seat == seat
    area = contact.area_mm2[at]
    total = max(float(area.sum()), 1e-300)
    motion = 1000.0 * state.slip_mm[at]
    pressure = state.pressure_mpa[at]
    label = "all seats" if seat is None else contact.seats[seat]
    micro = ("MIC-1", "MIC-2", "MIC-3", "MIC-4")
    out: Metrics = {
        "area_cm2": Metric(total / 100.0, "cm2", f"Interface area, {label}"),
    }
    for row, name in BANDS:
        limit = evidence.value(row, name)
        out[f"motion_below_{limit:.0f}um_percent"] = Metric(
            100.0 * float(area[motion < limit].sum()) / total, "%",
            f"Interface with relative motion below {limit:g} um, {label}", micro,
        )  # fmt: skip
    out["motion_p95_um"] = Metric(
        criteria.volume_percentile(motion, area, 95.0), "um",
        f"Relative tangential motion, 95 % of the area lies below, {label}", micro,
    )  # fmt: skip
    out["pressure_p99_mpa"] = Metric(
        criteria.volume_percentile(pressure, area, evidence.value("SP-MECH-02", "percentile")),
        "MPa", f"Contact pressure, 99th area percentile, {label}", ("FAIL-8", "SP-MECH-02"), None,
        evidence.value("FAIL-8", "pressure"),
    )  # fmt: skip
    out["pressure_n"] = Metric(
        float(np.linalg.norm(state.resultant_n(contact, seat))), "N",
        f"Resultant of the contact pressure, {label}",
    )  # fmt: skip
    out["open_percent"] = Metric(
        100.0 * float(area[pressure <= 0].sum()) / total, "%",
        f"Interface without pressure, {label}",
    )  # fmt: skip
    out["sliding_percent"] = Metric(
        100.0 * float(area[state.sliding[at]].sum()) / total, "%",
        f"Interface that slides under pressure, {label}", ("SP-MECH-11",),
    )  # fmt: skip
    return out


def _highest(figures: Metrics, case: str, name: str) -> float:
    values = [
        m.value
        for key, m in figures.items()
        if key.startswith(f"{case}.") and key.endswith(name) and isinstance(m.value, float)
    ]
    return max(values, default=float("nan"))


def _lowest(figures: Metrics, case: str, name: str) -> float:
    values = [
        m.value
        for key, m in figures.items()
        if key.startswith(f"{case}.") and key.endswith(name) and isinstance(m.value, float)
    ]
    return min(values, default=float("nan"))


def _row(
    stage: Stage, figures: Metrics, seats: Metrics, fatigue: Metrics
) -> dict[str, str | float]:
    case = stage.case
    l5 = figures[f"{case}.l5_displacement_mm"].value
    assert isinstance(l5, float)
    row: dict[str, str | float] = {
        "stage": stage.title,
        "interface": "bonded" if stage.bonded else "friction",
        "case": case,
        "l5_displacement_mm": l5,
        "metal_p99_mpa": _highest(figures, case, ".von_mises_p99_mpa"),
        "safety_factor": _lowest(figures, case, ".safety_factor"),
        "bone_risk_p99": _highest(figures, case, ".bone.risk_p99"),
    }
    if stage.bonded:
        row["fatigue_margin"] = min(
            (m.value / m.lower for m in fatigue.values() if m.lower and isinstance(m.value, float)),
            default=float("nan"),
        )
    for name, m in seats.items():
        if name.startswith(("motion_", "pressure_p99")) and isinstance(m.value, float):
            row[name] = m.value
    return row


def heal(
    bonded: Solved,
    bonded_figures: Metrics,
    strengths: Strengths,
    progress: Progress = silent,
) -> HealingResult:
    """The three stages from the bonded model: two frictional solutions and the bonded gait peak.

    ``bonded_figures`` are that model's own (motion, bone, metal). Raises :class:`MechanicsError`
    when there is no seat, when friction alone would hold a part, or when contact does not converge.
    """
    index = []
    for stage in STAGES:
        at = bonded.index(stage.case)
        if at is None:
            raise MechanicsError(f"The stages of healing need load case {stage.case}.")
        if not stage.bonded:
            index.append(at)
    parted = part_interface(
        bonded.problem.mesh, bonded.problem.young_mpa, evidence.value("SP-MECH-11", "seat")
    )
    if parted is None:
        raise MechanicsError("No implant part touches bone, so there is no seat to grow in.")
    require_held(parted.mesh)
    problem = carried_over(bonded.problem, parted, tuple(index))
    names = tuple(bonded.cases[c].title for c in index)
    solution, states = solve_contact(problem, parted.contact, names, part(progress, 0.0, 0.9))
    endplate = np.zeros(len(parted.mesh.nodes))
    endplate[parted.kept] = bonded.endplate
    model = replace(
        bonded, name="frictional", problem=problem, solution=solution, endplate=endplate,
        cases=tuple(bonded.cases[c] for c in index), doubts=(),
    )  # fmt: skip

    own: Metrics = dict(motion_figures(model))
    cache = {c: model.fields(c) for c in range(len(index))}

    def fields(c: int) -> tuple[FloatArray, FloatArray]:
        return cache[c]

    own |= bone_figures(model, fields, tuple(range(len(index))))[0]
    doubts: list[Doubt] = []
    unused: list[dict[str, str | float]] = []
    for c in range(len(index)):
        metal, low = metal_figures(model, c, cache[c][1], strengths, unused)
        own |= metal
        doubts += [replace(d, code=f"{d.code}_friction") for d in low]
    fatigue, _ = fatigue_figures(bonded, bonded_figures, strengths)
    figures: Metrics = {}
    table = []
    column = 0
    for stage in STAGES:
        seats: Metrics = {}
        source = bonded_figures if stage.bonded else own
        if not stage.bonded:
            state = states[column]
            column += 1
            seats = seat_figures(parted.contact, state, None)
            for number, seat in enumerate(parted.contact.seats):
                for name, m in seat_figures(parted.contact, state, number).items():
                    figures[f"{stage.name}.{seat}.{name}"] = m
            figures[f"{stage.name}.steps"] = Metric(state.steps, "count", "Contact steps")
            figures[f"{stage.name}.penetration_um"] = Metric(
                1000.0 * float(np.maximum(-state.opening_mm, 0.0).max()), "um",
                "Largest penetration of the contact penalty", ("SP-MECH-12",),
            )  # fmt: skip
        prefix = f"{stage.case}."
        for name, m in source.items():
            if name.startswith(prefix):
                figures[f"{stage.name}.{name.removeprefix(prefix)}"] = m
        for name, m in seats.items():
            figures[f"{stage.name}.{name}"] = m
        table.append(_row(stage, source, seats, fatigue))
    columns = list(dict.fromkeys(k for row in table for k in row))
    even = tuple({k: row.get(k, "") for k in columns} for row in table)
    return HealingResult(parted, model, states, even, figures, tuple(doubts))
