"""Which parts of a plan lie in each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import same_frame
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric, Metrics


@dataclass(frozen=True)
class Clash:
    """Two parts that share volume. ``allowed`` where that is meant, e.g. a screw in bone."""

    first: str
    second: str
    overlap_mm3: float
    allowed: bool


@dataclass(frozen=True)
class Clashes:
    """All pairs that share volume, in the order of their names, and how many were looked at."""

    rows: tuple[Clash, ...]
    pairs: int
    doubts: tuple[Doubt, ...]

    @property
    def forbidden(self) -> tuple[Clash, ...]:
        """Pairs that share more than SP-MAN-03 without leave."""
        limit = evidence.value("SP-MAN-03", "overlap")
        return tuple(c for c in self.rows if not c.allowed and c.overlap_mm3 > limit)

    def metrics(self) -> Metrics:
        """Figures under ``clash.*``."""
        out: Metrics = {
            "clash.pairs": Metric(self.pairs, "count", "Pairs of parts examined"),
            "clash.forbidden": Metric(
                len(self.forbidden), "count", "Pairs that overlap without leave", ("SP-MAN-03",),
                None, 0.0,
            ),
        }  # fmt: skip
        for c in self.rows:
            label = f"{c.first} and {c.second} share" + (" (meant)" if c.allowed else "")
            limit = None if c.allowed else evidence.value("SP-MAN-03", "overlap")
            out[f"clash.{c.first}.{c.second}.overlap_mm3"] = Metric(
                c.overlap_mm3, "mm3", label, ("SP-MAN-03",), None, limit
            )
        return out


def clashes(parts: Mapping[str, Surface], allowed: Iterable[tuple[str, str]] = ()) -> Clashes:
    """Common volume of every two ``parts`` (closed surfaces), exact where their boxes meet.

    ``allowed`` pairs (in either order) are measured but not held against the plan. Raises
    :class:`PlanError` when an allowed pair names an unknown part, :class:`GeometryError` on an open
    surface.
    """
    from sacroplan.geometry.booleans import to_manifold

    if not parts:
        return Clashes((), 0, ())
    same_frame(*parts.values())
    leave = {frozenset(pair) for pair in allowed}
    unknown = sorted({name for pair in leave for name in pair} - set(parts))
    if unknown:
        raise PlanError(
            f"An overlap is allowed for {unknown[0]!r}, which is not among the parts "
            f"{sorted(parts)}. Check the name."
        )
    names = sorted(parts)
    solids: dict[str, Any] = {}
    rows: list[Clash] = []
    doubts: list[Doubt] = []
    limit = evidence.value("SP-MAN-03", "overlap")
    for a, b in combinations(names, 2):
        (low_a, high_a), (low_b, high_b) = parts[a].bounds, parts[b].bounds
        if np.any(low_a > high_b) or np.any(low_b > high_a):
            continue
        for name in (a, b):
            if name not in solids:
                solids[name] = to_manifold(parts[name], name)
        overlap = float((solids[a] ^ solids[b]).volume())
        if overlap <= 0.0:
            continue
        row = Clash(a, b, overlap, frozenset((a, b)) in leave)
        rows.append(row)
        if not row.allowed and overlap > limit:
            doubts.append(
                Doubt(
                    "plan", "plan.clash",
                    f"{a} and {b} share {overlap:.1f} mm3, at most {limit:g} expected; "
                    "they cannot both be where they are.",
                    ("SP-MAN-03",),
                )
            )  # fmt: skip
    return Clashes(tuple(rows), len(names) * (len(names) - 1) // 2, tuple(doubts))
