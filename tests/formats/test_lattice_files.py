"""Lattice files: other programs accept them, they hold the solid, and the same layer gives the same bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import lib3mf
import numpy as np
import pytest

from sacroplan.banner import BANNER, BANNER_SHORT
from sacroplan.errors import FormatError
from sacroplan.formats._digits import rows
from sacroplan.formats.cli_layers import write_cli
from sacroplan.formats.stl import read_stl, write_stl, write_stl_blocks
from sacroplan.formats.threemf import write_3mf
from sacroplan.formats.threemf_lattice import (
    write_3mf_beams,
    write_3mf_blocks,
    write_3mf_slices,
)
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box
from sacroplan.geometry.surface import Surface
from sacroplan.lattice.beams import beams
from sacroplan.lattice.layer import Solid, fill, solidify
from sacroplan.lattice.marching import Block
from sacroplan.lattice.slices import Slice, build_axes, sliced, slices

HERE = AxisFrame("test", np.array([10.0, -20.0, 300.0]), np.eye(3))
WORDS = {"CaseId": "P-01"}
METAL = "Ti-6Al-4V ELI"


@pytest.fixture(scope="module")
def solid() -> Solid:
    body = box(HERE, np.zeros(3), np.array([5.0, 4.0, 2.0]))
    core = box(HERE, np.array([0.0, 0.0, -3.0]), np.array([5.0, 4.0, 0.0]))
    return solidify(fill(body, core, "gyroid_network", 1.0, 0.3), 0.08)


def strict(path: Path) -> lib3mf.Model:
    """Read with lib3mf in strict mode, which raises on the first fault; warnings fail too."""
    model = lib3mf.get_wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromFile(str(path))
    assert [reader.GetWarning(n) for n in range(reader.GetWarningCount())] == []
    return model


def meshes(model: lib3mf.Model) -> list[lib3mf.MeshObject]:
    out, it = [], model.GetMeshObjects()
    while it.MoveNext():
        out.append(it.GetCurrentMeshObject())
    return out


def words(model: lib3mf.Model) -> dict[str, str]:
    group = model.GetMetaDataGroup()
    return {
        group.GetMetaData(n).GetName(): group.GetMetaData(n).GetValue()
        for n in range(group.GetMetaDataCount())
    }


def materials(model: lib3mf.Model) -> list[str]:
    out, it = [], model.GetBaseMaterialGroups()
    while it.MoveNext():
        group = it.GetCurrentBaseMaterialGroup()
        out += [group.GetName(n) for n in group.GetAllPropertyIDs()]
    return out


def test_parts_pass_strict_reading_with_names_material_and_banner(tmp_path: Path) -> None:
    a = box(HERE, np.zeros(3), np.ones(3))
    b = box(HERE, np.full(3, 2.0), np.full(3, 3.0))
    write_3mf([("core", a), ('wing "left" <1>', b)], tmp_path / "a.3mf", "t", WORDS, METAL)
    model = strict(tmp_path / "a.3mf")
    assert [m.GetName() for m in meshes(model)] == ["core", 'wing "left" <1>']
    assert all(m.IsManifoldAndOriented() for m in meshes(model))
    assert model.GetUnit() == lib3mf.ModelUnit.MilliMeter
    assert materials(model) == [METAL]
    found = words(model)
    assert found["Description"] == BANNER
    assert found["CaseId"] == "P-01"
    for name in (None, "PA12"):
        write_3mf([("core", a)], tmp_path / "b.3mf", "t", None, name)
        assert materials(strict(tmp_path / "b.3mf")) == ([] if name is None else [name])


def test_streamed_triangles_are_the_surface(tmp_path: Path, solid: Solid) -> None:
    whole = solid.surface()
    count = write_3mf_blocks("L5", solid.blocks(), tmp_path / "a.3mf", "t", WORDS, METAL)
    model = strict(tmp_path / "a.3mf")
    (mesh,) = meshes(model)
    assert count == len(whole.faces) == mesh.GetTriangleCount()
    assert mesh.IsManifoldAndOriented()
    v = np.array([list(p.Coordinates) for p in mesh.GetVertices()])
    assert v == pytest.approx(whole.vertices, abs=2e-5)  # lib3mf keeps float32
    assert materials(model) == [METAL]
    n = write_stl_blocks(solid.blocks(), tmp_path / "a.stl", "P-01 L5")
    back = read_stl(tmp_path / "a.stl")
    assert n == len(back.faces) == count
    assert back.is_closed
    assert back.volume_mm3 == pytest.approx(whole.volume_mm3, rel=1e-4)
    head = (tmp_path / "a.stl").read_bytes()[:80]
    assert b"SPACE=LPS" in head
    assert BANNER_SHORT.encode() in head
    write_stl(whole, tmp_path / "b.stl", "P-01 L5")
    # Vertex by vertex the same file, whichever way it was written.
    assert (tmp_path / "a.stl").read_bytes() == (tmp_path / "b.stl").read_bytes()


def test_beams_pass_strict_reading(tmp_path: Path, solid: Solid) -> None:
    layer = fill(
        solid.layer.body, box(HERE, np.array([0.0, 0.0, -3.0]), np.array([5.0, 4.0, 0.0])),
        "diamond_strut", 1.0, lambda p: np.interp(p[:, 2], [300.0, 302.0], [0.4, 0.2]),
    )  # fmt: skip
    found = beams(layer)
    write_3mf_beams("L5", found, tmp_path / "a.3mf", "t", WORDS, METAL)
    model = strict(tmp_path / "a.3mf")
    hull, lattice, rim = meshes(model)
    assert lattice.BeamLattice().GetBeamCount() == len(found.ends)
    mode, resource = lattice.BeamLattice().GetClipping()
    assert mode == lib3mf.BeamLatticeClipMode.Inside
    assert resource == hull.GetResourceID()
    assert rim.IsManifoldAndOriented()
    beam = lattice.BeamLattice().GetBeam(7)
    assert list(beam.Indices) == found.ends[7].tolist()
    assert list(beam.Radii) == pytest.approx(found.radii_mm[7], abs=1e-6)
    # Graded: struts grow from the seat to the core.
    assert np.ptp(found.radii_mm) > 0.02
    size = (tmp_path / "a.3mf").stat().st_size
    triangles = solidify(layer, 0.08).triangles
    assert size < 0.1 * 50 * triangles


def stack(solid: Solid) -> Iterator[Slice]:
    return slices(sliced(solid.layer, 0.08, 0.05, build_axes(np.array([0.2, 0.1, 1.0]))))


def test_slices_pass_strict_reading_and_hold_the_area(tmp_path: Path, solid: Solid) -> None:
    axes = build_axes(np.array([0.2, 0.1, 1.0]))
    body = Surface(solid.layer.body.vertices @ axes, solid.layer.body.faces)
    count = write_3mf_slices("L5", body, stack(solid), tmp_path / "a.3mf", "t", WORDS, METAL)
    model = strict(tmp_path / "a.3mf")
    (mesh,) = meshes(model)
    assert mesh.HasSlices(False)
    found = mesh.GetSliceStack()
    assert found.GetSliceCount() == count
    expected = list(stack(solid))
    for n in (0, count // 2, count - 1):
        piece = found.GetSlice(n)
        points = np.array([list(v.Coordinates) for v in piece.GetVertices()])
        area = 0.0
        for m in range(piece.GetPolygonCount()):
            ring = piece.GetPolygonIndices(m)
            assert ring[0] == ring[-1]
            x, y = points[ring[:-1]].T
            area += 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
        assert area == pytest.approx(expected[n].area_mm2, abs=1e-3)
        assert piece.GetZTop() == pytest.approx(expected[n].top_mm, abs=1e-5)


def read_cli(path: Path) -> list[tuple[float, list[tuple[int, np.ndarray]]]]:
    """Layers of a binary CLI file, read by the format's words alone."""
    raw = path.read_bytes()
    at = raw.index(b"$$HEADEREND") + len(b"$$HEADEREND")
    layers: list[tuple[float, list[tuple[int, np.ndarray]]]] = []
    while at < len(raw):
        word = int.from_bytes(raw[at : at + 2], "little")
        if word == 127:
            layers.append((float(np.frombuffer(raw, "<f4", 1, at + 2)[0]), []))
            at += 6
        else:
            assert word == 130
            _, way, n = np.frombuffer(raw, "<i4", 3, at + 2)
            points = np.frombuffer(raw, "<f4", 2 * n, at + 14).reshape(-1, 2)
            layers[-1][1].append((int(way), points))
            at += 14 + 8 * int(n)
    return layers


