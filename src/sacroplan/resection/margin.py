"""Distance from tumour to every cut, as a signed map and as an exact minimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.resection.cuts import Cut, face_mask

MAP_SPACING_MM = 1.0
"""Spacing of the margin map's points on a cut face."""

EXACT_MM = 0.01
"""The minimum over a face's edges is refined to this: a fifth of the accuracy that is claimed."""


@dataclass(frozen=True, eq=False)
class CutMargin:
    """Margin at one cut.

    Attributes
    ----------
    cut : name of the cut.
    minimum_mm : least distance from tumour to the specimen's face; negative where the tumour
        crosses the face.
    points : (n, 3) points of the specimen's cut face. distance_mm : (n,) signed distance of each to
        the tumour (negative inside it). facet : (n,) number of the cut's facet they lie on.
    nearest : (3,) point of the tumour at the minimum.
    """

    cut: str
    minimum_mm: float
    points: FloatArray
    distance_mm: FloatArray
    nearest: FloatArray
    facet: IntArray


def face_points(cut: Cut) -> tuple[FloatArray, IntArray]:
    """(n, 3) regular points on the specimen's side of the cut faces, inside their outlines; facets."""
    from matplotlib.path import Path

    found, numbers = [np.zeros((0, 3))], [np.zeros(0, dtype=np.int32)]
    for n, facet in enumerate(cut.facets):
        loops = facet.outline.loops
        if not loops:
            continue
        everything = np.concatenate(loops)
        low, high = everything.min(axis=0), everything.max(axis=0)
        u = np.arange(low[0] + 0.5 * MAP_SPACING_MM, high[0], MAP_SPACING_MM)
        v = np.arange(low[1] + 0.5 * MAP_SPACING_MM, high[1], MAP_SPACING_MM)
        uv = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1).reshape(-1, 2)
        crossings = np.zeros(len(uv), dtype=int)
        for loop in loops:
            crossings += Path(loop).contains_points(uv)
        uv = np.concatenate([uv[crossings % 2 == 1], everything])
        found.append(facet.outline.to_world(uv) + 0.5 * cut.kerf_mm * facet.plane.normal)
        numbers.append(np.full(len(uv), n, dtype=np.int32))
    return np.concatenate(found), np.concatenate(numbers)


def outline_face(cut: Cut, sign: int = 1) -> Surface:
    """The specimen's (+1) or the patient's (-1) cut face as an open surface: the outlines moved by half
    a kerf."""
    import manifold3d

    parts = []
    for facet in cut.facets:
        loops = [np.asarray(p) for p in facet.outline.loops]
        if not loops:
            continue
        faces = np.asarray(manifold3d.triangulate(loops), dtype=np.int32)
        points = facet.outline.to_world(np.concatenate(loops))
        parts.append(
            Surface(points + sign * 0.5 * cut.kerf_mm * facet.plane.normal, faces, cut.frame)
        )
    empty = Surface(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32), cut.frame)
    return concatenate(parts) if parts else empty


def specimen_face(cut: Cut, pieces: Mapping[str, Surface]) -> Surface:
    """The faces of the specimen that the saw made; for a disc or joint cut its outline."""
    piece = pieces.get(cut.bone)
    if piece is None:
        return outline_face(cut)
    chosen, area = face_mask(piece, cut, +1)
    return piece.subset(chosen) if area > 0 else outline_face(cut)


def least_distance(face: Surface, other: Surface) -> tuple[float, FloatArray]:
    """Least unsigned distance (mm) between two surfaces that do not cross, and where on ``other``.

    Corners of each against faces of the other, then edges of ``face`` halved until no midpoint can
    hide anything nearer by more than :data:`EXACT_MM`.
    """
    import igl

    squared = np.asarray(
        igl.point_mesh_squared_distance(other.vertices, face.vertices, face.faces)[0]
    )
    n = int(squared.argmin())
    best, where = float(squared[n]) ** 0.5, other.vertices[n]
    edges = np.concatenate([face.faces[:, [0, 1]], face.faces[:, [1, 2]], face.faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    a, b = face.vertices[edges[:, 0]], face.vertices[edges[:, 1]]
    while len(a):
        middle = 0.5 * (a + b)
        half = 0.5 * np.linalg.norm(b - a, axis=1)
        d2, _, foot = igl.point_mesh_squared_distance(middle, other.vertices, other.faces)[:3]
        d = np.sqrt(np.asarray(d2))
        k = int(d.argmin())
        if d[k] < best:
            best, where = float(d[k]), np.asarray(foot)[k]
        # Distance changes by no more than one goes: what lies on this edge is at least d - half.
        open_ = d - half < best - EXACT_MM
        a, b = (
            np.concatenate([a[open_], middle[open_]]),
            np.concatenate([middle[open_], b[open_]]),
        )
    return best, np.asarray(where)


def signed_to(surface: Surface, points: FloatArray) -> FloatArray:
    """(n,) exact signed distance of points to a closed surface, negative inside."""
    import igl

    if not len(points):
        return np.zeros(0)
    # libigl's fast-winding-number mode returns distances that err by 0.03 mm; this one is exact.
    return np.asarray(
        igl.signed_distance(
            points, surface.vertices, surface.faces, igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
        )[0]
    ).reshape(-1)


def cut_margin(cut: Cut, tumour: Surface, face: Surface | None = None) -> CutMargin:
    """Margin map and minimum at one cut; ``face`` is the specimen's own cut face where it is known."""
    points, numbers = face_points(cut)
    face = outline_face(cut) if face is None else face
    signed = signed_to(tumour, np.concatenate([points, face.vertices]))
    whole = np.concatenate([points, face.vertices])
    n = int(signed.argmin())
    if signed[n] <= 0.0:
        minimum, nearest = float(signed[n]), whole[n]
    else:
        minimum, nearest = least_distance(face, tumour)
    return CutMargin(cut.name, minimum, points, signed[: len(points)], nearest, numbers)


def cover(pieces: Mapping[str, Surface], tumour: Surface) -> dict[str, FloatArray]:
    """Signed distance (mm) of every vertex of the specimen's pieces to the tumour, negative inside."""
    return {name: signed_to(tumour, s.vertices) for name, s in pieces.items()}
