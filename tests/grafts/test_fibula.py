"""Struts of fibula: the handbook's mechanics, the harvest, cuts and contact on phantoms and real bone."""

import numpy as np
import pytest
from graft_shapes import DOWN, ORIGIN, RADIUS, donor, fibula, seats

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.booleans import overlap_mm3
from sacroplan.geometry.primitives import box
from sacroplan.grafts.donor import donor_of
from sacroplan.grafts.fibula import plan_fibula, ways_between
from sacroplan.grafts.strut import bearing_mpa, euler_n, figures_of, ring, shear_and_axial_n


@pytest.mark.parametrize(
    ("k", "length", "printed_kn"),
    [(1, 60, 63.9), (1, 80, 36.0), (1, 100, 23.0), (1, 150, 10.2), (2, 150, 2.56)],
)
def test_buckling_of_the_handbook(k, length, printed_kn):
    tube = ring(13.0, 5.0)
    assert tube.i_min_mm4 == pytest.approx(1371, rel=1e-3)
    assert tube.area_mm2 == pytest.approx(113.1, rel=1e-3)
    modulus = 1000.0 * evidence.value("SP-GRAFT-02", "modulus")
    found = euler_n(modulus, tube.i_min_mm4, length, k)
    assert found == pytest.approx(np.pi**2 * 17000 * 1371 / (k * length) ** 2, rel=1e-3)
    # The handbook prints three digits.
    assert float(f"{found / 1000:.3g}") == pytest.approx(printed_kn)


def test_bearing_and_shear_of_the_handbook():
    assert bearing_mpa(500.0, ring(13.0, 5.0).area_mm2) == pytest.approx(500 / 113.1, rel=1e-3)
    assert evidence.value("SP-GRAFT-03", "pressure") == pytest.approx(4.4)
    shear, axial = shear_and_axial_n(500.0, 30.0)
    assert (shear, axial) == pytest.approx((250.0, 433.0), rel=1e-3)
    with pytest.raises(PlanError, match="touches nothing"):
        bearing_mpa(500.0, 0.0)


def test_second_moments_of_polygons_are_exact():
    rectangle = np.array([[0, 0], [30, 0], [30, 10], [0, 10.0]])
    f = figures_of([rectangle + [7, -4]])
    assert (f.area_mm2, f.i_min_mm4, f.i_max_mm4) == pytest.approx((300, 2500, 22500))
    c, s = np.cos(0.6), np.sin(0.6)
    g = figures_of([rectangle @ np.array([[c, s], [-s, c]])])
    assert (g.i_min_mm4, g.i_max_mm4) == pytest.approx((2500, 22500))
    a = 2 * np.pi * np.arange(720) / 720
    circle = np.stack([np.cos(a), np.sin(a)], axis=1)
    hollow = figures_of([6.5 * circle, 2.5 * circle[::-1]])
    # A 720-gon lacks 1e-5 of the circle's area.
    assert hollow.i_min_mm4 == pytest.approx(ring(13, 5).i_min_mm4, rel=1e-4)
    solid = figures_of([6.5 * circle]).without_medulla(5.0)
    assert solid.i_min_mm4 == pytest.approx(ring(13, 5).i_min_mm4, rel=1e-4)
    with pytest.raises(PlanError, match="does not fit"):
        solid.without_medulla(14.0)


def test_the_donor_is_measured_and_its_window_kept():
    d = donor(length=360.0, bend_mm=4.0)
    # The ends are square to the bowed shaft, so their rims stand 0.2 mm out.
    assert d.length_mm == pytest.approx(360.0, abs=0.6)
    assert d.window_mm == pytest.approx((60.0, d.length_mm - 40.0))
    assert d.axis @ [0, 0, 1] > 0.999
    # Middle of the bow: 4 mm off the line of the ends.
    middle = d.centre(180.0)
    assert np.linalg.norm(middle - [4.0, 0, 180.0]) < 0.25
    end = d.chord_end(80.0, 70.0)
    assert np.linalg.norm(d.centre(end) - d.centre(80.0)) == pytest.approx(70.0, abs=0.02)
    flipped = donor_of(fibula(), np.array([0.1, 0.2, -1.0]))
    assert flipped.axis @ [0, 0, 1] < -0.999


def check(plan, count):
    low, high = plan.donor.window_mm
    assert len(plan.segments) == count
    assert plan.harvest_mm[0] >= low - 0.1
    assert plan.harvest_mm[1] <= high
    assert plan.needed_mm <= plan.available_mm
    least, share = evidence.span("FIB-07", "segment")[0], evidence.value("SP-GRAFT-04", "share")
    for s in plan.segments:
        assert s.length_mm >= least
        assert min(c.share_percent for c in s.contact) >= share
        assert s.surface.is_closed
        assert s.surface.body_count() == 1
    for a, b in zip(plan.segments, plan.segments[1:], strict=False):
        # Bone between two segments is taken out; the fold's periosteum spans it.
        gap = b.stations_mm[0] - a.stations_mm[1]
        assert gap >= evidence.span("FIB-07", "fold_gap")[0]
        assert np.linalg.norm(a.way.end - b.way.start) <= gap + 1e-6
    for n, a in enumerate(plan.segments):
        for b in plan.segments[n + 1 :]:
            assert overlap_mm3(a.surface, b.surface) < 1.0


