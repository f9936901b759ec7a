"""Make one of the example cases: a synthetic CT with labels and landmarks beside its case.toml.

python examples/make.py paper-b-case-2 case2
"""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import copyfile

from sacroplan.errors import CaseError, SacroplanError
from sacroplan.formats.atomic import replaced_folder
from sacroplan.formats.labels import write_labels_nifti, write_volume_nifti
from sacroplan.formats.markups import write_points
from sacroplan.imaging.phantom.build import build
from sacroplan.imaging.phantom.parameters import PhantomParameters

HERE = Path(__file__).resolve().parent

PATIENTS = {
    "paper-a-typical": PhantomParameters(tumour_level="S2"),
    "paper-b-case-1": PhantomParameters(tumour_level="S1", tumour_diameter_mm=40.0),
    "paper-b-case-2": PhantomParameters(tumour_level=None),
    "paper-b-case-3": PhantomParameters(tumour_level=None),
}
"""A tumour at one side is no choice of the synthetic patient; those case files give it as ellipsoids."""

SPACING_MM = (1.2, 1.2, 1.4)
"""Coarser than a clinical CT, so that an example runs in a minute or two."""


def make(name: str, folder: Path, spacing_mm: tuple[float, float, float] = SPACING_MM) -> Path:
    """Write the case ``name`` into ``folder``, which must not exist; returns ``folder``."""
    if name not in PATIENTS:
        raise CaseError(f"There is no example {name!r}; there are {', '.join(PATIENTS)}.")
    if folder.exists():
        raise CaseError(f"{folder} exists already; choose another folder.")
    phantom = build(PATIENTS[name], spacing_mm=spacing_mm)
    with replaced_folder(folder) as fresh:
        (fresh / "input").mkdir(parents=True)
        write_volume_nifti(phantom.volume, fresh / "input" / "ct.nii.gz")
        write_labels_nifti(phantom.labels, fresh / "input" / "labels.nii.gz")
        write_points(phantom.landmarks, fresh / "input" / "landmarks.mrk.json")
        copyfile(HERE / name / "case.toml", fresh / "case.toml")
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python examples/make.py {'|'.join(PATIENTS)} FOLDER")
    try:
        print(f"Made {make(sys.argv[1], Path(sys.argv[2]))}.")
    except SacroplanError as error:
        sys.exit(f"make.py: {error}")
