"""The picture a person looks at before an MRI fusion is accepted."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from sacroplan.geometry.frames import FloatArray, Rigid
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.volume import LabelMap, Volume
from sacroplan.imaging.fusion import BONES

HALF_MM = 110.0
"""Half the width of a picture: the sacrum with both sacroiliac joints and the iliac wings."""

PIXELS = 360
"""Edge of one picture."""

TILES = 8
"""Squares of the chequerboard along an edge."""

GAP = 4
"""Pixels between pictures."""

CT_WINDOW = (-250.0, 750.0)
"""Grey range of the CT, HU: soft tissue and bone both show."""

BONE_COLOUR = (255, 196, 0)
TUMOUR_COLOUR = (255, 64, 64)

VIEWS = (("axial", 0, 1), ("coronal", 0, 2), ("sagittal", 1, 2))
"""Name, grid axis across the picture, grid axis up or down the picture."""


def overlay_png(
    ct: Volume,
    labels: LabelMap,
    mri: Volume,
    ct_to_mri: Rigid,
    tumour: npt.NDArray[np.bool_] | None = None,
) -> bytes:
    """Three views through the tumour (or the sacrum): the CT, the MRI and both as a chequerboard.

    The outlines of the CT's bones lie on all of them: on the MRI they must follow the dark rims of
    the bones. Same input, same bytes.
    """
    from PIL import Image, ImageDraw, ImageFont

    mask = labels.mask("sacrum") if tumour is None else tumour
    centre = ct.geometry.to_world(np.argwhere(mask).mean(axis=0))
    bones = np.isin(labels.data, [labels.id_of(n) for n in BONES if labels.has(n)])
    values = mri.data[::2, ::2].astype(np.float64)
    window = np.percentile(values[values > values.mean() * 0.25], (1.0, 99.0))
    edge = 3 * PIXELS + 2 * GAP
    sheet = Image.new("RGB", (edge, edge), (0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    titles = ("CT", "MRI, outlines of the CT's bones", "CT and MRI")
    chequer = np.add.outer(*[np.arange(PIXELS) * TILES // PIXELS] * 2) % 2 == 1
    for row, (view, across, along) in enumerate(VIEWS):
        points = _plane(ct.geometry.direction, centre, across, along)
        grey_ct = _grey(sample(ct.geometry, ct.data, points, -1000.0), CT_WINDOW)
        grey_mri = _grey(sample(mri.geometry, mri.data, ct_to_mri.points(points), 0.0), window)
        outline = _outline(_nearest(ct, bones, points))
        marked = None if tumour is None else _outline(_nearest(ct, tumour, points))
        for column, grey in enumerate((grey_ct, grey_mri, np.where(chequer, grey_mri, grey_ct))):
            colour = np.repeat(grey[:, :, None], 3, axis=2)
            colour[outline] = BONE_COLOUR
            if marked is not None:
                colour[marked] = TUMOUR_COLOUR
            at = (column * (PIXELS + GAP), row * (PIXELS + GAP))
            sheet.paste(Image.fromarray(colour, "RGB"), at)
            text = f"{view}: {titles[column]}"
            draw.text((at[0] + 6, at[1] + 4), text, (255, 255, 255), font, stroke_width=1,
                      stroke_fill=(0, 0, 0))  # fmt: skip
            ends = {0: ("R", "L"), 1: ("A", "P")}[across]
            for letter, x in zip(ends, (6, PIXELS - 16), strict=True):
                draw.text((at[0] + x, at[1] + PIXELS // 2), letter, (255, 206, 84), font,
                          stroke_width=1, stroke_fill=(0, 0, 0))  # fmt: skip
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=False)
    return out.getvalue()


def _plane(direction: FloatArray, centre: FloatArray, across: int, along: int) -> FloatArray:
    """(PIXELS^2, 3) LPS points of a picture: patient's right on the left, head or front on top."""
    step = (np.arange(PIXELS) + 0.5) / PIXELS * 2.0 * HALF_MM - HALF_MM
    down = step if along == 1 else -step
    grid = down[:, None, None] * direction[:, along] + step[None, :, None] * direction[:, across]
    return np.asarray((grid + centre).reshape(-1, 3))


def _grey(values: FloatArray, window: tuple[float, float] | FloatArray) -> npt.NDArray[np.uint8]:
    low, high = float(window[0]), float(window[1])
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
    return np.asarray(np.rint(255.0 * scaled), dtype=np.uint8).reshape(PIXELS, PIXELS)


def _nearest(ct: Volume, mask: npt.NDArray[np.bool_], points: FloatArray) -> npt.NDArray[np.bool_]:
    """A mask in the picture; half a voxel of interpolation rounds its corners."""
    values = sample(ct.geometry, mask.view(np.uint8), points, 0.0)
    return np.asarray(values > 0.5).reshape(PIXELS, PIXELS)


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    return np.asarray(mask & ~binary_erosion(mask))
