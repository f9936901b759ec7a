"""Joints that press and ligaments that pull: exact forces, CalculiX, attachments, the whole study."""

import shutil
import subprocess
from dataclasses import replace

import igl
import numpy as np
import pytest
from mechanics_shapes import cuboid, toy_case
from test_mechanics_contact import pinned_case, top_faces, two_blocks
from test_mechanics_study import frd_displacements

from sacroplan import evidence
from sacroplan.errors import MechanicsError
from sacroplan.geometry import booleans
from sacroplan.geometry.surface import Surface
from sacroplan.mechanics.contact import solve_contact
from sacroplan.mechanics.deck import write_inp
from sacroplan.mechanics.interfaces import Contact, part_between
from sacroplan.mechanics.joints import together
from sacroplan.mechanics.ligaments import STIFFNESS, kept, sacroiliac_of
from sacroplan.mechanics.problem import Problem
from sacroplan.mechanics.study import MechanicsOptions, evaluate


def cables(problem, pairs, stiffness):
    """Cables between nodes of a mesh, one seat without faces."""
    pairs = np.asarray(pairs, dtype=np.int32)
    way = problem.mesh.nodes[pairs[:, 1]] - problem.mesh.nodes[pairs[:, 0]]
    way = way / np.linalg.norm(way, axis=1, keepdims=True)
    n, none = len(pairs), np.zeros((0, 2), dtype=np.int32)
    return Contact(
        pairs, -way, np.ones(n), np.zeros(n), np.zeros(n, dtype=np.int32), ("tie",),
        np.full(n, float(stiffness)), np.zeros(n), none, none, none[:, 0],
    )  # fmt: skip


def hung(direction):
    """Two stiff blocks in contact, joined by four upright cables only, loaded along ``direction``."""
    mesh = two_blocks((4, 4, 4), (10, 10, 10))
    m = len(mesh.elements)
    young = np.full(m, 1e6)
    upper = mesh.of("porous_left")
    parted = part_between(mesh, young, 0.0, upper, ~upper)
    x = parted.mesh.nodes
    below, above = (
        [int(np.argmin(np.linalg.norm(x - [a, b, z], axis=1))) for a in (0, 10) for b in (0, 10)]
        for z in (0.0, 10.0)
    )
    # Hung up on guides: the upper block may only move up and down.
    held = np.zeros((len(x), 3), dtype=bool)
    held[x[:, 2] < 1e-9] = True
    held[x[:, 2] > 10 - 1e-9, :2] = True
    loads = np.zeros((len(x), 3, 1))
    top = np.unique(top_faces(parted.mesh, 10.0))
    loads[top, :, 0] = 200.0 / len(top) * np.asarray(direction)
    problem = Problem(parted.mesh, young, np.full(m, 0.3), held, loads)
    both = together(parted.contact, cables(problem, np.stack([below, above], axis=1), 100.0))
    return problem, both


def test_cables_carry_all_tension_and_contact_all_compression():
    problem, both = hung([0, 0, 1.0])
    s, (state,) = solve_contact(problem, both, ("pull",))
    tie = both.seat == 1
    top = problem.mesh.nodes[:, 2] > 10 - 1e-9
    assert state.pressure_mpa[tie].sum() == pytest.approx(200.0, rel=1e-3)
    assert state.pressure_mpa[~tie].max() == 0.0
    # Four cables of 100 N/mm.
    assert s.displacement[top, 2, 0].mean() == pytest.approx(0.5, rel=2e-3)
    problem, both = hung([0, 0, -1.0])
    s, (state,) = solve_contact(problem, both, ("push",))
    assert (state.pressure_mpa[tie] == 0.0).all()
    assert (state.pressure_mpa * both.area_mm2)[~tie].sum() == pytest.approx(200.0, rel=1e-3)
    assert -0.01 < s.displacement[top, 2, 0].mean() < 0.0


