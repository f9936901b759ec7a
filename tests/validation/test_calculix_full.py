"""The demo's own finite-element model against CalculiX, at full size."""

import shutil
import subprocess

import numpy as np
import pytest

from sacroplan.case import runner
from sacroplan.case.demo import make_demo
from sacroplan.report.stages import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.calculix]


def displacements(frd):
    """One (n, 3) array per step of a CalculiX result file, in node order."""
    steps, current = [], None
    with frd.open() as stream:
        for line in stream:
            if line.startswith(" -4  DISP"):
                current = {}
                steps.append(current)
            elif current is not None and line.startswith(" -1"):
                current[int(line[3:13])] = [
                    float(line[13 + 12 * k : 25 + 12 * k]) for k in range(3)
                ]
            elif current is not None and line.startswith(" -3"):
                current = None
    return [np.array([s[k] for k in sorted(s)]) for s in steps]


@pytest.mark.parametrize("model", ["intact", "reconstructed"])
def test_the_exported_deck_gives_the_same_displacements(model, tmp_path_factory, request):
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLUnstructuredGridReader

    ccx = shutil.which("ccx")
    assert ccx, "CalculiX is missing: apt-get install calculix-ccx"
    folder = request.config.cache.mkdir("validation-demo") / "demo"
    make_demo(folder)
    runner.run(folder, STAGES, to="mechanics")
    work = tmp_path_factory.mktemp(model)
    shutil.copy(folder / "dossier" / "mechanics" / f"{model}.inp", work)
    subprocess.run([ccx, "-i", model], cwd=work, check=True, stdout=subprocess.DEVNULL)
    reader = vtkXMLUnstructuredGridReader()
    reader.SetFileName(str(folder / "dossier" / "mechanics" / f"{model}.vtu"))
    reader.Update()
    data = reader.GetOutput().GetPointData()
    for case, theirs in zip(
        ("lc01", "lc02", "lc03", "lc08"), displacements(work / f"{model}.frd"), strict=True
    ):
        ours = vtk_to_numpy(data.GetArray(f"displacement_{case}_mm"))
        relative = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        print(f"{model} {case}: {len(ours)} nodes, relative difference {relative:.2e}")
        assert relative < 0.01
