"""The data dictionary: which tables and fields the registry has, and what each may hold."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

LINKS: Mapping[str, str] = {
    "patient": "patient_id",
    "operation": "operation_id",
    "visit": "visit_id",
}
"""Column by which a child table names its parent."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes
    ----------
    kind : code, integer, number, date, flag, pseudonym, case, digest or answers.
    choices : code and meaning, for a code.
    lower, upper : refused outside, in ``unit``.
    doubtful : reported outside, in ``unit``.
    default : text taken where nothing is given; None leaves the field empty.
    release : what the release set does with it: keep, days, band or drop.
    """

    name: str
    label: str
    kind: str
    required: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    unit: str = "1"
    lower: float | None = None
    upper: float | None = None
    doubtful: tuple[float, float] | None = None
    default: str | None = None
    release: str = "keep"

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes without their meanings."""
        return tuple(code for code, _ in self.choices)


@dataclass(frozen=True, slots=True)
class TableOf:
    """One table: its fields, the table it hangs on, and what must be unique in it."""

    name: str
    label: str
    parent: str
    unique: tuple[tuple[str, ...], ...]
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        """The field called ``name``; KeyError when there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    @property
    def link(self) -> str | None:
        """Column that names the parent's row; None for the patient."""
        return LINKS[self.parent] if self.parent else None

    @property
    def columns(self) -> tuple[str, ...]:
        """All stored columns in order."""
        link = () if self.link is None else (self.link,)
        return ("id", *link, *(f.name for f in self.fields), "deleted_at")

    @property
    def date(self) -> str | None:
        """The field that says when the row happened, if it has one."""
        return next((f.name for f in self.fields if f.kind == "date"), None)


@lru_cache(maxsize=1)
def tables() -> Mapping[str, TableOf]:
    """All tables by name, parents before children."""
    text = (resources.files(__package__) / "data" / "dictionary.toml").read_text("utf-8")
    return {t["name"]: _table(t) for t in tomllib.loads(text)["table"]}


def _table(entry: Mapping[str, Any]) -> TableOf:
    fields = []
    for f in entry["fields"]:
        values = dict(f)
        values["choices"] = tuple((str(c), str(m)) for c, m in f.get("choices", ()))
        if "doubtful" in f:
            values["doubtful"] = (float(f["doubtful"][0]), float(f["doubtful"][1]))
        fields.append(Field(**values))
    return TableOf(
        entry["name"],
        entry["label"],
        entry["parent"],
        tuple(tuple(u) for u in entry["unique"]),
        tuple(fields),
    )