@pytest.mark.parametrize(("per_side", "height"), [(1, 80.0), (2, 44.0)])
def test_struts_from_l5_to_both_ilia(per_side, height):
    ways = []
    for side, (top, foot) in seats(height).items():
        ways += ways_between(top, foot, DOWN, RADIUS + 0.5, per_side, side)
    plan = plan_fibula(donor(length=440.0), ways, DOWN)
    check(plan, 2 * per_side)
    for s in plan.segments:
        foot = s.way.distal if s.way.distal.name.startswith("ilium") else s.way.proximal
        # The end's middle lies on the flat, and the piece nowhere beyond it.
        assert foot.plane.distance(s.surface.vertices).min() > -1e-6
        assert abs(foot.plane.distance(s.way.start if foot is s.way.distal else s.way.end)) < 1e-6
        cosine = abs(s.way.axis @ DOWN)
        assert s.angle_deg == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-6)
        assert s.angle_deg < 30.0
    # A round phantom: outer second moment pi/64 d^4 less the medulla's, in a 64-gon within 0.5 %.
    inner = evidence.value("FIB-05", "medulla")
    exact = ring(2 * RADIUS, inner).i_min_mm4
    assert plan.segments[0].section.i_min_mm4 == pytest.approx(exact, rel=1e-2)
    metrics = plan.metrics()
    assert metrics["grafts.fibula.needed_mm"].within
    assert metrics["grafts.fibula.segments"].value == 2 * per_side


def test_cut_angles_are_those_of_the_flats():
    top, foot = seats()["left"]
    (way,) = ways_between(top, foot, DOWN, RADIUS + 0.5, 1, "left")
    (s,) = plan_fibula(donor(bend_mm=0.0), [way], DOWN).segments
    upper = np.degrees(np.arccos(abs(s.way.axis @ top.plane.normal)))
    lower = np.degrees(np.arccos(abs(s.way.axis @ foot.plane.normal)))
    ends = dict(zip((s.way.distal.name, s.way.proximal.name), s.cut_angles_deg, strict=True))
    assert ends["L5_left"] == pytest.approx(upper, abs=0.05)
    assert ends["ilium_left"] == pytest.approx(lower, abs=0.05)
    # A prism's volume is its section times its length between the middles of its faces.
    area = 0.5 * 64 * np.sin(2 * np.pi / 64) * RADIUS**2
    assert s.surface.volume_mm3 == pytest.approx(area * s.length_mm, rel=2e-3)


def test_what_cannot_be_harvested_is_said():
    ways = []
    for side, (top, foot) in seats().items():
        ways += ways_between(top, foot, DOWN, RADIUS + 0.5, 2, side)
    with pytest.raises(PlanError, match="may be harvested"):
        plan_fibula(donor(length=440.0), ways[:3], DOWN)
    with pytest.raises(PlanError, match="does not hold a segment"):
        plan_fibula(donor(length=300.0), ways, DOWN)
    with pytest.raises(PlanError, match="one to four"):
        plan_fibula(donor(), [], DOWN)
    with pytest.raises(PlanError, match="too small for a strut"):
        ways_between(*seats()["left"], DOWN, 40.0, 1, "wide")
    with pytest.raises(PlanError, match="not a long bone"):
        donor_of(box(ORIGIN, [0, 0, 0], [100, 80, 90]), DOWN)
    with pytest.raises(PlanError, match="across the donor"):
        donor_of(fibula(), np.array([1.0, 0, 0]))
    with pytest.raises(PlanError, match="Check that the"):
        donor_of(fibula(length=150.0), np.array([0.0, 0, 1]))


def test_vessels_that_do_not_reach_raise_a_doubt():
    top, foot = seats()["left"]
    ways = ways_between(top, foot, DOWN, RADIUS + 0.5, 1, "left")
    far = plan_fibula(donor(), ways, DOWN, recipient=np.array([400.0, 0, 0]))
    near = plan_fibula(donor(), ways, DOWN, recipient=ways[0].end + [30.0, 0, 0])
    codes = lambda p: {d.code for d in p.doubts}  # noqa: E731
    assert "grafts.fibula.pedicle" in codes(far)
    assert "grafts.fibula.pedicle" not in codes(near)
    assert "grafts.fibula.arteries" in codes(near)
    # Discarded proximal bone lengthens the vessels: base 40 mm plus what lies above, at most 150.
    base, most = evidence.value("FIB-03", "length"), evidence.value("FIB-03", "longest")
    above = near.donor.window_mm[1] - near.harvest_mm[1]
    assert near.pedicle_mm == pytest.approx(min(base + above, most))


def test_a_flat_strut_raises_shear():
    top, foot = seats()["left"]
    side = ways_between(top, foot, np.array([1.0, 0, 0]), RADIUS + 0.5, 1, "left")
    plan = plan_fibula(donor(), side, np.array([1.0, 0, 0]))
    assert "grafts.fibula.left.angle" in {d.code for d in plan.doubts}


def test_a_seat_off_the_bone_is_told_from_one_on_it():
    from dataclasses import replace

    top, foot = seats()["left"]
    (way,) = ways_between(top, foot, DOWN, RADIUS + 0.5, 1, "left")
    edge = foot.region.to_world(np.concatenate(foot.region.loops))[0]
    off = replace(way, start=edge)
    good, bad = (plan_fibula(donor(), [w], DOWN).segments[0] for w in (way, off))
    assert min(c.share_percent for c in good.contact) > 99
    # Centred on a corner a quarter of the face lies on the bone.
    assert min(c.share_percent for c in bad.contact) == pytest.approx(25, abs=8)
