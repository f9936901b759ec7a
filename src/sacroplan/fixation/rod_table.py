"""What the theatre needs of a rod: where to cut it, where and how far to bend it, which connectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.banner import BANNER
from sacroplan.fixation.cross import CrossConnector
from sacroplan.fixation.rods import RodPlan, arc_lengths
from sacroplan.geometry.frames import FloatArray, unit

CONNECTOR_MM = 2.0
"""A head this far beside the rod can no longer be pulled to it; a connector bridges the way."""


@dataclass(frozen=True)
class Bend:
    """One bend: ``at_mm`` from the cranial end, by ``angle_deg``, its plane turned by ``roll_deg`` about
    the rod against the first bend's plane (right-handed, looking caudally); ``near`` names the head."""

    at_mm: float
    angle_deg: float
    roll_deg: float
    near: str


@dataclass(frozen=True)
class Connector:
    """An offset connector of ``reach_mm`` between rod and head ``name``."""

    name: str
    reach_mm: float


def bends(plan: RodPlan, names: Sequence[str]) -> tuple[Bend, ...]:
    """The rod as straight pieces between its inner anchors: what a French bender is set to.

    Cranial to caudal. A rod through two heads, or through heads in line, has none.
    """
    line, arc = plan.polyline, arc_lengths(plan.polyline)
    anchors = plan.rod.anchors
    places = [float(arc[int(np.argmin(np.linalg.norm(line - a, axis=1)))]) for a in anchors]
    corners = np.concatenate([line[:1], anchors[1:-1], line[-1:]])
    out: list[Bend] = []
    first: FloatArray | None = None
    for k in range(1, len(corners) - 1):
        into, away = unit(corners[k] - corners[k - 1]), unit(corners[k + 1] - corners[k])
        angle = float(np.degrees(np.arccos(np.clip(into @ away, -1.0, 1.0))))
        if angle < 0.5:
            continue
        normal = unit(np.cross(into, away))
        roll = 0.0
        if first is None:
            first = normal
        else:
            # Turned about the piece that comes into this bend.
            a = first - (first @ into) * into
            if float(np.linalg.norm(a)) > 1e-6:
                a = unit(a)
                roll = float(np.degrees(np.arctan2(np.cross(a, normal) @ into, a @ normal)))
        out.append(Bend(places[k], angle, roll, names[k]))
    return tuple(out)


def connectors(plan: RodPlan, names: Sequence[str]) -> tuple[Connector, ...]:
    """Offset connectors for heads that the rod cannot pass through."""
    return tuple(
        Connector(n, float(m))
        for n, m in zip(names, plan.moved_mm, strict=False)
        if m > CONNECTOR_MM
    )


def table_text(
    plans: Sequence[RodPlan],
    by_bends: Mapping[str, Sequence[Bend]],
    by_connectors: Mapping[str, Sequence[Connector]],
    cross: Sequence[CrossConnector] = (),
) -> str:
    """The cutting and bending table, plain text with the research-only words."""
    out = [BANNER, "", "Cutting and bending table. Lengths in mm from the cranial end.", ""]
    for p in plans:
        radius = "straight" if not np.isfinite(p.bend_radius_mm) else f"{p.bend_radius_mm:.0f}"
        out.append(
            f"{p.name}: {p.diameter_mm:g} mm rod, cut to {p.rod.length_mm:.0f}; least bend radius {radius}"
        )
        out += [
            f"  bend {n + 1}: at {b.at_mm:.0f}, {b.angle_deg:.0f} degrees, turned {b.roll_deg:+.0f} degrees, "
            f"at {b.near}"
            for n, b in enumerate(by_bends[p.name])
        ]
        out += [f"  connector to {c.name}: {c.reach_mm:.0f}" for c in by_connectors[p.name]]
        out.append("")
    out += [
        f"{c.name.replace('_', '-')}: {c.span_mm:.0f} from rod to rod, at {c.left_at_mm:.0f} on the left "
        f"rod and {c.right_at_mm:.0f} on the right one, arches {c.lift_mm:.0f} behind them"
        for c in cross
    ]
    return "\n".join(out)


def four_rods(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The four-rod technique [ROD-4] on one side: the medial rod's heads and the lateral rod's.

    The medial rod runs through all lumbar, S1 and S2AI heads, the lateral one from a side connector on
    it to the iliac heads. Without an iliac head, or with fewer than two others, there is one rod.
    """
    lateral = [n for n in names if n.startswith(("iliac", "iliolumbar"))]
    medial = [n for n in names if n not in lateral]
    return (medial, lateral) if lateral and len(medial) > 1 else (list(names), [])


def side_grip(plan: RodPlan, lateral: FloatArray) -> FloatArray:
    """Where a lateral rod begins (3,): beside the medial rod's lowest head, in a side-to-side connector
    [SP-FIX-12]. ``lateral`` : (3,) away from the midline."""
    head = plan.rod.anchors[-1]
    along = unit(plan.rod.anchors[-1] - plan.rod.anchors[-2])
    out = unit(lateral - (lateral @ along) * along)
    # Clear of the head itself: a connector's length higher up the rod.
    up = evidence.value("SP-FIX-12", "from_head")
    return np.asarray(head - up * along + evidence.value("SP-FIX-12", "beside") * out)
