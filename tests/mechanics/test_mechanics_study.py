"""The study on a toy pelvis, its invariances, its refusals and its deck in CalculiX."""

import shutil
import subprocess
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from mechanics_shapes import TOY_AXES, cuboid, toy_case

from sacroplan.errors import MechanicsError
from sacroplan.geometry.booleans import union
from sacroplan.geometry.frames import Rigid
from sacroplan.mechanics.study import MechanicsOptions, RodSolid, evaluate


@cache
def toy_result():
    return evaluate(toy_case())


def value(result, name):
    return result.metrics()[f"mechanics.{name}"].value


def test_every_part_is_in_the_mesh_with_its_volume():
    r = toy_result().reconstructed
    names = set(r.mesh.names)
    assert {"L4", "L5", "hip_left", "hip_right", "implant_core", "disc_L4_L5"} <= names
    assert "sacrum" not in names
    assert "disc_L5_S1" not in names
    volume = r.mesh.volumes
    assert volume[r.mesh.of("porous_left")].sum() == pytest.approx(
        3 * 22 * 32 - np.pi * 16 * 3.2,
        rel=0.25,  # one element thick here
    )
    assert volume[r.mesh.of("hip_left")].sum() == pytest.approx(
        12 * 40 * 90,
        rel=0.12,  # coarse elements chamfer a box
    )
    assert volume[r.mesh.of("rod_left")].sum() == pytest.approx(
        volume[r.mesh.of("rod_right")].sum(), rel=0.15
    )
    intact = toy_result().intact.mesh
    assert {"sacroiliac_left", "sacroiliac_right", "disc_L5_S1", "sacrum"} <= set(intact.names)
    assert intact.quality.min() > 0.1


def test_a_thin_joint_keeps_its_stiffness_per_area():
    r = toy_result().intact
    left = r.mesh.of("sacroiliac_left")
    young = r.problem.young_mpa[left]
    assert len(np.unique(young)) == 1
    # The gap is 2 mm wide over 30 mm by 40 mm; its layer is one coarse element thick.
    meshed = r.mesh.volumes[left].sum() / (30 * 40)
    assert meshed > 2.0
    assert young[0] / 54.0 == pytest.approx(meshed / 2.5, rel=0.35)
    assert r.problem.young_mpa[r.mesh.of("disc_L4_L5")][0] == pytest.approx(4.2, rel=0.011)


def test_bone_moduli_follow_the_image_and_the_cortex():
    r = toy_result().intact
    l5 = r.mesh.of("L5")
    # HU = 150 + z + 92 in L5; EM-10 on 0.8 HU.
    z = r.mesh.centroids[l5, 2]
    expected = -34.7 + 3230 * 0.8e-3 * (150 + z + 92)
    np.testing.assert_allclose(r.problem.young_mpa[l5], expected, rtol=0.05)
    hip = r.mesh.of("hip_left")
    share = r.materials.cortical_share[hip]
    assert r.problem.young_mpa[hip][share > 0.9].min() > 15000
    assert r.problem.young_mpa[hip][share == 0].max() < 1000
    shell = 18 * 40 * 90 - (18 - 2.82) * (40 - 2.82) * (90 - 2.82)
    assert (share * r.mesh.volumes[hip]).sum() == pytest.approx(shell, rel=0.1)


