"""What a screw must not run through, and rules with margins; catalogue; constructs by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.fixation.bone import one_bone
from sacroplan.fixation.catalogue import generic, read_catalogue
from sacroplan.fixation.construct import bederman_class, parse
from sacroplan.fixation.pelvic import Pelvis, require_level
from sacroplan.fixation.rules import Metal, Obstacles, Rule, conflicts, pelvic_rules
from sacroplan.fixation.screws import Screw, at
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box, tube

EYE = np.eye(3)
PELVIS = AxisFrame("pelvis", [0, 0, 0], np.array([[0.0, 0, -1.0], [-1.0, 0, 0], [0, 1.0, 0]]))


def _screw(kind: str = "iliac") -> Screw:
    """From (0, 0, 0) 80 mm forwards (LPS -y)."""
    return at("iliac_left", "ilium", "left", kind, [0, 0, 0], [0, -1, 0], 8.0, 80.0)  # type: ignore[arg-type]


def test_a_free_screw_has_no_conflict() -> None:
    assert conflicts(_screw(), Obstacles(), {}, {}) == []


def test_through_a_planned_cut() -> None:
    cut = box(AxisFrame("cut", [0, -40, 0], EYE), [-30, -0.6, -30], [30, 0.6, 30])
    assert "planned cut" in conflicts(_screw(), Obstacles((cut,)), {}, {})[0]
    beyond = box(AxisFrame("cut", [0, -95, 0], EYE), [-30, -0.6, -30], [30, 0.6, 30])
    assert conflicts(_screw(), Obstacles((beyond,)), {}, {}) == []


def test_through_another_screw_or_a_guide_wire() -> None:
    wire = Metal("guide wire 1", np.array([-20.0, -40, 3]), np.array([20.0, -40, 3]), 1.2, 2.0)
    said = conflicts(_screw(), Obstacles((), (wire,)), {}, {})
    assert said
    assert "guide wire 1" in said[0]
    assert "2.2 mm" in said[0]
    other = Metal.of(at("other", "ilium", "left", "iliac", [0, 0, 8.5], [0, -1, 0], 8.0, 80.0), 4.0)
    assert conflicts(_screw(), Obstacles((), (other,)), {}, {}) == []
    rules, doubts = pelvic_rules(_screw(), "iliac", 7.0, Obstacles((), (other,)), {}, {})
    near = next(r for r in rules if r.name == "to_other")
    assert near.value == pytest.approx(0.5)
    assert near.margin == pytest.approx(-3.5)
    assert "fixation.rule.to_other" in {d.code for d in doubts}


def test_through_a_vessel() -> None:
    vein = tube(np.array([[-20.0, -60, 0], [20.0, -60, 0]]), 4.0)
    assert "vein" in conflicts(_screw(), Obstacles(vessels={"vein": vein}), {}, {})[0]


def test_into_the_acetabulum_and_past_it() -> None:
    points = {"HJC_L": np.array([20.0, -80.0, 0.0])}
    assert "acetabulum" in conflicts(_screw(), Obstacles(), points, {"left": 24.0})[0]
    assert conflicts(_screw(), Obstacles(), points, {"left": 15.0}) == []


def test_through_the_notch() -> None:
    ilium = box(AxisFrame("ilium", [0, -40, 0], EYE), [-10, -60, -2], [10, 60, 30])
    points = {"GSN_L": np.array([0.0, -40.0, -2.0])}
    bone = one_bone(ilium)
    said = conflicts(_screw(), Obstacles(), points, {}, bone, 10.0, PELVIS)
    assert said
    assert "sciatic notch" in said[0]
    high = at("high", "ilium", "left", "iliac", [0, 0, 14], [0, -1, 0], 8.0, 80.0)
    assert conflicts(high, Obstacles(), points, {}, bone, 10.0, PELVIS) == []


def test_margins_are_signed_by_the_sense_of_the_rule() -> None:
    assert Rule("a", 3.0, 2.0, True, "mm", ()).margin == 1.0
    assert Rule("a", 3.0, 2.0, False, "mm", ()).margin == -1.0


def _pelvis(removed: dict, with_sacrum: bool = True) -> Pelvis:
    s1 = AxisFrame("S1EP", [0, 0, 0], PELVIS.axes)
    sacrum = box(AxisFrame("s", [0, 0, 0], EYE), [-40, -20, -90], [40, 30, 0])
    bones = {"sacrum": sacrum} if with_sacrum else {}
    return Pelvis(bones, {"S1PF_L": np.array([20.0, 20, -20])}, {"S1EP": s1}, {}, removed)


def test_s2ai_needs_an_intact_s2() -> None:
    whole = box(AxisFrame("s", [0, 0, 0], EYE), [-40, -20, -90], [40, 30, 0])
    low = box(AxisFrame("s", [0, 0, 0], EYE), [-40, -20, -90], [40, 30, -50])
    require_level(_pelvis({}), "s2ai", "left")
    require_level(_pelvis({"sacrum": low}), "s2ai", "left")
    for pelvis in (_pelvis({"sacrum": whole}), _pelvis({}, with_sacrum=False)):
        with pytest.raises(PlanError, match=r"needs an intact S2 \[S2-09\]"):
            require_level(pelvis, "s2ai", "left")


def test_own_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "sizes.toml"
    path.write_text(
        'name = "ours"\nrods_mm = [5.5]\n[[screw]]\nkinds = ["pedicle"]\ndiameters_mm = [5.5, 6.5]\n'
        "lengths_mm = [40, 45]\n[[screw]]\nkinds = ['pedicle']\ndiameters_mm = [6.5]\nlengths_mm = [50]\n",
        "utf-8",
    )
    own = read_catalogue(path)
    assert own.diameters("pedicle").tolist() == [5.5, 6.5]
    assert own.lengths("pedicle").tolist() == [40.0, 45.0, 50.0]
    assert own.has("pedicle", 6.5, 50.0)
    assert not own.has("pedicle", 5.5, 50.0)
    with pytest.raises(PlanError, match="no sizes for s2ai"):
        own.diameters("s2ai")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[screw]]\nkinds = ['nail']\ndiameters_mm = [5]\nlengths_mm = [40]\n", "nail"),
        ("[[screw]]\nkinds = ['wing']\ndiameters_mm = [55]\nlengths_mm = [40]\n", "55"),
        ("[[screw]]\nkinds = ['wing']\ndiameter = [5]\nlengths_mm = [40]\n", "'diameter'"),
        ("name = 'x'\n", "lists no screws"),
        ("name = \n", "cannot be read"),
    ],
)
def test_a_bad_catalogue_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sizes.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(PlanError, match=said):
        read_catalogue(path)


def test_generic_sizes_cover_every_kind() -> None:
    from sacroplan.fixation.screws import KINDS

    for kind in KINDS:
        assert len(generic().diameters(kind)) >= 2
        assert len(generic().lengths(kind)) >= 4


def test_constructs_by_name() -> None:
    assert [(p.word, p.side) for p in parse("l4-S2AI")] == [
        ("L4", "left"), ("L4", "right"), ("S2AI", "left"), ("S2AI", "right"),
    ]  # fmt: skip
    assert [(p.word, p.side) for p in parse("paper-b-2")][-1] == ("S1", "left")
    assert len(parse("paper-b-1")) == 6
    for text, said in (("L4-L9", "L9"), ("L4.up", "no side"), ("L4-L4", "twice")):
        with pytest.raises(PlanError, match=said):
            parse(text)


def test_classes_of_bederman() -> None:
    assert bederman_class(True, True, False, False) == ("SPF",)
    assert bederman_class(True, True, True, True) == ("SPF", "PPRF", "ASCF")
    assert bederman_class(True, False, False, False) == ()
