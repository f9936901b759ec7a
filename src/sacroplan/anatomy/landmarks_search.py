"""The search for landmarks and frames: its running state and the order of its steps.

The rules themselves live in the modules beside this one; here they are called in the pose of the
pelvis, checked against the border of the image and the user's own points, and repeated for their
uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.anatomy import landmarks_endplates as spine
from sacroplan.anatomy import landmarks_foramina as foramina
from sacroplan.anatomy import landmarks_hips as hips
from sacroplan.anatomy import landmarks_levels as levels
from sacroplan.anatomy import landmarks_pedicles as pedicles
from sacroplan.anatomy import landmarks_plausible as plausible
from sacroplan.anatomy.frames import anterior_pelvic_plane_axes, endplate_frame, pelvis_frame
from sacroplan.anatomy.landmarks_joint import (
    Contact,
    JointExtent,
    extent_of,
    find_contact,
    joint_of,
)
from sacroplan.anatomy.landmarks_repeats import Disturbance, disturbances, uncertainty
from sacroplan.anatomy.landmarks_shapes import (
    Faces,
    Sphere,
    faces_of,
    fit_sphere,
    flat_ends,
    mirror_plane,
    on_surface,
    refine_sphere,
    vertex_areas,
)
from sacroplan.errors import Doubt, GeometryError
from sacroplan.geometry.frames import AxisFrame, FloatArray, same_frame, unit
from sacroplan.geometry.surface import Surface
from sacroplan.geometry.volume import VolumeGeometry

SIDES: tuple[tuple[str, str, float], ...] = (("left", "L", -1.0), ("right", "R", 1.0))
"""Bone suffix, landmark suffix, sign of the lateral direction along z (right)."""

LUMBAR = ("L5", "L4", "L3", "L2", "L1")

PEDICLES = ("L5", "L4", "L3")
"""Levels whose pedicle isthmus is a landmark."""

POSE_ROUNDS = 10
"""Passes of "find points, turn to the pose they define"; three are enough on all cases seen."""

HEAD_AND_SOCKET_MM = 5.0
"""Femoral head and socket of one hip have centres nearer than this, or one of them is wrong."""

PLATE_MM = 34.0
"""An endplate and its edges lie within this distance of its centre (the widest are 60 mm)."""

STEADY_MM = 0.5
"""Half the step by which the joint's gap limit is varied for its uncertainty."""


HIP_POINTS = ("ASIS", "PSIS", "PT", "GSN", "PIIS", "AIIS", "ISP")

_EDGES: dict[str, Callable[[spine.Endplate], FloatArray | None]] = {
    "": lambda p: p.centre,
    "_ANT": lambda p: p.anterior,
    "_POST": lambda p: p.posterior,
    "_L": lambda p: p.left,
    "_R": lambda p: p.right,
}
"""Points of an endplate by the ending of their name."""

_LIMITS: dict[str, Callable[[JointExtent], FloatArray]] = {
    "": lambda j: j.centre,
    "_CRANIAL": lambda j: j.cranial,
    "_CAUDAL": lambda j: j.caudal,
}
"""Points of a sacroiliac joint by the middle of their name."""


def _mean(joints: Sequence[Contact | None]) -> FloatArray | None:
    """Mean of the joints' middles, None where one is missing."""
    middles = [j.middle() for j in joints if j is not None]
    return np.asarray(np.mean(middles, axis=0)) if len(middles) == len(joints) else None


def _about(surface: Surface, normals: FloatArray, centre: FloatArray, d: Disturbance) -> Surface:
    """``surface`` disturbed, the waves counted from ``centre``: they move with the patient."""
    moved = surface.vertices + d.height(surface.vertices - centre)[:, None] * normals
    return Surface(moved, surface.faces, surface.frame)


