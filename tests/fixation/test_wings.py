"""Iliac screws through a cut face: a drawn wing of bone, then a real ilium."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.anatomy.landmarks import find
from sacroplan.errors import PlanError
from sacroplan.fixation import screws
from sacroplan.fixation.corridor_kernels import segment_gap
from sacroplan.fixation.wings import assess_wing_screw, plan_wing_screws
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.booleans import bodies, split
from sacroplan.geometry.frames import AxisFrame, Plane, Rigid
from sacroplan.geometry.primitives import box
from sacroplan.geometry.surface import Surface

PELVIS = AxisFrame("pelvis", [0, 0, 0], np.array([[0.0, 0, -1.0], [-1.0, 0, 0], [0, 1.0, 0]]))
"""x anterior, y cranial, z right of an untilted pelvis in LPS."""


def _slab(thickness_mm: float) -> tuple[Surface, Plane]:
    """A left 'ilium': a plate that runs forwards and outwards from a sagittal cut at x = 40."""
    a = np.radians(35.0)
    along = np.array([np.sin(a), -np.cos(a), 0.0])
    at = AxisFrame(
        "slab",
        [40.0, 40.0, 0.0],
        np.stack([along, [0.0, 0.0, 1.0], np.cross(along, [0.0, 0.0, 1.0])], axis=1),
    )
    plate = box(at, [-30.0, -35.0, -0.5 * thickness_mm], [130.0, 35.0, 0.5 * thickness_mm])
    cut = Plane([40.0, 40.0, 0.0], [-1.0, 0.0, 0.0])
    _, rest = split(plate, cut)
    assert rest is not None
    return rest, cut


def test_two_screws_run_down_the_plate_and_keep_apart() -> None:
    hip, cut = _slab(18.0)
    plans = plan_wing_screws(hip, cut, "left", PELVIS, {})
    assert len(plans) == 2
    first, second = (p.screw for p in plans)
    for p in plans:
        assert p.grade == "0"
        assert p.clearance_mm >= evidence.value("IL-05", "cortex") - 1e-6
        assert p.screw.length_mm >= 90.0
        assert p.convergence_deg == pytest.approx(35.0, abs=6.0)
        assert abs(cut.distance(p.screw.entry)) < 0.1
    gap = segment_gap(
        np.array(first.entry), np.array(first.tip), np.array(second.entry), np.array(second.tip)
    )
    assert gap - first.diameter_mm >= evidence.value("IL-03", "bone_between") - 1e-9
    assert first.entry[2] > second.entry[2]
    assert np.linalg.norm(first.entry - second.entry) >= 15.0 - 1e-9


def test_thin_bone_is_refused() -> None:
    hip, cut = _slab(10.0)
    with pytest.raises(PlanError, match="Wing screws left"):
        plan_wing_screws(hip, cut, "left", PELVIS, {})


def test_the_notch_and_the_socket_are_kept_clear_of() -> None:
    hip, cut = _slab(18.0)
    free = plan_wing_screws(hip, cut, "left", PELVIS, {})
    notch = 0.6 * free[1].screw.tip + 0.4 * free[1].screw.entry
    marks = {"GSN_L": notch, "HJC_L": np.array([90.0, -35.0, -70.0])}
    plans = plan_wing_screws(hip, cut, "left", PELVIS, marks, hip_radius_mm=24.0)
    for p in plans:
        assert p.safety["notch_mm"] >= evidence.value("IL-05", "above_notch") - 1e-6
        assert p.safety["acetabulum_mm"] >= evidence.value("IL-05", "acetabulum") - 1e-6
    bad = assess_wing_screw(free[1].screw, hip, PELVIS, marks, 24.0)
    assert "fixation.near_notch" in {d.code for d in bad.doubts}


def test_missing_landmarks_are_doubted() -> None:
    hip, cut = _slab(18.0)
    plans = plan_wing_screws(hip, cut, "left", PELVIS, {}, count=1)
    assert len(plans) == 1
    assert "fixation.wing_landmarks" in {d.code for d in plans[0].doubts}


def test_right_is_the_mirror_of_left() -> None:
    hip, cut = _slab(18.0)
    left = plan_wing_screws(hip, cut, "left", PELVIS, {})
    flipped = Plane(cut.point * [-1, 1, 1], cut.normal * [-1, 1, 1])
    right = plan_wing_screws(hip.mirrored(0), flipped, "right", PELVIS, {})
    for a, b in zip(left, right, strict=True):
        assert np.allclose(a.screw.tip * [-1, 1, 1], b.screw.tip, atol=1e-6)


def test_same_screws_in_any_pose() -> None:
    hip, cut = _slab(18.0)
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    rigid = Rigid(turn, np.array([10.0, 200.0, -30.0]))
    pelvis = AxisFrame("pelvis", rigid.points(PELVIS.origin), turn @ PELVIS.axes)
    here = plan_wing_screws(hip, cut, "left", PELVIS, {})
    there = plan_wing_screws(hip.transformed(rigid), cut.transformed(rigid), "left", pelvis, {})
    for a, b in zip(here, there, strict=True):
        assert np.linalg.norm(rigid.points(a.screw.tip) - b.screw.tip) < 1e-3


def test_a_screw_that_leaves_the_bone_is_graded() -> None:
    hip, _ = _slab(18.0)
    out = screws.at("w", "ilium", "left", "wing", [40.0, 40.0, 0.0], [1.0, 0.0, 0.0], 8.0, 60.0)
    p = assess_wing_screw(out, hip, PELVIS, {})
    assert p.grade == "III"
    assert "fixation.thin_cortex" in {d.code for d in p.doubts}


@pytest.mark.shared
def test_a_real_ilium_takes_two_long_screws(shared: Path) -> None:
    folder = shared / "data" / "vhm_meshes"
    bones = {n: read_stl(folder / f"{n}.stl") for n in ("sacrum", "hip_left", "hip_right")}
    known = find(bones, np.eye(3))
    frame = known.frames["pelvis"]
    normal = frame.axes @ [-0.34, 0.3, 0.89]
    cut = Plane(known.joints["left"].furthest(-normal) - 5.0 * normal, normal)
    rest = split(bones["hip_left"], cut)[1]
    assert rest is not None
    hip = bodies(rest)[0]
    plans = plan_wing_screws(
        hip, cut, "left", frame, known.points, known.hip_radius_mm["left"], seat_mm=10.0
    )
    assert len(plans) == 2
    for p in plans:
        assert p.grade == "0"
        assert p.screw.length_mm >= 70.0
        assert p.safety["notch_mm"] >= 5.0
        assert p.safety["acetabulum_mm"] >= 5.0
        assert np.linalg.norm(p.screw.head - p.screw.entry) == pytest.approx(10.0)
        assert 0.0 < p.convergence_deg < 60.0
