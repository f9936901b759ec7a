"""Vertebral and sacral endplates: robust planes on the end surfaces of a vertebral body.

Everything here works in local axes x anterior, y cranial, z right (mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.anatomy.landmarks_shapes import Faces, faces_of, mirror_plane, plane_segments
from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry

FIELD_MM = 1.0
"""Grid on which the deepest point of a bone is sought; it only starts the search."""

CORE = 0.8
"""Share of the endplate's half-axes used for the plane fit: the rim is rounded or carries
osteophytes."""

RIM_DROP_MM = 2.0
"""The endplate ends where the surface has fallen this far below its plane."""

SIDE_DROP_MM = 1.2
"""To the sides, where the sacral ala slopes off gently, it ends this far below already."""

HOLLOW_MM = 4.0
"""Between its edges an endplate may be hollow by this much: concave ones are by 2 to 4 mm."""

SIDE_SHARE = (0.6, 2.1)
"""Half width of an endplate against its half depth (50 x 33 mm: 1.5); anything else is no edge."""

RIM_RISE_MM = 5.5
"""To the sides it also ends where the surface has risen this far: a facet, an osteophyte, the ala."""

REACH_MM = 48.0
"""Faces further than this from the body's centre have no part in its endplates."""

L5_TO_S1_MM = 46.0
"""The middle of S1 is no further than this from the middle of L5: half of L5 (14), disc (5 to 14), half
of S1 (15)."""

BODY_WIDTH = 0.75
"""Half width of a body is at most this times its depth (S1: 50 x 33 mm), so that a transverse process
or the sacral ala at the same level is not taken for body."""

REPEAT_ROUNDS = 2
"""Rounds in which an endplate settles on a slightly disturbed surface."""

TUKEY_MM = 2.5
"""Residual beyond which a face has no say in the plane; endplates are 2-4 mm concave, Schmorl's
nodes and osteophytes deeper."""


