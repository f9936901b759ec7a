"""Landmarks and anatomical frames from closed bone surfaces (HANDBOOK 1.1 and 1.2).

The search runs in the image's own axes (anterior, cranial, right), then in the pose of the pelvis
itself, so that a case moved as a whole gives the same landmarks, and a patient who lies crooked
in the scanner nearly the same. A landmark whose bone is not in the image is absent, with a doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.anatomy import landmarks_endplates as spine
from sacroplan.anatomy import landmarks_hips as hips
from sacroplan.anatomy.frames import anterior_pelvic_plane_axes, endplate_frame, pelvis_frame
from sacroplan.anatomy.landmarks_joint import JointExtent, find_joint
from sacroplan.anatomy.landmarks_shapes import (
    Sphere,
    fit_sphere,
    flat_ends,
    mirror_plane,
    on_surface,
)
from sacroplan.errors import AnatomyError, Doubt, GeometryError
from sacroplan.geometry.frames import AxisFrame, FloatArray, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent

SIDES: tuple[tuple[str, str, float], ...] = (("left", "L", -1.0), ("right", "R", 1.0))
"""Bone suffix, landmark suffix, sign of the lateral direction along z (right)."""

LUMBAR = ("L5", "L4", "L3", "L2", "L1")

POSE_ROUNDS = 10
"""Passes of "find points, turn to the pose they define"; three are enough on all cases seen."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What is known of the patient's landmarks, LPS mm.

    Attributes
    ----------
    points : name to (3,): ``ASIS_L``, ``AIIS_L``, ``PSIS_L``, ``PIIS_L``, ``GSN_L``, ``ISP_L``,
        ``PT_L``, ``HJC_L``, ``SIJ_L`` (and ``_R``), ``PS``, ``S1EP``, ``L5IEP``, ``L5SEP`` ... ``L1SEP``
        (endplate centres) and these with ``_ANT`` (``S1EP_ANT`` is the promontory) or ``_POST``.
    frames : ``pelvis`` (FRM-1), ``S1EP`` (FRM-3), ``L5IEP`` (FRM-4), ``L5SEP``, ``L4IEP`` ...
    how : name of a point to ``automatic`` or ``user``.
    joints : ``left`` and ``right`` sacroiliac joint, where sacrum and hip bone meet.
    hip_radius_mm : ``left`` and ``right`` radius of the fitted femoral head or socket.
    table_up : (3,) cranial along the table (the grid's k axis), the "vertical" of a supine CT.
    doubts : what is missing or uncertain, and why.
    """

    points: Mapping[str, FloatArray]
    frames: Mapping[str, AxisFrame]
    how: Mapping[str, str]
    joints: Mapping[str, JointExtent] = field(default_factory=dict)
    hip_radius_mm: Mapping[str, float] = field(default_factory=dict)
    table_up: FloatArray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))
    doubts: tuple[Doubt, ...] = ()

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
        """Distances between landmarks against the plausible ranges of HANDBOOK 1.4."""
        out: Metrics = {}
        p = self.points

        def span(name: str, a: str, b: str, label: str, row: str) -> None:
            if a in p and b in p:
                q = evidence.quantity(row)
                d = float(np.linalg.norm(p[a] - p[b]))
                out[f"anatomy.{name}_mm"] = Metric(d, "mm", label, (row,), q.lower, q.upper)

        span("asis_distance", "ASIS_L", "ASIS_R", "Distance between the ASIS", "DIM-15")
        if "HJC_L" in p and "HJC_R" in p:
            low, high = evidence.span("DIM-15", "hip_centres")
            d = float(np.linalg.norm(p["HJC_L"] - p["HJC_R"]))
            out["anatomy.hip_centre_distance_mm"] = Metric(
                d, "mm", "Distance between the hip centres", ("DIM-15",), low, high
            )
        for name, letter, _ in SIDES:
            if f"PSIS_{letter}" in p and f"AIIS_{letter}" in p:
                d = float(np.linalg.norm(p[f"PSIS_{letter}"] - p[f"AIIS_{letter}"]))
                out[f"anatomy.psis_aiis_{name}_mm"] = Metric(
                    d, "mm", f"PSIS to AIIS, {name}", ("IL-01",)
                )
            if name in self.joints:
                low, high = evidence.span("DIM-16")
                out[f"anatomy.si_joint_area_{name}_cm2"] = Metric(
                    self.joints[name].area_mm2 / 100.0, "cm2", f"SI joint area, {name}",
                    ("DIM-16",), low, high,
                )  # fmt: skip
        if "S1EP_ANT" in p and "S1EP_POST" in p:
            low, high = evidence.span("DIM-14", "depth")
            d = float(np.linalg.norm(p["S1EP_ANT"] - p["S1EP_POST"]))
            out["anatomy.s1_endplate_depth_mm"] = Metric(
                d, "mm", "Depth of the S1 endplate", ("DIM-14",), low, high
            )
        return out


def find(
    bones: Mapping[str, Surface],
    image_axes: npt.ArrayLike,
    progress: Progress = silent,
    overrides: Mapping[str, npt.ArrayLike] | None = None,
    geometry: VolumeGeometry | None = None,
) -> Landmarks:
    """Landmarks and frames of the bones in ``bones`` (closed surfaces by bone name, LPS mm).

    Parameters
    ----------
    image_axes : (3, 3) columns left, posterior, superior of the canonical grid.
    overrides : points (3,) the user has set; they replace the search's and shape the frames.
    geometry : the CT's grid, if known: points at its border are then recognised as cut off. Without
        it flat ends of the bones tell.

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
    for name, surface in bones.items():
        surface.require_closed(name)
    search = _Search(dict(bones), axes, geometry, dict(overrides or {}))
    progress(0.0, "Hip centres")
    search.hip_centres()
    progress(0.3, "Pelvic landmarks")
    search.pelvis()
    progress(0.5, "Endplates")
    search.endplates()
    progress(0.8, "Sacroiliac joints")
    search.joints()
    progress(0.95, "Frames")
    out = search.result()
    progress(1.0, "Landmarks done")
    return out


class _Search:
    """The running state of :func:`find`: local axes x anterior, y cranial, z right (mm)."""

    def __init__(
        self,
        bones: dict[str, Surface],
        image_axes: FloatArray,
        geometry: VolumeGeometry | None,
        overrides: dict[str, npt.ArrayLike],
    ) -> None:
        self.frame = same_frame(*bones.values())
        self.axes = np.stack([-image_axes[:, 1], image_axes[:, 2], -image_axes[:, 0]], axis=1)
        # Re-orthogonalise: headers carry six digits, frames ask for nine.
        u, _, vt = np.linalg.svd(self.axes)
        self.axes = u @ vt
        anchor = bones["sacrum"] if "sacrum" in bones else bones[sorted(bones)[0]]
        self.origin = anchor.vertices.mean(axis=0)
        self.geometry = geometry
        self.bones = {
            n: Surface((s.vertices - self.origin) @ self.axes, s.faces, self.frame)
            for n, s in bones.items()
        }
        self.doubts: list[Doubt] = []
        self.user = {
            n: (np.asarray(p, dtype=np.float64).reshape(3) - self.origin) @ self.axes
            for n, p in overrides.items()
        }
        self.points: dict[str, FloatArray] = dict(self.user)
        self.plates: dict[str, spine.Endplate] = {}
        self.sphere: dict[str, Sphere] = {}
        self.extent: dict[str, JointExtent] = {}
        self.pose = np.eye(3)
        """Columns: anterior, cranial, right of the pelvis itself, in local axes."""
        self._ends: dict[str, list[tuple[int, int, float]]] = {}

    # -- small helpers ---------------------------------------------------------------------------

    def doubt(self, code: str, message: str, *rows: str) -> None:
        self.doubts.append(Doubt("anatomy", f"anatomy.{code}", message, rows))

    def set(self, name: str, point: FloatArray | None) -> None:
        """Keep an automatic point unless the user has set it."""
        if point is not None and name not in self.user:
            self.points[name] = point

    def world(self, point: FloatArray) -> FloatArray:
        return np.asarray(point @ self.axes.T + self.origin)

    def cut_off(self, bone: str, point: FloatArray, margin_mm: float) -> bool:
        """Whether ``point`` lies within ``margin_mm`` of the end of the image."""
        if self.geometry is not None:
            index = self.geometry.to_index(self.world(point))
            last = np.array(self.geometry.shape) - 1.0
            gap = np.minimum(index, last - index) * self.geometry.spacing_mm
            return bool(np.any(gap < margin_mm))
        if bone not in self._ends:
            ends = flat_ends(self.bones[bone])
            if bone.startswith("hip"):
                # The symphysis is a flat medial end by nature.
                inward = 1 if bone == "hip_left" else -1
                ends = [e for e in ends if e[:2] != (2, inward)]
            self._ends[bone] = ends
        return any(
            sign * (end - float(point[axis])) < margin_mm for axis, sign, end in self._ends[bone]
        )

    def covered(self, bone: str, name: str, point: FloatArray | None) -> FloatArray | None:
        """``point`` unless it is cut off; then None and a doubt."""
        if point is None or name in self.user:
            return point
        if self.cut_off(bone, point, evidence.value("SP-LMK-04")):
            self.doubt(
                "landmark_cut_off",
                f"{name} would lie on the border of the image, so the bone goes on beyond it; "
                "it is left out. Scan further or set it by hand.",
                "SP-LMK-04",
            )
            return None
        return point

    # -- hip centres -----------------------------------------------------------------------------

    def hip_centres(self) -> None:
        rows = ("LMK-HJC", "SP-LMK-03")
        radii = evidence.span("SP-LMK-03", "radius")
        most = evidence.value("SP-LMK-03", "rms")
        sure, least = (
            evidence.value("SP-LMK-03", "spread"),
            evidence.value("SP-LMK-03", "least_spread"),
        )
        for side, letter, _ in SIDES:
            name = f"HJC_{letter}"
            fits: dict[str, Sphere] = {}
            for bone, concave in ((f"femur_{side}", False), (f"hip_{side}", True)):
                if bone not in self.bones:
                    continue
                s = self.bones[bone]
                areas = np.linalg.norm(s.area_vectors, axis=1)
                fit = fit_sphere(s.triangles.mean(axis=1), s.face_normals, areas, radii, concave)
                if fit is not None and fit.rms_mm <= most and fit.spread >= least:
                    fits[bone] = fit
            if name in self.user:
                if fits:
                    self.sphere[side] = next(iter(fits.values()))
                continue
            femur, socket = fits.get(f"femur_{side}"), fits.get(f"hip_{side}")
            if femur is not None and f"hip_{side}" in self.bones:
                hip = self.bones[f"hip_{side}"]
                gap = float(np.linalg.norm(on_surface(hip, femur.centre) - femur.centre))
                if not -3.0 < gap - femur.radius_mm < 10.0:
                    femur = None
            chosen = femur or socket
            if femur is not None and socket is not None:
                apart = float(np.linalg.norm(femur.centre - socket.centre))
                if apart > 5.0:
                    self.doubt(
                        "hip_centre_two_answers",
                        f"{name}: femoral head and socket give centres {apart:.1f} mm apart "
                        "(expected < 5 mm); the head is used.",
                        *rows,
                    )
                    if socket.spread > 2.0 * femur.spread and femur.spread < sure:
                        chosen = socket
            if chosen is None:
                if f"hip_{side}" in self.bones or f"femur_{side}" in self.bones:
                    self.doubt(
                        "no_hip_centre",
                        f"{name}: neither femoral head nor socket shows enough of a sphere of "
                        f"{radii[0]:g}-{radii[1]:g} mm radius; it is left out.",
                        *rows,
                    )
                continue
            if chosen.spread < sure:
                self.doubt(
                    "hip_centre_uncertain",
                    f"{name} comes from a small part of the joint (normal variance "
                    f"{chosen.spread:.3f}, expected {sure:g} or more): it may be off by some mm.",
                    *rows,
                )
            self.sphere[side] = chosen
            self.points[name] = chosen.centre
        radii_found = {side: s.radius_mm for side, s in self.sphere.items()}
        if len(radii_found) == 2:
            apart = abs(radii_found["left"] - radii_found["right"])
            if apart > evidence.value("SP-LMK-03", "asymmetry"):
                self.doubt(
                    "hip_radii_differ",
                    f"The hip joints' radii differ by {apart:.1f} mm (left {radii_found['left']:.1f}, "
                    f"right {radii_found['right']:.1f} mm): metal, dysplasia or too little of a "
                    "joint; check the hip centres.",
                    *rows,
                )

    # -- pelvis ----------------------------------------------------------------------------------

    def _middle(self) -> FloatArray:
        """A point of the pelvic midplane."""
        if "HJC_L" in self.points and "HJC_R" in self.points:
            return 0.5 * (self.points["HJC_L"] + self.points["HJC_R"])
        both = [n for n in ("hip_left", "hip_right") if n in self.bones]
        if len(both) == 2:
            return np.asarray(np.mean([self.bones[n].vertices.mean(axis=0) for n in both], axis=0))
        return np.zeros(3)

    def _side_view(self, side: str, letter: str, sign: float) -> hips.HipShape:
        """The hip bone in side axes of the current pose."""
        s = self.bones[f"hip_{side}"]
        flip = np.array([1.0, 1.0, sign])
        middle = self._middle()
        faces = s.faces if sign > 0 else s.faces[:, ::-1]
        view = Surface((s.vertices - middle) @ self.pose * flip, faces, self.frame)
        centre = self.points.get(f"HJC_{letter}")
        if centre is not None:
            centre = (centre - middle) @ self.pose * flip
        return hips.shape(view, centre)

    def _back(self, point: FloatArray | None, sign: float) -> FloatArray | None:
        if point is None:
            return None
        return np.asarray((point * np.array([1.0, 1.0, sign])) @ self.pose.T + self._middle())

    def pelvis(self) -> None:
        present = [(a, b, c) for a, b, c in SIDES if f"hip_{a}" in self.bones]
        if not present:
            return
        basic: dict[str, FloatArray] = {}
        for _ in range(POSE_ROUNDS):
            before = dict(basic)
            basic = {}
            for side, letter, sign in present:
                view = self._side_view(side, letter, sign)
                for name, rule in (
                    ("ASIS", hips.asis), ("PSIS", hips.psis), ("PT", hips.pubic_tubercle)
                ):  # fmt: skip
                    key = f"{name}_{letter}"
                    found = self.user.get(key)
                    if found is None:
                        found = self._back(rule(view), sign)
                    if found is not None:
                        basic[key] = found
            turned = self._pose_from(basic)
            if turned is None:
                break
            self.pose = turned
            same = basic.keys() == before.keys() and all(
                float(np.linalg.norm(basic[k] - before[k])) < 1e-9 for k in basic
            )
            if same:
                break
        for side, letter, sign in present:
            bone = f"hip_{side}"
            for name in ("ASIS", "PSIS", "PT"):
                key = f"{name}_{letter}"
                if key in basic:
                    self.set(key, self.covered(bone, key, basic[key]))
            self._other_points(bone, side, letter, sign)
        self._symphysis()
        self._check_pelvis()

    def _pose_from(self, basic: dict[str, FloatArray]) -> FloatArray | None:
        """Pelvic axes from the anterior pelvic plane, or from ASIS and PSIS and the usual tilt."""
        if not all(f"{n}_{s}" in basic for n in ("ASIS", "PSIS") for s in "LR"):
            return None
        covered = all(
            f"PT_{letter}" in basic
            and not self.cut_off(f"hip_{side}", basic[f"PT_{letter}"], evidence.value("SP-LMK-04"))
            for side, letter, _ in SIDES
        )
        if covered:
            pubis = 0.5 * (basic["PT_L"] + basic["PT_R"])
            return anterior_pelvic_plane_axes(basic["ASIS_L"], basic["ASIS_R"], pubis)
        isb = pelvis_frame(
            basic["ASIS_L"], basic["ASIS_R"], basic["PSIS_L"], basic["PSIS_R"], np.zeros(3)
        ).axes
        tilt = np.radians(evidence.value("SP-LMK-01"))
        c, s = np.cos(tilt), np.sin(tilt)
        return np.asarray(isb @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]))

    def _other_points(self, bone: str, side: str, letter: str, sign: float) -> None:
        view = self._side_view(side, letter, sign)
        flip = np.array([1.0, 1.0, sign])
        middle = self._middle()

        def local(key: str) -> FloatArray | None:
            p = self.points.get(key)
            return None if p is None else (p - middle) @ self.pose * flip

        notch = self._back(hips.sciatic_notch(view, hips.outline(view)), sign)
        self.set(f"GSN_{letter}", self.covered(bone, f"GSN_{letter}", notch))
        lip = self._back(hips.piis(view, local(f"GSN_{letter}"), local(f"PSIS_{letter}")), sign)
        self.set(f"PIIS_{letter}", self.covered(bone, f"PIIS_{letter}", lip))
        bump = self._back(hips.aiis(view, local(f"ASIS_{letter}")), sign)
        self.set(f"AIIS_{letter}", self.covered(bone, f"AIIS_{letter}", bump))
        tip = self._back(hips.ischial_spine(view, local(f"GSN_{letter}")), sign)
        self.set(f"ISP_{letter}", self.covered(bone, f"ISP_{letter}", tip))
        for name in ("ASIS", "AIIS", "PSIS", "PIIS", "GSN", "ISP", "PT"):
            key = f"{name}_{letter}"
            if key not in self.points and not any(key in d.message for d in self.doubts):
                self.doubt(
                    "landmark_absent",
                    f"{key} does not show on the {side} hip bone; it is left out.",
                    f"LMK-{name}",
                )

    def _symphysis(self) -> None:
        """Middle of the symphysis (LMK-PS): where the two hip bones are nearest to each other."""
        if "PS" in self.user or not {"hip_left", "hip_right"} <= set(self.bones):
            return
        from scipy.spatial import cKDTree

        left, right = self.bones["hip_left"].vertices, self.bones["hip_right"].vertices
        to_right, _ = cKDTree(right).query(left, distance_upper_bound=30.0)
        to_left, _ = cKDTree(left).query(right, distance_upper_bound=30.0)
        least = float(min(to_right.min(), to_left.min()))
        limit = evidence.value("SP-LMK-05")
        if not least <= limit:
            self.doubt(
                "landmark_absent",
                f"PS: the hip bones come no nearer to each other than {min(least, 99.0):.0f} mm or "
                f"more (expected < {limit:g} mm); the symphysis is not in the image.",
                "LMK-PS",
            )
            return
        a = left[to_right <= least + 4.0]
        b = right[to_left <= least + 4.0]
        middle = 0.25 * (a.min(axis=0) + a.max(axis=0) + b.min(axis=0) + b.max(axis=0))
        margin = evidence.value("SP-LMK-04")
        if any(
            self.cut_off(bone, p, margin)
            for bone, patch in (("hip_left", a), ("hip_right", b))
            for p in (patch[int(np.argmin(patch[:, 1]))], patch[int(np.argmax(patch[:, 1]))])
        ):
            self.doubt(
                "landmark_cut_off",
                "PS: the symphysis reaches the border of the image, so its middle is unknown; "
                "it is left out.",
                "LMK-PS",
                "SP-LMK-04",
            )
            return
        self.points["PS"] = middle

    def _check_pelvis(self) -> None:
        """Points that contradict each other are dropped rather than passed on."""
        for side, letter, sign in SIDES:
            a, p = self.points.get(f"ASIS_{letter}"), self.points.get(f"PSIS_{letter}")
            if a is None or p is None:
                continue
            low, high = evidence.span("SP-LMK-06")
            length = float(np.linalg.norm(a - p))
            outward = sign * float((a - p) @ self.pose[:, 2])
            if low <= length <= high and outward > 0:
                continue
            self.doubt(
                "implausible_landmarks",
                f"ASIS_{letter} and PSIS_{letter} are {length:.0f} mm apart, the ASIS {outward:.0f} mm "
                f"further lateral (expected {low:g}-{high:g} mm and lateral); automatic ones are left "
                f"out. Is the {side} hip bone complete and alone?",
                "SP-LMK-06",
            )
            for key in (f"ASIS_{letter}", f"PSIS_{letter}"):
                if key not in self.user:
                    del self.points[key]

    # -- spine -----------------------------------------------------------------------------------

    def endplates(self) -> None:
        right = self.pose[:, 2]
        up = np.array([0.0, 1.0, 0.0])
        up = unit(up - (up @ right) * right)
        bodies: dict[str, spine.Body] = {}
        for name in (*LUMBAR, "sacrum"):
            if name not in self.bones:
                continue
            l5 = bodies["L5"].centre if "L5" in bodies else None
            try:
                bodies[name] = spine.find_body(self.bones[name], up, right, name == "sacrum", l5)
            except GeometryError as error:
                label, row = ("S1", "LMK-S1EP") if name == "sacrum" else (name, "LMK-L5IEP")
                self.doubt("no_vertebral_body", f"{label}: {error}", row)
        chain = ("sacrum", *LUMBAR)
        for k, name in enumerate(chain):
            if name not in bodies:
                continue
            bone, body = self.bones[name], bodies[name]
            below = bodies.get(chain[k - 1]) if k > 0 else None
            above = bodies.get(chain[k + 1]) if k + 1 < len(chain) else None
            # The line of the vertebral bodies is a better guess of cranial than the image's.
            low, high = below or body, above or body
            guesses = [up]
            if low is not high:
                guesses.insert(0, unit(high.centre - low.centre))
            if name == "sacrum":
                toward = guesses[0] if above is not None else None
                plate = spine.find_sacral_endplate(bone, body, up, toward)
                if plate is None and toward is not None:
                    plate = spine.find_sacral_endplate(bone, body, up, None)
                self._keep_plate("S1EP", name, plate)
                continue
            for key, superior in ((f"{name}SEP", True), (f"{name}IEP", False)):
                tries = (spine.find_endplate(bone, body, guess, superior) for guess in guesses)
                plate = next((p for p in tries if p is not None), None)
                if plate is not None and superior:
                    guesses.append(plate.normal)
                self._keep_plate(key, name, plate)

    def _keep_plate(self, key: str, bone: str, plate: spine.Endplate | None) -> None:
        row = "LMK-S1EP" if key == "S1EP" else "LMK-L5IEP"
        if plate is None:
            self.doubt(
                "landmark_absent", f"{key}: no endplate was found on the {bone} surface.", row
            )
            return
        margin = evidence.value("SP-LMK-04")
        edges = (plate.anterior, plate.posterior, plate.centre)
        if key not in self.user and any(self.cut_off(bone, p, margin) for p in edges):
            self.doubt(
                "landmark_cut_off",
                f"{key} lies on the border of the image: the {bone} is cut there; it is left out.",
                row,
                "SP-LMK-04",
            )
            return
        most = evidence.value("SP-LMK-07")
        if plate.rms_mm > most:
            self.doubt(
                "uneven_endplate",
                f"{key} departs {plate.rms_mm:.1f} mm rms from its plane (expected < {most:g} mm); "
                "check its frame on the images.",
                "SP-LMK-07",
            )
        self.plates[key] = plate
        self.set(key, plate.centre)
        self.set(f"{key}_ANT", plate.anterior)
        self.set(f"{key}_POST", plate.posterior)

    # -- joints ----------------------------------------------------------------------------------

    def joints(self) -> None:
        if "sacrum" not in self.bones:
            return
        gap, slack = evidence.value("SP-LMK-02"), evidence.value("SP-LMK-02", "slack")
        for side, letter, sign in SIDES:
            bone = f"hip_{side}"
            if bone not in self.bones:
                continue
            found = find_joint(
                self.bones["sacrum"],
                self.bones[bone],
                self.pose,
                sign * self.pose[:, 2],
                gap,
                slack,
            )
            if found is None:
                self.doubt(
                    "landmark_absent",
                    f"SIJ_{letter}: sacrum and {bone} nowhere face each other within {gap:g} mm.",
                    "LMK-SIJ",
                    "SP-LMK-02",
                )
                continue
            low, high = evidence.span("DIM-16")
            if not low <= found.area_mm2 / 100.0 <= high:
                self.doubt(
                    "joint_area",
                    f"The {side} SI joint comes out at {found.area_mm2 / 100.0:.1f} cm2 (usually "
                    f"{low:g}-{high:g} cm2): a bridged, cut or badly separated joint.",
                    "DIM-16",
                )
            self.extent[side] = found
            self.set(f"SIJ_{letter}", found.centre)

    # -- result ----------------------------------------------------------------------------------

    def _pelvis_frame(self) -> AxisFrame | None:
        p = self.points
        doubts: list[str] = []

        def pair(name: str) -> tuple[FloatArray, FloatArray] | None:
            return (
                (p[f"{name}_L"], p[f"{name}_R"]) if f"{name}_L" in p and f"{name}_R" in p else None
            )

        asis, psis, hjc = pair("ASIS"), pair("PSIS"), pair("HJC")
        if asis is None or psis is None:
            # Any left-right pair gives z; without front and back the image's anterior has to do.
            doubts.append("without both ASIS and PSIS its axes come from")
            across = asis or psis or hjc
            if across is not None:
                z = unit(across[1] - across[0])
                doubts[-1] += " one pair of points and the image's anterior direction"
            elif "sacrum" in self.bones:
                image = np.eye(3)
                z = mirror_plane(self.bones["sacrum"].vertices, image[1], image[2])[1]
                doubts[-1] += " the sacrum's mirror plane and the image's anterior direction"
            else:
                return None
            x = np.array([1.0, 0.0, 0.0])
            x = unit(x - (x @ z) * z)
            axes = np.stack([x, np.cross(z, x), z], axis=1)
            middle = self._middle()
        else:
            axes = pelvis_frame(*asis, *psis, np.zeros(3)).axes
            middle = 0.25 * (asis[0] + asis[1] + psis[0] + psis[1])
        if hjc is not None:
            middle = 0.5 * (hjc[0] + hjc[1])
        else:
            doubts.append("without both hip centres its origin is the middle of the points known")
        if doubts:
            self.doubt(
                "pelvis_frame_fallback", f"The pelvic frame is provisional: {'; '.join(doubts)}.",
                "FRM-1",
            )  # fmt: skip
        return AxisFrame("pelvis", middle, axes, self.frame)

    def _plate_frame(self, key: str) -> AxisFrame | None:
        plate = self.plates.get(key)
        names = [key, f"{key}_ANT", f"{key}_POST"]
        touched = [n for n in names if n in self.user]
        if plate is None:
            if not {names[1], names[2]} <= set(self.user):
                return None
            ahead = unit(self.user[names[1]] - self.user[names[2]])
            normal = np.cross(self.pose[:, 2], ahead)
            middle = 0.5 * (self.user[names[1]] + self.user[names[2]])
            return endplate_frame(key, self.user.get(key, middle), normal, ahead, self.frame)
        if not touched:
            return endplate_frame(key, plate.centre, plate.normal, plate.ahead, self.frame)
        ahead = unit(self.points[names[1]] - self.points[names[2]])
        normal = plate.normal - (plate.normal @ ahead) * ahead
        middle = 0.5 * (self.points[names[1]] + self.points[names[2]])
        centre = self.user.get(key, middle if len(touched) > 1 else plate.centre)
        self.set(key, centre)
        return endplate_frame(key, centre, normal, ahead, self.frame)

    def result(self) -> Landmarks:
        frames: dict[str, AxisFrame] = {}
        pelvis = self._pelvis_frame()
        if pelvis is not None:
            frames["pelvis"] = pelvis
        keys = ["S1EP"] + [f"{v}{e}" for v in LUMBAR for e in ("IEP", "SEP")]
        for key in keys:
            built = self._plate_frame(key)
            if built is not None:
                frames[key] = built
        moved = {
            n: AxisFrame(n, self.world(f.origin), self.axes @ f.axes, self.frame)
            for n, f in frames.items()
        }
        joints = {side: self._joint_in_world(j) for side, j in self.extent.items()}
        names = sorted(self.points)
        return Landmarks(
            {n: self.world(self.points[n]) for n in names},
            moved,
            {n: "user" if n in self.user else "automatic" for n in names},
            joints,
            {side: s.radius_mm for side, s in self.sphere.items()},
            self.axes[:, 1].copy(),
            tuple(self.doubts),
        )

    def _joint_in_world(self, j: JointExtent) -> JointExtent:
        w = self.world
        return JointExtent(
            w(j.centre), w(j.cranial), w(j.caudal), w(j.anterior), w(j.posterior), w(j.lateral),
            w(j.patch), j.normals @ self.axes.T, j.areas, j.area_mm2, j.gap_mm,
        )  # fmt: skip
