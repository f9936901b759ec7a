"""From a plan to the parts of a finite-element model: solids, joints and element sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import AxisFrame, FloatArray, unit
from sacroplan.geometry.surface import Surface
from sacroplan.mechanics.meshing import Sizing
from sacroplan.mechanics.solids import (
    Implicit,
    Solid,
    between,
    carved,
    cylinder,
    gradient,
    local_surface,
    remembered,
    surface_distance,
    tube,
)
from sacroplan.parallel import side_by_side

FIELD_SPACING_MM = 1.25
"""Grid of bone distance fields; a smooth surface errs by spacing^2 / (8 radius), under 0.05 mm."""

METAL_SPACING_MM = 0.8
"""Grid of the implant's distance fields: a 2 mm porous layer needs more than two points."""

JOINTS: tuple[tuple[str, str, str], ...] = (
    ("disc_L2_L3", "L2", "L3"),
    ("disc_L3_L4", "L3", "L4"),
    ("disc_L4_L5", "L4", "L5"),
    ("disc_L5_S1", "L5", "sacrum"),
    ("sacroiliac_left", "sacrum", "hip_left"),
    ("sacroiliac_right", "sacrum", "hip_right"),
    ("symphysis", "hip_left", "hip_right"),
)
"""Soft joints between neighbouring bones; only these pairs may come near each other."""

FACETS = "facets"
"""A disc's name with this for ``disc`` is the pair of facet joints behind it."""

THIN_PROBE_MM = 3.0
"""A bone whose far surface is nearer than two thirds of this behind a probe at this depth is thin."""


@dataclass(frozen=True, slots=True)
class ScrewSolid:
    """A screw as a cylinder: under-head point ``entry`` (3,) to ``tip`` (3,), LPS mm."""

    name: str
    entry: FloatArray
    tip: FloatArray
    diameter_mm: float


@dataclass(frozen=True, slots=True)
class RodSolid:
    """A rod as a round bar along ``polyline`` (n, 3), LPS mm."""

    name: str
    polyline: FloatArray
    diameter_mm: float


