"""Who is due, and what leaves the registry."""

import csv
import re
from collections import Counter
from datetime import date

import pytest

from sacroplan.registry import calendar, export, ingest, records, synthetic
from sacroplan.registry.database import create
from sacroplan.registry.dictionary import tables


def test_paper_a_calendar():
    assert calendar.visit_months(62) == [3, 6, 12, 18, 24, 30, 36, 48, 60, 72]
    assert calendar.imaging_months() == [3, 6, 9, 12]


@pytest.mark.parametrize(
    ("done", "today", "month", "state"),
    [
        ([], "2020-02-15", 3, "waiting"),
        ([], "2020-03-25", 3, "due"),
        ([], "2020-06-15", 3, "overdue"),
        (["2020-03-20"], "2020-04-02", 6, "waiting"),
        (["2020-02-20"], "2020-04-02", 3, "due"),
        (["2020-07-01"], "2021-01-05", 12, "due"),
        (["2022-12-20"], "2023-06-01", 48, "waiting"),
    ],
)
def test_next_visit(done, today, month, state):
    days = [date.fromisoformat(d) for d in done]
    now = date.fromisoformat(today)
    found = calendar.next_due(date(2020, 1, 1), days, calendar.visit_months(60), now)
    assert (found[0], found[2]) == (month, state)


def test_the_dead_are_not_asked_for_and_the_fused_not_imaged(registry):
    for n in range(1, 5):
        name = f"QL-{n:05d}"
        records.add(registry, "patient", name, {})
        records.add(
            registry, "operation", name, {"operated_on": "2020-01-01", "resection": "total"}
        )
    records.add(registry, "event", "QL-00001", {"kind": "death", "occurred_on": "2020-02-01"})
    fused = {"imaged_on": "2020-04-01", "modality": "CT", "interface": "all", "reader": "person"}
    records.add(registry, "finding", "QL-00002", {**fused, "continuous": "1"})
    records.add(registry, "event", "QL-00003", {"kind": "lost", "occurred_on": "2020-03-01"})
    due = {(d.pseudonym, d.what): d.state for d in calendar.due(registry, date(2020, 4, 5))}
    assert due == {
        ("QL-00002", "visit"): "due",
        ("QL-00003", "visit"): "lost",
        ("QL-00004", "visit"): "due",
        ("QL-00004", "imaging"): "due",
    }


@pytest.fixture
def cohort(registry, tmp_path):
    folder = tmp_path / "syn"
    synthetic.write(folder, 60, seed=9)
    for name in synthetic.FILES:
        table = {"table": "visit"} if name == "visits.csv" else {}
        assert ingest.import_file(registry, folder / name, table).stored
    name = "SYN-0000001"
    digest = {"case_id": "case_7", "case_digest": "ab" * 32}
    records.edit(registry, "operation", 1, digest)
    day = records.show(registry, name)["visit"][0]["visited_on"]
    records.add(registry, "score", name, {"visited_on": day, "odi_1": "3", "odi_2": "2"})
    return registry


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def test_what_is_exported_can_be_imported_and_is_the_same(cohort, tmp_path):
    counts = export.export_csv(cohort, tmp_path / "out")
    again = create(str(tmp_path / "again.sqlite"), "tester")
    for spec in tables().values():
        if counts[spec.name]:
            file = tmp_path / "out" / f"{spec.name}.csv"
            done = ingest.import_file(
                again, file, {"table": "patient"} if spec.name == "patient" else {}
            )
            assert (done.stored, done.rejections[:2]) == (True, ()), spec.name
    assert export.export_csv(again, tmp_path / "twice") == counts
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (tmp_path / "twice" / file.name).read_bytes(), file.name


def test_the_release_holds_no_date_no_name_and_no_small_cell(cohort, tmp_path):
    counts = export.export_release(cohort, tmp_path / "rel")
    assert counts["patients"] == 60
    text = "".join(f.read_text() for f in (tmp_path / "rel").glob("*.csv"))
    assert not re.search(r"\d{4}-\d\d-\d\d|\d\d\.\d\d\.\d{4}|(19|20)\d\d[01]\d[0-3]\d", text)
    for secret in ("SYN-", "case_7", "abab"):
        assert secret not in text
    # Words are the dictionary's, everything else is a number: there is no room for a name.
    words = set(re.findall(r"[A-Za-z_.]+", text))
    known = {c for t in tables().values() for f in t.fields for c in f.codes}
    known |= {w for c in known for w in re.findall(r"[A-Za-z_.]+", c)}
    headers = {w for f in (tmp_path / "rel").glob("*.csv") for w in rows_of(f)[0]}
    headers |= {w for h in headers for w in re.findall(r"[A-Za-z_.]+", h)}
    assert words - known - headers <= {export.WITHHELD, "to", "R", "."}
    table = rows_of(tmp_path / "rel" / "patients.csv")
    at = [table[0].index(c) for c in ("patient.sex", "operation.age_years", "tumour.diagnosis")]
    combined = Counter(tuple(r[k] for k in at) for r in table[1:])
    assert min(combined.values()) >= 5
    for n, name in enumerate(table[0][1:], 1):
        field = tables()[name.partition(".")[0]].field(name.partition(".")[2])
        if field.kind in ("code", "flag"):
            shown = Counter(r[n] for r in table[1:])
            assert all(c >= 5 for v, c in shown.items() if v != export.WITHHELD), name
    days = [int(r[1]) for r in rows_of(tmp_path / "rel" / "visit.csv")[1:]]
    assert min(days) >= 0
    # The order of the new numbers follows what is told, not the pseudonyms.
    assert table[1:] == sorted(table[1:], key=lambda r: r[1:])


def test_the_dictionary_is_redcap_s(tmp_path):
    rows = list(csv.DictReader(export.dictionary_csv().splitlines()))
    assert len({r["Variable / Field Name"] for r in rows}) == len(rows)
    names = {r["Variable / Field Name"]: r for r in rows}
    assert names["operation_margin"]["Choices, Calculations, OR Slider Labels"] == (
        "wide, wide | marginal, marginal | intralesional, intralesional"
    )
    assert names["visit_visited_on"]["Text Validation Type OR Show Slider Number"] == "date_ymd"
    assert names["msts93_gait"]["Text Validation Max"] == "5"
    assert not any("birth" in r["Field Label"].lower() or r["Field Type"] == "notes" for r in rows)
