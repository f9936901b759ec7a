"""The turned half-femur on boxes: motion, step, contact, screws, and the budget of its vessels."""

import numpy as np
import pytest
from graft_shapes import ORIGIN

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, Plane, Rigid
from sacroplan.geometry.primitives import box
from sacroplan.geometry.slicing import section
from sacroplan.grafts.femur import SINK_MM, plan_femur, reach_of, synthetic_femur
from sacroplan.grafts.seats import endplate_seat, sawn_seat

RIGHT = np.array([-1.0, 0, 0])
DOWN = np.array([0, 0, -1.0])


def scene(gap=110.0, side="right"):
    """L5 as a box above, the pubis as a box in front and below, the femur hanging beside it."""
    s = -1.0 if side == "right" else 1.0
    l5 = box(ORIGIN, [-27, -20, 60], [27, 20, 90])
    seat = endplate_seat("L5", l5, Plane([0, 0, 60], [0, 0, -1]), RIGHT, side, 0.5)
    n = np.array([0.3 * s, 0.2, 0.93])
    n /= np.linalg.norm(n)
    u = np.cross([0, 1.0, 0], n)
    u /= np.linalg.norm(u)
    centre = seat.region.centroid + np.array([0.25 * s, -0.3, -0.92]) * gap
    at = AxisFrame("pubis", centre, np.stack([u, np.cross(n, u), n], axis=1))
    pubis = box(at, [-12, -12, -25], [12, 12, 0])
    face = Plane(centre, n)
    foot = sawn_seat("pubis", pubis, face, section(pubis, face.shifted(-0.1)))
    femur = synthetic_femur(np.array([s * 90.0, -10.0, -40.0]), DOWN, np.array([s, 0.0, 0.0]), side)
    return femur, seat, foot, np.array([s * 70.0, -45.0, -35.0]), np.array([-s, 0.0, 0.0])


def test_the_femur_is_one_solid_with_its_front_in_front():
    for side in ("left", "right"):
        femur = scene(side=side)[0]
        assert femur.surface.is_closed
        assert femur.surface.body_count() == 1
        # LPS: the front is -y.
        assert femur.anterior == pytest.approx([0, -1, 0], abs=1e-9)
        assert np.ptp(femur.surface.vertices[:, 2]) == pytest.approx(
            evidence.value("SP-GRAFT-09", "length") + 24 + 0.55 * 42, abs=1.0
        )


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_half_femur_spans_the_gap(side):
    femur, seat, foot, vessels, medial = scene(side=side)
    plan = plan_femur(femur, seat, foot, vessels, medial)
    assert plan.surface.is_closed
    assert plan.surface.body_count() == 1
    gap = np.linalg.norm(foot.region.centroid - seat.region.centroid)
    assert plan.length_mm == pytest.approx(gap, abs=1e-9)
    # Shaft: from head-to-knee onto L5-to-pubis.
    # One condyle (or the notch) is centred over the pubic face, the shaft over L5's.
    condyle, half = (evidence.value("SP-GRAFT-09", n) for n in ("condyle", "apart"))
    across = np.cross(femur.down, femur.anterior)
    centres = [plan.placed.points(femur.knee + 0.5 * k * half * across) for k in (-1, 0, 1)]
    over = foot.region.centroid + (condyle - SINK_MM) * foot.plane.normal
    assert min(np.linalg.norm(c - over) for c in centres) < 1e-6
    cut_end = section(plan.surface, seat.plane.shifted(1.0)).centroid
    assert np.linalg.norm(cut_end - seat.region.centroid) < 5.0
    # Internal rotation through 90 degrees: the front turns to the midline, and what was medial turns
    # to the back ("the medial femoral condyle now lying posteriorly").
    front = plan.placed.directions(femur.anterior)
    assert front @ medial > 0.85
    native_medial = np.cross(femur.down, femur.anterior)
    native_medial *= np.sign(native_medial @ medial)
    # The bone leans forward with the pubis, and what was medial with it.
    assert (plan.placed.directions(native_medial) @ [0, 1, 0]) > 0.75
    # The pubic face is wholly covered, nothing of the graft lies beyond it.
    assert plan.ramus_percent >= evidence.value("SP-GRAFT-06", "ramus")
    near = np.linalg.norm(plan.surface.vertices - foot.region.centroid, axis=1) < 40.0
    assert foot.plane.distance(plan.surface.vertices[near]).min() > -1e-6
    # The tongue enters L5 by the depth of the step, the shoulder not at all.
    step = evidence.value("SP-GRAFT-05", "step")
    assert seat.plane.distance(plan.surface.vertices).min() == pytest.approx(-step, abs=1e-6)
    cut = section(plan.surface, seat.plane.shifted(-0.5 * step))
    full = section(plan.surface, seat.plane.shifted(2.0))
    # The shaft leans, so the middle of its section moves a little over the height of the step.
    assert cut.area_mm2 == pytest.approx(0.5 * full.area_mm2, rel=0.2)
    assert plan.shoulder.share_percent >= evidence.value("SP-GRAFT-04", "share")
    for screw in plan.screws:
        assert screw.purchase_mm >= evidence.value("SP-GRAFT-06", "purchase")
        assert screw.off_normal_deg <= evidence.value("SP-GRAFT-05", "screw_angle")
        # The screw begins on the graft's surface, off its end.
        assert seat.plane.distance(screw.entry) > 10.0
    assert len(plan.screws) >= 2


def test_the_budget_of_the_vessels_is_plain_geometry():
    femur, *_ = scene()
    vessels = np.array([-70.0, -45.0, -35.0])
    share = evidence.value("SP-GRAFT-09", "entry")
    entry = femur.middle.point + share * (femur.knee - femur.middle.point)
    nearer = Rigid(np.eye(3), 0.5 * (vessels - entry))
    reach = reach_of(femur, nearer, vessels)
    assert reach.available_mm == pytest.approx(np.linalg.norm(entry - vessels))
    assert reach.needed_mm == pytest.approx(0.5 * reach.available_mm)
    assert reach.turn_deg == pytest.approx(0.0, abs=1e-5)
    assert reach.ok
    away = reach_of(femur, Rigid(np.eye(3), 0.2 * (entry - vessels)), vessels)
    assert away.spare_mm == pytest.approx(-0.2 * away.available_mm)
    assert not away.ok


def test_a_gap_longer_than_half_a_femur_is_refused():
    femur, seat, foot, vessels, medial = scene(gap=260.0)
    with pytest.raises(PlanError, match="free or longer graft"):
        plan_femur(femur, seat, foot, vessels, medial)


def test_small_faces_raise_doubts_and_reject_nothing():
    plan = plan_femur(*scene())
    told = {d.code for d in plan.doubts}
    for name, metric in plan.metrics().items():
        if not name.startswith("grafts.femur.pedicle"):
            assert (name in told) == (metric.within is False)
