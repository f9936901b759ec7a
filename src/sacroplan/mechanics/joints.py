"""The sacroiliac joint as it is: cartilage that only presses, ligaments that only pull.

The conforming mesh is parted between hip bone and cartilage, and every ligament fibre becomes a
cable between two nodes. A cable is a contact pair whose normal points the other way and which has no
friction, so that one solver serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.mechanics import _mesh_kernels as kernels
from sacroplan.mechanics.contact import ContactState
from sacroplan.mechanics.interfaces import Contact, Parted, part_between
from sacroplan.mechanics.ligaments import Fibres, Sacroiliac, kept
from sacroplan.mechanics.mesh import TetMesh, face_neighbours
from sacroplan.mechanics.meshing import CRUMB_MM3
from sacroplan.mechanics.model import FACETS
from sacroplan.metrics import Metric, Metrics

HIPS = ("hip_left", "hip_right", "symphysis")
"""Parts on the far side of the sacroiliac joints."""


@dataclass(frozen=True, eq=False)
class Joints:
    """A model whose sacroiliac joints press and whose ligaments pull.

    Attributes
    ----------
    parted : the parted mesh with contact pairs and cables.
    cables : (p,) which pairs are cables; their seat is the ligament and their pressure its tension, N.
    left : ligament to the share of its fibres that remain, 0 to 1.
    """

    parted: Parted
    cables: npt.NDArray[np.bool_]
    left: Mapping[str, float]

    @property
    def contact(self) -> Contact:
        """Pairs of joints and ligaments."""
        return self.parted.contact

    def figures(self, state: ContactState, case: str, rows: tuple[str, ...]) -> Metrics:
        """What every joint carries in compression and every ligament in tension, N, in one case."""
        contact = self.contact
        force = state.pressure_mpa * contact.area_mm2
        of_seat = np.bincount(contact.seat, weights=force, minlength=len(contact.seats))
        ligaments = set(contact.seat[self.cables].tolist())
        out: Metrics = {}
        for number, name in enumerate(contact.seats):
            words = name.replace("_", " ")
            if number in ligaments:
                out[f"{case}.ligament.{name}_n"] = Metric(
                    float(of_seat[number]), "N", f"Tension of the ligament, {words}",
                    (*rows, "SP-MECH-14", "SP-MECH-17"),
                )  # fmt: skip
            elif np.any(contact.seat == number):
                out[f"{case}.joint.{name}_n"] = Metric(
                    float(of_seat[number]), "N", f"Compression of the joint, {words}",
                    (*rows, "SP-MECH-19"),
                )  # fmt: skip
        return out

    def losses(self) -> Metrics:
        """Share of every ligament that remains."""
        return {
            f"ligament.{name}_left_percent": Metric(
                100.0 * share, "%", f"Fibres that remain, {name.replace('_', ' ')}", ("SP-MECH-18",)
            )
            for name, share in self.left.items()
        }


def _surface_nodes(mesh: TetMesh, bone: str) -> IntArray:
    faces, element = mesh.boundary
    return np.unique(faces[mesh.of(bone)[element]])


def _cables(mesh: TetMesh, fibres: Fibres) -> Contact:
    """Fibres between the nearest surface nodes of their bones, as pairs without faces."""
    from scipy.spatial import cKDTree

    bones = sorted({b for both in fibres.bones for b in both})
    nodes = {b: _surface_nodes(mesh, b) for b in bones if mesh.of(b).any()}
    trees = {b: cKDTree(mesh.nodes[n]) for b, n in nodes.items()}
    pairs = np.zeros((len(fibres.ligament), 2), dtype=np.int32)
    for number, both in enumerate(fibres.bones):
        at = fibres.ligament == number
        for end, bone in enumerate(both):
            if at.any():
                pairs[at, end] = nodes[bone][trees[bone].query(fibres.ends[at, end])[1]]
    way = mesh.nodes[pairs[:, 1]] - mesh.nodes[pairs[:, 0]]
    length = np.linalg.norm(way, axis=1, keepdims=True)
    none = np.zeros((0, 2), dtype=np.int32)
    count = len(pairs)
    return Contact(
        pairs, -way / length, np.ones(count), np.zeros(count),
        fibres.ligament.astype(np.int32), fibres.names, fibres.stiffness.copy(),
        np.zeros(count), none, none, np.zeros(0, dtype=np.int32),
    )  # fmt: skip


def together(first: Contact, second: Contact) -> Contact:
    """The pairs of both on one mesh, the first's first."""

    def both(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    shift = len(first.seats)
    return Contact(
        both("pairs"), both("normal"), both("area_mm2"), both("gap_mm"),
        np.concatenate([first.seat, second.seat + shift]).astype(np.int32),
        (*first.seats, *second.seats), both("penalty"), both("friction"), both("faces"),
        both("mates"),
        np.concatenate([first.face_seat, second.face_seat + shift]).astype(np.int32),
    )  # fmt: skip


def followed(contact: Contact, parted: Parted) -> Contact:
    """Pairs of a mesh on the mesh that a later parting made of it."""
    return replace(contact, pairs=parted.kept[contact.pairs])


def _renamed(parted: Parted | None, names: Callable[[str], str]) -> Parted | None:
    if parted is None:
        return None
    seats = tuple(names(s) for s in parted.contact.seats)
    return replace(parted, contact=replace(parted.contact, seats=seats))


def _then(first: Parted, second: Parted) -> Parted:
    """Two partings as one; the second is of the first's mesh."""
    whole = together(followed(first.contact, second), second.contact)
    return Parted(second.mesh, whole, second.kept[first.kept], first.origin[second.origin])


def _whole(mesh: TetMesh) -> Parted:
    """A mesh that is not parted anywhere."""
    every = np.arange(len(mesh.nodes), dtype=np.int32)
    pairs, one = np.zeros((0, 2), dtype=np.int32), np.zeros(0)
    none = Contact(
        pairs, np.zeros((0, 3)), one, one, pairs[:, 0], (), one, one, pairs, pairs, pairs[:, 0]
    )
    return Parted(mesh, none, every, every)


def _with_hold(mesh: TetMesh, loose: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(m,) loose elements, crumbs of either side given to the other side, on which they hang.

    A scrap of cartilage, or a crumb of bone, that is only joined to what lies across the joint would
    float once the joint is parted.
    """
    neighbours = face_neighbours(np.ascontiguousarray(mesh.elements[:, :4]))
    across = (neighbours >= 0) & (loose[neighbours] != loose[:, None])
    piece = kernels.components(np.where(across, -1, neighbours).astype(np.int32))
    volume = np.bincount(piece, weights=mesh.volumes)
    rigid = np.bincount(piece, weights=mesh.volumes * ~mesh.of_kind("joint"))
    crumb = (rigid < CRUMB_MM3) & (volume < volume.max())
    touches = np.zeros(len(volume), dtype=bool)
    touches[piece[across.any(axis=1)]] = True
    return np.asarray(loose ^ (crumb & touches)[piece])


def part_joints(
    mesh: TetMesh,
    young_mpa: FloatArray,
    sacroiliac: Sacroiliac,
    depth: Mapping[str, Callable[[FloatArray], FloatArray]],
) -> Joints | None:
    """The mesh with sacroiliac and facet joints parted and its ligaments; None where it has none.

    ``depth`` gives the signed distance (n,) mm of points (n, 3) to each bone that remains: fibres
    without bone under an end are lost. Raises :class:`MechanicsError` when a fibre has no length.
    """
    friction = evidence.value("SP-MECH-19", "joint")
    own = np.array([n in HIPS for n in mesh.names])[mesh.part]
    own = _with_hold(mesh, own)
    others = mesh.of_kind("bone", "joint") & ~own
    parted = _whole(mesh)
    # Behind the auricular faces nothing bears: the cleft is filled with ligaments.
    found = part_between(mesh, young_mpa, friction, own, others, sacroiliac.bears)
    found = _renamed(found, lambda s: s.replace("hip_", "sacroiliac_"))
    parted = parted if found is None else _then(parted, found)
    for facets in (n for n in mesh.names if n.startswith(FACETS)):
        now = parted.mesh
        upper = _with_hold(now, now.of(facets.split("_")[1]))
        found = part_between(now, young_mpa, friction, upper, now.of(facets) & ~upper)
        found = _renamed(found, lambda _, name=facets: name)  # type: ignore[misc]
        parted = parted if found is None else _then(parted, found)
    contact = parted.contact
    fibres = sacroiliac.fibres
    stays = kept(fibres, depth)
    total = np.bincount(fibres.ligament, minlength=len(fibres.names))
    left = np.bincount(fibres.ligament[stays], minlength=len(fibres.names)) / total
    cables = _cables(parted.mesh, fibres.where(stays))
    if not np.isfinite(cables.normal).all():
        raise MechanicsError(
            "A ligament fibre has no length: its two bones share a node. Use a finer mesh."
        )
    whole = together(contact, cables)
    if not len(whole.pairs):
        return None
    is_cable = np.arange(len(whole.pairs)) >= len(contact.pairs)
    return Joints(
        replace(parted, contact=whole), is_cable,
        dict(zip(fibres.names, left.tolist(), strict=True)),
    )  # fmt: skip
