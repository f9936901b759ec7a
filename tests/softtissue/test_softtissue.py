"""Dead space, cover and flaps on solids whose volumes and distances are known exactly."""

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.frames import AxisFrame, Rigid
from sacroplan.geometry.primitives import box, sphere, tube
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.softtissue.cover import back_of, cover, cover_doubts, skin
from sacroplan.softtissue.deadspace import dead_space
from sacroplan.softtissue.flaps import flap_table

ORIGIN = AxisFrame("test", np.zeros(3), np.eye(3))
BACK = np.array([0.0, 1.0, 0.0])
BALL = 4.0 / 3.0 * np.pi


def turned(degrees=25.0):
    a, k = np.radians(degrees), np.array([1.0, 2.0, 2.0]) / 3.0
    x = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    return Rigid(np.eye(3) + np.sin(a) * x + (1 - np.cos(a)) * x @ x, np.array([30.0, -7, 12]))


@pytest.mark.parametrize("rigid", [Rigid(np.eye(3), np.zeros(3)), turned()])
def test_dead_space_is_what_was_taken_less_what_is_put_back(rigid):
    sacrum = box(ORIGIN, [-50, -30, -60], [50, 30, 60]).transformed(rigid)
    implant = box(ORIGIN, [-30, -15, 10], [30, 15, 50]).transformed(rigid)
    graft = sphere([0, 0, -30], 14.0, rings=60).transformed(rigid)
    back = rigid.directions(BACK)
    found = dead_space([sacrum], [implant, graft], back)
    exact = 100 * 60 * 120 - 60 * 30 * 40 - BALL * 14**3
    # Acceptance: 2 %. What is left is the rounding of edges on a 1.5 mm grid.
    assert found.volume_mm3 == pytest.approx(exact, rel=0.01)
    assert found.removed_mm3 == pytest.approx(100 * 60 * 120, rel=0.005)
    assert found.filled_mm3 == pytest.approx(60 * 30 * 40 + BALL * 14**3, rel=0.02)
    assert found.area_mm2 == pytest.approx(100 * 120, rel=0.08)
    assert (found.farthest - rigid.points(np.zeros(3))) @ back == pytest.approx(30.0, abs=1.6)
    assert found.surface.volume_mm3 == pytest.approx(exact, rel=0.02)


def test_soft_margin_walls_and_skin_bound_the_space():
    bone = box(ORIGIN, [-40, -20, -40], [40, 20, 40])
    tumour = sphere([0, -60, 0], 15.0, rings=60)
    # The margin's ball of 35 mm is cut by the bone it meets and by the skin at y = -80.
    body = box(ORIGIN, [-200, -80, -200], [200, 200, 200])
    found = dead_space([bone], [], BACK, tumour, 20.0, body=body)

    def cap(h, r=35.0):
        return np.pi * h * h * (3 * r - h) / 3

    # The ball reaches y = -95 to -25: 15 mm of it lie outside the skin, none inside the bone.
    exact = 80 * 40 * 80 + BALL * 35**3 - cap(15.0)
    assert found.volume_mm3 == pytest.approx(exact, rel=0.01)
    wall = box(ORIGIN, [0, -200, -200], [300, -20, 200])
    walled = dead_space([bone], [], BACK, tumour, 20.0, [wall], body)
    assert walled.volume_mm3 == pytest.approx(
        80 * 40 * 80 + 0.5 * (BALL * 35**3 - cap(15.0)), rel=0.01
    )


def test_a_finer_grid_converges():
    bone, implant = sphere([0, 0, 0], 40.0, rings=90), sphere([5, 5, 0], 25.0, rings=90)
    exact = BALL * (40**3 - 25**3)
    errors = [
        abs(dead_space([bone], [implant], BACK, grid_mm=h).volume_mm3 / exact - 1)
        for h in (4, 2, 1)
    ]
    assert errors[2] < 0.002
    assert errors[2] < errors[0]


def test_nothing_removed_and_nothing_left():
    with pytest.raises(PlanError, match="No bone is removed"):
        dead_space([], [], BACK)
    small, large = sphere([0, 0, 0], 10.0), sphere([0, 0, 0], 14.0)
    found = dead_space([small], [large], BACK)
    assert found.volume_mm3 == 0.0
    assert found.surface is None


