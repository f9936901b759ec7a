"""Frictional contact on a parted interface, solved over the linear multigrid engine.

Penalty contact with Coulomb friction under one proportional load: a pair presses where it would
penetrate, sticks elastically until its shear reaches friction times pressure, and slides in the
direction of its motion beyond. Every step solves a symmetric linear system in which a pressing pair
has its penalty and a sliding one the tangent of its friction at the pressure of the last step, and one
set-up of the bulk serves all steps. A step is solved only as far as the state is
known, so that the whole costs a few bonded solutions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sacroplan.errors import MechanicsError
from sacroplan.geometry.frames import FloatArray
from sacroplan.mechanics.interfaces import Contact
from sacroplan.mechanics.multigrid import Multigrid
from sacroplan.mechanics.problem import Problem, Solution
from sacroplan.mechanics.solvers import account, checked
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress, silent

CONTACT_TOLERANCE = 1e-4
"""Unbalanced force over load at which the contact state is taken as found."""

MAX_STEPS = 60
"""Usual states take 10 to 25 steps; one that takes more does not settle."""

STEP_TOLERANCE = 0.1
"""How far a linear step is solved: further is waste while the state still changes."""

REMNANT = 0.05
"""Share of the secant stiffness that a sliding pair keeps along its motion."""

CHANGED_SHARE = 0.1
"""Share of pairs with another state after which the coarse matrix is factorised anew."""


@dataclass(frozen=True, eq=False)
class ContactState:
    """What happens at the pairs in one load case.

    Attributes
    ----------
    pressure_mpa : (p,) normal pressure, never negative.
    shear_mpa : (p, 3) traction along the interface on the implant's node.
    slip_mm : (p,) relative tangential motion, elastic sticking included.
    opening_mm : (p,) gap along the normal; negative is the penalty's penetration.
    sliding : (p,) whether the friction limit is reached under pressure.
    steps, iterations : linear steps and conjugate gradient iterations in all.
    residual : unbalanced force over load.
    """

    pressure_mpa: FloatArray
    shear_mpa: FloatArray
    slip_mm: FloatArray
    opening_mm: FloatArray
    sliding: FloatArray
    steps: int
    iterations: int
    residual: float

    def resultant_n(self, contact: Contact, seat: int | None = None) -> FloatArray:
        """(3,) N force of the pressure on the implant's side, of one seat or of all."""
        at = slice(None) if seat is None else contact.seat == seat
        weight = self.pressure_mpa[at] * contact.area_mm2[at]
        return np.asarray(weight @ contact.normal[at])


