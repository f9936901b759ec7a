"""Where two bones face each other: the sacroiliac joint (and the symphysis).

One search finds the faces of a bone that look at another bone across a gap; landmarks and resection
both start from it. The joint proper is the part whose faces are nearly parallel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray, readonly
from sacroplan.geometry.surface import Surface

FACING = -0.4
"""Cosine between the two facing normals; the joint is rough and curved, so 66 degrees are allowed."""

MIN_PIECE = 0.1
"""A separate patch smaller than this share of the largest is an accessory contact, not the joint."""

END_SHARE = 0.03
"""Share of the joint's area whose middle stands for its upper or lower limit: single faces at the edge
come and go with the surface's noise."""

CLOSEST = 0.25
"""Share of the facing area that gives the joint's own gap: its auricular part is at least that."""


@dataclass(frozen=True, slots=True, eq=False)
class Contact:
    """Faces of one bone that look at another one.

    Attributes
    ----------
    faces : (n,) numbers of the faces. patch : (n, 3) their centres, normals (n, 3), areas (n,) mm2.
    gap_mm : (n,) signed distance to the other bone, negative where they overlap.
    feet : (n, 3) nearest points of the other bone.
    """

    surface: Surface
    faces: npt.NDArray[np.intp]
    patch: FloatArray
    normals: FloatArray
    areas: FloatArray
    gap_mm: FloatArray
    feet: FloatArray

    def where(self, chosen: npt.NDArray[np.bool_]) -> Contact:
        """The faces selected by a mask (n,)."""
        return Contact(
            self.surface, self.faces[chosen], self.patch[chosen], self.normals[chosen],
            self.areas[chosen], self.gap_mm[chosen], self.feet[chosen],
        )  # fmt: skip

    def without_small_pieces(self) -> Contact:
        """Without the pieces that are small against the largest."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        f = self.surface.faces[self.faces]
        n = len(self.surface.vertices)
        i = np.concatenate([f[:, 0], f[:, 1]])
        j = np.concatenate([f[:, 1], f[:, 2]])
        graph = coo_matrix((np.ones(len(i), dtype=np.int8), (i, j)), shape=(n, n))
        _, group = connected_components(graph, directed=False)
        total = np.bincount(group[f[:, 0]], weights=self.areas)
        return self.where(total[group[f[:, 0]]] >= MIN_PIECE * total.max())

    def closest_gap_mm(self) -> float:
        """Gap of the closest quarter of the area."""
        return weighted_quantile(self.gap_mm, self.areas, CLOSEST)

    def middle(self) -> FloatArray:
        """(3,) area centroid, halfway between the two bones."""
        w = self.areas / self.areas.sum()
        return np.asarray(0.5 * (w @ self.patch + w @ self.feet))


def _faces_in(surface: Surface, bounds: FloatArray, margin_mm: float) -> npt.NDArray[np.intp]:
    """Numbers of the faces with a corner within ``margin_mm`` of the box ``bounds`` (2, 3)."""
    v = surface.vertices
    inside = np.all((v >= bounds[0] - margin_mm) & (v <= bounds[1] + margin_mm), axis=1)
    return np.flatnonzero(inside[surface.faces].any(axis=1))


def find_contact(bone: Surface, other: Surface, reach_mm: float) -> Contact | None:
    """Faces of ``bone`` that look at ``other`` within ``reach_mm``; None where there is none.

    Small separate pieces are left out.
    """
    import igl
    from scipy.spatial import cKDTree

    index = _faces_in(bone, other.bounds, reach_mm)
    met = _faces_in(other, bone.bounds, reach_mm)
    if not len(index) or not len(met):
        return None
    # Only faces that can come near are measured exactly, and only against faces that can be met.
    t = other.vertices[other.faces[met]]
    widest = float(np.linalg.norm(t - np.roll(t, 1, axis=1), axis=2).max())
    centres = bone.vertices[bone.faces[index]].mean(axis=1)
    corners = np.unique(other.faces[met])
    rough, _ = cKDTree(other.vertices[corners]).query(
        centres, distance_upper_bound=reach_mm + widest
    )
    index, centres = index[np.isfinite(rough)], centres[np.isfinite(rough)]
    if not len(index):
        return None
    query = np.ascontiguousarray(centres)
    squared, face, foot = igl.point_mesh_squared_distance(
        query, other.vertices, np.ascontiguousarray(other.faces[met])
    )
    # On an edge the nearest face is a matter of rounding; the blended normal is not.
    normal = _normal_at(other, met[np.asarray(face)], np.asarray(foot))
    ahead = np.einsum("ij,ij->i", query - foot, normal)
    gap = np.where(ahead >= 0.0, 1.0, -1.0) * np.sqrt(squared)
    t = bone.vertices[bone.faces[index]]
    vector = 0.5 * np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0])
    areas = np.linalg.norm(vector, axis=1)
    own = np.divide(vector, areas[:, None], out=np.zeros_like(vector), where=areas[:, None] > 0)
    chosen = (gap <= reach_mm) & (np.einsum("ij,ij->i", own, normal) < FACING)
    if not chosen.any():
        return None
    contact = Contact(
        bone,
        index[chosen],
        query[chosen],
        own[chosen],
        areas[chosen],
        gap[chosen],
        np.asarray(foot)[chosen],
    )
    return contact.without_small_pieces()


@dataclass(frozen=True, slots=True, eq=False)
class JointExtent:
    """Extent of one sacroiliac joint, LPS mm.

    Attributes
    ----------
    centre : (3,) area centroid between the two faces.
    cranial, caudal : (3,) middle of the outermost part of the iliac face, pelvis frame.
    anterior, posterior : (3,) its extreme points.
    lateral : (3,) the deepest point of the joint in the ilium; an iliac osteotomy that takes the
        whole joint passes lateral to it.
    patch : (n, 3) face centres of the iliac side, normals (n, 3) of the ilium there, areas (n,).
    area_mm2 : of the iliac face. gap_mm : median distance of the faces (negative: they overlap).
    """

    centre: FloatArray
    cranial: FloatArray
    caudal: FloatArray
    anterior: FloatArray
    posterior: FloatArray
    lateral: FloatArray
    patch: FloatArray
    normals: FloatArray
    areas: FloatArray
    area_mm2: float
    gap_mm: float

    def furthest(self, direction: npt.ArrayLike) -> FloatArray:
        """(3,) point of the iliac face furthest along an LPS ``direction``."""
        d = np.asarray(direction, dtype=np.float64)
        return np.asarray(self.patch[int(np.argmax(self.patch @ d))])


def _normal_at(surface: Surface, face: npt.NDArray[np.int64], point: FloatArray) -> FloatArray:
    """Unit normals (n, 3) at points on faces, blended between the corners' normals."""
    t = surface.triangles[face]
    e1, e2, w = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0], point - t[:, 0]
    d11, d12, d22 = (np.einsum("ij,ij->i", p, q) for p, q in ((e1, e1), (e1, e2), (e2, e2)))
    w1, w2 = np.einsum("ij,ij->i", w, e1), np.einsum("ij,ij->i", w, e2)
    area = np.maximum(d11 * d22 - d12 * d12, 1e-30)
    u, v = (d22 * w1 - d12 * w2) / area, (d11 * w2 - d12 * w1) / area
    share = np.clip(np.stack([1.0 - u - v, u, v], axis=1), 0.0, 1.0)
    n = np.einsum("ij,ijk->ik", share, surface.vertex_normals[surface.faces[face]])
    length = np.linalg.norm(n, axis=1, keepdims=True)
    return np.asarray(np.divide(n, length, out=np.zeros_like(n), where=length > 1e-12))


