"""Which resection? All types at several margins, and those that nothing beats.

A plan is better than another when its margin is no smaller, it keeps no fewer roots, and it takes no
more sacroiliac joint and bone, with one of them truly better. What is left is shown; a person picks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sacroplan.errors import PlanError, SacroplanError
from sacroplan.geometry.frames import FloatArray
from sacroplan.progress import Progress, silent
from sacroplan.resection.plan import ResectionPlan, plan_resection
from sacroplan.resection.presets import Choice, title
from sacroplan.resection.site import Site

CANDIDATES: tuple[Choice, ...] = (
    Choice("low"),
    Choice("mid"),
    Choice("high"),
    Choice("hemi", "left"),
    Choice("hemi", "right"),
    Choice("total"),
)
"""Types that are tried; those with L5 or limb only where none of these keeps the margin."""

LARGER: tuple[Choice, ...] = (
    Choice("total", l5="whole"),
    Choice("hemi", "left", "partial"),
    Choice("hemi", "right", "partial"),
)

SHARES = (1.0, 0.5)
"""Each type is placed for the wanted margin and for half of it: what half a margin would save."""

STILL_MM = 0.05
"""Margins nearer than this are the same."""


@dataclass(frozen=True, eq=False)
class Option:
    """One way to resect: the choice, and its price.

    Attributes
    ----------
    margin_mm : least margin at any cut. roots : sacral roots kept of 10. joint_percent : sacroiliac
        joint removed, both sides summed. bone_cm3 : bone removed. best : whether nothing beats it.
    """

    choice: Choice
    margin_mm: float
    roots: float
    joint_percent: float
    bone_cm3: float
    lost: str
    best: bool = False

    @property
    def title(self) -> str:
        """Name of the type and the margin it was placed for."""
        return f"{title(self.choice)} for {self.choice.margin_mm:g} mm"

    @property
    def costs(self) -> FloatArray:
        """(4,) what is to be small: minus margin, roots lost, joint, bone."""
        return np.array([-self.margin_mm, 10.0 - self.roots, self.joint_percent, self.bone_cm3])


@dataclass(frozen=True, eq=False)
class Proposal:
    """All options, best first; ``advised`` is the index of the cheapest that keeps the margin.

    ``advised`` is None where none does; ``failed`` lists types that could not be placed, and why.
    """

    options: tuple[Option, ...]
    wanted_mm: float
    advised: int | None
    failed: tuple[tuple[str, str], ...]


def option_of(plan: ResectionPlan) -> Option:
    """The price of a plan."""
    return Option(
        plan.choice,
        min((m.minimum_mm for m in plan.margins), default=np.inf),
        plan.losses.kept_roots(),
        float(sum(plan.losses.joint_percent.values())),
        plan.specimen_mm3 / 1000.0,
        plan.losses.root_words("lost"),
    )


def propose(
    site: Site, wanted_mm: float, kerf_mm: float = 0.0, progress: Progress = silent
) -> Proposal:
    """Try every type; mark those that nothing beats; advise the one that costs least.

    Raises :class:`PlanError` without a tumour, for then nothing can be weighed.
    """
    if site.tumour is None:
        raise PlanError(
            "A resection can only be proposed for a tumour; give one under [tumour] in case.toml."
        )
    found: list[Option] = []
    failed: list[tuple[str, str]] = []
    for round_, group in enumerate((CANDIDATES, LARGER)):
        if round_ and any(o.margin_mm >= wanted_mm - STILL_MM for o in found):
            break
        jobs = [(c, s) for c in group for s in SHARES]
        for n, (choice, share) in enumerate(jobs):
            asked = replace(choice, margin_mm=share * wanted_mm, kerf_mm=kerf_mm)
            progress(n / len(jobs), title(asked))
            try:
                option = option_of(plan_resection(site, asked))
            except SacroplanError as error:
                failed.append((title(asked), str(error)))
                continue
            if not any(np.allclose(option.costs, o.costs, atol=STILL_MM) for o in found):
                found.append(option)
    if not found:
        raise PlanError(f"No type of resection can be placed: {failed[0][1]}")
    marked = [replace(o, best=best) for o, best in zip(found, undominated(found), strict=True)]
    marked.sort(key=lambda o: (not o.best, *_rank(o, wanted_mm)))
    good = [n for n, o in enumerate(marked) if o.margin_mm >= wanted_mm - STILL_MM]
    advised = min(good, key=lambda n: _rank(marked[n], wanted_mm)) if good else None
    progress(1.0, "options compared")
    return Proposal(tuple(marked), wanted_mm, advised, tuple(failed))


def _rank(option: Option, wanted_mm: float) -> tuple[float, ...]:
    """Margin kept first, then roots, joint, bone."""
    lacks = max(0.0, wanted_mm - option.margin_mm - STILL_MM)
    return lacks, -option.roots, option.joint_percent, option.bone_cm3


def undominated(options: Sequence[Option]) -> list[bool]:
    """Whether no other option is as good in everything and better in something."""
    costs = np.array([o.costs for o in options])
    # More margin than 4 cm buys nothing.
    costs[:, 0] = np.maximum(costs[:, 0], -40.0)
    no_worse = (costs[None] <= costs[:, None] + 1e-9).all(axis=2)
    better = (costs[None] < costs[:, None] - STILL_MM).any(axis=2)
    beaten = np.asarray(no_worse & better)
    return [not bool(row.any()) for row in beaten]


def picture(proposal: Proposal) -> bytes:
    """The trade-off as a PNG: margin against roots kept, bone as size, Pareto choices filled."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for n, o in enumerate(proposal.options):
        axes.scatter(
            o.margin_mm, o.roots, s=0.9 * o.bone_cm3 + 20.0, c="#2f6f8f" if o.best else "none",
            edgecolors="#2f6f8f", alpha=0.7,
        )  # fmt: skip
        axes.annotate(
            str(n + 1), (o.margin_mm, o.roots), ha="center", va="center",
            color="white" if o.best else "black", fontsize=8,
        )  # fmt: skip
    axes.axvline(proposal.wanted_mm, color="#b3274a", lw=1)
    axes.set_xlabel("least margin, mm (line: wanted)")
    axes.set_ylabel("sacral roots kept, of 10")
    axes.set_ylim(-0.8, 10.8)
    axes.set_title("Filled: nothing beats it. Size: bone removed.", fontsize=9)
    figure.tight_layout()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
