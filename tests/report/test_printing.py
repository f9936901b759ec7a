"""Pictures and tables of the print checks."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sacroplan.geometry.booleans import difference
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box, cylinder, sphere
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.manufacture.checks import check_part
from sacroplan.manufacture.findings import Hole
from sacroplan.report.printing import marks, print_pictures, print_tables

HERE = AxisFrame("lps", np.zeros(3), np.eye(3))


def test_marks_are_closed_bodies_at_their_points() -> None:
    points = np.array([[0.0, 0, 0], [5.0, 1.0, 2.0]])
    s = marks(points, 0.5, "LPS")
    assert s.is_closed
    assert [b.volume_mm3 for b in s.bodies()] == pytest.approx([4.0 / 3.0 * 0.125] * 2)
    assert s.vertices.reshape(2, 6, 3).mean(axis=1) == pytest.approx(points)


def test_what_was_found_is_seen_where_it_is() -> None:
    # A bottle: powder in it, thin wall on its left (+x), an overhang in its chamber.
    block = box(HERE, np.zeros(3), np.full(3, 20.0))
    part = difference(
        block,
        sphere([10.0, 10.0, 10.0], 5.0, 48),
        cylinder([10.0, 10.0, 10.0], [10.0, 10.0, 25.0], 0.1, 24),
        box(HERE, np.array([17.0, 3.0, 3.0]), np.array([19.8, 25.0, 17.0])),
    )
    hole = Hole("neck", np.array([10.0, 10.0, 18.0]), np.array([0.0, 0, 1]), 0.2)
    check = check_part(part, "bottle", "LPBF", np.array([0.0, 0.0, 1.0]), [hole])
    prints = SimpleNamespace(checks=(check,), layers=())
    pictures = print_pictures(prints, {"bottle": part}, HERE)
    assert [p.name for p in pictures] == ["print-bottle-front", "print-bottle-back"]
    assert "thin walls red" in pictures[0].caption
    assert "trapped powder violet" in pictures[0].caption
    image = np.asarray(Image.open(io.BytesIO(pictures[0].png)).convert("RGB")).astype(int)
    red = (image[..., 0] > 150) & (image[..., 1] < 90) & (image[..., 2] < 100)
    grey = np.ptp(image, axis=2) < 25
    body = grey & (image.max(axis=2) < 240)
    # The patient's left is on the viewer's right.
    assert red.sum() > 50
    assert np.nonzero(red)[1].mean() > np.nonzero(body)[1].mean() + 100
    tables = {t.title: t for t in print_tables(prints)}
    assert tables["Holes"].rows[0][:3] == ("neck", "0.20 mm", "0.20 mm")
    row = dict(zip(tables["Printed parts"].columns, tables["Printed parts"].rows[0], strict=True))
    assert row["Sound"] == "yes"
    assert row["Trapped powder"] == "1"
    assert row["Mass"] == f"{check.mass_g:.0f} g"
    assert "narrow holes turquoise (0.2 to 0.2 mm)" in pictures[0].caption
    # What is unsound is shown as well: a void, a second body, a missing face.
    shell = difference(block, sphere([6.0, 10.0, 10.0], 2.0, 24))
    two = concatenate([shell, box(HERE, np.full(3, 30.0), np.full(3, 32.0))])
    (front, _) = print_pictures(
        SimpleNamespace(checks=(check_part(two, "two", "LPBF", np.array([0.0, 0.0, 1.0])),)),
        {"two": two}, HERE,
    )  # fmt: skip
    assert "enclosed voids pink (3" in front.caption
    assert "loose bodies green (8 to 8 mm3)" in front.caption
    torn = Surface(block.vertices, block.faces[1:], block.frame)
    (front, _) = print_pictures(
        SimpleNamespace(checks=(check_part(torn, "torn", "LPBF", np.array([0.0, 0.0, 1.0])),)),
        {"torn": torn}, HERE,
    )  # fmt: skip
    assert "open edges black (20 to 28 mm)" in front.caption
    # A part without a finding gets no picture.
    fine = check_part(block, "block", "LPBF", np.array([0.0, 0.0, 1.0]))
    assert print_pictures(SimpleNamespace(checks=(fine,)), {"block": block}, HERE) == ()
