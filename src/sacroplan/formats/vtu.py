"""Finite-element results for ParaView: VTK XML unstructured grids with appended base64 data."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER
from sacroplan.errors import FormatError
from sacroplan.formats.atomic import replaced_file

_VTK_TYPE = {4: 10, 10: 24}
"""Nodes of a tetrahedron to VTK cell type: linear 10, quadratic 24."""

_NAMES = {"f8": "Float64", "f4": "Float32", "i4": "Int32", "i8": "Int64", "u1": "UInt8"}


def _typed(name: str, values: npt.ArrayLike, rows: int) -> npt.NDArray[np.generic]:
    a = np.asarray(values)
    if a.dtype == np.bool_:
        a = a.astype(np.uint8)
    if a.dtype.kind in "iu" and a.dtype.str[1:] not in _NAMES:
        a = a.astype(np.int64)
    if a.dtype.str[1:] not in _NAMES:
        raise FormatError(f"The field {name!r} is {a.dtype}; numbers are needed.")
    if a.ndim not in (1, 2) or len(a) != rows:
        raise FormatError(f"The field {name!r} has shape {a.shape}; {rows} rows are needed.")
    if a.dtype.kind == "f" and not np.all(np.isfinite(a)):
        raise FormatError(f"The field {name!r} holds values that are not finite numbers.")
    return np.ascontiguousarray(a.astype(a.dtype.newbyteorder("<"), copy=False))


def write_vtu(
    points: npt.ArrayLike,
    tets: npt.ArrayLike,
    point_data: Mapping[str, npt.ArrayLike],
    cell_data: Mapping[str, npt.ArrayLike],
    path: str | os.PathLike[str],
) -> None:
    """Write tetrahedra with fields; same input, same bytes.

    Parameters
    ----------
    points : (n, 3) LPS mm.
    tets : (m, 4) linear or (m, 10) quadratic cells; quadratic mid-edge nodes in VTK order
        (01, 12, 02, 03, 13, 23).
    point_data, cell_data : fields (n,) or (n, c); names carry the unit, e.g. ``vonmises_mpa``.

    Raises
    ------
    FormatError : sizes that do not fit, values that are not finite, or a failed write.
    """
    xyz = _typed("points", np.asarray(points, dtype=np.float64), len(np.asarray(points)))
    cells = np.asarray(tets)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise FormatError(f"Points have shape {xyz.shape}; (n, 3) is needed.")
    if cells.ndim != 2 or cells.shape[1] not in _VTK_TYPE:
        raise FormatError(f"Cells have shape {cells.shape}; (m, 4) or (m, 10) is needed.")
    if cells.size and (cells.min() < 0 or cells.max() >= len(xyz)):
        raise FormatError("A cell names a point that does not exist.")
    m, corners = cells.shape
    blocks: list[bytes] = []
    offset = 0

    def array(name: str, values: npt.NDArray[np.generic]) -> str:
        nonlocal offset
        raw = values.tobytes()
        block = base64.b64encode(len(raw).to_bytes(8, "little") + raw)
        line = (
            f'<DataArray type="{_NAMES[values.dtype.str[1:]]}" Name={quoteattr(name)} '
            f'NumberOfComponents="{1 if values.ndim == 1 else values.shape[1]}" '
            f'format="appended" offset="{offset}"/>\n'
        )
        blocks.append(block)
        offset += len(block)
        return line

    head = [
        '<?xml version="1.0"?>\n',
        f"<!-- {BANNER} -->\n",
        '<VTKFile type="UnstructuredGrid" version="1.0" byte_order="LittleEndian" '
        'header_type="UInt64">\n<UnstructuredGrid>\n',
        f'<Piece NumberOfPoints="{len(xyz)}" NumberOfCells="{m}">\n<PointData>\n',
        *(array(name, _typed(name, v, len(xyz))) for name, v in point_data.items()),
        "</PointData>\n<CellData>\n",
        *(array(name, _typed(name, v, m)) for name, v in cell_data.items()),
        "</CellData>\n<Points>\n",
        array("Points", xyz),
        "</Points>\n<Cells>\n",
        array("connectivity", np.ascontiguousarray(cells, dtype="<i8").ravel()),
        array("offsets", np.arange(1, m + 1, dtype="<i8") * corners),
        array("types", np.full(m, _VTK_TYPE[corners], dtype=np.uint8)),
        "</Cells>\n</Piece>\n</UnstructuredGrid>\n",
        '<AppendedData encoding="base64">\n_',
    ]
    with replaced_file(path) as stream:
        stream.write("".join(head).encode("utf-8"))
        for block in blocks:
            stream.write(block)
        stream.write(b"\n</AppendedData>\n</VTKFile>\n")
