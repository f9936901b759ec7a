"""Solids are looked at before they are cut: what is wrong, where, and what to change.

The boolean library answers "no error" on surfaces that are inside out or cross themselves, and the
result is then quietly wrong. Every operand of the implant passes through here first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface

MOST_NAMED = 3
"""Places named in a message; more would not be read."""

NEAR_MM = 5.0
"""Open edges nearer together than this are one hole."""

INSIDE_SHARE = 1e-3
"""Crossings on up to this share of the faces are spurs of a segmentation, beyond it the surface is torn."""


def where(points: FloatArray) -> str:
    """``(1, 2, 3) mm`` for up to :data:`MOST_NAMED` of the points (n, 3), LPS."""
    shown = [f"({p[0]:.0f}, {p[1]:.0f}, {p[2]:.0f})" for p in points[:MOST_NAMED]]
    more = len(points) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") + " mm LPS"


def open_edges(surface: Surface) -> npt.NDArray[np.int64]:
    """(k, 2) vertex numbers of edges without exactly one opposite: holes, and faces turned round."""
    f = surface.faces.astype(np.int64)
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    n = len(surface.vertices)
    key, back = edges[:, 0] * n + edges[:, 1], edges[:, 1] * n + edges[:, 0]
    values, counts = np.unique(key, return_counts=True)
    at = np.minimum(np.searchsorted(values, back), len(values) - 1)
    paired = (values[at] == back) & (counts[at] == 1)
    twice = counts[np.searchsorted(values, key)] > 1
    return np.asarray(edges[~paired | twice])


def holes(surface: Surface) -> FloatArray:
    """(k, 3) middles of the holes, the longest rim first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = open_edges(surface)
    if not len(edges):
        return np.empty((0, 3))
    used, ends = np.unique(edges, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(used),) * 2)
    count, label = connected_components(graph, directed=False)
    size = np.bincount(label, minlength=count)
    total = np.stack(
        [np.bincount(label, surface.vertices[used, k], minlength=count) for k in range(3)], axis=1
    )
    return np.asarray((total / size[:, None])[np.argsort(-size, kind="stable")])


def checked(surface: Surface, name: str, change: str = "repair its label or file") -> Surface:
    """``surface`` itself, or a :class:`GeometryError` that names it, the fault, the place and the remedy.

    Looked for, in this order: no faces, open edges, faces turned round, pieces that are inside out.
    """
    if not len(surface.faces):
        raise GeometryError(f"The solid {name} is empty; {change}.")
    if not surface.is_closed:
        edges, middles = open_edges(surface), holes(surface)
        raise GeometryError(
            f"The solid {name} is open: {len(edges)} open edges in {len(middles)} "
            f"{'hole' if len(middles) == 1 else 'holes'} near {where(middles)} "
            f"({len(surface.faces)} faces); {change} so that every edge has two faces."
        )
    if surface.volume_mm3 <= 0.0:
        raise GeometryError(
            f"The solid {name} is inside out: it encloses {surface.volume_mm3 / 1e3:.1f} cm3 round "
            f"{where(surface.bounds.mean(axis=0)[None])}; turn its faces round."
        )
    turned = inverted_pieces(surface)
    if len(turned):
        raise GeometryError(
            f"The solid {name} has {len(turned)} {'piece' if len(turned) == 1 else 'pieces'} inside out "
            f"near {where(turned)}; turn the faces of these pieces round or leave them out."
        )
    return surface


def inverted_pieces(surface: Surface) -> FloatArray:
    """(k, 3) centres of pieces that are inside out and lie in no other piece (those are cavities)."""
    if surface.body_count() < 2:
        return np.empty((0, 3))
    pieces = surface.bodies()
    solid = [p.bounds for p in pieces if p.volume_mm3 > 0]
    out = [
        p.bounds.mean(axis=0)
        for p in pieces
        if p.volume_mm3 < 0
        and not any(np.all(p.bounds[0] >= b[0]) and np.all(p.bounds[1] <= b[1]) for b in solid)
    ]
    return np.array(out).reshape(-1, 3)


def crossings(surface: Surface) -> tuple[int, FloatArray]:
    """Number of face pairs that cross, and the middles (k, 3) of up to 100 of them."""
    from sacroplan.geometry.tree import face_tree

    count, pairs = face_tree(surface).crossing_faces()
    return count, np.asarray(surface.triangles[pairs].mean(axis=(1, 2))).reshape(-1, 3)


def uncrossed(surface: Surface, name: str, region: FloatArray) -> Surface:
    """``surface`` itself, or an error where its faces cross each other inside the box ``region`` (2, 3).

    Outside the box a crossing cannot reach the implant.
    """
    t = surface.triangles
    near = np.all(t.max(axis=1) >= region[0], axis=1) & np.all(t.min(axis=1) <= region[1], axis=1)
    if not near.any():
        return surface
    count, middles = crossings(surface.subset(near))
    if count > INSIDE_SHARE * int(near.sum()):
        raise GeometryError(
            f"The solid {name} crosses itself: {count} pairs of faces near {where(middles)}; "
            "a cut of it would be wrong without a word. Smooth or remesh it there."
        )
    return surface
