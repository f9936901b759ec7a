"""Outlines, lattice and measures against their formulas."""

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import difference, split, union
from sacroplan.geometry.frames import AxisFrame, Plane
from sacroplan.geometry.primitives import box, cylinder, sphere
from sacroplan.geometry.surface import concatenate
from sacroplan.implant import measure
from sacroplan.implant.lattice import define
from sacroplan.implant.outline import Outline, cut_face, endplate_outline, raster

LEVEL = AxisFrame("lps", np.zeros(3), np.eye(3))
UP = np.array([0.0, 0.0, 1.0])


def square(half=10.0, centre=(0.0, 0.0)):
    c = np.asarray(centre)
    loop = c + half * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    return Outline(np.zeros(3), np.eye(3), (loop,))


def test_erosion_rounds_corners():
    inner = square().eroded(2.0, 3.0)
    assert inner.area_mm2 == pytest.approx(16.0**2 - (4 - np.pi) * 9.0, rel=2e-3)
    assert inner.centroid_uv == pytest.approx([0, 0], abs=1e-6)


def test_below_cuts_the_outline():
    assert square().below(4.0).area_mm2 == pytest.approx(20.0 * 14.0)


def test_raster_is_the_distance_of_a_square():
    field = raster(square(centre=(3.0, -1.0)), 8.0)
    points = np.array([[3.0, -1.0], [3.0, 5.0], [13.0, 0.0], [16.0, 13.0], [3.2, 12.7]])
    expected = [-10.0, -4.0, 0.0, 5.0, 3.7]
    assert field.at(points[:, 0], points[:, 1]) == pytest.approx(expected, abs=0.02)


def test_cut_face_takes_the_patch_that_is_meant():
    plane = Plane([5.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    near = box(LEVEL, [-9.0, -10.0, -20.0], [5.0, 10.0, 20.0])
    far = box(LEVEL, [-9.0, -10.0, -90.0], [5.0, 30.0, -40.0])
    crumb = box(LEVEL, [-9.0, -2.0, 22.0], [5.0, 2.0, 24.0])
    bone = concatenate([near, far, crumb])
    face = cut_face(bone, plane, UP, np.array([40.0, 0.0, 10.0]), "left")
    assert face.area_mm2 == pytest.approx(800.0, rel=1e-4)
    assert face.to_world(face.centroid_uv) == pytest.approx([5.0, 0.0, 0.0], abs=1e-4)
    low = cut_face(bone, plane, UP, np.array([40.0, 10.0, -70.0]), "left")
    assert low.area_mm2 == pytest.approx(2000.0, rel=1e-4)
    # Seen from the other side there is no face that looks along the normal.
    with pytest.raises(PlanError, match="no face"):
        cut_face(bone, plane.flipped(), UP, np.zeros(3), "left")


def test_endplate_outline_has_no_hole_and_faces_forward():
    frame = AxisFrame(
        "plate",
        np.array([1.0, 2.0, 3.0]),
        np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    )
    body = cylinder([1.0, 2.0, 3.0], [1.0, 2.0, 30.0], 20.0, segments=96)
    hollow = difference(body, sphere([1.0, 2.0, 3.0], 8.0))
    outline = endplate_outline(hollow, frame, 3.0)
    assert len(outline.loops) == 1
    assert outline.area_mm2 == pytest.approx(np.pi * 400, rel=2e-3)
    assert outline.to_world([7.0, 0.0]) == pytest.approx([1.0, -5.0, 3.0])
    assert outline.to_world([0.0, 7.0]) == pytest.approx([8.0, 2.0, 3.0])


def test_lattice_at_half_density_has_equal_struts_and_pores():
    half = define(1.2, 0.5, 2.4)
    assert half.level == pytest.approx(0.0, abs=0.01)
    assert half.pore_um == pytest.approx(half.strut_um, rel=0.02)
    assert half.cells_through == pytest.approx(2.0)


def test_lattice_scales_and_opens():
    thin, thick = define(1.0, 0.7, 2.0), define(1.5, 0.7, 2.0)
    assert thick.pore_um == pytest.approx(1.5 * thin.pore_um)
    assert thick.strut_um == pytest.approx(1.5 * thin.strut_um)
    # Cell 1.03 mm at 30 % density: throats of 565 um were measured on a finer grid.
    assert define(1.03, 0.7, 2.0).pore_um == pytest.approx(565, rel=0.05)
    open_ = define(1.0, 0.8, 2.0)
    assert open_.pore_um > thin.pore_um
    assert open_.strut_um < thin.strut_um
    with pytest.raises(PlanError, match="porosity"):
        define(1.0, 0.95, 2.0)
    with pytest.raises(PlanError, match="not known"):
        define(1.0, 0.7, 2.0, "honeycomb")


def test_wall_of_a_plate_and_of_a_wedge():
    plate = box(LEVEL, [0.0, 0.0, 0.0], [40.0, 30.0, 1.7])
    assert measure.wall_thickness_mm(plate) == pytest.approx(1.7, abs=1e-6)
    # An edge of 40 degrees is no thin wall, a plate of 0.6 mm on the same block is.
    side = 20.0 * np.tan(np.radians(50.0))
    tip = Plane([0.0, 0.0, 0.0], [20.0, 0.0, -side])
    wedge = split(box(LEVEL, [0.0, 0.0, 0.0], [20.0, 30.0, 20.0]), tip)[0]
    assert measure.wall_thickness_mm(wedge) > 1.0
    fin = box(LEVEL, [19.0, 10.0, 5.0], [26.0, 20.0, 5.6])
    assert measure.wall_thickness_mm(union(wedge, fin)) == pytest.approx(0.6, abs=1e-6)


def test_enclosed_void_is_found():
    solid = difference(box(LEVEL, [0, 0, 0], [10, 10, 10]), sphere([5.0, 5.0, 5.0], 2.0))
    assert measure.enclosed_voids(solid) == 1
    drilled = difference(solid, cylinder([5.0, 5.0, 5.0], [5.0, 5.0, 20.0], 1.0))
    assert measure.enclosed_voids(drilled) == 0


def test_envelope_of_boxes():
    # x is anterior: the implant stands 6 mm before the bone and 9 mm behind its back.
    bone = box(LEVEL, [-30.0, -20.0, -20.0], [10.0, 20.0, 20.0])
    implant = box(LEVEL, [-21.0, -10.0, -10.0], [16.0, 10.0, 10.0])
    ahead, behind = measure.envelope(implant, [bone], [bone])
    assert ahead == pytest.approx(6.0, abs=measure.ENVELOPE_GRID_MM)
    assert behind == pytest.approx(9.0)


def test_conforming_contact_of_a_plate_under_a_box():
    bone = box(LEVEL, [-20.0, -20.0, 1.0], [20.0, 20.0, 9.0])
    layer = box(LEVEL, [-10.0, -10.0, -2.0], [10.0, 10.0, 0.8])
    area, mean, top = measure.conforming_contact(layer, bone, UP, 0.5)
    assert area == pytest.approx(400.0, rel=1e-9)
    assert mean == pytest.approx(0.2)
    assert top == pytest.approx(0.2)
    assert measure.conforming_contact(layer, bone, UP, 0.1)[0] == 0.0
