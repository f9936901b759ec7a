"""Corridors on real and synthetic pelves: true clearances, optimality against brute force, a table."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import igl
import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.anatomy.landmarks import find
from sacroplan.fixation import corridor, terrain
from sacroplan.fixation import search as hunt
from sacroplan.fixation.bone import one_bone
from sacroplan.fixation.catalogue import generic
from sacroplan.fixation.construct import plan_construct
from sacroplan.fixation.pelvic import Pelvis, Site, _lengths, _preferred, keeps, window
from sacroplan.fixation.pelvic_kernels import corridor_axes
from sacroplan.fixation.rules import Obstacles
from sacroplan.formats.stl import read_stl
from sacroplan.navigation.accuracy import Target, published, simulate, wilson

sys.path.insert(0, str(Path(__file__).parents[1] / "anatomy"))
from landmark_cases import PATIENTS, patient

CASES = ("vhm", "0", "1", "2", "3")

FIELD_MAY_HIDE_MM = 0.4
"""Brute force looks again, exactly, at every axis that the field scores to within this of the best plus
the 0.2 mm in question."""


def _bones(case: str, shared: Path):
    if case == "vhm":
        folder = shared / "data" / "vhm_meshes"
        names = ("sacrum", "L5", "L4", "L3", "hip_left", "hip_right")
        bones = {n: read_stl(folder / f"{n}.stl") for n in names}
        return bones, find(bones, np.eye(3))
    one = patient(PATIENTS[int(case)])
    return one.bones, find(one.bones, np.eye(3), geometry=one.geometry)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("case", CASES)
def test_every_screw_is_found_and_its_clearance_is_true(case: str, shared: Path) -> None:
    bones, marks = _bones(case, shared)
    rest = (bones, marks.frames, marks.points, marks.hip_radius_mm)
    both = [plan_construct(text, *rest) for text in ("L4-L5-S2AI", "iliac")]
    plans = [p for c in both for p in c.plans]
    for p in plans:
        s = p.screw
        own = bones["sacrum" if s.kind == "s2ai" else s.level] if s.kind != "iliac" else None
        solids = [bones[f"hip_{s.side}"]] if own is None else [own]
        if s.kind == "s2ai":
            solids.append(bones[f"hip_{s.side}"])
        t = np.arange(p.start_mm, s.length_mm + 1e-9, 0.05)
        axis = s.entry + t[:, None] * s.direction
        value = [
            np.sqrt(igl.point_mesh_squared_distance(axis, b.vertices, b.faces)[0]) for b in solids
        ]
        inside = [igl.fast_winding_number(b.vertices, b.faces, axis) > 0.5 for b in solids]
        print(
            f"| {case} | {s.name} | {s.diameter_mm:g} x {s.length_mm:g} | {p.grade} | {p.clearance_mm:.2f} |"
        )
        assert p.breach_mm == 0.0
        if len(solids) == 1:
            # libigl along the axis is an independent witness for one bone.
            assert np.all(inside[0])
            assert p.clearance_mm == pytest.approx(value[0].min() - 0.5 * s.diameter_mm, abs=0.1)
    assert len(plans) == 8
    assert not any(c.missing for c in both)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("case", CASES)
def test_all_screws_of_a_construct_within_ten_seconds(case: str, shared: Path) -> None:
    bones, marks = _bones(case, shared)
    rest = (bones, marks.frames, marks.points, marks.hip_radius_mm)
    plan_construct("L5", *rest)
    wall, cpu = time.perf_counter(), time.process_time()
    found = plan_construct("L4-L5-S2AI", *rest)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"| {case} | {len(found.plans)} screws | {cpu:.1f} s of a processor | {wall:.1f} s |")
    # On two idle cores the clock shows less than the processors' time; beside other work it does not.
    assert cpu < 10.0


@pytest.mark.slow
@pytest.mark.shared
def test_robot_errors_give_the_grades_of_the_study(shared: Path) -> None:
    """ROB-2: 326 screws, A 82, B 15.5 %; the simulation knows only its mean errors and SP-NAV-06."""
    outcomes = []
    for case in CASES:
        bones, marks = _bones(case, shared)
        c = plan_construct("L4-L5", bones, marks.frames, marks.points, marks.hip_radius_mm)
        targets = [
            Target(
                p.screw, one_bone(bones[p.screw.level]), p.start_mm,
                corridor.level_frame(
                    p.screw.level, *(marks.frames[f"{p.screw.level}{e}"] for e in ("SEP", "IEP"))
                ),
            )
            for p in c.plans
        ]  # fmt: skip
        outcomes += simulate(targets, published("ROB-2"), 10_000).outcomes
    assert len(outcomes) == 20
    share = 100.0 * np.mean([[s.value for s in o.grades.values()] for o in outcomes], axis=0)
    running = 100.0 * np.mean([[v for _, v in o.running] for o in outcomes], axis=0)
    low, high = wilson(318, 326)
    print(f"| grades A to E {share.round(2)} | A and B after so many draws {running.round(2)} |")
    assert 100.0 * low < running[-1] < 100.0 * high
    assert share[0] == pytest.approx(82.0, abs=4.2)
    assert abs(running[-1] - running[-2]) < 0.1


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("kind", ["s2ai", "iliac"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES)
def test_brute_force_at_half_a_millimetre_and_half_a_degree(
    case: str, side: str, kind: str, shared: Path
) -> None:
    bones, marks = _bones(case, shared)
    site = Site(Pelvis(bones, marks.points, marks.frames, marks.hip_radius_mm, {}), side)
    _, field = site.ground(kind)  # type: ignore[arg-type]
    place, aim, sizes = window(site, kind), hunt.weights("clearance"), generic()  # type: ignore[arg-type]
    radius = 0.5 * float(_preferred(kind, sizes)[0])  # type: ignore[arg-type]
    need, lengths = radius + 2.0, _lengths(site, kind, sizes)  # type: ignore[arg-type]
    keep = keeps(site, radius, Obstacles())
    best = hunt.search(field, place, lengths, need, keep, aim)[0].score
    doors, ways = terrain.entries(field, place, 0.5), terrain.cone(place.aim, place.cone_deg, 0.5)
    grid, depth = terrain.sweep_field(field, place, float(lengths[-1]))
    cost, hu = place.cost(ways), np.zeros((1, 1, 1), dtype=np.float32)
    slack, top = hunt.FIELD_SLACK_MM, -np.inf
    for k in range(0, len(doors), 64):
        some = doors[k : k + 64]
        score, least = np.empty((len(some), len(ways))), np.empty((len(some), len(ways)))
        index = np.empty(score.shape, dtype=np.int32)
        corridor_axes(
            depth, grid.origin, terrain.FIELD_MM, some, ways, cost, need - slack, place.skip_mm, lengths,
            keep.starts, keep.ends, keep.mm, aim.clearance, aim.length, aim.enough_mm + slack, hu, 0.0,
            1.0, score, least, index,
        )  # fmt: skip
        i, j = np.nonzero(score > best + slack + 0.2 - FIELD_MAY_HIDE_MM)
        free = terrain.open_ways(field, some[i], ways[j])
        i, j = i[free], j[free]
        if len(i):
            exact, _, _ = hunt.measure(
                field, place, some[i], ways[j], lengths, need, keep, aim, None, best
            )
            top = max(top, float(exact.max()))
    print(f"| {case} | {kind} {side} | {best:.2f} | brute force {max(top - best, 0.0):+.2f} mm |")
    assert top <= best + 0.2


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("level", ["L4", "L5"])
@pytest.mark.parametrize("case", CASES)
def test_brute_force_through_the_pedicle(case: str, level: str, side: str, shared: Path) -> None:
    bones, marks = _bones(case, shared)
    plates = marks.frames[f"{level}SEP"], marks.frames[f"{level}IEP"]
    sizes, frame = generic(), corridor.level_frame(level, *plates)
    work = corridor._prepare(bones[level], frame, 1.0 if side == "right" else -1.0)
    wall = corridor._posterior_wall(work, level)
    plan = corridor.plan_pedicle_screw(bones[level], level, side, *plates)
    mirror = np.array([1.0, 1.0, work.sign])
    way = (plan.screw.direction @ frame.axes) * mirror
    a, b = corridor._angles(way)
    (low, high), (up, down) = (evidence.span(f"PED-{level}", n) for n in ("convergence", "caudal"))
    off = max(0.0, low - a, a - high) + max(0.0, -b - down, b + up)
    gap = plan.clearance_mm + 0.5 * plan.screw.diameter_mm
    best = gap + 0.02 * plan.screw.length_mm - evidence.value("SP-FIX-03", "penalty") * off
    floor = 0.5 * float(sizes.diameters("pedicle")[0])
    gate = corridor._gate(work, wall, floor, level)
    y, z = np.meshgrid(
        *(np.arange(gate[:, k].min() - 1.0, gate[:, k].max() + 1.0, 0.5) for k in (1, 2)),
        indexing="ij",
    )
    points = np.stack([np.full(y.size, gate[0, 0]), y.ravel(), z.ravel()], axis=1)
    # The axis passes the gate, so it is no deeper anywhere than there.
    points = points[-work.field.at(points) >= gap - 1.2]
    ways, cost = corridor._directions(level, None, 0.5, 0)
    top = -np.inf
    for k in range(0, len(ways), 400):
        rows = corridor._search(
            work, level, points, ways[k : k + 400], cost[k : k + 400], wall,
            max(floor, gap - 1.0), sizes,
        )  # fmt: skip
        rows = rows[rows[:, 0] > best + 0.2 - FIELD_MAY_HIDE_MM]
        if len(rows):
            score, depth = corridor._exact(work, rows, wall)
            top = max(top, float(np.where(depth >= floor, score, -np.inf).max()))
    print(f"| {case} | {level} {side} | {best:.2f} | brute force {max(top - best, 0.0):+.2f} mm |")
    assert top <= best + 0.2
