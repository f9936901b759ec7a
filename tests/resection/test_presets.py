"""Every preset on the Visible Human Male: volumes, exact margins, what is lost, what is refused."""

from dataclasses import replace

import igl
import numpy as np
import pytest

from sacroplan.anatomy.landmarks import find
from sacroplan.errors import PlanError
from sacroplan.formats.markups import read_planes, write_planes
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.frames import AxisFrame, Plane, Rigid
from sacroplan.geometry.primitives import cylinder, sphere
from sacroplan.report.resection import vessel_table
from sacroplan.resection.audit import audit
from sacroplan.resection.margin import specimen_face
from sacroplan.resection.plan import OwnCut, moved, piece_name, plan_resection
from sacroplan.resection.presets import PRESETS, Choice
from sacroplan.resection.propose import propose
from sacroplan.resection.rehearsal import order
from sacroplan.resection.site import Site
from sacroplan.resection.tumour import Ellipsoid, Tumour, tumour_from_shapes

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def male(shared):
    folder = shared / "data" / "vhm_meshes"
    names = ("L4", "L5", "sacrum", "hip_left", "hip_right")
    bones = {n: read_stl(folder / f"{n}.stl") for n in names}
    found = find(bones, np.eye(3))
    return bones, found


def with_tumour(male, level, right_mm, radius=9.0):
    bones, found = male
    bare = Site(bones, found.frames, found.points)
    centre = bare.middle(level) + right_mm * bare.right
    tumour = tumour_from_shapes((Ellipsoid(centre, np.full(3, radius)),), bare.frame, "test")
    return Site(bones, found.frames, found.points, tumour)


@pytest.fixture(scope="module")
def right_sided(male):
    """A tumour of the right hemisacrum that leaves the midline alone."""
    return with_tumour(male, 1.6, 24.0)


@pytest.fixture(scope="module")
def plans(right_sided):
    return {n: plan_resection(right_sided, c) for n, c in PRESETS.items()}


def mesh_distance(face, tumour):
    """An independent distance: both meshes sampled finely, each to the other's triangles."""
    best = np.inf
    for a, b in ((face, tumour), (tumour, face)):
        t = a.triangles
        size = np.linalg.norm(t - np.roll(t, 1, axis=1), axis=2).max(axis=1)
        points = [a.vertices]
        for k in (2, 6, 20):
            some = t[(size > 0.4) if k == 2 else (size > 2.0) if k == 6 else (size > 8.0)]
            i, j = np.meshgrid(np.arange(k + 1), np.arange(k + 1))
            w = np.stack([i[i + j <= k], j[i + j <= k]], 1) / k
            w = np.concatenate([w, 1 - w.sum(1, keepdims=True)], 1)
            points.append(np.einsum("kc,ncx->nkx", w, some).reshape(-1, 3))
        d2 = igl.point_mesh_squared_distance(np.concatenate(points), b.vertices, b.faces)[0]
        best = min(best, float(np.min(d2)) ** 0.5)
    return best


