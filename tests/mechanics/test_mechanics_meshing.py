"""The mesher: conformity, fidelity, sharing of nodes, floating parts, joints."""

import numpy as np
import pytest

from sacroplan.errors import MechanicsError
from sacroplan.mechanics import _mesh_kernels as kernels
from sacroplan.mechanics.mesh import EDGES, Locator, face_neighbours
from sacroplan.mechanics.meshing import PROJECT_GUARD, build_mesh
from sacroplan.mechanics.solids import Solid, between, carved, cylinder, remembered, tube


def ball(centre, radius):
    c = np.asarray(centre, dtype=float)
    return remembered(lambda p: np.linalg.norm(p - c, axis=1) - radius)


def meshed(solids, raw=None, size=3.0, half=26.0, fine=None):
    def sizing(points, d):
        own = np.array([size if fine is None or n not in fine else fine[n] for n in range(len(d))])
        return (own[:, None] + 0.5 * np.maximum(d, 0)).min(axis=0)

    bounds = np.array([[-half] * 3, [half] * 3])
    return build_mesh(tuple(solids), raw or {}, bounds, 6.0, sizing, 60_000, 0.3)


def area_of(mesh, name):
    faces, element = mesh.boundary
    p = mesh.nodes[faces[mesh.of(name)[element], :3]]
    return float(0.5 * np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1).sum())


def test_a_ball_has_its_volume_area_and_good_elements():
    mesh, report = meshed([Solid("ball", "bone", ball((0.3, 0.2, 0.1), 20.0))], size=3.0)
    assert mesh.volumes.sum() == pytest.approx(4 / 3 * np.pi * 8000, rel=0.015)
    assert area_of(mesh, "ball") == pytest.approx(4 * np.pi * 400, rel=0.03)
    assert report.surface_error_p95_mm < 0.4
    assert mesh.quality.min() >= min(PROJECT_GUARD, report.quality_min)
    assert report.quality_min > 0.15
    assert np.all(mesh.volumes > 0)


def test_the_mesh_is_conforming_and_closed():
    mesh, _ = meshed(
        [
            Solid("screw", "screw", cylinder(np.array([-30.0, 1, 2]), np.array([5.0, 3, 1]), 3.0)),
            Solid("ball", "bone", ball((0, 0, 0), 20.0)),
        ],
        fine={0: 1.5},
    )
    faces, _ = mesh.boundary
    f = np.sort(faces[:, :3], axis=1)
    # Hanging nodes would leave inner faces without a partner: the skin then has loose edges.
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [0, 2]]])
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert np.all(count % 2 == 0)
    n = face_neighbours(np.ascontiguousarray(mesh.elements[:, :4]))
    assert kernels.components(n).max() == 0
    # Straight edges: every middle node is the mean of its two corners.
    ends = mesh.nodes[mesh.elements[:, EDGES]].mean(axis=2)
    np.testing.assert_allclose(mesh.nodes[mesh.elements[:, 4:]], ends, atol=1e-12)
    # The divergence theorem over the skin gives the summed element volumes.
    p = mesh.nodes[faces[:, :3]]
    v = np.einsum("ij,ij->", p[:, 0], np.cross(p[:, 1], p[:, 2])) / 6.0
    assert v == pytest.approx(mesh.volumes.sum(), rel=1e-9)
    assert mesh.volumes[mesh.of("screw")].sum() == pytest.approx(np.pi * 9 * 35.1, rel=0.06)


def test_bonded_parts_share_nodes_and_bones_never_do():
    a, b = ball((-14.5, 0, 0), 15.0), ball((14.5, 0, 0), 15.0)
    solids = [
        Solid("a", "bone", carved(a, (b,), 2.0)),
        Solid("b", "bone", carved(b, (a,), 2.0)),
        Solid("joint", "joint", between(a, b, 5.0)),
    ]
    mesh, _ = meshed(
        solids, {"a": Solid("a", "bone", a), "b": Solid("b", "bone", b)}, half=32.0, fine={2: 2.0}
    )
    of = {n: set(np.unique(mesh.elements[mesh.of(n)]).tolist()) for n in mesh.names}
    assert not of["a"] & of["b"]
    assert of["a"] & of["joint"]
    assert of["b"] & of["joint"]
    left, right = (mesh.volumes[mesh.of(n)].sum() for n in "ab")
    assert left == pytest.approx(right, rel=0.03)


def test_a_slit_within_the_bond_tolerance_is_bridged_and_a_real_gap_is_not():
    bone = Solid("bone", "bone", cylinder(np.array([0, 0, -20.0]), np.array([0, 0, 0.0]), 8.0))

    def implant(gap):
        f = cylinder(np.array([0, 0, gap]), np.array([0, 0, 15.0]), 8.0)
        return Solid("implant", "core", f)

    mesh, _ = meshed([implant(0.15), bone])
    of = [set(np.unique(mesh.elements[mesh.of(n)]).tolist()) for n in mesh.names]
    assert of[0] & of[1]
    with pytest.raises(MechanicsError, match=r"(implant|bone).*not connected"):
        meshed([implant(6.0), bone])


def test_a_small_floating_screw_is_named():
    with pytest.raises(MechanicsError, match="loose_screw"):
        meshed(
            [
                Solid(
                    "loose_screw", "screw", tube(np.array([[22.0, 22, 22], [24.0, 22, 22]]), 2.0)
                ),
                Solid("ball", "bone", ball((0, 0, 0), 18.0)),
            ],
            fine={0: 1.2},
        )


def test_a_detached_tail_of_a_bone_is_dropped_and_counted_but_half_a_bone_is_not():
    def dumbbell(small):
        a, b = ball((-9, 0, 0), 13.0), ball((17, 0, 0), small)
        return Solid("sacrum", "bone", lambda p: np.minimum(a(p), b(p)))

    mesh, report = meshed([dumbbell(4.5)])
    assert report.dropped_mm3 == pytest.approx(4 / 3 * np.pi * 4.5**3, rel=0.25)
    assert mesh.nodes[:, 0].max() < 8.0
    with pytest.raises(MechanicsError, match=r"sacrum.*not connected"):
        meshed([dumbbell(10.0)], half=32.0)


def test_the_locator_finds_every_inner_point_and_no_outer_one():
    mesh, _ = meshed([Solid("ball", "bone", ball((0, 0, 0), 15.0))], size=4.0)
    rng = np.random.default_rng(3)
    inside = rng.normal(size=(400, 3))
    inside *= (rng.uniform(0, 13.5, 400) / np.linalg.norm(inside, axis=1))[:, None]
    find = Locator(mesh, np.ones(len(mesh.elements), dtype=bool))
    element, bary = find(inside)
    assert np.all(element >= 0)
    back = np.einsum("nc,ncd->nd", bary, mesh.nodes[mesh.elements[element, :4]])
    np.testing.assert_allclose(back, inside, atol=1e-9)
    assert np.all(find(inside + [60.0, 0, 0])[0] == -1)


def test_the_same_input_gives_the_same_mesh():
    runs = [meshed([Solid("ball", "bone", ball((0, 0, 0), 12.0))])[0] for _ in range(2)]
    assert runs[0].nodes.tobytes() == runs[1].nodes.tobytes()
    assert runs[0].elements.tobytes() == runs[1].elements.tobytes()
