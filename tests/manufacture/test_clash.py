"""Clashes: exact volumes, and leave for what is meant."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import GeometryError, PlanError
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box, cylinder
from sacroplan.geometry.surface import Surface
from sacroplan.manufacture.clash import clashes

HERE = AxisFrame("test", np.zeros(3), np.eye(3))


def at(x: float) -> Surface:
    return box(HERE, np.array([x, 0.0, 0.0]), np.array([x + 10.0, 10.0, 10.0]))


def test_overlaps_are_exact() -> None:
    screw = cylinder([5.0, 5.0, 5.0], [5.0, 5.0, 30.0], 2.0)
    found = clashes(
        {"implant": at(0.0), "bone": at(9.0), "screw": screw, "far": at(60.0), "flush": at(70.0)},
        [("screw", "implant")],
    )
    table = {(c.first, c.second): c for c in found.rows}
    assert set(table) == {("bone", "implant"), ("implant", "screw")}
    assert table["bone", "implant"].overlap_mm3 == pytest.approx(100.0)
    assert not table["bone", "implant"].allowed
    expected = 0.5 * 48 * np.sin(2 * np.pi / 48) * 4.0 * 5.0
    assert table["implant", "screw"].overlap_mm3 == pytest.approx(expected)
    assert table["implant", "screw"].allowed
    assert [(c.first, c.second) for c in found.forbidden] == [("bone", "implant")]
    assert [d.code for d in found.doubts] == ["plan.clash"]
    assert found.metrics()["clash.forbidden"].value == 1
    assert found.metrics()["clash.bone.implant.overlap_mm3"].within is False
    assert found.pairs == 10


def test_a_film_is_no_clash() -> None:
    found = clashes({"a": at(0.0), "b": at(9.995)})
    assert found.rows[0].overlap_mm3 == pytest.approx(0.5)
    assert found.forbidden == ()
    assert found.doubts == ()


def test_bad_input_is_named() -> None:
    with pytest.raises(PlanError, match="'rod'"):
        clashes({"a": at(0.0)}, [("a", "rod")])
    opened = Surface(at(5.0).vertices, at(5.0).faces[1:])
    with pytest.raises(GeometryError, match="opened"):
        clashes({"a": at(0.0), "opened": opened})
    assert clashes({}).rows == ()
