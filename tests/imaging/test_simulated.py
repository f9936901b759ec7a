"""CT simulated from surfaces: shapes, gaps, what is made worse."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import ImagingError
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.primitives import sphere
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.imaging import simulated

IDS = {"sacrum": 1, "hip_right": 2}
GEOMETRY = VolumeGeometry(
    (110, 90, 70), np.array([1.0, 1.0, 1.25]), np.array([-50.0, -45.0, -43.0])
)
RADIUS_MM = 20.0


@pytest.fixture(scope="module")
def overlapping():
    """Two balls that overlap by 2 mm along x."""
    return {
        "sacrum": sphere(np.zeros(3), RADIUS_MM),
        "hip_right": sphere(np.array([38.0, 0.0, 0.0]), RADIUS_MM),
    }


@pytest.fixture(scope="module")
def made(overlapping):
    return simulated.simulate(overlapping, IDS, GEOMETRY, gap_mm=(2.0, 3.0), seed=3)


def test_labels_are_the_shapes_with_a_gap_between(made):
    x = GEOMETRY.to_world(np.argwhere(made.labels.mask("sacrum")).astype(float))
    assert np.linalg.norm(x, axis=1).max() < RADIUS_MM + 0.1
    # A cap of a ball is lost on the joint's side only.
    assert 16.5 < x[:, 0].max() < 18.3
    assert x[:, 0].min() < -RADIUS_MM + 1.1
    ball = 4.0 / 3.0 * np.pi * RADIUS_MM**3
    assert 0.97 * ball < made.labels.volume_mm3("sacrum") < ball
    apart = distance_to(made.labels.mask("hip_right"), GEOMETRY.spacing_mm, 10.0)
    assert 1.9 < apart[made.labels.mask("sacrum")].min() < 4.2


def test_grey_levels_are_those_of_the_tissues(made):
    hu = made.volume.data.astype(float)
    depth = distance_to(~made.labels.mask("sacrum"), GEOMETRY.spacing_mm, 30.0)
    assert 120.0 < hu[depth > 8.0].mean() < 260.0
    assert hu[(depth > 0.0) & (depth < 1.8)].mean() > 450.0
    near = distance_to(made.labels.data > 0, GEOMETRY.spacing_mm, 30.0)
    assert 20.0 < np.median(hu[(near > 4.0) & (near < 10.0)]) < 80.0


def test_same_seed_same_bytes_other_seed_other_noise(overlapping, made):
    again = simulated.simulate(overlapping, IDS, GEOMETRY, gap_mm=(2.0, 3.0), seed=3)
    assert again.volume.data.tobytes() == made.volume.data.tobytes()
    other = simulated.simulate(overlapping, IDS, GEOMETRY, gap_mm=(2.0, 3.0), seed=4)
    assert other.volume.data.tobytes() != made.volume.data.tobytes()


def test_noise_osteoporosis_and_bridge_change_what_they_say(made):
    noisy = simulated.with_noise(made.volume, 35.0, 1)
    added = noisy.data.astype(float) - made.volume.data
    assert added.std() == pytest.approx(35.0, rel=0.05)

    depth = distance_to(~made.labels.mask("sacrum"), GEOMETRY.spacing_mm, 30.0)
    thin = simulated.with_osteoporosis(made.volume, made.labels, 2.5, -20.0)
    assert thin.data[depth > 4.0].mean() == pytest.approx(-20.0, abs=8.0)
    rim = (depth > 0.0) & (depth < 2.0)
    np.testing.assert_array_equal(thin.data[rim], made.volume.data[rim])

    fused = simulated.with_bridge(made.volume, made.labels, "sacrum", "hip_right", 0.5)
    changed = np.argwhere(fused.data != made.volume.data)
    assert len(changed) > 20
    assert GEOMETRY.to_world(changed.astype(float))[:, 2].min() > -4.0


def test_thick_slices_average_and_keep_positions(made):
    thick = simulated.in_slices_of(made.volume, made.labels, 2.5)
    g = thick.volume.geometry
    assert g.spacing_mm[2] == 2.5
    np.testing.assert_allclose(g.origin[2], GEOMETRY.origin[2] + 0.625)
    pair = made.volume.data[:, :, :2].astype(float).mean(axis=2)
    np.testing.assert_allclose(thick.volume.data[:, :, 0], pair, atol=0.51)
    for name in IDS:
        old = GEOMETRY.to_world(np.argwhere(made.labels.mask(name)).mean(axis=0))
        new = g.to_world(np.argwhere(thick.labels.mask(name)).mean(axis=0))
        assert np.abs(old - new).max() < 0.7


def test_bone_outside_the_image_or_without_id_is_refused(overlapping):
    with pytest.raises(ImagingError, match="no label id"):
        simulated.simulate(overlapping, {"sacrum": 1}, GEOMETRY)
    far = {"sacrum": sphere(np.array([900.0, 0.0, 0.0]), RADIUS_MM)}
    with pytest.raises(ImagingError, match="None of the bones"):
        simulated.simulate(far, IDS, GEOMETRY)
