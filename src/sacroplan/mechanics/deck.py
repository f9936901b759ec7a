"""The model as an Abaqus or CalculiX input deck.

Quadratic tetrahedra (C3D10), one element set per part, one material per group of equal moduli or per
stiffness tensor, the load cases as static steps with concentrated forces. The moduli are the very
numbers the solver used. A parted interface becomes surface-to-surface contact with Coulomb friction,
a ligament a bundle of springs that only pull.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER
from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray, IntArray
from sacroplan.mechanics.interfaces import Contact
from sacroplan.mechanics.problem import Problem

ANISOTROPIC = (
    (0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2), (0, 5), (1, 5),
    (2, 5), (5, 5), (0, 4), (1, 4), (2, 4), (5, 4), (4, 4), (0, 3),
    (1, 3), (2, 3), (5, 3), (4, 3), (3, 3),
)  # fmt: skip
"""Voigt entries (xx yy zz yz xz xy) of D1111, D1122, D2222, D1133 ... as the programs list them."""

FACE_OF_CORNER = (3, 4, 2, 1)
"""Abaqus face number of the face opposite to each corner."""


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
    contact: Contact | None = None,
) -> bytes:
    """Deck of ``problem`` with one step per load case, in ``cases`` order.

    ``nodes`` (n, 3) replaces the node positions (for another frame; the caller turns the loads too);
    ``node_sets`` adds named sets of 0-based nodes; ``contact`` writes a contact pair per seat of a
    parted mesh. Same input, same bytes. Raises :class:`MechanicsError` when names and load cases
    differ in number.
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
    how = (
        "Parts share nodes: everything that touches is bonded."
        if contact is None
        else "Parts of contact pairs press and slide; all else that touches is bonded."
    )
    out.append(line + f"\n** Units: mm, N, MPa. {how}\n")
    out.append("*NODE, NSET=NALL\n")
    out.extend(f"{n},{a:.9g},{b:.9g},{c:.9g}\n" for n, (a, b, c) in enumerate(x.tolist(), start=1))
    for number, name in enumerate(mesh.names):
        inside = np.flatnonzero(mesh.part == number)
        if not len(inside):
            continue
        out.append(f"*ELEMENT, TYPE=C3D10, ELSET={_set(name)}\n")
        table = np.concatenate([inside[:, None], mesh.elements[inside]], axis=1) + 1
        out.extend(",".join(map(str, row)) + "\n" for row in table.tolist())
    young = problem.young_mpa if problem.young_mpa.ndim == 1 else problem.young_mpa.mean(axis=1)
    which = problem.tensor_of
    # Elements with a tensor form a group each; the others one per pair of equal moduli.
    pairs = np.stack(
        [np.where(which < 0, young, 0.0), np.where(which < 0, problem.poisson, 0.0), which], axis=1
    )
    groups, member = np.unique(pairs, axis=0, return_inverse=True)
    member = member.reshape(-1)
    order = np.argsort(member, kind="stable")
    bounds = np.searchsorted(member[order], np.arange(len(groups) + 1))
    for g, (modulus, poisson, number) in enumerate(groups.tolist(), start=1):
        inside = order[bounds[g - 1] : bounds[g]] + 1
        out.append(f"*ELSET, ELSET=G{g}\n{_lines(inside)}")
        out.append(f"*MATERIAL, NAME=M{g}\n")
        if number < 0:
            out.append(f"*ELASTIC\n{_real(modulus)},{_real(poisson)}\n")
        else:
            c = problem.tensors_mpa[int(number)]
            values = [_real(float(f"{c[i, j]:.12g}")) for i, j in ANISOTROPIC]
            out.append("*ELASTIC, TYPE=ANISO\n")
            out.extend(",".join(values[n : n + 8]) + "\n" for n in (0, 8, 16))
        out.append(f"*SOLID SECTION, ELSET=G{g}, MATERIAL=M{g}\n")
    held = problem.held
    whole = held.all(axis=1)
    out.append(f"*NSET, NSET=HELD\n{_lines(np.flatnonzero(whole) + 1)}" if whole.any() else "")
    for axis, letter in enumerate("XYZ"):
        partly = np.flatnonzero(held[:, axis] & ~whole)
        out.append(f"*NSET, NSET=HELD{letter}\n{_lines(partly + 1)}" if len(partly) else "")
    for name, index in (node_sets or {}).items():
        out.append(f"*NSET, NSET={_set(name)}\n{_lines(np.asarray(index) + 1)}")
    if contact is not None:
        out.append(_cables(contact, len(mesh.elements)))
        out.append(_contact(contact))
    out.append("*BOUNDARY\n" + ("HELD,1,3\n" if whole.any() else ""))
    for axis, letter in enumerate("XYZ", start=1):
        if np.any(held[:, axis - 1] & ~whole):
            out.append(f"HELD{letter},{axis},{axis}\n")
    for c, case in enumerate(cases):
        # One increment: friction then answers to the whole load at once, as in our solver.
        static = "*STATIC\n" if contact is None else "*STATIC, DIRECT\n1.,1.\n"
        out.append(f"*STEP\n** {case}\n{static}")
        # Steps are perturbation-free: each one replaces the forces of the last.
        out.append("*CLOAD, OP=NEW\n")
        node, along = np.nonzero(problem.loads[:, :, c])
        force = problem.loads[node, along, c]
        out.extend(
            f"{n},{a},{_real(float(f'{value:.12g}'))}\n"
            for n, a, value in zip(
                (node + 1).tolist(), (along + 1).tolist(), force.tolist(), strict=True
            )
        )
        if problem.prescribed is not None:
            out.append("*BOUNDARY\n")
            node, along = np.nonzero(held & (problem.prescribed[:, :, c] != 0.0))
            out.extend(
                f"{n + 1},{a + 1},{a + 1},{_real(float(f'{problem.prescribed[n, a, c]:.12g}'))}\n"
                for n, a in zip(node.tolist(), along.tolist(), strict=True)
            )
        out.append("*NODE FILE\nU,RF\n*EL FILE\nS,E\n")
        if contact is not None:
            out.append("*CONTACT FILE\nCDIS,CSTR\n")
            out.extend(
                f"*CONTACT PRINT, SLAVE=B_{_set(s)}, MASTER=I_{_set(s)}\nCF\n"
                for n, s in enumerate(contact.seats)
                if np.any(contact.face_seat == n)
            )
        out.append("*END STEP\n")
    return "".join(out).encode("ascii")


