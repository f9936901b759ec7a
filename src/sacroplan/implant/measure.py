"""Measures of an implant's solids. Design frame (pelvic axes as coordinates)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.geometry.booleans import to_manifold
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.fields import inside_mask
from sacroplan.geometry.frames import FloatArray, Plane
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry, grid_around
from sacroplan.implant.outline import Outline

WALL_SHARE = 0.001
"""Lips of up to this share of the surface, where bores meet round faces, are filed off."""

ENVELOPE_GRID_MM = 1.5
"""Sampling for the envelope comparison; its figures are good to about a millimetre."""

STRAY_SHARE = 0.005
"""Share of columns, at the rim of the shape, whose bone begins far behind that of their neighbours."""

FRONT_SMOOTH_MM = 5.0
"""Sigma over which the pelvic face is evened out: half the height of an anterior foramen (DIM-05)."""

DISC_BRIDGE_MM = 9.0
"""Closing radius that bridges the excised L5-S1 disc between L5 and the specimen."""


def mass_g(core_mm3: float, porous_mm3: float, porosity: float) -> float:
    """Titanium mass of a solid core and porous layers."""
    density = evidence.value("SP-IMP-01", "density") / 1000.0
    return density * (core_mm3 + (1.0 - porosity) * porous_mm3)


def planar_contact_mm2(layer: Surface, plane: Plane, face: Outline, within_mm: float) -> float:
    """Area of a layer's flat face that lies over the bone's cut face, no further than ``within_mm``."""
    on = np.abs(plane.distance(layer.vertices)) <= within_mm
    flat = on[layer.faces].all(axis=1) & (layer.face_normals @ -plane.normal > 0.99)
    if not flat.any():
        return 0.0
    import manifold3d

    triangles = face.to_plane(layer.vertices)[layer.faces[flat]][:, ::-1]
    mine = manifold3d.CrossSection(list(triangles), manifold3d.FillRule.NonZero)
    return float((mine ^ face.cross_section()).area())


def conforming_contact(
    layer: Surface, bone: Surface, cranial: FloatArray, within_mm: float
) -> tuple[float, float, float]:
    """Area (mm2, seen along ``cranial``) of a layer's bone-facing side within ``within_mm``, and the
    mean and the largest gap there.
    """
    import igl

    fine = to_manifold(layer).refine_to_length(1.5)
    mesh = fine.to_mesh64()
    v = np.asarray(mesh.vert_properties)[:, :3].astype(np.float64)
    f = np.asarray(mesh.tri_verts).astype(np.int32)
    surface = Surface(v, f)
    facing = surface.face_normals @ cranial > 0.5
    centres = surface.triangles[facing].mean(axis=1)
    area = surface.area_vectors[facing] @ cranial
    gap = np.sqrt(igl.point_mesh_squared_distance(centres, bone.vertices, bone.faces)[0])
    near = gap <= within_mm
    if not near.any():
        return 0.0, float("inf"), float("inf")
    return (
        float(area[near].sum()),
        float((gap[near] * area[near]).sum() / area[near].sum()),
        float(gap[near].max()),
    )


def wall_thickness_mm(solid: Surface) -> float:
    """Thinnest structural wall, but for the thinnest 0.1 % of the surface; edges are no walls.

    An edge that has the structural wall (AM-02) within two walls of its tip counts by what lies behind
    it, see :func:`sacroplan.geometry.walls.measure_walls`.
    """
    from sacroplan.geometry.tree import face_tree
    from sacroplan.geometry.walls import measure_walls

    least = evidence.value("AM-02", "structural_wall")
    walls = measure_walls(solid, face_tree(solid), least, 2.0 * least, WALL_SHARE)
    return float(walls.walls[walls.thinnest(WALL_SHARE)])


def enclosed_voids(surface: Surface) -> int:
    """Shells of a solid that are turned inwards: cavities without an opening (AM-05)."""
    return sum(1 for piece in surface.bodies() if piece.volume_mm3 < 0.0)


def pelvic_front(geometry: VolumeGeometry, bones: list[Surface]) -> npt.NDArray[np.float32]:
    """Front (x, mm) of the bones in every column (y, z) of a grid, smooth and without holes.

    Gaps as wide as a disc are closed first; columns without bone take their neighbours' front.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

    h = ENVELOPE_GRID_MM
    low = geometry.origin - 3.0 * h
    size = np.ceil((geometry.extent_mm + 6.0 * h) / h).astype(int) + 1
    # Symmetric about the middle plane like the fine grid, so that mirrored bones give a mirrored front.
    low[2] = geometry.origin[2] + 0.5 * geometry.extent_mm[2] - 0.5 * h * (size[2] - 1)
    coarse = VolumeGeometry((int(size[0]), int(size[1]), int(size[2])), np.full(3, h), low)
    front = _front(_closed(bones, coarse)).astype(np.float64)
    nearest = distance_transform_edt(front < 0, return_distances=False, return_indices=True)
    x = low[0] + h * front[tuple(nearest)]
    x = gaussian_filter(x, FRONT_SMOOTH_MM / h, mode="nearest")
    rows = (geometry.origin[1] - low[1] + geometry.spacing_mm[1] * np.arange(geometry.shape[1])) / h
    columns = (
        geometry.origin[2] - low[2] + geometry.spacing_mm[2] * np.arange(geometry.shape[2])
    ) / h
    index = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    return np.asarray(map_coordinates(x, index, order=1, mode="nearest"), dtype=np.float32)


