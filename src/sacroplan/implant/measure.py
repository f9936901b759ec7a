"""Figures of a finished implant, measured on its solids. Design frame (pelvic axes as coordinates)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.booleans import overlap_mm3, to_manifold
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.fields import inside_mask
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane
from sacroplan.geometry.slicing import section
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.geometry.volume import VolumeGeometry, grid_around
from sacroplan.implant.model import Implant, Side, WingSeat
from sacroplan.implant.outline import Outline
from sacroplan.metrics import Metric, Metrics

WALL_SHARE = 0.001
"""Lips of up to this share of the surface, where bores meet round faces, are filed off."""

ENVELOPE_GRID_MM = 1.5
"""Sampling for the envelope comparison; its figures are good to about a millimetre."""

FRONT_SMOOTH_MM = 5.0
"""Sigma over which the pelvic face is evened out: half the height of an anterior foramen (DIM-05)."""

DISC_BRIDGE_MM = 9.0
"""Closing radius that bridges the excised L5-S1 disc between L5 and the specimen."""


def mass_g(core_mm3: float, porous_mm3: float, porosity: float) -> float:
    """Titanium mass of a solid core and porous layers."""
    density = evidence.value("SP-IMP-01", "density") / 1000.0
    return density * (core_mm3 + (1.0 - porosity) * porous_mm3)


def planar_contact_mm2(layer: Surface, plane: Plane, face: Outline, within_mm: float) -> float:
    """Area of a layer's flat face that lies over the bone's cut face, no further than ``within_mm``."""
    on = np.abs(plane.distance(layer.vertices)) <= within_mm
    flat = on[layer.faces].all(axis=1) & (layer.face_normals @ -plane.normal > 0.99)
    if not flat.any():
        return 0.0
    import manifold3d

    triangles = face.to_plane(layer.vertices)[layer.faces[flat]][:, ::-1]
    mine = manifold3d.CrossSection(list(triangles), manifold3d.FillRule.NonZero)
    return float((mine ^ face.cross_section()).area())


def conforming_contact(
    layer: Surface, bone: Surface, cranial: FloatArray, within_mm: float
) -> tuple[float, float, float]:
    """Area (mm2, seen along ``cranial``) of a layer's bone-facing side within ``within_mm``, and the
    mean and the largest gap there.
    """
    import igl

    fine = to_manifold(layer).refine_to_length(1.5)
    mesh = fine.to_mesh64()
    v = np.asarray(mesh.vert_properties)[:, :3].astype(np.float64)
    f = np.asarray(mesh.tri_verts).astype(np.int32)
    surface = Surface(v, f)
    facing = surface.face_normals @ cranial > 0.5
    centres = surface.triangles[facing].mean(axis=1)
    area = surface.area_vectors[facing] @ cranial
    gap = np.sqrt(igl.point_mesh_squared_distance(centres, bone.vertices, bone.faces)[0])
    near = gap <= within_mm
    if not near.any():
        return 0.0, float("inf"), float("inf")
    return (
        float(area[near].sum()),
        float((gap[near] * area[near]).sum() / area[near].sum()),
        float(gap[near].max()),
    )


def wall_thickness_mm(solid: Surface) -> float:
    """Thinnest structural wall, but for the thinnest 0.1 % of the surface; edges are no walls.

    An edge that has the structural wall (AM-02) within two walls of its tip counts by what lies behind
    it, see :func:`sacroplan.geometry.walls.measure_walls`.
    """
    from sacroplan.geometry.tree import face_tree
    from sacroplan.geometry.walls import measure_walls

    least = evidence.value("AM-02", "structural_wall")
    walls = measure_walls(solid, face_tree(solid), least, 2.0 * least, WALL_SHARE)
    return float(walls.walls[walls.thinnest(WALL_SHARE)])


def enclosed_voids(surface: Surface) -> int:
    """Shells of a solid that are turned inwards: cavities without an opening (AM-05)."""
    return sum(1 for piece in surface.bodies() if piece.volume_mm3 < 0.0)


def pelvic_front(geometry: VolumeGeometry, bones: list[Surface]) -> npt.NDArray[np.float32]:
    """Front (x, mm) of the bones in every column (y, z) of a grid, smooth and without holes.

    Gaps as wide as a disc are closed first; columns without bone take their neighbours' front.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

    h = ENVELOPE_GRID_MM
    low = geometry.origin - 3.0 * h
    size = np.ceil((geometry.extent_mm + 6.0 * h) / h).astype(int) + 1
    # Symmetric about the middle plane like the fine grid, so that mirrored bones give a mirrored front.
    low[2] = geometry.origin[2] + 0.5 * geometry.extent_mm[2] - 0.5 * h * (size[2] - 1)
    coarse = VolumeGeometry((int(size[0]), int(size[1]), int(size[2])), np.full(3, h), low)
    front = _front(_closed(bones, coarse)).astype(np.float64)
    nearest = distance_transform_edt(front < 0, return_distances=False, return_indices=True)
    x = low[0] + h * front[tuple(nearest)]
    x = gaussian_filter(x, FRONT_SMOOTH_MM / h, mode="nearest")
    rows = (geometry.origin[1] - low[1] + geometry.spacing_mm[1] * np.arange(geometry.shape[1])) / h
    columns = (
        geometry.origin[2] - low[2] + geometry.spacing_mm[2] * np.arange(geometry.shape[2])
    ) / h
    index = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    return np.asarray(map_coordinates(x, index, order=1, mode="nearest"), dtype=np.float32)


