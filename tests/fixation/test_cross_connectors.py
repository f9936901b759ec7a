"""Cross-connectors arch over bone, lie level, keep from heads; a lateral rod begins beside the medial one."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.fixation.bone import walls_of
from sacroplan.fixation.cross import grips, plan_cross, solid
from sacroplan.fixation.rod_table import side_grip, table_text
from sacroplan.fixation.rods import Rods, plan_rods
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box

UP, BACK = np.array([0.0, 0, 1.0]), np.array([0.0, 1.0, 0])
FORWARD = [0.0, -1.0, 0.0]


def _rods(heights: tuple[float, ...] = (120.0, 80.0, 40.0, 0.0)) -> Rods:
    heads = {
        side: [(np.array([x, 0.1 * h, h]), FORWARD) for h in heights]
        for side, x in (("left", 25.0), ("right", -25.0))
    }
    return plan_rods(heads)


def test_connectors_lie_level_between_the_heads_and_clear_a_spinous_process() -> None:
    left, right = _rods().plans
    # A process that stands high behind the rods from 42 mm height up, and nothing below.
    spine = box(AxisFrame("b", [0, 0, 0], np.eye(3)), [-5, -30, 42], [5, 26, 150])
    found, doubts = plan_cross(left, right, 2, UP, BACK, [spine])
    assert doubts == ()
    assert [c.name for c in found] == ["cross_1", "cross_2"]
    assert found[0].lift_mm > 5.0
    assert found[1].lift_mm == 0.0
    for c in found:
        assert abs((c.polyline[0] - c.polyline[-1]) @ UP) <= 2.0
        assert c.span_mm == pytest.approx(50.0, abs=0.2)
        line = walls_of(spine).gaps(c.polyline[:-1], c.polyline[1:] + 1e-9)[0].min()
        assert line - 0.5 * c.diameter_mm >= evidence.value("SP-FIX-06", "bone") - 1e-6
        for plan, at in ((left, c.polyline[0]), (right, c.polyline[-1])):
            off = np.linalg.norm(plan.rod.anchors - at, axis=1).min()
            assert off >= evidence.value("SP-FIX-12", "from_head") - 1e-9
        solid(c, "LPS").require_closed("a connector")
    text = table_text([left, right], {left.name: (), right.name: ()},
                      {left.name: (), right.name: ()}, found)  # fmt: skip
    assert f"cross-1: 50 from rod to rod, at {found[0].left_at_mm:.0f}" in text


def test_the_lift_is_the_least_that_clears() -> None:
    left, right = _rods().plans
    spine = box(AxisFrame("b", [0, 0, 0], np.eye(3)), [-5, -30, -60], [5, 24, 200])
    found, _ = plan_cross(left, right, 1, UP, BACK, [spine])
    c = found[0]
    need = 24.0 + 0.5 * c.diameter_mm + evidence.value("SP-FIX-06", "bone") - c.polyline[0, 1]
    assert need <= c.lift_mm < need + 1.0


def test_a_process_too_high_is_a_doubt_and_too_many_find_no_room() -> None:
    left, right = _rods().plans
    high = box(AxisFrame("b", [0, 0, 0], np.eye(3)), [-5, -30, -60], [5, 90, 200])
    found, doubts = plan_cross(left, right, 1, UP, BACK, [high])
    assert len(found) == 1
    assert [d.code for d in doubts] == ["fixation.cross_meets_bone"]
    found, doubts = plan_cross(left, right, 6, UP, BACK)
    assert 0 < len(found) < 6
    assert [d.code for d in doubts] == ["fixation.no_room_for_cross"]
    with pytest.raises(PlanError, match="one or more"):
        plan_cross(left, right, 0, UP, BACK)


def test_grips_keep_from_heads() -> None:
    plan = _rods((40.0, 0.0)).plans[0]
    at, points = grips(plan)
    assert len(at) == len(points) > 5
    near = np.linalg.norm(points[:, None] - plan.rod.anchors[None], axis=2).min()
    assert near >= evidence.value("SP-FIX-12", "from_head")
    # Between heads 20 mm apart there is no room for a clamp.
    assert not len(grips(_rods((20.0, 0.0)).plans[0])[0])


def test_a_lateral_rod_begins_beside_the_medial_one_and_touches_it_not() -> None:
    medial = _rods().plans[0]
    grip = side_grip(medial, np.array([1.0, 0, 0]))
    apart = np.linalg.norm(medial.polyline - grip, axis=1).min()
    assert apart == pytest.approx(evidence.value("SP-FIX-12", "beside"), abs=0.6)
    assert grip[0] > medial.rod.anchors[-1][0] + 10.0
    iliac = np.array([52.0, 8.0, -30.0])
    lateral = plan_rods({"left": [(grip, None), (iliac, FORWARD)]}, suffix="_lateral").plans[0]
    assert lateral.name == "rod_left_lateral"
    assert "fixation.rod.left_lateral.length_mm" in lateral.metrics()
    gap = min(np.linalg.norm(medial.polyline - p, axis=1).min() for p in lateral.polyline)
    assert gap > medial.diameter_mm
