"""A follow-up CT with known ingrowth: an implant's block, two porous layers, bone that touches in part.

The truth is a formula in the implant's own coordinates. It is painted on voxels half as large,
averaged, blurred by the scanner and covered with noise, in any position.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sacroplan.geometry.frames import AxisFrame, Rigid
from sacroplan.geometry.primitives import box
from sacroplan.geometry.volume import Volume, VolumeGeometry

HALF = np.array([14.0, 11.0, 5.0])
LAYER = 2.0
METAL, POROUS, BONE, TISSUE = 3071.0, 2200.0, 380.0, 40.0


def implant():
    """Core and two layers, on top and below; facets small enough for the outer faces to be told."""
    axes = AxisFrame("implant", np.zeros(3), np.eye(3))
    core = box(axes, -HALF, HALF)
    top = box(axes, [-HALF[0], -HALF[1], HALF[2]], [HALF[0], HALF[1], HALF[2] + LAYER])
    low = box(axes, [-HALF[0], -HALF[1], -HALF[2] - LAYER], [HALF[0], HALF[1], -HALF[2]])
    return core, {"wing_left": top, "wing_right": low}


@lru_cache
def landscape(side, seed=3):
    """A smooth random height over the face, on a grid of 0.2 mm; hills are some 8 mm wide."""
    rng = np.random.default_rng([seed, side])
    waves = rng.normal(size=(24, 2)) * 2 * np.pi / 14.0
    phase = rng.uniform(0, 2 * np.pi, 24)
    n = np.ceil((2 * HALF[:2] + 8) / 0.2).astype(int) + 2
    grid = np.stack(np.meshgrid(*(np.arange(k) * 0.2 for k in n), indexing="ij"), -1)
    return np.cos(grid.reshape(-1, 2) @ waves.T + phase).sum(1).reshape(n)


def patches(xy, share, side):
    """Which points touch: where the landscape is low, ``share`` of the implant's face in all."""
    height = landscape(side)
    edge = round(4 / 0.2)
    level = np.quantile(height[edge : -edge - 2, edge : -edge - 2], share)
    at = np.rint((xy + HALF[:2] + 4) / 0.2).astype(int)
    return (height[at[..., 0], at[..., 1]] <= level) & (share > 0)


def follow_up(shares, gap_mm, pose=None, voxel=0.5, noise=25.0, blur=0.4, seed=1, rod=True):
    """CT (Volume) with contact ``shares`` (top, bottom) and ``gap_mm`` elsewhere; ``pose`` plan to CT."""
    from scipy.ndimage import gaussian_filter

    pose = pose or Rigid(np.eye(3), np.zeros(3))
    corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T * (HALF + [6, 6, 8])
    there = pose.points(corners)
    low, high = there.min(0), there.max(0)
    shape = np.ceil((high - low) / voxel).astype(int)
    finer = 2
    step = voxel / finer
    data = np.empty(shape, np.float32)
    inverse = pose.inverse()
    jk = np.stack(np.meshgrid(*(np.arange(n * finer) for n in shape[1:]), indexing="ij"), -1)
    for i in range(shape[0]):
        slab = np.zeros(shape[1:], np.float64)
        for f in range(finer):
            index = np.empty((*jk.shape[:2], 3))
            index[..., 0] = i * finer + f
            index[..., 1:] = jk
            p = inverse.points((index.reshape(-1, 3) + 0.5) * step + low).reshape(index.shape)
            hu = painted(p, shares, gap_mm, rod)
            slab += hu.reshape(shape[1], finer, shape[2], finer).mean(axis=(1, 3))
        data[i] = slab / finer
    data = gaussian_filter(data, blur / voxel)
    data += np.random.default_rng(seed).normal(0, noise, data.shape)
    origin = low + 0.5 * voxel
    image = np.rint(np.clip(data, -1024, 3071)).astype(np.int16)
    return Volume(VolumeGeometry(tuple(shape), [voxel] * 3, origin), image)


def painted(p, shares, gap_mm, rod):
    inside = np.all(np.abs(p[..., :2]) <= HALF[:2], axis=-1)
    up = np.abs(p[..., 2])
    hu = np.full(p.shape[:-1], TISSUE)
    above = up - (HALF[2] + LAYER)
    for side, sign in enumerate((1, -1)):
        mine = (sign * p[..., 2] > HALF[2] + LAYER) & np.all(
            np.abs(p[..., :2]) <= HALF[:2] + 4, axis=-1
        )
        touch = patches(p[mine][:, :2], shares[side], side)
        hu[mine] = np.where(touch | (above[mine] > gap_mm), BONE, TISSUE)
    hu[inside & (up <= HALF[2] + LAYER)] = POROUS
    hu[inside & (up <= HALF[2])] = METAL
    if rod:
        hu[(np.hypot(p[..., 1], p[..., 2]) <= 2.75) & (p[..., 0] > HALF[0])] = METAL
    return hu
