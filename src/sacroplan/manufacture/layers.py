"""A filled porous layer: is it what was asked for, can it be printed, and in which form is it written?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, GeometryError, PlanError
from sacroplan.geometry.frames import FloatArray
from sacroplan.lattice import _march_kernels as kernels
from sacroplan.lattice import properties
from sacroplan.lattice.cells import cell_of
from sacroplan.lattice.layer import COARSE_MM, PorousLayer, Solid
from sacroplan.lattice.marching import Block
from sacroplan.lattice.sizes import Sizes, sizes_in_window
from sacroplan.metrics import Metric, Metrics

Form = Literal["triangles", "beams", "slices"]

WINDOW_POINTS = 24
"""Points along a cell's edge for measuring sizes on the finished surface."""

WINDOW_CELLS = 2
"""Cells along the window's sides."""

STEEPEST = 0.15
"""Slope of the seat against the layer's axis up to which a box holds whole cells, 9 degrees."""

MARGIN_MM = 1.0
"""Surface beyond the window that its spheres can touch: more than the radius of any pore."""

DENSITY_TOLERANCE = 0.01
"""Difference between wanted and measured density that is reported."""


@dataclass(frozen=True, eq=False)
class LayerCheck:
    """A layer as it was generated.

    Attributes
    ----------
    name, cell : of the layer. form : how it is written. triangles : of its surface; when written as beams
        or slices, those that were spared.
    closed : every edge of the surface met by exactly one other. volume_mm3, area_mm2 : of the solid.
    wanted : relative density asked for. measured : in the middle of the layer, rim and bond left out; None
        where the layer has no such middle.
    predicted : sizes (mm) of the cell, of a graded layer where it is thinnest.
    found : sizes on the finished surface; None like ``measured``.
    loose, closed_pores : pieces left out and pores filled, with their volumes (mm3).
    """

    name: str
    cell: str
    form: Form
    triangles: int
    closed: bool
    volume_mm3: float
    area_mm2: float
    wanted: float
    measured: float | None
    predicted: Sizes
    found: Sizes | None
    loose: int
    loose_mm3: float
    closed_pores: int
    closed_mm3: float
    doubts: tuple[Doubt, ...] = ()

    @property
    def strut_mm(self) -> float:
        """Strut or wall on the finished surface, or the cell's where it could not be measured."""
        return (self.found or self.predicted).strut(cell_of(self.cell).kind)

    @property
    def predicted_strut(self) -> float:
        """Strut or wall of the cell, mm."""
        return self.predicted.strut(cell_of(self.cell).kind)

    def metrics(self) -> Metrics:
        """Figures under ``print.lattice_<name>.*``."""
        found = self.found
        out: Metrics = {
            "form": Metric(self.form, "text", "how the layer is written", ("SP-LAT-03",)),
            "triangles": Metric(self.triangles, "count", "triangles of the lattice", ("SP-LAT-01",)),
            "closed": Metric(self.closed, "1", "watertight"),
            "mass": Metric(
                self.volume_mm3 / 1000.0 * evidence.value("SP-IMP-01", "density"), "g",
                "mass with rim and bond", ("SP-IMP-01",),
            ),
            "area": Metric(self.area_mm2 / 100.0, "cm2", "surface"),
            "density.wanted": Metric(self.wanted, "1", "relative density asked for"),
            "density.measured": Metric(
                self.measured, "1", "relative density of the generated lattice", (),
                self.wanted - DENSITY_TOLERANCE, self.wanted + DENSITY_TOLERANCE,
            ),
            "throat.predicted": Metric(1e3 * self.predicted.throat, "um", "throat of the cell"),
            "throat.measured": Metric(
                None if found is None else 1e3 * found.throat, "um", "throat on the generated lattice",
                ("AM-05", "POR-3"), evidence.value("AM-05", "lattice_pore"),
            ),
            "pore.measured": Metric(
                None if found is None else 1e3 * found.pore, "um", "largest sphere in the pores"
            ),
            "strut.predicted": Metric(
                1e3 * self.predicted_strut, "um", "strut or wall of the cell"
            ),
            "strut.measured": Metric(
                None if found is None else 1e3 * self.strut_mm, "um",
                "strut or wall on the generated lattice", ("AM-03", "AM-02-THIN"),
                1e3 * evidence.span("AM-03", "strut")[0],
            ),
            "loose": Metric(self.loose, "count", "loose pieces left out"),
            "closed_pores": Metric(self.closed_pores, "count", "pores without a way out, filled", ("AM-05",)),
        }  # fmt: skip
        return {f"print.lattice_{self.name}.{key}": metric for key, metric in out.items()}


