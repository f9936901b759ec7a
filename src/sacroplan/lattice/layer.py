"""A porous layer over a seat: cells that follow the seat, a solid rim, and a bond into the core.

The layer's body says where it is; the lattice fills it. Coordinates in the layer are u and v along the
seat and the depth below it, so cells lie in whole rows between seat and core, also under a curved
endplate. Within ``bond_mm`` of the core the lattice goes on into it, so that struts and core share
volume; within ``rim_mm`` of an edge or a hole the layer is solid.

What does not hang on the core (or, without one, on the largest piece) is left out, and pores that no
powder could leave are filled; both are found on grid points before any triangle is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.geometry.fields import distance_field, distance_to_faces
from sacroplan.geometry.frames import FloatArray, perpendicular, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry, grid_around
from sacroplan.lattice.cells import cell_of, level_of, slope, tables
from sacroplan.lattice.facets import faceted_levels
from sacroplan.lattice.marching import Block, march
from sacroplan.lattice.pieces import Pieces, pieces

COARSE_MM = 0.25
"""Grid of the layer's own shape. Planes come out exact, bores of 5 mm within 0.003 mm."""

TOUCH_MM = 0.02
"""The core is grown by so much where the lattice enters it, so that no slit stays on the shared face."""

FLAT_MM = 0.01
"""A seat whose corners lie within this of one plane is a plane."""

FACING = 0.8
"""Cosine to the way from the core above which a face looks at the bone; below, it is an edge or a bore."""

SLAB_POINTS = 2_000_000
"""Grid points of a slab: its triangles then take a few hundred megabytes, however wide the layer."""

KEPT_POINTS = 100_000_000
"""Up to so many points the field is kept (0.4 GB) rather than computed again for the triangles."""

FORCED = np.float32(1e-3)
"""Value (mm) that a grid point gets when it is made void or solid."""

FloatField = Callable[[FloatArray], FloatArray]
"""Relative density (n,) at LPS points (n, 3)."""


