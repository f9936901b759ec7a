"""The MRI in a case: from --mri to the tumour on the CT, used aloud or not at all."""

import dataclasses

import numpy as np
import pytest
from mri_maker import make_mri, random_pose

from sacroplan.case import runner, store
from sacroplan.case.config import parse_config
from sacroplan.case.create import create_case
from sacroplan.case.stage import Context, StageOutput, stage_folder
from sacroplan.case.steps import bones, calibration, fusion, intake
from sacroplan.case.steps.fusion import CHECK, PICTURE, MriFusion, mri_tumour
from sacroplan.case.steps.tumour import find_tumour
from sacroplan.errors import CaseError, PlanError
from sacroplan.formats.labels import read_labels, read_mask, write_labels_nifti, write_volume_nifti
from sacroplan.formats.transforms import write_rigid
from sacroplan.geometry.volume import LabelMap
from sacroplan.imaging.phantom.build import build
from sacroplan.imaging.phantom.parameters import PhantomParameters


def labels_only(context):
    """The bones stage without its surfaces, which no fusion needs."""
    grid = context.result("intake").volume.geometry
    labels = read_labels(context.input_path(context.config.input.labels), grid)
    return StageOutput(bones.BoneModel(labels, {}, "label file"))


STAGES = (
    intake.STAGE,
    dataclasses.replace(bones.STAGE, run=labels_only),
    calibration.STAGE,
    fusion.STAGE,
    fusion.CHECK,
)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A case with an MRI and a tumour drawn on it, run up to the check of the fusion."""
    base = tmp_path_factory.mktemp("mri")
    patient = build(PhantomParameters(), spacing_mm=(3.0, 3.0, 3.0))
    pose = random_pose(21, patient.landmarks["S1EP"], 12.0, 20.0)
    mri = make_mri(patient, pose, "T2")
    grid = mri.geometry
    points = pose.inverse().points(grid.to_world(np.indices(grid.shape).reshape(3, -1).T))
    at = np.rint(patient.volume.geometry.to_index(points)).astype(int)
    top = np.array(patient.volume.geometry.shape) - 1
    inside = np.all((at >= 0) & (at <= top), axis=1)
    drawn = patient.labels.mask("tumour")[tuple(np.clip(at, 0, top).T)] & inside
    bones = np.where(patient.labels.mask("tumour"), 1, patient.labels.data).astype(np.uint8)
    names = {i: n for i, n in patient.labels.names.items() if n != "tumour"}
    write_volume_nifti(patient.volume, base / "ct.nii.gz")
    write_labels_nifti(LabelMap(patient.volume.geometry, bones, names), base / "bones.nii.gz")
    write_volume_nifti(mri, base / "mri.nii.gz")
    mask = drawn.reshape(grid.shape).astype(np.uint8)
    write_labels_nifti(LabelMap(grid, mask, {1: "tumour"}), base / "tumour.nii.gz")
    write_rigid(pose, base / "own.tfm")
    folder = base / "case"
    create_case(
        folder, base / "ct.nii.gz", base / "bones.nii.gz", None, "mri",
        mri=base / "mri.nii.gz", tumour_mri=base / "tumour.nii.gz",
    )  # fmt: skip
    report = runner.run(folder, STAGES)
    return folder, patient, pose, report


def context_of(folder, accepted, fusion=None):
    text = (folder / "case.toml").read_text("utf-8")
    config = parse_config(
        text.replace("# accepted = true", f"accepted = {str(accepted).lower()}"), "t"
    )

    def load(name):
        if name == "fusion" and fusion is not None:
            return fusion
        return store.load(stage_folder(folder, name))

    return Context(folder, config, load)


def test_the_tumour_reaches_the_ct_and_says_how_far_to_trust_it(planned):
    folder, patient, _, report = planned
    metrics = report.metrics
    assert metrics["imaging.fusion.passed"]["value"] is True
    assert metrics["imaging.fusion.accepted"]["value"] is False
    drawn = metrics["imaging.fusion.tumour_mri_cm3"]["value"]
    assert metrics["imaging.fusion.tumour_ct_cm3"]["value"] == pytest.approx(drawn, rel=0.02)
    assert (folder / PICTURE).read_bytes().startswith(b"\x89PNG")
    (loud,) = [d for d in report.doubts if d["code"] == "imaging.fusion_not_accepted"]
    assert "NOT ACCEPTED" in loud["message"]
    assert PICTURE in loud["message"]
    mask, source, error_mm = mri_tumour(context_of(folder, False))
    g = patient.volume.geometry
    truth = g.to_world(np.argwhere(patient.labels.mask("tumour")).mean(axis=0))
    np.testing.assert_allclose(g.to_world(np.argwhere(mask).mean(axis=0)), truth, atol=0.6)
    assert "predicted error" in source
    on_ct = read_mask(folder / "dossier/mri/tumour_on_ct.seg.nrrd", g)
    np.testing.assert_array_equal(on_ct, mask)
    tumour = find_tumour(context_of(folder, False))
    assert "tumour.nii.gz drawn on the MRI" in tumour.source
    assert tumour.error_mm == error_mm > 0.0
    told = metrics["imaging.fusion.predicted_error_mm"]["value"]
    assert error_mm == pytest.approx(told, abs=1e-6)


def test_calibration_is_in_the_run(planned):
    metrics = planned[3].metrics
    assert metrics["imaging.calibration.method"]["value"] == "air-fat-muscle"
    assert metrics["imaging.calibration.slope"]["within"] is True
    assert metrics["imaging.calibration.reference.muscle_hu"]["value"] == pytest.approx(53, abs=4)


def test_accepting_takes_the_doubt_away_and_reruns_no_fusion(planned):
    folder = planned[0]
    path = folder / "case.toml"
    text = path.read_text("utf-8")
    path.write_text(text.replace("# accepted = true", "accepted = true"), "utf-8")
    try:
        report = runner.run(folder, STAGES)
    finally:
        path.write_text(text, "utf-8")
    states = {r.name: s for r, s in zip(report.records, report.states, strict=True)}
    assert states["fusion"] == "skipped"
    assert states["mri_check"] == "done"
    assert report.metrics["imaging.fusion.accepted"]["value"] is True
    assert "imaging.fusion_not_accepted" not in [d["code"] for d in report.doubts]


def test_a_failed_fusion_stops_the_plan_until_a_person_accepts_it(planned):
    folder = planned[0]
    found: MriFusion = store.load(stage_folder(folder, "fusion"))
    failed = dataclasses.replace(
        found, fusion=dataclasses.replace(found.fusion, concerns=("parts disagree by 9.0 mm",))
    )
    with pytest.raises(PlanError, match=r"parts disagree by 9.0 mm.*fusion.png.*accepted = true"):
        find_tumour(context_of(folder, False, failed))
    assert find_tumour(context_of(folder, True, failed)) is not None
    assert not CHECK.run(context_of(folder, True, failed)).doubts


def test_the_stage_takes_the_users_transform(planned):
    folder, _, pose, _ = planned
    from sacroplan.case.steps.fusion import STAGE

    text = (folder / "case.toml").read_text("utf-8")
    own = text.replace("# accepted = true", 'transform = "../own.tfm" # ')
    context = Context(
        folder, parse_config(own, "t"), lambda name: store.load(stage_folder(folder, name))
    )
    output = STAGE.run(context)
    assert output.metrics["imaging.fusion.source"].value == "own transform"
    np.testing.assert_allclose(output.result.fusion.ct_to_mri.rotation, pose.rotation, atol=1e-9)
    assert folder / "../own.tfm" in STAGE.inputs(context)


def test_the_tumour_is_given_once_and_with_its_mri(planned, tmp_path):
    folder = planned[0]
    base = folder.parent
    with pytest.raises(CaseError, match="needs that MRI"):
        create_case(
            tmp_path / "a", base / "ct.nii.gz", None, None, tumour_mri=base / "tumour.nii.gz"
        )
    text = (folder / "case.toml").read_text("utf-8")
    twice = text.replace("\n[resection]", '\nmask = "t.nii"\n[resection]')
    context = Context(
        folder, parse_config(twice, "t"), lambda n: store.load(stage_folder(folder, n))
    )
    with pytest.raises(CaseError, match="twice, as mask and mri_mask"):
        find_tumour(context)
