"""Code verification against exact solutions, with convergence rates. Tolerances are the claims."""

import numpy as np
import pytest
from mechanics_shapes import (
    block_mesh,
    claim,
    gauss_rule,
    mapped,
    nodal_stress,
    octant_shell,
    pressure_loads,
    shape_slopes,
    shape_values,
    smooth_field,
    solver_order,
)

from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.imaging.calibration import Calibration
from sacroplan.mechanics import criteria, elasticity
from sacroplan.mechanics.materials import assign
from sacroplan.mechanics.mesh import TetMesh
from sacroplan.mechanics.multigrid import Multigrid
from sacroplan.mechanics.problem import Problem
from sacroplan.mechanics.solvers import _ngsolve_form, ngsolve_mesh, solve

TIGHT = 1e-11
"""Solver residual where the method, not the solver, is tested."""


def orthotropic():
    """A stiffness far from isotropic, in no special axes."""
    compliance = np.zeros((6, 6))
    e, nu, g = (8000.0, 5000.0, 12000.0), 0.28, (1500.0, 2500.0, 3500.0)
    compliance[np.arange(3), np.arange(3)] = 1 / np.array(e)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        compliance[a, b] = compliance[b, a] = -nu / max(e[a], e[b])
    compliance[np.arange(3, 6), np.arange(3, 6)] = 1 / np.array(g)
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    return elasticity.rotated(np.linalg.inv(compliance), q)


def materials(mesh, kind):
    """Fields of a Problem: one isotropic, one mixed, one with a modulus per integration point."""
    m = len(mesh.elements)
    rng = np.random.default_rng(1)
    young, poisson = 10.0 ** rng.uniform(1, 5, m), rng.choice([0.2, 0.3, 0.45], m)
    if kind == "points":
        young = 10.0 ** rng.uniform(1, 5, (m, 4))
    tensor = np.where(rng.uniform(size=m) < 0.4, 0, -1) if kind == "mixed" else None
    return young, poisson, orthotropic()[None], tensor


def free_problem(mesh, kind):
    young, poisson, tensors, tensor = materials(mesh, kind)
    none = np.zeros(len(mesh.nodes), dtype=bool)
    loads = np.zeros((len(mesh.nodes), 3, 1))
    return Problem(mesh, young, poisson, none, loads, tensors, tensor)


def rigid_motions(x):
    """(6, n, 3) translations and rotations."""
    move = [np.broadcast_to(row, x.shape) for row in np.eye(3)]
    turn = [np.cross(np.broadcast_to(row, x.shape), x) for row in np.eye(3)]
    return np.stack([*move, *turn])


@pytest.mark.parametrize("kind", ["isotropic", "mixed", "points"])
def test_rigid_motions_cost_nothing_in_the_assembled_matrix(kind, record_property):
    mesh = block_mesh((3, 2, 3), (15, 9, 12), jitter=0.6)
    problem = free_problem(mesh, kind)
    matrix = Multigrid(problem, np.zeros((0, 2), dtype=np.int32))
    largest = np.abs(matrix.blocks).max()
    worst = 0.0
    for u in rigid_motions(mesh.nodes):
        pair = np.concatenate([u, 2.0 * u], axis=1)
        force = matrix.multiply(pair)
        worst = max(worst, np.abs(force).max() / (largest * np.abs(u).max()))
        again = problem.internal_forces(u[:, :, None])
        assert np.abs(again).max() < 1e-9 * largest * np.abs(u).max()
    claim(
        record_property,
        f"Rigid motions, {kind} moduli: force over stiffness",
        f"{worst:.1e}",
        "< 1e-9",
    )
    assert worst < 1e-9
    stretch = np.concatenate([mesh.nodes * [1, 0, 0], mesh.nodes], axis=1)
    assert np.abs(matrix.multiply(stretch)).max() > 1e-3 * largest


