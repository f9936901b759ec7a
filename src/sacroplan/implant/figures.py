"""Figures of a finished implant and the doubts that follow from them. Design frame throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.booleans import overlap_mm3, to_manifold
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, unit
from sacroplan.geometry.slicing import section
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.implant.bores import TOOL_PATH_MM
from sacroplan.implant.loadpath import paths
from sacroplan.implant.localise import Local
from sacroplan.implant.measure import (
    conforming_contact,
    enclosed_voids,
    envelope,
    mass_g,
    planar_contact_mm2,
    seat_gaps,
    sharp_front_mm,
    tool_gaps,
    wall_thickness_mm,
)
from sacroplan.implant.model import Implant, ImplantParameters
from sacroplan.implant.outline import Outline
from sacroplan.implant.seats import Seats
from sacroplan.metrics import Metric, Metrics

if TYPE_CHECKING:
    from sacroplan.implant.hollow import Hollow

OUTLINE_COVER_MM = 3.0
"""A bored or rounded seat may miss so much of its border; more is told."""


class _Report:
    """Figures and doubts as they come."""

    def __init__(self) -> None:
        self.out: Metrics = {}
        self.doubts: list[Doubt] = []

    def put(
        self, name: str, value: Any, unit_: str, label: str, *rows: str, **limits: float | None
    ) -> None:
        self.out[f"implant.{name}"] = Metric(value, unit_, label, rows, **limits)

    def doubt(self, code: str, message: str, *rows: str) -> None:
        self.doubts.append(Doubt("implant", f"implant.{code}", message, rows))


def figures(
    implant: Implant, local: Local, seats: Seats, p: ImplantParameters, shell: Hollow
) -> tuple[Metrics, tuple[Doubt, ...], AxisFrame]:
    """All figures of an implant, the doubts that follow from them, and the virtual S1 endplate."""
    r = _Report()
    put, doubt = r.put, r.doubt
    core, layers = implant.core, implant.porous
    put("design", implant.design, "text", "Design of the implant")
    _mass(r, implant, local, shell)
    areas = _flat_seats(r, implant, local, seats, p)
    balance = None
    if local.hemi_side is None:
        balance = min(areas.values()) / max(max(areas.values()), 1e-9)
    elif {"sacrum", f"wing_{local.hemi_side}"} <= set(areas):
        put("seats.sacrum_over_wing", areas["sacrum"] / max(areas[f"wing_{local.hemi_side}"], 1e-9),
            "1", "Sacral seat over wing seat")  # fmt: skip
    if balance is not None:
        least = evidence.value("SP-IMP-08", "balance")
        put("balance", balance, "1", "Smaller wing contact over larger", "SP-IMP-08", lower=least)
        if balance < least:
            doubt(
                "unbalanced",
                f"The smaller wing's seat has {100 * balance:.0f} % of the larger's area.",
                "SP-IMP-08",
            )
    _vertebra_seat(r, implant, local, seats)
    virtual = _angles(r, layers[local.level], local, p)
    _load_paths(r, core, seats, local, p)
    _overlaps(r, implant, local)
    _clearances(r, implant, local, seats)
    wall = wall_thickness_mm(core)
    least = evidence.value("AM-02", "structural_wall")
    put("wall_mm", wall, "mm", "Thinnest wall of the solid core", "AM-02", lower=least)
    if wall < least:
        doubt(
            "thin_wall",
            f"The thinnest wall measures {wall:.2f} mm; {least:g} mm are wanted.",
            "AM-02",
        )
    voids = sum(enclosed_voids(s) for s in (core, *layers.values()))
    put("enclosed_voids", voids, "count", "Enclosed voids", "AM-05", upper=0)
    if voids:
        doubt("enclosed_void", f"{voids} enclosed voids would keep their powder.", "AM-05")
    _size(put, doubt, implant)
    _lattice(put, doubt, implant)
    _outside(put, doubt, implant, local)
    _screws(r, implant, local, seats, p)
    if implant.posts:
        low, high = evidence.span("AM-09", "thread")
        put("posts.thread_allowance_mm", evidence.value("AM-09", "thread"), "mm",
            "Machining allowance of the set screws' threads", "AM-09", lower=low, upper=high)  # fmt: skip
    wanted = evidence.value("SP-IMP-07", "least") / (1.0 if local.hemi_side is None else 2.0)
    holes = len(implant.suture_holes)
    put("suture_holes.count", holes, "count", "Suture holes", "AM-13", "SP-IMP-07", lower=wanted)
    if holes < wanted:
        doubt(
            "few_suture_holes",
            f"Only {holes} suture holes found room along the lower border; {wanted:.0f} are wanted.",
            "AM-13",
            "SP-IMP-07",
        )
    return r.out, tuple(r.doubts), virtual


def _mass(r: _Report, implant: Implant, local: Local, shell: Hollow) -> None:
    core, layers = implant.core, implant.porous
    porosity = 1.0 - next(iter(implant.lattice.values())).density
    porous_mm3 = sum(s.volume_mm3 for s in layers.values())
    mass = mass_g(core.volume_mm3, porous_mm3, porosity)
    r.put("core.volume_cm3", core.volume_mm3 / 1e3, "cm3", "Solid volume")
    r.put("porous.volume_cm3", porous_mm3 / 1e3, "cm3", "Volume of the porous layers")
    r.put("mass_g", mass, "g", "Mass of the implant", "SP-IMP-01", "POR-1")
    if shell.openings:
        r.put("hollow.wall_mm", shell.wall_mm, "mm", "Wall of the hollowed core", "SP-IMP-13",
              lower=evidence.span("SP-IMP-13", "wall")[0])  # fmt: skip
        r.put(
            "hollow.volume_cm3",
            shell.cavity_mm3 / 1e3,
            "cm3",
            "Volume of the cavities",
            "SP-IMP-13",
        )
        r.put("hollow.openings", len(shell.openings), "count", "Openings for the powder", "AM-05")
    if local.specimen is None:
        return
    bone = local.specimen.volume_mm3 / 1e3 * evidence.value("SP-IMP-02", "density")
    r.put("resected_bone.mass_g", bone, "g", "Mass of the resected bone, estimated", "SP-IMP-02")
    r.put(
        "mass_ratio", mass / bone, "1", "Implant mass over resected bone mass", "SP-IMP-02",
        "SP-IMP-13", upper=evidence.value("SP-IMP-13", "mass_ratio"),
    )  # fmt: skip
    if mass > bone:
        hollowed = f" although it is hollow to {shell.wall_mm:g} mm" if shell.openings else ""
        r.doubt(
            "heavier_than_bone",
            f"The implant weighs {mass:.0f} g{hollowed}, the bone it replaces about {bone:.0f} g; "
            "it should not be heavier.",
            "SP-IMP-01",
            "SP-IMP-02",
        )


def _flat_seats(
    r: _Report, implant: Implant, local: Local, seats: Seats, p: ImplantParameters
) -> dict[str, float]:
    """Contact of every seat but the vertebra's, mm2 by name."""
    gap = evidence.value("POR-6", "gap")
    share = evidence.quantity("POR-6", "area_share").lower or evidence.value("POR-6", "area_share")
    items: list[tuple[str, str, Plane, Outline, Outline]] = []
    areas: dict[str, float] = {}
    for side, wing in seats.wings.items():
        name = f"wing_{side}"
        if wing.follows:
            areas[name] = _joint_seat(r, implant, local, seats, side)
            continue
        items.append((name, f"{side} wing", wing.plane, seats.faces[side], wing.seat))
    for name, pad in seats.pads.items():
        words = "sacral seat" if name == "sacrum" else "seat on L5's side"
        items.append((name, words, pad.plane, seats.flat_faces[name], pad.seat))
    for name, words, plane, face, seat in items:
        # The edge radius takes its share of every seat by design.
        region = seat.eroded(p.edge_break_mm, 0.0)
        layer = implant.porous[name]
        contact = planar_contact_mm2(layer, plane, face, gap)
        areas[name] = contact
        cover = 100.0 * contact / face.area_mm2
        r.put(
            f"{name}.contact_mm2",
            contact,
            "mm2",
            f"Contact of the {words} within {gap:g} mm",
            "POR-6",
        )
        r.put(
            f"{name}.coverage_percent", cover, "%", f"Share of the cut face covered by the {words}"
        )
        # POR-6 asks for a share of the planned contact, which is the seat, not the whole cut face.
        r.put(
            f"{name}.planned_percent", 100.0 * contact / seat.area_mm2, "%",
            f"Share of the planned {words} in contact", "POR-6", lower=share,
        )  # fmt: skip
        low = float(np.abs(plane.distance(layer.vertices)).min())
        r.put(f"{name}.gap_mm", low, "mm", f"Gap between {words} and cut face", "POR-6", upper=gap)
        thick = layer.volume_mm3 / _mean_area(layer, plane, implant.lattice[name].thickness_mm)
        r.put(f"{name}.porous_mm", thick, "mm", f"Thickness of the porous layer, {words}", "POR-4")
        mean, p95, reached = seat_gaps(layer, plane, region, gap)
        rows = ("SP-IMP-15",)
        for key, value, unit_, label in (
            ("mean", mean, "mm", "Mean distance"), ("p95", p95, "mm", "95th percentile of the distance"),
        ):  # fmt: skip
            r.put(f"{name}.seat_{key}_mm", value, unit_, f"{label} of the {words} from its cut face",
                  *rows, upper=evidence.value("SP-IMP-15", key))  # fmt: skip
        # Bores take their share of a seat; the rest must be there.
        bores = sum(
            np.pi * (0.5 * s.hole_diameter_mm) ** 2
            for s in implant.wing_screws
            if s.level == "ilium" and name == f"wing_{s.side}"
        )
        reached = min(1.0, reached + bores / region.area_mm2)
        least = evidence.value("SP-IMP-15", "share")
        r.put(f"{name}.seat_share_percent", 100.0 * reached, "%",
              f"Share of the planned {words} that the implant reaches, bores counted as reached", *rows,
              lower=least)  # fmt: skip
        if 100.0 * reached < least:
            r.doubt(
                f"seat_not_reached.{name}",
                f"The implant reaches {100 * reached:.0f} % of the planned {words}; {least:.0f} % are "
                "wanted. Bones, nerves or the former pelvic face leave no room for the rest.",
                *rows,
            )
        if contact < share / 100.0 * seat.area_mm2:
            r.doubt(
                "small_seat",
                f"Only {contact:.0f} mm2 of the {words} lie within {gap:g} mm of its cut face, of "
                f"{seat.area_mm2:.0f} mm2 planned.",
                "POR-6",
            )
    return areas


