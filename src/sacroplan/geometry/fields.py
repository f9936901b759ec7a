"""Signed distance fields: solids as numbers on a grid, negative inside, in mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import FloatArray, readonly
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry, grid_around

BAND_VOXELS = 2.5
"""Default width of the exact band. Beyond it a point uses the face nearest to its nearest band point,
which overestimates by up to 0.4 voxel (measured on spheres)."""


@dataclass(frozen=True, eq=False)
class DistanceField:
    """``values`` (shape i, j, k) float32: signed distance in mm, negative inside."""

    geometry: VolumeGeometry
    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.shape != self.geometry.shape:
            raise GeometryError("Distance values do not fit their grid.")
        readonly(self.values)

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.geometry.frame

    def at(self, points: npt.ArrayLike) -> FloatArray:
        """Distance at LPS points (n, 3). Off the grid: distance to the grid plus the border value."""
        p = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        index = self.geometry.to_index(p)
        clipped = np.clip(index, 0.0, np.array(self.geometry.shape) - 1.0)
        off = np.linalg.norm((index - clipped) * self.geometry.spacing_mm, axis=1)
        inside = sample(self.geometry, self.values, self.geometry.to_world(clipped), np.inf)
        return np.asarray(inside + off)

    def gradient_at(self, points: npt.ArrayLike) -> FloatArray:
        """Unit outward gradient at LPS points (n, 3), by central differences of half a voxel."""
        p = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        h = 0.5 * float(self.geometry.spacing_mm.min())
        g = np.stack(
            [self.at(p + h * e) - self.at(p - h * e) for e in self.geometry.direction.T], axis=1
        )
        g = g @ self.geometry.direction.T
        length = np.linalg.norm(g, axis=1, keepdims=True)
        return np.asarray(np.divide(g, length, out=np.zeros_like(g), where=length > 1e-12))


def _in_index_space(surface: Surface, geometry: VolumeGeometry) -> FloatArray:
    if surface.frame != geometry.frame:
        raise GeometryError(
            f"Surface in frame {surface.frame!r} and grid in frame {geometry.frame!r} do not mix."
        )
    return np.ascontiguousarray(geometry.to_index(surface.vertices))


def inside_mask(surface: Surface, geometry: VolumeGeometry) -> npt.NDArray[np.bool_]:
    """Grid points inside a closed surface, by winding number along k."""
    from sacroplan.geometry import _kernels

    surface.require_closed("a solid to be voxelised")
    crossings = np.zeros(geometry.shape, dtype=np.int16)
    _kernels.count_crossings(_in_index_space(surface, geometry), surface.faces, crossings)
    np.cumsum(crossings, axis=2, out=crossings)
    # In a left-handed grid the surface is inside out, and so is its winding number.
    return np.asarray(crossings < 0 if np.linalg.det(geometry.direction) < 0 else crossings > 0)


def distance_field(
    surface: Surface, geometry: VolumeGeometry, exact_mm: float | None = None
) -> DistanceField:
    """Signed distance of a closed surface on an isotropic grid (any orientation).

    Exact to rounding within ``exact_mm`` of the surface (default :data:`BAND_VOXELS` voxels; cost
    grows with its cube), within 0.4 voxel beyond. Raises :class:`GeometryError` on an open surface
    or an anisotropic grid.
    """
    inside = inside_mask(surface, geometry)
    d = distance_to_faces(surface, geometry, exact_mm)
    return DistanceField(geometry, np.where(inside, -d, d).astype(np.float32))


def distance_to_faces(
    surface: Surface, geometry: VolumeGeometry, exact_mm: float | None = None
) -> npt.NDArray[np.float32]:
    """Unsigned distance (mm, shape i, j, k) to the faces of a surface that may be open.

    Exactness as in :func:`distance_field`. Raises :class:`GeometryError` on an anisotropic grid.
    """
    from scipy.ndimage import distance_transform_edt

    from sacroplan.geometry import _kernels

    h = float(geometry.spacing_mm[0])
    if not np.allclose(geometry.spacing_mm, h, rtol=1e-6):
        raise GeometryError("Distance fields need an isotropic grid.")
    vertices = _in_index_space(surface, geometry)
    band = BAND_VOXELS if exact_mm is None else max(BAND_VOXELS, exact_mm / h)
    squared = np.full(geometry.shape, np.inf, dtype=np.float32)
    nearest = np.full(geometry.shape, -1, dtype=np.int32)
    _kernels.splat_triangles(
        vertices, surface.faces, np.array(geometry.shape), band, squared, nearest
    )
    # A point in the corner of a face's bounding box may be nearer to a face whose box it misses.
    far = squared > band**2
    if not far.all():
        index = distance_transform_edt(far, return_distances=False, return_indices=True)
        where = np.argwhere(far).astype(np.int32)
        closest = np.ascontiguousarray(index[:, far]).astype(np.int32)
        _kernels.refine_far(vertices, surface.faces, squared, nearest, where, closest)
    else:
        # The whole grid is away from the surface: measure every point to it exactly.
        import igl

        points = geometry.to_world(np.argwhere(far).astype(np.float64))
        d2 = igl.point_mesh_squared_distance(points, surface.vertices, surface.faces)[0]
        squared[...] = (d2 / h**2).reshape(geometry.shape).astype(np.float32)
    return np.asarray(np.sqrt(squared) * np.float32(h))


def near_faces(
    surface: Surface, geometry: VolumeGeometry, within_mm: float
) -> npt.NDArray[np.bool_]:
    """Grid points within ``within_mm`` of a face, exactly; far cheaper than all distances.

    Raises :class:`GeometryError` on an anisotropic grid.
    """
    from sacroplan.geometry import _kernels

    h = float(geometry.spacing_mm[0])
    if not np.allclose(geometry.spacing_mm, h, rtol=1e-6):
        raise GeometryError("Distance fields need an isotropic grid.")
    vertices = _in_index_space(surface, geometry)
    squared = np.full(geometry.shape, np.inf, dtype=np.float32)
    nearest = np.full(geometry.shape, -1, dtype=np.int32)
    band = within_mm / h
    _kernels.splat_triangles(
        vertices, surface.faces, np.array(geometry.shape), band, squared, nearest
    )
    return np.asarray(squared <= band**2)


def contour(
    geometry: VolumeGeometry, values: npt.NDArray[np.floating], level: float = 0.0
) -> Surface:
    """Closed surface around ``values < level`` (shape i, j, k), by flying edges.

    The grid's border counts as outside, so the result is always closed. Raises on nothing.
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    field = np.pad(np.asarray(values, dtype=np.float32), 1, constant_values=np.float32(np.inf))
    far = np.float32(4.0 * float(geometry.spacing_mm.max()))
    field = np.clip(field - np.float32(level), -far, far)
    # Values of exactly zero give zero-area triangles; move them off by less than a nanometre.
    field[field == 0.0] = np.float32(1e-6)
    image = vtkImageData()
    image.SetDimensions(*field.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(field.ravel(order="F"), deep=True))
    edges = vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, 0.0)
    edges.ComputeNormalsOff()
    edges.ComputeGradientsOff()
    edges.ComputeScalarsOff()
    edges.Update()
    out = edges.GetOutput()
    if out.GetNumberOfPolys() == 0:
        raise GeometryError("A solid came out empty: nothing of the field lies inside the level.")
    index = vtk_to_numpy(out.GetPoints().GetData()).astype(np.float64) - 1.0
    faces = vtk_to_numpy(out.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int32)
    surface = Surface(geometry.to_world(index), faces, geometry.frame)
    # Outward means towards larger values; a left-handed grid turns the winding round.
    return (
        surface
        if surface.volume_mm3 > 0
        else Surface(surface.vertices, faces[:, ::-1], geometry.frame)
    )


