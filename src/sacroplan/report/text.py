"""Numbers put into words: digits by unit, limits, verdicts, citations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sacroplan import evidence
from sacroplan.evidence import FLAGS
from sacroplan.metrics import Metric, Metrics

Verdict = Literal["met", "violated", "doubtful", "unknown", ""]

VERDICTS: dict[Verdict, str] = {
    "met": "within limits",
    "violated": "outside a limit that may reject",
    "doubtful": "outside a limit that may only warn",
    "unknown": "not known",
    "": "no limit",
}

_DECIMALS = {
    "mm": 2, "mm2": 1, "cm2": 2, "mm3": 0, "cm3": 2, "um": 0, "deg": 1, "N": 0, "N/mm": 0,
    "N.m": 2, "N.m/deg": 2, "g": 1, "kg": 2, "HU": 0, "%": 1, "s": 1, "BW": 2,
    "microstrain": 0, "count": 0, "voxel": 2, "mL": 0, "kV": 0, "mGy": 1, "cycles": 0, "mm4": 0,
}  # fmt: skip
"""Decimals printed per unit; other units get four significant digits. metrics.json has them all."""

_UNITS = {
    "1": "", "text": "", "count": "", "mm2": "mm²", "cm2": "cm²", "mm3": "mm³", "cm3": "cm³",
    "um": "µm", "deg": "°", "N.m": "N·m", "N.m/deg": "N·m/°", "g/cm3": "g/cm³",
    "mg/cm3": "mg/cm³", "microstrain": "µε", "voxel": "voxels", "MPa.mm": "MPa·mm",
    "N.mm": "N·mm", "mm4": "mm⁴", "N.mm/mm3": "N·mm/mm³", "mJ/mm3": "mJ/mm³",
}  # fmt: skip


def number(value: float | int | str | bool | None, unit: str) -> str:
    """``value`` as printed: ``"unknown"`` for None, yes or no for truth values."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    if unit in _DECIMALS:
        decimals = _DECIMALS[unit]
        shown = f"{value:,.{decimals}f}".replace(",", "\u202f")
        # A small but real quantity must not be printed as zero.
        if value != 0.0 and float(f"{value:.{decimals}f}") == 0.0:
            return f"{value:.2g}"
    else:
        shown = f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1e4 else f"{value:.4g}"
    return shown.replace("-", "\u2212") if shown.startswith("-") else shown


def unit_text(unit: str) -> str:
    """The unit as printed."""
    return _UNITS.get(unit, unit)


def limits(metric: Metric) -> str:
    """``≥ 2.00``, ``≤ 5.0``, ``2.00 – 5.00`` or nothing."""
    low = None if metric.lower is None else number(float(metric.lower), metric.unit)
    high = None if metric.upper is None else number(float(metric.upper), metric.unit)
    if low is not None and high is not None:
        return f"{low} – {high}"
    if low is not None:
        return f"≥ {low}"
    return f"≤ {high}" if high is not None else ""


def verdict(metric: Metric) -> Verdict:
    """Against its limits; only evidence flagged as verified may reject (HANDBOOK 0.1, rule 2)."""
    if metric.value is None:
        return "unknown"
    inside = metric.within
    if inside is None:
        return ""
    if inside:
        return "met"
    return "violated" if any(evidence.get(r).may_reject for r in metric.rows) else "doubtful"


@dataclass(frozen=True, slots=True)
class FigureRow:
    """A figure as printed."""

    name: str
    label: str
    value: str
    unit: str
    limits: str
    verdict: Verdict
    rows: tuple[tuple[str, str], ...]
    """Evidence row ids with their flags."""


def figure_rows(figures: Metrics) -> list[FigureRow]:
    """The figures in the order in which they were given."""
    return [
        FigureRow(
            name,
            m.label,
            number(m.value, m.unit),
            unit_text(m.unit),
            limits(m),
            verdict(m),
            tuple((r, evidence.get(r).flag) for r in m.rows),
        )
        for name, m in figures.items()
    ]


@dataclass(frozen=True, slots=True)
class Citation:
    """An evidence row as printed in the register."""

    id: str
    flag: str
    meaning: str
    title: str
    source: str
    note: str
    quantities: tuple[str, ...]


def citations(ids: Iterable[str]) -> list[Citation]:
    """The evidence behind ``ids``, each once, sorted by id."""
    out = []
    for row_id in sorted(set(ids)):
        row = evidence.get(row_id)
        out.append(
            Citation(
                row.id, row.flag, FLAGS[row.flag], row.title, row.source, row.note,
                tuple(_quantity(q) for q in row.quantities.values()),
            )
        )  # fmt: skip
    return out


def _quantity(q: evidence.Quantity) -> str:
    unit = unit_text(q.unit)
    words = [q.name.replace("_", " ")]
    if q.value is not None:
        words.append(f"{q.value:g}{' ' if unit else ''}{unit}")
    if q.sd is not None:
        words.append(f"± {q.sd:g}")
    if q.lower is not None or q.upper is not None:
        low = "" if q.lower is None else f"{q.lower:g}"
        high = "" if q.upper is None else f"{q.upper:g}"
        bound = f"{low} – {high}" if low and high else (f"from {low}" if low else f"to {high}")
        words.append(f"({bound})")
    if q.n is not None:
        words.append(f"n = {q.n}")
    return " ".join(words)
