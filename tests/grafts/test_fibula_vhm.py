"""Struts on real bone: the Visible Human Male's pelvis and both Visible Human fibulae."""

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.anatomy.landmarks import find
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.booleans import overlap_mm3
from sacroplan.geometry.frames import Plane
from sacroplan.grafts.donor import donor_of
from sacroplan.grafts.fibula import plan_fibula, ways_between
from sacroplan.grafts.sawguide import saw_guide
from sacroplan.grafts.seats import endplate_seat, sawn_seat
from sacroplan.resection.plan import plan_resection
from sacroplan.resection.presets import Choice
from sacroplan.resection.site import Site

pytestmark = pytest.mark.shared

UP = np.array([0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def male(shared):
    folder = shared / "data" / "vhm_meshes"
    bones = {
        n: read_stl(folder / f"{n}.stl") for n in ("L4", "L5", "sacrum", "hip_left", "hip_right")
    }
    found = find(bones, np.eye(3))
    return found, bones, plan_resection(Site(bones, found.frames, found.points), Choice("total"))


@pytest.mark.parametrize("name", ["vhm_fibula_left", "vhf_fibula_left"])
def test_struts_from_l5_to_both_ilia_of_a_real_pelvis(male, shared, name):
    found, bones, plan = male
    donor = donor_of(read_stl(shared / "data" / "vh_surfaces" / f"{name}.stl"), UP)
    axes, endplate = found.frames["pelvis"].axes, found.frames["L5IEP"]
    plate = Plane(endplate.origin, -endplate.axes[:, 1], bones["L5"].frame)
    ways = []
    for side in ("left", "right"):
        cut = plan.cut(f"iliac_{side}")
        hip = plan.remnants[f"hip_{side}"]
        top = endplate_seat(f"L5_{side}", bones["L5"], plate, axes[:, 2], side, 1.5)
        foot = sawn_seat(f"ilium_{side}", hip, cut.remnant_face, cut.outline)
        ways += ways_between(top, foot, -axes[:, 1], donor.radius_mm + 0.5, 1, side)
    struts = plan_fibula(donor, ways, -axes[:, 1])
    low, high = donor.window_mm
    assert struts.harvest_mm[0] >= low - 0.1
    assert struts.harvest_mm[1] <= high
    assert struts.needed_mm <= evidence.span("FIB-01", "length")[1]
    for s in struts.segments:
        # Acceptance: 80 % of the end face within 0.3 mm, at least the minimum length.
        assert min(c.share_percent for c in s.contact) >= evidence.value("SP-GRAFT-04", "share")
        assert s.length_mm >= evidence.span("FIB-07", "segment")[0]
        assert s.surface.is_closed
        assert s.milled_mm[0] <= evidence.value("SP-GRAFT-04", "deepest_seat")
        assert s.milled_mm3 < 1500.0
        assert s.buckling_n > 500.0
    assert overlap_mm3(struts.segments[0].surface, struts.segments[1].surface) < 1.0
    guide = saw_guide(struts, np.array([1.0, 0.0, 0.0]))
    assert guide.surface.is_closed
    assert guide.surface.body_count() == 1
    assert overlap_mm3(guide.surface, donor.surface) < 1.0
