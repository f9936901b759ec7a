"""report.html: one file with everything in it, readable without a network and without WebGL.

The 3D viewer is our own (templates/viewer.js, WebGL 2, no library). The candidate at hand that
comes inside a wheel, trimesh's notebook template, carries a three.js of 0.7 MB without capped
clipping, picking or patient directions, and would make a development tool a dependency; k3d and
trame would be further dependencies made for notebooks and servers. What a dossier needs (some tens
of bodies, glass, a capped clip plane, picking, patient letters) is a few hundred lines, and shares
light and letters with the still pictures.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from sacroplan.report.content import Content
from sacroplan.report.model import PRESETS, Dossier
from sacroplan.report.render import lights
from sacroplan.report.scene import DisplayMesh, pack
from sacroplan.report.views import SECOND_LETTER_COSINE


def template(name: str) -> str:
    """Text of a file in ``templates/``."""
    return (resources.files("sacroplan.report") / "templates" / name).read_text("utf-8")


def _with_uris(node: Any, pictures: Mapping[str, bytes]) -> Any:
    """The content with every picture's file replaced by a data URI beside it."""
    if isinstance(node, dict):
        out = {key: _with_uris(value, pictures) for key, value in node.items()}
        if "file" in out:
            code = base64.b64encode(pictures[out["file"]]).decode("ascii")
            out["uri"] = f"data:image/png;base64,{code}"
        return out
    if isinstance(node, list):
        return [_with_uris(value, pictures) for value in node]
    return node


def render_html(dossier: Dossier, content: Content, meshes: Mapping[str, DisplayMesh]) -> str:
    """The whole page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    parts, body = pack(dossier.scene, meshes)
    frame = dossier.view_frame
    low = [m.vertices.min(axis=0) for m in meshes.values()]
    high = [m.vertices.max(axis=0) for m in meshes.values()]
    centre = [round(0.5 * (min(v[k] for v in low) + max(v[k] for v in high)), 3) for k in range(3)]
    header = {
        "axes": [[float(f"{x:.9g}") for x in frame.axes[:, k]] for k in range(3)],
        "centre": [float(c) for c in centre],
        "second_letter_cosine": SECOND_LETTER_COSINE,
        "lights": [[float(f"{x:.6g}") for x in light] for light in lights()],
        "parts": parts,
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    data = dict(_with_uris(dict(content.data), content.pictures))
    data["slice_groups_"] = data.pop("slice_groups")
    # JSON inside a script element: only these three could end it or open a comment.
    safe = json.dumps(header, ensure_ascii=True, separators=(",", ":"))
    for letter in "<>&":
        safe = safe.replace(letter, f"\\u{ord(letter):04x}")
    return environment.from_string(template("report.html.j2")).render(
        **data,
        presets=[(p, p.capitalize()) for p in PRESETS],
        style=Markup(template("style.css")),
        script=Markup(template("viewer.js")),
        scene_header=Markup(safe),
        scene_body=Markup(base64.b64encode(body).decode("ascii")),
    )
