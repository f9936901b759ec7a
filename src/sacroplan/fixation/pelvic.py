"""Iliac, iliolumbar, S2-alar-iliac and trans-sacral screws: which bone, which entry, which way.

Anatomy sets the windows of :mod:`sacroplan.fixation.search`; the search decides within them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation import screws
from sacroplan.fixation.bone import Bone, joined, one_bone, walls_of
from sacroplan.fixation.catalogue import Catalogue, generic
from sacroplan.fixation.rules import Metal, Obstacles, Rule, conflicts, pelvic_rules
from sacroplan.fixation.screws import Kind, Screw
from sacroplan.fixation.search import Found, Weights, pool, search, weights
from sacroplan.fixation.terrain import Driver, Ground, Keep, Window, ground
from sacroplan.geometry.frames import AxisFrame, FloatArray, Rigid, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume
from sacroplan.progress import Progress, silent

PelvicKind = Literal["iliac", "iliolumbar", "s2ai", "trans_sacral"]

RUNNERS = 3
"""Runner-up corridors kept for the surgeon to choose from."""

DRIVER_MM = 3.0
"""Radius of the driver's shaft whose way from behind must be free of bone."""


@dataclass(frozen=True, eq=False)
class Pelvis:
    """What pelvic screws are planned on, LPS mm.

    Attributes
    ----------
    bones : closed ``sacrum``, ``hip_left``, ``hip_right``; remnants where bone was planned away.
        A missing sacrum is one that was removed.
    points : landmarks. frames : ``pelvis`` and ``S1EP``. hip_radius_mm : by side.
    removed : bone that the plan removes, by name; S2AI and trans-sacral screws ask whether their level
        is in it.
    """

    bones: Mapping[str, Surface]
    points: Mapping[str, FloatArray]
    frames: Mapping[str, AxisFrame]
    hip_radius_mm: Mapping[str, float]
    removed: Mapping[str, Surface]


@dataclass(frozen=True, eq=False)
class Corridor:
    """A screw found in pelvic bone, with what was measured on the mesh.

    Attributes
    ----------
    screw : LPS mm. bone : what it lies in, LPS. start_mm : clearance counts from here on.
    axis_gap_mm : exact least distance of the axis to walls; rules : each with its margin.
    runners : clearly different corridors, best first, and their axis gaps.
    angles_deg : ``lateral`` and ``caudal`` in FRM-1 (``pelvis``) and FRM-3 (``S1EP``), as projections.
    """

    screw: Screw
    bone: Bone
    start_mm: float
    axis_gap_mm: float
    angles_deg: Mapping[str, float]
    rules: tuple[Rule, ...]
    runners: tuple[Screw, ...]
    runner_gaps_mm: tuple[float, ...]
    doubts: tuple[Doubt, ...]


def letter_of(side: str) -> str:
    """``L`` or ``R``; raises on another side."""
    if side not in ("left", "right"):
        raise PlanError(f"Side must be 'left' or 'right', not {side!r}.")
    return "L" if side == "left" else "R"


def require_level(pelvis: Pelvis, kind: PelvicKind, side: str, level: int = 2) -> None:
    """Refuse a screw whose sacral level is not intact [S2-09].

    The level counts as lost when no sacrum is left or when the bone between the S1 and the next
    dorsal foramina of the side, where the screw enters or passes, belongs to what is removed.
    """
    what = "An S2AI screw" if kind == "s2ai" else f"A trans-sacral S{level} screw"
    need = int(evidence.value("S2-09", "level"))
    gone = "sacrum" not in pelvis.bones
    if not gone and pelvis.removed:
        from sacroplan.fixation.clearance import signed_distance

        probes = _s2_points(pelvis, letter_of(side))
        gone = any(
            bool((signed_distance(piece, probes) < 0.0).any()) for piece in pelvis.removed.values()
        )
    if gone:
        raise PlanError(
            f"{what} on the {side} is refused: the plan removes the S{need} level, and it needs an intact "
            f"S{need} [S2-09]. Take iliac screws or the implant's own fixation."
        )


