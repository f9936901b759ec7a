"""What becomes of the planned margin in theatre: a Monte Carlo of guide, saw and segmentation errors.

Each draw moves a cut's faces as one rigid body (an error of guide seating, hand or navigation), and the
tumour's edge by the error of its segmentation; the margin is then measured again. HANDBOOK MAR-7,
PSI-01 to PSI-07.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import grid_around
from sacroplan.metrics import Metric, Metrics
from sacroplan.parallel import ALL_CORES
from sacroplan.resection.cuts import Cut
from sacroplan.resection.margin import CutMargin, signed_to
from sacroplan.resection.plan import ResectionPlan

DRAWS = 4000
"""Draws of a simulation: a probability of 50 % is then known to within 1.6 points (95 %)."""

SEED = 20230117

FIELD_MM = 1.5
"""Spacing of the tumour's distance field: off by 0.02 mm between its points for a 15 mm radius."""

FIELD_REACH_MM = 25.0
"""Beyond this distance from the tumour a margin is not in question."""

LIMITS_MM = (0.0, 2.0, 4.0)
"""Margins whose loss is counted: through the tumour; MAR-4b; MAR-4c."""

TILT_SHARE = 0.5
"""At most this share of a deviation's variance comes from the angle; on a long face it would else be
more than the deviation itself."""

TECHNIQUES = ("guide", "navigated", "freehand")


@dataclass(frozen=True)
class ErrorModel:
    """Errors of a technique.

    Attributes
    ----------
    name, words : short and for a reader. rows : evidence.
    point_sd_mm : standard deviation of a point of the cut face from its plan, across the plane.
    angle_sd_deg : of the angle about any axis; a part of ``point_sd_mm``.
    bias_mm : mean shift towards the specimen (a loss of margin is positive).
    edge_sd_mm : of the tumour's segmented edge.
    """

    name: str
    words: str
    point_sd_mm: float
    angle_sd_deg: float
    bias_mm: float = 0.0
    edge_sd_mm: float = 0.0
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CutExecution:
    """One cut's margin over all draws: ``margins_mm`` (draws,), ascending."""

    cut: str
    planned_mm: float
    margins_mm: FloatArray

    def below(self, limit_mm: float) -> tuple[float, float, float]:
        """Probability of a margin below ``limit_mm``, and its 95 % interval (Wilson)."""
        return wilson(int(np.count_nonzero(self.margins_mm < limit_mm)), len(self.margins_mm))


@dataclass(frozen=True, eq=False)
class Execution:
    """A simulation: per cut, and for the worst cut of each draw (``worst``)."""

    model: ErrorModel
    cuts: tuple[CutExecution, ...]
    worst: CutExecution

    def metrics(self) -> Metrics:
        """Figures under ``resection.execution.<technique>.*``."""
        out: Metrics = {}
        start = f"resection.execution.{self.model.name}"
        for limit in LIMITS_MM:
            p, low, high = self.worst.below(limit)
            out[f"{start}.p_below_{limit:g}_mm_percent"] = Metric(
                100.0 * p, "%",
                f"Probability that a margin ends below {limit:g} mm, {self.model.words} "
                f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)",
                (*self.model.rows, "MAR-7", "MAR-4b", "MAR-4c"),
            )  # fmt: skip
        out[f"{start}.p05_mm"] = Metric(
            float(np.percentile(self.worst.margins_mm, 5.0)), "mm",
            f"Margin that 95 % of executions keep, {self.model.words}",
            (*self.model.rows, "MAR-7"),
        )  # fmt: skip
        return out


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float, float]:
    """Share ``hits / n`` and its 95 % confidence interval after Wilson."""
    if n <= 0:
        raise PlanError("A share needs at least one draw.")
    p = hits / n
    scale = 1.0 + z * z / n
    middle = (p + z * z / (2 * n)) / scale
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    return p, float(max(0.0, middle - half)), float(min(1.0, middle + half))


