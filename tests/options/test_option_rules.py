"""The rule table: every rule and every unknown, both sides of every contradiction, the papers' cases."""

import itertools
import re

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.errors import EvidenceError, PlanError
from sacroplan.options.facts import DOMAINS, Facts, facts_of
from sacroplan.options.logic import conjunction, disjunction, parse
from sacroplan.options.rules import book, parse_book
from sacroplan.options.weigh import changes_of, consequence_state, trials, weigh

PAPER_A = facts_of({
    "intent": "curative", "tumour_kind": "primary", "resection": "total", "iliolumbar": "none",
    "l5_resected": "none", "lowest_root_left": 0, "lowest_root_right": 0,
    "cut_above_s1_foramina": True, "sij_left_percent": 100, "sij_right_percent": 100,
    "lead_time_ok": True, "infection": False, "approach": "posterior", "amputation_planned": False,
    "tumour_volume_cm3": 250, "hypervascular": True, "prior_rt": "none", "stoma": "none",
    "prior_abdominal_surgery": "none", "fit_for_long_surgery": True, "bone_quality": "ok",
})  # fmt: skip

CASE_1 = facts_of({
    "intent": "palliative", "prognosis_months": 5, "tumour_kind": "metastatic", "resection": "none",
    "s2_intact": True, "s2ai_feasible": True, "lumbosacral_destruction": True, "prior_rt": "both",
})  # fmt: skip

CASE_2 = facts_of({
    "intent": "curative", "tumour_kind": "metastatic", "resection": "hemi", "l5_resected": "partial",
    "contralateral_s1_kept": True, "lead_time_ok": True, "infection": False, "approach": "combined",
    "prior_rt": "both", "prior_abdominal_surgery": "both", "stoma": "none",
    "lowest_root_left": 5, "lowest_root_right": 0, "sij_right_percent": 95, "sij_left_percent": 0,
})  # fmt: skip

CASE_3 = facts_of({
    "intent": "curative", "tumour_kind": "primary", "resection": "hemipelvectomy",
    "l5_resected": "partial", "amputation_planned": True, "pedicled_femur_reach_ok": True,
    "prior_rt": "right", "stoma": "left", "internal_iliac_right_sacrificed": True,
    "internal_iliac_left_sacrificed": False, "prior_abdominal_surgery": "none", "s2_intact": False,
    "lowest_root_left": 1, "lowest_root_right": 0, "approach": "combined",
})  # fmt: skip


def test_kleene_tables():
    for a, b in itertools.product((True, False, None), repeat=2):
        both, either = conjunction((a, b)), disjunction((a, b))
        # Unknown means: some completion makes it true, another false.
        ands = {x and y for x in ([True, False] if a is None else [a])
                for y in ([True, False] if b is None else [b])}  # fmt: skip
        ors = {x or y for x in ([True, False] if a is None else [a])
               for y in ([True, False] if b is None else [b])}  # fmt: skip
        assert both == (ands.pop() if len(ands) == 1 else None)
        assert either == (ors.pop() if len(ors) == 1 else None)


def test_paper_a_typical():
    found = weigh(PAPER_A)
    assert {"R-01", "R-08", "R-09", "R-24", "R-15", "R-22", "R-23"} <= set(found.fired)
    assert not {"R-02", "R-03", "R-05", "R-06", "R-12", "R-13", "R-21", "R-25"} & set(found.fired)
    # "R-15 raised with the note: paper A, no flap"; both constructs of R-09 are shown.
    told = {(c.road, c.text) for c in found.contradictions}
    assert any(r == "flap" and "without a flap" in t for r, t in told)
    for road in ("implant_supplemented", "implant_alone"):
        assert found.road(road).of("for")
        assert any(r == road and "0 of 10" in t for r, t in told)
        assert any(r == road and "62.3" in t for r, t in told)


def test_case_1_of_paper_b():
    found = weigh(CASE_1)
    assert {"R-05", "R-07"} <= set(found.fired)
    assert found.states["R-01"] is False
    assert found.states["R-06"] is False
    assert found.road("percutaneous_s2ai").standing == "rules speak for it"


