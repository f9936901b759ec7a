"""Marching cubes and squares on the hardest input there is, and on what is known."""

from __future__ import annotations

import numpy as np
import pytest
from lattice_shapes import collected

from sacroplan.geometry.tree import face_tree
from sacroplan.lattice import _march_kernels as kernels
from sacroplan.lattice.marching import case_table, march, outlines


def noise(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    phi = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for axis in range(3):
        for end in (0, -1):
            index: list[object] = [slice(None)] * 3
            index[axis] = end
            phi[tuple(index)] = 1.0
    return phi


def slabs(phi: np.ndarray, n: int):
    return (phi[k : k + n] for k in range(0, len(phi), n))


def ball(radius: float) -> np.ndarray:
    k, j, i = np.meshgrid(np.arange(30), np.arange(31), np.arange(32), indexing="ij")
    return (np.sqrt((k - 15.0) ** 2 + (j - 15.2) ** 2 + (i - 15.4) ** 2) - radius).astype(
        np.float32
    )


def test_every_case_closes_against_its_complement_and_neighbours() -> None:
    table = case_table()
    assert table.sizes[0] == table.sizes[255] == 0
    assert table.sizes.max() == 5
    assert all(table.sizes[1 << n] == 1 for n in range(8))


@pytest.mark.parametrize("seed", range(4))
def test_noise_gives_a_closed_surface_that_does_not_cross_itself(seed: int) -> None:
    # Noise meets all 256 cases and all ambiguous faces.
    phi = noise(seed, (12, 13, 14))
    s = collected(list(march(slabs(phi, 5), phi.shape)))
    assert s.is_closed
    assert face_tree(s).crossing_faces()[0] == 0
    # Solids hang together exactly where grid points are neighbours along an axis.
    from scipy.ndimage import label

    solid, count = label(phi < 0.0)
    _, voids = label(phi >= 0.0, np.ones((3, 3, 3)) - np.array([[[1, 0, 1], [0, 0, 0], [1, 0, 1]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]], [[1, 0, 1], [0, 0, 0], [1, 0, 1]]]))  # fmt: skip
    volumes = [b.volume_mm3 for b in s.bodies()]
    assert sum(v > 0 for v in volumes) == count
    assert sum(v < 0 for v in volumes) == voids - 1
    del solid


def test_blocks_do_not_matter() -> None:
    phi = noise(9, (17, 9, 11))
    whole = collected(list(march([phi], phi.shape)))
    for n in (1, 2, 4, 16):
        s = collected(list(march(slabs(phi, n), phi.shape)))
        assert np.array_equal(s.vertices, whole.vertices)
        assert np.array_equal(np.sort(s.faces, axis=0), np.sort(whole.faces, axis=0))


def test_a_ball_has_its_volume_and_looks_outwards() -> None:
    phi = ball(10.0)
    s = collected(list(march(slabs(phi, 7), phi.shape)))
    assert s.is_closed
    # Chords of a sphere: 0.6 % at ten points a radius.
    assert s.volume_mm3 == pytest.approx(4.0 / 3.0 * np.pi * 1000.0, rel=0.008)


def test_float32_does_not_merge_vertices() -> None:
    phi = ball(10.0)
    phi[np.abs(phi) < 0.3] = 0.0  # crossings right on grid points
    s = collected(list(march([phi], phi.shape)))
    far = (s.vertices * 0.07 + 300.0).astype(np.float32)
    assert len(np.unique(far, axis=0)) == len(far)


def test_the_ledger_sees_one_missing_triangle() -> None:
    phi = noise(2, (10, 10, 10))
    blocks = list(march(slabs(phi, 3), phi.shape))
    whole, broken = np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.uint64)
    for n, block in enumerate(blocks):
        kernels.edge_ledger(block.faces, whole)
        kernels.edge_ledger(block.faces[1:] if n == 1 else block.faces, broken)
    assert whole[0] == 0
    assert broken[0] != 0


def test_outlines_are_closed_and_have_the_area() -> None:
    plane = ball(10.0)[15]
    plane = np.maximum(
        plane, 4.0 - np.hypot(*np.meshgrid(np.arange(32) - 15.4, np.arange(31) - 15.2))
    )
    rings = outlines(plane.astype(np.float32))
    areas = sorted(
        0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) for x, y in (r.T for r in rings)
    )
    assert areas == pytest.approx([-np.pi * 16.0, np.pi * 100.0], rel=0.02)
    chaos = noise(5, (3, 40, 40))[1]
    rings = outlines(chaos)
    assert all(len(r) >= 3 for r in rings)
    assert all(np.linalg.norm(r - np.roll(r, 1, axis=0), axis=1).max() < 1.5 for r in rings)
