"""The sacrum as it was before a lesion ate into it.

A lytic tumour is no bone, and a bone with a hole shows openings that no nerve passes through. Where
the tumour is known, landmarks are looked for on the sacrum with that hole filled.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.volume import LabelMap


def filled(
    labels: LabelMap, lesion: npt.NDArray[np.bool_], name: str = "sacrum"
) -> LabelMap | None:
    """``labels`` with the part of ``lesion`` that lies within the former bone ``name`` added to it.

    The former bone is the morphological closing of what is left; what bulges out of that stays soft
    tissue, and no voxel is taken from another bone. None where the lesion does not reach the bone.

    Parameters
    ----------
    lesion : (ni, nj, nk) mask on the grid of ``labels``.

    Source: SP-LMK-13.
    """
    reach = evidence.value("SP-LMK-13", "reach")
    bone = labels.mask(name)
    spacing = labels.geometry.spacing_mm
    where = np.argwhere(bone)
    pad = np.ceil(reach / spacing).astype(int) + 2
    low = np.maximum(where.min(axis=0) - pad, 0)
    high = np.minimum(where.max(axis=0) + 1 + pad, bone.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    if not lesion[box].any():
        return None
    # Air around the block, so that the closing's second half does not stop at its border.
    wide = np.pad(bone[box], pad[:, None])
    near = distance_to(wide, spacing, reach + 1.0) <= reach
    closed = distance_to(~near, spacing, reach + 1.0) > reach
    inner = tuple(slice(int(p), -int(p)) for p in pad)
    data = labels.data[box]
    # A label of the tumour's own gives way here; another bone's does not.
    free = data == 0
    if labels.has("tumour"):
        free |= data == labels.id_of("tumour")
    add = closed[inner] & lesion[box] & free
    if not add.any():
        return None
    out = np.array(labels.data)
    out[box][add] = labels.id_of(name)
    return LabelMap(labels.geometry, out, labels.names)
