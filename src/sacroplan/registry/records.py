"""One row at a time: add, change, mark as deleted, show with its history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sacroplan.registry import pseudonym, scores, values
from sacroplan.registry.database import Registry
from sacroplan.registry.dictionary import TableOf, tables
from sacroplan.registry.errors import RegistryError
from sacroplan.registry.schema import table as table_of
from sacroplan.registry.values import Refused


def spec_of(table: str) -> TableOf:
    """The table's description; raises :class:`RegistryError` naming the tables there are."""
    found = tables().get(table)
    if found is None:
        raise RegistryError(f"There is no table {table!r}; there are {', '.join(tables())}.")
    return found


def parsed(spec: TableOf, told: Mapping[str, str], new: bool) -> dict[str, Any]:
    """Values of the texts in ``told``; raises :class:`RegistryError` naming the field."""
    names = {f.name for f in spec.fields}
    for key in told:
        if key not in names:
            raise RegistryError(
                f"{spec.name} has no field {key!r}; it has {', '.join(sorted(names))}."
            )
    out: dict[str, Any] = {}
    for field in spec.fields:
        if not new and field.name not in told:
            continue
        text = told.get(field.name, field.default if new and field.default is not None else "")
        value = values.parse(field, text)
        if isinstance(value, Refused):
            raise RegistryError(f"{spec.name}.{field.name} {value}.")
        out[field.name] = value
    return out


def add(registry: Registry, table: str, name: str, told: Mapping[str, str]) -> tuple[int, str]:
    """Add one row for the patient ``name``; returns its id and the pseudonym.

    ``told`` holds texts by field. ``name`` "auto" gives a new patient the next free pseudonym with the
    prefix of the latest one. Scores take the answers by name (``vas``, ``msts93_pain`` ...) and
    ``visited_on``; constructs and complications take ``operated_on`` where there are several.
    """
    spec = spec_of(table)
    rest = dict(told)
    with registry.writing() as connection:
        if table == "patient":
            given = next_pseudonym(connection) if name == "auto" else pseudonym.checked(name)
            values_ = parsed(spec, {**rest, "pseudonym": given}, new=True)
            return _insert(connection, table, values_), given
        link, parent = _parent(connection, spec, name, rest)
        if table == "score":
            return _add_scores(connection, parent, rest), name
        values_ = parsed(spec, rest, new=True)
        _in_order(connection, spec, name, values_)
        return _insert(connection, table, {link: parent, **values_}), name


def add_all(
    registry: Registry, table: str, name: str, rows: Sequence[Mapping[str, str]]
) -> list[int]:
    """Add several rows of a patient's own table in one transaction: all or none."""
    spec = spec_of(table)
    with registry.writing() as connection:
        patient = patient_id(connection, name)
        ids = []
        for told in rows:
            values_ = parsed(spec, told, new=True)
            _in_order(connection, spec, name, values_)
            ids.append(_insert(connection, table, {"patient_id": patient, **values_}))
        return ids


def next_pseudonym(connection: Connection) -> str:
    """The next running number of five or seven digits."""
    patient = table_of("patient")
    last = connection.execute(
        sa.select(patient.c.pseudonym).order_by(patient.c.id.desc()).limit(1)
    ).scalar()
    prefix, _, digits = str(last or "P-0").partition("-")
    number = int(digits) + 1
    taken = set(
        connection.execute(
            sa.select(patient.c.pseudonym).where(patient.c.pseudonym.like(f"{prefix}-%"))
        ).scalars()
    )
    while True:
        width = 5 if number < 100_000 else 7
        candidate = f"{prefix}-{number:0{width}d}"
        if candidate not in taken:
            return pseudonym.checked(candidate)
        number += 1


def _insert(connection: Connection, table: str, values_: Mapping[str, Any]) -> int:
    t = table_of(table)
    return int(connection.execute(sa.insert(t).values(**values_).returning(t.c.id)).scalar_one())


