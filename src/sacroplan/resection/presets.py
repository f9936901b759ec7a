"""Named resections: which cuts they need, and where those lie for this patient and this tumour.

HANDBOOK RES-*. Every plane placed here can be replaced by the user's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import FloatArray, Plane, unit
from sacroplan.geometry.slicing import CrossSection
from sacroplan.geometry.surface import Surface
from sacroplan.resection.cuts import Cut, osteotomy, polyplane
from sacroplan.resection.profile import profile
from sacroplan.resection.site import SIDES, Site
from sacroplan.resection.total import disc_outline, disc_plane, iliac_cut, iliac_plane

Kind = Literal["total", "high", "mid", "low", "hemi", "hemipelvectomy", "free"]
Side = Literal["left", "right"]
L5 = Literal["none", "partial", "whole"]
JointWay = Literal["osteotomy", "disarticulation"]
Line = Literal["midline", "foramina", "oblique"]

LEVEL_STEP = 0.05
"""Step of the level search: about 1.5 mm of sacrum."""

OFFSET_STEP_MM = 0.5
"""Step of the sideways search of a sagittal cut."""

OUT_MM = 20.0
"""How far a chain's end corner lies outside the bone."""


@dataclass(frozen=True)
class Choice:
    """What is asked for.

    Attributes
    ----------
    kind : the type. side : side that is removed, where the type has one.
    l5 : how much of L5 goes along. joint : how a hemisacrectomy leaves the ilium.
    line : where the sagittal cut runs; ``oblique`` spares the first root of the other side.
    lowest : last sacral level of a hemisacrectomy (4 and 5: down to the tip).
    kerf_mm : of the saw. margin_mm : wanted in bone; margins_mm : by cut name, where another is wanted.
    """

    kind: Kind = "total"
    side: Side | None = None
    l5: L5 = "none"
    joint: JointWay = "osteotomy"
    line: Line = "midline"
    lowest: int = 5
    kerf_mm: float = 0.0
    margin_mm: float = 0.0
    margins_mm: Mapping[str, float] | None = None

    def margin(self, cut: str) -> float:
        """Wanted margin at a cut, mm."""
        return (self.margins_mm or {}).get(cut, self.margin_mm)


PRESETS: Mapping[str, Choice] = {
    "total": Choice("total"),
    "total-with-l5": Choice("total", l5="whole"),
    "high": Choice("high"),
    "mid": Choice("mid"),
    "low": Choice("low"),
    "hemi-left": Choice("hemi", "left"),
    "hemi-right": Choice("hemi", "right"),
    "hemi-with-l5-left": Choice("hemi", "left", "partial"),
    "hemi-with-l5-right": Choice("hemi", "right", "partial"),
    "hemipelvectomy-left": Choice("hemipelvectomy", "left"),
    "hemipelvectomy-right": Choice("hemipelvectomy", "right"),
    "kaiser-2025-case-2": Choice("hemi", "right", "partial", "disarticulation", lowest=3),
    "kaiser-2025-case-3": Choice("hemipelvectomy", "right", "partial", line="oblique"),
}
"""Types by name; the last two are the resections of paper B's cases 2 and 3."""

_ROWS = {
    "total": ("RES-TOT",), "high": ("RES-HIGH",), "mid": ("RES-MID",), "low": ("RES-LOW",),
    "hemi": ("RES-HEMI",), "hemipelvectomy": ("RES-HPX",), "free": (),
}  # fmt: skip

_WORDS = {
    "total": "Total sacrectomy",
    "high": "High partial sacrectomy",
    "mid": "Mid partial sacrectomy",
    "low": "Low partial sacrectomy",
    "hemi": "Sagittal hemisacrectomy",
    "hemipelvectomy": "External hemipelvectomy with hemisacrectomy",
    "free": "Free osteotomies",
}


@dataclass(frozen=True, eq=False)
class Placed:
    """Cuts of a type, bones that go whole, and reservations."""

    cuts: tuple[Cut, ...]
    whole: tuple[str, ...]
    doubts: tuple[Doubt, ...] = ()


def title(choice: Choice) -> str:
    """What a reader calls the resection."""
    words = _WORDS[choice.kind]
    if choice.side is not None:
        words += f", {choice.side}"
    if choice.l5 != "none":
        words += f", extended to {'part of ' if choice.l5 == 'partial' else ''}L5"
    return words


def rows(choice: Choice) -> tuple[str, ...]:
    """Evidence rows that define the type."""
    return _ROWS[choice.kind] + (("RES-EXT-L5",) if choice.l5 != "none" else ())


