"""The segmentation's building blocks on inputs whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sacroplan.anatomy.segmentation import _kernels, finish, grid, hips, regions
from sacroplan.geometry.volume import Volume, VolumeGeometry


def test_largest_eigenvalue_is_numpys():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(200, 3, 3))
    a = (a + a.transpose(0, 2, 1)).astype(np.float32)
    out = np.empty(200, np.float32)
    terms = [np.ascontiguousarray(a[:, i, j]) for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2))]
    _kernels.largest_eigenvalue(*terms, np.ascontiguousarray(a[:, 1, 2]), out)
    np.testing.assert_allclose(out, np.linalg.eigvalsh(a)[:, 2], atol=1e-4)


def test_sheetness_is_positive_in_a_dark_sheet_and_largest_at_its_centre():
    hu = np.full((40, 20, 20), 500.0, np.float32)
    hu[19:21] = 50.0
    value, depth = regions.sheetness(hu, np.ones(hu.shape, dtype=bool), 1.0, 0.8, 2.5)
    for image in (value[:, 10, 10], depth[:, 10, 10]):
        assert set(np.argsort(image)[-2:]) == {19, 20}
        assert image[19] > 50.0
        assert np.all(np.abs(image[:12]) < 1.0)


def test_inner_edge_of_a_cortex_is_a_sheet_but_no_valley():
    profile = np.full(60, 150.0)
    profile[18:22] = 900.0  # a cortex between soft tissue and marrow,
    profile[:18] = 40.0
    profile[40:43], profile[44:47] = 900.0, 900.0  # and two that a joint parts
    hu = np.broadcast_to(ndimage.gaussian_filter(profile, 0.8)[:, None, None], (60, 16, 16))
    hu = np.ascontiguousarray(hu, dtype=np.float32)
    value, depth = regions.sheetness(hu, np.ones(hu.shape, dtype=bool), 1.0, 0.8, 2.5)
    assert value[21:26, 8, 8].max() > 60.0
    assert depth[21:30, 8, 8].max() < 20.0
    assert depth[43, 8, 8] > 100.0


def test_boundary_follows_the_valley_and_bridges_where_there_is_none():
    # Rows of basins, ten across; the valley runs behind the fifth, invisible in the middle rows, and
    # the labels of those rows overshoot it.
    rows, across = 9, 10
    basin = np.zeros((rows, across, 4), np.int32)
    basin[...] = 1 + np.arange(rows * across).reshape(rows, across)[:, :, None]
    valley = np.zeros(basin.shape, np.float32)
    seen = [r for r in range(rows) if r not in (4, 5)]
    valley[seen, 4] = 200.0
    keys, strength, depth = _kernels.boundary_pairs(basin, valley, valley)
    unique, inverse, area = np.unique(keys, return_inverse=True, return_counts=True)
    ends = np.stack([unique >> 32, unique & 0xFFFFFFFF], axis=1).astype(np.int32)
    toll = np.bincount(inverse, weights=np.exp(-depth / 40.0))
    graph = regions.RegionGraph(
        basin, rows * across, ends, np.bincount(inverse, weights=strength), area.astype(float), toll
    )
    labels = np.where(np.arange(across)[None, :, None] < 5, 1, 2) * np.ones_like(basin)
    labels[4:6, 5:8] = 1
    seeds = np.zeros_like(basin)
    seeds[:, 0], seeds[:, -1] = 1, 2
    out = regions.straighten(graph, labels.astype(np.int32), seeds, 20.0)
    assert np.all(out[:, :4] == 1)
    assert np.all(out[:, 5:] == 2)
    assert np.all(out[4] == out[3])


def test_two_waters_meet_on_the_wall_and_in_its_gap():
    level = np.full((21, 15, 15), 10, np.uint8)
    level[10] = 200
    level[10, 7, 7] = 10  # a hole in the wall
    marker = np.zeros_like(level)
    marker[0], marker[20] = 1, 2
    out = _kernels.flood(level, np.full(level.shape, 3, np.uint8), marker)
    assert np.all(out[:10] == 1)
    assert np.all(out[11:] == 2)
    # Nobody enters where he may not.
    may = np.full(level.shape, 3, np.uint8)
    may[5:8] = 2
    out = _kernels.flood(level, may, marker)
    assert np.all(out[:5] == 1)
    assert np.all(out[5:] == 2)


def test_basins_of_two_wells_meet_at_the_ridge():
    x = np.arange(31, dtype=np.float32)
    value = np.broadcast_to(-np.abs(x - 15.2)[:, None, None], (31, 5, 5)).copy()
    # Ties along j and k go to the lowest index, so each well is one basin.
    basin, count = _kernels.watershed(value, np.ones(value.shape, np.uint8))
    assert count == 2
    assert np.all(basin[:16] == basin[0, 0, 0])
    assert np.all(basin[16:] == basin[30, 0, 0])


def test_merging_never_joins_two_seeds_and_prefers_the_weak_boundary():
    #  1 -0.1- 2 -0.9- 3 -0.2- 4, and 5 alone behind a boundary above the stop
    ends = np.array([[1, 2], [2, 3], [3, 4], [4, 5]], np.int32)
    strength = np.array([0.1, 0.9, 0.2, 7.0])
    area = np.ones(4)
    seed = np.array([0, 11, 0, 0, 22, 0], np.int32)
    label = _kernels.merge_regions(6, ends, strength, area, seed, 5.0)
    assert label.tolist() == [0, 11, 11, 22, 22, 0]


def test_merging_averages_parallel_boundaries():
    # 1 and 2 join first; then 3's two boundaries to them count as one of mean 1.0 (areas 1 and 3),
    # which loses against the boundary of 0.9 to 4.
    ends = np.array([[1, 2], [1, 3], [2, 3], [3, 4]], np.int32)
    strength = np.array([0.1, 0.4, 3.6, 0.9])
    area = np.array([1.0, 1.0, 3.0, 1.0])
    seed = np.array([0, 0, 7, 0, 8], np.int32)
    label = _kernels.merge_regions(5, ends, strength, area, seed, 5.0)
    assert label[1:].tolist() == [7, 7, 8, 8]


def test_surrounded_finds_marrow_but_not_a_bay():
    wall = np.zeros((40, 40, 40), np.uint8)
    wall[8:32, 8:32, 8:32] = 1
    wall[11:29, 11:29, 11:29] = 0
    wall[18:21, 18:21, 8:11] = 0  # a vessel's hole in the cortex
    out = _kernels.surrounded(wall, 1 - wall, 30, 4)
    assert out[20, 20, 20] == 1
    assert out[11:29, 11:29, 14:29].mean() > 0.99
    assert not out[:8].any()
    wall[29:32, 11:29, 11:29] = 0  # one side off: a bay
    assert not _kernels.surrounded(wall, 1 - wall, 30, 4)[25, 20, 20]


def test_surrounded_counts_the_first_and_last_slice_as_wall():
    wall = np.zeros((30, 30, 20), np.uint8)
    wall[5:25, 5:25] = 1
    wall[8:22, 8:22] = 0
    out = _kernels.surrounded(wall, 1 - wall, 30, 4)
    assert out[15, 15, 0] == 1
    assert out[15, 15, 10] == 1
    assert not out[2].any()


def test_fill_bone_seals_a_leaking_shell_but_not_a_socket_that_holds_another_bone():
    x, y, z = np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij")
    r = np.sqrt(x * x + y * y + z * z)
    shell = (r < 15) & (r > 12)
    shell[18:22, 18:22, 30:] = False
    none = np.zeros_like(shell)
    assert finish.fill_bone(shell, none, 2.5)[20, 20, 20]
    ball = r < 8
    assert not finish.fill_bone(shell, ball, 2.5)[20, 20, 9]


def test_outline_is_peeled_to_the_half_maximum():
    x, y, z = np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij")
    r = np.sqrt(x * x + y * y + z * z)
    hu = ndimage.gaussian_filter(np.where(r < 12, 800.0, 40.0), 0.7).astype(np.float32)
    fat = r < 13.8
    level = finish.outline_level(hu, fat, 1.0)
    none = np.zeros_like(fat)
    out = finish.peel(hu, fat, level, 3, none)
    assert np.count_nonzero(out != (r < 12)) / np.count_nonzero(r < 12) < 0.03
    assert np.array_equal(finish.peel(hu, fat, level, 3, fat), fat)


def test_pores_are_filled_and_foramina_are_not():
    mask = np.ones((40, 40, 20), dtype=bool)
    mask[8:10, 8:10] = False
    mask[20:32, 20:32] = False
    out = finish.fill_small_holes(mask, np.zeros_like(mask), 25.0)
    assert out[9, 9, 10]
    assert not out[25, 25].any()


def test_head_is_found_even_when_the_image_cuts_it():
    h = 2.0
    axes = [np.arange(n) * h for n in (100, 90, 60)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    for height in (40.0, 3.0):
        centre = np.array([186.0, 90.0, height])
        r = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        hu = np.full(x.shape, 40.0)
        hu[r < 23] = 350.0
        hu[(r > 27) & (r < 33) & (z > centre[2] - 3)] = 500.0
        hu = ndimage.gaussian_filter(hu, 0.5).astype(np.float32)
        head = hips.femoral_head(hu, np.full(3, h), 100.0, 1.0, 119.0)
        assert head is not None
        assert np.linalg.norm(head.centre - centre) < 5.0
        assert head.joint_share > 0.8
        none = hips.femoral_head(hu, np.full(3, h), 100.0, -1.0, 119.0)
        assert none is None or none.joint_share < 0.5


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 3.0), (0.5, 0.9, 1.3)])
def test_resampling_keeps_positions(spacing):
    s = np.array(spacing)
    shape = tuple(int(n) for n in np.ceil(60.0 / s))
    p = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1) * s
    data = (3.0 * p[..., 0] - 2.0 * p[..., 1] + p[..., 2]).astype(np.float32)
    volume = Volume(VolumeGeometry(shape, s, np.zeros(3)), data)
    work = grid.resample(volume, 1.0, np.full(3, 10.0), np.full(3, 45.0))
    q = np.stack(np.meshgrid(*[10.0 + np.arange(36)] * 3, indexing="ij"), axis=-1)
    np.testing.assert_allclose(work.hu, 3 * q[..., 0] - 2 * q[..., 1] + q[..., 2], atol=0.3)
    back = grid.to_source(work.hu, work, volume)
    inner = np.all((p > 12) & (p < 43), axis=-1)
    np.testing.assert_allclose(back[inner], data[inner], atol=0.3)


def test_a_path_does_not_slip_through_an_oblique_wall():
    """A wall one voxel thick that moves back by one voxel a slice; the lower front side scores best."""
    j, k = np.meshgrid(np.arange(12), np.arange(10), indexing="ij")
    plane = np.where(j > 11 - k, 0.8, np.where(k < 6, 0.95, 0.0))
    plane[j == 11 - k] = -np.inf
    score = np.repeat(plane[None].astype(np.float32), 3, axis=0)
    path = _kernels.best_descending_path(score, 0.5, 0.01, 1, 3)
    side = path[:, 1] > 11 - path[:, 2]
    assert np.all(side == side[0])
    # Where the wall only costs, it is crossed.
    score[np.isneginf(score)] = 0.4
    free = _kernels.best_descending_path(score, 0.5, 0.01, 1, 3)
    side = free[:, 1] > 11 - free[:, 2]
    assert side[0]
    assert not side[-1]


def test_a_gap_narrower_than_the_working_grid_is_a_valley():
    """Two cortices of 1.6 mm, 0.8 mm apart, at 0.8 mm voxels; the working grid has 1 mm."""
    rng = np.random.default_rng(3)
    hu = rng.normal(150.0, 20.0, (60, 40, 40))
    hu[28:33] = rng.normal(900.0, 20.0, (5, 40, 40))
    hu[30] = 500.0
    volume = Volume(VolumeGeometry(hu.shape, np.full(3, 0.8), np.zeros(3)), hu.astype(np.int16))
    fine = grid.resample(volume, 1.0, np.zeros(3), volume.geometry.extent_mm)
    depth = regions.narrow_valleys(volume, fine)
    assert depth.shape == fine.hu.shape
    # The gap lies at 24 mm, the cortices from 22 to 26; their noise is no valley, marrow has none.
    assert depth[24, 5:30, 5:30].min() > 250.0
    assert np.delete(depth, 24, axis=0).max() < 100.0
    assert depth[:22].max() == depth[27:].max() == 0.0
