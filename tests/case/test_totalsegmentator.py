"""The network of others, played by a small program that only knows its command line."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from sacroplan.case import totalsegmentator
from sacroplan.case.totalsegmentator import WEIGHTS, segment, weights_folder
from sacroplan.errors import AnatomyError, CaseError
from sacroplan.formats.labels import write_volume_nifti
from sacroplan.geometry.volume import Volume, VolumeGeometry

FAKE = """\
#!{python}
import argparse, json, os, pathlib, sys, urllib.request
import nibabel, numpy as np
parser = argparse.ArgumentParser()
parser.add_argument("-i"), parser.add_argument("-o"), parser.add_argument("--task")
parser.add_argument("--ml", action="store_true"), parser.add_argument("--roi_subset", nargs="+")
a = parser.parse_args()
assert a.ml and a.task == "total", a
{trick}
ct = nibabel.load(a.i)
hu = np.asarray(ct.dataobj)
ids = {{"sacrum": 25, "vertebrae_S1": 26, "vertebrae_L5": 27, "hip_left": 77, "hip_right": 78}}
assert set(ids) <= set(a.roi_subset), a.roi_subset
out = np.zeros(hu.shape, np.uint8)
for id_ in ids.values():
    out[hu == 1000 + id_] = id_
table = "".join(f'<Label Key="{{i}}" Red="1"><![CDATA[{{n}}]]></Label>' for n, i in ids.items())
image = nibabel.Nifti1Image(out, ct.affine)
image.header.extensions.append(
    nibabel.nifti1.Nifti1Extension(0, f"<CaretExtension>{{table}}</CaretExtension>".encode()))
nibabel.save(image, a.o)
"""

PYTHON = sys.executable

GRID = VolumeGeometry((20, 12, 10), [2.0, 2.0, 2.5], [-20.0, 5.0, 100.0])


def ct() -> Volume:
    """Grey values that tell the fake which bone is where; the left hip lies further left."""
    data = np.full(GRID.shape, -1000, dtype=np.int16)
    for i, label in enumerate([78, 25, 26, 27, 77]):
        data[2 * i, 3, 2:5] = 1000 + label
    return Volume(GRID, data)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it but an empty place for programs and one for weights."""
    for name in ("bin", "weights"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    monkeypatch.setattr(totalsegmentator.sys, "executable", str(tmp_path / "python" / "python"))
    return tmp_path


def install(home: Path, trick: str = "", weights: tuple[int, ...] = WEIGHTS) -> None:
    program = home / "bin" / "TotalSegmentator"
    text = FAKE.format(python=PYTHON, trick=textwrap.dedent(trick))
    program.write_text(text)
    program.chmod(0o755)
    for n in weights:
        (home / "weights" / f"Dataset{n}_TotalSegmentator_part").mkdir()


def test_its_labels_come_back_on_the_ct(home: Path) -> None:
    install(home)
    told: list[str] = []
    reading = segment(ct(), lambda _f, message: told.append(message))
    names = {"sacrum": [2, 4], "hip_right": [0], "L5": [6], "hip_left": [8]}
    assert set(reading.labels.names.values()) == set(names)
    for name, columns in names.items():
        marked = np.unique(np.argwhere(reading.labels.mask(name))[:, 0])
        assert marked.tolist() == columns
        assert reading.labels.mask(name).sum() == 3 * len(columns)
    assert reading.labels.geometry is GRID
    assert reading.source.startswith("TotalSegmentator")
    assert reading.source.endswith("task total")
    assert "TotalSegmentator is running (minutes)" in told


def test_it_cannot_reach_the_net(home: Path) -> None:
    """Weights it would fetch and statistics it would send go to a proxy that is not there."""
    trick = """\
    for url in ("http://backend.totalsegmentator.com:80/", "https://github.com/"):
        try:
            urllib.request.urlopen(url, timeout=5)
        except OSError as error:
            assert "refused" in str(error).lower(), error
        else:
            sys.exit("reached the net")
    import requests
    try:
        requests.get("http://backend.totalsegmentator.com:80/", timeout=5)
    except requests.exceptions.ProxyError:
        pass
    """
    install(home, trick)
    assert segment(ct()).labels.has("sacrum")


def test_what_is_missing_is_said_with_the_way_to_get_it(home: Path) -> None:
    with pytest.raises(CaseError) as caught:
        segment(ct())
    for words in (
        "not installed",
        "pip install 'sacroplan[ai]'",
        "totalseg_download_weights -t total",
    ):
        assert words in str(caught.value)
    install(home, weights=(291, 292, 294))
    with pytest.raises(CaseError) as caught:
        segment(ct())
    for words in (
        str(home / "weights"),
        "293, 295, 298",
        "TOTALSEG_WEIGHTS_PATH",
        "never downloads",
    ):
        assert words in str(caught.value)


def test_its_failure_is_told_in_its_own_words(home: Path) -> None:
    install(home, 'print("some advice"); sys.exit("CUDA is out of memory")')
    with pytest.raises(AnatomyError, match=r"exit status 1\)\. It said: CUDA is out of memory"):
        segment(ct())
    install(home, "sys.exit(0)", weights=())
    with pytest.raises(AnatomyError, match="wrote no label map"):
        segment(ct())


def test_weights_are_looked_for_where_it_looks(tmp_path: Path) -> None:
    assert weights_folder({"TOTALSEG_WEIGHTS_PATH": "/w"}) == Path("/w")
    assert weights_folder({"TOTALSEG_HOME_DIR": "/h"}) == Path("/h/nnunet/results")
    assert weights_folder({}) == Path.home() / ".totalsegmentator/nnunet/results"


def test_a_case_that_asks_for_it_ends_with_exit_code_2(tmp_path: Path) -> None:
    write_volume_nifti(ct(), tmp_path / "ct.nii.gz")
    text = '[case]\nid = "c"\n[input]\nct = "ct.nii.gz"\nsegmenter = "totalsegmentator"\n'
    (tmp_path / "case.toml").write_text(text)
    environment = {**os.environ, "PATH": "/nowhere", "TOTALSEG_WEIGHTS_PATH": str(tmp_path)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYTHON, "-m", "sacroplan.cli", "run", str(tmp_path), "--to", "bones"],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip

    done = run()
    assert done.returncode == 2
    assert "TotalSegmentator is not installed" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "case.toml").write_text(text + 'labels = "ct.nii.gz"\n')
    done = run()
    assert done.returncode == 2
    assert "gives the bones twice" in done.stderr
