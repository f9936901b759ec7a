"""FRE and TRE: the handbook's unit values, and 20,000 simulated registrations."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.primitives import sphere
from sacroplan.geometry.surface import Surface
from sacroplan.navigation.registration import paired_points, rigid_between, surface_points
from sacroplan.navigation.target_error import (
    expected_fre_mm,
    motion_covariance,
    predicted_tre_mm,
    tre_of_covariance_mm,
)

SQUARE = np.array([[50.0, 50, 0], [50, -50, 0], [-50, 50, 0], [-50, -50, 0]])
TARGETS = np.array([[0.0, 0, 0], [0, 0, 100], [150, 0, 0]])


def test_unit_values_of_the_handbook() -> None:
    assert round(expected_fre_mm(4, 0.5), 3) == 0.354
    assert np.round(predicted_tre_mm(SQUARE, 0.5, TARGETS), 3).tolist() == [0.250, 0.479, 0.586]


def _turn(seed: int) -> Rigid:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return Rigid(q, np.array([30.0, -200.0, 12.0]))


@pytest.mark.parametrize("seed", [1, 2])
def test_simulated_registrations_agree_with_the_prediction(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fiducials = SQUARE if seed == 1 else rng.normal(size=(6, 3)) * [60.0, 30.0, 20.0]
    fle = 0.5
    square = np.zeros(len(TARGETS))
    fre = 0.0
    n = 20_000
    for _ in range(n):
        noisy = fiducials + rng.normal(size=fiducials.shape) * fle / np.sqrt(3.0)
        rigid = rigid_between(noisy, fiducials)
        square += ((rigid.points(TARGETS) - TARGETS) ** 2).sum(axis=1)
        fre += float(((rigid.points(noisy) - fiducials) ** 2).sum(axis=1).mean())
    simulated = np.sqrt(square / n)
    assert simulated == pytest.approx(predicted_tre_mm(fiducials, fle, TARGETS), rel=0.03)
    assert np.sqrt(fre / n) == pytest.approx(expected_fre_mm(len(fiducials), fle), rel=0.03)


def test_covariance_gives_the_same_target_error_as_the_closed_formula() -> None:
    found = paired_points(_turn(3).inverse().points(SQUARE), SQUARE)
    covariance, centre = motion_covariance(found, 0.5)
    assert tre_of_covariance_mm(covariance, centre, TARGETS) == pytest.approx(
        predicted_tre_mm(SQUARE, 0.5, TARGETS), rel=1e-9
    )


def test_paired_points_find_the_motion_and_never_a_mirror() -> None:
    truth = _turn(4)
    found = paired_points(SQUARE, truth.points(SQUARE))
    assert np.abs(found.to_ct.points(TARGETS) - truth.points(TARGETS)).max() < 1e-9
    assert found.fre_mm == pytest.approx(0.0, abs=1e-9)
    assert np.linalg.det(found.to_ct.rotation) == pytest.approx(1.0)


def test_bad_fiducials_are_refused() -> None:
    line = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    with pytest.raises(PlanError, match="one line"):
        paired_points(line, line)
    with pytest.raises(PlanError, match="three or more"):
        paired_points(SQUARE[:2], SQUARE[:2])
    with pytest.raises(PlanError, match="pair every one"):
        paired_points(SQUARE, SQUARE[:3])
    with pytest.raises(PlanError, match="finite"):
        paired_points([[np.nan] * 3] * 4, SQUARE)
    assert paired_points(SQUARE[:3], SQUARE[:3]).doubts[0].code == "navigation.few_fiducials"


def _potato() -> Surface:
    ball = sphere([0.0, 0, 0], 1.0, 24)
    v = ball.vertices * [40.0, 28.0, 19.0]
    return Surface(v + 3.0 * np.sin(v[:, [1, 2, 0]] / 9.0), ball.faces)


def test_surface_registration_finds_the_motion() -> None:
    bone, truth = _potato(), _turn(5)
    rng = np.random.default_rng(0)
    on = bone.triangles[rng.integers(0, len(bone.faces), 300)].mean(axis=1)
    off = Rigid(
        rigid_between(SQUARE, SQUARE + np.cross([0.02, -0.03, 0.03], SQUARE)).rotation,
        np.array([1.5, -1.0, 1.0]),
    )
    theatre = truth.inverse().points(on)
    start = Rigid(off.rotation @ truth.rotation, off.points(truth.translation))
    found = surface_points(theatre, bone, start)
    assert np.abs(found.to_ct.points(theatre) - on).max() < 0.01


def test_points_off_the_bone_are_doubted() -> None:
    bone = _potato()
    rng = np.random.default_rng(3)
    on = bone.triangles[rng.integers(0, len(bone.faces), 60)].mean(axis=1)
    still = Rigid(np.eye(3), np.zeros(3))
    assert surface_points(on, bone, still).doubts == ()
    # Points of another bone: scattered over a centimetre about this one.
    strange = on + rng.normal(size=on.shape) * 10.0
    (doubt,) = surface_points(strange, bone, still).doubts
    assert doubt.code == "navigation.surface_misfit"
    assert "of 60 probed points" in doubt.message


def test_predicted_error_of_a_surface_registration_agrees_with_simulation() -> None:
    bone = _potato()
    rng = np.random.default_rng(7)
    on = bone.triangles[rng.integers(0, len(bone.faces), 120)].mean(axis=1)
    still = Rigid(np.eye(3), np.zeros(3))
    clean = surface_points(on, bone, still)
    assert clean.normals is not None
    sd, target = 0.3, np.array([[60.0, 10.0, 0.0]])
    covariance, centre = motion_covariance(clean, sd)
    predicted = tre_of_covariance_mm(covariance, centre, target)[0]
    square = []
    for _ in range(60):
        noisy = on + rng.normal(size=(len(on), 1)) * sd * clean.normals
        moved = surface_points(noisy, bone, still).to_ct.points(target)
        square.append(float(((moved - target) ** 2).sum()))
    # 60 draws of a root mean square scatter by about 9 %.
    assert np.sqrt(np.mean(square)) == pytest.approx(predicted, rel=0.3)


def test_points_on_a_ball_leave_it_free_to_turn() -> None:
    ball = sphere([0.0, 0, 0], 30.0, 60)
    on = ball.triangles.mean(axis=1)[::37]
    with pytest.raises(PlanError, match="free to slide"):
        surface_points(on, ball, Rigid(np.eye(3), np.array([0.2, 0.0, 0.0])))