def _closed(bones: list[Surface], grid: VolumeGeometry) -> npt.NDArray[np.bool_]:
    """Grid points in or between bones, gaps up to twice :data:`DISC_BRIDGE_MM` closed."""
    solid = np.zeros(grid.shape, dtype=bool)
    for bone in bones:
        solid |= inside_mask(bone, grid)
    reach = DISC_BRIDGE_MM / float(grid.spacing_mm[0])
    grown = distance_to(solid, 1.0, reach + 1.0) <= reach
    return np.asarray((distance_to(~grown, 1.0, reach + 1.0) > reach) | solid)


def envelope(
    implant: Surface, bones: list[Surface], posterior_of: list[Surface]
) -> tuple[float, float]:
    """How far the implant stands before the bone's front (mm), and behind it keeps from the back (mm).

    Column by column along x; the front of ``bones`` is that of :func:`pelvic_front`, where neither the
    disc nor a sacral foramen counts as room. Columns without bone say nothing.
    """
    grid = grid_around(implant.vertices, ENVELOPE_GRID_MM, 15.0)
    mine = _front(inside_mask(implant, grid))
    both = (mine >= 0) & _closed(bones, grid).any(axis=0)
    x = float(grid.origin[0]) + ENVELOPE_GRID_MM * mine
    front = (x - pelvic_front(grid, bones))[both]
    ahead = float(np.quantile(front, 1.0 - STRAY_SHARE)) if both.any() else 0.0
    back = min(float(s.vertices[:, 0].min()) for s in posterior_of)
    return max(ahead, 0.0), float(implant.vertices[:, 0].min()) - back


