"""Pelvic bones from a CT, without network weights.

The chain: survey the coarse image (midline, spinal canal, discs, iliac wings, femoral heads);
over-segment the bone along dark sheets (joint gaps) by a watershed on the largest Hessian
eigenvalue; merge the pieces by average linkage under seeds that may not join; decide which unit of
the spine is the sacrum by its contact with the hip bones, and merge again under the final names;
fill sealed marrow; put the outline at the local half-maximum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import AnatomyError, Doubt
from sacroplan.geometry.distance import distance_to
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import LabelMap, Volume
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent

LABELS = MappingProxyType(
    {
        1: "sacrum",
        2: "hip_right",
        3: "hip_left",
        4: "L5",
        5: "L4",
        6: "L3",
        7: "L2",
        8: "L1",
        9: "femur_right",
        10: "femur_left",
    }
)
"""Own label ids and the bones they name."""

LUMBAR_IDS = (4, 5, 6, 7, 8)
"""L5 to L1, from the sacrum upwards."""

COARSE_MM = 2.0
"""Grid of the survey: the canal and the discs are five voxels wide, the whole trunk fits in 5 M."""

FINE_MM = 1.0
"""Grid of the watershed: half a sacroiliac joint gap, and finer gains nothing on 1 mm slices."""

MARGIN_MM = 8.0
"""Soft tissue kept around the bones, for the outline's soft-tissue level."""


@dataclass(frozen=True, eq=False)
class Bones:
    """Bones of a pelvic CT.

    Attributes
    ----------
    labels : own ids (:data:`LABELS`) on the grid of the CT.
    doubts : reservations about this segmentation.
    """

    labels: LabelMap
    doubts: tuple[Doubt, ...]

    def metrics(self) -> Metrics:
        """Volume of every bone found."""
        return {
            f"anatomy.bones.{name}.volume_cm3": Metric(
                self.labels.volume_mm3(name) / 1000.0, "cm3", f"volume of {name}"
            )
            for name in sorted(self.labels.names.values())
        }