class Search:
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
        self.uncertainty: dict[str, float] = {}
        self.unsteady: list[str] = []
        self.bodies: dict[str, spine.Body] = {}
        self.contact: dict[str, Contact] = {}
        self.foramina: foramina.Foramina | None = None
        self.view: foramina.Unrolled | None = None
        self.levels: levels.LevelEvidence | None = None
        self.isthmus_mm: dict[str, float] = {}
        self._faces: dict[str, Faces] = {}
        self._areas: dict[str, FloatArray] = {}
        self.plates: dict[str, spine.Endplate] = {}
        self.sphere: dict[str, Sphere] = {}
        self.extent: dict[str, JointExtent] = {}
        self.pose = np.eye(3)
        """Columns: anterior, cranial, right of the pelvis itself, in local axes."""
        self.whole = False
        """Whether the anterior pelvic plane is in the image."""
        self._ends: dict[str, list[tuple[int, int, float]]] = {}

    # -- small helpers ---------------------------------------------------------------------------

    def doubt(self, code: str, message: str, *rows: str) -> None:
        """Keep a doubt under ``anatomy.<code>``."""
        self.doubts.append(Doubt("anatomy", f"anatomy.{code}", message, rows))

    def set(self, name: str, point: FloatArray | None) -> None:
        """Keep an automatic point unless the user has set it."""
        if point is not None and name not in self.user:
            self.points[name] = point

    def keep(self, name: str, point: FloatArray | None, repeats: list[FloatArray | None]) -> None:
        """:meth:`set` with its uncertainty from the repeats."""
        self.set(name, point)
        if point is None or name in self.user:
            return
        off, count = uncertainty(name, point, repeats)
        if count:
            self.uncertainty[name] = off
        if count < len(repeats):
            self.unsteady.append(f"{name} ({count} of {len(repeats)})")

    def faces(self, bone: str) -> Faces:
        """Centres, normals and areas of a bone's faces, worked out once."""
        if bone not in self._faces:
            self._faces[bone] = faces_of(self.bones[bone])
        return self._faces[bone]

    def repeats(self) -> tuple[Disturbance, ...]:
        """The disturbances of this image; the pose is less sure without the pubis."""
        return disturbances(self.geometry, "pose" if self.whole else "pose_without_pubis")

    def world(self, point: FloatArray) -> FloatArray:
        """Local point (3,) or (n, 3) in LPS."""
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
        """Centres of both hip joints (LMK-HJC)."""
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
                f = self.faces(bone)
                fit = fit_sphere(f.centres, f.normals, f.areas, radii, concave)
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
                if apart > HEAD_AND_SOCKET_MM:
                    self.doubt(
                        "hip_centre_two_answers",
                        f"{name}: femoral head and socket give centres {apart:.1f} mm apart "
                        f"(expected < {HEAD_AND_SOCKET_MM:g} mm); the head is used.",
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
            bone = f"femur_{side}" if chosen is femur else f"hip_{side}"
            self.keep(name, chosen.centre, self._other_spheres(bone, chosen, radii))
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

    def _other_spheres(
        self, bone: str, sphere: Sphere, radii: tuple[float, float]
    ) -> list[FloatArray | None]:
        """Centres of the sphere on disturbed surfaces."""
        faces = self.faces(bone)
        near = np.linalg.norm(faces.centres - sphere.centre, axis=1) <= sphere.radius_mm + 6.0
        f = faces.where(near)
        flip = np.array([1.0, 1.0, -1.0 if bone.endswith("left") else 1.0])
        concave = bone.startswith("hip")
        out: list[FloatArray | None] = []
        for d in self.repeats():
            moved = d.height((f.centres - sphere.centre) * flip)[:, None] * f.normals
            again = refine_sphere(
                f.centres + moved, f.normals, f.areas, radii, concave, sphere.centre
            )
            out.append(None if again is None else again.centre)
        return out

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
        bone = f"hip_{side}"
        s = self.bones[bone]
        if bone not in self._areas:
            self._areas[bone] = vertex_areas(s)
        flip = np.array([1.0, 1.0, sign])
        middle = self._middle()
        faces = s.faces if sign > 0 else s.faces[:, ::-1]
        view = Surface((s.vertices - middle) @ self.pose * flip, faces, self.frame)
        centre = self.points.get(f"HJC_{letter}")
        if centre is not None:
            centre = (centre - middle) @ self.pose * flip
        return hips.HipShape(view, self._areas[bone], centre)

    def _back(self, point: FloatArray | None, sign: float) -> FloatArray | None:
        if point is None:
            return None
        return np.asarray((point * np.array([1.0, 1.0, sign])) @ self.pose.T + self._middle())

    def pelvis(self) -> None:
        """Landmarks of the hip bones in the pose they themselves define."""
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
            self._hip_points(f"hip_{side}", side, letter, sign)
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
        self.whole = covered
        if covered:
            pubis = 0.5 * (basic["PT_L"] + basic["PT_R"])
            return anterior_pelvic_plane_axes(basic["ASIS_L"], basic["ASIS_R"], pubis)
        isb = pelvis_frame(
            basic["ASIS_L"], basic["ASIS_R"], basic["PSIS_L"], basic["PSIS_R"], np.zeros(3)
        ).axes
        tilt = np.radians(evidence.value("SP-LMK-01"))
        c, s = np.cos(tilt), np.sin(tilt)
        return np.asarray(isb @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]))

    def _hip_points(self, bone: str, side: str, letter: str, sign: float) -> None:
        """The landmarks of one hip bone, each with its repeats."""
        view = self._side_view(side, letter, sign)
        flip = np.array([1.0, 1.0, sign])
        middle = self._middle()
        window = hips.notch_window(view, hips.outline(view))
        own = {
            n: (self.user[f"{n}_{letter}"] - middle) @ self.pose * flip
            for n in HIP_POINTS
            if f"{n}_{letter}" in self.user
        }
        found = hips.all_points(view, window, own)
        normals = view.surface.vertex_normals
        again: dict[str, list[FloatArray | None]] = {n: [] for n in HIP_POINTS}
        for d in self.repeats():
            turn = d.rotation()
            s = d.surface(view.surface, normals)
            turned = hips.HipShape(
                Surface(s.vertices @ turn, s.faces, s.frame),
                view.areas,
                None if view.hip_centre is None else view.hip_centre @ turn,
            )
            moved = (
                None
                if window is None
                else window + (window.mean(axis=0) @ turn[:2, :2] - window.mean(axis=0))
            )
            points = hips.all_points(turned, moved, {n: p @ turn for n, p in own.items()})
            for n in HIP_POINTS:
                p = points.get(n)
                again[n].append(None if p is None else self._back(p @ turn.T, sign))
        for n in HIP_POINTS:
            key = f"{n}_{letter}"
            point = self._back(found.get(n), sign)
            kept = self.covered(bone, key, point)
            if point is None and key not in self.user:
                self.doubt(
                    "landmark_absent",
                    f"{key} does not show on the {side} hip bone; it is left out.",
                    f"LMK-{n}",
                )
            self.keep(key, kept, again[n])

    def _symphysis(self) -> None:
        """Middle of the symphysis (LMK-PS): where the two hip bones are nearest to each other."""
        if "PS" in self.user or not {"hip_left", "hip_right"} <= set(self.bones):
            return
        limit = evidence.value("SP-LMK-05")
        slack = evidence.value("SP-LMK-05", "slack")
        # From both sides, so that the mirror image gives the mirror image.
        pairs = (("hip_left", "hip_right"), ("hip_right", "hip_left"))
        contacts = [find_contact(self.bones[a], self.bones[b], limit) for a, b in pairs]
        joints = [None if c is None else joint_of(c, slack) for c in contacts]
        if any(j is None for j in joints):
            self.doubt(
                "landmark_absent",
                f"PS: the hip bones nowhere face each other within {limit:g} mm; the symphysis is "
                "not in the image.",
                "LMK-PS",
            )
            return
        margin = evidence.value("SP-LMK-04")
        for joint, (bone, _) in zip(joints, pairs, strict=True):
            assert joint is not None
            height = joint.patch[:, 1]
            ends = joint.patch[int(height.argmin())], joint.patch[int(height.argmax())]
            if any(self.cut_off(bone, p, margin) for p in ends):
                self.doubt(
                    "landmark_cut_off",
                    "PS: the symphysis reaches the border of the image, so its middle is unknown; "
                    "it is left out.",
                    "LMK-PS",
                    "SP-LMK-04",
                )
                return
        others = [self._other_joints(c, slack) for c in contacts if c is not None]
        self.keep("PS", _mean(joints), [_mean(pair) for pair in zip(*others, strict=True)])

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
        """Endplates of S1 and the lumbar vertebrae (LMK-S1EP, LMK-L5IEP)."""
        right = self.pose[:, 2]
        up = np.array([0.0, 1.0, 0.0])
        up = unit(up - (up @ right) * right)
        bodies = self.bodies
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
            body = bodies[name]
            below = bodies.get(chain[k - 1]) if k > 0 else None
            above = bodies.get(chain[k + 1]) if k + 1 < len(chain) else None
            # The line of the vertebral bodies is a better guess of cranial than the image's.
            low, high = below or body, above or body
            guesses = [up]
            if low is not high:
                guesses.insert(0, unit(high.centre - low.centre))
            if name == "sacrum":
                toward = guesses[0] if above is not None else None
                plate = spine.find_sacral_endplate(body, up, toward)
                if plate is None and toward is not None:
                    plate = spine.find_sacral_endplate(body, up, None)
                self._keep_plate("S1EP", name, plate)
                continue
            for key, superior in ((f"{name}SEP", True), (f"{name}IEP", False)):
                tries = (spine.find_endplate(body, guess, superior) for guess in guesses)
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
        body = self.bodies[bone]
        near = spine.around(body.near, plate.centre, PLATE_MM)
        normals = near.vertex_normals
        superior = key.endswith("SEP") or key == "S1EP"
        again = [
            spine.repeat_endplate(body, _about(near, normals, body.centre, d), plate, superior)
            for d in self.repeats()
        ]
        for suffix, of in _EDGES.items():
            point = of(plate)
            if point is not None and not self.cut_off(bone, point, margin):
                self.keep(f"{key}{suffix}", point, [None if p is None else of(p) for p in again])

    # -- joints ----------------------------------------------------------------------------------

    def joints(self) -> None:
        """Sacroiliac joints (LMK-SIJ)."""
        if "sacrum" not in self.bones:
            return
        gap, slack = evidence.value("SP-LMK-02"), evidence.value("SP-LMK-02", "slack")
        if self.geometry is not None:
            # On thick slices the faces waver by more than the joint's own unevenness.
            share = evidence.value("SP-LMK-02", "voxel_share")
            slack = max(slack, share * float(self.geometry.spacing_mm.max()))
        for side, letter, sign in SIDES:
            bone = f"hip_{side}"
            if bone not in self.bones:
                continue
            contact = find_contact(self.bones[bone], self.bones["sacrum"], gap)
            joint = None if contact is None else joint_of(contact, slack)
            found = None if joint is None else extent_of(joint, self.pose, sign * self.pose[:, 2])
            if found is None:
                self.doubt(
                    "landmark_absent",
                    f"SIJ_{letter}: sacrum and {bone} nowhere face each other within {gap:g} mm.",
                    "LMK-SIJ",
                    "SP-LMK-02",
                )
                continue
            assert contact is not None
            self.extent[side] = found
            again = [
                None if j is None else extent_of(j, self.pose, sign * self.pose[:, 2])
                for j in self._other_joints(contact, slack)
            ]
            for suffix, of in _LIMITS.items():
                self.keep(
                    f"SIJ{suffix}_{letter}",
                    of(found),
                    [None if j is None else of(j) for j in again],
                )

    def _other_joints(self, contact: Contact, slack_mm: float) -> list[Contact | None]:
        """The joint on disturbed surfaces, with a gap limit that is a little tighter or wider."""
        out: list[Contact | None] = []
        middle = contact.middle()
        for n, d in enumerate(self.repeats()):
            moved = Contact(
                contact.surface, contact.faces, contact.patch, contact.normals, contact.areas,
                contact.gap_mm - d.height(contact.patch - middle), contact.feet,
            )  # fmt: skip
            out.append(joint_of(moved, slack_mm + (STEADY_MM if n % 2 else -STEADY_MM)))
        return out

    # -- foramina and pedicles -------------------------------------------------------------------

    def sacral_foramina(self) -> None:
        """Openings of S1 to S4, ventral and dorsal (LMK-S1AF, LMK-S1PF ...)."""
        plate, body = self.plates.get("S1EP"), self.bodies.get("sacrum")
        if plate is None or body is None:
            return
        view = foramina.unroll(
            body.grid, body.inside, plate.anterior, body.centre, body.right, plate.normal
        )
        found = None if view is None else foramina.find_foramina(view)
        if view is None or found is None:
            self.doubt(
                "foramina_absent",
                "Too few ventral foramina show on the sacrum to tell their levels: its front is not in "
                "the image, is destroyed, or has no open foramina. None is named, and the count of "
                "the vertebrae cannot be checked against them.",
                "LMK-S1AF",
                "SP-LMK-13",
            )
            return
        self.foramina, self.view = found, view
        again = []
        for n, d in enumerate(self.repeats()):
            level = foramina.disturbed_level(view, d)
            again.append(
                foramina.find_foramina(view, level, foramina.PIT_MM * (0.6 if n % 2 else 1.5))
            )
        absent = []
        for name in foramina.NAMES:
            opening = found.openings.get(name)
            if opening is None or self.cut_off(
                "sacrum", opening.centre, evidence.value("SP-LMK-04")
            ):
                if name not in self.user:
                    absent.append(name)
                continue
            others = [None if f is None else foramina.nearest(f, name, opening) for f in again]
            self.keep(name, opening.centre, [None if o is None else o.centre for o in others])
        if absent:
            self.doubt(
                "foramina_absent",
                f"{', '.join(absent)}: no opening shows there; closed by the segmentation, destroyed, "
                "cut off, or never formed.",
                "LMK-S1AF",
                "LMK-S1PF",
            )

    def lumbar_pedicles(self) -> None:
        """Isthmus of the pedicles of L3 to L5."""
        for level in PEDICLES:
            top, bottom = self.plates.get(f"{level}SEP"), self.plates.get(f"{level}IEP")
            body = self.bodies.get(level)
            if body is None or (top is None and bottom is None):
                continue
            plates = [p for p in (top, bottom) if p is not None]
            y = unit(np.sum([p.normal for p in plates], axis=0))
            z = unit(body.right - (body.right @ y) * y)
            if len(plates) == 2:
                middle = np.mean([p.centre for p in plates], axis=0)
                wall = np.mean([p.posterior for p in plates], axis=0)
            else:
                # Half of a body whose other endplate is cut off.
                shift = body.centre - plates[0].centre
                middle = plates[0].centre + (shift @ y) * y
                wall = plates[0].posterior + (shift @ y) * y
            frame = AxisFrame(level, middle, np.stack([np.cross(y, z), y, z], axis=1), self.frame)
            for _, letter, sign in SIDES:
                name = f"{level}PED_{letter}"
                field = pedicles.pedicle_field(self.bones[level], frame, wall, middle, sign)
                found = pedicles.find_isthmus(field)
                point = None if found is None else found.centre
                if point is None:
                    if name not in self.user:
                        self.doubt(
                            "landmark_absent",
                            f"{name}: no pedicle of that side leads from the body to the arch of "
                            f"{level}; it is left out.",
                            "LMK-L5IEP",
                        )
                    continue
                kept = self.covered(level, name, point)
                if found is not None and kept is not None:
                    self.isthmus_mm[name] = found.width_mm
                others = [
                    pedicles.find_isthmus(field, field.disturbance(d)) for d in self.repeats()
                ]
                self.keep(name, kept, [None if o is None else o.centre for o in others])

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

    def judge(self, levels_confirmed: bool) -> None:
        """Levels, dimensions and repeats: what they rest on, and what is odd about them."""
        if self.unsteady:
            self.doubt(
                "landmark_unsteady",
                "Found on the bone, but not each time on slightly disturbed copies of it: "
                f"{', '.join(self.unsteady)}. Look at these on the images, or set them by hand.",
                "SP-LMK-08",
            )
        self.levels = levels.gather(
            self.bones, self.bodies, self.plates, self.foramina, self.view, LUMBAR
        )
        if "L5" in self.bones or "sacrum" in self.bones:
            self.doubts.extend(self.levels.doubts(levels_confirmed))
        self.doubts.extend(plausible.doubts(self.dimensions()))

    def dimensions(self) -> dict[str, float]:
        """Measures by their name in :data:`landmarks_plausible.MEASURES`."""
        p = self.points
        out: dict[str, float] = {}

        def span(name: str, a: str, b: str) -> None:
            if a in p and b in p:
                out[name] = float(np.linalg.norm(p[a] - p[b]))

        span("asis_distance_mm", "ASIS_L", "ASIS_R")
        span("hip_centre_distance_mm", "HJC_L", "HJC_R")
        span("s1_endplate_depth_mm", "S1EP_ANT", "S1EP_POST")
        span("s1_endplate_width_mm", "S1EP_L", "S1EP_R")
        span("l5_height_anterior_mm", "L5SEP_ANT", "L5IEP_ANT")
        span("l5_height_posterior_mm", "L5SEP_POST", "L5IEP_POST")
        span("l5_length_superior_mm", "L5SEP_ANT", "L5SEP_POST")
        span("l5_length_inferior_mm", "L5IEP_ANT", "L5IEP_POST")
        span("l5_width_inferior_mm", "L5IEP_L", "L5IEP_R")
        z = self.pose[:, 2]
        if {"hip_left", "hip_right"} <= set(self.bones):
            ends = [self.bones[n].vertices @ z for n in ("hip_left", "hip_right")]
            out["bi_iliac_breadth_mm"] = float(ends[1].max() - ends[0].min())
        if "sacrum" in self.bones:
            out["sacrum_breadth_mm"] = float(np.ptp(self.bones["sacrum"].vertices @ z))
        if self.foramina is not None:
            for level in ("S1", "S2"):
                pair = [self.foramina.openings.get(f"{level}AF_{k}") for k in "LR"]
                known = [o.inner_mm for o in pair if o is not None]
                if len(known) == 2:
                    out[f"foramina_distance_{level.lower()}_mm"] = sum(known)
        for side, letter, _ in SIDES:
            if f"L5PED_{letter}" in self.isthmus_mm:
                out[f"l5_pedicle_{side}_mm"] = self.isthmus_mm[f"L5PED_{letter}"]
            if side in self.extent:
                out[f"si_joint_area_{side}_cm2"] = self.extent[side].area_mm2 / 100.0
        return out

    def frames(self) -> dict[str, AxisFrame]:
        """All frames that can be built, in local axes."""
        out: dict[str, AxisFrame] = {}
        pelvis = self._pelvis_frame()
        if pelvis is not None:
            out["pelvis"] = pelvis
        p = self.points
        if self.whole and all(f"{n}_{k}" in p for n in ("ASIS", "PT") for k in "LR"):
            pubis = 0.5 * (p["PT_L"] + p["PT_R"])
            axes = anterior_pelvic_plane_axes(p["ASIS_L"], p["ASIS_R"], pubis)
            out["APP"] = AxisFrame("APP", 0.5 * (p["ASIS_L"] + p["ASIS_R"]), axes, self.frame)
        for key in ("S1EP", *(f"{v}{e}" for v in LUMBAR for e in ("IEP", "SEP"))):
            built = self._plate_frame(key)
            if built is not None:
                out[key] = built
        return out

    def joint_in_world(self, j: JointExtent) -> JointExtent:
        """A joint's extent in LPS."""
        w = self.world
        return JointExtent(
            w(j.centre), w(j.cranial), w(j.caudal), w(j.anterior), w(j.posterior), w(j.lateral),
            w(j.patch), j.normals @ self.axes.T, j.areas, j.area_mm2, j.gap_mm,
        )  # fmt: skip
