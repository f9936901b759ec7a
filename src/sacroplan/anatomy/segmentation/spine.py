"""The spinal canal and the discs: where one vertebra ends and the next begins.

All positions here are millimetres in *grid coordinates* (voxel index times spacing), so nothing
depends on how the grid lies in the patient; only the canonical order left, posterior, superior is
used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan import evidence
from sacroplan.anatomy.segmentation import _kernels
from sacroplan.geometry.frames import FloatArray

Mask = npt.NDArray[np.bool_]

STEP_MM = 1.0
"""Sampling step along the canal and across a disc."""

TILTS_DEG = np.arange(-32.0, 33.0, 4.0)
"""Disc inclinations tried against the canal's cross-section."""


@dataclass(frozen=True, eq=False)
class Canal:
    """The spinal canal from cranial to caudal, grid millimetres.

    ``points`` (n, 3) on its axis every millimetre; ``down`` (n, 3) tangents; ``front`` (n, 3) unit
    vectors towards the vertebral bodies; ``left`` (n, 3) towards the patient's left.
    """

    points: FloatArray
    down: FloatArray
    front: FloatArray
    left: FloatArray


@dataclass(frozen=True, eq=False)
class Disc:
    """A disc: arc length on the canal, its plane (centre and upward normal), how clear it is.

    ``contrast_hu`` is end plates minus disc.
    """

    station: int
    centre: FloatArray
    up: FloatArray
    contrast_hu: float


def midline_mm(solid: Mask, spacing: FloatArray) -> float:
    """Position of the plane i = const about which the bones are most symmetric, mm."""
    profile = solid.sum(axis=1).astype(np.float64)
    n = profile.shape[0]
    overlap = np.zeros(2 * n)
    for twice in range(n // 2, 3 * n // 2):
        index = np.arange(max(0, twice - n + 1), min(n - 1, twice) + 1)
        overlap[twice] = np.minimum(profile[index], profile[twice - index]).sum()
    return float(np.argmax(overlap)) / 2.0 * float(spacing[0])


def find_canal(hu: npt.NDArray[np.float32], spacing: FloatArray, middle_mm: float) -> Canal | None:
    """Track the canal through the axial slices; None where there is none.

    A canal voxel is soft, and in-plane rays from it meet bone all round; the run of one such
    voxel per slice with the best total is found by dynamic programming.
    """
    h = float(spacing[0])
    row = "SP-SEG-02"
    half_width = evidence.value(row, "midline_band") / h
    low = max(0, int(middle_mm / h - half_width))
    high = min(hu.shape[0], int(middle_mm / h + half_width) + 1)

    def score(clearance_mm: float) -> npt.NDArray[np.float32]:
        share = _kernels.enclosure(
            hu,
            evidence.value(row, "wall"),
            evidence.value(row, "content"),
            -evidence.value(row, "fat_floor"),
            evidence.value(row, "reach") / h,
            clearance_mm / h,
            low,
            high,
        )
        # Foramina and tumours are enclosed too; the canal is the one nearest to the midline.
        offset = np.abs(np.arange(low, high) * h - middle_mm) / evidence.value(row, "midline_band")
        cost = np.float32(evidence.value(row, "midline_cost")) * offset.astype(np.float32) ** 2
        out = np.asarray(share[low:high] - cost[:, None, None])
        # Bone parts the canal from the marrow, which in osteoporosis is as soft and as well enclosed.
        out[hu[low:high] > evidence.value(row, "parts")] = -np.inf
        return out

    least = evidence.value(row, "enclosed_share")
    wide = score(evidence.value(row, "clearance"))
    # The sacral canal narrows. A tumour that broke into it is wide; the canal behind goes on further.
    narrow = score(evidence.value(row, "sacral_clearance"))
    either = np.maximum(wide, narrow - np.float32(evidence.value(row, "narrow_cost")))
    path = _kernels.best_descending_path(either, least, 0.05, 1, 3)
    if len(path) < 3:
        return None
    # From where that ends, a narrow canal is followed down at no cost.
    end = tuple(path[-1])
    narrow[:, :, end[2] :] = -np.inf
    narrow[end] = 1e3
    tail = _kernels.best_descending_path(narrow, least, 0.05, 1, 3)
    path = np.concatenate([path, tail[1:]])
    raw = (path + np.array([low, 0, 0])) * spacing
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(raw, axis=0), axis=1))])
    # Voxel steps are jagged; 6 mm is half a canal and keeps the sacral curve.
    fine = np.arange(0.0, length[-1], STEP_MM)
    points = np.stack([np.interp(fine, length, raw[:, a]) for a in range(3)], axis=1)
    points = ndimage.gaussian_filter1d(points, 6.0 / STEP_MM, axis=0, mode="nearest")
    down = np.gradient(points, axis=0) if len(points) > 2 else np.zeros_like(points)
    down = ndimage.gaussian_filter1d(down, 6.0 / STEP_MM, axis=0, mode="nearest")
    down /= np.maximum(np.linalg.norm(down, axis=1, keepdims=True), 1e-9)
    left = np.array([1.0, 0.0, 0.0]) - down * down[:, :1]
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    front = np.cross(left, down)
    front *= np.where(front[:, 1:2] > 0, -1.0, 1.0)
    return Canal(points, down, front, left)


