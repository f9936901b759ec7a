"""Linear elastic solvers for the ten-node mesh.

Two independent engines take the same :class:`Problem`. ``"multigrid"`` (default) is our own assembly
and a conjugate gradient method whose preconditioner is one symmetric Gauss-Seidel cycle on the
quadratic elements around an exact solve on the linear ones; all load cases advance together, the
loops are serial and the result is byte-identical from run to run. ``"ngsolve"`` assembles and
factorises the problem in NGSolve; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray
from sacroplan.mechanics.mesh import EDGES, GAUSS, TetMesh
from sacroplan.progress import Progress, part, silent

TOLERANCE = 1e-7
"""Residual over load, in the Euclidean norm; displacements then agree with CalculiX to 1e-5."""

MAX_ITERATIONS = 600
"""Well-shaped models need 20 to 60; a model that needs more than this is ill-posed."""

BALANCE_TOLERANCE = 1e-6
"""Largest allowed sum of loads and reactions, as a share of the load."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A linear elastic model.

    Attributes
    ----------
    mesh : ten-node mesh.
    young_mpa, poisson : (m,) element-wise isotropic moduli.
    fixed : (n,) nodes held in all directions.
    loads : (n, 3, c) nodal forces of ``c`` load cases, N.
    """

    mesh: TetMesh
    young_mpa: FloatArray
    poisson: FloatArray
    fixed: npt.NDArray[np.bool_]
    loads: FloatArray

    @property
    def lame(self) -> tuple[FloatArray, FloatArray]:
        """(first Lame parameter, shear modulus), each (m,), MPa."""
        e, nu = self.young_mpa, self.poisson
        return e * nu / ((1.0 + nu) * (1.0 - 2.0 * nu)), e / (2.0 * (1.0 + nu))


@dataclass(frozen=True, eq=False)
class Solution:
    """Displacements and the account of how they were found.

    Attributes
    ----------
    displacement : (n, 3, c) mm.
    reaction : (n, 3, c) N, zero on free nodes.
    residual : largest unbalanced force on free nodes over the load (norms), recomputed from the
        elements rather than from the solver's matrix.
    imbalance : |sum of loads and reactions| / |load|, the worst case.
    """

    displacement: FloatArray
    reaction: FloatArray
    residual: float
    imbalance: float
    iterations: int
    unknowns: int
    engine: str


Engine = Callable[[Problem, Progress], tuple[FloatArray, int]]


def _coarse_solver(
    rows: Any, columns: Any, blocks: FloatArray, n: int
) -> Callable[[FloatArray], FloatArray]:
    """Exact solve with the linear-element matrix for pairs of load cases (n, 6)."""
    import ngsolve
    from scipy.sparse import bsr_matrix

    matrix = bsr_matrix((blocks, columns, rows), shape=(3 * n, 3 * n)).tocoo()
    ng = ngsolve.la.SparseMatrixd.CreateFromCOO(matrix.row, matrix.col, matrix.data, 3 * n, 3 * n)
    # One thread: its sums, and with them our bytes, do not depend on scheduling.
    ngsolve.SetNumThreads(1)
    inverse = ng.Inverse(inverse="sparsecholesky")
    right, left = ng.CreateColVector(), ng.CreateColVector()

    def solve(b: FloatArray) -> FloatArray:
        out = np.empty_like(b)
        for c in (slice(0, 3), slice(3, 6)):
            right.FV().NumPy()[:] = b[:, c].ravel()
            left.data = inverse * right
            out[:, c] = left.FV().NumPy().reshape(n, 3)
        return out

    return solve


def _numbering(fixed: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], int]:
    number = np.full(len(fixed), -1, dtype=np.int32)
    free = ~fixed
    number[free] = np.arange(int(free.sum()), dtype=np.int32)
    return number, int(free.sum())


def _multigrid(problem: Problem, progress: Progress) -> tuple[FloatArray, int]:
    from scipy.sparse import coo_matrix

    from sacroplan.mechanics import _fem_kernels as k

    mesh = problem.mesh
    lame, shear = problem.lame
    number, n = _numbering(problem.fixed)
    rows, columns = k.node_graph(mesh.elements, number, n)
    blocks = k.assemble(mesh.nodes, mesh.elements, lame, shear, number, rows, columns, GAUSS, EDGES)
    # The preconditioner may be coarse: single precision halves its memory traffic.
    single = blocks.astype(np.float32)
    diagonal = np.linalg.inv(k.diagonal_blocks(rows, columns, blocks))
    progress(0.2, "stiffness assembled")

    corner = np.ascontiguousarray(mesh.elements[:, :4])
    number1, n1 = _numbering(problem.fixed[: mesh.corners])
    rows1, columns1 = k.node_graph(corner, number1, n1)
    blocks1 = k.assemble(mesh.nodes, corner, lame, shear, number1, rows1, columns1, GAUSS, EDGES)
    coarse = _coarse_solver(rows1, columns1, blocks1, n1)
    del blocks1

    # Free quadratic nodes from free corners: a corner is itself, a middle the mean of its ends.
    ends = np.zeros((len(mesh.nodes), 2), dtype=np.int64)
    ends[: mesh.corners] = np.arange(mesh.corners)[:, None]
    ends[mesh.elements[:, 4:].ravel()] = mesh.elements[:, EDGES].reshape(-1, 2)
    i = np.repeat(number, 2)
    j = number1[ends.ravel()]
    ok = (i >= 0) & (j >= 0)
    prolong = coo_matrix((np.full(int(ok.sum()), 0.5), (i[ok], j[ok])), shape=(n, n1)).tocsr()
    restrict = prolong.T.tocsr()
    progress(0.4, "preconditioner ready")

    cases = problem.loads.shape[2]
    u = np.zeros((len(mesh.nodes), 3, cases))
    most = 0
    for first in range(0, cases, 2):
        pair = problem.loads[~problem.fixed, :, first : first + 2]
        b = np.zeros((n, 2, 3))
        b[:, : pair.shape[2]] = np.swapaxes(pair, 1, 2)

        def precondition(r: FloatArray) -> FloatArray:
            z, work = np.zeros_like(r), np.empty_like(r)
            k.first_sweep(rows, columns, single, diagonal, r, z)
            k.upper_rest(rows, columns, single, z, work)
            z += prolong @ coarse(restrict @ work)
            k.backward_sweep(rows, columns, single, diagonal, r, z)
            return z

        def multiply(x: FloatArray) -> FloatArray:
            y = np.empty_like(x)
            k.multiply(rows, columns, blocks, x, y)
            return y

        x, iterations = _conjugate_gradients(
            multiply, precondition, b.reshape(n, 6), part(progress, 0.4, 1.0)
        )
        most = max(most, iterations)
        u[~problem.fixed, :, first : first + 2] = np.swapaxes(x.reshape(n, 2, 3), 1, 2)[
            :, :, : pair.shape[2]
        ]
    return u, most


Apply = Callable[[FloatArray], FloatArray]


def _conjugate_gradients(
    multiply: Apply, precondition: Apply, b: FloatArray, progress: Progress
) -> tuple[FloatArray, int]:
    """Two load cases (n, 6) at once, each with its own step lengths."""

    def dot(x: FloatArray, y: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("ncr,ncr->c", x.reshape(-1, 2, 3), y.reshape(-1, 2, 3)))

    def ratio(a: FloatArray, c: FloatArray) -> FloatArray:
        return np.repeat(np.divide(a, c, out=np.zeros(2), where=c > 0), 3)

    scale = np.sqrt(dot(b, b))
    x = np.zeros_like(b)
    r = b.copy()
    z = precondition(r)
    p = z.copy()
    rz = dot(r, z)
    worst = 1.0
    for iteration in range(1, MAX_ITERATIONS + 1):
        kp = multiply(p)
        curvature = dot(p, kp)
        if np.any(curvature < 0):
            raise MechanicsError(
                "The stiffness matrix is not positive definite: an element is inverted or a "
                "modulus is not positive."
            )
        step = ratio(rz, curvature)
        x += step * p
        r -= step * kp
        worst = float(np.max(np.sqrt(dot(r, r)) / np.maximum(scale, 1e-300)))
        if not np.isfinite(worst):
            raise MechanicsError("The solver broke down: a displacement is not a finite number.")
        if worst < TOLERANCE:
            return x, iteration
        progress(
            float(np.clip(np.log(worst) / np.log(TOLERANCE), 0.0, 1.0)), f"iteration {iteration}"
        )
        z = precondition(r)
        new = dot(r, z)
        p *= ratio(new, rz)
        p += z
        rz = new
    raise MechanicsError(
        f"The solver stopped after {MAX_ITERATIONS} iterations at a residual of {worst:.1e} of "
        "the load; a part is hardly held or its elements are nearly flat."
    )


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


def _ngsolve(problem: Problem, progress: Progress) -> tuple[FloatArray, int]:
    import ngsolve as ng

    mesh = problem.mesh
    m = ngsolve_mesh(mesh)
    space = ng.H1(m, order=2, dim=3)
    flat = ng.L2(m, order=0)
    la, mu = ng.GridFunction(flat), ng.GridFunction(flat)
    la.vec.FV().NumPy()[:], mu.vec.FV().NumPy()[:] = problem.lame
    u, v = space.TnT()
    strain = 0.5 * (ng.Grad(u) + ng.Grad(u).trans)
    test = 0.5 * (ng.Grad(v) + ng.Grad(v).trans)
    form = ng.BilinearForm(space, symmetric=False)
    form += (
        2.0 * mu * ng.InnerProduct(strain, test) + la * ng.Trace(strain) * ng.Trace(test)
    ) * ng.dx(bonus_intorder=0)
    form.Assemble()
    progress(0.4, "stiffness assembled")
    # NGSolve's second-order functions are hierarchical: corners, then one bubble per edge.
    ends = np.sort(np.array([[p.nr for p in e.vertices] for e in m.edges], dtype=np.int64), axis=1)
    own = np.sort(mesh.elements[:, EDGES].reshape(-1, 2), axis=1).astype(np.int64)
    middle = np.empty(len(ends), dtype=np.int64)
    key = ends @ np.array([mesh.corners, 1])
    order = np.argsort(key)
    found = order[np.searchsorted(key[order], own @ np.array([mesh.corners, 1]))]
    middle[found] = mesh.elements[:, 4:].ravel()
    bubble = _bubble_value(ng, space, m, mesh.corners)
    free = ng.BitArray(space.ndof)
    free.Clear()
    nodal = np.concatenate([np.arange(mesh.corners), middle])
    for d in np.flatnonzero(~problem.fixed[nodal]):
        free.Set(int(d))
    inverse = form.mat.Inverse(freedofs=free, inverse="sparsecholesky")
    out = np.zeros((len(mesh.nodes), 3, problem.loads.shape[2]))
    for c in range(problem.loads.shape[2]):
        f = problem.loads[:, :, c]
        right = form.mat.CreateColVector()
        b = right.FV().NumPy().reshape(-1, 3)
        b[:] = 0.0
        b[: mesh.corners] = f[: mesh.corners]
        for side in (0, 1):
            np.add.at(b, ends[:, side], 0.5 * f[middle])
        b[mesh.corners :] = bubble * f[middle]
        x = form.mat.CreateColVector()
        x.data = inverse * right
        values = x.FV().NumPy().reshape(-1, 3)
        out[: mesh.corners, :, c] = values[: mesh.corners]
        out[middle, :, c] = (
            0.5 * (values[ends[:, 0]] + values[ends[:, 1]]) + bubble * values[mesh.corners :]
        )
    progress(1.0, "solved")
    return out, 1


def _bubble_value(ng: Any, space: Any, m: Any, corners: int) -> float:
    """Height of NGSolve's edge function in the middle of its edge (its sign is its own affair)."""
    probe = ng.GridFunction(space)
    edge = next(iter(m.edges))
    a, b = (np.array(m[p].point) for p in edge.vertices)
    probe.vec.FV().NumPy().reshape(-1, 3)[corners + edge.nr] = (1.0, 0.0, 0.0)
    return float(probe(m(*(0.5 * (a + b))))[0])


