"""Reconstructions of one resection under one load, side by side.

Every road is meshed with the same bones, joints, laws and element sizes and loaded alike, so that what
differs is the reconstruction. Published orders of such roads are held against what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sacroplan import evidence
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.surface import Surface
from sacroplan.imaging.calibration import calibrate
from sacroplan.mechanics import criteria
from sacroplan.mechanics.cases import solve_held
from sacroplan.mechanics.catalogue import LoadCase, core_cases
from sacroplan.mechanics.figures import Solved, body_motion
from sacroplan.mechanics.inputs import MechanicsInput
from sacroplan.mechanics.materials import PorousMaterial, assign
from sacroplan.mechanics.model import (
    Anatomy,
    RodSolid,
    ScrewSolid,
    graft_solids,
    metal_bounds,
    metal_solids,
)
from sacroplan.mechanics.solids import METAL, Solid
from sacroplan.mechanics.study import meshed, porosity_of
from sacroplan.metrics import Metric, Metrics
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, silent

CASE = "lc01"
"""Standing: the load of the published comparisons."""


@dataclass(frozen=True, eq=False)
class Graft:
    """A strut of bone: closed ``surface`` (LPS mm) and the modulus (MPa) of its full section."""

    surface: Surface
    young_mpa: float


@dataclass(frozen=True, eq=False)
class Road:
    """One reconstruction: all that is put between L4, L5 and the pelvis.

    Attributes
    ----------
    name, title : key and words.
    screws, rods, core, porous : metal. porous_material : tensors of its layers by name.
    grafts : struts by name.
    """

    name: str
    title: str
    screws: tuple[ScrewSolid, ...] = ()
    rods: tuple[RodSolid, ...] = ()
    core: Surface | None = None
    porous: Mapping[str, Surface] = field(default_factory=dict)
    porous_material: Mapping[str, PorousMaterial] = field(default_factory=dict)
    grafts: Mapping[str, Graft] = field(default_factory=dict)


@dataclass(frozen=True)
class Stability:
    """What one road does under the load; the figures are NaN where ``why_not`` says why there are none.

    Attributes
    ----------
    stiffness_n_per_mm : at L4's loaded endplate. l5_down_mm : sinking of L5 along the load.
    metal_mpa : largest mean von Mises stress over a 3 mm sphere of metal; metal_p99_mpa : 99th
        volume percentile. unknowns : of the model.
    """

    road: str
    title: str
    stiffness_n_per_mm: float = np.nan
    l5_down_mm: float = np.nan
    metal_mpa: float = np.nan
    metal_p99_mpa: float = np.nan
    unknowns: int = 0
    why_not: str = ""


@dataclass(frozen=True)
class Order:
    """A published order of roads against the one found; ``found`` is empty where a road is missing."""

    what: str
    row: str
    asked: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """``kept``, ``not kept`` or ``not to be judged``."""
        if not self.found:
            return "not to be judged"
        return "kept" if self.asked == self.found else "not kept"


@dataclass(frozen=True)
class Comparison:
    """All roads, the intact pelvis first, and the published orders."""

    rows: tuple[Stability, ...]
    orders: tuple[Order, ...]
    case: str
    force_n: float

    def row(self, road: str) -> Stability | None:
        """The figures of one road; None where it was not compared."""
        return next((r for r in self.rows if r.road == road), None)

    def metrics(self) -> Metrics:
        """Figures under ``mechanics.compare.ROAD.*``."""
        out: Metrics = {}
        for r in self.rows:
            start, rows = f"mechanics.compare.{r.road}", ("LC-01", "SP-MECH-02")
            for name, value, unit_, label in (
                ("stiffness_n_per_mm", r.stiffness_n_per_mm, "N/mm", "stiffness at L4"),
                ("l5_down_mm", r.l5_down_mm, "mm", "sinking of L5"),
                ("metal_mpa", r.metal_mpa, "MPa", "metal stress, largest 3 mm sphere mean"),
            ):
                known = bool(np.isfinite(value))
                out[f"{start}.{name}"] = Metric(
                    value if known else None, unit_, f"{r.title}: {label}", rows
                )
        for o in self.orders:
            key = o.what.replace(" ", "_")
            out[f"mechanics.compare.order.{key}"] = Metric(
                o.verdict, "text", f"Published order, {o.what}", (o.row,)
            )
        return out


INTACT = "intact"


def compare(
    inp: MechanicsInput, roads: tuple[Road, ...], progress: Progress = silent
) -> Comparison:
    """Every road, and the intact pelvis, under standing (LC-01).

    ``inp`` gives image, bones, remnants, landmarks and options; its own metal is not looked at. A road
    whose parts hang in the air or cannot be meshed gets that as its ``why_not``.
    """
    axes = inp.axes
    endplate = inp.endplate
    case = next(c for c in core_cases(endplate[1], inp.body_mass_kg) if c.name == CASE)
    calibration = inp.calibration or calibrate(inp.volume)
    inp = replace(inp, calibration=calibration)
    progress(0.0, "distance fields")
    whole = Anatomy.of({b: inp.bones[b] for b in inp.bones}, axes)
    cut = Anatomy.of(inp.remnants, axes)
    kept = {b: whole.raw[b] for b in ("L4", "L5") if b not in cut.raw}
    remaining = Anatomy(axes, {**kept, **cut.raw}, whole.bounds)
    # One lattice for all: the roads then differ by what they are and not by where elements fall.
    extents = [metal_bounds(axes, r.core, r.porous, r.screws, r.rods) for r in roads]
    boxes = np.stack([whole.bounds, *(e for e in extents if e is not None)])
    bounds = np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])
    work = (Road(INTACT, "Intact pelvis"), *roads)

    def one(road: Road, told: Progress) -> Stability:
        anatomy = whole if road.name == INTACT else remaining
        try:
            return _stability(road, inp, anatomy, whole, bounds, endplate, case, told)
        except MechanicsError as error:
            return Stability(road.name, road.title, why_not=str(error))

    rows = tuple(side_by_side(one, list(work), progress))
    return Comparison(rows, published_orders(rows), case.name, float(np.linalg.norm(case.force_n)))


def _stability(
    road: Road,
    inp: MechanicsInput,
    anatomy: Anatomy,
    whole: Anatomy,
    bounds: FloatArray,
    endplate: tuple[FloatArray, FloatArray],
    case: LoadCase,
    progress: Progress,
) -> Stability:
    axes = inp.axes
    parts = (road.core, road.porous, road.screws, road.rods)
    solids: tuple[Solid, ...] = (
        *metal_solids(axes, *parts),
        *graft_solids(axes, {n: g.surface for n, g in road.grafts.items()}),
    )
    mesh, report = meshed(anatomy, solids, bounds, endplate, inp.options, progress)
    assert inp.calibration is not None
    materials = assign(
        mesh, whole.raw, inp.volume, axes, inp.calibration, inp.options.law,
        porosity_of(inp.options), road.porous_material,
        {n: g.young_mpa for n, g in road.grafts.items()},
    )  # fmt: skip
    progress(0.5, f"{road.title}: solving")
    # Standing has no follower load, so no point of the spine's path is asked for.
    model, _ = solve_held(
        road.name, mesh, report, materials, inp, endplate, (case,), np.zeros(3), silent
    )
    return _read(road, model, case)


def _read(road: Road, model: Solved, case: LoadCase) -> Stability:
    mesh = model.problem.mesh
    down = unit(case.force_n)
    moved = float(model.endplate @ model.solution.displacement[:, :, 0] @ down)
    l5 = body_motion(model, "L5", 0)
    assert l5 is not None
    metal = mesh.of_kind(*METAL)
    peak = None
    if metal.any():
        peak = criteria.peak(mesh, metal, criteria.von_mises(model.fields(0)[1]))
    return Stability(
        road.name, road.title, float(np.linalg.norm(case.force_n)) / moved, float(l5[0] @ down),
        np.nan if peak is None else peak.sphere, np.nan if peak is None else peak.p99,
        3 * len(mesh.nodes),
    )  # fmt: skip


SINGLE, DUAL, FOUR, COLUMN, PRINTED, ALONE = (
    "spf_single", "spf_dual", "spf_four_rods", "spf_ascf", "implant_supplemented", "implant_alone",
)  # fmt: skip
"""Names of the roads that published orders speak of."""


def published_orders(rows: tuple[Stability, ...]) -> tuple[Order, ...]:
    """Published orders [VAL-20, VAL-23] and those of ``rows``, from the largest figure down."""
    known = {r.road: r for r in rows if not r.why_not}

    def order(what: str, row: str, asked: tuple[str, ...], figure: str) -> Order:
        found: tuple[str, ...] = ()
        if all(n in known for n in asked):
            found = tuple(sorted(asked, key=lambda n: -float(getattr(known[n], figure))))
        return Order(what, row, asked, found)

    single, dual = (evidence.value("SP-OPT-08", f"{n}_iliac") for n in ("single", "dual"))
    stiffer = (DUAL, SINGLE) if dual > single else (SINGLE, DUAL)
    return (
        order("stiffness", "SP-OPT-08", stiffer, "stiffness_n_per_mm"),
        order("peak stress", "SP-OPT-10", (FOUR, COLUMN, PRINTED), "metal_mpa"),
        order("sinking of L5", "SP-OPT-10", (FOUR, PRINTED, COLUMN), "l5_down_mm"),
    )
