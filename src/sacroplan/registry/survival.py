"""Survival with few patients: Kaplan-Meier, Aalen-Johansen, and how each compares with the wrong way.

The estimators are a dozen lines of arithmetic each and written here, because lifelines moves tied
times apart at random before it estimates competing risks; the tests hold them against R and lifelines.
Times are in any one unit, months throughout the registry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.registry.errors import RegistryError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Curve:
    """A step function of time that begins at time 0; all arrays (m,), one entry per distinct time.

    Attributes
    ----------
    estimate : survival, or cumulative incidence.
    std_err : standard error of ``estimate`` (Greenwood, or Aalen's for an incidence).
    lower, upper : log-log interval; NaN where the estimate has no variance yet.
    at_risk, events : just before and at each time.
    """

    times: Floats
    estimate: Floats
    std_err: Floats
    lower: Floats
    upper: Floats
    at_risk: Ints
    events: Ints
    n: int
    level: float

    def at(self, time: float) -> tuple[float, float, float]:
        """Estimate and interval at ``time``; NaN beyond the last observation."""
        if time > self.times[-1]:
            return float("nan"), float("nan"), float("nan")
        k = int(np.searchsorted(self.times, time, side="right")) - 1
        return float(self.estimate[k]), float(self.lower[k]), float(self.upper[k])

    def risk_at(self, times: npt.ArrayLike) -> Ints:
        """Numbers at risk just before each of ``times``."""
        k = np.searchsorted(self.times, np.asarray(times, dtype=np.float64), side="left")
        return np.append(self.at_risk, 0)[k]

    def quantile(self, share: float = 0.5) -> float | None:
        """First time at which survival falls to ``share``; None when it does not."""
        below = np.flatnonzero(self.estimate <= share + 1e-12)
        return float(self.times[below[0]]) if len(below) else None


def _level() -> float:
    return evidence.value("SP-REG-09", "level") / 100.0


def _z(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(0.5 + level / 2.0))


def _checked(time: npt.ArrayLike, code: npt.ArrayLike) -> tuple[Floats, Ints]:
    t = np.asarray(time, dtype=np.float64).ravel()
    e = np.asarray(code).astype(np.int64).ravel()
    if len(t) != len(e):
        raise RegistryError(f"{len(t)} times and {len(e)} states do not belong together.")
    if not len(t):
        raise RegistryError("There is nobody with a follow-up to estimate survival from.")
    if not np.all(np.isfinite(t)) or np.any(t < 0):
        raise RegistryError(
            "A follow-up time is negative or unknown; run sacroplan registry check."
        )
    return t, e


def _table(t: Floats, e: Ints) -> tuple[Floats, Ints]:
    """Distinct times with a 0 before them, and numbers at risk."""
    times, first = np.unique(np.sort(t), return_index=True)
    at_risk = (len(t) - first).astype(np.int64)
    if times[0] > 0:
        times, at_risk = np.append(0.0, times), np.append(len(t), at_risk)
    return times, at_risk


def _counts(times: Floats, t: Floats, chosen: npt.NDArray[np.bool_]) -> Ints:
    return np.bincount(np.searchsorted(times, t[chosen]), minlength=len(times)).astype(np.int64)


def _log_log(estimate: Floats, std_err: Floats, z: float) -> tuple[Floats, Floats]:
    """Interval of a probability that stays between 0 and 1, by log(-log)."""
    lower, upper = np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    ok = (estimate > 0.0) & (estimate < 1.0) & np.isfinite(std_err)
    p = estimate[ok]
    width = z * std_err[ok] / (p * np.log(p))
    lower[ok], upper[ok] = p ** np.exp(-width), p ** np.exp(width)
    both = np.sort(np.stack([lower, upper]), axis=0)
    return both[0], both[1]


def kaplan_meier(time: npt.ArrayLike, event: npt.ArrayLike, level: float | None = None) -> Curve:
    """Kaplan-Meier survival with Greenwood's error and log-log intervals.

    Parameters
    ----------
    time : (n,) follow-up.
    event : (n,) true where the event was seen, false where follow-up ended without it.

    Raises
    ------
    RegistryError : nobody, or a time that is negative or unknown.
    """
    t, e = _checked(time, event)
    level = _level() if level is None else level
    times, at_risk = _table(t, e)
    deaths = _counts(times, t, e > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        survival = np.asarray(np.cumprod(1.0 - deaths / at_risk), dtype=np.float64)
        greenwood = np.cumsum(deaths / (at_risk * (at_risk - deaths)))
        std_err = np.asarray(survival * np.sqrt(greenwood), dtype=np.float64)
    lower, upper = _log_log(survival, std_err, _z(level))
    return Curve(times, survival, std_err, lower, upper, at_risk, deaths, len(t), level)


def aalen_johansen(
    time: npt.ArrayLike, state: npt.ArrayLike, cause: int = 1, level: float | None = None
) -> Curve:
    """Cumulative incidence of ``cause`` with every other event competing.

    Parameters
    ----------
    time : (n,) follow-up to the first event.
    state : (n,) 0 where follow-up ended without an event, else the event's number.

    Notes
    -----
    Error by the delta method (Aalen 1978, as in Marubini and Valsecchi 1995).
    """
    t, s = _checked(time, state)
    level = _level() if level is None else level
    times, n = _table(t, s)
    own = _counts(times, t, s == cause).astype(np.float64)
    every = _counts(times, t, s > 0).astype(np.float64)
    survival = np.asarray(np.cumprod(1.0 - every / n), dtype=np.float64)
    before: Floats = np.append(1.0, survival[:-1])
    incidence = np.asarray(np.cumsum(before * own / n), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = every / (n * (n - every))
    # After the last one at risk has had an event, nothing changes any more.
    a[~np.isfinite(a)] = 0.0
    b = before * own / n**2
    own_part = np.cumsum(before**2 * (n - own) * own / n.astype(np.float64) ** 3)
    f = incidence
    spread = f**2 * np.cumsum(a) - 2.0 * f * np.cumsum(a * f) + np.cumsum(a * f**2)
    cross = f * np.cumsum(b) - np.cumsum(b * f)
    std_err = np.asarray(
        np.sqrt(np.maximum(spread + own_part - 2.0 * cross, 0.0)), dtype=np.float64
    )
    lower, upper = _log_log(incidence, std_err, _z(level))
    return Curve(times, incidence, std_err, lower, upper, n, own.astype(np.int64), len(t), level)


def naive_incidence(time: npt.ArrayLike, state: npt.ArrayLike, cause: int = 1) -> Curve:
    """1 - Kaplan-Meier with competing events taken for censoring.

    Wrong: it answers what would happen if nobody could die of anything else, and is never below
    :func:`aalen_johansen`. It is shown beside it because papers print it.
    """
    t, s = _checked(time, state)
    km = kaplan_meier(t, s == cause)
    return Curve(
        km.times, 1.0 - km.estimate, km.std_err, 1.0 - km.upper, 1.0 - km.lower, km.at_risk,
        km.events, km.n, km.level,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share with its exact (Clopper-Pearson) interval, as fractions of 1."""

    count: int
    n: int
    share: float
    lower: float
    upper: float
    level: float


def proportion(count: int, n: int, level: float | None = None) -> Proportion:
    """Exact interval of ``count`` out of ``n``; raises :class:`RegistryError` on impossible counts."""
    from scipy.stats import beta

    if not 0 <= count <= n or n < 1:
        raise RegistryError(f"{count} out of {n} is not a proportion.")
    level = _level() if level is None else level
    tail = 0.5 * (1.0 - level)
    lower = 0.0 if count == 0 else float(beta.ppf(tail, count, n - count + 1))
    upper = 1.0 if count == n else float(beta.ppf(1.0 - tail, count + 1, n - count))
    return Proportion(count, n, count / n, lower, upper, level)
