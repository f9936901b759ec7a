"""Linear elastic solvers for the ten-node mesh.

Two independent engines take the same :class:`Problem`. ``"multigrid"`` (default) is our own assembly
and preconditioned conjugate gradients (:mod:`sacroplan.mechanics.multigrid`); all load cases share
one set-up and the result is byte-identical from run to run. ``"ngsolve"`` assembles and factorises
the problem in NGSolve; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray
from sacroplan.mechanics.mesh import EDGES, TetMesh
from sacroplan.mechanics.multigrid import multigrid
from sacroplan.mechanics.problem import Problem, Solution
from sacroplan.progress import Progress, silent

__all__ = ["ENGINES", "TOLERANCE", "Problem", "Solution", "ngsolve_mesh", "solve"]

TOLERANCE = 1e-7
"""Residual over load, in the Euclidean norm; displacements then agree with CalculiX to 1e-5."""

BALANCE_TOLERANCE = 1e-6
"""Largest allowed sum of loads and reactions, as a share of the load."""

Engine = Callable[[Problem, float, Progress], tuple[FloatArray, int]]


def ngsolve_mesh(mesh: TetMesh) -> Any:
    """The corner mesh as an NGSolve mesh; element order is kept, one material."""
    import netgen.meshing as nm
    import ngsolve

    ng = nm.Mesh(dim=3)
    ng.AddPoints(np.ascontiguousarray(mesh.nodes[: mesh.corners]))
    ng.AddRegion("solid", dim=3)
    ng.AddElements(
        dim=3, index=1, data=np.ascontiguousarray(mesh.elements[:, :4]).astype(np.int32), base=0
    )
    faces, _ = mesh.boundary
    ng.Add(nm.FaceDescriptor(surfnr=1, domin=1, bc=1))
    ng.AddElements(dim=2, index=1, data=np.ascontiguousarray(faces[:, :3]).astype(np.int32), base=0)
    return ngsolve.Mesh(ng)


def _ngsolve_form(ng: Any, m: Any, space: Any, problem: Problem) -> Any:
    """The assembled stiffness; moduli and tensors are element-wise functions, sampled by us."""
    flat = ng.L2(m, order=0)
    la, mu = ng.GridFunction(flat), ng.GridFunction(flat)
    la.vec.FV().NumPy()[:], mu.vec.FV().NumPy()[:] = (x.mean(axis=1) for x in problem.lame)
    u, v = space.TnT()
    strain = 0.5 * (ng.Grad(u) + ng.Grad(u).trans)
    test = 0.5 * (ng.Grad(v) + ng.Grad(v).trans)
    density = 2.0 * mu * ng.InnerProduct(strain, test) + la * ng.Trace(strain) * ng.Trace(test)
    which = problem.tensor_of
    if np.any(which >= 0):
        share = ng.GridFunction(flat)
        share.vec.FV().NumPy()[:] = which >= 0
        full = ng.GridFunction(ng.L2(m, order=0, dim=36))
        table = np.concatenate([problem.tensors_mpa, np.zeros((1, 6, 6))])
        full.vec.FV().NumPy()[:] = table[which].reshape(-1)

        def voigt(e: Any) -> Any:
            pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
            return ng.CF(tuple((1.0 if r == s else 2.0) * e[r, s] for r, s in pairs))

        tensor = ng.CoefficientFunction(full).Reshape((6, 6))
        density = (1.0 - share) * density + ng.InnerProduct(tensor * voigt(strain), voigt(test))
    form = ng.BilinearForm(space, symmetric=False)
    form += density * ng.dx(bonus_intorder=0)
    form.Assemble()
    return form


def _ngsolve(problem: Problem, tolerance: float, progress: Progress) -> tuple[FloatArray, int]:
    import ngsolve as ng

    mesh = problem.mesh
    m = ngsolve_mesh(mesh)
    space = ng.VectorH1(m, order=2)
    form = _ngsolve_form(ng, m, space, problem)
    progress(0.4, "stiffness assembled")
    # NGSolve's second-order functions are hierarchical: corners, then one bubble per edge.
    ends = np.sort(np.array([[p.nr for p in e.vertices] for e in m.edges], dtype=np.int64), axis=1)
    own = np.sort(mesh.elements[:, EDGES].reshape(-1, 2), axis=1).astype(np.int64)
    middle = np.empty(len(ends), dtype=np.int64)
    key = ends @ np.array([mesh.corners, 1])
    order = np.argsort(key)
    found = order[np.searchsorted(key[order], own @ np.array([mesh.corners, 1]))]
    middle[found] = mesh.elements[:, 4:].ravel()
    bubble = _bubble_value(ng, m, mesh.corners)
    nodal = np.concatenate([np.arange(mesh.corners), middle])
    # Degrees of freedom run over nodes within each direction.
    free = ng.BitArray(space.ndof)
    free.Clear()
    for d in np.flatnonzero(~problem.held[nodal].T.ravel()):
        free.Set(int(d))
    inverse = form.mat.Inverse(freedofs=free, inverse="sparsecholesky")
    out = np.zeros((len(mesh.nodes), 3, problem.loads.shape[2]))
    for c in range(problem.loads.shape[2]):
        f = problem.loads[:, :, c]
        right = form.mat.CreateColVector()
        b = np.zeros((len(nodal), 3))
        b[: mesh.corners] = f[: mesh.corners]
        for side in (0, 1):
            np.add.at(b, ends[:, side], 0.5 * f[middle])
        b[mesh.corners :] = bubble * f[middle]
        right.FV().NumPy()[:] = b.T.ravel()
        x = form.mat.CreateColVector()
        x.data = inverse * right
        values = x.FV().NumPy().reshape(3, -1).T
        out[: mesh.corners, :, c] = values[: mesh.corners]
        out[middle, :, c] = (
            0.5 * (values[ends[:, 0]] + values[ends[:, 1]]) + bubble * values[mesh.corners :]
        )
    progress(1.0, "solved")
    return out, 1


def _bubble_value(ng: Any, m: Any, corners: int) -> float:
    """Height of NGSolve's edge function in the middle of its edge (its sign is its own affair)."""
    probe = ng.GridFunction(ng.H1(m, order=2))
    edge = next(iter(m.edges))
    a, b = (np.array(m[p].point) for p in edge.vertices)
    probe.vec.FV().NumPy()[corners + edge.nr] = 1.0
    return float(probe(m(*(0.5 * (a + b)))))