def published(choice: Choice) -> tuple[str, str]:
    """Mayo class and region type of the resection, as printed beside ours."""
    region = {
        "total": "I (regions 1, 2 and 3)",
        "high": "I (regions 1 in part, 2 and 3)",
        "mid": "II (regions 2 in part and 3)",
        "low": "III (region 3)",
        "hemi": "IV (sagittal hemisacrectomy)",
        "hemipelvectomy": "IV, with hemipelvectomy",
        "free": "not classified",
    }[choice.kind]
    if choice.kind != "free" and choice.l5 != "none":
        region = f"V (sacrum with L5), {region}"
    mayo = {
        "total": "1A (with reconstruction)",
        "high": "1B or 1C (subtotal, with or without reconstruction)",
        "mid": "1C (subtotal, without reconstruction)",
        "low": "1C (subtotal, without reconstruction)",
        "hemi": "2 (hemisacrectomy)",
        "hemipelvectomy": "3 (external hemipelvectomy with hemisacrectomy)",
        "free": "not classified",
    }[choice.kind]
    return mayo, region


def checked(choice: Choice) -> Choice:
    """The choice, or a :class:`PlanError` that says what does not go together."""
    if choice.kind in ("hemi", "hemipelvectomy") and choice.side is None:
        raise PlanError(
            f'A resection of type {choice.kind!r} needs a side: write side = "left" or "right" '
            "under [resection] in case.toml."
        )
    if choice.kind in ("high", "mid", "low") and choice.l5 != "none":
        raise PlanError(
            f"A {choice.kind} partial sacrectomy leaves S1's endplate, so it cannot take L5 along; "
            'choose type "total" or "hemi", or l5 = "none".'
        )
    if choice.l5 == "partial" and choice.side is None:
        raise PlanError('A part of L5 has a side: write side = "left" or "right".')
    if not 1 <= choice.lowest <= 5:
        raise PlanError(f"The lowest level is {choice.lowest}; 1 to 5 (S1 to S5) are possible.")
    return choice


def place(choice: Choice, site: Site) -> Placed:
    """Put the planes of a type where landmarks and tumour ask for them.

    Raises :class:`PlanError` where a landmark, bone or side is missing.
    """
    choice = checked(choice)
    if choice.kind == "free":
        return Placed((), ())
    if choice.kind != "total" or choice.l5 == "partial":
        site.require_levels()
    if choice.kind in ("high", "mid", "low"):
        return _transverse(choice, site)
    if choice.kind == "total":
        return _total(choice, site)
    return _hemi(choice, site)


def _tumour(site: Site) -> FloatArray | None:
    return None if site.tumour is None else site.tumour.surface.vertices


def _total(choice: Choice, site: Site) -> Placed:
    cuts: list[Cut] = []
    whole = ["sacrum"]
    if choice.l5 == "none":
        cuts.append(_disc(site, "l5_s1"))
    elif choice.l5 == "whole":
        cuts.append(_disc(site, "l4_l5"))
        whole.append("L5")
    else:
        assert choice.side is not None
        plane = _sagittal(site, choice.side, 0.0)
        cuts += [*_l5_half(choice, site, plane), _half(_disc(site, "l5_s1"), plane.flipped())]
    doubts: list[Doubt] = []
    for side in SIDES:
        cuts.append(_iliac(choice, site, side))
    return Placed(tuple(cuts), tuple(whole), tuple(doubts))


def _iliac(choice: Choice, site: Site, side: str) -> Cut:
    name = f"iliac_{side}"
    notch = site.point(f"GSN_{side[0].upper()}")
    hip = site.bone(f"hip_{side}")
    plane = iliac_plane(
        site.joint(side), hip, site.pelvis, notch, choice.kerf_mm,
        None if site.tumour is None else site.tumour.surface, choice.margin(name),
    )  # fmt: skip
    return iliac_cut(side, hip, plane, choice.kerf_mm, site.pelvis, notch)


def _disc(site: Site, name: str) -> Cut:
    """The disc above L5 or below it, its plane halfway between the endplates, normal caudal."""
    upper, lower = ("L5IEP", "S1EP") if name == "l5_s1" else ("L4IEP", "L5SEP")
    vertebra = "L5" if name == "l5_s1" else "L4"
    for frame in (upper, lower):
        if frame not in site.frames:
            raise PlanError(
                f"The endplate {frame} was not found, so the disc cut {name} cannot be placed. Give "
                "its landmarks in case.toml."
            )
    outline = disc_outline(site.bone(vertebra), site.frames[upper], site.frames[lower])
    return replace(disc_plane(site.frames[upper], site.frames[lower], outline), name=name)


