"""Stages: pure functions whose results are kept under a content hash and skipped when unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import sacroplan
from sacroplan.case import store
from sacroplan.case.config import CaseConfig
from sacroplan.errors import CaseError, Doubt
from sacroplan.metrics import Metric, Metrics
from sacroplan.progress import Progress

_CHUNK = 1 << 20


@dataclass(frozen=True)
class StageOutput:
    """What a stage hands on.

    Attributes
    ----------
    result : value objects for later stages (kept by :mod:`sacroplan.case.store`).
    metrics, doubts : for the dossier. files : name to its writer, which is called with a path.
    Names that start with ``dossier/`` go to the case's dossier, the others to ``work/<stage>/``.
    """

    result: Any
    metrics: Metrics = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)


class Context:
    """What a stage may see: configuration, case folder, earlier results and records, progress."""

    def __init__(self, folder: Path, config: CaseConfig, load: Callable[[str], Any]) -> None:
        self.folder = folder
        self.config = config
        self.records: dict[str, StageRecord] = {}
        self._load = load
        self.progress: Progress = lambda _fraction, _message: None

    def result(self, stage: str) -> Any:
        """Result of an earlier stage."""
        return self._load(stage)

    def input_path(self, text: str) -> Path:
        """A path from case.toml, relative to the case folder unless absolute."""
        return self.folder / Path(text).expanduser()


@dataclass(frozen=True)
class Stage:
    """A named step of the plan.

    Attributes
    ----------
    needs : earlier stages whose results are read. rooms : packages whose code decides the result.
    parameters : the part of the configuration that is read, as plain data.
    inputs : files or folders that are read. run : the work.
    seconds : typical duration on two cores, for the time left only.
    unfit : a sentence where the stage does not plan this case (it then yields None and a doubt).
    """

    name: str
    title: str
    needs: tuple[str, ...]
    rooms: tuple[str, ...]
    parameters: Callable[[CaseConfig], Any]
    inputs: Callable[[Context], list[Path]]
    run: Callable[[Context], StageOutput]
    seconds: float
    unfit: Callable[[Context], str | None] = lambda _context: None


@dataclass(frozen=True)
class StageRecord:
    """What is known of a finished stage; kept in ``work/<stage>/stage.json``."""

    name: str
    key: str
    digest: str
    seconds: float
    inputs: Mapping[str, str]
    parameters: Any
    versions: Mapping[str, str]
    metrics: Mapping[str, Any]
    doubts: tuple[Mapping[str, Any], ...]
    files: Mapping[str, str]


def hash_file(path: Path) -> str:
    """SHA-256 of one file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or over all files of a folder with their relative names."""
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        raise CaseError(f"{path} does not exist; it is named as an input of the case.")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode())
        digest.update(hash_file(file).encode())
    return digest.hexdigest()


@lru_cache(maxsize=32)
def code_version(rooms: tuple[str, ...]) -> str:
    """Digest of the source and data files of ``rooms`` and of the floors below every room."""
    root = Path(sacroplan.__file__).parent
    digest = hashlib.sha256(sacroplan.__version__.encode())
    for room in sorted({*rooms, "geometry", "evidence"}):
        for file in sorted((root / room).rglob("*")):
            if file.is_file() and file.suffix not in {".pyc", ".nbi", ".nbc"}:
                digest.update(file.relative_to(root).as_posix().encode())
                digest.update(hash_file(file).encode())
    for name in ("errors.py", "metrics.py", "banner.py"):
        digest.update(hash_file(root / name).encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what computes: for provenance."""
    from importlib.metadata import PackageNotFoundError, version

    out = {"sacroplan": sacroplan.__version__}
    for name in ("numpy", "scipy", "numba", "manifold3d", "vtk", "libigl", "SimpleITK", "pydicom",
                 "highdicom"):  # fmt: skip
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "absent"
    return out


def stage_folder(case: Path, name: str) -> Path:
    """``work/<name>`` of a case."""
    return case / "work" / name


