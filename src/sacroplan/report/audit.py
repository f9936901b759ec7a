"""The audit's own dossier: every cut as it was made beside its plan, in tables, maps and the scene."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from sacroplan.case.outcome import LOCATION, Audited
from sacroplan.errors import Doubt
from sacroplan.report.assemble import BONE, PLANE, TUMOUR, plane_plate, title_of
from sacroplan.report.model import Dossier, Picture, ScenePart, Section, Table, View, view_frame
from sacroplan.resection.audit import CutAudit

OUTCOME = "#7f9fbf"

RANGE_MM = 5.0
"""Distances to the plan are drawn in colour up to this: the wider of the limits that series report."""


def write_audit(found: Audited, folder: Path) -> list[Path]:
    """Write ``report.html``, ``report.pdf`` and their pictures into ``folder``; their paths."""
    from sacroplan.report.dossier import write

    return write(audit_dossier(found), folder)


def audit_dossier(found: Audited) -> Dossier:
    """What the audit shows: registration, every cut's figures and map, outcome laid over the plan."""
    audit = found.audit
    text = (
        f"The outcome {found.postop} was laid over the plan on bone outside the cuts; the median "
        f"residual is {audit.registration_mm:.2f} mm. What it cannot show (soft tissue, bone that was "
        "not imaged) is not judged.",
        "Two definitions of location accuracy are in use and differ. ISO 1101: "
        f"{LOCATION['location_iso_mm']}. Gouin: {LOCATION['location_gouin_mm']}.",
    )
    doubts = tuple(
        Doubt(
            "plan", f"audit.missing.{name}",
            f"No face was found near the planned cut {title_of(name)}: it was not made, or it is not "
            "on the outcome.", ("PSI-01",),
        )
        for name in audit.missing
    )  # fmt: skip
    section = Section(
        "Plan against outcome", "audit", text, audit.metrics(), (cuts_table(found),), maps(found),
        (
            View("audit-back", "Outcome over the plan, from behind", "back"),
            View("audit-front", "Outcome over the plan, from the front", "front"),
        ),
        doubts=doubts,
    )  # fmt: skip
    return Dossier(
        found.case_id, "Audit of the resection", text[:1], (section,), scene(found),
        view_frame(found.pelvis),
    )  # fmt: skip


def cut_name(found: Audited, cut: CutAudit) -> str:
    """The cut, with its facet's number where it has several."""
    many = len(found.plan.cut(cut.cut).facets) > 1
    return title_of(cut.cut) + (f", face {cut.facet + 1}" if many else "")


def cuts_table(found: Audited) -> Table:
    """One row a face."""

    def mm(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f} mm"

    rows: list[tuple[str, ...]] = [
        (
            cut_name(found, c), mm(c.location_iso_mm), mm(c.location_gouin_mm), f"{c.mean_mm:+.1f} mm",
            mm(c.rms_mm), f"{c.angle_deg:.1f} degrees", mm(c.planned_margin_mm), mm(c.margin_mm),
            f"{c.area_mm2 / 100:.1f} cm2",
        )
        for c in found.audit.cuts
    ]  # fmt: skip
    rows += [(title_of(name), *["not found"] * 5, "-", "-", "-") for name in found.audit.missing]
    columns = (
        "Cut", "Location, ISO 1101", "Location, Gouin", "Mean, + into the specimen",
        "Root mean square", "Angle", "Margin planned", "Margin achieved", "Face found",
    )  # fmt: skip
    return Table("Cuts as they were made", columns, tuple(rows))


def maps(found: Audited) -> tuple[Picture, ...]:
    """Signed distance of every achieved face to its planned plane."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = []
    for c in found.audit.cuts:
        cut = found.plan.cut(c.cut)
        facet = cut.facets[c.facet]
        uv = facet.outline.to_plane(c.face.vertices)
        off = facet.plane.shifted(-0.5 * cut.kerf_mm).distance(c.face.vertices)
        figure = Figure(figsize=(6.0, 4.2), dpi=130)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for loop in facet.outline.loops:
            ring = np.vstack([loop, loop[:1]])
            axes.plot(ring[:, 0], ring[:, 1], color="black", lw=0.8)
        drawn = axes.tripcolor(
            uv[:, 0], uv[:, 1], off, triangles=c.face.faces, shading="gouraud", cmap="RdBu_r",
            vmin=-RANGE_MM, vmax=RANGE_MM,
        )  # fmt: skip
        axes.set_aspect("equal")
        axes.set_xlabel("mm")
        axes.set_ylabel("mm")
        figure.colorbar(drawn, ax=axes, label="distance to the plan, mm, + into the specimen")
        figure.tight_layout()
        stream = io.BytesIO()
        # A fixed description keeps the bytes the same from run to run.
        figure.savefig(stream, format="png", metadata={"Software": None})
        out.append(
            Picture(
                f"audit-{c.cut}-{c.facet + 1}", cut_name(found, c), stream.getvalue(),
                "Distance of the face that was found to the planned one; the line is the planned "
                "outline.",
            )
        )  # fmt: skip
    return tuple(out)


def scene(found: Audited) -> tuple[ScenePart, ...]:
    """Outcome, planned remnants, planned planes and tumour."""
    parts = [ScenePart("outcome", "Outcome", "outcome", found.laid, OUTCOME)]
    parts += [
        ScenePart(
            f"planned_{name}", f"{title_of(name)} as planned", "planned", s, BONE, opacity=0.35
        )
        for name, s in found.plan.remnants.items()
    ]
    parts += [
        ScenePart(
            f"plane_{c.name}",
            title_of(c.name),
            "osteotomy planes",
            plane_plate(c),
            PLANE,
            opacity=0.35,
        )
        for c in found.plan.cuts
        if c.kind == "osteotomy"
    ]
    if found.tumour is not None:
        parts.append(ScenePart("tumour", "Tumour", "tumour", found.tumour, TUMOUR))
    return tuple(parts)