ENGINES: dict[str, Engine] = {"multigrid": multigrid, "ngsolve": _ngsolve}
"""Solver engines by name."""


def _part_at(mesh: TetMesh, element: int) -> str:
    return mesh.names[int(mesh.part[element])]


def checked(problem: Problem) -> None:
    mesh = problem.mesh
    bad = np.flatnonzero(mesh.volumes <= 0)
    if len(bad):
        raise MechanicsError(
            f"{len(bad)} elements are inverted or flat, the first in {_part_at(mesh, int(bad[0]))}; "
            "every tetrahedron needs a positive volume."
        )
    young = problem.young_mpa.reshape(len(mesh.elements), -1)
    wrong = np.flatnonzero(
        ~(young > 0).all(axis=1) | ~((problem.poisson > -1) & (problem.poisson < 0.5))
    )
    if len(wrong):
        raise MechanicsError(
            f"{len(wrong)} elements, the first in {_part_at(mesh, int(wrong[0]))}, do not have a "
            "positive modulus and a Poisson ratio between -1 and 0.5."
        )
    node, axis = np.nonzero(problem.held)
    modes = _rigid_modes(mesh.nodes)
    gram = modes[node, axis].T @ modes[node, axis] if len(node) else np.zeros((6, 6))
    # Six motions of one size: a motion that the held components hardly feel is free.
    if np.linalg.eigvalsh(gram)[0] < 1e-9:
        raise MechanicsError(
            "The model is not held: its fixed nodes leave it a rigid motion (three that are not on "
            "a line would do)."
        )


