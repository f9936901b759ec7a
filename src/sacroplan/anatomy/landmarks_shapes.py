"""Shapes inside bone surfaces: spheres, mirror planes, flat cuts, extreme points. Any axes, mm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray, unit
from sacroplan.geometry.surface import Surface

BoolArray = npt.NDArray[np.bool_]

CAP_MM = 2.0
"""Depth of the cap whose centroid stands for an extreme point: one vertex of a noisy surface would
jump by the triangle size."""

CAP_REACH_MM = 12.0
"""Two separate summits of nearly equal height must not be averaged."""


MIRROR_START_DEG = 12.0
"""Searches for a mirror plane start this far to either side as well: axial turn in a scoliosis."""

MIRROR_ROUNDS = 60
"""Closest-point rounds; 15 to 40 settle all bones seen."""

MIRROR_SCOUT = (1000, 20_000)
"""Points, and points of the tree, with which the best of the three searches is chosen."""

MIRROR_STILL, SCOUT_STILL = 1e-9, 1e-4
"""A search that moves by less (mm and rad together) has settled; scouts only have to get near."""

VOTERS = 20_000
"""Faces that vote for a sphere's centre; the fit itself uses all that lie near it."""


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Centres (n, 3), unit normals (n, 3) and areas (n,) of a surface's faces, worked out once."""

    centres: FloatArray
    normals: FloatArray
    areas: FloatArray

    def where(self, chosen: BoolArray) -> Faces:
        """The faces selected by a mask (n,)."""
        return Faces(self.centres[chosen], self.normals[chosen], self.areas[chosen])


def faces_of(surface: Surface) -> Faces:
    """Centres, normals and areas of the faces of ``surface``."""
    t = surface.triangles
    vector = 0.5 * np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0])
    area = np.linalg.norm(vector, axis=1)
    normal = np.divide(vector, area[:, None], out=np.zeros_like(vector), where=area[:, None] > 0)
    return Faces(t.mean(axis=1), normal, area)


def vertex_areas(surface: Surface) -> FloatArray:
    """(n,) a third of the area of the faces around every vertex, mm2."""
    area = np.linalg.norm(surface.area_vectors, axis=1) / 3.0
    out = np.zeros(len(surface.vertices))
    for corner in range(3):
        out += np.bincount(surface.faces[:, corner], weights=area, minlength=len(out))
    return out


def extreme(points: FloatArray, areas: FloatArray, direction: FloatArray) -> FloatArray:
    """(3,) tangent point of ``points`` (n, 3) furthest along ``direction``.

    Height of the extreme vertex; the position across is the depth-weighted centroid of the cap
    below it, so that the point does not hang on one triangle.
    """
    d = unit(direction)
    height = points @ d
    top = int(np.argmax(height))
    near = np.linalg.norm(points - points[top], axis=1) <= CAP_REACH_MM
    cap = near & (height >= height[top] - CAP_MM)
    weight = areas[cap] * (height[cap] - (height[top] - CAP_MM))
    if weight.sum() <= 0.0:
        return np.array(points[top])
    centre = (points[cap] * weight[:, None]).sum(axis=0) / weight.sum()
    return np.asarray(centre + (height[top] - centre @ d) * d)


NEAR_FACES_MM = 12.0
"""Faces with a corner this much further away than the nearest vertex are asked for their size."""