def _s2_points(pelvis: Pelvis, letter: str) -> FloatArray:
    """Points (n, 3) of the S2 level: by the side's foramina, else along the sacral frame."""
    s1 = pelvis.frames["S1EP"]
    names = [n for n in ("S2AF", "S2PF", "S1PF", "S1AF") if f"{n}_{letter}" in pelvis.points]
    out = [pelvis.points[f"{n}_{letter}"] for n in names]
    # The foramina open on the surface; the body before them is what carries the screw.
    middle = s1.origin - 2.0 * evidence.value("SP-FIX-09", "s1_depth") * s1.axes[:, 1]
    return np.array([*out, middle]).reshape(-1, 3)


class _Local:
    """Local axes of one side: x anterior, y cranial, z lateral, in the pelvic frame."""

    def __init__(self, pelvis: AxisFrame, side: str) -> None:
        self.sign = 1.0 if side == "right" else -1.0
        self.axes = pelvis.axes * np.array([1.0, 1.0, self.sign])
        self.origin = np.asarray(pelvis.origin)

    def points(self, p: FloatArray) -> FloatArray:
        return np.ascontiguousarray((np.asarray(p) - self.origin) @ self.axes)

    def directions(self, d: FloatArray) -> FloatArray:
        return np.ascontiguousarray(np.asarray(d) @ self.axes)

    def world(self, p: FloatArray) -> FloatArray:
        return np.asarray(np.asarray(p) @ self.axes.T + self.origin)

    def surface(self, s: Surface) -> Surface:
        faces = s.faces if self.sign > 0 else s.faces[:, ::-1]
        return Surface(self.points(s.vertices), np.ascontiguousarray(faces), s.frame)


class Site:
    """Bones of one side in local axes, prepared once for all screws of that side."""

    def __init__(self, pelvis: Pelvis, side: str) -> None:
        letter_of(side)
        self.pelvis, self.side = pelvis, side
        try:
            self.frame = pelvis.frames["pelvis"]
            self.hip = pelvis.bones[f"hip_{side}"]
        except KeyError as error:
            raise PlanError(
                f"Screws into the {side} ilium need {error} on the CT; label the hip bone and its spines."
            ) from None
        self.local = _Local(self.frame, side)
        self._bones: dict[str, tuple[Bone, Ground]] = {}
        self._local: dict[str, Surface] = {}

    def local_bone(self, name: str) -> Surface:
        """One bone in local axes."""
        if name not in self._local:
            self._local[name] = self.local.surface(self.pelvis.bones[name])
        return self._local[name]

    def ground(self, kind: PelvicKind) -> tuple[Bone, Ground]:
        """World bone and local ground of ``kind``."""
        own = f"hip_{self.side}"
        other = "hip_right" if self.side == "left" else "hip_left"
        names: tuple[str, ...]
        doors: tuple[str, ...]
        if kind == "s2ai":
            names, doors = ("sacrum", own), ("sacrum",)
        elif kind == "trans_sacral":
            names, doors = (own, "sacrum", other), (own,)
        else:
            names, doors = (own,), (own,)
        key = "+".join(names)
        if key not in self._bones:
            missing = [n for n in names if n not in self.pelvis.bones]
            if missing:
                raise PlanError(
                    f"A {kind.replace('_', '-')} screw needs the {missing[0].replace('_', ' ')}, which "
                    "is not on the CT or not in the plan's remaining bone."
                )
            bone = _joined([self.pelvis.bones[n] for n in names])
            local = _moved(bone, self.local)
            near = [n for n in ("sacrum", own, other, "L5") if n in self.pelvis.bones]
            scenery = [self.local_bone(n) for n in near]
            driver = Driver(DRIVER_MM, evidence.value("SP-FIX-04"))
            self._bones[key] = (
                bone, ground(local, [self.local_bone(n) for n in doors], scenery, driver)
            )  # fmt: skip
        return self._bones[key]

    def point(self, name: str) -> FloatArray:
        """Landmark in local axes; raises when unknown."""
        if name not in self.pelvis.points:
            raise PlanError(
                f"The landmark {name} is not known; set it in case.toml under [landmarks] to plan "
                "this screw."
            )
        return self.local.points(self.pelvis.points[name])


