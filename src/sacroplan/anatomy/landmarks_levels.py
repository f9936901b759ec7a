"""Which vertebra is L5? Evidence for the count, and signs that the junction is transitional [DIM-19].

Close to a third of sacra are transitional, so levels are never inferred silently: the count starts at a
labelled vertebra, what speaks for and against it is kept, and a person has to confirm it.
Everything here works in local axes x anterior, y cranial, z right (mm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.anatomy.landmarks_endplates import Body, Endplate
from sacroplan.anatomy.landmarks_foramina import Foramina, Unrolled, ventral_profile
from sacroplan.anatomy.landmarks_joint import find_contact
from sacroplan.errors import Doubt
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.surface import Surface

PROCESS_FROM_MM = 8.0
"""Transverse processes are measured this far lateral of the body's widest place, clear of its wall."""

PROCESS_BEHIND_MM = 18.0
"""Behind the posterior wall by more than this lie the facets, not the transverse process."""

CONTACT_MM = 3.0
"""A process this near to sacrum or ilium, face to face, articulates with it or is fused."""

CLEFT_REACH_MM = 9.0
"""Half width of the groove that an unfused S1-S2 disc leaves in the front of the sacrum."""

CLEFT_SHARE = (0.40, 1.15)
"""The disc lies between these shares of the way from the promontory to the first ventral foramen."""


