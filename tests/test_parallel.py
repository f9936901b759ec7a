"""Pieces of work side by side: order, progress, errors."""

from __future__ import annotations

import threading

import pytest

from sacroplan.errors import MechanicsError
from sacroplan.parallel import side_by_side


def test_results_keep_the_order_of_the_items():
    gate = threading.Event()

    def work(n, progress):
        # The first piece waits for the last one, so they can only end in the reverse order.
        if n == 0:
            assert gate.wait(10.0)
        else:
            gate.set()
        progress(1.0, str(n))
        return n * n

    assert side_by_side(work, [0, 1]) == [0, 1]


def test_progress_is_the_mean_and_never_falls():
    told = []

    def work(n, progress):
        for step in range(5):
            progress(step / 4.0, "")
        progress(0.2, "")

    side_by_side(work, [1, 2, 3], lambda fraction, _message: told.append(fraction))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_error_of_the_first_piece_is_raised():
    def work(n, progress):
        raise MechanicsError(f"piece {n}")

    with pytest.raises(MechanicsError, match="piece 1"):
        side_by_side(work, [1, 2])
