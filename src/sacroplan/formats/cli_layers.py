"""Common Layer Interface: what laser-melting machines read as slices, in binary, millimetres."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from sacroplan.banner import BANNER_SHORT
from sacroplan.errors import FormatError
from sacroplan.formats.atomic import replaced_file
from sacroplan.formats.threemf_lattice import PlaneSlice

_LAYER, _POLYLINE = 127, 130
_COUNT_AT = b"000000"


def write_cli(
    name: str, slices: Iterable[PlaneSlice], path: str | os.PathLike[str], note: str = ""
) -> int:
    """Write slices (build coordinates, mm) as a binary CLI file of version 2; number of layers.

    A layer stands at its upper face. Outer outlines are marked 1, holes 0. ``note`` is a comment line,
    for instance how to come back to LPS. Same slices, same bytes. Raises :class:`FormatError` for no slice.
    """
    for text in (name, note):
        if "//" in text or "\n" in text:
            raise FormatError(
                f"{path}: {text!r} cannot stand in a CLI header; leave out '//' and breaks."
            )
    count = 0
    with replaced_file(path) as stream:
        stream.write(
            f"$$HEADERSTART\n// {BANNER_SHORT} //\n// {note} //\n$$BINARY\n$$UNITS/1\n$$VERSION/200\n"
            f"$$LABEL/1,{name}\n$$LAYERS/".encode("ascii", "replace")
        )
        at = stream.tell()
        stream.write(_COUNT_AT + b"\n$$HEADEREND")
        for one in slices:
            stream.write(_LAYER.to_bytes(2, "little") + np.array(one.top_mm, dtype="<f4").tobytes())
            for ring in one.outlines:
                closed = np.concatenate([ring, ring[:1]])
                x, y = closed[:, 0], closed[:, 1]
                outer = int(x[:-1] @ y[1:] - y[:-1] @ x[1:] > 0.0)
                stream.write(_POLYLINE.to_bytes(2, "little"))
                stream.write(np.array([1, outer, len(closed)], dtype="<i4").tobytes())
                stream.write(closed.astype("<f4").tobytes())
            count += 1
        if not 0 < count < 10**6:
            raise FormatError(f"{path}: {count} slices of {name!r}; a CLI file holds 1 to 999999.")
        stream.seek(at)
        stream.write(f"{count:06d}".encode("ascii"))
    return count
