"""The tetrahedral mesh: quadratic, straight-edged, one part number per element."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray, IntArray

EDGES = np.array([[0, 1], [1, 2], [2, 0], [0, 3], [1, 3], [2, 3]])
"""Corner pairs of the mid-edge nodes 4 to 9, in the C3D10 order of Abaqus and CalculiX."""

FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
"""Corner triples of the faces of a positive tetrahedron, outward (Abaqus faces S1 to S4)."""

FACE_EDGES = np.array([[6, 5, 4], [4, 8, 7], [5, 9, 8], [6, 7, 9]])
"""Mid-edge nodes of each face, between corners (0, 1), (1, 2) and (2, 0) of the face."""

_A, _B = (5.0 + 3.0 * 5.0**0.5) / 20.0, (5.0 - 5.0**0.5) / 20.0
GAUSS = np.array([[_A, _B, _B, _B], [_B, _A, _B, _B], [_B, _B, _A, _B], [_B, _B, _B, _A]])
"""(4, 4) barycentric integration points, each with a quarter of the volume (degree 2 exact)."""


@dataclass(frozen=True, eq=False)
class TetMesh:
    """Ten-node tetrahedra of several bonded parts.

    Attributes
    ----------
    nodes : (n, 3) node positions, LPS mm (or any one frame); the first ``corners`` are corners.
    elements : (m, 10) node numbers, C3D10 order, positive orientation, straight edges.
    part : (m,) index into ``names``.
    names, kinds : part names and kinds (see :mod:`sacroplan.mechanics.solids`).
    corners : number of corner nodes.
    """

    nodes: FloatArray
    elements: IntArray
    part: npt.NDArray[np.int16]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    corners: int

    @cached_property
    def volumes(self) -> FloatArray:
        """(m,) element volumes, mm3."""
        p = self.nodes[self.elements[:, :4]]
        e = p[:, 1:] - p[:, :1]
        return np.asarray(
            np.einsum("ij,ij->i", e[:, 0], np.cross(e[:, 1], e[:, 2])) / 6.0, dtype=np.float64
        )

    @cached_property
    def centroids(self) -> FloatArray:
        """(m, 3) element centroids."""
        return np.asarray(self.nodes[self.elements[:, :4]].mean(axis=1))

    @cached_property
    def quality(self) -> FloatArray:
        """(m,) mean-ratio quality, 1 for a regular tetrahedron."""
        from sacroplan.mechanics import _mesh_kernels

        return np.asarray(
            _mesh_kernels.qualities(self.nodes, np.ascontiguousarray(self.elements[:, :4]))
        )

    @cached_property
    def boundary(self) -> tuple[IntArray, IntArray]:
        """Outer faces: ((k, 6) nodes — corners outward, then mid-edges —, (k,) their elements)."""
        neighbours = face_neighbours(self.elements[:, :4])
        # Local face f of FACES lies opposite to this corner.
        opposite = np.array([3, 2, 0, 1])
        element, face = np.nonzero(neighbours[:, opposite] < 0)
        local = np.concatenate([FACES, FACE_EDGES], axis=1)[face]
        return (
            np.take_along_axis(self.elements[element], local, axis=1),
            element.astype(np.int32),
        )

    def of(self, name: str) -> npt.NDArray[np.bool_]:
        """(m,) elements of a part; all False when it has none."""
        if name not in self.names:
            return np.zeros(len(self.part), dtype=bool)
        return np.asarray(self.part == self.names.index(name))

    def of_kind(self, *kinds: str) -> npt.NDArray[np.bool_]:
        """(m,) elements of all parts of these kinds."""
        wanted = np.array([k in kinds for k in self.kinds])
        return np.asarray(wanted[self.part])

    def at_barycentric(self, barycentric: FloatArray) -> FloatArray:
        """(m, q, 3) points at barycentric coordinates (q, 4) of every element."""
        return np.asarray(np.einsum("qc,mcd->mqd", barycentric, self.nodes[self.elements[:, :4]]))

    def with_nodes(self, nodes: FloatArray) -> TetMesh:
        """The same topology with other node positions (same orientation)."""
        return TetMesh(nodes, self.elements, self.part, self.names, self.kinds, self.corners)


def face_neighbours(tets: IntArray) -> IntArray:
    """(m, 4) tetrahedron across the face opposite to each corner, -1 where there is none.

    ``tets`` (m, 4): every face belongs to one or two of them.
    """
    opposite = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    face = np.sort(tets[:, opposite].reshape(-1, 3), axis=1).astype(np.int64)
    n = int(tets.max()) + 1
    # Two corners to a key of 64 bits, the third breaks ties: no mesh is too large for it.
    order = np.lexsort((face[:, 2], face[:, 0] * n + face[:, 1]))
    face = face[order]
    same = np.flatnonzero(np.all(face[1:] == face[:-1], axis=1))
    a, b = order[same], order[same + 1]
    out = np.full(4 * len(tets), -1, dtype=np.int32)
    out[a], out[b] = b // 4, a // 4
    return out.reshape(-1, 4)


def quadratic(
    points: FloatArray,
    tets: IntArray,
    part: npt.NDArray[np.int16],
    names: tuple[str, ...],
    kinds: tuple[str, ...],
) -> TetMesh:
    """Ten-node mesh of linear tetrahedra (m, 4): one node in the middle of every edge."""
    n = len(points)
    pairs = np.sort(tets[:, EDGES].reshape(-1, 2), axis=1).astype(np.int64)
    keys, inverse = np.unique(pairs[:, 0] * n + pairs[:, 1], return_inverse=True)
    middle = 0.5 * (points[keys // n] + points[keys % n])
    elements = np.concatenate([tets, inverse.reshape(-1, 6) + n], axis=1).astype(np.int32)
    return TetMesh(np.concatenate([points, middle]), elements, part, names, kinds, n)


def face_integrals(nodes: FloatArray, faces: IntArray) -> FloatArray:
    """(k, 6) consistent nodal areas of six-node straight faces under a uniform pressure.

    A quadratic triangle carries a uniform traction on its mid-edge nodes alone, a third each.
    """
    p = nodes[faces[:, :3]]
    area = 0.5 * np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1)
    out = np.zeros(faces.shape, dtype=np.float64)
    out[:, 3:] = area[:, None] / 3.0
    return out


class Locator:
    """Finds the element that holds a point."""

    NEAR, FAR = 12, 80
    """How many nearest centroids are tried first, and for the points that are then still lost."""

    TOLERANCE = 1e-6
    """Barycentric slack, so that a point on a shared face belongs to one of its elements."""

    def __init__(self, mesh: TetMesh, chosen: npt.NDArray[np.bool_]) -> None:
        from scipy.spatial import cKDTree

        self._index = np.flatnonzero(chosen).astype(np.int32)
        self._points = mesh.nodes
        self._tets = np.ascontiguousarray(mesh.elements[self._index, :4])
        self._tree = cKDTree(mesh.centroids[self._index])

    def __call__(self, points: FloatArray) -> tuple[IntArray, FloatArray]:
        """((n,) element or -1, (n, 4) barycentric coordinates) of points (n, 3)."""
        from sacroplan.mechanics import _mesh_kernels

        found = np.full(len(points), -1, dtype=np.int32)
        bary = np.zeros((len(points), 4))
        lost = np.arange(len(points))
        for k in (self.NEAR, self.FAR):
            k = min(k, len(self._index))
            if not len(lost):
                break
            near = self._tree.query(points[lost], k=k)[1].reshape(len(lost), k)
            hit, b = _mesh_kernels.locate(
                points[lost], near, self._points, self._tets, self.TOLERANCE
            )
            ok = hit >= 0
            found[lost[ok]] = self._index[hit[ok]]
            bary[lost[ok]] = b[ok]
            lost = lost[~ok]
        return found, bary
