"""One plan through every door: JSON, Slicer markups, DICOM, OpenIGTLink; the same entry and tip."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pydicom
import pytest

from sacroplan.banner import BANNER
from sacroplan.errors import FormatError, PlanError
from sacroplan.fixation.screws import Screw, at
from sacroplan.formats.dicom_out import ct_source
from sacroplan.formats.markups import read_lines, write_lines
from sacroplan.formats.spatial_fiducials import read_spatial_fiducials, write_spatial_fiducials
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.navigation import igtlink
from sacroplan.navigation.robot_plan import read_screws, robot_plan, write_plan

TOLERANCE_MM = 1e-3

SCREWS = (
    at(
        "L5_left", "L5", "left", "pedicle", [31.25, -184.0625, 812.3], [-0.4, -0.9, -0.1], 6.5, 45.0
    ),
    at("s2ai_right", "S2", "right", "s2ai", [-22.1, -160.7, 770.9], [-0.7, -0.6, -0.4], 8.5, 90.0),
)


def _same(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    assert set(found) == {s.name for s in SCREWS}
    for s in SCREWS:
        assert np.abs(found[s.name][0] - s.entry).max() < TOLERANCE_MM
        assert np.abs(found[s.name][1] - s.tip).max() < TOLERANCE_MM


def test_openigtlink_receiver_on_loopback() -> None:
    pyigtl = pytest.importorskip("pyigtl")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = pyigtl.OpenIGTLinkServer(port=port)
    try:
        assert igtlink.send(SCREWS, "127.0.0.1", port) == 2
        message = server.wait_for_message(igtlink.DEVICE, timeout=10)
        notice = server.wait_for_message(igtlink.NOTICE, timeout=10)
    finally:
        server.stop()
    assert message is not None
    assert notice is not None
    assert notice.string == BANNER
    # On the wire it is RAS: the left screw has a negative x.
    assert message.positions[0][0] < 0 < message.positions[2][0]
    _same(igtlink.screws_of(message))


def test_nobody_listening_is_told() -> None:
    pytest.importorskip("pyigtl")
    with pytest.raises(PlanError, match="No OpenIGTLink receiver"):
        igtlink.send(SCREWS, "127.0.0.1", 1, wait_s=0.2)


def test_slicer_reads_the_same_lines(tmp_path: Path) -> None:
    path = tmp_path / "screws.mrk.json"
    write_lines({s.name: (s.entry, s.tip) for s in SCREWS}, path)
    # Read as Slicer does: by the schema's own words, without this program's reader.
    table = json.loads(path.read_text("utf-8"))
    assert table["@schema"].endswith("markups-schema-v1.0.3.json#")
    found = {}
    for markup in table["markups"]:
        assert (markup["type"], markup["coordinateSystem"]) == ("Line", "LPS")
        first, second = (np.array(c["position"]) for c in markup["controlPoints"])
        found[markup["name"]] = (first, second)
    _same(found)
    _same(read_lines(path))


def test_json_round_trip_names_frame_and_banner(tmp_path: Path) -> None:
    plan = robot_plan("case1", "1.2.3", SCREWS, {}, {}, 0.5)
    write_plan(plan, tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text("utf-8")
    assert BANNER in text
    assert '"1.2.3"' in text
    assert '"LPS"' in text
    _same(read_screws(tmp_path / "plan.json"))
    (tmp_path / "other.json").write_text("{}", "utf-8")
    with pytest.raises(PlanError, match="no robot plan"):
        read_screws(tmp_path / "other.json")


def test_dicom_lies_in_the_frame_of_the_ct(tmp_path: Path) -> None:
    geometry = VolumeGeometry((4, 4, 3), np.ones(3), np.zeros(3))
    source = ct_source(Volume(geometry, np.zeros((4, 4, 3), dtype=np.int16)), "case1")
    lines = {s.name: (s.entry, s.tip) for s in SCREWS}
    for n in (1, 2):
        write_spatial_fiducials(lines, tmp_path / f"{n}.dcm", source=source, case_id="case1")
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()
    frame, found = read_spatial_fiducials(tmp_path / "1.dcm")
    assert frame == source.frame_uid == pydicom.dcmread(tmp_path / "1.dcm").FrameOfReferenceUID
    _same(found)
    with pytest.raises(FormatError, match="no screw axis"):
        write_spatial_fiducials({}, tmp_path / "3.dcm", source=source, case_id="case1")


def test_markers_on_bone_that_goes_are_warned_of_and_error_is_predicted() -> None:
    piece = box(AxisFrame("b", [0, 0, 0], np.eye(3)), [-10, -10, -10], [10, 10, 10])
    markers = {
        "PSIS_L": np.array([12.0, 0, 0]), "PSIS_R": np.array([-60.0, 0, 0]),
        "L3": np.array([0.0, 10, 90]), "L2": np.array([5.0, 20, 120]),
    }  # fmt: skip
    plan = robot_plan("c", "1.2", SCREWS, markers, {"sacrum": piece}, 0.5)
    assert [d.code for d in plan.doubts] == ["navigation.marker_on_specimen"]
    assert "PSIS_L" in plan.doubts[0].message
    assert set(plan.tre_mm) == {s.name for s in SCREWS}
    assert min(plan.tre_mm.values()) > 0.5 / 2.0
    assert robot_plan("c", "1.2", SCREWS, {}, {}, 0.5).tre_mm == {}


def test_two_screws_of_one_name_are_refused() -> None:
    twin: tuple[Screw, ...] = (SCREWS[0], SCREWS[0])
    with pytest.raises(PlanError, match="share a name"):
        robot_plan("c", "1.2", twin, {}, {}, 0.5)
