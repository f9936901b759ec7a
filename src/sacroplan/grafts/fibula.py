"""Struts of fibula between seats: harvest, cut angles, contact, vessels, loads [HANDBOOK 9.1, 9.4]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt, PlanError
from sacroplan.geometry.booleans import overlap_mm3
from sacroplan.geometry.frames import FloatArray, Plane, Rigid, perpendicular, unit
from sacroplan.geometry.slicing import CrossSection
from sacroplan.geometry.surface import Surface
from sacroplan.grafts.donor import Donor
from sacroplan.grafts.seats import GRID_MM, Contact, Seat, grid_in, inset, touching
from sacroplan.grafts.strut import (
    SectionFigures,
    bearing_mpa,
    euler_n,
    figures_of,
    shear_and_axial_n,
)
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress, silent

DEPTH_STEP_MM = 0.25
"""Step by which a seat is milled deeper until the end face touches."""

ROLLS = 12
"""Turns about the strut's own axis that are tried."""

ENOUGH_PERCENT = 95.0
"""Both ends touching with this much of their face, no further turn is tried."""

SECTIONS = 5
"""Sections along a strut at which its second moment is measured; the least counts."""


@dataclass(frozen=True, eq=False)
class Way:
    """One strut to be: from the seat at its distal end to the seat at its proximal end.

    ``start``, ``end`` : (3,) middles of the end faces on the two flats.
    """

    name: str
    distal: Seat
    proximal: Seat
    start: FloatArray
    end: FloatArray

    @property
    def axis(self) -> FloatArray:
        """(3,) unit vector from the distal to the proximal end."""
        return unit(self.end - self.start)

    @property
    def length_mm(self) -> float:
        """Distance of the two middles."""
        return float(np.linalg.norm(self.end - self.start))


@dataclass(frozen=True, eq=False)
class Segment:
    """A planned strut.

    Attributes
    ----------
    way : where it goes. surface : the piece in the patient. placed : donor to patient.
    cuts : (distal, proximal) planes in the donor, normals out of the segment.
    stations_mm : lowest and highest station of the donor that it uses.
    contact : (distal, proximal). milled_mm : depth of each milled flat. milled_mm3 : bone milled away.
    cut_angles_deg : of each cut against a square one. section : least section, medulla taken out.
    angle_deg : axis against the load line.
    """

    way: Way
    surface: Surface
    placed: Rigid
    cuts: tuple[Plane, Plane]
    stations_mm: tuple[float, float]
    contact: tuple[Contact, Contact]
    milled_mm: tuple[float, float]
    milled_mm3: float
    cut_angles_deg: tuple[float, float]
    section: SectionFigures
    angle_deg: float

    @property
    def length_mm(self) -> float:
        """Length along its axis, middle to middle."""
        return self.way.length_mm

    @property
    def buckling_n(self) -> float:
        """Euler's critical load, pinned at both ends."""
        modulus = 1000.0 * evidence.value("SP-GRAFT-02", "modulus")
        return euler_n(modulus, self.section.i_min_mm4, self.length_mm)

    def pressure_mpa(self, force_n: float) -> float:
        """Mean pressure (MPa) of the worse end under ``force_n`` along the load line.

        The medulla bears nothing and is taken out of the face that touches.
        """
        _, axial = shear_and_axial_n(force_n, self.angle_deg)
        medulla = 0.25 * np.pi * evidence.value("FIB-05", "medulla") ** 2
        bearing = [c.area_mm2 - 0.01 * c.share_percent * medulla for c in self.contact]
        return bearing_mpa(axial, max(min(bearing), 1e-6))


