"""Frictional contact: exact pressures, Hertz, Coulomb's limit, CalculiX on the same deck."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from mechanics_shapes import block_mesh, claim, mapped, pressure_loads, toy_case
from test_mechanics_study import frd_displacements
from test_mechanics_verification import orthotropic

from sacroplan.errors import MechanicsError
from sacroplan.mechanics.contact import solve_contact
from sacroplan.mechanics.deck import write_inp
from sacroplan.mechanics.interfaces import part_interface, require_held
from sacroplan.mechanics.mesh import TetMesh
from sacroplan.mechanics.problem import Problem
from sacroplan.mechanics.solvers import solve
from sacroplan.mechanics.study import MechanicsOptions, evaluate


def two_blocks(n, size, function=None, pin=False, jitter=0.0):
    """A bone block below an implant block; ``n[2]`` even. With ``pin`` a screw joins their middles."""
    mesh = block_mesh(n, (1, 1, 1))
    centre = mesh.centroids
    part = np.where(centre[:, 2] > 0.5, 1, 0)
    if pin:
        part[(np.abs(centre[:, :2] - 0.5) < 0.2).all(axis=1)] = 2
    rng = np.random.default_rng(2)

    def place(x):
        # The seat stays plane, everything else inside is shaken.
        inner = ((x > 1e-9) & (x < 1 - 1e-9)).all(axis=1) & (np.abs(x[:, 2] - 0.5) > 1e-9)
        shaken = x + jitter * inner[:, None] * rng.uniform(-0.5, 0.5, x.shape) / np.asarray(n)
        return shaken * np.asarray(size) if function is None else function(shaken)

    mesh = mapped(mesh, place)
    return TetMesh(
        mesh.nodes, mesh.elements, part.astype(np.int16),
        ("hip_left", "porous_left", "iliac_left"), ("bone", "porous", "screw"), mesh.corners,
    )  # fmt: skip


def pressed(mesh, friction, young=1000.0, poisson=0.3):
    """(problem without loads and supports, contact) of a parted mesh of equal blocks."""
    m = len(mesh.elements)
    e = np.where(mesh.part == 1, 5.0 * young, young) if mesh.of("iliac_left").any() else None
    e = np.full(m, young) if e is None else e
    parted = part_interface(mesh, e, friction)
    zero = np.zeros((len(parted.mesh.nodes), 3, 1))
    held = np.zeros((len(parted.mesh.nodes), 3), dtype=bool)
    return Problem(parted.mesh, e, np.full(m, poisson), held, zero), parted.contact


def top_faces(mesh, height):
    faces, _ = mesh.boundary
    return faces[(mesh.nodes[faces[:, :3], 2] > height - 1e-9).all(axis=1)]


def test_parting_keeps_the_volume_and_doubles_the_seat_alone():
    mesh = two_blocks((4, 4, 4), (8, 8, 8), pin=True, jitter=0.4)
    parted = part_interface(mesh, np.full(len(mesh.elements), 500.0), 0.6)
    contact = parted.contact
    np.testing.assert_allclose(parted.mesh.volumes, mesh.volumes)
    np.testing.assert_array_equal(parted.mesh.nodes, mesh.nodes[parted.origin])
    np.testing.assert_array_equal(parted.mesh.nodes[parted.kept], mesh.nodes)
    a, b = parted.mesh.nodes[contact.pairs[:, 0]], parted.mesh.nodes[contact.pairs[:, 1]]
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(contact.normal, np.broadcast_to([0, 0, 1.0], contact.normal.shape))
    seat = mesh.of("porous_left")
    assert seat.any()
    # Bone keeps its nodes, the implant has twins, the screw holds both.
    bone = set(parted.mesh.elements[parted.mesh.of("hip_left")].ravel())
    metal = set(parted.mesh.elements[seat].ravel())
    pin = set(parted.mesh.elements[parted.mesh.of("iliac_left")].ravel())
    assert set(contact.pairs[:, 0]) <= bone - metal
    assert set(contact.pairs[:, 1]) <= metal - bone
    assert bone & metal <= pin
    require_held(parted.mesh)
    # Mid-edge nodes of faces that a screw does not touch carry the seat.
    assert 0.5 * 64 < contact.area_mm2.sum() < 64 * 0.9


def test_uniform_pressure_is_exact():
    mesh = two_blocks((3, 3, 4), (6, 6, 8), jitter=0.4)
    problem, contact = pressed(mesh, 0.3, poisson=0.0)
    x = problem.mesh.nodes
    held = np.zeros((len(x), 3), dtype=bool)
    held[x[:, 2] < 1e-9] = True
    loads = pressure_loads(problem.mesh, top_faces(problem.mesh, 8), 2.0)[:, :, None]
    s, (state,) = solve_contact(replace(problem, fixed=held, loads=loads), contact, ("press",))
    # The contact tolerance is 1e-4 of the load; the patch is exact beyond it.
    np.testing.assert_allclose(state.pressure_mpa, 2.0, rtol=2e-3)
    assert state.resultant_n(contact)[2] == pytest.approx(72.0, rel=1e-3)
    assert not state.sliding.any()
    assert s.imbalance < 1e-3
    # The penalty gives the interface a thickness of pressure over penalty.
    gap = 2.0 / contact.penalty[0]
    top = s.displacement[x[:, 2] > 8 - 1e-9, 2, 0].mean()
    assert top == pytest.approx(-2.0 * 8 / 1000 - gap, rel=1e-3)


def test_hertz_peak_pressure(record_property):
    radius, size, young, nu = 20.0, 12.0, 1000.0, 0.3

    def graded(x):
        # Fine around the middle of the interface, a corner of the quarter model.
        z = x[:, 2] - 0.5
        return np.stack(
            [size * x[:, 0] ** 2, size * x[:, 1] ** 2,
             size * np.sign(z) * (2 * np.abs(z)) ** 2], axis=1,
        )  # fmt: skip

    problem, contact = pressed(two_blocks((10, 10, 14), None, graded), 0.0, young, nu)
    x = problem.mesh.nodes
    # A ball and a plate as two half spaces with the ball's gap between them: Hertz's own picture.
    place = x[contact.pairs[:, 0]]
    contact = replace(contact, gap_mm=(place[:, 0] ** 2 + place[:, 1] ** 2) / (2 * radius))
    stiff = 10.0 * young / 0.4
    contact = replace(contact, penalty=np.full(len(place), 10.0 * stiff))
    held = np.abs(x) < 1e-9
    held[:, 2] = np.abs(x[:, 2]) > size - 1e-9
    given = np.zeros((len(x), 3, 1))
    given[x[:, 2] > size - 1e-9, 2] = -0.12
    s, (state,) = solve_contact(replace(problem, fixed=held, prescribed=given), contact, ("ball",))
    force = 4.0 * abs(s.reaction[x[:, 2] > size - 1e-9, 2].sum())
    assert 4.0 * state.resultant_n(contact)[2] == pytest.approx(force, rel=1e-3)
    both = young / (2 * (1 - nu**2))
    extent = (3 * force * radius / (4 * both)) ** (1 / 3)
    peak = 3 * force / (2 * np.pi * extent**2)
    found = state.pressure_mpa.max()
    claim(
        record_property, "Hertz: peak pressure over theory", f"{found / peak:.3f}", "1 within 5 %"
    )
    assert 0.8 < extent < 2.5
    assert found == pytest.approx(peak, rel=0.05)
    closed = np.sqrt(place[state.pressure_mpa > 0, :2].max() ** 2)
    assert closed == pytest.approx(extent, rel=0.25)


def test_sliding_carries_coulomb_s_limit_and_no_more():
    mesh = two_blocks((3, 3, 4), (6, 6, 4))
    problem, contact = pressed(mesh, 0.4, poisson=0.0)
    x = problem.mesh.nodes
    held = np.zeros((len(x), 3), dtype=bool)
    held[(x[:, 2] < 1e-9) | (x[:, 2] > 4 - 1e-9)] = True
    top = x[:, 2] > 4 - 1e-9
    for slide, share in ((0.2, 1.0), (1e-4, None)):
        given = np.zeros((len(x), 3, 1))
        given[top, 2], given[top, 0] = -0.02, slide
        s, (state,) = solve_contact(
            replace(problem, fixed=held, prescribed=given), contact, ("shear",)
        )
        normal, across = abs(s.reaction[top, 2].sum()), abs(s.reaction[top, 0].sum())
        if share is not None:
            assert across == pytest.approx(0.4 * normal, rel=1e-3)
            assert state.sliding.all()
            assert np.median(state.slip_mm) > 0.15
        else:
            assert across < 0.4 * normal
            assert not state.sliding.any()
            assert state.slip_mm.max() < 1e-4


def pinned_case(friction=0.4):
    """Two blocks joined by a pin, the upper one pushed off centre: part presses, part opens."""
    mesh = two_blocks((6, 6, 6), (12, 12, 12), pin=True)
    problem, contact = pressed(mesh, friction)
    x = problem.mesh.nodes
    faces = top_faces(problem.mesh, 12)
    edge = faces[(problem.mesh.nodes[faces[:, :3], 0] > 8 - 1e-9).all(axis=1)]
    other = faces[(problem.mesh.nodes[faces[:, :3], 0] < 4 + 1e-9).all(axis=1)]
    loads = pressure_loads(problem.mesh, edge, 5.0) - pressure_loads(problem.mesh, other, 4.0)
    loads[:, 0] += 0.3 * loads[:, 2]
    return replace(problem, fixed=x[:, 2] < 1e-9, loads=loads[:, :, None]), contact


def test_contact_stands_between_bonded_and_absent():
    problem, contact = pinned_case()
    s, (state,) = solve_contact(problem, contact, ("push",))
    assert s.residual < 1e-3
    assert s.imbalance < 1e-3
    share = (contact.area_mm2 * (state.pressure_mpa > 0)).sum() / contact.area_mm2.sum()
    assert 0.2 < share < 0.9
    loose = solve(problem)
    top = problem.mesh.nodes[:, 2] > 12 - 1e-9
    lean = s.displacement[top, 2, 0].min()
    assert loose.displacement[top, 2, 0].min() < 1.05 * lean < 0
    # Pressure and shear obey their laws everywhere.
    shear = np.linalg.norm(state.shear_mpa, axis=1)
    assert np.all(shear <= 0.4 * state.pressure_mpa + 1e-9)
    assert np.all(np.einsum("ij,ij->i", state.shear_mpa, contact.normal) < 1e-9)
    assert np.all(state.opening_mm[state.pressure_mpa <= 0] >= 0)


@pytest.mark.calculix
def test_calculix_finds_the_same_contact_from_our_deck(tmp_path, record_property):
    if shutil.which("ccx") is None:
        pytest.skip("The program ccx is not installed.")
    # Without friction: CalculiX 2.20 does not converge on this seat with it, in any increment.
    problem, contact = pinned_case(0.0)
    s, (state,) = solve_contact(problem, contact, ("push",))
    (tmp_path / "deck.inp").write_bytes(
        write_inp(problem, ("push",), "two blocks", contact=contact)
    )
    out = subprocess.run(
        ["ccx", "deck"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=500
    )
    assert "ERROR" not in out.stdout
    u = frd_displacements(tmp_path / "deck.frd", len(problem.mesh.nodes))[-1]
    ours = s.displacement[:, :, 0]
    off = np.linalg.norm(u - ours) / np.linalg.norm(u)
    force = np.array(
        [float(v) for v in re.findall(
            r"total surface force.*?\n\s*\n\s*(\S+)\s+(\S+)\s+(\S+)",
            (tmp_path / "deck.dat").read_text(), re.S)[0]]
    )  # fmt: skip
    total = state.resultant_n(contact)
    claim(record_property, "Contact in CalculiX: displacement off", f"{100 * off:.3f} %", "< 0.5 %")
    claim(
        record_property,
        "Contact in CalculiX: pressure resultant over ours",
        f"{abs(force[2] / total[2]):.4f}",
        "1 within 3 %",
    )
    assert off < 0.005
    assert abs(force[2]) == pytest.approx(abs(total[2]), rel=0.03)


@pytest.mark.calculix
def test_calculix_takes_our_stiffness_tensor_in_the_same_order(tmp_path, record_property):
    if shutil.which("ccx") is None:
        pytest.skip("The program ccx is not installed.")
    mesh = block_mesh((3, 3, 4), (9, 9, 12), jitter=0.4)
    m, x = len(mesh.elements), mesh.nodes
    loads = np.zeros((len(x), 3, 1))
    loads[x[:, 2] > 12 - 1e-9] = np.array([1.0, 2.0, -3.0])[:, None]
    # Half of it anisotropic, with no symmetry in the mesh's axes; one plane held across only.
    held = np.repeat((x[:, 2] < 1e-9)[:, None], 3, axis=1)
    held[x[:, 0] < 1e-9, 0] = True
    tensor = np.where(np.arange(m) % 2 == 0, 0, -1)
    problem = Problem(
        mesh, np.full(m, 4000.0), np.full(m, 0.3), held, loads, orthotropic()[None], tensor
    )
    ours = solve(problem).displacement[:, :, 0]
    (tmp_path / "deck.inp").write_bytes(write_inp(problem, ("push",), "two materials"))
    out = subprocess.run(
        ["ccx", "deck"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=500
    )
    assert "ERROR" not in out.stdout
    u = frd_displacements(tmp_path / "deck.frd", len(x))[-1]
    off = np.abs(u - ours).max() / np.abs(u).max()
    claim(record_property, "Stiffness tensor in CalculiX: displacement off", f"{off:.1e}", "< 1e-4")
    assert off < 1e-4


def test_a_block_that_nothing_holds_is_named():
    mesh = two_blocks((3, 3, 4), (6, 6, 8))
    problem, contact = pressed(mesh, 0.3)
    x = problem.mesh.nodes
    loads = -pressure_loads(problem.mesh, top_faces(problem.mesh, 8), 1.0)[:, :, None]
    pulled = replace(problem, fixed=x[:, 2] < 1e-9, loads=loads)
    with pytest.raises(
        MechanicsError, match=r"Contact at porous_left does not converge under pull"
    ):
        solve_contact(pulled, contact, ("pull",))
    with pytest.raises(MechanicsError, match=r"porous_left would be held by friction alone"):
        require_held(problem.mesh)


def test_the_stages_of_healing_of_a_toy_pelvis():
    r = evaluate(
        toy_case(
            options=MechanicsOptions(
                max_unknowns=25_000, bone_element_mm=12.0, metal_element_mm=5.5, healing=True
            )
        )
    )
    value = {k: m.value for k, m in r.metrics().items()}
    assert [row["interface"] for row in r.healing] == ["friction", "friction", "bonded"]
    for stage in ("early", "six_weeks"):
        key = f"mechanics.healing.{stage}"
        bands = [value[f"{key}.motion_below_{n}um_percent"] for n in (28, 50, 150)]
        assert 0.0 <= bands[0] <= bands[1] <= bands[2] <= 100.0
        assert value[f"{key}.pressure_p99_mpa"] > 0
        assert value[f"{key}.porous_left.area_cm2"] > 1.0
        # An interface that may slip and open is never stiffer than a bonded one.
        case_name = {"early": "lc08", "six_weeks": "lc02"}[stage]
        bonded = value[f"mechanics.reconstructed.{case_name}.l5_displacement_mm"]
        assert value[f"{key}.l5_displacement_mm"] > bonded
        assert value[f"{key}.unbalanced_n"] < 1e-3 * value[f"{key}.reaction_n"]
    assert {"frictional_lc02", "frictional_lc08"} <= set(r.decks)
    deck = r.decks["frictional_lc08"].decode("ascii")
    # Both wings and the core itself stand on bone.
    assert deck.count("*CONTACT PAIR") == 3
    maps = r.seats
    motion, opening = maps.fields["motion_lc08_um"], maps.fields["opening_lc08_um"]
    seat = motion >= 0
    assert 50 < seat.sum() < 0.3 * len(motion)
    assert motion[seat].max() >= value["mechanics.healing.early.motion_p95_um"]
    assert (opening[seat] >= 0).all()
    # The maps lie where the porous layers meet bone: 33 to 36 mm beside the midplane, or under L5.
    place = maps.mesh.nodes[seat]
    assert ((np.abs(np.abs(place[:, 0]) - 36) < 3.5) | (place[:, 2] > -8)).all()
    assert "mechanics.bonded" not in {d.code for d in r.doubts}