def test_the_reconstruction_carries_the_load_and_says_what_it_doubts():
    r = toy_result()
    for name in ("intact", "reconstructed"):
        assert value(r, f"{name}.lc01.l5_cranial_mm") < 0
        assert value(r, f"{name}.lc01.stiffness_n_per_mm") > 0
        assert value(r, f"{name}.solver.imbalance") < 1e-6
    np.testing.assert_allclose(
        r.intact.problem.loads[:, :, 0].sum(axis=0), -600.0 * TOY_AXES[:, 1], atol=1e-6
    )
    axial = np.linalg.norm(r.intact.problem.loads[:, :, 1].sum(axis=0))
    assert axial == pytest.approx(0.55 * 70 * 9.80665, rel=1e-9)
    ratio = value(r, "reconstructed.lc01.stiffness_n_per_mm") / value(
        r, "intact.lc01.stiffness_n_per_mm"
    )
    assert value(r, "ratio.lc01.stiffness") == pytest.approx(ratio)
    assert ratio > 1.0
    codes = {d.code for d in r.doubts}
    # No hip centre was given, so the lowest slabs are held and that is said.
    assert {"mechanics.no_acetabulum_left", "mechanics.bonded", "mechanics.single_law"} <= codes
    rod = value(r, "reconstructed.lc01.rod.von_mises_p99_mpa")
    assert value(r, "reconstructed.lc01.rod.von_mises_raw_mpa") >= rod > 1.0
    sphere = value(r, "reconstructed.lc01.rod.von_mises_sphere_mpa")
    factor = value(r, "reconstructed.lc01.rod.safety_factor")
    assert factor == pytest.approx(795.0 / max(rod, sphere))
    assert {row["part"] for row in r.table} >= {"rod_left", "iliac_right", "porous_left"}
    percent = value(r, "reconstructed.lc01.energy.reduced_50_percent")
    assert percent >= value(r, "reconstructed.lc01.energy.reduced_75_percent") >= 0.0


