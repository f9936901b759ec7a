"""HU to QCT density without a phantom, from the peaks of air, fat and muscle. CAL-01 to CAL-03."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import Volume

SMOOTHING_HU = 6.0
"""Histogram smoothing: below the noise of a soft-kernel CT, above its digitisation."""

PROMINENCE = 1.10
"""A tissue peak must stand this far above the valley between fat and muscle."""

AIR_SHARE = 0.002
"""Least share of voxels around the air peak; less is bowel gas or padding."""

MISFIT_MG = 40.0
"""Largest distance of a tissue from the calibration line, mg/cm3: half the way from fat to water."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """``density [mg/cm3] = slope HU + offset`` and where it comes from.

    ``peaks_hu`` are the histogram peaks of air, fat and muscle (the nominal ones when assumed).
    """

    slope: float
    offset: float
    method: Literal["air-fat-muscle", "assumed"]
    peaks_hu: tuple[float, float, float]
    doubts: tuple[Doubt, ...]

    def qct(self, hu: FloatArray) -> FloatArray:
        """QCT density in g/cm3 (not clipped) of HU; HU above the cap count as the cap (CAL-09)."""
        return (
            self.slope * np.minimum(hu, evidence.value("CAL-09", "hu_cap")) + self.offset
        ) / 1000.0


def _line(peaks: tuple[float, float, float]) -> tuple[float, float, float]:
    target = np.array([evidence.value("CAL-01", t) for t in ("air", "adipose", "muscle")])
    slope, offset = np.polyfit(np.array(peaks), target, 1)
    misfit = float(np.abs(slope * np.array(peaks) + offset - target).max())
    return float(slope), float(offset), misfit


def nominal() -> tuple[float, float, float]:
    """HU of air, fat and muscle in a well-set scanner (HU-03, middle of HU-04)."""
    fat, muscle = evidence.span("HU-04", "fat"), evidence.span("HU-04", "muscle")
    return evidence.value("HU-03", "air"), sum(fat) / 2.0, sum(muscle) / 2.0


def _peaks(volume: Volume) -> tuple[float, float, float] | str:
    from scipy.ndimage import gaussian_filter1d

    low, high = -1150, 250
    values = np.clip(np.rint(volume.data), low, high).astype(np.int64).ravel()
    counts = np.bincount(values - low, minlength=high - low + 1).astype(np.float64)
    counts[0] = counts[-1] = 0.0
    # Padding outside the reconstruction circle is one exact value at the very bottom.
    floor = int(values.min())
    if floor <= -1020:
        counts[floor - low] = 0.0
    smooth = gaussian_filter1d(counts, SMOOTHING_HU)
    hu = np.arange(low, high + 1)

    def top(start: int, stop: int) -> int:
        return start + int(smooth[start - low : stop - low + 1].argmax())

    air = top(-1060, -850)
    around = counts[np.abs(hu - air) <= 40].sum()
    if around < AIR_SHARE * len(values):
        return "no air peak"
    fat, muscle = top(-150, -40), top(0, 110)
    valley = float(smooth[fat - low : muscle - low + 1].min())
    for name, peak in (("fat", fat), ("muscle", muscle)):
        if smooth[peak - low] < PROMINENCE * valley or smooth[peak - low] <= 0:
            return f"no {name} peak"
        if peak in (-150, -40, 0, 110):
            return f"no {name} peak within its range"
    return float(air), float(fat), float(muscle)


def calibrate(volume: Volume) -> Calibration:
    """Air-fat-muscle calibration of a CT, or the nominal line with a doubt when peaks are missing."""
    found = _peaks(volume)
    why = found if isinstance(found, str) else ""
    if not isinstance(found, str):
        slope, offset, misfit = _line(found)
        s, o = evidence.span("SP-MECH-09", "slope"), evidence.span("SP-MECH-09", "offset")
        if s[0] <= slope <= s[1] and o[0] <= offset <= o[1] and misfit <= MISFIT_MG:
            return Calibration(slope, offset, "air-fat-muscle", found, ())
        why = f"peaks at {found[0]:.0f}, {found[1]:.0f} and {found[2]:.0f} HU give an implausible line"
    slope, offset, _ = _line(nominal())
    doubt = Doubt(
        "mechanics",
        "mechanics.calibration_assumed",
        f"The CT could not be calibrated on air, fat and muscle ({why}); nominal HU were assumed, "
        "which is known to bias bone stiffness.",
        ("CAL-01", "CAL-03"),
    )
    return Calibration(slope, offset, "assumed", nominal(), (doubt,))
