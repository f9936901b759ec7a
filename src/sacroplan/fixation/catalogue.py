"""Screw sizes that exist: generic ones from the evidence rows, or the user's own from a file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sacroplan import evidence
from sacroplan.errors import PlanError
from sacroplan.fixation.screws import KINDS, Kind
from sacroplan.geometry.frames import FloatArray


@dataclass(frozen=True)
class Catalogue:
    """Sizes by kind of screw, and rod diameters.

    Attributes
    ----------
    name : what a report calls it. sizes : kind to ((diameter mm, (length mm, ...)), ...), ascending.
    rods_mm : rod diameters, ascending.
    """

    name: str
    sizes: Mapping[str, tuple[tuple[float, tuple[float, ...]], ...]]
    rods_mm: tuple[float, ...]

    def diameters(self, kind: Kind) -> FloatArray:
        """Diameters (mm) for ``kind``, ascending."""
        return np.array([d for d, _ in self._of(kind)])

    def lengths(self, kind: Kind) -> FloatArray:
        """Lengths (mm) that exist in any diameter, ascending."""
        return np.array(sorted({x for _, lengths in self._of(kind) for x in lengths}))

    def has(self, kind: Kind, diameter_mm: float, length_mm: float) -> bool:
        """Whether this very size exists."""
        return any(
            abs(d - diameter_mm) < 1e-6 and any(abs(x - length_mm) < 1e-6 for x in lengths)
            for d, lengths in self._of(kind)
        )

    def _of(self, kind: Kind) -> tuple[tuple[float, tuple[float, ...]], ...]:
        sizes = self.sizes.get(kind, ())
        if not sizes:
            raise PlanError(
                f"The screw catalogue {self.name!r} has no sizes for {kind} screws; it has "
                f"{sorted(k for k, v in self.sizes.items() if v)}. Add them, or leave these screws out."
            )
        return sizes


def _steps(low: float, high: float, step: float) -> tuple[float, ...]:
    return tuple(float(x) for x in np.arange(low, high + 0.5 * step, step))


def generic() -> Catalogue:
    """Sizes that every set carries, no vendor's (SP-FIX-01, SP-FIX-10, IL-03, ROD-1)."""
    dstep = evidence.value("SP-FIX-01", "diameter_step")
    lstep = evidence.value("SP-FIX-01", "length_step")

    def table(diameter: tuple[str, str], length: tuple[str, str]) -> tuple[
        tuple[float, tuple[float, ...]], ...
    ]:  # fmt: skip
        lengths = _steps(*evidence.span(*length), lstep)
        return tuple((d, lengths) for d in _steps(*evidence.span(*diameter), dstep))

    iliac = table(("IL-03", "diameter"), ("SP-FIX-01", "iliac_length"))
    low, high = evidence.span("ROD-1")
    return Catalogue(
        "generic",
        {
            "pedicle": table(
                ("SP-FIX-01", "pedicle_diameter"), ("SP-FIX-01", "pedicle_length")
            ),
            "iliac": iliac, "iliolumbar": iliac, "s2ai": iliac, "wing": iliac,
            "trans_sacral": table(("SP-FIX-10", "diameter"), ("SP-FIX-10", "length")),
        },
        tuple(sorted({low, evidence.value("ROD-1"), high})),
    )  # fmt: skip


def read_catalogue(path: str | os.PathLike[str]) -> Catalogue:
    """A user's own catalogue (TOML)::

        name = "Our set"
        rods_mm = [5.5, 6.0]

        [[screw]]
        kinds = ["pedicle"]
        diameters_mm = [5.5, 6.5]
        lengths_mm = [35, 40, 45, 50]

    Raises
    ------
    PlanError : unreadable, an unknown key or kind, or a size that is no size.
    """
    file = Path(path)
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise PlanError(f"The screw catalogue {file} does not exist.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"The screw catalogue {file} cannot be read: {error}.") from error
    _known(table, {"name", "rods_mm", "screw"}, str(file))
    entries = table.get("screw")
    if not isinstance(entries, list) or not entries:
        raise PlanError(f"{file} lists no screws; it needs one [[screw]] table or more.")
    sizes: dict[str, dict[float, set[float]]] = {}
    for n, entry in enumerate(entries, start=1):
        where = f"{file}, screw {n}"
        _known(entry, {"kinds", "diameters_mm", "lengths_mm"}, where)
        for kind in entry.get("kinds", ()):
            if kind not in KINDS:
                raise PlanError(f"{where}: the kind {kind!r} is not known; known are {KINDS}.")
            for d in _numbers(entry.get("diameters_mm"), 3.0, 12.0, f"{where}: diameters_mm"):
                found = _numbers(entry.get("lengths_mm"), 15.0, 200.0, f"{where}: lengths_mm")
                sizes.setdefault(kind, {}).setdefault(d, set()).update(found)
    rods = table.get("rods_mm", list(generic().rods_mm))
    return Catalogue(
        str(table.get("name", file.stem)),
        {
            kind: tuple((d, tuple(sorted(by[d]))) for d in sorted(by))
            for kind, by in sorted(sizes.items())
        },
        tuple(_numbers(rods, 3.0, 8.0, f"{file}: rods_mm")),
    )


def _known(table: Mapping[str, object], keys: set[str], where: str) -> None:
    wrong = sorted(set(table) - keys)
    if wrong:
        raise PlanError(f"{where}: the key {wrong[0]!r} is not known; known are {sorted(keys)}.")


def _numbers(values: object, low: float, high: float, where: str) -> list[float]:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise PlanError(f"{where} is {values!r}; a list of sizes in mm is needed.")
    out = []
    for v in values:
        if isinstance(v, bool) or not isinstance(v, (int, float)) or not low <= v <= high:
            raise PlanError(f"{where} holds {v!r}; sizes from {low:g} to {high:g} mm are needed.")
        out.append(float(v))
    if not out:
        raise PlanError(f"{where} is empty.")
    return sorted(set(out))
