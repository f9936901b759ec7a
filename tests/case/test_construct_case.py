"""A case that plans screws alone: which stages run, and what case.toml may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from sacroplan.case.config import parse_config
from sacroplan.case.theatre import register_markers
from sacroplan.errors import CaseError
from sacroplan.report.stages import STAGES, stages_of

BASE = '[case]\nid = "a"\n[input]\nct = "ct"\n'


def _case(folder: Path, text: str) -> Path:
    (folder / "case.toml").write_text(BASE + text, "utf-8")
    return folder


def test_a_construct_chooses_the_stages(tmp_path: Path) -> None:
    stages = stages_of(_case(tmp_path, '[fixation]\nconstruct = "L4-L5-S2AI"\n'))
    names = [s.name for s in stages]
    assert names[-5:] == ["construct", "options", "construct_rods", "navigation", "dossier"]
    assert "resection" not in names
    # Every stage comes after what it reads.
    for n, stage in enumerate(stages):
        assert set(stage.needs) <= set(names[:n])


def test_without_a_construct_the_whole_plan_runs(tmp_path: Path) -> None:
    assert stages_of(_case(tmp_path, "[fixation]\nrod_diameter_mm = 5.5\n")) == STAGES


def test_wrong_words_are_named_with_their_line() -> None:
    with pytest.raises(CaseError, match=r"line 6.*'construct'"):
        parse_config(BASE + '[fixation]\nconstrukt = "L4"\n', "case.toml")
    with pytest.raises(CaseError, match="aim"):
        parse_config(BASE + '[fixation]\naim = "luck"\n', "case.toml")
    with pytest.raises(CaseError, match="draws"):
        parse_config(BASE + "[navigation]\ndraws = 5\n", "case.toml")


def test_theatre_needs_a_plan_first(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no robot plan yet"):
        register_markers(_case(tmp_path, ""), tmp_path / "theatre.mrk.json")


OWN = """[fixation]
construct = "own"
[fixation.own.L4_left]
level = "L4"
side = "left"
entry_mm = [30.0, 70.0, 40.0]
tip_mm = [18.0, 28.0, 38.0]
diameter_mm = 6.5
[fixation.wires.k1]
start_mm = [50.0, 90.0, 10.0]
end_mm = [80.0, 20.0, -20.0]
diameter_mm = 2.0
"""


def test_own_screws_and_wires_are_read_and_need_a_construct() -> None:
    table = parse_config(BASE + OWN, "case.toml").fixation
    assert table.own["L4_left"].kind == "pedicle"
    assert table.wires["k1"].end_mm == (80.0, 20.0, -20.0)
    with pytest.raises(CaseError, match="name a construct"):
        parse_config(BASE + OWN.replace('construct = "own"\n', ""), "case.toml")
    with pytest.raises(CaseError, match="less than 10 mm apart"):
        parse_config(BASE + OWN.replace("[18.0, 28.0, 38.0]", "[30.0, 70.0, 39.0]"), "case.toml")
    with pytest.raises(CaseError, match="side"):
        parse_config(BASE + OWN.replace('"left"', '"up"'), "case.toml")


def test_four_rods_and_connectors_are_read() -> None:
    four = '[fixation]\nconstruct = "L4-L5-iliac"\nrods = "four"\ncross_connectors = 2\n'
    table = parse_config(BASE + four, "case.toml").fixation
    assert (table.rods, table.cross_connectors) == ("four", 2)
    with pytest.raises(CaseError, match="cross_connectors"):
        parse_config(BASE + "[fixation]\ncross_connectors = 9\n", "case.toml")
    with pytest.raises(CaseError, match="name a construct"):
        parse_config(BASE + '[fixation]\nrods = "four"\n', "case.toml")
