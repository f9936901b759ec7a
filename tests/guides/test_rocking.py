"""The stability figure on shapes whose free motions are known."""

import numpy as np
import pytest

from sacroplan.guides.rocking import constraint

FACE = np.array([[0.0, 0, 0], [30, 0, 0], [0, 0, -20], [30, 0, -20]])
ACROSS = np.array([0.0, 1.0, 0.0])


def figure(points, normals, area=None):
    area = np.ones(len(points)) if area is None else area
    return constraint(points, normals, area, FACE, ACROSS, 0.2)


def ball(radius=25.0, cap=0.9):
    rng = np.random.default_rng(4)
    n = rng.normal(size=(4000, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    n = n[n[:, 2] > np.cos(cap)]
    return radius * n, n


def tube(radius=15.0, length=60.0):
    a = np.linspace(-1.0, 1.0, 41)
    x = np.linspace(-length / 2, length / 2, 41)
    a, x = (v.ravel() for v in np.meshgrid(a, x))
    n = np.stack([np.zeros_like(a), np.sin(a), np.cos(a)], axis=1)
    return np.stack([x, radius * n[:, 1], radius * n[:, 2]], axis=1), n


def corner(size=25.0):
    u = np.linspace(0.5, size, 15)
    a, b = (v.ravel() for v in np.meshgrid(u, u))
    points, normals = [], []
    for k in range(3):
        p = np.zeros((len(a), 3))
        p[:, (k + 1) % 3], p[:, (k + 2) % 3] = -a, -b
        points.append(p)
        normals.append(np.tile(np.eye(3)[k], (len(a), 1)))
    return np.concatenate(points), np.concatenate(normals)


def velocity(c, at):
    """Speed of the weakest motion at a point."""
    return c.weakest_shift + np.cross(c.weakest_turn, at - c.centre)


def test_a_guide_on_a_ball_turns_about_its_centre():
    c = figure(*ball())
    assert c.figure < 1e-6
    # The ball's own centre stands still: the free motion is a turn about it.
    size = np.linalg.norm(c.weakest_turn)
    assert size > 0
    assert np.linalg.norm(velocity(c, np.zeros(3))) < 1e-6 * size * 25


def test_a_guide_on_a_tube_slides_along_it_or_turns_about_it():
    c = figure(*tube())
    assert c.figure < 1e-6
    axis = np.array([1.0, 0.0, 0.0])
    turn, shift = c.weakest_turn, velocity(c, np.zeros(3))
    assert np.linalg.norm(np.cross(turn, axis)) < 1e-6
    assert np.linalg.norm(np.cross(shift, axis)) < 1e-6


def test_a_box_corner_holds():
    c = figure(*corner(), np.full(675, 625 / 225))
    assert c.figure > 0.2
    assert c.seating_mm < 0.6


def test_a_smaller_footprint_holds_less():
    figures = [figure(*corner(size)).figure for size in (30.0, 20.0, 10.0, 5.0)]
    assert figures == sorted(figures, reverse=True)
    assert figures[-1] < 0.5 * figures[0]
    errors = [
        figure(*corner(size), np.full(675, size**2 / 225)).seating_mm for size in (30.0, 10.0)
    ]
    assert errors[1] > errors[0]


def test_the_figure_does_not_depend_on_where_the_case_lies():
    from scipy.spatial.transform import Rotation

    points, normals = corner()
    r = Rotation.from_rotvec([0.4, 1.0, -2.0]).as_matrix()
    moved = constraint(
        points @ r.T + 100, normals @ r.T, np.ones(len(points)), FACE @ r.T + 100, r @ ACROSS, 0.2
    )
    here = figure(points, normals)
    assert moved.figure == pytest.approx(here.figure, rel=1e-9)
    assert moved.seating_mm == pytest.approx(here.seating_mm, rel=1e-9)
