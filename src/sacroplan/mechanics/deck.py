"""The model as an Abaqus or CalculiX input deck.

Quadratic tetrahedra (C3D10), one element set per part, one material per group of equal moduli, both
load cases as static steps with concentrated forces. The moduli are the very numbers the solver used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.mechanics.solvers import Problem


def _lines(numbers: npt.NDArray[np.integer], per_line: int = 16) -> str:
    """Numbers, at most sixteen a line as Abaqus asks."""
    rows = [
        ",".join(map(str, numbers[n : n + per_line].tolist()))
        for n in range(0, len(numbers), per_line)
    ]
    return "\n".join(rows) + "\n"


def _real(value: float) -> str:
    """Shortest exact text of a number, with a decimal point."""
    text = repr(float(value))
    return text if any(c in text for c in ".en") else text + "."


def write_inp(
    problem: Problem,
    cases: Sequence[str],
    title: str,
    nodes: FloatArray | None = None,
    node_sets: dict[str, IntArray] | None = None,
) -> bytes:
    """Deck of ``problem`` with one step per load case, in ``cases`` order.

    ``nodes`` (n, 3) replaces the node positions (for another frame; the caller turns the loads too);
    ``node_sets`` adds named sets of 0-based nodes. Same input, same bytes. Raises
    :class:`MechanicsError` when names and load cases differ in number.
    """
    mesh = problem.mesh
    if len(cases) != problem.loads.shape[2]:
        raise MechanicsError(
            f"{len(cases)} names were given for {problem.loads.shape[2]} load cases."
        )
    x = mesh.nodes if nodes is None else nodes
    out: list[str] = ["*HEADING\n", f"{title}\n"]
    words, line = BANNER.split(), "**"
    for word in words:
        if len(line) + len(word) > 76:
            out.append(line + "\n")
            line = "**"
        line += " " + word
    out.append(
        line + "\n** Units: mm, N, MPa. Parts share nodes: everything that touches is bonded.\n"
    )
    out.append("*NODE, NSET=NALL\n")
    out.extend(f"{n},{a:.9g},{b:.9g},{c:.9g}\n" for n, (a, b, c) in enumerate(x.tolist(), start=1))
    for number, name in enumerate(mesh.names):
        inside = np.flatnonzero(mesh.part == number)
        if not len(inside):
            continue
        out.append(f"*ELEMENT, TYPE=C3D10, ELSET={_set(name)}\n")
        table = np.concatenate([inside[:, None], mesh.elements[inside]], axis=1) + 1
        out.extend(",".join(map(str, row)) + "\n" for row in table.tolist())
    pairs = np.stack([problem.young_mpa, problem.poisson], axis=1)
    groups, member = np.unique(pairs, axis=0, return_inverse=True)
    member = member.reshape(-1)
    order = np.argsort(member, kind="stable")
    bounds = np.searchsorted(member[order], np.arange(len(groups) + 1))
    for g, (young, poisson) in enumerate(groups.tolist(), start=1):
        inside = order[bounds[g - 1] : bounds[g]] + 1
        out.append(f"*ELSET, ELSET=G{g}\n{_lines(inside)}")
        out.append(f"*MATERIAL, NAME=M{g}\n*ELASTIC\n{_real(young)},{_real(poisson)}\n")
        out.append(f"*SOLID SECTION, ELSET=G{g}, MATERIAL=M{g}\n")
    out.append(f"*NSET, NSET=HELD\n{_lines(np.flatnonzero(problem.fixed) + 1)}")
    for name, index in (node_sets or {}).items():
        out.append(f"*NSET, NSET={_set(name)}\n{_lines(np.asarray(index) + 1)}")
    out.append("*BOUNDARY\nHELD,1,3\n")
    for c, case in enumerate(cases):
        out.append(f"*STEP\n** {case}\n*STATIC\n")
        # Steps are perturbation-free: each one replaces the forces of the last.
        out.append("*CLOAD, OP=NEW\n")
        node, axis = np.nonzero(problem.loads[:, :, c])
        force = problem.loads[node, axis, c]
        out.extend(
            f"{n},{a},{_real(float(f'{value:.12g}'))}\n"
            for n, a, value in zip(
                (node + 1).tolist(), (axis + 1).tolist(), force.tolist(), strict=True
            )
        )
        out.append("*NODE FILE\nU,RF\n*EL FILE\nS,E\n*END STEP\n")
    return "".join(out).encode("ascii")


def _set(name: str) -> str:
    """A set name both programs take: letters, digits, underscore, a letter first."""
    clean = "".join(c if c.isascii() and c.isalnum() else "_" for c in name.upper())
    return clean if clean[:1].isalpha() else "P_" + clean
