"""Total sacrectomy: L5-S1 disc plane and one osteotomy per ilium lateral to the sacroiliac joint.

HANDBOOK RES-TOT; paper A: L5-S1 disc excised, both L5 roots kept, bilateral iliac osteotomies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.anatomy.landmarks_joint import find_contact
from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, same_frame, unit
from sacroplan.geometry.primitives import box
from sacroplan.geometry.slicing import CrossSection
from sacroplan.geometry.surface import Surface
from sacroplan.resection.cuts import Cut, osteotomy

SEARCH_SPACING_MM = 1.5
"""Bone is sampled this finely while planes are compared; areas are then good to about 2 %."""

LEAST_AREA_MM2 = 100.0
"""Less facing bone than this is a chance contact; the joint has 10 to 18 cm2 [DIM-16]."""

JOINT_QUANTILE = 0.03
"""The joint's edge for the search: a few hundredths of its points may be spurs of the segmentation."""

MISSED_NOTCH = 10.0
"""Cut face below the notch costs this many times cut face above it: it is avoided where possible."""

TIE = 0.01
"""Costs within about a hundredth of the least count as equal; sampling alone moves them by that."""

SEARCH_STEP_DEG = 2.5
"""Step of the two plane angles; the cost is flat to within 1 % over such a step."""


@dataclass(frozen=True, eq=False)
class SacroiliacJoint:
    """Where ilium and sacrum face each other: points (n, 3) on the ilium, LPS mm."""

    side: str
    points: FloatArray

    @property
    def centre(self) -> FloatArray:
        """(3,) mean of the joint's points."""
        return np.asarray(self.points.mean(axis=0))


def sacroiliac_joint(side: str, hip: Surface, sacrum: Surface) -> SacroiliacJoint:
    """Points of the hip's surface that face the sacrum within SP-RES-02.

    The same search as for the landmark SIJ, but with the ligamentous part behind the auricular
    faces: the osteotomy has to pass it as well. Raises :class:`PlanError` without such a surface.
    """
    same_frame(hip, sacrum)
    reach = evidence.value("SP-RES-02", "joint_space")
    contact = find_contact(hip, sacrum, reach)
    area = 0.0 if contact is None else float(contact.areas.sum())
    if contact is None or area < LEAST_AREA_MM2:
        raise PlanError(
            f"The {side} sacroiliac joint was not found: only {area:.0f} mm2 of the hip bone lie within "
            f"{reach:g} mm of the sacrum and face it. Check the bone labels."
        )
    return SacroiliacJoint(side, contact.patch)


def disc_plane(l5_inferior: AxisFrame, s1_superior: AxisFrame, outline: CrossSection) -> Cut:
    """L5-S1 disc cut: halfway between the two endplates, normal caudal towards the specimen."""
    point = 0.5 * (l5_inferior.origin + s1_superior.origin)
    normal = -unit(l5_inferior.axes[:, 1] + s1_superior.axes[:, 1])
    return Cut("l5_s1", "disc", "", Plane(point, normal, outline.frame), 0.0, outline)


def disc_outline(l5: Surface, l5_inferior: AxisFrame, s1_superior: AxisFrame) -> CrossSection:
    """Footprint of the disc: L5's body just above its inferior endplate, moved to the mid-disc."""
    from sacroplan.geometry.slicing import section

    point = 0.5 * (l5_inferior.origin + s1_superior.origin)
    normal = -unit(l5_inferior.axes[:, 1] + s1_superior.axes[:, 1])
    above = Plane(l5_inferior.origin + evidence.value("SP-RES-05") * l5_inferior.axes[:, 1], normal)
    body = section(l5, Plane(above.point, normal, l5.frame))
    home = body.to_plane(l5_inferior.origin[None])[0]
    loops = [p for p in body.loops if len(p) > 2]
    if not loops:
        raise PlanError("L5's body could not be sectioned above its inferior endplate.")
    nearest = min(loops, key=lambda p: float(np.linalg.norm(p.mean(axis=0) - home)))
    lift = float((body.origin - point) @ normal)
    return CrossSection(body.origin - lift * normal, body.axes, (nearest,), body.frame)


