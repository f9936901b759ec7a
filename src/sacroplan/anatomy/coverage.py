"""What of the pelvis the image covers: which bones and parts of them are whole (HANDBOOK CT-05).

A bone that touches the border of the image goes on beyond it. Which part is lost is told from the
border it touches and from where along the bone that happens; landmarks, where they are known,
decide what the labels leave open. Along the grid, never along world axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import LabelMap
from sacroplan.metrics import Metric, Metrics

BORDERS = ("right", "left", "anterior", "posterior", "lower", "upper")
"""Faces of a canonical grid: low and high end of i, j, k."""

LUMBAR = ("L5", "L4", "L3", "L2", "L1")

SIDES = (("right", "R"), ("left", "L"))

State = Literal["whole", "cut off", "unknown", "absent"]

MEANING: Mapping[str, str] = {
    "sacrum": (
        "the specimen, its margin and the cut faces of the implant cannot be planned beyond the "
        "border"
    ),
    "vertebra": (
        "pedicle screws, rods and the loads of the spine are planned on a stand-in for what is "
        "missing"
    ),
    "vertebra_absent": (
        "no screw, rod or load can be planned there, should the construct have to reach so far"
    ),
    "iliac_crest": (
        "a guide cannot hold on to the crest, and the length of iliac screws and of the implant's "
        "wing is not known there"
    ),
    "psis": (
        "a guide for the iliac cut has lost its seat, and the entries of iliac screws are not known"
    ),
    "acetabulum": (
        "the hip's centre is missing or uncertain, and with it pelvic incidence and the loads on "
        "the implant"
    ),
    "ischium": (
        "the pelvic ring is held where it is cut, so stresses in a finite-element model of the "
        "implant are less certain"
    ),
    "bone": "what lies beyond is unknown; loads and landmarks near there are less certain",
}
"""What a missing part means for a guide or implant."""


@dataclass(frozen=True)
class Coverage:
    """What the image covers.

    Attributes
    ----------
    parts : ``"L4"``, ``"sacrum"``, ``"iliac_crest_left"``, ``"psis_left"``, ``"acetabulum_left"``,
        ``"ischium_left"`` (and right) ... to ``whole``, ``cut off``, ``unknown`` or ``absent``.
    cut_cm2 : bone and border (``"hip_left.lower"``) to the area of the bone on that border.
    doubts : what is cut off or missing, and what that means.
    """

    parts: Mapping[str, State]
    cut_cm2: Mapping[str, float]
    doubts: tuple[Doubt, ...]

    def metrics(self) -> Metrics:
        """One text a part, the area of every cut, and the vertebrae in one line."""
        rows = ("CT-05",)
        out: Metrics = {
            f"anatomy.coverage.{part}": Metric(state, "text", _label(part), rows)
            for part, state in self.parts.items()
        }
        for where, area in self.cut_cm2.items():
            bone, border = where.rsplit(".", 1)
            out[f"anatomy.coverage.cut.{where}_cm2"] = Metric(
                area, "cm2", f"{_label(bone)} on the {border} border", rows
            )
        whole = [v for v in LUMBAR if self.parts.get(v) == "whole"]
        out["anatomy.coverage.vertebrae"] = Metric(
            ", ".join(whole) or "none", "text", "Vertebrae that are whole", rows
        )
        return out


def coverage(labels: LabelMap, landmarks: Mapping[str, FloatArray] | None = None) -> Coverage:
    """Which bones and parts of bones the image covers.

    Parameters
    ----------
    labels : canonical map of bones by name (``sacrum``, ``hip_left``, ``L5`` ...).
    landmarks : name to (3,) LPS mm, as far as found (``PSIS_L``, ``HJC_L`` ...).
    """
    known = landmarks or {}
    parts: dict[str, State] = {}
    cuts: dict[str, float] = {}
    boxes = _boxes(labels)
    for name in sorted(boxes):
        cuts.update(_cuts(labels, name, boxes[name]))
    for name in ("sacrum", *LUMBAR):
        parts[name] = _whole(name, boxes, cuts)
    for side, letter in SIDES:
        parts.update(_hip(labels, side, letter, boxes, cuts, known))
        femur = f"femur_{side}"
        parts[femur] = _whole(femur, boxes, cuts)
    return Coverage(parts, cuts, _doubts(parts, cuts, boxes))


Box = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _boxes(labels: LabelMap) -> dict[str, Box]:
    """First and last voxel (3,) of every bone that occupies any."""
    from scipy import ndimage

    found = ndimage.find_objects(np.asarray(labels.data, dtype=np.int32))
    out: dict[str, Box] = {}
    for number, name in labels.names.items():
        box = found[number - 1] if 0 < number <= len(found) else None
        if box is not None:
            out[name] = (
                np.array([s.start for s in box], np.int64),
                np.array([s.stop - 1 for s in box], np.int64),
            )
    return out


def _layer(labels: LabelMap, name: str, border: int) -> npt.NDArray[np.bool_]:
    """(2D) mask of a bone on one face of the image."""
    axis, end = divmod(border, 2)
    return np.asarray(np.take(labels.data, -end, axis=axis) == labels.id_of(name))


def _cuts(labels: LabelMap, name: str, box: Box) -> dict[str, float]:
    """Borders that a bone touches, with the area there in cm2."""
    last = np.array(labels.geometry.shape) - 1
    spacing = labels.geometry.spacing_mm
    out: dict[str, float] = {}
    for border in range(6):
        axis, end = divmod(border, 2)
        if (box[1][axis] == last[axis]) if end else (box[0][axis] == 0):
            pixel = float(np.prod(np.delete(spacing, axis))) / 100.0
            area = float(np.count_nonzero(_layer(labels, name, border))) * pixel
            out[f"{name}.{BORDERS[border]}"] = area
    return out


def _touched(name: str, cuts: Mapping[str, float]) -> list[str]:
    return [b for b in BORDERS if f"{name}.{b}" in cuts]


def _whole(name: str, boxes: Mapping[str, Box], cuts: Mapping[str, float]) -> State:
    if name not in boxes:
        return "absent"
    return "cut off" if _touched(name, cuts) else "whole"


def _hip(
    labels: LabelMap,
    side: str,
    letter: str,
    boxes: Mapping[str, Box],
    cuts: Mapping[str, float],
    known: Mapping[str, FloatArray],
) -> dict[str, State]:
    """Crest, PSIS, acetabulum and ischium of one hip bone."""
    name = f"hip_{side}"
    keys = [f"{part}_{side}" for part in ("iliac_crest", "psis", "acetabulum", "ischium")]
    if name not in boxes:
        return dict.fromkeys(keys, "absent")
    touched = _touched(name, cuts)
    spacing = labels.geometry.spacing_mm
    low, high = boxes[name]
    height = float((high[2] - low[2] + 1) * spacing[2])
    crest: State = "cut off" if "upper" in touched else "whole"
    ischium: State = "cut off" if "lower" in touched else "whole"
    psis: State = "whole"
    acetabulum: State = "whole"
    if "upper" in touched and _reaches_back(labels, name, boxes[name]):
        psis = "cut off"
    if "lower" in touched:
        # The rim of the socket lies so far below the crest; less than that is left: it is cut.
        need = evidence.value("SP-COV-01", "acetabulum_below_crest")
        acetabulum = "unknown" if crest == "cut off" else "whole" if height >= need else "cut off"
    for border in set(touched) - {"upper", "lower"}:
        share = _height_shares(labels, name, border, boxes[name])
        upper, lower = share > 0.5, share <= 0.5
        if upper.any():
            crest = "cut off"
            psis = "cut off" if border == "posterior" else psis
        if lower.any():
            acetabulum = "unknown" if acetabulum == "whole" else acetabulum
            ischium = "cut off"
    margin = evidence.value("SP-COV-01", "margin")
    if f"PSIS_{letter}" in known:
        psis = "whole" if _room(labels, known[f"PSIS_{letter}"]) > margin else "cut off"
    if f"HJC_{letter}" in known:
        reach = evidence.value("SP-COV-01", "acetabulum_reach")
        acetabulum = "whole" if _room(labels, known[f"HJC_{letter}"]) > reach else "cut off"
    return dict(zip(keys, (crest, psis, acetabulum, ischium), strict=True))


def _reaches_back(labels: LabelMap, name: str, box: Box) -> bool:
    """Whether the part of a bone on the upper border lies in its posterior third."""
    j = np.flatnonzero(_layer(labels, name, 5).any(axis=0))
    share = (j - box[0][1]) / max(box[1][1] - box[0][1], 1)
    return bool(np.any(share > 2.0 / 3.0))


def _height_shares(labels: LabelMap, name: str, border: str, box: Box) -> FloatArray:
    """Where along the height of a bone (0 low, 1 high) it touches a side border."""
    k = np.flatnonzero(_layer(labels, name, BORDERS.index(border)).any(axis=0))
    return np.asarray((k - box[0][2]) / max(float(box[1][2] - box[0][2]), 1.0))


def _room(labels: LabelMap, point: FloatArray) -> float:
    """Distance in mm from a point to the nearest border of the image, negative outside."""
    index = labels.geometry.to_index(point)
    last = np.array(labels.geometry.shape) - 1.0
    return float((np.minimum(index, last - index) * labels.geometry.spacing_mm).min())


def _label(part: str) -> str:
    words = part.replace("_", " ").replace("psis", "PSIS")
    for side in ("left", "right"):
        if words.endswith(f" {side}"):
            words = f"{side} {words.removesuffix(f' {side}')}"
    return words[0].upper() + words[1:]


def _doubts(
    parts: Mapping[str, State], cuts: Mapping[str, float], boxes: Mapping[str, Box]
) -> tuple[Doubt, ...]:
    """One doubt per kind of part that is not whole."""
    rows = ("CT-05", "SP-COV-01")
    out: list[Doubt] = []

    def add(code: str, found: str, meaning: str) -> None:
        out.append(
            Doubt("anatomy", f"anatomy.coverage.{code}", f"{found}: {MEANING[meaning]}.", rows)
        )

    if parts["sacrum"] == "cut off":
        where = " and ".join(_touched("sacrum", cuts))
        add("sacrum", f"The sacrum is cut off by the {where} border of the image", "sacrum")
    cut = [v for v in LUMBAR if parts[v] == "cut off"]
    absent = [v for v in LUMBAR[:3] if parts[v] == "absent"]
    if cut:
        add("vertebra", f"{', '.join(cut)} cut off by the border of the image", "vertebra")
    if absent:
        add(
            "vertebra_absent",
            f"{', '.join(absent)} not in the image; L3 to the lesser trochanters are expected",
            "vertebra_absent",
        )
    for kind in ("iliac_crest", "psis", "acetabulum", "ischium"):
        for state in ("cut off", "unknown"):
            sides = [s for s, _ in SIDES if parts[f"{kind}_{s}"] == state]
            if sides:
                one = _label(kind).removeprefix("Ischium") or "Ischium"
                whose = " and ".join(sides)
                said = "cut off by" if state == "cut off" else "perhaps cut off by"
                code = kind if state == "cut off" else f"{kind}_unknown"
                add(code, f"{one}, {whose}: {said} the border of the image", kind)
    femora = [s for s, _ in SIDES if parts[f"femur_{s}"] == "absent"]
    if len(femora) == 2 and any(f"hip_{s}" in boxes for s, _ in SIDES):
        add("femora", "No femur is in the image; the lesser trochanters are expected", "acetabulum")
    told = {"sacrum", *LUMBAR, *(f"hip_{s}" for s, _ in SIDES)}
    # A femur always leaves a pelvic CT through its lower border.
    other = sorted(
        w
        for w in cuts
        if w.rsplit(".", 1)[0] not in told
        and not (w.startswith("femur") and w.endswith(".lower"))
        and not w.startswith("tumour")
    )
    if other:
        names = ", ".join(
            f"{_label(b)} ({border})" for b, border in (w.rsplit(".", 1) for w in other)
        )
        add("other", f"Cut off by a border of the image: {names}", "bone")
    tumour = [w.rsplit(".", 1)[1] for w in cuts if w.startswith("tumour.")]
    if tumour:
        add(
            "tumour",
            f"The tumour reaches the {' and '.join(tumour)} border of the image",
            "sacrum",
        )
    return tuple(out)
