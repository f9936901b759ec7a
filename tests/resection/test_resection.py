"""Cuts on boxes with known volumes, and on real bones."""

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import overlap_mm3, union
from sacroplan.geometry.frames import AxisFrame, Plane, Rigid
from sacroplan.geometry.primitives import box, sphere
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.resection.cuts import osteotomy, saw_all
from sacroplan.resection.margin import cut_margin
from sacroplan.resection.tumour import Ellipsoid, tumour_from_mask, tumour_from_shapes

ORIGIN = AxisFrame("test", np.zeros(3), np.eye(3))


def turned(degrees=30.0):
    a = np.radians(degrees)
    axis = np.array([1.0, 2.0, 2.0]) / 3.0
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return Rigid(np.eye(3) + np.sin(a) * k + (1 - np.cos(a)) * k @ k, np.array([40.0, -7, 11]))


@pytest.mark.parametrize("rigid", [Rigid(np.eye(3), np.zeros(3)), turned()])
def test_saw_takes_exactly_its_kerf(rigid):
    bone = box(ORIGIN, [0, 0, 0], [40, 20, 10]).transformed(rigid)
    plane = Plane([30, 0, 0], [1, 0, 0]).transformed(rigid)
    cut = osteotomy("c", "bone", bone, plane, 1.25, None)
    assert cut.area_mm2 == pytest.approx(200.0, rel=1e-9)
    parts = saw_all(bone, (cut,))
    assert parts.specimen.volume_mm3 == pytest.approx((10 - 0.625) * 200, rel=1e-9)
    assert parts.remnant.volume_mm3 == pytest.approx((30 - 0.625) * 200, rel=1e-9)
    assert parts.kerf_mm3 == pytest.approx(1.25 * 200, rel=1e-9)
    whole = parts.specimen.volume_mm3 + parts.remnant.volume_mm3 + parts.kerf_mm3
    assert whole == pytest.approx(bone.volume_mm3, rel=1e-9)
    # Each face lies on its own side, half a kerf from the plane.
    assert plane.distance(parts.specimen.vertices).min() == pytest.approx(0.625, abs=1e-9)
    assert plane.distance(parts.remnant.vertices).max() == pytest.approx(-0.625, abs=1e-9)


def test_a_finite_cut_spares_what_lies_outside_its_region():
    # A U: the plane x = 5 meets both legs, only the upper one is to be sawn.
    u = union(
        box(ORIGIN, [0, 0, 0], [10, 30, 5]),
        box(ORIGIN, [0, 20, 1], [60, 30, 4]),
        box(ORIGIN, [0, 0, 1], [60, 10, 4]),
    )
    region = box(ORIGIN, [-100, 15, -100], [100, 100, 100])
    cut = osteotomy("c", "u", u, Plane([30, 0, 0], [1, 0, 0]), 1.0, region)
    assert cut.area_mm2 == pytest.approx(30.0, rel=1e-9)
    parts = saw_all(u, (cut,))
    assert parts.specimen.bounds[0, 1] == pytest.approx(20.0)
    assert parts.remnant.bounds[1, 0] == pytest.approx(60.0)


def test_a_cut_that_misses_or_does_not_part_is_refused():
    bone = box(ORIGIN, [0, 0, 0], [40, 20, 10])
    miss = osteotomy("c", "bone", bone, Plane([90, 0, 0], [1, 0, 0]), 1.0, None)
    with pytest.raises(PlanError, match="misses the bone"):
        saw_all(bone, (miss,))
    ring = union(
        box(ORIGIN, [0, 0, 0], [40, 5, 5]),
        box(ORIGIN, [0, 25, 0], [40, 30, 5]),
        box(ORIGIN, [0, 0, 0], [5, 30, 5]),
        box(ORIGIN, [35, 0, 0], [40, 30, 5]),
    )
    region = box(ORIGIN, [-9, -9, -9], [99, 10, 99])
    one_leg = osteotomy("c", "ring", ring, Plane([20, 0, 0], [1, 0, 0]), 1.0, region)
    with pytest.raises(PlanError, match="does not part ring"):
        saw_all(ring, (one_leg,))


def test_margin_of_a_sphere_is_its_distance_to_the_face():
    bone = box(ORIGIN, [0, -50, -50], [80, 50, 50])
    cut = osteotomy("c", "bone", bone, Plane([20, 0, 0], [1, 0, 0]), 2.0, None)
    tumour = sphere([45, 3, -4], 12.0, rings=96)
    found = cut_margin(cut, tumour)
    # Face at 21, sphere from 33: 12 mm, seen on a 1 mm grid of face points.
    assert found.minimum_mm == pytest.approx(12.0, abs=0.03)
    assert found.nearest == pytest.approx([33, 3, -4], abs=0.5)
    assert len(found.points) >= 10_000
    exact = np.linalg.norm(found.points - [45, 3, -4], axis=1) - 12
    assert np.abs(found.distance_mm - exact).max() < 0.02
    through = cut_margin(cut, sphere([20, 0, 0], 12.0, rings=48))
    assert through.minimum_mm < -10


def test_tumour_from_voxels_and_shapes():
    grid = VolumeGeometry((60, 60, 60), [1, 1, 1], [-30, -30, -30])
    index = np.argwhere(np.ones(grid.shape, bool))
    mask = (np.linalg.norm(grid.to_world(index), axis=1) < 15).reshape(grid.shape)
    ball = tumour_from_mask(grid, mask, "test")
    assert ball.surface.is_closed
    assert ball.volume_mm3 == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.025)
    egg = tumour_from_shapes((Ellipsoid([5, 6, 7], [10, 15, 20]),), "LPS", "test")
    assert egg.surface.is_closed
    assert egg.volume_mm3 == pytest.approx(4 / 3 * np.pi * 3000, rel=0.01)
    assert egg.surface.centroid == pytest.approx([5, 6, 7], abs=0.05)
    with pytest.raises(PlanError, match="empty"):
        tumour_from_mask(grid, np.zeros(grid.shape, bool), "nothing.nii")
    with pytest.raises(PlanError, match="positive"):
        Ellipsoid([0, 0, 0], [1, 0, 1])


def test_specimen_and_remnant_never_overlap():
    bone = sphere([0, 0, 0], 30.0, rings=60)
    cut = osteotomy("c", "ball", bone, Plane([7, 0, 0], [0.8, 0.6, 0]), 1.25, None)
    parts = saw_all(bone, (cut,))
    assert overlap_mm3(parts.specimen, parts.remnant) == 0.0
