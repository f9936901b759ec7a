"""Stand-ins for what the image cuts off."""

from __future__ import annotations

import numpy as np

from sacroplan.errors import AnatomyError, Doubt
from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.geometry.surface import Surface


def superior_end(vertebra: Surface, level: str, inferior: AxisFrame) -> tuple[AxisFrame, Doubt]:
    """A frame on the top of a vertebra whose superior endplate lies outside the image.

    The frame has the axes of the inferior endplate (x anterior, y cranial, z right) and lies where
    the axis through the inferior endplate's centre leaves the bone. Raises :class:`AnatomyError`
    when there is no bone there.
    """
    height = _leaves_at(Surface(inferior.to_local(vertebra.vertices), vertebra.faces))
    if height is None or height <= 0.0:
        raise AnatomyError(
            f"{level} has no body above its inferior endplate; check its label, or scan further up."
        )
    frame = AxisFrame(
        f"{level}SEP", inferior.origin + height * inferior.axes[:, 1], inferior.axes, inferior.frame
    )
    doubt = Doubt(
        "anatomy",
        f"anatomy.truncated.{level}",
        f"{level} is cut off by the image; its upper end is taken {height:.0f} mm above the inferior "
        "endplate and parallel to it. Screws and loads there are less certain; scan further up.",
        ("CT-05",),
    )
    return frame, doubt


def _leaves_at(local: Surface) -> float | None:
    """Largest y at which the y axis meets the surface; None where it does not."""
    xz = local.triangles[:, :, [0, 2]]
    a, b, c = xz[:, 0], xz[:, 1], xz[:, 2]

    def cross(u: FloatArray, v: FloatArray) -> FloatArray:
        return np.asarray(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])

    weights = np.stack([cross(b, c), cross(c, a), cross(a, b)], axis=1)
    total = weights.sum(axis=1)
    hit = (np.all(weights >= 0, axis=1) | np.all(weights <= 0, axis=1)) & (total != 0)
    if not hit.any():
        return None
    y = (weights[hit] * local.triangles[hit, :, 1]).sum(axis=1) / total[hit]
    return float(y.max())
