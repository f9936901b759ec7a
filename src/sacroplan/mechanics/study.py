"""The mechanical study of a reconstruction: intact and reconstructed model under two load cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, MechanicsError
from sacroplan.geometry.frames import AxisFrame, FloatArray, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume
from sacroplan.imaging.calibration import Calibration, calibrate
from sacroplan.mechanics import criteria, laws
from sacroplan.mechanics.deck import write_inp
from sacroplan.mechanics.loads import LoadCase, endplate_weights, held_nodes, load_cases
from sacroplan.mechanics.materials import Materials, assign
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
from sacroplan.mechanics.solids import Solid
from sacroplan.mechanics.solvers import Problem, Solution, solve
from sacroplan.metrics import Metric, Metrics
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, part, silent

__all__ = [
    "MechanicsInput",
    "MechanicsOptions",
    "MechanicsResult",
    "ModelResult",
    "RodSolid",
    "ScrewSolid",
    "evaluate",
]

COARSE_MM = 8.0
"""Cell of the background lattice; every wanted size is reached from it by bisection."""

NODES_PER_ELEMENT = 1.5
"""Nodes per quadratic tetrahedron in these meshes, measured."""

MODEL_BONES = ("L4", "L5", "sacrum", "hip_left", "hip_right")
"""Bones the load cases need; others that come along are ignored."""

SURFACE_ERROR_MM = 1.5
"""A mesh whose interfaces lie further off than this (95th percentile) earns a doubt."""

METAL_GROUPS: Mapping[str, str] = {
    "core": "implant core",
    "porous": "porous layer",
    "screw": "screws",
    "rod": "rods",
}


@dataclass(frozen=True, slots=True)
class MechanicsOptions:
    """How the study is run.

    Attributes
    ----------
    engine : solver engine.
    law : bone law set (see :data:`sacroplan.mechanics.laws.LAW_SETS`).
    envelope : also solve the reconstructed model with the low and the high law set.
    porosity : of the porous layer, 0 to 1; POR-1 when None.
    max_unknowns : upper limit per model; sizes are scaled up to meet it.
    bone_element_mm, metal_element_mm : wanted element sizes; SP-MECH-08 when None.
    """

    engine: str = "multigrid"
    law: str = "default"
    envelope: bool = False
    porosity: float | None = None
    max_unknowns: int = 450_000
    bone_element_mm: float | None = None
    metal_element_mm: float | None = None


@dataclass(frozen=True, eq=False)
class MechanicsInput:
    """A plan to be evaluated, everything in one frame, LPS mm.

    Attributes
    ----------
    volume : planning CT in HU.
    bones : intact bones, closed: L4, L5, sacrum, hip_left, hip_right.
    remnants : bones that the resection changed and that stay (the hips, perhaps part of the
        sacrum); L4 and L5 are taken from ``bones`` where absent. A bone that is in neither but was
        resected whole (the sacrum) is gone.
    implant_core, porous, screws, rods : the reconstruction; ``implant_core`` may be None.
    hip_centres : side ("left", "right") to (3,).
    axes : pelvic frame, x anterior, y cranial, z right (FRM-1).
    l4_superior : (point (3,), cranial normal (3,)) of L4's superior endplate.
    body_mass_kg : for LC-02; None uses its published force.
    calibration : HU to density; from the histogram of ``volume`` when None.
    """

    volume: Volume
    bones: Mapping[str, Surface]
    remnants: Mapping[str, Surface]
    implant_core: Surface | None
    porous: Mapping[str, Surface]
    screws: tuple[ScrewSolid, ...]
    rods: tuple[RodSolid, ...]
    hip_centres: Mapping[str, FloatArray]
    axes: AxisFrame
    l4_superior: tuple[FloatArray, FloatArray]
    body_mass_kg: float | None = None
    calibration: Calibration | None = None
    options: MechanicsOptions = field(default_factory=MechanicsOptions)


@dataclass(frozen=True, eq=False)
class ModelResult:
    """One solved model, LPS.

    Attributes
    ----------
    name : "intact" or "reconstructed".
    problem : mesh, moduli, held nodes and loads in LPS.
    solution : displacements and reactions in LPS.
    materials : what each element is made of.
    report : what the mesher did.
    cases : load case names, in the order of the arrays.
    von_mises_mpa : (m, c) element means.
    risk : (m, c) bone risk factor, element means, NaN in metal, joints and voids.
    energy_n_mm_per_mm3 : (m, c) strain energy density, element means.
    energy_ratio : (m, c) against the intact model, NaN where not compared; empty for the intact.
    figures : metrics of this model, names without prefix.
    """

    name: str
    problem: Problem
    solution: Solution
    materials: Materials
    report: MeshReport
    cases: tuple[str, ...]
    von_mises_mpa: FloatArray
    risk: FloatArray
    energy_n_mm_per_mm3: FloatArray
    energy_ratio: FloatArray
    figures: Metrics

    @property
    def mesh(self) -> TetMesh:
        """The mesh in LPS."""
        return self.problem.mesh

    def point_data(self) -> dict[str, FloatArray]:
        """Fields on nodes for ParaView."""
        return {
            f"displacement_{case}_mm": self.solution.displacement[:, :, c]
            for c, case in enumerate(self.cases)
        }

    def cell_data(self) -> dict[str, npt.NDArray[Any]]:
        """Fields on elements for ParaView; what does not apply is -1."""
        out: dict[str, npt.NDArray[Any]] = {
            "part": self.mesh.part.astype(np.int32),
            "young_mpa": self.problem.young_mpa,
            "apparent_density_g_cm3": np.nan_to_num(self.materials.apparent_g_cm3, nan=-1.0),
            "cortical_share": self.materials.cortical_share,
        }
        for c, case in enumerate(self.cases):
            out[f"von_mises_{case}_mpa"] = self.von_mises_mpa[:, c]
            out[f"risk_{case}"] = np.nan_to_num(self.risk[:, c], nan=-1.0)
            out[f"energy_{case}_n_mm_per_mm3"] = self.energy_n_mm_per_mm3[:, c]
            if self.energy_ratio.size:
                out[f"energy_ratio_{case}"] = np.nan_to_num(self.energy_ratio[:, c], nan=-1.0)
        return out


@dataclass(frozen=True, eq=False)
class MechanicsResult:
    """The study: both models, figures, decks, doubts.

    ``decks`` maps model names to Abaqus/CalculiX input files; ``table`` has one row per metal part
    and load case for the dossier.
    """

    intact: ModelResult
    reconstructed: ModelResult
    decks: Mapping[str, bytes]
    table: tuple[Mapping[str, str | float], ...]
    calibration: Calibration
    figures: Metrics
    doubts: tuple[Doubt, ...]

    def metrics(self) -> Metrics:
        """All figures under ``mechanics.``."""
        return dict(self.figures)


@dataclass(frozen=True, eq=False)
class _Local:
    """A model in the local frame, before results are turned to LPS."""

    name: str
    problem: Problem
    solution: Solution
    materials: Materials
    report: MeshReport
    weights: FloatArray
    strain: tuple[FloatArray, ...]
    stress: tuple[FloatArray, ...]
    doubts: tuple[Doubt, ...]


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
    solids = (*metal, *bone_solids(anatomy, *endplate))
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


def _solved(
    name: str,
    mesh: TetMesh,
    report: MeshReport,
    materials: Materials,
    inp: MechanicsInput,
    endplate: tuple[FloatArray, FloatArray],
    cases: tuple[LoadCase, ...],
    progress: Progress,
) -> _Local:
    centres = {s: inp.axes.to_local(np.asarray(c)) for s, c in inp.hip_centres.items()}
    held, doubts = held_nodes(mesh, centres, np.array([0.0, 1.0, 0.0]))
    weights = endplate_weights(mesh, "L4", *endplate)
    if np.any(held & (weights > 0)):
        raise MechanicsError("L4's endplate and an acetabulum share nodes: landmarks are wrong.")
    loads = np.stack([np.outer(weights, c.force_n) for c in cases], axis=2)
    problem = Problem(mesh, materials.young_mpa, materials.poisson, held, loads)
    solution = solve(problem, inp.options.engine, progress)
    strain = tuple(
        criteria.element_strains(mesh, solution.displacement[:, :, c]) for c in range(len(cases))
    )
    stress = tuple(criteria.stresses(problem, e) for e in strain)
    return _Local(name, problem, solution, materials, report, weights, strain, stress, doubts)


def _away_from_constraints(model: _Local) -> npt.NDArray[np.bool_]:
    """(m,) elements further than the exclusion zone from every held and loaded node."""
    from scipy.spatial import cKDTree

    mesh = model.problem.mesh
    nodes = mesh.nodes[model.problem.fixed | (model.weights > 0)]
    far = cKDTree(nodes).query(mesh.centroids)[0]
    return np.asarray(far > evidence.value("SP-MECH-02", "exclusion"))


def _l5(model: _Local, c: int) -> FloatArray:
    """(3,) volume mean of L5's displacement, local axes."""
    mesh = model.problem.mesh
    at = mesh.of("L5")
    # The volume integral of a quadratic tetrahedron weighs corners -1/20 and edges 1/5.
    share = np.concatenate([np.full(4, -0.05), np.full(6, 0.2)])
    u = np.einsum("mac,a->mc", model.solution.displacement[mesh.elements[at], :, c], share)
    return np.asarray(np.average(u, axis=0, weights=mesh.volumes[at]))


