"""The two-wing implant on solids whose faces are known."""

from dataclasses import replace

import numpy as np
import pytest
from implant_cases import blocky_case, mirrored, moved

from sacroplan import evidence
from sacroplan.errors import GeometryError, PlanError
from sacroplan.geometry.booleans import bodies, difference, overlap_mm3, split, union
from sacroplan.geometry.frames import AxisFrame, Plane, Rigid
from sacroplan.geometry.primitives import cylinder
from sacroplan.geometry.slicing import section
from sacroplan.geometry.surface import Surface
from sacroplan.implant.localise import localise
from sacroplan.implant.model import RodPost
from sacroplan.implant.posts import post_cutters
from sacroplan.implant.seats import find_seats
from sacroplan.implant.two_wing import ImplantParameters, WingSeat, design

COARSE = ImplantParameters(grid_mm=1.3)
LAYERS = ["L5", "wing_left", "wing_right"]


def turn():
    """An arbitrary rotation about an oblique axis and a shift."""
    axis = np.array([0.5, -0.7, 0.3]) / np.linalg.norm([0.5, -0.7, 0.3])
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    r = np.eye(3) + np.sin(1.1) * k + (1 - np.cos(1.1)) * k @ k
    u, _, vt = np.linalg.svd(r)
    return Rigid(u @ vt, np.array([31.0, -17.0, 250.0]))


@pytest.fixture(scope="module")
def case():
    return blocky_case()


@pytest.fixture(scope="module")
def implant(case):
    return design(case, COARSE)


def figure(implant, name):
    return implant.metrics()[f"implant.{name}"].value


def distance(points, surface):
    import igl

    return np.sqrt(igl.point_mesh_squared_distance(points, surface.vertices, surface.faces)[0])


def test_core_and_layers_are_single_closed_solids(implant):
    assert sorted(implant.porous) == LAYERS
    for solid in (implant.core, *implant.porous.values()):
        assert solid.is_closed
        assert solid.volume_mm3 > 0
        assert len(bodies(solid)) == 1
        # One shell: no enclosed void.
        assert solid.body_count() == 1
    assert figure(implant, "enclosed_voids") == 0


def test_layers_touch_the_core_without_sharing_volume(implant):
    whole = union(implant.core, *implant.porous.values())
    parts = implant.core.volume_mm3 + sum(s.volume_mm3 for s in implant.porous.values())
    assert whole.volume_mm3 == pytest.approx(parts, abs=1.0)
    for layer in implant.porous.values():
        assert overlap_mm3(implant.core, layer) < 0.5


