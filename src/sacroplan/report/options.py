"""The options' chapter: roads side by side, reasons, contradictions, what is unknown, flaps, function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sacroplan.case.steps.options import Options
from sacroplan.case.steps.options_table import NOTICE
from sacroplan.options.facts import DOMAINS
from sacroplan.options.rules import book
from sacroplan.report.model import ScenePart, Section, Table, View

STRUT = "#d9b38c"
FEMUR = "#cfa97a"
SPACE = "#7f9fbf"

MARKS = {
    "for": "for",
    "weak": "weakly for",
    "against": "against",
    "excludes": "excludes",
    "note": "note",
}


def text_of(options: Options) -> tuple[str, ...]:
    """What the chapter is and is not."""
    return (
        NOTICE,
        *(
            why
            for name, why in sorted(options.why.items())
            if name.startswith(("back", "cover_", "saw_", "skin"))
        ),
    )


def without_words(section: Section) -> Section:
    """The chapter with numbers only in its list of figures: words and function stand in its tables."""
    kept = {
        name: m for name, m in section.figures.items()
        if m.unit != "text" and not name.startswith("options.")
    }  # fmt: skip
    return replace(section, figures=kept)


def tables_of(options: Options, stiffness: Mapping[str, str]) -> tuple[Table, ...]:
    """All tables of the chapter; ``stiffness`` is a road's figure of the finite elements, if any."""
    found = [side_by_side(options, stiffness), series_table(options), reasons(options)]
    if options.weighed.contradictions:
        found.append(contradictions(options))
    found += [sources(options), unknowns(options), facts(options)]
    if options.flaps:
        found.append(flaps(options))
    if options.forecast:
        found.append(function(options))
    return tuple(t for t in found if t.rows)


def side_by_side(options: Options, stiffness: Mapping[str, str]) -> Table:
    """One row a road: what the rules say and what was planned."""
    rows = tuple(
        (
            r.title, r.standing, r.rules_for, r.rules_against, r.planned,
            stiffness.get(r.road, "not computed"), r.space, r.lead_time,
        )
        for r in options.rows
    )  # fmt: skip
    return Table(
        "Roads side by side: rules, and what was planned here",
        ("Road", "Standing", "For", "Against", "Planned here", "Stiffness (LC-01)", "Dead space left",
         "Lead time"),
        rows,
    )  # fmt: skip


def series_table(options: Options) -> Table:
    """One row a road: published figures."""
    rows = tuple(
        (r.title, r.operating_time, r.blood_loss, r.failures, r.bench, ", ".join(r.rows) or "-")
        for r in options.rows
    )
    return Table(
        "Roads side by side: published figures, unadjusted; they rank nothing",
        ("Road", "Operating time", "Blood loss", "Hardware failures (95 % interval)",
         "Stability on the bench or in a model", "Rows"),
        rows,
    )  # fmt: skip


def reasons(options: Options) -> Table:
    """Every rule that holds, by road."""
    rows = []
    for view in options.weighed.roads:
        for r in view.reasons:
            beyond = " (by analogy)" if r.analogy else ""
            rows.append((view.title, MARKS[r.effect], r.rule, f"{r.text}{beyond}", r.because))
    return Table("Reasons", ("Road", "Speaks", "Rule", "What it says", "Because"), tuple(rows))


def sources(options: Options) -> Table:
    """The sentence, source and grade of every rule that holds or hangs on unknown facts."""
    rows = []
    for rule in book().rules:
        state = options.weighed.states[rule.id]
        if state is False:
            continue
        count = "" if rule.n is None else f", n={rule.n}"
        quote = f'"{rule.quote}" ' if rule.quote else ""
        rows.append(
            (
                rule.id, "holds" if state else "hangs on unknown facts", rule.title,
                f"{quote}{rule.source}", f"{rule.grade}{count} [{rule.flag}]",
            )
        )  # fmt: skip
    return Table(
        "Rules in their sources' words", ("Rule", "", "If", "Source sentence", "Grade"), tuple(rows)
    )


def contradictions(options: Options) -> Table:
    """Rules and evidence against each other."""
    titles = {v.road: v.title for v in options.weighed.roads}
    by_text: dict[str, list[str]] = {}
    rows_of: dict[str, tuple[str, ...]] = {}
    for c in options.weighed.contradictions:
        by_text.setdefault(c.text, []).append(titles[c.road])
        rows_of[c.text] = c.rows
    return Table(
        "What speaks against each other",
        ("Roads", "Counter-evidence", "Rows"),
        tuple(
            (", ".join(roads), text, ", ".join(rows_of[text])) for text, roads in by_text.items()
        ),
    )