def body_ct(spacing=2.0):
    """A cylinder of tissue of 100 mm radius in air, with a table behind it and gas inside."""
    n = np.array([130, 130, 60])
    g = VolumeGeometry(tuple(n), np.full(3, spacing), -0.5 * (n - 1) * spacing)
    i = g.to_world(np.argwhere(np.ones(g.shape, bool)).astype(float)).reshape(*g.shape, 3)
    r = np.hypot(i[..., 0], i[..., 1])
    hu = np.where(r < 100, 40, -1000).astype(np.int16)
    hu[np.hypot(i[..., 0] - 30, i[..., 1]) < 15] = -900
    hu[(np.abs(i[..., 1] - 118) < 4)] = 200
    return Volume(g, hu)


def test_skin_is_the_body_without_table_and_gas():
    found = skin(body_ct())
    r = np.hypot(found.vertices[:, 0], found.vertices[:, 1])
    ends = np.abs(found.vertices[:, 2]) > 55
    assert np.abs(r[~ends] - 100).max() < 3.0
    # 120 mm of a full cylinder: no hole where the gas is.
    assert found.volume_mm3 == pytest.approx(np.pi * 100**2 * 120, rel=0.05)


def test_where_the_image_ends_is_no_skin():
    volume = body_ct()
    found = back_of(skin(volume), volume)
    r = np.hypot(found.vertices[:, 0], found.vertices[:, 1])
    assert np.abs(r - 100).max() < 3.0
    # A rod leaning towards the image's upper end: rays that leave there tell nothing.
    lean = np.array([0.0, 0.8, 0.6])
    height = np.linspace(-50.0, 52.0, 60)
    rod = tube(np.stack([0 * height, 20 + 0 * height, height], axis=1), 3.0)
    seen = cover(rod, found, lean)
    assert seen.least_mm > 60.0
    capped = cover(rod, skin(volume), lean)
    assert capped.least_mm < 15.0


def test_cover_is_the_distance_to_the_skin():
    body = box(ORIGIN, [-150, -100, -150], [150, 100, 150])
    rod = box(ORIGIN, [-3, 60, -50], [3, 66, 50])
    found = cover(rod, body, BACK)
    assert found.least_mm == pytest.approx(34.0, abs=1e-6)
    assert found.thin_percent == 0.0
    assert not cover_doubts({"rod": found})
    shallow = cover(box(ORIGIN, [-3, 80, -50], [3, 88, 50]), body, BACK)
    assert shallow.least_mm == pytest.approx(12.0, abs=1e-6)
    assert shallow.thin_percent == pytest.approx(100.0)
    (doubt,) = cover_doubts({"rod": shallow})
    assert "12 mm" in doubt.message
    with pytest.raises(PlanError, match="no skin"):
        cover(box(ORIGIN, [-3, 180, -50], [3, 188, 50]), body, BACK)


def space_at(centre, half=20.0):
    at = AxisFrame("at", np.asarray(centre, float), np.eye(3))
    return dead_space([box(at, [-half] * 3, [half] * 3)], [], BACK, grid_mm=2.0)


def test_flaps_reach_by_their_own_length():
    points = {
        "GSN_L": np.array([60.0, 20, 0]), "GSN_R": np.array([-60.0, 20, 0]),
        "ASIS_L": np.array([120.0, -80, 60]), "PT_L": np.array([20.0, -100, -60]),
        "HJC_L": np.array([90.0, -20, -40]),
    }  # fmt: skip
    space = space_at([0, 40, 0])
    table = {f.flap: f for f in flap_table(space, points, amputation=False)}
    left = table["vram_left"]
    origin = 0.5 * (points["ASIS_L"] + points["PT_L"])
    assert left.needed_mm == pytest.approx(np.linalg.norm(space.farthest - origin))
    low, high = evidence.span("SOFT-4", "length")
    assert left.reach_mm == (low, high)
    assert left.reaches == ("yes" if left.needed_mm <= low else "with luck")
    # Landmarks of the right side are missing: that is unknown, not no.
    assert table["vram_right"].reaches == "unknown"
    assert table["omentum"].reaches == "unknown"
    far = {f.flap: f for f in flap_table(space_at([0, 400, 0]), points, amputation=False)}
    assert far["vram_left"].reaches == "no"
    assert "fillet" not in table
    assert "fillet" in {f.flap for f in flap_table(space, points, amputation=True)}
    need = space.area_mm2 / 100.0
    assert table["gluteal_left"].area_needed_cm2 == pytest.approx(need)
    assert table["gluteal_left"].covers == "yes"
    assert table["thigh"].fills == "yes"  # 64 cm3 against 150 to 400
    assert table["gluteal_left"].fills == "unknown"
    big = {f.flap: f for f in flap_table(space_at([0, 40, 0], 60.0), points)}
    assert big["thigh"].fills == "no"  # 1728 cm3
