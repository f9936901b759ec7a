"""An MRI laid onto the CT by a rigid motion of the pelvis, with the error that must be expected.

The pose is found by mutual information around the pelvic bones, from many starts, coarse to fine.
It is then checked in two ways that need no truth: parts of the pelvis are registered again on their
own and must agree, and other readings of the MRI (mirrored, turned round) must fit clearly worse.
What no comparison within one MRI can show, its distortion and chemical shift, is an allowance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, ImagingError
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray, Rigid
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry
from sacroplan.imaging.blocks import block_any, block_geometry, block_mean, block_steps
from sacroplan.imaging.fusion_search import (
    Found,
    Moving,
    Samples,
    about,
    apart_mm,
    best_of,
    flattened,
    search,
    smoothed,
    take_samples,
    turned,
)
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent

BONES = ("sacrum", "hip_left", "hip_right")
"""The pelvic ring moves as one; a lumbar vertebra may stand otherwise in the other scanner."""

WORK_MM = 2.0
"""Voxels of the CT during the search; interpolation reaches a fraction of it."""

HU_RANGE = (-300.0, 1300.0)
"""Below and above, an MRI knows no differences."""

LEVELS = (
    (10.0, 50.0, 3000, 10),
    (6.0, 25.0, 4000, 12),
    (3.0, 12.0, 8000, 20),
    (1.5, 8.0, 25000, 32),
)
"""Smoothing in mm, reach around the bones in mm, number of points and of grey levels; coarse to fine.
The first sees the body's outline and is drawn in from 50 mm and more, the last sees bone only."""

WIDE_MM, WIDE_POINTS = 60.0, 10000
"""The pelvis is nearly symmetric, what lies in and around it is not: mirrored readings are compared
on everything this near to the bones."""

TURN_DEG = 12.0
"""Starts turned by this about every axis; with the search's own reach they cover 25 degrees."""

SHIFT_MM = 30.0
"""Starts shifted by this along every axis: the MRI is seldom centred on the bones."""

SCORED = 3
"""Every third point is enough to choose among the starts."""

CLIMBED = 8
"""Starts from which the search climbs, the most promising ones."""

CLIMBED_TWICE = 6
"""The best of them climb at the second level as well, whatever came of the first."""

KEPT = (4, 3, 2)
"""Poses that go on to the next level."""

OTHER_CLIMBED, OTHER_KEPT = 4, (2, 1, 1)
"""The same for a mirrored or turned reading."""

SHIFTS = ((150.0, 25), (60.0, 25), (30.0, 40), (15.0, 60))
"""Farthest shift in mm and number of steps at each level."""

LEAST_PART = 1200
"""Points without which a part of the pelvis cannot be registered on its own."""

FRAME_SEED = 20
"""Seed of the sample points' jitter: one fusion has one result."""

Change = Callable[[FloatArray], FloatArray]
"""Another reading of where the CT's points lie: as they are, or mirrored."""


@dataclass(frozen=True, eq=False)
class Fusion:
    """How the MRI lies on the CT and how far that may be trusted.

    Attributes
    ----------
    ct_to_mri : rigid, LPS mm; the direction of an ITK resampling transform.
    source : ``"automatic"`` or ``"own transform"``.
    information_nats : mutual information near the bones.
    residual_mm : root mean square by which parts of the pelvis, registered on their own, differ from
        the whole on their own bone (SP-FUS-01).
    predicted_error_mm : 95 % error to be expected at the target (SP-FUS-02).
    target : "tumour" or "sacrum".
    parts_mm : part of the pelvis to its own difference.
    readings : other reading of the MRI to its information over that of the accepted one.
    sacrum_shown : share of the sacrum that lies in the MRI.
    concerns : why a person must look before the fusion is used; empty when all checks passed.
    doubts : reservations for the dossier.
    """

    ct_to_mri: Rigid
    source: Literal["automatic", "own transform"]
    information_nats: float
    residual_mm: float
    predicted_error_mm: float
    target: str
    parts_mm: Mapping[str, float]
    readings: Mapping[str, float]
    sacrum_shown: float
    turn_deg: float
    shift_mm: float
    concerns: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = field(default=())

    def metrics(self) -> Metrics:
        """Figures under ``imaging.fusion``."""
        limit = evidence.value
        out: Metrics = {
            "source": Metric(self.source, "text", "MRI fusion", ("CT-08",)),
            "residual_mm": Metric(
                self.residual_mm,
                "mm",
                "MRI fusion: disagreement of parts of the pelvis",
                ("CT-08", "SP-FUS-01"),
                None,
                limit("SP-FUS-01", "stop"),
            ),
            "predicted_error_mm": Metric(
                self.predicted_error_mm,
                "mm",
                f"MRI fusion: predicted error at the {self.target} (95 %)",
                ("CT-08", "SP-FUS-02"),
                None,
                limit("SP-FUS-02", "stop"),
            ),
            "sacrum_shown_percent": Metric(
                100.0 * self.sacrum_shown,
                "%",
                "Share of the sacrum that the MRI shows",
                ("SP-FUS-04",),
                limit("SP-FUS-04", "sacrum"),
                None,
            ),
            "turn_deg": Metric(
                self.turn_deg, "deg", "MRI fusion: rotation against the scanners' coordinates"
            ),
            "shift_mm": Metric(
                self.shift_mm, "mm", "MRI fusion: move of the sacrum against the coordinates"
            ),
            "passed": Metric(
                not self.concerns, "text", "MRI fusion: all checks passed", ("CT-08",)
            ),
        }
        for name, value in self.readings.items():
            row = {"mirrored": "mirrored", "second pose": "second"}.get(name, "turned")
            out[f"reading.{name.replace(' ', '_')}"] = Metric(
                value,
                "1",
                f"MRI fusion: information of the reading '{name}' over the accepted one",
                ("SP-FUS-03",),
                None,
                limit("SP-FUS-03", row),
            )
        for name, value in self.parts_mm.items():
            out[f"part.{name.replace(' ', '_')}_mm"] = Metric(
                value, "mm", f"MRI fusion: {name} registered alone", ("SP-FUS-01",)
            )
        return {f"imaging.fusion.{k}": v for k, v in out.items()}


