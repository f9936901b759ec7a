"""Anatomical frames: handedness, axes and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.anatomy.frames import anterior_pelvic_plane_axes, endplate_frame, pelvis_frame
from sacroplan.errors import AnatomyError

ASIS_L, ASIS_R = np.array([120.0, -80.0, 10.0]), np.array([-120.0, -80.0, 10.0])
PSIS_L, PSIS_R = np.array([40.0, 70.0, 10.0]), np.array([-40.0, 70.0, 10.0])


def test_upright_pelvis_maps_as_the_handbook_says() -> None:
    f = pelvis_frame(ASIS_L, ASIS_R, PSIS_L, PSIS_R, [0, 0, -80])
    p = np.array([3.0, 5.0, 7.0])
    # X = -y, Y = z, Z = -x for an untilted pelvis (FRM-1).
    assert np.allclose(f.to_local(p + [0, 0, -80]), [-5.0, 7.0, -3.0])
    assert np.allclose(np.cross(f.axes[:, 0], f.axes[:, 1]), f.axes[:, 2])


def test_psis_height_turns_x_but_not_z() -> None:
    f = pelvis_frame(ASIS_L, ASIS_R, PSIS_L + [0, 0, 40], PSIS_R + [0, 0, 40], [0, 0, 0])
    assert np.allclose(f.axes[:, 2], [-1, 0, 0])
    assert f.axes[:, 0] @ [0, 0, 1] == pytest.approx(-np.sin(np.arctan2(40, 150)))


def test_points_in_line_are_refused() -> None:
    with pytest.raises(AnatomyError, match="in line"):
        pelvis_frame([10, 0, 0], [-10, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 0])
    with pytest.raises(AnatomyError, match="same point"):
        pelvis_frame(ASIS_L, ASIS_L, PSIS_L, PSIS_R, [0, 0, 0])


def test_anterior_pelvic_plane_holds_its_points() -> None:
    pubis = np.array([0.0, -75.0, -80.0])
    a = anterior_pelvic_plane_axes(ASIS_L, ASIS_R, pubis)
    assert abs((ASIS_L - pubis) @ a[:, 0]) < 1e-9
    assert a[:, 0] @ [0, -1, 0] > 0.99
    assert np.linalg.det(a) == pytest.approx(1.0)


def test_endplate_frame_projects_the_anterior_direction() -> None:
    f = endplate_frame("S1EP", [1, 2, 3], [0, -0.6, 0.8], [0, -1, 0])
    assert np.allclose(f.axes[:, 1], [0, -0.6, 0.8])
    assert np.allclose(f.axes[:, 0], [0, -0.8, -0.6])
    assert np.allclose(f.axes[:, 2], [-1, 0, 0])
    with pytest.raises(AnatomyError, match="in line"):
        endplate_frame("S1EP", [0, 0, 0], [0, 0, 1], [0, 0, 2])
