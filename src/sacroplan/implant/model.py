"""What goes into an implant and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, Rigid
from sacroplan.geometry.surface import Surface
from sacroplan.implant.lattice import LatticeDefinition
from sacroplan.metrics import Metrics

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
Design = Literal["total", "hemi_left", "hemi_right", "self_stabilising"]
"""``total`` and ``self_stabilising`` have two wings; a hemisacral implant one wing and a sacral seat."""

DESIGNS: tuple[Design, ...] = ("total", "hemi_left", "hemi_right", "self_stabilising")

PlannedScrew = tuple[str, npt.ArrayLike, npt.ArrayLike, float]
"""Name, entry (3,), tip (3,) in LPS mm, diameter in mm."""


def sign_of(side: Side) -> float:
    """+1 on the right, where z of the pelvic frame is positive, -1 on the left."""
    return 1.0 if side == "right" else -1.0


@dataclass(frozen=True, eq=False)
class WingSeat:
    """Where a wing sits: the remnant's cut face, or the joint face of an ilium that was not cut.

    ``plane`` is the face itself (the planned cut moved by half the kerf into the remnant, GDE-05), its
    normal away from the remnant into the defect. ``hip`` is the closed remnant that carries the face.
    ``patch`` (n, 3) are points of the joint's face on the ilium where the joint was taken apart: the
    wing then follows that face, and ``plane`` is the one that fits it. None for a cut face.
    """

    side: Side
    plane: Plane
    hip: Surface
    patch: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class FlatSeat:
    """A second flat face that carries the implant: ``sacrum`` or ``L5_side`` after a sagittal cut.

    ``plane`` as in :class:`WingSeat`; ``bone`` is the closed remnant.
    """

    name: str
    plane: Plane
    bone: Surface


@dataclass(frozen=True, eq=False)
class ImplantInput:
    """The defect, LPS mm, everything in one frame.

    Attributes
    ----------
    axes : pelvic frame (FRM-1), origin midway between the hip centres, x anterior, y cranial, z right.
    l5 : closed surface of the vertebra that is carried: L5, or L4 where L5 is resected.
    l5_endplate : its inferior endplate (FRM-4), origin at its centre, y along the cranial normal,
        x anterior.
    seats : one per wing, in any order: two, or the one of a hemisacral implant's side.
    specimen : resected bone, for mass and envelope; None where unknown.
    keep_clear : closed surfaces that the implant must not touch (other bones, placed screws).
    wing_screws : planned iliac screws; empty asks for a proposal.
    rod_targets : side to the head of the lowest pedicle screw (3,), so that posts line up with the rods.
    design : which body is built. level : name of the vertebra that is carried.
    flats : seats beside the wing of a hemisacral implant: ``sacrum``, and ``L5_side`` where half of L5
        stays.
    nerves : name to closed surface of dura and roots that stay; kept clear by SP-IMP-11.
    notches : side to the apex of the greater sciatic notch (3,).
    sockets : side to centre (3,) and radius (mm) of the hip's ball.
    hub : endplate frame from which the wings' middle is measured, L5's where L5 is resected; else
        ``l5_endplate``.
    s1_endplate : S1's superior endplate before the resection, and
    upper_endplate : the carried vertebra's own superior endplate, for the lordosis; None where unknown.
    """

    axes: AxisFrame
    l5: Surface
    l5_endplate: AxisFrame
    seats: tuple[WingSeat, ...]
    specimen: Surface | None = None
    keep_clear: tuple[Surface, ...] = ()
    wing_screws: tuple[PlannedScrew, ...] = ()
    rod_targets: Mapping[Side, FloatArray] = field(default_factory=dict)
    design: Design = "total"
    level: str = "L5"
    flats: tuple[FlatSeat, ...] = ()
    nerves: Mapping[str, Surface] = field(default_factory=dict)
    notches: Mapping[Side, FloatArray] = field(default_factory=dict)
    sockets: Mapping[Side, tuple[FloatArray, float]] = field(default_factory=dict)
    hub: AxisFrame | None = None
    s1_endplate: AxisFrame | None = None
    upper_endplate: AxisFrame | None = None

    def __post_init__(self) -> None:
        if self.design not in DESIGNS:
            raise PlanError(
                f"There is no implant design {self.design!r}; there are {', '.join(DESIGNS)}."
            )
        sides = sorted(seat.side for seat in self.seats)
        if self.hemi_side is None and sides != ["left", "right"]:
            raise PlanError(f"A two-wing implant needs one left and one right seat, not {sides}.")
        if self.hemi_side is not None:
            if sides != [self.hemi_side]:
                raise PlanError(
                    f"A hemisacral implant on the {self.hemi_side} needs one seat on the "
                    f"{self.hemi_side} ilium, not {sides}."
                )
            if "sacrum" not in [f.name for f in self.flats]:
                raise PlanError(
                    "A hemisacral implant needs the cut face of the sacral remnant among its flat "
                    "seats, named 'sacrum'."
                )

    @property
    def hemi_side(self) -> Side | None:
        """Side of a hemisacral implant, None of a two-wing one."""
        if self.design == "hemi_left":
            return "left"
        return "right" if self.design == "hemi_right" else None

    def seat(self, side: Side) -> WingSeat:
        """The seat of one side."""
        for seat in self.seats:
            if seat.side == side:
                return seat
        raise PlanError(f"The implant has no seat on the {side}.")


def _value(row: str, name: str) -> float:
    return field(default_factory=lambda: evidence.value(row, name))


@dataclass(frozen=True)
class ImplantParameters:
    """Dimensions of the implant; the defaults are evidence rows. mm unless named otherwise."""

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
    core_porosity_percent: float | None = None
    """Porosity of the layer at the core; the layer is then graded from ``porosity_percent`` at the bone."""
    cell_type: str = "gyroid_network"
    """One of :data:`sacroplan.lattice.cells.CELLS`."""
    printer_minimum_mm: float | None = None
    """Thinnest strut or wall of the user's own machine, where it is thicker than AM-02-THIN's."""
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
    notch_clearance_mm: float = _value("SP-IMP-11", "notch")
    hollow_wall_mm: float = _value("SP-IMP-13", "wall")
    mass_ratio: float = _value("SP-IMP-13", "mass_ratio")
    """Most that the implant may weigh over the bone it replaces before it is hollowed; 0: never."""
    suture_diameter_mm: float = _value("AM-13", "diameter")
    lordosis_change_deg: float = _value("SP-IMP-17", "lordosis")
    """How much lordosis the implant adds under the carried vertebra to the patient's own."""
    height_change_mm: float = _value("SP-IMP-17", "height")
    """How much higher than its own place the carried vertebra stands."""
    grid_mm: float = 0.7
    """Sampling of the body's field: edges of 3 mm and more come out within 0.05 mm."""
    simplify_mm: float = 0.03
    """Largest move of the body's surface when triangles are merged."""

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        lengths = {k: v for k, v in given.items() if k.endswith("_mm") and k != "height_change_mm"}
        shares = {k: v for k, v in given.items() if k.endswith("porosity_percent")}
        for name, number in (*lengths.items(), *shares.items()):
            if not 0.0 <= number < 200.0:
                raise PlanError(f"Implant parameter {name} = {number!r} is not between 0 and 200.")
        for name in ("wing_depth_mm", "wing_height_mm", "grid_mm", "porous_mm", "cell_mm"):
            if lengths[name] <= 0.0:
                raise PlanError(f"Implant parameter {name} must be more than 0 mm.")


