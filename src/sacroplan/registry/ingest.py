"""Import of a table of somebody else: checked row by row, stored whole or not at all.

Columns are parsed through a memory of texts already seen, which makes a million rows a matter of
seconds; every rejected row is listed with its column and reason, and one of them stops the import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sacroplan.progress import Progress, silent
from sacroplan.registry import bulk, mapping, scores, sheets, values
from sacroplan.registry.database import Registry
from sacroplan.registry.dictionary import Field, TableOf, tables
from sacroplan.registry.errors import RegistryError
from sacroplan.registry.mapping import ColumnMap
from sacroplan.registry.schema import table as table_of
from sacroplan.registry.values import Refused


class Rejection(NamedTuple):
    """Why a row was not taken; the header is row 1."""

    row: int
    column: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Outcome of an import or of its rehearsal."""

    path: Path
    rows: int
    added: Mapping[str, int]
    rejections: tuple[Rejection, ...]
    remarks: tuple[Rejection, ...]
    stored: bool


@dataclass
class _Known:
    """What the registry and the rows so far hold; dates are days of the proleptic calendar."""

    patients: dict[str, int]
    operations: dict[int, dict[int, int]]
    deaths: dict[int, int]
    visits: dict[tuple[int, int], int]
    keys: dict[str, set[tuple[Any, ...]]]


@dataclass
class _State:
    known: _Known
    next_ids: dict[str, int]
    added: dict[str, int]
    rejections: list[Rejection] = field(default_factory=list)
    remarks: list[Rejection] = field(default_factory=list)
    rows: int = 0


class _Rehearsed(Exception):
    """Rolls the transaction back after a rehearsal or a rejection."""


def import_file(
    registry: Registry,
    path: Path,
    told: Mapping[str, Any],
    dry_run: bool = False,
    progress: Progress = silent,
    today: date | None = None,
) -> Report:
    """Import ``path`` in one transaction.

    Parameters
    ----------
    told : the mapping file as :func:`sacroplan.registry.mapping.read` gave it.
    dry_run : check everything, database included, and store nothing.
    today : later dates are refused; the clock's date by default.

    Raises
    ------
    RegistryError : the file or its columns cannot be understood, or the database refuses.
    """
    last = (today or date.today()).toordinal()
    size = path.stat().st_size if path.is_file() else 0
    state: _State | None = None
    stored = False
    with sheets.opened(
        path, told.get("delimiter", ""), told.get("encoding", ""), told.get("sheet", "")
    ) as sheet:
        columns = mapping.resolve(told, sheet.header)
        reader = _Reader(columns, sheet.header, last)
        try:
            with registry.writing() as connection:
                state = _State(
                    _known(connection, reader.tables),
                    {t: bulk.next_id(connection, t) for t in reader.tables},
                    dict.fromkeys(reader.tables, 0),
                )
                for start, rows in sheet.rows:
                    batches = reader.chunk(start, rows, state)
                    if not state.rejections:
                        for table, batch in batches.items():
                            bulk.insert(connection, table, reader.stored[table], batch)
                            state.added[table] += len(batch)
                    # A row of the file is about this long; the bar need not be exact.
                    done = state.rows * 8 * len(sheet.header) / max(size, 1)
                    progress(min(done, 0.99), f"{state.rows:,} rows")
                for table in reader.tables:
                    bulk.settle(connection, table)
                if dry_run or state.rejections:
                    raise _Rehearsed
            stored = True
        except _Rehearsed:
            stored = False
    if state is None:
        raise RegistryError(f"{path} could not be imported: the registry gave no connection.")
    progress(1.0, "done")
    return Report(
        path, state.rows, dict(state.added), tuple(state.rejections), tuple(state.remarks), stored
    )


def _days(values_: Any) -> int:
    return int(values_.toordinal())


def _known(connection: Connection, names: Sequence[str]) -> _Known:
    def live(name: str, *wanted: str) -> Iterator[Any]:
        t = table_of(name)
        query = sa.select(*(t.c[w] for w in wanted)).where(t.c.deleted_at.is_(None))
        return iter(connection.execute(query))

    patients = {str(p): int(i) for p, i in live("patient", "pseudonym", "id")}
    operations: dict[int, dict[int, int]] = {}
    for patient, day, i in live("operation", "patient_id", "operated_on", "id"):
        operations.setdefault(patient, {})[_days(day)] = i
    event = table_of("event")
    deaths = {
        int(p): _days(d)
        for p, d in connection.execute(
            sa.select(event.c.patient_id, event.c.occurred_on).where(
                event.c.deleted_at.is_(None), event.c.kind == "death"
            )
        )
    }
    visits: dict[tuple[int, int], int] = {}
    if {"visit", "score"} & set(names):
        visits = {(p, _days(d)): i for p, d, i in live("visit", "patient_id", "visited_on", "id")}
    keys: dict[str, set[tuple[Any, ...]]] = {}
    for name in names:
        if name not in ("patient", "operation", "visit"):
            keys[name] = {tuple(r) for r in live(name, *tables()[name].unique[0])}
    return _Known(patients, operations, deaths, visits, keys)


