"""Registration of the theatre to the planning CT: paired points, a probed surface, a 3D image.

Every way ends in the rigid motion from the theatre's coordinates to the CT's, LPS mm. The fiducial
registration error is reported because every station shows it; it says nothing about accuracy in this
patient [SP-NAV-04] and no result here passes or fails by it. See :mod:`sacroplan.navigation.target_error`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import FloatArray, Rigid
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import LabelMap, Volume
from sacroplan.progress import Progress, silent

COLLINEAR = 1e-3
"""Second spread of the fiducials against the first, below which they count as one line."""

ICP_ROUNDS = 200
ICP_STOP_MM = 1e-6
"""A further step of the surface registration moves no point by more."""

FREE_MOTION = 25.0
"""A motion that shifts the points along the surface this many times more than off it is not held by it:
noise of 0.2 mm would let the bone slide by 5 mm."""

TRIMMED = 3.0
"""Points farther from the surface than this many times the median distance (and 1 mm) are left out of a
step: soft tissue under the probe, bone of the neighbour."""


HOLLOW_MM = 0.7
"""A median distance above this is more than a probe's error: the way down is begun again elsewhere."""

OTHER_START_DEG = 4.0
"""Turn of such a beginning about an axis: what landmarks touched some millimetres off leave open."""

_OTHER_STARTS = np.concatenate([np.eye(3), -np.eye(3), 2.0 * np.eye(3), -2.0 * np.eye(3)])

MISFIT_MM = 2.0
MISFIT_SHARE = 0.25
"""With more than this share of the points farther off than that, the place itself is doubted."""


@dataclass(frozen=True, eq=False)
class Registration:
    """A rigid registration.

    Attributes
    ----------
    to_ct : theatre to CT, LPS mm. how : the method. fre_mm : root mean square residual.
    residual_mm : (n,) per point. points : (n, 3) in CT coordinates; normals : (n, 3) for a surface.
    """

    to_ct: Rigid
    how: Literal["paired points", "surface", "image"]
    fre_mm: float | None
    residual_mm: FloatArray
    points: FloatArray
    normals: FloatArray | None
    doubts: tuple[Doubt, ...]


