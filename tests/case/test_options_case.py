"""Facts of a plan, facts of case.toml, and what a terminal and the dossier are told."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from sacroplan.case import store
from sacroplan.case.config import parse_config
from sacroplan.case.steps.options import Options, forecast_of, metrics_of, run_construct
from sacroplan.case.steps.options_facts import measured_facts, merged
from sacroplan.case.steps.options_table import lines_of, table_of
from sacroplan.errors import CaseError
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.options.facts import DOMAINS
from sacroplan.resection.presets import Choice

BASE = '[case]\nid = "a"\n[input]\nct = "ct"\n'
ORIGIN = AxisFrame("o", np.zeros(3), np.eye(3))


def plan_of(kind, side=None, roots=None, **more):
    """What measuring reads of a resection plan."""
    roots = roots or {f"S{n}_{s}": "kept" for n in range(1, 6) for s in ("left", "right")}
    losses = {
        "joint_percent": {"left": 0.0, "right": 0.0}, "roots": roots, "l5_percent": 0.0,
        "ligaments": {"iliolumbar_left": "kept", "iliolumbar_right": "kept"},
        "s1_line": {"left": "caudal: kept", "right": "caudal: kept"},
    } | more.pop("losses", {})  # fmt: skip
    return SimpleNamespace(
        kind=kind, choice=Choice(kind, side), losses=SimpleNamespace(**losses),
        specimen={"sacrum": box(ORIGIN, [-20, -20, -20], [20, 20, 20])},
        remnants=more.pop("remnants", {"sacrum": None}),
    )  # fmt: skip


def test_a_total_sacrectomy_keeps_no_sacral_root_even_where_foramina_are_unknown():
    plan = plan_of("total", roots={}, losses={"joint_percent": {"left": 100.0, "right": 100.0}})
    facts = measured_facts(plan, None, {}, 500.0)
    assert facts["lowest_root_left"] == facts["lowest_root_right"] == 0
    assert facts["cut_above_s1_foramina"] is True
    assert facts["s2_intact"] is False
    assert facts["sij_left_percent"] == 100.0
    assert facts["defect_volume_cm3"] == 500.0
    assert facts["amputation_planned"] is False
    # No vessel mask and no tumour: unknown, not no.
    assert "internal_iliac_left_sacrificed" not in facts
    assert "tumour_volume_cm3" not in facts


@pytest.mark.parametrize(
    ("left", "right", "word"),
    [("lost", "lost", "none"), ("kept", "lost", "partial"), ("kept", "kept", "full"),
     ("unknown", "lost", None), ("at risk", "kept", None)],
)  # fmt: skip
def test_iliolumbar_stability_by_side(left, right, word):
    ligaments = {"iliolumbar_left": left, "iliolumbar_right": right}
    facts = measured_facts(plan_of("high", losses={"ligaments": ligaments}), None, {}, None)
    assert facts.get("iliolumbar") == word


def test_a_root_at_risk_counts_as_lost_for_the_rules_and_both_ways_in_the_forecast():
    roots = {
        f"S{n}_{s}": "kept" if n < 3 else "lost" for n in range(1, 6) for s in ("left", "right")
    }
    roots["S3_left"] = "at risk"
    plan = plan_of("mid", roots=roots)
    facts = measured_facts(plan, None, {}, None)
    assert (facts["lowest_root_left"], facts["lowest_root_right"]) == (2, 2)
    found = forecast_of(plan)["bladder"].percent
    # Both S2 at least (25 %), one S3 at most (72.7 %).
    assert found == pytest.approx((25.0, 72.7))


def test_a_hemisacrectomy_leaves_the_other_s1_and_a_gap_in_the_ring():
    facts = measured_facts(plan_of("hemi", "right"), None, {}, None)
    assert facts["contralateral_s1_kept"] is True
    assert facts["ring_gap_supraacetabular"] is True
    pelvectomy = measured_facts(plan_of("hemipelvectomy", "right"), None, {}, None)
    assert pelvectomy["amputation_planned"] is True
    assert pelvectomy["ring_gap_supraacetabular"] is False


def test_a_vessel_mask_tells_whether_it_is_cut():
    through = box(ORIGIN, [10, -3, -3], [60, 3, 3])
    beside = box(ORIGIN, [30, -3, -3], [60, 3, 3])
    facts = measured_facts(
        plan_of("high"),
        None,
        {"internal_iliac_left": through, "internal_iliac_right": beside},
        None,
    )
    assert facts["internal_iliac_left_sacrificed"] is True
    assert facts["internal_iliac_right_sacrificed"] is False


def test_what_people_say_replaces_what_was_measured_aloud():
    facts, source, doubts = merged(
        {"iliolumbar": "full", "sij_left_percent": 30.0, "resection": "high"},
        {"iliolumbar": "none", "sij_left_percent": 30.4, "age_years": 40},
    )
    assert facts.iliolumbar == "none"
    assert source["iliolumbar"] == source["age_years"] == "case.toml"
    assert source["resection"] == "measured"
    assert source["infection"] == "unknown"
    # 0.4 % of a joint is no disagreement.
    assert [d.code for d in doubts] == ["options.facts.iliolumbar"]
    assert "says none, the plan measures full" in doubts[0].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[facts]\nintend = "curative"\n', "Did you mean 'intent'"),
        ('[facts]\nintent = "cure"\n', "one of curative, palliative"),
        ("[facts]\nage_years = 400\n", "0 to 120 years"),
        ("[facts]\ninfection = 1.5\n", "true or false"),
        ("[grafts]\nstruts_per_side = 3\n", "struts_per_side"),
        ('[grafts]\nfemur = "mine.stl"\n', "femur"),
    ],
)
def test_wrong_facts_and_grafts_are_named(text, message):
    with pytest.raises(CaseError, match=message):
        parse_config(BASE + text, "case.toml")


def construct_options(missing=()):
    plans = [SimpleNamespace(screw=SimpleNamespace(kind=k)) for k in ("pedicle", "s2ai")]
    construct = SimpleNamespace(
        name="L4-L5-S2AI", plans=plans, missing=dict.fromkeys(missing, "no")
    )
    config = parse_config(
        BASE + '[facts]\nintent = "palliative"\nprognosis_months = 5\ntumour_kind = "metastatic"\n'
        'lumbosacral_destruction = true\ns2_intact = true\nprior_rt = "both"\n', "case.toml",
    )  # fmt: skip
    return run_construct(SimpleNamespace(config=config, result=lambda _: construct))


def test_a_palliative_construct_is_weighed_without_a_resection():
    out = construct_options()
    options = out.result
    assert {"R-05", "R-07"} <= set(options.weighed.fired)
    assert options.weighed.states["R-06"] is False
    lost = construct_options(["S2AI_left"]).result
    assert lost.weighed.facts["s2ai_feasible"] is False
    assert "R-06" in lost.weighed.fired
    view = lost.weighed.road("percutaneous_s2ai")
    assert view.standing == "excluded, though rules speak for it"
    assert out.metrics["options.road.percutaneous_s2ai"].value == "rules speak for it"


def test_the_table_keeps_every_reason_and_goes_through_the_store(tmp_path):
    out = construct_options()
    options = out.result
    store.dump(options, tmp_path)
    back = store.load(tmp_path)
    assert isinstance(back, Options)
    assert back.weighed == options.weighed
    table = table_of(options, "a")
    assert json.loads(json.dumps(table)) == table
    assert set(table["facts"]) == set(DOMAINS)
    assert table["rules"]["R-05"] == "holds"
    assert table["rules"]["R-10"] == "does not hold"
    lines = lines_of(table)
    text = "\n".join(lines)
    assert "R-05" in text
    assert "Prognosis" not in text.split("Unknown, and the rules")[1]
    assert "Active infection: R-25" in text
    assert table["notice"] == lines[-1]
    assert metrics_of(options).keys() == out.metrics.keys()


def test_report_tables_show_reason_contradiction_and_unknown():
    from sacroplan.report.options import tables_of

    options = construct_options(["S2AI_left"]).result
    tables = {t.title.split(";")[0]: t for t in tables_of(options, {})}
    assert "Reasons" in tables
    assert any(row[2] == "R-06" and row[1] == "excludes" for row in tables["Reasons"].rows)
    rules = {row[0]: row for row in tables["Rules in their sources' words"].rows}
    assert "placing S2AI screws was not feasible" in rules["R-06"][3]
    assert rules["R-06"][4] == "C, n=2 [S-B]"
    assert rules["R-25"][1] == "hangs on unknown facts"
    assert "R-01" not in rules
    assert any("R-05" in row[1] and "R-06" in row[1]
               for row in tables["What speaks against each other"].rows)  # fmt: skip
    unknown = {r[0]: r[2] for r in tables["Unknown facts and what they would change"].rows}
    assert unknown["Active infection"] == "if yes: R-25"
    # Nothing is resected, so no rule on what a resection leaves hangs on bone quality.
    assert "Bone quality" not in unknown
