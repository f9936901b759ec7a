"""Make a new case folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sacroplan.case.config import new_config
from sacroplan.errors import CaseError
from sacroplan.formats.atomic import replaced_folder


def create_case(
    folder: Path, ct: Path, labels: Path | None, tumour: Path | None, case_id: str | None = None
) -> Path:
    """Write ``folder/case.toml``; inputs are named by path, not copied. Returns the file.

    The CT, labels and mask are read once, so that a wrong file is refused now and not later.
    """
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise CaseError(f"{folder} exists already and is not empty; choose another case folder.")
    for what, path in (("CT", ct), ("label map", labels), ("tumour mask", tumour)):
        if path is not None and not path.exists():
            raise CaseError(f"The {what} {path} does not exist.")
    _check_inputs(ct, labels, tumour)
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-")[:24]
    name = case_id or plain or "case"

    def named(path: Path | None) -> str | None:
        return None if path is None else _relative(path, folder)

    text = new_config(name, _relative(ct, folder), named(labels), named(tumour))
    with replaced_folder(folder) as fresh:
        (fresh / "case.toml").write_text(text, "utf-8")
    return folder / "case.toml"


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _check_inputs(ct: Path, labels: Path | None, tumour: Path | None) -> None:
    from sacroplan.formats.ct import read_ct
    from sacroplan.formats.labels import read_labels, read_mask

    image = read_ct(ct)
    if labels is not None:
        read_labels(labels, image.volume.geometry)
    if tumour is not None:
        read_mask(tumour, image.volume.geometry)
