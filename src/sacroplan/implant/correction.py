"""Lordosis and height that the implant corrects: the carried vertebra, and all above it, moved first.

Without a correction the vertebra keeps its place over the pelvis, and the implant takes over what the
patient's own disc and sacrum held. A correction turns the vertebra about the middle of its inferior
endplate in the sagittal plane and moves it along that endplate's normal; the implant is then built
under it there. Screws are planned in the CT's pose and move along with their bone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, Rigid
from sacroplan.implant.model import ImplantInput, ImplantParameters


def pose_of(inp: ImplantInput, p: ImplantParameters) -> Rigid | None:
    """How the carried vertebra moves, LPS; None where nothing is corrected.

    Raises :class:`PlanError` for a hemisacral implant: the half that stays holds the vertebra where it is.
    """
    if p.lordosis_change_deg == 0.0 and p.height_change_mm == 0.0:
        return None
    if inp.hemi_side is not None:
        raise PlanError(
            f"lordosis_change_deg = {p.lordosis_change_deg:g} and height_change_mm = "
            f"{p.height_change_mm:g} were asked of a hemisacral implant; the half of the sacrum that "
            f"stays holds {inp.level} where it is. Set both to 0, or resect the whole sacrum."
        )
    # Right of the pelvis points along z: a turn about it that is positive leans the endplate backwards.
    x, y, z = inp.axes.axes[:, 2]
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.radians(p.lordosis_change_deg)
    turn = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    pivot = inp.l5_endplate.origin
    lift = p.height_change_mm * inp.l5_endplate.axes[:, 1]
    return Rigid(turn, pivot - turn @ pivot + lift)


def corrected(inp: ImplantInput, pose: Rigid | None) -> ImplantInput:
    """The defect with the vertebra, the bones above it and the rods' heads moved by ``pose``."""
    if pose is None:
        return inp

    def frame(f: AxisFrame) -> AxisFrame:
        return AxisFrame(f.name, pose.points(f.origin), pose.rotation @ f.axes, f.frame)

    return replace(
        inp,
        l5=inp.l5.transformed(pose),
        l5_endplate=frame(inp.l5_endplate),
        upper_endplate=None if inp.upper_endplate is None else frame(inp.upper_endplate),
        keep_clear=tuple(s.transformed(pose) for s in inp.keep_clear),
        rod_targets={side: pose.points(np.asarray(v)) for side, v in inp.rod_targets.items()},
    )
