"""The order of work, and the specimen drawn apart, for rehearsal before theatre."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sacroplan.geometry.frames import AxisFrame, FloatArray, Rigid
from sacroplan.geometry.surface import Surface
from sacroplan.resection.plan import ResectionPlan

APART_MM = 45.0
"""How far the specimen's pieces are drawn out of the patient; more than the bones' own thickness."""


def order(plan: ResectionPlan) -> tuple[str, ...]:
    """Cut names as they are made: discs first (the canal is open), then bone from medial to lateral.

    The joint or limb that frees the specimen comes last.
    """

    def rank(name: str) -> tuple[int, str]:
        kind = plan.cut(name).kind
        if kind == "disc":
            return 0, name
        if kind == "joint":
            return 4, name
        for n, start in ((1, "l5"), (2, "sacral"), (5, "pubis"), (6, "ischium"), (3, "")):
            if start and name.startswith(start):
                return n, name
        return 3, name

    return tuple(sorted((c.name for c in plan.cuts), key=rank))


def steps_table(plan: ResectionPlan) -> tuple[tuple[str, str], ...]:
    """Step by step: (cut, what is done and how large it is)."""
    out = []
    for name in order(plan):
        cut = plan.cut(name)
        if cut.kind == "disc":
            words = f"Part the disc ({cut.area_mm2 / 100:.1f} cm2)."
        elif cut.kind == "joint":
            words = "Take the sacroiliac joint apart."
        else:
            faces = len(cut.facets)
            through = f"{cut.bone.replace('_', ' ')}, {cut.area_mm2 / 100:.1f} cm2"
            words = f"Saw {through}, kerf {cut.kerf_mm:g} mm" + (
                f", {faces} faces in turn." if faces > 1 else "."
            )
        out.append((name, words))
    pieces = ", ".join(sorted(plan.specimen)).replace("_", " ")
    out.append(
        ("specimen", f"Lift the specimen out: {pieces}, {plan.specimen_mm3 / 1000:.0f} cm3.")
    )
    return tuple(out)


def apart(plan: ResectionPlan, axes: AxisFrame) -> Mapping[str, Surface]:
    """The specimen's pieces moved backwards and away from each other, by name."""
    posterior = -axes.axes[:, 0]
    centres: dict[str, FloatArray] = {n: s.centroid for n, s in plan.specimen.items()}
    middle = np.mean(list(centres.values()), axis=0)
    out = {}
    for name, surface in plan.specimen.items():
        aside = centres[name] - middle
        length = float(np.linalg.norm(aside))
        spread = 0.4 * APART_MM * aside / length if length > 1.0 else np.zeros(3)
        out[name] = surface.transformed(Rigid(np.eye(3), APART_MM * posterior + spread))
    return out
