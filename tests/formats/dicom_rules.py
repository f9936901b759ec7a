"""What PS3.3 demands of an object, from the tables that come inside highdicom."""

from __future__ import annotations

from typing import Any

from highdicom._standard_utils import (
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)


def faults(ds: Any) -> list[str]:
    """Type 1 entries missing or empty and type 2 entries missing, of every mandatory module, and

    entries that no module of the object knows. Conditional types are not looked at.
    """
    out = []
    known = set()
    for module in get_iod_module_map()[get_sop_class_iod_map()[ds.SOPClassUID]]:
        entries = get_module_attribute_map()[module["key"]]
        known |= {e["keyword"] for e in entries if not e["path"]}
        if module["usage"] != "M":
            continue
        for entry in entries:
            for holder in _holders(ds, list(entry["path"])):
                missing = entry["keyword"] not in holder
                if missing and list(entry["path"]) in (
                    ["SharedFunctionalGroupsSequence"],
                    ["PerFrameFunctionalGroupsSequence"],
                ):
                    continue  # a functional group stands in one of the two
                where = ".".join((*entry["path"], entry["keyword"]))
                if entry["type"] in ("1", "2") and missing:
                    out.append(f"{module['key']}: {where} is missing")
                elif entry["type"] == "1" and holder[entry["keyword"]].is_empty:
                    out.append(f"{module['key']}: {where} is empty")
    out += [f"{e.keyword} belongs to no module" for e in ds if e.keyword not in known]
    return out


def _holders(ds: Any, path: list[str]) -> list[Any]:
    """The data sets at a path; none where a sequence on the way is absent."""
    if not path:
        return [ds]
    sequence = ds.get(path[0])
    return [] if sequence is None else [h for item in sequence for h in _holders(item, path[1:])]
