from __future__ import annotations

import numpy as np
import pytest
from test_orientations import ALL_48, OBLIQUE

from sacroplan.formats.lattice import alignment, placement
from sacroplan.geometry.volume import VolumeGeometry

BIG = VolumeGeometry((9, 11, 13), [0.7, 0.9, 1.3], [-40.0, 12.0, 300.0], OBLIQUE)
START, SHAPE = np.array([2, 1, 4]), (5, 7, 6)


def part(turn: np.ndarray) -> VolumeGeometry:
    """A block of BIG in another axis order and sense, built from the definition of a grid."""
    axes = np.abs(turn).argmax(axis=0)
    signs = turn.sum(axis=0)
    corner = np.where(
        (turn.sum(axis=1)) < 0, START + np.array(SHAPE) - 1, START
    )  # a negative row: that axis of BIG runs backwards, so the block begins at its far end
    return VolumeGeometry(
        tuple(SHAPE[a] for a in axes),
        BIG.spacing_mm[axes],
        BIG.to_world(corner),
        BIG.direction[:, axes] * signs,
    )


@pytest.mark.parametrize("turn", ALL_48)
def test_every_turned_part_is_found_where_it_lies(turn: np.ndarray) -> None:
    small = part(turn)
    found = placement(small, BIG)
    assert found is not None
    data = np.zeros(BIG.shape, dtype=int)
    found.window(data)[...] = 1 + np.arange(np.prod(small.shape)).reshape(small.shape)
    for index in ([0, 0, 0], [1, 2, 3], [4, 0, 1]):
        there = BIG.to_index(small.to_world(index))
        value = 1 + np.ravel_multi_index(index, small.shape)
        assert data[tuple(np.rint(there).astype(int))] == value
    assert np.count_nonzero(data) == np.prod(SHAPE)
    assert not found.whole(BIG.shape)


def test_off_the_lattice_or_beyond_the_border_is_nowhere() -> None:
    def moved(**changes: object) -> VolumeGeometry:
        table = {
            "shape": BIG.shape, "spacing_mm": BIG.spacing_mm, "origin": BIG.origin,
            "direction": BIG.direction, **changes,
        }  # fmt: skip
        return VolumeGeometry(**table)

    assert placement(moved(), BIG) is not None
    assert placement(moved(), BIG).whole(BIG.shape)  # type: ignore[union-attr]
    step = BIG.direction * BIG.spacing_mm
    assert placement(moved(origin=BIG.origin + 0.05 * step[:, 0]), BIG) is not None
    assert placement(moved(origin=BIG.origin + 0.5 * step[:, 0]), BIG) is None
    assert placement(moved(origin=BIG.origin + step[:, 1]), BIG) is None  # sticks out by one
    assert placement(moved(shape=(10, 11, 13)), BIG) is None
    assert placement(moved(spacing_mm=BIG.spacing_mm * 1.02), BIG) is None
    assert placement(moved(direction=np.eye(3)), BIG) is None
    assert alignment(np.eye(3), OBLIQUE) is None