@pytest.mark.parametrize("name", PRESETS)
def test_volumes_margins_and_bones_that_must_not_be_touched(name, plans, right_sided):
    plan, bones = plans[name], right_sided.bones
    assert plan.specimen
    gone = {b: plan.specimen[piece_name(b, plan.cuts)] for b in plan.whole_mm3}
    for bone in plan.whole_mm3:
        assert plan.volume_error(bone) < 1e-6
        cuts = [c for c in plan.cuts if c.bone == bone]
        # A blade that strays would remove more than its kerf times the area it is for.
        area = sum(c.area_mm2 for c in cuts)
        assert plan.kerf_mm3[bone] == pytest.approx(area * cuts[0].kerf_mm, rel=0.08)
    for bone in ("hip_left", "hip_right", "sacrum"):
        if bone not in plan.whole_mm3 and bone in plan.remnants:
            assert plan.remnants[bone] is bones[bone]
    for margin in plan.margins:
        cut = plan.cut(margin.cut)
        exact = mesh_distance(specimen_face(cut, gone), right_sided.tumour.surface)
        if margin.minimum_mm > 0:
            assert margin.minimum_mm == pytest.approx(exact, abs=0.05)
        # The map lies on the outline in the kerf's middle plane; the minimum on the face itself.
        assert margin.distance_mm.min() == pytest.approx(margin.minimum_mm, abs=1.0)
    # The socket of a hip that stays is whole.
    for side in ("left", "right"):
        if plan.kind == "hemipelvectomy" and side == plan.choice.side:
            continue
        head = (
            right_sided.points[f"HJC_{side[0].upper()}"]
            if f"HJC_{side[0].upper()}" in (right_sided.points)
            else right_sided.points[f"AIIS_{side[0].upper()}"]
        )
        hip = bones[f"hip_{side}"].vertices
        near = hip[np.linalg.norm(hip - head, axis=1) < 40.0]
        kept = plan.remnants[f"hip_{side}"].vertices
        assert np.all(np.isin(near[:, 0], kept[:, 0]))


def test_case_2_of_paper_b(plans):
    plan = plans["kaiser-2025-case-2"]
    lost = plan.losses
    # "The right L5-S3 roots were ligated"; the left ones stay.
    assert lost.root_words("lost") == "L5-S3 right"
    assert "L5" in plan.specimen
    assert 35 < lost.l5_percent < 65
    assert lost.joint_percent["right"] > 90
    assert lost.joint_percent["left"] == 0
    # "The right sacroiliac joint was dislocated": no bone of the ilium is sawn.
    assert plan.cut("si_joint_right").kind == "joint"
    assert "hip_right" not in plan.whole_mm3
    assert lost.function["bladder"].percent == (89.0, 89.0)
    assert lost.ligaments["iliolumbar_right"] == "lost"
    assert lost.ligaments["iliolumbar_left"] == "kept"


def test_case_3_of_paper_b(plans):
    plan = plans["kaiser-2025-case-3"]
    lost = plan.losses
    # "To preserve the left S1 root and sacroiliac joint".
    assert lost.roots["S1_left"] == "kept"
    assert lost.root_words("lost") == "S2-S5 left; L5-S5 right"
    assert lost.joint_percent["left"] < 2
    assert lost.joint_percent["right"] == 100
    assert 30 < lost.l5_percent < 65
    assert lost.function["bladder"].percent == (0.0, 0.0)
    assert {"pubis_right", "ischium_right"} < {c.name for c in plan.cuts}
    # The ilium and the socket go, the pubic symphysis stays.
    assert plan.specimen["hip_right"].volume_mm3 > 4 * plan.remnants["hip_right"].volume_mm3


def test_transverse_cuts_keep_the_roots_above_them(male):
    low_tumour = with_tumour(male, 4.3, 0.0, 5.0)
    high = plan_resection(low_tumour, Choice("high"))
    mid = plan_resection(low_tumour, Choice("mid"))
    low = plan_resection(with_tumour(male, 4.8, 0.0, 3.0), Choice("low", margin_mm=5.0))
    assert high.losses.root_words("lost") == "S2-S5 both sides"
    assert mid.losses.root_words("lost") == "S3-S5 both sides"
    assert low.losses.root_words("lost") == "S4-S5 both sides"
    assert mid.losses.function["bladder"].percent == (25.0, 39.9)
    assert low.losses.function["bowel"].percent == (100.0, 100.0)
    joints = [p.losses.joint_percent["left"] for p in (high, mid, low)]
    assert joints == sorted(joints, reverse=True)


def test_a_tumour_moves_the_cut_up_until_its_margin_is_kept(male):
    site = with_tumour(male, 1.95, 0.0, 8.0)
    free = plan_resection(Site(site.bones, site.frames, site.points), Choice("high"))
    kept = plan_resection(site, Choice("high", margin_mm=8.0))
    assert kept.margins[0].minimum_mm >= 8.0
    assert kept.specimen_mm3 > free.specimen_mm3


