"""What the rules ask about a patient: typed facts, each of which may be unknown [HANDBOOK 12.1]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sacroplan.errors import PlanError

Value = str | bool | float | int | None

SIDE = ("none", "left", "right", "both")


@dataclass(frozen=True)
class Domain:
    """What a fact may be: one of ``choices``, true or false, or a number from ``lower`` to ``upper``.

    ``label`` is what a reader calls it, ``question`` what is asked where it is unknown. ``measured``
    tells whether the program can measure it.
    """

    label: str
    question: str
    choices: tuple[str, ...] = ()
    lower: float | None = None
    upper: float | None = None
    unit: str = ""
    whole: bool = False
    measured: bool = False

    @property
    def kind(self) -> str:
        """``choice``, ``number`` or ``yes/no``."""
        if self.choices:
            return "choice"
        return "yes/no" if self.upper is None else "number"

    def checked(self, name: str, value: Any) -> Value:
        """The value if it belongs here; raises :class:`PlanError` in one sentence."""
        if value is None:
            return None
        if self.choices:
            if value in self.choices:
                return str(value)
            expected = f"one of {', '.join(self.choices)}"
        elif self.upper is None:
            if isinstance(value, bool):
                return value
            expected = "true or false"
        else:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            whole = number and (not self.whole or float(value) == int(value))
            if whole and self.lower is not None and self.lower <= value <= self.upper:
                return int(value) if self.whole else float(value)
            expected = f"a number from {self.lower:g} to {self.upper:g} {self.unit}".rstrip()
        raise PlanError(
            f"The fact {name} ({self.label.lower()}) is {value!r}; it must be {expected}. "
            "Leave it out where it is not known."
        )

    def words(self, value: Value) -> str:
        """The value as a reader writes it."""
        if value is None:
            return "unknown"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, (int, float)):
            return f"{value:.4g} {self.unit}".rstrip()
        return value


def _choice(label: str, question: str, *choices: str, measured: bool = False) -> Any:
    domain = Domain(label, question, choices, measured=measured)
    return field(default=None, metadata={"domain": domain})


def _yes(label: str, question: str, measured: bool = False) -> Any:
    return field(default=None, metadata={"domain": Domain(label, question, measured=measured)})


def _number(
    label: str, question: str, low: float, high: float, unit: str, measured: bool = False,
    whole: bool = False,
) -> Any:  # fmt: skip
    domain = Domain(label, question, (), low, high, unit, whole, measured)
    return field(default=None, metadata={"domain": domain})


@dataclass(frozen=True)
class Facts:
    """Facts of one patient and one plan. None is *unknown*, which is neither yes nor no.

    The limits of numbers only refuse typing errors (an age of 530); rules carry the medical limits.
    """

    intent: str | None = _choice(
        "Intent", "Is surgery meant to cure or to palliate?", "curative", "palliative"
    )
    prognosis_months: float | None = _number(
        "Prognosis", "How long is the patient expected to live?", 0, 600, "months"
    )
    tumour_kind: str | None = _choice(
        "Tumour", "Is the tumour primary malignant, a metastasis, or benign?",
        "primary", "metastatic", "benign",
    )  # fmt: skip
    resection: str | None = _choice(
        "Resection", "Which resection is planned?",
        "none", "low", "mid", "high", "total", "hemi", "hemipelvectomy", "free", measured=True,
    )  # fmt: skip
    sij_left_percent: float | None = _number(
        "Left sacroiliac joint resected", "How much of the left joint goes?", 0, 100, "%", True
    )
    sij_right_percent: float | None = _number(
        "Right sacroiliac joint resected", "How much of the right joint goes?", 0, 100, "%", True
    )
    cut_above_s1_foramina: bool | None = _yes(
        "Cut cephalad to the S1 foramina", "Does a cut pass above an S1 foramen?", True
    )
    iliolumbar: str | None = _choice(
        "Iliolumbar ligaments kept", "Which iliolumbar stability is kept?",
        "none", "partial", "full", measured=True,
    )  # fmt: skip
    lowest_root_left: int | None = _number(
        "Lowest sacral root kept, left", "Down to which S root is the left side kept (0: none)?",
        0, 5, "", True, True,
    )  # fmt: skip
    lowest_root_right: int | None = _number(
        "Lowest sacral root kept, right", "Down to which S root is the right side kept (0: none)?",
        0, 5, "", True, True,
    )  # fmt: skip
    l5_resected: str | None = _choice(
        "L5 resected", "How much of L5 goes along?", "none", "partial", "whole", measured=True
    )
    contralateral_s1_kept: bool | None = _yes(
        "S1 of the other side kept", "Does S1 with its root stay on the other side?", True
    )
    prior_rt: str | None = _choice("Irradiated field", "Which side was irradiated before?", *SIDE)
    rt_to_surgery_days: float | None = _number(
        "Radiotherapy to surgery", "How many days lie between?", 0, 36500, "days"
    )
    prior_abdominal_surgery: str | None = _choice(
        "Abdominal wall operated on", "Which rectus was opened or cut before?", *SIDE
    )
    stoma: str | None = _choice("Stoma", "On which side is or will be a stoma?", *SIDE)
    internal_iliac_left_sacrificed: bool | None = _yes(
        "Left internal iliac artery sacrificed", "Is it to be ligated?", True
    )
    internal_iliac_right_sacrificed: bool | None = _yes(
        "Right internal iliac artery sacrificed", "Is it to be ligated?", True
    )
    amputation_planned: bool | None = _yes(
        "Amputation planned", "Does the leg go (external hemipelvectomy)?", True
    )
    pedicled_femur_reach_ok: bool | None = _yes(
        "Pedicled femur reaches", "Does the femur on its vessels reach L5?", True
    )
    s2_intact: bool | None = _yes("S2 intact", "Is S2 free of tumour and kept?", True)
    s2ai_feasible: bool | None = _yes("S2AI corridor", "Is there a safe S2AI corridor?", True)
    lumbosacral_destruction: bool | None = _yes(
        "Destructive lumbosacral lesion", "Does it destroy the lumbosacral junction?"
    )
    bone_quality: str | None = _choice("Bone quality", "Does bone hold screws?", "ok", "poor")
    fit_for_long_surgery: bool | None = _yes(
        "Fit for prolonged surgery", "Is the patient stable enough for it?"
    )
    microsurgery_available: bool | None = _yes(
        "Microsurgery available", "Is there a microsurgical team?"
    )
    tumour_allows_vascularised_bone: bool | None = _yes(
        "Tumour allows vascularised bone", "Do tumour and adjuvants allow it?"
    )
    lead_time_ok: bool | None = _yes(
        "Time for a custom implant", "Is there time to design and print before surgery?"
    )
    infection: bool | None = _yes("Active infection", "Is there one?")
    contaminated_bed: bool | None = _yes(
        "Contaminated bed", "Was the bed infected or opened to bowel?"
    )
    age_years: float | None = _number("Age", "How old is the patient?", 0, 120, "years")
    approach: str | None = _choice(
        "Approach", "Is the approach posterior only or combined?", "posterior", "combined"
    )
    defect_volume_cm3: float | None = _number(
        "Defect volume", "How large is the dead space?", 0, 50_000, "cm3", True
    )
    tumour_volume_cm3: float | None = _number(
        "Tumour volume", "How large is the tumour?", 0, 50_000, "cm3", True
    )
    hypervascular: bool | None = _yes("Hypervascular tumour", "Is its blood supply abundant?")
    ring_gap_supraacetabular: bool | None = _yes(
        "Pelvic ring open above the socket",
        "Is there a gap between the bone above the socket and the ilium or sacrum?", True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for f in fields(self):
            domain: Domain = f.metadata["domain"]
            object.__setattr__(self, f.name, domain.checked(f.name, getattr(self, f.name)))

    def get(self, name: str) -> Value:
        """A fact by name."""
        value: Value = getattr(self, name)
        return value

    def table(self) -> dict[str, Value]:
        """All facts by name, unknown ones too."""
        return {n: self.get(n) for n in DOMAINS}


DOMAINS: Mapping[str, Domain] = {f.name: f.metadata["domain"] for f in fields(Facts)}
"""Every fact's domain by name."""


def facts_of(table: Mapping[str, Any]) -> Facts:
    """Facts of a table; an unknown name is an error that offers the nearest one."""
    from difflib import get_close_matches

    for name in table:
        if name not in DOMAINS:
            close = get_close_matches(name, list(DOMAINS), 1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(DOMAINS)}."
            raise PlanError(f"There is no fact {name!r}.{hint}")
    return Facts(**table)
