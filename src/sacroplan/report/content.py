"""The dossier as plain words, numbers and picture names, from which both HTML and PDF are set.

One source for both faces: a figure that stands in one stands in the other, in the same digits.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.evidence import FLAGS, REJECTING_FLAGS
from sacroplan.progress import Progress, part, silent
from sacroplan.report.model import Dossier, Preset, ScenePart, Section, SliceRequest, View
from sacroplan.report.render import render
from sacroplan.report.scene import DisplayMesh
from sacroplan.report.slices import draw
from sacroplan.report.text import VERDICTS, FigureRow, citations, figure_rows, number

STILL_SIZE = (1000, 760)
"""Pixels of the standard renderings: 150 dots per inch across a page of A4."""

VIEW_SIZE = (900, 680)
"""Pixels of a section's renderings, two to a line."""

STILLS: tuple[tuple[Preset, str], ...] = (
    ("front", "From the front"),
    ("back", "From the back"),
    ("left", "From the patient's left"),
    ("right", "From the patient's right"),
    ("top", "From the head"),
    ("bottom", "From the feet"),
    ("oblique", "From the front, left and above"),
)
"""Every direction, for readers without the 3D scene."""


@dataclass(frozen=True, eq=False)
class Content:
    """``data``: what the templates print; ``pictures``: PNG by file name."""

    data: Mapping[str, Any]
    pictures: Mapping[str, bytes]


def slug(text: str) -> str:
    """A file name from a title."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "picture"


def png_size(png: bytes) -> tuple[int, int]:
    """Width and height in the header of a PNG."""
    width, height = struct.unpack(">II", png[16:24])
    return int(width), int(height)


class _Album:
    """Pictures under file names that never collide, in the order of their making."""

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}

    def add(self, name: str, png: bytes) -> dict[str, Any]:
        file, n = f"{name}.png", 2
        while file in self.pictures:
            file, n = f"{name}-{n}.png", n + 1
        self.pictures[file] = png
        width, height = png_size(png)
        return {"file": file, "width": width, "height": height}


def parts_of(view: View, scene: Sequence[ScenePart]) -> list[ScenePart]:
    """The scene's parts as ``view`` shows them, hidden ones switched off."""
    opacity = dict(view.opacity)
    out = []
    for p in scene:
        on = p.name in view.show or p.group in view.show if view.show else p.visible
        # A part's own name is more specific than its group's.
        alpha = opacity.get(p.name, opacity.get(p.group, p.opacity))
        out.append(replace(p, visible=on, opacity=alpha))
    return out


def _view_link(view: View) -> str:
    words = [f"view={view.preset}"]
    if view.show:
        words.append(f"only={','.join(view.show)}")
    if view.opacity:
        words.append("opacity=" + ",".join(f"{n}:{a:g}" for n, a in view.opacity))
    if view.focus:
        words.append(f"focus={','.join(view.focus)}")
    return "&".join(words)


def _flags(rows: Iterable[str]) -> list[list[str]]:
    return [[r, evidence.get(r).flag] for r in rows]


def _doubt(d: Doubt, anchor: str = "", section: str = "") -> dict[str, Any]:
    return {
        "trade": d.trade, "code": d.code, "message": d.message, "rows": _flags(d.rows),
        "anchor": anchor, "section": section,
    }  # fmt: skip


def _doubts(dossier: Dossier) -> list[dict[str, Any]]:
    """All doubts, each with the first section that repeats it."""
    place = {d: (s.anchor, s.title) for s in reversed(dossier.sections) for d in s.doubts}
    return [_doubt(d, *place.get(d, ("", ""))) for d in dossier.all_doubts]


def _rows(rows: Iterable[FigureRow]) -> list[dict[str, Any]]:
    return [asdict(r) for r in rows]


