"""Cutting guide for one osteotomy: of the ilium from behind, or of another bone and side.

The guide is a shell on the outer table and the crest beside the cut, with a captured saw slot, three
K-wire sleeves in the bone that stays, and engraved marks. Fit and slot are exact: the bone-facing side
is cut by the bone's own offset (and its shadow along the removal axis), slot and holes by planes and
cylinders. HANDBOOK section 7.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, same_frame, unit
from sacroplan.geometry.slicing import CrossSection
from sacroplan.geometry.surface import Surface
from sacroplan.guides.cutline import CutLine, cut_line
from sacroplan.guides.fit import Contact, Stability
from sacroplan.guides.rocking import Constraint, constraint
from sacroplan.guides.seat import SEAT_GRID_MM, GuideFrame, Seat
from sacroplan.guides.wires import KWire
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent

Side = Literal["left", "right"]

OVERLAP_MM3 = 1.0
"""More common volume with the bone than this is a fault of the construction, not rounding."""

SKIRT_MM = 0.8
"""A wall below this is a feather that breaks off in the wound; two strands of a nozzle."""

BITE_MM = 1.2
SKIRT_ROUNDS = 2
SKIRT_LOSS = 0.02
SKIRT_SAMPLES = 5000
"""Radius of a bite out of a feathered rim; rounds of looking again; most of the body that may go in one."""

LIFTS_MM = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Heights at which the guide is tried against the bone on its way off."""


@dataclass(frozen=True, eq=False)
class GuideInput:
    """What a guide is made for.

    Attributes
    ----------
    side : patient's side. hip : intact hip bone, closed.
    cut : centre plane of the kerf; its normal points towards the specimen (the midline).
    kerf_mm : thickness of bone that the saw removes.
    axes : pelvic frame, x anterior, y cranial, z right. psis : (3,) LPS of this side.
    case_id : engraved. avoid : closed surfaces the guide and its wires keep away from.
    version : design iteration, engraved.
    notch : (3,) LPS apex of the greater sciatic notch; the cut line ends at its level. Without it
        the line ends where the bone does.
    name : of another osteotomy than the ilium's; the guide is called after it. ``hip`` is then the
        bone that is sawn, ``psis`` the point where the surgeon sees the cut.
    outline, up, back, centred : see :func:`cutline.cut_line`. screws : planned screws, which the
        K-wires miss.
    """

    side: Side
    hip: Surface
    cut: Plane
    kerf_mm: float
    axes: AxisFrame
    psis: FloatArray
    case_id: str
    avoid: tuple[Surface, ...] = ()
    version: str = "1"
    notch: FloatArray | None = None
    name: str = ""
    outline: CrossSection | None = None
    up: FloatArray | None = None
    back: FloatArray | None = None
    centred: bool = False
    screws: tuple[Surface, ...] = ()

    @property
    def guide_name(self) -> str:
        """Name of the part."""
        return f"guide_{self.name}" if self.name else f"guide_iliac_{self.side}"

    @property
    def approach(self) -> FloatArray:
        """(3,) where the surgeon stands."""
        return -self.axes.axes[:, 0] if self.back is None else unit(self.back)


def _row(row: str, name: str) -> Any:
    return field(default_factory=lambda: evidence.value(row, name))


@dataclass(frozen=True)
class GuideParameters:
    """Dimensions of a guide (mm, degrees); the defaults are evidence rows.

    ``walls`` is how far the slot captures the blade: 1 only the wall of the bone that stays, on which
    the blade lies; 2 both walls, one end open, so that the blade slides in from the side; 3 both walls
    and both ends.
    """

    blade_mm: float = _row("GDE-04", "blade")
    slot_clearance_mm: float = _row("GDE-04", "clearance")
    slot_height_mm: float = _row("GDE-04", "height")
    platform_mm: float = _row("GDE-01", "width")
    thickness_mm: float = _row("GDE-06", "pa12")
    clearance_mm: float = _row("GDE-08", "clearance")
    slot_length_mm: float = _row("SP-GDE-01", "slot_length")
    slot_minimum_mm: float = _row("SP-GDE-01", "minimum")
    notch_mm: float = _row("SP-GDE-02", "distance")
    reach_mm: float = _row("SP-GDE-03", "reach")
    approach_deg: float = _row("SP-GDE-03", "approach_angle")
    remnant_mm: float = _row("SP-GDE-04", "remnant")
    specimen_mm: float = _row("SP-GDE-04", "specimen")
    waist_mm: float = _row("SP-GDE-04", "waist")
    foot_mm: float = _row("SP-GDE-04", "foot")
    avoid_mm: float = _row("GDE-02", "clearance")
    wire_mm: float = _row("GDE-03", "diameter")
    wire_clearance_mm: float = _row("GDE-03", "hole_clearance")
    sleeve_height_mm: float = _row("SP-GDE-05", "sleeve_height")
    sleeve_wall_mm: float = _row("SP-GDE-05", "sleeve_wall")
    purchase_mm: float = _row("SP-GDE-05", "purchase")
    cortices_mm: float = _row("SP-GDE-05", "cortices")
    wire_depth_mm: float = _row("SP-GDE-05", "depth")
    protrusion_mm: float = _row("SP-GDE-05", "protrusion")
    wire_angle_deg: float = _row("SP-GDE-05", "angle")
    wire_tilt_deg: float = _row("SP-GDE-05", "tilt")
    kerf_distance_mm: float = _row("SP-GDE-05", "kerf_distance")
    bridge_mm: float = _row("SP-GDE-06", "bridge")
    fillet_mm: float = _row("SP-GDE-06", "fillet")
    letter_mm: float = _row("GDE-10", "letter_height")
    mark_depth_mm: float = _row("SP-GDE-06", "mark_depth")
    mark_stroke_mm: float = _row("SP-GDE-06", "mark_stroke")
    walls: int = 3


