"""Function to be expected of the roots that are kept: intervals over two published series [6.4].

Todd 2002 and Zoccali 2016 disagree, so both are shown and the interval spans them. Where their rows,
put side by side, would promise less for more roots kept, the interval is raised to that of the fewer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from sacroplan.resection.lost import Fate, Function, function_of

NAMES = ("bladder", "bowel", "gait")
SERIES = {"bladder": "Todd 2002, n=53; Zoccali 2016, n=244", "bowel": "Todd 2002, n=53",
          "gait": "Zoccali 2016, n=244"}  # fmt: skip

LEVELS = range(6)
"""Lowest sacral root kept: 0 none, 5 all."""


@dataclass(frozen=True)
class Forecast:
    """Patients (%) with normal function; None where no source tells.

    ``raised`` : the published rows alone would have promised less than for fewer roots.
    """

    name: str
    percent: tuple[float, float] | None
    words: str
    rows: tuple[str, ...]
    raised: bool = False


def fates(left: int, right: int) -> dict[str, Fate]:
    """Roots of both sides, kept down to S``left`` and S``right``."""
    return {
        f"S{n}_{side}": "kept" if n <= lowest else "lost"
        for side, lowest in (("left", left), ("right", right))
        for n in range(1, 6)
    }


@lru_cache(maxsize=64)
def _published(left: int, right: int) -> Mapping[str, Function]:
    return function_of(fates(left, right))


@lru_cache(maxsize=64)
def _cell(left: int, right: int) -> Mapping[str, Forecast]:
    """One pair of lowest roots: the published interval, never below that of any fewer roots."""
    out = {}
    for name in NAMES:
        own = _published(left, right)[name]
        if own.percent is None:
            out[name] = Forecast(name, None, "not verified", own.rows)
            continue
        fewer = [
            f.percent
            for a in range(left + 1)
            for b in range(right + 1)
            if (f := _published(a, b)[name]).percent is not None
        ]
        low = max(p[0] for p in fewer if p is not None)
        high = max(p[1] for p in fewer if p is not None)
        out[name] = Forecast(
            name, (low, high), SERIES[name], own.rows, (low, high) != tuple(own.percent)
        )
    return out


def forecast(left: int | None, right: int | None) -> dict[str, Forecast]:
    """Bladder, bowel and gait for the lowest sacral root kept on each side.

    An unknown side spans everything from no root to all. Gait of patients without S2 on both sides is
    not verified in either source.
    """
    cells = [
        _cell(a, b)
        for a in (LEVELS if left is None else (left,))
        for b in (LEVELS if right is None else (right,))
    ]
    out = {}
    for name in NAMES:
        found = [c[name] for c in cells]
        spans = [f.percent for f in found if f.percent is not None]
        rows = tuple(dict.fromkeys(r for f in found for r in f.rows))
        if len(spans) < len(found):
            out[name] = Forecast(name, None, "not verified", rows)
        else:
            out[name] = Forecast(
                name, (min(s[0] for s in spans), max(s[1] for s in spans)), SERIES[name], rows,
                any(f.raised for f in found),
            )  # fmt: skip
    return out


def lowest_roots(roots: Mapping[str, Fate]) -> dict[str, tuple[int | None, int | None]]:
    """Per side the lowest sacral root kept, with roots at risk counted as lost and as kept.

    None where a root of the run is unknown.
    """
    out: dict[str, tuple[int | None, int | None]] = {}
    for side in ("left", "right"):
        ends: list[int | None] = []
        for good in (("kept",), ("kept", "at risk")):
            n: int | None = 0
            for level in range(1, 6):
                fate = roots.get(f"S{level}_{side}", "unknown")
                if fate == "unknown":
                    n = None
                    break
                if fate not in good:
                    break
                n = level
            ends.append(n)
        out[side] = (ends[0], ends[1])
    return out
