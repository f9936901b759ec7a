"""What the voxels themselves tell of how a CT was made: noise, sharpness, contrast, motion.

Headers are silent or wrong often enough; these figures need none. They are measured in the planes
of the slices and along the grid, never along world axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import Volume

SAMPLED_SLICES = 24
"""Slices that noise and edges are measured in: enough for a median, one second at 512 x 512."""

HALF_WINDOW = 4
"""Half length, in pixels, of the profile across an edge."""

COARSE_MM = 2.0
"""Grid of the search for bright vessels: five voxels across an iliac artery."""

BONE_BLUR = 1.5
"""Blur in pixels before bone is compared between slices: steps of three pixels are still found, and
noise explains a fifth of the change at most."""

MIN_SAMPLES = 400
"""Fewer edge profiles or homogeneous pixels give no figure."""


@dataclass(frozen=True)
class Texture:
    """Noise and sharpness within the slices; None where the image shows none.

    Attributes
    ----------
    noise_hu : standard deviation in homogeneous soft tissue.
    grain_mm : size of the noise grain: the Gaussian blur of white noise that would look alike.
    edge_mm : distance over which the skin rises from 10 to 90 % of its step.
    """

    noise_hu: float | None
    grain_mm: float | None
    edge_mm: float | None


@dataclass(frozen=True, eq=False)
class BrightVessels:
    """Tubes of contrast-filled blood: how many, their volume and mean HU, and other bright organs."""

    pieces: int
    volume_cm3: float
    mean_hu: float
    other_cm3: float


@dataclass(frozen=True, eq=False)
class Jump:
    """A step of the skeleton between two slices: centre (3,) LPS mm, size in mm."""

    place: FloatArray
    size_mm: float


def _planes(volume: Volume, axis: int) -> tuple[npt.NDArray[np.float32], float]:
    """(n, rows, columns) evenly chosen slices, and the mean pixel size."""
    data = np.moveaxis(volume.data, axis, 0)
    n = data.shape[0]
    chosen = np.unique(np.linspace(0, n - 1, min(n, SAMPLED_SLICES)).round().astype(int))
    pixel = float(np.mean(np.delete(volume.geometry.spacing_mm, axis)))
    return data[chosen].astype(np.float32), pixel


def texture(volume: Volume, axis: int) -> Texture:
    """Noise and sharpness in the planes across ``axis``."""
    planes, pixel = _planes(volume, axis)
    if min(planes.shape[1:]) < 4 * HALF_WINDOW:
        return Texture(None, None, None)
    noise, grain = _noise(planes, pixel)
    return Texture(noise, grain, _edge_width(planes, pixel))


def _noise(planes: npt.NDArray[np.float32], pixel: float) -> tuple[float | None, float | None]:
    """Standard deviation, and grain from the correlation of neighbouring pixels."""
    from scipy import ndimage

    size = (1, 7, 7)
    low, high = evidence.span("SP-IMG-09", "soft_tissue")
    mean = ndimage.uniform_filter(planes, size)
    rest = planes - mean
    power = ndimage.uniform_filter(rest * rest, size)
    soft = (mean > low) & (mean < high)
    if np.count_nonzero(soft) < MIN_SAMPLES:
        return None, None
    # Fat planes, vessels and bone edges raise the local power; the quieter third has none.
    quiet = soft & (power <= np.quantile(power[soft], 1.0 / 3.0))
    variance = float(rest[quiet].astype(np.float64).var())
    # A window of 7 x 7 takes 1/49 of the variance with its mean.
    noise = float(np.sqrt(variance * 49.0 / 48.0))
    if noise < 0.5:
        # Less than the rounding of whole HU: a computed image.
        return noise, None
    products = []
    for shift in (1, 2):
        moved = np.roll(rest, -1, axis=shift)
        both = quiet & np.roll(quiet, -1, axis=shift)
        products.append(rest[both].astype(np.float64) * moved[both])
    correlation = float(np.concatenate(products).mean()) / variance
    # The subtracted mean biases the correlation of white noise to -1/48.
    correlation = (correlation + 1.0 / 48.0) / (1.0 + 1.0 / 48.0)
    if correlation <= 0.0:
        return noise, 0.0
    if correlation >= 1.0:
        return noise, None
    # White noise blurred by a Gaussian of sigma s correlates as exp(-d^2 / 4 s^2).
    return noise, pixel / (2.0 * float(np.sqrt(-np.log(correlation))))


def _edge_width(planes: npt.NDArray[np.float32], pixel: float) -> float | None:
    """Median 10-90 % width of rises from air to skin that run along rows or columns."""
    air, tissue = evidence.value("SP-IMG-09", "air"), evidence.value("SP-IMG-09", "skin")
    n = 2 * HALF_WINDOW + 1
    widths: list[FloatArray] = []
    for axis in (1, 2):
        lines = np.moveaxis(planes, axis, 2)
        for sign in (1, -1):
            flow = lines[:, :, ::sign]
            windows = np.lib.stride_tricks.sliding_window_view(flow, n, axis=2)
            middle = 0.5 * (air + tissue)
            crossing = (
                (windows[..., 0] < air)
                & (windows[..., -1] > tissue)
                & (windows[..., HALF_WINDOW - 1] < middle)
                & (windows[..., HALF_WINDOW] >= middle)
            )
            rows = windows[crossing].astype(np.float64)
            if not len(rows):
                continue
            # The neighbouring line must rise within half a pixel of this one: the edge is upright.
            beside = np.roll(windows, 1, axis=1)[crossing]
            upright = np.abs(beside[:, HALF_WINDOW] - rows[:, HALF_WINDOW]) < 0.25 * (tissue - air)
            rows = rows[upright & np.all(np.diff(rows, axis=1) > -60.0, axis=1)]
            if len(rows):
                widths.append(_rise(rows))
    every = np.concatenate(widths) if widths else np.zeros(0)
    return float(np.median(every)) * pixel if len(every) >= MIN_SAMPLES else None


def _rise(rows: FloatArray) -> FloatArray:
    """(m,) pixels from 10 to 90 % of the step of monotone profiles (m, n)."""
    low, high = rows[:, :2].mean(axis=1), rows[:, -2:].mean(axis=1)
    share = np.maximum.accumulate((rows - low[:, None]) / (high - low)[:, None], axis=1)
    index = np.arange(len(rows))

    def crossing(level: float) -> FloatArray:
        after = np.clip(np.argmax(share >= level, axis=1), 1, share.shape[1] - 1)
        a, b = share[index, after - 1], share[index, after]
        part = np.clip((level - a) / np.maximum(b - a, 1e-6), 0.0, 1.0)
        return np.asarray(after - 1 + part)

    return np.asarray(crossing(0.9) - crossing(0.1))


def _coarse(volume: Volume) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Block means of about :data:`COARSE_MM`, and their spacing."""
    step = np.maximum(np.floor(COARSE_MM / volume.geometry.spacing_mm + 0.01).astype(int), 1)
    shape = np.array(volume.geometry.shape) // step * step
    if np.any(shape == 0):
        return np.zeros((0, 0, 0), np.float32), volume.geometry.spacing_mm
    out = volume.data[: shape[0], : shape[1], : shape[2]]
    for axis in range(3):
        if step[axis] > 1:
            starts = np.arange(0, shape[axis], step[axis])
            out = np.add.reduceat(out, starts, axis=axis, dtype=np.float32) / np.float32(step[axis])
    return np.asarray(out, np.float32), volume.geometry.spacing_mm * step


