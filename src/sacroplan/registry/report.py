"""The registry's report: paper A's table and figures from a centre's own data, as HTML, PDF and SVG."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.banner import BANNER
from sacroplan.formats.atomic import replaced_folder
from sacroplan.progress import Progress, silent
from sacroplan.registry import cohort as cohorts
from sacroplan.registry import compare, figures, rowcheck, scores
from sacroplan.registry.calendar import visit_months
from sacroplan.registry.cohort import Cohort
from sacroplan.registry.database import Registry
from sacroplan.registry.dictionary import tables
from sacroplan.registry.errors import RegistryError
from sacroplan.registry.survival import (
    Proportion,
    aalen_johansen,
    kaplan_meier,
    naive_incidence,
    proportion,
)

GROUPS = {
    "sex": "patient", "margin": "operation", "resection": "operation", "approach": "operation",
    "diagnosis": "tumour",
}  # fmt: skip
"""Fields by which two groups may be compared."""

HORIZONS = (12.0, 24.0, 60.0)
"""Months at which survival and incidence are told in words."""


@dataclass
class Section:
    """One part of the report: how many it rests on, how many are missing, words, tables, figures."""

    title: str
    n: int
    missing: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, str]] = field(default_factory=list)


Made = tuple[Section, dict[str, bytes]]


def write(
    registry: Registry, folder: Path, group: str = "", progress: Progress = silent
) -> dict[str, Any]:
    """Write ``report.html``, ``report.pdf``, ``report.json`` and the SVG files into ``folder``.

    Raises
    ------
    RegistryError : nobody was operated on, dates contradict each other, or the group has not two values.
    """
    cohort = cohorts.load(registry)
    if cohort.n == 0:
        raise RegistryError(
            "The registry has no patient with an operation: there is nothing to report."
        )
    if np.any(cohort.follow_up < 0):
        raise RegistryError(
            "A patient died before the operation or was last seen before it; run sacroplan registry "
            "check and mend the dates first."
        )
    parts: list[tuple[str, Callable[[], Made]]] = [
        ("Table 1", lambda: table_one(cohort, group)),
        ("swimmer plot", lambda: swimmer(cohort)),
        ("survival", lambda: overall_survival(cohort, group)),
        ("competing risks", lambda: competing(cohort)),
        ("function", lambda: function(registry, cohort)),
        ("walking", lambda: walking(registry)),
        ("complications", lambda: complications(registry, cohort)),
        ("osseointegration", lambda: osseointegration(registry, cohort)),
        ("integrity", lambda: integrity(registry, cohort)),
    ]
    sections, pictures = [], {}
    for k, (name, make) in enumerate(parts):
        progress(k / (len(parts) + 1), name)
        section, made = make()
        sections.append(section)
        pictures.update(made)
    data = _content(cohort, sections)
    progress(len(parts) / (len(parts) + 1), "pages")
    html, pdf = _html(data, pictures), _pdf(data, pictures)
    with replaced_folder(folder) as building:
        (building / "report.html").write_text(html, "utf-8")
        (building / "report.pdf").write_bytes(pdf)
        (building / "report.json").write_text(json.dumps(data, indent=2) + "\n", "utf-8")
        for name, svg in pictures.items():
            (building / name).write_bytes(svg)
    progress(1.0, "done")
    return {"folder": str(folder), "patients": cohort.n, "sections": [s.title for s in sections]}


def _content(cohort: Cohort, sections: Sequence[Section]) -> dict[str, Any]:
    synthetic = int(np.nansum(cohort.columns["synthetic"]))
    notes = []
    if synthetic:
        notes.append(
            f"{synthetic} of {cohort.n} patients are synthetic: invented for tests, not patients. "
            "No figure here says anything about medicine."
            if synthetic == cohort.n
            else f"{synthetic} of {cohort.n} patients are synthetic, invented for tests: remove them "
            "before any figure is used."
        )
    if cohort.unoperated:
        notes.append(f"{cohort.unoperated} patients without an operation are in no figure.")
    return {
        "title": "Outcome registry of sacral resections",
        "banner": BANNER,
        "summary": f"{cohort.n} patients, {int(cohort.dead.sum())} dead, median follow-up "
        f"{np.median(cohort.follow_up):.1f} months ({cohort.follow_up.min():.1f} to "
        f"{cohort.follow_up.max():.1f}).",
        "notes": notes,
        "sections": [vars(s) for s in sections],
    }


def _percent(p: Proportion) -> str:
    return f"{p.count}/{p.n} = {100 * p.share:.1f} % ({100 * p.lower:.1f} to {100 * p.upper:.1f})"


def _meanings(table: str, name: str) -> dict[str, str]:
    return dict(tables()[table].field(name).choices)


def _missing(counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{k} {v}" for k, v in counts.items() if v)
    return told or "none"


def split(cohort: Cohort, group: str) -> tuple[npt.NDArray[np.bool_], str, str]:
    """Members of the larger of two groups by a field, and both names; unknown ones are in neither.

    Raises
    ------
    RegistryError : no such field, or fewer than two values in it.
    """
    if group not in GROUPS:
        raise RegistryError(f"Groups can be made by {', '.join(GROUPS)}, not by '{group}'.")
    values = cohort.columns[group]
    names, counts = np.unique(values[values != ""], return_counts=True)
    if len(names) < 2:
        raise RegistryError(
            f"All patients have the same {group}: there are no two groups to compare."
        )
    first = str(names[int(np.argmax(counts))])
    meaning = _meanings(GROUPS[group], group)
    rest = [str(n) for n in names if n != first]
    other = meaning.get(rest[0], rest[0]) if len(rest) == 1 else f"other {group}"
    return values == first, meaning.get(first, first), other


def table_one(cohort: Cohort, group: str = "") -> Made:
    """Characteristics of the patients, by tableone."""
    import warnings

    import pandas as pd
    from tableone import TableOne

    known = {
        "Age, years": "age_years", "Sex": "sex", "Diagnosis": "diagnosis",
        "Largest diameter, mm": "diameter_mm", "Metastatic": "metastatic",
        "Radiotherapy": "radiotherapy", "Chemotherapy": "chemotherapy", "Resection": "resection",
        "Approach": "approach", "Margin": "margin", "Blood loss, mL": "blood_loss_ml",
        "Operating time, min": "duration_min",
    }  # fmt: skip
    frame = pd.DataFrame({"Follow-up, months": cohort.follow_up})
    missing: dict[str, int] = {}
    for label, name in known.items():
        values = cohort.columns[name]
        if values.dtype.kind == "U":
            table = next(t for t in ("patient", "tumour", "operation") if _has(t, name))
            meaning = _meanings(table, name)
            frame[label] = [meaning.get(v, None) for v in values.tolist()]
        elif name in ("metastatic", "radiotherapy", "chemotherapy"):
            frame[label] = np.select([values == 1, values == 0], ["yes", "no"], "unknown")
            frame.loc[~np.isfinite(values), label] = None
        else:
            frame[label] = values
        missing[label] = int(frame[label].isna().sum())
    told = [c for c in frame.columns if frame[c].notna().any()]
    groupby = None
    if group:
        chosen, first, other = split(cohort, group)
        frame["group"] = [
            (first if c else other) if v else None
            for c, v in zip(chosen.tolist(), cohort.columns[group].tolist(), strict=True)
        ]
        frame, groupby = frame[frame["group"].notna()], "group"
        told = [c for c in told if c.lower() != group]
    numbers = [c for c in told if frame[c].dtype.kind == "f"]
    with warnings.catch_warnings():
        # tableone warns of its own use of pandas; what it says of the data is in the table.
        warnings.simplefilter("ignore")
        made = TableOne(
            frame, columns=told, categorical=[c for c in told if c not in numbers],
            continuous=numbers, nonnormal=numbers, groupby=groupby, missing=True, overall=True,
            min_max=None, pval=False,
        )  # fmt: skip
    rows = []
    for (name, level), row in zip(made.tableone.index, made.tableone.to_numpy(), strict=True):
        rows.append([str(name), str(level), *(str(v) for v in row)])
    columns = [c[-1] if isinstance(c, tuple) else str(c) for c in made.tableone.columns]
    section = Section("Table 1: patients", len(frame), _missing(missing))
    section.paragraphs.append(
        "Numbers as median [first, third quartile], categories as n (%) of those known."
    )
    section.tables.append({"header": ["", "", *columns], "rows": rows})
    return section, {}


def _has(table: str, name: str) -> bool:
    return any(f.name == name for f in tables()[table].fields)


def swimmer(cohort: Cohort) -> Made:
    """Every patient's course."""
    svg, lanes = figures.swimmer(cohort)
    section = Section("Course of every patient", cohort.n, "none")
    if lanes < cohort.n:
        section.paragraphs.append(f"{lanes} of {cohort.n} patients, evenly chosen by follow-up.")
    section.figures.append({"file": "swimmer.svg", "caption": "From operation to last contact."})
    return section, {"swimmer.svg": svg}


