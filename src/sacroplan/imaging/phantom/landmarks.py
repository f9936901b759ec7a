"""Truth landmarks: points of the reference pose, brought to the patient and set on its surfaces."""

from __future__ import annotations

import numpy as np

from sacroplan.geometry.frames import FloatArray, perpendicular, unit
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.imaging.phantom import reference
from sacroplan.imaging.phantom.fields import Bone, foramen, overlap
from sacroplan.imaging.phantom.pose import BoneMap, Pose, endplate

SUMMIT_MM = 0.6
"""Points this close to the extreme count as its summit."""

SURROUNDED = 0.9
"""A foramen's mouth is where this share of directions still meets bone."""

PLANE_ROUNDS = 6
"""Passes of "find the spines, turn to the plane they define"; three settle it to the voxel."""

CLIMB_ROUNDS = 12
"""A search that ends at the border of its ball goes on from there."""

# The direction (lateral, posterior, superior) of the anterior pelvic plane's frame in which a landmark
# is extreme, and how far it is looked for at a time (mm).
_EXTREMES: dict[str, tuple[tuple[float, float, float], float]] = {
    "ASIS": ((0.0, -1.0, 0.0), 10.0),
    "AIIS": ((0.0, -1.0, 0.0), 7.0),
    "PSIS": ((0.0, 1.0, 0.0), 9.0),
    "PIIS": ((0.0, 0.8, -0.6), 3.5),
    "ISP": ((-0.5, 0.87, 0.0), 8.0),
    "PT": ((0.0, -1.0, 0.0), 5.0),
}

_PLANE = ("ASIS", "PT")
"""These define the plane, so they are found first."""

ISTHMUS_REACH_MM = 6.0
"""The narrowest place of a pedicle lies within this distance of its place in the reference pose."""

ISTHMUS_DRIFT_MM = 4.0
"""Between coronal sections half a millimetre apart a pedicle's axis moves by less than this."""

JOINT_FIELD_MM, SYMPHYSIS_FIELD_MM = 1.6, 4.0
"""The gap counts as joint where both bones are nearer than this."""

NOTCH_REACH_MM = 22.0
"""The apex of the sciatic notch lies within this distance of its place in the reference pose."""


def sample(bone: Bone, geometry: VolumeGeometry, points: FloatArray) -> FloatArray:
    """Field of ``bone`` (mm) at world points (n, 3), trilinear; far outside its box."""
    from scipy.ndimage import map_coordinates

    index = geometry.to_index(points) - np.asarray(bone.start)
    return np.asarray(
        map_coordinates(bone.field, index.T, order=1, mode="nearest", output=np.float64)
    )


def on_surface(bone: Bone, geometry: VolumeGeometry, point: FloatArray) -> FloatArray:
    """The surface point (3,) reached from ``point`` down the gradient."""
    p = point.copy()
    step = 0.5 * float(geometry.spacing_mm.min())
    offsets = np.concatenate([np.eye(3), -np.eye(3)]) * step
    for _ in range(40):
        value = float(sample(bone, geometry, p[None])[0])
        around = sample(bone, geometry, p + offsets)
        gradient = (around[:3] - around[3:]) / (2.0 * step)
        square = float(gradient @ gradient)
        if abs(value) < 0.02 or square < 1e-6:
            break
        move = -value * gradient / square
        p = p + move * min(1.0, 2.0 / max(float(np.linalg.norm(move)), 1e-9))
    return p


def extreme(
    bone: Bone,
    geometry: VolumeGeometry,
    point: FloatArray,
    direction: FloatArray,
    search_mm: float,
) -> FloatArray:
    """The bone's farthest point along ``direction``, climbing from the surface point next to ``point``.

    A landmark is an extremum of its own neighbourhood: where the best point lies on the border of
    the ball that was searched, the ball moves there.
    """
    start = on_surface(bone, geometry, point)
    ticks = np.arange(-search_mm, search_mm + 0.01, 0.5)
    cube = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1).reshape(-1, 3)
    ball = cube[np.linalg.norm(cube, axis=1) <= search_mm]
    for _ in range(CLIMB_ROUNDS):
        inside = start + ball
        inside = inside[sample(bone, geometry, inside) < 0.0]
        if not len(inside):
            return start
        height = inside @ direction
        # The middle of the summit: on a blunt spine the single highest point is arbitrary.
        summit = inside[height >= height.max() - SUMMIT_MM].mean(axis=0)
        found = on_surface(bone, geometry, summit)
        moved = float(np.linalg.norm(found - start))
        start = found
        if moved < 0.5 * search_mm:
            break
    return start


