"""Where dura and the L5 roots run, from landmarks: solids that the implant keeps clear of.

A CT does not show nerves. These ways are anatomy's usual ones between landmarks: the sac behind the
vertebral bodies, the L5 root under its pedicle, beside the disc, over the front of the ala to the
greater sciatic notch. Who sees the nerves on an MRI gives them as ``keep_clear`` instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.geometry.primitives import tube
from sacroplan.geometry.surface import Surface

STEP_MM = 2.0
"""Spacing of a tube's rings."""

LEAST_SAC_MM = 3.0
"""A canal narrower than this is the surface's doing; the sac keeps this radius."""

BESIDE_MM = 4.0
"""The root passes the endplate's edge at this distance."""

COLUMN_MM = 6.0
"""The ala's front is the foremost bone within this of the root's way."""


def nerve_solids(
    points: Mapping[str, FloatArray],
    frames: Mapping[str, AxisFrame],
    sacrum: Surface,
    kept: Collection[str],
    sac_to: int = 0,
) -> dict[str, Surface]:
    """Solids by name, LPS mm: ``dural_sac``, ``root_L5_left``, ``root_L5_right``.

    Parameters
    ----------
    kept : roots that stay, such as ``L5_left``; a root that is not named gets no solid.
    sac_to : last sacral level (0 to 4) down to which the sac stays; 0: ligated below L5.

    What lacks its landmarks is left out: there is nothing to keep clear of by guess.
    """
    out: dict[str, Surface] = {}
    sac = dural_sac(points, frames, sacrum, sac_to)
    if sac is not None:
        out["dural_sac"] = sac
    for side in ("left", "right"):
        if f"L5_{side}" in kept:
            root = l5_root(points, frames, sacrum, side)
            if root is not None:
                out[f"root_L5_{side}"] = root
    return out


def dural_sac(
    points: Mapping[str, FloatArray],
    frames: Mapping[str, AxisFrame],
    sacrum: Surface,
    sac_to: int,
) -> Surface | None:
    """The sac behind L5, and down the sacral canal to a level; None without its landmarks."""
    if not {"L5SEP_POST", "L5IEP_POST"} <= set(points) or "L5IEP" not in frames:
        return None
    radius = evidence.value("SP-IMP-11", "dura_radius")
    back, up = -frames["L5IEP"].axes[:, 0], frames["L5IEP"].axes[:, 1]
    way = [np.asarray(points[n]) + radius * back for n in ("L5SEP_POST", "L5IEP_POST")]
    if sac_to == 0:
        way.append(way[1] - evidence.value("SP-IMP-11", "sac_below_l5") * up)
    for n in range(1, sac_to + 1):
        mouths = [[f"S{n}{k}F_{s}" for s in "LR"] for k in "AP"]
        if any(m not in points for pair in mouths for m in pair):
            break
        front, rear = (np.mean([points[m] for m in pair], axis=0) for pair in mouths)
        centre, free = _in_canal(front, rear, sacrum)
        radius = min(radius, max(free, LEAST_SAC_MM))
        way.append(centre)
    return tube(smooth(np.array(way)), radius, frame=frames["L5IEP"].frame)


def _in_canal(front: FloatArray, rear: FloatArray, sacrum: Surface) -> tuple[FloatArray, float]:
    """The middle of the sacral canal between a level's foramina, and the free way round it (mm).

    The roomiest point on the line from the ventral to the dorsal mouths and as far again behind.
    """
    import igl

    line = front + np.linspace(0.3, 1.6, 60)[:, None] * (rear - front)
    squared = igl.point_mesh_squared_distance(line, sacrum.vertices, sacrum.faces)[0]
    inside = igl.winding_number(sacrum.vertices, sacrum.faces, line) > 0.5
    room = np.where(inside, 0.0, np.sqrt(squared))
    # Behind the arch all is free: the canal ends where bone begins again.
    covered = np.flatnonzero(inside)
    if len(covered):
        room[covered[-1] :] = 0.0
    k = int(np.argmax(room))
    if room[k] <= 0.0:
        return np.asarray(front + 0.65 * (rear - front)), 0.0
    return line[k], float(room[k])


def l5_root(
    points: Mapping[str, FloatArray], frames: Mapping[str, AxisFrame], sacrum: Surface, side: str
) -> Surface | None:
    """The L5 root of one side; None without its landmarks."""
    letter, sign = side[0].upper(), 1.0 if side == "right" else -1.0
    needed = {f"L5PED_{letter}", f"L5IEP_{letter}", f"GSN_{letter}", f"SIJ_{letter}"}
    if not needed <= set(points) or not {"L5IEP", "pelvis"} <= set(frames):
        return None
    radius = evidence.value("SP-IMP-11", "root_radius")
    pelvis, plate = frames["pelvis"], frames["L5IEP"]
    up, right = plate.axes[:, 1], plate.axes[:, 2]
    pedicle = 0.5 * evidence.value("DIM-11", "height")
    begin = np.asarray(points[f"L5PED_{letter}"]) - (pedicle + radius) * up
    edge = np.asarray(points[f"L5IEP_{letter}"]) + sign * (BESIDE_MM + radius) * right
    # Over the ala: half-way from the endplate's edge to the joint, in front of the bone there.
    half = 0.5 * (edge + np.asarray(points[f"SIJ_{letter}"]))
    local = pelvis.to_local(sacrum.vertices)
    at = pelvis.to_local(half)
    column = np.linalg.norm(local[:, 1:] - at[1:], axis=1) < COLUMN_MM
    if column.any():
        at = np.array([float(local[column, 0].max()) + radius, at[1], at[2]])
    notch = pelvis.to_local(np.asarray(points[f"GSN_{letter}"])) + [2.0 * radius, -radius, 0.0]
    way = np.array([begin, edge, pelvis.to_world(at), pelvis.to_world(notch)])
    return tube(smooth(way), radius, frame=plate.frame)


def smooth(way: FloatArray) -> FloatArray:
    """Points (n, 3) every :data:`STEP_MM` along a smooth curve through ``way`` (k, 3)."""
    from scipy.interpolate import PchipInterpolator

    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
    keep = np.concatenate([[True], np.diff(chord) > 1e-6])
    curve = PchipInterpolator(chord[keep], way[keep])
    return np.asarray(curve(np.linspace(0.0, chord[-1], max(3, int(chord[-1] / STEP_MM) + 1))))
