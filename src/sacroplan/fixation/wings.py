"""Iliac screws from the implant's wing through the cut face into the remaining ilium."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation import screws
from sacroplan.fixation.clearance import axis_depths, clearance, iliac_grade, mean_hu
from sacroplan.fixation.screw_plan import ScrewPlan
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, cone, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume
from sacroplan.metrics import Metrics
from sacroplan.progress import Progress, silent

FIELD_MM = 1.0
"""Grid of the ilium's distance field; the exact band covers the walls that matter."""

ENTRY_MM = 2.5
"""Spacing of entry points on the cut face."""

ANGLE_DEG = 3.0
"""Spacing of directions: 4 mm at the tip of an 80 mm screw; refined round the best afterwards."""

PAIR_POOL = 400
"""Best single screws that are measured on the mesh and from which the pair is chosen."""


def _entries(hip: Surface, cut: Plane, inset_mm: float, up: FloatArray) -> FloatArray:
    """Points (n, 3) of the cut face at least ``inset_mm`` from its edge, on a square grid."""
    from matplotlib.path import Path

    from sacroplan.geometry.slicing import section

    # Just inside the bone: exactly on the face the section is a matter of rounding.
    outline = section(hip, cut.shifted(-0.05), up)
    if not outline.loops:
        raise PlanError(
            "The cut plane does not meet the hip remnant; pass the remnant's own face plane, "
            "with its normal pointing out of the bone into the defect."
        )
    low = np.min([loop.min(axis=0) for loop in outline.loops], axis=0)
    high = np.max([loop.max(axis=0) for loop in outline.loops], axis=0)
    centre = 0.5 * (low + high)
    ticks = [
        c + ENTRY_MM * np.arange(-np.ceil((h - c) / ENTRY_MM), np.ceil((h - c) / ENTRY_MM) + 1)
        for c, h in zip(centre, high, strict=True)
    ]
    uv = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = np.zeros(len(uv), dtype=bool)
    edge = np.full(len(uv), np.inf)
    for loop in outline.loops:
        inside ^= Path(np.concatenate([loop, loop[:1]])).contains_points(uv)
        a, b = loop, np.roll(loop, -1, axis=0)
        d = b - a
        square = np.maximum((d * d).sum(axis=1), 1e-12)
        t = np.clip(((uv[:, None] - a) * d).sum(axis=2) / square, 0.0, 1.0)
        gap = np.linalg.norm(uv[:, None] - (a + t[:, :, None] * d), axis=2).min(axis=1)
        edge = np.minimum(edge, gap)
    return outline.to_world(uv[inside & (edge >= inset_mm)])


def _usual_direction(
    pelvis: AxisFrame, sign: float, start: FloatArray, aiis: FloatArray | None
) -> FloatArray:
    """(3,) the iliac screw's usual way: to the AIIS, or by the angles of SP-FIX-05 (IL-04)."""
    if aiis is not None:
        return unit(aiis - start)
    lateral = np.radians(evidence.value("SP-FIX-05", "lateral"))
    caudal = np.radians(evidence.value("SP-FIX-05", "caudal"))
    d = [np.cos(caudal) * np.cos(lateral), -np.sin(caudal), sign * np.cos(caudal) * np.sin(lateral)]
    return np.asarray(pelvis.axes @ np.array(d))


