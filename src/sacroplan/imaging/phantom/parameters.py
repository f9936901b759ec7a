"""What may be chosen about the synthetic patient."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from sacroplan import evidence
from sacroplan.errors import ImagingError

Sex = Literal["female", "male"]
Level = Literal["S1", "S2", "S3", "S4"]


@dataclass(frozen=True, slots=True)
class PhantomParameters:
    """Choices of the synthetic patient; impossible values raise :class:`ImagingError`.

    Attributes
    ----------
    sex : shape of the pelvis: ``"female"`` or ``"male"``.
    size : overall scale, 1 is the average of that sex.
    pelvic_incidence_deg : pelvic incidence (SAG-PI), within SAG-N1.
    asymmetry : 0 symmetric, 1 an ordinary difference of the sides, negative mirrors it.
    tumour_level : sacral vertebra in which the tumour sits, None for a healthy sacrum.
    tumour_diameter_mm : diameter of its part inside the bone.
    seed : texture, noise and small variations.
    """

    sex: Sex = "female"
    size: float = 1.0
    pelvic_incidence_deg: float = 52.0
    asymmetry: float = 1.0
    tumour_level: Level | None = "S2"
    tumour_diameter_mm: float = 46.0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.sex not in ("female", "male"):
            raise ImagingError(f"Sex {self.sex!r} is not known; choose 'female' or 'male'.")
        if self.tumour_level not in (None, "S1", "S2", "S3", "S4"):
            raise ImagingError(f"Tumour level {self.tumour_level!r} is not S1 to S4 or None.")
        low, high = evidence.span("SP-PHANTOM-01", "pelvic_incidence")
        self._within("pelvic_incidence_deg", self.pelvic_incidence_deg, low, high)
        for name in ("size", "asymmetry", "tumour_diameter_mm"):
            lower, upper = evidence.span("SP-PHANTOM-01", name)
            self._within(name, getattr(self, name), lower, upper)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ImagingError(f"The seed must be a whole number from 0, not {self.seed!r}.")

    @staticmethod
    def _within(name: str, value: float, low: float, high: float) -> None:
        if not isfinite(value) or not low <= value <= high:
            raise ImagingError(f"{name} is {value:g}; the phantom is made for {low:g} to {high:g}.")