def test_case_2_of_paper_b():
    found = weigh(CASE_2)
    assert {"R-08", "R-15", "R-17", "R-18", "R-21"} <= set(found.fired)
    assert found.states["R-01"] is False
    # The source of R-15 speaks of total sacrectomy: for a hemisacrectomy it holds by analogy only.
    assert [r.analogy for r in found.road("flap").reasons if r.rule == "R-15"] == [True]
    # R-16 asks for a posterior approach alone; case 2 had an anterior stage.
    assert found.states["R-16"] is False
    assert found.road("omentum").of("for")
    assert {"R-08", "R-21"} <= {r.rule for r in found.road("hemisacral_implant").of("for")}
    # Omentum is what the case used: among flaps it comes first.
    assert found.flaps()[0].road == "omentum"


def test_case_3_of_paper_b():
    found = weigh(CASE_3)
    assert found.states["R-12"] is True
    assert found.states["R-13"] is False
    assert found.states["R-06"] is False
    assert found.states["R-17"] is True
    for road in ("vram_left", "gluteal_right"):
        assert found.road(road).standing.startswith("excluded")
    for road in ("vram_right", "gluteal_left"):
        assert not found.road(road).of("excludes")
    order = [f.road for f in found.flaps()]
    assert order[0] == "fillet"
    assert set(order[-2:]) == {"vram_left", "gluteal_right"}


def random_facts(rng):
    table = {}
    for name, d in DOMAINS.items():
        if rng.random() < 0.35:
            continue
        if d.choices:
            table[name] = d.choices[rng.integers(len(d.choices))]
        elif d.kind == "yes/no":
            table[name] = bool(rng.integers(2))
        else:
            top = min(d.upper, {"months": 24, "cm3": 4000, "days": 30}.get(d.unit, d.upper))
            value = rng.uniform(d.lower, top)
            table[name] = round(value) if d.whole else value
    return Facts(**table)


def test_ten_thousand_random_patients():
    rng = np.random.default_rng(8)
    rules = book().rules
    hit, unsettled, off, asked = set(), set(), set(), set()
    for _ in range(10_000):
        facts = random_facts(rng)
        known = facts.table()
        found = weigh(facts)
        for rule in rules:
            state = found.states[rule.id]
            {True: hit, None: unsettled, False: off}[state].add(rule.id)
            for effect in rule.effects:
                value, _ = consequence_state(rule, effect, known)
                view = found.road(effect.road)
                listed = [r for r in view.reasons if (r.rule, r.effect, r.text) ==
                          (rule.id, effect.effect, effect.text)]  # fmt: skip
                # Whatever holds is shown, whatever does not is not: so nothing can be both recommended
                # and excluded without both reasons on the page.
                assert bool(listed) == (value is True)
        for view in found.roads:
            if view.of("for", "weak") and view.of("excludes", "against"):
                assert any(c.road == view.road and "against it" in c.text
                           for c in found.contradictions)  # fmt: skip
                assert "excluded" not in view.standing or "though" in view.standing
            for change in view.changes:
                assert known[change.fact] is None
                asked.add(change.fact)
    every = {r.id for r in rules}
    assert hit == every
    assert off == every
    assert unsettled == every
    used = {n for r in rules for n in r.names}
    assert asked == used
    # No fact is asked for that no rule reads, but those that only forecast or tell.
    assert set(DOMAINS) == used


@pytest.mark.parametrize("rule", book().rules, ids=lambda r: r.id)
def test_every_rule_fires_and_says_what_each_unknown_would_change(rule):
    """From facts under which an effect holds, taking one away must name what would bring it back."""
    rng = np.random.default_rng(3)
    for effect in rule.effects:
        for _ in range(4000):
            base = {n: rng.choice(np.array([v for _, v in trials(rule, effect, n)], dtype=object))
                    for n in rule.names}  # fmt: skip
            known = {**dict.fromkeys(DOMAINS), **base}
            if consequence_state(rule, effect, known)[0] is True:
                break
        else:
            pytest.fail(f"{rule.id}: no facts were found under which {effect.text!r} holds")
        for name in rule.names:
            without = {**known, name: None}
            state, _ = consequence_state(rule, effect, without)
            if state is True:
                continue  # this fact did not matter here
            assert state is None
            told = {c.fact: c for c in changes_of(rule, effect, without)}
            assert told[name].applies_if
            assert DOMAINS[name].label in told[name].sentence


