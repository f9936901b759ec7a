"""HU to QCT density: inserts of a phantom, the patient's own air, fat and muscle, or a fixed line.

Densities are in mg/cm3 here, as scanners' phantoms state them; only :meth:`Calibration.qct` gives the
g/cm3 that the bone laws expect. CAL-01 to CAL-09.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, ImagingError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import LabelMap, Volume
from sacroplan.imaging.blocks import block_any, block_mean, block_steps
from sacroplan.metrics import Metric, Metrics

Method = Literal["air-fat-muscle", "phantom", "fixed", "assumed"]
"""``assumed`` cannot be chosen: it is the nominal line of a CT that could not be calibrated."""

Material = Literal["K2HPO4", "CaHA"]

BLOCK_MM = 3.0
"""Histograms are taken of block means: a thirtieth of the voxels and a fifth of the noise; fat under
the skin and muscles are many times thicker."""

FINE_MM = 2.0
"""Blocks in which vessels and metal are looked for: an iliac artery is four of them wide."""

CLIPPED = 0.4
"""Share of air at the scanner's lowest value above which its peak is no longer air's."""

LOW_HU, HIGH_HU = -1100, 250
"""Range of the histogram: below is no tissue and no air, above is no soft tissue."""

SMOOTHING_HU = 6.0
"""Histogram smoothing: below the width of a tissue's peak, above its digitisation."""

PROMINENCE = 1.10
"""A tissue peak must stand this far above the valley between fat and muscle."""

AIR_HU = (-1060, -850)
"""Where the peak of air is looked for; a scanner further off is no scanner."""

GAS_HU = -600.0
"""Darker than any tissue, brighter than foam: what is passable from the image's corners."""

AIR_SHARE = 0.002
"""Least share of the image that air around the patient takes; less is chance."""

AIR_SLICES = 0.5
"""Share of the slices in which that air must be: gas in the bowel is nowhere near."""

SPIKE = 20.0
"""One exact value this many times as frequent as its neighbours is fill or clipping, no tissue: the
narrowest tissue peak seen (noise of 2 HU) reaches 12."""

SPIKE_SHARE = 0.002
"""Least share of the image for a spike."""

RODS_CORE = 0.5
"""Voxels this part of a voxel diagonal inside an insert's edge are not blurred by what is around."""

FEWEST_VOXELS = 20
"""Fewer voxels inside an insert are no measurement."""


