"""Skip, resume, kill: with small stages of the tests' own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sacroplan.case import runner
from sacroplan.case.config import new_config
from sacroplan.case.stage import Stage, StageOutput
from sacroplan.errors import CaseError
from sacroplan.metrics import Metric


def write(text):
    return lambda path: Path(path).write_text(text)


def make_stages(log):
    def first(context):
        log.append("first")
        data = np.frombuffer((context.folder / "ct").read_bytes(), np.uint8).astype(float)
        return StageOutput({"sum": data.sum(), "data": data}, {"a.sum": Metric(1.0, "mm", "sum")})

    def second(context):
        log.append("second")
        total = context.result("first")["sum"] * context.config.patient.body_mass_kg
        return StageOutput(total, {}, (), {"dossier/print/out.txt": write(f"{total}\n")})

    def stage(name, needs, run, parameters, inputs):
        return Stage(name, name, needs, ("geometry",), parameters, inputs, run, 1.0)

    return (
        stage("first", (), first, lambda _c: {}, lambda c: [c.folder / "ct"]),
        stage("second", ("first",), second, lambda c: c.patient.body_mass_kg, lambda _c: []),
    )


@pytest.fixture
def case(tmp_path):
    (tmp_path / "case.toml").write_text(new_config("c", "ct", None, None))
    (tmp_path / "ct").write_bytes(b"abc")
    return tmp_path


def snapshot(folder):
    return {
        p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_a_second_run_does_and_rewrites_nothing(case):
    log = []
    report = runner.run(case, make_stages(log))
    assert log == ["first", "second"]
    assert report.metrics["a.sum"]["value"] == 1.0
    before = snapshot(case)
    again = runner.run(case, make_stages(log))
    assert log == ["first", "second"]
    assert set(again.states) == {"skipped"}
    assert snapshot(case) == before


def test_only_what_depends_on_a_change_runs_again(case):
    log = []
    runner.run(case, make_stages(log))
    text = (case / "case.toml").read_text()
    (case / "case.toml").write_text(text.replace("= 70", "= 80"))
    states = [s for _, s, _ in runner.status(case, make_stages(log))]
    assert states == ["done", "stale"]
    runner.run(case, make_stages(log))
    assert log == ["first", "second", "second"]
    (case / "ct").write_bytes(b"abd")
    runner.run(case, make_stages(log))
    assert log[3:] == ["first", "second"]


def test_an_unchanged_result_upstream_keeps_what_follows(case):
    log = []
    runner.run(case, make_stages(log))
    (case / "ct").write_bytes(b"acb")
    runner.run(case, make_stages(log))
    # The order of bytes changes the array and so the digest: the second stage follows.
    assert log == ["first", "second", "first", "second"]


def test_a_hand_edited_output_is_never_overwritten_silently(case):
    runner.run(case, make_stages([]))
    (case / "dossier/print/out.txt").write_text("mine")
    with pytest.raises(CaseError, match=r"out\.txt was changed after"):
        runner.run(case, make_stages([]))
    (case / "dossier/print/out.txt").unlink()
    runner.run(case, make_stages([]))
    assert (case / "dossier/print/out.txt").read_text() == f"{294 * 70.0}\n"


def test_to_stops_there_and_names_unknown_stages(case):
    log = []
    runner.run(case, make_stages(log), to="first")
    assert log == ["first"]
    with pytest.raises(CaseError, match="first, second"):
        runner.run(case, make_stages(log), to="third")


def test_a_failing_stage_leaves_nothing_half_written(case):
    def broken(context):
        raise CaseError("no")

    first, second = make_stages([])
    bad = Stage("second", "x", ("first",), (), second.parameters, second.inputs, broken, 1.0)
    with pytest.raises(CaseError, match="no"):
        runner.run(case, (first, bad))
    assert not (case / "work" / "second").exists()
    assert not list(case.rglob("*.part"))


def test_a_folder_that_is_no_case_is_refused(tmp_path):
    with pytest.raises(CaseError, match="sacroplan new"):
        runner.run(tmp_path, make_stages([]))


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_stages
from sacroplan.case import runner
from sacroplan.case.stage import Stage, StageOutput
first, second = test_stages.make_stages([])
def writer(path):
    with open(path, "w") as f:
        f.write("half"); f.flush()
        Path({flag!r}).touch()
        time.sleep(60)
        f.write("whole")
def slow(context):
    return StageOutput(1.0, {{}}, (), {{"dossier/print/out.txt": writer}})
stage = Stage("second", "x", ("first",), ("geometry",), second.parameters, second.inputs, slow, 1.0)
runner.run(Path({case!r}), (first, stage))
"""


def test_a_killed_run_resumes(case, tmp_path_factory):
    flag = tmp_path_factory.mktemp("flag") / "writing"
    here = str(Path(__file__).parent)
    code = SLOW.format(tests=here, flag=str(flag), case=str(case))
    child = subprocess.Popen([sys.executable, "-c", code])
    for _ in range(400):
        if flag.exists():
            break
        time.sleep(0.05)
    assert flag.exists()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (case / "dossier").exists()
    log = []
    runner.run(case, make_stages(log))
    assert log == ["second"]
    assert (case / "dossier/print/out.txt").read_text() == f"{294 * 70.0}\n"
    assert not list((case / "work").glob(".*.part"))


def test_a_full_disk_ends_in_one_sentence(case, monkeypatch):
    import errno

    def full(*_a, **_k):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sacroplan.case.store.dump", full)
    with pytest.raises(CaseError, match="No space left on device"):
        runner.run(case, make_stages([]))
    assert not list(case.rglob("*.part"))
    assert not (case / "work" / "first").exists()


def test_provenance_names_inputs_parameters_and_seconds(case):
    runner.run(case, make_stages([]))
    table = json.loads((case / "provenance.json").read_text())
    first, second = table["stages"]
    assert list(first["inputs"]) == ["ct"]
    assert second["parameters"] == 70.0
    assert second["files"]["dossier/print/out.txt"]
    assert first["seconds"] >= 0
