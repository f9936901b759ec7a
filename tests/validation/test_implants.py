"""Every design on eight synthetic patients and a real pelvis: predicates, overlap, seats, rods, nerves."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sacroplan.anatomy.landmarks import find
from sacroplan.case.steps.implant import defect
from sacroplan.errors import PlanError
from sacroplan.fixation.corridor import plan_pedicle_screw
from sacroplan.fixation.rods import plan_rods
from sacroplan.fixation.wings import plan_wing_screws
from sacroplan.formats.stl import read_stl
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

sys.path.insert(0, str(Path(__file__).parents[1] / "anatomy"))

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


def row(name, inp, implant, seconds, off):
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
    print("| " + " | ".join(cells) + " |")
    for solid in solids:
        assert solid.is_closed
        assert len(bodies(solid)) == 1
        assert solid.body_count() == 1
        assert face_tree(solid).crossing_faces()[0] == 0
    assert figure["enclosed_voids"] == 0
    assert shared < 1.0
    assert mean <= 0.05
    assert p95 <= 0.15
    assert reached >= 80.0
    assert off < 1.0
    assert min(values(implant, "load_path.", "area_mm2")) >= 95.0
    if nerves:
        assert min(nerves) >= 1.0
    return figure


def head(title):
    print(f"\n{title}\n\n| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))


@pytest.mark.parametrize("number", range(8))
def test_synthetic_patients(number):
    import landmark_cases

    patient = landmark_cases.patient(landmark_cases.PATIENTS[number])
    found = find(patient.bones, np.eye(3), geometry=patient.geometry)
    bare = Site(patient.bones, found.frames, found.points)
    head(f"Synthetic patient {number}")
    for name, (choice, _) in DESIGNS.items():
        side = -1.0 if choice.side == "left" else 1.0
        centre = bare.middle(1.6) + side * 24.0 * bare.right
        tumour = tumour_from_shapes((Ellipsoid(centre, np.full(3, 9.0)),), bare.frame, "test")
        figure = row(name, *implanted(patient.bones, found, name, tumour))
        if "balance" in figure and patient.parameters.asymmetry == 0.0:
            assert figure["balance"] >= 0.8


@pytest.mark.shared
def test_visible_human_male(shared):
    folder = shared / "data" / "vhm_meshes"
    names = ("L3", "L4", "L5", "sacrum", "hip_left", "hip_right")
    bones = {n: read_stl(folder / f"{n}.stl") for n in names}
    found = find(bones, np.eye(3))
    head("Visible Human Male, surfaces")
    for name in DESIGNS:
        figure = row(name, *implanted(bones, found, name))
        if "balance" in figure:
            assert figure["balance"] >= 0.8