def plan_wing_screws(
    hip: Surface,
    cut: Plane,
    side: str,
    pelvis: AxisFrame,
    landmarks: Mapping[str, npt.ArrayLike],
    hip_radius_mm: float | None = None,
    volume: Volume | None = None,
    count: int = 2,
    diameter_mm: float | None = None,
    seat_mm: float = 0.0,
    seat_margin: Callable[[FloatArray], FloatArray] | None = None,
    progress: Progress = silent,
) -> tuple[ScrewPlan, ...]:
    """``count`` (1 or 2) iliac screws per side through the implant's wing face, cranial first.

    Parameters
    ----------
    hip : closed surface of the remaining hip bone. cut : its face, normal out of the bone into the
        defect. side : ``left`` or ``right``. pelvis : FRM-1.
    landmarks : ``GSN_L``, ``HJC_L`` (or ``_R``) keep the screws off notch and socket (IL-05).
    hip_radius_mm : radius of the fitted head or socket; the largest of SP-LMK-03 without it.
    diameter_mm : IL-03's least without it. seat_mm : under-head point to bone (the wing's thickness).
    seat_margin : how far points (n, 3) of the face lie inside the implant's seat (n,), mm. Screws then
        start where their hole keeps AM-12's wall to the seat's edge; where none fits so, anywhere on
        the face, and the implant room tells how near the edge they come.

    Every screw keeps IL-05's cortex all along; length first, then bone round it; two screws keep IL-03's bone
    between them. Raises :class:`PlanError` when not even one screw of the shortest length fits.
    """

    def search(within_mm: float | None) -> tuple[ScrewPlan, ...]:
        return _wing_screws(
            hip, cut, side, pelvis, landmarks, hip_radius_mm, volume, count, diameter_mm, seat_mm,
            None if within_mm is None else seat_margin, within_mm or 0.0, progress,
        )  # fmt: skip

    if seat_margin is None:
        return search(None)
    bore = evidence.span("IL-03", "diameter")[0] if diameter_mm is None else diameter_mm
    hole = 0.5 * (bore + evidence.value("AM-12", "clearance"))
    best: tuple[ScrewPlan, ...] = ()
    # The full wall first, then at least the whole hole within the seat, then anywhere on the face.
    for within_mm in (hole + evidence.value("AM-12", "wall"), hole):
        try:
            found = search(within_mm)
        except PlanError:
            continue
        if len(found) == count:
            return found
        best = best or found
    return best or search(None)


