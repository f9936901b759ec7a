"""The registry's live rows as arrays, one read per question; nothing here writes.

Months are counted from a patient's first operation, 365.25 / 12 days each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from sacroplan.registry.database import Registry
from sacroplan.registry.dictionary import tables

Floats = npt.NDArray[np.float64]

DAYS_PER_MONTH = 365.25 / 12.0

NEVER = np.nan
"""Month of an event that has not happened."""


def day(dialect: str, column: str) -> str:
    """SQL for a date as a whole number of days."""
    if dialect == "sqlite":
        return f"CAST(julianday({column}) AS INTEGER)"
    return f"({column} - DATE '1970-01-01')"


@dataclass(frozen=True, eq=False)
class Cohort:
    """All patients with an operation, in the order of their ids; every array is (n,).

    Attributes
    ----------
    columns : field of patient, tumour or operation to its values; NaN or "" where unknown.
    months : event's kind to the month of the first one, NaN where none.
    cause : cause of death, "" where alive or unknown.
    contact : month of last contact: visit, imaging, complication or event.
    unoperated : patients without an operation, who are in no statistic.
    """

    ids: npt.NDArray[np.int64]
    pseudonyms: npt.NDArray[Any]
    columns: Mapping[str, npt.NDArray[Any]]
    months: Mapping[str, Floats]
    cause: npt.NDArray[Any]
    contact: Floats
    unoperated: int

    @property
    def n(self) -> int:
        """Number of patients with an operation."""
        return len(self.ids)

    @cached_property
    def dead(self) -> npt.NDArray[np.bool_]:
        """Who has died."""
        return np.isfinite(self.months["death"])

    @cached_property
    def follow_up(self) -> Floats:
        """Months to death or last contact."""
        return np.where(self.dead, self.months["death"], self.contact)

    def first_of(self, kind: str) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Time and state (0 censored, 1 the event, 2 death without it) for competing risks."""
        at = self.months[kind]
        seen = np.isfinite(at) & (at <= np.where(self.dead, self.months["death"], np.inf))
        time = np.where(seen, at, self.follow_up)
        return time, np.where(seen, 1, np.where(self.dead, 2, 0)).astype(np.int64)

    def subset(self, chosen: npt.NDArray[np.bool_]) -> Cohort:
        """The chosen patients."""
        return Cohort(
            self.ids[chosen],
            self.pseudonyms[chosen],
            {k: v[chosen] for k, v in self.columns.items()},
            {k: v[chosen] for k, v in self.months.items()},
            self.cause[chosen],
            self.contact[chosen],
            self.unoperated,
        )


_FIELDS: Mapping[str, tuple[str, ...]] = {
    "patient": ("sex", "synthetic"),
    "tumour": ("diagnosis", "diameter_mm", "metastatic", "radiotherapy", "chemotherapy"),
    "operation": (
        "age_years", "resection", "approach", "margin", "blood_loss_ml", "duration_min",
    ),
}  # fmt: skip


def load(registry: Registry) -> Cohort:
    """Patients, tumours, first operations and events; visits count only for the last contact."""
    d = registry.dialect
    names = [f"{t[0]}.{f}" for t, fields in _FIELDS.items() for f in fields]
    query = (
        f"SELECT p.id, p.pseudonym, {day(d, 'o.operated_on')}, {', '.join(names)} FROM patient p "
        "LEFT JOIN operation o ON o.id = (SELECT x.id FROM operation x WHERE x.patient_id = p.id "
        "AND x.deleted_at IS NULL ORDER BY x.operated_on LIMIT 1) "
        "LEFT JOIN tumour t ON t.patient_id = p.id AND t.deleted_at IS NULL "
        "WHERE p.deleted_at IS NULL ORDER BY p.id"
    )
    last = " UNION ALL ".join(
        f"SELECT patient_id, max({day(d, date)}) FROM {table} WHERE deleted_at IS NULL "
        "GROUP BY patient_id"
        for table, date in (
            ("visit", "visited_on"), ("finding", "imaged_on"), ("event", "occurred_on"),
        )
    )  # fmt: skip
    complication = (
        f"SELECT o.patient_id, max({day(d, 'c.occurred_on')}) FROM complication c "
        "JOIN operation o ON o.id = c.operation_id "
        "WHERE c.deleted_at IS NULL AND o.deleted_at IS NULL GROUP BY o.patient_id"
    )
    first = (
        f"SELECT patient_id, kind, min({day(d, 'occurred_on')}) FROM event "
        "WHERE deleted_at IS NULL GROUP BY patient_id, kind"
    )
    cause = "SELECT patient_id, cause FROM event WHERE deleted_at IS NULL AND kind = 'death'"
    with registry.reading() as connection:
        people = connection.execute(sa.text(query)).fetchall()
        contacts = connection.execute(sa.text(f"{last} UNION ALL {complication}")).fetchall()
        events = connection.execute(sa.text(first)).fetchall()
        causes = connection.execute(sa.text(cause)).fetchall()
    operated = [r for r in people if r[2] is not None]
    rows = list(zip(*operated, strict=True)) if operated else [()] * (3 + len(names))
    ids = np.array(rows[0], dtype=np.int64)
    start = np.array(rows[2], dtype=np.float64)
    columns = {
        name.partition(".")[2]: _column(name.partition(".")[2], values)
        for name, values in zip(names, rows[3:], strict=True)
    }
    contact = np.zeros(len(ids))
    _latest(ids, start, contacts, contact)
    months = {kind: np.full(len(ids), NEVER) for kind in tables()["event"].field("kind").codes}
    for kind, at in months.items():
        mine = [(p, t) for p, k, t in events if k == kind]
        where, found = _places(ids, [p for p, _ in mine])
        at[where] = (np.array([t for _, t in mine])[found] - start[where]) / DAYS_PER_MONTH
    why = np.full(len(ids), "", dtype="U3")
    where, found = _places(ids, [p for p, _ in causes])
    why[where] = np.array([c or "" for _, c in causes], dtype="U3")[found]
    return Cohort(
        ids,
        np.array(rows[1], dtype="U16"),
        columns,
        months,
        why,
        contact,
        len(people) - len(operated),
    )


