"""Plan against outcome: the bone after surgery laid over the plan, and every cut measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import FloatArray, Plane, Rigid, unit
from sacroplan.geometry.surface import Surface, concatenate
from sacroplan.metrics import Metric, Metrics
from sacroplan.resection.cuts import Cut
from sacroplan.resection.margin import least_distance
from sacroplan.resection.plan import ResectionPlan

CLEAR_MM = 12.0
"""Bone nearer than this to a planned cut is not used for registration: it may have been cut otherwise."""

REACH_MM = 15.0
"""A cut face is looked for within this distance of its plan."""

FACING_DEG = 30.0
"""And within this angle of it."""

BESIDE_MM = 4.0
"""How far outside the planned outline the face may begin."""

ROUGH_MM = 0.5
ALIKE_DEG = 12.0
"""What lies further from the face's own plane, or at a larger angle, is the bone beside it: a saw cut is
flat to within its blade's play."""

SAMPLES = 3000
ROUNDS = 60
TRIM = 0.8
"""Share of the nearest pairs that registration uses; the rest is bone that is gone, or metal."""

BAD_FIT_MM = 2.0
"""Registration with a larger residual does not show the same bone."""

LEAST_FACE_MM2 = 60.0
"""Less of a face is not measured."""


@dataclass(frozen=True, eq=False)
class CutAudit:
    """One cut as it was made.

    Attributes
    ----------
    location_iso_mm : largest distance of the achieved face from the planned plane (ISO 1101 use of
        PSI-01: half of the zone's width). location_gouin_mm : least distance between achieved and
        planned face (PSI-02). Both are called location accuracy in print; they differ.
    mean_mm : mean signed distance, positive into the specimen. rms_mm : root mean square.
    angle_deg : between the planes. offset_mm : signed distance at the face's centre.
    margin_mm : least distance of the tumour to the specimen's achieved face, None without a tumour.
    area_mm2 : of the face that was found. face : what was found, in the plan's coordinates.
    """

    cut: str
    facet: int
    location_iso_mm: float
    location_gouin_mm: float
    mean_mm: float
    rms_mm: float
    angle_deg: float
    offset_mm: float
    margin_mm: float | None
    planned_margin_mm: float | None
    area_mm2: float
    face: Surface


@dataclass(frozen=True, eq=False)
class Audit:
    """All cuts, and how well the outcome was laid over the plan."""

    cuts: tuple[CutAudit, ...]
    missing: tuple[str, ...]
    registration_mm: float
    to_plan: Rigid

    def metrics(self) -> Metrics:
        """Figures under ``audit.*``."""
        out: Metrics = {
            "audit.registration_mm": Metric(
                self.registration_mm, "mm", "Residual of the registration on uncut bone, median"
            )
        }
        for c in self.cuts:
            start = f"audit.{c.cut}.{c.facet + 1}" if c.facet else f"audit.{c.cut}"
            out |= {
                f"{start}.location_iso_mm": Metric(
                    c.location_iso_mm, "mm",
                    f"Location accuracy of {c.cut}: largest distance to the planned plane (ISO 1101)",
                    ("PSI-01",),
                ),
                f"{start}.location_gouin_mm": Metric(
                    c.location_gouin_mm, "mm",
                    f"Location accuracy of {c.cut}: least distance between the planes (Gouin)",
                    ("PSI-02",),
                ),
                f"{start}.mean_mm": Metric(
                    c.mean_mm, "mm", f"Mean distance of {c.cut}, positive into the specimen"
                ),
                f"{start}.rms_mm": Metric(c.rms_mm, "mm", f"Root mean square distance of {c.cut}"),
                f"{start}.angle_deg": Metric(
                    c.angle_deg, "deg", f"Angle of {c.cut} to its plan", ("PSI-07",)
                ),
                f"{start}.margin_mm": Metric(
                    c.margin_mm, "mm", f"Margin achieved at {c.cut}", ("MAR-3", "MAR-4c")
                ),
            }  # fmt: skip
        return out


