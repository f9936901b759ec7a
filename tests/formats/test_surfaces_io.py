"""STL and 3MF: the same surface back, the same bytes twice, other programs agree."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sacroplan.banner import BANNER, BANNER_SHORT
from sacroplan.errors import FormatError, GeometryError
from sacroplan.formats.stl import read_stl, write_stl
from sacroplan.formats.threemf import read_3mf, write_3mf
from sacroplan.geometry.surface import Surface


def ball(radius: float = 10.0, centre: tuple[float, float, float] = (3.0, -40.0, 500.0)) -> Surface:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return Surface(mesh.vertices * [1.0, 1.3, 0.7] + centre, mesh.faces)


def test_stl_round_trip_is_closed_and_exact_in_float32(tmp_path: Path) -> None:
    s = ball()
    write_stl(s, tmp_path / "a.stl", "specimen")
    back = read_stl(tmp_path / "a.stl")
    assert back.is_closed
    assert len(back.vertices) == len(s.vertices)
    np.testing.assert_array_equal(back.triangles, s.triangles.astype(np.float32))
    assert back.volume_mm3 == pytest.approx(s.volume_mm3, rel=1e-5)
    first = (tmp_path / "a.stl").read_bytes()
    write_stl(s, tmp_path / "a.stl", "specimen")
    assert (tmp_path / "a.stl").read_bytes() == first
    assert b"SPACE=LPS" in first[:80]
    assert BANNER_SHORT.encode() in first[:80]
    assert b"specimen" in first[:80]
    assert not first.startswith(b"solid")


def test_trimesh_reads_our_stl(tmp_path: Path) -> None:
    s = ball()
    write_stl(s, tmp_path / "a.stl", "Schädel with a very long name indeed " * 3)
    mesh = trimesh.load_mesh(tmp_path / "a.stl")
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(s.volume_mm3, rel=1e-4)
    np.testing.assert_allclose(mesh.center_mass, s.centroid, atol=1e-3)


@pytest.mark.parametrize("kind", ["stl_ascii", "stl"])
def test_we_read_trimesh_stl(tmp_path: Path, kind: str) -> None:
    s = ball()
    mesh = trimesh.Trimesh(s.vertices, s.faces, process=False)
    mesh.export(tmp_path / "a.stl", file_type=kind)
    back = read_stl(tmp_path / "a.stl")
    assert back.is_closed
    assert back.volume_mm3 == pytest.approx(s.volume_mm3, rel=1e-4)


def test_slicer_ras_header_is_turned(tmp_path: Path) -> None:
    s = ball()
    write_stl(s, tmp_path / "a.stl", "x")
    raw = (tmp_path / "a.stl").read_bytes()
    (tmp_path / "a.stl").write_bytes(raw.replace(b"SPACE=LPS", b"SPACE=RAS"))
    back = read_stl(tmp_path / "a.stl")
    np.testing.assert_allclose(back.centroid, s.centroid * [-1, -1, 1], atol=1e-3)
    assert back.volume_mm3 > 0


def test_binary_stl_that_begins_like_ascii(tmp_path: Path) -> None:
    """Many exporters write 'solid' into a binary header."""
    s = ball()
    write_stl(s, tmp_path / "a.stl", "x")
    raw = (tmp_path / "a.stl").read_bytes()
    (tmp_path / "a.stl").write_bytes(b"solid facet" + raw[11:])
    assert read_stl(tmp_path / "a.stl").is_closed


def test_stl_faults(tmp_path: Path) -> None:
    file = tmp_path / "a.stl"
    with pytest.raises(FormatError, match="could not be read"):
        read_stl(file)
    file.write_bytes(b"hello")
    with pytest.raises(FormatError, match="not an STL file"):
        read_stl(file)
    write_stl(ball(), file, "x")
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(FormatError, match="cut short"):
        read_stl(file)
    file.write_text("solid x\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\n")
    with pytest.raises(FormatError, match="cut short"):
        read_stl(file)
    empty = Surface(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32))
    with pytest.raises(FormatError, match="no triangle"):
        write_stl(empty, file, "x")


def test_3mf_round_trip(tmp_path: Path) -> None:
    parts = [("left wing", ball()), ('cage "A" <1>', ball(4.0, (-50.0, 0.0, 0.001)))]
    file = tmp_path / "a.3mf"
    write_3mf(parts, file, "Case & title", {"case": "P-01", "Designer": "x < y"})
    back, metadata = read_3mf(file)
    assert [name for name, _ in back] == [name for name, _ in parts]
    for (_, a), (_, b) in zip(parts, back, strict=True):
        np.testing.assert_array_equal(a.faces, b.faces)
        np.testing.assert_allclose(a.vertices, b.vertices, rtol=1e-8, atol=1e-8)
        assert b.is_closed
    assert metadata["Description"] == BANNER
    assert metadata["Title"] == "Case & title"
    assert metadata["case"] == "P-01"
    first = file.read_bytes()
    write_3mf(parts, file, "Case & title", {"case": "P-01", "Designer": "x < y"})
    assert file.read_bytes() == first


def test_trimesh_reads_our_3mf(tmp_path: Path) -> None:
    s = ball()
    write_3mf([("ball", s)], tmp_path / "a.3mf", "t")
    mesh = trimesh.load(tmp_path / "a.3mf", force="mesh")
    assert mesh.volume == pytest.approx(s.volume_mm3, rel=1e-6)


def test_3mf_package_is_complete(tmp_path: Path) -> None:
    write_3mf([("ball", ball())], tmp_path / "a.3mf", "t")
    with zipfile.ZipFile(tmp_path / "a.3mf") as archive:
        assert archive.namelist() == ["[Content_Types].xml", "_rels/.rels", "3D/3dmodel.model"]
        assert archive.testzip() is None
        assert b'unit="millimeter"' in archive.read("3D/3dmodel.model")[:200]
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_3mf_refuses_what_cannot_be_printed(tmp_path: Path) -> None:
    file = tmp_path / "a.3mf"
    s = ball()
    opened = Surface(s.vertices, s.faces[1:])
    with pytest.raises(GeometryError, match="lid"):
        write_3mf([("ball", s), ("lid", opened)], file, "t")
    with pytest.raises(GeometryError, match="inside out"):
        write_3mf([("ball", Surface(s.vertices, s.faces[:, ::-1]))], file, "t")
    with pytest.raises(FormatError, match="same name"):
        write_3mf([("ball", s), ("ball", s)], file, "t")
    with pytest.raises(FormatError, match="no part"):
        write_3mf([], file, "t")
    with pytest.raises(FormatError, match="reserved"):
        write_3mf([("ball", s)], file, "t", {"Description": "none"})
    assert not list(tmp_path.iterdir())
    file.write_bytes(b"PK no zip")
    with pytest.raises(FormatError, match="not a readable 3MF"):
        read_3mf(file)