def _slices(
    dossier: Dossier, requests: Sequence[SliceRequest], album: _Album, progress: Progress
) -> list[dict[str, Any]]:
    """Slice pictures under their groups, groups in the order of their first picture."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for n, request in enumerate(requests):
        progress(n / len(requests), f"slice {request.group}: {request.title}")
        assert dossier.volume is not None  # Dossier refuses slices without a CT.
        picture = draw(dossier.volume, request)
        entry = album.add(f"slice-{slug(f'{request.group} {request.title}')}", picture.png)
        entry |= {
            "title": request.title,
            "caption": request.caption,
            "legend": [list(item) for item in picture.legend],
        }
        groups.setdefault(request.group, []).append(entry)
    return [{"title": g, "slices": entries} for g, entries in groups.items()]


def _section(
    dossier: Dossier,
    s: Section,
    meshes: Mapping[str, DisplayMesh],
    album: _Album,
    progress: Progress,
) -> dict[str, Any]:
    pictures = []
    for n, view in enumerate(s.views):
        progress(0.5 * n / len(s.views), f"picture {view.title}")
        shown = parts_of(view, dossier.scene)
        focus = [p.name for p in shown if p.name in view.focus or p.group in view.focus]
        png = render(shown, dossier.view_frame, VIEW_SIZE, view.preset, meshes, focus)
        pictures.append(
            album.add(f"view-{slug(view.name)}", png)
            | {"title": view.title, "caption": view.caption, "link": _view_link(view)}
        )
    for p in s.pictures:
        entry = album.add(f"picture-{slug(p.name)}", p.png)
        pictures.append(entry | {"title": p.title, "caption": p.caption, "link": ""})
    return {
        "title": s.title,
        "anchor": s.anchor,
        "text": list(s.text),
        "doubts": [_doubt(d) for d in s.doubts],
        "figures": _rows(figure_rows(s.figures)),
        "tables": [asdict(t) for t in s.tables],
        "pictures": pictures,
        "slice_groups": _slices(dossier, s.slices, album, part(progress, 0.5, 1.0)),
    }


def _cited(dossier: Dossier) -> list[str]:
    figures = [s.figures for s in dossier.sections] + [p.figures for p in dossier.scene]
    rows = [r for f in figures for m in f.values() for r in m.rows]
    rows += [r for d in dossier.all_doubts for r in d.rows]
    if dossier.slices or any(s.slices for s in dossier.sections):
        rows.append("SP-REPORT-01")
    return rows


def _display_note(meshes: Mapping[str, DisplayMesh]) -> str:
    faces = sum(len(m.faces) for m in meshes.values())
    coarsest = max(m.tolerance_mm for m in meshes.values())
    count = number(faces, "count")
    return (
        f"Surfaces are simplified for display, nowhere by more than {coarsest:g} mm "
        f"({count} triangles); figures and print files come from the full surfaces."
    )


def build(
    dossier: Dossier, meshes: Mapping[str, DisplayMesh], progress: Progress = silent
) -> Content:
    """Draw all pictures and put everything into words.

    Raises
    ------
    EvidenceError : a figure or a doubt cites a row that does not exist.
    """
    album = _Album()
    cited = citations(_cited(dossier))
    stills = []
    for n, (preset, title) in enumerate(STILLS):
        progress(0.3 * n / len(STILLS), f"picture {title.lower()}")
        if not any(p.visible for p in dossier.scene):
            break
        png = render(dossier.scene, dossier.view_frame, STILL_SIZE, preset, meshes)
        stills.append(
            album.add(f"scene-{preset}", png)
            | {"title": title, "caption": "", "preset": preset, "link": ""}
        )
    sections = []
    for n, s in enumerate(dossier.sections):
        span = 0.3 + 0.5 * n / len(dossier.sections), 0.3 + 0.5 * (n + 1) / len(dossier.sections)
        sections.append(_section(dossier, s, meshes, album, part(progress, *span)))
    loose = _slices(dossier, dossier.slices, album, part(progress, 0.8, 1.0))
    rows = [r for s in dossier.sections for r in figure_rows(s.figures)]
    contents = [
        {"anchor": "summary", "title": "Summary", "doubts": 0},
        {"anchor": "doubts", "title": "Doubts", "doubts": len(dossier.all_doubts)},
        {"anchor": "scene-section", "title": "Scene", "doubts": 0},
        *(
            {"anchor": s.anchor, "title": s.title, "doubts": len(s.doubts)}
            for s in dossier.sections
        ),
        *([{"anchor": "slices", "title": "CT slices", "doubts": 0}] if loose else []),
        {"anchor": "evidence", "title": "Evidence", "doubts": 0},
        {"anchor": "provenance", "title": "Provenance", "doubts": 0},
    ]
    centre = evidence.value("SP-REPORT-01", "centre")
    width = evidence.value("SP-REPORT-01", "width")
    data = {
        "case_id": dossier.case_id,
        "title": dossier.title,
        "banner": dossier.banner,
        "summary": list(dossier.summary),
        "counts": {
            v: sum(r.verdict == v for r in rows) for v in ("met", "violated", "doubtful", "unknown")
        },
        "outside": _rows(r for r in rows if r.verdict in ("violated", "doubtful")),
        "doubts": _doubts(dossier),
        "stills": stills,
        "sections": sections,
        "slice_groups": loose,
        "slice_note": (
            f"Window: centre {centre:g} HU, width {width:g} HU. Letters name the patient's "
            "directions along the axes of the CT; blue-black lies outside the CT."
        ),
        "contents": contents,
        "frame_name": dossier.view_frame.name,
        "display_note": _display_note(meshes),
        "citations": [asdict(c) for c in cited],
        "flags": dict(FLAGS),
        "used_flags": [[f, FLAGS[f]] for f in FLAGS if any(c.flag == f for c in cited)],
        "rejecting": ", ".join(f for f in FLAGS if f in REJECTING_FLAGS),
        "verdicts": dict(VERDICTS),
        "provenance": [asdict(r) for r in dossier.provenance],
        "inputs": [asdict(i) for i in dossier.inputs],
        "versions": [list(v) for v in dossier.versions],
    }
    return Content(data, album.pictures)
