"""The femur of an amputated leg turned into the pelvis, from L5 to the pubis [HANDBOOK 9.3].

The distal half is moved up, turned inwards about its shaft, stepped into L5's endplate and flattened
on the pubic remnant. Its vessels stay: whether they reach is a budget of length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.booleans import difference, from_manifold, to_manifold, union
from sacroplan.geometry.frames import AxisFrame, FloatArray, Plane, Rigid, perpendicular, unit
from sacroplan.geometry.primitives import box, cone, cylinder, sphere, tube
from sacroplan.geometry.slicing import CrossSection, section
from sacroplan.geometry.surface import Surface
from sacroplan.grafts.seats import FACE_MM, Contact, Seat, grid_in, half, inside, touching
from sacroplan.grafts.strut import nearest_loops
from sacroplan.metrics import Metric, Metrics

SCREW_STEP_MM = 1.0
"""Spacing of the points along a screw at which its purchase is measured."""


@dataclass(frozen=True, eq=False)
class Femur:
    """A whole femur in the patient, before the leg is opened.

    Attributes
    ----------
    surface : closed, LPS. head, knee : (3,) middle of the head, middle between the condyles.
    anterior : (3,) the femur's own front. side : whose leg.
    """

    surface: Surface
    head: FloatArray
    knee: FloatArray
    anterior: FloatArray
    side: str

    @property
    def down(self) -> FloatArray:
        """(3,) unit vector from head to knee."""
        return unit(self.knee - self.head)

    @property
    def middle(self) -> Plane:
        """Where case 3 divides it; normal towards the knee."""
        return Plane(0.5 * (self.head + self.knee), self.down, self.surface.frame)


def synthetic_femur(head: FloatArray, down: FloatArray, outward: FloatArray, side: str) -> Femur:
    """A plain femur of the size of SP-GRAFT-09 with its head at ``head`` (3,): for worked examples only.

    ``down`` (3,) points to the knee, ``outward`` (3,) to the patient's side.
    """
    length = evidence.value("SP-GRAFT-09", "length")
    shaft = 0.5 * evidence.value("SP-GRAFT-09", "shaft")
    condyle = evidence.value("SP-GRAFT-09", "condyle")
    apart = 0.5 * evidence.value("SP-GRAFT-09", "apart")
    neck = evidence.value("SP-GRAFT-09", "neck")
    d = unit(down)
    o = unit(np.asarray(outward) - float(np.asarray(outward) @ d) * d)
    front = np.cross(o, d) if side == "right" else np.cross(d, o)
    head = np.asarray(head, dtype=np.float64)
    top = head + neck * o + 0.6 * neck * d
    knee = head + length * d
    t = np.linspace(0.0, 1.0, 40)[:, None]
    # The shaft bows forward and ends between the condyles.
    path = top + t * (knee - top) + np.sin(np.pi * t) * 0.25 * neck * front
    parts = [
        tube(path, shaft, 48),
        cone(head, top, 0.75 * shaft, shaft),
        sphere(head, 0.55 * neck, 24),
        sphere(knee + apart * o, condyle, 24),
        sphere(knee - apart * o, condyle, 24),
    ]
    return Femur(union(*parts), head, knee, front, side)


@dataclass(frozen=True, eq=False)
class LagScrew:
    """A lag screw from the graft's side into L5; ``purchase_mm`` counts only what lies inside L5."""

    entry: FloatArray
    tip: FloatArray
    diameter_mm: float
    purchase_mm: float
    off_normal_deg: float


@dataclass(frozen=True)
class Reach:
    """Length budget of the vessels: from where they leave the pelvis to where they enter the bone.

    ``available_mm`` is their length before, ``needed_mm`` the straight way after the bone was moved,
    ``turn_deg`` by how much they change direction where they leave the pelvis.
    """

    available_mm: float
    needed_mm: float
    turn_deg: float

    @property
    def spare_mm(self) -> float:
        """What is left; negative where the pedicle is too short."""
        return self.available_mm - self.needed_mm

    @property
    def ok(self) -> bool:
        """Whether the bone can stay on its vessels."""
        return self.spare_mm >= 0.0


