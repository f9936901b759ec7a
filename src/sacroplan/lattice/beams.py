"""Struts of a layer as beams: a centre line and two radii each, a thousandth of the triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.fields import contour
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.surface import Surface
from sacroplan.lattice.cells import cell_of, level_table, struts_of
from sacroplan.lattice.layer import PorousLayer


@dataclass(frozen=True, eq=False)
class Beams:
    """Beams in LPS mm.

    ``nodes`` (n, 3); ``ends`` (m, 2) node numbers; ``radii_mm`` (m, 2). What stands beyond ``hull``, the
    layer with its overlap into the core, is to be cut off; ``rim`` is solid, None where there is none.
    """

    nodes: FloatArray
    ends: npt.NDArray[np.int64]
    radii_mm: FloatArray
    hull: Surface
    rim: Surface | None


def beams(layer: PorousLayer) -> Beams:
    """Beams of a layer of struts. Raises :class:`PlanError` for a cell without struts."""
    cell = cell_of(layer.cell)
    if cell.kind != "strut":
        raise PlanError(f"The {cell.title} has no struts; write it as triangles or slices.")
    g = layer.geometry
    local = (layer.body.vertices - layer.anchor) @ g.direction
    low = np.floor(local.min(axis=0)[:2] / layer.cell_mm).astype(int) - 1
    high = np.ceil(local.max(axis=0)[:2] / layer.cell_mm).astype(int) + 1
    deepest = float(layer.depth[layer.clip < 0.0].max())
    rows = range(-1, int(np.ceil(deepest / layer.cell_depth_mm)) + 1)
    shift = np.stack(
        np.meshgrid(range(low[0], high[0]), range(low[1], high[1]), rows, indexing="ij"), axis=-1
    ).reshape(-1, 3)
    own = struts_of(layer.cell)
    lines = (own[None] + np.tile(shift, 2)[:, None]).reshape(-1, 3)
    # Equal ends get one node: eighths of a cell are exact in binary.
    keys, inverse = np.unique(np.round(8.0 * lines).astype(np.int64), axis=0, return_inverse=True)
    places, known = _placed(layer, keys / 8.0)
    ends = inverse.reshape(-1, 2)
    density: FloatArray = (
        np.full(len(places), layer.density)
        if layer.graded is None
        else sample(g, layer.graded, places, layer.density)
    )
    radius = np.interp(density, np.arange(257) / 256.0, level_table(layer.cell)) * layer.cell_mm
    inside = sample(g, layer.clip, places, 1.0) < radius
    middle = sample(g, layer.clip, places[ends].mean(axis=1), 1.0) < radius[ends].max(axis=1)
    chosen = (inside[ends].any(axis=1) | middle) & known[ends].all(axis=1)
    used, number = np.unique(ends[chosen], return_inverse=True)
    hull = contour(g, layer.clip)
    rim = np.maximum(layer.rim, layer.clip)
    return Beams(
        places[used],
        number.reshape(-1, 2),
        radius[ends[chosen]],
        hull,
        contour(g, rim) if (rim < 0.0).any() else None,
    )


def _placed(layer: PorousLayer, cells: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """LPS points of cell coordinates (n, 3), and which of them the layer's grid reaches.

    The third coordinate is a depth below the seat; on each line across the layer the place of that depth
    is found between two points of the grid.
    """
    g = layer.geometry
    foot = layer.anchor + cells[:, :2] * layer.cell_mm @ g.direction[:, :2].T
    base = g.to_index(foot)
    wanted = cells[:, 2] * layer.cell_depth_mm
    best = np.full(len(cells), np.nan)
    signed = _signed_depth(layer)
    before = _column(signed, base, 0)
    for k in range(1, g.shape[2]):
        after = _column(signed, base, k)
        # Depth falls along the seat's normal; the outermost place counts.
        with np.errstate(invalid="ignore"):
            hit = (before >= wanted) & (after < wanted)
        best[hit] = k - 1 + (before[hit] - wanted[hit]) / (before[hit] - after[hit])
        before = after
    known = np.isfinite(best)
    index = np.column_stack([base[:, :2], np.where(known, best, 0.0)])
    return g.to_world(index), known


def _signed_depth(layer: PorousLayer) -> npt.NDArray[np.float64]:
    """Depth that goes on falling above the seat, where a distance would rise again."""
    depth = layer.depth.astype(np.float64)
    lowest = np.argmin(depth, axis=2)
    k = np.arange(depth.shape[2])
    above = k[None, None, :] > lowest[:, :, None]
    return np.where(above & (depth > 0.0), -depth, depth)


def _column(field: FloatArray, base: FloatArray, k: int) -> FloatArray:
    """Field at height ``k`` above the places ``base`` (n, 3), linear between columns; NaN off the grid."""
    ni, nj = field.shape[:2]
    ok = (base[:, 0] >= 0) & (base[:, 0] < ni - 1) & (base[:, 1] >= 0) & (base[:, 1] < nj - 1)
    i = np.where(ok, base[:, 0], 0.0).astype(int)
    j = np.where(ok, base[:, 1], 0.0).astype(int)
    u, v = np.where(ok, base[:, 0] - i, 0.0), np.where(ok, base[:, 1] - j, 0.0)
    plane = field[:, :, k]
    out = (1 - v) * ((1 - u) * plane[i, j] + u * plane[i + 1, j]) + v * (
        (1 - u) * plane[i, j + 1] + u * plane[i + 1, j + 1]
    )
    return np.asarray(np.where(ok, out, np.nan))
