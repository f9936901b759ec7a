"""Wall thickness of a solid: chords along rays, and what of them is wall rather than edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.tree import FaceTree

SAMPLES = 20_000
"""Rays into a part; one per 1-2 mm2 of an implant."""

DIRECTIONS = 16
"""Ways in which thicker material is sought round a thin chord."""

QUARTERS = 4
"""The ways are gone through in so many rounds, each spread over the whole turn."""

BATCH = 512
"""Chords looked at together, thinnest first; the search ends as soon as no thinner wall can follow."""

INSET = 1e-6
"""Rays start this share of a millimetre inside, so that they do not meet their own face."""


@dataclass(frozen=True, eq=False)
class Walls:
    """Thickness at points spread evenly over a surface.

    Attributes
    ----------
    points : (n, 3) samples on the surface.
    chords : (n,) mm from the sample straight inwards to the other side; at a sharp edge this tends to 0.
    walls : (n,) mm, the thickest chord that the sample sees through the material within the reach. The
        flank of an edge sees the thicker material behind it, a thin plate sees none. Below ``looked``
        these are exact; above, a chord stands for its wall, which may be thicker.
    looked : chord up to which walls were sought, mm.
    """

    points: FloatArray
    chords: FloatArray
    walls: FloatArray
    looked: float

    def thinnest(self, but_for: float = 0.0) -> int:
        """Number of the sample with the thinnest wall, ``but_for`` that share (0 to 1) of the surface."""
        return int(np.argsort(self.walls, kind="stable")[int(but_for * len(self.walls))])

    def share_below(self, limit_mm: float) -> float:
        """Share (0 to 1) of the surface whose wall is below ``limit_mm`` (at most the one asked for)."""
        return float(np.count_nonzero(self.walls < limit_mm - 1e-6)) / len(self.walls)


def measure_walls(
    surface: Surface,
    tree: FaceTree,
    limit_mm: float,
    reach_mm: float,
    but_for: float = 0.0,
    samples: int = SAMPLES,
    enough_mm: float = np.inf,
) -> Walls:
    """Walls of a closed ``surface``; exact for the thinnest one ``but_for`` that share of the surface, and
    for all below ``limit_mm``.

    ``reach_mm`` decides what is an edge: a wedge of angle ``a`` has grown to ``reach_mm * tan(a)`` at
    that distance from its tip, so edges blunter than ``atan(limit_mm / reach_mm)`` have no wall below
    ``limit_mm``, while a plate keeps its thickness whatever the reach.
    """
    area = np.linalg.norm(surface.area_vectors, axis=1)
    total = np.cumsum(area)
    count = min(samples, max(2000, 4 * len(area)))
    # Equal steps of area: large faces get many samples, and the same surface always the same ones.
    step = (np.arange(count) + 0.5) / count * total[-1]
    face = np.minimum(np.searchsorted(total, step), len(area) - 1)
    spread = np.stack([(np.arange(count) * g) % 1.0 for g in (0.7548776662, 0.5698402910)], axis=1)
    over = spread.sum(axis=1) > 1.0
    spread[over] = 1.0 - spread[over]
    weights = np.concatenate([1.0 - spread.sum(axis=1, keepdims=True), spread], axis=1)
    points = np.einsum("nc,ncx->nx", weights, surface.triangles[face])
    normals = surface.face_normals[face]
    chords, _ = tree.first_hits(points, -normals, INSET)
    walls = chords.copy()
    order = np.argsort(chords, kind="stable")
    looked = np.inf
    rank = int(but_for * count)
    for first in range(0, count, BATCH):
        rest = float(chords[order[first]])
        if first > rank and rest >= max(limit_mm, float(np.sort(walls[order[:first]])[rank])):
            looked = rest
            break
        some = order[first : first + BATCH]
        some = some[np.isfinite(chords[some])]
        corners = surface.triangles[face[some]]
        walls[some] = _thickest(
            tree,
            points[some],
            normals[some],
            _longest_edge(corners),
            chords[some],
            reach_mm,
            enough_mm,
        )
    return Walls(points, chords, walls, looked)


def _longest_edge(corners: FloatArray) -> FloatArray:
    """(n, 3) unit vector along the longest edge of each face (n, 3, 3)."""
    edges = np.roll(corners, -1, axis=1) - corners
    length = np.linalg.norm(edges, axis=2)
    # Rounded, so that equal edges are told apart by their order wherever the part lies.
    longest = np.argmax(np.round(length, 6), axis=1)
    rows = np.arange(len(edges))
    return np.asarray(edges[rows, longest] / length[rows, longest][:, None])


def _thickest(
    tree: FaceTree,
    points: FloatArray,
    normals: FloatArray,
    across: FloatArray,
    chords: FloatArray,
    reach_mm: float,
    enough_mm: float,
) -> FloatArray:
    """(n,) thickest chord parallel to each sample's own, within reach and in sight of its middle.

    The ways start from ``across`` (n, 3) in each face, so that they turn with the part; a quarter of
    them at a time, until a sample has ``enough_mm``.
    """
    up = np.cross(normals, across)
    turn = 2.0 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    middle = points - 0.5 * chords[:, None] * normals
    best = chords.copy()
    for first in range(QUARTERS):
        left = np.flatnonzero(best < enough_mm)
        if not len(left):
            break
        some = turn[first::QUARTERS]
        ways = (
            np.cos(some)[:, None] * across[left, None] + np.sin(some)[:, None] * up[left, None]
        ).reshape(-1, 3)
        starts = np.repeat(middle[left], len(some), axis=0)
        sight, _ = tree.first_hits(starts, ways, 0.0)
        # Only through material: what lies across a gap does not make a thin plate thick.
        there = starts + np.minimum(reach_mm, 0.98 * sight)[:, None] * ways
        along = np.repeat(normals[left], len(some), axis=0)
        out, _ = tree.first_hits(there, along, 0.0)
        back, _ = tree.first_hits(there, -along, 0.0)
        found = (out + back).reshape(-1, len(some))
        found[~np.isfinite(found)] = 0.0
        best[left] = np.maximum(best[left], found.max(axis=1))
    return best
