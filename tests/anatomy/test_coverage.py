"""Which bones and parts of bones an image covers, on a block pelvis whose truth is plain."""

from __future__ import annotations

import numpy as np
import pytest

from sacroplan import evidence
from sacroplan.anatomy.coverage import MEANING, Coverage, coverage
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.volume import LabelMap, VolumeGeometry

NAMES = {1: "sacrum", 2: "hip_right", 3: "hip_left", 4: "L5", 5: "L4", 6: "L3", 9: "femur_right",
         10: "femur_left"}  # fmt: skip
SPACING = np.array([2.0, 2.0, 2.5])
SHAPE = (140, 90, 150)


def pelvis() -> LabelMap:
    """Blocks: hips 220 mm high with a posterior spine, vertebrae on the sacrum, femora below."""
    data = np.zeros(SHAPE, np.uint8)
    data[60:80, 60:75, 40:70] = 1
    for n, label in enumerate((4, 5, 6)):
        data[60:80, 50:75, 72 + 16 * n : 86 + 16 * n] = label
    for label, i in ((2, slice(20, 45)), (3, slice(95, 120))):
        data[i, 25:75, 12:100] = label
        # The crest is anterior of the middle on top; the posterior spine is lower.
        data[i, 50:75, 80:100] = 0
    for label, i in ((9, slice(10, 19)), (10, slice(121, 130))):
        data[i, 40:55, 0:30] = label
    return LabelMap(VolumeGeometry(SHAPE, SPACING, np.array([-140.0, -90, -200])), data, NAMES)


def cropped(labels: LabelMap, low: tuple[int, int, int], high: tuple[int, int, int]) -> LabelMap:
    geometry = labels.geometry.cropped(low, high)
    data = labels.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return LabelMap(geometry, np.ascontiguousarray(data), labels.names)


def codes(found: Coverage) -> set[str]:
    return {d.code.removeprefix("anatomy.coverage.") for d in found.doubts}


def test_a_whole_pelvis() -> None:
    found = coverage(pelvis())
    assert codes(found) == set()
    assert found.cut_cm2 == {
        "femur_left.lower": pytest.approx(9 * 15 * 0.04),
        "femur_right.lower": pytest.approx(9 * 15 * 0.04),
    }
    for part in ("sacrum", "L5", "L4", "L3", "iliac_crest_left", "psis_right", "ischium_left"):
        assert found.parts[part] == "whole", part
    assert found.parts["L2"] == "absent"
    metrics = found.metrics()
    assert metrics["anatomy.coverage.vertebrae"].value == "L5, L4, L3"
    assert metrics["anatomy.coverage.psis_left"].label == "Left PSIS"


@pytest.mark.parametrize(
    ("low", "high", "cut", "code"),
    [
        ((0, 0, 20), SHAPE, {"ischium_left", "ischium_right"}, {"ischium"}),
        (
            (0, 0, 45),
            SHAPE,
            {"sacrum", "ischium_left", "ischium_right", "acetabulum_left", "acetabulum_right"},
            {"sacrum", "ischium", "acetabulum", "femora"},
        ),
        (
            (0, 0, 0),
            (*SHAPE[:2], 95),
            {"iliac_crest_left", "iliac_crest_right", "L4"},
            {"iliac_crest", "vertebra", "vertebra_absent"},
        ),
        (
            (0, 0, 0),
            (*SHAPE[:2], 75),
            {"iliac_crest_left", "iliac_crest_right", "psis_left", "psis_right", "L5"},
            {"iliac_crest", "psis", "vertebra", "vertebra_absent"},
        ),
        (
            (0, 0, 0),
            (SHAPE[0], 70, SHAPE[2]),
            {"sacrum", "L3", "L4", "L5", "iliac_crest_left", "iliac_crest_right", "psis_left",
             "psis_right", "ischium_left", "ischium_right"},
            {"sacrum", "vertebra", "iliac_crest", "psis", "acetabulum_unknown", "ischium"},
        ),
        (
            (30, 0, 0),
            SHAPE,
            {"iliac_crest_right", "ischium_right"},
            {"iliac_crest", "acetabulum_unknown", "ischium"},
        ),
    ],
)  # fmt: skip
def test_what_a_border_cuts(
    low: tuple[int, int, int], high: tuple[int, int, int], cut: set[str], code: set[str]
) -> None:
    found = coverage(cropped(pelvis(), low, high))
    parts = {p for p, s in found.parts.items() if s == "cut off" and not p.startswith("femur")}
    assert parts == cut
    assert codes(found) == code
    for doubt in found.doubts:
        assert doubt.message.endswith(".")
        assert any(m in doubt.message for m in MEANING.values())
        for row in doubt.rows:
            assert evidence.get(row).id == row