def _motion_figures(model: _Local, cases: tuple[LoadCase, ...]) -> Metrics:
    out: Metrics = {}
    for c, case in enumerate(cases):
        force = float(np.linalg.norm(case.force_n))
        u = _l5(model, c)
        rows = case.rows
        key = case.name
        out[f"{key}.force_n"] = Metric(force, "N", "Force on L4", rows)
        out[f"{key}.l5_displacement_mm"] = Metric(
            float(np.linalg.norm(u)), "mm", "Displacement of L5", rows
        )
        for axis, label in enumerate(("anterior", "cranial", "right")):
            out[f"{key}.l5_{label}_mm"] = Metric(
                float(u[axis]), "mm", f"Displacement of L5, {label}", rows
            )
        mean = model.weights @ model.solution.displacement[:, :, c]
        along = float(mean @ unit(case.force_n))
        out[f"{key}.stiffness_n_per_mm"] = Metric(
            force / along, "N/mm", "Stiffness at the loaded endplate", rows
        )
    return out


def _bone_figures(model: _Local, cases: tuple[LoadCase, ...]) -> tuple[Metrics, FloatArray]:
    mesh = model.problem.mesh
    bone = mesh.of_kind("bone") & ~model.materials.at_floor
    valid = bone & _away_from_constraints(model)
    out: Metrics = {}
    fields = np.full((len(mesh.elements), len(cases)), np.nan)
    rows = ("FAIL-1", "SP-MECH-02")
    for c, case in enumerate(cases):
        risk = np.zeros((len(mesh.elements), 4))
        risk[bone] = criteria.risk_factor(model.strain[c][bone])
        fields[bone, c] = risk[bone].mean(axis=1)
        p = criteria.peak(mesh, valid, risk)
        if p is None:
            continue
        key = f"{case.name}.bone"
        out[f"{key}.risk_p99"] = Metric(
            p.p99, "1", "Bone risk factor, 99th volume percentile", rows, None, 1.0
        )
        out[f"{key}.risk_sphere"] = Metric(
            p.sphere, "1", "Bone risk factor, largest 3 mm sphere mean", rows, None, 1.0
        )
        out[f"{key}.risk_raw"] = Metric(
            p.raw, "1", "Bone risk factor, raw peak (singular at tied edges)", rows
        )
        over = valid & (risk.mean(axis=1) > 1.0)
        out[f"{key}.overstrained_cm3"] = Metric(
            float(mesh.volumes[over].sum()) / 1e3, "cm3", "Bone beyond its strain limit", rows
        )
    return out, fields


