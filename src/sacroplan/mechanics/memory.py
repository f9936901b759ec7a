"""How much memory a model will take, asked before it is taken."""

from __future__ import annotations

from pathlib import Path

from sacroplan.errors import MechanicsError

BLOCK_BYTES = 9 * 8 + 9 * 4 + 4
"""A block of the matrix in double, its copy in single precision, its column number."""

NODE_BYTES = 3 * 2 * 8 * 8
"""Eight vectors for two load cases on a node."""

COARSE_BYTES = 420.0
"""Bytes of the direct solver of the linear elements per unknown to the power 4/3: 310, 370 and 420
measured on cubes of 6, 26 and 57 thousand unknowns. Slimmer models take less."""

RESERVE = 0.9
"""Share of the free memory that may be taken."""


def solver_bytes(blocks: int, nodes: int, corners: int) -> float:
    """Estimated bytes of a set-up with ``blocks`` matrix blocks on ``nodes`` free nodes."""
    coarse = COARSE_BYTES * float(3.0 * corners) ** (4.0 / 3.0)
    return float(BLOCK_BYTES * blocks + NODE_BYTES * nodes + coarse)


def available_bytes() -> float | None:
    """Free memory of the machine and of its control group; None where the system does not tell."""
    found: list[float] = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024.0 * float(line.split()[1]))
    limit, used = (Path("/sys/fs/cgroup") / n for n in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file():
        text = limit.read_text(encoding="ascii").strip()
        if text.isdigit():
            found.append(float(text) - float(used.read_text(encoding="ascii")))
    return min(found) if found else None


def require_memory(blocks: int, nodes: int, corners: int, available: float | None = None) -> float:
    """Estimated bytes; raises :class:`MechanicsError` when they are more than is free."""
    wanted = solver_bytes(blocks, nodes, corners)
    free = available_bytes() if available is None else available
    if free is not None and wanted > RESERVE * free:
        raise MechanicsError(
            f"A model of {3 * nodes} unknowns needs about {wanted / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free; make its elements larger ([mechanics] "
            "bone_element_mm, metal_element_mm) or run it on a larger machine."
        )
    return wanted
