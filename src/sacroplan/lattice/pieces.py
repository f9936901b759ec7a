"""Connected pieces of a mask: how large each is, where it is; a fifth of the time of labelled points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of a mask (nk, nj, ni), numbered from 1 in the order of their first points.

    Attributes
    ----------
    shape : of the mask. sizes : points of each piece; entry 0, of no piece, is 0.
    first : (nk * nj + 1,) first run of each row along the last axis. low, high : points [low, high) of
        every run. piece : number of every run's piece.
    """

    shape: tuple[int, int, int]
    sizes: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    low: npt.NDArray[np.int32]
    high: npt.NDArray[np.int32]
    piece: npt.NDArray[np.int32]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row, k * nj + j, of every run."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))

    def mask(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """(nk, nj, ni) points of the pieces for which ``chosen`` (len(sizes),) is set."""
        from sacroplan.lattice import _piece_kernels as kernels
        from sacroplan.parallel import ALL_CORES

        out = np.zeros(self.shape, dtype=bool)
        with ALL_CORES:
            kernels.paint(
                self.shape[0],
                self.shape[1],
                self.first,
                self.low,
                self.high,
                self.piece,
                chosen,
                out,
            )
        return out

    def at_corner(self) -> int:
        """Number of the piece that holds point (0, 0, 0); 0 where none does."""
        holds = self.first[1] > 0 and self.low[0] == 0
        return int(self.piece[0]) if holds else 0


def pieces(mask: npt.NDArray[np.bool_], wanted: bool = True, edges: bool = False) -> Pieces:
    """Pieces of the points of ``mask`` (nk, nj, ni) that are ``wanted``.

    Points touch across the faces of the grid's cells, with ``edges`` across their edges as well.
    """
    from sacroplan.lattice import _piece_kernels as kernels
    from sacroplan.parallel import ALL_CORES

    nk, nj, ni = mask.shape
    with ALL_CORES:
        count = kernels.count_runs(mask, wanted)
        first = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        low, high = (np.empty(int(first[-1]), dtype=np.int32) for _ in range(2))
        kernels.find_runs(mask, wanted, first, low, high)
    parent = np.arange(len(low), dtype=np.int64)
    kernels.join_runs(nk, nj, first, low, high, edges, parent)
    piece = np.empty(len(low), dtype=np.int32)
    sizes = kernels.number_runs(parent, low, high, piece)
    return Pieces((nk, nj, ni), sizes, first, low, high, piece)
