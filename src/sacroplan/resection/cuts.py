"""Finite saw cuts with kerf, and what falls apart when they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import TINY_VOLUME_MM3, from_manifold, to_manifold
from sacroplan.geometry.frames import FloatArray, Plane, same_frame
from sacroplan.geometry.primitives import prism
from sacroplan.geometry.slicing import CrossSection, section
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.resection.profile import FAR_MM, Profile

CutKind = Literal["osteotomy", "disc", "joint"]

OUTLINE_REACH_MM = 3.0
"""The saw overshoots the bone's outline by this much, so that the cut is complete."""

ON_FACE_MM = 1e-5
"""A vertex this near to a cut face lies on it."""

CRUMB = 0.02
"""A piece below this share of the bone may touch both faces of a cut: saw crumbs, not parts."""

LEAST_LOOP_MM2 = 1.0
"""Smaller loops of a section are dents that the plane grazes."""


@dataclass(frozen=True, eq=False)
class Facet:
    """One flat piece of a cut: centre plane of the kerf (normal to the specimen) and what is sawn."""

    plane: Plane
    outline: CrossSection


@dataclass(frozen=True, eq=False)
class Cut:
    """One planned cut.

    Attributes
    ----------
    name : ``"iliac_left"``, ``"l5_s1"``, ``"sacral"`` ...
    kind : an osteotomy saws bone and removes its kerf; a disc or joint cut parts two bones.
    bone : the bone that is sawn (empty for a disc or joint cut).
    plane : centre plane of the kerf, of the first facet; the normal points to the specimen.
    kerf_mm : thickness of bone the blade removes (0 for a disc or joint cut). HANDBOOK GDE-05.
    outline : section of the bone in ``plane``, only the loops that are cut.
    more : further facets of a polyplane. profile : its corners, None for a single unbounded plane.
    """

    name: str
    kind: CutKind
    bone: str
    plane: Plane
    kerf_mm: float
    outline: CrossSection
    more: tuple[Facet, ...] = ()
    profile: Profile | None = None

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.plane.frame

    @property
    def facets(self) -> tuple[Facet, ...]:
        """All flat pieces."""
        return (Facet(self.plane, self.outline), *self.more)

    @property
    def remnant_face(self) -> Plane:
        """Face left on the patient: half a kerf behind the centre plane, normal to the specimen."""
        return self.plane.shifted(-0.5 * self.kerf_mm)

    @property
    def specimen_face(self) -> Plane:
        """Face on the specimen: half a kerf in front of the centre plane."""
        return self.plane.shifted(0.5 * self.kerf_mm)

    @property
    def area_mm2(self) -> float:
        """Area of bone that is sawn through."""
        return sum(f.outline.area_mm2 for f in self.facets)

    def side(self, points: FloatArray) -> FloatArray:
        """(n,) signed distance (mm) to the cut gone on without end, positive towards the specimen."""
        if self.profile is not None:
            return self.profile.side(points)
        return np.asarray(self.plane.distance(np.asarray(points).reshape(-1, 3)))


@dataclass(frozen=True, eq=False)
class SawnBone:
    """A bone after its cuts: ``specimen`` + ``remnant`` + ``kerf`` are the whole bone."""

    specimen: Surface
    remnant: Surface
    kerf_mm3: float


def osteotomy(
    name: str,
    bone_name: str,
    bone: Surface,
    plane: Plane,
    kerf_mm: float,
    within: Surface | None,
    solid: Any = None,
) -> Cut:
    """A cut of ``bone`` in ``plane``; only section loops that reach into ``within`` are sawn.

    ``within`` (a closed region) keeps an infinite plane from sawing parts it meets elsewhere;
    ``solid`` is the bone's manifold3d solid where it is at hand.
    """
    outline = _inside(section(bone, plane, solid=solid), plane, within)
    return Cut(name, "osteotomy", bone_name, plane, kerf_mm, outline)


def polyplane(
    name: str,
    bone_name: str,
    bone: Surface,
    chain: Profile,
    kerf_mm: float,
    within: Surface | None,
    solid: Any = None,
) -> Cut:
    """A cut of ``bone`` along a chain of planes, bounded by its ends and its depth."""
    facets = []
    planes = chain.planes()
    for n, plane in enumerate(planes):
        length = float(np.linalg.norm(chain.points[n + 1] - chain.points[n]))
        first, last = n == 0, n == len(planes) - 1
        # Walking along the chain is against u = saw x normal.
        high = FAR_MM if first and chain.open else 0.5 * length
        low = -FAR_MM if last and chain.open else -0.5 * length
        deep = -FAR_MM if chain.depth_mm is None else -chain.depth_mm
        whole = _inside(section(bone, plane, chain.saw, solid), plane, within)
        facets.append(Facet(plane, _clipped(whole, low, high, deep, FAR_MM)))
    return Cut(
        name, "osteotomy", bone_name, facets[0].plane, kerf_mm, facets[0].outline,
        tuple(facets[1:]), chain,
    )  # fmt: skip


def _section(loops: Sequence[FloatArray], rule: str = "EvenOdd") -> Any:
    import manifold3d

    return manifold3d.CrossSection(
        [np.asarray(p) for p in loops], getattr(manifold3d.FillRule, rule)
    )


def _inside(whole: CrossSection, plane: Plane, within: Surface | None) -> CrossSection:
    """The loops of a section that reach into ``within``."""
    if within is None or not whole.loops:
        return whole
    region = section(within, plane)
    if not region.loops:
        return CrossSection(whole.origin, whole.axes, (), whole.frame)
    turn = region.axes[:, :2].T @ whole.axes[:, :2]
    allowed = _section([r @ turn for r in region.loops])
    kept = [q for q in whole.loops if (_section([q]) ^ allowed).area() > LEAST_LOOP_MM2]
    return CrossSection(whole.origin, whole.axes, tuple(kept), whole.frame)


