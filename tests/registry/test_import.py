"""Import: every fault named by row and column, whole or not at all, alike on both databases."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date

import pytest
import sqlalchemy as sa
from fuzzed import GOOD, fuzzed

from sacroplan.registry import ingest, mapping, records, rowcheck, synthetic
from sacroplan.registry.cohort import load
from sacroplan.registry.database import create, open_registry
from sacroplan.registry.errors import RegistryError

TODAY = date(2026, 1, 1)

PATIENTS = (
    "pseudonym,patient.sex,tumour.diagnosis,operation.operated_on,operation.resection,"
    "operation.blood_loss_ml,construct.kind\n"
    "QL-00001,F,chordoma,2020-03-02,total,3900,printed\n"
    "QL-00002,M,osteosarcoma,2020-04-01,total,2500,\n"
)


def run(registry, tmp_path, text, table=None, told=None, **options):
    path = tmp_path / "in.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    wanted = dict(told or {})
    if table:
        wanted["table"] = table
    return ingest.import_file(registry, path, wanted, today=TODAY, **options)


def state(registry):
    with registry.reading() as c:
        rows = c.execute(sa.text("SELECT * FROM audit ORDER BY id")).all()
        return rows, [
            c.execute(sa.text(f"SELECT count(*) FROM {t}")).scalar()
            for t in ("patient", "operation", "visit", "score")
        ]


@pytest.fixture
def filled(registry, tmp_path):
    assert run(registry, tmp_path, PATIENTS).stored
    return registry


def test_one_file_fills_several_tables(filled):
    known = records.show(filled, "QL-00001")
    assert known["operation"][0]["blood_loss_ml"] == 3900
    assert known["construct"][0]["kind"] == "printed"
    other = records.show(filled, "QL-00002")
    assert (other["tumour"][0]["diagnosis"], other["construct"]) == ("osteosarcoma", [])


def test_scores_come_with_their_visits_and_the_ids_go_on(filled, tmp_path):
    done = run(filled, tmp_path, GOOD, "visit")
    assert (done.stored, dict(done.added)) == (True, {"visit": 3, "score": 6})
    known = records.show(filled, "QL-00001")
    assert [v["visited_on"] for v in known["visit"]] == ["2020-06-02", "2020-12-01"]
    assert [s["value"] for s in known["score"] if s["instrument"] == "vas"] == [3, 0]
    # Two of six MSTS items: no total.
    assert {s["value"] for s in known["score"] if s["instrument"] == "msts93"} == {None}
    assert records.add(filled, "visit", "QL-00002", {"visited_on": "2020-12-02"})[0] == 4


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ("QL-00001,2020-06-32,NED,aid,3,,", "visited_on", "not a date that exists"),
        ("QL-00001,02.06.2020,NED,aid,3,,", "visited_on", "not a date as"),
        ("QL-00001,2019-06-02,NED,aid,3,,", "visited_on", "before the operation"),
        ("QL-00001,2027-06-02,NED,aid,3,,", "visited_on", "in the future"),
        ("QL-00001,,NED,aid,3,,", "visited_on", "required and empty"),
        ("QL-00001,2020-06-02,ill,aid,3,,", "state", "is none of NED, AWD"),
        ("QL-00001,2020-06-02,NED,aid,11,,", "vas", "not a number from 0 to 10"),
        ("QL-00001,2020-06-02,NED,aid,3,2.5,", "msts93_pain", "whole number from 0 to 5"),
        ("QL-00007,2020-06-02,NED,aid,3,,", "pseudonym", "not in the registry"),
        ("Maria Muster,2020-06-02,NED,aid,3,,", "pseudonym", "is no pseudonym"),
        ("QL-00001,2020-06-02,NED,aid,3", "", "has 5 cells, the header has 7"),
        ("QL-00001,,,,,,", "", "nothing but a pseudonym"),
        ("QL-00001,,,,3,,", "vas", "no visit to which the score belongs"),
    ],
)
def test_each_fault_is_named_by_row_and_column(filled, tmp_path, row, column, reason):
    before = state(filled)
    done = run(filled, tmp_path, GOOD + row + "\n", "visit")
    assert not done.stored
    assert [(r.row, r.column) for r in done.rejections] == [(5, column)]
    assert reason in done.rejections[0].reason
    assert "Muster" not in done.rejections[0].reason
    assert state(filled) == before


def test_all_faults_are_listed_in_order_and_a_repeat_is_one(filled, tmp_path):
    text = GOOD + "QL-00001,x,NED,crawls,3,,\nQL-00002,2020-07-01,NED,aid,3,,\n"
    done = run(filled, tmp_path, text, "visit", dry_run=True)
    assert [(r.row, r.column) for r in done.rejections] == [
        (5, "visited_on"), (5, "walking"), (6, "visited_on"),
    ]  # fmt: skip
    assert "visit of that day already" in done.rejections[2].reason
    assert run(filled, tmp_path, GOOD, "visit").stored
    again = run(filled, tmp_path, GOOD, "visit")
    assert (again.stored, len(again.rejections)) == (False, 3)


def test_a_rehearsal_stores_nothing_and_promises_what_the_import_does(filled, tmp_path):
    before = state(filled)
    rehearsed = run(filled, tmp_path, GOOD, "visit", dry_run=True)
    assert state(filled) == before
    assert (rehearsed.stored, rehearsed.rejections) == (False, ())
    assert dict(rehearsed.added) == dict(run(filled, tmp_path, GOOD, "visit").added)


def test_death_closes_the_record(filled, tmp_path):
    events = "pseudonym,event.kind,event.occurred_on,event.cause\nQL-00001,death,2020-09-01,DOD\n"
    assert run(filled, tmp_path, events).stored
    done = run(filled, tmp_path, GOOD, "visit")
    assert [(r.row, r.reason) for r in done.rejections] == [(4, "is after the patient's death")]
    assert (
        "died already"
        in run(filled, tmp_path, events.replace("09-01", "08-01")).rejections[0].reason
    )


def test_unusual_values_are_remarked_not_rejected(registry, tmp_path):
    done = run(registry, tmp_path, PATIENTS.replace("3900", "39000"))
    assert done.stored
    assert [(r.row, r.column) for r in done.remarks] == [(2, "operation.blood_loss_ml")]


def test_a_mapping_file_translates_columns_words_and_dates(filled, tmp_path):
    file = tmp_path / "map.toml"
    file.write_text(mapping.EXAMPLE)
    text = "Patient;Kontrolle am;Gehen;VAS;Bemerkung\nQL-00001;02.06.2020;frei;3;Frau Muster\n"
    done = run(filled, tmp_path, text, told=mapping.read(file, None))
    assert done.stored
    assert records.show(filled, "QL-00001")["visit"][0]["walking"] == "unaided"
    with filled.reading() as c:
        stored = c.execute(sa.text("SELECT after FROM audit")).scalars().all()
    assert not any("Muster" in s for s in stored)


def test_excel_gives_what_csv_gives(registry, tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    lines = [line.split(",") for line in PATIENTS.strip().split("\n")]
    for line in lines[:1]:
        book.active.append(line)
    for line in lines[1:]:
        cells = [date.fromisoformat(v) if n == 3 else v for n, v in enumerate(line)]
        cells[5] = float(cells[5])
        book.active.append(cells)
    book.save(tmp_path / "p.xlsx")
    done = ingest.import_file(registry, tmp_path / "p.xlsx", {}, today=TODAY)
    assert done.stored
    assert records.show(registry, "QL-00001")["operation"][0]["operated_on"] == "2020-03-02"
    (tmp_path / "broken.xlsx").write_bytes(b"PK\x03\x04 not a workbook")
    with pytest.raises(RegistryError, match="not an Excel workbook"):
        ingest.import_file(registry, tmp_path / "broken.xlsx", {}, today=TODAY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "no field of the registry"),
        ("pseudonym,pseudonym\n", "stands there twice"),
        ("pseudonym,,x\n", "has no name"),
        ("visited_on\n2020-01-01\n", "No column is the pseudonym"),
        ("pseudonym\nQL-00009\n", "No column gives visit.visited_on"),
        ("pseudonym,walking\nQL-00001,aid\n", "No column gives visit.visited_on"),
        ("pseudonym,vas,score.vas\n", "Two columns mean score.vas"),
        (b"pseudonym,visited_on\n\xff\xfe,1\n", "not text in UTF-8"),
        (b'pseudonym,visited_on\n"QL-00001,1\n', "not a well-formed CSV"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(filled, tmp_path, text, words):
    before = state(filled)
    with pytest.raises(RegistryError, match=words):
        run(filled, tmp_path, text, "visit")
    assert state(filled) == before


def survives(registry, tmp_path, seeds):
    """How many fuzzed files were refused, rejected and taken; each leaves all or nothing behind."""
    counts = {"refused": 0, "rejected": 0, "taken": 0}
    before = state(registry)
    for seed in seeds:
        try:
            done = run(registry, tmp_path, fuzzed(seed), "visit")
        except RegistryError as error:
            sentence = str(error)
            assert len(sentence.splitlines()) == 1, seed
            outcome = "refused"
        else:
            outcome = "taken" if done.stored else "rejected"
            assert done.stored == (not done.rejections), seed
        counts[outcome] += 1
        after = state(registry)
        if outcome == "taken":
            assert after[1][2] - before[1][2] == done.added["visit"], seed
            before = after
        assert after == before, seed
    return counts


def test_fuzzed_files_end_in_a_sentence_and_an_unchanged_database(filled, tmp_path):
    counts = survives(filled, tmp_path, range(60))
    assert min(counts["refused"], counts["rejected"]) >= 5


def test_synthetic_cohorts_import_and_are_marked(registry, tmp_path):
    folder = tmp_path / "syn"
    synthetic.write(folder, 40, seed=4)
    for name in synthetic.FILES:
        table = {"table": "visit"} if name == "visits.csv" else {}
        done = ingest.import_file(registry, folder / name, table, today=TODAY)
        assert (done.stored, done.rejections) == (True, ()), name
    cohort = load(registry)
    assert cohort.n == 40
    assert (cohort.columns["synthetic"] == 1).all()
    assert [f for f in rowcheck.check(registry, cohort) if f.verdict == "inconsistent"] == []


def test_a_contradiction_that_slipped_in_is_found(filled):
    with filled.engine.begin() as c:
        c.execute(
            sa.text(
                "INSERT INTO event (patient_id, kind, occurred_on) VALUES (1, 'death', '2019-01-01')"
            )
        )
        c.execute(sa.text("INSERT INTO visit (patient_id, visited_on) VALUES (2, '2018-01-01')"))
    found = {f.id for f in rowcheck.check(filled, load(filled)) if f.verdict == "inconsistent"}
    assert found == {"order.event.early", "order.visit.early"}


@pytest.mark.parametrize("moment", [0.25, 0.6])
def test_kill_9_leaves_the_database_as_before_or_complete(db_url, tmp_path, moment):
    registry = create(db_url, "tester")
    folder = tmp_path / "syn"
    synthetic.write(folder, 4000, seed=2)
    before = state(registry)
    registry.engine.dispose()
    code = (
        "import sys\nfrom pathlib import Path\nfrom sacroplan.registry import database, ingest\n"
        "r = database.open_registry(sys.argv[1], 'victim')\nprint('go', flush=True)\n"
        "ingest.import_file(r, Path(sys.argv[2]), {})\nprint('done', flush=True)\n"
    )
    command = [sys.executable, "-c", code, db_url, str(folder / "patients.csv")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "go\n"
    time.sleep(moment)
    os.kill(child.pid, signal.SIGKILL)
    finished = "done" in child.stdout.read()
    child.wait()
    again = open_registry(db_url, "tester")
    deadline = time.monotonic() + 30
    # PostgreSQL notices the broken connection a moment later.
    while True:
        after = state(again)
        if after == before or after[1][:2] == [4000, 4000] or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert after == before or (after[1] == [4000, 4000, 0, 0] and len(after[0]) == 4 * 4000)
    assert not finished or after != before
    # And it can be written at once.
    if after == before:
        assert ingest.import_file(again, folder / "patients.csv", {}).stored
    again.engine.dispose()


def test_the_command_lists_faults_as_json_and_ends_with_2(tmp_path):
    db = str(tmp_path / "r.sqlite")
    base = [sys.executable, "-m", "sacroplan.cli", "registry"]
    subprocess.run([*base, "new", "--db", db], check=True, capture_output=True)
    (tmp_path / "p.csv").write_text(PATIENTS.replace("total,2500", "whole,2500"))
    done = subprocess.run(
        [*base, "import", str(tmp_path / "p.csv"), "--db", db, "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert told["rejected"][0]["row"] == 3
    assert told["stored"] is False
    assert "Traceback" not in done.stderr
    assert "1 of 2 rows are rejected; nothing was stored" in done.stderr