@dataclass(frozen=True, eq=False)
class Slot:
    """The saw slot.

    Attributes
    ----------
    cut : the kerf's centre plane. remnant_wall, specimen_wall : planes of the two walls, normals
        as the cut's. A blade that lies against the remnant wall removes exactly the kerf.
    corners : (4, 3) LPS corners of the slot's opening at the bone and at the platform, in the cut.
    width_mm, length_mm : of the opening. height_mm : smallest height of wall above the bone.
    direction : (3,) unit vector out of the bone, along which the blade enters.
    """

    cut: Plane
    remnant_wall: Plane
    specimen_wall: Plane
    corners: FloatArray
    width_mm: float
    length_mm: float
    height_mm: float
    direction: FloatArray


@dataclass(frozen=True, eq=False)
class Guide:
    """A finished guide: one closed body, and what was measured on it."""

    name: str
    side: Side
    surface: Surface
    slot: Slot
    wires: tuple[KWire, ...]
    removal_axis: FloatArray
    parameters: GuideParameters
    line: CutLine
    frame: GuideFrame
    contact: Contact
    stability: Stability
    overlap_mm3: float
    lift_overlap_mm3: float
    approach_deg: float
    marks: tuple[str, ...]
    bounds_mm: FloatArray
    doubts: tuple[Doubt, ...]
    seating: Constraint | None = None
    reach_mm: tuple[float, float] = (0.0, 0.0)
    screws_missed: int = 0

    @property
    def key(self) -> str:
        """Name under which its figures stand: the side of an iliac guide, else the cut."""
        start = f"guide_iliac_{self.side}"
        return self.side if self.name == start else self.name.removeprefix("guide_")

    @property
    def coverage_percent(self) -> float:
        """Share of the visible cut line that the slot guides."""
        return 100.0 * min(1.0, self.line.guided_mm / self.line.length_mm)

    def metrics(self) -> Metrics:
        """Figures under ``guide.<side>.*``."""
        from sacroplan.guides.fit import weighted_percentile
        from sacroplan.guides.wires import angles_deg

        p = self.parameters
        touch, gap = self.contact, self.contact.gap_mm
        mean = float(np.average(gap, weights=touch.area_mm2))
        error = np.abs(gap - p.clearance_mm)
        off = float(np.average(error, weights=touch.area_mm2))
        off95 = weighted_percentile(error, touch.area_mm2, 95.0)
        length = evidence.quantity("GDE-07", "length").lower
        gaps = evidence.span("GDE-08", "clearance")
        widths = evidence.span("GDE-04", "width")
        out: Metrics = {
            "fit.gap_mean": Metric(mean, "mm", "gap to bone, mean", ("GDE-08",), *gaps),
            "fit.gap_p95": Metric(
                touch.percentile(95.0), "mm", "gap to bone, 95 %", ("GDE-08",), *gaps
            ),
            "fit.error_mean": Metric(off, "mm", "deviation from the clearance asked for, mean"),
            "fit.error_p95": Metric(off95, "mm", "deviation from the clearance asked for, 95 %"),
            "fit.contact_area": Metric(float(touch.area_mm2.sum()), "mm2", "contact area"),
            "fit.patches": Metric(self.stability.patches, "count", "contact patches", ("GDE-07",)),
            "fit.planes": Metric(
                self.stability.planes,
                "count",
                "non-coplanar contact patches",
                ("GDE-07",),
                evidence.quantity("GDE-07", "patches").lower,
            ),
            "fit.patches_off": Metric(
                self.stability.patches_off,
                "count",
                f"patches that lose contact at 1 mm or 1 degree (worst: {self.stability.worst})",
                ("GDE-07",),
                evidence.quantity("GDE-07", "patches_off").lower,
            ),
            "fit.bone_overlap": Metric(
                self.overlap_mm3, "mm3", "common volume with the bone", (), None, OVERLAP_MM3
            ),
            "fit.lift_overlap": Metric(
                self.lift_overlap_mm3,
                "mm3",
                "largest common volume with the bone when lifted off",
                ("GDE-08",),
                None,
                OVERLAP_MM3,
            ),
            "fit.footprint_along": Metric(
                float(np.ptp(self.line.to_local(touch.points)[:, 0])),
                "mm",
                "contact along the cut",
                ("GDE-07",),
                length,
            ),
            "slot.width": Metric(self.slot.width_mm, "mm", "slot width", ("GDE-04",), *widths),
            "slot.height": Metric(
                self.slot.height_mm,
                "mm",
                "smallest height of the slot above bone",
                ("GDE-04",),
                evidence.quantity("GDE-04", "height").lower,
            ),
            "slot.length": Metric(self.slot.length_mm, "mm", "slot length"),
            "slot.coverage": Metric(
                self.coverage_percent, "%", "share of the posterior cut line that is guided"
            ),
            "platform.width": Metric(p.platform_mm, "mm", "cutting platform width", ("GDE-01",)),
            "body.thickness": Metric(p.thickness_mm, "mm", "shell thickness", ("GDE-06",)),
            "body.volume": Metric(self.surface.volume_mm3 / 1000.0, "cm3", "volume of the guide"),
            "body.faces": Metric(len(self.surface.faces), "count", "triangles"),
            "wires.count": Metric(
                len(self.wires),
                "count",
                "K-wires",
                ("GDE-03",),
                evidence.quantity("GDE-03", "count").lower,
            ),
            "wires.on_remnant": Metric(
                sum(w.on_remnant for w in self.wires),
                "count",
                "K-wires outside the specimen",
                ("GDE-03",),
            ),
            "wires.min_angle": Metric(
                float(angles_deg(self.wires).min()),
                "deg",
                "smallest angle between two K-wires",
                ("GDE-03", "SP-GDE-05"),
                p.wire_angle_deg,
            ),
            "wires.min_bone": Metric(
                min(w.bone_mm for w in self.wires), "mm", "shortest K-wire purchase", ("SP-GDE-05",)
            ),
            "removal.approach_angle": Metric(
                self.approach_deg,
                "deg",
                "removal axis to straight posterior",
                ("SP-GDE-03",),
                None,
                p.approach_deg,
            ),
        }
        if self.seating is not None:
            out |= self.seating.metrics(p.slot_clearance_mm, self.slot.height_mm)
        for n, end in enumerate(("shallowest", "deepest")):
            out[f"slot.depth_{end}"] = Metric(
                self.reach_mm[n], "mm",
                f"Depth stop: blade below the platform that just parts the bone, {end} place",
            )  # fmt: skip
        out["wires.screws_missed"] = Metric(
            self.screws_missed, "count", "planned screws that the K-wires miss", ("SP-GDE-05",)
        )
        for axis, size in zip(("along", "across", "height"), self.bounds_mm, strict=True):
            out[f"body.size_{axis}"] = Metric(float(size), "mm", f"size {axis}")
        return {f"guide.{self.key}.{name}": metric for name, metric in out.items()}


