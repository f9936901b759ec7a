"""Pictures of the scene without a graphics card: our own rasteriser, the same bytes everywhere.

VTK ends the process where the system has no GL, so pictures for print, thumbnails and browsers
without WebGL are drawn in software: exact coverage at twice the resolution, three lights, open sky
per vertex, outlines, and transparency by depth peeling. The projection is parallel, so the scale
bar holds everywhere in the picture.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER
from sacroplan.geometry.frames import AxisFrame, FloatArray, unit
from sacroplan.report import _kernels as kernels
from sacroplan.report.model import Preset, ReportError, ScenePart
from sacroplan.report.scene import DisplayMesh, display_meshes
from sacroplan.report.views import Basis, basis, letters

SUPERSAMPLE = 2
"""Samples per pixel and direction."""

PEELS = 6
"""Transparent layers drawn at most; what lies behind six of them adds under 2 % to a pixel."""

MARGIN = 0.06
"""Free border as a share of the picture."""

OUTLINE_JUMP_MM = 6.0
"""Depth step within one part that deserves a line: wing before sacrum, not surface relief."""

OUTLINE_STRENGTH = 0.55

# Direction in picture axes (right, up, towards the viewer) and strength: key, fill, rim.
_LIGHTS = ((-0.45, 0.60, 0.75, 0.72), (0.75, 0.10, 0.55, 0.26), (0.10, -0.80, 0.35, 0.10))


def lights() -> FloatArray:
    """(3, 4) unit directions and strengths of key, fill and rim light, fixed to the viewer."""
    return np.array([[*unit(light[:3]), light[3]] for light in _LIGHTS])


def linear_colour(colour: str) -> FloatArray:
    """(3,) linear light of ``"#rrggbb"``."""
    s = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def _encoded(light: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Linear light to 8-bit sRGB."""
    x = np.clip(light, 0.0, 1.0)
    s = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1.0 / 2.4) - 0.055)
    out: npt.NDArray[np.uint8] = np.round(s * 255.0).astype(np.uint8)
    return out


@dataclass(frozen=True, eq=False)
class _Batch:
    """Bodies that are drawn together, in sub-pixels."""

    xy: npt.NDArray[np.int64]
    z: FloatArray
    faces: npt.NDArray[np.int32]
    part_of: npt.NDArray[np.int32]
    normal: FloatArray
    sky: FloatArray


def _batch(
    chosen: Sequence[tuple[int, DisplayMesh]], b: Basis, centre: FloatArray, px_per_mm: float,
    width: int, height: int,
) -> _Batch:  # fmt: skip
    vertices = np.concatenate([m.vertices for _, m in chosen]) - centre
    normals = np.concatenate([m.normals for _, m in chosen])
    offsets = np.cumsum([0] + [len(m.vertices) for _, m in chosen[:-1]])
    faces = np.concatenate([m.faces + o for (_, m), o in zip(chosen, offsets, strict=True)])
    part_of = np.concatenate([np.full(len(m.faces), n, dtype=np.int32) for n, m in chosen])
    plane = vertices @ np.column_stack([b.right, -b.up]) * px_per_mm + (0.5 * width, 0.5 * height)
    return _Batch(
        np.round(plane * kernels.SUBPIXEL).astype(np.int64),
        vertices @ b.away,
        np.ascontiguousarray(faces, dtype=np.int32),
        part_of,
        normals @ np.column_stack([b.right, b.up, -b.away]),
        np.concatenate([m.sky for _, m in chosen]),
    )


def render(
    parts: Sequence[ScenePart],
    view_frame: AxisFrame,
    size: tuple[int, int] = (1200, 900),
    preset: Preset = "front",
    meshes: Mapping[str, DisplayMesh] | None = None,
    focus: Sequence[str] = (),
) -> bytes:
    """PNG of the visible ``parts`` seen from ``preset`` in the patient's terms.

    Parameters
    ----------
    view_frame : axes are the patient's left, posterior, superior. size : width, height in pixels.
    meshes : display meshes by part name, computed here where missing.
    focus : part names that fill the picture (all visible parts without it).

    Raises
    ------
    ReportError : nothing is visible, or the picture has no pixels.
    """
    shown = [p for p in parts if p.visible]
    if not shown:
        raise ReportError("No part of the scene is visible, so there is nothing to draw.")
    if min(size) < 64:
        raise ReportError(f"A picture of {size[0]} x {size[1]} pixels is too small to read.")
    have = dict(meshes or {})
    missing = [p for p in shown if p.name not in have]
    have.update(display_meshes(missing) if missing else {})
    width, height = size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE
    b = basis(view_frame.axes, preset)
    framed = [p for p in shown if p.name in focus] or shown
    plane = np.column_stack([b.right, b.up])
    across = np.concatenate([have[p.name].vertices @ plane for p in framed])
    low, high = across.min(axis=0), across.max(axis=0)
    middle = 0.5 * (low + high)
    centre = b.right * middle[0] + b.up * middle[1]
    extent = np.maximum(high - low, 1.0)
    px_per_mm = float(np.min(np.array([width, height]) * (1.0 - 2.0 * MARGIN) / extent))

    image = _draw(shown, have, b, centre, px_per_mm, width, height)
    small = np.empty((size[1], size[0], 3), dtype=np.float32)
    kernels.shrink(image, SUPERSAMPLE, small)
    return _annotated(_encoded(small), view_frame, b, px_per_mm / SUPERSAMPLE)


