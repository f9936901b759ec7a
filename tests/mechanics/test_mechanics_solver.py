"""Verification of the finite-element core: patch, convergence, energy, analytic, engines."""

import numpy as np
import pytest
from mechanics_shapes import block_mesh

from sacroplan.errors import MechanicsError
from sacroplan.mechanics import criteria, solvers
from sacroplan.mechanics.mesh import GAUSS, TetMesh, face_integrals
from sacroplan.mechanics.solvers import Problem, solve


def forces_of(mesh, young, poisson, u):
    """Nodal forces that hold the displacements ``u`` (n, 3)."""
    p = Problem(mesh, young, poisson, np.zeros(len(mesh.nodes), dtype=bool), u[:, :, None])
    return p.internal_forces(u[:, :, None])


def held_corner(mesh):
    """Three non-collinear nodes of the block's base."""
    x = mesh.nodes
    size = x.max(axis=0)
    wanted = np.array([[0, 0, 0], [size[0], 0, 0], [0, size[1], 0]])
    held = np.zeros(len(x), dtype=bool)
    for w in wanted:
        held[np.linalg.norm(x - w, axis=1).argmin()] = True
    return held


def test_patch_test_a_linear_field_is_exact_on_a_distorted_mesh():
    mesh = block_mesh((3, 4, 3), (10, 12, 9), jitter=0.6)
    m = len(mesh.elements)
    young, poisson = np.full(m, 1000.0), np.full(m, 0.3)
    # A symmetric gradient: no rotation is needed to satisfy the three held points.
    grad = np.array([[2e-3, 5e-4, 0.0], [5e-4, -1e-3, 0.0], [0.0, 0.0, 3e-3]])
    u = mesh.nodes @ grad.T
    held = held_corner(mesh)
    # Take away the motion of the held points so that they are truly at rest.
    stretch = np.zeros_like(grad)
    stretch[2, 2] = grad[2, 2]
    exact = mesh.nodes @ stretch.T
    loads = forces_of(mesh, young, poisson, exact)
    s = solve(Problem(mesh, young, poisson, held, loads))
    np.testing.assert_allclose(s.displacement[:, :, 0], exact, atol=2e-7 * np.abs(exact).max() * 50)
    strain = criteria.element_strains(mesh, u)
    expected = [grad[0, 0], grad[1, 1], grad[2, 2], grad[0, 1], grad[1, 2], grad[2, 0]]
    np.testing.assert_allclose(strain, np.broadcast_to(expected, strain.shape), atol=1e-14)


def test_rigid_motions_cost_nothing_and_stretching_does():
    mesh = block_mesh((2, 2, 2), (5, 6, 7), jitter=0.5)
    m = len(mesh.elements)
    young = np.random.default_rng(0).uniform(10, 1e5, m)
    spin = np.array([[0, -1.0, 0.5], [1.0, 0, -2.0], [-0.5, 2.0, 0]])
    rigid = mesh.nodes @ spin.T + np.array([1.0, -2, 3])
    scale = np.abs(forces_of(mesh, young, np.full(m, 0.3), mesh.nodes * [1, 0, 0])).max()
    assert np.abs(forces_of(mesh, young, np.full(m, 0.3), rigid)).max() < 1e-11 * scale


def test_energy_of_a_known_heterogeneous_modulus():
    # Uniaxial strain in a bar whose modulus grows linearly: U = strain^2/2 (lambda+2mu)/E int E dV.
    errors = []
    for n in (4, 8):
        mesh = block_mesh((n, 2, 2), (20, 5, 5))
        points = mesh.at_barycentric(GAUSS)[..., 0]
        young = (100.0 + 50.0 * np.exp(points / 10.0)).mean(axis=1)
        poisson = np.full(len(young), 0.3)
        u = mesh.nodes * [1e-3, 0, 0]
        p = Problem(mesh, young, poisson, np.zeros(len(mesh.nodes), dtype=bool), u[:, :, None])
        strain = criteria.element_strains(mesh, u)
        energy = criteria.energy_density(criteria.stresses(p, strain), strain).mean(axis=1)
        total = float(energy @ mesh.volumes)
        factor = 0.7 / (1.3 * 0.4)
        integral = 25.0 * (100.0 * 20.0 + 50.0 * 10.0 * (np.exp(2.0) - 1.0))
        errors.append(abs(total / (0.5e-6 * factor * integral) - 1.0))
        forces = forces_of(mesh, young, poisson, u)[:, :, 0]
        assert 0.5 * float((forces * u).sum()) == pytest.approx(total, rel=1e-12)
    assert errors[0] < 5e-3
    assert errors[1] < 1e-4


def cantilever(n, engine="multigrid", length=100.0):
    mesh = block_mesh((n * 5, n, n), (length, 10, 10))
    m = len(mesh.elements)
    fixed = mesh.nodes[:, 0] < 1e-9
    faces, _ = mesh.boundary
    tip = np.all(mesh.nodes[faces[:, :3], 0] > length - 1e-9, axis=1)
    w = np.zeros(len(mesh.nodes))
    np.add.at(w, faces[tip], face_integrals(mesh.nodes, faces[tip]))
    assert w.sum() == pytest.approx(100.0)
    loads = np.zeros((len(w), 3, 3))
    loads[:, 2, 0] = -50.0 * w / w.sum()
    loads[:, 0, 1] = 1000.0 * w / w.sum()
    loads[:, 1, 2] = 20.0 * w / w.sum()
    p = Problem(mesh, np.full(m, 2000.0), np.full(m, 0.0), fixed, loads)
    return p, solve(p, engine), w / w.sum()


