"""Instruments and how a partly answered one is scored.

Every instrument has its own rule; where its authors gave none, a missing answer means no score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sacroplan import evidence
from sacroplan.registry.errors import RegistryError

Rule = Literal["sum", "share", "stretched", "single", "profile"]


@dataclass(frozen=True)
class Instrument:
    """One instrument; ``row`` holds the range of an item and the least number of answers."""

    name: str
    title: str
    items: tuple[str, ...]
    rule: Rule
    row: str
    decimals: bool = False
    better: Literal["high", "low"] = "high"

    @cached_property
    def span(self) -> tuple[float, float]:
        """Lowest and highest answer."""
        return evidence.span(self.row, "item")

    @cached_property
    def least_answered(self) -> int:
        """Fewer answers give no score."""
        return int(evidence.value(self.row, "least_answered"))

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the answers in files and forms."""
        if len(self.items) == 1:
            return (self.name,)
        return tuple(f"{self.name}_{item}" for item in self.items)


INSTRUMENTS: Mapping[str, Instrument] = {
    i.name: i
    for i in (
        Instrument("vas", "VAS pain", ("pain",), "single", "SP-REG-06", True, "low"),
        Instrument(
            "msts93", "MSTS-93",
            ("pain", "function", "acceptance", "supports", "walking", "gait"), "sum", "SP-REG-03",
        ),
        Instrument(
            "odi", "ODI", tuple(str(n) for n in range(1, 11)), "share", "SP-REG-04", better="low"
        ),
        Instrument("tess", "TESS", tuple(str(n) for n in range(1, 31)), "stretched", "SP-REG-05"),
        Instrument(
            "eq5d", "EQ-5D-5L",
            ("mobility", "care", "activities", "pain", "anxiety"), "profile", "SP-REG-07",
            better="low",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Score:
    """What is stored of one questionnaire: ``value`` is None where the rule forbids a score."""

    instrument: str
    answers: str
    answered: int
    value: float | None


def fields() -> dict[str, tuple[Instrument, int]]:
    """Every answer's field name with its instrument and position."""
    return {f: (i, n) for i in INSTRUMENTS.values() for n, f in enumerate(i.fields)}


def answer(instrument: Instrument, text: str) -> float | None:
    """One answer; None when it was left open. Raises :class:`RegistryError` outside the scale."""
    if not text.strip():
        return None
    low, high = instrument.span
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high or (not instrument.decimals and value != int(value)):
        whole = "a number" if instrument.decimals else "a whole number"
        raise RegistryError(f"'{text[:20]}' is not {whole} from {low:g} to {high:g}")
    return value


def score(instrument: Instrument, answers: Sequence[float | None]) -> Score:
    """Score the answers in the instrument's order.

    Raises
    ------
    RegistryError : another number of answers than the instrument has items, or one off the scale.
    """
    if len(answers) != len(instrument.items):
        raise RegistryError(
            f"{instrument.title} has {len(instrument.items)} items, not {len(answers)}."
        )
    low, high = instrument.span
    given = [a for a in answers if a is not None]
    if any(not low <= a <= high for a in given):
        raise RegistryError(f"An answer of {instrument.title} is outside {low:g} to {high:g}.")
    text = ",".join("" if a is None else f"{a:g}" for a in answers)
    return Score(instrument.name, text, len(given), _value(instrument, given))


def _value(instrument: Instrument, given: Sequence[float]) -> float | None:
    if len(given) < instrument.least_answered or instrument.rule == "profile":
        return None
    low, high = instrument.span
    total = sum(given)
    if instrument.rule == "share":
        return round(100.0 * total / (high * len(given)), 6)
    if instrument.rule == "stretched":
        return round(100.0 * (total - low * len(given)) / ((high - low) * len(given)), 6)
    return float(total)
