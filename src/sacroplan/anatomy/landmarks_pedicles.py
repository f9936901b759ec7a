"""Pedicle isthmus of a lumbar vertebra: where the ball that fits inside the pedicle is smallest.

The deepest point is followed from the vertebral body backwards through coronal sections of the bone's
own frame; behind the body's posterior wall it gets shallower and then, towards the articular pillar,
deeper again. Everything here works in local axes x anterior, y cranial, z right (mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan.anatomy.landmarks_repeats import Disturbance
from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry

STEP_MM = 0.75
"""Grid of the pedicle's neighbourhood: its depth (4 to 9 mm) is then good to about 0.2 mm."""

BEHIND_MM = 12.0
"""The isthmus lies less than this behind the posterior wall, before the articular pillar."""

DRIFT_MM = 2.5
"""How far the deepest point may move sideways between two sections one step apart."""

START_MM = ((7.0, 24.0), (-2.0, 18.0))
"""Where the pedicle leaves the body: distance from the midline, height about the body's middle."""

LEAST_DEPTH_MM = 1.5
"""A pedicle narrower than twice this is not one (the narrowest L3 pedicles measure about 6 mm)."""

PASSED_MM = 0.5
"""This much deeper than at the narrowest place is past the isthmus: more than the grid's own error."""

LEAST_SECTIONS = 5
"""A way that thins out to nothing after fewer sections was cut off, by the image or by a missing arch."""

FLAT_MM = 0.2
"""Sections whose depth is within this of the least share the isthmus: the grid's own error."""


@dataclass(frozen=True, slots=True, eq=False)
class Isthmus:
    """``centre`` (3,); ``width_mm`` is the diameter of the ball that just passes."""

    centre: FloatArray
    width_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class PedicleField:
    """Depth below the surface (mm, 0 outside) on a grid of the vertebra's frame, one side.

    Axes: backwards from the posterior wall, cranial from the body's middle, lateral.
    """

    frame: AxisFrame
    sign: float
    depth: FloatArray
    back: FloatArray
    high: FloatArray
    aside: FloatArray

    def disturbance(self, repeat: Disturbance) -> FloatArray:
        """Change of depth (shape of ``depth``) by a displaced surface."""
        grid = np.meshgrid(self.back, self.high, self.aside, indexing="ij")
        points = np.stack(grid, axis=-1).reshape(-1, 3)
        return repeat.height(points).reshape(self.depth.shape)


def pedicle_field(
    bone: Surface, frame: AxisFrame, wall: FloatArray, middle: FloatArray, sign: float
) -> PedicleField:
    """Depth field behind the posterior wall point ``wall`` (3,), about the height of ``middle`` (3,).

    ``sign`` is +1 for the right side (the frame's z).
    """
    from scipy.ndimage import distance_transform_edt

    from sacroplan.geometry.fields import inside_mask

    # x backwards, y cranial, z lateral of this side: so that both sides go through the same code.
    shift = np.array([frame.to_local(wall)[0], frame.to_local(middle)[1], 0.0])
    v = (frame.to_local(bone.vertices) - shift) * np.array([-1.0, 1.0, sign])
    faces = bone.faces if sign < 0 else bone.faces[:, ::-1]
    low, high = np.array([-6.0, -14.0, 0.0]), np.array([BEHIND_MM + 4.0, 26.0, 36.0])
    count = np.round((high - low) / STEP_MM).astype(int) + 1
    # Half a step off the bone's own planes: a flat cap of a cut bone would lie on grid points.
    grid = VolumeGeometry(
        (int(count[0]), int(count[1]), int(count[2])), np.full(3, STEP_MM), low + 0.013
    )
    mask = inside_mask(Surface(v, faces), grid)
    depth = distance_transform_edt(mask) * STEP_MM
    depth = np.where(mask, depth - 0.5 * STEP_MM, 0.0)
    ticks = [grid.origin[a] + STEP_MM * np.arange(count[a]) for a in range(3)]
    return PedicleField(
        AxisFrame(frame.name, frame.to_world(shift), frame.axes, frame.frame), sign, depth, *ticks
    )


def find_isthmus(field: PedicleField, disturbance: FloatArray | None = None) -> Isthmus | None:
    """Isthmus of one pedicle; None where the arch is missing or cut off.

    ``disturbance`` (shape of the depth) moves the surface, for repeats.
    """
    depth = field.depth if disturbance is None else np.maximum(field.depth + disturbance, 0.0)
    high, aside = np.meshgrid(field.high, field.aside, indexing="ij")
    (near, far), (low, top) = START_MM
    window = (aside >= near) & (aside <= far) & (high >= low) & (high <= top)
    first = int(np.searchsorted(field.back, 0.0))
    best: list[float] = []
    path: list[FloatArray] = []
    place: FloatArray | None = None
    passed = False
    for n in range(first, len(field.back)):
        section = depth[n]
        if place is not None:
            window = (high - place[0]) ** 2 + (aside - place[1]) ** 2 <= DRIFT_MM**2
        value = np.where(window, section, 0.0)
        most = float(value.max())
        if most < LEAST_DEPTH_MM:
            break
        weight = np.clip(value - (most - 0.5), 0.0, None)
        place = np.array([(weight * high).sum(), (weight * aside).sum()]) / weight.sum()
        # Once the way has widened again it has passed the isthmus; what gets thin later is lamina.
        if best and most >= min(best) + PASSED_MM:
            passed = True
            break
        best.append(most)
        path.append(np.array([field.back[n], *place]))
        if field.back[n] > BEHIND_MM:
            break
    if not passed and len(path) < LEAST_SECTIONS:
        return None
    least = min(best)
    chosen = np.array([p for p, d in zip(path, best, strict=True) if d <= least + FLAT_MM])
    middle = chosen.mean(axis=0) * np.array([-1.0, 1.0, field.sign])
    return Isthmus(np.asarray(field.frame.to_world(middle)), 2.0 * least)
