"""[calibration] in case.toml: what each method needs, and what it may not have."""

import numpy as np
import pytest

from sacroplan.case.config import new_config, parse_config
from sacroplan.case.stage import Context
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.calibration import STAGE
from sacroplan.case.steps.intake import Intake
from sacroplan.errors import CaseError, ImagingError
from sacroplan.formats.ct import CtInfo
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry
from sacroplan.imaging.quality import QualityReport

GRID = VolumeGeometry((40, 40, 30), np.full(3, 3.0), np.zeros(3))


def run(table, kvp=120.0):
    rng = np.random.default_rng(1)
    hu = np.full(GRID.shape, 20.0)
    for n, level in enumerate((0.0, 60.0, 120.0)):
        hu[8 + 12 * n : 16 + 12 * n, 8:16] = level
    volume = Volume(GRID, np.rint(hu + rng.normal(size=hu.shape)).astype(np.int16))
    info = CtInfo("CT", "dicom", (3.0, 3.0, 3.0), kvp=kvp)
    labels = LabelMap(GRID, np.zeros(GRID.shape, dtype=np.uint8), {1: "sacrum"})
    results = {
        "intake": Intake(volume, info, QualityReport({}, (), (), ()), ()),
        "bones": BoneModel(labels, {}, "test"),
    }
    config = parse_config(new_config("c", "ct", None, None) + table, "case.toml")
    return STAGE.run(Context(None, config, results.__getitem__))


def rods(n=3):
    return "".join(
        "[[calibration.inserts]]\n"
        f"points_mm = [[{34.5 + 36 * k}, 34.5, 15], [{34.5 + 36 * k}, 34.5, 70]]\n"
        f"radius_mm = 12\ndensity_mg_cm3 = {50 * k}\n"
        for k in range(n)
    )


def test_nothing_said_means_an_assumed_line_aloud():
    output = run("")
    assert output.result.method == "assumed"
    assert [d.code for d in output.doubts] == ["mechanics.calibration_assumed"]


def test_tissue_asked_for_by_name_is_not_replaced():
    with pytest.raises(ImagingError, match="cannot be calibrated on air"):
        run('[calibration]\nmethod = "air-fat-muscle"\n')


def test_a_phantom_in_the_case():
    output = run('[calibration]\nmethod = "phantom"\nmaterial = "K2HPO4"\n' + rods())
    assert output.result.method == "phantom"
    assert output.result.slope == pytest.approx(50 / 60, rel=0.03)
    assert output.metrics["imaging.calibration.residual_mg_cm3"].value < 2.0


def test_a_fixed_line_in_the_case():
    text = '[calibration]\nmethod = "fixed"\nslope = 0.81\noffset_mg_cm3 = 4\nkvp = 120\n'
    output = run(text)
    assert (output.result.slope, output.result.offset) == (0.81, 4.0)
    assert [d.code for d in output.doubts] == ["mechanics.calibration_fixed"]
    assert "mechanics.calibration_kvp" in [d.code for d in run(text, kvp=80.0).doubts]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('method = "fixed"\nslope = 0.8\n', "needs kvp, offset_mg_cm3"),
        ('method = "phantom"\n', "needs inserts, material"),
        ("slope = 0.8\n", "slope does not belong to method 'none'"),
        ('method = "air-fat-muscle"\nkvp = 120\n', "kvp does not belong"),
    ],
)
def test_keys_of_another_method_are_named(table, words):
    with pytest.raises(CaseError, match=words):
        run("[calibration]\n" + table)


def test_a_wrong_method_is_named_with_its_line():
    text = new_config("c", "ct", None, None) + '[calibration]\nmethod = "magic"\n'
    with pytest.raises(CaseError, match=r"line \d+: calibration.method"):
        parse_config(text, "case.toml")
