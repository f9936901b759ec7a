"""Two thousand damaged CSV files against the registry: each ends in a sentence, nothing half-stored."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "registry"


def module(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


@pytest.mark.slow
def test_two_thousand_fuzzed_files(tmp_path):
    from sacroplan.registry.database import create

    module("fuzzed")
    tests = module("test_import")
    registry = create(str(tmp_path / "r.sqlite"), "tester")
    assert tests.run(registry, tmp_path, tests.PATIENTS).stored
    counts = tests.survives(registry, tmp_path, range(2000))
    print("\n| outcome | files |\n|---|---|")
    for outcome, n in counts.items():
        print(f"| {outcome} | {n} |")
    assert sum(counts.values()) == 2000
    assert counts["refused"] > 200
    assert counts["rejected"] > 200