def _half(cut: Cut, plane: Plane) -> Cut:
    """A disc cut limited to the specimen's side of a sagittal plane."""
    import manifold3d

    outline = cut.outline
    n = outline.axes[:, :2].T @ plane.normal
    offset = float((plane.point - outline.origin) @ plane.normal)
    n, offset = n / np.linalg.norm(n), offset / float(np.linalg.norm(n))
    t = np.array([-n[1], n[0]])
    far = 300.0
    foot = offset * n
    half = np.array(
        [foot - far * t, foot + far * t, foot + far * t + far * n, foot - far * t + far * n]
    )
    common = manifold3d.CrossSection(
        [np.asarray(p) for p in outline.loops], manifold3d.FillRule.Positive
    ) ^ manifold3d.CrossSection([half], manifold3d.FillRule.NonZero)
    loops = tuple(np.asarray(p) for p in common.to_polygons())
    return replace(cut, outline=CrossSection(outline.origin, outline.axes, loops, outline.frame))


def _clear(vertices: FloatArray | None, plane: Plane, kerf_mm: float) -> float:
    """Least distance of the tumour to the specimen's face of an endless plane."""
    if vertices is None:
        return np.inf
    return float(plane.distance(vertices).min()) - 0.5 * kerf_mm


def _transverse(choice: Choice, site: Site) -> Placed:
    """One cut across the sacrum, as low as the margin allows within the type's range."""
    nominal = evidence.value("SP-RES-08", choice.kind)
    low, high = evidence.span("SP-RES-08", choice.kind)
    vertices = _tumour(site)

    def at(level: float) -> Plane:
        return Plane(site.middle(level), site.caudal(level), site.frame)

    levels = np.arange(nominal, low - 1e-9, -LEVEL_STEP)
    free = np.array([_clear(vertices, at(t), choice.kerf_mm) for t in levels])
    wanted = choice.margin("sacral")
    good = np.flatnonzero(free >= wanted)
    level = float(levels[good[0]]) if len(good) else float(levels[-1])
    doubts: tuple[Doubt, ...] = ()
    if not len(good):
        higher = {"low": "mid", "mid": "high", "high": "total"}[choice.kind]
        doubts = (
            Doubt(
                "plan", "resection.margin_impossible",
                f"No {choice.kind} cut keeps {wanted:g} mm to the tumour: {free[-1]:.1f} mm at its "
                f"highest level; type = \"{higher}\" reaches further.",
                ("MAR-3", "SP-RES-08"),
            ),
        )  # fmt: skip
    plane = at(level)
    cut = osteotomy("sacral", "sacrum", site.bone("sacrum"), plane, choice.kerf_mm, None)
    if not high >= level:
        raise PlanError(f"The sacral level {level:g} lies outside the type's range.")
    return Placed((cut,), (), doubts)


def _sagittal(site: Site, side: str, offset_mm: float) -> Plane:
    """Sagittal plane of the sacrum, moved to the healthy side by ``offset_mm``; normal to ``side``."""
    normal = site.right if side == "right" else -site.right
    return Plane(site.middle(1.0) - offset_mm * normal, normal, site.frame)


def _hemi(choice: Choice, site: Site) -> Placed:
    side = choice.side
    assert side is not None
    other = "left" if side == "right" else "right"
    vertices = _tumour(site)
    wanted = choice.margin("sacral")
    doubts: list[Doubt] = []
    plane = _sagittal(site, side, 0.0)
    foramina = [q for n in (1, 2, 3) if (q := site.foramen(n, side)) is not None]
    start = 0.0
    if choice.line == "foramina" and foramina:
        start = -float(np.mean([plane.distance(q) for q in foramina]))
    if choice.line != "oblique":
        offsets = np.arange(start, site_width(site, other) + 1e-9, OFFSET_STEP_MM)
        clear = np.array(
            [_clear(vertices, _sagittal(site, side, float(o)), choice.kerf_mm) for o in offsets]
        )
        good = np.flatnonzero(clear >= wanted)
        if len(good):
            plane = _sagittal(site, side, float(offsets[good[0]]))
        else:
            plane = _sagittal(site, side, float(offsets[-1]))
            doubts.append(
                Doubt(
                    "plan", "resection.margin_impossible",
                    f"No sagittal cut keeps {wanted:g} mm to the tumour and the {other} foramina: "
                    f"{clear[-1]:.1f} mm at best; type = \"total\" reaches further.",
                    ("MAR-3", "RES-HEMI"),
                )
            )  # fmt: skip
    cuts: list[Cut] = []
    whole: list[str] = []
    if choice.l5 == "none":
        cuts.append(_half(_disc(site, "l5_s1"), plane))
    elif choice.l5 == "partial":
        cuts += _l5_half(choice, site, plane)
    else:
        whole.append("L5")
        cuts += [_disc(site, "l4_l5"), _half(_disc(site, "l5_s1"), plane.flipped())]
    cuts.append(_sacral_chain(choice, site, plane))
    if choice.kind == "hemi":
        cuts.append(
            _iliac(choice, site, side)
            if choice.joint == "osteotomy"
            else _joint_cut(site, side, cuts[-1])
        )
    else:
        cuts += _hip_cuts(choice, site, side)
    return Placed(tuple(cuts), tuple(whole), tuple(doubts))


