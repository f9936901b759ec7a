"""Polyplanes on boxes: exact volumes, faces half a kerf off, wherever the case lies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import to_manifold
from sacroplan.geometry.frames import AxisFrame, Plane, Rigid
from sacroplan.geometry.primitives import box
from sacroplan.resection.cuts import blade, face_mask, polyplane, saw_all
from sacroplan.resection.profile import profile

ORIGIN = AxisFrame("test", np.zeros(3), np.eye(3))
UP = np.array([0.0, 0.0, 1.0])
KERF = 1.2


def cut_of(points, bone, rigid=None, towards=(1.0, 0.0, 0.0), **more):
    rigid = rigid or Rigid(np.eye(3), np.zeros(3))
    chain = profile(
        rigid.points(np.asarray(points, float)), rigid.directions(UP), rigid.directions(np.array(towards)),
        bone.frame, **more,
    )  # fmt: skip
    return polyplane("c", "bone", bone, chain, KERF, None)


def turned(x=0.3, y=-0.7, z=1.1):
    return Rigid(Rotation.from_rotvec([x, y, z]).as_matrix(), np.array([90.0, -40.0, 300.0]))


STEP = [[20, 0, 10], [20, 8, 10], [30, 8, 10], [30, 20, 10]]
Z_CUT = [[20, 0, 10], [20, 9, 10], [28, 6, 10], [28, 20, 10]]
OBLIQUE = [[20, 0, 10], [20, 10, 10], [34, 20, 10]]


@pytest.mark.parametrize("points", [STEP, Z_CUT, OBLIQUE])
@pytest.mark.parametrize("rigid", [Rigid(np.eye(3), np.zeros(3)), turned()])
def test_a_chain_parts_a_box_and_takes_its_kerf(points, rigid):
    bone = box(ORIGIN, [0, 0, 0], [40, 20, 10]).transformed(rigid)
    cut = cut_of(points, bone, rigid)
    parts = saw_all(bone, (cut,))
    whole = parts.specimen.volume_mm3 + parts.remnant.volume_mm3 + parts.kerf_mm3
    assert whole == pytest.approx(8000.0, rel=1e-7)
    # Every facet's area is its length times the box's height, ends at the box's walls.
    lengths = np.linalg.norm(np.diff(np.asarray(points, float), axis=0), axis=1)
    assert cut.area_mm2 == pytest.approx(10.0 * lengths.sum(), rel=1e-7)
    # The specimen's and the remnant's faces lie exactly half a kerf from their facets.
    for piece, sign in ((parts.specimen, 1), (parts.remnant, -1)):
        mask, area = face_mask(piece, cut, sign)
        on = piece.subset(mask).vertices
        gaps = np.min([np.abs(f.plane.distance(on) - sign * KERF / 2) for f in cut.facets], axis=0)
        assert gaps.max() < 1e-7
        assert area == pytest.approx(cut.area_mm2, rel=0.15)
        assert np.all(sign * cut.side(piece.vertices) >= KERF / 2 - 1e-7)


def test_a_step_has_the_volume_that_pencil_and_paper_give():
    bone = box(ORIGIN, [0, 0, 0], [40, 20, 10])
    parts = saw_all(bone, (cut_of(STEP, bone),))
    h = KERF / 2
    # Right of x = 20 + h below y = 8 - h, right of 30 + h above.
    specimen = (20 - h) * (8 - h) + (10 - h) * (12 + h)
    assert parts.specimen.volume_mm3 == pytest.approx(10 * specimen, rel=1e-7)


def test_a_blade_goes_no_deeper_and_no_wider_than_asked():
    bone = box(ORIGIN, [0, 0, 0], [40, 20, 10])
    cut = cut_of([[20, 5, 10], [20, 15, 10]], bone, open_ends=False, depth_mm=4.0)
    assert cut.area_mm2 == pytest.approx(40.0, rel=1e-7)
    removed = to_manifold(bone) ^ blade(cut)
    assert removed.volume() == pytest.approx(40.0 * KERF, rel=1e-7)
    with pytest.raises(PlanError, match="does not part bone"):
        saw_all(bone, (cut,))


def test_two_bounded_planes_together_part_what_neither_parts_alone():
    bone = box(ORIGIN, [0, 0, 0], [40, 20, 10])
    one = cut_of([[25, 0, 10], [25, 12, 10]], bone, open_ends=False)
    two = cut_of([[25, 12, 10], [40, 12, 10]], bone, towards=(0, -1, 0), open_ends=False)
    parts = saw_all(bone, (one, two))
    assert parts.specimen.bounds[0, 0] == pytest.approx(25 + KERF / 2)
    assert parts.specimen.bounds[1, 1] == pytest.approx(12 - KERF / 2)
    whole = parts.specimen.volume_mm3 + parts.remnant.volume_mm3 + parts.kerf_mm3
    assert whole == pytest.approx(8000.0, rel=1e-7)


def test_the_side_of_a_chain_is_its_signed_distance():
    bone = box(ORIGIN, [0, 0, 0], [40, 20, 10])
    cut = cut_of(STEP, bone)
    points = np.array([[39, 1, 1], [1, 1, 1], [22, 10, 5], [22, 7, 5], [33, 19, 0.0]])
    assert cut.side(points) == pytest.approx([np.hypot(9, 7), -19, -2, 1, 3])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    xs=st.lists(st.floats(8.0, 32.0), min_size=2, max_size=4),
    angle=st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3)),
)
def test_volumes_add_up_for_any_chain_in_any_pose(xs, angle):
    rigid = turned(*angle)
    bone = box(ORIGIN, [0, 0, 0], [40, 40, 12]).transformed(rigid)
    points = [[x, 40.0 * n / (len(xs) - 1), 12.0] for n, x in enumerate(xs)]
    parts = saw_all(bone, (cut_of(points, bone, rigid),))
    whole = parts.specimen.volume_mm3 + parts.remnant.volume_mm3 + parts.kerf_mm3
    assert whole == pytest.approx(19200.0, rel=1e-8)


@pytest.mark.parametrize(
    ("points", "towards", "message"),
    [
        ([[0, 0, 0]], (1, 0, 0), "two or more points"),
        ([[0, 0, 0], [0, 1, 0], [0, 20, 0]], (1, 0, 0), "facet of 1.0 mm"),
        ([[0, 0, 0], [0, 20, 0], [0.5, 0, 0]], (1, 0, 0), "turns by 179 degrees"),
        ([[0, 0, 0], [0, 20, 0]], (0, 1, 0), "specimen's side"),
    ],
)
def test_a_chain_that_cannot_be_sawn_is_refused(points, towards, message):
    with pytest.raises(PlanError, match=message):
        profile(np.array(points, float), UP, np.array(towards, float), "LPS")


def test_a_finite_plane_in_another_frame_is_refused():
    bone = box(ORIGIN, [0, 0, 0], [40, 20, 10])
    chain = profile(np.array(STEP, float), UP, np.array([1.0, 0, 0]), "elsewhere")
    with pytest.raises(Exception, match="frames"):
        polyplane("c", "bone", bone, chain, KERF, None)
    assert Plane([0, 0, 0], [1, 0, 0]).frame == "LPS"