def _column(name: str, values: Sequence[Any]) -> npt.NDArray[Any]:
    field = next(f for t in _FIELDS for f in tables()[t].fields if f.name == name)
    if field.kind == "code":
        return np.array(["" if v is None else v for v in values], dtype="U40")
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _places(
    ids: npt.NDArray[np.int64], wanted: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions in ``ids`` (sorted) of those of ``wanted`` that are there, and which these are."""
    w = np.array(wanted, dtype=np.int64)
    if not len(ids) or not len(w):
        empty = np.array([], dtype=np.int64)
        return empty, empty
    at = np.minimum(np.searchsorted(ids, w), len(ids) - 1)
    found = np.flatnonzero(ids[at] == w)
    return at[found], found


def _latest(
    ids: npt.NDArray[np.int64], start: Floats, contacts: Sequence[Any], contact: Floats
) -> None:
    where, found = _places(ids, [p for p, _ in contacts])
    days = np.array([d for _, d in contacts], dtype=np.float64)[found]
    np.maximum.at(contact, where, (days - start[where]) / DAYS_PER_MONTH)


def tally(
    registry: Registry, table: str, fields: Sequence[str], by_month: bool = True
) -> dict[tuple[Any, ...], int]:
    """How many live rows of visits, scores or findings share a month and the values of ``fields``.

    Returns
    -------
    ``(month, *values)`` to a count; months are rounded, from the first operation. A million rows
    become some thousands.
    """
    d = registry.dialect
    date = {"visit": "v.visited_on", "score": "v.visited_on", "finding": "v.imaged_on"}[table]
    source = "visit" if table == "score" else table
    join = "JOIN score s ON s.visit_id = v.id AND s.deleted_at IS NULL " if table == "score" else ""
    names = ", ".join(f"{'s' if table == 'score' else 'v'}.{f}" for f in fields)
    cast = (
        "CAST((x.day - o.day) / {m} + 0.5 AS INTEGER)"
        if d == "sqlite"
        else "floor((x.day - o.day) / {m} + 0.5)::int"
    )
    month = cast.format(m=DAYS_PER_MONTH) if by_month else "0"
    what = f"{month} AS month, {', '.join(f'x.{f}' for f in fields)}"
    source_query = (
        f"FROM (SELECT v.patient_id AS pid, {day(d, date)} AS day, {names} FROM {source} v {join}"
        "WHERE v.deleted_at IS NULL) x "
        f"JOIN (SELECT patient_id, min({day(d, 'operated_on')}) AS day FROM operation "
        "WHERE deleted_at IS NULL GROUP BY patient_id) o ON o.patient_id = x.pid"
    )
    with registry.reading() as connection:
        if d == "sqlite":
            # SQLite groups by sorting all rows, which takes longer than counting them here.
            raw: Any = connection.connection.driver_connection
            return dict(Counter(raw.execute(f"SELECT {what} {source_query}")))
        groups = ", ".join(str(n + 1) for n in range(len(fields) + 1))
        rows = connection.execute(
            sa.text(f"SELECT {what}, count(*) {source_query} GROUP BY {groups}")
        ).fetchall()
    return {tuple(r[:-1]): int(r[-1]) for r in rows}
