"""A cohort that never was, for tests, benchmarks and trying things out. Every patient is marked so.

Only sizes and rates are set, to be plausible on paper; nothing is fitted to anybody's patients.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from sacroplan.formats.atomic import replaced_folder
from sacroplan.registry.dictionary import tables

DAYS_PER_MONTH = 365.25 / 12.0

START = date(2003, 1, 6)

VISIT_MONTHS = (3, 6, 12, 18, 24, 30, 36, 48, 60, 72, 84, 96)
"""Twelve visits of paper A's calendar."""

FILES = ("patients.csv", "events.csv", "complications.csv", "findings.csv", "visits.csv")
"""Written in the order in which they can be imported."""

_RATES = {"death": 0.006, "local_recurrence": 0.004, "metastasis": 0.004, "implant_removal": 0.002}
"""Events per month."""


def write(folder: Path, patients: int, seed: int = 1) -> tuple[Path, ...]:
    """Write the CSV files of ``patients`` synthetic patients into the new ``folder``.

    Visits end with death; every third visit carries all six MSTS items, every one a VAS.
    """
    rng = np.random.default_rng(seed)
    names = [f"SYN-{n:07d}" for n in range(1, patients + 1)]
    operated = rng.integers(0, 3650, patients)
    months = {k: rng.exponential(1.0 / rate, patients) for k, rate in _RATES.items()}
    followed = rng.uniform(6.0, 130.0, patients)
    end = np.minimum(followed, months["death"])
    with replaced_folder(folder) as building:
        _patients(building / "patients.csv", rng, names, operated)
        _events(building / "events.csv", names, operated, months, end)
        _complications(building / "complications.csv", rng, names, operated, end)
        _findings(building / "findings.csv", rng, names, operated, end)
        _visits(building / "visits.csv", rng, names, operated, end)
    return tuple(folder / f for f in FILES)


def _day(operated: int, months: float) -> str:
    return (START + timedelta(days=int(operated) + int(months * DAYS_PER_MONTH))).isoformat()


def _write(path: Path, header: Sequence[str], rows: object) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)  # type: ignore[arg-type]


def _codes(table: str, field: str) -> tuple[str, ...]:
    return tables()[table].field(field).codes


def _patients(
    path: Path, rng: np.random.Generator, names: Sequence[str], operated: np.ndarray
) -> None:
    n = len(names)
    columns = (
        names,
        ["1"] * n,
        rng.choice(["F", "M"], n),
        rng.choice(_codes("tumour", "diagnosis"), n),
        [_day(d, 0.0) for d in operated],
        rng.integers(18, 80, n),
        rng.choice(["total", "hemi", "partial"], n),
        rng.choice(_codes("operation", "margin"), n, p=[0.7, 0.2, 0.1]),
        rng.integers(20, 60, n) * 100,
        rng.integers(200, 800, n),
        rng.choice(["printed", "rods", "fibula"], n),
        rng.integers(6, 14, n),
    )
    header = (
        "pseudonym", "patient.synthetic", "patient.sex", "tumour.diagnosis", "operation.operated_on",
        "operation.age_years", "operation.resection", "operation.margin", "operation.blood_loss_ml",
        "operation.duration_min", "construct.kind", "construct.screws",
    )  # fmt: skip
    _write(path, header, zip(*columns, strict=True))


def _events(
    path: Path,
    names: Sequence[str],
    operated: np.ndarray,
    months: Mapping[str, np.ndarray],
    end: np.ndarray,
) -> None:
    rows = [
        (names[k], kind, _day(operated[k], at[k]), "DOD" if kind == "death" else "")
        for kind, at in months.items()
        for k in np.flatnonzero(at <= end).tolist()
    ]
    _write(path, ("pseudonym", "event.kind", "event.occurred_on", "event.cause"), sorted(rows))


def _complications(
    path: Path,
    rng: np.random.Generator,
    names: Sequence[str],
    operated: np.ndarray,
    end: np.ndarray,
) -> None:
    kinds, grades = ("wound", "deep_infection", "csf_leak"), _codes("complication", "clavien")
    rows = [
        (names[k], rng.choice(kinds), _day(operated[k], rng.uniform(0, min(3, end[k]))),
         rng.choice(grades[:5]))
        for k in np.flatnonzero(rng.random(len(names)) < 0.2).tolist()
    ]  # fmt: skip
    header = ("pseudonym", "complication.kind", "complication.occurred_on", "complication.clavien")
    _write(path, header, rows)


def _findings(
    path: Path,
    rng: np.random.Generator,
    names: Sequence[str],
    operated: np.ndarray,
    end: np.ndarray,
) -> None:
    header = (
        "pseudonym", "finding.imaged_on", "finding.modality", "finding.interface", "finding.reader",
        "finding.grade", "finding.continuous",
    )  # fmt: skip
    rows = []
    for month, chance in ((3, 0.3), (6, 0.8), (12, 0.95)):
        for k in np.flatnonzero(end > month).tolist():
            done = bool(rng.random() < chance)
            grade = 3 if done else int(rng.integers(0, 3))
            day = _day(operated[k], month)
            rows.append((names[k], day, "CT", "all", "person", grade, int(done)))
    _write(path, header, sorted(rows))


def _visits(
    path: Path,
    rng: np.random.Generator,
    names: Sequence[str],
    operated: np.ndarray,
    end: np.ndarray,
) -> None:
    msts = ("pain", "function", "acceptance", "supports", "walking", "gait")
    header = ("pseudonym", "visited_on", "state", "walking", "bladder", "vas",
              *(f"msts93_{m}" for m in msts))  # fmt: skip
    walking, bladder = _codes("visit", "walking"), _codes("visit", "bladder")

    def rows() -> object:
        for k, name in enumerate(names):
            times = [m for m in VISIT_MONTHS if m < end[k]]
            # Those who are followed briefly are seen more often: twelve visits each on average.
            extra = max(0, len(VISIT_MONTHS) - len(times))
            close = [end[k] * (j + 1) / (extra + 1) for j in range(extra)]
            days = sorted({_day(operated[k], m) for m in (*times, *close)})
            draw = rng.integers(0, 12, (len(days), 9))
            for n, day in enumerate(days):
                d = draw[n]
                items = [""] * 6 if n % 3 else [str(v % 6) for v in d[3:9]]
                yield (name, day, "NED" if d[0] else "AWD", walking[d[1] % 4], bladder[d[2] % 4],
                       d[0] % 11, *items)  # fmt: skip

    _write(path, header, rows())
