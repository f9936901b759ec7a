"""Rods through heads and posts: curves with known lengths and bends."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.fixation.rods import bend_radii, plan_rod, plan_rods, solid
from sacroplan.fixation.screws import at
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.primitives import sphere

BACK = np.array([0.0, -1.0, 0.0])
"""Screws point anterior."""


def _heads(points: list[list[float]]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.array(p), BACK) for p in points]


STRAIGHT = [[30.0, 60.0, 80.0], [30.0, 60.0, 45.0], [30.0, 60.0, 10.0]]
CURVED = [[28.0, 58.0, 80.0], [31.0, 62.0, 45.0], [38.0, 70.0, 5.0]]


def test_straight_rod_is_straight_with_its_overhang() -> None:
    p = plan_rods({"left": _heads(STRAIGHT)}).plans[0]
    # 5 mm beyond a head of 13 mm.
    assert p.overhang_mm == pytest.approx((11.5, 11.5), abs=1e-6)
    assert p.rod.length_mm == pytest.approx(70.0 + 23.0, abs=1e-6)
    assert p.bend_radius_mm > 1e5
    assert p.head_deg == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)
    assert not p.doubts
    body = solid(p)
    assert body.is_closed
    assert body.volume_mm3 == pytest.approx(np.pi * 9.0 * p.rod.length_mm, rel=0.01)


def test_curved_rod_passes_every_head_and_keeps_its_radius() -> None:
    p = plan_rods({"right": _heads(CURVED)}, diameter_mm=5.5).plans[0]
    assert max(p.moved_mm) < 0.02
    assert p.bend_radius_mm >= 4 * 5.5
    assert p.bend_radius_mm == pytest.approx(bend_radii(p.rod.polyline).min())
    assert p.rod.length_mm > 0.999 * (
        np.linalg.norm(np.diff(np.array(CURVED), axis=0), axis=1).sum() + 23.0
    )
    assert not p.doubts


def test_bend_radius_of_a_circle() -> None:
    a = np.linspace(0.0, 1.0, 40)
    line = 33.0 * np.stack([np.cos(a), np.sin(a), 0 * a], axis=1)
    assert np.allclose(bend_radii(line), 33.0)


def test_zigzag_heads_are_smoothed_and_doubted() -> None:
    zigzag = [[0.0, 0.0, 60.0], [9.0, 0.0, 40.0], [-9.0, 0.0, 20.0], [0.0, 0.0, 0.0]]
    p = plan_rods({"left": _heads(zigzag)}).plans[0]
    assert {"fixation.tight_bend", "fixation.rod_off_head"} & {d.code for d in p.doubts}
    assert max(p.moved_mm) <= 4.0 + 0.1


def test_bone_in_the_way_is_cleared() -> None:
    bump = sphere([30.0, 57.0, 45.0], 3.0)
    before = 0.0
    p = plan_rods({"left": _heads(STRAIGHT)}, bones=[bump]).plans[0]
    assert p.bone_mm is not None
    assert before < p.bone_mm
    assert p.bone_mm >= 1.0 - 1e-6
    assert p.bend_radius_mm >= 24.0


def test_bone_that_cannot_be_cleared_is_doubted() -> None:
    p = plan_rods({"left": _heads(STRAIGHT)}, bones=[sphere([30.0, 60.0, 45.0], 14.0)]).plans[0]
    assert p.bone_mm is not None
    assert p.bone_mm < 1.0
    assert "fixation.rod_near_bone" in {d.code for d in p.doubts}


def test_implant_counts_away_from_its_posts_only() -> None:
    heads, post = _heads(STRAIGHT[:2]), [(np.array(STRAIGHT[2]), None)]
    held = sphere(STRAIGHT[2], 8.0)
    ok = plan_rods({"left": heads}, {"left": post}, implant=held).plans[0]
    assert ok.implant_mm is not None
    assert ok.implant_mm > 0.0
    crossing = plan_rods({"left": heads}, {"left": post}, implant=sphere([30.0, 60.0, 60.0], 5.0))
    assert "fixation.rod_meets_implant" in {d.code for d in crossing.doubts}


def test_mirror_and_motion() -> None:
    flip = np.array([-1.0, 1.0, 1.0])
    left = plan_rods({"left": _heads(CURVED)}).plans[0]
    right = plan_rods({"right": [(p * flip, a * flip) for p, a in _heads(CURVED)]}).plans[0]
    assert np.allclose(left.rod.polyline * flip, right.rod.polyline, atol=1e-9)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rigid = Rigid(turn, np.array([5.0, 6.0, 7.0]))
    moved = [(rigid.points(p), rigid.directions(a)) for p, a in _heads(CURVED)]
    again = plan_rods({"left": moved}).plans[0]
    assert np.allclose(rigid.points(left.rod.polyline), again.rod.polyline, atol=1e-9)


def test_plan_rod_takes_screws_and_posts() -> None:
    screws = [
        at(f"L{n}_left", f"L{n}", "left", "pedicle", p, BACK, 6.5, 45.0)
        for n, p in ((4, CURVED[0]), (5, CURVED[1]))
    ]
    p = plan_rod("left", screws, [(np.array(CURVED[2]), np.array([0, 0, 1.0]))], 6.0)
    assert p.side == "left"
    assert np.allclose(p.rod.anchors[0], screws[0].head, atol=0.02)
    assert np.isnan(p.head_deg[2])
    assert p.metrics()["fixation.rod.left.bend_radius_mm"].within


def test_one_anchor_is_no_rod() -> None:
    with pytest.raises(PlanError, match="two or more"):
        plan_rods({"left": _heads(STRAIGHT[:1])})
    with pytest.raises(PlanError, match="nothing to connect"):
        plan_rods({})
    with pytest.raises(PlanError, match="less than 1 mm"):
        plan_rods({"left": _heads([STRAIGHT[0], STRAIGHT[0], STRAIGHT[1]])})
