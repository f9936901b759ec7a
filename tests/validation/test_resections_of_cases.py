"""Every preset on eight synthetic patients and two Visible Humans: volumes, exact margins, bones that
must stay whole."""

import igl
import numpy as np
import pytest
from guide_cases import CASES, FEMALE, site_of

from sacroplan.errors import PlanError
from sacroplan.resection.margin import specimen_face
from sacroplan.resection.plan import piece_name, plan_resection
from sacroplan.resection.presets import PRESETS

pytestmark = pytest.mark.slow


def both_ways(face, tumour):
    """Least distance of finely sampled meshes."""
    best = np.inf
    for a, b in ((face, tumour), (tumour, face)):
        t = a.triangles
        i, j = np.meshgrid(np.arange(5), np.arange(5))
        w = np.stack([i[i + j <= 4], j[i + j <= 4]], 1) / 4
        w = np.concatenate([w, 1 - w.sum(1, keepdims=True)], 1)
        big = np.linalg.norm(a.area_vectors, axis=1) > 0.02
        points = np.concatenate([a.vertices, np.einsum("kc,ncx->nkx", w, t[big]).reshape(-1, 3)])
        best = min(
            best, float(igl.point_mesh_squared_distance(points, b.vertices, b.faces)[0].min())
        )
    return best**0.5


@pytest.mark.parametrize("case", CASES)
def test_every_preset(case, shared):
    site = site_of(case, shared)
    tumour = site.tumour
    print(f"\n| {case}: resection | bone cm3 | volume error | margin error mm (cuts) | lost |")
    measured = 0
    for name, choice in PRESETS.items():
        try:
            plan = plan_resection(site, choice)
        except PlanError as error:
            # A CT that ends above the pubis has no place for the cuts through it; that is said.
            if case != FEMALE or choice.kind != "hemipelvectomy" or "PT_" not in str(error):
                pytest.fail(f"{name}: {error}")
            print(f"| {name} | does not apply: {error} |", flush=True)
            continue
        gone = {b: plan.specimen[piece_name(b, plan.cuts)] for b in plan.whole_mm3}
        error = max((plan.volume_error(b) for b in plan.whole_mm3), default=0.0)
        # Where the tumour crosses a cut its margin is a depth; only distances are measured again.
        clear = [m for m in plan.margins if m.minimum_mm > 0]
        off = [
            abs(m.minimum_mm - both_ways(specimen_face(plan.cut(m.cut), gone), tumour.surface))
            for m in clear
        ]
        measured += len(off)
        print(
            f"| {name} | {plan.specimen_mm3 / 1000:.0f} | {error:.1e} | "
            f"{max(off, default=0.0):.4f} ({len(off)} of {len(plan.margins)}) | "
            f"{plan.losses.root_words('lost')} |",
            flush=True,
        )
        assert error < 1e-6
        assert max(off, default=0.0) < 0.05
        for bone in plan.whole_mm3:
            area = sum(c.area_mm2 for c in plan.cuts if c.bone == bone)
            assert plan.kerf_mm3[bone] == pytest.approx(area * 1.25, rel=0.1)
        for side in ("left", "right"):
            if plan.kind == "hemipelvectomy" and side == plan.choice.side:
                continue
            hip = site.bones[f"hip_{side}"].vertices
            head = site.points[f"HJC_{side[0].upper()}"]
            near = hip[np.linalg.norm(hip - head, axis=1) < 35.0]
            assert np.all(np.isin(near[:, 0], plan.remnants[f"hip_{side}"].vertices[:, 0]))
    assert measured >= len(PRESETS)
