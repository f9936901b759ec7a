"""The HANDBOOK as data: every number of medicine, mechanics or design carries its source and flag.

Rows live in ``data/*.toml``. Code asks for a quantity by row id and gets the number; the dossier asks
for the same row and prints its citation. A row looks like this::

    [[row]]
    id = "EM-08"
    title = "Dalstra 1993, pelvic trabecular bone, apparent density"
    source = "Dalstra 1993, doi:10.1016/0021-9290(93)90014-6"
    flag = "K"
    note = "Specimens never exceeded BV/TV 20 %."
    [row.quantities.coefficient]
    value = 2017.3
    unit = "MPa"
    [row.quantities.exponent]
    value = 2.46
    unit = "1"

A quantity may add ``lower``, ``upper``, ``sd``, ``n``, ``population``, and its own ``flag``. A
row with ``plausibility = true`` is the spread of a population: outside it the program warns only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from sacroplan.errors import EvidenceError

FLAGS: Mapping[str, str] = {
    "S-A": "stated in paper A (Lv 2023)",
    "S-B": "stated in paper B (Kaiser 2025)",
    "V": "seen in an abstract, table or page",
    "V2": "seen in a secondary source only",
    "Vc": "seen in public source code only",
    "K": "well-known literature value, not verified against its source",
    "K-low": "well-known literature value, exact number uncertain",
    "D": "arithmetic on flagged numbers",
    "P": "project default, no source fixes it; an assumption",
}
"""Flag to meaning, HANDBOOK 0.1."""

REJECTING_FLAGS = frozenset({"S-A", "S-B", "V"})
"""Only these may reject automatically; every other flag may warn (HANDBOOK 0.1, rule 2)."""

UNITS: frozenset[str] = frozenset(
    {
        "1", "%", "mm", "mm2", "cm2", "mm3", "cm3", "um", "deg", "N", "N/mm", "N.m", "N.m/deg",
        "MPa", "GPa", "g", "kg", "g/cm3", "mg/cm3", "HU", "mGy", "kV", "s", "min", "h", "day",
        "week", "month", "year", "BW", "cycles", "microstrain", "mL", "voxel", "count", "text",
        "MPa.mm", "N.mm", "mm4", "J", "N.mm/mm3", "mJ/mm3",
    }
)  # fmt: skip
"""Units a quantity or a metric may carry. ``"1"`` is a pure number, ``"text"`` a word."""

_QUANTITY_KEYS = {"value", "unit", "lower", "upper", "sd", "n", "population", "flag", "note"}
_ROW_KEYS = {"id", "title", "source", "flag", "note", "plausibility", "quantities"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with unit, range and provenance. ``value`` is None where only a range is known."""

    name: str
    value: float | None
    unit: str
    flag: str
    lower: float | None = None
    upper: float | None = None
    sd: float | None = None
    n: int | None = None
    population: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One evidence row: what it says, where it comes from, how far it may be trusted."""

    id: str
    title: str
    source: str
    flag: str
    note: str
    quantities: Mapping[str, Quantity]
    plausibility: bool = False
    """The spread of a population: a patient outside it is unusual, not wrong."""

    @property
    def may_reject(self) -> bool:
        """Whether a limit from this row may refuse a plan rather than warn."""
        return self.flag in REJECTING_FLAGS and not self.plausibility

    @property
    def citation(self) -> str:
        """``[EM-08, K] title. source`` as printed in the dossier."""
        return f"[{self.id}, {self.flag}] {self.title}. {self.source}"


def parse(text: str, origin: str) -> list[Row]:
    """Rows of one TOML text; raises :class:`EvidenceError` naming ``origin`` and the row."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EvidenceError(f"{origin} is not valid TOML: {error}.") from error
    unknown = set(table) - {"row"}
    if unknown:
        raise EvidenceError(f"{origin} holds {sorted(unknown)}; only [[row]] entries belong there.")
    return [_row(entry, origin) for entry in table.get("row", [])]


