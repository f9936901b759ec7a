"""A stroke font for engraving: letters as thick polylines, so that every stroke has one width."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from sacroplan.errors import PlanError
from sacroplan.geometry.frames import DEFAULT_FRAME, FloatArray
from sacroplan.geometry.surface import Surface

ADVANCE = 0.86
"""Letter pitch in letter heights: 0.6 of letter and 0.26 of gap keep a 0.18 stroke legible."""

_WIDTH = 0.6
_CORNERS = {
    # A key pad of 3 x 5 points: columns l, c, r and rows 0 (base line) to 4 (top).
    f"{column}{row}": (x, y / 4.0)
    for column, x in (("l", 0.0), ("c", _WIDTH / 2.0), ("r", _WIDTH))
    for row, y in enumerate(range(5))
}
_GLYPHS = {
    "A": "l0 c4 r0, l1.2 r1.2",
    "B": "l0 l4 c4 r3 c2 r1 c0 l0, l2 c2",
    "C": "r4 c4 l3 l1 c0 r0",
    "D": "l0 l4 c4 r3 r1 c0 l0",
    "E": "r4 l4 l0 r0, l2 c2",
    "F": "r4 l4 l0, l2 c2",
    "G": "r4 c4 l3 l1 c0 r0 r2 c2",
    "H": "l0 l4, r0 r4, l2 r2",
    "I": "c0 c4",
    "J": "r4 r1 c0 l1",
    "K": "l0 l4, r4 l2 r0",
    "L": "l4 l0 r0",
    "M": "l0 l4 c2 r4 r0",
    "N": "l0 l4 r0 r4",
    "O": "c4 l3 l1 c0 r1 r3 c4",
    "P": "l0 l4 c4 r3 c2 l2",
    "Q": "c4 l3 l1 c0 r1 r3 c4, c1 r0",
    "R": "l0 l4 c4 r3 c2 l2, c2 r0",
    "S": "r4 c4 l3 c2 r1 c0 l0",
    "T": "l4 r4, c4 c0",
    "U": "l4 l1 c0 r1 r4",
    "V": "l4 c0 r4",
    "W": "l4 l0 c2 r0 r4",
    "X": "l4 r0, l0 r4",
    "Y": "l4 c2 r4, c2 c0",
    "Z": "l4 r4 l0 r0",
    "0": "c4 l3 l1 c0 r1 r3 c4, l1 r3",
    "1": "l3 c4 c0, l0 r0",
    "2": "l3 c4 r3 l0 r0",
    "3": "l4 r4 c2 r1 c0 l0.5",
    "4": "c4 l1 r1, c2 c0",
    "5": "r4 l4 l2 c2 r1 c0 l0",
    "6": "r4 c4 l2 l1 c0 r1 c2 l1",
    "7": "l4 r4 c0",
    "8": "c2 l3 c4 r3 c2 l1 c0 r1 c2",
    "9": "l0 c0 r2 r3 c4 l3 c2 r3",
    "-": "l2 r2",
    "_": "l0 r0",
    ".": "c0 c0.1",
    "/": "l0 r4",
    "+": "l2 r2, c1 c3",
    "<": "r2 l2, c3.2 l2 c0.8",
    ">": "l2 r2, c3.2 r2 c0.8",
    "^": "c0 c4, l2.8 c4 r2.8",
    " ": "",
}
"""Strokes as lists of key-pad points; ``<``, ``>`` and ``^`` are arrows."""


def _point(token: str) -> tuple[float, float]:
    if token in _CORNERS:
        return _CORNERS[token]
    x = {"l": 0.0, "c": _WIDTH / 2.0, "r": _WIDTH}[token[0]]
    return x, float(token[1:]) / 4.0


def strokes(character: str) -> list[FloatArray]:
    """Polylines (n, 2) of one character in a cell 0.6 wide and 1 high; raises for unknown ones."""
    if character not in _GLYPHS:
        raise PlanError(
            f"The character {character!r} cannot be engraved; there are {''.join(_GLYPHS)!r}."
        )
    return [
        np.array([_point(token) for token in stroke.split()])
        for stroke in _GLYPHS[character].split(",")
        if stroke.strip()
    ]


def engravable(text: str) -> str:
    """``text`` in capitals, every character the font lacks replaced by a hyphen."""
    return "".join(c if c in _GLYPHS else "-" for c in text.upper())


def width_mm(text: str, height_mm: float) -> float:
    """Length of a line of text without the gap after its last letter."""
    return height_mm * (ADVANCE * (len(text) - 1) + _WIDTH) if text else 0.0


def _thick(line: FloatArray, radius: float) -> list[Any]:
    import manifold3d

    dot = manifold3d.CrossSection.circle(radius, 12)
    dots = [dot.translate((float(x), float(y))) for x, y in line]
    return [manifold3d.CrossSection.batch_hull([a, b]) for a, b in pairwise(dots)]


def glyph(
    character: str,
    height_mm: float,
    stroke_mm: float,
    origin: FloatArray,
    axes: FloatArray,
    low_mm: float,
    high_mm: float,
    frame: str = DEFAULT_FRAME,
) -> Surface | None:
    """One character as a closed solid, None for a blank.

    ``origin`` (3,) is the lower left corner of the letter; ``axes`` (3, 3) has the columns reading
    direction, letter's up, towards the reader (right-handed, so that it reads the right way round);
    the solid reaches from ``low_mm`` to ``high_mm`` along the last.
    """
    import manifold3d

    from sacroplan.geometry.primitives import prism

    radius = stroke_mm / 2.0
    # The strokes' middle lines keep half a stroke from the letter's outline.
    scale = np.array([height_mm - stroke_mm / _WIDTH, height_mm - stroke_mm])
    parts: list[Any] = []
    for line in strokes(character):
        parts += _thick(line * scale + radius, radius)
    if not parts:
        return None
    section = manifold3d.CrossSection.batch_boolean(parts, manifold3d.OpType.Add)
    loops = [np.asarray(p) for p in section.to_polygons()]
    return prism(loops, origin, axes, low_mm, high_mm, frame)
