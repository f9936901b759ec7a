"""A finished case in theatre: registration by markers, and the plan over the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacroplan import evidence
from sacroplan.case import store
from sacroplan.case.config import read_config
from sacroplan.case.stage import stage_folder
from sacroplan.errors import CaseError

if TYPE_CHECKING:
    from sacroplan.case.steps.navigation import Navigation

NOTICE = (
    "FRE says nothing about the accuracy in this patient [SP-NAV-04]; look at the error expected at the "
    "screws, and check with the pointer on bone."
)


def _navigation(folder: Path) -> Navigation:
    place = stage_folder(folder, "navigation")
    if not place.is_dir():
        raise CaseError(f"{folder} has no robot plan yet; run 'sacroplan run {folder}' first.")
    result: Navigation | None = store.load(place)
    if result is None:
        raise CaseError(f"{folder} plans no screws, so there is nothing to send or register for.")
    return result


def send(folder: Path, host: str, port: int) -> dict[str, Any]:
    """Send the case's screws to an OpenIGTLink receiver; what was sent."""
    from sacroplan.navigation import igtlink

    plan = _navigation(folder).plan
    count = igtlink.send(plan.screws, host, port)
    return {"case": plan.case_id, "host": host, "port": port, "screws": len(plan.screws),
            "messages": count}  # fmt: skip


def register_markers(folder: Path, path: Path) -> dict[str, Any]:
    """Theatre to CT by the markers that both know, with the error expected at every screw's tip."""
    from sacroplan.formats.markups import read_points
    from sacroplan.navigation.registration import paired_points
    from sacroplan.navigation.target_error import predicted_tre_mm

    plan = _navigation(folder).plan
    seen = read_points(path)
    names = sorted(set(seen) & set(plan.markers))
    if len(names) < 3:
        raise CaseError(
            f"{path} and case.toml share {len(names)} markers ({', '.join(names) or 'none'}); three or more "
            f"are needed. case.toml has {sorted(plan.markers)} under [navigation.markers]."
        )
    spots = np.array([plan.markers[n] for n in names])
    found = paired_points(np.array([seen[n] for n in names]), spots)
    fle = read_config(folder).navigation.fle_mm or evidence.value("SP-NAV-02", "fle")
    tips = np.array([s.tip for s in plan.screws])
    tre = predicted_tre_mm(spots, fle, tips)
    return {
        "case": plan.case_id,
        "markers": names,
        "rotation": found.to_ct.rotation.tolist(),
        "translation_mm": found.to_ct.translation.tolist(),
        "fre_mm": found.fre_mm,
        "fle_mm": fle,
        "predicted_tre_mm": {s.name: float(v) for s, v in zip(plan.screws, tre, strict=True)},
        "notice": NOTICE,
        "doubts": [d.message for d in (*found.doubts, *plan.doubts)],
    }
