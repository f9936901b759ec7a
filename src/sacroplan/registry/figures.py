"""The report's figures as SVG: same data, same bytes, and every curve with its numbers at risk."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sacroplan.registry.cohort import Cohort
from sacroplan.registry.survival import Curve

COLOURS = ("#1f5a96", "#b5482a", "#3c7d3f", "#7a4a9c")
WRONG = "#9aa3ad"
MOST_LANES = 60
"""A swimmer plot with more lanes cannot be read; evenly chosen patients stand for all."""


def _figure(width: float, height: float, rows: Sequence[float] = (1,)) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    grid = figure.add_gridspec(len(rows), 1, height_ratios=list(rows))
    axes = [figure.add_subplot(grid[n]) for n in range(len(rows))]
    for a in axes:
        a.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> bytes:
    import matplotlib

    out = io.BytesIO()
    # Identifiers inside the file come from this salt, otherwise from the clock.
    with matplotlib.rc_context({"svg.hashsalt": "sacroplan", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "sacroplan"})
    return out.getvalue()


def _ticks(longest: float) -> list[float]:
    step = next(s for s in (3, 6, 12, 24, 36, 60, 120, 240) if longest / s <= 8)
    return [float(t) for t in range(0, int(longest) + 1, step)]


def _draw(
    a: Any, curve: Curve, colour: str, label: str, band: bool = True, dashes: str = "-"
) -> None:
    a.step(curve.times, 100 * curve.estimate, where="post", color=colour, label=label,
           linestyle=dashes, linewidth=1.6)  # fmt: skip
    if band:
        a.fill_between(curve.times, 100 * curve.lower, 100 * curve.upper, step="post", color=colour,
                       alpha=0.15, linewidth=0)  # fmt: skip


def _risk(a: Any, curves: Mapping[str, Curve], ticks: Sequence[float]) -> None:
    a.axis("off")
    a.set_xlim(0, 1)
    lines = list(curves.items())
    a.set_ylim(-0.6, len(lines) + 0.4)
    a.text(-0.04, len(lines) - 0.1, "at risk", fontsize=8, ha="right", fontweight="bold",
           transform=a.get_yaxis_transform())  # fmt: skip
    for k, (name, curve) in enumerate(lines):
        y = len(lines) - 1 - k
        a.text(
            -0.04, y, name, fontsize=8, ha="right", va="center", transform=a.get_yaxis_transform()
        )
        for t, n in zip(ticks, curve.risk_at(ticks), strict=True):
            a.text(t, y, f"{n}", fontsize=8, ha="center", va="center")


def curves(
    shown: Mapping[str, Curve], ylabel: str, naive: Mapping[str, Curve] | None = None
) -> bytes:
    """Step curves with their intervals and numbers at risk; ``naive`` ones are dashed and named wrong."""
    longest = max(c.times[-1] for c in shown.values())
    ticks = _ticks(longest)
    figure, (a, risk) = _figure(6.8, 4.0 + 0.18 * len(shown), (5, 0.6 + 0.3 * len(shown)))
    for k, (name, curve) in enumerate(shown.items()):
        _draw(a, curve, COLOURS[k % len(COLOURS)], name)
    for name, curve in (naive or {}).items():
        _draw(a, curve, WRONG, f"{name}: 1 - Kaplan-Meier, wrong here", False, "--")
    a.set_ylim(0, 102)
    a.set_xlim(0, longest * 1.02 + 0.1)
    a.set_xticks(ticks)
    a.set_xlabel("months after operation")
    a.set_ylabel(ylabel)
    a.legend(fontsize=8, frameon=False, loc="best")
    a.grid(axis="y", color="#e3e7ec", linewidth=0.6)
    _risk(risk, shown, ticks)
    risk.set_xlim(a.get_xlim())
    return _svg(figure)


MARKS = {
    "local_recurrence": ("local recurrence", "D", COLOURS[1]),
    "metastasis": ("metastasis", "s", COLOURS[3]),
    "implant_removal": ("implant removed", "v", COLOURS[2]),
    "death": ("death", "X", "#111111"),
}


def swimmer(cohort: Cohort) -> tuple[bytes, int]:
    """One lane per patient from operation to last contact, longest on top; lanes drawn."""
    order = np.argsort(-cohort.follow_up, kind="stable")
    if len(order) > MOST_LANES:
        order = order[np.linspace(0, len(order) - 1, MOST_LANES).astype(int)]
    n = len(order)
    figure, (a,) = _figure(6.8, 1.2 + 0.13 * max(n, 8))
    y = np.arange(n)[::-1]
    length = cohort.follow_up[order]
    a.barh(y, length, color="#c9d6e4", height=0.7)
    alive = ~cohort.dead[order]
    a.plot(
        length[alive], y[alive], ">", color="#5d7691", markersize=3.5, label="alive at last contact"
    )
    for kind, (label, mark, colour) in MARKS.items():
        at = cohort.months[kind][order]
        seen = np.isfinite(at)
        if seen.any():
            a.plot(at[seen], y[seen], mark, color=colour, markersize=4.5, label=label)
    a.set_yticks([])
    a.set_ylabel(f"{n} patients")
    a.set_xlim(0, None)
    a.set_xlabel("months after operation")
    a.legend(fontsize=8, frameon=False, loc="lower right")
    return _svg(figure), n


def over_time(series: Mapping[str, Sequence[tuple[int, int, float, float, float]]]) -> bytes:
    """Median and quartiles of each instrument by month of the calendar, with the number of answers."""
    figure, axes = _figure(6.8, 2.2 * len(series) + 0.4, [1] * len(series))
    for k, (a, (name, rows)) in enumerate(zip(axes, series.items(), strict=True)):
        month = np.array([r[0] for r in rows])
        low, middle, high = (np.array([r[j] for r in rows]) for j in (2, 3, 4))
        a.errorbar(month, middle, yerr=[middle - low, high - middle], fmt="o-", capsize=3,
                   color=COLOURS[k % len(COLOURS)], linewidth=1.4, markersize=4)  # fmt: skip
        top = float(high.max())
        for m, h, n in zip(month, high, [r[1] for r in rows], strict=True):
            a.annotate(f"{n}", (m, h), textcoords="offset points", xytext=(0, 4), ha="center",
                       fontsize=7, color="#566577")  # fmt: skip
        a.set_ylim(0, max(1.0, 1.18 * top))
        a.set_ylabel(name)
        a.set_xticks(month)
        a.grid(axis="y", color="#e3e7ec", linewidth=0.6)
    axes[-1].set_xlabel("months after operation")
    return _svg(figure)


def bars(rows: Sequence[tuple[str, float, float, float]], xlabel: str) -> bytes:
    """Shares (per cent) with their exact intervals."""
    figure, (a,) = _figure(6.8, 1.1 + 0.3 * len(rows))
    y = np.arange(len(rows))[::-1]
    share, low, high = (np.array([r[j] for r in rows]) for j in (1, 2, 3))
    a.barh(y, share, color="#9db7d1", height=0.6)
    a.errorbar(share, y, xerr=[share - low, high - share], fmt="none", ecolor="#1d2a38", capsize=3,
               linewidth=1)  # fmt: skip
    a.set_yticks(y, [r[0] for r in rows])
    a.set_xlim(0, max(5.0, 1.05 * float(high.max())))
    a.set_xlabel(xlabel)
    return _svg(figure)
