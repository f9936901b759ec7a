"""Feathered rims of a guide, cut back until every wall is one that a printer makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray
from sacroplan.guides.body import Tower
from sacroplan.guides.request import GuideParameters
from sacroplan.guides.wires import KWire

SKIRT_MM = 0.8
"""A wall below this is a feather that breaks off in the wound; two strands of a nozzle."""

DOWN_MM = 8.0
"""A bite goes so far down from a thin place: past the end of any rim."""

LEVEL_MM = 2.0
"""Slot walls and sleeves are kept down to this below the bone's edge."""

BITE_MM = 1.2
SKIRT_ROUNDS = 3
SKIRT_LOSS = 0.08
SKIRT_SAMPLES = 6000
"""Radius of a bite out of a feathered rim; rounds of looking again; most of the body that may go in one;
places that are looked at."""


def without_skirts(
    solid: Any,
    shape: Tower,
    wires: Sequence[KWire],
    axis: FloatArray,
    p: GuideParameters,
    frame_name: str,
) -> Any:
    """The guide without feathered rims: where a wall is thinner than a nozzle, the rim is cut back.

    Feathers hang down along steep bone, so they are cut from below, and what stands over them stays.
    A guide that would lose more than a little is left alone.
    """
    import manifold3d

    from sacroplan.geometry.booleans import from_manifold, to_manifold
    from sacroplan.geometry.primitives import cylinder
    from sacroplan.geometry.tree import face_tree
    from sacroplan.geometry.walls import measure_walls

    for _ in range(SKIRT_ROUNDS):
        surface = from_manifold(solid, frame_name)
        walls = measure_walls(
            surface, face_tree(surface), SKIRT_MM, 2.0 * SKIRT_MM, samples=SKIRT_SAMPLES,
            enough_mm=SKIRT_MM,
        )  # fmt: skip
        thin = walls.points[walls.walls < SKIRT_MM - 1e-6]
        thin = thin[~_kept(thin, shape, wires, p)]
        if not len(thin):
            return solid
        # One bite for all thin places within a bite's reach of each other.
        _, first = np.unique(np.round(thin / BITE_MM).astype(int), axis=0, return_index=True)
        bites = [
            to_manifold(cylinder(q - DOWN_MM * axis, q + BITE_MM * axis, BITE_MM, 16, frame_name))
            for q in thin[np.sort(first)]
        ]
        left = manifold3d.Manifold.batch_boolean([solid, *bites], manifold3d.OpType.Subtract)
        best = max(left.decompose(), key=lambda m: m.volume())
        if best.volume() < (1.0 - SKIRT_LOSS) * solid.volume():
            return solid
        solid = best
    return solid


def _kept(
    points: FloatArray, shape: Tower, wires: Sequence[KWire], p: GuideParameters
) -> npt.NDArray[np.bool_]:
    """(n,) points on the slot's walls and the sleeves above the bone, which are not cut."""
    a, s, x = shape.line.to_local(points).T
    out = (np.abs(x) <= 0.5 * p.platform_mm + 1.0) & (s > shape.line.edge(a) - LEVEL_MM)
    out &= (a >= shape.low_mm - 1.0) & (a <= shape.high_mm + 1.0)
    for wire in wires:
        arm = points - wire.start
        along = arm @ wire.direction
        off = np.linalg.norm(arm - np.outer(along, wire.direction), axis=1)
        length = float((wire.entry - wire.start) @ wire.direction)
        out |= (off <= p.sleeve_mm + 0.5) & (along < length + LEVEL_MM)
    return np.asarray(out)