ENGINES: dict[str, Engine] = {"multigrid": _multigrid, "ngsolve": _ngsolve}
"""Solver engines by name."""


def solve(problem: Problem, engine: str = "multigrid", progress: Progress = silent) -> Solution:
    """Displacements of all load cases, checked against the elements and for equilibrium.

    Raises :class:`MechanicsError` on an unknown engine, an unheld or unloaded model, a modulus that
    is not positive, or a result that does not satisfy equilibrium.
    """
    from sacroplan.mechanics import _fem_kernels as k

    mesh = problem.mesh
    if engine not in ENGINES:
        raise MechanicsError(f"There is no solver {engine!r}; there are {sorted(ENGINES)}.")
    if np.any(~(problem.young_mpa > 0)) or np.any(
        ~((problem.poisson > -1) & (problem.poisson < 0.5))
    ):
        raise MechanicsError(
            "Every element needs a positive modulus and a Poisson ratio below 0.5."
        )
    held = mesh.nodes[problem.fixed]
    if len(held) < 3 or np.linalg.matrix_rank(held - held.mean(axis=0), tol=1e-3) < 2:
        raise MechanicsError("The model is not held: fewer than three non-collinear fixed nodes.")
    free = ~problem.fixed
    size = np.sqrt(np.einsum("nrc,nrc->c", problem.loads[free], problem.loads[free]))
    if np.any(size <= 0):
        raise MechanicsError("A load case has no force on a free node.")
    u, iterations = ENGINES[engine](problem, progress)
    lame, shear = problem.lame
    force = k.internal_forces(mesh.nodes, mesh.elements, lame, shear, u, GAUSS, EDGES)
    rest = force - problem.loads
    residual = float(np.max(np.sqrt(np.einsum("nrc,nrc->c", rest[free], rest[free])) / size))
    reaction = np.where(problem.fixed[:, None, None], rest, 0.0)
    total = problem.loads.sum(axis=0)
    gap = np.linalg.norm(total + reaction.sum(axis=0), axis=0)
    imbalance = float(np.max(gap / np.maximum(np.abs(problem.loads).sum(axis=(0, 1)), 1e-300)))
    if residual > 1e2 * TOLERANCE or imbalance > BALANCE_TOLERANCE:
        raise MechanicsError(
            f"The solution does not balance: residual {residual:.1e}, reactions off by "
            f"{imbalance:.1e} of the load (allowed {1e2 * TOLERANCE:.0e} and "
            f"{BALANCE_TOLERANCE:.0e})."
        )
    return Solution(u, reaction, residual, imbalance, iterations, 3 * int(free.sum()), engine)