def _joint_seat(r: _Report, implant: Implant, local: Local, seats: Seats, side: Any) -> float:
    """Contact of a wing that follows an ilium's joint face."""
    gap = evidence.value("POR-6", "gap")
    name = f"wing_{side}"
    wing = seats.wings[side]
    contact, mean, _ = conforming_contact(
        implant.porous[name], local.seats[side].hip, -wing.plane.normal, gap
    )
    r.put(f"{name}.contact_mm2", contact, "mm2", f"Contact of the {side} wing with the joint's face",
          "POR-6")  # fmt: skip
    cover = 100.0 * contact / wing.seat.area_mm2
    share = evidence.quantity("POR-6", "area_share").lower
    r.put(f"{name}.coverage_percent", cover, "%", f"Share of the {side} joint seat in contact", "POR-6",
          lower=share)  # fmt: skip
    r.put(f"{name}.gap_mm", mean, "mm", f"Mean gap of the {side} wing to the joint's face", "POR-6",
          "SP-IMP-04", upper=gap)  # fmt: skip
    return contact


def _vertebra_seat(r: _Report, implant: Implant, local: Local, seats: Seats) -> None:
    gap = evidence.value("POR-6", "gap")
    share = evidence.quantity("POR-6", "area_share").lower or evidence.value("POR-6", "area_share")
    name = local.level
    cranial = local.endplate.axes[:, 1]
    contact, mean_gap, _ = conforming_contact(implant.porous[name], local.l5, cranial, gap)
    r.put(f"{name}.contact_mm2", contact, "mm2",
          f"Contact with the {name} endplate within {gap:g} mm", "POR-6")  # fmt: skip
    r.put(
        f"{name}.coverage_percent", 100.0 * contact / seats.plate.area_mm2, "%",
        "Contact over the block's outline", "POR-6", lower=share,
    )  # fmt: skip
    r.put(f"{name}.gap_mm", mean_gap, "mm", f"Mean gap to the {name} endplate", "POR-6",
          "SP-IMP-04", upper=gap)  # fmt: skip
    if contact < share / 100.0 * seats.plate.area_mm2:
        r.doubt(
            "small_l5_seat",
            f"Only {contact:.0f} mm2 of the block lie within {gap:g} mm of {name}.",
            "POR-6",
        )


