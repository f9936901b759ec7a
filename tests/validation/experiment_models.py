"""Cadaver experiments as models: the Visible Human Male's bones with simulated HU, cut and fixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from sacroplan import evidence
from sacroplan.anatomy.landmarks import find
from sacroplan.fixation.construct import plan_construct
from sacroplan.fixation.rods import plan_rods
from sacroplan.formats.stl import read_stl
from sacroplan.geometry import booleans
from sacroplan.geometry.frames import Plane
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.imaging import simulated
from sacroplan.imaging.calibration import calibrate
from sacroplan.mechanics.contact import solve_contact
from sacroplan.mechanics.figures import Solved, body_motion
from sacroplan.mechanics.joints import Joints, part_joints
from sacroplan.mechanics.ligaments import sacroiliac_of
from sacroplan.mechanics.loads import endplate_weights, held_faces, nodes_of
from sacroplan.mechanics.materials import Materials, assign
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
from sacroplan.mechanics.solids import Solid
from sacroplan.mechanics.solvers import solve

VERTEBRAE = ("L2", "L3", "L4", "L5")
PELVIS = ("sacrum", "hip_left", "hip_right")
IDS = {name: n for n, name in enumerate(("L5", "L4", "L3", "L2", *PELVIS), 1)}
UP = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True, eq=False)
class Specimen:
    """Bones, simulated CT, landmarks and joints of the Visible Human Male."""

    bones: Mapping
    volume: object
    marks: object
    calibration: object
    sacroiliac: object

    @property
    def axes(self):
        return self.marks.frame("pelvis")


@cache
def specimen(folder: Path) -> Specimen:
    bones = {n: read_stl(folder / f"{n}.stl") for n in IDS}
    grid = VolumeGeometry(
        (410, 400, 350), np.array([1.0, 1.0, 1.0]), np.array([-204.4, -200, -178])
    )
    volume = simulated.simulate(bones, IDS, grid).volume
    marks = find(bones, np.eye(3))
    joints = sacroiliac_of(bones, marks.points, marks.frame("pelvis"))
    return Specimen(bones, volume, marks, calibrate(volume), joints)


BARS_BONE_MM = 9.0
"""Bone element where there are screws and rods: the elements are spent on those instead."""


def round_bars(mesh, screws, rods):
    """(m,) factor on the modulus that gives chamfered bars the bending stiffness of round ones.

    Elements of a third of the diameter lose some of a bar's section; its second moment goes with the
    square of that.
    """
    factor = np.ones(len(mesh.elements))
    length = {r.name: np.linalg.norm(np.diff(r.polyline, axis=0), axis=1).sum() for r in rods}
    inside = max((0.5 * r.diameter_mm for r in rods), default=0.0)
    length |= {s.name: np.linalg.norm(s.tip - s.entry) - inside for s in screws}
    for bar in (*rods, *screws):
        if bar.name.startswith("connector"):
            continue
        at = mesh.of(bar.name)
        true = 0.25 * np.pi * bar.diameter_mm**2 * length[bar.name]
        share = mesh.volumes[at].sum() / true
        # A bar that lost more than this is no bar any more.
        assert share > 0.75, (bar.name, share)
        factor[at] = share**-2.0
    return factor


@dataclass(frozen=True, eq=False)
class Built:
    """A meshed model, its joints parted, held at both acetabula."""

    mesh: object
    report: MeshReport
    materials: Materials
    joints: Joints | None
    held: np.ndarray
    top: np.ndarray
    """(n,) weights of the uppermost endplate."""
    centre: np.ndarray
    """(3,) of that endplate, local frame."""

    def solved(self, loads, fixed=None, prescribed=None) -> Solution:
        problem = Problem(
            self.mesh, self.materials.young_mpa, self.materials.poisson,
            self.held if fixed is None else fixed, loads, self.materials.tensors_mpa,
            self.materials.tensor, prescribed,
        )  # fmt: skip
        if self.joints is None:
            return problem, solve(problem)
        return problem, solve_contact(problem, self.joints.contact, ("experiment",))[0]


def build(
    spec: Specimen,
    bones: Mapping,
    screws: Sequence[ScrewSolid] = (),
    rods: Sequence[RodSolid] = (),
    core=None,
    porous: Mapping | None = None,
    elements: int | None = None,
    contact: bool = True,
    ligaments: float = 1.0,
    cartilage: float = 1.0,
) -> Built:
    """The model of ``bones`` (those that remain, LPS) with metal; loaded at its uppermost vertebra.

    ``ligaments`` and ``cartilage`` scale the stiffness of the ligaments and of the sacroiliac joint.
    """
    axes = spec.axes
    intact = Anatomy.of({n: spec.bones[n] for n in bones}, axes)
    cut = {n: s for n, s in bones.items() if s is not spec.bones[n]}
    remaining = intact.merged(Anatomy.of(cut, axes)) if cut else intact
    upper = next(n for n in VERTEBRAE if n in bones)
    plate = spec.marks.frame(f"{upper}SEP")
    endplate = axes.to_local(plate.origin), plate.axes[:, 1] @ axes.axes
    parts = (core, porous or {}, tuple(screws), tuple(rods))
    solids = (*metal_solids(axes, *parts), *bone_solids(remaining, *endplate, contact))
    bounds, metal = intact.bounds, metal_bounds(axes, *parts)
    if metal is not None:
        bounds = np.stack([np.minimum(bounds[0], metal[0]), np.maximum(bounds[1], metal[1])])
    bars = len(rods) > 0
    most = elements or (50_000 if bars else 40_000)
    sizes = ElementSizes.default(BARS_BONE_MM if bars else None)
    mesh, report = build_mesh(
        solids, {n: Solid(n, "bone", f) for n, f in remaining.raw.items()}, bounds, 8.0,
        sizing_for(solids, sizes), most,
        evidence.value("SP-MECH-07", "bond"),
    )  # fmt: skip
    made = assign(mesh, intact.raw, spec.volume, axes, spec.calibration, "default", 0.7)
    made = replace(made, young_mpa=made.young_mpa * round_bars(mesh, screws, rods))
    joints = None
    if contact:
        layer = np.array([n.startswith("sacroiliac") for n in mesh.names])[mesh.part]
        made = replace(made, young_mpa=np.where(layer, cartilage, 1.0) * made.young_mpa)
        fibres = spec.sacroiliac.fibres
        bundle = replace(fibres, stiffness=ligaments * fibres.stiffness)
        sacroiliac = replace(spec.sacroiliac, fibres=bundle)
        joints = part_joints(mesh, made.young_mpa, sacroiliac, remaining.raw)
        mesh = mesh if joints is None else joints.parted.mesh
    centres = {s: axes.to_local(spec.marks.point(f"HJC_{s[0].upper()}")) for s in ("left", "right")}
    faces, _ = held_faces(mesh, centres, UP)
    held = np.any([nodes_of(mesh, f) for f in faces.values()], axis=0)
    top = endplate_weights(mesh, upper, *endplate)
    return Built(mesh, report, made, joints, held, top, endplate[0])


def pressed(built: Built, force_n: float):
    """(N/mm, nutation deg or None, model) under a free vertical force on the uppermost endplate."""
    loads = np.outer(built.top, -force_n * UP)[:, :, None]
    problem, answer = built.solved(loads)
    model = Solved(
        "experiment", problem, answer, built.materials, built.report, built.top, (), (),
        built.joints,
    )  # fmt: skip
    moved = -float(built.top @ answer.displacement[:, 1, 0])
    turn = [body_motion(model, n, 0) for n in ("sacrum", "hip_left", "hip_right")]
    nutation = None
    if turn[0] is not None:
        nutation = 0.5 * float(turn[1][1][2] + turn[2][1][2]) - float(turn[0][1][2])
    return force_n / moved, nutation, model


def clamped(built: Built, motion: str) -> float:
    """Stiffness of a specimen whose uppermost endplate is clamped in the machine.

    ``compression``: N/mm, the clamp moves down; ``torsion``: N.m/deg, it turns about the vertical.
    """
    top = built.top > 0
    fixed = np.repeat(built.held[:, None], 3, axis=1)
    fixed[top] = True
    r = built.mesh.nodes - built.centre
    way = np.zeros((len(r), 3))
    if motion == "compression":
        way[top] = -UP
    else:
        way[top] = np.deg2rad(1.0) * np.cross(UP, r[top])
    none = np.zeros((*way.shape, 1))
    _, answer = built.solved(none, fixed, way[:, :, None])
    reaction = answer.reaction[top, :, 0]
    if motion == "compression":
        return float(-reaction[:, 1].sum())
    return float(np.cross(r[top], reaction).sum(axis=0) @ UP) / 1000.0


def below_joint_share(spec: Specimen, sacrum, share: float):
    """The sacrum cut square to its axis so that ``share`` of the joints' area goes."""
    up = spec.marks.frame("S1EP").axes[:, 1]
    height = np.concatenate([j.patch @ up for j in spec.marks.joints.values()])
    area = np.concatenate([j.areas for j in spec.marks.joints.values()])
    order = np.argsort(height)
    at = float(np.interp(share * area.sum(), np.cumsum(area[order]), height[order]))
    return above(sacrum, Plane(at * up, up))


