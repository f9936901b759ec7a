"""The specified design envelope of the patient-matched implant (IMDRF N49): what may vary, how far, and why.

Every parameter has a range with its evidence. Outside it a design is *marked*; it is *refused* only
where the range rests on a source that may reject (HANDBOOK 0.1, rule 2), or where geometry itself ends:
beyond a physical bound there is nothing to build.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.implant.model import ImplantParameters
from sacroplan.metrics import Metric, Metrics

Verdict = Literal["within", "marked", "refused"]


@dataclass(frozen=True)
class Bound:
    """Where a parameter's range comes from.

    Attributes
    ----------
    name : field of :class:`ImplantParameters`. label : what a reader calls it. unit : of the value.
    row, quantity : evidence of the range. possible : physical bounds, beyond which nothing is built.
    why : what happens beyond the physical bounds.
    steps : the only sizes there are, where the range is not continuous.
    """

    name: str
    label: str
    unit: str
    row: str
    quantity: str
    possible: tuple[float, float] | None = None
    why: str = ""
    steps: tuple[float, ...] = ()


BOUNDS: tuple[Bound, ...] = (
    Bound("wing_depth_mm", "Wing, front to back", "mm", "SP-IMP-03", "wing_depth", (4.0, 40.0),
          "the wing is thinner than its screws' holes or deeper than the pelvis leaves room"),
    Bound("wing_height_mm", "Wing, up and down", "mm", "SP-IMP-03", "wing_height", (6.0, 60.0),
          "the wing is thinner than its screws' holes or taller than the cut face"),
    Bound("wing_drop_mm", "Endplate to the middle of the wings", "mm", "SP-IMP-03", "wing_drop"),
    Bound("wing_setback_mm", "Setback of the wings", "mm", "SP-IMP-03", "wing_setback"),
    Bound("body_taper_mm", "Taper of the block", "mm", "SP-IMP-03", "body_taper"),
    Bound("fillet_mm", "Blend between block and wings", "mm", "SP-IMP-03", "fillet"),
    Bound("window_width_mm", "Window, width", "mm", "SP-IMP-03", "window_width"),
    Bound("window_height_mm", "Window, height", "mm", "SP-IMP-03", "window_height"),
    Bound("window_roof_mm", "Endplate to the window", "mm", "SP-IMP-03", "window_roof"),
    Bound("inset_mm", "Seat within the bone's outline", "mm", "SP-IMP-04", "inset"),
    Bound("corner_radius_mm", "Corners of a seat", "mm", "SP-IMP-04", "corner_radius"),
    Bound("edge_break_mm", "Edge radius of a seat", "mm", "SP-IMP-04", "edge_break"),
    Bound("reach_above_l5_mm", "Seats above the endplate", "mm", "SP-IMP-04", "reach_above_l5"),
    Bound("endplate_gap_mm", "Gap to the endplate", "mm", "SP-IMP-04", "endplate_gap", (0.0, 5.0),
          "the implant no longer meets the vertebra"),
    Bound("bone_clearance_mm", "Clearance to bone", "mm", "SP-IMP-04", "bone_clearance"),
    Bound("notch_clearance_mm", "Seat above the sciatic notch", "mm", "SP-IMP-11", "notch"),
    Bound("porous_mm", "Porous layer", "mm", "POR-4", "thickness", (0.3, 12.0),
          "the layer is thinner than one strut or takes the place of the core"),
    Bound("porosity_percent", "Porosity of the layer", "%", "POR-3", "porosity", (40.0, 90.0),
          "a network lattice is closed below and falls apart above"),
    Bound("core_porosity_percent", "Porosity of the layer at the core", "%", "POR-3", "porosity",
          (40.0, 90.0), "a network lattice is closed below and falls apart above"),
    Bound("cell_mm", "Unit cell of the lattice", "mm", "SP-IMP-09", "cell", (0.3, 6.0),
          "no printer resolves the cell or no cell fits the layer"),
    Bound("hole_clearance_mm", "Screw hole over screw", "mm", "AM-12", "clearance", (0.0, 3.0),
          "the head falls through its hole"),
    Bound("hole_wall_mm", "Solid round a screw hole", "mm", "AM-12", "wall"),
    Bound("tool_diameter_mm", "Driver's way behind a screw", "mm", "AM-12", "tool_diameter"),
    Bound("screws_per_side", "Iliac screws a side", "count", "SP-IMP-05", "count_per_side"),
    Bound("screw_diameter_mm", "Iliac screw", "mm", "SP-IMP-05", "diameter", (3.0, 14.0),
          "no such screw exists or the wing cannot hold it"),
    Bound("screw_length_mm", "Iliac screw in bone", "mm", "SP-IMP-05", "length"),
    Bound("wing_thickness_mm", "Wing under a screw's head", "mm", "SP-IMP-05", "wing_thickness"),
    Bound("rod_diameter_mm", "Rod", "mm", "ROD-1", "value", (3.0, 8.0),
          "no such rod exists", (5.5, 6.0, 6.35)),
    Bound("suture_diameter_mm", "Suture hole", "mm", "AM-13", "diameter", (0.5, 6.0),
          "a needle does not pass or the hole is no suture hole"),
    Bound("lordosis_change_deg", "Lordosis added to the patient's own", "deg", "SP-IMP-17", "lordosis",
          (-20.0, 20.0), "the block's roof stands too steep under the vertebra to carry it"),
    Bound("height_change_mm", "Height added to the patient's own", "mm", "SP-IMP-17", "height",
          (-10.0, 15.0), "the vertebra meets the pelvis or its nerves are torn"),
    Bound("hollow_wall_mm", "Wall of a hollowed core", "mm", "SP-IMP-13", "wall", (0.8, 40.0),
          "the shell is below a structural wall"),
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One parameter of a design against its range; ``words`` says what is wrong, if anything is."""

    bound: Bound
    value: float
    lower: float | None
    upper: float | None
    flag: str
    verdict: Verdict
    words: str = ""

    @property
    def range_words(self) -> str:
        """``10 to 22 mm`` as the table prints it."""
        unit = "" if self.bound.unit == "count" else f" {self.bound.unit}"
        if self.bound.steps:
            return " or ".join(f"{s:g}" for s in self.bound.steps) + unit
        if self.lower is None and self.upper is None:
            return "not bounded"
        if self.lower is None:
            return f"up to {self.upper:g}{unit}"
        if self.upper is None:
            return f"at least {self.lower:g}{unit}"
        return f"{self.lower:g} to {self.upper:g}{unit}"


