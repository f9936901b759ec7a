"""The stages of a plan, in order; the dossier follows in :mod:`sacroplan.report.stages`."""

from __future__ import annotations

from sacroplan.case.stage import Stage
from sacroplan.case.steps import (
    bones,
    calibration,
    compare,
    construct,
    construct_rods,
    exports,
    fusion,
    guides,
    implant,
    intake,
    landmarks,
    mechanics,
    navigation,
    options,
    prints,
    resection,
    rods,
    screws,
    tumour,
)

PLAN_STAGES: tuple[Stage, ...] = (
    intake.STAGE,
    bones.STAGE,
    calibration.STAGE,
    fusion.STAGE,
    fusion.CHECK,
    tumour.STAGE,
    landmarks.STAGE,
    resection.STAGE,
    screws.STAGE,
    implant.STAGE,
    rods.STAGE,
    options.STAGE,
    guides.STAGE,
    mechanics.STAGE,
    compare.STAGE,
    prints.STAGE,
    navigation.RESECTION_STAGE,
    exports.STAGE,
)

FIXATION_STAGES: tuple[Stage, ...] = (
    intake.STAGE,
    bones.STAGE,
    fusion.STAGE,
    fusion.CHECK,
    tumour.STAGE,
    landmarks.STAGE,
    construct.STAGE,
    options.CONSTRUCT_STAGE,
    construct_rods.STAGE,
    navigation.STAGE,
)
"""Screws and rods alone: palliative fixation, where nothing is resected."""
