"""Roads side by side: one row each, figures of this plan beside figures of published series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sacroplan import evidence
from sacroplan.options.series import published
from sacroplan.options.weigh import Weighed

SHOWN = (
    "none", "spf", "spf_ascf", "implant_supplemented", "implant_alone", "hemisacral_implant",
    "fibula", "fibula_double", "femur_pedicled", "femur_free", "percutaneous_s2ai",
    "percutaneous_iliac",
)  # fmt: skip
"""Roads of the side-by-side table; others stand in the list of reasons only."""

OPEN = "not planned by the program"

LEAD_TIME = frozenset({"implant_supplemented", "implant_alone", "hemisacral_implant"})


@dataclass(frozen=True)
class Row:
    """One road for one patient. Texts are ready to print; ``rows`` are the evidence behind them.

    ``planned`` : what the program built for this road. ``space`` : dead space that is left with it.
    """

    road: str
    title: str
    standing: str
    rules_for: str
    rules_against: str
    unknown: str
    planned: str
    space: str
    operating_time: str
    blood_loss: str
    failures: str
    bench: str
    lead_time: str
    rows: tuple[str, ...]


def rows_of(
    found: Weighed, planned: Mapping[str, str], spaces_cm3: Mapping[str, float]
) -> tuple[Row, ...]:
    """The table: roads of :data:`SHOWN` of which a rule says something or for which there is a plan."""
    out = []
    for road in SHOWN:
        view = found.road(road)
        if not view.reasons and road not in planned:
            continue
        series = published(road)
        lead = "none"
        rows = list(series.rows)
        if road in LEAD_TIME:
            q = evidence.quantity("SP-OPT-06", "lead")
            lead = f"about {q.value:g} days (paper A)"
            rows.append("SP-OPT-06")
        space = spaces_cm3.get(road)
        out.append(
            Row(
                road, view.title, view.standing,
                ", ".join(dict.fromkeys(r.rule for r in view.of("for", "weak"))) or "-",
                ", ".join(dict.fromkeys(r.rule for r in view.of("against", "excludes"))) or "-",
                ", ".join(dict.fromkeys(c.fact for c in view.changes)) or "-",
                planned.get(road, OPEN), "-" if space is None else f"{space:.0f} cm3",
                series.operating_time, series.blood_loss, series.failures, series.bench, lead, tuple(rows),
            )
        )  # fmt: skip
    return tuple(out)
