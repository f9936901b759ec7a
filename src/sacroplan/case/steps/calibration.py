"""HU to bone density."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacroplan.case.config import CalibrationTable, CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import CaseError
from sacroplan.imaging.calibration import Calibration

WANTED = {"phantom": ("inserts", "material"), "fixed": ("slope", "offset_mg_cm3", "kvp")}
"""Keys of [calibration] that a method needs, and that only it may have."""


def checked(table: CalibrationTable) -> None:
    """Raise when keys are missing for the method, or belong to another one."""
    given = {k for k, v in table.model_dump(exclude_none=True).items() if v != ()} - {"method"}
    own = set(WANTED.get(table.method or "", ()))
    method = table.method or "none"
    missing = sorted(own - given)
    if missing:
        raise CaseError(
            f"[calibration] method = {method!r} needs {', '.join(missing)}. Add them, or leave "
            "[calibration] out to calibrate on the patient's air, fat and muscle."
        )
    foreign = sorted(given - own)
    if foreign:
        raise CaseError(
            f"[calibration] {', '.join(foreign)} does not belong to method {method!r}. A phantom "
            "needs method = 'phantom', a fixed line method = 'fixed'."
        )


def run(context: Context) -> StageOutput:
    """Calibrate as case.toml says; on the patient's own tissue where it says nothing."""
    from sacroplan.imaging import calibration

    intake: Intake = context.result("intake")
    bones: BoneModel = context.result("bones")
    table = context.config.calibration
    checked(table)
    line: Calibration
    if table.method is None:
        line = calibration.calibrate(intake.volume)
    elif table.method == "air-fat-muscle":
        line = calibration.from_tissues(intake.volume)
    elif table.method == "phantom":
        assert table.material is not None  # checked
        inserts = tuple(
            calibration.Insert(i.points_mm[0], i.points_mm[-1], i.radius_mm, i.density_mg_cm3)
            for i in table.inserts
        )
        line = calibration.from_phantom(intake.volume, inserts, table.material)
    else:
        assert table.slope is not None  # checked
        assert table.offset_mg_cm3 is not None
        assert table.kvp is not None
        line = calibration.fixed(table.slope, table.offset_mg_cm3, table.kvp, intake.info.kvp)
    context.progress(0.5, "contrast and metal")
    doubts = calibration.density_doubts(intake.volume, bones.labels, intake.info.contrast)
    return StageOutput(line, line.metrics(), (*line.doubts, *doubts))


def _parameters(config: CaseConfig) -> Any:
    return config.calibration.model_dump(mode="json")


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "calibration", "Bone density from HU", ("intake", "bones"), ("imaging",), _parameters, _inputs,
    run, 3.0,
)  # fmt: skip
