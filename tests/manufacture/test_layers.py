"""A filled layer is checked on the triangles that are written, not on what was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.geometry.surface import Surface
from sacroplan.implant.lattice import define
from sacroplan.lattice.layer import fill, solidify
from sacroplan.lattice.marching import Block
from sacroplan.lattice.properties import sizes
from sacroplan.manufacture.layers import check_layer, form_of

HERE = AxisFrame("test", np.array([10.0, -20.0, 300.0]), np.eye(3))


def plate(size: float = 9.0, thick: float = 3.0) -> tuple[Surface, Surface]:
    return (
        box(HERE, np.zeros(3), np.array([size, size, thick])),
        box(HERE, np.array([0.0, 0.0, -3.0]), np.array([size, size, 0.0])),
    )


@pytest.mark.parametrize(
    ("name", "cell", "grid"),
    [
        ("gyroid_network", 1.03, 0.07),
        ("diamond_network", 1.3, 0.07),
        ("gyroid_sheet", 2.4, 0.08),
        ("diamond_strut", 1.2, 0.07),
        ("dodecahedron_strut", 1.5, 0.06),
    ],
)
def test_sizes_and_density_on_the_finished_surface(name: str, cell: float, grid: float) -> None:
    body, core = plate(2.9 * cell + 2.1, 2.0 * cell)
    layer = fill(body, core, name, cell, 0.3)
    solid = solidify(layer, grid)
    check = check_layer("L5", solid, "triangles")
    assert check.closed
    assert check.triangles == pytest.approx(solid.triangles, rel=0.02)
    assert check.measured == pytest.approx(0.3, abs=0.01)
    assert check.found is not None
    assert check.found.throat == pytest.approx(check.predicted.throat, rel=0.05)
    assert check.strut_mm == pytest.approx(check.predicted_strut, rel=0.05)
    figures = check.metrics()
    assert figures["print.lattice_L5.density.measured"].within is True
    assert figures["print.lattice_L5.strut.measured"].value == pytest.approx(1e3 * check.strut_mm)


def test_the_surface_that_is_checked_is_the_one_that_is_written() -> None:
    body, core = plate(6.0, 2.0)
    solid = solidify(fill(body, core, "gyroid_network", 1.0, 0.3), 0.08)
    blocks = list(solid.blocks())
    n = len(blocks) // 2
    broken = [
        Block(b.vertices, b.first, b.faces[1:]) if k == n else b for k, b in enumerate(blocks)
    ]
    assert check_layer("L5", solid, "triangles", blocks).closed
    check = check_layer("L5", solid, "triangles", broken)
    assert not check.closed
    assert "print.lattice.open" in [d.code for d in check.doubts]
    whole = solid.surface()
    told = check_layer("L5", solid, "triangles", blocks)
    assert told.volume_mm3 == pytest.approx(whole.volume_mm3, rel=1e-9)
    assert told.area_mm2 == pytest.approx(whole.area_mm2, rel=1e-9)


def test_the_budget_chooses_the_form() -> None:
    assert form_of("gyroid_network", 1_000_000) == "triangles"
    assert form_of("gyroid_network", 9_000_000) == "slices"
    assert form_of("diamond_strut", 9_000_000) == "beams"
    assert form_of("gyroid_network", 50, budget=40) == "slices"
    body, core = plate(5.0, 2.0)
    solid = solidify(fill(body, core, "gyroid_network", 1.0, 0.3), 0.1)
    said = check_layer("L5", solid, "slices").doubts
    assert any(d.code == "print.lattice.form" and "slices" in d.message for d in said)


def test_thin_walls_are_refused_with_the_physics() -> None:
    # 600 um pores and 30 % density: the sheet's wall is under 0.2 mm, the network's strut 0.34 mm.
    network = define(1.09, 0.7, 2.0)
    assert network.pore_um == pytest.approx(600, rel=0.03)
    assert network.strut_um == pytest.approx(344, rel=0.03)
    sheet = 0.6 / sizes("gyroid_sheet", 0.3).throat
    with pytest.raises(
        PlanError, match=r"sheet gyroid has walls of 0\.1\d mm.*0\.2 mm.*skeletal gyroid"
    ):
        define(sheet, 0.7, 2.0, "gyroid_sheet")
    thick = define(3.0, 0.7, 3.0, "gyroid_sheet")
    assert thick.strut_um == pytest.approx(267, rel=0.02)
    # A machine's own minimum, given by its user, is as good a reason; the usual one only warns.
    with pytest.raises(PlanError, match="printer's minimum"):
        define(1.09, 0.7, 2.0, printer_strut_mm=0.4)
    assert 1e3 * 0.2 < define(0.7, 0.7, 2.0).strut_um < 250.0
    with pytest.raises(PlanError, match="porosity of 95 %"):
        define(1.0, 0.95, 2.0)


def test_a_layer_with_hair_thin_struts_is_refused() -> None:
    body, core = plate(5.0, 1.6)
    solid = solidify(fill(body, core, "gyroid_network", 0.5, 0.3, rim_mm=0.0), 0.05)
    with pytest.raises(PlanError, match=r"struts of 0\.1\d mm"):
        check_layer("L5", solid, "triangles")
