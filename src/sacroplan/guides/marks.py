"""What is engraved on a guide: case, side, version and an arrow, along the platform's edge."""

from __future__ import annotations

from typing import Any

import numpy as np

from sacroplan import evidence
from sacroplan.errors import Doubt
from sacroplan.geometry.frames import unit
from sacroplan.guides.body import Tower
from sacroplan.guides.cutline import CutLine
from sacroplan.guides.request import GuideInput, GuideParameters


def marks(
    inp: GuideInput,
    line: CutLine,
    shape: Tower,
    p: GuideParameters,
) -> tuple[tuple[str, ...], list[Any], list[Doubt]]:
    """Engraving tools: case, side and version with the cranial arrow on the slot's outer wall."""
    from sacroplan.geometry.booleans import to_manifold
    from sacroplan.guides.lettering import ADVANCE, engravable, glyph, width_mm

    doubts: list[Doubt] = []
    letter = "L" if inp.side == "left" else "R"
    # A guide across the midline says where its arrow points: not cranial but to the patient's side.
    sideways = abs(float(line.along @ inp.axes.axes[:, 2])) > 0.7
    to_left = float(line.along @ inp.axes.axes[:, 2]) < 0.0
    outward = line.across
    up = line.saw
    reading = np.cross(up, outward)
    cranial = 1.0 if reading @ line.along > 0 else -1.0
    case = engravable(inp.case_id)
    if case != inp.case_id.upper():
        doubts.append(
            Doubt(
                "guide",
                "guide.marks.replaced",
                f"The case id {inp.case_id!r} is engraved as {case!r}: the font has no other letters.",
                ("GDE-10",),
            )
        )
    words = [case, letter, f"V{engravable(inp.version)}"]
    if sideways:
        words.append("TO-L" if to_left else "TO-R")
    room = shape.high_mm - shape.low_mm - 2.0 * 3.0
    height = p.letter_mm
    text = " ".join(words)
    text = f"{text} >" if cranial > 0 else f"< {text}"
    least = evidence.quantity("GDE-10", "letter_height").lower or 0.0
    if width_mm(text, height) > room:
        height = max(least, height * room / width_mm(text, height))
    if width_mm(text, height) > room:
        keep = int(room / height / ADVANCE) - (len(text) - len(case))
        short = case[: max(keep, 1)]
        doubts.append(
            Doubt(
                "guide",
                "guide.marks.shortened",
                f"Only {short!r} of the case id {case!r} fits on the guide at {height:.1f} mm.",
                ("GDE-10",),
            )
        )
        text = text.replace(case, short)
    start = -0.5 * width_mm(text, height)
    tools = []
    middle = 0.5 * (shape.low_mm + shape.high_mm)
    for n, character in enumerate(text):
        left = start + n * ADVANCE * height
        a = middle + cranial * (left + 0.3 * height)
        # Letters follow the platform's edge, each on its own tangent.
        lift = shape.top(np.array([a - 1.0, a, a + 1.0]))
        slope = float(lift[2] - lift[0]) / 2.0
        along = unit(line.along + slope * line.saw) * cranial
        rise = np.cross(outward, along)
        at = line.to_world(np.array([[a, float(lift[1]) - 1.8, shape.remnant_mm]]))[0]
        corner = at - 0.3 * height * along - height * rise
        tool = glyph(
            character,
            height,
            p.mark_stroke_mm,
            corner,
            np.stack([along, rise, outward], axis=1),
            -p.mark_depth_mm,
            5.0,
            inp.hip.frame,
        )
        if tool is not None:
            tools.append(to_manifold(tool, f"the letter {character}"))
    return (text,), tools, doubts
