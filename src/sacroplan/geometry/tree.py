"""A box tree over the faces of a surface: crossing faces and wall thickness in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.geometry.surface import Surface

DEPTH_MM = 1e-6
"""Faces that enter each other by less only touch: a nanometre is rounding, not geometry."""

MOST_PAIRS = 100_000
"""Counting stops here: such a surface is beyond repair and the exact number says no more."""


@dataclass(frozen=True, eq=False)
class FaceTree:
    """Faces sorted into halves of halves, and boxes above them.

    ``order`` (m,) gives the original number of each sorted face.
    """

    surface: Surface
    order: npt.NDArray[np.int64]
    faces: IntArray
    low: FloatArray
    high: FloatArray
    first_leaf: int
    node_low: FloatArray
    node_high: FloatArray

    def crossing_faces(self, listed: int = 100) -> tuple[int, npt.NDArray[np.int64]]:
        """Number of face pairs that cross (at most :data:`MOST_PAIRS`), and up to ``listed`` of them (k, 2).

        Faces that touch, overlap in one plane or share an edge are not counted.
        """
        from sacroplan.geometry import _tree_kernels as _kernels

        pairs = np.full((listed, 2), -1, dtype=np.int64)
        count = _kernels.crossing_pairs(
            self.surface.vertices, self.faces, self.low, self.high, self.first_leaf,
            self.node_low, self.node_high, DEPTH_MM, MOST_PAIRS, pairs,
        )  # fmt: skip
        return int(count), self.order[pairs[: min(count, listed)]]

    def first_hits(
        self,
        origins: FloatArray,
        directions: FloatArray,
        start_mm: float,
        reach_mm: float = np.inf,
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Distance (n,) and original face (n,) first met by each ray beyond ``start_mm``, before
        ``reach_mm``.

        ``directions`` (n, 3) are unit vectors; inf and -1 where a ray meets nothing.
        """
        from sacroplan.geometry import _tree_kernels as _kernels

        distance = np.empty(len(origins))
        face = np.empty(len(origins), dtype=np.int64)
        _kernels.first_hits(
            self.surface.vertices, self.faces, self.first_leaf, self.node_low, self.node_high,
            np.ascontiguousarray(origins), np.ascontiguousarray(directions), start_mm,
            reach_mm, distance, face,
        )  # fmt: skip
        return distance, np.where(face >= 0, self.order[face], -1)


def face_tree(surface: Surface) -> FaceTree:
    """Tree over all faces of ``surface``."""
    from sacroplan.geometry import _tree_kernels as _kernels

    corners = surface.triangles
    low, high = corners.min(axis=1), corners.max(axis=1)
    leaves = 1
    while leaves * _kernels.LEAF < len(low):
        leaves *= 2
    order = np.arange(len(low))
    _kernels.halve(np.ascontiguousarray((low + high).T), leaves, order)
    low, high = np.ascontiguousarray(low[order]), np.ascontiguousarray(high[order])
    node_low = np.full((2 * leaves - 1, 3), np.inf)
    node_high = np.full((2 * leaves - 1, 3), -np.inf)
    _kernels.fill_tree(low, high, leaves - 1, node_low, node_high)
    faces = np.ascontiguousarray(surface.faces[order])
    return FaceTree(surface, order, faces, low, high, leaves - 1, node_low, node_high)
