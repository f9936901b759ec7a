"""Published series beside the roads: figures with n, shares with exact 95 % intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sacroplan import evidence
from sacroplan.errors import EvidenceError


@dataclass(frozen=True)
class Share:
    """``events`` of ``n`` with the exact (Clopper-Pearson) 95 % interval, %."""

    events: int
    n: int
    low_percent: float
    high_percent: float

    @property
    def words(self) -> str:
        """``0/12 (0 to 26.5 %)``."""
        return f"{self.events}/{self.n} ({self.low_percent:.1f} to {self.high_percent:.1f} %)"


def share(events: int, n: int) -> Share:
    """Exact two-sided 95 % interval of a proportion."""
    from scipy.stats import beta

    low = 0.0 if events == 0 else float(beta.ppf(0.025, events, n - events + 1))
    high = 1.0 if events == n else float(beta.ppf(0.975, events + 1, n - events))
    return Share(events, n, 100.0 * low, 100.0 * high)


def share_of(row: str, name: str) -> Share:
    """Events of an evidence quantity that carries its n."""
    q = evidence.quantity(row, name)
    if q.value is None or q.n is None:
        raise EvidenceError(f"Evidence {row}.{name} has no count with its n.")
    return share(int(q.value), q.n)


def figure(row: str, name: str) -> str:
    """``520 min (380 to 735), n=12`` of an evidence quantity."""
    q = evidence.quantity(row, name)
    spread = ""
    if q.lower is not None and q.upper is not None:
        spread = f" ({q.lower:g} to {q.upper:g})"
    elif q.sd is not None:
        spread = f" ± {q.sd:g}"
    return f"{q.value:g} {q.unit}{spread}, n={q.n}"


@dataclass(frozen=True)
class Published:
    """What series report of a road; never ranked, for they are unadjusted."""

    operating_time: str
    blood_loss: str
    failures: str
    rows: tuple[str, ...]
    bench: str = "no figure in the evidence rows"


NOTHING = "no figure in the evidence rows"


def _bench(road: str) -> tuple[str, tuple[str, ...]]:
    """Stability of a road on the bench or in a published model, in words, and its evidence rows."""

    def with_sd(row: str, name: str) -> str:
        q = evidence.quantity(row, name)
        return f"{q.value:g} ± {q.sd:g}{' %' if q.unit == '%' else ''}"

    if road == "spf":
        return (
            f"stiffness against intact {with_sd('SP-OPT-08', 'single_iliac')} with one, "
            f"{with_sd('SP-OPT-08', 'dual_iliac')} with two iliac screws a side (cadaver); highest peak "
            "stress and most sinking of L5 of three models",
            ("SP-OPT-08", "SP-OPT-10"),
        )
    if road == "spf_ascf":
        cycles = evidence.value("SP-OPT-09", "cage_strut_cycles")
        return (
            f"motion against intact {with_sd('SP-OPT-09', 'cage_strut_motion')}, failed after {cycles:g} "
            "cycles (cage struts); least sinking of L5 of three models",
            ("SP-OPT-09", "SP-OPT-10"),
        )
    if road in ("implant_supplemented", "implant_alone"):
        return (
            "lowest peak stress of three models, sinking of L5 between the others",
            ("SP-OPT-10",),
        )
    if road in ("femur_pedicled", "femur_free", "allograft"):
        cycles = evidence.value("SP-OPT-09", "femur_strut_cycles")
        return (
            f"motion against intact {with_sd('SP-OPT-09', 'femur_strut_motion')}, failed after {cycles:g} "
            "cycles (femur strut allograft)",
            ("SP-OPT-09",),
        )
    return NOTHING, ()


def published(road: str) -> Published:
    """Operating time, blood loss, hardware failures and stability of a road as published."""
    found = _clinical(road)
    words, rows = _bench(road)
    return replace(found, bench=words, rows=(*found.rows, *rows))


def _clinical(road: str) -> Published:
    if road == "implant_supplemented":
        return Published(
            figure("SP-OPT-01", "operating_time"),
            f"{figure('SP-OPT-01', 'blood_loss')}; {figure('SP-OPT-03', 'blood_loss')}",
            f"{share_of('SP-OPT-01', 'mechanical_failures').words}; "
            f"{share_of('SP-OPT-03', 'mechanical_failures').words}",
            ("SP-OPT-01", "SP-OPT-03"),
        )
    if road == "implant_alone":
        return Published(
            figure("SP-OPT-02", "operating_time"), figure("SP-OPT-02", "blood_loss"),
            share_of("SP-OPT-02", "mechanical_failures").words, ("SP-OPT-02",),
        )  # fmt: skip
    if road == "stock_implant":
        return Published(
            figure("SP-OPT-04", "operating_time"), figure("SP-OPT-04", "blood_loss"), NOTHING,
            ("SP-OPT-04",),
        )  # fmt: skip
    if road in ("spf", "spf_ascf"):
        name = "failures_with" if road == "spf_ascf" else "failures_without"
        return Published(NOTHING, NOTHING, share_of("SP-OPT-07", name).words, ("SP-OPT-07",))
    if road == "none":
        return Published(
            f"{figure('SP-OPT-05', 'operating_time_without')} (both groups together)", NOTHING,
            "no hardware", ("SP-OPT-05",),
        )  # fmt: skip
    return Published(NOTHING, NOTHING, NOTHING, ())
