"""Spinopelvic parameters in the sagittal plane (HANDBOOK 1.3), degrees.

A CT is taken lying down: pelvic incidence is a property of the bone, but slope, tilt and
lordosis hold for the supine pose only and are labelled so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.anatomy.landmarks import Landmarks
from sacroplan.errors import Doubt
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.metrics import Metric, Metrics


@dataclass(frozen=True)
class Spinopelvic:
    """Angles in degrees; None where a landmark is missing.

    Attributes
    ----------
    pi, pt, ss : pelvic incidence, supine pelvic tilt (+ with the hips anterior to S1), supine sacral
        slope. ``pi == pt + ss``.
    lordosis : name to angle, positive for lordosis: ``L1S1``, ``L4S1`` (superior endplates), ``L5S1``,
        ``L4L5`` ... (segment: superior endplate to the next superior endplate).
    disc : wedge of the disc, inferior endplate to the next superior endplate, e.g. ``L5S1``.
    """

    pi: float | None
    pt: float | None
    ss: float | None
    lordosis: dict[str, float]
    disc: dict[str, float]
    doubts: tuple[Doubt, ...] = ()

    def metrics(self) -> Metrics:
        """Figures under ``anatomy.spinopelvic``."""
        out: Metrics = {}
        for name, value, label, row, key in (
            ("pi_deg", self.pi, "Pelvic incidence", "SAG-PI", "pi"),
            ("pt_supine_deg", self.pt, "Pelvic tilt (supine CT)", "SAG-PT", "pt"),
            ("ss_supine_deg", self.ss, "Sacral slope (supine CT)", "SAG-SS", "ss"),
        ):
            low, high = evidence.span("SAG-N1", key) if key == "pi" else (None, None)
            out[f"anatomy.spinopelvic.{name}"] = Metric(
                value, "deg", label, (row, "SAG-N1"), low, high
            )
        for name, angle in self.lordosis.items():
            row = "SAG-LL" if name == "L1S1" else "SAG-N6"
            out[f"anatomy.spinopelvic.lordosis_{name}_supine_deg"] = Metric(
                angle, "deg", f"Lordosis {name[:2]}-{name[2:]} (supine CT)", (row,)
            )
        for name, angle in self.disc.items():
            out[f"anatomy.spinopelvic.disc_{name}_supine_deg"] = Metric(
                angle, "deg", f"Disc angle {name[:2]}-{name[2:]} (supine CT)", ("SAG-N6",)
            )
        return out


def _turn(first: FloatArray, second: FloatArray, right: FloatArray) -> float:
    """Signed angle (degrees) from ``first`` to ``second`` about ``right``, both in the sagittal plane."""
    return float(np.degrees(np.arctan2(np.cross(first, second) @ right, first @ second)))


def spinopelvic(landmarks: Landmarks, up: npt.ArrayLike | None = None) -> Spinopelvic:
    """Angles from ``landmarks``; ``up`` (3,) LPS is the patient's long axis on the table, cranial.

    Without ``up`` it is the canonical grid's k axis: a table has no gravity line, so "vertical"
    means cranial along the table. Projections are onto the plane across the hip axis (bicoxofemoral line), or
    across the pelvic frame's z where a hip centre is missing.
    """
    p, frames = landmarks.points, landmarks.frames
    doubts: list[Doubt] = []
    if "HJC_L" in p and "HJC_R" in p:
        right = unit(p["HJC_R"] - p["HJC_L"])
    elif "pelvis" in frames:
        right = frames["pelvis"].axes[:, 2]
    else:
        return Spinopelvic(None, None, None, {}, {}, ())

    def sagittal(v: npt.ArrayLike) -> FloatArray:
        w = np.asarray(v, dtype=np.float64)
        return unit(w - (w @ right) * right)

    vertical = sagittal(landmarks.table_up if up is None else up)
    pi = pt = ss = None
    if "S1EP" in frames and "HJC_L" in p and "HJC_R" in p:
        s1 = frames["S1EP"]
        hips = 0.5 * (p["HJC_L"] + p["HJC_R"])
        down = sagittal(hips - s1.origin)
        normal = sagittal(s1.axes[:, 1])
        # Turning about the rightward axis takes cranial to posterior: forward tilts are negative.
        ss = -_turn(vertical, normal, right)
        pt = _turn(-vertical, down, right)
        pi = _turn(-normal, down, right)
    else:
        doubts.append(
            Doubt(
                "anatomy",
                "anatomy.no_pelvic_incidence",
                "Pelvic incidence needs the S1 endplate and both hip centres; one of them is missing.",
                ("SAG-PI",),
            )
        )
    chain = [v for v in ("L1", "L2", "L3", "L4", "L5") if f"{v}SEP" in frames]
    tops = {v: frames[f"{v}SEP"].axes[:, 1] for v in chain}
    if "S1EP" in frames:
        tops["S1"] = frames["S1EP"].axes[:, 1]
    order = ["L1", "L2", "L3", "L4", "L5", "S1"]
    pairs = list(pairwise(order)) + [("L1", "S1"), ("L4", "S1")]
    lordosis = {
        a + b: -_turn(sagittal(tops[a]), sagittal(tops[b]), right)
        for a, b in pairs
        if a in tops and b in tops
    }
    disc = {
        a + b: -_turn(sagittal(frames[f"{a}IEP"].axes[:, 1]), sagittal(tops[b]), right)
        for a, b in pairwise(order)
        if f"{a}IEP" in frames and b in tops
    }
    out = Spinopelvic(pi, pt, ss, lordosis, disc, tuple(doubts))
    return replace(out, doubts=(*doubts, *norms(out)))


def theoretical_lordosis(pi: float) -> float:
    """Lordosis L1-S1 that goes with a pelvic incidence in healthy adults, standing [SAG-N5]."""
    for limit in (38, 48, 58, 68, 78):
        if pi < limit:
            return pi + evidence.value("SAG-N5", f"below_{limit}")
    return pi + evidence.value("SAG-N5", "above")


def norms(s: Spinopelvic) -> tuple[Doubt, ...]:
    """Comparison with healthy adults: warnings only, and the caveat of a CT taken lying."""
    out: list[Doubt] = []
    if s.pi is not None:
        low, high = evidence.span("SAG-N1", "pi")
        flat, steep = evidence.span("SAG-N4")
        if not low <= s.pi <= high:
            out.append(
                Doubt(
                    "anatomy",
                    "anatomy.pelvic_incidence",
                    f"Pelvic incidence comes out at {s.pi:.0f} deg (asymptomatic adults {low:g}-{high:g} "
                    "deg): check the S1 endplate and the hip centres.",
                    ("SAG-N1",),
                )
            )
        elif not flat <= s.pi <= steep:
            kind = "low" if s.pi < flat else "high"
            out.append(
                Doubt(
                    "anatomy",
                    "anatomy.pelvic_incidence_class",
                    f"Pelvic incidence is {kind} ({s.pi:.0f} deg, cut-offs {flat:g} and {steep:g} deg): "
                    f"a {'flat' if s.pi < flat else 'steep'} lordosis goes with it, about "
                    f"{theoretical_lordosis(s.pi):.0f} deg standing; plan the implant's facing plate "
                    "for it.",
                    ("SAG-N4", "SAG-N5"),
                )
            )
    if s.pt is not None and s.ss is not None:
        odd = []
        for name, value, key in (("PT", s.pt, "pt"), ("SS", s.ss, "ss")):
            low, high = evidence.span("SAG-N1", key)
            if not low <= value <= high:
                odd.append(f"{name} is outside the {low:g}-{high:g} deg of standing adults")
        out.append(
            Doubt(
                "anatomy",
                "anatomy.supine_pose",
                f"PT {s.pt:.0f} deg and SS {s.ss:.0f} deg hold for the patient lying on the CT table; "
                "standing values need a standing radiograph"
                + (f" ({'; '.join(odd)})." if odd else "."),
                ("SAG-PT", "SAG-SS", "SAG-N1"),
            )
        )
    odd, rows = [], []
    for name, angle in s.lordosis.items():
        if name in evidence.get("SAG-N6").quantities:
            q = evidence.quantity("SAG-N6", name)
            assert q.value is not None
            assert q.sd is not None
            if abs(angle - q.value) > 2.0 * q.sd:
                odd.append(
                    f"{name[:2]}-{name[2:]} {angle:.0f} deg (usually {q.value:g} +- {q.sd:g})"
                )
                rows.append("SAG-N6")
    if s.pi is not None and "L1S1" in s.lordosis:
        apart, most = s.pi - s.lordosis["L1S1"], evidence.quantity("SAG-N7").upper
        assert most is not None
        if abs(apart) > most:
            odd.append(f"PI - LL {apart:.0f} deg (aim of deformity surgery within {most:g})")
            rows.append("SAG-N7")
    if odd:
        out.append(
            Doubt(
                "anatomy",
                "anatomy.lordosis",
                f"Unusual lordosis, lying: {'; '.join(odd)}. Check the endplates on the images.",
                tuple(dict.fromkeys(rows)),
            )
        )
    return tuple(out)
