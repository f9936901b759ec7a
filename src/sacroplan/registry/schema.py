"""The tables as SQLAlchemy knows them, made from the data dictionary, constraints included."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from sacroplan.registry.dictionary import Field, TableOf, tables

TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "code": sa.String(40),
    "integer": sa.Integer(),
    "number": sa.Float(),
    "date": sa.Date(),
    "flag": sa.SmallInteger(),
    "pseudonym": sa.String(16),
    "case": sa.String(40),
    "digest": sa.String(64),
    "answers": sa.String(120),
}
"""Column types; a flag is 0, 1 or empty, alike in both databases."""

SCALES = {"vas": 10, "msts93": 30, "odi": 100, "tess": 100}
"""Upper end of every instrument that yields a number; the lower end is 0."""


@lru_cache(maxsize=1)
def metadata() -> sa.MetaData:
    """All tables of the registry at its present version."""
    out = sa.MetaData()
    for table in tables().values():
        _table(table, out)
    sa.Table(
        "audit",
        out,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("changed_at", sa.String(20), nullable=False),
        sa.Column("who", sa.String(80), nullable=False),
        sa.Column("table_name", sa.String(20), nullable=False),
        sa.Column("row_id", sa.Integer(), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text(), nullable=False),
    )
    sa.Table(
        "actor",
        out,
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("who", sa.String(80)),
        sa.CheckConstraint("id = 1", name="actor_single"),
    )
    return out


def table(name: str) -> sa.Table:
    """The table called ``name``."""
    return metadata().tables[name]


def _table(spec: TableOf, out: sa.MetaData) -> None:
    columns: list[sa.Column[Any]] = [sa.Column("id", sa.Integer(), primary_key=True)]
    if spec.link is not None:
        columns.append(
            sa.Column(
                spec.link,
                sa.Integer(),
                sa.ForeignKey(f"{spec.parent}.id", name=f"{spec.name}_{spec.parent}"),
                nullable=False,
            )
        )
    checks: list[sa.schema.SchemaItem] = []
    for field in spec.fields:
        columns.append(sa.Column(field.name, TYPES[field.kind], nullable=not field.required))
        checks += [
            sa.CheckConstraint(rule, name=f"{spec.name}_{field.name}") for rule in rules(field)
        ]
    columns.append(sa.Column("deleted_at", sa.String(20)))
    checks += [
        sa.CheckConstraint(rule, name=f"{spec.name}_{name}")
        for name, rule in across(spec.name).items()
    ]
    made = sa.Table(spec.name, out, *columns, *checks)
    for unique in spec.unique:
        # A deleted row does not stand in the way of the right one.
        live = sa.text("deleted_at IS NULL")
        sa.Index(
            f"{spec.name}_unique",
            *(made.c[c] for c in unique),
            unique=True,
            sqlite_where=live,
            postgresql_where=live,
        )
    if spec.name == "event":
        once = sa.text("deleted_at IS NULL AND kind = 'death'")
        sa.Index(
            "event_one_death",
            made.c.patient_id,
            unique=True,
            sqlite_where=once,
            postgresql_where=once,
        )


def rules(field: Field) -> list[str]:
    """CHECK conditions of one field, in words that both databases understand."""
    name = field.name
    out: list[str] = []
    if field.kind == "code":
        # SQLite builds a table anew for every row checked against IN (...): twice the time in all.
        out.append(" OR ".join(f"{name} = '{c}'" for c in field.codes))
    if field.kind == "flag":
        out.append(f"{name} = 0 OR {name} = 1")
    limits = []
    if field.lower is not None:
        limits.append(f"{name} >= {field.lower:g}")
    if field.upper is not None:
        limits.append(f"{name} <= {field.upper:g}")
    if limits:
        out.append(" AND ".join(limits))
    if field.kind == "date":
        out.append(f"{name} >= '1980-01-01' AND {name} <= '2199-12-31'")
    if field.kind == "digest":
        out.append(f"length({name}) = 64 AND {name} = lower({name})")
    if field.kind == "pseudonym":
        # Capital letters, one hyphen, no blanks: more than that, a date for instance, only the
        # program can see (pseudonym.py).
        out.append(
            f"length({name}) BETWEEN 3 AND 13 AND {name} = upper({name}) "
            f"AND {name} LIKE '%-%' AND {name} NOT LIKE '%-%-%' AND {name} NOT LIKE '% %'"
        )
    return out


def across(name: str) -> dict[str, str]:
    """CHECK conditions that involve several fields of a table, by name."""
    if name == "event":
        return {"cause_of_death": "cause IS NULL OR kind = 'death'"}
    if name == "score":
        ends = " OR ".join(f"(instrument = '{i}' AND value <= {top})" for i, top in SCALES.items())
        return {"scale": f"value IS NULL OR {ends}"}
    if name == "operation":
        return {"case_with_digest": "case_digest IS NULL OR case_id IS NOT NULL"}
    return {}
