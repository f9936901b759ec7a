"""The Monte Carlo against an analytic case, its symmetry, its determinism, its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.fixation.bone import one_bone
from sacroplan.fixation.screws import at
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.navigation.accuracy import ErrorModel, Target, errors, published, simulate, wilson

AXES = AxisFrame("x anterior, y cranial, z right", [0, 0, 0], np.array(
    [[0.0, 0, -1.0], [-1.0, 0, 0], [0, 1.0, 0]]
))  # fmt: skip


def _target(side: str = "right", lateral_mm: float = 50.0) -> Target:
    """A screw forwards with a wall 2 mm beside its thread medially, far walls elsewhere."""
    sign = -1.0 if side == "right" else 1.0
    low, high = sorted((sign * -5.5, sign * lateral_mm))
    bone = box(AxisFrame("b", [0, 0, 0], np.eye(3)), [low, -80, -50], [high, 0.01, 50])
    screw = at(f"L5_{side}", "L5", side, "pedicle", [0, 0, 0], [0, -1, 0], 7.0, 45.0)
    return Target(screw, one_bone(bone), 6.0, AXES)


def _model(name: str, mm: float) -> ErrorModel:
    return ErrorModel(name, mm, mm, (), 0.7, 0.7)


def test_errors_have_the_published_mean_and_spread_and_no_direction() -> None:
    got = errors(np.random.default_rng(3), 400_000, 1.9, 0.79)
    length = np.linalg.norm(got, axis=1)
    assert length.mean() == pytest.approx(1.9, abs=0.01)
    assert length.std() == pytest.approx(1.5, abs=0.02)
    assert np.abs(got.mean(axis=0)).max() < 0.01
    # A component of a uniform direction is uniform from -1 to 1.
    assert np.abs(got[:, 2] / length).mean() == pytest.approx(0.5, abs=0.002)


def test_share_of_breaches_is_that_of_the_law() -> None:
    # Tail and tip move together only in their x; equal errors at both ends bound the answer.
    model = _model("test", 2.0)
    got = simulate([_target()], model, 20_000).outcomes[0]
    rng = np.random.default_rng(9)
    sigma = np.sqrt(np.log1p(0.7**2))
    length = rng.lognormal(np.log(2.0) - 0.5 * sigma**2, sigma, (400_000, 2))
    x = length * rng.uniform(-1.0, 1.0, length.shape)
    # The deepest point towards the wall lies at the tip or where the thread begins to count.
    at_start = x[:, 0] + (x[:, 1] - x[:, 0]) * 6.0 / 45.0
    breach = np.maximum(at_start, x[:, 1]) - 2.0
    for grade, low, high in (("A", -99.0, 0.0), ("B", 0.0, 2.0), ("C", 2.0, 4.0)):
        share = float(((breach > low) & (breach <= high)).mean())
        assert got.grades[grade].value == pytest.approx(share, abs=0.012)
    assert got.worst == "medial"
    assert got.directions["medial"].value > 0.06 > got.directions["lateral"].value


def test_left_and_right_are_mirror_images_in_law() -> None:
    model = published("ROB-2")
    left, right = (simulate([_target(s)], model, 20_000).outcomes[0] for s in ("left", "right"))
    assert left.worst == right.worst == "medial"
    assert left.grades["A"].value == pytest.approx(right.grades["A"].value, abs=0.015)


def test_same_seed_same_figures_and_more_error_is_worse() -> None:
    small, large = _model("s", 1.0), _model("l", 4.0)
    one, two = (simulate([_target()], small, 2000, 5).outcomes[0] for _ in range(2))
    assert one.grades == two.grades
    assert one.breach95_mm == two.breach95_mm
    assert simulate([_target()], large, 2000, 5).acceptable().value < one.acceptable.value


def test_a_registration_moves_all_screws_and_makes_it_worse() -> None:
    model = published("ROB-2")
    covariance = np.diag([1e-6, 1e-6, 1e-6, 1.0, 1.0, 1.0])
    alone = simulate([_target()], model, 5000).acceptable().value
    moved = simulate([_target()], model, 5000, registration=(covariance, np.zeros(3)))
    assert moved.acceptable().value < alone


def test_shares_add_up_and_converge() -> None:
    got = simulate([_target()], published("ROB-2"), 10_000).outcomes[0]
    assert sum(s.count for s in got.grades.values()) == 10_000
    assert [c for c, _ in got.running] == [100, 300, 1000, 3000, 10_000]
    low, high = got.acceptable.interval
    assert low <= got.running[-1][1] <= high
    assert abs(got.running[-2][1] - got.running[-1][1]) < 3.0 * (high - low)


def test_wilson_interval() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(PlanError, match="too few"):
        simulate([_target()], published("ROB-2"), 10)