def _cables(contact: Contact, elements: int) -> str:
    """Pairs of seats without faces as springs that only pull, numbered behind the solid elements."""
    out: list[str] = []
    for number, name in enumerate(contact.seats):
        at = np.flatnonzero(contact.seat == number)
        if not len(at) or np.any(contact.face_seat == number):
            continue
        first = elements + 1
        elements += len(at)
        out.append(f"*ELEMENT, TYPE=SPRINGA, ELSET=L_{_set(name)}\n")
        out.extend(
            f"{first + n},{a + 1},{b + 1}\n" for n, (a, b) in enumerate(contact.pairs[at].tolist())
        )
        pull = _real(float(f"{contact.penalty[at[0]]:.9g}"))
        out.append(f"*SPRING, ELSET=L_{_set(name)}, NONLINEAR\n\n0.,-1.\n0.,0.\n{pull},1.\n")
    return "".join(out)


def _contact(contact: Contact) -> str:
    """Surfaces on both sides of every seat and their contact pairs."""
    out: list[str] = []
    for number, name in enumerate(contact.seats):
        here = contact.face_seat == number
        if not here.any():
            continue
        for side, faces in (("B", contact.faces[here]), ("I", contact.mates[here])):
            out.append(f"*SURFACE, NAME={side}_{_set(name)}, TYPE=ELEMENT\n")
            out.extend(f"{e + 1},S{FACE_OF_CORNER[c]}\n" for e, c in faces.tolist())
        pair = contact.seat == number
        penalty, friction = float(contact.penalty[pair][0]), float(contact.friction[pair][0])
        slope = _real(float(f"{penalty:.9g}"))
        out.append(
            f"*SURFACE INTERACTION, NAME=C_{_set(name)}\n"
            f"*SURFACE BEHAVIOR, PRESSURE-OVERCLOSURE=LINEAR\n{slope}\n"
        )
        if friction > 0:
            out.append(f"*FRICTION\n{_real(friction)},{slope}\n")
        out.append(
            f"*CONTACT PAIR, INTERACTION=C_{_set(name)}, TYPE=SURFACE TO SURFACE\n"
            f"B_{_set(name)},I_{_set(name)}\n"
        )
    return "".join(out)


def _set(name: str) -> str:
    """A set name both programs take: letters, digits, underscore, a letter first."""
    clean = "".join(c if c.isascii() and c.isalnum() else "_" for c in name.upper())
    return clean if clean[:1].isalpha() else "P_" + clean
