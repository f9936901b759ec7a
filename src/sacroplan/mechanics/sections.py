"""Forces and moments in the sections of screws and rods, integrated from the stresses.

A section's resultant is taken as the mean over a slab around it: the slab's mean traction and mean
moment density times the bar's mean section area. That needs no cut through elements and converges
with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.mechanics.mesh import GAUSS, TetMesh

FULL_SHARE = 0.7
"""A slab whose metal is less than this share of the median slab is an end and is left out."""

CHUNK = 20_000
"""Points compared with all segments of a line at once; bounds the memory."""


@dataclass(frozen=True, eq=False)
class Sections:
    """Resultants along a bar.

    Attributes
    ----------
    station_mm : (k,) arc length of the slabs' middles.
    axial_n : (k,) positive in tension.
    shear_n : (k,) size of the force across.
    bending_n_mm : (k,) size of the bending moment about the bar's own axis line.
    torsion_n_mm : (k,) moment along the bar.
    diameter_mm : nominal.
    """

    station_mm: FloatArray
    axial_n: FloatArray
    shear_n: FloatArray
    bending_n_mm: FloatArray
    torsion_n_mm: FloatArray
    diameter_mm: float

    @property
    def nominal_mpa(self) -> FloatArray:
        """(k,) largest fibre stress of a round bar of the nominal diameter."""
        area = 0.25 * np.pi * self.diameter_mm**2
        modulus = np.pi * self.diameter_mm**3 / 32.0
        return np.asarray(np.abs(self.axial_n) / area + self.bending_n_mm / modulus)


def along_polyline(
    points: FloatArray, line: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """((n,) arc length, (n, 3) tangent, (n, 3) offset from the line) of the nearest place on it."""
    start, way = line[:-1], np.diff(line, axis=0)
    length = np.linalg.norm(way, axis=1)
    keep = length > 1e-9
    start, way, length = start[keep], way[keep], length[keep]
    before = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    arc, tangent, offset = (
        np.empty(len(points)),
        np.empty((len(points), 3)),
        np.empty((len(points), 3)),
    )
    for first in range(0, len(points), CHUNK):
        here = slice(first, first + CHUNK)
        r = points[here, None] - start[None]
        t = np.clip(np.einsum("nsk,sk->ns", r, way) / length**2, 0.0, 1.0)
        off = r - t[:, :, None] * way[None]
        nearest = np.argmin(np.einsum("nsk,nsk->ns", off, off), axis=1)
        at = np.arange(len(nearest))
        arc[here] = before[nearest] + t[at, nearest] * length[nearest]
        tangent[here] = (way / length[:, None])[nearest]
        offset[here] = off[at, nearest]
    return arc, tangent, offset


def sections(
    mesh: TetMesh,
    elements: IntArray,
    stress: FloatArray,
    line: FloatArray,
    diameter_mm: float,
) -> Sections:
    """Resultants of a bar of ``elements`` (k,) with stresses (k, 4, 6) along ``line`` (n, 3).

    Slabs are a diameter thick.
    """
    points = np.einsum("qc,mcd->mqd", GAUSS, mesh.nodes[mesh.elements[elements, :4]])
    s, tangent, off = along_polyline(points.reshape(-1, 3), np.asarray(line, dtype=np.float64))
    volume = np.repeat(mesh.volumes[elements] / len(GAUSS), len(GAUSS))
    xx, yy, zz, xy, yz, zx = np.moveaxis(stress.reshape(-1, 6), -1, 0)
    a, b, c = tangent.T
    traction = np.stack([xx * a + xy * b + zx * c, xy * a + yy * b + yz * c,
                         zx * a + yz * b + zz * c], axis=1)  # fmt: skip
    # Along the bar r has no part: moments are about the slab's own point of the axis.
    moment = np.cross(off, traction)
    width = diameter_mm
    slab = np.floor(s / width).astype(np.int64)
    slab -= slab.min()
    count = int(slab.max()) + 1

    metal = np.bincount(slab, weights=volume, minlength=count)
    full = metal >= FULL_SHARE * np.median(metal[metal > 0])
    area = metal[full].sum() / (width * full.sum())

    def total(values: FloatArray) -> FloatArray:
        mean = np.bincount(slab, weights=values * volume, minlength=count)
        return np.asarray(area * mean / np.maximum(metal, 1e-300))

    mean_tangent = np.stack([total(t) for t in tangent.T], axis=1)
    mean_tangent /= np.maximum(np.linalg.norm(mean_tangent, axis=1, keepdims=True), 1e-300)
    force = np.stack([total(t) for t in traction.T], axis=1)
    turn = np.stack([total(t) for t in moment.T], axis=1)
    axial = np.einsum("ij,ij->i", force, mean_tangent)
    torsion = np.einsum("ij,ij->i", turn, mean_tangent)
    return Sections(
        (total(s) / area)[full],
        axial[full],
        np.linalg.norm(force - axial[:, None] * mean_tangent, axis=1)[full],
        np.linalg.norm(turn - torsion[:, None] * mean_tangent, axis=1)[full],
        torsion[full],
        diameter_mm,
    )
