"""Reconstructions side by side under the same load: table, published orders, a picture."""

from __future__ import annotations

import io

import numpy as np

from sacroplan.mechanics.compare import INTACT, Comparison, Stability
from sacroplan.report.model import Picture, Table

NOT_ASKED = (
    "Stability was computed for the printed implant alone; compare = true under [mechanics] in case.toml "
    "meshes and loads the other reconstructions as well."
)

SHARED = (
    "Every reconstruction stands on the same bones, joints, bone law and element sizes, under the same load; "
    "all interfaces are bonded, as after healing. Trust the differences, not the absolute figures. The "
    "published order of cages and femoral struts [VAL-22] is not judged: neither is planned here."
)


def text_of(comparison: Comparison | None) -> tuple[str, ...]:
    """What the figures rest on."""
    if comparison is None:
        return (NOT_ASKED,)
    return (f"Standing, {comparison.force_n:.0f} N on L4. {SHARED}",)


def tables_of(comparison: Comparison | None) -> tuple[Table, ...]:
    """Figures by road, and published orders against those found."""
    if comparison is None:
        return ()
    titles = {r.road: r.title for r in comparison.rows}
    intact = comparison.row(INTACT)
    rows = tuple(_row(r, intact) for r in comparison.rows)
    orders = tuple(
        (
            o.what.capitalize(), " > ".join(titles.get(n, n) for n in o.asked),
            " > ".join(titles.get(n, n) for n in o.found) or "a road is missing", o.verdict, o.row,
        )
        for o in comparison.orders
    )  # fmt: skip
    return (
        Table(
            "Stability of the reconstructions, computed for this patient",
            ("Reconstruction", "Stiffness at L4", "Of intact", "L5 sinks by", "Metal stress, 3 mm mean",
             "99th percentile"),
            rows,
        ),
        Table(
            "Published orders, largest first",
            ("Of", "Published", "Here", "", "Row"),
            orders,
        ),
    )  # fmt: skip


def _row(r: Stability, intact: Stability | None) -> tuple[str, ...]:
    if r.why_not:
        return (r.title, f"not computed: {r.why_not}", "-", "-", "-", "-")
    share = "-"
    if intact is not None and not intact.why_not:
        share = f"{100.0 * r.stiffness_n_per_mm / intact.stiffness_n_per_mm:.0f} %"
    stress = ("-", "-")
    if np.isfinite(r.metal_mpa):
        stress = (f"{r.metal_mpa:.0f} MPa", f"{r.metal_p99_mpa:.0f} MPa")
    return (
        r.title, f"{r.stiffness_n_per_mm:.0f} N/mm", share, f"{r.l5_down_mm:.2f} mm", *stress,
    )  # fmt: skip


def stiffness_words(comparison: Comparison) -> dict[str, str]:
    """Stiffness by the road of the options' table; fixation with two iliac screws stands for ``spf``."""
    intact = comparison.row(INTACT)
    out: dict[str, str] = {}
    for road, names in {
        "spf": ("spf_dual", "spf_single"),
        "spf_ascf": ("spf_ascf",),
        "implant_supplemented": ("implant_supplemented",),
        "implant_alone": ("implant_alone",),
    }.items():
        found = [r for r in map(comparison.row, names) if r is not None and not r.why_not]
        if not found:
            continue
        words = f"{found[0].stiffness_n_per_mm:.0f} N/mm"
        if intact is not None and not intact.why_not:
            share = 100.0 * found[0].stiffness_n_per_mm / intact.stiffness_n_per_mm
            words += f" ({share:.0f} % of intact)"
        out[road] = words
    return out


def pictures_of(comparison: Comparison | None) -> tuple[Picture, ...]:
    """Bars of stiffness, sinking and metal stress, one row a road."""
    if comparison is None:
        return ()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [r for r in comparison.rows if not r.why_not]
    if not rows:
        return ()
    figure = Figure(figsize=(10.0, 0.9 + 0.55 * len(rows)), dpi=110)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3, sharey=True)
    at = np.arange(len(rows))
    colours = ["#8a8f98" if r.road == INTACT else "#2f6fb2" for r in rows]
    for axes, (label, values, digits) in zip(
        panels,
        (
            ("Stiffness at L4, N/mm", [r.stiffness_n_per_mm for r in rows], 0),
            ("L5 sinks by, mm", [r.l5_down_mm for r in rows], 2),
            ("Metal stress, 3 mm mean, MPa", [r.metal_mpa for r in rows], 0),
        ),
        strict=True,
    ):
        length = np.nan_to_num(np.asarray(values))
        bars = axes.barh(at, length, color=colours)
        words = [f"{v:.{digits}f}" if np.isfinite(v) else "no metal" for v in values]
        axes.bar_label(bars, words, padding=3, fontsize=8)
        axes.set_xlim(0.0, 1.25 * max(float(length.max()), 1e-9))
        axes.set_title(label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(at, [_short(r.title) for r in rows])
    panels[0].invert_yaxis()
    figure.tight_layout()
    stream = io.BytesIO()
    # A fixed description keeps the bytes the same from run to run.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return (
        Picture(
            "reconstructions-compared", "Reconstructions under the same load", stream.getvalue(),
            f"Standing, {comparison.force_n:.0f} N on L4; grey: the intact pelvis.",
        ),
    )  # fmt: skip


def _short(title: str) -> str:
    """A title in lines of at most some 30 letters."""
    lines = [""]
    for word in title.removeprefix("Spinopelvic fixation, ").split():
        if len(lines[-1]) + len(word) > 30:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
