"""Facts against rules: per road the reasons for and against, exclusions, and what is still unknown.

Nothing is added up into a verdict. Flaps alone are put in an order, by the points of HANDBOOK 10.3,
and every point is shown with its rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sacroplan.options.facts import DOMAINS, Facts, Value
from sacroplan.options.logic import Condition, Truth, conjunction
from sacroplan.options.rules import Consequence, Effect, Rule, RuleBook, book

CONFLICT = frozenset({"for", "weak"}), frozenset({"against", "excludes"})
"""Effects that speak for a road, and effects that speak against it."""


@dataclass(frozen=True)
class Reason:
    """What one rule says of one road for this patient.

    ``because`` : the facts it rests on, in words. ``analogy`` : it holds beyond its source's own words.
    """

    rule: str
    road: str
    effect: Effect
    text: str
    because: str
    quote: str
    source: str
    grade: str
    flag: str
    n: int | None
    rows: tuple[str, ...]
    counter: tuple[str, ...]
    analogy: bool = False
    points: float = 0.0

    @property
    def sentence(self) -> str:
        """One line: what, which rule, how strong."""
        count = "" if self.n is None else f", n={self.n}"
        beyond = " (by analogy; its source speaks of total sacrectomy)" if self.analogy else ""
        return f"{self.text}{beyond} [{self.rule}, grade {self.grade}{count}]"


@dataclass(frozen=True)
class Change:
    """What knowing one fact would do to one rule.

    ``applies_if`` : values (in words) with which the rule, or this effect of it, would hold whatever the
    other unknown facts are; ``open_if`` : values with which it would hang on other unknown facts.
    """

    fact: str
    rule: str
    road: str
    effect: Effect
    text: str
    applies_if: tuple[str, ...]
    open_if: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What is unknown and what it would change."""
        domain = DOMAINS[self.fact]
        if self.applies_if:
            when = f"if {' or '.join(self.applies_if)}"
        else:
            when = f"if {' or '.join(self.open_if)}, and other unknown facts agree"
        words = {"for": "speaks for it", "weak": "weakly speaks for it", "against": "speaks against it",
                 "excludes": "excludes it", "note": "applies"}[self.effect]  # fmt: skip
        return f"{domain.label} is unknown: {when}, {self.rule} {words} ({self.text})"


@dataclass(frozen=True)
class RoadView:
    """One road with everything the rules say of it."""

    road: str
    title: str
    family: str
    reasons: tuple[Reason, ...]
    changes: tuple[Change, ...]

    def of(self, *effects: Effect) -> tuple[Reason, ...]:
        """Reasons of these effects."""
        return tuple(r for r in self.reasons if r.effect in effects)

    @property
    def standing(self) -> str:
        """In a word how it stands; both sides are always listed beside it."""
        speaking, opposed = self.of("for", "weak"), self.of("against")
        if self.of("excludes"):
            return "excluded, though rules speak for it" if speaking else "excluded"
        if speaking and opposed:
            return "rules speak for and against it"
        if self.of("for"):
            return "rules speak for it"
        if speaking:
            return "weakly spoken for"
        if opposed:
            return "rules speak against it"
        if self.of("note"):
            return "to be considered"
        if self.changes:
            return "hangs on unknown facts"
        return "no rule applies"

    @property
    def points(self) -> float:
        """Sum of the points of HANDBOOK 10.3, for the order of flaps only."""
        return sum(r.points for r in self.reasons)


