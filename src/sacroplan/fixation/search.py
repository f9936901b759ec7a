"""Search for the best cylinder through bone: a sweep in a depth field, then exact refinement.

Everything here is in *local* axes (x anterior, y cranial, z lateral of the side planned), so that left
and right are one problem and a case moved as a whole gives the same screws. The sweep finds where to
look; every figure that is printed comes from exact distances between axis and mesh. Only axes whose
driver can come from behind are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.fixation.terrain import (
    FIELD_MM,
    Ground,
    Keep,
    Window,
    cone,
    entries,
    first_met,
    open_ways,
    sweep_field,
)
from sacroplan.geometry.frames import FloatArray, perpendicular, unit
from sacroplan.geometry.volume import Volume
from sacroplan.parallel import ALL_CORES

FIELD_SLACK_MM = 0.6
"""The field may read this much too shallow between its points; no axis is lost for that."""

ENTRY_MM, ANGLE_DEG = 2.0, 2.0
"""Spacing of the sweep; neighbours differ by less than a hill's width, about 5 mm and 5 degrees."""

STARTS = 24
"""Distinct axes from the sweep that climb on the mesh."""

POOL = 400
"""Axes from which a pair is chosen."""

HILLS = 10
"""Hills whose very top is looked for."""

SHAKEN = 4
SHAKES = (4.0, 3.0, 2.0, 1.0, 0.5, 0.3)
"""How far (mm and degrees) round a top is looked for a better one."""

SHAKE_ROUNDS, SHAKE_DRAWS, MOST_LOOKS = 2, 1000, 30
"""Looks of each size without a find after which it is given up, axes a look, and looks of a size in all."""

ROUNDS = 30
"""Steps of one size that a climb takes at most; 30 mm cross every entry field."""

BACK_MM = 25.0
"""Lines are followed to the bone from so far behind it."""

LOOKED_AT, BLOCK = 20_000, 500
"""Axes of a sweep from which starts are taken, and how many at once."""

APART_MM, APART_DEG = 4.0, 4.0
"""Axes that differ by less are one hill."""

REFINE = ((1.0, 1.0), (0.5, 0.5), (0.25, 0.25), (0.1, 0.1))
"""Steps of the refinement in mm and degrees."""

ToWorld = Callable[[FloatArray], FloatArray]
"""Local points (n, 3) to LPS."""


@dataclass(frozen=True)
class Weights:
    """What a mm of bone round the thread, a mm of length and 100 HU are worth (mm of clearance)."""

    clearance: float
    length: float
    bone: float
    enough_mm: float


def weights(aim: str) -> Weights:
    """Weights of ``clearance``, ``purchase`` or ``bone`` (SP-FIX-08)."""
    if aim not in ("clearance", "purchase", "bone"):
        raise PlanError(f"The aim {aim!r} is not known; choose clearance, purchase or bone.")
    part = [evidence.value("SP-FIX-08", f"{aim}_{n}") for n in ("clearance", "length", "bone")]
    return Weights(part[0], part[1], part[2], evidence.value("SP-FIX-08", "enough"))


@dataclass(frozen=True, eq=False)
class Found:
    """One axis: entry and direction (local), length, exact least distance of the axis to walls."""

    entry: FloatArray
    direction: FloatArray
    length_mm: float
    gap_mm: float
    score: float


def search(
    field: Ground,
    window: Window,
    lengths: FloatArray,
    need_mm: float,
    keep: Keep,
    aim: Weights,
    volume: Volume | None = None,
    to_world: ToWorld | None = None,
) -> list[Found]:
    """Refined axes, best first, each a hill of its own; empty when none keeps ``need_mm``.

    ``need_mm`` is the least distance of the axis to walls, thread radius and cortex together. With
    ``volume`` and ``to_world`` (local axes to LPS) bone along the axis counts as weighed.
    """
    use_bone = aim.bone > 0.0 and volume is not None and to_world is not None
    bone_of = (
        (volume, to_world) if use_bone and volume is not None and to_world is not None else None
    )
    swept = _sweep(field, window, lengths, need_mm, keep, aim, bone_of)
    if swept is None:
        return []
    # A start that the field let pass by a whisker may climb into the permitted range, so the first
    # climb asks for less.
    relaxed = need_mm - FIELD_SLACK_MM
    climbed = [
        refine(field, window, p, d, lengths, relaxed, keep, aim, REFINE[:1], bone_of)
        for p, d in _distinct(field, *swept, STARTS, APART_MM, APART_DEG)
    ]
    hills = _hills([f for f in climbed if f is not None])[:HILLS]
    tops = [
        refine(field, window, f.entry, f.direction, lengths, need_mm, keep, aim, REFINE, bone_of)
        for f in hills
    ]
    best = _hills([f for f in tops if f is not None])
    shaken = [shake(field, window, f, lengths, need_mm, keep, aim, bone_of) for f in best[:SHAKEN]]
    return _hills([*shaken, *best[SHAKEN:]])


