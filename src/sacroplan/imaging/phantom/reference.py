"""The reference pose as arrays."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from sacroplan.geometry.frames import FloatArray

LEVELS = ("S1", "S2", "S3", "S4")


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, Any]]:
    text = (resources.files(__package__) / "reference.toml").read_text("utf-8")
    return tomllib.loads(text)


def array(table: str, name: str) -> FloatArray:
    """Entry ``name`` of ``table`` as a fresh float array, reference mm."""
    return np.array(_tables()[table][name], dtype=np.float64)


def number(table: str, name: str) -> float:
    """Scalar entry ``name`` of ``table``."""
    return float(_tables()[table][name])
