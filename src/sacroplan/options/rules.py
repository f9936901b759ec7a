"""The rule table as data: loading and checking."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any, Literal, get_args

from sacroplan import evidence
from sacroplan.errors import EvidenceError
from sacroplan.options.logic import Condition, parse

Effect = Literal["for", "weak", "against", "excludes", "note"]
EFFECTS: tuple[Effect, ...] = get_args(Effect)

Family = Literal["bone", "palliative", "flap", "notice"]


@dataclass(frozen=True)
class Road:
    """One way to go on, or one thing a rule has something to say about (family ``notice``)."""

    id: str
    title: str
    family: Family
    reconstructs: bool


@dataclass(frozen=True)
class Consequence:
    """What a rule says of a road where its own narrower condition holds as well.

    ``points`` : evidence quantity ``ROW.name`` that orders flaps [HANDBOOK 10.3], or empty.
    """

    road: str
    effect: Effect
    text: str
    when: Condition | None
    points: str

    @property
    def worth(self) -> float:
        """Points for the order of flaps, 0 without any."""
        if not self.points:
            return 0.0
        row, _, name = self.points.partition(".")
        return evidence.value(row, name)


@dataclass(frozen=True)
class Counter:
    """What speaks against a rule's own evidence."""

    id: str
    text: str
    rows: tuple[str, ...]
    quote: str
    paper: str


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes
    ----------
    when : the condition as its source states it. analogy : a wider one for which no source speaks; a
        rule that holds by analogy alone says so.
    quote : the source's sentence, "" for a project default. grade : S paper statement, E expert opinion,
        C case series, B bench or cadaver. n : patients behind it. flag : as of evidence rows.
    rows : evidence rows shown with it. counter : counter-evidence shown with it.
    """

    id: str
    title: str
    when: Condition
    analogy: Condition | None
    effects: tuple[Consequence, ...]
    quote: str
    source: str
    paper: str
    grade: str
    flag: str
    n: int | None
    rows: tuple[str, ...]
    counter: tuple[Counter, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Facts that the rule, its analogy or its effects ask for."""
        found = list(self.when.names)
        found += [] if self.analogy is None else self.analogy.names
        for e in self.effects:
            found += [] if e.when is None else e.when.names
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class RuleBook:
    """All roads and rules, in the order of their file."""

    roads: Mapping[str, Road]
    rules: tuple[Rule, ...]


_RULE_KEYS = {
    "id", "title", "when", "analogy", "effects", "quote", "source", "paper", "grade", "flag", "n",
    "rows", "counter",
}  # fmt: skip


def parse_book(text: str, origin: str) -> RuleBook:
    """Rules of a TOML text; raises :class:`EvidenceError` naming the rule that is not in order."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EvidenceError(f"{origin} is not valid TOML: {error}.") from error
    roads: dict[str, Road] = {}
    for r in table.get("road", []):
        if r["id"] in roads:
            raise EvidenceError(f"{origin}: the road {r['id']!r} is defined twice.")
        roads[r["id"]] = Road(
            r["id"], r["title"], r["family"],
            bool(r.get("reconstructs", r["family"] in ("bone", "palliative"))),
        )  # fmt: skip
    counters = {
        c["id"]: Counter(
            c["id"], c["text"], tuple(c["rows"]), c.get("quote", ""), c.get("paper", "")
        )
        for c in table.get("counter", [])
    }
    rules = tuple(_rule(r, roads, counters, origin) for r in table.get("rule", []))
    ids = [r.id for r in rules]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise EvidenceError(f"{origin}: the rule {twice[0]} is defined twice.")
    return RuleBook(roads, rules)


def _rule(
    entry: Mapping[str, Any],
    roads: Mapping[str, Road],
    counters: Mapping[str, Counter],
    origin: str,
) -> Rule:
    where = f"{origin}, rule {entry.get('id', '?')}"
    unknown = sorted(set(entry) - _RULE_KEYS)
    if unknown:
        raise EvidenceError(f"{where}: unknown key {unknown[0]!r}.")
    for key in ("id", "title", "when", "effects", "source", "grade", "flag"):
        if not entry.get(key):
            raise EvidenceError(f"{where}: {key!r} is missing.")
    if entry["flag"] not in evidence.FLAGS:
        raise EvidenceError(f"{where}: flag {entry['flag']!r} is not known.")
    effects = []
    for e in entry["effects"]:
        if e["road"] not in roads:
            raise EvidenceError(f"{where}: there is no road {e['road']!r}.")
        if e["effect"] not in EFFECTS:
            raise EvidenceError(f"{where}: the effect {e['effect']!r} is none of {EFFECTS}.")
        if e["effect"] == "excludes" and entry["flag"] not in evidence.REJECTING_FLAGS:
            raise EvidenceError(
                f"{where}: a rule of flag {entry['flag']} may warn but never exclude a road."
            )
        when = parse(e["when"], where) if "when" in e else None
        effects.append(Consequence(e["road"], e["effect"], e["text"], when, e.get("points", "")))
        effects[-1].worth  # noqa: B018 - raises where the points name no evidence
    for row in entry.get("rows", []):
        evidence.get(row)
    for name in entry.get("counter", []):
        if name not in counters:
            raise EvidenceError(f"{where}: there is no counter-evidence {name!r}.")
    return Rule(
        entry["id"], entry["title"], parse(entry["when"], where),
        parse(entry["analogy"], where) if "analogy" in entry else None,
        tuple(effects), entry.get("quote", ""), entry["source"], entry.get("paper", ""),
        entry["grade"], entry["flag"], entry.get("n"), tuple(entry.get("rows", [])),
        tuple(counters[c] for c in entry.get("counter", [])),
    )  # fmt: skip


@lru_cache(maxsize=1)
def book() -> RuleBook:
    """The shipped rules."""
    path = resources.files(__package__) / "data" / "rules.toml"
    return parse_book(path.read_text("utf-8"), "rules.toml")
