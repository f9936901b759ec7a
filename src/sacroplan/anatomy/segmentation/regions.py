"""Over-segmentation of bone along joint gaps, and merging of the pieces from seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan import evidence
from sacroplan.anatomy.segmentation import _kernels
from sacroplan.anatomy.segmentation.grid import Working
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.volume import Volume
from sacroplan.parallel import ALL_CORES, side_by_side
from sacroplan.progress import Progress

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Basins and their neighbourhood.

    ``basin`` (ni, nj, nk) numbers from 1, 0 outside; ``ends`` (m, 2) neighbouring basin numbers;
    ``strength`` (m,) summed boundary strength; ``area`` (m,) boundary area in voxel faces;
    ``toll`` (m,) cost of cutting there: the area, less where a valley runs.
    """

    basin: Int32
    count: int
    ends: Int32
    strength: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]
    toll: npt.NDArray[np.float64]


def sheetness(
    hu: Float32, mask: Mask, spacing_mm: float, sigma_mm: float, reach_mm: float
) -> tuple[Float32, Float32]:
    """How much a voxel lies in a dark sheet, and how deep the valley is there (both HU).

    The first is the largest Hessian eigenvalue times sigma squared: positive in joints, but also
    along the inner edge of a cortex. The second, for voxels of ``mask``, is how far both sides
    within ``reach_mm`` stand above the voxel: positive in joints only.
    """
    sigma = sigma_mm / spacing_mm

    def derivative(order: tuple[int, int, int], _: Progress) -> Float32:
        out = ndimage.gaussian_filter(hu, sigma, order=order, output=np.float32, truncate=3.5)
        return np.asarray(out).ravel()

    orders = [(2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1)]
    xx, yy, zz, xy, xz, yz = side_by_side(derivative, orders)
    sheet = np.empty(hu.size, np.float32)
    with ALL_CORES:
        _kernels.largest_eigenvalue(xx, yy, zz, xy, xz, yz, sheet)
    out = sheet.reshape(hu.shape)
    depth = np.zeros(hu.shape, np.float32)
    smooth = ndimage.gaussian_filter(hu, 0.5 * sigma, output=np.float32)
    with ALL_CORES:
        _kernels.valley_depth(
            smooth, mask.view(np.uint8), xx, yy, zz, xy, xz, yz, out, reach_mm / spacing_mm, depth
        )
    out *= np.float32(sigma**2)
    return out, np.minimum(depth, np.maximum(out, np.float32(0.0)))


def narrow_valleys(volume: Volume, fine: Working) -> Float32:
    """Depth (HU) of dark gaps of one or two source voxels between cortices, on the grid of ``fine``.

    A sacroiliac joint of half a millimetre is a valley in the source's voxels that the working grid
    blurs away; the cheapest boundary would then cut through marrow, where bone is darker still. The
    depth is that of a grey closing (what both sides stand above) less the noise of a cortex, and
    counts only where both sides are cortex (SP-SEG-12), so that the texture of marrow has none.
    """
    row = "SP-SEG-12"
    source = volume.geometry.spacing_mm
    size = np.where(source > evidence.value("SP-SEG-06", "thick"), 1, 3)
    stop = fine.start_mm + fine.spacing_mm * (np.array(fine.hu.shape) - 1)
    low = np.maximum(np.rint(fine.start_mm / source).astype(int), 0)
    high = np.minimum(np.rint(stop / source).astype(int) + 1, volume.geometry.shape)
    data = np.asarray(volume.data[low[0] : high[0], low[1] : high[1], low[2] : high[2]], np.int16)
    sides = data
    for work in (ndimage.maximum_filter1d, ndimage.minimum_filter1d):
        for axis in range(3):
            if size[axis] > 1:
                sides = work(sides, int(size[axis]), axis=axis)
    depth = np.zeros(fine.hu.shape, np.float32)
    with ALL_CORES:
        _kernels.pool_valleys(
            data, sides, evidence.value(row, "sides"), evidence.value(row, "noise"),
            source / fine.spacing_mm, (low * source - fine.start_mm) / fine.spacing_mm, depth,
        )  # fmt: skip
    return depth


