"""The report: every part with n and missing, the same bytes twice, refusals in a sentence."""

import json
import re

import numpy as np
import pytest
import sqlalchemy as sa

from sacroplan.registry import cohort, ingest, records, report, synthetic
from sacroplan.registry.errors import RegistryError


@pytest.fixture
def filled(registry, tmp_path):
    folder = tmp_path / "syn"
    synthetic.write(folder, 80, seed=3)
    for name in synthetic.FILES:
        table = {"table": "visit"} if name == "visits.csv" else {}
        assert ingest.import_file(registry, folder / name, table).stored
    return registry


def test_the_cohort_equals_what_a_reader_would_count(filled):
    c = cohort.load(filled)
    with filled.reading() as connection:
        dead = connection.execute(
            sa.text("SELECT count(*) FROM event WHERE kind = 'death' AND deleted_at IS NULL")
        ).scalar()
    assert c.dead.sum() == dead
    name = str(c.pseudonyms[7])
    known = records.show(filled, name)
    start = np.datetime64(known["operation"][0]["operated_on"])
    dates = [v["visited_on"] for v in known["visit"]] + [e["occurred_on"] for e in known["event"]]
    dates += [f["imaged_on"] for f in known["finding"]]
    last = max(np.datetime64(d) for d in dates)
    assert c.follow_up[7] == pytest.approx((last - start).astype(int) / cohort.DAYS_PER_MONTH)
    counted = cohort.tally(filled, "score", ("instrument", "value"))
    with filled.reading() as connection:
        total = connection.execute(sa.text("SELECT count(*) FROM score")).scalar()
    assert sum(counted.values()) == total
    assert min(m for m, *_ in counted) >= 0


def test_quartiles_of_counts_are_those_of_the_values():
    values = np.array([0, 0, 1, 2, 2, 2, 3, 9, 9, 10, 10, 10])
    names, n = np.unique(values, return_counts=True)
    counted = {(6, float(v)): int(k) for v, k in zip(names, n, strict=True)}
    ((month, total, low, middle, high),) = report._by_month(counted, np.array([3, 6, 12]))
    assert (month, total) == (6, 12)
    expected = np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf")
    assert (low, middle, high) == tuple(expected)


def test_the_report_is_whole_and_repeats_to_the_byte(filled, tmp_path):
    report.write(filled, tmp_path / "a", "margin")
    data = json.loads((tmp_path / "a" / "report.json").read_text())
    titles = [s["title"] for s in data["sections"]]
    assert len(titles) == 9
    for s in data["sections"]:
        assert s["n"] > 0, s["title"]
        assert s["missing"], s["title"]
    assert "80 of 80 patients are synthetic" in data["notes"][0]
    html = (tmp_path / "a" / "report.html").read_text()
    assert "Not a medical device" in html
    assert html.count("data:image/svg+xml;base64,") == 6
    assert "Kaplan-Meier, wrong here" not in html  # text is drawn as paths inside the pictures
    assert "1 - KM (wrong)" in html
    assert "SYN-" not in re.sub(r"SYN-\d{7}(, SYN-\d{7})* ?…?", "", html)
    assert not re.search(r">\d{4}-\d\d-\d\d<", html)
    assert (tmp_path / "a" / "report.pdf").read_bytes()[:5] == b"%PDF-"
    report.write(filled, tmp_path / "b", "margin")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_competing_risks_stop_at_death(filled):
    c = cohort.load(filled)
    time, state = c.first_of("local_recurrence")
    assert set(state) == {0, 1, 2}
    at = c.months["local_recurrence"]
    assert (state == 1).sum() == np.isfinite(at).sum()
    assert np.all(time <= c.follow_up + 1e-9)
    section, made = report.competing(c)
    for row in section.tables[0]["rows"]:
        assert float(row[2].split()[0]) <= float(row[4].split()[0])
    assert list(made) == ["incidence.svg"]


def test_a_handful_of_patients_gets_no_hazard_ratio(registry):
    for n in range(1, 13):
        name = f"QL-{n:05d}"
        records.add(registry, "patient", name, {"sex": "F" if n % 2 else "M"})
        told = {"operated_on": "2016-01-01", "resection": "total"}
        records.add(registry, "operation", name, told)
        if n <= 2:
            day = {"kind": "death", "occurred_on": "2017-09-10", "cause": "DOD"}
            records.add(registry, "event", name, day)
        else:
            records.add(registry, "visit", name, {"visited_on": f"20{17 + n % 3}-12-31"})
    section, _ = report.overall_survival(cohort.load(registry), "sex")
    text = " ".join(section.paragraphs)
    assert "At 24 months" in text
    assert "Hazard ratio refused: 2 events are too few" in text
    assert "log-rank, permutations" in text


def test_nothing_to_report_and_wrong_groups_are_refused(registry, tmp_path):
    with pytest.raises(RegistryError, match="no patient with an operation"):
        report.write(registry, tmp_path / "out")
    records.add(registry, "patient", "QL-00001", {"sex": "F"})
    records.add(
        registry, "operation", "QL-00001", {"operated_on": "2020-01-01", "resection": "total"}
    )
    c = cohort.load(registry)
    with pytest.raises(RegistryError, match="no two groups"):
        report.split(c, "sex")
    with pytest.raises(RegistryError, match="not by 'height'"):
        report.split(c, "height")
    # One patient, never seen again: everything is missing, nothing breaks.
    report.write(registry, tmp_path / "out")
    assert (tmp_path / "out" / "report.pdf").stat().st_size > 5000