def _load_paths(
    r: _Report, core: Surface, seats: Seats, local: Local, p: ImplantParameters
) -> None:
    least = evidence.value("SP-IMP-10", "area")
    neck = evidence.value("SP-IMP-10", "neck")
    for path in paths(core, seats, local.hub, p.porous_mm):
        words = "block" if path.name == "block" else f"{path.name.removeprefix('wing_')} wing"
        k = path.thinnest
        area = float(path.area_mm2[k])
        r.put(f"load_path.{path.name}.least_area_mm2", area, "mm2", f"Least section along the {words}",
              "SP-IMP-10", lower=least)  # fmt: skip
        r.put(f"load_path.{path.name}.least_modulus_mm3", float(path.modulus_mm3.min()), "mm3",
              f"Least section modulus in bending along the {words}")  # fmt: skip
        r.put(f"load_path.{path.name}.neck", path.neck, "1",
              f"Neck of the {words}: section over its neighbours', 1 is none", "SP-IMP-10",
              lower=neck)  # fmt: skip
        if area < least:
            r.doubt(
                f"thin_path.{path.name}",
                f"The load path narrows to {area:.0f} mm2 in the {words}, {path.at_mm[k]:.0f} mm along it; "
                f"{least:g} mm2 are wanted.",
                "SP-IMP-10",
            )
        if path.neck < neck:
            r.doubt(
                f"neck.{path.name}",
                f"The load path has a neck in the {words}: a section is {100 * path.neck:.0f} % of those "
                f"beside it ({100 * neck:.0f} % at least are wanted).",
                "SP-IMP-10",
            )