def design(
    inp: GuideInput, parameters: GuideParameters | None = None, progress: Progress = silent
) -> Guide:
    """Design the guide of one side.

    Raises :class:`PlanError` where the cut misses the posterior ilium, cannot be sawn from behind,
    no K-wire finds bone, or the result is not one closed body free of the bone. Anything that only
    project defaults speak against is a doubt.
    """
    p = parameters or GuideParameters()
    hip, cut = inp.hip, inp.cut
    same_frame(hip, cut, inp.axes, *inp.avoid)
    hip.require_closed(f"the bone under {inp.guide_name}")
    _check(inp, p)
    line = cut_line(
        hip,
        cut,
        inp.axes,
        np.asarray(inp.psis, dtype=np.float64),
        p.slot_length_mm,
        p.notch_mm,
        p.reach_mm,
        p.slot_minimum_mm,
        inp.notch,
        inp.outline,
        inp.up,
        inp.back,
        inp.centred,
    )
    frame, approach = _frame(inp, line, p)
    progress(0.05, "guide: seat on the bone")
    shape = _tower(inp, line, p)
    low, high = _box(inp, line, frame, shape, p)
    from sacroplan.guides.seat import seat

    rest = seat(hip, frame, low, high, p.clearance_mm)
    progress(0.4, "guide: K-wires")
    wires = _wires(inp, line, frame, rest, p)
    progress(0.5, "guide: body")
    surface, marks, doubts = _solid(inp, line, frame, rest, shape, wires, p)
    progress(0.8, "guide: measuring the fit")
    return _measured(inp, p, line, frame, wires, surface, marks, approach, doubts)


def _check(inp: GuideInput, p: GuideParameters) -> None:
    if inp.side not in ("left", "right"):
        raise PlanError(f"A guide is for the side 'left' or 'right', not {inp.side!r}.")
    if p.blade_mm > inp.kerf_mm + 1e-9:
        raise PlanError(
            f"The saw blade ({p.blade_mm:g} mm) is thicker than the kerf ({inp.kerf_mm:g} mm); "
            "give the kerf that this blade cuts or a thinner blade."
        )
    if p.walls not in (1, 2, 3):
        raise PlanError(f"A slot has 1, 2 or 3 walls, not {p.walls}.")
    if inp.name:
        return
    medial = inp.axes.axes[:, 2] * (1.0 if inp.side == "left" else -1.0)
    if float(inp.cut.normal @ medial) <= 0.0:
        raise PlanError(
            f"The normal of the {inp.side} iliac cut points away from the midline; it must point "
            "towards the specimen. Flip the plane or check the side."
        )


