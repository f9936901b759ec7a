"""Constructs: which screws on which side, by name or by the papers' cases, and their class.

A construct is written as levels with hyphens, cranial first: ``L4-L5-S2AI`` is bilateral, ``L4.left`` one
side only, ``iliac2`` a pair of iliac screws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.catalogue import Catalogue, generic
from sacroplan.fixation.clearance import STEP_MM, iliac_grade, mean_hu
from sacroplan.fixation.corridor import assess_pedicle_screw, plan_pedicle_screw
from sacroplan.fixation.own import assess_pelvic_screw, refuse, without
from sacroplan.fixation.pelvic import (
    Corridor,
    PelvicKind,
    Pelvis,
    Site,
    plan_iliac_pair,
    plan_pelvic_screw,
)
from sacroplan.fixation.rules import Metal, Obstacles, thread
from sacroplan.fixation.screw_plan import ScrewPlan
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, silent

SIDES = ("left", "right")

PEDICLES = ("L2", "L3", "L4", "L5", "S1")

PELVIC: Mapping[str, tuple[PelvicKind, int]] = {
    "S2AI": ("s2ai", 2),
    "iliac": ("iliac", 1),
    "iliac2": ("iliac", 2),
    "iliolumbar": ("iliolumbar", 1),
    "TS1": ("trans_sacral", 1),
    "TS2": ("trans_sacral", 2),
}
"""Word to kind and level; for ``iliac2`` the number of screws."""

PRESETS: Mapping[str, str] = {
    "paper-a": "L4-L5",
    "paper-b-1": "L4-L5-S2AI",
    "paper-b-2": "L3-L4-S1.left",
    "paper-b-3": "L2-L3-L4-L5.left-iliac2.left",
    "own": "",
}
"""Screws of the papers' constructs. Paper A's pelvic screws run through the implant's wings and are planned
with it; case 3's T-connectors to the femur are named by the rods' table, not planned. ``own`` plans none: the
user's own screws are all there are."""


@dataclass(frozen=True)
class Place:
    """One place of a construct: word and side."""

    word: str
    side: str


def parse(text: str) -> tuple[Place, ...]:
    """Places of a construct in order; raises :class:`PlanError` naming the word that is not known."""
    spec = PRESETS.get(text.strip().lower(), text.strip())
    known = {w.lower(): w for w in (*PEDICLES, *PELVIC)}
    out: list[Place] = []
    for part in spec.split("-") if spec else ():
        word, _, side = part.strip().partition(".")
        if word.lower() not in known:
            raise PlanError(
                f"The construct {text!r} names {part!r}; known are {', '.join(known.values())} and the "
                f"presets {', '.join(PRESETS)}. Write them with hyphens, such as L4-L5-S2AI."
            )
        if side not in ("", *SIDES):
            raise PlanError(
                f"The construct {text!r}: {side!r} is no side; write {word}.left or {word}.right."
            )
        word = known[word.lower()]
        # One trans-sacral screw crosses to the other side; two on one axis would meet.
        both = SIDES if not word.startswith("TS") else ("left",)
        out += [Place(word, s) for s in ([side] if side else both)]
    if len(set(out)) != len(out):
        raise PlanError(f"The construct {text!r} names a place twice.")
    return tuple(out)


def bederman_class(lumbar: bool, pelvic: bool, ring: bool, anterior: bool) -> tuple[str, ...]:
    """SPF, PPRF, ASCF of Bederman 2014 that a construct amounts to (HANDBOOK 6.6).

    SPF : lumbar spine and pelvis joined by screws and rods. PPRF : both ilia joined behind (a bar, a
    trans-sacral screw, an implant from wing to wing). ASCF : the column supported in front.
    """
    return tuple(
        name
        for name, there in (("SPF", lumbar and pelvic), ("PPRF", ring), ("ASCF", anterior))
        if there
    )


@dataclass(frozen=True, eq=False)
class Construct:
    """Planned screws of a construct, cranial first, left before right.

    ``missing`` : places for which no screw was found, with the reason.
    """

    name: str
    plans: tuple[ScrewPlan, ...]
    classes: tuple[str, ...]
    missing: Mapping[str, str]
    doubts: tuple[Doubt, ...]

    def on_side(self, side: str) -> list[ScrewPlan]:
        """The screws of one side, cranial first."""
        return [p for p in self.plans if p.screw.side == side]


