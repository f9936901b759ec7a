"""Every design on eight synthetic patients and a real pelvis: predicates, overlap, seats, rods, nerves."""

import time
from dataclasses import replace

import numpy as np
import pytest
from guide_cases import FEMALE, MALE, PHANTOMS, bones_of

from sacroplan.anatomy.landmarks import find
from sacroplan.case.steps.implant import defect
from sacroplan.errors import GeometryError, PlanError
from sacroplan.fixation.corridor import plan_pedicle_screw
from sacroplan.fixation.rods import plan_rods
from sacroplan.fixation.wings import plan_wing_screws
from sacroplan.geometry.booleans import bodies, overlap_mm3
from sacroplan.geometry.tree import face_tree
from sacroplan.implant.choice import reconstruction
from sacroplan.implant.seats import seat_margin
from sacroplan.implant.two_wing import design
from sacroplan.resection.plan import plan_resection
from sacroplan.resection.presets import PRESETS, Choice
from sacroplan.resection.site import Site
from sacroplan.resection.tumour import Ellipsoid, tumour_from_shapes

pytestmark = pytest.mark.slow

DESIGNS = {
    "total": (Choice("total"), None),
    "self-stabilising": (Choice("total"), "self_stabilising"),
    "hemi left": (PRESETS["hemi-left"], None),
    "hemi right": (PRESETS["hemi-right"], None),
    "hemi right with half of L5": (PRESETS["hemi-with-l5-right"], None),
    "Kaiser 2025, case 2": (PRESETS["kaiser-2025-case-2"], None),
}

COLUMNS = (
    "design", "s", "mass g", "of bone", "overlap mm3", "seat mean / p95 mm", "seat reached %",
    "wings' balance", "least section mm2", "neck", "wall mm", "nerves mm", "screw to edge mm",
    "rod off post mm", "doubts",
)  # fmt: skip


def heads(bones, found, construct):
    """Heads and directions of the pedicle screws beside the implant, by side, cranial first."""
    out = {"left": [], "right": []}
    for word in construct.split("-") if construct else ():
        if not word.startswith("L") or f"{word}SEP" not in found.frames or word not in bones:
            continue
        for side, screws in out.items():
            try:
                plan = plan_pedicle_screw(
                    bones[word], word, side, found.frames[f"{word}SEP"], found.frames[f"{word}IEP"]
                )
            except PlanError as error:
                print(f"no screw in {word} {side}: {error}")
                continue
            screws.append((plan.screw.head, plan.screw.direction))
    return out


def implanted(bones, found, name, tumour=None):
    """Resection, screws, implant and rods of one design; also the seconds that the body took."""
    choice, wanted = DESIGNS[name]
    plan = plan_resection(Site(bones, found.frames, found.points, tumour), choice)
    what = reconstruction(choice, wanted)
    inp = defect(plan, bones, found, what)
    planned = []
    for side in () if what.joint else what.sides:
        try:
            planned += plan_wing_screws(
                plan.remnants[f"hip_{side}"], plan.cut(f"iliac_{side}").remnant_face, side,
                found.frames["pelvis"], found.points, found.hip_radius_mm.get(side),
                seat_margin=lambda p, side=side: seat_margin(inp, p, side),
            )  # fmt: skip
        except PlanError as error:
            print(f"no wing corridor {side}: {error}")
    used = {n: s for n, s in {**bones, **plan.remnants}.items() if n not in plan.specimen
            or n in plan.remnants}  # fmt: skip
    anchors = heads(used, found, what.construct)
    screws = tuple((p.screw.name, p.screw.entry, p.screw.tip, p.screw.diameter_mm) for p in planned)
    if {p.screw.side for p in planned} != set(what.sides):
        screws = ()
    inp = replace(
        inp, wing_screws=screws,
        rod_targets={s: anchors[s][-1][0] for s in what.rods if anchors[s]},
    )  # fmt: skip
    begin = time.perf_counter()
    implant = design(inp)
    seconds = time.perf_counter() - begin
    off = 0.0
    if implant.posts and anchors["left"]:
        held = {p.side: [(p.centre, -p.opening)] for p in implant.posts}
        sides = {s: anchors[s] for s in held}
        rods = plan_rods(sides, held, implant.posts[0].diameter, [*used.values()], implant.core)
        for rod in rods.plans:
            (post,) = [p for p in implant.posts if p.side == rod.side]
            away = np.linalg.norm(rod.polyline - post.centre, axis=1).min()
            off = max(off, float(away))
    return inp, implant, seconds, off


