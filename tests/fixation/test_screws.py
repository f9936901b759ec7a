"""The screw and its exact measures, against solids whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.fixation import screws
from sacroplan.fixation.clearance import (
    axis_depths,
    clearance,
    gertzbein,
    iliac_grade,
    mean_hu,
    signed_distance,
)
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.primitives import cylinder
from sacroplan.geometry.volume import Volume, VolumeGeometry

BONE = cylinder([0, 0, 0], [0, 0, 60.0], 8.0, 256)


def _screw(offset: float = 0.0, diameter: float = 6.5, length: float = 45.0) -> screws.Screw:
    return screws.at(
        "L5_left", "L5", "left", "pedicle", [offset, 0, 0], [0, 0, 1], diameter, length
    )


def test_screw_knows_its_places() -> None:
    s = _screw()
    assert np.allclose(s.tip, [0, 0, 45.0])
    assert np.allclose(s.head, [0, 0, -8.0])
    assert np.allclose(s.direction, [0, 0, 1])
    turned = s.transformed(Rigid(np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]), np.ones(3)))
    assert np.allclose(turned.tip, [1, 1, 46.0])


def test_a_length_that_contradicts_the_tip_is_refused() -> None:
    with pytest.raises(PlanError, match="apart"):
        screws.Screw("x", "L5", "left", [0, 0, -8], [0, 0, 0], [0, 0, 45], 6.5, 50.0, "pedicle")


def test_solid_is_closed_and_has_the_shafts_volume() -> None:
    s = _screw()
    body = screws.solid(s)
    assert body.is_closed
    assert body.volume_mm3 > np.pi * 3.25**2 * 41.0
    along = body.vertices @ [0, 0, 1]
    assert along.max() == pytest.approx(45.0)
    below_bone = np.linalg.norm(body.vertices[along > 0.0, :2], axis=1)
    assert below_bone.max() == pytest.approx(3.25, abs=1e-9)


def test_catalogue_steps() -> None:
    assert 6.5 in screws.diameters("pedicle")
    assert screws.diameters("pedicle").max() == 8.5
    assert screws.diameters("iliac").min() == 7.5
    assert np.all(np.diff(screws.lengths("pedicle")) == 5.0)


@pytest.mark.parametrize(("offset", "grade"), [(0.0, "A"), (4.0, "A"), (6.0, "B"), (7.5, "C")])
def test_clearance_breach_and_grade_in_a_tube(offset: float, grade: str) -> None:
    c = clearance(_screw(offset), BONE, start_mm=8.0)
    wanted = 8.0 - offset - 3.25
    assert c.least_mm == pytest.approx(wanted, abs=0.01)
    assert c.breach_mm == pytest.approx(max(0.0, -wanted), abs=0.05)
    assert gertzbein(c.breach_mm) == grade
    assert c.purchase_mm == pytest.approx(45.0, abs=0.6)
    if grade == "A":
        assert c.breach_at is None
    else:
        assert np.linalg.norm(c.breach_at[:2]) > 8.0


def test_a_tip_through_the_far_cortex_is_a_breach() -> None:
    c = clearance(_screw(length=63.0), BONE, start_mm=8.0)
    assert c.breach_mm >= 3.0
    assert c.purchase_mm == pytest.approx(60.0, abs=0.6)


def test_axis_depths_agree_with_single_clearances() -> None:
    probes = [_screw(o) for o in (0.0, 2.0, 4.0)]
    together = axis_depths(BONE, probes, [8.0] * 3)
    single = [clearance(p, BONE, 8.0).least_mm + 3.25 for p in probes]
    assert np.allclose(together, single, atol=1e-6)


def test_signed_distance_is_negative_inside() -> None:
    d = signed_distance(BONE, np.array([[0.0, 0, 30.0], [10.0, 0, 30.0], [0.0, 0, -4.0]]))
    assert np.allclose(d, [-8.0, 2.0, 4.0], atol=0.01)


def test_grade_limits() -> None:
    breaches = (0.0, 0.1, 1.99, 2.0, 3.99, 4.0, 5.99, 6.0)
    assert "".join(gertzbein(b) for b in breaches) == "ABBCCDDE"
    assert [iliac_grade(b) for b in (0.0, 2.0, 2.1, 4.0, 4.1)] == ["0", "I", "II", "II", "III"]


def test_mean_hu_of_a_linear_image_is_its_value_at_the_middle() -> None:
    geometry = VolumeGeometry((40, 40, 90), [1.0] * 3, [-20.0, -20.0, -20.0])
    k = np.arange(90) - 20.0
    data = np.broadcast_to(10.0 * k, (40, 40, 90)).astype(np.float32).copy()
    assert mean_hu(_screw(), Volume(geometry, data)) == pytest.approx(225.0, abs=0.1)
    assert mean_hu(_screw(length=90.0), Volume(geometry, data)) is None
