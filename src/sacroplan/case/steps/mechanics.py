"""Finite elements of the intact and the reconstructed pelvis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.intake import Intake
from sacroplan.case.steps.resection import Resection, beyond_models
from sacroplan.case.steps.screws import Screws
from sacroplan.errors import AnatomyError
from sacroplan.geometry.frames import FloatArray
from sacroplan.resection.plan import SIDES

if TYPE_CHECKING:
    from sacroplan.fixation.rods import Rods
    from sacroplan.mechanics.materials import PorousMaterial
    from sacroplan.mechanics.results import ModelResult, SeatMaps
    from sacroplan.mechanics.study import MechanicsInput

CORE = "implant_core"
"""Name of the implant's solid part in the model."""


@dataclass(frozen=True, eq=False)
class Mechanics:
    """What the dossier shows of the study; the full fields are in the VTU files.

    Attributes
    ----------
    table : one row per metal part and load case.
    bars : section forces, one row per screw or rod and load case.
    healing : one row per stage of healing; empty where they were not computed.
    cases : load case names, the order of the columns below.
    points : (n, 3) centroids of the implant core's elements, LPS mm.
    von_mises_mpa : (n, c) their von Mises stress.
    """

    table: tuple[Mapping[str, str | float], ...]
    bars: tuple[Mapping[str, str | float], ...]
    healing: tuple[Mapping[str, str | float], ...]
    cases: tuple[str, ...]
    points: FloatArray
    von_mises_mpa: FloatArray


def porous_materials(context: Context) -> dict[str, PorousMaterial]:
    """Stiffness tensor of every porous layer's cell, along the axes in which the layer is filled."""
    from sacroplan import evidence
    from sacroplan.lattice.layer import layer_axes
    from sacroplan.lattice.properties import effective
    from sacroplan.mechanics.materials import PorousMaterial

    implant = context.result("implant")
    axes = context.result("landmarks").frames["pelvis"].axes
    solid_mpa = 1000.0 * evidence.value("MAT-T1", "modulus")
    solid_nu = evidence.value("MAT-T1", "poisson")
    return {
        name: PorousMaterial(
            effective(wanted.cell_type, wanted.density, solid_mpa, solid_nu).stiffness_mpa,
            layer_axes(implant.porous[name], implant.core, axes),
            rows=("LAT-01", "LAT-02", *wanted.rows),
        )
        for name, wanted in sorted(implant.lattice.items())
        if name in implant.porous
    }


def study_input(context: Context) -> MechanicsInput:
    """The plan as the mechanics room wants it."""
    from sacroplan.mechanics.model import RodSolid, ScrewSolid
    from sacroplan.mechanics.study import MechanicsInput, MechanicsOptions

    intake: Intake = context.result("intake")
    bones: BoneModel = context.result("bones")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    screws: Screws = context.result("screws")
    implant = context.result("implant")
    rods: Rods = context.result("rods")
    centres: dict[str, FloatArray] = {}
    for side in SIDES:
        name = f"HJC_{side[0].upper()}"
        if name not in landmarks.points:
            raise AnatomyError(
                f"The {side} hip centre was not found, so the model cannot be held there. Give "
                f"{name} under [landmarks] in case.toml."
            )
        centres[side] = landmarks.points[name]
    solids = [
        ScrewSolid(p.screw.name, p.screw.head, p.screw.tip, p.screw.diameter_mm)
        for p in screws.plans
    ] + [ScrewSolid(s.name, s.head, s.tip, s.diameter_mm) for s in implant.wing_screws]
    table = context.config.mechanics
    endplate = landmarks.frames["L4SEP"]
    wanted = ("L4", "L5", "sacrum", "hip_left", "hip_right")
    return MechanicsInput(
        intake.volume,
        {name: bones.surfaces[name] for name in wanted},
        resection.plan.remnants,
        implant.core,
        implant.porous,
        tuple(solids),
        tuple(RodSolid(f"rod_{r.side}", r.polyline, r.diameter_mm) for r in rods.rods),
        centres,
        landmarks.frames["pelvis"],
        (endplate.origin, endplate.axes[:, 1]),
        context.config.patient.body_mass_kg,
        calibration=context.result("calibration"),
        porous_material=porous_materials(context),
        landmarks=landmarks.points,
        options=MechanicsOptions(
            # A graded layer is as strong as its most porous part.
            porosity=max((1.0 - min(x.ends) for x in implant.lattice.values()), default=None),
            envelope=table.envelope,
            bone_element_mm=table.bone_element_mm,
            metal_element_mm=table.metal_element_mm,
            catalogue=table.catalogue,
            healing=table.healing,
            joints=table.joints,
        ),
    )


def run(context: Context) -> StageOutput:
    """Solve both models and write decks and fields."""
    from sacroplan.mechanics.study import evaluate

    result = evaluate(study_input(context), context.progress)
    files: dict[str, Callable[[Path], None]] = {}
    for name, deck in sorted(result.decks.items()):
        files[f"dossier/mechanics/{name}.inp"] = _bytes(deck)
    for model in (result.intact, result.reconstructed):
        files[f"dossier/mechanics/{model.name}.vtu"] = _fields(model)
    if result.seats is not None:
        files["dossier/mechanics/frictional.vtu"] = _seats(result.seats)
    after = result.reconstructed
    core = after.mesh.part == after.mesh.names.index(CORE)
    shown = Mechanics(
        tuple(row for row in result.table if row["case"] in after.cases),
        result.bars,
        result.healing,
        after.cases,
        after.mesh.centroids[core],
        after.von_mises_mpa[core],
    )
    # The calibration has told its doubts already; they stand beside these in the dossier.
    told = result.calibration.doubts
    doubts = tuple(d for d in result.doubts if d not in told)
    return StageOutput(shown, result.metrics(), doubts, files)


def _bytes(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def _fields(model: ModelResult) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from sacroplan.formats.vtu import write_vtu

        write_vtu(
            model.mesh.nodes, model.mesh.elements, model.point_data(), model.cell_data(), path
        )

    return write


def _seats(maps: SeatMaps) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from sacroplan.formats.vtu import write_vtu

        part = maps.mesh.part.astype("int32")
        write_vtu(maps.mesh.nodes, maps.mesh.elements, maps.fields, {"part": part}, path)

    return write


def _parameters(config: CaseConfig) -> Any:
    return {
        "mechanics": config.mechanics.model_dump(mode="json"),
        "mass": config.patient.body_mass_kg,
    }


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "mechanics", "Finite elements",
    ("intake", "bones", "calibration", "landmarks", "resection", "screws", "implant", "rods"),
    ("mechanics", "lattice", "formats"), _parameters, _inputs, run, 120.0,
    beyond_models("A finite-element model is"),
)  # fmt: skip
