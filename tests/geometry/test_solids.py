"""Solids against their formulas."""

import numpy as np
import pytest

from sacroplan.errors import GeometryError
from sacroplan.formats.stl import read_stl, write_stl
from sacroplan.geometry.booleans import (
    bodies,
    difference,
    intersection,
    overlap_mm3,
    simplify,
    split,
    union,
)
from sacroplan.geometry.fields import contour, distance_field, fused, inside_mask
from sacroplan.geometry.frames import AxisFrame, Plane, Rigid
from sacroplan.geometry.primitives import box, cylinder, prism, sphere, tube
from sacroplan.geometry.slicing import section
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry, grid_around

ORIGIN = AxisFrame("test", np.zeros(3), np.eye(3))


def rotation(axis, degrees):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    a = np.radians(degrees)
    return np.eye(3) + np.sin(a) * k + (1 - np.cos(a)) * k @ k


@pytest.mark.parametrize(
    ("solid", "volume", "relative"),
    [
        (box(ORIGIN, [0, 0, 0], [2, 3, 4]), 24.0, 1e-12),
        # A 48-gon has sin(a)/a of the circle's area.
        (cylinder([0, 0, 0], [0, 0, 5], 2.0), 20 * np.pi, 3e-3),
        (sphere([1, 2, 3], 5.0), 4 / 3 * np.pi * 125, 8e-3),
        (tube([[0, 0, 0], [0, 0, 5], [0, 0, 9]], 1.0), 9 * np.pi, 8e-3),
    ],
)
def test_primitives_are_closed_and_have_their_volume(solid, volume, relative):
    assert solid.is_closed
    assert solid.volume_mm3 == pytest.approx(volume, rel=relative)


def test_centroid_of_a_box_far_from_the_origin():
    solid = box(ORIGIN, [1000, 2000, 3000], [1002, 2004, 3006])
    assert solid.centroid == pytest.approx([1001, 2002, 3003], abs=1e-9)


def test_booleans_add_up():
    a = box(ORIGIN, [0, 0, 0], [2, 2, 2])
    b = box(ORIGIN, [1, 1, 1], [3, 3, 3])
    assert union(a, b).volume_mm3 == pytest.approx(15.0, rel=1e-12)
    assert difference(a, b).volume_mm3 == pytest.approx(7.0, rel=1e-12)
    assert intersection(a, b).volume_mm3 == pytest.approx(1.0, rel=1e-12)
    assert overlap_mm3(a, b) == pytest.approx(1.0, rel=1e-12)
    above, below = split(a, Plane([0, 0, 0.5], [0, 0, 7.0]))
    assert above is not None
    assert below is not None
    assert above.volume_mm3 == pytest.approx(6.0, rel=1e-12)
    assert below.volume_mm3 == pytest.approx(2.0, rel=1e-12)


def test_an_empty_boolean_names_its_operands():
    a = box(ORIGIN, [0, 0, 0], [1, 1, 1])
    b = box(ORIGIN, [5, 5, 5], [6, 6, 6])
    with pytest.raises(GeometryError, match="the wing and the bone"):
        intersection(a, b, names=("the wing", "the bone"))


def test_open_and_inverted_solids_are_refused():
    a = box(ORIGIN, [0, 0, 0], [1, 1, 1])
    hole = Surface(a.vertices, a.faces[1:])
    inverted = Surface(a.vertices, a.faces[:, ::-1])
    with pytest.raises(GeometryError, match="not watertight"):
        union(a, hole)
    with pytest.raises(GeometryError, match="inside out"):
        union(a, inverted)


def test_frames_do_not_mix():
    a = box(ORIGIN, [0, 0, 0], [1, 1, 1])
    b = Surface(a.vertices, a.faces, "another CT")
    with pytest.raises(GeometryError, match="another CT"):
        union(a, b)


@pytest.mark.parametrize("turn", [np.eye(3), rotation([1, 2, 3], 30)])
def test_distance_field_of_a_sphere(turn):
    ball = sphere([3, 4, 5], 10.0, rings=96)
    grid = grid_around(ball.vertices, 0.8, 6.0, direction=turn)
    field = distance_field(ball, grid, exact_mm=4.0)
    points = grid.to_world(np.argwhere(np.ones(grid.shape)))
    exact = np.linalg.norm(points - [3, 4, 5], axis=1) - 10.0
    # The 96-ring sphere lies up to r (1 - cos(pi/192)) = 0.002 mm inside the true one.
    error = np.abs(field.values.ravel() - exact)
    assert error[np.abs(exact) < 3.9].max() < 0.005
    assert error.max() < 0.4 * 0.8
    again = contour(grid, field.values)
    assert again.is_closed
    assert again.volume_mm3 == pytest.approx(ball.volume_mm3, rel=5e-3)
    assert np.abs(np.linalg.norm(again.vertices - [3, 4, 5], axis=1) - 10).max() < 0.03
    normal = field.gradient_at(again.vertices)
    radial = (again.vertices - [3, 4, 5]) / 10.0
    assert np.einsum("ij,ij->i", normal, radial).min() > 0.99