@dataclass(frozen=True, eq=False)
class FibulaPlan:
    """Struts of one fibula.

    Attributes
    ----------
    segments : in the order in which they lie in the donor, distal first.
    fold_mm : (n - 1,) bone taken out between neighbours. harvest_mm : lowest and highest station used.
    pedicle_mm : length of the vessels with the proximal bone discarded [FIB-03].
    """

    donor: Donor
    segments: tuple[Segment, ...]
    fold_mm: tuple[float, ...]
    harvest_mm: tuple[float, float]
    pedicle_mm: float
    doubts: tuple[Doubt, ...]

    @property
    def needed_mm(self) -> float:
        """Length of fibula that is harvested."""
        return self.harvest_mm[1] - self.harvest_mm[0]

    @property
    def available_mm(self) -> float:
        """Length of fibula that may be harvested: the window, at most FIB-01's longest."""
        low, high = self.donor.window_mm
        return min(high - low, evidence.span("FIB-01", "length")[1])

    def metrics(self) -> Metrics:
        """Figures under ``grafts.fibula.*``."""
        force = evidence.value("SP-GRAFT-03", "force")
        low, high = self.donor.window_mm
        out: Metrics = {
            "grafts.fibula.segments": Metric(len(self.segments), "count", "Segments of fibula"),
            "grafts.fibula.needed_mm": Metric(
                self.needed_mm, "mm", "Fibula harvested, folds and saw cuts included",
                ("FIB-01", "FIB-02", "FIB-07"), upper=self.available_mm,
            ),
            "grafts.fibula.available_mm": Metric(
                self.available_mm, "mm", "Fibula that may be harvested", ("FIB-01", "FIB-02")
            ),
            "grafts.fibula.lowest_station_mm": Metric(
                self.harvest_mm[0], "mm", "Lowest cut above the lateral malleolus' tip", ("FIB-02",),
                lower=low,
            ),
            "grafts.fibula.highest_station_mm": Metric(
                self.harvest_mm[1], "mm", "Highest cut above the lateral malleolus' tip", ("FIB-02",),
                upper=high,
            ),
            "grafts.fibula.pedicle_mm": Metric(
                self.pedicle_mm, "mm", "Length of the vessels, proximal bone discarded", ("FIB-03",)
            ),
        }  # fmt: skip
        for s in self.segments:
            key = f"grafts.fibula.{s.way.name}"
            what = s.way.name.replace("_", " ")
            out |= {
                f"{key}.length_mm": Metric(
                    s.length_mm, "mm", f"Length, {what}", ("FIB-07",),
                    lower=evidence.span("FIB-07", "segment")[0],
                ),
                f"{key}.contact_percent": Metric(
                    min(c.share_percent for c in s.contact), "%",
                    f"End face within {evidence.value('SP-GRAFT-04', 'gap'):g} mm of its seat, worse "
                    f"end, {what}", ("SP-GRAFT-04",), lower=evidence.value("SP-GRAFT-04", "share"),
                ),
                f"{key}.angle_deg": Metric(
                    s.angle_deg, "deg", f"Angle to the load line, {what}", ("SP-GRAFT-01",),
                    upper=evidence.value("SP-GRAFT-01", "angle"),
                ),
                f"{key}.buckling_n": Metric(
                    s.buckling_n, "N", f"Load at which it would buckle, {what}",
                    ("SP-GRAFT-02", "FIB-05"),
                ),
                f"{key}.pressure_mpa": Metric(
                    s.pressure_mpa(force), "MPa", f"Pressure of the worse end under {force:g} N, {what}",
                    ("SP-GRAFT-03",), upper=evidence.value("SP-GRAFT-03", "pressure"),
                ),
            }  # fmt: skip
            for n, end in enumerate(("distal", "proximal")):
                out[f"{key}.{end}.cut_angle_deg"] = Metric(
                    s.cut_angles_deg[n], "deg", f"{end.capitalize()} cut off square, {what}"
                )
                out[f"{key}.{end}.milled_mm"] = Metric(
                    s.milled_mm[n], "mm", f"Depth of the {end} seat, {what}", ("SP-GRAFT-04",)
                )
        return out