def values(implant, start="", end=""):
    return [
        m.value
        for n, m in implant.metrics().items()
        if n.startswith(f"implant.{start}")
        and n.endswith(end)
        and isinstance(m.value, (int, float))
    ]


def row(name, inp, implant, seconds, off, symmetric):
    """Print the row of one design; return what does not hold."""
    solids = [implant.core, *implant.porous.values()]
    bones = [inp.l5, *(s.hip for s in inp.seats), *(f.bone for f in inp.flats), *inp.keep_clear]
    shared = sum(overlap_mm3(s, b) for s in solids for b in bones)
    figure = {n.removeprefix("implant."): m.value for n, m in implant.metrics().items()}
    mean, p95 = max(values(implant, end="seat_mean_mm")), max(values(implant, end="seat_p95_mm"))
    reached = min(values(implant, end="seat_share_percent"))
    edges = values(implant, "screws.", ".edge_mm")
    nerves = [v for k in ("dural", "root") for v in values(implant, f"clearance.{k}", "_mm")]
    codes = sorted({d.code.removeprefix("implant.") for d in implant.doubts})
    cells = (
        name, f"{seconds:.1f}", f"{figure['mass_g']:.0f}", f"{figure['mass_ratio']:.2f}",
        f"{shared:.3f}", f"{mean:.3f} / {p95:.3f}", f"{reached:.0f}",
        f"{figure['balance']:.2f}" if "balance" in figure else "-",
        f"{min(values(implant, 'load_path.', 'area_mm2')):.0f}",
        f"{min(values(implant, 'load_path.', 'neck')):.2f}", f"{figure['wall_mm']:.2f}",
        f"{min(nerves):.1f}" if nerves else "-", f"{min(edges):.1f}" if edges else "-",
        f"{off:.2f}", ", ".join(codes) or "none",
    )  # fmt: skip
    print("| " + " | ".join(cells) + " |", flush=True)
    told = {
        "closed": all(solid.is_closed for solid in solids),
        "one body each": all(len(bodies(solid)) == 1 == solid.body_count() for solid in solids),
        "no crossing faces": all(face_tree(solid).crossing_faces()[0] == 0 for solid in solids),
        "no void": figure["enclosed_voids"] == 0,
        "no bone shared": shared < 1.0,
        "seats' mean": mean <= 0.05,
        "seats' 95th percentile": p95 <= 0.15,
        "seats reached": reached >= 80.0,
        "rods on posts": off < 1.0,
        "sections": min(values(implant, "load_path.", "area_mm2")) >= 95.0,
        "nerves": not nerves or min(nerves) >= 1.0,
        "mass": figure["mass_ratio"] <= 1.0,
        "balance": not symmetric or figure.get("balance", 1.0) >= 0.8,
    }
    return [f"{name}: {what}" for what, holds in told.items() if not holds]


def head(title):
    print(f"\n{title}\n\n| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))


def every_design(title, bones, geometry, symmetric, tumours):
    """One row per design; every design is tried, whatever an earlier one missed."""
    found = find(bones, np.eye(3), geometry=geometry)
    bare = Site(bones, found.frames, found.points)
    head(title)
    missed = []
    for name, (choice, _) in DESIGNS.items():
        tumour = None
        if tumours:
            side = -1.0 if choice.side == "left" else 1.0
            centre = bare.middle(1.6) + side * 24.0 * bare.right
            ball = Ellipsoid(centre, np.full(3, 9.0))
            tumour = tumour_from_shapes((ball,), bare.frame, "test")
        try:
            missed += row(name, *implanted(bones, found, name, tumour), symmetric)
        except (GeometryError, PlanError) as error:
            print(f"| {name} | refused: {error} |", flush=True)
            missed.append(f"{name}: {error}")
    assert not missed, "\n".join(missed)


@pytest.mark.parametrize("name", PHANTOMS)
def test_synthetic_patients(name):
    bones, geometry, symmetric = bones_of(name, None)
    every_design(name, bones, geometry, symmetric, True)


@pytest.mark.shared
@pytest.mark.parametrize("name", [MALE, FEMALE])
def test_visible_humans(name, shared):
    bones, geometry, symmetric = bones_of(name, shared)
    every_design(name, bones, geometry, symmetric, False)