@dataclass(frozen=True, eq=False)
class FemurPlan:
    """The half-femur in place.

    Attributes
    ----------
    surface : the trimmed, stepped graft in the patient. placed : from the leg to the pelvis.
    length_mm : L5's flat to the pubic face. available_mm : length of the distal half.
    turned_deg : inward turn about the shaft.
    shoulder, tongue : contact of the two levels of the step. riser_cm2 : area of its upright face.
    ramus_percent : share of the pubic face that the condyles cover. screws, reach : see their classes.
    """

    surface: Surface
    placed: Rigid
    length_mm: float
    available_mm: float
    turned_deg: float
    shoulder: Contact
    tongue: Contact
    riser_cm2: float
    ramus_percent: float
    screws: tuple[LagScrew, ...]
    reach: Reach
    doubts: tuple[Doubt, ...]

    def metrics(self) -> Metrics:
        """Figures under ``grafts.femur.*``."""
        face, ramus = (
            evidence.value("SP-GRAFT-06", "step_face"),
            evidence.value("SP-GRAFT-06", "ramus"),
        )
        out: Metrics = {
            "grafts.femur.length_mm": Metric(
                self.length_mm, "mm", "Femur from L5 to the pubis", ("SP-GRAFT-06", "SP-GRAFT-08"),
                upper=self.available_mm,
            ),
            "grafts.femur.available_mm": Metric(
                self.available_mm, "mm", "Length of the distal half of the femur"
            ),
            "grafts.femur.turned_deg": Metric(
                self.turned_deg, "deg", "Femur turned inwards about its shaft", ("SP-GRAFT-06",)
            ),
            "grafts.femur.step.shoulder_cm2": Metric(
                self.shoulder.area_mm2 / 100.0, "cm2", "Step's shoulder touching L5",
                ("SP-GRAFT-05", "SP-GRAFT-06"), lower=face,
            ),
            "grafts.femur.step.tongue_cm2": Metric(
                self.tongue.area_mm2 / 100.0, "cm2", "Step's tongue touching L5",
                ("SP-GRAFT-05", "SP-GRAFT-06"), lower=face,
            ),
            "grafts.femur.step.riser_cm2": Metric(
                self.riser_cm2, "cm2", "Upright face of the step", ("SP-GRAFT-05",)
            ),
            "grafts.femur.ramus_percent": Metric(
                self.ramus_percent, "%", "Pubic face covered by the condyles", ("SP-GRAFT-06",),
                lower=ramus,
            ),
            "grafts.femur.pedicle.available_mm": Metric(
                self.reach.available_mm, "mm", "Length of the femoral vessels to the bone", ("R-12",)
            ),
            "grafts.femur.pedicle.needed_mm": Metric(
                self.reach.needed_mm, "mm", "Way of the vessels after the bone was moved", ("R-12",),
                upper=self.reach.available_mm,
            ),
            "grafts.femur.pedicle.turn_deg": Metric(
                self.reach.turn_deg, "deg", "Turn of the vessels where they leave the pelvis"
            ),
        }  # fmt: skip
        for n, s in enumerate(self.screws):
            out[f"grafts.femur.screw_{n + 1}.purchase_mm"] = Metric(
                s.purchase_mm, "mm", f"Lag screw {n + 1}, purchase in L5", ("SP-GRAFT-06",),
                lower=evidence.value("SP-GRAFT-06", "purchase"),
            )  # fmt: skip
            out[f"grafts.femur.screw_{n + 1}.off_normal_deg"] = Metric(
                s.off_normal_deg, "deg", f"Lag screw {n + 1} off square to the step", ("SP-GRAFT-05",),
                upper=evidence.value("SP-GRAFT-05", "screw_angle"),
            )  # fmt: skip
        return out