@pytest.mark.parametrize("side", ["left", "right"])
def test_wing_layers_are_bonded_over_their_whole_back(case, implant, side):
    plane = case.seat(side).plane.shifted(COARSE.porous_mm)

    def on_plane(solid, direction):
        flat = (np.abs(plane.distance(solid.vertices)) < 1e-6)[solid.faces].all(axis=1)
        flat &= solid.face_normals @ plane.normal * direction > 0.99
        return np.linalg.norm(solid.area_vectors[flat], axis=1).sum()

    back = on_plane(implant.porous[f"wing_{side}"], 1.0)
    assert back > figure(implant, f"wing_{side}.contact_mm2")
    assert on_plane(implant.core, -1.0) == pytest.approx(back, rel=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_seat_lies_on_the_cut_face(case, implant, side):
    seat = case.seat(side)
    layer = implant.porous[f"wing_{side}"]
    d = seat.plane.distance(layer.vertices)
    assert d.min() == pytest.approx(0.0, abs=1e-6)
    assert d.max() == pytest.approx(COARSE.porous_mm, abs=1e-6)
    assert seat.plane.distance(implant.core.vertices).min() == pytest.approx(
        COARSE.porous_mm, abs=1e-6
    )
    assert figure(implant, f"wing_{side}.porous_mm") == pytest.approx(COARSE.porous_mm, abs=0.02)
    # The contact is the flat side of the layer: its section a hair above the face says the same.
    on_face = np.abs(d[layer.faces]).max(axis=1) < 1e-6
    area = np.linalg.norm(layer.area_vectors[on_face], axis=1).sum()
    assert figure(implant, f"wing_{side}.contact_mm2") == pytest.approx(area, rel=0.01)


def test_l5_layer_has_the_gap_and_the_thickness_asked_for(case, implant):
    layer = implant.porous["L5"]
    cranial = case.l5_endplate.axes[:, 1]
    centres = layer.triangles.mean(axis=1)
    inner = np.linalg.norm(centres - case.l5_endplate.origin, axis=1) < 14.0
    up = inner & (layer.face_normals @ cranial > 0.7)
    down = inner & (layer.face_normals @ cranial < -0.7)
    assert distance(centres[up], case.l5) == pytest.approx(COARSE.endplate_gap_mm, abs=0.05)
    assert distance(centres[down], case.l5) == pytest.approx(
        COARSE.endplate_gap_mm + COARSE.porous_mm, abs=0.05
    )
    assert figure(implant, "L5.coverage_percent") > 90
    # The endplate is a cap of a sphere about the frame's normal: no angle between face and endplate.
    assert figure(implant, "L5.angle_deg") < 0.5


def test_no_bone_is_cut(case, implant):
    for bone in (case.l5, *(s.hip for s in case.seats)):
        for solid in (implant.core, *implant.porous.values()):
            assert overlap_mm3(solid, bone) < 0.3


def test_screws_pass_and_rods_lie_free(case, implant):
    assert len(implant.wing_screws) == 2 * COARSE.screws_per_side
    for screw in implant.wing_screws:
        shank = cylinder(screw.head, screw.tip, 0.5 * screw.diameter_mm)
        assert overlap_mm3(implant.core, shank) < 1e-6
        # Three millimetres of wall all round the bore, from under the head to the cut face.
        hole, plane = 0.5 * screw.hole_diameter_mm, case.seat(screw.side).plane
        a, b = screw.head + screw.direction, screw.bone_entry + 15.0 * screw.direction
        ring = difference(cylinder(a, b, hole + 2.8), cylinder(a, b, hole + 0.05))
        ring = split(ring, plane.shifted(0.01))[0]
        solids = [implant.core, *implant.porous.values()]
        assert sum(overlap_mm3(s, ring) for s in solids) > 0.97 * ring.volume_mm3
        hip = case.seat(screw.side).hip
        assert (
            overlap_mm3(hip, shank)
            > 0.95 * cylinder(screw.bone_entry, screw.tip, 0.5 * screw.diameter_mm).volume_mm3
        )
    for post in implant.posts:
        target = case.rod_targets[post.side]
        assert np.cross(target - post.centre, post.axis) == pytest.approx([0, 0, 0], abs=1e-6)
        rod = cylinder(post.centre - 8.0 * post.axis, target, 0.5 * post.diameter)
        assert overlap_mm3(implant.core, rod) < 1e-6
        # The saddle's floor carries the rod.
        floor = post.centre - post.opening * (0.5 * post.diameter + 1.5)
        assert overlap_mm3(implant.core, cylinder(floor, floor - post.opening, 1.0)) > 2.5
        # The opening looks backwards.
        assert post.opening @ case.axes.axes[:, 0] < -0.8


def test_suture_holes_are_open_and_rounded(implant):
    assert len(implant.suture_holes) >= 6
    for hole in implant.suture_holes:
        reach = 0.5 * hole.depth_mm + 3.0
        a, b = hole.centre - reach * hole.axis, hole.centre + reach * hole.axis
        assert overlap_mm3(implant.core, cylinder(a, b, 0.49 * hole.diameter_mm)) < 1e-6
        # A wider pin meets metal in the middle, the mouths are wider than the hole.
        wide = cylinder(hole.centre - 0.5 * hole.axis, hole.centre + 0.5 * hole.axis, 2.0)
        assert overlap_mm3(implant.core, wide) > 0.9 * np.pi * (4.0 - (0.5 * hole.diameter_mm) ** 2)


def test_mass_follows_from_volumes(implant):
    porous = sum(s.volume_mm3 for s in implant.porous.values())
    expected = 4.43e-3 * (implant.core.volume_mm3 + 0.30 * porous)
    assert figure(implant, "mass_g") == pytest.approx(expected, rel=1e-9)


def test_rigid_motion_changes_nothing(case, implant):
    rigid = turn()
    there = design(moved(case, rigid), COARSE)
    for name in (
        "core.volume_cm3",
        "mass_g",
        "wing_left.contact_mm2",
        "wing_right.contact_mm2",
        "L5.contact_mm2",
        "size.width_mm",
        "L5.virtual_pelvic_incidence_deg",
    ):
        assert figure(there, name) == pytest.approx(figure(implant, name), rel=5e-3)
    back = rigid.inverse().points(there.core.centroid)
    assert back == pytest.approx(implant.core.centroid, abs=0.05)
    for here, post in zip(implant.posts, there.posts, strict=True):
        assert rigid.points(here.centre) == pytest.approx(post.centre, abs=0.1)


def test_mirrored_defect_gives_the_mirrored_implant(case, implant):
    other = design(mirrored(case), COARSE)
    assert other.core.volume_mm3 == pytest.approx(implant.core.volume_mm3, rel=5e-3)
    assert other.core.centroid * [-1, 1, 1] == pytest.approx(implant.core.centroid, abs=0.1)
    assert figure(other, "wing_right.contact_mm2") == pytest.approx(
        figure(implant, "wing_left.contact_mm2"), rel=5e-3
    )
    # The case is asymmetric: unmirrored figures would not pass the line above.
    left, right = (figure(implant, f"wing_{s}.contact_mm2") for s in ("left", "right"))
    assert abs(left - right) > 0.05 * left
    mine = {p.side: p.centre for p in implant.posts}
    for post in other.posts:
        there = mine["left" if post.side == "right" else "right"]
        assert post.centre * [-1, 1, 1] == pytest.approx(there, abs=0.3)


def test_same_input_same_bytes(case, implant):
    again = design(case, COARSE)
    assert again.core.vertices.tobytes() == implant.core.vertices.tobytes()
    assert again.core.faces.tobytes() == implant.core.faces.tobytes()


def test_given_screws_are_kept_and_judged(case):
    seats = {s.side: s for s in case.seats}
    planned = []
    for side, s in (("left", 1.0), ("right", -1.0)):
        entry = seats[side].plane.point + np.array([-s * 8.0, 6.0, -12.0])
        planned.append((f"wing_{side}", entry, entry + np.array([s * 50.0, -45.0, -8.0]), 7.5))
    off = seats["left"].plane.point + np.array([-8.0, 0.0, 60.0])
    planned.append(("stray", off, off + np.array([50.0, -50.0, 0.0]), 6.5))
    spare = replace(case, wing_screws=tuple(planned), specimen=None, rod_targets={})
    result = design(spare, COARSE)
    assert [s.name for s in result.wing_screws] == ["wing_left", "wing_right", "stray"]
    for screw, (_, entry, tip, diameter) in zip(result.wing_screws, planned, strict=True):
        assert screw.diameter_mm == diameter
        assert screw.hole_diameter_mm == pytest.approx(diameter + 0.4)
        assert screw.tip == pytest.approx(tip, abs=1e-9)
        assert np.cross(screw.direction, tip - entry) == pytest.approx([0, 0, 0], abs=1e-6)
        assert abs(seats[screw.side].plane.distance(screw.bone_entry)) < 1e-9
        assert overlap_mm3(result.core, cylinder(screw.head, screw.tip, diameter / 2)) < 1e-6
    codes = [d.code for d in result.doubts]
    assert codes.count("implant.screw_off_seat") == 1
    assert codes.count("implant.rod_target_unknown") == 2
    assert "implant.mass_ratio" not in result.metrics()
    assert len(result.posts) == 2


def test_keep_clear_is_kept_clear(case, implant):
    # A pin just in front of the block, which the first design meets.
    centre = implant.core.centroid
    pin = cylinder(centre + [-60.0, -12.0, 0.0], centre + [60.0, -12.0, 0.0], 3.0)
    assert overlap_mm3(implant.core, pin) > 10
    result = design(replace(case, keep_clear=(pin,)), COARSE)
    assert figure(result, "overlap.keep_clear_1_mm3") < 0.5
    assert distance(result.core.vertices, pin).min() > COARSE.bone_clearance_mm - 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wing_height_mm": -3.0}, "not between"),
        ({"grid_mm": 0.0}, "more than 0"),
        ({"porous_mm": float("nan")}, "not between"),
    ],
)
def test_impossible_parameters(change, message):
    with pytest.raises(PlanError, match=message):
        ImplantParameters(**change)


