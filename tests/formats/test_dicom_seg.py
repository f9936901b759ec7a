"""DICOM segmentations out and in: nothing moves, whatever the orientation, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_maker import write_enhanced, write_stack
from dicom_rules import faults
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from test_orientations import ALL_48, OBLIQUE, PROPER_24

from sacroplan.banner import BANNER
from sacroplan.errors import FormatError, ImagingError
from sacroplan.formats.ct import CtImage, read_ct
from sacroplan.formats.dicom_out import write_ct_series
from sacroplan.formats.dicom_seg import dicom_seg_bytes, read_dicom_seg, write_dicom_seg
from sacroplan.formats.labels import read_label_file, read_labels, read_mask
from sacroplan.formats.names import own_names, snomed
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry

SHAPE, SPACING = (17, 13, 11), np.array([0.9, 1.1, 1.7])
ORIGIN = np.array([-31.5, 12.25, 840.0])
IDS = {1: (8, 6, 5), 2: (3, 7, 6), 3: (13, 6, 6), 4: (8, 5, 9), 20: (8, 8, 4)}
"""Own ids and the voxel each is around, nowhere symmetric; the left hip lies further left."""


def ct_of(folder: Path, direction: np.ndarray, **entries: Any) -> CtImage:
    """A DICOM CT in any orientation, written by the tests' own hand."""
    rng = np.random.default_rng(5)
    lps = np.abs(direction).argmax(axis=0)
    data = rng.integers(-900, 1500, [SHAPE[a] for a in lps]).astype(np.int16)
    table = {"StudyInstanceUID": "1.2.3.1", "FrameOfReferenceUID": "1.2.3.99", **entries}
    write_stack(folder, data, origin=ORIGIN, direction=direction, spacing=SPACING[lps], **table)
    return read_ct(folder)


def labels_on(geometry: VolumeGeometry, ids: dict[int, tuple[int, int, int]]) -> LabelMap:
    """An uneven blob around each voxel: no two of its mirror images are the same."""
    data = np.zeros(geometry.shape, dtype=np.uint8)
    for i, (a, b, c) in ids.items():
        data[a : a + 2, b, c] = i
        data[a, b - 1 : b + 1, c] = i
        data[a, b, c - 1 : c + 2] = i
    return LabelMap(geometry, data, {i: own_names()[i] for i in ids})


def centroids(labels: LabelMap) -> dict[str, np.ndarray]:
    return {
        name: labels.geometry.to_world(np.argwhere(labels.mask(name)).mean(axis=0))
        for name in labels.names.values()
    }


def by_highdicom(file: Path) -> dict[str, np.ndarray]:
    """LPS centroid of every segment as highdicom reads the file."""
    seg = hd.seg.segread(file)
    volume = seg.get_volume(combine_segments=False)
    out = {}
    for n, number in enumerate(seg.segment_numbers):
        index = np.argwhere(volume.array[..., n]).mean(axis=0)
        affine = volume.affine
        out[seg.get_segment_description(number).segment_label] = (
            affine[:3, :3] @ index + affine[:3, 3]
        )
    return out