def overall_survival(cohort: Cohort, group: str = "") -> Made:
    """Kaplan-Meier, its figures in words, and the comparison of two groups."""
    time, dead = cohort.follow_up, cohort.dead
    curve = kaplan_meier(time, dead)
    section = Section("Overall survival", cohort.n, "none: all count to their last contact")
    level = f"{evidence.value('SP-REG-09', 'level'):g} %"
    for month in HORIZONS:
        estimate, low, high = curve.at(month)
        if np.isfinite(estimate):
            section.paragraphs.append(
                f"At {month:g} months {100 * estimate:.1f} % ({level} interval {_pair(low, high)}, "
                f"log-log); {int(curve.risk_at([month])[0])} at risk."
            )
    median = curve.quantile()
    section.paragraphs.append(
        "Median survival was not reached."
        if median is None
        else f"Median survival {median:.1f} months."
    )
    shown = {"all patients": curve}
    if group:
        chosen, first, other = split(cohort, group)
        known = cohort.columns[group] != ""
        shown = {
            first: kaplan_meier(time[chosen], dead[chosen]),
            other: kaplan_meier(time[known & ~chosen], dead[known & ~chosen]),
        }
        section.paragraphs += _compared(time[known], dead[known], chosen[known], first, other)
        section.missing = _missing({group: int((~known).sum())})
    section.figures.append(
        {"file": "survival.svg", "caption": "Kaplan-Meier estimate with log-log intervals."}
    )
    return section, {"survival.svg": figures.curves(shown, "alive, %")}


