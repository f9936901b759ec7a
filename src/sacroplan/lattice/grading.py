"""Density fields for graded layers: by distance from a surface, or by what finite elements found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.lattice.layer import FloatField, split_faces

NEIGHBOURS = 8
"""Elements over which a value is spread."""

PERCENTILES = (10.0, 90.0)
"""Strain below the first gets the lowest density, above the second the highest."""


def _checked(low: float, high: float) -> None:
    if not 0.0 < low < 1.0 or not 0.0 < high < 1.0:
        raise PlanError(
            f"Relative densities from {low:g} to {high:g} were asked; both must lie between 0 and 1."
        )


def by_distance(surface: Surface, near: float, far: float, over_mm: float) -> FloatField:
    """Relative density ``near`` on ``surface``, ``far`` from ``over_mm`` away, linear between.

    With a seat's faces as surface the layer is open at the bone and dense at the core.
    """
    _checked(near, far)
    if not over_mm > 0.0:
        raise PlanError(f"A gradient over {over_mm:g} mm was asked; its length must be above 0.")
    import igl

    def field(points: FloatArray) -> FloatArray:
        squared = igl.point_mesh_squared_distance(
            np.ascontiguousarray(points), surface.vertices, surface.faces
        )[0]
        return np.asarray(np.interp(np.sqrt(squared), [0.0, over_mm], [near, far]))

    return field


def by_depth(body: Surface, core: Surface, near: float, far: float, over_mm: float) -> FloatField:
    """Density of a layer ``body`` on its ``core``: ``near`` at the bone, ``far`` from ``over_mm`` below."""
    seat, _ = split_faces(body, core, None)
    return by_distance(Surface(body.vertices, body.faces[seat], body.frame), near, far, over_mm)


def by_strain(centres: npt.ArrayLike, strain: npt.ArrayLike, low: float, high: float) -> FloatField:
    """Relative density by a strain, or strain energy, of finite elements: much strain, dense lattice.

    Parameters
    ----------
    centres : (n, 3) LPS middles of the elements. strain : (n,) not negative.
    low, high : densities at the 10th and the 90th percentile of the strain, linear between.

    The value at a point is the mean of the nearest elements, weighted by their nearness.
    """
    from scipy.spatial import cKDTree

    _checked(low, high)
    p = np.asarray(centres, dtype=np.float64).reshape(-1, 3)
    v = np.asarray(strain, dtype=np.float64).ravel()
    if len(p) < NEIGHBOURS or len(p) != len(v) or not np.isfinite(v).all() or v.min() < 0.0:
        raise PlanError(
            f"A density field needs at least {NEIGHBOURS} elements with a strain of 0 or more each; "
            f"{len(p)} places and {len(v)} values were given."
        )
    a, b = np.percentile(v, PERCENTILES)
    density = np.interp(v, [a, b], [low, high]) if b > a else np.full(len(v), 0.5 * (low + high))
    tree = cKDTree(p)

    def field(points: FloatArray) -> FloatArray:
        d, near = tree.query(points, NEIGHBOURS)
        weight = 1.0 / (d + 1e-6 + 0.1 * d[:, -1:])
        return np.asarray((weight * density[near]).sum(axis=1) / weight.sum(axis=1))

    return field
