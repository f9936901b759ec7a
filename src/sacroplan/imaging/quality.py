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
from sacroplan.imaging.measured import bright_vessels, jumps, texture
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
    kernel_class: str = "",
    contrast: str = "",
    patient_position: str = "",
    acquired: str = "",
    surgery: str = "",
) -> QualityReport:
    """Check a canonical CT (HU) against HANDBOOK CT-01 to CT-09.

    What the header tells is checked, and what it may hide is measured: sharpness, noise, contrast,
    metal and motion. Every doubt says what it means for a guide or an implant.

    Parameters
    ----------
    volume : canonical image.
    slice_thickness_mm : nominal slice thickness; None if the file does not tell (then the spacing
        along the slices stands for it).
    slice_axis : axis along which slices were acquired; None takes the coarsest, k among equals.
    gantry_tilt_deg, kvp, kernel, contrast : acquisition, as far as known.
    kernel_class : ``"sharp"`` or ``"smooth"`` by the kernel's name, empty if unknown.
    patient_position : DICOM term, e.g. ``"HFS"`` (head first, supine).
    acquired, surgery : ``"YYYY-MM"`` or ``"YYYY-MM-DD"``; both are needed for the age of the scan.

    Raises
    ------
    ImagingError : a date that is none.
    """
    findings: Metrics = {}
    doubts: list[Doubt] = []
    _check_spacing(volume, slice_thickness_mm, slice_axis, findings, doubts)
    _check_extent(volume, findings, doubts)
    axis = _slice_axis(volume, slice_axis)
    _check_acquisition(gantry_tilt_deg, kvp, patient_position, findings, doubts)
    _check_sharpness(volume, axis, kernel, kernel_class, findings, doubts)
    _check_contrast(volume, contrast, findings, doubts)
    _check_motion(volume, axis, findings, doubts)
    _check_age(acquired, surgery, findings, doubts)
    _check_range(volume, findings, doubts)
    metal = _check_metal(volume, findings, doubts)
    faces = _check_faces(volume, findings, doubts)
    return QualityReport(findings, tuple(doubts), metal, faces)


def _doubt(code: str, message: str, *rows: str) -> Doubt:
    return Doubt("imaging", f"imaging.{code}", message, rows)


def _slice_axis(volume: Volume, axis: int | None) -> int:
    """The axis along which slices were acquired: the coarsest one where nobody knows, k if alike."""
    s = volume.geometry.spacing_mm
    return 2 - int(np.argmax(np.round(s[::-1], 4))) if axis is None else axis


