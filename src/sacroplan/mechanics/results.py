"""What the mechanical study answers: solved models with their fields, tables, decks and doubts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import Doubt
from sacroplan.geometry.frames import FloatArray
from sacroplan.imaging.calibration import Calibration
from sacroplan.mechanics.materials import Materials
from sacroplan.mechanics.mesh import TetMesh
from sacroplan.mechanics.meshing import MeshReport
from sacroplan.mechanics.problem import Problem, Solution
from sacroplan.metrics import Metrics


@dataclass(frozen=True, eq=False)
class ModelResult:
    """One solved model, LPS.

    Attributes
    ----------
    name : "intact" or "reconstructed".
    problem : mesh, moduli, held nodes and loads in LPS.
    solution : displacements and reactions in LPS.
    materials : what each element is made of.
    report : what the mesher did.
    cases : names of the load cases whose fields are kept, in the order of the arrays.
    von_mises_mpa : (m, c) element means.
    risk : (m, c) bone risk factor, element means, NaN in metal, joints and voids.
    energy_n_mm_per_mm3 : (m, c) strain energy density, element means.
    energy_ratio : (m, c) against the intact model, NaN where not compared; empty for the intact.
    figures : metrics of this model, names without prefix.
    """

    name: str
    problem: Problem
    solution: Solution
    materials: Materials
    report: MeshReport
    cases: tuple[str, ...]
    von_mises_mpa: FloatArray
    risk: FloatArray
    energy_n_mm_per_mm3: FloatArray
    energy_ratio: FloatArray
    figures: Metrics

    @property
    def mesh(self) -> TetMesh:
        """The mesh in LPS."""
        return self.problem.mesh

    def point_data(self) -> dict[str, FloatArray]:
        """Fields on nodes for ParaView."""
        return {
            f"displacement_{case}_mm": self.solution.displacement[:, :, c].astype(np.float32)
            for c, case in enumerate(self.cases)
        }

    def cell_data(self) -> dict[str, npt.NDArray[Any]]:
        """Fields on elements for ParaView; what does not apply is -1."""
        out: dict[str, npt.NDArray[Any]] = {
            "part": self.mesh.part.astype(np.int32),
            "young_mpa": self.problem.young_mpa,
            "apparent_density_g_cm3": np.nan_to_num(self.materials.apparent_g_cm3, nan=-1.0),
            "cortical_share": self.materials.cortical_share,
        }
        for c, case in enumerate(self.cases):
            out[f"von_mises_{case}_mpa"] = self.von_mises_mpa[:, c]
            out[f"risk_{case}"] = np.nan_to_num(self.risk[:, c], nan=-1.0)
            out[f"energy_{case}_n_mm_per_mm3"] = self.energy_n_mm_per_mm3[:, c]
            if self.energy_ratio.size:
                out[f"energy_ratio_{case}"] = np.nan_to_num(self.energy_ratio[:, c], nan=-1.0)
        # Single precision is more than the model deserves and halves the file.
        return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in out.items()}


@dataclass(frozen=True, eq=False)
class SeatMaps:
    """The frictional stages for ParaView, LPS: the parted mesh with what happens at its seats.

    Attributes
    ----------
    mesh : the parted mesh; both sides of a seat carry its values, other nodes -1.
    fields : (n,) or (n, 3) on nodes: displacement, relative motion um, pressure MPa, opening um.
    """

    mesh: TetMesh
    fields: Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class MechanicsResult:
    """The study: both models, figures, decks, doubts.

    ``decks`` maps model names to Abaqus/CalculiX input files; ``table`` has one row per metal part
    and load case for the dossier, ``bars`` one per screw or rod and case, ``healing`` one per stage;
    ``seats`` are the maps of the frictional stages, None where they were not computed.
    """

    intact: ModelResult
    reconstructed: ModelResult
    decks: Mapping[str, bytes]
    table: tuple[Mapping[str, str | float], ...]
    bars: tuple[Mapping[str, str | float], ...]
    healing: tuple[Mapping[str, str | float], ...]
    seats: SeatMaps | None
    calibration: Calibration
    figures: Metrics
    doubts: tuple[Doubt, ...]

    def metrics(self) -> Metrics:
        """All figures under ``mechanics.``."""
        return dict(self.figures)