def test_the_error_of_an_mri_fusion_is_taken_off_the_margin(plans, right_sided):
    name, sure = next(
        (m.cut, m.minimum_mm)
        for m in plans["total"].margins
        if m.minimum_mm > plans["total"].choice.margin(m.cut) + 1.0
    )
    key = f"resection.margin.{name}.sure_mm"
    assert key not in plans["total"].metrics()
    error = sure - plans["total"].choice.margin(name) + 0.5
    site = replace(right_sided, tumour=replace(right_sided.tumour, error_mm=error))
    plan = plan_resection(site, PRESETS["total"])
    assert plan.metrics()[key].value == pytest.approx(sure - error, abs=1e-9)
    (told,) = [d for d in plan.doubts if d.code == f"resection.margin.{name}.fusion"]
    assert "only if the MRI fusion is right" in told.message


def test_left_and_right_are_mirror_images(male):
    bones, _ = male
    swap = {"hip_left": "hip_right", "hip_right": "hip_left"}
    flip = np.array([-1.0, 1.0, 1.0])
    site = with_tumour(male, 1.6, 24.0)

    def frame(f):
        return AxisFrame(f.name, f.origin * flip, (f.axes * flip[:, None]) * [1.0, 1.0, -1.0])

    def side(name):
        return (
            {"L": name[:-1] + "R", "R": name[:-1] + "L"}[name[-1]]
            if name[-2:] in ("_L", "_R")
            else name
        )

    mirrored = Site(
        {swap.get(n, n): s.mirrored() for n, s in bones.items()},
        {n: frame(f) for n, f in site.frames.items()},
        {side(n): p * flip for n, p in site.points.items()},
        Tumour(site.tumour.surface.mirrored(), "test"),
    )
    a = plan_resection(site, Choice("hemi", "right"))
    b = plan_resection(mirrored, Choice("hemi", "left"))
    assert b.specimen_mm3 == pytest.approx(a.specimen_mm3, rel=2e-3)
    assert [m.minimum_mm for m in b.margins] == pytest.approx(
        [m.minimum_mm for m in a.margins], abs=0.1
    )
    other = {"left": "right", "right": "left"}
    for root, fate in a.losses.roots.items():
        name, s = root.split("_")
        assert b.losses.roots[f"{name}_{other[s]}"] == fate


def test_a_moved_plane_gives_what_a_fresh_plan_gives(plans, right_sided):
    plan = plans["kaiser-2025-case-3"]
    chain = plan.cut("sacral")
    facet = chain.facets[1].plane
    new = Plane(facet.point + 1.5 * facet.normal, facet.normal)
    quick = moved(plan, right_sided, {"sacral.2": new})
    cut = quick.cut("sacral")
    assert abs(cut.facets[1].plane.distance(new.point)) < 1e-6
    assert cut.facets[0].plane.normal == pytest.approx(chain.facets[0].plane.normal)
    fresh = plan_resection(
        right_sided, plan.choice,
        {"sacral": OwnCut(cut.facets[0].plane, "sacrum", cut.profile.points, cut.profile.saw)},
    )  # fmt: skip
    assert fresh.specimen_mm3 == pytest.approx(quick.specimen_mm3, rel=1e-9)
    assert [m.minimum_mm for m in fresh.margins] == pytest.approx(
        [m.minimum_mm for m in quick.margins], abs=1e-6
    )
    assert fresh.losses.roots == quick.losses.roots


