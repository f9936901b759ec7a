from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_cases import LPS, block, dossier

from sacroplan.errors import GeometryError
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import sphere
from sacroplan.report.model import (
    Overlay,
    ReportError,
    ScenePart,
    Section,
    SliceRequest,
    Table,
    View,
    grid_frame,
    view_frame,
)

ISB = AxisFrame("FRM-1", np.zeros(3), np.column_stack([[0, -1, 0], [0, 0, 1], [-1, 0, 0]]))


def test_isb_axes_become_left_posterior_superior() -> None:
    assert np.allclose(view_frame(ISB).axes, np.eye(3))


def test_a_frame_with_other_axes_is_refused() -> None:
    with pytest.raises(ReportError, match="view_frame"):
        replace(dossier(), view_frame=ISB)


def test_the_grid_is_a_view_frame_of_last_resort() -> None:
    d = dossier()
    assert d.volume is not None
    assert np.allclose(grid_frame(d.volume).axes, np.eye(3))


def test_frames_are_never_mixed() -> None:
    stranger = ScenePart("x", "X", "g", sphere([0, 0, 0], 3.0, frame="other CT"), "#ffffff")
    with pytest.raises(GeometryError, match="other CT"):
        replace(dossier(), scene=(*dossier().scene, stranger))


def test_bad_records_name_the_culprit() -> None:
    s = block([0, 0, 0], [1, 1, 1])
    with pytest.raises(ReportError, match="a b"):
        ScenePart("a b", "A", "g", s, "#ffffff")
    with pytest.raises(ReportError, match="red"):
        ScenePart("a", "A", "g", s, "red")
    with pytest.raises(ReportError, match="opacity"):
        ScenePart("a", "A", "g", s, "#ffffff", opacity=0.0)
    with pytest.raises(ReportError, match="exactly one"):
        Overlay("o", "#ffffff")
    with pytest.raises(ReportError, match="right angles"):
        SliceRequest("s", np.zeros(3), np.array([1, 0, 0.0]), np.array([1, 1, 0.0]), 10.0, "g")
    with pytest.raises(ReportError, match="2 columns"):
        Table("t", ("a", "b"), (("1",),))
    d = dossier()
    with pytest.raises(ReportError, match="'ball'"):
        replace(d, scene=(*d.scene, d.scene[0]))
    with pytest.raises(ReportError, match="femur"):
        replace(d, sections=(Section("S", "s", views=(View("v", "V", show=("femur",)),)),))
    with pytest.raises(ReportError, match="no CT"):
        replace(d, volume=None)
    with pytest.raises(ReportError, match="empty"):
        replace(d, scene=())


def test_doubts_are_counted_once() -> None:
    codes = [x.code for x in dossier().all_doubts]
    assert codes == ["imaging.thick", "fixation.cover"]
    assert LPS.name == "pelvis"
