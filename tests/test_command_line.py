"""The command line refuses garbage with one sentence, exit code 2 and nothing half-written."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sacroplan.formats.labels import write_labels_nifti, write_volume_nifti
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry


def sacroplan(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sacroplan.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def refused(done, *words):
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("sacroplan: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def small_ct(tmp_path):
    grid = VolumeGeometry((40, 40, 40), [2, 2, 2], [-40, -40, 100])
    path = tmp_path / "ct.nii.gz"
    write_volume_nifti(
        Volume(grid, np.where(np.indices(grid.shape)[0] < 20, 40, -1000).astype(np.int16)), path
    )
    return path, grid


def test_an_empty_folder(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(sacroplan("new", tmp_path / "case", "--ct", empty), str(empty))
    refused(sacroplan("check-ct", empty), str(empty))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


def test_a_text_file_called_dcm(tmp_path):
    text = tmp_path / "scan.dcm"
    text.write_text("this is not an image\n")
    refused(sacroplan("new", tmp_path / "case", "--ct", text), "scan.dcm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.dcm"]


def test_a_missing_file_and_a_taken_folder(tmp_path, small_ct):
    refused(sacroplan("new", tmp_path / "case", "--ct", tmp_path / "nowhere"), "does not exist")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    refused(sacroplan("new", tmp_path / "full", "--ct", small_ct[0]), "not empty")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_a_label_map_of_another_size(tmp_path, small_ct):
    grid = VolumeGeometry((30, 40, 40), [3, 2, 2], [-40, -40, 100])
    labels = tmp_path / "labels.nii.gz"
    write_labels_nifti(LabelMap(grid, np.ones(grid.shape, np.uint8), {1: "sacrum"}), labels)
    done = sacroplan("new", tmp_path / "case", "--ct", small_ct[0], "--labels", labels)
    refused(done, "30 x 40 x 40", "40 x 40 x 40")
    assert not (tmp_path / "case").exists()


def test_a_misspelt_key_is_named_with_its_line(tmp_path, small_ct):
    assert sacroplan("new", tmp_path / "case", "--ct", small_ct[0]).returncode == 0
    config = tmp_path / "case" / "case.toml"
    config.write_text(config.read_text().replace("body_mass_kg", "body_mass"))
    refused(sacroplan("run", tmp_path / "case"), "line ", "patient.body_mass", "body_mass_kg")
    assert not (tmp_path / "case" / "work").exists()


def test_no_case_folder(tmp_path):
    refused(sacroplan("run", tmp_path), "sacroplan new")
    refused(sacroplan("status", tmp_path), "sacroplan new")


def test_an_image_without_a_pelvis_stops_at_the_bones(tmp_path, small_ct):
    assert sacroplan("new", tmp_path / "case", "--ct", small_ct[0]).returncode == 0
    refused(sacroplan("run", tmp_path / "case", "--json"))
    done = {p.name for p in (tmp_path / "case" / "work").iterdir()}
    assert done == {"intake"}


@pytest.mark.shared
def test_a_chest_is_refused(tmp_path, shared):
    chest = shared / "data" / "dicom_awkward" / "trunk_no_pelvis"
    assert sacroplan("new", tmp_path / "case", "--ct", chest).returncode == 0
    refused(sacroplan("run", tmp_path / "case"))
    assert not (tmp_path / "case" / "dossier").exists()


def test_json_answers_are_json(tmp_path, small_ct):
    done = sacroplan("new", tmp_path / "case", "--ct", small_ct[0], "--json")
    assert json.loads(done.stdout)["config"].endswith("case.toml")
    status = json.loads(sacroplan("status", tmp_path / "case", "--json").stdout)
    assert {s["state"] for s in status["stages"]} == {"missing"}
    check = json.loads(sacroplan("check-ct", small_ct[0], "--json").stdout)
    assert "40 x 40 x 40" in check["geometry"]


@pytest.fixture
def two_series(tmp_path):
    from sacroplan.formats.dicom_out import write_ct_series

    rng = np.random.default_rng(0)
    grid = VolumeGeometry((20, 20, 12), [2, 2, 2], [-40, -40, 100])
    body = np.where(np.indices(grid.shape)[0] < 10, 40, -1000)
    folder = tmp_path / "disc"
    for name, number in (("first", 4), ("second", 5)):
        noisy = body + rng.normal(0, 9, grid.shape)
        volume = Volume(grid, np.rint(noisy).astype(np.int16))
        write_ct_series(volume, folder / name, case_id=name)
        for file in (folder / name).iterdir():
            import pydicom

            ds = pydicom.dcmread(file)
            ds.SeriesNumber = number
            ds.SeriesInstanceUID = f"1.2.{number}"
            ds.SeriesDescription = "Pelvis bone Doe" if number == 5 else "Pelvis"
            ds.ConvolutionKernel = "Br64f" if number == 5 else "Br36f"
            ds.save_as(file)
    return folder


def test_series_are_listed_with_the_reason(two_series):
    done = sacroplan("check-ct", two_series, "--list", "--json")
    table = json.loads(done.stdout)
    assert [(r["series"], r["chosen"]) for r in table["series"]] == [("5", True), ("4", False)]
    assert "sharp kernel" in table["series"][0]["reason"]
    assert table["series"][0]["description"] == "Pelvis bone …"
    told = sacroplan("check-ct", two_series, "--list").stdout
    assert "taken: sharp kernel" in told
    assert "not taken: softer or unknown kernel" in told
    assert "Doe" not in told
    refused(sacroplan("check-ct", two_series, "--series", "9"), "no series '9'", "series 5")


def test_a_named_series_is_kept_in_the_case(tmp_path, two_series):
    done = sacroplan("new", tmp_path / "case", "--ct", two_series, "--series", "4", "--json")
    table = json.loads(done.stdout)
    assert (table["series"], table["why"], table["doubts"]) == ("1.2.4", "asked for", [])
    assert 'series = "4"' in (tmp_path / "case" / "case.toml").read_text()
    assert sacroplan("run", tmp_path / "case", "--to", "intake").returncode == 0
    metrics = json.loads((tmp_path / "case" / "work" / "intake" / "stage.json").read_text())
    assert metrics["metrics"]["imaging.series_choice"]["value"] == "asked for"
    told = sacroplan("new", tmp_path / "other", "--ct", two_series).stdout
    assert "! The folder holds several series; series 5" in told


def test_the_age_of_the_scan(two_series):
    done = sacroplan("check-ct", two_series, "--surgery", "next week")
    refused(done, "surgery date 'next week'")


def test_a_full_disk(tmp_path, small_ct):
    """A real one: a small file system in memory, where the tests may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        # Without the right to mount: a limit on file size meets the same error path.
        code = (
            "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192));"
            "sys.argv[0] = 'sacroplan'; from sacroplan.cli import main; main()"
        )
        made = sacroplan("new", disk / "case", "--ct", small_ct[0])
        assert made.returncode == 0, made.stderr
        done = subprocess.run(
            [sys.executable, "-c", code, "run", str(disk / "case"), "--to", "intake"],
            capture_output=True,
            text=True,
        )
        refused(done, "could not")
        assert not (disk / "case" / "work" / "intake").exists()
        assert not list((disk / "case").rglob("*.part"))
        return
    try:
        assert sacroplan("new", disk / "case", "--ct", small_ct[0]).returncode == 0
        refused(sacroplan("run", disk / "case", "--to", "intake"), "No space left on device")
        assert not (disk / "case" / "work" / "intake").exists()
        assert not list((disk / "case").rglob("*.part"))
    finally:
        subprocess.run(["umount", disk], check=True)