def bright_vessels(volume: Volume) -> BrightVessels:
    """Tubes along the body between bone and muscle in density, and other such organs.

    A tube is a connected piece, bright but hardly anywhere as dense as cortex, surrounded by soft
    tissue and neither by air (the table) nor by bone (marrow), longer along the body than wide.
    Pieces are told apart after peeling one voxel, so that the aorta lets go of the vertebrae.
    """
    from scipy import ndimage

    hu, spacing = _coarse(volume)
    row = "SP-IMG-10"
    low, cortex = evidence.value(row, "blood"), evidence.value(row, "cortex")
    air, dense = (
        evidence.value("SP-IMG-04", "air_below"),
        evidence.value(row, "dense_share") / 100.0,
    )
    even = evidence.value(row, "evenness")
    bright = hu > low
    core = ndimage.binary_erosion(bright)
    if not core.any():
        return BrightVessels(0, 0.0, 0.0, 0.0)
    label, count = ndimage.label(core)
    voxel = float(np.prod(spacing)) / 1000.0
    sizes = np.bincount(label.ravel(), minlength=count + 1) * voxel
    boxes = ndimage.find_objects(label)
    pieces, total, weighted, other = 0, 0.0, 0.0, 0.0
    # A core has lost its rim: a tube of five voxels across keeps a third of its volume.
    for found in np.flatnonzero(sizes[1:] >= evidence.value(row, "volume") / 4.0).tolist():
        n = found + 1
        grown = tuple(
            slice(max(s.start - 4, 0), min(s.stop + 4, size))
            for s, size in zip(boxes[n - 1], hu.shape, strict=True)
        )
        mask = label[grown] == n
        near = hu[grown]
        # Blood is even; what is left of bone between its cortices is not.
        if np.mean(near[mask] > cortex) > dense or near[mask].std() > even:
            continue
        body = ndimage.binary_dilation(mask) & (near > low)
        ring = ndimage.binary_dilation(body, iterations=2) & ~ndimage.binary_dilation(body)
        around = near[ring]
        if not len(around) or np.mean(around < air) > 0.1 or np.quantile(around, 0.75) > low:
            continue
        piece = float(np.count_nonzero(body)) * voxel
        if piece < evidence.value(row, "volume"):
            continue
        along = np.flatnonzero(body.any(axis=(0, 1)))
        length = float(along[-1] - along[0] + 1) * float(spacing[2])
        width = float(np.sqrt(piece * 1000.0 / length))
        if length >= evidence.value(row, "length") and length >= 3.0 * width:
            pieces += 1
            total += piece
            weighted += piece * float(near[mask].mean())
        else:
            other += piece
    return BrightVessels(pieces, total, weighted / total if total else 0.0, other)