@dataclass(frozen=True, eq=False)
class _Scene:
    """The CT's sample points at every level, and the MRI smoothed alike."""

    samples: tuple[Samples, ...]
    moving: tuple[Moving, ...]
    wide: Samples
    on_sacrum: npt.NDArray[np.bool_]
    sacrum: FloatArray
    centre: FloatArray
    axes: FloatArray


def fuse(
    ct: Volume,
    labels: LabelMap,
    mri: Volume,
    tumour: FloatArray | None = None,
    own: Rigid | None = None,
    progress: Progress = silent,
) -> Fusion:
    """Lay an MRI onto the CT.

    Parameters
    ----------
    ct, labels : canonical planning CT in HU and its bones; the sacrum must be among them.
    mri : canonical MRI of any contrast.
    tumour : (n, 3) points of the tumour in the MRI's LPS mm, where the error is to be predicted; the
        sacrum without it.
    own : the user's CT-to-MRI transform; it is checked and judged, not improved.

    Raises
    ------
    ImagingError : no sacrum, an MRI of a single slice, or one that nowhere fits.
    """
    progress(0.0, "MRI and CT prepared")
    scene = _prepare(ct, labels, mri)
    readings: dict[str, float] = {}
    if own is None:
        straight, second = _register(scene, _identity, None)
        progress(0.4, "MRI registered")
        if straight.information <= 0.0:
            raise ImagingError(
                "The MRI could not be laid onto the CT: no position was found in which the bones of "
                "the CT lie in the MRI. Check that it shows the pelvis, or give your own transform "
                "with [mri] transform."
            )
        readings["second pose"] = second
        pose = straight.rigid
    else:
        pose = own
    whole = _judged(scene, pose)
    # At this level all readings are compared: fine detail does not decide between them.
    middle = search(scene.samples[-2], scene.moving[-2], pose, 0.0, 0)
    wide = search(scene.wide, scene.moving[-2], pose, 0.0, 0)
    if min(whole.information, middle.information, wide.information) <= 0.0:
        raise ImagingError(
            "The transform takes the pelvis of the CT out of the MRI. ITK and 3D Slicer store the "
            "transform from the CT to the MRI, LPS: check its direction."
        )
    mirror = _mirror(scene)
    flipped, _ = _register(scene, mirror, None, other=True)
    there = Samples(mirror(scene.wide.points), scene.wide.bins, scene.wide.levels)
    readings["mirrored"] = search(there, scene.moving[-2], flipped.rigid, 0.0, 0).score / wide.score
    progress(0.55, "mirrored MRI compared")
    for n, name in enumerate(("left-right", "front-back", "long")):
        half = turned(np.pi * scene.axes[:, n])
        other, _ = _register(scene, _identity, half, other=True)
        readings[f"turned about the {name} axis"] = other.score / middle.score
    progress(0.7, "turned MRI compared")

    if tumour is not None:
        points, target = pose.inverse().points(_extremes(np.asarray(tumour))), "tumour"
    else:
        points, target = _extremes(scene.sacrum), "sacrum"
    residual, spread, parts = _agreement(scene, pose, points)
    climbed = search(scene.samples[-1], scene.moving[-1], pose, *SHIFTS[-1])
    off = float(apart_mm(pose, climbed.rigid, points).max()) if own is not None else 0.0
    hidden = evidence.value("SP-FUS-02", "hidden") * float(np.median(mri.geometry.spacing_mm))
    predicted = evidence.value("SP-FUS-02", "cover") * float(np.sqrt(spread**2 + hidden**2)) + off
    shown = _inside(mri.geometry, pose.points(scene.sacrum))
    centre = scene.sacrum.mean(axis=0)
    turn = float(np.degrees(np.arccos(np.clip((np.trace(pose.rotation) - 1.0) / 2.0, -1.0, 1.0))))
    shift = float(np.linalg.norm(pose.points(centre) - centre))
    same = ct.frame == mri.frame and ct.frame != DEFAULT_FRAME
    concerns = _concerns(residual, predicted, target, readings, shown)
    doubts = _doubts(residual, predicted, target, off, shift if same else 0.0, concerns)
    progress(1.0, "MRI fused")
    return Fusion(
        pose, "automatic" if own is None else "own transform", whole.information, residual,
        predicted, target, parts, readings, shown, turn, shift, concerns, doubts,
    )  # fmt: skip


