"""From the reference pose to the patient: scale, asymmetry, pelvic incidence, posture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.frames import FloatArray, Rigid
from sacroplan.imaging.phantom import reference
from sacroplan.imaging.phantom.parameters import PhantomParameters

OUTLET_FROM_MM = -48.0
"""Reference height at which the true pelvis begins to widen: below the sacroiliac joint."""

OUTLET_TO_MM = -112.0
"""Reference height at which it is widest: the ischial spines."""

BEND_FROM_MM, BEND_TO_MM, BEND_PIVOT_Y_MM = -25.0, -105.0, 60.0
"""The part of the sacrum that bends with its kyphosis, reference mm."""

BEND_SHARE = 0.45
"""A steeper sacral plate goes with a more curved sacrum: this share of the turn is taken back below."""

PRESS_MM = 1.0
"""The hip bones are pressed together by this much, so that the carved sacroiliac gap is even."""

SPINE_SHARE = 0.42
"""How much of a change of sacral slope each lumbar joint takes back."""


@dataclass(frozen=True, eq=False)
class BoneMap:
    """Reference pose to world for one bone, and back.

    Attributes
    ----------
    rigid : scaled reference to world.
    scale : (3,) factors.
    outlet : extra x scale below the sacroiliac joint.
    side : +1 or -1; -1 is the mirror image.
    skew : relative difference of the two halves of a midline bone.
    bend_rad : turn of the lower sacrum.
    """

    rigid: Rigid
    scale: FloatArray
    outlet: float = 0.0
    side: float = 1.0
    skew: float = 0.0
    bend_rad: float = 0.0

    @property
    def mean_scale(self) -> float:
        """Geometric mean of the factors: turns reference distances into mm of this patient."""
        return float(np.prod(self.scale) ** (1.0 / 3.0))

    def vector(self) -> FloatArray:
        """The numbers the compiled fields want, see ``_kernels``."""
        back = self.rigid.inverse()
        return np.concatenate(
            [
                back.rotation.ravel(),
                back.translation,
                self.scale,
                [self.outlet, OUTLET_FROM_MM, OUTLET_TO_MM, self.side, self.mean_scale],
                [self.bend_rad, BEND_FROM_MM, BEND_TO_MM, BEND_PIVOT_Y_MM, self.skew],
            ]
        )

    def to_world(self, points: FloatArray) -> FloatArray:
        """Reference points (n, 3) or (3,) in the patient."""
        p = np.atleast_2d(np.asarray(points, dtype=np.float64)).copy()
        q = p.copy()
        if self.bend_rad:
            # The bend is given from the patient to the reference; the way out is a fixed point.
            for _ in range(60):
                t = np.clip((BEND_FROM_MM - q[:, 2]) / (BEND_FROM_MM - BEND_TO_MM), 0.0, 1.0)
                a = -self.bend_rad * t * t * (3.0 - 2.0 * t)
                dy, dz = p[:, 1] - BEND_PIVOT_Y_MM, p[:, 2] - BEND_FROM_MM
                q[:, 1] = BEND_PIVOT_Y_MM + np.cos(a) * dy - np.sin(a) * dz
                q[:, 2] = BEND_FROM_MM + np.sin(a) * dy + np.cos(a) * dz
        t = np.clip((p[:, 2] - OUTLET_FROM_MM) / (OUTLET_TO_MM - OUTLET_FROM_MM), 0.0, 1.0)
        sx = self.scale[0] + self.outlet * t * t * (3.0 - 2.0 * t)
        x = p[:, 0].copy()
        if self.skew:
            for _ in range(60):
                x = p[:, 0] / (1.0 - self.skew * np.tanh(x / 20.0))
        out = np.stack([self.side * x * sx, q[:, 1] * self.scale[1], q[:, 2] * self.scale[2]], 1)
        return np.asarray(self.rigid.points(out).reshape(np.shape(points)))


@dataclass(frozen=True, eq=False)
class Pose:
    """The maps of all bones of one patient."""

    hip_left: BoneMap
    hip_right: BoneMap
    sacrum: BoneMap
    l5: BoneMap
    l4: BoneMap


def turn(axis: int, degrees: float, about: FloatArray) -> Rigid:
    """Rotation about LPS axis ``axis`` through ``about`` (3,)."""
    a = np.deg2rad(degrees)
    c, s = np.cos(a), np.sin(a)
    r = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    r[i, i], r[i, j], r[j, i], r[j, j] = c, -s, s, c
    return Rigid(r, about - r @ about)


def chain(outer: Rigid, inner: Rigid) -> Rigid:
    """The transform that applies ``inner`` first."""
    return Rigid(
        outer.rotation @ inner.rotation, outer.rotation @ inner.translation + outer.translation
    )


def endplate(map_: BoneMap) -> dict[str, FloatArray]:
    """S1 superior endplate in the world: centre, ANT, POST, left, right (3,), unit ``normal`` cranial."""
    c = reference.array("sacrum", "S1_corners")
    half = reference.array("sacrum", "S1_body")[0]
    points = map_.to_world(
        np.array(
            [
                [0.0, c[0], c[1]],
                [0.0, c[2], c[3]],
                [half, (c[0] + c[2]) / 2, (c[1] + c[3]) / 2],
                [-half, (c[0] + c[2]) / 2, (c[1] + c[3]) / 2],
            ]
        )
    )
    normal = np.cross(points[1] - points[0], points[2] - points[3])
    normal /= np.linalg.norm(normal)
    if normal[2] < 0:
        normal = -normal
    return {
        "S1EP": 0.5 * (points[0] + points[1]),
        "S1EP_ANT": points[0],
        "S1EP_POST": points[1],
        "left": points[2],
        "right": points[3],
        "normal": normal,
    }


def incidence_deg(plate: dict[str, FloatArray], hip_centre: FloatArray) -> float:
    """Pelvic incidence (SAG-PI) of an endplate and the middle of the hip axis (3,)."""
    to_hip = hip_centre - plate["S1EP"]
    cosine = -float(plate["normal"] @ to_hip) / float(np.linalg.norm(to_hip))
    angle = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    # The plate tips forward over the hips: less than none would be negative.
    forward = np.cross(plate["normal"], to_hip)[0]
    return angle if forward > 0 else -angle


def solve(parameters: PhantomParameters) -> Pose:
    """The pose whose pelvic incidence is the wanted one."""
    from scipy.optimize import brentq

    size = parameters.size
    scale = size * reference.array(parameters.sex, "scale")
    vertebra = size * reference.array(parameters.sex, "vertebra")
    outlet = size * reference.number(parameters.sex, "outlet")
    a = parameters.asymmetry
    joint = reference.array("hip", "SIJ") * scale

    def hip(side: float) -> BoneMap:
        pivot = joint * np.array([side, 1.0, 1.0])
        lean = chain(turn(2, 0.7 * a, pivot), turn(0, 0.6 * a * side, pivot))
        wide = scale * np.array([1.0 + 0.008 * a * side, 1.0, 1.0 - 0.006 * a * side])
        shift = Rigid(np.eye(3), pivot - pivot * wide / scale)
        press = Rigid(np.eye(3), np.array([-PRESS_MM * side, 0.0, 0.0]))
        return BoneMap(chain(press, chain(lean, shift)), wide, outlet=outlet, side=side)

    left, right = hip(1.0), hip(-1.0)
    centre = reference.array("hip", "HJC")
    hips = 0.5 * (left.to_world(centre) + right.to_world(centre))
    middle = joint * np.array([0.0, 1.0, 1.0])

    def sacrum(angle: float) -> BoneMap:
        tilt = turn(1, 0.6 * a, middle)
        bend = np.deg2rad(BEND_SHARE * angle)
        return BoneMap(
            chain(turn(0, angle, middle), tilt), scale, skew=0.012 * a, bend_rad=float(bend)
        )

    def miss(angle: float) -> float:
        return incidence_deg(endplate(sacrum(angle)), hips) - parameters.pelvic_incidence_deg

    angle = float(brentq(miss, -50.0, 50.0, xtol=1e-10))
    s = sacrum(angle)

    # Posture: pelvic tilt expected for this incidence at the phantom's age (SAG-N3).
    expected = (
        evidence.value("SP-PHANTOM-02", "tilt_constant")
        + evidence.value("SP-PHANTOM-02", "tilt_per_incidence") * parameters.pelvic_incidence_deg
        + evidence.value("SP-PHANTOM-02", "tilt_per_year") * evidence.value("SP-PHANTOM-02", "age")
    )
    plate = endplate(s)
    line = plate["S1EP"] - hips
    tilt = float(np.degrees(np.arctan2(line[1], line[2])))
    stand = turn(0, tilt - expected, hips)
    slope = np.degrees(np.arctan2(-plate["normal"][1], plate["normal"][2])) + (tilt - expected)
    usual = np.degrees(np.arctan2(*(reference.array("sacrum", "S1_corners")[[3, 2]])))
    excess = float(slope - usual)

    def stacked(base: Rigid, name: str, share: float, twist: float) -> BoneMap:
        hinge = reference.array(name, "hinge") * np.array([0.0, scale[1], scale[2]])
        own = chain(turn(0, -share * excess, hinge), turn(1, twist * a, hinge))
        return BoneMap(chain(base, own), vertebra, skew=-0.008 * a)

    base = chain(stand, s.rigid)
    l5 = stacked(base, "L5", SPINE_SHARE, -0.5)
    l4 = stacked(l5.rigid, "L4", SPINE_SHARE, -0.4)
    return Pose(
        replace(left, rigid=chain(stand, left.rigid)),
        replace(right, rigid=chain(stand, right.rigid)),
        replace(s, rigid=base),
        l5,
        l4,
    )
