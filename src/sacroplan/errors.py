"""Errors and doubts.

An error says what was found, what was expected and what to do about it. A doubt is not an error:
it is a clinical or numerical reservation that travels with a result into the dossier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class SacroplanError(Exception):
    """Bad input or an impossible request; the command line ends with exit code 2."""


class EvidenceError(SacroplanError):
    """An evidence row is missing, malformed or used in another unit."""


class GeometryError(SacroplanError):
    """A surface is open, a boolean yields nothing, or two frames were mixed."""


class FormatError(SacroplanError):
    """A file is not what its reader expects."""


class ImagingError(SacroplanError):
    """An image cannot be used for planning."""


class AnatomyError(SacroplanError):
    """A bone, landmark or frame could not be found."""


class PlanError(SacroplanError):
    """A resection, fixation, implant or guide cannot be built as asked."""


class MechanicsError(SacroplanError):
    """A finite-element model cannot be built or solved."""


class CaseError(SacroplanError):
    """The case folder or its case.toml is not in order."""


Trade = Literal[
    "imaging", "anatomy", "plan", "fixation", "implant", "guide", "mechanics", "print", "navigation"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reservation about a result, shown wherever the result is shown.

    Attributes
    ----------
    trade : which room doubts.
    code : stable, lower-case, dotted name, e.g. ``"imaging.thick_slices"``.
    message : one sentence: what was found, what was expected, what it means.
    rows : evidence row ids behind the expectation.
    """

    trade: Trade
    code: str
    message: str
    rows: tuple[str, ...] = ()
