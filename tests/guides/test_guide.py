"""The iliac guide on real bone: it fits, comes off, guides the saw, and is pinned in sound bone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import igl
import numpy as np
import pytest

from sacroplan.errors import PlanError
from sacroplan.formats.stl import read_stl
from sacroplan.geometry import booleans
from sacroplan.geometry.frames import AxisFrame, Plane, Rigid
from sacroplan.geometry.primitives import cylinder
from sacroplan.geometry.surface import Surface
from sacroplan.guides.cutline import CutLine, cut_line
from sacroplan.guides.design import design
from sacroplan.guides.guide import Guide
from sacroplan.guides.lettering import engravable, glyph, width_mm
from sacroplan.guides.request import GuideInput, GuideParameters
from sacroplan.guides.wires import angles_deg

PELVIS = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Columns anterior, cranial, right in LPS."""

KERF_MM = 1.25


def request_for(folder: Path, side: str) -> GuideInput:
    """A sagittal-oblique cut 8-10 mm lateral to the sacroiliac joint, leaning into the notch."""
    sign = 1.0 if side == "left" else -1.0
    bones = folder / "data" / "vhm_meshes"
    return GuideInput(
        side,  # type: ignore[arg-type]
        read_stl(bones / f"hip_{side}.stl"),
        Plane(np.array([72.0 * sign, 15.0, -10.0]), np.array([-1.0 * sign, 0.0, 0.3])),
        KERF_MM,
        AxisFrame("pelvis", np.zeros(3), PELVIS),
        np.array([37.3 * sign, 76.0, -15.7]),
        "case-7",
        (read_stl(bones / "sacrum.stl"), read_stl(bones / "L5.stl")),
    )


@pytest.fixture(scope="module")
def asked(shared: Path) -> GuideInput:
    return request_for(shared, "left")


def cut_line_of(inp: GuideInput, p: GuideParameters) -> CutLine:
    return cut_line(
        inp.hip, inp.cut, inp.axes, inp.psis, p.slot_length_mm, p.notch_mm, p.reach_mm,
        p.slot_minimum_mm,
    )  # fmt: skip


@pytest.fixture(scope="module")
def guide(asked: GuideInput) -> Guide:
    return design(asked)


@pytest.fixture(scope="module")
def small() -> GuideParameters:
    """A shorter guide, so that the comparisons take half the time."""
    return GuideParameters(slot_length_mm=40.0)


@pytest.fixture(scope="module")
def reference(asked: GuideInput, small: GuideParameters) -> Guide:
    return design(asked, small)


@pytest.mark.shared
def test_one_closed_body_beside_the_bone(asked: GuideInput, guide: Guide) -> None:
    assert guide.surface.is_closed
    assert len(booleans.bodies(guide.surface)) == 1
    assert booleans.overlap_mm3(guide.surface, asked.hip) < 1e-3
    for other in asked.avoid:
        assert booleans.overlap_mm3(guide.surface, other) == 0.0
    assert 5_000 < guide.surface.volume_mm3 < 30_000


@pytest.mark.shared
def test_inner_face_follows_the_bone(asked: GuideInput, guide: Guide) -> None:
    m = guide.metrics()
    assert m["guide.left.fit.error_p95"].value < 0.05
    assert m["guide.left.fit.error_mean"].value < 0.01
    assert m["guide.left.fit.contact_area"].value > 1000.0
    # Measured again from the bone's side: its vertices under the guide lie one clearance away.
    removal = guide.removal_axis
    under = asked.hip.vertices[
        np.linalg.norm(asked.hip.vertices - guide.line.origin, axis=1) < 15.0
    ]
    normals = asked.hip.vertex_normals[
        np.linalg.norm(asked.hip.vertices - guide.line.origin, axis=1) < 15.0
    ]
    across = guide.line.to_local(under)[:, 2]
    seen = (normals @ removal > 0.5) & (np.abs(across) < 9.0) & (np.abs(across) > 1.5)
    gap = np.sqrt(
        igl.point_mesh_squared_distance(under[seen], guide.surface.vertices, guide.surface.faces)[0]
    )
    assert seen.sum() > 30
    assert np.percentile(np.abs(gap - 0.2), 95) < 0.05


