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


def drawn(dossier: Dossier, progress: Progress = silent) -> dict[str, bytes]:
    """The files of a dossier by relative name: ``report.html``, ``report.pdf``, ``pictures/*.png``.

    The same dossier gives the same bytes.

    Raises
    ------
    EvidenceError : a row is cited that does not exist. ReportError : a picture or the PDF cannot be
    made.
    """
    meshes = display_meshes(dossier.scene, part(progress, 0.0, 0.3))
    content = build(dossier, meshes, part(progress, 0.3, 0.8))
    progress(0.8, "report.html")
    files = {"report.html": render_html(dossier, content, meshes).encode("utf-8")}
    progress(0.9, "report.pdf")
    files["report.pdf"] = render_pdf(content)
    return files | {f"pictures/{name}": png for name, png in content.pictures.items()}


def write(dossier: Dossier, folder: Path, progress: Progress = silent) -> list[Path]:
    """Write the files of :func:`drawn` into ``folder``; their paths.

    Files appear whole or not at all; an older ``pictures`` folder is replaced as one.

    Raises
    ------
    EvidenceError, ReportError : as :func:`drawn`. FormatError : the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = drawn(dossier, part(progress, 0.0, 0.95))
    with replaced_folder(folder / "pictures") as pictures:
        for name, data in files.items():
            if name.startswith("pictures/"):
                (pictures / Path(name).name).write_bytes(data)
    for name in ("report.html", "report.pdf"):
        write_bytes(folder / name, files[name])
    progress(1.0, "dossier written")
    return [folder / name for name in files]
