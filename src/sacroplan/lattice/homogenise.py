"""Effective stiffness of a periodic cell by finite elements on its voxels.

Every voxel is one trilinear element; the unknown is the periodic part of the displacement under a
uniform strain. The equations are never assembled: they are solved by conjugate gradients whose
preconditioner is the exact inverse for a solid cell, applied by Fourier transforms, so that the number
of steps does not grow with the grid, pores or not (Schneider 2020, Int J Numer Methods Eng; Ladecky 2023,
Appl Math Comput). Displacement elements bound the stiffness of the voxel body from above.

Stiffness matrices are in Voigt order xx yy zz yz xz xy with engineering shear.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray
from sacroplan.progress import Progress, silent

TOLERANCE = 1e-5
"""Residual over load at which a case is solved: the stiffness is then good to about 1e-6."""

MOST_STEPS = 2000

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def isotropic(young: float, poisson: float) -> FloatArray:
    """(6, 6) stiffness of an isotropic solid."""
    if not (young > 0.0 and -1.0 < poisson < 0.5):
        raise MechanicsError(
            f"A solid of modulus {young:g} and Poisson ratio {poisson:g} was asked; the modulus must be "
            "above 0 and the ratio between -1 and 0.5."
        )
    lame = young * poisson / ((1.0 + poisson) * (1.0 - 2.0 * poisson))
    shear = young / (2.0 * (1.0 + poisson))
    c = np.zeros((6, 6))
    c[:3, :3] = lame
    c[range(6), range(6)] += [2.0 * shear] * 3 + [shear] * 3
    return c


def _strain_matrix(point: FloatArray) -> FloatArray:
    """(6, 24) strain of a unit cube's corner displacements at ``point`` (3,) in 0..1."""
    b = np.zeros((6, 24))
    for corner in range(8):
        bits = ((corner >> 2) & 1, (corner >> 1) & 1, corner & 1)
        weight = [p if bit else 1.0 - p for p, bit in zip(point, bits, strict=True)]
        sign = [1.0 if bit else -1.0 for bit in bits]
        dx = sign[0] * weight[1] * weight[2]
        dy = weight[0] * sign[1] * weight[2]
        dz = weight[0] * weight[1] * sign[2]
        n = 3 * corner
        b[:, n : n + 3] = [
            [dx, 0, 0],
            [0, dy, 0],
            [0, 0, dz],
            [0, dz, dy],
            [dz, 0, dx],
            [dy, dx, 0],
        ]
    return b


