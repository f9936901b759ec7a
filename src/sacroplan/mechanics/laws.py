"""Density chains and density-modulus laws. HANDBOOK 2.3 and 2.4.

Three densities must not be confused: QCT equivalent, ash and apparent (g/cm3). Every law states which
one it is on; the registry takes QCT density and applies the chain CAL-06, CAL-07 where needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray

Law = Callable[[FloatArray], FloatArray]
"""QCT density (g/cm3) to Young's modulus (MPa), before floor and bins."""


def ash_density(qct: FloatArray) -> FloatArray:
    """Ash density, g/cm3, of QCT density (negative counts as zero). CAL-06, CAL-09."""
    return np.asarray(
        evidence.value("CAL-06", "slope") * np.maximum(qct, 0.0)
        + evidence.value("CAL-06", "offset")
    )


def apparent_density(qct: FloatArray) -> FloatArray:
    """Apparent density, g/cm3, capped. CAL-06, CAL-07, CAL-09."""
    return np.minimum(
        ash_density(qct) / evidence.value("CAL-07", "ratio"),
        evidence.value("CAL-09", "apparent_cap"),
    )


def _apparent_power(row: str) -> Law:
    def law(qct: FloatArray) -> FloatArray:
        c, n = evidence.value(row, "coefficient"), evidence.value(row, "exponent")
        return np.asarray(c * apparent_density(qct) ** n)

    return law


def _ash_power(row: str) -> Law:
    def law(qct: FloatArray) -> FloatArray:
        c, n = evidence.value(row, "coefficient"), evidence.value(row, "exponent")
        return np.asarray(c * ash_density(qct) ** n)

    return law


def _carter_hayes(qct: FloatArray) -> FloatArray:
    rate = evidence.value("EM-07", "rate_per_second") ** evidence.value("EM-07", "rate_exponent")
    return np.asarray(_apparent_power("EM-07")(qct) * rate)


def _keyak(qct: FloatArray) -> FloatArray:
    def q(name: str) -> float:
        return evidence.value("EM-09", name)

    rho = ash_density(qct)
    low = q("low_coefficient") * rho ** q("low_exponent")
    middle = q("middle_slope") * rho + q("middle_offset")
    high = q("high_coefficient") * rho ** q("high_exponent")
    return np.where(rho <= q("low_limit"), low, np.where(rho < q("high_limit"), middle, high))


def _kopperdahl(qct: FloatArray) -> FloatArray:
    return np.maximum(
        evidence.value("EM-10", "slope") * np.maximum(qct, 0.0) + evidence.value("EM-10", "offset"),
        0.0,
    )


def _pelvic_blend(qct: FloatArray) -> FloatArray:
    """EM-08 up to its density limit, then a log-log line to EM-14. SP-MECH-01."""
    rho = apparent_density(qct)
    limit = evidence.value("EM-08", "density_limit")
    cortex = evidence.value("EM-14", "modulus")
    start = evidence.value("EM-08", "coefficient") * limit ** evidence.value("EM-08", "exponent")
    top = evidence.value("SP-MECH-01", "cortical_density")
    power = np.log(cortex / start) / np.log(top / limit)
    return np.where(
        rho <= limit,
        _apparent_power("EM-08")(qct),
        np.minimum(start * (rho / limit) ** power, cortex),
    )


LAWS: dict[str, Law] = {
    "EM-01": _apparent_power("EM-01"),
    "EM-02": _apparent_power("EM-02"),
    "EM-04": _apparent_power("EM-04"),
    "EM-05": _ash_power("EM-05"),
    "EM-06": _ash_power("EM-06"),
    "EM-07": _carter_hayes,
    "EM-08": _apparent_power("EM-08"),
    "EM-08+EM-14": _pelvic_blend,
    "EM-09": _keyak,
    "EM-10": _kopperdahl,
}
"""Laws by the evidence rows that define them."""


@dataclass(frozen=True, slots=True)
class LawSet:
    """Which law maps which bone."""

    name: str
    pelvis: str
    vertebra: str


LAW_SETS: dict[str, LawSet] = {
    "default": LawSet("default", "EM-08+EM-14", "EM-10"),
    "low": LawSet("low", "EM-08", "EM-08"),
    "high": LawSet("high", "EM-02", "EM-02"),
}
"""The reported choice and the envelope of HANDBOOK 2.4; the cortical shell is the same in all."""


def law_set(name: str) -> LawSet:
    """The law set ``name``; raises :class:`MechanicsError` when there is none."""
    if name not in LAW_SETS:
        raise MechanicsError(
            f"There is no set of bone laws {name!r}; there are {sorted(LAW_SETS)}."
        )
    return LAW_SETS[name]


def porous_titanium(porosity: float) -> tuple[float, float]:
    """(modulus, yield strength) MPa of printed porous titanium by Gibson-Ashby, LAT-01 on MAT-T1/T3."""
    if not 0.0 < porosity < 1.0:
        raise MechanicsError(f"A porosity lies between 0 and 1, not at {porosity:g}.")
    share = 1.0 - porosity
    solid = 1000.0 * evidence.value("MAT-T1", "modulus")
    modulus = (
        solid * evidence.value("LAT-01", "c") * share ** evidence.value("LAT-01", "n_exponent")
    )
    strength = (
        evidence.value("MAT-T3", "yield")
        * evidence.value("LAT-01", "c2")
        * share ** evidence.value("LAT-01", "m_exponent")
    )
    return modulus, strength


def porous_ultimate(yield_mpa: float) -> float:
    """Ultimate strength, MPa, of porous titanium of this yield strength. SP-MECH-16."""
    return yield_mpa * evidence.value("MAT-T3", "ultimate") / evidence.value("MAT-T3", "yield")