SPHERE_REACH_MM = 2.5
"""Faces further than this off the sphere have no say; a 3 mm CT leaves steps of about 1 mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Sphere:
    """Sphere fitted to a joint surface.

    Attributes
    ----------
    centre : (3,). radius_mm. rms_mm : of the inliers. area_mm2 : weighted area.
    spread : variance of the inlier normals along their least varied direction; 1/3 for a whole
        sphere, (1 - cos t)^2 / 12 for a cap of half angle t. Small values leave the centre open.
    """

    centre: FloatArray
    radius_mm: float
    rms_mm: float
    area_mm2: float
    spread: float


def fit_sphere(
    points: FloatArray,
    normals: FloatArray,
    areas: FloatArray,
    radii_mm: tuple[float, float],
    concave: bool,
) -> Sphere | None:
    """The dominant sphere among oriented points (n, 3); None where there is none.

    Normals vote for centres (a Hough transform: a ball's normals meet, other shapes' do not), then
    trimmed least squares on the points that lie on the ball and look the right way.
    ``concave`` looks for a socket (outward normals point at the centre) instead of a ball.
    """
    from scipy.ndimage import gaussian_filter

    low, high = radii_mm
    sign = 1.0 if concave else -1.0
    step = 2.0
    every = np.arange(0, len(points), max(1, len(points) // VOTERS))
    all_points, all_normals, all_areas = points, normals, areas
    points, normals, areas = points[every], normals[every], areas[every]
    origin = points.min(axis=0) - high
    shape = np.ceil((points.max(axis=0) + high - origin) / step).astype(int) + 1
    votes = np.zeros(int(np.prod(shape)))
    # One large flat facet must not outvote a finely meshed ball.
    ballots = np.minimum(areas, 4.0 * np.median(areas))
    for r in np.arange(low, high + 0.5, 1.0):
        index = np.rint((points + sign * r * normals - origin) / step).astype(np.int64)
        flat = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]
        votes += np.bincount(flat, weights=ballots, minlength=len(votes))
    grid = gaussian_filter(votes.reshape(shape), 1.5)
    best = np.unravel_index(int(np.argmax(grid)), grid.shape)
    centre = origin + step * np.array(best, dtype=np.float64)
    away = np.linalg.norm(all_points - centre, axis=1)
    near = (away <= high + 6.0) & (away >= low - 6.0)
    return refine_sphere(
        all_points[near], all_normals[near], all_areas[near], radii_mm, concave, centre
    )


def refine_sphere(
    points: FloatArray,
    normals: FloatArray,
    areas: FloatArray,
    radii_mm: tuple[float, float],
    concave: bool,
    centre: FloatArray,
) -> Sphere | None:
    """Trimmed least-squares sphere near ``centre`` (3,); see :func:`fit_sphere`."""
    low, high = radii_mm
    sign = 1.0 if concave else -1.0
    ray = points - centre
    distance = np.linalg.norm(ray, axis=1)
    band = (-sign * np.einsum("ij,ij->i", ray, normals)) > 0.8 * distance
    band &= (distance > low - 2.0) & (distance < high + 2.0)
    if areas[band].sum() < 50.0:
        return None
    order = np.argsort(distance[band], kind="stable")
    cumulative = np.cumsum(areas[band][order])
    radius = float(distance[band][order][np.searchsorted(cumulative, cumulative[-1] / 2)])
    weight = np.zeros(len(points))
    for round_ in range(80):
        ray = points - centre
        distance = np.maximum(np.linalg.norm(ray, axis=1), 1e-9)
        # Smooth weights: a face that comes and goes would keep the iteration from settling.
        facing = -sign * np.einsum("ij,ij->i", ray, normals) / distance
        reach = max(SPHERE_REACH_MM, 5.0 - 0.5 * round_)
        weight = areas * np.clip((facing - 0.7) / 0.3, 0.0, None)
        weight = weight * np.clip(1.0 - ((distance - radius) / reach) ** 2, 0.0, None) ** 2
        used = weight > 0.0
        if weight.sum() < 50.0 or np.count_nonzero(used) < 20:
            return None
        p, w = points[used], np.sqrt(weight[used])
        shift = np.average(p, axis=0, weights=weight[used])
        q = p - shift
        a = np.column_stack([2.0 * q, np.ones(len(q))]) * w[:, None]
        solution = np.linalg.lstsq(a, (q**2).sum(axis=1) * w, rcond=None)[0]
        moved = shift + solution[:3]
        radius = float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 0.0)))
        step_mm = float(np.linalg.norm(moved - centre))
        centre = moved
        if step_mm < 1e-5 and round_ > 8:
            break
    if not low <= radius <= high:
        return None
    ray = points - centre
    distance = np.maximum(np.linalg.norm(ray, axis=1), 1e-9)
    share = weight / weight.sum()
    n = ray / distance[:, None]
    mean = share @ n
    spread = float(np.linalg.eigvalsh((n * share[:, None]).T @ n - np.outer(mean, mean))[0])
    rms = float(np.sqrt(share @ (distance - radius) ** 2))
    return Sphere(centre, radius, rms, float(weight.sum()), spread)


def mirror_plane(
    points: FloatArray, up: FloatArray, right: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Symmetry plane (point (3,), unit normal (3,)) of a bone; the normal is near ``right``.

    The best of three searches turned about ``up``, so that the answer does not hang on the guess.
    """
    from scipy.spatial import cKDTree

    u, r = unit(up), unit(right)
    few, many = MIRROR_SCOUT
    scouts = points[:: max(1, len(points) // few)]
    thin = points[:: max(1, len(points) // many)]
    tree = cKDTree(thin)
    found = []
    for angle in np.radians([0.0, -MIRROR_START_DEG, MIRROR_START_DEG]):
        start = np.cos(angle) * r + np.sin(angle) * np.cross(u, r)
        found.append(_mirror_search(scouts, thin, tree, unit(start), None, SCOUT_STILL))
    best = min(found, key=lambda f: round(f[2], 3))
    moving = points[:: max(1, len(points) // 3000)]
    return _mirror_search(moving, points, cKDTree(points), best[1], best[0], MIRROR_STILL)[:2]


def _mirror_search(
    p: FloatArray,
    points: FloatArray,
    tree: Any,
    normal: FloatArray,
    centre: FloatArray | None,
    still: float,
) -> tuple[FloatArray, FloatArray, float]:
    """Iterative closest points between a bone and its mirror image; the worst fifth is ignored, so
    that a lopsided osteophyte or a damaged process does not turn the plane."""
    n = normal
    c = p.mean(axis=0) if centre is None else centre
    cost = np.inf
    for _ in range(MIRROR_ROUNDS):
        mirrored = p - 2.0 * ((p - c) @ n)[:, None] * n
        distance, index = tree.query(mirrored)
        limit = np.quantile(distance, 0.8)
        keep = distance <= limit
        cost = float(np.sqrt(np.mean(distance[keep] ** 2)))
        # For pairs p, q the mirror error is |p - q|^2 - ((p - q).n)^2 + 4 ((m - c).n)^2, m their
        # midpoint: least for the weakest eigenvector below.
        middle = 0.5 * (p[keep] + points[index[keep]])
        across = p[keep] - points[index[keep]]
        centre = middle.mean(axis=0)
        q = middle - centre
        turned = np.linalg.eigh(q.T @ q - across.T @ across / 4.0)[1][:, 0]
        turned = turned if turned @ n >= 0 else -turned
        moved = float(np.linalg.norm(turned - n)) + abs(float((centre - c) @ turned))
        n, c = turned, centre
        if moved < still:
            break
    return c, n, cost


def plane_segments(
    surface: Surface, origin: FloatArray, u: FloatArray, v: FloatArray
) -> FloatArray:
    """(m, 2, 2) line segments where ``surface`` meets the plane through ``origin``, in u, v mm.

    Unordered: a tenth of the time of a polygon section, which only outlines need.
    """
    q = surface.vertices - origin
    height = q @ np.cross(u, v)
    # A vertex exactly in the plane would give a face one or three crossed edges.
    above = height >= 0.0
    flags = above[surface.faces]
    mixed = flags.any(axis=1) & ~flags.all(axis=1)
    f, a = surface.faces[mixed], flags[mixed]
    # Turn each face so that its first corner is the one alone on its side.
    alone = np.where(a[:, 0] == a[:, 1], 2, np.where(a[:, 0] == a[:, 2], 1, 0))
    row = np.arange(len(f))
    first, second, third = f[row, alone], f[row, (alone + 1) % 3], f[row, (alone + 2) % 3]
    flat = np.stack([q @ u, q @ v], axis=1)

    def crossing(i: npt.NDArray[np.int32], j: npt.NDArray[np.int32]) -> FloatArray:
        w = (height[i] / (height[i] - height[j]))[:, None]
        return np.asarray(flat[i] * (1.0 - w) + flat[j] * w)

    return np.stack([crossing(first, second), crossing(first, third)], axis=1)


def flat_ends(surface: Surface) -> list[tuple[int, int, float]]:
    """Axis-parallel flat caps of a surface: (axis, sign, coordinate) where an image border cut it.

    A cap counts from 100 mm2 within 0.3 mm and 2.5 degrees: rounded bone of up to 100 mm radius
    has less.
    """
    out: list[tuple[int, int, float]] = []
    normals = surface.face_normals
    areas = np.linalg.norm(surface.area_vectors, axis=1)
    centres = surface.triangles.mean(axis=1)
    for axis in range(3):
        for sign in (-1, 1):
            end = float((sign * centres[:, axis]).max())
            cap = (sign * centres[:, axis] > end - 0.3) & (sign * normals[:, axis] > 0.999)
            if areas[cap].sum() > 100.0:
                out.append((axis, sign, sign * end))
    return out


def on_surface(surface: Surface, point: FloatArray) -> FloatArray:
    """(3,) point of ``surface`` nearest to ``point``."""
    import igl

    query = np.asarray(point, dtype=np.float64).reshape(1, 3)
    # The nearest point lies on a face with a corner no further away than the nearest vertex and
    # that face's longest edge: only those few are measured.
    away = np.linalg.norm(surface.vertices - query, axis=1)
    corner = away[surface.faces]
    t = surface.vertices[surface.faces[corner.min(axis=1) <= away.min() + NEAR_FACES_MM]]
    longest = float(np.linalg.norm(t - np.roll(t, 1, axis=1), axis=2).max())
    reach = away.min() + max(longest, NEAR_FACES_MM)
    few = np.ascontiguousarray(surface.faces[corner.min(axis=1) <= reach])
    foot = igl.point_mesh_squared_distance(query, surface.vertices, few)[2]
    return np.array(foot, dtype=np.float64).reshape(3)