def test_impossible_defects(case):
    left, right = case.seats
    with pytest.raises(PlanError, match="one left and one right"):
        replace(case, seats=(left, left))
    flipped = WingSeat("left", left.plane.flipped(), left.hip)
    with pytest.raises(PlanError, match="laterally"):
        design(replace(case, seats=(flipped, right)), COARSE)
    away = WingSeat("left", left.plane.shifted(4.0), left.hip)
    with pytest.raises(PlanError, match="no face on its cut plane"):
        design(replace(case, seats=(away, right)), COARSE)
    strip = split(left.hip, Plane([0.0, 0.0, -42.0], [0.0, 0.0, -1.0]))[0]
    with pytest.raises(PlanError, match="left cut face has no room"):
        design(replace(case, seats=(WingSeat("left", left.plane, strip), right)), COARSE)
    entry = left.plane.point + np.array([-8.0, 0.0, 0.0])
    along = ("flat", entry, entry + np.array([2.0, -60.0, 0.0]), 6.5)
    with pytest.raises(PlanError, match="10 degrees"):
        design(replace(case, wing_screws=(along,)), COARSE)
    open_ = Surface(case.l5.vertices, case.l5.faces[1:])
    with pytest.raises(GeometryError, match="L5 is open: 3 open edges in 1 hole near"):
        design(replace(case, l5=open_), COARSE)
    inside_out = Surface(case.l5.vertices, case.l5.faces[:, ::-1])
    with pytest.raises(GeometryError, match="L5 is inside out"):
        design(replace(case, l5=inside_out), COARSE)


