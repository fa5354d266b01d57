"""Files that appear whole or not at all, and are on the disk when they have their name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from deconvviz import files
from deconvviz.files import longest_name, write_whole


def test_file_before_the_rename_and_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(old: str, new: Path) -> None:
        done.append("rename")
        assert Path(old).read_bytes() == b"new"
        replace(old, new)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", renamed)
    write_whole(tmp_path / "a", b"new")
    assert done == ["file", "rename", "folder"]
    done.clear()
    write_whole(tmp_path / "a", b"new", sync=False)
    assert done == ["rename"]


def test_a_name_as_long_as_can_be(tmp_path: Path) -> None:
    name = "é" * (longest_name(tmp_path) // 2)
    write_whole(tmp_path / name, b"x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_what_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="cannot write: Input/output error") as caught:
        write_whole(tmp_path / "a", b"new")
    assert caught.value.filename == str(tmp_path / "a")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]
