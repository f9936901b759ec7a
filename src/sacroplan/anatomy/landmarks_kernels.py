"""Compiled loops of the landmark search. Serial: the same input gives the same bytes."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def silhouette(u, v, faces, mask):  # type: ignore[no-untyped-def]
    """Set ``mask[i, j]`` where grid point (i, j) lies under a projected triangle.

    ``u``, ``v`` (n,) are vertex positions in grid steps.
    """
    ni, nj = mask.shape
    for f in range(faces.shape[0]):
        ax, ay = u[faces[f, 0]], v[faces[f, 0]]
        bx, by = u[faces[f, 1]], v[faces[f, 1]]
        cx, cy = u[faces[f, 2]], v[faces[f, 2]]
        i0 = max(0, int(np.ceil(min(ax, bx, cx))))
        i1 = min(ni - 1, int(np.floor(max(ax, bx, cx))))
        j0 = max(0, int(np.ceil(min(ay, by, cy))))
        j1 = min(nj - 1, int(np.floor(max(ay, by, cy))))
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                wa = (cx - bx) * (j - by) - (cy - by) * (i - bx)
                wb = (ax - cx) * (j - cy) - (ay - cy) * (i - cx)
                wc = (bx - ax) * (j - ay) - (by - ay) * (i - ax)
                if (wa >= 0.0 and wb >= 0.0 and wc >= 0.0) or (
                    wa <= 0.0 and wb <= 0.0 and wc <= 0.0
                ):
                    mask[i, j] = True