def test_cantilever_matches_timoshenko_and_balances():
    p, s, w = cantilever(2)
    area, inertia = 100.0, 1e4 / 12.0
    bending = 50.0 * 100**3 / (3 * 2000 * inertia) + 50.0 * 100 / (5 / 6 * 1000 * area)
    assert -(w @ s.displacement[:, 2, 0]) == pytest.approx(bending, rel=0.01)
    assert w @ s.displacement[:, 0, 1] == pytest.approx(1000 * 100 / (2000 * area), rel=1e-6)
    np.testing.assert_allclose(s.reaction.sum(axis=0)[2, 0], 50.0, rtol=1e-5)
    assert s.residual < 1e-5
    assert s.imbalance < 1e-6
    axial = criteria.stresses(p, criteria.element_strains(p.mesh, s.displacement[:, :, 1]))
    np.testing.assert_allclose(criteria.von_mises(axial), 10.0, rtol=1e-5)


def test_both_engines_agree_on_a_heterogeneous_distorted_block():
    mesh = block_mesh((4, 4, 5), (20, 20, 25), jitter=0.6)
    rng = np.random.default_rng(5)
    m = len(mesh.elements)
    young = 10.0 ** rng.uniform(1, 5, m)
    poisson = rng.choice([0.2, 0.3, 0.45], m)
    fixed = mesh.nodes[:, 2] < 1e-9
    loads = np.zeros((len(mesh.nodes), 3, 2))
    loads[~fixed] = rng.normal(size=(int((~fixed).sum()), 3, 2))
    p = Problem(mesh, young, poisson, fixed, loads)
    a, b = solve(p).displacement, solve(p, "ngsolve").displacement
    assert np.abs(a - b).max() < 1e-5 * np.abs(b).max()


def test_same_problem_same_bytes():
    a, b = cantilever(1)[1], cantilever(1)[1]
    assert a.displacement.tobytes() == b.displacement.tobytes()


def test_unheld_inverted_and_unbalanced_models_are_refused():
    p, _, _ = cantilever(1)
    none = np.zeros(len(p.mesh.nodes), dtype=bool)
    with pytest.raises(MechanicsError, match="not held"):
        solve(Problem(p.mesh, p.young_mpa, p.poisson, none, p.loads))
    with pytest.raises(MechanicsError, match="positive modulus"):
        solve(Problem(p.mesh, -p.young_mpa, p.poisson, p.fixed, p.loads))
    with pytest.raises(MechanicsError, match="no solver"):
        solve(p, "abacus")
    with pytest.raises(MechanicsError, match="no force"):
        solve(Problem(p.mesh, p.young_mpa, p.poisson, p.fixed, 0 * p.loads))


def test_an_engine_that_returns_rubbish_is_caught(monkeypatch):
    p, s, _ = cantilever(1)
    wrong = s.displacement.copy()
    wrong[-1] *= 1.5
    monkeypatch.setitem(solvers.ENGINES, "wrong", lambda problem, tolerance, progress: (wrong, 1))
    with pytest.raises(MechanicsError, match="does not balance"):
        solve(p, "wrong")


def test_percentile_sphere_and_principal_criteria():
    values, volumes = np.array([5.0, 1.0, 3.0]), np.array([1.0, 98.0, 1.0])
    assert criteria.volume_percentile(values, volumes, 98.0) == 1.0
    assert criteria.volume_percentile(values, volumes, 98.5) == 3.0
    assert criteria.volume_percentile(values, volumes, 99.5) == 5.0
    tension = np.array([[0.0073, 0, 0, 0, 0, 0], [-0.0104, 0, 0, 0, 0, 0], [0, 0, 0, 0.0073, 0, 0]])
    np.testing.assert_allclose(criteria.risk_factor(tension), 1.0, rtol=1e-12)
    stress = np.array([[10.0, 0, 0, 0, 0, 0], [5.0, 5, 5, 0, 0, 0], [0, 0, 0, 10.0, 0, 0]])
    np.testing.assert_allclose(criteria.von_mises(stress), [10, 0, 10 * np.sqrt(3)], atol=1e-12)
    mesh = block_mesh((8, 8, 8), (24, 24, 24))
    spot = np.linalg.norm(mesh.centroids - 12.0, axis=1)
    field = np.repeat((spot < 2.9)[:, None].astype(float), 4, axis=1)
    p = criteria.peak(mesh, np.ones(len(field), dtype=bool), field)
    assert p.raw == 1.0
    assert 0.05 < p.sphere < 0.9
    assert criteria.peak(mesh, np.zeros(len(field), dtype=bool), field) is None


def test_energy_change_against_a_stiffer_twin():
    p, s, _ = cantilever(1)
    twin = Problem(p.mesh, p.young_mpa * 4.0, p.poisson, p.fixed, p.loads)
    after = criteria.element_strains(p.mesh, s.displacement[:, :, 0] / 4.0)
    energy = criteria.energy_density(criteria.stresses(twin, after), after)
    change = criteria.energy_change(
        twin, energy, p, s.displacement[:, :, 0], np.ones(len(p.mesh.elements), dtype=bool)
    )
    np.testing.assert_allclose(change.ratio, 0.25, rtol=1e-6)
    assert change.compared_mm3 == pytest.approx(1e4)
    assert change.below_first_mm3 == pytest.approx(1e4)
    moved = TetMesh(
        p.mesh.nodes + [500.0, 0, 0],
        p.mesh.elements,
        p.mesh.part,
        p.mesh.names,
        p.mesh.kinds,
        p.mesh.corners,
    )
    away = Problem(moved, twin.young_mpa, p.poisson, p.fixed, p.loads)
    lost = criteria.energy_change(
        away, energy, p, s.displacement[:, :, 0], np.ones(len(p.mesh.elements), dtype=bool)
    )
    assert lost.compared_mm3 == 0.0
