"""``registry assess-ct``: files in, pictures and findings out; the measuring is osseointegration.py's."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sacroplan.banner import BANNER, BANNER_SHORT
from sacroplan.formats.atomic import replaced_folder
from sacroplan.geometry.surface import Surface
from sacroplan.progress import Progress, part, silent
from sacroplan.registry.database import Registry
from sacroplan.registry.dictionary import tables
from sacroplan.registry.errors import RegistryError
from sacroplan.registry.osseointegration import Assessment, Interface, measure


def assess(
    ct: Path,
    case: Path | None,
    core: Path | None,
    porous: Sequence[str],
    progress: Progress = silent,
) -> Assessment:
    """Measure a follow-up CT against the implant of ``case``, or of STL files in LPS mm.

    Raises
    ------
    RegistryError : neither or both were given, or the case has no implant yet.
    """
    from sacroplan.formats.ct import read_ct

    if (case is None) == (core is None):
        raise RegistryError(
            "Give the planned case with --case, or the implant with --core and --porous."
        )
    body, layers = _of_case(case) if case is not None else _of_files(Path(str(core)), porous)
    image = read_ct(ct)
    return measure(image.volume, body, layers, part(progress, 0.1, 1.0))


def _of_case(case: Path) -> tuple[Surface, dict[str, Surface]]:
    from sacroplan.case import store
    from sacroplan.case.stage import stage_folder

    folder = stage_folder(case, "implant")
    if not folder.is_dir():
        raise RegistryError(
            f"{case} has no implant yet: run sacroplan run {case} --to implant first."
        )
    implant = store.load(folder)
    return implant.core, dict(implant.porous)


def _of_files(core: Path, porous: Sequence[str]) -> tuple[Surface, dict[str, Surface]]:
    from sacroplan.formats.stl import read_stl

    known = [c for c in tables()["finding"].field("interface").codes if c != "all"]
    layers: dict[str, Surface] = {}
    for pair in porous:
        name, sign, file = pair.partition("=")
        if not sign or name not in known:
            raise RegistryError(
                f"'{pair[:60]}' names no layer: write {known[0]}=file.stl; {known} exist."
            )
        layers[name] = read_stl(Path(file))
    if not layers:
        raise RegistryError("Name the porous layers with --porous, as --porous L5=l5.stl.")
    return read_stl(core), layers


def picture(one: Interface) -> bytes:
    """PNG: the gap over the face seen along its normal, and the mean grey profiles."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    centred = one.points - one.points.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    u, v = (centred @ axes.T).T
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    dots = left.scatter(u, v, c=one.gaps, s=9, cmap="viridis_r", vmin=0.0, vmax=2.0, marker="s")
    none = ~np.isfinite(one.gaps)
    left.scatter(u[none], v[none], c="#b5482a", s=9, marker="x", label="no bone within the shell")
    if none.any():
        left.legend(fontsize=8)
    left.set_aspect("equal")
    left.set_xlabel("mm along the face")
    left.set_title(
        f"{one.name}: gap; contact {one.contact_percent:.0f} %, grade {one.grade}", fontsize=10
    )
    figure.colorbar(dots, ax=left, label="gap, mm")
    for profile, label, colour in (
        (one.profile_contact, "contact", "#3c7d3f"),
        (one.profile_gap, "no contact", "#b5482a"),
    ):
        if np.isfinite(profile).any():
            right.plot(one.profile_mm, profile, color=colour, label=f"mean profile, {label}")
    right.axvline(0.0, color="#566577", linewidth=0.8)
    right.set_xlabel("mm from the porous surface into bone")
    right.set_ylabel("HU")
    right.legend(fontsize=8, frameon=False)
    figure.supxlabel(BANNER_SHORT, fontsize=7, color="#a61b1b")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def write(result: Assessment, folder: Path) -> None:
    """``assessment.json`` and one picture per interface into a new folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RegistryError(f"{folder} exists and is not empty; name a new folder.")
    table = {"banner": BANNER, **result.to_json()}
    with replaced_folder(folder) as building:
        (building / "assessment.json").write_text(json.dumps(table, indent=2) + "\n", "utf-8")
        for one in result.interfaces:
            (building / f"{one.name}.png").write_bytes(picture(one))


def store(registry: Registry, pseudonym: str, on: str, result: Assessment) -> None:
    """One finding per interface for a patient; all in the registry's own checks of dates and names.

    Raises
    ------
    RegistryError : no date, no such patient, or a finding of that day is there already.
    """
    from sacroplan.registry import records

    if not on:
        raise RegistryError("Name the date of the CT with --on, as --on 2024-05-31.")
    rows: list[dict[str, Any]] = [
        {
            "imaged_on": on,
            "modality": "CT",
            "interface": one.name,
            "reader": "assess-ct",
            "grade": str(one.grade),
            "continuous": str(int(one.continuous)),
            "contact_percent": f"{one.contact_percent:.1f}",
            "gap_mm": "" if one.gap_mm is None else f"{one.gap_mm:.2f}",
        }
        for one in result.interfaces
    ]
    records.add_all(registry, "finding", pseudonym, rows)
