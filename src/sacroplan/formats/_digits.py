"""Numbers to text in compiled loops: a lattice has more digits than an interpreter can write."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

LONGEST = 24
"""Characters of a number at most."""


@njit(cache=True, nogil=True)
def _fill(values, decimals, words, start, out, ends):  # type: ignore[no-untyped-def]
    """Write each row of integers (n, m) between the ``words``; ``ends`` (n,) gets where each stops."""
    digits = np.empty(LONGEST, dtype=np.uint8)
    at = 0
    rows, columns = values.shape
    for n in range(rows):
        for c in range(columns + 1):
            for w in range(start[c], start[c + 1]):
                out[at] = words[w]
                at += 1
            if c == columns:
                break
            v = values[n, c]
            if v < 0:
                out[at] = 45  # minus
                at += 1
                v = -v
            count = 0
            while v > 0 or count <= decimals:
                digits[count] = 48 + v % 10
                v //= 10
                count += 1
            for d in range(count - 1, -1, -1):
                out[at] = digits[d]
                at += 1
                if d == decimals and decimals > 0:
                    out[at] = 46  # point
                    at += 1
        ends[n] = at


@njit(cache=True, nogil=True, inline="always")
def _put(out, f, at, value):  # type: ignore[no-untyped-def]
    """A float32 as two halves of 16 bits, low half first."""
    bits = np.float32(value).view(np.uint32)
    out[f, 2 * at] = bits & np.uint32(0xFFFF)
    out[f, 2 * at + 1] = bits >> np.uint32(16)


@njit(cache=True, nogil=True)
def stl_records(vertices, faces, out):  # type: ignore[no-untyped-def]
    """Binary STL records of the faces as 16-bit words, ``out`` (m, 25): normal, corners, nothing.

    The normal is of unit length, or zero for a face without area.
    """
    for f in range(faces.shape[0]):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        if length > 0.0:
            nx, ny, nz = nx / length, ny / length, nz / length
        _put(out, f, 0, nx)
        _put(out, f, 1, ny)
        _put(out, f, 2, nz)
        for d in range(3):
            _put(out, f, 3 + d, a[d])
            _put(out, f, 6 + d, b[d])
            _put(out, f, 9 + d, c[d])
        out[f, 24] = 0


def rows(values: npt.ArrayLike, words: Sequence[str], decimals: int = 0) -> bytes:
    """Rows of numbers (n, m) as ASCII, each between the ``words`` (m + 1), with fixed ``decimals``.

    Beyond 9e18 units of the last decimal a number does not fit and an ``OverflowError`` is raised.
    """
    return rows_and_ends(values, words, decimals)[0]


def rows_and_ends(
    values: npt.ArrayLike, words: Sequence[str], decimals: int = 0
) -> tuple[bytes, npt.NDArray[np.int64]]:
    """:func:`rows`, and (n,) the byte at which each row ends."""
    v = np.asarray(values)
    if decimals:
        scaled = np.rint(v * 10.0**decimals)
        if scaled.size and not np.abs(scaled).max() < 2.0**62:
            raise OverflowError("A coordinate is too large to be written.")
        v = scaled
    whole = np.ascontiguousarray(v, dtype=np.int64)
    coded = [np.frombuffer(w.encode("ascii"), dtype=np.uint8) for w in words]
    start = np.cumsum([0] + [len(w) for w in coded])
    out = np.empty(len(whole) * (int(start[-1]) + LONGEST * whole.shape[1]), dtype=np.uint8)
    ends = np.zeros(len(whole), dtype=np.int64)
    _fill(whole, decimals, np.concatenate(coded), start, out, ends)
    used = int(ends[-1]) if len(ends) else 0
    return out[:used].tobytes(), ends
