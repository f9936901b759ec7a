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


def site_of(name, shared):
    """Bones and landmarks of a case, with a tumour of 18 mm in the right half of S2."""
    import landmark_cases

    geometry = None
    if name in PHANTOMS:
        patient = landmark_cases.patient(landmark_cases.PATIENTS[PHANTOMS.index(name)])
        bones, geometry = patient.bones, patient.geometry
    elif name == MALE:
        folder = shared / "data" / "vhm_meshes"
        names = ("L4", "L5", "sacrum", "hip_left", "hip_right")
        bones = {n: read_stl(folder / f"{n}.stl") for n in names}
    else:
        volume = read_ct(shared / "data" / "vhf_pelvis_ct_1mm").volume
        labels = segment(volume).labels
        bones = {
            n: replace(bone_surface(volume, labels, n), frame="LPS")
            for n in ("L4", "L5", "sacrum", "hip_left", "hip_right")
        }
        geometry = replace(volume.geometry, frame="LPS")
    found = find(bones, np.eye(3), geometry=geometry)
    bare = Site(bones, found.frames, found.points)
    centre = bare.middle(1.6) + 24.0 * bare.right
    tumour = tumour_from_shapes((Ellipsoid(centre, np.full(3, 9.0)),), bare.frame, "test")
    return Site(bones, found.frames, found.points, tumour)
