"""The example cases and the tutorial: every file is valid, and its facts lead to the rules it is for."""

import re
from pathlib import Path

import pytest
import typer

from sacroplan.case.config import parse_config, read_config
from sacroplan.case.steps.options_facts import merged
from sacroplan.options.weigh import weigh

ROOT = Path(__file__).resolve().parents[2]

MEASURED = {
    "paper-a-typical": {
        "resection": "total", "iliolumbar": "none", "lowest_root_left": 0, "lowest_root_right": 0,
        "cut_above_s1_foramina": True, "sij_left_percent": 100, "sij_right_percent": 100,
        "l5_resected": "none", "amputation_planned": False, "tumour_volume_cm3": 71,
    },
    "paper-b-case-1": {"resection": "none", "s2ai_feasible": True, "amputation_planned": False},
    "paper-b-case-2": {
        "resection": "hemi", "iliolumbar": "partial", "l5_resected": "partial",
        "contralateral_s1_kept": True, "lowest_root_left": 5, "lowest_root_right": 0,
    },
    "paper-b-case-3": {
        "resection": "hemipelvectomy", "l5_resected": "partial", "amputation_planned": True,
        "lowest_root_left": 1, "lowest_root_right": 0, "s2_intact": False,
    },
}  # fmt: skip
"""What the plans of these cases measure; that they do is tested from the CT on in tests/validation."""

MUST = {
    "paper-a-typical": ({"R-01", "R-08", "R-09", "R-15", "R-24"}, {"R-02", "R-05", "R-12", "R-25"}),
    "paper-b-case-1": ({"R-05", "R-07"}, {"R-01", "R-06"}),
    "paper-b-case-2": ({"R-08", "R-15", "R-17", "R-18", "R-21"}, {"R-01", "R-16"}),
    "paper-b-case-3": ({"R-12", "R-17"}, {"R-01", "R-06", "R-13"}),
}


@pytest.mark.parametrize("name", MUST)
def test_an_example_fires_what_it_is_for(name):
    config = read_config(ROOT / "examples" / name)
    facts, source, doubts = merged(MEASURED[name], config.facts)
    found = weigh(facts)
    must, must_not = MUST[name]
    assert must <= set(found.fired)
    assert {found.states[r] for r in must_not} == {False}
    assert set(source.values()) <= {"case.toml", "measured", "unknown"}
    assert doubts == ()


def test_every_example_has_its_patient():
    text = (ROOT / "examples" / "make.py").read_text("utf-8")
    listed = re.findall(r'^    "([a-z0-9-]+)": PhantomParameters', text, re.M)
    folders = {p.parent.name for p in (ROOT / "examples").glob("*/case.toml")}
    assert set(listed) == folders == set(MUST)


def tutorial():
    return (ROOT / "docs" / "tutorial-options.md").read_text("utf-8")


def test_every_table_of_the_tutorial_is_valid():
    blocks = re.findall(r"```toml\n(.*?)```", tutorial(), re.S)
    assert len(blocks) == 2
    base = '[case]\nid = "a"\n[input]\nct = "ct"\n'
    config = parse_config(base + "\n".join(blocks), "tutorial")
    assert config.facts["stoma"] == "left"
    assert config.grafts.struts_per_side == 1


def test_every_command_of_the_tutorial_exists():
    from sacroplan.cli import app

    names = set(typer.main.get_command(app).commands)
    lines = [x for b in re.findall(r"```sh\n(.*?)```", tutorial(), re.S) for x in b.splitlines()]
    assert len(lines) == 3
    for line in lines:
        words = line.split()
        if words[0] == "python":
            assert (ROOT / words[1]).is_file()
            assert words[2] in MUST
        else:
            assert words[0] == "sacroplan"
            assert words[1] in names