def test_the_area_of_a_cut() -> None:
    found = coverage(cropped(pelvis(), (0, 0, 20), SHAPE))
    assert found.cut_cm2["hip_left.lower"] == pytest.approx(25 * 50 * 0.04)
    assert found.metrics()["anatomy.coverage.cut.hip_left.lower_cm2"].unit == "cm2"


def test_left_and_right_change_in_the_mirror() -> None:
    labels = cropped(pelvis(), (30, 0, 0), SHAPE)
    swap = np.arange(11, dtype=np.uint8)
    swap[[2, 3, 9, 10]] = [3, 2, 10, 9]
    mirrored = LabelMap(
        labels.geometry, np.ascontiguousarray(swap[labels.data[::-1]]), labels.names
    )
    a, b = coverage(labels).parts, coverage(mirrored).parts
    for part, state in a.items():
        if part.endswith("left"):
            other = part.replace("left", "right")
        elif part.endswith("right"):
            other = part.replace("right", "left")
        else:
            other = part
        assert b[other] == state


def test_a_moved_patient_is_covered_alike() -> None:
    labels = cropped(pelvis(), (0, 0, 45), SHAPE)
    a = np.radians(25)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    moved = labels.geometry.transformed(Rigid(turn, np.array([5.0, -7, 11])))
    again = coverage(LabelMap(moved, labels.data, labels.names))
    assert again.parts == coverage(labels).parts


def test_landmarks_decide_what_labels_leave_open() -> None:
    """A scan that ends at both ends of the hip: only the centre of the hip tells of the socket."""
    labels = cropped(pelvis(), (0, 0, 30), (*SHAPE[:2], 90))
    open_ = coverage(labels)
    assert open_.parts["acetabulum_left"] == "unknown"
    assert "acetabulum_unknown" in codes(open_)
    g = labels.geometry
    inside = g.to_world([107, 45, 30])
    edge = g.to_world([32, 45, 5])
    found = coverage(labels, {"HJC_L": inside, "HJC_R": edge, "PSIS_L": g.to_world([107, 74, 30])})
    assert found.parts["acetabulum_left"] == "whole"
    assert found.parts["acetabulum_right"] == "cut off"
    assert found.parts["psis_left"] == "whole"
    assert coverage(labels, {"PSIS_L": g.to_world([107, 89, 30])}).parts["psis_left"] == "cut off"


def test_missing_bones_and_a_tumour_at_the_border() -> None:
    labels = pelvis()
    data = labels.data.copy()
    data[data == 3] = 0
    data[65:75, 80:, 40:60] = 20
    found = coverage(LabelMap(labels.geometry, data, {**NAMES, 20: "tumour"}))
    assert found.parts["iliac_crest_left"] == "absent"
    assert codes(found) == {"tumour"}
    nothing = coverage(LabelMap(labels.geometry, np.zeros(SHAPE, np.uint8), {}))
    assert set(nothing.parts.values()) == {"absent"}
    assert codes(nothing) == {"vertebra_absent"}