def _row(entry: dict[str, Any], origin: str) -> Row:
    where = f"{origin}, row {entry.get('id', '?')}"
    for key in ("id", "title", "source", "flag"):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise EvidenceError(f"{where}: {key!r} is missing or not a text.")
    unknown = set(entry) - _ROW_KEYS
    if unknown:
        raise EvidenceError(f"{where}: unknown key {sorted(unknown)[0]!r}.")
    _check_flag(entry["flag"], where)
    quantities = {
        name: _quantity(name, q, entry["flag"], where)
        for name, q in entry.get("quantities", {}).items()
    }
    return Row(
        entry["id"],
        entry["title"],
        entry["source"],
        entry["flag"],
        entry.get("note", ""),
        quantities,
        bool(entry.get("plausibility", False)),
    )


def _quantity(name: str, entry: dict[str, Any], row_flag: str, where: str) -> Quantity:
    where = f"{where}.{name}"
    unknown = set(entry) - _QUANTITY_KEYS
    if unknown:
        raise EvidenceError(f"{where}: unknown key {sorted(unknown)[0]!r}.")
    unit = entry.get("unit")
    if unit not in UNITS:
        raise EvidenceError(f"{where}: unit {unit!r} is not known; known are {sorted(UNITS)}.")
    flag = entry.get("flag", row_flag)
    _check_flag(flag, where)
    numbers = {k: entry[k] for k in ("value", "lower", "upper", "sd") if k in entry}
    for key, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise EvidenceError(f"{where}: {key} must be a number, not {number!r}.")
    if not numbers:
        raise EvidenceError(f"{where}: neither a value nor a range is given.")
    low, high = entry.get("lower"), entry.get("upper")
    if low is not None and high is not None and low > high:
        raise EvidenceError(f"{where}: lower {low} is above upper {high}.")
    value = numbers.get("value")
    return Quantity(
        name,
        None if value is None else float(value),
        unit,
        flag,
        None if low is None else float(low),
        None if high is None else float(high),
        None if "sd" not in entry else float(entry["sd"]),
        entry.get("n"),
        entry.get("population"),
        entry.get("note"),
    )


def _check_flag(flag: str, where: str) -> None:
    if flag not in FLAGS:
        raise EvidenceError(f"{where}: flag {flag!r} is not known; known are {sorted(FLAGS)}.")


def collect(rows: Iterable[Row]) -> dict[str, Row]:
    """Index rows by id; an id that occurs twice is an error."""
    out: dict[str, Row] = {}
    for row in rows:
        if row.id in out:
            raise EvidenceError(f"Evidence row {row.id!r} is defined twice.")
        out[row.id] = row
    return out


@lru_cache(maxsize=1)
def rows() -> Mapping[str, Row]:
    """All rows by id."""
    folder = resources.files(__name__) / "data"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return collect(row for f in files for row in parse(f.read_text("utf-8"), f.name))


def get(row_id: str) -> Row:
    """The row with ``row_id``; raises :class:`EvidenceError` when there is none."""
    try:
        return rows()[row_id]
    except KeyError:
        raise EvidenceError(f"There is no evidence row {row_id!r}.") from None


def quantity(row_id: str, name: str = "value") -> Quantity:
    """Quantity ``name`` of row ``row_id``."""
    row = get(row_id)
    try:
        return row.quantities[name]
    except KeyError:
        raise EvidenceError(
            f"Evidence row {row_id} has no quantity {name!r}; it has {sorted(row.quantities)}."
        ) from None


def value(row_id: str, name: str = "value") -> float:
    """The number of quantity ``name`` of row ``row_id``; raises when only a range is known."""
    q = quantity(row_id, name)
    if q.value is None:
        raise EvidenceError(f"Evidence {row_id}.{name} is a range without a value.")
    return q.value


def span(row_id: str, name: str = "value") -> tuple[float, float]:
    """Lower and upper bound of quantity ``name``; raises when either is unknown."""
    q = quantity(row_id, name)
    if q.lower is None or q.upper is None:
        raise EvidenceError(f"Evidence {row_id}.{name} has no complete range.")
    return q.lower, q.upper
