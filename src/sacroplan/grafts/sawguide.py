"""The saw guide of the fibula: a half shell on the bone's outer side with one slot a cut.

Its inner face never undercuts the bone along the way it is lifted off; slots are exact boxes in the
planes of the cuts. K-wires hold it on the pieces of bone that are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import bodies, difference, simplify
from sacroplan.geometry.fields import contour, distance_field
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, unit
from sacroplan.geometry.primitives import box, cylinder
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.grafts.donor import Donor
from sacroplan.grafts.fibula import FibulaPlan
from sacroplan.metrics import Metric, Metrics

GRID_MM = 0.6
"""Grid of the shell; slots and holes are exact, the fit is measured afterwards."""

BEYOND_MM = 10.0
"""How far the shell goes on beyond its last cut."""

ABOVE_MM = 6.0
"""Height of a slot's tower above the shell: it leads the blade."""

SIDE_MM = 2.0
"""A slot is so much wider than the bone on either side, so that its corner is sawn through."""

LEAST_WALL_MM = 1.0
"""Nylon between two slots."""

SMOOTH_MM = 0.05
"""Triangles of the shell are merged within this."""


@dataclass(frozen=True, eq=False)
class SawGuide:
    """A saw guide in the donor's coordinates.

    Attributes
    ----------
    surface : one closed body. slots : planes of the cuts in order. lift : (3,) direction of removal.
    slot_mm : width of a slot. clearance_mm : least distance to the bone. wires : (k, 2, 3) axes.
    """

    surface: Surface
    slots: tuple[Plane, ...]
    lift: FloatArray
    slot_mm: float
    clearance_mm: float
    wires: FloatArray

    def metrics(self) -> Metrics:
        """Figures under ``grafts.saw_guide.*``."""
        return {
            "grafts.saw_guide.slots": Metric(len(self.slots), "count", "Slots of the fibula's saw guide"),
            "grafts.saw_guide.slot_mm": Metric(
                self.slot_mm, "mm", "Width of a slot", ("GDE-05", "SP-GRAFT-07")
            ),
            "grafts.saw_guide.clearance_mm": Metric(
                self.clearance_mm, "mm", "Least distance of the guide to the bone", ("SP-GRAFT-07",),
                lower=0.0,
            ),
            "grafts.saw_guide.volume_cm3": Metric(
                self.surface.volume_mm3 / 1000.0, "cm3", "Volume of the fibula's saw guide"
            ),
        }  # fmt: skip


def saw_guide(plan: FibulaPlan, outer: FloatArray, kerf_mm: float | None = None) -> SawGuide:
    """Guide for every cut of a fibula plan; ``outer`` (3,) points out of the leg on its lateral side.

    Raises :class:`PlanError` where slots stand too close to each other to leave a wall.
    """
    donor = plan.donor
    kerf = evidence.value("GDE-05", "kerf") if kerf_mm is None else kerf_mm
    slot = kerf + evidence.value("SP-GRAFT-07", "slot")
    wall, gap = evidence.value("SP-GRAFT-07", "wall"), evidence.value("SP-GRAFT-07", "clearance")
    x = donor.axis
    z = unit(np.asarray(outer) - float(np.asarray(outer) @ x) * x)
    axes = np.stack([x, np.cross(z, x), z], axis=1)
    cuts = [c for s in plan.segments for c in s.cuts]
    low, high = plan.harvest_mm[0] - BEYOND_MM, plan.harvest_mm[1] + BEYOND_MM
    radius = _radius(donor, low, high)
    grid = _grid(donor, axes, low, high, radius + wall + ABOVE_MM + 3.0)
    bone = distance_field(donor.surface, grid, gap + 2.0 * GRID_MM).values
    # Lifted along z the guide passes over whatever bone lies further out.
    shadow = np.minimum.accumulate(bone[:, :, ::-1], axis=2)[:, :, ::-1]
    local = _local(grid, donor, axes)
    shell = np.maximum.reduce([bone - (gap + wall), -local[2], low - local[0], local[0] - high])
    body = shell
    tower = evidence.value("SP-GRAFT-07", "tower")
    half = radius + SIDE_MM
    boxes = []
    for cut in cuts:
        frame = _slot_frame(cut, donor, z)
        boxes.append(frame)
        rel = _relative(grid, frame)
        sides = np.maximum(np.abs(rel[0]) - (half + wall), np.abs(rel[2]) - 0.5 * (slot + tower))
        body = np.minimum(
            body, np.maximum.reduce([sides, rel[1] - (radius + wall + ABOVE_MM), -local[2]])
        )
    body = np.maximum(body, gap - shadow)
    surface = bodies(simplify(contour(grid, body.astype(np.float32)), SMOOTH_MM))[0]
    _check_walls(cuts, donor, slot)
    cutters = [
        box(
            f,
            [-half, -radius - wall, -0.5 * slot],
            [half, radius + wall + 2 * ABOVE_MM, 0.5 * slot],
        )
        for f in boxes
    ]
    wires = _wires(plan, z, radius + wall + ABOVE_MM)
    thick = 0.5 * evidence.value("SP-GRAFT-07", "wire")
    holes = [cylinder(a, b, thick, 32, donor.frame) for a, b in wires]
    surface = difference(surface, *cutters, *holes)
    parts = bodies(surface)
    if len(parts) > 1 and parts[1].volume_mm3 > 0.02 * parts[0].volume_mm3:
        raise PlanError(
            f"The saw guide falls apart into {len(parts)} pieces: its slots leave no wall between them. "
            "Use longer struts, or two guides."
        )
    return SawGuide(
        parts[0], tuple(cuts), z, slot, _clearance(parts[0], donor.surface), np.asarray(wires)
    )