def form_of(cell: str, triangles: int, budget: int | None = None) -> Form:
    """How a layer is written: triangles up to the budget (SP-LAT-03), else beams for struts, else slices."""
    most = int(evidence.value("SP-LAT-03", "triangles")) if budget is None else budget
    if triangles <= most:
        return "triangles"
    return "beams" if cell_of(cell).kind == "strut" else "slices"


@dataclass
class _Sums:
    """What is added up while blocks pass by."""

    count: int = 0
    volume: float = 0.0
    area: float = 0.0


def check_layer(
    name: str,
    solid: Solid,
    form: Form,
    blocks: Iterable[Block] | None = None,
    printer_mm: float | None = None,
) -> LayerCheck:
    """Check a layer while its surface passes by, block by block: it is never whole in memory.

    Raises :class:`PlanError` where struts come out thinner than any that was ever printed, or than the
    user's own printer makes, ``printer_mm``.
    """
    layer = solid.layer
    frame = layer.geometry.direction
    window = _window(layer)
    sums, ledger = _Sums(), np.zeros(1, dtype=np.uint64)
    near: list[FloatArray] = []
    centre, cut = layer.anchor, 1.01 * float(solid.grid.spacing_mm.max())
    before, base = np.zeros((0, 3)), 0
    for block in solid.blocks() if blocks is None else blocks:
        known = np.concatenate([before, block.vertices])
        faces = block.faces - base
        volume, area = kernels.volume_and_area(known, faces, centre)
        sums.count += len(faces)
        sums.volume += volume / 6.0
        sums.area += 0.5 * area
        kernels.edge_ledger(block.faces, ledger)
        if window is not None:
            near.append(_near(known, faces, window, frame, cut))
        before, base = block.vertices, block.first
    if not sums.count:
        raise GeometryError(f"The lattice of {name} has no surface.")
    found, measured = None, None
    if window is not None:
        found, measured = sizes_in_window(
            np.concatenate(near), *window, layer.cell_mm / WINDOW_POINTS
        )
    thinnest = layer.density
    if layer.graded is not None:
        thinnest = float(layer.graded[layer.clip < 0.0].min())
    check = LayerCheck(
        name, layer.cell, form, sums.count, bool(ledger[0] == 0), sums.volume, sums.area,
        layer.density, measured,
        properties.sizes(layer.cell, thinnest).scaled(layer.cell_mm), found,
        solid.loose, solid.loose_mm3, solid.closed, solid.closed_mm3,
    )  # fmt: skip
    least, why = max(
        (evidence.value("AM-02-THIN", "wall"), "the thinnest that laser melting has printed [AM-02-THIN]"),
        (printer_mm or 0.0, "the printer's minimum [implant.printer_minimum_mm]"),
    )  # fmt: skip
    if check.strut_mm < least:
        raise PlanError(
            f"The lattice of {name} came out with struts of {check.strut_mm:.2f} mm, below {least:g} mm, "
            f"{why}; take a larger cell or less porosity."
        )
    return replace(check, doubts=_doubts(check))