@dataclass(frozen=True)
class Contradiction:
    """Rules or counter-evidence that speak against each other, always printed."""

    road: str
    text: str
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Weighed:
    """All roads in the order of the table; which rules hold, do not hold, or cannot be told."""

    facts: Mapping[str, Value]
    roads: tuple[RoadView, ...]
    states: Mapping[str, Truth]
    contradictions: tuple[Contradiction, ...]

    @property
    def fired(self) -> tuple[str, ...]:
        """Rules that hold."""
        return tuple(r for r, s in self.states.items() if s is True)

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Rules that hang on unknown facts."""
        return tuple(r for r, s in self.states.items() if s is None)

    def road(self, name: str) -> RoadView:
        """One road by its id."""
        return next(r for r in self.roads if r.road == name)

    def flaps(self) -> tuple[RoadView, ...]:
        """Flaps: those not excluded first, then by points, then as in the table."""
        found = [r for r in self.roads if r.family == "flap"]
        return tuple(sorted(found, key=lambda r: (bool(r.of("excludes")), -r.points)))


def state_of(rule: Rule, facts: Mapping[str, Value]) -> tuple[Truth, bool]:
    """Whether a rule holds, and whether it does so by analogy alone."""
    own = rule.when(facts)
    if own is True or rule.analogy is None:
        return own, False
    wider = rule.analogy(facts)
    if wider is True and own is False:
        return True, True
    return (None if own is None or wider is None else False), False


def consequence_state(
    rule: Rule, effect: Consequence, facts: Mapping[str, Value]
) -> tuple[Truth, bool]:
    """Whether one effect of a rule holds."""
    return _narrowed(*state_of(rule, facts), effect, facts)


def _narrowed(
    state: Truth, analogy: bool, effect: Consequence, facts: Mapping[str, Value]
) -> tuple[Truth, bool]:
    if effect.when is None or state is False:
        return state, analogy
    return conjunction((state, effect.when(facts))), analogy


def weigh(facts: Facts, rules: RuleBook | None = None) -> Weighed:
    """Apply every rule. Unknown facts stay unknown and are shown with what they would change."""
    table = rules or book()
    known = facts.table()
    reasons: dict[str, list[Reason]] = {r: [] for r in table.roads}
    changes: dict[str, list[Change]] = {r: [] for r in table.roads}
    states: dict[str, Truth] = {}
    for rule in table.rules:
        whole = state_of(rule, known)
        states[rule.id] = whole[0]
        for effect in rule.effects:
            state, analogy = _narrowed(*whole, effect, known)
            if state is True:
                reasons[effect.road].append(_reason(rule, effect, known, analogy))
            elif state is None:
                changes[effect.road] += changes_of(rule, effect, known)
    roads = tuple(
        RoadView(r.id, r.title, r.family, tuple(reasons[r.id]), tuple(changes[r.id]))
        for r in table.roads.values()
    )
    return Weighed(known, roads, states, _contradictions(roads, table))


def _reason(rule: Rule, effect: Consequence, facts: Mapping[str, Value], analogy: bool) -> Reason:
    names = list(rule.analogy.names if analogy and rule.analogy is not None else rule.when.names)
    names += [] if effect.when is None else effect.when.names
    because = "; ".join(
        f"{DOMAINS[n].label.lower()} {DOMAINS[n].words(facts[n])}"
        for n in dict.fromkeys(names)
        if facts[n] is not None
    )
    return Reason(
        rule.id, effect.road, effect.effect, effect.text, because, rule.quote, rule.source, rule.grade,
        rule.flag, rule.n, rule.rows, tuple(c.text for c in rule.counter), analogy, effect.worth,
    )  # fmt: skip


def trials(rule: Rule, effect: Consequence, name: str) -> list[tuple[str, Value]]:
    """Values of a fact that tell every case a rule distinguishes, each with its words."""
    domain = DOMAINS[name]
    if domain.choices:
        return [(c, c) for c in domain.choices]
    if domain.kind == "yes/no":
        return [("yes", True), ("no", False)]
    conditions: list[Condition] = [rule.when]
    conditions += [c for c in (rule.analogy, effect.when) if c is not None]
    limits = sorted({x for c in conditions for x in c.limits.get(name, ())})
    low, high = float(domain.lower or 0.0), float(domain.upper or 0.0)
    found: list[tuple[str, Value]] = []
    edges = [low, *limits, high]
    for n, limit in enumerate(limits):
        before = 0.5 * (edges[n] + limit)
        if before < limit:
            found.append((f"below {limit:g} {domain.unit}".rstrip(), before))
        found.append((f"{limit:g} {domain.unit}".rstrip(), limit))
    if limits and limits[-1] < high:
        found.append((f"above {limits[-1]:g} {domain.unit}".rstrip(), 0.5 * (limits[-1] + high)))
    return found


def _tidy(words: list[str]) -> tuple[str, ...]:
    """``25 %`` and ``above 25 %`` are ``25 % or more``; ``below 7`` and ``7`` are ``7 or less``."""
    out = list(words)
    for word in words:
        above, below = f"above {word}", f"below {word}"
        if above in out and below in out:
            out = [w for w in out if w not in (word, above, below)] + ["any"]
        elif word in out and above in out:
            out = [f"{word} or more" if w == word else w for w in out if w != above]
        elif word in out and below in out:
            out = [f"{word} or less" if w == word else w for w in out if w != below]
    return tuple(out)


def changes_of(rule: Rule, effect: Consequence, facts: Mapping[str, Value]) -> list[Change]:
    """For every unknown fact of a rule: with which values the effect would hold, or still hang."""
    out = []
    known = dict(facts)
    for name in rule.names:
        if facts[name] is not None:
            continue
        applies, hangs = [], []
        cases = trials(rule, effect, name)
        for words, value in cases:
            known[name] = value
            state, _ = consequence_state(rule, effect, known)
            if state is True:
                applies.append(words)
            elif state is None:
                hangs.append(words)
        known[name] = None
        # Where every value leaves it open the fact alone changes nothing.
        if applies or (hangs and len(hangs) < len(cases)):
            out.append(
                Change(
                    name, rule.id, effect.road, effect.effect, effect.text, _tidy(applies), _tidy(hangs)
                )
            )  # fmt: skip
    return out


def _contradictions(roads: tuple[RoadView, ...], table: RuleBook) -> tuple[Contradiction, ...]:
    found: dict[tuple[str, str], Contradiction] = {}
    by_id = {r.id: r for r in table.rules}
    for view in roads:
        speaking = [r for r in view.reasons if r.effect in CONFLICT[0]]
        opposed = [r for r in view.reasons if r.effect in CONFLICT[1]]
        if speaking and opposed:
            text = (
                f"{', '.join(dict.fromkeys(r.rule for r in speaking))} speak for it, "
                f"{', '.join(dict.fromkeys(r.rule for r in opposed))} against it."
            )
            found[view.road, text] = Contradiction(view.road, text, ())
        for reason in view.reasons:
            for counter in by_id[reason.rule].counter:
                key = (view.road, counter.text)
                found[key] = Contradiction(view.road, counter.text, counter.rows)
    return tuple(found.values())
