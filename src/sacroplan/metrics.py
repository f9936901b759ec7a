"""The figure: a number with a unit, a limit and the evidence behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


def _plain(value: Any) -> Any:
    """A Python scalar of a Python or numpy one; numbers to 9 digits, what is not finite is unknown."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value


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
        return bool(above and below)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary; numbers are rounded to 9 significant digits so that bytes repeat."""
        value = _plain(self.value)
        return {
            "value": value,
            "unit": self.unit,
            "label": self.label,
            "rows": list(self.rows),
            "lower": _plain(self.lower),
            "upper": _plain(self.upper),
            "within": self.within,
        }


Metrics = dict[str, Metric]
"""Figures under stable dotted names, e.g. ``resection.margin.iliac_left.min_mm``."""
