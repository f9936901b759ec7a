"""Solved models as they leave the room: turned into LPS, as decks and as maps of the seats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.mechanics import criteria
from sacroplan.mechanics.deck import write_inp
from sacroplan.mechanics.elasticity import rotated
from sacroplan.mechanics.figures import (
    Solved,
)
from sacroplan.mechanics.healing import HealingResult
from sacroplan.mechanics.interfaces import Contact, on_nodes
from sacroplan.mechanics.problem import Problem, Solution
from sacroplan.mechanics.results import ModelResult, SeatMaps
from sacroplan.metrics import Metrics


def to_lps(
    model: Solved,
    axes: AxisFrame,
    fields: Callable[[int], tuple[FloatArray, FloatArray]],
    full: tuple[int, ...],
    risk: FloatArray,
    ratio: FloatArray,
    figures: Metrics,
) -> ModelResult:
    """The model with the ``full`` cases' fields in LPS; ``fields`` gives strain and stress of a case."""
    problem, solution = turned(model, axes, list(full))
    means = []
    energies = []
    for c in full:
        strain, stress = fields(c)
        means.append(criteria.von_mises(stress).mean(axis=1))
        energies.append(criteria.energy_density(stress, strain).mean(axis=1))
    return ModelResult(
        model.name,
        problem,
        solution,
        model.materials,
        model.report,
        tuple(model.cases[c].name for c in full),
        np.stack(means, axis=1),
        risk,
        np.stack(energies, axis=1),
        ratio,
        figures,
    )


def turned(model: Solved, axes: AxisFrame, chosen: list[int]) -> tuple[Problem, Solution]:
    """Problem and solution of some cases in LPS."""
    turn = axes.axes
    p, s = model.problem, model.solution
    tensors = np.array([rotated(c, turn) for c in p.tensors_mpa]).reshape(-1, 6, 6)
    problem = Problem(
        p.mesh.with_nodes(axes.to_world(p.mesh.nodes)), p.young_mpa, p.poisson, p.fixed,
        np.einsum("ij,njc->nic", turn, p.loads[:, :, chosen]), tensors, p.tensor,
    )  # fmt: skip
    solution = replace(
        s,
        displacement=np.einsum("ij,njc->nic", turn, s.displacement[:, :, chosen]),
        reaction=np.einsum("ij,njc->nic", turn, s.reaction[:, :, chosen]),
    )
    return problem, solution


def deck_of(
    problem: Problem, cases: tuple[str, ...], title: str, contact: Contact | None = None
) -> bytes:
    """Deck of a problem in LPS, with the nodes of L5 and the loaded ones as sets."""
    mesh = problem.mesh
    return write_inp(
        problem,
        cases,
        f"sacroplan {title}",
        node_sets={
            "L5_NODES": np.unique(mesh.elements[mesh.of("L5")]).astype(np.int32),
            "LOADED": np.flatnonzero(np.abs(problem.loads).sum(axis=(1, 2))).astype(np.int32),
        },
        contact=contact,
    )


def seat_maps(healing: HealingResult, axes: AxisFrame) -> SeatMaps:
    """Displacement, motion, pressure and opening of the frictional stages, LPS."""
    contact, mesh = healing.parted.contact, healing.parted.mesh
    fields: dict[str, npt.NDArray[np.float32]] = {}
    for c, (case, state) in enumerate(zip(healing.model.cases, healing.states, strict=True)):
        u = healing.model.solution.displacement[:, :, c] @ axes.axes.T
        fields[f"displacement_{case.name}_mm"] = u.astype(np.float32)
        for name, values in (
            ("motion_um", 1000.0 * state.slip_mm),
            ("pressure_mpa", state.pressure_mpa),
            ("opening_um", 1000.0 * np.maximum(state.opening_mm, 0.0)),
        ):
            key = name.replace("_", f"_{case.name}_", 1)
            fields[key] = on_nodes(mesh, contact, values).astype(np.float32)
    return SeatMaps(mesh.with_nodes(axes.to_world(mesh.nodes)), fields)


def turned_contact(contact: Contact, axes: AxisFrame) -> Contact:
    """Pairs with their normals in LPS."""
    return replace(contact, normal=contact.normal @ axes.axes.T)


def contact_decks(healing: HealingResult, axes: AxisFrame) -> dict[str, bytes]:
    """One deck per frictional stage: friction remembers, so a case may not follow another."""
    contact = turned_contact(healing.parted.contact, axes)
    out = {}
    for c, case in enumerate(healing.model.cases):
        problem, _ = turned(healing.model, axes, [c])
        out[f"frictional_{case.name}"] = deck_of(
            problem, (case.name,), f"reconstructed pelvis, {case.title}, frictional seats", contact
        )
    return out
