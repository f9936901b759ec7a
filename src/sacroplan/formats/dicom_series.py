"""Which series to plan on, and why: every candidate with the reason for or against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.errors import ImagingError
from sacroplan.formats import dicom_words as words
from sacroplan.formats.dicom_headers import Slice
from sacroplan.formats.dicom_stack import MIN_SLICES, Stack, stack

MAIN_EXTENT = 0.6
"""A series that covers less than this share of the longest one is a part of it, a localizer or a
detail: it is not planned on by itself."""


@dataclass(frozen=True)
class Candidate:
    """One series that could be planned on.

    Attributes
    ----------
    slices : its slices.
    stack : how they lie, None where they form no stack.
    problem : why they form none, as a sentence.
    chosen : whether this one is taken.
    reason : in words, why it is taken or not.
    """

    slices: tuple[Slice, ...]
    stack: Stack | None
    problem: str
    chosen: bool = False
    reason: str = ""

    @property
    def name(self) -> str:
        """Number, description, kernel and count, for sentences."""
        s = self.slices[0]
        parts = [f"series {s.series_number or '?'}"]
        if s.description:
            parts.append(f"{s.description!r}")
        if s.kernel:
            parts.append(f"kernel {s.kernel}")
        return f"{', '.join(parts)}, {len(self.slices)} slices"

    @property
    def extent_mm(self) -> float:
        """Length covered along the normal of the first slice, slice centre to slice centre."""
        along = np.array([s.position for s in self.slices]) @ self.slices[0].normal
        return float(np.ptp(along))

    @property
    def effective_mm(self) -> float:
        """The larger of thickness and spacing of the slices: what the surface sees."""
        thickness = self.slices[0].thickness_mm or 0.0
        spacing = (
            float(self.stack.spacing_mm[2])
            if self.stack is not None
            else self.extent_mm / max(len(self.slices) - 1, 1)
        )
        return max(thickness, spacing)

    @property
    def derived(self) -> bool:
        """Whether the slices were reformatted or projected from others."""
        kinds = set(self.slices[0].image_type)
        return bool(kinds & {"SECONDARY", "REFORMATTED", "MPR", "MIP", "MINIP", "MAX_IP", "MIN_IP",
                             "AVERAGE"})  # fmt: skip

    def row(self) -> dict[str, Any]:
        """What a person who has to choose wants to see; names nobody."""
        s = self.slices[0]
        return {
            "series": s.series_number,
            "uid": s.series_uid,
            "description": s.description,
            "slices": len(self.slices),
            "plane": ("sagittal", "coronal", "axial")[s.axis],
            "extent_mm": round(self.extent_mm, 2),
            "slice_mm": round(self.effective_mm, 3),
            "pixel_mm": round(max(s.spacing), 4),
            "kernel": s.kernel,
            "kernel_class": words.kernel_class(s.kernel),
            "contrast": s.contrast,
            "acquired": s.acquired,
            "chosen": self.chosen,
            "reason": self.reason,
            "problem": self.problem,
        }


def _groups(slices: Sequence[Slice]) -> list[tuple[Slice, ...]]:
    """Slices that can belong to one volume; phases that repeat the same positions are split."""
    groups: dict[tuple[Any, ...], list[Slice]] = {}
    for s in slices:
        pixel = (round(s.spacing[0], 5), round(s.spacing[1], 5))
        key = (s.series_key, s.rows, s.columns, pixel, s.kernel, s.axis)
        groups.setdefault(key, []).append(s)
    out: list[tuple[Slice, ...]] = []
    for members in groups.values():
        places = {tuple(np.round(s.position, 2)) for s in members}
        phases = sorted({s.acquisition for s in members})
        parts = [tuple(s for s in members if s.acquisition == p) for p in phases]
        # Some scanners count every turn as an acquisition: then the parts are no volumes.
        split = len(places) < len(members) and all(len(p) >= MIN_SLICES for p in parts)
        out.extend(parts if split else [tuple(members)])
    return out


def _candidate(group: tuple[Slice, ...]) -> Candidate:
    try:
        return Candidate(group, stack(group), "")
    except ImagingError as error:
        return Candidate(group, None, str(error))


@dataclass(frozen=True)
class _Criterion:
    rank: Callable[[Candidate], Any]
    praise: str
    blame: Callable[[Candidate], str]


def _criteria(longest_mm: float) -> list[_Criterion]:
    """What speaks for a series, the weightiest first."""
    thin, fine = evidence.value("CT-01", "slice_thickness"), evidence.value("CT-01", "in_plane")

    return [
        _Criterion(
            lambda c: not c.slices[0].is_axial, "axial", lambda c: f"{c.row()['plane']}, not axial"
        ),
        _Criterion(
            lambda c: c.extent_mm < MAIN_EXTENT * longest_mm,
            "long enough",
            lambda c: f"covers only {c.extent_mm:.0f} mm of {longest_mm:.0f} mm",
        ),
        _Criterion(lambda c: c.stack is None, "complete", lambda c: c.problem.rstrip(".")),
        _Criterion(
            lambda c: c.derived, "acquired, not reformatted", lambda c: "reformatted or projected"
        ),
        _Criterion(
            lambda c: max(round(c.effective_mm, 1), thin),
            "thinnest slices",
            lambda c: f"thicker slices of {c.effective_mm:.3g} mm",
        ),
        _Criterion(
            lambda c: max(round(max(c.slices[0].spacing), 1), fine),
            "finest pixels",
            lambda c: f"coarser pixels of {max(c.slices[0].spacing):.3g} mm",
        ),
        _Criterion(
            lambda c: words.kernel_class(c.slices[0].kernel) != "sharp",
            "sharp kernel, which shows edges best (CT-04)",
            lambda c: "softer or unknown kernel; density is better read from it (CT-04)",
        ),
        _Criterion(
            lambda c: c.slices[0].contrast not in ("", "NO"),
            "no contrast agent",
            lambda c: "contrast agent in it",
        ),
        _Criterion(lambda c: -len(c.slices), "most slices", lambda c: "fewer slices"),
        _Criterion(
            lambda c: (
                c.slices[0].thickness_mm or np.inf,
                int(c.slices[0].series_number or 0),
                c.slices[0].series_uid,
                c.slices[0].kernel,
                c.slices[0].acquisition,
                str(c.slices[0].path),
            ),
            "first in order",
            lambda c: "equally good, but later in order",
        ),
    ]


def choose(
    slices: Sequence[Slice],
    wanted: str | None,
    path: Path,
    aside: Sequence[str],
    modality: str,
    key: str | None = None,
) -> list[Candidate]:
    """All series, the one to plan on first and marked as chosen.

    Parameters
    ----------
    wanted : a series UID, number or description as listed; it overrules every criterion.
    key : the series of one given file.

    Raises
    ------
    ImagingError : no series, or no such series.
    """
    note = f" (found: {', '.join(aside)})" if aside else ""
    everyone = [_candidate(g) for g in _groups(slices)]
    if not everyone:
        raise ImagingError(f"{path} holds no {modality} slices{note}.")
    longest = max(c.extent_mm for c in everyone if c.slices[0].is_axial or not _any_axial(everyone))
    criteria = _criteria(longest)
    ranked = sorted(everyone, key=lambda c: tuple(k.rank(c) for k in criteria))
    pool = [c for c in ranked if _is_wanted(c, wanted, key)]
    if not pool:
        names = "; ".join(c.name for c in ranked)
        raise ImagingError(f"{path} holds no series {wanted!r}; there are: {names}.")
    best = pool[0]
    others = [c for c in ranked if c is not best]
    rivals = [c for c in pool[1:] if len(c.slices) >= MIN_SLICES]
    praise: list[str] = []
    out: list[Candidate] = []
    for c in others:
        lost = next((k for k in criteria if k.rank(c) > k.rank(best)), None)
        if wanted is not None or key is not None:
            reason = "not the one asked for" if c not in pool else ""
        else:
            reason = ""
        if not reason:
            reason = lost.blame(c) if lost is not None else "not the one asked for"
            if lost is not None and c in rivals and lost.praise not in praise:
                praise.append(lost.praise)
        out.append(Candidate(c.slices, c.stack, c.problem, False, reason))
    asked = wanted is not None or key is not None
    why = "asked for" if asked else "the only series with enough slices"
    if rivals and praise:
        order = [k.praise for k in criteria]
        told = ", ".join(sorted(praise, key=order.index))
        why = f"{'asked for; ' if asked else ''}{told}"
    return [Candidate(best.slices, best.stack, best.problem, True, why), *out]


def _any_axial(candidates: Sequence[Candidate]) -> bool:
    return any(c.slices[0].is_axial for c in candidates)


def _is_wanted(c: Candidate, wanted: str | None, key: str | None) -> bool:
    s = c.slices[0]
    if key is not None and s.series_key != key:
        return False
    if wanted is None:
        return True
    told = words.description(wanted)
    return wanted in (s.series_uid, s.series_number) or bool(told and told == s.description)
