"""Figures of one solved model: motion, bone, metal, fatigue, screws and rods, strain energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.mechanics import criteria, laws
from sacroplan.mechanics.catalogue import LoadCase
from sacroplan.mechanics.contact import ContactState
from sacroplan.mechanics.fatigue import endurance, goodman_factor
from sacroplan.mechanics.joints import Joints
from sacroplan.mechanics.materials import Materials, PorousMaterial
from sacroplan.mechanics.meshing import MeshReport
from sacroplan.mechanics.model import Anatomy
from sacroplan.mechanics.problem import Problem, Solution
from sacroplan.mechanics.sections import Sections, sections
from sacroplan.metrics import Metric, Metrics

METAL_GROUPS: Mapping[str, str] = {
    "core": "implant core",
    "porous": "porous layers",
    "screw": "screws",
    "rod": "rods",
}
"""Kinds of metal parts and how a reader calls them."""

FULL_CASES = ("lc01", "lc02", "lc03", "lc08")
"""Cases whose bone strain, energy and fields are kept; the moments tell motion and hardware stress."""

STATIC_RULE_CASES = ("lc01", "lc02")
"""Cases to which the static safety rule applies; walking is a matter of fatigue (HANDBOOK 3.2)."""

AXIS_LABELS = ("anterior", "cranial", "right")

FATIGUE_CASES = ("lc02", "lc03")
"""Least and largest load of a walking cycle."""


@dataclass(frozen=True, eq=False)
class Solved:
    """A solved model in the local frame.

    Attributes
    ----------
    endplate : (n,) weights of L4's loaded endplate.
    cases : load cases, in the order of the solution.
    joints : joints in contact and ligaments; None where all joints are bonded.
    states : what they do, one per case; empty where all joints are bonded.
    """

    name: str
    problem: Problem
    solution: Solution
    materials: Materials
    report: MeshReport
    endplate: FloatArray
    cases: tuple[LoadCase, ...]
    doubts: tuple[Doubt, ...]
    joints: Joints | None = None
    states: tuple[ContactState, ...] = ()

    def index(self, name: str) -> int | None:
        """Position of a load case; None when it was not run."""
        names = [c.name for c in self.cases]
        return names.index(name) if name in names else None

    def fields(self, c: int) -> tuple[FloatArray, FloatArray]:
        """(strain, stress), each (m, 4, 6), of load case ``c``."""
        strain = criteria.element_strains(self.problem.mesh, self.solution.displacement[:, :, c])
        return strain, self.problem.stress(strain)


@dataclass(frozen=True, slots=True)
class Bar:
    """A screw or rod for its sections: local ``line`` (n, 3) and nominal diameter."""

    name: str
    line: FloatArray
    diameter_mm: float


@dataclass(frozen=True, eq=False)
class Strengths:
    """Yield and ultimate strength of every metal part.

    Attributes
    ----------
    porosity : of layers without a material of their own.
    porous : those materials by layer.
    """

    porosity: float
    porous: Mapping[str, PorousMaterial]

    def yield_mpa(self, name: str, kind: str) -> tuple[float, tuple[str, ...]]:
        """(yield strength MPa, evidence rows) of a part."""
        if kind == "porous":
            own = self.porous.get(name.removeprefix("porous_"))
            if own is not None and own.yield_mpa is not None:
                return own.yield_mpa, own.rows
            return laws.porous_titanium(self.porosity)[1], ("LAT-01", "MAT-T3", "POR-1")
        if kind == "core":
            return evidence.value("MAT-T3", "yield"), ("MAT-T3",)
        return evidence.value("MAT-T1", "yield"), ("MAT-T1",)


def away_from_constraints(model: Solved) -> npt.NDArray[np.bool_]:
    """(m,) elements further than the exclusion zone from every held and loaded node. SP-MECH-02."""
    from scipy.spatial import cKDTree

    mesh = model.problem.mesh
    nodes = mesh.nodes[model.problem.held.any(axis=1) | (model.endplate > 0)]
    far = cKDTree(nodes).query(mesh.centroids)[0]
    return np.asarray(far > evidence.value("SP-MECH-02", "exclusion"))


def body_motion(model: Solved, name: str, c: int) -> tuple[FloatArray, FloatArray] | None:
    """((3,) mm mean displacement, (3,) deg mean rotation) of a part, local axes; None without it.

    The rotation is that of the rigid motion nearest to the displacements in the least squares sense.
    """
    mesh = model.problem.mesh
    at = mesh.of(name)
    if not at.any():
        return None
    # The volume integral of a quadratic tetrahedron weighs corners -1/20 and edges 1/5.
    share = np.concatenate([np.full(4, -0.05), np.full(6, 0.2)])
    u = np.einsum("mac,a->mc", model.solution.displacement[mesh.elements[at], :, c], share)
    weight = mesh.volumes[at]
    mean = np.average(u, axis=0, weights=weight)
    r = mesh.centroids[at]
    r = r - np.average(r, axis=0, weights=weight)
    inertia = np.einsum("n,nk,nk->", weight, r, r) * np.eye(3)
    inertia -= np.einsum("n,ni,nj->ij", weight, r, r)
    spin = np.linalg.solve(inertia, np.einsum("n,ni->i", weight, np.cross(r, u - mean)))
    return mean, np.degrees(spin)


def _nutation(model: Solved, c: int) -> float | None:
    """Forward rotation, deg, of the sacrum against the mean of both hip bones."""
    parts = [body_motion(model, name, c) for name in ("sacrum", "hip_left", "hip_right")]
    if any(p is None for p in parts):
        return None
    turn = [float(p[1][2]) for p in parts if p is not None]
    # Forward is a negative turn about the axis to the right.
    return 0.5 * (turn[1] + turn[2]) - turn[0]


def motion_figures(model: Solved) -> Metrics:
    """Force, motion of L5, rotations of L4 and L5, stiffness and balance of every case."""
    out: Metrics = {}
    for c, case in enumerate(model.cases):
        key, rows = case.name, case.rows
        force = float(np.linalg.norm(case.force_n))
        moment = float(np.linalg.norm(case.moment_n_mm)) / 1000.0
        out[f"{key}.force_n"] = Metric(force, "N", "Force on L4", rows)
        if moment > 0:
            out[f"{key}.moment_n_m"] = Metric(moment, "N.m", "Moment on L4", rows)
        l5 = body_motion(model, "L5", c)
        l4 = body_motion(model, "L4", c)
        assert l5 is not None
        assert l4 is not None
        u = l5[0]
        out[f"{key}.l5_displacement_mm"] = Metric(
            float(np.linalg.norm(u)), "mm", "Displacement of L5", rows
        )
        for axis, label in enumerate(AXIS_LABELS):
            out[f"{key}.l5_{label}_mm"] = Metric(
                float(u[axis]), "mm", f"Displacement of L5, {label}", rows
            )
        out[f"{key}.l5_rotation_deg"] = Metric(
            float(np.linalg.norm(l5[1])), "deg", "Rotation of L5 against the pelvis", rows
        )
        nutation = _nutation(model, c)
        if nutation is not None:
            out[f"{key}.nutation_deg"] = Metric(
                nutation, "deg", "Nutation of the sacrum against the hip bones", (*rows, "VAL-06")
            )
        if moment > 0:
            turn = float(l4[1] @ unit(case.moment_n_mm))
            out[f"{key}.l4_rotation_deg"] = Metric(
                turn, "deg", "Rotation of L4 about the moment's axis", rows
            )
            out[f"{key}.stiffness_n_m_per_deg"] = Metric(
                moment / turn, "N.m/deg", "Stiffness against the moment at L4", rows
            )
        elif force > 0:
            mean = model.endplate @ model.solution.displacement[:, :, c]
            along = float(mean @ unit(case.force_n))
            out[f"{key}.stiffness_n_per_mm"] = Metric(
                force / along, "N/mm", "Stiffness at the loaded endplate", rows
            )
        loads = model.problem.loads[:, :, c].sum(axis=0)
        reaction = model.solution.reaction[:, :, c].sum(axis=0)
        out[f"{key}.reaction_n"] = Metric(
            float(np.linalg.norm(reaction)), "N", "Reaction at the supports", rows
        )
        out[f"{key}.unbalanced_n"] = Metric(
            float(np.linalg.norm(loads + reaction)), "N", "Loads plus reactions", rows
        )
    return out


def bone_figures(
    model: Solved, fields: Callable[[int], tuple[FloatArray, FloatArray]], wanted: tuple[int, ...]
) -> tuple[Metrics, FloatArray]:
    """(figures, (m, len(wanted)) element means of the risk factor, NaN outside bone)."""
    mesh = model.problem.mesh
    bone = mesh.of_kind("bone") & ~model.materials.at_floor
    valid = bone & away_from_constraints(model)
    out: Metrics = {}
    means = np.full((len(mesh.elements), len(wanted)), np.nan)
    rows = ("FAIL-1", "SP-MECH-02")
    for column, c in enumerate(wanted):
        risk = np.zeros((len(mesh.elements), 4))
        risk[bone] = criteria.risk_factor(fields(c)[0][bone])
        means[bone, column] = risk[bone].mean(axis=1)
        p = criteria.peak(mesh, valid, risk)
        if p is None:
            continue
        key = f"{model.cases[c].name}.bone"
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
    return out, means


def _reach(kind: str) -> str:
    return "reaches" if kind == "core" else "reach"


def _peak(model: Solved, stress: FloatArray, chosen: npt.NDArray[np.bool_]) -> criteria.Peak | None:
    mesh = model.problem.mesh
    if not chosen.any():
        return None
    vm = np.zeros((len(mesh.elements), stress.shape[1]))
    vm[chosen] = criteria.von_mises(stress[chosen])
    return criteria.peak(mesh, chosen, vm)


def metal_figures(
    model: Solved,
    c: int,
    stress: FloatArray,
    strengths: Strengths,
    table: list[dict[str, str | float]],
) -> tuple[Metrics, list[Doubt]]:
    """Von Mises figures and static safety of one case; rows are added to ``table``."""
    mesh, case = model.problem.mesh, model.cases[c]
    out: Metrics = {}
    doubts: list[Doubt] = []
    needed = evidence.value("SP-MECH-03", "factor")
    ruled = case.name in STATIC_RULE_CASES
    for name, kind in zip(mesh.names, mesh.kinds, strict=True):
        if kind not in METAL_GROUPS:
            continue
        p = _peak(model, stress, mesh.of(name))
        if p is None:
            continue
        limit = strengths.yield_mpa(name, kind)[0]
        factor = limit / max(p.p99, p.sphere, 1e-12)
        table.append(
            {
                "part": name,
                "kind": kind,
                "case": case.name,
                "von_mises_p99_mpa": p.p99,
                "von_mises_sphere_mpa": p.sphere,
                "von_mises_raw_mpa": p.raw,
                "safety_factor": factor,
            }
        )
    for kind, label in METAL_GROUPS.items():
        p = _peak(model, stress, mesh.of_kind(kind))
        if p is None:
            continue
        one = next(n for n, k in zip(mesh.names, mesh.kinds, strict=True) if k == kind)
        limit, rows = strengths.yield_mpa(one, kind)
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
            factor, "1", f"Yield over stress, {label}", (*rows, "SP-MECH-03"),
            needed if ruled else None,
        )  # fmt: skip
        if ruled and factor < needed:
            doubts.append(
                Doubt(
                    "mechanics",
                    f"mechanics.low_safety_{kind}_{case.name}",
                    f"The {label} {_reach(kind)} {max(p.p99, p.sphere):.0f} MPa under {case.name.upper()}, "
                    f"a safety factor of {factor:.2f} against yield; {needed:g} is asked.",
                    (*rows, "SP-MECH-03"),
                )
            )
    return out, doubts


def fatigue_figures(
    model: Solved, metal: Metrics, strengths: Strengths
) -> tuple[Metrics, list[Doubt]]:
    """Goodman factors of walking, from the von Mises figures of the gait peak in ``metal``."""
    least, most = (model.index(n) for n in FATIGUE_CASES)
    if least is None or most is None:
        return {}, []
    ratio = float(
        np.linalg.norm(model.cases[least].force_n) / np.linalg.norm(model.cases[most].force_n)
    )
    mesh = model.problem.mesh
    out: Metrics = {
        "fatigue.stress_ratio": Metric(
            ratio, "1", "Least over largest load of a walking cycle", ("LC-02", "LC-03", "FAT-09")
        )
    }
    doubts: list[Doubt] = []
    for kind, label in METAL_GROUPS.items():
        keys = [f"{FATIGUE_CASES[1]}.{kind}.von_mises_{n}_mpa" for n in ("p99", "sphere")]
        if keys[0] not in metal:
            continue
        values = [metal[k].value for k in keys]
        largest = max(v for v in values if isinstance(v, float))
        one = next(n for n, k in zip(mesh.names, mesh.kinds, strict=True) if k == kind)
        limit = endurance(kind, laws.porous_ultimate(strengths.yield_mpa(one, kind)[0]))
        factor = goodman_factor(largest, ratio, limit)
        rows = (*limit.rows, "LC-02", "LC-03", "FAT-09")
        out[f"fatigue.{kind}.factor"] = Metric(
            factor, "1", f"Fatigue factor in walking, {label} ({limit.surface})", rows, limit.factor
        )
        out[f"fatigue.{kind}.strength_mpa"] = Metric(
            limit.strength_mpa, "MPa", f"Fatigue strength, {label} ({limit.surface})", limit.rows
        )
        if factor < limit.factor:
            doubts.append(
                Doubt(
                    "mechanics",
                    f"mechanics.low_fatigue_{kind}",
                    f"The {label} ({limit.surface}) {_reach(kind)} {largest:.0f} MPa at the gait peak, a "
                    f"fatigue factor of {factor:.2f}; {limit.factor:g} is asked.",
                    rows,
                )
            )
    return out, doubts


def bar_sections(model: Solved, stress: FloatArray, bars: tuple[Bar, ...]) -> dict[str, Sections]:
    """Sections of every screw and rod in one case, from its stresses (m, 4, 6)."""
    mesh = model.problem.mesh
    out = {}
    for bar in bars:
        index = np.flatnonzero(mesh.of(bar.name)).astype(np.int32)
        if len(index):
            out[bar.name] = sections(mesh, index, stress[index], bar.line, bar.diameter_mm)
    return out


def bar_figures(
    model: Solved,
    c: int,
    stress: FloatArray,
    bars: tuple[Bar, ...],
    table: list[dict[str, str | float]],
) -> Metrics:
    """Largest section forces of screws and rods in one case; rows are added to ``table``."""
    case = model.cases[c]
    mesh = model.problem.mesh
    kinds = dict(zip(mesh.names, mesh.kinds, strict=True))
    out: Metrics = {}
    for name, s in bar_sections(model, stress, bars).items():
        rows = case.rows
        axial = s.axial_n[int(np.argmax(np.abs(s.axial_n)))]
        key = f"{case.name}.{kinds[name]}s.{name}"
        values = {
            "axial_n": (float(axial), "N", "largest axial force (tension positive)"),
            "shear_n": (float(s.shear_n.max()), "N", "largest shear force"),
            "bending_n_m": (float(s.bending_n_mm.max()) / 1e3, "N.m", "largest bending moment"),
            "torsion_n_m": (
                float(np.abs(s.torsion_n_mm).max()) / 1e3, "N.m", "largest torsion",
            ),
            "nominal_mpa": (float(s.nominal_mpa.max()), "MPa", "nominal fibre stress"),
        }  # fmt: skip
        for what, (value, unit_name, label) in values.items():
            out[f"{key}.{what}"] = Metric(value, unit_name, f"{name}, {label}", rows)
        table.append({"part": name, "case": case.name, **{k: v[0] for k, v in values.items()}})
    return out


def compared_bone(after: Solved, intact: Anatomy, cut: Anatomy) -> npt.NDArray[np.bool_]:
    """(m,) elements whose energy is compared with the intact model: bone away from cut and supports."""
    mesh = after.problem.mesh
    compared = mesh.of_kind("bone") & ~after.materials.at_floor & away_from_constraints(after)
    slab = evidence.value("SED-2", "slab")
    for name, remnant in cut.raw.items():
        if name not in intact.raw:
            continue
        index = np.flatnonzero(mesh.of(name) & compared)
        where = mesh.centroids[index]
        d, old = remnant(where), intact.raw[name](where)
        # Nearer to the remnant's surface than to the old one: that surface is the cut.
        compared[index[(d > -slab) & (d - old > 0.5)]] = False
    return compared


def energy_figures(
    after: Solved,
    before: Solved,
    fields: Callable[[int], tuple[FloatArray, FloatArray]],
    wanted: tuple[int, ...],
    compared: npt.NDArray[np.bool_],
) -> tuple[Metrics, FloatArray]:
    """(figures, (m, len(wanted)) energy ratio) against the intact model. SED-1, SED-2."""
    mesh = after.problem.mesh
    out: Metrics = {}
    ratio = np.full((len(mesh.elements), len(wanted)), np.nan)
    rows = ("SED-1", "SED-2", "SED-3", "SED-4")
    for column, c in enumerate(wanted):
        case = after.cases[c]
        old = before.index(case.name)
        assert old is not None
        strain, stress = fields(c)
        change = criteria.energy_change(
            after.problem, criteria.energy_density(stress, strain), before.problem,
            before.solution.displacement[:, :, old], compared,
        )  # fmt: skip
        ratio[:, column] = change.ratio
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


def model_figures(model: Solved) -> Metrics:
    """Mesh and solver figures."""
    mesh, r = model.problem.mesh, model.report
    bone = mesh.of_kind("bone")
    floor = float(mesh.volumes[model.materials.at_floor].sum() / mesh.volumes[bone].sum())
    s = model.solution
    return {
        "mesh.elements": Metric(len(mesh.elements), "count", "Elements"),
        "mesh.unknowns": Metric(s.unknowns, "count", "Unknowns"),
        "mesh.quality_min": Metric(r.quality_min, "1", "Worst element quality (mean ratio)"),
        "mesh.quality_mean": Metric(r.quality_mean, "1", "Mean element quality (mean ratio)"),
        "mesh.surface_error_p95_mm": Metric(
            r.surface_error_p95_mm, "mm", "Interface vertices off their surface, 95th percentile"
        ),
        "mesh.dropped_mm3": Metric(r.dropped_mm3, "mm3", "Detached crumbs removed"),
        "mesh.size_scale": Metric(r.size_scale, "1", "Element size scaled to the unknown limit"),
        "bone.void_share": Metric(floor, "1", "Bone volume at the modulus floor", ("EM-16",)),
        "solver.residual": Metric(s.residual, "1", "Residual force over load"),
        "solver.imbalance": Metric(s.imbalance, "1", "Loads plus reactions over load"),
        "solver.iterations": Metric(s.iterations, "count", "Solver iterations"),
    }
