"""Small scenes and dossiers with known answers."""

from __future__ import annotations

import numpy as np

from sacroplan.errors import Doubt
from sacroplan.geometry.frames import Axis, AxisFrame, FloatArray, Rigid
from sacroplan.geometry.primitives import box, cylinder, sphere
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.metrics import Metric
from sacroplan.report.model import (
    Dossier,
    InputFile,
    Overlay,
    ScenePart,
    Section,
    StageRow,
    Table,
    View,
)
from sacroplan.report.slices import along_axis, standard

LPS = AxisFrame("pelvis", np.zeros(3), np.eye(3))

TURN = Rigid(
    np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]).T,
    np.array([40.0, -25.0, 310.0]),
)
"""A proper rotation far from any axis, and a shift."""


def ct(rigid: Rigid | None = None) -> Volume:
    """60 mm cube of 1 mm voxels, HU rising to the left, posterior and superior, no symmetry."""
    i, j, k = np.meshgrid(*(np.arange(61.0),) * 3, indexing="ij")
    data = (3.0 * i + 5.0 * j + 11.0 * k - 100.0).astype(np.float32)
    geometry = VolumeGeometry((61, 61, 61), np.ones(3), np.full(3, -30.0))
    return Volume(geometry.transformed(rigid) if rigid else geometry, data)


def block(low: FloatArray | list[float], high: FloatArray | list[float]) -> Surface:
    return box(LPS, low, high)


def dossier(note: str = "") -> Dossier:
    """A ball for a sacrum, a box on its left, a screw; one figure of every verdict."""
    ball = sphere([0.0, 0.0, 0.0], 12.0)
    screw_axis = Axis(np.array([4.0, 14.0, 2.0]), np.array([0.2, -1.0, 0.1]))
    screw = cylinder(screw_axis.point, screw_axis.at(20.0), 2.5)
    volume = ct()
    overlays = (
        Overlay("sacrum", "#00ffff", surface=ball),
        Overlay("screw", "#ffb000", surface=screw, fill=0.4),
    )
    cover = Doubt("fixation", "fixation.cover", f"The screw leaves the bone. {note}", ("GDE-05",))
    figures = {
        "a.met": Metric(14.2371, "mm", "A met figure", ("GDE-05",), lower=10.0),
        "a.doubtful": Metric(3.1, "mm", "A doubtful figure", ("GDE-05",), lower=4.0),
        "a.unknown": Metric(None, "N", "An unknown figure", (), upper=4.0),
        "a.plain": Metric(True, "1", f"A plain figure {note}"),
    }
    return Dossier(
        "case-7",
        f"A dossier {note}",
        ("First paragraph.", f"Second {note} paragraph."),
        (
            Section("Cuts", "cuts", ("Words.",), figures,
                    tables=(Table("Cuts", ("Cut", "Kerf"), (("left", f"1.25 mm {note}"),)),),
                    views=(View("cuts_back", "From behind", "back", ("bones",), (("ball", 0.4),)),)),
            Section("Screws", "screws", doubts=(cover,),
                    slices=along_axis(volume, screw_axis, 20.0, "Screw left", overlays)),
        ),
        (
            ScenePart("ball", "Sacrum", "bones", ball, "#e6d9bd", note=note,
                      figures={"v": Metric(7.24, "cm3", "Volume", ("CT-01",))}),
            ScenePart("left_box", "Left box", "bones", block([15, -5, -5], [25, 5, 5]), "#d04040"),
            ScenePart("screw", "Screw left", "screws", screw, "#8f9aa6", finish="metal"),
            ScenePart("hidden", "Hidden box", "implant", block([-25, -5, -5], [-15, 5, 5]),
                      "#4040d0", visible=False),
        ),
        LPS,
        volume,
        standard(volume, [0.0, 0.0, 0.0], 25.0, "Middle", overlays),
        (Doubt("imaging", "imaging.thick", f"Slices are thick. {note}", ("CT-01",)), cover),
        (StageRow("bones", "automatic", "ab" * 32, ("ct",), note),),
        (InputFile("input/ct.nii.gz", "cd" * 32, "CT"),),
        (("numpy", np.__version__),),
    )  # fmt: skip
