"""Surfaces from grey levels: known spheres, blur, gaps, oblique grids, thick slices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sacroplan.anatomy.surfaces import _unfolded, bone_surface
from sacroplan.errors import AnatomyError
from sacroplan.geometry.fields import contour
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.tree import face_tree
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry

RADIUS = 14.0
CENTRES = np.array([[20.3, 24.1, 23.7], [20.3 + 2 * RADIUS + 1.5, 24.1, 23.7]])
NAMES = {1: "sacrum", 2: "hip_left"}


def spheres(blur_mm: float, spacing=(1.0, 1.0, 1.0), hollow: bool = False, noise: float = 0.0):
    """Two balls of 900 HU, 1.5 mm apart, in soft tissue; labels from a plain threshold."""
    s = np.array(spacing)
    over = 3
    shape = tuple(int(n) for n in np.array([72.0, 48.0, 48.0]) // s)
    axes = [(np.arange(n * over) - (over - 1) / 2) / over * s[a] for a, n in enumerate(shape)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    hu = np.full(x.shape, 50.0)
    owner = np.zeros(x.shape, dtype=np.uint8)
    for n, c in enumerate(CENTRES):
        r = np.sqrt((x - c[0]) ** 2 + (y - c[1]) ** 2 + (z - c[2]) ** 2)
        hu[r <= RADIUS] = 900.0
        if hollow:
            hu[r <= RADIUS - 3.0] = 20.0
        owner[r <= RADIUS] = n + 1
    hu = ndimage.gaussian_filter(hu, blur_mm * over / s)
    hu = hu.reshape(shape[0], over, shape[1], over, shape[2], over).mean(axis=(1, 3, 5))
    if noise:
        hu = hu + np.random.default_rng(3).normal(0.0, noise, hu.shape)
    labels = owner[over // 2 :: over, over // 2 :: over, over // 2 :: over]
    geometry = VolumeGeometry(shape, s, np.zeros(3))
    return (
        Volume(geometry, hu.astype(np.float32)),
        LabelMap(geometry, np.ascontiguousarray(labels), NAMES),
    )


def radius_error(surface, centre):
    return np.linalg.norm(surface.vertices - centre, axis=1) - RADIUS


@pytest.mark.parametrize("blur", [0.4, 0.7, 1.0])
def test_radius_is_right_for_every_blur(blur):
    volume, labels = spheres(blur)
    for name, centre in zip(("sacrum", "hip_left"), CENTRES, strict=True):
        surface = bone_surface(volume, labels, name)
        error = radius_error(surface, centre)
        assert abs(error.mean()) < 0.1
        assert np.percentile(np.abs(error), 95) < 0.2
        assert surface.is_closed
        assert surface.body_count() == 1
        # Blur shrinks the half-maximum of a ball by blur^2 / radius, 0.07 mm at the most here.
        assert surface.volume_mm3 == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.025)


def test_labels_a_voxel_too_fat_or_too_thin_give_the_same_surface():
    volume, labels = spheres(0.6)
    right = bone_surface(volume, labels, "sacrum")
    sacrum = labels.mask("sacrum")
    for change in (ndimage.binary_erosion, ndimage.binary_dilation):
        data = np.where(change(sacrum), 1, 0).astype(np.uint8)
        other = bone_surface(volume, LabelMap(labels.geometry, data, {1: "sacrum"}), "sacrum")
        assert abs(radius_error(other, CENTRES[0]).mean()) < 0.15
        assert other.volume_mm3 == pytest.approx(right.volume_mm3, rel=0.03)


def test_noise_moves_the_surface_little():
    volume, labels = spheres(0.7, noise=30.0)
    error = radius_error(bone_surface(volume, labels, "sacrum"), CENTRES[0])
    assert abs(error.mean()) < 0.1
    assert error.std() < 0.15


def test_marrow_is_filled():
    volume, labels = spheres(0.6, hollow=True)
    surface = bone_surface(volume, labels, "sacrum")
    assert surface.body_count() == 1
    assert abs(radius_error(surface, CENTRES[0]).mean()) < 0.15
    assert np.abs(radius_error(surface, CENTRES[0])).max() < 1.0


def test_bones_do_not_overlap_in_the_gap():
    volume, labels = spheres(1.0)
    left = bone_surface(volume, labels, "sacrum").bounds[1, 0]
    right = bone_surface(volume, labels, "hip_left").bounds[0, 0]
    assert 0.5 < right - left < 2.5


def test_thick_slices_are_resampled():
    volume, labels = spheres(0.7, spacing=(0.8, 0.8, 2.4))
    error = radius_error(bone_surface(volume, labels, "sacrum"), CENTRES[0])
    assert abs(error.mean()) < 0.25
    assert np.percentile(np.abs(error), 95) < 0.8


def test_oblique_grid_gives_the_moved_surface():
    volume, labels = spheres(0.6)
    angle = np.deg2rad(23.0)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]]
    )
    move = Rigid(turn, np.array([11.0, -40.0, 7.0]))
    moved = volume.geometry.transformed(move)
    a = bone_surface(volume, labels, "hip_left").transformed(move)
    b = bone_surface(
        Volume(moved, volume.data), LabelMap(moved, labels.data, dict(labels.names)), "hip_left"
    )
    assert a.volume_mm3 == pytest.approx(b.volume_mm3, rel=1e-4)
    np.testing.assert_allclose(a.centroid, b.centroid, atol=1e-3)
    np.testing.assert_allclose(a.bounds, b.bounds, atol=0.02)


def test_bone_cut_by_the_image_is_closed_there():
    volume, labels = spheres(0.6)
    k = 24
    cut = Volume(
        volume.geometry.cropped([0, 0, 0], [*volume.geometry.shape[:2], k]),
        np.ascontiguousarray(volume.data[:, :, :k]),
    )
    own = LabelMap(cut.geometry, np.ascontiguousarray(labels.data[:, :, :k]), NAMES)
    surface = bone_surface(cut, own, "sacrum")
    assert surface.is_closed
    assert surface.bounds[1, 2] == pytest.approx(k - 0.5, abs=0.3)


def test_other_grid_and_missing_bone_are_refused():
    volume, labels = spheres(0.6)
    with pytest.raises(AnatomyError, match="hold no L5"):
        bone_surface(volume, labels, "L5")
    shifted = VolumeGeometry(labels.geometry.shape, labels.geometry.spacing_mm, np.ones(3))
    with pytest.raises(AnatomyError, match="another grid"):
        bone_surface(volume, LabelMap(shifted, labels.data, NAMES), "sacrum")


def test_same_input_same_bytes():
    volume, labels = spheres(0.7)
    a, b = (bone_surface(volume, labels, "sacrum") for _ in range(2))
    assert a.vertices.tobytes() == b.vertices.tobytes()
    assert a.faces.tobytes() == b.faces.tobytes()


def test_a_thin_plate_does_not_pass_through_itself():
    # A plate 0.7 mm thick, whose upper side is pushed through the lower one in its middle.
    geometry = VolumeGeometry((41, 41, 13), np.full(3, 0.5), np.array([-10.0, -10.0, -3.0]))
    x, y, z = np.meshgrid(*(geometry.origin[a] + 0.5 * np.arange(n) for a, n in
                            enumerate(geometry.shape)), indexing="ij")  # fmt: skip
    field = np.maximum(np.abs(z + 0.1) - 0.35, np.maximum(np.abs(x), np.abs(y)) - 8.0)
    rough = contour(geometry, field.astype(np.float32))
    v = rough.vertices.copy()
    dent = (np.hypot(v[:, 0] - 0.3, v[:, 1]) < 2.0) & (v[:, 2] > 0.0)
    v[dent] -= [0.13, 0.07, 1.0]
    moved = Surface(v, rough.faces, rough.frame)
    assert face_tree(moved).crossing_faces()[0] > 0
    out = _unfolded(rough, moved)
    assert face_tree(out).crossing_faces()[0] == 0
    assert np.abs(out.vertices - rough.vertices)[~dent].max() == 0.0
    assert np.abs(out.vertices - rough.vertices)[dent].max() < 0.8
    assert _unfolded(rough, rough) is rough
