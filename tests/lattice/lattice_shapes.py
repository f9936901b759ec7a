"""Bodies for the lattice tests."""

from __future__ import annotations

import numpy as np

from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.geometry.surface import Surface
from sacroplan.lattice.marching import Block

HERE = AxisFrame("test", np.array([10.0, -20.0, 300.0]), np.eye(3))


def block(low: tuple[float, ...], high: tuple[float, ...], at: AxisFrame = HERE) -> Surface:
    return box(at, np.array(low), np.array(high))


def collected(blocks: list[Block], frame: str = "LPS") -> Surface:
    return Surface(
        np.concatenate([b.vertices for b in blocks]),
        np.concatenate([b.faces for b in blocks]).astype(np.int32),
        frame,
    )


def turn(a: float, b: float) -> np.ndarray:
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    rz = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return rx @ rz
