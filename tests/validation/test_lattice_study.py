"""Homogenisation: convergence with the grid, and the shipped table against it."""

from __future__ import annotations

import pytest

from sacroplan.lattice.cells import CELLS
from sacroplan.lattice.homogenise import cubic
from sacroplan.lattice.properties import effective


def young(name: str, density: float, n: int) -> tuple[float, float]:
    c11, c12, c44 = cubic(name, density, 0.36, n)
    return (c11 - c12) * (c11 + 2 * c12) / (c11 + c12), c44


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_sixty_voxels_an_edge_are_within_three_percent_of_ninety_six(name: str) -> None:
    e60, g60 = young(name, 0.30, 60)
    e96, g96 = young(name, 0.30, 96)
    print(
        f"| {name} | {e60:.4f} | {e96:.4f} | {100 * (e60 / e96 - 1):+.1f} % | {g60:.4f} | {g96:.4f} |"
    )
    assert e60 == pytest.approx(e96, rel=0.03)
    assert g60 == pytest.approx(g96, rel=0.03)
    # The table's 48 voxels an edge.
    assert effective(name, 0.30, 1.0, 0.36).e_mpa[0] == pytest.approx(e96, rel=0.04)
