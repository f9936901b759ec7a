"""Can this part be printed? Watertight, one body, no crossing faces, walls, voids, overhangs, size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, GeometryError
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.walls import Walls, measure_walls
from sacroplan.manufacture.findings import (
    Hole,
    HoleCheck,
    Places,
    Pockets,
    measure_holes,
    places,
    pockets,
    supports,
)
from sacroplan.metrics import Metric, Metrics

Process = Literal["LPBF", "EBM", "SLS"]

EDGE_REACH = 2.0
"""An edge that has a full wall within two walls of its tip prints blunt and is no thin wall; a lip
sharper than 27 degrees is one."""

LIP_SHARE = 0.0005
"""Lips on up to this share of the surface, a few mm2 of an implant, are filed off with the supports."""

PLATE_MM = 0.1
"""Faces within this of the lowest point stand on the plate."""

LYING_DEG = 45.0
"""A hole whose axis leans further than this from the build direction lies; its roof hangs (AM-01)."""

DIRECTIONS = 200
"""Build directions tried: about 14 degrees apart."""


@dataclass(frozen=True)
class ProcessLimits:
    """What a process can do: wall (mm), self-supporting angle (degrees, None: powder carries), box (mm).

    ``rows`` are the evidence rows behind wall, angle and box. ``hole_mm`` is the smallest hole, through
    which powder leaves as well; ``lying_mm`` the largest lying hole that carries itself, None where powder
    carries it. ``density`` (g/cm3) of the material, None where it is not known.
    """

    wall_mm: float
    angle_deg: float | None
    box_mm: tuple[float, float, float]
    rows: tuple[str, str, str]
    hole_mm: float = field(default_factory=lambda: evidence.value("AM-04", "hole"))
    lying_mm: float | None = None
    density: float | None = None


def limits(process: Process) -> ProcessLimits:
    """Limits of ``process`` from the evidence; raises :class:`GeometryError` for an unknown one."""
    value = evidence.value
    if process == "LPBF":
        width = value("AM-10-LPBF", "width")
        return ProcessLimits(
            value("AM-02", "wall"), value("AM-01", "lpbf"), (width, width, width),
            ("AM-02", "AM-01", "AM-10-LPBF"),
            lying_mm=value("AM-04", "lying"), density=value("SP-IMP-01", "density"),
        )  # fmt: skip
    if process == "EBM":
        width, height = value("AM-10", "plate_edge"), value("AM-10", "height")
        return ProcessLimits(
            value("AM-02-EBM", "wall"), value("AM-01", "ebm"), (width, width, height),
            ("AM-02-EBM", "AM-01", "AM-10"),
            value("AM-04", "hole_ebm"), value("AM-04", "lying"), value("SP-IMP-01", "density"),
        )  # fmt: skip
    if process == "SLS":
        width, height = value("SP-MAN-01", "width"), value("SP-MAN-01", "height")
        return ProcessLimits(
            value("SP-MAN-01", "wall"), None, (width, width, height),
            ("SP-MAN-01", "SP-MAN-01", "SP-MAN-01"),
        )  # fmt: skip
    raise GeometryError(
        f"The printing process {process!r} is unknown; there are LPBF, EBM and SLS."
    )


@dataclass(frozen=True, eq=False)
class PartCheck:
    """What was found on one part. Figures are None where an open surface leaves them undefined.

    Attributes
    ----------
    name : part. process : printing process.
    faces : triangles. closed : watertight, manifold edges, oriented. bodies : separate solids.
    crossings : pairs of faces that cross. crossing_faces : up to 100 of them (k, 2).
    degenerate : faces without area. volume_mm3, area_mm2. voids : enclosed cavities, and their volume.
    size_mm : (3,) extents of a small box round the part, ascending.
    wall_min_mm : thinnest wall, edges (:data:`EDGE_REACH`) and lips (:data:`LIP_SHARE`) left out.
    chord_min_mm, chord_p05_mm : the shortest way straight through from any face, which tends to 0 at
        every sharp edge, and the one that 5 % of the surface fall short of.
    thin_percent : share of the surface whose wall is below the process's limit.
    thinnest : (3,) LPS point of the thinnest wall.
    overhang_percent : share of the surface that needs support. build_direction : (3,) LPS, up.
    wall_share_mm : walls that 1, 5 and 50 % of the surface fall short of.
    mass_g : of the process's material. support_mm3 : of straight supports below what hangs.
    pockets : room from which powder has no way out. holes : planned ones, measured.
    where : places behind the figures, for pictures.
    """

    name: str
    process: Process
    faces: int
    closed: bool
    bodies: int
    crossings: int
    crossing_faces: npt.NDArray[np.int64]
    degenerate: int
    volume_mm3: float | None
    area_mm2: float
    voids: int | None
    void_mm3: float | None
    size_mm: FloatArray
    wall_min_mm: float | None
    chord_min_mm: float | None
    chord_p05_mm: float | None
    thin_percent: float | None
    thinnest: FloatArray | None
    overhang_percent: float
    build_direction: FloatArray
    doubts: tuple[Doubt, ...]
    wall_share_mm: tuple[float, float, float] | None = None
    mass_g: float | None = None
    support_mm3: float = 0.0
    pockets: Pockets | None = None
    holes: tuple[HoleCheck, ...] = ()
    where: tuple[Places, ...] = ()

    @property
    def sound(self) -> bool:
        """A printer can take it: closed, one body of positive volume, no crossing face, no void."""
        return (
            self.closed
            and self.crossings == 0
            and self.bodies == 1
            and self.voids == 0
            and (self.volume_mm3 or 0.0) > 0.0
        )

    def metrics(self) -> Metrics:
        """Figures under ``print.<name>.*``."""
        can = limits(self.process)
        wall, angle, box = can.rows
        support = None if can.angle_deg is None else evidence.value("SP-MAN-02", "overhang")
        out: Metrics = {
            "sound": Metric(self.sound, "1", "closed, one body, no crossing faces, no void"),
            "closed": Metric(self.closed, "1", "watertight and manifold"),
            "faces": Metric(self.faces, "count", "triangles"),
            "bodies": Metric(self.bodies, "count", "separate bodies", (), 1.0, 1.0),
            "crossings": Metric(
                self.crossings, "count", "pairs of faces that cross", (), None, 0.0
            ),
            "degenerate": Metric(self.degenerate, "count", "faces without area"),
            "volume": Metric(
                None if self.volume_mm3 is None else self.volume_mm3 / 1000.0, "cm3", "volume"
            ),
            "area": Metric(self.area_mm2 / 100.0, "cm2", "surface"),
            "voids": Metric(self.voids, "count", "enclosed voids", ("AM-05",), None, 0.0),
            "void_volume": Metric(self.void_mm3, "mm3", "volume of enclosed voids", ("AM-05",)),
            "wall.min": Metric(self.wall_min_mm, "mm", "thinnest wall, edges left out", (wall,), can.wall_mm),
            "wall.chord_min": Metric(self.chord_min_mm, "mm", "shortest way through, edges included"),
            "wall.chord_p05": Metric(
                self.chord_p05_mm, "mm", "way through that 5 % of the surface fall short of"
            ),
            "wall.thin": Metric(
                self.thin_percent, "%", "surface with walls below the limit", (wall, "SP-MAN-02"),
                None, evidence.value("SP-MAN-02", "thin"),
            ),
            "mass": Metric(self.mass_g, "g", "mass", ("SP-IMP-01",)),
            "support_volume": Metric(
                self.support_mm3 / 1000.0, "cm3", "straight supports below what hangs", (angle,)
            ),
            "overhang": Metric(
                self.overhang_percent, "%", "surface that needs support in the build direction",
                (angle, "SP-MAN-02"), None, support,
            ),
        }  # fmt: skip
        for n, name in enumerate(("p01", "p05", "p50")):
            share = None if self.wall_share_mm is None else self.wall_share_mm[n]
            out[f"wall.{name}"] = Metric(
                share, "mm", f"wall that {int(name[1:])} % of the surface fall short of", (wall,)
            )
        if self.pockets is not None:
            out["pockets"] = Metric(
                len(self.pockets.points), "count",
                f"places without a way out of {self.pockets.opening_mm:.2g} mm for powder",
                ("AM-04", "AM-05"), None, 0.0,
            )  # fmt: skip
        for hole in self.holes:
            out[f"hole.{hole.name}"] = Metric(
                hole.measured_mm, "mm", f"hole {hole.name}, planned {hole.planned_mm:g} mm", ("AM-04",),
                can.hole_mm,
            )  # fmt: skip
        for n, (size, most) in enumerate(zip(self.size_mm, sorted(can.box_mm), strict=True)):
            out["size." + ("min", "mid", "max")[n]] = Metric(
                float(size),
                "mm",
                ("smallest", "middle", "largest")[n] + " extent",
                (box,),
                None,
                most,
            )
        return {f"print.{self.name}.{name}": metric for name, metric in out.items()}


def check_part(
    surface: Surface,
    kind: str,
    process: Process,
    build_direction: FloatArray | None = None,
    holes: Sequence[Hole] = (),
) -> PartCheck:
    """Examine one part, named ``kind`` in figures and doubts, for ``process``; measure its ``holes``.

    Without ``build_direction`` (3,) the one of :data:`DIRECTIONS` with least overhang is taken.
    Nothing about the part raises: an open surface is a finding. An empty one raises
    :class:`GeometryError`.
    """
    from sacroplan.geometry.tree import face_tree

    can = limits(process)
    if not len(surface.faces):
        raise GeometryError(f"The part {kind!r} has no surface; there is nothing to print.")
    area = np.linalg.norm(surface.area_vectors, axis=1)
    closed = surface.is_closed
    pieces = np.array([piece.volume_mm3 for piece in surface.bodies()])
    tree = face_tree(surface)
    crossings, which = tree.crossing_faces()
    bodies = int((pieces > 0.0).sum()) if closed else len(pieces)
    voids = int((pieces < 0.0).sum()) if closed else None
    void_mm3 = float(np.abs(pieces[pieces < 0.0]).sum()) if closed else None
    wall = (
        measure_walls(surface, tree, can.wall_mm, EDGE_REACH * can.wall_mm, LIP_SHARE)
        if closed
        else None
    )
    up = best_direction(surface, area, can) if build_direction is None else unit(build_direction)
    overhang = overhang_percent(surface, up, can)
    hanging = supports(surface, tree, up, can.angle_deg, PLATE_MM)
    trapped = pockets(surface, can.hole_mm) if closed else None
    measured = measure_holes(tree, holes, up)
    check = PartCheck(
        kind, process, len(surface.faces), closed, bodies, crossings, which,
        int((area < 1e-12).sum()), surface.volume_mm3 if closed else None, float(area.sum()),
        voids, void_mm3, _size(surface, area),
        None if wall is None else float(wall.walls[wall.thinnest(LIP_SHARE)]),
        None if wall is None else float(wall.chords.min()),
        None if wall is None else float(np.percentile(wall.chords, 5.0)),
        None if wall is None else 100.0 * wall.share_below(can.wall_mm),
        None if wall is None else wall.points[wall.thinnest(LIP_SHARE)], overhang, up, (),
        _shares(wall),
        None if can.density is None or not closed else can.density * surface.volume_mm3 / 1000.0,
        hanging.volume_mm3, trapped, measured,
        tuple(
            _where(surface, wall, can, which, hanging.faces, hanging.height_mm, trapped)
            + _unsound(surface, closed, can, holes, measured)
        ),
    )  # fmt: skip
    return replace(check, doubts=_doubts(check, can))


def _shares(wall: Walls | None) -> tuple[float, float, float] | None:
    """Walls that 1, 5 and 50 % of the surface fall short of."""
    if wall is None:
        return None
    found = np.percentile(wall.walls, [1.0, 5.0, 50.0])
    return float(found[0]), float(found[1]), float(found[2])


def _where(
    surface: Surface,
    wall: Walls | None,
    can: ProcessLimits,
    crossing: npt.NDArray[np.int64],
    hanging: npt.NDArray[np.int64],
    height: FloatArray,
    trapped: Pockets | None,
) -> list[Places]:
    """Places behind the figures; only of what was found."""
    out = []
    corners = surface.triangles
    if wall is not None:
        thin = wall.walls < can.wall_mm
        out.append(places("thin walls", "mm", wall.points[thin], wall.walls[thin]))
    out.append(places("overhangs", "mm", corners[hanging].mean(axis=1), height))
    if len(crossing):
        middle = corners[crossing[:, 0]].mean(axis=1)
        out.append(places("crossing faces", "count", middle, np.ones(len(middle))))
    if trapped is not None:
        out.append(places("trapped powder", "mm3", trapped.points, trapped.room_mm3))
    return [one for one in out if len(one.points)]


def _unsound(
    surface: Surface, closed: bool, can: ProcessLimits, holes: Sequence[Hole],
    measured: Sequence[HoleCheck],
) -> list[Places]:  # fmt: skip
    """Places of open edges, of enclosed voids, of bodies beside the largest, and of too narrow holes."""
    from sacroplan.implant.operands import open_edges

    out = []
    if not closed:
        edges = open_edges(surface)
        middle = surface.vertices[edges].mean(axis=1)
        length = np.linalg.norm(
            surface.vertices[edges[:, 0]] - surface.vertices[edges[:, 1]], axis=1
        )
        out.append(places("open edges", "mm", middle, length))
    else:
        pieces = sorted(surface.bodies(), key=lambda piece: -piece.volume_mm3)
        middles = np.array([piece.bounds.mean(axis=0) for piece in pieces])
        sizes = np.array([piece.volume_mm3 for piece in pieces])
        rest = np.arange(len(pieces)) > 0
        out.append(places("enclosed voids", "mm3", middles[sizes < 0.0], -sizes[sizes < 0.0]))
        extra = rest & (sizes > 0.0)
        out.append(places("loose bodies", "mm3", middles[extra], sizes[extra]))
    narrow = [
        (hole.point, found.measured_mm)
        for hole, found in zip(holes, measured, strict=True)
        if found.measured_mm is not None and found.measured_mm < can.hole_mm
    ]
    if narrow:
        points, across = zip(*narrow, strict=True)
        out.append(places("narrow holes", "mm", np.array(points), np.array(across)))
    return [one for one in out if len(one.points)]


def overhang_percent(surface: Surface, up: FloatArray, can: ProcessLimits) -> float:
    """Share of the surface that hangs flatter than the self-supporting angle, plate excepted."""
    return float(_overhangs(surface, unit(up)[None], can)[0])


def _overhangs(surface: Surface, directions: FloatArray, can: ProcessLimits) -> FloatArray:
    """(k,) overhang share for each build direction (k, 3)."""
    if can.angle_deg is None:
        return np.zeros(len(directions))
    vectors = surface.area_vectors
    area = np.linalg.norm(vectors, axis=1)
    steep = -np.cos(np.deg2rad(can.angle_deg)) - 1e-9
    out = np.empty(len(directions))
    for n, up in enumerate(directions):
        down = np.nonzero(vectors @ up < steep * area)[0]
        height = surface.vertices @ up
        on_plate = (height[surface.faces[down]] < height.min() + PLATE_MM).all(axis=1)
        out[n] = 100.0 * float(area[down[~on_plate]].sum()) / float(area.sum())
    return out


def best_direction(surface: Surface, area: FloatArray, can: ProcessLimits) -> FloatArray:
    """Build direction (3,) with least overhang among evenly spread ones and the principal axes."""
    axes = _principal(surface, area)
    if can.angle_deg is None:
        return axes[:, 0]
    n = np.arange(DIRECTIONS) + 0.5
    polar, turn = np.arccos(1.0 - 2.0 * n / DIRECTIONS), np.pi * (1.0 + 5.0**0.5) * n
    sphere = np.stack(
        [np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1
    )
    # Spread in the part's own axes, so that the choice turns with the part.
    candidates = np.concatenate([np.eye(3), -np.eye(3), sphere]) @ axes.T
    share = _overhangs(surface, candidates, can)
    return np.asarray(candidates[int(np.argmin(np.round(share, 9)))])


def _principal(surface: Surface, area: FloatArray) -> FloatArray:
    """(3, 3) columns: principal axes of the surface, smallest extent first, right-handed."""
    corners = surface.triangles
    total = corners.sum(axis=1)
    mean = np.average(total / 3.0, axis=0, weights=area)
    # Exact second moment of the surface: a coarse mesh gives the same axes as a fine one.
    points = (corners - mean).reshape(-1, 3) * np.repeat(np.sqrt(area), 3)[:, None]
    sums = (total - 3.0 * mean) * np.sqrt(area)[:, None]
    _, axes = np.linalg.eigh(points.T @ points + sums.T @ sums)
    # The third moment fixes each axis's sign whatever the part's position.
    skew = (area[:, None] * ((total / 3.0 - mean) @ axes) ** 3).sum(axis=0)
    axes = axes * np.where(skew < 0.0, -1.0, 1.0)
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1.0
    return np.asarray(axes)


def _size(surface: Surface, area: FloatArray) -> FloatArray:
    """(3,) extents of a small box round the part, ascending.

    From the principal axes on, the box is turned about each of its axes to the smallest outline;
    on a plain block that is exact, in general it is a close upper bound.
    """
    axes = _principal(surface, area)
    for axis in (0, 1, 2, 0, 1, 2):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        flat = surface.vertices @ axes[:, [i, j]]
        c, s = _smallest_outline(flat)
        u, v = axes[:, i].copy(), axes[:, j].copy()
        axes[:, i], axes[:, j] = c * u + s * v, c * v - s * u
    return np.sort(np.ptp(surface.vertices @ axes, axis=0))


def _smallest_outline(points: FloatArray) -> tuple[float, float]:
    """Direction (cosine, sine) of an edge of the hull whose box round ``points`` (n, 2) is smallest."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = points[ConvexHull(points).vertices]
    except QhullError:
        # All in one line: an open, flat surface seen from its edge.
        return 1.0, 0.0
    edge = np.roll(hull, -1, axis=0) - hull
    edge /= np.linalg.norm(edge, axis=1, keepdims=True)
    along = np.ptp(hull @ edge.T, axis=0)
    across = np.ptp(hull @ np.stack([-edge[:, 1], edge[:, 0]]), axis=0)
    best = edge[int(np.argmin(np.round(along * across, 9)))]
    return float(best[0]), float(best[1])


