"""The mapping file: which column of somebody's table is which field of the registry."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sacroplan.registry import scores
from sacroplan.registry.dictionary import tables
from sacroplan.registry.errors import RegistryError

LINK_COLUMNS = {"pseudonym": "patient", "operated_on": "operation", "visited_on": "visit"}
"""Fields by which a row names the patient, operation or visit that it belongs to."""

_KEYS = {"table", "delimiter", "encoding", "date_format", "sheet", "columns", "values", "defaults"}

EXAMPLE = """\
table = "visit"
date_format = "%d.%m.%Y"

[columns]
"Patient" = "pseudonym"
"Kontrolle am" = "visited_on"
"Gehen" = "walking"
"VAS" = "score.vas"
"Bemerkung" = ""            # left out

[values."visit.walking"]
"frei" = "unaided"
"""


@dataclass(frozen=True)
class ColumnMap:
    """What the file's columns mean.

    Attributes
    ----------
    columns : header to ``(table, field)``; None leaves the column out. The table is ``""`` for the
        pseudonym and other links, ``"score"`` for answers.
    table : the table that bare names belong to, "" where none was named.
    values : ``(table, field)`` to the file's words and the dictionary's codes.
    defaults : ``(table, field)`` to the text taken for every row.
    """

    columns: Mapping[str, tuple[str, str] | None]
    values: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    defaults: Mapping[tuple[str, str], str] = field(default_factory=dict)
    delimiter: str = ""
    encoding: str = ""
    date_format: str = ""
    sheet: str = ""
    table: str = ""


def read(path: Path | None, table: str | None) -> dict[str, Any]:
    """The mapping file as written; with none, columns are called as the fields are."""
    out: dict[str, Any] = {}
    if path is not None:
        try:
            out = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RegistryError(f"The mapping {path} cannot be read: {error}.") from error
        unknown = sorted(set(out) - _KEYS)
        if unknown:
            raise RegistryError(f"{path}: unknown key {unknown[0]!r}; known are {sorted(_KEYS)}.")
        for key in ("columns", "values", "defaults"):
            if not isinstance(out.get(key, {}), dict):
                raise RegistryError(f"{path}: {key} must be a table.")
        for key in ("table", "delimiter", "encoding", "date_format", "sheet"):
            if not isinstance(out.get(key, ""), str):
                raise RegistryError(f"{path}: {key} must be a text.")
    if table:
        out["table"] = table
    if out.get("table") and out["table"] not in tables():
        raise RegistryError(f"There is no table {out['table']!r}; there are {', '.join(tables())}.")
    return out


def resolve(told: Mapping[str, Any], header: Sequence[str]) -> ColumnMap:
    """Meaning of every column of ``header``.

    Raises
    ------
    RegistryError : a column is not mapped, two mean the same, or no pseudonym is among them.
    """
    given = told.get("columns", {})
    missing = sorted(set(given) - set(header))
    if missing:
        raise RegistryError(
            f"The mapping names a column '{missing[0][:40]}' that the file lacks; it has: "
            f"{', '.join(h[:40] for h in header)}."
        )
    default = told.get("table", "")
    columns: dict[str, tuple[str, str] | None] = {}
    for name in header:
        target = given.get(name, name)
        if not isinstance(target, str):
            raise RegistryError(f"The mapping of column '{name[:40]}' must be a text.")
        columns[name] = target_of(target, default, name) if target else None
    used = [c for c in columns.values() if c is not None]
    twice = sorted({".".join(c).lstrip(".") for c in used if used.count(c) > 1})
    if twice:
        raise RegistryError(f'Two columns mean {twice[0]}; map one of them to "".')
    if ("", "pseudonym") not in used:
        raise RegistryError("No column is the pseudonym: every row must name its patient.")
    values: dict[tuple[str, str], Mapping[str, str]] = {}
    for key, words in told.get("values", {}).items():
        if not isinstance(words, dict) or not all(isinstance(w, str) for w in words.values()):
            raise RegistryError(f"The mapping's values of {key!r} must be pairs of texts.")
        values[_target(key, default)] = words
    defaults: dict[tuple[str, str], str] = {}
    for key, text in told.get("defaults", {}).items():
        if not isinstance(text, str):
            raise RegistryError(f"The mapping's default of {key!r} must be a text.")
        defaults[_target(key, default)] = text
    texts = {k: told.get(k, "") for k in ("delimiter", "encoding", "date_format", "sheet", "table")}
    return ColumnMap(columns, values, defaults, **texts)


def _target(key: str, default: str) -> tuple[str, str]:
    return target_of(key, default, key)


def target_of(target: str, default: str, column: str) -> tuple[str, str]:
    """``(table, field)`` of ``table.field``, or of a bare field of the ``default`` table."""
    table, dot, name = target.rpartition(".")
    if not dot:
        if name == "pseudonym":
            return "", "pseudonym"
        if name in scores.fields():
            return "score", name
        # A date of the file's own table is a field, of its parent it is a link.
        own = {f.name for f in tables()[default].fields} if default else set()
        if name in LINK_COLUMNS and name not in own:
            return "", name
        table = default
    if table == "patient" and name == "pseudonym":
        return "", "pseudonym"
    if table == "score" and name in scores.fields():
        return table, name
    spec = tables().get(table)
    if spec is None or table == "score" or name not in {f.name for f in spec.fields}:
        where = f"'{target[:60]}'"
        told = "" if target == column else f" (column '{column[:40]}')"
        raise RegistryError(
            f"{where}{told} is no field of the registry; name a table and field as visit.walking, or "
            'map the column to "" to leave it out. The fields: sacroplan registry export '
            "--dictionary."
        )
    return table, name
