"""Pedicle screws: a search over entry and direction for the roomiest safe cylinder.

The search runs on the vertebra's distance field in the level's own axes (x anterior, y cranial,
lateral), so the left and the right side are the same problem; the best are measured again on the mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation import screws
from sacroplan.fixation.bone import Walls, walls_of
from sacroplan.fixation.catalogue import Catalogue, generic
from sacroplan.fixation.clearance import clearance, gertzbein, mean_hu
from sacroplan.fixation.rules import Obstacles, Rule, axis_room, broken
from sacroplan.fixation.screw_plan import ScrewPlan, pedicle_row
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.fields import DistanceField
from sacroplan.geometry.frames import AxisFrame, FloatArray, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume
from sacroplan.parallel import ALL_CORES
from sacroplan.progress import Progress, silent

FIELD_MM = 1.0
"""Grid of the distance field; it shows the hills, their tops are found on the mesh."""

FIELD_SLACK_MM = 0.3
"""The field may read this much too shallow between its points; no axis is lost for that."""

MARCH_MM = 0.75
"""Step along an axis: a cortex cannot hide between two steps by more than 0.1 mm of depth."""

GATE_MM = 4.0
"""The plane this far behind the posterior wall cuts every pedicle between body and facet."""

PEDICLE_MM = 8.0
"""The pedicle reaches this far behind the posterior wall. Thread there counts even near the entry, which
keeps the entry on the facet's side of the transverse process."""

SHARED_OUT = 4000
"""More axes than this are searched on all cores."""

BESIDE_MM = 1.5
"""Sampling of the distance to the bones beside a screw's head."""

HEAD_ROOM_MM = 30.0
"""A head stands within this of the vertebra."""

FINALISTS = 8
"""Axes that climb to the tops of their hills on the mesh."""

CLIMB = ((0.5, 1.0), (0.25, 0.5), (0.1, 0.2))
"""Steps of the climb in mm and degrees."""

ROUNDS = 20
"""Steps of one size that a climb takes at most."""


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """The vertebra in level axes (x anterior, y cranial, lateral), mm, origin mid-body.

    ``depth`` is the field turned round: mm under the surface, as the search reads it.
    """

    surface: Surface
    walls: Walls
    field: DistanceField
    depth: npt.NDArray[np.float32]
    frame: AxisFrame
    sign: float
    beside: DistanceField | None = None

    def free(self, rows: FloatArray) -> FloatArray:
        """Rows (n, 10) of :func:`_search` whose head keeps its gap (SP-FIX-02) to the bones beside it."""
        if self.beside is None or not len(rows):
            return rows
        radius = 0.5 * evidence.value("SP-FIX-02", "diameter") + evidence.value("SP-FIX-02", "gap")
        # The head is drawn from half its radius below the rod's centre to its top.
        low = evidence.value("SP-FIX-02", "seat") - 0.25 * evidence.value("SP-FIX-02", "diameter")
        top = evidence.value("SP-FIX-02", "seat") + evidence.value("SP-FIX-02", "above")
        back = rows[:, 2, None] + np.linspace(low, top, 6)[None, :]
        at = rows[:, None, 4:7] - back[:, :, None] * rows[:, None, 7:10]
        gap = self.beside.at(at.reshape(-1, 3)).reshape(back.shape).min(axis=1)
        return np.asarray(rows[gap >= radius])

    def to_world(self, points: FloatArray) -> FloatArray:
        return np.asarray(self.frame.to_world(points * np.array([1.0, 1.0, self.sign])))

    def direction(self, d: FloatArray) -> FloatArray:
        return np.asarray((d * np.array([1.0, 1.0, self.sign])) @ self.frame.axes.T)


def level_frame(level: str, superior: AxisFrame, inferior: AxisFrame) -> AxisFrame:
    """Frame half-way between the endplates of one vertebra, origin mid-body."""
    y = unit(superior.axes[:, 1] + inferior.axes[:, 1])
    x = superior.axes[:, 0] + inferior.axes[:, 0]
    x = unit(x - (x @ y) * y)
    axes = np.stack([x, y, np.cross(x, y)], axis=1)
    origin = 0.5 * (superior.origin + inferior.origin)
    return AxisFrame(level, origin, axes, same_frame(superior, inferior))


