"""What a person sees of a long command: a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Bar:
    """A progress bar on standard error when a person watches, silence otherwise."""

    def __init__(self, title: str, quiet: bool) -> None:
        self.title = title
        self.quiet = quiet or not sys.stderr.isatty()

    def __enter__(self) -> Callable[[float, str], None]:
        if self.quiet:
            return lambda _fraction, _message: None
        self.progress = rich_progress()
        task = self.progress.add_task(self.title, total=1.0, detail="")
        self.progress.start()
        return lambda fraction, message: self.progress.update(
            task, completed=fraction, detail=message
        )

    def __exit__(self, *_: object) -> None:
        if not self.quiet:
            self.progress.stop()


def rich_progress() -> Any:
    """The bar with its columns, on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:24s}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=Console(stderr=True),
    )
