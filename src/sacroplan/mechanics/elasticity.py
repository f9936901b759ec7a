"""Stiffness tensors of one material: isotropic from two moduli, or a full symmetric 6 by 6.

Voigt order xx, yy, zz, yz, xz, xy with engineering shear strains, as homogenisation and most books
write it. The solver's own strains are tensor components in the order xx, yy, zz, xy, yz, zx.
"""

from __future__ import annotations

import numpy as np

from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray

VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""(3, 3) Voigt position of a pair of axes."""

_SOLVER_TO_VOIGT = np.array([0, 1, 2, 4, 5, 3])
"""Where the Voigt components stand in the solver's order."""

SYMMETRY_TOLERANCE = 1e-6
"""Allowed asymmetry of a given tensor over its largest entry; homogenisation stays far below."""


def isotropic(young_mpa: float, poisson: float) -> FloatArray:
    """(6, 6) stiffness, MPa, of an isotropic material."""
    lame = young_mpa * poisson / ((1.0 + poisson) * (1.0 - 2.0 * poisson))
    shear = young_mpa / (2.0 * (1.0 + poisson))
    out = np.zeros((6, 6))
    out[:3, :3] = lame
    out[np.arange(6), np.arange(6)] += np.array([2.0, 2.0, 2.0, 1.0, 1.0, 1.0]) * shear
    return out


def checked(stiffness_mpa: FloatArray, name: str) -> FloatArray:
    """The symmetric part of a (6, 6) stiffness of the material ``name``.

    Raises :class:`MechanicsError` when it is not 6 by 6, not symmetric or not positive definite.
    """
    c = np.asarray(stiffness_mpa, dtype=np.float64)
    if c.shape != (6, 6) or not np.all(np.isfinite(c)):
        raise MechanicsError(
            f"The stiffness of {name} has shape {c.shape}; 6 by 6 finite numbers in MPa are needed."
        )
    largest = float(np.abs(c).max())
    if np.abs(c - c.T).max() > SYMMETRY_TOLERANCE * largest:
        raise MechanicsError(
            f"The stiffness of {name} is not symmetric; check its Voigt order (xx yy zz yz xz xy)."
        )
    c = 0.5 * (c + c.T)
    least = float(np.linalg.eigvalsh(c)[0])
    if least <= 1e-9 * largest:
        raise MechanicsError(
            f"The stiffness of {name} is not positive definite (least eigenvalue {least:.3g} MPa): "
            "no elastic material has it."
        )
    return c


def fourth_order(stiffness_mpa: FloatArray) -> FloatArray:
    """(..., 3, 3, 3, 3) components of (..., 6, 6) stiffnesses."""
    c = np.asarray(stiffness_mpa)
    return np.ascontiguousarray(c[..., VOIGT[:, :, None, None], VOIGT[None, None]])


def rotated(stiffness_mpa: FloatArray, turn: FloatArray) -> FloatArray:
    """(6, 6) stiffness in new axes; the columns of ``turn`` (3, 3) are the old axes in the new frame."""
    c = np.einsum(
        "ai,bj,ck,dl,ijkl->abcd", turn, turn, turn, turn, fourth_order(stiffness_mpa), optimize=True
    )
    first = np.array([[0, 0], [1, 1], [2, 2], [1, 2], [0, 2], [0, 1]])
    a, b = first.T
    return np.asarray(c[a[:, None], b[:, None], a[None], b[None]])


def voigt_strain(strain: FloatArray) -> FloatArray:
    """(..., 6) Voigt strains, engineering shear, of the solver's tensor strains (..., 6)."""
    out = strain[..., _SOLVER_TO_VOIGT].copy()
    out[..., 3:] *= 2.0
    return np.asarray(out)


def solver_stress(voigt: FloatArray) -> FloatArray:
    """(..., 6) stresses in the solver's order of Voigt stresses (..., 6)."""
    out = np.empty_like(voigt)
    out[..., _SOLVER_TO_VOIGT] = voigt
    return out


def mean_isotropic(stiffness_mpa: FloatArray) -> tuple[float, float]:
    """(Young's modulus MPa, Poisson ratio) of the Voigt-Reuss-Hill mean of a (6, 6) stiffness."""
    c = np.asarray(stiffness_mpa)
    s = np.asarray(np.linalg.inv(c), dtype=np.float64)

    def sums(x: FloatArray) -> tuple[float, float, float]:
        return float(np.trace(x[:3, :3])), x[0, 1] + x[1, 2] + x[0, 2], float(np.trace(x[3:, 3:]))

    a, b, d = sums(c)
    bulk, shear = (a + 2.0 * b) / 9.0, (a - b + 3.0 * d) / 15.0
    a, b, d = sums(s)
    bulk = 0.5 * (bulk + 1.0 / (a + 2.0 * b))
    shear = 0.5 * (shear + 15.0 / (4.0 * (a - b) + 3.0 * d))
    young = 9.0 * bulk * shear / (3.0 * bulk + shear)
    return float(young), float((3.0 * bulk - 2.0 * shear) / (2.0 * (3.0 * bulk + shear)))
