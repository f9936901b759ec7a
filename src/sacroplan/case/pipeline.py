"""The stages of a plan, in order; the dossier follows in :mod:`sacroplan.report.stages`."""

from __future__ import annotations

from sacroplan.case.stage import Stage
from sacroplan.case.steps import (
    bones,
    calibration,
    exports,
    fusion,
    guides,
    implant,
    intake,
    landmarks,
    mechanics,
    prints,
    resection,
    rods,
    screws,
)

PLAN_STAGES: tuple[Stage, ...] = (
    intake.STAGE,
    bones.STAGE,
    calibration.STAGE,
    fusion.STAGE,
    fusion.CHECK,
    landmarks.STAGE,
    resection.STAGE,
    screws.STAGE,
    implant.STAGE,
    rods.STAGE,
    guides.STAGE,
    mechanics.STAGE,
    prints.STAGE,
    exports.STAGE,
)
