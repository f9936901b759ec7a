"""From merged pieces of cortex and trabeculae to whole bones with their true outline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sacroplan import evidence
from sacroplan.anatomy.segmentation.grid import largest_piece
from sacroplan.anatomy.segmentation.marrow import surrounded
from sacroplan.geometry.distance import closed as closing
from sacroplan.geometry.frames import FloatArray

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_CROSS = ndimage.generate_binary_structure(3, 1)


def _box(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(  # type: ignore[return-value]
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n in zip(found, mask.shape, strict=True)
    )


def fill_bone(mask: Mask, others: Mask, radius: float) -> Mask:
    """Close gaps of the cortex up to ``2 radius`` voxels and fill what is sealed inside.

    The image's first and last slice count as walls (a bone cut by the image's edge is closed
    there), but a hollow that holds another bone, such as a cut hip socket, stays open.
    """
    closed = closing(mask, radius) & ~others
    rest = np.pad(~closed, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    pieces, count = ndimage.label(rest, _CROSS)
    pieces = pieces[1:-1, 1:-1]
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    foreign = np.bincount(pieces[others], minlength=count + 1)
    sealed = np.arange(count + 1) != pieces_outside(rest)
    sealed &= (foreign == 0) & (sizes > 0)
    sealed[0] = False
    return np.asarray((closed | sealed[pieces]) & ~others)


def pieces_outside(rest: Mask) -> int:
    """Number that :func:`scipy.ndimage.label` gives the padded surroundings: always the first."""
    return 1 if rest.flat[0] else 0


def fill_small_holes(mask: Mask, forbidden: Mask, area: float) -> Mask:
    """Fill holes of single slices (axial, sagittal, coronal) of at most ``area`` voxels.

    Vessel channels and pores lead into the marrow; no foramen of the sacrum is as small.
    """
    out = mask.copy()
    cross = ndimage.generate_binary_structure(2, 1)
    for axis in (2, 0, 1):
        rest = np.pad(~out, 1, constant_values=True)
        pieces, _ = ndimage.label(rest, _in_slices(cross, axis))
        sizes = np.bincount(pieces.ravel())
        small = sizes <= area
        small[0] = False
        inner = pieces[1:-1, 1:-1, 1:-1]
        out |= small[inner] & ~forbidden
    return out


def _in_slices(cross: Mask, axis: int) -> Mask:
    """A structuring element that connects only within slices across ``axis``."""
    out = np.zeros((3, 3, 3), dtype=bool)
    np.moveaxis(out, axis, 0)[1] = cross
    return out


def outline_level(hu: Float32, mask: Mask, spacing_mm: float) -> Float32:
    """Local half-maximum (HU) between the bone's edge and the soft tissue around it.

    The edge is the brightest grey level within 3 mm inside the bone; the soft tissue is the mean of
    what is neither bone nor gas within a few millimetres outside. A thin cortex, which the image
    shows too dark, is outlined a little too far out; but what the rest of the bone is like tells
    nothing of it: a spinous process beside sclerotic facets would be lost.
    """
    row = "SP-SEG-06"
    size = 2 * round(evidence.value(row, "reach") / spacing_mm) + 1
    inside = np.where(mask, hu, np.float32(-1000.0))
    peak = ndimage.maximum_filter(inside, size=size)
    peak = np.clip(peak, *evidence.span(row, "peak")).astype(np.float32)
    low, high = evidence.span(row, "soft")
    soft = (~mask & (hu > low) & (hu < high)).astype(np.float32)
    sigma = evidence.value(row, "soft_reach") / spacing_mm
    weight = ndimage.gaussian_filter(soft, sigma)
    level = ndimage.gaussian_filter(soft * hu, sigma)
    default = evidence.value(row, "soft")
    base = np.where(weight > 1e-3, level / np.maximum(weight, 1e-3), default)
    return np.asarray(0.5 * (peak + base), dtype=np.float32)


def peel(hu: Float32, mask: Mask, level: Float32, layers: int, marrow: Mask) -> Mask:
    """Remove outer voxels below the half-maximum, at most ``layers`` deep, but no ``marrow``."""
    out = mask.copy()
    dark = (hu < level) & ~marrow
    for _ in range(layers):
        inner = ndimage.binary_erosion(out, _CROSS, border_value=1)
        rim = out & ~inner & dark
        if not rim.any():
            break
        out &= ~rim
    return out


def finish(
    hu: Float32,
    labels: Int32,
    empty: Mask,
    marrow: tuple[int, Mask],
    ids: list[int],
    spacing_mm: FloatArray,
) -> Int32:
    """Whole bones: marrow filled, outline at the local half-maximum, one piece each.

    ``empty`` is never filled (canal, foramina, discs); ``marrow`` is a label and what certainly
    belongs to it.
    """
    h = float(spacing_mm[0])
    radius = evidence.value("SP-SEG-06", "closing") / h
    layers = max(1, round(evidence.value("SP-SEG-06", "peel") / h))
    pore = evidence.value("SP-SEG-06", "pore") / h**2
    misses = int(evidence.value("SP-SEG-08", "own_misses"))
    out = np.zeros_like(labels)
    for label in ids:
        mask = labels == label
        if not mask.any():
            continue
        box = _box(mask, int(np.ceil(radius)) + 4)
        taken = ((labels[box] != label) & (labels[box] > 0)) | (out[box] > 0) | empty[box]
        own = marrow[1][box] & ~taken if label == marrow[0] else np.zeros_like(taken)
        bone = largest_piece(mask[box] | own)
        bone |= ndimage.binary_opening(surrounded(bone, ~bone & ~taken, h, misses), _CROSS)
        bone = largest_piece(fill_bone(bone, taken, radius))
        # Unsmoothed: even half a voxel of blur moves the half-maximum of a thin cortex outwards.
        level = outline_level(hu[box], bone, h)
        bone = largest_piece(peel(hu[box], bone, level, layers, own))
        bone = fill_small_holes(fill_bone(bone, taken, 1.0 / h), taken, pore)
        view = out[box]
        view[bone & (view == 0)] = label
    return out
