"""What robot and hand do to this patient's screws, as tables."""

from __future__ import annotations

from sacroplan.case.steps.navigation import Navigation
from sacroplan.navigation.accuracy import Accuracy
from sacroplan.report.model import Table

WORDS = (
    "Screws are misplaced as the cited studies say screws are misplaced, and graded on this patient's bone. "
    "The intervals are those of the simulation, not of the surgeon.",
    "A fiducial registration error tells nothing about the accuracy in this patient [SP-NAV-04]; the "
    "predicted target error at every screw is the number to look at.",
)


def tables_of(navigation: Navigation) -> tuple[Table, ...]:
    """All tables of the chapter; none where no screw was planned."""
    if not navigation.robot.outcomes:
        return ()
    return accuracy_table(navigation), convergence_table(navigation.robot)


def accuracy_table(navigation: Navigation) -> Table:
    """Robot and hand side by side: shares of acceptable grades with their intervals."""
    hand = {o.name: o for o in navigation.freehand.outcomes}

    def words(o: object) -> str:
        share = o.acceptable  # type: ignore[attr-defined]
        low, high = share.interval
        return f"{100 * share.value:.2f} % ({100 * low:.2f} to {100 * high:.2f})"

    rows = []
    for o in navigation.robot.outcomes:
        h = hand[o.name]
        hazards = ", ".join(f"{k} {100 * s.value:.1f} %" for k, s in o.hazards.items())
        first = next(iter(o.grades.values())).value, next(iter(h.grades.values())).value
        rows.append(
            (
                o.name.replace("_", " "), f"{100 * first[0]:.0f} %", words(o), f"{100 * first[1]:.0f} %",
                words(h), hazards, o.worst or "-", f"{o.breach95_mm:.1f}",
            )
        )  # fmt: skip
    return Table(
        f"{navigation.robot.draws} draws a screw: {navigation.robot.model.name} and "
        f"{navigation.freehand.model.name}",
        ("Screw", "Robot, no breach", "Robot, acceptable", "Hand, no breach", "Hand, acceptable",
         "Robot, breach towards", "Worst direction", "95 % below (mm)"),
        tuple(rows),
    )  # fmt: skip


def convergence_table(accuracy: Accuracy) -> Table:
    """Running share of acceptable grades."""
    counts = [c for c, _ in accuracy.outcomes[0].running]
    return Table(
        f"Convergence, {accuracy.model.name}: acceptable grades after so many draws",
        ("Screw", *(str(c) for c in counts)),
        tuple(
            (o.name.replace("_", " "), *(f"{100 * v:.2f} %" for _, v in o.running))
            for o in accuracy.outcomes
        ),
    )
