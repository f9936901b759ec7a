from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from report_cases import LPS, TURN, block

from sacroplan.banner import BANNER
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import sphere
from sacroplan.report import _kernels as kernels
from sacroplan.report.model import PRESETS, Preset, ReportError, ScenePart
from sacroplan.report.render import nice_length_mm, render
from sacroplan.report.scene import (
    clustered,
    display_meshes,
    octahedral,
    open_sky,
    pack,
    reduced,
    with_creases,
)
from sacroplan.report.views import basis, letters

SIZE = (300, 240)

CORNERS = {"L": "#ff0000", "P": "#00ff00", "S": "#0000ff"}


def signposts() -> tuple[ScenePart, ...]:
    """A grey ball in the middle and one coloured ball towards left, posterior and superior."""
    ways = {"L": (20, 0, 0), "P": (0, 20, 0), "S": (0, 0, 20)}
    posts = [ScenePart(k, k, "g", sphere(ways[k], 5.0), c) for k, c in CORNERS.items()]
    middle = ScenePart("middle", "M", "g", sphere([0, 0, 0], 5.0), "#888888")
    # A small counterweight on the other side keeps the grey ball in the picture's middle.
    frame = [
        ScenePart(f"w{n}", "w", "g", sphere(-1.225 * np.array(w), 0.5), "#888888")
        for n, w in enumerate(ways.values())
    ]
    return (*posts, middle, *frame)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)


def centre_of(image: np.ndarray, channel: int) -> np.ndarray | None:
    """Centre (x right, y up) of pixels in which one channel dominates, relative to the middle."""
    other = np.delete(image, channel, axis=2).max(axis=2)
    y, x = np.nonzero(image[..., channel] > other + 40)
    if len(x) < 20:
        return None
    h, w = image.shape[:2]
    return np.array([x.mean() - w / 2, h / 2 - y.mean()])


@pytest.mark.parametrize(
    ("preset", "left", "posterior", "superior"),
    [
        ("front", (1, 0), None, (0, 1)),
        ("back", (-1, 0), (0, 0), (0, 1)),
        ("left", (0, 0), (1, 0), (0, 1)),
        ("right", None, (-1, 0), (0, 1)),
        ("top", (-1, 0), (0, -1), (0, 0)),
        ("bottom", (1, 0), (0, -1), None),
    ],
)
def test_presets_show_the_patients_sides(
    preset: Preset,
    left: tuple[int, int] | None,
    posterior: tuple[int, int] | None,
    superior: tuple[int, int] | None,
) -> None:
    image = pixels(render(signposts(), LPS, SIZE, preset))
    for channel, expected in enumerate((left, posterior, superior)):
        found = centre_of(image, channel)
        if expected is None:  # hidden behind the middle
            assert found is None
        else:
            assert found is not None
            # 50 mm fill 88 % of 240 pixels, so 20 mm are 84.5 pixels.
            assert np.allclose(found, np.array(expected) * 84.5, atol=5.0), (channel, found)


def test_every_preset_is_right_handed_and_named() -> None:
    for preset in PRESETS:
        b = basis(np.eye(3), preset)
        assert np.allclose(np.cross(b.right, b.up), -b.away, atol=1e-12)
    b = basis(np.eye(3), "oblique")
    assert letters(np.eye(3), -b.away).startswith("A")
    assert letters(np.eye(3), b.right) == "LP"
    assert letters(np.eye(3), np.array([0.0, -0.9, 0.4])) == "AS"


def test_a_moved_case_gives_the_same_picture() -> None:
    parts = signposts()
    moved = [
        ScenePart(p.name, p.title, p.group, p.surface.transformed(TURN), p.colour) for p in parts
    ]
    frame = AxisFrame("pelvis", TURN.points(LPS.origin), TURN.rotation @ LPS.axes)
    for preset in ("front", "left"):
        a = pixels(render(parts, LPS, SIZE, preset))
        b = pixels(render(moved, frame, SIZE, preset))
        assert np.abs(a - b).mean() < 0.6
        # The same fence rejects a mirrored picture.
        assert np.abs(a - b[:, ::-1]).mean() > 3.0


