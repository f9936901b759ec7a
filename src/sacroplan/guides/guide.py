"""A finished guide, its figures and the limits that it misses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.frames import FloatArray, Plane
from sacroplan.geometry.surface import Surface
from sacroplan.guides.cutline import CutLine
from sacroplan.guides.fit import Contact, Stability, weighted_percentile
from sacroplan.guides.request import GuideParameters, Side
from sacroplan.guides.rocking import Constraint
from sacroplan.guides.seat import GuideFrame
from sacroplan.guides.wires import KWire, angles_deg
from sacroplan.metrics import Metric, Metrics

OVERLAP_MM3 = 1.0


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
    overrun_mm: tuple[float, float] | None = None

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
                f"Blade below the platform that just parts the bone, {end} place",
            )  # fmt: skip
        if self.overrun_mm is not None:
            words = (
                f"Teeth beyond the bone when a blade of {p.blade_length_mm:g} mm stands on its stop"
            )
            least, most = self.overrun_mm
            out["slot.overrun_least"] = Metric(
                least, "mm", f"{words}, where they come least far", ("SP-GDE-08",),
                *evidence.span("SP-GDE-08", "overrun"),
            )  # fmt: skip
            out["slot.overrun_most"] = Metric(most, "mm", f"{words}, most", ("SP-GDE-08",))
        out["wires.screws_missed"] = Metric(
            self.screws_missed, "count", "planned screws that the K-wires miss", ("SP-GDE-05",)
        )
        for axis, size in zip(("along", "across", "height"), self.bounds_mm, strict=True):
            out[f"body.size_{axis}"] = Metric(float(size), "mm", f"size {axis}")
        return {f"guide.{self.key}.{name}": metric for name, metric in out.items()}


def doubts_of(guide: Guide) -> list[Doubt]:
    """Limits that a guide misses; they are project defaults, so they warn."""
    said = {
        "fit.planes": "guide.fit.planes",
        "fit.patches_off": "guide.fit.not_unique",
        "fit.footprint_along": "guide.fit.short",
        "fit.lift_overlap": "guide.fit.undercut",
        "slot.width": "guide.slot.width",
        "slot.height": "guide.slot.height",
        "slot.overrun_least": "guide.slot.stop",
        "wires.count": "guide.wires.count",
        "removal.approach_angle": "guide.approach",
        "fit.constraint": "guide.fit.rocks",
    }
    out = []
    metrics = guide.metrics()
    for name, code in said.items():
        m = metrics.get(f"guide.{guide.key}.{name}")
        if m is not None and m.within is False:
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
