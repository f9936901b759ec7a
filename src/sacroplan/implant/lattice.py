"""What fills a porous layer: a record that the print room turns into geometry."""

from __future__ import annotations

from dataclasses import dataclass

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.lattice import properties
from sacroplan.lattice.cells import CELLS, cell_of, level_of

TYPES = tuple(CELLS)
"""Cells that can be defined; see :data:`sacroplan.lattice.cells.CELLS`."""


@dataclass(frozen=True, slots=True)
class LatticeDefinition:
    """One porous layer's lattice.

    Attributes
    ----------
    cell_type : one of :data:`TYPES`. cell_mm : edge of the cubic unit cell along the seat.
    level : the cell's field lies below it in the solid (:mod:`sacroplan.lattice.cells`), at the bone.
    porosity : void share in [0, 1] at the bone. core_porosity : at the core, where the layer is graded
        linearly between the two; None for an even one.
    pore_um : throat at the bone, the largest sphere that passes through the pores.
    strut_um : where it is thinnest, the largest sphere that passes through the solid; for a sheet the
        way through that 5 % of its surface fall short of. Both measured on the cell
        (:mod:`sacroplan.lattice.sizes`).
    thickness_mm : of the layer. rows : evidence behind the numbers.
    """

    cell_type: str
    cell_mm: float
    level: float
    porosity: float
    pore_um: float
    strut_um: float
    thickness_mm: float
    core_porosity: float | None = None
    rows: tuple[str, ...] = ("POR-1", "POR-3", "POR-4", "SP-IMP-09")

    @property
    def ends(self) -> tuple[float, float]:
        """Relative density at the bone and at the core."""
        core = self.porosity if self.core_porosity is None else self.core_porosity
        return 1.0 - self.porosity, 1.0 - core

    @property
    def density(self) -> float:
        """Relative density, 0 to 1, mean over the thickness."""
        return 0.5 * sum(self.ends)

    @property
    def cells_through(self) -> float:
        """Unit cells through the layer's thickness."""
        return self.thickness_mm / self.cell_mm


def define(
    cell_mm: float,
    porosity: float,
    thickness_mm: float,
    cell_type: str = "gyroid_network",
    printer_strut_mm: float | None = None,
    core_porosity: float | None = None,
) -> LatticeDefinition:
    """A lattice of given cell (mm) and porosity (0 to 1), with its pore and strut measured.

    ``printer_strut_mm`` is the thinnest strut or wall of the user's own machine; ``core_porosity`` the
    porosity at the core of a graded layer.

    Raises
    ------
    PlanError : an unknown cell, a porosity at which it does not hang together, or struts thinner than
        any that was ever printed (AM-02-THIN) or than ``printer_strut_mm``.
    """
    cell = cell_of(cell_type)
    if not cell_mm > 0.0:
        raise PlanError(f"A cell of {cell_mm:g} mm was asked; its edge must be above 0.")
    level = level_of(cell_type, 1.0 - porosity)
    sizes = properties.sizes(cell_type, 1.0 - porosity).scaled(1000.0 * cell_mm)
    strut, thin, there = sizes.strut(cell.kind), porosity, sizes
    if core_porosity is not None:
        level_of(cell_type, 1.0 - core_porosity)
        core = properties.sizes(cell_type, 1.0 - core_porosity).scaled(1000.0 * cell_mm)
        if core.strut(cell.kind) < strut:
            strut, thin, there = core.strut(cell.kind), core_porosity, core
    printed = evidence.value("AM-02-THIN", "wall")
    least, why = max(
        (printed, "the thinnest wall that laser melting has printed [AM-02-THIN]"),
        (printer_strut_mm or 0.0, "the printer's minimum [implant.printer_minimum_mm]"),
    )
    if strut < 1000.0 * least:
        raise PlanError(_too_thin(cell_type, strut, there.throat, thin, least, why))
    return LatticeDefinition(
        cell_type, cell_mm, level, porosity, sizes.throat, strut, thickness_mm, core_porosity
    )


def _too_thin(
    cell_type: str, strut_um: float, throat_um: float, porosity: float, least_mm: float, why: str
) -> str:
    """Why a lattice is refused, with the skeletal gyroid of the same pore and porosity beside it."""
    cell = cell_of(cell_type)
    what = "walls" if cell.kind == "sheet" else "struts"
    text = (
        f"At {throat_um:.0f} um pores and {100 * (1 - porosity):.0f} % density the {cell.title} has {what} "
        f"of {strut_um / 1000:.2f} mm, below {least_mm:g} mm, {why}; take a larger cell or less porosity"
    )
    if cell_type != "gyroid_network":
        other = properties.sizes("gyroid_network", 1.0 - porosity)
        same = other.bar / other.throat * throat_um / 1000.0
        text += (
            f", or a skeletal gyroid, whose struts are {same:.2f} mm at the same pores and density"
        )
    return text + "."
