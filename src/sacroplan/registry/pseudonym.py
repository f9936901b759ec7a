"""What may stand where a pseudonym is asked for: letters, a hyphen, a running number; nothing that says
who somebody is or when they were born."""

from __future__ import annotations

import re
from datetime import date

from sacroplan.registry.errors import RegistryError

PATTERN = re.compile(r"[A-Z]{1,4}[0-9]?-[0-9]{1,7}")
"""Up to four letters are a centre or a study, not a name; up to seven digits are a running number."""

EXAMPLE = "QL-00012"

_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_DATES = (
    re.compile(r"(?:19|20)\d\d[-./]?(?:0[1-9]|1[0-2])[-./]?(?:0[1-9]|[12]\d|3[01])"),
    re.compile(r"(?:0[1-9]|[12]\d|3[01])[-./]?(?:0[1-9]|1[0-2])[-./]?(?:19|20)\d\d"),
)


def _is_day(first: str, second: str) -> bool:
    try:
        date(2000, int(second), int(first))
    except ValueError:
        return False
    return True


def why_not(text: str) -> str | None:
    """Why ``text`` is no pseudonym, in a few words; None when it is one."""
    if not PATTERN.fullmatch(text):
        return (
            "is no pseudonym; expected one to four capital letters, a hyphen and a running "
            f"number, as {EXAMPLE}"
        )
    digits = text.partition("-")[2]
    if len(digits) == 4 and 1900 <= int(digits) <= 2099:
        return f"ends like a year of birth; use a running number, as {EXAMPLE}"
    six = len(digits) == 6
    if six and (_is_day(digits[:2], digits[2:4]) or _is_day(digits[4:], digits[2:4])):
        return "ends like a date of six digits; use a running number of five or seven digits"
    return None


def why_no_case(text: str) -> str | None:
    """Why ``text`` is no case id that may be stored; None when it is one."""
    if not _CASE.fullmatch(text):
        return "is no case id; expected up to 40 letters, digits, '_', '.' or '-'"
    if any(pattern.search(text) for pattern in _DATES):
        return "holds a date; a case id in the registry must not"
    return None


def checked(text: str) -> str:
    """``text`` when it is a pseudonym; raises :class:`RegistryError` that says why it is none."""
    reason = why_not(text)
    if reason:
        raise RegistryError(f"{shown(text)} {reason}.")
    return text


def shown(text: str) -> str:
    """A refused pseudonym for a message: first letter only, because it may well be a name."""
    return f"'{text[:1]}…' ({len(text)} characters)"