def _yield_of(kind: str, porosity: float) -> tuple[float, tuple[str, ...]]:
    if kind == "porous":
        return laws.porous_titanium(porosity)[1], ("LAT-01", "MAT-T3", "POR-1")
    if kind == "core":
        return evidence.value("MAT-T3", "yield"), ("MAT-T3",)
    return evidence.value("MAT-T1", "yield"), ("MAT-T1",)


def _metal_figures(
    model: _Local, cases: tuple[LoadCase, ...], porosity: float
) -> tuple[Metrics, list[Mapping[str, str | float]], list[Doubt]]:
    mesh = model.problem.mesh
    out: Metrics = {}
    table: list[Mapping[str, str | float]] = []
    doubts: list[Doubt] = []
    needed = evidence.value("SP-MECH-03", "factor")
    for c, case in enumerate(cases):
        vm = criteria.von_mises(model.stress[c])
        for kind, label in METAL_GROUPS.items():
            p = criteria.peak(mesh, mesh.of_kind(kind), vm)
            if p is None:
                continue
            limit, rows = _yield_of(kind, porosity)
            rows = (*rows, "SP-MECH-02", *case.rows)
            key = f"{case.name}.{kind}"
            for name, value, what in (
                ("p99", p.p99, "99th volume percentile"),
                ("sphere", p.sphere, "largest 3 mm sphere mean"),
                ("raw", p.raw, "raw peak (singular at tied edges)"),
            ):
                out[f"{key}.von_mises_{name}_mpa"] = Metric(
                    value, "MPa", f"Von Mises stress, {label}, {what}", rows
                )
            factor = limit / max(p.p99, p.sphere, 1e-12)
            out[f"{key}.safety_factor"] = Metric(
                factor, "1", f"Yield over stress, {label}", (*rows, "SP-MECH-03"), needed
            )
            if factor < needed:
                doubts.append(
                    Doubt(
                        "mechanics",
                        f"mechanics.low_safety_{kind}_{case.name}",
                        f"The {label} reach {max(p.p99, p.sphere):.0f} MPa under {case.name.upper()}, "
                        f"a safety factor of {factor:.2f} against yield; {needed:g} is asked.",
                        (*rows, "SP-MECH-03"),
                    )
                )
        for name, kind in zip(mesh.names, mesh.kinds, strict=True):
            if kind not in METAL_GROUPS:
                continue
            p = criteria.peak(mesh, mesh.of(name), vm)
            if p is not None:
                limit = _yield_of(kind, porosity)[0]
                table.append(
                    {
                        "part": name,
                        "kind": kind,
                        "case": case.name,
                        "von_mises_p99_mpa": p.p99,
                        "von_mises_sphere_mpa": p.sphere,
                        "von_mises_raw_mpa": p.raw,
                        "safety_factor": limit / max(p.p99, p.sphere, 1e-12),
                    }
                )
    return out, table, doubts


