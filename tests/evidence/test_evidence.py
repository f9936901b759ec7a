"""The loader refuses what would make a number untraceable."""

import re
from pathlib import Path

import pytest

import sacroplan
from sacroplan import evidence
from sacroplan.errors import EvidenceError

GOOD = """
[[row]]
id = "X-1"
title = "A thing"
source = "Somebody 2020"
flag = "V"
[row.quantities.value]
value = 2.5
unit = "mm"
lower = 1.0
upper = 3.0
"""


def test_a_good_row_is_read_as_written():
    (row,) = evidence.parse(GOOD, "here")
    assert row.may_reject
    assert row.citation == "[X-1, V] A thing. Somebody 2020"
    assert row.quantities["value"].upper == 3.0


def test_the_spread_of_a_population_warns_and_never_rejects():
    (row,) = evidence.parse(GOOD.replace('flag = "V"', 'flag = "V"\nplausibility = true'), "here")
    assert not row.may_reject
    dimensions = [r for r in evidence.rows().values() if r.id.startswith("DIM-")]
    assert dimensions
    assert not any(r.may_reject for r in dimensions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('unit = "mm"', 'unit = "furlong"'), "unit 'furlong' is not known"),
        (('flag = "V"', 'flag = "Z"'), "flag 'Z' is not known"),
        (('source = "Somebody 2020"', 'source = ""'), "'source' is missing"),
        (("upper = 3.0", "upper = 0.5"), "lower 1.0 is above upper 0.5"),
        (("value = 2.5", 'value = "2.5"'), "must be a number"),
        (("value = 2.5\n", "valeu = 2.5\n"), "unknown key 'valeu'"),
    ],
)
def test_a_bad_row_is_named(change, message):
    with pytest.raises(EvidenceError, match=re.escape(message)):
        evidence.parse(GOOD.replace(*change), "here")


def test_an_id_may_stand_once():
    rows = evidence.parse(GOOD + GOOD, "here")
    with pytest.raises(EvidenceError, match="defined twice"):
        evidence.collect(rows)


def test_every_shipped_row_loads_and_is_cited():
    rows = evidence.rows()
    assert len(rows) > 20
    for row in rows.values():
        assert row.source.strip()
        if row.id.startswith("SP-") and row.flag != "P":
            # Facts of the HANDBOOK's running text have no id there; they name their section, or the
            # paper they were read in.
            where = row.source + row.note
            located = "HANDBOOK" in where or re.search(r"doi:|\d{4}, .* \d+:\d+", where)
            assert located, f"{row.id} is neither a default nor located"


def test_every_row_id_named_in_code_exists():
    root = Path(sacroplan.__file__).parent
    call = re.compile(r"evidence\.(?:value|span|quantity|get)\(\s*\"([^\"]+)\"")
    used = {
        (name, path.name) for path in root.rglob("*.py") for name in call.findall(path.read_text())
    }
    assert used
    missing = sorted(u for u in used if u[0] not in evidence.rows())
    assert missing == []


def test_an_unknown_row_or_quantity_is_an_error():
    with pytest.raises(EvidenceError, match="NO-99"):
        evidence.value("NO-99")
    with pytest.raises(EvidenceError, match="it has"):
        evidence.value("GDE-05", "colour")


@pytest.mark.shared
def test_shipped_rows_keep_the_handbook_flag(shared):
    text = (shared / "HANDBOOK.md").read_text("utf-8")
    ids = set(re.findall(r"^\|\s*\*{0,2}([A-Z0-9]+-[A-Z0-9]+[a-z]?)\*{0,2}", text, re.M))
    ours = {i for i in evidence.rows() if not i.startswith("SP-")}
    # Rows that gather several HANDBOOK lines under one id of our own are listed here.
    gathered = {
        "ROOT-TOT", "ROOT-TODD", "ROOT-ZOCCALI", "RES-EXT-L5", "RES-MAYO", "RES-REGION", "LMK-PS",
        "AM-02-EBM", "AM-02-THIN", "AM-10-LPBF",
    }  # fmt: skip
    assert sorted(ours - ids - gathered) == []