def _overlaps(r: _Report, implant: Implant, local: Local) -> None:
    bones = dict(local.bones)
    bones |= {f"keep_clear_{n + 1}": s for n, s in enumerate(local.keep_clear)}
    parts = [to_manifold(s, "the implant") for s in (implant.core, *implant.porous.values())]
    total = 0.0
    for name, solid in bones.items():
        bone = to_manifold(solid, name)
        shared = sum(float((part ^ bone).volume()) for part in parts)
        total += shared
        r.put(f"overlap.{name}_mm3", shared, "mm3", f"Overlap with {name}", upper=1.0)
    r.put("overlap.total_mm3", total, "mm3", "Overlap with bone in total", upper=1.0)
    if total > 1.0:
        r.doubt("overlap", f"The implant shares {total:.1f} mm3 with bone; under 1 mm3 is wanted.")


def _clearances(r: _Report, implant: Implant, local: Local, seats: Seats) -> None:
    """Nerves, gluteal notch, hip sockets, and the front."""
    import igl

    points = np.concatenate([implant.core.vertices, *(s.vertices for s in implant.porous.values())])
    wanted = evidence.quantity("SP-IMP-11", "clearance").lower
    for name, solid in local.nerves.items():
        d = float(np.sqrt(igl.point_mesh_squared_distance(
            solid.vertices, implant.core.vertices, implant.core.faces)[0].min()))  # fmt: skip
        shared = overlap_mm3(implant.core, solid)
        value = d if shared <= 0.0 else 0.0
        words = name.replace("_", " ")
        r.put(f"clearance.{name}_mm", value, "mm", f"Clearance to the {words}", "SP-IMP-11",
              lower=wanted)  # fmt: skip
        if wanted is not None and value < wanted:
            r.doubt(
                f"near.{name}",
                f"The implant comes within {value:.1f} mm of the {words}; {wanted:g} mm at least are wanted.",
                "SP-IMP-11",
            )
    for side, notch in local.notches.items():
        if side not in seats.wings:
            continue
        d = float(np.linalg.norm(points - notch, axis=1).min())
        least = evidence.quantity("SP-IMP-11", "notch").lower
        r.put(f"clearance.notch_{side}_mm", d, "mm", f"Implant to the {side} sciatic notch's apex",
              "SP-IMP-11", lower=least)  # fmt: skip
    for side, d in seats.socket_mm.items():
        least = evidence.value("SP-IMP-16", "clearance")
        r.put(f"clearance.socket_{side}_mm", d, "mm", f"{side.capitalize()} seat to the hip's ball",
              "SP-IMP-16", lower=least)  # fmt: skip
        if d < least:
            r.doubt(
                f"near_socket.{side}",
                f"The {side} seat comes within {d:.1f} mm of the hip joint's ball; {least:g} mm are wanted.",
                "SP-IMP-16",
            )
    r.put("front.sharp_edges_mm", sharp_front_mm(implant.core, list(implant.porous.values())), "mm",
          "Sharp outward edges on the side of the rectum")  # fmt: skip


