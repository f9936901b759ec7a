"""The distance transform against SciPy's, and its uses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sacroplan.geometry.distance import closed, distance_to, signed_distance


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.7, 2.5)])
@pytest.mark.parametrize("share", [0.3, 0.01, 0.0004])
def test_equals_scipy(spacing, share):
    rng = np.random.default_rng(3)
    mask = rng.random((37, 45, 29)) < share
    ours = distance_to(mask, spacing)
    theirs = ndimage.distance_transform_edt(~mask, sampling=spacing)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_limit_cuts_off_and_changes_nothing_below():
    rng = np.random.default_rng(4)
    mask = rng.random((30, 31, 32)) < 0.002
    whole = distance_to(mask, (0.9, 1.0, 1.1))
    near = distance_to(mask, (0.9, 1.0, 1.1), 4.0)
    np.testing.assert_array_equal(near, np.minimum(whole, np.float32(4.0)))
    assert (whole > 4.0).any()


def test_empty_and_full_masks():
    empty = np.zeros((4, 5, 6), dtype=bool)
    assert np.all(distance_to(empty, 1.0, 7.0) == 7.0)
    assert np.all(np.isinf(distance_to(empty)))
    assert np.all(distance_to(~empty) == 0.0)


def test_views_of_larger_arrays_are_read_right():
    rng = np.random.default_rng(5)
    mask = (rng.random((20, 22, 24)) < 0.02)[3:17, ::2, 1:-2]
    expected = ndimage.distance_transform_edt(~mask)
    np.testing.assert_allclose(distance_to(mask), expected, rtol=1e-6, atol=1e-6)


def test_signed_distance_of_a_slab():
    mask = np.zeros((20, 6, 6), dtype=bool)
    mask[5:15] = True
    field = signed_distance(mask, np.ones(3))
    np.testing.assert_allclose(field[4:7, 2, 2], [0.501, -0.5, -1.5], atol=1e-6)
    assert np.all((field < 0) == mask)


def test_closing_bridges_a_gap_and_leaves_the_border_alone():
    mask = np.zeros((30, 12, 12), dtype=bool)
    mask[:12], mask[15:] = True, True
    assert closed(mask, 2.0).all()
    assert np.array_equal(closed(mask, 1.9), mask)
