"""3D Slicer markups (.mrk.json): points, lines and planes in LPS millimetres.

Layout after the markups schema 1.0.3 of 3D Slicer. Matrices and control-point orientations in an
LPS file hold axes as LPS columns; the identity of Slicer's inner RAS frame therefore reads
diag(-1, -1, 1).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import FormatError
from sacroplan.formats.jsonio import read_json, write_json
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray, Plane, perpendicular

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.3.json#"
)
_IDENTITY_3 = [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0]
_IDENTITY_4 = [-1.0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0]
_TO_LPS = {"LPS": np.array([1.0, 1.0, 1.0]), "RAS": np.array([-1.0, -1.0, 1.0])}


def _control(n: int, label: str, position: npt.ArrayLike) -> dict[str, Any]:
    point = np.asarray(position, dtype=np.float64)
    if point.shape != (3,) or not np.all(np.isfinite(point)):
        raise FormatError(f"The point {label!r} is {position!r}; three finite numbers are needed.")
    return {
        "id": str(n),
        "label": label,
        "description": "",
        "associatedNodeID": "",
        "position": point.tolist(),
        "orientation": _IDENTITY_3,
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined",
    }


def _markup(kind: str, name: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": kind,
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(points),
        "controlPoints": points,
    }


def _write(markups: list[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    write_json({"@schema": SCHEMA, "markups": markups}, path)


def write_points(points: Mapping[str, npt.ArrayLike], path: str | os.PathLike[str]) -> None:
    """Write named points (3,) LPS mm as one point list; the order given is kept."""
    controls = [_control(n + 1, name, p) for n, (name, p) in enumerate(points.items())]
    _write([_markup("Fiducial", Path(path).name.split(".")[0], controls)], path)


def write_lines(
    lines: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], path: str | os.PathLike[str]
) -> None:
    """Write named lines, each from point a to point b (3,) LPS mm, one markup a line."""
    _write(
        [
            _markup("Line", name, [_control(1, f"{name}-1", a), _control(2, f"{name}-2", b)])
            for name, (a, b) in lines.items()
        ],
        path,
    )


def write_planes(
    planes: Sequence[tuple[str, Plane, float | tuple[float, float]]],
    path: str | os.PathLike[str],
) -> None:
    """Write named planes with a shown size (side, or width and height) in mm."""
    out = []
    for name, plane, size_mm in planes:
        width, height = (size_mm, size_mm) if isinstance(size_mm, (int, float)) else size_mm
        if not (width > 0 and height > 0):
            raise FormatError(
                f"The plane {name!r} has a size of {size_mm} mm; it must be positive."
            )
        z = plane.normal
        x = perpendicular(z)
        axes = np.column_stack([x, np.cross(z, x), z])
        base = np.eye(4)
        base[:3, :3], base[:3, 3] = axes, plane.point
        markup = _markup("Plane", name, [_control(1, name, plane.point)])
        markup |= {
            "planeType": "pointNormal",
            "sizeMode": "absolute",
            "autoScalingFactor": 1.0,
            "center": plane.point.tolist(),
            "normal": z.tolist(),
            "objectToBase": _IDENTITY_4,
            "baseToNode": base.ravel().tolist(),
            "orientation": axes.ravel().tolist(),
            "size": [float(width), float(height), 0.0],
            "planeBounds": [-width / 2, width / 2, -height / 2, height / 2],
        }
        out.append(markup)
    _write(out, path)


def _markups(path: str | os.PathLike[str]) -> list[tuple[dict[str, Any], FloatArray]]:
    """Markups of a file with the factors that turn their coordinates into LPS mm."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("markups"), list):
        raise FormatError(f"{path} is not a Slicer markups file: 'markups' is missing.")
    out = []
    for markup in content["markups"]:
        if not isinstance(markup, dict) or not isinstance(markup.get("controlPoints"), list):
            raise FormatError(f"{path} is not a Slicer markups file: 'controlPoints' is missing.")
        # The schema's default is LPS; older files write the numbers 0 (RAS) and 1 (LPS).
        system = {0: "RAS", 1: "LPS", "0": "RAS", "1": "LPS"}.get(
            markup.get("coordinateSystem", "LPS"), markup.get("coordinateSystem", "LPS")
        )
        if system not in _TO_LPS:
            raise FormatError(f"{path} uses the coordinate system {system!r}; LPS or RAS needed.")
        if markup.get("coordinateUnits", "mm") != "mm":
            raise FormatError(f"{path} is in {markup['coordinateUnits']!r}; mm are needed.")
        out.append((markup, _TO_LPS[system]))
    return out


def _position(control: Any, factor: FloatArray, path: str | os.PathLike[str]) -> FloatArray:
    try:
        position = np.array(control["position"], dtype=np.float64) * factor
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} has a control point without a position.") from error
    if position.shape != (3,) or not np.all(np.isfinite(position)):
        raise FormatError(f"{path} has a control point at {control['position']}.")
    return position + 0.0


def read_points(path: str | os.PathLike[str]) -> dict[str, FloatArray]:
    """Named control points (3,) LPS mm of every markup in the file; undefined ones are left out.

    Raises
    ------
    FormatError : not a markups file, or two points of one name.
    """
    points: dict[str, FloatArray] = {}
    for markup, factor in _markups(path):
        for control in markup["controlPoints"]:
            if isinstance(control, dict) and control.get("positionStatus", "defined") != "defined":
                continue
            position = _position(control, factor, path)
            label = str(control.get("label", ""))
            if label in points:
                raise FormatError(f"{path} has two points called {label!r}; rename one in Slicer.")
            points[label] = position
    return points


def read_lines(path: str | os.PathLike[str]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Named lines as point pairs (3,), (3,) LPS mm; raises :class:`FormatError`."""
    lines: dict[str, tuple[FloatArray, FloatArray]] = {}
    for markup, factor in _markups(path):
        if markup.get("type") != "Line":
            continue
        ends = [_position(c, factor, path) for c in markup["controlPoints"]]
        name = str(markup.get("name") or markup["controlPoints"][0]["label"].removesuffix("-1"))
        if len(ends) != 2:
            raise FormatError(f"{path}: the line {name!r} has {len(ends)} points; two are needed.")
        lines[name] = (ends[0], ends[1])
    return lines


def read_planes(path: str | os.PathLike[str], frame: str = DEFAULT_FRAME) -> dict[str, Plane]:
    """Named planes in LPS mm; raises :class:`FormatError`.

    Slicer's own ``center`` and ``normal`` are used; the name is the markup's, else its first label.
    """
    planes: dict[str, Plane] = {}
    for markup, factor in _markups(path):
        if markup.get("type") != "Plane":
            continue
        controls = markup["controlPoints"]
        name = str(markup.get("name") or (controls[0].get("label", "") if controls else ""))
        if "center" not in markup or "normal" not in markup:
            raise FormatError(f"{path}: the plane {name!r} has no center and normal.")
        centre = _position({"position": markup["center"]}, factor, path)
        normal = _position({"position": markup["normal"]}, factor, path)
        if name in planes:
            raise FormatError(f"{path} has two planes called {name!r}; rename one in Slicer.")
        planes[name] = Plane(centre, normal, frame)
    return planes