def plan_femur(
    femur: Femur, seat: Seat, pubis: Seat, vessels: FloatArray, medial: FloatArray
) -> FemurPlan:
    """Turn the distal half of the femur into the gap between L5 and the pubis.

    ``seat`` is the flat under L5's hemi-endplate, ``pubis`` the cut face of the pubic remnant, ``vessels``
    (3,) where the femoral vessels leave the pelvis, ``medial`` (3,) towards the midline. Raises
    :class:`PlanError` where half a femur is too short for the gap.
    """
    step = evidence.value("SP-GRAFT-05", "step")
    top, foot = seat.region.centroid, pubis.region.centroid
    length = float(np.linalg.norm(foot - top))
    available = float(np.linalg.norm(femur.knee - femur.middle.point)) + evidence.value(
        "SP-GRAFT-09", "condyle"
    )
    if length + step > available:
        raise PlanError(
            f"Half of the femur is {available:.0f} mm long, and {length + step:.0f} mm lie between L5 and "
            "the pubis; a free or longer graft is needed."
        )
    turn = evidence.value("SP-GRAFT-06", "rotation")
    lift = evidence.value("SP-GRAFT-09", "condyle") - SINK_MM
    best: tuple[float, Rigid, Surface] | None = None
    # A condyle, or the notch between both, comes to lie on the pubic face: whatever covers it best.
    apart = evidence.value("SP-GRAFT-09", "apart")
    for beside in (0.5 * apart, -0.5 * apart, 0.0):
        placed = _turned(femur, top, foot + lift * pubis.plane.normal, turn, beside)
        surface = _trimmed(femur, placed, seat, pubis)
        ramus = _covered(surface, pubis)
        if best is None or ramus > best[0] + 1e-6:
            best = (ramus, placed, surface)
    assert best is not None
    ramus, placed, surface = best
    shoulder, tongue, riser, surface = _step(surface, seat, top, step, medial)
    screws = _screws(surface, seat, top, unit(foot - top), medial)
    reach = reach_of(femur, placed, vessels)
    plan = FemurPlan(
        surface, placed, length, available, turn, shoulder, tongue, riser, ramus, screws, reach, ()
    )
    return _doubted(plan)


def reach_of(femur: Femur, placed: Rigid, vessels: FloatArray) -> Reach:
    """Budget of the vessels from ``vessels`` (3,) to their entry into the distal half (SP-GRAFT-09)."""
    share = evidence.value("SP-GRAFT-09", "entry")
    entry = femur.middle.point + share * (femur.knee - femur.middle.point)
    moved = placed.points(entry)
    before, after = entry - vessels, moved - vessels
    turn = float(np.degrees(np.arccos(np.clip(unit(before) @ unit(after), -1.0, 1.0))))
    return Reach(float(np.linalg.norm(before)), float(np.linalg.norm(after)), turn)


def _turned(
    femur: Femur, top: FloatArray, foot: FloatArray, angle_deg: float, beside_mm: float
) -> Rigid:
    """The motion: shaft onto the line L5 to pubis by the shortest turn, then inwards about itself.

    The middle of the shaft, where it will be cut, comes to lie at ``top``; the point between the condyles
    (``beside_mm`` lateral of it: the middle of one of them) at ``foot``.
    """
    d = femur.down
    across = np.cross(d, femur.anterior)
    end = femur.knee + beside_mm * across
    level = Plane(end - float(np.linalg.norm(foot - top)) * d, d, femur.surface.frame)
    # A femur bows: its shaft does not lie on the line from head to knee.
    middle = nearest_loops(section(femur.surface, level)).centroid
    t = unit(foot - top)
    # Inward is from the front to the midline: about the downward axis, seen from the head, to the left
    # on a right leg.
    sign = -1.0 if femur.side == "right" else 1.0
    turn = _rotation_about(t, sign * np.radians(angle_deg))
    rotation = turn @ _rotation_between(unit(end - middle), t)
    return Rigid(rotation, foot - rotation @ end)