def _window(layer: PorousLayer) -> tuple[FloatArray, FloatArray] | None:
    """Box (low, high) in the layer's axes, whole cells wide, that lies inside the porous part.

    Its middle is the place furthest from rims and edges where the seat lies across the layer's axis; None
    where even there no :data:`WINDOW_CELLS` fit, or the layer is graded, so that a box says nothing.
    """
    from scipy.ndimage import distance_transform_cdt

    if layer.graded is not None:
        return None
    depth, half = layer.depth, 0.5 * layer.thickness_mm
    inside = (layer.own < 0.0) & (layer.rim > 0.0)
    # In every column across the layer the grid point nearest to half its depth.
    off = np.where(inside, np.abs(depth - half), np.inf)
    k = np.argmin(off, axis=2)
    column = np.take_along_axis(off, k[..., None], axis=2)[..., 0]
    found = np.take_along_axis(depth, k[..., None], axis=2)[..., 0]
    porous = column < COARSE_MM
    height = k * COARSE_MM + np.where(porous, found - half, 0.0)
    slope = np.hypot(*np.gradient(height, COARSE_MM))
    level = porous & (slope < STEEPEST)
    if not level.any():
        return None
    room = distance_transform_cdt(np.pad(level, 1), "chessboard")[1:-1, 1:-1] * COARSE_MM
    # Equal rooms: the first in the grid's order, so that the same layer gives the same window.
    i, j = np.unravel_index(int(np.argmax(room)), room.shape)
    reach = 0.5 * WINDOW_CELLS * layer.cell_mm
    if room[i, j] < reach + COARSE_MM:
        return None
    g = layer.geometry
    u, v, n = g.to_world(np.array([i, j, 0.0])) @ g.direction
    top = n + float(height[i, j]) + half
    low = np.array([u - reach, v - reach, top - layer.thickness_mm])
    return low, np.array([u + reach, v + reach, top])


def _near(
    vertices: FloatArray,
    faces: npt.NDArray[np.int64],
    window: tuple[FloatArray, FloatArray],
    axes: FloatArray,
    cut_mm: float,
) -> FloatArray:
    """Triangles (k, 3, 3) about the window, in the layer's axes.

    Those within ``cut_mm`` of the seat are left out: they close the struts that the seat cuts off, and a
    sphere between two cut struts does not end there.
    """
    local = vertices @ axes
    ok = ((local > window[0] - MARGIN_MM) & (local < window[1] + MARGIN_MM)).all(axis=1)
    ok &= local[:, 2] < window[1][2] - cut_mm
    return np.asarray(local[faces[ok[faces].all(axis=1)]])


def _doubts(check: LayerCheck) -> tuple[Doubt, ...]:
    out: list[Doubt] = []

    def say(code: str, message: str, *rows: str) -> None:
        out.append(
            Doubt("print", f"print.lattice.{code}", f"lattice {check.name}: {message}", rows)
        )

    if not check.closed:
        say("open", "its surface is not watertight.")
    if check.measured is not None and abs(check.measured - check.wanted) > DENSITY_TOLERANCE:
        say("density", f"its density is {check.measured:.3f}, {check.wanted:.3f} was asked for.")
    thin = evidence.span("AM-03", "strut")[0]
    if check.strut_mm < thin:
        say(
            "strut",
            f"its struts of {1e3 * check.strut_mm:.0f} um are thinner than {1e3 * thin:.0f} um.",
            "AM-03",
        )
    pore = evidence.value("AM-05", "lattice_pore")
    throat = 1e3 * (check.found or check.predicted).throat
    if throat < pore:
        say(
            "powder",
            f"its throats of {throat:.0f} um are narrower than {pore:.0f} um; powder may stay.",
            "AM-05",
        )
    if check.form != "triangles":
        say(
            "form",
            f"{check.triangles / 1e6:.1f} million triangles are above the budget of "
            f"{evidence.value('SP-LAT-03', 'triangles') / 1e6:g} million; it is written as {check.form}.",
            "SP-LAT-03",
        )
    return tuple(out)