def _energy_figures(
    after: _Local, before: _Local, cases: tuple[LoadCase, ...], intact: Anatomy, cut: Anatomy
) -> tuple[Metrics, FloatArray]:
    mesh = after.problem.mesh
    compared = mesh.of_kind("bone") & ~after.materials.at_floor & _away_from_constraints(after)
    slab = evidence.value("SED-2", "slab")
    for name, remnant in cut.raw.items():
        if name not in intact.raw:
            continue
        index = np.flatnonzero(mesh.of(name) & compared)
        where = mesh.centroids[index]
        d, old = remnant(where), intact.raw[name](where)
        # Nearer to the remnant's surface than to the old one: that surface is the cut.
        compared[index[(d > -slab) & (d - old > 0.5)]] = False
    out: Metrics = {}
    ratio = np.full((len(mesh.elements), len(cases)), np.nan)
    rows = ("SED-1", "SED-2", "SED-3")
    for c, case in enumerate(cases):
        energy = criteria.energy_density(after.stress[c], after.strain[c])
        change = criteria.energy_change(
            after.problem, energy, before.problem, before.solution.displacement[:, :, c], compared
        )
        ratio[:, c] = change.ratio
        key = f"{case.name}.energy"
        out[f"{key}.compared_cm3"] = Metric(
            change.compared_mm3 / 1e3, "cm3", "Remaining bone compared with the intact model", rows
        )
        for name, volume, percent in (
            ("reduced_50", change.below_first_mm3, evidence.value("SED-2", "first")),
            ("reduced_75", change.below_second_mm3, evidence.value("SED-2", "second")),
        ):
            label = f"Bone with strain energy density down by more than {percent:g} %"
            out[f"{key}.{name}_cm3"] = Metric(volume / 1e3, "cm3", label, rows)
            out[f"{key}.{name}_percent"] = Metric(
                100.0 * volume / max(change.compared_mm3, 1e-9), "%", label, rows
            )
    return out, ratio


def _model_figures(model: _Local) -> Metrics:
    mesh, r = model.problem.mesh, model.report
    bone = mesh.of_kind("bone")
    floor = float(mesh.volumes[model.materials.at_floor].sum() / mesh.volumes[bone].sum())
    return {
        "mesh.elements": Metric(len(mesh.elements), "count", "Elements"),
        "mesh.unknowns": Metric(model.solution.unknowns, "count", "Unknowns"),
        "mesh.quality_min": Metric(r.quality_min, "1", "Worst element quality (mean ratio)"),
        "mesh.quality_mean": Metric(r.quality_mean, "1", "Mean element quality (mean ratio)"),
        "mesh.surface_error_p95_mm": Metric(
            r.surface_error_p95_mm, "mm", "Interface vertices off their surface, 95th percentile"
        ),
        "mesh.dropped_mm3": Metric(r.dropped_mm3, "mm3", "Detached crumbs removed"),
        "mesh.size_scale": Metric(r.size_scale, "1", "Element size scaled to the unknown limit"),
        "bone.void_share": Metric(floor, "1", "Bone volume at the modulus floor", ("EM-16",)),
        "solver.residual": Metric(model.solution.residual, "1", "Residual force over load"),
        "solver.imbalance": Metric(model.solution.imbalance, "1", "Loads plus reactions over load"),
        "solver.iterations": Metric(model.solution.iterations, "count", "Solver iterations"),
    }


