"""Slices of one series, proven to be one stack: where each lies, which are missing or doubled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import ImagingError
from sacroplan.formats.dicom_headers import Slice
from sacroplan.geometry.frames import FloatArray

MIN_SLICES = 3
"""Fewer slices do not show whether their spacing is uniform."""

ORIENTATION_TOLERANCE = 1e-4
"""Slices whose axes differ less are parallel: 0.03 mm, 250 mm from the centre. Scanners repeat
the same text in every slice of a series."""

POSITION_TOLERANCE_MM = 0.01
"""Two slices nearer than this lie at the same place."""

STRAIGHT_MM = 0.007
"""A stack whose slices lie nowhere farther than this from a straight and from a uniform one is taken
as it is: no point is then off by more than 0.01 mm. Header rounding to 0.01 mm stays below."""

EXACT_MM = 1e-6
"""Arithmetic, not the scanner, is to blame for less."""

TILT_TOLERANCE_DEG = 0.1
"""Header tilts of one series that differ by less are the same."""

MAX_TILT_DEG = 35.0
"""No gantry tilts farther than 30 degrees; more is a stack of damaged positions."""

ROUNDED_MM = 0.1
"""Gaps that differ by no more than this may be one spacing rounded to tenths."""

MISSING_GAP = 1.5
"""A gap this many times the usual one hides at least one slice."""


@dataclass(frozen=True)
class Stack:
    """A stack of parallel slices, sorted along its normal.

    Attributes
    ----------
    slices : in order.
    spacing_mm : (3,) along columns (x of the slice), rows (y) and between slices (best fit).
    direction : (3, 3) orthonormal: columns x and y of the slice, and the normal.
    offsets_mm : (n, 3) where the corner of each slice lies from that of the first, in ``direction``.
    base_mm : (3,) where the best straight uniform stack begins, from the corner of the first slice.
    repeats : indices into ``slices`` with slices that lie at the same place.
    """

    slices: tuple[Slice, ...]
    spacing_mm: FloatArray
    direction: FloatArray
    offsets_mm: FloatArray
    base_mm: FloatArray
    repeats: tuple[tuple[int, Slice], ...] = ()

    @property
    def tilt_deg(self) -> float:
        """Angle between the stacking direction and the normal."""
        last = self.offsets_mm[-1]
        return float(np.degrees(np.arctan2(np.linalg.norm(last[:2]), last[2])))

    @property
    def slides(self) -> bool:
        """Whether slices lie beside one common normal."""
        beside = self.offsets_mm[:, :2] - self.base_mm[:2]
        return bool(np.linalg.norm(beside, axis=1).max() > STRAIGHT_MM)

    @property
    def uneven(self) -> bool:
        """Whether slices lie off a uniform spacing."""
        even = self.base_mm[2] + self.spacing_mm[2] * np.arange(len(self.slices))
        return bool(np.abs(self.offsets_mm[:, 2] - even).max() > STRAIGHT_MM)

    @property
    def spacing_cv(self) -> float:
        """Coefficient of variation of the gaps, 1 is 100 %."""
        gaps = np.diff(self.offsets_mm[:, 2])
        return float(gaps.std() / gaps.mean())


def stack(group: Sequence[Slice]) -> Stack:
    """Sort slices along their normal and prove that they form one stack (CT-06).

    Raises
    ------
    ImagingError : too few slices, the tilt varies, slices are missing, spacing too uneven to
        resample; the message names how many, where, and what was expected.
    """
    axes = _axes(group)
    normal = axes[:, 2]
    positions = np.array([s.position for s in group])
    along = positions @ normal
    order = np.lexsort((np.arange(len(group)), along))
    kept = [int(order[0])]
    repeats: list[tuple[int, Slice]] = []
    for n in order[1:]:
        if np.linalg.norm(positions[n] - positions[kept[-1]]) < POSITION_TOLERANCE_MM:
            repeats.append((len(kept) - 1, group[int(n)]))
        else:
            kept.append(int(n))
    if len(kept) < MIN_SLICES:
        raise ImagingError(
            f"only {len(kept)} different slice positions, at least {MIN_SLICES} are needed."
        )
    slices = tuple(group[n] for n in kept)
    offsets = (positions[kept] - positions[kept[0]]) @ axes
    _check_gaps(slices, offsets[:, 2])
    _check_straight(slices, offsets)
    between_rows, between_columns = slices[0].spacing
    step, start = _line(offsets[:, 2])
    spacing = np.array([between_columns, between_rows, step])
    base = np.array([*offsets[:, :2].mean(axis=0), start])
    base[np.abs(base) < EXACT_MM] = 0.0
    return Stack(slices, spacing, axes, offsets, base, tuple(repeats))


def _line(along: FloatArray) -> tuple[float, float]:
    """Step and start of the uniform positions nearest to ``along``."""
    index = np.arange(len(along))
    step = float(along[-1]) / (len(along) - 1)
    if np.abs(along - step * index).max() < EXACT_MM:
        return step, 0.0
    # Positions are rounded in the header: the line through all of them is nearer to the truth than
    # that through the first and the last.
    slope, start = np.polyfit(index, along, 1)
    return float(slope), float(start)


def _axes(group: Sequence[Slice]) -> FloatArray:
    """(3, 3) the common axes of parallel slices."""
    orientation = np.array([s.orientation for s in group])
    apart = np.abs(orientation - orientation[0]).max(axis=0).max()
    if apart > ORIENTATION_TOLERANCE:
        normals = np.array([s.normal for s in group])
        angle = np.degrees(np.arccos(np.clip(normals @ normals[0], -1, 1))).max()
        raise ImagingError(
            f"the slices are not parallel, their tilt varies by up to {angle:.1f} "
            "degrees; a planning CT needs one fixed gantry angle (CT-06)."
        )
    tilts = [s.tilt_deg for s in group]
    if max(tilts) - min(tilts) > TILT_TOLERANCE_DEG:
        raise ImagingError(
            f"the gantry tilt varies from {min(tilts):g} to {max(tilts):g} degrees; "
            "a planning CT needs one fixed gantry angle (CT-06)."
        )
    mean = orientation.mean(axis=0)
    # The nearest right-angled pair treats both axes alike.
    u, _, vt = np.linalg.svd(np.column_stack([mean[:3], mean[3:]]), full_matrices=False)
    x, y = (u @ vt).T
    return np.column_stack([x, y, np.cross(x, y)])


def _places(slices: Sequence[Slice], most: int = 5) -> str:
    axis = slices[0].axis
    at = ", ".join(f"{s.position[axis]:.1f}" for s in slices[:most])
    return f"{'xyz'[axis]} = {at}{' ...' if len(slices) > most else ''} mm"


def _check_gaps(slices: Sequence[Slice], along: FloatArray) -> None:
    """Refuse missing slices by place, and spacing so uneven that resampling would invent."""
    gaps = np.diff(along)
    typical = float(np.median(gaps))
    holes = np.flatnonzero(gaps > MISSING_GAP * typical)
    others = np.delete(gaps, holes)
    allowed = max(evidence.value("SP-IMG-06", "gap") / 100.0 * typical, ROUNDED_MM * 1.001)
    even = not len(others) or float(np.abs(others - typical).max()) <= allowed
    if len(holes) and even:
        missing = int((np.round(gaps[holes] / typical) - 1).sum())
        raise ImagingError(
            f"about {missing} slice{'s are' if missing > 1 else ' is'} missing, above "
            f"{_places([slices[int(h)] for h in holes])} (gaps up to {gaps.max():.2f} mm where "
            f"{typical:.2f} mm is usual); export the complete series again (CT-06)."
        )
    if not even:
        cv = float(gaps.std() / gaps.mean())
        limit = evidence.value("CT-06", "spacing_cv")
        worst = int(np.argmax(np.abs(gaps - typical)))
        raise ImagingError(
            f"the slice spacing is uneven, {gaps.min():.2f} to {gaps.max():.2f} mm "
            f"(variation {100 * cv:.1f} %, allowed {limit:.0f} %; worst above "
            f"{_places([slices[worst]])}); one series of uniform spacing is needed (CT-06)."
        )


def _check_straight(slices: Sequence[Slice], offsets: FloatArray) -> None:
    sideways = np.diff(offsets[:, :2], axis=0)
    typical = float(np.median(np.diff(offsets[:, 2])))
    straight = offsets[:, 2:] * (offsets[-1, :2] / offsets[-1, 2])
    off = np.abs(offsets[:, :2] - straight)
    if off.max() > max(0.05 * typical, POSITION_TOLERANCE_MM):
        worst = slices[int(np.argmax(off.max(axis=1)))]
        raise ImagingError(
            f"the slices are not stacked straight, they slide sideways by "
            f"{sideways.min():.2f} to {sideways.max():.2f} mm from one to the next, worst at "
            f"{worst.place} mm (CT-06)."
        )
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(offsets[-1, :2]), offsets[-1, 2])))
    if tilt > MAX_TILT_DEG:
        raise ImagingError(
            f"the slices are stacked {tilt:.0f} degrees off their normal, no gantry "
            f"tilts beyond {MAX_TILT_DEG:.0f}: their positions or orientation are wrong (CT-06)."
        )
