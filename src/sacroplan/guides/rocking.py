"""Does a guide rock on its bone? The constraint matrix of its contact normals, and what it lets through.

A small rigid motion moves each contact point by some amount along its own normal: only that part is
blocked. The motion whose normal parts are smallest in the mean square is the weakest; on a sphere it is
any turn about the centre, on a cylinder a turn about the axis or a slide along it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.frames import FloatArray
from sacroplan.metrics import Metric, Metrics


@dataclass(frozen=True, eq=False)
class Constraint:
    """How well a footprint holds its guide.

    Attributes
    ----------
    figure : root mean square normal part of the weakest unit motion, 0 free to 0.58 held alike
        from all sides. A turn by one radian counts as a shift by the lever of SP-GDE-07.
    weakest_turn, weakest_shift : (3,) of that motion at ``centre`` (3,): radians and mm in proportion.
    motion : it in words.
    seating_mm : standard deviation of a point of the cut face across the cut, from seating alone.
    seating_deg : of the cut's angle.
    """

    figure: float
    weakest_turn: FloatArray
    weakest_shift: FloatArray
    centre: FloatArray
    motion: str
    seating_mm: float
    seating_deg: float

    def saw_sd_deg(self, play_mm: float, height_mm: float) -> float:
        """Standard deviation of the blade's angle in a slot with ``play_mm`` over ``height_mm``."""
        # The blade takes any angle that the slot leaves, with equal chance.
        return float(np.degrees(np.arctan2(play_mm, max(height_mm, 1.0))) / np.sqrt(3.0))

    def metrics(self, play_mm: float, height_mm: float) -> Metrics:
        """Figures under ``fit.*`` and ``slot.*`` of a guide."""
        return {
            "fit.constraint": Metric(
                self.figure, "1", f"stability figure; weakest motion: {self.motion}",
                ("SP-GDE-07",), evidence.quantity("SP-GDE-07", "figure").lower,
            ),
            "fit.seating_mm": Metric(
                self.seating_mm, "mm", "seating error at the cut, standard deviation",
                ("SP-GDE-07", "GDE-08", "GDE-12"), None, evidence.value("GDE-12", "seating"),
            ),
            "fit.seating_deg": Metric(
                self.seating_deg, "deg", "seating error of the cut's angle, standard deviation",
                ("SP-GDE-07",),
            ),
            "slot.saw_deg": Metric(
                self.saw_sd_deg(play_mm, height_mm), "deg",
                "play of the blade in the slot, standard deviation", ("GDE-04",),
            ),
        }  # fmt: skip


def matrix(
    points: FloatArray, normals: FloatArray, weights: FloatArray, centre: FloatArray, lever: float
) -> FloatArray:
    """(6, 6) mean square of the normal part of (shift mm, turn rad times ``lever``)."""
    rows = np.concatenate([normals, np.cross(points - centre, normals) / lever], axis=1)
    w = weights / weights.sum()
    return np.asarray((rows * w[:, None]).T @ rows)


def constraint(
    points: FloatArray,
    normals: FloatArray,
    area_mm2: FloatArray,
    face: FloatArray,
    face_normal: FloatArray,
    clearance_mm: float,
) -> Constraint:
    """Weakest motion of a contact, and the seating error it lets through at a cut.

    Parameters
    ----------
    points, normals : (n, 3) contact and its unit normals. area_mm2 : (n,).
    face : (k, 3) points of the cut face, ``face_normal`` (3,).
    clearance_mm : gap between guide and bone: the guide may sit anywhere within it.
    """
    lever = evidence.value("SP-GDE-07", "lever")
    centre = np.average(points, axis=0, weights=area_mm2)
    m = matrix(points, normals, area_mm2, centre, lever)
    values, vectors = np.linalg.eigh(m)
    weak = vectors[:, 0]
    figure = float(np.sqrt(max(values[0], 0.0)))
    # Contact errors are alike within a patch and independent between patches.
    patch = evidence.value("SP-GDE-07", "patch")
    independent = max(float(area_mm2.sum()) / patch, 1.0)
    sd2 = (0.5 * clearance_mm) ** 2 + evidence.value("SP-GDE-07", "surface") ** 2
    # What no contact blocks is stopped by K-wires and hand, at the limit at which a guide is given up.
    most = evidence.value("GDE-12", "seating")
    spread = np.minimum(sd2 / independent / np.maximum(values, 1e-12), most**2)
    covariance = (vectors * spread) @ vectors.T
    arms = face - centre
    rows = np.concatenate(
        [np.broadcast_to(face_normal, arms.shape), np.cross(arms, face_normal) / lever], axis=1
    )
    at = np.einsum("ki,ij,kj->k", rows, covariance, rows)
    turn = covariance[3:, 3:] / lever**2
    flat = np.eye(3) - np.outer(face_normal, face_normal)
    angle = np.sqrt(max(float(np.trace(flat @ turn @ flat)) / 2.0, 0.0))
    return Constraint(
        figure, weak[3:] / lever, weak[:3], centre, _words(weak), float(np.sqrt(at.mean())),
        float(np.degrees(angle)),
    )  # fmt: skip


def _words(motion: FloatArray) -> str:
    shift, turn = float(np.linalg.norm(motion[:3])), float(np.linalg.norm(motion[3:]))
    if turn > 2.0 * shift:
        return "a turn"
    return "a slide" if shift > 2.0 * turn else "a turn with a slide"