def _joined(solids: Sequence[Surface]) -> Bone:
    return one_bone(solids[0]) if len(solids) == 1 else joined(solids)


def _moved(bone: Bone, local: _Local) -> Bone:
    """The bone in local axes; joints are the same faces."""
    walls = walls_of(local.surface(bone.walls.surface))
    return Bone(tuple(local.surface(s) for s in bone.solids), bone.joint, walls)


def _span(name: str) -> tuple[float, float]:
    return evidence.span("SP-FIX-09", name)


def window(site: Site, kind: PelvicKind, level: int = 1) -> Window:
    """Entry field and directions of ``kind`` on this side (SP-FIX-09), local axes."""
    letter = letter_of(site.side)
    row = "SP-FIX-09"
    skip, cone = evidence.value(row, "skip"), evidence.value(row, "cone")
    free, penalty = evidence.value(row, "free"), evidence.value(row, "penalty")
    eye = np.eye(3)
    if kind == "trans_sacral":
        s1 = site.pelvis.frames["S1EP"]
        axes = site.local.directions(s1.axes.T).T * np.array([1.0, 1.0, site.local.sign])
        down = evidence.value(row, "s1_depth") * (1.0 if level == 1 else 3.0)
        middle = site.local.points(s1.origin) - down * axes[:, 1]
        if level == 2:
            middle = middle + _back_of_s2(site, middle, axes)
        wide = evidence.value(row, "transverse")
        return Window(
            middle, axes, np.array([-wide, -wide, 0.0]), np.array([wide, wide, 120.0]),
            unit(-axes[:, 2]), evidence.value(row, "transverse_cone"), free, penalty, skip,
        )  # fmt: skip
    aiis = site.point(f"AIIS_{letter}")
    if kind == "s2ai":
        s1 = site.pelvis.frames["S1EP"]
        axes = site.local.directions(s1.axes.T).T * np.array([1.0, 1.0, site.local.sign])
        foramen = site.point(f"S1PF_{letter}")
        (z0, z1), (y0, y1) = _span("s2ai_lateral"), _span("s2ai_cranial")
        second = f"S2PF_{letter}"
        if second in site.pelvis.points:
            # The field ends at the second foramen where that is known.
            y0 = max(y0, float((site.point(second) - foramen) @ axes[:, 1]) + 1.0)
        centre = foramen + axes @ np.array([0.0, 0.5 * (y0 + y1), 0.5 * (z0 + z1)])
        return Window(
            foramen, axes, np.array([-25.0, y0, z0]), np.array([25.0, y1, z1]),
            unit(aiis - centre), cone, free, penalty, skip,
        )  # fmt: skip
    psis = site.point(f"PSIS_{letter}")
    z0, z1 = _span("iliac_lateral")
    if kind == "iliac":
        y0, y1 = evidence.span("IL-02", "band")
        low, high = np.array([-8.0, y0, z0]), np.array([14.0, y1, z1])
    else:
        (y0, y1), (x0, x1) = _span("iliolumbar_cranial"), _span("iliolumbar_anterior")
        low, high = np.array([x0, y0, z0]), np.array([x1, y1, z1])
    centre = psis + 0.5 * (low + high)
    return Window(psis, eye, low, high, unit(aiis - centre), cone, free, penalty, skip)