def _frame(inp: GuideInput, line: CutLine, p: GuideParameters) -> tuple[GuideFrame, float]:
    """Local frame whose removal axis is the mean normal of the bone under the guide."""
    hip = inp.hip
    centre = line.to_local(hip.triangles.mean(axis=1))
    a, s, x = centre.T
    area = hip.area_vectors
    # Bone further than its own width below the edge is another part of the bone.
    near = (a > line.low_mm - 5.0) & (a < line.high_mm + 10.0)
    near &= (x > -p.specimen_mm) & (x < p.remnant_mm)
    near &= np.abs(s - line.edge(a)) < 1.5 * p.remnant_mm
    near &= hip.face_normals @ line.saw > 0.1
    removal = unit(area[near].sum(axis=0))
    along = unit(line.along - (line.along @ removal) * removal)
    across = np.cross(removal, along)
    across = across if across @ line.across > 0 else -across
    frame = GuideFrame(line.origin, np.stack([along, across, removal], axis=1))
    posterior = inp.approach
    return frame, float(np.degrees(np.arccos(np.clip(removal @ posterior, -1.0, 1.0))))


def _walls(p: GuideParameters) -> tuple[float, float]:
    """Positions of the slot's walls across the cut (specimen side negative, remnant positive).

    The blade lies against the remnant wall with its middle on the middle of the kerf, so the play
    is all on the other side.
    """
    return -(0.5 * p.blade_mm + p.slot_clearance_mm), 0.5 * p.blade_mm


def _edge_at(inp: GuideInput, line: CutLine, x_mm: float) -> FloatArray:
    """(n,) height of the bone's edge at ``line.a_mm`` in the plane at ``x_mm`` across the cut."""
    from sacroplan.geometry.slicing import section

    plane = inp.cut.shifted(-x_mm)
    points = [
        line.to_local(cross)
        for loop in (section(inp.hip, plane),)
        for cross in (loop.to_world(np.vstack([q, q[:1]])) for q in loop.loops)
    ]
    best = np.full(len(line.a_mm), -np.inf)
    for outline in points:
        a0, a1 = outline[:-1, 0], outline[1:, 0]
        s0, s1 = outline[:-1, 1], outline[1:, 1]
        low, high = np.minimum(a0, a1), np.maximum(a0, a1)
        step = np.where(a1 == a0, 1.0, a1 - a0)
        t = (line.a_mm[:, None] - a0) / step
        s = s0 + np.clip(t, 0.0, 1.0) * (s1 - s0)
        meets = (line.a_mm[:, None] >= low) & (line.a_mm[:, None] <= high)
        best = np.maximum(best, np.where(meets, s, -np.inf).max(axis=1))
    return np.where(np.isfinite(best), best, line.s_mm)


def _tower(inp: GuideInput, line: CutLine, p: GuideParameters) -> Any:
    from sacroplan.guides.body import tower

    specimen, remnant = _walls(p)
    higher = np.maximum(_edge_at(inp, line, specimen), _edge_at(inp, line, remnant))
    middle = 0.5 * (specimen + remnant)
    beyond = 2.0 if line.crest else 0.0
    return tower(
        line,
        higher,
        p.slot_height_mm,
        p.bridge_mm,
        beyond,
        0.5 * p.platform_mm - middle,
        0.5 * p.platform_mm + middle,
        p.thickness_mm + 2.0,
    )


def _box(
    inp: GuideInput, line: CutLine, frame: GuideFrame, shape: Any, p: GuideParameters
) -> tuple[FloatArray, FloatArray]:
    """Local box that holds the guide and the bone below it."""
    hip = inp.hip
    local = line.to_local(hip.vertices)
    a, s, x = local.T
    near = (a > shape.low_mm - 4.0) & (a < shape.high_mm + 4.0)
    # How far from the cut's edge the footprint reaches on either side, measured along the bone.
    reach = np.where(x > 0, p.remnant_mm, p.specimen_mm + p.foot_mm + _lobe(p)) + 3.0
    near &= np.hypot(x, s - line.edge(a)) < reach
    near &= hip.vertex_normals @ line.saw > 0.0
    ends = np.array(
        [
            [aa, float(shape.top(np.array(aa))) + dz, xx]
            for aa in np.linspace(shape.low_mm, shape.high_mm, 9)
            for xx in (-shape.specimen_mm, shape.remnant_mm)
            for dz in (0.0, -p.slot_height_mm - p.thickness_mm - 2.0)
        ]
    )
    points = frame.to_local(np.concatenate([hip.vertices[near], line.to_world(ends)]))
    margin = p.thickness_mm + 4.0
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    high[2] = max(
        high[2], frame.to_local(hip.vertices[near])[:, 2].max() + p.sleeve_height_mm + 3.0
    )
    return low, high


