"""The resection plan: cuts, specimen, remaining bones, margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent
from sacroplan.resection.cuts import Cut, SawnBone, saw
from sacroplan.resection.margin import CutMargin, cut_margin
from sacroplan.resection.total import (
    SacroiliacJoint,
    disc_outline,
    disc_plane,
    iliac_cut,
    iliac_plane,
    sacroiliac_joint,
)
from sacroplan.resection.tumour import Tumour

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")


@dataclass(frozen=True)
class ResectionParameters:
    """What the surgeon decides; None means: from the evidence row's default."""

    kerf_mm: float | None = None
    margin_mm: float | None = None

    @property
    def kerf(self) -> float:
        """Kerf of the saw, mm [GDE-05]."""
        return evidence.value("GDE-05", "kerf") if self.kerf_mm is None else self.kerf_mm

    @property
    def margin(self) -> float:
        """Wanted planned margin in bone, mm [MAR-3]."""
        return evidence.value("MAR-3", "bone") if self.margin_mm is None else self.margin_mm


@dataclass(frozen=True, eq=False)
class ResectionPlan:
    """A planned total sacrectomy.

    Attributes
    ----------
    cuts : disc cut first, then the osteotomies left and right.
    specimen : removed bone by name (``sacrum``, ``ilium_left``, ``ilium_right``).
    remnants : bone that stays, by name (``hip_left``, ``hip_right``).
    joints : sacroiliac joints by side, both inside the specimen.
    margins : one per cut, empty when no tumour is known.
    bone_mm3 : volumes of hips before the cut, kerf and pieces, to check that they add up.
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

    def metrics(self) -> Metrics:
        """Areas, volumes, margins, joint and root losses."""
        out: Metrics = {}
        total = sum(s.volume_mm3 for s in self.specimen.values())
        out["resection.specimen.volume_cm3"] = Metric(
            total / 1000.0, "cm3", "Volume of resected bone"
        )
        for side in SIDES:
            cut = self.cut(f"iliac_{side}")
            hip = f"hip_{side}"
            out[f"resection.cut.iliac_{side}.area_cm2"] = Metric(
                cut.area_mm2 / 100.0, "cm2", f"Area of the {side} iliac osteotomy"
            )
            out[f"resection.cut.iliac_{side}.kerf_mm"] = Metric(
                cut.kerf_mm, "mm", f"Kerf of the {side} iliac osteotomy", ("GDE-05",)
            )
            parts = (
                self.specimen[f"ilium_{side}"].volume_mm3
                + self.remnants[hip].volume_mm3
                + self.kerf_mm3[hip]
            )
            out[f"resection.volume_error.{side}"] = Metric(
                abs(parts / self.whole_mm3[hip] - 1.0), "1",
                f"Volume of the {side} hip bone's pieces against the whole, relative",
            )  # fmt: skip
            joint = self.joints[side]
            beyond = cut.specimen_face.distance(joint.points)
            out[f"resection.si_joint.{side}.removed_percent"] = Metric(
                100.0 * float((beyond > 0).mean()), "%",
                f"Share of the {side} sacroiliac joint surface in the specimen",
            )  # fmt: skip
            out[f"resection.si_joint.{side}.clearance_mm"] = Metric(
                float(beyond.min()), "mm",
                f"Least distance from the {side} sacroiliac joint to the osteotomy", ("SP-RES-01",),
            )  # fmt: skip
        for name in ("l5_s1", "iliac_left", "iliac_right"):
            found = [m for m in self.margins if m.cut == name]
            out[f"resection.margin.{name}.min_mm"] = Metric(
                found[0].minimum_mm if found else None, "mm",
                f"Least distance from tumour to the cut {name}", ("MAR-3", "MAR-4", "MAR-4c"),
                lower=self.wanted_margin_mm if found else None,
            )  # fmt: skip
        out["resection.roots.lost"] = Metric(
            "S1-S5 both sides", "text", "Nerve roots lost", ("RES-TOT",)
        )
        for function in ("bladder", "bowel"):
            out[f"resection.function.normal_{function}_percent"] = Metric(
                evidence.value("ROOT-TOT", function), "%",
                f"Patients with normal {function} function after loss of both S2 roots",
                ("ROOT-TOT",),
            )  # fmt: skip
        return out


def plan_total_sacrectomy(
    bones: Mapping[str, Surface],
    frames: Mapping[str, AxisFrame],
    points: Mapping[str, FloatArray],
    tumour: Tumour | None,
    parameters: ResectionParameters,
    planes: Mapping[str, Plane] | None = None,
    progress: Progress = silent,
) -> ResectionPlan:
    """Plan a total sacrectomy.

    Parameters
    ----------
    bones : closed surfaces ``sacrum``, ``hip_left``, ``hip_right``, ``L5``.
    frames : ``pelvis``, ``L5IEP``, ``S1EP`` (HANDBOOK FRM-1, FRM-3, FRM-4).
    points : ``GSN_L``, ``GSN_R``: apices of the greater sciatic notches, LPS mm.
    planes : the user's own planes by cut name; they replace the automatic ones.
    """
    own = planes or {}
    doubts: list[Doubt] = []
    progress(0.0, "L5-S1 disc plane")
    outline = disc_outline(bones["L5"], frames["L5IEP"], frames["S1EP"])
    disc = disc_plane(frames["L5IEP"], frames["S1EP"], outline)
    if "l5_s1" in own:
        disc = Cut("l5_s1", "disc", "", own["l5_s1"], 0.0, outline)
    cuts = [disc]
    joints: dict[str, SacroiliacJoint] = {}
    pieces: dict[str, SawnBone] = {}
    for n, side in enumerate(SIDES):
        progress(0.1 + 0.4 * n, f"osteotomy of the {side} ilium")
        hip = bones[f"hip_{side}"]
        notch = points.get(f"GSN_{side[0].upper()}")
        if notch is None:
            raise PlanError(
                f"The apex of the {side} greater sciatic notch is not known, so the {side} iliac "
                f"osteotomy has no lower end. Give GSN_{side[0].upper()} under [landmarks] in case.toml."
            )
        joint = sacroiliac_joint(side, hip, bones["sacrum"])
        joints[side] = joint
        plane = own.get(f"iliac_{side}") or iliac_plane(
            joint, hip, frames["pelvis"], notch, parameters.kerf,
            None if tumour is None else tumour.surface, parameters.margin,
        )  # fmt: skip
        cut = iliac_cut(side, hip, plane, parameters.kerf, frames["pelvis"], notch)
        pieces[side] = saw(hip, cut, joint.centre)
        cuts.append(cut)
        if pieces[side].specimen.volume_mm3 > pieces[side].remnant.volume_mm3:
            raise PlanError(
                f"The {side} osteotomy takes more than half of the hip bone "
                f"({pieces[side].specimen.volume_mm3 / hip.volume_mm3:.0%}) with the specimen; it misses "
                "the greater sciatic notch. Give its plane under [resection.cuts] in case.toml, and "
                "check the bone labels."
            )
        lowest = min(
            float(frames["pelvis"].to_local(cut.outline.to_world(p))[:, 1].min())
            for p in cut.outline.loops
        )
        beyond = float(frames["pelvis"].to_local(notch)[1]) - lowest
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
        left_behind = float((cut.specimen_face.distance(joint.points) <= 0).mean())
        if left_behind > 0:
            doubts.append(
                Doubt(
                    "plan", f"resection.si_joint_crossed.{side}",
                    f"The {side} osteotomy leaves {100 * left_behind:.0f} % of the sacroiliac joint "
                    "surface on the patient; a total sacrectomy removes all of it.", ("RES-TOT",),
                )
            )  # fmt: skip
    progress(0.9, "margins")
    margins: tuple[CutMargin, ...] = ()
    if tumour is None:
        doubts.append(
            Doubt(
                "plan", "resection.no_tumour",
                "No tumour is given, so no margin can be stated. Name a label, a mask file or a "
                "shape under [tumour] in case.toml.", ("MAR-3",),
            )
        )  # fmt: skip
    else:
        margins = tuple(cut_margin(c, tumour.surface) for c in cuts)
        for m in margins:
            if m.minimum_mm < parameters.margin:
                doubts.append(
                    Doubt(
                        "plan", f"resection.margin.{m.cut}",
                        f"The tumour comes within {m.minimum_mm:.1f} mm of the cut {m.cut}; "
                        f"{parameters.margin:g} mm were wanted.", ("MAR-3", "MAR-4"),
                    )
                )  # fmt: skip
    progress(1.0, "resection planned")
    specimen = {"sacrum": bones["sacrum"]}
    specimen |= {f"ilium_{s}": pieces[s].specimen for s in SIDES}
    return ResectionPlan(
        "total",
        tuple(cuts),
        specimen,
        {f"hip_{s}": pieces[s].remnant for s in SIDES},
        joints,
        margins,
        {f"hip_{s}": pieces[s].kerf_mm3 for s in SIDES},
        {f"hip_{s}": bones[f"hip_{s}"].volume_mm3 for s in SIDES},
        parameters.margin,
        tuple(doubts),
    )