def _closed(bones: list[Surface], grid: VolumeGeometry) -> npt.NDArray[np.bool_]:
    """Grid points in or between bones, gaps up to twice :data:`DISC_BRIDGE_MM` closed."""
    solid = np.zeros(grid.shape, dtype=bool)
    for bone in bones:
        solid |= inside_mask(bone, grid)
    reach = DISC_BRIDGE_MM / float(grid.spacing_mm[0])
    grown = distance_to(solid, 1.0, reach + 1.0) <= reach
    return np.asarray((distance_to(~grown, 1.0, reach + 1.0) > reach) | solid)


def envelope(
    implant: Surface, bones: list[Surface], posterior_of: list[Surface]
) -> tuple[float, float]:
    """How far the implant stands before the bone's front (mm), and behind it keeps from the back (mm).

    Column by column along x; the front of ``bones`` is that of :func:`pelvic_front`, where neither the
    disc nor a sacral foramen counts as room. Columns without bone say nothing.
    """
    grid = grid_around(implant.vertices, ENVELOPE_GRID_MM, 15.0)
    mine = _front(inside_mask(implant, grid))
    both = (mine >= 0) & _closed(bones, grid).any(axis=0)
    x = float(grid.origin[0]) + ENVELOPE_GRID_MM * mine
    ahead = float((x - pelvic_front(grid, bones))[both].max()) if both.any() else 0.0
    back = min(float(s.vertices[:, 0].min()) for s in posterior_of)
    return max(ahead, 0.0), float(implant.vertices[:, 0].min()) - back


