"""What goes into an implant and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane
from sacroplan.geometry.surface import Surface
from sacroplan.implant.lattice import LatticeDefinition
from sacroplan.metrics import Metrics

Side = Literal["left", "right"]
PlannedScrew = tuple[str, npt.ArrayLike, npt.ArrayLike, float]
"""Name, entry (3,), tip (3,) in LPS mm, diameter in mm."""


@dataclass(frozen=True, eq=False)
class WingSeat:
    """Where a wing sits: the remnant's cut face.

    ``plane`` is the face itself (the planned cut moved by half the kerf into the remnant, GDE-05), its
    normal away from the remnant into the defect. ``hip`` is the closed remnant that carries the face.
    """

    side: Side
    plane: Plane
    hip: Surface


@dataclass(frozen=True, eq=False)
class ImplantInput:
    """The defect, LPS mm, everything in one frame.

    Attributes
    ----------
    axes : pelvic frame (FRM-1), origin midway between the hip centres, x anterior, y cranial, z right.
    l5 : closed surface of L5. l5_endplate : its inferior endplate (FRM-4), origin at its centre,
        y along the cranial normal, x anterior.
    seats : one per side, in any order.
    specimen : resected bone, for mass and envelope; None where unknown.
    keep_clear : closed surfaces that the implant must not touch (other bones, placed screws).
    wing_screws : planned iliac screws; empty asks for a proposal.
    rod_targets : side to the head of the L5 pedicle screw (3,), so that posts line up with the rods.
    """

    axes: AxisFrame
    l5: Surface
    l5_endplate: AxisFrame
    seats: tuple[WingSeat, WingSeat]
    specimen: Surface | None = None
    keep_clear: tuple[Surface, ...] = ()
    wing_screws: tuple[PlannedScrew, ...] = ()
    rod_targets: Mapping[Side, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sorted(seat.side for seat in self.seats) != ["left", "right"]:
            raise PlanError(
                f"A two-wing implant needs one left and one right seat, not "
                f"{[seat.side for seat in self.seats]}."
            )

    def seat(self, side: Side) -> WingSeat:
        """The seat of one side."""
        return next(seat for seat in self.seats if seat.side == side)


def _value(row: str, name: str) -> float:
    return field(default_factory=lambda: evidence.value(row, name))


@dataclass(frozen=True)
class ImplantParameters:
    """Dimensions of the two-wing implant; the defaults are evidence rows. mm unless named otherwise."""

    wing_depth_mm: float = _value("SP-IMP-03", "wing_depth")
    wing_height_mm: float = _value("SP-IMP-03", "wing_height")
    wing_drop_mm: float = _value("SP-IMP-03", "wing_drop")
    wing_setback_mm: float = _value("SP-IMP-03", "wing_setback")
    body_taper_mm: float = _value("SP-IMP-03", "body_taper")
    window_width_mm: float = _value("SP-IMP-03", "window_width")
    window_height_mm: float = _value("SP-IMP-03", "window_height")
    window_roof_mm: float = _value("SP-IMP-03", "window_roof")
    fillet_mm: float = _value("SP-IMP-03", "fillet")
    inset_mm: float = _value("SP-IMP-04", "inset")
    corner_radius_mm: float = _value("SP-IMP-04", "corner_radius")
    edge_break_mm: float = _value("SP-IMP-04", "edge_break")
    reach_above_l5_mm: float = _value("SP-IMP-04", "reach_above_l5")
    endplate_gap_mm: float = _value("SP-IMP-04", "endplate_gap")
    bone_clearance_mm: float = _value("SP-IMP-04", "bone_clearance")
    porous_mm: float = _value("POR-4", "thickness")
    porosity_percent: float = _value("POR-1", "porosity")
    cell_mm: float = _value("SP-IMP-09", "cell")
    hole_clearance_mm: float = _value("AM-12", "clearance")
    hole_wall_mm: float = _value("AM-12", "wall")
    tool_diameter_mm: float = _value("AM-12", "tool_diameter")
    screws_per_side: int = field(
        default_factory=lambda: int(evidence.value("SP-IMP-05", "count_per_side"))
    )
    screw_diameter_mm: float = _value("SP-IMP-05", "diameter")
    screw_length_mm: float = _value("SP-IMP-05", "length")
    wing_thickness_mm: float = _value("SP-IMP-05", "wing_thickness")
    rod_diameter_mm: float = _value("SP-IMP-06", "rod_diameter")
    suture_diameter_mm: float = _value("AM-13", "diameter")
    grid_mm: float = 0.7
    """Sampling of the body's field: edges of 3 mm and more come out within 0.05 mm."""
    simplify_mm: float = 0.03
    """Largest move of the body's surface when triangles are merged."""

    def __post_init__(self) -> None:
        lengths = {k: v for k, v in vars(self).items() if k.endswith("_mm")}
        for name, number in lengths.items():
            if not 0.0 <= number < 200.0:
                raise PlanError(
                    f"Implant parameter {name} = {number!r} mm is not between 0 and 200."
                )
        for name in ("wing_depth_mm", "wing_height_mm", "grid_mm", "porous_mm", "cell_mm"):
            if lengths[name] <= 0.0:
                raise PlanError(f"Implant parameter {name} must be more than 0 mm.")


@dataclass(frozen=True, eq=False)
class WingScrew:
    """An iliac screw through a wing: under-head point, entry into bone, tip (3,) LPS mm."""

    name: str
    side: Side
    head: FloatArray
    bone_entry: FloatArray
    tip: FloatArray
    diameter_mm: float
    hole_diameter_mm: float
    proposed: bool

    @property
    def direction(self) -> FloatArray:
        """(3,) unit vector from head to tip."""
        d = self.tip - self.head
        return d / float((d @ d) ** 0.5)


@dataclass(frozen=True, eq=False)
class RodPost:
    """An open saddle for a rod: rod centre (3,), rod direction towards cranial (3,), opening (3,)."""

    name: str
    side: Side
    centre: FloatArray
    axis: FloatArray
    opening: FloatArray
    diameter: float


@dataclass(frozen=True, eq=False)
class SutureHole:
    """A rounded hole: middle (3,), direction (3,), width and depth."""

    centre: FloatArray
    axis: FloatArray
    diameter_mm: float
    depth_mm: float


@dataclass(frozen=True, eq=False)
class Implant:
    """The implant in LPS mm: solid core, porous layers that share their bond faces with it, and holes.

    ``porous`` and ``lattice`` have the keys ``L5``, ``wing_left`` and ``wing_right``.
    """

    core: Surface
    porous: dict[str, Surface]
    lattice: dict[str, LatticeDefinition]
    wing_screws: tuple[WingScrew, ...]
    posts: tuple[RodPost, ...]
    suture_holes: tuple[SutureHole, ...]
    doubts: tuple[Doubt, ...]
    figures: Metrics

    def metrics(self) -> Metrics:
        """Figures under ``implant.*``."""
        return dict(self.figures)