def error_model(row: str, technique: str) -> ErrorModel:
    """The error model that gives back a study's shares of points within its distances.

    ``technique`` is ``guide``, ``navigated`` or ``freehand``. One normal deviation is fitted to the
    row's shares by least squares; the angle is that of PSI-07, scaled with the deviation. Raises
    :class:`PlanError` where the row does not tell of the technique.
    """
    shares = _shares(row, technique)
    if not shares:
        known = [t for t in TECHNIQUES if _shares(row, t)]
        raise PlanError(f"{row} tells nothing of {technique!r} cuts; it tells of {known}.")
    sd = _fitted(shares)
    guide = _fitted(_shares("PSI-04", "guide"))
    # The mean angle of two independent normal tilts is sd * sqrt(pi / 2).
    angle = evidence.value("PSI-07", "angle") / np.sqrt(np.pi / 2.0)
    words = {"guide": "with cutting guides", "navigated": "navigated", "freehand": "freehand"}
    return ErrorModel(
        technique, f"{words[technique]} [{row}]", sd, float(angle * sd / guide),
        edge_sd_mm=evidence.value("SP-RES-09", "sd"), rows=(row, "PSI-07", "SP-RES-09"),
    )  # fmt: skip


def _shares(row: str, technique: str) -> dict[float, float]:
    start = f"{technique}_within_"
    quantities = evidence.get(row).quantities
    return {
        float(name.removeprefix(start)): float(q.value) / 100.0
        for name, q in quantities.items()
        if name.startswith(start) and q.value is not None
    }


def _fitted(shares: dict[float, float]) -> float:
    """Standard deviation (mm) of a normal deviation nearest to shares within distances."""
    from scipy.optimize import minimize_scalar
    from scipy.special import erf

    within = np.array(list(shares))
    wanted = np.array(list(shares.values()))

    def off(log_sd: float) -> float:
        return float(((erf(within / (np.exp(log_sd) * np.sqrt(2.0))) - wanted) ** 2).sum())

    return float(np.exp(minimize_scalar(off, bounds=(-2.0, 4.0), method="bounded").x))


@dataclass(frozen=True, eq=False)
class Draws:
    """Rigid errors of a cut: ``shifts`` (d, 3) mm, ``turns`` (d, 3, 3), ``edge`` (d,) mm."""

    shifts: FloatArray
    turns: FloatArray
    edge: FloatArray


def draw(model: ErrorModel, points: FloatArray, normal: FloatArray, draws: int, seed: int) -> Draws:
    """Errors of a face with ``points`` (n, 3), turned about their centre.

    Offset and angle together give :attr:`ErrorModel.point_sd_mm` over the face.
    """
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    arms = points - points.mean(axis=0)
    across = arms - np.outer(arms @ normal, normal)
    lever2 = float((across**2).sum(axis=1).mean())
    angle = np.deg2rad(model.angle_sd_deg)
    variance = model.point_sd_mm**2
    tilt = min(angle**2 * lever2, TILT_SHARE * variance)
    angle = np.sqrt(tilt / lever2) if lever2 > 0 else 0.0
    shifts = rng.normal(0.0, np.sqrt(variance - tilt), (draws, 3)) + model.bias_mm * normal
    turns = Rotation.from_rotvec(rng.normal(0.0, 1.0, (draws, 3)) * angle).as_matrix()
    edge = rng.normal(0.0, 1.0, draws) * model.edge_sd_mm
    return Draws(shifts, turns, edge)


@dataclass(frozen=True, eq=False)
class TumourField:
    """Exact signed distance to the tumour on a grid."""

    low: FloatArray
    values: FloatArray


def tumour_field(tumour: Surface) -> TumourField:
    """Distance field within :data:`FIELD_REACH_MM` of the tumour."""
    grid = grid_around(tumour.vertices, FIELD_MM, FIELD_REACH_MM, tumour.frame)
    index = np.argwhere(np.ones(grid.shape, dtype=bool))
    values = signed_to(tumour, grid.to_world(index)).reshape(grid.shape)
    return TumourField(np.asarray(grid.origin), np.ascontiguousarray(values))


