"""Load cases of one model solved: those that hold both acetabula together, the others by support."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sacroplan.errors import Doubt, MechanicsError
from sacroplan.geometry.frames import FloatArray
from sacroplan.mechanics.catalogue import (
    MORE,
    LoadCase,
    anchor_of,
    body_weight_n,
    load_case,
    spine_path,
    stance_loads,
    unit_loads,
)
from sacroplan.mechanics.contact import ContactState, solve_contact
from sacroplan.mechanics.figures import (
    Solved,
    body_motion,
)
from sacroplan.mechanics.inputs import MechanicsInput
from sacroplan.mechanics.joints import Joints
from sacroplan.mechanics.loads import (
    endplate_weights,
    face_weights,
    held_faces,
    ischium_nodes,
    nodes_of,
)
from sacroplan.mechanics.materials import Materials
from sacroplan.mechanics.mesh import TetMesh
from sacroplan.mechanics.meshing import MeshReport
from sacroplan.mechanics.problem import Problem
from sacroplan.mechanics.solvers import TOLERANCE, account, solve
from sacroplan.progress import Progress, part, silent

UP = np.array([0.0, 1.0, 0.0])
"""Cranial in the local frame."""


def _local_centres(inp: MechanicsInput) -> dict[str, FloatArray]:
    return {s: inp.axes.to_local(np.asarray(c)) for s, c in inp.hip_centres.items()}


def _balanced(model: Solved) -> Solved:
    s = model.solution
    if s.residual > 1e2 * TOLERANCE:
        raise MechanicsError(
            f"The combined load cases of the {model.name} model do not balance: residual "
            f"{s.residual:.1e} of the load."
        )
    return model


def solve_held(
    name: str,
    mesh: TetMesh,
    report: MeshReport,
    materials: Materials,
    inp: MechanicsInput,
    endplate: tuple[FloatArray, FloatArray],
    cases: tuple[LoadCase, ...],
    s1: FloatArray,
    progress: Progress,
    joints: Joints | None = None,
) -> tuple[Solved, float]:
    """(all cases that hold the acetabula, mm by which the follower load's path was set forward).

    With ``joints`` of the bonded ``mesh`` every case is solved in contact; the follower load's path
    is then the bonded model's.
    """
    front = 0.0
    if joints is not None:
        turning = tuple(c for c in cases if c.follower_n > 0)
        if turning:
            rest = (inp, endplate, turning, s1, silent)
            front = solve_held(name, mesh, report, materials, *rest)[1]
        mesh = joints.parted.mesh
    faces, doubts = held_faces(mesh, _local_centres(inp), UP)
    held = np.any([nodes_of(mesh, f) for f in faces.values()], axis=0)
    weights = endplate_weights(mesh, "L4", *endplate)
    if np.any(held & (weights > 0)):
        raise MechanicsError("L4's endplate and an acetabulum share nodes: landmarks are wrong.")
    units = unit_loads(mesh, weights, spine_path(mesh, s1), anchor_of(mesh))
    mix = np.stack([c.coefficients for c in cases], axis=1)
    if joints is not None:
        mix[5] -= front * mix[6]
        problem = Problem(
            mesh, materials.young_mpa, materials.poisson, held,
            np.einsum("nrb,bc->nrc", units, mix), materials.tensors_mpa, materials.tensor,
        )  # fmt: skip
        titles = tuple(c.title for c in cases)
        answer, states = solve_contact(problem, joints.contact, titles, progress)
        return Solved(
            name, problem, answer, materials, report, weights, cases, doubts, joints, states
        ), front
    follower = any(c.follower_n > 0 for c in cases)
    # With a follower load its unit actions are needed; else the fewest cases that span the others.
    solved = np.eye(7) if follower else mix[:, _independent(mix)]
    problem = Problem(
        mesh, materials.young_mpa, materials.poisson, held,
        np.einsum("nrb,bc->nrc", units, solved), materials.tensors_mpa, materials.tensor,
    )  # fmt: skip
    basis = solve(problem, inp.options.engine, progress)
    one = Solved(name, problem, basis, materials, report, weights, cases, doubts)
    arm = 0.0
    if follower:
        # The follower load must not bend the spine: its path is set forward or back until L4 keeps
        # its sagittal angle, which is the moment of that offset.
        turn = [body_motion(one, "L4", c) for c in (6, 5)]
        assert turn[0] is not None
        assert turn[1] is not None
        arm = -float(turn[0][1][2] / turn[1][1][2])
        mix[5] += arm * mix[6]
    share = np.linalg.lstsq(solved, mix, rcond=None)[0]
    whole = replace(problem, loads=np.einsum("nrb,bc->nrc", units, mix))
    u = np.einsum("nrb,bc->nrc", basis.displacement, share)
    solution = account(whole, u, basis.iterations, basis.engine)
    return _balanced(replace(one, problem=whole, solution=solution)), -arm


def _independent(mix: FloatArray) -> list[int]:
    """Columns of (7, c) that span all of them, the first ones that do."""
    out: list[int] = []
    for c in range(mix.shape[1]):
        scaled = mix[:, [*out, c]] / np.linalg.norm(mix[:, [*out, c]], axis=0)
        if np.linalg.matrix_rank(scaled, tol=1e-6) > len(out):
            out.append(c)
    return out


def solve_elsewhere(
    model: Solved, inp: MechanicsInput, endplate_normal: FloatArray, progress: Progress
) -> tuple[list[Solved], list[Doubt]]:
    """Cases with supports of their own, one solution per support; a doubt for each left out."""
    mesh = model.problem.mesh
    centres = _local_centres(inp)
    faces, doubts = held_faces(mesh, centres, UP)
    out: list[Solved] = []
    missing: list[Doubt] = []
    groups: dict[str, list[LoadCase]] = {}
    for recipe in MORE:
        reason = ""
        if recipe.hip is not None and (doubts or body_weight_n(inp.body_mass_kg) is None):
            reason = "it needs both acetabula in the image and the patient's body mass"
        if recipe.support == "ischia" and ischium_nodes(mesh, centres, UP) is None:
            reason = "the image ends above the ischial tuberosities"
        if reason:
            missing.append(
                Doubt(
                    "mechanics", f"mechanics.left_out_{recipe.name}",
                    f"{recipe.title} was not computed: {reason}.", recipe.rows,
                )
            )  # fmt: skip
            continue
        case = load_case(recipe, endplate_normal, inp.body_mass_kg)
        groups.setdefault(case.support, []).append(case)
    weights = {side: face_weights(mesh, f) for side, f in faces.items()}
    for number, (support, cases) in enumerate(groups.items()):
        if support == "ischia":
            nodes = ischium_nodes(mesh, centres, UP)
            assert nodes is not None
            loads = np.stack([np.outer(model.endplate, c.force_n) for c in cases], axis=2)
        else:
            nodes = nodes_of(mesh, faces[support.removeprefix("stance_")])
            loads = np.stack(
                [stance_loads(mesh, c, model.endplate, centres, weights) for c in cases], axis=2
            )
        problem = replace(model.problem, fixed=nodes, loads=loads)
        share = part(progress, number / len(groups), (number + 1) / len(groups))
        states: tuple[ContactState, ...] = ()
        if model.joints is None:
            solution = solve(problem, inp.options.engine, share)
        else:
            titles = tuple(c.title for c in cases)
            solution, states = solve_contact(problem, model.joints.contact, titles, share)
        out.append(
            replace(model, problem=problem, solution=solution, cases=tuple(cases), states=states)
        )
    return out, missing