def _prepare(
    vertebra: Surface, frame: AxisFrame, sign: float, others: Sequence[Surface] = ()
) -> _Level:
    from sacroplan.geometry.fields import distance_field
    from sacroplan.geometry.surface import concatenate
    from sacroplan.geometry.volume import VolumeGeometry, grid_around

    def turned(bone: Surface) -> Surface:
        local = frame.to_local(bone.vertices) * np.array([1.0, 1.0, sign])
        return Surface(local, bone.faces if sign > 0 else bone.faces[:, ::-1], bone.frame)

    surface = turned(vertebra)
    beside = None
    if others:
        room = grid_around(surface.vertices, BESIDE_MM, HEAD_ROOM_MM, vertebra.frame)
        beside = distance_field(concatenate([turned(s) for s in others]), room)
    low = np.array([surface.bounds[0, 0], surface.bounds[0, 1], -14.0]) - 2.0
    high = (
        np.array([surface.bounds[1, 0], surface.bounds[1, 1], min(surface.bounds[1, 2], 45.0)])
        + 2.0
    )
    shape = np.ceil((high - low) / FIELD_MM).astype(int) + 1
    grid = VolumeGeometry(
        (int(shape[0]), int(shape[1]), int(shape[2])), np.full(3, FIELD_MM), low, np.eye(3),
        vertebra.frame,
    )  # fmt: skip
    depth = distance_field(surface, grid)
    return _Level(surface, walls_of(surface), depth, -depth.values, frame, sign, beside)


def _posterior_wall(level: _Level, name: str) -> float:
    """x of the body's posterior wall near the middle (mm)."""
    xs = np.arange(0.0, -40.0, -0.25)
    found = []
    for y in (-3.0, 0.0, 3.0):
        for z in (0.0, 2.5, 5.0):
            line = np.stack([xs, np.full_like(xs, y), np.full_like(xs, z)], axis=1)
            outside = np.flatnonzero(level.field.at(line) > 0.0)
            if len(outside) and outside[0] > 0:
                found.append(float(xs[outside[0]]))
    if len(found) < 3:
        raise PlanError(
            f"{name}: no spinal canal lies behind the vertebral body; the surface is filled or the "
            "endplate frames are wrong. Check the segmentation."
        )
    return float(np.median(found))


def _gate(level: _Level, wall_x: float, floor: float, name: str) -> FloatArray:
    """Points (n, 3) of the coronal plane through the pedicle that every screw must pass."""
    x = wall_x - GATE_MM
    y, z = np.meshgrid(np.arange(-12.0, 22.01, 1.0), np.arange(5.0, 30.01, 1.0), indexing="ij")
    p = np.stack([np.full(y.size, x), y.ravel(), z.ravel()], axis=1)
    depth = -level.field.at(p)
    if float(depth.max()) < floor:
        raise PlanError(
            f"{name}: no screw of the catalogue fits; behind the body the bone is at most "
            f"{2.0 * max(float(depth.max()), 0.0):.1f} mm thick on this side (needed {2.0 * floor:g} mm). "
            "Check the segmentation, or leave this pedicle out."
        )
    return np.asarray(p[depth >= floor])


def _isthmus(level: _Level, entry: FloatArray, d: FloatArray, wall_x: float) -> tuple[float, float]:
    """Least width (transverse) and height of the pedicle across a screw's axis."""
    across = unit(np.cross(np.array([0.0, 1.0, 0.0]), d))
    up = np.cross(d, across)
    s = np.arange(0.0, 30.0, 0.1)
    xs = np.arange(wall_x - 9.0, wall_x + 1.01, 0.5)
    middle = entry + ((xs - entry[0]) / d[0])[:, None] * d

    def chords(e: FloatArray) -> FloatArray:
        total = np.zeros(len(middle))
        for sign in (1.0, -1.0):
            line = middle[:, None] + sign * s[:, None] * e
            outside = level.field.at(line.reshape(-1, 3)).reshape(len(middle), -1) > 0.0
            total += np.where(outside.any(axis=1), s[np.argmax(outside, axis=1)], s[-1])
        return total

    return float(chords(across).min()), float(chords(up).min())


