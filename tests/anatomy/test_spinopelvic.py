"""Spinopelvic angles against a drawing with known angles."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.anatomy.frames import endplate_frame
from sacroplan.anatomy.landmarks import Landmarks
from sacroplan.anatomy.spinopelvic import spinopelvic, theoretical_lordosis
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
    assert [d.code for d in s.doubts] == ["anatomy.pelvic_incidence", "anatomy.supine_pose"]
    # Tilt and slope outside the standing ranges are named beside the caveat of the lying patient.
    assert "PT is outside 0-27" in s.doubts[1].message.replace("the ", "")
    assert "SS is outside 24-55" in s.doubts[1].message.replace("the ", "")


def test_an_ordinary_patient_gets_the_supine_caveat_only() -> None:
    s = spinopelvic(_patient(40.0, 12.0, {"L5SEP": 18.0}))
    assert [d.code for d in s.doubts] == ["anatomy.supine_pose"]
    assert "standing radiograph" in s.doubts[0].message


@pytest.mark.parametrize(("pi", "kind"), [(40.0, "low"), (66.0, "high")])
def test_flat_and_steep_pelves_are_named(pi: float, kind: str) -> None:
    s = spinopelvic(_patient(pi - 12.0, 12.0, {}))
    first = s.doubts[0]
    assert first.code == "anatomy.pelvic_incidence_class"
    assert f"is {kind}" in first.message


@pytest.mark.parametrize(
    ("pi", "lordosis"), [(30, 48), (40, 53), (50, 59), (60, 66), (70, 72), (80, 75)]
)
def test_theoretical_lordosis_of_every_class(pi: float, lordosis: float) -> None:
    assert theoretical_lordosis(pi) == pytest.approx(lordosis)


def test_unusual_segment_and_mismatch_are_doubted() -> None:
    slopes = {"L1SEP": -5.0, "L5SEP": 38.0}
    s = spinopelvic(_patient(40.0, 20.0, slopes))
    doubt = next(d for d in s.doubts if d.code == "anatomy.lordosis")
    assert "L5-S1 2 deg" in doubt.message
    assert "PI - LL 15 deg" in doubt.message
    assert set(doubt.rows) == {"SAG-N6", "SAG-N7"}
