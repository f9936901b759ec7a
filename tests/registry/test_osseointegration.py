"""Contact and gap on simulated follow-up CTs whose truth is known."""

import json

import numpy as np
import pytest
from ingrowth_maker import BONE, HALF, LAYER, POROUS, TISSUE, follow_up, implant
from scipy.spatial.transform import Rotation

from sacroplan.errors import ImagingError
from sacroplan.geometry.frames import Rigid
from sacroplan.geometry.volume import Volume
from sacroplan.registry import assess, records
from sacroplan.registry.database import create
from sacroplan.registry.errors import RegistryError
from sacroplan.registry.osseointegration import fit_profiles, measure

POSE = Rigid(Rotation.from_rotvec([0.12, -0.2, 0.15]).as_matrix(), np.array([31.0, -22.0, 140.0]))


@pytest.fixture(scope="module")
def first():
    """0 % and 60 % contact, 1 mm gap, the patient turned by 16 degrees and moved by 145 mm."""
    core, layers = implant()
    return measure(follow_up((0.0, 0.6), 1.0, POSE), core, layers)


@pytest.fixture(scope="module")
def second():
    """30 % and 90 % contact, 1.2 mm gap, as planned."""
    core, layers = implant()
    return measure(follow_up((0.3, 0.9), 1.2, seed=5), core, layers)


def test_the_implant_is_found_where_it_lies(first):
    corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T * HALF
    off = first.plan_to_ct.points(corners) - POSE.points(corners)
    assert np.linalg.norm(off, axis=1).max() < 0.5
    assert first.registration_mm < 0.3


def test_contact_within_8_points_and_gap_within_0_15_mm(first, second):
    for found, truth, gap in ((first, (0, 60), 1.0), (second, (30, 90), 1.2)):
        for one, share in zip(found.interfaces, truth, strict=True):
            assert one.contact_percent == pytest.approx(share, abs=8.0), one.name
            # The rim of a patch of contact is seen as a narrower gap: the mean is of all rims too.
            if share <= 60:
                assert one.gap_mm == pytest.approx(gap, abs=0.15), one.name
            assert one.no_bone_percent < 1.0
            assert one.area_mm2 == pytest.approx(4 * HALF[0] * HALF[1], rel=1e-6)


def test_grades_and_the_paper_s_criterion(first, second):
    grades = [i.grade for i in (*first.interfaces, *second.interfaces)]
    assert grades[:3] == [0, 2, 1]
    assert grades[3] in (2, 3)
    assert not first.interfaces[0].continuous
    assert first.cautions == ()


def test_gaps_lie_where_they_were_painted(second):
    from ingrowth_maker import patches

    one = second.interfaces[0]
    touch = patches(one.points[:, :2], 0.3, 0)
    assert np.nanmedian(one.gaps[touch]) < 0.35
    assert np.nanmedian(one.gaps[~touch]) == pytest.approx(1.2, abs=0.15)


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.0, 1.5])
def test_a_blurred_profile_gives_back_its_gap(gap):
    from scipy.special import ndtr

    s = np.arange(-0.8, 4.05, 0.1)
    far = ndtr((s - gap) / 0.5)
    profile = POROUS * ndtr(-s / 0.5) + BONE * far + TISSUE * (ndtr(s / 0.5) - far)
    found, bone, misfit, edge = fit_profiles(profile[None], s, 0.5)
    assert found[0] == pytest.approx(gap, abs=1e-6)
    assert bone[0] == pytest.approx(BONE)
    assert (misfit[0], edge[0]) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_no_bone_at_all_is_no_contact_and_no_gap():
    core, layers = implant()
    ct = follow_up((0.0, 0.0), 30.0)
    found = measure(ct, core, layers)
    for one in found.interfaces:
        assert (one.contact_percent, one.grade, one.gap_mm) == (0.0, 0, None)
        assert one.no_bone_percent == 100.0


def test_dark_streaks_are_a_caution(second):
    core, layers = implant()
    ct = follow_up((0.9, 0.9), 1.0)
    hu = ct.data.astype(np.int32)
    where = ct.geometry.to_world(np.argwhere(np.ones(hu.shape, bool))).reshape(*hu.shape, 3)
    streak = (where[..., 2] > HALF[2] + LAYER) & (np.abs(where[..., 0]) < 4)
    hu[streak] -= 900
    found = measure(Volume(ct.geometry, hu.astype(np.int16)), core, layers)
    assert any("wing_left" in c and "metal artefacts" in c for c in found.cautions)
    assert second.cautions == ()


def test_a_ct_without_metal_or_of_something_else_is_refused():
    core, layers = implant()
    ct = follow_up((0.3, 0.3), 1.0)
    with pytest.raises(ImagingError, match="no metal"):
        measure(Volume(ct.geometry, np.minimum(ct.data, 900)), core, layers)
    with pytest.raises(ImagingError, match="no porous layer"):
        measure(ct, core, {})


def test_the_command_reads_files_draws_and_stores(first, tmp_path):
    from sacroplan.formats.labels import write_volume_nifti
    from sacroplan.formats.stl import write_stl

    core, layers = implant()
    write_stl(core, tmp_path / "core.stl", "core")
    told = []
    for name, layer in layers.items():
        write_stl(layer, tmp_path / f"{name}.stl", name)
        told.append(f"{name}={tmp_path / name}.stl")
    ct = follow_up((0.0, 0.6), 1.0, POSE)
    write_volume_nifti(ct, tmp_path / "ct.nii.gz")
    found = assess.assess(tmp_path / "ct.nii.gz", None, tmp_path / "core.stl", told)
    for a, b in zip(found.interfaces, first.interfaces, strict=True):
        assert a.contact_percent == pytest.approx(b.contact_percent, abs=1.0)
    assess.write(found, tmp_path / "out")
    table = json.loads((tmp_path / "out" / "assessment.json").read_text())
    assert "Not a medical device" in table["banner"]
    assert (tmp_path / "out" / "wing_left.png").read_bytes()[:4] == b"\x89PNG"
    registry = create(str(tmp_path / "r.sqlite"), "tester")
    records.add(registry, "patient", "QL-00001", {})
    records.add(
        registry, "operation", "QL-00001", {"operated_on": "2020-01-01", "resection": "total"}
    )
    with pytest.raises(RegistryError, match="--on"):
        assess.store(registry, "QL-00001", "", found)
    assess.store(registry, "QL-00001", "2020-07-01", found)
    rows = records.show(registry, "QL-00001")["finding"]
    assert [(r["interface"], r["reader"], r["grade"]) for r in rows] == [
        ("wing_left", "assess-ct", 0), ("wing_right", "assess-ct", 2),
    ]  # fmt: skip
    with pytest.raises(RegistryError, match="refuses"):
        assess.store(registry, "QL-00001", "2020-07-01", found)
    with pytest.raises(RegistryError, match="--case, or the implant"):
        assess.assess(tmp_path / "ct.nii.gz", None, None, [])
