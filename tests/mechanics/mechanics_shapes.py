"""Small meshes and a toy pelvis of boxes."""

import numpy as np

from sacroplan.geometry import booleans
from sacroplan.geometry.frames import AxisFrame, Rigid
from sacroplan.geometry.primitives import box
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.imaging.calibration import Calibration
from sacroplan.mechanics.mesh import quadratic
from sacroplan.mechanics.meshing import kuhn_lattice
from sacroplan.mechanics.study import (
    MechanicsInput,
    MechanicsOptions,
    RodSolid,
    ScrewSolid,
)


def block_mesh(n, size, jitter=0.0):
    """Kuhn mesh of a block of ``n`` (3,) cells over ``size`` (3,) mm, inner vertices jittered."""
    n = np.asarray(n)
    points, tets = kuhn_lattice(np.zeros(3), tuple(int(k) for k in n), 1.0, np.ones(n, dtype=bool))
    inner = np.all((points > 0) & (points < n), axis=1)
    rng = np.random.default_rng(2)
    points[inner] += jitter * rng.uniform(-0.5, 0.5, size=(int(inner.sum()), 3))
    points = points * (np.asarray(size, dtype=float) / n)
    p = points[tets]
    flip = np.linalg.det(p[:, 1:] - p[:, :1]) < 0
    tets[flip] = tets[flip][:, [0, 1, 3, 2]]
    return quadratic(points, tets, np.zeros(len(tets), dtype=np.int16), ("solid",), ("bone",))


def cuboid(low, high) -> Surface:
    return box(AxisFrame("world", np.zeros(3), np.eye(3)), low, high)


def _tilted():
    """Pelvic axes a few degrees off LPS, so that no box face is parallel to the mesher's lattice."""
    a, b = np.deg2rad(4.0), np.deg2rad(-3.0)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    return about_x @ about_y @ np.array([[0, 0, -1.0], [-1, 0, 0], [0, 1, 0]])


TOY_AXES = _tilted()


def toy_case(move: Rigid | None = None, **changes) -> MechanicsInput:
    """Five box bones in LPS, a block implant instead of the sacrum, one screw a side and rods."""
    bones = {
        "L4": cuboid([-18, -15, 38], [18, 17, 60]),
        "L5": cuboid([-18, -15, 6], [18, 17, 30]),
        "sacrum": cuboid([-28, -14, -40], [28, 16, 0]),
        "hip_left": cuboid([30, -20, -80], [48, 20, 10]),
        "hip_right": cuboid([-48, -20, -80], [-30, 20, 10]),
    }
    remnants = {
        "hip_left": cuboid([36, -20, -80], [48, 20, 10]),
        "hip_right": cuboid([-48, -20, -80], [-36, 20, 10]),
    }
    core = booleans.union(
        cuboid([-33, -10, -36], [33, 12, -4]), cuboid([-16, -10, -5], [16, 12, 6])
    )
    porous = {
        "left": cuboid([33, -10, -36], [36, 12, -4]),
        "right": cuboid([-36, -10, -36], [-33, 12, -4]),
    }
    screws, rods = [], []
    for side, s in (("left", 1.0), ("right", -1.0)):
        screws.append(
            ScrewSolid(
                f"iliac_{side}", np.array([s * 28, 4, -20]), np.array([s * 46, -2, -22]), 8.0
            )
        )
        for level, z in (("L4", 49.0), ("L5", 18.0)):
            screws.append(
                ScrewSolid(
                    f"{level}_{side}", np.array([s * 12, 24, z]), np.array([s * 8, -8, z]), 6.5
                )
            )
        rods.append(
            RodSolid(
                f"rod_{side}", np.array([[s * 12, 24, 54], [s * 12, 24, 0], [s * 12, 8, -12]]), 6.0
            )
        )
    rng = np.random.default_rng(0)
    low = np.array([-62.0, -34, -92])
    shape = (42, 24, 54)
    grid = VolumeGeometry(shape, np.full(3, 3.0), low)
    z = np.arange(shape[2]) * 3.0
    hu = np.broadcast_to(150.0 + z, shape) + rng.normal(size=shape) * 5.0
    values = {
        "volume": Volume(grid, hu.astype(np.float32)),
        "bones": bones,
        "remnants": remnants,
        "implant_core": core,
        "porous": porous,
        "screws": tuple(screws),
        "rods": tuple(rods),
        "hip_centres": {},
        "axes": AxisFrame("pelvis", np.array([0.0, 0, -40]), TOY_AXES),
        "l4_superior": (np.array([0.0, 1.0, 60.0]), np.array([0.0, -0.1, 1.0])),
        "body_mass_kg": 70.0,
        "calibration": Calibration(0.8, 0.0, "assumed", (-1000.0, -90.0, 50.0), ()),
        "options": MechanicsOptions(max_unknowns=60_000, bone_element_mm=9.0, metal_element_mm=4.0),
    }
    values.update(changes)
    if move is not None:
        values["volume"] = Volume(grid.transformed(move), values["volume"].data)
        for key in ("bones", "remnants", "porous"):
            values[key] = {n: s.transformed(move) for n, s in values[key].items()}
        if values["implant_core"] is not None:
            values["implant_core"] = values["implant_core"].transformed(move)
        values["screws"] = tuple(
            ScrewSolid(s.name, move.points(s.entry), move.points(s.tip), s.diameter_mm)
            for s in values["screws"]
        )
        values["rods"] = tuple(
            RodSolid(r.name, move.points(r.polyline), r.diameter_mm) for r in values["rods"]
        )
        a = values["axes"]
        values["axes"] = AxisFrame(a.name, move.points(a.origin), move.directions(a.axes.T).T)
        p, n = values["l4_superior"]
        values["l4_superior"] = (move.points(p), move.directions(n))
    return MechanicsInput(**values)


