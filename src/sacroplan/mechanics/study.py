"""The mechanical study of a reconstruction: intact and reconstructed model under the load catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, MechanicsError
from sacroplan.geometry.frames import FloatArray, same_frame
from sacroplan.imaging.calibration import Calibration, calibrate
from sacroplan.mechanics.cases import solve_elsewhere, solve_held
from sacroplan.mechanics.catalogue import (
    LoadCase,
    core_cases,
)
from sacroplan.mechanics.figures import (
    FULL_CASES,
    Bar,
    Solved,
    Strengths,
    bar_figures,
    bone_figures,
    compared_bone,
    energy_figures,
    fatigue_figures,
    metal_figures,
    model_figures,
    motion_figures,
)
from sacroplan.mechanics.handover import contact_decks, deck_of, seat_maps, to_lps, turned_contact
from sacroplan.mechanics.healing import HealingResult, heal
from sacroplan.mechanics.inputs import MechanicsInput, MechanicsOptions
from sacroplan.mechanics.joints import part_joints
from sacroplan.mechanics.ligaments import sacroiliac_of
from sacroplan.mechanics.materials import PorousMaterial, assign
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
from sacroplan.mechanics.reservations import (
    BONDED,
    NO_LIGAMENTS,
    PURE_MOMENTS,
    SCREWS_TIED,
    SINGLE_LAW,
    STIFF_LIGAMENTS,
    model_doubts,
)
from sacroplan.mechanics.results import MechanicsResult, ModelResult
from sacroplan.mechanics.solids import Solid
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
    if inp.options.healing and inp.options.joints == "contact":
        raise MechanicsError(
            'The frictional stages (healing = true) are computed with joints = "bonded" only; run '
            "joints in contact as a study of its own."
        )
    if inp.implant_core is None and not inp.rods:
        raise MechanicsError("There is neither an implant nor a rod: nothing is reconstructed.")


def meshed(
    anatomy: Anatomy,
    metal: tuple[Solid, ...],
    bounds: FloatArray,
    endplate: tuple[FloatArray, FloatArray],
    options: MechanicsOptions,
    progress: Progress,
) -> tuple[TetMesh, MeshReport]:
    """The mesh of bones, joints and what is put in (``metal``, struts), local frame.

    Raises :class:`MechanicsError` where a part hangs in the air or takes no element.
    """
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


def porosity_of(options: MechanicsOptions) -> float:
    """Porosity of layers without a material of their own, 0 to 1."""
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
    strengths = Strengths(porosity_of(options), inp.porous_material)
    endplate = inp.endplate
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

    def mesh_of(name: str, progress: Progress) -> tuple[TetMesh, MeshReport]:
        anatomy, solids = models[name]
        return meshed(anatomy, solids, bounds, endplate, options, progress)

    meshes = dict(zip(names, side_by_side(mesh_of, names, part(progress, 0.08, 0.3)), strict=True))
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
        model, offset = solve_held(
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
            extra, missing = solve_elsewhere(model, inp, endplate[1], part(progress, 0.75, 0.8))
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
        "intact": to_lps(
            before, axes, old, _full(before), first.risk, np.empty((0, 0)), own["intact"]
        ),
        "reconstructed": to_lps(after, axes, new, full, second.risk, ratio, own["reconstructed"]),
    }
    decks = {
        name: deck_of(
            r.problem, r.cases, f"{name} pelvis, bonded",
            None if m.joints is None else turned_contact(m.joints.contact, axes),
        )
        for (name, r), m in zip(results.items(), (before, after), strict=True)
    }  # fmt: skip
    if healing is not None:
        decks |= contact_decks(healing, axes)
    progress(1.0, "mechanics done")
    return MechanicsResult(
        results["intact"],
        results["reconstructed"],
        decks,
        tuple(second.table),
        tuple(second.bars),
        () if healing is None else healing.table,
        None if healing is None else seat_maps(healing, axes),
        calibration,
        dict(sorted(figures.items())),
        tuple(doubts),
    )


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
    other, _ = solve_held(
        model.name, mesh, model.report, materials, inp, endplate, cases, s1, silent, model.joints
    )
    full = _full(other)
    found = _read(other, _Fields(other, full), strengths, (), full).figures
    return {f"mechanics.envelope.{law}.{key}": value for key, value in found.items()}
