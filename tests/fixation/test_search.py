"""The corridor search on bones whose best corridor is known, and against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.fixation import search as hunt
from sacroplan.fixation import terrain
from sacroplan.fixation.bone import joined, one_bone
from sacroplan.fixation.search import search, weights
from sacroplan.fixation.terrain import Driver, Ground, Keep, Window, ground
from sacroplan.geometry.booleans import union
from sacroplan.geometry.frames import AxisFrame, unit
from sacroplan.geometry.primitives import box, cylinder
from sacroplan.geometry.surface import Surface

LENGTHS = np.array([60.0, 70.0, 80.0, 90.0])
NOTHING = Keep.of([])
WAY = unit([1.0, -0.3, 0.5])
"""Direction of the drawn bone, which the window does not know exactly."""


def _window(aim: list[float], skip_mm: float = 6.0) -> Window:
    low, high = np.array([-14.0, -14.0, -14.0]), np.array([14.0, 14.0, 14.0])
    return Window(np.zeros(3), np.eye(3), low, high, unit(aim), 20.0, 20.0, 0.1, skip_mm)


def _rod_of_bone(radius: float) -> Ground:
    bone = cylinder(-1.0 * WAY, 120.0 * WAY, radius, 64)
    return ground(one_bone(bone), [bone], [bone])


def test_the_axis_of_a_round_bone_is_found() -> None:
    field = _rod_of_bone(9.0)
    # The flat end is wall too, so clearance counts from farther behind it than the bone is thick.
    window = _window([1.0, -0.2, 0.4], 10.0)
    best = search(field, window, LENGTHS, 5.0, NOTHING, weights("clearance"))[0]
    flat = 9.0 * np.cos(np.pi / 64)
    assert best.gap_mm == pytest.approx(flat, abs=0.15)
    assert best.direction @ WAY > np.cos(np.radians(0.7))
    assert best.length_mm == 90.0


def test_the_found_gap_is_the_exact_one() -> None:
    field = _rod_of_bone(9.0)
    window = _window([1.0, -0.2, 0.4])
    for f in search(field, window, LENGTHS, 5.0, NOTHING, weights("clearance")):
        a, b = f.entry + 6.0 * f.direction, f.entry + f.length_mm * f.direction
        assert field.bone.walls.gaps(a, b)[0][0] == pytest.approx(f.gap_mm, abs=1e-9)


def test_a_bone_too_thin_gives_nothing() -> None:
    found = search(
        _rod_of_bone(4.0), _window([1.0, -0.2, 0.4]), LENGTHS, 5.0, NOTHING, weights("clearance")
    )
    assert found == []


def test_other_metal_is_kept_clear_of() -> None:
    bone = box(AxisFrame("b", [0, 0, 0], np.eye(3)), [0, -30, -30], [110, 30, 30])
    field = ground(one_bone(bone), [bone], [bone])
    keep = Keep.of([(np.array([20.0, 0, 0]), np.array([90.0, 0, 0]), 9.0)])
    found = search(field, _window([1.0, 0.0, 0.0]), LENGTHS, 6.0, keep, weights("clearance"))
    assert found
    for f in found:
        t = np.linspace(0.0, f.length_mm, 400)
        p = f.entry + t[:, None] * f.direction
        near = p[(p[:, 0] > 20.0) & (p[:, 0] < 90.0)]
        assert np.hypot(near[:, 1], near[:, 2]).min() >= 9.0 - 1e-3


def _waisted() -> Surface:
    """Two blocks and a narrow oblique bridge: what a corridor looks like."""
    tilt = np.radians(12.0)
    turn = np.array(
        [[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1.0]]
    )
    return union(
        box(AxisFrame("a", [0, 0, 0], np.eye(3)), [0, -22, -20], [30, 22, 20]),
        box(AxisFrame("b", [45, 8, 2], turn), [-25, -8, -7], [25, 8, 7]),
        box(AxisFrame("c", [90, 16, 0], np.eye(3)), [-28, -20, -22], [28, 20, 22]),
    )


def test_brute_force_finds_nothing_better() -> None:
    bone = _waisted()
    field = ground(one_bone(bone), [bone], [bone])
    window = _window([1.0, 0.1, 0.0])
    aim = weights("clearance")
    best = search(field, window, LENGTHS, 4.0, NOTHING, aim)[0]
    doors = terrain.entries(field, window, 1.0)
    directions = terrain.cone(window.aim, window.cone_deg, 1.0)
    top = -np.inf
    for p in doors:
        starts = np.broadcast_to(p, directions.shape)
        score, _, _ = hunt.measure(
            field, window, starts, directions, LENGTHS, 4.0, NOTHING, aim, None, best.score
        )
        top = max(top, float(score.max()))
    assert top <= best.score + 0.2


def test_same_input_same_axis() -> None:
    bone = _waisted()
    field = ground(one_bone(bone), [bone], [bone])
    window = _window([1.0, 0.1, 0.0])
    one, two = (
        search(field, window, LENGTHS, 4.0, NOTHING, weights("clearance"))[0] for _ in range(2)
    )
    assert np.array_equal(one.entry, two.entry)
    assert np.array_equal(one.direction, two.direction)


def test_a_joint_is_crossed_where_it_may_be() -> None:
    one = box(AxisFrame("a", [0, 0, 0], np.eye(3)), [0, -15, -15], [40, 15, 15])
    two = box(AxisFrame("a", [0, 0, 0], np.eye(3)), [43, -15, -15], [120, 15, 15])
    window = _window([1.0, 0.0, 0.0])
    both = ground(joined([one, two]), [one], [one, two])
    assert search(both, window, LENGTHS, 6.0, NOTHING, weights("clearance"))[0].length_mm == 90.0
    alone = ground(one_bone(one), [one], [one, two])
    assert search(alone, window, LENGTHS, 6.0, NOTHING, weights("clearance")) == []


def test_driver_needs_a_free_way() -> None:
    bone = cylinder([0, 0, 0], [100, 0, 0], 9.0, 48)
    wall = box(AxisFrame("w", [0, 0, 0], np.eye(3)), [-25, -20, -20], [-20, 20, 20])
    entry, way = np.zeros((1, 3)), np.array([[1.0, 0, 0]])
    for scenery, free in (([bone], True), ([bone, wall], False)):
        field = ground(one_bone(bone), [bone], scenery, Driver(3.0, 30.0))
        assert terrain.open_ways(field, entry, way).tolist() == [free]
        assert terrain.open_ways(replace(field, driver=None), entry, way).all()


def test_the_search_goes_round_bone_in_the_drivers_way() -> None:
    bone = box(AxisFrame("b", [0, 0, 0], np.eye(3)), [0, -16, -16], [110, 16, 16])
    window = _window([1.0, 0.0, 0.0], 17.0)
    behind = box(AxisFrame("w", [0, 0, 0], np.eye(3)), [-25, -40, -40], [-20, 3, 40])
    barred = ground(one_bone(bone), [bone], [bone, behind], Driver(3.0, 30.0))
    room = hunt.Weights(1.0, 0.0, 0.0, 100.0)
    found = search(barred, window, LENGTHS, 6.0, NOTHING, room)
    free = search(replace(barred, driver=None), window, LENGTHS, 6.0, NOTHING, room)
    assert not terrain.open_ways(barred, free[0].entry, free[0].direction)[0]
    assert found
    assert found[0].score < free[0].score
    for f in found:
        assert terrain.open_ways(barred, f.entry, f.direction)[0]


def test_unknown_aim_is_refused() -> None:
    with pytest.raises(PlanError, match="purchase"):
        weights("strongest")
