"""Exact booleans of closed surfaces (manifold3d), with the checks that library leaves to us.

manifold3d accepts inverted and self-intersecting input without complaint and a plane normal that is
not of unit length cuts in the wrong place, so inputs are checked and normals come from
:class:`~sacroplan.geometry.frames.Plane`, which normalises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import Plane, same_frame
from sacroplan.geometry.surface import Surface

TINY_VOLUME_MM3 = 1e-6
"""A piece smaller than a 10 micrometre cube is a rounding crumb, not a solid."""


def to_manifold(surface: Surface, what: str = "a solid") -> Any:
    """manifold3d solid of a closed, outward surface; raises :class:`GeometryError` naming ``what``."""
    import manifold3d

    surface.require_closed(what)
    mesh = manifold3d.Mesh64(
        vert_properties=surface.vertices.copy(),  # nanobind refuses locked arrays
        tri_verts=surface.faces.astype(np.uint64),
    )
    solid = manifold3d.Manifold(mesh)
    if solid.status() != manifold3d.Error.NoError or solid.is_empty():
        raise GeometryError(
            f"{what} cannot be used as a solid ({solid.status().name}, {len(surface.faces)} faces)."
        )
    return solid


def from_manifold(solid: Any, frame: str) -> Surface:
    """Surface of a manifold3d solid."""
    mesh = solid.to_mesh64()
    return Surface(
        np.asarray(mesh.vert_properties)[:, :3].astype(np.float64),
        np.asarray(mesh.tri_verts).astype(np.int32),
        frame,
    )


def _combine(operation: str, surfaces: tuple[Surface, ...], names: tuple[str, ...] | None) -> Any:
    import manifold3d

    if not surfaces:
        raise GeometryError("A boolean needs at least one solid.")
    same_frame(*surfaces)
    labels = names or tuple(f"operand {n + 1}" for n in range(len(surfaces)))
    solids = [to_manifold(s, name) for s, name in zip(surfaces, labels, strict=True)]
    kind = {
        "union": manifold3d.OpType.Add,
        "difference": manifold3d.OpType.Subtract,
        "intersection": manifold3d.OpType.Intersect,
    }[operation]
    return manifold3d.Manifold.batch_boolean(solids, kind)


def _checked(solid: Any, operation: str, names: tuple[str, ...] | None, frame: str) -> Surface:
    if solid.is_empty() or solid.volume() < TINY_VOLUME_MM3:
        raise GeometryError(
            f"The {operation} of {' and '.join(names or ('its operands',))} is empty; "
            "check that they overlap as intended."
        )
    return from_manifold(solid, frame)


def union(*surfaces: Surface, names: tuple[str, ...] | None = None) -> Surface:
    """Union of closed surfaces."""
    return _checked(_combine("union", surfaces, names), "union", names, surfaces[0].frame)


def difference(body: Surface, *cutters: Surface, names: tuple[str, ...] | None = None) -> Surface:
    """``body`` minus all ``cutters``; raises when nothing is left."""
    solid = _combine("difference", (body, *cutters), names)
    return _checked(solid, "difference", names, body.frame)


def intersection(*surfaces: Surface, names: tuple[str, ...] | None = None) -> Surface:
    """Common part of closed surfaces; raises when there is none."""
    solid = _combine("intersection", surfaces, names)
    return _checked(solid, "intersection", names, surfaces[0].frame)


def overlap_mm3(a: Surface, b: Surface) -> float:
    """Volume that two solids share, mm3 (0 when apart)."""
    return float(_combine("intersection", (a, b), None).volume())


def split(surface: Surface, plane: Plane) -> tuple[Surface | None, Surface | None]:
    """Parts of a solid on the positive and on the negative side of ``plane``; None where empty."""
    same_frame(surface, plane)
    solid = to_manifold(surface)
    offset = float(plane.point @ plane.normal)
    above, below = solid.split_by_plane(tuple(plane.normal), offset)
    return tuple(  # type: ignore[return-value]
        None
        if piece.is_empty() or piece.volume() < TINY_VOLUME_MM3
        else from_manifold(piece, surface.frame)
        for piece in (above, below)
    )


def bodies(surface: Surface) -> list[Surface]:
    """Separate solids of a surface, largest first; cavities stay with their solid."""
    pieces = to_manifold(surface).decompose()
    out = [from_manifold(p, surface.frame) for p in pieces if p.volume() > TINY_VOLUME_MM3]
    return sorted(out, key=lambda s: (-s.volume_mm3, *s.bounds[0].tolist()))


def simplify(surface: Surface, tolerance_mm: float) -> Surface:
    """Fewer triangles, nowhere further than ``tolerance_mm`` from the original; stays closed."""
    return from_manifold(to_manifold(surface).simplify(tolerance_mm), surface.frame)


def refined(surface: Surface, length_mm: float) -> Surface:
    """The same closed shape with no edge much longer than ``length_mm``; itself where none is."""
    corners = surface.triangles
    if float(np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2).max()) <= length_mm:
        return surface
    return from_manifold(to_manifold(surface).refine_to_length(length_mm), surface.frame)


def simplify_uncrossed(surface: Surface, tolerance_mm: float) -> Surface:
    """As :func:`simplify`, by less where merging would let faces cross each other.

    Merged faces of a thin or sharply bent place can pass through their neighbours; ``surface`` itself,
    which must not cross itself, is the last resort.
    """
    from sacroplan.geometry.tree import face_tree

    for share in (1.0, 0.3, 0.1):
        out = simplify(surface, share * tolerance_mm)
        if face_tree(out).crossing_faces()[0] == 0:
            return out
    return surface
