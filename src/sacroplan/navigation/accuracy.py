"""What the accuracy of a robot or a hand does to this patient's screws: a Monte Carlo.

Every draw misplaces entry and tip of each screw as a published study says screws are misplaced, adds a
registration's own error where one is known, and grades the breach on the patient's bone. The result is
a property of plan, bone and error model together; it is no forecast of a surgeon's hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.fixation.bone import Bone
from sacroplan.fixation.clearance import gertzbein, iliac_grade
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.frames import AxisFrame, FloatArray, perpendicular
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.metrics import Metric, Metrics
from sacroplan.parallel import ALL_CORES
from sacroplan.progress import Progress, silent

FIELD_MM = 0.8
"""Grid of the bone round a screw; trilinear reading is right within about 0.1 mm."""

SPARE_MM = 14.0
"""How far a misplaced thread may run from the planned one and still be followed; farther is off the
grid and reads as far outside, which a thread so far off is."""

STEP_MM = 1.0
RING = 16

CHECKPOINTS = (100, 300, 1000, 3000, 10_000, 30_000, 100_000)
"""Draws after which the running share of grades A and B is noted, to show convergence."""

GRADES: Mapping[str, tuple[str, ...]] = {
    "pedicle": ("A", "B", "C", "D", "E"),
    "pelvic": ("0", "I", "II", "III"),
}

DIRECTIONS = ("medial", "lateral", "cranial", "caudal", "anterior", "posterior")


@dataclass(frozen=True)
class ErrorModel:
    """Mean length (mm) of the error of a screw's tail (entry) and tip, and where it comes from.

    ``tail_spread``, ``tip_spread`` : standard deviation of that length over its mean [SP-NAV-06].
    """

    name: str
    tail_mm: float
    tip_mm: float
    rows: tuple[str, ...]
    tail_spread: float
    tip_spread: float


def errors(rng: np.random.Generator, draws: int, mean_mm: float, spread: float) -> FloatArray:
    """Error vectors (draws, 3) in mm: all directions alike, lengths lognormal.

    A normal law of each component ties the length's standard deviation to 0.42 of its mean. Studies
    find 0.6 to 0.8, for some screws skid; that tail is what breaches by more than 2 mm.
    """
    way = rng.standard_normal((draws, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    sigma2 = float(np.log1p(spread**2))
    length = mean_mm * np.exp(np.sqrt(sigma2) * rng.standard_normal((draws, 1)) - 0.5 * sigma2)
    return np.asarray(way * length)


def published(row: str) -> ErrorModel:
    """The error model of ``ROB-1``, ``ROB-2``, ``ROB-4`` or ``SP-NAV-01`` (freehand, assumed)."""
    name = {"SP-NAV-01": "freehand (assumed)"}.get(row, f"robot [{row}]")
    return ErrorModel(
        name, evidence.value(row, "tail"), evidence.value(row, "tip"), (row, "SP-NAV-06"),
        evidence.value("SP-NAV-06", "tail_spread"), evidence.value("SP-NAV-06", "tip_spread"),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Target:
    """A planned screw with the bone it lies in; clearance counts from ``start_mm`` on.

    ``axes`` : anatomical frame (x anterior, y cranial, z right) in which directions are named.
    """

    screw: Screw
    bone: Bone
    start_mm: float
    axes: AxisFrame


@dataclass(frozen=True)
class Share:
    """A probability with its 95 % interval (Wilson) from ``count`` of ``draws``."""

    count: int
    draws: int

    @property
    def value(self) -> float:
        """Share, 0 to 1."""
        return self.count / self.draws

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the simulation's own chance; the model's error is not in it."""
        return wilson(self.count, self.draws)


