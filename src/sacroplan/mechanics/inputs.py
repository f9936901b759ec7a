"""What the mechanical study takes: a plan and how it is to be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sacroplan.geometry.frames import AxisFrame, FloatArray, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume
from sacroplan.imaging.calibration import Calibration
from sacroplan.mechanics.materials import PorousMaterial
from sacroplan.mechanics.model import RodSolid, ScrewSolid


@dataclass(frozen=True, slots=True)
class MechanicsOptions:
    """How the study is run.

    Attributes
    ----------
    engine : solver engine.
    law : bone law set (see :data:`sacroplan.mechanics.laws.LAW_SETS`).
    envelope : also solve the reconstructed model with the low and the high law set.
    porosity : of the porous layer, 0 to 1; POR-1 when None.
    max_unknowns : upper limit per model; sizes are scaled up to meet it.
    bone_element_mm, metal_element_mm : wanted element sizes; SP-MECH-08 when None.
    catalogue : "core" runs the cases that hold both acetabula (one set-up); "habitual" leaves out
        pure moments and log-roll; "full" adds single-leg stance, stairs and sitting, a set-up each.
    healing : also solve the frictional states before ingrowth.
    joints : "bonded" cartilage that carries tension; "contact" lets sacroiliac and facet joints only
        press and adds tension-only ligaments, which needs ``landmarks``.
    """

    engine: str = "multigrid"
    law: str = "default"
    envelope: bool = False
    porosity: float | None = None
    max_unknowns: int = 450_000
    bone_element_mm: float | None = None
    metal_element_mm: float | None = None
    catalogue: Literal["habitual", "core", "full"] = "core"
    healing: bool = False
    joints: Literal["bonded", "contact"] = "bonded"


@dataclass(frozen=True, eq=False)
class MechanicsInput:
    """A plan to be evaluated, everything in one frame, LPS mm.

    Attributes
    ----------
    volume : planning CT in HU.
    bones : intact bones, closed: L4, L5, sacrum, hip_left, hip_right.
    remnants : bones that the resection changed and that stay (the hips, perhaps part of the
        sacrum); L4 and L5 are taken from ``bones`` where absent. A bone that is in neither but was
        resected whole (the sacrum) is gone.
    implant_core, porous, screws, rods : the reconstruction; ``implant_core`` may be None.
    hip_centres : side ("left", "right") to (3,).
    axes : pelvic frame, x anterior, y cranial, z right (FRM-1).
    l4_superior : (point (3,), cranial normal (3,)) of L4's superior endplate.
    body_mass_kg : scales the load cases; None uses their published forces.
    porous_material : stiffness tensors of porous layers by name; the others take the isotropic law.
    calibration : HU to density; from the histogram of ``volume`` when None.
    landmarks : name to (3,), for the attachments of ligaments; only for joints in contact.
    """

    volume: Volume
    bones: Mapping[str, Surface]
    remnants: Mapping[str, Surface]
    implant_core: Surface | None
    porous: Mapping[str, Surface]
    screws: tuple[ScrewSolid, ...]
    rods: tuple[RodSolid, ...]
    hip_centres: Mapping[str, FloatArray]
    axes: AxisFrame
    l4_superior: tuple[FloatArray, FloatArray]
    body_mass_kg: float | None = None
    calibration: Calibration | None = None
    porous_material: Mapping[str, PorousMaterial] = field(default_factory=dict)
    landmarks: Mapping[str, FloatArray] = field(default_factory=dict)
    options: MechanicsOptions = field(default_factory=MechanicsOptions)

    @property
    def endplate(self) -> tuple[FloatArray, FloatArray]:
        """(point (3,), cranial unit normal (3,)) of L4's superior endplate in the local frame."""
        point, normal = self.l4_superior
        return self.axes.to_local(np.asarray(point)), unit(np.asarray(normal)) @ self.axes.axes
