"""The gate: of the free texts of a DICOM header only words that name no person pass.

Scanners let operators type anything into descriptions, and anonymisers miss such entries. So a
text is taken apart and only what stands in a list of radiological words, or is a short number,
goes on. An identifier must have the form of a UID, a date loses its day.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from sacroplan import evidence

FIRST_CT_YEAR = 1972
"""No CT is older; an earlier year in a date of acquisition is somebody's date of birth."""


_KERNEL = re.compile(r"^[A-Za-z]{1,2}\d{2,3}[a-z]{0,2}(?:\\\d)?$")
_KERNEL_LETTER = re.compile(r"^(?:[A-FL]|E[BC]|Y[A-D]|UA|UB|UC|I[0-9])$")
_UID = re.compile(r"^[0-2](\.\d+)+$")
_SHORT_NUMBER = re.compile(r"^\d{1,3}(?:[.,]\d{1,2})?$")

KernelClass = Literal["sharp", "smooth", ""]


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    """The word lists of ``data/dicom_words.toml``."""
    file = resources.files("sacroplan.formats") / "data" / "dicom_words.toml"
    return tomllib.loads(file.read_text("utf-8"))


@lru_cache(maxsize=8)
def _known(name: str) -> frozenset[str]:
    return frozenset(_table()[name])


def line(value: Any) -> str:
    """One line of a header entry; multi-valued entries joined by a slash. Not yet gated."""
    if value is None:
        return ""
    parts = [value] if isinstance(value, (str, bytes, int, float)) else list(value)
    return re.sub(r"\s+", " ", "/".join(str(p) for p in parts)).strip()


def _passed(words: Iterable[str], known: frozenset[str]) -> str:
    """Known words and short numbers; runs of anything else become one ellipsis."""
    out: list[str] = []
    for word in words:
        fine = word.lower() in known or _SHORT_NUMBER.match(word) or _KERNEL.match(word)
        if fine:
            out.append(word)
        elif not out or out[-1] != "…":
            out.append("…")
    return " ".join(out)


def description(value: Any) -> str:
    """What may be told of a series description."""
    words = re.findall(
        r"[^\W\d_]+\d+[a-z]?|[^\W\d_]+(?:[-+][^\W\d_]+)?|\d+(?:[.,]\d+)?", line(value)
    )
    text = _passed(words, _known("description"))
    return "" if text == "…" else text


def kernel(value: Any) -> str:
    """A reconstruction kernel, empty where the entry does not look like one."""
    parts = [p.strip() for p in line(value).split("/")]
    known = [
        p
        for n, p in enumerate(parts)
        if p.lower().replace(" ", "") in _known("kernels")
        or _KERNEL.match(p)
        or _KERNEL_LETTER.match(p)
        or (n > 0 and re.match(r"^\d$", p))
    ]
    return "/".join(known) if known and known[0] == parts[0] else ""


def kernel_class(name: str) -> KernelClass:
    """Whether a kernel of this name is made for edges or for tissue; empty where not known."""
    first = name.split("/")[0].strip().lower()
    if first in ("bone", "boneplus", "bone+", "edge", "lung", "hdbone", "sharp", "detail"):
        return "sharp"
    if first in ("standard", "soft", "smooth", "std", "chst", "medium"):
        return "smooth"
    if first.upper() in ("D", "E", "L", "YC", "YD", "EC"):
        return "sharp"
    if first.upper() in ("A", "B", "C", "YA", "YB", "EB", "UA", "UB", "UC"):
        return "smooth"
    match = re.match(r"^(fc|[a-z]{1,2})(\d{2,3})", first)
    if match is None:
        return ""
    number = int(match.group(2))
    if match.group(1) == "fc":
        return "sharp" if number >= evidence.value("SP-IMG-08", "canon_sharp") else "smooth"
    return "sharp" if number >= evidence.value("SP-IMG-08", "siemens_sharp") else "smooth"


def contrast(value: Any) -> str:
    """What is told of a contrast agent: empty, ``NO``, a known agent, or only that one was given."""
    text = line(value)
    if not text:
        return ""
    if text.upper() in ("NO", "NONE", "N", "NOT GIVEN", "WITHOUT"):
        return "NO"
    words = re.findall(r"[A-Za-z.]+|\d+(?:[.,]\d+)?", text)
    kept = [w for w in words if w.lower() in _known("contrast") or _SHORT_NUMBER.match(w)]
    return " ".join(kept) if any(w.lower() in _known("contrast") for w in kept) else "given"


def model(manufacturer: Any, name: Any) -> str:
    """Maker and model of the scanner, as far as they are known ones."""
    maker = line(manufacturer).lower()
    vendor = next((v for k, v in _table()["makers"].items() if re.search(rf"\b{k}\b", maker)), "")
    words = re.findall(r"[^\s,;/()]+", line(name))
    known = [w for w in words if w.lower() in _known("models") or re.match(r"^\d{1,3}$", w)]
    return " ".join(
        [vendor, *known] if vendor else known if not known or known[0].isalpha() else []
    )


def modality(value: Any) -> str:
    """The modality where it is a known one."""
    text = line(value).upper()
    return text if text in _known("modalities") else "unknown" if text else "missing"


def position(value: Any) -> str:
    """The patient position where it is a defined term."""
    text = line(value).upper()
    return text if text in _known("positions") else ""


def short_number(value: Any) -> str:
    """A series or acquisition number of at most five digits."""
    text = line(value)
    return text if re.match(r"^\d{1,5}$", text) else ""


def uid(value: Any) -> str:
    """A unique identifier where it has the form of one."""
    text = line(value)
    return text if len(text) <= 64 and _UID.match(text) else ""


def key(*values: Any) -> str:
    """What tells two entries apart without telling what they are."""
    text = "\0".join(line(v) for v in values)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def month(*values: Any) -> str:
    """``YYYY-MM`` of the first usable date; the day is not kept."""
    for value in values:
        text = line(value).replace(".", "")
        if re.match(r"^(19|20)\d\d(0[1-9]|1[0-2])", text) and int(text[:4]) >= FIRST_CT_YEAR:
            return f"{text[:4]}-{text[4:6]}"
    return ""
