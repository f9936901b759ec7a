"""Ligaments between sacrum, hip bones and L5 as bundles of tension-only fibres.

Each ligament is a bundle of straight fibres between attachments found on the intact bones from
landmarks. The stiffness of the whole ligament is spread evenly over them. A fibre is lost when the
bone under either end is gone, so a cut through an attachment takes just its share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.anatomy.landmarks_joint import Contact
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import AxisFrame, FloatArray, IntArray, unit
from sacroplan.geometry.surface import Surface

SIDES = ("left", "right")

STIFFNESS: Mapping[str, tuple[str, str]] = {
    "anterior": ("SP-MECH-14", "anterior"),
    "interosseous": ("SP-MECH-14", "interosseous"),
    "posterior_short": ("SP-MECH-17", "posterior_short"),
    "posterior_long": ("SP-MECH-17", "posterior_long"),
    "sacrospinous": ("SP-MECH-14", "sacrospinous"),
    "sacrotuberous": ("SP-MECH-14", "sacrotuberous"),
    "iliolumbar": ("SP-MECH-17", "iliolumbar"),
}
"""Evidence row and quantity of every ligament's stiffness, N/mm per side."""

FORAMINA = (1, 2, 3, 4)


@dataclass(frozen=True, eq=False)
class Fibres:
    """Tension-only fibres of several ligaments, local frame.

    Attributes
    ----------
    names : ligament and side, as ``sacrospinous_left``.
    bones : (bone of the first end, bone of the second end) of every ligament.
    ligament : (f,) index into ``names``.
    ends : (f, 2, 3) attachments on the intact bones, mm.
    stiffness : (f,) N/mm.
    """

    names: tuple[str, ...]
    bones: tuple[tuple[str, str], ...]
    ligament: IntArray
    ends: FloatArray
    stiffness: FloatArray

    def where(self, chosen: npt.NDArray[np.bool_]) -> Fibres:
        """The fibres selected by a mask (f,)."""
        return Fibres(
            self.names, self.bones, self.ligament[chosen], self.ends[chosen], self.stiffness[chosen]
        )


@dataclass(frozen=True, eq=False)
class Sacroiliac:
    """Both sacroiliac joints of the intact pelvis, local frame.

    Attributes
    ----------
    fibres : all ligaments.
    facing : (n, 3) centres of the iliac faces that look at the sacrum, mm.
    auricular : (n,) which of them are covered with cartilage; behind them only ligaments act.
    """

    fibres: Fibres
    facing: FloatArray
    auricular: npt.NDArray[np.bool_]

    def bears(self, points: FloatArray) -> npt.NDArray[np.bool_]:
        """(n,) points (n, 3) on the joint whose nearest iliac face is covered with cartilage."""
        from scipy.spatial import cKDTree

        return np.asarray(self.auricular[cKDTree(self.facing).query(points)[1]])


def _q(name: str) -> float:
    return evidence.value("SP-MECH-18", name)


@dataclass(frozen=True, eq=False)
class _Sacral:
    """Sacral coordinates: ``along`` caudal and ``dorsal``, mm from the first endplate's centre.

    ``level`` gives ``along`` of the nth foramen, interpolated and continued.
    """

    origin: FloatArray
    caudal: FloatArray
    dorsal: FloatArray
    first: float
    step: float

    def along(self, points: FloatArray) -> FloatArray:
        return np.asarray((points - self.origin) @ self.caudal)

    def back(self, points: FloatArray) -> FloatArray:
        return np.asarray((points - self.origin) @ self.dorsal)

    def level(self, n: float) -> float:
        return self.first + (n - 1.0) * self.step


def _needed(marks: Mapping[str, FloatArray], *names: str) -> None:
    missing = [n for n in names if n not in marks]
    if missing:
        raise MechanicsError(
            f"The ligaments of the sacroiliac joint need {', '.join(missing)}, which the landmarks "
            'lack; set them under [landmarks] or use joints = "bonded".'
        )


def _sacral(marks: Mapping[str, FloatArray]) -> _Sacral:
    """Sacral coordinates from landmarks in the local frame (x anterior, y cranial, z right)."""
    _needed(marks, "S1EP")
    levels, points = [], []
    for n in FORAMINA:
        here = [marks[f"S{n}{a}F_{s}"] for a in "AP" for s in "LR" if f"S{n}{a}F_{s}" in marks]
        if here:
            levels.append(float(n))
            points.append(np.mean(here, axis=0))
    if len(levels) < 2:
        raise MechanicsError(
            "The ligaments of the sacroiliac joint need foramina of two sacral levels (as S1AF_L and "
            'S3AF_L); set them under [landmarks] or use joints = "bonded".'
        )
    origin = np.asarray(marks["S1EP"], dtype=np.float64)
    way = np.asarray(points[-1]) - origin
    caudal = unit(np.array([way[0], way[1], 0.0]))
    dorsal = np.array([caudal[1], -caudal[0], 0.0])
    dorsal = dorsal if dorsal[0] < 0 else -dorsal
    at = (np.asarray(points) - origin) @ caudal
    step, zero = np.polyfit(levels, at, 1)
    return _Sacral(origin, caudal, dorsal, float(zero + step), float(step))


