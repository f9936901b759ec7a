"""Shapes inside bone surfaces, against shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.anatomy.landmarks_shapes import (
    extreme,
    fit_sphere,
    flat_ends,
    mirror_plane,
    plane_segments,
    vertex_areas,
)
from sacroplan.geometry.booleans import difference, split, union
from sacroplan.geometry.frames import AxisFrame, Plane
from sacroplan.geometry.primitives import box, cylinder, sphere
from sacroplan.geometry.surface import Surface


def _fit(surface: Surface, concave: bool):
    areas = np.linalg.norm(surface.area_vectors, axis=1)
    return fit_sphere(
        surface.triangles.mean(axis=1), surface.face_normals, areas, (17.0, 32.0), concave
    )


def test_femoral_head_on_a_neck_is_found() -> None:
    centre = np.array([12.0, -30.0, 55.0])
    bone = union(sphere(centre, 23.0, 48), cylinder(centre, centre + [50.0, 0.0, -40.0], 12.0, 64))
    fit = _fit(bone, concave=False)
    assert fit is not None
    assert np.linalg.norm(fit.centre - centre) < 0.1
    assert fit.radius_mm == pytest.approx(23.0, abs=0.15)


@pytest.mark.parametrize("keep_mm", [4.0, 12.0])
def test_head_cut_by_the_image_still_gives_its_centre(keep_mm: float) -> None:
    head, _ = split(sphere([0, 0, 0], 23.0, 64), Plane([0.0, 0.0, -keep_mm], [0.0, 0.0, 1.0]))
    assert head is not None
    fit = _fit(head, concave=False)
    assert fit is not None
    assert np.linalg.norm(fit.centre) < 0.2
    assert fit.spread < 0.2


def test_socket_is_concave_and_a_ball_is_not() -> None:
    at = AxisFrame("b", np.zeros(3), np.eye(3))
    block = box(at, [-45.0, -45.0, -45.0], [45.0, 45.0, 5.0])
    socket = difference(block, sphere([3.0, 2.0, 5.0], 26.0, 64))
    fit = _fit(socket, concave=True)
    assert fit is not None
    assert np.linalg.norm(fit.centre - [3.0, 2.0, 5.0]) < 0.1
    assert _fit(sphere([0, 0, 0], 26.0, 48), concave=True) is None


def test_a_box_has_no_sphere() -> None:
    at = AxisFrame("b", np.zeros(3), np.eye(3))
    fit = _fit(box(at, [-40.0, -30.0, -20.0], [40.0, 30.0, 20.0]), concave=False)
    assert fit is None


def test_mirror_plane_of_a_lopsided_body() -> None:
    rng = np.random.default_rng(3)
    half = rng.uniform([-20, -30, 1], [20, 30, 40], (1500, 3))
    points = np.concatenate([half, half * [1, 1, -1]])
    # A tenth of the points grows on one side only.
    spur = rng.uniform([15, -5, 30], [25, 5, 45], (200, 3))
    turn = np.radians(9.0)
    r = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    cloud = np.concatenate([points, spur]) @ r.T + [5.0, 6.0, 7.0]
    point, normal = mirror_plane(cloud, np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert np.degrees(np.linalg.norm(np.cross(normal, r @ [0, 0, 1]))) < 0.2
    assert abs((point - [5.0, 6.0, 7.0]) @ normal) < 0.1


def test_plane_segments_measure_a_section() -> None:
    body = cylinder([0, 0, -10], [0, 0, 10], 7.0, 96)
    cut = plane_segments(body, np.zeros(3), np.array([1.0, 0, 0]), np.array([0.0, 1, 0]))
    length = np.linalg.norm(cut[:, 1] - cut[:, 0], axis=1).sum()
    assert length == pytest.approx(2 * 96 * 7.0 * np.sin(np.pi / 96), rel=1e-9)


def test_flat_ends_tell_a_cut_from_a_round_end() -> None:
    ball = sphere([0, 0, 0], 40.0, 64)
    top, _ = split(ball, Plane([0, 0, -5.0], [0, 0, 1.0]))
    assert top is not None
    assert [(a, s) for a, s, _ in flat_ends(top)] == [(2, -1)]
    assert flat_ends(ball) == []


def test_extreme_point_stands_on_the_tangent_plane() -> None:
    ball = sphere([1.0, 2.0, 3.0], 20.0, 48)
    d = np.array([0.6, 0.0, 0.8])
    p = extreme(ball.vertices, vertex_areas(ball), d)
    assert np.linalg.norm(p - ([1.0, 2.0, 3.0] + 20.0 * d)) < 0.4
    assert p @ d == pytest.approx((ball.vertices @ d).max(), abs=1e-9)
