"""Filled layers: density, gradients, rim, bond, loose pieces, curved seats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lattice_shapes import HERE, block, turn

from sacroplan.errors import GeometryError, PlanError
from sacroplan.geometry import booleans
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.primitives import cylinder, sphere
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.lattice.beams import beams
from sacroplan.lattice.cells import CELLS, level_table
from sacroplan.lattice.layer import (
    PorousLayer,
    Solid,
    fill,
    layer_axes,
    solidify,
    split_faces,
)
from sacroplan.lattice.slices import build_axes, sliced, slices

UP = [0.0, 0.0, 1.0]


def bare(cell: str = "gyroid_network", density: object = 0.3, thick: float = 3.0) -> PorousLayer:
    """Whole cells without rim or core."""
    body = block((0, 0, 0), (6, 5, thick))
    return fill(body, None, cell, 1.0, density, rim_mm=0.0, normal=UP)  # type: ignore[arg-type]


def inside_share(layer: PorousLayer, low: list[float], high: list[float], n: int = 40) -> float:
    """Share of solid points in a box, straight from the layer's exact field."""
    a, b = np.array(low), np.array(high)
    step = (b - a) / n
    grid = VolumeGeometry((n, n, n), step, HERE.origin + a + 0.5 * step)
    return float((layer.values(grid, 0, n, level_table(layer.cell)) < 0.0).mean())


@pytest.mark.parametrize("name", CELLS)
def test_the_generated_surface_has_the_wanted_density(name: str) -> None:
    # A sheet of 0.07 mm cells would need a finer grid: its walls are 0.15 mm.
    spacing = 0.05 if name == "gyroid_sheet" else 0.07
    s = solidify(bare(name), spacing).surface()
    assert s.is_closed
    # The body's edges are rounded on the grid of 0.3 mm, 1 % of this small body.
    assert s.volume_mm3 / 90.0 == pytest.approx(0.3, abs=0.01)
    x0, x1 = s.bounds
    assert x1 - x0 == pytest.approx([6.0, 5.0, 3.0], abs=0.08)


def test_whole_cells_between_seat_and_core() -> None:
    layer = fill(block((0, 0, 0), (6, 5, 2.3)), None, "gyroid_network", 1.0, 0.3, normal=UP)
    assert layer.thickness_mm == pytest.approx(2.3)
    assert layer.cell_depth_mm == pytest.approx(1.15)
    assert layer.cell_mm == 1.0


def test_a_graded_layer_follows_its_field() -> None:
    def field(points: np.ndarray) -> np.ndarray:
        return 0.2 + 0.03 * (points[:, 0] - HERE.origin[0]) + 0.04 * (points[:, 2] - HERE.origin[2])

    layer = fill(
        block((0, 0, 0), (8, 4, 3)), None, "gyroid_network", 1.0, field, rim_mm=0.0, normal=UP
    )
    for x in (1.0, 3.0, 5.0, 7.0):
        for z in (0.5, 1.5, 2.5):
            # One cell each: its share of solid is the mean of the field over it.
            got = inside_share(layer, [x - 0.5, 1.0, z - 0.5], [x + 0.5, 3.0, z + 0.5])
            assert got == pytest.approx(0.2 + 0.03 * x + 0.04 * z, abs=0.02)
    with pytest.raises(
        PlanError, match=r"density field runs from .* to .*graded between 0.1 and 0.6"
    ):
        fill(block((0, 0, 0), (8, 4, 3)), None, "gyroid_network", 1.0,
             lambda p: np.full(len(p), 0.7), normal=UP)  # fmt: skip


def plate() -> tuple[Surface, Surface]:
    """A layer with a bore on its core."""
    bore = cylinder([17.0, -14.0, 290.0], [17.0, -14.0, 310.0], 2.0, 64)
    layer = booleans.difference(block((0, 0, 0), (14, 12, 2)), bore)
    core = booleans.difference(block((0, 0, -6), (14, 12, 0)), bore)
    return layer, core


def test_seat_edges_and_bond_are_told_apart() -> None:
    layer, core = plate()
    seat, lateral = split_faces(layer, core, None)
    area = np.linalg.norm(layer.area_vectors, axis=1)
    top = 14.0 * 12.0 - np.pi * 4.0
    assert area[seat].sum() == pytest.approx(top, rel=1e-2)
    assert area[lateral].sum() == pytest.approx(2.0 * (52.0 + 4.0 * np.pi), rel=1e-2)