def _back_of_s2(site: Site, middle: FloatArray, axes: FloatArray) -> FloatArray:
    """Offset (3,) that brings a point below S1 onto the sacrum's curve at S2, by the foramina."""
    names = [f"{n}_{s}" for n in ("S1AF", "S2AF", "S1PF") for s in "LR"]
    known = [site.point(n) for n in names if n in site.pelvis.points]
    if not known:
        return np.zeros(3)
    return np.asarray(float((np.mean(known, axis=0) - middle) @ axes[:, 0]) * axes[:, 0])


def keeps(site: Site, radius: float, obstacles: Obstacles) -> Keep:
    """What a pelvic axis keeps clear of: notch apex and socket [IL-05], other metal."""
    letter = letter_of(site.side)
    rows: list[tuple[FloatArray, FloatArray, float]] = []
    points = site.pelvis.points
    if f"GSN_{letter}" in points:
        p = site.point(f"GSN_{letter}")
        rows.append((p, p, radius + evidence.value("IL-05", "above_notch")))
    if f"HJC_{letter}" in points:
        p = site.point(f"HJC_{letter}")
        ball = site.pelvis.hip_radius_mm.get(site.side, evidence.span("SP-LMK-03", "radius")[1])
        rows.append((p, p, ball + radius + evidence.value("IL-05", "acetabulum")))
    for metal in obstacles.metal:
        rows.append(
            (
                site.local.points(metal.start), site.local.points(metal.end),
                radius + metal.radius_mm + metal.wanted_mm,
            )
        )  # fmt: skip
    return Keep.of(rows)


def cut_walls(bone: Bone, cuts: Sequence[Surface]) -> Bone:
    """The bone with planned cuts added to its walls: a screw keeps its cortex from a cut as well."""
    if not cuts:
        return bone
    from sacroplan.geometry.surface import concatenate

    return replace(bone, walls=walls_of(concatenate([bone.walls.surface, *cuts])))


def plan_pelvic_screw(
    site: Site,
    kind: PelvicKind,
    name: str,
    level: int = 1,
    obstacles: Obstacles | None = None,
    catalogue: Catalogue | None = None,
    aim: str | Weights = "clearance",
    volume: Volume | None = None,
    progress: Progress = silent,
) -> Corridor:
    """The best screw of ``kind`` on the site's side, exact on the mesh, with runner-ups.

    ``level`` : 1 or 2 for trans-sacral screws. ``obstacles`` : cuts, metal and vessels to keep clear of.

    Raises :class:`PlanError` where the level is not intact, a landmark is missing or nothing fits.
    """
    obstacles = obstacles or Obstacles()
    catalogue = catalogue or generic()
    chosen = weights(aim) if isinstance(aim, str) else aim
    if kind in ("s2ai", "trans_sacral"):
        require_level(site.pelvis, kind, site.side, 2 if kind == "s2ai" else level)
    bone, field = site.ground(kind)
    cuts = [site.local.surface(c) for c in obstacles.cuts]
    if cuts:
        bone = cut_walls(bone, obstacles.cuts)
        field = replace(field, bone=cut_walls(field.bone, cuts))
    cortex = evidence.value("IL-05", "cortex")
    diameters = _preferred(kind, catalogue)
    lengths = _lengths(site, kind, catalogue)
    place = window(site, kind, level)
    progress(0.1, f"{name}: search")
    thinnest = 0.5 * float(diameters[0])
    keep = keeps(site, thinnest, obstacles)
    found = search(field, place, lengths, thinnest + cortex, keep, chosen, volume, site.local.world)
    progress(0.9, f"{name}: measured")
    if not found:
        anyhow = search(
            replace(field, driver=None), place, lengths, thinnest + cortex, keep, chosen, volume,
            site.local.world,
        )  # fmt: skip
        why = (
            f"{len(anyhow)} corridors were found but bone lies in the driver's way behind each of them"
            if anyhow
            else f"no {diameters[0]:g} mm screw of {lengths[0]:g} mm or more keeps {cortex:g} mm of bone "
            "round it and its distance to notch, socket, cuts and other metal"
        )
        raise PlanError(
            f"{name}: {why} [IL-05]. Take a thinner screw from a catalogue of your own, another "
            "entry, or leave this screw out."
        )
    made = [_sized(site, f, kind, name, level, diameters, obstacles, catalogue) for f in found]
    best, runners = made[0], made[1 : 1 + RUNNERS]
    hard = conflicts(
        best,
        obstacles,
        site.pelvis.points,
        site.pelvis.hip_radius_mm,
        bone,
        place.skip_mm,
        site.frame,
    )
    if hard:
        raise PlanError(f"{name} is refused: {hard[0]}")
    rules, doubts = pelvic_rules(
        best, kind, found[0].gap_mm, obstacles, site.pelvis.points, site.pelvis.hip_radius_mm
    )
    progress(1.0, f"{name}: done")
    return Corridor(
        best, bone, place.skip_mm, found[0].gap_mm,
        angles(best, site.pelvis.frames), rules, tuple(runners),
        tuple(f.gap_mm for f in found[1 : 1 + RUNNERS]), doubts,
    )  # fmt: skip