def shake(
    field: Ground,
    window: Window,
    found: Found,
    lengths: FloatArray,
    need_mm: float,
    keep: Keep,
    aim: Weights,
    bone_of: tuple[Volume, ToWorld] | None = None,
) -> Found:
    """Look round a top in all directions at once: a climb by single steps stops on sharp ridges, and
    where bone bars the driver's way to one side.

    The directions are drawn once and for all, so the result does not depend on chance.
    """
    rng = np.random.default_rng(0)
    for size in SHAKES:
        misses = 0
        for _ in range(MOST_LOOKS):
            if misses == SHAKE_ROUNDS:
                break
            misses += 1
            move = rng.uniform(-size, size, (SHAKE_DRAWS, 4))
            u = perpendicular(found.direction)
            v = np.cross(found.direction, u)
            turn = np.radians(move[:, 2:])
            directions = found.direction + turn[:, :1] * u + turn[:, 1:] * v
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            origin = found.entry + move[:, :1] * u + move[:, 1:2] * v - BACK_MM * directions
            points, met = first_met(field, origin, directions, window)
            directions = np.ascontiguousarray(directions[met])
            if not len(points):
                break
            score, gap, length = measure(
                field, window, points, directions, lengths, need_mm, keep, aim, bone_of, found.score
            )
            k = _best_open(field, points, directions, score, found.score)
            if k is None:
                continue
            found = Found(
                points[k], directions[k], float(length[k]), float(gap[k]), float(score[k])
            )
            misses = 0
    return found


def pool(
    field: Ground, window: Window, lengths: FloatArray, need_mm: float, keep: Keep, aim: Weights
) -> list[Found]:
    """Many axes as the sweep left them, exact and best first: to choose pairs from."""
    swept = _sweep(field, window, lengths, need_mm, keep, aim, None)
    if swept is None:
        return []
    starts = _distinct(field, *swept, POOL, ENTRY_MM, 2.0 * ANGLE_DEG)
    p = np.array([s for s, _ in starts]).reshape(-1, 3)
    d = np.array([s for _, s in starts]).reshape(-1, 3)
    score, gap, length = measure(field, window, p, d, lengths, need_mm, keep, aim)
    order = np.argsort(-np.round(score, 6), kind="stable")
    return [
        Found(p[k], d[k], float(length[k]), float(gap[k]), float(score[k]))
        for k in order
        if np.isfinite(score[k])
    ]


def _sweep(
    field: Ground,
    window: Window,
    lengths: FloatArray,
    need_mm: float,
    keep: Keep,
    aim: Weights,
    bone_of: tuple[Volume, ToWorld] | None,
) -> tuple[FloatArray, npt.NDArray[np.int32], FloatArray, FloatArray] | None:
    """Scores (n, m), length numbers (n, m), entries (n, 3), directions (m, 3); None without entries."""
    from sacroplan.fixation.pelvic_kernels import corridor_axes

    grid, depth = sweep_field(field, window, float(lengths[-1]))
    doors = entries(field, window, ENTRY_MM)
    if not len(doors):
        return None
    directions = cone(window.aim, window.cone_deg, ANGLE_DEG)
    hu: npt.NDArray[np.float32] = np.zeros((1, 1, 1), dtype=np.float32)
    if bone_of is not None:
        from sacroplan.geometry.sampling import sample

        volume, to_world = bone_of
        index = np.argwhere(np.ones(grid.shape, dtype=bool)).astype(np.float64)
        points = to_world(grid.to_world(index))
        values = sample(volume.geometry, volume.data, points, 0.0).reshape(grid.shape)
        hu = np.ascontiguousarray(values, dtype=np.float32)
    shape = (len(doors), len(directions))
    score, least = np.empty(shape), np.empty(shape)
    index_of = np.empty(shape, dtype=np.int32)
    with ALL_CORES:
        corridor_axes(
            depth, grid.origin, FIELD_MM, doors, directions, window.cost(directions),
            need_mm - FIELD_SLACK_MM, window.skip_mm, lengths, keep.starts, keep.ends, keep.mm,
            aim.clearance, aim.length, aim.enough_mm + FIELD_SLACK_MM, hu,
            0.0 if bone_of is None else aim.bone / 100.0, 0.8 * FIELD_MM, score, least, index_of,
        )  # fmt: skip
    return score, index_of, doors, directions