class _Reader:
    """Turns chunks of text into rows of tables."""

    def __init__(self, columns: ColumnMap, header: Sequence[str], last: int) -> None:
        self.columns = columns
        self.header = header
        self.last = last
        used = {c[0] for c in columns.columns.values() if c is not None} - {""}
        used |= {t for t, _ in columns.defaults}
        # A file that names nothing but the pseudonym is a list of patients, unless told otherwise.
        self.tables = tuple(t for t in tables() if t in (used or {columns.table or "patient"}))
        self.at = {c: n for n, c in enumerate(columns.columns[h] for h in header) if c}
        self.parsers = {
            target: _Column(field_, columns, target) for target, field_ in self._fields()
        }
        self.plans = tuple(_plan(tables()[t]) for t in self.tables if t != "score")
        self.stored = {t: _stored(tables()[t]) for t in self.tables}
        self.answers = {
            i: [self.at.get(("score", f)) for f in i.fields]
            for i in scores.INSTRUMENTS.values()
            if any(("score", f) in self.at for f in i.fields)
        }
        for t in self.tables:
            spec = tables()[t]
            for f in spec.fields:
                known = (t, f.name) in self.parsers or f.default is not None or t == "score"
                if f.required and not known and f.kind != "pseudonym":
                    raise RegistryError(
                        f"No column gives {t}.{f.name}, which {t} cannot be without."
                    )
        if (
            "score" in self.tables
            and "visit" not in self.tables
            and ("", "visited_on") not in self.at
        ):
            raise RegistryError("No column gives visited_on: a score belongs to a visit.")

    def _fields(self) -> Iterator[tuple[tuple[str, str], Field]]:
        links = {
            ("", "pseudonym"): tables()["patient"].field("pseudonym"),
            ("", "operated_on"): tables()["operation"].field("operated_on"),
            ("", "visited_on"): tables()["visit"].field("visited_on"),
        }
        for target in (*self.at, *self.columns.defaults):
            if target in links:
                yield target, links[target]
            elif target[0] != "score":
                yield target, tables()[target[0]].field(target[1])

    def chunk(self, start: int, rows: list[list[str]], state: _State) -> dict[str, list[bulk.Row]]:
        """Rows to insert, by table; what is wrong is added to ``state``."""
        width = len(self.header)
        numbers, good = [], []
        for n, row in enumerate(rows, start):
            if not any(cell.strip() for cell in row):
                continue
            state.rows += 1
            if len(row) != width:
                state.rejections.append(
                    Rejection(n, "", f"has {len(row)} cells, the header has {width}")
                )
            else:
                numbers.append(n)
                good.append(row)
        if not good:
            return {}
        by_column = list(zip(*good, strict=True))
        bad: set[int] = set()
        parsed: dict[tuple[str, str], list[Any]] = {}
        for target, column in self.parsers.items():
            n_column = self.at.get(target)
            cells = [""] * len(good) if n_column is None else by_column[n_column]
            parsed[target] = column.read(cells)
            for k in column.refused(parsed[target]):
                bad.add(k)
                name = self.header[n_column] if n_column is not None else ".".join(target)
                state.rejections.append(Rejection(numbers[k], name, parsed[target][k]))
            for k, remark in column.remarked(parsed[target]):
                name = self.header[n_column] if n_column is not None else ".".join(target)
                state.remarks.append(Rejection(numbers[k], name, remark))
        out: dict[str, list[bulk.Row]] = {t: [] for t in self.tables}
        pseudonyms = parsed["", "pseudonym"]
        score_cells = self._scores(by_column, numbers, bad, state)
        lists = {
            t: [parsed.get((t, f.name)) for f in tables()[t].fields]
            for t in self.tables
            if t != "score"
        }
        link_op = parsed.get(("", "operated_on"))
        link_visit = parsed.get(("", "visited_on"))
        for k, number in enumerate(numbers):
            if k in bad:
                continue
            problem = self._row(
                k, pseudonyms[k], lists, link_op, link_visit, score_cells, state, out
            )
            if problem is not None:
                state.rejections.append(Rejection(number, *problem))
        state.rejections.sort()
        return out

    def _row(
        self,
        k: int,
        name: str,
        lists: Mapping[str, Sequence[Sequence[Any] | None]],
        link_op: Sequence[Any] | None,
        link_visit: Sequence[Any] | None,
        answers: Sequence[tuple[scores.Instrument, Sequence[scores.Score | None]]],
        state: _State,
        out: dict[str, list[bulk.Row]],
    ) -> tuple[str, str] | None:
        """Add one row of the file to ``out``; the column and reason when it cannot be taken."""
        known = state.known
        patient = known.patients.get(name)
        new = "patient" in self.tables
        if new and patient is not None:
            return "pseudonym", "is in the registry or in the file already"
        if not new and patient is None:
            return "pseudonym", "is not in the registry: import the patients first"
        ready: list[tuple[str, bulk.Row]] = []
        keys: list[tuple[str, tuple[Any, ...]]] = []
        if patient is None:
            patient = state.next_ids["patient"]
        operation: int | None = None
        own = known.operations.get(patient, {})
        if link_op is not None and link_op[k] is not None:
            operation = own.get(_days(link_op[k]))
            if operation is None:
                return "operated_on", "names no operation of this patient"
        elif len(own) == 1:
            operation = next(iter(own.values()))
        first = min(own) if own else None
        death = known.deaths.get(patient)
        visit: int | None = None
        if link_visit is not None and link_visit[k] is not None:
            visit = known.visits.get((patient, _days(link_visit[k])))
            if visit is None:
                return "visited_on", "names no visit of this patient"
        for plan in self.plans:
            table = plan.table
            cells = [None if c is None else c[k] for c in lists[table]]
            if table != "patient" and all(cells[n] is None for n in plan.own):
                continue
            for n in plan.required:
                if cells[n] is None:
                    return plan.names[n], "is required and empty"
            for n, default in plan.defaults:
                if cells[n] is None:
                    cells[n] = default
            i = state.next_ids[table]
            if table == "patient":
                cells[0] = name
                ready.append((table, (i, *cells)))
                continue
            at = 0
            day = None if plan.date is None else cells[plan.date]
            if plan.date is not None and day is not None:
                at = day.toordinal()
                if at > self.last:
                    return plan.names[plan.date], "lies in the future"
                if table != "operation" and first is not None and at < first:
                    return plan.names[plan.date], "is before the operation"
                if death is not None and at > death:
                    return plan.names[plan.date], "is after the patient's death"
            link = patient if plan.parent == "patient" else operation
            if link is None:
                which = (
                    "has no operation" if not own else "has several operations: name operated_on"
                )
                return "operated_on", f"the patient {which}, to which {table} belongs"
            row = (i, link, *cells)
            if table == "operation":
                if at in own:
                    return "operated_on", "the patient has an operation of that day already"
                operation, first = i, at if first is None else min(first, at)
                own = {**own, at: i}
            elif table == "visit":
                if (patient, at) in known.visits:
                    return "visited_on", "the patient has a visit of that day already"
                visit = i
            else:
                key = tuple(row[n] for n in plan.key)
                if key in known.keys[table]:
                    what = ", ".join(c for c in plan.unique if not c.endswith("_id"))
                    return what, f"the same {table} is there already"
                keys.append((table, key))
                if table == "event" and cells[0] == "death":
                    if death is not None:
                        return "kind", "the patient has died already"
                    death = at
            ready.append((table, row))
        scored: list[str] = []
        if "score" in self.tables:
            for instrument, made in answers:
                score = made[k]
                if score is None:
                    continue
                if visit is None:
                    return instrument.fields[0], "there is no visit to which the score belongs"
                key = (visit, instrument.name)
                if key in known.keys["score"]:
                    return instrument.fields[0], f"the visit has {instrument.title} already"
                keys.append(("score", key))
                i = state.next_ids["score"] + len(scored)
                scored.append(instrument.name)
                ready.append(
                    (
                        "score",
                        (i, visit, instrument.name, score.answers, score.answered, score.value),
                    )
                )
        if not ready:
            return "", "holds nothing but a pseudonym"
        self._remember(name, patient, ready, keys, state, out)
        if death is not None:
            known.deaths[patient] = death
        return None

    def _remember(
        self,
        name: str,
        patient: int,
        ready: Sequence[tuple[str, bulk.Row]],
        keys: Sequence[tuple[str, tuple[Any, ...]]],
        state: _State,
        out: dict[str, list[bulk.Row]],
    ) -> None:
        known = state.known
        known.patients.setdefault(name, patient)
        for table, key in keys:
            known.keys[table].add(key)
        for table, row in ready:
            out[table].append(row)
            state.next_ids[table] += 1
            if table == "operation":
                known.operations.setdefault(patient, {})[_days(row[2])] = row[0]
            elif table == "visit":
                known.visits[patient, _days(row[2])] = row[0]

    def _scores(
        self,
        by_column: Sequence[Sequence[str]],
        numbers: Sequence[int],
        bad: set[int],
        state: _State,
    ) -> list[tuple[scores.Instrument, list[scores.Score | None]]]:
        out = []
        for instrument, where in self.answers.items():
            empty = ("",) * len(numbers)
            cells = zip(*(empty if w is None else by_column[w] for w in where), strict=True)
            memory: dict[tuple[str, ...], scores.Score | tuple[int, str] | None] = {}
            made: list[scores.Score | None] = []
            for k, texts in enumerate(cells):
                if texts not in memory:
                    memory[texts] = _scored(instrument, texts)
                found = memory[texts]
                if isinstance(found, tuple):
                    bad.add(k)
                    column = where[found[0]]
                    name = "" if column is None else self.header[column]
                    state.rejections.append(Rejection(numbers[k], name, found[1]))
                    found = None
                made.append(found)
            out.append((instrument, made))
        return out