def _draw(
    shown: Sequence[ScenePart], meshes: Mapping[str, DisplayMesh], b: Basis, centre: FloatArray,
    px_per_mm: float, width: int, height: int,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Linear light (height, width, 3) over white."""
    colour = np.array([linear_colour(p.colour) for p in shown])
    opacity = np.array([p.opacity for p in shown])
    metal = np.array([1.0 if p.finish == "metal" else 0.0 for p in shown])
    shape = (height, width)
    nothing = np.full(shape, -np.inf)
    everything = np.full(shape, np.inf)
    front = np.zeros((*shape, 3), dtype=np.float32)
    clear = np.ones(shape, dtype=np.float32)

    def layer(
        batch: _Batch, behind: FloatArray, before: FloatArray, line: float
    ) -> FloatArray | None:
        """Draw the nearest faces between two depths under the picture; their depth, if any."""
        depth = np.full(shape, np.inf)
        face_of = np.full(shape, -1, dtype=np.int32)
        if not kernels.rasterise(batch.xy, batch.z, batch.faces, behind, before, depth, face_of):
            return None
        rgba = np.zeros((*shape, 4), dtype=np.float32)
        ink = np.zeros(shape, dtype=np.float32)
        kernels.shade(
            face_of, batch.xy, batch.faces, batch.part_of, batch.normal, batch.sky, colour,
            opacity, metal, lights(), rgba,
        )  # fmt: skip
        if line > 0.0:
            part_image = np.where(face_of >= 0, batch.part_of[face_of], -1).astype(np.int32)
            kernels.outline(part_image, depth, OUTLINE_JUMP_MM, ink)
        kernels.lay_under(rgba, ink, line, front, clear)
        return depth

    solid = [(n, meshes[p.name]) for n, p in enumerate(shown) if p.opacity >= 1.0]
    glass = [(n, meshes[p.name]) for n, p in enumerate(shown) if p.opacity < 1.0]
    before = everything
    solids = _batch(solid, b, centre, px_per_mm, width, height) if solid else None
    if solids is not None and glass:
        before = np.full(shape, np.inf)
        faces = np.full(shape, -1, dtype=np.int32)
        kernels.rasterise(solids.xy, solids.z, solids.faces, nothing, everything, before, faces)
    if glass:
        batch = _front_faces(_batch(glass, b, centre, px_per_mm, width, height), meshes, shown)
        behind = nothing
        for peel in range(PEELS):
            depth = layer(batch, behind, before, OUTLINE_STRENGTH if peel == 0 else 0.0)
            if depth is None:
                break
            behind = np.where(np.isfinite(depth), depth, behind)
    if solids is not None:
        layer(solids, nothing, everything, OUTLINE_STRENGTH)
    return front + clear[..., None]


def _front_faces(
    batch: _Batch, meshes: Mapping[str, DisplayMesh], shown: Sequence[ScenePart]
) -> _Batch:
    """Without the inner sides of closed bodies: glass bones read better as one shell."""
    a, b, c = (batch.xy[batch.faces[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    closed = np.array([meshes[p.name].closed for p in shown])
    # With y running down the picture, faces that look at the viewer have negative area.
    keep = (area < 0) | ~closed[batch.part_of]
    return replace(batch, faces=batch.faces[keep], part_of=batch.part_of[keep])


def font(size_px: int, bold: bool = False) -> Any:
    """A font that every installation has: DejaVu Sans as shipped with matplotlib."""
    from pathlib import Path

    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size_px)


def nice_length_mm(longest_mm: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not longer than ``longest_mm``."""
    power = 10.0 ** np.floor(np.log10(longest_mm))
    return float(max(f * power for f in (1.0, 2.0, 5.0) if f * power <= longest_mm * (1 + 1e-9)))


def png_bytes(image: Any) -> bytes:
    """PNG of a Pillow image that carries the research-only banner and no date."""
    from PIL.PngImagePlugin import PngInfo

    words = PngInfo()
    words.add_text("Disclaimer", BANNER)
    out = io.BytesIO()
    image.save(out, format="PNG", compress_level=6, pnginfo=words)
    return out.getvalue()


def _annotated(
    pixels: npt.NDArray[np.uint8], view_frame: AxisFrame, b: Basis, px_per_mm: float
) -> bytes:
    """Letters at the four edges and a scale bar."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    w, h = image.size
    text = max(13, w // 48)
    pad = text // 2
    ink = (70, 84, 100)
    for direction, at, anchor in (
        (-b.right, (pad, h // 2), "lm"),
        (b.right, (w - pad, h // 2), "rm"),
        (b.up, (w // 2, pad), "mt"),
        (-b.up, (w // 2, h - pad), "mb"),
    ):
        label = letters(view_frame.axes, direction)
        draw.text(at, label, fill=ink, font=font(text, bold=True), anchor=anchor)
    length = nice_length_mm(0.2 * w / px_per_mm)
    x1, y = w - pad - 2, h - pad - 3
    x0 = x1 - length * px_per_mm
    draw.line([(x0, y), (x1, y)], fill=ink, width=2)
    for x in (x0, x1):
        draw.line([(x, y - 4), (x, y + 4)], fill=ink, width=2)
    small = font(max(11, text * 3 // 4))
    draw.text(((x0 + x1) / 2, y - 6), f"{length:g} mm", fill=ink, font=small, anchor="mb")
    return png_bytes(image)
