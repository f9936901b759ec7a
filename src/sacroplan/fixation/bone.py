"""The bone a screw may lie in: one bone, or several across joints that a screw may bridge.

The *walls* are the faces a thread must keep clear of. Where a screw may cross a joint, the joint's own
faces are no walls. Distances to walls are exact, on the meshes themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray, same_frame
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.geometry.tree import face_tree
from sacroplan.geometry.volume import VolumeGeometry


@dataclass(frozen=True, eq=False)
class Walls:
    """Faces prepared for exact distances to segments: a tree of balls over a surface, open or closed."""

    surface: Surface
    first_leaf: int
    corners: FloatArray
    face_ball: FloatArray
    node_ball: FloatArray

    def gaps(
        self,
        starts: FloatArray,
        ends: FloatArray,
        stop_mm: FloatArray | float = 0.0,
        reach_mm: float = np.inf,
    ) -> tuple[FloatArray, FloatArray]:
        """Exact distance (n,) of segments (n, 3) to the faces, and where on them (0 to 1).

        0 where a segment crosses a face. Segments found nearer than ``stop_mm`` (n,) get some
        distance below it; distances beyond ``reach_mm`` read ``reach_mm``.
        """
        from sacroplan.fixation._exact_kernels import axis_gaps

        a = np.ascontiguousarray(np.asarray(starts, dtype=np.float64).reshape(-1, 3))
        b = np.ascontiguousarray(np.asarray(ends, dtype=np.float64).reshape(-1, 3))
        gap, place = np.empty(len(a)), np.empty(len(a))
        stop = np.ascontiguousarray(np.broadcast_to(np.asarray(stop_mm, dtype=np.float64), len(a)))
        axis_gaps(
            self.corners,
            self.face_ball,
            self.node_ball,
            self.first_leaf,
            a,
            b,
            stop,
            reach_mm,
            gap,
            place,
        )
        return gap, place


def walls_of(surface: Surface) -> Walls:
    """Prepare a surface for exact distances."""
    from sacroplan.fixation._exact_kernels import balls_of

    tree = face_tree(surface)
    corners = np.ascontiguousarray(surface.vertices[tree.faces])
    face_ball, node_ball = np.empty((len(corners), 4)), np.empty((len(tree.node_low), 4))
    balls_of(corners, tree.node_low, tree.node_high, face_ball, node_ball)
    return Walls(surface, tree.first_leaf, corners, face_ball, node_ball)


@dataclass(frozen=True, eq=False)
class Bone:
    """Closed ``solids`` and what of their faces is wall.

    Attributes
    ----------
    joint : per solid (m,), True for the faces of a joint that may be crossed.
    walls : all other faces, open where a joint was.
    """

    solids: tuple[Surface, ...]
    joint: tuple[npt.NDArray[np.bool_], ...]
    walls: Walls

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.walls.surface.frame

    def outside_mm(self, points: FloatArray) -> FloatArray:
        """How far points (n, 3) lie outside the bone; negative inside: the distance to the walls.

        A point in a joint's gap, between two joint faces, is inside.
        """
        import igl

        p = np.ascontiguousarray(np.asarray(points, dtype=np.float64).reshape(-1, 3))
        signed, at_joint = [], []
        for solid, joint in zip(self.solids, self.joint, strict=True):
            d2, face, _ = igl.point_mesh_squared_distance(p, solid.vertices, solid.faces)
            inside = igl.fast_winding_number(solid.vertices, solid.faces, p) > 0.5
            signed.append(np.where(inside, -1.0, 1.0) * np.sqrt(d2))
            at_joint.append(joint[np.asarray(face).reshape(-1)])
        value = np.min(signed, axis=0)
        if len(self.solids) > 1:
            bridged = np.count_nonzero(
                np.array(at_joint) & (np.array(signed) <= joint_gap_mm()), axis=0
            )
            wall = self.walls.surface
            d2 = igl.point_mesh_squared_distance(p, wall.vertices, wall.faces)[0]
            within = (value < 0.0) | (bridged > 1)
            value = np.where(within, -np.sqrt(d2), value)
        return np.asarray(value)

    def depth(self, geometry: VolumeGeometry) -> npt.NDArray[np.float32]:
        """Distance to the walls on a grid (mm), negative outside the bone and its joints' gaps."""
        from sacroplan.geometry.distance import closed
        from sacroplan.geometry.fields import distance_to_faces, inside_mask

        inside = np.zeros(geometry.shape, dtype=bool)
        for solid in self.solids:
            inside |= inside_mask(solid, geometry)
        if len(self.solids) > 1:
            h = float(geometry.spacing_mm[0])
            # Two faces a gap apart meet when each side grows by half of it.
            inside = closed(inside, 0.5 * joint_gap_mm() / h + 1.0)
        d = distance_to_faces(self.walls.surface, geometry)
        return np.ascontiguousarray(np.where(inside, d, -d), dtype=np.float32)


def joint_gap_mm() -> float:
    """Bones nearer than this to each other face each other across a joint."""
    return evidence.value("SP-FIX-07", "gap")


def one_bone(solid: Surface) -> Bone:
    """A bone whose whole surface is wall."""
    solid.require_closed("a bone to be screwed")
    return Bone((solid,), (np.zeros(len(solid.faces), dtype=bool),), walls_of(solid))


def joined(solids: Sequence[Surface]) -> Bone:
    """Neighbouring bones as one, open across their joints: faces that have another of the bones
    within the joint's gap (real surfaces may even overlap there)."""
    if len(solids) == 1:
        return one_bone(solids[0])
    frame = same_frame(*solids)
    gap = joint_gap_mm()
    whole = [walls_of(s.require_closed("a bone to be screwed")) for s in solids]
    masks = []
    for n, own in enumerate(solids):
        middle = own.triangles.mean(axis=1)
        mask = np.zeros(len(middle), dtype=bool)
        for m, other in enumerate(solids):
            if m == n:
                continue
            low, high = other.bounds
            near = np.flatnonzero(np.all((middle > low - gap) & (middle < high + gap), axis=1))
            if len(near):
                # A face's middle is a segment of no length.
                p = np.ascontiguousarray(middle[near])
                mask[near] |= whole[m].gaps(p, p, 0.0, gap)[0] < gap
        masks.append(mask)
    if not any(m.any() for m in masks):
        raise PlanError(
            f"The bones to be joined by a screw lie more than {gap:g} mm apart; there is no joint to "
            "cross. Check the segmentation of the sacroiliac joint."
        )
    parts = [
        Surface(s.vertices, s.faces[~m], frame) for s, m in zip(solids, masks, strict=True)
    ]  # fmt: skip
    return Bone(tuple(solids), tuple(masks), walls_of(concatenate(parts)))
