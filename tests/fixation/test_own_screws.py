"""Screws that the user placed, and planned screws that keep clear of wires and vessels."""

from __future__ import annotations

import numpy as np
import pytest
from test_corridor import _plan, _plates, _vertebra

from sacroplan.errors import PlanError
from sacroplan.fixation.bone import one_bone
from sacroplan.fixation.construct import parse, plan_construct
from sacroplan.fixation.corridor import assess_pedicle_screw, plan_pedicle_screw
from sacroplan.fixation.own import assess_pelvic_screw
from sacroplan.fixation.pelvic import Pelvis, Site
from sacroplan.fixation.rules import Metal, Obstacles, axis_room
from sacroplan.fixation.screws import Screw, at
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box, tube

EYE = np.eye(3)
PELVIS = AxisFrame("pelvis", [0, 0, 0], np.array([[0.0, 0, -1.0], [-1.0, 0, 0], [0, 1.0, 0]]))


def _shifted(screw: Screw, by: list[float]) -> Screw:
    return at(
        screw.name, screw.level, screw.side, screw.kind, screw.entry + np.array(by),
        screw.direction, screw.diameter_mm, screw.length_mm,
    )  # fmt: skip


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_planned_screw_is_judged_as_it_was_planned(side: str) -> None:
    planned = _plan(side)
    judged = assess_pedicle_screw(planned.screw, _vertebra(13.0), *_plates())
    assert judged.grade == planned.grade == "A"
    assert judged.clearance_mm == pytest.approx(planned.clearance_mm, abs=0.15)
    assert judged.convergence_deg == pytest.approx(planned.convergence_deg, abs=1e-6)
    assert judged.depth_percent == pytest.approx(planned.depth_percent, abs=2.0)
    assert np.array_equal(judged.screw.entry, planned.screw.entry)


def test_a_screw_placed_into_the_canal_is_graded_and_doubted() -> None:
    planned = _plan("left")
    room = 6.5 - 0.5 * planned.screw.diameter_mm
    # The patient's left is +x: towards the midline is -x.
    bad = assess_pedicle_screw(
        _shifted(planned.screw, [-(room + 3.0), 0, 0]), _vertebra(13.0), *_plates()
    )
    assert bad.grade in ("C", "D")
    assert 2.0 < bad.breach_mm < 4.5
    assert {"fixation.breach", "fixation.rule.cortex"} <= {d.code for d in bad.doubts}


def test_a_screw_that_runs_backwards_is_refused() -> None:
    s = _plan("left").screw
    back = at(s.name, s.level, s.side, s.kind, s.tip, -s.direction, s.diameter_mm, s.length_mm)
    with pytest.raises(PlanError, match="entry first"):
        assess_pedicle_screw(back, _vertebra(13.0), *_plates())


def test_a_planned_pedicle_screw_goes_round_a_wire_and_a_vessel() -> None:
    free = _plan("left").screw
    middle = 0.5 * (free.entry + free.tip)
    wire = Metal("k1", middle + [0, 0, 30.0], middle + [0, 0, 1.0], 1.0, 2.0)
    vein = tube(np.array([free.tip + [-20.0, -1, 6], free.tip + [20.0, -1, 6]]), 3.0)
    around = Obstacles((), (wire,), {"vein": vein})
    assert axis_room(free.entry, free.tip, around)[0] < 0.5 * free.diameter_mm
    got = plan_pedicle_screw(_vertebra(13.0), "L4", "left", *_plates(), obstacles=around).screw
    assert axis_room(got.entry, got.tip, around)[0] >= 0.5 * got.diameter_mm - 1e-6
    wall = box(AxisFrame("cut", middle, EYE), [-60, -1, -60], [60, 1, 60])
    with pytest.raises(PlanError, match="meets a planned cut"):
        plan_pedicle_screw(_vertebra(13.0), "L4", "left", *_plates(), obstacles=Obstacles((wall,)))


def _site() -> Site:
    hip = box(AxisFrame("hip", [20, 0, 0], EYE), [-12, -100, -12], [12, 0, 12])
    return Site(Pelvis({"hip_left": hip}, {}, {"pelvis": PELVIS}, {}, {}), "left")


def test_an_own_iliac_screw_has_its_exact_clearance_and_its_rules() -> None:
    own = at("mine", "ilium", "left", "iliac", [20, 0, 3], [0, -1, 0], 8.0, 80.0)
    got = assess_pelvic_screw(_site(), own)
    assert got.axis_gap_mm == pytest.approx(9.0, abs=1e-9)
    assert next(r for r in got.rules if r.name == "cortex").margin == pytest.approx(3.0)
    vein = tube(np.array([[0.0, -60, 3], [40.0, -60, 3]]), 2.0)
    with pytest.raises(PlanError, match="vessel vein"):
        assess_pelvic_screw(_site(), own, Obstacles(vessels={"vein": vein}))


def test_own_screws_stand_in_the_construct_and_in_the_others_way() -> None:
    top, bottom = _plates()
    frames = {"L4SEP": top, "L4IEP": bottom, "pelvis": PELVIS}
    bones = {"L4": _vertebra(13.0)}
    mine = _plan("left").screw
    both = plan_construct("L4.right", bones, frames, {}, {}, own=[mine])
    assert [p.screw.side for p in both.plans] == ["left", "right"]
    assert both.plans[0].screw.name == mine.name
    alone = plan_construct("own", bones, frames, {}, {}, own=[mine])
    assert len(alone.plans) == 1
    assert parse("own") == ()
    wire = Metal("k1", mine.entry, mine.tip, 1.0, 2.0)
    with pytest.raises(PlanError, match="into k1"):
        plan_construct("own", bones, frames, {}, {}, obstacles=Obstacles((), (wire,)), own=[mine])


def test_the_bone_of_a_site_is_the_hip() -> None:
    bone, _ = _site().ground("iliac")
    assert len(bone.solids) == 1
    assert np.allclose(one_bone(bone.solids[0]).walls.surface.bounds, bone.walls.surface.bounds)
