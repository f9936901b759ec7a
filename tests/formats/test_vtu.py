from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sacroplan.errors import FormatError
from sacroplan.formats.vtu import write_vtu

CORNERS = np.array([[0, 0, 0], [2.0, 0, 0], [0, 3, 0], [0, 0, 4], [2, 3, 4]])
P1 = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])


def quadratic() -> tuple[np.ndarray, np.ndarray]:
    points = list(CORNERS)
    seen: dict[tuple[int, int], int] = {}
    cells = []
    for cell in P1:
        nodes = list(cell)
        for a, b in ((0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)):
            key = tuple(sorted((int(cell[a]), int(cell[b]))))
            if key not in seen:
                seen[key] = len(points)
                points.append((CORNERS[key[0]] + CORNERS[key[1]]) / 2)
            nodes.append(seen[key])
        cells.append(nodes)
    return np.array(points), np.array(cells)


@pytest.mark.parametrize("order", [1, 2])
def test_vtk_reads_it_back(tmp_path: Path, order: int) -> None:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLUnstructuredGridReader

    points, cells = (CORNERS, P1) if order == 1 else quadratic()
    n, m = len(points), len(cells)
    fields = {"displacement_mm": np.arange(3.0 * n).reshape(n, 3), "t": np.arange(n)}
    file = tmp_path / "a.vtu"
    cell_fields = {"vonmises_mpa": np.array([1.5, 2.5], np.float32), "metal": [True, False]}
    write_vtu(points, cells, fields, cell_fields, file)
    reader = vtkXMLUnstructuredGridReader()
    reader.SetFileName(str(file))
    reader.Update()
    grid = reader.GetOutput()
    assert (grid.GetNumberOfPoints(), grid.GetNumberOfCells()) == (n, m)
    assert {grid.GetCellType(c) for c in range(m)} == {10 if order == 1 else 24}
    np.testing.assert_array_equal(vtk_to_numpy(grid.GetPoints().GetData()), points)
    for c in range(m):
        ids = grid.GetCell(c).GetPointIds()
        assert [ids.GetId(k) for k in range(ids.GetNumberOfIds())] == cells[c].tolist()
    np.testing.assert_array_equal(
        vtk_to_numpy(grid.GetPointData().GetArray("displacement_mm")), fields["displacement_mm"]
    )
    np.testing.assert_array_equal(
        vtk_to_numpy(grid.GetCellData().GetArray("vonmises_mpa")), [1.5, 2.5]
    )
    np.testing.assert_array_equal(vtk_to_numpy(grid.GetCellData().GetArray("metal")), [1, 0])
    if order == 2:
        # VTK's own shape functions put the mid-edge nodes where we say they are.
        centre = np.zeros(3)
        grid.GetCell(0).EvaluateLocation(
            __import__("vtkmodules.vtkCommonCore", fromlist=["reference"]).reference(0),
            [0.25, 0.25, 0.25],
            centre,
            [0.0] * 10,
        )
        np.testing.assert_allclose(centre, CORNERS[P1[0]].mean(axis=0), atol=1e-12)
    first = file.read_bytes()
    write_vtu(points, cells, fields, cell_fields, file)
    assert file.read_bytes() == first


def test_vtu_faults(tmp_path: Path) -> None:
    file = tmp_path / "a.vtu"
    with pytest.raises(FormatError, match="'u' has shape"):
        write_vtu(CORNERS, P1, {"u": np.zeros(4)}, {}, file)
    with pytest.raises(FormatError, match="not finite"):
        write_vtu(CORNERS, P1, {}, {"s": [1.0, np.nan]}, file)
    with pytest.raises(FormatError, match="does not exist"):
        write_vtu(CORNERS, P1 + 1, {}, {}, file)
    with pytest.raises(FormatError, match=r"\(m, 4\) or \(m, 10\)"):
        write_vtu(CORNERS, P1[:, :3], {}, {}, file)
    assert not file.exists()
