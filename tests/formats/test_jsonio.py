from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sacroplan.errors import FormatError
from sacroplan.formats.jsonio import dumps, read_json, write_json
from sacroplan.metrics import Metric

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
trees = st.recursive(
    leaves, lambda t: st.lists(t, max_size=4) | st.dictionaries(st.text(), t, max_size=4)
)


def close(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-8, abs_tol=5e-324)
    return type(a) is type(b) and a == b


@settings(max_examples=150, deadline=None)
@given(trees)
def test_round_trip_and_byte_identity(
    tmp_path_factory: pytest.TempPathFactory, tree: object
) -> None:
    file = tmp_path_factory.mktemp("json") / "a.json"
    try:
        write_json(tree, file)
    except FormatError as error:
        # Text that is no Unicode (lone surrogates) cannot stand in a UTF-8 file.
        assert "surrogate" in str(error)  # noqa: PT017
        return
    back = read_json(file)
    assert close(tree, back)
    first = file.read_bytes()
    write_json(back, file)
    assert file.read_bytes() == first
    assert first.endswith(b"\n")


def test_keys_are_sorted_and_floats_short() -> None:
    assert dumps({"b": 1 / 3, "a": -0.0}) == '{\n  "a": 0.0,\n  "b": 0.333333333\n}\n'


def test_numpy_and_metrics(tmp_path: Path) -> None:
    tree = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "flag": np.bool_(True),
        "n": np.int64(3),
        "metric": Metric(1.5, "mm", "x", ("CT-01",), upper=2.0),
        "path": Path("a") / "b",
        "tuple": (1, 2),
    }
    write_json(tree, tmp_path / "a.json")
    back = read_json(tmp_path / "a.json")
    assert back["array"] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert back["flag"] is True
    assert back["metric"]["within"] is True
    assert back["path"] == "a/b"


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.array([1.0, np.nan]), {1: 2}, object()])
def test_what_json_cannot_hold(tmp_path: Path, bad: object) -> None:
    with pytest.raises(FormatError, match=r"\$\.x"):
        write_json({"x": bad}, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_reading_faults(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"a": 1,\n}')
    (tmp_path / "nan.json").write_text('{"a": NaN}')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="line 2"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(FormatError, match="NaN"):
        read_json(tmp_path / "nan.json")
    with pytest.raises(FormatError, match="UTF-8"):
        read_json(tmp_path / "binary.json")
    with pytest.raises(FormatError, match="could not be read"):
        read_json(tmp_path / "none.json")
    (tmp_path / "deep.json").write_text(json.dumps([]) * 1)
    assert read_json(tmp_path / "deep.json") == []
