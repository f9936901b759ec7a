"""What leaves for other programs: DICOM for archives and planning stations, files for 3D Slicer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

import numpy as np

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput, stage_folder
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.guides import Guides
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.prints import implant_parts, model_parts
from sacroplan.case.steps.resection import Resection
from sacroplan.case.steps.screws import Screws
from sacroplan.case.steps.tumour import voxels_of
from sacroplan.errors import Doubt
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import LabelMap, Volume
from sacroplan.metrics import Metric, Metrics

if TYPE_CHECKING:
    from sacroplan.formats.dicom_source import DicomSource

TUMOUR = "tumour"

Writers = dict[str, Callable[[Path], None]]


@dataclass(frozen=True, eq=False)
class Exports:
    """Names of the files, and the CT series that the DICOM files refer to."""

    files: tuple[str, ...]
    series_uid: str
    derived: bool


def run(context: Context) -> StageOutput:
    """Gather what is known and hand out one writer a file."""
    from sacroplan.formats.dicom_out import ct_source

    intake: Intake = context.result("intake")
    bones: BoneModel = context.result("bones")
    case = context.config.case.id
    source = intake.info.source
    derived = source is None
    if source is None:
        source = ct_source(_within_16_bits(intake.volume), case)
    labels = labelled(bones.labels, context.result("resection"))
    files = slicer_files(context, labels) | dicom_files(context, labels, source)
    doubts: tuple[Doubt, ...] = ()
    if derived:
        files["dossier/dicom/ct"] = partial(_write_ct, intake=intake, case=case)
        doubts = (
            Doubt(
                "imaging",
                "imaging.derived_series",
                f"The CT ({intake.info.source_format}) names no DICOM slices, so a series was "
                "derived from it (dossier/dicom/ct) for the DICOM segmentation and surfaces to "
                "refer to; they do not join the patient's own study in an archive.",
            ),
        )
    metrics: Metrics = {
        "exports.dicom.series": Metric(
            "derived from the CT" if derived else "the CT's own", "text",
            "Series that the DICOM files refer to",
        ),
        "exports.dicom.surfaces": Metric(
            sum(1 for n in files if n.startswith("dossier/dicom/stl_")), "count",
            "Surfaces as Encapsulated STL",
        ),
    }  # fmt: skip
    return StageOutput(
        Exports(tuple(sorted(files)), source.series_uid, derived), metrics, doubts, files
    )


def _within_16_bits(volume: Volume) -> Volume:
    """The CT with values that a DICOM CT can hold; beyond them lies nothing but metal streaks."""
    if volume.data.dtype == np.int16:
        return volume
    limits = np.iinfo(np.int16)
    return Volume(volume.geometry, np.clip(volume.data, limits.min, limits.max))


def _write_ct(path: Path, intake: Intake, case: str) -> None:
    from sacroplan.formats.dicom_out import write_ct_series

    info = intake.info
    write_ct_series(
        _within_16_bits(intake.volume), path, case_id=case, description="CT, derived",
        slice_thickness_mm=info.slice_thickness_mm, kvp=info.kvp, kernel=info.kernel,
    )  # fmt: skip


def labelled(labels: LabelMap, resection: Resection) -> LabelMap:
    """The bones' labels with the tumour as a label of its own, where it is known only as a shape."""
    from sacroplan.formats.names import own_ids

    if resection.tumour is None or labels.has(TUMOUR):
        return labels
    tumour, g = own_ids()[TUMOUR], labels.geometry
    data = np.array(labels.data)
    data[voxels_of(resection.tumour.surface, g)] = tumour
    return LabelMap(g, data, {**labels.names, tumour: TUMOUR})


def _patient_surfaces(context: Context) -> dict[str, Surface]:
    """What the patient has: bones and tumour."""
    bones: BoneModel = context.result("bones")
    resection: Resection = context.result("resection")
    out = dict(bones.surfaces)
    if resection.tumour is not None:
        out[TUMOUR] = resection.tumour.surface
    return out


