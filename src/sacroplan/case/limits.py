"""Which figures make a run end with exit code 3: the plan violates a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def _cut_through_tumour(value: float) -> bool:
    return value < 0.0


_LIMITS: tuple[tuple[str, str, Callable[[float], bool], str], ...] = (
    (
        "resection.margin.", ".min_mm", _cut_through_tumour,
        "the cut passes through the tumour ({value:.1f} mm)",
    ),
)  # fmt: skip


def violations(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line per broken limit; unknown figures break nothing."""
    out = []
    for name, metric in sorted(metrics.items()):
        value = metric["value"]
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        for start, end, broken, text in _LIMITS:
            if name.startswith(start) and name.endswith(end) and broken(value):
                out.append(f"{name}: {text.format(value=value)}")
    return out
