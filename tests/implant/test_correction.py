"""Lordosis and height that the implant corrects."""

from dataclasses import replace

import numpy as np
import pytest
from implant_cases import UPRIGHT, blocky_case, hemi_case

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import overlap_mm3
from sacroplan.geometry.frames import AxisFrame
from sacroplan.implant.correction import corrected, pose_of
from sacroplan.implant.envelope import envelope_of
from sacroplan.implant.model import ImplantParameters
from sacroplan.implant.two_wing import design

CHANGED = ImplantParameters(grid_mm=1.4, lordosis_change_deg=6.0, height_change_mm=3.0)


def case():
    plates = {
        "s1_endplate": np.array([0.0, -2.0, 0.0]),
        "upper_endplate": np.array([0.0, -14.0, 38.0]),
    }
    frames = {k: AxisFrame(k, v, UPRIGHT) for k, v in plates.items()}
    return replace(blocky_case(), **frames)


def test_the_vertebra_turns_about_its_endplate_and_is_lifted():
    one = case()
    pose = pose_of(one, CHANGED)
    plate = one.l5_endplate
    moved = corrected(one, pose)
    lift = moved.l5_endplate.origin - plate.origin
    assert lift == pytest.approx(3.0 * plate.axes[:, 1])
    turned = moved.l5_endplate.axes[:, 1]
    assert np.degrees(np.arccos(turned @ plate.axes[:, 1])) == pytest.approx(6.0)
    # More lordosis leans the spine above backwards.
    assert turned @ one.axes.axes[:, 0] < plate.axes[:, 1] @ one.axes.axes[:, 0]
    assert moved.seats is one.seats
    assert moved.s1_endplate is one.s1_endplate
    assert pose_of(one, ImplantParameters()) is None
    assert corrected(one, None) is one


def test_the_implant_is_built_under_the_vertebra_where_it_will_stand():
    one = case()
    own, built = (
        design(one, replace(CHANGED, lordosis_change_deg=0.0, height_change_mm=0.0)),
        design(one, CHANGED),
    )
    for solid in (built.core, *built.porous.values()):
        assert overlap_mm3(solid, built.carried(one.l5)) < 0.3
    figure = {n.removeprefix("implant."): m.value for n, m in built.figures.items()}
    before = {n.removeprefix("implant."): m.value for n, m in own.figures.items()}
    assert figure["L5.coverage_percent"] > 80
    for name in ("lordosis.segment_before_deg", "lordosis.vertebra_deg"):
        assert figure[name] == pytest.approx(before[name], abs=0.3)
    assert figure["lordosis.segment_planned_deg"] == pytest.approx(
        before["lordosis.segment_planned_deg"] + 6.0
    )
    assert before["lordosis.segment_planned_deg"] == pytest.approx(
        before["lordosis.segment_before_deg"]
    )
    assert figure["lordosis.height_bridged_mm"] > before["lordosis.height_bridged_mm"] + 2.5
    # The incidence of the virtual endplate falls by the turn, but for the endplate's own shift.
    change = figure["L5.virtual_pelvic_incidence_deg"] - before["L5.virtual_pelvic_incidence_deg"]
    assert change == pytest.approx(-6.0, abs=1.5)
    assert own.carried(one.l5) is one.l5


def test_what_cannot_be_corrected_is_refused():
    with pytest.raises(PlanError, match="half of the sacrum that stays holds L5"):
        design(hemi_case(), CHANGED)
    with pytest.raises(PlanError, match=r"lordosis_change_deg\) = 30 deg is not possible"):
        design(case(), replace(CHANGED, lordosis_change_deg=30.0))
    wide = envelope_of(replace(CHANGED, lordosis_change_deg=10.0))
    assert [e.bound.name for e in wide.marked] == ["lordosis_change_deg"]
