"""Is this CT good enough to plan on? Findings and doubts, never a silent pass (HANDBOOK 2.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, ImagingError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import Volume
from sacroplan.metrics import Metric, Metrics

FACES = ("right", "left", "anterior", "posterior", "inferior", "superior")
"""Faces of a canonical volume: low and high end of i, j, k."""

WEEKS_PER_MONTH = 365.25 / 12 / 7


@dataclass(frozen=True, eq=False)
class MetalPiece:
    """One connected piece of metal: volume, centroid (3,) LPS mm, brightest voxel."""

    volume_mm3: float
    centroid: FloatArray
    highest_hu: float


@dataclass(frozen=True, eq=False)
class QualityReport:
    """What was found in a CT.

    Attributes
    ----------
    findings : figures under ``imaging.*``.
    doubts : reservations for the dossier.
    metal : pieces of metal, largest first.
    cut_faces : faces of the image that bone touches, of :data:`FACES`.
    """

    findings: Metrics
    doubts: tuple[Doubt, ...]
    metal: tuple[MetalPiece, ...]
    cut_faces: tuple[str, ...]

    def metrics(self) -> Metrics:
        """The findings."""
        return self.findings


def check_ct(
    volume: Volume,
    *,
    slice_thickness_mm: float | None = None,
    slice_axis: int | None = None,
    gantry_tilt_deg: float | None = None,
    kvp: float | None = None,
    kernel: str = "",
    contrast: str = "",
    acquired: str = "",
    surgery: str = "",
) -> QualityReport:
    """Check a canonical CT (HU) against HANDBOOK CT-01 to CT-09.

    Parameters
    ----------
    volume : canonical image.
    slice_thickness_mm : nominal slice thickness; None if the file does not tell (then the spacing
        along the slices stands for it).
    slice_axis : axis along which slices were acquired; None takes the coarsest, k among equals.
    gantry_tilt_deg, kvp, kernel, contrast : acquisition, as far as known.
    acquired, surgery : ``"YYYY-MM"`` or ``"YYYY-MM-DD"``; both are needed for the age of the scan.

    Raises
    ------
    ImagingError : a date that is none.
    """
    findings: Metrics = {}
    doubts: list[Doubt] = []
    _check_spacing(volume, slice_thickness_mm, slice_axis, findings, doubts)
    _check_extent(volume, findings, doubts)
    _check_acquisition(gantry_tilt_deg, kvp, kernel, contrast, findings, doubts)
    _check_age(acquired, surgery, findings, doubts)
    _check_range(volume, findings, doubts)
    metal = _check_metal(volume, findings, doubts)
    faces = _check_faces(volume, findings, doubts)
    return QualityReport(findings, tuple(doubts), metal, faces)


def _doubt(code: str, message: str, *rows: str) -> Doubt:
    return Doubt("imaging", f"imaging.{code}", message, rows)


def _check_spacing(
    volume: Volume,
    thickness: float | None,
    axis: int | None,
    findings: Metrics,
    doubts: list[Doubt],
) -> None:
    s = volume.geometry.spacing_mm
    if axis is None:
        # The coarsest axis, superior-inferior when all are alike.
        axis = 2 - int(np.argmax(np.round(s[::-1], 4)))
    along = float(s[axis])
    across = float(max(s[a] for a in range(3) if a != axis))
    effective = along if thickness is None else max(thickness, along)
    limit = evidence.value("CT-01", "slice_thickness")
    plane_limit = evidence.value("CT-01", "in_plane")
    findings["imaging.slice_thickness_mm"] = Metric(
        thickness, "mm", "Nominal slice thickness", ("CT-01",), None, limit
    )
    findings["imaging.slice_spacing_mm"] = Metric(
        along, "mm", "Slice spacing", ("CT-01",), None, limit
    )
    findings["imaging.in_plane_spacing_mm"] = Metric(
        across, "mm", "Pixel spacing", ("CT-01",), None, plane_limit
    )
    # Headers round: 0.8007 mm is not coarser than 0.8 mm to anyone.
    if effective > limit * 1.001:
        what = (
            f"a spacing of {along:.3g} mm"
            if thickness is None or along > thickness
            else f"a thickness of {thickness:.3g} mm"
        )
        doubts.append(
            _doubt(
                "thick_slices",
                f"The slices have {what}, at most {limit:g} mm is expected: surfaces, joint gaps "
                "and the fit of guides are less exact.",
                "CT-01",
                "CT-02",
            )
        )
    if thickness is not None and along > thickness * 1.01:
        doubts.append(
            _doubt(
                "slice_gaps",
                f"The slices are {thickness:.3g} mm thick but {along:.3g} mm apart: tissue between "
                "them was not imaged; contiguous or overlapping slices are expected.",
                "CT-01",
            )
        )
    if across > plane_limit * 1.001:
        doubts.append(
            _doubt(
                "coarse_pixels",
                f"The pixels measure {across:.3g} mm, at most {plane_limit:g} mm is expected; "
                "reconstruct with a smaller field of view.",
                "CT-01",
            )
        )


def _check_extent(volume: Volume, findings: Metrics, doubts: list[Doubt]) -> None:
    g = volume.geometry
    extent = g.spacing_mm * np.array(g.shape)
    for axis, name in enumerate(("left_right", "anterior_posterior", "superior_inferior")):
        findings[f"imaging.extent.{name}_mm"] = Metric(
            float(extent[axis]), "mm", f"Image extent, {name.replace('_', '-')}", ("CT-05",)
        )
    need = evidence.value("SP-IMG-02", "superior_inferior")
    if extent[2] < need:
        doubts.append(
            _doubt(
                "short_coverage",
                f"The image covers {extent[2]:.0f} mm along the spine; L3 to the lesser "
                f"trochanters needs about {need:.0f} mm.",
                "CT-05",
                "SP-IMG-02",
            )
        )
    axes = np.abs(np.diag(g.direction))
    oblique = float(np.degrees(np.arccos(np.clip(axes.min(), -1.0, 1.0))))
    findings["imaging.grid_obliquity_deg"] = Metric(
        oblique, "deg", "Largest angle between an image axis and its patient axis", ("CT-06",)
    )


def _check_acquisition(
    tilt: float | None,
    kvp: float | None,
    kernel: str,
    contrast: str,
    findings: Metrics,
    doubts: list[Doubt],
) -> None:
    limit = evidence.value("SP-IMG-05", "tilt")
    findings["imaging.gantry_tilt_deg"] = Metric(
        tilt, "deg", "Gantry tilt", ("CT-06", "SP-IMG-05"), None, limit
    )
    if tilt is not None and tilt > limit:
        doubts.append(
            _doubt(
                "gantry_tilt",
                f"The gantry was tilted by {tilt:.1f} degrees, none is expected; the image was "
                "resampled to a rectangular grid.",
                "CT-06",
            )
        )
    nominal = evidence.value("CT-03", "kvp")
    findings["imaging.kvp"] = Metric(kvp, "kV", "Tube voltage", ("CT-03",))
    if kvp is not None and abs(kvp - nominal) > 0.5:
        doubts.append(
            _doubt(
                "kvp",
                f"The tube voltage was {kvp:g} kV, {nominal:g} kV is nominal: HU and bone density "
                "shift by about 10 %.",
                "CT-03",
            )
        )
    findings["imaging.kernel"] = Metric(kernel or None, "text", "Kernel", ("CT-04",))
    if not kernel:
        effect = evidence.quantity("CT-04", "kernel_effect").upper
        doubts.append(
            _doubt(
                "kernel_unknown",
                "The reconstruction kernel is not recorded; it alone can change predicted bone "
                f"behaviour by up to {effect:g} %.",
                "CT-04",
            )
        )
    findings["imaging.contrast"] = Metric(contrast or None, "text", "Contrast agent", ("CAL-05",))
    if contrast and contrast.strip().upper() not in ("NO", "NONE", "N"):
        doubts.append(
            _doubt(
                "contrast",
                f"A contrast agent was given ({contrast}): blood cannot serve as a density "
                "reference and marrow reads too dense.",
                "CAL-05",
            )
        )


def _months(text: str, what: str) -> float:
    """Months since year 0, the middle of the month where the day is unknown."""
    match = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01]))?", text)
    if match is None:
        raise ImagingError(f"The {what} date {text!r} is not YYYY-MM or YYYY-MM-DD.")
    day = 15.0 if match.group(3) is None else float(match.group(3))
    return int(match.group(1)) * 12 + int(match.group(2)) - 1 + (day - 1) / 30.4


def _check_age(acquired: str, surgery: str, findings: Metrics, doubts: list[Doubt]) -> None:
    limit = evidence.span("CT-07", "age")[1]
    age: float | None = None
    if acquired and surgery:
        age = (_months(surgery, "surgery") - _months(acquired, "scan")) * WEEKS_PER_MONTH
    findings["imaging.scan_age_weeks"] = Metric(
        age, "week", "Age of the scan at surgery", ("CT-07",), None, limit
    )
    findings["imaging.acquired"] = Metric(acquired or None, "text", "Month of the scan", ("CT-07",))
    if age is None:
        return
    if age > limit:
        doubts.append(
            _doubt(
                "old_scan",
                f"The scan is about {age:.0f} weeks old at surgery, at most {limit:g} are "
                "expected: tumour and bone may have changed.",
                "CT-07",
            )
        )
    # Half a month is what the missing day of the scan may hide.
    if age < -0.5 * WEEKS_PER_MONTH:
        doubts.append(
            _doubt("scan_after_surgery", "The scan is later than the date of surgery.", "CT-07")
        )


def _check_range(volume: Volume, findings: Metrics, doubts: list[Doubt]) -> None:
    low, high = float(volume.data.min()), float(volume.data.max())
    lowest = evidence.value("SP-IMG-04", "lowest")
    highest = evidence.value("SP-IMG-04", "highest")
    rows = ("SP-IMG-04", "HU-03")
    findings["imaging.hu_min"] = Metric(low, "HU", "Lowest HU", rows, lowest, None)
    findings["imaging.hu_max"] = Metric(high, "HU", "Highest HU", rows, None, None)
    findings["imaging.hu_saturated_voxels"] = Metric(
        int(np.count_nonzero(volume.data >= highest)),
        "voxel",
        "Voxels at or above the 12-bit ceiling",
        rows,
    )
    if low < lowest:
        count = int(np.count_nonzero(volume.data < lowest))
        doubts.append(
            _doubt(
                "hu_below_air",
                f"{count} voxels lie below {lowest:g} HU (lowest {low:g}): the image was "
                "resampled or padded, edges may ring.",
                *rows,
            )
        )
    air = evidence.value("SP-IMG-04", "air_below")
    if low > air:
        doubts.append(
            _doubt(
                "not_hu",
                f"The darkest voxel is {low:g}; a CT in HU shows air near "
                f"{evidence.value('HU-03', 'air'):g}. The values may not be HU.",
                *rows,
            )
        )


def _check_metal(volume: Volume, findings: Metrics, doubts: list[Doubt]) -> tuple[MetalPiece, ...]:
    threshold = evidence.value("CT-09", "threshold")
    smallest = evidence.value("SP-IMG-03", "volume")
    g = volume.geometry
    pieces: list[MetalPiece] = []
    bright = volume.data > threshold
    if bright.any():
        from scipy import ndimage

        used = [np.flatnonzero(bright.any(axis=tuple(b for b in range(3) if b != a)))
                for a in range(3)]  # fmt: skip
        start = np.array([u[0] for u in used])
        box = tuple(slice(int(u[0]), int(u[-1]) + 1) for u in used)
        label, count = ndimage.label(bright[box], structure=np.ones((3, 3, 3)))
        index = np.arange(1, count + 1)
        voxels = np.bincount(label.ravel(), minlength=count + 1)[1:]
        centres = np.array(ndimage.center_of_mass(bright[box], label, index)).reshape(-1, 3)
        peaks = np.asarray(ndimage.maximum(volume.data[box], label, index)).reshape(-1)
        volumes = voxels * g.voxel_volume_mm3
        for n in np.argsort(-volumes, kind="stable"):
            if volumes[n] >= smallest:
                pieces.append(
                    MetalPiece(float(volumes[n]), g.to_world(centres[n] + start), float(peaks[n]))
                )
    rows = ("CT-09", "SP-IMG-03")
    total = sum(p.volume_mm3 for p in pieces)
    findings["imaging.metal.volume_cm3"] = Metric(total / 1000.0, "cm3", "Metal in the image", rows)
    findings["imaging.metal.pieces"] = Metric(len(pieces), "count", "Pieces of metal", rows)
    if pieces:
        largest = pieces[0]
        at = ", ".join(f"{v:.0f}" for v in largest.centroid)
        where = _where(volume, largest.centroid)
        doubts.append(
            _doubt(
                "metal",
                f"Metal (above {threshold:g} HU) of {total / 1000.0:.2g} cm3 in {len(pieces)} "
                f"piece(s), the largest {where} at LPS ({at}) mm: density is invalid nearby.",
                "CT-09",
            )
        )
    return tuple(pieces)


def _where(volume: Volume, point: FloatArray) -> str:
    """In words, in which third of the image a point lies along each axis of the grid."""
    relative = (volume.geometry.to_index(point) + 0.5) / np.array(volume.geometry.shape)
    words = []
    for axis, (low, high) in ((2, ("low", "high")), (0, ("right", "left")),
                              (1, ("anterior", "posterior"))):  # fmt: skip
        if relative[axis] < 1 / 3:
            words.append(low)
        elif relative[axis] > 2 / 3:
            words.append(high)
    return " ".join(words) or "in the middle"


def _check_faces(volume: Volume, findings: Metrics, doubts: list[Doubt]) -> tuple[str, ...]:
    """Bone on a face of the image: largest connected area above HU-01 on the outermost layer."""
    from scipy import ndimage

    threshold = evidence.value("HU-01", "threshold")
    smallest = evidence.value("SP-IMG-01", "area")
    spacing = volume.geometry.spacing_mm
    cut: list[str] = []
    for axis in range(3):
        pixel_cm2 = float(np.prod(np.delete(spacing, axis))) / 100.0
        for end in (0, 1):
            name = FACES[2 * axis + end]
            layer: npt.NDArray[np.bool_] = np.take(volume.data, -end, axis=axis) >= threshold
            label, count = ndimage.label(layer, structure=np.ones((3, 3)))
            area = 0.0
            if count:
                area = float(np.bincount(label.ravel())[1:].max()) * pixel_cm2
            findings[f"imaging.border.{name}_bone_cm2"] = Metric(
                area, "cm2", f"Largest bone area on the {name} face", ("HU-01", "SP-IMG-01")
            )
            if area >= smallest:
                cut.append(name)
    if cut:
        doubts.append(
            _doubt(
                "bone_cut_by_border",
                f"Bone reaches the {', '.join(cut)} border of the image: bones there are cut off.",
                "CT-05",
                "SP-IMG-01",
            )
        )
    return tuple(cut)