def audit(
    plan: ResectionPlan,
    intact: Mapping[str, Surface],
    outcome: Surface,
    tumour: Surface | None,
) -> Audit:
    """Compare the surface of the bones after surgery with the plan.

    ``outcome`` may hold any part of the bones that stay, in any position; it is registered on bone
    outside the cuts. Raises :class:`PlanError` where it does not show the same bone, or none of the
    planned cuts.
    """
    osteotomies = [c for c in plan.cuts if c.kind == "osteotomy"]
    if not osteotomies:
        raise PlanError("The plan saws no bone, so there is no cut to audit.")
    target = concatenate([s for n, s in plan.remnants.items() if n in intact])
    rigid, residual = register(outcome, target, osteotomies)
    if residual > BAD_FIT_MM:
        raise PlanError(
            f"The outcome does not fit the bones of the plan: {residual:.1f} mm remain after "
            f"registration, at most {BAD_FIT_MM:g} mm expected. Check that it is the same patient, "
            "in millimetres, and holds the remaining bones."
        )
    laid = outcome.transformed(rigid, target.frame)
    found, missing = [], []
    planned = {m.cut: m.minimum_mm for m in plan.margins}
    for cut in osteotomies:
        for n in range(len(cut.facets)):
            one = _measured(cut, n, laid, tumour, planned.get(cut.name))
            name = cut.name if len(cut.facets) == 1 else f"{cut.name}.{n + 1}"
            if one is None:
                missing.append(name)
            else:
                found.append(one)
    if not found:
        raise PlanError(
            f"No cut face was found on the outcome within {REACH_MM:g} mm and {FACING_DEG:g} degrees "
            f"of the planned cuts ({', '.join(missing)})."
        )
    return Audit(tuple(found), tuple(missing), residual, rigid)


def _spread(surface: Surface, count: int) -> tuple[FloatArray, FloatArray]:
    """Evenly spread points (n, 3) and their normals."""
    area = np.linalg.norm(surface.area_vectors, axis=1)
    total = np.cumsum(area)
    step = (np.arange(count) + 0.5) / count * total[-1]
    face = np.minimum(np.searchsorted(total, step), len(area) - 1)
    return surface.triangles[face].mean(axis=1), surface.face_normals[face]


def _away(points: FloatArray, cuts: Sequence[Cut]) -> FloatArray:
    """(n,) whether points lie clear of every planned cut."""
    clear = np.ones(len(points), dtype=bool)
    for cut in cuts:
        clear &= np.abs(cut.side(points)) > CLEAR_MM
    return clear


