"""Measures between landmarks against HANDBOOK 1.4: they may warn, never reject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.metrics import Metric, Metrics


@dataclass(frozen=True, slots=True)
class Measure:
    """A name under ``anatomy.``, what a reader calls it, its row and quantity, and its unit."""

    name: str
    label: str
    row: str
    quantity: str
    unit: str = "mm"


MEASURES: tuple[Measure, ...] = (
    Measure("asis_distance_mm", "Distance between the ASIS", "DIM-15", "value"),
    Measure("bi_iliac_breadth_mm", "Breadth of the iliac crests", "DIM-15", "breadth"),
    Measure("hip_centre_distance_mm", "Distance between the hip centres", "DIM-15", "hip_centres"),
    Measure("s1_endplate_depth_mm", "Depth of the S1 endplate", "DIM-14", "depth"),
    Measure("s1_endplate_width_mm", "Width of the S1 endplate", "DIM-14", "width"),
    Measure("sacrum_breadth_mm", "Breadth of the sacrum", "DIM-04", "breadth"),
    Measure("foramina_distance_s1_mm", "Between the S1 ventral foramina", "DIM-02", "S1"),
    Measure("foramina_distance_s2_mm", "Between the S2 ventral foramina", "DIM-02", "S2"),
    Measure("l5_height_anterior_mm", "Anterior height of L5", "DIM-10", "anterior"),
    Measure("l5_height_posterior_mm", "Posterior height of L5", "DIM-10", "posterior"),
    Measure("l5_length_superior_mm", "Length of L5's upper endplate", "DIM-10", "superior_length"),
    Measure("l5_length_inferior_mm", "Length of L5's lower endplate", "DIM-10", "inferior_length"),
    Measure("l5_width_inferior_mm", "Width of L5's lower endplate", "DIM-13", "value"),
    Measure("l5_pedicle_left_mm", "Narrowest diameter of L5's left pedicle", "DIM-11", "height"),
    Measure("l5_pedicle_right_mm", "Narrowest diameter of L5's right pedicle", "DIM-11", "height"),
    Measure("si_joint_area_left_cm2", "SI joint area, left", "DIM-16", "value", "cm2"),
    Measure("si_joint_area_right_cm2", "SI joint area, right", "DIM-16", "value", "cm2"),
)


def usual(measure: Measure) -> tuple[float, float]:
    """Usual range of a measure [SP-LMK-11]."""
    q = evidence.quantity(measure.row, measure.quantity)
    if q.lower is not None and q.upper is not None:
        return q.lower, q.upper
    mean = evidence.value(measure.row, measure.quantity)
    spread = mean * evidence.value("SP-LMK-11", "share") / 100.0 if q.sd is None else 2.0 * q.sd
    return mean - spread, mean + spread


def metrics(values: Mapping[str, float]) -> Metrics:
    """Figures of the known measures."""
    out: Metrics = {}
    for m in MEASURES:
        if m.name in values:
            low, high = usual(m)
            out[f"anatomy.{m.name}"] = Metric(
                values[m.name], m.unit, m.label, (m.row,), round(low, 6), round(high, 6)
            )
    return out


def doubts(values: Mapping[str, float]) -> tuple[Doubt, ...]:
    """One doubt that lists what lies clearly outside its usual range."""
    slack = evidence.value("SP-LMK-11", "slack") / 100.0
    odd, rows = [], ["SP-LMK-11"]
    for m in MEASURES:
        low, high = usual(m)
        if m.name in values and not low * (1.0 - slack) <= values[m.name] <= high * (1.0 + slack):
            odd.append(f"{m.label} {values[m.name]:.0f} {m.unit} (usually {low:.0f}-{high:.0f})")
            rows.append(m.row)
    if not odd:
        return ()
    return (
        Doubt(
            "anatomy",
            "anatomy.unusual_dimensions",
            f"Unusual dimensions: {'; '.join(odd)}. A small, large or dysplastic skeleton, or a wrong "
            "label or landmark: look at these on the images.",
            tuple(dict.fromkeys(rows)),
        ),
    )
