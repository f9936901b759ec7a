"""Out of the registry: tables that can be imported again, a release set, and the data dictionary."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sacroplan import evidence
from sacroplan.banner import BANNER
from sacroplan.formats.atomic import replaced_folder, write_text
from sacroplan.registry import scores
from sacroplan.registry.database import Registry
from sacroplan.registry.dictionary import Field, TableOf, tables
from sacroplan.registry.schema import table as table_of

WITHHELD = "withheld"
"""Stands where a value is shared by too few to be told."""

UNKNOWN = ""


def _parents(spec: TableOf) -> list[TableOf]:
    """The tables above, from the patient down."""
    out: list[TableOf] = []
    while spec.parent:
        spec = tables()[spec.parent]
        out.insert(0, spec)
    return out


def _query(spec: TableOf) -> sa.Select[Any]:
    """Live rows with the pseudonym, the date of the parent and the table's own fields."""
    t = table_of(spec.name)
    chain = [p for p in _parents(spec) if p.name != "patient"]
    patient = table_of("patient")
    columns: list[sa.ColumnElement[Any]] = [patient.c.pseudonym]
    for parent in chain:
        columns.append(table_of(parent.name).c[str(parent.date)])
    columns += [t.c[f.name] for f in spec.fields if f.kind != "pseudonym"]
    query = sa.select(*columns).select_from(t)
    live = [t.c.deleted_at.is_(None)]
    here, link = t, spec.link
    for parent in [*chain[::-1], *([tables()["patient"]] if spec.parent else [])]:
        above = table_of(parent.name)
        query = query.join(above, above.c.id == here.c[str(link)])
        live.append(above.c.deleted_at.is_(None))
        here, link = above, parent.link
    return query.where(*live).order_by(patient.c.pseudonym, *columns[1 : 2 + len(chain)])


def _header(spec: TableOf) -> list[str]:
    links = [str(p.date) for p in _parents(spec) if p.name != "patient"]
    if spec.name == "score":
        return ["pseudonym", *links, *scores.fields()]
    fields = [f"{spec.name}.{f.name}" for f in spec.fields if f.kind != "pseudonym"]
    return ["pseudonym", *links, *fields]


def export_csv(registry: Registry, folder: Path) -> dict[str, int]:
    """Every table as CSV that ``registry import`` takes as it is; returns the numbers of rows.

    The files hold pseudonyms and dates: they are for the centre itself, not for publication.
    """
    counts: dict[str, int] = {}
    with replaced_folder(folder) as building, registry.reading() as connection:
        for spec in tables().values():
            rows: Iterable[Sequence[Any]] = connection.execution_options(yield_per=20_000).execute(
                _query(spec)
            )
            if spec.name == "score":
                rows = _wide(rows)
            counts[spec.name] = _write(building / f"{spec.name}.csv", _header(spec), rows)
    return counts


def _wide(rows: Iterable[Sequence[Any]]) -> Iterator[list[Any]]:
    """One row per visit with every instrument's answers in their own columns."""
    known = scores.fields()
    places = {name: n for n, name in enumerate(known)}
    key: tuple[Any, ...] = ()
    line: list[Any] = []
    for name, day, instrument, answers, *_ in rows:
        if (name, day) != key:
            if line:
                yield line
            key, line = (name, day), [name, day, *[""] * len(known)]
        fields = scores.INSTRUMENTS[instrument].fields
        for field, text in zip(fields, answers.split(","), strict=True):
            line[2 + places[field]] = text
    if line:
        yield line


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(header)
        for row in rows:
            out.writerow(["" if v is None else v for v in row])
            count += 1
    return count


def export_release(registry: Registry, folder: Path) -> dict[str, int]:
    """A set without pseudonyms, dates, case ids and small cells [SP-REG-10]; numbers of rows by table.

    Dates become days from the first operation, ages five-year bands. Patients get new numbers in the
    order of what is told of them, which says nothing of the order of their pseudonyms. Events of
    patients without an operation are left out: their dates have no origin.
    """
    with registry.reading() as connection:
        found = {
            spec.name: [tuple(r) for r in connection.execute(_query(spec))]
            for spec in tables().values()
        }
    operation = tables()["operation"]
    first: dict[str, date] = {}
    for row in found["operation"]:
        day = row[1 + [f.name for f in operation.fields].index("operated_on")]
        first[row[0]] = min(day, first.get(row[0], day))
    static = _static(found, first)
    masked = _masked(static)
    order = sorted(static, key=lambda name: (masked[name], name))
    number = {name: f"R{n:06d}" for n, name in enumerate(order, 1)}
    counts: dict[str, int] = {}
    with replaced_folder(folder) as building:
        write_text(building / "README.txt", _readme())
        names = [n for n, _ in _static_fields()]
        rows: list[Sequence[Any]] = [(number[n], *masked[n]) for n in order]
        counts["patients"] = _write(building / "patients.csv", ["patient", *names], rows)
        for spec in tables().values():
            if spec.name in ("patient", "tumour", "operation"):
                continue
            header, rows = _released(spec, found[spec.name], first, number)
            counts[spec.name] = _write(building / f"{spec.name}.csv", header, rows)
    return counts


def _static_fields() -> list[tuple[str, Field]]:
    """What is told once of a patient: fields of patient, tumour and first operation."""
    return [
        (f"{t}.{f.name}", f)
        for t in ("patient", "tumour", "operation")
        for f in tables()[t].fields
        if f.release in ("keep", "band")
    ]


