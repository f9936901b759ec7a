"""Several masks onto one label image, and a record of where they contradict each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Painter:
    """Paints ids (1 to 255) onto an image of zeros.

    Where two structures claim a voxel the later one has it, except that the id ``keeps`` never
    gives one away: a tumour in a bone stays a tumour, in whatever order a file names them.

    Attributes
    ----------
    image : uint8 label image, changed in place. keeps : the id that is never painted over.
    overlaps : (256, 256) number of voxels that had the first id and were claimed by the second.
    """

    def __init__(self, shape: tuple[int, ...], keeps: int = 0) -> None:
        self.image = np.zeros(shape, dtype=np.uint8)
        self.keeps = keeps
        self.overlaps = np.zeros((256, 256), dtype=np.int64)

    def paint(self, ids: npt.NDArray[Any], onto: npt.NDArray[np.uint8] | None = None) -> None:
        """Paint ``ids`` (0 paints nothing) onto the image, or onto a view of a part of it."""
        target = self.image if onto is None else onto
        new = ids.astype(np.uint8, copy=False)
        claimed = (new > 0) & (target > 0) & (new != target)
        if claimed.any():
            pairs = target[claimed].astype(np.intp) * 256 + new[claimed]
            self.overlaps += np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
        np.copyto(target, new, where=(new > 0) & ((target != self.keeps) | (target == 0)))

    def contested(self) -> dict[tuple[int, int], int]:
        """Voxels claimed by two ids, smaller id first."""
        both = np.triu(self.overlaps + self.overlaps.T)
        return {(int(a), int(b)): int(both[a, b]) for a, b in np.argwhere(both)}
