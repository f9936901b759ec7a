"""Who is due: paper A's calendar of visits and of imaging [SP-REG-01, SP-REG-02]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import sqlalchemy as sa

from sacroplan import evidence
from sacroplan.registry.cohort import DAYS_PER_MONTH
from sacroplan.registry.database import Registry
from sacroplan.registry.schema import table

State = Literal["lost", "overdue", "due", "waiting"]


@dataclass(frozen=True, slots=True)
class Due:
    """What comes next for one patient."""

    pseudonym: str
    what: Literal["visit", "imaging"]
    state: State
    month: int
    next_on: date


def visit_months(until: float) -> list[int]:
    """Months of the planned visits, up to the first one after ``until``."""
    value = evidence.value
    out = [int(value("SP-REG-01", k)) for k in ("first", "second", "third")]
    turn = value("SP-REG-01", "half_yearly_until")
    while out[-1] <= until:
        step = "half_yearly" if out[-1] < turn else "yearly"
        out.append(out[-1] + int(value("SP-REG-01", step)))
    return out


def imaging_months() -> list[int]:
    """Months of the planned imaging of the interfaces."""
    step = int(evidence.value("SP-REG-01", "imaging"))
    return list(range(step, int(evidence.value("SP-REG-02", "imaging_until")) + 1, step))


def day_of(operated: date, month: float) -> date:
    """The day ``month`` months after the operation."""
    return operated + timedelta(days=round(month * DAYS_PER_MONTH))


def next_due(
    operated: date, done: Sequence[date], months: Sequence[int], today: date
) -> tuple[int, date, State] | None:
    """The first planned appointment after the last one kept, and how it stands; None when all are over.

    A visit up to a month early counts for its date; one missed before a later visit is not asked for
    again.
    """
    early = timedelta(days=round(evidence.value("SP-REG-02", "early") * DAYS_PER_MONTH))
    late = timedelta(days=round(evidence.value("SP-REG-02", "overdue") * DAYS_PER_MONTH))
    last = max(done, default=operated)
    for month in months:
        planned = day_of(operated, month)
        if done and last >= planned - early:
            continue
        if today > planned + late:
            return month, planned, "overdue"
        return month, planned, "due" if today >= planned - early else "waiting"
    return None


def due(registry: Registry, today: date) -> list[Due]:
    """Every living patient's next visit and imaging, the most urgent first."""
    patient, operation = table("patient"), table("operation")
    visit, finding, event = table("visit"), table("finding"), table("event")
    with registry.reading() as c:
        people = c.execute(
            sa.select(patient.c.id, patient.c.pseudonym, sa.func.min(operation.c.operated_on))
            .join(operation, operation.c.patient_id == patient.c.id)
            .where(patient.c.deleted_at.is_(None), operation.c.deleted_at.is_(None))
            .group_by(patient.c.id, patient.c.pseudonym)
        ).fetchall()
        seen: dict[int, list[date]] = {}
        for i, day in c.execute(
            sa.select(visit.c.patient_id, sa.func.max(visit.c.visited_on))
            .where(visit.c.deleted_at.is_(None))
            .group_by(visit.c.patient_id)
        ):
            seen.setdefault(i, []).append(day)
        imaged: dict[int, list[date]] = {}
        fused: set[int] = set()
        for i, day, sure in c.execute(
            sa.select(finding.c.patient_id, finding.c.imaged_on, finding.c.continuous).where(
                finding.c.deleted_at.is_(None)
            )
        ):
            imaged.setdefault(i, []).append(day)
            if sure:
                fused.add(i)
        ended = {
            (i, kind)
            for i, kind in c.execute(
                sa.select(event.c.patient_id, event.c.kind).where(
                    event.c.deleted_at.is_(None),
                    event.c.kind.in_(("death", "lost", "implant_removal")),
                )
            )
        }
    gone = timedelta(days=round(evidence.value("SP-REG-02", "lost") * DAYS_PER_MONTH))
    out: list[Due] = []
    for i, name, operated in people:
        if (i, "death") in ended:
            continue
        elapsed = max(0.0, (today - operated).days / DAYS_PER_MONTH)
        heard = max([operated, *seen.get(i, []), *imaged.get(i, [])])
        found = next_due(operated, seen.get(i, []), visit_months(elapsed), today)
        if found is not None:
            lost = (i, "lost") in ended or today - heard > gone
            out.append(Due(name, "visit", "lost" if lost else found[2], found[0], found[1]))
        if i in fused or (i, "lost") in ended or (i, "implant_removal") in ended:
            continue
        found = next_due(operated, imaged.get(i, []), imaging_months(), today)
        if found is not None and today - heard <= gone:
            out.append(Due(name, "imaging", found[2], found[0], found[1]))
    urgency = {"overdue": 0, "due": 1, "lost": 2, "waiting": 3}
    return sorted(out, key=lambda d: (urgency[d.state], str(d.next_on), d.pseudonym, d.what))