def test_parts_are_free_where_nothing_bears():
    mesh = two_blocks((4, 4, 4), (10, 10, 10))
    upper = mesh.of("porous_left")
    young = np.full(len(mesh.elements), 1e3)
    half = part_between(mesh, young, 0.0, upper, ~upper, lambda p: p[:, 0] < 5.0)
    assert half.contact.area_mm2.sum() == pytest.approx(50.0)
    assert len(half.mesh.nodes) == len(part_between(mesh, young, 0.0, upper, ~upper).mesh.nodes)
    none = part_between(mesh, young, 0.0, upper, ~upper, lambda p: np.zeros(len(p), dtype=bool))
    assert len(none.contact.pairs) == 0
    assert part_between(mesh, young, 0.0, upper, np.zeros_like(upper)) is None


@pytest.mark.calculix
def test_calculix_finds_the_same_cables_from_our_deck(tmp_path):
    if shutil.which("ccx") is None:
        pytest.skip("The program ccx is not installed.")
    problem, contact = pinned_case(0.0)
    x = problem.mesh.nodes
    pairs = [
        [int(np.argmin(np.linalg.norm(x - [a, b, 0.0], axis=1))),
         int(np.argmin(np.linalg.norm(x - [a, 12.0 - b, 12.0], axis=1)))]
        for a in (0.0, 12.0) for b in (0.0, 12.0)
    ]  # fmt: skip
    both = together(contact, cables(problem, pairs, 400.0))
    bare = solve_contact(problem, contact, ("push",))[0].displacement[:, :, 0]
    s, (state,) = solve_contact(problem, both, ("push",))
    ours = s.displacement[:, :, 0]
    tension = state.pressure_mpa[both.seat == len(both.seats) - 1]
    # Some pull and some are slack, and they matter.
    assert 0 < np.count_nonzero(tension) < len(tension)
    assert np.linalg.norm(ours - bare) > 0.05 * np.linalg.norm(bare)
    (tmp_path / "deck.inp").write_bytes(write_inp(problem, ("push",), "blocks", contact=both))
    out = subprocess.run(
        ["ccx", "deck"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=500
    )
    assert "ERROR" not in out.stdout
    u = frd_displacements(tmp_path / "deck.frd", len(x))[-1]
    assert np.linalg.norm(u - ours) < 0.005 * np.linalg.norm(u)


def fine(surface: Surface) -> Surface:
    """The same surface in triangles of a few millimetres."""
    v, f = igl.upsample(surface.vertices, surface.faces, 4)
    return Surface(v, f, surface.frame)


def jointed_toy(**changes):
    """The toy pelvis with a cleft behind its sacroiliac joints and the landmarks of its ligaments."""
    case = toy_case()
    bones = dict(case.bones)
    for side, s in (("left", 1.0), ("right", -1.0)):
        low, high = sorted((s * 26.0, s * 36.0))
        behind = cuboid([low, 4, -60], [high, 30, 10])
        bones[f"hip_{side}"] = booleans.difference(bones[f"hip_{side}"], behind)
    bones = {n: fine(b) for n, b in bones.items()}
    marks = {"S1EP": np.array([0.0, 1.0, 0.0])}
    for n, z in ((1, -10.0), (2, -18.0), (3, -26.0)):
        for letter, s in (("L", 1.0), ("R", -1.0)):
            marks[f"S{n}AF_{letter}"] = np.array([s * 12.0, -14.0, z])
            marks[f"S{n}PF_{letter}"] = np.array([s * 12.0, 16.0, z])
            marks[f"PSIS_{letter}"] = np.array([s * 40.0, 20.0, -15.0])
            marks[f"ISP_{letter}"] = np.array([s * 30.0, 0.0, -55.0])
    values = {"bones": bones, "landmarks": marks, **changes}
    return replace(case, **values)


def test_every_ligament_spans_its_two_bones_with_its_stiffness():
    case = jointed_toy()
    joint = sacroiliac_of(case.bones, case.landmarks, case.axes)
    fibres = joint.fibres
    assert len(fibres.names) == 14
    for number, (name, both) in enumerate(zip(fibres.names, fibres.bones, strict=True)):
        at = fibres.ligament == number
        word, side = name.rsplit("_", 1)
        assert fibres.stiffness[at].sum() == pytest.approx(evidence.value(*STIFFNESS[word]))
        assert both == ("L5" if word == "iliolumbar" else "sacrum", f"hip_{side}")
        for end, bone in enumerate(both):
            p = case.axes.to_world(fibres.ends[at, end])
            b = case.bones[bone]
            assert igl.point_mesh_squared_distance(p, b.vertices, b.faces)[0].max() < 1e-8
    # Spines, tuberosities and tips are where the landmarks say.
    world = case.axes.to_world(fibres.ends)
    spine = world[fibres.ligament == fibres.names.index("sacrospinous_left"), 1]
    assert np.linalg.norm(spine - case.landmarks["ISP_L"], axis=1).max() < 9.0
    low = world[fibres.ligament == fibres.names.index("sacrotuberous_right"), 1]
    assert low[:, 2].max() < -60.0
    # Cartilage in front, a cleft behind it.
    face = case.axes.to_world(joint.facing)
    assert face[joint.auricular, 1].max() < 4.0
    assert np.any(face[~joint.auricular, 1] > 4.0)
    fewer = {k: v for k, v in case.landmarks.items() if k != "PSIS_L"}
    with pytest.raises(MechanicsError, match="PSIS_L"):
        sacroiliac_of(case.bones, fewer, case.axes)


def test_a_cut_takes_the_fibres_whose_bone_goes():
    case = jointed_toy()
    fibres = sacroiliac_of(case.bones, case.landmarks, case.axes).fibres
    deep = {n: lambda p: np.full(len(p), -1.0) for n in case.bones}
    assert kept(fibres, deep).all()
    # All of the sacrum below its upper quarter is gone.
    upper = {**deep, "sacrum": lambda p: -15.0 - case.axes.to_world(p)[:, 2]}
    stays = kept(fibres, upper)
    share = {
        n: stays[fibres.ligament == k].mean() for k, n in enumerate(fibres.names) if "left" in n
    }
    assert share["sacrospinous_left"] == share["sacrotuberous_left"] == 0.0
    assert share["posterior_long_left"] == 0.0
    assert share["iliolumbar_left"] == 1.0
    assert 0.0 < share["interosseous_left"] < 1.0
    without = {n: f for n, f in deep.items() if n != "hip_left"}
    gone = kept(fibres, without)
    assert all(
        gone[fibres.ligament == k].all() == n.endswith("right") for k, n in enumerate(fibres.names)
    )


def test_a_study_with_joints_in_contact():
    small = MechanicsOptions(
        max_unknowns=18_000, bone_element_mm=12.0, metal_element_mm=6.0, catalogue="habitual"
    )
    bonded = evaluate(jointed_toy(options=small))
    options = replace(small, joints="contact")
    result = evaluate(jointed_toy(options=options))
    value = {k: m.value for k, m in result.metrics().items()}
    before = {k: m.value for k, m in bonded.metrics().items()}
    key = "mechanics.intact.lc01"
    # A joint that cannot pull lets the sacrum turn further.
    assert value[f"{key}.nutation_deg"] > before[f"{key}.nutation_deg"]
    assert value[f"{key}.joint.sacroiliac_left_n"] > 0
    assert any(value[k] > 0 for k in value if k.startswith(f"{key}.ligament."))
    assert value[f"{key}.unbalanced_n"] < 1e-3 * value[f"{key}.reaction_n"]
    assert value["mechanics.intact.ligament.sacrospinous_left_left_percent"] == 100.0
    # The sacrum is gone from the reconstruction, and every ligament that held it.
    assert value["mechanics.reconstructed.ligament.interosseous_left_left_percent"] == 0.0
    assert "mechanics.reconstructed.lc01.joint.sacroiliac_left_n" not in value
    codes = {d.code for d in result.doubts}
    assert "mechanics.stiff_ligaments" in codes
    assert "mechanics.no_ligaments" not in codes
    deck = result.decks["intact"].decode("ascii")
    assert "*ELEMENT, TYPE=SPRINGA, ELSET=L_SACROSPINOUS_LEFT" in deck
    assert "*CONTACT PAIR, INTERACTION=C_SACROILIAC_LEFT" in deck
    with pytest.raises(MechanicsError, match="S1EP"):
        evaluate(jointed_toy(landmarks={}, options=options))
    with pytest.raises(MechanicsError, match="a study of its own"):
        evaluate(jointed_toy(options=replace(options, healing=True)))
