"""Make a new case folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sacroplan.case.config import new_config
from sacroplan.errors import CaseError
from sacroplan.formats.atomic import replaced_folder

if TYPE_CHECKING:
    from sacroplan.formats.ct import CtImage


def create_case(
    folder: Path,
    ct: Path,
    labels: Path | None,
    tumour: Path | None,
    case_id: str | None = None,
    series: str | None = None,
    mri: Path | None = None,
    tumour_mri: Path | None = None,
) -> tuple[Path, CtImage]:
    """Write ``folder/case.toml``; inputs are named by path, not copied. Returns the file and the CT.

    The CT, labels and mask are read once, so that a wrong file is refused now and not later.
    ``series`` names one of several DICOM series and is kept in the case. ``mri`` is fused to the CT
    when the case runs, ``tumour_mri`` is a tumour mask on the MRI's grid.
    """
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise CaseError(f"{folder} exists already and is not empty; choose another case folder.")
    for what, path in (("CT", ct), ("label map", labels), ("tumour mask", tumour), ("MRI", mri),
                       ("tumour mask", tumour_mri)):  # fmt: skip
        if path is not None and not path.exists():
            raise CaseError(f"The {what} {path} does not exist.")
    if tumour_mri is not None and (mri is None or tumour is not None):
        raise CaseError(
            "A tumour mask drawn on an MRI needs that MRI (--mri), and the tumour is given once: "
            "--tumour on the CT's grid or --tumour-mri on the MRI's."
        )
    image = _check_inputs(ct, labels, tumour, series)
    if mri is not None:
        _check_mri(mri, tumour_mri)
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-")[:24]
    name = case_id or plain or "case"

    def named(path: Path | None) -> str | None:
        return None if path is None else _relative(path, folder)

    text = new_config(
        name, _relative(ct, folder), named(labels), named(tumour), series, named(mri),
        named(tumour_mri),
    )  # fmt: skip
    with replaced_folder(folder) as fresh:
        (fresh / "case.toml").write_text(text, "utf-8")
    return folder / "case.toml", image


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _check_inputs(
    ct: Path, labels: Path | None, tumour: Path | None, series: str | None
) -> CtImage:
    from sacroplan.formats.ct import read_ct
    from sacroplan.formats.labels import read_labels, read_mask

    image = read_ct(ct, series)
    if labels is not None:
        read_labels(labels, image.volume.geometry)
    if tumour is not None:
        read_mask(tumour, image.volume.geometry)
    return image


def _check_mri(mri: Path, tumour: Path | None) -> None:
    from sacroplan.formats.ct import read_ct
    from sacroplan.formats.labels import read_mask

    image = read_ct(mri, modality="MR")
    if tumour is not None:
        read_mask(tumour, image.volume.geometry)
