from __future__ import annotations

import html as html_lib
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import dossier

from sacroplan.banner import BANNER
from sacroplan.errors import Doubt, EvidenceError
from sacroplan.report.dossier import write

NASTY = '<script>alert(1)</script> & "q" #strong[x] $y$ {{ z }} </textarea>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dossier")
    write(dossier(NASTY), out)
    return out


def page(folder: Path) -> str:
    return (folder / "report.html").read_text("utf-8")


def test_the_files_are_listed_and_there(tmp_path: Path) -> None:
    steps: list[float] = []
    files = write(dossier(), tmp_path, lambda fraction, _: steps.append(fraction))
    assert {f.name for f in files} >= {"report.html", "report.pdf", "scene-front.png"}
    assert all(f.is_file() and f.stat().st_size > 500 for f in files)
    on_disk = {f for f in tmp_path.rglob("*") if f.is_file()}
    assert on_disk == set(files)
    assert steps == sorted(steps)
    assert steps[-1] == 1.0


def test_the_same_dossier_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for file in write(dossier(NASTY), tmp_path):
        assert file.read_bytes() == (folder / file.relative_to(tmp_path)).read_bytes(), file.name


def test_nothing_is_fetched(folder: Path) -> None:
    text = page(folder)
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//""", text)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)
    assert "default-src 'none'" in text
    for source in re.findall(r'src="([^"]{0,30})', text):
        assert source.startswith("data:image/png;base64,")


def test_words_are_never_markup(folder: Path) -> None:
    text = page(folder)
    assert "<script>alert" not in text
    assert "</textarea>" not in text
    assert text.count(html_lib.escape(NASTY, quote=False).replace('"', "&#34;")) >= 6
    # The viewer's header cannot end its own element.
    assert text.count("</script>") == 3


def test_figures_limits_verdicts_and_evidence_stand_in_the_page(folder: Path) -> None:
    text = page(folder)
    for name, value, verdict in (
        ("a.met", "14.24", "met"),
        ("a.doubtful", "3.10", "doubtful"),
        ("a.unknown", "unknown", "unknown"),
    ):
        row = re.search(rf'<tr class="{verdict}" data-figure="{name}">.*?</tr>', text, re.S)
        assert row is not None, name
        assert value in row.group(0)
    assert "≥ 10.00" in text
    assert 'href="#ev-GDE-05"' in text
    assert text.count('id="ev-GDE-05"') == 1
    # Rows cited by a part of the scene are in the register too.
    assert text.count('id="ev-CT-01"') == 1
    for anchor in re.findall(r'href="#([A-Za-z][^"=&]*)"', text):
        assert f'id="{anchor}"' in text, anchor


def test_doubts_stand_in_the_list_and_beside_what_they_concern(folder: Path) -> None:
    text = page(folder)
    assert text.count('data-doubt="fixation.cover"') == 2
    assert text.count('data-doubt="imaging.thick"') == 1
    section = text[text.index('<section id="screws">') :]
    section = section[: section.index("</section>")]
    assert section.index('data-doubt="fixation.cover"') < section.index("<figure>")


def test_the_banner_leads_the_page(folder: Path) -> None:
    text = page(folder)
    body = text[text.index("<body>") :]
    assert body.index(BANNER) < body.index("<nav")
    assert "position: sticky; top: 0" in text
    assert "display: table-header-group" in text


@pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="pdftotext (poppler) is not installed"
)
def test_the_pdf_says_the_same_under_a_banner_on_every_page(folder: Path) -> None:
    run = subprocess.run(
        ["pdftotext", "-layout", str(folder / "report.pdf"), "-"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    pages = run.stdout.split("\f")[:-1]
    assert len(pages) >= 3
    for words in pages:
        assert "Research software. Not a medical device" in words
    whole = re.sub(r"\s+", " ", run.stdout)
    for word in ("14.24", "3.10", "≥ 10.00", "doubtful", "The screw leaves the bone", "GDE-05"):
        assert word in whole
    assert "#strong[x] $y$ {{ z }}" in whole


def test_the_pdf_has_no_date(folder: Path) -> None:
    raw = (folder / "report.pdf").read_bytes()
    assert raw.startswith(b"%PDF-")
    assert b"/CreationDate" not in raw
    assert b"/ModDate" not in raw


def test_a_false_citation_stops_the_dossier_before_anything_is_written(tmp_path: Path) -> None:
    wrong = replace(dossier(), doubts=(Doubt("plan", "x.y", "Words.", ("NO-ROW",)),))
    with pytest.raises(EvidenceError, match="NO-ROW"):
        write(wrong, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))