def _tractions(
    contact: Contact, jump: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """(pressure, secant shear stiffness MPa/mm, opening, tangential jump, limit) of jumps (p, 3)."""
    along = np.einsum("pr,pr->p", jump, contact.normal)
    opening = contact.gap_mm + along
    pressure = contact.penalty * np.maximum(-opening, 0.0)
    tangential = jump - along[:, None] * contact.normal
    length = np.linalg.norm(tangential, axis=1)
    limit = contact.friction * pressure
    secant = np.minimum(contact.penalty, limit / np.maximum(length, 1e-300))
    secant[pressure <= 0] = 0.0
    return pressure, secant, opening, tangential, limit


def _springs(
    contact: Contact, closed: FloatArray, secant: FloatArray, slide: FloatArray
) -> FloatArray:
    """(p, 3, 3) N/mm of normal stiffness ``closed`` and tangential ``secant`` (p,) MPa/mm.

    ``slide`` (p, 3): along it the tangential stiffness is taken away by its squared length.
    """
    outer = contact.normal[:, :, None] * contact.normal[:, None, :]
    across = np.eye(3) - outer - slide[:, :, None] * slide[:, None, :]
    k = closed[:, None, None] * outer + secant[:, None, None] * across
    return np.asarray(k * contact.area_mm2[:, None, None])


def _slides(contact: Contact, tangential: FloatArray, limit: FloatArray) -> FloatArray:
    """(p, 3) direction of sliding times the root of the stiffness share that sliding takes away.

    At given pressure the friction of a sliding pair no longer grows along its motion: that is its
    true tangent. A remnant is kept, so that a body that slides everywhere stays held.
    """
    length = np.linalg.norm(tangential, axis=1, keepdims=True)
    way = np.divide(tangential, length, out=np.zeros_like(tangential), where=length > 1e-300)
    sliding = contact.penalty * length[:, 0] > limit
    return np.asarray(np.where(sliding[:, None], np.sqrt(1.0 - REMNANT) * way, 0.0))


class _Case:
    """One load case on its way to equilibrium."""

    def __init__(self, problem: Problem, contact: Contact, load: FloatArray) -> None:
        self.problem, self.contact = problem, contact
        self.load = np.where(problem.held, 0.0, load)
        self.given = (
            np.zeros_like(load) if problem.prescribed is None else problem.prescribed[:, :, 0]
        )

    def size(self, bulk: FloatArray) -> float:
        """Norm of the load; of the reactions where motion is prescribed instead."""
        load = float(np.linalg.norm(self.load))
        reaction = float(np.linalg.norm(np.where(self.problem.held, bulk, 0.0)))
        return max(load if load > 0 else reaction, 1e-300)

    def contact_force(self, u: FloatArray) -> FloatArray:
        """(n, 3) inner forces of the interface at displacements (n, 3)."""
        c = self.contact
        jump = u[c.pairs[:, 1]] - u[c.pairs[:, 0]]
        pressure, secant, _, tangential, _ = _tractions(c, jump)
        f = (secant[:, None] * tangential - pressure[:, None] * c.normal) * c.area_mm2[:, None]
        out = np.zeros_like(u)
        np.add.at(out, c.pairs[:, 1], f)
        np.add.at(out, c.pairs[:, 0], -f)
        return out

    def rest(self, bulk: FloatArray, u: FloatArray) -> FloatArray:
        """(n, 3) unbalanced force on free components; ``bulk`` (n, 3) are the elements' forces."""
        return np.where(self.problem.held, 0.0, self.load - bulk - self.contact_force(u))


def _worst_seat(contact: Contact, rest: FloatArray) -> str:
    force = np.linalg.norm(rest[contact.pairs[:, 1]], axis=1)
    total = np.bincount(contact.seat, weights=force, minlength=len(contact.seats))
    return contact.seats[int(total.argmax())]


def _solve_case(
    problem: Problem, contact: Contact, name: str, progress: Progress
) -> tuple[FloatArray, ContactState]:
    engine = Multigrid(problem, contact.pairs)
    case = _Case(problem, contact, problem.loads[:, :, 0])
    u = case.given.copy()
    bulk = problem.internal_forces(u[:, :, None])[:, :, 0]
    # The first step takes every closed pair as bonded.
    closed = np.where(contact.gap_mm <= 0, contact.penalty, 0.0)
    secant = closed.copy()
    factored = np.full(len(closed), -1.0)
    slide = np.zeros_like(contact.normal)
    iterations = 0
    rest = case.rest(bulk, u)
    error = 1.0
    for step in range(1, MAX_STEPS + 1):
        unlike = np.abs(secant + closed - factored) > 0.5 * (secant + closed + factored)
        anew = bool(np.mean(unlike) > CHANGED_SHARE)
        engine.set_contact(_springs(contact, closed, secant, slide), anew)
        if anew:
            factored = secant + closed
        try:
            move, count = engine.solve(rest[:, :, None], STEP_TOLERANCE)
        except MechanicsError as failure:
            raise MechanicsError(
                f"Contact at {_worst_seat(contact, rest)} does not converge under {name}: {failure}"
            ) from failure
        iterations += count
        change = problem.internal_forces(move)[:, :, 0]
        best = None
        for share in (1.0, 0.5, 0.25):
            trial = u + share * move[:, :, 0]
            left = case.rest(bulk + share * change, trial)
            e = float(np.linalg.norm(left)) / case.size(bulk + share * change)
            if best is None or e < best[0]:
                best = (e, share, trial, left)
            if e < error or step == 1:
                break
        assert best is not None
        # A step that gains nothing was too bold: the next one takes the secants.
        bold = best[0] < error or step == 1
        error, share, u, rest = best
        bulk = bulk + share * change
        jump = u[contact.pairs[:, 1]] - u[contact.pairs[:, 0]]
        pressure, secant, opening, tangential, limit = _tractions(contact, jump)
        closed = np.where(pressure > 0, contact.penalty, 0.0)
        slide = _slides(contact, tangential, limit) if bold else np.zeros_like(slide)
        progress(min(1.0, np.log(error) / np.log(CONTACT_TOLERANCE)), f"contact step {step}")
        if error < CONTACT_TOLERANCE:
            length = np.linalg.norm(tangential, axis=1)
            return u, ContactState(
                pressure, -secant[:, None] * tangential, length, opening,
                (pressure > 0) & (contact.penalty * length > limit), step, iterations, error,
            )  # fmt: skip
    raise MechanicsError(
        f"Contact at {_worst_seat(contact, rest)} does not converge under {name}: after {MAX_STEPS} "
        f"steps {error:.1e} of the load is still unbalanced ({CONTACT_TOLERANCE:.0e} is asked). The "
        "part is hardly held, or slides freely; add a screw or treat it as bonded."
    )


def solve_contact(
    problem: Problem,
    contact: Contact,
    names: tuple[str, ...],
    progress: Progress = silent,
) -> tuple[Solution, tuple[ContactState, ...]]:
    """Every load case of ``problem`` with frictional contact, each on its own.

    ``names`` of the load cases are for messages. Raises :class:`MechanicsError` when a case is not
    held, not loaded or does not converge, naming the seat.
    """
    checked(problem)
    cases = problem.loads.shape[2]
    if len(names) != cases:
        raise MechanicsError(f"{len(names)} names were given for {cases} load cases.")
    given = problem.prescribed

    def one(c: int, progress: Progress) -> tuple[FloatArray, ContactState]:
        single = replace(
            problem,
            loads=np.ascontiguousarray(problem.loads[:, :, c : c + 1]),
            prescribed=None if given is None else given[:, :, c : c + 1],
        )
        return _solve_case(single, contact, names[c], progress)

    found = side_by_side(one, list(range(cases)), progress)
    u = np.stack([f[0] for f in found], axis=2)
    extra = np.stack(
        [_Case(problem, contact, problem.loads[:, :, c]).contact_force(u[:, :, c])
         for c in range(cases)], axis=2,
    )  # fmt: skip
    solution = account(problem, u, max(f[1].iterations for f in found), "multigrid", extra)
    return solution, tuple(f[1] for f in found)