@dataclass(frozen=True, slots=True, eq=False)
class Endplate:
    """One endplate.

    Attributes
    ----------
    centre, anterior, posterior : (3,) on the plane; edges in the bone's own mid-sagittal plane.
    left, right : (3,) edges on the plane, halfway between anterior and posterior; None where open.
    normal : (3,) pointing cranial (for inferior endplates too).
    ahead : (3,) unit direction to the anterior edge, in the endplate.
    depth_mm : anterior to posterior edge. rms_mm : of the core faces. area_mm2 : core faces used.
    """

    centre: FloatArray
    anterior: FloatArray
    posterior: FloatArray
    left: FloatArray | None
    right: FloatArray | None
    normal: FloatArray
    ahead: FloatArray
    depth_mm: float
    rms_mm: float
    area_mm2: float


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A vertebral body.

    Attributes
    ----------
    centre : (3,) deepest point, in the mirror plane. radius_mm : depth there.
    right : (3,) normal of the bone's mirror plane.
    grid, inside : the bone as voxels.
    near : the bone's surface around the body. faces : of ``near``.
    """

    centre: FloatArray
    radius_mm: float
    right: FloatArray
    grid: VolumeGeometry
    inside: npt.NDArray[np.bool_]
    near: Surface
    faces: Faces


def around(bone: Surface, centre: FloatArray, reach_mm: float = REACH_MM) -> Surface:
    """The open part of ``bone`` within ``reach_mm`` of ``centre``."""
    close = np.linalg.norm(bone.vertices - centre, axis=1) <= reach_mm
    return bone.subset(close[bone.faces].any(axis=1))


def find_body(
    bone: Surface,
    up: FloatArray,
    right: FloatArray,
    sacrum: bool,
    l5: FloatArray | None = None,
) -> Body:
    """Body of a vertebra, or of S1 where ``sacrum``, from the largest ball inside the bone.

    ``up`` and ``right`` (3,) are first guesses; ``l5`` (3,) is the L5 body where it is known.
    """
    from scipy.ndimage import distance_transform_edt

    from sacroplan.geometry.fields import inside_mask

    point, right = mirror_plane(bone.vertices, up, right)
    # Centred on the bone, so that the mirror image falls on the mirror image of the grid.
    low, high = bone.bounds
    count = 2 * np.ceil((high - low) / (2.0 * FIELD_MM)).astype(int) + 5
    grid = VolumeGeometry(
        (int(count[0]), int(count[1]), int(count[2])),
        np.full(3, FIELD_MM),
        0.5 * (low + high) - 0.5 * FIELD_MM * (count - 1.0),
        frame=bone.frame,
    )
    inside = inside_mask(bone, grid)
    # Every other point will do to start the search; an odd count keeps them symmetric.
    inner = distance_transform_edt(inside[::2, ::2, ::2]) * (2.0 * FIELD_MM)
    where = np.argwhere(inner > 5.0)
    if not len(where):
        raise GeometryError("The bone is nowhere thicker than 10 mm; it holds no vertebral body.")
    p = grid.to_world(2.0 * where)
    depth = inner[tuple(where.T)]
    middle = np.abs((p - point) @ right) <= 6.0
    if sacrum:
        # S1 is the body next to L5, or the highest; S2 can be as thick, a tumour thicker.
        if l5 is not None:
            middle &= np.linalg.norm(p - l5, axis=1) <= L5_TO_S1_MM
        else:
            middle &= p @ up >= np.quantile(bone.vertices @ up, 0.98) - 50.0
    if not middle.any():
        raise GeometryError("No vertebral body lies near the bone's mirror plane.")
    p, depth = p[middle], depth[middle]
    top = int(np.argmax(depth))
    near = np.linalg.norm(p - p[top], axis=1) <= 6.0
    weight = np.clip(depth[near] - depth[top] + 2.5, 0.0, None)
    centre = (p[near] * weight[:, None]).sum(axis=0) / weight.sum()
    centre = centre - ((centre - point) @ right) * right
    close = around(bone, centre)
    return Body(centre, float(depth[top]), right, grid, inside, close, faces_of(close))


def _reach(segments: FloatArray, direction: FloatArray) -> float:
    """Distance from the origin along ``direction`` (2,) to the first of ``segments`` (m, 2, 2)."""
    side = np.array([-direction[1], direction[0]])
    along, across = segments @ direction, segments @ side
    crosses = (across[:, 0] <= 0) != (across[:, 1] <= 0)
    along, across = along[crosses], across[crosses]
    hit = along[:, 0] + across[:, 0] / (across[:, 0] - across[:, 1]) * (along[:, 1] - along[:, 0])
    hit = hit[hit > 0]
    return float(hit.min()) if len(hit) else float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class _Footprint:
    """Ellipse in the plane across ``y``: centre (3,), half depth along x, half width along z."""

    centre: FloatArray
    half_depth: float
    half_width: float


def _axes(y: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """x anterior, y, z right, with x in the mirror plane."""
    x = unit(np.cross(y, right))
    return x, y, np.cross(x, y)


def _waist(bone: Surface, body: Body, y: FloatArray) -> _Footprint | None:
    x, y, z = _axes(y, body.right)
    cut = plane_segments(bone, body.centre, x, z)
    front = _reach(cut, np.array([1.0, 0.0]))
    back = _reach(cut, np.array([-1.0, 0.0]))
    if not (np.isfinite(front) and np.isfinite(back)):
        return None
    back = min(back, 1.5 * front + 5.0)
    half = 0.5 * (front + back)
    shift = 0.5 * (front - back)
    widths = [_reach(cut - [shift, 0.0], np.array([0.0, s])) for s in (1.0, -1.0)]
    width = min(*widths, 2.0 * BODY_WIDTH * half)
    if width < 5.0 or half < 5.0:
        return None
    return _Footprint(body.centre + shift * x, half, width)


def _fit(
    faces: Faces, foot: _Footprint, y: FloatArray, right: FloatArray, sign: float
) -> tuple[FloatArray, FloatArray, float, float] | None:
    """Plane through the end surface over ``foot``: point, cranial normal, rms, area."""
    x, y, z = _axes(y, right)
    c = faces.centres - foot.centre
    n, area = faces.normals, faces.areas
    inside = ((c @ x) / (CORE * foot.half_depth)) ** 2 + (
        (c @ z) / (CORE * foot.half_width)
    ) ** 2 <= 1.0
    height = sign * (c @ y)
    use = inside & (sign * (n @ y) > 0.6) & (height > 3.0)
    if area[use].sum() < 100.0:
        return None
    # The first surface above the body's middle is the endplate; anything higher is another part.
    order = np.argsort(height[use], kind="stable")
    cumulative = np.cumsum(area[use][order])
    typical = float(height[use][order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])
    p, w0 = c[use], area[use]
    weight = w0 * (np.abs(height[use] - typical) < 8.0)
    point, normal, rms = np.zeros(3), y, np.inf
    for round_ in range(12):
        total = weight.sum()
        if total < 60.0:
            return None
        point = (p * weight[:, None]).sum(axis=0) / total
        q = p - point
        normal = np.linalg.eigh((q * weight[:, None]).T @ q)[1][:, 0]
        normal = normal if normal @ y > 0 else -normal
        residual = q @ normal
        rms = float(np.sqrt((weight * residual**2).sum() / total))
        limit = max(TUKEY_MM, 6.0 - round_)
        weight = w0 * np.clip(1.0 - (residual / limit) ** 2, 0.0, None) ** 2
    return point + foot.centre, normal, rms, float(w0[np.abs(residual) < TUKEY_MM].sum())


def _run(
    bone: Surface,
    origin: FloatArray,
    x: FloatArray,
    y: FloatArray,
    half: float,
    drop: float,
    dip: float,
    rise: float,
) -> tuple[float, float] | None:
    """First and last place along ``x`` (from ``origin``, on the plane) that still is endplate.

    ``y`` points out of the bone; the endplate ends ``drop`` below its plane or ``rise`` above
    it (mm); in between it may be hollow by ``dip``.
    """
    cut = plane_segments(bone, origin, x, y)
    near = (np.abs(cut[:, :, 0]) < 1.5 * half + 10.0).any(axis=1)
    near &= (np.abs(cut[:, :, 1]) < 10.0).any(axis=1)
    cut = cut[near]
    if not len(cut):
        return None
    steps = np.maximum(1, np.ceil(np.linalg.norm(cut[:, 1] - cut[:, 0], axis=1) / 0.25).astype(int))
    t = np.concatenate([np.arange(k) / k for k in steps])[:, None]
    p = np.repeat(cut[:, 0], steps, axis=0) * (1.0 - t) + np.repeat(cut[:, 1], steps, axis=0) * t
    xs, hs = p[:, 0], p[:, 1]
    # Upper envelope along x: the end surface as seen from the disc.
    reach = 1.5 * half + 8.0
    bins = np.arange(-reach, reach + 0.5, 0.5)
    top = np.full(len(bins), -np.inf)
    near = (np.abs(xs) < reach) & (hs > -8.0) & (hs < 8.0)
    np.maximum.at(
        top, np.clip(np.rint((xs[near] + reach) / 0.5).astype(int), 0, len(bins) - 1), hs[near]
    )
    on = (top > -dip) & (top < rise)
    # Start over the middle, or at the nearest place where there is endplate at all.
    start = int(np.argmin(np.abs(bins) + np.where(on, 0.0, np.inf)))
    if abs(bins[start]) > 0.5 * half:
        return None
    low = high = start
    # A gap of up to 1.5 mm (a Schmorl node's mouth, a vessel) does not end the endplate.
    while high + 1 < len(bins) and on[high + 1 : high + 4].any():
        high += 1
    while low > 0 and on[max(0, low - 3) : low].any():
        low -= 1
    rim = np.flatnonzero((top > -drop) & (top < rise))
    rim = rim[(rim >= low) & (rim <= high)]
    if not len(rim):
        return None
    low, high = int(rim[0]), int(rim[-1])
    plate = (xs >= bins[low] - 0.25) & (xs <= bins[high] + 0.25) & near & (hs > -drop)
    plate &= hs < rise
    if not plate.any():
        return None
    first, last = float(xs[plate].min()), float(xs[plate].max())
    # The samples only find the edge; where the curve crosses the drop is exact.
    below = cut[:, :, 1] + drop
    crosses = (below[:, 0] <= 0) != (below[:, 1] <= 0)
    a, b = below[crosses].T
    at = cut[crosses, 0, 0] + a / (a - b) * (cut[crosses, 1, 0] - cut[crosses, 0, 0])

    def exact(value: float) -> float:
        close = at[np.abs(at - value) < 1.0]
        return float(close[int(np.argmin(np.abs(close - value)))]) if len(close) else value

    return exact(first), exact(last)


def _edges(
    bone: Surface,
    foot: _Footprint,
    point: FloatArray,
    normal: FloatArray,
    right: FloatArray,
    sign: float,
) -> tuple[float, float, FloatArray, FloatArray] | None:
    """Anterior and posterior edge in the mirror plane, as distances along x from an origin."""
    x, y, _ = _axes(normal, right)
    origin = foot.centre - ((foot.centre - point) @ y) * y
    run = _run(bone, origin, x, sign * y, foot.half_depth, RIM_DROP_MM, HOLLOW_MM, np.inf)
    return None if run is None else (run[1], run[0], origin, x)


def _sides(
    bone: Surface,
    centre: FloatArray,
    normal: FloatArray,
    ahead: FloatArray,
    half: float,
    sign: float,
) -> tuple[FloatArray | None, FloatArray | None]:
    """Left and right edge halfway between front and back, None where the end surface goes on."""
    z = np.cross(ahead, normal)
    run = _run(bone, centre, z, sign * normal, 1.5 * half, SIDE_DROP_MM, HOLLOW_MM, RIM_RISE_MM)
    if run is None:
        return None, None
    # An edge beyond the widest body is no edge: the ala or a process goes on at the plate's height.
    low, high = SIDE_SHARE
    left, right = (centre + r * z if low * half < abs(r) < high * half else None for r in run)
    return left, right


def find_endplate(body: Body, up: FloatArray, superior: bool, rounds: int = 8) -> Endplate | None:
    """Superior or inferior endplate around ``body``; None where there is none.

    ``up`` (3,) is a first guess of cranial, good to about 35 degrees.
    """
    y = unit(up - (up @ body.right) * body.right)
    foot = _waist(body.near, body, y)
    if foot is None:
        return None
    return _settle(body.near, body.faces, body, foot, y, 1.0 if superior else -1.0, rounds)


def repeat_endplate(body: Body, near: Surface, plate: Endplate, superior: bool) -> Endplate | None:
    """``plate`` found again on ``near``, a disturbed copy of the body's surface."""
    y = unit(plate.normal - (plate.normal @ body.right) * body.right)
    base = plate.centre - ((plate.centre - body.centre) @ y) * y
    width = 2.0 * BODY_WIDTH * 0.5 * plate.depth_mm
    foot = _Footprint(base, 0.5 * plate.depth_mm, width)
    return _settle(near, faces_of(near), body, foot, y, 1.0 if superior else -1.0, REPEAT_ROUNDS)


