"""Bones by TotalSegmentator, a network of others that runs as its own program.

It is never installed or fed by this program: its weights must be there, and while it runs it cannot
reach the net, neither for weights nor for the usage statistics it would otherwise send.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sacroplan.errors import AnatomyError, CaseError
from sacroplan.formats.labels import LabelReading, read_label_file, total_names, write_volume_nifti
from sacroplan.geometry.volume import Volume
from sacroplan.progress import Progress, silent

PROGRAM = "TotalSegmentator"

WEIGHTS = (291, 292, 293, 294, 295, 298)
"""Networks of its task ``total`` and the coarse one that finds where to look (its public source)."""

_NOWHERE = "http://127.0.0.1:9"
"""The discard port of this machine: a proxy that answers no request."""


def find_program() -> Path:
    """Where TotalSegmentator's command line is; raises :class:`CaseError` where there is none."""
    beside = Path(sys.executable).parent
    found = shutil.which(PROGRAM, path=str(beside)) or shutil.which(PROGRAM)
    if found is None:
        raise CaseError(
            f'case.toml asks for segmenter = "totalsegmentator", but {PROGRAM} is not installed '
            f"(looked in {beside} and on the PATH). Install it with: pip install 'sacroplan[ai]', "
            "fetch its weights once with: totalseg_download_weights -t total, then run again; or "
            "take the line out to use the built-in segmentation."
        )
    return Path(found)


def weights_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where TotalSegmentator looks for its weights."""
    if "TOTALSEG_WEIGHTS_PATH" in environment:
        return Path(environment["TOTALSEG_WEIGHTS_PATH"])
    home = environment.get("TOTALSEG_HOME_DIR")
    base = Path.home() / ".totalsegmentator" if home is None else Path(home)
    return base / "nnunet" / "results"


def check_weights(folder: Path) -> None:
    """Raise :class:`CaseError` where a network that is needed has no weights."""
    missing = [n for n in WEIGHTS if not any(d.is_dir() for d in folder.glob(f"Dataset{n}_*"))]
    if missing:
        raise CaseError(
            f"The weights of {PROGRAM} are not complete: {folder} has no data set "
            f"{', '.join(map(str, missing))}. Fetch them once with: totalseg_download_weights "
            "-t total (or set TOTALSEG_WEIGHTS_PATH to where they are), then run again; this "
            "program never downloads them."
        )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f" {version('TotalSegmentator')}"
    except PackageNotFoundError:
        return ""


def _cut_off(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without a way to the net."""
    out = {k: v for k, v in environment.items() if k.lower() != "no_proxy"}
    for name in ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy"):
        out[name] = out[name.upper()] = _NOWHERE
    return out


def segment(volume: Volume, progress: Progress = silent) -> LabelReading:
    """Bones of a CT by TotalSegmentator's task ``total``, on the CT's own grid.

    Raises
    ------
    CaseError : the program or its weights are missing; the sentence says how to get them.
    AnatomyError : it failed, with the last line it wrote.
    """
    program = find_program()
    check_weights(weights_folder())
    wanted = sorted(set(total_names().values()))
    with tempfile.TemporaryDirectory(prefix="sacroplan-") as folder:
        image, labels = Path(folder) / "ct.nii.gz", Path(folder) / "labels.nii.gz"
        progress(0.0, "writing the CT for TotalSegmentator")
        write_volume_nifti(volume, image)
        progress(0.05, "TotalSegmentator is running (minutes)")
        command = [str(program), "-i", str(image), "-o", str(labels), "--ml", "--task", "total",
                   "--roi_subset", *wanted]  # fmt: skip
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=_cut_off(os.environ), cwd=folder, check=False,
        )  # fmt: skip
        if done.returncode != 0 or not labels.is_file():
            lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
            said = f" It said: {lines[-1].strip()[:300]}" if lines else ""
            raise AnatomyError(
                f"{program} wrote no label map (exit status {done.returncode}).{said} Run it by "
                "itself to find out, or use the built-in segmentation."
            )
        progress(0.95, "reading its labels")
        reading = read_label_file(labels, volume.geometry)
    progress(1.0, "labels read")
    return LabelReading(reading.labels, f"{PROGRAM}{_version()}, task total", reading.doubts)
