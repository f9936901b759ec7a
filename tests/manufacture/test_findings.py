"""Supports, trapped powder and holes on parts whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.geometry import booleans
from sacroplan.geometry.frames import AxisFrame, Rigid
from sacroplan.geometry.primitives import box, cylinder, sphere
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.tree import face_tree
from sacroplan.manufacture.checks import check_part
from sacroplan.manufacture.findings import Hole, measure_holes, pockets, supports

HERE = AxisFrame("test", np.zeros(3), np.eye(3))
UP = np.array([0.0, 0.0, 1.0])


def block(low: list[float], high: list[float]) -> Surface:
    return box(HERE, np.array(low), np.array(high))


def test_supports_fill_the_room_under_a_table() -> None:
    table = booleans.union(block([0, 0, 10], [20, 20, 12]), block([8, 8, 0], [12, 12, 11]))
    found = supports(table, face_tree(table), UP, 45.0, 0.1)
    # Its faces are triangles: the leg's foot print takes no support, the rest stands 10 mm high.
    assert found.volume_mm3 == pytest.approx((400.0 - 16.0) * 10.0)
    assert found.height_mm == pytest.approx(10.0)
    assert (table.face_normals[found.faces] @ UP < -0.99).all()
    assert supports(table, face_tree(table), -UP, 45.0, 0.1).volume_mm3 == 0.0
    assert len(supports(table, face_tree(table), UP, None, 0.1).faces) == 0


def test_supports_stand_on_the_part_itself() -> None:
    # A roof 6 mm over a floor: supports end on the floor, not on the plate.
    part = booleans.union(
        block([0, 0, 0], [20, 20, 4]),
        block([0, 0, 0], [4, 20, 12]),
        block([0, 0, 10], [20, 20, 12]),
    )
    found = supports(part, face_tree(part), UP, 45.0, 0.1)
    assert found.volume_mm3 == pytest.approx(16.0 * 20.0 * 6.0)


def bottle(neck_mm: float) -> Surface:
    """A block with a chamber whose neck is ``neck_mm`` wide."""
    solid = block([0, 0, 0], [20, 20, 20])
    neck = cylinder([10.0, 10.0, 10.0], [10.0, 10.0, 25.0], 0.5 * neck_mm, 48)
    return booleans.difference(solid, sphere([10.0, 10.0, 10.0], 5.0, 48), neck)


def test_powder_is_trapped_behind_a_narrow_neck() -> None:
    tight = pockets(bottle(0.6), 1.0)
    assert len(tight.points) == 1
    assert tight.points[0] == pytest.approx([10.0, 10.0, 10.0], abs=1.0)
    # Where a ball of 1 mm fits: a sphere of 4.5 mm.
    assert tight.room_mm3[0] == pytest.approx(4.0 / 3.0 * np.pi * 4.5**3, rel=0.1)
    assert len(pockets(bottle(2.5), 1.0).points) == 0
    check = check_part(bottle(0.2), "bottle", "EBM")
    assert "print.powder" in [d.code for d in check.doubts]
    assert check.voids == 0
    assert check.metrics()["print.bottle.pockets"].value == 1
    assert any(w.name == "trapped powder" for w in check.where)


def test_an_enclosed_void_is_a_pocket_too_but_told_once() -> None:
    solid = booleans.difference(block([0, 0, 0], [20, 20, 20]), sphere([10.0, 10.0, 10.0], 5.0, 48))
    check = check_part(solid, "void", "LPBF")
    assert check.voids == 1
    assert check.pockets is not None
    assert len(check.pockets.points) == 1
    codes = [d.code for d in check.doubts]
    assert "print.voids" in codes
    assert "print.powder" not in codes


def test_holes_are_measured_where_they_are() -> None:
    rigid = Rigid(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([5.0, -80.0, 300.0]))
    plate = booleans.difference(
        block([0, 0, 0], [40, 20, 6]),
        cylinder([10.0, 10.0, -1.0], [10.0, 10.0, 7.0], 3.0, 96),
        cylinder([25.0, 10.0, -1.0], [25.0, 10.0, 7.0], 0.2, 48),
    ).transformed(rigid)
    axis = rigid.directions(UP)
    planned = [
        Hole("wide", rigid.points(np.array([10.0, 10.0, 3.0])), axis, 6.0),
        Hole("fine", rigid.points(np.array([25.0, 10.0, 3.0])), axis, 0.4),
        Hole("missing", rigid.points(np.array([33.0, 10.0, 30.0])), axis, 3.0),
    ]
    wide, fine, missing = measure_holes(face_tree(plate), planned, axis)
    # Facets are chords: 96 of them shorten the diameter by 0.05 %.
    assert wide.measured_mm == pytest.approx(6.0, abs=0.005)
    assert fine.measured_mm == pytest.approx(0.4, abs=0.002)
    assert missing.measured_mm is None
    assert wide.lying_deg == pytest.approx(0.0, abs=1e-5)
    check = check_part(plate, "plate", "LPBF", axis, planned[:2])
    assert [d.code for d in check.doubts if "hole" in d.code] == ["print.hole"]
    assert check.metrics()["print.plate.hole.fine"].within is False
    lying = check_part(
        booleans.difference(
            block([0, 0, 0], [40, 20, 20]), cylinder([20.0, -1, 10.0], [20.0, 21.0, 10.0], 5.0, 96)
        ),
        "bored", "LPBF", UP, [Hole("bore", np.array([20.0, 10.0, 10.0]), np.array([0.0, 1.0, 0.0]), 10.0)],
    )  # fmt: skip
    assert "print.hole_lying" in [d.code for d in lying.doubts]
    assert lying.holes[0].lying_deg == pytest.approx(90.0)


def test_figures_and_places_of_a_thin_wall() -> None:
    part = booleans.difference(block([0, 0, 0], [10, 10, 10]), block([2, -1, 2], [9.75, 11, 8]))
    check = check_part(part, "thin", "LPBF")
    assert check.mass_g == pytest.approx(part.volume_mm3 / 1000.0 * 4.43)
    low, middle, high = check.wall_share_mm
    assert low <= middle <= high
    assert low == pytest.approx(0.25, abs=1e-6)
    thin = next(w for w in check.where if w.name == "thin walls")
    assert (thin.points[:, 0] > 9.7).all()
    assert (thin.values < 0.4).all()
    assert check_part(part, "thin", "SLS").mass_g is None
