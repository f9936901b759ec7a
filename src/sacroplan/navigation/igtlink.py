"""The plan over OpenIGTLink, to 3D Slicer or a navigation station on the network.

OpenIGTLink and 3D Slicer speak RAS; everything here is LPS, so x and y change sign at this door.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from sacroplan.banner import BANNER
from sacroplan.errors import PlanError
from sacroplan.fixation.screws import Screw
from sacroplan.geometry.frames import FloatArray

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])

DEFAULT_PORT = 18944
"""The port that OpenIGTLink programs listen on."""

DEVICE = "ScrewPlan"
NOTICE = "ScrewPlanNotice"

NAME_BYTES = 64
GROUP_BYTES = 32
"""Room for texts in a POINT message."""


def messages(screws: Sequence[Screw], stamp: float = 0.0) -> list[Any]:
    """A STRING message with the notice, and a POINT message with entry and tip of every screw.

    Raises :class:`PlanError` without screws, or for a name that does not fit a message.
    """
    pyigtl = _pyigtl()
    if not screws:
        raise PlanError("There is no screw to send.")
    names, groups, points, sizes = [], [], [], []
    for s in screws:
        for end, p in (("entry", s.entry), ("tip", s.tip)):
            name = f"{s.name}-{end}"
            if len(name.encode()) > NAME_BYTES:
                raise PlanError(f"The screw name {s.name!r} is too long for OpenIGTLink.")
            names.append(name)
            groups.append(f"{s.kind} {s.diameter_mm:g}x{s.length_mm:g}"[:GROUP_BYTES])
            points.append(p * LPS_TO_RAS)
            sizes.append(s.diameter_mm)
    return [
        pyigtl.StringMessage(BANNER, timestamp=stamp, device_name=NOTICE),
        pyigtl.PointMessage(
            positions=np.array(points), names=names, groups=groups, diameters=sizes,
            timestamp=stamp, device_name=DEVICE,
        ),
    ]  # fmt: skip


def screws_of(message: Any) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Entry and tip (LPS mm) by screw name out of a POINT message."""
    found: dict[str, dict[str, FloatArray]] = {}
    for name, p in zip(message.names, message.positions, strict=True):
        screw, _, end = name.rpartition("-")
        found.setdefault(screw, {})[end] = np.asarray(p, dtype=np.float64) * LPS_TO_RAS + 0.0
    return {n: (ends["entry"], ends["tip"]) for n, ends in found.items()}


def send(screws: Sequence[Screw], host: str, port: int = DEFAULT_PORT, wait_s: float = 10.0) -> int:
    """Send the plan to a listening receiver; the number of messages sent.

    Raises :class:`PlanError` when nobody listens at ``host`` and ``port``.
    """
    pyigtl = _pyigtl()
    out = messages(screws)
    client = pyigtl.OpenIGTLinkClient(host=host, port=port)
    try:
        end = time.monotonic() + wait_s
        while not client.is_connected():
            if time.monotonic() > end:
                raise PlanError(
                    f"No OpenIGTLink receiver answers at {host}:{port} (waited {wait_s:g} s). Start the "
                    "connector in 3D Slicer or on the station as a server, then send again."
                )
            time.sleep(0.02)
        for message in out:
            client.send_message(message, wait=True)
        # The queue is empty when the last message was taken from it, not when it has left.
        time.sleep(0.3)
    finally:
        client.stop()
    return len(out)


def _pyigtl() -> Any:
    try:
        import pyigtl
    except ImportError:
        raise PlanError(
            "OpenIGTLink needs the package pyigtl; install it with: pip install 'sacroplan[navigation]'."
        ) from None
    return pyigtl