def _screws(r: _Report, implant: Implant, local: Local, seats: Seats, p: ImplantParameters) -> None:
    iliac = [s for s in implant.wing_screws if s.level == "ilium"]
    own = [s for s in implant.wing_screws if s.level != "ilium"]
    r.put("screws.count", len(iliac), "count", "Iliac screws through the wings", "SP-IMP-05")
    if own:
        r.put("screws.vertebra_count", len(own), "count", f"Screws from the block into {local.level}",
              "SP-IMP-14")  # fmt: skip
    need_row = ("AM-12",)
    for screw in implant.wing_screws:
        length = float(np.linalg.norm(screw.tip - screw.bone_entry))
        words = "beyond the cut face" if screw.level == "ilium" else f"in {screw.level}"
        r.put(
            f"screws.{screw.name}.bone_mm", length, "mm", f"Screw {screw.name} {words}", "SP-IMP-05"
        )
        if screw.level != "ilium" or seats.wings[screw.side].follows:
            continue
        wing = seats.wings[screw.side]
        uv = wing.seat.to_plane(screw.bone_entry)
        margin = -float(wing.field.at(uv[:1], uv[1:])[0])
        r.put(f"screws.{screw.name}.edge_mm", margin, "mm",
              f"Screw {screw.name} inside its seat's edge", *need_row,
              lower=0.5 * screw.hole_diameter_mm + p.hole_wall_mm)  # fmt: skip
    if not implant.wing_screws:
        return
    heads = np.array([s.head for s in implant.wing_screws])
    ways = np.array([s.direction for s in implant.wing_screws])
    gaps = tool_gaps(heads, ways, [*local.bones.values(), *local.keep_clear], TOOL_PATH_MM)
    for screw, gap in zip(implant.wing_screws, gaps, strict=True):
        spare = float(gap) - 0.5 * p.tool_diameter_mm
        r.put(f"screws.{screw.name}.tool_mm", spare, "mm",
              f"Free way of the driver of {screw.name} to bone", *need_row, lower=0.0)  # fmt: skip
        if spare < 0.0:
            r.doubt(
                f"tool_blocked.{screw.name}",
                f"The driver of screw {screw.name} ({p.tool_diameter_mm:g} mm) meets bone on its way: "
                f"{-spare:.1f} mm short. Turn the screw or take a thinner driver.",
                *need_row,
            )


