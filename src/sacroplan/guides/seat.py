"""The part of a guide that meets the bone: a height map along the removal axis, and what lies below.

Everything is computed on a grid whose third axis is the removal axis. What lies in the shadow of the
bone along that axis counts as bone, so that the guide can always be lifted off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.fields import BAND_VOXELS, contour, inside_mask
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry

SEAT_GRID_MM = 0.35
"""Grid of the bone-facing surface: its contour lies within 0.02 mm of the bone's offset."""


MOUTH_MM = 1.5
"""The filling of a hole goes so far over its rim."""


@dataclass(frozen=True, eq=False)
class GuideFrame:
    """Local frame of a guide: columns along the cut (cranial), across (to the remnant), removal.

    Left and right guides are mirror images, so the columns may be left-handed.
    """

    origin: FloatArray
    axes: FloatArray

    def to_local(self, points: FloatArray) -> FloatArray:
        """LPS (n, 3) to along, across, height (mm)."""
        return np.asarray((np.asarray(points) - self.origin) @ self.axes)

    def to_world(self, local: FloatArray) -> FloatArray:
        """Along, across, height (n, 3) to LPS."""
        return np.asarray(np.asarray(local) @ self.axes.T + self.origin)

    def grid(
        self, low: FloatArray, high: FloatArray, spacing_mm: float, frame: str
    ) -> VolumeGeometry:
        """Isotropic grid over the local box ``low`` .. ``high``."""
        n = np.ceil((high - low) / spacing_mm).astype(int) + 1
        shape = (int(n[0]), int(n[1]), int(n[2]))
        return VolumeGeometry(
            shape, np.full(3, spacing_mm), self.to_world(low), self.axes.copy(), frame
        )


@dataclass(frozen=True, eq=False)
class Seat:
    """The bone as a guide sees it that comes down along its removal axis.

    Attributes
    ----------
    frame : local frame. low : (3,) local position of column (0, 0) and height 0 of the grid.
    height_mm : (i, j) local height of the bone's offset surface per column, NaN beside the bone.
    slope : (i, j) tangent of the angle between surface normal and removal axis.
    below : closed solid of the offset bone, its shadow and its gaps: nothing of a guide lies in it.
    gaps : (i, j) columns over holes and pits, which the guide spans.
    """

    frame: GuideFrame
    low: FloatArray
    height_mm: FloatArray
    slope: FloatArray
    below: Surface
    gaps: npt.NDArray[np.bool_]

    @property
    def columns(self) -> tuple[FloatArray, FloatArray]:
        """(i,) along and (j,) across coordinates of the columns."""
        i, j = self.height_mm.shape
        return (
            self.low[0] + SEAT_GRID_MM * np.arange(i),
            self.low[1] + SEAT_GRID_MM * np.arange(j),
        )

    def points(self) -> FloatArray:
        """(i, j, 3) local coordinates of the surface, NaN beside the bone."""
        a, c = self.columns
        grid = np.stack(np.meshgrid(a, c, indexing="ij"), axis=-1)
        return np.concatenate([grid, self.height_mm[..., None]], axis=-1)

    def normals(self, smooth_mm: float) -> FloatArray:
        """(i, j, 3) local unit normals of the height map, smoothed over ``smooth_mm``."""
        from scipy.ndimage import gaussian_filter

        known = np.isfinite(self.height_mm)
        weight = gaussian_filter(known.astype(np.float64), smooth_mm / SEAT_GRID_MM)
        filled = gaussian_filter(np.where(known, self.height_mm, 0.0), smooth_mm / SEAT_GRID_MM)
        # Normalised smoothing keeps the bone's edge from being pulled towards zero.
        smooth = np.divide(filled, weight, out=np.zeros_like(filled), where=weight > 1e-3)
        da, dc = np.gradient(smooth, SEAT_GRID_MM)
        n = np.stack([-da, -dc, np.ones_like(da)], axis=-1)
        return np.asarray(n / np.linalg.norm(n, axis=-1, keepdims=True))


