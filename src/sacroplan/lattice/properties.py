"""Stiffness and sizes of a cell at any density, from a table that ships with the package.

``properties.toml`` is written by ``tools/lattice_table.py``: for each cell and density the cubic
stiffness per unit of the solid's modulus at two Poisson ratios, and the measured sizes per cell edge.
Between densities a monotone cubic in the logarithms is used, between Poisson ratios a straight line.

Stiffness matrices are in Voigt order xx yy zz yz xz xy with engineering shear, axes of the cell.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import exp, log
from typing import Any

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray, readonly
from sacroplan.lattice.cells import cell_of
from sacroplan.lattice.sizes import Sizes

TABLE = "properties.toml"


@dataclass(frozen=True, eq=False)
class EffectiveProperties:
    """What a cell is worth as a continuum, axes of the cell.

    Attributes
    ----------
    cell : name. density : relative, 0 to 1.
    stiffness_mpa : (6, 6) Voigt order xx yy zz yz xz xy, engineering shear.
    e_mpa : (3,) Young's moduli along x, y, z. g_mpa : (3,) shear moduli yz, xz, xy.
    nu : Poisson ratio for a pull along a cell axis. zener : 2 c44 / (c11 - c12), 1 when isotropic.
    """

    cell: str
    density: float
    stiffness_mpa: FloatArray
    e_mpa: FloatArray
    g_mpa: FloatArray
    nu: float
    zener: float

    def young_along(self, direction: Sequence[float]) -> float:
        """Young's modulus (MPa) along a direction (3,) in the cell's axes."""
        d = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
        x, y, z = d
        pull = np.array([x * x, y * y, z * z, y * z, x * z, x * y])
        # Engineering shear strains come from the compliance, stresses carry no factor two.
        compliance = np.linalg.inv(self.stiffness_mpa)
        return float(1.0 / (pull @ compliance @ pull))


@dataclass(frozen=True, eq=False)
class _Curve:
    """A monotone cubic through the logarithms of positive values over the logarithms of densities."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    slope: tuple[float, ...]

    @staticmethod
    def through(x: Sequence[float], y: Sequence[float]) -> _Curve:
        from scipy.interpolate import PchipInterpolator

        a, b = np.log(np.asarray(x)), np.log(np.asarray(y))
        slope = PchipInterpolator(a, b).derivative()(a)
        return _Curve(tuple(a.tolist()), tuple(b.tolist()), tuple(slope.tolist()))

    def at(self, log_density: float) -> float:
        """The value at the logarithm of a density. Plain numbers: an array would take ten times as long."""
        n = min(max(bisect_right(self.x, log_density) - 1, 0), len(self.x) - 2)
        h = self.x[n + 1] - self.x[n]
        t = (log_density - self.x[n]) / h
        a, b = self.y[n], self.y[n + 1]
        p, q = h * self.slope[n], h * self.slope[n + 1]
        return exp(
            (1.0 + 2.0 * t) * (1.0 - t) ** 2 * a
            + t * (1.0 - t) ** 2 * p
            + t * t * (3.0 - 2.0 * t) * b
            + t * t * (t - 1.0) * q
        )


_MODULI = ("bulk", "shear", "c44")
_SIZES = ("throat", "pore", "bar", "wall", "area")


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    text = (resources.files("sacroplan.lattice") / TABLE).read_text("utf-8")
    table = tomllib.loads(text)
    out: dict[str, Any] = {"poisson": tuple(table["poisson"]), "grid": int(table["grid"])}
    for name, entry in table["cells"].items():
        x = entry["density"]
        curves = {size: _Curve.through(x, entry[size]) for size in _SIZES}
        for n in range(len(table["poisson"])):
            c11, c12, c44 = (np.array(entry[f"{c}_{n}"]) for c in ("c11", "c12", "c44"))
            # Positive for every stable solid, so that their logarithms exist; c12 itself need not be.
            for key, row in zip(_MODULI, ((c11 + 2 * c12) / 3, (c11 - c12) / 2, c44), strict=True):
                curves[f"{key}_{n}"] = _Curve.through(x, row)
        out[name] = (x[0], x[-1], curves)
    return out


def _curves(cell: str, density: float) -> Mapping[str, _Curve]:
    c = cell_of(cell)
    low, high, curves = _table()[c.name]
    if not low - 1e-9 <= density <= high + 1e-9:
        raise PlanError(
            f"A relative density of {density:.3g} was asked of the {c.title}; its properties are tabulated "
            f"from {low:g} to {high:g}."
        )
    return curves  # type: ignore[no-any-return]


@lru_cache(maxsize=4096)
def effective(
    cell: str, density: float, solid_e_mpa: float, solid_nu: float
) -> EffectiveProperties:
    """Effective properties of ``cell`` at relative ``density``, made of an isotropic solid.

    A few microseconds. Raises :class:`PlanError` for an unknown cell, or a density or Poisson ratio
    beyond the table.
    """
    curves = _curves(cell, density)
    low, high = _table()["poisson"]
    if not low - 1e-9 <= solid_nu <= high + 1e-9 or not solid_e_mpa > 0.0:
        raise PlanError(
            f"A solid of {solid_e_mpa:g} MPa and Poisson ratio {solid_nu:g} was asked; the table holds "
            f"ratios from {low:g} to {high:g}, and the modulus must be above 0."
        )
    x, share = log(density), (solid_nu - low) / (high - low)
    bulk, shear, c44 = (
        solid_e_mpa * ((1.0 - share) * curves[f"{m}_0"].at(x) + share * curves[f"{m}_1"].at(x))
        for m in _MODULI
    )
    c11, c12 = bulk + 4.0 * shear / 3.0, bulk - 2.0 * shear / 3.0
    c = np.zeros((6, 6))
    c[:3, :3] = c12
    c[range(6), range(6)] = [c11, c11, c11, c44, c44, c44]
    young = 9.0 * bulk * shear / (3.0 * bulk + shear)
    nu = (3.0 * bulk - 2.0 * shear) / (6.0 * bulk + 2.0 * shear)
    young_all, shear_all = np.full(3, young), np.full(3, c44)
    for array in (c, young_all, shear_all):
        readonly(array)
    return EffectiveProperties(cell, density, c, young_all, shear_all, nu, c44 / shear)


def sizes(cell: str, density: float) -> Sizes:
    """Throat, pore, bar and wall of ``cell`` at ``density``, in cell edges (see :mod:`.sizes`)."""
    curves, x = _curves(cell, density), log(density)
    return Sizes(*(curves[name].at(x) for name in ("throat", "pore", "bar", "wall")))


def area(cell: str, density: float) -> float:
    """Surface of ``cell`` per volume, in 1 / cell edge."""
    return _curves(cell, density)["area"].at(log(density))