def _best_open(
    field: Ground, points: FloatArray, directions: FloatArray, score: FloatArray, above: float
) -> int | None:
    """The best of the axes that score more than ``above`` and leave the driver its way."""
    better = np.flatnonzero(score > above + 1e-6)
    better = better[open_ways(field, points[better], directions[better])]
    return int(better[np.argmax(np.round(score[better], 9))]) if len(better) else None


def _hills(found: list[Found]) -> list[Found]:
    """Best first, without those that ended on the hill of a better one."""
    found = sorted(found, key=lambda f: -round(f.score, 6))
    hills: list[Found] = []
    for f in found:
        if all(_differ(f, g) for g in hills):
            hills.append(f)
    return hills


def _differ(a: Found, b: Found) -> bool:
    turn = np.degrees(np.arccos(np.clip(a.direction @ b.direction, -1.0, 1.0)))
    return bool(np.linalg.norm(a.entry - b.entry) >= APART_MM or turn >= APART_DEG)


def _distinct(
    field: Ground,
    score: FloatArray,
    index: npt.NDArray[np.int32],
    doors: FloatArray,
    directions: FloatArray,
    count: int,
    mm: float,
    deg: float,
) -> list[tuple[FloatArray, FloatArray]]:
    """The best ``count`` axes (entry, direction) that lie ``mm`` or ``deg`` from each other and leave the
    driver its way."""
    flat = np.flatnonzero(index.ravel() >= 0)
    if not len(flat):
        return []
    order = flat[np.argsort(-np.round(score.ravel()[flat], 4), kind="stable")][:LOOKED_AT]
    p, d = np.divmod(order, score.shape[1])
    alive = np.ones(len(order), dtype=bool)
    cosine = np.cos(np.radians(deg))
    kept: list[tuple[FloatArray, FloatArray]] = []
    for n in range(len(order)):
        if n % BLOCK == 0:
            # The driver's way is looked at block by block: most lists end long before their last.
            block = n + np.flatnonzero(alive[n : n + BLOCK])
            alive[block] = open_ways(field, doors[p[block]], directions[d[block]])
        if not alive[n]:
            continue
        kept.append((doors[p[n]], directions[d[n]]))
        if len(kept) == count:
            break
        near = np.linalg.norm(doors[p] - doors[p[n]], axis=1) < mm
        alive &= ~(near & (directions[d] @ directions[d[n]] > cosine))
    return kept


