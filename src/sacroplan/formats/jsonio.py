"""JSON whose bytes repeat: sorted keys, floats of nine significant digits, a final newline."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.errors import FormatError
from sacroplan.formats.atomic import write_text


def plain(value: Any, where: str = "$") -> Any:
    """``value`` as JSON types; numpy scalars, arrays, tuples and ``to_json()`` are unfolded.

    Floats are rounded to nine significant digits: sub-micrometre at patient scale, and the last
    bits of a sum never change a file. NaN and infinity have no JSON form and are refused.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            raise FormatError(f"{where} is {number}; JSON needs a finite number or null.")
        return float(f"{number:.9g}") + 0.0  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise FormatError(f"{where} has the key {key!r}; JSON keys are text.")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), where)
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{n}]") for n, item in enumerate(value)]
    if hasattr(value, "to_json"):
        return plain(value.to_json(), where)
    if isinstance(value, os.PathLike):
        return Path(value).as_posix()
    raise FormatError(f"{where} is a {type(value).__name__}, which JSON cannot hold.")


def dumps(obj: Any) -> str:
    """The text :func:`write_json` writes."""
    return (
        json.dumps(plain(obj), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    )


def write_json(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write ``obj`` to ``path``; same object, same bytes. Raises :class:`FormatError`."""
    write_text(path, dumps(obj))


def read_text(path: str | os.PathLike[str]) -> str:
    """UTF-8 text of ``path``; raises :class:`FormatError` when it is missing or not text."""
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text.") from error
    except OSError as error:
        raise FormatError(f"{path} could not be read: {error.strerror or error}.") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """The object in ``path``; raises :class:`FormatError` naming the line of the fault."""
    text = read_text(path)

    def refuse(constant: str) -> Any:
        raise FormatError(f"{path} holds {constant}, which is not JSON.")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise FormatError(f"{path} is not JSON: line {error.lineno}, {error.msg}.") from error
    except RecursionError as error:
        raise FormatError(f"{path} is nested too deeply to be one of our files.") from error
