from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image
from report_cases import TURN, block, ct

from sacroplan.geometry.frames import Axis, Plane, unit
from sacroplan.geometry.primitives import sphere
from sacroplan.geometry.volume import Volume
from sacroplan.report.model import Overlay, SliceRequest
from sacroplan.report.slices import PIXELS, across_plane, along_axis, draw, resliced, standard

X, Y, Z = np.eye(3)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def coloured(image: np.ndarray, colour: str, slack: int = 60) -> np.ndarray:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(image - rgb).max(axis=2) < slack


def flat(value: float = 0.0) -> Volume:
    volume = ct()
    return Volume(volume.geometry, np.full(volume.data.shape, value, dtype=np.float32))


@pytest.mark.parametrize("moved", [False, True])
def test_an_oblique_slice_of_a_linear_field_is_exact(moved: bool) -> None:
    volume = ct(TURN if moved else None)
    u = unit([1.0, 2.0, -0.5])
    v = unit(np.cross(u, [0.3, 0.2, 0.9]))
    centre = np.array([2.0, -3.0, 4.0])
    request = SliceRequest("s", centre, u, v, 12.0, "g")
    if moved:
        request = SliceRequest(
            "s", TURN.points(centre), TURN.directions(u), TURN.directions(v), 12.0, "g"
        )
    hu = resliced(volume, request, 48)
    at = (np.arange(48) + 0.5) * 0.5 - 12.0
    points = centre + at[None, :, None] * u + at[:, None, None] * v + 30.0
    assert np.allclose(hu, points @ [3.0, 5.0, 11.0] - 100.0, atol=2e-3)


def test_outside_the_ct_is_marked() -> None:
    request = SliceRequest("s", np.array([30.0, 0, 0]), X, Y, 10.0, "g")
    hu = resliced(ct(), request, 40)
    assert np.isnan(hu[:, 21:]).all()
    assert np.isfinite(hu[:, :20]).all()


@pytest.mark.parametrize("height", [0.0, 9.0])
def test_a_balls_contour_is_its_section(height: float) -> None:
    ball = Overlay("ball", "#00ff00", surface=sphere([0, 0, 0], 15.0, 96))
    request = SliceRequest("s", np.array([0, 0, height]), X, Y, 25.0, "g", (ball,))
    y, x = np.nonzero(coloured(pixels(draw(flat(-2000), request).png), "#00ff00"))
    r = np.hypot(x - PIXELS / 2 + 0.5, y - PIXELS / 2 + 0.5) * 50.0 / PIXELS
    assert np.abs(r - np.sqrt(15.0**2 - height**2)).max() < 0.25
    turns = np.degrees(np.arctan2(y - PIXELS / 2, x - PIXELS / 2)).astype(int)
    assert len(np.unique(turns)) > 350  # closed all the way round


def test_a_fill_covers_the_inside() -> None:
    body = Overlay("b", "#ff0000", surface=block([-10, -6, -5], [4, 6, 5]), fill=1.0)
    request = SliceRequest("s", np.zeros(3), X, Y, 25.0, "g", (body,))
    filled = coloured(pixels(draw(flat(-2000), request).png), "#ff0000", 10)
    mm = 50.0 / PIXELS
    assert np.count_nonzero(filled) * mm * mm == pytest.approx(14.0 * 12.0, rel=0.03)
    x = np.nonzero(filled)[1]
    assert (x.mean() - PIXELS / 2 + 0.5) * mm == pytest.approx(-3.0, abs=0.1)


def test_lines_are_drawn_only_where_they_meet_the_picture() -> None:
    line = Overlay("axis", "#ff00ff", polyline=np.array([[0, 0, -20.0], [20.0, 0, 20.0]]))
    request = SliceRequest("s", np.zeros(3), X, Y, 25.0, "g", (line,))
    y, x = np.nonzero(coloured(pixels(draw(flat(), request).png), "#ff00ff"))
    mm = 50.0 / PIXELS
    # The line crosses z = 0 at x = 10 and leaves the 3 mm slab 1.5 mm on either side.
    assert (x.min() - PIXELS / 2) * mm == pytest.approx(8.5, abs=0.3)
    assert (x.max() - PIXELS / 2) * mm == pytest.approx(11.5, abs=0.3)
    assert np.abs(y - PIXELS / 2).max() < 3
    away = SliceRequest("s", np.array([0, 0, 25.0]), X, Y, 25.0, "g", (line,))
    assert draw(flat(), away).legend == ()