def jumps(volume: Volume, axis: int) -> tuple[FloatArray, tuple[Jump, ...]]:
    """Steps of the skeleton from slice to slice: (n - 1,) size in mm, and those that stand out.

    For every pair of slices the shift of bone in the plane is estimated by least squares on grey
    levels; anatomy drifts smoothly, so a shift that leaves its neighbours' median is motion.
    """
    from scipy import ndimage

    row = "SP-IMG-11"
    data = np.moveaxis(volume.data, axis, 0)
    spacing = np.delete(volume.geometry.spacing_mm, axis)
    low, high = evidence.span(row, "bone")
    n = data.shape[0]
    if n < 8 or min(data.shape[1:]) < 16:
        return np.zeros(max(n - 1, 0)), ()
    shift = np.zeros((n - 1, 2))
    weight, explained = np.zeros(n - 1), np.zeros(n - 1)

    def bone(k: int) -> npt.NDArray[np.float32]:
        return np.asarray(
            ndimage.gaussian_filter(np.clip(data[k], low, high).astype(np.float32), BONE_BLUR)
        )

    before = bone(0)
    for k in range(n - 1):
        after = bone(k + 1)
        mean = 0.5 * (before + after)
        gu, gv = np.gradient(mean)
        change = after - before
        a = np.array(
            [[np.vdot(gu, gu), np.vdot(gu, gv)], [np.vdot(gu, gv), np.vdot(gv, gv)]], np.float64
        )
        b = -np.array([np.vdot(gu, change), np.vdot(gv, change)], np.float64)
        weight[k] = np.trace(a)
        if np.linalg.det(a) > 1e-6 * weight[k] ** 2 > 0.0:
            moved = np.linalg.solve(a, b)
            shift[k] = moved * spacing
            explained[k] = (moved @ b) / max(float(np.vdot(change, change)), 1e-12)
        before = after
    drift = ndimage.median_filter(shift, size=(9, 1), mode="nearest")
    step = np.linalg.norm(shift - drift, axis=1)
    # Slices with little bone (or none) say nothing.
    if not np.any(weight > 0):
        return np.zeros(n - 1), ()
    step[weight < 0.1 * np.median(weight[weight > 0])] = 0.0
    # A bone that begins or ends changes the image too, but no shift explains the change.
    step[explained < evidence.value(row, "explained") / 100.0] = 0.0
    usual = float(np.median(np.linalg.norm(shift - drift, axis=1)))
    limit = max(evidence.value(row, "step"), evidence.value(row, "factor") * usual)
    g = volume.geometry
    found = []
    for where in np.flatnonzero(step > limit):
        index = (np.array(g.shape) - 1) / 2.0
        index[axis] = where + 0.5
        found.append(Jump(g.to_world(index), float(step[where])))
    return step, tuple(found)