def test_rim_bond_and_core_are_one_body() -> None:
    body, core = plate()
    layer = fill(body, core, "gyroid_network", 1.0, 0.3, rim_mm=0.8, bond_mm=0.3)
    solid = solidify(layer, 0.08)
    s = solid.surface()
    assert s.is_closed
    # Rim: solid for 0.8 mm from edges and bore, less the rounding of the grid.
    assert inside_share(layer, [0.1, 2.0, 0.3], [0.7, 10.0, 1.7]) == 1.0
    ring = [7.0 + 2.1, 5.7, 0.3], [7.0 + 2.7, 6.3, 1.7]
    assert inside_share(layer, *ring) == 1.0
    assert inside_share(layer, [2.0, 2.0, 0.0], [4.0, 10.0, 2.0]) == pytest.approx(0.3, abs=0.03)
    # Bond: struts and rim enter the core by 0.3 mm and nothing else of it.
    shared = booleans.overlap_mm3(s, core)
    area = 14.0 * 12.0 - np.pi * 4.0
    assert 0.3 * area * 0.3 < shared < 0.6 * area * 0.3
    assert s.bounds[0][2] == pytest.approx(HERE.origin[2] - 0.3, abs=0.03)
    whole = booleans.union(core, s)
    assert len(booleans.bodies(whole)) == 1
    # The bore stays free, and so does everything beyond the outline.
    r = np.hypot(s.vertices[:, 0] - 17.0, s.vertices[:, 1] + 14.0)
    assert r.min() > 2.0 - 0.03
    # Vertices keep 2 % of a grid edge from its ends.
    assert s.bounds[1][2] <= HERE.origin[2] + 2.0 + 0.02 * 0.08 + 1e-6


def test_loose_pieces_are_left_out_and_counted() -> None:
    # Where the body's sides cut a cell, tips of struts hang on nothing.
    body, core = block((0, 0, 0), (5.3, 5.4, 0.9)), block((0, 0, -3), (5.3, 5.4, 0))
    layer = fill(body, core, "dodecahedron_strut", 1.2, 0.1, rim_mm=0.0)
    solid = solidify(layer, 0.08)
    assert solid.loose > 5
    assert 0.0 < solid.loose_mm3 < 0.01 * body.volume_mm3
    assert len(booleans.bodies(booleans.union(core, solid.surface()))) == 1
    # Without the search they are there.
    raw = Solid(layer, solid.grid, solid.levels, None, 0, 0, 0.0, 0, 0.0)
    pieces = booleans.bodies(booleans.union(core, raw.surface()))
    assert len(pieces) == 1 + solid.loose


def test_a_pore_without_a_way_out_is_filled() -> None:
    # A rim that is wider than the layer closes one pore of a coarse cell off.
    body = block((0, 0, 0), (6, 6, 4))
    layer = fill(body, None, "diamond_strut", 4.0, 0.2, rim_mm=0.0, normal=UP)
    rim = layer.rim.copy()
    deep = layer.own < -0.8
    rim[~deep] = -1.0
    solid = solidify(replace(layer, rim=rim), 0.1)
    assert solid.closed >= 1
    s = solid.surface()
    assert all(piece.volume_mm3 > 0 for piece in s.bodies())
    assert s.volume_mm3 == pytest.approx(body.volume_mm3, rel=0.02)


def test_a_curved_seat_keeps_density_and_follows_the_bone() -> None:
    # A shell of 2 mm under a ball of 25 mm, as under an endplate.
    ball = sphere([10.0, -20.0, 326.0], 25.0, 64)
    far = sphere([10.0, -20.0, 326.0], 27.0, 64)
    pillar = cylinder([10.0, -20.0, 290.0], [10.0, -20.0, 306.0], 6.0, 64)
    layer_body = booleans.difference(booleans.intersection(pillar, far), ball)
    core = booleans.difference(pillar, far)
    layer = fill(layer_body, core, "gyroid_network", 1.0, 0.3, rim_mm=0.6)
    assert layer.thickness_mm == pytest.approx(2.0, abs=0.05)
    assert layer.geometry.direction[2, 2] == pytest.approx(1.0, abs=1e-3)
    solid = solidify(layer, 0.08)
    s = solid.surface()
    assert s.is_closed
    assert len(booleans.bodies(booleans.union(core, s))) == 1
    away = np.linalg.norm(s.vertices - [10.0, -20.0, 326.0], axis=1)
    assert away.min() > 25.0 - 0.03
    # Density of the porous part by radius and angle, away from rim and bond.
    points = solid.grid.to_world(np.argwhere(np.ones(solid.grid.shape)).astype(float))
    phi = np.concatenate(list(solid.slabs())).transpose(2, 1, 0).ravel()
    r = np.linalg.norm(points - [10.0, -20.0, 326.0], axis=1)
    side = np.hypot(points[:, 0] - 10.0, points[:, 1] + 20.0)
    ok = (r > 25.0) & (r < 27.0) & (side < 5.0)
    assert (phi[ok] < 0.0).mean() == pytest.approx(0.3, abs=0.02)