@pytest.mark.shared
def test_no_bone_above_the_guide_on_its_way_off(asked: GuideInput, guide: Guide) -> None:
    touch = guide.contact
    rays = touch.points[:: len(touch.points) // 300]
    hits = [
        igl.ray_mesh_intersect(p, guide.removal_axis, asked.hip.vertices, asked.hip.faces)
        for p in rays
    ]
    assert len(rays) >= 300
    assert all(len(h) == 0 for h in hits)
    assert guide.lift_overlap_mm3 < 1e-3


@pytest.mark.shared
def test_slot_walls_are_exact_planes_beside_the_kerf(guide: Guide) -> None:
    x = guide.line.to_local(guide.surface.vertices)
    normal = guide.surface.face_normals @ guide.line.across
    for wall, facing in ((0.5, -1.0), (-0.75, 1.0)):
        on = np.all(np.abs(x[guide.surface.faces, 2] - wall) < 1e-6, axis=1)
        area = np.linalg.norm(guide.surface.area_vectors[on], axis=1)
        assert area.sum() > 10.0 * guide.slot.length_mm
        assert np.all(normal[on][area > 1e-6] * facing > 1 - 1e-6)
    # A 1 mm blade on the remnant wall has its middle on the middle of the kerf.
    assert guide.slot.remnant_wall.distance(guide.slot.cut.point) == pytest.approx(0.5)
    assert guide.slot.specimen_wall.distance(guide.slot.cut.point) == pytest.approx(-0.75)
    assert guide.metrics()["guide.left.slot.height"].value >= 10.0


@pytest.mark.shared
def test_a_blade_passes_the_slot_and_meets_bone(asked: GuideInput, guide: Guide) -> None:
    from sacroplan.guides.body import block

    line = guide.line
    blade = block(
        line,
        np.array([line.low_mm + 0.1, -20.0, -0.55]),
        np.array([line.high_mm - 0.1, 60.0, 0.45]),
        "LPS",
    )
    assert booleans.overlap_mm3(blade, guide.surface) == 0.0
    assert booleans.overlap_mm3(blade, asked.hip) > 500.0


@pytest.mark.shared
def test_wires_hold_in_the_bone_that_stays(asked: GuideInput, guide: Guide) -> None:
    assert len(guide.wires) >= 3
    assert angles_deg(guide.wires).min() >= 10.0
    for wire in guide.wires:
        assert wire.on_remnant
        assert wire.bone_mm >= 10.0 or (wire.bicortical and wire.bone_mm >= 3.0)
        reach = np.linspace(0.0, 1.0, 200)[:, None]
        path = wire.start + reach * (wire.end - wire.start)
        # Clear of the kerf, with the wire's own radius and 3 mm to spare.
        assert asked.cut.distance(path).max() < -(KERF_MM / 2 + 1.0 + 3.0 - 1e-6)
        for other in asked.avoid:
            d = np.sqrt(igl.point_mesh_squared_distance(path, other.vertices, other.faces)[0])
            assert d.min() > 3.0
        inside = igl.signed_distance(path, asked.hip.vertices, asked.hip.faces)[0] < 0
        length = inside.mean() * np.linalg.norm(wire.end - wire.start)
        assert length == pytest.approx(wire.bone_mm, abs=0.3)
        # The hole is open along the wire.
        d = np.sqrt(
            igl.point_mesh_squared_distance(path, guide.surface.vertices, guide.surface.faces)[0]
        )
        assert d.min() > 1.0


@pytest.mark.shared
def test_marks_are_cut_into_the_wall(
    asked: GuideInput, reference: Guide, small: GuideParameters
) -> None:
    (text,) = reference.marks
    assert text.split()[0] == "<"
    assert "CASE-7" in text
    assert " L " in f" {text} "
    # Without marks the same guide holds more: the letters' strokes times their depth.
    blank = design(asked, replace(small, mark_depth_mm=1e-3))
    removed = blank.surface.volume_mm3 - reference.surface.volume_mm3
    strokes = 0.0
    for character in text:
        solid = glyph(character, 5.0, 0.9, np.zeros(3), np.eye(3), 0.0, 0.6)
        strokes += solid.volume_mm3 if solid else 0.0
    assert removed == pytest.approx(strokes, rel=0.25)


@pytest.mark.shared
def test_right_is_the_mirror_image_of_left(
    asked: GuideInput, reference: Guide, small: GuideParameters
) -> None:
    flip = np.array([-1.0, 1.0, 1.0])
    mirrored = replace(
        asked,
        side="right",
        hip=asked.hip.mirrored(),
        cut=Plane(asked.cut.point * flip, asked.cut.normal * flip),
        psis=asked.psis * flip,
        avoid=tuple(s.mirrored() for s in asked.avoid),
    )
    other = design(mirrored, small)
    assert other.name == "guide_iliac_right"
    assert " R " in f" {other.marks[0]} "
    assert " L " not in f" {other.marks[0]} "
    _same(reference, other, other.surface.mirrored(), marks=False)
    for a, b in zip(reference.wires, other.wires, strict=True):
        assert np.allclose(a.start, b.start * flip, atol=0.02)
        assert np.allclose(a.end, b.end * flip, atol=0.02)


@pytest.mark.shared
def test_guide_moves_with_the_case(
    asked: GuideInput, reference: Guide, small: GuideParameters
) -> None:
    angle = 0.7
    turn = np.array(
        [
            [np.cos(angle), -np.sin(angle), 0.0],
            [np.sin(angle), np.cos(angle), 0.0],
            [0.0, 0.0, 1.0],
        ]
    ) @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    move = Rigid(turn, np.array([13.7, -210.3, 88.1]))
    moved = replace(
        asked,
        hip=asked.hip.transformed(move),
        cut=asked.cut.transformed(move),
        axes=AxisFrame("pelvis", move.translation, move.rotation @ PELVIS),
        psis=move.points(asked.psis),
        avoid=tuple(s.transformed(move) for s in asked.avoid),
    )
    other = design(moved, small)
    _same(reference, other, other.surface.transformed(move.inverse()), marks=True)


def _same(a: Guide, b: Guide, surface: Surface, marks: bool) -> None:
    assert b.surface.volume_mm3 == pytest.approx(a.surface.volume_mm3, rel=1e-3)
    far = igl.point_mesh_squared_distance(surface.vertices, a.surface.vertices, a.surface.faces)[
        0
    ].max()
    # Mirrored letters differ, by no more than they are deep.
    assert np.sqrt(far) < (0.05 if marks else 0.7)
    ma, mb = a.metrics(), b.metrics()
    for name, metric in ma.items():
        value = mb[name.replace("guide.left", f"guide.{b.side}")].value
        if "faces" in name or "patches" in name or "planes" in name:
            continue
        assert value == pytest.approx(metric.value, rel=0.02, abs=5e-3), name


@pytest.mark.shared
def test_a_plane_beside_the_bone_is_refused(asked: GuideInput) -> None:
    away = replace(asked, cut=asked.cut.shifted(-120.0))
    with pytest.raises(PlanError, match="misses the bone"):
        design(away)
    pubis = replace(asked, cut=Plane(np.array([20.0, 0.0, 0.0]), np.array([-1.0, 0.0, 0.0])))
    with pytest.raises(PlanError, match="misses the exposed bone"):
        design(pubis)


@pytest.mark.shared
def test_cut_line_ends_at_the_notch(asked: GuideInput) -> None:
    # This plane passes lateral to the notch and runs on through the ischium.
    lateral = Plane(np.array([73.8, 28.5, -28.1]), np.array([-0.94, 0.34, 0.04]))
    notch = np.array([55.0, 40.0, -49.0])
    arguments = (asked.hip, lateral, asked.axes, asked.psis, 60.0, 12.0, 100.0, 15.0)
    whole, ended = cut_line(*arguments), cut_line(*arguments, notch)
    assert whole.length_mm > 150.0
    lowest = ended.to_world(np.array([[ended.a_mm[0], ended.s_mm[0], 0.0]]))[0]
    assert abs(lowest[2] - notch[2]) < 2.0
    assert ended.high_mm - ended.low_mm == pytest.approx(60.0, abs=0.5)
    with pytest.raises(PlanError, match="can be guided"):
        cut_line(*arguments[:-2], 100.0, 150.0, notch)


@pytest.mark.shared
def test_wrong_side_and_thick_blade_are_refused(asked: GuideInput) -> None:
    with pytest.raises(PlanError, match="points away from the midline"):
        design(replace(asked, cut=asked.cut.flipped()))
    with pytest.raises(PlanError, match="thicker than the kerf"):
        design(replace(asked, kerf_mm=0.8))
    coronal = replace(asked, cut=Plane(asked.cut.point, np.array([-0.1, 1.0, 0.0])))
    with pytest.raises(PlanError, match="sawn from there"):
        design(coronal)


@pytest.mark.shared
def test_wires_that_cannot_avoid_screws_are_told_of(
    asked: GuideInput, small: GuideParameters
) -> None:
    from sacroplan.case.steps.guides import built

    line = cut_line_of(asked, small)
    screw = cylinder(
        line.to_world(np.array([[-60.0, -8.0, 20.0]]))[0],
        line.to_world(np.array([[60.0, -8.0, 20.0]]))[0],
        25.0,
    )
    guide, told = built("iliac_left", replace(asked, screws=(screw,)), small)
    assert guide is not None
    assert [d.code for d in told] == ["guide.wires_cross_screws.iliac_left"]
    assert "cannot avoid the planned screws" in told[0].message
    beside = replace(asked, cut=asked.cut.shifted(-120.0))
    none, why = built("iliac_left", beside, small)
    assert none is None
    assert "misses the bone" in why[0].message


def test_a_guide_without_a_stable_footprint_is_told_of(small: GuideParameters) -> None:
    """On a smooth tube nothing keeps a guide from sliding along it and turning about it."""
    tube = cylinder([0.0, 0.0, -60.0], [0.0, 0.0, 60.0], 40.0, 240)
    inp = GuideInput(
        "left", tube, Plane(np.zeros(3), np.array([-1.0, 0.0, 0.0])), KERF_MM,
        AxisFrame("pelvis", np.zeros(3), PELVIS), np.array([0.0, 40.0, 0.0]), "tube", name="tube",
        centred=True,
    )  # fmt: skip
    guide = design(inp, replace(small, notch_mm=2.0))
    assert guide.seating is not None
    assert guide.seating.figure < 0.02
    assert "guide.fit.rocks" in [d.code for d in guide.doubts]


def test_lettering_reads_the_right_way_round() -> None:
    axes = np.eye(3)
    solid = glyph("L", 5.0, 0.8, np.zeros(3), axes, 0.0, 1.0)
    assert solid is not None
    assert solid.is_closed
    low, high = solid.bounds
    assert low[:2] == pytest.approx([0.0, 0.0], abs=0.02)
    assert high[:2] == pytest.approx([3.0, 5.0], abs=0.02)
    # The upright is on the left, the foot below: the upper right corner of an L is empty.
    assert solid.centroid[0] < 1.5
    assert solid.centroid[1] < 2.5
    assert width_mm("AB", 5.0) == pytest.approx(5.0 * (0.86 + 0.6))
    assert engravable("Fall ü_1") == "FALL -_1"
    with pytest.raises(PlanError, match="cannot be engraved"):
        glyph("ü", 5.0, 0.8, np.zeros(3), axes, 0.0, 1.0)


def test_letters_differ_from_each_other() -> None:
    from sacroplan.guides.lettering import _GLYPHS

    shapes = {c: frozenset(part.strip() for part in g.split(",")) for c, g in _GLYPHS.items()}
    assert len(set(shapes.values())) == len(shapes)


def _solid_in(
    guide: Guide, low: tuple[float, float, float], high: tuple[float, float, float]
) -> float:
    """Volume of the guide within a box in its cut line's coordinates, mm3."""
    from sacroplan.guides.body import block

    return booleans.overlap_mm3(
        block(guide.line, np.array(low), np.array(high), "LPS"), guide.surface
    )


@pytest.mark.shared
def test_a_closed_slot_is_walled_on_all_sides(reference: Guide) -> None:
    line, top = reference.line, reference.slot.height_mm
    span = (line.low_mm + 1.0, line.high_mm - 1.0)
    for x in ((-2.0, -0.8), (0.55, 2.0)):
        assert _solid_in(reference, (span[0], 1.0, x[0]), (span[1], 0.8 * top, x[1])) > 100.0
    for a in ((line.low_mm - 4.0, line.low_mm), (line.high_mm + 2.0, line.high_mm + 5.0)):
        assert _solid_in(reference, (a[0], 3.0, -0.7), (a[1], 0.5 * top, 0.4)) > 2.0


@pytest.mark.shared
def test_a_slot_with_one_wall_is_open_towards_the_specimen(
    asked: GuideInput, small: GuideParameters
) -> None:
    guide = design(asked, replace(small, walls=1))
    line, top = guide.line, guide.slot.height_mm
    span = (line.low_mm + 1.0, line.high_mm - 1.0)
    assert _solid_in(guide, (-100.0, -50.0, -50.0), (100.0, 60.0, 0.499)) == 0.0
    assert _solid_in(guide, (span[0], 1.0, 0.55), (span[1], 0.8 * top, 2.0)) > 100.0
    assert len(booleans.bodies(guide.surface)) == 1
    assert guide.metrics()["guide.left.fit.error_p95"].value < 0.05
    assert 9.0 < guide.slot.height_mm < 15.0


@pytest.mark.shared
def test_a_slot_with_two_walls_and_a_depth_stop(asked: GuideInput, small: GuideParameters) -> None:
    length = 50.0
    guide = design(asked, replace(small, walls=2, blade_length_mm=length))
    line = guide.line
    # The blade slides in from the cranial end; the caudal end is closed.
    assert _solid_in(guide, (line.low_mm + 0.1, 0.0, -0.7), (120.0, 60.0, 0.45)) == 0.0
    assert _solid_in(guide, (line.low_mm - 4.0, 3.0, -0.7), (line.low_mm, 6.0, 0.4)) > 2.0
    least, most = guide.overrun_mm or (-1.0, -1.0)
    assert 0.0 <= least < 4.0
    # A blade with a shoulder comes down until it stands: its teeth are where the figure says.
    local = line.to_local(guide.surface.vertices)
    for middle in (line.low_mm + 10.0, 0.0, line.high_mm - 10.0):
        under = (np.abs(local[:, 0] - middle) < 10.0) & (np.abs(local[:, 2]) < 4.0)
        stands = float(local[under, 1].max())
        start = line.to_world(np.array([[middle, float(line.edge(np.array(middle))) - 0.5, 0.0]]))[
            0
        ]
        hits = igl.ray_mesh_intersect(start, -line.saw, asked.hip.vertices, asked.hip.faces)
        far = float(line.edge(np.array(middle))) - 0.5 - min(h[1] for h in hits)
        assert 0.0 <= far - (stands - length) <= most + 0.3
    with pytest.raises(PlanError, match="would not come through the bone"):
        design(asked, replace(small, blade_length_mm=25.0))