def _identity(points: FloatArray) -> FloatArray:
    return points


def _mirror(scene: _Scene) -> Change:
    """Left and right exchanged about the middle of the bones."""
    matrix = np.eye(3) - 2.0 * np.outer(scene.axes[:, 0], scene.axes[:, 0])

    def mirror(points: FloatArray) -> FloatArray:
        return np.asarray((points - scene.centre) @ matrix + scene.centre)

    return mirror


def _prepare(ct: Volume, labels: LabelMap, mri: Volume) -> _Scene:
    from scipy.ndimage import distance_transform_edt, find_objects

    if not labels.has("sacrum"):
        raise ImagingError("The bones of the CT hold no sacrum, on which an MRI could be fused.")
    if min(mri.geometry.shape) < 4:
        raise ImagingError(
            f"The MRI has {' x '.join(map(str, mri.geometry.shape))} voxels; a fusion needs a volume, "
            "not single slices."
        )
    ids = [labels.id_of(n) for n in BONES if labels.has(n)]
    bones = np.isin(labels.data, ids)
    box = find_objects(bones.view(np.uint8))[0]
    pad = np.ceil(WIDE_MM / ct.geometry.spacing_mm).astype(int)
    low = np.maximum([b.start for b in box] - pad, 0)
    high = np.minimum([b.stop for b in box] + pad, ct.geometry.shape)
    cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    steps = block_steps(ct.geometry, WORK_MM)
    geometry = block_geometry(ct.geometry.cropped(low, high), steps)
    hu = block_mean(np.clip(ct.data[cut], *HU_RANGE), steps)
    near = block_any(bones[cut], steps)
    reach = distance_transform_edt(~near, sampling=geometry.spacing_mm)
    sacrum = block_any(labels.data[cut] == labels.id_of("sacrum"), steps)
    sacrum_points = geometry.to_world(np.argwhere(sacrum))

    image = flattened(mri)
    # Placed on the sacrum, the MRI holds this share of the bones; half of it must be held.
    size = 0.5 * mri.geometry.extent_mm
    bone_points = geometry.to_world(np.argwhere(near)[::7])
    aside = np.abs((bone_points - sacrum_points.mean(axis=0)) @ mri.geometry.direction)
    least = 0.5 * float(np.all(aside <= size, axis=1).mean())
    samples, moving = [], []
    for sigma, around, count, greys in LEVELS:
        level = smoothed(geometry, hu, sigma)
        samples.append(take_samples(geometry, level, reach < around, count, greys, FRAME_SEED))
        moving.append(
            Moving(mri.geometry, smoothed(mri.geometry, image, sigma), min(max(least, 0.05), 0.5))
        )
    body = (reach < WIDE_MM) & (hu > HU_RANGE[0] + 1.0)
    wide = take_samples(
        geometry,
        smoothed(geometry, hu, LEVELS[-2][0]),
        body,
        WIDE_POINTS,
        LEVELS[-2][3],
        FRAME_SEED + 1,
    )
    index = np.rint(geometry.to_index(samples[-1].points)).astype(int)
    index = np.clip(index, 0, np.array(geometry.shape) - 1)
    from_sacrum = distance_transform_edt(~sacrum, sampling=geometry.spacing_mm)
    return _Scene(
        tuple(samples),
        tuple(moving),
        wide,
        np.asarray(from_sacrum[tuple(index.T)] <= LEVELS[-1][1]),
        sacrum_points,
        bone_points.mean(axis=0),
        np.asarray(geometry.direction),
    )