def _radius(donor: Donor, low: float, high: float) -> float:
    """Largest distance of the bone's surface from its centreline between two stations."""
    v = donor.surface.vertices
    s = donor.stations_of(v)
    here = (s > low) & (s < high)
    return float(np.linalg.norm(v[here] - donor.centre(s[here]), axis=1).max())


def _grid(donor: Donor, axes: FloatArray, low: float, high: float, reach: float) -> VolumeGeometry:
    """Isotropic grid along the guide's own axes."""
    s = np.linspace(low, high, 60)
    local = donor.centre(s) @ axes
    bottom = np.array([local[:, 0].min() - 1.0, local[:, 1].min() - reach, local[:, 2].min() - 2.0])
    top = np.array([local[:, 0].max() + 1.0, local[:, 1].max() + reach, local[:, 2].max() + reach])
    n = np.ceil((top - bottom) / GRID_MM).astype(int) + 1
    return VolumeGeometry(
        (int(n[0]), int(n[1]), int(n[2])), np.full(3, GRID_MM), axes @ bottom, axes, donor.frame
    )


def _local(grid: VolumeGeometry, donor: Donor, axes: FloatArray) -> tuple[FloatArray, ...]:
    """Station, and distance sideways and outwards from the centreline, of every grid point."""
    start = grid.origin @ axes
    ticks = [start[k] + GRID_MM * np.arange(grid.shape[k]) for k in range(3)]
    station = ticks[0] - float(donor.origin @ donor.axis)
    middle = donor.centre(station) @ axes
    y = ticks[1][None, :, None] - middle[:, 1][:, None, None]
    z = ticks[2][None, None, :] - middle[:, 2][:, None, None]
    return (
        np.broadcast_to(station[:, None, None], grid.shape),
        np.broadcast_to(y, grid.shape),
        np.broadcast_to(z, grid.shape),
    )


def _meeting(cut: Plane, donor: Donor) -> FloatArray:
    """(3,) where a cut's plane meets the centreline."""
    near = donor.centre(float(donor.stations_of(cut.point[None])[0]))
    slope = float(cut.normal @ donor.axis)
    if abs(slope) < 0.1:
        raise PlanError("A cut runs along the fibula; no guide can lead it.")
    return np.asarray(near - float(cut.distance(near)) / slope * donor.axis)


def _slot_frame(cut: Plane, donor: Donor, z: FloatArray) -> AxisFrame:
    """Slot's axes at the bone's middle: across the bone, along the blade (outwards), along the normal."""
    blade = unit(z - float(z @ cut.normal) * cut.normal)
    axes = np.stack([np.cross(blade, cut.normal), blade, cut.normal], axis=1)
    return AxisFrame("slot", _meeting(cut, donor), axes, donor.frame)


def _relative(grid: VolumeGeometry, frame: AxisFrame) -> tuple[FloatArray, ...]:
    """Coordinates of every grid point in a slot's axes; three arrays of the grid's shape."""
    step = GRID_MM * (grid.direction.T @ frame.axes)
    start = (grid.origin - frame.origin) @ frame.axes
    i, j, k = (np.arange(n, dtype=np.float64) for n in grid.shape)
    return tuple(
        start[a]
        + (step[0, a] * i)[:, None, None]
        + (step[1, a] * j)[None, :, None]
        + (step[2, a] * k)[None, None, :]
        for a in range(3)
    )


def _check_walls(cuts: Sequence[Plane], donor: Donor, slot: float) -> None:
    at = sorted(donor.stations_of(np.array([_meeting(c, donor) for c in cuts])).tolist())
    least = min((b - a for a, b in pairwise(at)), default=np.inf)
    if least < slot + LEAST_WALL_MM:
        raise PlanError(
            f"Two cuts of the fibula lie {least:.1f} mm apart; a guide needs {slot + LEAST_WALL_MM:.1f} mm "
            "from slot to slot. Use longer folds."
        )


def _wires(plan: FibulaPlan, z: FloatArray, height: float) -> list[tuple[FloatArray, FloatArray]]:
    """Two K-wires into every segment, clear of the towers at its ends."""
    out = []
    for s in plan.segments:
        a, b = s.stations_mm
        for share in (0.3, 0.7):
            at = plan.donor.centre(a + share * (b - a))
            out.append((at - 2.0 * height * z, at + 2.0 * height * z))
    return out


def _clearance(guide: Surface, bone: Surface) -> float:
    """Least signed distance of the guide's vertices to the bone, mm."""
    import igl

    signed = igl.signed_distance(
        np.ascontiguousarray(guide.vertices), bone.vertices, bone.faces,
        igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER,
    )[0]  # fmt: skip
    return float(np.asarray(signed).min())