def test_cli_layers_hold_the_solid(tmp_path: Path, solid: Solid) -> None:
    count = write_cli("P-01_L5", stack(solid), tmp_path / "a.cli", "case P-01")
    head = (tmp_path / "a.cli").read_bytes().split(b"$$HEADEREND")[0].decode("ascii")
    assert head.startswith("$$HEADERSTART")
    assert "$$UNITS/1\n" in head
    assert BANNER_SHORT in head
    assert f"$$LAYERS/{count:06d}" in head
    layers = read_cli(tmp_path / "a.cli")
    assert len(layers) == count
    total = 0.0
    for _, rings in layers:
        for way, ring in rings:
            assert np.array_equal(ring[0], ring[-1])
            x, y = ring[:-1].T.astype(np.float64)
            area = 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
            assert (area > 0) == (way == 1)
            total += 0.05 * area
    assert total == pytest.approx(solid.surface().volume_mm3, rel=0.02)


def test_the_same_layer_gives_the_same_bytes(tmp_path: Path, solid: Solid) -> None:
    body = solid.layer.body
    strut = fill(body, None, "dodecahedron_strut", 1.0, 0.2, normal=[0, 0, 1])
    for n in (0, 1):
        write_3mf_blocks("L5", solid.blocks(), tmp_path / f"t{n}", "t", WORDS, METAL)
        write_3mf_beams("L5", beams(strut), tmp_path / f"b{n}", "t", WORDS)
        write_3mf_slices("L5", body, stack(solid), tmp_path / f"s{n}", "t", WORDS)
        write_cli("L5", stack(solid), tmp_path / f"c{n}")
    for kind in "tbsc":
        assert (tmp_path / f"{kind}0").read_bytes() == (tmp_path / f"{kind}1").read_bytes()
    with zipfile.ZipFile(tmp_path / "t0") as archive:
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_digits() -> None:
    values = [[0.0, -1.5, 123.456789], [-0.0000004, 1e-6, -250.0000005]]
    text = rows(values, ("<", "|", "|", ">"), 6).decode()
    assert text == "<0.000000|-1.500000|123.456789><0.000000|0.000001|-250.000000>"
    assert rows([[0], [10], [-7]], ("", ",")) == b"0,10,-7,"
    with pytest.raises(OverflowError):
        rows([[1e15]], ("", ""), 6)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, solid: Solid) -> None:
    body = solid.layer.body
    with pytest.raises(FormatError, match="no triangle"):
        write_3mf_blocks("x", [], tmp_path / "a", "t")
    with pytest.raises(FormatError, match="0 triangles"):
        write_stl_blocks([], tmp_path / "a", "x")
    with pytest.raises(FormatError, match="no slice"):
        write_3mf_slices("x", body, [], tmp_path / "a", "t")
    with pytest.raises(FormatError, match="0 slices"):
        write_cli("x", [], tmp_path / "a")
    down = list(stack(solid))[::-1]
    with pytest.raises(FormatError, match="does not lie above"):
        write_3mf_slices("x", body, down, tmp_path / "a", "t")
    with pytest.raises(FormatError, match="CLI header"):
        write_cli("x // y", stack(solid), tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_block_without_faces_is_no_trouble(tmp_path: Path, solid: Solid) -> None:
    whole = list(solid.blocks())
    empty = Block(np.zeros((0, 3)), 0, np.zeros((0, 3), dtype=np.int64))
    count = write_stl_blocks([empty, *whole], tmp_path / "a.stl", "x")
    assert count == sum(len(b.faces) for b in whole)
    assert read_stl(tmp_path / "a.stl").is_closed
