"""Grids of one lattice: the same voxels in another axis order, mirrored, or only a part of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import VolumeGeometry

LATTICE_TOLERANCE_VOXEL = 0.1
"""A grid whose corners lie within this part of a voxel of another's voxels is on its lattice:
float32 headers and decimal strings stay a hundred times below, a half-voxel shift lies above."""

PARALLEL = 0.99
"""Cosine above which two axes may be the same one; the corners then decide exactly."""


@dataclass(frozen=True)
class Placement:
    """Where a grid's voxels lie in a larger grid of the same lattice.

    Attributes
    ----------
    axes : for each axis of the small grid the axis of the large one.
    backwards : for each axis of the small grid whether it runs against that axis.
    start : first voxel on each axis of the small grid, counted along it in the large one.
    shape : voxels along each axis of the small grid.
    """

    axes: tuple[int, int, int]
    backwards: tuple[bool, bool, bool]
    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    def window(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of ``data`` (on the large grid) that the small grid covers, in its axis order.

        It is a view: what is written into it is written into ``data``.
        """
        turned = turned_view(data, self.axes, self.backwards)
        a, n = self.start, self.shape
        return turned[a[0] : a[0] + n[0], a[1] : a[1] + n[1], a[2] : a[2] + n[2]]

    def whole(self, shape: tuple[int, int, int]) -> bool:
        """Whether the small grid covers a large grid of ``shape`` completely."""
        return tuple(shape[a] for a in self.axes) == self.shape


def turned_view(
    data: npt.NDArray[Any], axes: tuple[int, ...], backwards: tuple[bool, ...]
) -> npt.NDArray[Any]:
    """``data`` with its axes in the order ``axes``, those marked running backwards: a view."""
    return np.transpose(data, axes)[
        tuple(slice(None, None, -1) if b else slice(None) for b in backwards)
    ]


def alignment(
    direction: FloatArray, reference: FloatArray
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]] | None:
    """For each axis of ``direction`` (3, 3 columns) the parallel one of ``reference``, and whether

    it runs backwards; None when the two are turned against each other.
    """
    cosines = reference.T @ direction
    axes = np.abs(cosines).argmax(axis=0)
    along = cosines[axes, range(3)]
    if len(set(axes.tolist())) < 3 or np.abs(along).min() < PARALLEL:
        return None
    a, b = axes.tolist(), (along < 0).tolist()
    return (a[0], a[1], a[2]), (b[0], b[1], b[2])


def placement(geometry: VolumeGeometry, reference: VolumeGeometry) -> Placement | None:
    """Where ``geometry`` lies in ``reference``; None off its lattice or beyond its borders.

    The frames are not compared: most files do not carry one.
    """
    found = alignment(geometry.direction, reference.direction)
    if found is None:
        return None
    axes, backwards = found
    large = np.array(reference.shape)[list(axes)]
    n = np.array(geometry.shape)
    far = n - 1
    corners = np.array(np.meshgrid([0, far[0]], [0, far[1]], [0, far[2]])).reshape(3, -1).T
    # Indices in the reference, brought into the order and sense of the small grid's axes.
    index = reference.to_index(geometry.to_world(corners))[:, list(axes)]
    index = np.where(backwards, large - 1 - index, index)
    start = np.rint(index[0]).astype(int)
    apart = np.abs(index - (start + corners)).max()
    if not apart <= LATTICE_TOLERANCE_VOXEL or np.any(start < 0) or np.any(start + n > large):
        return None
    s = start.tolist()
    return Placement(axes, backwards, (s[0], s[1], s[2]), geometry.shape)
