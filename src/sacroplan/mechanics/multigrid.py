"""The fast engine: our own assembly and preconditioned conjugate gradients.

The preconditioner is one symmetric Gauss-Seidel cycle on the quadratic elements around an exact
solve on the linear ones. One set-up serves any number of load cases; they advance in pairs. The
loops are serial and the result is byte-identical from run to run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.mechanics.memory import require_memory
from sacroplan.mechanics.mesh import EDGES, GAUSS
from sacroplan.mechanics.problem import Problem
from sacroplan.progress import Progress, part, silent

MAX_ITERATIONS = 600
"""Well-shaped models need 20 to 60; a model that needs more than this is ill-posed."""

Apply = Callable[[FloatArray], FloatArray]


def _coarse_solver(matrix: Any) -> Apply:
    """Exact solve with a sparse matrix (3n, 3n) for pairs of load cases (n, 6)."""
    import ngsolve

    n = matrix.shape[0] // 3
    matrix = matrix.tocoo()
    ng = ngsolve.la.SparseMatrixd.CreateFromCOO(matrix.row, matrix.col, matrix.data, 3 * n, 3 * n)
    # One thread: its sums, and with them our bytes, do not depend on scheduling.
    ngsolve.SetNumThreads(1)
    inverse = ng.Inverse(inverse="sparsecholesky")
    right, left = ng.CreateColVector(), ng.CreateColVector()

    def solve(b: FloatArray) -> FloatArray:
        out = np.zeros_like(b)
        for c in (slice(0, 3), slice(3, 6)):
            if not b[:, c].any():
                continue
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


def _mates(pairs: IntArray, n: int) -> npt.NDArray[np.int32]:
    """(n, k) unknowns that springs ``pairs`` (p, 2) tie to each unknown, -1 where there are none."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[(both >= 0).all(axis=1)]
    if not len(both):
        return np.full((n, 0), -1, dtype=np.int32)
    both = np.unique(both, axis=0)
    first = np.searchsorted(both[:, 0], both[:, 0])
    place = np.arange(len(both)) - first
    out = np.full((n, int(place.max()) + 1), -1, dtype=np.int32)
    out[both[:, 0], place] = both[:, 1]
    return out