@dataclass(frozen=True, eq=False)
class PorousLayer:
    """A layer filled with cells.

    Attributes
    ----------
    cell : name. cell_mm, cell_depth_mm : edge of a cell along the seat, and below it.
    thickness_mm : of the layer, mean. density : relative, where not graded.
    geometry : coarse grid, axes u, v and the seat's normal (into the bone).
    own, core, depth, rim, graded : fields on it, see :func:`sacroplan.lattice._kernels.layer_values`.
    clip : layer and bond in one field, negative inside, blurred by the grid where they meet.
    anchor : (3,) middle of the seat, where u and v are 0. body : the layer's solid. seat : its faces
        towards the bone. bond_mm : how far it goes on into the core, where there is one.
    """

    cell: str
    cell_mm: float
    cell_depth_mm: float
    thickness_mm: float
    density: float
    geometry: VolumeGeometry
    own: npt.NDArray[np.float32]
    core: npt.NDArray[np.float32] | None
    clip: npt.NDArray[np.float32]
    depth: npt.NDArray[np.float32]
    rim: npt.NDArray[np.float32]
    graded: npt.NDArray[np.float32] | None
    anchor: FloatArray
    body: Surface
    seat: npt.NDArray[np.bool_]
    bond_mm: float

    @property
    def bonded(self) -> bool:
        """Whether the lattice goes on into a core."""
        return self.core is not None

    def fine_grid(
        self, spacing: npt.ArrayLike, direction: FloatArray | None = None
    ) -> VolumeGeometry:
        """Grid round the layer with ``spacing`` (3,) or one number, mm; axes of the layer by default."""
        s = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,))
        d = self.geometry.direction if direction is None else direction
        # Room for the bond into the core on every side, and for the border that must be outside.
        margin = self.bond_mm + TOUCH_MM if self.bonded else 0.0
        local = self.body.vertices @ d
        low = local.min(axis=0) - margin - 2.0 * s
        n = np.ceil((local.max(axis=0) + margin + 2.0 * s - low) / s).astype(int) + 1
        return VolumeGeometry((int(n[0]), int(n[1]), int(n[2])), s, d @ low, d, self.body.frame)

    def values(
        self,
        grid: VolumeGeometry,
        k0: int,
        count: int,
        levels: FloatArray,
        forced: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Field (count, nj, ni) of planes ``k0 ...`` of ``grid``, negative in the solid.

        ``levels`` (257,) of densities 0 to 1, see :func:`sacroplan.lattice.cells.level_table`.
        """
        from sacroplan.lattice import _kernels
        from sacroplan.parallel import ALL_CORES

        step = grid.direction * grid.spacing_mm
        coarse = self.geometry
        to_coarse = np.empty((3, 4))
        to_coarse[:, :3] = (coarse.direction.T @ step) / coarse.spacing_mm[:, None]
        to_coarse[:, 3] = coarse.to_index(grid.origin)
        h = float(coarse.spacing_mm[0])
        low = coarse.direction.T @ (coarse.origin - self.anchor)
        cells = np.array(
            [h / self.cell_mm, h / self.cell_mm, 1.0 / self.cell_depth_mm,
             low[0] / self.cell_mm, low[1] / self.cell_mm]
        )  # fmt: skip
        t = tables(self.cell)
        density = (
            np.full((1, 1, 1), self.density, dtype=np.float32)
            if self.graded is None
            else self.graded
        )
        out = np.empty((count, grid.shape[1], grid.shape[0]), dtype=np.float32)
        none = np.zeros((0, 0, 0), dtype=np.uint8)
        with ALL_CORES:
            _kernels.layer_values(
                cell_of(self.cell).code, t.segments, t.start, t.listed, levels,
                self.cell_mm / slope(self.cell), cells, to_coarse, self.own,
                self.own if self.core is None else self.core, self.bond_mm if self.bonded else 0.0,
                TOUCH_MM, self.depth, self.rim,
                density, self.graded is not None, k0, none if forced is None else forced, out,
            )  # fmt: skip
        return out


def split_faces(
    body: Surface, core: Surface | None, normal: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which faces (m,) of a layer look at the bone, and which are edges or bores.

    With a ``core``, a face that lies on it is neither; one that looks straight away from it is the seat.
    Without, ``normal`` (3,) is the way into the bone.
    """
    n = body.face_normals
    if core is None:
        if normal is None:
            raise PlanError("A porous layer needs a core, or the direction of the bone.")
        along = n @ unit(normal)
        return along > FACING, np.abs(along) <= FACING
    import igl

    centres = body.triangles.mean(axis=1)
    squared, _, nearest = igl.point_mesh_squared_distance(centres, core.vertices, core.faces)
    d = np.sqrt(squared)
    on = d < TOUCH_MM
    away = np.divide(centres - nearest, d[:, None], out=np.zeros_like(centres), where=~on[:, None])
    along = np.einsum("ij,ij->i", away, n)
    seat = ~on & (along > FACING)
    return seat, ~on & ~seat


def fill(
    body: Surface,
    core: Surface | None,
    cell: str,
    cell_mm: float,
    density: float | FloatField,
    rim_mm: float | None = None,
    bond_mm: float | None = None,
    normal: npt.ArrayLike | None = None,
    axes: npt.ArrayLike | None = None,
) -> PorousLayer:
    """Fill a layer with cells.

    Parameters
    ----------
    body : the layer's closed solid, LPS mm. core : the solid that it sits on; None for a layer alone.
    cell, cell_mm : name and edge along the seat. The edge below it is the nearest that gives whole cells.
    density : relative density, or a field of it.
    rim_mm, bond_mm : solid rim and overlap; evidence rows by default. Without a core there is no bond.
    normal : into the bone; found from seat and core by default. axes : (3, 3) columns that give u its
        direction, so that a turned case gives the same layer.

    Raises
    ------
    PlanError : unknown cell, density beyond what the cell can be, no face looks at the bone.
    """
    body.require_closed("the porous layer")
    kind = cell_of(cell)
    if not cell_mm > 0.0:
        raise PlanError(f"A cell of {cell_mm:g} mm was asked; its edge must be above 0.")
    if core is not None:
        same_frame(body, core)
    rim_mm = evidence.value("SP-LAT-02", "rim") if rim_mm is None else rim_mm
    bond_mm = evidence.value("SP-LAT-02", "bond") if bond_mm is None else bond_mm
    seat, lateral = split_faces(body, core, normal)
    if not seat.any():
        raise PlanError(
            "No face of the porous layer looks at the bone; give a layer that covers the core's seat."
        )
    area = body.area_vectors
    frame = _axes(body, seat, axes)
    n = frame[:, 2]
    geometry = grid_around(body.vertices, COARSE_MM, bond_mm + 4.0 * COARSE_MM, body.frame, frame)
    own = distance_field(body, geometry).values
    clip, near = own, None
    if core is not None and bond_mm > 0.0:
        near = distance_field(core, geometry).values
        within = np.maximum(own - np.float32(bond_mm), near - np.float32(TOUCH_MM))
        clip = np.minimum(own, within)
    depth = _depth(body, seat, geometry, n, clip < 3.0 * COARSE_MM)
    reach = _thickness(body, seat, area, n)
    rim = np.full(geometry.shape, np.float32(1.0))
    if rim_mm > 0.0 and lateral.any():
        edge = Surface(body.vertices, body.faces[lateral], body.frame)
        rim = distance_to_faces(edge, geometry, rim_mm + COARSE_MM) - np.float32(rim_mm)
    graded = None
    if callable(density):
        graded = _graded(density, geometry, clip, kind.densities)
        inside = graded[clip < 0.0]
        mean = float(inside.mean(dtype=np.float64))
    else:
        level_of(cell, density)
        mean = float(density)
    rows = max(1, round(reach / cell_mm))
    weight = np.linalg.norm(area[seat], axis=1)
    anchor = np.average(body.triangles[seat].mean(axis=1), axis=0, weights=weight)
    return PorousLayer(
        cell, cell_mm, reach / rows, reach, mean, geometry, own, near,
        clip.astype(np.float32), depth, rim.astype(np.float32), graded, anchor, body, seat,
        bond_mm,
    )  # fmt: skip


def layer_axes(
    body: Surface, core: Surface | None, axes: npt.ArrayLike | None = None
) -> FloatArray:
    """(3, 3) columns u, v and the seat's normal, along which :func:`fill` lays the cells of a layer."""
    return _axes(body, split_faces(body, core, None)[0], axes)


def _axes(body: Surface, seat: npt.NDArray[np.bool_], given: npt.ArrayLike | None) -> FloatArray:
    """(3, 3) columns u, v, normal; u is the one of ``given`` most nearly along the seat, projected."""
    normal = unit(body.area_vectors[seat].sum(axis=0))
    axes = np.eye(3) if given is None else np.asarray(given, dtype=np.float64)
    along = axes.T @ normal
    u = axes[:, int(np.argmin(np.abs(np.round(along, 6))))]
    u = u - (u @ normal) * normal
    u = unit(u) if np.linalg.norm(u) > 1e-6 else perpendicular(normal)
    return np.column_stack([u, np.cross(normal, u), normal])


def _depth(
    body: Surface,
    seat: npt.NDArray[np.bool_],
    geometry: VolumeGeometry,
    n: FloatArray,
    near: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float32]:
    """Depth below the seat (mm): on a plane exactly, below a curved seat exact where ``near`` the layer."""
    used = np.unique(body.faces[seat])
    height = body.vertices[used] @ n
    if np.ptp(height) <= FLAT_MM:
        k = np.arange(geometry.shape[2]) * geometry.spacing_mm[2] + geometry.origin @ n
        return np.ascontiguousarray(
            np.broadcast_to((height.mean() - k).astype(np.float32), geometry.shape)
        )
    import igl

    faces = Surface(body.vertices, body.faces[seat], body.frame)
    out = distance_to_faces(faces, geometry)
    points = geometry.to_world(np.argwhere(near).astype(np.float64))
    squared = igl.point_mesh_squared_distance(points, faces.vertices, faces.faces)[0]
    out[near] = np.sqrt(squared).astype(np.float32)
    return out


def _thickness(
    body: Surface, seat: npt.NDArray[np.bool_], area: FloatArray, n: FloatArray
) -> float:
    """Mean thickness: median way through the layer below the seat's faces, weighted by their area."""
    from sacroplan.geometry.tree import face_tree

    centres = body.triangles[seat].mean(axis=1)
    weight = np.linalg.norm(area[seat], axis=1)
    normals = body.face_normals[seat]
    through, _ = face_tree(body).first_hits(centres, -normals, 1e-6)
    order = np.argsort(through)
    total = np.cumsum(weight[order])
    return float(through[order][np.searchsorted(total, 0.5 * total[-1])])


def _graded(
    field: FloatField,
    geometry: VolumeGeometry,
    clip: npt.NDArray[np.float32],
    allowed: tuple[float, float],
) -> npt.NDArray[np.float32]:
    """The density field on the coarse grid near the layer; refused where it leaves what the cell can be."""
    near = clip < 3.0 * COARSE_MM
    out = np.full(geometry.shape, np.float32(0.5 * sum(allowed)))
    points = geometry.to_world(np.argwhere(near).astype(np.float64))
    found = np.asarray(field(points), dtype=np.float64)
    if (
        not np.isfinite(found).all()
        or found.min() < allowed[0] - 1e-6
        or found.max() > allowed[1] + 1e-6
    ):
        raise PlanError(
            f"The density field runs from {np.nanmin(found):.3g} to {np.nanmax(found):.3g}; this cell can "
            f"be graded between {allowed[0]:g} and {allowed[1]:g}."
        )
    out[near] = found
    return out


@dataclass(frozen=True, eq=False)
class Solid:
    """A layer on a fine grid, with its loose pieces and closed pores known.

    Attributes
    ----------
    layer, grid : what, and where. levels : (257,) of the cell's field, by density, on this grid.
    forced : (nk, nj, ni) see the kernel; None where nothing is forced.
    vertices : of its surface, exactly; triangles are about twice as many.
    loose, loose_mm3 : pieces left out and their volume. closed, closed_mm3 : pores filled.
    field : (nk, nj, ni) kept where it is small enough; None where it is computed when asked for.
    """

    layer: PorousLayer
    grid: VolumeGeometry
    levels: FloatArray
    forced: npt.NDArray[np.uint8] | None
    vertices: int
    loose: int
    loose_mm3: float
    closed: int
    closed_mm3: float
    field: npt.NDArray[np.float32] | None = None

    @property
    def triangles(self) -> int:
        """Triangles of the surface, within a few handles."""
        return 2 * self.vertices

    def slabs(self) -> Iterator[npt.NDArray[np.float32]]:
        """The field, slab by slab (n, nj, ni)."""
        for k, n in _slabs(self.grid):
            if self.field is not None:
                yield self.field[k : k + n]
                continue
            forced = None if self.forced is None else self.forced[k : k + n]
            yield self.layer.values(self.grid, k, n, self.levels, forced)

    def blocks(self) -> Iterator[Block]:
        """The surface in LPS mm, block by block; see :class:`sacroplan.lattice.marching.Block`."""
        from sacroplan.lattice import _march_kernels

        ni, nj, nk = self.grid.shape
        step = np.ascontiguousarray(self.grid.direction * self.grid.spacing_mm)
        for block in march(self.slabs(), (nk, nj, ni)):
            _march_kernels.place(block.vertices, step, self.grid.origin)
            yield block

    def surface(self) -> Surface:
        """The whole surface in memory: for small layers."""
        blocks = list(self.blocks())
        return Surface(
            np.concatenate([b.vertices for b in blocks]),
            np.concatenate([b.faces for b in blocks]).astype(np.int32),
            self.layer.body.frame,
        )


def solidify(
    layer: PorousLayer,
    spacing: npt.ArrayLike,
    direction: FloatArray | None = None,
    flat: bool = False,
) -> Solid:
    """Put a layer on a grid of ``spacing`` mm, leave loose pieces out and fill closed pores.

    The levels are those at which the facets (or, with ``flat``, the outlines in the grid's planes) have
    the wanted density. Raises :class:`PlanError` where nothing solid is left.
    """
    from sacroplan.lattice import _kernels

    grid = layer.fine_grid(spacing, direction)
    levels = faceted_levels(layer.cell, layer.cell_mm / float(grid.spacing_mm[0]), flat)
    ni, nj, nk = grid.shape
    inside = np.empty((nk, nj, ni), dtype=bool)
    field = np.empty((nk, nj, ni), dtype=np.float32) if inside.size <= KEPT_POINTS else None
    for k, n in _slabs(grid):
        phi = layer.values(grid, k, n, levels)
        inside[k : k + n] = phi < 0.0
        if field is not None:
            field[k : k + n] = phi
    if not inside.any():
        raise PlanError(
            f"Nothing of the {cell_of(layer.cell).title} lies inside the layer at {np.max(spacing):g} mm."
        )
    voxel = grid.voxel_volume_mm3
    forced: npt.NDArray[np.uint8] | None = None

    def force(mask: npt.NDArray[np.bool_], to: int) -> None:
        nonlocal forced
        if field is not None:
            # As the kernel does, see layer_values.
            field[mask] = (
                np.maximum(field[mask], FORCED) if to == 1 else np.minimum(field[mask], -FORCED)
            )
            return
        if forced is None:
            forced = np.zeros(inside.shape, dtype=np.uint8)
        forced[mask] = to

    solid = pieces(inside)
    loose = ~_kept(layer, grid, solid)
    loose[0] = False
    loose_mm3 = float(solid.sizes[loose].sum()) * voxel
    if loose.any():
        mask = solid.mask(loose)
        force(mask, 1)
        inside &= ~mask
        del mask
    void = pieces(inside, wanted=False, edges=True)
    closed = np.ones(len(void.sizes), dtype=bool)
    closed[[0, void.at_corner()]] = False
    closed_mm3 = float(void.sizes[closed].sum()) * voxel
    if closed.any():
        mask = void.mask(closed)
        force(mask, 2)
        inside |= mask
        del mask
    vertices = int(_kernels.count_edges(inside))
    return Solid(
        layer, grid, levels, forced, vertices, int(loose.sum()), loose_mm3, int(closed.sum()),
        closed_mm3, field,
    )  # fmt: skip


def _slabs(grid: VolumeGeometry) -> Iterator[tuple[int, int]]:
    """First plane and number of planes of each slab."""
    ni, nj, nk = grid.shape
    size = max(1, SLAB_POINTS // (ni * nj))
    for k in range(0, nk, size):
        yield k, min(size, nk - k)


def _kept(layer: PorousLayer, grid: VolumeGeometry, solid: Pieces) -> npt.NDArray[np.bool_]:
    """Which pieces hang on the core, by number; the largest where none does or there is no core."""
    from sacroplan.lattice import _kernels

    largest = np.zeros(len(solid.sizes), dtype=bool)
    largest[int(np.argmax(solid.sizes[1:])) + 1] = True
    if not layer.bonded:
        return largest
    coarse = layer.geometry
    step = (coarse.direction.T @ (grid.direction * grid.spacing_mm)) / coarse.spacing_mm[:, None]
    kept = np.zeros(len(solid.sizes), dtype=bool)
    _kernels.reaching(
        solid.rows, solid.low, solid.high, solid.piece, solid.shape[1], step,
        coarse.to_index(grid.origin), layer.depth, layer.thickness_mm, kept,
    )  # fmt: skip
    return kept if kept.any() else largest
