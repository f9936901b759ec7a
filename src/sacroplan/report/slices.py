"""CT slices in any direction with contours of what was planned, as PNG.

Grey values are sampled trilinearly on the picture's own pixels, contours are exact sections of the
surfaces, lines are drawn with exact coverage. The letters at the edges name the patient's
directions along the axes of the CT grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.geometry.frames import Axis, FloatArray, Plane, perpendicular, unit
from sacroplan.geometry.volume import Volume
from sacroplan.report import _kernels as kernels
from sacroplan.report.model import Overlay, SliceRequest
from sacroplan.report.render import font, nice_length_mm, png_bytes
from sacroplan.report.views import letters

PIXELS = 440
"""Edge of a slice picture: 0.23 mm a pixel at 50 mm half width, finer than any CT in use."""

LINE_PX = 1.7
"""Width of contours."""

LEVELS = 64
"""Grey levels kept: more than an eye tells apart, and half the file."""

DASH_PX = (9.0, 6.0)
"""Drawn and left out, of a dashed line."""

SLAB_MM = 3.0
"""Lines in space are drawn where they run this near to the picture: an axis must not seem to lie in
a slice that it never meets."""

OUTSIDE = (24, 32, 44)
"""Colour where the picture leaves the CT: a blue that no grey value can be mistaken for."""

_LETTER = (255, 206, 84)


@dataclass(frozen=True, slots=True)
class SlicePicture:
    """A drawn slice with the overlays that really appear in it (label, colour)."""

    request: SliceRequest
    png: bytes
    legend: tuple[tuple[str, str], ...]
    letters: tuple[str, str, str, str]
    """Left, right, upper and lower edge."""


def _dashes(segments: FloatArray) -> FloatArray:
    """Long straight segments (n, 4) in pixels cut into dashes."""
    on, off = DASH_PX
    pieces = []
    for x0, y0, x1, y1 in segments:
        length = float(np.hypot(x1 - x0, y1 - y0))
        if length < 1e-9:
            continue
        start = np.arange(0.0, length, on + off)
        stop = np.minimum(start + on, length)
        d = np.array([x1 - x0, y1 - y0]) / length
        p = np.array([x0, y0])
        pieces.append(np.hstack([p + start[:, None] * d, p + stop[:, None] * d]))
    return np.concatenate(pieces) if pieces else np.empty((0, 4))


def _in_slab(line: FloatArray, normal: FloatArray) -> FloatArray:
    """Pieces (n, 2, 3) of a polyline (m, 3) no further than :data:`SLAB_MM` from the picture."""
    a, b = line[:-1], line[1:]
    da, db = a @ normal, b @ normal
    rise = np.where(np.abs(db - da) < 1e-12, 1e-12, db - da)
    t = np.sort(np.stack([(-SLAB_MM - da) / rise, (SLAB_MM - da) / rise]), axis=0).clip(0.0, 1.0)
    keep = (t[1] > t[0]) & (np.minimum(np.abs(da), np.abs(db)) < SLAB_MM) | (da * db < 0)
    step = b - a
    pieces = np.stack([a + t[0][:, None] * step, a + t[1][:, None] * step], axis=1)
    return np.asarray(pieces[keep])


def _clipped(segments: FloatArray, size: int) -> FloatArray:
    """Segments that can touch the picture."""
    if not len(segments):
        return segments
    low = np.minimum(segments[:, :2], segments[:, 2:])
    high = np.maximum(segments[:, :2], segments[:, 2:])
    return segments[np.all((high >= -4) & (low <= size + 4), axis=1)]


def _segments(overlay: Overlay, request: SliceRequest, size: int) -> FloatArray:
    """(n, 4) line segments of an overlay in pixels."""
    px = size / (2.0 * request.half_width_mm)
    uv = np.column_stack([request.u, request.v])
    shift = 0.5 * size - 0.5

    if overlay.surface is not None:
        v = overlay.surface.vertices - request.centre
        distance = v @ np.cross(request.u, request.v)
        points = v @ uv * px + shift
        out = np.empty((len(overlay.surface.faces), 4))
        n = kernels.crossing_segments(distance, points, overlay.surface.faces, out)
        return out[:n]
    if overlay.polyline is not None:
        line = _in_slab(overlay.polyline - request.centre, np.cross(request.u, request.v))
        return (line @ uv * px + shift).reshape(-1, 4)
    plane = overlay.plane
    assert plane is not None  # Overlay holds exactly one shape.
    along = np.cross(plane.normal, np.cross(request.u, request.v))
    if float(np.linalg.norm(along)) < 1e-6:
        return np.empty((0, 4))  # parallel to the picture: no trace
    normal_uv = plane.normal @ uv
    foot = -float(plane.distance(request.centre)) * normal_uv / float(normal_uv @ normal_uv)
    direction = unit(along) @ uv
    reach = 3.0 * request.half_width_mm
    ends = np.concatenate([foot - reach * direction, foot + reach * direction]) * px + shift
    return ends[None]


def resliced(volume: Volume, request: SliceRequest, size: int = PIXELS) -> npt.NDArray[np.float32]:
    """HU (size, size) of the picture, rows down; not-a-number outside the CT."""
    g = volume.geometry
    mm = 2.0 * request.half_width_mm / size
    corner = request.centre - (0.5 * size - 0.5) * mm * (request.u + request.v)
    per_mm = g.direction / g.spacing_mm
    out = np.empty((size, size), dtype=np.float32)
    kernels.reslice(
        volume.data, g.to_index(corner), (request.u * mm) @ per_mm, (request.v * mm) @ per_mm,
        np.nan, out,
    )  # fmt: skip
    return out


def _rgb(colour: str) -> npt.NDArray[np.float64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)


def draw(volume: Volume, request: SliceRequest, size: int = PIXELS) -> SlicePicture:
    """The slice as a PNG of ``size`` x ``size`` pixels with contours, letters and scale bar."""
    from PIL import Image

    hu = resliced(volume, request, size)
    centre = evidence.value("SP-REPORT-01", "centre")
    width = evidence.value("SP-REPORT-01", "width")
    outside = np.isnan(hu)
    share = np.clip((np.where(outside, 0.0, hu) - centre) / width + 0.5, 0.0, 1.0)
    grey = np.round(share * (LEVELS - 1)) * (255.0 / (LEVELS - 1))
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[outside] = OUTSIDE
    legend: list[tuple[str, str]] = []
    for overlay in request.overlays:
        segments = _segments(overlay, request, size)
        colour = _rgb(overlay.colour)
        if overlay.fill > 0.0 and overlay.surface is not None and len(segments):
            filled = np.zeros((size, size), dtype=np.uint8)
            kernels.inside(segments, filled)
            tint = overlay.fill * filled[..., None]
            picture = picture * (1.0 - tint) + colour * tint
        segments = _clipped(segments, size)
        if overlay.dashed:
            segments = _clipped(_dashes(segments), size)
        cover = np.zeros((size, size), dtype=np.float32)
        kernels.stroke(segments, LINE_PX, cover)
        if not cover.any():
            continue
        picture = picture * (1.0 - cover[..., None]) + colour * cover[..., None]
        if (overlay.label, overlay.colour) not in legend:
            legend.append((overlay.label, overlay.colour))
    image = Image.fromarray(np.round(picture).astype(np.uint8))
    axes = volume.geometry.direction
    edges = tuple(letters(axes, d) for d in (-request.u, request.u, -request.v, request.v))
    _annotate(image, edges, size / (2.0 * request.half_width_mm))
    return SlicePicture(request, png_bytes(image), tuple(legend), edges)  # type: ignore[arg-type]


def _annotate(image: Any, edges: Iterable[str], px_per_mm: float) -> None:
    """Letters at the edges and a scale bar, with a dark rim so that they show on bone too."""
    from PIL import ImageDraw

    draw_on = ImageDraw.Draw(image)
    size = image.size[0]
    big, small = font(max(11, size // 28), bold=True), font(max(9, size // 38))
    places = (
        ((5, size // 2), "lm"), ((size - 5, size // 2), "rm"),
        ((size // 2, 4), "mt"), ((size // 2, size - 4), "mb"),
    )  # fmt: skip
    rim: dict[str, Any] = {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    for (at, anchor), text in zip(places, edges, strict=True):
        draw_on.text(at, text, fill=_LETTER, font=big, anchor=anchor, **rim)
    length = nice_length_mm(0.24 * size / px_per_mm)
    x1, y = size - 8, size - 9
    x0 = x1 - length * px_per_mm
    for colour, wide in (((0, 0, 0), 5), ((255, 255, 255), 2)):
        draw_on.line([(x0, y), (x1, y)], fill=colour, width=wide)
    for x in (x0, x1):
        draw_on.line([(x, y - 4), (x, y + 4)], fill=(255, 255, 255), width=2)
    label = f"{length:g} mm"
    white = (255, 255, 255)
    draw_on.text(((x0 + x1) / 2, y - 6), label, fill=white, font=small, anchor="mb", **rim)


def standard(
    volume: Volume,
    centre: npt.ArrayLike,
    half_width_mm: float,
    group: str,
    overlays: tuple[Overlay, ...],
    title: str = "",
) -> tuple[SliceRequest, SliceRequest, SliceRequest]:
    """Axial, sagittal and coronal slices of the CT grid through ``centre`` (3,), LPS mm.

    Axial and coronal pictures have the patient's left on the right-hand side, sagittal ones the
    patient's front on the left-hand side.
    """
    left, back, up = _orthonormal(volume)
    prefix = f"{title}, " if title else ""
    c = np.asarray(centre, dtype=np.float64)
    return (
        SliceRequest(f"{prefix}axial", c, left, back, half_width_mm, group, overlays),
        SliceRequest(f"{prefix}sagittal", c, back, -up, half_width_mm, group, overlays),
        SliceRequest(f"{prefix}coronal", c, left, -up, half_width_mm, group, overlays),
    )


def _orthonormal(volume: Volume) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Unit left, posterior and superior of the grid, at right angles to the last digit."""
    left = unit(volume.geometry.direction[:, 0])
    back = volume.geometry.direction[:, 1]
    back = unit(back - (back @ left) * left)
    return left, back, np.cross(left, back)


