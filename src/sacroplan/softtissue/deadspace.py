"""The dead space a resection leaves: what was taken, less what is put back [HANDBOOK SOFT-5]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.fields import contour, inside_mask
from sacroplan.geometry.frames import FloatArray, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry, grid_around

GRID_MM = 1.0
"""Grid on which solids are counted by the middles of their voxels: a ball of 14 mm radius is within
0.5 % of its volume, a sacrum within 0.1 %."""

MARGIN_MM = 6.0


@dataclass(frozen=True, eq=False)
class DeadSpace:
    """The cavity to be filled by living tissue.

    Attributes
    ----------
    volume_mm3 : of the cavity. removed_mm3 : bone and soft tissue that were taken. filled_mm3 : what
        implant and grafts put back into it.
    area_mm2 : its outline seen from behind. surface : the cavity's surface, None where nothing is left.
    centre : (3,) its middle. farthest : (3,) its point nearest to the skin of the back.
    """

    volume_mm3: float
    removed_mm3: float
    filled_mm3: float
    area_mm2: float
    surface: Surface | None
    centre: FloatArray
    farthest: FloatArray


def dead_spaces(
    specimen: Sequence[Surface],
    fills: Mapping[str, Sequence[Surface]],
    posterior: FloatArray,
    tumour: Surface | None = None,
    soft_margin_mm: float = 0.0,
    stays: Sequence[Surface] = (),
    body: Surface | None = None,
    grid_mm: float = GRID_MM,
) -> dict[str, DeadSpace]:
    """Volume and shape of the dead space with each of several fillings.

    Parameters
    ----------
    specimen : closed surfaces of the removed bone.
    fills : name to the closed surfaces of implant and grafts that are put in.
    posterior : (3,) towards the patient's back.
    tumour, soft_margin_mm : the tumour with so much tissue round it goes as well.
    stays : closed surfaces of bone that stays; no space is counted there.
    body : closed surface of the skin; no space is counted outside.

    Raises :class:`PlanError` where nothing was removed.
    """
    if not specimen:
        raise PlanError("No bone is removed, so there is no dead space; plan a resection first.")
    put_in = [s for fill in fills.values() for s in fill]
    frame = same_frame(*specimen, *put_in, *stays, *([tumour] if tumour is not None else []))
    points = np.concatenate([s.vertices for s in specimen])
    if tumour is not None:
        reach = np.array([[1.0, 1, 1], [-1, -1, -1]]) * soft_margin_mm
        points = np.concatenate([points, *(tumour.vertices + r for r in reach)])
    grid = grid_around(points, grid_mm, MARGIN_MM, frame)
    taken = np.zeros(grid.shape, dtype=bool)
    for piece in specimen:
        taken |= inside_mask(piece, grid)
    if tumour is not None:
        inner = inside_mask(tumour, grid)
        taken |= inner
        if soft_margin_mm > 0:
            # The tumour's surface lies half a voxel beyond the middle of its last voxel.
            far = distance_to(inner, grid_mm, soft_margin_mm + 2.0 * grid_mm)
            taken |= far <= soft_margin_mm + 0.5 * grid_mm
    for wall in stays:
        if _meets(wall, grid):
            taken &= ~inside_mask(wall, grid)
    if body is not None:
        taken &= inside_mask(body, grid)
    masks = {id(s): inside_mask(s, grid) for s in put_in if _meets(s, grid)}
    out = {}
    for name, fill in fills.items():
        space = taken.copy()
        for part in fill:
            if id(part) in masks:
                space &= ~masks[id(part)]
        out[name] = _measured(taken, space, grid, unit(posterior))
    return out


def dead_space(
    specimen: Sequence[Surface],
    fill: Sequence[Surface],
    posterior: FloatArray,
    *more: Any,
    **named: Any,
) -> DeadSpace:
    """:func:`dead_spaces` with one filling."""
    return dead_spaces(specimen, {"one": fill}, posterior, *more, **named)["one"]


def _measured(
    taken: npt.NDArray[np.bool_],
    space: npt.NDArray[np.bool_],
    grid: VolumeGeometry,
    back: FloatArray,
) -> DeadSpace:
    step = float(grid.spacing_mm[0])
    removed, volume = float(taken.sum()) * step**3, float(space.sum()) * step**3
    world = grid.to_world(np.argwhere(space if space.any() else taken).astype(np.float64))
    middle = world.mean(axis=0)
    if not space.any():
        return DeadSpace(0.0, removed, removed, 0.0, None, middle, middle)
    deepest = world[int(np.argmax(world @ back))]
    return DeadSpace(
        volume, removed, removed - volume, _outline_mm2(world, back, step), _around(space, grid),
        middle, deepest,
    )  # fmt: skip


def _around(mask: npt.NDArray[np.bool_], grid: VolumeGeometry) -> Surface:
    """A smooth surface round a mask, for pictures."""
    from scipy.ndimage import gaussian_filter

    return contour(grid, 0.5 - gaussian_filter(mask.astype(np.float32), 1.0))


def _meets(surface: Surface, grid: VolumeGeometry) -> bool:
    """Whether a surface's box reaches into the grid."""
    index = grid.to_index(surface.vertices)
    top = np.array(grid.shape) - 1.0
    return bool(np.all(index.max(axis=0) > 0) and np.all(index.min(axis=0) < top))


def _outline_mm2(points: FloatArray, back: FloatArray, spacing_mm: float) -> float:
    """Area of points seen along ``back``, on a grid twice as wide as theirs."""
    from sacroplan.geometry.frames import perpendicular

    u = perpendicular(back)
    v = np.cross(back, u)
    cell = 2.0 * spacing_mm
    seen = np.stack([points @ u, points @ v], axis=1)
    key = np.floor((seen - seen.min(axis=0)) / cell).astype(np.int64)
    flags = np.zeros(key.max(axis=0) + 1, dtype=bool)
    flags[key[:, 0], key[:, 1]] = True
    return float(np.count_nonzero(flags)) * cell**2