def iliac_plane(
    joint: SacroiliacJoint,
    hip: Surface,
    axes: AxisFrame,
    notch: FloatArray,
    kerf_mm: float,
    tumour: Surface | None,
    margin_mm: float,
) -> Plane:
    """Osteotomy plane just lateral to the joint, from the iliac crest to the greater sciatic notch.

    Among planes that keep SP-RES-01 to every joint point and ``margin_mm`` to the tumour, the one
    that loses least bone, each square centimetre of cut face counting as SP-RES-03 of bone, within
    the turns of SP-RES-04 from the sagittal plane. The normal points to the midline.

    Parameters
    ----------
    axes : pelvic frame (x anterior, y cranial, z right). notch : (3,) apex of the sciatic notch.
    """
    medial = -1.0 if joint.side == "right" else 1.0
    local = axes.to_local(_samples(hip, axes))
    above_notch = local[:, 1] > float(axes.to_local(notch)[1]) - SEARCH_SPACING_MM
    bone = local[above_notch]
    # A cut that misses the notch to the front runs on through acetabulum and ischium.
    reach = evidence.value("SP-RES-06", "reach")
    below_notch = local[~above_notch & (local[:, 1] > float(axes.to_local(notch)[1]) - reach)]
    allowed = evidence.value("SP-RES-06", "area")
    barrier = [(axes.to_local(joint.points), evidence.value("SP-RES-01"), JOINT_QUANTILE)]
    if tumour is not None:
        barrier.append((axes.to_local(tumour.vertices), margin_mm, 0.0))
    yaw_low, yaw_high = evidence.span("SP-RES-04", "yaw")
    tilt_low, tilt_high = evidence.span("SP-RES-04", "tilt")
    per_area = evidence.value("SP-RES-03")

    def placed(yaw: float, tilt: float) -> tuple[FloatArray, float]:
        a, b = np.radians(yaw), np.radians(tilt)
        # Yaw turns the normal from medial towards posterior, tilt from medial towards cranial.
        normal = unit([-np.sin(a) * np.cos(b), np.sin(b), medial * np.cos(a) * np.cos(b)])
        edges = [float(np.quantile(p @ normal, q)) - c for p, c, q in barrier]
        return normal, min(edges) - 0.5 * kerf_mm

    turns = [
        (yaw, tilt)
        for yaw in np.arange(yaw_low, yaw_high + 1e-9, SEARCH_STEP_DEG)
        for tilt in np.arange(tilt_low, tilt_high + 1e-9, SEARCH_STEP_DEG)
    ]
    cost = np.empty(len(turns))
    for n, (yaw, tilt) in enumerate(turns):
        normal, offset = placed(yaw, tilt)
        d = bone @ normal - offset
        lost = float(np.count_nonzero(d > 0)) * SEARCH_SPACING_MM**3
        missed = max(0.0, _slab_area(below_notch @ normal - offset) - allowed)
        cost[n] = lost + per_area * (_slab_area(d) + MISSED_NOTCH * missed)
    # The mean of all nearly best turns: a tie between two of them must not decide the plan.
    weight = np.exp(-(cost - cost.min()) / (TIE * cost.min()))
    yaw, tilt = weight @ np.array(turns) / weight.sum()
    normal, offset = placed(float(yaw), float(tilt))
    through = axes.to_local(joint.centre)
    through = through + (offset - through @ normal) * normal
    return Plane(axes.to_world(through), axes.axes @ normal, hip.frame)


def _slab_area(distance: FloatArray) -> float:
    """Cut area from the samples' distances to the plane (mm2)."""
    inside = np.count_nonzero(np.abs(distance) < SEARCH_SPACING_MM)
    return float(inside) * SEARCH_SPACING_MM**2 / 2.0


def _samples(hip: Surface, axes: AxisFrame) -> FloatArray:
    """Points inside the bone on a regular grid along the pelvic axes (so results turn with them)."""
    from sacroplan.geometry.fields import inside_mask
    from sacroplan.geometry.volume import VolumeGeometry

    # The grid starts at the pelvic origin: only then does it move with the patient.
    local = axes.to_local(hip.vertices)
    low = np.floor(local.min(axis=0) / SEARCH_SPACING_MM) - 1
    high = np.ceil(local.max(axis=0) / SEARCH_SPACING_MM) + 1
    shape = (high - low + 1).astype(int)
    grid = VolumeGeometry(
        (int(shape[0]), int(shape[1]), int(shape[2])),
        np.full(3, SEARCH_SPACING_MM),
        axes.to_world(low * SEARCH_SPACING_MM),
        axes.axes,
        hip.frame,
    )
    return grid.to_world(np.argwhere(inside_mask(hip, grid)))


def iliac_cut(
    side: str,
    hip: Surface,
    plane: Plane,
    kerf_mm: float,
    axes: AxisFrame,
    notch: FloatArray,
    solid: Any = None,
) -> Cut:
    """The finite cut of one ilium in ``plane``: only loops above the sciatic notch are sawn."""
    low, high = axes.to_local(hip.vertices).min(axis=0), axes.to_local(hip.vertices).max(axis=0)
    low = low - 10.0
    low[1] = float(axes.to_local(notch)[1]) + 2.0
    region = box(AxisFrame("region", axes.origin, axes.axes, hip.frame), low, high + 10.0)
    return osteotomy(f"iliac_{side}", f"hip_{side}", hip, plane, kerf_mm, region, solid)