def _static(
    found: Mapping[str, Sequence[tuple[Any, ...]]], first: Mapping[str, date]
) -> dict[str, list[str]]:
    by: dict[str, dict[str, Any]] = {name: {} for name in first}
    for table in ("patient", "tumour", "operation"):
        fields = [f for f in tables()[table].fields if f.kind != "pseudonym"]
        for row in found[table]:
            values = {f"{table}.{f.name}": v for f, v in zip(fields, row[1:], strict=True)}
            later = table == "operation" and values["operation.operated_on"] != first.get(row[0])
            if row[0] in by and not later:
                by[row[0]].update(values)
    return {
        name: [_plain(f, values.get(key)) for key, f in _static_fields()]
        for name, values in by.items()
    }


def _plain(field: Field, value: Any) -> str:
    if value is None:
        return UNKNOWN
    if field.release == "band":
        width = int(evidence.value("SP-REG-10", "age_band"))
        low = int(value // width) * width
        return f"{low} to {low + width - 1}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _masked(static: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The same with rare codes withheld, and sex, age and diagnosis shared by enough patients."""
    least = int(evidence.value("SP-REG-10", "least"))
    fields = _static_fields()
    out = {name: list(values) for name, values in static.items()}
    for n, (_, field) in enumerate(fields):
        if field.kind in ("code", "flag") or field.release == "band":
            counts = Counter(v[n] for v in out.values())
            for values in out.values():
                if counts[values[n]] < least:
                    values[n] = WITHHELD
    keys = [key for key, _ in fields]
    who = [keys.index(k) for k in ("patient.sex", "operation.age_years", "tumour.diagnosis")]

    def shared() -> Counter[tuple[str, ...]]:
        return Counter(tuple(v[k] for k in who) for v in out.values())

    # The diagnosis goes first, then the age, then the sex, only where a combination is too rare.
    for level in (2, 1, 0):
        combined = shared()
        for values in out.values():
            if combined[tuple(values[k] for k in who)] < least:
                values[who[level]] = WITHHELD
    # Those still alone after all three would stand out: the next smallest group joins them.
    combined = shared()
    while any(c < least for c in combined.values()) and len(combined) > 1:
        rare = {key for key, c in combined.items() if c < least}
        rest = sorted((c, key) for key, c in combined.items() if key not in rare)
        rare |= {key for _, key in rest[:1]}
        for values in out.values():
            if tuple(values[k] for k in who) in rare:
                for k in who:
                    values[k] = WITHHELD
        combined = shared()
    return out


def _released(
    spec: TableOf,
    rows: Sequence[tuple[Any, ...]],
    first: Mapping[str, date],
    number: Mapping[str, str],
) -> tuple[list[str], list[Sequence[Any]]]:
    links = [str(p.date) for p in _parents(spec) if p.name != "patient"]
    fields = [f for f in spec.fields if f.release != "drop"]
    at = {f.name: n for n, f in enumerate(spec.fields)}
    header = ["patient"]
    header += [link.replace("_on", "_day") for link in links]
    header += [f.name.replace("_on", "_day") if f.kind == "date" else f.name for f in fields]
    out: list[Sequence[Any]] = []
    for row in rows:
        name = row[0]
        if name not in number:
            continue
        start = first[name]
        line: list[Any] = [number[name]]
        line += [(day - start).days for day in row[1 : 1 + len(links)]]
        for f in fields:
            value = row[1 + len(links) + at[f.name]]
            dated = f.kind == "date" and value is not None
            line.append((value - start).days if dated else value)
        out.append(line)
    return header, sorted(out, key=lambda line: [str(v) for v in line])


def _readme() -> str:
    least = int(evidence.value("SP-REG-10", "least"))
    return (
        f"{BANNER}\n\n"
        "Release set of a registry of sacral resections. Days are counted from the first operation.\n"
        f"'{WITHHELD}': shared by fewer than {least} patients [SP-REG-10]. Empty: unknown.\n"
        "Whoever publishes this set must still judge whether it can be told whose data it holds.\n"
    )


REDCAP_HEADER = (
    "Variable / Field Name", "Form Name", "Section Header", "Field Type", "Field Label",
    "Choices, Calculations, OR Slider Labels", "Field Note",
    "Text Validation Type OR Show Slider Number", "Text Validation Min", "Text Validation Max",
    "Identifier?", "Branching Logic (Show field only if...)", "Required Field?",
)  # fmt: skip
"""The columns of a REDCap data dictionary that are used; REDCap fills in the rest."""


def dictionary_csv() -> str:
    """The data dictionary in REDCap's CSV format."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(REDCAP_HEADER)
    for spec in tables().values():
        fields = [f for f in spec.fields if spec.name != "score"]
        for f in fields:
            kind, choices, check = _redcap(f)
            note = "" if f.unit == "1" else f.unit
            limits = ["" if v is None else f"{v:g}" for v in (f.lower, f.upper)]
            name = f.name if f.kind == "pseudonym" else f"{spec.name}_{f.name}"
            out.writerow(
                (name, spec.name, "", kind, f.label, choices, note, check, *limits, "", "",
                 "y" if f.required else "")
            )  # fmt: skip
        if spec.name == "score":
            for name, (instrument, _) in scores.fields().items():
                low, high = instrument.span
                check = "number" if instrument.decimals else "integer"
                label = f"{instrument.title}: {name.removeprefix(instrument.name + '_')}"
                out.writerow(
                    (name, "score", "", "text", label, "", "", check, f"{low:g}", f"{high:g}", "",
                     "", "")
                )  # fmt: skip
    return text.getvalue()


def _redcap(field: Field) -> tuple[str, str, str]:
    if field.kind == "code":
        return "radio", " | ".join(f"{c}, {m}" for c, m in field.choices), ""
    if field.kind == "flag":
        return "yesno", "", ""
    checks = {"integer": "integer", "number": "number", "date": "date_ymd"}
    return "text", "", checks.get(field.kind, "")