def ways_between(
    upper: Seat, lower: Seat, load: FloatArray, radius_mm: float, count: int, name: str
) -> list[Way]:
    """``count`` struts (1 or 2) from ``upper`` to ``lower``, as steep to the load line as they go.

    Ends stay ``radius_mm`` inside both seats; two struts lie beside each other without touching.
    ``load`` (3,) points along the load. Raises :class:`PlanError` where the seats are too small.
    """
    tops = grid_in(inset(upper.region, radius_mm), GRID_MM)
    feet = grid_in(inset(lower.region, radius_mm), GRID_MM)
    for seat, points in ((upper, tops), (lower, feet)):
        if not len(points):
            raise PlanError(
                f"The seat {seat.name} is too small for a strut of {2 * radius_mm:.0f} mm; its region "
                f"measures {seat.region.area_mm2:.0f} mm2."
            )
    down = unit(load)
    run = feet[None] - tops[:, None]
    length = np.linalg.norm(run, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(length > 1e-6, (run @ down) / length, -1.0)
    # Steepest first; of equally steep ones the shortest.
    order = np.lexsort((length.ravel().round(3), -cosine.ravel().round(4)))
    pairs = np.stack(np.unravel_index(order, length.shape), axis=1)
    found: list[tuple[int, int]] = []
    room = 2.0 * radius_mm + 1.0
    for i, j in pairs:
        apart = all(
            np.linalg.norm(tops[i] - tops[a]) >= room and np.linalg.norm(feet[j] - feet[b]) >= room
            for a, b in found
        )
        if apart:
            found.append((int(i), int(j)))
        if len(found) == count:
            break
    if len(found) < count:
        raise PlanError(
            f"Only {len(found)} strut fits between {upper.name} and {lower.name}; {count} were asked for."
        )
    names = [name] if count == 1 else [f"{name}_{n + 1}" for n in range(count)]
    return [Way(n, lower, upper, feet[j], tops[i]) for n, (i, j) in zip(names, found, strict=True)]


def turned(way: Way) -> Way:
    """The same strut with its distal end where its proximal end was."""
    return Way(way.name, way.proximal, way.distal, way.end, way.start)


def plan_fibula(
    donor: Donor,
    ways: Sequence[Way],
    load: FloatArray,
    kerf_mm: float | None = None,
    recipient: FloatArray | None = None,
    progress: Progress = silent,
) -> FibulaPlan:
    """Cut the struts out of one fibula, from the window's distal end upwards.

    Neighbours in the donor stay joined by periosteum, so every second strut is turned round to bring
    their near ends together, and as much bone is taken out between them as the fold needs [FIB-07]. The
    bone proximal of them is discarded, which lengthens the vessels [FIB-03]; ``recipient`` (3,) or
    (k, 3) is the vessel to which they are joined, the nearest of several. Raises :class:`PlanError`
    where the fibula is too short.
    """
    if not 1 <= len(ways) <= 4:
        raise PlanError(f"One fibula gives one to four segments, not {len(ways)}.")
    kerf = evidence.value("GDE-05", "kerf") if kerf_mm is None else kerf_mm
    least, most = evidence.span("FIB-07", "fold_gap")
    ordered = _folded(list(ways), least)
    low, high = donor.window_mm
    at = low
    segments: list[Segment] = []
    folds: list[float] = []
    for n, way in enumerate(ordered):
        progress(n / len(ordered), f"segment {way.name}")
        if segments:
            bridge = float(np.linalg.norm(segments[-1].way.end - way.start))
            folds.append(max(least, bridge) + kerf)
            at = segments[-1].stations_mm[1] + folds[-1]
        segments.append(_segment(donor, way, load, at))
    top = segments[-1].stations_mm[1]
    harvest = (segments[0].stations_mm[0], top)
    base = evidence.value("FIB-03", "length")
    pedicle = min(base + max(high - top, 0.0), evidence.value("FIB-03", "longest"))
    plan = FibulaPlan(donor, tuple(segments), tuple(folds), harvest, pedicle, ())
    if harvest[1] > high or plan.needed_mm > plan.available_mm:
        raise PlanError(
            f"The struts need {plan.needed_mm:.0f} mm of fibula up to {harvest[1]:.0f} mm above the ankle; "
            f"{plan.available_mm:.0f} mm up to {high:.0f} mm may be harvested. Use fewer or shorter struts."
        )
    progress(1.0, "fibula planned")
    return replace(plan, doubts=_doubts(plan, most, recipient))


def _folded(ways: list[Way], least_mm: float) -> list[Way]:
    """Order and direction of the struts in the donor for which the folds take least bone."""
    best: tuple[float, list[Way]] = (np.inf, ways)
    for order in permutations(ways):
        for first in (order[0], turned(order[0])):
            chain, total = [first], 0.0
            for way in order[1:]:
                choices = (way, turned(way))
                gaps = [float(np.linalg.norm(chain[-1].end - w.start)) for w in choices]
                chain.append(choices[int(np.argmin(gaps))])
                total += max(least_mm, min(gaps))
            if total < best[0] - 1e-9:
                best = (total, chain)
    return best[1]


def _segment(donor: Donor, way: Way, load: FloatArray, at_mm: float) -> Segment:
    """One strut whose lowest point lies at station ``at_mm``, its seats milled as deep as they need."""
    share = evidence.value("SP-GRAFT-04", "share")
    deepest = evidence.value("SP-GRAFT-04", "deepest_seat")
    milled, start = (0.0, 0.0), at_mm
    while True:
        # An oblique end reaches below its middle, so the piece moves up the donor by that much.
        for _ in range(3):
            laid = _lay(donor, way, start, milled)
            short = at_mm - laid.lowest_mm(donor)
            if abs(short) <= 0.05:
                break
            start += short
        seats = (way.distal, way.proximal)
        deeper = [
            seat.milled and c.share_percent < share and d + DEPTH_STEP_MM <= deepest
            for seat, c, d in zip(seats, laid.contact, milled, strict=True)
        ]
        if not any(deeper):
            return _cut_out(donor, laid, load)
        milled = (
            milled[0] + DEPTH_STEP_MM * deeper[0],
            milled[1] + DEPTH_STEP_MM * deeper[1],
        )


@dataclass(frozen=True, eq=False)
class _Laid:
    """The donor laid on a way: the way with its milled seats, the motion, the ends' sections."""

    way: Way
    placed: Rigid
    milled: tuple[float, float]
    tail: FloatArray
    head: FloatArray
    ends: tuple[CrossSection, CrossSection]
    contact: tuple[Contact, Contact]

    def lowest_mm(self, donor: Donor) -> float:
        """Lowest station of the distal end."""
        end = self.ends[0]
        return float(donor.stations_of(end.to_world(np.concatenate(end.loops))).min())


def _lay(donor: Donor, way: Way, start_mm: float, milled: tuple[float, float]) -> _Laid:
    """Lay the donor's chord from ``start_mm`` on the way, turned about it so that both ends touch best."""
    gap = evidence.value("SP-GRAFT-04", "gap")
    seats = way.distal.lowered(milled[0]), way.proximal.lowered(milled[1])
    a = way.start - milled[0] * way.distal.plane.normal
    b = way.end - milled[1] * way.proximal.plane.normal
    here = replace(way, distal=seats[0], proximal=seats[1], start=a, end=b)
    stop = donor.chord_end(start_mm, here.length_mm)
    tail, head = donor.centre(start_mm), donor.centre(stop)
    best: _Laid | None = None
    for n in range(ROLLS):
        placed = _laid(tail, head, here, 2.0 * np.pi * n / ROLLS)
        ends = tuple(
            _end(donor, placed, seat, p) for seat, p in zip(seats, (tail, head), strict=True)
        )
        contact = tuple(
            touching(seat, _moved(end, placed, seat.frame), gap)
            for seat, end in zip(seats, ends, strict=True)
        )
        found = _Laid(here, placed, milled, tail, head, ends, contact)  # type: ignore[arg-type]
        if best is None or _worst(found) > _worst(best) + 1e-9:
            best = found
        if _worst(best) > ENOUGH_PERCENT:
            break
    assert best is not None
    return best


def _worst(laid: _Laid) -> float:
    return min(c.share_percent for c in laid.contact)


def _cut_out(donor: Donor, laid: _Laid, load: FloatArray) -> Segment:
    """The piece itself, its section and its angles."""
    way, placed = laid.way, laid.placed
    back = placed.inverse()
    # A seat's normal points into the strut: the piece lies on its positive side.
    cuts = tuple(s.plane.flipped().transformed(back) for s in (way.distal, way.proximal))
    middle = 0.5 * (laid.tail + laid.head)
    piece = min(
        donor.piece(cuts).bodies(),
        key=lambda s: float(np.linalg.norm(s.vertices - middle, axis=1).min()),
    )
    reach = donor.stations_of(piece.vertices)
    chord = unit(laid.head - laid.tail)
    sections = [
        figures_of(
            donor.section(Plane(laid.tail + t * (laid.head - laid.tail), chord, donor.frame)).loops
        )
        for t in np.linspace(0.15, 0.85, SECTIONS)
    ]
    thinnest = min(sections, key=lambda f: f.i_min_mm4)
    surface = piece.transformed(placed, way.distal.frame)
    cosine = abs(float(way.axis @ unit(load)))
    return Segment(
        way, surface, placed, (cuts[0], cuts[1]), (float(reach.min()), float(reach.max())),
        laid.contact, laid.milled,
        sum(overlap_mm3(surface, s.host) for s in (way.distal, way.proximal)),
        (_off_square(cuts[0], -chord), _off_square(cuts[1], chord)),
        thinnest.without_medulla(evidence.value("FIB-05", "medulla")),
        float(np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0)))),
    )  # fmt: skip


