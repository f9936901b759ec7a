"""Spinopelvic angles against a drawing with known angles."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.anatomy.frames import endplate_frame
from sacroplan.anatomy.landmarks import Landmarks
from sacroplan.anatomy.spinopelvic import spinopelvic
from sacroplan.geometry.frames import AxisFrame


def _tilted(name: str, origin: np.ndarray, slope_deg: float) -> AxisFrame:
    """Endplate that slopes forward and down by ``slope_deg`` (LPS)."""
    a = np.radians(slope_deg)
    return endplate_frame(name, origin, [0.0, -np.sin(a), np.cos(a)], [0.0, -np.cos(a), -np.sin(a)])


def _patient(ss: float, pt: float, slopes: dict[str, float]) -> Landmarks:
    a = np.radians(pt)
    hips = 100.0 * np.array([0.0, -np.sin(a), -np.cos(a)])
    points = {"HJC_L": hips + [85.0, 0, 0], "HJC_R": hips - [85.0, 0, 0]}
    frames = {"S1EP": _tilted("S1EP", np.zeros(3), ss)}
    for k, (name, slope) in enumerate(slopes.items()):
        frames[name] = _tilted(name, np.array([0.0, 0.0, 20.0 * k]), slope)
    return Landmarks(points, frames, dict.fromkeys(points, "automatic"))


@pytest.mark.parametrize(("ss", "pt"), [(40.0, 12.0), (25.0, -5.0), (55.0, 25.0)])
def test_incidence_is_tilt_plus_slope(ss: float, pt: float) -> None:
    s = spinopelvic(_patient(ss, pt, {}))
    assert s.ss == pytest.approx(ss, abs=1e-9)
    assert s.pt == pytest.approx(pt, abs=1e-9)
    assert s.pi == pytest.approx(ss + pt, abs=1e-6)


def test_incidence_does_not_depend_on_the_table() -> None:
    lying = _patient(40.0, 12.0, {})
    turned = spinopelvic(lying, up=[0.0, np.sin(0.3), np.cos(0.3)])
    assert turned.pi == pytest.approx(52.0, abs=1e-6)
    assert turned.ss == pytest.approx(40.0 + np.degrees(0.3), abs=1e-6)
    assert turned.pi == pytest.approx(turned.pt + turned.ss, abs=1e-6)


def test_lordosis_is_positive_and_adds_up() -> None:
    s = spinopelvic(_patient(40.0, 12.0, {"L4SEP": 5.0, "L5SEP": 18.0, "L5IEP": 27.0}))
    assert s.lordosis["L5S1"] == pytest.approx(22.0)
    assert s.lordosis["L4L5"] == pytest.approx(13.0)
    assert s.lordosis["L4S1"] == pytest.approx(35.0)
    assert s.disc["L5S1"] == pytest.approx(13.0)


def test_supine_is_said_and_missing_hips_are_doubted() -> None:
    full = spinopelvic(_patient(40.0, 12.0, {}))
    labels = {k: m.label for k, m in full.metrics().items()}
    assert "supine" in labels["anatomy.spinopelvic.pt_supine_deg"]
    assert "supine" in labels["anatomy.spinopelvic.ss_supine_deg"]
    assert "supine" not in labels["anatomy.spinopelvic.pi_deg"]
    base = _patient(40.0, 12.0, {})
    frames = {**base.frames, "pelvis": AxisFrame("pelvis", [0, 0, 0], base.frames["S1EP"].axes)}
    without = spinopelvic(Landmarks({}, frames, {}))
    assert without.pi is None
    assert [d.code for d in without.doubts] == ["anatomy.no_pelvic_incidence"]
    assert without.metrics()["anatomy.spinopelvic.pi_deg"].value is None


def test_implausible_incidence_is_doubted() -> None:
    s = spinopelvic(_patient(60.0, 35.0, {}))
    assert [d.code for d in s.doubts] == ["anatomy.pelvic_incidence"]
