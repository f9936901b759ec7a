"""Levels and plausibility: evidence, suspicion said aloud, warnings only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.anatomy import landmarks_plausible as plausible
from sacroplan.anatomy.landmarks import find
from sacroplan.anatomy.landmarks_foramina import Foramina
from sacroplan.anatomy.landmarks_joint import find_contact, joint_of
from sacroplan.anatomy.landmarks_levels import LevelEvidence, gather
from sacroplan.anatomy.landmarks_repeats import disturbances, scatter, uncertainty
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.booleans import union
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.resection.total import sacroiliac_joint

ORIGIN = AxisFrame("test", np.zeros(3), np.eye(3))


def test_wrong_number_of_foramina_is_a_sign() -> None:
    for pits, word in (((5, 5), "sacralised"), ((3, 3), "lumbarised")):
        e = gather({}, {}, {}, Foramina({}, 1.0, pits), None, ("L5",))
        assert len(e.signs) == 1
        assert word in e.signs[0]
        assert "anatomy.transitional_suspected" in {d.code for d in e.doubts(confirmed=True)}
    assert gather({}, {}, {}, Foramina({}, 1.0, (4, 4)), None, ("L5",)).signs == ()
    # One missed opening on one side is no transitional vertebra.
    assert gather({}, {}, {}, Foramina({}, 1.0, (4, 3)), None, ("L5",)).signs == ()


def test_confirmation_ends_the_call_for_it_but_not_the_suspicion() -> None:
    plain = LevelEvidence("L5", ("L5", "L4"), (4, 4))
    assert [d.code for d in plain.doubts(False)] == ["anatomy.levels_to_confirm"]
    assert plain.doubts(True) == ()
    odd = LevelEvidence("L5", ("L5",), (5, 5), signs=("five foramina",))
    assert [d.code for d in odd.doubts(True)] == ["anatomy.transitional_suspected"]
    assert "labelled L5" in plain.sentence()


@pytest.mark.shared
def test_a_broad_process_that_meets_the_sacrum_is_a_sign(shared: Path) -> None:
    names = ("sacrum", "hip_left", "hip_right", "L5")
    bones = {n: read_stl(shared / "data" / "vhm_meshes" / f"{n}.stl") for n in names}
    usual = find(bones, np.eye(3))
    assert usual.levels is not None
    assert usual.levels.process_height_mm is not None
    assert usual.levels.process_height_mm["left"] == pytest.approx(14.0, abs=3.0)
    # A Castellvi III process on the left: a slab from the process down into the ala.
    slab = box(ORIGIN, [28.0, 6.0, 2.0], [44.0, 22.0, 34.0])
    fused = {**bones, "L5": union(bones["L5"], slab)}
    found = find(fused, np.eye(3))
    assert found.levels is not None
    assert any("left transverse process" in s for s in found.levels.signs)
    assert not any("right transverse process" in s for s in found.levels.signs)


def test_dimensions_warn_and_never_reject() -> None:
    names = {m.name for m in plausible.MEASURES}
    assert len(names) == len(plausible.MEASURES)
    good = {m.name: 0.5 * sum(plausible.usual(m)) for m in plausible.MEASURES}
    assert plausible.doubts(good) == ()
    assert all(m.within for m in plausible.metrics(good).values())
    doubts = plausible.doubts({**good, "asis_distance_mm": 320.0})
    assert [d.code for d in doubts] == ["anatomy.unusual_dimensions"]
    assert "320 mm" in doubts[0].message
    assert "DIM-15" in doubts[0].rows
    # An inter-foraminal distance has a mean only: the share of SP-LMK-11 bounds it.
    m = next(m for m in plausible.MEASURES if m.name == "foramina_distance_s1_mm")
    share = evidence.value("SP-LMK-11", "share") / 100.0
    assert plausible.usual(m) == pytest.approx((36.1 * (1 - share), 36.1 * (1 + share)))


def test_disturbances_have_the_size_they_say() -> None:
    points = np.random.default_rng(1).uniform(-200.0, 200.0, (20_000, 3))
    for d in disturbances(None):
        assert d.height(points).std() == pytest.approx(
            evidence.value("SP-LMK-08", "surface"), rel=0.1
        )
        assert abs(d.height(points).mean()) < 0.05
    turns = np.array([d.turn_rad for d in disturbances(None)])
    assert np.allclose(turns.mean(axis=0), 0.0)
    assert np.allclose(turns.T @ turns, np.eye(3) * (turns[:, 0] @ turns[:, 0]))


def test_scatter_is_the_root_mean_square() -> None:
    at = np.array([1.0, 2.0, 3.0])
    off, count = scatter(at, [at + [3.0, 0, 0], None, at - [0, 4.0, 0]])
    assert count == 2
    assert off == pytest.approx(np.sqrt((9 + 16) / 2))
    assert np.isnan(scatter(at, [None])[0])
    rule = evidence.value("SP-LMK-12", "ventral_foramen")
    assert uncertainty("S2AF_L", at, [at + [0, 0, 2.0]])[0] == pytest.approx(np.hypot(2.0, rule))


def test_contact_of_two_plates_and_a_wedge() -> None:
    """Faces 2 mm apart face each other over their overlap; a wedge opens beyond the joint's slack."""
    lower = box(ORIGIN, [0, 0, 0], [30, 20, 10])
    upper = box(ORIGIN, [10, 0, 12], [40, 20, 20])
    contact = find_contact(lower, upper, 4.0)
    assert contact is not None
    assert np.allclose(contact.gap_mm, 2.0, atol=1e-6) or contact.gap_mm.max() < 4.0
    assert np.all(contact.normals @ [0, 0, 1] > 0.99)
    assert find_contact(lower, box(ORIGIN, [0, 0, 30], [10, 10, 40]), 4.0) is None
    assert joint_of(contact, 1.0) is not None


@pytest.mark.shared
def test_landmarks_and_resection_see_the_same_joint(shared: Path) -> None:
    sacrum, hip = (
        read_stl(shared / "data" / "vhm_meshes" / f"{n}.stl") for n in ("sacrum", "hip_left")
    )
    wide = sacroiliac_joint("left", hip, sacrum).points
    contact = find_contact(hip, sacrum, evidence.value("SP-LMK-02"))
    assert contact is not None
    narrow = joint_of(contact, evidence.value("SP-LMK-02", "slack"))
    assert narrow is not None
    seen = {tuple(p) for p in wide}
    assert np.mean([tuple(p) in seen for p in narrow.patch]) > 0.98