def _preferred(kind: PelvicKind, catalogue: Catalogue) -> FloatArray:
    """Catalogue diameters within the published range of ``kind``, ascending; all where none is."""
    row = {"s2ai": "S2-06", "trans_sacral": "SP-FIX-10"}.get(kind, "IL-03")
    low, high = evidence.span(row, "diameter")
    sizes = catalogue.diameters(kind)
    inside = sizes[(sizes >= low - 1e-9) & (sizes <= high + 1e-9)]
    return inside if len(inside) else sizes


def _lengths(site: Site, kind: PelvicKind, catalogue: Catalogue) -> FloatArray:
    """Catalogue lengths of clinical use: from the published least up, trans-sacral beyond the far joint."""
    sizes = catalogue.lengths(kind)
    if kind == "trans_sacral":
        both = [site.pelvis.points[f"SIJ_{s}"] for s in "LR" if f"SIJ_{s}" in site.pelvis.points]
        if len(both) == 2:
            # Across both joints, with the least of bone on either side that a screw's tip needs.
            sizes = sizes[sizes >= float(np.linalg.norm(both[0] - both[1])) + 20.0]
        return sizes
    row = "S2-06" if kind == "s2ai" else "IL-03"
    low, high = evidence.span(row, "length")
    return sizes[(sizes >= low - 1e-9) & (sizes <= high + 1e-9)]


def _sized(
    site: Site,
    found: Found,
    kind: Kind,
    name: str,
    level: int,
    diameters: FloatArray,
    obstacles: Obstacles,
    catalogue: Catalogue,
) -> Screw:
    """The thickest screw of the catalogue that this axis and its neighbours leave room for."""
    cortex = evidence.value("IL-05", "cortex")
    entry = site.local.world(found.entry)
    tip = site.local.world(found.entry + found.length_mm * found.direction)
    place = {"s2ai": "S2", "trans_sacral": f"S{level}"}.get(kind, "ilium")
    best = float(diameters[0])
    start, end = found.entry, found.entry + found.length_mm * found.direction
    for d in diameters:
        if not catalogue.has(kind, float(d), found.length_mm):
            continue
        keep = keeps(site, 0.5 * float(d), obstacles)
        clear = bool(keep.clear(start[None], end[None], 1e-9)[0])
        if clear and 0.5 * float(d) + cortex <= found.gap_mm + 1e-9:
            best = float(d)
    return screws.at(
        name, place, site.side, kind, entry, tip - entry, best, found.length_mm, site.hip.frame
    )


