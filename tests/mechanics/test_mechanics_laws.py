"""Bone laws against the HANDBOOK's reference table, porous titanium."""

import numpy as np
import pytest

from sacroplan.errors import MechanicsError
from sacroplan.mechanics import laws
from sacroplan.mechanics.materials import grouped

QCT = np.array([0.10, 0.20, 0.30, 0.60, 1.00, 1.20])
TABLE = {
    "EM-02": [1016.1, 1907.5, 2965.7, 6938.6, 13712.8, 17625],
    "EM-01": [641.5, 1240.4, 1968.9, 4794.1, 9782.7, 12723],
    "EM-04": [856.0, 1855.4, 3190.4, 9062.0, 20921, 28475],
    "EM-08": [86.4, 244.4, 506.4, 2060.6, 6345.2, 9603.2],
    "EM-07": [61.7, 219.1, 532.9, 2950.4, 11629, 19277],
    "EM-05": [173.5, 456.9, 900.3, 3324.6, 9471.9, 13931],
    "EM-09": [658.4, 1668.5, 2284.5, 3717.2, 9318.0, 13073],
    "EM-10": [288.3, 611.3, 934.3, 1903.3, 3195.3, 3841.3],
}


@pytest.mark.parametrize("law", sorted(TABLE))
def test_laws_reproduce_the_handbook_table(law):
    # The table prints one decimal: half of it is 0.08 % of the smallest entry.
    np.testing.assert_allclose(laws.LAWS[law](QCT), TABLE[law], rtol=8.2e-4)


def test_density_chain_matches_the_table():
    np.testing.assert_allclose(
        laws.ash_density(QCT), [0.1667, 0.2544, 0.3421, 0.6052, 0.9560, 1.1314], atol=6e-5
    )
    np.testing.assert_allclose(
        laws.apparent_density(QCT), [0.2778, 0.4240, 0.5702, 1.0087, 1.5933, 1.8857], atol=6e-5
    )
    assert laws.apparent_density(np.array([5.0]))[0] == 2.0


def test_the_pelvic_blend_has_no_step_and_stops_at_cortex():
    qct = np.linspace(0.0, 2.0, 4001)
    e = laws.LAWS["EM-08+EM-14"](qct)
    assert np.all(np.diff(e) >= 0)
    assert np.max(np.diff(e) / e[:-1]) < 0.02
    assert e[-1] == pytest.approx(17000)
    low = laws.apparent_density(qct) < 0.5
    np.testing.assert_allclose(e[low], laws.LAWS["EM-08"](qct[low]))
    rho = laws.apparent_density(np.array([0.5]))
    exponent = np.log(17000 / 366.63) / np.log(1.8 / 0.5)
    assert exponent == pytest.approx(2.996, abs=2e-3)
    assert laws.LAWS["EM-08+EM-14"](np.array([0.5]))[0] == pytest.approx(
        366.63 * (rho[0] / 0.5) ** exponent, rel=1e-3
    )


def test_porous_titanium_matches_the_worked_values():
    for porosity, gpa in ((0.60, 16.2), (0.65, 12.0), (0.70, 8.5), (0.75, 5.7), (0.80, 3.5)):
        assert laws.porous_titanium(porosity)[0] == pytest.approx(1000 * gpa, rel=0.013)
    with pytest.raises(MechanicsError, match="porosity"):
        laws.porous_titanium(30.0)


def test_groups_are_fine_and_idempotent():
    e = np.geomspace(10, 114000, 5000)
    g = grouped(e)
    assert np.max(np.abs(g / e - 1)) < 0.0101
    np.testing.assert_array_equal(grouped(g), g)
    assert all(float(f"{x:.6g}") == x for x in np.unique(g).tolist())
    assert len(np.unique(g)) < 480
