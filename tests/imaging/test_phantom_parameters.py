from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import ImagingError
from sacroplan.imaging.phantom.build import build, grid
from sacroplan.imaging.phantom.parameters import PhantomParameters
from sacroplan.imaging.phantom.pose import endplate, incidence_deg, solve
from sacroplan.imaging.phantom.reference import array
from sacroplan.imaging.phantom.shapes import sheets


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"sex": "other"}, "female"),
        ({"size": 2.0}, "0.9 to 1.1"),
        ({"size": float("nan")}, "size"),
        ({"pelvic_incidence_deg": 20.0}, "32 to 74"),
        ({"asymmetry": 5.0}, "asymmetry"),
        ({"tumour_level": "L5"}, "S1 to S4"),
        ({"tumour_diameter_mm": 200.0}, "tumour_diameter_mm"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
    ],
)
def test_impossible_choices_are_named(choice: dict[str, object], said: str) -> None:
    with pytest.raises(ImagingError, match=said):
        PhantomParameters(**choice)  # type: ignore[arg-type]


def test_spacing_outside_the_range_is_refused() -> None:
    with pytest.raises(ImagingError, match="spacing"):
        build(PhantomParameters(), spacing_mm=(5.0, 5.0, 5.0))


@pytest.mark.parametrize("sex", ["female", "male"])
@pytest.mark.parametrize("incidence", [32.0, 44.0, 52.0, 62.0, 74.0])
def test_pose_meets_the_incidence(sex: str, incidence: float) -> None:
    for asymmetry in (-2.0, 0.0, 1.0):
        p = PhantomParameters(  # type: ignore[arg-type]
            sex=sex, pelvic_incidence_deg=incidence, asymmetry=asymmetry
        )
        pose = solve(p)
        centre = array("hip", "HJC")
        hips = 0.5 * (pose.hip_left.to_world(centre) + pose.hip_right.to_world(centre))
        plate = endplate(pose.sacrum)
        assert incidence_deg(plate, hips) == pytest.approx(incidence, abs=1e-6)
        # SAG-ID in the sagittal projection: PI = PT + SS, but for the plate's lean to the side.
        line = plate["S1EP"] - hips
        tilt = np.degrees(np.arctan2(line[1], line[2]))
        slope = np.degrees(np.arctan2(-plate["normal"][1], plate["normal"][2]))
        assert tilt + slope == pytest.approx(incidence, abs=0.3)
        # The posture is that of SAG-N3 at the phantom's age.
        assert tilt == pytest.approx(-12.7 + 0.38 * incidence + 0.14 * 48.0, abs=0.5)


def test_map_and_its_compiled_inverse_agree() -> None:
    from sacroplan.imaging.phantom import _kernels

    pose = solve(PhantomParameters(pelvic_incidence_deg=70.0, asymmetry=1.7))
    rng = np.random.default_rng(3)
    boxes = {"hip_left": "hip", "hip_right": "hip", "sacrum": "sacrum", "l5": "L5", "l4": "L4"}
    for name, table in boxes.items():
        map_ = getattr(pose, name)
        low, high = array(table, "box")
        points = low + (high - low) * rng.random((200, 3))
        world = map_.to_world(points)
        vector = map_.vector()
        back = np.array([_kernels.to_reference(vector, *p) for p in world])
        assert np.abs(back - points).max() < 1e-6, name


def test_sheets_are_distances_at_their_surface() -> None:
    from sacroplan.imaging.phantom import _kernels

    s = sheets()["hip"]
    scratch = [np.empty(4) for _ in range(4)]

    def f(p: np.ndarray) -> float:
        return float(
            _kernels.sheet(
                *p, s.axes, s.start_mm, s.step_mm, s.centre, s.square, s.mirror, *scratch
            )
        )

    # Walk from the middle of the iliac wing outwards: the field grows with slope 1 across the face.
    rng = np.random.default_rng(1)
    slopes = []
    low, high = array("hip", "box")
    while len(slopes) < 200:
        p = low + (high - low) * rng.random(3)
        if abs(f(p)) > 1.0:
            continue
        g = np.array([(f(p + d) - f(p - d)) / 0.1 for d in 0.05 * np.eye(3)])
        slopes.append(np.linalg.norm(g))
    assert np.median(slopes) == pytest.approx(1.0, abs=0.05)
    assert np.percentile(slopes, 5) > 0.75
    assert np.percentile(slopes, 95) < 1.35


def test_grid_covers_the_bones_but_for_the_femora() -> None:
    for sex, size in (("male", 1.1), ("female", 0.9)):
        pose = solve(PhantomParameters(sex=sex, size=size))  # type: ignore[arg-type]
        g = grid(pose, (0.8, 0.8, 1.0))
        last = np.array(g.shape) - 1
        for map_ in (pose.hip_left, pose.hip_right):
            for name in ("ASIS", "PSIS", "IT", "PT", "HJC"):
                index = g.to_index(map_.to_world(array("hip", name)))
                assert np.all(index > 5.0), name
                assert np.all(index < last - 5.0), name