def _clipped(whole: CrossSection, low: float, high: float, deep: float, top: float) -> CrossSection:
    """A section limited to a rectangle of its own plane."""
    if not whole.loops:
        return whole
    rectangle = np.array([[low, deep], [high, deep], [high, top], [low, top]])
    common = _section(whole.loops, "Positive") ^ _section([rectangle], "Positive")
    loops = tuple(np.asarray(p, dtype=np.float64) for p in common.to_polygons() if len(p) > 2)
    return CrossSection(whole.origin, whole.axes, loops, whole.frame)


def blade(cut: Cut) -> Any:
    """What the saw removes as a manifold3d solid: the kerf over the bone's outline and a little more."""
    import manifold3d

    parts = []
    half = 0.5 * cut.kerf_mm
    # With corners the slab below bounds the kerf; the prisms only say where it is sawn.
    thick = half if cut.profile is None else 2.0 * half + OUTLINE_REACH_MM
    for facet in cut.facets:
        if not facet.outline.loops:
            continue
        grown = manifold3d.CrossSection([np.asarray(p) for p in facet.outline.loops]).offset(
            OUTLINE_REACH_MM, manifold3d.JoinType.Round, circular_segments=24
        )
        loops = [np.asarray(p) for p in grown.to_polygons()]
        solid = prism(loops, facet.outline.origin, facet.outline.axes, -thick, thick, cut.frame)
        parts.append(to_manifold(solid, f"the saw cut {cut.name}"))
    whole = manifold3d.Manifold.batch_boolean(parts, manifold3d.OpType.Add)
    if cut.profile is not None:
        whole = whole ^ to_manifold(cut.profile.slab(half), f"the saw cut {cut.name}")
    return whole


def saw_all(bone: Surface, cuts: Sequence[Cut], solid: Any = None) -> SawnBone:
    """Make all ``cuts`` of one bone and sort the pieces by the faces they bear.

    A piece with a specimen face belongs to the specimen, one with a remnant face, or none, stays.
    ``solid`` is the bone's manifold3d solid where it is at hand. Raises :class:`PlanError` when a
    cut misses the bone, or the cuts do not part it.
    """
    import manifold3d

    for cut in cuts:
        same_frame(bone, cut)
        if not any(f.outline.loops for f in cut.facets):
            raise PlanError(
                f"The cut {cut.name} misses the bone it is to saw ({cut.bone}). "
                "Move its plane in case.toml, or name another bone."
            )
    body = to_manifold(bone, cuts[0].bone) if solid is None else solid
    blades = manifold3d.Manifold.batch_boolean([blade(c) for c in cuts], manifold3d.OpType.Add)
    # One search for where they cross gives both what the saw takes and what it leaves.
    sawdust, left = body.split(blades)
    pieces = [
        from_manifold(m, bone.frame) for m in left.decompose() if m.volume() > TINY_VOLUME_MM3
    ]
    specimen: list[Surface] = []
    remnant: list[Surface] = []
    for piece in pieces:
        gone, stays = borne(piece, cuts)
        if (
            gone > LEAST_LOOP_MM2
            and stays > LEAST_LOOP_MM2
            and (piece.volume_mm3 > CRUMB * bone.volume_mm3)
        ):
            names = " and ".join(c.name for c in cuts)
            raise PlanError(
                f"The cut {names} does not part {cuts[0].bone}: a piece of "
                f"{piece.volume_mm3 / 1000:.1f} cm3 hangs on both sides of it. "
                "Move, turn or lengthen its plane in case.toml."
            )
        (specimen if gone > stays else remnant).append(piece)
    for found, what in ((specimen, "specimen"), (remnant, "patient")):
        if not found:
            raise PlanError(
                f"The cut {cuts[0].name} leaves nothing of {cuts[0].bone} on the {what}'s side; "
                "move its plane in case.toml."
            )
    return SawnBone(_together(specimen), _together(remnant), float(sawdust.volume()))


def borne(piece: Surface, cuts: Sequence[Cut]) -> tuple[float, float]:
    """Area (mm2) of specimen faces and of remnant faces of ``cuts`` on a piece."""
    return (
        float(sum(face_mask(piece, c, +1)[1] for c in cuts)),
        float(sum(face_mask(piece, c, -1)[1] for c in cuts)),
    )


def face_mask(piece: Surface, cut: Cut, sign: int) -> tuple[Any, float]:
    """Faces (m,) of ``piece`` on the cut's specimen (+1) or remnant (-1) side, and their area."""
    chosen = np.zeros(len(piece.faces), dtype=bool)
    half = 0.5 * cut.kerf_mm
    for facet in cut.facets:
        d = facet.plane.distance(piece.vertices) - sign * half
        near = np.abs(d) < ON_FACE_MM
        on = near[piece.faces].all(axis=1)
        if on.any():
            facing = piece.area_vectors[on] @ facet.plane.normal * -sign > 0
            chosen[np.flatnonzero(on)[facing]] = True
    area = float(np.linalg.norm(piece.area_vectors[chosen], axis=1).sum()) if chosen.any() else 0.0
    return chosen, area


def _together(pieces: list[Surface]) -> Surface:
    pieces = sorted(pieces, key=lambda s: (-s.volume_mm3, *s.bounds[0].tolist()))
    return pieces[0] if len(pieces) == 1 else concatenate(pieces)
