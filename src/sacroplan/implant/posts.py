"""Saddles for the posterior rods: where they stand, whether a rod reaches them, what they cut."""

from __future__ import annotations

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, unit
from sacroplan.geometry.primitives import box, cylinder
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.implant.model import ImplantParameters, RodPost, Side, sign_of
from sacroplan.implant.shape import Field, Wing

SLOT_STEP_MM = 0.02
"""A slot's walls stand this much inside its round floor: tangent cutters leave faces without width."""

STEEPEST_ROD_DEG = 70.0
"""A rod lying flatter than this across the back meets no tulip that a surgeon can close."""


def plan_post(
    side: Side,
    target: FloatArray | None,
    wing: Wing,
    body: Field,
    geometry: VolumeGeometry,
    p: ImplantParameters,
    axes: AxisFrame,
) -> tuple[RodPost, FloatArray, tuple[Doubt, ...]]:
    """The saddle under one pedicle screw, the foot of its pillar inside the body, and doubts.

    Raises :class:`PlanError` where a rod from the screw's head cannot reach a saddle on the wing.
    ``axes`` is the pelvic frame, so that messages name the place in LPS.
    """
    s = sign_of(side)
    doubts: tuple[Doubt, ...] = ()
    gap = evidence.value("SP-IMP-06", "gap_to_screw")
    if target is None:
        z = wing.middle[2] + s * evidence.value("SP-IMP-06", "half_distance")
        head = np.array([wing.middle[0] - 40.0, wing.middle[1] + 1.5 * gap, z])
        doubts = (
            Doubt(
                "implant",
                "implant.rod_target_unknown",
                f"The head of the L5 pedicle screw on the {side} is not known; "
                "the rod post stands at the default place.",
                ("SP-IMP-06",),
            ),
        )
    else:
        head = np.asarray(target, dtype=float)
        _require_reach(side, head, wing, axes)
    t = wing.parameter(float(head[2]))
    core = np.array([float(c) for c in wing.centre(np.array(t))])
    # Half-way between wing and screw head in z, but never so far out that the saddle leaves the wing.
    y = min(core[1] + 0.15 * p.wing_height_mm, float(head[1]) - gap)
    y = max(y, core[1] - 0.35 * p.wing_height_mm)
    march = np.array([core[0], y, core[2]]) - np.arange(0.0, 60.0, 0.25)[:, None] * [1.0, 0.0, 0.0]
    outside = sample(geometry, body, march, np.inf) > 0.0
    if outside[0] or not outside.any():
        raise PlanError(
            f"The {side} rod misses the implant: it has no posterior surface under the screw head "
            f"{_told(head, axes)}; check the pedicle screw's head or move the wings."
        )
    surface_x = float(march[int(np.argmax(outside)), 0])
    nearest = surface_x - (0.5 * p.rod_diameter_mm + 2.0)
    furthest = surface_x - evidence.value("SP-IMP-06", "reach")
    x = float(np.clip(head[0], furthest, nearest))
    centre = np.array([x, y, core[2]])
    axis = unit(head - centre)
    if axis[1] < np.cos(np.radians(STEEPEST_ROD_DEG)):
        raise PlanError(
            f"The {side} rod misses its post: from the saddle to the screw head {_told(head, axes)} it would "
            f"lie {np.degrees(np.arccos(np.clip(axis[1], -1.0, 1.0))):.0f} degrees off the long axis "
            f"({STEEPEST_ROD_DEG:g} at most); move the screw or the wings."
        )
    opening = unit(np.array([-1.0, 0.0, 0.0]) + axis[0] * axis)
    if head[1] - y < gap - 1e-6:
        doubts += (
            Doubt(
                "implant",
                "implant.post_near_screw",
                f"The {side} rod post is only {head[1] - y:.0f} mm below the L5 screw's head; "
                f"{gap:.0f} mm leave room for two set screws.",
                ("SP-IMP-06",),
            ),
        )
    foot = centre - opening * ((surface_x - x) + 7.0)
    return RodPost(f"rod_post_{side}", side, centre, axis, opening, p.rod_diameter_mm), foot, doubts


def _told(point: FloatArray, axes: AxisFrame) -> str:
    at = np.round(axes.to_world(point)).astype(int).tolist()
    return f"at {at} mm LPS"


def _require_reach(side: Side, head: FloatArray, wing: Wing, axes: AxisFrame) -> None:
    """Refuse a screw head from which no rod comes down onto the wing of its side."""
    s = sign_of(side)
    beyond = s * (float(head[2]) - float(wing.target[2]))
    if s * float(head[2]) < 0.0:
        raise PlanError(
            f"The {side} rod misses its post: the {side} screw head {_told(head, axes)} lies "
            f"{-s * float(head[2]):.0f} mm on the other side of the midline; check left and right."
        )
    if beyond > 0.0:
        raise PlanError(
            f"The {side} rod misses its post: the screw head {_told(head, axes)} lies {beyond:.0f} mm "
            f"lateral of the {side} seat's middle, beyond the wing; check the pedicle screw."
        )
    if head[1] < wing.middle[1]:
        raise PlanError(
            f"The {side} rod misses its post: the screw head {_told(head, axes)} lies "
            f"{float(wing.middle[1] - head[1]):.0f} mm below the wing's middle, so no rod comes down to "
            "the saddle; check the pedicle screw."
        )


def post_top(post: RodPost) -> FloatArray:
    """(3,) middle of the saddle's rim."""
    rise = 0.5 * post.diameter + evidence.value("SP-IMP-06", "wall_above_rod")
    return np.asarray(post.centre + rise * post.opening)


def post_cutters(post: RodPost, target: FloatArray | None, frame: str) -> list[Surface]:
    """Rod slot open to the back, and the core of the set screw's thread."""
    width = post.diameter + evidence.value("SP-IMP-06", "slot_clearance")
    outer = evidence.value("SP-IMP-06", "outer_diameter")
    # The thread is cut by machine: printed under size, so that the tap finds metal all round.
    core = evidence.value("SP-IMP-06", "set_screw_core") - evidence.value("AM-09", "thread")
    rise = 0.5 * post.diameter + evidence.value("SP-IMP-06", "wall_above_rod") + 3.0
    # Up to the screw head nothing may stand in the rod's way; below, the rod ends 5 mm past the saddle.
    up = outer if target is None else float(np.linalg.norm(target - post.centre))
    down = 0.5 * outer + 5.0
    across = np.cross(post.axis, post.opening)
    at = AxisFrame(
        post.name,
        post.centre,
        np.stack([across, post.opening, np.cross(across, post.opening)], 1),
        frame,
    )
    along = at.axes[:, 2] @ post.axis
    low, high = (-down, up) if along > 0 else (-up, down)
    return [
        box(at, [SLOT_STEP_MM - 0.5 * width, 0.0, low], [0.5 * width - SLOT_STEP_MM, rise, high]),
        cylinder(
            post.centre - down * post.axis, post.centre + up * post.axis, 0.5 * width, frame=frame
        ),
        cylinder(post.centre, post.centre + rise * post.opening, 0.5 * core, frame=frame),
    ]
