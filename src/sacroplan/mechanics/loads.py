"""Where the model is held and how it is loaded. HANDBOOK 4.2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, MechanicsError
from sacroplan.geometry.frames import FloatArray, IntArray, unit
from sacroplan.mechanics.mesh import TetMesh, face_integrals

FACING = 0.35
"""Cosine between an acetabular face's normal and the way to the hip centre; the rim fails it."""

UPWARD = 0.6
"""Cosine between an endplate face's normal and the endplate's."""


@dataclass(frozen=True, eq=False)
class LoadCase:
    """A named force (3,) N in the model's frame, spread evenly over the loaded faces."""

    name: str
    force_n: FloatArray
    rows: tuple[str, ...]


def _faces_of(mesh: TetMesh, name: str) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """(faces (k, 6), centres, unit outward normals, areas) of a part's outer surface."""
    faces, element = mesh.boundary
    faces = faces[mesh.of(name)[element]]
    p = mesh.nodes[faces[:, :3]]
    cross = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    length = np.linalg.norm(cross, axis=1)
    return faces, p.mean(axis=1), cross / length[:, None], 0.5 * length


def held_nodes(
    mesh: TetMesh, hip_centres: Mapping[str, FloatArray], up: FloatArray
) -> tuple[npt.NDArray[np.bool_], tuple[Doubt, ...]]:
    """Nodes of both acetabula: hip surface that faces the hip centre, SP-MECH-05.

    ``hip_centres``: side ("left", "right") to (3,); ``up`` (3,) unit, cranial. Where an acetabulum
    is missing from the image the lowest slab of that hip bone is held instead, with a doubt.
    """
    held = np.zeros(len(mesh.nodes), dtype=bool)
    doubts = []
    for side in ("left", "right"):
        name = f"hip_{side}"
        faces, centre, normal, area = _faces_of(mesh, name)
        if not len(faces):
            raise MechanicsError(f"The model holds no {name}, so it cannot be held there.")
        chosen = np.zeros(len(faces), dtype=bool)
        if side in hip_centres:
            way = np.asarray(hip_centres[side]) - centre
            far = np.linalg.norm(way, axis=1)
            facing = np.einsum("ij,ij->i", normal, way) > FACING * far
            limit = evidence.value("SP-MECH-05", "acetabulum_nearest")
            near = np.where(facing, far, np.inf)
            if near.min() <= limit:
                # The fifth percentile by area, so that one stray face does not set the radius.
                cup = facing & (far <= limit + evidence.value("SP-MECH-05", "acetabulum_depth"))
                order = np.argsort(far[cup], kind="stable")
                share = np.cumsum(area[cup][order])
                at = int(np.searchsorted(share, 0.05 * share[-1]))
                nearest = float(far[cup][order][at])
                depth = evidence.value("SP-MECH-05", "acetabulum_depth")
                chosen = facing & (far <= nearest + depth)
        if 0.01 * area[chosen].sum() < evidence.value("SP-MECH-05", "acetabulum_area"):
            height = centre @ up
            slab = evidence.value("SP-MECH-05", "lowest_slab")
            chosen = height < height.min() + slab
            doubts.append(
                Doubt(
                    "mechanics",
                    f"mechanics.no_acetabulum_{side}",
                    f"The {side} acetabulum is hardly in the image; the lowest {slab:g} mm of that "
                    "hip bone are held instead, which makes the model stiffer or softer there.",
                    ("LC-01", "SP-MECH-05"),
                )
            )
        held[np.unique(faces[chosen])] = True
    return held, tuple(doubts)


def endplate_weights(mesh: TetMesh, name: str, point: FloatArray, normal: FloatArray) -> FloatArray:
    """(n,) share of a force on every node for an even traction on a vertebra's endplate; sums to 1."""
    faces, centre, outward, _ = _faces_of(mesh, name)
    n = unit(normal)
    r = centre - np.asarray(point)
    height = r @ n
    across = np.linalg.norm(r - height[:, None] * n, axis=1)
    chosen = (
        (outward @ n > UPWARD)
        & (np.abs(height) < evidence.value("SP-MECH-05", "endplate_distance"))
        & (across < evidence.value("SP-MECH-05", "endplate_radius"))
    )
    if not chosen.any():
        raise MechanicsError(
            f"No superior endplate of {name} was found within "
            f"{evidence.value('SP-MECH-05', 'endplate_distance'):g} mm of the given plane; check its "
            "point and normal."
        )
    weights = np.zeros(len(mesh.nodes))
    np.add.at(weights, faces[chosen], face_integrals(mesh.nodes, faces[chosen]))
    return np.asarray(weights / weights.sum())


def load_cases(
    caudal: FloatArray, endplate_normal: FloatArray, body_mass_kg: float | None
) -> tuple[LoadCase, ...]:
    """LC-01 along ``caudal`` (3,) and LC-02 against the endplate normal (3,).

    LC-02 uses 0.55 body weight where the mass is known (LOAD-01), else its published 500 N.
    """
    if body_mass_kg is not None and not 20.0 <= body_mass_kg <= 300.0:
        raise MechanicsError(
            f"A body mass of {body_mass_kg:g} kg was given; between 20 and 300 kg is expected."
        )
    if body_mass_kg is None:
        axial = evidence.value("LC-02", "force")
        rows: tuple[str, ...] = ("LC-02",)
    else:
        axial = (
            evidence.value("LOAD-01", "share")
            * body_mass_kg
            * evidence.value("SP-MECH-04", "newton_per_kg")
        )
        rows = ("LC-02", "LOAD-01")
    return (
        LoadCase("lc01", evidence.value("LC-01", "force") * unit(caudal), ("LC-01",)),
        LoadCase("lc02", -axial * unit(endplate_normal), rows),
    )