def _to_lps(
    model: _Local,
    axes: AxisFrame,
    cases: tuple[LoadCase, ...],
    risk: FloatArray,
    ratio: FloatArray,
    figures: Metrics,
) -> ModelResult:
    turn = axes.axes
    mesh = model.problem.mesh.with_nodes(axes.to_world(model.problem.mesh.nodes))
    p = model.problem
    problem = Problem(
        mesh, p.young_mpa, p.poisson, p.fixed, np.einsum("ij,njc->nic", turn, p.loads)
    )
    s = model.solution
    solution = Solution(
        np.einsum("ij,njc->nic", turn, s.displacement),
        np.einsum("ij,njc->nic", turn, s.reaction),
        s.residual,
        s.imbalance,
        s.iterations,
        s.unknowns,
        s.engine,
    )
    return ModelResult(
        model.name,
        problem,
        solution,
        model.materials,
        model.report,
        tuple(c.name for c in cases),
        np.stack([criteria.von_mises(x).mean(axis=1) for x in model.stress], axis=1),
        risk,
        np.stack(
            [
                criteria.energy_density(x, e).mean(axis=1)
                for x, e in zip(model.stress, model.strain, strict=True)
            ],
            axis=1,
        ),
        ratio,
        figures,
    )


def _model_doubts(model: _Local) -> list[Doubt]:
    out = [*model.doubts]
    r = model.report
    if r.surface_error_p95_mm > SURFACE_ERROR_MM:
        out.append(
            Doubt(
                "mechanics",
                f"mechanics.coarse_surface_{model.name}",
                f"Interfaces of the {model.name} mesh lie up to {r.surface_error_p95_mm:.1f} mm (95 %) "
                f"off their surfaces; {SURFACE_ERROR_MM:g} mm is usual.",
            )
        )
    if r.dropped_mm3 > 0:
        out.append(
            Doubt(
                "mechanics",
                f"mechanics.crumbs_{model.name}",
                f"{r.dropped_mm3:.0f} mm3 of detached crumbs were left out of the {model.name} model.",
            )
        )
    return out


STANDING_DOUBTS = (
    Doubt(
        "mechanics",
        "mechanics.bonded",
        "All parts are bonded, as after osseointegration; the frictional state before it was not "
        "computed, so early motion and stress are underestimated.",
        ("SP-MECH-07",),
    ),
    Doubt(
        "mechanics",
        "mechanics.no_ligaments",
        "Ligaments, facet joints and muscles are not modelled and discs have no fibres; compare "
        "designs rather than trust absolute motion.",
        ("MAT-B4", "SED-3"),
    ),
)
"""What this model never shows; true for every result."""

SINGLE_LAW = Doubt(
    "mechanics",
    "mechanics.single_law",
    "Bone stiffness laws differ several-fold at pelvic densities and only one was run; switch the "
    "envelope on for the low and high bound.",
    ("EM-02", "EM-08"),
)


