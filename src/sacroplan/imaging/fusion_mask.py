"""A mask drawn on the MRI, carried over to the grid of the CT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, ImagingError
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.volume import VolumeGeometry


@dataclass(frozen=True, eq=False)
class CarriedMask:
    """``mask`` (i, j, k) on the CT's grid, and volumes on both grids in mm3.

    ``lost`` is the share that lies outside the CT.
    """

    mask: npt.NDArray[np.bool_]
    volume_mri_mm3: float
    volume_ct_mm3: float
    lost: float


def carry_mask(
    mask: npt.NDArray[np.bool_], mri: VolumeGeometry, ct: VolumeGeometry, ct_to_mri: Rigid
) -> CarriedMask:
    """Resample a mask by its shape, not by its voxels: thick slices leave no steps.

    The signed distance to the mask is interpolated, and the level is chosen at which the volume is
    that of the drawn mask. Raises ImagingError when the mask is empty or lies outside the CT.
    """
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        raise ImagingError("The tumour mask on the MRI is empty: no voxel is marked.")
    where = np.argwhere(mask)
    low, high = where.min(axis=0) - 3, where.max(axis=0) + 4
    shape = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
    block = np.zeros(shape, dtype=bool)
    block[tuple((where - low).T)] = True
    grid = VolumeGeometry(shape, mri.spacing_mm, mri.to_world(low), mri.direction, mri.frame)
    spacing = mri.spacing_mm
    signed = distance_transform_edt(~block, sampling=spacing) - distance_transform_edt(
        block, sampling=spacing
    )
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), axis=-1)
    around = ct.to_index(ct_to_mri.inverse().points(grid.to_world(corners.reshape(-1, 3))))
    first = np.floor(around.min(axis=0)).astype(int)
    count = np.ceil(around.max(axis=0)).astype(int) + 1 - first
    index = np.indices(tuple(count)).reshape(3, -1).T + first
    points = ct_to_mri.points(ct.to_world(index))
    far = float(np.linalg.norm(grid.extent_mm))
    distance = sample(grid, signed.astype(np.float32), points, far)
    volume = float(len(where)) * mri.voxel_volume_mm3
    wanted = max(1, min(round(volume / ct.voxel_volume_mm3), len(distance)))
    level = float(np.partition(distance, wanted - 1)[wanted - 1])
    chosen = index[distance <= level]
    kept = chosen[np.all((chosen >= 0) & (chosen < ct.shape), axis=1)]
    if not len(kept):
        raise ImagingError(
            "The tumour drawn on the MRI lies outside the CT after the fusion. Look at the fusion's "
            "picture; give your own transform with [mri] transform, or a CT that covers the tumour."
        )
    out = np.zeros(ct.shape, dtype=bool)
    out[tuple(kept.T)] = True
    return CarriedMask(out, volume, len(kept) * ct.voxel_volume_mm3, 1.0 - len(kept) / len(chosen))


def mask_doubts(carried: CarriedMask) -> tuple[Doubt, ...]:
    """A doubt when part of the tumour lies outside the CT."""
    limit = evidence.value("SP-FUS-06", "lost") / 100.0
    if carried.lost <= limit:
        return ()
    return (
        Doubt(
            "imaging",
            "imaging.fusion_tumour_cut",
            f"{100 * carried.lost:.0f} % of the tumour drawn on the MRI lies outside the CT: margins "
            "there are unknown.",
            ("SP-FUS-06", "CT-05"),
        ),
    )
