"""Rows of text out of a CSV or Excel file, a chunk at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sacroplan.registry.errors import RegistryError

CHUNK = 20_000
"""Rows handled at once: some tens of megabytes."""

LONGEST_CELL = 4096
"""Longer cells are not data of a registry."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Header and the rows below it; ``rows`` yields chunks of (first row number, rows)."""

    header: tuple[str, ...]
    rows: Iterator[tuple[int, list[list[str]]]]


@contextmanager
def opened(path: Path, delimiter: str = "", encoding: str = "", sheet: str = "") -> Iterator[Sheet]:
    """Open ``path``; row numbers count as a spreadsheet does, the header is row 1.

    Raises
    ------
    RegistryError : no such file, not text, not a workbook, no header, a repeated or empty column.
    """
    if not path.is_file():
        raise RegistryError(f"There is no file {path} to import.")
    try:
        if path.suffix.lower() in (".xlsx", ".xlsm"):
            with _workbook(path, sheet) as lines:
                yield _sheet(path, lines)
        else:
            with path.open(encoding=encoding or "utf-8-sig", newline="", errors="strict") as stream:
                text = stream.readline()
                stream.seek(0)
                mark = delimiter or max(",;\t", key=text.count)
                csv.field_size_limit(LONGEST_CELL)
                yield _sheet(path, csv.reader(stream, delimiter=mark, strict=True))
    except UnicodeDecodeError as error:
        raise RegistryError(
            f"{path} is not text in {encoding or 'UTF-8'} (byte {error.start}): save it as UTF-8, or "
            "name its encoding in the mapping file."
        ) from error
    except csv.Error as error:
        raise RegistryError(f"{path} is not a well-formed CSV file: {error}.") from error
    except LookupError as error:
        raise RegistryError(f"{path}: {error}.") from error


def _sheet(path: Path, lines: Iterator[list[str]]) -> Sheet:
    header = next(lines, None)
    names = [] if header is None else [name.strip() for name in header]
    if not any(names):
        raise RegistryError(f"{path} is empty: its first row must name the columns.")
    if "" in names:
        raise RegistryError(f"{path}: column {names.index('') + 1} has no name in the first row.")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise RegistryError(f"{path}: the column '{twice[0][:40]}' stands there twice.")
    return Sheet(tuple(names), _chunks(lines))


def _chunks(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[list[str]]]]:
    start = 2
    while chunk := list(islice(lines, CHUNK)):
        yield start, chunk
        start += len(chunk)


@contextmanager
def _workbook(path: Path, sheet: str) -> Iterator[Iterator[list[str]]]:
    from zipfile import BadZipFile

    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise RegistryError(f"{path} is not an Excel workbook (.xlsx): {error}.") from error
    try:
        if sheet and sheet not in book.sheetnames:
            raise RegistryError(f"{path} has no sheet '{sheet}'; it has {book.sheetnames}.")
        page: Any = book[sheet] if sheet else book.worksheets[0]
        yield ([_cell(v) for v in row] for row in page.iter_rows(values_only=True))
    finally:
        book.close()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == datetime.min.time() else str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return str(value)
