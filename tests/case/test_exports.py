"""What a plan leaves for other programs lies where the patient lies, in every file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from sacroplan.case.config import new_config, parse_config
from sacroplan.case.stage import Context, StageRecord, check_untouched, execute
from sacroplan.case.steps import exports
from sacroplan.errors import Doubt
from sacroplan.formats.ct import CtInfo, read_ct
from sacroplan.formats.dicom_out import write_ct_series
from sacroplan.formats.labels import read_label_file, write_labels_nifti, write_volume_nifti
from sacroplan.formats.segnrrd import write_segnrrd
from sacroplan.formats.stl import read_stl
from sacroplan.geometry.fields import contour
from sacroplan.geometry.frames import Plane
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry

SHAPE = (40, 30, 26)
OBLIQUE = Rotation.from_rotvec([0.3, -0.15, 0.1]).as_matrix()
BONES = {1: ("sacrum", (20, 18, 12)), 2: ("hip_right", (8, 14, 10)), 3: ("hip_left", (32, 14, 11)),
         4: ("L5", (20, 12, 19)), 5: ("L4", (20, 10, 23))}  # fmt: skip
CENTRE_OF_TUMOUR = np.array([21.0, 17.0, 12.0])


def ball(geometry: VolumeGeometry, centre: Any, radius_mm: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    apart = geometry.to_world(index.reshape(-1, 3)) - geometry.to_world(centre)
    return (np.linalg.norm(apart, axis=1) - radius_mm).reshape(geometry.shape)


def results(volume: Volume, info: CtInfo) -> dict[str, Any]:
    """Balls for bones: what the stages before would have made of this CT."""
    g = volume.geometry
    data = np.zeros(g.shape, dtype=np.uint8)
    surfaces = {}
    for i, (name, centre) in BONES.items():
        field = ball(g, centre, 4.2)
        data[field < 0] = i
        surfaces[name] = contour(g, field.astype(np.float32))
    labels = LabelMap(g, data, {i: name for i, (name, _) in BONES.items()})
    tumour = contour(g, ball(g, CENTRE_OF_TUMOUR, 2.4).astype(np.float32))
    part = surfaces["L5"]
    plan = SimpleNamespace(
        remnants={"hip_left": surfaces["hip_left"]}, specimen={"sacrum": surfaces["sacrum"]}
    )
    screw = SimpleNamespace(
        name="L5_left", entry=g.to_world([20, 12, 19]), tip=g.to_world([20, 6, 19])
    )
    guide = SimpleNamespace(
        name="guide_iliac_left",
        surface=part,
        wires=[SimpleNamespace(start=g.to_world([9, 9, 9]), end=g.to_world([9, 5, 9]))],
        slot=SimpleNamespace(
            cut=Plane(g.to_world([9, 9, 9]), np.array([1.0, 0.0, 0.0]), g.frame),
            length_mm=20.0,
            height_mm=8.0,
        ),
    )
    return {
        "intake": SimpleNamespace(volume=volume, info=info),
        "bones": SimpleNamespace(labels=labels, surfaces=surfaces, source="automatic segmentation"),
        "resection": SimpleNamespace(tumour=SimpleNamespace(surface=tumour), plan=plan),
        "screws": SimpleNamespace(plans=[SimpleNamespace(screw=screw)]),
        "implant": SimpleNamespace(core=part, porous={"L5": part}, wing_screws=[]),
        "guides": SimpleNamespace(guides=[guide]),
    }


def exported(folder: Path, ct: Path) -> tuple[dict[str, Any], StageRecord]:
    image = read_ct(ct)
    made = results(image.volume, image.info)
    for stage, name in (("bones", "bones.seg.nrrd"), ("landmarks", "landmarks.mrk.json"),
                        ("resection", "planes.mrk.json")):  # fmt: skip
        (folder / "work" / stage).mkdir(parents=True, exist_ok=True)
        (folder / "work" / stage / name).write_text("{}")
    write_segnrrd(made["bones"].labels, folder / "work" / "bones" / "bones.seg.nrrd")
    config = parse_config(new_config("P-01", str(ct), None, None), "case.toml")
    context = Context(folder, config, made.__getitem__)
    return made, execute(exports.STAGE, context, "key", {})


@pytest.fixture
def volume() -> Volume:
    rng = np.random.default_rng(0)
    g = VolumeGeometry(SHAPE, [1.0, 1.1, 1.3], [-20.0, 30.0, -900.0], OBLIQUE)
    return Volume(g, rng.integers(-900, 1500, SHAPE).astype(np.int16))


def stl_inside(file: Path, folder: Path) -> tuple[Any, Surface]:
    ds = pydicom.dcmread(file)
    (folder / "inside.stl").write_bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    return ds, read_stl(folder / "inside.stl")


def centre(surface: Surface) -> np.ndarray:
    return surface.triangles.mean(axis=(0, 1))


def test_a_dicom_ct_gets_files_that_join_its_study(tmp_path: Path, volume: Volume) -> None:
    source = write_ct_series(volume, tmp_path / "ct", case_id="other")
    made, record = exported(tmp_path / "case", tmp_path / "ct")
    dicom = tmp_path / "case" / "dossier" / "dicom"
    assert not (dicom / "ct").exists()
    assert not record.doubts
    assert record.metrics["exports.dicom.series"]["value"] == "the CT's own"
    seg = pydicom.dcmread(dicom / "segmentation.dcm")
    assert seg.StudyInstanceUID == source.study_uid
    assert seg.FrameOfReferenceUID == source.frame_uid
    assert seg.PatientID == "P-01"
    assert {s.SegmentAlgorithmType for s in seg.SegmentSequence} == {"AUTOMATIC"}
    geometry = made["intake"].volume.geometry
    back = read_label_file(dicom / "segmentation.dcm", geometry).labels
    bones = made["bones"].labels
    # The tumour, known only as a shape, is a segment of its own in the place of that shape.
    assert set(back.names.values()) == {n for n, _ in BONES.values()} | {"tumour"}
    found = geometry.to_world(np.argwhere(back.mask("tumour")).mean(axis=0))
    np.testing.assert_allclose(found, geometry.to_world(CENTRE_OF_TUMOUR), atol=0.3)
    assert np.count_nonzero(back.mask("tumour")) * geometry.voxel_volume_mm3 == pytest.approx(
        made["resection"].tumour.surface.volume_mm3, rel=0.15
    )
    rest = ~back.mask("tumour")
    np.testing.assert_array_equal(back.data[rest], bones.data[rest])
    surfaces = dict(made["bones"].surfaces) | {"tumour": made["resection"].tumour.surface}
    for name, surface in surfaces.items():
        ds, inside = stl_inside(dicom / f"stl_{name}.dcm", tmp_path)
        assert ds.FrameOfReferenceUID == source.frame_uid
        assert ds.ModelModification == "NO"
        np.testing.assert_allclose(centre(inside), centre(surface), atol=0.01)
        np.testing.assert_allclose(
            centre(read_stl(tmp_path / "case" / "dossier" / "slicer" / f"{name}.stl")),
            centre(surface), atol=0.01,
        )  # fmt: skip
    names = {p.name for p in dicom.glob("stl_*")}
    planned = {"stl_model_hip_left.dcm", "stl_model_specimen_sacrum.dcm", "stl_implant_core.dcm",
               "stl_implant_porous_L5.dcm", "stl_guide_iliac_left.dcm"}  # fmt: skip
    assert names == {f"stl_{n}.dcm" for n in surfaces} | planned
    numbers = [pydicom.dcmread(dicom / n).InstanceNumber for n in sorted(names)]
    assert sorted(numbers) == list(range(1, len(names) + 1))
    for name in planned:
        assert pydicom.dcmread(dicom / name).ModelModification == "YES"
    slicer = tmp_path / "case" / "dossier" / "slicer"
    np.testing.assert_array_equal(
        read_label_file(slicer / "labels.nii.gz", geometry).labels.data, back.data
    )
    np.testing.assert_array_equal(
        read_label_file(slicer / "bones.seg.nrrd", geometry).labels.data, bones.data
    )
    assert (slicer / "screws.mrk.json").is_file()
    assert check_untouched(tmp_path / "case", record)


def test_a_ct_without_dicom_gets_a_series_and_says_so(tmp_path: Path, volume: Volume) -> None:
    write_volume_nifti(volume, tmp_path / "ct.nii.gz")
    made, record = exported(tmp_path / "case", tmp_path / "ct.nii.gz")
    dicom = tmp_path / "case" / "dossier" / "dicom"
    ct = read_ct(dicom / "ct")
    np.testing.assert_array_equal(ct.volume.data, made["intake"].volume.data)
    assert ct.info.source is not None
    seg = pydicom.dcmread(dicom / "segmentation.dcm")
    assert seg.FrameOfReferenceUID == ct.info.frame_uid
    [series] = seg.ReferencedSeriesSequence
    named = {i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence}
    assert named == set(ct.info.source.sop_uids)
    # Read against the derived series, everything lies where it lies in the CT that was given.
    back = read_label_file(dicom / "segmentation.dcm", ct.volume.geometry).labels
    bones = made["bones"].labels
    for name in ("hip_left", "hip_right", "L5"):
        np.testing.assert_allclose(
            back.geometry.to_world(np.argwhere(back.mask(name)).mean(axis=0)),
            bones.geometry.to_world(np.argwhere(bones.mask(name)).mean(axis=0)),
            atol=0.01,
        )
    [doubt] = record.doubts
    assert doubt["code"] == "imaging.derived_series"
    assert Doubt(**{k: v for k, v in doubt.items() if k != "rows"}).message.startswith(
        "The CT (nifti)"
    )
    assert {n for n in record.files if n.startswith("dossier/dicom/ct/")} == {
        f"dossier/dicom/ct/CT{k + 1:05d}.dcm" for k in range(SHAPE[2])
    }


def test_same_results_same_bytes_and_nothing_old_stays(tmp_path: Path, volume: Volume) -> None:
    write_volume_nifti(volume, tmp_path / "ct.nii.gz")
    _, first = exported(tmp_path / "case", tmp_path / "ct.nii.gz")
    _, again = exported(tmp_path / "again", tmp_path / "ct.nii.gz")
    assert first.files == again.files
    mine = tmp_path / "case" / "dossier" / "dicom" / "ct" / "CT00026.dcm"
    mine.write_bytes(b"edited by hand")
    low = Volume(volume.geometry.cropped([0, 0, 0], [40, 30, 24]), volume.data[:, :, :24])
    write_volume_nifti(low, tmp_path / "ct.nii.gz")
    exported(tmp_path / "case", tmp_path / "ct.nii.gz")
    left = sorted(p.name for p in mine.parent.iterdir())
    # Slices of the longer CT are gone, but for the one that somebody changed.
    assert left == [f"CT{k + 1:05d}.dcm" for k in range(24)] + ["CT00026.dcm"]


def test_values_beyond_16_bits_do_not_stop_a_plan(tmp_path: Path, volume: Volume) -> None:
    data = volume.data.astype(np.float32) + np.float32(0.25)
    data[3, 4, 5] = 70000.0
    write_volume_nifti(Volume(volume.geometry, data), tmp_path / "ct.nii.gz")
    exported(tmp_path / "case", tmp_path / "ct.nii.gz")
    back = read_ct(tmp_path / "case" / "dossier" / "dicom" / "ct").volume.data
    assert back[3, 4, 5] == 32767
    np.testing.assert_array_equal(np.delete(back, 3, axis=0), np.delete(volume.data, 3, axis=0))


def test_a_labelled_tumour_stays_as_it_is(tmp_path: Path, volume: Volume) -> None:
    made = results(volume, CtInfo("CT", "nifti", (1.0, 1.1, 1.3)))
    bones = made["bones"].labels
    data = np.array(bones.data)
    data[22:24, 17, 12] = 20
    own = LabelMap(bones.geometry, data, {**bones.names, 20: "tumour"})
    assert exports.labelled(own, made["resection"]) is own
    none = SimpleNamespace(tumour=None)
    assert exports.labelled(bones, none) is bones  # type: ignore[arg-type]
    write_labels_nifti(exports.labelled(bones, made["resection"]), tmp_path / "a.nii.gz")