def evaluate(inp: MechanicsInput, progress: Progress = silent) -> MechanicsResult:
    """Intact and reconstructed model under LC-01 and LC-02, with criteria, decks and doubts.

    Raises :class:`MechanicsError` when a part is missing, floats, cannot be held or loaded, or when
    the solution does not balance.
    """
    _checked(inp)
    options = inp.options
    axes = inp.axes
    porosity = (
        evidence.value("POR-1", "porosity") / 100.0
        if options.porosity is None
        else options.porosity
    )
    endplate = (
        axes.to_local(np.asarray(inp.l4_superior[0])),
        unit(np.asarray(inp.l4_superior[1])) @ axes.axes,
    )
    calibration = inp.calibration or calibrate(inp.volume)
    cases = load_cases(np.array([0.0, -1.0, 0.0]), endplate[1], inp.body_mass_kg)
    progress(0.0, "distance fields")
    intact = Anatomy.of({b: inp.bones[b] for b in MODEL_BONES}, axes)
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

    def solved(name: str, progress: Progress) -> _Local:
        mesh, report = meshes[name]
        materials = assign(mesh, intact.raw, inp.volume, axes, calibration, options.law, porosity)
        return _solved(name, mesh, report, materials, inp, endplate, cases, progress)

    before, after = side_by_side(solved, names, part(progress, 0.3, 0.85))

    figures: Metrics = {}
    doubts: list[Doubt] = [*before.materials.doubts]
    doubts += [d for d in after.materials.doubts if d not in doubts]
    doubts += [d for m in (before, after) for d in _model_doubts(m) if d not in doubts]
    own: dict[str, Metrics] = {}
    risks: dict[str, FloatArray] = {}
    for model in (before, after):
        bone, risks[model.name] = _bone_figures(model, cases)
        own[model.name] = {**_model_figures(model), **_motion_figures(model, cases), **bone}
    metal_figures, table, low = _metal_figures(after, cases, porosity)
    energy, ratio = _energy_figures(after, before, cases, intact, cut)
    own["reconstructed"] |= {**metal_figures, **energy}
    doubts += low
    for case in cases:
        key = f"{case.name}.stiffness_n_per_mm"
        a, b = own["reconstructed"][key].value, own["intact"][key].value
        assert isinstance(a, float)
        assert isinstance(b, float)
        figures[f"mechanics.ratio.{case.name}.stiffness"] = Metric(
            a / b, "1", "Stiffness, reconstructed over intact", case.rows
        )
    for name, values in own.items():
        figures |= {f"mechanics.{name}.{key}": value for key, value in values.items()}
    figures["mechanics.calibration.slope"] = Metric(
        calibration.slope, "1", "Density calibration, mg/cm3 per HU", ("CAL-01",)
    )
    figures["mechanics.calibration.offset"] = Metric(
        calibration.offset, "mg/cm3", "Density calibration, offset", ("CAL-01",)
    )
    figures["mechanics.calibration.method"] = Metric(
        calibration.method, "text", "Density calibration", ("CAL-01", "CAL-03")
    )
    figures["mechanics.law"] = Metric(
        options.law, "text", "Bone law set", ("EM-08", "EM-10", "EM-14", "SP-MECH-01")
    )
    if options.envelope:
        for law in ("low", "high"):
            progress(0.85 if law == "low" else 0.92, f"law envelope, {law}")
            figures |= _envelope(law, after, inp, intact, calibration, porosity, endplate, cases)
    else:
        doubts.append(SINGLE_LAW)
    doubts += STANDING_DOUBTS
    progress(0.96, "decks")
    results = {
        m.name: _to_lps(
            m, axes, cases, risks[m.name], ratio if m is after else np.empty((0, 0)), own[m.name]
        )
        for m in (before, after)
    }
    decks = {
        name: write_inp(
            r.problem,
            r.cases,
            f"sacroplan {name} pelvis, bonded",
            node_sets={
                "L5_NODES": np.unique(r.mesh.elements[r.mesh.of("L5")]).astype(np.int32),
                "LOADED": np.flatnonzero(np.abs(r.problem.loads).sum(axis=(1, 2))).astype(np.int32),
            },
        )
        for name, r in results.items()
    }
    progress(1.0, "mechanics done")
    return MechanicsResult(
        results["intact"],
        results["reconstructed"],
        decks,
        tuple(table),
        calibration,
        dict(sorted(figures.items())),
        tuple(doubts),
    )


def _envelope(
    law: str,
    model: _Local,
    inp: MechanicsInput,
    intact: Anatomy,
    calibration: Calibration,
    porosity: float,
    endplate: tuple[FloatArray, FloatArray],
    cases: tuple[LoadCase, ...],
) -> Metrics:
    """Motion, bone and metal figures of the reconstructed mesh under another law set."""
    mesh = model.problem.mesh
    materials = assign(mesh, intact.raw, inp.volume, inp.axes, calibration, law, porosity)
    other = _solved(model.name, mesh, model.report, materials, inp, endplate, cases, silent)
    found = {
        **_motion_figures(other, cases),
        **_bone_figures(other, cases)[0],
        **_metal_figures(other, cases, porosity)[0],
    }
    return {f"mechanics.envelope.{law}.{key}": value for key, value in found.items()}
