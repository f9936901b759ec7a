"""The resection plan: cuts, specimen, remaining bones, margins, losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import FloatArray, Plane, unit
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent
from sacroplan.resection import presets
from sacroplan.resection.cuts import Cut, SawnBone, osteotomy, polyplane, saw_all
from sacroplan.resection.lost import Losses, losses
from sacroplan.resection.margin import CutMargin, cover, cut_margin, specimen_face
from sacroplan.resection.presets import Choice
from sacroplan.resection.profile import Profile, profile
from sacroplan.resection.site import Site
from sacroplan.resection.total import SacroiliacJoint, iliac_cut

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")

TOUCH_MM = 0.05
"""A face nearer to the tumour than this touches it: the accuracy of the margin itself."""

VOLUME_ERROR = 1e-6
"""Pieces and kerf must sum to the whole bone to this share."""


@dataclass(frozen=True, eq=False)
class OwnCut:
    """A cut as the user gives it: a plane, or points of a chain and the blade's direction.

    Attributes
    ----------
    plane : point and normal towards the specimen; for a chain only the normal counts.
    bone : bone that is sawn; needed for a cut of a new name.
    points : (k, 3) LPS corners of a chain, its ends included. saw : (3,) out of the bone.
    depth_mm, width_mm : how deep and how wide the blade goes; None for through and through.
    open : whether the first and last facet go on beyond their points.
    """

    plane: Plane
    bone: str | None = None
    points: FloatArray | None = None
    saw: FloatArray | None = None
    depth_mm: float | None = None
    width_mm: float | None = None
    open: bool = True


@dataclass(frozen=True, eq=False)
class ResectionPlan:
    """A planned resection.

    Attributes
    ----------
    kind : type of RES-*, see :data:`presets.PRESETS`. choice : all that was asked for.
    cuts : in the order in which they are made.
    specimen : removed bone by name (``sacrum``, ``L5``, ``ilium_left``, ``hip_right`` ...).
    remnants : bone that stays, by name (``hip_left``, ``sacrum`` ...), of bones that are in reach.
    joints : sacroiliac joints by side.
    margins : one per cut, empty when no tumour is known.
    kerf_mm3, whole_mm3 : sawn bone to volumes, to check that they add up.
    cover_mm : specimen piece to (n,) signed distance of its vertices to the tumour.
    amputated : bones that leave with the limb (a hemipelvectomy's femur); not in ``specimen``.
    tumour_error_mm : how far the tumour's edge may lie elsewhere (95 %), from an MRI's fusion.
    """

    kind: str
    cuts: tuple[Cut, ...]
    specimen: Mapping[str, Surface]
    remnants: Mapping[str, Surface]
    joints: Mapping[str, SacroiliacJoint]
    margins: tuple[CutMargin, ...]
    kerf_mm3: Mapping[str, float]
    whole_mm3: Mapping[str, float]
    wanted_margin_mm: float
    doubts: tuple[Doubt, ...]
    choice: Choice
    losses: Losses
    cover_mm: Mapping[str, FloatArray]
    amputated: tuple[str, ...] = ()
    tumour_error_mm: float = 0.0

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return presets.title(self.choice)

    def cut(self, name: str) -> Cut:
        """The cut called ``name``."""
        for cut in self.cuts:
            if cut.name == name:
                return cut
        raise PlanError(f"There is no cut {name!r}; there are {[c.name for c in self.cuts]}.")

    @property
    def specimen_surface(self) -> Surface:
        """All removed bone side by side in one object."""
        return concatenate(list(self.specimen.values()))

    @property
    def specimen_mm3(self) -> float:
        """Volume of all removed bone."""
        return sum(s.volume_mm3 for s in self.specimen.values())

    def volume_error(self, bone: str) -> float:
        """How far a sawn bone's pieces and kerf are from the whole, relative."""
        parts = (
            self.specimen[piece_name(bone, self.cuts)].volume_mm3
            + self.remnants[bone].volume_mm3
            + self.kerf_mm3[bone]
        )
        return abs(parts / self.whole_mm3[bone] - 1.0)

    def metrics(self) -> Metrics:
        """Areas, volumes, margins, joint and root losses, published classes."""
        mayo, region = presets.published(self.choice)
        out: Metrics = {
            "resection.type": Metric(self.title, "text", "Resection", presets.rows(self.choice)),
            "resection.class.mayo": Metric(mayo, "text", "Mayo class", ("RES-MAYO",)),
            "resection.class.region": Metric(region, "text", "Region 1-2-3 type", ("RES-REGION",)),
            "resection.specimen.volume_cm3": Metric(
                self.specimen_mm3 / 1000.0, "cm3", "Volume of resected bone"
            ),
        }
        for cut in self.cuts:
            if cut.kind != "osteotomy":
                continue
            out[f"resection.cut.{cut.name}.area_cm2"] = Metric(
                cut.area_mm2 / 100.0, "cm2", f"Area of the cut {cut.name}"
            )
            out[f"resection.cut.{cut.name}.kerf_mm"] = Metric(
                cut.kerf_mm, "mm", f"Kerf of the cut {cut.name}", ("GDE-05",)
            )
            out[f"resection.cut.{cut.name}.facets"] = Metric(
                len(cut.facets), "count", f"Flat faces of the cut {cut.name}"
            )
        for bone in self.whole_mm3:
            key = bone.removeprefix("hip_") if bone.startswith("hip_") else bone
            out[f"resection.volume_error.{key}"] = Metric(
                self.volume_error(bone), "1",
                f"Volume of the pieces of {bone} and the kerf against the whole, relative",
            )  # fmt: skip
        found = {m.cut: m for m in self.margins}
        for cut in self.cuts:
            m = found.get(cut.name)
            out[f"resection.margin.{cut.name}.min_mm"] = Metric(
                m.minimum_mm if m else None, "mm",
                f"Least distance from tumour to the cut {cut.name}", ("MAR-3", "MAR-4", "MAR-4c"),
                lower=self.choice.margin(cut.name) if m else None,
            )  # fmt: skip
            if m and self.tumour_error_mm > 0.0:
                out[f"resection.margin.{cut.name}.sure_mm"] = Metric(
                    m.minimum_mm - self.tumour_error_mm, "mm",
                    f"Margin at the cut {cut.name} less the predicted error of the MRI fusion",
                    ("MAR-3", "SP-FUS-02"), lower=self.choice.margin(cut.name),
                )  # fmt: skip
        if self.cover_mm:
            out["resection.margin.specimen.min_cover_mm"] = Metric(
                min(float(v.min()) for v in self.cover_mm.values()), "mm",
                "Least distance from the specimen's surface to the tumour; negative where the tumour "
                "reaches out of the bone", ("MAR-3",),
            )  # fmt: skip
        return out | self.losses.metrics()


def piece_name(bone: str, cuts: Sequence[Cut]) -> str:
    """Name of a sawn bone's piece in the specimen: the ilium of an iliac cut, else the bone."""
    side = bone.removeprefix("hip_")
    iliac = any(c.name == f"iliac_{side}" and c.bone == bone for c in cuts)
    return f"ilium_{side}" if iliac else bone


def plan_resection(
    site: Site,
    choice: Choice,
    own: Mapping[str, OwnCut] | None = None,
    progress: Progress = silent,
) -> ResectionPlan:
    """Place the cuts of ``choice``, put the user's own in their places, and make them.

    Raises :class:`PlanError` in one sentence where that cannot be done.
    """
    choice = replace(
        choice,
        kerf_mm=choice.kerf_mm or evidence.value("GDE-05", "kerf"),
        margin_mm=choice.margin_mm or evidence.value("MAR-3", "bone"),
    )
    progress(0.0, "placing the cuts")
    placed = presets.place(choice, site)
    cuts = {c.name: c for c in placed.cuts}
    for name, cut in sorted((own or {}).items()):
        cuts[name] = own_cut(name, cut, cuts.get(name), site, choice.kerf_mm)
    if not cuts:
        raise PlanError(
            'A resection of type "free" has no cuts of its own; give at least one under '
            "[resection.cuts.NAME] in case.toml, with its bone."
        )
    progress(0.4, "sawing")
    told = placed.doubts
    if own:
        # What was said about an automatic place does not hold where the user has chosen.
        told = tuple(d for d in told if d.code != "resection.margin_impossible")
    return make(site, choice, tuple(cuts.values()), placed.whole, told, progress)


def own_cut(name: str, given: OwnCut, automatic: Cut | None, site: Site, kerf_mm: float) -> Cut:
    """The user's cut; without a bone of its own it replaces the automatic one of its name."""
    bone = given.bone or (automatic.bone if automatic is not None else None)
    if automatic is not None and automatic.kind != "osteotomy":
        return replace(automatic, plane=given.plane)
    if not bone:
        raise PlanError(
            f"The cut {name} is not one of this resection's, so its bone must be named: write "
            f'bone = "sacrum" (or "L5", "hip_left", "hip_right") under [resection.cuts.{name}].'
        )
    surface = site.bone(bone)
    chain = _chain(name, given, site.frame)
    if chain is not None:
        return polyplane(name, bone, surface, chain, kerf_mm, None, site.solid(bone))
    return _single(name, bone, given.plane, automatic, site, kerf_mm)


def _single(
    name: str, bone: str, plane: Plane, automatic: Cut | None, site: Site, kerf_mm: float
) -> Cut:
    surface = site.bone(bone)
    if name in ("iliac_left", "iliac_right"):
        side = name.removeprefix("iliac_")
        notch = site.point(f"GSN_{side[0].upper()}")
        return iliac_cut(side, surface, plane, kerf_mm, site.pelvis, notch, site.solid(bone))
    cut = osteotomy(name, bone, surface, plane, kerf_mm, None, site.solid(bone))
    if automatic is None or bone.startswith("hip_") is False or not automatic.outline.loops:
        return cut
    # Of a hip bone only the part is sawn that the automatic cut is for.
    return presets.only_nearest(cut, automatic.outline.centroid)


def _chain(name: str, given: OwnCut, frame: str) -> Profile | None:
    finite = given.depth_mm is not None or given.width_mm is not None
    if given.points is None and not finite:
        return None
    if given.saw is None:
        raise PlanError(
            f"The cut {name} has points, a width or a depth, so the direction of its blade must be "
            f"given: write saw = [x, y, z] (out of the bone) under [resection.cuts.{name}]."
        )
    e = unit(given.saw)
    if given.points is not None:
        points, open_ends = given.points, given.open
    else:
        half = 0.5 * given.width_mm if given.width_mm is not None else 1.0 * 50.0
        along = np.cross(given.plane.normal, e)
        if float(np.linalg.norm(along)) < 0.1:
            raise PlanError(
                f"The blade of the cut {name} stands square to its own plane; saw must lie in it."
            )
        along = unit(along)
        points = given.plane.point + np.array([[-half], [half]]) * along
        open_ends = given.width_mm is None
    return profile(
        points,
        e,
        given.plane.normal,
        frame,
        open_ends=open_ends,
        depth_mm=given.depth_mm,
        name=name,
    )


def moved(plan: ResectionPlan, site: Site, planes: Mapping[str, Plane]) -> ResectionPlan:
    """The plan with some cuts moved, everything that follows from them recomputed.

    A plane is named after its cut, facets of a chain after it ``NAME.1``, ``NAME.2`` ... What does
    not depend on the moved cuts is taken from ``site``'s memory: a second at most on two cores.
    """
    cuts = {c.name: c for c in plan.cuts}
    changed: dict[str, dict[int, Plane]] = {}
    for name, plane in planes.items():
        base, _, number = name.rpartition(".")
        if name in cuts:
            changed.setdefault(name, {})[0] = plane
        elif base in cuts and number.isdigit():
            changed.setdefault(base, {})[int(number) - 1] = plane
        else:
            raise PlanError(f"There is no cut {name!r} to move; there are {sorted(cuts)}.")
    for name, facets in changed.items():
        cut = cuts[name]
        if cut.kind != "osteotomy":
            cuts[name] = replace(cut, plane=facets[0])
        elif cut.profile is None:
            cuts[name] = _single(name, cut.bone, facets[0], cut, site, cut.kerf_mm)
        else:
            chain = reshaped(cut.profile, facets, name)
            cuts[name] = polyplane(
                name, cut.bone, site.bone(cut.bone), chain, cut.kerf_mm, None, site.solid(cut.bone)
            )
    whole = tuple(b for b in ("sacrum", "L5") if b in plan.specimen and b not in plan.whole_mm3)
    told = tuple(d for d in plan.doubts if d.code == "resection.margin_impossible")
    return make(site, plan.choice, tuple(cuts.values()), whole, told, before=plan)


def reshaped(chain: Profile, facets: Mapping[int, Plane], name: str) -> Profile:
    """A chain whose facets ``facets`` (by number) lie in other planes, turned to hold the blade."""
    planes = chain.planes()
    for n, plane in facets.items():
        if not 0 <= n < len(planes):
            raise PlanError(f"The cut {name} has {len(planes)} facets, not {n + 1}.")
        flat = plane.normal - (plane.normal @ chain.saw) * chain.saw
        if float(np.linalg.norm(flat)) < 0.5:
            raise PlanError(
                f"Facet {n + 1} of the cut {name} was turned square to its blade; it must hold the "
                "direction along which the blade enters."
            )
        planes[n] = Plane(plane.point, flat, plane.frame)
    corners = chain.points.copy()
    for n in range(1, len(planes)):
        a, b = planes[n - 1], planes[n]
        rows = np.stack([a.normal, b.normal, chain.saw])
        if abs(float(np.linalg.det(rows))) < 0.05:
            raise PlanError(f"Two facets of the cut {name} have become parallel; turn one of them.")
        right = np.array([a.normal @ a.point, b.normal @ b.point, chain.saw @ corners[n]])
        corners[n] = np.linalg.solve(rows, right)
    for n, plane in ((0, planes[0]), (-1, planes[-1])):
        corners[n] = corners[n] - float(plane.distance(corners[n])) * plane.normal
    return profile(
        corners, chain.saw, planes[0].normal, chain.frame, open_ends=chain.open,
        depth_mm=chain.depth_mm, name=name,
    )  # fmt: skip


def _key(cut: Cut) -> tuple[object, ...]:
    chain = () if cut.profile is None else (cut.profile.points.tobytes(), cut.profile.saw.tobytes())
    return (
        cut.name, cut.plane.point.tobytes(), cut.plane.normal.tobytes(), cut.kerf_mm, *chain,
        tuple(p.tobytes() for f in cut.facets for p in f.outline.loops),
    )  # fmt: skip


def _sawn(site: Site, bone: str, cuts: tuple[Cut, ...]) -> SawnBone:
    key = (bone, *(_key(c) for c in cuts))
    if key not in site._sawn:
        site._sawn[key] = saw_all(site.bone(bone), cuts, site.solid(bone))
    return site._sawn[key]  # type: ignore[no-any-return]


def make(
    site: Site,
    choice: Choice,
    cuts: tuple[Cut, ...],
    whole: tuple[str, ...],
    told: tuple[Doubt, ...] = (),
    progress: Progress = silent,
    before: ResectionPlan | None = None,
) -> ResectionPlan:
    """Make the cuts, measure margins and losses. ``whole`` bones leave uncut."""
    for cut in cuts:
        if cut.kind == "osteotomy":
            _met(cut, site, cuts)
    by_bone: dict[str, list[Cut]] = {}
    for cut in cuts:
        if cut.kind == "osteotomy":
            by_bone.setdefault(cut.bone, []).append(cut)
    both = sorted(set(whole) & set(by_bone))
    if both:
        raise PlanError(
            f"The bone {both[0]} leaves whole in this resection, so it cannot be cut as well; take "
            "the cut out of case.toml or choose another type."
        )
    gone: dict[str, Surface] = {b: site.bone(b) for b in whole}
    stays: dict[str, Surface] = {}
    kerf: dict[str, float] = {}
    volume: dict[str, float] = {}
    for n, (bone, some) in enumerate(by_bone.items()):
        progress(0.4 + 0.3 * n / len(by_bone), f"sawing {bone}")
        sawn = _sawn(site, bone, tuple(some))
        gone[bone], stays[bone] = sawn.specimen, sawn.remnant
        kerf[bone], volume[bone] = sawn.kerf_mm3, site.bone(bone).volume_mm3
    for bone in ("sacrum", "hip_left", "hip_right"):
        if bone in site.bones and bone not in gone:
            stays[bone] = site.bones[bone]
    specimen = {piece_name(b, cuts): s for b, s in gone.items()}
    doubts = list(told)
    doubts += _iliac_doubts(site, choice, cuts, gone, stays)
    progress(0.75, "margins")
    margins, cover_mm = _margins(site, cuts, gone, specimen, before)
    doubts += _margin_doubts(site, choice, cuts, margins)
    progress(0.9, "what is lost")
    l5 = 0.0
    if "L5" in gone:
        l5 = (
            100.0
            if "L5" not in stays
            else 100.0 * gone["L5"].volume_mm3 / (gone["L5"].volume_mm3 + stays["L5"].volume_mm3)
        )
    lost = losses(site, cuts, gone, stays, l5)
    doubts += _loss_doubts(site, lost)
    amputated: tuple[str, ...] = ()
    if choice.kind == "hemipelvectomy" and f"femur_{choice.side}" in site.bones:
        amputated = (f"femur_{choice.side}",)
    plan = ResectionPlan(
        choice.kind, cuts, specimen, stays,
        {s: SacroiliacJoint(s, c.patch) for s, c in site.contacts.items()},
        margins, kerf, volume, choice.margin_mm, tuple(doubts), choice, lost, cover_mm, amputated,
        0.0 if site.tumour is None else site.tumour.error_mm,
    )  # fmt: skip
    for bone in volume:
        if plan.volume_error(bone) > VOLUME_ERROR:
            raise PlanError(
                f"The pieces of {bone} and the kerf do not sum to the whole bone "
                f"({plan.volume_error(bone):.1e} relative, {VOLUME_ERROR:g} allowed); its surface "
                "crosses itself. Clean the bone's label."
            )
    progress(1.0, "resection planned")
    return plan


def _met(cut: Cut, site: Site, cuts: Sequence[Cut]) -> None:
    """Refuse a plane beside its bone in words that say by how much."""
    if any(f.outline.loops for f in cut.facets):
        return
    d = cut.plane.distance(site.bone(cut.bone).vertices)
    beside = float(np.abs(d).min()) if d.min() > 0 or d.max() < 0 else 0.0
    where = (
        f"it passes {beside:.0f} mm beside it"
        if beside > 0
        else "its finite part does not reach it"
    )
    raise PlanError(
        f"The cut {cut.name} misses the bone it is to saw ({cut.bone}): {where}. Move its plane in "
        "case.toml, or name another bone."
    )


def _margins(
    site: Site,
    cuts: Sequence[Cut],
    gone: Mapping[str, Surface],
    specimen: Mapping[str, Surface],
    before: ResectionPlan | None,
) -> tuple[tuple[CutMargin, ...], dict[str, FloatArray]]:
    if site.tumour is None:
        return (), {}
    tumour = site.tumour.surface
    known = {} if before is None else {m.cut: m for m in before.margins}
    margins = []
    for cut in cuts:
        unchanged = (
            before is not None
            and cut.name in known
            and (_bone_key(cut, cuts) == _bone_key(cut, before.cuts))
        )
        margins.append(
            known[cut.name] if unchanged else cut_margin(cut, tumour, specimen_face(cut, gone))
        )
    # While a plane is dragged only the cut faces change; the rest of the map is made at the end.
    return tuple(margins), {} if before is not None else cover(specimen, tumour)


def _bone_key(cut: Cut, cuts: Sequence[Cut]) -> tuple[object, ...]:
    """All that decides a cut's face: itself and the other cuts of its bone."""
    own = [c for c in cuts if c.name == cut.name or (cut.bone and c.bone == cut.bone)]
    return tuple(_key(c) for c in own)


def _iliac_doubts(
    site: Site,
    choice: Choice,
    cuts: Sequence[Cut],
    gone: Mapping[str, Surface],
    stays: Mapping[str, Surface],
) -> list[Doubt]:
    doubts = []
    for side in SIDES:
        hip = f"hip_{side}"
        cut = next((c for c in cuts if c.name == f"iliac_{side}" and c.bone == hip), None)
        if cut is None:
            continue
        share = gone[hip].volume_mm3 / site.bones[hip].volume_mm3
        if gone[hip].volume_mm3 > stays[hip].volume_mm3:
            raise PlanError(
                f"The {side} osteotomy takes more than half of the hip bone ({share:.0%}) with the "
                "specimen; it misses the greater sciatic notch. Give its plane under "
                "[resection.cuts] in case.toml, and check the bone labels."
            )
        notch = site.point(f"GSN_{side[0].upper()}")
        lowest = min(
            float(site.pelvis.to_local(f.outline.to_world(p))[:, 1].min())
            for f in cut.facets
            for p in f.outline.loops
        )
        beyond = float(site.pelvis.to_local(notch)[1]) - lowest
        if beyond > evidence.value("SP-RES-06", "reach"):
            doubts.append(
                Doubt(
                    "plan", f"resection.misses_notch.{side}",
                    f"The {side} osteotomy runs {beyond:.0f} mm below the apex of the greater sciatic "
                    "notch, into the ischium: the sacroiliac joint reaches too far forward for a cut "
                    "that ends in the notch. Check the bone labels there or give your own plane.",
                    ("SP-RES-06",),
                )
            )  # fmt: skip
        left = cut.side(site.joint(side).points) - 0.5 * cut.kerf_mm
        left_behind = float((left <= 0).mean())
        if left_behind > 0 and choice.kind == "total":
            doubts.append(
                Doubt(
                    "plan", f"resection.si_joint_crossed.{side}",
                    f"The {side} osteotomy leaves {100 * left_behind:.0f} % of the sacroiliac joint "
                    "surface on the patient; a total sacrectomy removes all of it.", ("RES-TOT",),
                )
            )  # fmt: skip
    return doubts


def _margin_doubts(
    site: Site, choice: Choice, cuts: Sequence[Cut], margins: Sequence[CutMargin]
) -> list[Doubt]:
    if site.tumour is None:
        return [
            Doubt(
                "plan", "resection.no_tumour",
                "No tumour is given, so no margin can be stated. Name a label, a mask file or a "
                "shape under [tumour] in case.toml.", ("MAR-3",),
            )
        ]  # fmt: skip
    doubts = []
    centre = site.tumour.surface.centroid
    error = site.tumour.error_mm
    near = site.tumour_to_bone_mm
    if near > 0.0:
        doubts.append(
            Doubt(
                "plan", "resection.tumour_outside",
                f"The tumour lies outside the sacrum, L5 and the hip bones ({near:.0f} mm from the "
                f"nearest, centre {np.round(centre).astype(int).tolist()}); check that its mask "
                "belongs to this CT.", ("MAR-3",),
            )
        )  # fmt: skip
    for m in margins:
        wanted = choice.margin(m.cut)
        if m.minimum_mm >= wanted:
            if m.minimum_mm - error < wanted:
                doubts.append(
                    Doubt(
                        "plan", f"resection.margin.{m.cut}.fusion",
                        f"The margin of {m.minimum_mm:.1f} mm at the cut {m.cut} keeps the wanted "
                        f"{wanted:g} mm only if the MRI fusion is right: its predicted error is "
                        f"{error:.1f} mm (95 %).", ("MAR-3", "SP-FUS-02"),
                    )
                )  # fmt: skip
            continue
        if abs(m.minimum_mm) < TOUCH_MM:
            words = f"The tumour touches the cut {m.cut}"
        elif m.minimum_mm < 0:
            words = f"The cut {m.cut} passes {-m.minimum_mm:.1f} mm deep through the tumour"
        else:
            words = f"The tumour comes within {m.minimum_mm:.1f} mm of the cut {m.cut}"
        words += f"; {wanted:g} mm were wanted."
        if m.cut == "l5_s1":
            words += (
                ' This margin cannot be kept without cutting L5: l5 = "partial" or "whole" does.'
            )
        doubts.append(Doubt("plan", f"resection.margin.{m.cut}", words, ("MAR-3", "MAR-4")))
    return doubts


def _loss_doubts(site: Site, lost: Losses) -> list[Doubt]:
    doubts = []
    if site.levels_known < 2:
        doubts.append(
            Doubt(
                "plan", "resection.levels_unknown",
                "The ventral foramina of S1 and S2 were not both found; the sacral levels are spaced "
                "evenly, so which roots and ligaments are lost is a guess.", ("DIM-19",),
            )
        )  # fmt: skip
    elif site.levels_known < 4:
        doubts.append(
            Doubt(
                "plan", "resection.levels_continued",
                f"The foramina of only {site.levels_known} sacral levels were found on both sides; "
                "those below are continued from the last two, so the fate of the lower roots is "
                "uncertain.", ("DIM-19",),
            )
        )  # fmt: skip
    risky = lost.root_words("at risk")
    if risky != "none":
        doubts.append(
            Doubt(
                "plan", "resection.roots_at_risk",
                f"The cut passes through the foramen of {risky}: the root may or may not be kept.",
                ("DIM-05",),
            )
        )  # fmt: skip
    high = max(lost.joint_percent.values(), default=0.0)
    above = any(w.startswith(("cephalad", "through")) for w in lost.s1_line.values())
    if above or high >= evidence.value("VAL-01", "joint_cephalad"):
        doubts.append(
            Doubt(
                "plan", "resection.reconstruction",
                f"The cut lies at or above an S1 foramen, or {high:.0f} % of a sacroiliac joint goes: "
                "consider reconstruction (evidence: cadaveric, low); reconstructed patients fare "
                "worse in unadjusted series.",
                ("VAL-01", "REC-1", "REC-2", "REC-3", "REC-4", "REC-5", "REC-6", "REC-7"),
            )
        )  # fmt: skip
    for pair, mm in sorted(lost.vessels.items()):
        vessel, cut = pair.split(".", 1)
        words = vessel.replace("_", " ")
        doubts.append(
            Doubt(
                "plan", f"resection.vessel.{pair}",
                f"The saw meets the {words} at the cut {cut}."
                if mm < 0.0
                else f"The {words} runs {mm:.1f} mm from the cut {cut}.",
                ("SP-RES-11",),
            )
        )  # fmt: skip
    return doubts