@dataclass(frozen=True, slots=True)
class Insert:
    """A rod or insert of a density phantom, in LPS mm.

    ``start`` and ``end`` are the ends of a rod's axis; equal ends make a ball.
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius_mm: float
    density_mg_cm3: float


@dataclass(frozen=True, slots=True)
class Reference:
    """One point of the line: what it is, its density, its HU and its distance from the line."""

    name: str
    density_mg_cm3: float
    hu: float
    residual_mg_cm3: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """``density [mg/cm3] = slope HU + offset`` and where it comes from.

    Attributes
    ----------
    slope, offset : QCT density in mg/cm3 per HU, and in mg/cm3.
    method : see :data:`Method`.
    peaks_hu : histogram peaks of air, fat and muscle (nominal when assumed), else empty.
    doubts : reservations about every density from it.
    references : the measured points and their residuals; none for a fixed line.
    kvp : tube voltage for which a fixed line was measured, None otherwise.
    """

    slope: float
    offset: float
    method: Method
    peaks_hu: tuple[float, ...]
    doubts: tuple[Doubt, ...]
    references: tuple[Reference, ...] = ()
    kvp: float | None = None

    @property
    def residual_mg_cm3(self) -> float | None:
        """Largest distance of a measured point from the line; None where nothing was measured."""
        return max((abs(r.residual_mg_cm3) for r in self.references), default=None)

    def qct(self, hu: FloatArray) -> FloatArray:
        """QCT density in g/cm3 (not clipped) of HU; HU above the cap count as the cap (CAL-09)."""
        return (
            self.slope * np.minimum(hu, evidence.value("CAL-09", "hu_cap")) + self.offset
        ) / 1000.0

    def metrics(self) -> Metrics:
        """Figures under ``imaging.calibration``."""
        slope = evidence.span("SP-CAL-01", "slope")
        offset = evidence.span("SP-CAL-01", "offset")
        out: Metrics = {
            "method": Metric(self.method, "text", "Density calibration", ("CAL-01", "CAL-03")),
            "slope": Metric(
                self.slope, "1", "Density per HU, mg/cm3", ("CAL-01", "SP-CAL-01"), *slope
            ),
            "offset_mg_cm3": Metric(
                self.offset, "mg/cm3", "Density at 0 HU", ("CAL-01", "SP-CAL-01"), *offset
            ),
            "residual_mg_cm3": Metric(
                self.residual_mg_cm3,
                "mg/cm3",
                "Largest distance of a measured density from the line",
                ("SP-CAL-02",),
                None,
                evidence.value("SP-CAL-02", "residual"),
            ),
        }
        for r in self.references:
            out[f"reference.{r.name}_hu"] = Metric(
                r.hu, "HU", f"HU of {r.name.replace('_', ' ')} ({r.density_mg_cm3:g} mg/cm3)"
            )
        return {f"imaging.calibration.{k}": v for k, v in out.items()}


def nominal() -> tuple[float, float, float]:
    """HU of air, fat and muscle in a well-set scanner (HU-03, middle of HU-04)."""
    fat, muscle = evidence.span("HU-04", "fat"), evidence.span("HU-04", "muscle")
    return evidence.value("HU-03", "air"), sum(fat) / 2.0, sum(muscle) / 2.0


def calibrate(volume: Volume) -> Calibration:
    """Air-fat-muscle calibration of a CT, or the nominal line with a doubt when it has none.

    Nothing was asked for, so nothing is refused; what is assumed says so in its method and its doubt.
    """
    found = _tissue_line(volume)
    if not isinstance(found, str):
        return found
    slope, offset, _ = _line(nominal())
    doubt = _doubt(
        "assumed",
        f"DENSITY NOT CALIBRATED: the CT could not be calibrated on air, fat and muscle ({found}); "
        "a fixed line through nominal HU was assumed, which is known to bias bone stiffness. Read "
        "every mechanical figure as a comparison only, or give [calibration] in case.toml.",
        "CAL-01",
        "CAL-03",
    )
    return Calibration(slope, offset, "assumed", nominal(), (doubt,))


def from_tissues(volume: Volume) -> Calibration:
    """Air-fat-muscle calibration asked for by name; raises ImagingError when the CT has none."""
    found = _tissue_line(volume)
    if isinstance(found, str):
        raise ImagingError(
            f"The CT cannot be calibrated on air, fat and muscle: {found}. Use a CT that shows the "
            "skin and air beside it, or method 'phantom' or 'fixed' under [calibration]."
        )
    return found


def fixed(slope: float, offset: float, kvp: float, scan_kvp: float | None) -> Calibration:
    """A line measured on another day for this scanner; always with a doubt (CAL-03).

    ``kvp`` is the tube voltage it was measured at, ``scan_kvp`` the CT's, where known.
    """
    doubts = [
        _doubt(
            "fixed",
            f"A fixed density calibration was asked for ({slope:g} mg/cm3 per HU, {offset:g} mg/cm3): "
            "it is not this patient's, and fixed lines are known to differ from a phantom in the scan.",
            "CAL-03",
        )
    ]
    if scan_kvp is None:
        doubts.append(
            _doubt(
                "kvp_unknown",
                f"The CT does not tell its tube voltage; the fixed calibration holds at {kvp:g} kV "
                "only.",
                "CT-03",
            )
        )
    elif abs(scan_kvp - kvp) > 0.5:
        doubts.append(
            _doubt(
                "kvp",
                f"The fixed calibration was measured at {kvp:g} kV, the CT at {scan_kvp:g} kV: "
                "density shifts by about 10 %.",
                "CT-03",
            )
        )
    doubts += _implausible(slope, offset)
    return Calibration(slope, offset, "fixed", (), tuple(doubts), (), kvp)


def from_phantom(volume: Volume, inserts: tuple[Insert, ...], material: Material) -> Calibration:
    """Line through the inserts of a phantom that lies in the CT.

    Densities of CaHA inserts are turned into QCT density so that both lead to the same ash density
    (CAL-06, CAL-08).

    Raises
    ------
    ImagingError : fewer than three inserts, too alike, outside the CT, too small, or one that does
        not fit the others.
    """
    fewest, apart = (
        int(evidence.value("SP-CAL-03", "inserts")),
        evidence.value("SP-CAL-03", "range"),
    )
    densities = [i.density_mg_cm3 for i in inserts]
    if len(inserts) < fewest or max(densities) - min(densities) < apart:
        raise ImagingError(
            f"A phantom calibration needs at least {fewest} inserts that differ by {apart:g} mg/cm3; "
            f"given are {len(inserts)} ({', '.join(f'{d:g}' for d in densities)} mg/cm3)."
        )
    measured = [_measure(volume, insert, n) for n, insert in enumerate(inserts, start=1)]
    hu = np.array(measured)
    given = np.array(densities)
    if float(np.ptp(hu)) < 1.0:
        raise ImagingError(
            f"All phantom inserts measure {hu[0]:.0f} HU; their places are wrong. Points are LPS mm."
        )
    slope, offset = np.polyfit(hu, given, 1)
    residual = slope * hu + offset - given
    worst = int(np.abs(residual).argmax())
    limit = evidence.value("SP-CAL-02", "residual")
    if abs(residual[worst]) > limit or slope <= 0:
        raise ImagingError(
            f"Phantom insert {worst + 1} ({given[worst]:g} mg/cm3) measures {hu[worst]:.0f} HU, which "
            f"lies {abs(residual[worst]):.0f} mg/cm3 off the line through all inserts; at most "
            f"{limit:g} is expected. Check its place, radius and density."
        )
    # The laws take QCT density: another phantom's line is turned into it.
    scale, shift = _to_qct(material)
    slope, offset = float(scale * slope), float(scale * offset + shift)
    points = tuple(
        Reference(f"insert_{n + 1}", float(given[n]), float(hu[n]), float(residual[n]))
        for n in range(len(inserts))
    )
    return Calibration(slope, offset, "phantom", (), tuple(_implausible(slope, offset)), points)


def _doubt(code: str, message: str, *rows: str) -> Doubt:
    return Doubt("mechanics", f"mechanics.calibration_{code}", message, rows)


def _to_qct(material: Material) -> tuple[float, float]:
    """Scale and shift (mg/cm3) from a phantom's density to QCT density."""
    if material == "K2HPO4":
        return 1.0, 0.0
    a, b = evidence.value("CAL-06", "slope"), evidence.value("CAL-06", "offset")
    c, d = evidence.value("CAL-08", "slope"), evidence.value("CAL-08", "offset")
    return c / a, 1000.0 * (d - b) / a