def _covered(surface: Surface, pubis: Seat) -> float:
    """Share (%) of the pubic face on which the graft's flat lies."""
    grid = grid_in(pubis.region, 2.0 * FACE_MM)
    cross = section(surface, pubis.plane.shifted(0.05))
    if not cross.loops or not len(grid):
        return 0.0
    return 100.0 * float(inside(cross.loops, cross.to_plane(grid)).mean())


def _rotation_about(axis: FloatArray, radians: float) -> FloatArray:
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + np.sin(radians) * k + (1.0 - np.cos(radians)) * (k @ k))


def _rotation_between(a: FloatArray, b: FloatArray) -> FloatArray:
    cross, cosine = np.cross(a, b), float(np.clip(a @ b, -1.0, 1.0))
    size = float(np.linalg.norm(cross))
    axis = cross / size if size > 1e-9 else perpendicular(a)
    return _rotation_about(axis, float(np.arctan2(size, cosine)))


SINK_MM = 12.0
"""How far the condyles are pressed beyond the pubic face before they are cut flat on it: a round end
would touch a face in one point only."""


CONDYLES = 1.6
"""Condyles reach so many of their radii above their middle; above that is shaft, which may lean over the
plane of the pubic face and is not cut by it."""


def _trimmed(femur: Femur, placed: Rigid, seat: Seat, pubis: Seat) -> Surface:
    """The moved bone between both faces, condyles flattened on the pubis."""
    height = CONDYLES * evidence.value("SP-GRAFT-09", "condyle")
    neck = Plane(femur.knee - height * femur.down, femur.down, femur.surface.frame)
    moved = to_manifold(femur.surface.transformed(placed, seat.frame), "the femur")
    at = neck.transformed(placed)
    condyles, shaft = moved.split_by_plane(tuple(at.normal), float(at.normal @ at.point))
    n = pubis.plane.normal
    body = shaft + condyles.trim_by_plane(tuple(n), float(n @ pubis.plane.point))
    # The tongue stands proud of L5's flat; the step is cut from it below.
    step = evidence.value("SP-GRAFT-05", "step")
    out = seat.plane.normal
    body = body.trim_by_plane(tuple(out), float(out @ seat.plane.point) - step)
    if body.is_empty():
        raise PlanError("The femur does not lie between L5 and the pubis; check the seats.")
    target = seat.region.centroid
    pieces = [from_manifold(p, seat.frame) for p in body.decompose()]
    return min(pieces, key=lambda s: float(np.linalg.norm(s.vertices - target, axis=1).min()))


def _step(
    surface: Surface, seat: Seat, top: FloatArray, step_mm: float, medial: FloatArray
) -> tuple[Contact, Contact, float, Surface]:
    """Cut the step: the medial half enters a notch in L5, the lateral half is its shoulder."""
    gap = evidence.value("SP-GRAFT-05", "fit")
    n = seat.plane.normal
    cross = nearest_loops(section(surface, Plane(top, n, seat.frame)))
    if not cross.loops:
        raise PlanError("The femur's shaft does not reach L5's endplate; check its direction.")
    at = cross.centroid
    m = unit(np.asarray(medial) - float(np.asarray(medial) @ n) * n)
    w = np.cross(n, m)
    frame = AxisFrame("step", at, np.stack([m, w, np.cross(m, w)], axis=1), seat.frame)
    up = -float(n @ frame.axes[:, 2])  # which way is into L5
    low, high = (0.0, step_mm + 1.0) if up > 0 else (-step_mm - 1.0, 0.0)
    lateral = box(frame, [-100.0, -100.0, low], [0.0, 100.0, high])
    stepped = difference(surface, lateral)
    shoulder_face = half(cross, at, -m)
    shoulder = touching(seat, shoulder_face, gap)
    notch = seat.lowered(step_mm)
    tongue_cross = nearest_loops(section(surface, notch.plane.shifted(0.05)))
    tongue = touching(notch, half(tongue_cross, at, m), gap) if tongue_cross.loops else Contact(
        0.0, 0.0, np.inf
    )  # fmt: skip
    every = np.concatenate(cross.loops)
    across = cross.axes[:, :2].T @ w
    width = float(np.ptp(every @ across))
    return shoulder, tongue, width * step_mm / 100.0, stepped


