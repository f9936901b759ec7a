"""K-wires: where they may stand, and which set holds best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.errors import PlanError
from sacroplan.geometry.fields import distance_field, near_faces
from sacroplan.geometry.frames import FloatArray, Plane, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.tree import face_tree
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.guides.seat import GuideFrame

SCREEN_GRID_MM = 1.0
"""Grid on which candidates are screened; the chosen wires are measured on the mesh itself."""

STEP_MM = 0.5
OUTSIDE_MM = 60.0
"""Length of wire outside the sleeve that must stay clear of the saw."""

KEPT_PER_LEAN = 2
"""Sites of each zone and lean that enter the joint choice: it needs directions more than places."""


@dataclass(frozen=True, eq=False)
class KWire:
    """One K-wire as planned.

    Attributes
    ----------
    start : (3,) LPS, outer end of its sleeve. end : (3,) LPS, tip in the bone.
    diameter_mm : of the wire. entry : (3,) LPS, where it enters bone.
    bone_mm : length in bone. bicortical : whether the tip has passed the far cortex.
    on_remnant : whether it stands in the bone that stays.
    """

    start: FloatArray
    end: FloatArray
    diameter_mm: float
    entry: FloatArray
    bone_mm: float
    bicortical: bool
    on_remnant: bool

    @property
    def direction(self) -> FloatArray:
        """(3,) unit vector into the bone."""
        return unit(self.end - self.start)


@dataclass(frozen=True)
class WireRules:
    """Limits of a wire (mm, degrees); see GDE-03 and SP-GDE-05."""

    diameter_mm: float
    sleeve_height_mm: float
    purchase_mm: float
    cortices_mm: float
    depth_mm: float
    protrusion_mm: float
    angle_deg: float
    tilt_deg: float
    distance_mm: float
    enclosed_mm: float
    apart_mm: float


@dataclass(frozen=True, eq=False)
class Zone:
    """Candidate sites of one wire: entry points (n, 3), bone normals (n, 3), penalty (n,), LPS."""

    name: str
    points: FloatArray
    normals: FloatArray
    penalty: FloatArray
    toward: FloatArray


def crossings(surface: Surface, origin: FloatArray, direction: FloatArray) -> FloatArray:
    """Sorted distances (k,) at which the ray from ``origin`` (3,) meets the triangles."""
    t = surface.triangles
    e1, e2 = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    p = np.cross(direction, e2)
    det = np.einsum("ij,ij->i", e1, p)
    ok = np.abs(det) > 1e-12
    inv = np.divide(1.0, det, out=np.zeros_like(det), where=ok)
    s = origin - t[:, 0]
    u = np.einsum("ij,ij->i", s, p) * inv
    q = np.cross(s, e1)
    v = (q @ direction) * inv
    distance = np.einsum("ij,ij->i", e2, q) * inv
    hit = ok & (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0)
    # A ray through a shared edge meets both its triangles at the same depth.
    return np.unique(np.round(distance[hit], 9))


def choose(
    zones: Sequence[Zone],
    hip: Surface,
    cut: Plane,
    kerf_mm: float,
    avoid: Sequence[Surface],
    frame: GuideFrame,
    rules: WireRules,
) -> tuple[KWire, ...]:
    """One wire per zone: all in sound bone, clear of saw and ``avoid``, no two parallel or crossing.

    A wire that would leave the bone into a space that the same bone closes off behind (the sacral
    canal, a foramen) is not taken. Raises :class:`PlanError` naming the zone without a site, or the
    angle or distance that cannot be reached.
    """
    reach = rules.depth_mm + rules.protrusion_mm + 5.0
    # The grid is fixed to the guide, so that the choice turns and moves with the case.
    sites = frame.to_local(np.concatenate([z.points for z in zones]))
    grid = frame.grid(
        sites.min(axis=0) - reach, sites.max(axis=0) + reach, SCREEN_GRID_MM, hip.frame
    )
    bone = distance_field(hip, grid)
    keep_off = rules.distance_mm + rules.diameter_mm / 2.0
    walls = [
        distance_field(s, grid)
        for s in avoid
        if _near(s, grid) and near_faces(s, grid, keep_off + SCREEN_GRID_MM).any()
    ]
    tree = face_tree(hip)
    kept: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for zone in zones:
        points, directions, penalty, lean = _candidates(zone, rules.tilt_deg)
        steps = np.arange(0.0, reach, STEP_MM)
        path = points[:, None] + steps[None, :, None] * directions[:, None]
        flat = path.reshape(-1, 3)
        inside = (bone.at(flat) < 0.0).reshape(path.shape[:2])
        # A step less than sampled: what passes here must also pass on the mesh.
        length = np.maximum(_first_run(inside) - 1.0, 0.0) * STEP_MM
        deep = np.minimum(length, rules.depth_mm)
        both = length <= rules.depth_mm
        ok = np.where(both, deep >= rules.cortices_mm, deep >= rules.purchase_mm)
        tip = deep + np.where(both, rules.protrusion_mm, 0.0)
        ends = np.stack(
            [points - OUTSIDE_MM * directions, points + tip[:, None] * directions], axis=1
        )
        gap = (-cut.distance(ends)).min(axis=1) - kerf_mm / 2.0
        ok &= gap >= keep_off
        travelled = steps[None, :] <= tip[:, None] + STEP_MM
        for wall in walls:
            clear = np.where(travelled, wall.at(flat).reshape(path.shape[:2]), np.inf)
            # Half a screening voxel on top: the field is exact only near its surface.
            ok &= clear.min(axis=1) >= keep_off + 0.5 * SCREEN_GRID_MM
        leaves = np.flatnonzero(ok & both)
        beyond, _ = tree.first_hits(ends[leaves, 1], directions[leaves], 0.0)
        ok[leaves[beyond < rules.enclosed_mm]] = False
        if not ok.any():
            raise PlanError(
                f"No K-wire fits at the guide's {zone.name} site: {len(ok)} positions and directions "
                f"tried, at least {rules.purchase_mm:.0f} mm of bone (or both cortices of "
                f"{rules.cortices_mm:.0f} mm, no canal behind them) and {rules.distance_mm:.0f} mm from "
                "kerf and avoided structures expected. Move the cut or widen the guide."
            )
        score = deep / rules.depth_mm - penalty
        order = np.argsort(-np.round(score[ok], 9), kind="stable")
        index = np.nonzero(ok)[0][order]
        index = _spread(index, lean)
        kept.append((ends[index], directions[index], score[index]))
    pick = _joint(kept, rules)
    return tuple(
        _measure(kept[z][0][n, 0] + OUTSIDE_MM * kept[z][1][n], kept[z][1][n], hip, cut, rules)
        for z, n in enumerate(pick)
    )


def angles_deg(wires: Sequence[KWire]) -> FloatArray:
    """Angles (k,) between every two wires."""
    d = np.array([w.direction for w in wires])
    i, j = np.triu_indices(len(d), 1)
    cosine = np.abs(np.einsum("ij,ij->i", d[i], d[j]))
    return np.asarray(np.rad2deg(np.arccos(np.clip(cosine, 0.0, 1.0))))


def _near(surface: Surface, grid: VolumeGeometry) -> bool:
    index = grid.to_index(surface.vertices)
    return bool(np.any(np.all((index > -10) & (index < np.array(grid.shape) + 10), axis=1)))


def _candidates(
    zone: Zone, tilt_deg: float
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.int_]]:
    """Every site with its normal, and with tilts towards ``zone.toward`` and to either side."""
    points, directions, penalties = [], [], []
    for fraction in (0.0, 0.5, 1.0):
        tilt = np.deg2rad(tilt_deg * fraction)
        for turn in (0.0,) if fraction == 0.0 else (0.0, 60.0, -60.0, 120.0, -120.0, 180.0):
            n = zone.normals
            t = zone.toward - (n @ zone.toward)[:, None] * n
            t /= np.linalg.norm(t, axis=1, keepdims=True)
            side = np.cross(n, t)
            lean = np.cos(np.deg2rad(turn)) * t + np.sin(np.deg2rad(turn)) * side
            out = np.cos(tilt) * n + np.sin(tilt) * lean
            points.append(zone.points)
            directions.append(-out)
            # Fan the wires out: leaning away from the middle of the guide costs least.
            away = 0.5 * (1.0 - np.cos(np.deg2rad(turn)))
            penalties.append(zone.penalty + 0.15 * fraction * (0.4 + away))
    lean = np.repeat(np.arange(len(points)), len(zone.points))
    return np.concatenate(points), np.concatenate(directions), np.concatenate(penalties), lean


def _first_run(inside: npt.NDArray[np.bool_]) -> FloatArray:
    """Steps from the first sample inside to the first outside after it; 0 where none begins early."""
    early = int(3.0 / STEP_MM)
    begin = np.argmax(inside, axis=1)
    found = inside.any(axis=1) & (begin <= early)
    later = np.arange(inside.shape[1])[None, :] > begin[:, None]
    out = ~inside & later
    end = np.where(out.any(axis=1), np.argmax(out, axis=1), inside.shape[1])
    return np.where(found, end - begin, 0).astype(np.float64)


def _spread(index: npt.NDArray[np.int_], lean: npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
    """The best candidates of every lean, best first."""
    kept = [index[lean[index] == n][:KEPT_PER_LEAN] for n in np.unique(lean)]
    chosen = np.concatenate(kept)
    return index[np.isin(index, chosen)]


def _joint(
    kept: Sequence[tuple[FloatArray, FloatArray, FloatArray]], rules: WireRules
) -> tuple[int, ...]:
    """Number of the candidate of each zone that score best together.

    ``kept`` holds, by zone, ends (n, 2, 3), directions (n, 3) and scores (n,).
    """
    shape = tuple(len(s) for _, _, s in kept)
    total = np.zeros(shape)
    smallest = np.full(shape, 90.0)
    nearest = np.full(shape, np.inf)
    for z, (ends, d, score) in enumerate(kept):
        view = [1] * len(shape)
        view[z] = shape[z]
        total = total + score.reshape(view)
        for y in range(z):
            cosine = np.clip(np.abs(kept[y][1] @ d.T), 0.0, 1.0)
            pair = np.rad2deg(np.arccos(cosine))
            view = [1] * len(shape)
            view[y], view[z] = shape[y], shape[z]
            smallest = np.minimum(smallest, pair.reshape(view))
            nearest = np.minimum(nearest, _apart(kept[y][0], ends).reshape(view))
    clear = nearest >= rules.apart_mm
    if not clear.any():
        raise PlanError(
            f"The guide's K-wires would meet ({nearest.max():.1f} mm between them at best, at least "
            f"{rules.apart_mm:g} expected). Widen the guide or lengthen the cut."
        )
    ok = clear & (smallest >= rules.angle_deg)
    if not ok.any():
        raise PlanError(
            f"The guide's K-wires would be nearly parallel ({smallest[clear].max():.1f} degrees at "
            f"best, at least {rules.angle_deg:.0f} expected). Widen the guide or allow more tilt."
        )
    best = int(np.argmax(np.where(ok, np.round(total, 9), -np.inf)))
    return tuple(int(n) for n in np.unravel_index(best, shape))


def _apart(a: FloatArray, b: FloatArray) -> FloatArray:
    """(n, m) least distance between segments ``a`` (n, 2, 3) and ``b`` (m, 2, 3), mm.

    The least of two straight lines' distance lies at their common perpendicular, or at an end.
    """
    a0, b0 = a[:, None, 0], b[None, :, 0]
    u, v = a[:, None, 1] - a0, b[None, :, 1] - b0
    w = a0 - b0
    uu, vv, uv = (np.sum(p * q, axis=-1) for p, q in ((u, u), (v, v), (u, v)))
    uw, vw = np.sum(u * w, axis=-1), np.sum(v * w, axis=-1)
    bend = uu * vv - uv**2
    s = np.clip(
        np.divide(uv * vw - vv * uw, bend, out=np.zeros_like(bend), where=bend > 1e-9), 0, 1
    )
    t = np.clip((vw + s * uv) / vv, 0.0, 1.0)
    s = np.clip((t * uv - uw) / uu, 0.0, 1.0)
    return np.asarray(np.linalg.norm(w + s[..., None] * u - t[..., None] * v, axis=-1))


def _measure(
    point: FloatArray, direction: FloatArray, hip: Surface, cut: Plane, rules: WireRules
) -> KWire:
    back = 5.0
    depth = crossings(hip, point - back * direction, direction) - back
    entry = float(depth[0])
    through = float(depth[1] - entry) if len(depth) > 1 else np.inf
    both = through <= rules.depth_mm
    bone = through if both else rules.depth_mm
    tip = entry + bone + (rules.protrusion_mm if both else 0.0)
    return KWire(
        point + (entry - rules.sleeve_height_mm) * direction,
        point + tip * direction,
        rules.diameter_mm,
        point + entry * direction,
        bone,
        both,
        bool(cut.distance(point) < 0.0),
    )
