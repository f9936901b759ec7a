"""Two groups, few patients: exact and permutation tests; hazard ratios only where they mean something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.registry.errors import RegistryError

SEED = 1993
"""Seed of the permutations: one comparison has one p value."""

EXACT_UP_TO = 20
"""Larger groups without ties: Mann-Whitney's normal approximation agrees to three digits."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A test and its two-sided p value; ``effect`` in words, with its numbers."""

    test: str
    p: float
    effect: str
    n: tuple[int, int]


def _permutations() -> int:
    return int(evidence.value("SP-REG-09", "permutations"))


def counts(table: npt.ArrayLike) -> Comparison:
    """Fisher's exact test of a table (2 groups x k categories) of counts."""
    from scipy.stats import PermutationMethod, fisher_exact

    t = np.asarray(table, dtype=np.int64)
    if t.ndim != 2 or t.shape[0] != 2 or t.shape[1] < 2 or np.any(t < 0) or np.any(t.sum(1) == 0):
        raise RegistryError("Fisher's test needs two groups with at least one patient each.")
    t = t[:, t.sum(axis=0) > 0]
    n = (int(t[0].sum()), int(t[1].sum()))
    if t.shape[1] == 1:
        return Comparison("Fisher's exact test", 1.0, "all in one category", n)
    if t.shape[1] == 2:
        p = float(fisher_exact(t).pvalue)
    else:
        method = PermutationMethod(n_resamples=_permutations(), rng=np.random.default_rng(SEED))
        p = float(fisher_exact(t, method=method).pvalue)
    shares = " against ".join(f"{row[0]}/{row.sum()}" for row in t)
    return Comparison("Fisher's exact test", p, f"first category: {shares}", n)


def values(a: npt.ArrayLike, b: npt.ArrayLike) -> Comparison:
    """Mann-Whitney test of two groups of numbers: exact without ties, permutations with them."""
    from scipy.stats import PermutationMethod, mannwhitneyu

    x, y = (np.asarray(v, dtype=np.float64)[np.isfinite(v)] for v in (a, b))
    if min(len(x), len(y)) == 0:
        raise RegistryError("A group without a single value cannot be compared.")
    ties = len(np.unique(np.concatenate([x, y]))) < len(x) + len(y)
    small = max(len(x), len(y)) <= EXACT_UP_TO
    method: object = "exact" if small and not ties else "asymptotic"
    name = "Mann-Whitney, exact" if method == "exact" else "Mann-Whitney, normal approximation"
    if small and ties:
        method = PermutationMethod(n_resamples=_permutations(), rng=np.random.default_rng(SEED))
        name = "Mann-Whitney, permutations"
    result = mannwhitneyu(x, y, alternative="two-sided", method=method)
    effect = f"median {np.median(x):.3g} against {np.median(y):.3g}"
    return Comparison(name, float(result.pvalue), effect, (len(x), len(y)))


def log_rank_statistic(
    time: npt.NDArray[np.float64], event: npt.NDArray[np.bool_], group: npt.NDArray[np.bool_]
) -> float:
    """Squared standardised difference of observed and expected events of ``group``."""
    times = np.unique(time[event])
    order, mine = np.sort(time), np.sort(time[group])
    n = len(order) - np.searchsorted(order, times, side="left")
    n1 = len(mine) - np.searchsorted(mine, times, side="left")
    d = np.bincount(np.searchsorted(times, time[event]), minlength=len(times))
    d1 = np.bincount(np.searchsorted(times, time[event & group]), minlength=len(times))
    expected = d * n1 / n
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = d * (n1 / n) * (1.0 - n1 / n) * (n - d) / (n - 1)
    total = float(np.nansum(np.where(n > 1, variance, 0.0)))
    return 0.0 if total == 0.0 else float((d1.sum() - expected.sum()) ** 2 / total)


def survival(time: npt.ArrayLike, event: npt.ArrayLike, group: npt.ArrayLike) -> Comparison:
    """Log-rank test of two groups; p by permutation where events are few."""
    from scipy.stats import chi2

    t = np.asarray(time, dtype=np.float64)
    e, g = np.asarray(event, dtype=bool), np.asarray(group, dtype=bool)
    n = (int(g.sum()), int((~g).sum()))
    if min(n) == 0 or not e.any():
        raise RegistryError(
            f"Survival cannot be compared: {n[0]} and {n[1]} patients, {int(e.sum())} events."
        )
    seen = log_rank_statistic(t, e, g)
    effect = f"events {int((e & g).sum())}/{n[0]} against {int((e & ~g).sum())}/{n[1]}"
    if e.sum() >= 10 * int(evidence.value("SP-REG-08", "events_per_variable")):
        return Comparison("log-rank, chi-square", float(chi2.sf(seen, 1)), effect, n)
    rng = np.random.default_rng(SEED)
    count = _permutations()
    as_large = sum(
        log_rank_statistic(t, e, rng.permutation(g)) >= seen - 1e-9 for _ in range(count)
    )
    return Comparison("log-rank, permutations", (1 + as_large) / (1 + count), effect, n)


@dataclass(frozen=True, slots=True)
class HazardRatio:
    """Cox regression's ratio of one group's hazard to the other's, with its interval."""

    ratio: float
    lower: float
    upper: float
    p: float
    events: int
    warning: str


def hazard_ratio(
    time: npt.ArrayLike, event: npt.ArrayLike, group: npt.ArrayLike, overrule: bool = False
) -> HazardRatio:
    """Hazard of ``group`` over that of the others.

    Raises
    ------
    RegistryError : too few events for a model with one variable (SP-REG-08), unless ``overrule``; or
        a group without any event, of which no ratio exists.
    """
    t = np.asarray(time, dtype=np.float64)
    e, g = np.asarray(event, dtype=bool), np.asarray(group, dtype=bool)
    events = int(e.sum())
    least = int(evidence.value("SP-REG-08", "events_per_variable"))
    if not (e & g).any() or not (e & ~g).any():
        raise RegistryError(
            f"No hazard ratio exists: one group has no event ({int((e & g).sum())} and "
            f"{int((e & ~g).sum())}). Give the events and the exact interval of each group instead."
        )
    warning = ""
    if events < least:
        warning = (
            f"{events} events are too few for a hazard ratio; at least {least} per variable are "
            "needed [SP-REG-08]. Give the events and the exact interval of each group instead."
        )
        if not overrule:
            raise RegistryError(warning)
    import pandas as pd
    from lifelines import CoxPHFitter

    frame = pd.DataFrame({"t": t, "e": e.astype(int), "g": g.astype(float)})
    row = CoxPHFitter().fit(frame, "t", "e").summary.loc["g"]
    return HazardRatio(
        float(row["exp(coef)"]),
        float(row["exp(coef) lower 95%"]),
        float(row["exp(coef) upper 95%"]),
        float(row["p"]),
        events,
        warning,
    )
