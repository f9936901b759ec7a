"""The arithmetic of summaries: paper A, paper B, and by brute force."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sacroplan.registry import integrity
from sacroplan.registry.errors import RegistryError


def verdicts(letter):
    return integrity.by_verdict(integrity.check(integrity.paper(letter)))


def test_paper_a_exactly():
    found = verdicts("A")
    assert found["inconsistent"] == ["A-04", "A-09", "A-14", "A-21"]
    assert found["needs definition"] == ["A-15", "A-16"]
    # Marked as adding up in the handbook, and the shares that are only recomputed.
    ticked = {"A-01", "A-02", "A-03", "A-05", "A-06", "A-07", "A-08", "A-12", "A-13", "A-18"}
    assert set(found["consistent"]) == ticked | {"A-10", "A-11", "A-17", "A-20"}
    assert found["undecided"] == ["A-24"]
    assert found["editorial"] == ["A-23"]


def test_paper_b_tells_two_things_twice_and_differently():
    assert verdicts("B")["inconsistent"] == ["B-02", "B-03"]


def repaired(claim_id, old, new):
    from importlib import resources

    text = (resources.files("sacroplan.registry") / "data" / "paper_a.toml").read_text("utf-8")
    assert old in text
    summary = integrity.parse(text.replace(old, new), "repaired")
    return next(f for f in integrity.check(summary) if f.id == claim_id)


@pytest.mark.parametrize(
    ("claim", "old", "new"),
    [
        ("A-04", "wide = 12, marginal = 1", "wide = 11, marginal = 1"),
        ("A-09", 'mean = "20.2"', 'mean = "30.2"'),
        ("A-14", "independent = 12, at", "independent = 10, at"),
        ("A-15", 'relation = ""', 'relation = "contained"'),
        ("A-16", 'definition = ""', 'definition = "Clavien-Dindo IV or V within 30 days"'),
        ("A-21", "count = 2 }", "count = 1 }"),
    ],
)
def test_each_finding_goes_away_when_its_cause_does(claim, old, new):
    assert repaired(claim, old, new).verdict == "consistent"


def test_what_follows_from_a_contradiction_is_judged_once_that_is_solved():
    fixed = repaired("A-24", "independent = 12, at", "independent = 10, at")
    assert fixed.verdict == "inconsistent"


@pytest.mark.parametrize(
    ("claim", "old", "new", "words"),
    [
        ("A-02", 'mean = "58.25"', 'mean = "58.26"', "GRIM"),
        ("A-12", 'mean = "1.5"', 'mean = "1.9"', "0.1667 to 1.833"),
        ("A-13", 'mean = "21"', 'mean = "24"', "lies in"),
        ("A-10", 'percent = "83.33"', 'percent = "84.33"', "83.33 %"),
        ("A-09", 'mean = "20.2"', 'mean = "19.2"', "below 20"),
    ],
)
def test_a_changed_figure_is_found(claim, old, new, words):
    found = repaired(claim, old, new)
    assert found.verdict == "inconsistent"
    assert words in found.reason


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(0, 3), st.integers(1, 4), st.integers(0, 60))
def test_grim_and_reachable_range_against_all_small_samples(n, low, width, tenths):
    """Every multiset of integers from low to high with both ends in it, and their printed means."""
    high = low + width
    inner = itertools.combinations_with_replacement(range(low, high + 1), n - 2)
    means = {round((low + high + sum(x)) / n, 10) for x in inner}
    text = f"{tenths / 10:.1f}"
    possible = any(abs(m - float(text)) <= 0.05 + 1e-9 for m in means)
    least, most = integrity.reachable(low, high, n)
    passes = integrity.grim(text, n) and least - 0.05 <= float(text) + 1e-9 <= most + 0.05 + 2e-9
    # Every mean between the ends on the grid of 1/n is reached.
    assert possible == passes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n = ", "not valid TOML"),
        ("n = 0", "number of patients"),
        ('n = 3\n[[claim]]\nid = "x"\nkind = "magic"', "kind 'magic' is not known"),
        ('n = 3\n[[claim]]\nkind = "note"', "id of its own"),
        ('n = 3\n[[claim]]\nid = "x"\nkind = "mean"\nmean = "3"', "incomplete"),
    ],
)
def test_a_broken_summary_is_refused(text, words):
    with pytest.raises(RegistryError, match=words):
        integrity.check(integrity.parse(text, "mine"))
