"""The load cases of HANDBOOK 4.2 as data, scaled to the patient's mass, and their nodal forces.

A case is a set of actions; all cases that hold the acetabula are combinations of seven: three forces
and three moments on L4 and the follower load. The solver solves those, whatever the number of cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sacroplan import evidence
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.mechanics.loads import body_weights, pure_moment, wing_weights
from sacroplan.mechanics.mesh import TetMesh

Support = Literal["acetabula", "stance_left", "stance_right", "ischia"]

AXES = {"anterior": 0, "cranial": 1, "right": 2}
"""Axes of the pelvic frame (FRM-1)."""

MASS_RANGE_KG = (20.0, 300.0)
"""A body mass outside this is a wrong unit or a wrong patient."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One load case of the catalogue.

    Attributes
    ----------
    name, title : key and reader's name.
    rows : evidence rows that define it.
    support : what is held.
    along : "caudal" (vertical) or "axial" (against L4's endplate): direction of ``force``.
    force : (row, quantity) N on L4's superior endplate.
    weight_share : (row, quantity) share of body weight that replaces ``force`` where the mass is
        known; ``weight_factor`` (row, quantity) multiplies it.
    shear : (row, quantity, axis, sign) N along a pelvic axis on L4.
    moment : (row, quantity, axis, sign) N.m about a pelvic axis on L4.
    follower : (row, quantity) N along the spine.
    hip : (row, quantity) hip reaction as a share of body weight, for single-leg stance.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    support: Support = "acetabula"
    along: Literal["caudal", "axial"] = "caudal"
    force: tuple[str, str] | None = None
    weight_share: tuple[str, str] | None = None
    weight_factor: tuple[str, str] | None = None
    shear: tuple[str, str, str, float] | None = None
    moment: tuple[str, str, str, float] | None = None
    follower: tuple[str, str] | None = None
    hip: tuple[str, str] | None = None


def _moment(name: str, title: str, axis: str, sign: float) -> Recipe:
    return Recipe(
        f"lc04_{name}", f"Pure moment, {title}", ("LC-04",),
        moment=("LC-04", "moment", axis, sign), follower=("LC-04", "follower"),
    )  # fmt: skip


def _stance(row: str, name: str, title: str, side: str) -> Recipe:
    return Recipe(
        f"{name}_{side}", f"{title}, {side} leg", ("LC-05", row) if row != "LC-05" else ("LC-05",),
        support="stance_left" if side == "left" else "stance_right",
        weight_share=("LC-05", "trunk"), hip=(row, "hip"),
    )  # fmt: skip


CORE: tuple[Recipe, ...] = (
    Recipe("lc01", "Vertical force on L4", ("LC-01",), force=("LC-01", "force")),
    Recipe(
        "lc02", "Double stance", ("LC-02", "LOAD-01"), along="axial",
        force=("LC-02", "force"), weight_share=("LOAD-01", "share"),
    ),
    Recipe(
        "lc03", "Gait peak", ("LC-03", "SP-MECH-13"), along="axial", force=("LC-03", "force"),
        weight_share=("LOAD-01", "share"), weight_factor=("SP-MECH-13", "ratio"),
    ),
    _moment("flexion", "flexion", "right", -1.0),
    _moment("extension", "extension", "right", 1.0),
    _moment("bend_left", "bending to the left", "anterior", -1.0),
    _moment("bend_right", "bending to the right", "anterior", 1.0),
    _moment("turn_left", "rotation to the left", "cranial", 1.0),
    _moment("turn_right", "rotation to the right", "cranial", -1.0),
    Recipe(
        "lc08", "Log-roll", ("LC-08",), moment=("LC-08", "moment", "cranial", 1.0),
        shear=("LC-08", "shear", "right", -1.0),
    ),
)  # fmt: skip
"""Cases that hold both acetabula: they share one set-up."""

MORE: tuple[Recipe, ...] = (
    _stance("LC-05", "lc05", "Single-leg stance", "left"),
    _stance("LC-05", "lc05", "Single-leg stance", "right"),
    _stance("LC-06", "lc06", "Stairs", "left"),
    _stance("LC-06", "lc06", "Stairs", "right"),
    Recipe(
        "lc07", "Sitting", ("LC-07", "LC-02"), support="ischia", along="axial",
        force=("LC-02", "force"), weight_share=("LC-07", "share"),
    ),
)  # fmt: skip
"""Cases with supports of their own, a set-up each."""

CATALOGUE: Mapping[str, Recipe] = {r.name: r for r in (*CORE, *MORE)}
"""All load cases by name."""


@dataclass(frozen=True, eq=False)
class LoadCase:
    """A load case in the model's frame.

    Attributes
    ----------
    name, title, rows, support : as in its recipe; rows of what the scaling used included.
    force_n : (3,) force on L4's superior endplate.
    moment_n_mm : (3,) moment on it.
    follower_n : tension of the follower load.
    body_weight_n : the patient's weight, 0 where it is not known.
    hip_share : hip reaction over body weight, 0 except in single-leg stance.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    support: Support
    force_n: FloatArray
    moment_n_mm: FloatArray
    follower_n: float
    body_weight_n: float = 0.0
    hip_share: float = 0.0

    @property
    def coefficients(self) -> FloatArray:
        """(7,) multiples of the unit actions of :func:`unit_loads`."""
        return np.concatenate([self.force_n, self.moment_n_mm, [self.follower_n]])


def body_weight_n(body_mass_kg: float | None) -> float | None:
    """Weight in N; None without a mass. Raises :class:`MechanicsError` on an implausible one."""
    if body_mass_kg is None:
        return None
    low, high = MASS_RANGE_KG
    if not low <= body_mass_kg <= high:
        raise MechanicsError(
            f"A body mass of {body_mass_kg:g} kg was given; between {low:g} and {high:g} kg is "
            "expected."
        )
    return body_mass_kg * evidence.value("SP-MECH-04", "newton_per_kg")


def load_case(recipe: Recipe, endplate_normal: FloatArray, body_mass_kg: float | None) -> LoadCase:
    """A recipe scaled to the patient, in the local frame (x anterior, y cranial, z right).

    Raises :class:`MechanicsError` when a case is defined by body weight and no mass is known.
    """
    weight = body_weight_n(body_mass_kg)
    force, moment = np.zeros(3), np.zeros(3)
    down = np.array([0.0, -1.0, 0.0]) if recipe.along == "caudal" else -unit(endplate_normal)
    rows = recipe.rows
    if recipe.weight_share is not None and weight is not None:
        size = evidence.value(*recipe.weight_share) * weight
        if recipe.weight_factor is not None:
            size *= evidence.value(*recipe.weight_factor)
        force += size * down
        rows = (*rows, *(r for r in (recipe.weight_share[0], "SP-MECH-04") if r not in rows))
    elif recipe.force is not None:
        force += evidence.value(*recipe.force) * down
    elif recipe.weight_share is not None:
        raise MechanicsError(
            f"{recipe.title} is defined by body weight; give [patient] body_mass_kg."
        )
    if recipe.shear is not None:
        row, quantity, axis, sign = recipe.shear
        force[AXES[axis]] += sign * evidence.value(row, quantity)
    if recipe.moment is not None:
        row, quantity, axis, sign = recipe.moment
        moment[AXES[axis]] += sign * 1000.0 * evidence.value(row, quantity)
    follower = evidence.value(*recipe.follower) if recipe.follower is not None else 0.0
    share = evidence.value(*recipe.hip) if recipe.hip is not None else 0.0
    return LoadCase(
        recipe.name, recipe.title, rows, recipe.support, force, moment, follower,
        weight or 0.0, share,
    )  # fmt: skip


def core_cases(endplate_normal: FloatArray, body_mass_kg: float | None) -> tuple[LoadCase, ...]:
    """All cases that share the set-up with both acetabula held."""
    return tuple(load_case(r, endplate_normal, body_mass_kg) for r in CORE)


def spine_path(mesh: TetMesh, s1: FloatArray) -> FloatArray:
    """(3, 3) points of the follower load: centres of L4 and L5 and the upper end ``s1`` of the pelvis."""
    points = []
    for name in ("L4", "L5"):
        at = mesh.of(name)
        if not at.any():
            raise MechanicsError(f"The model holds no {name}, so no follower load can act on it.")
        points.append(np.average(mesh.centroids[at], axis=0, weights=mesh.volumes[at]))
    return np.stack([*points, np.asarray(s1)])


def follower_loads(mesh: TetMesh, path: FloatArray, anchor: tuple[str, ...]) -> FloatArray:
    """(n, 3) N nodal forces of a follower load of 1 N along ``path`` (3, 3), anchored in parts.

    A cable under tension through the vertebrae: each takes the sum of the pulls of its two ends, the
    last one the pull on the anchor, so that the whole has no resultant. The cable's moment about the
    anchor's centre is the anchor's.
    """
    first, second = unit(path[1] - path[0]), unit(path[2] - path[1])
    out = np.outer(body_weights(mesh, "L4"), first)
    out += np.outer(body_weights(mesh, "L5"), second - first)
    weights = body_weights(mesh, *anchor)
    out -= np.outer(weights, second)
    # The cable ends at path[2], not in the anchor's centre.
    arm = path[2] - weights @ mesh.nodes
    return out + pure_moment(mesh, np.maximum(weights, 0.0), np.cross(arm, -second))


def unit_loads(
    mesh: TetMesh, endplate: FloatArray, path: FloatArray, anchor: tuple[str, ...]
) -> FloatArray:
    """(n, 3, 7) N: unit forces and unit moments (N.mm) on L4 and a follower load of 1 N.

    ``endplate`` (n,) are L4's weights (:func:`sacroplan.mechanics.loads.endplate_weights`).
    """
    out = np.zeros((len(mesh.nodes), 3, 7))
    for axis in range(3):
        out[:, axis, axis] = endplate
        moment = np.zeros(3)
        moment[axis] = 1.0
        out[:, :, 3 + axis] = pure_moment(mesh, endplate, moment)
    out[:, :, 6] = follower_loads(mesh, path, anchor)
    return out


def stance_loads(
    mesh: TetMesh,
    case: LoadCase,
    endplate: FloatArray,
    hip_centres: Mapping[str, FloatArray],
    held: Mapping[str, FloatArray],
) -> FloatArray:
    """(n, 3) N of single-leg stance: trunk, hanging leg and the abductors of the stance side.

    The abductors' force is what makes the hip reaction LC-05's: its size and angle follow from the
    balance of forces, so the reaction at the held acetabulum comes out as published and is reported.
    ``held``: side to (n,) weights of that acetabulum, on which the hanging leg pulls.
    """
    if case.body_weight_n <= 0:
        raise MechanicsError(
            f"{case.title} is defined by body weight; give [patient] body_mass_kg."
        )
    side = case.support.removeprefix("stance_")
    other = "right" if side == "left" else "left"
    if side not in hip_centres or other not in held:
        raise MechanicsError(
            f"{case.title} needs both acetabula in the image; one of them was not found."
        )
    weight = case.body_weight_n
    outward = np.array([0.0, 0.0, 1.0 if side == "right" else -1.0])
    up = np.array([0.0, 1.0, 0.0])
    angle = np.deg2rad(evidence.value("LC-05", "hip_angle"))
    # The head presses up and inward on the stance acetabulum.
    reaction = case.hip_share * weight * (np.cos(angle) * up - np.sin(angle) * outward)
    leg = -evidence.value("LC-05", "leg") * weight * up
    abductor = -(reaction + case.force_n + leg)
    wing = wing_weights(mesh, side, np.asarray(hip_centres[side]), np.stack([outward, up]))
    return np.outer(endplate, case.force_n) + np.outer(held[other], leg) + np.outer(wing, abductor)


def anchor_of(mesh: TetMesh) -> tuple[str, ...]:
    """Parts in which a follower load ends: the sacrum, else the implant, else both hip bones."""
    for name in ("sacrum", "implant_core"):
        if mesh.of(name).any():
            return (name,)
    return ("hip_left", "hip_right")
