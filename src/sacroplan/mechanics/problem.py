"""A linear elastic model and its solution: what every engine takes and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.mechanics.elasticity import fourth_order, solver_stress, voigt_strain
from sacroplan.mechanics.mesh import EDGES, GAUSS, TetMesh


def no_tensors() -> FloatArray:
    """An empty list of (6, 6) stiffnesses."""
    return np.zeros((0, 6, 6))


@dataclass(frozen=True, eq=False)
class Problem:
    """A linear elastic model.

    Attributes
    ----------
    mesh : ten-node mesh.
    young_mpa : (m,) isotropic moduli per element, or (m, 4) at its integration points. For elements
        with a tensor this is its isotropic mean, for information.
    poisson : (m,) Poisson ratios.
    fixed : (n,) nodes held in all directions, or (n, 3) held components.
    loads : (n, 3, c) nodal forces of ``c`` load cases, N.
    tensors_mpa : (k, 6, 6) stiffnesses in the mesh's axes, Voigt order xx yy zz yz xz xy with
        engineering shear.
    tensor : (m,) which of them an element takes, -1 for an isotropic one; None when all are.
    prescribed : (n, 3, c) mm at held components, or None where they stand still.
    """

    mesh: TetMesh
    young_mpa: FloatArray
    poisson: FloatArray
    fixed: npt.NDArray[np.bool_]
    loads: FloatArray
    tensors_mpa: FloatArray = field(default_factory=no_tensors)
    tensor: IntArray | None = None
    prescribed: FloatArray | None = None

    @property
    def lame(self) -> tuple[FloatArray, FloatArray]:
        """(first Lame parameter, shear modulus), each (m, 1) or (m, 4), MPa."""
        e = self.young_mpa if self.young_mpa.ndim == 2 else self.young_mpa[:, None]
        nu = self.poisson[:, None]
        return e * nu / ((1.0 + nu) * (1.0 - 2.0 * nu)), e / (2.0 * (1.0 + nu))

    @cached_property
    def held(self) -> npt.NDArray[np.bool_]:
        """(n, 3) held components."""
        if self.fixed.ndim == 2:
            return self.fixed
        return np.repeat(self.fixed[:, None], 3, axis=1)

    @cached_property
    def tensor_of(self) -> IntArray:
        """(m,) index into ``tensors_mpa``, -1 where isotropic."""
        if self.tensor is None:
            return np.full(len(self.mesh.elements), -1, dtype=np.int32)
        return self.tensor.astype(np.int32)

    @cached_property
    def tensors(self) -> FloatArray:
        """(max(k, 1), 3, 3, 3, 3) stiffness components for the compiled loops."""
        return (
            fourth_order(self.tensors_mpa) if len(self.tensors_mpa) else np.zeros((1, 3, 3, 3, 3))
        )

    def internal_forces(self, displacement: FloatArray) -> FloatArray:
        """(n, 3, c) N that hold displacements (n, 3, c), straight from the elements."""
        from sacroplan.mechanics import _fem_kernels as k

        lame, shear = self.lame
        u = np.ascontiguousarray(displacement)
        return np.asarray(
            k.internal_forces(
                self.mesh.nodes, self.mesh.elements, lame, shear, self.tensor_of, self.tensors,
                u, GAUSS, EDGES,
            )
        )  # fmt: skip

    def stress(self, strain: FloatArray, elements: IntArray | None = None) -> FloatArray:
        """(m, q, 6) stresses, MPa, of tensor strains (m, q, 6) in the solver's order.

        ``elements`` (m,) says whose strains they are; all elements in order when None. With moduli
        at integration points, q must be theirs or the element's mean modulus is taken.
        """
        lame, shear = self.lame
        if lame.shape[1] > 1 and lame.shape[1] != strain.shape[1]:
            lame, shear = lame.mean(axis=1, keepdims=True), shear.mean(axis=1, keepdims=True)
        which = self.tensor_of
        if elements is not None:
            lame, shear, which = lame[elements], shear[elements], which[elements]
        out = 2.0 * shear[:, :, None] * strain
        out[:, :, :3] += lame[:, :, None] * strain[:, :, :3].sum(axis=2, keepdims=True)
        for number in np.unique(which[which >= 0]):
            at = which == number
            out[at] = solver_stress(voigt_strain(strain[at]) @ self.tensors_mpa[number])
        return np.asarray(out)


@dataclass(frozen=True, eq=False)
class Solution:
    """Displacements and the account of how they were found.

    Attributes
    ----------
    displacement : (n, 3, c) mm.
    reaction : (n, 3, c) N, zero on free components.
    residual : largest unbalanced force on free components over the load (norms), recomputed from
        the elements rather than from the solver's matrix.
    imbalance : |sum of loads and reactions| / |load|, the worst case.
    """

    displacement: FloatArray
    reaction: FloatArray
    residual: float
    imbalance: float
    iterations: int
    unknowns: int
    engine: str
