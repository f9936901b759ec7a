"""The synthetic patient: parameters in; CT, truth labels and truth landmarks out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import ImagingError
from sacroplan.geometry.frames import FloatArray
from sacroplan.geometry.volume import LabelMap, Volume, VolumeGeometry
from sacroplan.imaging.phantom import fields, landmarks, reference, tissue
from sacroplan.imaging.phantom.parameters import PhantomParameters
from sacroplan.imaging.phantom.pose import Pose, solve
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent

WIDTH_MM, DEPTH_MM = 384.0, 272.0
"""Extent of the image; wide enough for the skin of the largest patient."""

BELOW_MM, ABOVE_MM = 14.0, 10.0
"""Room under the ischial tuberosities, and above the L4 endplate (its facets)."""

MOST_SPACING_MM = 3.0
"""Coarser grids lose the sacroiliac gap and the pedicles."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic patient with its truth.

    Attributes
    ----------
    volume : CT, int16 HU, LPS.
    labels : truth on the same grid; ids 1-5, 9, 10 and 20 (tumour, which takes precedence over the
        sacrum and includes its soft part).
    landmarks : name to (3,) LPS mm.
    parameters : the choices it was made from.
    """

    volume: Volume
    labels: LabelMap
    landmarks: dict[str, FloatArray]
    parameters: PhantomParameters

    @property
    def pelvic_incidence_deg(self) -> float:
        """Pelvic incidence of the truth landmarks, in the mid-plane of the sacrum (SAG-PI)."""
        p = self.landmarks
        plate = p["S1EP_ANT"] - p["S1EP_POST"]
        axis = p["HJC_L"] - p["HJC_R"]
        # The plate's normal lies in the plane of the plate's sagittal line, square to it.
        across = axis - (axis @ plate) / (plate @ plate) * plate
        normal = np.cross(plate, across)
        normal /= np.linalg.norm(normal)
        to_hip = 0.5 * (p["HJC_L"] + p["HJC_R"]) - p["S1EP"]
        return float(np.degrees(np.arccos(abs(normal @ to_hip) / np.linalg.norm(to_hip))))

    def metrics(self) -> Metrics:
        """Figures of the synthetic patient."""
        p = self.landmarks

        def apart(a: str, b: str) -> float:
            return float(np.linalg.norm(p[a] - p[b]))

        return {
            "phantom.pelvic_incidence": Metric(
                self.pelvic_incidence_deg, "deg", "Pelvic incidence", ("SP-PHANTOM-01",)
            ),
            "phantom.hip_centres": Metric(apart("HJC_L", "HJC_R"), "mm", "Distance of hip centres"),
            "phantom.asis": Metric(apart("ASIS_L", "ASIS_R"), "mm", "Distance of the ASIS"),
            "phantom.tumour_volume": Metric(
                self.labels.volume_mm3("tumour") / 1000.0, "cm3", "Tumour with its soft part"
            ),
        }


def grid(pose: Pose, spacing_mm: npt.ArrayLike) -> VolumeGeometry:
    """The image grid of a patient in ``pose`` at ``spacing_mm`` (3,)."""
    s = np.array(spacing_mm, dtype=np.float64).reshape(3)
    if not np.all(np.isfinite(s)) or s.min() < 0.4 or s.max() > MOST_SPACING_MM:
        raise ImagingError(
            f"Phantom spacing {s.tolist()} mm; choose 0.4 to {MOST_SPACING_MM:g} mm per axis."
        )
    tuberosity = reference.array("hip", "IT")
    low = min(m.to_world(tuberosity)[2] for m in (pose.hip_left, pose.hip_right)) - BELOW_MM
    c = reference.array("L4", "corners")
    top = pose.l4.to_world(np.array([[0.0, c[0], c[1]], [0.0, c[2], c[3]]]))
    high = float(top[:, 2].max()) + ABOVE_MM
    front = tissue.skin_front_mm(pose) - 8.0
    n = np.array([WIDTH_MM, DEPTH_MM, high - low]) / s
    shape = np.ceil(n).astype(int)
    # Centred, so that the mirror image of the patient falls on the mirror image of the grid.
    origin = np.array([-0.5 * (shape[0] - 1) * s[0], front, low])
    return VolumeGeometry((int(shape[0]), int(shape[1]), int(shape[2])), s, origin)


def build(
    parameters: PhantomParameters,
    progress: Progress = silent,
    spacing_mm: tuple[float, float, float] | None = None,
) -> Phantom:
    """Build the synthetic patient.

    Parameters
    ----------
    parameters : the choices; the same choices give the same bytes.
    progress : told the fraction done.
    spacing_mm : voxel size along left, posterior, superior; SP-PHANTOM-06 without it.

    Raises
    ------
    ImagingError : when the spacing is outside 0.4 to 3 mm.
    """
    if spacing_mm is None:
        plane = evidence.value("SP-PHANTOM-06", "in_plane")
        spacing_mm = (plane, plane, evidence.value("SP-PHANTOM-06", "slice"))
    progress(0.0, "pose")
    pose = solve(parameters)
    geometry = grid(pose, spacing_mm)
    progress(0.05, "bones")
    bones = fields.bones(geometry, pose)
    progress(0.35, "landmarks")
    points = landmarks.find(geometry, bones, pose)
    progress(0.45, "tissue")
    hu, label = tissue.paint(geometry, bones, pose, parameters, progress)
    progress(1.0, "done")
    return Phantom(
        Volume(geometry, hu), LabelMap(geometry, label, dict(fields.NAMES)), points, parameters
    )