def _directions(
    level: str, centre: tuple[float, float] | None, step: float, half: int
) -> tuple[FloatArray, FloatArray]:
    """Unit directions (m, 3) in level axes and their cost (m,) for leaving the usual range."""
    row = pedicle_row(level)
    low, high = evidence.span(row, "convergence")
    caudal_low, caudal_high = evidence.span(row, "caudal")
    widen = evidence.value("SP-FIX-03", "widen")
    if centre is None:
        alpha = np.arange(low - widen, high + widen + 1e-9, step)
        beta = np.arange(-caudal_high - widen, -caudal_low + widen + 1e-9, step)
    else:
        offsets = step * np.arange(-half, half + 1)
        alpha, beta = centre[0] + offsets, centre[1] + offsets
    a, b = (m.ravel() for m in np.meshgrid(alpha, beta, indexing="ij"))
    outside = np.maximum(0.0, np.maximum(low - a, a - high))
    outside = outside + np.maximum(0.0, np.maximum(-b - caudal_high, b + caudal_low))
    a, b = np.radians(a), np.radians(b)
    d = np.stack([np.cos(b) * np.cos(a), np.sin(b), -np.cos(b) * np.sin(a)], axis=1)
    return d, evidence.value("SP-FIX-03", "penalty") * outside


def _angles(d: FloatArray) -> tuple[float, float]:
    """Convergence and sagittal angle (degrees) of a direction in level axes."""
    return float(np.degrees(np.arctan2(-d[2], d[0]))), float(np.degrees(np.arcsin(d[1])))


def _search(
    level: _Level,
    name: str,
    points: FloatArray,
    directions: FloatArray,
    cost: FloatArray,
    wall_x: float,
    floor: float,
    catalogue: Catalogue,
) -> FloatArray:
    """Rows (score, clearance of the axis, entry distance, length, point, direction), best first."""
    from sacroplan.fixation.corridor_kernels import pedicle_axes, pedicle_sweep

    high = evidence.span(pedicle_row(name), "length")[1]
    sizes = catalogue.lengths("pedicle")
    sizes = sizes[sizes <= high]
    out = np.empty((len(points), len(directions), 4))
    # Every axis of a fine search takes many samples; those of a climb are too few to share out.
    many = len(points) * len(directions) > SHARED_OUT
    with ALL_CORES if many else nullcontext():
        (pedicle_sweep if many else pedicle_axes)(
            level.depth, level.field.geometry.origin, FIELD_MM, points, directions, cost, wall_x,
            wall_x - PEDICLE_MM, evidence.value("PED-R2", "depth") / 100.0,
            evidence.value("SP-FIX-03", "entry_skip"), sizes, floor, evidence.value("SP-FIX-04"),
            MARCH_MM, out,
        )  # fmt: skip
    p, d = np.nonzero(np.isfinite(out[:, :, 0]))
    rows = np.concatenate([out[p, d], points[p], directions[d]], axis=1)
    return rows[np.argsort(-np.round(rows[:, 0], 6), kind="stable")]


def _apart(rows: FloatArray, count: int, mm: float, deg: float) -> FloatArray:
    """The best ``count`` rows that differ from each other by ``mm`` at the entry or ``deg``."""
    kept: list[FloatArray] = []
    for row in rows:
        entry, d = row[4:7] - row[2] * row[7:10], row[7:10]
        if all(
            np.linalg.norm(entry - (k[4:7] - k[2] * k[7:10])) >= mm
            or np.degrees(np.arccos(np.clip(d @ k[7:10], -1.0, 1.0))) >= deg
            for k in kept
        ):
            kept.append(row)
            if len(kept) == count:
                break
    return np.array(kept).reshape(-1, 10)


