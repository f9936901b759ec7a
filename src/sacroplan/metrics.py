"""The figure: a number with a unit, a limit and the evidence behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of the plan.

    Attributes
    ----------
    value : number, string, boolean or None (None is *unknown*, not zero).
    unit : unit known to :mod:`sacroplan.evidence`, ``"1"`` for a pure number.
    label : what a reader calls it.
    rows : evidence row ids that define or limit it.
    lower, upper : limits in the same unit, where a limit exists.
    """

    value: float | int | str | bool | None
    unit: str
    label: str
    rows: tuple[str, ...] = ()
    lower: float | None = None
    upper: float | None = None

    @property
    def within(self) -> bool | None:
        """True or False against the limits, None where there is no limit or no number."""
        if self.value is None or isinstance(self.value, (str, bool)):
            return None
        if self.lower is None and self.upper is None:
            return None
        above = self.lower is None or self.value >= self.lower
        below = self.upper is None or self.value <= self.upper
        return above and below

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary; numbers are rounded to 9 significant digits so that bytes repeat."""
        value = self.value
        if isinstance(value, float):
            value = float(f"{value:.9g}")
        return {
            "value": value,
            "unit": self.unit,
            "label": self.label,
            "rows": list(self.rows),
            "lower": self.lower,
            "upper": self.upper,
            "within": self.within,
        }


Metrics = dict[str, Metric]
"""Figures under stable dotted names, e.g. ``resection.margin.iliac_left.min_mm``."""
