"""Do the figures of a summary fit each other? Arithmetic only: no judgement of medicine, no repair.

A summary is a list of claims (``data/paper_a.toml`` is one). Each kind of claim has its check; what a
check cannot decide it says so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from typing import Any, Literal

from sacroplan import evidence
from sacroplan.registry.errors import RegistryError

Verdict = Literal[
    "consistent", "inconsistent", "needs definition", "undecided", "editorial", "not checkable"
]

PAPERS = {"A": "paper_a.toml", "B": "paper_b.toml"}

_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one claim."""

    id: str
    label: str
    verdict: Verdict
    reason: str

    def to_json(self) -> dict[str, str]:
        """Plain dictionary."""
        return {
            "id": self.id, "label": self.label, "verdict": self.verdict, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """Claims about ``n`` patients, and who made them."""

    title: str
    source: str
    flag: str
    n: int
    claims: tuple[Mapping[str, Any], ...]


def paper(letter: str) -> Summary:
    """The stated aggregates of paper A or B."""
    file = PAPERS.get(letter.upper())
    if file is None:
        raise RegistryError(f"There is no paper {letter!r}; there are {', '.join(PAPERS)}.")
    text = (resources.files(__package__) / "data" / file).read_text("utf-8")
    return parse(text, file)


def read(path: Path) -> Summary:
    """A summary of the user's own; raises :class:`RegistryError` naming the claim that is wrong."""
    try:
        return parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"The summary {path} cannot be read: {error}.") from error


def parse(text: str, origin: str) -> Summary:
    """The summary in a TOML text."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RegistryError(f"{origin} is not valid TOML: {error}.") from error
    n = table.get("n")
    if not isinstance(n, int) or n < 1:
        raise RegistryError(f"{origin}: n, the number of patients, must be a whole number.")
    for key in ("title", "source", "flag"):
        if not isinstance(table.get(key, ""), str):
            raise RegistryError(f"{origin}: {key} must be a text.")
    claims = table.get("claim", [])
    ids = [c.get("id") for c in claims]
    if len(set(ids)) != len(ids) or not all(isinstance(i, str) for i in ids):
        raise RegistryError(f"{origin}: every claim needs an id of its own.")
    for claim in claims:
        if claim.get("kind") not in _CHECKS:
            raise RegistryError(
                f"{origin}, claim {claim['id']}: kind {claim.get('kind')!r} is not known; known are "
                f"{', '.join(_CHECKS)}."
            )
    return Summary(
        table.get("title", ""), table.get("source", ""), table.get("flag", ""), n, tuple(claims)
    )


def check(summary: Summary) -> tuple[Finding, ...]:
    """One finding per claim, in order."""
    out: dict[str, Finding] = {}
    for claim in summary.claims:
        try:
            verdict, reason = _CHECKS[claim["kind"]](claim, int(claim.get("n", summary.n)))
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryError(
                f"Claim {claim['id']} of kind {claim['kind']!r} is incomplete: {error}."
            ) from error
        cause = out.get(claim.get("depends_on", ""))
        # One contradiction is one finding: what rests on it cannot be judged before it is solved.
        if verdict == "inconsistent" and cause is not None and cause.verdict == "inconsistent":
            verdict, reason = "undecided", f"follows from {cause.id}: {reason}"
        out[claim["id"]] = Finding(claim["id"], claim.get("label", ""), verdict, reason)
    return tuple(out.values())


def half_unit(text: str) -> float:
    """Half of the last printed decimal of a number."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def grim(mean: str, n: int, step: float = 1.0) -> bool:
    """Whether ``n`` values on a grid of ``step`` can have this mean, as far as it is printed (GRIM)."""
    low, high = float(mean) - half_unit(mean), float(mean) + half_unit(mean)
    lowest = ceil(low * n / step - _TINY)
    return lowest <= floor(high * n / step + _TINY)


def reachable(low: float, high: float, n: int) -> tuple[float, float]:
    """Range of the mean of ``n`` values when both ``low`` and ``high`` occur among them."""
    return (high + (n - 1) * low) / n, (low + (n - 1) * high) / n


