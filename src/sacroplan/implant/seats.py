"""Where the implant meets bone: outlines of cut faces and endplate, and the lofts that start from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane
from sacroplan.geometry.slicing import plane_axes
from sacroplan.implant.correction import corrected, pose_of
from sacroplan.implant.localise import Local, localise, off_sockets
from sacroplan.implant.model import ImplantInput, ImplantParameters, Side, sign_of
from sacroplan.implant.outline import Outline, cut_face, endplate_outline, raster
from sacroplan.implant.shape import Medial, Pad, Wing

OUTLINE_DEPTH_MM = 3.0
"""The endplate's outline is read this far inside the vertebra, above the rim's rounding."""

SMOOTH_OUTLINE_MM = 1.5
"""Takes the 2-4 mm facets of a bone mesh out of an outline; rounder than any corner of the seat."""

S1_BODY_MM = 22.0
"""From L5's inferior endplate to the middle of S1's body below it, or of L5's above [DIM-03]."""

UP = np.array([0.0, 1.0, 0.0])

LEAST_ENDPLATE_MM2 = 150.0
"""Less endplate than this under the implant carries no vertebra."""


@dataclass(frozen=True, eq=False)
class Seats:
    """All seats of a design.

    Attributes
    ----------
    plate : the part of the endplate that is carried; whole : the whole endplate within its inset.
    middle : (3,) of the wings' roots. faces, wings : by side. flat_faces, pads : by the seat's name.
    medial : the sagittal border of a hemisacral implant, None of a two-wing one.
    socket_mm : side to least distance of the seat to the hip's ball.
    """

    plate: Outline
    whole: Outline
    middle: FloatArray
    faces: dict[Side, Outline]
    wings: dict[Side, Wing]
    flat_faces: dict[str, Outline]
    pads: dict[str, Pad]
    medial: Medial | None
    socket_mm: dict[Side, float]

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Planes of the flat seats."""
        cut = [w.plane for w in self.wings.values() if not w.follows]
        return (*cut, *(pad.plane for pad in self.pads.values()))

    @property
    def rims(self) -> FloatArray:
        """(n, 3) corners of every seat."""
        rims = [w.seat.rim for w in self.wings.values()] + [p.seat.rim for p in self.pads.values()]
        return np.concatenate([self.plate.rim, *rims])


def find_seats(local: Local, p: ImplantParameters, axes: AxisFrame) -> Seats:
    """Outlines of every seat. Raises :class:`PlanError` where one has no room."""
    whole = endplate_outline(local.l5, local.endplate, OUTLINE_DEPTH_MM, local.level)
    whole = whole.eroded(p.inset_mm, p.corner_radius_mm)
    medial = _medial(local, p)
    plate = whole
    if medial is not None and whole.loops:
        plate = whole.beyond(medial.upper.shifted(medial.standoff_mm)).largest()
    if not plate.loops or plate.area_mm2 < LEAST_ENDPLATE_MM2:
        raise PlanError(
            f"The {local.level} inferior endplate offers {plate.area_mm2 if plate.loops else 0.0:.0f} mm2 to "
            f"the implant's block; at least {LEAST_ENDPLATE_MM2:.0f} mm2 are needed. Check the endplate's "
            "landmarks or move the sagittal cut."
        )
    centre = plate.to_world(plate.centroid_uv)
    hub = centre
    if local.hub is not local.endplate:
        # The wings keep the height of the sacrum that is gone, whatever vertebra is carried.
        hub = np.array([*local.hub.origin[:2], centre[2]])
    middle = hub - p.wing_drop_mm * local.hub.axes[:, 1] - p.wing_setback_mm * local.hub.axes[:, 0]
    faces: dict[Side, Outline] = {}
    wings: dict[Side, Wing] = {}
    socket: dict[Side, float] = {}
    for side, seat in sorted(local.seats.items()):
        if seat.patch is None:
            face = cut_face(seat.hip, seat.plane, UP, middle, side)
        else:
            face = joint_face(seat.patch, plane_axes(seat.plane, UP), seat.plane.point)
        region = _region(face, seat.plane.point, hub, side, local, p)
        faces[side] = face
        found = off_sockets(side, region.rim, local, axes)
        if found is not None:
            socket[side] = found
        wings[side] = Wing(
            sign_of(side), middle, seat.plane, region,
            raster(region, 40.0, SMOOTH_OUTLINE_MM), 0.5 * p.wing_depth_mm, 0.5 * p.wing_height_mm,
            p.edge_break_mm, seat.patch is not None,
        )  # fmt: skip
    flat_faces, pads = _pads(local, p)
    return Seats(plate, whole, middle, faces, wings, flat_faces, pads, medial, socket)


def _region(
    face: Outline, origin: FloatArray, hub: FloatArray, side: Side, local: Local,
    p: ImplantParameters,
) -> Outline:  # fmt: skip
    """The part of a cut face that the wing covers: inset, below the transverse process, above the notch."""
    limit = (hub[1] + p.reach_above_l5_mm - origin[1]) / face.axes[1, 1]
    whole = face.eroded(p.inset_mm, 0.0)
    region = whole.below(limit) if whole.loops else whole
    if region.loops and side in local.notches:
        low = (local.notches[side][1] + p.notch_clearance_mm - origin[1]) / face.axes[1, 1]
        region = region.above(low)
    pieces = region.eroded(0.0, p.corner_radius_mm).pieces() if region.loops else []
    if not pieces:
        raise PlanError(
            f"The {side} cut face has no room for a seat below {p.reach_above_l5_mm:g} mm above the "
            f"{local.hub.name} endplate and {p.notch_clearance_mm:g} mm above the sciatic notch; move "
            "the osteotomy or raise reach_above_l5_mm."
        )
    return pieces[0]


def joint_face(patch: FloatArray, axes: FloatArray, origin: FloatArray) -> Outline:
    """Outline of the joint's points (n, 3) laid into the plane that fits them."""
    import manifold3d

    flat = (patch - origin) @ axes[:, :2]
    hull = manifold3d.CrossSection.hull_points(flat)
    return Outline(np.array(origin), axes, ()).replaced(hull)


