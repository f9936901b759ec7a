"""Over-segmentation of bone along joint gaps, and merging of the pieces from seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan.anatomy.segmentation import _kernels

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Basins and their neighbourhood.

    ``basin`` (ni, nj, nk) numbers from 1, 0 outside; ``ends`` (m, 2) neighbouring basin numbers;
    ``strength`` (m,) summed boundary strength; ``area`` (m,) boundary area in voxel faces.
    """

    basin: Int32
    count: int
    ends: Int32
    strength: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]


def sheetness(hu: Float32, spacing_mm: float, sigma_mm: float) -> Float32:
    """Largest Hessian eigenvalue times sigma squared (HU): positive in dark sheets such as joints."""
    sigma = sigma_mm / spacing_mm
    scale = sigma**2

    def derivative(order: tuple[int, int, int]) -> Float32:
        out = ndimage.gaussian_filter(hu, sigma, order=order, output=np.float32, truncate=3.5)
        return np.asarray(out).ravel()

    terms = [
        derivative(o) for o in ((2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1))
    ]
    out = np.empty(hu.size, np.float32)
    xx, yy, zz, xy, xz, yz = terms
    _kernels.largest_eigenvalue(xx, yy, zz, xy, xz, yz, out)
    out *= np.float32(scale)
    return out.reshape(hu.shape)


def region_graph(value: Float32, mask: Mask) -> RegionGraph:
    """Catchment basins of ``value`` in ``mask`` and the strength of the boundaries between them."""
    basin, count = _kernels.watershed(value, mask.view(np.uint8))
    keys, strength = _kernels.boundary_pairs(basin, value)
    unique, inverse, area = np.unique(keys, return_inverse=True, return_counts=True)
    total = np.bincount(inverse, weights=strength, minlength=len(unique)).astype(np.float64)
    ends = np.stack([unique >> 32, unique & 0xFFFFFFFF], axis=1).astype(np.int32)
    return RegionGraph(basin, count, ends, total, area.astype(np.float64))


def merge(graph: RegionGraph, seeds: Int32, stop: float) -> Int32:
    """Label of every voxel after merging.

    ``seeds`` (ni, nj, nk) holds labels where the bone is known and 0 elsewhere. A basin takes the
    label that most of its seeded voxels carry.
    """
    at = np.flatnonzero((seeds.ravel() > 0) & (graph.basin.ravel() > 0))
    label = seeds.ravel()[at].astype(np.int64)
    number = graph.basin.ravel()[at].astype(np.int64)
    top = int(label.max()) + 1 if len(label) else 1
    pair, votes = np.unique(number * top + label, return_counts=True)
    order = np.lexsort((pair % top, -votes))
    seed = np.zeros(graph.count + 1, np.int32)
    for n in order[::-1]:  # the strongest vote is written last
        seed[pair[n] // top] = pair[n] % top
    merged = _kernels.merge_regions(
        graph.count + 1, graph.ends, graph.strength, graph.area, seed, stop
    )
    merged[0] = 0
    return np.asarray(merged[graph.basin], dtype=np.int32)
