"""K-wires against spaces that the bone closes off, against each other, and the seat's gaps."""

import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.geometry import booleans
from sacroplan.geometry.frames import Plane
from sacroplan.geometry.primitives import cylinder, prism
from sacroplan.guides.request import GuideParameters
from sacroplan.guides.seat import SEAT_GRID_MM, Gaps, GuideFrame
from sacroplan.guides.wires import WireRules, Zone, _apart, choose

P = GuideParameters()


def rules(**change):
    own = {
        "diameter_mm": P.wire_mm, "sleeve_height_mm": P.sleeve_height_mm,
        "purchase_mm": P.purchase_mm, "cortices_mm": P.cortices_mm, "depth_mm": P.wire_depth_mm,
        "protrusion_mm": P.protrusion_mm, "angle_deg": P.wire_angle_deg,
        "tilt_deg": P.wire_tilt_deg, "distance_mm": P.kerf_distance_mm,
        "enclosed_mm": P.enclosed_mm, "apart_mm": P.wires_apart_mm,
    }  # fmt: skip
    return WireRules(**(own | change))


def slab(low, high):
    square = np.array([[-40.0, -40.0], [40.0, -40.0], [40.0, 40.0], [-40.0, 40.0]])
    return prism([square], np.zeros(3), np.eye(3), low, high, "LPS")


def zones(spots):
    n = 5
    step = np.stack(np.meshgrid(np.linspace(-2, 2, n), np.linspace(-2, 2, n)), -1).reshape(-1, 2)
    out = []
    for name, x, y in spots:
        points = np.column_stack([step + [x, y], np.zeros(len(step))])
        up = np.tile([0.0, 0.0, 1.0], (len(points), 1))
        out.append(Zone(name, points, up, np.zeros(len(points)), np.array([1.0, 0.0, 0.0])))
    return out


SPOTS = (("cranial", 15.0, 10.0), ("lateral", 0.0, 20.0), ("caudal", -15.0, 10.0))
CUT = Plane(np.zeros(3), np.array([0.0, -1.0, 0.0]))
FRAME = GuideFrame(np.zeros(3), np.eye(3))


def picked(bone, spots=SPOTS, **change):
    return choose(zones(spots), bone, CUT, 1.25, (), FRAME, rules(**change))


def test_a_plate_is_pinned_through_both_cortices():
    wires = picked(slab(-5.0, 0.0))
    assert all(w.bicortical for w in wires)
    assert all(w.end[2] < -5.0 for w in wires)


def test_no_wire_comes_out_in_a_canal():
    # The same plate, with more of the same bone 15 mm behind it: the roof and floor of a canal.
    whole = slab(-40.0, 0.0)
    canal = cylinder([0, -60, -12.5], [0, 60, -12.5], 7.5, 64)
    wide = slab(-20.0, -5.0)
    tunnel = booleans.difference(whole, wide.subset(np.ones(len(wide.faces), dtype=bool)))
    with pytest.raises(PlanError, match="no canal behind"):
        picked(tunnel)
    # Beside a round canal under 5 mm of roof there is bone for them.
    wires = picked(
        booleans.difference(whole, canal),
        (("cranial", 20.0, 10.0), ("lateral", 18.0, 22.0), ("caudal", -20.0, 10.0)),
    )
    for wire in wires:
        path = wire.entry + np.linspace(0, 1, 60)[:, None] * (wire.end - wire.entry)
        assert np.hypot(path[:, 0], path[:, 2] + 12.5).min() > 7.5


def test_wires_do_not_meet():
    here = tuple((name, 0.0, 20.0) for name, _, _ in SPOTS)
    with pytest.raises(PlanError, match="would meet"):
        picked(slab(-40.0, 0.0), here)


def test_distance_of_two_wires():
    cross = np.array([[[0.0, 0, 0], [0, 0, 10.0]]])
    others = np.array(
        [
            [[-5.0, 3, 5], [5, 3, 5]],  # skew, nearest in their middles
            [[2.0, 0, 12], [8, 0, 18]],  # beyond the end
            [[4.0, 0, 0], [4, 0, 10]],  # parallel
            [[-5.0, 0, 5], [5, 0, 5]],  # crossing
        ]
    )
    assert _apart(cross, others)[0] == pytest.approx([3.0, np.sqrt(8.0), 4.0, 0.0], abs=1e-9)


def test_foramina_and_the_canal_are_spanned_and_grooves_are_not():
    gaps = Gaps(P.hole_width_mm, P.hole_depth_mm, P.pit_width_mm, P.pit_depth_mm)
    n = round(80.0 / SEAT_GRID_MM)
    x, y = (SEAT_GRID_MM * v - 40.0 for v in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    bone = np.zeros((n, n))
    hole = np.hypot(x + 15, y + 15) < 3.5
    groove = np.abs(x - 25) < 7.0
    bone[hole], bone[groove] = -14.0, -7.0
    bone[:2] = np.nan
    filled, where = gaps.fill(bone)
    assert where[hole].all()
    assert np.allclose(filled[hole], 0.0)
    assert not where[groove].any()
    assert np.isnan(filled[0]).all()
    canal = np.where(np.abs(x) < 14.0, -17.0, 0.0)
    filled, where = gaps.fill(canal)
    assert np.array_equal(where, canal < -1.0)
    assert np.allclose(filled, 0.0)
    cliff = np.where(x > 0.0, -20.0, 0.0)
    assert not gaps.fill(cliff)[1].any()
