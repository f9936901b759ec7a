"""report.pdf: the dossier on paper, set by typst with fonts that come in wheels.

typst reads the same content as the HTML from a JSON file; words reach the page as strings, never as
markup. No date is written, so the same input gives the same bytes.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sacroplan.report.content import Content
from sacroplan.report.html import template
from sacroplan.report.model import ReportError


def render_pdf(content: Content) -> bytes:
    """The PDF; raises :class:`ReportError` with typst's own words when it cannot be set."""
    import matplotlib
    import typst

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    with tempfile.TemporaryDirectory(prefix="sacroplan-") as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        for file, png in content.pictures.items():
            (folder / "pictures" / file).write_bytes(png)
        (folder / "content.json").write_text(json.dumps(content.data), "utf-8")
        (folder / "report.typ").write_text(template("report.typ"), "utf-8")
        try:
            pdf = typst.compile(
                str(folder / "report.typ"),
                root=str(folder),
                font_paths=[str(fonts)],
                ignore_system_fonts=True,
            )
        except typst.TypstError as error:
            raise ReportError(f"report.pdf could not be set: {error}") from error
    return bytes(pdf)
