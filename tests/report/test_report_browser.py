"""The page in a real browser: scene, switches, directions, picking, and life without WebGL."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_cases import dossier

from sacroplan.report.dossier import write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1400,1000", "--virtual-time-budget=8000",
)  # fmt: skip

SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")

MEASURE = """<script>setTimeout(() => {
  for (const i of document.images) if (i.naturalWidth && i.clientWidth && i.className === "zoom")
    i.dataset.stretch = (i.clientWidth / i.clientHeight) / (i.naturalWidth / i.naturalHeight);
}, 500)</script>"""


class Tags(HTMLParser):
    """Attributes of every element, by id where it has one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.by_id: dict[str, dict[str, str | None]] = {}
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.all.append((tag, found))
        if found.get("id"):
            self.by_id[str(found["id"])] = found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write(dossier(), folder)
    text = (folder / "report.html").read_text("utf-8")
    measured = folder / "measured.html"
    measured.write_text(text.replace("</body>", f"{MEASURE}</body>"), "utf-8")
    return measured


def dom(report: Path, profile: Path, fragment: str = "", gl: tuple[str, ...] = SOFTWARE_GL) -> str:
    assert CHROMIUM is not None
    run = subprocess.run(
        [CHROMIUM, *FLAGS, *gl, f"--user-data-dir={profile}", "--dump-dom",
         f"{report.as_uri()}{fragment}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return run.stdout


def test_the_scene_opens_with_the_visible_parts_seen_from_the_front(
    report: Path, tmp_path: Path
) -> None:
    text = dom(report, tmp_path)
    tags = Tags(text)
    assert dict(tags.all)["html"]["data-viewer"] == "ready"
    canvas = tags.by_id["scene-canvas"]
    assert canvas["data-shown"] == "ball left_box screw"
    assert canvas["data-direction"] == "L S"
    # Bones have a row for the group and one for each of two parts; the other groups are one part.
    assert text.count('aria-label="Opacity of ') == 3 + 1 + 1


@pytest.mark.parametrize(
    ("view", "letters"),
    [("back", "R S"), ("left", "P S"), ("right", "A S"), ("top", "R A"), ("bottom", "L A")],
)
def test_presets_follow_the_patient(report: Path, tmp_path: Path, view: str, letters: str) -> None:
    tags = Tags(dom(report, tmp_path, f"#view={view}"))
    assert tags.by_id["scene-canvas"]["data-direction"] == letters


def test_parts_are_switched_by_name_and_group(report: Path, tmp_path: Path) -> None:
    shown = {}
    for n, fragment in enumerate(("#hide=bones", "#only=screws,hidden", "#hide=ball&show=implant")):
        tags = Tags(dom(report, tmp_path / str(n), fragment))
        shown[fragment] = tags.by_id["scene-canvas"]["data-shown"]
    assert shown == {
        "#hide=bones": "screw",
        "#only=screws,hidden": "screw hidden",
        "#hide=ball&show=implant": "left_box screw hidden",
    }


@pytest.mark.parametrize(
    ("fragment", "part", "point"),
    [
        ("#only=ball&view=front&pick=0.5,0.5", "ball", (0, -12, 0)),
        ("#only=ball&view=left&pick=0.5,0.5", "ball", (12, 0, 0)),
        ("#only=ball&view=top&perspective=1&pick=0.5,0.5", "ball", (0, 0, 12)),
        ("#only=left_box&view=back&pick=0.5,0.5", "left_box", (20, 5, 0)),
        ("#only=ball&view=front&clip=coronal:0&pick=0.5,0.5", "", None),
        ("#only=ball&view=front&pick=0.02,0.02", "", None),
    ],
)
def test_a_click_finds_the_part_and_the_place(
    report: Path, tmp_path: Path, fragment: str, part: str, point: tuple[int, ...] | None
) -> None:
    text = dom(report, tmp_path, fragment)
    assert Tags(text).by_id["scene-canvas"]["data-chosen"] == part
    found = re.search(r"Point \(LPS\): ([-\u2212\d., ]+) mm", text)
    if point is None:
        assert found is None
    else:
        assert found is not None
        at = [float(x.replace("\u2212", "-")) for x in found.group(1).split(",")]
        assert np.allclose(at, point, atol=0.4)
    assert ("7.24 cm³" in text.split('id="scene-info"')[1].split("scene-parts")[0]) == (
        part == "ball"
    )


def test_without_webgl_the_still_pictures_stay(report: Path, tmp_path: Path) -> None:
    text = dom(report, tmp_path, gl=("--disable-3d-apis",))
    tags = Tags(text)
    root = dict(tags.all)["html"]
    assert root["data-viewer"] == "still"
    assert "has-viewer" not in (root.get("class") or "")
    assert "cannot show the 3D scene" in text
    assert "hidden" not in tags.by_id["scene-refused"]
    # Pictures keep their proportions: a stretched slice would falsify every length in it.
    stretch = [float(str(a["data-stretch"])) for t, a in tags.all if "data-stretch" in a]
    assert len(stretch) >= 13
    assert np.allclose(stretch, 1.0, atol=0.02)


def test_a_clipped_solid_shows_its_cut_face(report: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    middle = {}
    for name, clip in (("whole", ""), ("cut", "&clip=coronal:0.5:flip")):
        png = tmp_path / f"{name}.png"
        subprocess.run(
            [CHROMIUM, *FLAGS, *SOFTWARE_GL, f"--user-data-dir={tmp_path / name}",
             "--hide-scrollbars", f"--screenshot={png}",
             f"{report.as_uri()}#only=ball,screw&view=front&alone=1&focus=ball{clip}"],
            capture_output=True, timeout=120, check=True,
        )  # fmt: skip
        image = np.asarray(Image.open(png).convert("RGB")).astype(float)
        # The stage lies left of the list of parts and below banner and buttons.
        middle[name] = image[430:470, 430:470]
        assert middle[name].mean() < 240  # the ball, not the empty stage
    assert middle["whole"].std(axis=(0, 1)).max() > 0.5  # round: shaded
    assert middle["cut"].std(axis=(0, 1)).max() < 0.1  # flat: one colour
