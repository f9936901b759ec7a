"""A finished case in theatre: registration by markers, and the plan over the network."""

from __future__ import annotations

from collections.abc import Sequence
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
    from sacroplan.geometry.frames import FloatArray
    from sacroplan.navigation.registration import Registration
    from sacroplan.navigation.robot_plan import RobotPlan

PROBED_BONES = ("sacrum", "hip_left", "hip_right")
"""Bones that a probe reaches and that lie as they lay on the CT; lumbar vertebrae move."""

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
    return _told(plan, found, names, fle, tre)


def register_surface(
    folder: Path, path: Path, probed: Path, bones: Sequence[str] = PROBED_BONES
) -> dict[str, Any]:
    """Theatre to CT by points probed on bone, from a rough start by markers or landmarks that both know.

    The error expected at every tip follows from where the probed points lie and which way the bone
    faces there. Raises :class:`CaseError` where fewer than three names are shared or a bone is unknown.
    """
    from sacroplan.formats.markups import read_points
    from sacroplan.geometry.surface import concatenate
    from sacroplan.navigation.registration import rigid_between, surface_points
    from sacroplan.navigation.target_error import motion_covariance, tre_of_covariance_mm

    plan = _navigation(folder).plan
    surfaces = store.load(stage_folder(folder, "bones")).surfaces
    known = {**store.load(stage_folder(folder, "landmarks")).points, **plan.markers}
    seen = read_points(path)
    names = sorted(set(seen) & set(known))
    if len(names) < 3:
        raise CaseError(
            f"{path} shares {len(names)} names ({', '.join(names) or 'none'}) with the case's markers and "
            "landmarks; three or more are needed for a rough start, such as PSIS_L, PSIS_R and L3."
        )
    wrong = [n for n in bones if n not in surfaces]
    if wrong or not bones:
        raise CaseError(
            f"The case has no bone {', '.join(wrong) or 'named'}; it has {', '.join(sorted(surfaces))}."
        )
    start = rigid_between(np.array([seen[n] for n in names]), np.array([known[n] for n in names]))
    points = read_points(probed)
    found = surface_points(
        np.array([points[n] for n in sorted(points)]).reshape(-1, 3),
        concatenate([surfaces[n] for n in bones]), start,
    )  # fmt: skip
    fle = read_config(folder).navigation.fle_mm or evidence.value("SP-NAV-02", "fle")
    # One axis of the localisation error stands off the surface.
    covariance, centre = motion_covariance(found, fle / float(np.sqrt(3.0)))
    tre = tre_of_covariance_mm(covariance, centre, np.array([s.tip for s in plan.screws]))
    table = _told(plan, found, names, fle, tre)
    return {**table, "probed_points": len(points), "bones": list(bones)}


def _told(
    plan: RobotPlan, found: Registration, names: Sequence[str], fle_mm: float, tre_mm: FloatArray
) -> dict[str, Any]:
    return {
        "case": plan.case_id,
        "how": found.how,
        "markers": list(names),
        "rotation": found.to_ct.rotation.tolist(),
        "translation_mm": found.to_ct.translation.tolist(),
        "fre_mm": found.fre_mm,
        "fle_mm": fle_mm,
        "predicted_tre_mm": {s.name: float(v) for s, v in zip(plan.screws, tre_mm, strict=True)},
        "notice": NOTICE,
        "doubts": [d.message for d in (*found.doubts, *plan.doubts)],
    }