def notch_apex(
    bone: Bone, geometry: VolumeGeometry, point: FloatArray, lip: FloatArray, axes: FloatArray
) -> FloatArray:
    """Most cranial point of the greater sciatic notch as seen from the side.

    ``point`` (3,) is its expected place, ``lip`` (3,) the PIIS behind it, ``axes`` (3, 3) columns
    lateral, posterior, superior. The notch is what a line along the lateral axis passes without
    meeting bone; its roof is searched in front of the lip's lowest point.
    """
    from scipy.ndimage import label

    step = 0.5
    across = np.arange(-NOTCH_REACH_MM, NOTCH_REACH_MM + 0.01, step)
    through = np.arange(-30.0, 30.1, 1.0)
    v, w, u = np.meshgrid(across, across, through, indexing="ij")
    grid = point + u[..., None] * axes[:, 0] + v[..., None] * axes[:, 1] + w[..., None] * axes[:, 2]
    solid = sample(bone, geometry, grid.reshape(-1, 3)).reshape(u.shape).min(axis=2) < 0.0
    # The notch is the largest open region at the lower border of this window.
    number, _ = label(~solid)
    below = number[:, 0]
    pocket = number == np.bincount(below[below > 0]).argmax()
    level = np.arange(len(across))
    bone_above = np.flip(np.flip(solid, axis=1).cumsum(axis=1), axis=1) > 0
    roof = np.where(pocket & bone_above, level, -1).max(axis=1)
    edge = float((lip - point) @ axes[:, 1])
    near = np.flatnonzero((roof >= 0) & (np.abs(across - edge + 5.0) <= 7.0))
    low = int(near[np.argmin(roof[near])])
    ahead = np.where(level < low, roof, -1)
    top = np.flatnonzero(ahead >= ahead.max() - SUMMIT_MM / step)
    a, b = across[0] + step * float(top.mean()), across[0] + step * (float(ahead.max()) + 0.5)
    line = point + a * axes[:, 1] + b * axes[:, 2] + through[:, None] * axes[:, 0]
    depth = sample(bone, geometry, line)
    return on_surface(bone, geometry, line[depth <= depth.min() + 0.5].mean(axis=0))


def enclosure(bone: Bone, geometry: VolumeGeometry, point: FloatArray, axis: FloatArray) -> float:
    """Share of 32 rays at right angles to ``axis`` that meet bone within 13 mm of ``point``."""
    n = unit(axis)
    e1 = perpendicular(n)
    e2 = np.cross(n, e1)
    turn = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)
    rays = np.cos(turn)[:, None] * e1 + np.sin(turn)[:, None] * e2
    reach = np.arange(0.5, 13.0, 0.5)
    points = point + rays[:, None] * reach[:, None]
    values = sample(bone, geometry, points.reshape(-1, 3)).reshape(len(turn), -1)
    return float((values.min(axis=1) < 0.0).mean())


def mouth(bone: Bone, geometry: VolumeGeometry, path: FloatArray) -> FloatArray:
    """The last point (3,) of ``path`` (n, 3), which leads out of a canal, that bone surrounds."""
    axis = path[-1] - path[0]
    shares = np.array([enclosure(bone, geometry, p, axis) for p in path])
    wanted = min(SURROUNDED, float(shares.max()))
    return np.asarray(path[int(np.flatnonzero(shares >= wanted)[-1])])


def _isthmus(
    bone: Bone, geometry: VolumeGeometry, map_: BoneMap, start: FloatArray, wall: float
) -> FloatArray:
    """Reference point in the pedicle's middle where the largest ball inside it is smallest.

    The deepest point is followed from coronal section to coronal section through ``start`` (3,),
    behind the body's posterior ``wall`` (reference y).
    """
    from scipy.ndimage import distance_transform_edt

    step = 0.5
    half = np.array([9.0, ISTHMUS_REACH_MM + 6.0, 11.0])
    ticks = [np.arange(-h, h + 0.01, step) for h in half]
    grid = start + np.stack(np.meshgrid(*ticks, indexing="ij"), -1)
    solid = sample(bone, geometry, map_.to_world(grid.reshape(-1, 3))).reshape(grid.shape[:3]) < 0.0
    depth = distance_transform_edt(solid, sampling=step * map_.scale)
    middle = len(ticks[1]) // 2
    reach = round(ISTHMUS_REACH_MM / step)
    best = np.full(len(ticks[1]), np.inf)
    place = np.zeros((len(ticks[1]), 3))

    def follow(j: int, near: FloatArray) -> FloatArray:
        plane = np.linalg.norm(grid[:, j] - near, axis=2) <= ISTHMUS_DRIFT_MM
        section = np.where(plane, depth[:, j], 0.0)
        best[j] = float(section.max())
        place[j] = grid[:, j][section >= best[j] - 0.3].mean(axis=0)
        return np.asarray(place[j])

    for direction in (1, -1):
        near = start
        for j in range(middle, middle + direction * (reach + 1), direction):
            near = follow(j, near)
    best[start[1] + ticks[1] < wall] = np.inf
    return np.asarray(place[best <= best.min() + 0.15].mean(axis=0))