def by_pydicom(file: Path) -> dict[str, np.ndarray]:
    """The same from nothing but the frames: the definition of a plane in PS3.3 C.7.6.2.1.1."""
    ds = pydicom.dcmread(file)
    pixels = ds.pixel_array.reshape(ds.NumberOfFrames, ds.Rows, ds.Columns)
    shared = ds.SharedFunctionalGroupsSequence[0]
    o = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    labels = {s.SegmentNumber: s.SegmentLabel for s in ds.SegmentSequence}
    points: dict[str, list[np.ndarray]] = {}
    for group, plane in zip(ds.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        at = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        rows, columns = np.nonzero(plane)
        there = (
            at + np.outer(columns, o[:3]) * between_columns + np.outer(rows, o[3:]) * between_rows
        )
        points.setdefault(labels[number], []).append(there)
    return {name: np.concatenate(p).mean(axis=0) for name, p in points.items()}


@pytest.mark.parametrize("turn", PROPER_24)
@pytest.mark.parametrize("lie", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
def test_written_centroids_stand_still_for_highdicom_and_pydicom(
    tmp_path: Path, turn: np.ndarray, lie: np.ndarray
) -> None:
    ct = ct_of(tmp_path / "ct", lie @ turn)
    labels = labels_on(ct.volume.geometry, IDS)
    assert ct.info.source is not None
    file = tmp_path / "bones.dcm"
    write_dicom_seg(labels, file, source=ct.info.source, case_id="P-01")
    truth = centroids(labels)
    for found in (by_highdicom(file), by_pydicom(file)):
        assert found.keys() == truth.keys()
        for name, centre in truth.items():
            np.testing.assert_allclose(found[name], centre, atol=0.01, err_msg=name)
    back = read_labels(file, ct.volume.geometry)
    np.testing.assert_array_equal(back.data, labels.data)
    assert back.names == labels.names
    # In the very planes of the CT, so that viewers of slices can lay one over the other.
    ds, first = pydicom.dcmread(file), pydicom.dcmread(tmp_path / "ct" / "s000.dcm")
    assert (ds.Rows, ds.Columns) == (first.Rows, first.Columns)
    shared = ds.SharedFunctionalGroupsSequence[0]
    np.testing.assert_allclose(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient,
        first.ImageOrientationPatient, atol=1e-6,
    )  # fmt: skip


def test_every_frame_names_the_slice_it_lies_on(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", OBLIQUE @ PROPER_24[7])
    labels = labels_on(ct.volume.geometry, IDS)
    assert ct.info.source is not None
    write_dicom_seg(labels, tmp_path / "a.dcm", source=ct.info.source, case_id="P-01")
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    slices = {}
    for f in (tmp_path / "ct").iterdir():
        one = pydicom.dcmread(f)
        slices[one.SOPInstanceUID] = np.array(one.ImagePositionPatient, dtype=float)
    for group in ds.PerFrameFunctionalGroupsSequence:
        [image] = group.DerivationImageSequence[0].SourceImageSequence
        at = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        np.testing.assert_allclose(slices[image.ReferencedSOPInstanceUID], at, atol=1e-5)
    [series] = ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.4"
    named = {i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence}
    assert named == set(slices)
    assert ds.StudyInstanceUID == "1.2.3.1"
    assert ds.FrameOfReferenceUID == "1.2.3.99"


def test_a_multi_frame_ct_is_named_by_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    file = tmp_path / "ct.dcm"
    write_enhanced(file, rng.integers(-900, 900, SHAPE).astype(np.int16), ORIGIN, OBLIQUE, SPACING)
    ds = pydicom.dcmread(file)
    ds.StudyInstanceUID = "1.2.3.1"
    ds.save_as(file)
    ct = read_ct(file)
    assert ct.info.source is not None
    assert ct.info.source.multi_frame
    labels = labels_on(ct.volume.geometry, IDS)
    write_dicom_seg(labels, tmp_path / "a.dcm", source=ct.info.source, case_id="P-01")
    seg = pydicom.dcmread(tmp_path / "a.dcm")
    for group in seg.PerFrameFunctionalGroupsSequence:
        [image] = group.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == ds.SOPInstanceUID
        named = ds.PerFrameFunctionalGroupsSequence[int(image.ReferencedFrameNumber) - 1]
        np.testing.assert_allclose(
            np.array(named.PlanePositionSequence[0].ImagePositionPatient, dtype=float),
            np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float),
            atol=1e-4,
        )
    np.testing.assert_array_equal(
        read_labels(tmp_path / "a.dcm", ct.volume.geometry).data, labels.data
    )


def test_a_resampled_ct_is_named_as_a_series(tmp_path: Path) -> None:
    """A tilted stack was laid on a rectangular grid: no slice is where its labels are."""
    rng = np.random.default_rng(5)
    places = np.array([[0.0, 0.5 * k, 2.0 * k] for k in range(12)])
    write_stack(
        tmp_path / "ct", rng.integers(-900, 900, (16, 12, 12)).astype(np.int16), positions=places,
        StudyInstanceUID="1.2.3.1",
    )  # fmt: skip
    ct = read_ct(tmp_path / "ct")
    labels = labels_on(ct.volume.geometry, IDS)
    assert ct.info.source is not None
    write_dicom_seg(labels, tmp_path / "a.dcm", source=ct.info.source, case_id="P-01")
    truth = centroids(labels)
    for name, centre in by_highdicom(tmp_path / "a.dcm").items():
        np.testing.assert_allclose(centre, truth[name], atol=0.01)
    [series] = pydicom.dcmread(tmp_path / "a.dcm").ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 12


def test_codes_sides_banner_and_no_person(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", np.eye(3), PatientName="Doe^Jane", PatientID="SECRET")
    every = {i: (1 + n, 6, 5) for n, i in enumerate(sorted(own_names()))}
    every[3], every[10] = (15, 2, 3), (15, 9, 3)
    labels = labels_on(ct.volume.geometry, every)
    assert ct.info.source is not None
    write_dicom_seg(
        labels, tmp_path / "a.dcm", source=ct.info.source, case_id="P-01", how="label file x",
        automatic=True,
    )  # fmt: skip
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    expected = {
        "sacrum": codes.SCT.Sacrum, "L5": codes.SCT.L5Vertebra, "L4": codes.SCT.L4Vertebra,
        "hip_left": codes.SCT.Hip, "hip_right": codes.SCT.Hip, "femur_left": codes.SCT.Femur,
        "femur_right": codes.SCT.Femur, "tumour": codes.SCT.Neoplasm,
    }  # fmt: skip
    for item in ds.SegmentSequence:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        if item.SegmentLabel in expected:
            code = expected[item.SegmentLabel]
            assert (kind.CodeValue, kind.CodingSchemeDesignator) == (code.value, "SCT")
        for side in ("left", "right"):
            if item.SegmentLabel.endswith(side):
                [modifier] = kind.SegmentedPropertyTypeModifierCodeSequence
                assert modifier.CodeMeaning.lower() == side
        assert item.SegmentAlgorithmType == "AUTOMATIC"
    tumour = next(s for s in ds.SegmentSequence if s.SegmentLabel == "tumour")
    assert (
        tumour.SegmentedPropertyCategoryCodeSequence[0].CodeValue
        == codes.cid7150.MorphologicallyAbnormalStructure.value
    )
    assert ds.ImageComments == BANNER
    assert "NOT A MEDICAL DEVICE" in ds.ContentDescription
    assert "NOT A MEDICAL DEVICE" in ds.SeriesDescription
    assert str(ds.PatientName) == ds.PatientID == "P-01"
    raw = (tmp_path / "a.dcm").read_bytes()
    assert b"Doe" not in raw
    assert b"SECRET" not in raw
    assert not faults(ds)


def test_same_input_same_bytes_and_no_date_of_today(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", OBLIQUE)
    labels = labels_on(ct.volume.geometry, IDS)
    assert ct.info.source is not None
    once, again, other = (
        dicom_seg_bytes(labels, source=ct.info.source, case_id=case) for case in ("A", "A", "B")
    )
    assert once == again
    assert once != other
    (tmp_path / "a.dcm").write_bytes(once)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    dates = {e.keyword: e.value for e in ds.iterall() if e.VR in ("DA", "TM", "DT") and e.value}
    assert dates == {"ContentDate": "19700101", "ContentTime": "000000"}
    assert ds.LongitudinalTemporalInformationModified == "MODIFIED"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", np.eye(3))
    g = ct.volume.geometry
    assert ct.info.source is not None
    empty = LabelMap(g, np.zeros(g.shape, np.uint8), {1: "sacrum"})
    with pytest.raises(FormatError, match="empty"):
        dicom_seg_bytes(empty, source=ct.info.source, case_id="A")
    odd = LabelMap(g, np.ones(g.shape, np.uint8), {1: "liver"})
    with pytest.raises(FormatError, match=r"No SNOMED code .* 'liver'"):
        dicom_seg_bytes(odd, source=ct.info.source, case_id="A")
    moved = VolumeGeometry(g.shape, g.spacing_mm, g.origin, g.direction, "1.2.3.4.5")
    with pytest.raises(
        FormatError, match=r"frame of reference 1\.2\.3\.4\.5, the CT in 1\.2\.3\.99"
    ):
        dicom_seg_bytes(labels_on(moved, IDS), source=ct.info.source, case_id="A")
    turned = VolumeGeometry(g.shape, g.spacing_mm, g.origin, OBLIQUE, g.frame)
    with pytest.raises(FormatError, match="planes of the CT"):
        dicom_seg_bytes(labels_on(turned, IDS), source=ct.info.source, case_id="A")
    with pytest.raises(FormatError, match="case id"):
        dicom_seg_bytes(labels_on(g, IDS), source=ct.info.source, case_id="a^b")
    assert {snomed(n) for n in own_names().values()} - {None}


# --- Files of other programs -----------------------------------------------------------------------


def foreign(
    geometry: VolumeGeometry,
    turn: np.ndarray,
    masks: dict[str, np.ndarray],
    kind: str = "BINARY",
    frame: str = "1.2.3.99",
    **options: Any,
) -> hd.seg.Segmentation:
    """What another program makes of masks on the CT's grid, stored in another order and sense."""
    axes = np.abs(turn).argmax(axis=0)
    signs = turn.sum(axis=0)
    first = np.zeros(3)
    first[axes] = np.where(signs < 0, np.array(geometry.shape)[axes] - 1, 0)
    flip = tuple(slice(None, None, -1) if s < 0 else slice(None) for s in signs)
    stacked = np.stack([np.transpose(m, axes)[flip] for m in masks.values()], axis=-1)
    affine = np.eye(4)
    affine[:3, :3] = geometry.affine[:3, :3][:, axes] * signs
    affine[:3, 3] = geometry.to_world(first)
    source: Any = pydicom.Dataset()
    for keyword, value in {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.4", "Modality": "CT",
        "FrameOfReferenceUID": frame, "Rows": 8, "Columns": 8, "PatientID": "x",
        "PatientName": "Doe^Jane", "PatientBirthDate": "", "PatientSex": "", "StudyID": "",
        "AccessionNumber": "", "StudyDate": "", "StudyTime": "", "InstanceNumber": 1,
        "ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1], "SliceThickness": 1,
    }.items():  # fmt: skip
        setattr(source, keyword, value)
    source.file_meta = pydicom.dataset.FileMetaDataset()
    source.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    descriptions = [
        hd.seg.SegmentDescription(n, label, codes.SCT.AnatomicalStructure, codes.SCT.Bone, "MANUAL")
        for n, label in enumerate(masks, start=1)
    ]
    pixels: Any = hd.Volume(
        stacked, affine, "PATIENT", frame, channels={"SegmentNumber": range(1, len(masks) + 1)}
    )
    return hd.seg.Segmentation(
        [source], pixels, kind, descriptions, generate_uid(), 1, generate_uid(), 1, "m", "m", "1",
        "1", **options,
    )  # fmt: skip


def masks_of(labels: LabelMap) -> dict[str, np.ndarray]:
    return {name: labels.mask(name) for name in labels.names.values()}


GEOMETRY = VolumeGeometry(SHAPE, SPACING, ORIGIN, OBLIQUE, "1.2.3.99")


@pytest.mark.parametrize("turn", ALL_48)
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_any_orientation_of_another_program_is_read(
    tmp_path: Path, turn: np.ndarray, kind: str
) -> None:
    labels = labels_on(GEOMETRY, IDS)
    seg = foreign(GEOMETRY, turn, masks_of(labels), kind)
    assert seg.NumberOfFrames < len(IDS) * min(SHAPE)  # empty frames are left out
    seg.save_as(tmp_path / "a.dcm")
    back = read_labels(tmp_path / "a.dcm", GEOMETRY)
    np.testing.assert_array_equal(back.data, labels.data)
    np.testing.assert_array_equal(
        read_mask(tmp_path / "a.dcm", GEOMETRY, "tumour"), labels.mask("tumour")
    )
    np.testing.assert_array_equal(
        read_mask(tmp_path / "a.dcm", GEOMETRY, 2), labels.mask("hip_right")
    )
    np.testing.assert_array_equal(read_mask(tmp_path / "a.dcm", GEOMETRY), labels.data > 0)


def test_label_map_segmentations_and_shuffled_frames_are_read(tmp_path: Path) -> None:
    labels = labels_on(GEOMETRY, IDS)
    foreign(GEOMETRY, np.eye(3), masks_of(labels), "LABELMAP").save_as(tmp_path / "map.dcm")
    np.testing.assert_array_equal(read_labels(tmp_path / "map.dcm", GEOMETRY).data, labels.data)
    seg = foreign(GEOMETRY, PROPER_24[5], masks_of(labels), "FRACTIONAL")
    order = np.random.default_rng(2).permutation(seg.NumberOfFrames)
    pixels = seg.pixel_array[order]
    seg.PerFrameFunctionalGroupsSequence = pydicom.Sequence(
        [seg.PerFrameFunctionalGroupsSequence[int(n)] for n in order]
    )
    seg.PixelData = pixels.tobytes()
    seg.save_as(tmp_path / "shuffled.dcm")
    np.testing.assert_array_equal(
        read_labels(tmp_path / "shuffled.dcm", GEOMETRY).data, labels.data
    )


def test_a_fraction_counts_from_one_half(tmp_path: Path) -> None:
    share = np.zeros(SHAPE)
    share[2, 3, 4], share[3, 3, 4], share[4, 3, 4] = 0.4, 0.5, 1.0
    foreign(GEOMETRY, np.eye(3), {"sacrum": share}, "FRACTIONAL", max_fractional_value=200).save_as(
        tmp_path / "a.dcm"
    )
    assert np.argwhere(read_labels(tmp_path / "a.dcm", GEOMETRY).data).tolist() == [
        [3, 3, 4], [4, 3, 4],
    ]  # fmt: skip


def test_segments_are_known_by_label_or_by_code(tmp_path: Path) -> None:
    labels = labels_on(GEOMETRY, {2: (3, 7, 6), 3: (13, 6, 6), 20: (8, 8, 4)})
    seg = foreign(GEOMETRY, np.eye(3), masks_of(labels))
    for item, name in zip(seg.SegmentSequence, labels.names.values(), strict=True):
        known = snomed(name)
        assert known is not None
        item.SegmentLabel = "Segment_7"
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.CodeValue = known.kind.value
        if known.side is not None:
            modifier: Any = pydicom.Dataset()
            modifier.CodeValue, modifier.CodingSchemeDesignator = known.side[:2]
            modifier.CodeMeaning = known.side.meaning
            kind.SegmentedPropertyTypeModifierCodeSequence = pydicom.Sequence([modifier])
    seg.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.dcm", GEOMETRY).data, labels.data)


def test_a_sixth_lumbar_vertebra_is_told(tmp_path: Path) -> None:
    masks = masks_of(labels_on(GEOMETRY, {1: (8, 6, 5), 4: (8, 5, 9)}))
    masks["vertebrae_L6"] = masks.pop("L5")
    foreign(GEOMETRY, np.eye(3), masks).save_as(tmp_path / "a.dcm")
    [doubt] = read_label_file(tmp_path / "a.dcm", GEOMETRY).doubts
    assert doubt.code == "anatomy.labels.sixth_lumbar"


def test_segments_of_two_patients_are_told_apart(tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", np.eye(3))
    labels = labels_on(ct.volume.geometry, IDS)
    assert ct.info.source is not None
    uids = []
    for case in ("A", "B"):
        write_dicom_seg(
            labels, tmp_path / "a.dcm", source=ct.info.source, case_id=case, how="a\\b\x01"
        )
        ds = pydicom.dcmread(tmp_path / "a.dcm")
        uids += [ds.SOPInstanceUID, *(s.TrackingUID for s in ds.SegmentSequence)]
        assert ds.SegmentSequence[0].SegmentAlgorithmName == "a b"
    assert len(set(uids)) == len(uids)


def test_overlapping_segments_are_resolved_aloud(tmp_path: Path) -> None:
    labels = labels_on(GEOMETRY, IDS)
    masks = masks_of(labels)
    tumour = np.zeros(SHAPE, bool)
    tumour[8, 6, 5] = True
    masks = {"tumour": tumour, "sacrum": masks["sacrum"], "L5": masks["sacrum"] & ~tumour}
    foreign(GEOMETRY, np.eye(3), masks).save_as(tmp_path / "a.dcm")
    reading = read_label_file(tmp_path / "a.dcm", GEOMETRY)
    np.testing.assert_array_equal(reading.labels.mask("tumour"), tumour)
    np.testing.assert_array_equal(reading.labels.mask("L5"), masks["L5"])
    [doubt] = reading.doubts
    assert doubt.code == "anatomy.labels.overlap"
    assert f"marks {masks['sacrum'].sum()} voxels" in doubt.message
    assert f"sacrum and L5 {masks['L5'].sum()}" in doubt.message


def test_another_frame_or_grid_is_refused_in_one_sentence(tmp_path: Path) -> None:
    labels = labels_on(GEOMETRY, IDS)
    foreign(GEOMETRY, np.eye(3), masks_of(labels), frame="1.2.3.77").save_as(tmp_path / "a.dcm")
    for read in (read_labels, read_mask):
        with pytest.raises(
            ImagingError,
            match=r"another frame of reference \(1\.2\.3\.77\) than the CT \(1\.2\.3\.99\)",
        ):
            read(tmp_path / "a.dcm", GEOMETRY)
    half = VolumeGeometry(SHAPE, SPACING, GEOMETRY.to_world([0.5, 0, 0]), OBLIQUE, GEOMETRY.frame)
    foreign(half, np.eye(3), masks_of(labels_on(half, IDS))).save_as(tmp_path / "b.dcm")
    with pytest.raises(ImagingError, match="does not lie on the CT's grid: a frame has"):
        read_labels(tmp_path / "b.dcm", GEOMETRY)
    # A CT that was no DICOM names no frame: then the grid alone decides.
    plain = VolumeGeometry(SHAPE, SPACING, ORIGIN, OBLIQUE)
    assert read_labels(tmp_path / "a.dcm", plain).frame == "LPS"


def test_a_part_of_the_ct_is_enough(tmp_path: Path) -> None:
    labels = labels_on(GEOMETRY, IDS)
    low, high = np.array([2, 3, 2]), np.array([16, 11, 11])
    part = {n: m[2:16, 3:11, 2:11] for n, m in masks_of(labels).items()}
    assert sum(m.sum() for m in part.values()) == np.count_nonzero(labels.data)
    foreign(GEOMETRY.cropped(low, high), ALL_48[29], part).save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.dcm", GEOMETRY).data, labels.data)


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    labels = labels_on(GEOMETRY, IDS)

    def broken(change: Any) -> Path:
        seg = foreign(GEOMETRY, np.eye(3), masks_of(labels))
        change(seg)
        seg.save_as(tmp_path / "a.dcm")
        return tmp_path / "a.dcm"

    def odd_length(path: Path) -> Path:
        """A segment number of three bytes, which pydicom finds only when it is asked for."""
        seg = pydicom.dcmread(path)
        seg["SegmentSequence"].is_undefined_length = True
        for item in seg.SegmentSequence:
            item.is_undefined_length_sequence_item = True
        seg.save_as(path)
        number = b"\x62\x00\x04\x00US"
        data = path.read_bytes()
        assert data.count(number) >= 1
        at = data.index(number) + len(number)
        path.write_bytes(data[:at] + b"\x03\x00\x01\x00\x00" + data[at + 4 :])
        return path

    def no_place(seg: Any) -> None:
        for group in seg.PerFrameFunctionalGroupsSequence:
            del group.PlanePositionSequence

    def cut(seg: Any) -> None:
        seg.PixelData = seg.PixelData[:-100]

    def lost_groups(seg: Any) -> None:
        del seg.PerFrameFunctionalGroupsSequence[-1]

    def no_number(seg: Any) -> None:
        del seg.SegmentSequence[0].SegmentNumber

    def moved_frame(seg: Any) -> None:
        """A damaged position that lands on the next plane."""
        first, second = seg.PerFrameFunctionalGroupsSequence[:2]
        first.PlanePositionSequence = second.PlanePositionSequence

    def none(seg: Any) -> None:
        seg.SegmentSequence = pydicom.Sequence([])

    for change, words in [
        (no_place, "frame 1 lies"),
        (cut, "cut short"),
        (none, "without segments"),
        (lost_groups, "describes 9 frames and holds 10"),
        (no_number, "damaged header"),
        (moved_frame, "one segment twice at the place of frame 2"),
    ]:
        with pytest.raises(FormatError, match=words):
            read_labels(broken(change), GEOMETRY)
    with pytest.raises(FormatError, match="damaged header"):
        read_labels(odd_length(broken(lambda seg: None)), GEOMETRY)
    ct_of(tmp_path / "ct", np.eye(3))
    with pytest.raises(FormatError, match=r"no segmentation \(modality CT\)"):
        read_dicom_seg(tmp_path / "ct" / "s000.dcm")
    foreign(GEOMETRY, np.eye(3), {"liver": labels.data > 0}).save_as(tmp_path / "l.dcm")
    with pytest.raises(ImagingError, match="labels none of the structures"):
        read_labels(tmp_path / "l.dcm", GEOMETRY)
    with pytest.raises(ImagingError, match="no segment 'tumour'; there are \\['liver'\\]"):
        read_mask(tmp_path / "l.dcm", GEOMETRY, "tumour")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_bytes_changed_anywhere_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    """No damage ends in anything but labels on the CT's grid or one of our own sentences."""
    labels = labels_on(GEOMETRY, IDS)
    foreign(GEOMETRY, ALL_48[7], masks_of(labels), kind).save_as(tmp_path / "a.dcm")
    whole = (tmp_path / "a.dcm").read_bytes()
    rng = np.random.default_rng(1)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(80):
        data = bytearray(whole)
        for at in rng.integers(132, len(whole), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        if rng.random() < 0.3:
            at = rng.integers(132, len(data))
            del data[at : at + rng.integers(1, 30)]
        (tmp_path / "b.dcm").write_bytes(data)
        try:
            assert read_labels(tmp_path / "b.dcm", GEOMETRY).data.shape == SHAPE
            outcomes["read"] += 1
        except (FormatError, ImagingError):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5


def test_a_folder_may_hold_the_one_file(tmp_path: Path) -> None:
    labels = labels_on(GEOMETRY, IDS)
    (tmp_path / "out").mkdir()
    foreign(GEOMETRY, np.eye(3), masks_of(labels)).save_as(tmp_path / "out" / "1.dcm")
    np.testing.assert_array_equal(read_labels(tmp_path / "out", GEOMETRY).data, labels.data)
    assert read_mask(tmp_path / "out", GEOMETRY, "sacrum").any()
    foreign(GEOMETRY, np.eye(3), masks_of(labels)).save_as(tmp_path / "out" / "2.dcm")
    with pytest.raises(FormatError, match=r"2 DICOM segmentations; name one: 1\.dcm, 2\.dcm"):
        read_labels(tmp_path / "out", GEOMETRY)


def test_a_ct_that_was_no_dicom_gets_a_series_to_refer_to(tmp_path: Path) -> None:
    g = VolumeGeometry(SHAPE, SPACING, ORIGIN, OBLIQUE)
    volume = Volume(g, np.random.default_rng(1).integers(-900, 900, SHAPE).astype(np.int16))
    source = write_ct_series(volume, tmp_path / "ct", case_id="P-01")
    write_dicom_seg(labels_on(g, IDS), tmp_path / "a.dcm", source=source, case_id="P-01")
    ct = read_ct(tmp_path / "ct")
    back = read_labels(tmp_path / "a.dcm", ct.volume.geometry)
    np.testing.assert_array_equal(back.data, labels_on(g, IDS).data)


@pytest.mark.shared
def test_a_real_segmentation_lies_where_highdicom_sees_it(shared: Path) -> None:
    file = shared / "data" / "dicom_awkward" / "pydicom" / "liver.dcm"
    seg = hd.seg.segread(file)
    volume = seg.get_volume(combine_segments=True)
    order = [2, 1, 0]  # highdicom counts slices first, then rows, then columns
    spacing = np.array(volume.spacing)[order]
    geometry = VolumeGeometry(
        tuple(np.array(volume.shape)[order].tolist()), spacing, volume.affine[:3, 3],
        volume.affine[:3, order] / spacing, str(seg.FrameOfReferenceUID),
    )  # fmt: skip
    mask = read_mask(file, geometry, "Liver")
    assert mask.sum() > 10_000
    np.testing.assert_array_equal(mask, volume.array.transpose(order) > 0)
    with pytest.raises(ImagingError, match="labels none of the structures"):
        read_labels(file, geometry)


@pytest.mark.shared
def test_a_real_label_map_keeps_every_voxel(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "real_ct_3mm"
    ct = read_ct(folder / "ct.nii.gz")
    labels = read_label_file(folder / "bones.nii.gz", ct.volume.geometry).labels
    source = write_ct_series(ct.volume, tmp_path / "ct", case_id="real")
    write_dicom_seg(labels, tmp_path / "a.dcm", source=source, case_id="real")
    derived = read_ct(tmp_path / "ct").volume.geometry
    np.testing.assert_array_equal(read_labels(tmp_path / "a.dcm", derived).data, labels.data)
    truth = centroids(labels)
    for name, centre in by_highdicom(tmp_path / "a.dcm").items():
        np.testing.assert_allclose(centre, truth[name], atol=0.01)
    assert not faults(pydicom.dcmread(tmp_path / "a.dcm"))
