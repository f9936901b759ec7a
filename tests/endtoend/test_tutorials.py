"""Every command and every settings block of the tutorials, as they are printed there.

The patient is the coarse synthetic one with its own labels. A command that is printed and not known
here fails the test, so a tutorial cannot grow past it.
"""

import re
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sacroplan.case import store
from sacroplan.case.config import new_config, parse_config
from sacroplan.case.stage import stage_folder
from sacroplan.fixation.catalogue import read_catalogue
from sacroplan.formats.dicom_out import write_ct_series
from sacroplan.formats.labels import write_labels_nifti, write_volume_nifti
from sacroplan.formats.markups import write_points
from sacroplan.formats.stl import write_stl
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.surface import concatenate
from sacroplan.geometry.volume import LabelMap
from sacroplan.imaging.phantom.build import build
from sacroplan.imaging.phantom.parameters import PhantomParameters

pytestmark = pytest.mark.endtoend

DOCS = Path(__file__).parents[2] / "docs"
BASE = '[case]\nid = "a"\n[input]\nct = "ct"\n'
INSTALLS = ("pip install", "totalseg_download_weights")
"""Lines that install extras; they are not part of this program."""


def blocks(name, language):
    text = (DOCS / f"tutorial-{name}.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def commands(block):
    lines = [w.split(" #")[0].strip() for w in block.splitlines()]
    return [w for w in lines if w and not w.startswith(INSTALLS)]


def run_all(lines, folder, instead):
    """Run commands in ``folder``; ``instead``: words of a line to those for this patient.

    ``RUN`` in it is added to every ``sacroplan run``, to stop where the tutorial's subject ends.
    """
    outputs = {}
    for line in lines:
        words = line.split()
        assert words[0] == "sacroplan", line
        words = [w for word in words[1:] for w in instead.get(word, word).split()]
        if words[0] == "run":
            words += instead.get("RUN", "").split()
        done = subprocess.run(
            [sys.executable, "-m", "sacroplan.cli", *words],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        outputs[line] = done.stdout
    return outputs


@pytest.fixture(scope="module")
def patient():
    return build(PhantomParameters(), spacing_mm=(1.2, 1.2, 1.4))


@pytest.fixture(scope="module")
def images(patient, tmp_path_factory):
    """CT and labels of the patient as files."""
    folder = tmp_path_factory.mktemp("images")
    write_volume_nifti(patient.volume, folder / "ct.nii.gz")
    bare = {i: n for i, n in patient.labels.names.items() if n != "tumour"}
    data = np.where(np.isin(patient.labels.data, list(bare)), patient.labels.data, 0)
    write_labels_nifti(
        LabelMap(patient.labels.geometry, data.astype(np.uint8), bare), folder / "bones.nii.gz"
    )
    mask = patient.labels.mask("tumour").astype(np.uint8)
    write_labels_nifti(
        LabelMap(patient.labels.geometry, mask, {1: "tumour"}), folder / "tumour.nii.gz"
    )
    write_labels_nifti(patient.labels, folder / "labels.nii.gz")
    write_ct_series(patient.volume, folder / "series", case_id="a")
    return folder


def make_case(folder, images, extra=""):
    folder.mkdir(parents=True)
    text = new_config("case7", str(images / "ct.nii.gz"), str(images / "labels.nii.gz"), None)
    (folder / "case.toml").write_text(text + extra, "utf-8")
    return folder


@pytest.mark.parametrize("name", ["first-case", "real-ct", "resection", "screws-and-robot"])
def test_every_settings_block_is_understood(name, tmp_path):
    found = blocks(name, "toml")
    assert found
    for text in found:
        if text.startswith("name ="):
            path = tmp_path / "sizes.toml"
            path.write_text(text, "utf-8")
            assert read_catalogue(path)
        else:
            parse_config(BASE + text, "case.toml")


def test_the_first_case(images, tmp_path):
    make_case(tmp_path / "sacroplan-demo", images)
    lines = [w for b in blocks("first-case", "sh") for w in commands(b)]
    # `demo` plans for minutes; `make demo` and the tests of the whole plan run its parts.
    assert lines.pop(0) == "sacroplan demo sacroplan-demo"
    told = run_all(lines[::-1], tmp_path, {"RUN": "--to landmarks"})
    assert "landmarks" in told["sacroplan status sacroplan-demo"]


def test_a_real_ct(images, tmp_path):
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as disc:
        for path in sorted((images / "series").iterdir()):
            disc.write(path, path.name)
    instead = {
        "/data/ct_series": str(images / "series"),
        "/data/disc": str(tmp_path / "disc.zip"),
        "/data/mri_series": str(images / "ct.nii.gz"),
        "tumour_on_mri.nii.gz": str(images / "tumour.nii.gz"),
        "ct.nii.gz": str(images / "ct.nii.gz"),
        "segmentation.nii.gz": str(images / "bones.nii.gz"),
        "tumour.nii.gz": str(images / "tumour.nii.gz"),
        "4": "1",
        "RUN": "--to intake",
    }
    made = 0
    for n, block in enumerate(blocks("real-ct", "sh")):
        # Each block is another patient of the same name.
        folder = tmp_path / str(n)
        folder.mkdir()
        run_all(commands(block), folder, instead)
        made += (folder / "case7" / "case.toml").is_file()
    assert made == 4


def test_resection_and_audit(images, tmp_path):
    """The outcome is the plan's own remnant, laid elsewhere."""
    folder = make_case(tmp_path / "mycase", images)
    run_all(["sacroplan run mycase"], tmp_path, {"RUN": "--to resection"})
    plan = store.load(stage_folder(folder, "resection")).plan
    remnants = concatenate([plan.remnants[f"hip_{s}"] for s in ("left", "right")])
    away = Rigid(np.eye(3), np.array([15.0, -20.0, 30.0]))
    write_stl(remnants.transformed(away), tmp_path / "postop_bones.stl", "outcome")
    lines = [w for b in blocks("resection", "sh") for w in commands(b)]
    told = run_all(lines, tmp_path, {})
    assert (folder / "dossier" / "resection" / "options.json").is_file()
    assert (folder / "dossier" / "audit" / "audit.json").is_file()
    assert "iliac_left" in told["sacroplan audit mycase --postop postop_bones.stl"]


def test_screws_and_robot(images, tmp_path):
    import pyigtl

    folder = make_case(tmp_path / "case7", images, "\n" + blocks("screws-and-robot", "toml")[0])
    lines = [w for b in blocks("screws-and-robot", "sh") for w in commands(b)]
    # The case is there already, with its labels and the tutorial's settings.
    assert lines.pop(0) == "sacroplan new case7 --ct /data/ct_series"
    run_all([lines.pop(0)], tmp_path, {"RUN": "--to navigation"})
    markers = store.load(stage_folder(folder, "navigation")).plan.markers
    seen = {n: np.asarray(p) + [100.0, 5.0, -20.0] for n, p in markers.items()}
    write_points(seen, tmp_path / "theatre.mrk.json")
    touched, probed = probed_in_theatre(folder, np.array([100.0, 5.0, -20.0]))
    write_points(touched, tmp_path / "landmarks.mrk.json")
    write_points(probed, tmp_path / "probed.mrk.json")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = pyigtl.OpenIGTLinkServer(port=port)
    try:
        told = run_all(lines, tmp_path, {"192.168.0.20": f"127.0.0.1 --port {port}"})
    finally:
        server.stop()
    assert "FRE" in told["sacroplan register case7 theatre.mrk.json"]
    by_probe = told["sacroplan register case7 landmarks.mrk.json --surface probed.mrk.json"]
    # Points on the bone itself: the registration is exact, the expected error is not nought.
    assert "FRE 0.00 mm" in by_probe
    tre = [
        float(line.split()[0]) for line in by_probe.splitlines() if "expected at the tip" in line
    ]
    assert len(tre) == len(store.load(stage_folder(folder, "navigation")).plan.screws) >= 4
    assert all(0.05 < t < 5.0 for t in tre)


def probed_in_theatre(folder, shift):
    """Landmarks touched 3 mm off, and 60 points on the back of the pelvis, where theatre has them."""
    rng = np.random.default_rng(4)
    points = store.load(stage_folder(folder, "landmarks")).points
    names = ("PSIS_L", "PSIS_R", "GSN_L", "GSN_R")
    touched = {n: points[n] + shift + rng.normal(0.0, 1.7, 3) for n in names if n in points}
    bones = store.load(stage_folder(folder, "bones")).surfaces
    middles = concatenate([bones[n] for n in ("sacrum", "hip_left", "hip_right")]).triangles.mean(
        axis=1
    )
    back = middles[middles[:, 1] > np.percentile(middles[:, 1], 60)]
    chosen = back[rng.choice(len(back), 60, replace=False)]
    return touched, {f"p{n}": p + shift for n, p in enumerate(chosen)}


def test_the_registry(tmp_path):
    lines = [w for b in blocks("registry", "sh") for w in commands(b)]
    assert len(lines) >= 12
    run_all(lines, tmp_path, {})
    assert (tmp_path / "outcomes" / "report.html").is_file()
