"""MRI on the CT, and the tumour drawn on it; used aloud, or only after a person has looked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import CaseError, Doubt, PlanError
from sacroplan.imaging.fusion import Fusion
from sacroplan.metrics import Metric

PICTURE = "dossier/mri/fusion.png"


@dataclass(frozen=True, eq=False)
class MriFusion:
    """``fusion``, and the tumour drawn on the MRI as a mask on the CT's grid, where one was."""

    fusion: Fusion
    tumour: npt.NDArray[np.bool_] | None
    mask_name: str = ""


def run(context: Context) -> StageOutput:
    """Fuse the MRI named in case.toml; without one there is nothing to do."""
    from sacroplan.formats.ct import read_ct
    from sacroplan.formats.labels import read_mask
    from sacroplan.formats.names import own_names
    from sacroplan.formats.segnrrd import write_segnrrd
    from sacroplan.formats.transforms import read_rigid, write_rigid
    from sacroplan.geometry.volume import LabelMap
    from sacroplan.imaging.fusion import fuse
    from sacroplan.imaging.fusion_mask import carry_mask, mask_doubts
    from sacroplan.imaging.fusion_picture import overlay_png
    from sacroplan.progress import part

    mri, drawn = context.config.mri, context.config.tumour.mri_mask
    if mri.image is None:
        if drawn is not None:
            raise CaseError(
                "[tumour] mri_mask is drawn on an MRI, but case.toml names none: add "
                'image = "PATH" under [mri].'
            )
        return StageOutput(None)
    intake: Intake = context.result("intake")
    bones: BoneModel = context.result("bones")
    context.progress(0.0, "reading the MRI")
    image = read_ct(context.input_path(mri.image), mri.series, modality="MR")
    own = None if mri.transform is None else read_rigid(context.input_path(mri.transform))
    mask = None
    tumour = None
    if drawn is not None:
        mask = read_mask(context.input_path(drawn), image.volume.geometry)
        tumour = image.volume.geometry.to_world(np.argwhere(mask))
    fusion = fuse(
        intake.volume, bones.labels, image.volume, tumour, own, part(context.progress, 0.1, 0.9)
    )
    doubts = [*image.doubts, *fusion.doubts]
    metrics = fusion.metrics()
    files: dict[str, Callable[[Path], None]] = {}
    on_ct = None
    if mask is not None:
        carried = carry_mask(mask, image.volume.geometry, intake.volume.geometry, fusion.ct_to_mri)
        on_ct = carried.mask
        metrics["imaging.fusion.tumour_mri_cm3"] = Metric(
            carried.volume_mri_mm3 / 1000.0, "cm3", "Tumour as drawn on the MRI", ("CT-08",)
        )
        metrics["imaging.fusion.tumour_ct_cm3"] = Metric(
            carried.volume_ct_mm3 / 1000.0, "cm3", "Tumour carried over to the CT", ("CT-08",)
        )
        doubts += mask_doubts(carried)
        number = {name: i for i, name in own_names().items()}["tumour"]
        labels = LabelMap(
            intake.volume.geometry, on_ct.astype(np.uint8) * np.uint8(number), {number: "tumour"}
        )
        files["dossier/mri/tumour_on_ct.seg.nrrd"] = lambda path: write_segnrrd(labels, path)
    picture = overlay_png(intake.volume, bones.labels, image.volume, fusion.ct_to_mri, on_ct)
    files[PICTURE] = lambda path: _write(path, picture)
    files["dossier/mri/ct_to_mri.tfm"] = lambda path: write_rigid(fusion.ct_to_mri, path)
    name = "" if drawn is None else Path(drawn).name
    return StageOutput(MriFusion(fusion, on_ct, name), metrics, tuple(doubts), files)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def mri_tumour(context: Context) -> tuple[npt.NDArray[np.bool_], str, float] | None:
    """The tumour carried over from the MRI, what to call it, and the predicted error of its place in
    mm (95 %); None when none was drawn there.

    Raises PlanError when the fusion failed its checks and nobody has accepted it.
    """
    found: MriFusion | None = context.result("fusion")
    if found is None or found.tumour is None:
        return None
    fusion = found.fusion
    if fusion.concerns and not context.config.mri.accepted:
        raise PlanError(
            f"The tumour drawn on the MRI is not used, because the fusion failed its checks: "
            f"{'; '.join(fusion.concerns)}. Look at {context.folder / PICTURE}: on the MRI the "
            "outlines must follow the bones. If they do, set accepted = true under [mri] in "
            "case.toml; if not, check the MRI or give your own transform with [mri] transform."
        )
    told = (
        f"mask {found.mask_name} drawn on the MRI, {fusion.source} fusion, predicted error "
        f"{fusion.predicted_error_mm:.1f} mm"
    )
    return found.tumour, told, fusion.predicted_error_mm


def check(context: Context) -> StageOutput:
    """Whether a person has accepted the fusion. A stage of its own: accepting changes no geometry."""
    found: MriFusion | None = context.result("fusion")
    if found is None or found.tumour is None:
        return StageOutput(None)
    accepted = context.config.mri.accepted
    metrics = {
        "imaging.fusion.accepted": Metric(
            accepted, "text", "MRI fusion: accepted by a person", ("CT-08",)
        )
    }
    if accepted:
        return StageOutput(None, metrics)
    doubt = Doubt(
        "imaging",
        "imaging.fusion_not_accepted",
        "MRI FUSION NOT ACCEPTED BY A PERSON: the tumour and every margin in this plan rest on an "
        f"automatic fusion (predicted error {found.fusion.predicted_error_mm:.1f} mm). Look at "
        f"{PICTURE}; if the outlines follow the bones on the MRI, set accepted = true under [mri] in "
        "case.toml.",
        ("CT-08", "SP-FUS-02"),
    )
    return StageOutput(None, metrics, (doubt,))


def _parameters(config: CaseConfig) -> Any:
    return {
        "series": config.mri.series,
        "image": config.mri.image is not None,
        "transform": config.mri.transform is not None,
        "mask": config.tumour.mri_mask is not None,
    }


def _inputs(context: Context) -> list[Path]:
    mri = context.config.mri
    named = (mri.image, mri.transform, context.config.tumour.mri_mask)
    return [context.input_path(n) for n in named if n is not None]


def _accepted(config: CaseConfig) -> Any:
    return {"accepted": config.mri.accepted}


def _nothing(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "fusion", "MRI on the CT", ("intake", "bones"), ("imaging", "formats"), _parameters, _inputs,
    run, 8.0,
)  # fmt: skip

CHECK = Stage(
    "mri_check", "MRI fusion accepted", ("fusion",), ("imaging",), _accepted, _nothing, check, 0.1
)
