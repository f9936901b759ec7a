"""Mechanics of a strut: section, buckling, end bearing, shear against the load line [HANDBOOK 9.4]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.slicing import CrossSection


@dataclass(frozen=True)
class SectionFigures:
    """Area (mm2) and principal second moments (mm4) of a plane section about its own centroid."""

    area_mm2: float
    i_min_mm4: float
    i_max_mm4: float

    def without_medulla(self, diameter_mm: float) -> SectionFigures:
        """The ring that is left when a round central cavity is taken out."""
        area = 0.25 * np.pi * diameter_mm**2
        moment = np.pi / 64.0 * diameter_mm**4
        if area >= self.area_mm2 or moment >= self.i_min_mm4:
            raise PlanError(
                f"A medullary cavity of {diameter_mm:g} mm does not fit into a section of "
                f"{self.area_mm2:.0f} mm2; measure the cavity on the CT."
            )
        return SectionFigures(
            self.area_mm2 - area, self.i_min_mm4 - moment, self.i_max_mm4 - moment
        )


def ring(outer_mm: float, inner_mm: float) -> SectionFigures:
    """A round tube of outer and inner diameter (mm)."""
    area = 0.25 * np.pi * (outer_mm**2 - inner_mm**2)
    moment = np.pi / 64.0 * (outer_mm**4 - inner_mm**4)
    return SectionFigures(float(area), float(moment), float(moment))


def figures_of(loops: Sequence[FloatArray]) -> SectionFigures:
    """Exact figures of polygons (n, 2), mm; holes run clockwise."""
    area, first, second = 0.0, np.zeros(2), np.zeros(3)
    for loop in loops:
        x, y = loop[:, 0], loop[:, 1]
        u, v = np.roll(x, -1), np.roll(y, -1)
        cross = x * v - u * y
        area += 0.5 * float(cross.sum())
        first += np.array([((x + u) * cross).sum(), ((y + v) * cross).sum()]) / 6.0
        second += np.array(
            [
                ((x * x + x * u + u * u) * cross).sum() / 12.0,
                ((y * y + y * v + v * v) * cross).sum() / 12.0,
                ((x * v + 2 * x * y + 2 * u * v + u * y) * cross).sum() / 24.0,
            ]
        )
    if area < 1e-9:
        raise PlanError("The section of the graft has no area; its cut misses the bone.")
    cx, cy = first / area
    xx, yy, xy = second - area * np.array([cx * cx, cy * cy, cx * cy])
    middle, half = 0.5 * (xx + yy), float(np.hypot(0.5 * (xx - yy), xy))
    return SectionFigures(area, float(middle - half), float(middle + half))


def nearest_loops(cross: CrossSection) -> CrossSection:
    """The outer loop whose middle is nearest to the section's origin, with the holes inside it."""
    from sacroplan.geometry.slicing import polygon_area

    outer = [p for p in cross.loops if polygon_area(p) > 0]
    if not outer:
        return CrossSection(cross.origin, cross.axes, (), cross.frame)
    best = min(outer, key=lambda p: float(np.linalg.norm(p.mean(axis=0))))
    low, high = best.min(axis=0), best.max(axis=0)
    holes = [
        p for p in cross.loops
        if polygon_area(p) < 0 and bool(np.all((p > low) & (p < high)))
    ]  # fmt: skip
    return CrossSection(cross.origin, cross.axes, (best, *holes), cross.frame)


def euler_n(modulus_mpa: float, i_min_mm4: float, length_mm: float, k: float = 1.0) -> float:
    """Critical load (N) of a strut: ``pi^2 E I / (K L)^2``; K = 1 pinned at both ends, 2 free at one."""
    if min(modulus_mpa, i_min_mm4, length_mm, k) <= 0:
        raise PlanError("Buckling needs a positive modulus, second moment, length and K.")
    return float(np.pi**2 * modulus_mpa * i_min_mm4 / (k * length_mm) ** 2)


def bearing_mpa(force_n: float, area_mm2: float) -> float:
    """Mean pressure (MPa) of a force on the end face that touches."""
    if area_mm2 <= 0:
        raise PlanError("The end of the graft touches nothing, so it bears no load.")
    return force_n / area_mm2


def shear_and_axial_n(force_n: float, angle_deg: float) -> tuple[float, float]:
    """Shear and axial part (N) of a load that meets the strut's axis at ``angle_deg``."""
    a = np.radians(angle_deg)
    return float(force_n * np.sin(a)), float(force_n * np.cos(a))
