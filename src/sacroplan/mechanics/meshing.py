"""One conforming tetrahedral mesh of all parts.

A Kuhn lattice in the pelvic frame is refined by bisection (Maubach 1995: conforming, few shapes)
where parts need it, lattice vertices near an interface are snapped onto it, elements take the part
of highest priority at their place, and interface vertices are then relaxed along and projected onto
the implicit surfaces. No vertex moves when an element around it would become worse than a guard, so
no element can invert and the method cannot fail on dirty surfaces; what it gives up instead is
fidelity, which is measured and reported. Parts share nodes: everything that touches is bonded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.mechanics import _mesh_kernels as kernels
from sacroplan.mechanics.mesh import GAUSS, TetMesh, face_neighbours, quadratic
from sacroplan.mechanics.solids import Solid, gradient
from sacroplan.progress import Progress, silent

Sizing = Callable[[FloatArray, FloatArray], FloatArray]
"""(points (n, 3), distances (parts, n)) to the wanted element size (n,) mm."""

SNAP_GUARD = 0.25
"""Worst mean ratio that snapping a lattice vertex may leave (lattice shapes have 0.55 to 0.84)."""

PROJECT_GUARD = 0.2
"""Worst mean ratio that projecting onto a surface may leave."""

GOOD = 0.4
"""Elements better than this are not worked on further."""

ROUNDS = 4
"""Rounds of projection and relaxation; the residual hardly changes after three."""

OUTSIDE = 32767
"""Part number of the outside in the sets around a vertex."""

CRUMB_MM3 = 200.0
"""Detached pieces below this volume are dropped (and reported); larger ones are looked at."""

TAIL_SHARE = 0.2
"""A detached piece of bone below this share of its bone (a coccyx) is dropped and reported too."""


@dataclass(frozen=True, slots=True)
class MeshReport:
    """What the mesher did.

    Attributes
    ----------
    quality_min, quality_mean : mean-ratio quality.
    surface_error_p95_mm : 95th percentile distance of interface vertices from their surface.
    dropped_mm3 : volume of detached crumbs that were removed.
    size_scale : factor on all wanted sizes to stay within the unknown limit.
    """

    quality_min: float
    quality_mean: float
    surface_error_p95_mm: float
    dropped_mm3: float
    size_scale: float


def kuhn_lattice(
    low: FloatArray, shape: tuple[int, int, int], size: float, keep: npt.NDArray[np.bool_]
) -> tuple[FloatArray, IntArray]:
    """Kuhn tetrahedra (six per cube) of the kept cubes (shape), ready for Maubach bisection."""
    _ni, nj, nk = shape
    corner = np.argwhere(keep)
    strides = np.array([(nj + 1) * (nk + 1), nk + 1, 1], dtype=np.int64)
    paths = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    base = corner @ strides
    tets = np.empty((len(base), 6, 4), dtype=np.int64)
    for n, path in enumerate(paths):
        tets[:, n, 0] = base
        for step, axis in enumerate(path):
            tets[:, n, step + 1] = tets[:, n, step] + strides[axis]
    used, inverse = np.unique(tets, return_inverse=True)
    index = np.stack([used // strides[0], used // strides[1] % (nj + 1), used % (nk + 1)], axis=1)
    return low + index * size, inverse.reshape(-1, 4).astype(np.int32)


def _distances(solids: tuple[Solid, ...], points: FloatArray) -> FloatArray:
    return np.stack([s.distance(points) for s in solids])


def _refined(
    solids: tuple[Solid, ...], bounds: FloatArray, coarse_mm: float, sizing: Sizing, limit: int
) -> tuple[FloatArray, IntArray, FloatArray] | None:
    """Background (points, tets, size per tet); None past ``limit`` elements within parts."""
    # An odd fraction of the cell keeps lattice planes off coordinates such as 0 and 5 mm.
    low = bounds[0] - (1.0 + 0.381966) * coarse_mm
    shape = tuple(int(n) for n in np.ceil((bounds[1] - low) / coarse_mm).astype(int) + 1)
    centres = low + (np.argwhere(np.ones(shape, dtype=bool)) + 0.5) * coarse_mm
    reach = 0.5 * np.sqrt(3.0) * coarse_mm
    keep = (_distances(solids, centres).min(axis=0) < reach * 1.01).reshape(shape)
    points, tets = kuhn_lattice(low, shape, coarse_mm, keep)  # type: ignore[arg-type]

    room = max(4 * limit, 4 * len(tets))
    t = np.empty((room, 4), dtype=np.int32)
    tag = np.full(room, 3, dtype=np.int8)
    level = np.zeros(room, dtype=np.int16)
    p = np.empty((room, 3))
    slots = 1 << int(np.ceil(np.log2(2 * room)))
    keys = np.full(slots, -1, dtype=np.int64)
    mids = np.empty(slots, dtype=np.int32)
    t[: len(tets)], p[: len(points)] = tets, points
    counts = np.array([len(tets), len(points)], dtype=np.int64)
    touched = np.zeros(room, dtype=np.int16) - 1
    while True:
        m = int(counts[0])
        fresh = np.flatnonzero(touched[:m] != level[:m])
        centre = p[t[fresh]].mean(axis=1)
        size = coarse_mm * 2.0 ** (-level[fresh] / 3.0)
        d = _distances(solids, centre)
        marked = np.zeros(m, dtype=np.bool_)
        # An element further from every part than its own size holds nothing of them.
        marked[fresh] = (d.min(axis=0) < size) & (size > sizing(centre, d))
        touched[fresh] = level[fresh]
        if not marked.any():
            break
        if not kernels.refine(marked, t, tag, level, counts, p, keys, mids):
            return None
    m, n = int(counts[0]), int(counts[1])
    return p[:n].copy(), t[:m].copy(), coarse_mm * 2.0 ** (-level[:m] / 3.0)


def _compact(points: FloatArray, tets: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
    used, inverse = np.unique(tets, return_inverse=True)
    return points[used], inverse.reshape(-1, 4).astype(np.int32), used.astype(np.int32)


def _vertex_size(points: FloatArray, tets: IntArray, size: FloatArray) -> FloatArray:
    out = np.full(len(points), np.inf)
    for c in range(4):
        np.minimum.at(out, tets[:, c], size)
    return out


def _winner(d: FloatArray) -> npt.NDArray[np.int16]:
    """First part (highest priority) that holds each point, OUTSIDE where none does."""
    inside = d < 0
    return np.where(inside.any(axis=0), inside.argmax(axis=0), OUTSIDE).astype(np.int16)


def _snap(
    solids: tuple[Solid, ...], points: FloatArray, tets: IntArray, size: FloatArray
) -> FloatArray:
    """Lattice vertices near an interface moved onto it."""
    d = _distances(solids, points)
    label = _winner(d)
    edge = np.concatenate([tets[:, [a, b]] for a in range(4) for b in range(a + 1, 4)])
    edge = np.unique(np.sort(edge, axis=1), axis=0)
    a, b = edge[label[edge[:, 0]] != label[edge[:, 1]]].T
    part = np.minimum(label[a], label[b])
    da, db = d[part, a], d[part, b]
    share = np.abs(da) / np.maximum(np.abs(da) + np.abs(db), 1e-12)
    vertex = np.concatenate([a[share <= 0.5], b[share > 0.5]])
    parts = np.concatenate([part[share <= 0.5], part[share > 0.5]])
    gap = np.abs(np.concatenate([da[share <= 0.5], db[share > 0.5]]))
    # Every vertex goes to its nearest interface only; ties go to the part of higher priority.
    order = np.lexsort((parts, gap, vertex))
    vertex, parts, gap = vertex[order], parts[order], gap[order]
    first = np.concatenate([[True], vertex[1:] != vertex[:-1]])
    vertex, parts, gap = vertex[first], parts[first], gap[first]
    near = gap < 0.6 * size[vertex]
    vertex, parts, gap = vertex[near], parts[near], gap[near]
    target = points.copy()
    for number in np.unique(parts):
        v = vertex[parts == number]
        target[v] = _on_surface(solids[number], points[v], size[v])
    start, items = kernels.incidence(tets, len(points))
    moved = points.copy()
    order = np.lexsort((vertex, gap / size[vertex]))
    kernels.snap(
        vertex[order].astype(np.int32), target, label, gap, moved, tets, start, items, SNAP_GUARD
    )
    return moved


def _on_surface(solid: Solid, points: FloatArray, size: FloatArray) -> FloatArray:
    """Nearest point of the part's surface, by two damped Newton steps of at most one size."""
    out = points
    for _ in range(2):
        move = -solid.distance(out)[:, None] * gradient(solid.distance, out, 0.35)
        length = np.linalg.norm(move, axis=1)
        out = out + move * np.minimum(1.0, size / np.maximum(length, 1e-12))[:, None]
    return out


