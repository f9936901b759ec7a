"""Reconstructions side by side on a toy pelvis: what is stiffer, struts, published orders, refusals."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from mechanics_shapes import cuboid, toy_case

from sacroplan.mechanics import compare as room
from sacroplan.mechanics.compare import Graft, Road, Stability, published_orders
from sacroplan.mechanics.study import evaluate
from sacroplan.report import compare as chapter


def printed():
    case = toy_case()
    return Road(
        room.PRINTED, "Printed", case.screws, case.rods, case.implant_core, case.porous,
        case.porous_material,
    )  # fmt: skip


def fixation(name, **more):
    """Rods that run on to the iliac screws, whose heads no implant holds."""
    case = toy_case()
    rods = []
    for rod, s in zip(case.rods, (1.0, -1.0), strict=True):
        line = [*rod.polyline, np.array([s * 26, 4, -20]), np.array([s * 32, 2, -20.5])]
        rods.append(replace(rod, polyline=np.array(line)))
    return Road(name, name, case.screws, tuple(rods), **more)


STRUTS = {
    "left": Graft(cuboid([8, -6, -14], [40, 6, 8]), 15_000.0),
    "right": Graft(cuboid([-40, -6, -14], [-8, 6, 8]), 15_000.0),
}


@cache
def compared():
    roads = (
        printed(),
        fixation("spf"),
        fixation("struts", grafts=STRUTS),
        fixation("soft", grafts={n: replace(g, young_mpa=50.0) for n, g in STRUTS.items()}),
        Road("bare", "Nothing put back"),
    )
    return room.compare(toy_case(), roads)


def test_the_printed_road_is_the_studys_own_model():
    own = evaluate(toy_case()).metrics()
    for road, model in ((room.PRINTED, "reconstructed"), (room.INTACT, "intact")):
        ours = compared().row(road)
        assert ours.stiffness_n_per_mm == pytest.approx(
            own[f"mechanics.{model}.lc01.stiffness_n_per_mm"].value, rel=1e-6
        )
        assert ours.l5_down_mm > 0.0
    assert compared().row(room.INTACT).metal_mpa != compared().row(room.INTACT).metal_mpa
    assert compared().force_n == pytest.approx(600.0)


def test_struts_help_as_much_as_they_are_stiff():
    bare, soft, stiff = (compared().row(n) for n in ("spf", "soft", "struts"))
    assert stiff.stiffness_n_per_mm > soft.stiffness_n_per_mm > bare.stiffness_n_per_mm
    assert stiff.l5_down_mm < soft.l5_down_mm < bare.l5_down_mm
    assert stiff.metal_mpa < bare.metal_mpa


def test_a_road_that_holds_nothing_says_so_and_the_others_stand():
    row = compared().row("bare")
    assert "is not connected" in row.why_not
    assert np.isnan(row.stiffness_n_per_mm)
    metrics = compared().metrics()
    assert metrics["mechanics.compare.bare.stiffness_n_per_mm"].value is None
    assert metrics["mechanics.compare.spf.stiffness_n_per_mm"].value > 0.0


def stability(name, stiffness=100.0, down=1.0, metal=50.0, why=""):
    return Stability(name, name, stiffness, down, metal, metal, 1, why)


def test_published_orders_are_kept_not_kept_or_not_to_be_judged():
    rows = (
        stability(room.SINGLE, stiffness=80.0),
        stability(room.DUAL, stiffness=120.0),
        stability(room.FOUR, down=1.2, metal=90.0),
        stability(room.COLUMN, down=1.0, metal=60.0),
        stability(room.PRINTED, down=0.4, metal=40.0),
    )
    found = {o.what: o for o in published_orders(rows)}
    assert found["stiffness"].verdict == found["peak stress"].verdict == "kept"
    assert found["sinking of L5"].verdict == "not kept"
    assert found["sinking of L5"].found == (room.FOUR, room.COLUMN, room.PRINTED)
    short = published_orders((*rows[1:], stability(room.SINGLE, why="no screw")))
    assert short[0].verdict == "not to be judged"
    assert short[1].verdict == "kept"


def test_the_report_shows_every_road_and_why_one_is_missing():
    figures, orders = chapter.tables_of(compared())
    titles = [row[0] for row in figures.rows]
    assert titles == ["Intact pelvis", "Printed", "spf", "struts", "soft", "Nothing put back"]
    assert figures.rows[0][2] == "100 %"
    assert figures.rows[-1][1].startswith("not computed: ")
    assert {row[3] for row in orders.rows} == {"not to be judged"}
    (picture,) = chapter.pictures_of(compared())
    assert picture.png.startswith(b"\x89PNG")
    assert chapter.tables_of(None) == chapter.pictures_of(None) == ()
    assert "compare = true" in chapter.text_of(None)[0]
    words = chapter.stiffness_words(compared())
    assert set(words) == {room.PRINTED}