def test_a_ball_covers_its_disc() -> None:
    png = render([ScenePart("b", "B", "g", sphere([0, 0, 0], 20.0, 96), "#ff2020")], LPS, SIZE)
    image = pixels(png)
    inner = image[..., 0] > image[..., 2] + 20  # red, unlike letters and scale bar
    radius_px = SIZE[1] * (1 - 2 * 0.06) / 2
    assert np.count_nonzero(inner) == pytest.approx(np.pi * radius_px**2, rel=0.02)


def test_shared_edges_are_covered_exactly_once() -> None:
    rng = np.random.default_rng(7)
    xy = (rng.random((60, 2)) * 90 + 5) * kernels.SUBPIXEL
    corners = np.array([[0, 0], [100, 0], [100, 100], [0, 100]]) * kernels.SUBPIXEL
    from scipy.spatial import Delaunay

    points = np.concatenate([corners, xy]).astype(np.int64)
    faces = Delaunay(points).simplices.astype(np.int32)
    total = np.zeros((100, 100), dtype=int)
    for face in faces:
        depth = np.full((100, 100), np.inf)
        face_of = np.full((100, 100), -1, dtype=np.int32)
        near, far = np.full((100, 100), -np.inf), np.full((100, 100), np.inf)
        kernels.rasterise(points, np.zeros(64), face[None], near, far, depth, face_of)
        total += face_of >= 0
    assert np.all(total == 1)


def test_glass_shows_what_is_behind_and_solid_does_not() -> None:
    behind = ScenePart("red", "R", "g", block([-3, 5, -3], [3, 6, 3]), "#ff0000")
    wall = block([-10, -6, -10], [10, -5, 10])
    middle = (slice(100, 140), slice(130, 170))
    colour = {}
    for opacity in (1.0, 0.5, 0.1):
        front = ScenePart("wall", "W", "g", wall, "#0000ff", opacity)
        colour[opacity] = pixels(render([front, behind], LPS, SIZE))[middle].mean(axis=(0, 1))
    assert colour[1.0][0] < 80
    assert colour[1.0][0] < colour[0.5][0] < colour[0.1][0]
    assert colour[1.0][2] > colour[0.5][2] > colour[0.1][2]


def test_hidden_parts_are_not_drawn_and_an_empty_scene_is_refused() -> None:
    ball = sphere([0, 0, 0], 5.0)
    on = ScenePart("a", "A", "g", ball, "#ffffff")
    off = ScenePart("b", "B", "g", block([-9, -9, -9], [9, 9, 9]), "#000000", visible=False)
    assert render([on, off], LPS, SIZE) == render([on], LPS, SIZE)
    with pytest.raises(ReportError, match="visible"):
        render([off], LPS, SIZE)


def test_pictures_repeat_and_carry_the_banner() -> None:
    parts = signposts()
    png = render(parts, LPS, SIZE)
    assert png == render(parts, LPS, SIZE)
    assert Image.open(io.BytesIO(png)).text == {"Disclaimer": BANNER}


@pytest.mark.parametrize(("longest", "bar"), [(23.0, 20.0), (50.0, 50.0), (99.0, 50.0), (0.7, 0.5)])
def test_scale_bars_are_round_and_never_too_long(longest: float, bar: float) -> None:
    assert nice_length_mm(longest) == pytest.approx(bar)


def test_creases_keep_edges_sharp_and_balls_smooth() -> None:
    vertices, faces, normals = with_creases(block([0, 0, 0], [10, 20, 30]))
    assert len(vertices) == 24
    assert np.allclose(np.sort(np.abs(normals), axis=1), [0, 0, 1])
    ball = sphere([1, 2, 3], 10.0, 48)
    vertices, faces, normals = with_creases(ball)
    assert len(vertices) == len(ball.vertices)
    radial = (vertices - [1, 2, 3]) / np.linalg.norm(vertices - [1, 2, 3], axis=1)[:, None]
    assert np.einsum("ij,ij->i", radial, normals).min() > np.cos(np.radians(1.5))
    assert len(faces) == len(ball.faces)


