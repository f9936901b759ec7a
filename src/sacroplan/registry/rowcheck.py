"""Does what the registry holds of single patients fit together? Run on demand and after every import."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from sacroplan.registry import scores
from sacroplan.registry.cohort import Cohort
from sacroplan.registry.database import Registry
from sacroplan.registry.integrity import Finding
from sacroplan.registry.survival import kaplan_meier

NAMED = 5
"""Patients named in a finding; the rest are counted."""


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    label: str
    query: str
    serious: bool = True


def _outside(table: str, date: str) -> tuple[_Rule, _Rule]:
    source = f"{table} x"
    patient = "x.patient_id"
    live = "x.deleted_at IS NULL AND p.deleted_at IS NULL"
    if table == "complication":
        source = "complication x JOIN operation q ON q.id = x.operation_id"
        patient = "q.patient_id"
    head = f"SELECT DISTINCT p.pseudonym FROM {source} JOIN patient p ON p.id = {patient} "
    before = (
        f"{head}JOIN (SELECT patient_id, min(operated_on) AS first FROM operation WHERE "
        f"deleted_at IS NULL GROUP BY patient_id) o ON o.patient_id = p.id WHERE {live} "
        f"AND x.{date} < o.first ORDER BY 1"
    )
    after = (
        f"{head}JOIN event d ON d.patient_id = p.id AND d.kind = 'death' AND d.deleted_at IS NULL "
        f"WHERE {live} AND x.{date} > d.occurred_on ORDER BY 1"
    )
    return (
        _Rule(f"order.{table}.early", f"{table} before the operation", before),
        _Rule(f"order.{table}.late", f"{table} after death", after),
    )


_LIVE = "FROM patient p WHERE p.deleted_at IS NULL AND"
_HAS = "EXISTS (SELECT 1 FROM {t} x WHERE x.patient_id = p.id AND x.deleted_at IS NULL{more})"
_REMOVED = (
    "EXISTS (SELECT 1 FROM complication c JOIN operation o ON o.id = c.operation_id WHERE "
    "o.patient_id = p.id AND c.removed = 1 AND c.deleted_at IS NULL AND o.deleted_at IS NULL)"
)
_REMOVAL = _HAS.format(t="event", more=" AND x.kind = 'implant_removal'")
_RULES = (
    *(
        rule
        for table, date in (
            ("visit", "visited_on"), ("finding", "imaged_on"), ("event", "occurred_on"),
            ("complication", "occurred_on"),
        )
        for rule in _outside(table, date)
    ),
    _Rule(
        "removal.event", "complication says the implant was removed, no event does",
        f"SELECT p.pseudonym {_LIVE} {_REMOVED} AND NOT {_REMOVAL} ORDER BY 1",
    ),
    _Rule(
        "removal.complication", "event says the implant was removed, no complication does",
        f"SELECT p.pseudonym {_LIVE} {_REMOVAL} AND NOT {_REMOVED} ORDER BY 1", False,
    ),
    _Rule(
        "death.cause", "death without a cause",
        f"SELECT p.pseudonym {_LIVE} "
        + _HAS.format(t="event", more=" AND x.kind = 'death' AND x.cause IS NULL") + " ORDER BY 1",
        False,
    ),
    _Rule(
        "operation.missing", "patient without an operation, in no statistic",
        f"SELECT p.pseudonym {_LIVE} NOT " + _HAS.format(t="operation", more="") + " ORDER BY 1",
        False,
    ),
    _Rule(
        "tumour.missing", "patient without a tumour",
        f"SELECT p.pseudonym {_LIVE} NOT " + _HAS.format(t="tumour", more="") + " ORDER BY 1",
        False,
    ),
)  # fmt: skip


def check(registry: Registry, cohort: Cohort) -> tuple[Finding, ...]:
    """One finding per rule: contradictions are inconsistent, gaps need a definition or a value."""
    out: list[Finding] = []
    with registry.reading() as connection:
        for rule in _RULES:
            names = [str(r[0]) for r in connection.execute(sa.text(rule.query))]
            told = ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")
            if not names:
                out.append(Finding(rule.id, rule.label, "consistent", "none"))
            else:
                out.append(
                    Finding(
                        rule.id,
                        rule.label,
                        "inconsistent" if rule.serious else "undecided",
                        f"{len(names)}: {told}",
                    )
                )
        t = sa.text(
            "SELECT instrument, answers, answered, value, count(*) FROM score "
            "WHERE deleted_at IS NULL GROUP BY instrument, answers, answered, value"
        )
        wrong = sum(int(r[4]) for r in connection.execute(t) if not _as_scored(*r[:4]))
    out.append(
        Finding(
            "score.value", "score against its own answers",
            "inconsistent" if wrong else "consistent", f"{wrong} differ" if wrong else "none",
        )
    )  # fmt: skip
    out += _against_raw(cohort)
    return tuple(out)


def _as_scored(name: str, answers: str, answered: int, value: float | None) -> bool:
    instrument = scores.INSTRUMENTS[name]
    made = scores.score(instrument, [float(a) if a else None for a in answers.split(",")])
    same = (made.value is None) == (value is None) and (
        made.value is None or value is None or abs(made.value - value) < 1e-6
    )
    return same and made.answered == answered


def _against_raw(cohort: Cohort) -> list[Finding]:
    """Kaplan-Meier at 24 months beside the raw share, and why they differ."""
    if cohort.n == 0:
        return []
    if bool((cohort.follow_up < 0).any()):
        return [
            Finding(
                "survival.raw", "survival at 24 months", "not checkable",
                "a death lies before the operation",
            )
        ]  # fmt: skip
    curve = kaplan_meier(cohort.follow_up, cohort.dead)
    estimate = curve.at(24.0)[0]
    early = int((~cohort.dead & (cohort.follow_up < 24.0)).sum())
    raw = 1.0 - float((cohort.dead & (cohort.follow_up <= 24.0)).mean())
    told = f"Kaplan-Meier {100 * estimate:.2f} %, raw share {100 * raw:.2f} %"
    reason = f"{told}; {early} were censored before" if early else f"{told}; nobody censored before"
    verdict = "inconsistent" if not early and abs(estimate - raw) > 1e-9 else "consistent"
    return [Finding("survival.raw", "survival at 24 months", verdict, reason)]  # type: ignore[arg-type]