def read_record(case: Path, name: str) -> StageRecord | None:
    """Record of a finished stage, None when it never finished (or its record is damaged)."""
    path = stage_folder(case, name) / "stage.json"
    try:
        table = json.loads(path.read_text("utf-8"))
        return StageRecord(
            table["name"], table["key"], table["digest"], table["seconds"], table["inputs"],
            table["parameters"], table["versions"], table["metrics"], tuple(table["doubts"]),
            table["files"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def key_of(
    stage: Stage, context: Context, upstream: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Hash over inputs, parameters, code version and upstream results; and input digests."""
    inputs = {os.path.relpath(p, context.folder): hash_path(p) for p in stage.inputs(context)}
    text = json.dumps(
        {
            "stage": stage.name,
            "code": code_version(("case", *stage.rooms)),
            "parameters": stage.parameters(context.config),
            "inputs": sorted(inputs.values()),
            "upstream": dict(sorted(upstream.items())),
        },
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest(), inputs


def file_path(case: Path, stage: str, name: str) -> Path:
    """Where a stage's file lies: in the case's dossier or in the stage's own folder."""
    return case / name if name.startswith("dossier/") else stage_folder(case, stage) / name


def check_untouched(case: Path, record: StageRecord) -> bool:
    """True when every file is as it was written; raises when one was edited by hand."""
    for name, digest in record.files.items():
        path = file_path(case, record.name, name)
        if not path.is_file():
            return False
        if hash_file(path) != digest:
            raise CaseError(
                f"{path} was changed after sacroplan wrote it. To use your version, copy it out of "
                "work/ and name it in case.toml; to drop it, delete it; then run again."
            )
    return True


def _drop_orphans(case: Path, before: StageRecord | None, files: Mapping[str, str]) -> None:
    """Remove what a stage once put into the dossier, makes no more, and nobody changed."""
    for name, digest in {} if before is None else before.files.items():
        path = case / name
        gone = name.startswith("dossier/") and name not in files and path.is_file()
        if gone and hash_file(path) == digest:
            path.unlink()


def _left_out(stage: Stage, why: str) -> StageOutput:
    """What a stage yields that does not plan this case."""
    return StageOutput(None, {}, (Doubt("plan", f"{stage.name}.not_planned", why, ()),))


def execute(stage: Stage, context: Context, key: str, inputs: Mapping[str, str]) -> StageRecord:
    """Run a stage and put its folder in place in one step: a kill leaves the old or the new."""
    folder = stage_folder(context.folder, stage.name)
    fresh = folder.with_name(f".{stage.name}.part")
    started = time.perf_counter()
    try:
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(parents=True)
        why = stage.unfit(context)
        output = stage.run(context) if why is None else _left_out(stage, why)
        store.dump(output.result, fresh)
        for name, write in sorted(output.files.items()):
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
        files = {
            p.relative_to(fresh).as_posix(): hash_file(p)
            for p in sorted(fresh.rglob("*"))
            if p.is_file()
        }
        metrics = {k: m.to_json() for k, m in sorted(output.metrics.items())}
        doubts = tuple(
            {"trade": d.trade, "code": d.code, "message": d.message, "rows": list(d.rows)}
            for d in output.doubts
        )
        told = json.dumps([files["result.json"], files["arrays.npz"], metrics, doubts])
        digest = hashlib.sha256(told.encode()).hexdigest()
        record = StageRecord(
            stage.name, key, digest, round(time.perf_counter() - started, 3), dict(inputs),
            stage.parameters(context.config), versions(),
            metrics,
            doubts,
            files,
        )  # fmt: skip
        (fresh / "stage.json").write_text(
            json.dumps(record.__dict__, indent=1, sort_keys=True, default=str) + "\n", "utf-8"
        )
        before = read_record(context.folder, stage.name)
        # Without its record an interrupted stage counts as not done, so the record goes first.
        if folder.exists():
            (folder / "stage.json").unlink(missing_ok=True)
            shutil.rmtree(folder)
        for name in files:
            if name.startswith("dossier/"):
                home = context.folder / name
                home.parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).replace(home)
        _drop_orphans(context.folder, before, files)
        shutil.rmtree(fresh / "dossier", ignore_errors=True)
        fresh.replace(folder)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise CaseError(
            f"The stage {stage.name} could not write into {folder} ({error.strerror or error}). "
            "Free space or choose another case folder, then run again: finished stages are kept."
        ) from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return record


def metric_from_json(table: Mapping[str, Any]) -> Metric:
    """The inverse of :meth:`Metric.to_json`."""
    return Metric(
        table["value"], table["unit"], table["label"], tuple(table["rows"]),
        table["lower"], table["upper"],
    )  # fmt: skip