def test_a_planes_trace_is_dashed_and_in_its_place() -> None:
    plane = Plane(np.array([5.0, 0, 0]), np.array([1.0, 1.0, 0.4]))
    cut = Overlay("cut", "#ff0000", plane=plane, dashed=True)
    request = SliceRequest("s", np.array([0, 0, 2.0]), X, Y, 25.0, "g", (cut,))
    y, x = np.nonzero(coloured(pixels(draw(flat(), request).png), "#ff0000", 30))
    mm = 50.0 / PIXELS
    p = np.column_stack(
        [(x - PIXELS / 2 + 0.5) * mm, (y - PIXELS / 2 + 0.5) * mm, np.full(len(x), 2.0)]
    )
    assert np.abs(plane.distance(p)).max() < 0.15
    assert 0.3 < len(x) / (PIXELS * np.sqrt(2) * 1.2) < 1.2
    parallel = Overlay("cut", "#ff0000", plane=Plane(np.zeros(3), Z))
    request = SliceRequest("s", np.array([0, 0, 2.0]), X, Y, 25.0, "g", (parallel,))
    assert draw(flat(), request).legend == ()


def test_standard_slices_read_like_a_workstation() -> None:
    mark = Overlay("left back top", "#00ff00", surface=sphere([10, 12, 14], 4.0), fill=1.0)
    volume = flat(-2000)
    axial, sagittal, coronal = standard(volume, [10.0, 12.0, 14.0], 20.0, "g", (mark,))
    assert draw(volume, axial).letters == ("R", "L", "A", "P")
    assert draw(volume, sagittal).letters == ("A", "P", "S", "I")
    assert draw(volume, coronal).letters == ("R", "L", "S", "I")
    # Around the origin the mark must appear on the side that the letters promise.
    for request, side, down in zip(
        standard(volume, [0.0, 0.0, 13.0], 20.0, "g", (mark,))[:1]
        + standard(volume, [10.0, 0.0, 0.0], 20.0, "g", (mark,))[1:2]
        + standard(volume, [0.0, 12.0, 0.0], 20.0, "g", (mark,))[2:],
        (1, 1, 1),
        (1, -1, -1),
        strict=True,
    ):
        y, x = np.nonzero(coloured(pixels(draw(volume, request).png), "#00ff00"))
        assert np.sign(x.mean() - PIXELS / 2) == side
        assert np.sign(y.mean() - PIXELS / 2) == down


def test_slices_of_a_moved_case_are_the_same_pictures() -> None:
    ball = sphere([3, 4, 5], 9.0, 48)
    axis = Axis(np.array([4.0, 14.0, 2.0]), np.array([0.2, -1.0, 0.1]))
    plane = Plane(np.array([3.0, 0, 0]), np.array([1.0, 0.3, 0.2]))
    here = (
        *along_axis(ct(), axis, 20.0, "g", (Overlay("b", "#00ff00", surface=ball),)),
        *across_plane(ct(), plane, [0.0, 0, 0], 20.0, "g", ()),
    )
    there = (
        *along_axis(
            ct(TURN), axis.transformed(TURN), 20.0, "g",
            (Overlay("b", "#00ff00", surface=ball.transformed(TURN)),),
        ),
        *across_plane(ct(TURN), plane.transformed(TURN), TURN.points(np.zeros(3)), 20.0, "g", ()),
    )  # fmt: skip
    for a, b in zip(here, there, strict=True):
        assert a.title == b.title
        pa, pb = draw(ct(), a), draw(ct(TURN), b)
        assert pa.letters == pb.letters
        assert np.abs(pixels(pa.png) - pixels(pb.png)).mean() < 0.2


def test_slices_along_a_screw_contain_it_and_across_does_not() -> None:
    axis = Axis(np.array([4.0, 14.0, 2.0]), np.array([0.2, -1.0, 0.1]))
    level, upright, across = along_axis(ct(), axis, 20.0, "g", ())
    for request in (level, upright):
        assert abs(float(np.cross(request.u, request.v) @ axis.direction)) < 1e-9
    assert abs(float(np.cross(across.u, across.v) @ axis.direction)) == pytest.approx(1.0)
    for request in (level, upright, across):
        assert np.allclose(request.centre, axis.at(10.0))
    assert abs(float(np.cross(level.u, level.v) @ Z)) > 0.9
    assert abs(float(np.cross(upright.u, upright.v) @ Z)) < 0.1


def test_a_slice_takes_no_longer_than_a_tenth_of_a_second() -> None:
    overlays = tuple(
        Overlay(f"b{n}", "#00ff00", surface=sphere([n, 0, 0], 15.0, 120)) for n in range(4)
    )
    request = SliceRequest("s", np.zeros(3), X, Y, 25.0, "g", overlays)
    volume = ct()
    draw(volume, request)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        draw(volume, request)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1
