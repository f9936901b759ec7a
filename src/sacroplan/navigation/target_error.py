"""How far the theatre's coordinates may be off at a target: the number that counts.

Predicted from where fiducials lie and how well they are found, before surgery and for every target;
the residual of one registration cannot tell it [SP-NAV-04].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray
from sacroplan.navigation.registration import Registration


def expected_fre_mm(count: int, fle_mm: float) -> float:
    """Root mean square FRE that ``count`` fiducials of localisation error ``fle_mm`` (rms) show."""
    if count < 3:
        raise PlanError(f"{count} fiducials are given; three or more are needed.")
    return float(fle_mm * np.sqrt(1.0 - 2.0 / count))


def predicted_tre_mm(fiducials: npt.ArrayLike, fle_mm: float, targets: npt.ArrayLike) -> FloatArray:
    """Root mean square target error (m,) at ``targets`` (m, 3) for ``fiducials`` (n, 3) [SP-NAV-05].

    ``fle_mm`` : root mean square localisation error of a fiducial (all three axes together).
    """
    x = np.asarray(fiducials, dtype=np.float64).reshape(-1, 3)
    r = np.asarray(targets, dtype=np.float64).reshape(-1, 3)
    if len(x) < 3:
        raise PlanError(f"{len(x)} fiducials are given; three or more are needed.")
    centre = x.mean(axis=0)
    _, _, axes = np.linalg.svd(x - centre)
    local, aim = (x - centre) @ axes.T, (r - centre) @ axes.T
    total = np.zeros(len(r))
    for k in range(3):
        rest = [j for j in range(3) if j != k]
        f2 = float((local[:, rest] ** 2).sum(axis=1).mean())
        d2 = (aim[:, rest] ** 2).sum(axis=1)
        if f2 < 1e-9:
            raise PlanError(
                "The fiducials lie in one line; about it the target error is unbounded."
            )
        total += d2 / f2
    return np.asarray(fle_mm * np.sqrt((1.0 + total / 3.0) / len(x)))


def motion_covariance(registration: Registration, error_mm: float) -> tuple[FloatArray, FloatArray]:
    """Covariance (6, 6) of the small motion (rotation vector, shift) left by a registration, and the
    point (3,) about which it turns.

    ``error_mm`` : root mean square localisation error of a fiducial, or the standard deviation of a
    probed point off the surface. First order; exact for small errors.
    """
    p = registration.points
    if not len(p):
        raise PlanError(
            "A registration by image has no points from which its target error could be predicted."
        )
    centre = p.mean(axis=0)
    if registration.normals is not None:
        m = registration.normals
        j = np.hstack([np.cross(p - centre, m), m])
        return np.asarray(error_mm**2 * np.linalg.inv(j.T @ j)), centre
    rows = [np.hstack([-_cross(x - centre), np.eye(3)]) for x in p]
    a = np.concatenate(rows)
    # The localisation error is that of all three axes together.
    return np.asarray(error_mm**2 / 3.0 * np.linalg.inv(a.T @ a)), centre


def tre_of_covariance_mm(
    covariance: FloatArray, centre: FloatArray, targets: npt.ArrayLike
) -> FloatArray:
    """Root mean square displacement (m,) of targets (m, 3) under a motion of that covariance."""
    r = np.asarray(targets, dtype=np.float64).reshape(-1, 3)
    out = np.empty(len(r))
    for n, x in enumerate(r):
        j = np.hstack([-_cross(x - centre), np.eye(3)])
        out[n] = np.sqrt(np.trace(j @ covariance @ j.T))
    return out


def _cross(v: FloatArray) -> FloatArray:
    """Matrix of ``v x``."""
    return np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])
