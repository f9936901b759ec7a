"""Search of the pose in which two images tell most about each other near the pelvis.

Mutual information needs no knowledge of what is bright in the MRI. Every evaluation uses the same
fixed sample points of the CT, one thread and no random start, so that a fusion has one result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray, Rigid
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.volume import Volume, VolumeGeometry

ARM_MM = 80.0
"""One unit of a rotation parameter moves a point this far off the centre by 1 mm: half a pelvis."""

MOST_TURN = np.deg2rad(50.0)
"""Largest rotation that the search may reach; patients lie in a scanner within far less."""

MOST_SHIFT_MM = 150.0
"""Largest shift from a start; more would leave the pelvis."""

FLAT_MM = 45.0
"""Width (sigma) of the smooth shading that is divided out of the MRI: coils shade over decimetres."""


SAME_POSE_MM = 6.0
"""Poses nearer than this at every bone climb to the same maximum at the next level."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of the CT: ``points`` (n, 3) LPS mm and the bin of the CT's grey value there.

    ``levels`` is the number of bins, of CT and MRI alike: chance fills a fine histogram of few points
    with seeming information, the more the fewer points lie in the MRI.
    """

    points: FloatArray
    bins: npt.NDArray[np.int64]
    levels: int

    def subset(self, chosen: npt.NDArray[np.bool_]) -> Samples:
        """The chosen points."""
        return Samples(self.points[chosen], self.bins[chosen], self.levels)


@dataclass(frozen=True, eq=False)
class Moving:
    """The MRI scaled to [0, 1] on its grid; a pose counts with ``least_inside`` of its points in it.

    Without that share the search would push the pelvis out of the MRI, where a few points agree by
    chance.
    """

    geometry: VolumeGeometry
    image: npt.NDArray[np.float32]
    least_inside: float


@dataclass(frozen=True, eq=False)
class Found:
    """A pose (CT to MRI), its mutual information in nats and the share of points in the MRI."""

    rigid: Rigid
    information: float
    inside: float

    @property
    def score(self) -> float:
        """Information over all points, those outside telling nothing: fewer points would otherwise
        seem to tell more, because chance fills a sparse histogram."""
        return self.information * self.inside


def flattened(volume: Volume) -> npt.NDArray[np.float32]:
    """MRI without coil shading, clipped to its middle 99 %, in [0, 1]."""
    from scipy.ndimage import gaussian_filter

    data = volume.data.astype(np.float32)
    data -= np.float32(np.percentile(data[::2, ::2], 0.5))
    np.maximum(data, 0.0, out=data)
    # Air would pull the shading down at the skin: it has no signal to be shaded.
    step = np.maximum(1, np.floor(8.0 / volume.geometry.spacing_mm)).astype(int)
    coarse = data[:: step[0], :: step[1], :: step[2]]
    body = coarse > 0.25 * float(coarse[coarse > coarse.mean()].mean())
    sigma = FLAT_MM / (volume.geometry.spacing_mm * step)
    weight = gaussian_filter(body.astype(np.float32), sigma, mode="nearest")
    shade = gaussian_filter(np.where(body, coarse, 0.0), sigma, mode="nearest")
    shade = np.where(weight > 1e-3, shade / np.maximum(weight, 1e-3), 0.0)
    shade = np.maximum(shade, 0.2 * float(shade.max()))
    data /= _stretched(shade.astype(np.float32), data.shape, step)
    low, high = np.percentile(data[::2, ::2], (0.5, 99.5))
    return np.asarray(np.clip((data - low) / max(high - low, 1e-6), 0.0, 1.0), dtype=np.float32)


def _stretched(
    coarse: npt.NDArray[np.float32], shape: tuple[int, ...], step: npt.NDArray[np.int_]
) -> npt.NDArray[np.float32]:
    """A strided image back on its full grid, linear along one axis after the other."""
    out = coarse
    for axis in range(3):
        at = np.minimum(np.arange(shape[axis]) / step[axis], out.shape[axis] - 1.0)
        low = np.minimum(at.astype(int), max(out.shape[axis] - 2, 0))
        high = np.minimum(low + 1, out.shape[axis] - 1)
        form = [1, 1, 1]
        form[axis] = -1
        t = (at - low).astype(np.float32).reshape(form)
        out = np.take(out, low, axis) * (1.0 - t) + np.take(out, high, axis) * t
    return out


def smoothed(
    geometry: VolumeGeometry, image: npt.NDArray[np.float32], sigma_mm: float
) -> npt.NDArray[np.float32]:
    """``image`` smoothed to about ``sigma_mm``; thick slices are thick already."""
    from scipy.ndimage import gaussian_filter

    # A voxel blurs by about 0.29 of its edge (a box's standard deviation).
    own = 0.29 * geometry.spacing_mm
    sigma = np.sqrt(np.maximum(sigma_mm**2 - own**2, 0.0)) / geometry.spacing_mm
    return np.asarray(gaussian_filter(image, sigma, mode="nearest"), dtype=np.float32)


def take_samples(
    geometry: VolumeGeometry,
    image: npt.NDArray[np.float32],
    region: npt.NDArray[np.bool_],
    count: int,
    levels: int,
    seed: int,
) -> Samples:
    """``count`` points spread over ``region``, jittered inside their voxels; bins of equal share.

    The jitter keeps interpolation at grid points from showing in the histogram.
    """
    rng = np.random.default_rng(seed)
    voxels = np.argwhere(region)
    at = voxels[(np.arange(count) * len(voxels)) // count] if len(voxels) > count else voxels
    points = geometry.to_world(at + rng.uniform(-0.5, 0.5, size=at.shape))
    values = sample(geometry, image, points, np.nan)
    keep = np.isfinite(values)
    points, values = points[keep], values[keep]
    edges = np.quantile(values, np.linspace(0.0, 1.0, levels + 1)[1:-1])
    return Samples(points, np.searchsorted(edges, values).astype(np.int64), levels)


def _left_jacobian(w: FloatArray) -> FloatArray:
    """Derivative of the rotation vector's exponential, in the fixed frame."""
    angle = float(np.linalg.norm(w))
    k = np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])
    if angle < 1e-6:
        return np.eye(3) + 0.5 * k
    return np.asarray(
        np.eye(3)
        + (1.0 - np.cos(angle)) / angle**2 * k
        + (angle - np.sin(angle)) / angle**3 * (k @ k)
    )