def site_width(site: Site, side: str) -> float:
    """How far a sagittal cut may leave the midline towards ``side``: its foramina stay whole, mm."""
    found = [q for n in (1, 2, 3) if (q := site.foramen(n, side)) is not None]
    if not found:
        return 0.0
    sign = 1.0 if side == "right" else -1.0
    reach = min(float((q - site.middle(1.0)) @ site.right) * sign for q in found)
    return max(0.0, reach - site.foramen_radius)


def _sacral_chain(choice: Choice, site: Site, plane: Plane) -> Cut:
    """The cut of the sacrum: sagittal, sagittal with an exit below a level, or oblique."""
    side = choice.side
    sacrum = site.bone("sacrum")
    out = plane.normal
    if choice.line == "oblique":
        return _oblique(choice, site, plane)
    if choice.lowest >= 5:
        return osteotomy("sacral", "sacrum", sacrum, plane, choice.kerf_mm, None)
    # Halfway between two pairs of foramina the roots on either side are safe.
    level = choice.lowest + 0.5
    dorsal = site.dorsal(level)
    caudal = unit(np.cross(dorsal, out))
    caudal = caudal if caudal @ site.caudal(level) > 0 else -caudal
    corner = site.middle(level)
    corner = corner - plane.distance(corner) * out
    points = np.stack([corner - 60.0 * caudal, corner, corner + 80.0 * out])
    chain = profile(points, dorsal, out, site.frame, name=f"sacral ({side})")
    return polyplane("sacral", "sacrum", sacrum, chain, choice.kerf_mm, None)


def _oblique(choice: Choice, site: Site, plane: Plane) -> Cut:
    """Midline down to below the other side's first foramen, then out below its sacroiliac joint.

    Paper B, case 3: "oblique incision through S1-2 vertebrae medially from the S1 foramen to preserve
    the left S1 root and sacroiliac joint".
    """
    other = "left" if choice.side == "right" else "right"
    first, second = site.foramen(1, other), site.foramen(2, other)
    if first is None or second is None:
        raise PlanError(
            f"The {other} foramina of S1 and S2 are needed for an oblique cut that spares the first "
            "root; give them under [landmarks] in case.toml."
        )
    out = plane.normal
    dorsal = site.dorsal(1.5)
    caudal = unit(np.cross(dorsal, out))
    caudal = caudal if caudal @ site.caudal(1.5) > 0 else -caudal

    def flat(p: FloatArray) -> FloatArray:
        """Towards the healthy side, and caudal."""
        d = p - plane.point
        return np.array([-d @ out, d @ caudal])

    through = 0.5 * (flat(first) + flat(second))
    joint = site.joint(other).points
    edge = np.array([flat(p) for p in joint])
    # Below every point of the joint that lies further out than the foramina.
    beyond = edge[edge[:, 0] > through[0] + 2.0]
    gap = 0.5 * choice.kerf_mm + 3.0
    slopes = (beyond[:, 1] + gap - through[1]) / (beyond[:, 0] - through[0])
    steep = max(float(np.quantile(slopes, 0.99)) if len(slopes) else 0.0, 0.3)
    corner = np.array([0.0, through[1] - steep * through[0]])
    # The first foramen keeps its own radius to the oblique facet.
    across = np.array([-steep, 1.0]) / np.hypot(1.0, steep)
    lack = site.foramen_radius + 0.5 * choice.kerf_mm - float((corner - flat(first)) @ across)
    if lack > 0:
        corner[1] += lack / across[1]
    far = corner + np.array([1.0, steep]) * 90.0

    def world(q: FloatArray) -> FloatArray:
        return np.asarray(plane.point - q[0] * out + q[1] * caudal)

    points = np.stack([world(corner - [0.0, 60.0]), world(corner), world(far)])
    chain = profile(points, dorsal, out, site.frame, name="sacral")
    return polyplane("sacral", "sacrum", site.bone("sacrum"), chain, choice.kerf_mm, None)