@dataclass(frozen=True, slots=True)
class LevelEvidence:
    """What the vertebral levels rest on.

    Attributes
    ----------
    counted_from : the labelled vertebra the count starts at, and who labelled it is the bones' matter.
    lumbar_seen : lumbar vertebrae in the image, from below.
    foramina_pairs : ventral sacral foramina found on the (left, right); None where none shows.
    l5_wedge : anterior against posterior height of L5 (typical 1.15; a lumbar-like S1 about 1).
    process_height_mm, process_contact_mm2 : L5's transverse processes by side: height, and area that
        faces sacrum or ilium closely.
    cleft_mm : depth of a groove in the front of the sacrum where an S1-S2 disc would lie.
    signs : sentences, one for each sign of transitional anatomy; empty when there is none.
    """

    counted_from: str
    lumbar_seen: tuple[str, ...]
    foramina_pairs: tuple[int, int] | None = None
    l5_wedge: float | None = None
    process_height_mm: Mapping[str, float] | None = None
    process_contact_mm2: Mapping[str, float] | None = None
    cleft_mm: float | None = None
    signs: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The evidence in one sentence."""
        parts = [f"counted upwards from the bone labelled {self.counted_from}"]
        if self.lumbar_seen:
            parts.append(f"lumbar vertebrae in the image: {', '.join(self.lumbar_seen)}")
        if self.foramina_pairs is not None:
            left, right = self.foramina_pairs
            parts.append(f"ventral sacral foramina: {left} left, {right} right")
        if self.l5_wedge is not None:
            parts.append(f"L5 is {self.l5_wedge:.2f} times as high in front as behind")
        if self.process_height_mm:
            both = ", ".join(f"{v:.0f} mm {k}" for k, v in self.process_height_mm.items())
            parts.append(f"its transverse processes are {both} high")
        return "; ".join(parts)

    def doubts(self, confirmed: bool) -> tuple[Doubt, ...]:
        """Signs are always told; the call for confirmation ends once a person has confirmed."""
        out = []
        if self.signs:
            out.append(
                Doubt(
                    "anatomy",
                    "anatomy.transitional_suspected",
                    f"Transitional lumbosacral anatomy is possible: {'; '.join(self.signs)}. Count the "
                    "vertebrae on a whole-spine image before a level is named in the plan.",
                    ("DIM-19", "SP-LMK-10"),
                )
            )
        if not confirmed:
            out.append(
                Doubt(
                    "anatomy",
                    "anatomy.levels_to_confirm",
                    f"Vertebral levels are not confirmed: {self.sentence()}. 29 % of sacra are "
                    "transitional; check the count and set [patient] levels_confirmed = true.",
                    ("DIM-19",),
                )
            )
        return tuple(out)


def gather(
    bones: Mapping[str, Surface],
    bodies: Mapping[str, Body],
    plates: Mapping[str, Endplate],
    foramina: Foramina | None,
    view: Unrolled | None,
    lumbar: tuple[str, ...],
) -> LevelEvidence:
    """Evidence from what the landmark search has found, in local axes."""
    seen = tuple(n for n in lumbar if n in bones)
    start = "L5" if "L5" in bones else (seen[0] if seen else "sacrum")
    signs: list[str] = []
    pairs = None if foramina is None else foramina.pits
    # Incomplete patterns are common and a tumour destroys openings: only the same odd number on both
    # sides speaks for a vertebra more or less.
    if pairs is not None and pairs[0] == pairs[1] and pairs[0] in (3, 5):
        kind = "a lumbarised S1 has three" if pairs[0] == 3 else "a sacralised L5 has five"
        signs.append(
            f"{pairs[0]} ventral foramina on either side instead of 4 ({kind}, and small or closed "
            "ones are missed)"
        )
    wedge = _wedge(plates)
    if wedge is not None:
        front, back = (
            evidence.quantity("DIM-10", "anterior"),
            evidence.quantity("DIM-10", "posterior"),
        )
        assert front.value is not None
        assert back.value is not None
        assert front.sd is not None
        assert back.sd is not None
        usual = front.value / back.value
        spread = usual * float(np.hypot(front.sd / front.value, back.sd / back.value))
        if wedge < usual - 2.0 * spread:
            signs.append(
                f"L5 is not wedge-shaped ({wedge:.2f} times as high in front as behind, usually "
                f"{usual:.2f})"
            )
    heights, areas = _processes(bones, bodies, plates)
    most = evidence.value("SP-LMK-10", "process_height")
    least = evidence.value("SP-LMK-10", "contact_area")
    for side, height in heights.items():
        if height >= most:
            signs.append(
                f"the {side} transverse process of L5 is {height:.0f} mm high (from {most:g} mm on it "
                "counts as dysplastic)"
            )
    for side, area in areas.items():
        if area >= least:
            signs.append(
                f"the {side} transverse process of L5 faces sacrum or ilium closely over "
                f"{area / 100.0:.1f} cm2"
            )
    cleft = _cleft(view, foramina)
    if cleft is not None and cleft >= evidence.value("SP-LMK-10", "cleft"):
        signs.append(
            f"a groove of {cleft:.1f} mm crosses the front of the sacrum where S1 and S2 meet, as an "
            "unfused disc leaves it"
        )
    return LevelEvidence(
        start, seen, pairs, wedge, heights or None, areas or None, cleft, tuple(signs)
    )


def _wedge(plates: Mapping[str, Endplate]) -> float | None:
    top, bottom = plates.get("L5SEP"), plates.get("L5IEP")
    if top is None or bottom is None:
        return None
    front = float(np.linalg.norm(top.anterior - bottom.anterior))
    return front / float(np.linalg.norm(top.posterior - bottom.posterior))


def _processes(
    bones: Mapping[str, Surface], bodies: Mapping[str, Body], plates: Mapping[str, Endplate]
) -> tuple[dict[str, float], dict[str, float]]:
    """Height (mm) of L5's transverse processes and their contact (mm2), by side."""
    body, plate = bodies.get("L5"), plates.get("L5IEP") or plates.get("L5SEP")
    if body is None or plate is None or plate.left is None or plate.right is None:
        return {}, {}
    l5 = bones["L5"]
    z = body.right
    x = unit(plate.ahead - (plate.ahead @ z) * z)
    y = np.cross(z, x)
    half = 0.5 * float(np.linalg.norm(plate.right - plate.left))
    wall = float((plate.posterior - body.centre) @ x)
    heights: dict[str, float] = {}
    areas: dict[str, float] = {}

    def lateral(points: FloatArray, sign: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        q = points - body.centre
        return sign * (q @ z), q @ x, q @ y

    others = [n for n in ("sacrum", "hip_left", "hip_right") if n in bones]
    contacts = [
        c for c in (find_contact(l5, bones[n], CONTACT_MM) for n in others) if c is not None
    ]
    for side, sign in (("left", -1.0), ("right", 1.0)):
        out, front, high = lateral(l5.vertices, sign)
        level = half + PROCESS_FROM_MM
        # Edges that cross the sagittal plane at that level, so that coarse triangles do as well.
        f = l5.faces
        i = np.concatenate([f[:, 0], f[:, 1], f[:, 2]])
        j = np.concatenate([f[:, 1], f[:, 2], f[:, 0]])
        cross = (out[i] < level) != (out[j] < level)
        cross &= (front[i] > wall - PROCESS_BEHIND_MM) & (front[j] > wall - PROCESS_BEHIND_MM)
        if not cross.any():
            continue
        i, j = i[cross], j[cross]
        share = (level - out[i]) / (out[j] - out[i])
        at = high[i] + share * (high[j] - high[i])
        heights[side] = float(np.ptp(at))
        area = 0.0
        for contact in contacts:
            aside, ahead, _ = lateral(contact.patch, sign)
            process = (aside > half) & (ahead > wall - PROCESS_BEHIND_MM)
            area += float(contact.areas[process].sum())
        areas[side] = area
    return heights, areas


def _cleft(view: Unrolled | None, foramina: Foramina | None) -> float | None:
    """Depth (mm) of the deepest groove across the midline between promontory and S1 foramen."""
    if view is None or foramina is None:
        return None
    first = [o.down_mm for n, o in foramina.openings.items() if n.startswith("S1AF")]
    if not first:
        return None
    height = ventral_profile(view)
    low, high = CLEFT_SHARE
    reach = float(np.mean(first))
    step = float(view.length[1] - view.length[0])
    width = round(CLEFT_REACH_MM / step)
    deepest = 0.0
    for k in np.flatnonzero((view.length >= low * reach) & (view.length <= high * reach)):
        before, behind = height[max(0, k - width) : k + 1], height[k : k + width + 1]
        if np.isfinite(before).all() and np.isfinite(behind).all():
            # The profile counts backwards: a groove lies further back than both of its rims.
            deepest = max(deepest, float(height[k] - max(before.min(), behind.min())))
    return deepest
