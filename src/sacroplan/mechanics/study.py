"""The mechanical study of a reconstruction: intact and reconstructed model under the load catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, MechanicsError
from sacroplan.geometry.frames import AxisFrame, FloatArray, same_frame, unit
from sacroplan.imaging.calibration import Calibration, calibrate
from sacroplan.mechanics import criteria
from sacroplan.mechanics.catalogue import (
    MORE,
    LoadCase,
    anchor_of,
    body_weight_n,
    core_cases,
    load_case,
    spine_path,
    stance_loads,
    unit_loads,
)
from sacroplan.mechanics.contact import ContactState, solve_contact
from sacroplan.mechanics.deck import write_inp
from sacroplan.mechanics.elasticity import rotated
from sacroplan.mechanics.figures import (
    FULL_CASES,
    Bar,
    Solved,
    Strengths,
    bar_figures,
    body_motion,
    bone_figures,
    compared_bone,
    energy_figures,
    fatigue_figures,
    metal_figures,
    model_figures,
    motion_figures,
)
from sacroplan.mechanics.healing import HealingResult, heal
from sacroplan.mechanics.inputs import MechanicsInput, MechanicsOptions
from sacroplan.mechanics.interfaces import Contact, on_nodes
from sacroplan.mechanics.joints import Joints, part_joints
from sacroplan.mechanics.ligaments import sacroiliac_of
from sacroplan.mechanics.loads import (
    endplate_weights,
    face_weights,
    held_faces,
    ischium_nodes,
    nodes_of,
)
from sacroplan.mechanics.materials import Materials, PorousMaterial, assign
from sacroplan.mechanics.mesh import TetMesh
from sacroplan.mechanics.meshing import MeshReport, build_mesh
from sacroplan.mechanics.model import (
    Anatomy,
    ElementSizes,
    RodSolid,
    ScrewSolid,
    bone_solids,
    metal_bounds,
    metal_solids,
    sizing_for,
)
from sacroplan.mechanics.problem import Problem, Solution
from sacroplan.mechanics.reservations import (
    BONDED,
    NO_LIGAMENTS,
    PURE_MOMENTS,
    SCREWS_TIED,
    SINGLE_LAW,
    STIFF_LIGAMENTS,
    model_doubts,
)
from sacroplan.mechanics.results import MechanicsResult, ModelResult, SeatMaps
from sacroplan.mechanics.solids import Solid
from sacroplan.mechanics.solvers import TOLERANCE, account, solve
from sacroplan.metrics import Metric, Metrics
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, part, silent

__all__ = [
    "MechanicsInput",
    "MechanicsOptions",
    "MechanicsResult",
    "ModelResult",
    "PorousMaterial",
    "RodSolid",
    "ScrewSolid",
    "evaluate",
]

COARSE_MM = 8.0
"""Cell of the background lattice; every wanted size is reached from it by bisection."""

NODES_PER_ELEMENT = 1.5
"""Nodes per quadratic tetrahedron in these meshes, measured."""

HABITUAL_CASES = ("lc01", "lc02", "lc03")
"""Standing and walking: the cases of the intact model unless the full catalogue is asked for. The
comparison with it needs habitual loads; its answer to moments costs three more solutions."""

MODEL_BONES = ("L4", "L5", "sacrum", "hip_left", "hip_right")
"""Bones the load cases need; others that come along are ignored."""


def _checked(inp: MechanicsInput) -> None:
    missing = [b for b in MODEL_BONES if b not in inp.bones]
    if missing:
        raise MechanicsError(f"The mechanical study needs {', '.join(missing)}; add the label.")
    unknown = [b for b in inp.remnants if b not in MODEL_BONES]
    if unknown:
        raise MechanicsError(f"{', '.join(unknown)} is no bone of the mechanical model.")
    for side in ("left", "right"):
        if f"hip_{side}" not in inp.remnants:
            raise MechanicsError(f"The remnant of hip_{side} is missing: the model is held there.")
    same_frame(
        inp.volume,
        inp.axes,
        *inp.bones.values(),
        *inp.remnants.values(),
        *inp.porous.values(),
        *([inp.implant_core] if inp.implant_core is not None else []),
    )
    if inp.implant_core is None and not inp.rods:
        raise MechanicsError("There is neither an implant nor a rod: nothing is reconstructed.")


def _mesh(
    anatomy: Anatomy,
    metal: tuple[Solid, ...],
    bounds: FloatArray,
    endplate: tuple[FloatArray, FloatArray],
    options: MechanicsOptions,
    progress: Progress,
) -> tuple[TetMesh, MeshReport]:
    solids = (*metal, *bone_solids(anatomy, *endplate, options.joints == "contact"))
    sizes = ElementSizes.default(options.bone_element_mm, options.metal_element_mm)
    return build_mesh(
        solids,
        {name: Solid(name, "bone", f) for name, f in anatomy.raw.items()},
        bounds,
        COARSE_MM,
        sizing_for(solids, sizes),
        int(options.max_unknowns / 3.0 / NODES_PER_ELEMENT),
        evidence.value("SP-MECH-07", "bond"),
        progress,
    )


def _local_centres(inp: MechanicsInput) -> dict[str, FloatArray]:
    return {s: inp.axes.to_local(np.asarray(c)) for s, c in inp.hip_centres.items()}


UP = np.array([0.0, 1.0, 0.0])
"""Cranial in the local frame."""


def _balanced(model: Solved) -> Solved:
    s = model.solution
    if s.residual > 1e2 * TOLERANCE:
        raise MechanicsError(
            f"The combined load cases of the {model.name} model do not balance: residual "
            f"{s.residual:.1e} of the load."
        )
    return model


def _solved(
    name: str,
    mesh: TetMesh,
    report: MeshReport,
    materials: Materials,
    inp: MechanicsInput,
    endplate: tuple[FloatArray, FloatArray],
    cases: tuple[LoadCase, ...],
    s1: FloatArray,
    progress: Progress,
    joints: Joints | None = None,
) -> tuple[Solved, float]:
    """(all cases that hold the acetabula, mm by which the follower load's path was set forward).

    With ``joints`` of the bonded ``mesh`` every case is solved in contact; the follower load's path
    is then the bonded model's.
    """
    front = 0.0
    if joints is not None:
        turning = tuple(c for c in cases if c.follower_n > 0)
        if turning:
            rest = (inp, endplate, turning, s1, silent)
            front = _solved(name, mesh, report, materials, *rest)[1]
        mesh = joints.parted.mesh
    faces, doubts = held_faces(mesh, _local_centres(inp), UP)
    held = np.any([nodes_of(mesh, f) for f in faces.values()], axis=0)
    weights = endplate_weights(mesh, "L4", *endplate)
    if np.any(held & (weights > 0)):
        raise MechanicsError("L4's endplate and an acetabulum share nodes: landmarks are wrong.")
    units = unit_loads(mesh, weights, spine_path(mesh, s1), anchor_of(mesh))
    mix = np.stack([c.coefficients for c in cases], axis=1)
    if joints is not None:
        mix[5] -= front * mix[6]
        problem = Problem(
            mesh, materials.young_mpa, materials.poisson, held,
            np.einsum("nrb,bc->nrc", units, mix), materials.tensors_mpa, materials.tensor,
        )  # fmt: skip
        titles = tuple(c.title for c in cases)
        answer, states = solve_contact(problem, joints.contact, titles, progress)
        return Solved(
            name, problem, answer, materials, report, weights, cases, doubts, joints, states
        ), front
    follower = any(c.follower_n > 0 for c in cases)
    # With a follower load its unit actions are needed; else the fewest cases that span the others.
    solved = np.eye(7) if follower else mix[:, _independent(mix)]
    problem = Problem(
        mesh, materials.young_mpa, materials.poisson, held,
        np.einsum("nrb,bc->nrc", units, solved), materials.tensors_mpa, materials.tensor,
    )  # fmt: skip
    basis = solve(problem, inp.options.engine, progress)
    one = Solved(name, problem, basis, materials, report, weights, cases, doubts)
    arm = 0.0
    if follower:
        # The follower load must not bend the spine: its path is set forward or back until L4 keeps
        # its sagittal angle, which is the moment of that offset.
        turn = [body_motion(one, "L4", c) for c in (6, 5)]
        assert turn[0] is not None
        assert turn[1] is not None
        arm = -float(turn[0][1][2] / turn[1][1][2])
        mix[5] += arm * mix[6]
    share = np.linalg.lstsq(solved, mix, rcond=None)[0]
    whole = replace(problem, loads=np.einsum("nrb,bc->nrc", units, mix))
    u = np.einsum("nrb,bc->nrc", basis.displacement, share)
    solution = account(whole, u, basis.iterations, basis.engine)
    return _balanced(replace(one, problem=whole, solution=solution)), -arm


def _independent(mix: FloatArray) -> list[int]:
    """Columns of (7, c) that span all of them, the first ones that do."""
    out: list[int] = []
    for c in range(mix.shape[1]):
        scaled = mix[:, [*out, c]] / np.linalg.norm(mix[:, [*out, c]], axis=0)
        if np.linalg.matrix_rank(scaled, tol=1e-6) > len(out):
            out.append(c)
    return out


def _more(
    model: Solved, inp: MechanicsInput, endplate_normal: FloatArray, progress: Progress
) -> tuple[list[Solved], list[Doubt]]:
    """Cases with supports of their own, one solution per support; a doubt for each left out."""
    mesh = model.problem.mesh
    centres = _local_centres(inp)
    faces, doubts = held_faces(mesh, centres, UP)
    out: list[Solved] = []
    missing: list[Doubt] = []
    groups: dict[str, list[LoadCase]] = {}
    for recipe in MORE:
        reason = ""
        if recipe.hip is not None and (doubts or body_weight_n(inp.body_mass_kg) is None):
            reason = "it needs both acetabula in the image and the patient's body mass"
        if recipe.support == "ischia" and ischium_nodes(mesh, centres, UP) is None:
            reason = "the image ends above the ischial tuberosities"
        if reason:
            missing.append(
                Doubt(
                    "mechanics", f"mechanics.left_out_{recipe.name}",
                    f"{recipe.title} was not computed: {reason}.", recipe.rows,
                )
            )  # fmt: skip
            continue
        case = load_case(recipe, endplate_normal, inp.body_mass_kg)
        groups.setdefault(case.support, []).append(case)
    weights = {side: face_weights(mesh, f) for side, f in faces.items()}
    for number, (support, cases) in enumerate(groups.items()):
        if support == "ischia":
            nodes = ischium_nodes(mesh, centres, UP)
            assert nodes is not None
            loads = np.stack([np.outer(model.endplate, c.force_n) for c in cases], axis=2)
        else:
            nodes = nodes_of(mesh, faces[support.removeprefix("stance_")])
            loads = np.stack(
                [stance_loads(mesh, c, model.endplate, centres, weights) for c in cases], axis=2
            )
        problem = replace(model.problem, fixed=nodes, loads=loads)
        share = part(progress, number / len(groups), (number + 1) / len(groups))
        states: tuple[ContactState, ...] = ()
        if model.joints is None:
            solution = solve(problem, inp.options.engine, share)
        else:
            titles = tuple(c.title for c in cases)
            solution, states = solve_contact(problem, model.joints.contact, titles, share)
        out.append(
            replace(model, problem=problem, solution=solution, cases=tuple(cases), states=states)
        )
    return out, missing


class _Fields:
    """Strain and stress of a model's cases, kept for those that are asked for again and again."""

    def __init__(self, model: Solved, kept: tuple[int, ...]) -> None:
        self._model, self._kept = model, kept
        self._known: dict[int, tuple[FloatArray, FloatArray]] = {}

    def __call__(self, c: int) -> tuple[FloatArray, FloatArray]:
        if c in self._known:
            return self._known[c]
        found = self._model.fields(c)
        if c in self._kept:
            self._known[c] = found
        return found


def _full(model: Solved) -> tuple[int, ...]:
    return tuple(c for c in (model.index(n) for n in FULL_CASES) if c is not None)


def _also_in(other: Solved, model: Solved, chosen: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a model's cases that another model has run, too."""
    return tuple(c for c in chosen if other.index(model.cases[c].name) is not None)


def _spread(values: FloatArray, have: tuple[int, ...], wanted: tuple[int, ...]) -> FloatArray:
    """(m, len(wanted)) columns of the cases that there are, NaN for the others."""
    out = np.full((len(values), len(wanted)), np.nan)
    for column, c in enumerate(have):
        out[:, wanted.index(c)] = values[:, column]
    return out


@dataclass(frozen=True, eq=False)
class _Read:
    """What was read off one model."""

    figures: Metrics
    table: list[dict[str, str | float]]
    bars: list[dict[str, str | float]]
    doubts: list[Doubt]
    risk: FloatArray


def _read(
    model: Solved,
    fields: _Fields,
    strengths: Strengths,
    bars: tuple[Bar, ...],
    full: tuple[int, ...],
) -> _Read:
    table: list[dict[str, str | float]] = []
    rods: list[dict[str, str | float]] = []
    doubts: list[Doubt] = []
    figures = motion_figures(model)
    bone, risk = bone_figures(model, fields, full)
    figures |= bone
    if model.joints is not None:
        figures |= model.joints.losses()
        for case, state in zip(model.cases, model.states, strict=True):
            figures |= model.joints.figures(state, case.name, case.rows)
    if bars or model.problem.mesh.of_kind("core", "porous", "screw", "rod").any():
        for c in range(len(model.cases)):
            stress = fields(c)[1]
            metal, low = metal_figures(model, c, stress, strengths, table)
            figures |= metal
            doubts += low
            if c in full:
                figures |= bar_figures(model, c, stress, bars, rods)
        fatigue, low = fatigue_figures(model, figures, strengths)
        figures |= fatigue
        doubts += low
    return _Read(figures, table, rods, doubts, risk)


def _to_lps(
    model: Solved,
    axes: AxisFrame,
    fields: _Fields,
    full: tuple[int, ...],
    risk: FloatArray,
    ratio: FloatArray,
    figures: Metrics,
) -> ModelResult:
    problem, solution = _turned(model, axes, list(full))
    means = []
    energies = []
    for c in full:
        strain, stress = fields(c)
        means.append(criteria.von_mises(stress).mean(axis=1))
        energies.append(criteria.energy_density(stress, strain).mean(axis=1))
    return ModelResult(
        model.name,
        problem,
        solution,
        model.materials,
        model.report,
        tuple(model.cases[c].name for c in full),
        np.stack(means, axis=1),
        risk,
        np.stack(energies, axis=1),
        ratio,
        figures,
    )


def _turned(model: Solved, axes: AxisFrame, chosen: list[int]) -> tuple[Problem, Solution]:
    """Problem and solution of some cases in LPS."""
    turn = axes.axes
    p, s = model.problem, model.solution
    tensors = np.array([rotated(c, turn) for c in p.tensors_mpa]).reshape(-1, 6, 6)
    problem = Problem(
        p.mesh.with_nodes(axes.to_world(p.mesh.nodes)), p.young_mpa, p.poisson, p.fixed,
        np.einsum("ij,njc->nic", turn, p.loads[:, :, chosen]), tensors, p.tensor,
    )  # fmt: skip
    solution = replace(
        s,
        displacement=np.einsum("ij,njc->nic", turn, s.displacement[:, :, chosen]),
        reaction=np.einsum("ij,njc->nic", turn, s.reaction[:, :, chosen]),
    )
    return problem, solution


def _porosity(options: MechanicsOptions) -> float:
    if options.porosity is not None:
        return options.porosity
    return evidence.value("POR-1", "porosity") / 100.0


def _bars(inp: MechanicsInput) -> tuple[Bar, ...]:
    local = inp.axes.to_local
    screws = [Bar(s.name, local(np.stack([s.entry, s.tip])), s.diameter_mm) for s in inp.screws]
    rods = [Bar(r.name, local(np.asarray(r.polyline)), r.diameter_mm) for r in inp.rods]
    return (*screws, *rods)


def _s1(mesh: TetMesh) -> FloatArray:
    """(3,) centre of the lumbosacral disc of the intact mesh, where a follower load leaves L5."""
    at = mesh.of("disc_L5_S1")
    return np.asarray(np.average(mesh.centroids[at], axis=0, weights=mesh.volumes[at]))


def evaluate(inp: MechanicsInput, progress: Progress = silent) -> MechanicsResult:
    """Intact and reconstructed model under the load catalogue, with criteria, decks and doubts.

    Raises :class:`MechanicsError` when a part is missing, floats, lies outside the image, cannot be
    held or loaded, when the solution does not balance or contact does not converge.
    """
    _checked(inp)
    options = inp.options
    axes = inp.axes
    strengths = Strengths(_porosity(options), inp.porous_material)
    endplate = (
        axes.to_local(np.asarray(inp.l4_superior[0])),
        unit(np.asarray(inp.l4_superior[1])) @ axes.axes,
    )
    calibration = inp.calibration or calibrate(inp.volume)
    cases = core_cases(endplate[1], inp.body_mass_kg)
    habitual = tuple(c for c in cases if c.name in HABITUAL_CASES)
    if options.catalogue == "habitual":
        cases = habitual
    progress(0.0, "distance fields")
    intact = Anatomy.of({b: inp.bones[b] for b in MODEL_BONES}, axes)
    sacroiliac = None
    if options.joints == "contact":
        sacroiliac = sacroiliac_of(inp.bones, inp.landmarks, axes)
    cut = Anatomy.of(inp.remnants, axes)
    kept = {b: intact.raw[b] for b in ("L4", "L5") if b not in cut.raw}
    remaining = Anatomy(axes, {**kept, **cut.raw}, intact.bounds)
    metal_parts = (inp.implant_core, inp.porous, inp.screws, inp.rods)
    metal = metal_solids(axes, *metal_parts)
    extent = metal_bounds(axes, *metal_parts)
    assert extent is not None
    bounds = np.stack(
        [np.minimum(intact.bounds[0], extent[0]), np.maximum(intact.bounds[1], extent[1])]
    )

    # Both meshes first: a floating part is then named before anything is solved.
    models = {"intact": (intact, ()), "reconstructed": (remaining, metal)}
    names = list(models)

    def meshed(name: str, progress: Progress) -> tuple[TetMesh, MeshReport]:
        anatomy, solids = models[name]
        return _mesh(anatomy, solids, bounds, endplate, options, progress)

    meshes = dict(zip(names, side_by_side(meshed, names, part(progress, 0.08, 0.3)), strict=True))
    s1 = _s1(meshes["intact"][0])
    bars = _bars(inp)

    wanted = {"reconstructed": cases, "intact": cases}
    if options.catalogue == "core":
        wanted["intact"] = habitual

    def solved(name: str, progress: Progress) -> tuple[Solved, float, _Fields, _Read]:
        mesh, report = meshes[name]
        materials = assign(
            mesh, intact.raw, inp.volume, axes, calibration, options.law, strengths.porosity,
            inp.porous_material,
        )  # fmt: skip
        joints = None
        if sacroiliac is not None:
            joints = part_joints(mesh, materials.young_mpa, sacroiliac, models[name][0].raw)
        model, offset = _solved(
            name, mesh, report, materials, inp, endplate, wanted[name], s1,
            part(progress, 0.1, 0.7), joints,
        )  # fmt: skip
        fields = _Fields(model, _full(model))
        own = _read(model, fields, strengths, bars if name != "intact" else (), _full(model))
        return model, offset, fields, own

    (before, front, old, first), (after, front2, new, second) = side_by_side(
        solved, names, part(progress, 0.3, 0.75)
    )
    offsets = {"intact": front, "reconstructed": front2}

    told = [*before.materials.doubts, *after.materials.doubts]
    told += [d for m in (before, after) for d in model_doubts(m)]
    doubts: list[Doubt] = list(dict.fromkeys(told))
    own: dict[str, Metrics] = {}
    for model, read in ((before, first), (after, second)):
        own[model.name] = {**model_figures(model), **read.figures}
        if not any(c.follower_n > 0 for c in model.cases):
            continue
        own[model.name]["follower.offset_mm"] = Metric(
            offsets[model.name], "mm", "Follower path set forward so that L4 keeps its angle",
            ("LC-04",),
        )  # fmt: skip
    full = _full(after)
    compared = compared_bone(after, intact, cut)
    energy, ratio = energy_figures(after, before, new, _also_in(before, after, full), compared)
    ratio = _spread(ratio, _also_in(before, after, full), full)
    own["reconstructed"] |= energy
    doubts += second.doubts
    if options.catalogue == "full":
        for model in (before, after):
            extra, missing = _more(model, inp, endplate[1], part(progress, 0.75, 0.8))
            doubts += [d for d in missing if d not in doubts]
            for other in extra:
                full_here = tuple(range(len(other.cases)))
                read = _read(
                    other, _Fields(other, ()), strengths, bars if model is after else (), full_here
                )
                own[model.name] |= read.figures
                if model is after:
                    second.table.extend(read.table)
                    second.bars.extend(read.bars)
                    doubts += read.doubts
    figures: Metrics = {}
    for case in cases:
        for key, what in (
            (f"{case.name}.stiffness_n_per_mm", "Stiffness"),
            (f"{case.name}.stiffness_n_m_per_deg", "Stiffness against the moment"),
            (f"{case.name}.l5_displacement_mm", "Displacement of L5"),
        ):
            if key not in own["intact"]:
                continue
            a, b = own["reconstructed"][key].value, own["intact"][key].value
            assert isinstance(a, float)
            assert isinstance(b, float)
            short = "stiffness" if "stiffness" in key else "l5_displacement"
            figures[f"mechanics.ratio.{case.name}.{short}"] = Metric(
                a / b, "1", f"{what}, reconstructed over intact", case.rows
            )
    healing: HealingResult | None = None
    if options.healing:
        healing = heal(after, own["reconstructed"], strengths, part(progress, 0.8, 0.9))
        doubts += [*healing.doubts, SCREWS_TIED]
        figures |= {f"mechanics.healing.{key}": value for key, value in healing.figures.items()}
    else:
        doubts.append(BONDED)
    for name, values in own.items():
        figures |= {f"mechanics.{name}.{key}": value for key, value in values.items()}
    figures |= _calibration_figures(calibration, options)
    if options.envelope:
        for law in ("low", "high"):
            progress(0.9 if law == "low" else 0.93, f"law envelope, {law}")
            figures |= _envelope(
                law,
                after,
                meshes["reconstructed"][0],
                inp,
                intact,
                calibration,
                strengths,
                endplate,
                cases,
                s1,
            )
    else:
        doubts.append(SINGLE_LAW)
    doubts += [NO_LIGAMENTS if sacroiliac is None else STIFF_LIGAMENTS, PURE_MOMENTS]
    progress(0.96, "decks")
    results = {
        "intact": _to_lps(
            before, axes, old, _full(before), first.risk, np.empty((0, 0)), own["intact"]
        ),
        "reconstructed": _to_lps(after, axes, new, full, second.risk, ratio, own["reconstructed"]),
    }
    decks = {
        name: _deck(
            r.problem, r.cases, f"{name} pelvis, bonded",
            None if m.joints is None else _turned_contact(m.joints.contact, axes),
        )
        for (name, r), m in zip(results.items(), (before, after), strict=True)
    }  # fmt: skip
    if healing is not None:
        decks |= _contact_decks(healing, axes)
    progress(1.0, "mechanics done")
    return MechanicsResult(
        results["intact"],
        results["reconstructed"],
        decks,
        tuple(second.table),
        tuple(second.bars),
        () if healing is None else healing.table,
        None if healing is None else _seat_maps(healing, axes),
        calibration,
        dict(sorted(figures.items())),
        tuple(doubts),
    )


def _deck(
    problem: Problem, cases: tuple[str, ...], title: str, contact: Contact | None = None
) -> bytes:
    mesh = problem.mesh
    return write_inp(
        problem,
        cases,
        f"sacroplan {title}",
        node_sets={
            "L5_NODES": np.unique(mesh.elements[mesh.of("L5")]).astype(np.int32),
            "LOADED": np.flatnonzero(np.abs(problem.loads).sum(axis=(1, 2))).astype(np.int32),
        },
        contact=contact,
    )


def _seat_maps(healing: HealingResult, axes: AxisFrame) -> SeatMaps:
    """Displacement, motion, pressure and opening of the frictional stages, LPS."""
    contact, mesh = healing.parted.contact, healing.parted.mesh
    fields: dict[str, npt.NDArray[np.float32]] = {}
    for c, (case, state) in enumerate(zip(healing.model.cases, healing.states, strict=True)):
        u = healing.model.solution.displacement[:, :, c] @ axes.axes.T
        fields[f"displacement_{case.name}_mm"] = u.astype(np.float32)
        for name, values in (
            ("motion_um", 1000.0 * state.slip_mm),
            ("pressure_mpa", state.pressure_mpa),
            ("opening_um", 1000.0 * np.maximum(state.opening_mm, 0.0)),
        ):
            key = name.replace("_", f"_{case.name}_", 1)
            fields[key] = on_nodes(mesh, contact, values).astype(np.float32)
    return SeatMaps(mesh.with_nodes(axes.to_world(mesh.nodes)), fields)


def _turned_contact(contact: Contact, axes: AxisFrame) -> Contact:
    return replace(contact, normal=contact.normal @ axes.axes.T)


def _contact_decks(healing: HealingResult, axes: AxisFrame) -> dict[str, bytes]:
    """One deck per frictional stage: friction remembers, so a case may not follow another."""
    turned = _turned_contact(healing.contact, axes)
    out = {}
    for c, case in enumerate(healing.model.cases):
        problem, _ = _turned(healing.model, axes, [c])
        out[f"frictional_{case.name}"] = _deck(
            problem, (case.name,), f"reconstructed pelvis, {case.title}, frictional seats", turned
        )
    return out


def _calibration_figures(calibration: Calibration, options: MechanicsOptions) -> Metrics:
    return {
        "mechanics.calibration.slope": Metric(
            calibration.slope, "1", "Density calibration, mg/cm3 per HU", ("CAL-01",)
        ),
        "mechanics.calibration.offset": Metric(
            calibration.offset, "mg/cm3", "Density calibration, offset", ("CAL-01",)
        ),
        "mechanics.calibration.method": Metric(
            calibration.method, "text", "Density calibration", ("CAL-01", "CAL-03")
        ),
        "mechanics.law": Metric(
            options.law, "text", "Bone law set", ("EM-08", "EM-10", "EM-14", "SP-MECH-01")
        ),
    }


def _envelope(
    law: str,
    model: Solved,
    mesh: TetMesh,
    inp: MechanicsInput,
    intact: Anatomy,
    calibration: Calibration,
    strengths: Strengths,
    endplate: tuple[FloatArray, FloatArray],
    cases: tuple[LoadCase, ...],
    s1: FloatArray,
) -> Metrics:
    """Motion, bone and metal figures of the reconstructed mesh under another law set."""
    materials = assign(
        mesh, intact.raw, inp.volume, inp.axes, calibration, law, strengths.porosity,
        inp.porous_material,
    )  # fmt: skip
    other, _ = _solved(
        model.name, mesh, model.report, materials, inp, endplate, cases, s1, silent, model.joints
    )
    full = _full(other)
    found = _read(other, _Fields(other, full), strengths, (), full).figures
    return {f"mechanics.envelope.{law}.{key}": value for key, value in found.items()}
