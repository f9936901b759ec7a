"""What fills the porous layers: the case file's keys, grading, the printer's minimum."""

from types import SimpleNamespace

import numpy as np
import pytest

from sacroplan.case.config import new_config, parse_config
from sacroplan.case.steps.implant import parameters
from sacroplan.case.steps.prints import implant_layer
from sacroplan.errors import CaseError, PlanError
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.implant.lattice import define
from sacroplan.implant.model import ImplantParameters
from sacroplan.implant.two_wing import design
from sacroplan.lattice import properties
from sacroplan.manufacture.layers import check_layer

HERE = AxisFrame("block", np.array([20.0, -30.0, 40.0]), np.eye(3))


def config(words):
    return parse_config(new_config("c", "ct", None, None) + words, "case.toml")


def test_the_case_file_says_what_fills_the_layers():
    case = config(
        '[implant]\ncell_type = "diamond_strut"\ncell_mm = 1.2\nporosity_percent = 75\n'
        "core_porosity_percent = 55\nprinter_minimum_mm = 0.25\n"
    )
    p = parameters(case, ImplantParameters())
    assert (p.cell_type, p.cell_mm, p.printer_minimum_mm) == ("diamond_strut", 1.2, 0.25)
    assert (p.porosity_percent, p.core_porosity_percent) == (75.0, 55.0)
    even = parameters(config(""), ImplantParameters())
    assert even == ImplantParameters()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ('[implant]\ncell_type = "honeycomb"\n', "implant.cell_type.*diamond_strut"),
        ("[implant]\nprinter_minimum_mm = 0\n", "printer_minimum_mm"),
        ("[implant]\ncore_porosity = 50\n", "Did you mean 'core_porosity_percent'"),
    ],
)
def test_wrong_keys_are_named(words, message):
    with pytest.raises(CaseError, match=message):
        config(words)


def test_a_graded_layer_is_as_thin_as_its_thinnest_part():
    found = define(1.0, 0.75, 2.0, "gyroid_network", None, 0.55)
    assert found.ends == pytest.approx((0.25, 0.45))
    assert found.density == pytest.approx(0.35)
    thin, dense = (properties.sizes("gyroid_network", d) for d in found.ends)
    assert found.strut_um == pytest.approx(1e3 * thin.strut("network"))
    assert found.pore_um == pytest.approx(1e3 * thin.throat)
    turned = define(1.0, 0.55, 2.0, "gyroid_network", None, 0.75)
    assert turned.strut_um == pytest.approx(found.strut_um)
    assert turned.pore_um == pytest.approx(1e3 * dense.throat)
    with pytest.raises(PlanError, match="from 50 to 90 %"):
        define(1.0, 0.7, 2.0, "diamond_strut", None, 0.45)


def test_struts_below_the_printers_minimum_are_refused_before_anything_is_built():
    from implant_cases import blocky_case

    case = config(
        '[implant]\ncell_type = "gyroid_sheet"\ncell_mm = 2.0\nprinter_minimum_mm = 0.3\n'
    )
    p = parameters(case, ImplantParameters())
    with pytest.raises(
        PlanError, match=r"sheet gyroid has walls of 0\.\d+ mm, below 0\.3 mm, the printer"
    ):
        design(blocky_case(), p)


def test_the_print_stage_grades_the_layer_and_holds_it_to_the_printer():
    layer = box(HERE, [0, 0, 0], [5, 5, 2])
    core = box(HERE, [0, 0, -4], [5, 5, 0])
    wanted = define(1.0, 0.75, 2.0, "gyroid_network", None, 0.55)
    implant = SimpleNamespace(porous={"L5": layer}, lattice={"L5": wanted}, core=core)
    solid = implant_layer(implant, "L5", HERE.axes)
    filled = solid.layer
    at = filled.geometry.to_index(HERE.origin + [[2.5, 2.5, 1.9], [2.5, 2.5, 0.1]])
    top, foot = filled.graded[tuple(np.rint(at).astype(int).T)]
    assert top == pytest.approx(0.26, abs=0.02)
    assert foot == pytest.approx(0.44, abs=0.02)
    check = check_layer("L5", solid, "triangles", printer_mm=0.2)
    # Where it is thinnest on the grid of 0.25 mm, not in the mean.
    assert 1e3 * check.strut_mm == pytest.approx(wanted.strut_um, rel=0.07)
    assert (
        check.strut_mm < properties.sizes("gyroid_network", wanted.density).strut("network") - 0.03
    )
    with pytest.raises(PlanError, match=r"below 0\.5 mm, the printer's minimum"):
        check_layer("L5", solid, "triangles", printer_mm=0.5)
