"""Independent pieces of work side by side: the two guides, the bones, the two models.

Threads, not processes: the heavy work is compiled code that lets go of the interpreter. Results come
in the order of the items and each piece sees only its own data, so that bytes do not depend on
scheduling.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sacroplan.progress import Progress, silent

T = TypeVar("T")
R = TypeVar("R")

ALL_CORES = threading.RLock()
"""Held by compiled loops that use all cores themselves: two at once gain nothing, and numba's
built-in scheduler, which is all there is on a machine without OpenMP, forbids it."""


def side_by_side(
    work: Callable[[T, Progress], R], items: Sequence[T], progress: Progress = silent
) -> list[R]:
    """``[work(item, its progress) for item in items]``, as many at once as there are cores.

    ``progress`` is told the mean of what the pieces tell. The first item's error is raised.
    """
    shares = [0.0] * len(items)
    lock = threading.Lock()

    def share(n: int) -> Progress:
        def report(fraction: float, message: str) -> None:
            with lock:
                shares[n] = max(shares[n], fraction)
                progress(sum(shares) / len(shares), message)

        return report

    if len(items) < 2:
        return [work(item, share(n)) for n, item in enumerate(items)]
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
        running = [pool.submit(work, item, share(n)) for n, item in enumerate(items)]
        return [task.result() for task in running]
