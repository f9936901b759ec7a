"""Which guide an osteotomy needs: bone, side of approach, where the surgeon sees the cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.guides.request import GuideInput, GuideParameters
from sacroplan.resection.cuts import Cut, Facet
from sacroplan.resection.plan import ResectionPlan
from sacroplan.resection.site import Site

SAGITTAL = 0.6
"""A cut whose normal leans to the side by more than this cosine is seen as running cranially."""

NEAR_MM = 40.0
"""Bones nearer than this to a cut are kept off."""


def facet_name(cut: Cut, number: int) -> str:
    """``sacral``, or ``sacral_2`` for the second facet of a chain."""
    return cut.name if len(cut.facets) == 1 else f"{cut.name}_{number + 1}"


def parameters_for(name: str, base: GuideParameters) -> GuideParameters:
    """Dimensions for the site: away from the ilium no notch is to be kept off."""
    from dataclasses import replace

    return base if name.startswith("iliac_") else replace(base, notch_mm=2.0)


def guide_input(
    site: Site,
    plan: ResectionPlan,
    cut: Cut,
    number: int,
    case_id: str,
    version: str,
    screws: Sequence[Surface] = (),
) -> GuideInput:
    """The request for the guide of one facet of an osteotomy."""
    facet = cut.facets[number]
    axes = site.pelvis
    side = plan.choice.side or "left"
    if cut.name in ("iliac_left", "iliac_right") and cut.profile is None:
        side = "left" if cut.name.endswith("left") else "right"
        return GuideInput(
            side, site.bone(cut.bone), cut.plane, cut.kerf_mm, axes,
            site.point(f"PSIS_{side[0].upper()}"), case_id,
            tuple(site.bones[b] for b in ("sacrum", "L5") if b in site.bones), version,
            site.points.get(f"GSN_{side[0].upper()}"), screws=tuple(screws),
        )  # fmt: skip
    if cut.bone.startswith("hip_"):
        side = "left" if cut.bone.endswith("left") else "right"
    back = _back(site, cut)
    return GuideInput(
        side, site.bone(cut.bone), facet.plane, cut.kerf_mm, axes, _seen(facet, back), case_id,
        _neighbours(site, cut), version, None, facet_name(cut, number), facet.outline,
        _along(site, facet), back, True, tuple(screws),
    )  # fmt: skip


def _back(site: Site, cut: Cut) -> FloatArray:
    """Where the surgeon stands: behind the sacrum and L5, before the pubis."""
    if cut.profile is not None:
        return cut.profile.saw
    ahead = site.pelvis.axes[:, 0]
    if cut.bone == "sacrum":
        centre = cut.outline.centroid
        levels = site.levels
        level = float(np.argmin(np.linalg.norm(levels - centre, axis=1)))
        return site.dorsal(level)
    return ahead if cut.name.startswith("pubis") else -ahead


def _along(site: Site, facet: Facet) -> FloatArray:
    right = site.pelvis.axes[:, 2]
    sagittal = abs(float(facet.plane.normal @ right)) > SAGITTAL
    return site.pelvis.axes[:, 1] if sagittal else -right


def _seen(facet: Facet, back: FloatArray) -> FloatArray:
    """(3,) the bone's surface over the middle of the cut, towards the surgeon."""
    points = np.concatenate([facet.outline.to_world(p) for p in facet.outline.loops])
    along = points @ np.cross(facet.plane.normal, back)
    middle = 0.5 * (along.min() + along.max())
    # What lies over the middle half of the cut: behind the canal a section has a loop of its own.
    near = np.abs(along - middle) <= 0.25 * float(np.ptp(along)) + 0.5
    return np.asarray(points[near][int(np.argmax(points[near] @ back))])


def _neighbours(site: Site, cut: Cut) -> tuple[Surface, ...]:
    centre = cut.outline.centroid
    out = []
    for name, surface in sorted(site.bones.items()):
        if name == cut.bone:
            continue
        gap = float(np.linalg.norm(surface.vertices - centre, axis=1).min())
        if gap < NEAR_MM + 20.0:
            out.append(surface)
    return tuple(out)