def test_planes_go_to_slicer_and_back(plans, right_sided, tmp_path):
    from sacroplan.case.steps.resection import edited, planes_of
    from sacroplan.errors import CaseError

    plan = plans["kaiser-2025-case-3"]
    path = tmp_path / "planes.mrk.json"
    write_planes(planes_of(plan), path)
    assert edited(plan, read_planes(path, right_sided.frame), "planes") == {}
    changed = [
        (n, p.shifted(2.0).flipped() if n == "pubis_right" else p, s) for n, p, s in planes_of(plan)
    ]
    write_planes(changed, path)
    found = edited(plan, read_planes(path, right_sided.frame), "planes")
    assert list(found) == ["pubis_right"]
    after = moved(plan, right_sided, found)
    assert after.specimen["hip_right"].volume_mm3 < plan.specimen["hip_right"].volume_mm3
    write_planes([("nonsense", changed[0][1], 80.0)], path)
    with pytest.raises(CaseError, match="'nonsense' that this resection does not have"):
        edited(plan, read_planes(path, right_sided.frame), "planes")


def test_the_order_of_work_begins_at_the_disc_and_ends_at_the_limb(plans):
    names = order(plans["kaiser-2025-case-3"])
    assert names[0] == "l4_l5"
    assert names[-2:] == ("pubis_right", "ischium_right")


@pytest.mark.parametrize(("shift", "turn"), [(1.5, 2.5), (-2.0, 0.0)])
def test_an_audit_finds_the_error_that_was_made(male, shift, turn):
    from scipy.spatial.transform import Rotation

    from sacroplan.geometry.surface import concatenate

    site = with_tumour(male, 1.6, 10.0)
    plan = plan_resection(site, Choice("total"))
    planes = {}
    for side in ("left", "right"):
        cut = plan.cut(f"iliac_{side}")
        axis = np.cross(cut.plane.normal, site.pelvis.axes[:, 1])
        r = Rotation.from_rotvec(np.deg2rad(turn) * axis / np.linalg.norm(axis)).as_matrix()
        centre = cut.outline.centroid
        planes[cut.name] = Plane(centre + shift * cut.plane.normal, r @ cut.plane.normal)
    made = moved(plan, site, planes)
    # After surgery: no sacrum, and in the coordinates of another scan.
    elsewhere = Rigid(
        Rotation.from_rotvec([0.3, -0.5, 0.9]).as_matrix(), np.array([40.0, -80, 120])
    )
    outcome = concatenate([made.remnants[f"hip_{s}"] for s in ("left", "right")])
    found = audit(plan, site.bones, outcome.transformed(elsewhere), site.tumour.surface)
    assert not found.missing
    achieved = {m.cut: m.minimum_mm for m in made.margins}
    for one in found.cuts:
        assert one.offset_mm == pytest.approx(shift, abs=0.1)
        assert one.angle_deg == pytest.approx(turn, abs=0.2)
        assert one.margin_mm == pytest.approx(achieved[one.cut], abs=0.2)
        assert one.location_iso_mm >= abs(shift) - 0.1
        assert one.location_gouin_mm <= one.location_iso_mm


def test_an_outcome_of_another_body_is_refused(plans, right_sided):
    with pytest.raises(PlanError, match="does not fit the bones"):
        audit(plans["total"], right_sided.bones, sphere([0, 0, 0], 60.0, rings=12), None)


def test_options_are_weighed_and_the_cheapest_that_keeps_the_margin_is_advised(male):
    found = propose(with_tumour(male, 4.6, 0.0, 4.0), 6.0)
    advised = found.options[found.advised]
    assert advised.choice.kind == "low"
    assert advised.margin_mm >= 6.0 - 0.05
    assert advised.best
    total = next(o for o in found.options if o.choice.kind == "total")
    assert total.roots == 0
    for o in found.options:
        beaten = any(
            np.all(
                np.maximum(q.costs, [-40, 0, 0, 0]) <= np.maximum(o.costs, [-40, 0, 0, 0]) + 1e-9
            )
            and np.any(
                np.maximum(q.costs, [-40, 0, 0, 0]) < np.maximum(o.costs, [-40, 0, 0, 0]) - 0.05
            )
            for q in found.options
        )
        assert o.best != beaten


