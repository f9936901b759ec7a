"""Landmarks of real bones: places, poses, mirrors, cuts and the user's own points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sacroplan.anatomy.landmarks import NAMES, Landmarks, find
from sacroplan.errors import AnatomyError
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.booleans import bodies, split
from sacroplan.geometry.frames import Plane, Rigid
from sacroplan.geometry.primitives import sphere
from sacroplan.geometry.surface import Surface

pytestmark = pytest.mark.shared

BONES = ("sacrum", "hip_left", "hip_right", "L5", "L4")
AXES = np.eye(3)


@pytest.fixture(scope="module")
def male(shared: Path) -> dict[str, Surface]:
    return {n: read_stl(shared / "data" / "vhm_meshes" / f"{n}.stl") for n in BONES}


@pytest.fixture(scope="module")
def known(male: dict[str, Surface]) -> Landmarks:
    return find(male, AXES)


def _turn(x: float, y: float, z: float) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix())


def _swap(name: str) -> str:
    if name.endswith(("_L", "_R")):
        return name[:-1] + {"L": "R", "R": "L"}[name[-1]]
    pairs = {"hip_left": "hip_right", "hip_right": "hip_left"}
    return pairs.get(name, name)


def test_every_landmark_of_a_whole_pelvis_is_there(known: Landmarks) -> None:
    paired = (
        "ASIS", "AIIS", "PSIS", "PIIS", "GSN", "ISP", "PT", "HJC", "SIJ", "SIJ_CRANIAL", "SIJ_CAUDAL",
        "S1AF", "S2AF", "S3AF", "S1PF", "S3PF", "L5PED", "L4PED", "S1EP", "L5IEP", "L4SEP",
    )  # fmt: skip
    wanted = {f"{n}_{s}" for n in paired for s in "LR"} | {"PS", "S1EP", "S1EP_ANT", "L5IEP"}
    assert wanted <= set(known.points) <= set(NAMES)
    assert set(known.uncertainty_mm) == set(known.points)
    assert all(0.0 < u < 10.0 for u in known.uncertainty_mm.values())
    assert {"pelvis", "APP", "S1EP", "L5IEP", "L5SEP", "L4IEP", "L4SEP"} <= set(known.frames)


def test_places_agree_with_points_read_off_the_rendered_bones(known: Landmarks) -> None:
    seen = {
        "ASIS_L": [128.4, -56.8, -19.6],
        "PSIS_L": [36.1, 75.6, -20.6],
        "AIIS_L": [103.7, -47.6, -52.2],
        "GSN_L": [53.0, 45.2, -49.2],
        "HJC_L": [86.8, -14.8, -103.1],
        "PT_L": [13.4, -70.0, -113.1],
        "ISP_L": [49.6, 38.2, -105.6],
        "S1EP_ANT": [0.0, -11.9, -6.6],
    }
    for name, place in seen.items():
        assert np.linalg.norm(known.points[name] - place) < 4.0, name


def test_a_symmetrised_pelvis_has_symmetric_landmarks(known: Landmarks) -> None:
    for name in ("ASIS", "PSIS", "HJC", "SIJ", "AIIS"):
        left, right = known.points[f"{name}_L"], known.points[f"{name}_R"]
        assert np.linalg.norm(left * [-1, 1, 1] - right) < 2.0, name
    assert np.degrees(np.arccos(known.frames["S1EP"].axes[:, 2] @ [-1, 0, 0])) < 1.0


def test_frames_point_where_their_names_say(known: Landmarks) -> None:
    for frame in known.frames.values():
        assert frame.axes[:, 0] @ [0, -1, 0] > 0.5
        assert frame.axes[:, 1] @ [0, 0, 1] > 0.5
        assert frame.axes[:, 2] @ [-1, 0, 0] > 0.9
    middle = 0.5 * (known.points["HJC_L"] + known.points["HJC_R"])
    assert np.allclose(known.frames["pelvis"].origin, middle)


def test_moved_patient_moves_landmarks_exactly(male: dict[str, Surface], known: Landmarks) -> None:
    rigid = Rigid(_turn(20.0, -35.0, 50.0), np.array([100.0, -40.0, 300.0]))
    moved = find({n: s.transformed(rigid) for n, s in male.items()}, rigid.rotation)
    assert set(moved.points) == set(known.points)
    for name, p in known.points.items():
        assert np.linalg.norm(rigid.points(p) - moved.points[name]) < 1e-3, name
        assert moved.uncertainty_mm[name] == pytest.approx(known.uncertainty_mm[name], abs=0.05)
    for name, frame in known.frames.items():
        assert np.allclose(rigid.rotation @ frame.axes, moved.frames[name].axes, atol=1e-6)


def test_mirrored_patient_swaps_sides(male: dict[str, Surface], known: Landmarks) -> None:
    mirrored = find({_swap(n): s.mirrored(0) for n, s in male.items()}, AXES)
    assert {_swap(n) for n in known.points} == set(mirrored.points)
    for name, p in known.points.items():
        assert np.linalg.norm(p * [-1, 1, 1] - mirrored.points[_swap(name)]) < 1e-3, name


def test_crooked_patient_on_a_straight_table(male: dict[str, Surface], known: Landmarks) -> None:
    rigid = Rigid(_turn(-15.0, 8.0, 5.0), np.zeros(3))
    crooked = find({n: s.transformed(rigid) for n, s in male.items()}, AXES)
    for name, p in known.points.items():
        assert np.linalg.norm(rigid.points(p) - crooked.points[name]) < 1.0, name


def test_femoral_heads_beat_sockets(male: dict[str, Surface]) -> None:
    centre = {"left": [86.8, -14.8, -103.1], "right": [-86.6, -14.7, -102.9]}
    heads = {f"femur_{s}": sphere(np.array(c) + [0.5, 0, 0], 24.5, 48) for s, c in centre.items()}
    found = find({**{n: male[n] for n in ("sacrum", "hip_left", "hip_right")}, **heads}, AXES)
    assert found.hip_radius_mm["left"] == pytest.approx(24.5, abs=0.2)
    assert np.linalg.norm(found.points["HJC_L"] - centre["left"] - [0.5, 0, 0]) < 0.2


def test_cut_at_the_hips_leaves_out_what_is_not_there(male: dict[str, Surface]) -> None:
    """The image ends 10 mm above the hip centres: no socket, no pubis, no ischial spine."""
    floor = Plane([0, 0, -80.0], [0, 0, 1.0])
    cut = dict(male)
    for name in ("hip_left", "hip_right", "sacrum"):
        top, _ = split(male[name], floor)
        assert top is not None
        cut[name] = bodies(top)[0]
    found = find(cut, AXES)
    for name in ("PT_L", "PT_R", "PS", "ISP_L", "ISP_R"):
        assert name not in found.points
    assert {"ASIS_L", "ASIS_R", "PSIS_L", "PSIS_R", "S1EP", "L5IEP", "SIJ_L"} <= set(found.points)
    whole = find(male, AXES)
    for name in ("ASIS_L", "PSIS_R", "GSN_L", "S1EP"):
        assert np.linalg.norm(found.points[name] - whole.points[name]) < 6.0, name
    codes = {d.code for d in found.doubts}
    assert codes & {"anatomy.landmark_absent", "anatomy.landmark_cut_off"}
    if not {"HJC_L", "HJC_R"} <= set(found.points):
        assert "anatomy.pelvis_frame_fallback" in codes


def test_the_users_point_wins_and_turns_the_frame(
    male: dict[str, Surface], known: Landmarks
) -> None:
    own = known.points["ASIS_L"] + [0.0, 0.0, 10.0]
    found = find(male, AXES, overrides={"ASIS_L": own})
    assert np.allclose(found.points["ASIS_L"], own)
    assert found.how["ASIS_L"] == "user"
    assert found.how["ASIS_R"] == "automatic"
    z = found.points["ASIS_R"] - own
    assert np.allclose(found.frames["pelvis"].axes[:, 2], z / np.linalg.norm(z))


def test_the_users_foramen_and_symphysis_stay(male: dict[str, Surface], known: Landmarks) -> None:
    own = {"S2PF_L": [20.0, 60.0, -30.0], "PS": known.points["PS"] + [0.0, 1.0, 0.0]}
    found = find(male, AXES, overrides=own)
    for name, point in own.items():
        assert np.allclose(found.points[name], point)
        assert found.how[name] == "user"
        assert name not in found.uncertainty_mm
    assert not any("S2PF_L" in d.message for d in found.doubts)


def test_an_unknown_name_is_refused_with_its_neighbours(male: dict[str, Surface]) -> None:
    with pytest.raises(AnatomyError, match="no landmark 'PSSIS_L'; PSIS_L"):
        find(male, AXES, overrides={"PSSIS_L": [0.0, 0.0, 0.0]})


def test_anterior_pelvic_plane_holds_its_points(known: Landmarks) -> None:
    frame = known.frames["APP"]
    p = known.points
    for point in (p["ASIS_L"], p["ASIS_R"], 0.5 * (p["PT_L"] + p["PT_R"])):
        assert abs(frame.to_local(point)[0]) < 1e-9


def test_joint_extent_bounds_its_patch(known: Landmarks) -> None:
    frame = known.frames["pelvis"]
    for side, sign in (("left", -1.0), ("right", 1.0)):
        joint = known.joints[side]
        assert 10.0 < joint.area_mm2 / 100.0 < 20.0
        local = sign * frame.to_local(joint.patch)[:, 2]
        assert local.max() == pytest.approx(sign * frame.to_local(joint.lateral)[2], abs=0.5)
        assert np.allclose(joint.furthest([0, 0, 1]), joint.patch[joint.patch[:, 2].argmax()])


def test_nothing_pelvic_is_refused(male: dict[str, Surface]) -> None:
    with pytest.raises(AnatomyError, match="sacrum or a hip bone"):
        find({"L5": male["L5"]}, AXES)
    with pytest.raises(AnatomyError, match="right-handed"):
        find(male, np.diag([-1.0, 1.0, 1.0]))
    with pytest.raises(AnatomyError, match="not found"):
        find({"sacrum": male["sacrum"]}, AXES).point("ASIS_L")