def _wires(
    inp: GuideInput, line: CutLine, frame: GuideFrame, rest: Seat, p: GuideParameters
) -> tuple[KWire, ...]:
    from sacroplan.guides.wires import WireRules, Zone, choose

    rules = WireRules(
        p.wire_mm,
        p.sleeve_height_mm,
        p.purchase_mm,
        p.cortices_mm,
        p.wire_depth_mm,
        p.protrusion_mm,
        p.wire_angle_deg,
        p.wire_tilt_deg,
        p.kerf_distance_mm,
    )
    step = 6
    points = frame.to_world(rest.points()[::step, ::step].reshape(-1, 3))
    normals = rest.normals(2.0)[::step, ::step].reshape(-1, 3) @ frame.axes.T
    flat = (rest.slope[::step, ::step].reshape(-1) < 1.5) & np.isfinite(points[:, 2])
    points, normals = points[flat], normals[flat]
    a, _, x = line.to_local(points).T
    outer = 0.5 * p.wire_mm + p.wire_clearance_mm + p.sleeve_wall_mm
    far = p.remnant_mm - _lobe(p)
    inset = outer + 2.0
    # A sleeve must not touch the slot's walls, or the saw's nose meets the wire.
    nearest = 0.5 * p.platform_mm + outer + 1.0
    sites = (
        ("cranial", line.high_mm - inset, 0.9 * far, line.along),
        ("lateral", 0.0, far, line.across),
        ("caudal", line.low_mm + inset, 0.9 * far, -line.along),
    )
    zones = []
    for name, at, out, toward in sites:
        distance = np.hypot(a - at, x - out)
        mine = (distance < 12.0) & (x >= nearest) & (x <= far + 2.0)
        if not mine.any():
            raise PlanError(
                f"The guide has no bone at its {name} K-wire site, {out:.0f} mm beside the cut; "
                "move the cut or narrow the guide."
            )
        zones.append(Zone(name, points[mine], normals[mine], 0.05 * distance[mine], toward))
    avoid = (*inp.avoid, *inp.screws)
    return choose(zones, inp.hip, inp.cut, inp.kerf_mm, avoid, frame, rules)


def _lobe(p: GuideParameters) -> float:
    return 0.5 * p.wire_mm + p.wire_clearance_mm + p.sleeve_wall_mm + 2.0


def _solid(
    inp: GuideInput,
    line: CutLine,
    frame: GuideFrame,
    rest: Seat,
    shape: Any,
    wires: Sequence[KWire],
    p: GuideParameters,
) -> tuple[Surface, tuple[str, ...], list[Doubt]]:
    import manifold3d

    from sacroplan.geometry.booleans import TINY_VOLUME_MM3, from_manifold, to_manifold
    from sacroplan.geometry.fields import contour, distance_field, smooth_union
    from sacroplan.geometry.primitives import cylinder
    from sacroplan.guides.body import (
        BODY_GRID_MM,
        SHELL_GRID_MM,
        bearing,
        block,
        footprint,
        shell_field,
        sleeve_field,
        smooth_intersection,
        tower_field,
        zoom_to,
    )

    frame_name = inp.hip.frame
    size = (np.array(rest.height_mm.shape) - 1) * SEAT_GRID_MM
    body_low = rest.low + 1.5
    top = frame.to_local(np.array([w.start for w in wires]))[:, 2].max()
    body_high = np.array([*(rest.low[:2] + size - 1.5), 0.0])
    platform = np.stack([shape.a_mm, shape.top_mm, np.zeros_like(shape.a_mm)], axis=1)
    sides = [platform + [0, 0, dx] for dx in (-shape.specimen_mm, shape.remnant_mm)]
    tops = frame.to_local(line.to_world(np.concatenate(sides)))[:, 2].max()
    body_high[2] = max(float(top), float(tops)) + 3.0
    outline = footprint(
        rest, line, shape, p.waist_mm, p.specimen_mm, wires, _lobe(p), p.foot_mm, 2.0 * p.fillet_mm
    )
    carries = bearing(rest, outline, p.thickness_mm + 4.0)
    geometry = frame.grid(body_low, body_high, BODY_GRID_MM, frame_name)
    shell = shell_field(rest, carries, outline, p.thickness_mm, geometry)
    whole = tuple(slice(0, n) for n in geometry.shape)
    points = _grid_points(geometry, whole)
    values = smooth_union(shell, tower_field(shape, points).reshape(geometry.shape), p.fillet_mm)
    radius = 0.5 * (p.wire_mm + p.wire_clearance_mm) + p.sleeve_wall_mm
    for wire in wires:
        # A sleeve changes the field no further away than its fillet.
        ends = np.stack([wire.start, wire.entry + 2.0 * wire.direction])
        part = _around(geometry, ends, radius + p.fillet_mm + 1.0)
        sleeve = sleeve_field(wire, radius, _grid_points(geometry, part))
        values[part] = smooth_union(values[part], sleeve.reshape(values[part].shape), p.fillet_mm)
    for obstacle in inp.avoid:
        part = _around(geometry, obstacle.vertices, p.avoid_mm + 1.0)
        if any(s.stop - s.start < 2 for s in part):
            continue
        size_mm = [(n - 1) * BODY_GRID_MM for n in geometry.shape]
        coarse = frame.grid(body_low, body_low + size_mm, SHELL_GRID_MM, frame_name)
        away = distance_field(obstacle, coarse, exact_mm=p.avoid_mm + 1.0).values
        if float(away.min()) > p.avoid_mm + 1.0:
            continue
        fine = zoom_to(away.astype(np.float64), geometry.shape, BODY_GRID_MM / SHELL_GRID_MM)
        values = smooth_intersection(values, p.avoid_mm - fine.astype(np.float64), 1.0)
    body = to_manifold(contour(geometry, values), "the guide's body").simplify(0.01)

    specimen, remnant = _walls(p)
    far = 200.0
    end = line.high_mm + (2.0 if line.crest else 0.0)
    cutters = [
        to_manifold(rest.below, "the bone below the guide").simplify(0.002),
        to_manifold(
            block(
                line,
                np.array(
                    [line.low_mm if p.walls > 1 else -far, -far, specimen if p.walls > 1 else -far]
                ),
                np.array([end if p.walls == 3 else far, far, remnant]),
                frame_name,
            )
        ),
    ]
    hole = 0.5 * (p.wire_mm + p.wire_clearance_mm)
    for wire in wires:
        d = wire.direction
        cutters.append(
            to_manifold(
                cylinder(wire.start - 20.0 * d, wire.entry + 20.0 * d, hole, 48, frame_name)
            )
        )
    marks, letters, doubts = _marks(inp, line, frame, shape, wires, shell, geometry, p)
    solid = manifold3d.Manifold.batch_boolean(
        [body, *cutters, *letters], manifold3d.OpType.Subtract
    )
    pieces = sorted(solid.decompose(), key=lambda m: -m.volume())
    if not pieces or pieces[0].volume() < TINY_VOLUME_MM3:
        raise PlanError("Nothing is left of the guide once bone, slot and holes are taken out.")
    lost = sum(m.volume() for m in pieces[1:])
    if lost > 0.01 * pieces[0].volume():
        raise PlanError(
            f"The guide falls into {len(pieces)} pieces (the smaller ones hold {lost:.0f} mm3); "
            "its bridges must go round the slot. Move the cut, shorten the slot or free the "
            "structures to be avoided."
        )
    whole = _without_skirts(pieces[0], line, wires, frame.axes[:, 2], p, frame_name)
    return from_manifold(whole, frame_name), marks, doubts