def test_a_turned_case_gives_the_turned_layer() -> None:
    body, core = plate()
    rigid = Rigid(turn(0.4, 1.1), np.array([30.0, -200.0, 7.0]))
    axes = turn(0.2, -0.3)
    here = fill(body, core, "gyroid_network", 1.0, 0.3, axes=axes)
    there = fill(
        body.transformed(rigid), core.transformed(rigid), "gyroid_network", 1.0, 0.3,
        axes=rigid.rotation @ axes,
    )  # fmt: skip
    assert there.geometry.direction == pytest.approx(
        rigid.rotation @ here.geometry.direction, abs=1e-6
    )
    a, b = (solidify(layer, 0.1).surface() for layer in (here, there))
    # The fine grid starts elsewhere by a fraction of its spacing: the same solid, other facets.
    assert b.volume_mm3 == pytest.approx(a.volume_mm3, rel=0.01)
    assert b.area_mm2 == pytest.approx(a.area_mm2, rel=0.02)
    assert b.centroid == pytest.approx(rigid.points(a.centroid), abs=0.05)


def test_slices_have_the_solids_volume() -> None:
    layer = bare()
    for up in (UP, [0.3, -0.2, 0.9]):
        axes = build_axes(np.array(up))
        stack = list(slices(sliced(layer, 0.07, 0.05, axes)))
        assert sum(s.area_mm2 for s in stack) * 0.05 == pytest.approx(27.0, abs=0.9)
        assert np.diff([s.top_mm for s in stack]) == pytest.approx(0.05, abs=1e-9)
        assert all(s.top_mm - s.bottom_mm == pytest.approx(0.05) for s in stack)


@pytest.mark.parametrize("name", ["diamond_strut", "dodecahedron_strut"])
def test_beams_are_the_struts_of_the_field(name: str) -> None:
    body, core = plate()
    layer = fill(body, core, name, 1.0, 0.2, rim_mm=0.0)
    found = beams(layer)
    ends = found.nodes[found.ends]
    assert np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) == pytest.approx(3**0.5 / 4, rel=1e-4)
    # Along every centre line inside the layer the field is solid.
    local = ends.mean(axis=1) - HERE.origin
    deep = (
        (local[:, 2] > 0.2)
        & (local[:, 2] < 1.8)
        & (np.abs(local[:, 0] - 7) < 6)
        & (np.abs(local[:, 1] - 6) < 5)
    )
    solid = solidify(layer, 0.08)
    index = np.rint(solid.grid.to_index(ends.mean(axis=1)[deep])).astype(int)
    phi = np.concatenate(list(solid.slabs())).transpose(2, 1, 0)
    free = np.hypot(local[deep, 0] - 7, local[deep, 1] - 6) > 2.3
    assert (phi[tuple(index[free].T)] < 0.0).all()
    # Volume of the cylinders in the layer less their nodes: no more than half as much again.
    inside = (local[:, 2] > 0.0) & (local[:, 2] < 2.0)
    length = 3**0.5 / 4 * inside.sum()
    assert 1.0 < length * np.pi * found.radii_mm[0, 0] ** 2 / (0.2 * body.volume_mm3) < 1.6
    with pytest.raises(PlanError, match="no struts"):
        beams(bare())


def test_what_cannot_be_filled_is_refused() -> None:
    body, core = plate()
    opened = Surface(body.vertices, body.faces[1:])
    with pytest.raises(GeometryError, match="not watertight"):
        fill(opened, core, "gyroid_network", 1.0, 0.3)
    with pytest.raises(GeometryError, match="inside out"):
        fill(Surface(body.vertices, body.faces[:, ::-1]), core, "gyroid_network", 1.0, 0.3)
    plain = block((0, 0, 0), (4, 4, 2))
    with pytest.raises(PlanError, match="No face"):
        fill(plain, None, "gyroid_network", 1.0, 0.3, normal=[1.0, 1.0, 0.0])
    with pytest.raises(PlanError, match="core, or the direction"):
        fill(body, None, "gyroid_network", 1.0, 0.3)
    with pytest.raises(PlanError, match="porosity of 95 %"):
        fill(body, core, "gyroid_network", 1.0, 0.05)
    with pytest.raises(PlanError, match="points along a cell"):
        solidify(fill(body, core, "gyroid_network", 1.0, 0.3), 0.3)


def test_the_cells_axes_are_those_of_the_filled_layer() -> None:
    layer, core = plate()
    given = turn(0.3, -0.4)
    found = layer_axes(layer, core, given)
    filled = fill(layer, core, "gyroid_network", 1.0, 0.3, axes=given)
    np.testing.assert_allclose(found, filled.geometry.direction, atol=1e-12)
    np.testing.assert_allclose(np.cross(found[:, 0], found[:, 1]), found[:, 2], atol=1e-12)
