"""Files appear whole or not at all.

Everything is written under a temporary name in the target's own folder, flushed to the disk and
renamed over the target, so that a killed run or a full disk never leaves half a file behind.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sacroplan.errors import FormatError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "writing there is not permitted",
    errno.EPERM: "writing there is not permitted",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is not a folder",
    errno.EISDIR: "a folder of that name is in the way",
    errno.ENAMETOOLONG: "its name is too long",
}


def _failure(path: Path, error: OSError) -> FormatError:
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return FormatError(f"{path} could not be written: {reason}.")


def _temporary(path: Path) -> Path:
    """A hidden sibling of ``path``; the process number keeps two runs apart."""
    return path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; only POSIX systems can open a folder for that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replaced_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary stream that becomes ``path`` when the block ends without an error.

    Raises
    ------
    FormatError : the file cannot be written; one sentence says why, nothing is left behind.
    """
    target = Path(path)
    temporary = _temporary(target)
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _failure(target, error) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all; raises :class:`FormatError`."""
    with replaced_file(path) as stream:
        stream.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` with line ends as given; raises :class:`FormatError`."""
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def replaced_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to fill; it takes the place of ``path`` when the block ends without an error.

    An old folder at ``path`` stays untouched until then and is removed afterwards. After an error
    inside the block the half-built folder is removed and the old one remains.

    Raises
    ------
    FormatError : the folder cannot be written, or ``path`` is a file.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise FormatError(f"{target} could not be written: a file of that name is in the way.")
    building = _temporary(target)
    old = building.with_suffix(".old")
    try:
        for leftover in (building, old):
            if leftover.exists():
                shutil.rmtree(leftover)
        building.mkdir(parents=True)
        yield building
        if target.exists():
            target.rename(old)
        try:
            building.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise _failure(target, error) from error
    finally:
        for leftover in (building, old):
            if leftover.exists():
                shutil.rmtree(leftover)