def _planned_surfaces(context: Context) -> dict[str, Surface]:
    """What the plan makes of it: cut bones, implant, guides."""
    guides: Guides = context.result("guides")
    bones: BoneModel = context.result("bones")
    uncut = {f"model_{n}" for n in bones.surfaces if n.startswith("L")}
    cut = {n: s for n, s in model_parts(context).items() if n not in uncut}
    return cut | implant_parts(context) | {g.name: g.surface for g in guides.guides}


def dicom_files(context: Context, labels: LabelMap, source: DicomSource) -> Writers:
    """The segmentation, and every bone and part as Encapsulated STL."""
    from sacroplan.formats.dicom_seg import write_dicom_seg
    from sacroplan.formats.encapsulated import write_encapsulated_stl
    from sacroplan.formats.segnrrd import COLOURS

    bones: BoneModel = context.result("bones")
    case = context.config.case.id
    files: Writers = {
        "dossier/dicom/segmentation.dcm": partial(
            _second, partial(write_dicom_seg, source=source, case_id=case, how=bones.source,
                             automatic=context.config.input.labels is None), labels,
        )
    }  # fmt: skip
    both = ((_patient_surfaces(context), False), (_planned_surfaces(context), True))
    for surfaces, modified in both:
        for name, surface in surfaces.items():
            write = partial(
                write_encapsulated_stl, name=f"{case} {name}", source=source, case_id=case,
                modified=modified, instance_number=len(files), colour=COLOURS.get(name),
            )  # fmt: skip
            files[f"dossier/dicom/stl_{name}.dcm"] = partial(_second, write, surface)
    return files


def _second(write: Callable[[Any, Path], None], what: Any, path: Path) -> None:
    """Writers here are called with the path alone; those of formats take it second."""
    write(what, path)


def slicer_files(context: Context, labels: LabelMap) -> Writers:
    """Labels, surfaces, landmarks, planes and screws as 3D Slicer opens them."""
    from sacroplan.formats.labels import write_labels_nifti
    from sacroplan.formats.markups import write_lines, write_planes
    from sacroplan.formats.stl import write_stl

    screws: Screws | None = context.result("screws")
    implant = context.result("implant")
    guides: Guides = context.result("guides")
    case = context.config.case.id
    lines = {p.screw.name: (p.screw.entry, p.screw.tip) for p in (screws.plans if screws else ())}
    lines |= {s.name: (s.head, s.tip) for s in (implant.wing_screws if implant else ())}
    wires = {
        f"{g.name}-wire-{n + 1}": (w.start, w.end)
        for g in guides.guides
        for n, w in enumerate(g.wires)
    }
    slots = [(g.name, g.slot.cut, (g.slot.length_mm, g.slot.height_mm)) for g in guides.guides]
    made: Mapping[str, str] = {
        "bones.seg.nrrd": "bones",
        "landmarks.mrk.json": "landmarks",
        "planes.mrk.json": "resection",
    }
    # What earlier stages wrote for Slicer is copied as it is.
    files: Writers = {
        f"dossier/slicer/{name}": partial(copyfile, stage_folder(context.folder, stage) / name)
        for name, stage in made.items()
    }
    if lines:
        files["dossier/slicer/screws.mrk.json"] = lambda path: write_lines(lines, path)
    if slots:
        files["dossier/slicer/guide_wires.mrk.json"] = lambda path: write_lines(wires, path)
        files["dossier/slicer/guide_slots.mrk.json"] = lambda path: write_planes(slots, path)
    files["dossier/slicer/labels.nii.gz"] = lambda path: write_labels_nifti(labels, path)
    for name, surface in _patient_surfaces(context).items():
        write = partial(write_stl, name=f"{case} {name}")
        files[f"dossier/slicer/{name}.stl"] = partial(_second, write, surface)
    return files


def _parameters(config: CaseConfig) -> Any:
    return {"case": config.case.id, "labels": config.input.labels is not None}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "exports", "DICOM and Slicer files",
    ("intake", "bones", "landmarks", "resection", "screws", "implant", "guides"),
    ("formats",), _parameters, _inputs, run, 15.0,
)  # fmt: skip