def _scored(
    instrument: scores.Instrument, texts: Sequence[str]
) -> scores.Score | tuple[int, str] | None:
    """The score, None when nothing was answered, or the position and reason of a refusal."""
    answers: list[float | None] = []
    for n, text in enumerate(texts):
        told = text.strip()
        try:
            answers.append(scores.answer(instrument, "" if told.lower() in values.EMPTY else told))
        except RegistryError as error:
            return n, str(error)
    return scores.score(instrument, answers) if any(a is not None for a in answers) else None


def _stored(spec: TableOf) -> tuple[str, ...]:
    """Columns in which an import writes, in the order of the rows it makes."""
    return spec.columns[:-1]


@dataclass(frozen=True)
class _Plan:
    """What must be known of a table for every row, worked out once; positions are of its fields."""

    table: str
    parent: str
    names: tuple[str, ...]
    own: tuple[int, ...]
    required: tuple[int, ...]
    defaults: tuple[tuple[int, Any], ...]
    date: int | None
    unique: tuple[str, ...]
    key: tuple[int, ...]


def _plan(spec: TableOf) -> _Plan:
    fields = list(enumerate(spec.fields))
    stored = _stored(spec)
    return _Plan(
        spec.name,
        spec.parent,
        tuple(f.name for f in spec.fields),
        tuple(n for n, f in fields if f.default is None),
        tuple(n for n, f in fields if f.required and f.default is None and f.kind != "pseudonym"),
        tuple((n, values.parse(f, f.default)) for n, f in fields if f.default is not None),
        next((n for n, f in fields if f.kind == "date"), None),
        spec.unique[0],
        tuple(stored.index(c) for c in spec.unique[0]),
    )


