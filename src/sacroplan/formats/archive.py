"""What lies behind a path: the files of a folder, or of a zip unpacked where it can do no harm.

Nothing outside the named folder is read: links that leave it are not followed, members of a zip
that would land elsewhere are not written. Both are counted and said.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sacroplan.errors import FormatError, SacroplanError

MAX_FILES = 50_000
"""A whole patient on disc has some thousands of files; more is somebody's archive or an attack."""

MAX_BYTES = 16 * 2**30
"""Unpacked size of a zip: eight CTs of 1024 x 1024 x 1000 voxels."""

MAX_RATIO = 100.0
"""Unpacked size over packed size. CT packs 2 to 5 times, a synthetic one up to about 60 times,
a bomb 1000 times."""

RATIO_MATTERS_BYTES = 64 * 2**20
"""Below this unpacked size a zip may have any ratio: it can do no harm."""

_CHUNK = 1 << 20
_OTHER_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\xfd7zXZ\x00": "xz",
}
_UNZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, EOFError,
    ValueError, RuntimeError,
)  # fmt: skip
"""What zipfile raises on damaged, encrypted or exotic members."""


@dataclass(frozen=True)
class Gathered:
    """Regular files under a folder, sorted, and what was not followed (reason to count)."""

    files: tuple[Path, ...]
    aside: Mapping[str, int] = field(default_factory=dict)


def gather(folder: Path) -> Gathered:
    """Every regular file under ``folder`` but hidden ones; links only where they stay inside.

    Raises
    ------
    FormatError : more than :data:`MAX_FILES` files.
    """
    root = folder.resolve()
    files: dict[Path, Path] = {}
    aside: dict[str, int] = {}

    def note(reason: str) -> None:
        aside[reason] = aside.get(reason, 0) + 1

    for here, folders, names in os.walk(root, followlinks=False):
        for name in list(folders):
            if (Path(here) / name).is_symlink():
                folders.remove(name)
                inside = (Path(here) / name).resolve().is_relative_to(root)
                # What a link inside the folder leads to is met on the walk itself.
                if not inside:
                    note("link out of the folder, not followed")
            elif name.startswith("."):
                folders.remove(name)
        folders.sort()
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = Path(here) / name
            real = path
            if path.is_symlink():
                real = path.resolve()
                if not real.is_relative_to(root):
                    note("link out of the folder, not followed")
                    continue
            try:
                mode = real.stat().st_mode
            except OSError:
                note("broken link")
                continue
            if not stat.S_ISREG(mode):
                note("no regular file")
                continue
            files.setdefault(real, folder / path.relative_to(root))
            if len(files) > MAX_FILES:
                raise FormatError(
                    f"{folder} holds more than {MAX_FILES} files; name the folder of one patient."
                )
    return Gathered(tuple(sorted(files.values())), aside)


def inside(folder: Path, name: str) -> Path | None:
    """``folder/name`` where that lies in the folder, None where it leads out of it."""
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    return folder / name if path.is_relative_to(folder.resolve()) else None


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, whatever its name."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


@contextmanager
def opened(path: Path) -> Iterator[Gathered]:
    """The files behind a path for as long as the block lasts.

    A zip is unpacked into a temporary folder that is deleted afterwards; sentences of errors name
    the zip, not that folder.

    Raises
    ------
    FormatError : no such path, neither file nor folder, another kind of archive, a zip that is
        damaged, encrypted, or unpacks to too much.
    """
    if not path.exists():
        raise FormatError(f"{path} does not exist.")
    if path.is_dir():
        yield gather(path)
        return
    if not path.is_file():
        raise FormatError(f"{path} is neither a file nor a folder.")
    if not is_zip(path):
        _refuse_other_archives(path)
        yield Gathered((path,))
        return
    with tempfile.TemporaryDirectory(prefix="sacroplan-") as name:
        folder = Path(name).resolve()
        try:
            aside = _unpack(path, folder)
            found = gather(folder)
            total = dict(found.aside)
            for reason, count in aside.items():
                total[reason] = total.get(reason, 0) + count
            yield Gathered(found.files, total)
        except SacroplanError as error:
            raise type(error)(str(error).replace(str(folder), str(path))) from error


