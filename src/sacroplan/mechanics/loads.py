"""Where the model is held and which of its nodes take which share of a load. HANDBOOK 4.2."""

from __future__ import annotations

from collections.abc import Mapping

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


def _faces_of(mesh: TetMesh, name: str) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """(faces (k, 6), centres, unit outward normals, areas) of a part's outer surface."""
    faces, element = mesh.boundary
    faces = faces[mesh.of(name)[element]]
    p = mesh.nodes[faces[:, :3]]
    cross = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    length = np.linalg.norm(cross, axis=1)
    return faces, p.mean(axis=1), cross / length[:, None], 0.5 * length


def held_faces(
    mesh: TetMesh, hip_centres: Mapping[str, FloatArray], up: FloatArray
) -> tuple[Mapping[str, IntArray], tuple[Doubt, ...]]:
    """Faces (k, 6) of both acetabula by side: hip surface that faces the hip centre, SP-MECH-05.

    ``hip_centres``: side ("left", "right") to (3,); ``up`` (3,) unit, cranial. Where an acetabulum
    is missing from the image the lowest slab of that hip bone is held instead, with a doubt.
    """
    held: dict[str, IntArray] = {}
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
        held[side] = faces[chosen]
    return held, tuple(doubts)


def nodes_of(mesh: TetMesh, faces: IntArray) -> npt.NDArray[np.bool_]:
    """(n,) nodes of faces (k, 6)."""
    out = np.zeros(len(mesh.nodes), dtype=bool)
    out[np.unique(faces)] = True
    return out


def face_weights(mesh: TetMesh, faces: IntArray) -> FloatArray:
    """(n,) share of a force on every node for an even traction on faces (k, 6); sums to 1."""
    weights = np.zeros(len(mesh.nodes))
    np.add.at(weights, faces, face_integrals(mesh.nodes, faces))
    return np.asarray(weights / weights.sum())


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
    return face_weights(mesh, faces[chosen])


def body_weights(mesh: TetMesh, *names: str) -> FloatArray:
    """(n,) share of a force on every node for an even body force on parts; sums to 1."""
    at = np.any([mesh.of(name) for name in names], axis=0)
    if not at.any():
        raise MechanicsError(f"The model holds no {' or '.join(names)}: no force can act there.")
    weights = np.zeros(len(mesh.nodes))
    # The volume integrals of quadratic shape functions: corners -1/20, edges 1/5 of the volume.
    share = np.concatenate([np.full(4, -0.05), np.full(6, 0.2)])
    np.add.at(weights, mesh.elements[at], mesh.volumes[at, None] * share)
    return np.asarray(weights / weights.sum())


def pure_moment(mesh: TetMesh, weights: FloatArray, moment_n_mm: FloatArray) -> FloatArray:
    """(n, 3) N nodal forces with this moment (3,) and no resultant, on nodes with ``weights`` (n,).

    The forces are a rotation field about the weighted centre times the weights: what a rigid plate
    glued to the surface would pass on to first order.
    """
    at = np.flatnonzero(weights)
    w = weights[at]
    x = mesh.nodes[at]
    r = x - (w @ x) / w.sum()
    inertia = np.einsum("n,nk,nk->", w, r, r) * np.eye(3) - np.einsum("n,ni,nj->ij", w, r, r)
    out = np.zeros((len(mesh.nodes), 3))
    out[at] = w[:, None] * np.cross(np.linalg.solve(inertia, moment_n_mm), r)
    return out


def wing_weights(mesh: TetMesh, side: str, hip_centre: FloatArray, axes: FloatArray) -> FloatArray:
    """(n,) even traction on the outer face of an iliac wing, where the abductors pull; sums to 1.

    ``axes`` (3, 3): rows are the outward and the cranial direction of that side and a third.
    """
    name = f"hip_{side}"
    faces, centre, normal, _ = _faces_of(mesh, name)
    outward, up = axes[0], axes[1]
    above = (centre - hip_centre) @ up
    chosen = (normal @ outward > FACING) & (above > evidence.value("SP-MECH-15", "wing_height"))
    if not chosen.any():
        raise MechanicsError(
            f"No outer face of {name} lies {evidence.value('SP-MECH-15', 'wing_height'):g} mm above "
            "its hip centre, so the abductors of single-leg stance have nowhere to pull."
        )
    return face_weights(mesh, faces[chosen])


def ischium_nodes(
    mesh: TetMesh, hip_centres: Mapping[str, FloatArray], up: FloatArray
) -> npt.NDArray[np.bool_] | None:
    """(n,) nodes of both ischial tuberosities, the lowest slab of each hip bone (SP-MECH-05).

    None where the image ends above them (SP-MECH-15).
    """
    held = np.zeros(len(mesh.nodes), dtype=bool)
    for side in ("left", "right"):
        faces, centre, _, _ = _faces_of(mesh, f"hip_{side}")
        height = centre @ up
        if side not in hip_centres or not len(faces):
            return None
        depth = float(np.asarray(hip_centres[side]) @ up - height.min())
        if depth < evidence.value("SP-MECH-15", "ischium_depth"):
            return None
        low = height < height.min() + evidence.value("SP-MECH-05", "lowest_slab")
        held[np.unique(faces[low])] = True
    return held
