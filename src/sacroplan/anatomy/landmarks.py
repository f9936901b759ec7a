"""Landmarks and anatomical frames from closed bone surfaces (HANDBOOK 1.1 and 1.2).

The search runs in the image's own axes (anterior, cranial, right), then in the pose of the pelvis
itself, so that a case moved as a whole gives the same landmarks, and a patient who lies crooked
in the scanner nearly the same. A landmark whose bone is not in the image is absent, with a doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from sacroplan.anatomy import landmarks_plausible as plausible
from sacroplan.anatomy.landmarks_joint import JointExtent
from sacroplan.anatomy.landmarks_levels import LevelEvidence
from sacroplan.anatomy.landmarks_search import HIP_POINTS, LUMBAR, PEDICLES, SIDES, Search
from sacroplan.errors import AnatomyError, Doubt
from sacroplan.geometry.frames import AxisFrame, FloatArray
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent

_PAIRED = (
    *HIP_POINTS, "HJC", "SIJ", "SIJ_CRANIAL", "SIJ_CAUDAL",
    *(f"S{n}{kind}F" for n in (1, 2, 3, 4) for kind in "AP"), *(f"{v}PED" for v in PEDICLES),
)  # fmt: skip

_PLATES = ("S1EP", *(f"{v}{end}" for v in LUMBAR for end in ("SEP", "IEP")))

NAMES: tuple[str, ...] = (
    "PS",
    *(f"{n}_{side}" for n in _PAIRED for side in "LR"),
    *(f"{n}{edge}" for n in _PLATES for edge in ("", "_ANT", "_POST", "_L", "_R")),
)
"""Every landmark there is."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What is known of the patient's landmarks, LPS mm.

    Attributes
    ----------
    points : name to (3,): ``ASIS_L``, ``AIIS_L``, ``PSIS_L``, ``PIIS_L``, ``GSN_L``, ``ISP_L``,
        ``PT_L``, ``HJC_L``, ``SIJ_L``, ``SIJ_CRANIAL_L``, ``SIJ_CAUDAL_L``, ``S1AF_L`` ... ``S4PF_L``
        (foramina, A ventral, P dorsal), ``L5PED_L`` ... ``L3PED_L`` (pedicle isthmus), and ``_R``;
        ``PS``, ``S1EP``, ``L5IEP``, ``L5SEP`` ... ``L1SEP`` (endplate centres) and these with ``_ANT``
        (``S1EP_ANT`` is the promontory), ``_POST``, ``_L`` or ``_R`` (edges).
    frames : ``pelvis`` (FRM-1), ``APP`` (FRM-2), ``S1EP`` (FRM-3), ``L5IEP`` (FRM-4), ``L5SEP`` ...
    how : name of a point to ``automatic`` or ``user``.
    joints : ``left`` and ``right`` sacroiliac joint, where sacrum and hip bone meet.
    hip_radius_mm : ``left`` and ``right`` radius of the fitted femoral head or socket.
    table_up : (3,) cranial along the table (the grid's k axis), the "vertical" of a supine CT.
    doubts : what is missing or uncertain, and why.
    uncertainty_mm : name of an automatic point to its uncertainty, see :mod:`landmarks_repeats`.
    dimensions : measures between landmarks by name, see :mod:`landmarks_plausible`.
    levels : what the names of the vertebrae rest on [DIM-19].
    """

    points: Mapping[str, FloatArray]
    frames: Mapping[str, AxisFrame]
    how: Mapping[str, str]
    joints: Mapping[str, JointExtent] = field(default_factory=dict)
    hip_radius_mm: Mapping[str, float] = field(default_factory=dict)
    table_up: FloatArray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))
    doubts: tuple[Doubt, ...] = ()
    uncertainty_mm: Mapping[str, float] = field(default_factory=dict)
    dimensions: Mapping[str, float] = field(default_factory=dict)
    levels: LevelEvidence | None = None

    def point(self, name: str) -> FloatArray:
        """Point ``name`` (3,); raises :class:`AnatomyError` that says what to do when absent."""
        try:
            return self.points[name]
        except KeyError:
            raise AnatomyError(
                f"Landmark {name} was not found; known are {sorted(self.points)}. "
                "Set it by hand in the case file."
            ) from None

    def frame(self, name: str) -> AxisFrame:
        """Frame ``name``; raises :class:`AnatomyError` that says what to do when absent."""
        try:
            return self.frames[name]
        except KeyError:
            raise AnatomyError(
                f"Frame {name} could not be built; known are {sorted(self.frames)}. "
                "Set its landmarks by hand in the case file."
            ) from None

    def metrics(self) -> Metrics:
        """Distances between landmarks against HANDBOOK 1.4, and how sure the landmarks are."""
        out = plausible.metrics(self.dimensions)
        p = self.points
        for name, letter, _ in SIDES:
            if f"PSIS_{letter}" in p and f"AIIS_{letter}" in p:
                d = float(np.linalg.norm(p[f"PSIS_{letter}"] - p[f"AIIS_{letter}"]))
                out[f"anatomy.psis_aiis_{name}_mm"] = Metric(
                    d, "mm", f"PSIS to AIIS, {name}", ("IL-01",)
                )
        out["anatomy.landmarks.count"] = Metric(len(p), "count", "Landmarks found")
        if self.uncertainty_mm:
            off = np.array(list(self.uncertainty_mm.values()))
            worst = max(self.uncertainty_mm, key=lambda n: self.uncertainty_mm[n])
            out["anatomy.landmarks.uncertainty_median_mm"] = Metric(
                float(np.median(off)),
                "mm",
                "Uncertainty of a landmark, median",
                ("SP-LMK-08", "SP-LMK-12"),
            )
            out["anatomy.landmarks.uncertainty_worst_mm"] = Metric(
                float(off.max()), "mm", f"Uncertainty of the least sure landmark, {worst}",
                ("SP-LMK-08", "SP-LMK-12"),
            )  # fmt: skip
        return out


def check_names(points: Iterable[str]) -> None:
    """Raise :class:`AnatomyError` for the first name that is no landmark."""
    for name in sorted(points):
        if name not in NAMES:
            close = get_close_matches(name, NAMES, 3)
            raise AnatomyError(
                f"There is no landmark {name!r}; "
                + (f"{', '.join(close)} are near." if close else f"known are {', '.join(NAMES)}.")
            )


def find(
    bones: Mapping[str, Surface],
    image_axes: npt.ArrayLike,
    progress: Progress = silent,
    overrides: Mapping[str, npt.ArrayLike] | None = None,
    geometry: VolumeGeometry | None = None,
    levels_confirmed: bool = False,
) -> Landmarks:
    """Landmarks and frames of the bones in ``bones`` (closed surfaces by bone name, LPS mm).

    Parameters
    ----------
    image_axes : (3, 3) columns left, posterior, superior of the canonical grid.
    overrides : points (3,) the user has set; they replace the search's and shape the frames.
    geometry : the CT's grid, if known: points at its border are then recognised as cut off. Without
        it flat ends of the bones tell.
    levels_confirmed : a person has checked the count of the vertebrae; it is then no longer asked for.

    Raises :class:`AnatomyError` without any pelvic bone or with axes that are not at right angles.
    """
    axes = np.asarray(image_axes, dtype=np.float64).reshape(3, 3)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4) or np.linalg.det(axes) < 0:
        raise AnatomyError(
            "The image axes must be right-handed unit vectors left, posterior, superior; "
            "pass the direction matrix of the canonical volume."
        )
    known = [n for n in ("sacrum", "hip_left", "hip_right") if n in bones]
    if not known:
        raise AnatomyError(
            f"Landmarks need the sacrum or a hip bone; there are only {sorted(bones)}."
        )
    check_names(overrides or {})
    for name, surface in bones.items():
        surface.require_closed(name)
    search = Search(dict(bones), axes, geometry, dict(overrides or {}))
    progress(0.0, "Hip centres")
    search.hip_centres()
    progress(0.25, "Pelvic landmarks")
    search.pelvis()
    progress(0.5, "Endplates")
    search.endplates()
    progress(0.75, "Sacroiliac joints")
    search.joints()
    progress(0.85, "Foramina and pedicles")
    search.sacral_foramina()
    search.lumbar_pedicles()
    search.judge(levels_confirmed)
    progress(0.95, "Frames")
    out = _result(search)
    progress(1.0, "Landmarks done")
    return out


def _result(search: Search) -> Landmarks:
    frames = {
        n: AxisFrame(n, search.world(f.origin), search.axes @ f.axes, search.frame)
        for n, f in search.frames().items()
    }
    names = sorted(search.points)
    return Landmarks(
        {n: search.world(search.points[n]) for n in names},
        frames,
        {n: "user" if n in search.user else "automatic" for n in names},
        {side: search.joint_in_world(j) for side, j in search.extent.items()},
        {side: s.radius_mm for side, s in search.sphere.items()},
        search.axes[:, 1].copy(),
        tuple(search.doubts),
        {n: search.uncertainty[n] for n in names if n in search.uncertainty},
        search.dimensions(),
        search.levels,
    )
