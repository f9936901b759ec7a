"""Points in bones that a person has named: they overrule what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.anatomy.segmentation.grid import Working
from sacroplan.anatomy.segmentation.seeds import SACRUM, UNIT
from sacroplan.errors import AnatomyError
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import VolumeGeometry

Mask = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]

SNAP_MM = 8.0
"""A click may miss the bone by so much: marrow below the threshold, a hand on a mouse."""

CERTAIN_MM = 4.0
"""Around a click this much bone has its name: half the thickness of a sacral ala's edge."""

DOUBTFUL_MM = 12.0
"""Within this distance of a click automatic seeds of other bones are dropped."""


@dataclass(frozen=True, eq=False)
class Click:
    """A voxel (3,) of the fine grid, inside bone, and the label it was given."""

    index: npt.NDArray[np.int64]
    label: int


def snapped(
    clicks: Mapping[str, FloatArray],
    ids: Mapping[str, int],
    geometry: VolumeGeometry,
    fine: Working,
    mask: Mask,
) -> tuple[Click, ...]:
    """Clicks by bone name ((n, 3) LPS mm each) on the nearest voxels of ``mask``.

    Raises
    ------
    AnatomyError
        Naming a bone that is none of ``ids``, or a point with no bone within :data:`SNAP_MM`.
    """
    out = []
    reach = int(np.ceil(SNAP_MM / float(fine.spacing_mm[0])))
    for name, points in sorted(clicks.items()):
        if name not in ids:
            raise AnatomyError(
                f"A click names the bone {name!r}; expected is one of {', '.join(sorted(ids))}."
            )
        for point in np.asarray(points, dtype=np.float64).reshape(-1, 3):
            along = geometry.to_index(point) * geometry.spacing_mm
            at = (along - fine.start_mm) / fine.spacing_mm
            low = np.maximum(np.rint(at).astype(int) - reach, 0)
            high = np.minimum(np.rint(at).astype(int) + reach + 1, mask.shape)
            found = np.empty((0, 3), dtype=np.int64)
            if np.all(high > low):
                box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
                found = np.argwhere(mask[box]) + low
            away = np.linalg.norm((found - at) * fine.spacing_mm, axis=1)
            if not len(found) or float(away.min()) > SNAP_MM:
                place = ", ".join(f"{v:.0f}" for v in point)
                raise AnatomyError(
                    f"The click for {name} at LPS ({place}) mm has no bone within {SNAP_MM:g} mm; "
                    "put it inside the bone."
                )
            out.append(Click(found[int(away.argmin())], ids[name]))
    return tuple(out)


def first_sacral_unit(
    clicks: tuple[Click, ...], units: Int32, lumbar: tuple[int, ...], automatic: int, last: int
) -> int:
    """Which unit of the spine is the sacrum's first, counted from clicked vertebrae where there are.

    ``automatic`` is what was found without clicks, ``last`` the number of the lowest unit.

    Raises
    ------
    AnatomyError
        When two clicked vertebrae count to different sacra, or no sacrum is left.
    """
    counted: set[int] = set()
    first = automatic
    for click in clicks:
        unit = int(units[tuple(click.index)]) - UNIT
        if unit < 0:
            continue
        if click.label in lumbar:
            counted.add(unit + lumbar.index(click.label) + 1)
        elif click.label == SACRUM:
            first = min(first, unit)
    if len(counted) > 1:
        raise AnatomyError(
            "The clicked vertebrae do not count up: between them lie more or fewer vertebrae than "
            "their names say. Check the names of the clicks."
        )
    first = counted.pop() if counted else first
    if first > last:
        raise AnatomyError(
            "The clicked vertebrae leave no sacrum: below them no further bone of the spine was "
            "found. Check the names of the clicks."
        )
    return first


def placed(seeds: Int32, clicks: tuple[Click, ...], spacing_mm: float, mask: Mask) -> Int32:
    """``seeds`` with those of the clicks, and without other bones' seeds near them."""
    out = seeds.copy()
    for drop in (True, False):
        for click in clicks:
            reach = DOUBTFUL_MM if drop else CERTAIN_MM
            n = int(np.ceil(reach / spacing_mm))
            low = np.maximum(click.index - n, 0)
            high = np.minimum(click.index + n + 1, mask.shape)
            box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
            centre = np.zeros(mask[box].shape, dtype=bool)
            centre[tuple(click.index - low)] = True
            near = (distance_to(centre, spacing_mm, reach + 1.0) <= reach) & mask[box]
            view = out[box]
            if drop:
                view[near & (view != click.label)] = 0
            else:
                view[near] = click.label
    return out