def segment(
    volume: Volume,
    progress: Progress = silent,
    clicks: Mapping[str, FloatArray] | None = None,
) -> Bones:
    """Segment the pelvic bones of a canonical CT (HU).

    Parameters
    ----------
    clicks : points (n, 3), LPS mm, by the name of the bone they lie in; they overrule what is found,
        and a clicked vertebra sets the count of all others.

    Raises
    ------
    AnatomyError
        Without a sacrum between two hip bones in the image.

    Source: DESIGN "Segmentation" (measured); grey levels HANDBOOK HU-02.
    """
    from sacroplan.anatomy.segmentation import clicks as given
    from sacroplan.anatomy.segmentation import finish, grid, marrow, regions, seeds, symmetry

    if not np.allclose(volume.canonical().geometry.direction, volume.geometry.direction):
        raise AnatomyError(
            "Bones are segmented on canonical volumes; call Volume.canonical() first."
        )
    progress(0.0, "looking for the spine, the iliac wings and the femoral heads")
    extent = volume.geometry.extent_mm
    coarse = grid.resample(volume, COARSE_MM, np.zeros(3), extent)
    anatomy = seeds.survey(coarse)
    low, high = _bone_box(anatomy.near, coarse.spacing_mm, extent)
    fine = grid.resample(volume, FINE_MM, low, high)
    progress(0.25, "cutting the bone along its joints")
    hu = fine.hu
    bodies = np.concatenate(
        [seeds.spine_points(anatomy, unit) for unit in range(len(anatomy.discs) + 1)]
    )
    voxel = volume.geometry.spacing_mm
    bright = marrow.bright_bone(fine, voxel)
    hull = marrow.solid_bone(fine, bright, anatomy.canal, anatomy.discs, bodies)
    mask = hull.solid
    row = "SP-SEG-01"
    sheets, valleys = regions.sheetness(
        hu, mask, FINE_MM, evidence.value(row, "sigma"), evidence.value(row, "reach")
    )
    narrow = regions.narrow_valleys(volume, fine)
    np.maximum(valleys, narrow, out=valleys)
    graph = regions.region_graph(sheets, valleys, narrow, mask, evidence.value(row, "softness"))
    del sheets, valleys, narrow
    progress(0.5, "joining the pieces of each bone")
    stop = evidence.value(row, "stop")
    placed = seeds.place(anatomy, coarse, fine, mask)
    units = regions.merge(graph, placed, stop)
    sacral, doubts = _first_sacral_unit(units, len(anatomy.discs) + 1)
    by_name = {name: label for label, name in LABELS.items()}
    pointed = given.snapped(clicks or {}, by_name, volume.geometry, fine, mask)
    sacral = given.first_sacral_unit(pointed, units, LUMBAR_IDS, sacral, len(anatomy.discs))
    named = seeds.name_units(placed, anatomy, fine, mask, sacral, LUMBAR_IDS)
    named = given.placed(named, pointed, FINE_MM, mask)
    merged = regions.merge(graph, named, stop)
    band = evidence.value(row, "band") / FINE_MM
    joints = {}
    if float(voxel.max()) > evidence.value("SP-SEG-06", "thick"):
        # No valley shows there, and the least surface cuts an ala off rather than follow the joint.
        near = evidence.value("SP-SEG-13", "reach") / FINE_MM
        joints = {frozenset((seeds.SACRUM, hip)): near for hip in seeds.HIPS}
    merged = regions.straighten(graph, merged, named, band, joints)
    merged = symmetry.agreed(graph, merged, named, FINE_MM)
    del graph, units
    progress(0.7, "filling marrow and finding the outline")
    # Discs inside the sacrum are rudimentary: they are filled like marrow.
    empty = hull.open | marrow.disc_space(bright, fine, anatomy.canal, anatomy.discs[:sacral])
    ids = list(LABELS)
    merged[merged > max(ids)] = 0
    inside = np.zeros_like(empty)
    if sacral > 0:
        disc = anatomy.discs[sacral - 1]
        inside = marrow.sacral_marrow(hull.marrow, fine, anatomy.canal, disc)
    sacral_only = (seeds.SACRUM, inside)
    whole = finish.finish(hu, merged, empty, sacral_only, ids, fine.spacing_mm)
    progress(0.9, "back to the voxels of the CT")
    data = _on_source(whole, ids, fine, volume)
    present = [n for n in ids if np.any(data == n)]
    labels = LabelMap(volume.geometry, data, {n: LABELS[n] for n in present})
    doubts = doubts + _doubts(volume, present)
    progress(1.0, f"{len(present)} bones")
    return Bones(labels, doubts)


