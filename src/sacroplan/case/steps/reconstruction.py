"""Which reconstruction the case gets; what its stages share."""

from __future__ import annotations

from collections.abc import Callable

from sacroplan.case.stage import Context
from sacroplan.case.steps.resection import Resection
from sacroplan.errors import PlanError
from sacroplan.implant.choice import Reconstruction, reconstruction


def choose(context: Context) -> Reconstruction | str:
    """The implant that suits the resection, or why there is none."""
    resection: Resection = context.result("resection")
    return reconstruction(resection.plan.choice, context.config.implant.design)


def chosen(context: Context) -> Reconstruction:
    """The implant that suits the resection; raises :class:`PlanError` where there is none."""
    found = choose(context)
    if isinstance(found, str):
        raise PlanError(f"No implant is planned: {found}.")
    return found


def without_implant(what: str) -> Callable[[Context], str | None]:
    """Why a stage that serves an implant leaves this resection out, if it does."""

    def unfit(context: Context) -> str | None:
        found = choose(context)
        if isinstance(found, str):
            return f"{what} not planned: {found}; plan its reconstruction by other means."
        return None

    return unfit