def plan_construct(
    text: str,
    bones: Mapping[str, Surface],
    frames: Mapping[str, AxisFrame],
    points: Mapping[str, FloatArray],
    hip_radius_mm: Mapping[str, float],
    removed: Mapping[str, Surface] | None = None,
    obstacles: Obstacles | None = None,
    catalogue: Catalogue | None = None,
    aim: str = "clearance",
    volume: Volume | None = None,
    progress: Progress = silent,
    own: Sequence[Screw] = (),
) -> Construct:
    """Plan every screw of a construct. A place where nothing fits is reported, not passed over in silence.

    ``own`` : screws that someone placed; they are measured and graded, and the planned ones keep clear
    of them. One that runs through something is reported like a place where nothing fits.

    Raises :class:`PlanError` on an unknown construct, on S2AI without an intact S2 [S2-09], or when a side
    named in the construct ends up without any screw.
    """
    sites = parse(text)
    catalogue = catalogue or generic()
    obstacles = obstacles or Obstacles()
    pelvis = Pelvis(bones, points, frames, hip_radius_mm, removed or {})
    between = evidence.value("IL-03", "bone_between")
    obstacles = replace(obstacles, metal=(*obstacles.metal, *(Metal.of(s, between) for s in own)))
    found: dict[Place, tuple[ScrewPlan, ...]] = {}
    missing: dict[str, str] = {}
    judged: list[ScrewPlan] = []
    for screw in own:
        if screw.side not in SIDES:
            raise PlanError(f"{screw.name}: side must be 'left' or 'right', not {screw.side!r}.")
        try:
            judged.append(_judged(screw, pelvis, without(obstacles, screw.name), volume))
        except PlanError as error:
            missing[screw.name] = str(error)

    def one_side(side: str, told: Progress) -> None:
        own = [s for s in sites if s.side == side]
        site: Site | None = None
        metal = list(obstacles.metal)
        for n, place in enumerate(own):
            told(n / len(own), f"{place.word} {side}")
            name = (
                f"{place.word}_{side}" if place.word in PEDICLES else f"{place.word.lower()}_{side}"
            )
            now = Obstacles(obstacles.cuts, tuple(metal), obstacles.vessels)
            try:
                if place.word in PEDICLES:
                    plans: tuple[ScrewPlan, ...] = (
                        _pedicle(place.word, side, bones, frames, catalogue, volume, now),
                    )
                else:
                    site = site or Site(pelvis, side)
                    kind, number = PELVIC[place.word]
                    if place.word == "iliac2":
                        pair = plan_iliac_pair(site, now, catalogue, aim, volume)
                    else:
                        pair = (  # type: ignore[assignment]
                            plan_pelvic_screw(
                                site, kind, name, number, now, catalogue, aim, volume
                            ),
                        )
                    plans = tuple(corridor_plan(c, volume) for c in pair)
            except PlanError as error:
                if "[S2-09]" in str(error):
                    raise
                missing[name] = str(error)
                continue
            found[place] = plans
            metal += [Metal.of(p.screw, between) for p in plans if place.word not in PEDICLES]

    side_by_side(one_side, [s for s in SIDES if any(x.side == s for x in sites)], progress)
    plans = tuple(p for s in sites for p in found.get(s, ()))
    if judged:
        # A rod takes heads in order, whoever set them.
        up = frames["pelvis"].axes[:, 1]
        plans = tuple(
            sorted(
                (*plans, *judged), key=lambda p: (-round(float(p.screw.head @ up), 3), p.screw.side)
            )
        )
    for side in sorted({s.side for s in sites} | {s.side for s in own}):
        if not any(p.screw.side == side for p in plans):
            reasons = " ".join(v for k, v in sorted(missing.items()) if side in k)
            raise PlanError(f"No screw of the construct {text!r} fits on the {side}: {reasons}")
    doubts = tuple(d for p in plans for d in p.doubts) + tuple(
        Doubt("fixation", f"fixation.no_screw.{n}", why, ("PED-R1", "IL-05"))
        for n, why in sorted(missing.items())
    )
    classes = bederman_class(
        any(p.screw.kind == "pedicle" and p.screw.level.startswith("L") for p in plans),
        any(p.screw.kind != "pedicle" or p.screw.level == "S1" for p in plans),
        any(p.screw.kind == "trans_sacral" for p in plans),
        False,
    )
    return Construct(text, plans, classes, missing, doubts)


def _judged(screw: Screw, pelvis: Pelvis, obstacles: Obstacles, volume: Volume | None) -> ScrewPlan:
    """A screw of the user's own, measured in the bone that it is meant for."""
    if screw.kind != "pedicle":
        return corridor_plan(
            assess_pelvic_screw(Site(pelvis, screw.side), screw, obstacles), volume
        )
    if screw.level not in PEDICLES:
        raise PlanError(
            f"{screw.name} is a pedicle screw of {screw.level!r}; known levels are {', '.join(PEDICLES)}."
        )
    refuse(screw, obstacles)
    bone, superior, inferior = _level_of(screw.level, pelvis.bones, pelvis.frames)
    return assess_pedicle_screw(screw, bone, superior, inferior, volume)