def element(c: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Stiffness (8, 8, 3, 3) and nodal forces per unit strain (6, 8, 3) of a unit cube with (6, 6) ``c``."""
    gauss = 0.5 + np.array([-0.5, 0.5]) / 3.0**0.5
    k, f = np.zeros((24, 24)), np.zeros((24, 6))
    for x in gauss:
        for y in gauss:
            for z in gauss:
                b = _strain_matrix(np.array([x, y, z]))
                k += b.T @ c @ b / 8.0
                f += b.T @ c / 8.0
    return np.ascontiguousarray(k.reshape(8, 3, 8, 3).transpose(0, 2, 1, 3)), np.ascontiguousarray(
        f.T.reshape(6, 8, 3)
    )


@dataclass(frozen=True, eq=False)
class Homogenised:
    """What a cell is worth.

    ``stiffness`` (6, 6) per unit of the solid's modulus; columns of cases that were not solved are NaN.
    ``steps`` of the solver per case.
    """

    stiffness: FloatArray
    steps: tuple[int, ...]


@lru_cache(maxsize=2)
def _preconditioner(shape: tuple[int, int, int], poisson: float) -> FloatArray:
    """(ni, nj, nk // 2 + 1, 6) inverse symbol of the solid grid: xx yy zz yz xz xy."""
    from scipy.fft import rfftn

    from sacroplan.lattice import _fe_kernels

    stiffness, _ = element(isotropic(1.0, poisson))
    full = np.ones(shape)
    symbol = np.empty((*shape[:2], shape[2] // 2 + 1, 3, 3))
    for n in range(3):
        impulse = np.zeros((*shape, 3))
        impulse[0, 0, 0, n] = 1.0
        answer = np.empty_like(impulse)
        _fe_kernels.apply(impulse, full, stiffness, answer)
        # Cubes are symmetric about their centre, so the symbol is real.
        symbol[..., n] = rfftn(answer, axes=(0, 1, 2)).real
    symbol[0, 0, 0] = np.eye(3)
    inverse = np.linalg.inv(symbol)
    inverse[0, 0, 0] = 0.0  # the cell does not drift
    return np.ascontiguousarray(np.stack([inverse[..., i, j] for i, j in VOIGT], axis=-1))


def homogenise(
    scale: npt.ArrayLike,
    poisson: float,
    cases: tuple[int, ...] = (0, 1, 2, 3, 4, 5),
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> Homogenised:
    """Effective stiffness of a periodic cell.

    Parameters
    ----------
    scale : (ni, nj, nk) modulus of each voxel over the solid's, 0 to 1.
    poisson : of the solid. cases : unit strains to apply, in Voigt order.

    Raises
    ------
    MechanicsError : no solid at all, or the solver does not converge.
    """
    from scipy.fft import irfftn, rfftn

    from sacroplan.lattice import _fe_kernels
    from sacroplan.parallel import ALL_CORES

    s = np.ascontiguousarray(scale, dtype=np.float64)
    if s.ndim != 3 or min(s.shape) < 2 or not (s >= 0.0).all() or not s.any():
        raise MechanicsError(
            f"A cell of {s.shape} voxels with moduli {s.min():g} to {s.max():g} cannot be homogenised; "
            "give at least 2 voxels an axis, moduli from 0 and some solid."
        )
    shape = (int(s.shape[0]), int(s.shape[1]), int(s.shape[2]))
    c = isotropic(1.0, poisson)
    stiffness, forces = element(c)
    with ALL_CORES:
        inverse = _preconditioner(shape, poisson)
        loads = np.zeros((6, *shape, 3))
        for n in range(6):
            _fe_kernels.load(s, forces[n], loads[n])

        def precondition(r: FloatArray) -> FloatArray:
            spectrum = rfftn(r, axes=(0, 1, 2), workers=-1)
            _fe_kernels.smooth(spectrum, inverse)
            return np.asarray(irfftn(spectrum, shape, axes=(0, 1, 2), workers=-1))

        out = np.full((6, 6), np.nan)
        steps = []
        mean = float(s.mean())
        for done, case in enumerate(cases):
            u, ku, count = _solve(s, stiffness, -loads[case], precondition, tolerance)
            steps.append(count)
            for row in range(6):
                out[row, case] = mean * c[row, case] + float(np.vdot(u, loads[row])) / s.size
            # The energy's error is of second order in the residual, the mean stress's of first.
            out[case, case] += float(np.vdot(u, loads[case] + ku)) / s.size
            progress((done + 1) / len(cases), f"unit strain {case + 1}")
    return Homogenised(out, tuple(steps))


def _solve(
    scale: FloatArray,
    stiffness: FloatArray,
    force: FloatArray,
    precondition: object,
    tolerance: float,
) -> tuple[FloatArray, FloatArray, int]:
    """Displacement, its nodal forces and the number of steps."""
    from sacroplan.lattice import _fe_kernels

    u = np.zeros_like(force)
    ku = np.zeros_like(force)
    size = float(np.linalg.norm(force))
    r = force.copy()
    if size == 0.0 or float(np.abs(force).max()) < 1e-12:
        return u, ku, 0  # a solid cell deforms uniformly
    z = precondition(r)  # type: ignore[operator]
    p = z.copy()
    q = np.empty_like(p)
    rz = float(np.vdot(r, z))
    for step in range(1, MOST_STEPS + 1):
        _fe_kernels.apply(p, scale, stiffness, q)
        alpha = rz / float(np.vdot(p, q))
        u += alpha * p
        ku += alpha * q
        r -= alpha * q
        if float(np.linalg.norm(r)) <= tolerance * size:
            return u, ku, step
        z = precondition(r)  # type: ignore[operator]
        fresh = float(np.vdot(r, z))
        p *= fresh / rz
        p += z
        rz = fresh
    raise MechanicsError(
        f"The cell's equations did not converge in {MOST_STEPS} steps (residual "
        f"{float(np.linalg.norm(r)) / size:.1e}, {tolerance:g} expected); is its solid in one piece?"
    )


def voxels(name: str, density: float, n: int) -> FloatArray:
    """(n, n, n) voxels of cell ``name``: 1 in the solid, with exactly the wanted share of them."""
    from sacroplan.lattice.cells import level_of, samples

    level_of(name, density)
    field = samples(name, n)
    solid = np.zeros(field.size)
    # Equal values, which symmetry brings, keep the order of the grid.
    solid[np.argsort(field.ravel(), kind="stable")[: round(density * field.size)]] = 1.0
    return solid.reshape(field.shape)


def cubic(name: str, density: float, poisson: float, n: int) -> tuple[float, float, float]:
    """c11, c12, c44 of cell ``name`` per unit of the solid's modulus, from two load cases on n^3 voxels."""
    found = homogenise(voxels(name, density, n), poisson, (0, 3)).stiffness
    return float(found[0, 0]), 0.5 * float(found[1, 0] + found[2, 0]), float(found[3, 3])
