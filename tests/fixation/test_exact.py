"""Exact distances of axes to meshes: analytic shapes, and libigl as an independent witness."""

from __future__ import annotations

import igl
import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.fixation.bone import joined, one_bone, walls_of
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box, sphere

EYE = np.eye(3)


def _box(low: list[float], high: list[float]):
    return box(AxisFrame("b", [0, 0, 0], EYE), low, high)


def test_axis_in_a_box() -> None:
    walls = walls_of(_box([-10, -20, -30], [10, 20, 30]))
    a = np.array([[0.0, 0, -20], [4, 0, -20], [0, 0, -20], [0, 0, 20]])
    b = np.array([[0.0, 0, 20], [4, 0, 20], [0, 0, 27], [0, 0, 60]])
    gap, place = walls.gaps(a, b)
    assert gap[:3] == pytest.approx([10.0, 6.0, 3.0])
    # The third comes nearest at its tip, the last crosses the lid a quarter of its way.
    assert place[2] == pytest.approx(1.0)
    assert gap[3] == 0.0
    assert place[3] == pytest.approx(0.25)


def test_a_segment_of_no_length_is_a_point() -> None:
    walls = walls_of(_box([-10, -20, -30], [10, 20, 30]))
    p = np.array([[13.0, 24.0, 0.0], [7.0, 0.0, 0.0]])
    assert walls.gaps(p, p)[0] == pytest.approx([5.0, 3.0])


def test_libigl_agrees_on_random_axes() -> None:
    ball = sphere([0.0, 0, 0], 1.0, 40)
    v = ball.vertices * [60.0, 35.0, 25.0]
    v = v + 4.0 * np.sin(v[:, [1, 2, 0]] / 7.0)
    walls = walls_of(type(ball)(v, ball.faces))
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-50, 50, (2, 60, 3))
    gap, place = walls.gaps(a, b)
    t = np.linspace(0.0, 1.0, 4001)
    for k in range(len(a)):
        p = a[k] + t[:, None] * (b[k] - a[k])
        d2 = igl.point_mesh_squared_distance(p, v, ball.faces)[0]
        step = np.linalg.norm(b[k] - a[k]) / 4000
        assert gap[k] <= np.sqrt(d2.min()) + 1e-9
        assert gap[k] >= np.sqrt(d2.min()) - step
    # The reported place is where that distance is.
    at = a + place[:, None] * (b - a)
    d2 = igl.point_mesh_squared_distance(np.ascontiguousarray(at), v, ball.faces)[0]
    assert np.sqrt(d2) == pytest.approx(gap, abs=1e-6)


def test_early_end_and_reach_keep_their_word() -> None:
    walls = walls_of(_box([-10, -20, -30], [10, 20, 30]))
    a, b = np.array([[7.0, 0, -20], [0.0, 0, -5]]), np.array([[7.0, 0, 20], [0.0, 0, 5]])
    assert walls.gaps(a, b, np.array([5.0, 0.0]))[0][0] < 5.0
    assert walls.gaps(a, b, 0.0, 6.0)[0] == pytest.approx([3.0, 6.0])


def test_a_joint_is_open_and_its_rim_is_wall() -> None:
    one, two = _box([-40, -20, -20], [-1.5, 20, 20]), _box([1.5, -20, -20], [40, 20, 20])
    both = joined([one, two])
    start, end = np.array([[-30.0, 0, 0]]), np.array([[30.0, 0, 0]])
    # Boxes have two faces a side, so a face is joint as a whole or not at all.
    assert all(m.sum() == 2 for m in both.joint)
    assert both.walls.gaps(start, end)[0][0] == pytest.approx(10.0)
    assert one_bone(one).walls.gaps(start, end)[0][0] == 0.0
    inside = both.outside_mm(np.array([[-20.0, 0, 0], [0.0, 0, 0], [20.0, 0, 0]]))
    assert np.all(inside < 0.0)
    assert both.outside_mm(np.array([[0.0, 0, 30.0]]))[0] > 9.0


def test_bones_far_apart_have_no_joint() -> None:
    with pytest.raises(PlanError, match="no joint to cross"):
        joined([_box([0, 0, 0], [9, 9, 9]), _box([30, 0, 0], [39, 9, 9])])