def _medial(local: Local, p: ImplantParameters) -> Medial | None:
    if local.hemi_side is None:
        return None
    lower = next(f.plane for f in local.flats if f.name == "sacrum")
    upper = next((f.plane for f in local.flats if f.name == "L5_side"), lower)
    standoff = p.porous_mm + evidence.value("SP-IMP-12", "standoff")
    return Medial(lower, upper, local.hub.origin, local.hub.axes[:, 1], standoff)


def _pads(local: Local, p: ImplantParameters) -> tuple[dict[str, Outline], dict[str, Pad]]:
    faces: dict[str, Outline] = {}
    pads: dict[str, Pad] = {}
    for flat in local.flats:
        # The vertebral body's face is meant, not the arch's behind the canal.
        rise = -S1_BODY_MM if flat.name == "sacrum" else S1_BODY_MM
        near = local.hub.origin + rise * local.hub.axes[:, 1]
        face = cut_face(flat.bone, flat.plane, UP, near, flat.name)
        # Down to the block's foot: below it nothing but a fin would stand on the bone.
        down = evidence.value("SP-IMP-12", "seat_height") * local.hub.axes[:, 1]
        region = face.beyond(Plane(local.hub.origin - down, local.hub.axes[:, 1]))
        region = region.eroded(p.inset_mm, 0.0) if region.loops else region
        pieces = region.eroded(0.0, p.corner_radius_mm).pieces() if region.loops else []
        if not pieces:
            raise PlanError(
                f"The cut face of the remnant {flat.name} has no room for a seat ({face.area_mm2:.0f} "
                "mm2); move the sagittal cut or reconstruct by other means."
            )
        # Bodies lie in front of the canal, the arch behind it: the larger front piece is the seat.
        faces[flat.name] = face
        pads[flat.name] = Pad(
            flat.plane, pieces[0], raster(pieces[0], 40.0, SMOOTH_OUTLINE_MM),
            evidence.value("SP-IMP-12", "pad"), p.edge_break_mm,
        )  # fmt: skip
    return faces, pads


def seat_margin(
    inp: ImplantInput, points: npt.ArrayLike, side: Side, p: ImplantParameters | None = None
) -> FloatArray:
    """How far points (n, 3) LPS of a cut face lie inside the wing's seat, mm; negative outside.

    For the screw search: a hole needs its radius and a wall [AM-12] to the seat's edge.
    """
    p = p or ImplantParameters()
    local = localise(corrected(inp, pose_of(inp, p)))
    wing = find_seats(local, p, inp.axes).wings[side]
    uv = wing.seat.to_plane(inp.axes.to_local(np.asarray(points, dtype=np.float64).reshape(-1, 3)))
    return -np.asarray(wing.field.at(uv[:, 0], uv[:, 1]), dtype=np.float64)
