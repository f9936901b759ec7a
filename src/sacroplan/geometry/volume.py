"""Images: a geometry that can be asked, and data on it.

Arrays are indexed ``[i, j, k]``. A *canonical* volume has i towards the patient's left, j towards
posterior and k towards superior, as nearly as its grid allows (its direction matrix is the
signed-permutation-nearest to the identity); every reader returns canonical volumes, so ``k`` is
always "up the spine" even when the grid is oblique to LPS.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray, Rigid, readonly

SPACING_TOLERANCE_MM = 1e-4
"""Two spacings nearer than this are the same: DICOM decimal strings carry about six digits."""

ORIGIN_TOLERANCE_MM = 1e-3
"""Two origins nearer than this are the same; 1/500 of the finest voxel in use."""

DIRECTION_TOLERANCE = 1e-5
"""Direction cosines nearer than this are the same; 0.005 mm over a 500 mm image."""


@dataclass(frozen=True, eq=False)
class VolumeGeometry:
    """Where a grid lies in the patient.

    Attributes
    ----------
    shape : (3,) number of voxels along i, j, k.
    spacing_mm : (3,) voxel size along i, j, k.
    origin : (3,) LPS position of the centre of voxel (0, 0, 0), mm.
    direction : (3, 3) columns are the unit vectors of i, j, k in LPS.
    frame : name of the coordinate frame (DICOM FrameOfReferenceUID where known).
    """

    shape: tuple[int, int, int]
    spacing_mm: FloatArray
    origin: FloatArray
    direction: FloatArray = field(default_factory=lambda: np.eye(3))
    frame: str = DEFAULT_FRAME

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"A volume needs three positive dimensions, not {self.shape}.")
        s = np.array(self.spacing_mm, dtype=np.float64).reshape(3)
        if not np.all(np.isfinite(s)) or np.any(s <= 0):
            raise GeometryError(f"Voxel spacing must be positive, not {s.tolist()} mm.")
        d = np.array(self.direction, dtype=np.float64).reshape(3, 3)
        if not np.allclose(d.T @ d, np.eye(3), atol=1e-4):
            raise GeometryError("The image axes are not at right angles (sheared grid).")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "spacing_mm", readonly(s))
        object.__setattr__(
            self, "origin", readonly(np.array(self.origin, dtype=np.float64).reshape(3))
        )
        object.__setattr__(self, "direction", readonly(d))

    @property
    def affine(self) -> FloatArray:
        """(4, 4) index to LPS."""
        a = np.eye(4)
        a[:3, :3] = self.direction * self.spacing_mm
        a[:3, 3] = self.origin
        return a

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm3."""
        return float(np.prod(self.spacing_mm))

    @property
    def extent_mm(self) -> FloatArray:
        """(3,) edge lengths of the grid, voxel centre to voxel centre, mm."""
        return (np.array(self.shape) - 1) * self.spacing_mm

    def to_world(self, index: npt.ArrayLike) -> FloatArray:
        """Continuous indices (n, 3) or (3,) to LPS mm."""
        ijk = np.asarray(index, dtype=np.float64)
        return (ijk * self.spacing_mm) @ self.direction.T + self.origin

    def to_index(self, points: npt.ArrayLike) -> FloatArray:
        """LPS mm (n, 3) or (3,) to continuous indices."""
        p = np.asarray(points, dtype=np.float64)
        return ((p - self.origin) @ self.direction) / self.spacing_mm

    def matches(self, other: VolumeGeometry) -> bool:
        """Same grid in the same frame, within the named tolerances."""
        return (
            self.shape == other.shape
            and self.frame == other.frame
            and bool(np.allclose(self.spacing_mm, other.spacing_mm, atol=SPACING_TOLERANCE_MM))
            and bool(np.allclose(self.origin, other.origin, atol=ORIGIN_TOLERANCE_MM))
            and bool(np.allclose(self.direction, other.direction, atol=DIRECTION_TOLERANCE))
        )

    def describe(self) -> str:
        """One line for error messages."""
        n = " x ".join(str(v) for v in self.shape)
        s = " x ".join(f"{v:.3g}" for v in self.spacing_mm)
        o = ", ".join(f"{v:.1f}" for v in self.origin)
        return f"{n} voxels of {s} mm, origin ({o}) mm"

    def cropped(self, start: npt.ArrayLike, stop: npt.ArrayLike) -> VolumeGeometry:
        """The sub-grid ``[start, stop)`` in voxel indices."""
        a = np.asarray(start, dtype=int)
        b = np.asarray(stop, dtype=int)
        n = b - a
        return replace(self, shape=(int(n[0]), int(n[1]), int(n[2])), origin=self.to_world(a))

    def transformed(self, rigid: Rigid, frame: str | None = None) -> VolumeGeometry:
        """The grid moved by ``rigid`` (voxel data need not change)."""
        return replace(
            self,
            origin=rigid.points(self.origin),
            direction=rigid.rotation @ self.direction,
            frame=frame or self.frame,
        )