def _wing_screws(
    hip: Surface,
    cut: Plane,
    side: str,
    pelvis: AxisFrame,
    landmarks: Mapping[str, npt.ArrayLike],
    hip_radius_mm: float | None,
    volume: Volume | None,
    count: int,
    diameter_mm: float | None,
    seat_mm: float,
    seat_margin: Callable[[FloatArray], FloatArray] | None,
    within_mm: float,
    progress: Progress,
) -> tuple[ScrewPlan, ...]:
    from sacroplan.fixation.corridor_kernels import best_pair, face_axes
    from sacroplan.geometry.fields import distance_field
    from sacroplan.geometry.volume import grid_around

    if side not in ("left", "right") or count not in (1, 2):
        raise PlanError(
            f"Wing screws need side left or right and count 1 or 2, not {side!r}, {count}."
        )
    frame = same_frame(hip, cut, pelvis)
    letter, sign = ("R", 1.0) if side == "right" else ("L", -1.0)
    diameter = evidence.span("IL-03", "diameter")[0] if diameter_mm is None else diameter_mm
    radius = 0.5 * diameter
    cortex = evidence.value("IL-05", "cortex")
    need = radius + cortex
    doubts: list[Doubt] = []
    points = {k: np.asarray(landmarks[k], dtype=np.float64) for k in sorted(landmarks)}
    keep_points, keep_mm = [], []
    if f"GSN_{letter}" in points:
        keep_points.append(points[f"GSN_{letter}"])
        keep_mm.append(radius + evidence.value("IL-05", "above_notch"))
    if f"HJC_{letter}" in points:
        ball = evidence.span("SP-LMK-03", "radius")[1] if hip_radius_mm is None else hip_radius_mm
        keep_points.append(points[f"HJC_{letter}"])
        keep_mm.append(ball + radius + evidence.value("IL-05", "acetabulum"))
    if len(keep_points) < 2:
        doubts.append(
            Doubt(
                "fixation",
                "fixation.wing_landmarks",
                f"Wing screws {side}: without GSN_{letter} and HJC_{letter} their distance to the notch and "
                "the socket is unknown.",
                ("IL-05",),
            )
        )
    progress(0.0, f"Wing screws {side}: distance field")
    sizes = screws.lengths("wing")
    up = pelvis.axes[:, 1]
    entries = _entries(hip, cut, need, up)
    if seat_margin is not None and len(entries):
        hole = 0.5 * (diameter + evidence.value("AM-12", "clearance")) + evidence.value(
            "AM-12", "wall"
        )
        entries = entries[seat_margin(entries) >= hole]
    local_axes = pelvis.axes * np.array([1.0, 1.0, sign])
    faces = hip.faces if sign > 0 else hip.faces[:, ::-1]
    work = Surface((hip.vertices - pelvis.origin) @ local_axes, faces, frame)
    inward = -cut.normal

    def local(p: FloatArray) -> FloatArray:
        return np.ascontiguousarray((p - pelvis.origin) @ local_axes)

    near = np.linalg.norm(work.vertices - local(cut.point), axis=1) < sizes[-1] + 40.0
    grid = grid_around(work.vertices[near], FIELD_MM, 3.0, frame)
    depth = -distance_field(work, grid).values
    progress(0.4, f"Wing screws {side}: search")

    def search(at: FloatArray, directions: FloatArray) -> FloatArray:
        """(n, m, 2) length and least depth."""
        cosine = np.maximum(directions @ inward, 0.05)
        out = np.empty((len(at), len(directions), 2))
        face_axes(
            depth, grid.origin, FIELD_MM, local(at),
            np.ascontiguousarray(directions @ local_axes), need + 0.1, (need + 0.4) / cosine,
            local(np.array(keep_points).reshape(-1, 3)), np.array(keep_mm), sizes, FIELD_MM, out,
        )  # fmt: skip
        return out

    half = evidence.value("SP-FIX-05", "cone")
    across = unit(up - (up @ inward) * inward)
    # Mirror images on the two sides, in the same order.
    directions = cone(inward, across, sign * np.cross(inward, across), half, ANGLE_DEG)
    usual = _usual_direction(pelvis, sign, cut.point, points.get(f"AIIS_{letter}"))
    off = np.degrees(np.arccos(np.clip(directions @ usual, -1.0, 1.0)))
    reachable = off <= evidence.value("SP-FIX-05", "from_usual")
    directions, off = directions[reachable], off[reachable]
    if not len(entries):
        raise PlanError(
            f"Wing screws {side}: no point of the cut face lies {need:g} mm from its edge, so a "
            f"{diameter:g} mm screw has no bone round it. Move the osteotomy or take a thinner screw."
        )
    out = search(entries, directions)
    p, d = np.nonzero(out[:, :, 0] > 0.0)
    if not len(p):
        raise PlanError(
            f"Wing screws {side}: no {diameter:g} mm screw of {sizes[0]:g} mm or more keeps {cortex:g} mm of "
            "bone round it behind this cut face. Move the osteotomy or take a thinner screw."
        )
    length, least = out[p, d, 0], out[p, d, 1]
    # A millimetre of bone round the screw is worth one catalogue step; more than 3 mm adds nothing.
    score = length + 5.0 * np.minimum(least - need, 3.0)
    score -= evidence.value("SP-FIX-05", "penalty") * off[d]
    # Equal candidates are told apart by their place in the grid, not by rounding in the last digit.
    score = np.round(score, 3)
    order = np.argsort(-score, kind="stable")
    # One direction per entry and one entry per direction would be too few for pairs, all too many.
    pool = order[_thin(p[order], d[order], directions @ local_axes)][:PAIR_POOL]
    probes = [
        screws.at("probe", "ilium", side, "wing", entries[p[k]], directions[d[k]], diameter,
                  float(length[k]), frame, 0.0)
        for k in pool
    ]  # fmt: skip
    begins = [need / max(float(s.direction @ inward), 0.05) for s in probes]
    exact = np.array(axis_depths(hip, probes, begins))
    pool = pool[exact >= need - 1e-6]
    if not len(pool):
        raise PlanError(
            f"Wing screws {side}: every axis found keeps less than {cortex:g} mm of bone when measured on "
            "the surface. Move the osteotomy or take a thinner screw."
        )
    starts, axes, lengths = entries[p[pool]], directions[d[pool]], length[pool]
    ends = starts + lengths[:, None] * axes
    apart = diameter + evidence.value("IL-03", "bone_between")
    chosen = [0]
    if count == 2:
        first, second = best_pair(
            np.ascontiguousarray(local(starts)), np.ascontiguousarray(local(ends)), score[pool], apart,
            evidence.value("SP-FIX-05", "heads_apart"),
        )  # fmt: skip
        if first >= 0:
            chosen = [int(first), int(second)]
        else:
            doubts.append(
                Doubt(
                    "fixation",
                    "fixation.one_wing_screw",
                    f"Wing screws {side}: no second screw keeps {apart - diameter:g} mm of bone to the "
                    "first; one is planned.",
                    ("IL-03",),
                )
            )
    chosen.sort(key=lambda k: -float(local(starts[k])[1]))
    progress(0.8, f"Wing screws {side}: measured on the surface")
    plans = []
    for n, k in enumerate(chosen):
        screw = screws.at(
            f"wing_{side}_{n + 1}", "ilium", side, "wing", starts[k], axes[k], diameter,
            float(lengths[k]), frame, seat_mm,
        )  # fmt: skip
        start_mm = need / float(np.clip(axes[k] @ inward, 0.05, 1.0))
        plans.append(
            assess_wing_screw(
                screw, hip, pelvis, points, hip_radius_mm, volume, start_mm,
                tuple(doubts) if n == 0 else (),
            )
        )  # fmt: skip
    progress(1.0, f"Wing screws {side}: done")
    return tuple(plans)