@dataclass(frozen=True, slots=True)
class ElementSizes:
    """Wanted element sizes, mm (SP-MECH-08)."""

    bone: float
    bone_thin: float
    joint: float
    implant: float
    porous: float
    hardware: float
    growth: float

    @staticmethod
    def default(bone_mm: float | None = None, metal_mm: float | None = None) -> ElementSizes:
        """Sizes of the evidence row; ``bone_mm`` and ``metal_mm`` scale bone and metal."""

        def q(name: str) -> float:
            return evidence.value("SP-MECH-08", name)

        bone = 1.0 if bone_mm is None else bone_mm / q("bone")
        metal = 1.0 if metal_mm is None else metal_mm / q("implant")
        return ElementSizes(
            q("bone") * bone,
            q("bone_thin") * bone,
            q("joint") * bone,
            q("implant") * metal,
            q("porous") * metal,
            q("hardware") * metal,
            q("growth"),
        )


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Bones as implicit functions in the local frame, before joint gaps are carved."""

    axes: AxisFrame
    raw: Mapping[str, Implicit]
    bounds: FloatArray

    @staticmethod
    def of(bones: Mapping[str, Surface], axes: AxisFrame) -> Anatomy:
        """Distance fields of closed bone surfaces."""
        local = {name: local_surface(s.require_closed(name), axes) for name, s in bones.items()}
        points = np.concatenate([s.vertices for s in local.values()])
        fields = side_by_side(
            lambda s, _: surface_distance(s, FIELD_SPACING_MM), list(local.values())
        )
        return Anatomy(
            axes,
            dict(zip(local, fields, strict=True)),
            np.stack([points.min(axis=0), points.max(axis=0)]),
        )

    def merged(self, other: Anatomy) -> Anatomy:
        """These bones, replaced or extended by those of ``other``."""
        low = np.minimum(self.bounds[0], other.bounds[0])
        high = np.maximum(self.bounds[1], other.bounds[1])
        return Anatomy(self.axes, {**self.raw, **other.raw}, np.stack([low, high]))


def _disc_region(
    upper: Implicit, lower: Implicit, point: FloatArray, normal: FloatArray, name: str
) -> tuple[Implicit, FloatArray, FloatArray]:
    """(region, centre, cranial normal) of the disc below ``point`` along ``-normal``, local frame."""
    radius = evidence.value("SP-MECH-06", "disc_radius")
    gap = evidence.value("SP-MECH-06", "disc_gap")
    n = unit(normal)
    helper = np.eye(3)[int(np.argmin(np.abs(n)))]
    e1 = unit(np.cross(n, helper))
    e2 = np.cross(n, e1)
    s = np.arange(-radius, radius + 0.1, 1.5)
    depth = np.arange(8.0, 70.0, 1.0)
    a, b, c = np.meshgrid(s, s, depth, indexing="ij")
    ok = a**2 + b**2 <= radius**2
    p = point + np.stack([a[ok], b[ok], c[ok]], axis=1) @ np.stack([e1, e2, -n])
    du, dl = upper(p), lower(p)
    middle = p[(du + dl <= gap) & (np.abs(du - dl) < 1.5)]
    if len(middle) < 60:
        raise MechanicsError(
            f"No space for {name} was found below the vertebra: its bones are more than {gap:g} mm "
            "apart or the endplate is misplaced."
        )
    centre = np.median(middle, axis=0)
    middle = middle[np.linalg.norm(middle - centre, axis=1) < radius]
    centre = middle.mean(axis=0)
    across = np.linalg.svd(middle - centre, full_matrices=False)[2][2]
    across = across if across @ n > 0 else -across
    # A plane fitted to a patchy disc can tilt; the vertebra above bounds how far.
    if across @ n < 0.7:
        across = n
    half = 0.65 * gap * across
    return cylinder(centre - half, centre + half, radius), centre, across


def _outside(region: Implicit, margin_mm: float) -> Implicit:
    return lambda points: np.asarray(margin_mm - region(points))


def _joints(anatomy: Anatomy, point: FloatArray, normal: FloatArray, facets: bool) -> list[Solid]:
    raw = anatomy.raw
    at, up = point, normal
    out = []
    for name, a, b in JOINTS:
        if a not in raw or b not in raw:
            continue
        region = None
        if name.startswith("disc"):
            gap = evidence.value("SP-MECH-06", "disc_gap")
            region, at, up = _disc_region(raw[a], raw[b], at, up, name)
            if facets:
                reach = evidence.value("SP-MECH-20", "gap")
                away = _outside(region, evidence.value("SP-MECH-20", "from_disc"))
                facet = between(raw[a], raw[b], reach, away)
                out.append(Solid(name.replace("disc", FACETS), "joint", facet))
        elif name.startswith("sacroiliac"):
            gap = evidence.value("SP-MECH-06", "sacroiliac_gap")
        else:
            gap = evidence.value("SP-MECH-06", "symphysis_gap")
        out.append(Solid(name, "joint", between(raw[a], raw[b], gap, region)))
    return out


def bone_solids(
    anatomy: Anatomy, point: FloatArray, normal: FloatArray, facets: bool = False
) -> tuple[Solid, ...]:
    """Bones with carved joint gaps, then the joints between them.

    ``point`` and ``normal`` (3,): superior endplate of the uppermost vertebra, local frame.
    ``facets`` adds the cartilage of the facet joints, which is only right where it is in contact.
    """
    gap = evidence.value("SP-MECH-06", "carved_gap")
    out = []
    for name, own in anatomy.raw.items():
        others = tuple(
            anatomy.raw[b if a == name else a]
            for _, a, b in JOINTS
            if name in (a, b) and a in anatomy.raw and b in anatomy.raw
        )
        out.append(Solid(name, "bone", carved(own, others, gap)))
    return (*out, *_joints(anatomy, point, normal, facets))


def metal_solids(
    axes: AxisFrame,
    core: Surface | None,
    porous: Mapping[str, Surface],
    screws: tuple[ScrewSolid, ...],
    rods: tuple[RodSolid, ...],
) -> tuple[Solid, ...]:
    """Metal parts in priority order: rods, screws, core, porous layers."""
    out = [
        Solid(r.name, "rod", remembered(tube(axes.to_local(r.polyline), 0.5 * r.diameter_mm)))
        for r in rods
    ]
    out += [
        Solid(
            s.name,
            "screw",
            remembered(cylinder(axes.to_local(s.entry), axes.to_local(s.tip), 0.5 * s.diameter_mm)),
        )
        for s in screws
    ]
    if core is not None:
        surface = local_surface(core.require_closed("the implant core"), axes)
        out.append(Solid("implant_core", "core", surface_distance(surface, METAL_SPACING_MM)))
    for name, layer in porous.items():
        surface = local_surface(layer.require_closed(f"porous layer {name}"), axes)
        out.append(Solid(f"porous_{name}", "porous", surface_distance(surface, METAL_SPACING_MM)))
    names = [s.name for s in out]
    if len(set(names)) != len(names):
        raise MechanicsError(f"Two metal parts carry the same name: {sorted(names)}.")
    return tuple(out)


def graft_solids(axes: AxisFrame, grafts: Mapping[str, Surface]) -> tuple[Solid, ...]:
    """Struts of bone; metal goes before them, the bone they stand on yields to them."""
    out = []
    for name, strut in grafts.items():
        surface = local_surface(strut.require_closed(f"the graft {name}"), axes)
        out.append(Solid(f"graft_{name}", "graft", surface_distance(surface, METAL_SPACING_MM)))
    return tuple(out)


def metal_bounds(
    axes: AxisFrame,
    core: Surface | None,
    porous: Mapping[str, Surface],
    screws: tuple[ScrewSolid, ...],
    rods: tuple[RodSolid, ...],
) -> FloatArray | None:
    """(2, 3) local bounds of all metal; None when there is none."""
    p = [core.vertices] if core is not None else []
    p += [s.vertices for s in porous.values()]
    low = [axes.to_local(v).min(axis=0) for v in p]
    high = [axes.to_local(v).max(axis=0) for v in p]
    bars = [(np.stack([s.entry, s.tip]), s.diameter_mm) for s in screws]
    bars += [(np.asarray(r.polyline), r.diameter_mm) for r in rods]
    for line, diameter in bars:
        q = axes.to_local(np.asarray(line, dtype=np.float64).reshape(-1, 3))
        low.append(q.min(axis=0) - diameter)
        high.append(q.max(axis=0) + diameter)
    if not low:
        return None
    return np.stack([np.min(low, axis=0), np.max(high, axis=0)])


def sizing_for(solids: tuple[Solid, ...], sizes: ElementSizes) -> Sizing:
    """Wanted size at points: each part's own, growing with distance from it; thin bone is finer."""
    of_kind = {
        "rod": sizes.hardware,
        "screw": sizes.hardware,
        "core": sizes.implant,
        "porous": sizes.porous,
        "graft": sizes.porous,
        "joint": sizes.joint,
        "bone": sizes.bone,
    }
    own = np.array([of_kind[s.kind] for s in solids])
    bones = [n for n, s in enumerate(solids) if s.kind == "bone"]

    def sizing(points: FloatArray, distances: FloatArray) -> FloatArray:
        # Outside, a part's size grows with distance; deep inside, beyond its own size, likewise.
        away = np.maximum(distances, 0.0) + np.maximum(-distances - own[:, None], 0.0)
        wanted = (own[:, None] + sizes.growth * away).min(axis=0)
        for n in bones:
            near = (np.abs(distances[n]) < sizes.bone) & (wanted > sizes.bone_thin)
            if not near.any():
                continue
            p = points[near]
            inward = -gradient(solids[n].distance, p, 0.5)
            probe = p + (distances[n][near] + THIN_PROBE_MM)[:, None] * inward
            thin = solids[n].distance(probe) > -THIN_PROBE_MM * 2.0 / 3.0
            index = np.flatnonzero(near)[thin]
            wanted[index] = sizes.bone_thin
        return np.asarray(wanted)

    return sizing