def _points(given: npt.ArrayLike, what: str) -> FloatArray:
    p = np.asarray(given, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != 3 or not np.all(np.isfinite(p)):
        raise PlanError(f"{what} must be points (n, 3) of finite numbers, not an array {p.shape}.")
    return p


def rigid_between(source: FloatArray, target: FloatArray) -> Rigid:
    """Least-squares rigid motion (Arun, with the reflection put right) from points to points (n, 3)."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - a).T @ (target - b))
    turn = np.diag([1.0, 1.0, float(np.sign(np.linalg.det(vt.T @ u.T)))])
    r = vt.T @ turn @ u.T
    return Rigid(r, b - r @ a)


def paired_points(theatre: npt.ArrayLike, ct: npt.ArrayLike) -> Registration:
    """Register by the same points in both, in the same order.

    Raises :class:`PlanError` for fewer than three points, or points in one line.
    """
    p, q = _points(theatre, "Fiducials in theatre"), _points(ct, "Fiducials on the CT")
    if len(p) != len(q):
        raise PlanError(f"{len(p)} fiducials in theatre but {len(q)} on the CT; pair every one.")
    if len(p) < 3:
        raise PlanError(f"{len(p)} fiducials are given; a rigid registration needs three or more.")
    spread = np.linalg.svd(q - q.mean(axis=0), compute_uv=False)
    if spread[1] < COLLINEAR * spread[0]:
        raise PlanError(
            "The fiducials lie in one line, about which the registration could turn freely. Add one "
            "beside the line."
        )
    rigid = rigid_between(p, q)
    residual = np.linalg.norm(rigid.points(p) - q, axis=1)
    doubts: tuple[Doubt, ...] = ()
    least, better = (int(evidence.value("SP-NAV-03", n)) for n in ("least", "better"))
    if len(p) < least:
        doubts = (
            Doubt(
                "navigation", "navigation.few_fiducials",
                f"{len(p)} fiducials are few: take at least {least}, better {better}, round the sacrum.",
                ("SP-NAV-03",),
            ),
        )  # fmt: skip
    fre = float(np.sqrt(np.mean(residual**2)))
    return Registration(rigid, "paired points", fre, residual, q, None, doubts)


def surface_points(
    theatre: npt.ArrayLike, bone: Surface, start: Rigid, progress: Progress = silent
) -> Registration:
    """Register probed points to the CT's bone, from a rough ``start`` (landmarks), point to plane.

    Raises :class:`PlanError` for fewer than ten points or points that leave a motion free.
    """
    p = _points(theatre, "Probed points")
    if len(p) < 10:
        raise PlanError(f"{len(p)} points were probed; a surface registration needs ten or more.")
    corners = bone.triangles
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    best, residual, face, foot = _descent(p, bone, normal, start)
    # The way down from a rough start may end in a hollow beside the true place.
    centre = start.points(p).mean(axis=0)
    for n, turn in enumerate(_OTHER_STARTS):
        if float(np.median(residual)) <= HOLLOW_MM:
            break
        progress(n / len(_OTHER_STARTS), "surface registration, another start")
        about = _rotation(np.deg2rad(OTHER_START_DEG) * turn)
        again = Rigid(about @ start.rotation, about @ (start.translation - centre) + centre)
        found = _descent(p, bone, normal, again)
        if float(np.median(found[1])) < float(np.median(residual)):
            best, residual, face, foot = found
    progress(1.0, "surface registered")
    return Registration(
        best, "surface", float(np.sqrt(np.mean(residual**2))), residual, foot, normal[face],
        _misfit(residual),
    )  # fmt: skip


def _misfit(residual: FloatArray) -> tuple[Doubt, ...]:
    """A doubt where the points do not lie on the bone; that they do would prove nothing [SP-NAV-04]."""
    far = int(np.count_nonzero(residual > MISFIT_MM))
    if far <= MISFIT_SHARE * len(residual):
        return ()
    return (
        Doubt(
            "navigation", "navigation.surface_misfit",
            f"{far} of {len(residual)} probed points lie more than {MISFIT_MM:g} mm off the bone after "
            "registration: it has probably settled in a wrong place, and the error told for the screws "
            "does not hold. Touch the landmarks again, or probe other places.", ("SP-NAV-04",),
        ),
    )  # fmt: skip


def _descent(
    p: FloatArray, bone: Surface, normal: FloatArray, start: Rigid
) -> tuple[Rigid, FloatArray, npt.NDArray[np.int64], FloatArray]:
    """(pose, distances (n,), nearest faces (n,), nearest points (n, 3)) at the end of the way down."""
    import igl

    pose = start
    for _ in range(ICP_ROUNDS):
        q = np.ascontiguousarray(pose.points(p))
        _, face, foot = igl.point_mesh_squared_distance(q, bone.vertices, bone.faces)
        m = normal[np.asarray(face).reshape(-1)]
        off = ((q - foot) * m).sum(axis=1)
        keep = np.abs(off) <= max(1.0, TRIMMED * float(np.median(np.abs(off))))
        centre = q.mean(axis=0)
        j = np.hstack([np.cross(q - centre, m), m])[keep]
        # Rotations are weighed by the points' spread, so that the condition number means something.
        size = float(np.sqrt(((q - centre) ** 2).sum(axis=1).mean()))
        scaled = j / np.array([size] * 3 + [1.0] * 3)
        if np.linalg.cond(scaled) > FREE_MOTION:
            raise PlanError(
                "The probed points leave the bone free to slide: they lie on one flat or round patch. "
                "Probe points on different sides."
            )
        step = np.linalg.lstsq(scaled, -off[keep], rcond=None)[0]
        turn, shift = step[:3] / size, step[3:]
        small = _rotation(turn)
        moved = Rigid(
            small @ pose.rotation,
            small @ (pose.translation - centre) + centre + shift,
        )
        moved = Rigid(_orthonormal(moved.rotation), moved.translation)
        change = float(np.abs(moved.points(p) - q).max())
        pose = moved
        if change < ICP_STOP_MM:
            break
    q = np.ascontiguousarray(pose.points(p))
    d2, face, foot = igl.point_mesh_squared_distance(q, bone.vertices, bone.faces)
    return (
        pose, np.sqrt(np.asarray(d2).reshape(-1)), np.asarray(face).reshape(-1), np.asarray(foot)
    )  # fmt: skip


def _rotation(w: FloatArray) -> FloatArray:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(w).as_matrix())


def _orthonormal(r: FloatArray) -> FloatArray:
    u, _, vt = np.linalg.svd(r)
    return np.asarray(u @ vt)


def image_based(
    ct: Volume, labels: LabelMap, image: Volume, progress: Progress = silent
) -> Registration:
    """Register an intra-operative 3D image (3D X-ray, cone-beam CT) to the planning CT on bone.

    The search and its checks are those of the MRI fusion. There are no fiducials, so no FRE; what the
    fusion's own parts disagree by stands in ``residual_mm``.
    """
    from sacroplan.imaging.fusion import fuse

    found = fuse(ct, labels, image, progress=progress)
    return Registration(
        found.ct_to_mri.inverse(), "image", None, np.array([found.residual_mm]),
        np.empty((0, 3)), None, found.doubts,
    )  # fmt: skip