@dataclass(frozen=True)
class DesignEnvelope:
    """All parameters of one design with their ranges, evidence and verdicts."""

    design: str
    entries: tuple[Entry, ...]

    @property
    def refused(self) -> tuple[Entry, ...]:
        """Entries for which the design is refused."""
        return tuple(e for e in self.entries if e.verdict == "refused")

    @property
    def marked(self) -> tuple[Entry, ...]:
        """Entries outside a range that may only warn."""
        return tuple(e for e in self.entries if e.verdict == "marked")

    def require(self) -> DesignEnvelope:
        """Self, or a :class:`PlanError` that names every parameter for which the design is refused."""
        if self.refused:
            words = " ".join(e.words for e in self.refused)
            raise PlanError(f"The design lies outside its envelope: {words}")
        return self

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """One doubt per marked parameter."""
        return tuple(
            Doubt("implant", f"implant.outside_envelope.{e.bound.name}", e.words, (e.bound.row,))
            for e in self.marked
        )

    def metrics(self) -> Metrics:
        """Figures under ``implant.design_envelope``."""
        return {
            f"implant.design_envelope.{e.bound.name}": Metric(
                e.value, e.bound.unit, e.bound.label, (e.bound.row,), e.lower, e.upper
            )
            for e in self.entries
        }

    def table(self) -> tuple[tuple[str, ...], ...]:
        """Rows parameter, value, allowed, evidence, verdict, for the dossier."""
        return tuple(
            (
                e.bound.label,
                f"{e.value:g}" + ("" if e.bound.unit == "count" else f" {e.bound.unit}"),
                e.range_words,
                f"{e.bound.row} [{e.flag}]",
                e.verdict,
            )
            for e in self.entries
        )


def _entry(bound: Bound, value: float) -> Entry:
    row = evidence.get(bound.row)
    q = evidence.quantity(bound.row, bound.quantity)
    rejects = row.may_reject and q.flag in evidence.REJECTING_FLAGS
    lower, upper = q.lower, q.upper
    off = (lower is not None and value < lower - 1e-9) or (
        upper is not None and value > upper + 1e-9
    )
    if bound.steps:
        off = all(abs(value - s) > 1e-6 for s in bound.steps)
    plain = Entry(bound, value, lower, upper, q.flag, "within")
    unit = "" if bound.unit == "count" else f" {bound.unit}"
    name = f"{bound.label[0].lower()}{bound.label[1:]} ({bound.name}) = {value:g}{unit}"
    if bound.possible is not None and not bound.possible[0] <= value <= bound.possible[1]:
        words = (
            f"{name} is not possible: {bound.why}; choose {bound.possible[0]:g} to "
            f"{bound.possible[1]:g}{unit}, the evidence speaks for {plain.range_words} [{bound.row}]."
        )
        return Entry(bound, value, lower, upper, q.flag, "refused", words[0].upper() + words[1:])
    if not off:
        return plain
    words = f"{name} lies outside {plain.range_words} [{bound.row}, {q.flag}]."
    verdict: Verdict = "refused" if rejects else "marked"
    return Entry(bound, value, lower, upper, q.flag, verdict, words[0].upper() + words[1:])


def envelope_of(
    parameters: ImplantParameters, design: str = "total", bounds: Sequence[Bound] = BOUNDS
) -> DesignEnvelope:
    """The envelope of ``parameters``; nothing is raised, see :meth:`DesignEnvelope.require`.

    A parameter that is not set (None) has no entry.
    """
    values = ((b, getattr(parameters, b.name)) for b in bounds)
    return DesignEnvelope(design, tuple(_entry(b, float(v)) for b, v in values if v is not None))
