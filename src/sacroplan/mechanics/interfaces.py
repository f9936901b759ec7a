"""Where implant meets bone: the conforming mesh is parted there, so that contact can act.

Bone and implant share nodes in the bonded mesh. Here every node between them gets a twin on the
implant's side. Nodes that a screw or a rod holds stay whole: a screw clamps both. Contact acts on the
mid-edge nodes of the interface faces, which carry a third of each face: that rule integrates a
quadratic gap's energy consistently and passes a uniform pressure exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.mechanics.mesh import EDGES, TetMesh, face_neighbours

LOOSE_KINDS = ("core", "porous")
"""Parts that stand on bone without holding it: they may slide and lift."""

HOLDING_KINDS = ("screw", "rod")
"""Parts that hold whatever they touch."""

OPPOSITE = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""Corners of the face opposite to each corner."""

# Mid-edge node of each corner pair.
_MIDDLE = np.full((4, 4), -1)
_MIDDLE[EDGES[:, 0], EDGES[:, 1]] = np.arange(4, 10)
_MIDDLE[EDGES[:, 1], EDGES[:, 0]] = np.arange(4, 10)
OPPOSITE_MIDDLES = np.stack(
    [_MIDDLE[OPPOSITE[:, 0], OPPOSITE[:, 1]], _MIDDLE[OPPOSITE[:, 1], OPPOSITE[:, 2]],
     _MIDDLE[OPPOSITE[:, 2], OPPOSITE[:, 0]]], axis=1,
)  # fmt: skip
"""Mid-edge nodes of the face opposite to each corner."""


@dataclass(frozen=True, eq=False)
class Contact:
    """Node pairs that may press and slide, but not pull. Small sliding: normals stay.

    Attributes
    ----------
    pairs : (p, 2) nodes: on the bone, on the implant.
    normal : (p, 3) unit, from bone to implant.
    area_mm2 : (p,) share of the interface.
    gap_mm : (p,) initial gap along the normal, zero in a conforming mesh.
    seat : (p,) index into ``seats``.
    seats : names of the interfaces, by the implant's part.
    penalty : (p,) MPa/mm, pressure per penetration and shear per slip while sticking.
    friction : (p,) Coulomb coefficient.
    faces : (k, 2) element and the corner opposite to the face, on the bone's side.
    mates : (k, 2) the same on the implant's side.
    face_seat : (k,) index into ``seats``.
    """

    pairs: IntArray
    normal: FloatArray
    area_mm2: FloatArray
    gap_mm: FloatArray
    seat: IntArray
    seats: tuple[str, ...]
    penalty: FloatArray
    friction: FloatArray
    faces: IntArray
    mates: IntArray
    face_seat: IntArray


@dataclass(frozen=True, eq=False)
class Parted:
    """A parted mesh: element numbers are the bonded mesh's, nodes have twins on the implant's side.

    Attributes
    ----------
    mesh : the parted mesh.
    contact : its pairs.
    kept : (n,) new numbers of the bonded mesh's nodes (those on the bone's side).
    origin : (k,) number in the bonded mesh of every node.
    """

    mesh: TetMesh
    contact: Contact
    kept: IntArray
    origin: IntArray


def penalty_of(young_mpa: FloatArray, size_mm: FloatArray) -> FloatArray:
    """(p,) MPa/mm: so many times the stiffness of the softer element that lies under the pair."""
    return np.asarray(evidence.value("SP-MECH-12", "factor") * young_mpa / size_mm)


def part_interface(mesh: TetMesh, young_mpa: FloatArray, friction: float) -> Parted | None:
    """The mesh parted between bone and implant, and its contact pairs; None where they do not meet.

    ``young_mpa`` (m,) element moduli, of which each seat's mean on the bone's side sets its penalty.
    Element numbers are kept; new nodes are added, corners first. Raises :class:`MechanicsError` when
    screws leave no node to slide.
    """
    loose = mesh.of_kind(*LOOSE_KINDS)
    soft = ~loose & ~mesh.of_kind(*HOLDING_KINDS)
    return part_between(mesh, young_mpa, friction, loose, soft)


