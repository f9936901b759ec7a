"""Compiled loops of the finite-element method. Serial on purpose: same input, same bytes."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def node_graph(elements, number, n, mates):  # type: ignore[no-untyped-def]
    """CSR graph (row starts, sorted columns) of nodes that share an element or a spring.

    ``number`` maps nodes to unknown blocks 0..n-1, -1 for fixed nodes, which get no row; ``mates``
    (n, k) holds for each unknown those that springs tie to it, -1 where there are fewer.
    """
    m, e = elements.shape
    start = np.zeros(n + 1, dtype=np.int64)
    for t in range(m):
        for a in range(e):
            i = number[elements[t, a]]
            if i >= 0:
                start[i + 1] += 1
    for i in range(n):
        start[i + 1] += start[i]
    fill = start[:-1].copy()
    around = np.empty(start[n], dtype=np.int32)
    for t in range(m):
        for a in range(e):
            i = number[elements[t, a]]
            if i >= 0:
                around[fill[i]] = t
                fill[i] += 1
    seen = np.full(n, -1, dtype=np.int32)
    rows = np.zeros(n + 1, dtype=np.int64)
    for i in range(n):
        count = 0
        for k in range(start[i], start[i + 1]):
            for b in range(e):
                j = number[elements[around[k], b]]
                if j >= 0 and seen[j] != i:
                    seen[j] = i
                    count += 1
        for k in range(mates.shape[1]):
            j = mates[i, k]
            if j >= 0 and seen[j] != i:
                seen[j] = i
                count += 1
        rows[i + 1] = rows[i] + count
    columns = np.empty(rows[n], dtype=np.int32)
    seen[:] = -1
    for i in range(n):
        at = rows[i]
        for k in range(start[i], start[i + 1]):
            for b in range(e):
                j = number[elements[around[k], b]]
                if j >= 0 and seen[j] != i:
                    seen[j] = i
                    columns[at] = j
                    at += 1
        for k in range(mates.shape[1]):
            j = mates[i, k]
            if j >= 0 and seen[j] != i:
                seen[j] = i
                columns[at] = j
                at += 1
        columns[rows[i] : rows[i + 1]].sort()
    return rows, columns


@njit(cache=True, nogil=True)
def _find(columns, low, high, j):  # type: ignore[no-untyped-def]
    while low < high:
        mid = (low + high) // 2
        if columns[mid] < j:
            low = mid + 1
        else:
            high = mid
    return low


@njit(cache=True, nogil=True)
def barycentric_gradients(p, g):  # type: ignore[no-untyped-def]
    """Gradients (4, 3) of the barycentric coordinates of corners ``p`` (4, 3); returns volume."""
    e = np.empty((3, 3))
    for c in range(3):
        for d in range(3):
            e[c, d] = p[c + 1, d] - p[0, d]
    det = 0.0
    for c in range(3):
        u, v = (c + 1) % 3, (c + 2) % 3
        g[c + 1, 0] = e[u, 1] * e[v, 2] - e[u, 2] * e[v, 1]
        g[c + 1, 1] = e[u, 2] * e[v, 0] - e[u, 0] * e[v, 2]
        g[c + 1, 2] = e[u, 0] * e[v, 1] - e[u, 1] * e[v, 0]
    for d in range(3):
        det += e[0, d] * g[1, d]
    for d in range(3):
        g[0, d] = 0.0
        for c in range(1, 4):
            g[c, d] /= det
            g[0, d] -= g[c, d]
    return det / 6.0


@njit(cache=True, nogil=True)
def shape_gradients(bary, g, edges, out):  # type: ignore[no-untyped-def]
    """Gradients (10, 3) of the quadratic shape functions at barycentric coordinates (4,)."""
    for a in range(4):
        for d in range(3):
            out[a, d] = (4.0 * bary[a] - 1.0) * g[a, d]
    for e in range(6):
        a, b = edges[e, 0], edges[e, 1]
        for d in range(3):
            out[4 + e, d] = 4.0 * (bary[a] * g[b, d] + bary[b] * g[a, d])


@njit(cache=True, nogil=True)
def assemble(points, elements, lame, shear, tensor, tensors, number, rows, columns, gauss, edges):  # type: ignore[no-untyped-def]
    """Stiffness blocks (nnz, 3, 3) of elements with 4 (linear) or 10 nodes.

    ``lame``, ``shear`` (m, 1) or (m, q): isotropic moduli of an element or of its integration
    points; elements with ``tensor`` (m,) >= 0 take that one of ``tensors`` (k, 3, 3, 3, 3) instead.
    """
    out = np.zeros((columns.shape[0], 3, 3))
    m, e = elements.shape
    q = gauss.shape[0] if e == 10 else 1
    own = lame.shape[1]
    g = np.empty((4, 3))
    grads = np.empty((q, e, 3))
    p = np.empty((4, 3))
    for t in range(m):
        for a in range(4):
            p[a] = points[elements[t, a]]
        volume = barycentric_gradients(p, g)
        if e == 10:
            for k in range(q):
                shape_gradients(gauss[k], g, edges, grads[k])
        else:
            grads[0] = g
        w = volume / q
        full = tensor[t] >= 0
        la, mu = lame[t, 0], shear[t, 0]
        if e == 4 and own > 1:
            # Linear elements have one point: it takes the mean of the quadratic element's.
            la, mu = lame[t].mean(), shear[t].mean()
        for a in range(e):
            i = number[elements[t, a]]
            if i < 0:
                continue
            for b in range(e):
                j = number[elements[t, b]]
                if j < 0:
                    continue
                at = _find(columns, rows[i], rows[i + 1], j)
                if full:
                    _anisotropic(out[at], grads[:, a], grads[:, b], tensors[tensor[t]], w)
                    continue
                for k in range(q):
                    if e == 10 and own > 1:
                        la, mu = lame[t, k], shear[t, k]
                    dot = 0.0
                    for d in range(3):
                        dot += grads[k, a, d] * grads[k, b, d]
                    for r in range(3):
                        for s in range(3):
                            out[at, r, s] += w * (
                                la * grads[k, a, r] * grads[k, b, s]
                                + mu * grads[k, a, s] * grads[k, b, r]
                            )
                        out[at, r, r] += w * mu * dot
    return out


@njit(cache=True, nogil=True)
def _anisotropic(block, first, second, c, w):  # type: ignore[no-untyped-def]
    """Adds the block of two shape functions, gradients (q, 3) each, of stiffness (3, 3, 3, 3)."""
    for k in range(first.shape[0]):
        for r in range(3):
            for s in range(3):
                total = 0.0
                for i in range(3):
                    part = 0.0
                    for j in range(3):
                        part += c[r, i, s, j] * second[k, j]
                    total += part * first[k, i]
                block[r, s] += w * total


@njit(cache=True, nogil=True)
def internal_forces(points, elements, lame, shear, tensor, tensors, u, gauss, edges):  # type: ignore[no-untyped-def]
    """(n, 3, c) nodal forces of displacements ``u`` (n, 3, c), straight from the elements."""
    out = np.zeros(u.shape)
    cases = u.shape[2]
    own = lame.shape[1]
    g = np.empty((4, 3))
    grads = np.empty((10, 3))
    p = np.empty((4, 3))
    h = np.empty((3, 3))
    sig = np.empty((3, 3))
    for t in range(elements.shape[0]):
        for a in range(4):
            p[a] = points[elements[t, a]]
        volume = barycentric_gradients(p, g)
        for k in range(gauss.shape[0]):
            shape_gradients(gauss[k], g, edges, grads)
            w = volume / gauss.shape[0]
            la, mu = lame[t, k if own > 1 else 0], shear[t, k if own > 1 else 0]
            for c in range(cases):
                h[:] = 0.0
                for a in range(10):
                    for r in range(3):
                        for s in range(3):
                            h[r, s] += u[elements[t, a], r, c] * grads[a, s]
                if tensor[t] >= 0:
                    for r in range(3):
                        for s in range(3):
                            total = 0.0
                            for i in range(3):
                                for j in range(3):
                                    total += tensors[tensor[t], r, s, i, j] * h[i, j]
                            sig[r, s] = total
                else:
                    trace = h[0, 0] + h[1, 1] + h[2, 2]
                    for r in range(3):
                        for s in range(3):
                            sig[r, s] = mu * (h[r, s] + h[s, r])
                        sig[r, r] += la * trace
                for a in range(10):
                    for r in range(3):
                        f = 0.0
                        for s in range(3):
                            f += sig[r, s] * grads[a, s]
                        out[elements[t, a], r, c] += w * f
    return out


@njit(cache=True, nogil=True)
def hold(rows, columns, blocks, held):  # type: ignore[no-untyped-def]
    """Rows and columns of held components (n, 3) emptied but for their diagonal, in place."""
    for i in range(rows.shape[0] - 1):
        for k in range(rows[i], rows[i + 1]):
            j = columns[k]
            for r in range(3):
                for s in range(3):
                    if (held[i, r] or held[j, s]) and not (i == j and r == s):
                        blocks[k, r, s] = 0.0


@njit(cache=True, nogil=True)
def add_pairs(rows, columns, blocks, first, second, springs, held, sign):  # type: ignore[no-untyped-def]
    """Springs (p, 3, 3) between unknowns ``first`` and ``second`` (p,) added in place.

    An end of -1 is a fixed node; held components (n, 3) are left alone; ``sign`` -1 takes the
    springs away again.
    """
    for k in range(first.shape[0]):
        i, j = first[k], second[k]
        for a, b, f in ((i, i, sign), (j, j, sign), (i, j, -sign), (j, i, -sign)):
            if a < 0 or b < 0:
                continue
            at = _find(columns, rows[a], rows[a + 1], b)
            for r in range(3):
                for s in range(3):
                    if not (held[a, r] or held[b, s]):
                        blocks[at, r, s] += f * springs[k, r, s]


@njit(cache=True, nogil=True)
def strains(points, elements, u, bary, edges):  # type: ignore[no-untyped-def]
    """(m, q, 6) strains xx, yy, zz, xy, yz, zx (tensor shear) at barycentric points (q, 4)."""
    m = elements.shape[0]
    out = np.empty((m, bary.shape[0], 6))
    g = np.empty((4, 3))
    grads = np.empty((10, 3))
    p = np.empty((4, 3))
    h = np.empty((3, 3))
    for t in range(m):
        for a in range(4):
            p[a] = points[elements[t, a]]
        barycentric_gradients(p, g)
        for k in range(bary.shape[0]):
            shape_gradients(bary[k], g, edges, grads)
            h[:] = 0.0
            for a in range(10):
                for r in range(3):
                    for s in range(3):
                        h[r, s] += u[elements[t, a], r] * grads[a, s]
            out[t, k, 0] = h[0, 0]
            out[t, k, 1] = h[1, 1]
            out[t, k, 2] = h[2, 2]
            out[t, k, 3] = 0.5 * (h[0, 1] + h[1, 0])
            out[t, k, 4] = 0.5 * (h[1, 2] + h[2, 1])
            out[t, k, 5] = 0.5 * (h[2, 0] + h[0, 2])
    return out


# Vectors of the solver hold two load cases side by side, (n, 6): x y z of one, x y z of the other.
# Written out, because a loop over cases inside the innermost loop costs twice the time.


@njit(cache=True, nogil=True)
def multiply(rows, columns, blocks, x, y):  # type: ignore[no-untyped-def]
    """y = K x for vector pairs (n, 6)."""
    for i in range(rows.shape[0] - 1):
        s0 = s1 = s2 = s3 = s4 = s5 = 0.0
        for k in range(rows[i], rows[i + 1]):
            j = columns[k]
            x0, x1, x2 = x[j, 0], x[j, 1], x[j, 2]
            y0, y1, y2 = x[j, 3], x[j, 4], x[j, 5]
            k00, k01, k02 = blocks[k, 0, 0], blocks[k, 0, 1], blocks[k, 0, 2]
            k10, k11, k12 = blocks[k, 1, 0], blocks[k, 1, 1], blocks[k, 1, 2]
            k20, k21, k22 = blocks[k, 2, 0], blocks[k, 2, 1], blocks[k, 2, 2]
            s0 += k00 * x0 + k01 * x1 + k02 * x2
            s1 += k10 * x0 + k11 * x1 + k12 * x2
            s2 += k20 * x0 + k21 * x1 + k22 * x2
            s3 += k00 * y0 + k01 * y1 + k02 * y2
            s4 += k10 * y0 + k11 * y1 + k12 * y2
            s5 += k20 * y0 + k21 * y1 + k22 * y2
        y[i, 0], y[i, 1], y[i, 2] = s0, s1, s2
        y[i, 3], y[i, 4], y[i, 5] = s3, s4, s5


@njit(cache=True, nogil=True)
def diagonal_blocks(rows, columns, blocks):  # type: ignore[no-untyped-def]
    """(n, 3, 3) blocks on the diagonal."""
    n = rows.shape[0] - 1
    out = np.empty((n, 3, 3))
    for i in range(n):
        k = _find(columns, rows[i], rows[i + 1], i)
        for r in range(3):
            for s in range(3):
                out[i, r, s] = blocks[k, r, s]
    return out


@njit(cache=True, nogil=True)
def first_sweep(rows, columns, blocks, diagonal, b, x):  # type: ignore[no-untyped-def]
    """Forward block Gauss-Seidel sweep from zero: only columns before the row contribute."""
    for i in range(rows.shape[0] - 1):
        s0, s1, s2 = b[i, 0], b[i, 1], b[i, 2]
        s3, s4, s5 = b[i, 3], b[i, 4], b[i, 5]
        for k in range(rows[i], rows[i + 1]):
            j = columns[k]
            if j >= i:
                break
            x0, x1, x2 = x[j, 0], x[j, 1], x[j, 2]
            y0, y1, y2 = x[j, 3], x[j, 4], x[j, 5]
            k00, k01, k02 = blocks[k, 0, 0], blocks[k, 0, 1], blocks[k, 0, 2]
            k10, k11, k12 = blocks[k, 1, 0], blocks[k, 1, 1], blocks[k, 1, 2]
            k20, k21, k22 = blocks[k, 2, 0], blocks[k, 2, 1], blocks[k, 2, 2]
            s0 -= k00 * x0 + k01 * x1 + k02 * x2
            s1 -= k10 * x0 + k11 * x1 + k12 * x2
            s2 -= k20 * x0 + k21 * x1 + k22 * x2
            s3 -= k00 * y0 + k01 * y1 + k02 * y2
            s4 -= k10 * y0 + k11 * y1 + k12 * y2
            s5 -= k20 * y0 + k21 * y1 + k22 * y2
        for r in range(3):
            x[i, r] = diagonal[i, r, 0] * s0 + diagonal[i, r, 1] * s1 + diagonal[i, r, 2] * s2
            x[i, 3 + r] = diagonal[i, r, 0] * s3 + diagonal[i, r, 1] * s4 + diagonal[i, r, 2] * s5


@njit(cache=True, nogil=True)
def upper_rest(rows, columns, blocks, x, y):  # type: ignore[no-untyped-def]
    """y = b - K x after a first sweep (L + D) x = b: minus the upper triangle times x."""
    for i in range(rows.shape[0] - 1):
        s0 = s1 = s2 = s3 = s4 = s5 = 0.0
        for k in range(rows[i + 1] - 1, rows[i] - 1, -1):
            j = columns[k]
            if j <= i:
                break
            x0, x1, x2 = x[j, 0], x[j, 1], x[j, 2]
            y0, y1, y2 = x[j, 3], x[j, 4], x[j, 5]
            k00, k01, k02 = blocks[k, 0, 0], blocks[k, 0, 1], blocks[k, 0, 2]
            k10, k11, k12 = blocks[k, 1, 0], blocks[k, 1, 1], blocks[k, 1, 2]
            k20, k21, k22 = blocks[k, 2, 0], blocks[k, 2, 1], blocks[k, 2, 2]
            s0 -= k00 * x0 + k01 * x1 + k02 * x2
            s1 -= k10 * x0 + k11 * x1 + k12 * x2
            s2 -= k20 * x0 + k21 * x1 + k22 * x2
            s3 -= k00 * y0 + k01 * y1 + k02 * y2
            s4 -= k10 * y0 + k11 * y1 + k12 * y2
            s5 -= k20 * y0 + k21 * y1 + k22 * y2
        y[i, 0], y[i, 1], y[i, 2] = s0, s1, s2
        y[i, 3], y[i, 4], y[i, 5] = s3, s4, s5


@njit(cache=True, nogil=True)
def backward_sweep(rows, columns, blocks, diagonal, b, x):  # type: ignore[no-untyped-def]
    """Backward block Gauss-Seidel sweep on K x = b, in place."""
    n = rows.shape[0] - 1
    for step in range(n):
        i = n - 1 - step
        s0, s1, s2 = b[i, 0], b[i, 1], b[i, 2]
        s3, s4, s5 = b[i, 3], b[i, 4], b[i, 5]
        for k in range(rows[i], rows[i + 1]):
            j = columns[k]
            if j == i:
                continue
            x0, x1, x2 = x[j, 0], x[j, 1], x[j, 2]
            y0, y1, y2 = x[j, 3], x[j, 4], x[j, 5]
            k00, k01, k02 = blocks[k, 0, 0], blocks[k, 0, 1], blocks[k, 0, 2]
            k10, k11, k12 = blocks[k, 1, 0], blocks[k, 1, 1], blocks[k, 1, 2]
            k20, k21, k22 = blocks[k, 2, 0], blocks[k, 2, 1], blocks[k, 2, 2]
            s0 -= k00 * x0 + k01 * x1 + k02 * x2
            s1 -= k10 * x0 + k11 * x1 + k12 * x2
            s2 -= k20 * x0 + k21 * x1 + k22 * x2
            s3 -= k00 * y0 + k01 * y1 + k02 * y2
            s4 -= k10 * y0 + k11 * y1 + k12 * y2
            s5 -= k20 * y0 + k21 * y1 + k22 * y2
        for r in range(3):
            x[i, r] = diagonal[i, r, 0] * s0 + diagonal[i, r, 1] * s1 + diagonal[i, r, 2] * s2
            x[i, 3 + r] = diagonal[i, r, 0] * s3 + diagonal[i, r, 1] * s4 + diagonal[i, r, 2] * s5


@njit(cache=True, nogil=True)
def strains_at(points, elements, u, where, bary, edges):  # type: ignore[no-untyped-def]
    """(k, 6) tensor strains at barycentric points (k, 4) of elements ``where`` (k,)."""
    out = np.empty((where.shape[0], 6))
    g = np.empty((4, 3))
    grads = np.empty((10, 3))
    p = np.empty((4, 3))
    h = np.empty((3, 3))
    for n in range(where.shape[0]):
        t = where[n]
        for a in range(4):
            p[a] = points[elements[t, a]]
        barycentric_gradients(p, g)
        shape_gradients(bary[n], g, edges, grads)
        h[:] = 0.0
        for a in range(10):
            for r in range(3):
                for s in range(3):
                    h[r, s] += u[elements[t, a], r] * grads[a, s]
        out[n, 0], out[n, 1], out[n, 2] = h[0, 0], h[1, 1], h[2, 2]
        out[n, 3] = 0.5 * (h[0, 1] + h[1, 0])
        out[n, 4] = 0.5 * (h[1, 2] + h[2, 1])
        out[n, 5] = 0.5 * (h[2, 0] + h[0, 2])
    return out


@njit(cache=True, nogil=True)
def sphere_means(centres, volumes, values, radius):  # type: ignore[no-untyped-def]
    """(n,) volume-weighted mean of ``values`` over all centres within ``radius`` of each centre."""
    n = centres.shape[0]
    low = np.array([centres[:, 0].min(), centres[:, 1].min(), centres[:, 2].min()])
    size = np.empty(3, dtype=np.int64)
    for c in range(3):
        size[c] = int((centres[:, c].max() - low[c]) / radius) + 1
    cell = np.empty(n, dtype=np.int64)
    start = np.zeros(size[0] * size[1] * size[2] + 1, dtype=np.int64)
    for i in range(n):
        a = int((centres[i, 0] - low[0]) / radius)
        b = int((centres[i, 1] - low[1]) / radius)
        c = int((centres[i, 2] - low[2]) / radius)
        cell[i] = (a * size[1] + b) * size[2] + c
        start[cell[i] + 1] += 1
    for i in range(start.shape[0] - 1):
        start[i + 1] += start[i]
    fill = start[:-1].copy()
    items = np.empty(n, dtype=np.int64)
    for i in range(n):
        items[fill[cell[i]]] = i
        fill[cell[i]] += 1
    out = np.empty(n)
    for i in range(n):
        c0 = cell[i] // (size[1] * size[2])
        c1 = cell[i] // size[2] % size[1]
        c2 = cell[i] % size[2]
        total = 0.0
        weight = 0.0
        for a in range(max(0, c0 - 1), min(size[0], c0 + 2)):
            for b in range(max(0, c1 - 1), min(size[1], c1 + 2)):
                for c in range(max(0, c2 - 1), min(size[2], c2 + 2)):
                    s = (a * size[1] + b) * size[2] + c
                    for k in range(start[s], start[s + 1]):
                        j = items[k]
                        d = 0.0
                        for x in range(3):
                            d += (centres[i, x] - centres[j, x]) ** 2
                        if d <= radius * radius:
                            total += volumes[j] * values[j]
                            weight += volumes[j]
        out[i] = total / weight
    return out