def _share(value: float) -> str:
    """Per cent; the same number reached by two ways of adding must not be printed as two."""
    return f"{100 * round(value, 9):.1f} %"


def _pair(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "none yet"
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _compared(
    time: npt.NDArray[np.float64],
    event: npt.NDArray[np.bool_],
    chosen: npt.NDArray[np.bool_],
    first: str,
    other: str,
) -> list[str]:
    out = []
    try:
        test = compare.survival(time, event, chosen)
        out.append(f"{first} against {other}: {test.test}, p = {test.p:.3g}; {test.effect}.")
    except RegistryError as error:
        out.append(f"{first} against {other}: {error}")
    try:
        ratio = compare.hazard_ratio(time, event, chosen)
        out.append(
            f"Hazard of {first} over {other}: {ratio.ratio:.2f} ({ratio.lower:.2f} to {ratio.upper:.2f}), "
            f"{ratio.events} events, Cox regression."
        )
    except RegistryError as error:
        out.append(f"Hazard ratio refused: {error}")
    return out


def competing(cohort: Cohort) -> Made:
    """Local recurrence and implant removal with death competing, and the wrong way beside it."""
    section = Section("Local recurrence and implant removal", cohort.n, "none")
    shown, naive = {}, {}
    rows = []
    for kind, label in (
        ("local_recurrence", "local recurrence"),
        ("implant_removal", "implant removal"),
    ):
        time, state = cohort.first_of(kind)
        right, wrong = aalen_johansen(time, state), naive_incidence(time, state)
        shown[label], naive[label] = right, wrong
        for month in HORIZONS:
            estimate, low, high = right.at(month)
            if np.isfinite(estimate):
                rows.append(
                    [label, f"{month:g}", _share(estimate), _pair(low, high),
                     _share(wrong.at(month)[0]), str(int(right.risk_at([month])[0]))]
                )  # fmt: skip
        count = proportion(int((state == 1).sum()), cohort.n)
        section.paragraphs.append(f"{label.capitalize()}: {_percent(count)} of patients, whenever.")
    section.paragraphs.append(
        "Cumulative incidence by Aalen-Johansen: who has died can no longer recur. 1 - Kaplan-Meier "
        "treats the dead as if they still might, and is shown only because papers print it."
    )
    section.tables.append(
        {
            "header": ["Event", "Month", "Incidence", "Interval, %", "1 - KM (wrong)", "At risk"],
            "rows": rows,
        }
    )
    section.figures.append(
        {"file": "incidence.svg", "caption": "Cumulative incidence with death competing."}
    )
    return section, {"incidence.svg": figures.curves(shown, "cumulative incidence, %", naive)}


def function(registry: Registry, cohort: Cohort) -> Made:
    """Scores and walking over the calendar of visits."""
    months = np.array(visit_months(float(cohort.follow_up.max())))
    counted = cohorts.tally(registry, "score", ("instrument", "value"))
    section = Section("Function over time", 0, "")
    series: dict[str, list[tuple[int, int, float, float, float]]] = {}
    incomplete: dict[str, int] = {}
    for name, instrument in scores.INSTRUMENTS.items():
        mine = {(m, v): n for (m, i, v), n in counted.items() if i == name}
        incomplete[f"{instrument.title} without a score"] = sum(
            n for (_, v), n in mine.items() if v is None
        )
        rows = _by_month({k: n for k, n in mine.items() if k[1] is not None}, months)
        section.n += sum(r[1] for r in rows)
        if rows:
            series[instrument.title] = rows
    section.missing = _missing(incomplete) if any(incomplete.values()) else "no score incomplete"
    section.paragraphs.append(
        "n counts questionnaires; each is taken to the nearest visit of the calendar. Points are "
        "medians, bars quartiles, small numbers the questionnaires behind them. Who is sick or dead "
        "does not answer: later points are of survivors."
    )
    made: dict[str, bytes] = {}
    if series:
        section.figures.append(
            {"file": "function.svg", "caption": "Scores by month after operation."}
        )
        made["function.svg"] = figures.over_time(series)
    else:
        section.paragraphs.append("No score has been entered.")
    return section, made


def _by_month(
    counted: Mapping[tuple[int, float], int], months: npt.NDArray[np.int64]
) -> list[tuple[int, int, float, float, float]]:
    """Month of the calendar, number, quartiles; of counts by month and value."""
    if not counted:
        return []
    keys = np.array([[m, v] for m, v in counted], dtype=np.float64)
    n = np.array(list(counted.values()))
    nearest = np.argmin(np.abs(keys[:, :1] - months[None, :]), axis=1)
    out = []
    for k, month in enumerate(months.tolist()):
        mine = nearest == k
        if not mine.any():
            continue
        order = np.argsort(keys[mine, 1], kind="stable")
        values, weights = keys[mine, 1][order], n[mine][order]
        total = int(weights.sum())
        cumulated = np.cumsum(weights)
        q = [float(values[np.searchsorted(cumulated, p * total)]) for p in (0.25, 0.5, 0.75)]
        out.append((int(month), total, q[0], q[1], q[2]))
    return out


def walking(registry: Registry) -> Made:
    """How patients walked at their visits, by time after operation."""
    meaning = _meanings("visit", "walking")
    counted = cohorts.tally(registry, "visit", ("walking",))
    rows = []
    for low, high in ((0, 9), (9, 18), (18, 30), (30, 48), (48, 10_000)):
        here = dict.fromkeys((*meaning, None), 0)
        for (month, how), n in counted.items():
            if low <= month < high:
                here[how] += n
        if total := sum(here.values()):
            name = f"{low} to {high}" if high < 10_000 else f"{low} and later"
            rows.append([name, str(total), *(str(here[w]) for w in meaning), str(here[None])])
    unknown = sum(n for (_, how), n in counted.items() if how is None)
    section = Section("Walking", sum(counted.values()), _missing({"visits without it": unknown}))
    section.paragraphs.append("n counts visits, not patients.")
    section.tables.append(
        {"header": ["Months", "Visits", *meaning.values(), "Missing"], "rows": rows}
    )
    return section, {}


def complications(registry: Registry, cohort: Cohort) -> Made:
    """Complications by kind, grade and mode of failure; patients, not events, with exact intervals."""
    import sqlalchemy as sa

    query = (
        "SELECT o.patient_id, c.kind, c.clavien, c.henderson FROM complication c JOIN operation o ON "
        "o.id = c.operation_id WHERE c.deleted_at IS NULL AND o.deleted_at IS NULL"
    )
    with registry.reading() as connection:
        found = connection.execute(sa.text(query)).fetchall()
    meaning = _meanings("complication", "kind")
    section = Section(
        "Complications",
        cohort.n,
        _missing({"Clavien-Dindo grade": sum(r[2] is None for r in found)}),
    )
    patients = set(cohort.ids.tolist())
    rows, drawn = [], []
    for kind, label in meaning.items():
        who = {r[0] for r in found if r[1] == kind} & patients
        if who:
            p = proportion(len(who), cohort.n)
            drawn.append((label, 100 * p.share, 100 * p.lower, 100 * p.upper))
            rows.append([label, _percent(p), _graded(r[2] for r in found if r[1] == kind)])
    any_ = proportion(len({r[0] for r in found} & patients), cohort.n)
    section.paragraphs.append(f"Any complication: {_percent(any_)} of patients.")
    modes = _meanings("complication", "henderson")
    told = [
        f"mode {m} ({label}) {len({r[0] for r in found if r[3] == m})}"
        for m, label in modes.items()
        if any(r[3] == m for r in found)
    ]
    section.paragraphs.append(f"Failures after Henderson: {', '.join(told) or 'none'}.")
    section.tables.append(
        {"header": ["Complication", "Patients (exact interval)", "Clavien-Dindo"], "rows": rows}
    )
    if not drawn:
        return section, {}
    section.figures.append(
        {
            "file": "complications.svg",
            "caption": "Patients with each complication, exact intervals.",
        }
    )
    return section, {"complications.svg": figures.bars(drawn, "patients, %")}


def _graded(grades: Any) -> str:
    counts: dict[str, int] = {}
    for g in grades:
        counts[g or "not graded"] = counts.get(g or "not graded", 0) + 1
    return ", ".join(f"{g}: {n}" for g, n in sorted(counts.items()))


def osseointegration(registry: Registry, cohort: Cohort) -> Made:
    """Findings by month, and how many patients ever met paper A's criterion."""
    import sqlalchemy as sa

    counted = cohorts.tally(registry, "finding", ("interface", "grade", "continuous"))
    query = "SELECT patient_id, max(continuous) FROM finding WHERE deleted_at IS NULL GROUP BY patient_id"
    with registry.reading() as connection:
        found = connection.execute(sa.text(query)).fetchall()
    ids = set(cohort.ids.tolist())
    seen = {int(p): v for p, v in found if p in ids}
    section = Section(
        "Osseointegration", len(seen), _missing({"patients never imaged": cohort.n - len(seen)})
    )
    section.paragraphs.append(
        "Criterion of paper A: continuous trabeculae on the implant's surface, no gap, on CT [SP-REG-12]."
    )
    if not seen:
        section.paragraphs.append("No imaging has been entered.")
        return section, {}
    met = proportion(sum(v == 1 for v in seen.values()), len(seen))
    section.paragraphs.append(f"Met at some time: {_percent(met)} of patients imaged.")
    rows, drawn = [], []
    for low, high in ((0, 4), (4, 7), (7, 10), (10, 13), (13, 10_000)):
        here = dict.fromkeys((0, 1, 2, 3, None), 0)
        sure = total = 0
        for (month, _, grade, continuous), n in counted.items():
            if low <= month < high:
                here[grade] += n
                sure += n * (continuous == 1)
                total += n
        if total:
            name = f"{low} to {high - 1}" if high < 10_000 else f"{low} and later"
            rows.append([name, str(total), *(str(here[g]) for g in (0, 1, 2, 3, None)), str(sure)])
            p = proportion(sure, total)
            drawn.append((f"months {name}", 100 * p.share, 100 * p.lower, 100 * p.upper))
    section.tables.append(
        {
            "title": "Findings by month; one per interface and reading",
            "header": ["Months", "Findings", "Grade 0", "1", "2", "3", "No grade", "Criterion met"],
            "rows": rows,
        }
    )
    if not drawn:
        return section, {}
    section.figures.append(
        {
            "file": "osseointegration.svg",
            "caption": "Findings that meet the criterion, by month, exact intervals.",
        }
    )
    svg = figures.bars(drawn, "findings with continuous trabeculae, %")
    return section, {"osseointegration.svg": svg}


def integrity(registry: Registry, cohort: Cohort) -> Made:
    """What does not fit together in the data."""
    found = rowcheck.check(registry, cohort)
    faults = [f for f in found if f.verdict != "consistent"]
    section = Section("Integrity of the data", len(found), "none")
    section.paragraphs.append(
        f"{len(found)} rules were checked, {len(faults)} of them found something."
    )
    section.tables.append(
        {
            "header": ["Rule", "Verdict", "Found"],
            "rows": [[f.label, f.verdict, f.reason] for f in faults],
        }
    )
    return section, {}


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text("utf-8")


def _html(data: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    import base64

    from jinja2 import Environment, StrictUndefined

    uris = {
        name: "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
        for name, svg in pictures.items()
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_template("registry.html.j2")).render(**data, uris=uris)


def _pdf(data: Mapping[str, Any], pictures: Mapping[str, bytes]) -> bytes:
    import tempfile

    import matplotlib
    import typst

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    with tempfile.TemporaryDirectory(prefix="sacroplan-") as name:
        folder = Path(name)
        for file, svg in pictures.items():
            (folder / file).write_bytes(svg)
        (folder / "content.json").write_text(json.dumps(data), "utf-8")
        (folder / "report.typ").write_text(_template("registry.typ"), "utf-8")
        try:
            return bytes(
                typst.compile(
                    str(folder / "report.typ"), root=str(folder), font_paths=[str(fonts)],
                    ignore_system_fonts=True,
                )
            )  # fmt: skip
        except typst.TypstError as error:
            raise RegistryError(f"report.pdf could not be set: {error}") from error