def _without_skirts(
    solid: Any,
    line: CutLine,
    wires: Sequence[KWire],
    axis: FloatArray,
    p: GuideParameters,
    frame_name: str,
) -> Any:
    """The guide without feathered rims: where a wall is thinner than a nozzle, the rim is cut back.

    Slot tower and sleeves are left alone; so is a guide that would lose more than a little.
    """
    import manifold3d

    from sacroplan.geometry.booleans import from_manifold, to_manifold
    from sacroplan.geometry.primitives import cylinder
    from sacroplan.geometry.tree import face_tree
    from sacroplan.geometry.walls import measure_walls

    radius = 0.5 * (p.wire_mm + p.wire_clearance_mm) + p.sleeve_wall_mm + 0.5
    for _ in range(SKIRT_ROUNDS):
        surface = from_manifold(solid, frame_name)
        walls = measure_walls(
            surface, face_tree(surface), SKIRT_MM, 2.0 * SKIRT_MM, samples=SKIRT_SAMPLES
        )
        thin = walls.points[walls.walls < SKIRT_MM - 1e-6]
        thin = thin[np.abs(line.to_local(thin)[:, 2]) > 0.5 * p.platform_mm + 1.0]
        for wire in wires:
            arm = thin - wire.start
            off = arm - np.outer(arm @ wire.direction, wire.direction)
            thin = thin[np.linalg.norm(off, axis=1) > radius]
        if not len(thin):
            return solid
        # One bite for all thin places within a bite's reach of each other.
        _, first = np.unique(np.round(thin / BITE_MM).astype(int), axis=0, return_index=True)
        bites = [
            to_manifold(cylinder(q - 8.0 * axis, q + 8.0 * axis, BITE_MM, 16, frame_name))
            for q in thin[np.sort(first)]
        ]
        left = manifold3d.Manifold.batch_boolean([solid, *bites], manifold3d.OpType.Subtract)
        best = max(left.decompose(), key=lambda m: m.volume())
        if best.volume() < (1.0 - SKIRT_LOSS) * solid.volume():
            return solid
        solid = best
    return solid


def _around(geometry: Any, points: FloatArray, margin_mm: float) -> tuple[slice, ...]:
    """Part of a grid within ``margin_mm`` of the box round ``points`` (n, 3); may be empty."""
    index = geometry.to_index(points)
    margin = margin_mm / geometry.spacing_mm
    low = np.clip(np.floor(index.min(axis=0) - margin), 0, geometry.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + margin) + 1, 0, geometry.shape).astype(int)
    return tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))


def _grid_points(geometry: Any, part: tuple[slice, ...]) -> FloatArray:
    """(n, 3) LPS points of a part of a grid."""
    index = np.meshgrid(*[np.arange(s.start, s.stop) for s in part], indexing="ij")
    return np.asarray(geometry.to_world(np.stack(index, axis=-1).reshape(-1, 3)))


