"""Faults of solids are found, named and placed before anything is cut with them."""

import numpy as np
import pytest

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box, sphere
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.implant.operands import (
    checked,
    crossings,
    holes,
    inverted_pieces,
    open_edges,
    uncrossed,
)

LEVEL = AxisFrame("lps", np.zeros(3), np.eye(3))
BALL = sphere([10.0, 20.0, 30.0], 8.0)
EVERYWHERE = np.array([[-1e3] * 3, [1e3] * 3])


def test_a_proper_solid_passes():
    assert checked(BALL, "ball") is BALL
    assert uncrossed(BALL, "ball", EVERYWHERE) is BALL


def test_missing_faces_are_counted_and_placed():
    centre = BALL.triangles.mean(axis=1)
    top, low = int(np.argmax(centre[:, 2])), int(np.argmin(centre[:, 2]))
    keep = np.ones(len(BALL.faces), dtype=bool)
    keep[[top, low]] = False
    open_ = Surface(BALL.vertices, BALL.faces[keep])
    assert len(open_edges(open_)) == 6
    found = holes(open_)
    assert len(found) == 2
    assert np.sort(found[:, 2]) == pytest.approx([22.0, 38.0], abs=1.0)
    with pytest.raises(GeometryError, match=r"L5 is open: 6 open edges in 2 holes near .* mm LPS"):
        checked(open_, "L5")


def test_a_face_turned_round_is_an_open_edge():
    faces = BALL.faces.copy()
    faces[7] = faces[7][::-1]
    assert len(open_edges(Surface(BALL.vertices, faces))) > 0
    with pytest.raises(GeometryError, match="is open"):
        checked(Surface(BALL.vertices, faces), "L5")


def test_inside_out_and_empty():
    with pytest.raises(GeometryError, match=r"hip_left is inside out: it encloses -2\.\d cm3"):
        checked(Surface(BALL.vertices, BALL.faces[:, ::-1]), "hip_left")
    with pytest.raises(GeometryError, match="specimen is empty"):
        checked(Surface(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32)), "specimen")


def test_a_cavity_is_no_fault_an_inverted_piece_is():
    inner = sphere([10.0, 20.0, 30.0], 4.0)
    cavity = concatenate([BALL, Surface(inner.vertices, inner.faces[:, ::-1])])
    assert checked(cavity, "bone") is cavity
    away = sphere([60.0, 20.0, 30.0], 4.0)
    turned = concatenate([BALL, Surface(away.vertices, away.faces[:, ::-1])])
    assert inverted_pieces(turned)[0] == pytest.approx([60.0, 20.0, 30.0], abs=0.1)
    with pytest.raises(GeometryError, match=r"1 piece inside out near \(60, 20, 30\)"):
        checked(turned, "bone")


def test_crossing_faces_are_placed_and_only_matter_near():
    crossed = concatenate([box(LEVEL, [0, 0, 0], [10, 10, 10]), box(LEVEL, [8, 2, 2], [20, 6, 6])])
    count, middles = crossings(crossed)
    assert count > 0
    assert np.all(np.abs(middles - [10.0, 4.0, 4.0]) < [4.0, 7.0, 7.0])
    with pytest.raises(GeometryError, match=r"sacrum crosses itself: .* near"):
        uncrossed(crossed, "sacrum", EVERYWHERE)
    far = np.array([[100.0] * 3, [200.0] * 3])
    assert uncrossed(crossed, "sacrum", far) is crossed
