"""What a guide is made for and its dimensions, with what is refused at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, unit
from sacroplan.geometry.slicing import CrossSection
from sacroplan.geometry.surface import Surface
from sacroplan.guides.seat import Gaps

Side = Literal["left", "right"]


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
    def cut_words(self) -> str:
        """The cut's name in a sentence."""
        return f"{self.name.replace('_', ' ')} cut" if self.name else "iliac cut"

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
    and both ends. With ``blade_length_mm`` (shoulder to teeth) the platform is the saw's depth stop.
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
    enclosed_mm: float = _row("SP-GDE-05", "enclosed")
    wires_apart_mm: float = _row("SP-GDE-05", "apart")
    hole_width_mm: float = _row("SP-GDE-09", "hole_width")
    hole_depth_mm: float = _row("SP-GDE-09", "hole_depth")
    pit_width_mm: float = _row("SP-GDE-09", "pit_width")
    pit_depth_mm: float = _row("SP-GDE-09", "pit_depth")
    bridge_mm: float = _row("SP-GDE-06", "bridge")
    fillet_mm: float = _row("SP-GDE-06", "fillet")
    letter_mm: float = _row("GDE-10", "letter_height")
    mark_depth_mm: float = _row("SP-GDE-06", "mark_depth")
    mark_stroke_mm: float = _row("SP-GDE-06", "mark_stroke")
    walls: int = 3
    blade_length_mm: float | None = None
    overrun_mm: float = _row("SP-GDE-08", "overrun")
    blade_width_mm: float = _row("SP-GDE-08", "blade_width")
    rise_mm: float = _row("SP-GDE-08", "rise")

    @property
    def gaps(self) -> Gaps:
        """Holes and pits that the guide spans."""
        return Gaps(self.hole_width_mm, self.hole_depth_mm, self.pit_width_mm, self.pit_depth_mm)

    @property
    def sleeve_mm(self) -> float:
        """Outer radius of a K-wire's sleeve."""
        return 0.5 * (self.wire_mm + self.wire_clearance_mm) + self.sleeve_wall_mm

    @property
    def lobe_mm(self) -> float:
        """Radius of the footprint round a K-wire."""
        return 0.5 * self.wire_mm + self.wire_clearance_mm + self.sleeve_wall_mm + 2.0


def check(inp: GuideInput, p: GuideParameters) -> None:
    """Refuse in one sentence what no guide can be made for."""
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
