"""Gap and bone contact at porous interfaces, measured on a follow-up CT whose metal is found by itself.

The CT is laid onto the implant by the metal's own surface, so that subsidence in bone does not count as
a gap. Along the normals of each interface the grey values are explained by metal, a gap and bone,
blurred alike: a gap narrower than a voxel still lowers the profile beside the metal, where a threshold
would see only the metal's glow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import ImagingError
from sacroplan.geometry.fields import DistanceField, contour, distance_field
from sacroplan.geometry.frames import FloatArray, Rigid
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume, grid_around
from sacroplan.progress import Progress, silent

METAL_HU = 1200.0
"""Half way between bone and porous titanium; no bone is as bright over several millimetres."""

FIELD_MM = 1.0
"""Grid of the implant's distance field for the registration; interpolation reaches a tenth of it."""

CAPTURE_MM = 40.0
"""The field reaches so far: the scanner's coordinates may be off by more, the metal's centre is not."""

STARTS_DEG = 15.0
"""Starts turned by this about every axis."""

POINTS = 3000
"""Points of the metal's surface; their number divides the noise, not the bias."""

ROBUST_MM = 0.3
"""Distances beyond this count less: screws and rods are metal too."""

NEAR_MM = 1.5
"""Metal within this of the implant is the implant's own."""

AREA_MM2 = 0.5
"""One profile for so much of the interface."""

MOST_PROFILES = 20_000

ACROSS_MM = 0.8
"""Profiles within this of each other are averaged: noise is halved, a patch of contact stays."""

INWARD_MM, OUTWARD_MM, STEP_MM = 0.8, 4.0, 0.1
"""Reach of a profile into the porous layer and into bone, and its step: deeper, the solid core shines
through a layer of 1.5 to 3 mm."""

SIGMAS_MM = tuple(np.round(np.arange(0.25, 1.01, 0.05), 3).tolist())
"""Blurs that are tried: scanner, kernel and interpolation together."""

SIGMA_STEPS_MM = (-0.04, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03, 0.04)
"""Second look around the best: a blur 0.05 mm too narrow is taken for a gap of 0.3 mm."""

OFFSETS_MM = tuple(np.round(np.arange(-0.4, 0.401, 0.05), 3).tolist())
"""How far the metal's edge may lie beside the plan's surface after the registration."""

GAP_STEP_MM = 0.05

OUTER_SHARE = 0.7
"""A layer's outer face is at least this share of its thickness away from the core."""


@dataclass(frozen=True, eq=False)
class Interface:
    """One interface; arrays are (n,) or (n, 3), one entry per profile.

    Attributes
    ----------
    contact_percent : share of the area where the gap is below POR-6's limit.
    continuous_percent : share with contact and bone all through the shell.
    gap_mm : mean gap where there is bone but no contact; None where there is contact everywhere.
    no_bone_percent : share without bone anywhere in the shell.
    grade : 0 to 3 [SP-REG-12]; ``continuous`` is paper A's criterion.
    misfit_hu : root mean square of what the model leaves unexplained.
    dark_percent : share of the shell darker than fat, a sign of metal streaks.
    points, gaps : where, in the plan's LPS mm, and how wide in mm; NaN where no bone is seen.
    """

    name: str
    area_mm2: float
    contact_percent: float
    continuous_percent: float
    gap_mm: float | None
    no_bone_percent: float
    grade: int
    continuous: bool
    misfit_hu: float
    dark_percent: float
    blur_mm: float
    points: FloatArray
    gaps: FloatArray
    profile_mm: FloatArray
    profile_contact: FloatArray
    profile_gap: FloatArray