def patient_id(connection: Connection, name: str) -> int:
    """Id of the live patient ``name``; raises :class:`RegistryError` when there is none."""
    t = table_of("patient")
    found = connection.execute(
        sa.select(t.c.id).where(t.c.pseudonym == name, t.c.deleted_at.is_(None))
    ).scalar()
    if found is None:
        shown = name if pseudonym.PATTERN.fullmatch(name) else pseudonym.shown(name)
        raise RegistryError(f"There is no patient {shown}; sacroplan registry list shows all.")
    return int(found)


def _parent(
    connection: Connection, spec: TableOf, name: str, rest: dict[str, str]
) -> tuple[str, int]:
    """Column and id of the row on which a new one hangs; takes its date out of ``rest``."""
    patient = patient_id(connection, name)
    if spec.parent == "patient":
        return "patient_id", patient
    parent = tables()[spec.parent]
    date_field = parent.field(str(parent.date))
    t = table_of(parent.name)
    query = sa.select(t.c.id, t.c[date_field.name]).where(
        t.c.patient_id == patient, t.c.deleted_at.is_(None)
    )
    rows = connection.execute(query).fetchall()
    text = rest.pop(date_field.name, "")
    if text:
        day = values.parse(date_field, text)
        if isinstance(day, Refused):
            raise RegistryError(f"{date_field.name} {day}.")
        rows = [r for r in rows if r[1] == day]
    if len(rows) != 1:
        count = "no" if not rows else str(len(rows))
        raise RegistryError(
            f"{name} has {count} {parent.name} that could be meant; name it with {date_field.name}=DATE."
        )
    return str(spec.link), int(rows[0][0])


def _add_scores(connection: Connection, visit: int, told: Mapping[str, str]) -> int:
    known = scores.fields()
    unknown = sorted(set(told) - set(known))
    if unknown:
        raise RegistryError(
            f"{unknown[0]!r} is no answer of an instrument; known are {', '.join(known)}."
        )
    last = 0
    for instrument in scores.INSTRUMENTS.values():
        texts = [told.get(f, "") for f in instrument.fields]
        if not any(texts):
            continue
        answers = []
        for field, text in zip(instrument.fields, texts, strict=True):
            try:
                answers.append(scores.answer(instrument, text))
            except RegistryError as error:
                raise RegistryError(f"{field}: {error}.") from error
        made = scores.score(instrument, answers)
        last = _insert(
            connection,
            "score",
            {"visit_id": visit, "instrument": made.instrument, "answers": made.answers,
             "answered": made.answered, "value": made.value},
        )  # fmt: skip
    if not last:
        raise RegistryError("No answer was given; name them as vas=2 or msts93_pain=5.")
    return last


def _in_order(connection: Connection, spec: TableOf, name: str, values_: Mapping[str, Any]) -> None:
    """Refuse what would lie before the first operation, after death or in the future."""
    day = values_.get(str(spec.date))
    if day is None:
        return
    if day > datetime.now(UTC).date():
        raise RegistryError(f"{spec.date} {day} lies in the future.")
    patient = patient_id(connection, name)
    event, operation = table_of("event"), table_of("operation")
    death = connection.execute(
        sa.select(event.c.occurred_on).where(
            event.c.patient_id == patient, event.c.kind == "death", event.c.deleted_at.is_(None)
        )
    ).scalar()
    if death is not None and day > death:
        raise RegistryError(f"{spec.date} {day} is after the patient's death on {death}.")
    first = connection.execute(
        sa.select(sa.func.min(operation.c.operated_on)).where(
            operation.c.patient_id == patient, operation.c.deleted_at.is_(None)
        )
    ).scalar()
    if spec.name != "operation" and first is not None and day < first:
        raise RegistryError(f"{spec.date} {day} is before the operation on {first}.")


