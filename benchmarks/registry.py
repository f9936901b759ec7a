"""The registry at 100,000 patients: import, every part of the report, memory; limits of the issue.

``python benchmarks/registry.py [URL ...]``: a new SQLite file, and any empty PostgreSQL database named.
Prints a Markdown table. The cohort is synthetic.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sacroplan.registry import cohort, ingest, report, synthetic
from sacroplan.registry.database import Registry, create

PATIENTS = 100_000
IMPORT_LIMIT_S, FIGURE_LIMIT_S, MEMORY_LIMIT_MB = 180.0, 5.0, 2048.0


def import_all(registry: Registry, folder: Path) -> tuple[float, float, dict[str, int]]:
    """Wall and own processor seconds, and rows by table."""
    rows: dict[str, int] = {}
    wall, own = time.perf_counter(), time.process_time()
    for name in synthetic.FILES:
        told = {"table": "visit"} if name == "visits.csv" else {}
        done = ingest.import_file(registry, folder / name, told)
        assert done.stored, done.rejections[:3]
        rows |= done.added
    return time.perf_counter() - wall, time.process_time() - own, rows


def parts(registry: Registry) -> dict[str, Callable[[], object]]:
    people = cohort.load(registry)
    return {
        "loading the cohort": lambda: cohort.load(registry),
        "Table 1": lambda: report.table_one(people, "margin"),
        "swimmer plot": lambda: report.swimmer(people),
        "survival, two groups": lambda: report.overall_survival(people, "margin"),
        "competing risks": lambda: report.competing(people),
        "function over time": lambda: report.function(registry, people),
        "walking": lambda: report.walking(registry),
        "complications": lambda: report.complications(registry, people),
        "osseointegration": lambda: report.osseointegration(registry, people),
    }


def main(urls: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "cohort"
        synthetic.write(folder, PATIENTS)
        print("| what | on | measured | limit | ratio |\n|---|---|---|---|---|")
        for url in urls or [str(Path(name) / "bench.sqlite")]:
            registry = create(url, "benchmark")
            on = registry.dialect
            wall, own, rows = import_all(registry, folder)
            told = ", ".join(
                f"{n:,} {t}" for t, n in rows.items() if t in ("patient", "visit", "score")
            )
            line(
                "import of " + told,
                on,
                f"{wall:.0f} s ({own:.0f} s own processor)",
                wall,
                IMPORT_LIMIT_S,
            )
            for what, work in parts(registry).items():
                start, own_start = time.perf_counter(), time.process_time()
                work()
                took, own = time.perf_counter() - start, time.process_time() - own_start
                line(what, on, f"{took:.2f} s ({own:.2f} s own processor)", took, FIGURE_LIMIT_S)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
            line("most memory", on, f"{memory:.0f} MB", memory, MEMORY_LIMIT_MB)
            registry.engine.dispose()


def line(what: str, on: str, told: str, value: float, limit: float) -> None:
    print(f"| {what} | {on} | {told} | {limit:g} | {value / limit:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
