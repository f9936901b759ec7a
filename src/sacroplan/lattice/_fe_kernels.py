"""Compiled loops of the homogenisation: eight-node cubes on a periodic grid, without a matrix."""

from __future__ import annotations

from numba import njit, prange


@njit(cache=True, nogil=True, parallel=True)
def apply(u, scale, stiffness, out):  # type: ignore[no-untyped-def]
    """``out = K u`` for nodal displacements ``u`` (ni, nj, nk, 3) of a periodic grid.

    ``scale`` (ni, nj, nk) multiplies the element between node (i, j, k) and (i+1, j+1, k+1);
    ``stiffness`` (8, 8, 3, 3) is that of a full element, corners in binary order (i, j, k). Every node
    gathers from its eight elements, so that threads never write to the same place.
    """
    ni, nj, nk = scale.shape
    for i in prange(ni):
        for j in range(nj):
            for k in range(nk):
                x = 0.0
                y = 0.0
                z = 0.0
                for corner in range(8):
                    a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
                    ei = i - a if i >= a else ni - 1
                    ej = j - b if j >= b else nj - 1
                    ek = k - c if k >= c else nk - 1
                    s = scale[ei, ej, ek]
                    if s == 0.0:
                        continue
                    fx = 0.0
                    fy = 0.0
                    fz = 0.0
                    for other in range(8):
                        oi = ei + (other >> 2)
                        oj = ej + ((other >> 1) & 1)
                        ok = ek + (other & 1)
                        if oi == ni:
                            oi = 0
                        if oj == nj:
                            oj = 0
                        if ok == nk:
                            ok = 0
                        m = stiffness[corner, other]
                        ux, uy, uz = u[oi, oj, ok, 0], u[oi, oj, ok, 1], u[oi, oj, ok, 2]
                        fx += m[0, 0] * ux + m[0, 1] * uy + m[0, 2] * uz
                        fy += m[1, 0] * ux + m[1, 1] * uy + m[1, 2] * uz
                        fz += m[2, 0] * ux + m[2, 1] * uy + m[2, 2] * uz
                    x += s * fx
                    y += s * fy
                    z += s * fz
                out[i, j, k, 0] = x
                out[i, j, k, 1] = y
                out[i, j, k, 2] = z


@njit(cache=True, nogil=True)
def load(scale, element, out):  # type: ignore[no-untyped-def]
    """Add the nodal forces of one uniform strain: ``element`` (8, 3) per full element."""
    ni, nj, nk = scale.shape
    for i in range(ni):
        for j in range(nj):
            for k in range(nk):
                s = scale[i, j, k]
                if s == 0.0:
                    continue
                for corner in range(8):
                    a = (i + (corner >> 2)) % ni
                    b = (j + ((corner >> 1) & 1)) % nj
                    c = (k + (corner & 1)) % nk
                    for n in range(3):
                        out[a, b, c, n] += s * element[corner, n]


@njit(cache=True, nogil=True, parallel=True)
def smooth(spectrum, inverse):  # type: ignore[no-untyped-def]
    """Multiply ``spectrum`` (ni, nj, m, 3) in place by the symmetric 3 x 3 blocks ``inverse`` (..., 6)."""
    ni, nj, m = spectrum.shape[:3]
    for i in prange(ni):
        for j in range(nj):
            for k in range(m):
                x, y, z = spectrum[i, j, k, 0], spectrum[i, j, k, 1], spectrum[i, j, k, 2]
                b = inverse[i, j, k]
                spectrum[i, j, k, 0] = b[0] * x + b[5] * y + b[4] * z
                spectrum[i, j, k, 1] = b[5] * x + b[1] * y + b[3] * z
                spectrum[i, j, k, 2] = b[4] * x + b[3] * y + b[2] * z
