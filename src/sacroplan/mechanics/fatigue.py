"""Fatigue of metal: Goodman's line with the surface state of each part, and porous metal by its own rule.

The cycle is walking: from double stance (LC-02) to the gait peak (LC-03). Every strength here is below
[V] but the porous rule, so all of it warns and nothing rejects.
"""

from __future__ import annotations

from dataclasses import dataclass

from sacroplan import evidence


@dataclass(frozen=True, slots=True)
class Endurance:
    """What a kind of part stands for 1e7 cycles.

    Attributes
    ----------
    strength_mpa : largest stress of a cycle of ratio ``ratio`` (least over largest stress).
    ultimate_mpa : static strength.
    ratio : of the tests; None where the source names none and largest stresses are compared.
    factor : safety factor asked.
    surface : surface state in words.
    rows : evidence.
    """

    strength_mpa: float
    ultimate_mpa: float
    ratio: float | None
    factor: float
    surface: str
    rows: tuple[str, ...]


def endurance(kind: str, porous_ultimate_mpa: float) -> Endurance:
    """Endurance of a part kind: rough printed core, machined screws, bent machined rods, porous metal."""
    if kind == "porous":
        share = evidence.value("FAT-05", "share") / 100.0
        return Endurance(
            share * porous_ultimate_mpa, porous_ultimate_mpa, None,
            evidence.value("FAT-08", "factor_mean_data"), "porous, any finish",
            ("FAT-05", "FAT-08", "LAT-01", "SP-MECH-16"),
        )  # fmt: skip
    if kind == "core":
        return Endurance(
            evidence.span("FAT-02", "strength")[0], evidence.value("MAT-T3", "ultimate"),
            evidence.value("FAT-02", "ratio"), evidence.value("FAT-08", "factor_assumed_surface"),
            "as printed, rough", ("FAT-02", "FAT-02b", "FAT-08", "MAT-T3"),
        )  # fmt: skip
    strength = evidence.span("FAT-01", "strength")[0]
    rows: tuple[str, ...] = ("FAT-01", "FAT-08", "MAT-T1")
    surface = "machined"
    if kind == "rod":
        strength *= evidence.value("FAT-10", "notch")
        rows, surface = (*rows, "FAT-10"), "machined, bent"
    return Endurance(
        strength, evidence.value("MAT-T1", "ultimate"), evidence.value("FAT-01", "ratio"),
        evidence.value("FAT-08", "factor_mean_data"), surface, rows,
    )  # fmt: skip


def reversed_amplitude_mpa(strength_mpa: float, ratio: float, ultimate_mpa: float) -> float:
    """Endurance amplitude at zero mean that Goodman's line gives a strength at ``ratio``."""
    amplitude, mean = 0.5 * (1.0 - ratio) * strength_mpa, 0.5 * (1.0 + ratio) * strength_mpa
    return amplitude / (1.0 - mean / ultimate_mpa)


def goodman_factor(largest_mpa: float, ratio: float, limit: Endurance) -> float:
    """Safety factor of a cycle with this largest stress and stress ratio. FAT-08, FAT-05."""
    largest = max(largest_mpa, 1e-12)
    if limit.ratio is None:
        return limit.strength_mpa / largest
    amplitude, mean = 0.5 * (1.0 - ratio) * largest, 0.5 * (1.0 + ratio) * largest
    endured = reversed_amplitude_mpa(limit.strength_mpa, limit.ratio, limit.ultimate_mpa)
    return 1.0 / (amplitude / endured + mean / limit.ultimate_mpa)