def register(outcome: Surface, target: Surface, cuts: Sequence[Cut]) -> tuple[Rigid, float]:
    """Rigid motion that lays ``outcome`` over ``target``, and the median residual (mm).

    Point-to-plane closest points on uncut bone, from the position given and from the principal axes
    in their four orientations; the best start wins.
    """
    points, normals = _spread(outcome, SAMPLES)
    starts = [Rigid(np.eye(3), np.zeros(3)), *_axes_starts(points, _spread(target, SAMPLES)[0])]
    best: tuple[float, Rigid] | None = None
    for n, start in enumerate(starts):
        some = slice(None, None, 6)
        rigid, residual = _closest(points[some], normals[some], target, cuts, start, ROUNDS // 3)
        if best is None or residual < best[0]:
            best = (residual, rigid)
        if n == 0 and residual < 0.3:
            break
    assert best is not None
    rigid, residual = _closest(points, normals, target, cuts, best[1], ROUNDS)
    return rigid, residual


def _axes_starts(moving: FloatArray, fixed: FloatArray) -> list[Rigid]:
    def axes(p: FloatArray) -> tuple[FloatArray, FloatArray]:
        centre = p.mean(axis=0)
        _, _, v = np.linalg.svd(p - centre, full_matrices=False)
        v[2] = np.cross(v[0], v[1])
        return centre, v.T

    a, u = axes(moving)
    b, w = axes(fixed)
    out = []
    for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        r = w @ np.diag(signs) @ u.T
        out.append(Rigid(r, b - r @ a))
    return out


def _closest(
    points: FloatArray,
    normals: FloatArray,
    target: Surface,
    cuts: Sequence[Cut],
    start: Rigid,
    rounds: int,
) -> tuple[Rigid, float]:
    import igl
    from scipy.spatial.transform import Rotation

    r, t = start.rotation.copy(), start.translation.copy()
    residual = np.inf
    for _ in range(rounds):
        p = points @ r.T + t
        q = normals @ r.T
        squared, face, foot = igl.point_mesh_squared_distance(
            np.ascontiguousarray(p), target.vertices, target.faces
        )[:3]
        n = target.face_normals[np.asarray(face)]
        gap = np.einsum("ij,ij->i", np.asarray(foot) - p, n)
        distance = np.sqrt(np.asarray(squared))
        usable = _away(p, cuts) & (np.einsum("ij,ij->i", n, q) > 0.5)
        if usable.sum() < 50:
            return Rigid(r, t), np.inf
        limit = np.quantile(distance[usable], TRIM)
        usable &= distance <= limit
        centre = p[usable].mean(axis=0)
        rows = np.concatenate([np.cross(p[usable] - centre, n[usable]), n[usable]], axis=1)
        step = np.linalg.lstsq(rows, gap[usable], rcond=None)[0]
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        r, t = turn @ r, turn @ (t - centre) + centre + step[3:]
        u, _, v = np.linalg.svd(r)
        r = u @ v
        residual = float(np.median(distance[usable]))
        if float(np.abs(step).max()) < 1e-6:
            break
    return Rigid(r, t), residual


def _measured(
    cut: Cut, number: int, laid: Surface, tumour: Surface | None, planned: float | None
) -> CutAudit | None:
    import manifold3d
    from matplotlib.path import Path

    facet = cut.facets[number]
    if not facet.outline.loops:
        return None
    face = facet.plane.shifted(-0.5 * cut.kerf_mm)
    centres = laid.triangles.mean(axis=1)
    d = face.distance(centres)
    near = np.abs(d) < REACH_MM
    near &= laid.face_normals @ face.normal > np.cos(np.deg2rad(FACING_DEG))
    grown = manifold3d.CrossSection([np.asarray(p) for p in facet.outline.loops]).offset(
        BESIDE_MM, manifold3d.JoinType.Round
    )
    uv = facet.outline.to_plane(centres)
    inside = np.zeros(len(uv), dtype=int)
    for loop in grown.to_polygons():
        inside[near] += Path(np.asarray(loop)).contains_points(uv[near])
    near &= inside % 2 == 1
    if not near.any():
        return None
    pieces = laid.subset(near).bodies()
    piece = max(pieces, key=lambda s: s.area_mm2)
    plane = _flat(piece, face.normal)
    if plane is None or piece.area_mm2 < LEAST_FACE_MM2:
        return None
    points = piece.triangles.mean(axis=1)
    weight = np.linalg.norm(piece.area_vectors, axis=1)
    on = np.abs(plane.distance(points)) < ROUGH_MM
    on &= piece.face_normals @ plane.normal > np.cos(np.deg2rad(ALIKE_DEG))
    if not on.any():
        return None
    points, weight = points[on], weight[on]
    off = face.distance(points)
    # The largest distance is met at a corner of the face.
    off_corners = face.distance(piece.triangles[on].reshape(-1, 3))
    signed = np.concatenate([off, off_corners])
    gouin = 0.0 if signed.min() <= 0.0 <= signed.max() else float(np.abs(signed).min())
    angle = float(np.degrees(np.arccos(np.clip(plane.normal @ face.normal, -1.0, 1.0))))
    flat = piece.subset(on)
    margin = None
    if tumour is not None:
        # The specimen's face lies one kerf beyond the face that is left on the patient; the bone
        # round that face is none of it.
        moved = Surface(flat.vertices + cut.kerf_mm * plane.normal, flat.faces, flat.frame)
        from sacroplan.resection.margin import signed_to

        inside_tumour = float(signed_to(tumour, moved.vertices).min())
        margin = inside_tumour if inside_tumour < 0 else least_distance(moved, tumour)[0]
    centre = np.average(points, axis=0, weights=weight)
    return CutAudit(
        cut.name, number, float(np.abs(off_corners).max()), gouin,
        float(np.average(off, weights=weight)),
        float(np.sqrt(np.average(off**2, weights=weight))), angle,
        float(face.distance(centre)), margin, planned, float(weight.sum()), flat,
    )  # fmt: skip


def _flat(piece: Surface, towards: FloatArray) -> Plane | None:
    """Plane through most of a piece: area-weighted, what lies off it is dropped round by round."""
    points = piece.triangles.mean(axis=1)
    weight = np.linalg.norm(piece.area_vectors, axis=1)
    kept = np.ones(len(points), dtype=bool)
    plane = None
    for limit in (3.0, 1.5, 0.75, 0.5, 0.35, 0.35):
        if weight[kept].sum() <= 0 or kept.sum() < 3:
            return plane
        centre = np.average(points[kept], axis=0, weights=weight[kept])
        arms = (points[kept] - centre) * np.sqrt(weight[kept])[:, None]
        if len(arms) < 3:
            return plane
        # With few large faces the corners tell more than the centres.
        corners = piece.triangles[kept].reshape(-1, 3)
        share = np.repeat(weight[kept] / 3.0, 3)
        centre = np.average(corners, axis=0, weights=share)
        arms = (corners - centre) * np.sqrt(share)[:, None]
        normal = np.linalg.svd(arms, full_matrices=False)[2][2]
        plane = Plane(centre, unit(normal if normal @ towards > 0 else -normal), piece.frame)
        kept = np.abs(plane.distance(points)) < limit
    return plane
