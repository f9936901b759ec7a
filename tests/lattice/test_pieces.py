"""Connected pieces by runs against labelled points."""

import numpy as np
import pytest
from scipy.ndimage import generate_binary_structure, label

from sacroplan.lattice.pieces import pieces


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("wanted", [True, False])
def test_the_same_pieces_as_labelled_points(seed, edges, wanted):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 24, 3))
    mask = rng.random(shape) < rng.uniform(0.1, 0.6)
    labels, count = label(mask == wanted, generate_binary_structure(3, 2 if edges else 1))
    found = pieces(mask, wanted, edges)
    assert len(found.sizes) == count + 1
    # Both number the pieces by their first point in the array's order.
    assert np.array_equal(found.sizes[1:], np.bincount(labels.ravel(), minlength=count + 1)[1:])
    assert found.at_corner() == labels[0, 0, 0]
    chosen = rng.random(count + 1) < 0.5
    chosen[0] = False
    assert np.array_equal(found.mask(chosen), chosen[labels])


def test_nothing_and_everything():
    assert len(pieces(np.zeros((3, 4, 5), dtype=bool)).sizes) == 1
    whole = pieces(np.ones((3, 4, 5), dtype=bool))
    assert whole.sizes.tolist() == [0, 60]
    assert whole.at_corner() == 1
