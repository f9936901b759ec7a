"""Homogenised stiffness against exact solutions and bounds."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.errors import MechanicsError, PlanError
from sacroplan.lattice.cells import CELLS
from sacroplan.lattice.homogenise import cubic, homogenise, isotropic, voxels
from sacroplan.lattice.properties import effective

TITANIUM = 114_000.0, 0.34


def laminate(stiff: np.ndarray, soft: np.ndarray, share: float) -> np.ndarray:
    """Exact stiffness of layers across z: in-plane strains and out-of-plane stresses are shared."""
    out, plane = [2, 3, 4], [0, 1, 5]
    mean = {k: np.zeros((3, 3)) for k in ("nn", "np", "pn", "pp")}
    for c, f in ((stiff, share), (soft, 1.0 - share)):
        inverse = np.linalg.inv(c[np.ix_(out, out)])
        across = c[np.ix_(out, plane)]
        mean["nn"] += f * inverse
        mean["np"] += f * inverse @ across
        mean["pn"] += f * across.T @ inverse
        mean["pp"] += f * (c[np.ix_(plane, plane)] - across.T @ inverse @ across)
    nn = np.linalg.inv(mean["nn"])
    c = np.zeros((6, 6))
    c[np.ix_(out, out)] = nn
    c[np.ix_(out, plane)] = nn @ mean["np"]
    c[np.ix_(plane, out)] = mean["pn"] @ nn
    c[np.ix_(plane, plane)] = mean["pp"] + mean["pn"] @ nn @ mean["np"]
    return c


def test_a_solid_cell_is_its_solid() -> None:
    found = homogenise(np.ones((4, 5, 6)), 0.3)
    assert found.stiffness == pytest.approx(isotropic(1.0, 0.3), abs=1e-12)


def test_a_laminate_is_exact() -> None:
    # Displacements are linear in each layer, which the elements represent: equal to rounding.
    s = np.ones((3, 4, 8))
    s[:, :, 6:] = 0.05
    found = homogenise(s, 0.34, tolerance=1e-12).stiffness
    expected = laminate(isotropic(1.0, 0.34), isotropic(0.05, 0.34), 0.75)
    assert found == pytest.approx(expected, abs=1e-10)
    assert found[2, 2] < 0.3 < found[0, 0]


def test_a_column_carries_along_its_axis_alone() -> None:
    s = np.zeros((8, 8, 8))
    s[2:6, 2:6, :] = 1.0
    c = homogenise(s, 0.3).stiffness
    # A free bar: E A; nothing holds it sideways.
    assert c[2, 2] == pytest.approx(0.25, rel=1e-6)
    assert np.abs(np.delete(c.ravel(), 14)).max() < 1e-6


@pytest.mark.parametrize("name", CELLS)
def test_the_whole_matrix_is_cubic_and_below_the_bounds(name: str) -> None:
    c = homogenise(voxels(name, 0.3, 16), 0.34).stiffness
    assert c == pytest.approx(c.T, abs=2e-5)
    c11, c12, c44 = cubic(name, 0.3, 0.34, 16)
    expected = np.zeros((6, 6))
    expected[:3, :3] = c12
    expected[range(6), range(6)] = [c11] * 3 + [c44] * 3
    # Voxels that symmetry makes equal are ranked by place to meet the density, which on 16 voxels an
    # edge costs up to 5 % of the symmetry.
    assert c == pytest.approx(expected, abs=0.05 * c11)
    solid = isotropic(1.0, 0.34)
    assert np.linalg.eigvalsh(0.3 * solid - c).min() > 0.0  # Voigt
    assert c11 + 2 * c12 < 3 * hashin_shtrikman(0.3, 0.34)[0]
    assert min(c44, 0.5 * (c11 - c12)) < hashin_shtrikman(0.3, 0.34)[1]


def hashin_shtrikman(density: float, nu: float) -> tuple[float, float]:
    """Upper bounds of bulk and shear modulus of an isotropic porous solid with modulus 1."""
    k, g = 1.0 / (3.0 * (1.0 - 2.0 * nu)), 1.0 / (2.0 * (1.0 + nu))
    void = 1.0 - density
    bulk = k + void / (-1.0 / k + 3.0 * density / (3.0 * k + 4.0 * g))
    shear = g + void / (-1.0 / g + 6.0 * density * (k + 2.0 * g) / (5.0 * g * (3.0 * k + 4.0 * g)))
    return bulk, shear


@pytest.mark.parametrize("name", CELLS)
def test_the_table_keeps_the_bounds_and_rises_everywhere(name: str) -> None:
    low, high = CELLS[name].densities
    before = 0.0
    for density in np.linspace(low, high, 25):
        p = effective(name, float(density), *TITANIUM)
        solid = isotropic(*TITANIUM)
        assert np.linalg.eigvalsh(density * solid - p.stiffness_mpa).min() > 0.0
        bulk, _ = hashin_shtrikman(float(density), TITANIUM[1])
        assert p.stiffness_mpa[0, :3].sum() / 3.0 < bulk * TITANIUM[0]
        assert p.e_mpa[0] > before
        assert 0.0 < p.nu < 0.5
        before = p.e_mpa[0]


@pytest.mark.parametrize("name", CELLS)
def test_the_table_is_what_the_cell_gives(name: str) -> None:
    # A coarser grid than the table's: elements bound from above, and a third of the voxels an edge.
    p = effective(name, 0.3, 1.0, 0.36)
    c11, c12, c44 = cubic(name, 0.3, 0.36, 24)
    found = (c11 - c12) * (c11 + 2 * c12) / (c11 + c12)
    assert p.e_mpa[0] == pytest.approx(found, rel=0.12)
    assert p.g_mpa[0] == pytest.approx(c44, rel=0.12)


def test_the_table_scales_and_turns() -> None:
    soft, hard = (effective("gyroid_network", 0.3, e, 0.34) for e in (1.0, 114_000.0))
    assert hard.stiffness_mpa == pytest.approx(114_000.0 * soft.stiffness_mpa)
    compliance = np.linalg.inv(hard.stiffness_mpa)
    assert hard.e_mpa == pytest.approx(1.0 / np.diag(compliance)[:3])
    assert hard.nu == pytest.approx(-compliance[1, 0] / compliance[0, 0])
    c = hard.stiffness_mpa
    assert hard.zener == pytest.approx(2 * c[3, 3] / (c[0, 0] - c[0, 1]))
    assert hard.young_along([0, 0, 2.0]) == pytest.approx(hard.e_mpa[2])
    # Along the diagonal of a cubic solid, from its three moduli.
    s11, s12, s44 = compliance[0, 0], compliance[0, 1], compliance[3, 3]
    diagonal = 1.0 / (s11 - 2.0 / 3.0 * (s11 - s12 - 0.5 * s44))
    assert hard.young_along([1, 1, 1]) == pytest.approx(diagonal)
    assert not hard.stiffness_mpa.flags.writeable


def test_the_skeletal_gyroid_agrees_with_experiment_and_simulation() -> None:
    p = effective("gyroid_network", 0.30, *TITANIUM)
    for row in ("LAT-01", "LAT-02"):
        c, n = evidence.value(row, "c"), evidence.value(row, "n_exponent")
        assert p.e_mpa[0] / TITANIUM[0] == pytest.approx(c * 0.30**n, rel=0.15)


def test_what_cannot_be_homogenised_is_refused() -> None:
    with pytest.raises(MechanicsError, match="some solid"):
        homogenise(np.zeros((4, 4, 4)), 0.3)
    with pytest.raises(MechanicsError, match="Poisson"):
        homogenise(np.ones((4, 4, 4)), 0.5)
    with pytest.raises(PlanError, match="tabulated"):
        effective("gyroid_network", 0.7, *TITANIUM)
    with pytest.raises(PlanError, match="ratios"):
        effective("gyroid_network", 0.3, 114_000.0, 0.1)
    with pytest.raises(PlanError, match="not known"):
        effective("cube", 0.3, *TITANIUM)
