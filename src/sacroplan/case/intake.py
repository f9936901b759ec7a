"""Read a CT and judge it: shared by the intake stage and the ``check-ct`` command."""

from __future__ import annotations

from pathlib import Path

from sacroplan.formats.ct import CtImage, read_ct
from sacroplan.imaging.quality import QualityReport, check_ct
from sacroplan.progress import Progress, part, silent


def read_and_check(
    path: Path, series: str | None, progress: Progress = silent, surgery: str = ""
) -> tuple[CtImage, QualityReport]:
    """Image and quality report of a CT; raises as :func:`sacroplan.formats.ct.read_ct` does.

    ``surgery`` is the month or day of surgery, for the age of the scan.
    """
    image = read_ct(path, series, part(progress, 0.0, 0.7))
    info = image.info
    quality = check_ct(
        image.volume,
        slice_thickness_mm=info.slice_thickness_mm,
        slice_axis=info.slice_axis,
        gantry_tilt_deg=info.gantry_tilt_deg,
        kvp=info.kvp,
        kernel=info.kernel,
        kernel_class=info.kernel_class,
        contrast=info.contrast,
        patient_position=info.patient_position,
        acquired=info.acquired,
        surgery=surgery,
    )
    progress(1.0, "CT read")
    return image, quality
