"""The house rules that a linter does not know."""

import subprocess
import sys

HEAVY = ("numpy", "scipy", "numba", "vtk", "vtkmodules", "SimpleITK", "pydicom", "ngsolve", "igl",
         "highdicom")  # fmt: skip


def modules_after(code):
    script = f"{code}\nimport sys\nprint('\\n'.join(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_importing_the_package_and_the_help_pulls_in_nothing_heavy():
    loaded = modules_after("import sacroplan, sacroplan.cli")
    assert "sacroplan.cli" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_help_shows_the_banner_and_every_command():
    out = subprocess.run(
        [sys.executable, "-m", "sacroplan.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    flat = " ".join(out.split())
    assert "Not a medical device" in flat
    for command in ("demo", "new", "run", "status", "check-ct"):
        assert command in flat