def _labelled(
    solids: tuple[Solid, ...], points: FloatArray, tets: IntArray, bond_mm: float
) -> npt.NDArray[np.int16]:
    """Part of every tetrahedron by vote of its centroid and four inner points."""
    where = np.concatenate([np.full((1, 4), 0.25), GAUSS])
    votes = np.zeros((len(solids) + 1, len(tets)), dtype=np.int8)
    last = len(solids)
    centre: npt.NDArray[np.int16] | None = None
    metal = np.array([s.kind in ("core", "porous") for s in solids])
    bone = np.array([s.kind == "bone" for s in solids])
    for weights in where:
        d = _distances(solids, np.einsum("c,mcd->md", weights, points[tets]))
        label = _winner(d)
        if metal.any() and bone.any():
            # A slit between bone and implant that is thinner than the bond tolerance is closed.
            near_metal = np.where(metal[:, None], d, np.inf)
            slit = (label == OUTSIDE) & (
                near_metal.min(axis=0) + np.where(bone[:, None], d, np.inf).min(axis=0) < bond_mm
            )
            label[slit] = near_metal.argmin(axis=0)[slit]
        row = np.where(label == OUTSIDE, last, label)
        np.add.at(votes, (row, np.arange(len(tets))), np.int8(1))
        if centre is None:
            centre = label
    top = votes.argmax(axis=0)
    # The centroid decides where no part has a clear majority.
    clear = votes.max(axis=0) >= 3
    assert centre is not None
    return np.where(clear, np.where(top == last, OUTSIDE, top), centre).astype(np.int16)