def _doubts(check: PartCheck, can: ProcessLimits) -> tuple[Doubt, ...]:
    out: list[Doubt] = []

    def say(code: str, message: str, *rows: str) -> None:
        out.append(Doubt("print", f"print.{code}", f"{check.name}: {message}", rows))

    if not check.closed:
        say("open", "the surface is not watertight; no volume, void or wall can be told.")
    if check.crossings:
        say("crossings", f"{check.crossings} pairs of faces cross, none expected.")
    if check.bodies != 1:
        say("bodies", f"{check.bodies} separate bodies, one expected.")
    if check.voids:
        say(
            "voids",
            f"{check.voids} enclosed voids hold {check.void_mm3 or 0.0:.1f} mm3 of powder that "
            "cannot be removed; open each with two holes.",
            "AM-05",
        )
    if check.pockets is not None and len(check.pockets.points) > (check.voids or 0):
        at = ", ".join(f"{c:.0f}" for c in check.pockets.points[0])
        say(
            "powder",
            f"{len(check.pockets.points)} places have no way out as wide as "
            f"{check.pockets.opening_mm:.2g} mm for powder, the first at ({at}) mm; widen their openings.",
            "AM-04", "AM-05",
        )  # fmt: skip
    for hole in check.holes:
        if hole.measured_mm is not None and hole.measured_mm < can.hole_mm:
            say("hole", f"hole {hole.name} measures {hole.measured_mm:.2f} mm, {can.hole_mm:g} mm print "
                "open.", "AM-04")  # fmt: skip
        if (
            can.lying_mm is not None
            and hole.lying_deg > LYING_DEG
            and (hole.measured_mm or hole.planned_mm) > can.lying_mm
        ):
            say("hole_lying", f"hole {hole.name} of {hole.planned_mm:.1f} mm lies {hole.lying_deg:.0f} "
                f"degrees to the build direction; above {can.lying_mm:g} mm it sags, draw it as a tear-drop.",
                "AM-04")  # fmt: skip
    if check.thin_percent is not None and check.thin_percent > evidence.value("SP-MAN-02", "thin"):
        say(
            "wall",
            f"{check.thin_percent:.1f} % of the surface has walls below {can.wall_mm:g} mm "
            f"(thinnest {check.wall_min_mm:.2f} mm), the limit of {check.process}.",
            can.rows[0], "SP-MAN-02",
        )  # fmt: skip
    if np.any(check.size_mm > np.sort(can.box_mm)):
        size = " x ".join(f"{s:.0f}" for s in check.size_mm)
        box = " x ".join(f"{s:.0f}" for s in sorted(can.box_mm))
        say("size", f"it measures {size} mm, the build volume {box} mm.", can.rows[2])
    if can.angle_deg is not None:
        most = evidence.value("SP-MAN-02", "overhang")
        if check.overhang_percent > most:
            say(
                "overhang",
                f"{check.overhang_percent:.0f} % of the surface is flatter than "
                f"{can.angle_deg:g} degrees and needs support, at most {most:g} % expected.",
                can.rows[1], "SP-MAN-02",
            )  # fmt: skip
    return tuple(out)
