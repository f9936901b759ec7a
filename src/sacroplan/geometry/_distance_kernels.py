"""Compiled loops of the Euclidean distance transform; every line of voxels is independent."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

BLOCK = 16
"""Lines handled together along the slowest axis: one cache line of float32."""


@njit(cache=True, nogil=True)
def _along_k(mask, out, step, limit):  # type: ignore[no-untyped-def]
    """Squared distance to the nearest marked voxel of the same line, for one (nj, nk) slab."""
    nj, nk = mask.shape
    for j in range(nj):
        d = np.inf
        for k in range(nk):
            d = 0.0 if mask[j, k] != 0 else d + step
            out[j, k] = d * d if d <= limit else np.inf
        d = np.inf
        for k in range(nk - 1, -1, -1):
            d = 0.0 if mask[j, k] != 0 else d + step
            if d <= limit and d * d < out[j, k]:
                out[j, k] = d * d


@njit(cache=True, nogil=True)
def _envelope(f, n, step, limit2, site, border, out):  # type: ignore[no-untyped-def]
    """Lower envelope of the parabolas ``f[q] + (step (p - q))**2`` at every p; ``inf`` where none."""
    top = -1
    inverse = 1.0 / (2.0 * step * step)
    for q in range(n):
        if f[q] == np.inf:
            continue
        x = -np.inf
        while top >= 0:
            p = site[top]
            x = (f[q] - f[p] + step * step * (q * q - p * p)) * inverse / (q - p)
            if x > border[top]:
                break
            top -= 1
        if top < 0:
            x = -np.inf
        top += 1
        site[top] = q
        border[top] = x
    if top < 0:
        for p in range(n):
            out[p] = np.inf
        return
    at = 0
    for p in range(n):
        while at < top and border[at + 1] < p:
            at += 1
        d = step * (p - site[at])
        value = f[site[at]] + d * d
        out[p] = value if value <= limit2 else np.inf


@njit(cache=True, parallel=True, nogil=True)
def squared_distance(mask, steps, limit, out):  # type: ignore[no-untyped-def]
    """Squared distance (mm2) of every voxel to the nearest marked one, ``inf`` beyond ``limit``.

    ``mask`` uint8 and ``out`` float32 (ni, nj, nk), C order; ``steps`` (3,) mm.
    """
    ni, nj, nk = mask.shape
    limit2 = limit * limit * (1.0 + 1e-6)
    for i in prange(ni):
        _along_k(mask[i], out[i], steps[2], limit * (1.0 + 1e-6))
        f, g = np.empty(nj), np.empty(nj)
        site, border = np.empty(nj, np.int64), np.empty(nj)
        for k in range(nk):
            some = False
            for j in range(nj):
                f[j] = out[i, j, k]
                some = some or f[j] < np.inf
            if some:
                _envelope(f, nj, steps[1], limit2, site, border, g)
                for j in range(nj):
                    out[i, j, k] = g[j]
    for j in prange(nj):
        lines = np.empty((BLOCK, ni))
        g = np.empty(ni)
        site, border = np.empty(ni, np.int64), np.empty(ni)
        for first in range(0, nk, BLOCK):
            count = min(BLOCK, nk - first)
            for i in range(ni):
                for b in range(count):
                    lines[b, i] = out[i, j, first + b]
            for b in range(count):
                some = False
                for i in range(ni):
                    some = some or lines[b, i] < np.inf
                if some:
                    _envelope(lines[b], ni, steps[0], limit2, site, border, g)
                    for i in range(ni):
                        lines[b, i] = g[i]
            for i in range(ni):
                for b in range(count):
                    out[i, j, first + b] = lines[b, i]


@njit(cache=True, parallel=True, nogil=True)
def root(values, ceiling):  # type: ignore[no-untyped-def]
    """Square root in place; what is infinite becomes ``ceiling``."""
    flat = values.reshape(-1)
    for n in prange(flat.size):
        flat[n] = np.sqrt(flat[n]) if flat[n] < np.inf else ceiling
