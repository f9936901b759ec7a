"""Compiled search for connected pieces of a mask by runs: rows of set points are joined, not points."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True, parallel=True)
def count_runs(mask, wanted):  # type: ignore[no-untyped-def]
    """(nk * nj,) runs of ``wanted`` (0 or 1) along the last axis of ``mask`` (nk, nj, ni), row by row."""
    nk, nj, ni = mask.shape
    out = np.zeros(nk * nj, dtype=np.int64)
    for row in prange(nk * nj):
        line = mask[row // nj, row % nj]
        n = 0
        for i in range(ni):
            if line[i] == wanted and (i == 0 or line[i - 1] != wanted):
                n += 1
        out[row] = n
    return out


@njit(cache=True, nogil=True, parallel=True)
def find_runs(mask, wanted, first, low, high):  # type: ignore[no-untyped-def]
    """Write the runs [low, high) of each row from place ``first[row]`` on."""
    nk, nj, ni = mask.shape
    for row in prange(nk * nj):
        line = mask[row // nj, row % nj]
        n = first[row]
        for i in range(ni):
            if line[i] == wanted and (i == 0 or line[i - 1] != wanted):
                low[n] = i
            if line[i] == wanted and (i + 1 == ni or line[i + 1] != wanted):
                high[n] = i + 1
                n += 1


@njit(cache=True, nogil=True, inline="always")
def _root(parent, n):  # type: ignore[no-untyped-def]
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


@njit(cache=True, nogil=True)
def _join(a0, a1, b0, b1, reach, low, high, parent):  # type: ignore[no-untyped-def]
    """Join runs a0..a1 with runs b0..b1 of another row that come within ``reach`` points of them."""
    a, b = a0, b0
    while a < a1 and b < b1:
        if low[a] < high[b] + reach and low[b] < high[a] + reach:
            p, q = _root(parent, a), _root(parent, b)
            # The smaller number wins, so that pieces are numbered by their first run.
            if p < q:
                parent[q] = p
            elif q < p:
                parent[p] = q
        if high[a] < high[b]:
            a += 1
        else:
            b += 1


@njit(cache=True, nogil=True)
def join_runs(nk, nj, first, low, high, edges, parent):  # type: ignore[no-untyped-def]
    """Join touching runs: across faces of the grid's cells, with ``edges`` also across their edges."""
    for k in range(nk):
        for j in range(nj):
            row = k * nj + j
            a0, a1 = first[row], first[row + 1]
            if a0 == a1:
                continue
            reach = 1 if edges else 0
            if j > 0:
                _join(a0, a1, first[row - 1], first[row], reach, low, high, parent)
            if k > 0:
                up = row - nj
                _join(a0, a1, first[up], first[up + 1], reach, low, high, parent)
                if edges and j > 0:
                    _join(a0, a1, first[up - 1], first[up], 0, low, high, parent)
                if edges and j + 1 < nj:
                    _join(a0, a1, first[up + 1], first[up + 2], 0, low, high, parent)


@njit(cache=True, nogil=True)
def number_runs(parent, low, high, piece):  # type: ignore[no-untyped-def]
    """Write each run's piece from 1 on; points of each piece, entry 0 for none."""
    count = 0
    for n in range(len(parent)):
        if parent[n] == n:
            count += 1
            piece[n] = count
        else:
            piece[n] = piece[_root(parent, n)]
    size = np.zeros(count + 1, dtype=np.int64)
    for n in range(len(parent)):
        size[piece[n]] += high[n] - low[n]
    return size


@njit(cache=True, nogil=True, parallel=True)
def paint(nk, nj, first, low, high, piece, chosen, out):  # type: ignore[no-untyped-def]
    """Set ``out`` (nk, nj, ni) where a run's piece is ``chosen``."""
    for row in prange(nk * nj):
        line = out[row // nj, row % nj]
        for n in range(first[row], first[row + 1]):
            if chosen[piece[n]]:
                line[low[n] : high[n]] = True
