"""Flaps: from where their vessels come, how far they reach, what they bring against what is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sacroplan import evidence
from sacroplan.errors import EvidenceError
from sacroplan.geometry.frames import FloatArray
from sacroplan.softtissue.deadspace import DeadSpace

Verdict = Literal["yes", "with luck", "no", "unknown"]

Span = tuple[float, float]


@dataclass(frozen=True, eq=False)
class FlapView:
    """One flap against one wound.

    Attributes
    ----------
    flap : road of the rule table, side included. row : evidence row of its size.
    origin : (3,) where its vessels leave the trunk, None where that landmark is missing or off the CT.
    needed_mm : from there to the part of the dead space under the skin. reach_mm : shortest and longest
        length of its vessels and tissue.
    area_cm2, volume_cm3 : least and most it brings, None where no source tells.
    """

    flap: str
    title: str
    row: str
    origin: FloatArray | None
    needed_mm: float | None
    reach_mm: Span | None
    area_cm2: Span | None
    volume_cm3: Span | None
    area_needed_cm2: float
    volume_needed_cm3: float

    @property
    def reaches(self) -> Verdict:
        """Whether it reaches: surely (even a short one does), with luck (a long one does), or not."""
        return _verdict(self.needed_mm, self.reach_mm)

    @property
    def covers(self) -> Verdict:
        """Whether its area covers the wound's outline."""
        return _verdict(self.area_needed_cm2, self.area_cm2)

    @property
    def fills(self) -> Verdict:
        """Whether its volume fills the dead space."""
        return _verdict(self.volume_needed_cm3, self.volume_cm3)


def _verdict(needed: float | None, supply: Span | None) -> Verdict:
    if needed is None or supply is None:
        return "unknown"
    if needed <= supply[0]:
        return "yes"
    return "with luck" if needed <= supply[1] else "no"


def _span(row: str, name: str) -> Span:
    q = evidence.quantity(row, name)
    low = q.lower if q.lower is not None else q.value
    high = q.upper if q.upper is not None else q.value
    if low is None or high is None:
        raise EvidenceError(f"Evidence {row}.{name} has neither a value nor a complete range.")
    return low, high


def _area(row: str) -> Span:
    """Least and most area (cm2) of a flap by its width and length."""
    (a, b), (c, d) = _span(row, "width"), _span(row, "length")
    return 0.01 * a * c, 0.01 * b * d


def origins(points: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Where the flaps' vessels come from, by landmarks of the pelvis.

    The gluteal arteries leave by the greater sciatic notch; the deep inferior epigastric artery lies at
    the middle of the inguinal ligament (ASIS to pubic tubercle, or to the symphysis where it is
    missing); the lateral circumflex femoral artery near the hip joint. A free flap is joined to the
    gluteal stump.
    """
    out: dict[str, FloatArray] = {}
    for side in ("left", "right"):
        s = side[0].upper()
        if f"GSN_{s}" in points:
            out[f"gluteal_{side}"] = np.asarray(points[f"GSN_{s}"])
            out.setdefault("latissimus", np.asarray(points[f"GSN_{s}"]))
        tubercle = points.get(f"PT_{s}", points.get("PS"))
        if f"ASIS_{s}" in points and tubercle is not None:
            out[f"vram_{side}"] = 0.5 * (np.asarray(points[f"ASIS_{s}"]) + np.asarray(tubercle))
        if f"HJC_{s}" in points:
            out.setdefault("thigh", np.asarray(points[f"HJC_{s}"]))
    return out


def flap_table(
    space: DeadSpace, points: Mapping[str, FloatArray], amputation: bool | None = None
) -> tuple[FlapView, ...]:
    """Every flap of HANDBOOK 10.2 against this dead space."""
    at = origins(points)
    need_area, need_volume = space.area_mm2 / 100.0, space.volume_mm3 / 1000.0

    def view(
        flap: str, title: str, row: str, reach: Span | None, area: Span | None,
        volume: Span | None = None,
    ) -> FlapView:  # fmt: skip
        origin = at.get(flap)
        needed = None if origin is None else float(np.linalg.norm(space.farthest - origin))
        return FlapView(
            flap, title, row, origin, needed, reach, area, volume, need_area, need_volume
        )

    rectus = _span("SOFT-4", "length")
    dorsi = tuple(np.add(_span("FLP-LD", "pedicle"), _span("FLP-LD", "length")).tolist())
    thigh = tuple(np.add(_span("FLP-ALT", "pedicle"), _span("FLP-ALT", "length")).tolist())
    out = [
        view(f"gluteal_{s}", f"Gluteus maximus, {s}", "FLP-GLU", None, _span("FLP-GLU", "area"))
        for s in ("left", "right")
    ]
    out += [
        view(f"vram_{s}", f"Vertical rectus abdominis, {s}", "FLP-VRAM", rectus, _area("SOFT-4"))
        for s in ("left", "right")
    ]
    out += [
        view("latissimus", "Free latissimus dorsi", "FLP-LD", (dorsi[0], dorsi[1]), _area("FLP-LD")),
        view(
            "thigh", "Anterolateral thigh", "FLP-ALT", (thigh[0], thigh[1]), _area("FLP-ALT"),
            _span("FLP-ALT", "volume"),
        ),
        view("omentum", "Omentum", "FLP-OM", _span("FLP-OM", "length"), _area("FLP-OM")),
        view("vram_fibula", "VRAM with a free fibula", "FLP-FFV", rectus, _area("SOFT-4")),
    ]  # fmt: skip
    if amputation is not False:
        out.append(view("fillet", "Fillet of the leg", "FLP-FIL", None, None))
    return tuple(out)
