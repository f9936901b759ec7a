from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage as ndi

from sacroplan.imaging.phantom import fields
from sacroplan.imaging.phantom.build import Phantom, build
from sacroplan.imaging.phantom.parameters import PhantomParameters
from sacroplan.imaging.phantom.pose import solve
from sacroplan.imaging.phantom.reference import array

COARSE = (2.5, 2.5, 2.5)
BONES = ("sacrum", "hip_right", "hip_left", "L5", "L4", "femur_right", "femur_left")


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return build(PhantomParameters(tumour_level=None), spacing_mm=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def ill() -> Phantom:
    return build(PhantomParameters(), spacing_mm=(1.6, 1.6, 1.6))


def points_of(ph: Phantom, name: str) -> npt.NDArray[np.float64]:
    return ph.volume.geometry.to_world(np.argwhere(ph.labels.mask(name)))


def rim_of(ph: Phantom, name: str) -> npt.NDArray[np.float64]:
    """Surface voxels of a label, world mm."""
    mask, box = cropped(ph, name)
    start = np.array([b.start for b in box])
    return ph.volume.geometry.to_world(np.argwhere(mask & ~ndi.binary_erosion(mask)) + start)


def label_at(ph: Phantom, points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    g = ph.volume.geometry
    index = np.rint(g.to_index(points)).astype(int)
    inside = np.all((index >= 0) & (index < g.shape), axis=-1)
    index = np.clip(index, 0, np.array(g.shape) - 1)
    return np.where(inside, ph.labels.data[tuple(np.moveaxis(index, -1, 0))], 0)


def along(
    ph: Phantom, start: npt.NDArray[np.float64], direction: npt.NDArray[np.float64], number: int
) -> float:
    """Length (mm) of the first run of label ``number`` on a ray of 60 mm."""
    d = direction / np.linalg.norm(direction)
    steps = np.arange(0.0, 60.0, 0.1)
    hit = np.append(label_at(ph, start + steps[:, None] * d) == number, False)
    first = int(np.argmax(hit))
    return 0.1 * int(np.argmin(hit[first:])) if hit.any() else 0.0


def cropped(ph: Phantom, name: str) -> tuple[npt.NDArray[np.bool_], tuple[slice, ...]]:
    """A label on its bounding box with a free border of one voxel, and that box."""
    mask = ph.labels.mask(name)
    found = np.argwhere(mask)
    low, high = np.maximum(found.min(0) - 1, 0), found.max(0) + 2
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return mask[box], box


def test_same_choices_same_bytes_and_another_seed_other_noise() -> None:
    p = PhantomParameters()
    a, b = build(p, spacing_mm=COARSE), build(p, spacing_mm=COARSE)
    assert a.volume.data.tobytes() == b.volume.data.tobytes()
    assert a.labels.data.tobytes() == b.labels.data.tobytes()
    assert list(a.landmarks) == list(b.landmarks)
    assert all(np.array_equal(a.landmarks[k], b.landmarks[k]) for k in a.landmarks)
    c = build(PhantomParameters(seed=2), spacing_mm=COARSE)
    assert np.mean(c.volume.data != a.volume.data) > 0.9
    assert np.array_equal(c.labels.data, a.labels.data)


def test_mirrored_asymmetry_is_the_mirror_image() -> None:
    a = build(PhantomParameters(tumour_level=None, asymmetry=1.5), spacing_mm=COARSE)
    b = build(PhantomParameters(tumour_level=None, asymmetry=-1.5), spacing_mm=COARSE)
    swap = np.arange(21, dtype=np.uint8)
    swap[[2, 3, 9, 10]] = [3, 2, 10, 9]
    assert np.mean(swap[b.labels.data[::-1]] != a.labels.data) < 1e-5
    other = {"L": "R", "R": "L"}
    for name, p in a.landmarks.items():
        stem, _, side = name.rpartition("_")
        twin = f"{stem}_{other[side]}" if side in other else name
        # A middle voxel may be one of two equally near ones.
        loose = 3.0 if name == "PS" or name.startswith("SIJ") else 0.5
        assert np.abs(b.landmarks[twin] * [-1.0, 1.0, 1.0] - p).max() < loose, name


def test_sides_differ_on_purpose(healthy: Phantom) -> None:
    p = healthy.landmarks
    for name in ("ASIS", "HJC", "PSIS", "S1AF"):
        left, right = p[f"{name}_L"], p[f"{name}_R"] * [-1.0, 1.0, 1.0]
        assert 0.3 < np.linalg.norm(left - right) < 8.0, name
    even = build(PhantomParameters(tumour_level=None, asymmetry=0.0), spacing_mm=COARSE)
    assert even.landmarks["HJC_L"] == pytest.approx(even.landmarks["HJC_R"] * [-1.0, 1.0, 1.0])
    assert even.landmarks["HJC_L"][0] > 0.0, "left is +x"


@pytest.mark.parametrize("name", BONES)
def test_each_bone_is_one_piece_inside_the_image(healthy: Phantom, name: str) -> None:
    mask = healthy.labels.mask(name)
    solid, _ = cropped(healthy, name)
    assert ndi.label(solid)[1] == 1
    faces = [mask[0], mask[-1], mask[:, 0], mask[:, -1], mask[:, :, -1]]
    assert not any(f.any() for f in faces)
    if not name.startswith("femur"):
        assert not mask[:, :, 0].any()
    # Closed: nothing is enclosed by the bone, so its surface is a single one.
    assert ndi.label(~np.pad(solid, 1), structure=np.ones((3, 3, 3)))[1] == 1


def test_proportions_are_those_of_the_handbook(healthy: Phantom) -> None:
    p = healthy.landmarks

    def apart(a: str, b: str) -> float:
        return float(np.linalg.norm(p[a] - p[b]))

    sacrum = points_of(healthy, "sacrum")
    hips = np.concatenate([points_of(healthy, "hip_left"), points_of(healthy, "hip_right")])
    assert 108.7 - 2 * 11.0 < np.ptp(sacrum[:, 0]) < 108.7 + 2 * 11.0  # DIM-04
    assert 220.0 < apart("ASIS_L", "ASIS_R") < 260.0  # DIM-15
    assert 265.0 < np.ptp(hips[:, 0]) < 290.0  # DIM-15, known to be uncertain
    assert 165.0 < apart("HJC_L", "HJC_R") < 185.0  # DIM-15
    # DIM-02: between the inner borders of the ventral foramina, from the truth labels.
    for level, typical in (("S1", 36.1), ("S2", 28.8)):
        left, right = p[f"{level}AF_L"], p[f"{level}AF_R"]
        t = np.linspace(0.0, 1.0, 2000)[:, None]
        bone = label_at(healthy, left + t * (right - left)) == 1
        assert bone.mean() * np.linalg.norm(right - left) == pytest.approx(typical, rel=0.3), level


def test_l5_is_sized_like_l5(healthy: Phantom) -> None:
    pose = solve(healthy.parameters)
    corner = array("L5", "corners").reshape(4, 2)
    at, pt, ab, pb = pose.l5.to_world(np.column_stack([np.zeros(4), corner]))
    # Two standard deviations of DIM-10.
    assert np.linalg.norm(at - ab) == pytest.approx(30.3, abs=3.8)
    assert np.linalg.norm(pt - pb) == pytest.approx(26.3, abs=3.8)
    assert np.linalg.norm(at - pt) == pytest.approx(35.7, abs=7.0)
    assert np.linalg.norm(ab - pb) == pytest.approx(32.8, abs=6.0)
    # The label agrees with those corners: measured through the middle of the body.
    middle = 0.25 * (at + pt + ab + pb)
    up = 0.5 * (at + pt) - 0.5 * (ab + pb)
    height = along(healthy, middle, up, 4) + along(healthy, middle, -up, 4)
    assert height == pytest.approx(np.linalg.norm(up) - 2.5, abs=1.2), "endplates are hollow"
    depth = along(healthy, middle, at - pt, 4) + along(healthy, middle, pt - at, 4)
    assert 26.0 < depth < 40.0


@pytest.mark.parametrize("name", ["L4PED_L", "L4PED_R", "L5PED_L", "L5PED_R"])
def test_pedicles_take_a_screw(healthy: Phantom, name: str) -> None:
    bone = name[:2]
    number = healthy.labels.id_of(bone)
    centre = healthy.landmarks[name]
    up = np.array([0.0, 0.0, 1.0])
    height = along(healthy, centre, up, number) + along(healthy, centre, -up, number)
    if bone == "L5":
        assert height == pytest.approx(12.9, abs=3 * 1.9)  # DIM-11
    mask, box = cropped(healthy, bone)
    depth = ndi.distance_transform_edt(mask)
    index = np.rint(healthy.volume.geometry.to_index(centre)).astype(int)
    assert depth[tuple(index - [b.start for b in box])] > 0.5 * 6.5 + 0.5
    # It is a pedicle: the canal is medial of it and the body in front.
    sign = 1.0 if name.endswith("L") else -1.0
    medial = label_at(healthy, centre + np.arange(6.0, 20.0)[:, None] * [-sign, 0.0, 0.0])
    assert (medial == 0).sum() > 5
    assert label_at(healthy, centre + np.array([0.0, -12.0, 0.0])) == number


def test_pelvic_incidence_of_the_label_surface(healthy: Phantom) -> None:
    p = healthy.landmarks
    assert healthy.pelvic_incidence_deg == pytest.approx(52.0, abs=0.2)
    # The endplate as a surgeon would touch it: from the disc down to the first bone.
    forward = p["S1EP_ANT"] - p["S1EP_POST"]
    half = 0.5 * np.linalg.norm(forward)
    forward /= np.linalg.norm(forward)
    across = np.array([1.0, 0.0, 0.0]) - forward[0] * forward
    across /= np.linalg.norm(across)
    normal = np.cross(across, forward)
    normal *= np.sign(normal[2])
    found = []
    # Sub-voxel surface: the half-way level of the slightly smoothed label.
    smooth = ndi.gaussian_filter(healthy.labels.mask("sacrum").astype(np.float32), 1.0)
    steps = np.arange(4.0, -6.0, -0.05)
    for a in np.linspace(-0.7, 0.7, 15):
        for b in np.linspace(-0.7, 0.7, 15):
            if a * a + b * b > 0.5:
                continue
            ray = p["S1EP"] + a * half * forward + b * 22.0 * across + steps[:, None] * normal
            index = healthy.volume.geometry.to_index(ray).T
            hit = np.flatnonzero(ndi.map_coordinates(smooth, index, order=1) > 0.5)
            assert len(hit)
            found.append(ray[hit[0]])
    cloud = np.array(found)
    plane = np.linalg.svd(cloud - cloud.mean(axis=0))[2][2]
    to_hip = 0.5 * (p["HJC_L"] + p["HJC_R"]) - p["S1EP"]
    angle = np.degrees(np.arccos(abs(plane @ to_hip) / np.linalg.norm(to_hip)))
    assert angle == pytest.approx(52.0, abs=1.0)
    assert np.abs((p["S1EP"] - cloud.mean(axis=0)) @ normal) < 1.5


@pytest.mark.parametrize("side", ["L", "R"])
def test_hip_landmarks_lie_on_the_hip(healthy: Phantom, side: str) -> None:
    rim = rim_of(healthy, "hip_left" if side == "L" else "hip_right")
    for name in ("ASIS", "AIIS", "PSIS", "PIIS", "GSN", "ISP", "PT"):
        point = healthy.landmarks[f"{name}_{side}"]
        assert np.linalg.norm(rim - point, axis=1).min() < 1.5, name
    p = {k: healthy.landmarks[f"{k}_{side}"] for k in ("ASIS", "PSIS", "AIIS", "PIIS", "GSN")}
    # The spines are what their names say.
    iliac = rim[rim[:, 2] > p["AIIS"][2] + 8.0]
    assert p["ASIS"][1] == pytest.approx(iliac[:, 1].min(), abs=2.0)
    assert p["PSIS"][1] == pytest.approx(rim[:, 1].max(), abs=2.0)
    assert p["ASIS"][2] > p["AIIS"][2] + 15.0
    assert p["PSIS"][2] > p["PIIS"][2] + 10.0
    assert p["GSN"][1] < p["PIIS"][1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_hip_centre_is_the_centre_of_the_head(healthy: Phantom, side: str) -> None:
    centre = healthy.landmarks[f"HJC_{side[0].upper()}"]
    mask = healthy.labels.mask(f"femur_{side}")
    # Sub-voxel surface: the half-way level of the slightly smoothed label.
    smooth = ndi.gaussian_filter(mask.astype(np.float32), 0.7)
    rng = np.random.default_rng(0)
    rays = rng.standard_normal((2000, 3))
    rays /= np.linalg.norm(rays, axis=1)[:, None]
    inward = np.array([-1.0 if side == "left" else 1.0, 0.0, 0.6])
    rays = rays[rays @ inward > 0.55]
    reach = np.arange(14.0, 32.0, 0.1)
    g = healthy.volume.geometry
    points = centre + rays[:, None] * reach[:, None]
    value = ndi.map_coordinates(smooth, g.to_index(points.reshape(-1, 3)).T, order=1)
    inside = value.reshape(len(rays), -1) > 0.5
    edge = centre + rays * reach[inside.sum(axis=1) - 1][:, None]
    system = np.column_stack([2.0 * edge, np.ones(len(edge))])
    solution = np.linalg.lstsq(system, (edge**2).sum(axis=1), rcond=None)[0]
    radius = np.sqrt(solution[3] + solution[:3] @ solution[:3])
    assert np.linalg.norm(solution[:3] - centre) < 0.5
    assert 19.0 < radius < 26.0


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("level", ["S1", "S2", "S3", "S4"])
def test_foramina_are_holes_in_bone(healthy: Phantom, level: str, side: str) -> None:
    front, back = (healthy.landmarks[f"{level}{k}F_{side}"] for k in "AP")
    assert front[1] < back[1], "the ventral one is in front"
    axis = (back - front) / np.linalg.norm(back - front)
    turn = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
    reach = np.arange(0.0, 14.0, 0.25)
    for centre in (front, back):
        assert label_at(healthy, centre) == 0, "outside the bone"
        # A ring of bone surrounds it in some plane across the way through.
        best = 0.0
        for lean_x in (-0.5, 0.0, 0.5):
            for lean_z in (-0.8, -0.4, 0.0, 0.4, 0.8):
                normal = axis + [lean_x, 0.0, lean_z]
                one = np.cross(normal, [1.0, 0.0, 0.0])
                one /= np.linalg.norm(one)
                two = np.cross(normal, one)
                two /= np.linalg.norm(two)
                rays = np.cos(turn)[:, None] * one + np.sin(turn)[:, None] * two
                ring = label_at(healthy, centre + rays[:, None] * reach[:, None]) == 1
                best = max(best, float(ring.any(axis=1).mean()))
        assert best > 0.85, "enclosed by it"
    assert np.linalg.norm(front - back) < 35.0


def test_foramina_follow_each_other(healthy: Phantom) -> None:
    for side, sign in (("L", 1.0), ("R", -1.0)):
        for kind in "AP":
            chain = np.array([healthy.landmarks[f"S{i}{kind}F_{side}"] for i in (1, 2, 3, 4)])
            assert np.all(np.diff(chain[:, 2]) < -8.0), "downwards"
            assert np.all(np.diff(sign * chain[:, 0]) < 1.0), "and towards the middle"
            assert np.all(sign * chain[:, 0] > 8.0)


@pytest.mark.parametrize("incidence", [40.0, 66.0])
def test_sacroiliac_joint(incidence: float) -> None:
    """Gap 1 to 2.5 mm, auricular area 10 to 18 cm2 (DIM-16), ilium thick beside it."""
    from sacroplan.imaging.phantom.build import grid

    pose = solve(PhantomParameters(pelvic_incidence_deg=incidence))
    g = grid(pose, (1.0, 1.0, 1.0))
    bones = fields.bones(g, pose)
    for name in ("hip_left", "hip_right"):
        pair = fields.overlap(bones["sacrum"], bones[name])
        assert pair is not None
        a, b = pair[0], pair[1]
        # Shortest way from the sacrum's surface to the ilium, between voxel centres; it is measured
        # about one voxel too long, half at either end.
        face = (a < 0) & ~ndi.binary_erosion(a < 0)
        way = ndi.distance_transform_edt(b >= 0)[face] - 1.0
        assert way.min() > 0.3, "the bones never touch"
        near = way[way < 3.0]
        assert 1.0 < np.median(near) < 2.5, name
        # A face of one voxel has 1.0 to 1.7 mm2, 1.3 on average over directions.
        area = 1.3 * len(near) / 100.0
        assert 8.0 < area < 22.0, f"{name}: {area:.1f} cm2"


def test_ilium_beside_the_joint_carries_a_screw(healthy: Phantom) -> None:
    for side, number, sign in (("L", 3, 1.0), ("R", 2, -1.0)):
        start = healthy.landmarks[f"SIJ_{side}"]
        outward = np.array([sign * 0.92, 0.39, 0.0])
        assert along(healthy, start, outward, number) > 9.0


def test_bones_do_not_touch(healthy: Phantom) -> None:
    g = healthy.volume.geometry
    for first, second, least in (
        ("sacrum", "hip_left", 1.4),
        ("sacrum", "hip_right", 1.4),
        ("L5", "sacrum", 1.4),
        ("L4", "L5", 1.4),
        ("hip_left", "hip_right", 4.0),
        ("femur_left", "hip_left", 2.0),
    ):
        a, b = healthy.labels.mask(first), healthy.labels.mask(second)
        _, near = cropped(healthy, second)
        box = tuple(slice(max(0, s.start - 5), s.stop + 5) for s in near)
        distance = ndi.distance_transform_edt(~b[box], sampling=g.spacing_mm)
        assert distance[a[box]].min() >= least, f"{first} and {second}"


def test_ct_numbers(healthy: Phantom) -> None:
    hu, g = healthy.volume.data, healthy.volume.geometry
    assert hu.dtype == np.int16
    assert hu.min() >= -1024
    assert np.abs(np.mean(hu[:8, :8]) + 1000.0) < 3.0
    assert 8.0 < np.std(hu[:8, :8]) < 25.0
    k = int(g.to_index(healthy.landmarks["S1EP"])[2])
    body = ndi.binary_fill_holes(ndi.binary_opening(hu[:, :, k] > -300, iterations=2))
    depth = ndi.distance_transform_edt(body)
    fat = hu[:, :, k][(depth > 4) & (depth < 12)]
    assert -120.0 < np.median(fat) < -60.0  # HU-04
    at = np.rint(g.to_index(healthy.landmarks["PSIS_L"] + [22.0, -10.0, 0.0])).astype(int)
    muscle = hu[at[0] - 5 : at[0] + 6, at[1] - 5 : at[1] + 6, at[2] - 5 : at[2] + 6]
    assert 35.0 < np.median(muscle) < 65.0  # HU-04
    for name in ("sacrum", "hip_left", "L5", "L4", "femur_left"):
        mask, box = cropped(healthy, name)
        inner = ndi.distance_transform_edt(mask)
        spongy = hu[box][inner > 5.0]
        assert len(spongy) > 300, name
        assert 100.0 < np.mean(spongy) < 300.0, name
        if not name.startswith("femur"):  # whose shaft's cortex is thicker than 5 mm
            assert 25.0 < np.std(spongy) < 90.0, "texture"
        shell = hu[box][(inner > 0.0) & (inner < 3.0)]
        assert np.percentile(shell, 95) > 800.0, name
        assert shell.max() < 1900
    shaft = healthy.labels.mask("femur_left")[:, :, 3]
    rind = ndi.distance_transform_edt(shaft)
    cortex = hu[:, :, 3][(rind > 2.0) & (rind < 5.0)]
    assert 1000.0 < np.mean(cortex) < 1500.0


def test_edge_of_bone_is_where_the_label_says(healthy: Phantom) -> None:
    """The half-way grey level of an outer cortex falls on the label's surface within half a voxel."""
    p = healthy.landmarks
    centre = p["HJC_L"] + np.array([44.0, 8.0, -70.0])
    shifts = []
    for turn in np.linspace(0.0, 2.0 * np.pi, 36, endpoint=False):
        ray = centre + np.arange(0.0, 30.0, 0.05)[:, None] * [np.cos(turn), np.sin(turn), 0.0]
        index = healthy.volume.geometry.to_index(ray).T
        grey = ndi.map_coordinates(healthy.volume.data.astype(float), index, order=1)
        solid = ndi.map_coordinates(healthy.labels.mask("femur_left").astype(float), index, order=1)
        shifts.append(
            0.05
            * (np.flatnonzero(grey > 0.5 * (1350 + 55)).max() - np.flatnonzero(solid > 0.5).max())
        )
    assert abs(np.mean(shifts)) < 0.25
    assert np.abs(shifts).max() < 1.0


def test_tumour_is_lytic_and_grows_forward(ill: Phantom) -> None:
    without = build(PhantomParameters(tumour_level=None), spacing_mm=(1.6, 1.6, 1.6))
    tumour = ill.labels.mask("tumour")
    was = without.labels.data[tumour]
    assert set(np.unique(was)) <= {0, 1}, "it takes nothing but sacrum"
    volume = ill.labels.volume_mm3("tumour")
    ball = np.pi / 6.0 * 46.0**3
    assert 0.7 * ball < volume < 1.9 * ball
    inside, outside = tumour & (without.labels.data == 1), tumour & (without.labels.data == 0)
    assert 0.25 < inside.sum() / tumour.sum() < 0.9
    g = ill.volume.geometry
    in_front = g.to_world(np.argwhere(outside))[:, 1].mean()
    assert in_front < g.to_world(np.argwhere(inside))[:, 1].mean() - 5.0
    core = ndi.binary_erosion(inside, iterations=2)
    assert np.median(ill.volume.data[core]) < 100.0
    assert np.median(without.volume.data[core]) > np.median(ill.volume.data[core]) + 50.0
    assert ndi.label(tumour)[1] == 1
    # Everything that is not tumour stayed as it was.
    assert np.array_equal(without.labels.data[~tumour], ill.labels.data[~tumour])
    assert not without.labels.has("tumour")


def test_tumour_follows_its_level() -> None:
    heights = []
    for level in ("S1", "S2", "S3", "S4"):
        p = PhantomParameters(tumour_level=level, tumour_diameter_mm=30.0)  # type: ignore[arg-type]
        ph = build(p, spacing_mm=COARSE)
        heights.append(points_of(ph, "tumour")[:, 2].mean())
    assert np.all(np.diff(heights) < -8.0)


def test_sexes_and_sizes_differ() -> None:
    woman = solve(PhantomParameters(sex="female"))
    man = solve(PhantomParameters(sex="male"))
    tall = solve(PhantomParameters(sex="male", size=1.1))
    assert man.l5.mean_scale > woman.l5.mean_scale
    assert tall.hip_left.mean_scale == pytest.approx(1.1 * man.hip_left.mean_scale)

    def outlet(pose: object) -> float:
        left, right = pose.hip_left, pose.hip_right  # type: ignore[attr-defined]
        spines = left.to_world(array("hip", "ISP")) - right.to_world(array("hip", "ISP"))
        crest = left.to_world(array("hip", "ASIS")) - right.to_world(array("hip", "ASIS"))
        return float(np.linalg.norm(spines) / np.linalg.norm(crest))

    assert outlet(woman) > 1.02 * outlet(man), "a woman's outlet is the wider one"


def test_figures(ill: Phantom) -> None:
    figures = ill.metrics()
    assert figures["phantom.pelvic_incidence"].value == pytest.approx(52.0, abs=0.2)
    assert figures["phantom.tumour_volume"].value == pytest.approx(
        ill.labels.volume_mm3("tumour") / 1000.0
    )
