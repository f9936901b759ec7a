"""The same on SQLite and PostgreSQL: constraints, audit, soft deletion, migrations, refusals."""

import json
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from sacroplan.registry import database, records
from sacroplan.registry.database import create, open_registry
from sacroplan.registry.dictionary import tables
from sacroplan.registry.errors import RegistryError
from sacroplan.registry.schema import metadata, table


def one_patient(registry, name="QL-00001", operated="2020-03-02"):
    records.add(registry, "patient", name, {"sex": "F"})
    records.add(registry, "operation", name, {"operated_on": operated, "resection": "total"})
    return name


def audit(registry):
    with registry.reading() as c:
        return c.execute(
            sa.text("SELECT who, table_name, before, after FROM audit ORDER BY id")
        ).all()


def test_the_models_and_the_migrations_are_one_schema(registry):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with registry.engine.connect() as c:
        assert compare_metadata(MigrationContext.configure(c), metadata()) == []


def test_every_change_is_audited_with_who_before_and_after(registry):
    one_patient(registry)
    records.edit(registry, "operation", 1, {"margin": "wide", "blood_loss_ml": "3900"})
    records.remove(registry, "operation", 1)
    changes = [
        (w, t, json.loads(b) if b else None, json.loads(a)) for w, t, b, a in audit(registry)
    ]
    assert [(w, t) for w, t, _, _ in changes] == [
        ("tester", "patient"), ("tester", "operation"), ("tester", "operation"), ("tester", "operation"),
    ]  # fmt: skip
    assert changes[1][2] is None
    assert (changes[2][2]["margin"], changes[2][3]["margin"]) == (None, "wide")
    assert changes[3][2]["deleted_at"] is None
    assert changes[3][3]["deleted_at"].endswith("Z")
    assert [c["who"] for c in records.history(registry, "operation", 1)] == ["tester"] * 3


def test_a_change_by_another_program_is_audited_too(registry):
    one_patient(registry)
    with registry.engine.begin() as c:
        c.execute(sa.text("UPDATE patient SET sex = 'M'"))
    assert audit(registry)[-1][0] == "another program"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM patient",
        "DELETE FROM audit",
        "UPDATE audit SET who = 'nobody'",
        "UPDATE patient SET sex = 'Q'",
        "UPDATE patient SET pseudonym = 'Maria Muster'",
        "INSERT INTO patient (pseudonym, synthetic) VALUES ('QL-00001', 0)",
        "UPDATE operation SET blood_loss_ml = -1",
        "UPDATE operation SET operated_on = NULL",
        "UPDATE operation SET case_digest = 'abc'",
        "INSERT INTO tumour (patient_id, diagnosis) VALUES (99, 'chordoma')",
        "INSERT INTO event (patient_id, kind, occurred_on, cause) VALUES (1, 'lost', '2021-01-01', 'DOD')",
    ],
)
def test_the_database_itself_refuses(registry, statement):
    one_patient(registry)
    before = audit(registry)
    with pytest.raises(RegistryError, match="refuses"), registry.writing() as c:
        c.execute(sa.text(statement))
    assert audit(registry) == before


def test_nobody_dies_twice_but_a_mistaken_death_can_be_replaced(registry):
    name = one_patient(registry)
    row, _ = records.add(registry, "event", name, {"kind": "death", "occurred_on": "2021-01-01"})
    with pytest.raises(RegistryError, match="after the patient's death"):
        records.add(registry, "visit", name, {"visited_on": "2021-02-01"})
    with pytest.raises(RegistryError, match=r"event_one_death|patient_id"):
        records.add(registry, "event", name, {"kind": "death", "occurred_on": "2020-12-01"})
    records.remove(registry, "event", row)
    records.add(
        registry, "event", name, {"kind": "death", "occurred_on": "2021-03-01", "cause": "DOC"}
    )
    assert [e["occurred_on"] for e in records.show(registry, name)["event"]] == ["2021-03-01"]


def test_deleting_a_patient_deletes_what_hangs_on_it_and_frees_the_pseudonym(registry):
    name = one_patient(registry)
    records.add(registry, "visit", name, {"visited_on": "2020-06-01", "walking": "aid"})
    records.add(registry, "score", name, {"visited_on": "2020-06-01", "vas": "3"})
    records.remove(registry, "patient", 1)
    with registry.reading() as c:
        for spec in tables().values():
            t = table(spec.name)
            live = c.execute(sa.select(sa.func.count()).where(t.c.deleted_at.is_(None))).scalar()
            assert live == 0, spec.name
    with pytest.raises(RegistryError, match="no patient QL-00001"):
        records.show(registry, name)
    one_patient(registry)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Maria Muster", "is no pseudonym"),
        ("MUSTER", "is no pseudonym"),
        ("MM-19630412", "is no pseudonym"),
        ("MM-1963", "year of birth"),
        ("MM-120463", "six digits"),
        ("MM-630412", "six digits"),
        ("ql-00001", "is no pseudonym"),
        ("12345678", "is no pseudonym"),
    ],
)
def test_nothing_identifying_is_taken_for_a_pseudonym(registry, name, words):
    with pytest.raises(RegistryError, match=words) as refused:
        records.add(registry, "patient", name, {})
    # The sentence may end up in a log: it must not repeat the name.
    assert name not in str(refused.value)
    assert audit(registry) == []