def _thin(p: npt.NDArray[np.int64], d: npt.NDArray[np.int64], directions: FloatArray) -> FloatArray:
    """Positions that keep, per entry, the best direction of every 12-degree patch."""
    patch = np.rint(directions / np.radians(12.0)).astype(np.int64)
    key = ((patch[:, 0] + 50) * 128 + patch[:, 1] + 50) * 128 + patch[:, 2] + 50
    joint = p * (128**3) + key[d]
    _, first = np.unique(joint, return_index=True)
    return np.sort(first)


def assess_wing_screw(
    screw: Screw,
    hip: Surface,
    pelvis: AxisFrame,
    landmarks: Mapping[str, npt.ArrayLike],
    hip_radius_mm: float | None = None,
    volume: Volume | None = None,
    start_mm: float | None = None,
    doubts: tuple[Doubt, ...] = (),
) -> ScrewPlan:
    """Measure a wing or iliac ``screw``, whoever placed it, against the hip bone and IL-03, IL-05.

    ``start_mm``: where along the screw the thread counts (radius plus IL-05 cortex without it).
    """
    letter, sign = ("R", 1.0) if screw.side == "right" else ("L", -1.0)
    cortex = evidence.value("IL-05", "cortex")
    radius = 0.5 * screw.diameter_mm
    exact = clearance(screw, hip, radius + cortex if start_mm is None else start_mm)
    own = list(doubts)
    safety: dict[str, float] = {}

    def to_axis(point: npt.ArrayLike) -> float:
        w = np.asarray(point, dtype=np.float64) - screw.entry
        t = float(np.clip(w @ screw.direction, 0.0, screw.length_mm))
        return float(np.linalg.norm(w - t * screw.direction))

    if f"GSN_{letter}" in landmarks:
        safety["notch_mm"] = to_axis(landmarks[f"GSN_{letter}"]) - radius
    if f"HJC_{letter}" in landmarks:
        ball = evidence.span("SP-LMK-03", "radius")[1] if hip_radius_mm is None else hip_radius_mm
        safety["acetabulum_mm"] = to_axis(landmarks[f"HJC_{letter}"]) - radius - ball
    for name, limit in (("notch_mm", "above_notch"), ("acetabulum_mm", "acetabulum")):
        wanted = evidence.value("IL-05", limit)
        if name in safety and safety[name] < wanted - 1e-6:
            own.append(
                Doubt(
                    "fixation", f"fixation.near_{name.removesuffix('_mm')}",
                    f"{screw.name} passes {safety[name]:.1f} mm from the "
                    f"{name.removesuffix('_mm')} (wanted {wanted:g} mm).", ("IL-05",),
                )
            )  # fmt: skip
    if exact.least_mm < cortex - 0.15:
        own.append(
            Doubt(
                "fixation", "fixation.thin_cortex",
                f"{screw.name} has {exact.least_mm:.1f} mm of bone round it at its tightest "
                f"(wanted {cortex:g} mm).", ("IL-05",),
            )
        )  # fmt: skip
    shortest = evidence.span("IL-03", "length")[0]
    if screw.length_mm < shortest:
        own.append(
            Doubt(
                "fixation", "fixation.short_screw",
                f"{screw.name} is {screw.length_mm:g} mm long (usually {shortest:g} mm or more).",
                ("IL-03",),
            )
        )  # fmt: skip
    d = pelvis.axes.T @ screw.direction
    return ScrewPlan(
        screw, iliac_grade(exact.breach_mm), exact.breach_mm, exact.least_mm, exact.profile,
        exact.purchase_mm, float(np.degrees(np.arctan2(sign * d[2], d[0]))),
        float(np.degrees(np.arcsin(np.clip(d[1], -1.0, 1.0)))), None, None, None, None, None,
        None if volume is None else mean_hu(screw, volume), safety, None, None, tuple(own),
        start_mm=exact.start_mm, breach_at=exact.breach_at,
    )  # fmt: skip


def metrics(plans: tuple[ScrewPlan, ...]) -> Metrics:
    """Figures of several screws together."""
    out: Metrics = {}
    for plan in plans:
        out |= plan.metrics()
    return out
