"""What structures are called: by this program, by others, and in codes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple


class Code(NamedTuple):
    """A coded word: value, coding scheme, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Coded:
    """A structure in codes: its ``category``, its ``kind``, its ``side`` where it has two."""

    category: Code
    kind: Code
    side: Code | None


@lru_cache(maxsize=1)
def tables() -> Mapping[str, Any]:
    """The tables of ``data/labels.toml``."""
    file = resources.files("sacroplan.formats") / "data" / "labels.toml"
    return tomllib.loads(file.read_text("utf-8"))


def own_names() -> dict[int, str]:
    """The program's own label ids and names."""
    return {int(key): name for key, name in tables()["own"].items()}


def own_ids() -> dict[str, int]:
    """The program's own label id of every name."""
    return {name: i for i, name in own_names().items()}


def _key(name: str) -> str:
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def is_sixth_lumbar(name: str) -> bool:
    """Whether a file's name of a structure means a sixth lumbar vertebra."""
    return _key(name) in tables()["unknown"]["sixth_lumbar"]


def canonical_name(name: str) -> str | None:
    """The program's name of a structure that a file calls ``name``; None if it is none of ours."""
    key = _key(name)
    for own, others in tables()["names"].items():
        if key == own.lower() or key in others:
            return str(own)
    return None


def snomed(name: str) -> Coded | None:
    """The codes of one of the program's structures."""
    table = tables()["snomed"]
    entry = table["structures"].get(name)
    if entry is None:
        return None
    side = entry.get("side")
    return Coded(
        Code(*table["categories"][entry.get("category", "anatomy")]),
        Code(entry["value"], "SCT", entry["meaning"]),
        None if side is None else Code(*table["sides"][side]),
    )


def name_of_code(kind: Code, side: Code | None) -> str | None:
    """The program's structure that a code means; a paired bone needs its side."""
    for name in tables()["snomed"]["structures"]:
        known = snomed(name)
        if known is None or (known.kind.value, known.kind.scheme) != (kind.value, kind.scheme):
            continue
        if known.side is None or (side is not None and known.side.value == side.value):
            return str(name)
    return None
