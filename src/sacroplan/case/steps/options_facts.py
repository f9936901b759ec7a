"""Facts that the plan itself can tell, for the rules of reconstruction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sacroplan.errors import Doubt
from sacroplan.geometry.surface import Surface
from sacroplan.options.facts import DOMAINS, Facts, Value, facts_of
from sacroplan.options.forecast import lowest_roots
from sacroplan.resection.plan import SIDES, ResectionPlan
from sacroplan.resection.tumour import Tumour

WHOLE_PERCENT = 99.0
"""So much of L5 removed counts as the whole of it: crumbs of a mesh do not."""

NEAR = 1.0
"""Facts given and measured that differ by less than this (%, cm3) agree."""


def _iliolumbar(plan: ResectionPlan) -> str | None:
    fates = [plan.losses.ligaments.get(f"iliolumbar_{s}", "unknown") for s in SIDES]
    if "unknown" in fates or "at risk" in fates:
        return None
    return {0: "none", 1: "partial", 2: "full"}[sum(f == "kept" for f in fates)]


def _above_s1(plan: ResectionPlan) -> bool | None:
    if plan.kind == "total":
        return True
    words = list(plan.losses.s1_line.values())
    if any(w.startswith(("cephalad", "through")) for w in words):
        return True
    return None if any(w.startswith("unknown") for w in words) else False


def _other_s1(plan: ResectionPlan) -> bool | None:
    side = plan.choice.side
    if plan.kind == "total":
        return False
    if plan.kind not in ("hemi", "hemipelvectomy") or side is None:
        return None
    other = "left" if side == "right" else "right"
    fate = plan.losses.roots.get(f"S1_{other}", "unknown")
    return None if fate in ("unknown", "at risk") else fate == "kept" and "sacrum" in plan.remnants


def _sacrificed(vessels: Mapping[str, Surface], plan: ResectionPlan, side: str) -> bool | None:
    """Whether the named vessel's mask reaches into the specimen; None without a mask."""
    import igl

    surface = vessels.get(f"internal_iliac_{side}") or vessels.get(f"internal_iliac_artery_{side}")
    if surface is None:
        return None
    for piece in plan.specimen.values():
        signed = igl.signed_distance(
            np.ascontiguousarray(surface.vertices), piece.vertices, piece.faces,
            igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER,
        )[0]  # fmt: skip
        if float(np.asarray(signed).min()) < 0:
            return True
    return False


def measured_facts(
    plan: ResectionPlan,
    tumour: Tumour | None,
    vessels: Mapping[str, Surface],
    space_cm3: float | None,
) -> dict[str, Value]:
    """Facts of a resection, by name; what cannot be told is left out."""
    kind = plan.kind
    losses = plan.losses
    lowest = lowest_roots(losses.roots)
    found: dict[str, Value] = {
        "resection": kind,
        "sij_left_percent": losses.joint_percent.get("left"),
        "sij_right_percent": losses.joint_percent.get("right"),
        "cut_above_s1_foramina": _above_s1(plan),
        "iliolumbar": _iliolumbar(plan),
        "l5_resected": (
            "none" if losses.l5_percent <= 0 else
            "whole" if losses.l5_percent >= WHOLE_PERCENT else "partial"
        ),
        "contralateral_s1_kept": _other_s1(plan),
        "amputation_planned": kind == "hemipelvectomy",
        "s2_intact": {"mid": True, "low": True, "free": None}.get(kind, False),
        "tumour_volume_cm3": None if tumour is None else tumour.volume_mm3 / 1000.0,
        "defect_volume_cm3": space_cm3,
        "ring_gap_supraacetabular": None if kind == "free" else kind == "hemi",
    }  # fmt: skip
    for side in SIDES:
        # A total sacrectomy ligates the dural sac: no sacral root is kept [RES-TOT].
        found[f"lowest_root_{side}"] = 0 if kind == "total" else lowest[side][0]
        found[f"internal_iliac_{side}_sacrificed"] = _sacrificed(vessels, plan, side)
    return {n: v for n, v in found.items() if v is not None}


def merged(
    measured: Mapping[str, Value], given: Mapping[str, Value]
) -> tuple[Facts, dict[str, str], tuple[Doubt, ...]]:
    """Facts with their sources; what case.toml gives replaces what was measured, aloud."""
    own = facts_of(given).table()
    plain = facts_of(measured).table()
    values: dict[str, Value] = {}
    source: dict[str, str] = {}
    doubts = []
    for name, domain in DOMAINS.items():
        told, seen = own[name], plain[name]
        values[name] = seen if told is None else told
        source[name] = (
            "case.toml" if told is not None else "measured" if seen is not None else "unknown"
        )
        if told is None or seen is None or told == seen:
            continue
        close = isinstance(told, float) and isinstance(seen, float) and abs(told - seen) < NEAR
        if not close:
            doubts.append(
                Doubt(
                    "plan", f"options.facts.{name}",
                    f"{domain.label}: case.toml says {domain.words(told)}, the plan measures "
                    f"{domain.words(seen)}; the rules use case.toml.", (),
                )
            )  # fmt: skip
    return Facts(**values), source, tuple(doubts)  # type: ignore[arg-type]
