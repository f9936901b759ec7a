"""The four example cases from CT to table: which rules hold, which do not, what is printed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sacroplan.case.outcome import options_table
from sacroplan.report.stages import stages_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

EXPECTED = {
    "paper-a-typical": (
        {"R-01", "R-08", "R-09", "R-15", "R-22", "R-23", "R-24"},
        {"R-02", "R-03", "R-05", "R-06", "R-12", "R-13", "R-21", "R-25"},
    ),
    "paper-b-case-1": ({"R-05", "R-07"}, {"R-01", "R-06"}),
    "paper-b-case-2": ({"R-08", "R-15", "R-17", "R-18", "R-21"}, {"R-01", "R-05", "R-16"}),
    "paper-b-case-3": ({"R-12", "R-17"}, {"R-01", "R-06", "R-13"}),
}


@pytest.fixture(scope="session")
def maker():
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        from make import make
    finally:
        sys.path.pop(0)
    return make


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_runs_from_ct_to_table(name, maker, tmp_path):
    folder = maker(name, tmp_path / name)
    table = options_table(folder, stages_of(folder))
    holds = {r for r, s in table["rules"].items() if s == "holds"}
    fails = {r for r, s in table["rules"].items() if s == "does not hold"}
    must, must_not = EXPECTED[name]
    assert must <= holds
    assert must_not <= fails
    roads = {r["road"]: r for r in table["roads"]}
    told = " ".join(c["text"] for c in table["contradictions"])
    if name == "paper-a-typical":
        assert "without a flap" in told
        assert "0 of 10" in told
        assert table["function"]["bladder"]["percent"] == [0.0, 0.0]
        assert table["function"]["gait"]["percent"] is None
    if name == "paper-b-case-2":
        assert table["flaps_in_order"][0] == "omentum"
    if name == "paper-b-case-3":
        for road in ("vram_left", "gluteal_right"):
            assert roads[road]["standing"].startswith("excluded")
        assert roads["femur_pedicled"]["standing"] == "rules speak for it"
        femur = next(r for r in table["side_by_side"] if r["road"] == "femur_pedicled")
        assert "from L5 to the pubis" in femur["planned"]
    written = json.loads((folder / "dossier" / "options" / "options.json").read_text())
    assert written["rules"] == table["rules"]
    print(name, sorted(holds))


def test_the_tutorial_s_commands_run(tmp_path):
    """Every line of the tutorial, in order, in an empty folder."""
    text = (ROOT / "docs" / "tutorial-options.md").read_text("utf-8")
    lines = [x for b in re.findall(r"```sh\n(.*?)```", text, re.S) for x in b.splitlines()]
    for line in lines:
        words = line.split()
        if words[0] == "python":
            command = [sys.executable, str(ROOT / words[1]), *words[2:]]
        else:
            command = [sys.executable, "-m", "sacroplan.cli", *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "case3" / "dossier" / "options" / "femur.stl").is_file()