def _refuse_other_archives(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise FormatError(f"{path} could not be read: {error.strerror or error}.") from error
    kind = next((n for magic, n in _OTHER_ARCHIVES.items() if head.startswith(magic)), None)
    if kind is None and head[257:262] == b"ustar":
        kind = "tar"
    if kind is None and path.name.lower().endswith((".tar.gz", ".tgz")):
        kind = "tar.gz"
    if kind is not None:
        raise FormatError(f"{path} is a {kind} archive; unpack it and name the folder.")


def _unpack(path: Path, folder: Path) -> dict[str, int]:
    """Write the harmless members of a zip under ``folder``; returns what was left out."""
    aside: dict[str, int] = {}

    def note(reason: str) -> None:
        aside[reason] = aside.get(reason, 0) + 1

    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            _refuse_bombs(path, members)
            left = sum(m.file_size for m in members)
            for member in members:
                if member.flag_bits & 1:
                    raise FormatError(f"{path} is protected by a password; unpack it first.")
                if stat.S_ISLNK(member.external_attr >> 16):
                    note("link in the archive, not followed")
                    continue
                target = _target(folder, member.filename)
                if target is None:
                    note("archive member that leads out of its folder, not unpacked")
                    continue
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, target.open("xb") as out:
                        left = _copy(source, out, left, path)
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    note("archive member whose name is taken, not unpacked")
                if target.is_file() and is_zip(target):
                    note("archive inside the archive, not unpacked")
    except _UNZIP_ERRORS as error:
        raise FormatError(f"{path} is a damaged zip archive and cannot be unpacked.") from error
    except OSError as error:
        raise FormatError(f"{path} could not be unpacked: {error.strerror or error}.") from error
    return aside


def _refuse_bombs(path: Path, members: list[zipfile.ZipInfo]) -> None:
    total = sum(m.file_size for m in members)
    packed = max(path.stat().st_size, 1)
    if len(members) > MAX_FILES:
        raise FormatError(
            f"{path} holds {len(members)} files, at most {MAX_FILES} are unpacked; "
            "give the series of one patient."
        )
    if total > MAX_BYTES:
        raise FormatError(
            f"{path} unpacks to {total / 2**30:.1f} GiB, at most {MAX_BYTES / 2**30:.0f} GiB are "
            "unpacked; give the series of one patient."
        )
    if total > RATIO_MATTERS_BYTES and total / packed > MAX_RATIO:
        raise FormatError(
            f"{path} unpacks to {total / packed:.0f} times its size, at most {MAX_RATIO:.0f} times "
            "is believed; it may be a zip bomb. Unpack it yourself if you trust it."
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if total > free:
        raise FormatError(
            f"{path} unpacks to {total / 2**30:.2f} GiB, the temporary folder has "
            f"{free / 2**30:.2f} GiB left; free space or unpack it elsewhere."
        )


def _target(folder: Path, name: str) -> Path | None:
    """Where a member goes; None where its name is absolute, climbs out, or is no name at all."""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    if not parts or plain.startswith("/") or ".." in parts or ":" in plain or "\0" in plain:
        return None
    if any(len(p.encode("utf-8", "replace")) > 200 for p in parts):
        return None
    return folder.joinpath(*parts)


def _copy(source: object, out: object, left: int, path: Path) -> int:
    """Copy a member; what it may still unpack to is counted, whatever the archive claims."""
    read, write = source.read, out.write  # type: ignore[attr-defined]
    while chunk := read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise FormatError(f"{path} unpacks to more than it says; it may be a zip bomb.")
        write(chunk)
    return left