def test_a_ball_sees_the_whole_sky_and_a_pit_little() -> None:
    ball = with_creases(sphere([0, 0, 0], 10.0, 48))
    assert open_sky(*ball).min() > 0.9
    from sacroplan.geometry.booleans import difference

    pit = difference(block([0, 0, 0], [30, 30, 30]), block([12, 12, 5], [18, 18, 31]))
    vertices, faces, normals = with_creases(pit)
    sky = open_sky(vertices, faces, normals)
    bottom = (np.abs(vertices[:, 2] - 5) < 1e-6) & (normals[:, 2] > 0.9)
    outside = (np.abs(vertices[:, 0]) < 1e-6) & (normals[:, 0] < -0.9)
    assert bottom.any()
    assert sky[bottom].max() < 0.2
    assert sky[outside].min() > 0.9


def test_display_surfaces_stay_within_their_tolerance() -> None:
    igl = pytest.importorskip("igl")
    ball = sphere([0, 0, 0], 30.0, 120)
    for tolerance in (0.1, 0.4):
        small = reduced(ball, tolerance)
        assert len(small.faces) < 0.5 * len(ball.faces)
        for a, b in ((small, ball), (ball, small)):
            d2 = igl.point_mesh_squared_distance(a.triangles.mean(axis=1), b.vertices, b.faces)[0]
            assert np.sqrt(d2.max()) <= tolerance * 1.001
    shell = ball.subset(ball.face_normals[:, 2] > 0)  # open: no solid to simplify
    coarse = clustered(shell, 1.0)
    assert 0 < len(coarse.faces) < len(shell.faces)
    d2 = igl.point_mesh_squared_distance(shell.vertices, coarse.vertices, coarse.faces)[0]
    assert np.sqrt(d2.max()) <= np.sqrt(3.0)
    assert len(reduced(shell, 0.4).faces) < len(shell.faces)


def test_octahedral_normals_are_within_a_degree() -> None:
    rng = np.random.default_rng(3)
    n = rng.normal(size=(2000, 3))
    n /= np.linalg.norm(n, axis=1)[:, None]
    xy = octahedral(n).astype(float) / 127.0
    back = np.column_stack([xy, 1 - np.abs(xy).sum(axis=1)])
    low = back[:, 2] < 0
    sign = np.where(back[:, :2] < 0, -1.0, 1.0)
    back[low, :2] = ((1 - np.abs(back[:, 1::-1])) * sign)[low]
    back /= np.linalg.norm(back, axis=1)[:, None]
    assert np.einsum("ij,ij->i", n, back).min() > np.cos(np.radians(1.2))


def test_the_packed_scene_is_the_display_mesh() -> None:
    import zlib

    parts = [
        ScenePart("a", "A", "g", sphere([100, -50, 900], 30.0), "#ffffff"),
        ScenePart("b", "B", "g", block([0, 0, 0], [10, 20, 30]), "#ffffff"),
    ]
    meshes = display_meshes(parts)
    header, body = pack(parts, meshes)
    raw = np.frombuffer(zlib.decompress(body), dtype=np.uint8)
    at = 0

    def planes(n: int, width: int) -> np.ndarray:
        nonlocal at
        out = raw[at : at + n * width].reshape(width, n).T.copy().view(f"<u{width}")[:, 0]
        at += n * width
        return out

    for h in header:
        n, m = h["vertices"], h["faces"]
        q = np.column_stack([np.cumsum(planes(n, 2), dtype=np.uint16) for _ in range(3)])
        vertices = np.array(h["low"]) + q * np.array(h["step"])
        at += 3 * n
        first = np.cumsum(planes(m, 4).astype(np.int64))
        faces = np.column_stack([first, first + planes(m, 4), first + planes(m, 4)])
        mesh = meshes[h["name"]]
        # Same triangles in another order: compare sorted corner sums and the signed volume.
        a = np.sort(vertices[faces].sum(axis=(1, 2)))
        b = np.sort(mesh.vertices[mesh.faces].sum(axis=(1, 2)))
        assert np.abs(a - b).max() < 9 * max(h["step"])
        va, vb = (
            np.einsum("ij,ij->i", t[:, 0], np.cross(t[:, 1], t[:, 2])).sum() / 6
            for t in (vertices[faces], mesh.vertices[mesh.faces])
        )
        assert va == pytest.approx(vb, rel=1e-3)
    assert at == len(raw)