def _categories(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    faults, told = [], []
    statements = claim["statements"]
    for s in statements:
        total = sum(s["counts"].values())
        words = " + ".join(f"{v} {k.replace('_', ' ')}" for k, v in s["counts"].items())
        told.append(f"{s['where']}: {words} = {total}")
        if total != n:
            faults.append(f"{s['where']}: {words} = {total}, not {n}")
    if any(s["counts"] != statements[0]["counts"] for s in statements):
        faults.append("the places differ: " + "; ".join(told))
    return ("inconsistent", "; ".join(faults)) if faults else ("consistent", "; ".join(told))


def _mean(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    mean, low, high = claim["mean"], float(claim["low"]), float(claim["high"])
    step, value = float(claim.get("step", 1.0)), float(mean)
    if not low <= value <= high:
        return "inconsistent", f"the mean {mean} is outside its own range {low:g} to {high:g}"
    if not grim(mean, n, step):
        return "inconsistent", f"no {n} values in steps of {step:g} have the mean {mean} (GRIM)"
    least, most = reachable(low, high, n)
    if not least - half_unit(mean) <= value <= most + half_unit(mean):
        return "inconsistent", (
            f"with {low:g} and {high:g} among {n} values the mean lies in {least:.4g} to {most:.4g}, "
            f"not at {mean}"
        )
    note = f"sum {value * n:g}"
    if n > 2:
        note += f"; the other {n - 2} average {(value * n - low - high) / (n - 2):.4g}"
    return "consistent", note


def _subgroup_time(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    members, mean = int(claim["members"]), str(claim["mean"])
    at_least, step = float(claim["floor"]), float(claim.get("step", 1.0))
    if not grim(mean, members, step):
        return "inconsistent", f"no {members} values in steps of {step:g} have the mean {mean}"
    top = float(mean) + half_unit(mean)
    if top < at_least:
        return "inconsistent", f"the mean {mean} is below {at_least:g}, though {claim['why_floor']}"
    latest = float(mean) * members - (members - 1) * at_least
    low, high = claim["span"]
    room = 100.0 * (latest - at_least) / (high - low)
    where = f"all {members} must lie in {at_least:g} to {latest:g}, because {claim['why_floor']}"
    if room < evidence.value("SP-REG-11", "least_room"):
        return "inconsistent", (
            f"strained: {where}; that is {room:.1f} % of the range {low:g} to {high:g} [SP-REG-11]"
        )
    return "consistent", where


def _survival(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    dead, percent = int(claim["dead_before"]), str(claim["percent"])
    raw = 100.0 * (n - dead) / n
    if abs(raw - float(percent)) > half_unit(percent) + _TINY:
        return "inconsistent", f"{n - dead}/{n} is {raw:.2f} %, not {percent} %"
    note = f"equals the raw proportion {n - dead}/{n}"
    least, latest = float(claim["least_follow_up"]), float(claim["latest_death"])
    if least < latest:
        note += (
            f"; Kaplan-Meier agrees only if nobody alive was censored between {least:g} and "
            f"{latest:g}, before the last death"
        )
    return "consistent", note


def _proportion(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    from sacroplan.registry.survival import proportion

    count = int(claim["count"])
    if not 0 <= count <= n:
        return "inconsistent", f"{count} out of {n}"
    p = proportion(count, n)
    percent = claim.get("percent")
    if percent is not None and abs(100 * p.share - float(percent)) > half_unit(percent) + _TINY:
        return "inconsistent", f"{count}/{n} is {100 * p.share:.2f} %, not {percent} %"
    return "consistent", (
        f"{count}/{n} = {100 * p.share:.1f} % ({100 * p.lower:.1f} to {100 * p.upper:.1f} %)"
    )


def _overlap(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    counts = claim["counts"]
    total, largest = sum(counts.values()), max(counts.values())
    if claim["relation"] == "disjoint":
        if total > n:
            return "inconsistent", f"{total} patients in all, of {n}"
        return "consistent", f"{total} patients in all"
    if claim["relation"] == "contained":
        return "consistent", f"{largest} patients in all"
    return "needs definition", f"{claim['question']} {largest} or {total} patients in all"


def _absence(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    against = {k.replace("_", " "): v for k, v in claim["against"].items() if v > 0}
    if not against:
        return "consistent", "nothing told speaks against it"
    if not claim["definition"]:
        told = ", ".join(f"{v} {k}" for k, v in against.items())
        return (
            "needs definition",
            f"'{claim['term']}' is not defined, yet there is {told}. {claim['question']}",
        )
    return "consistent", f"by the definition: {claim['definition']}"


def _subset(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    part, whole = claim["part"], claim["whole"]
    told = (
        f"{part['where']}: {part['count']} {part['what']}; {whole['where']}: {whole['count']} "
        f"{whole['what']}"
    )
    return ("inconsistent" if part["count"] > whole["count"] else "consistent"), told


def _disjoint(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    words = " + ".join(f"{v} {k.replace('_', ' ')}" for k, v in claim["counts"].items())
    total = sum(claim["counts"].values())
    return ("inconsistent" if total > n else "consistent"), f"{words} = {total} of {n}"


def _repeated(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    told = "; ".join(f"{s['where']}: {s['value']}" for s in claim["statements"])
    same = len({s["value"] for s in claim["statements"]}) == 1
    return ("consistent" if same else "inconsistent"), told


def _order(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    events = claim["events"]
    told = ", ".join(f"{e['what']} {e['at']:g}" for e in events) + f" {claim['unit']}"
    rising = all(a["at"] <= b["at"] for a, b in pairwise(events))
    return ("consistent" if rising else "inconsistent"), told


def _captions(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    seen: dict[str, int] = {}
    for k, text in enumerate(claim["captions"], 1):
        key = " ".join(text.lower().split())
        if key in seen:
            return "editorial", f"figure {k} has the caption of figure {seen[key]}"
        seen[key] = k
    return "consistent", f"{len(seen)} different captions"


def _note(claim: Mapping[str, Any], n: int) -> tuple[Verdict, str]:
    return "not checkable", str(claim["note"])


_CHECKS: dict[str, Callable[[Mapping[str, Any], int], tuple[Verdict, str]]] = {
    "categories": _categories,
    "mean": _mean,
    "subgroup_time": _subgroup_time,
    "survival": _survival,
    "proportion": _proportion,
    "overlap": _overlap,
    "absence": _absence,
    "subset": _subset,
    "disjoint": _disjoint,
    "repeated": _repeated,
    "order": _order,
    "captions": _captions,
    "note": _note,
}


def by_verdict(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Ids of the claims by verdict."""
    out: dict[str, list[str]] = {}
    for f in findings:
        out.setdefault(f.verdict, []).append(f.id)
    return out
