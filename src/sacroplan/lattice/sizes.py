"""Pores and struts, measured by the spheres that fit and the ways through.

Definitions (diameters):

- *throat*: the largest sphere that travels through the pore from one side to the other;
- *pore*: the largest sphere that fits anywhere into the pore space;
- *bar*: the largest sphere that travels through the solid from one side to the other: the waist of the
  thickest way, for networks and round struts the strut's diameter;
- *wall*: the way straight through the solid, along the inward normal, that 5 % of the surface fall short of.

A *strut* in the sense of a printer's limit is the bar of a network and the wall of a sheet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.lattice.cells import cell_of, level_of, samples, values
from sacroplan.lattice.marching import march

RESOLUTION = 24
"""Grid points along a cell's edge; narrow places are looked at again, so that 24 agree with 48 to 0.2 %."""

FINER = 6
"""Points per grid step about the narrowest place: its width is then known to a tenth of a step."""

NEAR = 3
"""Grid steps about the narrowest place that are looked at again."""

WALL_PERCENTILE = 5.0

Distance = Callable[[FloatArray], FloatArray]
"""Signed distance (n,) at points (n, 3): negative in the solid."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Diameters in one unit of length: throat, pore, bar, wall (see the module)."""

    throat: float
    pore: float
    bar: float
    wall: float

    def strut(self, kind: str) -> float:
        """What a printer must be able to build: the wall of a sheet, the bar of anything else."""
        return self.wall if kind == "sheet" else self.bar

    def scaled(self, factor: float) -> Sizes:
        """All diameters times ``factor``."""
        return Sizes(*(factor * v for v in (self.throat, self.pore, self.bar, self.wall)))


def _measure(
    distance: Distance, low: FloatArray, spacing: float, shape: tuple[int, int, int], periodic: bool
) -> tuple[float, float, float, float]:
    """Throat, pore and bar on a grid, and the share of its points in the solid.

    Ways are sought along the first axis; ``periodic`` closes the grid along the other two.
    """
    axes = [a + spacing * np.arange(n) for a, n in zip(low, shape, strict=True)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    signed = distance(nodes).reshape(shape)
    found = []
    for sign in (1.0, -1.0):
        radius = np.ascontiguousarray(sign * signed)
        found.append(2.0 * _widest(radius, distance, sign, low, spacing, periodic))
    at = np.array(np.unravel_index(int(np.argmax(signed)), shape))
    step = np.arange(-FINER, FINER + 1) / FINER
    around = np.stack(np.meshgrid(step, step, step, indexing="ij"), axis=-1).reshape(-1, 3)
    pore = 2.0 * float(distance(low + spacing * (at + around)).max())
    return found[0], pore, found[1], float((signed < 0.0).mean())


def _widest(
    radius: FloatArray,
    distance: Distance,
    sign: float,
    low: FloatArray,
    spacing: float,
    periodic: bool,
) -> float:
    """Radius of the largest sphere that travels through a phase along the first axis.

    ``radius`` (ni, nj, nk) is ``sign`` times the ``distance`` at the grid's points.

    The grid finds the narrowest place of the widest way; there the way is sought again on a finer grid,
    because grid points miss the middle of a strut by up to a step.
    """
    from scipy.ndimage import label

    from sacroplan.lattice import _kernels

    flat = radius.ravel()
    inside = np.flatnonzero(flat > 0.0)
    if not len(inside):
        raise GeometryError("A lattice without pore or without solid has no sizes to measure.")
    order = inside[np.argsort(-flat[inside], kind="stable")]
    place = int(_kernels.bottleneck(order, radius.shape, periodic))
    if place < 0:
        return 0.0
    narrow = float(flat[place])
    at = np.array(np.unravel_index(place, radius.shape))
    # The wider parts of the way on either side of the place, which itself belongs to neither.
    reach = np.arange(-NEAR, NEAR + 1)
    index = [at[n] + reach for n in range(3)]
    known = [
        np.mod(i, m) if periodic else np.clip(i, 0, m - 1)
        for i, m in zip(index, radius.shape, strict=True)
    ]
    near = radius[np.ix_(*known)]
    wide, count = label(near > narrow, np.ones((3, 3, 3)))
    middle = slice(NEAR - 1, NEAR + 2)
    sides = np.unique(wide[middle, middle, middle])
    sides = sides[sides > 0]
    if count < 2 or len(sides) < 2:
        return narrow
    fine = np.arange(-NEAR * FINER, NEAR * FINER + 1)
    steps = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), axis=-1)
    points = low + spacing * (at + steps / FINER)
    closer = sign * distance(points.reshape(-1, 3)).reshape(steps.shape[:3])
    coarse = np.rint(steps / FINER).astype(int) + NEAR
    belongs = wide[coarse[..., 0], coarse[..., 1], coarse[..., 2]]
    far = np.linalg.norm(steps, axis=-1) > 1.5 * FINER
    best = narrow
    for other in sides[1:]:
        start, end = far & (belongs == sides[0]), far & (belongs == other)
        if start.any() and end.any():
            best = max(best, _between(closer, start, end))
    return best