def test_a_rigidly_moved_case_gives_the_same_figures_and_turned_fields():
    angle = 0.7
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ np.array(
        [[1.0, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
    )
    move = Rigid(turn, np.array([310.0, -95.0, 1240.0]))
    a, b = toy_result(), evaluate(toy_case(move))
    assert a.metrics().keys() == b.metrics().keys()
    for name, m in a.metrics().items():
        other = b.metrics()[name].value
        noise = "solver" in name or "unbalanced" in name
        if isinstance(m.value, float) and not noise:
            assert other == pytest.approx(m.value, rel=2e-3, abs=1e-6), name
    np.testing.assert_allclose(
        b.reconstructed.mesh.nodes, move.points(a.reconstructed.mesh.nodes), atol=1e-6
    )
    u = move.directions(a.reconstructed.solution.displacement[:, :, 0])
    scale = np.abs(u).max()
    np.testing.assert_allclose(b.reconstructed.solution.displacement[:, :, 0], u, atol=1e-4 * scale)


def test_same_case_same_bytes():
    a, b = toy_result(), evaluate(toy_case())
    assert a.decks["reconstructed"] == b.decks["reconstructed"]
    assert a.metrics() == b.metrics()


def test_floating_rod_missing_remnant_and_open_plan_are_named():
    case = toy_case()
    loose = RodSolid("spare_rod", np.array([[0.0, 60, 0], [0, 60, 20]]), 6.0)
    with pytest.raises(MechanicsError, match="spare_rod"):
        evaluate(replace(case, rods=(*case.rods, loose)))
    with pytest.raises(MechanicsError, match="hip_left"):
        evaluate(replace(case, remnants={"hip_right": case.remnants["hip_right"]}))
    with pytest.raises(MechanicsError, match="nothing is reconstructed"):
        evaluate(replace(case, implant_core=None, rods=()))
    with pytest.raises(MechanicsError, match="endplate"):
        evaluate(replace(case, l4_superior=(np.array([0.0, 1.0, 75.0]), np.array([0.0, 0.0, 1.0]))))
    hidden = {"left": cuboid([-5, -5, -25], [5, 5, -15])}
    with pytest.raises(MechanicsError, match="porous_left has no element"):
        evaluate(replace(case, porous=hidden))


def frd_displacements(path, nodes):
    """Displacements (steps, n, 3) of a CalculiX result file."""
    steps, current = [], None
    for line in path.read_text().splitlines():
        if line.startswith(" -4"):
            current = [] if line[5:13].strip() == "DISP" else None
        elif line.startswith(" -1") and current is not None:
            current.append([float(line[13 + 12 * k : 25 + 12 * k]) for k in range(3)])
        elif line.startswith(" -3") and current:
            steps.append(current)
            current = None
    out = np.array(steps)
    assert out.shape[1:] == (nodes, 3)
    return out


@pytest.mark.calculix
def test_calculix_gives_our_displacements_from_our_deck(tmp_path):
    if shutil.which("ccx") is None:
        pytest.skip("The program ccx is not installed.")
    r = toy_result()
    (tmp_path / "deck.inp").write_bytes(r.decks["reconstructed"])
    out = subprocess.run(
        ["ccx", "deck"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=500
    )
    assert "ERROR" not in out.stdout
    u = frd_displacements(tmp_path / "deck.frd", len(r.reconstructed.mesh.nodes))
    assert len(u) == len(r.reconstructed.cases) == 4
    for c in range(4):
        ours = r.reconstructed.solution.displacement[:, :, c]
        assert np.abs(u[c] - ours).max() < 1e-4 * np.abs(ours).max()


def test_the_deck_is_plain_and_within_what_abaqus_takes():
    text = toy_result().decks["reconstructed"].decode("ascii")
    lines = text.splitlines()
    assert lines[0] == "*HEADING"
    assert any("Not a medical device" in " ".join(lines[n : n + 3]) for n in range(6))
    assert max(map(len, lines)) < 130
    assert max(line.count(",") for line in lines) <= 16
    assert text.count("*STEP") == 4
    assert text.count("TYPE=C3D10") == len(
        [
            n
            for n in toy_result().reconstructed.mesh.names
            if toy_result().reconstructed.mesh.of(n).any()
        ]
    )
    moduli = {
        float(lines[n + 2].split(",")[0])
        for n, line in enumerate(lines)
        if line.startswith("*MATERIAL")
    }
    assert moduli == set(toy_result().reconstructed.problem.young_mpa.tolist())


def test_the_law_envelope_brackets_the_default():
    case = toy_case(
        options=MechanicsOptions(
            max_unknowns=40_000, bone_element_mm=10.0, metal_element_mm=5.0, envelope=True
        )
    )
    r = evaluate(case)
    key = "lc01.stiffness_n_per_mm"
    low, high = value(r, f"envelope.low.{key}"), value(r, f"envelope.high.{key}")
    assert low < value(r, f"reconstructed.{key}") < high
    assert "mechanics.single_law" not in {d.code for d in r.doubts}


def test_half_a_sacrum_still_carries_by_its_own_joint():
    # The right half is gone: the left one keeps its joint and its half of the disc.
    core = union(cuboid([-33, -10, -36], [-3, 12, -4]), cuboid([-16, -10, -5], [-3, 12, 6]))
    whole = toy_case()
    half = {
        "remnants": {
            "sacrum": cuboid([0, -14, -40], [28, 16, 0]),
            "hip_left": whole.bones["hip_left"],
            "hip_right": whole.remnants["hip_right"],
        },
        "implant_core": core,
        "porous": {
            "wing_right": whole.porous["right"],
            "sacrum": cuboid([-3, -10, -36], [0, 12, -4]),
        },
        "screws": tuple(s for s in whole.screws if s.name != "iliac_left"),
        "rods": tuple(r for r in whole.rods if r.name == "rod_right"),
    }
    r = evaluate(toy_case(**half))
    mesh = r.reconstructed.mesh
    for name in ("sacrum", "sacroiliac_left", "disc_L5_S1", "porous_sacrum"):
        assert mesh.of(name).any()
    assert not mesh.of("sacroiliac_right").any()
    assert abs(value(r, "reconstructed.lc01.unbalanced_n")) < 1e-3
    # Both ways down, the kept joint and the implant, hold L5 up.
    assert value(r, "reconstructed.lc01.stiffness_n_per_mm") > 100.0
    volume = mesh.volumes
    assert volume[mesh.of("sacrum")].sum() == pytest.approx(28 * 30 * 40, rel=0.12)
