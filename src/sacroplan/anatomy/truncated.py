"""Stand-ins for what the image cuts off."""

from __future__ import annotations

from sacroplan import evidence
from sacroplan.errors import AnatomyError, Doubt
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.surface import Surface


def superior_end(vertebra: Surface, level: str, inferior: AxisFrame) -> tuple[AxisFrame, Doubt]:
    """A frame on the top of a vertebra whose superior endplate lies outside the image.

    The frame has the axes of the inferior endplate (x anterior, y cranial, z right) and lies where
    the body ends, within SP-LMK-40 of the inferior endplate's axis. Raises
    :class:`AnatomyError` when there is no bone there.
    """
    local = inferior.to_local(vertebra.vertices)
    near = (local[:, 0] ** 2 + local[:, 2] ** 2) ** 0.5 < evidence.value("SP-LMK-40", "radius")
    if not near.any():
        raise AnatomyError(
            f"{level} has no body above its inferior endplate; check its label, or scan further up."
        )
    height = float(local[near, 1].max())
    frame = AxisFrame(
        f"{level}SEP", inferior.origin + height * inferior.axes[:, 1], inferior.axes, inferior.frame
    )
    doubt = Doubt(
        "anatomy",
        f"anatomy.truncated.{level}",
        f"{level} is cut off by the image; its upper end is taken {height:.0f} mm above the inferior "
        "endplate and parallel to it. Screws and loads there are less certain; scan further up.",
        ("CT-05", "SP-LMK-40"),
    )
    return frame, doubt
