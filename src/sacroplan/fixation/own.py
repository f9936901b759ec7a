"""Screws that someone else placed: measured and graded like planned ones, never moved."""

from __future__ import annotations

from dataclasses import replace

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.fixation.pelvic import Corridor, PelvicKind, Site, angles, cut_walls, require_level
from sacroplan.fixation.rules import Obstacles, conflicts, pelvic_rules
from sacroplan.fixation.screws import Screw

PELVIC: tuple[PelvicKind, ...] = ("iliac", "iliolumbar", "s2ai", "trans_sacral")


def assess_pelvic_screw(site: Site, screw: Screw, obstacles: Obstacles | None = None) -> Corridor:
    """Measure a pelvic ``screw`` in the bone of its kind: clearance to the mesh, rules, angles.

    Raises :class:`PlanError` on an unknown kind, a lost S2 level [S2-09], or a screw that runs through a
    cut, other metal, a vessel, the socket or the notch.
    """
    if screw.kind not in PELVIC:
        raise PlanError(
            f"{screw.name} is a {screw.kind} screw; known here are {', '.join(PELVIC)}."
        )
    obstacles = obstacles or Obstacles()
    if screw.kind in ("s2ai", "trans_sacral"):
        require_level(site.pelvis, screw.kind, screw.side)
    bone, _ = site.ground(screw.kind)
    bone = cut_walls(bone, obstacles.cuts)
    skip = evidence.value("SP-FIX-09", "skip")
    if screw.length_mm <= skip:
        raise PlanError(
            f"{screw.name} is {screw.length_mm:.1f} mm long; clearance counts from {skip:g} mm behind the "
            "entry on, so nothing of it can be judged. Check entry and tip."
        )
    points, radius = site.pelvis.points, site.pelvis.hip_radius_mm
    refuse(screw, obstacles, conflicts(screw, obstacles, points, radius, bone, skip, site.frame))
    gap = float(bone.walls.gaps(screw.entry + skip * screw.direction, screw.tip)[0][0])
    rules, doubts = pelvic_rules(screw, screw.kind, gap, obstacles, points, radius)
    return Corridor(
        screw, bone, skip, gap, angles(screw, site.pelvis.frames), rules, (), (), doubts
    )


def refuse(screw: Screw, obstacles: Obstacles, found: list[str] | None = None) -> None:
    """Raise :class:`PlanError` where a screw runs through something."""
    hard = conflicts(screw, obstacles, {}, {}) if found is None else found
    if hard:
        raise PlanError(f"{screw.name} is refused: {hard[0]}")


def without(obstacles: Obstacles, name: str) -> Obstacles:
    """Obstacles less the metal of that name: no screw is in its own way."""
    return replace(obstacles, metal=tuple(m for m in obstacles.metal if m.name != name))
