"""Bodies made ready for display, and the compact form in which they travel inside report.html.

Display surfaces are simplified (manifold3d, to a stated tolerance), given normals that keep sharp
edges sharp, and a share of open sky per vertex (ambient occlusion of the part by itself, so that
switching other parts off never leaves their shadows behind). Print files are never made from these.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.booleans import simplify
from sacroplan.geometry.frames import FloatArray, IntArray, readonly
from sacroplan.geometry.surface import Surface
from sacroplan.progress import Progress, silent
from sacroplan.report.model import ScenePart
from sacroplan.report.text import figure_rows

TOLERANCE_MM = 0.1
"""First simplification: a fifth of the finest CT voxel in use, invisible at any useful zoom."""

COARSEST_TOLERANCE_MM = 0.8
"""The largest parts may be simplified this far when the scene is over its budget."""

FACE_BUDGET = 1_200_000
"""Triangles in the scene: about 15 MB of the file, and smooth turning without a graphics card."""

CREASE_DEG = 40.0
"""Faces that meet at more than this keep a visible edge. Pure display."""

SKY_DIRECTIONS = 48
"""Directions from which open sky is sampled; 48 leave no visible banding after one smoothing."""

SKY_PIXELS = 384
"""Edge of the depth pictures of that sampling: 0.7 mm for a hip bone."""


@dataclass(frozen=True, eq=False)
class DisplayMesh:
    """A part as it is drawn.

    Attributes
    ----------
    vertices : (n, 3) LPS mm, doubled along creases. faces : (m, 3). normals : (n, 3) unit.
    sky : (n,) share of open sky, 0 to 1. tolerance_mm : distance to the original surface at most.
    closed : whether the original bounds a solid (inner sides are never seen, its cut is capped).
    """

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray
    sky: FloatArray
    tolerance_mm: float
    closed: bool

    def __post_init__(self) -> None:
        for array in (self.vertices, self.faces, self.normals, self.sky):
            readonly(array)


def clustered(surface: Surface, cell_mm: float) -> Surface:
    """Vertices merged on a grid of ``cell_mm``: the way out for surfaces that bound no solid.

    No vertex moves further than half a cell's diagonal.
    """
    cell = np.floor((surface.vertices - surface.vertices.min(axis=0)) / cell_mm).astype(np.int64)
    _, ny, nz = cell.max(axis=0) + 1
    key = (cell[:, 0] * ny + cell[:, 1]) * nz + cell[:, 2]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    faces = inverse[surface.faces]
    a, b, c = faces.T
    keep = (a != b) & (b != c) & (c != a)
    return Surface(surface.vertices[first], faces[keep].astype(np.int32), surface.frame)


def _is_solid(surface: Surface) -> bool:
    """Watertight with the outside out: may be simplified as a solid, culled and capped."""
    return surface.is_closed and surface.volume_mm3 > 0


def reduced(surface: Surface, tolerance_mm: float) -> Surface:
    """``surface`` with fewer triangles, nowhere further than ``tolerance_mm`` from the original."""
    if _is_solid(surface):
        return simplify(surface, tolerance_mm)
    # Half the cell's diagonal is the largest shift.
    coarse = clustered(surface, 2.0 * tolerance_mm / np.sqrt(3.0))
    return coarse if 0 < len(coarse.faces) < len(surface.faces) else surface


def with_creases(
    surface: Surface, crease_deg: float = CREASE_DEG
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Vertices, faces and unit normals, with vertices doubled where faces meet at a sharp edge."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    f = surface.faces.astype(np.int64)
    m = len(f)
    face_normals = surface.face_normals
    # Every half-edge with the two corners (3 * face + k) at its ends, lower vertex first.
    start, end = f, f[:, [1, 2, 0]]
    corner = np.arange(3 * m).reshape(m, 3)
    swap = start > end
    low, high = np.where(swap, end, start).ravel(), np.where(swap, start, end).ravel()
    next_corner = corner[:, [1, 2, 0]]
    c_low = np.where(swap, next_corner, corner).ravel()
    c_high = np.where(swap, corner, next_corner).ravel()
    order = np.argsort(low * len(surface.vertices) + high, kind="stable")
    key = (low * len(surface.vertices) + high)[order]
    same = key[1:] == key[:-1]
    one, two = order[:-1][same], order[1:][same]
    cosine = np.einsum("ij,ij->i", face_normals[one // 3], face_normals[two // 3])
    flat = cosine > np.cos(np.radians(crease_deg))
    one, two = one[flat], two[flat]
    i = np.concatenate([c_low[one], c_high[one]])
    j = np.concatenate([c_low[two], c_high[two]])
    graph = coo_matrix((np.ones(len(i), dtype=np.int8), (i, j)), shape=(3 * m, 3 * m))
    count, group = connected_components(graph, directed=False)
    vertices = np.empty((count, 3))
    vertices[group] = surface.vertices[f.ravel()]
    weight = _corner_angles(surface)
    normals = np.zeros((count, 3))
    for axis in range(3):
        share = (face_normals[:, axis, None] * weight).ravel()
        normals[:, axis] = np.bincount(group, weights=share, minlength=count)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 1e-12)
    normals[length[:, 0] <= 1e-12] = (0.0, 0.0, 1.0)
    return vertices, group.reshape(m, 3).astype(np.int32), normals


def _corner_angles(surface: Surface) -> FloatArray:
    """(m, 3) angle of every corner: weights normals independently of how a face is divided."""
    t = surface.triangles
    out = np.zeros((len(t), 3))
    for k in range(3):
        p, q = t[:, (k + 1) % 3] - t[:, k], t[:, (k + 2) % 3] - t[:, k]
        scale = np.linalg.norm(p, axis=1) * np.linalg.norm(q, axis=1)
        cosine = np.einsum("ij,ij->i", p, q) / np.where(scale > 0, scale, 1.0)
        out[:, k] = np.where(scale > 0, np.arccos(np.clip(cosine, -1.0, 1.0)), 0.0)
    return out


def open_sky(vertices: FloatArray, faces: IntArray, normals: FloatArray) -> FloatArray:
    """(n,) share of the hemisphere above every vertex that the part itself leaves open."""
    from sacroplan.report import _kernels as kernels

    n = np.arange(SKY_DIRECTIONS) + 0.5
    height, turn = 1.0 - 2.0 * n / SKY_DIRECTIONS, n * np.pi * (3.0 - np.sqrt(5.0))
    ring = np.sqrt(1.0 - height**2)
    directions = np.column_stack([ring * np.cos(turn), ring * np.sin(turn), height])
    centre = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
    local = vertices - centre
    radius = max(float(np.linalg.norm(local, axis=1).max()), 1e-3)
    scale = 0.5 * (SKY_PIXELS - 2) / radius
    shape = (SKY_PIXELS, SKY_PIXELS)
    far, near = np.full(shape, np.inf), np.full(shape, -np.inf)
    seen, total = np.zeros(len(vertices)), np.zeros(len(vertices))
    xy, z = np.empty((len(vertices), 2), dtype=np.int64), np.empty(len(vertices))
    for toward in directions:
        helper = np.eye(3)[int(np.argmin(np.abs(toward)))]
        right = np.cross(helper, toward)
        right /= np.linalg.norm(right)
        up = np.cross(toward, right)
        kernels.project(local, right, up, toward, scale * kernels.SUBPIXEL, xy, z)
        xy += SKY_PIXELS * kernels.SUBPIXEL // 2
        depth = np.full(shape, np.inf)
        kernels.rasterise(xy, z, faces, near, far, depth, np.full(shape, -1, dtype=np.int32))
        weight = np.maximum(normals @ toward, 0.0)
        total += weight
        # Two pixels of slack: a vertex lies up to one pixel off the sample, on a slope.
        kernels.visible_vertices(xy, z, depth, 2.0 / scale, seen, weight)
    sky = np.divide(seen, total, out=np.ones_like(seen), where=total > 0)
    return _smoothed(sky, faces)


def _smoothed(values: FloatArray, faces: IntArray) -> FloatArray:
    """Mean of every vertex and its neighbours."""
    total, count = values.copy(), np.ones_like(values)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        for i, j in ((faces[:, a], faces[:, b]), (faces[:, b], faces[:, a])):
            total += np.bincount(i, weights=values[j], minlength=len(values))
            count += np.bincount(i, minlength=len(values))
    out: FloatArray = total / count
    return out


def display_meshes(
    parts: Sequence[ScenePart], progress: Progress = silent
) -> dict[str, DisplayMesh]:
    """Display form of every part by name, within :data:`FACE_BUDGET` as far as tolerances allow."""
    tolerance = {p.name: TOLERANCE_MM for p in parts}
    coarse = {}
    for n, p in enumerate(parts):
        progress(0.5 * n / len(parts), f"simplifying {p.title}")
        coarse[p.name] = reduced(p.surface, TOLERANCE_MM)
    while sum(len(s.faces) for s in coarse.values()) > FACE_BUDGET:
        left = [p.name for p in parts if tolerance[p.name] < COARSEST_TOLERANCE_MM]
        if not left:
            break
        largest = max(left, key=lambda name: len(coarse[name].faces))
        # From the last step, which is far smaller than the original: the two deviations add up.
        coarse[largest] = reduced(coarse[largest], tolerance[largest])
        tolerance[largest] *= 2.0
    out = {}
    for n, p in enumerate(parts):
        progress(0.5 + 0.5 * n / len(parts), f"shading {p.title}")
        vertices, faces, normals = with_creases(coarse[p.name])
        sky = open_sky(vertices, faces, normals)
        out[p.name] = DisplayMesh(
            vertices, faces, normals, sky, tolerance[p.name], _is_solid(p.surface)
        )
    return out


def octahedral(normals: FloatArray) -> npt.NDArray[np.int8]:
    """Unit vectors (n, 3) as two signed bytes (n, 2), at most about one degree off."""
    n = normals / np.abs(normals).sum(axis=1, keepdims=True)
    xy = n[:, :2].copy()
    below = n[:, 2] < 0
    sign = np.where(xy >= 0, 1.0, -1.0)
    xy[below] = ((1.0 - np.abs(xy[:, ::-1])) * sign)[below]
    out: npt.NDArray[np.int8] = np.round(np.clip(xy, -1, 1) * 127).astype(np.int8)
    return out


def _planes(array: npt.NDArray[np.generic]) -> bytes:
    """Bytes of a 1-D little-endian array, all lowest bytes first: packs far better."""
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    return little.view(np.uint8).reshape(len(array), -1).T.tobytes()


def _spatial_order(q: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Order of quantised points (n, 3) along a Z curve, so that neighbours get near numbers."""
    code = np.zeros(len(q), dtype=np.uint64)
    for axis in range(3):
        x = q[:, axis].astype(np.uint64)
        for bit in range(16):
            code |= ((x >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit + axis)
    return np.argsort(code, kind="stable")


def pack(
    parts: Sequence[ScenePart], meshes: Mapping[str, DisplayMesh]
) -> tuple[list[dict[str, Any]], bytes]:
    """Headers of the parts and zlib-packed body of the scene as the viewer script reads them.

    Positions are 16-bit steps of the part's bounding box (0.005 mm for a pelvis), normals two
    bytes, open sky one byte, faces three differences each. Byte planes first, then zlib.
    """
    header = []
    body = []
    for part in parts:
        mesh = meshes[part.name]
        low = mesh.vertices.min(axis=0)
        step = np.maximum(np.ptp(mesh.vertices, axis=0), 1e-6) / 65535.0
        q = np.round((mesh.vertices - low) / step).astype(np.uint16)
        order = _spatial_order(q)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        q = q[order]
        faces = rank[mesh.faces]
        turn = np.argmin(faces, axis=1)
        faces = np.take_along_axis(faces, (turn[:, None] + np.arange(3)) % 3, axis=1)
        faces = faces[np.lexsort((faces[:, 2], faces[:, 1], faces[:, 0]))]
        for axis in range(3):
            body.append(_planes(np.diff(q[:, axis], prepend=np.uint16(0)).astype(np.uint16)))
        oct_normals = octahedral(mesh.normals[order])
        body += [oct_normals[:, 0].tobytes(), oct_normals[:, 1].tobytes()]
        body.append(np.round(mesh.sky[order] * 255).astype(np.uint8).tobytes())
        first = faces[:, 0]
        body.append(_planes(np.diff(first, prepend=0).astype(np.uint32)))
        body.append(_planes((faces[:, 1] - first).astype(np.uint32)))
        body.append(_planes((faces[:, 2] - first).astype(np.uint32)))
        header.append(
            {
                "name": part.name,
                "title": part.title,
                "group": part.group,
                "colour": part.colour,
                "opacity": part.opacity,
                "visible": part.visible,
                "note": part.note,
                "metal": part.finish == "metal",
                "closed": mesh.closed,
                "low": [float(f"{v:.9g}") for v in low],
                "step": [float(f"{v:.9g}") for v in step],
                "vertices": len(q),
                "faces": len(faces),
                "figures": [
                    {"label": r.label, "value": r.value, "unit": r.unit, "verdict": r.verdict}
                    for r in figure_rows(part.figures)
                ],
            }
        )
    return header, zlib.compress(b"".join(body), 9)
