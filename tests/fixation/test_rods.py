"""Rods through heads and posts: curves with known lengths and bends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sacroplan import evidence
from sacroplan.banner import BANNER
from sacroplan.errors import PlanError
from sacroplan.fixation.rod_table import bends, connectors, four_rods, table_text
from sacroplan.fixation.rods import bend_radii, plan_rod, plan_rods, solid
from sacroplan.fixation.screws import at
from sacroplan.geometry.frames import AxisFrame, Rigid
from sacroplan.geometry.primitives import box, sphere

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


def test_random_head_sets_keep_bend_and_clearance_or_name_the_pair() -> None:
    rng = np.random.default_rng(11)
    least, clear = 4.0 * 6.0, evidence.value("SP-FIX-06", "bone")
    wall = box(AxisFrame("bone", [0, 0, 0], np.eye(3)), [-60, -60, -200], [60, 0, 200])
    refused = 0
    for _ in range(200):
        n = int(rng.integers(2, 5))
        z = np.cumsum(rng.uniform(18.0, 45.0, n))[::-1]
        heads = [
            (
                np.array([rng.normal(30.0, 6.0), rng.uniform(2.0, 16.0), v]),
                np.array([0.0, -1.0, 0.0]),
            )
            for v in z
        ]
        names = [f"screw_{k}" for k in range(n)]
        plan = plan_rods(
            {"left": heads}, None, 6.0, [wall], None, "LPS", {"left": names}
        ).plans[0]  # fmt: skip
        codes = {d.code: d.message for d in plan.doubts}
        if plan.bend_radius_mm < least:
            refused += 1
            assert any(f"{a} and {b}" in codes["fixation.tight_bend"] for a, b in pairwise(names))
        if plan.bone_mm < clear:
            assert any(
                f"{a} and {b}" in codes["fixation.rod_near_bone"] for a, b in pairwise(names)
            )
        # What is printed is true: the polyline's own radius and distance to the wall.
        assert bend_radii(plan.polyline).min() == pytest.approx(plan.bend_radius_mm)
        assert plan.bone_mm == pytest.approx(float(plan.polyline[:, 1].min()) - 3.0, abs=0.05)
    assert 0 < refused < 150


def test_bending_table_gives_the_rod_back() -> None:
    heads = [
        (np.array(p), np.array([0.0, -1.0, 0.0]))
        for p in ([30.0, 10, 100], [34.0, 14, 60], [28.0, 12, 20], [40.0, 10, -20])
    ]
    names = ["L4", "L5", "S1", "ilium"]
    plan = plan_rods({"left": heads}, names={"left": names}).plans[0]
    table = bends(plan, names)
    assert [b.near for b in table] == ["L5", "S1"]
    assert table[0].roll_deg == 0.0
    assert abs(table[1].roll_deg) > 1.0
    # Straight pieces bent by these angles, the second turned by the roll, end in the same direction.
    corners = np.concatenate([plan.polyline[:1], plan.rod.anchors[1:-1], plan.polyline[-1:]])
    d = np.diff(corners, axis=0)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    normal = np.cross(d[0], d[1]) / np.linalg.norm(np.cross(d[0], d[1]))
    normal = Rotation.from_rotvec(np.radians(table[1].roll_deg) * d[1]).apply(normal)
    end = Rotation.from_rotvec(np.radians(table[1].angle_deg) * normal).apply(d[1])
    assert end == pytest.approx(d[2], abs=1e-6)
    text = table_text([plan], {plan.name: table}, {plan.name: connectors(plan, names)})
    assert text.startswith(BANNER)
    assert "bend 2" in text
    assert "S1" in text


def test_four_rods_split_medial_and_lateral_heads() -> None:
    heads = ["L4_left", "L5_left", "s2ai_left", "iliac_left_1"]
    assert four_rods(heads) == (heads[:3], heads[3:])
    assert four_rods(["L4_right"]) == (["L4_right"], [])
    # One lumbar head alone carries no rod of its own.
    assert four_rods(["L5_left", "iliac_left"]) == (["L5_left", "iliac_left"], [])