def part_between(
    mesh: TetMesh,
    young_mpa: FloatArray,
    friction: float,
    loose: npt.NDArray[np.bool_],
    soft: npt.NDArray[np.bool_],
    bears: Callable[[FloatArray], npt.NDArray[np.bool_]] | None = None,
) -> Parted | None:
    """The mesh parted between elements ``loose`` and ``soft`` (m,); None where they do not meet.

    Twins stand on the loose side; the mean modulus of the soft side under each seat sets its penalty;
    seats take the names of the loose parts. Elements in neither hold the nodes they touch together.
    Where ``bears`` (points (n, 3) to (n,)) says no, the parts are free of each other.
    """
    corners = np.ascontiguousarray(mesh.elements[:, :4])
    neighbours = face_neighbours(corners)
    holding = ~loose & ~soft
    element, corner = np.nonzero((neighbours >= 0) & loose[:, None] & soft[neighbours])
    if not len(element):
        return None
    other = neighbours[element, corner]
    back = np.argmax(neighbours[other] == element[:, None], axis=1)

    n = len(mesh.nodes)

    def touched(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        out = np.zeros(n, dtype=bool)
        out[mesh.elements[chosen]] = True
        return out

    parted = touched(loose) & touched(soft) & ~touched(holding)
    # A mid-edge node between two whole corners stays whole: an edge has one middle.
    ends = mesh.elements[:, EDGES]
    whole = ~parted[ends].any(axis=2)
    parted[np.unique(mesh.elements[:, 4:][whole])] = False
    index = np.flatnonzero(parted)
    if not len(index):
        names = " and ".join(mesh.names[int(k)] for k in np.unique(mesh.part[element]))
        raise MechanicsError(
            f"Seats of {names} are covered by screws: no node is left where they could slide."
        )
    low, high = index[index < mesh.corners], index[index >= mesh.corners]
    # Corner twins stand behind the corners, mid-edge twins behind everything.
    shifted = np.arange(n) + np.where(np.arange(n) >= mesh.corners, len(low), 0)
    twin = shifted.copy()
    twin[low] = mesh.corners + np.arange(len(low))
    twin[high] = n + len(low) + np.arange(len(high))
    nodes = np.concatenate(
        [mesh.nodes[: mesh.corners], mesh.nodes[low], mesh.nodes[mesh.corners :], mesh.nodes[high]]
    )
    elements = np.where(loose[:, None], twin[mesh.elements], shifted[mesh.elements])
    apart = TetMesh(
        nodes, elements.astype(np.int32), mesh.part, mesh.names, mesh.kinds,
        mesh.corners + len(low),
    )  # fmt: skip

    if bears is not None:
        centre = mesh.nodes[corners[element[:, None], OPPOSITE[corner]]].mean(axis=1)
        chosen = np.flatnonzero(bears(centre))
        element, corner = element[chosen], corner[chosen]
        other, back = other[chosen], back[chosen]
    seats, seat = np.unique(mesh.part[element], return_inverse=True)
    middles = mesh.elements[element[:, None], OPPOSITE_MIDDLES[corner]]
    p = mesh.nodes[corners[element[:, None], OPPOSITE[corner]]]
    cross = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    # The face normal that points to the implant's inner corner.
    inner = mesh.nodes[corners[element, corner]] - p[:, 0]
    cross *= np.sign(np.einsum("ij,ij->i", cross, inner))[:, None]
    area = 0.5 * np.linalg.norm(cross, axis=1)
    size = np.cbrt(6.0 * mesh.volumes[other])
    modulus = np.array(
        [
            np.average(young_mpa[other[seat == s]], weights=area[seat == s])
            for s in range(len(seats))
        ]
    )
    width = np.array(
        [np.average(size[seat == s], weights=area[seat == s]) for s in range(len(seats))]
    )
    nodal_area, nodal_normal = np.zeros(n), np.zeros((n, 3))
    np.add.at(nodal_area, middles, (area / 3.0)[:, None])
    np.add.at(nodal_normal, middles, (cross / 6.0)[:, None])
    nodal_seat = np.zeros(n, dtype=np.int32)
    nodal_seat[middles] = seat[:, None]
    at = np.flatnonzero((nodal_area > 0) & parted)
    if not len(at) and len(element):
        raise MechanicsError("The parts touch in single elements only, so there is no contact.")
    length = np.linalg.norm(nodal_normal[at], axis=1, keepdims=True)
    # Faces that fold back on each other leave no normal; such a node presses along nothing.
    normal = np.divide(nodal_normal[at], length, out=np.zeros((len(at), 3)), where=length > 1e-9)
    which = nodal_seat[at]
    origin = np.concatenate([np.arange(mesh.corners), low, np.arange(mesh.corners, n), high])
    contact = Contact(
        np.stack([shifted[at], twin[at]], axis=1).astype(np.int32),
        normal,
        nodal_area[at],
        np.zeros(len(at)),
        which,
        tuple(mesh.names[int(s)] for s in seats),
        penalty_of(modulus, width)[which],
        np.full(len(at), friction),
        np.stack([other, back], axis=1).astype(np.int32),
        np.stack([element, corner], axis=1).astype(np.int32),
        seat.astype(np.int32),
    )
    return Parted(apart, contact, shifted.astype(np.int32), origin.astype(np.int32))


def require_held(mesh: TetMesh) -> None:
    """Every implant part must hang on something besides its seats; sharing a node is enough.

    Raises :class:`MechanicsError` naming the parts of a parted mesh that friction alone would hold.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    m, n = len(mesh.elements), len(mesh.nodes)
    rows = np.repeat(np.arange(m), 10)
    graph = coo_matrix(
        (np.ones(10 * m, dtype=np.int8), (rows, mesh.elements.ravel() + m)), shape=(m + n, m + n)
    )
    piece = connected_components(graph, directed=False)[1][:m]
    main = int(np.bincount(piece).argmax())
    for number in np.unique(piece):
        if number == main:
            continue
        names = sorted({mesh.names[int(k)] for k in np.unique(mesh.part[piece == number])})
        raise MechanicsError(
            f"{' and '.join(names)} would be held by friction alone: no screw or rod ties it to the "
            "bone, so the state before ingrowth cannot be computed. Add a screw."
        )


def on_nodes(mesh: TetMesh, contact: Contact, values: FloatArray) -> FloatArray:
    """(n,) values (p,) of the pairs on both sides of a parted mesh, -1 off the seats.

    Corners take the mean of the mid-edge nodes beside them on their seat.
    """
    n = len(mesh.nodes)
    total, count = np.zeros(n), np.zeros(n)
    known = np.zeros(n, dtype=bool)
    known[contact.pairs.ravel()] = True
    out = np.full(n, -1.0)
    out[contact.pairs] = values[:, None]
    for element, corner in (contact.faces.T, contact.mates.T):
        corners = mesh.elements[element[:, None], OPPOSITE[corner]]
        middles = mesh.elements[element[:, None], OPPOSITE_MIDDLES[corner]]
        # Middle k lies between corners k and k + 1 of the face.
        for c in range(3):
            for m in (c, (c + 2) % 3):
                here = known[middles[:, m]]
                np.add.at(total, corners[here, c], out[middles[here, m]])
                np.add.at(count, corners[here, c], 1.0)
    at = (count > 0) & ~known
    out[at] = total[at] / count[at]
    return out
