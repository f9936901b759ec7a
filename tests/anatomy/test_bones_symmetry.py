"""A piece of the ala that stuck to the hip bone on the side where the joint does not show."""

import numpy as np
import pytest

from sacroplan.anatomy.segmentation.regions import RegionGraph
from sacroplan.anatomy.segmentation.symmetry import agreed, mirror_of

SACRUM, RIGHT, LEFT = 1, 2, 3
SHAPE = (64, 24, 24)


def case(strengths, own):
    """Hip, ala, body, ala, hip from right to left; ``strengths`` of their four boundaries.

    The alae are small beside the hip bones, whose centres place the mirror.
    """
    basin = np.zeros(SHAPE, np.int32)
    basin[4:16], basin[48:60] = 1, 5
    for n, (a, b) in enumerate([(16, 24), (24, 40), (40, 48)], start=2):
        basin[a:b, 6:18, 6:18] = n
    ends = np.array([[1, 2], [2, 3], [3, 4], [4, 5]], np.int32)
    area = np.full(4, 144.0)
    graph = RegionGraph(basin, 5, ends, np.asarray(strengths) * area, area, area)
    labels = np.array([0, *own], np.int32)[basin]
    seeds = np.zeros(SHAPE, np.int32)
    seeds[6:10], seeds[28:36], seeds[54:58] = RIGHT, SACRUM, LEFT
    return graph, labels, seeds


WRONG = (RIGHT, RIGHT, SACRUM, SACRUM, LEFT)


def test_a_joint_that_shows_on_one_side_alone_settles_both():
    graph, labels, seeds = case([20.0, 25.0, 15.0, 60.0], WRONG)
    out = agreed(graph, labels, seeds, 1.0)
    assert np.all(out[16:24, 6:18, 6:18] == SACRUM)
    np.testing.assert_array_equal(out[:16], labels[:16])
    np.testing.assert_array_equal(out[24:], labels[24:])


def test_the_same_from_the_other_side():
    graph, labels, seeds = case([60.0, 15.0, 25.0, 20.0], (RIGHT, SACRUM, SACRUM, LEFT, LEFT))
    assert np.all(agreed(graph, labels, seeds, 1.0)[40:48, 6:18, 6:18] == SACRUM)


def test_where_both_sides_part_it_from_the_sacrum_it_stays_with_the_hip():
    graph, labels, seeds = case([10.0, 60.0, 50.0, 15.0], WRONG)
    np.testing.assert_array_equal(agreed(graph, labels, seeds, 1.0), labels)


@pytest.mark.parametrize("change", ["small", "seeded", "symmetric", "no hip"])
def test_nothing_else_is_touched(change):
    graph, labels, seeds = case([20.0, 25.0, 15.0, 60.0], WRONG)
    spacing = 1.0
    if change == "small":
        spacing = 0.6  # the piece has 0.25 cm3 then
    elif change == "seeded":
        seeds[19:21] = RIGHT
    elif change == "symmetric":
        labels[40:48, 6:18, 6:18] = LEFT
    else:
        labels[labels == LEFT] = 0
        assert mirror_of(labels) is None
    np.testing.assert_array_equal(agreed(graph, labels, seeds, spacing), labels)


def test_the_mirror_is_found_on_an_oblique_pelvis():
    at = np.stack(np.meshgrid(*(np.arange(60),) * 3, indexing="ij"), axis=-1)
    labels = np.zeros((60, 60, 60), np.int32)
    labels[np.linalg.norm(at - [15, 20, 30], axis=-1) < 8] = RIGHT
    labels[np.linalg.norm(at - [45, 35, 25], axis=-1) < 8] = LEFT
    mirror = mirror_of(labels)
    index = np.argwhere(labels == RIGHT)
    assert np.mean(mirror.seen(labels, index) == LEFT) > 0.95