def test_inside_mask_with_faces_exactly_on_grid_points():
    solid = box(ORIGIN, [0, 0, 0], [3, 3, 3])
    grid = VolumeGeometry((8, 8, 8), np.ones(3), np.full(3, -2.0))
    mask = inside_mask(solid, grid)
    # Half-open: each of the three axes keeps exactly three of the grid points 0..3.
    assert mask.sum() == 27
    assert mask[3:5, 3:5, 3:5].all()


def test_section_of_a_tilted_tube_is_an_annulus():
    turn = rotation([1, 1, 0], 40)
    outer = cylinder([0, 0, -20], [0, 0, 20], 10.0, segments=256)
    inner = cylinder([0, 0, -30], [0, 0, 30], 6.0, segments=256)
    pipe = difference(outer, inner).transformed(Rigid(turn, np.array([5.0, 6.0, 7.0])))
    cut = section(pipe, Plane([5.0, 6.0, 7.0], turn[:, 2]))
    assert len(cut.loops) == 2
    assert cut.area_mm2 == pytest.approx(np.pi * 64, rel=1e-3)
    assert cut.centroid == pytest.approx([5, 6, 7], abs=1e-6)
    slab = prism(list(cut.loops), cut.origin, cut.axes, -1.0, 2.0)
    assert slab.volume_mm3 == pytest.approx(3 * cut.area_mm2, rel=1e-9)


def test_bodies_and_simplify():
    two = union(sphere([0, 0, 0], 5.0), box(ORIGIN, [10, 0, 0], [12, 2, 2]))
    first, second = bodies(two)
    assert first.volume_mm3 > second.volume_mm3
    assert second.volume_mm3 == pytest.approx(8.0)
    few = simplify(sphere([0, 0, 0], 5.0, rings=80), 0.05)
    assert few.is_closed
    assert len(few.faces) < 4000
    assert np.abs(np.linalg.norm(few.vertices, axis=1) - 5).max() < 0.06


def test_mirror_keeps_orientation_and_swaps_side():
    solid = box(ORIGIN, [5, 0, 0], [7, 1, 1])
    mirror = solid.mirrored()
    assert mirror.volume_mm3 == pytest.approx(2.0)
    assert mirror.bounds[:, 0].tolist() == [-7.0, -5.0]


def test_canonical_returns_every_voxel_to_its_place():
    rng = np.random.default_rng(3)
    data = rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    tilt = rotation([1, 2, 3], 20)
    for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]):
        for signs in ([1, 1, 1], [-1, 1, -1], [-1, -1, -1]):
            direction = tilt @ (np.eye(3)[:, order] * signs)
            geometry = VolumeGeometry((4, 5, 6), [0.5, 0.7, 1.1], [3, 4, 5], direction)
            before = Volume(geometry, data.copy())
            after = before.canonical()
            assert (np.diag(after.geometry.direction) > 0.8).all()
            index = np.argwhere(np.ones(data.shape))
            there = np.rint(after.geometry.to_index(geometry.to_world(index))).astype(int)
            assert np.array_equal(after.data[tuple(there.T)], data[tuple(index.T)])


def test_label_names_are_unique_and_known():
    grid = VolumeGeometry((2, 2, 2), [1, 1, 1], [0, 0, 0])
    data = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(GeometryError, match="same name"):
        LabelMap(grid, data, {1: "sacrum", 2: "sacrum"})
    with pytest.raises(GeometryError, match="'liver'"):
        LabelMap(grid, data.copy(), {1: "sacrum"}).mask("liver")


def test_parts_that_only_touch_are_fused_into_one_sound_body(tmp_path):
    # Two blocks with a common face, turned so that no grid plane lies in it.
    a, b = box(ORIGIN, [0, 0, 0], [10, 8, 6]), box(ORIGIN, [10, 1, 1], [18, 7, 5])
    rigid = Rigid(rotation([0, 0, 1], 17.0), np.array([3.0, -2.0, 1.0]))
    parts = [s.transformed(rigid) for s in (a, b)]
    whole = fused(parts, 0.5)
    assert whole.is_closed
    assert whole.body_count() == 1
    assert whole.volume_mm3 == pytest.approx(480.0 + 192.0, rel=0.02)
    write_stl(whole, tmp_path / "whole.stl", "whole")
    assert read_stl(tmp_path / "whole.stl").is_closed
