"""What a resection costs: joints, nerve roots and the function they carry, ligaments, L5, vessels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sacroplan import evidence
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric, Metrics
from sacroplan.resection.cuts import Cut
from sacroplan.resection.margin import face_points, least_distance, outline_face, signed_to
from sacroplan.resection.site import FORAMINA, SIDES, Site

Fate = Literal["kept", "lost", "at risk", "unknown"]

ROOTS = ("L5", "S1", "S2", "S3", "S4", "S5")

LIGAMENTS = ("iliolumbar", "sacrospinous", "sacrotuberous")

Interval = tuple[float, float]

FEW = 4
"""So few points are measured against every vertex."""


@dataclass(frozen=True)
class Function:
    """Share of patients (%) with normal function, as an interval over sources and uncertain roots.

    ``percent`` is None where no source tells; ``words`` says which sources span it; ``rows`` are theirs.
    """

    percent: Interval | None
    words: str
    rows: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Losses:
    """What is removed beside the tumour.

    Attributes
    ----------
    joint_percent : side to share of the sacroiliac joint's area in the specimen.
    joint_clearance_mm : side to least distance of the joint to the cut that keeps or takes it.
    roots : (root, side) to its fate. function : bladder, bowel and gait.
    ligaments : (ligament, side) to its fate. l5_percent : share of L5's volume removed.
    s1_line : side to where the cut lies to the S1 foramen [VAL-01].
    vessels : (vessel, cut) to least distance, mm, only those nearer than SP-RES-11; negative where the
        saw would meet the vessel.
    """

    joint_percent: Mapping[str, float]
    joint_clearance_mm: Mapping[str, float]
    roots: Mapping[str, Fate]
    function: Mapping[str, Function]
    ligaments: Mapping[str, Fate]
    l5_percent: float
    s1_line: Mapping[str, str]
    vessels: Mapping[str, float]

    def root_words(self, fate: Fate) -> str:
        """Roots of one fate, as ``S2-S5 both sides; L5 right``."""
        found: dict[str, list[str]] = {}
        for side in SIDES:
            names = [r for r in ROOTS if self.roots.get(f"{r}_{side}") == fate]
            if names:
                found.setdefault(_run(names), []).append(side)
        return (
            "; ".join(
                f"{names} {'both sides' if len(sides) == 2 else sides[0]}"
                for names, sides in found.items()
            )
            or "none"
        )

    def kept_roots(self) -> float:
        """Sacral roots kept, one at risk counts half."""
        worth = {"kept": 1.0, "at risk": 0.5}
        return sum(worth.get(f, 0.0) for n, f in self.roots.items() if n.startswith("S"))

    def metrics(self) -> Metrics:
        """Figures under ``resection.*``."""
        out: Metrics = {}
        quoted = ("VAL-01", "REC-1", "REC-4")
        for side, percent in self.joint_percent.items():
            out[f"resection.si_joint.{side}.removed_percent"] = Metric(
                percent, "%", f"Share of the {side} sacroiliac joint surface removed", quoted
            )
            out[f"resection.si_joint.{side}.clearance_mm"] = Metric(
                self.joint_clearance_mm.get(side), "mm",
                f"Least distance from the {side} sacroiliac joint to the nearest cut",
                ("SP-RES-01",),
            )  # fmt: skip
        for side, words in self.s1_line.items():
            out[f"resection.s1_line.{side}"] = Metric(
                words, "text", f"Cut against the {side} S1 foramen", ("VAL-01", "REC-1", "REC-3")
            )
        for fate in ("lost", "at risk", "kept"):
            out[f"resection.roots.{fate.replace(' ', '_')}"] = Metric(
                self.root_words(fate), "text", f"Nerve roots {fate}",
                ("DIM-05", "SP-RES-07"),
            )  # fmt: skip
        for name, function in self.function.items():
            for n, end in enumerate(("low", "high")):
                out[f"resection.function.normal_{name}_{end}_percent"] = Metric(
                    None if function.percent is None else function.percent[n], "%",
                    f"Patients with normal {name}, {'least' if n == 0 else 'most'} of the sources "
                    f"({function.words})",
                    function.rows,
                )  # fmt: skip
        for name in LIGAMENTS:
            words = ", ".join(f"{s} {self.ligaments[f'{name}_{s}']}" for s in SIDES)
            out[f"resection.ligaments.{name}"] = Metric(
                words, "text", f"{name.capitalize()} ligament", ("REC-5",)
            )
        out["resection.l5.removed_percent"] = Metric(
            self.l5_percent, "%", "Share of L5 removed", ("RES-EXT-L5",)
        )
        for pair, mm in sorted(self.vessels.items()):
            out[f"resection.vessels.{pair}_mm"] = Metric(
                mm, "mm", f"Least distance {pair.replace('.', ' to ')}", ("SP-RES-11",)
            )
        return out


def _run(names: Sequence[str]) -> str:
    """``L5, S2-S5`` of consecutive root names."""
    index = [ROOTS.index(n) for n in names]
    runs: list[list[int]] = []
    for n in index:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(ROOTS[r[0]] if len(r) == 1 else f"{ROOTS[r[0]]}-{ROOTS[r[-1]]}" for r in runs)


def membership(gone: Surface | None, stays: Surface | None) -> Callable[[FloatArray], FloatArray]:
    """Half the difference of distances (mm) to what stays and what goes: positive where it goes."""
    import igl

    def distance(points: FloatArray, s: Surface | None) -> FloatArray:
        if s is None:
            return np.full(len(points), 1e3)
        if len(points) <= FEW:
            # Single points lie on the bone's own vertices; building a tree would take longer.
            gap = np.linalg.norm(points[:, None] - s.vertices[None], axis=2)
            return np.asarray(gap.min(axis=1))
        return np.asarray(igl.point_mesh_squared_distance(points, s.vertices, s.faces)[0]) ** 0.5

    def of(points: FloatArray) -> FloatArray:
        p = np.ascontiguousarray(np.asarray(points, dtype=np.float64).reshape(-1, 3))
        return np.asarray(0.5 * (distance(p, stays) - distance(p, gone)))

    return of


def losses(
    site: Site,
    cuts: Sequence[Cut],
    gone: Mapping[str, Surface],
    stays: Mapping[str, Surface],
    l5_percent: float,
) -> Losses:
    """What the resection takes.

    ``gone`` and ``stays`` hold, by bone, the specimen's and the patient's pieces (a bone that is not
    cut is in one of them whole).
    """
    side_of = {b: _side(b, cuts, gone, stays) for b in ("sacrum", "L5", "hip_left", "hip_right")}
    joint_percent: dict[str, float] = {}
    clearance: dict[str, float] = {}
    for side, contact in site.contacts.items():
        ilium = _beyond(f"hip_{side}", contact.patch, cuts, side_of)
        sacrum = _beyond("sacrum", contact.feet, cuts, side_of)
        removed = np.maximum(ilium, sacrum) > 0
        joint_percent[side] = 100.0 * float(contact.areas[removed].sum() / contact.areas.sum())
        near = [
            np.abs(c.side(contact.patch)).min() for c in cuts if c.bone in (f"hip_{side}", "sacrum")
        ]
        if near:
            clearance[side] = float(min(near))
    roots = _roots(site, side_of)
    return Losses(
        joint_percent, clearance, roots, function_of(roots), _ligaments(site, side_of), l5_percent,
        _s1_line(site, cuts, gone, stays, side_of), _vessels(site, cuts),
    )  # fmt: skip


def _beyond(
    bone: str,
    points: FloatArray,
    cuts: Sequence[Cut],
    side_of: Mapping[str, Callable[[FloatArray], FloatArray]],
) -> FloatArray:
    """Side (n,) of joint points: beyond every cut of a hip bone; as any point of the sacrum."""
    own = [c for c in cuts if c.bone == bone and c.kind == "osteotomy"]
    named = all(c.name.startswith(("iliac_", "pubis_", "ischium_")) for c in own)
    if own and named:
        return np.asarray(np.min([c.side(points) for c in own], axis=0))
    return side_of[bone](points)


def _side(
    bone: str, cuts: Sequence[Cut], gone: Mapping[str, Surface], stays: Mapping[str, Surface]
) -> Callable[[FloatArray], FloatArray]:
    own = [c for c in cuts if c.bone == bone]
    if bone not in gone or bone not in stays:
        value = 1e3 if bone in gone else -1e3
        return lambda points: np.full(len(np.asarray(points).reshape(-1, 3)), value)
    if len(own) == 1 and own[0].profile is None and bone in ("sacrum", "L5"):
        return own[0].side
    if len(own) == 1 and own[0].profile is not None and own[0].profile.open:
        return own[0].side
    return membership(gone[bone], stays[bone])


def _roots(
    site: Site, side_of: Mapping[str, Callable[[FloatArray], FloatArray]]
) -> dict[str, Fate]:
    """Fate of L5 to S5 on both sides, by where canal and foramina lie."""
    out: dict[str, Fate] = {}
    hold = evidence.value("SP-RES-07")
    canal = [np.asarray(site.points.get("S1EP_POST", site.middle(0.0)))]
    for n in FORAMINA:
        dorsal = [site.points.get(f"S{n}PF_{s}") for s in "LR"]
        ventral = [site.points.get(f"S{n}AF_{s}") for s in "LR"]
        known = [p for p in (*dorsal, *ventral) if p is not None]
        canal.append(np.mean(known, axis=0) if len(known) >= 2 else site.middle(float(n)))
    beside = side_of["sacrum"](np.asarray(canal))
    for side in SIDES:
        pedicle = site.points.get(f"L5PED_{side[0].upper()}")
        if pedicle is None:
            pedicle = site.tip(side) if "L5" in site.bones else None
        if pedicle is None:
            out[f"L5_{side}"] = "unknown"
        else:
            lost = float(side_of["L5"](np.asarray(pedicle)[None])[0]) > 0
            out[f"L5_{side}"] = "lost" if lost else "kept"
        mouths = _mouths(site, side)
        for n in range(1, 6):
            at = mouths.get(n)
            if at is None:
                out[f"S{n}_{side}"] = "unknown"
                continue
            # A root leaves the sac a level above its foramen.
            above = float(beside[:n].max())
            here = float(side_of["sacrum"](at[None])[0])
            if above > hold or here >= site.foramen_radius:
                out[f"S{n}_{side}"] = "lost"
            elif here > -site.foramen_radius:
                out[f"S{n}_{side}"] = "at risk"
            else:
                out[f"S{n}_{side}"] = "kept"
        # A root below one that is cut across the canal cannot be kept: the sac ends there.
        for n in range(2, 6):
            if float(beside[:n].max()) > hold:
                out[f"S{n}_{side}"] = "lost"
    return out


def _mouths(site: Site, side: str) -> dict[int, FloatArray]:
    """Ventral foramina of a side by level, continued downwards where not found; S5 below S4."""
    found: dict[int, FloatArray] = {}
    for n in FORAMINA:
        q = site.foramen(n, side)
        if q is not None:
            found[n] = np.asarray(q)
    for n in range(2, 6):
        if n not in found and n - 1 in found:
            step = site.middle(float(n)) - site.middle(float(n - 1))
            found[n] = found[n - 1] + step
    return found


def _lowest(roots: Mapping[str, Fate], side: str, risky: bool) -> int:
    """Lowest sacral root of a side down to which all are kept, 0 for none."""
    good = ("kept", "at risk", "unknown") if risky else ("kept",)
    n = 0
    while n < 5 and roots.get(f"S{n + 1}_{side}") in good:
        n += 1
    return n


def function_of(roots: Mapping[str, Fate]) -> dict[str, Function]:
    """Normal bladder, bowel and gait by the roots kept: intervals over Todd and Zoccali [6.4].

    Roots at risk count as lost at one end of the interval and as kept at the other.
    """
    spans: dict[str, list[Interval]] = {"bladder": [], "bowel": [], "gait": []}
    told = {"bladder": True, "bowel": True, "gait": True}
    for risky in (False, True):
        both = sorted(_lowest(roots, s, risky) for s in SIDES)
        for name, span in _published(both[0], both[1]).items():
            if span is None:
                told[name] = False
            else:
                spans[name].append(span)
    out = {}
    for name in spans:
        if not told[name] or not spans[name]:
            out[name] = Function(None, "not verified", ("ROOT-TODD", "ROOT-ZOCCALI"))
            continue
        low, high = min(s[0] for s in spans[name]), max(s[1] for s in spans[name])
        rows = {
            "bladder": ("ROOT-TODD", "ROOT-ZOCCALI"),
            "bowel": ("ROOT-TODD", "ROOT-TOT"),
            "gait": ("ROOT-ZOCCALI",),
        }[name]
        words = {
            "bladder": "Todd 2002, n=53; Zoccali 2016, n=244",
            "bowel": "Todd 2002, n=53",
            "gait": "Zoccali 2016, n=244",
        }[name]
        out[name] = Function((low, high), words, rows)
    return out


def _published(low: int, high: int) -> dict[str, Interval | None]:
    """Intervals (%) for the lowest root kept on the worse and on the better side."""

    def todd(name: str) -> float:
        return evidence.value("ROOT-TODD", name)

    def zoccali(name: str) -> float:
        return evidence.value("ROOT-ZOCCALI", name)

    if low == 5:
        return {"bladder": (100.0, 100.0), "bowel": (100.0, 100.0), "gait": (100.0, 100.0)}
    found: dict[str, list[float]] = {"bladder": [], "bowel": [], "gait": []}
    if high == 5:
        found["bladder"].append(todd("unilateral_bladder"))
        found["bowel"].append(todd("unilateral_bowel"))
    if low >= 3:
        found["bladder"] += [todd("both_s3_bladder"), zoccali("both_s3_bladder")]
        found["bowel"].append(todd("both_s3_bowel"))
        found["gait"] += [zoccali("both_s3_gait")] + ([zoccali("distal_gait")] if low > 3 else [])
    elif high >= 3 and high < 5:
        found["bladder"] += [todd("one_s3_bladder"), zoccali("one_s3_bladder")]
        found["bowel"].append(todd("one_s3_bowel"))
    elif low == 2 and high == 2:
        found["bladder"] += [todd("both_s2_bladder"), zoccali("both_s2_bladder")]
        found["bowel"].append(todd("both_s2_bowel"))
    elif high == 2:
        found["bladder"] += [zoccali("none_bladder"), zoccali("one_s2_bladder")]
        found["bowel"] += [todd("none_bowel"), todd("both_s2_bowel")]
    elif high < 2:
        found["bladder"] += [todd("none_bladder"), zoccali("none_bladder")]
        found["bowel"] += [todd("none_bowel"), zoccali("none_bowel")]
    if low == 2:
        found["gait"].append(zoccali("both_s2_gait"))
    return {n: ((min(v), max(v)) if v else None) for n, v in found.items()}


def _ligaments(
    site: Site, side_of: Mapping[str, Callable[[FloatArray], FloatArray]]
) -> dict[str, Fate]:
    """A ligament is lost with either of its two attachments."""
    out: dict[str, Fate] = {}
    for side in SIDES:
        hip = f"hip_{side}"
        if hip not in site.bones or "L5" not in site.bones:
            for name in LIGAMENTS:
                out[f"{name}_{side}"] = "unknown"
            continue
        v = site.bones[hip].vertices
        tip = site.tip(side)
        crest = v[int(np.argmin(np.linalg.norm(v - tip, axis=1)))]
        sign = 1.0 if side == "right" else -1.0
        low = site.middle(4.6) + sign * 12.0 * site.right
        s = site.bones["sacrum"].vertices
        edge = s[int(np.argmin(np.linalg.norm(s - low, axis=1)))]
        seat = v[int(np.argmin(v @ site.pelvis.axes[:, 1]))]
        spine = site.points.get(f"ISP_{side[0].upper()}", seat)
        ends = {
            "iliolumbar": (("L5", tip), (hip, crest)),
            "sacrospinous": (("sacrum", edge), (hip, np.asarray(spine))),
            "sacrotuberous": (("sacrum", edge), (hip, seat)),
        }
        for name, attached in ends.items():
            lost = any(float(side_of[b](p[None])[0]) > 0 for b, p in attached)
            out[f"{name}_{side}"] = "lost" if lost else "kept"
    return out


def _s1_line(
    site: Site,
    cuts: Sequence[Cut],
    gone: Mapping[str, Surface],
    stays: Mapping[str, Surface],
    side_of: Mapping[str, Callable[[FloatArray], FloatArray]],
) -> dict[str, str]:
    out = {}
    for side in SIDES:
        at = site.foramen(1, side)
        if at is None:
            out[side] = "unknown, the S1 foramen was not found"
        elif "sacrum" not in stays:
            out[side] = "cephalad: the whole sacrum is removed"
        elif "sacrum" not in gone:
            out[side] = "none: the sacrum is not cut"
        else:
            d = float(side_of["sacrum"](at[None])[0])
            if abs(d) <= site.foramen_radius:
                out[side] = f"through the foramen ({d:+.1f} mm)"
            else:
                out[side] = (
                    f"cephalad or medial: the foramen is removed ({d:.1f} mm beyond the cut)"
                    if d > 0
                    else f"caudal: the foramen is kept ({-d:.1f} mm off the cut)"
                )
    return out


def _vessels(site: Site, cuts: Sequence[Cut]) -> dict[str, float]:
    """Least distance (mm) of each vessel to the bone that a saw removes; negative where it is cut."""
    limit = evidence.value("SP-RES-11")
    out = {}
    for name, surface in site.vessels.items():
        for cut in cuts:
            faces = [f for f in (outline_face(cut, +1), outline_face(cut, -1)) if len(f.faces)]
            if not faces:
                continue
            mm = min(least_distance(face, surface)[0] for face in faces)
            if mm < limit:
                inside = float(signed_to(surface, face_points(cut)[0]).min())
                out[f"{name}.{cut.name}"] = min(inside, 0.0) or mm
    return out