def _rigid_modes(nodes: FloatArray) -> FloatArray:
    """(n, 3, 6) three translations and three rotations about the centre, of unit size."""
    x = nodes - nodes.mean(axis=0)
    x = x / max(float(np.abs(x).max()), 1e-300)
    out = np.zeros((len(x), 3, 6))
    out[:, 0, 0] = out[:, 1, 1] = out[:, 2, 2] = 1.0
    out[:, 1, 3], out[:, 2, 3] = -x[:, 2], x[:, 1]
    out[:, 0, 4], out[:, 2, 4] = x[:, 2], -x[:, 0]
    out[:, 0, 5], out[:, 1, 5] = -x[:, 1], x[:, 0]
    return out


def account(
    problem: Problem, u: FloatArray, iterations: int, engine: str, extra: FloatArray | None = None
) -> Solution:
    """The solution with its reactions and balance; ``extra`` (n, 3, c) N are further inner forces."""
    force = problem.internal_forces(u)
    if extra is not None:
        force = force + extra
    rest = force - problem.loads
    held = problem.held[:, :, None]
    size = np.sqrt(np.sum(np.where(held, 0.0, problem.loads) ** 2, axis=(0, 1)))
    # Under prescribed motion alone the reactions are the measure.
    reaction = np.where(held, rest, 0.0)
    size = np.where(size > 0, size, np.sqrt(np.sum(reaction**2, axis=(0, 1))))
    size = np.maximum(size, 1e-300)
    free = np.where(held, 0.0, rest)
    residual = float(np.max(np.sqrt(np.sum(free**2, axis=(0, 1))) / size))
    gap = np.linalg.norm(problem.loads.sum(axis=0) + reaction.sum(axis=0), axis=0)
    whole = np.maximum(np.abs(problem.loads).sum(axis=(0, 1)), np.abs(reaction).sum(axis=(0, 1)))
    imbalance = float(np.max(gap / np.maximum(whole, 1e-300)))
    unknowns = int((~problem.held).sum())
    return Solution(u, reaction, residual, imbalance, iterations, unknowns, engine)


def solve(
    problem: Problem,
    engine: str = "multigrid",
    progress: Progress = silent,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Displacements of all load cases, checked against the elements and for equilibrium.

    Raises :class:`MechanicsError` on an unknown engine, an unheld or unloaded model, an inverted
    element, a modulus that is not positive, or a result that does not satisfy equilibrium.
    """
    if engine not in ENGINES:
        raise MechanicsError(f"There is no solver {engine!r}; there are {sorted(ENGINES)}.")
    checked(problem)
    given = problem.prescribed
    lifted = problem
    if given is not None:
        given = np.where(problem.held[:, :, None], given, 0.0)
        lifted = replace(
            problem, loads=problem.loads - problem.internal_forces(given), prescribed=None
        )
    size = np.sum(np.where(problem.held[:, :, None], 0.0, lifted.loads) ** 2, axis=(0, 1))
    if np.any(size <= 0):
        number = int(np.flatnonzero(size <= 0)[0])
        raise MechanicsError(
            f"Load case {number + 1} has no force on a free node: the model is not loaded."
        )
    u, iterations = ENGINES[engine](lifted, tolerance, progress)
    out = account(problem, u if given is None else u + given, iterations, engine)
    if out.residual > 1e2 * tolerance or out.imbalance > BALANCE_TOLERANCE:
        raise MechanicsError(
            f"The solution does not balance: residual {out.residual:.1e}, reactions off by "
            f"{out.imbalance:.1e} of the load (allowed {1e2 * tolerance:.0e} and "
            f"{BALANCE_TOLERANCE:.0e})."
        )
    return out