def margins_after(margin: CutMargin, cut: Cut, field: TumourField, errors: Draws) -> FloatArray:
    """(draws,) margin of one cut after each error; the planned margin's own accuracy is kept."""
    from sacroplan.resection import _execution_kernels as kernels

    points = margin.points
    centre = points.mean(axis=0)
    arms = points - centre
    # A point so far behind the nearest that no draw can bring it forward need not be moved.
    reach = np.linalg.norm(arms, axis=1)
    turned = float(np.abs(errors.turns - np.eye(3)).sum(axis=2).max())
    most = float(np.linalg.norm(errors.shifts, axis=1).max()) + turned * reach
    chosen = margin.distance_mm - most < (margin.distance_mm + most).min()
    out = np.empty(len(errors.edge))
    with ALL_CORES:
        kernels.least_values(
            field.values, field.low, FIELD_MM, centre, np.ascontiguousarray(arms[chosen]),
            errors.shifts, errors.turns, out,
        )  # fmt: skip
    # The map's points miss the exact minimum by a little; the difference is the same in every draw.
    gap = margin.minimum_mm - float(margin.distance_mm.min()) if margin.minimum_mm > 0 else 0.0
    return out + gap - errors.edge


def simulate(
    plan: ResectionPlan,
    tumour: Surface,
    model: ErrorModel,
    draws: int = DRAWS,
    field: TumourField | None = None,
    seed: int = SEED,
    models: dict[str, ErrorModel] | None = None,
) -> Execution:
    """Execute the plan ``draws`` times with the errors of ``model``.

    ``models`` gives single cuts errors of their own (a guide's seating); discs and joints, which no
    saw parts, are exact but for the tumour's edge. The edge's error is common to all cuts of a draw.
    """
    field = tumour_field(tumour) if field is None else field
    found = []
    edge = np.random.default_rng(seed).normal(0.0, 1.0, draws) * model.edge_sd_mm
    known = {m.cut: m for m in plan.margins}
    for n, cut in enumerate(plan.cuts):
        margin = known.get(cut.name)
        if margin is None or not len(margin.points):
            continue
        own = (models or {}).get(cut.name, model)
        if cut.kind == "osteotomy":
            errors = draw(own, margin.points, cut.plane.normal, draws, seed + 1 + n)
            errors = Draws(errors.shifts, errors.turns, edge)
            after = margins_after(margin, cut, field, errors)
        else:
            after = margin.minimum_mm - edge
        found.append((cut.name, margin.minimum_mm, after))
    if not found:
        raise PlanError("No cut has a margin, so nothing can be simulated; give a tumour.")
    every = np.stack([a for _, _, a in found])
    worst = CutExecution("all cuts", min(m for _, m, _ in found), np.sort(every.min(axis=0)))
    cuts = tuple(CutExecution(n, m, np.sort(a)) for n, m, a in found)
    return Execution(model, cuts, worst)


def share_within(
    cut_points: FloatArray, normal: FloatArray, model: ErrorModel, limit_mm: float,
    draws: int = DRAWS, seed: int = SEED,
) -> float:  # fmt: skip
    """Share of a flat face's points that end within ``limit_mm`` of their plane, over all draws."""
    errors = draw(model, cut_points, normal, draws, seed)
    arms = cut_points - cut_points.mean(axis=0)
    moved = (
        np.einsum("dij,nj,i->dn", errors.turns, arms, normal) + (errors.shifts @ normal)[:, None]
    )
    return float((np.abs(moved - (arms @ normal)[None]) <= limit_mm).mean())


def worst_case_doubts(executions: Sequence[Execution]) -> list[Doubt]:
    """A doubt where even guides leave no margin in one execution of twenty [MAR-7]."""
    out = []
    for e in executions:
        worst = float(np.percentile(e.worst.margins_mm, 5.0))
        if e.model.name == "guide" and worst <= 0.0 < e.worst.planned_mm:
            out.append(
                Doubt(
                    "plan", "resection.execution.budget",
                    f"One execution in twenty {e.model.words} ends with a margin below {worst:.1f} mm: "
                    f"the planned {e.worst.planned_mm:.1f} mm do not cover the errors to be expected.",
                    ("MAR-7", *e.model.rows),
                )
            )  # fmt: skip
    return out