def edit(registry: Registry, table: str, row_id: int, told: Mapping[str, str]) -> None:
    """Change the fields in ``told`` of one row; all others stay as somebody else may have set them."""
    spec = spec_of(table)
    if table == "score":
        raise RegistryError("A score follows from its answers: delete it and add it anew.")
    if not told:
        raise RegistryError("Nothing to change was named; name fields as margin=wide.")
    values_ = parsed(spec, told, new=False)
    t = table_of(table)
    with registry.writing() as connection:
        done = connection.execute(
            sa.update(t).where(t.c.id == row_id, t.c.deleted_at.is_(None)).values(**values_)
        )
        if done.rowcount != 1:
            raise RegistryError(f"{table} has no row {row_id}.")


def remove(registry: Registry, table: str, row_id: int) -> None:
    """Mark one row as deleted, and what hangs on it; the rows and their history stay."""
    spec_of(table)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with registry.writing() as connection:
        ids = [row_id]
        if not _mark(connection, table, table_of(table).c.id, ids, now):
            raise RegistryError(f"{table} has no row {row_id}.")
        _remove_children(connection, table, ids, now)


def _mark(
    connection: Connection, table: str, column: sa.Column[Any], ids: list[int], now: str
) -> list[int]:
    t = table_of(table)
    found = connection.execute(
        sa.select(t.c.id).where(column.in_(ids), t.c.deleted_at.is_(None))
    ).scalars()
    live = [int(i) for i in found]
    if live:
        connection.execute(sa.update(t).where(t.c.id.in_(live)).values(deleted_at=now))
    return live


def _remove_children(connection: Connection, table: str, ids: list[int], now: str) -> None:
    for child in tables().values():
        if child.parent == table and ids:
            t = table_of(child.name)
            marked = _mark(connection, child.name, t.c[str(child.link)], ids, now)
            _remove_children(connection, child.name, marked, now)


def show(registry: Registry, name: str) -> dict[str, Any]:
    """Everything that is known of one patient, by table."""
    out: dict[str, Any] = {"pseudonym": name}
    with registry.reading() as connection:
        ids = {"patient": [patient_id(connection, name)]}
        for spec in tables().values():
            t = table_of(spec.name)
            column = t.c.id if spec.link is None else t.c[spec.link]
            query = sa.select(t).where(column.in_(ids[spec.parent or "patient"]))
            query = query.where(t.c.deleted_at.is_(None)).order_by(t.c.id)
            rows = connection.execute(query).mappings().all()
            ids[spec.name] = [int(r["id"]) for r in rows]
            out[spec.name] = [
                {
                    k: str(v) if hasattr(v, "isoformat") else v
                    for k, v in r.items()
                    if k != "deleted_at"
                }
                for r in rows
            ]
    return out


def history(registry: Registry, table: str, row_id: int) -> list[dict[str, Any]]:
    """Every change of one row: who, when, before, after."""
    spec_of(table)
    t = table_of("audit")
    with registry.reading() as connection:
        query = sa.select(t).where(t.c.table_name == table, t.c.row_id == row_id).order_by(t.c.id)
        return [
            {
                "who": r.who,
                "when": r.changed_at,
                "before": None if r.before is None else json.loads(r.before),
                "after": json.loads(r.after),
            }
            for r in connection.execute(query)
        ]


def link_case(folder: Path) -> dict[str, str]:
    """``case_id`` and ``case_digest`` of a planned case; raises where it was never run."""
    from sacroplan.case.config import read_config
    from sacroplan.case.stage import hash_file

    file = folder / "provenance.json"
    case = read_config(folder).case.id
    if not file.is_file():
        raise RegistryError(f"{folder} has no provenance.json: run sacroplan run {folder} first.")
    why = pseudonym.why_no_case(case)
    if why:
        raise RegistryError(f"The id of the case in {folder} {why}.")
    return {"case_id": case, "case_digest": hash_file(file)}