def _without_spikes(
    label: npt.NDArray[np.int16], neighbours: IntArray, sweeps: int = 2
) -> npt.NDArray[np.int16]:
    """Elements with three or four face neighbours of one other part join that part."""
    for _ in range(sweeps):
        around = np.where(neighbours >= 0, label[neighbours], OUTSIDE)
        around.sort(axis=1)
        # Sorted, three equal values always include positions 1 and 2.
        middle = around[:, 1]
        many = (around[:, 1] == around[:, 2]) & (
            (around[:, 0] == middle) | (around[:, 3] == middle)
        )
        label = np.where(many & (middle != label), middle, label).astype(np.int16)
    return label


def _apart(
    solids: tuple[Solid, ...],
    raw: dict[int, Solid],
    points: FloatArray,
    tets: IntArray,
    label: npt.NDArray[np.int16],
) -> npt.NDArray[np.int16]:
    """No vertex may be shared by two bones: what lies between them becomes joint or nothing."""
    bones = [n for n, s in enumerate(solids) if s.kind == "bone"]
    if len(bones) < 2:
        return label
    is_bone = np.isin(label, bones)
    sets = np.full((len(points), 2), -1, dtype=np.int16)
    for n in bones:
        v = np.unique(tets[label == n])
        second = sets[v, 0] >= 0
        sets[v[~second], 0] = n
        sets[v[second], 1] = n
    shared = np.flatnonzero(sets[:, 1] >= 0)
    if not len(shared):
        return label
    depth = np.stack([raw[n].distance(points[shared]) for n in bones])
    owner = np.full(len(points), -1, dtype=np.int16)
    owner[shared] = np.array(bones)[depth.argmin(axis=0)]
    wrong = is_bone & ((owner[tets] >= 0) & (owner[tets] != label[:, None])).any(axis=1)
    joints = [n for n, s in enumerate(solids) if s.kind == "joint"]
    out = label.copy()
    out[wrong] = OUTSIDE
    if joints:
        centre = points[tets[wrong]].mean(axis=1)
        d = np.stack([solids[n].distance(centre) for n in joints])
        out[wrong] = np.where(d.min(axis=0) < 0, np.array(joints)[d.argmin(axis=0)], OUTSIDE)
    return out