def weighted_quantile(values: FloatArray, weights: FloatArray, share: float) -> float:
    """Value below which ``share`` of the weight lies."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, share * total[-1])), len(order) - 1)])


def joint_of(contact: Contact, slack_mm: float) -> Contact | None:
    """The part of ``contact`` whose gap is within ``slack_mm`` of the closest quarter's.

    The auricular faces are nearly parallel, the ligamentous ones behind them diverge.
    """
    chosen = contact.gap_mm <= contact.closest_gap_mm() + slack_mm
    return contact.where(chosen).without_small_pieces() if chosen.any() else None


def extent_of(joint: Contact, axes: FloatArray, lateral: FloatArray) -> JointExtent:
    """Limits of a joint in the pelvis ``axes`` (3, 3) (anterior, cranial, right)."""

    def far(d: FloatArray) -> FloatArray:
        return np.asarray(joint.patch[int(np.argmax(joint.patch @ d))])

    def end(d: FloatArray) -> FloatArray:
        height = joint.patch @ d
        last = height >= weighted_quantile(height, joint.areas, 1.0 - END_SHARE)
        return np.asarray(np.average(joint.patch[last], axis=0, weights=joint.areas[last]))

    return JointExtent(
        joint.middle(),
        end(axes[:, 1]),
        end(-axes[:, 1]),
        far(axes[:, 0]),
        far(-axes[:, 0]),
        far(lateral),
        readonly(joint.patch),  # type: ignore[arg-type]
        readonly(joint.normals),  # type: ignore[arg-type]
        readonly(joint.areas),  # type: ignore[arg-type]
        float(joint.areas.sum()),
        weighted_quantile(joint.gap_mm, joint.areas, 0.5),
    )
