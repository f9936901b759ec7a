"""Patients for the studies of resections and guides: eight synthetic, two Visible Humans."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from sacroplan.anatomy.bones import segment
from sacroplan.anatomy.landmarks import find
from sacroplan.anatomy.surfaces import bone_surface
from sacroplan.formats.ct import read_ct
from sacroplan.formats.stl import read_stl
from sacroplan.resection.site import Site
from sacroplan.resection.tumour import Ellipsoid, tumour_from_shapes

sys.path.insert(0, str(Path(__file__).parents[1] / "anatomy"))

PHANTOMS = tuple(f"patient {n}" for n in range(8))
MALE, FEMALE = "Visible Human Male", "Visible Human Female"
CASES = (*PHANTOMS, MALE, FEMALE)


def bones_of(name, shared):
    """Bones by name in LPS mm, the CT's geometry or None, and whether both sides are meant to be equal."""
    import landmark_cases

    names = ("L3", "L4", "L5", "sacrum", "hip_left", "hip_right")
    if name in PHANTOMS:
        patient = landmark_cases.patient(landmark_cases.PATIENTS[PHANTOMS.index(name)])
        return patient.bones, patient.geometry, patient.parameters.asymmetry == 0.0
    if name == MALE:
        folder = shared / "data" / "vhm_meshes"
        return {n: read_stl(folder / f"{n}.stl") for n in names}, None, True
    volume = read_ct(shared / "data" / "vhf_pelvis_ct_1mm").volume
    labels = segment(volume).labels
    bones = {n: replace(bone_surface(volume, labels, n), frame="LPS") for n in names[1:]}
    return bones, replace(volume.geometry, frame="LPS"), True


def site_of(name, shared):
    """Bones and landmarks of a case, with a tumour of 18 mm in the right half of S2."""
    bones, geometry, _ = bones_of(name, shared)
    found = find(bones, np.eye(3), geometry=geometry)
    bare = Site(bones, found.frames, found.points)
    centre = bare.middle(1.6) + 24.0 * bare.right
    tumour = tumour_from_shapes((Ellipsoid(centre, np.full(3, 9.0)),), bare.frame, "test")
    return Site(bones, found.frames, found.points, tumour)