@dataclass(frozen=True)
class Gaps:
    """What counts as a gap in the bone that a guide spans: neither rests in it nor reaches into it.

    A hole is narrower than ``hole_width_mm`` and deeper than ``hole_depth_mm`` (a foramen); a pit lies
    deeper than ``pit_depth_mm`` under rims on both sides within ``pit_width_mm`` (the open canal).
    """

    hole_width_mm: float
    hole_depth_mm: float
    pit_width_mm: float
    pit_depth_mm: float

    def fill(self, height_mm: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """The height map (i, j) with gaps filled to their rims, and where they are."""
        from scipy.ndimage import binary_dilation, grey_closing

        known = np.isfinite(height_mm)
        if not known.any():
            return height_mm, known
        ground = float(height_mm[known].min())
        low = np.where(known, height_mm, ground)
        n = round(self.hole_width_mm / SEAT_GRID_MM)
        m = round(self.pit_width_mm / SEAT_GRID_MM)
        # Beyond the map there is no rim.
        closed = partial(grey_closing, low, mode="constant", cval=ground)
        hole = closed(size=(n, n))
        pit = np.maximum(closed(size=(m, 1)), closed(size=(1, m)))
        filled = np.where(pit - low > self.pit_depth_mm, pit, low)
        # A little beyond the rim, so that no slit is left round the filling.
        dent = hole - low
        deep = dent > self.hole_depth_mm
        mouth = binary_dilation(deep, iterations=round(MOUTH_MM / SEAT_GRID_MM)) & (dent > 0.0)
        filled = np.where(mouth, np.maximum(filled, hole), filled)
        gaps = filled > low
        return np.where(known | gaps, filled, np.nan), gaps


def seat(
    bone: Surface,
    frame: GuideFrame,
    low: FloatArray,
    high: FloatArray,
    clearance_mm: float,
    spanned: Gaps,
) -> Seat:
    """Seat of a guide on ``bone`` within the local box ``low`` .. ``high`` (3,).

    Cost: about 20 bytes a grid point. Raises GeometryError where the bone is open or absent.
    """
    geometry = frame.grid(low, high, SEAT_GRID_MM, bone.frame)
    distance = _band(bone, geometry)
    # Walk down from above: once in the bone, all below is in its shadow.
    shadow = np.minimum.accumulate(distance[:, :, ::-1], axis=2)[:, :, ::-1]
    inside = shadow < clearance_mm
    count = np.count_nonzero(inside, axis=2)
    height = _heights(shadow, count, clearance_mm, float(low[2]))
    height, gaps = spanned.fill(height)
    if gaps.any():
        level = low[2] + SEAT_GRID_MM * np.arange(shadow.shape[2])
        roof = (level[None, :] - height[gaps][:, None] + clearance_mm).astype(np.float32)
        shadow[gaps] = np.minimum(shadow[gaps], roof)
    da, dc = np.gradient(height, SEAT_GRID_MM)
    slope = np.hypot(da, dc)
    below = contour(geometry, shadow, clearance_mm)
    return Seat(frame, np.asarray(low, dtype=np.float64), height, slope, below, gaps)


def _band(bone: Surface, geometry: VolumeGeometry) -> npt.NDArray[np.float32]:
    """Signed distance, exact within :data:`BAND_VOXELS` of the surface and capped there."""
    from sacroplan.geometry import _kernels

    squared = np.full(geometry.shape, BAND_VOXELS**2, dtype=np.float32)
    nearest = np.full(geometry.shape, -1, dtype=np.int32)
    _kernels.splat_triangles(
        geometry.to_index(bone.vertices), bone.faces, np.array(geometry.shape), BAND_VOXELS,
        squared, nearest,
    )  # fmt: skip
    np.sqrt(squared, out=squared)
    squared *= np.float32(SEAT_GRID_MM)
    squared[inside_mask(bone, geometry)] *= np.float32(-1.0)
    return squared


def _heights(
    shadow: npt.NDArray[np.float32], count: npt.NDArray[np.int_], level: float, bottom: float
) -> FloatArray:
    top = shadow.shape[2] - 1
    k = np.clip(count - 1, 0, top)[..., None]
    under = np.take_along_axis(shadow, k, axis=2)[..., 0].astype(np.float64)
    over = np.take_along_axis(shadow, np.clip(k + 1, 0, top), axis=2)[..., 0].astype(np.float64)
    step = np.divide(level - under, over - under, out=np.zeros_like(under), where=over > under)
    height = bottom + SEAT_GRID_MM * (k[..., 0] + np.clip(step, 0.0, 1.0))
    # A column without bone, or with bone up to the lid, has no surface.
    return np.where((count > 0) & (count <= top), height, np.nan)