def _off_square(cut: Plane, out: FloatArray) -> float:
    return float(np.degrees(np.arccos(np.clip(float(cut.normal @ out), -1.0, 1.0))))


def _laid(tail: FloatArray, head: FloatArray, way: Way, roll: float) -> Rigid:
    """Rigid motion that lays the chord tail-head on the way, turned by ``roll`` about it."""
    d, t = unit(head - tail), way.axis
    u, w = perpendicular(d), perpendicular(t)
    w = np.cos(roll) * w + np.sin(roll) * np.cross(t, w)
    own = np.stack([d, u, np.cross(d, u)], axis=1)
    new = np.stack([t, w, np.cross(t, w)], axis=1)
    rotation = new @ own.T
    return Rigid(rotation, way.start - rotation @ tail)


def _end(donor: Donor, placed: Rigid, seat: Seat, middle: FloatArray) -> CrossSection:
    """The donor's section in a seat's plane, in the donor, where the strut's own end lies."""
    here = seat.plane.transformed(placed.inverse())
    foot = middle - float(here.distance(middle)) * here.normal
    cross = donor.section(Plane(foot, here.normal, donor.frame))
    if not cross.loops:
        raise PlanError(f"At the seat {seat.name} the donor bone has no section to be cut.")
    return cross


def _moved(cross: CrossSection, placed: Rigid, frame: str) -> CrossSection:
    """A section of the donor in the patient."""
    return replace(
        cross, origin=placed.points(cross.origin), axes=placed.rotation @ cross.axes, frame=frame
    )


