"""The bones of one patient as distance fields on boxes of the image grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.geometry.frames import FloatArray, Rigid
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.imaging.phantom import _kernels, reference
from sacroplan.imaging.phantom.pose import BoneMap, Pose
from sacroplan.imaging.phantom.shapes import Sheet, sheets

Field = npt.NDArray[np.float32]

BOX_MARGIN_MM = 7.0
"""Room around a bone's box, for blends and for the gap to its neighbour."""

RIM_MM = 2.5
"""Rounding of the rims of carved joints."""

_RETRO = np.array([0.0, 0.78, 0.62])
"""From the auricular face towards the iliac tuberosity: backwards and up."""

JOINT_RADIUS_MM = 40.0
"""The sacroiliac joint's two faces are brought into contact within this distance of its centre."""

NAMES: dict[int, str] = {
    1: "sacrum",
    2: "hip_right",
    3: "hip_left",
    4: "L5",
    5: "L4",
    9: "femur_right",
    10: "femur_left",
    20: "tumour",
}
"""Label ids of the phantom."""


@dataclass(frozen=True, eq=False)
class Bone:
    """One bone: its name, the corner of its box in voxels and its field (mm, negative inside)."""

    name: str
    start: tuple[int, int, int]
    field: Field

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Where the box lies in the full array."""
        i, j, k = (slice(a, a + n) for a, n in zip(self.start, self.field.shape, strict=True))
        return i, j, k


def corners(map_: BoneMap, box: FloatArray) -> FloatArray:
    """World positions (8, 3) of a reference box (2, 3)."""
    grid = np.stack(np.meshgrid(*box.T, indexing="ij"), -1).reshape(-1, 3)
    return map_.to_world(grid)


def femur_map(hip: BoneMap) -> BoneMap:
    """The femur hangs in its socket: scaled like the hip, turned with it, not widened with it."""
    centre = hip.to_world(reference.array("hip", "HJC"))
    scale = np.full(3, hip.mean_scale)
    return BoneMap(Rigid(np.eye(3), centre), scale, side=hip.side)


def _arrays(s: Sheet) -> tuple[FloatArray, FloatArray, float, FloatArray, FloatArray]:
    return s.axes, s.start_mm, s.step_mm, s.centre, s.square


def foramen(level: str) -> dict[str, FloatArray]:
    """Foramina of ``level`` on the left in the reference pose.

    Keys ``canal``, ``root``, ``ventral``, ``flare``, ``dorsal`` (3,) mm and ``radii`` (4,).
    """
    row = reference.array("sacrum", f"{level}_foramen")
    axes = sheets()["sacrum"].axes
    names = ("canal", "ventral", "flare", "dorsal")
    out = {n: row[3 * i : 3 * i + 3] @ axes for i, n in enumerate(names)}
    # The dorsal branch leaves the root canal half-way: there it runs straight backwards.
    out["root"] = 0.5 * (out["canal"] + out["ventral"])
    out["radii"] = row[12:16]
    return out


def _canals() -> FloatArray:
    """Cones (n, 8) that bore the foramina."""
    rows = []
    for level in reference.LEVELS:
        f = foramen(level)
        r = f["radii"]
        rows.append([*f["canal"], *f["ventral"], r[0], r[1]])
        rows.append([*f["ventral"], *f["flare"], r[1], r[2]])
        rows.append([*f["root"], *f["dorsal"], r[3], r[3]])
    return np.array(rows)


def _plate() -> FloatArray:
    """Argument ``plate`` of the sacral kernel."""
    c = reference.array("sacrum", "S1_corners")
    half = reference.array("sacrum", "S1_body")[0]
    depth = float(np.hypot(c[2] - c[0], c[3] - c[1]))
    normal = np.array([-(c[3] - c[1]), c[2] - c[0]]) / depth
    centre = np.array([c[0] + c[2], c[1] + c[3]]) / 2
    return np.array([*centre, *normal, half + 2.0, 0.5 * depth + 1.5])


def bones(geometry: VolumeGeometry, pose: Pose) -> dict[str, Bone]:
    """All bones of ``pose`` on a grid whose axes are LPS, joint gaps carved, by name."""
    net = sheets()
    cup = np.append(reference.array("hip", "HJC"), reference.number("hip", "cup_radius"))
    canals, table, plate = _canals(), reference.array("sacrum", "canal"), _plate()
    s1 = np.concatenate(
        [reference.array("sacrum", "S1_corners"), reference.array("sacrum", "S1_body")]
    )
    head = np.array([0.0, 0.0, 0.0, reference.number("femur", "head_radius")])
    cones, blends = reference.array("femur", "cones"), reference.array("femur", "blends")

    def box(name: str, map_: BoneMap, table_name: str) -> tuple[Bone, FloatArray]:
        points = geometry.to_index(corners(map_, reference.array(table_name, "box")))
        margin = BOX_MARGIN_MM / geometry.spacing_mm
        low = np.maximum(np.floor(points.min(0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(points.max(0) + margin) + 1, geometry.shape).astype(int)
        shape = np.maximum(high - low, 1)
        field = np.full(shape, _kernels.FAR, dtype=np.float32)
        start = (int(low[0]), int(low[1]), int(low[2]))
        return Bone(name, start, field), geometry.to_world(low)

    def hip(name: str, map_: BoneMap) -> Bone:
        bone, origin = box(name, map_, "hip")
        _kernels.hip_field(
            bone.field, origin, geometry.spacing_mm, map_.vector(), *_arrays(net["hip"]), cup
        )
        return bone

    def vertebra(name: str, map_: BoneMap) -> Bone:
        bone, origin = box(name, map_, name)
        shape = np.concatenate([reference.array(name, "corners"), reference.array(name, "body")])
        front, arch = _arrays(net[f"{name}_front"]), _arrays(net[f"{name}_arch"])
        _kernels.vertebra_field(
            bone.field, origin, geometry.spacing_mm, map_.vector(), shape, *front, *arch
        )
        return bone

    def femur(name: str, hip_map: BoneMap) -> Bone:
        map_ = femur_map(hip_map)
        bone, origin = box(name, map_, "femur")
        _kernels.femur_field(
            bone.field, origin, geometry.spacing_mm, map_.vector(), head, cones, blends
        )
        return bone

    sacrum, origin = box("sacrum", pose.sacrum, "sacrum")
    _kernels.sacrum_field(
        sacrum.field, origin, geometry.spacing_mm, pose.sacrum.vector(), *_arrays(net["sacrum"]),
        s1, table, canals, plate,
    )  # fmt: skip
    out = {
        "sacrum": sacrum,
        "hip_right": hip("hip_right", pose.hip_right),
        "hip_left": hip("hip_left", pose.hip_left),
        "L5": vertebra("L5", pose.l5),
        "L4": vertebra("L4", pose.l4),
        "femur_right": femur("femur_right", pose.hip_right),
        "femur_left": femur("femur_left", pose.hip_left),
    }
    _joints(out, geometry, pose)
    return out


def _joints(b: dict[str, Bone], geometry: VolumeGeometry, pose: Pose) -> None:
    """Bring the sacroiliac faces together, then carve every gap, in place."""
    gap = {
        n: evidence.value("SP-PHANTOM-03", n) for n in ("sacroiliac", "facet", "symphysis", "hip")
    }
    for name, map_ in (("hip_left", pose.hip_left), ("hip_right", pose.hip_right)):
        centre = map_.to_world(reference.array("hip", "SIJ"))
        pair = overlap(b["sacrum"], b[name])
        if pair is not None:
            sa, sb, start = pair
            _kernels.close_joint(
                sa, sb, geometry.to_world(start), geometry.spacing_mm, centre, JOINT_RADIUS_MM
            )
    pairs: list[tuple[str, str, str]] = [
        ("sacrum", "hip_left", "sacroiliac"),
        ("sacrum", "hip_right", "sacroiliac"),
        ("hip_left", "hip_right", "symphysis"),
        ("L5", "sacrum", "facet"),
        ("L4", "L5", "facet"),
        ("L5", "hip_left", "facet"),
        ("L5", "hip_right", "facet"),
        ("femur_left", "hip_left", "hip"),
        ("femur_right", "hip_right", "hip"),
    ]
    for first, second, kind in pairs:
        pair = overlap(b[first], b[second])
        if pair is None:
            continue
        wedge = np.zeros(8)
        if kind == "sacroiliac":
            hip = pose.hip_left if second == "hip_left" else pose.hip_right
            # Behind the auricular faces the joint widens for the interosseous ligament.
            wedge[:3] = hip.to_world(reference.array("hip", "SIJ"))
            wedge[3:6] = hip.rigid.directions(_RETRO)
            wedge[:3] += 2.0 * wedge[3:6]
            wedge[6:] = 10.0, evidence.value("SP-PHANTOM-03", "interosseous") - gap[kind]
        fa, fb, start = pair
        _kernels.part_company(
            fa,
            fb,
            0.5 * (fa - fb),
            geometry.to_world(start),
            geometry.spacing_mm,
            gap[kind],
            # The head keeps its sphere: the socket is already bored wider than it is.
            0.2 * RIM_MM if kind == "hip" else RIM_MM,
            wedge,
        )
    for bone in b.values():
        _one_piece(bone)


def _one_piece(bone: Bone) -> None:
    """Turn islands, which carving may leave, into soft tissue and voids into bone, in place."""
    from scipy.ndimage import label

    for solid, value in ((True, 0.5), (False, -0.5)):
        pieces, count = label((bone.field < 0.0) == solid)
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            bone.field[(pieces > 0) & (pieces != int(np.argmax(sizes)))] = value


def overlap(a: Bone, b: Bone) -> tuple[Field, Field, npt.NDArray[np.int64]] | None:
    """Views of two fields on the common part of their boxes, and its first voxel; None without."""
    low = np.maximum(a.start, b.start)
    high = np.minimum(np.add(a.start, a.field.shape), np.add(b.start, b.field.shape))
    if np.any(high <= low):
        return None

    def view(bone: Bone) -> Field:
        i, j, k = (
            slice(int(p - o), int(q - o)) for p, q, o in zip(low, high, bone.start, strict=True)
        )
        return bone.field[i, j, k]

    return view(a), view(b), low