def test_unknown_facts_never_make_a_rule_hold_that_more_knowledge_refutes():
    rng = np.random.default_rng(5)
    for _ in range(400):
        facts = random_facts(rng).table()
        full = {n: v if v is not None else
                (d.choices[0] if d.choices else False if d.kind == "yes/no" else d.lower)
                for (n, v), d in zip(facts.items(), DOMAINS.values(), strict=True)}  # fmt: skip
        for rule in book().rules:
            before, after = rule.when(facts), rule.when(full)
            assert before in (None, after)
            assert after is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('resektion == "total"', "no fact 'resektion'"),
        ('resection == "all"', "never 'all'"),
        ("resection", "no yes/no fact"),
        ("age_years > 18", "a limit is written evidence"),
        ('__import__("os")', "not allowed"),
        ("infection and", "cannot be read"),
        ('age_years > evidence("NO-1.x")', "no evidence row"),
    ],
)
def test_a_wrong_condition_is_named(text, message):
    with pytest.raises(EvidenceError, match=message):
        parse(text, "rule X")


def test_a_project_default_may_not_exclude():
    text = """
[[road]]
id = "a"
title = "A"
family = "bone"
[[rule]]
id = "X"
title = "x"
when = "infection"
source = "s"
grade = "P"
flag = "P"
effects = [{ road = "a", effect = "excludes", text = "t" }]
"""
    with pytest.raises(EvidenceError, match="may warn but never exclude"):
        parse_book(text, "here")
    assert parse_book(text.replace('"P"\neff', '"V"\neff'), "here").rules


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"resektion": "total"}, "Did you mean 'resection'"),
        ({"resection": "all"}, "must be one of none, low"),
        ({"age_years": 530}, "a number from 0 to 120 years"),
        ({"infection": "perhaps"}, "true or false"),
        ({"lowest_root_left": 2.5}, "a number from 0 to 5"),
    ],
)
def test_a_wrong_fact_is_named(table, message):
    with pytest.raises(PlanError, match=message):
        facts_of(table)


def plain(text):
    text = re.sub(r"\[[0-9, –-]+\]", " ", text)
    text = text.replace("’", "'").replace("“", '"').replace("”", '"')
    return re.sub(r"\s+([.,;])", r"\1", re.sub(r"\s+", " ", text)).lower()


@pytest.mark.shared
def test_every_quoted_sentence_stands_in_its_paper(shared):
    papers = {
        "A": plain((shared / "papers" / "000_ebe82535e904768a.txt").read_text("utf-8")),
        "B": plain((shared / "papers" / "002_cdf9ecbf0924a1a7.txt").read_text("utf-8")),
    }
    quoted = [(r.id, r.paper, r.quote) for r in book().rules if r.quote]
    quoted += [(c.id, c.paper, c.quote) for r in book().rules for c in r.counter if c.quote]
    assert len(quoted) > 25
    for name, paper, quote in quoted:
        text = papers[paper or "A"]
        for part in quote.split("…"):
            assert plain(part.strip()).rstrip(".") in text, (name, part)


@pytest.mark.shared
def test_every_rule_of_the_handbook_is_there(shared):
    text = (shared / "HANDBOOK.md").read_text("utf-8")
    ids = set(re.findall(r"^\| (S?R-\d+) \|", text, re.M))
    ours = {r.id for r in book().rules}
    assert ours == ids
    assert len(ids) == 35


def test_rows_named_by_rules_exist():
    for rule in book().rules:
        for row in (*rule.rows, *(x for c in rule.counter for x in c.rows)):
            assert evidence.get(row).source
