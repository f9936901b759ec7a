"""Exact cuts of the organic body: seats, bores, saddles, and the parting of core and porous layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import bodies, from_manifold, to_manifold
from sacroplan.geometry.fields import DistanceField, contour
from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.geometry.primitives import box
from sacroplan.geometry.surface import Surface
from sacroplan.implant.body import Surroundings
from sacroplan.implant.model import ImplantParameters
from sacroplan.implant.operands import where
from sacroplan.implant.seats import Seats
from sacroplan.implant.shape import Pad

CRUMB_SHARE = 0.01
"""Loose pieces up to this share of the volume are offcuts; more means that the body fell apart."""

SOLID_SHARE = 0.1
"""Pieces of a porous layer up to this share of its main one stay with the core, solid."""

BEHIND_MM = 40.0
"""A pad is cut off so far behind its plane: everything that the smoothing left there."""


def largest(surface: Surface, what: str, axes: AxisFrame | None = None) -> Surface:
    """The main piece; raises when more than offcuts would be lost."""
    pieces = bodies(surface)
    lost = sum(piece.volume_mm3 for piece in pieces[1:])
    if lost > CRUMB_SHARE * pieces[0].volume_mm3:
        second = pieces[1].centroid
        second = second if axes is None else axes.to_world(second)
        raise PlanError(
            f"The {what} fell into {len(pieces)} pieces (second one "
            f"{pieces[1].volume_mm3:.0f} mm3 near {where(second[None])}); bones, nerves or screws to keep "
            "clear of cut it through. Move the osteotomy or the screw there, or lower the clearance."
        )
    return pieces[0]


def cut(
    raw: Surface,
    cutters: list[Surface],
    seats: Seats,
    around: Surroundings,
    level: str,
    p: ImplantParameters,
    axes: AxisFrame,
) -> tuple[Surface, dict[str, Surface]]:
    """Trim the body to its seats, bore it, and part core and porous layers along shared faces.

    Raises :class:`PlanError` naming the seat that the body does not reach, with its place in LPS.
    """
    import manifold3d

    solid = to_manifold(raw, "the implant body")
    flat = {f"wing_{s}": w.plane for s, w in seats.wings.items() if not w.follows}
    for plane in flat.values():
        solid = solid.trim_by_plane(tuple(plane.normal), float(plane.point @ plane.normal))
    follow = {level: (around.l5, seats.plate.rim)}
    follow |= {
        f"wing_{side}": (hip, seats.wings[side].seat.rim) for side, hip in around.hips.items()
    }
    crops = {
        name: _crop(field, rim, p.porous_mm + 4.0 + (0.0 if name == level else 14.0), name == level)
        for name, (field, rim) in follow.items()
    }
    tools = [_offset(crop, p.endplate_gap_mm, name) for name, crop in crops.items()]
    tools += [
        to_manifold(_slab(pad, -BEHIND_MM, 0.0), f"the seat {n}") for n, pad in seats.pads.items()
    ]
    tools += [to_manifold(c, "a cutter of the implant") for c in cutters]
    solid = manifold3d.Manifold.batch_boolean([solid, *tools], manifold3d.OpType.Subtract)
    layers: dict[str, Any] = {}
    for name, crop in crops.items():
        inner = _offset(crop, p.endplate_gap_mm + p.porous_mm, name)
        layers[name], solid = solid ^ inner, solid - inner
    for name, plane in flat.items():
        d = float(plane.point @ plane.normal) + p.porous_mm
        solid, layers[name] = solid.split_by_plane(tuple(plane.normal), d)
    for name, pad in seats.pads.items():
        slab = to_manifold(_slab(pad, -1.0, p.porous_mm), f"the seat {name}")
        layers[name], solid = solid ^ slab, solid - slab
    at = {level: seats.plate.to_world(seats.plate.centroid_uv)}
    at |= {f"wing_{s}": w.target for s, w in seats.wings.items()}
    at |= {n: pad.seat.to_world(pad.seat.centroid_uv) for n, pad in seats.pads.items()}
    porous = {}
    for name, layer in layers.items():
        if layer.is_empty() or layer.volume() < 1.0:
            raise PlanError(
                f"The implant does not reach its {name} seat near {where(axes.to_world(at[name])[None])}; "
                "bones, nerves or screws to keep clear of leave no room there. Move the cut or the "
                "screws, or lower bone_clearance_mm."
            )
        pieces = sorted(layer.decompose(), key=lambda piece: -float(piece.volume()))
        lost = sum(float(piece.volume()) for piece in pieces[1:])
        if lost > SOLID_SHARE * float(pieces[0].volume()):
            second = from_manifold(pieces[1], raw.frame).centroid[None]
            raise PlanError(
                f"The porous layer {name} fell into {len(pieces)} pieces ({lost:.0f} of "
                f"{layer.volume():.0f} mm3 lie apart, the largest near {where(axes.to_world(second))}); "
                "bones, nerves or screws to keep clear of cut it through. Move the osteotomy or the "
                "screw there, or lower the clearance."
            )
        porous[name] = from_manifold(pieces[0], raw.frame)
        # An islet on the seat holds no cells worth the name; as part of the core it is not lost.
        solid = manifold3d.Manifold.batch_boolean([solid, *pieces[1:]], manifold3d.OpType.Add)
    return largest(from_manifold(solid, raw.frame), "implant core", axes), porous


def _slab(pad: Pad, low: float, high: float) -> Surface:
    """The pad's plane as a plate from ``low`` to ``high`` (mm along its normal), wider than the pad."""
    corners = np.concatenate(pad.seat.loops)
    a, b = corners.min(axis=0) - 4.0, corners.max(axis=0) + 4.0
    frame = AxisFrame("pad", pad.seat.origin, pad.seat.axes)
    return box(frame, [*a, low], [*b, high])


def _crop(field: DistanceField, points: FloatArray, margin_mm: float, tall: bool) -> DistanceField:
    index = field.geometry.to_index(points)
    pad = margin_mm / float(field.geometry.spacing_mm[0])
    extra = np.array([0, 20 if tall else 0, 0])
    top = np.array(field.geometry.shape)
    a = np.clip(np.floor(index.min(axis=0) - pad - extra).astype(int), 0, top)
    b = np.clip(np.ceil(index.max(axis=0) + pad + extra).astype(int) + 1, 0, top)
    part = np.ascontiguousarray(field.values[a[0] : b[0], a[1] : b[1], a[2] : b[2]])
    return DistanceField(field.geometry.cropped(a, b), part)


def _offset(field: DistanceField, offset_mm: float, what: str) -> Any:
    """Everything nearer to the bone than ``offset_mm``, as a manifold."""
    return to_manifold(contour(field.geometry, field.values, offset_mm), f"the offset of {what}")
