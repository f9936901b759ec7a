"""The execution simulation against closed forms and against the studies it is fitted to."""

import numpy as np
import pytest
from scipy.stats import norm

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, Plane
from sacroplan.geometry.primitives import box, sphere
from sacroplan.resection.cuts import osteotomy
from sacroplan.resection.execution import (
    CutExecution,
    ErrorModel,
    draw,
    error_model,
    margins_after,
    share_within,
    tumour_field,
    wilson,
)
from sacroplan.resection.margin import cut_margin

ORIGIN = AxisFrame("test", np.zeros(3), np.eye(3))


@pytest.fixture(scope="module")
def flat():
    """A face at x = 20.5, a ball of radius 12 whose nearest point is 3.5 mm in front of it."""
    bone = box(ORIGIN, [0, -30, -20], [80, 30, 20])
    cut = osteotomy("c", "bone", bone, Plane([20, 0, 0], [1, 0, 0]), 1.0, None)
    tumour = sphere([36, 0, 0], 12.0, rings=64)
    return cut, tumour, cut_margin(cut, tumour), tumour_field(tumour)


@pytest.mark.parametrize("sd", [1.0, 2.5])
@pytest.mark.parametrize("limit", [0.0, 2.0, 4.0])
def test_a_plane_before_a_ball_gives_the_closed_form(flat, sd, limit):
    cut, _, margin, field = flat
    assert margin.minimum_mm == pytest.approx(3.5, abs=0.02)
    model = ErrorModel("m", "m", sd, 0.0, edge_sd_mm=0.8)
    errors = draw(model, margin.points, cut.plane.normal, 4000, 7)
    found = CutExecution("c", 3.5, np.sort(margins_after(margin, cut, field, errors)))
    p, low, high = found.below(limit)
    # Offset along the normal and edge are the only errors that tell: a normal with both variances.
    exact = norm.cdf((limit - margin.minimum_mm) / np.hypot(sd, 0.8))
    assert low - 0.003 <= exact <= high + 0.003
    assert p == pytest.approx(exact, abs=0.03)


def test_a_tilted_plane_before_a_ball_gives_the_closed_form(flat):
    cut, _, margin, field = flat
    model = ErrorModel("m", "m", 2.0, 4.0)
    errors = draw(model, margin.points, cut.plane.normal, 4000, 11)
    after = margins_after(margin, cut, field, errors)
    # Distance from the ball's centre to the moved plane, less its radius.
    normals = errors.turns @ cut.plane.normal
    centre = margin.points.mean(axis=0)
    exact = np.einsum("di,di->d", normals, np.array([36.0, 0, 0]) - centre - errors.shifts) - 12.0
    assert np.abs(after - exact).max() < 0.06


@pytest.mark.parametrize(
    ("row", "technique", "shares"),
    [
        ("PSI-04", "guide", {2: 47.5, 5: 85.6}),
        ("PSI-04", "navigated", {2: 32.5, 5: 71.1}),
        ("PSI-04", "freehand", {2: 25.8, 5: 67.0}),
        ("PSI-01", "freehand", {5: 52.0}),
        ("PSI-03", "guide", {5: 90.0, 10: 100.0}),
        ("PSI-03", "freehand", {5: 47.0, 10: 73.0}),
    ],
)
def test_the_error_models_give_back_their_studies_on_a_flat_cut(row, technique, shares):
    u, v = np.meshgrid(np.arange(-30.0, 30.0), np.arange(-12.0, 12.0))
    points = np.stack([u.ravel(), v.ravel(), np.zeros(u.size)], axis=1)
    model = error_model(row, technique)
    for limit, percent in shares.items():
        found = 100 * share_within(points, np.array([0, 0, 1.0]), model, limit, draws=1500)
        assert found == pytest.approx(percent, abs=5.0)


def test_a_study_that_does_not_tell_of_a_technique_is_refused():
    with pytest.raises(PlanError, match="tells nothing of 'navigated'"):
        error_model("PSI-01", "navigated")


def test_wilson_against_known_values():
    # Newcombe 1998, Stat Med 17:857, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20)[1:] == pytest.approx((0.0, 0.1611), abs=1e-4)
    with pytest.raises(PlanError, match="at least one draw"):
        wilson(0, 0)


def test_the_same_seed_gives_the_same_draws(flat):
    cut, _, margin, _ = flat
    model = error_model("PSI-04", "guide")
    a, b = (draw(model, margin.points, cut.plane.normal, 50, 3) for _ in range(2))
    assert np.array_equal(a.shifts, b.shifts)
    assert np.array_equal(a.turns, b.turns)