def _front(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    n = mask.shape[0]
    last = n - 1 - np.argmax(mask[::-1], axis=0)
    return np.where(mask.any(axis=0), last, -1)


def seat_gaps(
    layer: Surface, plane: Plane, region: Outline, within_mm: float, step_mm: float = 0.7
) -> tuple[float, float, float]:
    """Mean and 95th percentile (mm) of the distance from a planned flat seat to the layer on it, and the
    share (0 to 1) of the seat that the layer covers within ``within_mm``.

    The seat is sampled every ``step_mm`` over ``region``; distances are of covered samples, along the normal.
    """
    from matplotlib.path import Path

    from sacroplan.geometry.tree import face_tree

    corners = np.concatenate(region.loops)
    low, high = corners.min(axis=0), corners.max(axis=0)
    ticks = [np.arange(a + 0.5 * step_mm, b, step_mm) for a, b in zip(low, high, strict=True)]
    uv = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = np.zeros(len(uv), dtype=bool)
    for loop in region.loops:
        inside ^= Path(np.concatenate([loop, loop[:1]])).contains_points(uv)
    points = region.to_world(uv[inside])
    # From 5 mm inside the bone outwards, so that a layer that dips into the bone would be seen too.
    back = 5.0
    ways = np.repeat(plane.normal[None], len(points), axis=0)
    hit, _ = face_tree(layer).first_hits(
        np.ascontiguousarray(points - back * plane.normal), np.ascontiguousarray(ways), 0.0
    )
    gap = np.abs(hit - back)
    near = gap <= within_mm
    if not near.any():
        return float("inf"), float("inf"), 0.0
    return float(gap[near].mean()), float(np.quantile(gap[near], 0.95)), float(near.mean())


SHARP_DEG = 35.0
"""An edge that turns by more than this is felt; facets of a rounding of 1 mm turn by 20 degrees."""


def sharp_front_mm(solid: Surface, covers: list[Surface]) -> float:
    """Length (mm) of outward edges sharper than :data:`SHARP_DEG` between faces that look forwards.

    The rectum lies on the front: it meets rounded metal only. Edges under one of ``covers``, the porous
    layers that share their bond with ``solid``, are not on the outside.
    """
    from scipy.spatial import cKDTree

    f = solid.faces.astype(np.int64)
    n = len(solid.vertices)
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    face = np.tile(np.arange(len(f)), 3)
    key = edges[:, 0] * n + edges[:, 1]
    back = edges[:, 1] * n + edges[:, 0]
    order = np.argsort(key)
    other = face[order[np.searchsorted(key, back, sorter=order)]]
    once = edges[:, 0] < edges[:, 1]
    a, b, ends = face[once], other[once], edges[once]
    normal = solid.face_normals
    forwards = (normal[a, 0] > 0.5) & (normal[b, 0] > 0.5)
    turn = np.einsum("ij,ij->i", normal[a], normal[b])
    # Convex: the other face's far corner lies behind this face.
    centre = solid.triangles.mean(axis=1)
    convex = np.einsum("ij,ij->i", centre[b] - centre[a], normal[a]) < 0.0
    sharp = forwards & convex & (turn < np.cos(np.radians(SHARP_DEG)))
    if covers:
        tree = cKDTree(np.concatenate([c.vertices for c in covers]))
        within = (
            tree.query(solid.vertices[ends[sharp]].reshape(-1, 3))[0].reshape(-1, 2).max(axis=1)
        )
        sharp[np.flatnonzero(sharp)[within < 1e-3]] = False
    way = solid.vertices[ends[sharp, 0]] - solid.vertices[ends[sharp, 1]]
    return float(np.linalg.norm(way, axis=1).sum())


def tool_gaps(
    heads: FloatArray, directions: FloatArray, bones: list[Surface], reach_mm: float
) -> FloatArray:
    """(n,) least distance (mm) of each driver's axis behind a head (n, 3) to bone, over ``reach_mm``."""
    import igl

    # The first centimetre lies in the implant's own landing, next to the bone it was planned for.
    steps = np.arange(10.0, reach_mm, 2.0)
    points = heads[:, None] - steps[None, :, None] * directions[:, None]
    out = np.full(len(heads), np.inf)
    flat = np.ascontiguousarray(points.reshape(-1, 3))
    for bone in bones:
        d = np.sqrt(igl.point_mesh_squared_distance(flat, bone.vertices, bone.faces)[0])
        np.minimum(out, d.reshape(len(heads), -1).min(axis=1), out=out)
    return out