def mapped(mesh, function):
    """A mesh with corners moved by ``function``; edges stay straight, the orientation must too."""
    from sacroplan.mechanics.mesh import EDGES

    nodes = np.empty_like(mesh.nodes)
    nodes[: mesh.corners] = function(mesh.nodes[: mesh.corners])
    ends = mesh.elements[:, EDGES].reshape(-1, 2)
    nodes[mesh.elements[:, 4:].ravel()] = 0.5 * (nodes[ends[:, 0]] + nodes[ends[:, 1]])
    out = mesh.with_nodes(nodes)
    assert out.volumes.min() > 0
    return out


def octant_shell(n, inner, outer):
    """An eighth of a thick sphere, ``n`` cells through its wall: a cube's shell blown up."""
    whole, cut = 2 * n, n
    cells = np.indices((whole,) * 3).max(axis=0)
    points, tets = kuhn_lattice(np.zeros(3), (whole,) * 3, 1.0, cells >= cut)
    p = points[tets]
    flip = np.linalg.det(p[:, 1:] - p[:, :1]) < 0
    tets[flip] = tets[flip][:, [0, 1, 3, 2]]
    mesh = quadratic(points, tets, np.zeros(len(tets), dtype=np.int16), ("shell",), ("core",))

    def blow(x):
        layer = x.max(axis=1)
        radius = inner + (outer - inner) * (layer - cut) / (whole - cut)
        return x / np.linalg.norm(x, axis=1, keepdims=True) * radius[:, None]

    return mapped(mesh, blow)


def pressure_loads(mesh, faces, pressure):
    """(n, 3) nodal forces of a pressure on outer faces (k, 6), along their own inward normals."""
    p = mesh.nodes[faces[:, :3]]
    vector = 0.5 * np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    out = np.zeros((len(mesh.nodes), 3))
    np.add.at(out, faces[:, 3:], -pressure * vector[:, None] / 3.0)
    return out


def nodal_stress(problem, displacement, node):
    """(6,) stress at a corner node: mean of the elements around it, each at that corner."""
    from sacroplan.mechanics import _fem_kernels as k
    from sacroplan.mechanics.mesh import EDGES

    element, corner = np.nonzero(problem.mesh.elements[:, :4] == node)
    strain = k.strains_at(
        problem.mesh.nodes,
        problem.mesh.elements,
        np.ascontiguousarray(displacement),
        element.astype(np.int32),
        np.eye(4)[corner],
        EDGES,
    )
    return problem.stress(strain[:, None], element)[:, 0].mean(axis=0)


def gauss_rule(n=4):
    """Barycentric points (n^3, 4) and weights (sum 1) exact to degree 2n - 3 (collapsed cube)."""
    x, w = np.polynomial.legendre.leggauss(n)
    x, w = 0.5 * (x + 1.0), 0.5 * w
    a, b, c = (g.ravel() for g in np.meshgrid(x, x, x, indexing="ij"))
    weight = np.einsum("i,j,k->ijk", w, w, w).ravel() * 6.0 * (1 - a) ** 2 * (1 - b)
    second, third = (1 - a) * b, (1 - a) * (1 - b) * c
    return np.stack([1 - a - second - third, a, second, third], axis=1), weight


def smooth_field(x):
    """A smooth displacement (n, 3) and its strain tensor (n, 3, 3) at points (n, 3)."""
    X, Y, Z = x.T
    s = np.stack([np.sin(0.3 * X) * Y, np.cos(0.2 * Y) * Z, X * Z * 0.1], axis=1)
    g = np.zeros((len(x), 3, 3))
    g[:, 0, 0], g[:, 0, 1] = 0.3 * np.cos(0.3 * X) * Y, np.sin(0.3 * X)
    g[:, 1, 1], g[:, 1, 2] = -0.2 * np.sin(0.2 * Y) * Z, np.cos(0.2 * Y)
    g[:, 2, 0], g[:, 2, 2] = 0.1 * Z, 0.1 * X
    return s, 0.5 * (g + np.swapaxes(g, 1, 2))


def solver_order(tensor):
    """(..., 6) xx, yy, zz, xy, yz, zx of symmetric tensors (..., 3, 3)."""
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))
    return np.stack([tensor[..., a, b] for a, b in pairs], axis=-1)


def shape_values(bary):
    """(q, 10) quadratic shape functions at barycentric points (q, 4)."""
    from sacroplan.mechanics.mesh import EDGES

    return np.concatenate(
        [bary * (2 * bary - 1), 4 * bary[:, EDGES[:, 0]] * bary[:, EDGES[:, 1]]], axis=1
    )


def shape_slopes(mesh, bary):
    """(m, q, 10, 3) gradients of the quadratic shape functions at barycentric points (q, 4)."""
    from sacroplan.mechanics.mesh import EDGES

    p = mesh.nodes[mesh.elements[:, :4]]
    edge = p[:, 1:] - p[:, :1]
    low = np.linalg.inv(edge).transpose(0, 2, 1)
    g = np.concatenate([-low.sum(axis=1, keepdims=True), low], axis=1)
    corners = (4 * bary - 1)[None, :, :, None] * g[:, None]
    a, b = EDGES.T
    edges = 4 * (bary[None, :, a, None] * g[:, None, b] + bary[None, :, b, None] * g[:, None, a])
    return np.concatenate([corners, edges], axis=2)


def claim(record_property, what, measured, asked):
    """Leaves a figure for the credibility page (``tools/credibility.py`` collects them)."""
    record_property("claim", f"{what} | {measured} | {asked}")
