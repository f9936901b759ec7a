"""What the other side tells of a joint that the image does not show.

Thick slices and bridges hide a sacroiliac joint on one side more than on the other, and a part of the
ala then sticks to the hip bone. A pelvis is nearly its own mirror image: where the two sides disagree
about a piece, the boundaries of both sides together decide whose it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan import evidence
from sacroplan.anatomy.segmentation.regions import RegionGraph, seeded_basins
from sacroplan.anatomy.segmentation.seeds import HIP_LEFT, HIP_RIGHT, SACRUM
from sacroplan.geometry.frames import FloatArray

Int32 = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_OTHER = {HIP_RIGHT: HIP_LEFT, HIP_LEFT: HIP_RIGHT}


@dataclass(frozen=True, eq=False)
class Mirror:
    """The plane halfway between the hip bones, square to the line between their centres; voxels."""

    middle: FloatArray
    across: FloatArray

    def seen(self, values: npt.NDArray[Any], at: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """What ``values`` (ni, nj, nk) hold at the mirror images of the voxels ``at`` (n, 3)."""
        image = at - 2.0 * ((at - self.middle) @ self.across)[:, None] * self.across
        index = np.rint(image).astype(np.int64)
        ok = np.all((index >= 0) & (index < values.shape), axis=1)
        out = np.zeros(len(at), dtype=values.dtype)
        out[ok] = values[tuple(index[ok].T)]
        return out


def mirror_of(labels: Int32) -> Mirror | None:
    """The mirror plane of a label map, None without both hip bones."""
    found = {n: np.argwhere(labels == n) for n in _OTHER}
    if not all(len(points) for points in found.values()):
        return None
    right, left = (found[n].mean(axis=0) for n in (HIP_RIGHT, HIP_LEFT))
    return Mirror(0.5 * (right + left), (left - right) / np.linalg.norm(left - right))


def agreed(graph: RegionGraph, labels: Int32, seeds: Int32, spacing_mm: float) -> Int32:
    """``labels`` with the pieces of a hip bone that the other side calls sacrum judged again.

    Such a piece becomes sacrum where the boundary of it and of its mirror image is stronger to the
    hip bones than to the sacrum, both sides averaged. Basins with seeds stay.

    Source: SP-SEG-13.
    """
    row = "SP-SEG-13"
    mirror = mirror_of(labels)
    if mirror is None or not np.any(labels == SACRUM):
        return labels
    least = evidence.value(row, "least") * 1000.0 / spacing_mm**3
    count = graph.count + 1
    size = np.bincount(graph.basin.ravel(), minlength=count)
    most = evidence.value(row, "share") * size.astype(np.float64)
    own = np.zeros(count, np.int32)
    own[graph.basin.ravel()] = labels.ravel()
    own[0] = 0
    free = seeded_basins(graph, seeds) == 0
    sacrum = np.argwhere(labels == SACRUM)
    out = own.copy()
    for hip, other in _OTHER.items():
        at = np.argwhere(labels == hip)
        at = at[mirror.seen(labels, at) == SACRUM]
        odd = free & (own == hip) & _holds(graph, at, most)
        pieces, number = ndimage.label(odd[graph.basin])
        volume = np.bincount(pieces.ravel(), minlength=number + 1)
        for n in np.flatnonzero(volume[1:] >= least) + 1:
            mask = pieces == n
            piece = np.zeros(count, dtype=bool)
            piece[graph.basin[mask]] = True
            twin = _holds(graph, sacrum[mirror.seen(mask, sacrum)], most) & (own == SACRUM)
            rest = (own == SACRUM) & ~twin
            hips = _parting(graph, (piece, own == hip), (twin, own == other))
            sacral = _parting(graph, (piece, own == SACRUM), (twin, rest))
            if hips > sacral:
                out[piece] = SACRUM
    return np.asarray(out[graph.basin], dtype=np.int32)


def _holds(graph: RegionGraph, at: npt.NDArray[np.int64], least: FloatArray) -> Mask:
    """Basins (count + 1,) with more than ``least`` (count + 1,) of the voxels ``at`` (n, 3)."""
    held = np.bincount(graph.basin[tuple(at.T)], minlength=graph.count + 1) > least
    held[0] = False
    return np.asarray(held)


def _parting(graph: RegionGraph, *pairs: tuple[Mask, Mask]) -> float:
    """Mean boundary strength between the basins of both masks of every pair, as linkage has it."""
    a, b = graph.ends.T
    strength = area = 0.0
    for piece, other in pairs:
        rest = other & ~piece
        between = (piece[a] & rest[b]) | (rest[a] & piece[b])
        strength += float(graph.strength[between].sum())
        area += float(graph.area[between].sum())
    return strength / area if area else np.inf
