"""Compiled search over entries and directions in a depth field.

Every entry is searched on its own, so the number of threads cannot show in the result.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sacroplan.fixation._depth_kernels import depth_at
from sacroplan.fixation._exact_kernels import _segments


@njit(cache=True, parallel=True)
def corridor_axes(  # type: ignore[no-untyped-def]
    depth, origin, h, entries, directions, penalty, need, skip, lengths, keep_a, keep_b, keep_mm,
    w_clear, w_length, cap, hu, w_bone, step, score, least, index,
):  # fmt: skip
    """Best length, clearance and score of every (entry, direction) axis.

    ``depth`` is sampled from ``skip`` behind the entry on; where it falls below ``need`` the axis
    ends. Between two samples the field can lose no more than the way between them, so deep bone is
    crossed in long steps. An axis nearer than ``keep_mm`` to a segment ``keep_a`` to ``keep_b`` is cut
    short. ``score``, ``least``, ``index`` (n, m): -inf, 0 and -1 where no length fits. ``hu`` on the
    same grid counts where ``w_bone`` is not zero.
    """
    for n in prange(entries.shape[0]):
        p = entries[n]
        gx, gy, gz = (p[0] - origin[0]) / h, (p[1] - origin[1]) / h, (p[2] - origin[2]) / h
        tip = np.empty(3)
        for m in range(directions.shape[0]):
            d = directions[m]
            sx, sy, sz = d[0] / h, d[1] / h, d[2] / h
            score[n, m] = -np.inf
            least[n, m] = 0.0
            index[n, m] = -1
            # The narrowest places lie anywhere; a look at three of them throws most axes out.
            first = lengths[0]
            if (
                depth_at(depth, gx + skip * sx, gy + skip * sy, gz + skip * sz) < need
                or depth_at(depth, gx + first * sx, gy + first * sy, gz + first * sz) < need
                or depth_at(
                    depth, gx + 0.5 * first * sx, gy + 0.5 * first * sy, gz + 0.5 * first * sz
                ) < need
            ):  # fmt: skip
                continue
            t = skip
            low = 1e9
            nxt = 0
            bone, samples = 0.0, 0
            while nxt < lengths.shape[0]:
                value = depth_at(depth, gx + t * sx, gy + t * sy, gz + t * sz)
                if value < need:
                    break
                if value < low:
                    low = value
                ahead = max(step, value - low)
                if w_bone != 0.0:
                    ahead = step
                    bone += depth_at(hu, gx + t * sx, gy + t * sy, gz + t * sz)
                    samples += 1
                blocked = False
                while nxt < lengths.shape[0] and lengths[nxt] <= t:
                    for k in range(3):
                        tip[k] = p[k] + lengths[nxt] * d[k]
                    for q in range(keep_a.shape[0]):
                        gap, _ = _segments(p, tip, keep_a[q], keep_b[q])
                        if gap < keep_mm[q] * keep_mm[q]:
                            blocked = True
                    if blocked:
                        break
                    value = w_clear * min(low - need, cap) + w_length * lengths[nxt] - penalty[m]
                    if samples:
                        value += w_bone * bone / samples
                    if value > score[n, m]:
                        score[n, m] = value
                        least[n, m] = low
                        index[n, m] = nxt
                    nxt += 1
                if blocked:
                    break
                if nxt < lengths.shape[0] and t < lengths[nxt] < t + ahead:
                    ahead = lengths[nxt] - t
                t += ahead
