from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sacroplan.errors import FormatError
from sacroplan.formats import atomic


def test_write_and_overwrite(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    atomic.write_text(file, "eins\n")
    atomic.write_text(file, "zwei ü\n")
    assert file.read_bytes() == "zwei ü\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_new_files_obey_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        atomic.write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only")],
)
def test_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    file = tmp_path / "a.txt"
    atomic.write_text(file, "old")

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FormatError, match=words) as caught:
        atomic.write_text(file, "new" * 1000)
    assert "\n" not in str(caught.value)
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_missing_folder_and_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="its folder does not exist"):
        atomic.write_text(tmp_path / "no" / "a", "x")
    (tmp_path / "dir").mkdir()
    with pytest.raises(FormatError, match="could not be written"):
        atomic.write_text(tmp_path / "dir", "x")
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(FormatError, match="a file of that name is in the way"),
        atomic.replaced_folder(tmp_path / "file"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "x"


def test_an_error_inside_the_stream_leaves_nothing(tmp_path: Path) -> None:
    def half() -> None:
        with atomic.replaced_file(tmp_path / "a") as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert not list(tmp_path.iterdir())


def test_folder_replaces_folder_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic.replaced_folder(target) as folder:
        (folder / "one").write_text("1")
    with atomic.replaced_folder(target) as folder:
        (folder / "two").write_text("2")
        assert [p.name for p in target.iterdir()] == ["one"], "old folder gone too early"
    assert [p.name for p in target.iterdir()] == ["two"]

    def half() -> None:
        with atomic.replaced_folder(target) as folder:
            (folder / "three").write_text("3")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert [p.name for p in target.iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_failed_folder_swap_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    with atomic.replaced_folder(target) as folder:
        (folder / "one").write_text("1")
    rename = Path.rename

    def fail_once(self: Path, to: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError(errno.ENOSPC, "full")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail_once)
    with (
        pytest.raises(FormatError, match="the disk is full"),
        atomic.replaced_folder(target) as folder,
    ):
        (folder / "two").write_text("2")
    assert [p.name for p in target.iterdir()] == ["one"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