def _implausible(slope: float, offset: float) -> list[Doubt]:
    s, o = evidence.span("SP-CAL-01", "slope"), evidence.span("SP-CAL-01", "offset")
    if s[0] <= slope <= s[1] and o[0] <= offset <= o[1]:
        return []
    return [
        _doubt(
            "implausible",
            f"The density calibration reads {slope:.3g} mg/cm3 per HU and {offset:.3g} mg/cm3 at 0 HU; "
            f"{s[0]:g} to {s[1]:g} and {o[0]:g} to {o[1]:g} are usual.",
            "SP-CAL-01",
        )
    ]


def _measure(volume: Volume, insert: Insert, number: int) -> float:
    """Median HU inside an insert, clear of its edge."""
    g = volume.geometry
    a, b = np.array(insert.start), np.array(insert.end)
    reach = insert.radius_mm - RODS_CORE * float(np.linalg.norm(g.spacing_mm))
    at = f"Phantom insert {number} at LPS ({a[0]:g}, {a[1]:g}, {a[2]:g}) mm"
    corners = np.stack([a, b])
    box = g.to_index(corners)
    pad = insert.radius_mm / g.spacing_mm
    if np.any(box < -0.5) or np.any(box > np.array(g.shape) - 0.5):
        raise ImagingError(f"{at} lies outside the CT ({g.describe()}). Points are LPS mm.")
    low = np.maximum(np.floor(box.min(axis=0) - pad).astype(int), 0)
    high = np.minimum(np.ceil(box.max(axis=0) + pad).astype(int) + 1, g.shape)
    count = high - low
    points = g.to_world(np.indices(tuple(count)).reshape(3, -1).T + low)
    axis = b - a
    length = float(axis @ axis)
    # A rod ends flat: beyond its ends is what holds it.
    t = np.zeros(len(points)) if length == 0 else (points - a) @ axis / length
    foot = a + np.clip(t, 0.0, 1.0)[:, None] * axis
    inside = (np.linalg.norm(points - foot, axis=1) <= reach) & (t >= 0.0) & (t <= 1.0)
    if np.count_nonzero(inside) < FEWEST_VOXELS:
        raise ImagingError(
            f"{at} holds only {np.count_nonzero(inside)} voxels clear of its edge, at least "
            f"{FEWEST_VOXELS} are needed; give the whole rod's length and its true radius."
        )
    block = volume.data[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return float(np.median(block.reshape(-1)[inside]))


def _line(peaks: tuple[float, float, float]) -> tuple[float, float, FloatArray]:
    target = np.array([evidence.value("CAL-01", t) for t in ("air", "adipose", "muscle")])
    slope, offset = np.polyfit(np.array(peaks), target, 1)
    return float(slope), float(offset), np.asarray(slope * np.array(peaks) + offset - target)


def _tissue_line(volume: Volume) -> Calibration | str:
    """The air-fat-muscle line, or why there is none."""
    peaks = _peaks(volume)
    if isinstance(peaks, str):
        return peaks
    slope, offset, residual = _line(peaks)
    misfit = float(np.abs(residual).max())
    limit = evidence.value("SP-CAL-02", "residual")
    if _implausible(slope, offset) or misfit > limit:
        return (
            f"peaks at {peaks[0]:.0f}, {peaks[1]:.0f} and {peaks[2]:.0f} HU give {slope:.3f} mg/cm3 per "
            f"HU, {offset:.0f} mg/cm3 at 0 HU and a misfit of {misfit:.0f} mg/cm3, which is implausible"
        )
    names = ("air", "adipose", "muscle")
    points = tuple(
        Reference(n, evidence.value("CAL-01", n), p, float(r))
        for n, p, r in zip(names, peaks, residual, strict=True)
    )
    return Calibration(slope, offset, "air-fat-muscle", peaks, (), points)


def _spikes(data: npt.NDArray[np.generic]) -> list[int]:
    """Exact values that so many voxels share that they are fill or clipping."""
    low, high = -4096, 1000
    values = np.clip(np.rint(data[::2, ::2, ::2]), low, high).astype(np.int64).ravel()
    counts = np.bincount(values - low, minlength=high - low + 1).astype(np.float64)
    width = 24
    around = np.convolve(counts, np.ones(2 * width + 1), "same") - counts
    level = around / (2.0 * width)
    spike = (counts > SPIKE * level) & (counts > SPIKE_SHARE * len(values))
    # The ends of the range collect everything beyond.
    spike[[0, -1]] = False
    return [int(v) + low for v in np.flatnonzero(spike)]


def _peaks(volume: Volume) -> tuple[float, float, float] | str:
    """HU of air around the patient, fat and muscle; or why one is missing."""
    from scipy import ndimage

    data = volume.data
    steps = block_steps(volume.geometry, BLOCK_MM)
    mean = block_mean(data, steps)
    fill = np.zeros(mean.shape, dtype=np.float32)
    for value in _spikes(data):
        fill += block_mean(data == value, steps)
    # Fill is solid; values that the scanner clipped lie scattered in air and are measured.
    cube = np.ones((3, 3, 3), dtype=bool)
    solid = ndimage.binary_opening(np.pad(fill > 0.99, 1, mode="edge"), cube)[1:-1, 1:-1, 1:-1]
    hidden = ndimage.binary_dilation(solid, cube) | block_any(data < LOW_HU, steps)
    # Fill around a round field of view is as passable as air, but is not air. A body leaves the corners
    # of its image free, while gas in a bowel that the border cuts hardly ever meets one.
    label, _ = ndimage.label((mean < GAS_HU) | hidden)
    reached = np.unique(label[:: label.shape[0] - 1, :: label.shape[1] - 1])
    outside = np.isin(label, reached[reached > 0])
    deep = ndimage.binary_erosion(outside, border_value=1) & ~hidden
    in_slices = float(deep.any(axis=(0, 1)).mean())
    if np.count_nonzero(deep) < AIR_SHARE * deep.size or in_slices < AIR_SLICES:
        return "no air around the patient is in the image"
    if float(fill[deep].mean()) > CLIPPED:
        return f"air is clipped at {float(data.min()):.0f} HU"
    air = _mode(mean[deep], *AIR_HU)
    if air is None:
        return "no air peak"
    hu = np.arange(LOW_HU, HIGH_HU + 1)
    smooth = _histogram(mean[~outside & ~hidden])
    tops = {}
    for name, low, high in (("fat", -150, -40), ("muscle", 0, 110)):
        tops[name] = low + int(smooth[low - LOW_HU : high - LOW_HU + 1].argmax())
        if tops[name] in (low, high):
            return f"no {name} peak within {low} to {high} HU"
    fat, muscle = tops["fat"], tops["muscle"]
    valley = float(smooth[(hu >= fat) & (hu <= muscle)].min())
    for name, peak in tops.items():
        level = float(smooth[peak - LOW_HU])
        if level <= 0.0 or level < PROMINENCE * valley:
            return f"no {name} peak"
    return air, float(fat), float(muscle)


def _histogram(values: npt.NDArray[np.float32]) -> FloatArray:
    from scipy.ndimage import gaussian_filter1d

    kept = values[(values > LOW_HU) & (values < HIGH_HU)]
    bins = np.rint(kept).astype(np.int64) - LOW_HU
    counts = np.bincount(bins, minlength=HIGH_HU - LOW_HU + 1).astype(np.float64)
    return np.asarray(gaussian_filter1d(counts, SMOOTHING_HU))


def _mode(values: npt.NDArray[np.float32], low: int, high: int) -> float | None:
    smooth = _histogram(values)[low - LOW_HU : high - LOW_HU + 1]
    top = int(smooth.argmax())
    if smooth[top] <= 0.0 or top in (0, len(smooth) - 1):
        return None
    return float(low + top)


def density_doubts(volume: Volume, labels: LabelMap, contrast: str = "") -> tuple[Doubt, ...]:
    """What makes densities of these bones wrong whatever the calibration: contrast and metal.

    Parameters
    ----------
    contrast : the agent named in the CT's header, empty where none is.
    """
    steps = block_steps(volume.geometry, FINE_MM)
    size = volume.geometry.spacing_mm * steps
    bones = {
        name: block_any(labels.data == number, steps)
        for number, name in sorted(labels.names.items())
        if name != "tumour"
    }
    return (
        *_contrast_doubts(volume, steps, size, bones, contrast),
        *_metal_doubts(volume, steps, size, bones),
    )


def _contrast_doubts(
    volume: Volume,
    steps: npt.NDArray[np.int32],
    size: FloatArray,
    bones: dict[str, npt.NDArray[np.bool_]],
    contrast: str,
) -> list[Doubt]:
    vessels = bright_vessels_cm3(block_mean(volume.data, steps), size, bones)
    named = bool(contrast) and contrast.strip().upper() not in ("NO", "NONE", "N")
    low, high = evidence.span("HU-04", "blood_enhanced")
    least = evidence.value("SP-CAL-04", "volume")
    if not named and vessels < least:
        return []
    seen = f"{vessels:.0f} cm3 of blood at {low:g} to {high:g} HU were found"
    how = f"the header names {contrast.strip()}" if named else "the header names none"
    if named and vessels < least:
        seen = "no bright vessels were found"
    return [
        _doubt(
            "contrast",
            f"Contrast agent in the CT ({how}; {seen}): marrow reads too dense and bone too stiff.",
            "CAL-05",
            "HU-04",
        )
    ]


def bright_vessels_cm3(
    mean: npt.NDArray[np.float32], size: FloatArray, bones: dict[str, npt.NDArray[np.bool_]]
) -> float:
    """Volume of thick, even structures as bright as enhanced blood, clear of bone.

    ``mean`` holds block means of ``size`` (3,) mm; marrow is as bright, but lies in a shell of cortex.
    """
    from scipy import ndimage

    low, high = evidence.span("HU-04", "blood_enhanced")
    near = np.zeros(mean.shape, dtype=bool)
    for mask in bones.values():
        near |= mask
    clear = ndimage.distance_transform_edt(~near, sampling=size) > evidence.value(
        "SP-CAL-04", "clear"
    )
    # Cortex surrounds marrow even of a bone that nobody labelled.
    dense = mean > 1.2 * high
    away = ndimage.distance_transform_edt(~dense, sampling=size) > evidence.value(
        "SP-CAL-04", "cortex"
    )
    spread = ndimage.generic_gradient_magnitude(mean, ndimage.sobel) / 32.0
    even = spread < evidence.value("SP-CAL-04", "gradient")
    bright = (mean > low) & (mean < high) & clear & away & even
    label, count = ndimage.label(bright)
    if count == 0:
        return 0.0
    volume = np.bincount(label.ravel())[1:] * float(np.prod(size)) / 1000.0
    # Specks of noise and calcification add up to nothing.
    return float(volume[volume >= evidence.value("SP-CAL-04", "piece")].sum())


def _metal_doubts(
    volume: Volume,
    steps: npt.NDArray[np.int32],
    size: FloatArray,
    bones: dict[str, npt.NDArray[np.bool_]],
) -> list[Doubt]:
    from scipy import ndimage

    threshold = evidence.value("CT-09", "threshold")
    bright = volume.data > threshold
    if not bright.any():
        return []
    if np.count_nonzero(bright) * volume.geometry.voxel_volume_mm3 < evidence.value(
        "SP-IMG-03", "volume"
    ):
        return []
    reach = evidence.value("SP-CAL-05", "reach")
    distance = ndimage.distance_transform_edt(~block_any(bright, steps), sampling=size)
    shares = {
        name: float((distance[mask] <= reach).mean()) for name, mask in bones.items() if mask.any()
    }
    touched = {n: s for n, s in shares.items() if s > evidence.value("SP-CAL-05", "share") / 100.0}
    if not touched:
        return []
    words = ", ".join(f"{n.replace('_', ' ')} {100 * s:.0f} %" for n, s in sorted(touched.items()))
    return [
        _doubt(
            "metal",
            f"Metal (above {threshold:g} HU) lies within {reach:g} mm of bone ({words} of its volume): "
            "streaks make density and stiffness there invalid.",
            "CT-09",
            "SP-CAL-05",
        )
    ]
