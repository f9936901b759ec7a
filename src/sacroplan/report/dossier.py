"""Write a dossier: report.html, report.pdf and the pictures in them."""

from __future__ import annotations

from pathlib import Path

from sacroplan.formats.atomic import replaced_folder, write_bytes
from sacroplan.progress import Progress, part, silent
from sacroplan.report.content import build
from sacroplan.report.html import render_html
from sacroplan.report.model import Dossier
from sacroplan.report.pdf import render_pdf
from sacroplan.report.scene import display_meshes


def write(dossier: Dossier, folder: Path, progress: Progress = silent) -> list[Path]:
    """Write ``report.html``, ``report.pdf`` and ``pictures/*.png`` into ``folder``; their paths.

    The same dossier gives the same bytes. Files appear whole or not at all; an older
    ``pictures`` folder is replaced as one.

    Raises
    ------
    EvidenceError : a row is cited that does not exist. FormatError : the folder cannot be written.
    ReportError : a picture or the PDF cannot be made.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    meshes = display_meshes(dossier.scene, part(progress, 0.0, 0.3))
    content = build(dossier, meshes, part(progress, 0.3, 0.8))
    progress(0.8, "writing report.html")
    html = render_html(dossier, content, meshes)
    progress(0.85, "setting report.pdf")
    pdf = render_pdf(content)
    with replaced_folder(folder / "pictures") as pictures:
        for name, png in content.pictures.items():
            (pictures / name).write_bytes(png)
    write_bytes(folder / "report.html", html.encode("utf-8"))
    write_bytes(folder / "report.pdf", pdf)
    progress(1.0, "dossier written")
    files = [folder / "report.html", folder / "report.pdf"]
    return files + [folder / "pictures" / name for name in content.pictures]