@pytest.mark.parametrize("kind", ["isotropic", "mixed"])
def test_rigid_motions_cost_nothing_in_ngsolve(kind):
    import ngsolve as ng

    mesh = block_mesh((3, 2, 3), (15, 9, 12), jitter=0.6)
    m = ngsolve_mesh(mesh)
    space = ng.VectorH1(m, order=2)
    form = _ngsolve_form(ng, m, space, free_problem(mesh, kind))
    x, y = form.mat.CreateColVector(), form.mat.CreateColVector()
    for u in rigid_motions(mesh.nodes):
        # Linear fields have no part in the edge functions.
        full = np.zeros((space.ndof // 3, 3))
        full[: mesh.corners] = u[: mesh.corners]
        x.FV().NumPy()[:] = full.T.ravel()
        y.data = form.mat * x
        diagonal = max(abs(v) for v in form.mat.AsVector().FV().NumPy())
        assert np.abs(y.FV().NumPy()).max() < 1e-9 * diagonal * np.abs(u).max()


@pytest.mark.parametrize("engine", ["multigrid", "ngsolve"])
@pytest.mark.parametrize("anisotropic", [False, True])
def test_patch_test_a_linear_field_is_exact_on_a_distorted_mesh(
    engine, anisotropic, record_property
):
    mesh = block_mesh((3, 4, 3), (10, 12, 9), jitter=0.6)
    m = len(mesh.elements)
    gradient = np.array([[2e-3, 9e-4, -4e-4], [1e-4, -1e-3, 7e-4], [3e-4, -8e-4, 3e-3]])
    exact = (mesh.nodes @ gradient.T)[:, :, None]
    surface = np.zeros(len(mesh.nodes), dtype=bool)
    surface[np.unique(mesh.boundary[0])] = True
    assert (~surface).sum() > 100
    c = orthotropic()
    problem = Problem(
        mesh, np.full(m, 1000.0), np.full(m, 0.3), surface, np.zeros_like(exact), c[None],
        np.zeros(m, dtype=np.int32) if anisotropic else None, prescribed=exact,
    )  # fmt: skip
    s = solve(problem, engine, tolerance=TIGHT)
    off = np.abs(s.displacement - exact).max() / np.abs(exact).max()
    kind = "anisotropic" if anisotropic else "isotropic"
    claim(record_property, f"Patch test, {engine}, {kind}: error", f"{off:.1e}", "< 1e-8")
    assert off < 1e-8
    strain = criteria.element_strains(mesh, s.displacement[:, :, 0])
    e = 0.5 * (gradient + gradient.T)
    true = np.broadcast_to(solver_order(e), strain.shape)
    np.testing.assert_allclose(strain, true, atol=1e-8 * np.abs(e).max())
    if anisotropic:
        voigt = np.array([e[0, 0], e[1, 1], e[2, 2], 2 * e[1, 2], 2 * e[0, 2], 2 * e[0, 1]])
        xx, yy, zz, yz, xz, xy = c @ voigt
        stress = criteria.stresses(problem, strain)
        np.testing.assert_allclose(
            stress, np.broadcast_to([xx, yy, zz, xy, yz, xz], stress.shape), rtol=1e-6
        )


def errors(n, anisotropic):
    """(displacement error in L2, strain energy error norm) against a smooth exact field."""
    mesh = block_mesh((n, n, n), (4, 4, 4), jitter=0.2)
    m = len(mesh.elements)
    rule, weight = gauss_rule()
    where = mesh.at_barycentric(rule)
    eps = smooth_field(where.reshape(-1, 3))[1].reshape(m, len(rule), 3, 3)
    exact, _ = smooth_field(mesh.nodes)
    surface = np.zeros(len(mesh.nodes), dtype=bool)
    surface[np.unique(mesh.boundary[0])] = True
    bare = Problem(
        mesh, np.full(m, 500.0), np.full(m, 0.25), surface, np.zeros((len(mesh.nodes), 3, 1)),
        orthotropic()[None] / 20.0, np.zeros(m, dtype=np.int32) if anisotropic else None,
    )  # fmt: skip
    sigma6 = bare.stress(solver_order(eps))
    order = np.array([[0, 3, 5], [3, 1, 4], [5, 4, 2]])
    sigma = sigma6[..., order]
    # The body force of the exact field, in its weak form.
    parts = np.einsum(
        "mqas,mqrs,q,m->mar", shape_slopes(mesh, rule), sigma, weight, mesh.volumes, optimize=True
    )
    load = np.zeros((len(mesh.nodes), 3))
    np.add.at(load, mesh.elements, parts)
    problem = Problem(
        mesh, bare.young_mpa, bare.poisson, surface, np.where(surface[:, None], 0.0, load)[..., None],
        bare.tensors_mpa, bare.tensor, prescribed=exact[:, :, None],
    )  # fmt: skip
    u = solve(problem, tolerance=TIGHT).displacement[:, :, 0]
    found = np.einsum("qa,mar->mqr", shape_values(rule), u[mesh.elements])
    gap = found - smooth_field(where.reshape(-1, 3))[0].reshape(found.shape)
    l2 = np.sqrt(np.einsum("mqr,q,m->", gap**2, weight, mesh.volumes))
    from sacroplan.mechanics import _fem_kernels as k
    from sacroplan.mechanics.mesh import EDGES

    d = k.strains(mesh.nodes, mesh.elements, np.ascontiguousarray(u), rule, EDGES)
    d = d - solver_order(eps)
    energy = criteria.energy_density(problem.stress(d), d) @ weight @ mesh.volumes
    return l2, np.sqrt(energy)


@pytest.mark.parametrize("anisotropic", [False, True])
def test_displacement_and_energy_converge_at_the_rates_of_quadratic_elements(
    anisotropic, record_property
):
    coarse, fine = errors(4, anisotropic), errors(8, anisotropic)
    displacement, energy = (np.log2(a / b) for a, b in zip(coarse, fine, strict=True))
    kind = "anisotropic" if anisotropic else "isotropic"
    claim(record_property, f"P2 displacement rate, {kind}", f"{displacement:.2f}", ">= 2.8")
    claim(record_property, f"P2 energy-norm rate, {kind}", f"{energy:.2f}", ">= 1.8")
    # Theory: 3 and 2; a wrong quadrature or transfer costs a whole order.
    assert displacement >= 2.8
    assert energy >= 1.8


def test_thick_sphere_under_inner_pressure_is_lame_s(record_property):
    a, b, pressure, young, nu = 10.0, 20.0, 10.0, 1000.0, 0.3
    factor = pressure * a**3 / (b**3 - a**3)
    off = []
    for n in (3, 6):
        mesh = octant_shell(n, a, b)
        m = len(mesh.elements)
        faces, _ = mesh.boundary
        radius = np.linalg.norm(mesh.nodes, axis=1)
        inner = (radius[faces[:, :3]] < a + 1e-6).all(axis=1)
        loads = pressure_loads(mesh, faces[inner], pressure)
        # Three planes of symmetry, each held across itself.
        held = np.abs(mesh.nodes) < 1e-9
        problem = Problem(mesh, np.full(m, young), np.full(m, nu), held, loads[:, :, None])
        s = solve(problem)
        assert s.imbalance < 1e-6
        corners = slice(0, mesh.corners)
        r = radius[corners]
        along = np.einsum("ij,ij->i", s.displacement[corners, :, 0], mesh.nodes[corners]) / r
        true = factor * ((1 - 2 * nu) * r / young + (1 + nu) * b**3 / (2 * young * r**2))
        off.append(np.sqrt(np.mean((along / true - 1) ** 2)))
        node = int(np.argmin(np.linalg.norm(mesh.nodes[corners] - [a, 0, 0], axis=1)))
        hoop = nodal_stress(problem, s.displacement[:, :, 0], node)[1]
    rate = np.log2(off[0] / off[1])
    claim(
        record_property, "Thick sphere (Lame): displacement off", f"{100 * off[1]:.2f} %", "< 1 %"
    )
    claim(record_property, "Thick sphere: rate with straight edges", f"{rate:.2f}", "> 1.8")
    # Straight edges miss the sphere by the square of the size, and the displacement with them.
    assert off[1] < 0.01
    assert rate > 1.8
    assert hoop == pytest.approx(factor * (1 + b**3 / (2 * a**3)), rel=0.05)


def test_nafems_le10_thick_plate(record_property):
    # NAFEMS LE10: sigma_yy at D is -5.38 MPa. Units here mm and MPa.
    grid = block_mesh((9, 14, 6), (1, 1, 1))

    def plate(x):
        # Finer towards the inner edge, where the stress is read.
        r, t, z = x[:, 0] ** 1.4, 0.5 * np.pi * x[:, 1] ** 1.4, 600.0 * (x[:, 2] - 0.5)
        return np.stack([(2000 + 1250 * r) * np.cos(t), (1000 + 1750 * r) * np.sin(t), z], axis=1)

    mesh = mapped(grid, plate)
    r, t, z = grid.nodes.T
    held = np.zeros((len(grid.nodes), 3), dtype=bool)
    held[t == 0, 1] = True
    held[t == 1, 0] = True
    held[r == 1, :2] = True
    held[(r == 1) & (z == 0.5), 2] = True
    faces, _ = mesh.boundary
    top = (z[faces[:, :3]] == 1).all(axis=1)
    loads = pressure_loads(mesh, faces[top], 1.0)
    m = len(mesh.elements)
    problem = Problem(mesh, np.full(m, 210000.0), np.full(m, 0.3), held, loads[:, :, None])
    s = solve(problem)
    node = int(np.flatnonzero((r == 0) & (t == 0) & (z == 1))[0])
    found = nodal_stress(problem, s.displacement[:, :, 0], node)[1]
    claim(record_property, "NAFEMS LE10: stress at D", f"{found:.3f} MPa", "-5.38 MPa within 2 %")
    assert found == pytest.approx(-5.38, rel=0.02)


def oblique_volume():
    """A CT with a smooth, strongly varying HU field on an oblique, anisotropic grid."""
    a, b = np.deg2rad(20.0), np.deg2rad(-15.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    shape = (60, 56, 30)
    grid = VolumeGeometry(shape, np.array([0.6, 0.6, 1.0]), np.array([-14.0, -12.0, -12.0]), turn)
    i, j, k = np.indices(shape)
    hu = 700.0 + 15.0 * (i - 30) + 200.0 * np.sin(i / 5.0) + 150.0 * np.cos(j / 5.0 + k / 4.0)
    return Volume(grid, hu.astype(np.float32))


def test_energy_of_a_known_field_with_the_modulus_of_a_ct(record_property):
    """The guard: a modulus that is evaluated in the wrong points passes every test above."""
    from scipy.ndimage import map_coordinates

    volume = oblique_volume()
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    grid = volume.geometry
    middle = grid.to_world(0.5 * (np.array(grid.shape) - 1.0))
    axes = AxisFrame("pelvis", middle - turn @ np.full(3, 4.0), turn)
    calibration = Calibration(0.8, 0.0, "assumed", (-1000.0, -90.0, 50.0), ())
    off = []
    for n in (4, 8):
        block = block_mesh((n, n, n), (8, 8, 8), jitter=0.3)
        mesh = TetMesh(block.nodes, block.elements, block.part, ("L5",), ("bone",), block.corners)
        found = assign(mesh, {"L5": lambda x: x[:, 0]}, volume, axes, calibration, "default", 0.7)
        u, _ = smooth_field(mesh.nodes)
        none = np.zeros(len(mesh.nodes), dtype=bool)
        loads = np.zeros((len(mesh.nodes), 3, 1))
        problem = Problem(mesh, found.young_mpa, found.poisson, none, loads)
        matrix = Multigrid(problem, np.zeros((0, 2), dtype=np.int32))
        pair = np.concatenate([u, u], axis=1)
        assembled = 0.5 * float((matrix.multiply(pair)[:, :3] * u).sum())
        # The integral by itself: our own sampling, law and strain at 64 points per element.
        rule, weight = gauss_rule()
        p = mesh.at_barycentric(rule).reshape(-1, 3)
        nu = found.poisson[0]
        _, eps = smooth_field(p)
        trace = np.trace(eps, axis1=1, axis2=2)
        shape = nu / (1 - 2 * nu) * trace**2 + np.einsum("nij,nij->n", eps, eps)

        def integral(where):
            g = volume.geometry
            index = ((where - g.origin) @ g.direction) / g.spacing_mm
            hu = map_coordinates(volume.data.astype(float), index.T, order=1)
            young = np.maximum(-34.7 + 3230.0 * 0.8e-3 * hu, 10.0)
            density = 0.5 * young / (1 + nu) * shape  # noqa: B023
            return float(density.reshape(-1, len(rule)) @ weight @ mesh.volumes)  # noqa: B023

        exact = integral(axes.origin + p @ axes.axes.T)
        off.append(abs(assembled / exact - 1.0))
        # The field tells right points from wrong ones, such as the mesh's own coordinates.
        assert abs(integral(middle + p - 4.0) / exact - 1.0) > 0.02
    claim(
        record_property,
        "Energy with a CT's modulus against quadrature: off",
        f"{100 * off[1]:.3f} %",
        "< 0.3 %",
    )
    assert off[0] < 0.01
    assert off[1] < 0.003


def test_the_energy_of_ngsolve_s_matrix_is_ours():
    import ngsolve as ng

    mesh = block_mesh((4, 4, 4), (8, 8, 8), jitter=0.3)
    problem = free_problem(mesh, "mixed")
    m = ngsolve_mesh(mesh)
    space = ng.VectorH1(m, order=2)
    form = _ngsolve_form(ng, m, space, problem)
    # A quadratic field is in both spaces exactly.
    function = ng.GridFunction(space)
    function.Set(ng.CF((ng.x * ng.y - ng.z, ng.y * ng.y * 0.5 + ng.x, ng.x * ng.z - ng.y * ng.y)))
    x, y, z = mesh.nodes.T
    u = np.stack([x * y - z, y * y * 0.5 + x, x * z - y * y], axis=1)
    theirs = 0.5 * ng.InnerProduct(form.mat * function.vec, function.vec)
    ours = 0.5 * float((problem.internal_forces(u[:, :, None])[:, :, 0] * u).sum())
    assert theirs == pytest.approx(ours, rel=1e-9)


def test_a_turned_material_in_a_turned_block_gives_a_turned_answer():
    mesh = block_mesh((3, 3, 4), (9, 9, 12), jitter=0.4)
    m = len(mesh.elements)
    q, _ = np.linalg.qr(np.random.default_rng(8).normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q))
    fixed = mesh.nodes[:, 2] < 1e-9
    loads = np.zeros((len(mesh.nodes), 3, 1))
    loads[mesh.nodes[:, 2] > 12 - 1e-9] = np.array([1.0, 2.0, -3.0])[:, None]
    c, every = orthotropic(), np.zeros(m, dtype=np.int32)
    base = (np.full(m, 1.0), np.full(m, 0.3), fixed)
    a = solve(Problem(mesh, *base, loads, c[None], every)).displacement[:, :, 0]
    turned = Problem(
        mesh.with_nodes(mesh.nodes @ q.T), *base, np.einsum("ij,njc->nic", q, loads),
        elasticity.rotated(c, q)[None], every,
    )  # fmt: skip
    b = solve(turned).displacement[:, :, 0]
    np.testing.assert_allclose(b, a @ q.T, atol=1e-5 * np.abs(a).max())


def test_tensors_of_isotropic_materials_and_their_means():
    c = elasticity.isotropic(1234.0, 0.27)
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    np.testing.assert_allclose(elasticity.rotated(c, q), c, atol=1e-9)
    assert elasticity.mean_isotropic(c) == pytest.approx((1234.0, 0.27))
    full = orthotropic()
    # Turning there and back is nothing, and energies are the same in both axes.
    np.testing.assert_allclose(
        elasticity.rotated(elasticity.rotated(full, q), q.T), full, atol=1e-7
    )
    e, _ = elasticity.mean_isotropic(full)
    assert 3000 < e < 12000
    mesh = block_mesh((3, 3, 3), (6, 6, 6), jitter=0.5)
    m = len(mesh.elements)
    u = np.random.default_rng(0).normal(size=(len(mesh.nodes), 3, 1))
    none, zero = np.zeros(len(mesh.nodes), dtype=bool), np.zeros_like(u)
    young, poisson = np.full(m, 1234.0), np.full(m, 0.27)
    plain = Problem(mesh, young, poisson, none, zero).internal_forces(u)
    tensor = Problem(mesh, young, poisson, none, zero, c[None], np.zeros(m, dtype=np.int32))
    np.testing.assert_allclose(tensor.internal_forces(u), plain, rtol=1e-9, atol=1e-7)
    points = Problem(mesh, np.repeat(young[:, None], 4, axis=1), poisson, none, zero)
    np.testing.assert_allclose(points.internal_forces(u), plain, rtol=1e-9, atol=1e-7)


def test_stiffnesses_that_no_material_has_are_refused():
    from sacroplan.errors import MechanicsError

    c = elasticity.isotropic(1000.0, 0.3)
    skew = c.copy()
    skew[0, 4] = 300.0
    with pytest.raises(MechanicsError, match=r"porous_left.*not symmetric"):
        elasticity.checked(skew, "porous_left")
    with pytest.raises(MechanicsError, match="not positive definite"):
        elasticity.checked(-c, "porous_left")
    with pytest.raises(MechanicsError, match="6 by 6"):
        elasticity.checked(c[:3, :3], "porous_left")