def _relaxed(
    solids: tuple[Solid, ...], points: FloatArray, tets: IntArray, label: IntArray, size: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Vertices relaxed and projected; returns (points, distance of interface vertices)."""
    n = len(points)
    neighbours = face_neighbours(tets)
    outer = np.zeros(n, dtype=np.bool_)
    for c in range(4):
        others = [k for k in range(4) if k != c]
        outer[np.unique(tets[neighbours[:, c] < 0][:, others])] = True
    sets = kernels.vertex_parts(tets, label, outer, n)
    interface = np.flatnonzero(sets[:, 1] >= 0).astype(np.int32)
    inner = np.flatnonzero(sets[:, 1] < 0).astype(np.int32)
    start, items = kernels.incidence(tets, n)
    code = sets.astype(np.int64) @ np.array([1, 40009, 40009**2 % 2**40, 7919])
    mean = _class_mean(tets, code, n)
    x = points.copy()
    # The first functions of a vertex' set are its surfaces: two parts one, three parts two, ...
    rank = [(sets[:, k] >= 0) & (sets[:, k + 1] >= 0) for k in range(3)]
    for turn in range(ROUNDS):
        target = x.copy()
        moved = mean(x)
        blend = 0.5 if turn < ROUNDS - 1 else 0.0
        target[interface] += blend * (moved[interface] - x[interface])
        for k in (2, 1, 0, 1, 0):
            for number in np.unique(sets[rank[k], k]):
                v = np.flatnonzero(rank[k] & (sets[:, k] == number))
                target[v] = _on_surface(solids[int(number)], target[v], 0.7 * size[v])
        step = target - x
        length = np.linalg.norm(step, axis=1)
        target = x + step * np.minimum(1.0, size / np.maximum(length, 1e-12))[:, None]
        kernels.project(interface, target, x, tets, start, items, PROJECT_GUARD)
        kernels.relax(inner, x, tets, start, items, 0.7)
    normal = np.zeros_like(x)
    for number in np.unique(sets[interface, 0]):
        v = interface[sets[interface, 0] == number]
        normal[v] = gradient(solids[int(number)].distance, x[v], 0.35)
    q = kernels.qualities(x, tets)
    poor = np.unique(tets[q < GOOD]).astype(np.int32)
    # Vertices on edges between surfaces stay where they are.
    free = poor[sets[poor, 2] < 0]
    kernels.improve(free, normal, size, x, tets, start, items, GOOD, 3)
    error = np.zeros(len(interface))
    for number in np.unique(sets[interface, 0]):
        chosen = sets[interface, 0] == number
        error[chosen] = np.abs(solids[int(number)].distance(x[interface[chosen]]))
    return x, error


def _class_mean(
    tets: IntArray, code: npt.NDArray[np.int64], n: int
) -> Callable[[FloatArray], FloatArray]:
    """Mean of the edge neighbours that lie on the same interface (a vertex alone stays)."""
    from scipy.sparse import coo_matrix, diags

    pairs = np.concatenate([tets[:, [a, b]] for a in range(4) for b in range(4) if a != b])
    same = code[pairs[:, 0]] == code[pairs[:, 1]]
    i, j = pairs[same].T
    graph = coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
    graph.data[:] = 1.0
    degree = np.asarray(graph.sum(axis=1)).ravel()
    average = diags(1.0 / np.maximum(degree, 1.0)) @ graph

    def mean(x: FloatArray) -> FloatArray:
        return np.where(degree[:, None] > 1, average @ x, x)

    return mean


def _connected(
    solids: tuple[Solid, ...], points: FloatArray, tets: IntArray, label: npt.NDArray[np.int16]
) -> tuple[npt.NDArray[np.bool_], float]:
    """(kept elements, dropped mm3): the largest face-connected body; a large second one raises."""
    piece = kernels.components(face_neighbours(tets))
    p = points[tets]
    volume = np.abs(np.linalg.det(p[:, 1:] - p[:, :1])) / 6.0
    of_piece = np.bincount(piece, weights=volume)
    main = int(of_piece.argmax())
    of_part = np.bincount(label, weights=volume, minlength=len(solids))
    for number in np.flatnonzero(of_piece > CRUMB_MM3):
        if number == main:
            continue
        inside = piece == number
        parts = [int(n) for n in np.unique(label[inside])]
        shares = [volume[inside & (label == n)].sum() / of_part[n] for n in parts]
        soft = all(solids[n].kind in ("bone", "joint") for n in parts)
        if soft and max(shares) < TAIL_SHARE:
            continue
        named = " and ".join(sorted(solids[n].name for n in parts))
        raise MechanicsError(
            f"{named}: a body of {of_piece[number] / 1e3:.1f} cm3 is not connected to the rest of "
            "the model, so it cannot carry load. Close the gap or widen the joint."
        )
    for n, solid in enumerate(solids):
        inside = label == n
        if inside.any() and not (inside & (piece == main)).any():
            raise MechanicsError(
                f"{solid.name} floats: none of its {volume[inside].sum():.0f} mm3 is connected to "
                "the rest of the model. It must touch bone or another part."
            )
    keep = piece == main
    return keep, float(volume[~keep].sum())


def build_mesh(
    solids: tuple[Solid, ...],
    raw_bones: dict[str, Solid],
    bounds: FloatArray,
    coarse_mm: float,
    sizing: Sizing,
    max_elements: int,
    bond_mm: float,
    progress: Progress = silent,
) -> tuple[TetMesh, MeshReport]:
    """Mesh of ``solids`` (highest priority first) in their common local frame.

    ``raw_bones`` are the bones before joint gaps were carved, ``bounds`` (2, 3) encloses all parts.
    Raises :class:`MechanicsError` on a part that vanishes or floats.
    """
    scale = 1.0
    for _ in range(8):

        def scaled(x: FloatArray, d: FloatArray, factor: float = scale) -> FloatArray:
            return sizing(x, d) * factor

        background = _refined(solids, bounds, coarse_mm, scaled, 2 * max_elements)
        count = 0
        if background is not None:
            points, tets, size = background
            d = _distances(solids, points[tets].mean(axis=1)).min(axis=0)
            count = int((d < 0).sum())
            if count <= max_elements:
                break
        scale *= 1.6 if not count else max(1.02, (count / max_elements) ** (1 / 3) * 1.01)
    else:
        raise MechanicsError(
            f"The model cannot be meshed with {max_elements} elements: coarsen its sizes."
        )
    progress(0.4, "lattice refined")
    keep = d < size
    points, tets, _ = _compact(points, tets[keep])
    size = size[keep]
    p = points[tets]
    flip = np.linalg.det(p[:, 1:] - p[:, :1]) < 0
    tets[flip] = tets[flip][:, [0, 1, 3, 2]]
    del p
    of_vertex = _vertex_size(points, tets, size)
    points = _snap(solids, points, tets, of_vertex)
    progress(0.55, "interfaces snapped")
    label = _labelled(solids, points, tets, bond_mm)
    label = _without_spikes(label, face_neighbours(tets))
    raw = {n: raw_bones.get(s.name, s) for n, s in enumerate(solids) if s.kind == "bone"}
    label = _apart(solids, raw, points, tets, label)
    solid = label != OUTSIDE
    if not solid.any():
        raise MechanicsError("The model is empty: no element lies inside any part.")
    tets, label = tets[solid], label[solid]
    keep, dropped = _connected(solids, points, tets, label)
    label = label[keep]
    points, tets, used = _compact(points, tets[keep])
    progress(0.7, "elements labelled")
    points, error = _relaxed(solids, points, tets, label, of_vertex[used])
    for n, part in enumerate(solids):
        if part.kind != "joint" and not np.any(label == n):
            raise MechanicsError(
                f"{part.name} has no element: it is covered by other parts or thinner than the mesh."
            )
    mesh = quadratic(
        points, tets, label, tuple(s.name for s in solids), tuple(s.kind for s in solids)
    )
    q = mesh.quality
    report = MeshReport(
        float(q.min()), float(q.mean()), float(np.percentile(error, 95)), dropped, scale
    )
    progress(1.0, f"{len(tets)} elements")
    return mesh, report
