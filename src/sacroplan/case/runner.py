"""Run the stages of a case in order, skipping what has not changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from sacroplan.case import store
from sacroplan.case.config import read_config
from sacroplan.case.stage import (
    Context,
    Stage,
    StageRecord,
    check_untouched,
    execute,
    key_of,
    read_record,
    stage_folder,
)
from sacroplan.errors import CaseError, SacroplanError
from sacroplan.formats.atomic import write_text

log = logging.getLogger(__name__)

State = Literal["done", "skipped", "stale", "missing"]


class Listener(Protocol):
    """Told what happens while a case runs."""

    def stage_started(self, stage: Stage) -> None:
        """Before a stage runs."""

    def stage_progress(self, stage: Stage, fraction: float, message: str) -> None:
        """While it runs, with a fraction in [0, 1]."""

    def stage_finished(self, stage: Stage, record: StageRecord, state: State) -> None:
        """After it ran or was skipped."""


class Quiet:
    """A listener that says nothing."""

    def stage_started(self, stage: Stage) -> None:
        """Nothing."""

    def stage_progress(self, stage: Stage, fraction: float, message: str) -> None:
        """Nothing."""

    def stage_finished(self, stage: Stage, record: StageRecord, state: State) -> None:
        """Nothing."""


@dataclass(frozen=True)
class RunReport:
    """Outcome of a run: one record per stage and how it came about."""

    case_id: str
    folder: Path
    records: tuple[StageRecord, ...]
    states: tuple[State, ...]

    @property
    def metrics(self) -> dict[str, Any]:
        """All figures by dotted name."""
        return {k: v for r in self.records for k, v in r.metrics.items()}

    @property
    def doubts(self) -> list[dict[str, Any]]:
        """All doubts in stage order."""
        return [dict(d) for r in self.records for d in r.doubts]


def context_of(folder: Path) -> Context:
    """What stages see of a case folder."""
    loaded: dict[str, Any] = {}

    def load(name: str) -> Any:
        # Results always come from disk, so that a resumed run sees what an uninterrupted one saw.
        if name not in loaded:
            loaded[name] = store.load(stage_folder(folder, name))
        return loaded[name]

    return Context(folder, read_config(folder), load)


def choose(stages: tuple[Stage, ...], to: str | None) -> tuple[Stage, ...]:
    """The stages up to and including ``to``; raises on an unknown name."""
    names = [s.name for s in stages]
    if to is None:
        return stages
    if to not in names:
        raise CaseError(f"There is no stage {to!r}; the stages are {', '.join(names)}.")
    return stages[: names.index(to) + 1]


def run(
    folder: Path, stages: tuple[Stage, ...], to: str | None = None, listener: Listener | None = None
) -> RunReport:
    """Bring a case up to date and return what is now known."""
    told = listener or Quiet()
    context = context_of(folder)
    records: list[StageRecord] = []
    states: list[State] = []
    digests: dict[str, str] = {}
    for stage in choose(stages, to):
        key, inputs = key_of(stage, context, {n: digests[n] for n in stage.needs})
        record = read_record(folder, stage.name)
        state: State = "skipped"
        if record is None or record.key != key or not check_untouched(folder, record):
            state = "done"
            told.stage_started(stage)
            context.progress = _reporter(told, stage)
            record = execute(stage, context, key, inputs)
            log.info("case %s: stage %s done", context.config.case.id, stage.name)
        digests[stage.name] = record.digest
        context.records[stage.name] = record
        records.append(record)
        states.append(state)
        told.stage_finished(stage, record, state)
    report = RunReport(context.config.case.id, folder, tuple(records), tuple(states))
    _write_summaries(report)
    return report


def _reporter(told: Listener, stage: Stage) -> Callable[[float, str], None]:
    def report(fraction: float, message: str) -> None:
        told.stage_progress(stage, min(max(fraction, 0.0), 1.0), message)

    return report


def status(
    folder: Path, stages: tuple[Stage, ...]
) -> list[tuple[Stage, State, StageRecord | None]]:
    """Which stages are done, stale (something above them changed) or missing; runs nothing."""
    context = context_of(folder)
    digests: dict[str, str] = {}
    out: list[tuple[Stage, State, StageRecord | None]] = []
    for stage in stages:
        record = read_record(folder, stage.name)
        state: State = "missing" if record is None else "stale"
        if record is not None and all(n in digests for n in stage.needs):
            try:
                key, _ = key_of(stage, context, {n: digests[n] for n in stage.needs})
            except SacroplanError:
                key = ""
            if key == record.key:
                state = "done"
                digests[stage.name] = record.digest
        out.append((stage, state, record))
    return out


def _write_if_changed(path: Path, table: Any) -> None:
    text = json.dumps(table, indent=2, sort_keys=True, default=str) + "\n"
    if path.is_file() and path.read_text("utf-8") == text:
        return
    write_text(path, text)


def _write_summaries(report: RunReport) -> None:
    metrics = {"case": report.case_id, "metrics": report.metrics, "doubts": report.doubts}
    _write_if_changed(report.folder / "work" / "metrics.json", metrics)
    table = {"case": report.case_id, "stages": provenance(report.records)}
    _write_if_changed(report.folder / "provenance.json", table)


def provenance(records: Iterable[StageRecord]) -> list[dict[str, Any]]:
    """Per stage: inputs with digests, parameters, versions, seconds, file digests."""
    return [
        {
            "stage": r.name,
            "key": r.key,
            "inputs": dict(r.inputs),
            "parameters": r.parameters,
            "versions": dict(r.versions),
            "seconds": r.seconds,
            "files": {k: v for k, v in r.files.items() if k not in ("result.json", "arrays.npz")},
        }
        for r in records
    ]
