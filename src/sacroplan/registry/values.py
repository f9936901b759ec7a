"""A cell's text to the value that is stored, or the reason why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from sacroplan.registry import pseudonym
from sacroplan.registry.dictionary import Field
from sacroplan.registry.errors import RegistryError

EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "."})
"""Words that mean nothing was entered."""

_YES = frozenset({"1", "yes", "y", "true", "ja", "oui", "si"})
_NO = frozenset({"0", "no", "n", "false", "nein", "non"})
_INTEGER = re.compile(r"[+-]?\d{1,9}(?:\.0+)?")
_NUMBER = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?")
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ]00:00(?::00(?:\.0+)?)?)?")


class Refused(str):
    """Why a cell is refused, in words that follow the column's name."""

    __slots__ = ()


def parse(field: Field, text: str, date_format: str = "", words: Mapping[str, str] = {}) -> Any:
    """The value of a cell, None when it is empty, or a :class:`Refused`.

    Parameters
    ----------
    date_format : strptime format of dates; ISO 8601 where empty.
    words : the file's own words to the dictionary's codes.
    """
    told = text.strip()
    told = words.get(told, told)
    if told.lower() in EMPTY and told not in field.codes:
        return Refused("is required and empty") if field.required else None
    # A quoted cell may hold line ends; the list of faults has one line each.
    shown = f"'{' '.join(told[:20].split())}'"
    match field.kind:
        case "code":
            return _code(field, told, shown)
        case "flag":
            low = told.lower()
            if low in _YES or low in _NO:
                return int(low in _YES)
            return Refused(f"{shown} is neither yes nor no")
        case "integer" | "number":
            return _number(field, told, shown)
        case "date":
            return _date(told, date_format, shown)
        case "pseudonym":
            why = pseudonym.why_not(told)
            return told if why is None else Refused(f"{pseudonym.shown(told)} {why}")
        case "case":
            why = pseudonym.why_no_case(told)
            return told if why is None else Refused(f"{shown} {why}")
        case "digest":
            if re.fullmatch(r"[0-9a-f]{64}", told):
                return told
            return Refused(f"{shown} is no SHA-256: 64 digits 0-9 a-f are expected")
    raise RegistryError(f"{field.name} is worked out by the program and cannot be entered.")


def _code(field: Field, told: str, shown: str) -> Any:
    if told in field.codes:
        return told
    low = told.lower()
    for code, meaning in field.choices:
        if low in (code.lower(), meaning.lower()):
            return code
    return Refused(f"{shown} is none of {', '.join(field.codes)}")


def _number(field: Field, told: str, shown: str) -> Any:
    if field.kind == "integer":
        if not _INTEGER.fullmatch(told):
            return Refused(f"{shown} is not a whole number")
        value: float = int(float(told))
    else:
        if not _NUMBER.fullmatch(told):
            return Refused(f"{shown} is not a number (decimal point, no thousands mark, no unit)")
        value = float(told)
    unit = "" if field.unit == "1" else f" {field.unit}"
    if field.lower is not None and value < field.lower:
        return Refused(f"{shown} is below {field.lower:g}{unit}")
    if field.upper is not None and value > field.upper:
        return Refused(f"{shown} is above {field.upper:g}{unit}")
    return value


def _date(told: str, date_format: str, shown: str) -> Any:
    try:
        if date_format:
            value = datetime.strptime(told, date_format).date()
        else:
            found = _ISO.fullmatch(told)
            if found is None:
                return Refused(f"{shown} is not a date as 2021-03-31")
            value = date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return Refused(f"{shown} is not a date that exists")
    # The database has the same bounds.
    if not 1980 <= value.year <= 2199:
        return Refused(f"{shown} is outside 1980 to 2199")
    return value