def _front(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    n = mask.shape[0]
    last = n - 1 - np.argmax(mask[::-1], axis=0)
    return np.where(mask.any(axis=0), last, -1)


def figures(
    implant: Implant,
    l5: Surface,
    endplate: AxisFrame,
    seats: Mapping[Side, WingSeat],
    specimen: Surface | None,
    keep_clear: tuple[Surface, ...],
    faces: Mapping[Side, Outline],
    plate: Outline,
    geometry: VolumeGeometry,
) -> tuple[Metrics, tuple[Doubt, ...]]:
    """All figures of an implant, and the doubts that follow from them."""
    out: Metrics = {}
    doubts: list[Doubt] = []

    def put(name: str, value: Any, unit: str, label: str, *rows: str, **limits: float) -> None:
        out[f"implant.{name}"] = Metric(value, unit, label, rows, **limits)

    def doubt(code: str, message: str, *rows: str) -> None:
        doubts.append(Doubt("implant", f"implant.{code}", message, rows))

    core, layers = implant.core, implant.porous
    porosity = implant.lattice["L5"].porosity
    porous_mm3 = sum(s.volume_mm3 for s in layers.values())
    mass = mass_g(core.volume_mm3, porous_mm3, porosity)
    put("core.volume_cm3", core.volume_mm3 / 1e3, "cm3", "Solid volume")
    put("porous.volume_cm3", porous_mm3 / 1e3, "cm3", "Volume of the porous layers")
    put("mass_g", mass, "g", "Mass of the implant", "SP-IMP-01", "POR-1")
    if specimen is not None:
        bone = specimen.volume_mm3 / 1e3 * evidence.value("SP-IMP-02", "density")
        put("resected_bone.mass_g", bone, "g", "Mass of the resected bone, estimated", "SP-IMP-02")
        put(
            "mass_ratio",
            mass / bone,
            "1",
            "Implant mass over resected bone mass",
            "SP-IMP-02",
            upper=1.0,
        )
        if mass > bone:
            doubt(
                "heavier_than_bone",
                f"The implant weighs {mass:.0f} g, the bone it replaces about {bone:.0f} g; "
                "it should not be heavier.",
                "SP-IMP-01",
                "SP-IMP-02",
            )

    gap = evidence.value("POR-6", "gap")
    share = evidence.quantity("POR-6", "area_share").lower or evidence.value("POR-6", "area_share")
    areas: dict[str, float] = {}
    for side, seat in seats.items():
        name = f"wing_{side}"
        layer = layers[name]
        contact = planar_contact_mm2(layer, seat.plane, faces[side], gap)
        areas[side] = contact
        cover = 100.0 * contact / faces[side].area_mm2
        put(
            f"{name}.contact_mm2",
            contact,
            "mm2",
            f"Contact of the {side} wing within {gap:g} mm",
            "POR-6",
        )
        put(
            f"{name}.coverage_percent",
            cover,
            "%",
            f"Share of the {side} cut face covered",
            "POR-6",
            lower=share,
        )
        low = float(np.abs(seat.plane.distance(layer.vertices)).min())
        put(
            f"{name}.gap_mm", low, "mm", f"Gap between {side} wing and cut face", "POR-6", upper=gap
        )
        thick = layer.volume_mm3 / _mean_area(layer, seat.plane, implant.lattice[name].thickness_mm)
        put(f"{name}.porous_mm", thick, "mm", f"Thickness of the {side} porous layer", "POR-4")
        if cover < share:
            doubt(
                "small_seat",
                f"The {side} wing covers {cover:.0f} % of the cut face; {share:.0f} % are wanted.",
                "POR-6",
            )
    balance = min(areas.values()) / max(max(areas.values()), 1e-9)
    put(
        "balance",
        balance,
        "1",
        "Smaller wing contact over larger",
        "SP-IMP-08",
        lower=evidence.value("SP-IMP-08", "balance"),
    )
    if balance < evidence.value("SP-IMP-08", "balance"):
        doubt(
            "unbalanced",
            f"The smaller wing's seat has {100 * balance:.0f} % of the larger's area.",
            "SP-IMP-08",
        )

    cranial = endplate.axes[:, 1]
    contact, mean_gap, _ = conforming_contact(layers["L5"], l5, cranial, gap)
    put(
        "L5.contact_mm2", contact, "mm2", f"Contact with the L5 endplate within {gap:g} mm", "POR-6"
    )
    put(
        "L5.coverage_percent",
        100.0 * contact / plate.area_mm2,
        "%",
        "Contact over the block's outline",
        "POR-6",
        lower=share,
    )
    put("L5.gap_mm", mean_gap, "mm", "Mean gap to the L5 endplate", "POR-6", "SP-IMP-04", upper=gap)
    if contact < share / 100.0 * plate.area_mm2:
        doubt(
            "small_l5_seat",
            f"Only {contact:.0f} mm2 of the block lie within {gap:g} mm of L5.",
            "POR-6",
        )
    _angles(put, layers["L5"], endplate)

    bones = {"L5": l5, **{f"hip_{side}": seat.hip for side, seat in seats.items()}}
    bones |= {f"keep_clear_{n + 1}": s for n, s in enumerate(keep_clear)}
    total = 0.0
    for name, solid in bones.items():
        shared = sum(overlap_mm3(part, solid) for part in (core, *layers.values()))
        total += shared
        put(f"overlap.{name}_mm3", shared, "mm3", f"Overlap with {name}", upper=1.0)
    put("overlap.total_mm3", total, "mm3", "Overlap with bone in total", upper=1.0)
    if total > 1.0:
        doubt("overlap", f"The implant shares {total:.1f} mm3 with bone; under 1 mm3 is wanted.")

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
    _outside(put, doubt, implant, l5, seats, specimen)
    put(
        "screws.count",
        len(implant.wing_screws),
        "count",
        "Iliac screws through the wings",
        "SP-IMP-05",
    )
    for screw in implant.wing_screws:
        length = float(np.linalg.norm(screw.tip - screw.bone_entry))
        put(
            f"screws.{screw.name}.bone_mm",
            length,
            "mm",
            f"Screw {screw.name} beyond the cut face",
            "SP-IMP-05",
        )
    wanted = evidence.value("SP-IMP-07", "least")
    holes = len(implant.suture_holes)
    put("suture_holes.count", holes, "count", "Suture holes", "AM-13", "SP-IMP-07", lower=wanted)
    if holes < wanted:
        doubt(
            "few_suture_holes",
            f"Only {holes} suture holes found room along the lower border; {wanted:.0f} are wanted.",
            "AM-13",
            "SP-IMP-07",
        )
    return out, tuple(doubts)


def _mean_area(layer: Surface, plane: Plane, thickness_mm: float) -> float:
    """Mean section of a layer over its thickness, by Simpson's rule on three planes."""
    areas = [section(layer, plane.shifted(s * thickness_mm)).area_mm2 for s in (0.02, 0.5, 0.98)]
    return (areas[0] + 4.0 * areas[1] + areas[2]) / 6.0


def _angles(put: Any, layer: Surface, endplate: AxisFrame) -> None:
    facing = layer.face_normals @ endplate.axes[:, 1] > 0.5
    vector = layer.area_vectors[facing].sum(axis=0)
    normal = vector / np.linalg.norm(vector)
    area = np.linalg.norm(layer.area_vectors[facing], axis=1)
    centre = (layer.triangles[facing].mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()
    off = float(np.degrees(np.arccos(np.clip(normal @ endplate.axes[:, 1], -1.0, 1.0))))
    put("L5.angle_deg", off, "deg", "Angle between the implant's cranial face and the L5 endplate")
    slope = float(np.degrees(np.arctan2(normal[0], normal[1])))
    put(
        "L5.slope_deg",
        slope,
        "deg",
        "Slope of the cranial face in the pelvic frame, forwards positive",
    )
    # The virtual S1 endplate: pelvic incidence from the implant's cranial face (HANDBOOK 1.3).
    to_hips = -centre
    pi = np.degrees(np.arctan2(to_hips[0], -to_hips[1]) + np.arctan2(normal[0], normal[1]))
    put(
        "L5.virtual_pelvic_incidence_deg",
        float(pi),
        "deg",
        "Pelvic incidence with the implant's cranial face as endplate",
    )


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
    lattice = implant.lattice["L5"]
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
        "Porosity of the lattice",
        "POR-3",
        lower=share[0],
        upper=share[1],
    )
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


def _outside(
    put: Any,
    doubt: Any,
    implant: Implant,
    l5: Surface,
    seats: Mapping[Side, WingSeat],
    specimen: Surface | None,
) -> None:
    hips = [seat.hip for seat in seats.values()]
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
