"""The two-wing implant in a real pelvis."""

import numpy as np
import pytest
from implant_cases import vhm_case

from sacroplan.geometry.booleans import overlap_mm3
from sacroplan.implant.two_wing import design


@pytest.mark.shared
def test_total_sacrectomy_of_the_visible_human(shared):
    case = vhm_case(shared)
    implant = design(case)
    figures = {k.removeprefix("implant."): m.value for k, m in implant.metrics().items()}
    assert [d.code for d in implant.doubts] == []
    assert all(m.within is not False for m in implant.metrics().values())
    for solid in (implant.core, *implant.porous.values()):
        assert solid.is_closed
        assert solid.body_count() == 1
        for bone in (case.l5, *(s.hip for s in case.seats)):
            assert overlap_mm3(solid, bone) < 0.3
    # The bone is nearly symmetric, so is its implant.
    assert figures["balance"] > 0.98
    assert figures["wing_left.coverage_percent"] > 60
    assert figures["mass_g"] < figures["resected_bone.mass_g"]
    assert 120 < figures["size.width_mm"] < 180
    assert figures["L5.gap_mm"] == pytest.approx(0.15, abs=0.03)
    assert figures["suture_holes.count"] >= 8
    left, right = (
        sorted((s for s in implant.wing_screws if s.side == side), key=lambda s: s.name)
        for side in ("left", "right")
    )
    for a, b in zip(left, right, strict=True):
        assert np.linalg.norm(a.tip - b.tip * [-1, 1, 1]) < 10
