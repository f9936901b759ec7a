"""Keep value objects between runs: plain JSON beside one array file, no pickles.

A stage's result is a tree of frozen dataclasses, mappings, tuples, numbers, texts and numpy arrays.
``dump`` writes it as ``result.json`` and ``arrays.npz``; ``load`` rebuilds the same objects. Only
dataclasses of sacroplan itself are ever constructed, so a case folder from a stranger cannot run
code.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sacroplan.errors import CaseError

_EPOCH = (1980, 1, 1, 0, 0, 0)


def dump(result: Any, folder: Path) -> None:
    """Write ``result`` into an existing folder; equal results give equal bytes."""
    arrays: list[npt.NDArray[Any]] = []
    seen: dict[int, int] = {}
    tree = _encode(result, arrays, seen)
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=True)
    (folder / "result.json").write_text(text + "\n", "utf-8")
    with zipfile.ZipFile(folder / "arrays.npz", "w", zipfile.ZIP_STORED) as archive:
        for n, array in enumerate(arrays):
            entry = zipfile.ZipInfo(f"{n}.npy", _EPOCH)
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def load(folder: Path) -> Any:
    """Rebuild what ``dump`` wrote; raises :class:`CaseError` when the folder is damaged."""
    try:
        tree = json.loads((folder / "result.json").read_text("utf-8"))
        with np.load(folder / "arrays.npz", allow_pickle=False) as archive:
            arrays = [archive[str(n)] for n in range(len(archive.files))]
        return _decode(tree, arrays)
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise CaseError(
            f"{folder} does not hold a readable stage result ({error}). Delete it and run again."
        ) from error


def _encode(value: Any, arrays: list[npt.NDArray[Any]], seen: dict[int, int]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, bytes):
        value = np.frombuffer(value, dtype=np.uint8)
        return {"$": "bytes", "v": _encode(value, arrays, seen)}
    if isinstance(value, np.ndarray):
        # The same array (a shared surface) is stored once.
        if id(value) not in seen:
            seen[id(value)] = len(arrays)
            arrays.append(value)
        return {"$": "array", "v": seen[id(value)]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {
            f.name: _encode(getattr(value, f.name), arrays, seen)
            for f in dataclasses.fields(value)
            if f.init
        }
        return {"$": "object", "t": f"{kind.__module__}:{kind.__qualname__}", "v": fields}
    if isinstance(value, Mapping):
        items = [[_encode(k, arrays, seen), _encode(v, arrays, seen)] for k, v in value.items()]
        return {"$": "map", "v": items}
    if isinstance(value, tuple):
        return {"$": "tuple", "v": [_encode(v, arrays, seen) for v in value]}
    if isinstance(value, list):
        return [_encode(v, arrays, seen) for v in value]
    if isinstance(value, Path):
        return {"$": "path", "v": str(value)}
    raise TypeError(f"A stage result may not hold a {type(value).__name__}.")


def _decode(tree: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    if isinstance(tree, list):
        return [_decode(v, arrays) for v in tree]
    if not isinstance(tree, dict):
        return tree
    kind, value = tree["$"], tree["v"]
    if kind == "array":
        return arrays[value]
    if kind == "bytes":
        return _decode(value, arrays).tobytes()
    if kind == "tuple":
        return tuple(_decode(v, arrays) for v in value)
    if kind == "map":
        return {_decode(k, arrays): _decode(v, arrays) for k, v in value}
    if kind == "path":
        return Path(value)
    if kind == "object":
        return _class(tree["t"])(**{k: _decode(v, arrays) for k, v in value.items()})
    raise ValueError(f"unknown entry {kind!r}")


def _class(name: str) -> Any:
    module, _, qualname = name.partition(":")
    if module != "sacroplan" and not module.startswith("sacroplan."):
        raise ValueError(f"{name} is not one of sacroplan's own types")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"{name} is not a value object")
    return found