@dataclass(frozen=True, eq=False)
class Assessment:
    """All interfaces on one CT, the pose of the implant in it, and what speaks against the reading."""

    plan_to_ct: Rigid
    registration_mm: float
    interfaces: tuple[Interface, ...]
    cautions: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Plain figures, without the arrays."""
        return {
            "registration_rms_mm": round(self.registration_mm, 3),
            "cautions": list(self.cautions),
            "interfaces": [
                {
                    "interface": i.name,
                    "area_mm2": round(i.area_mm2, 1),
                    "contact_percent": round(i.contact_percent, 1),
                    "continuous_percent": round(i.continuous_percent, 1),
                    "gap_mm": None if i.gap_mm is None else round(i.gap_mm, 3),
                    "no_bone_percent": round(i.no_bone_percent, 1),
                    "grade": i.grade,
                    "continuous": i.continuous,
                    "misfit_hu": round(i.misfit_hu, 1),
                    "dark_percent": round(i.dark_percent, 1),
                    "blur_mm": i.blur_mm,
                }
                for i in self.interfaces
            ],
        }


def measure(
    ct: Volume, core: Surface, porous: Mapping[str, Surface], progress: Progress = silent
) -> Assessment:
    """Assess every porous layer on a follow-up CT.

    Parameters
    ----------
    ct : follow-up CT in HU, any position.
    core, porous : the implant as planned, closed surfaces, LPS mm; layers by interface.

    Raises
    ------
    ImagingError : no metal in the CT, or none that has the implant's shape.
    """
    if not porous:
        raise ImagingError("The implant has no porous layer: there is no interface to assess.")
    progress(0.05, "metal found")
    metal = _metal(ct)
    pose, rms, shown = _register(metal, core, porous)
    progress(0.5, "implant found in the CT")
    if shown < 0.5:
        raise ImagingError(
            f"Only {100 * shown:.0f} % of the implant's surface is seen as metal in the CT, at least half "
            f"was expected: is this the CT of this implant?"
        )
    field = _field(core, core.vertices, 4.0)
    cautions = []
    limit = evidence.value("SP-REG-13", "registration")
    if rms > limit:
        cautions.append(
            f"The metal lies {rms:.2f} mm off the planned surface (expected below {limit:g} mm): the "
            "implant may be bent or broken, or artefacts distort it [SP-REG-13]."
        )
    found = []
    for n, (name, layer) in enumerate(porous.items()):
        one = _interface(name, layer, field, ct, pose)
        cautions += _cautions(one)
        found.append(one)
        progress(0.5 + 0.5 * (n + 1) / len(porous), name)
    return Assessment(pose, rms, tuple(found), tuple(cautions))


def _metal(ct: Volume) -> FloatArray:
    """(n, 3) points on the surface of all metal, LPS mm."""
    mask = ct.data > METAL_HU
    if np.count_nonzero(mask) < 50:
        raise ImagingError(
            f"The CT shows no metal: nothing is brighter than {METAL_HU:g} HU. A follow-up CT of an "
            "implanted patient is expected."
        )
    where = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != k))) for k in range(3)]
    low = np.maximum([w[0] - 3 for w in where], 0)
    high = np.minimum([w[-1] + 4 for w in where], ct.geometry.shape)
    part = ct.cropped(low, high)
    shell = contour(part.geometry, -part.data.astype(np.float32), -METAL_HU)
    return _spread(shell, _areas(shell), POINTS)[0]


def _spread(
    surface: Surface, weights: FloatArray, count: int
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """``count`` points on the faces in proportion to ``weights``, and the face of each."""
    rng = np.random.default_rng(7)
    total = np.cumsum(weights)
    at = (np.arange(count) + rng.random(count)) / count * total[-1]
    face = np.minimum(np.searchsorted(total, at), len(total) - 1)
    u, v = rng.random(count), rng.random(count)
    flip = u + v > 1.0
    u, v = np.where(flip, 1.0 - u, u), np.where(flip, 1.0 - v, v)
    t = surface.triangles[face]
    points = t[:, 0] + u[:, None] * (t[:, 1] - t[:, 0]) + v[:, None] * (t[:, 2] - t[:, 0])
    return np.asarray(points), face


def _areas(surface: Surface) -> FloatArray:
    return np.asarray(np.linalg.norm(surface.area_vectors, axis=1))


def _field(surface: Surface, around: FloatArray, margin_mm: float) -> DistanceField:
    grid = grid_around(around, FIELD_MM, margin_mm, surface.frame)
    return distance_field(surface, grid)


def _register(
    metal: FloatArray, core: Surface, porous: Mapping[str, Surface]
) -> tuple[Rigid, float, float]:
    """Pose of the plan in the CT, its error, and the share of the implant's surface seen as metal."""
    from scipy.spatial import cKDTree
    from scipy.spatial.transform import Rotation

    parts = [core, *porous.values()]
    around = np.concatenate([p.vertices for p in parts])
    grid = grid_around(around, FIELD_MM, CAPTURE_MM, core.frame)
    solid = np.min([distance_field(p, grid).values for p in parts], axis=0)
    field = DistanceField(grid, solid)
    skin = np.concatenate([_spread(p, _areas(p), POINTS)[0] for p in parts])
    # Faces that two parts share lie inside the whole.
    skin = skin[np.abs(field.at(skin)) < 0.5 * FIELD_MM]
    centre = skin.mean(axis=0)
    home = np.median(metal, axis=0)
    turns = [np.zeros(3)]
    turns += [s * np.deg2rad(STARTS_DEG) * e for e in np.eye(3) for s in (1.0, -1.0)]
    few = metal[:: max(1, len(metal) // 600)]
    # Where the scanner's coordinates are another's altogether, the metal's middle is the only clue.
    shifts = [centre - home]
    if np.linalg.norm(home - centre) < CAPTURE_MM:
        shifts.append(np.zeros(3))
    first = [
        _fit(field, few, home, np.asarray(Rotation.from_rotvec(t).as_matrix()), shift, 3.0, 25)
        for t in turns
        for shift in shifts
    ]
    best = sorted(first, key=lambda f: f[2])[:3]
    fine = [_fit(field, metal, home, rotation, shift, ROBUST_MM, 60) for rotation, shift, _ in best]
    rotation, shift, _ = min(fine, key=lambda f: f[2])
    to_plan = Rigid(rotation, home + shift - rotation @ home)
    there = to_plan.points(metal)
    d = field.at(there)
    own = np.abs(d) < NEAR_MM
    gap, _ = cKDTree(there).query(skin)
    spacing = np.sqrt(core.area_mm2 / POINTS)
    shown = float(np.mean(gap < NEAR_MM + 2.0 * spacing))
    rms = float(np.sqrt(np.mean(d[own] ** 2))) if own.any() else np.inf
    return to_plan.inverse(), rms, shown


def _fit(
    field: DistanceField,
    points: FloatArray,
    home: FloatArray,
    rotation: FloatArray,
    shift: FloatArray,
    robust_mm: float,
    steps: int,
) -> tuple[FloatArray, FloatArray, float]:
    """Rotation about ``home`` and shift that bring ``points`` onto the surface; robust mean cost."""
    from scipy.optimize import least_squares
    from scipy.spatial.transform import Rotation

    arm = (points - home) @ rotation.T

    def moved(x: FloatArray) -> FloatArray:
        turn = np.asarray(Rotation.from_rotvec(x[:3] / 50.0).as_matrix())
        return np.asarray(arm @ turn.T + home + shift + x[3:])

    def distances(x: FloatArray) -> FloatArray:
        return field.at(moved(x))

    result = least_squares(
        distances, np.zeros(6), loss="soft_l1", f_scale=robust_mm, max_nfev=steps, diff_step=1e-3,
        x_scale=1.0,
    )  # fmt: skip
    turn = np.asarray(Rotation.from_rotvec(result.x[:3] / 50.0).as_matrix())
    u, _, v = np.linalg.svd(turn @ rotation)
    return u @ v, shift + result.x[3:], float(result.cost / len(points))


def _interface(
    name: str, layer: Surface, core: DistanceField, ct: Volume, pose: Rigid
) -> Interface:
    points, normals, area = outer_points(layer, core)
    s = np.arange(-INWARD_MM, OUTWARD_MM + 0.5 * STEP_MM, STEP_MM)
    seen = np.all(np.isfinite(_profiles(points, normals, s, ct, pose)), axis=1)
    if np.mean(seen) < 0.5:
        raise ImagingError(f"The CT does not show the whole interface {name}.")
    points, normals = points[seen], normals[seen]
    profiles = _averaged(points, _profiles(points, normals, s, ct, pose))
    sigma = _blur(profiles, s)
    # The registration's rest is a small rigid motion: along the normals it is a plane over the face.
    # Left free in every profile, it would trade against narrow gaps.
    edge = _smooth(points, fit_profiles(profiles, s, sigma)[3])
    raw = _profiles(points + edge[:, None] * normals, normals, s, ct, pose)
    profiles = _averaged(points, raw)
    gaps, bone, misfit, _ = fit_profiles(profiles, s, sigma, (0.0,))
    value = evidence.value
    least, limit = value("SP-REG-12", "bone"), value("SP-REG-12", "contact_gap")
    shell = (s >= sigma) & (s <= value("SP-REG-12", "shell"))
    has_bone = (bone >= least) & (gaps <= value("SP-REG-12", "shell"))
    contact = has_bone & (gaps <= limit)
    through = contact & (profiles[:, shell].min(axis=1) >= least)
    apart = has_bone & ~contact
    share = 100.0 * float(contact.mean())
    grade = sum(share >= value("SP-REG-12", f"grade{g}") for g in (1, 2, 3))
    continuous_share = 100.0 * float(through.mean())
    full = value("SP-REG-12", "grade3")
    dark = raw[:, shell] < value("SP-REG-13", "dark_below")
    nan = np.full(len(s), np.nan)
    return Interface(
        name,
        area,
        share,
        continuous_share,
        float(gaps[apart].mean()) if apart.any() else None,
        100.0 * float((~has_bone).mean()),
        int(grade),
        bool(continuous_share >= full),
        float(np.sqrt(np.mean(misfit))),
        100.0 * float(dark.mean()),
        sigma,
        points,
        np.where(has_bone, gaps, np.nan),
        s,
        profiles[contact].mean(axis=0) if contact.any() else nan,
        profiles[~contact].mean(axis=0) if (~contact).any() else nan,
    )


def outer_points(layer: Surface, core: DistanceField) -> tuple[FloatArray, FloatArray, float]:
    """Points, outward normals and area (mm2) of the face of a porous layer that looks at bone."""
    triangles, normals = layer.triangles, layer.face_normals
    centres = triangles.mean(axis=1)
    depth = core.at(centres)
    thick = float(np.quantile(depth, 0.95))
    away = core.at(centres + 0.5 * normals) - depth
    outer = (depth >= OUTER_SHARE * thick) & (away > 0.3)
    if not outer.any():
        raise ImagingError(
            "A porous layer has no outer face: it does not lie on the implant's core."
        )
    weights = _areas(layer) * outer
    area = float(weights.sum())
    count = int(np.clip(area / AREA_MM2, 50, MOST_PROFILES))
    points, face = _spread(layer, weights, count)
    return points, normals[face], area


def _profiles(
    points: FloatArray, normals: FloatArray, s: FloatArray, ct: Volume, pose: Rigid
) -> FloatArray:
    """Grey values (n, m) at depths ``s`` along the normals; NaN outside the CT."""
    at = points[:, None, :] + s[None, :, None] * normals[:, None, :]
    raw = sample(ct.geometry, ct.data, pose.points(at.reshape(-1, 3)), np.nan)
    return np.asarray(raw.reshape(len(points), len(s)))


def _smooth(points: FloatArray, offsets: FloatArray) -> FloatArray:
    """A linear function of position through ``offsets``, outliers left out."""
    columns = np.column_stack([points - points.mean(axis=0), np.ones(len(points))])
    keep = np.abs(offsets - np.median(offsets)) <= 0.15
    fit = np.linalg.lstsq(columns[keep], offsets[keep], rcond=1e-6)[0]
    return np.asarray(columns @ fit)


def _averaged(points: FloatArray, raw: FloatArray) -> FloatArray:
    """Every profile averaged with those around it."""
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    pairs = tree.query_pairs(ACROSS_MM, output_type="ndarray")
    n = len(points)
    i = np.concatenate([np.arange(n), pairs[:, 0], pairs[:, 1]])
    j = np.concatenate([np.arange(n), pairs[:, 1], pairs[:, 0]])
    matrix = csr_matrix((np.ones(len(i)), (i, j)), shape=(n, n))
    return np.asarray((matrix @ raw) / np.asarray(matrix.sum(axis=1)))


def _blur(profiles: FloatArray, s: FloatArray) -> float:
    """The blur that explains the profiles best."""
    few = profiles[:: max(1, len(profiles) // 150)]

    def best(candidates: Sequence[float]) -> float:
        misfit = [
            float(np.mean(fit_profiles(few, s, sigma, OFFSETS_MM[::2], 2 * GAP_STEP_MM)[2]))
            for sigma in candidates
        ]
        return float(candidates[int(np.argmin(misfit))])

    coarse = best(SIGMAS_MM)
    return best([round(coarse + d, 3) for d in SIGMA_STEPS_MM])


def fit_profiles(
    profiles: FloatArray,
    s: FloatArray,
    sigma_mm: float,
    offsets: Sequence[float] = OFFSETS_MM,
    step_mm: float = GAP_STEP_MM,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Gap (mm), bone beyond it (HU), squared misfit (HU2) and metal's edge (mm) of every profile.

    ``profiles`` is (n, m) in HU at depths ``s`` (m,) in mm, positive into bone.

    The profile is the levels of metal and bone, both free, with gap tissue of known HU between, blurred
    by a Gaussian; the metal's edge may lie a little beside the surface. All combinations of gap and edge
    are tried at once: each is a projection onto two columns.
    """
    from scipy.special import ndtr

    shell = evidence.value("SP-REG-12", "shell")
    tissue = evidence.value("SP-REG-12", "gap_tissue")
    gaps = np.arange(0.0, shell + 2 * step_mm, step_mm)
    best = np.full(len(profiles), np.inf)
    gap = np.zeros(len(profiles))
    bone = np.zeros(len(profiles))
    edge = np.zeros(len(profiles))
    for offset in offsets:
        metal = ndtr((offset - s) / sigma_mm)
        for g in gaps:
            far = ndtr((s - offset - g) / sigma_mm)
            rest = profiles - tissue * (1.0 - metal - far)
            columns = np.stack([metal, far], axis=1)
            levels = rest @ columns @ np.linalg.inv(columns.T @ columns)
            misfit = np.mean((rest - levels @ columns.T) ** 2, axis=1)
            better = misfit < best
            best[better] = misfit[better]
            gap[better] = g
            bone[better] = levels[better, 1]
            edge[better] = offset
    return gap, bone, best, edge


def _cautions(one: Interface) -> list[str]:
    out = []
    limit = evidence.value("SP-REG-13", "misfit")
    if one.misfit_hu > limit:
        out.append(
            f"{one.name}: the profiles differ from metal, gap and bone by {one.misfit_hu:.0f} HU "
            f"(expected below {limit:g} HU); look at the pictures before believing them [SP-REG-13]."
        )
    limit = evidence.value("SP-REG-13", "dark")
    if one.dark_percent > limit:
        out.append(
            f"{one.name}: {one.dark_percent:.0f} % of the bone beside the metal is darker than fat "
            f"(expected below {limit:g} %): metal artefacts; contact may be missed [SP-REG-13]."
        )
    return out