def wilson(count: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a proportion."""
    z = 1.959963984540054
    p = count / n
    middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * float(np.sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, eq=False)
class ScrewOutcome:
    """What became of one screw over all draws.

    Attributes
    ----------
    grades, directions, hazards : shares by name. worst : direction of most breaches beyond grades
        A, B, 0 and I, or of most breaches where all are within; empty without any.
    breach95_mm : 95th percentile of the breach.
    running : (draws, share of acceptable grades) pairs.
    """

    name: str
    kind: str
    grades: Mapping[str, Share]
    directions: Mapping[str, Share]
    hazards: Mapping[str, Share]
    worst: str
    breach95_mm: float
    running: tuple[tuple[int, float], ...]

    @property
    def acceptable(self) -> Share:
        """Gertzbein A and B, or pelvic 0 and I."""
        good = [s for g, s in self.grades.items() if g in ("A", "B", "0", "I")]
        return Share(sum(s.count for s in good), good[0].draws)


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Outcomes of all screws under one error model."""

    model: ErrorModel
    draws: int
    seed: int
    outcomes: tuple[ScrewOutcome, ...]

    def acceptable(self, kind: str = "pedicle") -> Share:
        """Grades A and B over all screws of ``kind``."""
        found = [o.acceptable for o in self.outcomes if o.kind == kind]
        if not found:
            raise PlanError(f"There is no {kind} screw among those simulated.")
        return Share(sum(s.count for s in found), sum(s.draws for s in found))

    def metrics(self) -> Metrics:
        """Figures under ``navigation.<model>.<screw>``."""
        short = "freehand" if "freehand" in self.model.name else "robot"
        out: Metrics = {}
        for o in self.outcomes:
            base, what = (
                f"navigation.{short}.{o.name}",
                f"{o.name.replace('_', ' ')}, {self.model.name}",
            )
            rows = (*self.model.rows, "GR-01" if o.kind == "pedicle" else "GR-02")
            for grade, share in o.grades.items():
                out[f"{base}.grade_{grade}_percent"] = Metric(
                    100.0 * share.value, "%", f"{what}: grade {grade}", rows
                )
            for name, share in o.hazards.items():
                out[f"{base}.towards_{name}_percent"] = Metric(
                    100.0 * share.value, "%", f"{what}: breach towards {name}", rows
                )
            out[f"{base}.breach95_mm"] = Metric(
                o.breach95_mm, "mm", f"{what}: breach that 95 % stay below", rows
            )
        return out


def simulate(
    targets: Sequence[Target],
    model: ErrorModel,
    draws: int = 10_000,
    seed: int = 1,
    registration: tuple[FloatArray, FloatArray] | None = None,
    progress: Progress = silent,
) -> Accuracy:
    """Misplace every screw ``draws`` times and grade each on its bone.

    Parameters
    ----------
    registration : covariance (6, 6) and centre (3,) of :func:`target_error.motion_covariance`; one motion
        a draw moves all screws together. Published models hold their own registration's error, so this
        errs on the careful side.

    The same seed gives the same figures, whatever the number of threads.
    """
    if draws < 100:
        raise PlanError(f"{draws} draws are too few for shares of per cents; take 1,000 or more.")
    motion = None
    if registration is not None:
        rng = np.random.default_rng([seed, 0])
        root = np.linalg.cholesky(registration[0] + 1e-15 * np.eye(6))
        motion = rng.standard_normal((draws, 6)) @ root.T
    outcomes = []
    for n, target in enumerate(targets):
        progress(n / len(targets), f"{target.screw.name}: {draws} draws")
        rng = np.random.default_rng([seed, n + 1])
        tail = errors(rng, draws, model.tail_mm, model.tail_spread)
        tip = errors(rng, draws, model.tip_mm, model.tip_spread)
        if motion is not None and registration is not None:
            for point, error in ((target.screw.entry, tail), (target.screw.tip, tip)):
                error += np.cross(motion[:, :3], point - registration[1]) + motion[:, 3:]
        outcomes.append(_outcome(target, tail, tip))
    progress(1.0, "accuracy simulated")
    return Accuracy(model, draws, seed, tuple(outcomes))


def field_round(target: Target) -> tuple[VolumeGeometry, npt.NDArray[np.float32]]:
    """Depth (mm) on a grid along the screw, wide enough for every misplaced thread."""
    s = target.screw
    u = perpendicular(s.direction)
    axes = np.stack([s.direction, u, np.cross(s.direction, u)], axis=1)
    wide = 0.5 * s.diameter_mm + SPARE_MM
    low = np.array([-SPARE_MM, -wide, -wide])
    n = np.ceil((np.array([s.length_mm + SPARE_MM, wide, wide]) - low) / FIELD_MM).astype(int) + 1
    grid = VolumeGeometry(
        (int(n[0]), int(n[1]), int(n[2])), np.full(3, FIELD_MM), s.entry + axes @ low, axes, s.frame
    )
    return grid, target.bone.depth(grid)


def _outcome(target: Target, tail: FloatArray, tip: FloatArray) -> ScrewOutcome:
    from sacroplan.navigation._accuracy_kernels import breaches

    s = target.screw
    grid, depth = field_round(target)
    axes = grid.direction
    entry = (s.entry + tail - grid.origin) @ axes
    end = (s.tip + tip - grid.origin) @ axes
    direction = end - entry
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    n = len(tail)
    worst, where, at = np.empty(n), np.zeros((n, 3)), np.zeros(n)
    turn = 2.0 * np.pi * np.arange(RING) / RING
    with ALL_CORES:
        # A screw keeps its length, wherever its tip is driven.
        breaches(
            depth, FIELD_MM, np.zeros(3), np.ascontiguousarray(entry), np.ascontiguousarray(direction),
            np.full(n, s.length_mm), 0.5 * s.diameter_mm, target.start_mm, STEP_MM,
            np.stack([np.cos(turn), np.sin(turn)], axis=1), worst, where, at,
        )  # fmt: skip
    kind = "pedicle" if s.kind == "pedicle" else "pelvic"
    names = GRADES[kind]
    grade = _grades(kind, worst)
    out = (
        where @ axes.T @ target.axes.axes * np.array([1.0, 1.0, 1.0 if s.side == "right" else -1.0])
    )
    # Lateral counts as positive z on either side now.
    column = np.argmax(np.abs(out), axis=1)
    sign = np.take_along_axis(out, column[:, None], axis=1)[:, 0] > 0
    name_of = np.array([["posterior", "anterior"], ["caudal", "cranial"], ["medial", "lateral"]])
    direction_name = np.where(worst > 0.0, name_of[column, sign.astype(int)], "")
    good = np.isin(grade, [0, 1])
    # A rare breach may be deep in any direction; what counts is where the harmful ones go.
    told = ~good if np.any(~good) else worst > 0.0
    often = {d: int((told & (direction_name == d)).sum()) for d in DIRECTIONS}
    running = tuple((c, float(good[:c].mean())) for c in (*[c for c in CHECKPOINTS if c < n], n))
    return ScrewOutcome(
        s.name, kind,
        {g: Share(int((grade == k).sum()), n) for k, g in enumerate(names)},
        {d: Share(int((direction_name == d).sum()), n) for d in DIRECTIONS},
        _hazards(kind, direction_name, at, s.length_mm, n),
        max(often, key=lambda d: often[d]) if np.any(told) else "",
        float(np.percentile(worst, 95)), running,
    )  # fmt: skip


def _grades(kind: str, breach: FloatArray) -> npt.NDArray[np.int64]:
    """Index of the grade (GR-01, GR-02) of every breach (n,)."""
    names = GRADES[kind]
    grade_of = gertzbein if kind == "pedicle" else iliac_grade
    # Grades change at few places only: look each distinct half micrometre up once.
    value, inverse = np.unique(np.round(breach, 3), return_inverse=True)
    index = np.array([names.index(grade_of(float(v))) for v in value], dtype=np.int64)
    return np.asarray(index[inverse.reshape(-1)])


def _hazards(
    kind: str, direction: npt.NDArray[np.str_], at: FloatArray, length: float, n: int
) -> dict[str, Share]:
    """What lies where a thread stands out, by its direction (GR-02's reading for pelvic screws)."""
    front = at > 0.6 * length
    if kind == "pedicle":
        sets = {
            "canal": (direction == "medial") & ~front,
            "foramen": (direction == "caudal") & ~front,
            "vessel": (direction != "") & front,
        }
    else:
        sets = {
            "vessel": (direction == "medial") | (direction == "anterior"),
            "notch": direction == "caudal",
            "lateral": direction == "lateral",
        }
    return {name: Share(int(mask.sum()), n) for name, mask in sets.items()}
