"""Closed triangle surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray, IntArray, Rigid, readonly


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles: ``vertices`` (n, 3) LPS mm float64, ``faces`` (m, 3) int32, outward by right hand."""

    vertices: FloatArray
    faces: IntArray
    frame: str = DEFAULT_FRAME

    def __post_init__(self) -> None:
        v = np.ascontiguousarray(self.vertices, dtype=np.float64).reshape(-1, 3)
        f = np.ascontiguousarray(self.faces, dtype=np.int32).reshape(-1, 3)
        if f.size and (f.min() < 0 or f.max() >= len(v)):
            raise GeometryError("A face names a vertex that does not exist.")
        if not np.all(np.isfinite(v)):
            raise GeometryError("A surface vertex is not a finite number.")
        # Copies are locked, the caller's own arrays stay writeable.
        object.__setattr__(self, "vertices", readonly(v.copy() if v is self.vertices else v))
        object.__setattr__(self, "faces", readonly(f.copy() if f is self.faces else f))

    @property
    def triangles(self) -> FloatArray:
        """(m, 3, 3) corner coordinates, mm."""
        return self.vertices[self.faces]

    @property
    def area_vectors(self) -> FloatArray:
        """(m, 3) face normals with the length of the face's area (mm2)."""
        t = self.triangles
        return np.asarray(0.5 * np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]))

    @property
    def face_normals(self) -> FloatArray:
        """(m, 3) unit normals; zero for degenerate faces."""
        a = self.area_vectors
        length = np.linalg.norm(a, axis=1, keepdims=True)
        return np.asarray(np.divide(a, length, out=np.zeros_like(a), where=length > 0))

    @property
    def vertex_normals(self) -> FloatArray:
        """(n, 3) area-weighted unit normals."""
        out = np.zeros_like(self.vertices)
        a = self.area_vectors
        for corner in range(3):
            for axis in range(3):
                out[:, axis] += np.bincount(
                    self.faces[:, corner], weights=a[:, axis], minlength=len(out)
                )
        length = np.linalg.norm(out, axis=1, keepdims=True)
        return np.asarray(np.divide(out, length, out=np.zeros_like(out), where=length > 0))

    @property
    def area_mm2(self) -> float:
        """Total area."""
        return float(np.linalg.norm(self.area_vectors, axis=1).sum())

    @property
    def volume_mm3(self) -> float:
        """Signed enclosed volume; positive for an outward-oriented closed surface."""
        t = self.triangles - (self.vertices.mean(axis=0) if len(self.vertices) else 0.0)
        return float(np.einsum("ij,ij->i", t[:, 0], np.cross(t[:, 1], t[:, 2])).sum() / 6.0)

    @property
    def centroid(self) -> FloatArray:
        """(3,) centre of the enclosed volume."""
        shift = self.vertices.mean(axis=0)
        t = self.triangles - shift
        det = np.einsum("ij,ij->i", t[:, 0], np.cross(t[:, 1], t[:, 2]))
        return np.asarray(shift + (t.sum(axis=1) * det[:, None]).sum(axis=0) / (4.0 * det.sum()))

    @property
    def bounds(self) -> FloatArray:
        """(2, 3) lowest and highest corner, mm."""
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    @property
    def is_closed(self) -> bool:
        """Every directed edge has exactly one opposite: watertight, manifold edges, oriented."""
        if not len(self.faces):
            return False
        f = self.faces.astype(np.int64)
        edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
        n = len(self.vertices)
        forward = np.sort(edges[:, 0] * n + edges[:, 1])
        backward = np.sort(edges[:, 1] * n + edges[:, 0])
        return bool(np.all(np.diff(forward) > 0) and np.array_equal(forward, backward))

    def body_count(self) -> int:
        """Number of pieces connected through shared vertices."""
        return len(np.unique(self._components())) if len(self.faces) else 0

    def _components(self) -> npt.NDArray[np.int32]:
        """(m,) component number of every face."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        f = self.faces
        i = np.concatenate([f[:, 0], f[:, 1]])
        j = np.concatenate([f[:, 1], f[:, 2]])
        n = len(self.vertices)
        graph = coo_matrix((np.ones(len(i), dtype=np.int8), (i, j)), shape=(n, n))
        _, of_vertex = connected_components(graph, directed=False)
        return np.asarray(of_vertex[f[:, 0]], dtype=np.int32)

    def bodies(self) -> list[Surface]:
        """Connected pieces, largest absolute volume first."""
        label = self._components()
        pieces = [self.subset(label == c) for c in np.unique(label)]
        return sorted(pieces, key=lambda s: -abs(s.volume_mm3))

    def subset(self, faces: npt.NDArray[np.bool_]) -> Surface:
        """The faces selected by a mask (m,), unused vertices dropped."""
        chosen = self.faces[faces]
        used, inverse = np.unique(chosen, return_inverse=True)
        return Surface(self.vertices[used], inverse.reshape(-1, 3).astype(np.int32), self.frame)

    def transformed(self, rigid: Rigid, frame: str | None = None) -> Surface:
        """The surface moved by ``rigid``."""
        return Surface(rigid.points(self.vertices), self.faces, frame or self.frame)

    def mirrored(self, axis: int = 0) -> Surface:
        """Mirror image across LPS axis ``axis`` = 0 (left-right by default), orientation kept outward."""
        v = self.vertices.copy()
        v[:, axis] *= -1.0
        return Surface(v, self.faces[:, ::-1], self.frame)

    def require_closed(self, what: str) -> Surface:
        """Return self, or raise naming ``what`` when open, inverted or empty."""
        if not len(self.faces):
            raise GeometryError(f"The surface of {what} is empty.")
        if not self.is_closed:
            raise GeometryError(
                f"The surface of {what} is not watertight ({len(self.faces)} faces); "
                "close its holes before it is used as a solid."
            )
        if self.volume_mm3 <= 0:
            raise GeometryError(f"The surface of {what} is inside out (negative volume).")
        return self


def concatenate(surfaces: list[Surface]) -> Surface:
    """Put surfaces side by side in one object (no boolean)."""
    from sacroplan.geometry.frames import same_frame

    if not surfaces:
        raise GeometryError("No surface to concatenate.")
    frame = same_frame(*surfaces)
    offsets = np.cumsum([0] + [len(s.vertices) for s in surfaces[:-1]])
    vertices = np.concatenate([s.vertices for s in surfaces])
    faces = np.concatenate([s.faces + o for s, o in zip(surfaces, offsets, strict=True)])
    return Surface(vertices, faces.astype(np.int32), frame)