def test_a_seat_through_the_acetabulum_is_refused(case):
    left = case.seats[0]
    below = left.plane.point + np.array([0.0, 0.0, -40.0])
    with pytest.raises(PlanError, match=r"left wing's seat runs .* deep into the acetabulum near"):
        design(replace(case, sockets={"left": (below, 26.0)}), COARSE)
    entry = left.plane.point + np.array([-8.0, 6.0, -12.0])
    into = ("deep", entry, entry + np.array([60.0, -50.0, -8.0]), 7.5)
    ball = entry + np.array([50.0, -42.0, -7.0])
    with pytest.raises(PlanError, match=r"'deep' runs .* deep into the left hip joint"):
        design(replace(case, wing_screws=(into,), sockets={"left": (ball, 24.0)}), COARSE)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ([-24.0, 50.0, 30.0], "other side of the midline"),
        ([95.0, 50.0, 30.0], "lateral of the left seat's middle"),
        ([22.0, 50.0, -60.0], "below the wing's middle"),
    ],
)
def test_a_rod_that_misses_its_post_is_refused(case, head, words):
    wrong = {**case.rod_targets, "left": np.array(head)}
    with pytest.raises(PlanError, match=f"left rod misses its post: .*{words}"):
        design(replace(case, rod_targets=wrong), COARSE)