def region_graph(
    sheet: Float32, valley: Float32, narrow: Float32, mask: Mask, softness_hu: float
) -> RegionGraph:
    """Catchment basins of ``sheet`` in ``mask`` and their boundaries.

    Basins end in ``narrow`` valleys too, which ``sheet`` does not show; how strongly two basins are
    parted is a matter of ``sheet`` alone.

    The toll of a voxel face falls by a factor e for every ``softness_hu`` of ``valley`` depth.
    """
    basin, count = _kernels.watershed(
        np.where(narrow > 0, np.maximum(sheet, narrow), sheet), mask.view(np.uint8)
    )
    keys, strength, depth = _kernels.boundary_pairs(basin, sheet, valley)
    unique, inverse, area = np.unique(keys, return_inverse=True, return_counts=True)

    def summed(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        out = np.bincount(inverse, weights=values, minlength=len(unique))
        return np.asarray(out, dtype=np.float64)

    ends = np.stack([unique >> 32, unique & 0xFFFFFFFF], axis=1).astype(np.int32)
    toll = summed(np.exp(-depth / softness_hu))
    return RegionGraph(basin, count, ends, summed(strength), area.astype(np.float64), toll)


def merge(graph: RegionGraph, seeds: Int32, stop: float) -> Int32:
    """Label of every voxel after merging.

    ``seeds`` (ni, nj, nk) holds labels where the bone is known and 0 elsewhere. A basin takes the
    label that most of its seeded voxels carry.
    """
    seed = seeded_basins(graph, seeds)
    merged = _kernels.merge_regions(
        graph.count + 1, graph.ends, graph.strength, graph.area, seed, stop
    )
    merged[0] = 0
    return np.asarray(merged[graph.basin], dtype=np.int32)


def seeded_basins(graph: RegionGraph, seeds: Int32) -> Int32:
    """(count + 1,) label of every basin that holds seeds, 0 for the others."""
    at = np.flatnonzero((seeds.ravel() > 0) & (graph.basin.ravel() > 0))
    label = seeds.ravel()[at].astype(np.int64)
    number = graph.basin.ravel()[at].astype(np.int64)
    top = int(label.max()) + 1 if len(label) else 1
    pair, votes = np.unique(number * top + label, return_counts=True)
    order = np.lexsort((pair % top, -votes))
    seed = np.zeros(graph.count + 1, np.int32)
    for n in order[::-1]:  # the strongest vote is written last
        seed[pair[n] // top] = pair[n] % top
    return seed


def straighten(
    graph: RegionGraph,
    labels: Int32,
    seeds: Int32,
    reach: float,
    reaches: Mapping[frozenset[int], float] | None = None,
) -> Int32:
    """Move the boundary between every two touching labels to the cheapest surface nearby.

    Average linkage lets a strip of one bone's cortex stick to its neighbour where a joint is too
    narrow to be seen. The surface of least toll (a minimum cut of the region graph) follows the
    valley where there is one and bridges where there is none. Regions that hold seeds or lie
    farther than ``reach`` voxels from the other label keep their label; ``reaches`` holds other
    distances for some pairs of labels.
    """
    seed = seeded_basins(graph, seeds)
    size = np.bincount(graph.basin.ravel(), minlength=graph.count + 1).astype(np.float64)
    own = np.zeros(graph.count + 1, np.int32)
    own[graph.basin.ravel()] = labels.ravel()
    own[0] = 0
    a, b = own[graph.ends].T
    meeting = (a > 0) & (b > 0) & (a != b)
    pairs = np.unique(np.sort(np.stack([a, b], axis=1)[meeting], axis=1), axis=0)
    boxes = ndimage.find_objects(labels)
    own_reach = dict(reaches or {})
    for one, two in pairs:
        far = own_reach.get(frozenset((int(one), int(two))), reach)
        margin = int(np.ceil(far)) + 2
        near = np.zeros(graph.count + 1, dtype=bool)
        # Both labels within reach of where their bounds meet.
        box = tuple(
            slice(max(0, max(p.start, q.start) - margin), min(n, min(p.stop, q.stop) + margin))
            for p, q, n in zip(boxes[one - 1], boxes[two - 1], labels.shape, strict=True)
        )
        basin = graph.basin[box]
        now = own[basin]
        for label, other in ((one, two), (two, one)):
            close = (distance_to(now == other, 1.0, far + 1.0) <= far) & (now == label)
            near |= np.bincount(basin[close], minlength=graph.count + 1) > 0.5 * size
        near &= (seed == 0) & ((own == one) | (own == two))
        own = _cut(graph, own, near, int(one), int(two))
    return np.asarray(own[graph.basin], dtype=np.int32)


def _cut(graph: RegionGraph, own: Int32, free: Mask, one: int, two: int) -> Int32:
    """Labels after the minimum cut between ``one`` and ``two`` over the ``free`` regions."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    index = np.flatnonzero(free)
    if not len(index):
        return own
    source, sink = len(index), len(index) + 1
    node = np.full(len(own), -1, dtype=np.int32)
    node[own == one], node[own == two] = source, sink
    node[index] = np.arange(len(index), dtype=np.int32)
    ends = node[graph.ends]
    ok = (ends >= 0).all(axis=1) & (ends[:, 0] != ends[:, 1]) & (ends.min(axis=1) < source)
    # Capacities are whole numbers: a thousandth of a voxel face is fine enough.
    toll = np.maximum(np.rint(1000.0 * graph.toll[ok]), 1.0)
    i, j = ends[ok].T
    n = len(index) + 2
    capacity = coo_matrix(
        (np.concatenate([toll, toll]), (np.concatenate([i, j]), np.concatenate([j, i]))),
        shape=(n, n),
    ).tocsr()
    capacity.data = np.minimum(capacity.data, 2**30)
    capacity = capacity.astype(np.int32)
    flow = maximum_flow(capacity, source, sink).flow
    residual = capacity - flow
    residual.data = (residual.data > 0).astype(np.int32)
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, source, return_predecessors=False)
    with_one = np.zeros(n, dtype=bool)
    with_one[reached] = True
    out = own.copy()
    out[index] = np.where(with_one[: len(index)], one, two)
    return out
