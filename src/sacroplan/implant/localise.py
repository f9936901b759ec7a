"""The input in the design frame (pelvic axes as coordinates), every operand looked at first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, same_frame
from sacroplan.geometry.surface import Surface
from sacroplan.implant.model import FlatSeat, ImplantInput, Side, WingSeat, sign_of
from sacroplan.implant.operands import checked, uncrossed
from sacroplan.implant.shape import to_segment

REACH_MM = 60.0
"""Beyond this from the seats and the endplate a crossing of faces cannot reach the implant."""


@dataclass(frozen=True, eq=False)
class Local:
    """The defect in the design frame; fields as in :class:`ImplantInput`."""

    design: str
    level: str
    hemi_side: Side | None
    l5: Surface
    endplate: AxisFrame
    hub: AxisFrame
    seats: dict[Side, WingSeat]
    flats: tuple[FlatSeat, ...]
    specimen: Surface | None
    keep_clear: tuple[Surface, ...]
    nerves: dict[str, Surface]
    notches: dict[Side, FloatArray]
    sockets: dict[Side, tuple[FloatArray, float]]
    wing_screws: tuple[Any, ...]
    rod_targets: dict[Side, FloatArray]
    s1: AxisFrame | None
    upper: AxisFrame | None

    @property
    def bones(self) -> dict[str, Surface]:
        """Remaining bone that carries the implant, by name; a bone with two seats stands once."""
        out = {self.level: self.l5}
        out |= {f"hip_{side}": seat.hip for side, seat in self.seats.items()}
        out |= {flat.name.removesuffix("_side"): flat.bone for flat in self.flats}
        return out


def localise(inp: ImplantInput) -> Local:
    """Check and move the input. Raises :class:`GeometryError` or :class:`PlanError` naming what is wrong."""
    a = inp.axes
    optional = [f for f in (inp.hub, inp.s1_endplate, inp.upper_endplate) if f is not None]
    same_frame(
        a, inp.l5_endplate, inp.l5, *optional, *(s.plane for s in inp.seats),
        *(s.hip for s in inp.seats), *(f.plane for f in inp.flats), *(f.bone for f in inp.flats),
        *inp.keep_clear, *inp.nerves.values(), *([inp.specimen] if inp.specimen is not None else []),
    )  # fmt: skip
    around = np.concatenate(
        [inp.l5_endplate.origin[None], *(s.plane.point[None] for s in inp.seats)]
    )
    region = np.stack([around.min(axis=0) - REACH_MM, around.max(axis=0) + REACH_MM])

    def move(s: Surface, what: str, operand: bool = False) -> Surface:
        # Looked at where it lies in the patient, so that a fault is named in the CT's coordinates.
        checked(s, what)
        if operand:
            uncrossed(s, what, region)
        return Surface(a.to_local(s.vertices), s.faces)

    def frame(f: AxisFrame) -> AxisFrame:
        return AxisFrame(f.name, a.to_local(f.origin), a.axes.T @ f.axes)

    def plane(p: Plane) -> Plane:
        return Plane(a.to_local(p.point), a.axes.T @ p.normal)

    endplate = frame(inp.l5_endplate)
    if endplate.axes[1, 1] < 0.3:
        raise PlanError(
            f"The {inp.level} inferior endplate looks more than 70 degrees away from cranial; "
            "its frame needs y along the cranial normal."
        )
    seats: dict[Side, WingSeat] = {}
    for seat in inp.seats:
        face = plane(seat.plane)
        s = sign_of(seat.side)
        if -s * face.normal[2] < 0.3:
            raise PlanError(
                f"The normal of the {seat.side} cut face must point from the remnant towards the defect "
                f"(medially); it points {'laterally' if s * face.normal[2] > 0 else 'along the face'}."
            )
        patch = None if seat.patch is None else a.to_local(np.asarray(seat.patch))
        seats[seat.side] = WingSeat(
            seat.side, face, move(seat.hip, f"remnant hip_{seat.side}", True), patch
        )
    flats = []
    for flat in inp.flats:
        face = plane(flat.plane)
        assert inp.hemi_side is not None
        towards = sign_of(inp.hemi_side) * face.normal[2]
        if towards < 0.3:
            raise PlanError(
                f"The normal of the cut face {flat.name} must point from the remnant towards the defect "
                f"on the {inp.hemi_side}; it points the other way or along the face."
            )
        flats.append(FlatSeat(flat.name, face, move(flat.bone, f"remnant {flat.name}", True)))
    local = Local(
        inp.design, inp.level, inp.hemi_side,
        move(inp.l5, inp.level, True), endplate, endplate if inp.hub is None else frame(inp.hub),
        seats, tuple(flats),
        None if inp.specimen is None else move(inp.specimen, "specimen"),
        tuple(move(s, f"keep-clear solid {n + 1}") for n, s in enumerate(inp.keep_clear)),
        {name: move(s, name) for name, s in inp.nerves.items()},
        {side: a.to_local(np.asarray(p)) for side, p in inp.notches.items()},
        {side: (a.to_local(np.asarray(c)), float(r)) for side, (c, r) in inp.sockets.items()},
        tuple(
            (n, a.to_local(np.asarray(e)), a.to_local(np.asarray(t)), d)
            for n, e, t, d in inp.wing_screws
        ),
        {side: a.to_local(np.asarray(v)) for side, v in inp.rod_targets.items()},
        None if inp.s1_endplate is None else frame(inp.s1_endplate),
        None if inp.upper_endplate is None else frame(inp.upper_endplate),
    )  # fmt: skip
    _screws_off_sockets(local, a)
    return local


def _screws_off_sockets(local: Local, axes: AxisFrame) -> None:
    """Refuse a planned screw that enters the ball of the hip joint."""
    for name, entry, tip, diameter in local.wing_screws:
        for side, (centre, radius) in local.sockets.items():
            gap = to_segment(centre[None], entry, tip)[0] - radius - 0.5 * diameter
            if gap < 0.0:
                at = np.round(axes.to_world(centre)).astype(int).tolist()
                raise PlanError(
                    f"Screw {name!r} runs {-gap:.1f} mm deep into the {side} hip joint (centre "
                    f"{at} mm LPS, radius {radius:.0f} mm); turn it upwards or shorten it."
                )


def off_sockets(side: Side, rim: FloatArray, local: Local, axes: AxisFrame) -> float | None:
    """Least distance (mm) of a seat's rim (n, 3) to the hip's ball of its side; None where unknown.

    Raises :class:`PlanError` where the seat runs through the acetabulum.
    """
    if side not in local.sockets:
        return None
    centre, radius = local.sockets[side]
    away = np.linalg.norm(rim - centre, axis=1) - radius
    k = int(np.argmin(away))
    if away[k] < 0.0:
        at = np.round(axes.to_world(rim[k])).astype(int).tolist()
        raise PlanError(
            f"The {side} wing's seat runs {-away[k]:.1f} mm deep into the acetabulum near {at} mm LPS; "
            f"move the osteotomy iliac_{side} up or medially so that the seat stays "
            f"{evidence.value('SP-IMP-16', 'clearance'):g} mm away from the joint."
        )
    return float(away[k])