def _exact(
    work: _Level, rows: FloatArray, wall_x: float, beat: float = -np.inf
) -> tuple[FloatArray, FloatArray]:
    """Score and exact least distance of the axes (n,) of rows, in place of what the field said.

    Axes that cannot score more than ``beat`` are left early with some score below it.
    """
    entry = rows[:, 4:7] - rows[:, 2:3] * rows[:, 7:10]
    begin = np.array([_start(r, wall_x) for r in rows])
    stop = np.maximum(beat - rows[:, 0] + rows[:, 1], 0.0)
    depth, _ = work.walls.gaps(
        entry + begin[:, None] * rows[:, 7:10], entry + rows[:, 3:4] * rows[:, 7:10], stop
    )
    return rows[:, 0] - rows[:, 1] + depth, depth


def _climb(
    work: _Level, level: str, row: FloatArray, wall_x: float, floor: float, catalogue: Catalogue
) -> tuple[FloatArray, float]:
    """The top of an axis's hill by exact distances: its row and its exact least distance."""
    score, depth = (float(v[0]) for v in _exact(work, row[None], wall_x))
    ticks = np.array([-1.0, 0.0, 1.0])
    grid = np.stack(np.meshgrid([0.0], ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    for step_mm, step_deg in CLIMB:
        for _ in range(ROUNDS):
            directions, cost = _directions(level, _angles(row[7:10]), step_deg, 1)
            found = _search(
                work, level, row[4:7] + step_mm * grid, directions, cost, wall_x,
                floor - FIELD_SLACK_MM, catalogue,
            )  # fmt: skip
            found = work.free(found)
            if not len(found):
                break
            scores, depths = _exact(work, found, wall_x, score if depth >= floor else -np.inf)
            # Below the floor clearance is all that counts; the field's slack let such axes in.
            scores = np.where(depths >= floor, scores, depths - 100.0)
            k = int(np.argmax(np.round(scores, 9)))
            now = score if depth >= floor else depth - 100.0
            if not scores[k] > now + 1e-6:
                break
            row, score, depth = found[k], float(scores[k]), float(depths[k])
    return row, depth


def _start(row: FloatArray, wall_x: float) -> float:
    """Distance from the entry (mm) from which the thread counts."""
    entry_x = row[4] - row[2] * row[7]
    pedicle = (wall_x - PEDICLE_MM - entry_x) / row[7]
    return float(min(evidence.value("SP-FIX-03", "entry_skip"), pedicle))


def plan_pedicle_screw(
    vertebra: Surface,
    level: str,
    side: str,
    superior: AxisFrame,
    inferior: AxisFrame,
    volume: Volume | None = None,
    progress: Progress = silent,
    catalogue: Catalogue | None = None,
    obstacles: Obstacles | None = None,
    others: Sequence[Surface] = (),
) -> ScrewPlan:
    """The roomiest pedicle screw of ``vertebra`` on ``side`` (``left`` or ``right``).

    Parameters
    ----------
    vertebra : closed surface, LPS mm. level : ``L3``, ``L4`` or ``L5`` (rows PED-L3 to PED-L5).
    superior, inferior : frames of its endplates (x anterior, y cranial, z right).
    volume : CT for the HU along the thread. catalogue : sizes that exist, generic without it.
    obstacles : cuts, metal and vessels that the thread must not touch.
    others : closed surfaces of bones that the screw's head must clear, such as the ilium beside S1.

    Raises :class:`PlanError` when the surface has no canal or pedicle, or no screw of the catalogue fits.
    """
    if side not in ("left", "right"):
        raise PlanError(f"Side must be 'left' or 'right', not {side!r}.")
    same_frame(vertebra, superior, inferior, *others)
    name = f"{level} {side}"
    row = pedicle_row(level)
    evidence.get(row)
    vertebra.require_closed(level)
    progress(0.0, f"{name}: distance field")
    frame = level_frame(level, superior, inferior)
    work = _prepare(vertebra, frame, 1.0 if side == "right" else -1.0, others)
    wall_x = _posterior_wall(work, name)
    progress(0.3, f"{name}: search")
    catalogue = catalogue or generic()
    sizes = catalogue.diameters("pedicle")
    floor = 0.5 * float(sizes[0])
    points = _gate(work, wall_x, floor - FIELD_SLACK_MM, name)
    directions, cost = _directions(level, None, 2.5, 0)
    rows = _search(work, level, points, directions, cost, wall_x, floor - FIELD_SLACK_MM, catalogue)
    if not len(rows):
        raise PlanError(
            f"{name}: no screw of the catalogue fits, not even {sizes[0]:g} x "
            f"{catalogue.lengths('pedicle')[0]:g} mm. Leave this pedicle out or place the screw by hand."
        )
    obstacles = obstacles or Obstacles()
    rows = rows[_rooms(work, rows, obstacles) >= floor]
    if not len(rows):
        raise PlanError(
            f"{name}: every axis through this pedicle meets a planned cut, other metal or a vessel. Move "
            "that, or leave this pedicle out."
        )
    rows = work.free(rows)
    if not len(rows):
        raise PlanError(
            f"{name}: every screw of the catalogue that fits the bone would stand with its head in the bone "
            f"beside it (gap of {evidence.value('SP-FIX-02', 'gap'):g} mm wanted). Leave this pedicle out or "
            "place the screw by hand, with that bone trimmed."
        )
    progress(0.6, f"{name}: refinement")
    tops = []
    for row in _apart(rows, FINALISTS, 2.0, 5.0):
        top = _climb(work, level, row, wall_x, floor, catalogue)
        # A climb sees the bone alone; where it ran into something the axis stays where it began.
        if _rooms(work, top[0][None], obstacles)[0] < floor:
            top = row, float(_exact(work, row[None], wall_x)[1][0])
        tops.append(top)
    rows = np.array([row for row, depth in tops if depth >= floor]).reshape(-1, 10)
    if not len(rows):
        best = max(depth for _, depth in tops)
        raise PlanError(
            f"{level} {side}: no screw of the catalogue fits inside the bone; the roomiest axis has "
            f"{best:.1f} mm to the surface. Leave this pedicle out or place it by hand."
        )
    progress(0.8, f"{name}: measured on the surface")
    return _decide(work, vertebra, level, side, rows, wall_x, volume, catalogue, obstacles)


def assess_pedicle_screw(
    screw: Screw,
    vertebra: Surface,
    superior: AxisFrame,
    inferior: AxisFrame,
    volume: Volume | None = None,
) -> ScrewPlan:
    """Measure and grade a pedicle ``screw`` that someone else placed; nothing is moved.

    Parameters as of :func:`plan_pedicle_screw`. Raises :class:`PlanError` where the screw does not run
    forwards through the vertebra or the surface has no canal.
    """
    same_frame(screw, vertebra, superior, inferior)
    name = f"{screw.level} {screw.side}"
    vertebra.require_closed(screw.level)
    frame = level_frame(screw.level, superior, inferior)
    work = _prepare(vertebra, frame, 1.0 if screw.side == "right" else -1.0)
    wall_x = _posterior_wall(work, name)
    mirror = np.array([1.0, 1.0, work.sign])
    entry = frame.to_local(screw.entry[None])[0] * mirror
    tip = frame.to_local(screw.tip[None])[0] * mirror
    d = unit(tip - entry)
    if d[0] < 0.2 or not entry[0] < wall_x < tip[0]:
        raise PlanError(
            f"{screw.name} does not run forwards from behind the canal into the body of {screw.level}; "
            "check its entry and tip (LPS mm, entry first)."
        )
    # A row as the search leaves it, with the entry as its point.
    row = np.concatenate([[0.0, 0.0, 0.0, screw.length_mm], entry, d])
    start = _start(row, wall_x)
    depth = clearance(screw, vertebra, start).least_mm + 0.5 * screw.diameter_mm
    if depth > 0.0:
        depth = float(work.walls.gaps(entry + start * d, tip)[0][0])
    plan = _measured(work, vertebra, screw, row, wall_x, depth, None, None, [], volume)
    return replace(plan, doubts=(*plan.doubts, *broken(screw.name, plan.rules)))


def _rooms(work: _Level, rows: FloatArray, obstacles: Obstacles) -> FloatArray:
    """Distance (n,) of the axes of rows to cuts, metal and vessels."""
    entry = rows[:, 4:7] - rows[:, 2:3] * rows[:, 7:10]
    tip = entry + rows[:, 3:4] * rows[:, 7:10]
    return axis_room(work.to_world(entry), work.to_world(tip), obstacles)


def _decide(
    work: _Level,
    vertebra: Surface,
    level: str,
    side: str,
    rows: FloatArray,
    wall_x: float,
    volume: Volume | None,
    catalogue: Catalogue,
    obstacles: Obstacles,
) -> ScrewPlan:
    """Measure the finalists on the mesh and make a plan of the best."""
    name = f"{level}_{side}"
    row = pedicle_row(level)
    sizes = catalogue.diameters("pedicle")
    cortex = evidence.value("PED-R1", "cortex")
    probes = [
        screws.at(
            name, level, side, "pedicle", work.to_world(r[4:7] - r[2] * r[7:10]),
            work.direction(r[7:10]), float(sizes[0]), float(r[3]), vertebra.frame,
        )
        for r in rows
    ]  # fmt: skip
    scores, depths = _exact(work, rows, wall_x)
    measured = [
        (float(score), float(depth), probe, r)
        for score, depth, probe, r in zip(scores, depths, probes, rows, strict=True)
    ]
    measured.sort(key=lambda m: -round(m[0], 6))
    _, axis_clearance, probe, best = measured[0]
    runner = next(
        (
            m
            for m in measured[1:]
            if np.linalg.norm(m[2].entry - probe.entry) >= 2.0
            or np.degrees(np.arccos(np.clip(m[2].direction @ probe.direction, -1.0, 1.0))) >= 5.0
        ),
        None,
    )
    d_local = best[7:10]
    entry_local = best[4:7] - best[2] * d_local
    width, height = _isthmus(work, entry_local, d_local, wall_x)
    share = evidence.value("PED-R1", "share") / 100.0
    low, high = evidence.span(row, "diameter")
    doubts: list[Doubt] = []
    other = 2.0 * float(_rooms(work, best[None], obstacles)[0])
    room = min(2.0 * (axis_clearance - cortex), share * min(width, height), high, other)
    sizes = np.array([d for d in sizes if catalogue.has("pedicle", float(d), probe.length_mm)])
    fits = sizes[sizes <= room + 1e-9]
    if len(fits):
        diameter = float(fits[-1])
    else:
        thin = sizes[sizes <= min(2.0 * axis_clearance, other) + 1e-9]
        if not len(thin):
            raise PlanError(
                f"{level} {side}: no screw of the catalogue fits inside the bone; the roomiest axis has "
                f"{axis_clearance:.1f} mm to the surface. Leave this pedicle out or place it by hand."
            )
        diameter = float(thin[0])
        doubts.append(
            Doubt(
                "fixation",
                "fixation.thin_cortex",
                f"{level} {side}: a {diameter:g} mm screw leaves {axis_clearance - diameter / 2:.1f} mm of "
                f"bone round it (wanted {cortex:g} mm) in a pedicle of {width:.1f} x {height:.1f} mm.",
                ("PED-R1",),
            )
        )
    wanted = max(low, evidence.value("SP-FIX-01", "pedicle_diameter"))
    if diameter < wanted:
        doubts.append(
            Doubt(
                "fixation",
                "fixation.small_screw",
                f"{level} {side}: the largest screw that fits measures {diameter:g} mm (usually "
                f"{low:g}-{high:g} mm); the pedicle is {width:.1f} x {height:.1f} mm.",
                (row, "PED-R1", "SP-FIX-01"),
            )
        )
    length = probe.length_mm
    least_length = evidence.span(row, "length")[0]
    if length < least_length:
        doubts.append(
            Doubt(
                "fixation",
                "fixation.short_screw",
                f"{level} {side}: {length:g} mm is the longest screw within "
                f"{evidence.value('PED-R2', 'depth'):g} % of the depth (usually {least_length:g} mm "
                "or more).",
                (row, "PED-R2"),
            )
        )

    def make(source: Screw) -> Screw:
        return screws.at(
            name, level, side, "pedicle", source.entry, source.direction, diameter, source.length_mm,
            vertebra.frame,
        )  # fmt: skip

    rival = None if runner is None else make(runner[2])
    gap = None if rival is None or runner is None else runner[1] - 0.5 * rival.diameter_mm
    return _measured(
        work, vertebra, make(probe), best, wall_x, axis_clearance, rival, gap, doubts, volume
    )


def _measured(
    work: _Level,
    vertebra: Surface,
    screw: Screw,
    row: FloatArray,
    wall_x: float,
    axis_clearance: float,
    rival: Screw | None,
    rival_clearance: float | None,
    doubts: list[Doubt],
    volume: Volume | None,
) -> ScrewPlan:
    """Everything that is told of one screw; ``row`` is its axis in level axes."""
    level, side = screw.level, screw.side
    own = pedicle_row(level)
    cortex, share = evidence.value("PED-R1", "cortex"), evidence.value("PED-R1", "share") / 100.0
    diameter, length = screw.diameter_mm, screw.length_mm
    d_local = row[7:10]
    entry_local = row[4:7] - row[2] * d_local
    width, height = _isthmus(work, entry_local, d_local, wall_x)
    # An axis beside the pedicle crosses no bone there: it fills any share of it.
    narrow = max(min(width, height), 0.1)
    exact = clearance(screw, vertebra, _start(row, wall_x))
    grade = gertzbein(exact.breach_mm)
    if grade != "A":
        doubts.append(
            Doubt(
                "fixation", "fixation.breach",
                f"{level} {side}: the thread stands {exact.breach_mm:.1f} mm out of the bone "
                f"(grade {grade}).",
                ("GR-01",),
            )
        )  # fmt: skip
    convergence, sagittal = _angles(d_local)
    reach = np.arange(0.0, 80.0, 0.1)
    inside = work.field.at(entry_local + (length + reach)[:, None] * d_local) < 0.0
    anterior = float(reach[int(np.argmin(inside))])
    to_wall = (wall_x - entry_local[0]) / d_local[0]
    depth = 100.0 * (length - to_wall) / (length + anterior - to_wall)
    slimmest, longest = evidence.span(own, "diameter"), evidence.span(own, "length")
    rules = (
        Rule("cortex", axis_clearance - 0.5 * diameter, cortex, True, "mm", ("PED-R1",)),
        Rule("share_of_isthmus", 100.0 * diameter / narrow, 100.0 * share, False, "%",
             ("PED-R1",)),
        Rule("depth", depth, evidence.span("PED-R2", "depth")[1], False, "%", ("PED-R2",)),
        Rule("anterior_cortex", anterior, 0.0, True, "mm", ("PED-R2",)),
        Rule("least_diameter", diameter, slimmest[0], True, "mm", (own,)),
        Rule("most_diameter", diameter, slimmest[1], False, "mm", (own,)),
        Rule("least_length", length, longest[0], True, "mm", (own,)),
        Rule("most_length", length, longest[1], False, "mm", (own,)),
    )  # fmt: skip
    return ScrewPlan(
        screw, grade, exact.breach_mm, axis_clearance - 0.5 * diameter, exact.profile,
        exact.purchase_mm, convergence, sagittal, width, height,
        _canal(work, entry_local, d_local, wall_x, 0.5 * diameter), anterior,
        depth, None if volume is None else mean_hu(screw, volume), {}, rival,
        rival_clearance, tuple(doubts), rules, {}, _start(row, wall_x), exact.breach_at,
        () if rival is None else (rival,),
    )  # fmt: skip


def _canal(work: _Level, entry: FloatArray, d: FloatArray, wall_x: float, radius: float) -> float:
    """Least distance (mm) from the thread towards the midline to the canal's wall."""
    # The canal lies between the posterior wall and 12 mm behind it, where laminae begin.
    start, stop = (wall_x - 12.0 - entry[0]) / d[0], (wall_x - entry[0]) / d[0]
    start = max(start, evidence.value("SP-FIX-03", "entry_skip"))
    inward = np.array([0.0, 0.0, -1.0])
    inward = unit(inward - (inward @ d) * d)
    s = np.arange(0.0, 30.0, 0.1)
    best = np.inf
    for t in np.arange(start, stop + 1e-9, 0.5):
        outside = np.flatnonzero(work.field.at(entry + t * d + s[:, None] * inward) > 0.0)
        if len(outside) and outside[0] > 0:
            best = min(best, float(s[outside[0]]))
    return best - radius if np.isfinite(best) else float("nan")
