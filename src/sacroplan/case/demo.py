"""The built-in patient: a synthetic CT written as DICOM, then planned like any other case."""

from __future__ import annotations

from pathlib import Path

from sacroplan.case.config import new_config
from sacroplan.errors import CaseError
from sacroplan.progress import Progress, part, silent

CASE_ID = "demo"


def make_demo(folder: Path, progress: Progress = silent) -> None:
    """Create the demo case in ``folder``, or leave an existing demo case as it is.

    Writes ``input/ct`` (DICOM series), ``input/tumour.nii.gz`` (the surgeon's tumour outline, here
    the phantom's own), ``input/truth`` (labels and landmarks, for comparison; the plan does not
    read them) and ``case.toml``.
    """
    from sacroplan.formats.atomic import replaced_folder
    from sacroplan.formats.dicom_out import write_ct_series
    from sacroplan.formats.labels import write_labels_nifti
    from sacroplan.formats.markups import write_points
    from sacroplan.geometry.volume import LabelMap
    from sacroplan.imaging.phantom.build import build
    from sacroplan.imaging.phantom.parameters import PhantomParameters

    if (folder / "case.toml").is_file():
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CaseError(f"{folder} exists already and is no sacroplan case; choose another folder.")
    phantom = build(PhantomParameters(), part(progress, 0.0, 0.6))
    with replaced_folder(folder) as fresh:
        (fresh / "input" / "truth").mkdir(parents=True)
        progress(0.6, "writing DICOM")
        write_ct_series(
            phantom.volume, fresh / "input" / "ct", case_id=CASE_ID,
            description="Synthetic pelvis", kvp=120.0,
        )  # fmt: skip
        progress(0.9, "writing labels")
        labels = phantom.labels
        mask = (labels.data == labels.id_of("tumour")).astype("uint8")
        write_labels_nifti(
            LabelMap(labels.geometry, mask, {1: "tumour"}), fresh / "input" / "tumour.nii.gz"
        )
        write_labels_nifti(labels, fresh / "input" / "truth" / "labels.nii.gz")
        write_points(phantom.landmarks, fresh / "input" / "truth" / "landmarks.mrk.json")
        text = new_config(CASE_ID, "input/ct", None, "input/tumour.nii.gz")
        (fresh / "case.toml").write_text(text, "utf-8")
    progress(1.0, "synthetic patient ready")
