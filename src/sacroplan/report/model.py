"""What a dossier consists of: plain frozen records that the case fills and the report draws.

Nothing here computes; the records only check that they can be shown (names are unique, colours are
colours, everything lies in one coordinate frame). Lengths are mm, positions LPS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER
from sacroplan.errors import Doubt, SacroplanError
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, readonly, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume
from sacroplan.metrics import Metrics

Finish = Literal["matt", "metal"]
"""How a part reflects light: bone, tumour, nylon / titanium."""

Preset = Literal["front", "back", "left", "right", "top", "bottom", "oblique"]
"""Where the viewer stands, in the patient's terms: at the patient's front, left side, head ..."""

PRESETS: tuple[Preset, ...] = get_args(Preset)

Origin = Literal["automatic", "user", "input"]
"""Who decided: the program, the user in case.toml or 3D Slicer, or the data as delivered."""

FRAME_AGREEMENT = 0.5
"""Least cosine between a view axis and the CT's own axis of the same name. A pelvis tilted 60
degrees in the scanner still passes; two exchanged or reversed axes never do."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class ReportError(SacroplanError):
    """A dossier cannot be drawn from what it was given."""


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise ReportError(
            f"{what} is called {name!r}; it becomes a file name and a link, so use letters, "
            "digits, '_', '-' and '.' only."
        )


def _check_colour(colour: str, what: str) -> None:
    if not _COLOUR.fullmatch(colour):
        raise ReportError(f"The colour of {what} is {colour!r}; write it as '#rrggbb'.")


def _check_unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ReportError(f"Two {what} of the dossier are called {name!r}; names are unique.")
        seen.add(name)


@dataclass(frozen=True, eq=False)
class ScenePart:
    """One body of the 3D scene.

    Attributes
    ----------
    name : unique, letters, digits, ``_ - .``; used in links (``#hide=hip_left``) and file names.
    title : what a reader calls it.
    group : heading it is switched with, e.g. ``"bones"``, ``"implant"``, ``"screws"``.
    surface : LPS mm; need not be closed, but a closed one is capped where the clip plane cuts it.
    colour : ``"#rrggbb"``.
    opacity : 0 to 1.
    visible : whether it is on when the report opens and in the pictures.
    note : one sentence shown when the part is clicked.
    figures : figures shown when the part is clicked.
    finish : matt or metal.
    """

    name: str
    title: str
    group: str
    surface: Surface
    colour: str
    opacity: float = 1.0
    visible: bool = True
    note: str = ""
    figures: Metrics = field(default_factory=dict)
    finish: Finish = "matt"

    def __post_init__(self) -> None:
        _check_name(self.name, "A part of the scene")
        _check_colour(self.colour, f"part {self.name!r}")
        if not 0.0 < self.opacity <= 1.0:
            raise ReportError(
                f"Part {self.name!r} has opacity {self.opacity:g}; it must lie above 0 and up to 1 "
                "(set visible=False to switch it off)."
            )
        if not len(self.surface.faces):
            raise ReportError(f"Part {self.name!r} of the scene has no faces; leave it out.")

    @property
    def frame(self) -> str:
        """Name of the coordinate frame."""
        return self.surface.frame


@dataclass(frozen=True, eq=False)
class Overlay:
    """Something drawn over a CT slice: a surface's contour, a line in space, or a plane's trace.

    Exactly one of ``surface``, ``polyline`` (n, 3) LPS mm and ``plane`` is given. A polyline is
    drawn where it runs within 3 mm of the picture. ``fill`` (0 to 1) tints the inside of a closed
    surface.
    """

    label: str
    colour: str
    surface: Surface | None = None
    polyline: FloatArray | None = None
    plane: Plane | None = None
    dashed: bool = False
    fill: float = 0.0
    frame: str = ""

    def __post_init__(self) -> None:
        _check_colour(self.colour, f"overlay {self.label!r}")
        given = [x for x in (self.surface, self.polyline, self.plane) if x is not None]
        if len(given) != 1:
            raise ReportError(
                f"Overlay {self.label!r} holds {len(given)} shapes; give exactly one of surface, "
                "polyline and plane."
            )
        if not 0.0 <= self.fill <= 1.0:
            raise ReportError(f"Overlay {self.label!r}: fill must lie in [0, 1].")
        if self.polyline is not None:
            line = np.array(self.polyline, dtype=np.float64).reshape(-1, 3)
            object.__setattr__(self, "polyline", readonly(line))
        for shape in (self.surface, self.plane):
            if shape is not None and not self.frame:
                object.__setattr__(self, "frame", shape.frame)


@dataclass(frozen=True, eq=False)
class SliceRequest:
    """A square CT picture: ``centre`` (3,), ``u`` (3,) to the right, ``v`` (3,) down, LPS mm.

    ``u`` and ``v`` are at right angles; the picture reaches ``half_width_mm`` from its centre.
    ``group`` gathers pictures under one heading, e.g. ``"screw L4_left"``.
    """

    title: str
    centre: FloatArray
    u: FloatArray
    v: FloatArray
    half_width_mm: float
    group: str
    overlays: tuple[Overlay, ...] = ()
    caption: str = ""

    def __post_init__(self) -> None:
        centre = np.array(self.centre, dtype=np.float64).reshape(3)
        u, v = unit(self.u), unit(self.v)
        if abs(float(u @ v)) > 1e-6:
            raise ReportError(f"Slice {self.title!r}: u and v are not at right angles.")
        if not (np.isfinite(self.half_width_mm) and self.half_width_mm > 0):
            raise ReportError(f"Slice {self.title!r}: half_width_mm must be above zero.")
        object.__setattr__(self, "centre", readonly(centre))
        object.__setattr__(self, "u", readonly(u))
        object.__setattr__(self, "v", readonly(v))