def _bone_box(
    near: npt.NDArray[np.bool_], spacing: npt.NDArray[np.float64], extent: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Corners (mm along the grid axes) of the box around the connected bone, whole millimetres."""
    low, high = np.empty(3), np.empty(3)
    for axis in range(3):
        along = np.flatnonzero(near.any(axis=tuple(a for a in range(3) if a != axis)))
        low[axis] = along[0] * spacing[axis] - MARGIN_MM
        high[axis] = along[-1] * spacing[axis] + MARGIN_MM
    return np.floor(np.maximum(low, 0.0)), np.minimum(np.ceil(high), extent)


def _first_sacral_unit(units: npt.NDArray[np.int32], count: int) -> tuple[int, tuple[Doubt, ...]]:
    """The uppermost unit of the spine that articulates with both hip bones."""
    from sacroplan.anatomy.segmentation.seeds import HIP_LEFT, HIP_RIGHT, UNIT

    row = "SP-SEG-07"
    gap = evidence.value(row, "gap") / FINE_MM
    contact = np.zeros((count, 2))
    for side, hip in enumerate((HIP_RIGHT, HIP_LEFT)):
        close = (distance_to(units == hip, 1.0, gap + 1.0) <= gap) & (units >= UNIT)
        contact[:, side] = np.bincount(units[close] - UNIT, minlength=count)[:count]
    volume = contact * FINE_MM**3
    least, least_side = evidence.value(row, "least"), evidence.value(row, "least_side")
    # A deep-seated L5 touches both ilia as well, but with little of what the sacrum joins them with.
    both = volume.sum(axis=1)
    least = max(least, evidence.value(row, "share") * float(both.max(initial=0.0)))
    joined = (both >= least) & (volume.min(axis=1) >= least_side)
    if not joined.any():
        best = float(volume.sum(axis=1).max()) if count else 0.0
        raise AnatomyError(
            f"No sacrum found: no part of the spine meets both hip bones (best: {best:.0f} mm3 of "
            f"bone within {gap:.0f} mm of a hip bone, {least:.0f} mm3 expected). "
            "Give a CT that shows both sacroiliac joints."
        )
    first = int(np.argmax(joined))
    doubts: tuple[Doubt, ...] = ()
    if first > 0 and volume[first - 1].max() >= least_side:
        doubts = (
            Doubt(
                "anatomy",
                "anatomy.lumbosacral_transition",
                f"The vertebra above the sacrum has {volume[first - 1].max():.0f} mm3 of bone "
                f"within {gap:.0f} mm of a hip bone, as a transitional vertebra has; "
                "check the lumbar numbering.",
                (row,),
            ),
        )
    return first, doubts


def _on_source(
    whole: npt.NDArray[np.int32], ids: list[int], fine: object, volume: Volume
) -> npt.NDArray[np.uint8]:
    """Labels on the CT's own voxels: the bone with the largest share of the voxel's centre."""
    from scipy import ndimage

    from sacroplan.anatomy.segmentation.grid import Working, to_source

    assert isinstance(fine, Working)
    geometry = volume.geometry
    out = np.zeros(geometry.shape, dtype=np.uint8)
    best = np.full(geometry.shape, np.float32(0.5))
    for label, box in enumerate(ndimage.find_objects(whole), start=1):
        if box is None or label not in ids:
            continue
        low = np.array([s.start for s in box]) * fine.spacing_mm + fine.start_mm
        high = np.array([s.stop for s in box]) * fine.spacing_mm + fine.start_mm
        a = np.clip(np.floor(low / geometry.spacing_mm).astype(int) - 1, 0, None)
        b = np.minimum(np.ceil(high / geometry.spacing_mm).astype(int) + 2, geometry.shape)
        part = volume.cropped(a, b)
        shifted = Working(fine.hu, fine.spacing_mm, fine.start_mm - a * geometry.spacing_mm)
        share = to_source((whole == label).astype(np.float32), shifted, part)
        where = tuple(slice(int(x), int(y)) for x, y in zip(a, b, strict=True))
        win = share > best[where]
        out[where][win] = label
        best[where][win] = share[win]
    return out


def _doubts(volume: Volume, present: list[int]) -> tuple[Doubt, ...]:
    doubts = []
    thick = float(volume.geometry.spacing_mm.max())
    limit = evidence.quantity("CT-01", "slice_thickness").upper
    if limit is not None and thick > limit + 1e-3:
        doubts.append(
            Doubt(
                "anatomy",
                "anatomy.coarse_image",
                f"The bones were cut from voxels of {thick:.1f} mm, at most {limit:.1f} mm were "
                "expected; thin cortex and joint gaps are blurred, check every joint.",
                ("CT-01",),
            )
        )
    if 4 not in present:
        doubts.append(
            Doubt(
                "anatomy",
                "anatomy.no_lumbar_vertebra",
                "No vertebra above the sacrum was found; L5 was expected in the image.",
            )
        )
    return tuple(doubts)