def _marks(
    inp: GuideInput,
    line: CutLine,
    frame: GuideFrame,
    shape: Any,
    wires: Sequence[KWire],
    shell: FloatArray,
    geometry: Any,
    p: GuideParameters,
) -> tuple[tuple[str, ...], list[Any], list[Doubt]]:
    """Engraving tools: case, side and version with the cranial arrow on the slot's outer wall."""
    from sacroplan.geometry.booleans import to_manifold
    from sacroplan.guides.lettering import ADVANCE, engravable, glyph, width_mm

    doubts: list[Doubt] = []
    letter = "L" if inp.side == "left" else "R"
    # A guide across the midline says where its arrow points: not cranial but to the patient's side.
    sideways = abs(float(line.along @ inp.axes.axes[:, 2])) > 0.7
    to_left = float(line.along @ inp.axes.axes[:, 2]) < 0.0
    outward = line.across
    up = line.saw
    reading = np.cross(up, outward)
    cranial = 1.0 if reading @ line.along > 0 else -1.0
    case = engravable(inp.case_id)
    if case != inp.case_id.upper():
        doubts.append(
            Doubt(
                "guide",
                "guide.marks.replaced",
                f"The case id {inp.case_id!r} is engraved as {case!r}: the font has no other letters.",
                ("GDE-10",),
            )
        )
    words = [case, letter, f"V{engravable(inp.version)}"]
    if sideways:
        words.append("TO-L" if to_left else "TO-R")
    room = shape.high_mm - shape.low_mm - 2.0 * 3.0
    height = p.letter_mm
    text = " ".join(words)
    text = f"{text} >" if cranial > 0 else f"< {text}"
    least = evidence.quantity("GDE-10", "letter_height").lower or 0.0
    if width_mm(text, height) > room:
        height = max(least, height * room / width_mm(text, height))
    if width_mm(text, height) > room:
        keep = int(room / height / ADVANCE) - (len(text) - len(case))
        short = case[: max(keep, 1)]
        doubts.append(
            Doubt(
                "guide",
                "guide.marks.shortened",
                f"Only {short!r} of the case id {case!r} fits on the guide at {height:.1f} mm.",
                ("GDE-10",),
            )
        )
        text = text.replace(case, short)
    start = -0.5 * width_mm(text, height)
    tools = []
    middle = 0.5 * (shape.low_mm + shape.high_mm)
    for n, character in enumerate(text):
        left = start + n * ADVANCE * height
        a = middle + cranial * (left + 0.3 * height)
        # Letters follow the platform's edge, each on its own tangent.
        lift = shape.top(np.array([a - 1.0, a, a + 1.0]))
        slope = float(lift[2] - lift[0]) / 2.0
        along = unit(line.along + slope * line.saw) * cranial
        rise = np.cross(outward, along)
        at = line.to_world(np.array([[a, float(lift[1]) - 1.8, shape.remnant_mm]]))[0]
        corner = at - 0.3 * height * along - height * rise
        tool = glyph(
            character,
            height,
            p.mark_stroke_mm,
            corner,
            np.stack([along, rise, outward], axis=1),
            -p.mark_depth_mm,
            5.0,
            inp.hip.frame,
        )
        if tool is not None:
            tools.append(to_manifold(tool, f"the letter {character}"))
    return (text,), tools, doubts


def _measured(
    inp: GuideInput,
    p: GuideParameters,
    line: CutLine,
    frame: GuideFrame,
    wires: tuple[KWire, ...],
    surface: Surface,
    marks: tuple[str, ...],
    approach: float,
    doubts: list[Doubt],
) -> Guide:
    from sacroplan.guides.fit import contact, removal_overlap_mm3, stability

    name = inp.guide_name
    surface.require_closed(name)
    removal = frame.axes[:, 2]
    overlap = removal_overlap_mm3(surface, inp.hip, removal, (0.0,))
    lifted = removal_overlap_mm3(surface, inp.hip, removal, LIFTS_MM)
    if overlap > OVERLAP_MM3:
        raise PlanError(
            f"{name} shares {overlap:.1f} mm3 with the bone, at most {OVERLAP_MM3:g} expected."
        )
    touch = contact(surface, inp.hip, frame, p.clearance_mm + 0.3)
    firm = stability(
        touch,
        inp.hip,
        frame,
        evidence.value("GDE-07", "translation"),
        evidence.value("GDE-07", "rotation"),
        0.15,
    )
    firm_figure = constraint(
        touch.points, touch.normals, touch.area_mm2, face_corners(inp, line), inp.cut.normal,
        p.clearance_mm,
    )  # fmt: skip
    slot = _slot(inp, line, surface, p)
    local = frame.to_local(surface.vertices)
    guide = Guide(
        name,
        inp.side,
        surface,
        slot,
        wires,
        removal,
        p,
        line,
        frame,
        touch,
        firm,
        overlap,
        lifted,
        approach,
        marks,
        np.ptp(local, axis=0),
        (),
        firm_figure,
        blade_reach(inp, line, slot.height_mm),
        len(inp.screws),
    )
    found = (*doubts, *_doubts(guide))
    return Guide(**{**_fields(guide), "doubts": found})


