"""Landmarks moved in 3D Slicer come back as the user's own; an untouched file changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sacroplan.case.config import parse_config
from sacroplan.case.stage import Context, StageOutput
from sacroplan.case.steps import landmarks as step
from sacroplan.case.steps.bones import BoneModel
from sacroplan.errors import AnatomyError
from sacroplan.formats.jsonio import read_json
from sacroplan.formats.markups import read_points, write_points
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.volume import LabelMap, VolumeGeometry

pytestmark = pytest.mark.shared

CASE = """
[case]
id = "x"
[input]
ct = "ct"
"""


@pytest.fixture(scope="module")
def bones(shared: Path) -> BoneModel:
    names = ("sacrum", "hip_left", "hip_right", "L5", "L4")
    surfaces = {n: read_stl(shared / "data" / "vhm_meshes" / f"{n}.stl") for n in names}
    grid = VolumeGeometry((40, 40, 40), [10.0, 10.0, 10.0], [-195.0, -195.0, -200.0])
    labels = LabelMap(grid, np.zeros(grid.shape, np.uint8), {1: "sacrum"})
    return BoneModel(labels, surfaces, "test")


def _run(folder: Path, bones: BoneModel, text: str) -> StageOutput:
    results: dict[str, Any] = {"bones": bones, "tumour": None}
    return step.run(Context(folder, parse_config(text, "case.toml"), results.__getitem__))


def test_round_trip_through_a_slicer_file(tmp_path: Path, bones: BoneModel) -> None:
    first = _run(tmp_path, bones, CASE)
    assert first.metrics["anatomy.landmarks.source"].value == "automatic"
    codes = {d.code for d in first.doubts}
    assert {"anatomy.levels_to_confirm", "anatomy.supine_pose"} <= codes
    file = tmp_path / "mine.mrk.json"
    first.files["landmarks.mrk.json"](file)
    text = CASE + 'landmarks = "mine.mrk.json"\n'

    again = _run(tmp_path, bones, text)
    assert again.metrics["anatomy.landmarks.source"].value == "automatic"
    assert set(again.result.points) == set(first.result.points)
    for name, point in first.result.points.items():
        assert np.allclose(again.result.points[name], point, atol=1e-9), name

    points = dict(read_points(file))
    points["PSIS_L"] = points["PSIS_L"] + [2.0, 0.0, 3.0]
    points["S2PF_L"] = np.array([20.0, 60.0, -30.0])
    write_points(points, file)
    own = "[landmarks]\nASIS_R = [-127.0, -57.0, -20.0]\nPSIS_L = [40.0, 75.0, -20.0]\n"
    toml = text + "[patient]\nlevels_confirmed = true\n" + own
    third = _run(tmp_path, bones, toml)
    assert "anatomy.levels_to_confirm" not in {d.code for d in third.doubts}
    how = third.result.how
    assert (how["PSIS_L"], how["ASIS_R"], how["S2PF_L"]) == (
        "case.toml", "case.toml", "file mine.mrk.json",
    )  # fmt: skip
    assert how["ASIS_L"] == "automatic"
    assert np.allclose(third.result.points["PSIS_L"], [40.0, 75.0, -20.0])
    assert np.allclose(third.result.points["S2PF_L"], points["S2PF_L"])
    source = third.metrics["anatomy.landmarks.source"].value
    assert source == (
        "ASIS_R, PSIS_L from case.toml; S2PF_L from file mine.mrk.json; all others automatic"
    )
    listing = tmp_path / "landmarks.json"
    third.files["landmarks.json"](listing)
    table = read_json(listing)
    assert table["points"]["PSIS_L"]["from"] == "case.toml"
    assert table["points"]["PSIS_L"]["uncertainty_mm"] is None
    assert table["points"]["ASIS_L"]["uncertainty_mm"] > 0.0
    assert "labelled L5" in table["levels"]


def test_a_stranger_in_the_file_is_named(tmp_path: Path, bones: BoneModel) -> None:
    write_points({"F-1": [0.0, 0.0, 0.0]}, tmp_path / "odd.mrk.json")
    with pytest.raises(AnatomyError, match="no landmark 'F-1'"):
        _run(tmp_path, bones, CASE + 'landmarks = "odd.mrk.json"\n')


def test_the_file_is_an_input_of_the_stage(tmp_path: Path, bones: BoneModel) -> None:
    config = parse_config(CASE + 'landmarks = "mine.mrk.json"\n', "case.toml")
    context = Context(tmp_path, config, {"bones": bones}.__getitem__)
    assert step.STAGE.inputs(context) == [tmp_path / "mine.mrk.json"]
    plain = parse_config(CASE, "case.toml")
    assert step.STAGE.parameters(config) != step.STAGE.parameters(plain)