def measure(
    field: Ground,
    window: Window,
    starts: FloatArray,
    directions: FloatArray,
    lengths: FloatArray,
    need_mm: float,
    keep: Keep,
    aim: Weights,
    bone_of: tuple[Volume, ToWorld] | None = None,
    beat: float = -np.inf,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Exact score, gap and best length (n,) of axes that enter at ``starts`` (n, 3); -inf: none fits.

    Axes that cannot score more than ``beat`` are left early and score -inf.
    """
    n = len(starts)
    best = np.full(n, -np.inf)
    best_gap, best_length = np.zeros(n), np.zeros(n)
    cost = window.cost(directions)
    # What the axis needs at least, were it given the longest screw and the best bone.
    weighs_bone = bone_of is not None and aim.bone > 0.0
    wanted = np.full(n, need_mm)
    if np.isfinite(beat) and aim.clearance > 0.0 and not weighs_bone:
        room = (beat - aim.length * float(lengths[-1]) + cost) / aim.clearance
        wanted = np.maximum(wanted, need_mm + np.minimum(room, aim.enough_mm))
    running = np.full(n, np.inf)
    alive = np.isfinite(cost)
    at = window.skip_mm
    # Piece by piece: a longer screw only comes nearer to the walls.
    for length in lengths:
        live = np.flatnonzero(alive)
        if not len(live):
            break
        tips = starts[live] + length * directions[live]
        gap, _ = field.bone.walls.gaps(starts[live] + at * directions[live], tips, wanted[live])
        at = float(length)
        running[live] = np.minimum(running[live], gap)
        ok = running[live] >= wanted[live]
        if len(keep.mm):
            ok &= keep.clear(starts[live], tips)
        alive[live[~ok]] = False
        own = running[live]
        score = aim.clearance * np.minimum(own - need_mm, aim.enough_mm) + aim.length * length
        score = score - cost[live]
        if bone_of is not None and weighs_bone:
            score = score + aim.bone / 100.0 * _bone_along(bone_of, starts[live], tips, window)
        better = ok & (score > best[live])
        where = live[better]
        best[where], best_gap[where], best_length[where] = score[better], own[better], length
    return best, best_gap, best_length


def _bone_along(
    bone_of: tuple[Volume, ToWorld], starts: FloatArray, tips: FloatArray, window: Window
) -> FloatArray:
    """Mean HU (n,) along axes beyond the window's skip."""
    from sacroplan.geometry.sampling import sample

    volume, to_world = bone_of
    length = np.linalg.norm(tips - starts, axis=1, keepdims=True)
    share = window.skip_mm / length
    t = share + (1.0 - share) * np.linspace(0.0, 1.0, 60)
    points = starts[:, None] + t[..., None] * (tips - starts)[:, None]
    value = sample(volume.geometry, volume.data, to_world(points.reshape(-1, 3)), 0.0)
    return np.asarray(value.reshape(len(starts), -1).mean(axis=1))


def refine(
    field: Ground,
    window: Window,
    entry: FloatArray,
    direction: FloatArray,
    lengths: FloatArray,
    need_mm: float,
    keep: Keep,
    aim: Weights,
    steps: Sequence[tuple[float, float]],
    bone_of: tuple[Volume, ToWorld] | None = None,
) -> Found | None:
    """Climb from one axis to the top of its hill by exact distances; None where none fits.

    Every round looks at the 80 neighbours one of ``steps`` (mm, degrees) away in entry and direction.
    """
    ticks = np.array([-1.0, 0.0, 1.0])
    grid = np.stack(np.meshgrid(ticks, ticks, ticks, ticks, indexing="ij"), -1).reshape(-1, 4)
    grid = grid[np.any(grid != 0.0, axis=1)]
    p, d = np.asarray(entry), unit(direction)
    score, gaps, sizes = measure(
        field, window, p[None], d[None], lengths, need_mm, keep, aim, bone_of
    )
    top, gap, length = float(score[0]), float(gaps[0]), float(sizes[0])
    for step_mm, step_deg in steps:
        for _ in range(ROUNDS):
            u = perpendicular(d)
            v = np.cross(d, u)
            turn = np.radians(step_deg) * grid[:, 2:]
            directions = d + turn[:, :1] * u + turn[:, 1:] * v
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            # The line is moved at its entry, so a turn does not swing the entry away.
            origin = p + step_mm * (grid[:, :1] * u + grid[:, 1:2] * v) - BACK_MM * directions
            points, met = first_met(field, origin, directions, window)
            directions = np.ascontiguousarray(directions[met])
            if not len(points):
                break
            score, gaps, sizes = measure(
                field, window, points, directions, lengths, need_mm, keep, aim, bone_of, top
            )
            k = _best_open(field, points, directions, score, top)
            if k is None:
                break
            top, p, d = float(score[k]), points[k], directions[k]
            gap, length = float(gaps[k]), float(sizes[k])
    return Found(p, d, length, gap, top) if np.isfinite(top) else None