def face_corners(inp: GuideInput, line: CutLine) -> FloatArray:
    """(4, 3) corners of the guided part of the cut, on the bone's edge and at the far side of it."""
    far = _far_edge(inp, line)
    ends = np.array([line.low_mm, line.high_mm])
    near = np.interp(ends, line.a_mm, line.s_mm)
    deep = np.interp(ends, line.a_mm, far)
    local = [[a, s, 0.0] for a, s in zip([*ends, *ends], [*near, *deep], strict=True)]
    return line.to_world(np.array(local))


def _far_edge(inp: GuideInput, line: CutLine) -> FloatArray:
    """(n,) height of the bone's far side at ``line.a_mm``: how deep the blade must go."""
    outline = inp.outline
    if outline is None:
        from sacroplan.geometry.slicing import section

        outline = section(inp.hip, inp.cut)
    best = np.full(len(line.a_mm), np.inf)
    edge = line.s_mm
    for loop in outline.loops:
        q = line.to_local(outline.to_world(np.vstack([loop, loop[:1]])))
        a0, a1, s0, s1 = q[:-1, 0], q[1:, 0], q[:-1, 1], q[1:, 1]
        step = np.where(a1 == a0, 1.0, a1 - a0)
        t = (line.a_mm[:, None] - a0) / step
        s = s0 + t * (s1 - s0)
        meets = (t >= 0.0) & (t <= 1.0) & (a1 != a0)
        # Only the bone that is met first: a second one behind a gap is not to be sawn from here.
        below = meets & (s < edge[:, None] - 0.5)
        nearest = np.where(below, s, -np.inf).max(axis=1)
        best = np.where(np.isfinite(nearest), np.minimum(best, nearest), best)
    return np.where(np.isfinite(best), best, edge)


def blade_reach(inp: GuideInput, line: CutLine, height_mm: float) -> tuple[float, float]:
    """Least and greatest depth (mm) below the platform at which the blade leaves the bone."""
    inside = (line.a_mm >= line.low_mm) & (line.a_mm <= line.high_mm)
    depth = (line.s_mm - _far_edge(inp, line))[inside] + height_mm
    return float(depth.min()), float(depth.max())


def _fields(guide: Guide) -> dict[str, Any]:
    return {name: getattr(guide, name) for name in guide.__dataclass_fields__}


def _slot(inp: GuideInput, line: CutLine, surface: Surface, p: GuideParameters) -> Slot:
    """Measure the slot on the finished guide: its walls' height above bone just beside the opening."""
    specimen, remnant = _walls(p)
    a = np.linspace(line.low_mm + 1.0, line.high_mm - 1.0, 40)
    least = np.inf
    for x in (specimen - 0.05, remnant + 0.05):
        guide_top = _top_at(surface, inp.cut.shifted(-x), line, a)
        bone = np.interp(a, line.a_mm, _edge_at(inp, line, x))
        least = min(least, float((guide_top - bone).min()))
    end = line.high_mm + (2.0 if line.crest else 0.0)
    ends = np.array([line.low_mm, end])
    edge = line.edge(ends)
    corners = np.array(
        [
            [ends[0], edge[0], 0.0],
            [ends[1], edge[1], 0.0],
            [ends[1], edge[1] + least, 0.0],
            [ends[0], edge[0] + least, 0.0],
        ]
    )
    return Slot(
        inp.cut,
        inp.cut.shifted(-remnant),
        inp.cut.shifted(-specimen),
        line.to_world(corners),
        remnant - specimen,
        float(ends[1] - ends[0]),
        least,
        line.saw,
    )


def _top_at(surface: Surface, plane: Plane, line: CutLine, a: FloatArray) -> FloatArray:
    from sacroplan.geometry.slicing import section

    cross = section(surface, plane)
    best = np.full(len(a), -np.inf)
    for loop in cross.loops:
        outline = line.to_local(cross.to_world(np.vstack([loop, loop[:1]])))
        a0, a1, s0, s1 = outline[:-1, 0], outline[1:, 0], outline[:-1, 1], outline[1:, 1]
        t = (a[:, None] - a0) / np.where(a1 == a0, 1.0, a1 - a0)
        meets = (t >= 0.0) & (t <= 1.0) & (a1 != a0)
        best = np.maximum(best, np.where(meets, s0 + t * (s1 - s0), -np.inf).max(axis=1))
    return best


def _doubts(guide: Guide) -> list[Doubt]:
    """Limits that a guide misses; they are project defaults, so they warn."""
    said = {
        "fit.planes": "guide.fit.planes",
        "fit.patches_off": "guide.fit.not_unique",
        "fit.footprint_along": "guide.fit.short",
        "fit.lift_overlap": "guide.fit.undercut",
        "slot.width": "guide.slot.width",
        "slot.height": "guide.slot.height",
        "wires.count": "guide.wires.count",
        "removal.approach_angle": "guide.approach",
        "fit.constraint": "guide.fit.rocks",
    }
    out = []
    metrics = guide.metrics()
    for name, code in said.items():
        m = metrics[f"guide.{guide.key}.{name}"]
        if m.within is False:
            limits = " to ".join(f"{v:g}" for v in (m.lower, m.upper) if v is not None)
            out.append(
                Doubt(
                    "guide",
                    code,
                    f"{guide.name}: {m.label} is {float(m.value or 0):.3g} {m.unit}, {limits} expected.",
                    m.rows,
                )
            )
    return out
