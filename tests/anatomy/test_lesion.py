"""Filling what a tumour ate out of a bone."""

import numpy as np
import pytest

from sacroplan.anatomy.lesion import filled
from sacroplan.geometry.volume import LabelMap, VolumeGeometry

GEOMETRY = VolumeGeometry((90, 80, 60), np.array([1.0, 1.0, 1.5]), np.array([5.0, -7.0, 30.0]))


def ball(centre, radius):
    at = np.stack(np.meshgrid(*(np.arange(n) for n in GEOMETRY.shape), indexing="ij"), axis=-1)
    away = (at - np.asarray(centre)) * GEOMETRY.spacing_mm
    return np.linalg.norm(away, axis=-1) <= radius


def eaten(tumour, other=None):
    """A block of 50 x 40 x 48 mm less the tumour, labelled 1; 2 another bone."""
    data = np.zeros(GEOMETRY.shape, dtype=np.uint8)
    data[20:70, 20:60, 14:46] = 1
    whole = data == 1
    data[tumour] = 0
    if other is not None:
        data[other] = 2
    return LabelMap(GEOMETRY, data, {1: "sacrum", 2: "hip_left"}), whole


@pytest.mark.parametrize(("radius", "least"), [(8.0, 0.9), (16.0, 0.75)])
def test_the_hole_is_filled_and_what_bulges_out_is_not(radius, least):
    tumour = ball((45, 24, 30), radius)
    labels, whole = eaten(tumour)
    out = filled(labels, tumour)
    added = out.mask("sacrum") & ~labels.mask("sacrum")
    inside = tumour & whole
    # The closing's ball of 25 mm sinks into a wide mouth: by 6 mm where that is 31 mm wide.
    assert np.count_nonzero(added & inside) > least * np.count_nonzero(inside)
    assert not np.any(added & ~tumour)
    assert np.count_nonzero(added & ~whole) < 0.02 * np.count_nonzero(inside)
    np.testing.assert_array_equal(out.geometry.origin, labels.geometry.origin)


def test_no_voxel_is_taken_from_another_bone():
    tumour = ball((45, 24, 30), 16.0)
    other = ball((45, 24, 30), 5.0)
    labels, _ = eaten(tumour, other)
    out = filled(labels, tumour)
    np.testing.assert_array_equal(out.mask("hip_left"), labels.mask("hip_left"))


def test_a_label_of_the_tumours_own_gives_way():
    tumour = ball((45, 40, 30), 12.0)
    labels, whole = eaten(tumour)
    data = np.array(labels.data)
    data[tumour] = 9
    out = filled(LabelMap(GEOMETRY, data, {1: "sacrum", 9: "tumour"}), tumour)
    assert np.array_equal(out.mask("sacrum"), whole)


@pytest.mark.parametrize("centre", [(45, 2, 30), (5, 40, 5)])
def test_a_tumour_beside_the_bone_changes_nothing(centre):
    labels, _ = eaten(np.zeros(GEOMETRY.shape, dtype=bool))
    assert filled(labels, ball(centre, 6.0)) is None
