"""The saw slot: where its walls and platform lie, and what was made of them."""

from __future__ import annotations

import numpy as np

from sacroplan.geometry.frames import FloatArray, Plane
from sacroplan.geometry.slicing import section
from sacroplan.geometry.surface import Surface
from sacroplan.guides.body import Stop, Tower, tower
from sacroplan.guides.cutline import CutLine
from sacroplan.guides.guide import Slot
from sacroplan.guides.request import GuideInput, GuideParameters


def slot_walls(p: GuideParameters) -> tuple[float, float]:
    """Positions of the slot's walls across the cut (specimen side negative, remnant positive).

    The blade lies against the remnant wall with its middle on the middle of the kerf, so the play
    is all on the other side.
    """
    return -(0.5 * p.blade_mm + p.slot_clearance_mm), 0.5 * p.blade_mm


def _edge_at(inp: GuideInput, line: CutLine, x_mm: float) -> FloatArray:
    """(n,) height of the bone's edge at ``line.a_mm`` in the plane at ``x_mm`` across the cut."""
    plane = inp.cut.shifted(-x_mm)
    points = [
        line.to_local(cross)
        for loop in (section(inp.hip, plane),)
        for cross in (loop.to_world(np.vstack([q, q[:1]])) for q in loop.loops)
    ]
    best = np.full(len(line.a_mm), -np.inf)
    for outline in points:
        a0, a1 = outline[:-1, 0], outline[1:, 0]
        s0, s1 = outline[:-1, 1], outline[1:, 1]
        low, high = np.minimum(a0, a1), np.maximum(a0, a1)
        step = np.where(a1 == a0, 1.0, a1 - a0)
        t = (line.a_mm[:, None] - a0) / step
        s = s0 + np.clip(t, 0.0, 1.0) * (s1 - s0)
        meets = (line.a_mm[:, None] >= low) & (line.a_mm[:, None] <= high)
        best = np.maximum(best, np.where(meets, s, -np.inf).max(axis=1))
    return np.where(np.isfinite(best), best, line.s_mm)


def tower_of(inp: GuideInput, line: CutLine, p: GuideParameters) -> Tower:
    """The block round the slot, high enough over the bone on both of its walls."""
    specimen, remnant = slot_walls(p)
    higher = np.maximum(_edge_at(inp, line, specimen), _edge_at(inp, line, remnant))
    middle = 0.5 * (specimen + remnant)
    beyond = 2.0 if line.crest else 0.0
    return tower(
        line,
        higher,
        p.slot_height_mm,
        p.bridge_mm,
        beyond,
        0.5 * p.platform_mm - middle,
        0.5 * p.platform_mm + middle,
        p.thickness_mm + 2.0,
        stop_of(inp, line, p),
    )


def stop_of(inp: GuideInput, line: CutLine, p: GuideParameters) -> Stop | None:
    """The depth stop for the blade that was named, if one was."""
    if p.blade_length_mm is None:
        return None
    return Stop(_far_edge(inp, line), p.blade_length_mm, p.overrun_mm, p.blade_width_mm, p.rise_mm)


def face_corners(inp: GuideInput, line: CutLine) -> FloatArray:
    """(4, 3) corners of the guided part of the cut, on the bone's edge and at the far side of it."""
    far = _far_edge(inp, line)
    ends = np.array([line.low_mm, line.high_mm])
    near = np.interp(ends, line.a_mm, line.s_mm)
    deep = np.interp(ends, line.a_mm, far)
    local = [[a, s, 0.0] for a, s in zip([*ends, *ends], [*near, *deep], strict=True)]
    return line.to_world(np.array(local))