def _doubts(plan: FibulaPlan, most_fold: float, recipient: FloatArray | None) -> tuple[Doubt, ...]:
    out = [
        Doubt(
            "plan", "grafts.fibula.arteries",
            "The donor foot may live on the peroneal artery alone (5 to 7 % of legs): show both legs' "
            "arteries before the harvest.", ("FIB-04",),
        )
    ]  # fmt: skip
    least = evidence.span("FIB-07", "segment")[0]
    share, angle = evidence.value("SP-GRAFT-04", "share"), evidence.value("SP-GRAFT-01", "angle")
    force, limit = evidence.value("SP-GRAFT-03", "force"), evidence.value("SP-GRAFT-03", "pressure")
    for s in plan.segments:
        name = s.way.name.replace("_", " ")
        if s.length_mm < least:
            out.append(
                Doubt(
                    "plan", f"grafts.fibula.{s.way.name}.short",
                    f"The strut {name} is {s.length_mm:.0f} mm long; a segment shorter than {least:g} mm "
                    "may lose its periosteal blood.", ("FIB-07",),
                )
            )  # fmt: skip
        worst = min(c.share_percent for c in s.contact)
        if worst < share:
            out.append(
                Doubt(
                    "plan", f"grafts.fibula.{s.way.name}.contact",
                    f"The strut {name} touches its seat with {worst:.0f} % of an end face; {share:g} % are "
                    "wanted. Place it further inside the bone or mill deeper.", ("SP-GRAFT-04",),
                )
            )  # fmt: skip
        if s.angle_deg > angle:
            shear, _ = shear_and_axial_n(force, s.angle_deg)
            out.append(
                Doubt(
                    "plan", f"grafts.fibula.{s.way.name}.angle",
                    f"The strut {name} stands {s.angle_deg:.0f} degrees off the load line; beyond {angle:g} "
                    f"degrees its ends slide ({shear:.0f} of {force:g} N are shear). Rods must carry it.",
                    ("SP-GRAFT-01",),
                )
            )  # fmt: skip
        pressure = s.pressure_mpa(force)
        if pressure > limit:
            out.append(
                Doubt(
                    "plan", f"grafts.fibula.{s.way.name}.bearing",
                    f"Under {force:g} N the strut {name} presses {pressure:.1f} MPa on its seat; an endplate "
                    f"bears about {limit:g} MPa. Give it a cap or a wider foot.", ("SP-GRAFT-03",),
                )
            )  # fmt: skip
    for n, fold in enumerate(plan.fold_mm):
        if fold > most_fold + 10.0:
            out.append(
                Doubt(
                    "plan", f"grafts.fibula.fold_{n + 1}",
                    f"Between two struts {fold:.0f} mm of bone are taken out to let the fold reach; "
                    f"{most_fold:g} mm are usual.", ("FIB-07",),
                )
            )  # fmt: skip
    if len(plan.segments) == 2:
        limb = evidence.value("FIB-07", "limb")
        longest = 100.0 * max(s.length_mm for s in plan.segments) / plan.needed_mm
        if longest > limb + 1e-6:
            out.append(
                Doubt(
                    "plan", "grafts.fibula.limb",
                    f"One limb takes {longest:.0f} % of the harvest; a double barrel's limbs should not pass "
                    f"{limb:g} %.", ("FIB-07",),
                )
            )  # fmt: skip
    if recipient is not None:
        s = plan.segments[-1]
        reach = float(np.linalg.norm(np.atleast_2d(recipient) - s.way.end, axis=1).min())
        if reach > plan.pedicle_mm:
            out.append(
                Doubt(
                    "plan", "grafts.fibula.pedicle",
                    f"The nearest recipient vessel is {reach:.0f} mm from the graft's proximal end; its own "
                    f"vessels are {plan.pedicle_mm:.0f} mm long. Plan a vein graft or another vessel.",
                    ("FIB-03",),
                )
            )  # fmt: skip
    return tuple(out)
