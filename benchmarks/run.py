"""Speed and memory claims, each as a ratio against a limit or a peer measured in the same run.

Prints a Markdown table; ``make bench`` writes it to docs/benchmarks.md.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Row = tuple[str, str, str, float]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best_of(count: int, work: Callable[[], object]) -> float:
    return min(timed(work) for _ in range(count))


def run_python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)


def help_latency() -> Row:
    ours = best_of(5, lambda: run_python("-m", "sacroplan.cli", "--help"))
    return "`sacroplan --help`", f"{ours:.2f} s", "limit 0.5 s", ours / 0.5


def import_latency() -> Row:
    ours = best_of(5, lambda: run_python("-c", "import sacroplan"))
    return "`import sacroplan`", f"{ours:.2f} s", "limit 0.5 s", ours / 0.5


def distance_field_against_igl() -> Row:
    import igl

    from sacroplan.geometry.fields import distance_field
    from sacroplan.geometry.primitives import sphere
    from sacroplan.geometry.volume import grid_around

    ball = sphere([0, 0, 0], 40.0, rings=120)
    grid = grid_around(ball.vertices, 1.0, 5.0)
    points = grid.to_world(np.argwhere(np.ones(grid.shape, dtype=bool)))
    distance_field(ball, grid)
    ours = best_of(3, lambda: distance_field(ball, grid))
    kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
    peer = timed(lambda: igl.signed_distance(points, ball.vertices, ball.faces, kind))
    return (
        f"distance field, {points.shape[0] / 1e6:.1f} M points", f"{ours:.2f} s",
        f"libigl {peer:.2f} s", ours / peer,
    )  # fmt: skip


def corridor_sweep() -> Row:
    from sacroplan.fixation import search as hunt
    from sacroplan.fixation import terrain
    from sacroplan.fixation.bone import one_bone
    from sacroplan.fixation.pelvic_kernels import corridor_axes
    from sacroplan.geometry.primitives import cylinder

    way = np.array([0.9, -0.2, 0.387298335])
    bone = cylinder(-way, 120.0 * way, 9.0, 64)
    field = terrain.ground(one_bone(bone), [bone], [bone])
    room = np.full(3, 14.0)
    window = terrain.Window(np.zeros(3), np.eye(3), -room, room, way, 28.0, 18.0, 0.1, 10.0)
    lengths, aim = np.arange(60.0, 91.0, 5.0), hunt.weights("clearance")
    grid, depth = terrain.sweep_field(field, window, 90.0)
    doors, ways = terrain.entries(field, window, 0.5), terrain.cone(way, 28.0, 0.5)
    shape = (len(doors), len(ways))
    score, least = np.empty(shape), np.empty(shape)
    index, hu = np.empty(shape, dtype=np.int32), np.zeros((1, 1, 1), dtype=np.float32)
    none, cost = terrain.Keep.of([]), window.cost(ways)

    def sweep() -> None:
        corridor_axes(
            depth, grid.origin, terrain.FIELD_MM, doors, ways, cost, 5.0, 10.0, lengths, none.starts,
            none.ends, none.mm, aim.clearance, aim.length, aim.enough_mm, hu, 0.0, 1.0, score, least,
            index,
        )  # fmt: skip

    sweep()
    rate = score.size / best_of(3, sweep) / 1e6
    return "candidate axes, pelvic screws", f"{rate:.1f} M/s", "limit 1 M/s", 1.0 / rate


def pedicle_sweep() -> Row:
    """The pedicle search on a drawn vertebra; every axis through bone is followed to both its ends."""
    from sacroplan import evidence
    from sacroplan.fixation import corridor
    from sacroplan.fixation.catalogue import generic
    from sacroplan.fixation.corridor_kernels import pedicle_sweep
    from sacroplan.geometry.booleans import union
    from sacroplan.geometry.frames import AxisFrame
    from sacroplan.geometry.primitives import box, cylinder

    way = np.array([np.sin(np.radians(20.0)), np.cos(np.radians(20.0)), 0.0])
    start = np.array([12.0, -6.0, 5.0])
    facet = AxisFrame("facet", start + 24.0 * way, np.eye(3))
    lamina = AxisFrame("lamina", [0.0, 22.0, 0.0], np.eye(3))
    bone = union(
        cylinder([0, -16, -14], [0, -16, 14], 18.0, 96), cylinder(start, start + 30.0 * way, 6.5, 64),
        box(facet, [-8.0, -7.0, -11.0], [8.0, 7.0, 11.0]), box(lamina, [-24.0, -3.0, -8.0], [24.0, 3.0, 8.0]),
    )  # fmt: skip
    axes = np.array([[0.0, 0, -1.0], [-1.0, 0, 0], [0, 1.0, 0]])
    work = corridor._prepare(bone, AxisFrame("L4", [0.0, -16.0, 0.0], axes), -1.0)
    wall, sizes = corridor._posterior_wall(work, "L4"), generic()
    floor = 0.5 * float(sizes.diameters("pedicle")[0])
    gate = corridor._gate(work, wall, floor, "L4")
    ways, cost = corridor._directions("L4", None, 0.5, 0)
    out, lengths = np.empty((len(gate), len(ways), 4)), sizes.lengths("pedicle")

    def sweep() -> None:
        pedicle_sweep(
            work.depth, work.field.geometry.origin, corridor.FIELD_MM, gate, ways, cost, wall,
            wall - corridor.PEDICLE_MM, evidence.value("PED-R2", "depth") / 100.0,
            evidence.value("SP-FIX-03", "entry_skip"), lengths, floor, evidence.value("SP-FIX-04"),
            corridor.MARCH_MM, out,
        )  # fmt: skip

    sweep()
    rate = len(gate) * len(ways) / best_of(3, sweep) / 1e6
    return "candidate axes, pedicle screws", f"{rate:.1f} M/s", "limit 1 M/s", 1.0 / rate


def accuracy_draws() -> Row:
    from sacroplan.fixation.bone import one_bone
    from sacroplan.fixation.screws import at
    from sacroplan.geometry.frames import AxisFrame
    from sacroplan.geometry.primitives import sphere
    from sacroplan.navigation.accuracy import Target, published, simulate

    bone = one_bone(sphere([0, -30.0, 0], 31.0, rings=100))
    screw = at("L5_left", "L5", "left", "pedicle", [0, 0, 0], [0, -1, 0], 7.0, 45.0)
    axes = AxisFrame("a", [0, 0, 0], np.array([[0, 0, -1.0], [-1.0, 0, 0], [0, 1.0, 0]]))
    targets = [Target(screw, bone, 6.0, axes)] * 8
    simulate(targets[:1], published("ROB-2"), 100)
    ours = best_of(2, lambda: simulate(targets, published("ROB-2"), 10_000))
    return "10,000 draws of eight screws", f"{ours:.2f} s", "limit 5 s", ours / 5.0


def moved_plane(folder: Path) -> list[Row]:
    """A plane dragged, and the execution simulated, on a planned case."""
    from sacroplan.case.runner import context_of
    from sacroplan.case.steps.resection import site_of
    from sacroplan.resection.execution import error_model, simulate
    from sacroplan.resection.plan import moved

    context = context_of(folder)
    plan, site = context.result("resection").plan, site_of(context)
    cut = plan.cut("iliac_left")
    shifts = iter(np.linspace(0.5, 2.0, 8))

    def drag() -> None:
        moved(plan, site, {"iliac_left": cut.plane.shifted(-float(next(shifts)))})

    drag()
    dragged = best_of(3, drag)
    tumour = site.tumour.surface
    simulate(plan, tumour, error_model("PSI-04", "guide"), draws=10)
    drawn = timed(lambda: simulate(plan, tumour, error_model("PSI-04", "guide"), draws=1000))
    return [
        ("a moved plane: cut, margin, losses", f"{dragged:.2f} s", "limit 1 s", dragged),
        ("execution, 1000 draws", f"{drawn:.2f} s", "limit 10 s", drawn / 10.0),
    ]


def demo_stages() -> list[Row]:
    from sacroplan.case import runner
    from sacroplan.case.demo import make_demo
    from sacroplan.report.stages import STAGES

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "demo"
        made = timed(lambda: make_demo(folder))
        report = runner.run(folder, STAGES)
        for record in report.records:
            rows.append((f"demo, stage {record.name}", f"{record.seconds:.1f} s", "", float("nan")))
        total = made + sum(r.seconds for r in report.records)
        rows.append(("demo, synthetic CT", f"{made:.1f} s", "", float("nan")))
        rows.append(("demo, whole plan", f"{total:.0f} s", "limit 360 s", total / 360.0))
        rows += moved_plane(folder)
        again = timed(lambda: run_python("-m", "sacroplan.cli", "run", str(folder)))
        rows.append(("second run, nothing to do", f"{again:.2f} s", "limit 3 s", again / 3.0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows.append(("peak memory of the plan", f"{peak:.2f} GB", "limit 6 GB", peak / 6.0))
    return rows


def main() -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    rows = [
        help_latency(),
        import_latency(),
        distance_field_against_igl(),
        corridor_sweep(),
        pedicle_sweep(),
        accuracy_draws(),
        *demo_stages(),
    ]
    lines = [
        "# Benchmarks",
        "",
        f"`make bench` at commit {commit}, {platform.machine()}, two cores. "
        "Ratios below 1 keep the limit or beat the peer; times vary with the machine's load.",
        "",
        "| what | measured | against | ratio |",
        "|---|---|---|---|",
    ]
    for what, value, against, ratio in rows:
        lines.append(
            f"| {what} | {value} | {against} | {'' if ratio != ratio else f'{ratio:.2f}'} |"
        )
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent.parent / "docs" / "benchmarks.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