@dataclass(frozen=True, eq=False)
class WingScrew:
    """A screw through the implant: under-head point, entry into bone, tip (3,) LPS mm.

    ``level`` is the bone it holds in: ``ilium``, or the vertebra for a screw through the block.
    """

    name: str
    side: Side
    head: FloatArray
    bone_entry: FloatArray
    tip: FloatArray
    diameter_mm: float
    hole_diameter_mm: float
    proposed: bool
    level: str = "ilium"

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

    ``porous`` and ``lattice`` have one key per seat: ``L5`` (or ``L4``), ``wing_left``,
    ``wing_right``, ``sacrum``, ``L5_side``, as far as the design has them.

    Attributes
    ----------
    design : see :data:`Design`. envelope : rows parameter, value, allowed, evidence, verdict.
    virtual_s1 : the implant's cranial face as S1's endplate: origin at its centre, y cranial, x anterior.
    pose : how the carried vertebra and all above it move from the CT's pose; None where they do not.
    """

    core: Surface
    porous: dict[str, Surface]
    lattice: dict[str, LatticeDefinition]
    wing_screws: tuple[WingScrew, ...]
    posts: tuple[RodPost, ...]
    suture_holes: tuple[SutureHole, ...]
    doubts: tuple[Doubt, ...]
    figures: Metrics
    design: str = "total"
    envelope: tuple[tuple[str, ...], ...] = ()
    virtual_s1: AxisFrame | None = None
    pose: Rigid | None = None

    def carried(self, surface: Surface) -> Surface:
        """A bone or screw of the spine above, LPS, where the implant carries it."""
        return surface if self.pose is None else surface.transformed(self.pose)

    def metrics(self) -> Metrics:
        """Figures under ``implant.*``."""
        return dict(self.figures)