def turned(rotation_vector: npt.ArrayLike) -> FloatArray:
    """Rotation matrix of a rotation vector in radians."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(np.asarray(rotation_vector)).as_matrix())


def about(rotation: FloatArray, centre: FloatArray, shift: FloatArray) -> Rigid:
    """Rotation about ``centre`` followed by ``shift``."""
    return Rigid(rotation, centre + shift - rotation @ centre)


def search(
    samples: Samples, moving: Moving, start: Rigid, most_shift_mm: float, steps: int
) -> Found:
    """Climb to the nearest maximum of mutual information from ``start``.

    The pose is the start followed by a small rotation about the points' centre and a shift. With no
    steps the start is judged where it is.
    """
    from scipy.optimize import minimize

    from sacroplan.imaging import _fusion_kernels

    g = moving.geometry
    to_index = np.ascontiguousarray((g.direction / g.spacing_mm).T)
    derivative = np.empty(6)
    levels = (samples.levels, samples.levels)

    def judged(rigid: Rigid) -> Found:
        at = np.ascontiguousarray(g.to_index(rigid.points(samples.points)))
        information, count = _fusion_kernels.mutual_information(
            moving.image, to_index, at, at, np.eye(3), samples.bins, levels, False, derivative
        )
        inside = count / len(at)
        return Found(rigid, information if inside >= moving.least_inside else 0.0, inside)

    here = judged(start)
    if steps == 0 or here.information == 0.0:
        return here
    # The climb goes by the points that lie in the MRI at its start. A point that leaves on the way
    # takes the border's value, so that the information has no steps on which a climb would stop.
    moved = start.points(samples.points)
    index = g.to_index(moved)
    keep = np.all((index >= 0.0) & (index <= np.array(g.shape) - 1.0), axis=1)
    moved, bins = moved[keep], samples.bins[keep]
    centre = moved.mean(axis=0)
    arms = moved - centre

    def objective(x: FloatArray) -> tuple[float, FloatArray]:
        w = x[:3] / ARM_MM
        arm = arms @ turned(w).T
        at = np.ascontiguousarray(g.to_index(arm + centre + x[3:]))
        information, _ = _fusion_kernels.mutual_information(
            moving.image, to_index, at, arm, _left_jacobian(w), bins, levels, True, derivative
        )
        slope = -derivative
        slope[:3] /= ARM_MM
        return -information, slope

    turn = MOST_TURN * ARM_MM
    bounds = [(-turn, turn)] * 3 + [(-most_shift_mm, most_shift_mm)] * 3
    result = minimize(
        objective, np.zeros(6), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": steps, "maxfun": 2 * steps, "ftol": 1e-7, "gtol": 1e-7},
    )  # fmt: skip
    x = np.asarray(result.x)
    turn_by = about(turned(x[:3] / ARM_MM), centre, x[3:])
    # Products of rotations drift off orthonormality by rounding; the nearest rotation is the same.
    u, _, v = np.linalg.svd(turn_by.rotation @ start.rotation)
    return judged(Rigid(u @ v, turn_by.points(start.translation)))


def best_of(
    samples: Samples,
    moving: Moving,
    starts: Sequence[Rigid],
    keep: int,
    most_shift_mm: float,
    steps: int,
) -> list[Found]:
    """The ``keep`` best poses reached from ``starts``, without near repeats, best first."""
    found = sorted(
        (search(samples, moving, s, most_shift_mm, steps) for s in starts),
        key=lambda f: -f.score,
    )
    some = samples.points[:: max(1, len(samples.points) // 50)]
    out: list[Found] = []
    for f in found:
        if all(apart_mm(f.rigid, o.rigid, some).max() > SAME_POSE_MM for o in out):
            out.append(f)
        if len(out) == keep:
            break
    return out


def apart_mm(a: Rigid, b: Rigid, points: FloatArray) -> FloatArray:
    """(n,) distances between where two poses take ``points`` (n, 3)."""
    return np.asarray(np.linalg.norm(a.points(points) - b.points(points), axis=1))
