"""The specified design envelope: marked by weak evidence, refused by strong or by geometry."""

from dataclasses import replace

import pytest

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.implant.envelope import BOUNDS, Bound, envelope_of
from sacroplan.implant.model import ImplantParameters


def test_defaults_lie_within_and_every_row_exists():
    found = envelope_of(ImplantParameters())
    assert found.refused == ()
    assert found.marked == ()
    assert found.require() is found
    # All but the porosity at the core, which an even layer does not have.
    assert len(found.entries) == len(BOUNDS) - 1
    for entry in found.entries:
        assert evidence.get(entry.bound.row)
        assert entry.lower is not None or entry.upper is not None


def test_every_length_of_a_design_is_bounded():
    # Sampling and accuracy are the program's own, not the design's.
    own = {"grid_mm", "simplify_mm", "mass_ratio", "cell_type", "printer_minimum_mm"}
    assert {b.name for b in BOUNDS} | own == set(vars(ImplantParameters()))


def test_weak_evidence_marks():
    found = envelope_of(replace(ImplantParameters(), wing_depth_mm=25.0))
    assert [e.bound.name for e in found.marked] == ["wing_depth_mm"]
    assert found.refused == ()
    (doubt,) = found.doubts
    assert doubt.code == "implant.outside_envelope.wing_depth_mm"
    assert "25 mm lies outside 12 to 22 mm [SP-IMP-03, P]" in doubt.message
    assert found.metrics()["implant.design_envelope.wing_depth_mm"].within is False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"porosity_percent": 95.0},
            "Porosity of the layer .* = 95 % is not possible: .* falls apart",
        ),
        ({"porous_mm": 0.2}, "thinner than one strut"),
        ({"rod_diameter_mm": 9.0}, "no such rod exists"),
    ],
)
def test_geometry_refuses(change, words):
    found = envelope_of(replace(ImplantParameters(), **change))
    with pytest.raises(PlanError, match=words):
        found.require()


@pytest.mark.parametrize("rod", [5.5, 6.0, 6.35])
def test_rods_come_in_sizes(rod):
    found = envelope_of(replace(ImplantParameters(), rod_diameter_mm=rod))
    assert found.marked == ()
    between = envelope_of(replace(ImplantParameters(), rod_diameter_mm=5.8))
    assert between.marked[0].range_words == "5.5 or 6 or 6.35 mm"


def test_strong_evidence_refuses():
    # AM-01 carries the flag V: it may reject, so a value below its lower bound does.
    bound = Bound("wing_depth_mm", "Angle", "deg", "AM-01", "lpbf")
    found = envelope_of(replace(ImplantParameters(), wing_depth_mm=20.0), bounds=(bound,))
    assert [e.verdict for e in found.entries] == ["refused"]


def test_table_has_one_line_a_parameter():
    rows = envelope_of(ImplantParameters()).table()
    assert len(rows) == len(BOUNDS) - 1
    assert ("Porosity of the layer", "70 %", "60 to 80 %", "POR-3 [K]", "within") in rows