def test_the_next_pseudonym_and_time_order(registry):
    assert records.add(registry, "patient", "auto", {})[1] == "P-00001"
    assert records.add(registry, "patient", "QL-00099", {})[1] == "QL-00099"
    assert records.add(registry, "patient", "auto", {})[1] == "QL-00100"
    name = one_patient(registry)
    for field, day, words in (
        ("visited_on", "2020-01-01", "before the operation"),
        ("visited_on", "2199-01-01", "in the future"),
        ("visited_on", "2020-02-30", "not a date that exists"),
    ):
        with pytest.raises(RegistryError, match=words):
            records.add(registry, "visit", name, {field: day})


def test_two_writers_at_once_lose_nothing(db_url):
    """Four threads with their own connections: different fields of one row, and rows of their own."""
    create(db_url, "tester").engine.dispose()
    first = open_registry(db_url, "tester")
    one_patient(first)
    fields = ["blood_loss_ml", "duration_min", "age_years", "margin"]
    failures = []

    def work(k):
        mine = open_registry(db_url, f"writer{k}")
        try:
            for n in range(12):
                records.add(mine, "patient", f"W{k}-{n + 10000:05d}", {})
                value = "wide" if fields[k] == "margin" else str(100 + n)
                records.edit(mine, "operation", 1, {fields[k]: value})
        except Exception as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)
        finally:
            mine.engine.dispose()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []
    operation = records.show(first, "QL-00001")["operation"][0]
    assert [operation[f] for f in fields] == [111, 111, 111, "wide"]
    with first.reading() as c:
        assert c.execute(sa.text("SELECT count(*) FROM patient")).scalar() == 1 + 4 * 12
    by = [w for w, *_ in audit(first)]
    assert [by.count(f"writer{k}") for k in range(4)] == [24] * 4
    first.engine.dispose()


def test_another_schema_version_is_refused_and_left_alone(registry, db_url):
    one_patient(registry)
    with registry.engine.begin() as c:
        c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    before = audit(registry)
    for action in (open_registry, create):
        with pytest.raises(RegistryError, match=r"9999.*later"):
            action(db_url)
    with registry.engine.begin() as c:
        c.execute(sa.text("DELETE FROM alembic_version"))
    with pytest.raises(RegistryError, match="no schema version"):
        open_registry(db_url)
    with pytest.raises(RegistryError, match="tables of something else"):
        create(db_url)
    assert audit(registry) == before


def test_making_a_registry_twice_keeps_it(registry, db_url):
    one_patient(registry)
    again = create(db_url)
    assert len(records.show(again, "QL-00001")["operation"]) == 1
    again.engine.dispose()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nowhere.sqlite", "no registry at"),
        ("mysql://a:secret@b/c", "SQLite or PostgreSQL"),
        ("postgresql://a:secret@127.0.0.1:1/c", "cannot be reached"),
        ("nonsense://", "SQLite or PostgreSQL"),
    ],
)
def test_wrong_places_are_refused_without_telling_the_password(tmp_path, monkeypatch, url, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError, match=words) as refused:
        open_registry(url)
    assert "secret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "thesis.sqlite"
    path.write_text("This is my thesis, not a database. " * 50)
    before = path.read_bytes()
    for action in (open_registry, create):
        with pytest.raises(RegistryError, match="not a SQLite database"):
            action(str(path))
    assert path.read_bytes() == before


def test_a_locked_file_ends_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("SACROPLAN_REGISTRY_WAIT", "0.2")
    registry = create(str(tmp_path / "r.sqlite"), "tester")
    other = create(str(tmp_path / "r.sqlite"), "other")
    with registry.writing(), pytest.raises(RegistryError, match="being written by another program"):
        records.add(other, "patient", "QL-00001", {})
    records.add(other, "patient", "QL-00001", {})


def test_a_locked_server_ends_in_a_sentence(postgres, monkeypatch):
    import psycopg

    monkeypatch.setenv("SACROPLAN_REGISTRY_WAIT", "0.2")
    with psycopg.connect(postgres.format("postgres"), autocommit=True) as server:
        server.execute("CREATE DATABASE locked")
    registry = create(postgres.format("locked"), "tester")
    other = open_registry(postgres.format("locked"), "other")
    with registry.writing(), pytest.raises(RegistryError, match="being written by another program"):
        records.add(other, "patient", "QL-00001", {})
    registry.engine.dispose()
    other.engine.dispose()


def test_a_full_disk_ends_in_a_sentence_and_an_unchanged_database(tmp_path):
    """SQLite's own limit of pages stands for the disk: it meets the same error path."""
    registry = create(str(tmp_path / "r.sqlite"), "tester")
    one_patient(registry)
    before = audit(registry)

    def small(raw, _record):
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count = {pages + 1}")

    registry.engine.dispose()
    sa.event.listen(registry.engine, "connect", small)
    many = [{"name": f"QL-{n + 20000}"} for n in range(2000)]
    insert = sa.text("INSERT INTO patient (pseudonym, synthetic) VALUES (:name, 0)")
    with (
        pytest.raises(RegistryError, match="disk is full; nothing was changed"),
        registry.writing() as c,
    ):
        c.execute(insert, many)
    assert audit(registry) == before


def test_importing_the_package_loads_no_database():
    code = "import sacroplan.cli, sys; print(sorted(m.split('.')[0] for m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("sqlalchemy", "pandas", "lifelines", "numpy", "alembic", "matplotlib"):
        assert f"'{heavy}'" not in out.stdout


def test_the_default_place_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SACROPLAN_REGISTRY", "/somewhere/else.sqlite")
    assert database.url_of(None).database == "/somewhere/else.sqlite"
    assert database.url_of("mine.sqlite").database == "mine.sqlite"