def _check_spacing(
    volume: Volume,
    thickness: float | None,
    axis: int | None,
    findings: Metrics,
    doubts: list[Doubt],
) -> None:
    s = volume.geometry.spacing_mm
    axis = _slice_axis(volume, axis)
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
                f"The slices have {what}, at most {limit:g} mm is expected: surfaces err by up to "
                "about half a slice, joint gaps close, and a guide made from them may rock or not "
                "seat at all.",
                "CT-01",
                "CT-02",
            )
        )
    if thickness is not None and along > thickness * 1.01:
        doubts.append(
            _doubt(
                "slice_gaps",
                f"The slices are {thickness:.3g} mm thick but {along:.3g} mm apart: tissue between "
                "them was not imaged and is invented under a guide; contiguous or overlapping "
                "slices are expected.",
                "CT-01",
            )
        )
    if across > plane_limit * 1.001:
        doubts.append(
            _doubt(
                "coarse_pixels",
                f"The pixels measure {across:.3g} mm, at most {plane_limit:g} mm is expected: thin "
                "cortex blurs and guides seat less exactly; reconstruct with a smaller field of "
                "view.",
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
                f"trochanters needs about {need:.0f} mm: screws, rods and loads beyond it cannot "
                "be planned or are assumed.",
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
    position: str,
    findings: Metrics,
    doubts: list[Doubt],
) -> None:
    # The reader resamples a tilt or refuses it, and says so; here it is only told.
    findings["imaging.gantry_tilt_deg"] = Metric(
        tilt, "deg", "Gantry tilt", ("CT-06", "SP-IMG-05"), None,
        evidence.value("SP-IMG-05", "tilt"),
    )  # fmt: skip
    nominal = evidence.value("CT-03", "kvp")
    findings["imaging.kvp"] = Metric(kvp, "kV", "Tube voltage", ("CT-03",))
    if kvp is not None and abs(kvp - nominal) > 0.5:
        doubts.append(
            _doubt(
                "kvp",
                f"The tube voltage was {kvp:g} kV, {nominal:g} kV is nominal: HU and bone density "
                "shift by about 10 %, and with them the strength of bone around screws.",
                "CT-03",
            )
        )
    findings["imaging.patient_position"] = Metric(
        position or None, "text", "Patient position", ("CT-06",)
    )
    if position and not position.endswith("S"):
        how = "prone" if position.endswith("P") else "on the side"
        doubts.append(
            _doubt(
                "position",
                f"The patient lay {how} ({position}), supine is expected: pelvic tilt and soft "
                "tissue differ from the operating table, so measured angles and the room for "
                "guides may not hold.",
                "CT-06",
            )
        )


def _check_sharpness(
    volume: Volume,
    axis: int,
    kernel: str,
    named: str,
    findings: Metrics,
    doubts: list[Doubt],
) -> None:
    row = "SP-IMG-09"
    found = texture(volume, axis)
    most_noise, most_edge = evidence.value(row, "noise"), evidence.value(row, "edge")
    measured = ""
    if found.grain_mm is not None:
        if found.grain_mm < evidence.value(row, "sharp_grain"):
            measured = "sharp"
        elif found.grain_mm > evidence.value(row, "smooth_grain"):
            measured = "smooth"
    findings["imaging.kernel"] = Metric(kernel or None, "text", "Kernel", ("CT-04",))
    findings["imaging.kernel_class"] = Metric(
        named or None, "text", "Kernel by its name", ("CT-04", "SP-IMG-08")
    )
    findings["imaging.kernel_measured"] = Metric(
        measured or None, "text", "Kernel by its noise", ("CT-04", row)
    )
    findings["imaging.noise_hu"] = Metric(
        found.noise_hu, "HU", "Noise in soft tissue", (row,), None, most_noise
    )
    findings["imaging.noise_grain_mm"] = Metric(found.grain_mm, "mm", "Grain of the noise", (row,))
    findings["imaging.edge_width_mm"] = Metric(
        found.edge_mm, "mm", "Skin edge, 10 to 90 %", (row,), None, most_edge
    )
    effect = evidence.quantity("CT-04", "kernel_effect").upper
    if not kernel:
        look = f"; the noise looks like a {measured} one" if measured else ""
        doubts.append(
            _doubt(
                "kernel_unknown",
                f"The reconstruction kernel is not recorded{look}. It alone can change predicted "
                f"bone behaviour by up to {effect:g} %, and a smooth one rounds the edges that a "
                "guide holds on to.",
                "CT-04",
            )
        )
    elif named and measured and named != measured:
        doubts.append(
            _doubt(
                "kernel_contradicted",
                f"The kernel {kernel} is {named} by its name, but the noise looks {measured}: the "
                "image was filtered or reconstructed otherwise, so neither its edges nor its "
                "density are those of that kernel.",
                "CT-04", "SP-IMG-08", row,
            )
        )  # fmt: skip
    kind = measured or named
    if kind == "sharp":
        doubts.append(
            _doubt(
                "sharp_kernel",
                "The kernel is sharp: edges for guides are good, but it overshoots at cortex, so "
                f"density and strength may err by up to {effect:g} %; a smooth reconstruction of "
                "the same scan is better for them.",
                "CT-04",
            )
        )
    if found.noise_hu is not None and found.noise_hu > most_noise:
        doubts.append(
            _doubt(
                "noise",
                f"The noise is {found.noise_hu:.0f} HU, at most {most_noise:g} is expected: thin "
                "cortex tears, surfaces get rough, and a guide touches peaks of noise.",
                row,
            )
        )
    if found.edge_mm is not None and found.edge_mm > most_edge:
        doubts.append(
            _doubt(
                "soft_edges",
                f"Edges rise over {found.edge_mm:.1f} mm, at most {most_edge:g} mm is expected: "
                "thin cortex is blurred, and a guide or implant seat lies deeper or higher than "
                "the bone.",
                row,
            )
        )


def _check_contrast(volume: Volume, contrast: str, findings: Metrics, doubts: list[Doubt]) -> None:
    row = "SP-IMG-10"
    found = bright_vessels(volume)
    findings["imaging.contrast"] = Metric(contrast or None, "text", "Contrast agent", ("CAL-05",))
    findings["imaging.contrast_vessels_cm3"] = Metric(
        found.volume_cm3, "cm3", "Vessels bright with contrast", (row,)
    )
    findings["imaging.contrast_other_cm3"] = Metric(
        found.other_cm3, "cm3", "Other organs bright with contrast", (row,)
    )
    meaning = (
        "blood cannot serve as a density reference, marrow reads too dense, and vessels on the "
        "sacrum may be taken for bone under a guide"
    )
    given = bool(contrast) and contrast.strip().upper() != "NO"
    if given:
        doubts.append(
            _doubt("contrast", f"A contrast agent was given ({contrast}): {meaning}.", "CAL-05")
        )
    elif found.pieces:
        said = "says that none was given" if contrast else "is silent"
        doubts.append(
            _doubt(
                "contrast_suspected",
                f"A contrast agent is suspected: {found.pieces} vessel-like piece(s) of "
                f"{found.volume_cm3:.0f} cm3 have {found.mean_hu:.0f} HU, and the header {said}. "
                f"If so, {meaning}.",
                "CAL-05", row,
            )
        )  # fmt: skip
    elif found.other_cm3 > evidence.value(row, "organ"):
        doubts.append(
            _doubt(
                "contrast_suspected",
                f"A contrast agent is suspected in gut, bladder or kidneys: {found.other_cm3:.0f} "
                "cm3 of soft tissue are as bright as marrow and may be taken for bone where they "
                "lie on it.",
                "CAL-05", row,
            )
        )  # fmt: skip


def _check_motion(volume: Volume, axis: int, findings: Metrics, doubts: list[Doubt]) -> None:
    row = "SP-IMG-11"
    limit = evidence.value(row, "step")
    label = "Largest step of bone between two slices"
    if volume.geometry.spacing_mm[axis] > evidence.value(row, "spacing"):
        findings["imaging.motion_step_mm"] = Metric(None, "mm", label, (row,), None, limit)
        return
    steps, found = jumps(volume, axis)
    largest = float(steps.max()) if len(steps) else None
    findings["imaging.motion_step_mm"] = Metric(largest, "mm", label, (row,), None, None)
    findings["imaging.motion_steps"] = Metric(len(found), "count", "Steps between slices", (row,))
    if found:
        worst = max(found, key=lambda j: j.size_mm)
        where = _where(volume, worst.place)
        at = f"{worst.place[2]:.0f}"
        doubts.append(
            _doubt(
                "motion",
                f"The bone steps by {worst.size_mm:.1f} mm between two slices ({len(found)} "
                f"place(s), the largest {where} near z = {at} mm): the patient moved. A guide or "
                "implant seat that crosses the step does not fit; scan again.",
                row,
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
    if surgery:
        _months(surgery, "surgery")
    if acquired and surgery:
        age = (_months(surgery, "surgery") - _months(acquired, "scan")) * WEEKS_PER_MONTH
    findings["imaging.scan_age_weeks"] = Metric(
        age, "week", "Age of the scan at surgery", ("CT-07",), None, limit
    )
    findings["imaging.acquired"] = Metric(acquired or None, "text", "Month of the scan", ("CT-07",))
    if age is None:
        if surgery:
            doubts.append(
                _doubt(
                    "scan_age_unknown",
                    "The scan does not tell its date, so its age at surgery is unknown; at most "
                    f"{limit:g} weeks are expected, later the tumour may have outgrown the planned "
                    "margin and bone the guide's seat.",
                    "CT-07",
                )
            )
        return
    if age > limit:
        doubts.append(
            _doubt(
                "old_scan",
                f"The scan is about {age:.0f} weeks old at surgery, at most {limit:g} are "
                "expected: the tumour may have outgrown the planned margin and bone the guide's seat.",
                "CT-07",
            )
        )
    # Half a month is what the missing day of the scan may hide.
    if age < -0.5 * WEEKS_PER_MONTH:
        doubts.append(
            _doubt(
                "scan_after_surgery",
                "The scan is later than the date of surgery: the bone in it is no longer the bone "
                "a guide would be laid on; check both dates.",
                "CT-07",
            )
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
                "resampled or padded, edges may ring and surfaces for guides with them.",
                *rows,
            )
        )
    air = evidence.value("SP-IMG-04", "air_below")
    if low > air:
        doubts.append(
            _doubt(
                "not_hu",
                f"The darkest voxel is {low:g}; a CT in HU shows air near "
                f"{evidence.value('HU-03', 'air'):g}. The values may not be HU: then bone, "
                "surfaces and density are wrong, and nothing should be made from them.",
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
                f"piece(s), the largest {where} at LPS ({at}) mm: density is invalid nearby, and "
                "streaks there eat or add bone where a guide, screw or seat would lie.",
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
                f"Bone reaches the {', '.join(cut)} border of the image: bones there are cut off, "
                "and no guide, screw or seat can be planned on what is missing.",
                "CT-05",
                "SP-IMG-01",
            )
        )
    return tuple(cut)