def _far_edge(inp: GuideInput, line: CutLine) -> FloatArray:
    """(n,) height of the bone's far side at ``line.a_mm``: how deep the blade must go."""
    outline = inp.outline
    if outline is None:
        outline = section(inp.hip, inp.cut)
    best = np.full(len(line.a_mm), np.inf)
    edge = line.s_mm
    for loop in outline.loops:
        q = line.to_local(outline.to_world(np.vstack([loop, loop[:1]])))
        a0, a1, s0, s1 = q[:-1, 0], q[1:, 0], q[:-1, 1], q[1:, 1]
        step = np.where(a1 == a0, 1.0, a1 - a0)
        t = (line.a_mm[:, None] - a0) / step
        s = s0 + t * (s1 - s0)
        meets = (t >= 0.0) & (t <= 1.0) & (a1 != a0)
        # Only the bone that is met first: a second one behind a gap is not to be sawn from here.
        below = meets & (s < edge[:, None] - 0.5)
        nearest = np.where(below, s, -np.inf).max(axis=1)
        best = np.where(np.isfinite(nearest), np.minimum(best, nearest), best)
    return np.where(np.isfinite(best), best, edge)


def blade_reach(inp: GuideInput, line: CutLine, shape: Tower) -> tuple[float, float]:
    """Least and greatest depth (mm) below the platform at which the blade leaves the bone."""
    inside = (line.a_mm >= line.low_mm) & (line.a_mm <= line.high_mm)
    depth = (shape.top(line.a_mm) - _far_edge(inp, line))[inside]
    return float(depth.min()), float(depth.max())


def overruns(
    inp: GuideInput, line: CutLine, surface: Surface, p: GuideParameters
) -> tuple[float, float] | None:
    """How far the teeth pass the bone at the depth stop of the finished guide: least and most, mm."""
    stop = stop_of(inp, line, p)
    if stop is None:
        return None
    a = np.arange(line.low_mm, line.high_mm, 0.5)
    top = _top_at(surface, inp.cut.shifted(-(slot_walls(p)[1] + 0.05)), line, a)
    return stop.overruns(a, top, np.interp(a, line.a_mm, stop.far_mm))


def slot_of(inp: GuideInput, line: CutLine, surface: Surface, p: GuideParameters) -> Slot:
    """Measure the slot on the finished guide: its walls' height above bone just beside the opening."""
    specimen, remnant = slot_walls(p)
    a = np.linspace(line.low_mm + 1.0, line.high_mm - 1.0, 40)
    least = np.inf
    walls = (remnant + 0.05,) if p.walls == 1 else (specimen - 0.05, remnant + 0.05)
    for x in walls:
        guide_top = _top_at(surface, inp.cut.shifted(-x), line, a)
        bone = np.interp(a, line.a_mm, _edge_at(inp, line, x))
        least = min(least, float((guide_top - bone).min()))
    end = line.high_mm + (2.0 if line.crest else 0.0)
    ends = np.array([line.low_mm, end])
    edge = line.edge(ends)
    corners = np.array(
        [
            [ends[0], edge[0], 0.0],
            [ends[1], edge[1], 0.0],
            [ends[1], edge[1] + least, 0.0],
            [ends[0], edge[0] + least, 0.0],
        ]
    )
    return Slot(
        inp.cut,
        inp.cut.shifted(-remnant),
        inp.cut.shifted(-specimen),
        line.to_world(corners),
        remnant - specimen,
        float(ends[1] - ends[0]),
        least,
        line.saw,
    )


def _top_at(surface: Surface, plane: Plane, line: CutLine, a: FloatArray) -> FloatArray:
    cross = section(surface, plane)
    best = np.full(len(a), -np.inf)
    for loop in cross.loops:
        outline = line.to_local(cross.to_world(np.vstack([loop, loop[:1]])))
        a0, a1, s0, s1 = outline[:-1, 0], outline[1:, 0], outline[:-1, 1], outline[1:, 1]
        t = (a[:, None] - a0) / np.where(a1 == a0, 1.0, a1 - a0)
        meets = (t >= 0.0) & (t <= 1.0) & (a1 != a0)
        best = np.maximum(best, np.where(meets, s0 + t * (s1 - s0), -np.inf).max(axis=1))
    return best