def _starts(scene: _Scene, samples: Samples, turn: FloatArray | None) -> list[Rigid]:
    """The most promising of many starts: scanner coordinates, the MRI's middle on the pelvis or on
    the sacrum, each shifted along and turned a little about every axis."""
    moving = scene.moving[0]
    g = moving.geometry
    middle = g.to_world(0.5 * (np.array(g.shape) - 1.0))
    first = np.eye(3) if turn is None else turn
    sacrum = scene.sacrum.mean(axis=0)
    by = [turned(np.zeros(3))]
    by += [turned(s * np.deg2rad(TURN_DEG) * e) for e in np.eye(3) for s in (1.0, -1.0)]
    out = []
    steps = (0.0, -SHIFT_MM, SHIFT_MM)
    shifts = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    few = samples.subset(np.arange(len(samples.bins)) % SCORED == 0)
    for home, to in ((sacrum, sacrum), (scene.centre, middle), (sacrum, middle)):
        for shift in shifts @ scene.axes.T:
            here = [about(r @ first, home, to - home + shift) for r in by]
            # The best turn of every shift: far from the truth the values hardly tell which shift is
            # right, and a few good ones beside each other would crowd out the rest.
            out.append(max((search(few, moving, s, 0.0, 0) for s in here), key=_score))
    return [f.rigid for f in sorted(out, key=_score, reverse=True)]


def _score(found: Found) -> float:
    return found.score


def _register(
    scene: _Scene, change: Change, turn: FloatArray | None, other: bool = False
) -> tuple[Found, float]:
    """Best pose of a reading of the MRI, and the score of the best other pose over its own.

    An ``other`` reading than the MRI's own need only show whether it fits at all: fewer starts, and
    no last level.
    """
    samples = [Samples(change(s.points), s.bins, s.levels) for s in scene.samples]
    climbed, kept = (OTHER_CLIMBED, OTHER_KEPT) if other else (CLIMBED, KEPT)
    poses = starts = _starts(scene, samples[0], turn)[:climbed]
    found: list[Found] = []
    for level, keep in zip(range(3), kept, strict=True):
        found = best_of(samples[level], scene.moving[level], poses, keep, *SHIFTS[level])
        poses = [f.rigid for f in found]
        if level == 0:
            # A wide basin may end where the MRI ends; the next level also climbs from where it began.
            poses += starts[:CLIMBED_TWICE]
    second = found[1].score / max(found[0].score, 1e-12) if len(found) > 1 else 0.0
    best = found[0]
    if not other:
        best = search(samples[-1], scene.moving[-1], best.rigid, *SHIFTS[-1])
    return best, second


def _judged(scene: _Scene, pose: Rigid) -> Found:
    return search(scene.samples[-1], scene.moving[-1], pose, 0.0, 0)


def _inside(geometry: VolumeGeometry, points: FloatArray) -> float:
    index = geometry.to_index(points)
    return float(np.all((index >= -0.5) & (index <= np.array(geometry.shape) - 0.5), axis=1).mean())


def _extremes(points: FloatArray) -> FloatArray:
    """Centroid and the outermost points along 13 directions: an error is greatest at one of them."""
    grid = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    along = points @ grid[np.any(grid != 0, axis=1)].T
    chosen = points[np.unique(along.argmax(axis=0))]
    return np.concatenate([points.mean(axis=0)[None], chosen])


