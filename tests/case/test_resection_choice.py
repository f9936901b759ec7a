"""[resection] of case.toml: what it asks for, and which stages leave which resection out."""

from types import SimpleNamespace

import numpy as np
import pytest

from sacroplan.case.config import new_config, parse_config
from sacroplan.case.steps import implant, mechanics, rods, screws
from sacroplan.case.steps.resection import choice_of, own_of
from sacroplan.errors import CaseError
from sacroplan.resection.presets import PRESETS, Choice, title

BASE = new_config("case7", "ct", None, None)


def config(lines):
    return parse_config(BASE.replace('type = "total"', lines, 1), "case.toml")


def test_a_named_case_brings_its_settings_and_the_user_his_margin():
    choice = choice_of(config('type = "kaiser-2025-case-3"\nmargin_mm = 12.0'))
    preset = PRESETS["kaiser-2025-case-3"]
    assert (choice.kind, choice.side, choice.l5, choice.line) == (
        preset.kind, preset.side, preset.l5, preset.line,
    )  # fmt: skip
    assert choice.margin("sacral") == 12.0


def test_margins_may_differ_from_cut_to_cut():
    choice = choice_of(
        config('type = "hemi"\nside = "left"\nmargins_mm = { sacral = 15.0 }\nmargin_mm = 8.0')
    )
    assert choice.margin("sacral") == 15.0
    assert choice.margin("iliac_left") == 8.0


def test_a_chain_of_the_users_reaches_the_room_as_it_is():
    text = (
        'type = "free"\n[resection.cuts.step]\nbone = "sacrum"\n'
        "points_mm = [[0,60,20],[0,60,-20],[30,60,-20]]\nnormal = [-1,0,0]\nsaw = [0,1,0]\ndepth_mm = 40"
    )
    own = own_of("step", config(text).resection.cuts["step"], "LPS")
    assert own.points.shape == (3, 3)
    assert own.saw == pytest.approx([0, 1, 0])
    assert own.depth_mm == 40
    assert np.allclose(own.plane.normal, [-1, 0, 0])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('type = "hemy"', "resection.type"),
        ('type = "free"\n[resection.cuts.a]\nnormal = [1,0,0]', "either point_mm"),
        (
            'type = "free"\n[resection.cuts.a]\nnormal = [1,0,0]\npoint_mm = [0,0,0]\nbone = "femur"',
            "bone",
        ),
        ('type = "free"\n[resection.cuts."a b"]\nnormal = [1,0,0]\npoint_mm = [0,0,0]', "pattern"),
    ],
)
def test_a_wrong_resection_is_named(lines, message):
    with pytest.raises(CaseError, match=message):
        config(lines)


@pytest.mark.parametrize("step", [screws, implant, rods, mechanics])
@pytest.mark.parametrize(
    ("choice", "with_implant", "modelled"),
    [
        (Choice("total"), True, True),
        (Choice("high"), False, False),
        (Choice("total", l5="whole"), True, False),
        (Choice("hemi", "left"), True, True),
        (Choice("hemi", "right", "partial", "disarticulation"), True, False),
        (Choice("hemi", "right", "whole"), False, False),
    ],
)
def test_stages_say_what_they_do_not_plan(step, choice, with_implant, modelled):
    plan = SimpleNamespace(choice=choice, title=title(choice))
    context = SimpleNamespace(
        result=lambda _name: SimpleNamespace(plan=plan),
        config=SimpleNamespace(implant=SimpleNamespace(design=None, parameters={})),
    )
    why = step.STAGE.unfit(context)
    planned = modelled if step is mechanics else with_implant
    if planned:
        assert why is None
    else:
        assert "not planned" in why
        assert why.count(".") == 1


def test_the_design_of_case_toml_must_fit_the_resection():
    plan = SimpleNamespace(choice=Choice("hemi", "left"), title="Sagittal hemisacrectomy, left")
    context = SimpleNamespace(
        result=lambda _name: SimpleNamespace(plan=plan),
        config=SimpleNamespace(implant=SimpleNamespace(design="total")),
    )
    assert "'total' of case.toml does not fit" in implant.STAGE.unfit(context)


def test_any_parameter_of_the_envelope_can_be_set():
    from sacroplan.implant.model import ImplantParameters

    text = 'type = "total"\n[implant.parameters]\nwing_depth_mm = 18.5\nscrews_per_side = 3'
    p = implant.parameters(config(text), ImplantParameters())
    assert p.wing_depth_mm == 18.5
    assert p.screws_per_side == 3
    with pytest.raises(CaseError, match="did you mean 'wing_depth_mm'"):
        implant.parameters(
            config('type = "total"\n[implant.parameters]\nwing_dept_mm = 18.5'), ImplantParameters()
        )