def _settle(
    bone: Surface,
    faces: Faces,
    body: Body,
    foot: _Footprint,
    y: FloatArray,
    sign: float,
    rounds: int,
) -> Endplate | None:
    """Plane and edges in turn, from the footprint ``foot``, until both stand still."""
    fit = None
    edges = None
    for _ in range(rounds):
        fit = _fit(faces, foot, y, body.right, sign)
        if fit is None:
            return None
        point, normal, _, _ = fit
        # The endplate's own tilt to the side is kept in the result, but the search stays sagittal.
        sagittal = unit(normal - (normal @ body.right) * body.right)
        turned = float(np.linalg.norm(sagittal - y))
        y = sagittal
        edges = _edges(bone, foot, point, y, body.right, sign)
        if edges is None:
            return None
        front, back, origin, x = edges
        if front - back < 15.0:
            return None
        half = 0.5 * (front - back)
        width = min(foot.half_width, 2.0 * BODY_WIDTH * half)
        moved = origin + 0.5 * (front + back) * x
        base = body.centre + (moved - body.centre) - ((moved - body.centre) @ y) * y
        shift = float(np.linalg.norm(base - foot.centre)) + abs(half - foot.half_depth)
        foot = _Footprint(base, half, width)
        if turned < 1e-7 and shift < 1e-6:
            break
    assert fit is not None
    assert edges is not None
    point, normal, rms, area = fit
    front, back, origin, x = edges

    def on_plane(p: FloatArray) -> FloatArray:
        return np.asarray(p - ((p - point) @ normal) * normal)

    anterior, posterior = on_plane(origin + front * x), on_plane(origin + back * x)
    ahead = unit((anterior - posterior) - ((anterior - posterior) @ normal) * normal)
    centre = 0.5 * (anterior + posterior)
    left, right_edge = _sides(bone, centre, normal, ahead, 0.5 * (front - back), sign)
    return Endplate(
        centre, anterior, posterior, left, right_edge, normal, ahead, front - back, rms, area
    )


def find_sacral_endplate(
    body: Body, up: FloatArray, toward_l5: FloatArray | None
) -> Endplate | None:
    """S1 superior endplate. ``toward_l5`` (3,) points from S1 to the L5 body where L5 is known.

    Without it, forward tilts of 0 to 70 degrees from ``up`` are tried; the largest flat end wins.
    """
    if toward_l5 is not None:
        tilts = [toward_l5]
    else:
        angles = np.radians(np.arange(0.0, 71.0, 10.0))
        x, y, _ = _axes(unit(up - (up @ body.right) * body.right), body.right)
        tilts = [np.sin(t) * x + np.cos(t) * y for t in angles]
    best: Endplate | None = None
    for guess in tilts:
        plate = find_endplate(body, guess, superior=True)
        if plate is None:
            continue
        height = float((plate.centre - body.centre) @ plate.normal)
        if not 3.0 < height < 40.0 or plate.normal @ up < 0.1:
            continue
        if best is None or plate.area_mm2 > best.area_mm2:
            best = plate
    return best