def above(bone, plane: Plane):
    """The piece of a bone on the side to which the plane's normal points."""
    pieces = [b for b in booleans.split(bone, plane) if b is not None]
    return max(pieces, key=lambda b: float((b.vertices.mean(axis=0) - plane.point) @ plane.normal))


def foramina(spec: Specimen):
    """(middle of the S1 foramina, cranial direction of the first endplate)."""
    points = [spec.marks.point(f"S1{a}F_{s}") for a in "AP" for s in "LR"]
    return np.mean(points, axis=0), spec.marks.frame("S1EP").axes[:, 1]


@cache
def planned(spec: Specimen, construct: str):
    """Planned screws of a construct by side, cranial first."""
    m = spec.marks
    plan = plan_construct(construct, spec.bones, m.frames, m.points, m.hip_radius_mm)
    assert not plan.missing
    return {s: [p.screw for p in plan.on_side(s)] for s in ("left", "right")}


def tied(screws, rods):
    """Screws that begin on the nearest rod of their side: the tulip holds them together."""
    out = []
    for side, own in screws.items():
        lines = [r.polyline for r in rods if r.name.split("_")[1] == side]
        for s in own:
            line = np.concatenate(lines)
            near = line[np.argmin(np.linalg.norm(line - s.head, axis=1))]
            out.append(ScrewSolid(s.name, near, s.tip, s.diameter_mm))
    return tuple(out)


def rods_through(screws, name: str, bones=(), posts=None, implant=None):
    """A rod a side through the heads of ``screws``, cranial first, and then through posts."""
    heads = {s: [(x.head, x.direction) for x in own] for s, own in screws.items()}
    plan = plan_rods(heads, posts, bones=list(bones), implant=implant)
    return tuple(RodSolid(f"{name}_{r.side}", r.polyline, r.diameter_mm) for r in plan.rods)


ILIAC_MM = 7.5
"""Iliac screws of every state: the widest of which two fit, for the paper's states differ in their
number and not in their size."""


def fixation(spec: Specimen, construct: str):
    """(screws, rods) of a construct with one rod a side."""
    screws = {
        side: [replace(s, diameter_mm=ILIAC_MM) if s.kind == "iliac" else s for s in own]
        for side, own in planned(spec, construct).items()
    }
    rods = rods_through(screws, "rod", spec.bones.values())
    return tied(screws, rods), rods
