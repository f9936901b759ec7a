"""Encapsulated STL: the surface stays where it is, in the CT's own frame of reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import trimesh
from dicom_rules import faults
from test_dicom_seg import IDS, ct_of, labels_on
from test_orientations import OBLIQUE, PROPER_24

from sacroplan.banner import BANNER
from sacroplan.errors import FormatError
from sacroplan.formats.encapsulated import ENCAPSULATED_STL, write_encapsulated_stl
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.fields import contour
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import LabelMap


def surface_of(labels: LabelMap, name: str) -> Surface:
    inside = labels.mask(name).astype(np.float32)
    return contour(labels.geometry, 0.5 - inside)


def inside_of(file: Path, folder: Path) -> trimesh.Trimesh:
    """The mesh in a file as a program that knows only DICOM and STL sees it."""
    ds = pydicom.dcmread(file)
    body = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
    (folder / "inside.stl").write_bytes(body)
    mesh = trimesh.load(folder / "inside.stl")
    assert isinstance(mesh, trimesh.Trimesh)
    return mesh


@pytest.mark.parametrize("turn", PROPER_24)
@pytest.mark.parametrize("lie", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
def test_centroids_stand_still(tmp_path: Path, turn: np.ndarray, lie: np.ndarray) -> None:
    ct = ct_of(tmp_path / "ct", lie @ turn)
    labels = labels_on(ct.volume.geometry, IDS)
    assert ct.info.source is not None
    for name in labels.names.values():
        surface = surface_of(labels, name)
        file = tmp_path / f"{name}.dcm"
        write_encapsulated_stl(surface, file, name, source=ct.info.source, case_id="P-01")
        mesh = inside_of(file, tmp_path)
        np.testing.assert_allclose(
            mesh.triangles_center.mean(axis=0), surface.triangles.mean(axis=(0, 1)), atol=0.01
        )
        voxels = labels.geometry.to_world(np.argwhere(labels.mask(name)))
        assert (
            np.linalg.norm(mesh.center_mass - voxels.mean(axis=0))
            < labels.geometry.spacing_mm.max()
        )
        assert mesh.volume > 0


def test_what_stands_in_the_file(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", OBLIQUE, PatientName="Doe^Jane", PatientID="SECRET")
    surface = surface_of(labels_on(ct.volume.geometry, IDS), "sacrum")
    assert ct.info.source is not None
    for file in ("a.dcm", "b.dcm"):
        write_encapsulated_stl(
            surface, tmp_path / file, "sacrum", source=ct.info.source, case_id="P-01",
            colour=(0.9, 0.8, 0.6),
        )  # fmt: skip
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == ENCAPSULATED_STL
    assert ds.FrameOfReferenceUID == "1.2.3.99"
    assert ds.StudyInstanceUID == "1.2.3.1"
    assert ds.MIMETypeOfEncapsulatedDocument == "model/stl"
    assert ds.MeasurementUnitsCodeSequence[0].CodeValue == "mm"
    assert ds.ModelUsageCodeSequence[0].CodeMeaning == "Planning Intent"
    assert (ds.ModelModification, ds.ModelMirroring, ds.Modality) == ("NO", "NO", "M3D")
    assert BANNER in ds.DocumentTitle
    assert "NOT A MEDICAL DEVICE" in ds.ContentDescription
    uids = {pydicom.dcmread(f).SOPInstanceUID for f in (tmp_path / "ct").iterdir()}
    assert {i.ReferencedSOPInstanceUID for i in ds.SourceInstanceSequence} == uids
    assert str(ds.PatientName) == ds.PatientID == "P-01"
    assert not [e for e in ds.iterall() if e.VR in ("DA", "TM", "DT") and e.value]
    raw = (tmp_path / "a.dcm").read_bytes()
    assert b"Doe" not in raw
    assert b"SECRET" not in raw
    assert not faults(ds)
    (tmp_path / "inside.stl").write_bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    back = read_stl(tmp_path / "inside.stl")
    np.testing.assert_allclose(back.triangles, surface.triangles, atol=1e-4)


def test_names_and_shapes_tell_files_apart(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", np.eye(3))
    labels = labels_on(ct.volume.geometry, IDS)
    assert ct.info.source is not None
    uids, series = set(), set()
    for n, name in enumerate(labels.names.values(), start=1):
        write_encapsulated_stl(
            surface_of(labels, name), tmp_path / "a.dcm", name, source=ct.info.source,
            case_id="P-01", modified=n > 1, instance_number=n,
        )  # fmt: skip
        ds = pydicom.dcmread(tmp_path / "a.dcm")
        uids.add(ds.SOPInstanceUID)
        series.add((ds.SeriesInstanceUID, ds.ModelGroupUID))
        assert ds.ModelModification == ("YES" if n > 1 else "NO")
        assert ds.InstanceNumber == n
    assert len(uids) == len(IDS)
    assert len(series) == 1


def test_faults(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", np.eye(3))
    surface = surface_of(labels_on(ct.volume.geometry, IDS), "sacrum")
    assert ct.info.source is not None
    none = Surface(surface.vertices, np.zeros((0, 3), dtype=np.int32), surface.frame)
    with pytest.raises(FormatError, match="no triangle"):
        write_encapsulated_stl(none, tmp_path / "a.dcm", "x", source=ct.info.source, case_id="A")
    other = Surface(surface.vertices, surface.faces, "1.2.3.4.5")
    with pytest.raises(FormatError, match=r"'sacrum' lies in the frame of reference 1\.2\.3\.4\.5"):
        write_encapsulated_stl(
            other, tmp_path / "a.dcm", "sacrum", source=ct.info.source, case_id="A"
        )
    assert not (tmp_path / "a.dcm").exists()
