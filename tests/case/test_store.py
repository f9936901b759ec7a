"""Results survive the disk unchanged, and a case folder cannot run code."""

import json
from types import MappingProxyType

import numpy as np
import pytest

from sacroplan.case import store
from sacroplan.errors import CaseError
from sacroplan.geometry.frames import Plane
from sacroplan.geometry.surface import Surface
from sacroplan.metrics import Metric


def example():
    v = np.array([[0.1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    s = Surface(v, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
    return {
        "surface": s,
        "nested": (Plane([1, 2, 3], [0, 0, 2.0]), None, 3, 0.1 + 0.2, "text", True),
        "map": MappingProxyType({2: Metric(1.5, "mm", "a"), 3: Metric(None, "mm", "b")}),
        "bytes": b"\x00\xff",
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "again": s,
        "nan": float("nan"),
    }


def test_round_trip_is_exact(tmp_path):
    store.dump(example(), tmp_path)
    back = store.load(tmp_path)
    before = example()
    assert np.array_equal(back["surface"].vertices, before["surface"].vertices)
    assert back["surface"].vertices.dtype == np.float64
    assert not back["surface"].vertices.flags.writeable
    assert back["nested"][1:] == before["nested"][1:]
    assert np.array_equal(back["nested"][0].normal, [0, 0, 1])
    assert back["map"][2] == Metric(1.5, "mm", "a")
    assert back["bytes"] == b"\x00\xff"
    assert back["array"].dtype == np.int16
    assert np.isnan(back["nan"])


def test_same_result_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        store.dump(example(), tmp_path / name)
    for file in ("result.json", "arrays.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "sacroplan.cli:main"])
def test_only_own_value_objects_are_built(tmp_path, name):
    store.dump({}, tmp_path)
    tree = {"$": "object", "t": name, "v": {}}
    (tmp_path / "result.json").write_text(json.dumps(tree))
    with pytest.raises(CaseError, match="Delete it and run again"):
        store.load(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    store.dump(example(), tmp_path)
    (tmp_path / "arrays.npz").write_bytes(b"torn")
    with pytest.raises(CaseError, match=str(tmp_path)):
        store.load(tmp_path)


def test_what_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(TypeError, match="set"):
        store.dump({"x": {1, 2}}, tmp_path)
