"""Hemisacral and self-stabilising implants on solids whose faces are known."""

from dataclasses import replace

import pytest
from implant_cases import blocky_case, hemi_case, mirrored

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import bodies, overlap_mm3
from sacroplan.geometry.primitives import cylinder
from sacroplan.implant.choice import Reconstruction, reconstruction
from sacroplan.implant.two_wing import FlatSeat, ImplantParameters, design
from sacroplan.resection.presets import PRESETS, Choice

COARSE = ImplantParameters(grid_mm=1.3)


@pytest.fixture(scope="module")
def case():
    return hemi_case("right")


@pytest.fixture(scope="module")
def implant(case):
    return design(case, COARSE)


@pytest.fixture(scope="module")
def halved():
    case = hemi_case("right", halved_l5=True)
    return case, design(case, COARSE)


def figure(implant, name):
    return implant.metrics()[f"implant.{name}"].value


def all_bones(case):
    return [case.l5, *(s.hip for s in case.seats), *(f.bone for f in case.flats)]


def test_three_seats_one_body(implant):
    assert sorted(implant.porous) == ["L5", "sacrum", "wing_right"]
    assert implant.design == "hemi_right"
    for solid in (implant.core, *implant.porous.values()):
        assert solid.is_closed
        assert len(bodies(solid)) == 1
    assert [p.side for p in implant.posts] == ["right"]
    assert {s.side for s in implant.wing_screws} == {"right"}


def test_no_bone_is_cut(case, implant):
    for bone in all_bones(case):
        for solid in (implant.core, *implant.porous.values()):
            assert overlap_mm3(solid, bone) < 0.3


def test_flat_seats_lie_on_their_faces(case, implant):
    for name, plane in (
        ("sacrum", case.flats[0].plane), ("wing_right", case.seat("right").plane),
    ):  # fmt: skip
        d = plane.distance(implant.porous[name].vertices)
        assert d.min() == pytest.approx(0.0, abs=1e-6)
        assert d.max() == pytest.approx(COARSE.porous_mm, abs=1e-6)
        assert figure(implant, f"{name}.seat_mean_mm") < 0.05
        assert figure(implant, f"{name}.seat_p95_mm") < 0.15
        assert figure(implant, f"{name}.seat_share_percent") > 80
    assert figure(implant, "sacrum.contact_mm2") > 500


def test_beside_the_seat_the_border_stays_free(case, implant):
    # Canal and disc lie behind the plane: only the porous pad comes up to it.
    plane = case.flats[0].plane
    assert plane.distance(implant.core.vertices).min() >= COARSE.porous_mm - 1e-6
    for name in ("L5", "wing_right"):
        assert plane.distance(implant.porous[name].vertices).min() > 1.0


def test_mirrored_defect_gives_the_mirrored_implant(case, implant):
    other = design(mirrored(case), COARSE)
    assert other.design == "hemi_left"
    assert other.core.volume_mm3 == pytest.approx(implant.core.volume_mm3, rel=5e-3)
    assert other.core.centroid * [-1, 1, 1] == pytest.approx(implant.core.centroid, abs=0.1)
    assert figure(other, "sacrum.contact_mm2") == pytest.approx(
        figure(implant, "sacrum.contact_mm2"), rel=0.01
    )


def test_halved_l5_is_replaced_up_to_l4(halved):
    case, implant = halved
    assert sorted(implant.porous) == ["L4", "L5_side", "sacrum", "wing_right"]
    for bone in all_bones(case):
        for solid in (implant.core, *implant.porous.values()):
            assert overlap_mm3(solid, bone) < 0.3
    assert len(bodies(implant.core)) == 1
    # It stands under L4's half, and beside what is left of L5.
    assert figure(implant, "L4.coverage_percent") > 80
    assert figure(implant, "L5_side.contact_mm2") > 200
    top = max(s.bounds[1, 2] for s in implant.porous.values())
    assert top == pytest.approx(48.0 - COARSE.endplate_gap_mm, abs=0.3)


def test_sections_of_the_load_path(implant, halved):
    for one in (implant, halved[1]):
        for path in ("block", "wing_right"):
            assert figure(one, f"load_path.{path}.least_area_mm2") > 95
            assert figure(one, f"load_path.{path}.neck") > 0.6


def test_a_hemisacral_implant_needs_its_remnant(case):
    with pytest.raises(PlanError, match="cut face of the sacral remnant"):
        replace(case, flats=())
    with pytest.raises(PlanError, match="one seat on the left"):
        replace(case, design="hemi_left")
    flipped = FlatSeat("sacrum", case.flats[0].plane.flipped(), case.flats[0].bone)
    with pytest.raises(PlanError, match="sacrum must point from the remnant"):
        design(replace(case, flats=(flipped,)), COARSE)


def test_self_stabilising_holds_the_vertebra_by_screws():
    case = replace(blocky_case(), design="self_stabilising", rod_targets={})
    implant = design(case, COARSE)
    assert implant.posts == ()
    own = [s for s in implant.wing_screws if s.level == "L5"]
    assert sorted(s.side for s in own) == ["left", "right"]
    for screw in own:
        shank = cylinder(screw.head, screw.tip, 0.5 * screw.diameter_mm)
        assert overlap_mm3(implant.core, shank) < 1e-6
        inside = cylinder(screw.bone_entry, screw.tip, 0.5 * screw.diameter_mm)
        assert overlap_mm3(case.l5, inside) > 0.85 * inside.volume_mm3
        # Cranial and forwards, as a driver comes from behind and below.
        d = case.axes.axes.T @ screw.direction
        assert d[0] > 0.3
        assert d[1] > 0.3


@pytest.mark.parametrize(
    ("name", "design_", "level", "flats"),
    [
        ("total", "total", "L5", ()),
        ("total-with-l5", "total", "L4", ()),
        ("hemi-left", "hemi_left", "L5", ("sacrum",)),
        ("hemi-with-l5-right", "hemi_right", "L4", ("sacrum", "L5_side")),
        ("kaiser-2025-case-2", "hemi_right", "L4", ("sacrum", "L5_side")),
    ],
)
def test_the_resection_chooses_the_design(name, design_, level, flats):
    found = reconstruction(PRESETS[name])
    assert isinstance(found, Reconstruction)
    assert (found.design, found.level, found.flats) == (design_, level, flats)


def test_what_has_no_implant_says_why():
    assert "low partial sacrectomy" in reconstruction(PRESETS["low"])
    assert "does not fit" in reconstruction(PRESETS["hemi-left"], "total")
    assert "hemisacrectomy" in reconstruction(Choice("hemi", "left", "whole"))
    own = reconstruction(PRESETS["total"], "self_stabilising")
    assert own.construct == ""
    assert own.rods == ()