def along_axis(
    volume: Volume,
    axis: Axis,
    length_mm: float,
    group: str,
    overlays: tuple[Overlay, ...],
    title: str = "",
    half_width_mm: float | None = None,
) -> tuple[SliceRequest, ...]:
    """Slices along and across a screw that runs from ``axis.point`` for ``length_mm``.

    Two pictures contain the axis (one as near to axial, one as near to sagittal or coronal as it
    can be); one lies across it at the middle. Directions follow the CT grid, so a moved case gives
    the same pictures.
    """
    left, back, up = _orthonormal(volume)
    d = axis.direction
    half = half_width_mm or 0.5 * length_mm + 15.0
    middle = np.asarray(axis.at(0.5 * length_mm))
    prefix = f"{title}, " if title else ""
    # The picture's right and down are the grid directions nearest to what a reader expects.
    lead = up if abs(float(up @ d)) < np.cos(np.radians(6.0)) else back
    side = unit(lead - (lead @ d) * d)
    flat = unit(np.cross(d, side))
    views = []
    for other, name in ((flat, "along, level"), (side, "along, upright")):
        u, v = _upright(d, other, (left, back, up))
        views.append(SliceRequest(f"{prefix}{name}", middle, u, v, half, group, overlays))
    u, v = _upright(flat, side, (left, back, up))
    views.append(
        SliceRequest(f"{prefix}across, middle", middle, u, v, min(half, 30.0), group, overlays)
    )
    return tuple(views)