class _Column:
    """Parses the cells of one column, each different text once."""

    def __init__(self, field_: Field, columns: ColumnMap, target: tuple[str, str]) -> None:
        # What a table requires is asked only of rows that touch it: see :meth:`_Reader._row`.
        self.field = replace(field_, required=field_.kind == "pseudonym")
        self.date_format = columns.date_format
        self.words = columns.values.get(target, {})
        self.default = columns.defaults.get(target, field_.default)
        self.memory: dict[str, Any] = {}

    def read(self, cells: Sequence[str]) -> list[Any]:
        """Values of the cells; a :class:`Refused` where a cell cannot be taken."""
        memory = self.memory
        for text in set(cells).difference(memory):
            told = text if text.strip() or self.default is None else self.default
            memory[text] = values.parse(self.field, told, self.date_format, self.words)
        return [memory[c] for c in cells]

    def refused(self, parsed: Sequence[Any]) -> list[int]:
        """Positions of refused cells."""
        if not any(type(v) is Refused for v in self.memory.values()):
            return []
        return [k for k, v in enumerate(parsed) if type(v) is Refused]

    def remarked(self, parsed: Sequence[Any]) -> Iterator[tuple[int, str]]:
        """Positions of values that are believed, but unusual, and what is unusual about them."""
        if self.field.doubtful is None:
            return
        low, high = self.field.doubtful
        unit = "" if self.field.unit == "1" else f" {self.field.unit}"
        for k, v in enumerate(parsed):
            if v is not None and not isinstance(v, str) and not low <= v <= high:
                yield k, f"{v:g}{unit} is unusual (expected {low:g} to {high:g}{unit})"
