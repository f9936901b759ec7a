"""The sacroiliac joint: where sacrum and ilium face each other closely."""

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


@dataclass(frozen=True, slots=True, eq=False)
class JointExtent:
    """Extent of one sacroiliac joint, LPS mm.

    Attributes
    ----------
    centre : (3,) area centroid between the two faces.
    cranial, caudal, anterior, posterior : (3,) extreme points of the iliac face, pelvis frame.
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


def _pieces(surface: Surface, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``chosen`` without the pieces that are small against the largest."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    index = np.flatnonzero(chosen)
    if not len(index):
        return chosen
    f = surface.faces[index]
    n = len(surface.vertices)
    i = np.concatenate([f[:, 0], f[:, 1]])
    j = np.concatenate([f[:, 1], f[:, 2]])
    graph = coo_matrix((np.ones(len(i), dtype=np.int8), (i, j)), shape=(n, n))
    _, group = connected_components(graph, directed=False)
    area = np.linalg.norm(surface.area_vectors[index], axis=1)
    total = np.bincount(group[f[:, 0]], weights=area)
    keep = total[group[f[:, 0]]] >= MIN_PIECE * total.max()
    out = np.zeros_like(chosen)
    out[index[keep]] = True
    return out


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


def _facing(a: Surface, b: Surface, gap_mm: float) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Faces of ``a`` that look at ``b`` within ``gap_mm``, and all signed distances (n,) to ``b``."""
    import igl
    from scipy.spatial import cKDTree

    centres = np.ascontiguousarray(a.triangles.mean(axis=1))
    # Only the neighbourhood of the other bone's vertices is measured exactly.
    edge = float(np.linalg.norm(b.triangles - np.roll(b.triangles, 1, axis=1), axis=2).max())
    rough, _ = cKDTree(b.vertices).query(centres, distance_upper_bound=gap_mm + edge)
    near = np.isfinite(rough)
    distance = np.full(len(centres), np.inf)
    facing = np.zeros(len(centres), dtype=bool)
    if near.any():
        squared, face, foot = igl.point_mesh_squared_distance(centres[near], b.vertices, b.faces)
        # On an edge the nearest face is a matter of rounding; the blended normal is not.
        normal = _normal_at(b, np.asarray(face), np.asarray(foot))
        ahead = np.einsum("ij,ij->i", centres[near] - foot, normal)
        signed = np.where(ahead >= 0.0, 1.0, -1.0) * np.sqrt(squared)
        distance[near] = signed
        agree = np.einsum("ij,ij->i", a.face_normals[near], normal)
        facing[near] = (signed <= gap_mm) & (agree < FACING)
    return facing, distance


def _weighted_quantile(values: FloatArray, weights: FloatArray, share: float) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, share * total[-1])), len(order) - 1)])


def find_joint(
    sacrum: Surface,
    hip: Surface,
    axes: FloatArray,
    lateral: FloatArray,
    gap_mm: float,
    slack_mm: float,
) -> JointExtent | None:
    """Joint of ``sacrum`` and ``hip``; None where they do not meet within ``gap_mm``.

    The auricular faces are nearly parallel, the ligamentous ones behind them diverge: faces more
    than ``slack_mm`` further apart than the closest quarter do not count. ``axes`` (3, 3) pelvis
    axes (anterior, cranial, right) and ``lateral`` (3,) in LPS.
    """
    on_hip, gap = _facing(hip, sacrum, gap_mm)
    on_sacrum, other_gap = _facing(sacrum, hip, gap_mm)
    if not on_hip.any() or not on_sacrum.any():
        return None
    close = _weighted_quantile(gap[on_hip], np.linalg.norm(hip.area_vectors[on_hip], axis=1), 0.25)
    on_hip = _pieces(hip, on_hip & (gap <= close + slack_mm))
    on_sacrum = _pieces(sacrum, on_sacrum & (other_gap <= close + slack_mm))
    if not on_hip.any() or not on_sacrum.any():
        return None

    def centroid(
        s: Surface, mask: npt.NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        c = s.triangles.mean(axis=1)[mask]
        w = np.linalg.norm(s.area_vectors[mask], axis=1)
        return c, w, (c * w[:, None]).sum(axis=0) / w.sum()

    patch, areas, middle = centroid(hip, on_hip)
    other = centroid(sacrum, on_sacrum)[2]

    def far(d: FloatArray) -> FloatArray:
        return np.asarray(patch[int(np.argmax(patch @ d))])

    return JointExtent(
        0.5 * (middle + other),
        far(axes[:, 1]),
        far(-axes[:, 1]),
        far(axes[:, 0]),
        far(-axes[:, 0]),
        far(lateral),
        readonly(patch),  # type: ignore[arg-type]
        readonly(hip.face_normals[on_hip]),  # type: ignore[arg-type]
        readonly(areas),  # type: ignore[arg-type]
        float(areas.sum()),
        _weighted_quantile(gap[on_hip], areas, 0.5),
    )