def _mean_area(layer: Surface, plane: Plane, thickness_mm: float) -> float:
    """Mean section of a layer over its thickness, by Simpson's rule on three planes."""
    areas = [section(layer, plane.shifted(s * thickness_mm)).area_mm2 for s in (0.02, 0.5, 0.98)]
    return (areas[0] + 4.0 * areas[1] + areas[2]) / 6.0


def _angles(r: _Report, layer: Surface, local: Local, p: ImplantParameters) -> AxisFrame:
    """Lordosis and incidence of the implant's cranial face as virtual S1 endplate (HANDBOOK 1.3)."""
    put, level, endplate = r.put, local.level, local.endplate
    facing = layer.face_normals @ endplate.axes[:, 1] > 0.5
    vector = layer.area_vectors[facing].sum(axis=0)
    normal = vector / np.linalg.norm(vector)
    area = np.linalg.norm(layer.area_vectors[facing], axis=1)
    centre = (layer.triangles[facing].mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()
    off = float(np.degrees(np.arccos(np.clip(normal @ endplate.axes[:, 1], -1.0, 1.0))))
    put(f"{level}.angle_deg", off, "deg",
        f"Angle between the implant's cranial face and the {level} endplate")  # fmt: skip
    slope = float(np.degrees(np.arctan2(normal[0], normal[1])))
    put(f"{level}.slope_deg", slope, "deg",
        "Slope of the cranial face in the pelvic frame, forwards positive")  # fmt: skip
    put(f"{level}.virtual_pelvic_incidence_deg", _incidence(centre, normal), "deg",
        "Pelvic incidence with the implant's cranial face as endplate", "SAG-PI")  # fmt: skip
    if local.s1 is not None:
        s1 = local.s1
        put("lordosis.pelvic_incidence_before_deg", _incidence(s1.origin, s1.axes[:, 1]), "deg",
            "Pelvic incidence before the resection", "SAG-PI")  # fmt: skip
        gap = s1.origin - endplate.origin
        put("lordosis.height_bridged_mm", float(-gap @ endplate.axes[:, 1]), "mm",
            f"Height from S1's endplate to {level}'s that the block takes over")  # fmt: skip
        put("lordosis.angle_bridged_deg", _turn(endplate.axes[:, 1], s1.axes[:, 1]), "deg",
            f"Angle from {level}'s endplate to S1's that the block takes over", "SAG-N6")  # fmt: skip
        if local.upper is not None:
            up = local.upper.axes[:, 1]
            planned = _turn(up, s1.axes[:, 1])
            put("lordosis.segment_before_deg", planned - p.lordosis_change_deg, "deg",
                f"Lordosis {level}-S1 before the resection", "SAG-N6")  # fmt: skip
            put("lordosis.segment_planned_deg", planned, "deg",
                f"Lordosis of {level} to where S1's endplate was, as the implant holds {level}", "SAG-N6",
                "SP-IMP-17")  # fmt: skip
            put("lordosis.vertebra_deg", _turn(up, normal), "deg",
                f"{level}'s superior endplate to the implant's cranial face", "SAG-N6")  # fmt: skip
    ahead = unit(np.array([1.0, 0.0, 0.0]) - normal[0] * normal)
    axes = np.stack([ahead, normal, np.cross(ahead, normal)], axis=1)
    return AxisFrame("virtual S1 endplate", centre, axes)


def _incidence(centre: FloatArray, normal: FloatArray) -> float:
    """Angle (degrees) between an endplate's normal and the line to the hip axis, sagittal."""
    to_hips = -centre
    return float(np.degrees(np.arctan2(to_hips[0], -to_hips[1]) + np.arctan2(normal[0], normal[1])))


def _turn(upper: FloatArray, lower: FloatArray) -> float:
    """Lordosis (degrees, positive) between two endplate normals in the sagittal plane."""
    return float(np.degrees(np.arctan2(lower[0], lower[1]) - np.arctan2(upper[0], upper[1])))


def _size(put: Any, doubt: Any, implant: Implant) -> None:
    whole = np.concatenate([implant.core.vertices, *(s.vertices for s in implant.porous.values())])
    size = np.ptp(whole, axis=0)
    edge, height = evidence.value("AM-10", "plate_edge"), evidence.value("AM-10", "height")
    for axis, name in enumerate(("depth", "height", "width")):
        put(f"size.{name}_mm", float(size[axis]), "mm", f"Largest {name}", "AM-10", upper=height)
    a, b, c = sorted(size.tolist())
    fits = b <= edge and c <= height
    put(
        "size.fits_build_volume",
        bool(fits),
        "1",
        "Fits the build volume in some orientation",
        "AM-10",
    )
    if not fits:
        doubt(
            "too_large",
            f"The implant measures {a:.0f} x {b:.0f} x {c:.0f} mm and exceeds the build volume.",
            "AM-10",
        )


def _lattice(put: Any, doubt: Any, implant: Implant) -> None:
    lattice = next(iter(implant.lattice.values()))
    window, share = evidence.span("POR-3", "pore"), evidence.span("POR-3", "porosity")
    strut = evidence.quantity("AM-03", "strut").lower or 0.0
    cells = evidence.value("POR-4", "unit_cells")
    put(
        "lattice.pore_um",
        lattice.pore_um,
        "um",
        "Pore throat of the lattice",
        "POR-3",
        lower=window[0],
        upper=window[1],
    )
    put(
        "lattice.strut_um",
        lattice.strut_um,
        "um",
        "Thinnest strut of the lattice",
        "AM-03",
        lower=1e3 * strut,
    )
    put(
        "lattice.porosity_percent",
        100.0 * lattice.porosity,
        "%",
        "Porosity of the lattice at the bone",
        "POR-3",
        lower=share[0],
        upper=share[1],
    )
    if lattice.core_porosity is not None:
        put("lattice.core_porosity_percent", 100.0 * lattice.core_porosity, "%",
            "Porosity of the lattice at the core", "POR-3", lower=share[0], upper=share[1])  # fmt: skip
    put(
        "lattice.cells_through",
        lattice.cells_through,
        "count",
        "Unit cells through the layer",
        "POR-4",
        lower=cells,
    )
    found = [
        f"{label} {value:.0f} {unit} outside {low:.0f}-{high:.0f}"
        for label, value, unit, low, high in (
            ("pore", lattice.pore_um, "um", *window),
            ("porosity", 100.0 * lattice.porosity, "%", *share),
            ("strut", lattice.strut_um, "um", 1e3 * strut, np.inf),
            ("cells through the layer", round(lattice.cells_through, 2), "", cells, np.inf),
        )
        if not low <= value <= high
    ]
    if found:
        doubt(
            "lattice", f"The porous layer's lattice: {'; '.join(found)}.", "POR-3", "POR-4", "AM-03"
        )


def _outside(put: Any, doubt: Any, implant: Implant, local: Local) -> None:
    specimen, l5 = local.specimen, local.l5
    hips = [b for n, b in local.bones.items() if n != local.level]
    whole = concatenate([implant.core, *implant.porous.values()])
    if specimen is None:
        return
    ahead, behind = envelope(whole, [specimen, l5, *hips], [specimen, *hips])
    limit = evidence.value("SP-IMP-08", "into_pelvis")
    put(
        "envelope.into_pelvis_mm",
        ahead,
        "mm",
        "Implant in front of the resected bone",
        "SP-IMP-08",
        upper=limit,
    )
    if ahead > limit:
        doubt(
            "into_pelvis",
            f"The implant stands {ahead:.0f} mm further into the pelvis than the bone it replaces.",
            "SP-IMP-08",
        )
    skin = evidence.value("SP-IMP-08", "below_skin_line")
    put(
        "envelope.below_posterior_bone_mm",
        behind,
        "mm",
        "Implant anterior to the most posterior bone",
        "SP-IMP-08",
        lower=skin,
    )
    if behind < skin:
        doubt(
            "prominent",
            f"The implant stands {-behind:.0f} mm behind the most posterior bone.",
            "SP-IMP-08",
        )
