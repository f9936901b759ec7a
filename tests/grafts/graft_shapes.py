"""Phantoms for grafts: a bent tube for a fibula, boxes for L5 and the ilia."""

import numpy as np

from sacroplan.geometry.frames import AxisFrame, Plane
from sacroplan.geometry.primitives import box, tube
from sacroplan.geometry.slicing import section
from sacroplan.grafts.donor import donor_of
from sacroplan.grafts.seats import endplate_seat, sawn_seat

ORIGIN = AxisFrame("test", np.zeros(3), np.eye(3))
DOWN = np.array([0.0, 0.0, -1.0])
RIGHT = np.array([-1.0, 0.0, 0.0])
RADIUS = 6.5


def fibula(length=360.0, bend_mm=4.0, radius=RADIUS):
    """A round shaft bowed by ``bend_mm``, ankle at z = 0."""
    t = np.linspace(0.0, 1.0, 73)
    path = np.stack([bend_mm * np.sin(np.pi * t), 0.0 * t, length * t], axis=1)
    return tube(path, radius, segments=64)


def donor(**more):
    return donor_of(fibula(**more), np.array([0.0, 0.0, 1.0]))


def vertebra(height):
    """A box whose lower face at ``height`` is the endplate."""
    return box(ORIGIN, [-25, -17, height], [25, 17, height + 28])


def ilium(side):
    """A wedge whose face looks up and inwards, as a sawn ilium does."""
    s = 1.0 if side == "left" else -1.0
    n = np.array([-0.45 * s, 0.0, 0.893])
    n /= np.linalg.norm(n)
    u = np.array([0.0, 1.0, 0.0])
    at = AxisFrame("face", [s * 32.0, 0.0, 10.0], np.stack([np.cross(u, n), u, n], axis=1))
    return box(at, [-22, -18, -30], [22, 18, 0]), Plane(at.origin, n)


def seats(height=80.0):
    """The endplate's halves and the two sawn ilia, by side."""
    out = {}
    for side in ("left", "right"):
        top = endplate_seat(
            f"L5_{side}", vertebra(height), Plane([0, 0, height], [0, 0, -1]), RIGHT, side, 0.5
        )
        host, face = ilium(side)
        foot = sawn_seat(f"ilium_{side}", host, face, section(host, face.shifted(-0.1)))
        out[side] = (top, foot)
    return out