def grid_around(
    points: npt.ArrayLike,
    spacing_mm: float,
    margin_mm: float,
    frame: str = DEFAULT_FRAME,
    direction: npt.ArrayLike | None = None,
) -> VolumeGeometry:
    """Isotropic grid that covers ``points`` (n, 3) with ``margin_mm`` on every side.

    ``direction`` (3, 3) orients the grid; LPS axes without it.
    """
    p = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    d = np.eye(3) if direction is None else np.asarray(direction, dtype=np.float64)
    local = p @ d
    low = np.floor((local.min(axis=0) - margin_mm) / spacing_mm) * spacing_mm
    high = local.max(axis=0) + margin_mm
    n = np.ceil((high - low) / spacing_mm).astype(int) + 1
    return VolumeGeometry(
        (int(n[0]), int(n[1]), int(n[2])), np.full(3, spacing_mm), d @ low, d, frame
    )


def _canonical_axes(direction: FloatArray) -> tuple[list[int], list[bool]]:
    """For each LPS axis the grid axis nearest to it, and whether that axis runs backwards."""
    remaining = [0, 1, 2]
    order: list[int] = [0, 0, 0]
    # The best-aligned LPS axis chooses first, so that an oblique grid gets a permutation.
    for lps in np.argsort(-np.abs(direction).max(axis=1), kind="stable"):
        best = max(remaining, key=lambda c: abs(direction[lps, c]))
        order[int(lps)] = best
        remaining.remove(best)
    return order, [bool(direction[row, col] < 0) for row, col in enumerate(order)]


def _canonicalise(
    geometry: VolumeGeometry, data: npt.NDArray[Any]
) -> tuple[VolumeGeometry, npt.NDArray[Any]]:
    order, flips = _canonical_axes(geometry.direction)
    if order == [0, 1, 2] and not any(flips):
        return geometry, data
    start = np.zeros(3)
    for lps, axis in enumerate(order):
        if flips[lps]:
            start[axis] = geometry.shape[axis] - 1
    signs = np.where(flips, -1.0, 1.0)
    new = VolumeGeometry(
        tuple(geometry.shape[a] for a in order),  # type: ignore[arg-type]
        geometry.spacing_mm[order],
        geometry.to_world(start),
        geometry.direction[:, order] * signs,
        geometry.frame,
    )
    out = np.transpose(data, order)
    out = out[tuple(slice(None, None, -1) if f else slice(None) for f in flips)]
    return new, np.ascontiguousarray(out)


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT (or any scalar image): ``data`` (shape i, j, k) in HU on ``geometry``."""

    geometry: VolumeGeometry
    data: npt.NDArray[Any]

    def __post_init__(self) -> None:
        if self.data.shape != self.geometry.shape:
            raise GeometryError(
                f"Image data of shape {self.data.shape} does not fit a grid of {self.geometry.shape}."
            )
        readonly(self.data)

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.geometry.frame

    def canonical(self) -> Volume:
        """The same image with i, j, k towards left, posterior, superior."""
        return Volume(*_canonicalise(self.geometry, self.data))

    def cropped(self, start: npt.ArrayLike, stop: npt.ArrayLike) -> Volume:
        """Sub-volume ``[start, stop)`` in voxel indices."""
        a, b = np.asarray(start, dtype=int), np.asarray(stop, dtype=int)
        data = self.data[a[0] : b[0], a[1] : b[1], a[2] : b[2]]
        return Volume(self.geometry.cropped(a, b), np.ascontiguousarray(data))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Named structures on a grid: integer ``data`` (shape i, j, k), 0 is background.

    ``names`` maps every id that may occur to its structure's name, e.g. ``{1: "sacrum"}``.
    """

    geometry: VolumeGeometry
    data: npt.NDArray[Any]
    names: dict[int, str]

    def __post_init__(self) -> None:
        if self.data.shape != self.geometry.shape:
            raise GeometryError(
                f"Label data of shape {self.data.shape} does not fit a grid of {self.geometry.shape}."
            )
        if len(set(self.names.values())) != len(self.names):
            raise GeometryError(f"Two labels carry the same name: {sorted(self.names.values())}.")
        readonly(self.data)

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.geometry.frame

    def id_of(self, name: str) -> int:
        """The id of structure ``name``; raises when there is none."""
        for key, value in self.names.items():
            if value == name:
                return key
        raise GeometryError(
            f"No label is called {name!r}; there are {sorted(self.names.values())}."
        )

    def has(self, name: str) -> bool:
        """Whether ``name`` is known *and* occupies at least one voxel."""
        return name in self.names.values() and bool(np.any(self.data == self.id_of(name)))

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Boolean mask (shape i, j, k) of one structure."""
        return np.asarray(self.data == self.id_of(name))

    def volume_mm3(self, name: str) -> float:
        """Voxel volume of one structure."""
        return float(np.count_nonzero(self.mask(name))) * self.geometry.voxel_volume_mm3

    def canonical(self) -> LabelMap:
        """The same labels with i, j, k towards left, posterior, superior."""
        geometry, data = _canonicalise(self.geometry, self.data)
        return LabelMap(geometry, data, dict(self.names))