def unknowns(options: Options) -> Table:
    """Facts that are unknown and which rules knowing them would settle."""
    found: dict[str, dict[str, list[str]]] = {}
    for view in options.weighed.roads:
        for c in view.changes:
            words = "if " + " or ".join(c.applies_if or c.open_if)
            words += "" if c.applies_if else " and other unknown facts agree"
            rules = found.setdefault(c.fact, {}).setdefault(words, [])
            if c.rule not in rules:
                rules.append(c.rule)
    return Table(
        "Unknown facts and what they would change",
        ("Fact", "Question", "Rules that would hold"),
        tuple(
            (
                DOMAINS[name].label, DOMAINS[name].question,
                "; ".join(f"{words}: {', '.join(rules)}" for words, rules in cases.items()),
            )
            for name, cases in found.items()
        ),
    )  # fmt: skip


def facts(options: Options) -> Table:
    """Known facts and where they come from."""
    known = options.weighed.facts
    return Table(
        "Facts",
        ("Fact", "Value", "From"),
        tuple(
            (d.label, d.words(known[name]), options.source[name])
            for name, d in DOMAINS.items()
            if known[name] is not None
        ),
    )


def _span(values: tuple[float, float] | None, unit: str) -> str:
    if values is None:
        return "unknown"
    low, high = values
    return f"{low:.0f} {unit}" if low == high else f"{low:.0f} to {high:.0f} {unit}"


def flaps(options: Options) -> Table:
    """Flaps in the order of the rules, excluded ones last, each with supply against need."""
    views = {f.flap: f for f in options.flaps}
    rows = []
    for road in options.weighed.flaps():
        f = views.get(road.road)
        if f is None:
            continue
        points = "; ".join(f"{r.points:+g} {r.rule}" for r in road.reasons if r.points) or "-"
        out = "; ".join(f"{r.text} [{r.rule}]" for r in road.of("excludes")) or "-"
        need = "unknown" if f.needed_mm is None else f"{f.needed_mm:.0f} mm"
        rows.append(
            (
                f.title, road.standing, points, out,
                f"{need}, has {_span(f.reach_mm, 'mm')}: {f.reaches}",
                f"{f.area_needed_cm2:.0f} cm2, has {_span(f.area_cm2, 'cm2')}: {f.covers}",
                f"{f.volume_needed_cm3:.0f} cm3, has {_span(f.volume_cm3, 'cm3')}: {f.fills}",
                f.row,
            )
        )  # fmt: skip
    return Table(
        "Flaps, in the order of the rules' points; excluded ones last",
        ("Flap", "Standing", "Points", "Excluded by", "Reach", "Area", "Volume", "Row"),
        tuple(rows),
    )


def function(options: Options) -> Table:
    """Function by the roots kept; the same for every road of one resection."""
    rows = []
    for name, f in options.forecast.items():
        words = "not verified"
        if f.percent is not None:
            low, high = f.percent
            words = f"{low:g} %" if low == high else f"{low:g} to {high:g} %"
        note = "raised to what fewer roots gave" if f.raised else ""
        rows.append((name.capitalize(), words, f.words, note))
    return Table(
        "Function to be expected, by the roots this resection keeps",
        ("", "Patients with normal function", "Sources", ""),
        tuple(rows),
    )


def parts_of(options: Options) -> Iterable[ScenePart]:
    """Grafts and dead space for the scene, switched off at first."""
    if options.fibula is not None:
        for s in options.fibula.segments:
            what = s.way.name.replace("_", " ")
            yield ScenePart(
                f"strut_{s.way.name}", f"Fibula strut, {what}", "fibula struts", s.surface, STRUT,
                visible=False, note=f"{s.length_mm:.0f} mm, {s.angle_deg:.0f} degrees off the load line",
            )  # fmt: skip
    if options.femur is not None:
        yield ScenePart(
            "turned_femur", "Femur turned into the pelvis", "turned femur", options.femur.surface,
            FEMUR, visible=False,
        )  # fmt: skip
    space = options.spaces.get("bare")
    if space is not None and space.surface is not None:
        yield ScenePart(
            "dead_space", "Dead space, nothing put back", "dead space", space.surface, SPACE,
            opacity=0.45, visible=False,
        )  # fmt: skip


def views_of(options: Options, bones: tuple[str, ...], metal: tuple[str, ...]) -> tuple[View, ...]:
    """The roads as a row of pictures, all from the front: empty, implant, struts, femur, dead space."""
    row: list[tuple[str, str, tuple[str, ...]]] = [("none", "Nothing put back", ())]
    if metal:
        row.append(("implant", "Printed implant", metal))
    if options.fibula is not None:
        row.append(("fibula", "Struts of fibula", ("fibula struts",)))
    if options.femur is not None:
        row.append(("femur", "Turned femur", ("turned femur",)))
    if options.spaces:
        row.append(("space", "Dead space", ("dead space",)))
    return tuple(
        View(f"options-{name}", title, "front", (*bones, *groups)) for name, title, groups in row
    )
