"""Mutual information of an image at scattered points, with its derivative by the pose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from sacroplan.geometry.frames import FloatArray


@njit(cache=True)
def _spline(x: float) -> tuple[float, float]:
    """Cubic B-spline and its derivative."""
    a = abs(x)
    if a >= 2.0:
        return 0.0, 0.0
    if a >= 1.0:
        d = 2.0 - a
        return d * d * d / 6.0, -0.5 * d * d * np.sign(x)
    return 2.0 / 3.0 - a * a + 0.5 * a * a * a, -2.0 * x + 1.5 * x * a


@njit(cache=True)
def mutual_information(
    image: npt.NDArray[np.float32],
    to_index: FloatArray,
    start: FloatArray,
    arms: FloatArray,
    turned: FloatArray,
    fixed_bins: npt.NDArray[np.int64],
    bins: tuple[int, int],
    clamp: bool,
    derivative: FloatArray,
) -> tuple[float, int]:
    """Mutual information (nats) between binned values and an image at moved points.

    Parameters
    ----------
    image : (i, j, k), values scaled to [0, 1].
    to_index : (3, 3) world direction to index direction.
    start : (n, 3) continuous indices of the moved points.
    arms : (n, 3) moved points relative to the centre of rotation, world mm.
    turned : (3, 3) derivative of the left-multiplied rotation by the rotation parameters.
    fixed_bins : (n,) bin of the fixed image at every point.
    bins : number of bins of the fixed image, of the moving image.
    clamp : points beyond the image take its border value instead of being left out: no step in the
        information when a point leaves.
    derivative : (6,) filled with the derivative by rotation (per radian) and translation (per mm).

    Returns
    -------
    The mutual information and the number of points inside the image. One thread in a fixed order:
    the sum must not depend on the machine.
    """
    n = len(start)
    rows, columns = bins
    scale = columns - 4.0
    joint = np.zeros((rows, columns))
    value = np.empty(n)
    slope = np.empty((n, 3))
    inside = np.zeros(n, dtype=np.bool_)
    a, b, c = image.shape
    count = 0
    for p in range(n):
        x, y, z = start[p]
        free_x = 0.0 <= x <= a - 1.0
        free_y = 0.0 <= y <= b - 1.0
        free_z = 0.0 <= z <= c - 1.0
        if not (free_x and free_y and free_z):
            if not clamp:
                continue
            x = min(max(x, 0.0), a - 1.0)
            y = min(max(y, 0.0), b - 1.0)
            z = min(max(z, 0.0), c - 1.0)
        i = min(int(x), a - 2)
        j = min(int(y), b - 2)
        k = min(int(z), c - 2)
        u, v, w = x - i, y - j, z - k
        c000, c001 = image[i, j, k], image[i, j, k + 1]
        c010, c011 = image[i, j + 1, k], image[i, j + 1, k + 1]
        c100, c101 = image[i + 1, j, k], image[i + 1, j, k + 1]
        c110, c111 = image[i + 1, j + 1, k], image[i + 1, j + 1, k + 1]
        e00 = c000 + (c001 - c000) * w
        e01 = c010 + (c011 - c010) * w
        e10 = c100 + (c101 - c100) * w
        e11 = c110 + (c111 - c110) * w
        f0 = e00 + (e01 - e00) * v
        f1 = e10 + (e11 - e10) * v
        value[p] = (f0 + (f1 - f0) * u) * scale + 1.5
        gx = f1 - f0
        gy = (e01 - e00) * (1.0 - u) + (e11 - e10) * u
        gz = ((c001 - c000) * (1.0 - v) + (c011 - c010) * v) * (1.0 - u) + (
            (c101 - c100) * (1.0 - v) + (c111 - c110) * v
        ) * u
        # Along an axis on which it was clamped a point's value does not change.
        if not free_x:
            gx = 0.0
        if not free_y:
            gy = 0.0
        if not free_z:
            gz = 0.0
        for d in range(3):
            slope[p, d] = scale * (gx * to_index[0, d] + gy * to_index[1, d] + gz * to_index[2, d])
        inside[p] = True
        count += 1
        first = int(value[p]) - 1
        for m in range(first, first + 4):
            joint[fixed_bins[p], m] += _spline(m - value[p])[0]
    derivative[:] = 0.0
    if count == 0:
        return 0.0, 0
    joint /= count
    by_row = np.zeros(rows)
    by_column = np.zeros(columns)
    for r in range(rows):
        for m in range(columns):
            by_row[r] += joint[r, m]
            by_column[m] += joint[r, m]
    total = 0.0
    weight = np.zeros((rows, columns))
    for r in range(rows):
        for m in range(columns):
            if joint[r, m] > 1e-12:
                weight[r, m] = np.log(joint[r, m] / by_column[m])
                total += joint[r, m] * (weight[r, m] - np.log(by_row[r]))
    for p in range(n):
        if not inside[p]:
            continue
        first = int(value[p]) - 1
        pull = 0.0
        for m in range(first, first + 4):
            pull -= _spline(m - value[p])[1] * weight[fixed_bins[p], m]
        pull /= count
        s0, s1, s2 = slope[p]
        for d in range(3):
            derivative[3 + d] += pull * slope[p, d]
        # d(arm)/d(angle about axis d) = axis x arm
        r0, r1, r2 = arms[p]
        t0 = s2 * r1 - s1 * r2
        t1 = s0 * r2 - s2 * r0
        t2 = s1 * r0 - s0 * r1
        for d in range(3):
            derivative[d] += pull * (t0 * turned[0, d] + t1 * turned[1, d] + t2 * turned[2, d])
    return total, count
