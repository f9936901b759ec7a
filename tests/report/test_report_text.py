from __future__ import annotations

import pytest

from sacroplan import evidence
from sacroplan.errors import EvidenceError
from sacroplan.metrics import Metric
from sacroplan.report.text import citations, figure_rows, limits, number, unit_text, verdict


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (None, "mm", "unknown"),
        (True, "1", "yes"),
        ("S2AI", "text", "S2AI"),
        (14.2371, "mm", "14.24"),
        (-3.0, "mm", "−3.00"),
        (0.0, "mm", "0.00"),
        (0.0004, "mm", "0.0004"),
        (12345.6, "mm3", "12\u202f346"),
        (412.74, "MPa", "412.7"),
        (113800.0, "MPa", "113\u202f800"),
        (7, "count", "7"),
        (26550, "count", "26\u202f550"),
    ],
)
def test_number(value: float | str | bool | None, unit: str, words: str) -> None:
    assert number(value, unit) == words


def test_every_unit_of_the_evidence_can_be_printed() -> None:
    for unit in evidence.UNITS:
        assert number(1.25, unit)
        assert "2" not in unit_text("mm2")


def row_with(may_reject: bool) -> str:
    for row in evidence.rows().values():
        if row.may_reject == may_reject:
            return row.id
    pytest.skip("no such row in the register")


def test_only_verified_evidence_violates() -> None:
    weak, strong = row_with(False), row_with(True)
    outside = {"value": 1.0, "unit": "mm", "label": "x", "lower": 2.0}
    assert verdict(Metric(**outside, rows=(weak,))) == "doubtful"
    assert verdict(Metric(**outside, rows=(weak, strong))) == "violated"
    assert verdict(Metric(3.0, "mm", "x", (strong,), lower=2.0)) == "met"
    assert verdict(Metric(3.0, "mm", "x", (strong,))) == ""
    assert verdict(Metric(None, "mm", "x", (strong,), lower=2.0)) == "unknown"


def test_limits() -> None:
    assert limits(Metric(1.0, "mm", "x", lower=2.0, upper=5.0)) == "2.00 – 5.00"
    assert limits(Metric(1.0, "mm", "x", upper=5.0)) == "≤ 5.00"
    assert limits(Metric(1.0, "mm", "x", lower=5.0)) == "≥ 5.00"
    assert limits(Metric(1.0, "mm", "x")) == ""


def test_an_unknown_citation_is_an_error() -> None:
    with pytest.raises(EvidenceError, match="NO-SUCH"):
        figure_rows({"a": Metric(1.0, "mm", "x", ("NO-SUCH",))})


def test_citations_come_once_and_sorted_with_their_numbers() -> None:
    cited = citations(["GDE-05", "CT-01", "GDE-05"])
    assert [c.id for c in cited] == ["CT-01", "GDE-05"]
    assert any("1.25 mm" in q for q in cited[1].quantities)
