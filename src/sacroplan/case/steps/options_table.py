"""The outcome of the options stage as plain data and as lines of text."""

from __future__ import annotations

from typing import Any

from sacroplan.case.steps.options import Options
from sacroplan.options.facts import DOMAINS
from sacroplan.options.weigh import RoadView

NOTICE = (
    "No score decides: every rule that holds is shown with its source, and every unknown fact with what it "
    "would change. The clinician chooses."
)


def table_of(options: Options, case_id: str) -> dict[str, Any]:
    """Everything that the rules say, as plain data."""
    weighed = options.weighed
    return {
        "case": case_id,
        "notice": NOTICE,
        "facts": {
            name: {
                "value": weighed.facts[name], "from": options.source[name],
                "label": DOMAINS[name].label,
            }
            for name in DOMAINS
        },
        "rules": {
            name: {True: "holds", False: "does not hold", None: "hangs on unknown facts"}[state]
            for name, state in weighed.states.items()
        },
        "roads": [_road(view) for view in weighed.roads],
        "flaps_in_order": [f.road for f in weighed.flaps()],
        "contradictions": [
            {"road": c.road, "text": c.text, "rows": list(c.rows)} for c in weighed.contradictions
        ],
        "function": {
            name: {
                "percent": None if f.percent is None else list(f.percent), "sources": f.words,
                "rows": list(f.rows), "raised": f.raised,
            }
            for name, f in options.forecast.items()
        },
        "side_by_side": [
            {
                "road": r.road, "title": r.title, "standing": r.standing, "rules_for": r.rules_for,
                "rules_against": r.rules_against, "unknown": r.unknown, "planned": r.planned,
                "dead_space": r.space, "operating_time": r.operating_time,
                "blood_loss": r.blood_loss, "failures": r.failures, "bench": r.bench,
                "lead_time": r.lead_time, "rows": list(r.rows),
            }
            for r in options.rows
        ],
        "flaps": [
            {
                "flap": f.flap, "title": f.title, "needed_mm": f.needed_mm,
                "reach_mm": None if f.reach_mm is None else list(f.reach_mm), "reaches": f.reaches,
                "area_cm2": None if f.area_cm2 is None else list(f.area_cm2),
                "area_needed_cm2": f.area_needed_cm2, "covers": f.covers,
                "volume_cm3": None if f.volume_cm3 is None else list(f.volume_cm3),
                "volume_needed_cm3": f.volume_needed_cm3, "fills": f.fills, "row": f.row,
            }
            for f in options.flaps
        ],
        "not_planned": dict(options.why),
    }  # fmt: skip


def _road(view: RoadView) -> dict[str, Any]:
    return {
        "road": view.road, "title": view.title, "family": view.family, "standing": view.standing,
        "points": view.points,
        "reasons": [
            {
                "rule": r.rule, "effect": r.effect, "text": r.text, "because": r.because,
                "quote": r.quote, "source": r.source, "grade": r.grade, "flag": r.flag, "n": r.n,
                "rows": list(r.rows), "counter_evidence": list(r.counter), "by_analogy": r.analogy,
                "points": r.points,
            }
            for r in view.reasons
        ],
        "unknown": [
            {
                "fact": c.fact, "rule": c.rule, "effect": c.effect, "text": c.text,
                "applies_if": list(c.applies_if), "open_if": list(c.open_if),
            }
            for c in view.changes
        ],
    }  # fmt: skip


def lines_of(table: dict[str, Any]) -> list[str]:
    """The table as text for a terminal."""
    out = []
    for road in table["roads"]:
        if not road["reasons"]:
            continue
        out.append(f"{road['title']}: {road['standing']}")
        mark = {"for": "+", "weak": "(+)", "against": "-", "excludes": "x", "note": "*"}
        for r in road["reasons"]:
            out.append(
                f"  {mark[r['effect']]:>3s} {r['text']} [{r['rule']}, {r['grade']}; {r['source']}]"
            )
    if table["contradictions"]:
        out.append("What speaks against each other:")
        titles = {r["road"]: r["title"] for r in table["roads"]}
        out += [f"  {titles[c['road']]}: {c['text']}" for c in table["contradictions"]]
    for name, f in table["function"].items():
        span = f["percent"]
        if span is None:
            out.append(f"Function, {name}: not verified by any source for these roots")
            continue
        words = f"{span[0]:g}" if span[0] == span[1] else f"{span[0]:g} to {span[1]:g}"
        out.append(f"Function, {name}: normal in {words} % ({f['sources']})")
    facts = table["facts"]
    unknown: dict[str, list[str]] = {}
    for road in table["roads"]:
        for c in road["unknown"]:
            rules = unknown.setdefault(facts[c["fact"]]["label"], [])
            if c["rule"] not in rules:
                rules.append(c["rule"])
    if unknown:
        out.append("Unknown, and the rules that hang on it (answer under [facts] in case.toml):")
        out += [f"  {label}: {', '.join(rules)}" for label, rules in unknown.items()]
    out.append(table["notice"])
    return out