def find(geometry: VolumeGeometry, bones: dict[str, Bone], pose: Pose) -> dict[str, FloatArray]:
    """All truth landmarks by name, (3,) LPS mm each."""
    out: dict[str, FloatArray] = {}
    plate = endplate(pose.sacrum)
    for name in ("S1EP", "S1EP_ANT", "S1EP_POST"):
        out[name] = plate[name]
    out["S1EP_L"], out["S1EP_R"] = plate["left"], plate["right"]
    bottom = reference.array("L5", "corners")[4:]
    edges = pose.l5.to_world(np.array([[0.0, *bottom[:2]], [0.0, *bottom[2:]]]))
    out["L5IEP"] = edges.mean(axis=0)
    hips = {"L": (pose.hip_left, bones["hip_left"]), "R": (pose.hip_right, bones["hip_right"])}

    def spines(names: tuple[str, ...], axes: FloatArray) -> None:
        for side, (map_, bone) in hips.items():
            for name in names:
                direction, search_mm = _EXTREMES[name]
                d = axes @ (np.array(direction) * np.array([map_.side, 1.0, 1.0]))
                key = f"{name}_{side}"
                start = out.get(key, map_.to_world(reference.array("hip", name)))
                out[key] = extreme(bone, geometry, start, d, search_mm)

    axes = np.eye(3)
    for _ in range(PLANE_ROUNDS):
        spines(_PLANE, axes)
        axes = _plane_axes(out)
    spines(tuple(n for n in _EXTREMES if n not in _PLANE), axes)
    for side, (map_, bone) in hips.items():
        start = map_.to_world(reference.array("hip", "GSN"))
        out[f"GSN_{side}"] = notch_apex(bone, geometry, start, out[f"PIIS_{side}"], axes)
        out[f"HJC_{side}"] = map_.to_world(reference.array("hip", "HJC"))
        out[f"SIJ_{side}"] = _middle(geometry, bones["sacrum"], bone, JOINT_FIELD_MM)
        mirror = np.array([map_.side, 1.0, 1.0])
        for level in reference.LEVELS:
            f = foramen(level)
            root, ventral, flare, dorsal = (
                pose.sacrum.to_world(f[n] * mirror) for n in ("root", "ventral", "flare", "dorsal")
            )
            front = np.linspace(root, ventral, 30), np.linspace(ventral, flare, 20)
            back = np.linspace(0.8 * root + 0.2 * dorsal, dorsal, 40)
            out[f"{level}AF_{side}"] = mouth(bones["sacrum"], geometry, np.concatenate(front))
            out[f"{level}PF_{side}"] = mouth(bones["sacrum"], geometry, back)
        for name, spine in (("L4", pose.l4), ("L5", pose.l5)):
            start = reference.array(name, "PED") * mirror
            c = reference.array(name, "corners")
            wall = float(np.interp(start[2], [c[7], c[3]], [c[6], c[2]]))
            isthmus = _isthmus(bones[name], geometry, spine, start, wall)
            out[f"{name}PED_{side}"] = spine.to_world(isthmus)
    out["PS"] = _middle(geometry, bones["hip_left"], bones["hip_right"], SYMPHYSIS_FIELD_MM)
    return dict(sorted(out.items()))


def _plane_axes(points: dict[str, FloatArray]) -> FloatArray:
    """(3, 3) columns left, posterior, superior of the anterior pelvic plane [FRM-2]."""
    x = unit(points["ASIS_L"] - points["ASIS_R"])
    up = points["ASIS_L"] + points["ASIS_R"] - points["PT_L"] - points["PT_R"]
    z = unit(up - (up @ x) * x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _middle(geometry: VolumeGeometry, a: Bone, b: Bone, reach_mm: float) -> FloatArray:
    """Centroid (3,) of the gap where both bones are nearer than ``reach_mm``."""
    pair = overlap(a, b)
    if pair is None:
        raise AssertionError("The boxes of neighbouring bones always overlap.")
    fa, fb, start = pair
    gap = (fa > 0) & (fb > 0) & (fa < reach_mm) & (fb < reach_mm)
    return np.asarray(geometry.to_world(np.argwhere(gap) + start).mean(axis=0))