def _between(radius: FloatArray, start: npt.NDArray[np.bool_], end: npt.NDArray[np.bool_]) -> float:
    """Largest radius at which a way joins two sets of grid points."""
    from scipy.ndimage import label

    levels = np.unique(radius[radius > 0.0])
    low, high = 0, len(levels) - 1
    joined = 0.0
    while low <= high:
        middle = (low + high) // 2
        pieces, _ = label(radius >= levels[middle], np.ones((3, 3, 3)))
        both = np.intersect1d(pieces[start & (pieces > 0)], pieces[end & (pieces > 0)])
        if len(both):
            joined, low = float(levels[middle]), middle + 1
        else:
            high = middle - 1
    return joined


def _walls(triangles: FloatArray, chosen: npt.NDArray[np.bool_]) -> float:
    """Way straight through that 5 % of the ``chosen`` (n,) triangles' surface fall short of."""
    from sacroplan.geometry.tree import face_tree

    soup = Surface(
        triangles.reshape(-1, 3), np.arange(3 * len(triangles), dtype=np.int32).reshape(-1, 3)
    )
    t = triangles[chosen]
    cross = np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0])
    area = np.linalg.norm(cross, axis=1)
    proper = area > 0.0
    normals = cross[proper] / area[proper, None]
    through, _ = face_tree(soup).first_hits(t[proper].mean(axis=1), -normals, 1e-9)
    order = np.argsort(through, kind="stable")
    share = np.cumsum(area[proper][order])
    return float(through[order][np.searchsorted(share, WALL_PERCENTILE / 100.0 * share[-1])])


@lru_cache(maxsize=64)
def unit_sizes(name: str, density: float, resolution: int = RESOLUTION) -> Sizes:
    """Sizes of cell ``name`` at ``density``, in cell edges, on its own exact field."""
    from scipy.spatial import cKDTree

    level = level_of(name, density)
    name = cell_of(name).name
    points = _crossings(samples(name, 2 * resolution), level)
    tree = cKDTree(np.mod(points, 1.0), boxsize=1.0)

    def distance(p: FloatArray) -> FloatArray:
        # Distances to the points where a finer grid pierces the surface: a hair too long between them.
        d = tree.query(np.mod(p, 1.0))[0]
        return np.asarray(np.where(values(name, p) < level, -d, d))

    n = resolution
    # One plane more along the way: it leads from a plane to that plane's image.
    throat, pore, bar, _ = _measure(distance, np.zeros(3), 1.0 / n, (n + 1, n, n), True)
    return Sizes(throat, pore, bar, _unit_wall(name, level, resolution))


def _crossings(field: FloatArray, level: float) -> FloatArray:
    """(n, 3) points, in cell edges, where the edges of a periodic grid of middles cross ``level``."""
    out = []
    for axis in range(3):
        after = np.roll(field, -1, axis=axis)
        cut = (field < level) != (after < level)
        index = np.argwhere(cut) + 0.5
        index[:, axis] += (level - field[cut]) / (after[cut] - field[cut])
        out.append(index / field.shape[0])
    return np.concatenate(out)


def _unit_wall(name: str, level: float, resolution: int) -> float:
    """The wall of one cell, from facets of a block of two cells an edge round it."""
    n = 2 * resolution + 1
    grid = np.arange(n) / resolution - 0.5
    k, j, i = np.meshgrid(grid, grid, grid, indexing="ij")
    phi = (values(name, np.stack([i, j, k], axis=-1)).reshape(n, n, n) - level).astype(np.float32)
    phi[phi == 0.0] = np.float32(1e-7)
    blocks = list(march([phi], (n, n, n)))
    t = np.concatenate([b.vertices[b.faces] for b in blocks]) / resolution - 0.5
    middle = t.mean(axis=1)
    return _walls(t, ((middle >= 0.0) & (middle < 1.0)).all(axis=1))


def sizes_in_window(
    triangles: FloatArray, low: npt.ArrayLike, high: npt.ArrayLike, spacing: float
) -> tuple[Sizes, float]:
    """Sizes and relative density inside a box of a generated surface.

    Only its ``triangles`` (n, 3, 3), outward by right hand, are used, not the field that made them; those
    beyond the box by the size of a pore should be given too. The box holds whole cells, so that its density
    is the lattice's. Ways are sought along the first axis.
    """
    from scipy.spatial import cKDTree

    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(cross, axis=1)
    triangles, normals = triangles[length > 0.0], cross[length > 0.0] / length[length > 0.0, None]
    centres = triangles.mean(axis=1)
    tree = cKDTree(centres)

    def distance(p: FloatArray) -> FloatArray:
        d, nearest = tree.query(p)
        outward = np.einsum("ij,ij->i", p - centres[nearest], normals[nearest])
        # Near the surface the way to the triangle's plane is nearer the truth than that to its middle.
        d = np.where(d < spacing, np.abs(outward), d)
        return np.asarray(np.where(outward < 0.0, -d, d))

    count = np.maximum(np.rint((high - low) / spacing).astype(int), 2)
    shape = (int(count[0]), int(count[1]), int(count[2]))
    step = float(((high - low) / count).min())
    throat, pore, bar, share = _measure(distance, low + 0.5 * step, step, shape, False)
    within = ((centres >= low) & (centres < high)).all(axis=1)
    return Sizes(throat, pore, bar, _walls(triangles, within)), share