FUSED_MM = 0.02
"""Parts are grown by so much before they are fused, so that no slit stays where they only touch."""


def fused(
    surfaces: Sequence[Surface], spacing_mm: float, direction: npt.ArrayLike | None = None
) -> Surface:
    """Closed surfaces that touch or overlap as one body (the largest), from their distance fields.

    Sharp edges are rounded within ``spacing_mm``. Faces that coincide, of which an exact union makes
    slivers and crumbs, do no harm here. ``direction`` (3, 3) orients the grid.
    """
    from sacroplan.geometry.booleans import bodies, simplify

    points = np.concatenate([s.vertices for s in surfaces])
    grid = grid_around(points, spacing_mm, 4.0 * spacing_mm, surfaces[0].frame, direction)
    nearest = np.min([distance_field(s, grid).values for s in surfaces], axis=0)
    return bodies(simplify(contour(grid, nearest, FUSED_MM), FUSED_MM))[0]


def smooth_union(a: FloatArray, b: FloatArray, radius_mm: float) -> FloatArray:
    """Union of two distance fields with a fillet of about ``radius_mm`` (polynomial blend)."""
    h = np.maximum(radius_mm - np.abs(a - b), 0.0) / radius_mm
    return np.asarray(np.minimum(a, b) - 0.25 * radius_mm * h * h)