class Multigrid:
    """Matrix and preconditioner of one model.

    Parameters
    ----------
    problem : the model; its loads are not used.
    contact : (p, 2) node pairs whose springs :meth:`set_contact` may change later.
    """

    def __init__(
        self, problem: Problem, contact: IntArray | None = None, progress: Progress = silent
    ) -> None:
        from scipy.sparse import bsr_matrix, coo_matrix

        from sacroplan.mechanics import _fem_kernels as k

        mesh = problem.mesh
        held = problem.held
        fixed = np.asarray(held.all(axis=1))
        lame, shear = problem.lame
        kind, tensors = problem.tensor_of, problem.tensors
        number, n = _numbering(fixed)
        self._free = ~fixed
        self._held = np.ascontiguousarray(held[self._free])
        self._partly = bool(self._held.any())
        pairs = np.zeros((0, 2), dtype=np.int32) if contact is None else contact
        self._first, self._second = (np.ascontiguousarray(number[pairs[:, c]]) for c in (0, 1))
        self.rows, self.columns = k.node_graph(mesh.elements, number, n, _mates(number[pairs], n))
        require_memory(len(self.columns), n, mesh.corners)
        self.blocks = k.assemble(
            mesh.nodes, mesh.elements, lame, shear, kind, tensors, number, self.rows, self.columns,
            GAUSS, EDGES,
        )  # fmt: skip
        if self._partly:
            k.hold(self.rows, self.columns, self.blocks, self._held)
        progress(0.5, "stiffness assembled")

        corner = np.ascontiguousarray(mesh.elements[:, :4])
        held1 = held[: mesh.corners]
        number1, n1 = _numbering(np.asarray(held1.all(axis=1)))
        self._held1 = np.ascontiguousarray(held1[~held1.all(axis=1)])
        nobody = np.full((n1, 0), -1, dtype=np.int32)
        rows1, columns1 = k.node_graph(corner, number1, n1, nobody)
        blocks1 = k.assemble(
            mesh.nodes, corner, lame, shear, kind, tensors, number1, rows1, columns1, GAUSS, EDGES
        )
        if self._held1.any():
            k.hold(rows1, columns1, blocks1, self._held1)
        self._coarse_matrix = bsr_matrix((blocks1, columns1, rows1), shape=(3 * n1, 3 * n1)).tocsr()

        # Free quadratic nodes from free corners: a corner is itself, a middle the mean of its ends.
        ends2 = np.zeros((len(mesh.nodes), 2), dtype=np.int64)
        ends2[: mesh.corners] = np.arange(mesh.corners)[:, None]
        ends2[mesh.elements[:, 4:].ravel()] = mesh.elements[:, EDGES].reshape(-1, 2)
        i = np.repeat(number, 2)
        j = number1[ends2.ravel()]
        ok = (i >= 0) & (j >= 0)
        self._prolong = coo_matrix(
            (np.full(int(ok.sum()), 0.5), (i[ok], j[ok])), shape=(n, n1)
        ).tocsr()
        self._restrict = self._prolong.T.tocsr()
        # The preconditioner may be coarse: single precision halves its memory traffic.
        self.single = self.blocks.astype(np.float32)
        self._contact = np.zeros((len(pairs), 3, 3))
        self._touched = np.unique(np.concatenate([self._first, self._second]))
        self._touched = self._touched[self._touched >= 0]
        self._diagonal_blocks = k.diagonal_blocks(self.rows, self.columns, self.blocks)
        self.diagonal = np.zeros((0, 3, 3))
        self._coarse: Apply | None = None
        self.n = n
        if contact is None:
            self._factorise()
        progress(1.0, "preconditioner ready")

    def _on_corners(self, first: IntArray, second: IntArray, springs: FloatArray) -> Any:
        """Springs between unknowns as a sparse matrix of the linear elements."""
        from scipy.sparse import coo_matrix, diags, eye, kron

        # Only the unknowns that springs hold: the transfer of all nodes would be a large product.
        ends = np.concatenate([first, second])
        used = np.unique(ends[ends >= 0])
        place = np.full(self._prolong.shape[0], -1, dtype=np.int64)
        place[used] = np.arange(len(used))
        a, b = (np.where(x >= 0, place[x], -1) for x in (first, second))
        i = np.concatenate([a, b, a, b])
        j = np.concatenate([a, b, b, a])
        values = np.concatenate([springs, springs, -springs, -springs])
        ok = (i >= 0) & (j >= 0)
        i, j, values = i[ok], j[ok], values[ok]
        r, s = np.meshgrid(np.arange(3), np.arange(3), indexing="ij")
        where = ((3 * i[:, None, None] + r).ravel(), (3 * j[:, None, None] + s).ravel())
        size = (3 * len(used), 3 * len(used))
        fine = coo_matrix((values.ravel(), where), shape=size).tocsr()
        p = kron(self._prolong[used], eye(3), format="csr")
        if self._partly:
            p = diags((~self._held[used]).ravel().astype(float)) @ p
        if self._held1.any():
            p = p @ diags((~self._held1).ravel().astype(float))
        return p.T @ fine @ p

    def _factorise(self) -> None:
        matrix = self._coarse_matrix
        if len(self._contact):
            matrix = matrix + self._on_corners(self._first, self._second, self._contact)
        if not len(self.diagonal):
            self.diagonal = np.linalg.inv(self._diagonal_blocks)
        self._coarse = _coarse_solver(matrix)

    def set_contact(self, springs: FloatArray, refactorise: bool) -> None:
        """Springs (p, 3, 3) N/mm of the contact pairs, replacing the last ones."""
        from sacroplan.mechanics import _fem_kernels as k

        change = springs - self._contact
        where = (self.rows, self.columns, self.blocks, self._first, self._second)
        k.add_pairs(*where, change, self._held, 1.0)
        where = (self.rows, self.columns, self.single, self._first, self._second)
        k.add_pairs(*where, change, self._held, 1.0)
        self._contact = springs.copy()
        diagonal = k.diagonal_blocks(self.rows, self.columns, self.blocks)
        if len(self.diagonal):
            self.diagonal[self._touched] = np.linalg.inv(diagonal[self._touched])
        self._diagonal_blocks = diagonal
        if refactorise or self._coarse is None:
            self._factorise()

    def precondition(self, r: FloatArray) -> FloatArray:
        """One cycle on residuals (n, 6) of two load cases."""
        from sacroplan.mechanics import _fem_kernels as k

        assert self._coarse is not None
        z, work = np.zeros_like(r), np.empty_like(r)
        k.first_sweep(self.rows, self.columns, self.single, self.diagonal, r, z)
        k.upper_rest(self.rows, self.columns, self.single, z, work)
        down = self._restrict @ work
        if self._held1.any():
            down[np.tile(self._held1, 2)] = 0.0
        up = self._prolong @ self._coarse(down)
        if self._partly:
            up[np.tile(self._held, 2)] = 0.0
        z += up
        k.backward_sweep(self.rows, self.columns, self.single, self.diagonal, r, z)
        return z

    def multiply(self, x: FloatArray) -> FloatArray:
        """Stiffness times displacements (n, 6) of two load cases."""
        from sacroplan.mechanics import _fem_kernels as k

        y = np.empty_like(x)
        k.multiply(self.rows, self.columns, self.blocks, x, y)
        return y

    def solve(
        self, loads: FloatArray, tolerance: float, progress: Progress = silent
    ) -> tuple[FloatArray, int]:
        """((n, 3, c) displacements, iterations) of loads (n, 3, c) on all nodes of the mesh."""
        cases = loads.shape[2]
        u = np.zeros(loads.shape)
        most = 0
        for first in range(0, cases, 2):
            pair = loads[self._free, :, first : first + 2]
            b = np.zeros((self.n, 2, 3))
            b[:, : pair.shape[2]] = np.swapaxes(pair, 1, 2)
            b[np.repeat(self._held[:, None], 2, axis=1)] = 0.0
            share = part(progress, first / cases, min(1.0, (first + 2) / cases))
            x, iterations = conjugate_gradients(
                self.multiply, self.precondition, b.reshape(self.n, 6), tolerance, share
            )
            most = max(most, iterations)
            u[self._free, :, first : first + 2] = np.swapaxes(x.reshape(self.n, 2, 3), 1, 2)[
                :, :, : pair.shape[2]
            ]
        return u, most


def conjugate_gradients(
    multiply: Apply, precondition: Apply, b: FloatArray, tolerance: float, progress: Progress
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
        if worst < tolerance:
            return x, iteration
        progress(
            float(np.clip(np.log(worst) / np.log(tolerance), 0.0, 1.0)), f"iteration {iteration}"
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


def multigrid(
    problem: Problem, tolerance: float, progress: Progress = silent
) -> tuple[FloatArray, int]:
    """Displacements (n, 3, c) of all load cases of ``problem`` and the iterations they took."""
    ready = Multigrid(problem, progress=part(progress, 0.0, 0.4))
    return ready.solve(problem.loads, tolerance, part(progress, 0.4, 1.0))