def angles(screw: Screw, frames: Mapping[str, AxisFrame]) -> dict[str, float]:
    """``lateral`` (transverse plane) and ``caudal`` (sagittal plane) angles, degrees, as projections.

    In FRM-1 (``pelvis_...``) and, where the endplate is known, FRM-3 (``S1EP_...``); lateral is
    positive away from the midline for a screw that runs forwards.
    """
    sign = 1.0 if screw.side == "right" else -1.0
    out = {}
    for name in ("pelvis", "S1EP"):
        if name not in frames:
            continue
        same_frame(screw, frames[name])
        x, y, z = frames[name].axes.T @ screw.direction
        out[f"{name}_lateral"] = float(np.degrees(np.arctan2(sign * z, x)))
        out[f"{name}_caudal"] = float(np.degrees(np.arctan2(-y, np.hypot(x, 0.0))))
    return out


def plan_iliac_pair(
    site: Site,
    obstacles: Obstacles | None = None,
    catalogue: Catalogue | None = None,
    aim: str = "clearance",
    volume: Volume | None = None,
    progress: Progress = silent,
) -> tuple[Corridor, Corridor]:
    """Two iliac screws of one side with IL-03's bone and room for two heads between them, cranial first.

    The pair with the best summed score is chosen among many single axes.
    Raises :class:`PlanError` where no pair fits.
    """
    from sacroplan.fixation.corridor_kernels import best_pair

    obstacles = obstacles or Obstacles()
    sizes = catalogue or generic()
    cortex, between = evidence.value("IL-05", "cortex"), evidence.value("IL-03", "bone_between")
    apart = evidence.value("SP-FIX-05", "heads_apart")
    thin = float(_preferred("iliac", sizes)[0])
    bone, field = site.ground("iliac")
    if obstacles.cuts:
        cuts = [site.local.surface(c) for c in obstacles.cuts]
        bone = cut_walls(bone, obstacles.cuts)
        field = replace(field, bone=cut_walls(field.bone, cuts))
    place = window(site, "iliac")
    found = pool(
        field, place, _lengths(site, "iliac", sizes), 0.5 * thin + cortex,
        keeps(site, 0.5 * thin, obstacles), weights(aim),
    )  # fmt: skip
    starts = np.array([f.entry for f in found]).reshape(-1, 3)
    ends = np.array([f.entry + f.length_mm * f.direction for f in found]).reshape(-1, 3)
    first, second = best_pair(
        starts, ends, np.array([f.score for f in found]), thin + between, apart
    )
    if first < 0:
        raise PlanError(
            f"Iliac screws {site.side}: of {len(found)} corridors for {thin:g} mm screws no two keep "
            f"{between:g} mm of bone and {apart:g} mm between their heads [IL-03]. Take one screw."
        )
    out: list[Corridor] = []
    for n, k in enumerate(sorted((int(first), int(second)), key=lambda k: -float(starts[k, 1]))):
        name = f"iliac_{site.side}_{n + 1}"
        screw = _sized(site, found[k], "iliac", name, 1, np.array([thin]), obstacles, sizes)
        rules, doubts = pelvic_rules(
            screw, "iliac", found[k].gap_mm,
            replace(obstacles, metal=(*obstacles.metal, *(Metal.of(c.screw, between) for c in out))),
            site.pelvis.points, site.pelvis.hip_radius_mm,
        )  # fmt: skip
        out.append(
            Corridor(
                screw, bone, place.skip_mm, found[k].gap_mm, angles(screw, site.pelvis.frames), rules,
                (), (), doubts,
            )
        )  # fmt: skip
    return out[0], out[1]


def moved(pelvis: Pelvis, rigid: Rigid) -> Pelvis:
    """The pelvis moved as a whole."""
    return Pelvis(
        {n: s.transformed(rigid) for n, s in pelvis.bones.items()},
        {n: rigid.points(p) for n, p in pelvis.points.items()},
        {
            n: AxisFrame(f.name, rigid.points(f.origin), rigid.rotation @ f.axes, f.frame)
            for n, f in pelvis.frames.items()
        },
        pelvis.hip_radius_mm,
        {n: s.transformed(rigid) for n, s in pelvis.removed.items()},
    )
