"""The plan for a robot's or navigation station: screws in the CT's frame, open and self-explaining."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sacroplan.banner import BANNER
from sacroplan.errors import Doubt, PlanError
from sacroplan.fixation.screws import Screw
from sacroplan.formats.jsonio import read_json, write_json
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface

SCHEMA = "sacroplan robot plan 1"

NEAR_MM = 5.0
"""A marker this near to bone that is removed loses its hold: its pin is 3 to 5 mm thick."""


@dataclass(frozen=True, eq=False)
class RobotPlan:
    """Screws, markers and the error predicted at every tip, LPS mm in the CT's frame of reference.

    Attributes
    ----------
    frame_of_reference : DICOM UID. markers : name to (3,). tre_mm : predicted target error (rms) at
        each screw's tip by name; empty without markers.
    """

    case_id: str
    frame_of_reference: str
    screws: tuple[Screw, ...]
    markers: Mapping[str, FloatArray]
    tre_mm: Mapping[str, float]
    doubts: tuple[Doubt, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, as written."""
        return {
            "schema": SCHEMA,
            "notice": BANNER,
            "case": self.case_id,
            "coordinate_system": "LPS",
            "unit": "mm",
            "frame_of_reference_uid": self.frame_of_reference,
            "screws": [
                {
                    "name": s.name, "level": s.level, "side": s.side, "kind": s.kind,
                    "diameter_mm": s.diameter_mm, "length_mm": s.length_mm,
                    "entry": s.entry.tolist(), "tip": s.tip.tolist(), "head": s.head.tolist(),
                    "predicted_tre_mm": self.tre_mm.get(s.name),
                }
                for s in self.screws
            ],
            "markers": {n: np.asarray(p).tolist() for n, p in sorted(self.markers.items())},
            "warnings": [d.message for d in self.doubts],
        }  # fmt: skip


def robot_plan(
    case_id: str,
    frame_of_reference: str,
    screws: Sequence[Screw],
    markers: Mapping[str, FloatArray],
    removed: Mapping[str, Surface],
    fle_mm: float,
) -> RobotPlan:
    """Put a plan together; warns of markers on bone that is to be removed [SP-NAV-03]."""
    from sacroplan.navigation.target_error import predicted_tre_mm

    names = [s.name for s in screws]
    if len(set(names)) != len(names):
        raise PlanError(f"Two screws of the robot plan share a name: {sorted(names)}.")
    tre: dict[str, float] = {}
    if len(markers) >= 3:
        spots = np.array([markers[n] for n in sorted(markers)])
        values = predicted_tre_mm(spots, fle_mm, np.array([s.tip for s in screws]))
        tre = {s.name: float(v) for s, v in zip(screws, values, strict=True)}
    return RobotPlan(
        case_id, frame_of_reference, tuple(screws), markers, tre, marker_doubts(markers, removed)
    )


def marker_doubts(
    markers: Mapping[str, FloatArray], removed: Mapping[str, Surface]
) -> tuple[Doubt, ...]:
    """One doubt for every marker that sits on bone which the plan removes."""
    from sacroplan.fixation.clearance import signed_distance

    out = []
    for name in sorted(markers):
        p = np.asarray(markers[name], dtype=np.float64).reshape(1, 3)
        for piece in sorted(removed):
            if float(signed_distance(removed[piece], p)[0]) < NEAR_MM:
                out.append(
                    Doubt(
                        "navigation", "navigation.marker_on_specimen",
                        f"The marker {name} sits on bone that is to be removed "
                        f"({piece.replace('_', ' ')}): registration is lost with it. Set it on bone that "
                        "stays, or register again after the cut.", ("SP-NAV-03",),
                    )
                )  # fmt: skip
                break
    return tuple(out)


def write_plan(plan: RobotPlan, path: str | os.PathLike[str]) -> None:
    """Write the open JSON."""
    write_json(plan.to_json(), path)


def read_screws(path: str | os.PathLike[str]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Entry and tip (LPS mm) of every screw in a plan file; raises :class:`PlanError`."""
    table = read_json(path)
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise PlanError(f"{path} is no robot plan of sacroplan (schema {SCHEMA!r} expected).")
    return {s["name"]: (np.array(s["entry"]), np.array(s["tip"])) for s in table["screws"]}
