"""Defects to build implants for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sacroplan.formats.stl import read_stl
from sacroplan.geometry.booleans import bodies, difference, split, union
from sacroplan.geometry.frames import AxisFrame, Plane, unit
from sacroplan.geometry.primitives import box, lathe, sphere
from sacroplan.implant.two_wing import FlatSeat, ImplantInput, WingSeat

# Columns anterior, cranial, right of an untilted pelvis, in LPS.
UPRIGHT = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def blocky_case(left_tilt_deg=8.0, right_tilt_deg=3.0, left_slab_mm=30.0, right_slab_mm=34.0):
    """Turned and sawn solids with known faces; left and right differ on purpose."""
    axes = AxisFrame("pelvis", np.array([3.0, -20.0, -95.0]), UPRIGHT)
    up = np.array([0.0, 0.0, 1.0])
    # Vertebral body: a slightly oblique cylinder with a concave underside; two transverse processes.
    tilt = np.radians(15.0)
    cranial = np.array([0.0, -np.sin(tilt), np.cos(tilt)])
    origin = np.array([0.0, -6.0, 10.0])
    body = lathe(origin, cranial, [[0.0, 21.0], [28.0, 21.0]], segments=96)
    body = difference(body, sphere(origin - 58.0 * cranial, 60.0, rings=96))
    level = AxisFrame("lps", np.zeros(3), np.eye(3))
    process = box(level, [-46.0, 10.0, 22.0], [44.0, 18.0, 32.0])
    l5 = union(body, process)
    anterior = unit(np.array([0.0, -1.0, 0.0]) + cranial[1] * cranial)
    endplate = AxisFrame(
        "L5 inferior endplate",
        origin,
        np.stack([anterior, cranial, np.cross(anterior, cranial)], axis=1),
    )
    seats = []
    for side, s, tilt_deg, slab in (
        ("left", 1.0, left_tilt_deg, left_slab_mm),
        ("right", -1.0, right_tilt_deg, right_slab_mm),
    ):
        # An iliac blade: a slab that runs from behind-medial to front-lateral.
        along = unit([s * 1.0, -1.0, 0.0])
        across = np.cross(up, along)
        blade = AxisFrame(
            f"blade {side}", np.array([s * 62.0, 28.0, 0.0]), np.stack([along, across, up], axis=1)
        )
        slab_solid = box(blade, [-60.0, -0.5 * slab, -45.0], [90.0, 0.5 * slab, 55.0])
        a = np.radians(tilt_deg)
        plane = Plane(blade.origin, [-s * np.cos(a), 0.0, np.sin(a)])
        seats.append(WingSeat(side, plane, split(slab_solid, plane)[1]))
    specimen = box(level, [-58.0, -18.0, -90.0], [58.0, 62.0, 2.0])
    targets = {"left": np.array([22.0, 50.0, 30.0]), "right": np.array([-24.0, 48.0, 28.0])}
    return ImplantInput(axes, l5, endplate, tuple(seats), specimen, rod_targets=targets)


def hemi_case(side="right", halved_l5=False):
    """Half of a sacrum gone: the blocky case with one blade, and a remnant with a known flat face.

    With ``halved_l5`` L5's half goes as well, and a cylinder above it is L4.
    """
    case = blocky_case()
    s = 1.0 if side == "left" else -1.0
    level = AxisFrame("lps", np.zeros(3), np.eye(3))
    # Towards the side that is gone; the remnant begins half a kerf beyond the midline.
    face = Plane([-s * 0.6, 0.0, 0.0], [s, 0.0, 0.0])
    low, high = ([-58.0, -18.0, -80.0], [-0.6, 34.0, 3.0]) if s > 0 else (
        [0.6, -18.0, -80.0], [58.0, 34.0, 3.0])  # fmt: skip
    remnant = box(level, low, high)
    gone = box(level, *(([0.6, -18.0, -80.0], [58.0, 62.0, 2.0]) if s > 0 else (
        [-58.0, -18.0, -80.0], [-0.6, 62.0, 2.0])))  # fmt: skip
    flats = [FlatSeat("sacrum", face, remnant)]
    out = replace(
        case,
        design=f"hemi_{side}",
        seats=(case.seat(side),),
        flats=tuple(flats),
        specimen=gone,
        rod_targets={side: case.rod_targets[side]},
    )
    if not halved_l5:
        return out
    up = np.array([0.0, 0.0, 1.0])
    half = split(case.l5, Plane(face.point, -face.normal))[0]
    l4 = lathe([0.0, -18.0, 48.0], up, [[0.0, 21.0], [28.0, 21.0]], segments=96)
    l4 = union(l4, box(level, [-46.0, 0.0, 60.0], [44.0, 8.0, 70.0]))
    frame = AxisFrame("L4 inferior endplate", np.array([0.0, -18.0, 48.0]), UPRIGHT)
    target = np.array([s * 22.0, 46.0, 70.0])
    return replace(
        out,
        l5=l4,
        l5_endplate=frame,
        level="L4",
        hub=case.l5_endplate,
        flats=(*flats, FlatSeat("L5_side", face, half)),
        rod_targets={side: target},
    )


def moved(case, rigid):
    """The whole case under a rigid motion."""

    def frame(f):
        return AxisFrame(f.name, rigid.points(f.origin), rigid.rotation @ f.axes, f.frame)

    return replace(
        case,
        axes=frame(case.axes),
        l5=case.l5.transformed(rigid),
        l5_endplate=frame(case.l5_endplate),
        seats=tuple(
            WingSeat(s.side, s.plane.transformed(rigid), s.hip.transformed(rigid))
            for s in case.seats
        ),
        flats=tuple(
            FlatSeat(f.name, f.plane.transformed(rigid), f.bone.transformed(rigid))
            for f in case.flats
        ),
        hub=None if case.hub is None else frame(case.hub),
        specimen=None if case.specimen is None else case.specimen.transformed(rigid),
        rod_targets={k: rigid.points(v) for k, v in case.rod_targets.items()},
        wing_screws=tuple(
            (n, rigid.points(e), rigid.points(t), d) for n, e, t, d in case.wing_screws
        ),
    )


def mirrored(case):
    """The mirror image across the LPS plane x = 0; left and right change their names."""
    flip = np.array([-1.0, 1.0, 1.0])
    swap = {"left": "right", "right": "left"}

    def frame(f):
        # A mirrored frame is left-handed; turning its z axis round makes z the new right again.
        return AxisFrame(f.name, f.origin * flip, (f.axes * flip[:, None]) * [1.0, 1.0, -1.0])

    return replace(
        case,
        axes=frame(case.axes),
        l5=case.l5.mirrored(),
        l5_endplate=frame(case.l5_endplate),
        seats=tuple(
            WingSeat(
                swap[s.side], Plane(s.plane.point * flip, s.plane.normal * flip), s.hip.mirrored()
            )
            for s in case.seats
        ),
        design={"hemi_left": "hemi_right", "hemi_right": "hemi_left"}.get(case.design, case.design),
        flats=tuple(
            FlatSeat(f.name, Plane(f.plane.point * flip, f.plane.normal * flip), f.bone.mirrored())
            for f in case.flats
        ),
        hub=None if case.hub is None else frame(case.hub),
        specimen=None if case.specimen is None else case.specimen.mirrored(),
        rod_targets={swap[k]: v * flip for k, v in case.rod_targets.items()},
    )


def vhm_case(shared, lateral=65.0, tilt_deg=7.0, turn_deg=0.0):
    """Visible Human Male, total sacrectomy between iliac osteotomies beside the SI joints.

    Landmarks picked by hand on the surfaces. The saw goes from the crest to the sciatic notch; of what
    lies medial to it only the posterior ilium is resected, the pubis stays.
    """
    folder = shared / "data" / "vhm_meshes"
    l5, sacrum = read_stl(folder / "L5.stl"), read_stl(folder / "sacrum.stl")
    # Middle of the anterior superior spines minus middle of the posterior ones.
    anterior = unit(np.array([0.0, -56.8, -22.9]) - np.array([0.0, 75.9, -16.5]))
    right = np.array([-1.0, 0.0, 0.0])
    axes = AxisFrame(
        "pelvis",
        np.array([0.0, -5.0, -85.0]),
        np.stack([anterior, np.cross(right, anterior), right], axis=1),
    )
    seats, resected = [], []
    for side, s in (("left", 1.0), ("right", -1.0)):
        hip = read_stl(folder / f"hip_{side}.stl")
        a, t = np.radians(tilt_deg), np.radians(turn_deg)
        plane = Plane([s * lateral, 35.0, -5.0], [-s * np.cos(a) * np.cos(t), np.sin(t), np.sin(a)])
        medial, lateral_part = split(hip, plane)
        parts = bodies(medial)
        gone = [q for q in parts if q.bounds[1][2] > 0 and q.bounds[1][1] > 20]
        kept = [q for q in parts if q.bounds[1][2] <= 0 or q.bounds[1][1] <= 20]
        seats.append(WingSeat(side, plane, union(lateral_part, *kept)))
        resected += gone
    f, c = l5.face_normals, l5.triangles.mean(axis=1)
    plate = (f[:, 2] < -0.75) & (c[:, 1] < 8) & (c[:, 2] < 20) & (np.abs(c[:, 0]) < 24)
    cranial = -unit(l5.area_vectors[plate].sum(axis=0) * [0, 1, 1])
    weight = np.linalg.norm(l5.area_vectors[plate], axis=1)
    origin = (c[plate] * weight[:, None]).sum(axis=0) / weight.sum()
    x = unit(anterior - (anterior @ cranial) * cranial)
    endplate = AxisFrame(
        "L5 inferior endplate", origin, np.stack([x, cranial, np.cross(x, cranial)], axis=1)
    )
    return ImplantInput(
        axes,
        l5,
        endplate,
        tuple(seats),
        union(sacrum, *resected),
        rod_targets={"left": np.array([23.0, 46.0, 27.0]), "right": np.array([-23.0, 46.0, 27.0])},
    )
