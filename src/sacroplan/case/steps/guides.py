"""One cutting guide per ilium."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacroplan.case.config import CaseConfig
from sacroplan.case.stage import Context, Stage, StageOutput
from sacroplan.case.steps.bones import BoneModel
from sacroplan.case.steps.resection import Resection
from sacroplan.errors import AnatomyError
from sacroplan.metrics import Metrics
from sacroplan.parallel import side_by_side
from sacroplan.progress import Progress
from sacroplan.resection.plan import SIDES, Side

if TYPE_CHECKING:
    from sacroplan.guides.iliac import Guide


@dataclass(frozen=True, eq=False)
class Guides:
    """The guides, left first."""

    guides: tuple[Guide, ...]


def run(context: Context) -> StageOutput:
    """Design both guides."""
    from sacroplan.guides.iliac import GuideInput, GuideParameters, design

    bones: BoneModel = context.result("bones")
    landmarks = context.result("landmarks")
    resection: Resection = context.result("resection")
    blade = context.config.guides.blade_mm
    parameters = GuideParameters() if blade is None else replace(GuideParameters(), blade_mm=blade)

    def guide_of(side: Side, progress: Progress) -> Guide:
        psis = landmarks.points.get(f"PSIS_{side[0].upper()}")
        if psis is None:
            raise AnatomyError(
                f"The {side} PSIS was not found, so no guide can be placed there. Give "
                f"PSIS_{side[0].upper()} under [landmarks] in case.toml."
            )
        cut = resection.plan.cut(f"iliac_{side}")
        inp = GuideInput(
            side,
            bones.surfaces[f"hip_{side}"],
            cut.plane,
            cut.kerf_mm,
            landmarks.frames["pelvis"],
            psis,
            context.config.case.id,
            (bones.surfaces["sacrum"], bones.surfaces["L5"]),
            notch=landmarks.points.get(f"GSN_{side[0].upper()}"),
        )
        return design(inp, parameters, progress)

    guides = side_by_side(guide_of, SIDES, context.progress)
    metrics: Metrics = {}
    for guide in guides:
        metrics |= guide.metrics()
    return StageOutput(
        Guides(tuple(guides)), metrics, tuple(d for guide in guides for d in guide.doubts)
    )


def _parameters(config: CaseConfig) -> Any:
    return {"guides": config.guides.model_dump(mode="json"), "case": config.case.id}


def _inputs(_context: Context) -> list[Path]:
    return []


STAGE = Stage(
    "guides", "Cutting guides", ("bones", "landmarks", "resection"), ("guides",), _parameters,
    _inputs, run, 25.0,
)  # fmt: skip