def _level_of(
    level: str, bones: Mapping[str, Surface], frames: Mapping[str, AxisFrame]
) -> tuple[Surface, AxisFrame, AxisFrame]:
    """Bone of a level and the frames of its two endplates."""
    bone = "sacrum" if level == "S1" else level
    names = ("S1EP",) if level == "S1" else (f"{level}SEP", f"{level}IEP")
    missing = [n for n in names if n not in frames] + ([] if bone in bones else [bone])
    if missing:
        raise PlanError(
            f"A pedicle screw in {level} needs {' and '.join(missing)}, which the CT or its labels lack."
        )
    superior = frames[names[0]]
    inferior = frames[names[-1]]
    if level == "S1":
        # The sacrum has no lower endplate at S1: the level's middle lies below the upper one.
        down = 2.0 * evidence.value("SP-FIX-09", "s1_depth") * superior.axes[:, 1]
        inferior = AxisFrame("S1IEP", superior.origin - down, superior.axes, superior.frame)
    return bones[bone], superior, inferior


def _pedicle(
    level: str,
    side: str,
    bones: Mapping[str, Surface],
    frames: Mapping[str, AxisFrame],
    catalogue: Catalogue,
    volume: Volume | None,
    obstacles: Obstacles,
) -> ScrewPlan:
    bone, superior, inferior = _level_of(level, bones, frames)
    # Behind S1 the iliac crests stand where a head would go; a lumbar one has room.
    beside = [bones[n] for n in ("hip_left", "hip_right") if level == "S1" and n in bones]
    return plan_pedicle_screw(
        bone,
        level,
        side,
        superior,
        inferior,
        volume,
        catalogue=catalogue,
        obstacles=obstacles,
        others=beside,
    )


def corridor_plan(corridor: Corridor, volume: Volume | None) -> ScrewPlan:
    """A pelvic corridor measured like every other screw: profile, breach, purchase, HU, rules."""
    s = corridor.screw
    radius = 0.5 * s.diameter_mm
    depth = np.linspace(0.0, s.length_mm, int(np.ceil(s.length_mm / STEP_MM)) + 1)
    axis = s.entry + depth[:, None] * s.direction
    clear = corridor.axis_gap_mm - radius
    # An axis that keeps its radius from all walls has no breach; only others need a look all round.
    breach, at = 0.0, None
    own = -corridor.bone.walls.gaps(axis, axis)[0]
    if clear < 0.0:
        own = corridor.bone.outside_mm(axis)
        _, ring = thread(s, corridor.start_mm)
        around = corridor.bone.outside_mm(ring.reshape(-1, 3)).reshape(ring.shape[:2])
        breach = max(0.0, float(around.max()))
        k, m = np.unravel_index(int(np.argmax(around)), around.shape)
        at = ring[k, m] if breach > 0.0 else None
    reading = {r.name: r.value for r in corridor.rules}
    safety = {f"{n}_mm": reading[n] for n in ("notch", "acetabulum") if n in reading}
    doubts = corridor.doubts
    for name, why in (("lateral", "S2-04"), ("caudal", "S2-04")):
        value = corridor.angles_deg.get(f"pelvis_{name}")
        low, high = evidence.span("S2-04", name)
        if s.kind == "s2ai" and value is not None and not low <= value <= high:
            doubts += (
                Doubt(
                    "fixation", f"fixation.s2ai_{name}",
                    f"{s.name} runs {value:.0f} degrees {name} in the pelvic frame (usually {low:g} to "
                    f"{high:g}).", (why,),
                ),
            )  # fmt: skip
    return ScrewPlan(
        s, iliac_grade(breach), breach, clear,
        np.stack([depth, -own - radius], axis=1),
        float(np.count_nonzero(own[:-1] < 0.0)) * float(depth[1] - depth[0]),
        corridor.angles_deg.get("pelvis_lateral", float("nan")),
        -corridor.angles_deg.get("pelvis_caudal", float("nan")),
        None, None, None, None, None, None if volume is None else mean_hu(s, volume), safety,
        corridor.runners[0] if corridor.runners else None,
        corridor.runner_gaps_mm[0] - 0.5 * corridor.runners[0].diameter_mm if corridor.runners else None,
        doubts, corridor.rules, corridor.angles_deg, corridor.start_mm, at, corridor.runners,
    )  # fmt: skip


def screws_of(construct: Construct) -> tuple[Screw, ...]:
    """The screws alone."""
    return tuple(p.screw for p in construct.plans)