def _l5_half(choice: Choice, site: Site, plane: Plane) -> list[Cut]:
    """Half the disc above L5, and L5's own sagittal cut; continues the sacrum's where that allows."""
    assert choice.side is not None
    l5, frame = site.bone("L5"), site.frames["L5IEP"]
    right = frame.axes[:, 2]
    normal = right if choice.side == "right" else -right
    here = Plane(frame.origin, normal, site.frame)
    # Where the sacrum's cut was moved for the margin, L5's moves along.
    shift = max(0.0, -float((plane.point - site.middle(1.0)) @ plane.normal))
    here = here.shifted(-shift)
    vertices = _tumour(site)
    if vertices is not None:
        top = site.frames["S1EP"]
        upper = vertices[(vertices - top.origin) @ top.axes[:, 1] > 0.0]
        if len(upper):
            lack = choice.margin("l5") - _clear(upper, here, choice.kerf_mm)
            here = here.shifted(-max(0.0, min(lack, evidence.value("SP-RES-07"))))
    cut = osteotomy("l5", "L5", l5, here, choice.kerf_mm, None)
    return [_half(_disc(site, "l4_l5"), here), cut]


def _joint_cut(site: Site, side: str, sacral: Cut) -> Cut:
    """The sacroiliac joint taken apart: the plane that fits it, the outline of what it parts."""
    import manifold3d

    contact = site.contacts.get(side)
    if contact is None:
        site.joint(side)
    assert contact is not None
    gone = sacral.side(contact.feet) > 0
    feet = contact.feet[gone] if gone.any() else contact.feet
    weight = contact.areas[gone] if gone.any() else contact.areas
    centre = np.average(feet, axis=0, weights=weight)
    _, _, axes = np.linalg.svd((feet - centre) * np.sqrt(weight)[:, None], full_matrices=False)
    inwards = site.middle(1.0) - centre
    normal = axes[2] if axes[2] @ inwards > 0 else -axes[2]
    plane = Plane(centre, normal, site.frame)
    u = axes[0]
    basis = np.stack([u, np.cross(normal, u), normal], axis=1)
    flat = (feet - centre) @ basis[:, :2]
    hull = manifold3d.CrossSection.hull_points(flat)
    loops = tuple(np.asarray(p) for p in hull.to_polygons())
    outline = CrossSection(centre, basis, loops, site.frame)
    return Cut(f"si_joint_{side}", "joint", "", plane, 0.0, outline)


def _hip_cuts(choice: Choice, site: Site, side: str) -> list[Cut]:
    """Pubis and ischium, medial of the socket: what lies medial stays [RES-HPX, paper B case 3]."""
    letter = side[0].upper()
    hip = site.bone(f"hip_{side}")
    head = site.point(f"HJC_{letter}")
    pubis = site.point(f"PT_{letter}")
    ahead, up = site.pelvis.axes[:, 0], site.pelvis.axes[:, 1]
    reach = _socket_radius(site, side) + evidence.value("SP-RES-10")
    along = unit(head - pubis)
    ramus = Plane(head - reach * along, along, site.frame)
    # The ischium is met below the socket, behind the obturator foramen.
    ischium = Plane(head - reach * up, up, site.frame)
    behind = ischium.point - reach * ahead
    return [
        only_nearest(_plain(f"pubis_{side}", hip, ramus, choice.kerf_mm, side), ramus.point),
        only_nearest(_plain(f"ischium_{side}", hip, ischium, choice.kerf_mm, side), behind),
    ]


def _plain(name: str, hip: Surface, plane: Plane, kerf_mm: float, side: str) -> Cut:
    return osteotomy(name, f"hip_{side}", hip, plane, kerf_mm, None)


def only_nearest(cut: Cut, point: FloatArray) -> Cut:
    """The cut limited to the outline nearest to ``point`` (3,): a bone met twice is sawn once."""
    outline = cut.outline
    if len(outline.loops) < 2:
        return cut
    near = [float(np.linalg.norm(outline.to_world(p) - point, axis=1).min()) for p in outline.loops]
    chosen = outline.loops[int(np.argmin(near))]
    return replace(cut, outline=replace(outline, loops=(chosen,)))


def _socket_radius(site: Site, side: str) -> float:
    """Distance of the hip centre from the nearest bone of the hip: the socket's radius."""
    head = site.point(f"HJC_{side[0].upper()}")
    d = np.linalg.norm(site.bone(f"hip_{side}").vertices - head, axis=1)
    return float(np.quantile(d, 0.01))