def _screws(
    surface: Surface, seat: Seat, top: FloatArray, down: FloatArray, medial: FloatArray
) -> tuple[LagScrew, ...]:
    """Two lag screws from the lateral side of the shaft through the step into L5."""
    import igl

    from sacroplan.geometry.tree import face_tree

    count = int(evidence.value("SP-GRAFT-05", "screws"))
    diameter = evidence.value("SP-GRAFT-05", "screw_diameter")
    off = 0.9 * evidence.value("SP-GRAFT-05", "screw_angle")
    wanted = evidence.value("SP-GRAFT-06", "purchase")
    n = -seat.plane.normal  # into L5
    m = unit(np.asarray(medial) - float(np.asarray(medial) @ n) * n)
    w = np.cross(n, m)
    tree = face_tree(surface)
    out = []
    for k in range(count):
        side = (k - 0.5 * (count - 1)) * 2.5 * diameter
        direction = unit(np.cos(np.radians(off)) * n + np.sin(np.radians(off)) * m)
        through = top + side * w
        distance, _ = tree.first_hits((through - 2.0 * n)[None], -direction[None], 1.0)
        entry = through - 2.0 * n - float(distance[0]) * direction
        s = np.arange(0.0, wanted + 20.0, SCREW_STEP_MM)
        line = np.ascontiguousarray(through + s[:, None] * direction)
        signed = np.asarray(
            igl.signed_distance(
                line,
                seat.host.vertices,
                seat.host.faces,
                igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER,
            )[0]
        )
        held = signed < -0.5 * diameter
        outside = np.flatnonzero(held[:-1] & ~held[1:])
        last = int(outside[0]) if len(outside) else len(s) - 1
        purchase = float(np.count_nonzero(held[: last + 1])) * SCREW_STEP_MM
        out.append(
            LagScrew(
                entry, line[last], diameter, purchase,
                float(np.degrees(np.arccos(np.clip(direction @ n, -1.0, 1.0)))),
            )
        )  # fmt: skip
    return tuple(out)


def solid_of(screw: LagScrew, frame: str) -> Surface:
    """A lag screw as a plain cylinder."""
    return cylinder(screw.entry, screw.tip, 0.5 * screw.diameter_mm, 24, frame)


def _doubted(plan: FemurPlan) -> FemurPlan:
    from dataclasses import replace

    doubts = []
    if not plan.reach.ok:
        doubts.append(
            Doubt(
                "plan", "grafts.femur.pedicle",
                f"The femoral vessels are {plan.reach.available_mm:.0f} mm long to the bone and would have "
                f"to span {plan.reach.needed_mm:.0f} mm: the bone does not reach on its vessels, a free flap "
                "is needed.", ("R-13",),
            )
        )  # fmt: skip
    for name, metric in plan.metrics().items():
        if metric.within is False and not name.startswith("grafts.femur.pedicle"):
            limit = metric.lower if metric.lower is not None else metric.upper
            doubts.append(
                Doubt(
                    "plan", name,
                    f"{metric.label}: {metric.value:.1f} {metric.unit}; wanted are {limit:.1f} "
                    f"{metric.unit}.",
                    metric.rows,
                )
            )  # fmt: skip
    return replace(plan, doubts=tuple(doubts))


def pubic_seat(name: str, host: Surface, face: Plane, outline: CrossSection) -> Seat:
    """The cut face of the pubic remnant as a seat."""
    from sacroplan.grafts.seats import sawn_seat

    return sawn_seat(name, host, face, outline)