def _upright(
    a: FloatArray, b: FloatArray, grid: tuple[FloatArray, FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Directions right and down in the plane of ``a`` and ``b`` that read like a standard slice.

    Down is the plane's steepest descent to inferior where the plane stands, else to posterior;
    right is then chosen towards the patient's left, or to posterior where left is seen end-on.
    """
    left, back, up = grid
    normal = unit(np.cross(a, b))
    standing = abs(float(normal @ up)) < np.sqrt(0.5)
    wanted = -up if standing else back
    v = unit(wanted - (wanted @ normal) * normal)
    u = np.cross(v, normal)
    lead = left if abs(float(u @ left)) >= abs(float(u @ back)) else back
    return (u if float(u @ lead) > 0 else -u), v


def across_plane(
    volume: Volume,
    plane: Plane,
    centre: npt.ArrayLike,
    half_width_mm: float,
    group: str,
    overlays: tuple[Overlay, ...],
    title: str = "",
) -> tuple[SliceRequest, ...]:
    """Axial, sagittal and coronal slices through a cut, its trace dashed, and the cut itself."""
    trace = Overlay("cut", "#ff5d5d", plane=plane, dashed=True)
    c = np.asarray(centre, dtype=np.float64)
    c = c - float(plane.distance(c)) * plane.normal
    grid = _orthonormal(volume)
    a = perpendicular(plane.normal)
    u, v = _upright(a, np.cross(plane.normal, a), grid)
    prefix = f"{title}, " if title else ""
    face = SliceRequest(f"{prefix}in the cut", c, u, v, half_width_mm, group, overlays)
    return (*standard(volume, c, half_width_mm, group, (*overlays, trace), title), face)
