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

# The direction (lateral, posterior, superior) in which a landmark is extreme, and how far from its
# expected place it is looked for (mm); without a distance it is the nearest surface point.
_EXTREMES: dict[str, tuple[tuple[float, float, float], float]] = {
    "ASIS": ((0.0, -1.0, 0.0), 10.0),
    "AIIS": ((0.0, -1.0, 0.0), 7.0),
    "PSIS": ((0.0, 1.0, 0.0), 9.0),
    "PIIS": ((0.0, 0.8, -0.6), 3.5),
    "GSN": ((0.0, 0.0, 0.0), 0.0),
    "ISP": ((-0.5, 0.87, 0.0), 8.0),
    "PT": ((0.0, -1.0, 0.0), 5.0),
}


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
    """The bone's farthest point along ``direction`` near the surface point next to ``point``."""
    start = on_surface(bone, geometry, point)
    ticks = np.arange(-search_mm, search_mm + 0.01, 0.5)
    cube = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1).reshape(-1, 3)
    near = start + cube[np.linalg.norm(cube, axis=1) <= search_mm]
    inside = near[sample(bone, geometry, near) < 0.0]
    if not len(inside):
        return start
    height = inside @ direction
    # The middle of the summit: on a blunt spine the single highest point is arbitrary.
    summit = inside[height >= height.max() - SUMMIT_MM].mean(axis=0)
    return on_surface(bone, geometry, summit)


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


def _isthmus(bone: Bone, geometry: VolumeGeometry, map_: BoneMap, start: FloatArray) -> FloatArray:
    """Reference point in the middle of the pedicle's coronal section through ``start`` (3,)."""
    across, along = np.arange(-5.0, 5.01, 0.5), np.arange(-7.0, 7.01, 0.5)
    gx, gz = np.meshgrid(start[0] + across, start[2] + along, indexing="ij")
    flat = np.stack([gx, np.full_like(gx, start[1]), gz], -1).reshape(-1, 3)
    depth = -sample(bone, geometry, map_.to_world(flat))
    return np.asarray(flat[depth >= float(depth.max()) - 0.3].mean(axis=0))


def find(geometry: VolumeGeometry, bones: dict[str, Bone], pose: Pose) -> dict[str, FloatArray]:
    """All truth landmarks by name, (3,) LPS mm each."""
    out: dict[str, FloatArray] = {}
    plate = endplate(pose.sacrum)
    for name in ("S1EP", "S1EP_ANT", "S1EP_POST"):
        out[name] = plate[name]
    bottom = reference.array("L5", "corners")[4:]
    edges = pose.l5.to_world(np.array([[0.0, *bottom[:2]], [0.0, *bottom[2:]]]))
    out["L5IEP"] = edges.mean(axis=0)
    for side, map_ in (("L", pose.hip_left), ("R", pose.hip_right)):
        bone = bones["hip_left" if side == "L" else "hip_right"]
        for name, (direction, search_mm) in _EXTREMES.items():
            point = map_.to_world(reference.array("hip", name))
            d = np.array(direction) * np.array([map_.side, 1.0, 1.0])
            out[f"{name}_{side}"] = extreme(bone, geometry, point, d, search_mm)
        out[f"HJC_{side}"] = map_.to_world(reference.array("hip", "HJC"))
        out[f"SIJ_{side}"] = _joint_centre(geometry, bones["sacrum"], bone)
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
            out[f"{name}PED_{side}"] = spine.to_world(_isthmus(bones[name], geometry, spine, start))
    out["PS"] = _symphysis(geometry, bones["hip_left"], bones["hip_right"])
    return dict(sorted(out.items()))


def _joint_centre(geometry: VolumeGeometry, sacrum: Bone, hip: Bone) -> FloatArray:
    """Middle of the sacroiliac gap: the mid-surface point nearest to the mean of the narrow gap."""
    return _middle(geometry, sacrum, hip, 1.6)


def _symphysis(geometry: VolumeGeometry, left: Bone, right: Bone) -> FloatArray:
    """Middle of the gap between the pubic bones."""
    return _middle(geometry, left, right, 4.0)


def _middle(geometry: VolumeGeometry, a: Bone, b: Bone, reach_mm: float) -> FloatArray:
    pair = overlap(a, b)
    if pair is None:
        raise AssertionError("The boxes of neighbouring bones always overlap.")
    fa, fb, start = pair
    gap = (fa > 0) & (fb > 0) & (fa < reach_mm) & (fb < reach_mm)
    points = geometry.to_world(np.argwhere(gap) + start)
    mean = points.mean(axis=0)
    return np.asarray(points[int(np.argmin(np.linalg.norm(points - mean, axis=1)))])
