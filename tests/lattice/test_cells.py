"""Unit cells against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.lattice.cells import (
    CELLS,
    density_of,
    level_of,
    level_table,
    struts_of,
    values,
)


@pytest.mark.parametrize("name", CELLS)
def test_level_and_density_are_inverse_and_rise_together(name: str) -> None:
    table = level_table(name)
    assert np.all(np.diff(table) > 0.0)
    for density in (0.16, 0.3, 0.47):
        assert density_of(name, level_of(name, density)) == pytest.approx(density, abs=1e-9)
    # Random points find the wanted share of solid: four standard deviations of 400,000 draws.
    points = np.random.default_rng(1).uniform(0.0, 1.0, (400_000, 3))
    assert (values(name, points) < level_of(name, 0.3)).mean() == pytest.approx(0.3, abs=0.003)


@pytest.mark.parametrize("name", CELLS)
def test_cells_repeat_and_look_alike_along_all_axes(name: str) -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(-2.0, 2.0, (400, 3))
    here = values(name, p)
    assert values(name, p + [3.0, -1.0, 2.0]) == pytest.approx(here, abs=1e-9)
    # A third of a turn about the diagonal: three equal moduli.
    assert values(name, p[:, [1, 2, 0]]) == pytest.approx(here, abs=1e-9)


def test_half_of_a_minimal_surface_lies_on_either_side() -> None:
    for name in ("gyroid_network", "diamond_network"):
        assert level_of(name, 0.5) == pytest.approx(0.0, abs=2e-3)


def test_strut_fields_are_distances_to_all_struts() -> None:
    rng = np.random.default_rng(4)
    p = rng.uniform(0.0, 1.0, (300, 3))
    shift = np.stack(np.meshgrid(*[range(-1, 2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for name, count, length in (
        ("diamond_strut", 16, 3**0.5 / 4),
        ("dodecahedron_strut", 32, 3**0.5 / 4),
    ):
        own = struts_of(name)
        assert len(own) == count
        assert np.linalg.norm(own[:, 3:] - own[:, :3], axis=1) == pytest.approx(length)
        every = (own[None] + np.tile(shift, 2)[:, None]).reshape(-1, 6)
        a, d = every[:, :3], every[:, 3:] - every[:, :3]
        t = np.clip(((p[:, None] - a) * d).sum(-1) / (d * d).sum(-1), 0.0, 1.0)
        nearest = np.linalg.norm(p[:, None] - a - t[..., None] * d, axis=-1).min(axis=1)
        assert values(name, p) == pytest.approx(nearest, abs=1e-12)


def test_nodes_have_the_right_number_of_struts() -> None:
    for name, numbers in (("diamond_strut", {4}), ("dodecahedron_strut", {4, 8})):
        own = struts_of(name)
        ends = np.mod(np.round(8 * np.concatenate([own[:, :3], own[:, 3:]])).astype(int), 8)
        _, count = np.unique(ends, axis=0, return_counts=True)
        assert set(count.tolist()) == numbers


def test_thin_struts_have_the_density_of_their_cylinders() -> None:
    # Long thin bars: volume of cylinders less what meets at the nodes.
    for name in ("diamond_strut", "dodecahedron_strut"):
        r = level_of(name, 0.10)
        bars = len(struts_of(name)) * np.pi * r**2 * 3**0.5 / 4
        assert 0.11 < bars < 0.14


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(PlanError, match=r"honeycomb.*not known"):
        level_of("honeycomb", 0.3)
    with pytest.raises(PlanError, match=r"porosity of 95 %.*40 to 90 %"):
        level_of("gyroid_network", 0.05)
    with pytest.raises(PlanError, match="porosity of 30 %"):
        level_of("diamond_network", 0.7)
