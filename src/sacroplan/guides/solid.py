"""The guide as a solid: the body's field made a mesh, then bone, slot, holes and letters cut out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.fields import contour, distance_field, near_faces, smooth_union
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.primitives import cylinder
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.guides.body import (
    BODY_GRID_MM,
    SHELL_GRID_MM,
    Tower,
    bearing,
    block,
    footprint,
    shell_field,
    sleeve_field,
    smooth_intersection,
    tower_field,
    zoom_to,
)
from sacroplan.guides.cutline import CutLine
from sacroplan.guides.marks import marks
from sacroplan.guides.request import GuideInput, GuideParameters
from sacroplan.guides.seat import SEAT_GRID_MM, GuideFrame, Seat
from sacroplan.guides.skirts import without_skirts
from sacroplan.guides.slot import slot_walls
from sacroplan.guides.wires import KWire

FAR_MM = 200.0
"""Beyond any guide."""

SPARED_MM = 0.5
"""What is left untouched round a sleeve."""


def solid_of(
    inp: GuideInput,
    line: CutLine,
    frame: GuideFrame,
    rest: Seat,
    shape: Tower,
    wires: Sequence[KWire],
    p: GuideParameters,
) -> tuple[Surface, tuple[str, ...], list[Doubt]]:
    """The guide's surface, what is engraved on it, and doubts about the engraving.

    Raises :class:`PlanError` where nothing is left, or the body falls apart.
    """
    import manifold3d

    from sacroplan.geometry.booleans import TINY_VOLUME_MM3, from_manifold, to_manifold

    frame_name = inp.hip.frame
    values, geometry = _body_field(inp, line, frame, rest, shape, wires, p)
    body = to_manifold(contour(geometry, values), "the guide's body").simplify(0.01)
    words, letters, doubts = marks(inp, line, shape, p)
    cutters = _cutters(line, rest, wires, p, frame_name)
    # A letter beside a sleeve must not scratch it.
    sleeves = manifold3d.Manifold.batch_boolean(
        [
            to_manifold(cylinder(w.start, w.entry, p.sleeve_mm + SPARED_MM, 32, frame_name))
            for w in wires
        ],
        manifold3d.OpType.Add,
    )
    solid = manifold3d.Manifold.batch_boolean(
        [body, *cutters, *[letter - sleeves for letter in letters]], manifold3d.OpType.Subtract
    )
    pieces = sorted(solid.decompose(), key=lambda m: -m.volume())
    if not pieces or pieces[0].volume() < TINY_VOLUME_MM3:
        raise PlanError("Nothing is left of the guide once bone, slot and holes are taken out.")
    lost = sum(m.volume() for m in pieces[1:])
    if lost > 0.01 * pieces[0].volume():
        raise PlanError(
            f"The guide falls into {len(pieces)} pieces (the smaller ones hold {lost:.0f} mm3); "
            "its bridges must go round the slot. Move the cut, shorten the slot or free the "
            "structures to be avoided."
        )
    whole = without_skirts(pieces[0], shape, wires, frame.axes[:, 2], p, frame_name)
    return from_manifold(whole, frame_name), words, doubts


def _body_field(
    inp: GuideInput,
    line: CutLine,
    frame: GuideFrame,
    rest: Seat,
    shape: Tower,
    wires: Sequence[KWire],
    p: GuideParameters,
) -> tuple[FloatArray, VolumeGeometry]:
    """Distance field of shell, tower and sleeves, kept off other bones, before anything is cut out."""
    frame_name = inp.hip.frame
    size = (np.array(rest.height_mm.shape) - 1) * SEAT_GRID_MM
    body_low = rest.low + 1.5
    top = frame.to_local(np.array([w.start for w in wires]))[:, 2].max()
    body_high = np.array([*(rest.low[:2] + size - 1.5), 0.0])
    platform = np.stack([shape.a_mm, shape.top_mm, np.zeros_like(shape.a_mm)], axis=1)
    sides = [platform + [0, 0, dx] for dx in (-shape.specimen_mm, shape.remnant_mm)]
    tops = frame.to_local(line.to_world(np.concatenate(sides)))[:, 2].max()
    body_high[2] = max(float(top), float(tops)) + 3.0
    outline = footprint(
        rest, line, shape, p.waist_mm, p.specimen_mm, wires, p.lobe_mm, p.foot_mm, 2.0 * p.fillet_mm
    )
    carries = bearing(rest, outline, p.thickness_mm + 4.0)
    geometry = frame.grid(body_low, body_high, BODY_GRID_MM, frame_name)
    shell = shell_field(rest, carries, outline, p.thickness_mm, geometry)
    # Tower and sleeves change the field no further away than their fillet.
    part = _around(geometry, shape.corners(), p.fillet_mm + 1.0)
    tower = tower_field(shape, _grid_points(geometry, part)).reshape(shell[part].shape)
    values = shell
    values[part] = smooth_union(shell[part], tower, p.fillet_mm)
    for wire in wires:
        ends = np.stack([wire.start, wire.entry + 2.0 * wire.direction])
        part = _around(geometry, ends, p.sleeve_mm + p.fillet_mm + 1.0)
        sleeve = sleeve_field(wire, p.sleeve_mm, _grid_points(geometry, part))
        values[part] = smooth_union(values[part], sleeve.reshape(values[part].shape), p.fillet_mm)
    for obstacle in inp.avoid:
        part = _around(geometry, obstacle.vertices, p.avoid_mm + 1.0)
        if any(s.stop - s.start < 2 for s in part):
            continue
        near = values[part]
        low = body_low + BODY_GRID_MM * np.array([s.start for s in part])
        size_mm = BODY_GRID_MM * (np.array(near.shape) - 1)
        coarse = frame.grid(low, low + size_mm, SHELL_GRID_MM, frame_name)
        if not near_faces(obstacle, coarse, p.avoid_mm + 1.0 + SHELL_GRID_MM).any():
            continue
        away = distance_field(obstacle, coarse, exact_mm=p.avoid_mm + 1.0).values
        fine = zoom_to(away.astype(np.float64), near.shape, BODY_GRID_MM / SHELL_GRID_MM)
        values[part] = smooth_intersection(near, p.avoid_mm - fine, 1.0)
    return values, geometry


def _cutters(
    line: CutLine, rest: Seat, wires: Sequence[KWire], p: GuideParameters, frame: str
) -> list[Any]:
    """What is cut out of the body: the bone and its shadow, the slot, the wires' holes."""
    from sacroplan.geometry.booleans import to_manifold

    specimen, remnant = slot_walls(p)
    end = line.high_mm + (2.0 if line.crest else 0.0)
    low = [line.low_mm if p.walls > 1 else -FAR_MM, -FAR_MM, specimen if p.walls > 1 else -FAR_MM]
    high = [end if p.walls == 3 else FAR_MM, FAR_MM, remnant]
    hole = 0.5 * (p.wire_mm + p.wire_clearance_mm)
    holes = [
        cylinder(w.start - 20.0 * w.direction, w.entry + 20.0 * w.direction, hole, 48, frame)
        for w in wires
    ]
    return [
        to_manifold(rest.below, "the bone below the guide").simplify(0.002),
        to_manifold(block(line, np.array(low), np.array(high), frame)),
        *[to_manifold(h) for h in holes],
    ]


def _around(geometry: Any, points: FloatArray, margin_mm: float) -> tuple[slice, ...]:
    """Part of a grid within ``margin_mm`` of the box round ``points`` (n, 3); may be empty."""
    index = geometry.to_index(points)
    margin = margin_mm / geometry.spacing_mm
    low = np.clip(np.floor(index.min(axis=0) - margin), 0, geometry.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + margin) + 1, 0, geometry.shape).astype(int)
    return tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))


def _grid_points(geometry: Any, part: tuple[slice, ...]) -> FloatArray:
    """(n, 3) LPS points of a part of a grid."""
    index = np.meshgrid(*[np.arange(s.start, s.stop) for s in part], indexing="ij")
    return np.asarray(geometry.to_world(np.stack(index, axis=-1).reshape(-1, 3)))