def _sample(hu: npt.NDArray[Any32], spacing: FloatArray, points: FloatArray) -> FloatArray:
    flat = (points / spacing).reshape(-1, 3).T
    out = ndimage.map_coordinates(hu, flat, order=1, mode="constant", cval=np.nan)
    return np.asarray(out, dtype=np.float64).reshape(points.shape[:-1])


Any32 = np.float32


def find_discs(hu: npt.NDArray[np.float32], spacing: FloatArray, canal: Canal) -> list[Disc]:
    """Discs from cranial to caudal, mobile or rudimentary (sacral), by a matched filter.

    A disc is a dark plate between two bright end plates in front of the canal. Plates are sampled
    perpendicular to the canal and inclined in the sagittal plane. The clearest disc sets what the
    others must reach: within a body, end plates and marrow look like a faint one.
    """
    row = "SP-SEG-03"
    u = np.arange(-14.0, 14.5, 3.5)
    v = np.arange(11.0, 30.0, 3.0)
    w = np.arange(-9.0, 9.5, STEP_MM)
    n = len(canal.points)
    pivot = canal.points + 20.0 * canal.front
    clipped = np.clip(hu, -100.0, 500.0)
    contrast = np.full((len(TILTS_DEG), n), -np.inf)
    ups = np.empty((len(TILTS_DEG), n, 3))
    for t, tilt in enumerate(np.deg2rad(TILTS_DEG)):
        forward = np.cos(tilt) * canal.front - np.sin(tilt) * canal.down
        up = -np.cos(tilt) * canal.down - np.sin(tilt) * canal.front
        ups[t] = up
        plate = (
            pivot[:, None, None, None]
            + u[None, :, None, None, None] * canal.left[:, None, None, None]
            + (v - 20.0)[None, None, :, None, None] * forward[:, None, None, None]
            + w[None, None, None, :, None] * up[:, None, None, None]
        )
        profile = np.nanmean(np.nan_to_num(_sample(clipped, spacing, plate), nan=0.0), axis=(1, 2))
        zero = len(w) // 2
        above = profile[:, zero + 2 :].max(axis=1)
        below = profile[:, : zero - 1].max(axis=1)
        contrast[t] = np.minimum(above, below) - profile[:, zero - 1 : zero + 2].mean(axis=1)
    best = contrast.argmax(axis=0)
    strength = contrast[best, np.arange(n)]
    found: list[Disc] = []
    gap = evidence.value(row, "least_distance")
    free = np.ones(n, dtype=bool)
    clearest = float(strength.max(initial=0.0))
    minimum = max(evidence.value(row, "contrast"), evidence.value(row, "share") * clearest)
    while True:
        s = int(np.argmax(np.where(free, strength, -np.inf)))
        if not free[s] or strength[s] < minimum:
            break
        up = ups[best[s], s]
        found.append(Disc(s, pivot[s].copy(), up.copy(), float(strength[s])))
        centres = np.linalg.norm(pivot - pivot[s], axis=1)
        free &= (centres > gap) & (np.abs(np.arange(n) - s) > gap / 2)
    return sorted(found, key=lambda d: d.station)
