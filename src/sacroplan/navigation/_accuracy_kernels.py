"""Compiled Monte Carlo of misplaced screws. Every draw is on its own: threads cannot show."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sacroplan.fixation._depth_kernels import depth_at


@njit(cache=True, parallel=True)
def breaches(  # type: ignore[no-untyped-def]
    depth, h, lows, entries, directions, lengths, radius, start, step, ring, worst, where, at
):
    """Furthest that the thread of each misplaced screw stands out of the bone (mm, 0: nowhere).

    ``depth`` on a grid of ``h`` mm with its corner at ``lows`` (3,), in the same axes as ``entries``
    and ``directions`` (n, 3). ``where`` (n, 3): from the axis to the worst point; ``at`` (n,): its
    distance from the entry.
    """
    for n in prange(entries.shape[0]):
        d = directions[n]
        # Two directions across the axis.
        ux, uy, uz = 0.0, 0.0, 0.0
        if abs(d[0]) <= abs(d[1]) and abs(d[0]) <= abs(d[2]):
            ux, uy, uz = 0.0, -d[2], d[1]
        elif abs(d[1]) <= abs(d[2]):
            ux, uy, uz = -d[2], 0.0, d[0]
        else:
            ux, uy, uz = -d[1], d[0], 0.0
        length = np.sqrt(ux * ux + uy * uy + uz * uz)
        ux, uy, uz = ux / length, uy / length, uz / length
        vx, vy, vz = d[1] * uz - d[2] * uy, d[2] * ux - d[0] * uz, d[0] * uy - d[1] * ux
        most = 0.0
        t = start
        while t <= lengths[n] + 1e-9:
            x = entries[n, 0] + t * d[0]
            y = entries[n, 1] + t * d[1]
            z = entries[n, 2] + t * d[2]
            inside = depth_at(depth, (x - lows[0]) / h, (y - lows[1]) / h, (z - lows[2]) / h)
            # The thread can stand out by no more than its radius beyond the axis's own depth.
            if radius - inside > most:
                for k in range(ring.shape[0]):
                    ox = radius * (ring[k, 0] * ux + ring[k, 1] * vx)
                    oy = radius * (ring[k, 0] * uy + ring[k, 1] * vy)
                    oz = radius * (ring[k, 0] * uz + ring[k, 1] * vz)
                    out = -depth_at(
                        depth,
                        (x + ox - lows[0]) / h,
                        (y + oy - lows[1]) / h,
                        (z + oz - lows[2]) / h,
                    )
                    if out > most:
                        most = out
                        where[n, 0], where[n, 1], where[n, 2] = ox, oy, oz
                        at[n] = t
            t += step
        worst[n] = most
