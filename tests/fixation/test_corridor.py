"""Pedicle corridors: a drawn vertebra with a known pedicle, then real ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.anatomy.frames import endplate_frame
from sacroplan.anatomy.landmarks import Landmarks, find
from sacroplan.errors import PlanError
from sacroplan.fixation.corridor import level_frame, plan_pedicle_screw
from sacroplan.fixation.screw_plan import ScrewPlan
from sacroplan.fixation.screws import solid
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.booleans import overlap_mm3, union
from sacroplan.geometry.frames import AxisFrame, Rigid
from sacroplan.geometry.primitives import box, cylinder
from sacroplan.geometry.surface import Surface


@lru_cache
def _vertebra(pedicle_mm: float) -> Surface:
    """Body 34 mm deep, round pedicles that converge by 20 degrees, facet blocks and a lamina (LPS)."""
    parts = [cylinder([0, -16, -14], [0, -16, 14], 18.0, 96)]
    for side in (-1.0, 1.0):
        d = np.array([side * np.sin(np.radians(20.0)), np.cos(np.radians(20.0)), 0.0])
        start = np.array([side * 12.0, -6.0, 5.0])
        parts.append(cylinder(start, start + 30.0 * d, 0.5 * pedicle_mm, 64))
        at = AxisFrame("facet", start + 24.0 * d, np.eye(3))
        parts.append(box(at, [-8.0, -7.0, -11.0], [8.0, 7.0, 11.0]))
    lamina = AxisFrame("lamina", [0.0, 22.0, 0.0], np.eye(3))
    parts.append(box(lamina, [-24.0, -3.0, -8.0], [24.0, 3.0, 8.0]))
    return union(*parts)


def _plates() -> tuple[AxisFrame, AxisFrame]:
    ahead = [0.0, -1.0, 0.0]
    return (
        endplate_frame("L4SEP", [0, -16, 14], [0, 0, 1], ahead),
        endplate_frame("L4IEP", [0, -16, -14], [0, 0, 1], ahead),
    )


def _plan(side: str, pedicle_mm: float = 13.0, rigid: Rigid | None = None) -> ScrewPlan:
    surface, (top, bottom) = _vertebra(pedicle_mm), _plates()
    if rigid is not None:
        surface = surface.transformed(rigid)
        top, bottom = (
            AxisFrame(f.name, rigid.points(f.origin), rigid.rotation @ f.axes)
            for f in (top, bottom)
        )
    return plan_pedicle_screw(surface, "L4", side, top, bottom)


def test_screw_runs_down_the_middle_of_a_drawn_pedicle() -> None:
    p = _plan("left")
    assert p.grade == "A"
    assert p.breach_mm == 0.0
    assert p.convergence_deg == pytest.approx(20.0, abs=3.0)
    assert p.sagittal_deg == pytest.approx(0.0, abs=3.0)
    assert p.isthmus_width_mm == pytest.approx(13.0, abs=1.0)
    assert p.isthmus_height_mm == pytest.approx(13.0, abs=1.0)
    assert p.clearance_mm >= evidence.value("PED-R1", "cortex")
    assert p.canal_mm is not None
    assert p.clearance_mm - 0.2 <= p.canal_mm <= 6.5 - 0.5 * p.screw.diameter_mm + 0.5


def test_limits_of_the_handbook_hold() -> None:
    p = _plan("right")
    low, high = evidence.span("PED-L4", "diameter")
    assert low <= p.screw.diameter_mm <= high
    assert p.screw.diameter_mm <= 0.8 * min(p.isthmus_width_mm, p.isthmus_height_mm)
    assert p.depth_percent <= 80.0 + 0.5
    assert p.anterior_mm > 0.0
    assert p.screw.length_mm in (30.0, 35.0, 40.0, 45.0, 50.0)
    assert np.linalg.norm(p.screw.tip - p.screw.entry) == pytest.approx(p.screw.length_mm)


def test_left_is_the_mirror_of_right() -> None:
    left, right = _plan("left"), _plan("right")
    assert left.screw.entry[0] > 0 > right.screw.entry[0]
    assert left.screw.diameter_mm == right.screw.diameter_mm
    flip = np.array([-1.0, 1.0, 1.0])
    assert np.linalg.norm(left.screw.entry * flip - right.screw.entry) < 0.6
    assert np.linalg.norm(left.screw.tip * flip - right.screw.tip) < 1.5


def test_the_head_keeps_off_a_bone_beside_it() -> None:
    free = _plan("left")
    assert free.screw.head[0] > 15.0
    # A crest that ends where the head of the roomiest screw would stand.
    crest = AxisFrame("crest", [free.screw.head[0] + 3.0, free.screw.head[1], 0.0], np.eye(3))
    bone = box(crest, [0.0, -14.0, -40.0], [30.0, 30.0, 40.0])
    assert overlap_mm3(solid(free.screw), bone) > 50.0
    beside = plan_pedicle_screw(_vertebra(13.0), "L4", "left", *_plates(), others=(bone,))
    assert overlap_mm3(solid(beside.screw), bone) == 0.0
    assert beside.breach_mm == 0.0
    wall = AxisFrame("wall", [20.0, 28.0, 0.0], np.eye(3))
    with pytest.raises(PlanError, match=r"L4 left: every screw .* head in the bone beside it"):
        plan_pedicle_screw(
            _vertebra(13.0), "L4", "left", *_plates(),
            others=(box(wall, [-25.0, 0.0, -40.0], [40.0, 30.0, 40.0]),),
        )  # fmt: skip


def test_same_plan_in_any_pose() -> None:
    a = np.radians(33.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    tip = np.array([[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]])
    rigid = Rigid(turn @ tip, np.array([200.0, -70.0, 15.0]))
    here, there = _plan("left"), _plan("left", rigid=rigid)
    assert np.linalg.norm(rigid.points(here.screw.entry) - there.screw.entry) < 1e-3
    assert np.linalg.norm(rigid.points(here.screw.tip) - there.screw.tip) < 1e-3
    assert here.clearance_mm == pytest.approx(there.clearance_mm, abs=1e-4)


def test_same_input_same_screw() -> None:
    assert np.array_equal(_plan("left").screw.tip, _plan("left").screw.tip)


def test_a_slender_pedicle_gets_a_small_screw_and_a_doubt() -> None:
    p = _plan("left", pedicle_mm=8.0)
    assert p.screw.diameter_mm <= 6.0
    assert p.grade == "A"
    assert "fixation.small_screw" in {d.code for d in p.doubts}


def test_a_pedicle_too_thin_for_any_screw_is_refused() -> None:
    with pytest.raises(PlanError, match="no screw of the catalogue fits"):
        _plan("left", pedicle_mm=3.5)


def test_a_filled_vertebra_is_refused() -> None:
    block = box(AxisFrame("b", [0, 0, 0], np.eye(3)), [-30, -40, -14], [30, 60, 14])
    with pytest.raises(PlanError, match="no spinal canal"):
        plan_pedicle_screw(block, "L4", "left", *_plates())
    with pytest.raises(PlanError, match="left"):
        plan_pedicle_screw(block, "L4", "L", *_plates())


def test_metrics_say_limits() -> None:
    m = _plan("left").metrics()
    assert m["fixation.screw.L4_left.grade"].value == "A"
    assert m["fixation.screw.L4_left.breach_mm"].within
    assert m["fixation.screw.L4_left.clearance_mm"].within
    assert m["fixation.screw.L4_left.depth_percent"].within


def test_level_frame_halves_the_wedge() -> None:
    ahead = [0.0, -1.0, 0.0]
    top = endplate_frame("t", [0, 0, 15], [0, np.sin(0.1), np.cos(0.1)], ahead)
    low = endplate_frame("l", [0, 0, -15], [0, -np.sin(0.3), np.cos(0.3)], ahead)
    f = level_frame("L5", top, low)
    assert np.allclose(f.axes[:, 1], [0, -np.sin(0.1), np.cos(0.1)])
    assert np.allclose(f.origin, 0.0)


@pytest.fixture(scope="module")
def spine(shared: Path) -> tuple[dict[str, Surface], Landmarks]:
    folder = shared / "data" / "vhm_meshes"
    bones = {n: read_stl(folder / f"{n}.stl") for n in ("sacrum", "L5", "L4")}
    return bones, find(bones, np.eye(3))


@pytest.mark.shared
@pytest.mark.parametrize("level", ["L4", "L5"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_real_vertebrae_get_grade_a(
    spine: tuple[dict[str, Surface], Landmarks], level: str, side: str
) -> None:
    bones, known = spine
    p = plan_pedicle_screw(
        bones[level], level, side, known.frames[f"{level}SEP"], known.frames[f"{level}IEP"]
    )
    assert p.grade == "A"
    assert p.clearance_mm >= 1.0 - 1e-6
    assert p.screw.diameter_mm >= 6.5
    assert p.screw.length_mm >= 40.0
    low, high = evidence.span(f"PED-{level}", "convergence")
    assert low - 3.0 <= p.convergence_deg <= high + 3.0
    assert p.canal_mm > 1.0
    assert p.screw.entry[1] > p.screw.tip[1]
