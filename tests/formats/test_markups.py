from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sacroplan.errors import FormatError
from sacroplan.formats import markups
from sacroplan.geometry.frames import Plane

coordinate = st.floats(-2000, 2000, allow_nan=False)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(points=st.dictionaries(names, st.tuples(coordinate, coordinate, coordinate), max_size=6))
def test_points_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    points: dict[str, tuple[float, float, float]],
) -> None:
    file = tmp_path_factory.mktemp("m") / "landmarks.mrk.json"
    markups.write_points(points, file)
    back = markups.read_points(file)
    assert list(back) == list(points)
    for name, point in points.items():
        np.testing.assert_allclose(back[name], point, rtol=1e-8, atol=1e-8)
    first = file.read_bytes()
    markups.write_points(back, file)
    assert file.read_bytes() == first


def test_what_slicer_needs_stands_in_the_file(tmp_path: Path) -> None:
    markups.write_points({"S1": [1.0, -2.0, 3.0]}, tmp_path / "a.mrk.json")
    content = json.loads((tmp_path / "a.mrk.json").read_text())
    assert "markups-schema-v1.0.3.json" in content["@schema"]
    [markup] = content["markups"]
    assert markup["type"] == "Fiducial"
    assert markup["coordinateSystem"] == "LPS"
    assert markup["coordinateUnits"] == "mm"
    [point] = markup["controlPoints"]
    assert point["position"] == [1.0, -2.0, 3.0]
    assert point["positionStatus"] == "defined"
    assert point["label"] == "S1"


def test_lines_round_trip(tmp_path: Path) -> None:
    lines = {"screw 1": ([1.0, 2, 3], [4.0, 5, 6]), "screw 2": ([0.5, 0, 0], [0, 0, -9.25])}
    markups.write_lines(lines, tmp_path / "a.mrk.json")
    back = markups.read_lines(tmp_path / "a.mrk.json")
    assert list(back) == list(lines)
    for name, ends in lines.items():
        np.testing.assert_array_equal(back[name], np.array(ends))


def test_planes_round_trip_and_their_matrices(tmp_path: Path) -> None:
    planes = [
        ("iliac_left", Plane([10, -20, 30], [1, 2, -2]), 80.0),
        ("iliac_right", Plane([-10, -20, 30], [0, 0, -1]), (60.0, 40.0)),
    ]
    markups.write_planes(planes, tmp_path / "a.mrk.json")
    back = markups.read_planes(tmp_path / "a.mrk.json")
    content = json.loads((tmp_path / "a.mrk.json").read_text())["markups"]
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    for (name, plane, _), markup in zip(planes, content, strict=True):
        np.testing.assert_allclose(back[name].normal, plane.normal, atol=1e-8)
        np.testing.assert_allclose(back[name].point, plane.point, atol=1e-8)
        # As Slicer reads an LPS file: rows x and y change sign, then the matrices are chained.
        base = flip @ np.array(markup["baseToNode"]).reshape(4, 4)
        object_to_base = flip @ np.array(markup["objectToBase"]).reshape(4, 4)
        np.testing.assert_allclose(object_to_base, np.eye(4))
        node = base @ object_to_base
        np.testing.assert_allclose(node[:3, 2] * [-1, -1, 1], plane.normal, atol=1e-8)
        np.testing.assert_allclose(node[:3, 3] * [-1, -1, 1], plane.point, atol=1e-8)
        axes = np.array(markup["orientation"]).reshape(3, 3)
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-8)
        assert np.linalg.det(axes) == pytest.approx(1.0)
    assert content[1]["planeBounds"] == [-30.0, 30.0, -20.0, 20.0]


def test_ras_files_and_undefined_points(tmp_path: Path) -> None:
    content = {
        "markups": [
            {
                "type": "Fiducial",
                "coordinateSystem": "RAS",
                "controlPoints": [
                    {"label": "a", "position": [1, 2, 3], "positionStatus": "defined"},
                    {"label": "b", "position": [0, 0, 0], "positionStatus": "undefined"},
                ],
            }
        ]
    }
    file = tmp_path / "a.mrk.json"
    file.write_text(json.dumps(content))
    points = markups.read_points(file)
    assert list(points) == ["a"]
    np.testing.assert_array_equal(points["a"], [-1, -2, 3])


def test_faults(tmp_path: Path) -> None:
    file = tmp_path / "a.mrk.json"
    with pytest.raises(FormatError, match="three finite numbers"):
        markups.write_points({"a": [1, 2, np.nan]}, file)
    with pytest.raises(FormatError, match="positive"):
        markups.write_planes([("p", Plane([0, 0, 0], [0, 0, 1]), 0.0)], file)
    assert not file.exists()
    twice = {"label": "a", "position": [1, 2, 3]}
    cases = {
        "not a Slicer markups file": {"points": []},
        "coordinate system 'XYZ'": {"markups": [{"coordinateSystem": "XYZ", "controlPoints": []}]},
        "two points called 'a'": {"markups": [{"controlPoints": [twice, twice]}]},
        "without a position": {"markups": [{"controlPoints": [{"label": "a"}]}]},
        "in 'cm'": {"markups": [{"coordinateUnits": "cm", "controlPoints": []}]},
    }
    for words, content in cases.items():
        file.write_text(json.dumps(content))
        with pytest.raises(FormatError, match=words):
            markups.read_points(file)
