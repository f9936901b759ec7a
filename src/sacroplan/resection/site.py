"""The patient as resection planning sees him: bones, landmarks, levels of the sacrum, joints.

Everything that does not depend on the cuts is found once here, so that a plane can be dragged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.anatomy.landmarks_joint import Contact, find_contact
from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import to_manifold
from sacroplan.geometry.frames import AxisFrame, FloatArray, unit
from sacroplan.geometry.surface import Surface
from sacroplan.resection.total import LEAST_AREA_MM2, SacroiliacJoint
from sacroplan.resection.tumour import Tumour

SIDES = ("left", "right")
FORAMINA = (1, 2, 3, 4)

WANTED_BONES = ("sacrum", "L5", "hip_left", "hip_right")
"""Bones that a resection may cut."""


PROBES = 400
"""Points of the tumour's surface that tell whether it meets a bone at all."""


@dataclass(frozen=True, eq=False)
class Site:
    """Bones and landmarks around the sacrum.

    Attributes
    ----------
    bones : closed surfaces by name. frames : anatomical frames. points : landmarks, LPS mm.
    tumour : None where unknown. vessels : closed surfaces by name, where a mask was given.
    """

    bones: Mapping[str, Surface]
    frames: Mapping[str, AxisFrame]
    points: Mapping[str, FloatArray]
    tumour: Tumour | None = None
    vessels: Mapping[str, Surface] = field(default_factory=dict)
    _solids: dict[str, Any] = field(default_factory=dict, repr=False)
    _sawn: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.bones["sacrum"].frame

    @property
    def pelvis(self) -> AxisFrame:
        """FRM-1: x anterior, y cranial, z right."""
        return self.frames["pelvis"]

    def solid(self, bone: str) -> Any:
        """The bone as a manifold3d solid, built once."""
        if bone not in self._solids:
            self._solids[bone] = to_manifold(self.bones[bone], bone)
        return self._solids[bone]

    def bone(self, name: str) -> Surface:
        """A bone, or an error that names what there is."""
        if name not in self.bones:
            raise PlanError(
                f"The resection needs the bone {name}, which is not labelled; there are "
                f"{', '.join(sorted(self.bones))}. Add its label or choose another type."
            )
        return self.bones[name]

    def point(self, name: str) -> FloatArray:
        """A landmark, or an error that says how to give it."""
        if name not in self.points:
            raise PlanError(
                f"The resection needs the landmark {name}, which was not found. Give it under "
                "[landmarks] in case.toml, or give the plane under [resection.cuts]."
            )
        return np.asarray(self.points[name], dtype=np.float64)

    @cached_property
    def contacts(self) -> Mapping[str, Contact]:
        """Sacroiliac contact faces of the hip bones by side; a side without a joint is absent."""
        reach = evidence.value("SP-RES-02", "joint_space")
        out = {}
        for side in SIDES:
            if f"hip_{side}" not in self.bones:
                continue
            found = find_contact(self.bones[f"hip_{side}"], self.bones["sacrum"], reach)
            if found is not None and float(found.areas.sum()) >= LEAST_AREA_MM2:
                out[side] = found
        return out

    def joint(self, side: str) -> SacroiliacJoint:
        """One sacroiliac joint; raises :class:`PlanError` where bones do not meet."""
        if side not in self.contacts:
            reach = evidence.value("SP-RES-02", "joint_space")
            raise PlanError(
                f"The {side} sacroiliac joint was not found: less than {LEAST_AREA_MM2:.0f} mm2 of the "
                f"hip bone lie within {reach:g} mm of the sacrum and face it. Check the bone labels."
            )
        return SacroiliacJoint(side, self.contacts[side].patch)

    def foramen(self, level: int, side: str) -> FloatArray | None:
        """(3,) middle of a sacral foramen between its ventral and dorsal mouth; None where unknown."""
        mouths = [f"S{level}{k}F_{side[0].upper()}" for k in "AP"]
        known = [self.points[m] for m in mouths if m in self.points]
        return np.mean(known, axis=0) if known else None

    @cached_property
    def levels(self) -> FloatArray:
        """(6, 3) middle of the sacrum at S1's endplate, at each pair of foramina to S4, at its tip.

        Where a pair is missing it is continued from those above; without the first two the levels
        are spaced evenly down to the lowest point of the sacrum.
        """
        out = [self.frames["S1EP"].origin]
        for n in FORAMINA:
            pair = [self.points.get(f"S{n}AF_{s}") for s in "LR"]
            if any(p is None for p in pair):
                break
            out.append(0.5 * (np.asarray(pair[0]) + np.asarray(pair[1])))
        if len(out) < 3:
            vertices = self.bones["sacrum"].vertices
            tip = vertices[int(np.argmin(vertices @ self.pelvis.axes[:, 1]))]
            tip = tip - ((tip - out[0]) @ self.right) * self.right
            share = np.arange(len(FORAMINA) + 2)[:, None] / (len(FORAMINA) + 1)
            return np.asarray(out[0] + share * (tip - out[0]))
        while len(out) < len(FORAMINA) + 1:
            out.append(2.0 * out[-1] - out[-2])
        out.append(2.0 * out[-1] - out[-2])
        return np.asarray(out)

    def require_levels(self) -> None:
        """Raise :class:`PlanError` where too few foramina were found to place a cut by them."""
        if self.levels_known < 2:
            raise PlanError(
                "The ventral foramina of S1 and S2 were not found, so no sacral level can be told. "
                "Give S1AF_L, S1AF_R, S2AF_L and S2AF_R under [landmarks] in case.toml."
            )

    @property
    def levels_known(self) -> int:
        """Number of sacral levels whose foramina were found on both sides."""
        return sum(all(f"S{n}AF_{s}" in self.points for s in "LR") for n in FORAMINA)

    @cached_property
    def right(self) -> FloatArray:
        """(3,) unit vector to the patient's right, square to the sacrum's own midline."""
        pairs = [
            np.asarray(self.points[f"S{n}AF_R"]) - np.asarray(self.points[f"S{n}AF_L"])
            for n in FORAMINA
            if all(f"S{n}AF_{s}" in self.points for s in "LR")
        ]
        return unit(np.sum([unit(p) for p in pairs], axis=0) if pairs else self.pelvis.axes[:, 2])

    def middle(self, level: float) -> FloatArray:
        """(3,) midline point at a level: 0 S1's endplate, n the foramina of Sn, 5 the sacrum's tip."""
        k = np.arange(len(self.levels))
        return np.array([np.interp(level, k, self.levels[:, i]) for i in range(3)])

    def caudal(self, level: float) -> FloatArray:
        """(3,) unit tangent of the sacrum at a level, caudal, square to :attr:`right`."""
        d = self.middle(min(level + 0.6, 5.0)) - self.middle(max(level - 0.6, 0.0))
        return unit(d - (d @ self.right) * self.right)

    def dorsal(self, level: float) -> FloatArray:
        """(3,) unit vector out of the back of the sacrum at a level."""
        d = np.cross(self.right, self.caudal(level))
        return unit(d if d @ self.pelvis.axes[:, 0] < 0 else -d)

    @cached_property
    def foramen_radius(self) -> float:
        """Half the height of a ventral S1 foramen [DIM-05], mm."""
        return 0.5 * evidence.value("DIM-05", "height")

    @cached_property
    def tumour_to_bone_mm(self) -> float:
        """Distance of the tumour from the bones that can be resected, 0 where it meets one."""
        import igl

        if self.tumour is None:
            return 0.0
        vertices = self.tumour.surface.vertices
        probe = np.ascontiguousarray(vertices[:: max(1, len(vertices) // PROBES)])
        best = np.inf
        for name in WANTED_BONES:
            if name in self.bones:
                bone = self.bones[name]
                signed = igl.signed_distance(
                    probe, bone.vertices, bone.faces, igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
                )[0]
                best = min(best, float(np.asarray(signed).min()))
        return max(best, 0.0)

    def tip(self, side: str) -> FloatArray:
        """(3,) tip of L5's transverse process of a side."""
        v = self.bone("L5").vertices
        sign = 1.0 if side == "right" else -1.0
        return np.asarray(v[int(np.argmax(sign * (v @ self.pelvis.axes[:, 2])))])