@dataclass(frozen=True, slots=True)
class Table:
    """A table of words and numbers already put into words; every row is as long as ``columns``."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ReportError(
                    f"Table {self.title!r} has {len(self.columns)} columns, but one of its rows "
                    f"has {len(row)} cells: {row}."
                )


@dataclass(frozen=True, eq=False)
class View:
    """A rendering of the scene for a section.

    ``show`` lists parts or groups (none means all parts that are visible by default); ``opacity``
    overrides parts or groups by name; ``focus`` lists what the picture is framed on.
    """

    name: str
    title: str
    preset: Preset = "front"
    show: tuple[str, ...] = ()
    opacity: tuple[tuple[str, float], ...] = ()
    focus: tuple[str, ...] = ()
    caption: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name, "A view")
        if self.preset not in PRESETS:
            raise ReportError(f"View {self.name!r}: {self.preset!r} is not one of {PRESETS}.")


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished PNG (a plot, say) for a section."""

    name: str
    title: str
    png: bytes
    caption: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name, "A picture")
        if not self.png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ReportError(f"Picture {self.name!r} is not a PNG.")


@dataclass(frozen=True, eq=False)
class Section:
    """A chapter. Its doubts stand right under its heading, above text, figures and pictures."""

    title: str
    anchor: str
    text: tuple[str, ...] = ()
    figures: Metrics = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    views: tuple[View, ...] = ()
    slices: tuple[SliceRequest, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.anchor, f"The anchor of section {self.title!r}")


@dataclass(frozen=True, slots=True)
class StageRow:
    """Where a result came from. No seconds and no dates: the same input gives the same bytes."""

    stage: str
    origin: Origin
    key: str
    inputs: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input and its SHA-256."""

    path: str
    sha256: str
    what: str = ""


@dataclass(frozen=True, eq=False)
class Dossier:
    """Everything the dossier shows.

    Attributes
    ----------
    case_id, title, summary : header; ``summary`` is a few paragraphs.
    sections : chapters in the order in which they are read.
    scene : bodies of the 3D scene.
    view_frame : columns of ``axes`` are the patient's **left, posterior, superior in the pelvic
        orientation**; presets and the letters of the 3D scene follow it. Use :func:`view_frame`
        for a frame in the ISB convention.
    volume : the CT behind the slices; None where there is none (then no slice may be asked for).
    slices : pictures that belong to no section.
    doubts : all doubts of the case, also those the sections repeat.
    provenance, inputs, versions : for the last chapter.
    banner : the research-only words (HANDBOOK section 13).
    """

    case_id: str
    title: str
    summary: tuple[str, ...]
    sections: tuple[Section, ...]
    scene: tuple[ScenePart, ...]
    view_frame: AxisFrame
    volume: Volume | None = None
    slices: tuple[SliceRequest, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    provenance: tuple[StageRow, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    banner: str = BANNER

    def __post_init__(self) -> None:
        if not self.scene:
            raise ReportError("The dossier's scene is empty; it needs at least one part to show.")
        _check_unique((p.name for p in self.scene), "parts")
        _check_unique((s.anchor for s in self.sections), "sections")
        _check_unique((v.name for s in self.sections for v in s.views), "views")
        _check_unique((p.name for s in self.sections for p in s.pictures), "pictures")
        requests = self.slices + tuple(r for s in self.sections for r in s.slices)
        same_frame(
            self.view_frame,
            *self.scene,
            *([self.volume] if self.volume is not None else []),
            *(o for r in requests for o in r.overlays if o.frame),
        )
        if requests and self.volume is None:
            raise ReportError(f"{len(requests)} CT slices were asked for, but there is no CT.")
        if self.volume is not None:
            self._check_view(self.volume)
        names = {p.name for p in self.scene} | {p.group for p in self.scene}
        for view in (v for s in self.sections for v in s.views):
            wanted = (*view.show, *view.focus, *(n for n, _ in view.opacity))
            unknown = [n for n in wanted if n not in names]
            if unknown:
                raise ReportError(
                    f"View {view.name!r} names {unknown[0]!r}, which is neither a part nor a "
                    f"group of the scene; there are {sorted(names)}."
                )

    def _check_view(self, volume: Volume) -> None:
        agreement = np.diag(self.view_frame.axes.T @ volume.geometry.direction)
        if np.any(agreement < FRAME_AGREEMENT):
            raise ReportError(
                "The dossier's view frame does not point to the patient's left, posterior and "
                "superior: the cosines with the CT's own axes are "
                f"{np.round(agreement, 2).tolist()}. Convert an ISB frame with view_frame()."
            )

    @property
    def all_doubts(self) -> tuple[Doubt, ...]:
        """Doubts of the case and its sections, each once, in the order of appearance."""
        return tuple(dict.fromkeys((*self.doubts, *(d for s in self.sections for d in s.doubts))))


def view_frame(isb: AxisFrame) -> AxisFrame:
    """A frame with x anterior, y cranial, z right (FRM-1) as the left-posterior-superior one."""
    anterior, cranial, right = isb.axes.T
    axes = np.column_stack([-right, -anterior, cranial])
    return AxisFrame(f"{isb.name} (left, posterior, superior)", isb.origin, axes, isb.frame)


def grid_frame(volume: Volume) -> AxisFrame:
    """The CT's own axes as a view frame, for a case without pelvic landmarks."""
    g = volume.geometry
    q, r = np.linalg.qr(g.direction)
    axes: npt.NDArray[np.float64] = q * np.sign(np.diag(r))
    centre = g.to_world((np.array(g.shape) - 1) / 2.0)
    return AxisFrame("CT grid (left, posterior, superior)", centre, axes, g.frame)
