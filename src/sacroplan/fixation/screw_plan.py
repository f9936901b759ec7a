"""A planned screw with everything that was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.fixation.rules import Rule, rule_metrics
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.frames import FloatArray
from sacroplan.metrics import Metric, Metrics


def pedicle_row(level: str) -> str:
    """Evidence row of a level's pedicle screws; L2 has none in the handbook, only our assumption.

    The sacrum's are those of S1.
    """
    level = "S1" if level == "sacrum" else level
    return f"SP-PED-{level}" if level == "L2" else f"PED-{level}"


@dataclass(frozen=True, eq=False)
class ScrewPlan:
    """A planned screw with what speaks for and against it.

    Attributes
    ----------
    screw : the screw. grade : Gertzbein-Robbins A-E (pedicle) or 0-III (iliac, wing).
    breach_mm : thread outside the bone behind the entry zone. clearance_mm : least distance from thread to
        bone surface there (negative when breached). profile : (n, 2) mm from the entry, clearance.
    purchase_mm : length inside the bone. convergence_deg, sagittal_deg : medial convergence and
        cranial (+) or caudal (-) tilt in the level frame (wing screws: towards lateral and cranial in
        the pelvic frame).
    isthmus_width_mm, isthmus_height_mm : outer size of the pedicle across the screw; None for iliac.
    canal_mm : thread to the medial pedicle wall; None for iliac.
    anterior_mm : tip to the far cortex along the axis. depth_percent : tip's place between posterior
        wall and far cortex.
    mean_hu : in the screw's cylinder. safety : further distances by name (mm).
    runner_up : the best clearly different screw, and its clearance; runners : all that were kept.
    rules : what it is held to, each with its margin. angles_deg : in FRM-1 and FRM-3 by name.
    start_mm : clearance counts from here behind the entry. breach_at : (3,) the deepest breach.
    """

    screw: Screw
    grade: str
    breach_mm: float
    clearance_mm: float
    profile: FloatArray
    purchase_mm: float
    convergence_deg: float
    sagittal_deg: float
    isthmus_width_mm: float | None
    isthmus_height_mm: float | None
    canal_mm: float | None
    anterior_mm: float | None
    depth_percent: float | None
    mean_hu: float | None
    safety: dict[str, float]
    runner_up: Screw | None
    runner_up_clearance_mm: float | None
    doubts: tuple[Doubt, ...] = ()
    rules: tuple[Rule, ...] = ()
    angles_deg: Mapping[str, float] = field(default_factory=dict)
    start_mm: float = 0.0
    breach_at: FloatArray | None = None
    runners: tuple[Screw, ...] = ()

    def metrics(self) -> Metrics:
        """Figures under ``fixation.screw.<name>``."""
        s = self.screw
        base = f"fixation.screw.{s.name}"
        what = f"{s.name.replace('_', ' ')} screw"
        iliac = s.kind != "pedicle"
        size_row = "IL-03" if iliac else pedicle_row(s.level)
        grade_row = "GR-02" if iliac else "GR-01"
        cortex = evidence.value(*(("IL-05", "cortex") if iliac else ("PED-R1", "cortex")))
        cortex_row = "IL-05" if iliac else "PED-R1"
        out: Metrics = {
            f"{base}.diameter_mm": Metric(s.diameter_mm, "mm", f"{what}: diameter", (size_row,)),
            f"{base}.length_mm": Metric(s.length_mm, "mm", f"{what}: length", (size_row,)),
            f"{base}.grade": Metric(self.grade, "text", f"{what}: breach grade", (grade_row,)),
            f"{base}.breach_mm": Metric(
                self.breach_mm, "mm", f"{what}: breach", (grade_row,), None, 0.0
            ),
            f"{base}.clearance_mm": Metric(
                self.clearance_mm, "mm", f"{what}: least bone round the thread", (cortex_row,), cortex
            ),
            f"{base}.purchase_mm": Metric(self.purchase_mm, "mm", f"{what}: length in bone"),
            f"{base}.convergence_deg": Metric(
                self.convergence_deg, "deg",
                f"{what}: {'lateral angle' if iliac else 'axial convergence'}", (size_row,),
            ),
            f"{base}.sagittal_deg": Metric(
                self.sagittal_deg, "deg", f"{what}: sagittal angle (+ cranial)", (size_row,)
            ),
            f"{base}.mean_hu": Metric(self.mean_hu, "HU", f"{what}: mean HU along the thread"),
        }  # fmt: skip
        for name, value, label, row in (
            ("isthmus_width_mm", self.isthmus_width_mm, "pedicle isthmus width", "PED-R1"),
            ("isthmus_height_mm", self.isthmus_height_mm, "pedicle isthmus height", "PED-R1"),
            ("canal_mm", self.canal_mm, "thread to the medial pedicle wall", "PED-R1"),
            ("anterior_mm", self.anterior_mm, "tip to the far cortex", "PED-R2"),
        ):
            if value is not None:
                out[f"{base}.{name}"] = Metric(value, "mm", f"{what}: {label}", (row,))
        if self.depth_percent is not None:
            out[f"{base}.depth_percent"] = Metric(
                self.depth_percent, "%", f"{what}: tip depth in the body", ("PED-R2",), None,
                evidence.span("PED-R2", "depth")[1],
            )  # fmt: skip
        for name, value in self.safety.items():
            out[f"{base}.{name}"] = Metric(
                value, "mm", f"{what}: {name.removesuffix('_mm').replace('_', ' ')}", ("IL-05",)
            )
        out |= rule_metrics(f"{base}.rule", what, self.rules)
        for frame, name in ((f, n) for f in ("pelvis", "S1EP") for n in ("lateral", "caudal")):
            value = self.angles_deg.get(f"{frame}_{name}")
            if value is not None:
                row = "FRM-1" if frame == "pelvis" else "FRM-3"
                out[f"{base}.{frame}_{name}_deg"] = Metric(
                    value, "deg", f"{what}: {name} angle in {row}", ("S2-04",)
                )
        if self.runner_up_clearance_mm is not None:
            out[f"{base}.runner_up_clearance_mm"] = Metric(
                self.runner_up_clearance_mm, "mm", f"{what}: clearance of the runner-up"
            )
        return out
