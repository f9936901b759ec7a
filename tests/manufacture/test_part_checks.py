"""Printability checks against parts whose faults are known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sacroplan.errors import GeometryError
from sacroplan.geometry import booleans
from sacroplan.geometry.frames import AxisFrame, Rigid
from sacroplan.geometry.primitives import box, cylinder, sphere
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.geometry.tree import face_tree
from sacroplan.manufacture.checks import check_part, limits, overhang_percent

HERE = AxisFrame("test", np.zeros(3), np.eye(3))


def block(*size: float) -> Surface:
    return box(HERE, np.zeros(3), np.array(size))


def turned(surface: Surface) -> Surface:
    a, b = 0.4, 1.1
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    rz = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return surface.transformed(Rigid(rx @ rz, np.array([30.0, -200.0, 7.0])))


def test_a_block_is_sound() -> None:
    check = check_part(block(40.0, 20.0, 6.0), "block", "LPBF")
    assert check.sound
    assert check.doubts == ()
    assert check.volume_mm3 == pytest.approx(4800.0)
    assert check.wall_min_mm == pytest.approx(6.0, abs=1e-9)
    assert check.size_mm == pytest.approx([6.0, 20.0, 40.0])
    assert check.overhang_percent == 0.0
    assert check.metrics()["print.block.wall.min"].within is True


def test_figures_do_not_depend_on_position() -> None:
    part = booleans.difference(
        block(40.0, 20.0, 6.0), cylinder([10.0, 8.0, -1.0], [10.0, 8.0, 7.0], 4.0)
    )
    here, there = (check_part(p, "part", "LPBF") for p in (part, turned(part)))
    assert there.size_mm == pytest.approx(here.size_mm, abs=1e-6)
    assert there.wall_min_mm == pytest.approx(here.wall_min_mm, abs=1e-6)
    assert there.overhang_percent == pytest.approx(here.overhang_percent, abs=1e-6)
    assert there.volume_mm3 == pytest.approx(here.volume_mm3)


def test_open_surface_is_a_finding() -> None:
    part = block(10.0, 10.0, 10.0)
    opened = Surface(part.vertices, part.faces[1:])
    check = check_part(opened, "opened", "LPBF")
    assert not check.sound
    assert check.volume_mm3 is None
    assert check.wall_min_mm is None
    assert check.voids is None
    assert [d.code for d in check.doubts] == ["print.open"]
    sheet = Surface(part.vertices, part.faces[np.ptp(part.triangles[:, :, 0], axis=1) == 0.0][:2])
    assert not check_part(sheet, "sheet", "LPBF").closed
    with pytest.raises(GeometryError, match="no surface"):
        check_part(Surface(part.vertices, part.faces[:0]), "empty", "LPBF")


def test_thin_wall_is_found_where_it_is() -> None:
    # A 10 mm block with a slot that leaves a wall of 0.25 mm at x = 10.
    part = booleans.difference(
        block(10.0, 10.0, 10.0), box(HERE, np.array([2.0, -1.0, 2.0]), np.array([9.75, 11.0, 8.0]))
    )
    check = check_part(part, "thin", "LPBF")
    assert check.wall_min_mm == pytest.approx(0.25, abs=1e-9)
    assert check.thinnest is not None
    assert check.thinnest[0] > 9.7
    assert "print.wall" in [d.code for d in check.doubts]
    # Both faces of the wall, 10 x 6 each, but for 0.8 mm along the thick material it ends in.
    assert check.thin_percent == pytest.approx(100.0 * 20.0 * 4.4 / part.area_mm2, rel=0.05)


def test_a_thin_plate_is_all_wall() -> None:
    check = check_part(turned(block(20.0, 15.0, 0.3)), "plate", "LPBF")
    assert check.wall_min_mm == pytest.approx(0.3, abs=1e-6)
    assert check.metrics()["print.plate.wall.min"].within is False
    assert check.metrics()["print.plate.wall.thin"].within is False
    # All but the rim, whose rays run along the plate.
    rim = 2 * (20.0 + 15.0) * 0.3
    assert check.thin_percent == pytest.approx(100.0 * 600.0 / (600.0 + rim), rel=0.02)
    # A pin is a wall too; its facets are chords of the circle.
    pin = check_part(cylinder([0.0, 0.0, 0.0], [0.0, 9.0, 9.0], 0.15), "pin", "LPBF")
    assert pin.wall_min_mm == pytest.approx(0.3, abs=0.02)


def test_a_thin_plate_near_thick_material_is_still_thin() -> None:
    # 0.3 mm plates 0.1 mm apart from a block, or standing on it.
    thick = block(20.0, 20.0, 8.0)
    leaf = box(HERE, np.array([0.0, 0.0, 8.1]), np.array([20.0, 20.0, 8.4]))
    foot = box(HERE, np.array([-2.0, 0.0, -3.0]), np.array([0.1, 20.0, 12.0]))
    part = booleans.union(thick, leaf, foot)
    check = check_part(part, "leaf", "LPBF")
    assert check.bodies == 1
    assert check.wall_min_mm == pytest.approx(0.3, abs=1e-6)
    assert check.thinnest is not None
    assert check.thinnest[2] > 8.0
    fin = booleans.union(thick, box(HERE, np.array([5.0, 5.0, 7.0]), np.array([5.3, 15.0, 12.0])))
    check = check_part(fin, "fin", "LPBF")
    assert check.wall_min_mm == pytest.approx(0.3, abs=1e-6)
    assert check.thinnest[2] > 8.0


@pytest.mark.parametrize(("angle", "thin"), [(90.0, False), (60.0, False), (35.0, False),
                                             (20.0, True), (8.0, True)])  # fmt: skip
def test_an_edge_is_no_wall_but_a_lip_is(angle: float, thin: bool) -> None:
    # A prism with one edge of the given angle along y, cut from a block.
    t = np.deg2rad(angle)
    size = 12.0
    top = np.tan(min(t, np.deg2rad(89.999))) * size
    v = np.array(
        [[0, 0, 0], [size, 0, 0], [size, 0, top], [0, 30, 0], [size, 30, 0], [size, 30, top]]
    )
    if angle == 90.0:
        wedge = block(12.0, 30.0, 12.0)
    else:
        f = [[0, 1, 2], [3, 5, 4], [0, 3, 4], [0, 4, 1], [1, 4, 5], [1, 5, 2], [0, 2, 5], [0, 5, 3]]
        wedge = Surface(v.astype(float), np.array(f, dtype=np.int32))
    assert wedge.is_closed
    assert wedge.volume_mm3 > 0
    check = check_part(turned(wedge), "wedge", "LPBF")
    assert check.wall_min_mm is not None
    assert check.chord_min_mm is not None
    if thin:
        # At the tip the thickest chord within reach is that at the reach.
        assert check.wall_min_mm == pytest.approx(0.8 * np.tan(t), rel=0.1)
        assert check.metrics()["print.wedge.wall.min"].within is False
        share = 2 * 30.0 * (0.4 / np.tan(t) - 0.8) / wedge.area_mm2
        assert check.thin_percent == pytest.approx(100.0 * share, rel=0.25)
    else:
        assert check.wall_min_mm > 0.4
        assert check.thin_percent == 0.0
        # The ray alone would have called the acute edge thin.
        assert (check.chord_min_mm < 0.3) == (angle < 90.0)
    assert "print.wedge.wall.chord_min" in check.metrics()
    assert check.metrics()["print.wedge.wall.chord_min"].within is not False


def test_wall_of_a_hollow_ball() -> None:
    outer, inner = sphere(np.zeros(3), 10.0, 48), sphere(np.zeros(3), 8.5, 48)
    hollow = concatenate([outer, Surface(inner.vertices, inner.faces[:, ::-1])])
    check = check_part(hollow, "hollow", "LPBF")
    # Facets of the two balls: chords cut the wall by up to 1 - cos(pi / 96) of the radius.
    assert check.wall_min_mm == pytest.approx(1.5, abs=0.05)
    assert check.voids == 1
    assert check.void_mm3 == pytest.approx(
        -Surface(inner.vertices, inner.faces[:, ::-1]).volume_mm3
    )
    assert check.bodies == 1
    assert not check.sound
    assert "print.voids" in [d.code for d in check.doubts]


def test_two_bodies_and_crossing_faces() -> None:
    a = block(10.0, 10.0, 10.0)
    apart = concatenate([a, a.transformed(Rigid(np.eye(3), np.array([20.0, 0.0, 0.0])))])
    check = check_part(apart, "two", "LPBF")
    assert check.bodies == 2
    assert check.crossings == 0
    through = concatenate([a, cylinder([5.2, 5.1, -3.0], [5.2, 5.1, 13.0], 2.0)])
    check = check_part(through, "through", "LPBF")
    assert check.crossings > 48
    assert not check.sound
    assert "print.crossings" in [d.code for d in check.doubts]


def test_a_vertex_pushed_through_its_own_part_crosses() -> None:
    part = block(10.0, 10.0, 10.0)
    v = part.vertices.copy()
    v[0] = [12.0, 5.2, 6.1]
    assert face_tree(Surface(v, part.faces)).crossing_faces()[0] > 0


def test_touching_blocks_do_not_cross() -> None:
    a = block(10.0, 10.0, 10.0)
    beside = a.transformed(Rigid(np.eye(3), np.array([10.0, 0.0, 0.0])))
    assert face_tree(concatenate([a, beside])).crossing_faces()[0] == 0
    inside = a.transformed(Rigid(np.eye(3), np.array([10.0 - 1e-3, 1.0, 1.5])))
    assert face_tree(concatenate([a, inside])).crossing_faces()[0] > 0


def test_crossing_pairs_against_all_pairs() -> None:
    rng = np.random.default_rng(5)
    corners = rng.normal(size=(120, 1, 3)) * 3.0 + rng.normal(size=(120, 3, 3))
    soup = Surface(corners.reshape(-1, 3), np.arange(360).reshape(-1, 3))
    expected = {
        (i, j) for i in range(120) for j in range(i + 1, 120) if _meet(corners[i], corners[j])
    }
    count, pairs = face_tree(soup).crossing_faces()
    assert count == len(expected)
    assert count > 10
    assert {tuple(sorted(p)) for p in pairs.tolist()} <= expected


def _meet(s: np.ndarray, t: np.ndarray) -> bool:
    """Independent test: an edge of one triangle solves for a point inside the other."""
    for a, b in ((s, t), (t, s)):
        for i in range(3):
            p, d = a[i], a[(i + 1) % 3] - a[i]
            m = np.stack([d, b[0] - b[1], b[0] - b[2]], axis=1)
            r, u, v = np.linalg.solve(m, b[0] - p)
            if 0 < r < 1 and u > 0 and v > 0 and u + v < 1:
                return True
    return False


def test_overhang_of_a_table() -> None:
    top = box(HERE, np.array([0.0, 0.0, 10.0]), np.array([20.0, 20.0, 12.0]))
    leg = box(HERE, np.array([8.0, 8.0, 0.0]), np.array([12.0, 12.0, 11.0]))
    table = booleans.union(top, leg)
    can = limits("LPBF")
    up = overhang_percent(table, np.array([0.0, 0.0, 1.0]), can)
    assert up == pytest.approx(100.0 * (400.0 - 16.0) / table.area_mm2)
    assert overhang_percent(table, np.array([0.0, 0.0, -1.0]), can) == 0.0
    # The search turns the table over; in powder nothing hangs.
    check = check_part(table, "table", "LPBF")
    assert check.overhang_percent < 0.5 * up
    assert check_part(table, "table", "SLS", np.array([0.0, 0.0, 1.0])).overhang_percent == 0.0
    flat = check_part(table, "table", "LPBF", np.array([0.0, 0.0, 1.0]))
    assert "print.overhang" in [d.code for d in flat.doubts]


def test_too_large_for_the_machine() -> None:
    check = check_part(turned(block(300.0, 20.0, 20.0)), "long", "LPBF")
    assert "print.size" in [d.code for d in check.doubts]
    assert "print.size" not in [
        d.code for d in check_part(block(300.0, 20.0, 20.0), "long", "EBM").doubts
    ]
    with pytest.raises(GeometryError, match="unknown"):
        check_part(block(1.0, 1.0, 1.0), "x", "FDM")  # type: ignore[arg-type]


def test_two_hundred_thousand_faces_in_seconds() -> None:
    ball = sphere(np.zeros(3), 40.0, 224)
    assert len(ball.faces) > 200_000
    tree = face_tree(block(1.0, 1.0, 1.0))
    tree.crossing_faces()  # compiles
    begin = time.process_time()
    count, _ = face_tree(ball).crossing_faces()
    assert count == 0
    assert time.process_time() - begin < 5.0