def test_what_cannot_be_done_is_said_in_a_sentence(male, right_sided):
    bones, _ = male
    beside = OwnCut(Plane([0, 300, 0], [0, 1, 0]), "sacrum")
    with pytest.raises(PlanError, match=r"own misses the bone .* passes \d+ mm beside it"):
        plan_resection(right_sided, Choice("free"), {"own": beside})
    with pytest.raises(PlanError, match="bone must be named"):
        plan_resection(right_sided, Choice("free"), {"own": OwnCut(Plane([0, 30, 0], [0, 1, 0]))})
    with pytest.raises(PlanError, match="needs a side"):
        plan_resection(right_sided, Choice("hemi"))
    with pytest.raises(PlanError, match="no cuts of its own"):
        plan_resection(right_sided, Choice("free"))
    codes = {
        d.code: d.message
        for d in plan_resection(with_tumour(male, 0.1, 0.0), Choice("total")).doubts
    }
    assert "cannot be kept without cutting L5" in codes["resection.margin.l5_s1"]
    far = Site(
        bones, right_sided.frames, right_sided.points,
        Tumour(sphere([0.0, -150.0, 0.0], 10.0), "test"),
    )  # fmt: skip
    codes = {d.code: d.message for d in plan_resection(far, Choice("high")).doubts}
    assert "lies outside the sacrum" in codes["resection.tumour_outside"]
    impossible = {
        d.code: d.message for d in plan_resection(with_tumour(male, 0.8, 0.0), Choice("low")).doubts
    }
    assert 'type = "mid" reaches further' in impossible["resection.margin_impossible"]
    plan = plan_resection(Site(bones, right_sided.frames, right_sided.points), Choice("mid"))
    cut = plan.cut("sacral")
    point = cut.specimen_face.point + 8.0 * cut.plane.normal
    touching = Site(
        bones, right_sided.frames, right_sided.points, Tumour(sphere(point, 8.0, rings=240), "test")
    )
    own = {"sacral": OwnCut(cut.plane)}
    codes = {d.code: d.message for d in plan_resection(touching, Choice("mid"), own).doubts}
    assert "touches the cut sacral" in codes["resection.margin.sacral"]


def test_vessels_near_a_cut_are_named_with_their_distance(right_sided):
    plan = plan_resection(right_sided, Choice("total"))
    cut = plan.cut("iliac_left")
    n, along = cut.plane.normal, right_sided.pelvis.axes[:, 1]
    along = along - (along @ n) * n
    half = 0.5 * cut.kerf_mm

    def vessel(off, radius=4.0):
        middle = cut.outline.centroid + off * n
        reach = 15.0 * along / np.linalg.norm(along)
        return cylinder(middle - reach, middle + reach, radius, 96, cut.frame)

    given = {
        "vein": vessel(-(half + 6.0 + 4.0)),
        "artery": vessel(half + 3.0 + 4.0),
        "branch": vessel(0.0, 1.5),
        "aorta": vessel(-60.0),
    }
    found = plan_resection(replace(right_sided, vessels=given), Choice("total"))
    near = {k: v for k, v in found.losses.vessels.items() if k.endswith(".iliac_left")}
    assert near["vein.iliac_left"] == pytest.approx(6.0, abs=0.02)
    assert near["artery.iliac_left"] == pytest.approx(3.0, abs=0.02)
    assert near["branch.iliac_left"] < 0.0
    assert "aorta.iliac_left" not in near
    told = {d.code: d.message for d in found.doubts}
    assert "vein runs 6.0 mm" in told["resection.vessel.vein.iliac_left"]
    assert "meets the branch" in told["resection.vessel.branch.iliac_left"]
    (table,) = vessel_table(found)
    assert table.rows[0][2] == "met by the saw"
    assert ("vein", "iliac left", "6.0 mm") in table.rows
    assert vessel_table(plan) == ()