def test_normals_need_not_be_of_unit_length(case):
    # A plane normalises, so the seats are the same to rounding; a frame that is no frame is named.
    stretched = tuple(
        WingSeat(s.side, Plane(s.plane.point, 1.003 * s.plane.normal), s.hip) for s in case.seats
    )
    one, other = (
        find_seats(localise(c), COARSE, c.axes) for c in (case, replace(case, seats=stretched))
    )
    for side in ("left", "right"):
        assert np.linalg.norm(other.wings[side].plane.normal) == pytest.approx(1.0, abs=1e-12)
        assert other.wings[side].seat.area_mm2 == pytest.approx(
            one.wings[side].seat.area_mm2, rel=1e-12
        )
    with pytest.raises(GeometryError, match="'L5 inferior endplate' are not right-handed"):
        AxisFrame("L5 inferior endplate", np.zeros(3), 1.003 * np.eye(3))


def test_nerves_notch_and_a_thick_rod(case, implant):
    # A root over the front of the left wing, which the first design meets; the notch under its seat.
    at = implant.core.centroid + [30.0, -8.0, 0.0]
    root = cylinder(at + [0.0, 0.0, -40.0], at + [0.0, 0.0, 40.0], 3.0)
    assert overlap_mm3(implant.core, root) > 10
    notch = case.seat("left").plane.point + np.array([0.0, 0.0, -20.0])
    crowded = replace(
        case,
        nerves={"root_L5_left": root},
        notches={"left": notch},
        sockets={"left": (notch + np.array([40.0, 0.0, -60.0]), 25.0)},
    )
    result = design(crowded, replace(COARSE, rod_diameter_mm=6.35))
    assert figure(result, "clearance.root_L5_left_mm") > 1.0
    assert figure(result, "load_path.wing_left.least_area_mm2") > 95
    assert figure(result, "clearance.socket_left_mm") > 5.0
    low = result.porous["wing_left"].vertices
    on = np.abs(case.seat("left").plane.distance(low)) < 1e-6
    assert low[on, 2].min() > notch[2] + COARSE.notch_clearance_mm - 0.3
    for post in result.posts:
        assert post.diameter == 6.35
        rod = cylinder(post.centre - 8.0 * post.axis, case.rod_targets[post.side], 0.5 * 6.35)
        assert overlap_mm3(result.core, rod) < 1e-6


@pytest.mark.parametrize("rod", [5.5, 6.0, 6.35])
def test_saddles_leave_every_rod_its_clearance(rod):
    up, back = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    post = RodPost("post", "left", np.zeros(3), up, back, rod)
    slot = union(*post_cutters(post, 30.0 * up, "LPS"))
    clearance = evidence.value("SP-IMP-06", "slot_clearance")
    free = section(slot, Plane(5.0 * up, up))
    width = np.concatenate(free.loops) @ (free.axes[:, :2].T @ np.array([1.0, 0.0, 0.0]))
    assert np.ptp(width) == pytest.approx(rod + clearance, abs=0.05)
    # What is left of the tulip beside the rod is more than the structural wall [AM-02].
    assert 0.5 * (evidence.value("SP-IMP-06", "outer_diameter") - rod - clearance) > 3.0


def test_a_heavy_implant_is_hollowed_down_to_the_limit(case, implant):
    wanted = 0.88 * figure(implant, "mass_ratio")
    hollow = design(case, replace(COARSE, mass_ratio=wanted))
    assert figure(hollow, "mass_ratio") < 1.03 * wanted
    assert figure(hollow, "hollow.openings") >= 2
    assert figure(hollow, "enclosed_voids") == 0
    assert hollow.core.body_count() == 1
    assert figure(hollow, "wall_mm") > 1.0
    for side in ("left", "right"):
        assert figure(hollow, f"load_path.wing_{side}.least_area_mm2") > 95
        assert figure(hollow, f"wing_{side}.contact_mm2") == pytest.approx(
            figure(implant, f"wing_{side}.contact_mm2"), rel=0.01
        )
