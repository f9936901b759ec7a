"""Vertebral and sacral endplates: robust planes on the end surfaces of a vertebral body.

Everything here works in local axes x anterior, y cranial, z right (mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan.anatomy.landmarks_shapes import mirror_plane, plane_segments
from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.surface import Surface

FIELD_MM = 1.0
"""Grid on which the deepest point of a bone is sought; it only starts the search."""

CORE = 0.8
"""Share of the endplate's half-axes used for the plane fit: the rim is rounded or carries
osteophytes."""

RIM_DROP_MM = 2.0
"""The endplate ends where the surface has fallen this far below its plane."""

L5_TO_S1_MM = 46.0
"""The middle of S1 is no further than this from the middle of L5: half of L5 (14), disc (5 to 14), half
of S1 (15)."""

BODY_WIDTH = 0.75
"""Half width of a body is at most this times its depth (S1: 50 x 33 mm), so that a transverse process
or the sacral ala at the same level is not taken for body."""

TUKEY_MM = 2.5
"""Residual beyond which a face has no say in the plane; endplates are 2-4 mm concave, Schmorl's
nodes and osteophytes deeper."""


@dataclass(frozen=True, slots=True, eq=False)
class Endplate:
    """One endplate.

    Attributes
    ----------
    centre, anterior, posterior : (3,) on the plane; edges in the bone's own mid-sagittal plane.
    normal : (3,) pointing cranial (for inferior endplates too).
    ahead : (3,) unit direction to the anterior edge, in the endplate.
    depth_mm : anterior to posterior edge. rms_mm : of the core faces. area_mm2 : core faces used.
    """

    centre: FloatArray
    anterior: FloatArray
    posterior: FloatArray
    normal: FloatArray
    ahead: FloatArray
    depth_mm: float
    rms_mm: float
    area_mm2: float


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A vertebral body: deepest point (3,), radius there (mm), and the bone's mirror plane normal."""

    centre: FloatArray
    radius_mm: float
    right: FloatArray


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
    from sacroplan.geometry.volume import grid_around

    point, right = mirror_plane(bone.vertices, up, right)
    grid = grid_around(bone.vertices, FIELD_MM, 2.0 * FIELD_MM, bone.frame)
    inner = distance_transform_edt(inside_mask(bone, grid)) * FIELD_MM
    where = np.argwhere(inner > 5.0)
    if not len(where):
        raise GeometryError("The bone is nowhere thicker than 10 mm; it holds no vertebral body.")
    p = grid.to_world(where.astype(np.float64))
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
    near = np.linalg.norm(p - p[top], axis=1) <= 4.0
    weight = np.clip(depth[near] - depth[top] + 1.5, 0.0, None)
    centre = (p[near] * weight[:, None]).sum(axis=0) / weight.sum()
    centre = centre - ((centre - point) @ right) * right
    return Body(centre, float(depth[top]), right)


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
    bone: Surface, foot: _Footprint, y: FloatArray, right: FloatArray, sign: float
) -> tuple[FloatArray, FloatArray, float, float] | None:
    """Plane through the end surface over ``foot``: point, cranial normal, rms, area."""
    x, y, z = _axes(y, right)
    c = bone.triangles.mean(axis=1) - foot.centre
    n = bone.face_normals
    area = np.linalg.norm(bone.area_vectors, axis=1)
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


def _edges(
    bone: Surface,
    foot: _Footprint,
    point: FloatArray,
    normal: FloatArray,
    right: FloatArray,
    sign: float,
) -> tuple[float, float, FloatArray, FloatArray] | None:
    """Anterior and posterior edge in the mirror plane, as distances along x from an origin."""
    y = normal
    x, y, _ = _axes(y, right)
    origin = foot.centre - ((foot.centre - point) @ y) * y
    cut = plane_segments(bone, origin, x, y)
    near = (np.abs(cut[:, :, 0]) < 1.5 * foot.half_depth + 10.0).any(axis=1)
    near &= (np.abs(cut[:, :, 1]) < 10.0).any(axis=1)
    cut = cut[near]
    if not len(cut):
        return None
    steps = np.maximum(1, np.ceil(np.linalg.norm(cut[:, 1] - cut[:, 0], axis=1) / 0.25).astype(int))
    t = np.concatenate([np.arange(k) / k for k in steps])[:, None]
    p = np.repeat(cut[:, 0], steps, axis=0) * (1.0 - t) + np.repeat(cut[:, 1], steps, axis=0) * t
    xs, hs = p[:, 0], sign * p[:, 1]
    # Upper envelope along x: the end surface as seen from the disc.
    reach = 1.5 * foot.half_depth + 8.0
    bins = np.arange(-reach, reach + 0.5, 0.5)
    top = np.full(len(bins), -np.inf)
    near = (np.abs(xs) < reach) & (hs > -8.0) & (hs < 8.0)
    np.maximum.at(
        top, np.clip(np.rint((xs[near] + reach) / 0.5).astype(int), 0, len(bins) - 1), hs[near]
    )
    on = top > -RIM_DROP_MM
    # Start over the middle, or at the nearest place where there is endplate at all.
    start = int(np.argmin(np.abs(bins) + np.where(on, 0.0, np.inf)))
    if abs(bins[start]) > 0.5 * foot.half_depth:
        return None
    low = high = start
    # A gap of up to 1.5 mm (a Schmorl node's mouth, a vessel) does not end the endplate.
    while high + 1 < len(bins) and on[high + 1 : high + 4].any():
        high += 1
    while low > 0 and on[max(0, low - 3) : low].any():
        low -= 1
    plate = (xs >= bins[low] - 0.25) & (xs <= bins[high] + 0.25) & near & (hs > -RIM_DROP_MM)
    if not plate.any():
        return None
    front, back = float(xs[plate].max()), float(xs[plate].min())
    # The samples only find the edge; where the curve crosses the drop is exact.
    below = cut[:, :, 1] * sign + RIM_DROP_MM
    crosses = (below[:, 0] <= 0) != (below[:, 1] <= 0)
    a, b = below[crosses].T
    at = cut[crosses, 0, 0] + a / (a - b) * (cut[crosses, 1, 0] - cut[crosses, 0, 0])
    for end, value in (("front", front), ("back", back)):
        near_end = at[np.abs(at - value) < 1.0]
        if len(near_end):
            exact = float(near_end[int(np.argmin(np.abs(near_end - value)))])
            front, back = (exact, back) if end == "front" else (front, exact)
    return front, back, origin, x


def find_endplate(
    bone: Surface, body: Body, up: FloatArray, superior: bool, rounds: int = 8
) -> Endplate | None:
    """Superior or inferior endplate of the bone around ``body``; None where there is none.

    ``up`` (3,) is a first guess of cranial, good to about 35 degrees.
    """
    sign = 1.0 if superior else -1.0
    y = unit(up - (up @ body.right) * body.right)
    foot = _waist(bone, body, y)
    if foot is None:
        return None
    fit = None
    edges = None
    for _ in range(rounds):
        fit = _fit(bone, foot, y, body.right, sign)
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
    return Endplate(
        0.5 * (anterior + posterior), anterior, posterior, normal, ahead, front - back, rms, area
    )


def find_sacral_endplate(
    sacrum: Surface, body: Body, up: FloatArray, toward_l5: FloatArray | None
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
        plate = find_endplate(sacrum, body, guess, superior=True)
        if plate is None:
            continue
        height = float((plate.centre - body.centre) @ plate.normal)
        if not 3.0 < height < 40.0 or plate.normal @ up < 0.1:
            continue
        if best is None or plate.area_mm2 > best.area_mm2:
            best = plate
    return best
