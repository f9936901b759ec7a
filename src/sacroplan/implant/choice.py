"""Which design a resection asks for, and what it cannot have yet."""

from __future__ import annotations

from dataclasses import dataclass

from sacroplan.implant.model import Design
from sacroplan.resection.presets import Choice, title


@dataclass(frozen=True)
class Reconstruction:
    """How a resection is reconstructed with an implant.

    Attributes
    ----------
    design : of the implant. level : vertebra that it carries.
    sides : sides that get a wing. rods : sides whose rod ends in a post of the implant.
    construct : screws beside the implant, as the fixation room writes them; empty for none.
    flats : flat seats beside the wings. joint : whether the wing follows a joint that was taken apart.
    """

    design: Design
    level: str
    sides: tuple[str, ...]
    rods: tuple[str, ...]
    construct: str
    flats: tuple[str, ...] = ()
    joint: bool = False


def reconstruction(choice: Choice, wanted: str | None = None) -> Reconstruction | str:
    """The reconstruction of ``choice``, or a sentence why there is none.

    ``wanted`` is the design of case.toml: it may ask for a self-stabilising implant after total
    sacrectomy; another that does not fit the resection is a reason to leave the implant out.
    """
    words = title(choice)
    words = words[0].lower() + words[1:]
    if choice.kind == "total" and choice.l5 in ("none", "whole"):
        level = "L5" if choice.l5 == "none" else "L4"
        if wanted == "self_stabilising":
            return Reconstruction("self_stabilising", level, ("left", "right"), (), "")
        if wanted in (None, "total"):
            text = "L4-L5" if level == "L5" else "L3-L4"
            return Reconstruction("total", level, ("left", "right"), ("left", "right"), text)
        return f"the design {wanted!r} of case.toml does not fit a {words}"
    if choice.kind == "hemi" and choice.l5 in ("none", "partial"):
        assert choice.side is not None
        design: Design = "hemi_left" if choice.side == "left" else "hemi_right"
        if wanted not in (None, design):
            return f"the design {wanted!r} of case.toml does not fit a {words}"
        other = "left" if choice.side == "right" else "right"
        joint = choice.joint == "disarticulation"
        flats = ("sacrum",) if choice.l5 == "none" else ("sacrum", "L5_side")
        if choice.l5 == "none":
            text, level = f"L4-L5-S1.{other}", "L5"
        else:
            # Paper B, case 2: L3 and L4 on both sides, S1 on the side that stays.
            text, level = f"L3-L4-S1.{other}", "L4"
        return Reconstruction(design, level, (choice.side,), (choice.side,), text, flats, joint)
    return (
        f"no implant is designed for a {words} so far; total sacrectomy (L5 left or taken whole) and "
        "hemisacrectomy (L5 left or halved) are"
    )