def _agreement(
    scene: _Scene, pose: Rigid, target: FloatArray
) -> tuple[float, float, dict[str, float]]:
    """Residual, spread at the target, and each part's own difference, all mm.

    The halves of a pair share no point. If their errors are independent, half their difference has
    the spread of the error of the whole.
    """
    samples, moving = scene.samples[-1], scene.moving[-1]
    index = moving.geometry.to_index(pose.points(samples.points))
    keep = np.all((index >= 0) & (index <= np.array(moving.geometry.shape) - 1.0), axis=1)
    inner = samples.subset(keep)
    along = (inner.points - inner.points.mean(axis=0)) @ scene.axes
    middle = np.median(along, axis=0)
    rng = np.random.default_rng(FRAME_SEED)
    pairs = [
        ("left half", "right half", along[:, 0] > middle[0]),
        ("back half", "front half", along[:, 1] > middle[1]),
        ("upper half", "lower half", along[:, 2] > middle[2]),
        ("sacrum", "hip bones", scene.on_sacrum[keep]),
        ("random half 1", "random half 2", rng.random(len(along)) < 0.5),
        ("random half 3", "random half 4", rng.random(len(along)) < 0.5),
    ]
    parts: dict[str, float] = {}
    halves: list[float] = []
    for first, second, chosen in pairs:
        if min(np.count_nonzero(chosen), np.count_nonzero(~chosen)) < LEAST_PART:
            continue
        ends: list[Rigid] = []
        for name, at in ((first, chosen), (second, ~chosen)):
            part = inner.subset(at)
            found = search(part, moving, pose, *SHIFTS[-1])
            ends.append(found.rigid)
            own = apart_mm(pose, found.rigid, part.points)
            parts[name] = float(np.sqrt(np.mean(own**2)))
        halves.append(0.5 * float(apart_mm(ends[0], ends[1], target).max()))
    if not halves:
        raise ImagingError(
            "Too little of the pelvis lies in the MRI to check a fusion on its parts. Use an MRI that "
            "shows the sacrum and both sacroiliac joints."
        )
    residual = float(np.sqrt(np.mean(np.square(list(parts.values())))))
    return residual, float(np.sqrt(np.mean(np.square(halves)))), parts


def _concerns(
    residual: float, predicted: float, target: str, readings: Mapping[str, float], shown: float
) -> tuple[str, ...]:
    out = []
    stop = evidence.value("SP-FUS-01", "stop")
    if residual > stop:
        out.append(
            f"parts of the pelvis disagree by {residual:.1f} mm, at most {stop:g} mm is expected: "
            "another patient, another posture of the joints, or a distorted MRI"
        )
    stop = evidence.value("SP-FUS-02", "stop")
    if predicted > stop:
        out.append(
            f"the predicted error at the {target} is {predicted:.1f} mm, at most {stop:g} mm is "
            "expected"
        )
    for name, value in readings.items():
        if name == "mirrored" and value >= evidence.value("SP-FUS-03", "mirrored"):
            out.append(
                "a mirrored MRI fits better: left and right may be exchanged in its header"
                if value > 1.0
                else f"a mirrored MRI fits nearly as well ({100 * value:.0f} %): left and right "
                "cannot be told apart, or it is another patient's"
            )
        elif name == "second pose" and value >= evidence.value("SP-FUS-03", "second"):
            out.append(f"a second position fits nearly as well ({100 * value:.0f} %)")
        elif name.startswith("turned") and value >= evidence.value("SP-FUS-03", "turned"):
            out.append(
                f"the MRI {name} by half a turn fits {'better' if value > 1.0 else 'nearly as well'}"
                ": its header may tell the patient's position wrongly"
            )
    least = evidence.value("SP-FUS-04", "sacrum") / 100.0
    if shown < 0.5 * least:
        out.append(f"the MRI shows only {100 * shown:.0f} % of the sacrum")
    return tuple(out)


def _doubts(
    residual: float,
    predicted: float,
    target: str,
    off: float,
    shift_of_same_frame: float,
    concerns: tuple[str, ...],
) -> tuple[Doubt, ...]:
    out = []

    def doubt(code: str, message: str, *rows: str) -> None:
        out.append(Doubt("imaging", f"imaging.fusion_{code}", message, ("CT-08", *rows)))

    if concerns:
        doubt("failed", f"The MRI fusion failed its checks: {'; '.join(concerns)}.", "SP-FUS-03")
    limit = evidence.value("SP-FUS-01", "doubt")
    if residual > limit:
        doubt(
            "residual",
            f"Parts of the pelvis, fused on their own, differ by {residual:.1f} mm from the whole; at "
            f"most {limit:g} mm is expected of one patient lying alike.",
            "SP-FUS-01",
        )
    limit = evidence.value("SP-FUS-02", "doubt")
    if predicted > limit:
        doubt(
            "error",
            f"The tumour's edge carries a fusion error of up to {predicted:.1f} mm (95 %) at the "
            f"{target}, above {limit:g} mm: add it to the wanted margin.",
            "SP-FUS-02",
        )
    if off > evidence.value("SP-FUS-05", "own"):
        doubt(
            "own_transform",
            f"Your transform lies {off:.1f} mm from the best match near it; look at the picture.",
            "SP-FUS-05",
        )
    if shift_of_same_frame > evidence.value("SP-FUS-05", "header"):
        doubt(
            "header",
            "MRI and CT claim the same coordinates, but the fusion moved the sacrum by "
            f"{shift_of_same_frame:.0f} mm.",
            "SP-FUS-05",
        )
    return tuple(out)