def _even(points: FloatArray, key: FloatArray, count: int) -> FloatArray:
    """(count, 3) of the points, evenly spread over their order by ``key`` (n,)."""
    order = np.argsort(key, kind="stable")
    pick = np.rint(np.linspace(0, len(order) - 1, count)).astype(int)
    return np.asarray(points[order[pick]])


def _near(points: FloatArray, centre: FloatArray, radius_mm: float) -> FloatArray:
    """Points within a radius of ``centre``, or the nearest one."""
    far = np.linalg.norm(points - centre, axis=1)
    return np.asarray(points[far <= max(radius_mm, float(far.min()))])


def _outline(
    points: FloatArray, along: FloatArray, score: FloatArray, low: float, high: float, count: int
) -> FloatArray:
    """(count, 3) points of highest ``score`` in even slices of ``along`` from low to high.

    Slices without a point are left out, so fewer may come back.
    """
    bin_of = np.floor((along - low) / (high - low) * count).astype(int)
    inside = (bin_of >= 0) & (bin_of < count) & np.isfinite(score)
    index = np.flatnonzero(inside)
    order = index[np.lexsort((-score[index], bin_of[index]))]
    first = np.unique(bin_of[order], return_index=True)[1]
    return np.asarray(points[order[first]])


def _paired(a: FloatArray, b: FloatArray, key: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """(count, 2, 3) fibres between two attachments, in the order of ``key`` on both."""
    count = int(_q("fibres"))
    return np.stack([_even(a, key(a), count), _even(b, key(b), count)], axis=1)


def _facing(side: str, surfaces: Mapping[str, Surface]) -> tuple[Contact, Contact]:
    """(iliac faces that look at the sacrum, those of the joint proper) of one side."""
    from sacroplan.anatomy.landmarks_joint import find_contact, joint_of

    found = find_contact(surfaces[f"hip_{side}"], surfaces["sacrum"], _q("interosseous_reach"))
    joint = None if found is None else joint_of(found, evidence.value("SP-LMK-02", "slack"))
    if found is None or joint is None:
        raise MechanicsError(
            f"The {side} hip bone does not face the sacrum, so there is no joint with ligaments; use "
            'joints = "bonded".'
        )
    return found, joint


def _side(
    side: str,
    surfaces: Mapping[str, Surface],
    marks: Mapping[str, FloatArray],
    sacral: _Sacral,
    facing: Contact,
    joint: Contact,
) -> dict[str, tuple[tuple[str, str], FloatArray]]:
    """Ligament to (bones, (f, 2, 3) fibres) of one side; surfaces and landmarks local."""
    from scipy.spatial import cKDTree

    letter = side[0].upper()
    _needed(marks, f"PSIS_{letter}", f"ISP_{letter}")
    outward = np.array([0.0, 0.0, 1.0 if side == "right" else -1.0])
    bone = f"hip_{side}"
    hip, sacrum, l5 = (surfaces[n].vertices for n in (bone, "sacrum", "L5"))
    count = int(_q("fibres"))
    own = sacrum[sacrum @ outward > 0]
    along, back, beside = sacral.along(own), sacral.back(own), own @ outward
    tree_hip, tree_sacrum = cKDTree(hip), cKDTree(own)
    out: dict[str, tuple[tuple[str, str], FloatArray]] = {}

    low, high = np.quantile(sacral.along(joint.patch), (0.05, 0.95))
    margin = _outline(
        joint.patch, sacral.along(joint.patch), -sacral.back(joint.patch), low, high, count
    )
    shift = _q("anterior_reach") * outward
    out["anterior"] = (
        ("sacrum", bone),
        np.stack(
            [own[tree_sacrum.query(margin - shift)[1]], hip[tree_hip.query(margin + shift)[1]]],
            axis=1,
        ),
    )

    # Behind the auricular faces the bones diverge; fibres cross there at 45 degrees, all four ways.
    behind = ~np.isin(facing.faces, joint.faces) & (
        sacral.back(facing.patch) > float(np.median(sacral.back(joint.patch)))
    )
    if not behind.any():
        raise MechanicsError(
            f"No iliac tuberosity faces the sacrum behind the {side} joint: the interosseous "
            'ligament has nowhere to attach; use joints = "bonded".'
        )
    tuber = facing.patch[behind]
    order = np.argsort(sacral.along(tuber), kind="stable")
    pick = order[np.rint(np.linspace(0, len(order) - 1, 4 * count)).astype(int)]
    start, foot = tuber[pick], facing.feet[behind][pick]
    lean = np.linalg.norm(start - foot, axis=1, keepdims=True)
    crossed = np.concatenate(
        [
            foot + way * lean
            for way in (sacral.caudal, -sacral.caudal, sacral.dorsal, -sacral.dorsal)
        ]
    )
    out["interosseous"] = (
        ("sacrum", bone),
        np.stack([own[tree_sacrum.query(crossed)[1]], np.tile(start, (4, 1))], axis=1),
    )

    # Dorsal outlines of sacrum and ilium at the same height.
    crest = np.where((beside > _q("crest_inner")) & (beside < _q("crest_outer")), back, -np.inf)
    a = _outline(own, along, crest, sacral.level(1.0), sacral.level(2.5), count)
    b = _outline(
        hip, sacral.along(hip), sacral.back(hip), sacral.level(1.0), sacral.level(2.5), count
    )
    out["posterior_short"] = (("sacrum", bone), _paired(a, b, sacral.along))

    a = _outline(own, along, beside, sacral.level(3.0), sacral.level(4.0), count)
    b = _near(hip, marks[f"PSIS_{letter}"], _q("attachment_radius"))
    out["posterior_long"] = (("sacrum", bone), _paired(a, b, sacral.along))

    a = _outline(own, along, beside, sacral.level(4.0), sacral.level(5.5), count)
    b = _near(hip, marks[f"ISP_{letter}"], _q("attachment_radius"))
    out["sacrospinous"] = (("sacrum", bone), _paired(a, b, sacral.along))

    a = _outline(own, along, beside, sacral.level(3.0), sacral.level(5.5), count)
    b = _near(hip, hip[int(np.argmin(hip[:, 1]))], 2.0 * _q("attachment_radius"))
    out["sacrotuberous"] = (("sacrum", bone), _paired(a, b, sacral.along))

    tip = l5[int(np.argmax(l5 @ outward))]
    a = _near(l5, tip, _q("attachment_radius"))
    b = _near(hip, hip[tree_hip.query(tip)[1]], _q("attachment_radius"))
    out["iliolumbar"] = (("L5", bone), _paired(a, b, lambda p: p[:, 0]))
    for name, (_, fibres) in out.items():
        if not len(fibres):
            raise MechanicsError(
                f"The {side} {name.replace('_', ' ')} ligament finds no bone to attach to: the "
                'image may end above it; use joints = "bonded".'
            )
    return out


def sacroiliac_of(
    bones: Mapping[str, Surface], points: Mapping[str, FloatArray], axes: AxisFrame
) -> Sacroiliac:
    """Joint faces and the fibres of all ligaments on both sides.

    ``bones`` (closed, intact: L5, sacrum, hip_left, hip_right) and landmark ``points`` (3,) in LPS
    mm; ``axes`` the pelvic frame (x anterior, y cranial, z right), in whose coordinates they come
    back. Raises :class:`MechanicsError` that names a landmark or an attachment that is missing.
    """
    from sacroplan.mechanics.solids import local_surface

    surfaces = {n: local_surface(bones[n], axes) for n in ("L5", "sacrum", "hip_left", "hip_right")}
    marks = {n: axes.to_local(np.asarray(p)) for n, p in points.items()}
    sacral = _sacral(marks)
    names: list[str] = []
    pairs: list[tuple[str, str]] = []
    number: list[IntArray] = []
    ends: list[FloatArray] = []
    stiffness: list[FloatArray] = []
    faces, auricular = [], []
    for side in SIDES:
        facing, joint = _facing(side, surfaces)
        faces.append(facing.patch)
        auricular.append(np.isin(facing.faces, joint.faces))
        for name, (both, fibres) in _side(side, surfaces, marks, sacral, facing, joint).items():
            number.append(np.full(len(fibres), len(names), dtype=np.int32))
            names.append(f"{name}_{side}")
            pairs.append(both)
            ends.append(fibres)
            stiffness.append(np.full(len(fibres), evidence.value(*STIFFNESS[name]) / len(fibres)))
    bundle = Fibres(
        tuple(names), tuple(pairs), np.concatenate(number), np.concatenate(ends),
        np.concatenate(stiffness),
    )  # fmt: skip
    return Sacroiliac(bundle, np.concatenate(faces), np.concatenate(auricular))


def kept(
    fibres: Fibres, depth: Mapping[str, Callable[[FloatArray], FloatArray]]
) -> npt.NDArray[np.bool_]:
    """(f,) fibres whose bone remains under both ends.

    ``depth`` gives the signed distance (n,) mm of points (n, 3) to each remaining bone.
    """
    out = np.ones(len(fibres.ligament), dtype=bool)
    slack = _q("lost_beyond")
    for number, both in enumerate(fibres.bones):
        at = np.flatnonzero(fibres.ligament == number)
        for end, bone in enumerate(both):
            if bone not in depth:
                out[at] = False
                continue
            out[at] &= depth[bone](np.ascontiguousarray(fibres.ends[at, end])) <= slack
    return out
