"""The resection's tables and margin maps."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from sacroplan.report.model import Picture, Table
from sacroplan.resection.execution import LIMITS_MM, Execution
from sacroplan.resection.lost import LIGAMENTS, ROOTS
from sacroplan.resection.plan import SIDES, ResectionPlan

RANGE_MM = 30.0
"""Margins are drawn in colour up to this distance; further away nothing is at stake."""


def loss_table(plan: ResectionPlan) -> Table:
    """Joints, roots and ligaments by side, as the dossier's table."""
    lost = plan.losses
    rows = [
        (
            "Sacroiliac joint removed",
            *(
                f"{lost.joint_percent[s]:.0f} %" if s in lost.joint_percent else "unknown"
                for s in SIDES
            ),
        ),
        ("Cut against the S1 foramen", *(lost.s1_line[s] for s in SIDES)),
    ]
    rows += [(f"Root {root}", *(lost.roots[f"{root}_{s}"] for s in SIDES)) for root in ROOTS]
    rows += [
        (f"{name.capitalize()} ligament", *(lost.ligaments[f"{name}_{s}"] for s in SIDES))
        for name in LIGAMENTS
    ]
    return Table("What is lost", ("", "Left", "Right"), tuple(rows))


def vessel_table(plan: ResectionPlan) -> tuple[Table, ...]:
    """Vessels near a cut, nearest first; nothing where none of those that were given is."""
    near = sorted(plan.losses.vessels.items(), key=lambda item: item[1])
    rows = tuple(
        (
            pair.split(".", 1)[0].replace("_", " "), pair.split(".", 1)[1].replace("_", " "),
            f"{mm:.1f} mm" if mm >= 0.0 else "met by the saw",
        )
        for pair, mm in near
    )  # fmt: skip
    return (Table("Vessels near a cut", ("Vessel", "Cut", "Least distance"), rows),) if rows else ()


def function_table(plan: ResectionPlan) -> Table:
    """Function to be expected of the roots that are kept, with its sources."""
    rows = []
    for name, function in plan.losses.function.items():
        span = function.percent
        words = "not verified"
        if span is not None:
            words = f"{span[0]:g} %" if span[0] == span[1] else f"{span[0]:g} to {span[1]:g} %"
        rows.append((name.capitalize(), words, function.words))
    return Table(
        "Function by the roots kept", ("", "Patients with normal function", "Sources"), tuple(rows)
    )


def execution_table(r: Any) -> tuple[Table, ...]:
    """Probability of lost margins by technique and cut; nothing without a tumour."""
    found: list[Execution] = list(r.resection.executions)
    if r.guides.execution is not None:
        found.append(r.guides.execution)
    if not found:
        return ()
    rows = []
    for execution in found:
        for cut in (*execution.cuts, execution.worst):
            cells = []
            for limit in LIMITS_MM:
                p, low, high = cut.below(limit)
                cells.append(f"{100 * p:.1f} % ({100 * low:.1f}-{100 * high:.1f})")
            name = cut.cut.replace("_", " ")
            rows.append((execution.model.words, name, f"{cut.planned_mm:.1f} mm", *cells))
    columns = ("Executed", "Cut", "Planned margin", *(f"P(below {m:g} mm)" for m in LIMITS_MM))
    return (Table("Margin after execution, with 95 % intervals", columns, tuple(rows)),)


def steps_of(resection: Any) -> Table:
    """The sequence of cuts."""
    rows = tuple(
        (str(n + 1), name.replace("_", " "), words)
        for n, (name, words) in enumerate(resection.steps)
    )
    return Table("Sequence", ("Step", "Cut", "What is done"), rows)


def margin_pictures(plan: ResectionPlan) -> tuple[Picture, ...]:
    """The signed margin on every cut face, seen from the specimen; black where the tumour is cut."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = []
    for margin in plan.margins:
        cut = plan.cut(margin.cut)
        for n, facet in enumerate(cut.facets):
            here = margin.facet == n
            if not here.any() or not facet.outline.loops:
                continue
            uv = facet.outline.to_plane(margin.points[here])
            value = margin.distance_mm[here]
            figure = Figure(figsize=(6.0, 4.2), dpi=130)
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            drawn = axes.scatter(
                uv[:, 0], uv[:, 1], c=np.clip(value, 0.0, RANGE_MM), s=5, cmap="RdYlGn",
                vmin=0.0, vmax=RANGE_MM, linewidths=0,
            )  # fmt: skip
            inside = value < 0
            axes.scatter(uv[inside, 0], uv[inside, 1], c="black", s=5, linewidths=0)
            k = int(value.argmin())
            axes.plot(*uv[k], marker="o", mfc="none", mec="black", ms=9)
            axes.annotate(
                f"{margin.minimum_mm if len(cut.facets) == 1 else value[k]:.1f} mm", uv[k],
                textcoords="offset points", xytext=(8, 8),
            )  # fmt: skip
            axes.set_aspect("equal")
            axes.set_xlabel("mm")
            axes.set_ylabel("mm")
            name = cut.name if len(cut.facets) == 1 else f"{cut.name}-{n + 1}"
            figure.colorbar(drawn, ax=axes, label="distance to the tumour, mm")
            figure.tight_layout()
            stream = io.BytesIO()
            # A fixed description keeps the bytes the same from run to run.
            figure.savefig(stream, format="png", metadata={"Software": None})
            out.append(
                Picture(
                    f"margin-{name}", f"Margin on the cut {name.replace('_', ' ')}",
                    stream.getvalue(),
                    "Signed distance from each point of the specimen's cut face to the tumour; black: "
                    "inside it. The circle marks the least.",
                )
            )  # fmt: skip
    return tuple(out)
