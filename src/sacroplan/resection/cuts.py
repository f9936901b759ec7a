"""Finite saw cuts with kerf, and what falls apart when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import bodies, difference, overlap_mm3
from sacroplan.geometry.frames import FloatArray, Plane, same_frame
from sacroplan.geometry.primitives import prism
from sacroplan.geometry.slicing import CrossSection, section
from sacroplan.geometry.surface import Surface

CutKind = Literal["osteotomy", "disc"]

OUTLINE_REACH_MM = 3.0
"""The saw overshoots the bone's outline by this much, so that the cut is complete."""


@dataclass(frozen=True, eq=False)
class Cut:
    """One planned cut.

    Attributes
    ----------
    name : ``"iliac_left"``, ``"iliac_right"``, ``"l5_s1"`` ...
    kind : an osteotomy saws bone and removes its kerf, a disc cut parts two bones.
    bone : the bone that is sawn (empty for a disc cut).
    plane : centre plane of the kerf; the normal points to the specimen.
    kerf_mm : thickness of bone the blade removes (0 for a disc cut). HANDBOOK GDE-05.
    outline : section of the bone in ``plane``, only the loops that are cut.
    """

    name: str
    kind: CutKind
    bone: str
    plane: Plane
    kerf_mm: float
    outline: CrossSection

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.plane.frame

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
        return self.outline.area_mm2


@dataclass(frozen=True, eq=False)
class SawnBone:
    """A bone after one cut: ``specimen`` + ``remnant`` + ``kerf`` are the whole bone."""

    specimen: Surface
    remnant: Surface
    kerf_mm3: float


def saw(bone: Surface, cut: Cut, specimen_point: FloatArray) -> SawnBone:
    """Cut ``bone`` and sort the two pieces; the specimen is the piece nearest ``specimen_point`` (3,).

    Raises :class:`PlanError` when the cut does not part the bone.
    """
    same_frame(bone, cut)
    if not cut.outline.loops:
        raise PlanError(f"The cut {cut.name} misses the bone it is to saw ({cut.bone}).")
    blade = _blade(cut)
    rest = difference(bone, blade, names=(cut.bone, f"the saw cut {cut.name}"))
    pieces = bodies(rest)
    if len(pieces) < 2:
        raise PlanError(
            f"The cut {cut.name} does not part {cut.bone}: one piece is left. "
            "Move or turn its plane in case.toml."
        )
    near = [_distance(piece, specimen_point) for piece in pieces]
    chosen = int(np.argmin(near))
    specimen = pieces[chosen]
    # Crumbs that the saw leaves on its way belong to the side of the plane they lie on.
    remnant_pieces: list[Surface] = []
    specimen_pieces = [specimen]
    for n, piece in enumerate(pieces):
        if n == chosen:
            continue
        side = float(cut.plane.distance(piece.centroid[None])[0])
        crumb = piece.volume_mm3 < 0.02 * bone.volume_mm3
        beside = _gap(piece, specimen) < cut.kerf_mm + OUTLINE_REACH_MM
        (specimen_pieces if crumb and side > 0 and beside else remnant_pieces).append(piece)
    return SawnBone(
        _together(specimen_pieces),
        _together(remnant_pieces),
        overlap_mm3(bone, blade),
    )


def _blade(cut: Cut) -> Surface:
    import manifold3d

    grown = manifold3d.CrossSection([np.asarray(p) for p in cut.outline.loops]).offset(
        OUTLINE_REACH_MM, manifold3d.JoinType.Round, circular_segments=24
    )
    half = 0.5 * cut.kerf_mm
    loops = [np.asarray(p) for p in grown.to_polygons()]
    return prism(loops, cut.outline.origin, cut.outline.axes, -half, half, cut.frame)


def _distance(surface: Surface, point: FloatArray) -> float:
    import igl

    p = np.asarray(point, dtype=np.float64).reshape(1, 3)
    return float(igl.point_mesh_squared_distance(p, surface.vertices, surface.faces)[0][0])


def _gap(a: Surface, b: Surface) -> float:
    """Least distance of the vertices of ``a`` to ``b``."""
    import igl

    return float(igl.point_mesh_squared_distance(a.vertices, b.vertices, b.faces)[0].min() ** 0.5)


def _together(pieces: list[Surface]) -> Surface:
    from sacroplan.geometry.surface import concatenate

    if not pieces:
        raise PlanError("A cut left nothing on the patient's side.")
    return pieces[0] if len(pieces) == 1 else concatenate(pieces)


def osteotomy(
    name: str, bone_name: str, bone: Surface, plane: Plane, kerf_mm: float, within: Surface | None
) -> Cut:
    """A cut of ``bone`` in ``plane``; only section loops that reach into ``within`` are sawn.

    ``within`` (a closed region) keeps an infinite plane from sawing parts it meets elsewhere.
    """
    whole = section(bone, plane)
    if within is not None:
        import manifold3d

        region = section(within, plane)
        kept = []
        for loop in whole.loops:
            if not region.loops:
                break
            common = manifold3d.CrossSection([np.asarray(loop)], manifold3d.FillRule.EvenOdd) ^ (
                manifold3d.CrossSection(
                    [r @ (region.axes[:, :2].T @ whole.axes[:, :2]) for r in region.loops],
                    manifold3d.FillRule.EvenOdd,
                )
            )
            if common.area() > 1.0:
                kept.append(loop)
        whole = CrossSection(whole.origin, whole.axes, tuple(kept), whole.frame)
    return Cut(name, "osteotomy", bone_name, plane, kerf_mm, whole)
