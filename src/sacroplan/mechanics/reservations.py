"""What the mechanical study doubts about itself."""

from __future__ import annotations

from sacroplan.errors import Doubt
from sacroplan.mechanics.figures import Solved

SURFACE_ERROR_MM = 1.5
"""A mesh whose interfaces lie further off than this (95th percentile) earns a doubt."""


def model_doubts(model: Solved) -> list[Doubt]:
    """Doubts about one model's mesh and supports."""
    out = [*model.doubts]
    r = model.report
    if r.surface_error_p95_mm > SURFACE_ERROR_MM:
        out.append(
            Doubt(
                "mechanics",
                f"mechanics.coarse_surface_{model.name}",
                f"Interfaces of the {model.name} mesh lie up to {r.surface_error_p95_mm:.1f} mm (95 %) "
                f"off their surfaces; {SURFACE_ERROR_MM:g} mm is usual.",
            )
        )
    if r.dropped_mm3 > 0:
        out.append(
            Doubt(
                "mechanics",
                f"mechanics.crumbs_{model.name}",
                f"{r.dropped_mm3:.0f} mm3 of detached crumbs were left out of the {model.name} model.",
            )
        )
    return out


BONDED = Doubt(
    "mechanics",
    "mechanics.bonded",
    "All parts are bonded, as after osseointegration; the frictional state before it was not "
    "computed, so early motion and stress are underestimated ([mechanics] healing = true runs it).",
    ("SP-MECH-07",),
)

SCREWS_TIED = Doubt(
    "mechanics",
    "mechanics.screws_tied",
    "Screws are tied to bone and implant in the frictional states too, which is optimistic right "
    "after surgery.",
    ("SP-MECH-11",),
)

NO_LIGAMENTS = Doubt(
    "mechanics",
    "mechanics.no_ligaments",
    "Ligaments, facet joints and muscles are not modelled and discs have no fibres; the "
    "sacroiliac cartilage is bonded instead, which is stiffer than the joint's ligaments "
    'together ([mechanics] joints = "contact" models them). Compare designs rather than trust '
    "absolute motion.",
    ("MAT-B4", "MAT-B5", "SP-MECH-14", "SED-3"),
)

STIFF_LIGAMENTS = Doubt(
    "mechanics",
    "mechanics.stiff_ligaments",
    "Ligaments pull from the first strain on with their full stiffness, which is hardly verified, "
    "muscles are not modelled and discs have no fibres: the sacrum nutates less than in cadavers "
    "(VAL-06). Compare designs rather than trust absolute motion.",
    ("SP-MECH-14", "SP-MECH-17", "MAT-B4", "VAL-06"),
)

PURE_MOMENTS = Doubt(
    "mechanics",
    "mechanics.pure_moments",
    "Pure moments underestimate stress in hardware: realistic muscle forces add tens of MPa; "
    "read them beside LC-02 and LC-03.",
    ("LC-04",),
)

SINGLE_LAW = Doubt(
    "mechanics",
    "mechanics.single_law",
    "Bone stiffness laws differ several-fold at pelvic densities and only one was run; switch the "
    "envelope on for the low and high bound.",
    ("EM-02", "EM-08"),
)
